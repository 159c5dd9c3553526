// The tail as one dense matrix.
#include "dense_tail.hpp"

#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "levels.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double most_beside = 2.5e6; // values of a factor kept beside the inverse; layout.py
constexpr double dense_share = 0.2;   // of the tail that a leader's level touches

} // namespace

DenseTail::DenseTail(const Blocks& blocks, int threads)
    : Tail(blocks, threads), Q_(static_cast<size_t>(blocks.order()) * blocks.order()),
      S_(Q_.size()) {}

void DenseTail::assemble() {
    const int N = b_.order(), T = b_.T, p = b_.p;
    std::fill(Q_.begin(), Q_.end(), 0.0);
    for (size_t t = 0; t < b_.tail.size(); ++t) {
        const Factor& f = b_.factors[b_.tail[t]];
        for (int l = 0; l < f.q; ++l)
            for (int a = 0; a < f.r; ++a)
                for (int e = 0; e <= a; ++e) {
                    const int c = f.column + l * f.r;
                    Q_[at(c + a, c + e, N)] =
                        b_.tail_diagonal[t][(static_cast<size_t>(l) * f.r + a) * f.r + e];
                }
    }
    for (const PairBlock& pair : b_.tail_pairs) {
        const Factor &f = b_.factors[pair.f], &g = b_.factors[pair.g];
        const double* v = pair.values.data();
        for (size_t k = 0; k < pair.level_f.size(); ++k) {
            const int cf = f.column + pair.level_f[k] * f.r, cg = g.column + pair.level_g[k] * g.r;
            for (int a = 0; a < f.r; ++a)
                for (int e = 0; e < g.r; ++e) Q_[at(cg + e, cf + a, N)] = *v++;
        }
    }
    for (int c = 0; c < T; ++c)
        for (int e = 0; e < p; ++e)
            Q_[at(T + e, c, N)] = b_.tail_fixed[static_cast<size_t>(c) * p + e];
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a)
            Q_[at(T + a, T + e, N)] = b_.fixed[static_cast<size_t>(a) * p + e];
}

void DenseTail::subtract_fixed(const Vector& fixed) {
    const int N = b_.order(), T = b_.T, p = b_.p;
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a)
            Q_[at(T + a, T + e, N)] -= fixed[static_cast<size_t>(a) * p + e];
}

void DenseTail::subtract_leader(const Whitened& leader, Vector& Qy) {
    if (dense_leader(b_))
        scatter_leader_dense(leader, Qy);
    else
        scatter_leader(leader, Qy);
}

// Q -= W'W over the leader's levels, by parts of Q's columns.
void DenseTail::scatter_leader(const Whitened& leader, Vector& Qy) {
    const ChainBlock& c = b_.chain[0];
    const int N = b_.order(), T = b_.T, p = b_.p, r = c.r, wp = c.width - r;
    const int parts = b_.tail_column.size() > 20000 ? threads_ : 1;
    // parts of nearly equal work: later columns have fewer rows below them
    std::vector<int> bound(parts + 1, T);
    for (int k = 0; k < parts; ++k)
        bound[k] = static_cast<int>(T * (1 - std::sqrt(1 - static_cast<double>(k) / parts)));
    for_chunks(parts, parts, [&](int part) {
        const int32_t low = bound[part], high = bound[part + 1];
        for (int l = 0; l < c.q; ++l) {
            const int64_t start = b_.tail_ptr[l];
            const int m = static_cast<int>(b_.tail_ptr[l + 1] - start);
            const int32_t* col = b_.tail_column.data() + start;
            const int first = static_cast<int>(std::lower_bound(col, col + m, low) - col);
            const double* W = leader.tail.data() + start * r;
            const double* WX = leader.fixed.data() + static_cast<size_t>(l) * r * wp;
            const double* Wy = leader.response.data() + static_cast<size_t>(l) * r;
            for (int e = first; e < m && col[e] < high; ++e) {
                double* q = Q_.data() + static_cast<size_t>(col[e]) * N;
                for (int s = 0; s < r; ++s) {
                    const double* w = W + static_cast<size_t>(s) * m;
                    const double v = w[e];
                    if (m == T)
                        for (int a = e; a < T; ++a) q[a] -= v * w[a];
                    else
                        for (int a = e; a < m; ++a) q[col[a]] -= v * w[a];
                    const double* wx = WX + static_cast<size_t>(s) * wp;
                    for (int a = 0; a < p; ++a) q[T + a] -= v * wx[a];
                    Qy[col[e]] -= v * Wy[s];
                }
            }
        }
    });
}

