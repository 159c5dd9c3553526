// Exact second derivatives: the traces tr(M V_i M V_j) and the products w_i'P w_j
// along directions V_i = Z D_i Z', without a matrix of order n or, on a chain, of
// any order above that of one level with its ancestors.
//
// Chain. Let H_d hold the factors up to depth d, and U be the columns that remain
// (ancestors, X). H_d^-1 = H^-1 - H^-1 Z V Z'H^-1 with H = H_(d-1), hence for
// directions i, j of finer factors, with E_i = [Z U]'H^-1 V_i H^-1 [Z U] summed over
// the levels below, J = V A_U, K = N A_U and U~ = U - Z J,
//   tr(H_d^-1 V_i H_d^-1 V_j) = tr(H^-1 V_i H^-1 V_j) - 2 tr(V F_ij) + tr(V E_i V E_j),
//   E_i := E_i[U~, U~],   F_ij := F_ij[U~, U~] - E_i[U~, Z] V E_j[Z, U~],
// F_ij = [Z U]'H^-1 V_i H^-1 V_j H^-1 [Z U]; and for the level's own directions
//   Z'H_d^-1 V_i H_d^-1 Z = N E_i[Z, Z] N',   E_own = K'D K,   F_own = K'D M D K.
// F enters linearly, and what all later steps make of it is -2 tr(R F), R the
// covariance of what remains: it is spent where it arises and need not be carried.
//
// Tail. With S = I + Lambda'Q Lambda = LL' (X included under REML),
//   Lambda'Z'M Z Lambda = I - S^-1,   Z_leader'M Z Lambda = K Lambda S^-1,
// so that traces between tail and leader are those of S^-1 and of
// S^-1 Lambda' E Lambda, E = sum_l K_l'D K_l. The rows K_l are sparse: E need not be made.
// Where Lambda is diagonal, S^-1 is the covariance R but for a factor of each row and
// column, and the search's last derivatives leave R.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "criterion.hpp"
#include "dense.hpp"
#include "levels.hpp"
#include "panels.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double safe_scale = 1e-3; // singular values of Lambda by which may be divided
constexpr double in_range = 1e-10;
constexpr int most_parts = 16;
constexpr int worth_threads = 300;    // columns of a square matrix
constexpr int multiplied_parts = 8;   // of a large product
constexpr double most_products = 3e7; // doubles of sums kept apart
constexpr int dense_block = 512;      // rows of the leader handed to BLAS at once
constexpr double sparse_cost = 4;     // of a product with sparse rows beside one of BLAS

// tr(A B), (r, r)
double trace_of(int r, const double* A, const double* B) {
    double s = 0;
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e) s += A[a * r + e] * B[e * r + a];
    return s;
}

// y (r, m) = X R, X (r, m), R (m, m) symmetric
void times_symmetric(int r, int m, const double* X, const double* R, double* y) {
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < m; ++e)
            y[static_cast<size_t>(a) * m + e] =
                inner(m, R + static_cast<size_t>(e) * m, X + static_cast<size_t>(a) * m);
}

// y (r, r) = X Y', both (r, m)
void times_transposed(int r, int m, const double* X, const double* Y, double* y) {
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e)
            y[a * r + e] = inner(m, X + static_cast<size_t>(a) * m, Y + static_cast<size_t>(e) * m);
}

// y (r, k) = B (r, r) X or B'X, X (r, k)
void small_times(int r, int k, const double* B, bool transposed, const double* X, double* y) {
    std::fill(y, y + static_cast<size_t>(r) * k, 0.0);
    for (int a = 0; a < r; ++a)
        for (int e = 0; e < r; ++e) {
            const double b = transposed ? B[e * r + a] : B[a * r + e];
            for (int c = 0; c < k; ++c) y[a * k + c] += b * X[e * k + c];
        }
}

// The lower triangle of A (n, n), row-major, into the upper one.
void mirror_lower(int n, double* A) {
    for (int a = 0; a < n; ++a)
        for (int e = 0; e < a; ++e)
            A[static_cast<size_t>(e) * n + a] = A[static_cast<size_t>(a) * n + e];
}

// The same of (N, N), column-major, by blocks that fit the cache.
void fill_upper(int n, double* A, int lda) {
    constexpr int block = 32;
    for (int j0 = 0; j0 < n; j0 += block)
        for (int i0 = j0; i0 < n; i0 += block)
            for (int j = j0; j < std::min(j0 + block, n); ++j)
                for (int i = std::max(i0, j + 1); i < std::min(i0 + block, n); ++i)
                    A[at(j, i, lda)] = A[at(i, j, lda)];
}

