// Half of a solve: w = L^-1 a of combinations a of (b_e, beta), LL' = Omega.
//
// The inverse of Omega is the covariance (relative to sigma^2) of the errors of
// prediction, so that a'Omega^-1 c = w_a'w_c for any two combinations, the quadratic
// form of one is the square of its length, and with e ~ N(0, I) the numbers w'e are a
// joint draw of all of them. Without the last p entries the covariance is that given
// beta.
//
// Elimination goes up the chain and ends in the dense tail: a combination of one
// level of each factor touches its own levels and their ancestors only, and the
// part of w that belongs to the chain stays sparse.
//
// Quadratic forms of many rows in crossed designs spare the tail's solve: with t of the
// leader's level, its panel W and M the inverse of the tail, a row that is x in the tail has
//   |t|^2 + (x - W't)'M(x - W't),
// of which x and a level's W touch few columns.
#include <algorithm>
#include <cmath>

#include "criterion.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "threads.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

// A level of the chain that a combination touches, with its coefficients.
struct Node {
    int level;
    Vector a;
};

using Nodes = std::vector<Node>;

Vector& coefficients_of(Nodes& nodes, int level, int r) {
    for (Node& node : nodes)
        if (node.level == level) return node.a;
    nodes.push_back({level, Vector(r, 0.0)});
    return nodes.back().a;
}

// t = L^-1 Lambda'a of one level, L and Lambda row-major.
Vector whitened(int r, const double* L, const Vector& Lambda, const Vector& a) {
    Vector t(r);
    for (int i = 0; i < r; ++i) {
        double v = 0;
        for (int k = i; k < r; ++k) v += Lambda[k * r + i] * a[k];
        for (int k = 0; k < i; ++k) v -= L[i * r + k] * t[k];
        t[i] = v / L[i * r + i];
    }
    return t;
}

} // namespace

HalfSolves Criterion::half_solves(size_t rows, const std::vector<const int32_t*>& levels,
                                  const std::vector<const double*>& z, const double* X) {
    restore_factor();
    return half_solve(0, rows, levels, z, X);
}

void Criterion::quadratic_forms(size_t rows, const std::vector<const int32_t*>& levels,
                                const std::vector<const double*>& z, const double* X, double* out) {
    restore_factor();
    if (b_.T == 0 || b_.sparse || rows < static_cast<size_t>(b_.order())) {
        squared_lengths(rows, levels, z, X, out);
        return;
    }
    const std::vector<size_t> lost = sparse_forms(rows, levels, z, X, out);
    if (lost.empty()) return;
    // the inverse has taken the factor's place
    const size_t m = lost.size(), p = b_.p;
    std::vector<Indices> own_levels;
    std::vector<Vector> own_z;
    std::vector<const int32_t*> level_of;
    std::vector<const double*> z_of;
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const size_t r = b_.factors[f].r;
        own_levels.emplace_back(m);
        own_z.emplace_back(m * r);
        for (size_t i = 0; i < m; ++i) {
            own_levels[f][i] = levels[f][lost[i]];
            std::copy_n(z[f] + lost[i] * r, r, own_z[f].data() + i * r);
        }
    }
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        level_of.push_back(own_levels[f].data());
        z_of.push_back(own_z[f].data());
    }
    Vector own_X(m * p), found(m);
    for (size_t i = 0; i < m; ++i) std::copy_n(X + lost[i] * p, p, own_X.data() + i * p);
    restore_factor();
    squared_lengths(m, level_of, z_of, own_X.data(), found.data());
    for (size_t i = 0; i < m; ++i) out[lost[i]] = found[i];
}

void Criterion::squared_lengths(size_t rows, const std::vector<const int32_t*>& levels,
                                const std::vector<const double*>& z, const double* X, double* out) {
    const int N = b_.order();
    constexpr size_t block = 64;
    for (size_t start = 0; start < rows; start += block) {
        Watch::poll();
        const size_t m = std::min(block, rows - start);
        const HalfSolves w = half_solve(start, m, levels, z, X);
        for (size_t row = 0; row < m; ++row) {
            const double* chain = w.value.data() + w.ptr[row];
            const double* tail = w.tail.data() + row * N;
            out[start + row] = inner(static_cast<int>(w.ptr[row + 1] - w.ptr[row]), chain, chain) +
                               inner(N, tail, tail);
        }
    }
}