bool DenseTail::dense_leader(const Blocks& b) {
    if (b.chain.empty() || b.T == 0 || b.sparse || !use_lapack(b.order())) return false;
    const double full = static_cast<double>(b.chain[0].q) * b.T;
    return static_cast<double>(b.tail_column.size()) > dense_share * full;
}

void DenseTail::scatter_leader_dense(const Whitened& leader, Vector& Qy) {
    const ChainBlock& c = b_.chain[0];
    const int N = b_.order(), T = b_.T, p = b_.p, r = c.r, wp = c.width - r;
    const int nodes = std::max(1, dense_block / r);
    Vector panel(static_cast<size_t>(N) * nodes * r);
    // the fixed effects' own block has been taken care of by chunks
    Vector fixed(static_cast<size_t>(p) * p);
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) fixed[at(a, e, p)] = Q_[at(T + a, T + e, N)];
    for (int start = 0; start < c.q; start += nodes) {
        const int count = std::min(nodes, c.q - start);
        std::fill(panel.begin(), panel.begin() + static_cast<size_t>(N) * count * r, 0.0);
        for (int k = 0; k < count; ++k) {
            const int64_t first = b_.tail_ptr[start + k];
            const int m = static_cast<int>(b_.tail_ptr[start + k + 1] - first);
            const int32_t* col = b_.tail_column.data() + first;
            for (int s = 0; s < r; ++s) {
                double* x = panel.data() + at(0, k * r + s, N);
                const double* w = leader.tail.data() + first * r + static_cast<size_t>(s) * m;
                const size_t row = static_cast<size_t>(start + k) * r + s;
                const double wy = leader.response[row];
                for (int e = 0; e < m; ++e) {
                    x[col[e]] = w[e];
                    Qy[col[e]] -= w[e] * wy;
                }
                std::copy_n(leader.fixed.data() + row * wp, p, x + T);
            }
        }
        subtract_gram(N, count * r, panel.data(), N, Q_.data(), N);
    }
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) Q_[at(T + a, T + e, N)] = fixed[at(a, e, p)];
}

void DenseTail::kernel_both(Vector& A, bool transposed) const {
    const int N = b_.order();
    for (int pass = 0; pass < 2; ++pass) {
        if (pass == 0)
            for (int j = 0; j < N; ++j)
                for (int i = j + 1; i < N; ++i) A[at(j, i, N)] = A[at(i, j, N)];
        kernel_times(b_, A, N, transposed);
        for (int j = 0; j < N; ++j)
            for (int i = j + 1; i < N; ++i) std::swap(A[at(j, i, N)], A[at(i, j, N)]);
    }
}

