#include "mixed_effects.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "side_by_side.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr double dependent = 1e-9; // pivot, relative to its diagonal, that is rounding
constexpr double fold = 2.0;       // of the points looked at in tau^2 + min v
constexpr int most_points = 400, most_steps = 60;
constexpr double settled = 1e-6; // of a step whose error is its square
constexpr double rounding = 1e-28;
constexpr int block = 1024; // voxels a task

// One pass at tau^2 = t: sums of w^j times 1, xx', xy and y^2, j = 1 .. 3. N is a number, or L of
// them.
template <int P, class N>
struct Sums {
    static constexpr int T = P * (P + 1) / 2;
    N s[3], A[3][T], b[3][P], c[3];
};

template <int P, class N, int Powers>
RANEF_INLINE void add_up(const double* y, const double* v, const double* X, std::size_t K, N t,
                         Sums<P, N>& out) {
    constexpr int T = Sums<P, N>::T, M = sizeof(N) / sizeof(double);
    N s[Powers], A[Powers][T], b[Powers][P], c[Powers];
    for (int j = 0; j < Powers; ++j) {
        s[j] = c[j] = N{};
        for (int i = 0; i < T; ++i) A[j][i] = N{};
        for (int i = 0; i < P; ++i) b[j][i] = N{};
    }
    for (std::size_t k = 0; k < K; ++k) {
        const double* x = X + k * P;
        const N yk = loaded<N>(y + k * M);
        const N w1 = 1.0 / (loaded<N>(v + k * M) + t);
        N w = w1;
        for (int j = 0; j < Powers; ++j) {
            if (j > 0) w = w * w1;
            const N wy = w * yk;
            s[j] += w;
            c[j] += wy * yk;
            int place = 0;
            for (int p = 0; p < P; ++p) {
                b[j][p] += x[p] * wy;
                for (int q = p; q < P; ++q, ++place) A[j][place] += (x[p] * x[q]) * w;
            }
        }
    }
    for (int j = 0; j < Powers; ++j) {
        out.s[j] = s[j];
        out.c[j] = c[j];
        for (int i = 0; i < T; ++i) out.A[j][i] = A[j][i];
        for (int i = 0; i < P; ++i) out.b[j][i] = b[j][i];
    }
}

// Inlined in the loops that are compiled for several processors, those of one and two columns.
template <int P, class N, int Powers>
void add_up_apart(const double* y, const double* v, const double* X, std::size_t K, const N* t,
                  Sums<P, N>* out) {
    add_up<P, N, Powers>(y, v, X, K, *t, *out);
}

// What the estimators are made of. `pivot` is the least of the factor, relative: at rounding the
// coefficients are not determined.
template <int P, class N>
struct Quadratics {
    N pivot, beta[P], bread[P][P];
    N q1, q2, q3, trace1, trace2, weight1, weight2;
};

template <int P, class N>
RANEF_INLINE void triangle(const N (&from)[P * (P + 1) / 2], N (&A)[P][P]) {
    int place = 0;
    for (int a = 0; a < P; ++a)
        for (int b = a; b < P; ++b, ++place) A[a][b] = A[b][a] = from[place];
}

// The inverse of a positive definite matrix by its factor L D L'; returns the least pivot.
template <int P, class N>
RANEF_INLINE N inverse(const N (&A)[P][P], N (&out)[P][P]) {
    N F[P][P], G[P][P], D[P], least = N{} + 1.0;
    for (int j = 0; j < P; ++j) {
        N d = A[j][j];
        for (int k = 0; k < j; ++k) d -= F[j][k] * F[j][k] * D[k];
        least = smaller(least, d / A[j][j]);
        D[j] = d;
        for (int i = j + 1; i < P; ++i) {
            N e = A[i][j];
            for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k] * D[k];
            F[i][j] = e / d;
        }
    }
    for (int j = 0; j < P; ++j) {
        G[j][j] = N{} + 1.0;
        for (int i = j + 1; i < P; ++i) {
            N e = N{};
            for (int k = j; k < i; ++k) e -= F[i][k] * G[k][j];
            G[i][j] = e;
        }
    }
    for (int j = 0; j < P; ++j) D[j] = 1.0 / D[j];
    for (int a = 0; a < P; ++a)
        for (int b = a; b < P; ++b) {
            N e = N{};
            for (int k = b; k < P; ++k) e += G[k][a] * G[k][b] * D[k];
            out[a][b] = out[b][a] = e;
        }
    return least;
}

