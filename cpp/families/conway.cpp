// Conway-Maxwell-Poisson by its mean (Huang 2017): predictors mean and log(1 / nu),
//     P(y) = lambda^y / (y!)^nu / Z(lambda, nu),   E(y) = mu.
// log Z = K(theta, nu), theta = log lambda, is the cumulant function of (y, -log y!):
// its derivatives are their joint cumulants. theta solves K_theta = mu by a safeguarded
// Newton search, and its derivatives follow from the same equation in jets.
// Truncated: given that y > 0.
#include <algorithm>

#include "density.hpp"

namespace ranef {

namespace {

constexpr double negligible = -60;             // log of a term beside the largest
constexpr size_t most = 200000;                // terms: where nu is near 0 a mean up to some 4,000
constexpr double narrowest = -15, widest = 40; // of log(1 / nu)
constexpr double smallest = -700;              // of log E(y)
constexpr double large = 1000;                 // from here on differences of log j! by Stirling

// The distribution at (theta, nu): counts, -log y! and weights around the largest
// term. Wide distributions take every `stride`-th count, which by Poisson's summation
// formula errs by less than exp(-70).
class Distribution {
  public:
    Distribution(double theta, double nu) : theta_(theta), nu_(nu) {
        const double middle = std::exp(theta / nu), width = std::sqrt(middle / nu);
        stride_ = width > 20 && middle > 12 * width ? std::floor(width / 2) : 1;
        centre_ = stride_ > 1 ? middle : std::floor(middle);
        if (!(centre_ < 1e300 && nu > 1e-300)) return;
        slope_ = stride_ > 1 ? 0 : theta - nu * std::log(centre_);
        add(0);
        for (double d = stride_; add(d); d += stride_) {
        }
        for (double d = -stride_; centre_ + d >= 0 && add(d); d -= stride_) {
        }
        average();
    }

    bool valid() const { return total_ > 0 && !wide_; }
    double mean() const { return centre_ + mean_[0]; }
    double variance() const { return moment(2, 0); }

    // K with its derivatives in (theta, nu).
    Jet<2, 3> cumulants() const {
        const double m20 = moment(2, 0), m11 = moment(1, 1), m02 = moment(0, 2);
        Jet<2, 3> k;
        const double values[] = {log_normaliser(),
                                 mean(),
                                 mean_[1] - log_factorial(centre_),
                                 m20,
                                 m11,
                                 m02,
                                 moment(3, 0),
                                 moment(2, 1),
                                 moment(1, 2),
                                 moment(0, 3)};
        std::copy(values, values + 10, k.d);
        return k;
    }

    // K_theta with its derivatives.
    Jet<2, 3> mean_cumulants() const {
        const double m20 = moment(2, 0), m11 = moment(1, 1), m02 = moment(0, 2);
        Jet<2, 3> k;
        const double values[] = {mean(),
                                 m20,
                                 m11,
                                 moment(3, 0),
                                 moment(2, 1),
                                 moment(1, 2),
                                 moment(4, 0) - 3 * m20 * m20,
                                 moment(3, 1) - 3 * m20 * m11,
                                 moment(2, 2) - m20 * m02 - 2 * m11 * m11,
                                 moment(1, 3) - 3 * m11 * m02};
        std::copy(values, values + 10, k.d);
        return k;
    }

    double log_normaliser() const {
        const double top = centre_ * theta_ - nu_ * log_factorial(centre_);
        return top + (stride_ == 1 ? std::log1p(rest_) : std::log(stride_ * total_));
    }

  private:
    struct Term {
        double d, l, w; // the count and -log y!, less those of the centre; weight
    };

    static std::vector<Term>& scratch() {
        static thread_local std::vector<Term> terms;
        return terms;
    }

    bool add(double d) {
        auto& terms = scratch();
        if (d == 0) terms.clear();
        if (terms.size() >= most) wide_ = true;
        const double l = -factorial_difference(d);
        const double h = centre_ >= large && centre_ + d >= 20 ? d * slope_ - nu_ * excess(d)
                                                               : d * theta_ + nu_ * l;
        if (!(h > negligible) || wide_) return false;
        terms.push_back({d, l, std::exp(h)});
        if (d != 0) rest_ += terms.back().w;
        return true;
    }

    double factorial_difference(double d) const {
        if (centre_ < large || centre_ + d < 20)
            return log_factorial(centre_ + d) - log_factorial(centre_);
        return d * std::log(centre_) + excess(d);
    }

