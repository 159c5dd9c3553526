// The Laplace approximation to the likelihood of a generalised linear mixed model
// and its exact gradient.
//
// With f_i(eta_i) the log density of row i, w_i its weight, b ~ N(0, Psi) and
// Lambda Lambda' = Psi,
//   d(Psi, beta) = -2 sum_i w_i f_i + b'Psi^-1 b + log|I + Lambda'Z'WZ Lambda|
// at the mode b of the joint density, W_i = -w_i d2 f_i the observed information
// of the row's predictors (Breslow and Clayton 1993; Skaug and Fournier 2006).
// All constants are in f; those of the normal densities cancel.
//
// The mode is found by Newton's method: with the working response W Zb + f' the
// next b is the solution of a linear mixed model with known scale. Scores
// s = Z'f' stand for Psi^-1 b, so that nothing is divided by a standard deviation.
//
// The gradient is by the implicit function theorem. With S_i the covariance of
// the row's predictors given beta, S_i = Z_i (Psi^-1 + Z'WZ)^-1 Z_i', and
//   t_im = sum_kl S_i,kl w_i f'''_i,klm,   v = (I + Z'WZ Psi)^-1 Z't,   a = Psi v,
//   dd/dbeta = -2 X'f' - X't + X'W Za,
//   dd/dPsi = sum_l Z_l'V^-1 Z_l - s s' - (v s' + s v')/2,   V = W^-1 + Z Psi Z'.
// The Hessian is modelled by that of the working linear model (average
// information for Psi, observed information for beta).
//
// Coefficients may be integrated out as well, with a flat prior: the generalised
// counterpart of the restricted likelihood. They join b in the mode, H becomes
// that of (b, beta), S the covariance with beta's uncertainty, and
//   d = .. + log|X'V^-1X| - p log 2 pi,   dd/dPsi = sum_l Z_l'PZ_l - ..
#pragma once

#include <memory>

#include "criterion.hpp"
#include "families/family.hpp"
#include "newton.hpp"
#include "predictors.hpp"

namespace ranef {

struct LaplaceCounts {
    int evaluations = 0, inner = 0;
    size_t factorisations = 0; // only in total()
};

class Laplace final : public Objective {
  public:
    // y, extra, weights: the user's order; extra and weights may be null.
    // integrated: coefficients to integrate out, ascending.
    Laplace(const Family& family, const Predictors& predictors, const Blocks& pattern,
            const double* y, const double* extra, const double* weights,
            const std::vector<int>& integrated = {});

    const Blocks& blocks() const override { return *inner_.blocks; }
    // Those of the structures, then the coefficients that are not integrated out.
    int parameters() const override { return K_ + static_cast<int>(outer_coefficients_.size()); }
    double evaluate(const double* x) override;
    void differentiate(double* gradient, double* hessian) override;
    const Vector& psi(int factor) const override { return criterion_.psi(factor); }
    const Vector& gradient_psi(int factor) const override {
        if (differentiated_given_) return given_G_[factor];
        return integrated_.empty() ? outer_c_.gradient_psi(factor)
                                   : criterion_.gradient_psi(factor);
    }

    const Vector& correction() const override { return correction_; }

    // All coefficients at the last point evaluated, (p).
    const Vector& coefficients() const { return beta_; }
    // From coefficients (p) to a fair start of the parameters: moments, the joint mode
    // of b and the mean's coefficients, and the covariances of the working model.
    Vector start(const double* beta);

    // Where a mode was found, to start from: modes by factor and coefficients; at the end of a
    // search the modes' scores as well.
    struct Place {
        std::vector<Vector> modes;
        Vector coefficients;
        std::vector<Vector> scores;
    };
    // Of the last start() or differentiate().
    Place place() const { return {warm_, warm_beta_, {}}; }
    // Of the last differentiate().
    Place end() const { return {warm_, warm_beta_, score_}; }
    // Where it stands, scores too.
    Place here() const { return {mode_, beta_, score_}; }
    // Back to where it was made: what was evaluated before leaves no trace in later answers,
    // nor does a call that was broken off. The first mode is looked for from `place`, from
    // zero where there is none, and from that of the last derivatives only where the density
    // at zero is none.
    void restart(const Place* place = nullptr);

    // Back at a point whose modes were found before: no search, and what the derivatives there
    // left for questions to the last bit.
    void stand(const Place& place, const double* x);
    // Whether derivatives were taken at this point last.
    bool stands_at(const double* x) const;
    void near_end(bool near) override { outer_c_.near_end(near); }

    // See laplace_moved.cpp. Where the problem stands: how the modes move from there to `high`,
    // (many, parameters), and by as much the other way to `low`; and how many at once, as memory
    // has it.
    std::vector<Place> tangents(size_t many, const double* high, const double* low);
    size_t tangents_at_once() const;
    Place beside(const Place& centre, const Place& tangent, double side) const;
    // From here on evaluate() takes these modes as they are, and differentiate() gives the
    // gradient at them alone, until null is handed over or the problem begins anew.
    void take(const Place* given);
    bool given() const { return given_ != nullptr; }

