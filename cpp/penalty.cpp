#include "penalty.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "dense.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double difference = 1e-5; // step of the model Hessian

inline size_t at(int i, int j, int r) {
    return static_cast<size_t>(i) * r + j;
}

// C (r, r) = A B A'
Vector sandwich(int r, const Vector& A, const Vector& B) {
    Vector AB(B.size(), 0.0), out(B.size(), 0.0);
    for (int i = 0; i < r; ++i)
        for (int j = 0; j < r; ++j)
            for (int k = 0; k < r; ++k) AB[at(i, j, r)] += A[at(i, k, r)] * B[at(k, j, r)];
    for (int i = 0; i < r; ++i)
        for (int j = 0; j < r; ++j)
            for (int k = 0; k < r; ++k) out[at(i, j, r)] += AB[at(i, k, r)] * A[at(j, k, r)];
    return out;
}

Vector transposed(int r, const Vector& A) {
    Vector out(A.size());
    for (int i = 0; i < r; ++i)
        for (int j = 0; j < r; ++j) out[at(i, j, r)] = A[at(j, i, r)];
    return out;
}

} // namespace

PriorValue evaluate(const Prior& prior, double x) {
    const double z = (x - prior.location) / prior.scale;
    switch (prior.kind) {
    case Prior::Kind::normal:
        return {z * z, 2 * z / prior.scale, 2 / (prior.scale * prior.scale)};
    case Prior::Kind::student: {
        const double nu = prior.shape, u = 1 + z * z / nu, c = 2 * (nu + 1) / (nu * prior.scale);
        return {(nu + 1) * std::log(u), c * z / u, c / prior.scale * (1 - z * z / nu) / (u * u)};
    }
    case Prior::Kind::gamma: {
        const double k = prior.shape - 1;
        if (!(x > 0)) return {k > 0 ? infinity : k < 0 ? -infinity : 0.0, 2 / prior.scale, 0};
        return {2 * (x / prior.scale - k * std::log(x)), 2 * (1 / prior.scale - k / x),
                2 * k / (x * x)};
    }
    default:
        return {};
    }
}

Penalised::Penalised(Objective& inner, Penalty penalty)
    : inner_(inner), penalty_(std::move(penalty)), x_(inner.parameters()) {
    for (const Factor& f : blocks().factors) G_.emplace_back(static_cast<size_t>(f.r) * f.r);
}

// The penalty of a term's covariance matrix; G (r, r) its derivative with respect
// to Psi in the core's basis.
double Penalised::of_term(const TermPrior& t, const double* phi, Vector* G) const {
    const Structure& structure = *term(t).structure;
    const int r = structure.r;
    Vector Lambda(static_cast<size_t>(r) * r, 0.0), identity(Lambda.size(), 0.0);
    structure.factor(phi, Lambda.data());
    for (int a = 0; a < r; ++a) identity[at(a, a, r)] = 1;
    const Vector psi = sandwich(r, t.basis, sandwich(r, Lambda, identity));
    Vector slope(psi.size(), 0.0);
    double total = 0;
    for (int a = 0; a < r; ++a) {
        if (t.sd[a].kind == Prior::Kind::none) continue;
        const double sd = std::sqrt(std::max(psi[at(a, a, r)], 0.0));
        const PriorValue p = ranef::evaluate(t.sd[a], sd);
        total += p.value;
        // d sd / d psi = 1 / (2 sd); at zero the even densities have f'' in its place
        slope[at(a, a, r)] += sd > 0 ? p.first / (2 * sd) : p.second / 2;
    }
    if (t.lkj != 1 && r > 1) {
        Vector inverse = psi;
        if (!cholesky(r, inverse.data(), r)) return t.lkj > 1 ? infinity : -infinity;
        double logdet = 0;
        for (int a = 0; a < r; ++a)
            logdet += 2 * std::log(inverse[at(a, a, r)]) - std::log(psi[at(a, a, r)]);
        total -= 2 * (t.lkj - 1) * logdet;
        inverse_from_cholesky(r, inverse.data(), r);
        for (int a = 0; a < r; ++a) {
            slope[at(a, a, r)] += 2 * (t.lkj - 1) / psi[at(a, a, r)];
            // column-major lower triangle
            for (int c = 0; c <= a; ++c) {
                const double v = 2 * (t.lkj - 1) * inverse[static_cast<size_t>(c) * r + a];
                slope[at(a, c, r)] -= v;
                if (a != c) slope[at(c, a, r)] -= v;
            }
        }
    }
    if (G) *G = sandwich(r, transposed(r, t.basis), slope);
    return total;
}

