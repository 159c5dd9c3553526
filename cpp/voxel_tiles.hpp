// Tiles of voxels from their numbers to their fits; see mixed_effects.hpp.
//
// Compiled once for each kind of processor (voxel_levels.hpp): comparisons of the compiler's
// vectors are taken apart for the processor that a function is written for, before copies are made
// for others. All names but those of namespace RANEF_LEVEL are the file's own.
#pragma once

#include "mixed_effects.hpp"
#include "one_voxel.hpp"
#include "threads.hpp"
#include "voxel_sums.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr double dependent = 1e-9; // pivot, relative to its diagonal, that is rounding
constexpr double fold = 2.0;       // of the points looked at in tau^2 + min v
constexpr int most_points = 400, most_steps = 60;
constexpr double apart_units = 1e7; // of variances whose sums around one mean lose digits
constexpr double settled = 1e-6;    // of a step whose error is its square
constexpr double rounding = 1e-28;
constexpr int block = 1024; // voxels a task

// A tile of voxels, transposed: y and v by subject, v infinite where there are no data; `flat` one
// where there are, zero elsewhere.
struct Tile {
    Strip y, v, flat;
    Lanes n, least, most, rss;
    explicit Tile(std::size_t K) : y(K), v(K), flat(K) {}
    const double* effects() const { return reinterpret_cast<const double*>(&y[0]); }
    const double* variances() const { return reinterpret_cast<const double*>(&v[0]); }
};

// L numbers from memory; of fewer the last is repeated.
template <class Real>
RANEF_INLINE Lanes taken(const Real* from, int count) {
    Lanes out{};
    if (count == L)
        for (int l = 0; l < L; ++l) out[l] = from[l];
    else
        for (int l = 0; l < L; ++l) out[l] = from[std::min(l, count - 1)];
    return out;
}

// Subjects' rows are too many streams for a processor to foresee.
template <class Real>
RANEF_INLINE void ahead(const Real* from) {
#if defined(__GNUC__)
    __builtin_prefetch(from + 3 * L);
#endif
}

template <class Real>
RANEF_INLINE void load(const Voxels& data, const void* base, const double* signs, std::size_t first,
                       int count, Tile& tile) {
    const Real* Y = static_cast<const Real*>(data.Y) + first;
    const Real* V = static_cast<const Real*>(data.V) + first;
    const Real* B = base ? static_cast<const Real*>(base) + first : nullptr;
    const Lanes zero{}, one = zero + 1.0, endless = zero + infinity;
    Lanes n = zero, least = endless, most = zero;
    for (std::size_t k = 0; k < data.K; ++k) {
        const std::size_t at = k * data.stride;
        ahead(Y + at);
        ahead(V + at);
        Lanes y = taken(Y + at, count);
        const Lanes v = taken(V + at, count);
        if (signs) y = y * signs[k];
        if (B) y += taken(B + at, count);
        const Mask there = (y - y == zero) & (v - v == zero) & (v > zero);
        tile.y[k] = pick(there, y, zero);
        tile.v[k] = pick(there, v, endless);
        tile.flat[k] = pick(there, one, zero);
        n += tile.flat[k];
        least = smaller(tile.v[k], least);
        most = larger(pick(there, v, zero), most);
    }
    tile.n = n;
    tile.least = least;
    tile.most = most;
}

// Leaves ordinary residuals in tile.y and their sums of squares; says what it took from the effects
// (moved), and the inverse of the sum of xx'.
template <int P>
RANEF_INLINE void centre(const double* X, std::size_t K, Tile& tile, Lanes (&moved)[P], Mask& well,
                         Lanes (&bread)[P][P]) {
    constexpr int T = P * (P + 1) / 2;
    const Lanes zero{};
    Lanes A[T], b[P], whole[P][P];
    for (Lanes& one : A) one = zero;
    for (Lanes& one : b) one = zero;
    for (std::size_t k = 0; k < K; ++k) {
        const double* x = X + k * P;
        int place = 0;
        for (int p = 0; p < P; ++p) {
            b[p] += x[p] * tile.y[k];
            for (int q = p; q < P; ++q, ++place) A[place] += (x[p] * x[q]) * tile.flat[k];
        }
    }
    triangle<P, Lanes>(A, whole);
    const Lanes pivot = inverse<P, Lanes>(whole, bread);
    well = (pivot > zero + dependent) & (tile.n > zero + P);
    for (int a = 0; a < P; ++a) {
        moved[a] = zero;
        for (int c = 0; c < P; ++c) moved[a] += bread[a][c] * b[c];
        moved[a] = pick(well, moved[a], zero);
    }
    Lanes rss = zero;
    for (std::size_t k = 0; k < K; ++k) {
        Lanes fitted = zero;
        for (int a = 0; a < P; ++a) fitted += X[k * P + a] * moved[a];
        const Lanes y = tile.y[k] - fitted * tile.flat[k];
        tile.y[k] = y;
        rss += y * y;
    }
    tile.rss = rss;
}

