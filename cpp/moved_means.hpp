// How the fitted values move with the covariance of the effects.
#pragma once

#include "criterion.hpp"

namespace ranef {

// Of directions i, j with w_i = V_i Py, R the covariance of the rows' residuals: fitted values move
// by R P w_i, what a fit to w_i at the same parameters leaves of it.
struct MovedMeans {
    Vector products;   // (k, k): w_i'P R P w_j
    Vector own;        // (k): w_i'P R P y
    double square = 0; // y'P R P y
};

// At the criterion's last phi, of y (n), its response; `gram` the cross-products of the scaled X.
// Effects that a kernel relates are none of these.
MovedMeans moved_means(Criterion& criterion, const double* y, const Vector& gram,
                       const std::vector<Direction>& directions, int threads);

} // namespace ranef
