// Dense symmetric algebra: lower triangles, column-major. Small orders run in
// plain loops; larger ones in SciPy's LAPACK, whose function pointers Python
// hands over (see set_lapack), so that nothing is linked at build time.
#pragma once

#include <cstddef>

namespace ranef {

struct Lapack {
    using potrf_t = void (*)(char*, int*, double*, int*, int*);
    using potri_t = void (*)(char*, int*, double*, int*, int*);
    using trsm_t = void (*)(char*, char*, char*, char*, int*, int*, double*, double*, int*, double*,
                            int*);
    using symm_t = void (*)(char*, char*, int*, int*, double*, double*, int*, double*, int*,
                            double*, double*, int*);
    using trmm_t = trsm_t;
    using syrk_t = void (*)(char*, char*, int*, int*, double*, double*, int*, double*, double*,
                            int*);
    using gemm_t = void (*)(char*, char*, int*, int*, int*, double*, double*, int*, double*, int*,
                            double*, double*, int*);
    using syevd_t = void (*)(char*, char*, int*, double*, int*, double*, double*, int*, int*, int*,
                             int*);
    using syevr_t = void (*)(char*, char*, char*, int*, double*, int*, double*, double*, int*, int*,
                             double*, int*, double*, double*, int*, int*, double*, int*, int*, int*,
                             int*);
    potrf_t potrf = nullptr;
    potri_t potri = nullptr;
    trsm_t trsm = nullptr;
    symm_t symm = nullptr;
    trmm_t trmm = nullptr;
    syrk_t syrk = nullptr;
    gemm_t gemm = nullptr;
    syevd_t syevd = nullptr;
    syevr_t syevr = nullptr;
};

// Orders up to this run without LAPACK.
constexpr int small_order = 96;
constexpr int few_columns = 6;
// Orders between these run in tiles on our own threads: BLAS's threads spin
// while they wait, which a busy machine does not forgive.
constexpr int least_tiled = 400, most_tiled = 1500, tile = 128;

Lapack& lapack();
bool use_lapack(int n);

// A = L L' in place; false when a pivot is not positive.
bool cholesky(int n, double* A, int lda, int threads = 1);
// L in place of A -> lower triangle of (L L')^-1.
// The other triangle of A is work space.
void inverse_from_cholesky(int n, double* A, int lda, int threads = 1);
// X (n, k) := L^-1 X, or L^-T X.
void solve_lower(int n, int k, const double* L, int lda, double* X, int ldx);
void solve_lower_transposed(int n, int k, const double* L, int lda, double* X, int ldx);
// Y (n, k) := A X, A symmetric, lower triangle stored.
void symmetric_times(int n, int k, const double* A, int lda, const double* X, int ldx, double* Y,
                     int ldy);
// A -= X X', X (n, k), lower triangle; needs LAPACK.
void subtract_gram(int n, int k, const double* X, int ldx, double* A, int lda);
// A (n, n) += X'X, X (k, n) row-major with rows `ldx` apart; its lower triangle by rows. Needs
// LAPACK.
void add_gram_rows(int n, int k, const double* X, int ldx, double* A);
// A += X Y', X and Y (n, k), both triangles; needs LAPACK.
void add_product(int n, int k, const double* X, const double* Y, int ldx, double* A, int lda);
// X (n, k) := K X or K' X, K lower triangular (n, n); X may have any ldx.
void triangle_times(int n, int k, const double* K, int ldk, bool transposed, double* X, int ldx);
// X (k, n) := X K or X K'.
void times_triangle(int n, int k, const double* K, int ldk, bool transposed, double* X, int ldx);

// The upper triangle of A from its lower one, by blocks that fit the cache.
void fill_upper(int n, double* A, int lda);
// sum_ij A_ij B_ji, both (n, n) and full.
double trace_of_product(int n, const double* A, const double* B, int lda, int threads);

// Eigenvalues (ascending) and vectors (columns) of a symmetric matrix; A (n, n) full, is
// destroyed. By cyclic Jacobi up to `most_jacobi`, above by LAPACK (divide and conquer)
// where it was handed over.
constexpr int most_jacobi = 24;
void eigen_symmetric(int n, double* A, double* values, double* vectors);

} // namespace ranef
