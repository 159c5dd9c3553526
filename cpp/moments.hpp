// Where the search starts: covariance parameters by the method of moments.
#pragma once

#include "blocks.hpp"

namespace ranef {

// Parameters at which sums of squares and products between levels equal their
// expectations (Henderson 1953, method I), with the fixed effects taken out
// exactly. In balanced designs these are the REML estimates. The response must
// be free of its least-squares fit.
Vector moment_start(const Blocks& blocks, const Response& response);

} // namespace ranef