template <int P, class N>
RANEF_INLINE N form(const N (&x)[P], const N (&A)[P][P], const N (&y)[P]) {
    N out = N{};
    for (int a = 0; a < P; ++a)
        for (int b = 0; b < P; ++b) out += x[a] * A[a][b] * y[b];
    return out;
}

template <int P, class N>
RANEF_INLINE N trace(const N (&A)[P][P], const N (&B)[P][P]) {
    N out = N{};
    for (int a = 0; a < P; ++a)
        for (int b = 0; b < P; ++b) out += A[a][b] * B[b][a];
    return out;
}

template <int P, class N, int Powers>
RANEF_INLINE void quadratics(const Sums<P, N>& sums, Quadratics<P, N>& out) {
    N A1[P][P];
    triangle<P, N>(sums.A[0], A1);
    out.pivot = inverse<P, N>(A1, out.bread);
    out.q1 = sums.c[0];
    for (int a = 0; a < P; ++a) {
        N value = N{};
        for (int b = 0; b < P; ++b) value += out.bread[a][b] * sums.b[0][b];
        out.beta[a] = value;
        out.q1 -= value * sums.b[0][a];
    }
    out.weight1 = sums.s[0];
    if constexpr (Powers > 1) {
        N A2[P][P], u[P];
        triangle<P, N>(sums.A[1], A2);
        out.q2 = sums.c[1] + form<P, N>(out.beta, A2, out.beta);
        for (int a = 0; a < P; ++a) {
            out.q2 -= 2.0 * out.beta[a] * sums.b[1][a];
            u[a] = sums.b[1][a];
            for (int b = 0; b < P; ++b) u[a] -= A2[a][b] * out.beta[b];
        }
        out.trace1 = sums.s[0] - trace<P, N>(out.bread, A2);
        out.weight2 = sums.s[1];
        if constexpr (Powers > 2) {
            N A3[P][P], BA[P][P];
            triangle<P, N>(sums.A[2], A3);
            out.q3 = sums.c[2] + form<P, N>(out.beta, A3, out.beta) - form<P, N>(u, out.bread, u);
            for (int a = 0; a < P; ++a) out.q3 -= 2.0 * out.beta[a] * sums.b[2][a];
            for (int a = 0; a < P; ++a)
                for (int b = 0; b < P; ++b) {
                    BA[a][b] = N{};
                    for (int k = 0; k < P; ++k) BA[a][b] += out.bread[a][k] * A2[k][b];
                }
            out.trace2 = sums.s[1] - 2.0 * trace<P, N>(out.bread, A3) + trace<P, N>(BA, BA);
        }
    }
}

template <int P, class N, int Powers>
void solved_apart(const double* y, const double* v, const double* X, std::size_t K, const N* t,
                  Sums<P, N>* sums, Quadratics<P, N>* out) {
    add_up_apart<P, N, Powers>(y, v, X, K, t, sums);
    quadratics<P, N, Powers>(*sums, *out);
}

template <int P, class N, int Powers>
RANEF_INLINE void solved(const double* y, const double* v, const double* X, std::size_t K, N t,
                         Sums<P, N>& sums, Quadratics<P, N>& out) {
    if constexpr (P <= 2 && sizeof(N) > sizeof(double)) {
        add_up<P, N, Powers>(y, v, X, K, t, sums);
        quadratics<P, N, Powers>(sums, out);
    } else
        solved_apart<P, N, Powers>(y, v, X, K, &t, &sums, &out);
}

