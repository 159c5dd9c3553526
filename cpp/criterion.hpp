// The profiled (restricted) deviance of a linear mixed model, its exact
// gradient and its average-information Hessian.
//
// With H = I + Z Psi Z' (relative to sigma^2) and
//   P = H^-1 - H^-1 X (X'H^-1X)^-1 X'H^-1,   r2 = y'Py,   m = n - p or n,
// the criterion is  log|H| [+ log|X'H^-1X|] + m (1 + log(2 pi r2 / m)) - sum log w
// (Bates et al. 2015). Its derivative with respect to the covariance matrix of
// one factor is
//   G = sum_l Z_l'PZ_l - (m / r2) sum_l s_l s_l',   s = Z'Py
// (H^-1 in place of P in the first sum under ML), and with w_i = Z dPsi_i s the
// Hessian is approximated by average information (Gilmour, Thompson, Cullis 1995)
// plus the exact second-order term:
//   (m / r2) w_i'Pw_j - (m / r2^2) (w_i'Py)(w_j'Py) + <G, d2Psi_ij>.
//
// Nothing is divided by a standard deviation. A level of the chain with Schur
// block A and cross block A_P to what remains contributes through
//   D = I + Lambda'A Lambda = LL',  V = Lambda D^-1 Lambda',  N = I - A V,
//   M = N A,  K = N A_P,  J = V A_P,
// and the covariance R of what remains (relative to sigma^2):
//   Z_l'PZ_l = M - K R K',  s = N A_y - K b_P,
//   R_ll = V + J R J',  R_lP = -J R.
//
// With a known scale (sigma = 1: the working model of a generalised one) the
// criterion is log|H| + r2, and m / r2 becomes one.
#pragma once

#include <limits>

#include "blocks.hpp"
#include "information.hpp"
#include "objective.hpp"
#include "tail.hpp"

namespace ranef {

// A symmetric matrix (r, r) in the place of a factor's Psi, row-major: V = Z D Z'.
struct Direction {
    int factor;
    Vector matrix;
};

// What second derivatives along directions i, j are made of, row-major.
struct Curvature {
    Vector traces;   // (k, k): tr(M V_i M V_j), M = P under REML, H^-1 under ML
    Vector scores;   // (k): y'P V_i P y
    Vector fixed;    // (k, p, p): C X'H^-1 V_i H^-1 X C, C = (X'H^-1X)^-1
    Vector products; // (k c, k c): w_ia'P w_jb, see Criterion::curvature
    // (r, r) by factor: d criterion / d Psi, as far as Psi has range.
    std::vector<Vector> gradient;
};

// See Criterion::half_solves: one row a combination.
struct HalfSolves {
    int64_t columns = 0;             // of the chain's part
    std::vector<int64_t> ptr, index; // the chain's part by rows (compressed)
    Vector value;
    Vector tail; // (rows, order) row-major
};

// What Criterion::solutions() finds of one right-hand side, by factor (q, r) in the basis of b_e,
// internal level order.
struct Solution {
    std::vector<Vector> modes, scores;
    Vector beta;
    double rss = 0; // y'Py, of a response
};

// sum_l s_l t_l' of scores (q, r), (r, r).
Vector outer_sum(int r, const Vector& s, const Vector& t);

class Criterion final : public Objective {
  public:
    Criterion(const Blocks& blocks, bool reml, int threads, bool known_scale = false);

    void use(const Response& response) {
        y_ = &response;
        known_ = false;
    }
    // Solve for the modes as if the fixed effects were zero.
    void hold_fixed(bool hold) {
        held_ = hold;
        solved_ = false;
    }
    // What else depends on Psi, by factor (r, r): added to the derivative with
    // respect to it. Null for nothing.
    void add_gradient(const std::vector<Vector>* extra) { extra_ = extra; }

    // The deviance at phi; infinity where a factor breaks down.
    double factorise(const double* phi);
    // The same; nothing is done where phi is that of last time. What follows may be asked in
    // any order, as often as one likes: the factor is kept, or made again of its Schur complement.
    double at_point(const double* phi);
    // Whether there is a factor at the last phi, be the criterion itself lost in rounding.
    bool sound() const { return sound_; }
    // How often it was, or a factor was made again.
    size_t factorisations() const { return factorisations_; }
    // Fixed effects, modes and scores at the last phi.
    void solve();
    // The same with the chain's modes and scores.
    void score();
    // Gradient and Hessian (column-major) at the last phi; calls solve(). Without a place for the
    // Hessian the gradient alone.
    void differentiate(double* gradient, double* hessian) override;
    // Derivatives with respect to Psi become those with respect to the parameters of that phi.
    void contract(const std::vector<Vector>& by_psi, double* gradient) const;
    double evaluate(const double* phi) override { return factorise(phi); }
    void near_end(bool near) override { tail_->keep_factor(near); }

