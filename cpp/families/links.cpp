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

} // namespace

Link parse_link(const std::string& name) {
    static const char* const names[] = {"identity", "log",     "logit",   "probit",
                                        "cloglog",  "cauchit", "inverse", "sqrt"};
    for (int i = 0; i < 8; ++i)
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
    return {nan, nan, nan, nan};
}

Curve log_probability_curve(Link link, double eta, bool upper) {
    switch (link) {
    case Link::logit:
        return upper ? negative(softplus_curve(eta)) : negative(reflected(softplus_curve(-eta)));
    default:
        return {nan, nan, nan, nan};
    }
}

} // namespace ranef
