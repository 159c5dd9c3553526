// Positive responses, predictors mean and dispersion.
// Gamma: log sigma, shape 1 / sigma^2, Var(y) = (sigma mu)^2.
// Inverse Gaussian: log phi, Var(y) = phi mu^3.
// Lognormal: log sigma, Var(y) = sigma^2, mean and sigma those of y itself.
#include "density.hpp"

namespace ranef {

namespace {

struct Gamma : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y > 0)) return T(-infinity);
        const T t = std::log(y) - log_mean(link, eta[0]), log_k = -2 * eta[1];
        return apply(log_gamma_deficit, log_k) -
               exp(log_k) * compose(exp_remainder_curve(t.value()), t) - std::log(y);
    }
};

struct InverseGaussian : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y > 0)) return T(-infinity);
        const double log_y = std::log(y);
        const T z = expm1(log_y - log_mean(link, eta[0])) * exp(-0.5 * (eta[1] + log_y));
        return -0.5 * (z * z) - 0.5 * eta[1] - (0.5 * log_2pi + 1.5 * log_y);
    }
};

struct Lognormal : Plain {
    static constexpr int predictors = 2;
    Link link;
    // s2 = log(1 + (sigma / mu)^2) is the variance of log y
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y > 0)) return T(-infinity);
        const double log_y = std::log(y);
        const T log_mu = log_mean(link, eta[0]), t = 2 * (eta[1] - log_mu);
        const T s2 = softplus(t);
        const T log_s2 = t.value() < 0 ? t + log(apply(log1p_over, t)) : log(s2);
        const T z = (log_y - log_mu + 0.5 * s2) * exp(-0.5 * log_s2);
        return -0.5 * (z * z) - 0.5 * log_s2 - (0.5 * log_2pi + log_y);
    }
};

const Registration gamma("Gamma", linked<Gamma>, links::ray, Zero::may);
const Registration inverse_gaussian("inverse.gaussian", linked<InverseGaussian>, links::ray,
                                    Zero::may);
const Registration lognormal("lognormal", linked<Lognormal>, links::ray, Zero::may);

} // namespace

} // namespace ranef
