// The inner loops of most fits.
#include "inner.hpp"

#include "lanes.hpp"
#include "large_counts.hpp"

namespace ranef {

namespace {

// With e = exp(-|eta|): log p = min(eta, 0) - log(1 + e), log q = min(-eta, 0) - log(1 + e).
RANEF_CLONES void binomial_logit(size_t rows, const double* __restrict y,
                                 const double* __restrict trials, const double* __restrict eta,
                                 double* __restrict v, double* __restrict d1, double* __restrict d2,
                                 double* __restrict d3) {
    for (size_t i = 0; i < rows; ++i) {
        const double x = eta[i], n = trials[i], s = y[i], f = n - s;
        const double size = std::fabs(x), e = lanes::exp(lanes::clamp(-size, -708, 0));
        const double r = 1 / (1 + e), er = e * r;
        const double p = x > 0 ? r : er, q = x > 0 ? er : r;
        const double value = -(x > 0 ? f : s) * size - n * lanes::log1p(e);
        const bool allowed = (s >= 0) & (f >= 0) & (value > -infinity);
        const double w = allowed ? n * (er * r) : 0.0;
        v[i] = allowed ? value : -infinity;
        d1[i] = allowed ? s * q - f * p : 0.0;
        d2[i] = -w;
        d3[i] = allowed ? w * (p - q) : 0.0;
    }
}

RANEF_CLONES void poisson_log(size_t rows, const double* __restrict y, const double* __restrict eta,
                              double* __restrict v, double* __restrict d1, double* __restrict d2,
                              double* __restrict d3) {
    for (size_t i = 0; i < rows; ++i) {
        const double x = eta[i], mu = lanes::exp(lanes::clamp(x, -708, 709));
        const bool allowed = (y[i] >= 0) & (y[i] < infinity) & (x <= 709) & (x > -infinity);
        v[i] = allowed ? y[i] * x - mu : -infinity;
        d1[i] = allowed ? y[i] - mu : 0.0;
        d2[i] = allowed ? -mu : 0.0;
        d3[i] = allowed ? -mu : 0.0;
    }
}

RANEF_CLONES void gaussian_identity(size_t rows, const double* __restrict y,
                                    const double* __restrict eta, const double* __restrict ls,
                                    double* __restrict v, double* __restrict d1,
                                    double* __restrict d2, double* __restrict d3) {
    for (size_t i = 0; i < rows; ++i) {
        const double s = lanes::exp(lanes::clamp(-ls[i], -708, 709)), z = (y[i] - eta[i]) * s;
        const double value = -0.5 * (z * z) - ls[i] - 0.5 * log_2pi;
        const bool allowed = (value > -infinity) & (std::fabs(ls[i]) <= 708);
        v[i] = allowed ? value : -infinity;
        d1[i] = allowed ? z * s : 0.0;
        d2[i] = allowed ? -(s * s) : 0.0;
        d3[i] = 0;
    }
}

} // namespace

void inner_binomial_logit(const Inner& r) {
    binomial_logit(r.n, r.y, r.extra, r.eta, r.v, r.d1, r.d2, r.d3);
}

void inner_poisson_log(const Inner& r) {
    poisson_log(r.n, r.y, r.eta, r.v, r.d1, r.d2, r.d3);
    for (size_t i = 0; i < r.n; ++i)
        if (r.y[i] > large_count && r.v[i] > -infinity)
            r.v[i] = poisson_deviance(r.y[i], r.eta[i] - std::log(r.y[i]));
}

void inner_gaussian(const Inner& r) {
    gaussian_identity(r.n, r.y, r.eta, r.eta1, r.v, r.d1, r.d2, r.d3);
}

} // namespace ranef