// A tile of voxels, transposed: y and v by subject, v infinite where there are no data; `flat` one
// where there are.
struct Tile {
    std::vector<double> y, v, flat;
    double n[L], least[L], most[L], rss[L];
    explicit Tile(std::size_t K) : y(K * L), v(K * L), flat(K * L) {}
};

template <class Real>
void load(const Voxels& data, const void* base, const double* signs, std::size_t first, int count,
          Tile& tile) {
    const Real* Y = static_cast<const Real*>(data.Y);
    const Real* V = static_cast<const Real*>(data.V);
    const Real* B = static_cast<const Real*>(base);
    for (int l = 0; l < L; ++l) {
        tile.n[l] = 0;
        tile.least[l] = infinity;
        tile.most[l] = 0;
    }
    for (std::size_t k = 0; k < data.K; ++k)
        for (int l = 0; l < L; ++l) {
            const std::size_t at = k * data.N + first + std::min(l, count - 1);
            double y = Y[at], v = V[at];
            if (signs) y *= signs[k];
            if (B) y += B[at];
            const bool there = std::isfinite(y) && std::isfinite(v) && v > 0;
            tile.y[k * L + l] = there ? y : 0;
            tile.v[k * L + l] = there ? v : infinity;
            tile.flat[k * L + l] = there ? 1 : infinity;
            if (!there) continue;
            ++tile.n[l];
            tile.least[l] = std::min(tile.least[l], v);
            tile.most[l] = std::max(tile.most[l], v);
        }
}

// Leaves ordinary residuals in tile.y and their sums of squares; adds what it took to beta (P, L).
template <int P>
void centre(const double* X, std::size_t K, Tile& tile, double (&moved)[P][L], bool (&well)[L],
            double (&leverage)[L]) {
    Sums<P, Lanes> sums;
    Quadratics<P, Lanes> at;
    solved<P, Lanes, 1>(tile.y.data(), tile.flat.data(), X, K, Lanes{}, sums, at);
    double bread[L][P][P];
    for (int l = 0; l < L; ++l) {
        well[l] = at.pivot[l] > dependent && tile.n[l] > P;
        for (int a = 0; a < P; ++a) {
            moved[a][l] = well[l] ? at.beta[a][l] : 0;
            for (int b = 0; b < P; ++b) bread[l][a][b] = well[l] ? at.bread[a][b][l] : 0;
        }
        tile.rss[l] = leverage[l] = 0;
    }
    for (std::size_t k = 0; k < K; ++k) {
        const double* x = X + k * P;
        for (int l = 0; l < L; ++l) {
            if (std::isinf(tile.v[k * L + l])) continue;
            double& y = tile.y[k * L + l];
            double h = 0;
            for (int a = 0; a < P; ++a) {
                y -= x[a] * moved[a][l];
                for (int b = 0; b < P; ++b) h += x[a] * bread[l][a][b] * x[b];
            }
            tile.rss[l] += y * y;
            leverage[l] += (1 - h) * tile.v[k * L + l]; // tr (I - H) V
        }
    }
}

// --- one voxel by itself, where the profile has several maxima

template <int P>
struct Alone {
    std::vector<double> y, v;
    const double* X;
    bool restricted;

    using One = Quadratics<P, double>;

    One at(double t) const {
        Sums<P, double> sums;
        One out;
        solved<P, double, 3>(y.data(), v.data(), X, y.size(), t, sums, out);
        // sums of squares around the mean itself: digits are not lost to its size
        out.q1 = out.q2 = out.q3 = 0;
        double u[P] = {};
        for (std::size_t k = 0; k < y.size(); ++k) {
            const double w = 1 / (v[k] + t);
            double r = y[k];
            for (int a = 0; a < P; ++a) r -= X[k * P + a] * out.beta[a];
            const double wr = w * r;
            out.q1 += wr * r;
            out.q2 += wr * wr;
            out.q3 += w * wr * wr;
            for (int a = 0; a < P; ++a) u[a] += w * wr * X[k * P + a];
        }
        out.q3 -= form<P, double>(u, out.bread, u);
        return out;
    }
    double part(const One& at) const { return restricted ? at.trace1 : at.weight1; }
    double second(const One& at) const { return restricted ? at.trace2 : at.weight2; }
    double relative(const One& at) const { return at.q2 / part(at) - 1; }
    double bend(const One& at) const { return at.q2 * second(at) - 2 * at.q3 * part(at); }

