// Tweedie, 1 < p < 2: predictors mean, log phi and logit(p - 1); Var(y) = phi mu^p.
// A Poisson number of gamma variates (Dunn and Smyth 2005): with
// lambda = mu^(2-p) / (phi (2-p)), scale gamma = phi (p-1) mu^(p-1), a = (2-p) / (p-1),
//     f(0) = exp(-lambda),
//     f(y) = exp(-lambda - y / gamma) / y * sum over j >= 1 of
//            exp(j c) / (j! Gamma(j a)),   c = log(lambda) + a log(y / gamma),
// where c is free of mu.
#include <algorithm>

#include "counts.hpp"

namespace ranef {

namespace {

constexpr double negligible = -50; // log of a term beside the largest
constexpr double furthest = 25;    // of logit(p - 1) from 0
constexpr double large = 1000;     // from here on differences of log Gamma by Stirling

// The logarithm of the sum and its derivatives in (c, s), a = exp(-s). The terms
// are log-concave in j; it walks from the largest to both sides. Where they are
// wide, every `stride`-th is enough (Poisson's summation formula: with a stride of
// half their standard deviation the error is below exp(-70)). Error: 1e-12 times
// the sum of the magnitudes j c, log j! and log Gamma(j a) of the largest term.
// logit(p - 1) beyond 25 is not allowed: p is then 1 or 2 to all that a fit can tell.
class Series {
  public:
    Series(double c, double s, int order) : c_(c), s_(s), a_(std::exp(-s)), order_(order) {
        const double middle = std::exp((c + a_ * s) / (1 + a_));
        const double width = std::sqrt(middle / (1 + a_));
        stride_ = width > 20 ? std::floor(width / 2) : 1;
        centre_ = stride_ > 1 ? middle : std::max(1.0, std::floor(middle));
        stirling_ = centre_ >= large && centre_ * a_ >= large;
        // d log(term) / dj at the centre, which is the maximum where it need not be whole
        slope_ = stride_ > 1 ? 0 : c - std::log(centre_) - a_ * (std::log(centre_) - s);
        direct_ = centre_ < large ? log_factorial(centre_) : 0;
        gamma_ = log_gamma_exp(std::log(centre_) - s, order);
    }

    Jet<2, 3> log_sum() {
        if (!(centre_ < 1e300 && std::fabs(s_) <= furthest)) return Jet<2, 3>(-infinity);
        add(0);
        for (double d = stride_; add(d); d += stride_) {
        }
        for (double d = -stride_; centre_ + d >= 1 && add(d); d -= stride_) {
        }
        using J = Jet<2, 3>;
        const double top = centre_ * c_ - log_factorial(centre_) - gamma_.f;
        if (order_ == 0) return J(top + std::log(stride_ * sum_.d[0]));
        const J c = J::variable(c_, 0), s = J::variable(s_, 1);
        return log(sum_) + std::log(stride_) + (c - c_) * centre_ + top -
               compose(gamma_at_centre(), s);
    }

  private:
    // log Gamma(centre a) as a function of s = -log a, without its value
    Curve gamma_at_centre() const { return {0, -gamma_.f1, gamma_.f2, -gamma_.f3}; }

    // -log Gamma(j a) less its value at the centre, as a function of s.
    Curve gamma_difference(double d, double u) const {
        const double j = centre_ + d;
        if (centre_ * a_ < large || j * a_ < 20) {
            const Curve g = log_gamma_exp(std::log(j) - s_, order_);
            return {gamma_.f - g.f, g.f1 - gamma_.f1, gamma_.f2 - g.f2, g.f3 - gamma_.f3};
        }
        const double l = std::log1p(u), ad = a_ * d;
        const double b = -ad * (std::log(centre_) - s_) - a_ * centre_ * relative_entropy(u);
        const Curve r = remainder(j * a_), r0 = remainder(centre_ * a_);
        return {b + 0.5 * l + r0.f - r.f, ad - b + r0.f1 - r.f1, b - 2 * ad + r0.f2 - r.f2,
                3 * ad - b + r0.f3 - r.f3};
    }

    // Stirling's remainder at x as a function of s = -log x
    static Curve remainder(double x) {
        const Curve r = stirling_remainder(x, 3);
        const double r1 = x * r.f1, r2 = x * x * r.f2, r3 = x * x * x * r.f3;
        return {r.f, -r1, r1 + r2, -(r1 + 3 * r2 + r3)};
    }

    // log j! less its value at the centre
    double factorial_difference(double d, double u) const {
        if (centre_ < large || centre_ + d < 20) return log_factorial(centre_ + d) - direct();
        return d * std::log(centre_) + centre_ * relative_entropy(u) + 0.5 * std::log1p(u) +
               stirling_remainder(centre_ + d, 0).f - stirling_remainder(centre_, 0).f;
    }

    double direct() const { return centre_ < large ? direct_ : log_factorial(centre_); }

    // The logarithm of a term less that of the centre.
    double log_term(double d, double u, double gamma) const {
        const double j = centre_ + d;
        if (!stirling_ || j < 20 || j * a_ < 20) return d * c_ - factorial_difference(d, u) + gamma;
        return d * slope_ - centre_ * (1 + a_) * relative_entropy(u) - stirling_remainder(j, 0).f +
               stirling_remainder(centre_, 0).f - stirling_remainder(j * a_, 0).f +
               stirling_remainder(centre_ * a_, 0).f;
    }

    // Adds the term of centre + d; false where it is negligible.
    bool add(double d) {
        const double u = d / centre_;
        const Curve g = gamma_difference(d, u);
        const double h = log_term(d, u, g.f);
        if (!(h > negligible)) return false;
        const double w = std::exp(h);
        const double g2 = g.f2 + g.f1 * g.f1, g3 = g.f3 + 3 * g.f1 * g.f2 + g.f1 * g.f1 * g.f1;
        const double p[] = {1, d, g.f1, d * d, d * g.f1, g2, d * d * d, d * d * g.f1, d * g2, g3};
        for (int i = 0; i < 10; ++i) sum_.d[i] += w * p[i];
        return true;
    }

    double c_, s_, a_, stride_, centre_, slope_, direct_;
    bool stirling_;
    int order_;
    Curve gamma_;
    Jet<2, 3> sum_{0};
};

struct Tweedie : Plain {
    static constexpr int predictors = 3;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]), &log_phi = eta[1], &s = eta[2];
        const T lambda = exp(expit(-s) * log_mu - log_phi + softplus(s));
        if (y == 0) return -lambda;
        if (!(y > 0)) return T(-infinity);
        const double log_y = std::log(y);
        const T rate = exp(softplus(-s) - log_phi - expit(s) * log_mu); // 1 / gamma
        const T c = softplus(s) - log_phi + exp(-s) * (log_y - log_phi + softplus(-s));
        const int order = c.constant() ? 0 : T::order;
        const T sum = compose(Series(c.value(), s.value(), order).log_sum(), c, s);
        return sum - lambda - y * rate - log_y;
    }
};

} // namespace

std::unique_ptr<Family> tweedie(Link link) {
    return linked<Tweedie>(link);
}

} // namespace ranef
