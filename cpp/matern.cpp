#include "matern.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ranef {
namespace {

constexpr double pi = 3.141592653589793238;
constexpr double smallest = 1e-150; // of x whose square is no underflow

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

// log Gamma(x) less (x - 1/2) log x - x + log(2 pi) / 2, small where x is large.
double stirling_rest(double x) {
    if (x < 12.0) // std::lgamma writes its sign where all threads see it
        return std::log(std::tgamma(x)) - (x - 0.5) * std::log(x) + x - 0.5 * std::log(2.0 * pi);
    const double z = 1.0 / (x * x);
    return (1.0 / 12 -
            z * (1.0 / 360 -
                 z * (1.0 / 1260 - z * (1.0 / 1680 - z * (1.0 / 1188 - z * (691.0 / 360360)))))) /
           x;
}

// Sums over the trapezoidal rule for the integral over t of exp(nu t - c(t)),
// c(t) = x cosh t, both measured from the peak, where c is c0 = nu + excess.
struct Moments {
    double step, total = 0.0, t = 0.0, c = 0.0, tt = 0.0, tc = 0.0, cc = 0.0;
};

Moments integrate(double nu, double excess) {
    Moments sum{std::min(0.125, 0.5 / std::sqrt(nu + excess))};
    const auto add = [&](int k) {
        const double t = k * sum.step;
        const double c = (nu + 0.5 * excess) * std::expm1(t) + 0.5 * excess * std::expm1(-t);
        const double w = std::exp(nu * t - c);
        sum.total += w;
        sum.t += w * t;
        sum.c += w * c;
        sum.tt += w * t * t;
        sum.tc += w * t * c;
        sum.cc += w * c * c;
        return nu * t - c > -50.0;
    };
    int right = 0, left = -1;
    while (add(right)) ++right;
    while (add(left)) --left;
    return sum;
}

} // namespace

// 2 K_nu(x) is the integral over the line of exp(nu t - x cosh t): entire in t
// and falling doubly exponentially, so the trapezoidal rule is accurate to
// rounding (Trefethen & Weideman 2014). The derivatives of log K in nu and
// log x are means and covariances of t and -c under that density. Its peak is
// where sinh t = nu / x; nothing large is subtracted there.
Jet matern(const Jet& log_x, const Jet& nu) {
    const double n = nu.v, x = std::exp(log_x.v);
    if (x < smallest) return constant(1.0);
    const double c0 = std::hypot(x, n), excess = x * x / (n + c0);
    const double log_ratio = std::log1p(0.5 * excess / n);
    const double peak =
        std::log(2.0) + 0.5 * std::log(0.5 * n / pi) - stirling_rest(n) + n * log_ratio - excess;
    if (!(peak > -800.0)) return constant(0.0);

    const Moments sum = integrate(n, excess);
    const double t = sum.t / sum.total, c = sum.c / sum.total;
    const double tt = sum.tt / sum.total - t * t, tc = sum.tc / sum.total - t * c;
    const double cc = sum.cc / sum.total - c * c;

    const auto [psi, psi1] = polygamma(n);
    const double value = std::exp(peak + std::log(0.5 * sum.step * sum.total));
    const double d_nu = std::log(n) - psi + log_ratio + t, d_x = -excess - c;
    const double d_nu_nu = tt - psi1 + d_nu * d_nu, d_x_nu = 1.0 - tc + d_x * d_nu;
    const double d_x_x = cc - c0 - c + d_x * d_x;
    const Jet relative{1.0, d_x * log_x.a + d_nu * nu.a, d_x * log_x.b + d_nu * nu.b,
                       d_x * log_x.ab + d_nu * nu.ab + d_x_x * log_x.a * log_x.b +
                           d_x_nu * (log_x.a * nu.b + log_x.b * nu.a) + d_nu_nu * nu.a * nu.b};
    return value * relative;
}

} // namespace ranef
