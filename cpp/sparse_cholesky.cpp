#include "sparse_cholesky.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "dense.hpp"
#include "levels.hpp"
#include "products.hpp"
#include "supernodes.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int solve_block = 32; // right-hand sides at a time
constexpr int stripe = 64;      // columns of a wide panel

// What the descendants of one panel take from its columns low .. high-1.
void subtract_descendants(const SparsePattern& P, int p, BorderedMatrix& S, int t, int low,
                          int high) {
    const int m = P.rows(t);
    double* panel = S.panels.data() + P.value_ptr[t];
    double* border = border_of(P, p, S, t);
    Indices place;
    Vector product;
    for (SparsePattern::Update u : P.updates[t]) {
        const int32_t* list = P.rows_of(u.from);
        while (u.begin < u.end && list[u.begin] < P.first[t] + low) ++u.begin;
        while (u.begin < u.end && list[u.end - 1] >= P.first[t] + high) --u.end;
        const int ws = P.width(u.from), ms = P.rows(u.from), k = u.end - u.begin;
        if (k == 0) continue;
        const double* from = S.panels.data() + P.value_ptr[u.from];
        relative_rows(P, u.from, u.begin, t, place);
        const int rest = ms - u.begin;
        product.assign(static_cast<size_t>(rest) * k, 0.0);
        add_product('N', 'T', rest, k, ws, 1.0, from + u.begin, ms, from + u.begin, ms,
                    product.data(), rest);
        for (int c = 0; c < k; ++c) {
            double* to = panel + at(0, place[c], m);
            const double* x = product.data() + at(0, c, rest);
            for (int i = c; i < rest; ++i) to[place[i]] -= x[i];
        }
        if (p == 0) continue;
        product.assign(static_cast<size_t>(p) * k, 0.0);
        add_product('N', 'T', p, k, ws, 1.0, border_of(P, p, S, u.from), p, from + u.begin, ms,
                    product.data(), p);
        for (int c = 0; c < k; ++c) {
            double* to = border + at(0, place[c], p);
            const double* x = product.data() + at(0, c, p);
            for (int i = 0; i < p; ++i) to[i] -= x[i];
        }
    }
}

// The descendants' part of one panel, and its factor. A wide one is made by stripes, whose
// bounds do not depend on the threads.
bool factorise_panel(const SparsePattern& P, int p, BorderedMatrix& S, int t, int threads) {
    const int w = P.width(t), m = P.rows(t);
    double* panel = S.panels.data() + P.value_ptr[t];
    double* border = border_of(P, p, S, t);
    const int stripes = (w + stripe - 1) / stripe;
    for_tasks(stripes, threads, [&](int k) {
        subtract_descendants(P, p, S, t, k * stripe, std::min(w, (k + 1) * stripe));
    });
    if (!cholesky(w, panel, m, threads)) return false;
    solve_right(true, m - w, w, panel, m, panel + w, m);
    solve_right(true, p, w, panel, m, border, p);
    return true;
}

} // namespace

int64_t SparsePattern::place(int i, int j) const {
    const int s = holder[j], m = rows(s);
    int k = i - first[s];
    if (i >= first[s + 1]) {
        const int32_t* list = rows_of(s);
        k = static_cast<int>(std::lower_bound(list, list + m, i) - list);
        if (k == m || list[k] != i) return -1;
    }
    return value_ptr[s] + static_cast<int64_t>(j - first[s]) * m + k;
}