    double loglik(double t) const {
        const One now = at(t);
        double value = -now.q1;
        for (double one : v)
            if (!std::isinf(one)) value -= std::log(one + t);
        if (restricted) { // log det of the inverse of X'WX, by its factor
            double F[P][P] = {};
            for (int j = 0; j < P; ++j)
                for (int i = j; i < P; ++i) {
                    double e = now.bread[i][j];
                    for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k];
                    F[i][j] = i == j ? std::sqrt(e) : e / F[j][j];
                }
            for (int j = 0; j < P; ++j) value += 2 * std::log(F[j][j]);
        }
        return value / 2;
    }

    // Newton for part / q2 = 1, which is nearly a line, kept between low and high.
    double root(double low, double high) const {
        double t = 0.5 * (low + high);
        for (int step = 0; step < 200; ++step) {
            const One now = at(t);
            (relative(now) > 0 ? low : high) = t;
            const double slope = -bend(now);
            double next = t - (part(now) - now.q2) * now.q2 / slope;
            if (!(slope > 0) || !(next > low && next < high)) next = 0.5 * (low + high);
            if (std::abs(next - t) <= 1e-15 * std::max(next, t)) return next;
            t = next;
        }
        return t;
    }

    double best(double least, double turns, double end, double& maxima) const {
        std::vector<double> roots;
        const int count =
            static_cast<int>(std::min(4000.0, std::ceil(8 * std::log2(1 + turns / least)) + 2));
        double before = 0, bent = 0, last = 0;
        for (int i = 0; i <= count; ++i) {
            const double t = i == count
                                 ? end * (1 + 1e-9)
                                 : least * std::expm1(std::log1p(turns / least) * i / (count - 1));
            const One now = at(t);
            const double value = relative(now), curve = bend(now);
            if (i == 0 && value <= 0) roots.push_back(0.0);
            if (i > 0) {
                const bool hump = before <= 0 && value <= 0 && bent > 0 && curve < 0;
                const bool dip = before > 0 && value > 0 && bent < 0 && curve > 0;
                if (before > 0 && value <= 0)
                    roots.push_back(root(last, t));
                else if (hump || dip) {
                    double old = before, from = last;
                    for (int j = 1; j <= 200; ++j) {
                        const double here = last + (t - last) * j / 200;
                        const double now_here = j == 200 ? value : relative(at(here));
                        if (old > 0 && now_here <= 0) roots.push_back(root(from, here));
                        old = now_here;
                        from = here;
                    }
                }
            }
            before = value;
            bent = curve;
            last = t;
        }
        maxima = static_cast<double>(roots.size());
        double top = -infinity, found = 0;
        for (double one : roots) {
            const double value = loglik(one);
            if (value > top) {
                top = value;
                found = one;
            }
        }
        return found;
    }
};

// --- a tile

template <int P>
struct Search {
    const double* X;
    std::size_t K;
    Tile& tile;
    bool (&well)[L];
    double (&tau2)[L];
    double (&maxima)[L];

    using All = Quadratics<P, Lanes>;

    RANEF_INLINE void evaluate(const double (&t)[L], All& at) const {
        Sums<P, Lanes> sums;
        solved<P, Lanes, 3>(tile.y.data(), tile.v.data(), X, K, loaded<Lanes>(t), sums, at);
    }