// sum_ij A_ij B_ji
double trace_of_product(int n, const double* A, const double* B, int lda, int threads) {
    constexpr int block = 32;
    const int blocks = (n + block - 1) / block;
    Vector sums(blocks, 0.0);
    for_chunks(blocks, n > worth_threads ? threads : 1, [&](int part) {
        const int j0 = part * block;
        for (int i0 = 0; i0 < n; i0 += block) {
            double s = 0;
            for (int j = j0; j < std::min(j0 + block, n); ++j)
                for (int i = i0; i < std::min(i0 + block, n); ++i)
                    s += A[at(i, j, lda)] * B[at(j, i, lda)];
            sums[part] += s;
        }
    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// The directions of each factor.
std::vector<std::vector<int>> by_factor(size_t factors, const std::vector<Direction>& directions) {
    std::vector<std::vector<int>> own(factors);
    for (size_t i = 0; i < directions.size(); ++i)
        own[directions[i].factor].push_back(static_cast<int>(i));
    return own;
}

} // namespace

// Without a tail: single and nested factors.
class ChainCurvature {
  public:
    ChainCurvature(Criterion& criterion, const std::vector<Direction>& directions,
                   const std::vector<Vector>& columns, int c)
        : c_(criterion), b_(criterion.b_), directions_(directions), columns_(columns), count_(c),
          k_(static_cast<int>(directions.size())),
          own_(by_factor(criterion.b_.factors.size(), directions)) {
        std::vector<int> finer;
        for (const ChainBlock& block : b_.chain) {
            below_.push_back(finer);
            finer.insert(finer.end(), own_[block.factor].begin(), own_[block.factor].end());
        }
    }

    void run(Curvature& out);

  private:
    // What goes up from the levels below: E (k, width, width), lower triangles,
    // and the columns w (k, width, c) as they meet what remains.
    struct Carried {
        Vector E, w;
    };
    // Work space of one level.
    struct Arena {
        Vector data;
        size_t used;
        double* take(size_t n) {
            used += n;
            return data.data() + used - n;
        }
    };
    struct Sums {
        Vector traces, products;
        std::vector<Vector> middle;   // by depth: sum of Z_l'M Z_l
        std::vector<Carried> carried; // by depth; the last is X's
        std::vector<Vector> rest;     // by depth: covariance of what remains
        std::vector<int> parent;      // whose it is
        Arena room;
    };

    template <int R>
    void visit(int depth, size_t level, Sums& sums) const;
    void visit(int depth, size_t level, Sums& sums) const {
        switch (b_.chain[depth].r) {
        case 1:
            return visit<1>(depth, level, sums);
        case 2:
            return visit<2>(depth, level, sums);
        default:
            return visit<0>(depth, level, sums);
        }
    }
    Sums empty_sums() const;
    void run_chunk(int chunk, Sums& sums) const;

    Criterion& c_;
    const Blocks& b_;
    const std::vector<Direction>& directions_;
    const std::vector<Vector>& columns_;
    int count_, k_;
    std::vector<std::vector<int>> own_;   // directions by factor
    std::vector<std::vector<int>> below_; // and those of finer factors, by depth
};

template <int R>
void ChainCurvature::visit(int depth, size_t level, Sums& sums) const {
    const ChainBlock& block = b_.chain[depth];
    const int r = R > 0 ? R : block.r, width = block.width, wp = width - r, c = count_;
    const size_t rr = static_cast<size_t>(r) * r, rw = static_cast<size_t>(r) * wp;
    const std::vector<int>&own = own_[block.factor], &below = below_[depth];
    const int n_own = static_cast<int>(own.size()), n_below = static_cast<int>(below.size());
    Carried& up = sums.carried[depth + 1];
    Arena& room = sums.room;
    room.used = 0;
    const double* A = c_.panel(depth, static_cast<int>(level));
    double *V = room.take(rr), *N = room.take(rr), *M = room.take(rr), *scratch = room.take(rr);
    double *K = room.take(rw), *J = room.take(rw), *RK = room.take(rw), *KRK = room.take(rr);
    const Level<R> solved{
        r, width, A, c_.L_[depth].data() + level * rr, c_.lambda_[block.factor].data(), V, N, M};
    solved.resolve(scratch);
    multiply<R>(r, wp, N, A + r, width, K);
    Vector& rest = sums.rest[depth]; // R, the same for all levels of a parent
    const int parent = block.ancestor.empty() ? 0 : block.ancestor[0][level];
    if (sums.parent[depth] != parent) {
        c_.gather_ancestors(c_.post_, depth, static_cast<int>(level), rest);
        sums.parent[depth] = parent;
    }
    times_symmetric(r, wp, K, rest.data(), RK);
    times_transposed(r, wp, RK, K, KRK);
    auto add = [&](int i, int j, double value) {
        sums.traces[static_cast<size_t>(i) * k_ + j] += value;
        if (i != j) sums.traces[static_cast<size_t>(j) * k_ + i] += value;
    };

    for (size_t n = 0; n < rr; ++n) sums.middle[depth][n] += M[n] - KRK[n];
    // own with own: tr(D M D M) - 2 tr(D M D K R K')
    double *MD = room.take(n_own * rr), *XD = room.take(n_own * rr);
    for (int i = 0; i < n_own; ++i) {
        const double* D = directions_[own[i]].matrix.data();
        multiply<R>(r, r, M, D, r, MD + i * rr);
        multiply<R>(r, r, KRK, D, r, XD + i * rr);
        for (int j = 0; j <= i; ++j)
            add(own[i], own[j],
                trace_of(r, MD + i * rr, MD + j * rr) - 2 * trace_of(r, MD + i * rr, XD + j * rr));
    }

    // what came from below
    if (n_below > 0) multiply<R>(r, wp, V, A + r, width, J);
    double *VE = room.take(n_below * rr), *VEz = room.take(n_below * rw),
           *REz = room.take(n_below * rw);
    double *zz = room.take(rr), *Ez = room.take(rw), *NE = room.take(rr), *NEz = room.take(rr),
           *EzK = room.take(rr), *around = room.take(rr);
    for (int n = 0; n < n_below; ++n) {
        const int i = below[n];
        double* E = sums.carried[depth].E.data() + static_cast<size_t>(i) * width * width;
        mirror_lower(width, E);
        for (int a = 0; a < r; ++a) {
            for (int e = 0; e < r; ++e) zz[a * r + e] = E[a * width + e];
            for (int e = 0; e < wp; ++e) {
                double s = E[a * width + r + e];
                for (int h = 0; h < r; ++h) s -= E[a * width + h] * J[h * wp + e];
                Ez[a * wp + e] = s;
            }
        }
        double* above = up.E.data() + static_cast<size_t>(i) * wp * wp;
        for (int a = 0; a < wp; ++a)
            for (int e = 0; e <= a; ++e) {
                double s = E[static_cast<size_t>(r + a) * width + r + e];
                for (int h = 0; h < r; ++h)
                    s -= J[h * wp + a] * Ez[h * wp + e] + E[h * width + r + a] * J[h * wp + e];
                above[static_cast<size_t>(a) * wp + e] += s;
            }
        multiply<R>(r, r, V, zz, r, VE + n * rr);
        multiply<R>(r, wp, V, Ez, wp, VEz + n * rw);
        times_symmetric(r, wp, Ez, rest.data(), REz + n * rw);
        // N E N' - N E[Z, U~] R K' - (the same)'
        multiply<R>(r, r, N, zz, r, NE);
        times_transposed(r, wp, REz + n * rw, K, EzK);
        multiply<R>(r, r, N, EzK, r, NEz);
        times_transposed(r, r, NE, N, around);
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e) around[a * r + e] -= NEz[a * r + e] + NEz[e * r + a];
        for (int j : own) add(i, j, trace_of(r, around, directions_[j].matrix.data()));
        for (int m = 0; m <= n; ++m)
            add(i, below[m],
                trace_of(r, VE + n * rr, VE + m * rr) +
                    2 * inner(static_cast<int>(rw), VEz + n * rw, REz + m * rw));
    }

    // own to what remains: K'D K
    double* DK = room.take(rw);
    for (int i : own) {
        multiply<R>(r, wp, directions_[i].matrix.data(), K, wp, DK);
        double* above = up.E.data() + static_cast<size_t>(i) * wp * wp;
        for (int a = 0; a < wp; ++a)
            for (int h = 0; h < r; ++h) {
                const double x = K[h * wp + a];
                double* row = above + static_cast<size_t>(a) * wp;
                const double* from = DK + static_cast<size_t>(h) * wp;
                for (int e = 0; e <= a; ++e) row[e] += x * from[e];
            }
    }

    // columns: w = Z v, v = D s, of own directions, Z'w of those below
    const size_t rc = static_cast<size_t>(r) * c, kc = static_cast<size_t>(k_) * c;
    const double* s = columns_[block.factor].data() + level * rc;
    const int present = n_below + n_own;
    double *v = room.take(present * rc), *total = room.take(present * rc),
           *Mv = room.take(present * rc);
    for (int n = 0; n < present; ++n) {
        const bool mine = n >= n_below;
        const int i = mine ? own[n - n_below] : below[n];
        double *vn = v + n * rc, *tn = total + n * rc;
        double* w = up.w.data() + static_cast<size_t>(i) * wp * c;
        if (mine) {
            small_times(r, c, directions_[i].matrix.data(), false, s, vn);
            small_times(r, c, N, true, vn, tn);
            small_times(r, c, M, false, vn, Mv + n * rc);
        } else {
            const double* from = sums.carried[depth].w.data() + static_cast<size_t>(i) * width * c;
            std::copy_n(from, rc, vn);
            small_times(r, c, V, false, vn, tn);
            for (size_t a = 0; a < rc; ++a) tn[a] = -tn[a];
            for (size_t a = 0; a < static_cast<size_t>(wp) * c; ++a) w[a] += from[rc + a];
        }
        for (int h = 0; h < r; ++h)
            for (int e = 0; e < wp; ++e) {
                const double x = A[static_cast<size_t>(h) * width + r + e];
                for (int a = 0; a < c; ++a) w[static_cast<size_t>(e) * c + a] += x * tn[h * c + a];
            }
        for (int m = 0; m <= n; ++m) {
            const int j = m >= n_below ? own[m - n_below] : below[m];
            const double* left = m >= n_below ? Mv + n * rc : tn; // m own: so is n
            for (int a = 0; a < c; ++a) {
                double* row = sums.products.data() + (static_cast<size_t>(i) * c + a) * kc +
                              static_cast<size_t>(j) * c;
                for (int h = 0; h < r; ++h) {
                    const double x = left[h * c + a];
                    const double* vm = v + m * rc + static_cast<size_t>(h) * c;
                    for (int e = 0; e < c; ++e) row[e] += x * vm[e];
                }
            }
        }
    }
    if (depth > 0) {
        std::fill(sums.carried[depth].E.begin(), sums.carried[depth].E.end(), 0.0);
        std::fill(sums.carried[depth].w.begin(), sums.carried[depth].w.end(), 0.0);
    }
}

void ChainCurvature::run_chunk(int chunk, Sums& sums) const {
    const ChainBlock& finest = b_.chain[0];
    const size_t first = b_.chunk[0][chunk], last = b_.chunk[0][chunk + 1];
    for (size_t j = first; j < last; ++j) {
        visit(0, j, sums);
        for (size_t d = 1; d < b_.chain.size(); ++d) {
            const Indices& up = finest.ancestor[d - 1];
            if (j + 1 < last && up[j + 1] == up[j]) break;
            visit(static_cast<int>(d), up[j], sums);
        }
    }
}

ChainCurvature::Sums ChainCurvature::empty_sums() const {
    const int depth = static_cast<int>(b_.chain.size()), p = b_.p;
    const size_t k = k_, kc = k * count_;
    Sums sums;
    sums.traces.assign(k * k, 0.0);
    sums.products.assign(kc * kc, 0.0);
    size_t most = 0;
    for (int d = 0; d <= depth; ++d) {
        const size_t width = d < depth ? b_.chain[d].width : p, size = d > 0 ? k * width : 0;
        sums.carried.push_back({Vector(size * width, 0.0), Vector(size * count_, 0.0)});
        if (d == depth) break;
        const size_t r = b_.chain[d].r, wp = width - r;
        sums.rest.emplace_back(wp * wp, 0.0);
        sums.middle.emplace_back(r * r, 0.0);
        sums.parent.push_back(-1);
        most = std::max(most, r * r * (10 + 3 * k) + r * wp * (5 + 2 * k) + 3 * k * r * count_);
    }
    sums.room.data.resize(most);
    return sums;
}

void ChainCurvature::run(Curvature& out) {
    const int depth = static_cast<int>(b_.chain.size()), p = b_.p, c = count_;
    const size_t kc = static_cast<size_t>(k_) * c, pp = static_cast<size_t>(p) * p;
    const int fit = static_cast<int>(most_products / (static_cast<double>(kc) * kc + 1));
    const int parts = std::max(1, std::min({b_.chunks, most_parts, fit}));
    std::vector<Sums> sums;
    for (int part = 0; part < parts; ++part) sums.push_back(empty_sums());
    const auto bounds = partition(b_.chunks, parts);
    const bool large = b_.chain[0].panel.size() > 20000;
    for_chunks(parts, large ? c_.threads_ : 1, [&](int part) {
        for (size_t chunk = bounds[part]; chunk < bounds[part + 1]; ++chunk)
            run_chunk(static_cast<int>(chunk), sums[part]);
    });
    Vector &E = sums[0].carried[depth].E, &w = sums[0].carried[depth].w; // (k, p, p), (k, p, c)
    auto collect = [](Vector& to, const Vector& from) {
        for (size_t n = 0; n < to.size(); ++n) to[n] += from[n];
    };
    for (int part = 1; part < parts; ++part) {
        collect(sums[0].traces, sums[part].traces);
        collect(sums[0].products, sums[part].products);
        collect(E, sums[part].carried[depth].E);
        collect(w, sums[part].carried[depth].w);
        for (int d = 0; d < depth; ++d) collect(sums[0].middle[d], sums[part].middle[d]);
    }
    for (int d = 0; d < depth; ++d) out.gradient[b_.chain[d].factor] = std::move(sums[0].middle[d]);
    out.traces = std::move(sums[0].traces);
    out.products = std::move(sums[0].products);
    // X is the last to go, with covariance C
    Vector CE(E.size()), Cw(w.size());
    for (int i = 0; i < k_; ++i) {
        mirror_lower(p, E.data() + i * pp);
        if (c_.reml_) {
            times_symmetric(p, p, E.data() + i * pp, c_.C_.data(), CE.data() + i * pp);
            for (int j = 0; j <= i; ++j) {
                const double t = trace_of(p, CE.data() + i * pp, CE.data() + j * pp);
                out.traces[static_cast<size_t>(i) * k_ + j] += t;
                if (i != j) out.traces[static_cast<size_t>(j) * k_ + i] += t;
            }
        }
        const size_t first = static_cast<size_t>(i) * p * c;
        small_times(p, c, c_.C_.data(), false, w.data() + first, Cw.data() + first);
    }
    for (int i = 0; i < k_; ++i)
        for (int j = 0; j <= i; ++j)
            for (int a = 0; a < c; ++a)
                for (int e = 0; e < c; ++e) {
                    double& cell = out.products[(static_cast<size_t>(i) * c + a) * kc +
                                                static_cast<size_t>(j) * c + e];
                    for (int h = 0; h < p; ++h)
                        cell -= w[(static_cast<size_t>(i) * p + h) * c + a] *
                                Cw[(static_cast<size_t>(j) * p + h) * c + e];
                }
    // each pair of directions was summed in one of its orders
    for (size_t a = 0; a < kc; ++a)
        for (size_t e = 0; e / c < a / c; ++e) {
            double &one = out.products[a * kc + e], &other = out.products[e * kc + a];
            one = other = one + other;
        }
    out.fixed = E; // X'H^-1 V_i H^-1 X, without C
}

// With a tail: crossed factors, kernels.
class CrossedCurvature {
  public:
    CrossedCurvature(Criterion& criterion, const std::vector<Direction>& directions,
                     const std::vector<Vector>& columns, int c)
        : c_(criterion), b_(criterion.b_), directions_(directions), columns_(columns), count_(c),
          k_(static_cast<int>(directions.size())), N_(b_.order()), T_(b_.T),
          n_(criterion.reml_ ? N_ : T_), own_(by_factor(b_.factors.size(), directions)) {}

    void run(Curvature& out);

  private:
    // K of one level of the leader, (r, touched + p), and its columns.
    struct Row {
        Vector V, N, M, scratch, K;
        Indices columns;
    };

    bool leads() const { return !b_.chain.empty(); }
    const std::vector<int>& leading() const { return own_[b_.chain[0].factor]; }
    void resolve(size_t level, Row& row) const;
    void add(int i, int j, double value) {
        out_->traces[static_cast<size_t>(i) * k_ + j] += value;
        if (i != j) out_->traces[static_cast<size_t>(j) * k_ + i] += value;
    }
    void columns_of_tail();
    void columns_of_leader();
    void finish_products();
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

    Criterion& c_;
    const Blocks& b_;
    const std::vector<Direction>& directions_;
    const std::vector<Vector>& columns_;
    int count_, k_, N_, T_, n_;
    std::vector<std::vector<int>> own_;
    std::vector<Vector> pseudo_; // Lambda^+ by factor of the tail
    std::vector<Vector> scaled_; // X with Lambda X Lambda' = D, of directions in the tail
    Vector v_, e_, u_;           // (N, k c), (p, k c): w as the tail and X meet it
    Curvature* out_ = nullptr;
};

void CrossedCurvature::resolve(size_t level, Row& row) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, width = block.width, p = b_.p;
    const size_t rr = static_cast<size_t>(r) * r;
    for (Vector* x : {&row.V, &row.N, &row.M, &row.scratch}) x->resize(rr);
    const double* A = c_.panel(0, static_cast<int>(level));
    const Level<0> solved{r,
                          width,
                          A,
                          c_.L_[0].data() + level * rr,
                          c_.lambda_[block.factor].data(),
                          row.V.data(),
                          row.N.data(),
                          row.M.data()};
    solved.resolve(row.scratch.data());
    const int64_t start = b_.tail_ptr[level];
    const int touched = static_cast<int>(b_.tail_ptr[level + 1] - start), m = touched + p;
    row.columns.assign(b_.tail_column.begin() + start, b_.tail_column.begin() + start + touched);
    for (int e = 0; e < p; ++e) row.columns.push_back(T_ + e);
    row.K.assign(static_cast<size_t>(r) * m, 0.0);
    for (int a = 0; a < r; ++a)
        for (int h = 0; h < r; ++h) {
            const double x = row.N[a * r + h];
            double* out = row.K.data() + static_cast<size_t>(a) * m;
            const double* C = b_.tail_value.data() + start * r + static_cast<size_t>(h) * touched;
            for (int e = 0; e < touched; ++e) out[e] += x * C[e];
            const double* AX = A + static_cast<size_t>(h) * width + r;
            for (int e = 0; e < p; ++e) out[touched + e] += x * AX[e];
        }
}