// One function, since a level of the leader is multiplied out once for all of its rows.
std::vector<size_t> Criterion::sparse_forms(size_t rows, const std::vector<const int32_t*>& levels,
                                            const std::vector<const double*>& z, const double* X,
                                            double* out) {
    // a form this much smaller than its parts has lost too many digits
    constexpr double least = 1e-7;
    const int N = b_.order(), T = b_.T, p = b_.p;
    invert_tail(true);
    inverted_ = false;
    if (any_kernel()) tail_->unapply_kernels(false);
    Vector& S = static_cast<DenseTail&>(*tail_).factor();
    for (int j = 0; j < N; ++j)
        for (int i = j + 1; i < N; ++i) S[at(j, i, N)] = S[at(i, j, N)];
    Vector root(N);
    for (int i = 0; i < N; ++i) root[i] = std::sqrt(std::max(S[at(i, i, N)], 0.0));

    // rows by the leader's level; those without one stand last
    const bool led = !b_.chain.empty();
    const int leader = led ? b_.chain[0].factor : -1;
    const size_t q = led ? b_.chain[0].q : 0;
    const int r = led ? b_.chain[0].r : 0;
    auto place = [&](size_t row) {
        const int32_t l = led ? levels[leader][row] : -1;
        return l < 0 ? q : static_cast<size_t>(b_.factors[leader].rank_of[l]);
    };
    std::vector<size_t> first(q + 2, 0), order(rows);
    for (size_t row = 0; row < rows; ++row) ++first[place(row) + 1];
    for (size_t j = 0; j <= q; ++j) first[j + 1] += first[j];
    std::vector<size_t> next(first.begin(), first.end() - 1);
    for (size_t row = 0; row < rows; ++row) order[next[place(row)]++] = row;

    const int pieces = static_cast<int>(std::min<size_t>(q + 1, 64));
    const auto bounds = partition(q + 1, pieces);
    std::vector<std::vector<size_t>> lost(pieces);
    for_tasks(pieces, threads_, [&](int piece) {
        Indices touched, columns;
        Vector W, MW, Q(static_cast<size_t>(r) * r), reach(r), a(r), t(r), x;
        for (size_t j = bounds[piece]; j < bounds[piece + 1]; ++j) {
            Watch::poll();
            if (first[j] == first[j + 1]) continue;
            // W (r, width) of the level and MW (r, p + width): M times it at the fixed effects
            touched.clear();
            if (j < q) {
                const int64_t from = b_.tail_ptr[j], to = b_.tail_ptr[j + 1];
                touched.assign(b_.tail_column.begin() + from, b_.tail_column.begin() + to);
                for (int e = 0; e < p; ++e) touched.push_back(T + e);
            }
            const int width = static_cast<int>(touched.size()), m = width - p;
            W.assign(static_cast<size_t>(r) * width, 0.0);
            MW.assign(static_cast<size_t>(r) * width, 0.0);
            for (int s = 0; j < q && s < r; ++s) {
                double* w = W.data() + static_cast<size_t>(s) * width;
                std::copy_n(tail_W_.data() + b_.tail_ptr[j] * r + static_cast<size_t>(s) * m, m, w);
                std::copy_n(W_[0].data() + (j * r + s) * p, p, w + m);
                double* mw = MW.data() + static_cast<size_t>(s) * width;
                for (int e = 0; e < width; ++e) {
                    const double* column = S.data() + at(0, touched[e], N);
                    double v = 0;
                    for (int k = 0; k < width; ++k) v += column[touched[k]] * w[k];
                    mw[e] = v;
                }
                reach[s] = 0;
                for (int e = 0; e < width; ++e) reach[s] += std::abs(w[e]) * root[touched[e]];
            }
            for (int s = 0; j < q && s < r; ++s)
                for (int k = 0; k < r; ++k)
                    Q[s * r + k] = inner(width, W.data() + static_cast<size_t>(s) * width,
                                         MW.data() + static_cast<size_t>(k) * width);
            for (size_t at_row = first[j]; at_row < first[j + 1]; ++at_row) {
                const size_t row = order[at_row];
                double form = 0, size = 0, parts = 0;
                if (j < q) {
                    std::copy_n(z[leader] + row * r, r, a.data());
                    t = whitened(r, L_[0].data() + j * r * r, lambda_[leader], a);
                    for (int s = 0; s < r; ++s) {
                        form += t[s] * (t[s] + inner(r, Q.data() + s * r, t.data()));
                        parts += t[s] * t[s];
                        size += std::abs(t[s]) * reach[s];
                    }
                }
                columns.clear();
                x.clear();
                for (int f : b_.tail) {
                    const Factor& factor = b_.factors[f];
                    const int32_t l = levels[f][row];
                    for (int e = 0; l >= 0 && e < factor.r; ++e) {
                        columns.push_back(factor.column + l * factor.r + e);
                        x.push_back(z[f][row * factor.r + e]);
                    }
                }
                const size_t random = columns.size();
                for (int e = 0; e < p; ++e) {
                    columns.push_back(T + e);
                    x.push_back(X[row * p + e]);
                }
                for (size_t i = 0; i < columns.size(); ++i) {
                    if (x[i] == 0) continue;
                    const double* column = S.data() + at(0, columns[i], N);
                    double v = x[i] * column[columns[i]];
                    for (size_t k = 0; k < i; ++k) v += 2 * x[k] * column[columns[k]];
                    for (int s = 0; j < q && s < r; ++s) {
                        double mw = 0;
                        const double* w = W.data() + static_cast<size_t>(s) * width;
                        if (i < random)
                            for (int e = 0; e < width; ++e) mw += column[touched[e]] * w[e];
                        else
                            mw = MW[static_cast<size_t>(s) * width + m + (i - random)];
                        v -= 2 * t[s] * mw;
                    }
                    form += x[i] * v;
                    size += std::abs(x[i]) * root[columns[i]];
                }
                out[row] = form;
                if (!(form > least * (parts + size * size))) lost[piece].push_back(row);
            }
        }
    });
    std::vector<size_t> all;
    for (const auto& some : lost) all.insert(all.end(), some.begin(), some.end());
    std::sort(all.begin(), all.end());
    return all;
}

