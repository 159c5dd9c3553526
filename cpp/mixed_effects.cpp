#include "mixed_effects.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "one_voxel.hpp"
#include "threads.hpp"
#include "voxel_sums.hpp"

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

// One function: each estimator is a few lines between the sums before it and after it.
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
            Watch::poll();
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
            Watch::poll();
            const int count = static_cast<int>(std::min<std::size_t>(L, to - v));
            for (std::size_t f = 0; f < F; ++f) {
                Watch::poll();
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