// v = D s of the tail's own directions and v'Q v.
void CrossedCurvature::columns_of_tail() {
    const int c = count_, kc = k_ * c;
    v_.assign(static_cast<size_t>(N_) * kc, 0.0);
    e_.assign(v_.size(), 0.0);
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        Vector v(static_cast<size_t>(f.r) * c);
        for (int i : own_[t])
            for (int l = 0; l < f.q; ++l) {
                const double* s = columns_[t].data() + static_cast<size_t>(l) * f.r * c;
                small_times(f.r, c, directions_[i].matrix.data(), false, s, v.data());
                for (int a = 0; a < f.r; ++a)
                    for (int e = 0; e < c; ++e)
                        v_[at(f.column + l * f.r + a, i * c + e, N_)] = v[a * c + e];
            }
    }
    symmetric_times(N_, kc, c_.Q_.data(), N_, v_.data(), N_, e_.data(), N_);
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e)
            out_->products[static_cast<size_t>(a) * kc + e] =
                inner(N_, v_.data() + at(0, a, N_), e_.data() + at(0, e, N_));
}

void CrossedCurvature::columns_of_leader() {
    const int c = count_, kc = k_ * c, r = b_.chain[0].r;
    const size_t rc = static_cast<size_t>(r) * c;
    const std::vector<int>& own = leading();
    const int count = static_cast<int>(own.size());
    Vector from_leader(static_cast<size_t>(N_) * kc, 0.0), v(count * rc), Mv(count * rc);
    Row row;
    for (int l = 0; l < b_.chain[0].q; ++l) {
        resolve(l, row);
        const int m = static_cast<int>(row.columns.size());
        const double* s = columns_[b_.chain[0].factor].data() + l * rc;
        for (int n = 0; n < count; ++n) {
            small_times(r, c, directions_[own[n]].matrix.data(), false, s, v.data() + n * rc);
            small_times(r, c, row.M.data(), false, v.data() + n * rc, Mv.data() + n * rc);
            for (int a = 0; a < c; ++a) {
                double* out = from_leader.data() + at(0, own[n] * c + a, N_);
                for (int h = 0; h < r; ++h) {
                    const double x = v[n * rc + h * c + a];
                    const double* K = row.K.data() + static_cast<size_t>(h) * m;
                    for (int e = 0; e < m; ++e) out[row.columns[e]] += x * K[e];
                }
            }
            for (int o = 0; o <= n; ++o)
                for (int a = 0; a < c; ++a)
                    for (int e = 0; e < c; ++e) {
                        double sum = 0;
                        for (int h = 0; h < r; ++h)
                            sum += Mv[n * rc + h * c + a] * v[o * rc + h * c + e];
                        const size_t x = static_cast<size_t>(own[n]) * c + a,
                                     y = static_cast<size_t>(own[o]) * c + e;
                        out_->products[x * kc + y] += sum;
                        if (o != n) out_->products[y * kc + x] += sum;
                    }
        }
    }
    if (c_.any_kernel()) c_.kernel_vector(from_leader, kc, true);
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e) {
            const double x = inner(N_, from_leader.data() + at(0, a, N_), v_.data() + at(0, e, N_));
            out_->products[static_cast<size_t>(a) * kc + e] += x;
            out_->products[static_cast<size_t>(e) * kc + a] += x;
        }
    for (size_t n = 0; n < e_.size(); ++n) e_[n] += from_leader[n];
}

