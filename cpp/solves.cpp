// Whole solves: the modes, scores and fixed effects of any right-hand side at the last phi.
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

// Takes the levels of the chain out of what stands above them; `a` becomes Schur's.
void Criterion::reduce(Response& a) const {
    const int p = b_.p;
    for (size_t d = 0; d < b_.chain.size(); ++d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, wp = c.width - r;
        Vector t(r);
        for (size_t j = 0; j < static_cast<size_t>(c.q); ++j) {
            const double* own = a.chain[d].data() + j * r;
            if (std::all_of(own, own + r, [](double v) { return v == 0; })) continue;
            whiten(r, L_[d].data() + j * r * r, lambda_[c.factor].data(), own, t.data());
            const double* W = W_[d].data() + j * r * wp;
            int off = 0;
            for (size_t k = 0; k < c.ancestor.size(); ++k) {
                const int ru = b_.chain[d + 1 + k].r;
                double* up = a.chain[d + 1 + k].data() + static_cast<size_t>(c.ancestor[k][j]) * ru;
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
                    a.tail[b_.tail_column[first + e]] -= w[static_cast<size_t>(s) * m + e] * t[s];
        }
    }
}

// Effects and scores of the tail, and the fixed effects; returns the effects as they multiply
// the data.
Vector Criterion::solve_tail(const Response& a, Solution& out) const {
    const int N = b_.order(), T = b_.T;
    Vector rest(N), x(N);
    std::copy(a.tail.begin(), a.tail.end(), rest.begin());
    std::copy(a.fixed.begin(), a.fixed.end(), rest.begin() + T);
    kernel_times(b_, rest, 1, true);
    scale_vector(rest.data(), x.data());
    tail_->forward(1, x.data());
    tail_->backward(1, x.data());
    out.beta.assign(x.begin() + T, x.end());
    if (T == 0) return x;
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        for (int i = f.column; i < f.column + f.q * f.r; i += f.r)
            for (int k = f.r - 1; k >= 0; --k)
                x[i + k] = inner(k + 1, lambda_[t].data() + k * f.r, x.data() + i);
    }
    Vector Qx(N);
    tail_->schur_times(1, x.data(), Qx.data());
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        for (int k = 0; k < f.q * f.r; ++k)
            out.scores[t][k] = rest[f.column + k] - Qx[f.column + k];
    }
    kernel_times(b_, x, 1, false);
    for (int t : b_.tail)
        std::copy_n(x.begin() + b_.factors[t].column, out.modes[t].size(), out.modes[t].begin());
    return x;
}

Solution Criterion::solution(Response a) {
    restore_factor();
    Watch::poll();
    Solution out;
    for (const Factor& f : b_.factors) {
        out.modes.emplace_back(static_cast<size_t>(f.q) * f.r, 0.0);
        out.scores.emplace_back(out.modes.back());
    }
    reduce(a);
    const Vector tail = solve_tail(a, out);
    for (int d = static_cast<int>(b_.chain.size()) - 1; d >= 0; --d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, wp = c.width - r;
        Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size());
        Vector above(wp), rhs(r);
        std::copy(out.beta.begin(), out.beta.end(), above.end() - b_.p);
        for (size_t j = 0; j < static_cast<size_t>(c.q); ++j) {
            const double* A = panel(d, static_cast<int>(j));
            const Level<0> level{
                r,        c.width,   A,       L_[d].data() + j * r * r, lambda_[c.factor].data(),
                V.data(), Nm.data(), M.data()};
            level.resolve(scratch.data());
            auto to = above.begin();
            for (size_t k = 0; k < c.ancestor.size(); ++k) {
                const ChainBlock& up = b_.chain[d + 1 + k];
                const size_t place = static_cast<size_t>(c.ancestor[k][j]) * up.r;
                to = std::copy_n(out.modes[up.factor].begin() + place, up.r, to);
            }
            for (int k = 0; k < r; ++k) {
                rhs[k] = a.chain[d][j * r + k] -
                         inner(wp, A + static_cast<size_t>(k) * c.width + r, above.data());
                if (b_.T == 0) continue;
                const int64_t first = b_.tail_ptr[j];
                const int m = static_cast<int>(b_.tail_ptr[j + 1] - first);
                const double* C = b_.tail_value.data() + first * r + static_cast<size_t>(k) * m;
                for (int e = 0; e < m; ++e) rhs[k] -= C[e] * tail[b_.tail_column[first + e]];
            }
            double* s = out.scores[c.factor].data() + j * r;
            double* b = out.modes[c.factor].data() + j * r;
            for (int k = 0; k < r; ++k) s[k] = inner(r, Nm.data() + k * r, rhs.data());
            for (int k = 0; k < r; ++k) b[k] = inner(r, V.data() + k * r, rhs.data());
        }
    }
    return out;
}

std::vector<Vector> Criterion::form_slopes(size_t rows, const std::vector<const int32_t*>& levels,
                                           const std::vector<const double*>& z, const double* X) {
    std::vector<Vector> out;
    for (const Factor& f : b_.factors) out.emplace_back(rows * f.r * f.r, 0.0);
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
        const Solution found = solution(std::move(a));
        for (size_t f = 0; f < b_.factors.size(); ++f) {
            const size_t r = b_.factors[f].r;
            double* sum = out[f].data() + row * r * r;
            for (size_t l = 0; l < static_cast<size_t>(b_.factors[f].q); ++l) {
                const double* s = found.scores[f].data() + l * r;
                for (size_t i = 0; i < r; ++i)
                    for (size_t k = 0; k < r; ++k) sum[i * r + k] += s[i] * s[k];
            }
        }
    }
    return out;
}

} // namespace ranef
