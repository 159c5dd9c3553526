// One voxel or L side by side at a value of tau^2: weighted sums over the subjects, and what the
// estimators of mixed_effects.cpp are made of.
#pragma once

#include <cstddef>

#include "side_by_side.hpp"

namespace ranef {

namespace {

// One pass at tau^2 = t: sums of w^j times 1, xx', xy and y^2, j = 1 .. 3. N is a number, or L of
// them. Level: the first column is one number throughout, so that sums of w^j serve for it.
template <int P, class N>
struct Sums {
    static constexpr int T = P * (P + 1) / 2;
    N s[3], A[3][T], b[3][P], c[3];
};

template <int P, class N, int Powers, bool Level>
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
            if constexpr (Level) {
                b[j][0] += wy;
                place = P;
            }
            for (int p = Level; p < P; ++p) {
                b[j][p] += x[p] * wy;
                const N xw = x[p] * w;
                if constexpr (Level) A[j][p] += xw;
                for (int q = p; q < P; ++q, ++place) A[j][place] += x[q] * xw;
            }
        }
    }
    if constexpr (Level)
        for (int j = 0; j < Powers; ++j) {
            A[j][0] = (X[0] * X[0]) * s[j];
            b[j][0] = X[0] * b[j][0];
            for (int q = 1; q < P; ++q) A[j][q] = X[0] * A[j][q];
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
    add_up<P, N, Powers, false>(y, v, X, K, *t, *out);
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

template <int P, class N, int Powers, bool Level = false>
RANEF_INLINE void solved(const double* y, const double* v, const double* X, std::size_t K, N t,
                         Sums<P, N>& sums, Quadratics<P, N>& out) {
    if constexpr (P <= 2 && sizeof(N) > sizeof(double)) {
        add_up<P, N, Powers, Level>(y, v, X, K, t, sums);
        quadratics<P, N, Powers>(sums, out);
    } else
        solved_apart<P, N, Powers>(y, v, X, K, &t, &sums, &out);
}

} // namespace

} // namespace ranef
