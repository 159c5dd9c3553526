// Zero inflation: y is zero with probability pi, else from the base family. One
// wrapper for all: it asks the base for its derivatives and goes on from there.
#include <algorithm>

#include "curves.hpp"
#include "factory.hpp"

namespace ranef {

namespace {

constexpr size_t chunk = 128;
constexpr int most = 4; // active predictors, this one included

// log(pi + (1 - pi) exp(f)), f the base's log density of a zero, z the logit of pi.
template <class T>
T log_zero(const T& f, const T& z) {
    if (!(f.value() > -infinity)) return -softplus(-z);
    if (f.value() > -0.5) return log1p(expit(-z) * expm1(f));
    const T larger = z.value() > f.value() ? z : f, smaller = z.value() > f.value() ? f : z;
    return larger + softplus(smaller - larger) - softplus(z);
}

class ZeroInflated : public Family {
  public:
    explicit ZeroInflated(std::unique_ptr<Family> base) : base_(std::move(base)) {}
    int predictors() const override { return base_->predictors() + 1; }
    void evaluate(const Rows& rows, int order, const std::vector<int>& active,
                  const double* const* eta, size_t first, size_t last,
                  double* const* out) const override {
        Task task{rows, order, order > 0 ? active : std::vector<int>(), eta, out};
        task.zero = !task.active.empty() && task.active.back() == base_->predictors();
        if (task.zero) task.active.pop_back();
        for (size_t from = first; from < last; from += chunk)
            dispatch(task, from, std::min(from + chunk, last));
    }

  private:
    struct Task {
        const Rows& rows;
        int order;
        std::vector<int> active; // of the base
        const double* const* eta;
        double* const* out;
        bool zero = false; // is the zero predictor active?
    };

    void dispatch(const Task& t, size_t first, size_t last) const {
        const int k = static_cast<int>(t.active.size()) + t.zero;
        if (k == 0) return run<1, 0>(t, first, last);
        if (t.order < 3) {
            if (k == 1) return run<1, 2>(t, first, last);
            if (k == 2) return run<2, 2>(t, first, last);
            if (k == 3) return run<3, 2>(t, first, last);
            return run<4, 2>(t, first, last);
        }
        if (k == 1) return run<1, 3>(t, first, last);
        if (k == 2) return run<2, 3>(t, first, last);
        if (k == 3) return run<3, 3>(t, first, last);
        return run<4, 3>(t, first, last);
    }

    // The base's jet of row i as one in K variables, the zero predictor last.
    template <int K, int O>
    static Jet<K, O> widened(const double (*columns)[chunk], size_t i, int k) {
        const Derivatives at{k}, to{K};
        Jet<K, O> r(columns[0][i]);
        for (int a = 0; O > 0 && a < k; ++a) {
            r.d[to.first(a)] = columns[at.first(a)][i];
            for (int b = a; O > 1 && b < k; ++b) {
                r.d[to.second(a, b)] = columns[at.second(a, b)][i];
                for (int c = b; O > 2 && c < k; ++c)
                    r.d[to.third(a, b, c)] = columns[at.third(a, b, c)][i];
            }
        }
        return r;
    }

    template <int K, int O>
    void run(const Task& t, size_t first, size_t last) const {
        using T = Jet<K, O>;
        double columns[third::size(most, 3)][chunk];
        double* place[third::size(most, 3)];
        for (int c = 0; c < third::size(most, 3); ++c) place[c] = columns[c];
        const int k = O > 0 ? static_cast<int>(t.active.size()) : 0;
        const int asked = O < t.order ? O : t.order;
        const Rows rows{last - first, t.rows.y + first,
                        t.rows.extra ? t.rows.extra + first : nullptr};
        const double* eta[most + 1];
        for (int m = 0; m < base_->predictors(); ++m) eta[m] = t.eta[m] + first;
        base_->evaluate(rows, k > 0 ? O : 0, t.active, eta, 0, rows.n, place);
        const double* z = t.eta[base_->predictors()];
        const int count = O > 0 ? third::size(K, asked) : 1;
        for (size_t i = first; i < last; ++i) {
            const T f = widened<K, O>(columns, i - first, k);
            const T logit = t.zero ? T::variable(z[i], K - 1) : T(z[i]);
            T r = t.rows.y[i] == 0 ? log_zero(f, logit) : f - softplus(logit);
            if (!(r.value() > -infinity)) r = T(-infinity);
            for (int c = 0; c < count; ++c) t.out[c][i] = r.d[c];
        }
    }

    std::unique_ptr<Family> base_;
};

} // namespace

std::unique_ptr<Family> zero_inflated(std::unique_ptr<Family> base) {
    return std::make_unique<ZeroInflated>(std::move(base));
}

} // namespace ranef
