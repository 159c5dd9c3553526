// Responses freed of their least-squares fit, a pass over the rows at a time.
#pragma once

#include "blocks.hpp"

namespace ranef {

struct Freed {
    Vector rest;  // (k, n) residuals divided by their root mean square
    Vector beta;  // (k, p) coefficients taken out, of the scaled columns
    Vector scale; // (k) root mean square of the residuals
    Vector size;  // (k) root mean square of the responses less the offset
};

// X (n, p), its columns to be multiplied by x_scale; gram (p, p) the
// cross-products of the scaled columns; Y (k, n); offset (n) or null. Solved twice, so
// that the residuals are orthogonal to X to the last digits.
Freed free_of_fixed(size_t n, const FixedRows& X, const Vector& x_scale, const Vector& gram,
                    size_t k, const double* Y, const double* offset, int threads);

} // namespace ranef
