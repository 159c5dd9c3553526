// Student t: predictors mean, log sigma (the scale) and log df;
// Var(y) = sigma^2 df / (df - 2) where df > 2.
#include "density.hpp"

namespace ranef {

namespace {

struct Student : Plain {
    static constexpr int predictors = 3;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T d = y - mean(link, eta[0]), &log_sigma = eta[1], &log_df = eta[2];
        const T constant = apply(half_step, log_df - std::log(2.0)) - log_sigma - 0.5 * log_2pi;
        const double log_d = std::log(std::fabs(d.value()));
        if (2 * (log_d - log_sigma.value()) > log_df.value()) {
            const T r = 2 * (log(d.value() < 0 ? -d : d) - log_sigma) - log_df;
            return constant - 0.5 * ((exp(log_df) + 1) * softplus(r));
        }
        const T z = d * exp(-log_sigma), z2 = z * z, r = z2 * exp(-log_df);
        return constant - 0.5 * ((z2 + r) * apply(log1p_slope, r));
    }
};

const Registration student("t", linked<Student>, links::line, Zero::never);

} // namespace

} // namespace ranef
