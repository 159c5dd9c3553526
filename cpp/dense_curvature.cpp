#include <algorithm>
#include <numeric>

#include "crossed_curvature.hpp"
#include "dense.hpp"
#include "dense_tail.hpp"
#include "panels.hpp"
#include "sparse_curvature.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double safe_scale = 1e-3; // singular values of Lambda by which may be divided
constexpr double in_range = 1e-10;
constexpr int most_parts = 16;
constexpr int worth_threads = 300;  // columns of a square matrix
constexpr int multiplied_parts = 8; // of a large product
constexpr double sparse_cost = 4;   // of a product with sparse rows beside one of BLAS

} // namespace

class DenseCurvature final : public CrossedCurvature {
  public:
    DenseCurvature(Criterion& criterion, const std::vector<Direction>& directions,
                   const std::vector<Vector>& columns, int c)
        : CrossedCurvature(criterion, directions, columns, c),
          tail_(static_cast<DenseTail&>(*criterion.tail_)) {}

  private:
    void run_traces() override;
    void gather(int i, Vector& E) const;
    void gather_dense(int i, Vector& E) const;
    void scale_both(Vector& A) const;
    bool scaled_directions();
    void tail_gradient(const double* W, int ld, bool scaled);
    void tail_pairs(const double* W, int ld, const std::vector<Vector>& D);
    Vector tail_sum(int t, const double* left, const double* right) const;
    void tail_with_leader(int i, const double* left, const double* right);
    std::vector<Vector> gathered() const;
    void leader_with_leader(const std::vector<Vector>& Y);
    void tail_squares(const std::vector<double>& once);
    void tail_whitened();
    void run_scalar();
    void run_general();
    void tail_exactly(const std::vector<Vector>& E);
    bool sparse_leader() const;
    void scale_row(int touched, const int32_t* column, const Indices& factor_at, double* k) const;
    SparseRows leader_rows(int n, bool scaled) const;
    std::vector<Vector> through_leader(int n, int k, const Vector& X, bool scaled) const;
    Vector times_inverse(const Vector& A) const;
    void leader_pairs(int first, int last, Vector& traces, Vector& middle) const;
    void leader_pairs();

    DenseTail& tail_;
    std::vector<Vector> pseudo_; // Lambda^+ by factor of the tail
    std::vector<Vector> scaled_; // X with Lambda X Lambda' = D, of directions in the tail
};

// E (N, N), lower: sum over the leader's levels of K'D K.
void DenseCurvature::gather(int i, Vector& E) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r;
    const double* D = directions_[i].matrix.data();
    const int parts = b_.tail_column.size() > 20000 ? c_.threads_ : 1;
    std::vector<int> bound(parts + 1, N_);
    for (int k = 0; k < parts; ++k)
        bound[k] = static_cast<int>(N_ * (1 - std::sqrt(1 - static_cast<double>(k) / parts)));
    for_chunks(parts, parts, [&](int part) {
        Row row;
        Vector DK;
        for (int l = 0; l < block.q; ++l) {
            resolve(l, row);
            const int m = static_cast<int>(row.columns.size());
            DK.resize(row.K.size());
            multiply<0>(r, m, D, row.K.data(), m, DK.data());
            const int32_t* column = row.columns.data();
            for (int e =
                     static_cast<int>(std::lower_bound(column, column + m, bound[part]) - column);
                 e < m && column[e] < bound[part + 1]; ++e) {
                double* out = E.data() + static_cast<size_t>(column[e]) * N_;
                for (int h = 0; h < r; ++h) {
                    const double x = DK[static_cast<size_t>(h) * m + e];
                    const double* K = row.K.data() + static_cast<size_t>(h) * m;
                    for (int a = e; a < m; ++a) out[column[a]] += x * K[a];
                }
            }
        }
    });
}