// tr (I - H) V of the model by least squares.
template <int P>
RANEF_INLINE Lanes sampling(const double* X, std::size_t K, const Tile& tile,
                            const Lanes (&bread)[P][P]) {
    Lanes sum{};
    for (std::size_t k = 0; k < K; ++k) {
        Lanes h{};
        for (int a = 0; a < P; ++a)
            for (int b = 0; b < P; ++b) h += X[k * P + a] * bread[a][b] * X[k * P + b];
        sum += pick(tile.flat[k] > Lanes{}, (1.0 - h) * tile.v[k], Lanes{});
    }
    return sum;
}

// --- a tile

template <int P, bool Level>
struct Search {
    const double* X;
    std::size_t K;
    Tile& tile;
    Mask well;
    Lanes& tau2;
    Lanes& maxima;

    using All = Quadratics<P, Lanes>;

    RANEF_INLINE void evaluate(Lanes t, All& at) const {
        Sums<P, Lanes> sums;
        solved<P, Lanes, 3, Level>(tile.effects(), tile.variances(), X, K, t, sums, at);
    }

    // The likelihood's maximum over all tau^2. `first`: the model at zero.
    RANEF_INLINE void likeliest(bool restricted, const All& first) const {
        const Lanes zero{}, one = zero + 1.0;
        const Lanes spread = pick(well, tile.rss / (tile.n - (restricted ? P : 0)), zero);
        const Lanes end =
            pick(well, 0.5 * (spread + root_of(spread * spread + 4.0 * spread * tile.most)), zero);
        const Lanes turns =
            pick(well, smaller(larger(tile.most - 2.0 * tile.least, zero), end), zero);
        const Lanes reach = pick(well, turns / tile.least, zero);
        Lanes before = relative(first, restricted), bent = bend(first, restricted), last = zero;
        Lanes ended = first.q2; // q2 at the last point
        Lanes low = zero, high = zero, humps = pick(before <= zero, one, zero);
        Lanes from = aimed(zero, first, bent, restricted);
        Mask several = one < zero;
        double most = 0;
        for (int l = 0; l < L; ++l) most = std::max(most, reach[l]);
        most = std::log1p(most);
        const int points =
            static_cast<int>(std::min<double>(most_points, std::ceil(most / std::log(fold))));
        const double step = points > 0 ? std::exp(most / points) : 1;
        double grown = 1;
        All at;
        for (int i = 1; i <= points; ++i) {
            grown *= step;
            const Lanes t =
                pick(well, i == points ? turns : smaller(tile.least * (grown - 1), turns), one);
            evaluate(t, at);
            const Lanes value = relative(at, restricted), curve = bend(at, restricted);
            const Mask falls = (before > zero) & (value <= zero);
            from = pick(value > zero, aimed(t, at, curve, restricted), from);
            if (any(falls)) {
                humps += pick(falls, one, zero);
                low = pick(falls, last, low);
                high = pick(falls, t, high);
                from =
                    pick(falls, between(last, t, before, value, bent, curve, ended, at.q2), from);
            }
            several = several |
                      ((before <= zero) & (value <= zero) & (bent > zero) & (curve < zero)) |
                      ((before > zero) & (value > zero) & (bent < zero) & (curve > zero));
            before = value;
            bent = curve;
            ended = at.q2;
            last = t;
        }
        const Mask open = before > zero;
        humps += pick(open, one, zero);
        low = pick(open, last, low);
        high = pick(well, pick(open, end * (1 + 1e-9), high), zero);
        tau2 = zero;
        maxima = one;
        const Mask apart =
            well & (several | (humps > one) | (tile.most > apart_units * tile.least));
        if (any(apart)) {
            for (int l = 0; l < L; ++l) {
                if (!apart[l]) continue;
                double count = 1;
                tau2[l] = alone(l, restricted).best(tile.least[l], turns[l], end[l], count);
                maxima[l] = count;
            }
            high = pick(apart, zero, high);
        }
        newton(low, high, from, [restricted](const All& now, Lanes& gap, Lanes& slope) {
            gap = part(now, restricted) / now.q2 - 1.0;
            slope = -bend(now, restricted) / (now.q2 * now.q2);
        });
    }

