#include "messages.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "threads.hpp"

namespace ranef {

namespace {

constexpr double log_2pi = 1.8378770664093454836;

// Lower Cholesky factor in place, row-major; false where it is not positive definite.
bool factor(double* A, int n) {
    for (int j = 0; j < n; ++j) {
        double d = A[j * n + j];
        for (int k = 0; k < j; ++k) d -= A[j * n + k] * A[j * n + k];
        if (!(d > 0) || !std::isfinite(d)) return false;
        const double root = std::sqrt(d);
        A[j * n + j] = root;
        for (int i = j + 1; i < n; ++i) {
            double s = A[i * n + j];
            for (int k = 0; k < j; ++k) s -= A[i * n + k] * A[j * n + k];
            A[i * n + j] = s / root;
        }
    }
    return true;
}

// Inverse and log determinant of the rows and columns of A (n, n) that are present; zero
// elsewhere. False where they are not positive definite.
bool inverse_of_present(const double* A, int n, const Indices& present, Vector& work,
                        double* inverse, double* log_det, int* count) {
    std::vector<int> at;
    for (int i = 0; i < n; ++i)
        if (present[i]) at.push_back(i);
    const int m = static_cast<int>(at.size());
    *count = m;
    *log_det = 0;
    std::fill(inverse, inverse + static_cast<size_t>(n) * n, 0.0);
    work.resize(2 * static_cast<size_t>(m) * m);
    double* L = work.data();
    double* X = L + static_cast<size_t>(m) * m;
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j) L[i * m + j] = A[at[i] * n + at[j]];
    if (!factor(L, m)) return false;
    for (int i = 0; i < m; ++i) *log_det += 2 * std::log(L[i * m + i]);
    for (int j = 0; j < m; ++j) { // X = L^-1, lower
        for (int i = 0; i < j; ++i) X[i * m + j] = 0;
        X[j * m + j] = 1 / L[j * m + j];
        for (int i = j + 1; i < m; ++i) {
            double s = 0;
            for (int k = j; k < i; ++k) s += L[i * m + k] * X[k * m + j];
            X[i * m + j] = -s / L[i * m + i];
        }
    }
    for (int i = 0; i < m; ++i)
        for (int j = 0; j <= i; ++j) {
            double s = 0;
            for (int k = i; k < m; ++k) s += X[k * m + i] * X[k * m + j];
            inverse[at[i] * n + at[j]] = inverse[at[j] * n + at[i]] = s;
        }
    return true;
}

// Upper factor U with U'U = P of a positive semidefinite matrix, row-major; rows of zeros where
// a pivot is.
void semifactor(const double* P, int n, double* U) {
    double largest = 0;
    for (int i = 0; i < n; ++i) largest = std::max(largest, P[i * n + i]);
    std::fill(U, U + static_cast<size_t>(n) * n, 0.0);
    for (int j = 0; j < n; ++j) {
        double d = P[j * n + j];
        for (int k = 0; k < j; ++k) d -= U[k * n + j] * U[k * n + j];
        if (!(d > 1e-14 * P[j * n + j]) || !(d > 1e-300) || P[j * n + j] <= 1e-18 * largest)
            continue;
        const double root = std::sqrt(d);
        for (int i = j; i < n; ++i) {
            double s = P[j * n + i];
            for (int k = 0; k < j; ++k) s -= U[k * n + j] * U[k * n + i];
            U[j * n + i] = s / root;
        }
    }
}

// C = A B, (n, m) of (n, k) and (k, m).
void times(const double* A, const double* B, int n, int k, int m, double* C) {
    std::fill(C, C + static_cast<size_t>(n) * m, 0.0);
    for (int i = 0; i < n; ++i)
        for (int l = 0; l < k; ++l) {
            const double x = A[i * k + l];
            if (x == 0) continue;
            for (int j = 0; j < m; ++j) C[i * m + j] += x * B[l * m + j];
        }
}

// C = A B', (n, m) of (n, k) and (m, k).
void times_transposed(const double* A, const double* B, int n, int k, int m, double* C) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < m; ++j) {
            double s = 0;
            for (int l = 0; l < k; ++l) s += A[i * k + l] * B[j * k + l];
            C[i * m + j] = s;
        }
}

// What a level's parameters give for each pattern of its observed coordinates.
struct Conditioned {
    Vector K;  // inverse covariance of those observed (q, q)
    Vector G;  // regression of the others on them (a, q)
    Vector C0; // covariance of the others given them (a, a)
    double log_det = 0;
    int count = 0;
};

// Sums of one level's derivatives.
struct LevelSums {
    Vector m;
    std::vector<Vector> D, E, Z; // by pattern of z: of C0, of G, of the covariance of z
};

struct Sums {
    double value = 0;
    Vector omega, gamma, lambda; // by pattern of rows
    std::vector<LevelSums> levels;
};

