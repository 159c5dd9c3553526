// Multinomial logit: y is the 0-based category of J, the first the baseline;
// predictor m - 1 is the log odds of category m against it, m = 1 .. J - 1.
// Any number of predictors, so the derivatives are written out: with p the
// probabilities, log p_y has -p_a + [a = y] first, and the cumulants of the
// category, negative, second and third.
#include <algorithm>

#include "curves.hpp"
#include "factory.hpp"

namespace ranef {

namespace {

class Multinomial : public Family {
  public:
    explicit Multinomial(int categories) : categories_(categories) {}
    int predictors() const override { return categories_ - 1; }
    void evaluate(const Rows& rows, int order, const std::vector<int>& active,
                  const double* const* eta, size_t first, size_t last,
                  double* const* out) const override {
        const int M = categories_ - 1, k = static_cast<int>(active.size());
        std::vector<double> odds(M), p(k), q(k); // q: 1 - p
        for (size_t i = first; i < last; ++i) {
            const int y = category(rows.y[i]);
            double top = 0, sum = 0;
            for (int m = 0; m < M; ++m) top = std::max(top, eta[m][i]);
            for (int m = 0; m < M; ++m) sum += odds[m] = std::exp(eta[m][i] - top);
            sum += std::exp(-top);
            const double value = log_share(y, eta, i, top, odds);
            const bool allowed = y >= 0 && y < categories_ && value > -infinity && sum < infinity;
            for (int a = 0; a < k; ++a) {
                p[a] = allowed ? odds[active[a]] / sum : 0;
                q[a] = allowed ? others(active[a], top, odds) / sum : 0;
            }
            out[0][i] = allowed ? value : -infinity;
            if (order > 0) first_order(i, allowed ? y - 1 : -1, active, p, q, out);
            if (order > 1) second_order(i, p, q, out);
            if (order > 2) third_order(i, p, q, out);
        }
    }

  private:
    // -1 where it is none.
    int category(double y) const { return y >= 0 && y < categories_ ? static_cast<int>(y) : -1; }

    // eta_y - log(1 + sum exp(eta)); where y is the largest its share of the sum is
    // set apart, so that the probability near one keeps its distance from it
    double log_share(int y, const double* const* eta, size_t i, double top,
                     const std::vector<double>& odds) const {
        const double own = y > 0 && y < categories_ ? eta[y - 1][i] : 0;
        const double rest = others(y - 1, top, odds);
        return own == top ? -std::log1p(rest) : own - top - std::log(rest + std::exp(own - top));
    }

    // The sum of all odds but those of predictor m (-1: of the baseline).
    double others(int m, double top, const std::vector<double>& odds) const {
        double sum = m < 0 ? 0 : std::exp(-top);
        for (int j = 0; j < categories_ - 1; ++j)
            if (j != m) sum += odds[j];
        return sum;
    }

    using Vector = std::vector<double>;

    static void first_order(size_t i, int y, const std::vector<int>& active, const Vector& p,
                            const Vector& q, double* const* out) {
        for (size_t a = 0; a < p.size(); ++a) out[1 + a][i] = active[a] == y ? q[a] : -p[a];
    }

    static void second_order(size_t i, const Vector& p, const Vector& q, double* const* out) {
        const int k = static_cast<int>(p.size());
        size_t c = 1 + k;
        for (int a = 0; a < k; ++a)
            for (int b = a; b < k; ++b, ++c) out[c][i] = a == b ? -p[a] * q[a] : p[a] * p[b];
    }

    static void third_order(size_t i, const Vector& p, const Vector& q, double* const* out) {
        const int k = static_cast<int>(p.size());
        size_t c = 1 + k + k * (k + 1) / 2;
        for (int a = 0; a < k; ++a)
            for (int b = a; b < k; ++b)
                for (int e = b; e < k; ++e, ++c) out[c][i] = -cumulant(a, b, e, p, q);
    }

    // Third joint cumulant of the indicators of categories a <= b <= e.
    static double cumulant(int a, int b, int e, const Vector& p, const Vector& q) {
        if (a == b && b == e) return p[a] * q[a] * (q[a] - p[a]);
        if (a == b) return -p[a] * p[e] * (q[a] - p[a]);
        if (b == e) return -p[a] * p[b] * (q[b] - p[b]);
        return 2 * p[a] * p[b] * p[e];
    }

    int categories_;
};

} // namespace

std::unique_ptr<Family> multinomial(int categories) {
    return std::make_unique<Multinomial>(categories);
}

} // namespace ranef
