// Sums of derivatives, the units of a range, and what the rows give by themselves.
#include "message_engine.hpp"

namespace ranef::message {

Sums Engine::empty_sums() const {
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
bool Engine::units(int first, int last, bool derivatives, Sums& sums, std::vector<Vector>* means,
                   std::vector<Vector>* covs) const {
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
            downwards(top, u, zero, none, work[top], stack, at, 1.0, sums, means, covs);
        }
    }
    return true;
}

// The rows alone, of totals by pattern; with derivatives of the rows and of the levels.
double Engine::rows(const RowSums& totals, const std::vector<int>& which, Sums& sums,
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
                for (int c = 0; c < k; ++c) dB[i * k + c] -= 2 * R[i * p + j] * gamma[j * k + c];
        const double* lambda = sums.lambda.data() + static_cast<size_t>(o) * s * p;
        for (int r = 0; r < s; ++r)
            for (int i = 0; i < p; ++i)
                for (int j = 0; j < p; ++j) dL[r * p + i] -= 2 * R[i * p + j] * lambda[r * p + j];
    }
    return value;
}

void LevelSums::clear() {
    std::fill(m.begin(), m.end(), 0.0);
    for (std::vector<Vector>* sums : {&D, &E, &Z})
        for (Vector& one : *sums) std::fill(one.begin(), one.end(), 0.0);
}

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

} // namespace ranef::message
