// Skew normal (Azzalini 1985) by its mean and standard deviation: predictors mean, log sigma
// and the shape alpha; Var(y) = sigma^2. With delta = alpha / sqrt(1 + alpha^2) and omega =
// sigma / sqrt(1 - 2 delta^2 / pi) the density is 2 / omega phi(z) Phi(alpha z), where
// z = (y - mean) / omega + delta sqrt(2 / pi).
#include "density.hpp"

namespace ranef {

namespace {

struct SkewNormal : Plain {
    static constexpr int predictors = 3;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T &log_sigma = eta[1], &alpha = eta[2], square = alpha * alpha;
        const T all = log1p(square), left = log1p((1 - 2 / pi) * square);
        const T log_omega = log_sigma + 0.5 * (all - left);
        const T shift = std::sqrt(2 / pi) * (alpha * exp(-0.5 * all));
        const T z = (y - mean(link, eta[0])) * exp(-log_omega) + shift;
        return std::log(2.0) - 0.5 * log_2pi - log_omega - 0.5 * (z * z) +
               apply(log_normal, alpha * z);
    }
};

const Registration skew_normal("skewnormal", linked<SkewNormal>, links::line, Zero::never);

} // namespace

} // namespace ranef
