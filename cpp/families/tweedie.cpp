// Tweedie, 1 < p < 2: predictors mean, log phi and logit(p - 1); Var(y) = phi mu^p.
// A Poisson number of gamma variates (Dunn and Smyth 2005): with
// lambda = mu^(2-p) / (phi (2-p)), scale gamma = phi (p-1) mu^(p-1), a = (2-p) / (p-1),
//     f(0) = exp(-lambda),
//     f(y) = exp(-lambda - y / gamma) / y * sum over j >= 1 of
//            exp(j c) / (j! Gamma(j a)),   c = log(lambda) + a log(y / gamma),
// where c is free of mu.
#include <algorithm>

#include "density.hpp"

namespace ranef {

namespace {

constexpr double negligible = -50; // log of a term beside the largest
constexpr double furthest = 25;    // of logit(p - 1) from 0
constexpr double nearest_one = -8; // logit(p - 1) from where on it is drawn together, see bounded()
constexpr double least_two = 3, most_two = 10;
constexpr double jumps = 8.5;  // log of the number of jumps, on the way to 2
constexpr double sharp = 20;   // a from where on terms next to each other differ greatly
constexpr double large = 1000; // from here on differences of log Gamma by Stirling

// The term about which the sum is taken, and how far apart the terms taken are. The
// terms are log-concave in j. Where they are wide every `stride`-th is enough
// (Poisson's summation formula: with a stride of half their standard deviation the
// error is below exp(-70)), and the centre, their maximum, need not be whole.
struct Middle {
    double j, stride;
    Middle(double c, double s) {
        const double a = std::exp(-s), mode = std::exp((c + a * s) / (1 + a));
        const double width = std::sqrt(mode / (1 + a));
        stride = width > 20 ? std::floor(width / 2) : 1;
        j = stride > 1 ? mode : std::max(1.0, std::floor(mode));
        // near p = 1 a neighbour of the largest term is smaller than any number beside it
        if (stride == 1 && a > sharp &&
            c > std::log(j + 1) + log_gamma(a * (j + 1), 0).f - log_gamma(a * j, 0).f)
            ++j;
    }
};

// The logarithm of the sum over its term at the middle, with derivatives in (v, s),
// a = exp(-s), v = c - a log(a m), m the middle: term m + d is then
//     d v - log (m + d)!/m! - log Gamma(a (m + d)) / Gamma(a m) + d a log(a m),
// in which nothing large is left. Error: 1e-12 times the sum of the magnitudes m c,
// log m! and log Gamma(a m). logit(p - 1) beyond 25 is not allowed: p is then 1 or 2
// to all that a fit can tell.
class Series {
  public:
    Series(const Middle& middle, double v, double s, int order)
        : middle_(middle.j), stride_(middle.stride), v_(v), s_(s), a_(std::exp(-s)), order_(order),
          factorial_(middle_ < 1e300 ? log_factorial(middle_) : 0) {
        stirling_ = middle_ >= large && middle_ * a_ >= large;
        gamma_ = log_gamma_exp(std::log(middle_) - s, order);
    }

    Jet<2, 3> log_sum() {
        if (!(middle_ < 1e300 && std::fabs(s_) <= furthest)) return Jet<2, 3>(-infinity);
        add(0);
        for (double d = stride_; add(d); d += stride_) {
        }
        for (double d = -stride_; middle_ + d >= 1 && add(d); d -= stride_) {
        }
        return order_ == 0 ? Jet<2, 3>(std::log(stride_ * sum_.d[0]))
                           : log(sum_) + std::log(stride_);
    }

  private:
    // -log Gamma(j a) / Gamma(m a) + d a log(a m) as a function of s.
    Curve gamma_difference(double d, double u) const {
        const double j = middle_ + d;
        if (middle_ * a_ < large || j * a_ < 20) {
            const Curve g = log_gamma_exp(std::log(j) - s_, order_);
            const double ad = a_ * d, l = ad * (std::log(middle_) - s_);
            return {gamma_.f - g.f + l, g.f1 - gamma_.f1 - (l + ad), gamma_.f2 - g.f2 + l + 2 * ad,
                    g.f3 - gamma_.f3 - (l + 3 * ad)};
        }
        const double b = a_ * middle_ * relative_entropy(u);
        const Curve r = remainder(j * a_), r0 = remainder(middle_ * a_);
        return {0.5 * std::log1p(u) - b + r0.f - r.f, b + r0.f1 - r.f1, r0.f2 - r.f2 - b,
                b + r0.f3 - r.f3};
    }