// One unit on its way: what its parameters and its message make.
struct Unit {
    Vector e, a, U, N, X, Q, QC, g, gq, work, work2;
    Vector P, h; // its own message upwards
    double c = 0;
};

class Engine {
  public:
    Engine(const MessageData& data, const MessageParameters& at) : data_(data), at_(at) {}

    // False where a covariance matrix is not positive definite.
    bool prepare() {
        const int p = data_.p, s = data_.slopes, patterns = static_cast<int>(data_.present.size());
        R_.resize(static_cast<size_t>(patterns) * p * p);
        RL_.assign(static_cast<size_t>(patterns) * s * p, 0.0);
        log_det_.resize(patterns);
        count_.resize(patterns);
        Vector work;
        for (int o = 0; o < patterns; ++o) {
            double* R = R_.data() + static_cast<size_t>(o) * p * p;
            if (!inverse_of_present(at_.W, p, data_.present[o], work, R, &log_det_[o], &count_[o]))
                return false;
            if (s > 0) times(at_.L, R, s, p, p, RL_.data() + static_cast<size_t>(o) * s * p);
        }
        for (size_t l = 0; l < data_.levels.size(); ++l) {
            levels_.emplace_back();
            if (!condition(data_.levels[l], at_.S[l], levels_.back())) return false;
        }
        return true;
    }

    Sums empty_sums() const {
        const size_t p = data_.p, patterns = data_.present.size();
        Sums out;
        out.omega.assign(patterns * p * p, 0.0);
        out.gamma.assign(patterns * p * data_.k, 0.0);
        out.lambda.assign(patterns * data_.slopes * p, 0.0);
        for (const UpperLevel& level : data_.levels) {
            LevelSums sums;
            const size_t a = level.a, q = level.q, n = level.present.size();
            sums.m.assign(a + q, 0.0);
            sums.D.assign(n, Vector(a * a, 0.0));
            sums.E.assign(n, Vector(a * q, 0.0));
            sums.Z.assign(n, Vector(q * q, 0.0));
            out.levels.push_back(std::move(sums));
        }
        return out;
    }

    // The units [first, last) of the highest level: their messages, and with them derivatives.
    // False where the likelihood has no value.
    bool units(int first, int last, bool derivatives, Sums& sums,
               std::vector<Vector>* means = nullptr, std::vector<Vector>* covs = nullptr) const {
        const int top = static_cast<int>(data_.levels.size()) - 1;
        std::vector<Unit> work(top + 1);
        for (int u = first; u < last; ++u) {
            Stack stack;
            if (!upwards(top, u, work, stack)) return false;
            sums.value += work[top].c;
            if (derivatives) {
                const size_t d = data_.levels[top].size();
                const Vector zero(d, 0.0), none(d * d, 0.0);
                size_t at = stack.size();
                downwards(top, u, zero, none, work[top], stack, at, sums, means, covs);
            }
        }
        return true;
    }

    // The rows alone, of totals by pattern; with derivatives of the rows and of the levels.
    double rows(const RowSums& totals, const std::vector<int>& which, Sums& sums,
                double* gradient) const {
        const int p = data_.p, k = data_.k, s = data_.slopes;
        const size_t pp = static_cast<size_t>(p) * p;
        double value = 0;
        Vector residual(pp), BX(static_cast<size_t>(p) * k), one(pp), two(pp);
        Vector gamma(static_cast<size_t>(p) * k);
        double* dW = gradient;
        double* dB = gradient == nullptr ? nullptr : dW + pp;
        double* dL = gradient == nullptr ? nullptr : dB + static_cast<size_t>(p) * k;
        for (size_t t = 0; t < which.size(); ++t) {
            const int o = which[t];
            const double* xx = totals.xx.data() + t * k * k;
            const double* xy = totals.xy.data() + t * k * p;
            const double* yy = totals.yy.data() + t * pp;
            const double* R = R_.data() + o * pp;
            const double n = xx[0];
            times(at_.B, xx, p, k, k, BX.data());
            for (int i = 0; i < p; ++i)
                for (int j = 0; j < p; ++j) {
                    double e = yy[i * p + j];
                    for (int c = 0; c < k; ++c)
                        e += BX[i * k + c] * at_.B[j * k + c] - at_.B[i * k + c] * xy[c * p + j] -
                             xy[c * p + i] * at_.B[j * k + c];
                    residual[i * p + j] = e;
                }
            value += n * (count_[o] * log_2pi + log_det_[o]);
            for (size_t i = 0; i < pp; ++i) value += R[i] * residual[i];
            if (gradient == nullptr) continue;
            const double* own = sums.omega.data() + o * pp;
            for (size_t i = 0; i < pp; ++i) residual[i] += own[i];
            times(R, residual.data(), p, p, p, one.data());
            times(one.data(), R, p, p, p, two.data());
            for (size_t i = 0; i < pp; ++i) dW[i] += n * R[i] - two[i];
            const double* g = sums.gamma.data() + static_cast<size_t>(o) * p * k;
            for (int i = 0; i < p; ++i)
                for (int c = 0; c < k; ++c)
                    gamma[i * k + c] = g[i * k + c] + xy[c * p + i] - BX[i * k + c];
            for (int i = 0; i < p; ++i)
                for (int j = 0; j < p; ++j)
                    for (int c = 0; c < k; ++c)
                        dB[i * k + c] -= 2 * R[i * p + j] * gamma[j * k + c];
            const double* lambda = sums.lambda.data() + static_cast<size_t>(o) * s * p;
            for (int r = 0; r < s; ++r)
                for (int i = 0; i < p; ++i)
                    for (int j = 0; j < p; ++j)
                        dL[r * p + i] -= 2 * R[i * p + j] * lambda[r * p + j];
        }
        return value;
    }

