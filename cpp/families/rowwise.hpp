// A family whose log density is a template over jets.
//
// F has `static constexpr int predictors`, `static double no_extra(double y)` (what
// stands for `extra` where there is none) and
//     template <class T> T log_density(double y, double extra, const T* eta) const
#pragma once

#include "curves.hpp"
#include "family.hpp"

namespace ranef {

// For families that have no use of `extra`.
struct Plain {
    static double no_extra(double) { return 0; }
};

template <class F>
class Rowwise : public Family {
  public:
    explicit Rowwise(F family) : family_(family) {}
    int predictors() const override { return F::predictors; }
    void evaluate(const Rows& rows, int order, const std::vector<int>& active,
                  const double* const* eta, size_t first, size_t last,
                  double* const* out) const override {
        const Block block{rows, order, active, eta, first, last, out};
        const int k = order > 0 ? static_cast<int>(active.size()) : 0;
        if (k == 0)
            run<1, 0>(block);
        else if (order < 3)
            with<2>(k, block);
        else
            with<3>(k, block);
    }

  private:
    struct Block {
        const Rows& rows;
        int order;
        const std::vector<int>& active;
        const double* const* eta;
        size_t first, last;
        double* const* out;
    };

    template <int O>
    void with(int k, const Block& block) const {
        if (k == 1) return run<1, O>(block);
        if constexpr (F::predictors > 1)
            if (k == 2) return run<2, O>(block);
        if constexpr (F::predictors > 2)
            if (k == 3) return run<3, O>(block);
        if constexpr (F::predictors > 3)
            if (k == 4) return run<4, O>(block);
    }

    template <int K, int O>
    void run(const Block& b) const {
        using T = Jet<K, O>;
        constexpr int M = F::predictors;
        int place[M];
        for (int m = 0; m < M; ++m) place[m] = -1;
        if (O > 0)
            for (int a = 0; a < K; ++a) place[b.active[a]] = a;
        const int count = O > 0 ? third::size(K, b.order) : 1;
        T eta[M];
        for (size_t i = b.first; i < b.last; ++i) {
            for (int m = 0; m < M; ++m)
                eta[m] = place[m] < 0 ? T(b.eta[m][i]) : T::variable(b.eta[m][i], place[m]);
            const double y = b.rows.y[i];
            T r = family_.log_density(y, b.rows.extra ? b.rows.extra[i] : F::no_extra(y), eta);
            if (!allowed(r)) r = T(-infinity);
            for (int c = 0; c < count; ++c) b.out[c][i] = r.d[c];
        }
    }

    // Neither impossible nor beyond a double.
    template <class T>
    static bool allowed(const T& r) {
        if (!(std::fabs(r.value()) < infinity)) return false;
        for (int c = 1; c < T::size; ++c)
            if (std::isnan(r.d[c])) return false;
        return true;
    }

    F family_;
};

} // namespace ranef