// products -= what the tail and X take out; the covariance R in S_.
void CrossedCurvature::finish_products() {
    const int kc = k_ * count_, p = b_.p;
    Vector Re(e_.size()), Cu(u_.size());
    symmetric_times(N_, kc, c_.S_.data(), N_, e_.data(), N_, Re.data(), N_);
    if (!u_.empty()) symmetric_times(p, kc, c_.C_.data(), p, u_.data(), p, Cu.data(), p);
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e) {
            double x = inner(N_, e_.data() + at(0, a, N_), Re.data() + at(0, e, N_));
            if (!u_.empty()) x += inner(p, u_.data() + at(0, a, p), Cu.data() + at(0, e, p));
            out_->products[static_cast<size_t>(a) * kc + e] -= x;
        }
}

// E (N, N), lower: sum over the leader's levels of K'D K.
void CrossedCurvature::gather(int i, Vector& E) const {
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

void CrossedCurvature::gather_dense(int i, Vector& E) const {
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
void CrossedCurvature::scale_both(Vector& A) const {
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
bool CrossedCurvature::sparse_leader() const {
    if (!leads() || c_.any_kernel()) return false;
    const ChainBlock& block = b_.chain[0];
    const double stored = static_cast<double>(b_.tail_value.size()) +
                          static_cast<double>(block.q) * block.r * b_.p,
                 count = static_cast<double>(leading().size());
    const double cost = use_lapack(N_) ? sparse_cost : 1;
    return cost * stored * (1 + count) < count * N_ * N_;
}

// k := k Lambda on the columns of the tail that a row of the leader touches.
void CrossedCurvature::scale_row(int touched, const int32_t* column, const Indices& factor_at,
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
SparseRows CrossedCurvature::leader_rows(int n, bool scaled) const {
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
std::vector<Vector> CrossedCurvature::through_leader(int n, int k, const Vector& X,
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
Vector CrossedCurvature::times_inverse(const Vector& A) const {
    Vector out(A.size());
    const int parts = static_cast<size_t>(n_) * n_ > 100000 ? multiplied_parts : 1;
    const auto bounds = partition(n_, parts);
    for_chunks(parts, c_.threads_, [&](int part) {
        const int first = static_cast<int>(bounds[part]),
                  count = static_cast<int>(bounds[part + 1]) - first;
        symmetric_times(n_, count, A.data(), N_, c_.S_.data() + at(0, first, N_), N_,
                        out.data() + at(0, first, N_), N_);
    });
    return out;
}

// X = Lambda^+ D Lambda^+' for each direction of the tail; false where a D does not
// lie in the range of Lambda, or Lambda is too small to be divided by.
bool CrossedCurvature::scaled_directions() {
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
void CrossedCurvature::tail_gradient(const double* W, int ld, bool scaled) {
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
void CrossedCurvature::tail_pairs(const double* W, int ld, const std::vector<Vector>& D) {
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
Vector CrossedCurvature::tail_sum(int t, const double* left, const double* right) const {
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
void CrossedCurvature::tail_with_leader(int i, const double* left, const double* right) {
    for (int t : b_.tail) {
        if (own_[t].empty()) continue;
        const Vector sum = tail_sum(t, left, right);
        for (int j : own_[t]) add(i, j, trace_of(b_.factors[t].r, scaled_[j].data(), sum.data()));
    }
}

// The tail's traces where its Lambda cannot be taken out: B = Q - Q R Q, and
// I - R Q in place of Lambda S^-1 Lambda^-1. R in S_, E of the leader's directions.
void CrossedCurvature::tail_exactly(const std::vector<Vector>& E) {
    for (int i = 0; i < k_; ++i)
        if (b_.factors[directions_[i].factor].depth < 0) scaled_[i] = directions_[i].matrix;
    const size_t size = static_cast<size_t>(N_) * T_;
    Vector B(c_.Q_.begin(), c_.Q_.begin() + static_cast<std::ptrdiff_t>(size)), U(size), QU(size);
    for (int j = 0; j < T_; ++j)
        for (int i = 0; i < j; ++i) B[at(i, j, N_)] = c_.Q_[at(j, i, N_)];
    symmetric_times(N_, T_, c_.S_.data(), N_, B.data(), N_, U.data(), N_);
    symmetric_times(N_, T_, c_.Q_.data(), N_, U.data(), N_, QU.data(), N_);
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
void CrossedCurvature::leader_pairs(int first, int last, Vector& traces, Vector& middle) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, nodes = std::max(1, dense_block / r);
    const size_t rr = static_cast<size_t>(r) * r;
    const std::vector<int>& own = leading();
    const bool dense = c_.dense_leader();
    const double* R = c_.S_.data();
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

void CrossedCurvature::leader_pairs() {
    const ChainBlock& block = b_.chain[0];
    const size_t rr = static_cast<size_t>(block.r) * block.r, own = leading().size();
    const bool shared = b_.tail_column.size() > 10000 && !c_.dense_leader();
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
std::vector<Vector> CrossedCurvature::gathered() const {
    std::vector<Vector> E;
    if (!leads() || sparse_leader()) return E;
    for (int i : leading()) {
        E.emplace_back(static_cast<size_t>(N_) * N_, 0.0);
        if (c_.dense_leader())
            gather_dense(i, E.back());
        else
            gather(i, E.back());
        if (c_.any_kernel()) c_.kernel_both(E.back(), true);
        fill_upper(N_, E.back().data(), N_);
    }
    return E;
}

// Traces of the leader's directions with each other as far as the tail takes part in
// them, Y = E R or that with S^-1 in place of R.
void CrossedCurvature::leader_with_leader(const std::vector<Vector>& Y) {
    for (size_t i = 0; i < Y.size(); ++i)
        for (size_t j = 0; j <= i; ++j)
            add(leading()[i], leading()[j],
                trace_of_product(n_, Y[i].data(), Y[j].data(), N_, c_.threads_));
}

// Where all factors of the tail have one column S^-1 is R but for a factor of each
// row and column, and R is all that is asked.
void CrossedCurvature::run_scalar() {
    const double* R = c_.S_.data();
    fill_upper(N_, c_.S_.data(), N_);
    const bool scaled = scaled_directions();
    std::vector<Vector> E = gathered(), Y;
    if (leads() && sparse_leader()) Y = through_leader(n_, n_, c_.S_, false);
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
void CrossedCurvature::tail_squares(const std::vector<double>& once) {
    const size_t F = b_.factors.size();
    const double* R = c_.S_.data();
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
void CrossedCurvature::tail_whitened() {
    double* W = c_.S_.data();
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

void CrossedCurvature::run_general() {
    std::vector<Vector> E = gathered(), Y;
    const bool scaled = scaled_directions();
    c_.invert_tail(c_.reml_);
    fill_upper(N_, c_.S_.data(), N_);
    // Lambda'E Lambda S^-1
    if (leads() && sparse_leader()) Y = through_leader(n_, n_, c_.S_, true);
    for (Vector& e : E) {
        Vector kept = scaled ? std::move(e) : e;
        scale_both(kept);
        Y.push_back(times_inverse(kept));
    }
    leader_with_leader(Y);
    for (size_t i = 0; i < Y.size() && scaled; ++i)
        tail_with_leader(leading()[i], Y[i].data(), c_.S_.data());
    Y.clear();
    if (scaled) tail_whitened();
    c_.fill_diagonal_blocks();
    c_.tail_covariance();
    finish_products();
    if (!scaled) tail_exactly(E);
}

void CrossedCurvature::run(Curvature& out) {
    out_ = &out;
    const int kc = k_ * count_, p = b_.p;
    out.traces.assign(static_cast<size_t>(k_) * k_, 0.0);
    out.products.assign(static_cast<size_t>(kc) * kc, 0.0);
    columns_of_tail();
    if (leads()) columns_of_leader();
    if (!c_.reml_) {
        u_.assign(static_cast<size_t>(p) * kc, 0.0);
        for (int a = 0; a < kc; ++a)
            for (int e = 0; e < p; ++e)
                u_[at(e, a, p)] = e_[at(T_ + e, a, N_)] -
                                  inner(T_, c_.Y_.data() + at(0, e, T_), e_.data() + at(0, a, N_));
    }
    if (c_.scalar_tail())
        run_scalar();
    else
        run_general();
    if (!leads()) return;
    if (c_.any_kernel()) c_.kernel_both(c_.S_, false);
    leader_pairs();
}

namespace {

// sum_ae D_ae S_ae.. of each direction, S (r, r, ...) by factor.
Vector along(const std::vector<Direction>& directions, const std::vector<Vector>& S) {
    Vector out;
    for (const Direction& direction : directions) {
        const Vector &D = direction.matrix, &all = S[direction.factor];
        const size_t size = all.size() / D.size(), first = out.size();
        out.resize(first + size, 0.0);
        for (size_t a = 0; a < D.size(); ++a)
            for (size_t n = 0; n < size; ++n) out[first + n] += D[a] * all[a * size + n];
    }
    return out;
}

// out_i = B'F_i B, each (p, p) row-major and symmetric, B column-major
Vector sandwich(int p, const Vector& F, const Vector& B) {
    const size_t pp = static_cast<size_t>(p) * p;
    Vector out(F.size()), half(pp);
    for (size_t first = 0; first < F.size(); first += pp) {
        for (int a = 0; a < p; ++a)
            for (int e = 0; e < p; ++e)
                half[at(a, e, p)] =
                    inner(p, F.data() + first + static_cast<size_t>(a) * p, B.data() + at(0, e, p));
        for (int a = 0; a < p; ++a)
            for (int e = 0; e < p; ++e)
                out[first + static_cast<size_t>(a) * p + e] =
                    inner(p, B.data() + at(0, a, p), half.data() + at(0, e, p));
    }
    return out;
}

} // namespace

Curvature Criterion::curvature(const std::vector<Direction>& directions, bool of_fixed) {
    const int depth = static_cast<int>(b_.chain.size()), p = b_.p;
    const bool crossed = b_.T > 0;
    if (!inverted_) {
        solve();
        top_covariance(reml_);
        for (int d = 1; d < depth; ++d)
            post_[d].assign(static_cast<size_t>(b_.chain[d].q) * b_.chain[d].r * b_.chain[d].width,
                            0.0);
        for (int d = depth - 1; d >= 0; --d) {
            const bool large = b_.chain[d].panel.size() > 20000;
            for_chunks(b_.chunks, large ? threads_ : 1,
                       [&](int c) { descend_by_size(d, c, false); });
        }
        if (crossed && scalar_tail()) invert();
    }
    Curvature out;
    out.gradient.resize(b_.factors.size());
    std::vector<Vector> columns, sums;
    if (crossed || of_fixed) columns = level_fixed_scores(C_.data());
    if (crossed) out.fixed = along(directions, sum_fixed_scores(columns));
    if (!of_fixed) columns = scores_;
    const int c = of_fixed ? p : 1;
    if (crossed)
        CrossedCurvature(*this, directions, columns, c).run(out);
    else {
        ChainCurvature(*this, directions, columns, c).run(out);
        out.fixed = sandwich(p, out.fixed, C_);
    }
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const size_t r = b_.factors[f].r, q = b_.factors[f].q;
        Vector outer(r * r, 0.0);
        for (size_t l = 0; l < q; ++l) {
            const double* s = scores_[f].data() + l * r;
            for (size_t a = 0; a < r; ++a)
                for (size_t e = 0; e < r; ++e) outer[a * r + e] += s[a] * s[e];
        }
        for (size_t n = 0; n < r * r; ++n) out.gradient[f][n] -= ratio() * outer[n];
        sums.push_back(std::move(outer));
    }
    out.scores = along(directions, sums);
    return out;
}

} // namespace ranef