    // The likelihood's maximum over all tau^2. `first`: the model at zero.
    RANEF_INLINE void likeliest(bool restricted, const All& first) const {
        double low[L], high[L], turns[L], end[L], before[L], bent[L], last[L], t[L], from[L];
        int humps[L];
        bool several[L];
        double most = 0;
        for (int l = 0; l < L; ++l) {
            from[l] = tau2[l] = low[l] = high[l] = turns[l] = end[l] = before[l] = bent[l] =
                last[l] = 0;
            humps[l] = 0;
            several[l] = false;
            maxima[l] = 1;
            if (!well[l]) continue;
            const double spread = tile.rss[l] / (tile.n[l] - (restricted ? P : 0));
            end[l] = 0.5 * (spread + std::sqrt(spread * spread + 4 * spread * tile.most[l]));
            turns[l] = std::min(std::max(0.0, tile.most[l] - 2 * tile.least[l]), end[l]);
            most = std::max(most, std::log1p(turns[l] / tile.least[l]));
            before[l] = relative(first, l, restricted);
            bent[l] = bend(first, l, restricted);
            humps[l] = before[l] <= 0;
            from[l] = aimed(0, 1 / (1 + before[l]), bent[l], first.q2[l]);
        }
        const int points =
            static_cast<int>(std::min<double>(most_points, std::ceil(most / std::log(fold))));
        All at;
        for (int i = 1; i <= points; ++i) {
            for (int l = 0; l < L; ++l)
                t[l] = well[l] ? tile.least[l] *
                                     std::expm1(std::log1p(turns[l] / tile.least[l]) * i / points)
                               : 1;
            evaluate(t, at);
            for (int l = 0; l < L; ++l) {
                if (!well[l]) continue;
                const double value = relative(at, l, restricted);
                const double curve = bend(at, l, restricted);
                if (before[l] > 0 && value <= 0) {
                    ++humps[l];
                    low[l] = last[l];
                    high[l] = t[l];
                    // between the two by a line
                    const double now = 1 / (1 + value), old = 1 / (1 + before[l]);
                    from[l] = last[l] + (t[l] - last[l]) * (1 - old) / (now - old);
                } else if (value > 0) {
                    const double q2 = at.q2[l];
                    from[l] = aimed(t[l], 1 / (1 + value), curve, q2);
                }
                several[l] |= (before[l] <= 0 && value <= 0 && bent[l] > 0 && curve < 0) ||
                              (before[l] > 0 && value > 0 && bent[l] < 0 && curve > 0);
                before[l] = value;
                bent[l] = curve;
                last[l] = t[l];
            }
        }
        for (int l = 0; l < L; ++l) {
            if (!well[l]) continue;
            if (before[l] > 0) {
                ++humps[l];
                low[l] = last[l];
                high[l] = end[l] * (1 + 1e-9);
            }
            if (several[l] || humps[l] > 1) {
                tau2[l] = alone(l, restricted).best(tile.least[l], turns[l], end[l], maxima[l]);
                high[l] = 0;
            }
        }
        newton(low, high, from, [restricted](const All& now, int l, double& gap, double& slope) {
            const double part = restricted ? now.trace1[l] : now.weight1[l], q2 = now.q2[l];
            gap = part / q2 - 1;
            slope = -bend(now, l, restricted) / (q2 * q2);
        });
    }

    // Newton's step for part / q2 = 1, from its value and the bend at t.
    static double aimed(double t, double ratio, double bent, double q2) {
        return t - (ratio - 1) * q2 * q2 / -bent;
    }
    static double relative(const All& at, int l, bool restricted) {
        return at.q2[l] / (restricted ? at.trace1[l] : at.weight1[l]) - 1;
    }
    static double bend(const All& at, int l, bool restricted) {
        return restricted ? at.q2[l] * at.trace2[l] - 2 * at.q3[l] * at.trace1[l]
                          : at.q2[l] * at.weight2[l] - 2 * at.q3[l] * at.weight1[l];
    }

    Alone<P> alone(int l, bool restricted) const {
        Alone<P> out{std::vector<double>(K), std::vector<double>(K), X, restricted};
        for (std::size_t k = 0; k < K; ++k) {
            out.y[k] = tile.y[k * L + l];
            out.v[k] = tile.v[k * L + l];
        }
        return out;
    }

