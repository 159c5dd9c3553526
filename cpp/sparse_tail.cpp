#include "sparse_tail.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "dense.hpp"
#include "levels.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double negligible = 1e-10; // share of Q by which a variance of zero is disturbed
constexpr int parts_of_sums = 16;
constexpr double surely_dense = 0.8; // share of the tail that one level of the leader meets
// Of a tail so small, with so large a share of its pairs of levels that meet before anything is
// filled, a dense factor costs less than a look at the order.
constexpr int small_tail = 2000;
constexpr double many_meet = 0.1;

} // namespace

namespace {

// Nodes are levels, in the order of the columns.
struct Nodes {
    Indices of_column, weight, column;

    Nodes(const std::vector<int>& levels, const std::vector<int>& sizes) {
        for (size_t f = 0; f < levels.size(); ++f)
            for (int l = 0; l < levels[f]; ++l) {
                column.push_back(static_cast<int32_t>(of_column.size()));
                of_column.insert(of_column.end(), sizes[f], static_cast<int32_t>(weight.size()));
                weight.push_back(sizes[f]);
            }
    }
};

// The places of what the leader and the pairs of factors add.
void find_places(const Blocks& b, SparseLayout& s) {
    const SparsePattern& P = s.pattern;
    const int q = b.chain[0].q;
    s.pair_ptr.assign(q + 1, 0);
    for (int l = 0; l < q; ++l) {
        const int64_t m = b.tail_ptr[l + 1] - b.tail_ptr[l];
        s.pair_ptr[l + 1] = s.pair_ptr[l] + m * (m + 1) / 2;
    }
    s.pair_place.resize(s.pair_ptr[q]);
    for (int l = 0; l < q; ++l) {
        int64_t k = s.pair_ptr[l];
        for (int64_t e = b.tail_ptr[l]; e < b.tail_ptr[l + 1]; ++e) {
            const int j = s.position[b.tail_column[e]];
            for (int64_t f = e; f < b.tail_ptr[l + 1]; ++f) {
                const int i = s.position[b.tail_column[f]];
                s.pair_place[k++] = static_cast<uint32_t>(P.place(std::max(i, j), std::min(i, j)));
            }
        }
    }
    for (const PairBlock& pair : b.tail_pairs) {
        const Factor &f = b.factors[pair.f], &g = b.factors[pair.g];
        std::vector<int64_t> places;
        std::vector<char> turned;
        for (size_t k = 0; k < pair.level_f.size(); ++k) {
            const int i = s.position[f.column + pair.level_f[k] * f.r];
            const int j = s.position[g.column + pair.level_g[k] * g.r];
            places.push_back(P.place(std::max(i, j), std::min(i, j)));
            turned.push_back(i > j);
        }
        s.block_place.push_back(std::move(places));
        s.block_turned.push_back(std::move(turned));
    }
}

} // namespace

namespace {

// The share of pairs of nodes that are in a clique together: the factor holds all of these.
double share_that_meets(const std::vector<Indices>& cliques, size_t nodes) {
    std::vector<char> meet(nodes * nodes, 0);
    size_t count = 0;
    for (const Indices& clique : cliques)
        for (size_t e = 0; e < clique.size(); ++e)
            for (size_t f = 0; f < e; ++f) {
                char& known = meet[static_cast<size_t>(clique[e]) * nodes + clique[f]];
                count += !known;
                known = 1;
            }
    return 2.0 * static_cast<double>(count) / (static_cast<double>(nodes) * nodes);
}

} // namespace