void DenseCurvature::gather_dense(int i, Vector& E) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, nodes = std::max(1, dense_block / r);
    const double* D = directions_[i].matrix.data();
    Vector panel(static_cast<size_t>(N_) * nodes * r), other(r > 1 ? panel.size() : 0), DK;
    Row row;
    for (int start = 0; start < block.q; start += nodes) {
        const int count = std::min(nodes, block.q - start);
        std::fill(panel.begin(), panel.end(), 0.0);
        std::fill(other.begin(), other.end(), 0.0);
        for (int k = 0; k < count; ++k) {
            resolve(start + k, row);
            const int m = static_cast<int>(row.columns.size());
            DK.resize(row.K.size());
            if (r > 1) multiply<0>(r, m, D, row.K.data(), m, DK.data());
            for (int h = 0; h < r; ++h)
                for (int e = 0; e < m; ++e) {
                    const size_t place = at(row.columns[e], k * r + h, N_);
                    panel[place] = row.K[static_cast<size_t>(h) * m + e];
                    if (r > 1) other[place] = DK[static_cast<size_t>(h) * m + e];
                }
        }
        if (r > 1)
            add_product(N_, count * r, panel.data(), other.data(), N_, E.data(), N_);
        else
            subtract_gram(N_, count, panel.data(), N_, E.data(), N_);
    }
    if (r == 1)
        for (double& x : E) x *= -D[0];
}

// A := Lambda'A Lambda, symmetric, both triangles.
void DenseCurvature::scale_both(Vector& A) const {
    const int parts = static_cast<size_t>(N_) * N_ > 100000 ? c_.threads_ : 1;
    const auto bounds = partition(N_, parts);
    for_chunks(parts, parts, [&](int part) { // left, by columns
        Vector column(N_);
        for (size_t j = bounds[part]; j < bounds[part + 1]; ++j) {
            double* a = A.data() + j * N_;
            c_.scale_vector(a, column.data());
            std::copy(column.begin(), column.end(), a);
        }
    });
    for (int t : b_.tail) { // right, by levels
        const Factor& f = b_.factors[t];
        const Vector& L = c_.lambda_[t];
        const auto levels = partition(f.q, parts);
        for_chunks(parts, parts, [&](int part) {
            for (size_t l = levels[part]; l < levels[part + 1]; ++l)
                for (int e = 0; e < f.r; ++e) {
                    double* a = A.data() + at(0, f.column + static_cast<int>(l) * f.r + e, N_);
                    for (int i = 0; i < N_; ++i) a[i] *= L[e * f.r + e];
                    for (int k = e + 1; k < f.r; ++k) {
                        const double* other = a + static_cast<size_t>(k - e) * N_;
                        for (int i = 0; i < N_; ++i) a[i] += L[k * f.r + e] * other[i];
                    }
                }
        });
    }
}

// Whether E of the leader's directions is left as a sum over its sparse rows: a
// product with it then costs less than one with the dense E.
bool DenseCurvature::sparse_leader() const {
    if (!leads() || c_.any_kernel()) return false;
    const ChainBlock& block = b_.chain[0];
    const double stored = static_cast<double>(b_.tail_value.size()) +
                          static_cast<double>(block.q) * block.r * b_.p,
                 count = static_cast<double>(leading().size());
    const double cost = use_lapack(N_) ? sparse_cost : 1;
    return cost * stored * (1 + count) < count * N_ * N_;
}

// k := k Lambda on the columns of the tail that a row of the leader touches.
void DenseCurvature::scale_row(int touched, const int32_t* column, const Indices& factor_at,
                               double* k) const {
    for (int e = 0; e < touched;) {
        const int f = factor_at[column[e]], r = b_.factors[f].r;
        const Vector& L = c_.lambda_[f];
        for (int c = 0; c < r; ++c) {
            double sum = 0;
            for (int h = c; h < r; ++h) sum += L[h * r + c] * k[e + h];
            k[e + c] = sum;
        }
        e += r;
    }
}

// The leader's rows K, or K Lambda, on the first n columns of tail and X; without the
// columns of X in which a level has nothing.
SparseRows DenseCurvature::leader_rows(int n, bool scaled) const {
    const int q = b_.chain[0].q, r = b_.chain[0].r;
    Indices factor_at(T_); // of the tail's columns
    for (int t : b_.tail)
        std::fill_n(factor_at.begin() + b_.factors[t].column, b_.factors[t].q * b_.factors[t].r, t);
    SparseRows out;
    out.r = r;
    Row row;
    std::vector<int> kept;
    for (int l = 0; l < q; ++l) {
        resolve(l, row);
        const int all = static_cast<int>(row.columns.size()), touched = all - b_.p;
        kept.resize(touched);
        std::iota(kept.begin(), kept.end(), 0);
        for (int e = touched; e < all && row.columns[e] < n; ++e) {
            bool any = false;
            for (int a = 0; a < r; ++a) any = any || row.K[static_cast<size_t>(a) * all + e] != 0;
            if (any) kept.push_back(e);
        }
        for (int a = 0; a < r; ++a) {
            double* k = row.K.data() + static_cast<size_t>(a) * all;
            if (scaled) scale_row(touched, row.columns.data(), factor_at, k);
            for (int e : kept) out.value.push_back(k[e]);
        }
        for (int e : kept) out.column.push_back(row.columns[e]);
        out.ptr.push_back(static_cast<int64_t>(out.column.size()));
    }
    return out;
}

