// What one level of the chain gives once it is eliminated, and small products.
#pragma once

#include <cstddef>

#include "sums.hpp"

namespace ranef {

// Place of (i, j) in a column-major matrix.
inline std::size_t at(int i, int j, int ld) {
    return static_cast<std::size_t>(j) * ld + i;
}

// One level of the chain: D = I + Lambda'A Lambda = LL' and what follows from it.
// A is the leading (r, r) of a panel with row length `width`.
template <int R>
struct Level {
    int r, width;
    const double* A;
    const double* L;
    const double* Lambda;
    double *V, *N, *M;

    int size() const { return R > 0 ? R : r; }

    // V = Lambda D^-1 Lambda', N = I - A V, M = N A
    void resolve(double* scratch) const {
        const int n = size();
        for (int c = 0; c < n; ++c) { // scratch column c = L^-1 Lambda' e_c
            double* t = scratch + c * n;
            for (int a = 0; a < n; ++a) {
                double s = c >= a ? Lambda[c * n + a] : 0.0;
                for (int k = 0; k < a; ++k) s -= L[a * n + k] * t[k];
                t[a] = s / L[a * n + a];
            }
        }
        for (int a = 0; a < n; ++a)
            for (int c = 0; c <= a; ++c) {
                double s = 0;
                for (int k = 0; k < n; ++k) s += scratch[a * n + k] * scratch[c * n + k];
                V[a * n + c] = V[c * n + a] = s;
            }
        for (int a = 0; a < n; ++a)
            for (int c = 0; c < n; ++c) {
                double s = a == c ? 1.0 : 0.0;
                for (int k = 0; k < n; ++k) s -= A[a * width + k] * V[k * n + c];
                N[a * n + c] = s;
            }
        if (n == 1)
            N[0] = 1 / (L[0] * L[0]);
        else if (well_known())
            refine(scratch);
        for (int a = 0; a < n; ++a)
            for (int c = 0; c < n; ++c) {
                double s = 0;
                for (int k = 0; k < n; ++k) s += N[a * n + k] * A[k * width + c];
                M[a * n + c] = s;
            }
    }

  private:
    // The data say so much more of the effects than their distribution that I - A V cancels.
    bool well_known() const {
        const int n = size();
        for (int a = 0; a < n; ++a)
            if (L[a * n + a] > 1e3) return true;
        return false;
    }

    // N += N (I - N - A Psi N): what cancelled is small, and so is what it is multiplied by.
    void refine(double* rest) const {
        const int n = size();
        double* t = M;
        for (int a = 0; a < n; ++a) // t = Lambda' N
            for (int c = 0; c < n; ++c) {
                double s = 0;
                for (int k = a; k < n; ++k) s += Lambda[k * n + a] * N[k * n + c];
                t[a * n + c] = s;
            }
        for (int a = n - 1; a >= 0; --a) // t = Psi N
            for (int c = 0; c < n; ++c) {
                double s = 0;
                for (int k = 0; k <= a; ++k) s += Lambda[a * n + k] * t[k * n + c];
                t[a * n + c] = s;
            }
        for (int a = 0; a < n; ++a)
            for (int c = 0; c < n; ++c) {
                double s = (a == c ? 1.0 : 0.0) - N[a * n + c];
                for (int k = 0; k < n; ++k) s -= A[a * width + k] * t[k * n + c];
                rest[a * n + c] = s;
            }
        for (int a = 0; a < n; ++a) {
            for (int c = 0; c < n; ++c) {
                double s = N[a * n + c];
                for (int k = 0; k < n; ++k) s += N[a * n + k] * rest[k * n + c];
                t[a * n + c] = s;
            }
        }
        for (int k = 0; k < n * n; ++k) N[k] = t[k];
    }
};

// y (r, m) = B (r, r) X, X's rows `ldx` apart
template <int R>
void multiply(int r_, int m, const double* B, const double* X, int ldx, double* y) {
    const int r = R > 0 ? R : r_;
    for (int a = 0; a < r; ++a) {
        double* out = y + static_cast<std::size_t>(a) * m;
        const double b0 = B[a * r];
        for (int c = 0; c < m; ++c) out[c] = b0 * X[c];
        for (int k = 1; k < r; ++k) {
            const double bk = B[a * r + k];
            const double* x = X + static_cast<std::size_t>(k) * ldx;
            for (int c = 0; c < m; ++c) out[c] += bk * x[c];
        }
    }
}

// Short sums keep their plain order, long ones are split.
inline double inner(int n, const double* a, const double* b) {
    if (n >= 16) return dot(n, a, b);
    double s = 0;
    for (int i = 0; i < n; ++i) s += a[i] * b[i];
    return s;
}

} // namespace ranef
