// The gamma function's logarithm, and differences of it that do not cancel.
#include <array>
#include <cmath>

#include "curves.hpp"
#include "special.hpp"

namespace ranef {

namespace {

constexpr double shifted = 15; // from here on Stirling's series has all digits

// B_{2k} / (2k (2k - 1))
constexpr double stirling[] = {1.0 / 12,    -1.0 / 360,       1.0 / 1260,
                               -1.0 / 1680, 1.0 / 1188,       -691.0 / 360360,
                               1.0 / 156,   -3617.0 / 122400, 43867.0 / 244188};
constexpr int terms = sizeof(stirling) / sizeof(double);

constexpr int factorials = 171;

std::array<double, factorials> make_factorials() {
    std::array<double, factorials> table{};
    double product = 1;
    for (int i = 1; i < factorials; ++i) {
        product *= i;
        table[i] = std::log(product);
    }
    return table;
}

const std::array<double, factorials> log_factorials = make_factorials();

} // namespace

// The sum of c_k x^(1 - 2k).
Curve stirling_remainder(double x, int order) {
    const double r = 1 / x, r2 = r * r;
    Curve c;
    for (int k = terms - 1; k >= 0; --k) {
        const double p = 2 * k + 1, s = stirling[k];
        c.f = c.f * r2 + s;
        if (order > 0) c.f1 = c.f1 * r2 - p * s;
        if (order > 1) c.f2 = c.f2 * r2 + p * (p + 1) * s;
        if (order > 2) c.f3 = c.f3 * r2 - p * (p + 1) * (p + 2) * s;
    }
    return {c.f * r, c.f1 * r2, c.f2 * r2 * r, c.f3 * r2 * r2};
}

Curve log_gamma(double x, int order) {
    Curve c;
    double product = 1;
    while (x < shifted) {
        product *= x;
        const double r = 1 / x;
        if (order > 0) c.f1 -= r;
        if (order > 1) c.f2 += r * r;
        if (order > 2) c.f3 -= 2 * r * r * r;
        x += 1;
    }
    const Curve s = stirling_remainder(x, order);
    const double l = std::log(x), r = 1 / x;
    c.f = (x - 0.5) * l - x + 0.5 * log_2pi + s.f - std::log(product);
    if (order > 0) c.f1 += l - 0.5 * r + s.f1;
    if (order > 1) c.f2 += r + 0.5 * r * r + s.f2;
    if (order > 2) c.f3 += -r * r - r * r * r + s.f3;
    return c;
}

double log_factorial(double y) {
    return y < factorials ? log_factorials[y > 0 ? static_cast<int>(y) : 0] : log_gamma(y + 1, 0).f;
}

// log Gamma(1 + a) - log a
Curve log_gamma_exp(double l, int order) {
    const double a = std::exp(l);
    const Curve g = log_gamma(1 + a, order);
    const double g1 = a * g.f1, g2 = a * a * g.f2, g3 = a * a * a * g.f3;
    return {g.f - l, g1 - 1, g1 + g2, g1 + 3 * g2 + g3};
}

Curve log1p_ratio(double t, int order) {
    const double x = std::exp(t);
    Curve c;
    if (x < 0.1) { // the sum of (-x)^n / (n + 1); a derivative in t brings down n
        double power = 1;
        for (int n = 1; n <= 17; ++n) {
            power *= -x;
            const double s = power / (n + 1);
            c.f += s;
            if (order > 0) c.f1 += n * s;
            if (order > 1) c.f2 += n * n * s;
            if (order > 2) c.f3 += n * n * n * s;
        }
        return c;
    }
    c = log1p_over(t, order);
    c.f -= 1;
    return c;
}

Curve log1p_over(double t, int order) {
    const double x = std::exp(t);
    if (x < 0.1) {
        Curve c = log1p_ratio(t, order);
        c.f += 1;
        return c;
    }
    if (std::isinf(x)) {
        const double e = std::exp(-t);
        return {t * e, (1 - t) * e, (t - 2) * e, (3 - t) * e};
    }
    const double r = 1 / (1 + x), rxr = r * (x * r);
    Curve c;
    c.f = std::log1p(x) / x;
    c.f1 = r - c.f;
    c.f2 = -rxr - c.f1;
    c.f3 = -rxr * (r - x * r) - c.f2;
    return c;
}

namespace {

// The sum of log(1 + j exp(-l)) over 1 <= j < y.
Curve short_rising(double l, int order, int y) {
    Curve c;
    const double r = std::exp(l);
    if (l < -50) {
        for (int j = 1; j < y; ++j) {
            const Curve s = softplus_curve(std::log(static_cast<double>(j)) - l);
            c.f += s.f;
            c.f1 -= s.f1;
            c.f2 += s.f2;
            c.f3 -= s.f3;
        }
        return c;
    }
    if (l > 30) { // products of 1 + j / r would lose j / r
        const double q = std::exp(-l);
        for (int j = 1; j < y; ++j) {
            const double s = j * q;
            c.f += std::log1p(s);
            c.f1 -= s / (1 + s);
            c.f2 += s / ((1 + s) * (1 + s));
            c.f3 -= s * (1 - s) / ((1 + s) * (1 + s) * (1 + s));
        }
        return c;
    }
    double product = 1;
    for (int j = 1; j < y; ++j) {
        const double d = 1 / (j + r), s = j * d, q = r * d;
        if (r > 1e3) {
            c.f += std::log1p(j / r);
        } else {
            product *= 1 + j / r;
            if (product > 1e200) {
                c.f += std::log(product);
                product = 1;
            }
        }
        if (order > 0) c.f1 -= s;
        if (order > 1) c.f2 += s * q;
        if (order > 2) c.f3 -= s * q * (q - s);
    }
    if (product != 1) c.f += std::log(product);
    return c;
}

// By Stirling's series, r = exp(l) >= shifted.
Jet<1, 3> long_rising(const Jet<1, 3>& l, double y) {
    const Jet<1, 3> t = std::log(y) - l, r = exp(l);
    return y * apply(log1p_ratio, t) + (y - 0.5) * softplus(t) + apply(stirling_remainder, r + y) -
           apply(stirling_remainder, r);
}

} // namespace

Curve log_rising(double l, int order, double y) {
    if (y < 2) return {};
    if (y <= 24) return short_rising(l, order, static_cast<int>(y));
    using J = Jet<1, 3>;
    const J x = J::variable(l, 0);
    const double r = std::exp(l);
    J v;
    if (r >= shifted) {
        if (l > 600) return short_rising(l, order, 25); // all of it is below 1e-200
        v = long_rising(x, y);
    } else {
        const int m = static_cast<int>(shifted - r) + 1;
        const Curve head = short_rising(l, 3, m);
        const J log1p_m = softplus(std::log(static_cast<double>(m)) - x);
        v = compose(head, x) + long_rising(x + log1p_m, y - m) + (y - m) * log1p_m;
    }
    return {v.d[0], v.d[1], v.d[2], v.d[3]};
}

Curve log_gamma_deficit(double l, int order) {
    const double k = std::exp(l);
    if (k >= shifted) {
        using J = Jet<1, 3>;
        const J x = J::variable(l, 0);
        const J v = 0.5 * x - 0.5 * log_2pi - apply(stirling_remainder, exp(x));
        return {v.d[0], v.d[1], v.d[2], v.d[3]};
    }
    const Curve g = log_gamma_exp(l, order);
    const double kl = l < -745 ? 0 : k * l;
    return {kl - k - g.f, kl - g.f1, kl + k - g.f2, kl + 2 * k - g.f3};
}

Curve half_step(double l, int order) {
    using J = Jet<1, 3>;
    const J t = J::variable(l, 0), x = exp(t);
    J v;
    if (l > 600) return {};
    if (x.value() >= shifted)
        v = 0.5 * apply(log1p_ratio, std::log(0.5) - t) + apply(stirling_remainder, x + 0.5) -
            apply(stirling_remainder, x);
    else
        v = apply([](double r, int o) { return log_gamma(r, o); }, x + 0.5) -
            compose(log_gamma_exp(l, order), t) - 0.5 * t;
    return {v.d[0], v.d[1], v.d[2], v.d[3]};
}

} // namespace ranef
