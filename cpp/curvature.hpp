// Exact second derivatives: the traces tr(M V_i M V_j) and the products w_i'P w_j
// along directions V_i = Z D_i Z', without a matrix of order n or, on a chain, of
// any order above that of one level with its ancestors.
//
// Chain. Let H_d hold the factors up to depth d, and U be the columns that remain
// (ancestors, X). H_d^-1 = H^-1 - H^-1 Z V Z'H^-1 with H = H_(d-1), hence for
// directions i, j of finer factors, with E_i = [Z U]'H^-1 V_i H^-1 [Z U] summed over
// the levels below, J = V A_U, K = N A_U and U~ = U - Z J,
//   tr(H_d^-1 V_i H_d^-1 V_j) = tr(H^-1 V_i H^-1 V_j) - 2 tr(V F_ij) + tr(V E_i V E_j),
//   E_i := E_i[U~, U~],   F_ij := F_ij[U~, U~] - E_i[U~, Z] V E_j[Z, U~],
// F_ij = [Z U]'H^-1 V_i H^-1 V_j H^-1 [Z U]; and for the level's own directions
//   Z'H_d^-1 V_i H_d^-1 Z = N E_i[Z, Z] N',   E_own = K'D K,   F_own = K'D M D K.
// F enters linearly, and what all later steps make of it is -2 tr(R F), R the
// covariance of what remains: it is spent where it arises and need not be carried.
//
// Tail. With S = I + Lambda'Q Lambda = LL' (X included under REML),
//   Lambda'Z'M Z Lambda = I - S^-1,   Z_leader'M Z Lambda = K Lambda S^-1,
// so that traces between tail and leader are those of S^-1 and of
// S^-1 Lambda' E Lambda, E = sum_l K_l'D K_l. The rows K_l are sparse: E need not be made.
// Where Lambda is diagonal, S^-1 is the covariance R but for a factor of each row and
// column, and the search's last derivatives leave R.
#pragma once

#include <cmath>

#include "criterion.hpp"
#include "levels.hpp"

namespace ranef {

// tr(A B), (r, r)
inline double trace_of(int r, const double* A, const double* B) {
    double s = 0;
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e) s += A[a * r + e] * B[e * r + a];
    return s;
}

// y (r, m) = X R, X (r, m), R (m, m) symmetric
inline void times_symmetric(int r, int m, const double* X, const double* R, double* y) {
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < m; ++e)
            y[static_cast<size_t>(a) * m + e] =
                inner(m, R + static_cast<size_t>(e) * m, X + static_cast<size_t>(a) * m);
}

// y (r, r) = X Y', both (r, m)
inline void times_transposed(int r, int m, const double* X, const double* Y, double* y) {
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e)
            y[a * r + e] = inner(m, X + static_cast<size_t>(a) * m, Y + static_cast<size_t>(e) * m);
}

// y (r, k) = B (r, r) X or B'X, X (r, k)
inline void small_times(int r, int k, const double* B, bool transposed, const double* X,
                        double* y) {
    std::fill(y, y + static_cast<size_t>(r) * k, 0.0);
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e) {
            const double b = transposed ? B[e * r + a] : B[a * r + e];
            for (int c = 0; c < k; ++c) y[a * k + c] += b * X[e * k + c];
        }
}

// The lower triangle of A (n, n), row-major, into the upper one.
inline void mirror_lower(int n, double* A) {
    for (int a = 0; a < n; ++a)
        for (int e = 0; e < a; ++e)
            A[static_cast<size_t>(e) * n + a] = A[static_cast<size_t>(a) * n + e];
}

// The directions of each factor.
inline std::vector<std::vector<int>> by_factor(size_t factors,
                                               const std::vector<Direction>& directions) {
    std::vector<std::vector<int>> own(factors);
    for (size_t i = 0; i < directions.size(); ++i)
        own[directions[i].factor].push_back(static_cast<int>(i));
    return own;
}

// Of `directions`, along `columns` (q, r, c) by factor; without a tail, and with one.
void chain_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                     const std::vector<Vector>& columns, int c, Curvature& out);
void crossed_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                       const std::vector<Vector>& columns, int c, Curvature& out);

} // namespace ranef