    // Derivatives of the levels from their sums.
    void finish_levels(const Sums& sums, double* gradient) const {
        const size_t p = data_.p;
        double* at = gradient + p * p + p * data_.k + p * data_.slopes;
        for (size_t l = 0; l < data_.levels.size(); ++l) {
            const UpperLevel& level = data_.levels[l];
            const int a = level.a, q = level.q, d = a + q;
            double* dS = at;
            double* dm = at + static_cast<size_t>(d) * d;
            for (int i = 0; i < d; ++i) dm[i] += sums.levels[l].m[i];
            for (size_t o = 0; o < level.present.size(); ++o)
                finish_pattern(levels_[l][o], sums.levels[l], o, a, q, dS);
            at = dm + d;
        }
    }

  private:
    // Messages of the units below that wait to be asked on the way down.
    using Stack = std::vector<Unit>;

    static bool condition(const UpperLevel& level, const double* S, std::vector<Conditioned>& out) {
        const int a = level.a, q = level.q, d = a + q;
        Vector zz(static_cast<size_t>(q) * q), work;
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j) zz[i * q + j] = S[(a + i) * d + a + j];
        for (const Indices& present : level.present) {
            Conditioned one;
            one.K.resize(static_cast<size_t>(q) * q);
            if (!inverse_of_present(zz.data(), q, present, work, one.K.data(), &one.log_det,
                                    &one.count))
                return false;
            one.G.assign(static_cast<size_t>(a) * q, 0.0);
            one.C0.resize(static_cast<size_t>(a) * a);
            for (int i = 0; i < a; ++i)
                for (int j = 0; j < q; ++j)
                    for (int l = 0; l < q; ++l)
                        one.G[i * q + j] += S[i * d + a + l] * one.K[l * q + j];
            for (int i = 0; i < a; ++i)
                for (int j = 0; j < a; ++j) {
                    double s = S[i * d + j];
                    for (int l = 0; l < q; ++l) s -= one.G[i * q + l] * S[j * d + a + l];
                    one.C0[i * a + j] = s;
                }
            out.push_back(std::move(one));
        }
        return true;
    }

    double multiple(int level, int u) const {
        return level + 1 == static_cast<int>(data_.levels.size()) && !data_.unit.empty()
                   ? data_.unit[u]
                   : 1.0;
    }
    double share(int level, int u) const {
        return level + 1 == static_cast<int>(data_.levels.size()) && !data_.share.empty()
                   ? data_.share[u]
                   : 1.0;
    }

    // Loadings of a coordinate of level 2.
    double loading(int c, int i) const {
        const int r = data_.response[c];
        if (r >= 0) return r == i ? 1.0 : 0.0;
        return at_.L[(-1 - r) * data_.p + i];
    }

    // x'(y - B x) of a piece for one column of x, (p).
    void residual_of(int piece, int column, double unit, double* out) const {
        const int p = data_.p, k = data_.k;
        const double* xx = data_.pieces.xx.data() + static_cast<size_t>(piece) * k * k;
        const double* xy = data_.pieces.xy.data() + static_cast<size_t>(piece) * k * p;
        for (int i = 0; i < p; ++i) {
            double s = xy[column * p + i];
            for (int c = 0; c < k; ++c) s -= unit * at_.B[i * k + c] * xx[c * k + column];
            out[i] = s;
        }
    }

    // The message of the rows of a unit at level 2: P (a, a) and h (a) are added to.
    void rows_message(int u, double unit, double* P, double* h, Vector& residual) const {
        const UpperLevel& level = data_.levels[0];
        const int p = data_.p, k = data_.k, a = level.a, s = data_.slopes;
        residual.resize(p);
        for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
            const int o = data_.pattern[piece];
            const double* R = R_.data() + static_cast<size_t>(o) * p * p;
            const double* RL = RL_.data() + static_cast<size_t>(o) * s * p;
            const double* xx = data_.pieces.xx.data() + static_cast<size_t>(piece) * k * k;
            int last = -1;
            for (int c = 0; c < a; ++c) {
                const int r = data_.response[c], x = data_.column[c];
                if (r < 0 && -1 - r >= s) continue; // of no row
                const double* own = r >= 0 ? R + r * p : RL + (-1 - r) * p;
                if (x != last) residual_of(piece, last = x, unit, residual.data());
                double sum = 0;
                for (int i = 0; i < p; ++i) sum += own[i] * residual[i];
                h[c] += sum;
                for (int d = 0; d <= c; ++d) {
                    const int w = data_.response[d];
                    if (w < 0 && -1 - w >= s) continue;
                    double product = 0;
                    if (w >= 0)
                        product = own[w];
                    else
                        for (int i = 0; i < p; ++i) product += own[i] * loading(d, i);
                    P[c * a + d] += xx[x * k + data_.column[d]] * product;
                }
            }
        }
        for (int c = 0; c < a; ++c)
            for (int d = 0; d < c; ++d) P[d * a + c] = P[c * a + d];
    }

    // The unit's message; those below are put on the stack, its own stays in work.
    bool upwards(int l, int u, std::vector<Unit>& work, Stack& stack) const {
        const UpperLevel& level = data_.levels[l];
        const int a = level.a;
        Vector P(static_cast<size_t>(a) * a, 0.0), h(a, 0.0);
        double c = 0;
        if (l == 0)
            rows_message(u, multiple(l, u), P.data(), h.data(), work[l].work);
        else {
            const int below = data_.levels[l - 1].size();
            for (int v = level.first[u]; v < level.first[u + 1]; ++v) {
                if (!upwards(l - 1, v, work, stack)) return false;
                const Unit& child = work[l - 1];
                for (int i = 0; i < below; ++i) {
                    const int to = data_.levels[l - 1].up[i];
                    if (to < 0) continue;
                    h[to] += child.h[i];
                    for (int j = 0; j < below; ++j) {
                        const int other = data_.levels[l - 1].up[j];
                        if (other >= 0) P[to * a + other] += child.P[i * below + j];
                    }
                }
                c += child.c;
                stack.push_back(child);
            }
        }
        return solve(l, u, P, h, c, work[l]);
    }

    bool solve(int l, int u, const Vector& P, const Vector& h, double c, Unit& w) const {
        const UpperLevel& level = data_.levels[l];
        const Conditioned& own = levels_[l][level.pattern[u]];
        const int a = level.a, q = level.q, d = a + q;
        const double unit = multiple(l, u), weight = share(l, u);
        const Indices& present = level.present[level.pattern[u]];
        w.e.assign(q, 0.0);
        w.a.resize(a);
        for (int j = 0; j < q; ++j)
            if (present[j])
                w.e[j] = level.z[static_cast<size_t>(u) * q + j] - unit * at_.m[l][a + j];
        for (int i = 0; i < a; ++i) {
            double s = unit * at_.m[l][i];
            for (int j = 0; j < q; ++j) s += own.G[i * q + j] * w.e[j];
            w.a[i] = s;
        }
        const size_t aa = static_cast<size_t>(a) * a;
        w.U.resize(aa), w.N.resize(aa), w.X.resize(aa), w.Q.resize(aa), w.work.resize(aa);
        semifactor(P.data(), a, w.U.data());
        times(w.U.data(), own.C0.data(), a, a, a, w.work.data());
        times_transposed(w.work.data(), w.U.data(), a, a, a, w.N.data());
        for (int i = 0; i < a; ++i) w.N[i * a + i] += 1;
        if (!factor(w.N.data(), a)) return false;
        double log_det = own.log_det;
        for (int i = 0; i < a; ++i) log_det += 2 * std::log(w.N[i * a + i]);
        // X = N^-1/2 U, row by row
        for (int i = 0; i < a; ++i) {
            double* x = w.X.data() + i * a;
            for (int j = 0; j < a; ++j) x[j] = w.U[i * a + j];
            for (int m = 0; m < i; ++m) {
                const double f = w.N[i * a + m];
                if (f == 0) continue;
                const double* y = w.X.data() + m * a;
                for (int j = 0; j < a; ++j) x[j] -= f * y[j];
            }
            const double f = 1 / w.N[i * a + i];
            for (int j = 0; j < a; ++j) x[j] *= f;
        }
        std::fill(w.Q.begin(), w.Q.end(), 0.0);
        for (int m = 0; m < a; ++m) {
            const double* x = w.X.data() + m * a;
            for (int i = 0; i < a; ++i) {
                if (x[i] == 0) continue;
                for (int j = 0; j <= i; ++j) w.Q[i * a + j] += x[i] * x[j];
            }
        }
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < i; ++j) w.Q[j * a + i] = w.Q[i * a + j];
        // g = h - Q C0 h, and the parts of the criterion
        w.g.resize(a), w.gq.resize(a), w.work2.resize(a);
        for (int i = 0; i < a; ++i) {
            double s = 0;
            for (int j = 0; j < a; ++j) s += own.C0[i * a + j] * h[j];
            w.work2[i] = s;
        }
        double value = weight * (own.count * log_2pi + log_det) + c;
        for (int i = 0; i < a; ++i) {
            double s = h[i], Qa = 0;
            for (int j = 0; j < a; ++j) {
                s -= w.Q[i * a + j] * w.work2[j];
                Qa += w.Q[i * a + j] * w.a[j];
            }
            w.g[i] = s;
            w.gq[i] = s - Qa; // g - Q a
            value += w.a[i] * Qa - 2 * s * w.a[i] - s * w.work2[i];
        }
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j) value += w.e[i] * own.K[i * q + j] * w.e[j];
        w.c = value;
        if (!std::isfinite(value)) return false;
        if (l + 1 < static_cast<int>(data_.levels.size())) message(own, a, q, d, w);
        return true;
    }

    static void message(const Conditioned& own, int a, int q, int d, Unit& w) {
        w.P.assign(static_cast<size_t>(d) * d, 0.0);
        w.h.assign(d, 0.0);
        Vector QG(static_cast<size_t>(a) * q);
        times(w.Q.data(), own.G.data(), a, a, q, QG.data());
        for (int i = 0; i < a; ++i) {
            w.h[i] = w.gq[i];
            for (int j = 0; j < a; ++j) w.P[i * d + j] = w.Q[i * a + j];
            for (int j = 0; j < q; ++j) w.P[i * d + a + j] = w.P[(a + j) * d + i] = -QG[i * q + j];
        }
        for (int i = 0; i < q; ++i) {
            double s = 0;
            for (int j = 0; j < q; ++j) {
                s += own.K[i * q + j] * w.e[j];
                double t = own.K[i * q + j];
                for (int l = 0; l < a; ++l) t += own.G[l * q + i] * QG[l * q + j];
                w.P[(a + i) * d + a + j] = t;
            }
            for (int l = 0; l < a; ++l) s -= own.G[l * q + i] * w.gq[l];
            w.h[a + i] = s;
        }
    }

    // Derivatives at a unit whose levels above add t, of mean and covariance V given the data.
    void downwards(int l, int u, const Vector& t, const Vector& V, const Unit& w, Stack& stack,
                   size_t& top, Sums& sums, std::vector<Vector>* means,
                   std::vector<Vector>* covs) const {
        const UpperLevel& level = data_.levels[l];
        const int o = level.pattern[u], a = level.a, q = level.q, d = a + q;
        const Conditioned& own = levels_[l][o];
        const double unit = multiple(l, u), weight = share(l, u);
        const bool above = l + 1 < static_cast<int>(data_.levels.size());
        Vector ga(w.gq), ez(w.e), a_hat(w.a);
        Vector Va(static_cast<size_t>(a) * a, 0.0), Vaz(static_cast<size_t>(a) * q, 0.0);
        if (above) {
            for (int j = 0; j < q; ++j)
                if (level.present[o][j]) ez[j] -= t[a + j];
            for (int i = 0; i < a; ++i) {
                a_hat[i] += t[i];
                for (int j = 0; j < q; ++j) a_hat[i] -= own.G[i * q + j] * t[a + j];
            }
            for (int i = 0; i < a; ++i) {
                double s = w.g[i];
                for (int j = 0; j < a; ++j) s -= w.Q[i * a + j] * a_hat[j];
                ga[i] = s;
            }
            Vector DV(static_cast<size_t>(a) * d);
            for (int i = 0; i < a; ++i)
                for (int j = 0; j < d; ++j) {
                    double s = V[i * d + j];
                    for (int m = 0; m < q; ++m) s -= own.G[i * q + m] * V[(a + m) * d + j];
                    DV[i * d + j] = s;
                }
            for (int i = 0; i < a; ++i) {
                for (int j = 0; j < q; ++j) Vaz[i * q + j] = DV[i * d + a + j];
                for (int j = 0; j < a; ++j) {
                    double s = DV[i * d + j];
                    for (int m = 0; m < q; ++m) s -= DV[i * d + a + m] * own.G[j * q + m];
                    Va[i * a + j] = s;
                }
            }
        }
        LevelSums& add = sums.levels[l];
        Vector QV(static_cast<size_t>(a) * a), QVQ(static_cast<size_t>(a) * a);
        if (above) {
            times(w.Q.data(), Va.data(), a, a, a, QV.data());
            times(QV.data(), w.Q.data(), a, a, a, QVQ.data());
        }
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < a; ++j)
                add.D[o][i * a + j] += weight * w.Q[i * a + j] - ga[i] * ga[j] - QVQ[i * a + j];
        Vector Kz(q, 0.0), QVaz(static_cast<size_t>(a) * q, 0.0);
        if (q > 0 && above) times(w.Q.data(), Vaz.data(), a, a, q, QVaz.data());
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < q; ++j)
                if (level.present[o][j])
                    add.E[o][i * q + j] -= 2 * (ga[i] * ez[j] + QVaz[i * q + j]);
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j) Kz[i] += own.K[i * q + j] * ez[j];
        Vector KVK(static_cast<size_t>(q) * q, 0.0);
        if (q > 0 && above) {
            Vector Vz(static_cast<size_t>(q) * q), KV(static_cast<size_t>(q) * q);
            for (int i = 0; i < q; ++i)
                for (int j = 0; j < q; ++j) Vz[i * q + j] = V[(a + i) * d + a + j];
            times(own.K.data(), Vz.data(), q, q, q, KV.data());
            times(KV.data(), own.K.data(), q, q, q, KVK.data());
        }
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j)
                add.Z[o][i * q + j] += weight * own.K[i * q + j] - Kz[i] * Kz[j] - KVK[i * q + j];
        for (int i = 0; i < a; ++i) add.m[i] -= 2 * unit * ga[i];
        for (int j = 0; j < q; ++j) {
            double s = -2 * Kz[j];
            for (int i = 0; i < a; ++i) s += 2 * own.G[i * q + j] * ga[i];
            if (level.present[o][j]) add.m[a + j] += unit * s;
        }
        // the coordinates given the data: mean a + C0 (g - Q a), covariance
        Vector mean(a), cov(static_cast<size_t>(a) * a), T(static_cast<size_t>(a) * a);
        for (int i = 0; i < a; ++i) {
            double s = a_hat[i];
            for (int j = 0; j < a; ++j) s += own.C0[i * a + j] * ga[j];
            mean[i] = s;
        }
        times(own.C0.data(), w.Q.data(), a, a, a, T.data()); // C0 Q
        times(T.data(), own.C0.data(), a, a, a, cov.data());
        for (size_t i = 0; i < cov.size(); ++i) cov[i] = weight * (own.C0[i] - cov[i]);
        if (above) {
            for (size_t i = 0; i < T.size(); ++i) T[i] = -T[i];
            for (int i = 0; i < a; ++i) T[i * a + i] += 1;
            times(T.data(), Va.data(), a, a, a, QV.data());
            times_transposed(QV.data(), T.data(), a, a, a, QVQ.data());
            for (size_t i = 0; i < cov.size(); ++i) cov[i] += QVQ[i];
        }
        if (means != nullptr) {
            (*means)[l].insert((*means)[l].end(), mean.begin(), mean.end());
            (*covs)[l].insert((*covs)[l].end(), cov.begin(), cov.end());
        }
        if (l == 0) {
            rows_down(u, unit, mean, cov, sums);
            return;
        }
        const UpperLevel& below = data_.levels[l - 1];
        const int size = below.size();
        Vector ts(size), Vs(static_cast<size_t>(size) * size);
        for (int v = level.first[u + 1] - 1; v >= level.first[u]; --v) {
            std::fill(ts.begin(), ts.end(), 0.0);
            std::fill(Vs.begin(), Vs.end(), 0.0);
            for (int i = 0; i < size; ++i) {
                const int from = below.up[i];
                if (from < 0) continue;
                ts[i] = mean[from];
                for (int j = 0; j < size; ++j)
                    if (below.up[j] >= 0) Vs[i * size + j] = cov[from * a + below.up[j]];
            }
            const Unit child = stack[--top];
            downwards(l - 1, v, ts, Vs, child, stack, top, sums, means, covs);
        }
    }

    void rows_down(int u, double unit, const Vector& mean, const Vector& cov, Sums& sums) const {
        const UpperLevel& level = data_.levels[0];
        const int p = data_.p, k = data_.k, a = level.a, s = data_.slopes;
        Vector second(cov), residual(static_cast<size_t>(k) * p);
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < a; ++j) second[i * a + j] += mean[i] * mean[j];
        for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
            const int o = data_.pattern[piece];
            const double* xx = data_.pieces.xx.data() + static_cast<size_t>(piece) * k * k;
            double* omega = sums.omega.data() + static_cast<size_t>(o) * p * p;
            double* gamma = sums.gamma.data() + static_cast<size_t>(o) * p * k;
            double* lambda = sums.lambda.data() + static_cast<size_t>(o) * s * p;
            for (int c = 0; c < k; ++c) residual_of(piece, c, unit, residual.data() + c * p);
            for (int c = 0; c < a; ++c) {
                const int r = data_.response[c], x = data_.column[c];
                if (r < 0 && -1 - r >= s) continue;
                const double* rho = residual.data() + x * p;
                if (r >= 0) {
                    for (int i = 0; i < p; ++i) {
                        omega[i * p + r] -= rho[i] * mean[c];
                        omega[r * p + i] -= rho[i] * mean[c];
                    }
                    for (int j = 0; j < k; ++j) gamma[r * k + j] -= unit * mean[c] * xx[x * k + j];
                } else {
                    const double* own = at_.L + (-1 - r) * p;
                    for (int i = 0; i < p; ++i) {
                        for (int j = 0; j < p; ++j) {
                            const double e = rho[i] * mean[c] * own[j];
                            omega[i * p + j] -= e;
                            omega[j * p + i] -= e;
                        }
                        lambda[(-1 - r) * p + i] += mean[c] * rho[i];
                        for (int j = 0; j < k; ++j)
                            gamma[i * k + j] -= unit * mean[c] * own[i] * xx[x * k + j];
                    }
                }
                for (int d = 0; d < a; ++d) {
                    const int v = data_.response[d];
                    if (v < 0 && -1 - v >= s) continue;
                    const double f = xx[x * k + data_.column[d]] * second[c * a + d];
                    if (r >= 0 && v >= 0) {
                        omega[r * p + v] += f;
                        continue;
                    }
                    for (int i = 0; i < p; ++i) {
                        const double li = loading(c, i);
                        if (li == 0) continue;
                        for (int j = 0; j < p; ++j) omega[i * p + j] += f * li * loading(d, j);
                    }
                    if (r < 0)
                        for (int j = 0; j < p; ++j) lambda[(-1 - r) * p + j] -= f * loading(d, j);
                }
            }
        }
    }

    static void finish_pattern(const Conditioned& own, const LevelSums& sums, size_t o, int a,
                               int q, double* dS) {
        const int d = a + q;
        const Vector &D = sums.D[o], &E = sums.E[o], &Z = sums.Z[o];
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < a; ++j) dS[i * d + j] += D[i * a + j];
        if (q == 0) return;
        Vector EK(static_cast<size_t>(a) * q), DG(static_cast<size_t>(a) * q);
        times(E.data(), own.K.data(), a, q, q, EK.data());
        times(D.data(), own.G.data(), a, a, q, DG.data());
        for (int i = 0; i < a; ++i)
            for (int j = 0; j < q; ++j) {
                const double half = 0.5 * EK[i * q + j] - DG[i * q + j];
                dS[i * d + a + j] += half;
                dS[(a + j) * d + i] += half;
            }
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j) {
                double s = Z[i * q + j];
                for (int l = 0; l < a; ++l)
                    s +=
                        own.G[l * q + i] * DG[l * q + j] -
                        0.5 * (own.G[l * q + i] * EK[l * q + j] + own.G[l * q + j] * EK[l * q + i]);
                dS[(a + i) * d + a + j] += s;
            }
    }

    const MessageData& data_;
    const MessageParameters& at_;
    Vector R_, RL_, log_det_;
    std::vector<int> count_;
    std::vector<std::vector<Conditioned>> levels_;
};