SparseCost sparse_cost(size_t n, const int32_t* leader, int q,
                       const std::vector<const int32_t*>& codes, const std::vector<int>& levels,
                       const std::vector<int>& sizes) {
    const Nodes nodes(levels, sizes);
    std::vector<Indices> cliques(q);
    int32_t first = 0;
    for (size_t f = 0; f < codes.size(); ++f) {
        for (size_t i = 0; i < n; ++i) {
            Indices& clique = cliques[leader[i]];
            const int32_t node = first + codes[f][i];
            if (clique.empty() || clique.back() != node) clique.push_back(node);
        }
        first += levels[f];
    }
    for (Indices& clique : cliques) {
        std::sort(clique.begin(), clique.end());
        clique.erase(std::unique(clique.begin(), clique.end()), clique.end());
    }
    const auto T = static_cast<int64_t>(nodes.of_column.size());
    double pairs = 0, largest = 0;
    for (const Indices& clique : cliques) {
        double size = 0;
        for (int32_t v : clique) size += nodes.weight[v];
        pairs += size * (size + 1) / 2;
        largest = std::max(largest, size);
    }
    if (largest > surely_dense * static_cast<double>(T) ||
        (T <= small_tail && share_that_meets(cliques, nodes.weight.size()) > many_meet))
        return {T * T, static_cast<double>(T) * T * T / 3, pairs};
    Indices start;
    const SparsePattern P(minimum_degree(cliques, nodes.weight), nodes.weight, start);
    return {P.size(), P.flops, pairs};
}

std::shared_ptr<const SparseLayout> lay_out_sparse(const Blocks& b) {
    if (b.chain.empty() || b.T == 0)
        throw std::invalid_argument("a sparse tail needs a factor that is eliminated before it");
    std::vector<int> levels, sizes;
    for (int t : b.tail) {
        if (b.factors[t].kernel) throw std::invalid_argument("a tail with a kernel is dense");
        levels.push_back(b.factors[t].q);
        sizes.push_back(b.factors[t].r);
    }
    const Nodes nodes(levels, sizes);
    std::vector<Indices> cliques(b.chain[0].q);
    for (size_t l = 0; l < cliques.size(); ++l)
        for (int64_t k = b.tail_ptr[l]; k < b.tail_ptr[l + 1]; ++k) {
            const int32_t node = nodes.of_column[b.tail_column[k]];
            if (cliques[l].empty() || cliques[l].back() != node) cliques[l].push_back(node);
        }
    Indices start;
    auto out = std::make_shared<SparseLayout>(
        SparseLayout{SparsePattern(minimum_degree(cliques, nodes.weight), nodes.weight, start),
                     {},
                     {},
                     {},
                     {},
                     {},
                     {}});
    if (out->pattern.size() > std::numeric_limits<uint32_t>::max())
        throw std::invalid_argument("the sparse tail fills in beyond 2^32 values");
    out->position.resize(b.T);
    out->factor.resize(b.T);
    for (size_t v = 0; v < start.size(); ++v)
        for (int a = 0; a < nodes.weight[v]; ++a) out->position[nodes.column[v] + a] = start[v] + a;
    for (int t : b.tail) {
        const Factor& f = b.factors[t];
        for (int i = f.column; i < f.column + f.q * f.r; ++i) out->factor[out->position[i]] = t;
    }
    find_places(b, *out);
    return out;
}

SparseTail::SparseTail(const Blocks& blocks, int threads)
    : Tail(blocks, threads), s_(*blocks.sparse), P_(s_.pattern), Q_(P_, blocks.p), L_(P_, blocks.p),
      R_(P_, blocks.p) {}

