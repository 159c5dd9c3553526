// Bell (Castellares, Ferrari & Lemonte 2018, Appl. Math. Model. 56): one predictor, the mean's.
// P(y) = theta^y exp(1 - exp(theta)) B_y / y!, mean theta exp(theta), B_y Bell's numbers;
// Var(y) = mu (1 + theta). Truncated: given that y > 0.
#include <vector>

#include "density.hpp"

namespace ranef {

namespace {

// log theta of l = log mu, theta + log theta = l.
Curve log_theta(double l) {
    double w = l < 0 ? l : std::log1p(l); // log theta
    if (l < -40) return {l - std::exp(l), 1, -std::exp(l), -std::exp(l)};
    for (int i = 0; i < 50; ++i) {
        const double theta = std::exp(w), step = (theta + w - l) / (1 + theta);
        w -= step;
        if (std::fabs(step) <= 1e-16 * (1 + std::fabs(w))) break;
    }
    const double theta = std::exp(w), r = 1 / (1 + theta);
    const double share = theta * r;
    return {w, r, -share * r * r, -share * (1 - 2 * theta) * r * r * r * r};
}

// log B_n by Dobinski's sum of k^n / k! over k, over e, outwards from its largest term.
double log_bell_sum(double n) {
    if (n < 2) return 0;
    const double k0 = std::max(1.0, std::round(std::exp(log_theta(std::log(n)).f)));
    const double peak = std::max(1.0, std::round(n / k0));
    auto term = [n](double k) { return n * std::log(k) - log_factorial(k); };
    const double top = term(peak);
    double sum = 1;
    for (double k = peak + 1;; ++k) {
        const double t = term(k) - top;
        sum += std::exp(t);
        if (t < -45) break;
    }
    for (double k = peak - 1; k >= 1; --k) {
        const double t = term(k) - top;
        sum += std::exp(t);
        if (t < -45) break;
    }
    return top + std::log(sum) - 1;
}

double log_bell(double n) {
    constexpr int known = 1024;
    static const std::vector<double> table = [] {
        std::vector<double> out(known);
        for (int i = 0; i < known; ++i) out[i] = log_bell_sum(i);
        return out;
    }();
    return n < known ? table[static_cast<size_t>(n)] : log_bell_sum(n);
}

struct Bell : Plain {
    static constexpr int predictors = 1;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        const T log_mu = log_mean(link, eta[0]), w = compose(log_theta(log_mu.value()), log_mu);
        return density(y, w);
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]), w = compose(log_theta(log_mu.value()), log_mu);
        return density(y, w) - apply(log_hit, apply(log_expm1, exp(w)));
    }

  private:
    template <class T>
    static T density(double y, const T& w) {
        T r = -expm1(exp(w)) + (log_bell(y) - log_factorial(y));
        if (y > 0) r += y * w;
        return r;
    }
};

const Registration bell("bell", linked<Bell>, links::ray, Zero::may);
const Registration truncated_bell("truncated_bell", truncated<Bell>, links::ray, Zero::may);

} // namespace

} // namespace ranef
