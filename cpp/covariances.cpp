// Covariances of the modes, and what each level says of the fixed effects.
#include <algorithm>
#include <cmath>

#include "criterion.hpp"
#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

// R_lP and R_ll of the leader's levels in one chunk: J = V C,
// R_lT = -J R_TT on the touched columns (and those of X), R_ll = V + J R_TT J'.
void Criterion::leader_covariances(int chunk) {
    const ChainBlock& c = b_.chain[0];
    const int r = c.r, width = c.width, N = b_.order(), p = b_.p;
    Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size()), C, J;
    Indices col;
    const double* Lambda = lambda_[c.factor].data();
    const bool dense = DenseTail::dense_leader(b_);
    const size_t nodes = std::max(1, dense_block / r);
    Vector full(dense ? static_cast<size_t>(N) * nodes * r : 0), full_R(full.size());
    const size_t first = b_.chunk[0][chunk], last = b_.chunk[0][chunk + 1];
    for (size_t start = first; start < last; start += nodes) {
        const size_t end = std::min(start + nodes, last);
        std::fill(full.begin(), full.end(), 0.0);
        for (int pass = dense ? 0 : 1; pass < 2; ++pass) {
            for (size_t j = start; j < end; ++j) {
                const double* A = panel(0, static_cast<int>(j));
                const Level<0> level{r,      width,    A,         L_[0].data() + j * r * r,
                                     Lambda, V.data(), Nm.data(), M.data()};
                level.resolve(scratch.data());
                const int64_t ptr = b_.tail_ptr[j];
                const int touched = static_cast<int>(b_.tail_ptr[j + 1] - ptr), m = touched + p;
                col.assign(b_.tail_column.begin() + ptr, b_.tail_column.begin() + ptr + touched);
                for (int e = 0; e < p; ++e) col.push_back(b_.T + e);
                C.resize(static_cast<size_t>(r) * m);
                for (int a = 0; a < r; ++a) {
                    std::copy_n(b_.tail_value.data() + ptr * r + static_cast<size_t>(a) * touched,
                                touched, C.data() + static_cast<size_t>(a) * m);
                    std::copy_n(A + static_cast<size_t>(a) * width + r, p,
                                C.data() + static_cast<size_t>(a) * m + touched);
                }
                J.resize(C.size());
                multiply<0>(r, m, V.data(), C.data(), m, J.data());
                const size_t place = (j - start) * r;
                if (pass == 0) {
                    for (int a = 0; a < r; ++a)
                        for (int e = 0; e < m; ++e)
                            full[at(col[e], static_cast<int>(place) + a, N)] = J[a * m + e];
                    continue;
                }
                double* R = leader_R_.data() + (ptr + static_cast<int64_t>(j) * p) * r;
                if (dense)
                    for (int a = 0; a < r; ++a) {
                        const double* x = full_R.data() + at(0, static_cast<int>(place) + a, N);
                        for (int e = 0; e < m; ++e) R[static_cast<size_t>(a) * m + e] = -x[col[e]];
                    }
                else
                    tail_->level_covariance(j, r, touched, J.data(), R);
                double* own = chain_R_[0].data() + j * r * width;
                for (int a = 0; a < r; ++a)
                    for (int f = 0; f < r; ++f)
                        own[a * width + f] =
                            V[a * r + f] - inner(m, R + static_cast<size_t>(a) * m,
                                                 J.data() + static_cast<size_t>(f) * m);
            }
            if (pass == 0)
                tail_->covariance_times(static_cast<int>(end - start) * r, full.data(),
                                        full_R.data());
        }
    }
}

