// The way down: expectations given the data, and derivatives made of them.
#include "message_engine.hpp"

namespace ranef::message {

// Derivatives at a unit whose levels above add t, of mean and covariance V given the data.
// One function, since its parts share the unit's small matrices and nothing else does.
void Engine::downwards(int l, int u, const Vector& t, const Vector& V, const Unit& w, Stack& stack,
                       size_t& top, double share_of, Sums& sums, std::vector<Vector>* means,
                       std::vector<Vector>* covs) const {
    const UpperLevel& level = data_.levels[l];
    const int o = level.pattern[u], a = level.a, q = level.q, d = a + q;
    const Conditioned& own = levels_[l][o];
    const double unit = multiple(l, u), weight = share(l, u);
    const bool above = l + 1 < static_cast<int>(data_.levels.size());
    Vector ga(w.gq), ez(w.e), a_hat(w.a);
    const size_t aa = static_cast<size_t>(a) * a, aq = static_cast<size_t>(a) * q;
    Vector Va(above ? aa : 0, 0.0), Vaz(above ? aq : 0, 0.0);
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
    Vector QV(above ? aa : 0), QVQ(above ? aa : 0);
    if (above) {
        times(w.Q.data(), Va.data(), a, a, a, QV.data());
        times(QV.data(), w.Q.data(), a, a, a, QVQ.data());
    }
    for (int i = 0; i < a; ++i)
        for (int j = 0; j < a; ++j)
            add.D[o][i * a + j] +=
                share_of * (weight * w.Q[i * a + j] - ga[i] * ga[j] - (above ? QVQ[i * a + j] : 0));
    Vector Kz(q, 0.0), QVaz(above ? aq : 0, 0.0);
    if (q > 0 && above) times(w.Q.data(), Vaz.data(), a, a, q, QVaz.data());
    for (int i = 0; i < a; ++i)
        for (int j = 0; j < q; ++j)
            if (level.present[o][j])
                add.E[o][i * q + j] -=
                    2 * share_of * (ga[i] * ez[j] + (above ? QVaz[i * q + j] : 0));
    for (int i = 0; i < q; ++i)
        for (int j = 0; j < q; ++j) Kz[i] += own.K[i * q + j] * ez[j];
    Vector KVK(above ? static_cast<size_t>(q) * q : 0, 0.0);
    if (q > 0 && above) {
        Vector Vz(static_cast<size_t>(q) * q), KV(static_cast<size_t>(q) * q);
        for (int i = 0; i < q; ++i)
            for (int j = 0; j < q; ++j) Vz[i * q + j] = V[(a + i) * d + a + j];
        times(own.K.data(), Vz.data(), q, q, q, KV.data());
        times(KV.data(), own.K.data(), q, q, q, KVK.data());
    }
    for (int i = 0; i < q; ++i)
        for (int j = 0; j < q; ++j)
            add.Z[o][i * q + j] += share_of * (weight * own.K[i * q + j] - Kz[i] * Kz[j] -
                                               (above ? KVK[i * q + j] : 0));
    for (int i = 0; i < a; ++i) add.m[i] -= 2 * share_of * unit * ga[i];
    for (int j = 0; j < q; ++j) {
        double s = -2 * Kz[j];
        for (int i = 0; i < a; ++i) s += 2 * own.G[i * q + j] * ga[i];
        if (level.present[o][j]) add.m[a + j] += share_of * unit * s;
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
        rows_down(u, unit, mean, cov, share_of, sums);
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
        downwards(l - 1, v, ts, Vs, child, stack, top, share_of, sums, means, covs);
    }
}

void Engine::one_down(int u, const Unit& w, double share_of, Sums& sums) const {
    const Vector nothing; // no level above adds anything
    Stack empty;
    size_t top = 0;
    downwards(0, u, nothing, nothing, w, empty, top, share_of, sums, nullptr, nullptr);
}

void Engine::rows_down(int u, double unit, const Vector& given, const Vector& cov, double share_of,
                       Sums& sums) const {
    const UpperLevel& level = data_.levels[0];
    const int p = data_.p, k = data_.k, a = level.a, s = data_.slopes;
    Vector mean(given), second(cov), residual(static_cast<size_t>(k) * p);
    for (int i = 0; i < a; ++i) {
        mean[i] *= share_of;
        for (int j = 0; j < a; ++j)
            second[i * a + j] = share_of * (cov[i * a + j] + given[i] * given[j]);
    }
    for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
        if (piece % between_polls == 0) Watch::poll();
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

void Engine::finish_pattern(const Conditioned& own, const LevelSums& sums, size_t o, int a, int q,
                            double* dS) {
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
                s += own.G[l * q + i] * DG[l * q + j] -
                     0.5 * (own.G[l * q + i] * EK[l * q + j] + own.G[l * q + j] * EK[l * q + i]);
            dS[(a + i) * d + a + j] += s;
        }
}

// Derivatives of the levels from their sums.
void Engine::finish_levels(const Sums& sums, double* gradient) const {
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

} // namespace ranef::message
