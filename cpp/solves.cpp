// Whole solves: the modes, scores and fixed effects of any right-hand sides at the last phi, one
// factor for all of them.
//
// With a by levels in place of Z'y and X'y, the effects are Psi s, s = Z'Py. Where a is a
// combination of effects whose variance of prediction is v = a'Omega^-1 a, its derivative is
//   dv = sum_l s_l' dPsi s_l,
// since the weights of the prediction are such that their own change adds nothing.
#include <algorithm>

#include "criterion.hpp"
#include "levels.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

constexpr double most_at_once = 64;    // right-hand sides
constexpr double values_at_once = 4e6; // of all their effects

// t = L^-1 Lambda'a of one level, L and Lambda row-major.
void whiten(int r, const double* L, const double* Lambda, const double* a, double* t) {
    for (int i = 0; i < r; ++i) {
        double v = 0;
        for (int k = i; k < r; ++k) v += Lambda[k * r + i] * a[k];
        for (int k = 0; k < i; ++k) v -= L[i * r + k] * t[k];
        t[i] = v / L[i * r + i];
    }
}

} // namespace

// sum_l s_l s_l', (r, r).
Vector outer_sum(int r, const Vector& s, const Vector& t) {
    Vector sum(static_cast<size_t>(r) * r, 0.0);
    for (size_t l = 0; l < s.size(); l += r)
        for (int i = 0; i < r; ++i)
            for (int k = 0; k < r; ++k) sum[i * r + k] += s[l + i] * t[l + k];
    return sum;
}

// Takes the levels of the chain out of what stands above them; each right-hand side becomes
// Schur's, its square what is left of it.
void Criterion::reduce(std::vector<Response>& rhs) const {
    const int p = b_.p;
    for (size_t d = 0; d < b_.chain.size(); ++d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, wp = c.width - r;
        Vector t(r);
        for (size_t j = 0; j < static_cast<size_t>(c.q); ++j)
            for (Response& a : rhs) {
                const double* own = a.chain[d].data() + j * r;
                if (std::all_of(own, own + r, [](double v) { return v == 0; })) continue;
                whiten(r, L_[d].data() + j * r * r, lambda_[c.factor].data(), own, t.data());
                a.square -= inner(r, t.data(), t.data());
                const double* W = W_[d].data() + j * r * wp;
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const int ru = b_.chain[d + 1 + k].r;
                    double* up =
                        a.chain[d + 1 + k].data() + static_cast<size_t>(c.ancestor[k][j]) * ru;
                    for (int s = 0; s < r; ++s)
                        for (int e = 0; e < ru; ++e) up[e] -= W[s * wp + off + e] * t[s];
                    off += ru;
                }
                for (int s = 0; s < r; ++s)
                    for (int e = 0; e < p; ++e) a.fixed[e] -= W[s * wp + off + e] * t[s];
                if (b_.T == 0) continue;
                const int64_t first = b_.tail_ptr[j];
                const int m = static_cast<int>(b_.tail_ptr[j + 1] - first);
                const double* w = tail_W_.data() + first * r;
                for (int s = 0; s < r; ++s)
                    for (int e = 0; e < m; ++e)
                        a.tail[b_.tail_column[first + e]] -=
                            w[static_cast<size_t>(s) * m + e] * t[s];
            }
    }
}

// Effects and scores of the tail, the fixed effects and sums of squares; returns the effects
// (N, k) as they multiply the data.
Vector Criterion::solve_tail(const std::vector<Response>& rhs, std::vector<Solution>& out) const {
    const int N = b_.order(), T = b_.T, k = static_cast<int>(rhs.size());
    Vector rest(static_cast<size_t>(N) * k), x(rest.size());
    for (int j = 0; j < k; ++j) {
        double* own = rest.data() + at(0, j, N);
        std::copy(rhs[j].tail.begin(), rhs[j].tail.end(), own);
        std::copy(rhs[j].fixed.begin(), rhs[j].fixed.end(), own + T);
    }
    kernel_times(b_, rest, k, true);
    for (int j = 0; j < k; ++j) scale_vector(rest.data() + at(0, j, N), x.data() + at(0, j, N));
    tail_->forward(k, x.data());
    for (int j = 0; j < k; ++j) {
        const double* half = x.data() + at(0, j, N);
        out[j].rss = rhs[j].square - inner(N, half, half);
    }
    tail_->backward(k, x.data());
    for (int j = 0; j < k; ++j)
        out[j].beta.assign(x.begin() + at(T, j, N), x.begin() + at(0, j + 1, N));
    if (T == 0) return x;
    for (int j = 0; j < k; ++j)
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            double* own = x.data() + at(0, j, N);
            for (int i = f.column; i < f.column + f.q * f.r; i += f.r)
                for (int a = f.r - 1; a >= 0; --a)
                    own[i + a] = inner(a + 1, lambda_[t].data() + a * f.r, own + i);
        }
    Vector Qx(x.size());
    tail_->schur_times(k, x.data(), Qx.data());
    for (int j = 0; j < k; ++j)
        for (int t : b_.tail) {
            const size_t first = at(b_.factors[t].column, j, N);
            Vector& scores = out[j].scores[t];
            for (size_t i = 0; i < scores.size(); ++i) scores[i] = rest[first + i] - Qx[first + i];
        }
    kernel_times(b_, x, k, false);
    for (int j = 0; j < k; ++j)
        for (int t : b_.tail)
            std::copy_n(x.begin() + at(b_.factors[t].column, j, N), out[j].modes[t].size(),
                        out[j].modes[t].begin());
    return x;
}

