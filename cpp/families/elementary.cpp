// Elementary combinations whose plain form cancels or overflows.
#include <cmath>

#include "curves.hpp"
#include "special.hpp"

namespace ranef {

Curve log1p_slope(double x, int order) {
    Curve c;
    if (std::fabs(x) < 0.1) { // the sum of (-x)^n / (n + 1)
        double power = 1;
        for (int n = 0; n < 18; ++n, power *= -x) {
            c.f += power / (n + 1);
            if (order > 0) c.f1 -= power * (n + 1) / (n + 2);
            if (order > 1) c.f2 += power * (n + 1) * (n + 2) / (n + 3);
            if (order > 2) c.f3 -= power * (n + 1) * (n + 2) * (n + 3) / (n + 4);
        }
        return c;
    }
    const double r = 1 / (1 + x);
    c.f = std::log1p(x) / x;
    c.f1 = (r - c.f) / x;
    c.f2 = (-r * r - 2 * c.f1) / x;
    c.f3 = (2 * r * r * r - 3 * c.f2) / x;
    return c;
}

Curve atan_slope(double x) {
    const double x2 = x * x;
    Curve c{1, 0, 0, 0};
    double power = 1; // x^(2n - 2)
    for (int n = 1; n <= 18; ++n) {
        const double k = 2 * n, s = (n % 2 ? -power : power) / (k + 1);
        c.f += s * x2;
        c.f1 += k * s * x;
        c.f2 += k * (k - 1) * s;
        if (x != 0) c.f3 += k * (k - 1) * (k - 2) * (s / x);
        power *= x2;
    }
    return c;
}

namespace {

// The lower tail by Laplace's continued fraction of Mills' ratio, z = -x >= 5:
// r = z + d, d = 1 / (z + e), e = 2 / (z + k), k = 3 / (z + 4 / (z + ...)).
Curve normal_tail(double x) {
    const double z = -x;
    double fraction = 0;
    const int depth = z < 10 ? 80 : 25;
    for (int n = depth; n > 3; --n) fraction = n / (z + fraction);
    const double k = 3 / (z + fraction), e = 2 / (z + k), d = 1 / (z + e), r = z + d;
    return {-0.5 * z * z - 0.5 * log_2pi - std::log(r), r, -r * d, r * d * d * e * (k - e)};
}

} // namespace

Curve log_normal(double x, int) {
    if (x < -5) return normal_tail(x);
    const double q = 0.5 * std::erfc(x * std::sqrt(0.5)), p = 0.5 * std::erfc(-x * std::sqrt(0.5));
    const double r = std::exp(-0.5 * x * x - 0.5 * log_2pi) / p, d = x + r;
    if (x > 40) return {};
    return {x > 0 ? std::log1p(-q) : std::log(p), r, -r * d, r * (d * (d + r) - 1)};
}

Curve log_hit_over(double s, int order) {
    const double u = std::exp(s);
    if (!(u < 0.5)) {
        Curve c = log_hit(s, order);
        c.f -= s;
        c.f1 -= 1;
        return c;
    }
    // u / (exp(u) - 1) by Bernoulli's numbers: the sum of b_n u^n
    constexpr double b[] = {-1.0 / 2, 1.0 / 12,       0, -1.0 / 720,
                            0,        1.0 / 30240,    0, -1.0 / 1209600,
                            0,        1.0 / 47900160, 0, -691.0 / 1307674368000.0};
    Curve c;
    double power = 1;
    for (int n = 1; n <= 12; ++n) {
        power *= u;
        const double t = b[n - 1] * power;
        c.f += t / n;
        c.f1 += t;
        c.f2 += n * t;
        c.f3 += n * n * t;
    }
    return c;
}

Curve log_hit(double s, int order) {
    const double u = std::exp(s);
    if (u > 745) return {};
    if (u < 0.5) {
        Curve c = log_hit_over(s, order);
        c.f += s;
        c.f1 += 1;
        return c;
    }
    const double w = u / std::expm1(u), v = 1 - u - w, w1 = w * v;
    return {std::log1p(-std::exp(-u)), w, w1, w1 * v - w * (u + w1)};
}

Curve log_expm1(double s, int) {
    const double m = std::expm1(-s), v = -1 / m; // 1 / (1 - exp(-s))
    const double e = std::exp(-s), v1 = -e * v * v;
    return {s + std::log(-m), v, v1, v1 * (1 - 2 * v)};
}

double relative_entropy(double u) {
    if (std::fabs(u) > 0.1) return (1 + u) * std::log1p(u) - u;
    double sum = 0;
    for (int n = 17; n >= 2; --n) sum = 1.0 / (n * (n - 1)) - u * sum;
    return u * u * sum;
}

} // namespace ranef
