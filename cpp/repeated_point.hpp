// The likelihood of voxels side by side, and its derivatives, see repeated.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "repeated.hpp"
#include "side_by_side.hpp"

namespace ranef {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr int most = most_fixed_of_voxels;

// What all voxels share: by classes A = Z'Z, B = Z'X of one level, and how many levels there are.
struct Shared {
    std::size_t classes;
    int p, q;
    double n, m; // rows; those over which sigma^2 is the mean
    bool restricted;
    std::vector<double> count, A, B;
};

Shared shared(const Repeated& data) {
    Shared out{data.classes,
               data.p,
               data.q,
               static_cast<double>(data.n),
               0,
               data.restricted,
               std::vector<double>(data.classes),
               std::vector<double>(data.classes * 9),
               std::vector<double>(data.classes * 3 * data.p)};
    out.m = out.n - (data.restricted ? data.p : 0);
    std::vector<int> first(data.classes, -1);
    for (std::size_t i = 0; i < data.levels; ++i) {
        const int c = data.kind[i];
        ++out.count[c];
        if (first[c] < 0) first[c] = static_cast<int>(i);
    }
    for (std::size_t r = 0; r < data.n; ++r) {
        const int c = data.kind[data.level[r]];
        if (first[c] != data.level[r]) continue;
        for (int a = 0; a < data.q; ++a) {
            const double z = data.Z[r * data.q + a];
            for (int b = 0; b < data.q; ++b) out.A[c * 9 + a * 3 + b] += z * data.Z[r * data.q + b];
            for (int j = 0; j < data.p; ++j)
                out.B[(c * 3 + a) * data.p + j] += z * data.X[r * data.p + j];
        }
    }
    return out;
}

// Sums of a tile of voxels, by classes: of Z'r and of their products; r'r. r are the residuals of
// ordinary least squares, X'r = 0.
struct Tile {
    Strip y, level, sum, product;
    alignas(L * sizeof(double)) Lanes fixed[most], squares;
    double whole[L];
    explicit Tile(const Repeated& d)
        : y(d.n), level(d.levels * d.q), sum(d.classes * 3), product(d.classes * 6) {}
};

template <class Real>
void load(const Repeated& d, std::size_t first, int count, Tile& tile) {
    const Real* Y = static_cast<const Real*>(d.Y);
    for (std::size_t r = 0; r < d.n; ++r)
        for (int l = 0; l < L; ++l) tile.y[r][l] = Y[r * d.N + first + std::min(l, count - 1)];
}

RANEF_INLINE void reduce(const Repeated& d, Tile& tile) {
    const int p = d.p, q = d.q;
    Lanes whole = Lanes{};
    for (std::size_t r = 0; r < d.n; ++r) whole += tile.y[r] * tile.y[r];
    for (int l = 0; l < L; ++l) tile.whole[l] = whole[l];
    for (int j = 0; j < p; ++j) tile.fixed[j] = Lanes{};
    for (int turn = 0; turn < 2; ++turn) { // twice: what is left is orthogonal to the last digit
        Lanes b[most];
        for (int j = 0; j < p; ++j) b[j] = Lanes{};
        for (std::size_t r = 0; r < d.n; ++r)
            for (int j = 0; j < p; ++j) b[j] += d.X[r * p + j] * tile.y[r];
        for (std::size_t r = 0; r < d.n; ++r) {
            Lanes left = tile.y[r];
            for (int j = 0; j < p; ++j) left -= d.X[r * p + j] * b[j];
            tile.y[r] = left;
        }
        for (int j = 0; j < p; ++j) tile.fixed[j] += b[j];
    }
    for (Lanes& one : tile.level) one = Lanes{};
    tile.squares = Lanes{};
    for (std::size_t r = 0; r < d.n; ++r) {
        Lanes* to = &tile.level[static_cast<std::size_t>(d.level[r]) * q];
        for (int a = 0; a < q; ++a) to[a] += d.Z[r * q + a] * tile.y[r];
        tile.squares += tile.y[r] * tile.y[r];
    }
    for (Lanes& one : tile.sum) one = Lanes{};
    for (Lanes& one : tile.product) one = Lanes{};
    for (std::size_t i = 0; i < d.levels; ++i) {
        const Lanes* a = &tile.level[i * q];
        Lanes* sum = &tile.sum[static_cast<std::size_t>(d.kind[i]) * 3];
        Lanes* product = &tile.product[static_cast<std::size_t>(d.kind[i]) * 6];
        int place = 0;
        for (int s = 0; s < q; ++s) {
            sum[s] += a[s];
            for (int t = s; t < q; ++t, ++place) product[place] += a[s] * a[t];
        }
    }
}

// --- small matrices

template <int Q>
constexpr int packed = Q * (Q + 1) / 2;

template <int Q, class N>
RANEF_INLINE N determinant(const N (&A)[Q][Q]) {
    if constexpr (Q == 1)
        return A[0][0];
    else if constexpr (Q == 2)
        return A[0][0] * A[1][1] - A[0][1] * A[1][0];
    else
        return A[0][0] * (A[1][1] * A[2][2] - A[1][2] * A[2][1]) -
               A[0][1] * (A[1][0] * A[2][2] - A[1][2] * A[2][0]) +
               A[0][2] * (A[1][0] * A[2][1] - A[1][1] * A[2][0]);
}

template <int Q, class N>
RANEF_INLINE void inverse(const N (&A)[Q][Q], N det, N (&out)[Q][Q]) {
    const N over = 1.0 / det;
    if constexpr (Q == 1)
        out[0][0] = over;
    else if constexpr (Q == 2) {
        out[0][0] = A[1][1] * over;
        out[1][1] = A[0][0] * over;
        out[0][1] = (A[0][1] * -1.0) * over;
        out[1][0] = (A[1][0] * -1.0) * over;
    } else
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) {
                const int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
                out[i][j] = (A[a][c] * A[b][d] - A[a][d] * A[b][c]) * over;
            }
}