    // Where y'Py = n - p, which falls in tau^2.
    RANEF_INLINE void paule_mandel(const All& first) const {
        double low[L], high[L], df[L], from[L];
        for (int l = 0; l < L; ++l) {
            tau2[l] = low[l] = high[l] = 0;
            maxima[l] = 1;
            df[l] = tile.n[l] - P;
            from[l] = 0;
            if (well[l] && first.q1[l] > df[l]) {
                from[l] = first.q1[l] / df[l] * (first.q1[l] - df[l]) / first.q2[l];
                high[l] = tile.rss[l] / df[l] * (1 + 1e-9);
            }
        }
        newton(low, high, from, [&](const All& now, int l, double& gap, double& slope) {
            gap = df[l] / now.q1[l] - 1;
            slope = df[l] * now.q2[l] / (now.q1[l] * now.q1[l]);
        });
    }

    // Newton for a function that is negative at `low` and positive at `high`, nearly a line; lanes
    // with high = 0 are left as they are.
    template <class Function>
    RANEF_INLINE void newton(double (&low)[L], double (&high)[L], const double (&from)[L],
                             Function&& function) const {
        double t[L];
        bool open[L];
        int left = 0;
        for (int l = 0; l < L; ++l) {
            open[l] = well[l] && high[l] > 0;
            left += open[l];
            t[l] = !open[l]                                ? 1
                   : from[l] > low[l] && from[l] < high[l] ? from[l]
                                                           : 0.5 * (low[l] + high[l]);
        }
        All at;
        for (int step = 0; step < most_steps && left; ++step) {
            evaluate(t, at);
            for (int l = 0; l < L; ++l) {
                if (!open[l]) continue;
                double gap, slope;
                function(at, l, gap, slope);
                (gap < 0 ? low[l] : high[l]) = t[l];
                double next = t[l] - gap / slope;
                if (!(slope > 0) || !(next >= low[l] && next <= high[l]))
                    next = 0.5 * (low[l] + high[l]);
                const double moved = std::abs(next - t[l]);
                t[l] = tau2[l] = next;
                if (moved <= settled * (next + tile.least[l] * 1e-3)) {
                    open[l] = false;
                    --left;
                }
            }
        }
    }
};

template <int P>
struct Fitted {
    double beta[P][L], bread[L][P][P], tau2[L], scatter[L], q[L], typical[L], maxima[L];
    bool well[L];
};