    // log (centre + d)! - log centre! - d log centre by Stirling's series
    double excess(double d) const {
        const double u = d / centre_;
        return centre_ * relative_entropy(u) + 0.5 * std::log1p(u) +
               stirling_remainder(centre_ + d, 0).f - stirling_remainder(centre_, 0).f;
    }

    void average() {
        total_ = 1 + rest_;
        double d = 0, l = 0;
        for (const Term& t : scratch()) {
            d += t.w * t.d;
            l += t.w * t.l;
        }
        mean_[0] = d / total_;
        mean_[1] = l / total_;
    }

    // Central moment of order p in the count and q in -log y!.
    double moment(int p, int q) const {
        double sum = 0;
        for (const Term& t : scratch()) {
            double x = t.w;
            for (int i = 0; i < p; ++i) x *= t.d - mean_[0];
            for (int i = 0; i < q; ++i) x *= t.l - mean_[1];
            sum += x;
        }
        return sum / total_;
    }

    double theta_, nu_, stride_, centre_, slope_ = 0, rest_ = 0, total_ = 0, mean_[2] = {0, 0};
    bool wide_ = false;
};

// Near nu = 0 the distribution is geometric but for a factor (y!)^-nu, whose logarithm
// rises by about log(2 mu) a count.
double start(double log_mu, double nu) {
    const double mu = std::exp(log_mu), shifted = mu + (nu - 1) / (2 * nu);
    if (log_mu < -1) return log_mu - std::log1p(mu);
    if (shifted < mu / 2) return log_mu - std::log1p(mu) + nu * std::log1p(2 * mu);
    return nu * std::log(shifted);
}

// theta with E(y) = exp(log_mu); NaN where no double has it.
double solve(double log_mu, double nu) {
    double theta = start(log_mu, nu), low = -infinity, high = infinity;
    for (int i = 0; i < 200; ++i) {
        const Distribution at(theta, nu);
        const double mean = at.mean(), slope = at.variance() / mean;
        if (log_mu < smallest) return log_mu; // E(y) is below the smallest double
        const double below = mean > 0 ? std::log(mean) - log_mu : -infinity;
        const double gap = at.valid() ? below : infinity;
        (gap > 0 ? high : low) = theta;
        const double most = std::max(1.0, nu);
        double step = at.valid() && slope > 0 ? -gap / slope : (gap > 0 ? -most : most);
        step = std::min(std::max(step, -most), most);
        // Newton's error after a step is its square
        if (std::fabs(step) <= 1e-9) return theta + step;
        double next = theta + step;
        if (!(next > low && next < high)) next = low + (high - low) / 2;
        if (std::fabs(next - theta) <= 1e-9) return next;
        theta = next;
    }
    return theta;
}

struct Conway : Plain {
    static constexpr int predictors = 2;
    Link link;

    template <class T>
    struct Natural {
        T theta, nu, log_normaliser;
    };
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        return density(y, natural(eta));
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        const auto at = natural(eta);
        return density(y, at) - apply(log_hit, log(at.log_normaliser));
    }

  private:
    template <class T>
    static T density(double y, const Natural<T>& at) {
        const T zero = -at.log_normaliser;
        return y > 0 ? zero + y * at.theta - log_factorial(y) * at.nu : zero;
    }

    template <class T>
    Natural<T> natural(const T* eta) const {
        const T log_mu = log_mean(link, eta[0]), nu = shape(eta[1]);
        const double theta = solve(log_mu.value(), nu.value());
        const Distribution at(theta, nu.value());
        if (!at.valid()) return {T(-infinity), nu, T(infinity)};
        const Jet<2, 3> mean = at.mean_cumulants();
        T t(theta);
        if (!(log_mu.constant() && nu.constant()))
            for (int i = 0; i < T::order; ++i)
                t -= refined(compose(mean, t, nu) - exp(log_mu), mean);
        return {t, nu, compose(at.cumulants(), t, nu)};
    }

    // nu, no farther than where the distribution is that of its limit to all digits: two
    // neighbouring counts, and the geometric one.
    template <class T>
    static T shape(const T& log_inverse_nu) {
        const double at = log_inverse_nu.value();
        if (at < narrowest) return T(std::exp(-narrowest));
        return at > widest ? T(std::exp(-widest)) : exp(-log_inverse_nu);
    }

    // One step of Newton's method in jets: each makes one order of derivatives right.
    template <class T>
    static T refined(T residual, const Jet<2, 3>& mean) {
        residual.d[0] = 0;
        return residual * (1 / mean.d[1]);
    }
};

const Registration compois("compois", linked<Conway>, links::ray, Zero::may);
const Registration truncated_compois("truncated_compois", truncated<Conway>, links::ray, Zero::may);

} // namespace

} // namespace ranef
