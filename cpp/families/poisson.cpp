// Poisson: one predictor, the mean's; Var(y) = mu. Truncated: given that y > 0.
#include "density.hpp"
#include "large_counts.hpp"

namespace ranef {

namespace {

struct Poisson : Plain {
    static constexpr int predictors = 1;
    Link link;
    static bool has_constant(const Rows&) { return true; }
    static double log_constant(double y, double) {
        if (y > large_count) return -log_factorial_deficit(y);
        return y > 1 ? -log_factorial(y) : 0;
    }
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        const T log_mu = log_mean(link, eta[0]);
        if (y > large_count) return large(y, log_mu);
        T r = -exp(log_mu) - log_factorial(y);
        if (y > 0) r += y * log_mu;
        return r;
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]);
        if (y > large_count) return large(y, log_mu) - apply(log_hit, log_mu);
        T r = -exp(log_mu) - apply(log_hit_over, log_mu) - log_factorial(y);
        if (y > 1) r += (y - 1) * log_mu;
        return r;
    }

  private:
    template <class T>
    static T large(double y, const T& log_mu) {
        return poisson_deviance(y, log_mu - std::log(y)) - log_factorial_deficit(y);
    }
};

const Registration poisson(
    "poisson", [](Link link) { return linked<Poisson>(link, Link::log, inner_poisson_log); },
    links::ray, Zero::may);
const Registration truncated_poisson("truncated_poisson", truncated<Poisson>, links::ray,
                                     Zero::may);

} // namespace

} // namespace ranef
