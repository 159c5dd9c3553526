// Systems of crossed effects too large for any factorisation: products, conjugate gradients and
// the sums of a stochastic log-determinant, in memory that is linear in the rows.
//
// Each term has one column a level. With A = Z'WZ and Lambda the terms' standard deviations,
// Omega = Lambda A Lambda + I. The first term's block D is diagonal and is taken out, so that
// conjugate gradients (Hestenes and Stiefel 1952) run on the Schur complement
//   S = D_T - C'D^-1 C,   P = diag(S),   S~ = P^-1/2 S P^-1/2
// of the others. Its coefficients are those of the Lanczos process, whose tridiagonal matrix
// gives z'log(S~)z for a probe z of signs (Ubaru, Chen and Saad 2017, SIAM J. Matrix Anal. 38),
// and its solution x~ = S~^-1 z the traces of Omega^-1 by terms. Rows are summed in a fixed
// order: the same bits on any number of threads.
#pragma once

#include "blocks.hpp"
#include "fixed_rows.hpp"

namespace ranef {

struct CrossedTerm {
    Indices codes;             // (n)
    const double* z = nullptr; // (n), or null for ones
    int q = 0;
};

// Of conjugate gradients for k right-hand sides.
struct Gradients {
    int steps = 0;
    std::vector<int> taken; // by right-hand side
    Vector alpha, beta;     // (k, steps)
    Vector residual;        // (k): relative, at the end
};

struct ProbeSums {
    Gradients gradients;
    double log_diagonal = 0; // log|D| + log|P|
    Vector traces;           // (k, terms): tr (Omega^-1) of each term's block
};

class CrossedSystem {
  public:
    CrossedSystem(size_t n, std::vector<CrossedTerm> terms, const double* weights, int threads);

    int columns() const { return start_.back(); }
    int terms() const { return static_cast<int>(start_.size()) - 1; }
    int tail() const { return columns() - start_[1]; }
    size_t bytes() const;

    // Y (columns, k) := A X, rows of k.
    void times(int k, const double* X, double* Y) const;
    // X := Omega^-1 X at these standard deviations.
    Gradients solve(const Vector& theta, int k, double* X, double tolerance, int most) const;
    // Of probes Z (tail, k).
    ProbeSums probes(const Vector& theta, int k, const double* Z, double tolerance, int most) const;

  private:
    struct Point; // what depends on theta
    Point at(const Vector& theta) const;
    void fill_rows(int term, const std::vector<CrossedTerm>& terms, const double* weights, size_t n,
                   int threads);
    void leader_times(const Point& point, int k, const double* scaled, double* out) const;
    void apply(const Point& point, int k, const double* X, double* Y, Vector& scaled,
               Vector& led) const;
    Gradients descend(const Point& point, int k, const double* B, double* X, double tolerance,
                      int most) const;

    int threads_;
    std::vector<int> start_;      // of each term's columns, and their number
    Vector diagonal_;             // (columns)
    std::vector<int64_t> ptr_{0}; // of the other terms' columns that a column meets
    Indices index_;
    Vector value_;
};

} // namespace ranef