// E X of each of the leader's directions, or Lambda'E Lambda X; X (n, k).
std::vector<Vector> DenseCurvature::through_leader(int n, int k, const Vector& X,
                                                   bool scaled) const {
    std::vector<Vector> out;
    std::vector<const double*> D;
    std::vector<double*> places;
    for (int i : leading()) {
        out.emplace_back(static_cast<size_t>(N_) * k);
        D.push_back(directions_[i].matrix.data());
        places.push_back(out.back().data());
    }
    if (!D.empty())
        through_rows(leader_rows(n, scaled), D, n, k, X.data(), places, N_, c_.threads_);
    return out;
}

// A S, both (n, n); S with both triangles.
Vector DenseCurvature::times_inverse(const Vector& A) const {
    Vector out(A.size());
    const int parts = static_cast<size_t>(n_) * n_ > 100000 ? multiplied_parts : 1;
    const auto bounds = partition(n_, parts);
    for_chunks(parts, c_.threads_, [&](int part) {
        const int first = static_cast<int>(bounds[part]),
                  count = static_cast<int>(bounds[part + 1]) - first;
        symmetric_times(n_, count, A.data(), N_, tail_.factor().data() + at(0, first, N_), N_,
                        out.data() + at(0, first, N_), N_);
    });
    return out;
}

// X = Lambda^+ D Lambda^+' for each direction of the tail; false where a D does not
// lie in the range of Lambda, or Lambda is too small to be divided by.
bool DenseCurvature::scaled_directions() {
    scaled_.assign(k_, Vector());
    pseudo_.assign(b_.factors.size(), Vector());
    for (int t : b_.tail) {
        if (own_[t].empty()) continue;
        const int r = b_.factors[t].r;
        const Vector& Lambda = c_.lambda_[t];
        const size_t rr = static_cast<size_t>(r) * r;
        // Lambda^+ = (Lambda'Lambda)^+ Lambda'
        Vector gram(rr, 0.0), values(r), vectors(rr), inverse(rr, 0.0);
        Vector& pseudo = pseudo_[t];
        pseudo.assign(rr, 0.0);
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                for (int h = 0; h < r; ++h)
                    gram[a * r + e] += Lambda[h * r + a] * Lambda[h * r + e];
        eigen_symmetric(r, gram.data(), values.data(), vectors.data());
        const double largest = std::max(1.0, values[r - 1]);
        for (int n = 0; n < r; ++n) {
            if (values[n] <= 1e-15 * largest) continue;
            if (values[n] < safe_scale * safe_scale * largest) return false;
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    inverse[a * r + e] += vectors[at(a, n, r)] * vectors[at(e, n, r)] / values[n];
        }
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                for (int h = 0; h < r; ++h)
                    pseudo[a * r + e] += inverse[a * r + h] * Lambda[e * r + h];
        for (int i : own_[t]) {
            const Vector& D = directions_[i].matrix;
            Vector half(rr), X(rr), back(rr);
            multiply<0>(r, r, pseudo.data(), D.data(), r, half.data());
            times_transposed(r, r, half.data(), pseudo.data(), X.data());
            multiply<0>(r, r, Lambda.data(), X.data(), r, half.data());
            times_transposed(r, r, half.data(), Lambda.data(), back.data());
            double size = 0, off = 0;
            for (size_t n = 0; n < rr; ++n) {
                size = std::max(size, std::fabs(D[n]));
                off = std::max(off, std::fabs(back[n] - D[n]));
            }
            if (off > in_range * size) return false;
            scaled_[i] = std::move(X);
        }
    }
    return true;
}

// The sum of W's diagonal blocks, without Lambda.
void DenseCurvature::tail_gradient(const double* W, int ld, bool scaled) {
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        const int r = f.r;
        const size_t rr = static_cast<size_t>(r) * r;
        Vector sum(rr, 0.0);
        for (int l = f.column; l < f.column + f.q * r; l += r)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e) sum[a * r + e] += W[at(l + a, l + e, ld)];
        if (scaled && !own_[t].empty()) {
            // P'W P with P = Lambda^+
            const Vector& P = pseudo_[t];
            Vector half(rr);
            multiply<0>(r, r, sum.data(), P.data(), r, half.data());
            small_times(r, r, P.data(), true, half.data(), sum.data());
        }
        out_->gradient[t] = std::move(sum);
    }
}