void Criterion::covariances(bool with_fixed) {
    const int depth = static_cast<int>(b_.chain.size());
    chain_R_.resize(depth);
    for (int d = 0; d < depth; ++d)
        chain_R_[d].resize(static_cast<size_t>(b_.chain[d].q) * b_.chain[d].r * b_.chain[d].width);
    if (b_.T > 0) {
        if (!inverted_ || with_fixed != reml_) invert_tail(with_fixed);
        inverted_ = inverted_ && with_fixed == reml_ && !any_kernel();
        if (any_kernel()) tail_->unapply_kernels(false);
        if (b_.chain.empty()) return;
        leader_R_.resize(b_.tail_value.size() +
                         static_cast<size_t>(b_.chain[0].q) * b_.chain[0].r * b_.p);
        const bool large = b_.tail_column.size() > 10000 && !DenseTail::dense_leader(b_);
        for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) { leader_covariances(c); });
        return;
    }
    top_covariance(with_fixed);
    const bool large = depth > 0 && b_.chain[0].panel.size() > 20000;
    for_chunks(b_.chunks, large ? threads_ : 1, [&](int chunk) {
        for (int d = depth - 1; d >= 0; --d) {
            const ChainBlock& c = b_.chain[d];
            const int r = c.r, width = c.width, wp = width - r;
            const double* Lambda = lambda_[c.factor].data();
            Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size());
            Vector J(static_cast<size_t>(r) * wp), PP(static_cast<size_t>(wp) * wp, 0.0);
            if (d + 1 == depth) gather_ancestors(chain_R_, d, 0, PP);
            for (size_t j = b_.chunk[d][chunk]; j < b_.chunk[d][chunk + 1]; ++j) {
                const double* A = panel(d, static_cast<int>(j));
                const Level<0> level{r,      width,    A,         L_[d].data() + j * r * r,
                                     Lambda, V.data(), Nm.data(), M.data()};
                level.resolve(scratch.data());
                double* out = chain_R_[d].data() + j * r * width;
                if (d + 1 < depth) gather_ancestors(chain_R_, d, static_cast<int>(j), PP);
                multiply<0>(r, wp, V.data(), A + r, width, J.data());
                for (int a = 0; a < r; ++a) {
                    double* row = out + static_cast<size_t>(a) * width;
                    const double* ja = J.data() + static_cast<size_t>(a) * wp;
                    for (int e = 0; e < wp; ++e)
                        row[r + e] = -inner(wp, PP.data() + static_cast<size_t>(e) * wp, ja);
                    for (int f = 0; f < r; ++f)
                        row[f] = V[a * r + f] -
                                 inner(wp, row + r, J.data() + static_cast<size_t>(f) * wp);
                }
            }
        }
    });
}

void Criterion::mode_covariances(int factor, bool with_fixed, double* out) {
    solve();
    top_covariance(with_fixed);
    if (b_.T > 0 && !(inverted_ && with_fixed == reml_)) {
        invert_tail(with_fixed);
        inverted_ = false;
    }
    const Factor& f = b_.factors[factor];
    const int r = f.r;
    if (any_kernel()) {
        tail_->unapply_kernels(false);
        inverted_ = false;
    }
    if (f.depth < 0) {
        for (int l = 0; l < f.q; ++l)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    out[(static_cast<size_t>(f.level_at[l]) * r + a) * r + e] =
                        tail_->covariance(f.column + l * r + a, f.column + l * r + e);
        return;
    }
    for (int d = static_cast<int>(b_.chain.size()) - 1; d >= f.depth; --d) {
        const ChainBlock& c = b_.chain[d];
        post_[d].assign(static_cast<size_t>(c.q) * c.r * c.width, 0.0);
        for_chunks(b_.chunks, c.panel.size() > 20000 ? threads_ : 1,
                   [&](int k) { descend<0>(d, k, false); });
    }
    const ChainBlock& c = b_.chain[f.depth];
    for (int l = 0; l < f.q; ++l)
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                out[(static_cast<size_t>(f.level_at[l]) * r + a) * r + e] =
                    post_[f.depth][(static_cast<size_t>(l) * r + a) * c.width + e];
    for (Vector& post : post_) post.clear();
}