    static RANEF_INLINE Lanes part(const All& at, bool restricted) {
        return restricted ? at.trace1 : at.weight1;
    }
    // Newton's step for part / q2 = 1, from its value and the bend at t.
    static RANEF_INLINE Lanes aimed(Lanes t, const All& at, Lanes bent, bool restricted) {
        return t + (part(at, restricted) - at.q2) * at.q2 / bent;
    }
    // Where part / q2 - 1 is zero between two points: its inverse is nearly a line, a cubic by its
    // values and slopes at both.
    static RANEF_INLINE Lanes between(Lanes t0, Lanes t1, Lanes value0, Lanes value1, Lanes bent0,
                                      Lanes bent1, Lanes q0, Lanes q1) {
        const Lanes g0 = 1.0 / (1.0 + value0) - 1.0, g1 = 1.0 / (1.0 + value1) - 1.0;
        const Lanes gap = g1 - g0, s = Lanes{} - g0 / gap, rest = 1.0 - s;
        const Lanes slow0 = gap * q0 * q0 / bent0, slow1 = gap * q1 * q1 / bent1;
        return t0 + (t1 - t0) * s * s * (3.0 - 2.0 * s) - slow0 * s * rest * rest +
               slow1 * s * s * rest;
    }
    static RANEF_INLINE Lanes relative(const All& at, bool restricted) {
        return at.q2 / part(at, restricted) - 1.0;
    }
    static RANEF_INLINE Lanes bend(const All& at, bool restricted) {
        const Lanes second = restricted ? at.trace2 : at.weight2;
        return at.q2 * second - 2.0 * at.q3 * part(at, restricted);
    }

    Alone<P> alone(int l, bool restricted) const {
        Alone<P> out{std::vector<double>(K), std::vector<double>(K), X, restricted};
        for (std::size_t k = 0; k < K; ++k) {
            out.y[k] = tile.y[k][l];
            out.v[k] = tile.v[k][l];
        }
        return out;
    }

    // Where y'Py = n - p, which falls in tau^2.
    RANEF_INLINE void paule_mandel(const All& first) const {
        const Lanes zero{}, df = tile.n - P;
        tau2 = zero;
        maxima = zero + 1.0;
        const Mask above = well & (first.q1 > df);
        const Lanes from = pick(above, first.q1 / df * (first.q1 - df) / first.q2, zero);
        const Lanes high = pick(above, tile.rss / df * (1 + 1e-9), zero);
        newton(zero, high, from, [df](const All& now, Lanes& gap, Lanes& slope) {
            gap = df / now.q1 - 1.0;
            slope = df * now.q2 / (now.q1 * now.q1);
        });
    }

    // Newton for a function that is negative at `low` and positive at `high`, nearly a line; lanes
    // with high = 0 are left as they are.
    template <class Function>
    RANEF_INLINE void newton(Lanes low, Lanes high, Lanes from, Function&& function) const {
        const Lanes zero{}, one = zero + 1.0;
        Mask open = well & (high > zero);
        Lanes t = pick((from > low) & (from < high), from, 0.5 * (low + high));
        t = pick(open, t, one);
        All at;
        for (int step = 0; step < most_steps && any(open); ++step) {
            evaluate(t, at);
            Lanes gap, slope;
            function(at, gap, slope);
            const Mask below = gap < zero;
            low = pick(below, t, low);
            high = pick(below, high, t);
            Lanes next = t - gap / slope;
            const Mask inside = (slope > zero) & (next >= low) & (next <= high);
            next = pick(inside, next, 0.5 * (low + high));
            const Lanes moved = size_of(next - t);
            tau2 = pick(open, next, tau2);
            t = pick(open, next, t);
            open = open & (moved > settled * (next + tile.least * 1e-3));
        }
    }
};

template <int P>
struct Fitted {
    Lanes beta[P], bread[P][P], tau2, scatter, q, typical, maxima;
    Mask well;
};