// sum over levels l of f, k of g of tr(D_i W_lk D_j W_kl); W (T, T) full.
void DenseCurvature::tail_pairs(const double* W, int ld, const std::vector<Vector>& D) {
    const int parts = static_cast<size_t>(T_) * T_ > 200000 ? most_parts : 1;
    std::vector<Vector> sums(parts, Vector(static_cast<size_t>(k_) * k_, 0.0));
    for_chunks(parts, c_.threads_, [&](int part) {
        Vector left, right;
        for (int tg : b_.tail) {
            const Factor& g = b_.factors[tg];
            if (own_[tg].empty()) continue;
            const auto bounds = partition(g.q, parts);
            for (size_t k = bounds[part]; k < bounds[part + 1]; ++k)
                for (int tf : b_.tail) {
                    const Factor& f = b_.factors[tf];
                    if (own_[tf].empty() || tf > tg) continue;
                    const int rf = f.r, rg = g.r, size = f.q * rf;
                    const double* w = W + at(f.column, g.column + static_cast<int>(k) * rg, ld);
                    if (rf == 1 && rg == 1) {
                        const double square = dot(size, w, w);
                        for (int i : own_[tf])
                            for (int j : own_[tg])
                                sums[part][static_cast<size_t>(i) * k_ + j] +=
                                    D[i][0] * D[j][0] * square;
                        continue;
                    }
                    // D_i W and W D_j for the rows of f, (size, rg)
                    const size_t block = static_cast<size_t>(size) * rg;
                    left.assign(block * own_[tf].size(), 0.0);
                    right.assign(block * own_[tg].size(), 0.0);
                    for (size_t n = 0; n < own_[tf].size(); ++n) {
                        const Vector& Di = D[own_[tf][n]];
                        for (int e = 0; e < rg; ++e)
                            for (int l = 0; l < size; l += rf)
                                for (int a = 0; a < rf; ++a)
                                    left[n * block + at(l + a, e, size)] =
                                        inner(rf, Di.data() + a * rf, w + at(l, e, ld));
                    }
                    for (size_t n = 0; n < own_[tg].size(); ++n) {
                        const Vector& Dj = D[own_[tg][n]];
                        for (int e = 0; e < rg; ++e)
                            for (int h = 0; h < rg; ++h) {
                                const double x = Dj[h * rg + e];
                                double* out = right.data() + n * block + at(0, e, size);
                                for (int l = 0; l < size; ++l) out[l] += x * w[at(l, h, ld)];
                            }
                    }
                    for (size_t n = 0; n < own_[tf].size(); ++n)
                        for (size_t m = 0; m < own_[tg].size(); ++m)
                            sums[part][static_cast<size_t>(own_[tf][n]) * k_ + own_[tg][m]] +=
                                dot(static_cast<int>(block), left.data() + n * block,
                                    right.data() + m * block);
                }
        }
    });
    for (const Vector& sum : sums)
        for (int i = 0; i < k_; ++i)
            for (int j = 0; j < k_; ++j) {
                const double x = sum[static_cast<size_t>(i) * k_ + j];
                out_->traces[static_cast<size_t>(i) * k_ + j] += x;
                // of one factor both orders are there
                if (directions_[i].factor != directions_[j].factor)
                    out_->traces[static_cast<size_t>(j) * k_ + i] += x;
            }
}

// sum over the levels k of a factor of B_kk, (r, r), B = left'right.
Vector DenseCurvature::tail_sum(int t, const double* left, const double* right) const {
    const Factor& f = b_.factors[t];
    const int r = f.r;
    const size_t rr = static_cast<size_t>(r) * r;
    Vector sums(rr * most_parts, 0.0), sum(rr, 0.0);
    const auto levels = partition(f.q, most_parts);
    for_chunks(most_parts, n_ > worth_threads ? c_.threads_ : 1, [&](int part) {
        double* own = sums.data() + part * rr;
        for (size_t k = levels[part]; k < levels[part + 1]; ++k) {
            const int l = f.column + static_cast<int>(k) * r;
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    own[a * r + e] += inner(n_, left + at(0, l + a, N_), right + at(0, l + e, N_));
        }
    });
    for (size_t n = 0; n < sums.size(); ++n) sum[n % rr] += sums[n];
    return sum;
}