// cov(b - b^) = cov(b - b^ | beta) + Psi S C S'Psi, S = Z_l'H^-1X: each by the inverse that the
// derivatives leave and the other by the difference, unless that leaves too few digits.
void Criterion::all_mode_covariances(std::vector<Vector>& given, std::vector<Vector>& error) {
    constexpr double least = 1e-4;
    const int p = b_.p;
    solve();
    if (b_.T > 0 && !inverted_) invert();
    std::vector<Vector> SC;
    if (!any_kernel()) SC = level_fixed_scores(C_.data());
    Vector L = C_;
    const bool apart = !any_kernel() && (p == 0 || cholesky(p, L.data(), p));
    bool lost = !apart;
    for (const Factor& f : b_.factors) {
        const size_t r = f.r;
        given.emplace_back(f.q * r * r);
        error.emplace_back(given.back());
    }
    for (size_t k = 0; k < b_.factors.size(); ++k) {
        const Factor& factor = b_.factors[k];
        const int f = static_cast<int>(k), r = factor.r;
        Vector &known = reml_ ? error[k] : given[k], &other = reml_ ? given[k] : error[k];
        mode_covariances(f, reml_, known.data());
        if (!apart) continue;
        Vector w(static_cast<size_t>(p) * r);
        for (int l = 0; l < factor.q; ++l) {
            // w = L^-1 (SC)'Psi, LL' = C
            const double* sc = SC[k].data() + static_cast<size_t>(l) * r * p;
            std::fill(w.begin(), w.end(), 0.0);
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    for (int i = 0; i < p; ++i)
                        w[at(i, a, p)] += psi_[k][a * r + e] * sc[e * p + i];
            if (p > 0) solve_lower(p, r, L.data(), p, w.data(), p);
            const size_t place = static_cast<size_t>(factor.level_at[l]) * r * r;
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e) {
                    const double v = inner(p, w.data() + at(0, a, p), w.data() + at(0, e, p));
                    other[place + a * r + e] = known[place + a * r + e] + (reml_ ? -v : v);
                }
            for (int a = 0; reml_ && a < r; ++a) {
                const size_t diagonal = place + static_cast<size_t>(a) * (r + 1);
                lost = lost || other[diagonal] < least * known[diagonal];
            }
        }
    }
    for (size_t k = 0; lost && k < b_.factors.size(); ++k)
        mode_covariances(static_cast<int>(k), !reml_, (reml_ ? given : error)[k].data());
}

std::vector<Vector> Criterion::fixed_scores() {
    solve();
    restore_factor();
    inverted_ = false;
    return sum_fixed_scores(level_fixed_scores(nullptr));
}

std::vector<Vector> Criterion::sum_fixed_scores(const std::vector<Vector>& scores) const {
    const int p = b_.p;
    std::vector<Vector> out;
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const size_t r = b_.factors[f].r, q = b_.factors[f].q;
        Vector sum(r * r * p * p, 0.0);
        for (size_t l = 0; l < q; ++l) {
            const double* y = scores[f].data() + l * r * p;
            for (size_t a = 0; a < r; ++a)
                for (size_t e = 0; e < r; ++e)
                    for (int i = 0; i < p; ++i)
                        for (int k = 0; k < p; ++k)
                            sum[((a * r + e) * p + i) * p + k] += y[a * p + i] * y[e * p + k];
        }
        out.push_back(std::move(sum));
    }
    return out;
}