template <int P>
RANEF_INLINE void fit_tile(const double* X, std::size_t K, Tile& tile, Heterogeneity method,
                           Fitted<P>& out) {
    double moved[P][L], sampling[L];
    double size[L] = {};
    centre<P>(X, K, tile, moved, out.well, sampling);
    Sums<P, Lanes> sums;
    Quadratics<P, Lanes> first;
    const bool likelihood = method == Heterogeneity::ml || method == Heterogeneity::reml;
    if (likelihood) {
        solved<P, Lanes, 3>(tile.y.data(), tile.v.data(), X, K, Lanes{}, sums, first);
    } else {
        solved<P, Lanes, 2>(tile.y.data(), tile.v.data(), X, K, Lanes{}, sums, first);
    }
    for (int l = 0; l < L; ++l) {
        out.tau2[l] = 0;
        out.maxima[l] = 1;
        if (!out.well[l]) continue;
        out.well[l] = first.pivot[l] > dependent * 1e-6;
        out.q[l] = std::max(0.0, first.q1[l]);
        out.typical[l] = (tile.n[l] - P) / first.trace1[l];
        size[l] = sums.c[0][l];
    }
    const Search<P> search{X, K, tile, out.well, out.tau2, out.maxima};
    switch (method) {
    case Heterogeneity::fe:
        break;
    case Heterogeneity::dl:
        for (int l = 0; l < L; ++l)
            if (out.well[l])
                out.tau2[l] = std::max(0.0, (first.q1[l] - (tile.n[l] - P)) / first.trace1[l]);
        break;
    case Heterogeneity::hs:
        for (int l = 0; l < L; ++l)
            if (out.well[l])
                out.tau2[l] = std::max(0.0, (first.q1[l] - tile.n[l]) / first.weight1[l]);
        break;
    case Heterogeneity::he:
        for (int l = 0; l < L; ++l)
            if (out.well[l])
                out.tau2[l] = std::max(0.0, (tile.rss[l] - sampling[l]) / (tile.n[l] - P));
        break;
    case Heterogeneity::sj: {
        // from the variance of the effects themselves
        double start[L], mean[L] = {}, squares[L] = {};
        for (std::size_t k = 0; k < K; ++k)
            for (int l = 0; l < L; ++l) {
                if (std::isinf(tile.v[k * L + l])) continue;
                double y = tile.y[k * L + l];
                for (int a = 0; a < P; ++a) y += X[k * P + a] * moved[a][l];
                mean[l] += y;
            }
        for (std::size_t k = 0; k < K; ++k)
            for (int l = 0; l < L; ++l) {
                if (std::isinf(tile.v[k * L + l])) continue;
                double y = tile.y[k * L + l] - mean[l] / tile.n[l];
                for (int a = 0; a < P; ++a) y += X[k * P + a] * moved[a][l];
                squares[l] += y * y;
            }
        for (int l = 0; l < L; ++l) start[l] = out.well[l] ? squares[l] / tile.n[l] : 1;
        solved<P, Lanes, 1>(tile.y.data(), tile.v.data(), X, K, loaded<Lanes>(start), sums, first);
        for (int l = 0; l < L; ++l)
            if (out.well[l] && start[l] > 0)
                out.tau2[l] = std::max(0.0, start[l] * first.q1[l] / (tile.n[l] - P));
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
    solved<P, Lanes, 1>(tile.y.data(), tile.v.data(), X, K, loaded<Lanes>(out.tau2), sums, at);
    for (int l = 0; l < L; ++l) {
        if (!out.well[l]) continue;
        for (int a = 0; a < P; ++a) {
            out.beta[a][l] = at.beta[a][l] + moved[a][l];
            for (int b = 0; b < P; ++b) out.bread[l][a][b] = at.bread[a][b][l];
        }
        // of equal effects there is nothing left but rounding
        double whole = size[l];
        for (int a = 0; a < P; ++a) whole += sums.s[0][l] * moved[a][l] * moved[a][l];
        out.scatter[l] = at.q1[l] <= rounding * whole ? 0 : at.q1[l] / (tile.n[l] - P);
    }
}

// Compiled for several processors: RANEF_CLONES takes no templates.
RANEF_CLONES void fit1(const double* X, std::size_t K, Tile& t, Heterogeneity m, Fitted<1>& out) {
    fit_tile<1>(X, K, t, m, out);
}
RANEF_CLONES void fit2(const double* X, std::size_t K, Tile& t, Heterogeneity m, Fitted<2>& out) {
    fit_tile<2>(X, K, t, m, out);
}

template <int P>
void fit_one(const double* X, std::size_t K, Tile& tile, Heterogeneity method, Fitted<P>& out) {
    if constexpr (P == 1)
        fit1(X, K, tile, method, out);
    else if constexpr (P == 2)
        fit2(X, K, tile, method, out);
    else
        fit_tile<P>(X, K, tile, method, out);
}

void load_any(const Voxels& data, const void* base, const double* signs, std::size_t first,
              int count, Tile& tile) {
    if (data.single)
        load<float>(data, base, signs, first, count, tile);
    else
        load<double>(data, base, signs, first, count, tile);
}

template <class Work>
void in_blocks(std::size_t N, int threads, Work&& work) {
    const int blocks = static_cast<int>((N + block - 1) / block);
    for_tasks(blocks, threads, [&](int i) {
        const std::size_t first = static_cast<std::size_t>(i) * block;
        work(first, std::min(N, first + block));
    });
}

template <int P>
void fit_all(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads) {
    const std::size_t N = data.N;
    in_blocks(N, threads, [&](std::size_t from, std::size_t to) {
        Tile tile(data.K);
        Fitted<P> found;
        for (std::size_t v = from; v < to; v += L) {
            const int count = static_cast<int>(std::min<std::size_t>(L, to - v));
            load_any(data, nullptr, nullptr, v, count, tile);
            fit_one<P>(data.X, data.K, tile, method, found);
            for (int l = 0; l < count; ++l) {
                const std::size_t at = v + l;
                const bool well = found.well[l];
                int place = 0;
                for (int a = 0; a < P; ++a) {
                    out.beta[a * N + at] = well ? found.beta[a][l] : nothing;
                    for (int b = a; b < P; ++b, ++place)
                        out.bread[place * N + at] = well ? found.bread[l][a][b] : nothing;
                }
                out.tau2[at] = well ? found.tau2[l] : nothing;
                out.scatter[at] = well ? found.scatter[l] : nothing;
                out.q[at] = well ? found.q[l] : nothing;
                out.typical[at] = well ? found.typical[l] : nothing;
                out.maxima[at] = well ? found.maxima[l] : nothing;
                out.n[at] = tile.n[l];
            }
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
                    V[i][j] += contrast[i * P + a] * found.bread[l][a][b] * contrast[j * P + b];
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

template <int P>
void flip_all(const Voxels& data, const void* base, const double* contrast, int r,
              const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
              int threads) {
    const std::size_t N = data.N;
    in_blocks(N, threads, [&](std::size_t from, std::size_t to) {
        Tile tile(data.K);
        Fitted<P> found;
        for (std::size_t v = from; v < to; v += L) {
            const int count = static_cast<int>(std::min<std::size_t>(L, to - v));
            for (std::size_t f = 0; f < F; ++f) {
                load_any(data, base, signs + f * data.K, v, count, tile);
                fit_one<P>(data.X, data.K, tile, method, found);
                for (int l = 0; l < count; ++l) {
                    double scale = 1;
                    if (scaling == Scaling::knapp_hartung) scale = found.scatter[l];
                    if (scaling == Scaling::conservative) scale = std::max(1.0, found.scatter[l]);
                    t[f * N + v + l] =
                        found.well[l] ? statistic<P>(found, l, contrast, r, scale) : nothing;
                }
            }
        }
    });
}

// Calls work with the number of columns as a constant.
template <class Work>
void by_columns(int p, Work&& work) {
    switch (p) {
    case 1:
        return work(std::integral_constant<int, 1>());
    case 2:
        return work(std::integral_constant<int, 2>());
    case 3:
        return work(std::integral_constant<int, 3>());
    case 4:
        return work(std::integral_constant<int, 4>());
    case 5:
        return work(std::integral_constant<int, 5>());
    case 6:
        return work(std::integral_constant<int, 6>());
    case 7:
        return work(std::integral_constant<int, 7>());
    case 8:
        return work(std::integral_constant<int, 8>());
    default:
        throw std::invalid_argument("a design of voxels has 1 to 8 columns");
    }
}

} // namespace

Heterogeneity heterogeneity(const std::string& name) {
    static const char* const names[] = {"fe", "dl", "he", "hs", "sj", "pm", "ml", "reml"};
    for (int i = 0; i < 8; ++i)
        if (name == names[i]) return static_cast<Heterogeneity>(i);
    throw std::invalid_argument("there is no such estimator of the variance between subjects");
}

void mixed_effects(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads) {
    by_columns(data.p, [&](auto P) { fit_all<P.value>(data, method, out, threads); });
}

void flipped(const Voxels& data, const void* base, const double* contrast, int r,
             const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
             int threads) {
    by_columns(data.p, [&](auto P) {
        flip_all<P.value>(data, base, contrast, r, signs, F, method, scaling, t, threads);
    });
}

} // namespace ranef