    // Since the last restart(), and of all time.
    const LaplaceCounts& counts() const { return counts_; }
    LaplaceCounts total() const;
    const Family& family() const { return family_; }
    const Predictors& predictors() const { return predictors_; }
    const Rows& rows() const { return rows_; }
    const Vector& weights() const { return weights_; } // empty: all one
    // At the last point evaluated, in the order of the predictors' rows: o + X beta.
    const Vector& fixed(int m) const { return fixed_[m]; }
    std::vector<const double*> predictors_at_mode() const {
        std::vector<const double*> out;
        for (const Vector& v : eta_) out.push_back(v.data());
        return out;
    }
    // Psi^-1 of the modes, and Lambda of a factor.
    const Vector& score(int factor) const { return score_[factor]; }
    const double* lambda(int factor) const { return criterion_.lambda(factor).data(); }
    // At the last point evaluated: the modes as they multiply the data, internal
    // order; the predictors and log densities of the rows, the user's order.
    const Vector& modes(int factor) const { return mode_[factor]; }
    Vector predictor(int m) const;
    Vector log_density() const;
    // (X'V^-1X)^-1 after differentiate(): covariance of beta given Psi.
    const Vector& fixed_covariance() const { return C_; }
    // Given Psi, after differentiate(): covariance of the modes, (q, r, r) in the
    // user's level order and the basis of b_e, given beta or with beta's
    // uncertainty; and the variance of combinations of b_e and beta.
    void mode_covariances(int factor, bool with_fixed, double* out);
    // Both of all factors.
    void all_mode_covariances(std::vector<Vector>& given, std::vector<Vector>& error) {
        outer_c_.at_point(phi_.data());
        outer_c_.all_mode_covariances(given, error);
    }
    // After differentiate() or stand(): modes Psi Z'V^-1 d that displacements d of the rows'
    // predictors have, (M, n) in the user's order, one after the other; by displacement and
    // factor, internal order.
    std::vector<Solution> modes_of(size_t many, const double* displacements);
    bool breaks_down() override;
    void quadratic_forms(size_t rows, const std::vector<const int32_t*>& levels,
                         const std::vector<const double*>& z, const double* X, double* out) {
        outer_c_.quadratic_forms(rows, levels, z, X, out);
    }
    HalfSolves half_solves(size_t rows, const std::vector<const int32_t*>& levels,
                           const std::vector<const double*>& z, const double* X) {
        return outer_c_.half_solves(rows, levels, z, X);
    }

  private:
    using Modes = std::vector<Vector>;

    void set_parameters(const double* x);
    void set_fixed(const std::vector<char>& inside);
    double pass(Working& to, const std::vector<int>& active, const std::vector<char>& inside,
                bool project, double* ascent);
    void working_responses(const std::vector<int>& active, const Weights& W, bool joint,
                           size_t first, size_t last);
    void take_modes(Criterion& from, const std::vector<int>& coefficients);
    void halve(const Modes& mode, const Modes& score, const Vector& beta);
    void project(const std::vector<int>& active, size_t first, size_t last);
    double penalty(const Modes& score, const Modes& other) const;
    double rounding() const;
    bool find_mode(const double* phi);
    bool newton(const double* phi, bool from_zero);
    void third(bool outer = true);
    std::vector<Vector> moved_by_covariances(const double* high, const double* low) const;
    double evaluate_given();
    void differentiate_given(double* gradient);
    void joint_mode(const double* phi, int iterations);
    void differentiate_beta(double* gradient);
    void restricted(double* gradient, double* hessian);
    void unrestricted(double* gradient, double* hessian);
    double working_model();
    std::vector<const double*> pointers(const Modes& modes) const;
    double sum_weighted(const double* f, size_t first, size_t last) const;

    const Family& family_;
    const Predictors& predictors_;
    size_t n_;
    int M_, p_, K_;
    Vector y_, extra_, weights_;
    Rows rows_;
    std::vector<int> all_, active_; // predictors: all, those of the inner mode
    std::vector<int> all_coefficients_;
    std::vector<int> integrated_, outer_coefficients_;
    std::vector<char> inside_; // integrated, by coefficient
    Working inner_, outer_;
    Criterion criterion_, outer_c_;
    Vector phi_, beta_;
    // by predictor: o + X beta held, X beta in the mode, all, and f', working responses, t
    std::vector<Vector> fixed_, xb_, eta_, f1_, q_, t_;
    std::vector<Vector> zb_; // by random predictor
    Weights W_, outer_W_;
    Modes mode_, score_, warm_;
    Vector warm_beta_;
    bool warm_known_ = false;
    Place last_; // empty: none
    const Place* given_ = nullptr;
    bool differentiated_given_ = false;
    std::vector<Vector> given_G_;
    double logdet_ = 0, density_ = 0;
    std::vector<Vector> extra_gradient_;
    Vector C_, correction_;
    bool differentiated_ = false;
    LaplaceCounts counts_, before_; // since the last restart, and until then
};

} // namespace ranef