// S = Lambda'Q Lambda + I on the tail, X untouched.
void DenseTail::scale(const std::vector<Vector>& lambda) {
    const int N = b_.order(), T = b_.T;
    for (int t : b_.tail) {
        const Factor& g = b_.factors[t];
        const int rg = g.r;
        const Vector& Lg = lambda[t];
        const int parts = static_cast<size_t>(g.q) * N > 100000 ? threads_ : 1;
        const auto bounds = partition(g.q, parts);
        for_chunks(parts, parts, [&](int part) {
            Vector row;
            for (size_t l = bounds[part]; l < bounds[part + 1]; ++l) {
                const int j = g.column + static_cast<int>(l) * rg;
                // right by Lambda_g, the diagonal block made full first
                for (int a = 0; a < rg; ++a)
                    for (int e = a + 1; e < rg; ++e)
                        Q_[at(j + a, j + e, N)] = Q_[at(j + e, j + a, N)];
                for (int e = 0; e < rg; ++e) {
                    double* s = S_.data() + at(0, j + e, N);
                    const double first = Lg[e * rg + e];
                    const double* q = Q_.data() + at(0, j + e, N);
                    for (int i = j; i < N; ++i) s[i] = q[i] * first;
                    for (int k = e + 1; k < rg; ++k) {
                        const double v = Lg[k * rg + e];
                        if (v == 0) continue;
                        const double* qk = Q_.data() + at(0, j + k, N);
                        for (int i = j; i < N; ++i) s[i] += v * qk[i];
                    }
                }
                // left by Lambda_f'
                for (int u : b_.tail) {
                    const Factor& f = b_.factors[u];
                    const int rf = f.r;
                    const Vector& Lf = lambda[u];
                    const int from = std::max(f.column, j);
                    const int to = f.column + f.q * rf;
                    if (from >= to) continue;
                    for (int e = 0; e < rg; ++e) {
                        double* s = S_.data() + at(0, j + e, N);
                        if (rf == 1) {
                            const double v = Lf[0];
                            for (int i = from; i < to; ++i) s[i] *= v;
                            continue;
                        }
                        for (int i = from; i < to; i += rf)
                            for (int a = 0; a < rf; ++a) {
                                double v = 0;
                                for (int k = a; k < rf; ++k) v += Lf[k * rf + a] * s[i + k];
                                s[i + a] = v;
                            }
                    }
                }
                for (int e = 0; e < rg; ++e) S_[at(j + e, j + e, N)] += 1;
            }
        });
    }
    for (int e = T; e < N; ++e)
        std::copy(Q_.begin() + at(e, e, N), Q_.begin() + at(0, e + 1, N), S_.begin() + at(e, e, N));
}

bool DenseTail::factorise(const std::vector<Vector>& lambda) {
    beside_.clear();
    in_place_ = true;
    scale(lambda);
    return cholesky(b_.order(), S_.data(), b_.order(), threads_);
}

bool DenseTail::small() const {
    const bool kernel = std::any_of(b_.tail.begin(), b_.tail.end(),
                                    [&](int t) { return static_cast<bool>(b_.factors[t].kernel); });
    return !kernel && static_cast<double>(S_.size()) <= most_beside;
}

bool DenseTail::restore(const std::vector<Vector>& lambda) {
    if (!small()) {
        factorise(lambda);
        return false;
    }
    beside_.resize(S_.size());
    S_.swap(beside_);
    scale(lambda);
    cholesky(b_.order(), S_.data(), b_.order(), threads_);
    S_.swap(beside_);
    return true;
}

void DenseTail::add_log_determinant(bool with_fixed, double& sum) const {
    const int N = b_.order();
    for (int j = 0; j < (with_fixed ? N : b_.T); ++j) sum += 2 * std::log(L()[at(j, j, N)]);
}

void DenseTail::forward(int k, double* X) const {
    const int N = b_.order();
    solve_lower(N, k, L().data(), N, X, std::max(N, 1));
}

void DenseTail::backward(int k, double* X) const {
    const int N = b_.order();
    solve_lower_transposed(N, k, L().data(), N, X, std::max(N, 1));
}

Vector DenseTail::fixed_factor() const {
    const int N = b_.order(), T = b_.T, p = b_.p;
    Vector LX(static_cast<size_t>(p) * p, 0.0);
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) LX[at(a, e, p)] = L()[at(T + a, T + e, N)];
    return LX;
}

double DenseTail::fixed_pivot(int e) const {
    return L()[at(b_.T + e, b_.T + e, b_.order())];
}

Vector DenseTail::fixed_modes() const {
    const int N = b_.order(), T = b_.T, p = b_.p;
    Vector Y(static_cast<size_t>(T) * p, 0.0);
    for (int e = 0; e < p; ++e)
        for (int i = 0; i < T; ++i) Y[at(i, e, T)] = L()[at(T + e, i, N)];
    solve_lower_transposed(T, p, L().data(), N, Y.data(), T);
    return Y;
}

void DenseTail::schur_times(int k, const double* X, double* Y) const {
    const int N = b_.order();
    symmetric_times(N, k, Q_.data(), N, X, N, Y, N);
}