void add(Sums& to, const Sums& from) {
    const auto plus = [](Vector& x, const Vector& y) {
        for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    };
    to.value += from.value;
    plus(to.omega, from.omega);
    plus(to.gamma, from.gamma);
    plus(to.lambda, from.lambda);
    for (size_t l = 0; l < to.levels.size(); ++l) {
        plus(to.levels[l].m, from.levels[l].m);
        for (size_t o = 0; o < to.levels[l].D.size(); ++o) {
            plus(to.levels[l].D[o], from.levels[l].D[o]);
            plus(to.levels[l].E[o], from.levels[l].E[o]);
            plus(to.levels[l].Z[o], from.levels[l].Z[o]);
        }
    }
}

// Chunks of the highest units, the same for every number of threads.
int chunks_of(const MessageData& data) {
    const size_t p = data.p;
    const double work =
        static_cast<double>(data.pattern.size()) * p * p +
        (data.levels.empty() ? 0.0 : static_cast<double>(data.levels[0].units)) * p * p * p;
    return work < 2e6 ? 1 : 8;
}

} // namespace

size_t moments_of(const MessageData& data) {
    const size_t p = data.p;
    size_t out = p * p + p * data.k + p * data.slopes;
    for (const UpperLevel& level : data.levels) {
        const size_t d = level.size();
        out += d * d + d;
    }
    return out;
}

