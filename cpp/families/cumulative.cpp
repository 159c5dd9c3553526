// Cumulative (proportional odds and its kin): y is the 0-based category, `extra`
// the number of categories; predictors eta, upper threshold, lower threshold,
//     P(y) = F(upper - eta) - F(lower - eta),
// without the lower end in the first category and the upper in the last.
// With w = upper - lower known to all digits nothing cancels, however far out.
#include "density.hpp"
#include "interval.hpp"

namespace ranef {

namespace {

struct Cumulative {
    static constexpr int predictors = 3;
    Link link;
    static double no_extra(double) { return 0; }
    template <class T>
    T log_density(double y, double categories, const T* eta) const {
        if (!(y >= 0 && y < categories)) return T(-infinity);
        if (categories == 1) return T(0);
        if (y == 0) return log_probability(link, eta[1] - eta[0]).p;
        const T b = eta[2] - eta[0];
        if (y == categories - 1) return log_probability(link, b).q;
        const T w = eta[1] - eta[2];
        return w.value() > 0 ? between(b, w) : T(-infinity);
    }

  private:
    // log(F(b + w) - F(b))
    template <class T>
    T between(const T& b, const T& w) const {
        switch (link) {
        case Link::logit:
            return apply(log_expm1, w) - w - softplus(-b - w) - softplus(b);
        case Link::cloglog:
            return apply(log_hit, b + apply(log_expm1, w)) - exp(b);
        case Link::cauchit:
            return log_angle(b, w) - std::log(pi);
        default:
            return log_normal_interval(b, w);
        }
    }

    // log(atan(b + w) - atan(b)); the tangent of that angle is w / c
    template <class T>
    static T log_angle(const T& b, const T& w) {
        const T c = b * (b + w) + 1.0;
        if (c.value() * 0.3 > w.value()) { // log w stands alone: its derivatives do not cancel
            const T t = w * reciprocal(c);
            return log(w) - log(c) + log(compose(atan_slope(t.value()), t));
        }
        if (-c.value() > w.value()) return log(arctan(w * reciprocal(c)) + pi);
        if (c.value() > w.value()) return log(arctan(w * reciprocal(c)));
        return log(pi / 2 - arctan(c * reciprocal(w)));
    }
    template <class T>
    static T reciprocal(const T& u) {
        const double r = 1 / u.value();
        return compose({r, -r * r, 2 * r * r * r, -6 * r * r * r * r}, u);
    }
    template <class T>
    static T arctan(const T& u) {
        const double x = u.value(), r = 1 / (1 + x * x);
        return compose({std::atan(x), r, -2 * x * r * r, (6 * x * x - 2) * r * r * r}, u);
    }
};

const Registration cumulative("cumulative", linked<Cumulative>, links::threshold, Zero::never);

} // namespace

} // namespace ranef
