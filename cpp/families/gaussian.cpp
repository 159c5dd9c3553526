// Gaussian: predictors mean and log sigma, Var(y) = sigma^2. Censored: y is between
// its lower end (y) and its upper (extra); equal ends are an observation.
#include "density.hpp"
#include "interval.hpp"

namespace ranef {

namespace {

struct Gaussian : Plain {
    static constexpr int predictors = 2;
    Link link;
    static bool has_constant(const Rows&) { return false; }
    static double log_constant(double, double) { return 0; }
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T z = (y - mean(link, eta[0])) * exp(-eta[1]);
        return -0.5 * (z * z) - eta[1] - 0.5 * log_2pi;
    }
};

struct Censored : Gaussian {
    static double no_extra(double y) { return y; }
    template <class T>
    T log_density(double lower, double upper, const T* eta) const {
        if (lower == upper) return Gaussian::log_density(lower, 0, eta);
        if (!(lower < upper)) return T(-infinity);
        const T mu = mean(link, eta[0]), precision = exp(-eta[1]);
        const bool below = lower > -infinity, above = upper < infinity;
        if (below && above)
            return log_normal_interval((lower - mu) * precision, (upper - lower) * precision);
        if (below) return apply(log_normal, (mu - lower) * precision);
        return above ? apply(log_normal, (upper - mu) * precision) : T(0);
    }
};

const Registration gaussian(
    "gaussian", [](Link link) { return linked<Gaussian>(link, Link::identity, inner_gaussian); },
    links::line, Zero::never);
const Registration censored("censored", linked<Censored>, links::line, Zero::never);

} // namespace

} // namespace ranef