double message_criterion(const MessageData& data, const MessageParameters& at, double* gradient,
                         int threads) {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    Engine engine(data, at);
    if (!engine.prepare()) return nothing;
    const bool derivatives = gradient != nullptr;
    Sums sums = engine.empty_sums();
    if (!data.levels.empty()) {
        const int chunks = chunks_of(data);
        const auto bounds = partition(data.levels.back().units, chunks);
        std::vector<Sums> parts(chunks);
        std::vector<char> fine(chunks, 0);
        for_chunks(chunks, threads, [&](int c) {
            parts[c] = engine.empty_sums();
            fine[c] = engine.units(static_cast<int>(bounds[c]), static_cast<int>(bounds[c + 1]),
                                   derivatives, parts[c]);
        });
        if (std::find(fine.begin(), fine.end(), 0) != fine.end()) return nothing;
        for (const Sums& part : parts) add(sums, part);
    }
    std::vector<int> every(data.present.size());
    for (size_t o = 0; o < every.size(); ++o) every[o] = static_cast<int>(o);
    if (derivatives) std::fill(gradient, gradient + moments_of(data), 0.0);
    const double rows = engine.rows(data.totals, every, sums, gradient);
    if (derivatives) engine.finish_levels(sums, gradient);
    return sums.value + rows;
}