    // Stirling's remainder at x as a function of s = -log x
    static Curve remainder(double x) {
        const Curve r = stirling_remainder(x, 3);
        const double r1 = x * r.f1, r2 = x * x * r.f2, r3 = x * x * x * r.f3;
        return {r.f, -r1, r1 + r2, -(r1 + 3 * r2 + r3)};
    }

    // d v - log (m + d)! / m!
    double factorial_difference(double d, double u) const {
        if (middle_ < large || middle_ + d < 20)
            return d * v_ - (log_factorial(middle_ + d) - factorial_);
        // v is log m at a maximum that need not be whole
        const double slope = stride_ > 1 && stirling_ ? 0 : v_ - std::log(middle_);
        return d * slope - middle_ * relative_entropy(u) - 0.5 * std::log1p(u) +
               stirling_remainder(middle_, 0).f - stirling_remainder(middle_ + d, 0).f;
    }

    // Adds the term of middle + d; false where it is negligible.
    bool add(double d) {
        const double u = d / middle_;
        const Curve g = gamma_difference(d, u);
        const double h = factorial_difference(d, u) + g.f;
        if (!(h > negligible)) return false;
        const double w = std::exp(h);
        const double g2 = g.f2 + g.f1 * g.f1, g3 = g.f3 + 3 * g.f1 * g.f2 + g.f1 * g.f1 * g.f1;
        const double p[] = {1, d, g.f1, d * d, d * g.f1, g2, d * d * d, d * d * g.f1, d * g2, g3};
        for (int i = 0; i < 10; ++i) sum_.d[i] += w * p[i];
        return true;
    }

    double middle_, stride_, v_, s_, a_;
    int order_;
    double factorial_;
    bool stirling_;
    Curve gamma_;
    Jet<2, 3> sum_{0};
};

// logit(p - 1) with ends: beyond each it comes to rest one further, smoothly. Nearer to 2 the
// series has no digits, the fewer the smaller phi, and the density is that of the gamma to some
// 1e-4; nearer to 1 that of whole counts has no limit. There the likelihood is level, and a power
// that goes there is seen to do so.
template <class T>
T bounded(const T& s, const T& log_phi) {
    auto at_rest = [&s](const T& from) { return from + 1 - 2 * expit(-2 * (s - from)); };
    if (s.value() < nearest_one) return at_rest(T(nearest_one));
    if (s.value() <= least_two) return s;
    const double wanted = log_phi.value() + jumps, top = std::clamp(wanted, least_two, most_two);
    if (s.value() <= top) return s;
    return at_rest(top == wanted ? log_phi + jumps : T(top));
}

struct Tweedie : Plain {
    static constexpr int predictors = 3;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]), &log_phi = eta[1], s = bounded(eta[2], log_phi);
        const T lambda = exp(expit(-s) * log_mu - log_phi + softplus(s));
        if (y == 0) return -lambda;
        if (!(y > 0)) return T(-infinity);
        const double log_y = std::log(y);
        const T rate = exp(softplus(-s) - log_phi - expit(s) * log_mu); // 1 / gamma
        const T outer = softplus(s) - log_phi, a = exp(-s);
        const double odds = log_y - log_phi.value() + softplus(-s).value();
        const Middle middle(outer.value() + a.value() * odds, s.value());
        const T v = outer + a * (outer + (log_y - std::log(middle.j)));
        const int order = v.constant() ? 0 : T::order;
        Series series(middle, v.value(), s.value(), order);
        const T sum = compose(series.log_sum(), v, s) + largest(middle.j, log_y, outer, s);
        return sum - lambda - y * rate - log_y;
    }

  private:
    // The logarithm of term j, j c - log j! - log Gamma(x), x = j a, where c is
    // outer + a (log y + outer - s). In Stirling's form of log Gamma(x) the large parts meet.
    template <class T>
    static T largest(double j, double log_y, const T& outer, const T& s) {
        const double log_j = std::log(j);
        const T linear = j * outer - log_factorial(j), log_x = log_j - s, x = exp(log_x);
        if (x.value() < 15) return linear + x * (log_y + outer - s) - apply(log_gamma_exp, log_x);
        return linear + x * (outer + (log_y - log_j + 1)) + 0.5 * (log_x - log_2pi) -
               apply(stirling_remainder, x);
    }
};

const Registration tweedie("tweedie", linked<Tweedie>, links::ray, Zero::may);

} // namespace

} // namespace ranef
