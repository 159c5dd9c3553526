#include "dense_panels.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "dense.hpp"
#include "pieces.hpp"

namespace ranef {

namespace {

constexpr int panel = 256; // columns

inline std::size_t at(int i, int j, int ld) {
    return static_cast<std::size_t>(j) * ld + i;
}

// C (m, n) += alpha op(A) op(B), by stretches of rows.
void product(char op_a, char op_b, int m, int n, int k, double alpha, const double* A, int lda,
             const double* B, int ldb, double* C, int ldc) {
    double one = 1;
    if (m == 0 || n == 0 || k == 0) return;
    in_pieces(m, 2.0 * n * k, [&](int first, int rows) {
        const double* own = op_a == 'N' ? A + first : A + at(0, first, lda);
        lapack().gemm(&op_a, &op_b, &rows, &n, &k, &alpha, const_cast<double*>(own), &lda,
                      const_cast<double*>(B), &ldb, &one, C + first, &ldc);
    });
}

// X (m, n) := X L^-1 or X L'^-1, by stretches of rows.
void solve_beside(char trans, int m, int n, const double* L, int lda, double* X, int ldx) {
    char side = 'R', uplo = 'L', diag = 'N';
    double one = 1;
    in_pieces(m, static_cast<double>(n) * n, [&](int first, int rows) {
        lapack().trsm(&side, &uplo, &trans, &diag, &rows, &n, &one, const_cast<double*>(L), &lda,
                      X + first, &ldx);
    });
}

// W = L^-1 in place, the last panel first: below the diagonal W_bj = -W_bb L_bj W_jj.
void invert_triangle(int n, double* A, int lda) {
    char side = 'L', uplo = 'L', plain = 'N', diag = 'N';
    double one = 1;
    std::vector<double> own(static_cast<std::size_t>(panel) * panel);
    for (int j = (n - 1) / panel * panel; j >= 0; j -= panel) {
        int w = std::min(panel, n - j), after = j + w, size = panel;
        double* L_jj = A + at(j, j, lda);
        double* below = A + at(after, j, lda);
        solve_beside('N', n - after, w, L_jj, lda, below, lda);
        // W_bb times what stands there, the last rows first, which are not needed again
        for (int i = after + (n - 1 - after) / panel * panel; i >= after && i < n; i -= panel) {
            int rows = std::min(panel, n - i);
            double minus = -1;
            double* here = A + at(i, j, lda);
            lapack().trmm(&side, &uplo, &plain, &diag, &rows, &w, &minus, A + at(i, i, lda), &lda,
                          here, &lda);
            product('N', 'N', rows, w, i - after, -1, A + at(i, after, lda), lda, below, lda, here,
                    lda);
            Watch::poll();
        }
        for (int c = 0; c < w; ++c) {
            std::fill_n(own.data() + at(0, c, panel), w, 0.0);
            own[at(c, c, panel)] = 1;
        }
        lapack().trsm(&side, &uplo, &plain, &diag, &w, &w, &one, L_jj, &lda, own.data(), &size);
        for (int c = 0; c < w; ++c)
            std::copy(own.data() + at(c, c, panel), own.data() + at(w, c, panel),
                      L_jj + at(c, c, lda));
    }
}

// W'W in place, the first panel of rows first.
void square_triangle(int n, double* A, int lda) {
    char side = 'L', uplo = 'L', trans = 'T', diag = 'N';
    double one = 1;
    std::vector<double> own(static_cast<std::size_t>(panel) * panel);
    for (int i = 0; i < n; i += panel) {
        int w = std::min(panel, n - i), after = i + w, before = i;
        double* W_ii = A + at(i, i, lda);
        in_pieces(before, static_cast<double>(w) * w, [&](int first, int columns) {
            lapack().trmm(&side, &uplo, &trans, &diag, &w, &columns, &one, W_ii, &lda,
                          A + at(i, first, lda), &lda);
        });
        // what stands above the diagonal is no part of W
        std::fill(own.begin(), own.end(), 0.0);
        for (int c = 0; c < w; ++c)
            std::copy(W_ii + at(c, c, lda), W_ii + at(w, c, lda), own.data() + at(c, c, panel));
        std::vector<double> square(own);
        int size = panel;
        lapack().trmm(&side, &uplo, &trans, &diag, &w, &w, &one, W_ii, &lda, square.data(), &size);
        product('T', 'N', w, w, n - after, 1, A + at(after, i, lda), lda, A + at(after, i, lda),
                lda, square.data(), panel);
        for (int first = 0; first < before; first += panel)
            product('T', 'N', w, std::min(panel, before - first), n - after, 1,
                    A + at(after, i, lda), lda, A + at(after, first, lda), lda,
                    A + at(i, first, lda), lda);
        for (int c = 0; c < w; ++c)
            std::copy(square.data() + at(c, c, panel), square.data() + at(w, c, panel),
                      W_ii + at(c, c, lda));
    }
}

} // namespace

bool takes_panels(int n) {
    return static_cast<double>(n) * n * n / 3 > operations_at_once && use_lapack(n);
}

// Left-looking: each panel takes what the panels before it give it, and is factored.
bool cholesky_by_panels(int n, double* A, int lda) {
    char uplo = 'L', plain = 'N';
    double minus = -1, one = 1;
    for (int j = 0; j < n; j += panel) {
        Watch::poll();
        int w = std::min(panel, n - j), info = 0;
        double* here = A + at(j, j, lda);
        if (j > 0) lapack().syrk(&uplo, &plain, &w, &j, &minus, A + j, &lda, &one, here, &lda);
        product('N', 'T', n - j - w, w, j, -1, A + j + w, lda, A + j, lda, here + w, lda);
        lapack().potrf(&uplo, &w, here, &lda, &info);
        if (info != 0) return false;
        solve_beside('T', n - j - w, w, here, lda, here + w, lda);
    }
    return true;
}

void inverse_by_panels(int n, double* A, int lda) {
    invert_triangle(n, A, lda);
    square_triangle(n, A, lda);
}

} // namespace ranef