void SparseTail::assemble() {
    const int p = b_.p;
    std::fill(Q_.panels.begin(), Q_.panels.end(), 0.0);
    for (size_t t = 0; t < b_.tail.size(); ++t) {
        const Factor& f = b_.factors[b_.tail[t]];
        for (int l = 0; l < f.q; ++l) {
            const int j = s_.position[f.column + l * f.r], m = P_.rows(P_.holder[j]);
            double* to = Q_.panels.data() + P_.place(j, j);
            const double* from = b_.tail_diagonal[t].data() + static_cast<size_t>(l) * f.r * f.r;
            for (int a = 0; a < f.r; ++a)
                for (int e = 0; e <= a; ++e) to[at(a, e, m)] = from[a * f.r + e];
        }
    }
    for (size_t n = 0; n < b_.tail_pairs.size(); ++n) {
        const PairBlock& pair = b_.tail_pairs[n];
        const Factor &f = b_.factors[pair.f], &g = b_.factors[pair.g];
        const double* v = pair.values.data();
        for (size_t k = 0; k < pair.level_f.size(); ++k) {
            const bool turned = s_.block_turned[n][k] != 0;
            const int j = turned ? s_.position[g.column + pair.level_g[k] * g.r]
                                 : s_.position[f.column + pair.level_f[k] * f.r];
            const int m = P_.rows(P_.holder[j]);
            double* to = Q_.panels.data() + s_.block_place[n][k];
            for (int a = 0; a < f.r; ++a)
                for (int e = 0; e < g.r; ++e) to[turned ? at(a, e, m) : at(e, a, m)] = *v++;
        }
    }
    for (int i = 0; i < b_.T; ++i)
        std::copy_n(b_.tail_fixed.data() + static_cast<size_t>(i) * p, p,
                    Q_.border.data() + static_cast<size_t>(s_.position[i]) * p);
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a)
            Q_.corner[at(a, e, p)] = b_.fixed[static_cast<size_t>(a) * p + e];
}

void SparseTail::subtract_fixed(const Vector& fixed) {
    const int p = b_.p;
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) Q_.corner[at(a, e, p)] -= fixed[static_cast<size_t>(a) * p + e];
}

void SparseTail::subtract_leader(const Whitened& leader, Vector& Qy) {
    const ChainBlock& c = b_.chain[0];
    const int T = b_.T, p = b_.p, r = c.r, wp = c.width - r;
    const int parts = b_.tail_column.size() > 20000 ? threads_ : 1;
    const auto bound = partition(T, parts);
    for_chunks(parts, parts, [&](int part) {
        const auto low = static_cast<int32_t>(bound[part]);
        const auto high = static_cast<int32_t>(bound[part + 1]);
        for (int l = 0; l < c.q; ++l) {
            const int64_t start = b_.tail_ptr[l];
            const int m = static_cast<int>(b_.tail_ptr[l + 1] - start);
            const int32_t* col = b_.tail_column.data() + start;
            const double* W = leader.tail.data() + start * r;
            const double* WX = leader.fixed.data() + static_cast<size_t>(l) * r * wp;
            const double* Wy = leader.response.data() + static_cast<size_t>(l) * r;
            const uint32_t* place = s_.pair_place.data() + s_.pair_ptr[l];
            for (int e = 0; e < m; place += m - e, ++e) {
                if (col[e] < low || col[e] >= high) continue;
                double* border = Q_.border.data() + static_cast<size_t>(s_.position[col[e]]) * p;
                for (int s = 0; s < r; ++s) {
                    const double* w = W + static_cast<size_t>(s) * m;
                    const double v = w[e];
                    for (int i = e; i < m; ++i) Q_.panels[place[i - e]] -= v * w[i];
                    const double* wx = WX + static_cast<size_t>(s) * wp;
                    for (int a = 0; a < p; ++a) border[a] -= v * wx[a];
                    Qy[col[e]] -= v * Wy[s];
                }
            }
        }
    });
}

// S = Lambda'Q Lambda + I, X untouched; the diagonal blocks of Q become full.
void SparseTail::scale(const std::vector<Vector>& lambda, BorderedMatrix& S) {
    for (int t : b_.tail) {
        const int r = b_.factors[t].r;
        for (int l = 0; l < b_.factors[t].q && r > 1; ++l) {
            const int j = s_.position[b_.factors[t].column + l * r], m = P_.rows(P_.holder[j]);
            double* block = Q_.panels.data() + P_.place(j, j);
            for (int a = 0; a < r; ++a)
                for (int e = a + 1; e < r; ++e) block[at(a, e, m)] = block[at(e, a, m)];
        }
    }
    S = Q_;
    scale_both(lambda, true, S);
    for (int j = 0; j < b_.T; ++j) S.panels[P_.place(j, j)] += 1;
}