HalfSolves Criterion::half_solve(size_t first, size_t rows,
                                 const std::vector<const int32_t*>& levels,
                                 const std::vector<const double*>& z, const double* X) {
    const int N = b_.order(), T = b_.T, p = b_.p, depth = static_cast<int>(b_.chain.size());
    std::vector<int64_t> start(depth + 1, 0); // of the entries of each factor of the chain
    for (int d = 0; d < depth; ++d)
        start[d + 1] = start[d] + static_cast<int64_t>(b_.chain[d].q) * b_.chain[d].r;
    HalfSolves out;
    out.columns = start[depth];
    out.tail.assign(rows * N, 0.0);
    out.ptr.reserve(rows + 1);
    out.ptr.push_back(0);
    for (size_t row = first; row < first + rows; ++row) {
        double* x = out.tail.data() + (row - first) * N;
        std::copy(X + row * p, X + (row + 1) * p, x + T);
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            const int32_t l = levels[t][row];
            for (int a = 0; l >= 0 && a < f.r; ++a)
                x[f.column + l * f.r + a] += z[t][row * f.r + a];
        }
        std::vector<Nodes> nodes(depth);
        for (int d = 0; d < depth; ++d) {
            const ChainBlock& c = b_.chain[d];
            const int r = c.r, wp = c.width - r;
            const int32_t own = levels[c.factor][row];
            if (own >= 0) {
                Vector& a = coefficients_of(nodes[d], b_.factors[c.factor].rank_of[own], r);
                for (int k = 0; k < r; ++k) a[k] += z[c.factor][row * r + k];
            }
            for (const Node& node : nodes[d]) {
                const size_t j = node.level;
                const Vector t = whitened(r, L_[d].data() + j * r * r, lambda_[c.factor], node.a);
                for (int s = 0; s < r; ++s) {
                    out.index.push_back(start[d] + static_cast<int64_t>(j) * r + s);
                    out.value.push_back(t[s]);
                }
                const double* W = W_[d].data() + j * r * wp;
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const int ru = b_.chain[d + 1 + k].r;
                    Vector& a = coefficients_of(nodes[d + 1 + k], c.ancestor[k][j], ru);
                    for (int e = 0; e < ru; ++e)
                        for (int s = 0; s < r; ++s)
                            a[e] -= W[static_cast<size_t>(s) * wp + off + e] * t[s];
                    off += ru;
                }
                for (int e = 0; e < p; ++e)
                    for (int s = 0; s < r; ++s)
                        x[T + e] -= W[static_cast<size_t>(s) * wp + off + e] * t[s];
                if (T == 0) continue;
                const int64_t first = b_.tail_ptr[j];
                const int width = static_cast<int>(b_.tail_ptr[j + 1] - first);
                const double* w = tail_W_.data() + first * r;
                for (int s = 0; s < r; ++s)
                    for (int e = 0; e < width; ++e)
                        x[b_.tail_column[first + e]] -=
                            w[static_cast<size_t>(s) * width + e] * t[s];
            }
        }
        out.ptr.push_back(static_cast<int64_t>(out.index.size()));
    }
    const int m = static_cast<int>(rows);
    kernel_times(b_, out.tail, m, true);
    Vector column(N);
    for (size_t row = 0; row < rows; ++row) {
        double* x = out.tail.data() + row * N;
        scale_vector(x, column.data());
        std::copy(column.begin(), column.end(), x);
    }
    if (m > 0) tail_->forward(m, out.tail.data());
    return out;
}

} // namespace ranef