// sum over the tail's levels k of tr(D_j B_kk) for leader's i.
void DenseCurvature::tail_with_leader(int i, const double* left, const double* right) {
    for (int t : b_.tail) {
        if (own_[t].empty()) continue;
        const Vector sum = tail_sum(t, left, right);
        for (int j : own_[t]) add(i, j, trace_of(b_.factors[t].r, scaled_[j].data(), sum.data()));
    }
}

// The tail's traces where its Lambda cannot be taken out: B = Q - Q R Q, and
// I - R Q in place of Lambda S^-1 Lambda^-1. R in S_, E of the leader's directions.
void DenseCurvature::tail_exactly(const std::vector<Vector>& E) {
    for (int i = 0; i < k_; ++i)
        if (b_.factors[directions_[i].factor].depth < 0) scaled_[i] = directions_[i].matrix;
    const size_t size = static_cast<size_t>(N_) * T_;
    Vector B(tail_.schur().begin(), tail_.schur().begin() + static_cast<std::ptrdiff_t>(size)),
        U(size), QU(size);
    for (int j = 0; j < T_; ++j)
        for (int i = 0; i < j; ++i) B[at(i, j, N_)] = tail_.schur()[at(j, i, N_)];
    symmetric_times(N_, T_, tail_.factor().data(), N_, B.data(), N_, U.data(), N_);
    symmetric_times(N_, T_, tail_.schur().data(), N_, U.data(), N_, QU.data(), N_);
    for (size_t n = 0; n < size; ++n) {
        B[n] -= QU[n];
        U[n] = -U[n];
    }
    for (int j = 0; j < T_; ++j) U[at(j, j, N_)] += 1;
    tail_gradient(B.data(), N_, false);
    tail_pairs(B.data(), N_, scaled_);
    if (!leads()) return;
    n_ = N_;
    const bool sparse = sparse_leader();
    std::vector<Vector> EU;
    if (sparse) EU = through_leader(N_, T_, U, false);
    for (size_t n = 0; n < leading().size(); ++n) {
        if (!sparse) symmetric_times(N_, T_, E[n].data(), N_, U.data(), N_, QU.data(), N_);
        tail_with_leader(leading()[n], U.data(), sparse ? EU[n].data() : QU.data());
    }
}

// Within the leader's levels first .. last: tr(D M D M) - 2 tr(D M D K R K'), and
// the sum of B = M - K R K'.
void DenseCurvature::leader_pairs(int first, int last, Vector& traces, Vector& middle) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, nodes = std::max(1, dense_block / r);
    const size_t rr = static_cast<size_t>(r) * r;
    const std::vector<int>& own = leading();
    const bool dense = DenseTail::dense_leader(b_);
    const double* R = tail_.factor().data();
    Row row;
    Vector full(dense ? static_cast<size_t>(N_) * nodes * r : 0), full_R(full.size()), RK, KRK(rr);
    Vector MD(rr * own.size()), XD(rr * own.size());
    for (int start = first; start < last; start += nodes) {
        const int end = std::min(start + nodes, last);
        if (dense) {
            std::fill(full.begin(), full.end(), 0.0);
            for (int l = start; l < end; ++l) {
                resolve(l, row);
                const size_t m = row.columns.size();
                for (int a = 0; a < r; ++a)
                    for (size_t e = 0; e < m; ++e)
                        full[at(row.columns[e], (l - start) * r + a, N_)] = row.K[a * m + e];
            }
            symmetric_times(N_, (end - start) * r, R, N_, full.data(), N_, full_R.data(), N_);
        }
        for (int l = start; l < end; ++l) {
            resolve(l, row);
            const int m = static_cast<int>(row.columns.size());
            const int32_t* column = row.columns.data();
            RK.assign(row.K.size(), 0.0);
            for (int a = 0; a < r; ++a) {
                const double* K = row.K.data() + static_cast<size_t>(a) * m;
                double* out = RK.data() + static_cast<size_t>(a) * m;
                for (int e = 0; e < m; ++e) {
                    if (dense) {
                        out[e] = full_R[at(column[e], (l - start) * r + a, N_)];
                        continue;
                    }
                    const double* R_e = R + static_cast<size_t>(column[e]) * N_;
                    double sum = R_e[column[e]] * K[e];
                    for (int h = e + 1; h < m; ++h) {
                        const double x = R_e[column[h]];
                        sum += x * K[h];
                        out[h] += x * K[e];
                    }
                    out[e] += sum;
                }
            }
            times_transposed(r, m, RK.data(), row.K.data(), KRK.data());
            for (size_t n = 0; n < rr; ++n) middle[n] += row.M[n] - KRK[n];
            for (size_t i = 0; i < own.size(); ++i) {
                const double* D = directions_[own[i]].matrix.data();
                multiply<0>(r, r, row.M.data(), D, r, MD.data() + i * rr);
                multiply<0>(r, r, KRK.data(), D, r, XD.data() + i * rr);
                for (size_t j = 0; j <= i; ++j)
                    traces[i * own.size() + j] +=
                        trace_of(r, MD.data() + i * rr, MD.data() + j * rr) -
                        2 * trace_of(r, MD.data() + i * rr, XD.data() + j * rr);
            }
        }
    }
}

