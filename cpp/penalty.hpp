// Maximum penalised likelihood: minus twice the log density of priors on
// coefficients, standard deviations and correlations, added to an objective.
//
// Priors speak of the user's coefficients beta_user = T beta and covariance matrices
// Psi_user = B Psi B'. Constants are left out.
#pragma once

#include <memory>
#include <vector>

#include "objective.hpp"

namespace ranef {

// A density on the line. Of a standard deviation it counts on the positive half.
struct Prior {
    enum class Kind { none, normal, student, gamma };
    Kind kind = Kind::none;
    double location = 0, scale = 1, shape = 1; // student: shape = df; gamma: scale = 1 / rate
};

// What -2 log density is at x, and its first two derivatives.
struct PriorValue {
    double value = 0, first = 0, second = 0;
};
PriorValue evaluate(const Prior& prior, double x);

struct CoefficientPrior {
    Vector row; // (p) of T
    Prior prior;
};

struct TermPrior {
    int factor = 0, term = 0;
    Vector basis;          // (r, r) row-major: B
    std::vector<Prior> sd; // (r)
    double lkj = 1;        // density of the correlation matrix R: |R|^(lkj - 1)
};

struct Penalty {
    std::vector<CoefficientPrior> coefficients;
    std::vector<TermPrior> terms;
};

class Penalised final : public Objective {
  public:
    Penalised(Objective& inner, Penalty penalty);

    const Blocks& blocks() const override { return inner_.blocks(); }
    int parameters() const override { return inner_.parameters(); }
    double evaluate(const double* x) override;
    void differentiate(double* gradient, double* hessian) override;
    const Vector& psi(int factor) const override { return inner_.psi(factor); }
    const Vector& gradient_psi(int factor) const override { return G_[factor]; }
    const Vector& correction() const override { return inner_.correction(); }
    bool breaks_down() override { return inner_.breaks_down(); }
    double noise() const override { return inner_.noise(); }
    double other_noise() const override { return inner_.other_noise(); }
    void near_end(bool near) override { inner_.near_end(near); }

    // The penalty at x alone.
    double penalty(const double* x) const;

  private:
    double of_term(const TermPrior& t, const double* phi, Vector* G) const;
    Vector slope(const TermPrior& t, const double* phi) const;
    const Term& term(const TermPrior& t) const { return blocks().factors[t.factor].terms[t.term]; }

    Objective& inner_;
    Penalty penalty_;
    Vector x_;
    std::vector<Vector> G_;
};

} // namespace ranef