double DenseTail::schur_fixed(int i, int e) const {
    return Q_[at(b_.T + e, i, b_.order())];
}

void DenseTail::invert(bool with_fixed) {
    const int N = b_.order(), T = b_.T;
    if (T == 0) return;
    if (!in_place_)
        S_ = beside_;
    else if (keep_)
        beside_ = S_;
    in_place_ = false;
    if (with_fixed)
        inverse_from_cholesky(N, S_.data(), N, threads_);
    else {
        inverse_from_cholesky(T, S_.data(), N, threads_);
        for (int j = 0; j < N; ++j)
            for (int i = std::max(j, T); i < N; ++i) S_[at(i, j, N)] = 0;
    }
    fill_diagonal_blocks();
}

void DenseTail::fill_diagonal_blocks() {
    const int N = b_.order();
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        for (int j = f.column; j < f.column + f.q * f.r; j += f.r)
            for (int a = 0; a < f.r; ++a)
                for (int e = a + 1; e < f.r; ++e) {
                    S_[at(j + a, j + e, N)] = S_[at(j + e, j + a, N)];
                    Q_[at(j + a, j + e, N)] = Q_[at(j + e, j + a, N)];
                }
    }
}

void DenseTail::scale_inverse(const std::vector<Vector>& lambda) {
    const int N = b_.order();
    for (int tg : b_.tail) {
        const Factor& g = b_.factors[tg];
        const int rg = g.r;
        const Vector& Lg = lambda[tg];
        const int pieces = static_cast<size_t>(g.q) * N > 100000 ? threads_ : 1;
        const auto bounds = partition(g.q, pieces);
        for_chunks(pieces, pieces, [&](int piece) {
            for (size_t l = bounds[piece]; l < bounds[piece + 1]; ++l) {
                const int j = g.column + static_cast<int>(l) * rg;
                for (int e = rg - 1; e >= 0; --e) {
                    double* s = S_.data() + at(0, j + e, N);
                    const double d = Lg[e * rg + e];
                    for (int i = j; i < N; ++i) s[i] *= d;
                    for (int k = 0; k < e; ++k) {
                        const double v = Lg[e * rg + k];
                        if (v == 0) continue;
                        const double* sk = S_.data() + at(0, j + k, N);
                        for (int i = j; i < N; ++i) s[i] += v * sk[i];
                    }
                }
                for (int tf : b_.tail) {
                    const Factor& f = b_.factors[tf];
                    const int rf = f.r;
                    const Vector& Lf = lambda[tf];
                    const int from = std::max(f.column, j), to = f.column + f.q * rf;
                    for (int e = 0; e < rg; ++e) {
                        double* s = S_.data() + at(0, j + e, N);
                        if (rf == 1) {
                            for (int i = from; i < to; ++i) s[i] *= Lf[0];
                            continue;
                        }
                        for (int i = from; i < to; i += rf)
                            for (int a = rf - 1; a >= 0; --a) {
                                double v = 0;
                                for (int k = 0; k <= a; ++k) v += Lf[a * rf + k] * s[i + k];
                                s[i + a] = v;
                            }
                    }
                }
            }
        });
    }
}

