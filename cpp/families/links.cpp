// Links of the mean.
#include "links.hpp"

#include <stdexcept>

namespace ranef {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Curve reflected(const Curve& c) {
    return {c.f, -c.f1, c.f2, -c.f3};
}

Curve negative(const Curve& c) {
    return {-c.f, -c.f1, -c.f2, -c.f3};
}

Curve log1p_negative(double x) {
    return reflected(log1p_curve(-x));
}

} // namespace

Link parse_link(const std::string& name) {
    static const char* const names[] = {"identity", "log",     "logit", "probit", "cloglog",
                                        "cauchit",  "inverse", "sqrt",  "1/mu^2"};
    for (int i = 0; i < 9; ++i)
        if (name == names[i]) return static_cast<Link>(i);
    throw std::invalid_argument("no link '" + name + "'");
}

Curve mean_curve(Link link, double eta) {
    const double r = 1 / eta;
    switch (link) {
    case Link::identity:
        return {eta, 1, 0, 0};
    case Link::log:
        return exp_curve(eta);
    case Link::inverse:
        if (eta == 0) return {nan, nan, nan, nan};
        return {r, -r * r, 2 * r * r * r, -6 * r * r * r * r};
    case Link::sqrt:
        return {eta * eta, 2 * eta, 2, 0};
    case Link::logit:
        return expit_curve(eta);
    case Link::inverse_square: {
        if (!(eta > 0)) return {nan, nan, nan, nan};
        const double m = std::sqrt(r);
        return {m, -0.5 * m * r, 0.75 * m * r * r, -1.875 * m * r * r * r};
    }
    default:
        return {nan, nan, nan, nan};
    }
}

Curve log_mean_curve(Link link, double eta) {
    if (link == Link::log) return {eta, 1, 0, 0};
    if (link == Link::sqrt) {
        const double r = 1 / eta;
        return {2 * std::log(std::fabs(eta)), 2 * r, -2 * r * r, 4 * r * r * r};
    }
    if (!(eta > 0)) return {nan, nan, nan, nan};
    if (link == Link::identity) return log_curve(eta);
    if (link == Link::inverse) return negative(log_curve(eta));
    if (link == Link::inverse_square) {
        const Curve c = log_curve(eta);
        return {-0.5 * c.f, -0.5 * c.f1, -0.5 * c.f2, -0.5 * c.f3};
    }
    return {nan, nan, nan, nan};
}

namespace {

// log F of the standard Cauchy distribution.
Curve log_cauchy(double x) {
    const double upper = std::atan2(1.0, x) / pi;
    const double f = x < 0 ? std::log(std::atan2(1.0, -x) / pi) : std::log1p(-upper);
    const double w = 1 + x * x, g = std::isinf(w) ? 0 : 1 / (pi * w * std::exp(f));
    const double q = std::isinf(w) ? 2 / x : 2 * x / w;
    const double q1 = std::isinf(w) ? 0 : 2 / w - q * q;
    const double f2 = -g * (q + g);
    return {f, g, f2, -f2 * (q + g) - g * (q1 + f2)};
}

// log(1 - exp(x)), x < 0.
Curve log1mexp(double x) {
    const double e = std::exp(x), m = std::expm1(x), v = -e / m;
    return {x < -0.7 ? std::log1p(-e) : std::log(-m), -v, -v * (1 + v), -v * (1 + v) * (1 + 2 * v)};
}

} // namespace

Curve log_probability_curve(Link link, double eta, bool upper) {
    switch (link) {
    case Link::logit:
        return upper ? negative(softplus_curve(eta)) : negative(reflected(softplus_curve(-eta)));
    case Link::probit:
        return upper ? reflected(log_normal(-eta, 3)) : log_normal(eta, 3);
    case Link::cauchit:
        return upper ? reflected(log_cauchy(-eta)) : log_cauchy(eta);
    case Link::cloglog:
        return upper ? negative(exp_curve(eta)) : log_hit(eta, 3);
    case Link::log:
        if (!(eta <= 0)) break;
        return upper ? log1mexp(eta) : Curve{eta, 1, 0, 0};
    case Link::identity:
        if (!(eta >= 0 && eta <= 1)) break;
        return upper ? log1p_negative(eta) : log_curve(eta);
    default:
        break;
    }
    return {nan, nan, nan, nan};
}

} // namespace ranef