SparsePattern::SparsePattern(const Elimination& order, const Indices& weight, Indices& start) {
    const int S = static_cast<int>(order.own.size());
    start.assign(weight.size(), 0);
    for (int s = 0; s < S; ++s) {
        first.push_back(T);
        for (int32_t v : order.own[s]) {
            start[v] = T;
            T += weight[v];
        }
    }
    first.push_back(T);
    holder.resize(T);
    row_ptr.push_back(0);
    value_ptr.push_back(0);
    for (int s = 0; s < S; ++s) {
        std::fill(holder.begin() + first[s], holder.begin() + first[s + 1], s);
        for (int i = first[s]; i < first[s + 1]; ++i) row.push_back(i);
        const size_t own = row.size();
        for (int32_t v : order.below[s])
            for (int a = 0; a < weight[v]; ++a) row.push_back(start[v] + a);
        std::sort(row.begin() + static_cast<std::ptrdiff_t>(own), row.end());
        row_ptr.push_back(static_cast<int64_t>(row.size()));
        value_ptr.push_back(value_ptr.back() + static_cast<int64_t>(width(s)) * rows(s));
        for (double m = rows(s), w = width(s); w > 0; --w, --m) flops += m * m;
    }
    updates.resize(S);
    Indices wave(S, 0);
    for (int s = 0; s < S; ++s) {
        const int32_t* list = rows_of(s);
        for (int begin = width(s), m = rows(s), end; begin < m; begin = end) {
            const int t = holder[list[begin]];
            for (end = begin; end < m && list[end] < first[t + 1];) ++end;
            updates[t].push_back({s, begin, end});
            wave[t] = std::max(wave[t], wave[s] + 1);
        }
        if (wave[s] >= static_cast<int>(waves.size())) waves.resize(wave[s] + 1);
        waves[wave[s]].push_back(s);
    }
    alone.assign(S, 0);
    for (const Indices& list : waves)
        if (list.size() == 1) alone[list[0]] = 1;
}

bool factorise(const SparsePattern& P, int p, BorderedMatrix& S, int threads) {
    std::atomic<bool> good{true};
    by_waves(P, false, threads, [&](int t) {
        if (good && !factorise_panel(P, p, S, t, P.wide_alone(t) ? threads : 1)) good = false;
    });
    if (!good) return false;
    if (p == 0) return true;
    // the border's own block, by stretches of columns in a fixed order
    constexpr int stretch = 256;
    for (int j = 0; j < P.T; j += stretch) {
        const double* B = S.border.data() + static_cast<size_t>(j) * p;
        const int columns = std::min(stretch, P.T - j);
        if (lapack().syrk)
            subtract_gram(p, columns, B, p, S.corner.data(), p);
        else
            add_product('N', 'T', p, p, columns, -1.0, B, p, B, p, S.corner.data(), p);
    }
    return cholesky(p, S.corner.data(), p, threads);
}

