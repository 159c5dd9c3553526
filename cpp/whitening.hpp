// Residuals of groups whose covariance R is a dense matrix: its factor, and the sums that a
// likelihood and its derivatives take of it.
//
// With R_k and R_kl the derivatives of R, and U the rows of a group,
//
//     A = U'R^-1 U,  D_k = U'R^-1 R_k R^-1 U,  E_kl = U'R^-1 R_k R^-1 R_l R^-1 U,
//     F_kl = U'R^-1 R_kl R^-1 U.
//
// Of matrices none is multiplied by another before second derivatives are asked for: Y = R^-1 U and
// R_k Y are narrow.
#pragma once

#include <stdexcept>
#include <utility>
#include <vector>

#include "group_rows.hpp"

namespace ranef {

// A covariance of residuals is no covariance, or determines one by the others.
class NotDefinite : public std::domain_error {
  public:
    using std::domain_error::domain_error;
};

// Covariances (m, n, n) with derivatives in k parameters, (k, m, n, n); not owned.
struct RowCovariances {
    int m = 0, n = 0, k = 0;
    const double* R = nullptr;
    const double* first = nullptr;
    size_t square() const { return static_cast<size_t>(n) * n; }
    const double* slope(int parameter, int pattern) const {
        return first + (static_cast<size_t>(parameter) * m + pattern) * square();
    }
};

// Second derivatives that are not zero, each (m, n, n): of parameters i <= j.
struct Bends {
    std::vector<std::pair<int, int>> pairs;
    std::vector<const double*> values;
};

class RowFactor;

class Whitening {
  public:
    // Factors each; throws NotDefinite, also where the variance of a residual given those before
    // is below `least_pivot` of its own, or `least_variance` of the largest.
    Whitening(const RowCovariances& given, double least_pivot, double least_variance, int threads);

    const RowCovariances& given() const { return given_; }
    const Vector& inverse() const { return inverse_; }                   // (m, n, n)
    const Vector& log_determinants() const { return log_determinants_; } // (m)

    // tr(R^-1 R_k), (k, m).
    Vector traces(int threads) const;
    // R^-1 and R^-1 R_k R^-1, (1 + k, m, n, n).
    Vector middles(int threads) const;
    // A and D_k by cluster, (clusters, 1 + k, w, w).
    Vector products(const GroupRows& rows, int threads) const;
    // E by cluster, (clusters, k, w, k, w), and F of each pair, (clusters, pairs, w, w).
    std::pair<Vector, Vector> second_products(const GroupRows& rows, const Bends& bends,
                                              int threads) const;
    // c'E c summed, (k, k), c (w) the vector of a group's cluster.
    Vector information(const GroupRows& rows, const double* vectors, int threads) const;
    // U'K U by cluster, (clusters, s, w, w), of matrices K (s, m, n, n).
    Vector forms(const GroupRows& rows, int s, const double* K, int threads) const;
    // tr(R^-1 R_k R^-1 R_l) and tr(R^-1 R_kl), each matrix `counts` times; then the same of
    // R_k R^-1 R_l and R_kl with R^-1 S R^-1 in the place of R^-1, S (s, m, n, n):
    // (1 + s, k, k) and (1 + s, pairs).
    std::pair<Vector, Vector> contracted(int s, const double* S, const double* counts,
                                         const Bends& bends, int threads) const;
    // R^-1 (sum_ij w_ij R_i R^-1 R_j) R^-1 and R^-1 (sum_ij w_ij R_ij) R^-1, (2, m, n, n).
    Vector weighted(const double* weights, const Bends& bends, int threads) const;

  private:
    const double* inverse_of(int pattern) const {
        return inverse_.data() + pattern * given_.square();
    }
    std::vector<RowFactor> factors_of_slopes() const;
    int parts() const { return std::min(given_.m, most_parts); }
    // Calls each(pattern) for all of them, parts in threads.
    template <class Each>
    void for_patterns(int threads, const Each& each) const;

    RowCovariances given_;
    Vector inverse_, log_determinants_;
};

} // namespace ranef
