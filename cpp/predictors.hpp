// The linear predictors of every row, and the cross-products that follow from
// them and from weights.
//
// Row i has predictors eta_m = o_m + X_m beta + Z_m b, m = 0 .. M - 1. The
// columns of X_m belong to entries of one coefficient vector beta (an entry may
// serve several predictors). Each column of a factor's Z belongs to one
// predictor; those with random effects are the *random* predictors. With an
// (M x M) weight W_i in each row the cross-products are
//   sum_i z_a W_{m(a) m(c)} z_c,   sum_i z_a (W_i X_i)_{m(a)},   sum_i X_i'W_i X_i,
// X_i (M, p) the rows of all predictors. They are refilled in place, in the
// pattern that `assemble` has found: the rows stand in the order of the leader's
// levels, so that each chunk of the blocks owns a range of rows.
#pragma once

#include "blocks.hpp"

namespace ranef {

// Columns of a factor beyond which zeros of Z are skipped: of memberships most are.
constexpr int full_columns = 4;

struct PredictorInput {
    const double* X = nullptr; // (n, columns) row-major, in the user's order
    int columns = 0;
    std::vector<int> coefficient;   // of each column
    const double* offset = nullptr; // (n) or null
    double unit = 1;                // the predictor's own
};

// Symmetric weights of all rows: at(m, l) is (n), or null where it is zero.
class Weights {
  public:
    Weights(size_t n, int predictors) : n_(n), M_(predictors), values_(predictors * predictors) {}
    Vector& make(int m, int l) {
        Vector& v = values_[index(m, l)];
        v.resize(n_);
        return v;
    }
    const double* at(int m, int l) const {
        const Vector& v = values_[index(m, l)];
        return v.empty() ? nullptr : v.data();
    }

  private:
    int index(int m, int l) const { return m < l ? m * M_ + l : l * M_ + m; }
    size_t n_;
    int M_;
    std::vector<Vector> values_;
};

// Cross-products that are filled again and again, by weights.
struct Working {
    std::unique_ptr<Blocks> blocks;
    Response response;
    std::vector<Vector> sums; // [chunk] of X'WX and X'q
    std::vector<int> column;  // of each coefficient among the fixed effects, or -1
};

class Predictors {
  public:
    struct Random {
        int r = 0;
        Indices level;          // (n) internal
        Vector z;               // (n, r) standardised
        std::vector<int> owner; // (r) index into random_
    };

    // owners[f]: the predictor of each column of factor f.
    Predictors(const Blocks& pattern, const std::vector<std::vector<int>>& owners,
               const std::vector<PredictorInput>& inputs, int coefficients, int threads);

    size_t rows() const { return n_; }
    int count() const { return static_cast<int>(fixed_.size()); }
    int coefficients() const { return p_; }
    // Ascending: the predictors with random effects.
    const std::vector<int>& random() const { return random_; }
    // The user's row at each place; empty where that is the same.
    const Indices& order() const { return order_; }
    // Ranges of rows, one for each chunk of the blocks.
    const std::vector<size_t>& ranges() const { return ranges_; }
    int chunks() const { return static_cast<int>(ranges_.size()) - 1; }
    int threads() const { return threads(n_); }
    // For work that grows with this many visits of a row.
    int threads(size_t visits) const;
    const Random& factor(int f) const { return factors_[f]; }

    // A user's vector (n) in the order of the rows here; in place of null: null.
    Vector gather(const double* values) const;
    void scatter(const double* here, double* values) const;

    // eta = o_m + X_m beta on a range of rows, or without the offset.
    void fixed(int m, const double* beta, size_t first, size_t last, double* eta,
               bool offset = true) const;
    // What is one of a predictor: the size of a mean on the response's own scale.
    double unit(int m) const { return fixed_[m].unit; }
    // Whether X_m is held in the order of the rows here: the user's is not read again.
    bool copied(int m) const { return !fixed_[m].own.empty(); }
    // Whether a coefficient enters a predictor.
    bool enters(int coefficient, int m) const;
    // out[k] = Z_m b of the k-th random predictor.
    void random(const std::vector<const double*>& modes, size_t first, size_t last,
                double* const* out) const;
    // gradient += X_m'q
    void fixed_transposed(int m, const double* q, double* gradient) const;

    // Blocks of the pattern, with room for the columns of X of some coefficients.
    Working working(const Blocks& pattern, const std::vector<int>& coefficients) const;
    // Refill the part that chunk c owns from W and q (one (n) for each
    // predictor; null is zero).
    void refill(Working& to, const Weights& W, const double* const* q, int c) const;
    // What crosses chunks: the tail's own blocks. After every chunk.
    void refill_shared(Working& to, const Weights& W, const double* const* q) const;
    // Z'q and X'q only.
    void respond(const Working& of, Response& y, const double* const* q) const;

    // s[(k, l)] of row i, k <= l over the predictors `active` (those with random
    // effects among them), pairs row by row: the covariance of their values,
    // X beta counted where the blocks hold X.
    template <class Covariance>
    void row_covariance(const Covariance& R, const Working& of, const std::vector<int>& active,
                        size_t i, double* s) const;

  private:
    struct Fixed {
        int columns = 0;
        bool one = false; // a column of ones
        Vector own;       // in the order of the rows, where that is not the user's
        const double* X = nullptr;
        std::vector<int> coefficient;
        Vector offset;
        double unit = 1;
    };

