// Residuals of which each depends on the one before: first-order processes in time.
//
// With rho_j the correlation of a row with the one before and e_j = 1 - rho_j^2, the rows
//
//     u_0,  (u_j - rho_j u_(j-1)) / sqrt(e_j)
//
// are white, log|R| = sum log e_j, and R^-1 is tridiagonal, so that sums cost no more than the
// rows. (Pinheiro & Bates 2000, section 5.3.)
#pragma once

#include <array>

#include "group_rows.hpp"

namespace ranef {

// A row is determined by the one before where 1 - rho^2 is not above this.
constexpr double least_left = 1e-12;

class MarkovSteps {
  public:
    // rho, first, second (d): of the distances that occur, with derivatives in the one parameter;
    // which (groups, n - 1): that of each step. Throws NotDefinite.
    MarkovSteps(Vector rho, Vector first, Vector second, Indices which, int steps);

    int steps() const { return steps_; } // of a group
    size_t groups() const { return steps_ ? which_.size() / steps_ : 0; }
    // Of all groups: log|R|, tr(R^-1 R_1), tr(R^-1 R_1 R^-1 R_1), tr(R^-1 R_11).
    const std::array<double, 4>& totals() const { return totals_; }

    // U'R^-1 U and U'R^-1 R_1 R^-1 U by cluster, (clusters, 2, w, w).
    Vector products(const GroupRows& rows, int threads) const;
    // U'R^-1 R_1 R^-1 R_1 R^-1 U and U'R^-1 R_11 R^-1 U by cluster, the same.
    Vector second_products(const GroupRows& rows, int threads) const;
    // The first of these with U c in the place of U, c (w) the vector of a group's cluster.
    double information(const GroupRows& rows, const double* vectors, int threads) const;

  private:
    // What a step needs, by distance.
    struct Step {
        double rho, left;          // e
        double root, white;        // sqrt(e), 1 / sqrt(e)
        double share, slope;       // rho / e, rho' / sqrt(e)
        double own, off;           // derivative of R^-1: of both rows, and beside
        double bent_own, bent_off; // second derivative
    };
    const Step& step(int g, int j) const {
        return distinct_[which_[static_cast<size_t>(g) * steps_ + j]];
    }
    void pull(int g, int n, int w, const double* U, double* y) const;
    void bend(int g, int n, int w, const double* U, double* out) const;

    std::vector<Step> distinct_;
    Indices which_;
    int steps_;
    std::array<double, 4> totals_{};
};

} // namespace ranef