void DenseCurvature::leader_pairs() {
    const ChainBlock& block = b_.chain[0];
    const size_t rr = static_cast<size_t>(block.r) * block.r, own = leading().size();
    const bool shared = b_.tail_column.size() > 10000 && !DenseTail::dense_leader(b_);
    const int parts = shared ? most_parts : 1;
    const auto bounds = partition(block.q, parts);
    std::vector<Vector> traces(parts, Vector(own * own, 0.0)), middle(parts, Vector(rr, 0.0));
    for_chunks(parts, c_.threads_, [&](int part) {
        leader_pairs(static_cast<int>(bounds[part]), static_cast<int>(bounds[part + 1]),
                     traces[part], middle[part]);
    });
    Vector& G = out_->gradient[block.factor];
    G.assign(rr, 0.0);
    for (int part = 0; part < parts; ++part) {
        for (size_t n = 0; n < rr; ++n) G[n] += middle[part][n];
        for (size_t i = 0; i < own; ++i)
            for (size_t j = 0; j <= i; ++j)
                add(leading()[i], leading()[j], traces[part][i * own + j]);
    }
}

// E of the leader's directions, where it is made.
std::vector<Vector> DenseCurvature::gathered() const {
    std::vector<Vector> E;
    if (!leads() || sparse_leader()) return E;
    for (int i : leading()) {
        E.emplace_back(static_cast<size_t>(N_) * N_, 0.0);
        if (DenseTail::dense_leader(b_))
            gather_dense(i, E.back());
        else
            gather(i, E.back());
        if (c_.any_kernel()) tail_.kernel_both(E.back(), true);
        fill_upper(N_, E.back().data(), N_);
    }
    return E;
}

// Traces of the leader's directions with each other as far as the tail takes part in
// them, Y = E R or that with S^-1 in place of R.
void DenseCurvature::leader_with_leader(const std::vector<Vector>& Y) {
    for (size_t i = 0; i < Y.size(); ++i)
        for (size_t j = 0; j <= i; ++j)
            add(leading()[i], leading()[j],
                trace_of_product(n_, Y[i].data(), Y[j].data(), N_, c_.threads_));
}

// Where all factors of the tail have one column S^-1 is R but for a factor of each
// row and column, and R is all that is asked.
void DenseCurvature::run_scalar() {
    const double* R = tail_.factor().data();
    fill_upper(N_, tail_.factor().data(), N_);
    const bool scaled = scaled_directions();
    std::vector<Vector> E = gathered(), Y;
    if (leads() && sparse_leader()) Y = through_leader(n_, n_, tail_.factor(), false);
    for (Vector& e : E) {
        const Vector kept = scaled ? std::move(e) : e;
        Y.push_back(times_inverse(kept));
    }
    leader_with_leader(Y);
    if (!scaled) {
        Y.clear();
        finish_products();
        tail_exactly(E);
        return;
    }
    // 1 / lambda^2; no direction belongs to a factor without
    std::vector<double> once(b_.factors.size(), 0.0);
    for (int t : b_.tail) {
        const double lambda = c_.lambda_[t][0];
        if (!own_[t].empty())
            once[t] = pseudo_[t][0] * pseudo_[t][0];
        else if (std::fabs(lambda) > safe_scale)
            once[t] = 1 / (lambda * lambda);
    }
    for (int t : b_.tail)
        for (size_t i = 0; i < Y.size() && !own_[t].empty(); ++i) {
            const double sum = once[t] * tail_sum(t, Y[i].data(), R)[0];
            for (int j : own_[t]) add(leading()[i], j, scaled_[j][0] * sum);
        }
    Y.clear();
    tail_squares(once);
    finish_products();
}

