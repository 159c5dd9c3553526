// The Matern correlation function with exact derivatives in both arguments.
#pragma once

#include "jet.hpp"

namespace ranef {

// 2^(1 - nu) / Gamma(nu) x^nu K_nu(x), of log x and nu > 0.
Jet matern(const Jet& log_x, const Jet& nu);

} // namespace ranef