// Derivative of a term's penalty with respect to its parameters.
Vector Penalised::slope(const TermPrior& t, const double* phi) const {
    const Term& own = term(t);
    const int r = own.structure->r;
    Vector G, out(own.parameters), dpsi(static_cast<size_t>(r) * r);
    if (!std::isfinite(of_term(t, phi, &G))) return Vector(own.parameters, 0.0);
    for (int i = 0; i < own.parameters; ++i) {
        std::fill(dpsi.begin(), dpsi.end(), 0.0);
        own.structure->derivative(phi, i, dpsi.data());
        for (size_t k = 0; k < dpsi.size(); ++k) out[i] += G[k] * dpsi[k];
    }
    return out;
}

double Penalised::penalty(const double* x) const {
    const int K = blocks().parameters;
    double total = 0;
    for (const TermPrior& t : penalty_.terms) total += of_term(t, x + term(t).offset, nullptr);
    for (const CoefficientPrior& c : penalty_.coefficients) {
        double beta = 0;
        for (size_t k = 0; k < c.row.size(); ++k) beta += c.row[k] * x[K + k];
        total += ranef::evaluate(c.prior, beta).value;
    }
    return total;
}

double Penalised::evaluate(const double* x) {
    std::copy(x, x + x_.size(), x_.begin());
    const double value = inner_.evaluate(x), more = penalty(x);
    return std::isfinite(more) ? value + more : infinity;
}

void Penalised::differentiate(double* gradient, double* hessian) {
    const int D = parameters(), K = blocks().parameters;
    inner_.differentiate(gradient, hessian);
    for (size_t f = 0; f < G_.size(); ++f) G_[f] = inner_.gradient_psi(static_cast<int>(f));
    for (const TermPrior& t : penalty_.terms) {
        const Term& own = term(t);
        const int r = own.structure->r, width = blocks().factors[t.factor].r;
        const double* phi = x_.data() + own.offset;
        Vector G;
        of_term(t, phi, &G);
        for (int a = 0; a < r; ++a)
            for (int c = 0; c < r; ++c)
                G_[t.factor][at(own.first + a, own.first + c, width)] += G[at(a, c, r)];
        const Vector first = slope(t, phi);
        Vector moved(phi, phi + own.parameters);
        for (int i = 0; i < own.parameters; ++i) {
            gradient[own.offset + i] += first[i];
            const double step = difference * std::max(1.0, std::fabs(phi[i]));
            moved[i] = phi[i] + step;
            const Vector up = slope(t, moved.data());
            moved[i] = phi[i] - step;
            const Vector down = slope(t, moved.data());
            moved[i] = phi[i];
            for (int k = 0; k < own.parameters; ++k) {
                const double v = (up[k] - down[k]) / (4 * step); // half, for symmetry
                hessian[static_cast<size_t>(own.offset + i) * D + own.offset + k] += v;
                hessian[static_cast<size_t>(own.offset + k) * D + own.offset + i] += v;
            }
        }
    }
    for (const CoefficientPrior& c : penalty_.coefficients) {
        const int p = static_cast<int>(c.row.size());
        double beta = 0;
        for (int k = 0; k < p; ++k) beta += c.row[k] * x_[K + k];
        const PriorValue value = ranef::evaluate(c.prior, beta);
        for (int k = 0; k < p; ++k) {
            gradient[K + k] += value.first * c.row[k];
            for (int i = 0; i < p; ++i)
                hessian[static_cast<size_t>(K + k) * D + K + i] +=
                    value.second * c.row[k] * c.row[i];
        }
    }
}

} // namespace ranef
