// The way up: parameters prepared by pattern, and each unit's message to the one above.
#include "message_engine.hpp"

namespace ranef::message {

// False where a covariance matrix is not positive definite.
bool Engine::prepare() {
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

bool Engine::condition(const UpperLevel& level, const double* S, std::vector<Conditioned>& out) {
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
                for (int l = 0; l < q; ++l) one.G[i * q + j] += S[i * d + a + l] * one.K[l * q + j];
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

// The message of the rows of a unit at level 2: P (a, a) and h (a) are added to.
void Engine::rows_message(int u, double unit, double* P, double* h, Vector& residual) const {
    const UpperLevel& level = data_.levels[0];
    const int p = data_.p, k = data_.k, a = level.a, s = data_.slopes;
    residual.resize(p);
    for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
        if (piece % between_polls == 0) Watch::poll();
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
            if (P == nullptr) continue;
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
    if (P == nullptr) return;
    for (int c = 0; c < a; ++c)
        for (int d = 0; d < c; ++d) P[d * a + c] = P[c * a + d];
}

// The unit's message; those below are put on the stack, its own stays in work.
bool Engine::upwards(int l, int u, std::vector<Unit>& work, Stack& stack) const {
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
    return factorise(l, u, P, work[l]) && solve(l, u, h, c, work[l]);
}

bool Engine::one_up(int u, bool alike, Unit& w) const {
    const int a = data_.levels[0].a;
    Vector P(alike ? 0 : static_cast<size_t>(a) * a, 0.0);
    w.h.assign(a, 0.0);
    rows_message(u, multiple(0, u), alike ? nullptr : P.data(), w.h.data(), w.work2);
    return (alike || factorise(0, u, P, w)) && solve(0, u, w.h, 0.0, w);
}

double Engine::piece(int piece) const {
    const int p = data_.p, k = data_.k, o = data_.pattern[piece];
    const double* xx = data_.pieces.xx.data() + static_cast<size_t>(piece) * k * k;
    const double* xy = data_.pieces.xy.data() + static_cast<size_t>(piece) * k * p;
    const double* yy = data_.pieces.yy.data() + static_cast<size_t>(piece) * p * p;
    const double* R = R_.data() + static_cast<size_t>(o) * p * p;
    double value = xx[0] * (count_[o] * log_2pi + log_det_[o]);
    for (int i = 0; i < p; ++i)
        for (int j = 0; j <= i; ++j) {
            double e = yy[i * p + j];
            for (int c = 0; c < k; ++c) {
                e -= at_.B[i * k + c] * xy[c * p + j] + xy[c * p + i] * at_.B[j * k + c];
                for (int d = 0; d < k; ++d)
                    e += at_.B[i * k + c] * xx[c * k + d] * at_.B[j * k + d];
            }
            value += (i == j ? 1 : 2) * R[i * p + j] * e;
        }
    return value;
}

bool Engine::factorise(int l, int u, const Vector& P, Unit& w) const {
    const Conditioned& own = levels_[l][data_.levels[l].pattern[u]];
    const int a = data_.levels[l].a;
    const size_t aa = static_cast<size_t>(a) * a;
    w.U.resize(aa), w.N.resize(aa), w.X.resize(aa), w.Q.resize(aa), w.work.resize(aa);
    semifactor(P.data(), a, w.U.data());
    times(w.U.data(), own.C0.data(), a, a, a, w.work.data());
    times_transposed(w.work.data(), w.U.data(), a, a, a, w.N.data());
    for (int i = 0; i < a; ++i) w.N[i * a + i] += 1;
    if (!factor(w.N.data(), a)) return false;
    w.log_det = 0;
    for (int i = 0; i < a; ++i) w.log_det += 2 * std::log(w.N[i * a + i]);
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
    return true;
}

bool Engine::solve(int l, int u, const Vector& h, double c, Unit& w) const {
    const UpperLevel& level = data_.levels[l];
    const Conditioned& own = levels_[l][level.pattern[u]];
    const int a = level.a, q = level.q, d = a + q;
    const double unit = multiple(l, u), weight = share(l, u);
    const Indices& present = level.present[level.pattern[u]];
    w.e.assign(q, 0.0);
    w.a.resize(a);
    for (int j = 0; j < q; ++j)
        if (present[j]) w.e[j] = level.z[static_cast<size_t>(u) * q + j] - unit * at_.m[l][a + j];
    for (int i = 0; i < a; ++i) {
        double s = unit * at_.m[l][i];
        for (int j = 0; j < q; ++j) s += own.G[i * q + j] * w.e[j];
        w.a[i] = s;
    }
    // g = h - Q C0 h, and the parts of the criterion
    w.g.resize(a), w.gq.resize(a), w.work2.resize(a);
    for (int i = 0; i < a; ++i) {
        double s = 0;
        for (int j = 0; j < a; ++j) s += own.C0[i * a + j] * h[j];
        w.work2[i] = s;
    }
    double value = weight * (own.count * log_2pi + own.log_det + w.log_det) + c;
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

void Engine::message(const Conditioned& own, int a, int q, int d, Unit& w) {
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

} // namespace ranef::message
