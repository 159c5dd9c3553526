#pragma once

#include "curvature.hpp"

namespace ranef {

void sparse_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                      const std::vector<Vector>& columns, int c, Curvature& out);

} // namespace ranef