bool SparseTail::factorise(const std::vector<Vector>& lambda) {
    lambda_ = lambda;
    scale(lambda, L_);
    return ranef::factorise(P_, b_.p, L_, threads_);
}

void SparseTail::add_log_determinant(bool with_fixed, double& sum) const {
    const int p = b_.p;
    for (int s = 0; s < P_.count(); ++s)
        for (int j = 0, m = P_.rows(s); j < P_.width(s); ++j)
            sum += 2 * std::log(L_.panels[P_.value_ptr[s] + at(j, j, m)]);
    for (int j = 0; j < p && with_fixed; ++j) sum += 2 * std::log(L_.corner[at(j, j, p)]);
}

Vector SparseTail::placed(int k, const double* X) const {
    const int N = b_.order(), T = b_.T;
    Vector out(static_cast<size_t>(N) * k);
    for (int c = 0; c < k; ++c) {
        const double* x = X + at(0, c, N);
        double* y = out.data() + at(0, c, N);
        for (int i = 0; i < T; ++i) y[s_.position[i]] = x[i];
        std::copy(x + T, x + N, y + T);
    }
    return out;
}

void SparseTail::returned(int k, const Vector& X, double* Y) const {
    const int N = b_.order(), T = b_.T;
    for (int c = 0; c < k; ++c) {
        const double* x = X.data() + at(0, c, N);
        double* y = Y + at(0, c, N);
        for (int i = 0; i < T; ++i) y[i] = x[s_.position[i]];
        std::copy(x + T, x + N, y + T);
    }
}

void SparseTail::forward(int k, double* X) const {
    Vector x = placed(k, X);
    forward_solve(P_, b_.p, L_, k, x.data(), b_.order(), threads_);
    returned(k, x, X);
}

void SparseTail::backward(int k, double* X) const {
    Vector x = placed(k, X);
    backward_solve(P_, b_.p, L_, k, x.data(), b_.order(), threads_);
    returned(k, x, X);
}

double SparseTail::fixed_pivot(int e) const {
    return L_.corner[at(e, e, b_.p)];
}

Vector SparseTail::fixed_modes() const {
    const int T = b_.T, p = b_.p;
    Vector x(static_cast<size_t>(T) * p), out(x.size());
    for (int j = 0; j < T; ++j)
        for (int e = 0; e < p; ++e) x[at(j, e, T)] = L_.border[static_cast<size_t>(j) * p + e];
    backward_solve(P_, 0, L_, p, x.data(), T, threads_);
    for (int e = 0; e < p; ++e)
        for (int i = 0; i < T; ++i) out[at(i, e, T)] = x[at(s_.position[i], e, T)];
    return out;
}

void SparseTail::schur_times(int k, const double* X, double* Y) const {
    pattern_times(Q_, k, X, Y);
}

void SparseTail::pattern_times(const BorderedMatrix& A, int k, const double* X, double* Y) const {
    const Vector x = placed(k, X);
    Vector y(x.size());
    symmetric_times(P_, b_.p, A, k, x.data(), y.data());
    returned(k, y, Y);
}

double SparseTail::schur_fixed(int i, int e) const {
    return Q_.border[static_cast<size_t>(s_.position[i]) * b_.p + e];
}

void SparseTail::invert(bool with_fixed) {
    with_fixed_ = with_fixed;
    selected_inverse(P_, b_.p, L_, with_fixed, R_, threads_);
}

