#include "repeated.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "repeated_point.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int block = 256; // voxels a task
constexpr int most_steps = 200;
constexpr double settled = 1e-11;  // of what a step promises, on the scale of the deviance
constexpr double on_face = 1e-7;   // eigenvalue of Psi that may be zero
constexpr double rounding = 1e-26; // of a sum of squares
constexpr double log_2_pi = 1.83787706640934548356;

RANEF_CLONES void reduce_tile(const Repeated& d, Tile& tile) {
    reduce(d, tile);
}
RANEF_CLONES void evaluate1(const Shared& s, const Tile& t, const Lanes (&Psi)[1][1], bool second,
                            Room& room, Point<1>& out) {
    evaluate<1>(s, t, Psi, second, room, out);
}
RANEF_CLONES void evaluate2(const Shared& s, const Tile& t, const Lanes (&Psi)[2][2], bool second,
                            Room& room, Point<2>& out) {
    evaluate<2>(s, t, Psi, second, room, out);
}
RANEF_CLONES void evaluate3(const Shared& s, const Tile& t, const Lanes (&Psi)[3][3], bool second,
                            Room& room, Point<3>& out) {
    evaluate<3>(s, t, Psi, second, room, out);
}

template <int Q>
void evaluate_any(const Shared& s, const Tile& tile, const Lanes (&Psi)[Q][Q], bool second,
                  Room& room, Point<Q>& out) {
    if constexpr (Q == 1)
        evaluate1(s, tile, Psi, second, room, out);
    else if constexpr (Q == 2)
        evaluate2(s, tile, Psi, second, room, out);
    else
        evaluate3(s, tile, Psi, second, room, out);
}

// --- one voxel's search, over the factor of Psi

// Eigenvalues, falling, and vectors (columns) of a symmetric matrix, by Jacobi's rotations.
template <int Q>
void eigen(const double (&A)[Q][Q], double (&values)[Q], double (&vectors)[Q][Q]) {
    double B[Q][Q];
    for (int i = 0; i < Q; ++i)
        for (int j = 0; j < Q; ++j) {
            B[i][j] = 0.5 * (A[i][j] + A[j][i]);
            vectors[i][j] = i == j;
        }
    for (int turn = 0; turn < 30; ++turn) {
        double off = 0;
        for (int i = 0; i < Q; ++i)
            for (int j = i + 1; j < Q; ++j) {
                if (B[i][j] == 0) continue;
                off = 1;
                const double theta = 0.5 * (B[j][j] - B[i][i]) / B[i][j];
                const double t =
                    (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
                const double c = 1 / std::sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < Q; ++k) {
                    const double x = B[k][i], y = B[k][j];
                    B[k][i] = c * x - s * y;
                    B[k][j] = s * x + c * y;
                    const double v = vectors[k][i], w = vectors[k][j];
                    vectors[k][i] = c * v - s * w;
                    vectors[k][j] = s * v + c * w;
                }
                for (int k = 0; k < Q; ++k) {
                    const double x = B[i][k], y = B[j][k];
                    B[i][k] = c * x - s * y;
                    B[j][k] = s * x + c * y;
                }
                B[i][j] = B[j][i] = 0;
            }
        if (off == 0) break;
    }
    for (int i = 0; i < Q; ++i) values[i] = B[i][i];
    for (int i = 0; i < Q; ++i)
        for (int j = i + 1; j < Q; ++j)
            if (values[j] > values[i]) {
                std::swap(values[i], values[j]);
                for (int k = 0; k < Q; ++k) std::swap(vectors[k][i], vectors[k][j]);
            }
}

// Solves A x = b for a positive definite matrix; false where it is none.
template <int M>
bool solve(const double (&A)[M][M], const double (&b)[M], double (&x)[M], int size) {
    double F[M][M];
    for (int j = 0; j < size; ++j) {
        double d = A[j][j];
        for (int k = 0; k < j; ++k) d -= F[j][k] * F[j][k];
        if (!(d > 1e-14 * std::abs(A[j][j])) || !(d > 0)) return false;
        F[j][j] = std::sqrt(d);
        for (int i = j + 1; i < size; ++i) {
            double e = A[i][j];
            for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k];
            F[i][j] = e / F[j][j];
        }
    }
    for (int i = 0; i < size; ++i) {
        x[i] = b[i];
        for (int k = 0; k < i; ++k) x[i] -= F[i][k] * x[k];
        x[i] /= F[i][i];
    }
    for (int i = size; i-- > 0;) {
        for (int k = i + 1; k < size; ++k) x[i] -= F[k][i] * x[k];
        x[i] /= F[i][i];
    }
    return true;
}

