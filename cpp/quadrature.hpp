// Adaptive Gauss-Hermite quadrature for one grouping factor or a chain of nested ones.
//
// With b = Lambda u, u standard normal, a chain of nested factors is a forest: each
// level l of a factor hangs on one level of the next coarser one. Given u of its
// ancestors a level has the integral of
//   exp{ sum_c log I_c(u) - u_l'u_l / 2 },
// c its children; those of the finest factor are rows, log I_i = w_i f_i(eta_i). The
// likelihood is the product over the levels of the coarsest factor, which is how it
// factorises. At the joint mode the negative Hessian is
//   H = I + Lambda'Z'WZ Lambda = LL',
// the finest factor first, so that L fills only between levels and their ancestors.
// The nodes are u = mode + delta with L'delta = xi: for a level with the ancestors a
//   delta_l = L_ll^-T (xi_k - sum_a L_al' delta_a),
// that is, centred at the mode of the normal approximation given its ancestors' nodes,
// and with its scale. With nodes xi_k and weights omega_k of the standard normal (tensor
// products within a level)
//   log I_l = -log|L_ll| + log sum_k omega_k exp(sum_c log I_c - u_l'u_l / 2 + xi_k'xi_k / 2)
// (Liu and Pierce 1994; for nested factors Pinheiro and Chao 2006, section 3). One mode
// serves all nodes; a mode for each node of the ancestors (Rabe-Hesketh, Skrondal and
// Pickles 2005) would need an inner search at each, through which to differentiate. One
// node is the Laplace approximation. The criterion is -2 sum log I over the levels of the
// coarsest factor, all constants included.
//
// The gradient is exact: reverse differentiation through the nodes, the Cholesky
// factor (Smith 1995, by blocks) and, by the implicit function theorem, the modes. The
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
    // All factors of the model of `laplace` must be in its chain, with up to three
    // columns each.
    Quadrature(Laplace& laplace, int nodes);

    const Blocks& blocks() const override { return laplace_.blocks(); }
    int parameters() const override { return laplace_.parameters(); }
    double evaluate(const double* x) override;
    // For terms that are unstructured or diagonal only.
    void differentiate(double* gradient, double* hessian) override;
    const Vector& psi(int factor) const override { return laplace_.psi(factor); }
    const Vector& gradient_psi(int factor) const override { return G_[factor]; }

    // Multiply the log integral of each level of the coarsest factor, user's order (q).
    void weigh_levels(const double* weights);
    size_t coarsest() const { return depth_.back().q; }

    // After evaluate(): means (q, r) and covariances (q, r, r) of a factor's effects given
    // the data, internal order, in the basis of b_e.
    void posterior(int factor, Vector& mean, Vector& covariance);

  private:
    // One factor of the chain. A path is a choice of nodes for a level and its
    // ancestors, the level's own running fastest.
    struct Depth {
        int factor = 0, r = 0, q = 0;
        size_t own = 1, paths = 1;            // nodes of a level; with those of its ancestors
        Vector xi, log_omega;                 // (own, r), (own): with xi'xi / 2 added
        Vector mode;                          // (q, r): u
        Vector L, Lbar, Hbar;                 // (q, r, r), L lower
        std::vector<Vector> cross, cross_bar; // [ancestor] (q, r of it, r): L_al; then H_al
        Vector shares; // (q, paths): log weights of the nodes, then shares given the ancestors'
        // at the path in hand
        Vector delta, effect, joint; // (q, r), (q, r), (q): Lambda u, probability
        std::vector<Vector> eta;     // [random predictor] (n): with this factor and coarser ones
        // scores of the columns of this factor and of coarser ones given the path, and
        // covariances of those of each factor; then the same over the level's own nodes
        Vector first, second, mean, square;
        Vector g, push, lift; // (q, r): dh/du, L^-1 of it summed, what finer levels add to it
        Vector tau, v;        // (q, r): Z't through W, H^-1 (g + Lambda't)
    };
    struct Sums { // over the levels of one chunk, by depth
        std::vector<Vector> Lambda, G;
        double log_integral = 0;
    };
    struct Range {
        size_t first, last;
    };
    struct Columns { // of one factor: its rows, and the adjoint of Z'WZ by level
        const Predictors::Random* rows;
        int r;
        Vector adjoint; // (levels of a chunk, r, width)
    };

    Range levels(int d, int chunk) const {
        return {blocks().chunk[d][chunk], blocks().chunk[d][chunk + 1]};
    }
    // Of level l of depth d: the weight of its coarsest ancestor.
    double level_weight(int d, size_t l) const {
        if (level_weights_.empty()) return 1.0;
        return level_weights_[d + 1 == depths() ? l : ancestor(d, l, depths() - d - 2)];
    }
    int depths() const { return static_cast<int>(depth_.size()); }
    int ancestor(int d, size_t l, int k) const { return blocks().chain[d].ancestor[k][l]; }
    const double* panel(int d, size_t l) const {
        const ChainBlock& c = blocks().chain[d];
        return c.panel.data() + l * c.r * c.width;
    }
    const double* lambda(int d) const { return laplace_.lambda(depth_[d].factor); }

    void factorise(int chunk);
    void eliminate(int d, size_t l);
    template <class Visit>
    void visit_paths(int chunk, bool weighted, Visit&& visit);
    void place(int d, size_t path, int chunk);
    void weigh(int d, size_t path, int chunk);
    void values(int chunk);
    double sum_nodes(int chunk);
    void visit_nodes(int chunk, Sums& sums);
    void score_rows(int chunk, Sums& sums);
    void complete(int d, size_t path, int chunk, Sums& sums);
    void pass_up(int d, size_t l);
    void reverse(int chunk, Sums& sums);
    void reverse_level(int d, size_t l, Sums& sums);
    void reverse_cross(int d, size_t l, Sums& sums);
    void visit_modes(int chunk, Sums& sums);
    void adjoints(int d, int chunk, Vector& out) const;
    void add_adjoints(const std::vector<Columns>& columns, int d, size_t i, size_t from,
                      Vector& S) const;
    void solve(int chunk);
    std::vector<const double*> predictors_here() const;

    Laplace& laplace_;
    const Predictors& predictors_;
    int M_, A_, threads_;
    bool smooth_;              // every term is a function of the entries of Lambda
    std::vector<Depth> depth_; // finest first
    std::vector<Vector> mean_; // [predictor] (n): expected f', then q
    std::vector<Sums> sums_;
    std::vector<Vector> G_; // by factor
    Vector level_weights_;  // (q of the coarsest factor) internal order, or empty
    bool plain_ = false;    // joint probabilities without these weights
};

} // namespace ranef