// BL_jj += Q_ij'Lambda_f S^-1_ij, and BL_ii += Q_ij Lambda_g S^-1_ij' of the pairs below.
void SparseTail::gradient_of(const std::vector<Vector>& lambda, const BorderedMatrix& R,
                             bool with_fixed, std::vector<Vector>& BL) const {
    const int p = b_.p, count = P_.count();
    BL.assign(b_.factors.size(), {});
    for (int t : b_.tail) BL[t].assign(static_cast<size_t>(b_.factors[t].r) * b_.factors[t].r, 0.0);
    std::vector<std::vector<Vector>> partial(parts_of_sums, BL);
    const auto bounds = partition(count, parts_of_sums);
    for_chunks(parts_of_sums, P_.size() > 100000 ? threads_ : 1, [&](int part) {
        auto& out = partial[part];
        Vector tmp;
        for (auto s = static_cast<int>(bounds[part]); s < static_cast<int>(bounds[part + 1]); ++s) {
            const int w = P_.width(s), m = P_.rows(s);
            const int32_t* rows = P_.rows_of(s);
            const double* Q = Q_.panels.data() + P_.value_ptr[s];
            const double* S = R.panels.data() + P_.value_ptr[s];
            for (int j = 0, rg = 0; j < w; j += rg) {
                const int g = s_.factor[rows[j]];
                rg = b_.factors[g].r;
                const double* Lg = lambda[g].data();
                for (int i = j, rf = 0; i < m; i += rf) {
                    const int f = s_.factor[rows[i]];
                    rf = b_.factors[f].r;
                    const double* Lf = lambda[f].data();
                    if (rf == 1 && rg == 1) {
                        const double x = Q[at(i, j, m)] * S[at(i, j, m)];
                        out[g][0] += x * Lf[0];
                        if (i != j) out[f][0] += x * Lg[0];
                        continue;
                    }
                    tmp.resize(rf);
                    for (int e = 0; e < rg; ++e) {
                        for (int a = 0; a < rf; ++a) {
                            double v = 0;
                            for (int k = 0; k <= a; ++k)
                                v += Lf[a * rf + k] * S[at(i + k, j + e, m)];
                            tmp[a] = v;
                        }
                        for (int c = 0; c < rg; ++c)
                            out[g][c * rg + e] += inner(rf, Q + at(i, j + c, m), tmp.data());
                    }
                    if (i == j) continue;
                    tmp.resize(rg);
                    for (int e = 0; e < rf; ++e) {
                        for (int a = 0; a < rg; ++a) {
                            double v = 0;
                            for (int k = 0; k <= a; ++k)
                                v += Lg[a * rg + k] * S[at(i + e, j + k, m)];
                            tmp[a] = v;
                        }
                        for (int c = 0; c < rf; ++c) {
                            double v = 0;
                            for (int k = 0; k < rg; ++k) v += Q[at(i + c, j + k, m)] * tmp[k];
                            out[f][c * rf + e] += v;
                        }
                    }
                }
                for (int e = 0; e < rg && with_fixed; ++e)
                    for (int c = 0; c < rg; ++c)
                        out[g][c * rg + e] +=
                            inner(p, Q_.border.data() + static_cast<size_t>(rows[j] + c) * p,
                                  R.border.data() + static_cast<size_t>(rows[j] + e) * p);
            }
        }
    });
    for (const auto& part : partial)
        for (int t : b_.tail)
            for (size_t k = 0; k < BL[t].size(); ++k) BL[t][k] += part[t][k];
}

void SparseTail::gradient(const std::vector<Vector>& lambda, bool with_fixed,
                          std::vector<Vector>& BL, Vector& norms) {
    norms.clear();
    gradient_of(lambda, R_, with_fixed, BL);
}

void SparseTail::scale_inverse(const std::vector<Vector>& lambda) {
    scale_both(lambda, false, R_);
}

namespace {

// x (r) := L'x, or L x; entries `step` apart, L lower triangular by rows.
void small_triangle(int r, const double* L, bool transposed, double* x, size_t step) {
    if (r == 1) {
        *x *= L[0];
        return;
    }
    for (int k = 0; k < r; ++k) {
        const int a = transposed ? k : r - 1 - k;
        double v = 0;
        for (int h = transposed ? a : 0; h <= (transposed ? r - 1 : a); ++h)
            v += (transposed ? L[h * r + a] : L[a * r + h]) * x[h * step];
        x[a * step] = v;
    }
}

} // namespace