template <int Q>
struct Voxel {
    static constexpr int T = packed<Q>;
    double F[Q][Q] = {}; // Psi = F F', F lower when rows stand in this order
    int order[Q] = {};
    double psi[Q][Q] = {};
    double step[T] = {}, promised = 0, value = 0, damping = 0;
    int steps = 0, rescues = 0;
    bool open = true, fresh = true;

    // The factor with the largest pivots first: a first column of nearly nothing would leave the
    // second without a scale.
    void from(const double (&P)[Q][Q]) {
        double left[Q];
        for (int i = 0; i < Q; ++i) {
            order[i] = i;
            left[i] = P[i][i];
        }
        for (int j = 0; j < Q; ++j) {
            for (int i = j + 1; i < Q; ++i)
                if (left[order[i]] > left[order[j]]) std::swap(order[i], order[j]);
            for (int i = 0; i < j; ++i) F[order[i]][j] = 0;
            const double pivot = left[order[j]] > 0 ? std::sqrt(left[order[j]]) : 0;
            F[order[j]][j] = pivot;
            for (int i = j + 1; i < Q; ++i) {
                const int row = order[i];
                double e = P[row][order[j]];
                for (int k = 0; k < j; ++k) e -= F[row][k] * F[order[j]][k];
                F[row][j] = pivot > 0 ? e / pivot : 0;
                left[row] -= F[row][j] * F[row][j];
            }
        }
        put();
    }
    void put() {
        for (int i = 0; i < Q; ++i)
            for (int j = 0; j < Q; ++j) {
                psi[i][j] = 0;
                for (int k = 0; k < Q; ++k) psi[i][j] += F[i][k] * F[j][k];
            }
    }
    void move(double by) {
        int t = 0;
        for (int i = 0; i < Q; ++i)
            for (int j = 0; j <= i; ++j, ++t) F[order[i]][j] += by * step[t];
        put();
    }
    // Whether the order of rows no longer suits.
    bool turned() const {
        double top = 0;
        for (int i = 0; i < Q; ++i) top = std::max(top, psi[i][i]);
        return psi[order[0]][order[0]] < 0.3 * top;
    }

    // Takes the criterion at psi; proposes the next one.
    void take(const Point<Q>& at, int l) {
        ++steps;
        const double now = at.value[l];
        if (!std::isfinite(now) && fresh) {
            open = false;
            return;
        }
        if (!fresh && !(now <= value + 1e-12 * (1 + std::abs(value)))) { // back, and shorter
            move(-1);
            damping = damping > 0 ? damping * 8 : 1e-2;
            if (damping > 1e12 || steps >= most_steps) {
                open = false;
                return;
            }
            propose();
            return;
        }
        if (!fresh) damping = damping > 1e-8 ? damping / 8 : 0;
        value = now;
        fresh = false;
        if (turned()) {
            const auto before = *this;
            from(before.psi);
        }
        derive(at, l);
        propose();
    }

    double gradient[T], hessian[T][T];

    void derive(const Point<Q>& at, int l) {
        double J[T][T] = {}; // of Psi's entries by those of F
        int column = 0;
        for (int i = 0; i < Q; ++i)
            for (int j = 0; j <= i; ++j, ++column)
                for (int k = 0; k < Q; ++k) { // dPsi has F[k][j] at (row, k) and (k, row)
                    const int row = order[i], a = std::min(row, k), b = std::max(row, k);
                    J[a * Q - a * (a - 1) / 2 + b - a][column] += row == k ? 2 * F[k][j] : F[k][j];
                }
        for (int c = 0; c < T; ++c) {
            gradient[c] = 0;
            for (int t = 0; t < T; ++t) gradient[c] += J[t][c] * at.gradient[t][l];
            for (int d = 0; d < T; ++d) {
                double sum = 0;
                for (int t = 0; t < T; ++t)
                    for (int w = 0; w < T; ++w) sum += J[t][c] * at.hessian[t][w][l] * J[w][d];
                hessian[c][d] = sum;
            }
        }
        int c = 0;
        for (int i = 0; i < Q; ++i)
            for (int j = 0; j <= i; ++j, ++c) {
                int d = 0;
                for (int k = 0; k < Q; ++k)
                    for (int h = 0; h <= k; ++h, ++d)
                        if (j == h) hessian[c][d] += 2 * at.M[order[i]][order[k]][l];
            }
    }

