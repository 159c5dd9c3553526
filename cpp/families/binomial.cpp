// Binomial: y successes of `extra` trials (1 where there is no extra). One
// predictor, the probability's.
// Beta-binomial (Morris 1997): predictors mean and log phi,
// Var(y) = n mu (1 - mu) (phi + n) / (phi + 1); its binomial limit is exact.
#include "density.hpp"

namespace ranef {

namespace {

double log_choose(double n, double y) {
    if (!(n > 1 && y >= 0 && y <= n)) return 0;
    const double log_ways = log_factorial(n) - log_factorial(y) - log_factorial(n - y);
    return std::isnan(log_ways) ? -infinity : log_ways; // beyond a double
}

template <class T>
T log_successes(double y, double n, const LogProbability<T>& l) {
    T r(log_choose(n, y));
    if (y > 0) r += y * l.p;
    if (y < n) r += (n - y) * l.q;
    return r;
}

struct Binomial {
    static constexpr int predictors = 1;
    Link link;
    static double no_extra(double) { return 1; }
    static bool has_constant(const Rows& rows) { return rows.extra; }
    static double log_constant(double y, double n) { return log_choose(n, y); }
    template <class T>
    T log_density(double y, double n, const T* eta) const {
        if (!(y >= 0 && y <= n)) return T(-infinity);
        return log_successes(y, n, log_probability(link, eta[0]));
    }
};

struct BetaBinomial {
    static constexpr int predictors = 2;
    Link link;
    static double no_extra(double) { return 1; }
    template <class T>
    T log_density(double y, double n, const T* eta) const {
        if (!(y >= 0 && y <= n)) return T(-infinity);
        const auto l = log_probability(link, eta[0]);
        return log_successes(y, n, l) + rising(y, l.p + eta[1]) + rising(n - y, l.q + eta[1]) -
               rising(n, eta[1]);
    }

  private:
    template <class T>
    static T rising(double y, const T& log_size) {
        if (y < 2) return T(0);
        return apply([y](double l, int order) { return log_rising(l, order, y); }, log_size);
    }
};

const Registration binomial(
    "binomial", [](Link link) { return linked<Binomial>(link, Link::logit, inner_binomial_logit); },
    links::unit, Zero::may);
const Registration betabinomial("betabinomial", linked<BetaBinomial>, links::unit, Zero::may);

} // namespace

} // namespace ranef
