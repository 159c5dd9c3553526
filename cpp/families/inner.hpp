// The inner loops of most fits: the three commonest families with only the mean
// active, written out and vectorised.
#pragma once

#include <algorithm>

#include "rowwise.hpp"

namespace ranef {

// Up to `block` rows: what they are and where value and three derivatives go.
struct Inner {
    static constexpr size_t block = 256;
    size_t n;
    const double *y, *extra, *eta, *eta1;
    double *v, *d1, *d2, *d3;
};

void inner_binomial_logit(const Inner& rows); // extra: trials
void inner_poisson_log(const Inner& rows);    // without log y!, less y log y - y if y is large
void inner_gaussian(const Inner& rows);       // eta1: log sigma

// A row-wise family that has an inner loop for one of its links. What the loop leaves
// out, F::log_constant(y, extra), is added where F::has_constant(rows).
template <class F>
class WithInner : public Rowwise<F> {
  public:
    WithInner(F family, void (*inner)(const Inner&)) : Rowwise<F>(family), inner_(inner) {}
    void evaluate(const Rows& rows, int order, const std::vector<int>& active,
                  const double* const* eta, size_t first, size_t last,
                  double* const* out) const override {
        const bool only_mean = active.empty() || (active.size() == 1 && active[0] == 0);
        if (!inner_ || !only_mean)
            return Rowwise<F>::evaluate(rows, order, active, eta, first, last, out);
        const int given = active.empty() ? 0 : order;
        double spare[3][Inner::block], absent[Inner::block];
        std::fill(absent, absent + Inner::block, F::no_extra(0));
        for (size_t i = first; i < last; i += Inner::block) {
            const size_t n = std::min(Inner::block, last - i);
            Inner r{n,
                    rows.y + i,
                    rows.extra ? rows.extra + i : absent,
                    eta[0] + i,
                    F::predictors > 1 ? eta[1] + i : nullptr,
                    out[0] + i,
                    given > 0 ? out[1] + i : spare[0],
                    given > 1 ? out[2] + i : spare[1],
                    given > 2 ? out[3] + i : spare[2]};
            inner_(r);
            if (!F::has_constant(rows)) continue;
            for (size_t j = 0; j < n; ++j) r.v[j] += F::log_constant(r.y[j], r.extra[j]);
        }
    }

  private:
    void (*inner_)(const Inner&);
};

} // namespace ranef