    void propose() {
        double A[T][T], b[T], size = 0;
        for (int c = 0; c < T; ++c) size = std::max(size, std::abs(hessian[c][c]));
        if (!(size > 0)) size = 1;
        for (;;) {
            for (int c = 0; c < T; ++c) {
                b[c] = -gradient[c];
                for (int d = 0; d < T; ++d) A[c][d] = hessian[c][d] + (c == d) * damping * size;
            }
            if (solve<T>(A, b, step, T)) break;
            damping = damping > 0 ? damping * 4 : 1e-6;
            if (damping > 1e12) {
                open = false;
                return;
            }
        }
        promised = 0;
        for (int c = 0; c < T; ++c) {
            promised -= gradient[c] * step[c];
            double along = 0;
            for (int d = 0; d < T; ++d) along += hessian[c][d] * step[d];
            promised -= 0.5 * step[c] * along;
        }
        if (promised <= settled && damping <= 1e-3) {
            move(1);
            open = false;
            return;
        }
        if (steps >= most_steps) {
            open = false;
            return;
        }
        move(1);
    }
};

template <int Q>
void gather(const Voxel<Q> (&voxels)[L], Lanes (&Psi)[Q][Q]) {
    for (int i = 0; i < Q; ++i)
        for (int j = 0; j < Q; ++j)
            for (int l = 0; l < L; ++l) Psi[i][j][l] = voxels[l].psi[i][j];
}

template <int Q>
void search(const Shared& s, const Tile& tile, Room& room, Voxel<Q> (&voxels)[L], Point<Q>& at) {
    Lanes Psi[Q][Q];
    for (;;) {
        bool open = false;
        for (const Voxel<Q>& one : voxels) open |= one.open;
        if (!open) return;
        gather<Q>(voxels, Psi);
        evaluate_any<Q>(s, tile, Psi, true, room, at);
        for (int l = 0; l < L; ++l)
            if (voxels[l].open) voxels[l].take(at, l);
    }
}

// Psi with its small eigenvalues at zero.
template <int Q>
bool flattened(const double (&P)[Q][Q], double (&out)[Q][Q], int& rank) {
    double values[Q], vectors[Q][Q];
    eigen<Q>(P, values, vectors);
    rank = 0;
    for (int k = 0; k < Q; ++k) rank += values[k] > on_face;
    for (int i = 0; i < Q; ++i)
        for (int j = 0; j < Q; ++j) {
            out[i][j] = 0;
            for (int k = 0; k < std::min(rank, Q); ++k)
                out[i][j] += values[k] * vectors[i][k] * vectors[j][k];
        }
    return rank < Q;
}

template <int Q>
struct Found {
    int rank[L];
    double decrement[L];
};

// From where the searches end: onto a face where the end is there, and off it where the criterion
// still falls.
template <int Q>
void settle(const Shared& s, const Tile& tile, Room& room, Voxel<Q> (&voxels)[L], Point<Q>& at,
            Found<Q>& found) {
    Lanes Psi[Q][Q];
    for (int turn = 0; turn < 4; ++turn) {
        double flat[L][Q][Q];
        bool there[L];
        gather<Q>(voxels, Psi);
        evaluate_any<Q>(s, tile, Psi, true, room, at);
        double before[L];
        for (int l = 0; l < L; ++l) {
            before[l] = at.value[l];
            there[l] = flattened<Q>(voxels[l].psi, flat[l], found.rank[l]);
            for (int i = 0; i < Q; ++i)
                for (int j = 0; j < Q; ++j)
                    Psi[i][j][l] = there[l] ? flat[l][i][j] : voxels[l].psi[i][j];
        }
        evaluate_any<Q>(s, tile, Psi, true, room, at);
        bool again = false;
        for (int l = 0; l < L; ++l) {
            found.decrement[l] = std::abs(voxels[l].promised);
            if (!there[l]) continue;
            if (!(at.value[l] <= before[l] + 1e-9)) { // a small variance, but one
                found.rank[l] = Q;
                continue;
            }
            for (int i = 0; i < Q; ++i)
                for (int j = 0; j < Q; ++j) voxels[l].psi[i][j] = flat[l][i][j];
            double M[Q][Q], values[Q], vectors[Q][Q], own[Q], base[Q][Q];
            eigen<Q>(flat[l], own, base);
            for (int i = 0; i < Q; ++i)
                for (int j = 0; j < Q; ++j) {
                    M[i][j] = 0;
                    const bool outside = i >= found.rank[l] && j >= found.rank[l];
                    if (!outside) continue;
                    for (int a = 0; a < Q; ++a)
                        for (int b = 0; b < Q; ++b)
                            M[i][j] += base[a][i] * at.M[a][b][l] * base[b][j];
                }
            eigen<Q>(M, values, vectors);
            if (values[Q - 1] >= -1e-7 * s.n || voxels[l].rescues >= 3) continue;
            double next[Q][Q]; // the criterion falls along this direction
            for (int i = 0; i < Q; ++i)
                for (int j = 0; j < Q; ++j) {
                    double x = 0, y = 0;
                    for (int a = 0; a < Q; ++a) {
                        x += base[i][a] * vectors[a][Q - 1];
                        y += base[j][a] * vectors[a][Q - 1];
                    }
                    next[i][j] = flat[l][i][j] + 0.01 * x * y;
                }
            const int rescues = voxels[l].rescues + 1;
            voxels[l] = Voxel<Q>();
            voxels[l].rescues = rescues;
            voxels[l].from(next);
            again = true;
        }
        if (!again) break;
        search<Q>(s, tile, room, voxels, at);
    }
    gather<Q>(voxels, Psi);
    evaluate_any<Q>(s, tile, Psi, true, room, at);
}

