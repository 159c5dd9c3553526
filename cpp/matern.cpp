#include "matern.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ranef {
namespace {

// psi(x) and psi'(x), x > 0: recurrence to x >= 12, then the asymptotic series.
std::pair<double, double> polygamma(double x) {
    double psi = 0.0, psi1 = 0.0;
    for (; x < 12.0; x += 1.0) {
        psi -= 1.0 / x;
        psi1 += 1.0 / (x * x);
    }
    const double z = 1.0 / (x * x);
    psi +=
        std::log(x) - 0.5 / x -
        z * (1.0 / 12 -
             z * (1.0 / 120 -
                  z * (1.0 / 252 -
                       z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12)))))));
    psi1 += 1.0 / x + 0.5 * z +
            z / x *
                (1.0 / 6 -
                 z * (1.0 / 30 -
                      z * (1.0 / 42 -
                           z * (1.0 / 30 - z * (5.0 / 66 - z * (691.0 / 2730 - z * 7 / 6))))));
    return {psi, psi1};
}

// Sums over the trapezoidal rule for the integral over t of
// exp(nu t - c(t)), c(t) = x cosh t, both measured from the peak (t0, c0).
struct Moments {
    double step, total = 0.0, t = 0.0, c = 0.0, tt = 0.0, tc = 0.0, cc = 0.0;
};

Moments integrate(double log_x, double nu, double t0, double c0) {
    Moments sum{std::min(0.125, 0.5 / std::sqrt(c0))};
    const auto add = [&](int k) {
        const double t = k * sum.step;
        const double c = 0.5 * (std::exp(log_x + t0 + t) + std::exp(log_x - t0 - t)) - c0;
        const double w = std::exp(nu * t - c);
        sum.total += w;
        sum.t += w * t;
        sum.c += w * c;
        sum.tt += w * t * t;
        sum.tc += w * t * c;
        sum.cc += w * c * c;
        return nu * t - c > -50.0;
    };
    for (int k = 0; add(k); ++k) {
    }
    for (int k = -1; add(k); --k) {
    }
    return sum;
}

} // namespace

// 2 K_nu(x) is the integral over the line of exp(nu t - x cosh t): entire in t
// and falling doubly exponentially, so the trapezoidal rule is accurate to
// rounding (Trefethen & Weideman 2014). The derivatives of log K in nu and
// log x are means and covariances of t and -c under that density. Its peak is
// where sinh t0 = nu / x.
Jet matern(const Jet& log_x, const Jet& nu) {
    const double n = nu.v, x = std::exp(log_x.v);
    if (x == 0.0) return constant(1.0);
    const double c0 = std::hypot(x, n), log_sum = std::log(n + c0);
    const double peak = (1.0 - n) * std::log(2.0) - std::lgamma(n) + n * log_sum - c0;
    if (!(peak > -800.0)) return constant(0.0);

    const Moments sum = integrate(log_x.v, n, log_sum - log_x.v, c0);
    const double t = sum.t / sum.total, c = sum.c / sum.total;
    const double tt = sum.tt / sum.total - t * t, tc = sum.tc / sum.total - t * c;
    const double cc = sum.cc / sum.total - c * c;

    const auto [psi, psi1] = polygamma(n);
    const double value = std::exp(peak + std::log(0.5 * sum.step * sum.total));
    const double d_nu = log_sum + t - std::log(2.0) - psi, d_x = n - c0 - c;
    const double d_nu_nu = tt - psi1 + d_nu * d_nu, d_x_nu = 1.0 - tc + d_x * d_nu;
    const double d_x_x = cc - c0 - c + d_x * d_x;
    const Jet relative{1.0, d_x * log_x.a + d_nu * nu.a, d_x * log_x.b + d_nu * nu.b,
                       d_x * log_x.ab + d_nu * nu.ab + d_x_x * log_x.a * log_x.b +
                           d_x_nu * (log_x.a * nu.b + log_x.b * nu.a) + d_nu_nu * nu.a * nu.b};
    return value * relative;
}

} // namespace ranef
