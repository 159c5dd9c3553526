// A Cholesky factor and its inverse by panels, each a call of BLAS that ends soon: for orders of
// which LAPACK would work for seconds without looking for an interrupt. Need LAPACK.
#pragma once

namespace ranef {

// Whether an order is so large.
bool takes_panels(int n);

// As `cholesky` and `inverse_from_cholesky`.
bool cholesky_by_panels(int n, double* A, int lda);
void inverse_by_panels(int n, double* A, int lda);

} // namespace ranef