// E_k of one voxel, see `RepeatedFits::spread`: along the f directions in which Psi may move and
// log sigma^2, by the factor of the inverse of the deviance's second derivatives.
// One function: directions, Hessian and factor are small arrays of fixed size, made one from the
// other.
template <int Q>
void spread(const Shared& s, const Point<Q>& at, int l, const double (&P)[Q][Q], int rank,
            double sigma2, std::vector<double>& out) {
    constexpr int T = packed<Q>, M = T + 1;
    const int p = s.p, P2 = p * (p + 1) / 2;
    double values[Q], U[Q][Q], basis[T][T] = {}, H[M][M] = {};
    int f = 0;
    eigen<Q>(P, values, U);
    double bent[T][T] = {};
    int first[T], second[T];
    for (int a = 0; a < std::min(rank, Q); ++a)
        for (int b = a; b < Q; ++b, ++f) { // U_a U_b' and its transpose
            first[f] = a;
            second[f] = b;
            int t = 0;
            for (int i = 0; i < Q; ++i)
                for (int j = i; j < Q; ++j, ++t)
                    basis[f][t] =
                        a == b ? U[i][a] * U[j][a] : U[i][a] * U[j][b] + U[i][b] * U[j][a];
        }
    for (int e = 0; e < f; ++e)
        for (int g = 0; g < f; ++g)
            if (first[e] == first[g] && second[e] >= rank && second[g] >= rank) {
                double inside = 0; // along the face Psi bends
                for (int i = 0; i < Q; ++i)
                    for (int j = 0; j < Q; ++j)
                        inside += U[i][second[e]] * at.M[i][j][l] * U[j][second[g]];
                bent[e][g] = 2 * inside / values[first[e]];
            }
    const double r2 = at.r2[l];
    for (int e = 0; e < f; ++e) {
        double slope = 0;
        for (int t = 0; t < T; ++t) slope += basis[e][t] * at.slope[t][l];
        H[e][f] = H[f][e] = -slope / sigma2;
        for (int g = 0; g < f; ++g) {
            double sum = bent[e][g], other = 0;
            for (int t = 0; t < T; ++t) {
                other += basis[g][t] * at.slope[t][l];
                for (int w = 0; w < T; ++w) sum += basis[e][t] * at.hessian[t][w][l] * basis[g][w];
            }
            // sigma is held, not profiled out
            H[e][g] = sum + s.m * slope * other / (r2 * r2);
        }
    }
    H[f][f] = s.m;
    const int size = f + 1;
    double F[M][M] = {};
    bool well = true;
    for (int j = 0; j < size && well; ++j) {
        double d = H[j][j];
        for (int k = 0; k < j; ++k) d -= F[j][k] * F[j][k];
        well = d > 1e-12 * std::abs(H[j][j]);
        F[j][j] = std::sqrt(d);
        for (int i = j + 1; i < size; ++i) {
            double e = 0.5 * (H[i][j] + H[j][i]);
            for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k];
            F[i][j] = e / F[j][j];
        }
    }
    std::fill(out.begin(), out.end(), well ? 0.0 : nothing);
    if (!well) return;
    // derivatives of sigma^2 S along each: rows of `slopes`; then F^-1 of them, twice the inverse
    std::vector<double> slopes(static_cast<std::size_t>(size) * P2);
    int place = 0;
    for (int i = 0; i < p; ++i)
        for (int j = i; j < p; ++j, ++place) {
            slopes[f * P2 + place] = sigma2 * at.S[i][j][l];
            for (int e = 0; e < f; ++e) {
                double sum = 0;
                for (int t = 0; t < T; ++t) {
                    if (basis[e][t] == 0) continue;
                    double one = 0;
                    for (int a = 0; a < p; ++a)
                        for (int b = 0; b < p; ++b)
                            one += at.S[i][a][l] * at.N[t][a][b][l] * at.S[b][j][l];
                    sum += basis[e][t] * one;
                }
                slopes[e * P2 + place] = sigma2 * sum;
            }
        }
    const double twice = std::sqrt(2.0);
    for (int column = 0; column < P2; ++column)
        for (int i = 0; i < size; ++i) {
            double e = slopes[i * P2 + column];
            for (int k = 0; k < i; ++k) e -= F[i][k] * out[k * P2 + column] / twice;
            out[i * P2 + column] = twice * e / F[i][i];
        }
}

