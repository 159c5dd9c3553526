// Generalised Poisson (Consul and Famoye 1992): predictors mean and log phi,
// Var(y) = mu phi. With q = phi^(-1/2), theta = mu q and lambda = 1 - q,
//     log theta + (y - 1) log(theta + lambda y) - theta - lambda y - log y!.
// For phi < 1 the counts end where theta + lambda y reaches zero.
// Truncated: given that y > 0.
#include "density.hpp"

namespace ranef {

namespace {

struct GeneralisedPoisson : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        const T log_theta = log_theta_of(eta), theta = exp(log_theta);
        if (!(y > 0)) return -theta;
        const T more = -y * expm1(-0.5 * eta[1]), rate = theta + more;
        if (!(rate.value() > 0)) return T(-infinity);
        T r = log_theta - rate - log_factorial(y);
        if (y > 1) r += (y - 1) * log(rate);
        return r;
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        return log_density(y, 0, eta) - apply(log_hit, log_theta_of(eta));
    }

  private:
    template <class T>
    T log_theta_of(const T* eta) const {
        return log_mean(link, eta[0]) - 0.5 * eta[1];
    }
};

const Registration genpois("genpois", linked<GeneralisedPoisson>, links::ray, Zero::may);
const Registration truncated_genpois("truncated_genpois", truncated<GeneralisedPoisson>, links::ray,
                                     Zero::may);

} // namespace

} // namespace ranef
