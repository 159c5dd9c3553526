// A family: the log density of one row as a function of its linear predictors.
//
// A row has M linear predictors: the mean's first, then, as the family needs
// them, dispersion, shapes, thresholds, and zero inflation last. Each may have a
// formula of its own or be one constant; the family does not know which. What it
// gives is the log density, all constants included, and its partial derivatives
// to third order, written once as a template over jets (see third.hpp).
#pragma once

#include <cstddef>
#include <vector>

namespace ranef {

using std::size_t;

// What a row is besides its predictors.
struct Rows {
    size_t n = 0;
    const double* y = nullptr;     // (n)
    const double* extra = nullptr; // (n) binomial: trials; censored: upper end; or null
};

class Family {
  public:
    virtual ~Family() = default;

    virtual int predictors() const = 0;

    // Partial derivatives of each row's log density up to `order` (0 .. 3) with
    // respect to the predictors named in `active` (ascending); the others are
    // constants. eta[k] is predictor k, (n), for every k. out[c][i], i in
    // first .. last - 1, receives derivative c in the order of Derivatives below.
    // -infinity where the density is zero or the predictors are not allowed;
    // never NaN. Does not throw; may be called from several threads.
    virtual void evaluate(const Rows& rows, int order, const std::vector<int>& active,
                          const double* const* eta, size_t first, size_t last,
                          double* const* out) const = 0;
};

// Where the partial derivatives with respect to k variables stand: the value,
// then first, second, third order, each with indices ascending, last index
// fastest: (0 0), (0 1), (1 1) is written as pairs a <= b in the order
// 00, 01, .., 0k, 11, .., and triples a <= b <= c likewise.
struct Derivatives {
    int k;
    int count(int order) const {
        int n = 1;
        if (order > 0) n += k;
        if (order > 1) n += k * (k + 1) / 2;
        if (order > 2) n += k * (k + 1) * (k + 2) / 6;
        return n;
    }
    int first(int a) const { return 1 + a; }
    int second(int a, int b) const { return 1 + k + pair(a, b, k); } // a <= b
    int third(int a, int b, int c) const {                           // a <= b <= c
        int n = 1 + k + k * (k + 1) / 2;
        for (int i = 0; i < a; ++i) n += (k - i) * (k - i + 1) / 2;
        return n + pair(b - a, c - a, k - a);
    }

  private:
    static int pair(int a, int b, int k) { return a * k - a * (a - 1) / 2 + b - a; }
};

} // namespace ranef
