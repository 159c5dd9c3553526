// Poisson: one predictor, the mean's; Var(y) = mu.
#include "factory.hpp"
#include "links.hpp"
#include "rowwise.hpp"

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
};

} // namespace

std::unique_ptr<Family> poisson(Link link) {
    Poisson f;
    f.link = link;
    return std::make_unique<Rowwise<Poisson>>(f);
}

} // namespace ranef