// The traces of the tail's directions with each other and its gradient: squares of
// W = I - S^-1, S^-1_kl = R_kl / (lambda_k lambda_l).
void DenseCurvature::tail_squares(const std::vector<double>& once) {
    const size_t F = b_.factors.size();
    const double* R = tail_.factor().data();
    std::vector<Vector> sums(most_parts, Vector(F * F, 0.0)), middle(most_parts, Vector(F, 0.0));
    for_chunks(most_parts, T_ > worth_threads ? c_.threads_ : 1, [&](int part) {
        for (int g : b_.tail) {
            const auto bounds = partition(b_.factors[g].q, most_parts);
            for (size_t k = bounds[part]; k < bounds[part + 1]; ++k) {
                const int j = b_.factors[g].column + static_cast<int>(k);
                const double* column = R + at(0, j, N_);
                const double own = column[j], w = 1 - once[g] * own;
                middle[part][g] += w;
                for (int f : b_.tail) {
                    const Factor& other = b_.factors[f];
                    const double square =
                        dot(other.q, column + other.column, column + other.column);
                    double& sum = sums[part][f * F + g];
                    if (f == g)
                        sum += w * w + once[g] * once[g] * (square - own * own);
                    else
                        sum += once[f] * once[g] * square;
                }
            }
        }
    });
    for (int g : b_.tail) {
        double trace = 0;
        for (const Vector& part : middle) trace += part[g];
        out_->gradient[g] = Vector(1, once[g] * trace);
        for (int f : b_.tail) {
            double square = 0;
            for (const Vector& part : sums) square += part[f * F + g];
            for (int i : own_[f])
                for (int j : own_[g])
                    out_->traces[static_cast<size_t>(i) * k_ + j] +=
                        scaled_[i][0] * scaled_[j][0] * square;
        }
    }
}

// The tail's gradient and traces from W = I - S^-1, put in the place of S^-1 for a while.
void DenseCurvature::tail_whitened() {
    double* W = tail_.factor().data();
    Vector diagonal(T_);
    for (int j = 0; j < T_; ++j) {
        diagonal[j] = W[at(j, j, N_)];
        for (int i = 0; i < N_; ++i) W[at(i, j, N_)] *= -1;
        W[at(j, j, N_)] = 1 - diagonal[j];
    }
    tail_gradient(W, N_, true);
    tail_pairs(W, N_, scaled_);
    for (int j = 0; j < T_; ++j) {
        for (int i = 0; i < N_; ++i) W[at(i, j, N_)] *= -1;
        W[at(j, j, N_)] = diagonal[j];
    }
}

void DenseCurvature::run_general() {
    std::vector<Vector> E = gathered(), Y;
    const bool scaled = scaled_directions();
    tail_.invert(c_.reml_);
    fill_upper(N_, tail_.factor().data(), N_);
    // Lambda'E Lambda S^-1
    if (leads() && sparse_leader()) Y = through_leader(n_, n_, tail_.factor(), true);
    for (Vector& e : E) {
        Vector kept = scaled ? std::move(e) : e;
        scale_both(kept);
        Y.push_back(times_inverse(kept));
    }
    leader_with_leader(Y);
    for (size_t i = 0; i < Y.size() && scaled; ++i)
        tail_with_leader(leading()[i], Y[i].data(), tail_.factor().data());
    Y.clear();
    if (scaled) tail_whitened();
    tail_.fill_diagonal_blocks();
    tail_.scale_inverse(c_.lambda_);
    finish_products();
    if (!scaled) tail_exactly(E);
}

void DenseCurvature::run_traces() {
    if (c_.scalar_tail())
        run_scalar();
    else
        run_general();
    if (!leads()) return;
    if (c_.any_kernel()) tail_.kernel_both(tail_.factor(), false);
    leader_pairs();
}

void crossed_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                       const std::vector<Vector>& columns, int c, Curvature& out) {
    if (criterion.blocks().sparse)
        sparse_curvature(criterion, directions, columns, c, out);
    else
        DenseCurvature(criterion, directions, columns, c).run(out);
}

} // namespace ranef