void SparseTail::scale_both(const std::vector<Vector>& lambda, bool whitening,
                            BorderedMatrix& A) const {
    const int p = b_.p;
    for_tasks(P_.count(), P_.size() > 100000 ? threads_ : 1, [&](int s) {
        const int w = P_.width(s), m = P_.rows(s);
        const int32_t* rows = P_.rows_of(s);
        double* panel = A.panels.data() + P_.value_ptr[s];
        for (int j = 0, rg = 0; j < w; j += rg) {
            const int g = s_.factor[rows[j]];
            rg = b_.factors[g].r;
            double* border = A.border.data() + static_cast<size_t>(rows[j]) * p;
            // the diagonal block made full first
            for (int a = 0; a < rg; ++a)
                for (int e = a + 1; e < rg; ++e)
                    panel[at(j + a, j + e, m)] = panel[at(j + e, j + a, m)];
            for (int i = j; i < m; ++i)
                small_triangle(rg, lambda[g].data(), whitening, panel + at(i, j, m), m);
            for (int i = 0; i < p; ++i)
                small_triangle(rg, lambda[g].data(), whitening, border + i, p);
            for (int e = 0; e < rg; ++e)
                for (int i = j, rf = 0; i < m; i += rf) {
                    const int f = s_.factor[rows[i]];
                    rf = b_.factors[f].r;
                    small_triangle(rf, lambda[f].data(), whitening, panel + at(i, j + e, m), 1);
                }
        }
    });
}

// G at Psi + d^2 I, d so small that G does not change: nothing is divided by zero then, and
// what is divided is as small as what it is divided by.
Vector SparseTail::gradient_exact(const std::vector<Vector>& lambda, int factor, bool with_fixed) {
    const Factor& f = b_.factors[factor];
    const int r = f.r;
    double largest = 0;
    for (int i = f.column; i < f.column + f.q * r; ++i) {
        const int j = s_.position[i];
        largest = std::max(largest, Q_.panels[P_.place(j, j)]);
    }
    std::vector<Vector> moved = lambda;
    Vector psi(static_cast<size_t>(r) * r, 0.0);
    for (int a = 0; a < r; ++a)
        for (int c = 0; c < r; ++c) {
            for (int k = 0; k < r; ++k)
                psi[at(a, c, r)] += lambda[factor][a * r + k] * lambda[factor][c * r + k];
            if (a == c) psi[at(a, c, r)] += negligible / std::max(largest, 1e-300);
        }
    cholesky(r, psi.data(), r);
    for (int a = 0; a < r; ++a)
        for (int c = 0; c < r; ++c) moved[factor][a * r + c] = c <= a ? psi[at(a, c, r)] : 0.0;
    BorderedMatrix L(P_, b_.p), R(P_, b_.p);
    scale(moved, L);
    Vector G(static_cast<size_t>(r) * r, 0.0);
    if (!ranef::factorise(P_, b_.p, L, threads_)) return G;
    selected_inverse(P_, b_.p, L, with_fixed, R, threads_);
    std::vector<Vector> BL;
    gradient_of(moved, R, with_fixed, BL);
    divide_by_factor(r, moved[factor].data(), BL[factor].data(), G.data());
    return G;
}

// Lambda'X, or Lambda X, of positions.
void SparseTail::scale_columns(int k, bool transposed, Vector& X) const {
    const int N = b_.order();
    for (int c = 0; c < k; ++c)
        for (int i = 0, r = 0; i < b_.T; i += r) {
            const int f = s_.factor[i];
            r = b_.factors[f].r;
            small_triangle(r, lambda_[f].data(), transposed, X.data() + at(i, c, N), 1);
        }
}

void SparseTail::covariance_times(int k, const double* X, double* Y) const {
    const int N = b_.order(), T = b_.T, p = with_fixed_ ? b_.p : 0;
    Vector x = placed(k, X);
    scale_columns(k, true, x);
    forward_solve(P_, p, L_, k, x.data(), N, threads_);
    backward_solve(P_, p, L_, k, x.data(), N, threads_);
    if (p == 0)
        for (int c = 0; c < k; ++c)
            std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(at(T, c, N)), b_.p, 0.0);
    scale_columns(k, false, x);
    returned(k, x, Y);
}

