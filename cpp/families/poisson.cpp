// Poisson: one predictor, the mean's; Var(y) = mu. Truncated: given that y > 0.
#include "counts.hpp"

namespace ranef {

namespace {

struct Poisson : Plain {
    static constexpr int predictors = 1;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]);
        T r = -exp(log_mu) - log_factorial(y);
        if (y > 0) r += y * log_mu;
        return r;
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        return log_density(y, 0, eta) - apply(log_hit, log_mean(link, eta[0]));
    }
};

} // namespace

std::unique_ptr<Family> poisson(Link link) {
    return linked<Poisson>(link);
}
std::unique_ptr<Family> truncated_poisson(Link link) {
    return truncated<Poisson>(link);
}

} // namespace ranef
