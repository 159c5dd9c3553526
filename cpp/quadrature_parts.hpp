// What the sums over nodes and their derivatives share.
#pragma once

#include "quadrature.hpp"

namespace ranef {

constexpr size_t rows_at_once = 1024; // handed to the family
constexpr int most_columns = 3;       // of a factor

// L^-1 x and L^-T x, L (r, r) row-major lower.
inline void forward(int r, const double* L, double* x) {
    for (int a = 0; a < r; ++a) {
        for (int k = 0; k < a; ++k) x[a] -= L[a * r + k] * x[k];
        x[a] /= L[a * r + a];
    }
}

inline void backward(int r, const double* L, double* x) {
    for (int a = r - 1; a >= 0; --a) {
        for (int k = a + 1; k < r; ++k) x[a] -= L[k * r + a] * x[k];
        x[a] /= L[a * r + a];
    }
}

// S -= X Y' with X (m, r), Y (n, r), S (m, n).
inline void subtract_products(int m, int n, int r, const double* X, const double* Y, double* S) {
    for (int a = 0; a < m; ++a)
        for (int e = 0; e < n; ++e)
            for (int k = 0; k < r; ++k) S[a * n + e] -= X[a * r + k] * Y[e * r + k];
}

// Every path of the finest factor, with the nodes of all levels of a chunk in place:
// visit(depth, path), coarser factors first, wherever a factor's nodes have changed.
template <class Visit>
void Quadrature::visit_paths(int chunk, bool weighted, Visit&& visit) {
    for (size_t path = 0; path < depth_[0].paths; ++path) {
        int top = 0; // the coarsest factor whose nodes change
        for (size_t rest = path; top + 1 < depths() && rest % depth_[top].own == 0; ++top)
            rest /= depth_[top].own;
        for (int d = top; d >= 0; --d) {
            size_t own = path;
            for (int k = 0; k < d; ++k) own /= depth_[k].own;
            place(d, own, chunk);
            if (weighted) weigh(d, own, chunk);
            visit(d, own);
        }
    }
}

} // namespace ranef