// One function: each estimator is a few lines between the sums before it and after it.
template <int P, bool Level>
RANEF_INLINE void fit_tile(const double* X, std::size_t K, Tile& tile, Heterogeneity method,
                           Fitted<P>& out) {
    const Lanes zero{};
    Lanes moved[P], plain[P][P];
    centre<P>(X, K, tile, moved, out.well, plain);
    Sums<P, Lanes> sums;
    Quadratics<P, Lanes> first{};
    const double *y = tile.effects(), *v = tile.variances();
    const bool likelihood = method == Heterogeneity::ml || method == Heterogeneity::reml;
    if (likelihood) {
        solved<P, Lanes, 3, Level>(y, v, X, K, zero, sums, first);
    } else {
        solved<P, Lanes, 2, Level>(y, v, X, K, zero, sums, first);
    }
    out.well = out.well & (first.pivot > zero + dependent * 1e-6);
    const Lanes df = tile.n - P, size = sums.c[0];
    out.q = larger(first.q1, zero);
    out.typical = df / first.trace1;
    out.maxima = zero + 1.0;
    out.tau2 = zero;
    const Search<P, Level> search{X, K, tile, out.well, out.tau2, out.maxima};
    switch (method) {
    case Heterogeneity::fe:
        break;
    case Heterogeneity::dl:
        out.tau2 = larger((first.q1 - df) / first.trace1, zero);
        break;
    case Heterogeneity::hs:
        out.tau2 = larger((first.q1 - tile.n) / first.weight1, zero);
        break;
    case Heterogeneity::he:
        out.tau2 = larger((tile.rss - sampling<P>(X, K, tile, plain)) / df, zero);
        break;
    case Heterogeneity::sj: {
        // from the variance of the effects themselves
        Lanes mean = zero, squares = zero;
        for (int pass = 0; pass < 2; ++pass)
            for (std::size_t k = 0; k < K; ++k) {
                Lanes whole = tile.y[k];
                for (int a = 0; a < P; ++a) whole += X[k * P + a] * moved[a] * tile.flat[k];
                if (pass == 0) {
                    mean += whole;
                } else {
                    const Lanes off = whole - mean / tile.n * tile.flat[k];
                    squares += off * off;
                }
            }
        const Lanes start = pick(out.well, squares / tile.n, zero + 1.0);
        solved<P, Lanes, 1, Level>(y, v, X, K, start, sums, first);
        out.tau2 = pick(start > zero, larger(start * first.q1 / df, zero), zero);
        break;
    }
    case Heterogeneity::pm:
        search.paule_mandel(first);
        break;
    case Heterogeneity::ml:
    case Heterogeneity::reml:
        search.likeliest(method == Heterogeneity::reml, first);
        break;
    }
    Quadratics<P, Lanes> at;
    out.tau2 = pick(out.well, out.tau2, zero);
    solved<P, Lanes, 1, Level>(y, v, X, K, out.tau2, sums, at);
    Lanes whole = size; // of equal effects there is nothing left but rounding
    for (int a = 0; a < P; ++a) {
        out.beta[a] = at.beta[a] + moved[a];
        for (int b = 0; b < P; ++b) out.bread[a][b] = at.bread[a][b];
        whole += sums.s[0] * moved[a] * moved[a];
    }
    out.scatter = pick(at.q1 <= rounding * whole, zero, at.q1 / df);
}

void load_any(const Voxels& data, const void* base, const double* signs, std::size_t first,
              int count, Tile& tile) {
    if (data.single)
        load<float>(data, base, signs, first, count, tile);
    else
        load<double>(data, base, signs, first, count, tile);
}

// Not inlined where it is called twice.
template <int P, bool Level>
void fit_one(const double* X, std::size_t K, Tile& tile, Heterogeneity method, Fitted<P>& out) {
    fit_tile<P, Level>(X, K, tile, method, out);
}

// Calls work(first voxel, voxels, room for them, room for what is found) tile by tile.
template <int P, class Work>
void in_tiles(const Voxels& data, int threads, Work&& work) {
    const int blocks = static_cast<int>((data.N + block - 1) / block);
    for_tasks(blocks, threads, [&](int i) {
        const std::size_t from = static_cast<std::size_t>(i) * block;
        const std::size_t to = std::min(data.N, from + block);
        Tile tile(data.K);
        Fitted<P> found;
        for (std::size_t v = from; v < to; v += L) {
            Watch::poll();
            work(v, static_cast<int>(std::min<std::size_t>(L, to - v)), tile, found);
        }
    });
}