    const Blocks& blocks() const override { return b_; }
    double log_determinant() const { return logdet_; }
    const Vector& beta() const { return beta_; }
    double rss() const { return r2_; }
    double degrees() const { return m_; }
    // The sum of squares is what the effects leave of the response's: where that is little,
    // what cancels shows in its logarithm. So do the pivots of X'H^-1 X in theirs, where strong
    // leverage leaves little of X'X.
    double noise() const override {
        return m_ * std::numeric_limits<double>::epsilon() * y_->square / r2_;
    }
    double other_noise() const override {
        return std::numeric_limits<double>::epsilon() * cancelled_;
    }
    // Modes b_e and scores Z'Py by factor, internal level order, (q, r).
    const Vector& modes(int factor) const { return modes_[factor]; }
    const Vector& scores(int factor) const { return scores_[factor]; }
    const Vector& lambda(int factor) const { return lambda_[factor]; }
    const Vector& psi(int factor) const override { return psi_[factor]; }
    // d criterion / d Psi by factor (r, r); after differentiate().
    const Vector& gradient_psi(int factor) const override { return G_[factor]; }
    // X'H^-1 w_i, (p, parameters) column-major; after differentiate(), without REML.
    const Vector& fixed_information() const { return c_; }
    const Vector& correction() const override { return correction_; }
    // (X'H^-1X)^-1, (p, p) full; after solve().
    const Vector& fixed_covariance() const { return C_; }

    // After factorise(): covariance of the conditional modes relative to sigma^2,
    // (q, r, r) by level: given beta, and with beta's uncertainty. Basis: b_e.
    void mode_covariances(int factor, bool with_fixed, double* out);
    // After factorise(): covariances of the modes, of every pair of levels that
    // meet in a row, given beta or with beta's uncertainty (after solve() then).
    void covariances(bool with_fixed);
    // (r, width): a level of the chain with itself, its ancestors and beta (the
    // leader of a tail: with itself only).
    const double* chain_covariance(int depth, size_t level) const {
        const ChainBlock& c = b_.chain[depth];
        return chain_R_[depth].data() + level * c.r * c.width;
    }
    // (r, m + p): a level of the leader with the tail columns that it touches, and
    // with beta.
    const double* leader_covariance(size_t level) const {
        return leader_R_.data() +
               (b_.tail_ptr[level] + static_cast<int64_t>(level) * b_.p) * b_.chain[0].r;
    }
    double fixed_covariance(int i, int j) const {
        return b_.T > 0 ? tail_covariance(b_.T + i, b_.T + j)
                        : R_XX_[static_cast<size_t>(i) * b_.p + j];
    }
    // Two columns of the tail, the fixed effects after the random ones.
    double tail_covariance(int i, int j) const { return tail_->covariance(i, j); }
    // At the last phi: a'Omega^-1 a for a = contrasts of (b_e, beta), one row at
    // a time; level -1 leaves a factor out. rows of z: per factor (N, r) in b_e.
    void quadratic_forms(size_t rows, const std::vector<const int32_t*>& levels,
                         const std::vector<const double*>& z, const double* X, double* out);
    // The same combinations, each as w = L^-1 a: see half_solves.cpp.
    HalfSolves half_solves(size_t rows, const std::vector<const int32_t*>& levels,
                           const std::vector<const double*>& z, const double* X);
    // Effects, scores and fixed effects that these right-hand sides, in place of that of a
    // response, have at the last phi; see solves.cpp.
    std::vector<Solution> solutions(std::vector<Response> rhs);
    // How many of them to hand over in one call, as memory has it.
    size_t solved_at_once() const;
    // By factor (rows, r, r): derivatives with respect to Psi of quadratic forms, and of the
    // combinations of the response's own effects and coefficients.
    struct FormSlopes {
        std::vector<Vector> forms, values;
    };
    FormSlopes form_slopes(size_t rows, const std::vector<const int32_t*>& levels,
                           const std::vector<const double*>& z, const double* X);
    // The modes' covariances of all factors, (q, r, r) each in the user's level order: given
    // beta, and with beta's uncertainty. One inverse serves all.
    void all_mode_covariances(std::vector<Vector>& given, std::vector<Vector>& error);
    // After factorise(): sum over levels of (Z_l'H^-1X) by pairs:
    // out[factor] = (r, r, p, p): sum_l y_la y_le' with y_la = X'H^-1 z_la.
    std::vector<Vector> fixed_scores();
    // After factorise(); what the derivatives left there is used. The c columns
    // w_i of `products` are V_i Py (c = 1), or those of V_i H^-1 X C (c = p).
    Curvature curvature(const std::vector<Direction>& directions, bool of_fixed);