    void weighted_row(const Working& to, const Weights& W, int m, size_t i, double* u) const;
    void fixed_row(const Working& of, int m, size_t i, double* x) const;
    template <bool One>
    void refill_chain(Working& to, const Weights& W, const double* const* q, size_t first,
                      size_t last) const;
    void refill_tail_factor(Working& to, const Weights& W, const double* const* q, size_t t) const;
    void refill_pair(PairBlock& pair, const Indices& place, const Weights& W) const;
    void refill_fixed(const Working& to, const Weights& W, const double* const* q, size_t first,
                      size_t last, double* XX, double* Xq) const;

    size_t n_;
    int p_, threads_;
    std::vector<Fixed> fixed_;
    std::vector<Random> factors_;
    std::vector<int> random_;
    Indices order_;
    std::vector<size_t> ranges_;
    std::vector<Indices> leader_place_; // [tail factor] (n): column within the leader's values
    std::vector<Indices> pair_place_;   // [pair] (n)
};

template <class Covariance>
void Predictors::row_covariance(const Covariance& R, const Working& of,
                                const std::vector<int>& active, size_t i, double* s) const {
    const Blocks& b = *of.blocks;
    const int A = static_cast<int>(active.size()), p = b.p;
    std::fill(s, s + A * (A + 1) / 2, 0.0);
    auto add = [&](int k, int l, double v) {
        if (k > l) std::swap(k, l);
        s[k * A - k * (k - 1) / 2 + l - k] += v;
    };
    // place of a random predictor among the active ones
    auto place = [&](int owner) {
        int k = owner;
        while (active[k] != random_[owner]) ++k;
        return k;
    };
    // a pair of columns of different blocks stands for two terms of z'Rz,
    // which fall together on the diagonal (k, k)
    auto cross = [&](const Random& f, int a, const Random& g, int e, double value) {
        const double v = f.z[i * f.r + a] * g.z[i * g.r + e] * value;
        add(place(f.owner[a]), place(g.owner[e]), f.owner[a] == g.owner[e] ? 2 * v : v);
    };
    auto own = [&](const Random& f, int a, double value) {
        const int k = place(f.owner[a]);
        add(k, k, f.z[i * f.r + a] * f.z[i * f.r + a] * value);
    };
    Vector x(static_cast<size_t>(A) * p); // rows of X by predictor
    for (int k = 0; k < A && p > 0; ++k) fixed_row(of, active[k], i, x.data() + k * p);
    auto with_fixed = [&](const Random& f, int a, int e, double value) {
        const int k = place(f.owner[a]);
        for (int l = 0; l < A; ++l) {
            const double v = f.z[i * f.r + a] * x[l * p + e] * value;
            if (v != 0) add(k, l, k == l ? 2 * v : v);
        }
    };
    for (size_t d = 0; d < b.chain.size(); ++d) {
        const ChainBlock& c = b.chain[d];
        const Random& f = factors_[c.factor];
        const double* block = R.chain_covariance(static_cast<int>(d), f.level[i]);
        for (int a = 0; a < f.r; ++a) {
            if (f.r > full_columns && f.z[i * f.r + a] == 0) continue;
            own(f, a, block[a * c.width + a]);
            for (int e = 0; e < a; ++e) cross(f, a, f, e, block[a * c.width + e]);
        }
        int col = c.r;
        for (size_t k = d + 1; k < b.chain.size(); ++k) {
            const Random& g = factors_[b.chain[k].factor];
            for (int e = 0; e < g.r; ++e, ++col)
                for (int a = 0; a < f.r; ++a) cross(f, a, g, e, block[a * c.width + col]);
        }
        for (int e = 0; e < p && b.T == 0; ++e)
            for (int a = 0; a < f.r; ++a) with_fixed(f, a, e, block[a * c.width + col + e]);
    }
    if (b.T > 0 && !b.chain.empty()) {
        const Random& f = factors_[b.chain[0].factor];
        const int32_t l = f.level[i];
        const int64_t touched = b.tail_ptr[l + 1] - b.tail_ptr[l], m = touched + p;
        const double* block = R.leader_covariance(l);
        for (int a = 0; a < f.r; ++a) {
            for (size_t t = 0; t < b.tail.size(); ++t) {
                const Random& g = factors_[b.tail[t]];
                for (int e = 0; e < g.r; ++e)
                    cross(f, a, g, e, block[a * m + leader_place_[t][i] + e]);
            }
            for (int e = 0; e < p; ++e) with_fixed(f, a, e, block[a * m + touched + e]);
        }
    }
    for (size_t t = 0; t < b.tail.size(); ++t) {
        const Random& g = factors_[b.tail[t]];
        const int column = b.factors[b.tail[t]].column + g.level[i] * g.r;
        for (int a = 0; a < g.r; ++a) {
            if (g.r > full_columns && g.z[i * g.r + a] == 0) continue;
            own(g, a, R.tail_covariance(column + a, column + a));
            for (int e = 0; e < a; ++e)
                cross(g, a, g, e, R.tail_covariance(column + a, column + e));
            for (int e = 0; e < p; ++e) with_fixed(g, a, e, R.tail_covariance(b.T + e, column + a));
        }
        for (size_t u = t + 1; u < b.tail.size(); ++u) {
            const Random& h = factors_[b.tail[u]];
            const int other = b.factors[b.tail[u]].column + h.level[i] * h.r;
            for (int a = 0; a < g.r; ++a) {
                if (g.r > full_columns && g.z[i * g.r + a] == 0) continue;
                for (int e = 0; e < h.r; ++e)
                    cross(g, a, h, e, R.tail_covariance(column + a, other + e));
            }
        }
    }
    for (int k = 0; k < A && p > 0; ++k)
        for (int l = k; l < A; ++l)
            for (int e = 0; e < p; ++e)
                for (int f = 0; f < p; ++f)
                    add(k, l, x[k * p + e] * x[l * p + f] * R.fixed_covariance(e, f));
}

} // namespace ranef