template <int Q, class N>
RANEF_INLINE void product(const N (&A)[Q][Q], const N (&B)[Q][Q], N (&out)[Q][Q]) {
    for (int i = 0; i < Q; ++i)
        for (int j = 0; j < Q; ++j) {
            N sum = A[i][0] * B[0][j];
            for (int k = 1; k < Q; ++k) sum += A[i][k] * B[k][j];
            out[i][j] = sum;
        }
}

// The criterion at Psi, and its derivatives along the entries of Psi (off the diagonal both of two
// equal ones).
template <int Q>
struct alignas(L * sizeof(double)) Point {
    Lanes value, r2, gradient[packed<Q>], hessian[packed<Q>][packed<Q>];
    Lanes slope[packed<Q>]; // of r2
    Lanes M[Q][Q];
    Lanes beta[most];
    Lanes S[most][most];            // (X'V^-1 X)^-1
    Lanes N[packed<Q>][most][most]; // X'V^-1 Z E Z'V^-1 X, by entries
};

// Memory of evaluations: by classes J = (I + A Psi)^-1 and G = J B.
struct Room {
    Strip J, G;
    explicit Room(const Shared& s) : J(s.classes * 9), G(s.classes * 3 * s.p) {}
};

// The inverse and log determinant of a positive definite matrix (p, p).
RANEF_INLINE void inverted(Lanes (&A)[most][most], int p, Lanes (&out)[most][most],
                           double* log_det) {
    Lanes F[most][most], D[most];
    for (int l = 0; l < L; ++l) log_det[l] = 0;
    for (int j = 0; j < p; ++j) {
        Lanes d = A[j][j];
        for (int k = 0; k < j; ++k) d -= F[j][k] * F[j][k] * D[k];
        D[j] = d;
        const Lanes over = 1.0 / d;
        for (int i = j + 1; i < p; ++i) {
            Lanes e = A[i][j];
            for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k] * D[k];
            F[i][j] = e * over;
        }
        for (int l = 0; l < L; ++l) log_det[l] += std::log(d[l]);
    }
    Lanes G[most][most]; // the inverse of F
    for (int j = 0; j < p; ++j) {
        G[j][j] = Lanes{} + 1.0;
        for (int i = j + 1; i < p; ++i) {
            Lanes e = Lanes{};
            for (int k = j; k < i; ++k) e -= (k == j ? F[i][k] : F[i][k] * G[k][j]);
            G[i][j] = e;
        }
        D[j] = 1.0 / D[j];
    }
    for (int a = 0; a < p; ++a)
        for (int b = a; b < p; ++b) {
            Lanes e = Lanes{};
            for (int k = b; k < p; ++k) {
                const Lanes left = k == a ? Lanes{} + 1.0 : G[k][a];
                const Lanes right = k == b ? Lanes{} + 1.0 : G[k][b];
                e += left * right * D[k];
            }
            out[a][b] = out[b][a] = e;
        }
}

