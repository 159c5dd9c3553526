// What the search minimises: a smooth function of the parameters of covariance
// structures, followed by others that are always free.
#pragma once

#include "blocks.hpp"

namespace ranef {

class Objective {
  public:
    virtual ~Objective() = default;

    // The factors whose terms own the first parameters.
    virtual const Blocks& blocks() const = 0;
    // All parameters: those of the structures, then the others.
    virtual int parameters() const { return blocks().parameters; }
    // The value at x; infinity where there is none.
    virtual double evaluate(const double* x) = 0;
    // Gradient and a model of the Hessian (column-major) at the last x.
    virtual void differentiate(double* gradient, double* hessian) = 0;
    // Covariance matrix of a factor's effects at the last x, and the derivative
    // of the value with respect to it after differentiate(); (r, r).
    virtual const Vector& psi(int factor) const = 0;
    virtual const Vector& gradient_psi(int factor) const = 0;
    // What the last Hessian lacks to be exact, as far as it is known at no cost,
    // in its shape, or empty. Good near the optimum, bad far from it.
    virtual const Vector& correction() const { return none_; }
    // How far the value at the last x may be off by rounding, as far as it knows: since little
    // is left of the response, where gradients lose their digits too, and for other reasons.
    virtual double noise() const { return 0; }
    virtual double other_noise() const { return 0; }
    // Told before differentiate(): whether the search is about to end here, so that questions
    // about this point will follow.
    virtual void near_end(bool) {}
    // Whether, after differentiate(), the value is of no use here: an approximation that
    // has lost what it approximates.
    virtual bool breaks_down() { return false; }

  private:
    Vector none_;
};

} // namespace ranef
