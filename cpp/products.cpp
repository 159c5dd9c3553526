#include "products.hpp"

#include "dense.hpp"
#include "levels.hpp"
#include "pieces.hpp"

namespace ranef {

namespace {

constexpr double worth_blas = 4000; // multiplications

} // namespace

void add_product(char op_a, char op_b, int m, int n, int k, double alpha, const double* A, int lda,
                 const double* B, int ldb, double* C, int ldc) {
    if (m == 0 || n == 0 || k == 0) return;
    if (lapack().gemm && static_cast<double>(m) * n * k > worth_blas) {
        double one = 1;
        in_pieces(n, 2.0 * m * k, [&](int first, int columns) {
            const double* own = op_b == 'N' ? B + at(0, first, ldb) : B + first;
            lapack().gemm(&op_a, &op_b, &m, &columns, &k, &alpha, const_cast<double*>(A), &lda,
                          const_cast<double*>(own), &ldb, &one, C + at(0, first, ldc), &ldc);
        });
        return;
    }
    for (int j = 0; j < n; ++j) {
        double* c = C + at(0, j, ldc);
        if (op_a == 'T') {
            for (int i = 0; i < m; ++i) {
                const double* a = A + at(0, i, lda);
                double s = 0;
                for (int h = 0; h < k; ++h)
                    s += a[h] * (op_b == 'N' ? B[at(h, j, ldb)] : B[at(j, h, ldb)]);
                c[i] += alpha * s;
            }
            continue;
        }
        for (int h = 0; h < k; ++h) {
            const double b = alpha * (op_b == 'N' ? B[at(h, j, ldb)] : B[at(j, h, ldb)]);
            const double* a = A + at(0, h, lda);
            for (int i = 0; i < m; ++i) c[i] += b * a[i];
        }
    }
}

void solve_right(bool transposed, int m, int n, const double* L, int ldl, double* X, int ldx) {
    if (m == 0 || n == 0) return;
    if (lapack().trsm && static_cast<double>(m) * n * n > worth_blas) {
        char side = 'R', uplo = 'L', trans = transposed ? 'T' : 'N', diag = 'N';
        double one = 1;
        in_pieces(m, static_cast<double>(n) * n, [&](int first, int rows) {
            lapack().trsm(&side, &uplo, &trans, &diag, &rows, &n, &one, const_cast<double*>(L),
                          &ldl, X + first, &ldx);
        });
        return;
    }
    for (int step = 0; step < n; ++step) {
        const int j = transposed ? step : n - 1 - step;
        double* x = X + at(0, j, ldx);
        const double inv = 1 / L[at(j, j, ldl)];
        for (int i = 0; i < m; ++i) x[i] *= inv;
        // the columns that are still to be solved
        for (int h = transposed ? j + 1 : 0; h < (transposed ? n : j); ++h) {
            const double l = transposed ? L[at(h, j, ldl)] : L[at(j, h, ldl)];
            if (l == 0) continue;
            double* y = X + at(0, h, ldx);
            for (int i = 0; i < m; ++i) y[i] -= l * x[i];
        }
    }
}

} // namespace ranef