// One function, compiled into the loops over tiles: what it makes of a class of subjects stays in
// registers.
template <int Q>
RANEF_INLINE void evaluate(const Shared& s, const Tile& tile, const Lanes (&Psi)[Q][Q], bool second,
                           Room& room, Point<Q>& out) {
    constexpr int T = packed<Q>;
    const int p = s.p;
    Lanes N[most][most], xy[most], r2 = tile.squares;
    double logs[L] = {}, log_det[L];
    for (int i = 0; i < p; ++i) {
        xy[i] = Lanes{};
        for (int j = 0; j <= i; ++j) N[i][j] = Lanes{} + (i == j ? 1.0 : 0.0);
    }
    for (std::size_t c = 0; c < s.classes; ++c) {
        const double* A = &s.A[c * 9];
        const double* B = &s.B[c * 3 * p];
        Lanes K[Q][Q], J[Q][Q], D[Q][Q];
        for (int a = 0; a < Q; ++a)
            for (int b = 0; b < Q; ++b) {
                Lanes sum = Lanes{} + (a == b ? 1.0 : 0.0);
                for (int k = 0; k < Q; ++k) sum += A[a * 3 + k] * Psi[k][b];
                K[a][b] = sum;
            }
        const Lanes det = determinant<Q>(K);
        inverse<Q>(K, det, J);
        product<Q>(Psi, J, D);
        for (int l = 0; l < L; ++l) logs[l] += s.count[c] * std::log(det[l]);
        Lanes* G = &room.G[c * 3 * p];
        for (int a = 0; a < Q; ++a)
            for (int b = 0; b < Q; ++b) room.J[c * 9 + a * 3 + b] = J[a][b];
        for (int a = 0; a < Q; ++a)
            for (int j = 0; j < p; ++j) {
                Lanes sum = J[a][0] * B[j];
                for (int k = 1; k < Q; ++k) sum += J[a][k] * B[k * p + j];
                G[a * p + j] = sum;
            }
        const Lanes* sum = &tile.sum[c * 3];
        const Lanes* square = &tile.product[c * 6];
        Lanes Da[Q];
        int place = 0;
        for (int a = 0; a < Q; ++a) {
            Da[a] = D[a][0] * sum[0];
            for (int b = 1; b < Q; ++b) Da[a] += D[a][b] * sum[b];
            for (int b = a; b < Q; ++b, ++place)
                r2 -= (a == b ? D[a][b] : D[a][b] + D[b][a]) * square[place];
        }
        for (int i = 0; i < p; ++i) {
            Lanes DB[Q];
            for (int a = 0; a < Q; ++a) {
                xy[i] -= B[a * p + i] * Da[a];
                DB[a] = D[a][0] * B[i];
                for (int b = 1; b < Q; ++b) DB[a] += D[a][b] * B[b * p + i];
            }
            for (int j = 0; j <= i; ++j)
                for (int a = 0; a < Q; ++a) N[i][j] -= (s.count[c] * B[a * p + j]) * DB[a];
        }
    }
    inverted(N, p, out.S, log_det);
    for (int i = 0; i < p; ++i) {
        Lanes sum = Lanes{};
        for (int j = 0; j < p; ++j) sum += out.S[i][j] * xy[j];
        out.beta[i] = sum;
    }
    for (int i = 0; i < p; ++i) r2 -= out.beta[i] * xy[i];
    out.r2 = r2;
    for (int l = 0; l < L; ++l)
        out.value[l] =
            logs[l] + (s.restricted ? log_det[l] : 0) + s.m * std::log(r2[l] > 0 ? r2[l] : nothing);

    const Lanes ratio = s.m / r2;
    Lanes u[T][most], R[Q][Q];
    for (int a = 0; a < Q; ++a)
        for (int b = 0; b < Q; ++b) out.M[a][b] = R[a][b] = Lanes{};
    for (int t = 0; t < T; ++t) {
        for (int w = 0; w < T; ++w) out.hessian[t][w] = Lanes{};
        for (int i = 0; i < p; ++i) {
            u[t][i] = Lanes{};
            for (int j = 0; j < p; ++j) out.N[t][i][j] = Lanes{};
        }
    }
    for (std::size_t c = 0; c < s.classes; ++c) {
        const double* A = &s.A[c * 9];
        const double* B = &s.B[c * 3 * p];
        const Lanes* G = &room.G[c * 3 * p];
        const double many = s.count[c];
        Lanes J[Q][Q], W[Q][Q], b[Q], left[Q], g[Q], raw[Q][Q], half[Q][Q], own[Q][Q], GS[Q][most];
        int place = 0;
        for (int a = 0; a < Q; ++a) {
            b[a] = Lanes{};
            for (int j = 0; j < p; ++j) b[a] += B[a * p + j] * out.beta[j];
            left[a] = tile.sum[c * 3 + a] - many * b[a];
            for (int k = 0; k < Q; ++k) J[a][k] = room.J[c * 9 + a * 3 + k];
        }
        for (int a = 0; a < Q; ++a)
            for (int k = a; k < Q; ++k, ++place)
                raw[a][k] = raw[k][a] =
                    tile.product[c * 6 + place] - tile.sum[c * 3 + a] * b[k] - b[a] * left[k];
        product<Q>(J, raw, half);
        for (int a = 0; a < Q; ++a) {
            g[a] = J[a][0] * left[0];
            for (int k = 1; k < Q; ++k) g[a] += J[a][k] * left[k];
            for (int k = 0; k < Q; ++k) {
                Lanes w = J[a][0] * A[k], o = half[a][0] * J[k][0];
                for (int h = 1; h < Q; ++h) {
                    w += J[a][h] * A[h * 3 + k];
                    o += half[a][h] * J[k][h];
                }
                W[a][k] = w;
                own[a][k] = o;
                R[a][k] += o;
            }
            for (int j = 0; j < p; ++j) {
                Lanes sum = Lanes{};
                for (int i = 0; i < p; ++i) sum += G[a * p + i] * out.S[i][j];
                GS[a][j] = sum;
            }
        }
        Lanes X[Q][Q];
        for (int a = 0; a < Q; ++a)
            for (int k = 0; k < Q; ++k) {
                Lanes known = Lanes{};
                if (s.restricted)
                    for (int j = 0; j < p; ++j) known += GS[a][j] * G[k * p + j];
                out.M[a][k] += many * (W[a][k] - known);
                X[a][k] = many * (2.0 * known - W[a][k]) + 2.0 * ratio * own[a][k];
            }
        if (!second) continue;
        int t = 0;
        for (int a = 0; a < Q; ++a)
            for (int k = a; k < Q; ++k, ++t) {
                for (int i = 0; i < p; ++i) {
                    u[t][i] += G[a * p + i] * g[k];
                    if (a != k) u[t][i] += G[k * p + i] * g[a];
                    for (int j = 0; j <= i; ++j) {
                        Lanes sum = G[a * p + i] * G[k * p + j];
                        if (a != k) sum += G[k * p + i] * G[a * p + j];
                        out.N[t][i][j] += many * sum;
                    }
                }
                int w = 0;
                for (int d = 0; d < Q; ++d)
                    for (int e = d; e < Q; ++e, ++w) {
                        // tr(E_t W E_w X), the mean of both orders
                        Lanes sum = W[k][d] * X[e][a];
                        if (d != e) sum += W[k][e] * X[d][a];
                        if (a != k) {
                            sum += W[a][d] * X[e][k];
                            if (d != e) sum += W[a][e] * X[d][k];
                        }
                        out.hessian[t][w] += 0.5 * sum;
                        out.hessian[w][t] += 0.5 * sum;
                    }
            }
    }
    int t = 0;
    for (int a = 0; a < Q; ++a)
        for (int k = 0; k < Q; ++k) out.M[a][k] -= ratio * R[a][k];
    for (int a = 0; a < Q; ++a)
        for (int k = a; k < Q; ++k, ++t) {
            out.slope[t] = R[a][k] * (a == k ? -1.0 : -2.0);
            out.gradient[t] = out.M[a][k] * (a == k ? 1.0 : 2.0);
        }
    if (!second) return;
    Lanes SN[T][most][most], Su[T][most];
    for (int e = 0; e < T; ++e) {
        for (int i = 0; i < p; ++i)
            for (int j = 0; j < i; ++j) out.N[e][j][i] = out.N[e][i][j];
        for (int i = 0; i < p; ++i) {
            Su[e][i] = Lanes{};
            for (int k = 0; k < p; ++k) Su[e][i] += out.S[i][k] * u[e][k];
            for (int j = 0; j < p; ++j) {
                Lanes sum = Lanes{};
                for (int k = 0; k < p; ++k) sum += out.S[i][k] * out.N[e][k][j];
                SN[e][i][j] = sum;
            }
        }
    }
    for (int e = 0; e < T; ++e)
        for (int f = e; f < T; ++f) {
            Lanes more = Lanes{}, cross = Lanes{};
            for (int i = 0; i < p; ++i) {
                cross += u[e][i] * Su[f][i];
                if (s.restricted)
                    for (int j = 0; j < p; ++j) more += SN[e][i][j] * SN[f][j][i];
            }
            const Lanes change =
                more + 2.0 * ratio * cross + ratio * out.slope[e] * out.slope[f] / r2;
            out.hessian[e][f] -= change;
            if (e != f) out.hessian[f][e] = out.hessian[e][f];
        }
}

} // namespace

} // namespace ranef
