// Large counts. The terms y log(mu), mu and log y! of a count's log density grow with the
// count and cancel but for its square root's order; past `large_count` the densities
// are written by what remains: saddle-point deviances (Loader 2000) and Stirling's
// remainder.
#pragma once

#include "curves.hpp"

namespace ranef {

constexpr double large_count = 16384;

// log y! - y log y + y, y large.
inline double log_factorial_deficit(double y) {
    return 0.5 * (log_2pi + std::log(y)) + stirling_remainder(y, 0).f;
}

// y log(mu) - mu - (y log y - y) of y and d = log(mu / y).
inline double poisson_deviance(double y, double d) {
    return -y * exp_remainder_curve(d).f;
}
template <int K, int O>
Jet<K, O> poisson_deviance(double y, const Jet<K, O>& d) {
    return -y * compose(exp_remainder_curve(d.value()), d);
}

// Log density of a large count y that is negative binomial with mean exp(log_mu) and
// size exp(log_size):
//     y d + (y + s) A - log(y (y + s)) / 2 + R(y + s) - R(y) + s log s - s - log Gamma(s),
// d = log(mu / y), A = log((s + y) / (s + mu)), R Stirling's remainder. Of the first two
// terms whichever form is taken that leaves nothing to cancel.
template <class T>
T negative_binomial_large(double y, const T& log_mu, const T& log_size) {
    const double log_y = std::log(y);
    const T d = log_mu - log_y, a = log_size - log_y;
    const T over = softplus(a); // log(1 + s / y)
    T deviance;
    if (log_size.value() < log_y) {
        const T gap = over - softplus(log_size - log_mu);
        deviance = y * gap + exp(log_size) * (gap - d);
    } else {
        const T e = expm1(d);
        deviance = y * (d - e * apply(log1p_slope, exp(-over) * e));
    }
    const T n = exp(log_y + over);
    const T rest = n.value() < 1e300 ? apply(stirling_remainder, n) : T(0);
    return deviance - 0.5 * over - log_y + apply(log_gamma_deficit, log_size) + rest -
           stirling_remainder(y, 0).f;
}

} // namespace ranef