template <int Q>
void fit_all(const Repeated& data, const RepeatedFits& out, int threads) {
    constexpr int T = packed<Q>;
    const Shared s = shared(data);
    const std::size_t N = data.N, p = data.p, P2 = p * (p + 1) / 2;
    const int blocks = static_cast<int>((N + block - 1) / block);
    for_tasks(blocks, threads, [&](int number) {
        Tile tile(data);
        Room room(s);
        const auto point = std::make_unique<Point<Q>>();
        Point<Q>& at = *point;
        std::vector<double> E((T + 1) * P2);
        const std::size_t from = static_cast<std::size_t>(number) * block;
        const std::size_t to = std::min(N, from + block);
        for (std::size_t v = from; v < to; v += L) {
            Watch::poll();
            const int count = static_cast<int>(std::min<std::size_t>(L, to - v));
            if (data.single)
                load<float>(data, v, count, tile);
            else
                load<double>(data, v, count, tile);
            reduce_tile(data, tile);
            Voxel<Q> voxels[L];
            bool well[L];
            double start[Q][Q] = {};
            for (int i = 0; i < Q; ++i) start[i][i] = 0.5;
            for (int l = 0; l < L; ++l) {
                well[l] = std::isfinite(tile.squares[l]) &&
                          tile.squares[l] > rounding * tile.whole[l] && tile.squares[l] > 0;
                voxels[l].from(start);
                voxels[l].open = well[l];
            }
            Found<Q> found;
            search<Q>(s, tile, room, voxels, at);
            settle<Q>(s, tile, room, voxels, at, found);
            for (int l = 0; l < count; ++l) {
                const std::size_t here = v + l;
                const double sigma2 = at.r2[l] / s.m;
                const bool fine = well[l] && std::isfinite(at.value[l]) && sigma2 > 0;
                out.sigma2[here] = fine ? sigma2 : nothing;
                out.loglik[here] =
                    fine ? -0.5 * (at.value[l] + s.m * (1 + log_2_pi - std::log(s.m))) : nothing;
                out.rank[here] = fine ? found.rank[l] : nothing;
                out.steps[here] = voxels[l].steps;
                out.decrement[here] = fine ? found.decrement[l] : nothing;
                int place = 0;
                for (int i = 0; i < Q; ++i)
                    for (int j = i; j < Q; ++j, ++place)
                        out.psi[place * N + here] = fine ? voxels[l].psi[i][j] : nothing;
                place = 0;
                for (std::size_t i = 0; i < p; ++i) {
                    out.beta[i * N + here] = fine ? at.beta[i][l] + tile.fixed[i][l] : nothing;
                    for (std::size_t j = i; j < p; ++j, ++place)
                        out.bread[place * N + here] = fine ? sigma2 * at.S[i][j][l] : nothing;
                }
                if (fine)
                    spread<Q>(s, at, l, voxels[l].psi, found.rank[l], sigma2, E);
                else
                    std::fill(E.begin(), E.end(), nothing);
                for (std::size_t k = 0; k < E.size(); ++k) out.spread[k * N + here] = E[k];
            }
        }
    });
}

} // namespace

void repeated(const Repeated& data, const RepeatedFits& out, int threads) {
    switch (data.q) {
    case 1:
        return fit_all<1>(data, out, threads);
    case 2:
        return fit_all<2>(data, out, threads);
    case 3:
        return fit_all<3>(data, out, threads);
    default:
        throw std::invalid_argument("a level has 1 to 3 random effects");
    }
}

} // namespace ranef