// One function, since each column of Q and S is read once for all sums.
void DenseTail::gradient(const std::vector<Vector>& lambda, bool with_fixed,
                         std::vector<Vector>& BL, Vector& norms) {
    const int N = b_.order(), T = b_.T, p = b_.p;
    BL.assign(b_.factors.size(), {});
    bool scalar = true;
    for (int t : b_.tail) {
        BL[t].assign(static_cast<size_t>(b_.factors[t].r) * b_.factors[t].r, 0.0);
        scalar = scalar && b_.factors[t].r == 1;
    }
    const int parts = static_cast<size_t>(T) * T > 200000 ? 16 : 1;
    std::vector<std::vector<Vector>> partial(parts, BL);
    const size_t F = b_.factors.size();
    std::vector<Vector> part_squares(parts, Vector(scalar ? F * F : 0, 0.0));
    std::vector<int> bound(parts + 1, T);
    for (int k = 0; k < parts; ++k)
        bound[k] = static_cast<int>(T * (1 - std::sqrt(1 - static_cast<double>(k) / parts)));
    for_chunks(parts, threads_, [&](int part) {
        auto& out = partial[part];
        Vector& squares = part_squares[part];
        for (int tg : b_.tail) {
            const Factor& g = b_.factors[tg];
            const int rg = g.r;
            const double* Lg = lambda[tg].data();
            // levels of g whose first column lies in this part
            const int from = std::max(0, (bound[part] - g.column + rg - 1) / rg);
            const int to = std::min(g.q, (bound[part + 1] - g.column + rg - 1) / rg);
            Vector tmp(64 * 64);
            for (int lg = from; lg < to; ++lg) {
                const int j = g.column + lg * rg;
                for (int tf : b_.tail) {
                    const Factor& f = b_.factors[tf];
                    const int rf = f.r;
                    const double* Lf = lambda[tf].data();
                    const int end = f.column + f.q * rf;
                    int i = std::max(f.column, j);
                    if (i >= end) continue;
                    if (scalar) {
                        const double* q = Q_.data() + at(0, j, N);
                        const double* s = S_.data() + at(0, j, N);
                        double sum, square;
                        if (i == j) {
                            out[tg][0] += q[j] * s[j] * Lg[0];
                            squares[static_cast<size_t>(tg) * F + tg] += (1 - s[j]) * (1 - s[j]);
                            ++i;
                        }
                        sum = dot(end - i, q + i, s + i);
                        square = dot(end - i, s + i, s + i);
                        out[tg][0] += sum * Lf[0];
                        out[tf][0] += sum * Lg[0];
                        squares[static_cast<size_t>(tf) * F + tg] += square;
                        squares[static_cast<size_t>(tg) * F + tf] += square;
                        continue;
                    }
                    for (; i < end; i += rf) {
                        // (BL)_jj += Q_ij' Lambda_f S_ij
                        for (int e = 0; e < rg; ++e) {
                            const double* s = S_.data() + at(i, j + e, N);
                            tmp.resize(rf);
                            for (int a = 0; a < rf; ++a) {
                                double v = 0;
                                for (int k = 0; k <= a; ++k) v += Lf[a * rf + k] * s[k];
                                tmp[a] = v;
                            }
                            for (int c = 0; c < rg; ++c) {
                                const double* q = Q_.data() + at(i, j + c, N);
                                out[tg][c * rg + e] += inner(rf, q, tmp.data());
                            }
                        }
                        if (i == j) continue;
                        // (BL)_ii += Q_ij Lambda_g S_ij'
                        for (int e = 0; e < rf; ++e) {
                            tmp.resize(rg);
                            for (int a = 0; a < rg; ++a) {
                                double v = 0;
                                for (int k = 0; k <= a; ++k)
                                    v += Lg[a * rg + k] * S_[at(i + e, j + k, N)];
                                tmp[a] = v;
                            }
                            for (int c = 0; c < rf; ++c) {
                                double v = 0;
                                for (int k = 0; k < rg; ++k) v += Q_[at(i + c, j + k, N)] * tmp[k];
                                out[tf][c * rf + e] += v;
                            }
                        }
                    }
                }
                if (with_fixed)
                    for (int e = 0; e < rg; ++e)
                        for (int c = 0; c < rg; ++c)
                            out[tg][c * rg + e] +=
                                inner(p, Q_.data() + at(T, j + c, N), S_.data() + at(T, j + e, N));
            }
        }
    });
    for (const auto& part : partial)
        for (int t : b_.tail)
            for (size_t k = 0; k < BL[t].size(); ++k) BL[t][k] += part[t][k];
    norms.assign(scalar ? F * F : 0, 0.0);
    for (const Vector& part : part_squares)
        for (size_t k = 0; k < part.size(); ++k) norms[k] += part[k];
}