double SparseTail::covariance(int i, int j) const {
    const int T = b_.T, p = b_.p;
    if (i < j) std::swap(i, j);
    if (j >= T) return R_.corner[at(i - T, j - T, p)];
    if (i >= T) return R_.border[static_cast<size_t>(s_.position[j]) * p + i - T];
    i = s_.position[i];
    j = s_.position[j];
    const int64_t place = P_.place(std::max(i, j), std::min(i, j));
    return place < 0 ? std::numeric_limits<double>::quiet_NaN() : R_.panels[place];
}

void SparseTail::level_form(size_t level, int r, int m, const double* KT, const double* KX,
                            double* out, double* B) const {
    form_of(R_, level, r, m, KT, KX, out, B);
}

void SparseTail::form_of(const BorderedMatrix& R, size_t level, int r, int m, const double* KT,
                         const double* KX, double* out, double* B) const {
    const int p = b_.p;
    const int32_t* col = b_.tail_column.data() + b_.tail_ptr[level];
    for (int a = 0; a < r; ++a) {
        const uint32_t* place = s_.pair_place.data() + s_.pair_ptr[level];
        const double* ka = KT + static_cast<size_t>(a) * m;
        const double* kx = KX + static_cast<size_t>(a) * p;
        double* to = out + static_cast<size_t>(a) * m;
        std::fill_n(to, m, 0.0);
        for (int e = 0; e < m; place += m - e, ++e) {
            const double ke = ka[e];
            double sum = R.panels[place[0]] * ke;
            for (int i = e + 1; i < m; ++i) {
                const double value = R.panels[place[i - e]];
                sum += value * ka[i];
                to[i] += value * ke;
            }
            const double* edge = R.border.data() + static_cast<size_t>(s_.position[col[e]]) * p;
            to[e] += sum + inner(p, edge, kx);
        }
    }
    for (int a = 0; a < r; ++a)
        for (int f = 0; f < r; ++f) {
            const double* ka = KT + static_cast<size_t>(a) * m;
            const double* kx = KX + static_cast<size_t>(f) * p;
            double sum =
                inner(m, out + static_cast<size_t>(a) * m, KT + static_cast<size_t>(f) * m);
            for (int e = 0; e < m; ++e)
                sum += ka[e] *
                       inner(p, R.border.data() + static_cast<size_t>(s_.position[col[e]]) * p, kx);
            B[a * r + f] -= sum;
        }
}

void SparseTail::level_covariance(size_t level, int r, int m, const double* J, double* out) const {
    const int p = b_.p, width = m + p;
    const int32_t* col = b_.tail_column.data() + b_.tail_ptr[level];
    std::fill(out, out + static_cast<size_t>(r) * width, 0.0);
    for (int a = 0; a < r; ++a) {
        const uint32_t* place = s_.pair_place.data() + s_.pair_ptr[level];
        const double* ja = J + static_cast<size_t>(a) * width;
        double* to = out + static_cast<size_t>(a) * width;
        for (int e = 0; e < m; place += m - e, ++e) {
            double sum = R_.panels[place[0]] * ja[e];
            for (int i = e + 1; i < m; ++i) {
                const double value = R_.panels[place[i - e]];
                sum += value * ja[i];
                to[i] -= value * ja[e];
            }
            const double* edge = R_.border.data() + static_cast<size_t>(s_.position[col[e]]) * p;
            for (int h = 0; h < p; ++h) {
                sum += edge[h] * ja[m + h];
                to[m + h] -= edge[h] * ja[e];
            }
            to[e] -= sum;
        }
        for (int h = 0; h < p; ++h)
            for (int g = 0; g < p; ++g) to[m + h] -= R_.corner[at(h, g, p)] * ja[m + g];
    }
}

} // namespace ranef
