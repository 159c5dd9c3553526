// Products of X with E = sum_l K_l'D K_l, the rows K_l sparse: E itself, which may be
// dense, is not made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocks.hpp"

namespace ranef {

// K_l (r, m) row-major on m columns of its own, one level after the other.
struct SparseRows {
    int r = 1;
    std::vector<std::int64_t> ptr{0}; // into column, and r times it into value
    std::vector<std::int32_t> column;
    Vector value;
};

// Y_i (n, k) := sum_l K_l'D_i K_l X, X (n, k), for each D_i (r, r) row-major; all
// column-major with rows `ld` apart.
void through_rows(const SparseRows& rows, const std::vector<const double*>& D, int n, int k,
                  const double* X, const std::vector<double*>& Y, int ld, int threads);

} // namespace ranef