Vector DenseTail::gradient_exact(const std::vector<Vector>&, int t, bool) {
    const Factor& f = b_.factors[t];
    const int N = b_.order(), r = f.r, size = f.q * r;
    Vector G(static_cast<size_t>(r) * r, 0.0);
    const int block = std::max(r, 256 / r * r);
    Vector columns, RQ;
    for (int start = 0; start < size; start += block) {
        const int m = std::min(block, size - start);
        columns.assign(static_cast<size_t>(N) * m, 0.0);
        RQ.resize(columns.size());
        for (int e = 0; e < m; ++e) {
            const int j = f.column + start + e;
            for (int i = 0; i < j; ++i) columns[at(i, e, N)] = Q_[at(j, i, N)];
            for (int i = j; i < N; ++i) columns[at(i, e, N)] = Q_[at(i, j, N)];
        }
        symmetric_times(N, m, S_.data(), N, columns.data(), N, RQ.data(), N);
        for (int l = 0; l < m; l += r)
            for (int a = 0; a < r; ++a)
                for (int c = 0; c < r; ++c)
                    G[a * r + c] +=
                        columns[at(f.column + start + l + a, l + c, N)] -
                        inner(N, columns.data() + at(0, l + a, N), RQ.data() + at(0, l + c, N));
    }
    return G;
}

void DenseTail::covariance_times(int k, const double* X, double* Y) const {
    const int N = b_.order();
    symmetric_times(N, k, S_.data(), N, X, N, Y, N);
}

double DenseTail::covariance(int i, int j) const {
    return S_[at(std::max(i, j), std::min(i, j), b_.order())];
}

void DenseTail::level_form(size_t level, int r, int m, const double* KT, const double* KX,
                           double* out, double* B) const {
    const int N = b_.order(), T = b_.T, p = b_.p;
    const int32_t* col = b_.tail_column.data() + b_.tail_ptr[level];
    for (int a = 0; a < r; ++a) {
        const double* ka = KT + static_cast<size_t>(a) * m;
        double* to = out + static_cast<size_t>(a) * m;
        std::fill_n(to, m, 0.0);
        const double* kx = KX + static_cast<size_t>(a) * p;
        for (int e = 0; e < m; ++e) {
            const double* R_e = S_.data() + static_cast<size_t>(col[e]) * N;
            double sum = R_e[col[e]] * ka[e];
            const double ke = ka[e];
            for (int i = e + 1; i < m; ++i) {
                const double value = R_e[col[i]];
                sum += value * ka[i];
                to[i] += value * ke;
            }
            // twice the X part, since it stands on both sides
            double x = 0;
            for (int i = 0; i < p; ++i) x += R_e[T + i] * kx[i];
            to[e] += sum + x;
        }
    }
    for (int a = 0; a < r; ++a)
        for (int f = 0; f < r; ++f) {
            double sum =
                inner(m, out + static_cast<size_t>(a) * m, KT + static_cast<size_t>(f) * m);
            // X part times K' on X: R_XT K_T'
            const double* kx = KX + static_cast<size_t>(f) * p;
            const double* ka = KT + static_cast<size_t>(a) * m;
            for (int e = 0; e < m; ++e) {
                const double* R_e = S_.data() + static_cast<size_t>(col[e]) * N + T;
                sum += ka[e] * inner(p, R_e, kx);
            }
            B[a * r + f] -= sum;
        }
}

void DenseTail::level_covariance(size_t level, int r, int m, const double* J, double* out) const {
    const int N = b_.order(), width = m + b_.p;
    const int32_t* touched = b_.tail_column.data() + b_.tail_ptr[level];
    auto column = [&](int e) { return e < m ? touched[e] : b_.T + e - m; };
    std::fill(out, out + static_cast<size_t>(r) * width, 0.0);
    for (int a = 0; a < r; ++a) {
        const double* ja = J + static_cast<size_t>(a) * width;
        double* to = out + static_cast<size_t>(a) * width;
        for (int e = 0; e < width; ++e) {
            const double* S = S_.data() + static_cast<size_t>(column(e)) * N;
            double sum = S[column(e)] * ja[e];
            for (int i = e + 1; i < width; ++i) {
                sum += S[column(i)] * ja[i];
                to[i] -= S[column(i)] * ja[e];
            }
            to[e] -= sum;
        }
    }
}

} // namespace ranef