void message_units(const MessageData& data, const MessageParameters& at, const double* directions,
                   int columns, double* values, double* scores, int threads) {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    Engine engine(data, at);
    const int units = data.levels.back().units;
    const size_t n = moments_of(data), k = data.k, p = data.p;
    if (!engine.prepare()) {
        std::fill(values, values + units, nothing);
        return;
    }
    const int chunks = std::min(units, 16);
    const auto bounds = partition(units, chunks);
    for_chunks(chunks, threads, [&](int c) {
        Vector gradient(n);
        Sums sums = engine.empty_sums();
        for (size_t u = bounds[c]; u < bounds[c + 1]; ++u) {
            // the pieces below the unit
            int first = static_cast<int>(u), last = first + 1;
            for (size_t l = data.levels.size(); l-- > 0;)
                first = data.levels[l].first[first], last = data.levels[l].first[last];
            std::vector<int> which(data.pattern.begin() + first, data.pattern.begin() + last);
            std::vector<int> distinct(which);
            std::sort(distinct.begin(), distinct.end());
            distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
            RowSums totals;
            totals.xx.assign(distinct.size() * k * k, 0.0);
            totals.xy.assign(distinct.size() * k * p, 0.0);
            totals.yy.assign(distinct.size() * p * p, 0.0);
            for (int piece = first; piece < last; ++piece) {
                const size_t at_pattern =
                    std::lower_bound(distinct.begin(), distinct.end(), data.pattern[piece]) -
                    distinct.begin();
                const auto plus = [&](Vector& to, const Vector& from, size_t size) {
                    for (size_t i = 0; i < size; ++i)
                        to[at_pattern * size + i] += from[static_cast<size_t>(piece) * size + i];
                };
                plus(totals.xx, data.pieces.xx, k * k);
                plus(totals.xy, data.pieces.xy, k * p);
                plus(totals.yy, data.pieces.yy, p * p);
            }
            sums.value = 0;
            for (int o : distinct) {
                std::fill_n(sums.omega.begin() + o * p * p, p * p, 0.0);
                std::fill_n(sums.gamma.begin() + o * p * k, p * k, 0.0);
                std::fill_n(sums.lambda.begin() + o * p * data.slopes, p * data.slopes, 0.0);
            }
            for (LevelSums& level : sums.levels) {
                std::fill(level.m.begin(), level.m.end(), 0.0);
                for (size_t o = 0; o < level.D.size(); ++o) {
                    std::fill(level.D[o].begin(), level.D[o].end(), 0.0);
                    std::fill(level.E[o].begin(), level.E[o].end(), 0.0);
                    std::fill(level.Z[o].begin(), level.Z[o].end(), 0.0);
                }
            }
            const bool fine =
                engine.units(static_cast<int>(u), static_cast<int>(u) + 1, scores != nullptr, sums);
            std::fill(gradient.begin(), gradient.end(), 0.0);
            const double rows =
                engine.rows(totals, distinct, sums, scores == nullptr ? nullptr : gradient.data());
            values[u] = fine ? sums.value + rows : nothing;
            if (scores == nullptr) continue;
            engine.finish_levels(sums, gradient.data());
            double* out = scores + u * columns;
            std::fill(out, out + columns, 0.0);
            for (size_t i = 0; i < n; ++i) {
                if (gradient[i] == 0) continue;
                for (int j = 0; j < columns; ++j)
                    out[j] += gradient[i] * directions[i * columns + j];
            }
        }
    });
}