  private:
    friend class ChainCurvature;
    friend class CrossedCurvature;
    friend class DenseCurvature;
    friend class SparseCurvature;
    // Quadratic forms as squares of the lengths of half solves; after factorise().
    void squared_lengths(size_t rows, const std::vector<const int32_t*>& levels,
                         const std::vector<const double*>& z, const double* X, double* out);
    // The same through the inverse of the tail; returns the rows whose digits cancelled.
    std::vector<size_t> sparse_forms(size_t rows, const std::vector<const int32_t*>& levels,
                                     const std::vector<const double*>& z, const double* X,
                                     double* out);
    // Half solves of some of the rows; after factorise().
    HalfSolves half_solve(size_t first, size_t rows, const std::vector<const int32_t*>& levels,
                          const std::vector<const double*>& z, const double* X);
    // X'H^-1 z by level, (q, r, p) by factor; after solve().
    // Of XB, B (p, p) column-major, null for X; of XC alone once S is inverted.
    std::vector<Vector> level_fixed_scores(const double* B);
    std::vector<Vector> sum_fixed_scores(const std::vector<Vector>& scores) const;
    void reduce(std::vector<Response>& rhs) const;
    Vector solve_tail(const std::vector<Response>& rhs, std::vector<Solution>& out) const;
    void solve_levels(int depth, const std::vector<Response>& rhs, const Vector& tail,
                      std::vector<Solution>& out) const;
    void prepare(const double* phi);
    template <int R>
    void eliminate(int depth, int chunk);
    void eliminate_chunk(int chunk);
    void scale_vector(const double* in, double* out) const;
    template <int R>
    void descend(int depth, int chunk, bool derivatives);
    void descend_by_size(int depth, int chunk, bool derivatives);
    void fixed_modes();
    void top_covariance(bool with_fixed);
    double factorised(const double* phi);
    void restore_factor();
    void invert_tail(bool with_fixed);
    void invert();
    bool scalar_tail() const;
    void tail_gradient(bool with_fixed);
    void leader_covariances(int chunk);
    void structure_derivatives();
    void differentiate_crossed(Vector& gram, Vector& t, Vector& e);
    void differentiate_chain(Vector& e);
    void contract_information(Vector& e);
    void take_out_remaining(Vector& gram, Vector& e);
    void add_structure_curvature(double* hessian) const;
    void second_order(double ratio, const Vector& gram);
    void information_up(int chunk);
    void gather_ancestors(const std::vector<Vector>& from, int depth, int level, Vector& PP) const;
    double ratio() const { return known_scale_ ? 1.0 : m_ / r2_; }
    bool any_kernel() const;
    const double* panel(int depth, int level) const;

    const Blocks& b_;
    const Response* y_ = nullptr;
    bool reml_;
    int threads_;
    bool known_scale_, held_ = false;
    bool informed_ = true;  // average information comes with the gradient
    bool inverted_ = false; // the tail holds R as the derivatives leave it
    bool solved_ = false, known_ = false, sound_ = false;
    double value_ = 0; // at phi_, where known_
    size_t factorisations_ = 0;
    const std::vector<Vector>* extra_ = nullptr;
    double m_ = 0, r2_ = 0, logdet_ = 0, cancelled_ = 0;
    Vector phi_;
    std::vector<int> factor_of_;
    std::vector<Vector> lambda_, psi_, dpsi_, G_;
    std::vector<Vector> modes_, scores_;
    // chain, by depth
    std::vector<Vector> schur_, schur_y_, L_, W_, Wy_, post_, push_;
    Vector tail_W_;
    // what the chain leaves: order T + p
    std::unique_ptr<Tail> tail_;
    Vector Qy_, half_, x_; // L^-1 of the scaled Qy; the modes
    double Qyy_ = 0;
    Vector beta_, C_, R_XX_, Y_, c_;
    std::vector<Vector> chain_R_;
    Vector leader_R_;
    Vector correction_;
    Vector tail_squares_; // by pairs of factors: squared norms of I - S^-1
    // by chunk
    std::vector<InformationSums> sum_information_; // of a single factor with many parameters
    std::vector<Vector> sum_XX_, sum_Xy_, sum_G_, sum_gram_, sum_t_, sum_e_;
    Vector sum_yy_, sum_logdet_;
    std::vector<char> failed_;
};

} // namespace ranef
