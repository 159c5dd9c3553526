// Products and triangular solves of small and middle-sized blocks, column-major: plain
// loops where calling BLAS would cost more than the work.
#pragma once

namespace ranef {

// C (m, n) += alpha op(A) op(B), op by 'N' or 'T'; k columns of op(A).
void add_product(char op_a, char op_b, int m, int n, int k, double alpha, const double* A, int lda,
                 const double* B, int ldb, double* C, int ldc);
// X (m, n) := X L^-1, or X L^-T.
void solve_right(bool transposed, int m, int n, const double* L, int ldl, double* X, int ldx);

} // namespace ranef