template <int P, bool Level>
void fit_all(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads) {
    const std::size_t N = data.N;
    in_tiles<P>(data, threads, [&](std::size_t v, int count, Tile& tile, Fitted<P>& found) {
        load_any(data, nullptr, nullptr, v, count, tile);
        fit_one<P, Level>(data.X, data.K, tile, method, found);
        for (int l = 0; l < count; ++l) {
            const std::size_t at = v + l;
            const bool well = found.well[l];
            int place = 0;
            for (int a = 0; a < P; ++a) {
                out.beta[a * N + at] = well ? found.beta[a][l] : nothing;
                for (int b = a; b < P; ++b, ++place)
                    out.bread[place * N + at] = well ? found.bread[a][b][l] : nothing;
            }
            out.tau2[at] = well ? found.tau2[l] : nothing;
            out.scatter[at] = well ? found.scatter[l] : nothing;
            out.q[at] = well ? found.q[l] : nothing;
            out.typical[at] = well ? found.typical[l] : nothing;
            out.maxima[at] = well ? found.maxima[l] : nothing;
            out.n[at] = tile.n[l];
        }
    });
}

// Statistic of contrast (r, P) times beta in lane l: t of one row, F of several; not a number where
// their covariance is singular.
template <int P>
double statistic(const Fitted<P>& found, int l, const double* contrast, int r, double scale) {
    double value[P], V[P][P];
    for (int i = 0; i < r; ++i) {
        value[i] = 0;
        for (int a = 0; a < P; ++a) value[i] += contrast[i * P + a] * found.beta[a][l];
        for (int j = 0; j <= i; ++j) {
            V[i][j] = 0;
            for (int a = 0; a < P; ++a)
                for (int b = 0; b < P; ++b)
                    V[i][j] += contrast[i * P + a] * found.bread[a][b][l] * contrast[j * P + b];
            V[i][j] *= scale;
        }
    }
    if (r == 1) return V[0][0] > 0 ? value[0] / std::sqrt(V[0][0]) : nothing;
    double sum = 0;
    for (int i = 0; i < r; ++i) { // Cholesky's factor and half of the solve
        for (int j = 0; j <= i; ++j) {
            for (int k = 0; k < j; ++k) V[i][j] -= V[i][k] * V[j][k];
            if (j < i) V[i][j] /= V[j][j];
        }
        if (!(V[i][i] > 0)) return nothing;
        V[i][i] = std::sqrt(V[i][i]);
        for (int k = 0; k < i; ++k) value[i] -= V[i][k] * value[k];
        value[i] /= V[i][i];
        sum += value[i] * value[i];
    }
    return sum / r;
}

template <int P, bool Level>
void flip_all(const Voxels& data, const void* base, const double* contrast, int r,
              const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
              int threads) {
    const std::size_t N = data.N;
    in_tiles<P>(data, threads, [&](std::size_t v, int count, Tile& tile, Fitted<P>& found) {
        for (std::size_t f = 0; f < F; ++f) {
            Watch::poll();
            load_any(data, base, signs + f * data.K, v, count, tile);
            fit_one<P, Level>(data.X, data.K, tile, method, found);
            for (int l = 0; l < count; ++l) {
                double scale = 1;
                if (scaling == Scaling::knapp_hartung) scale = found.scatter[l];
                if (scaling == Scaling::conservative) scale = std::max(1.0, found.scatter[l]);
                t[f * N + v + l] =
                    found.well[l] ? statistic<P>(found, l, contrast, r, scale) : nothing;
            }
        }
    });
}

bool is_level(const Voxels& data) {
    for (std::size_t k = 1; k < data.K; ++k)
        if (data.X[k * data.p] != data.X[0]) return false;
    return data.X[0] != 0;
}

// Calls work with the number of columns as a constant, and whether the first is level.
template <int P = 1, class Work>
void by_columns(const Voxels& data, Work&& work) {
    if (data.p == P) {
        if constexpr (P <= 2)
            if (is_level(data)) return work(std::integral_constant<int, P>(), std::true_type());
        return work(std::integral_constant<int, P>(), std::false_type());
    }
    if constexpr (P < RANEF_MOST_COLUMNS) return by_columns<P + 1>(data, work);
    throw std::invalid_argument("a design of voxels has 1 to 8 columns");
}

} // namespace

namespace RANEF_LEVEL {

void mixed_effects(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads) {
    by_columns(data, [&](auto P, auto level) {
        fit_all<P.value, level.value>(data, method, out, threads);
    });
}

void flipped(const Voxels& data, const void* base, const double* contrast, int r,
             const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
             int threads) {
    by_columns(data, [&](auto P, auto level) {
        flip_all<P.value, level.value>(data, base, contrast, r, signs, F, method, scaling, t,
                                       threads);
    });
}

} // namespace RANEF_LEVEL

} // namespace ranef
