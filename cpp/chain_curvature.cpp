#include <algorithm>

#include "curvature.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int most_parts = 16;
constexpr double most_products = 3e7; // doubles of sums kept apart

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

// One function, since a level is resolved once for all pairs of directions.
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
    const bool large = depth > 0 && b_.chain[0].panel.size() > 20000;
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

void chain_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                     const std::vector<Vector>& columns, int c, Curvature& out) {
    ChainCurvature(criterion, directions, columns, c).run(out);
}

} // namespace ranef