namespace {

bool any(int rows, int k, const double* X, int ldx) {
    for (int c = 0; c < k; ++c)
        for (int i = 0; i < rows; ++i)
            if (X[at(i, c, ldx)] != 0) return true;
    return false;
}

void forward_block(const SparsePattern& P, int p, const BorderedMatrix& L, int k, double* X,
                   int ldx) {
    const int T = P.T;
    Vector below;
    for (int s = 0; s < P.count(); ++s) {
        const int w = P.width(s), m = P.rows(s), u = m - w;
        double* x = X + P.first[s];
        if (!any(w, k, x, ldx)) continue;
        const double* panel = L.panels.data() + P.value_ptr[s];
        solve_lower(w, k, panel, m, x, ldx);
        below.assign(static_cast<size_t>(u) * k, 0.0);
        add_product('N', 'N', u, k, w, 1.0, panel + w, m, x, ldx, below.data(), u);
        const int32_t* list = P.rows_of(s) + w;
        for (int c = 0; c < k; ++c) {
            double* column = X + at(0, c, ldx);
            for (int i = 0; i < u; ++i) column[list[i]] -= below[at(i, c, u)];
        }
        if (p == 0) continue;
        below.assign(static_cast<size_t>(p) * k, 0.0);
        add_product('N', 'N', p, k, w, 1.0, border_of(P, p, L, s), p, x, ldx, below.data(), p);
        for (int c = 0; c < k; ++c)
            for (int i = 0; i < p; ++i) X[at(T + i, c, ldx)] -= below[at(i, c, p)];
    }
    if (p > 0) solve_lower(p, k, L.corner.data(), p, X + T, ldx);
}

void backward_block(const SparsePattern& P, int p, const BorderedMatrix& L, int k, double* X,
                    int ldx) {
    const int T = P.T;
    if (p > 0) solve_lower_transposed(p, k, L.corner.data(), p, X + T, ldx);
    Vector below, product;
    for (int s = P.count() - 1; s >= 0; --s) {
        const int w = P.width(s), m = P.rows(s), u = m - w;
        const double* panel = L.panels.data() + P.value_ptr[s];
        const int32_t* list = P.rows_of(s) + w;
        below.resize(static_cast<size_t>(u) * k);
        for (int c = 0; c < k; ++c)
            for (int i = 0; i < u; ++i) below[at(i, c, u)] = X[at(list[i], c, ldx)];
        product.assign(static_cast<size_t>(w) * k, 0.0);
        add_product('T', 'N', w, k, u, 1.0, panel + w, m, below.data(), u, product.data(), w);
        if (p > 0)
            add_product('T', 'N', w, k, p, 1.0, border_of(P, p, L, s), p, X + T, ldx,
                        product.data(), w);
        double* x = X + P.first[s];
        for (int c = 0; c < k; ++c)
            for (int i = 0; i < w; ++i) x[at(i, c, ldx)] -= product[at(i, c, w)];
        solve_lower_transposed(w, k, panel, m, x, ldx);
    }
}

template <class Solve>
void by_columns(int k, double* X, int ldx, int threads, Solve&& solve) {
    const int blocks = (k + solve_block - 1) / solve_block;
    for_tasks(blocks, threads, [&](int b) {
        const int from = b * solve_block;
        solve(std::min(solve_block, k - from), X + at(0, from, ldx));
    });
}

} // namespace

void forward_solve(const SparsePattern& P, int p, const BorderedMatrix& L, int k, double* X,
                   int ldx, int threads) {
    by_columns(k, X, ldx, threads, [&](int n, double* x) { forward_block(P, p, L, n, x, ldx); });
}

void backward_solve(const SparsePattern& P, int p, const BorderedMatrix& L, int k, double* X,
                    int ldx, int threads) {
    by_columns(k, X, ldx, threads, [&](int n, double* x) { backward_block(P, p, L, n, x, ldx); });
}

void symmetric_times(const SparsePattern& P, int p, const BorderedMatrix& Q, int k, const double* X,
                     double* Y) {
    const int T = P.T, N = T + p;
    std::fill(Y, Y + static_cast<size_t>(N) * k, 0.0);
    for (int s = 0; s < P.count(); ++s) {
        const int w = P.width(s), m = P.rows(s);
        const int32_t* list = P.rows_of(s);
        const double* panel = Q.panels.data() + P.value_ptr[s];
        for (int c = 0; c < k; ++c) {
            const double* x = X + at(0, c, N);
            double* y = Y + at(0, c, N);
            for (int j = 0; j < w; ++j) {
                const double* q = panel + at(0, j, m);
                const double xj = x[list[j]];
                double sum = q[j] * xj;
                for (int i = j + 1; i < m; ++i) {
                    sum += q[i] * x[list[i]];
                    y[list[i]] += q[i] * xj;
                }
                const double* b = Q.border.data() + static_cast<size_t>(list[j]) * p;
                for (int i = 0; i < p; ++i) {
                    sum += b[i] * x[T + i];
                    y[T + i] += b[i] * xj;
                }
                y[list[j]] += sum;
            }
        }
    }
    for (int c = 0; c < k; ++c)
        for (int j = 0; j < p; ++j)
            for (int i = j; i < p; ++i) {
                const double q = Q.corner[at(i, j, p)];
                Y[at(T + i, c, N)] += q * X[at(T + j, c, N)];
                if (i > j) Y[at(T + j, c, N)] += q * X[at(T + i, c, N)];
            }
}

} // namespace ranef