void message_posterior(const MessageData& data, const MessageParameters& at, int level,
                       double* means, double* covariances) {
    Engine engine(data, at);
    const UpperLevel& own = data.levels[level];
    const size_t a = own.a;
    std::vector<Vector> m(data.levels.size()), V(data.levels.size());
    Sums sums = engine.empty_sums();
    const bool fine =
        engine.prepare() && engine.units(0, data.levels.back().units, true, sums, &m, &V);
    if (!fine) {
        std::fill(means, means + own.units * a, std::numeric_limits<double>::quiet_NaN());
        return;
    }
    // on the way down the units below one stand in reverse order
    std::vector<int> order;
    for (int l = static_cast<int>(data.levels.size()) - 1; l >= level; --l) {
        std::vector<int> next;
        if (l + 1 == static_cast<int>(data.levels.size()))
            for (int u = 0; u < data.levels[l].units; ++u) next.push_back(u);
        else
            for (int u : order)
                for (int v = data.levels[l + 1].first[u + 1] - 1; v >= data.levels[l + 1].first[u];
                     --v)
                    next.push_back(v);
        order = std::move(next);
    }
    for (size_t i = 0; i < order.size(); ++i) {
        std::copy_n(m[level].begin() + i * a, a, means + order[i] * a);
        std::copy_n(V[level].begin() + i * a * a, a * a, covariances + order[i] * a * a);
    }
}

} // namespace ranef