// Scores and effects of the chain's levels of one depth, those above it being known.
void Criterion::solve_levels(int depth, const std::vector<Response>& rhs, const Vector& tail,
                             std::vector<Solution>& out) const {
    const ChainBlock& c = b_.chain[depth];
    const int r = c.r, wp = c.width - r, N = b_.order();
    Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size());
    Vector above(wp), rest(r);
    for (size_t j = 0; j < static_cast<size_t>(c.q); ++j) {
        const double* A = panel(depth, static_cast<int>(j));
        const Level<0> level{
            r,        c.width,   A,       L_[depth].data() + j * r * r, lambda_[c.factor].data(),
            V.data(), Nm.data(), M.data()};
        level.resolve(scratch.data());
        for (size_t i = 0; i < rhs.size(); ++i) {
            auto to = above.begin();
            for (size_t k = 0; k < c.ancestor.size(); ++k) {
                const ChainBlock& up = b_.chain[depth + 1 + k];
                const size_t place = static_cast<size_t>(c.ancestor[k][j]) * up.r;
                to = std::copy_n(out[i].modes[up.factor].begin() + place, up.r, to);
            }
            std::copy(out[i].beta.begin(), out[i].beta.end(), to);
            for (int k = 0; k < r; ++k) {
                rest[k] = rhs[i].chain[depth][j * r + k] -
                          inner(wp, A + static_cast<size_t>(k) * c.width + r, above.data());
                if (b_.T == 0) continue;
                const double* effects = tail.data() + at(0, static_cast<int>(i), N);
                const int64_t first = b_.tail_ptr[j];
                const int m = static_cast<int>(b_.tail_ptr[j + 1] - first);
                const double* C = b_.tail_value.data() + first * r + static_cast<size_t>(k) * m;
                for (int e = 0; e < m; ++e) rest[k] -= C[e] * effects[b_.tail_column[first + e]];
            }
            double* s = out[i].scores[c.factor].data() + j * r;
            double* b = out[i].modes[c.factor].data() + j * r;
            for (int k = 0; k < r; ++k) s[k] = inner(r, Nm.data() + k * r, rest.data());
            for (int k = 0; k < r; ++k) b[k] = inner(r, V.data() + k * r, rest.data());
        }
    }
}

std::vector<Solution> Criterion::solutions(std::vector<Response> rhs) {
    restore_factor();
    Watch::poll();
    std::vector<Solution> out(rhs.size());
    for (Solution& own : out)
        for (const Factor& f : b_.factors) {
            own.modes.emplace_back(static_cast<size_t>(f.q) * f.r, 0.0);
            own.scores.emplace_back(own.modes.back());
        }
    reduce(rhs);
    const Vector tail = solve_tail(rhs, out);
    for (int d = static_cast<int>(b_.chain.size()) - 1; d >= 0; --d)
        solve_levels(d, rhs, tail, out);
    return out;
}

size_t Criterion::solved_at_once() const {
    double columns = b_.order();
    for (const ChainBlock& c : b_.chain) columns += static_cast<double>(c.q) * c.r;
    return static_cast<size_t>(std::max(1.0, std::min(most_at_once, values_at_once / columns)));
}

// With s the scores of a row's combination as right-hand side and t those of the response:
// sum_l s_l s_l' and sum_l s_l t_l'.
Criterion::FormSlopes Criterion::form_slopes(size_t rows, const std::vector<const int32_t*>& levels,
                                             const std::vector<const double*>& z, const double* X) {
    score();
    FormSlopes out;
    for (const Factor& f : b_.factors) out.forms.emplace_back(rows * f.r * f.r, 0.0);
    out.values = out.forms;
    std::vector<Response> rhs;
    for (size_t row = 0; row < rows; ++row) {
        Response a;
        for (const ChainBlock& c : b_.chain)
            a.chain.emplace_back(static_cast<size_t>(c.q) * c.r, 0.0);
        a.tail.assign(b_.T, 0.0);
        a.fixed.assign(X + row * b_.p, X + (row + 1) * b_.p);
        for (size_t f = 0; f < b_.factors.size(); ++f) {
            const Factor& factor = b_.factors[f];
            const int32_t level = levels[f][row];
            if (level < 0) continue;
            const size_t r = factor.r, place = static_cast<size_t>(factor.rank_of[level]) * r;
            double* to = factor.depth >= 0 ? a.chain[factor.depth].data() + place
                                           : a.tail.data() + factor.column + place;
            std::copy_n(z[f] + row * r, r, to);
        }
        rhs.push_back(std::move(a));
        if (rhs.size() < solved_at_once() && row + 1 < rows) continue;
        const size_t first = row + 1 - rhs.size();
        const std::vector<Solution> found = solutions(std::move(rhs));
        for (size_t i = 0; i < found.size(); ++i)
            for (size_t f = 0; f < b_.factors.size(); ++f) {
                const Vector& s = found[i].scores[f];
                const Vector form = outer_sum(b_.factors[f].r, s, s),
                             value = outer_sum(b_.factors[f].r, s, scores_[f]);
                const size_t place = (first + i) * form.size();
                std::copy(form.begin(), form.end(), out.forms[f].begin() + place);
                std::copy(value.begin(), value.end(), out.values[f].begin() + place);
            }
        rhs.clear();
    }
    return out;
}

} // namespace ranef
