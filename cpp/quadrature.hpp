// Adaptive Gauss-Hermite quadrature for one grouping factor.
//
// With b = Lambda u, u standard normal, each level l has the integral of
//   exp h_l(u),  h_l(u) = sum_i w_i f_i(eta_i(Lambda u)) - u'u / 2.
// At the mode the negative Hessian is H = I + Lambda'Z'WZ Lambda = LL', and with
// the nodes xi_k and weights omega_k of the standard normal (tensor products),
//   u_k = mode + L^-T xi_k,
//   log I_l = -log|L| + log sum_k omega_k exp(h_l(u_k) + xi_k'xi_k / 2)
// (Liu and Pierce 1994; Pinheiro and Chao 2006). One node is the Laplace
// approximation. The criterion is -2 sum_l log I_l, all constants included.
//
// The gradient is exact: reverse differentiation through the nodes, the Cholesky
// factor (Smith 1995) and, by the implicit function theorem, the modes. The
// derivative with respect to Psi that proves a face is that of the integral
// itself, sum_l E(Z'WZ - ss'), the expectation taken over the nodes. The model
// of the Hessian is that of the Laplace approximation.
#pragma once

#include "laplace.hpp"

namespace ranef {

// Nodes (ascending) of the standard normal, and the logarithms of their weights.
void hermite(int count, Vector& nodes, Vector& log_weights);

class Quadrature final : public Objective {
  public:
    // The model of `laplace` must have one factor, eliminated level by level,
    // whose terms are unstructured or diagonal.
    Quadrature(Laplace& laplace, int nodes);

    const Blocks& blocks() const override { return laplace_.blocks(); }
    int parameters() const override { return laplace_.parameters(); }
    double evaluate(const double* x) override;
    void differentiate(double* gradient, double* hessian) override;
    const Vector& psi(int factor) const override { return laplace_.psi(factor); }
    const Vector& gradient_psi(int) const override { return G_; }

  private:
    struct Sums { // over the levels of one chunk
        Vector Lambda, G;
        double log_integral = 0;
    };
    // One node for all levels of a chunk: the predictors there.
    void place(size_t node, int chunk);
    void factorise(int chunk);
    void values(int chunk);
    void reverse(int chunk, Sums& sums);
    void visit_nodes(int chunk, Sums& sums);
    void visit_modes(int chunk, Sums& sums);
    const double* lambda() const { return laplace_.lambda(); }

    Laplace& laplace_;
    const Predictors& predictors_;
    int r_, q_, M_, A_;
    size_t count_;             // nodes, tensor product
    Vector xi_, log_omega_;    // (count, r), (count): with xi'xi / 2 added
    Vector L_, mode_;          // (q, r, r) lower, (q, r): u
    Vector h_;                 // (q, count): log weights of the nodes, then shares
    Vector g_, Lbar_, Hbar_;   // (q, r), (q, r, r), (q, r, r)
    std::vector<Vector> eta_;  // [random predictor] (n)
    std::vector<Vector> mean_; // [predictor] (n): expected f', then q
    std::vector<Sums> sums_;
    Vector G_;
};

} // namespace ranef
