// Poisson: one predictor, the mean's; Var(y) = mu. Truncated: given that y > 0.
#include "density.hpp"

namespace ranef {

namespace {

struct Poisson : Plain {
    static constexpr int predictors = 1;
    Link link;
    static bool has_constant(const Rows&) { return true; }
    static double log_constant(double y, double) { return y > 1 ? -log_factorial(y) : 0; }
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        const T log_mu = log_mean(link, eta[0]);
        T r = -exp(log_mu) - log_factorial(y);
        if (y > 0) r += y * log_mu;
        return r;
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]);
        T r = -exp(log_mu) - apply(log_hit_over, log_mu) - log_factorial(y);
        if (y > 1) r += (y - 1) * log_mu;
        return r;
    }
};

const Registration poisson(
    "poisson", [](Link link) { return linked<Poisson>(link, Link::log, inner_poisson_log); },
    links::ray, Zero::may);
const Registration truncated_poisson("truncated_poisson", truncated<Poisson>, links::ray,
                                     Zero::may);

} // namespace

} // namespace ranef
