// Products with matrices of few columns, row-major, where a call of BLAS costs more than the
// work: their rows are held in registers.
#pragma once

#include "products.hpp"

namespace ranef {

constexpr int most_narrow = 8;

namespace narrow {

template <int W>
void cross(int rows, const double* a, int lda, const double* b, int ldb, double* C, int ldc) {
    double sum[W][W] = {};
    for (int h = 0; h < rows; ++h) {
        const double* __restrict x = a + static_cast<size_t>(h) * lda;
        const double* __restrict y = b + static_cast<size_t>(h) * ldb;
        for (int i = 0; i < W; ++i)
            for (int j = 0; j < W; ++j) sum[i][j] += x[i] * y[j];
    }
    for (int i = 0; i < W; ++i)
        for (int j = 0; j < W; ++j) C[static_cast<size_t>(i) * ldc + j] += sum[i][j];
}

template <int W>
void times(int n, const double* K, const double* X, int ldx, double* Y, int ldy) {
    for (int i = 0; i < n; ++i) {
        double sum[W] = {};
        const double* __restrict k = K + static_cast<size_t>(i) * n;
        for (int j = 0; j < n; ++j)
            for (int c = 0; c < W; ++c) sum[c] += k[j] * X[static_cast<size_t>(j) * ldx + c];
        for (int c = 0; c < W; ++c) Y[static_cast<size_t>(i) * ldy + c] = sum[c];
    }
}

} // namespace narrow

// C (w, w) += a'b of a, b (rows, w).
inline void add_cross(int w, int rows, const double* a, int lda, const double* b, int ldb,
                      double* C, int ldc) {
    switch (w) {
    case 1:
        return narrow::cross<1>(rows, a, lda, b, ldb, C, ldc);
    case 2:
        return narrow::cross<2>(rows, a, lda, b, ldb, C, ldc);
    case 3:
        return narrow::cross<3>(rows, a, lda, b, ldb, C, ldc);
    case 4:
        return narrow::cross<4>(rows, a, lda, b, ldb, C, ldc);
    case 5:
        return narrow::cross<5>(rows, a, lda, b, ldb, C, ldc);
    case 6:
        return narrow::cross<6>(rows, a, lda, b, ldb, C, ldc);
    case 7:
        return narrow::cross<7>(rows, a, lda, b, ldb, C, ldc);
    case most_narrow:
        return narrow::cross<most_narrow>(rows, a, lda, b, ldb, C, ldc);
    default: // by columns C' (w, w) += b'a
        add_product('N', 'T', w, w, rows, 1.0, b, ldb, a, lda, C, ldc);
    }
}

// Y (n, w) := K X, K (n, n) symmetric or to be multiplied by its rows.
inline void rows_times(int w, int n, const double* K, const double* X, int ldx, double* Y,
                       int ldy) {
    switch (w) {
    case 1:
        return narrow::times<1>(n, K, X, ldx, Y, ldy);
    case 2:
        return narrow::times<2>(n, K, X, ldx, Y, ldy);
    case 3:
        return narrow::times<3>(n, K, X, ldx, Y, ldy);
    case 4:
        return narrow::times<4>(n, K, X, ldx, Y, ldy);
    case 5:
        return narrow::times<5>(n, K, X, ldx, Y, ldy);
    case 6:
        return narrow::times<6>(n, K, X, ldx, Y, ldy);
    case 7:
        return narrow::times<7>(n, K, X, ldx, Y, ldy);
    case most_narrow:
        return narrow::times<most_narrow>(n, K, X, ldx, Y, ldy);
    default:
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < w; ++c) Y[static_cast<size_t>(i) * ldy + c] = 0;
        add_product('N', 'N', w, n, n, 1.0, X, ldx, K, n, Y, ldy); // Y' = X'K', K' its columns
    }
}

} // namespace ranef