// X'H^-1 z by level of XB: of the tail by its modes, then down the chain, whose levels need them.
// One function, since each depth reads what the one above it has left.
std::vector<Vector> Criterion::level_fixed_scores(const double* B) {
    if (!inverted_) fixed_modes();
    const int N = b_.order(), T = b_.T, p = b_.p, depth = static_cast<int>(b_.chain.size());
    const size_t pp = static_cast<size_t>(p) * p;
    Vector unit(B ? 0 : pp, 0.0);
    for (int e = 0; e < p && !B; ++e) unit[at(e, e, p)] = 1;
    const double* by = B ? B : unit.data();
    std::vector<Vector> out;
    for (const Factor& f : b_.factors) out.emplace_back(static_cast<size_t>(f.q) * f.r * p);
    // modes of the columns of XB, as they multiply the data: R_TX = -Y C
    Vector raw(static_cast<size_t>(T) * p, 0.0), QX(raw.size(), 0.0), given(raw.size());
    const bool covariance = inverted_ && reml_;
    for (int i = 0; i < T; ++i)
        for (int e = 0; e < p; ++e) {
            given[at(i, e, T)] = tail_->schur_fixed(i, e);
            if (covariance) raw[at(i, e, T)] = -tail_->covariance(T + e, i);
        }
    for (int e = 0; e < p; ++e)
        for (int h = 0; h < p; ++h) {
            const double x = by[at(h, e, p)];
            for (int i = 0; i < T; ++i) QX[at(i, e, T)] += given[at(i, h, T)] * x;
            if (covariance) continue;
            for (int i = 0; i < T; ++i) raw[at(i, e, T)] += Y_[at(i, h, T)] * x;
        }
    if (T > 0) {
        Vector v(static_cast<size_t>(N) * p, 0.0), Qv(v.size());
        for (int e = 0; e < p; ++e)
            for (int i = 0; i < T; ++i) v[at(i, e, N)] = raw[at(i, e, T)];
        tail_->schur_times(p, v.data(), Qv.data());
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            for (int k = 0; k < f.q * f.r; ++k) {
                const int i = f.column + k;
                for (int e = 0; e < p; ++e)
                    out[t][static_cast<size_t>(k) * p + e] = QX[at(i, e, T)] - Qv[at(i, e, N)];
            }
        }
        kernel_times(b_, raw, p, false);
    }
    std::vector<Vector> modes(depth); // [depth] (q, r, p)
    for (int d = depth - 1; d >= 0; --d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, width = c.width, wp = width - r;
        modes[d].assign(static_cast<size_t>(c.q) * r * p, 0.0);
        Vector V(r * r), Nm(r * r), M(r * r), scratch(r * r);
        Vector rhs(static_cast<size_t>(r) * p);
        const double* Lambda = lambda_[c.factor].data();
        const double* Psi = psi_[c.factor].data();
        for (int j = 0; j < c.q; ++j) {
            const double* A = panel(d, j);
            const Level<0> level{
                r,      width,    A,         L_[d].data() + static_cast<size_t>(j) * r * r,
                Lambda, V.data(), Nm.data(), M.data()};
            level.resolve(scratch.data());
            for (int a = 0; a < r; ++a) {
                const double* row = A + static_cast<size_t>(a) * width + r;
                for (int e = 0; e < p; ++e)
                    rhs[a * p + e] = inner(p, row + wp - p, by + at(0, e, p));
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const int ru = b_.chain[d + 1 + k].r;
                    const double* mode =
                        modes[d + 1 + k].data() + static_cast<size_t>(c.ancestor[k][j]) * ru * p;
                    for (int u = 0; u < ru; ++u, ++off)
                        for (int e = 0; e < p; ++e) rhs[a * p + e] -= row[off] * mode[u * p + e];
                }
                if (T > 0) {
                    const int64_t first = b_.tail_ptr[j];
                    const int m = static_cast<int>(b_.tail_ptr[j + 1] - first);
                    const double* C = b_.tail_value.data() + first * r + static_cast<size_t>(a) * m;
                    for (int i = 0; i < m; ++i)
                        for (int e = 0; e < p; ++e)
                            rhs[a * p + e] -= C[i] * raw[at(b_.tail_column[first + i], e, T)];
                }
            }
            double* y = out[c.factor].data() + static_cast<size_t>(j) * r * p;
            multiply<0>(r, p, Nm.data(), rhs.data(), p, y);
            multiply<0>(r, p, Psi, y, p, modes[d].data() + static_cast<size_t>(j) * r * p);
        }
    }
    return out;
}

} // namespace ranef
