#include "predictors.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "threads.hpp"

namespace ranef {

namespace {

constexpr int row_parts = 16;
constexpr size_t worth_threads = 20000; // rows

bool all_ones(const double* x, size_t n) {
    return std::all_of(x, x + n, [](double v) { return v == 1.0; });
}

// Weight between the random predictors k and l of row i.
struct RowWeight {
    std::vector<const double*> values; // (A, A)
    int A;
    RowWeight(const Weights& W, const std::vector<int>& random)
        : values(random.size() * random.size()), A(static_cast<int>(random.size())) {
        for (int k = 0; k < A; ++k)
            for (int l = 0; l < A; ++l) values[k * A + l] = W.at(random[k], random[l]);
    }
    double operator()(int k, int l, size_t i) const {
        const double* v = values[k * A + l];
        return v ? v[i] : 0.0;
    }
};

} // namespace

// One function: each part lays out the places that the next one fills.
Predictors::Predictors(const Blocks& pattern, const std::vector<std::vector<int>>& owners,
                       const std::vector<PredictorInput>& inputs, int coefficients, int threads)
    : n_(pattern.n), p_(coefficients), threads_(threads) {
    for (const auto& owner : owners)
        for (int m : owner)
            if (std::find(random_.begin(), random_.end(), m) == random_.end()) random_.push_back(m);
    std::sort(random_.begin(), random_.end());
    // rows by the leader's levels
    if (!pattern.chain.empty()) {
        const Factor& leader = pattern.factors[pattern.chain[0].factor];
        std::vector<int64_t> ptr(leader.q + 1, 0);
        bool sorted = true;
        for (size_t i = 0; i < n_; ++i) {
            const int32_t l = leader.rank_of[leader.codes[i]];
            ++ptr[l + 1];
            sorted = sorted && (i == 0 || leader.rank_of[leader.codes[i - 1]] <= l);
        }
        for (int l = 0; l < leader.q; ++l) ptr[l + 1] += ptr[l];
        for (size_t b : pattern.chunk[0]) ranges_.push_back(ptr[b]);
        if (!sorted) {
            order_.resize(n_);
            for (size_t i = 0; i < n_; ++i)
                order_[ptr[leader.rank_of[leader.codes[i]]]++] = static_cast<int32_t>(i);
        }
    } else
        ranges_ = partition(n_, n_ < worth_threads ? 1 : row_parts);
    auto row = [&](size_t i) { return order_.empty() ? i : static_cast<size_t>(order_[i]); };
    for (const PredictorInput& in : inputs) {
        Fixed f;
        f.columns = in.columns;
        f.coefficient = in.coefficient;
        f.one = in.columns == 1 && all_ones(in.X, n_);
        f.X = in.X;
        if (!order_.empty() && !f.one) {
            const size_t k = in.columns;
            f.own.resize(n_ * k);
            for (size_t i = 0; i < n_; ++i)
                std::copy_n(in.X + row(i) * k, k, f.own.begin() + i * k);
            f.X = f.own.data();
        }
        f.offset = gather(in.offset);
        f.unit = in.unit;
        fixed_.push_back(std::move(f));
    }
    for (size_t k = 0; k < pattern.factors.size(); ++k) {
        const Factor& f = pattern.factors[k];
        Random g;
        g.r = f.r;
        g.level.resize(n_);
        g.z.resize(n_ * f.r);
        for (int m : owners[k])
            g.owner.push_back(static_cast<int>(std::lower_bound(random_.begin(), random_.end(), m) -
                                               random_.begin()));
        for (size_t i = 0; i < n_; ++i) {
            g.level[i] = f.rank_of[f.codes[row(i)]];
            for (int a = 0; a < f.r; ++a) g.z[i * f.r + a] = f.z_at(row(i), a);
        }
        factors_.push_back(std::move(g));
    }
    for (int t : pattern.tail) {
        if (pattern.chain.empty()) break;
        const Indices& leader = factors_[pattern.chain[0].factor].level;
        const Factor& g = pattern.factors[t];
        Indices place(n_);
        for (size_t i = 0; i < n_; ++i) {
            const auto from = pattern.tail_column.begin() + pattern.tail_ptr[leader[i]];
            const auto to = pattern.tail_column.begin() + pattern.tail_ptr[leader[i] + 1];
            place[i] = static_cast<int32_t>(
                std::lower_bound(from, to, g.column + g.r * factors_[t].level[i]) - from);
        }
        leader_place_.push_back(std::move(place));
    }
    for (const PairBlock& pair : pattern.tail_pairs) {
        Indices start(pattern.factors[pair.f].q + 1, 0), place(n_);
        for (int32_t l : pair.level_f) ++start[l + 1];
        for (size_t l = 1; l < start.size(); ++l) start[l] += start[l - 1];
        for (size_t i = 0; i < n_; ++i) {
            const int32_t l = factors_[pair.f].level[i];
            const auto from = pair.level_g.begin() + start[l];
            const auto to = pair.level_g.begin() + start[l + 1];
            place[i] = static_cast<int32_t>(std::lower_bound(from, to, factors_[pair.g].level[i]) -
                                            pair.level_g.begin());
        }
        pair_place_.push_back(std::move(place));
    }
}

int Predictors::threads(size_t visits) const {
    return visits < worth_threads ? 1 : threads_;
}

Vector Predictors::gather(const double* values) const {
    if (!values) return {};
    Vector out(values, values + n_);
    for (size_t i = 0; i < order_.size(); ++i) out[i] = values[order_[i]];
    return out;
}

void Predictors::scatter(const double* here, double* values) const {
    for (size_t i = 0; i < n_; ++i) values[order_.empty() ? i : order_[i]] = here[i];
}

void Predictors::fixed(int m, const double* beta, size_t first, size_t last, double* eta,
                       bool offset) const {
    const Fixed& f = fixed_[m];
    if (f.offset.empty() || !offset)
        std::fill(eta + first, eta + last, 0.0);
    else
        std::copy(f.offset.begin() + first, f.offset.begin() + last, eta + first);
    if (f.one) {
        const double v = beta[f.coefficient[0]];
        for (size_t i = first; i < last; ++i) eta[i] += v;
        return;
    }
    const int k = f.columns;
    Vector own(k);
    for (int c = 0; c < k; ++c) own[c] = beta[f.coefficient[c]];
    for (size_t i = first; i < last; ++i) {
        const double* x = f.X + i * k;
        double s = 0;
        for (int c = 0; c < k; ++c) s += x[c] * own[c];
        eta[i] += s;
    }
}

bool Predictors::enters(int coefficient, int m) const {
    const auto& own = fixed_[m].coefficient;
    return std::find(own.begin(), own.end(), coefficient) != own.end();
}

void Predictors::random(const std::vector<const double*>& modes, size_t first, size_t last,
                        double* const* out) const {
    for (size_t k = 0; k < random_.size(); ++k) std::fill(out[k] + first, out[k] + last, 0.0);
    for (size_t f = 0; f < factors_.size(); ++f) {
        const Random& g = factors_[f];
        const int r = g.r;
        const double* b = modes[f];
        for (int a = 0; a < r; ++a) {
            double* to = out[g.owner[a]];
            for (size_t i = first; i < last; ++i)
                to[i] += g.z[i * r + a] * b[static_cast<size_t>(g.level[i]) * r + a];
        }
    }
}

void Predictors::fixed_transposed(int m, const double* q, double* gradient) const {
    const Fixed& f = fixed_[m];
    const int k = f.columns;
    if (k == 0) return;
    const int parts = static_cast<int>(ranges_.size()) - 1;
    std::vector<Vector> sums(parts, Vector(k, 0.0));
    for_chunks(parts, threads(), [&](int c) {
        double* s = sums[c].data();
        for (size_t i = ranges_[c]; i < ranges_[c + 1]; ++i) {
            if (f.one) {
                s[0] += q[i];
                continue;
            }
            const double* x = f.X + i * k;
            for (int e = 0; e < k; ++e) s[e] += x[e] * q[i];
        }
    });
    for (const Vector& s : sums)
        for (int e = 0; e < k; ++e) gradient[f.coefficient[e]] += s[e];
}

Working Predictors::working(const Blocks& pattern, const std::vector<int>& coefficients) const {
    Working out{std::make_unique<Blocks>(pattern),
                {},
                std::vector<Vector>(chunks()),
                std::vector<int>(p_, -1)};
    Blocks& b = *out.blocks;
    const int p = static_cast<int>(coefficients.size());
    for (int k = 0; k < p; ++k) out.column[coefficients[k]] = k;
    b.p = p;
    b.X = {};
    b.w = nullptr;
    b.log_weights = 0;
    for (ChainBlock& c : b.chain) {
        c.width += p - pattern.p;
        c.panel.assign(static_cast<size_t>(c.q) * c.r * c.width, 0.0);
        out.response.chain.emplace_back(static_cast<size_t>(c.q) * c.r, 0.0);
    }
    b.tail_fixed.assign(static_cast<size_t>(b.T) * p, 0.0);
    b.fixed.assign(static_cast<size_t>(p) * p, 0.0);
    out.response.tail.assign(b.T, 0.0);
    out.response.fixed.assign(p, 0.0);
    return out;
}

// u (p) = row m of W_i X_i
void Predictors::weighted_row(const Working& to, const Weights& W, int m, size_t i,
                              double* u) const {
    std::fill(u, u + to.blocks->p, 0.0);
    for (int l = 0; l < count(); ++l) {
        const Fixed& f = fixed_[l];
        const double* w = W.at(m, l);
        if (!w) continue;
        for (int e = 0; e < f.columns; ++e) {
            const int k = to.column[f.coefficient[e]];
            if (k >= 0) u[k] += f.one ? w[i] : w[i] * f.X[i * f.columns + e];
        }
    }
}

// x (p) = row m of X_i
void Predictors::fixed_row(const Working& of, int m, size_t i, double* x) const {
    const Fixed& f = fixed_[m];
    std::fill(x, x + of.blocks->p, 0.0);
    for (int e = 0; e < f.columns; ++e) {
        const int k = of.column[f.coefficient[e]];
        if (k >= 0) x[k] += f.one ? 1.0 : f.X[i * f.columns + e];
    }
}

template <bool One>
void Predictors::refill_chain(Working& to, const Weights& W, const double* const* q, size_t first,
                              size_t last) const {
    Blocks& b = *to.blocks;
    Response& y = to.response;
    const int A = static_cast<int>(random_.size()), p = b.p;
    const RowWeight weight(W, random_);
    Vector u(static_cast<size_t>(A) * p);
    Vector w(static_cast<size_t>(A) * A);
    const size_t depth = b.chain.size();
    for (size_t i = first; i < last; ++i) {
        if (One)
            w[0] = weight(0, 0, i);
        else
            for (int k = 0; k < A; ++k)
                for (int l = 0; l < A; ++l) w[k * A + l] = weight(k, l, i);
        if (p > 0)
            for (int k = 0; k < A; ++k) weighted_row(to, W, random_[k], i, u.data() + k * p);
        for (size_t d = 0; d < depth; ++d) {
            ChainBlock& c = b.chain[d];
            const Random& f = factors_[c.factor];
            const size_t level = f.level[i];
            double* panel = c.panel.data() + level * c.r * c.width;
            const double* z = f.z.data() + i * c.r;
            for (int a = 0; a < c.r; ++a) {
                if (c.r > full_columns && z[a] == 0) continue;
                const int k = One ? 0 : f.owner[a];
                const double* wk = w.data() + k * A;
                double* row = panel + static_cast<size_t>(a) * c.width;
                const double v = z[a] * wk[0];
                for (int e = 0; e < c.r; ++e)
                    row[e] += One ? v * z[e] : z[a] * wk[f.owner[e]] * z[e];
                int col = c.r;
                for (size_t h = d + 1; h < depth; ++h) {
                    const Random& g = factors_[b.chain[h].factor];
                    const double* zg = g.z.data() + i * g.r;
                    for (int e = 0; e < g.r; ++e)
                        row[col++] += One ? v * zg[e] : z[a] * wk[g.owner[e]] * zg[e];
                }
                const double* uk = u.data() + static_cast<size_t>(k) * p;
                for (int e = 0; e < p; ++e) row[col + e] += z[a] * uk[e];
                if (q[random_[k]]) y.chain[d][level * c.r + a] += z[a] * q[random_[k]][i];
                if (d > 0) continue;
                for (size_t t = 0; t < leader_place_.size(); ++t) {
                    const Random& g = factors_[b.tail[t]];
                    const double* zg = g.z.data() + i * g.r;
                    const int64_t start = b.tail_ptr[level];
                    const int64_t m = b.tail_ptr[level + 1] - start;
                    double* value = b.tail_value.data() + start * c.r + a * m + leader_place_[t][i];
                    for (int e = 0; e < g.r; ++e)
                        value[e] += One ? v * zg[e] : z[a] * wk[g.owner[e]] * zg[e];
                }
            }
        }
    }
}

void Predictors::refill_fixed(const Working& to, const Weights& W, const double* const* q,
                              size_t first, size_t last, double* XX, double* Xq) const {
    const int p = to.blocks->p;
    Vector u(p);
    for (int m = 0; m < count(); ++m) {
        const Fixed& f = fixed_[m];
        const bool any = std::any_of(f.coefficient.begin(), f.coefficient.end(),
                                     [&](int k) { return to.column[k] >= 0; });
        if (!any) continue;
        for (size_t i = first; i < last; ++i) {
            weighted_row(to, W, m, i, u.data());
            const double* x = f.X + i * f.columns;
            for (int c = 0; c < f.columns; ++c) {
                const double v = f.one ? 1.0 : x[c];
                const int k = to.column[f.coefficient[c]];
                if (v == 0 || k < 0) continue;
                double* row = XX + static_cast<size_t>(k) * p;
                for (int e = 0; e <= k; ++e) row[e] += v * u[e];
                if (q[m]) Xq[k] += v * q[m][i];
            }
        }
    }
}

void Predictors::refill(Working& to, const Weights& W, const double* const* q, int c) const {
    Blocks& b = *to.blocks;
    Response& y = to.response;
    const size_t first = ranges_[c], last = ranges_[c + 1];
    for (size_t d = 0; d < b.chain.size(); ++d) {
        ChainBlock& block = b.chain[d];
        const size_t low = b.chunk[d][c], high = b.chunk[d][c + 1];
        const size_t row = static_cast<size_t>(block.r) * block.width;
        std::fill(block.panel.begin() + low * row, block.panel.begin() + high * row, 0.0);
        std::fill(y.chain[d].begin() + low * block.r, y.chain[d].begin() + high * block.r, 0.0);
        if (d == 0 && b.T > 0)
            std::fill(b.tail_value.begin() + b.tail_ptr[low] * block.r,
                      b.tail_value.begin() + b.tail_ptr[high] * block.r, 0.0);
    }
    if (!b.chain.empty()) {
        if (random_.size() == 1)
            refill_chain<true>(to, W, q, first, last);
        else
            refill_chain<false>(to, W, q, first, last);
    }
    if (b.p == 0) return;
    const size_t p = b.p;
    Vector& sum = to.sums[c];
    sum.assign(p * p + p, 0.0);
    refill_fixed(to, W, q, first, last, sum.data(), sum.data() + p * p);
}

void Predictors::refill_tail_factor(Working& to, const Weights& W, const double* const* q,
                                    size_t t) const {
    Blocks& b = *to.blocks;
    Response& y = to.response;
    const Random& f = factors_[b.tail[t]];
    const int r = f.r, p = b.p, A = static_cast<int>(random_.size());
    const size_t column = b.factors[b.tail[t]].column;
    Vector& diagonal = b.tail_diagonal[t];
    std::fill(diagonal.begin(), diagonal.end(), 0.0);
    std::fill_n(y.tail.begin() + column, static_cast<size_t>(b.factors[b.tail[t]].q) * r, 0.0);
    std::fill_n(b.tail_fixed.begin() + column * p,
                static_cast<size_t>(b.factors[b.tail[t]].q) * r * p, 0.0);
    const RowWeight weight(W, random_);
    Vector u(static_cast<size_t>(A) * p);
    for (size_t i = 0; i < n_; ++i) {
        const double* z = f.z.data() + i * r;
        const size_t first = static_cast<size_t>(f.level[i]) * r;
        if (p > 0)
            for (int k = 0; k < A; ++k) weighted_row(to, W, random_[k], i, u.data() + k * p);
        for (int a = 0; a < r; ++a) {
            if (r > full_columns && z[a] == 0) continue;
            const int k = f.owner[a];
            double* d = diagonal.data() + (first + a) * r;
            for (int e = 0; e < r; ++e) d[e] += z[a] * weight(k, f.owner[e], i) * z[e];
            if (q[random_[k]]) y.tail[column + first + a] += z[a] * q[random_[k]][i];
            double* row = b.tail_fixed.data() + (column + first + a) * p;
            for (int e = 0; e < p; ++e) row[e] += z[a] * u[static_cast<size_t>(k) * p + e];
        }
    }
}

void Predictors::refill_pair(PairBlock& pair, const Indices& place, const Weights& W) const {
    const Random &f = factors_[pair.f], &g = factors_[pair.g];
    const RowWeight weight(W, random_);
    std::fill(pair.values.begin(), pair.values.end(), 0.0);
    const size_t size = static_cast<size_t>(f.r) * g.r;
    for (size_t i = 0; i < n_; ++i) {
        double* value = pair.values.data() + static_cast<size_t>(place[i]) * size;
        for (int a = 0; a < f.r; ++a)
            for (int e = 0; e < g.r; ++e)
                value[a * g.r + e] +=
                    f.z[i * f.r + a] * weight(f.owner[a], g.owner[e], i) * g.z[i * g.r + e];
    }
}

void Predictors::refill_shared(Working& to, const Weights& W, const double* const* q) const {
    Blocks& b = *to.blocks;
    Response& y = to.response;
    const int factors = static_cast<int>(b.tail.size());
    const int tasks = factors + static_cast<int>(b.tail_pairs.size());
    for_tasks(tasks, threads(), [&](int task) {
        if (task < factors)
            refill_tail_factor(to, W, q, task);
        else
            refill_pair(b.tail_pairs[task - factors], pair_place_[task - factors], W);
    });
    if (b.p == 0) return;
    const size_t p = b.p;
    std::fill(b.fixed.begin(), b.fixed.end(), 0.0);
    std::fill(y.fixed.begin(), y.fixed.end(), 0.0);
    for (const Vector& sum : to.sums) {
        for (size_t k = 0; k < p * p; ++k) b.fixed[k] += sum[k];
        for (size_t k = 0; k < p; ++k) y.fixed[k] += sum[p * p + k];
    }
    for (size_t a = 0; a < p; ++a)
        for (size_t e = 0; e < a; ++e) b.fixed[e * p + a] = b.fixed[a * p + e];
}

void Predictors::respond(const Working& of, Response& y, const double* const* q) const {
    const Blocks& b = *of.blocks;
    for (Vector& v : y.chain) std::fill(v.begin(), v.end(), 0.0);
    std::fill(y.tail.begin(), y.tail.end(), 0.0);
    std::fill(y.fixed.begin(), y.fixed.end(), 0.0);
    auto add = [&](const Random& f, double* to, size_t first, size_t last) {
        for (int a = 0; a < f.r; ++a) {
            const double* from = q[random_[f.owner[a]]];
            if (!from) continue;
            for (size_t i = first; i < last; ++i)
                to[static_cast<size_t>(f.level[i]) * f.r + a] += f.z[i * f.r + a] * from[i];
        }
    };
    for_chunks(chunks(), threads(), [&](int c) {
        for (size_t d = 0; d < b.chain.size(); ++d)
            add(factors_[b.chain[d].factor], y.chain[d].data(), ranges_[c], ranges_[c + 1]);
    });
    for (int t : b.tail) add(factors_[t], y.tail.data() + b.factors[t].column, 0, n_);
    if (b.p == 0) return;
    Vector all(p_, 0.0);
    for (int m = 0; m < count(); ++m)
        if (q[m]) fixed_transposed(m, q[m], all.data());
    for (int k = 0; k < p_; ++k)
        if (of.column[k] >= 0) y.fixed[of.column[k]] = all[k];
}

} // namespace ranef
