// Elementary functions with three derivatives, each exact far into its tails, and
// the same functions of a jet.
#pragma once

#include <cmath>
#include <limits>

#include "special.hpp"
#include "third.hpp"

namespace ranef {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double pi = 3.14159265358979323846;
constexpr double log_2pi = 1.8378770664093454836;

inline Curve exp_curve(double x) {
    const double e = std::exp(x);
    return {e, e, e, e};
}

inline Curve expm1_curve(double x) {
    const double e = std::exp(x);
    return {std::expm1(x), e, e, e};
}

inline Curve log_curve(double x) {
    const double r = 1 / x;
    return {std::log(x), r, -r * r, 2 * r * r * r};
}

inline Curve log1p_curve(double x) {
    const double r = 1 / (1 + x);
    return {std::log1p(x), r, -r * r, 2 * r * r * r};
}

// log(1 + exp(x))
inline Curve softplus_curve(double x) {
    const double e = std::exp(-std::fabs(x)), r = 1 / (1 + e);
    const double p = x > 0 ? r : e * r, pq = e * r * r;
    const double difference = (1 - e) * r; // |1 - 2p|
    return {(x > 0 ? x : 0) + std::log1p(e), p, pq, x > 0 ? -pq * difference : pq * difference};
}

// 1 / (1 + exp(-x))
inline Curve expit_curve(double x) {
    const double e = std::exp(-std::fabs(x)), r = 1 / (1 + e);
    const double pq = e * r * r, s = (x > 0 ? -1 : 1) * (1 - e) * r;
    return {x > 0 ? r : e * r, pq, pq * s, pq * (s * s - 2 * pq)};
}

template <int K, int O>
Jet<K, O> exp(const Jet<K, O>& u) {
    return compose(exp_curve(u.value()), u);
}
template <int K, int O>
Jet<K, O> expm1(const Jet<K, O>& u) {
    return compose(expm1_curve(u.value()), u);
}
template <int K, int O>
Jet<K, O> log(const Jet<K, O>& u) {
    return compose(log_curve(u.value()), u);
}
template <int K, int O>
Jet<K, O> log1p(const Jet<K, O>& u) {
    return compose(log1p_curve(u.value()), u);
}
template <int K, int O>
Jet<K, O> softplus(const Jet<K, O>& u) {
    return compose(softplus_curve(u.value()), u);
}
template <int K, int O>
Jet<K, O> expit(const Jet<K, O>& u) {
    return compose(expit_curve(u.value()), u);
}

// exp(x) - 1 - x
inline Curve exp_remainder_curve(double x) {
    const double e = std::exp(x), m = std::expm1(x);
    double f = m - x;
    if (std::fabs(x) < 0.5) {
        double term = x * x / 2;
        f = term;
        for (int n = 3; n < 18; ++n) f += term *= x / n;
    }
    return {f, m, e, e};
}

// A curve of special.hpp at a jet; of a constant only the value is computed.
template <class F, int K, int O>
Jet<K, O> apply(F&& curve, const Jet<K, O>& u) {
    return compose(curve(u.value(), u.constant() ? 0 : O), u);
}

// F(u, v), F known by its derivatives to third order at the values of u and v.
template <int K, int O>
Jet<K, O> compose(const Jet<2, 3>& F, const Jet<K, O>& u, const Jet<K, O>& v) {
    using J = Jet<K, O>;
    if (u.constant() && v.constant()) return J(F.value());
    const J du = u - u.value(), dv = v - v.value();
    J r = F.d[1] * du + F.d[2] * dv + F.d[0];
    if constexpr (O > 1) {
        const J uu = du * du, uv = du * dv, vv = dv * dv;
        r += (F.d[3] / 2) * uu + F.d[4] * uv + (F.d[5] / 2) * vv;
        if constexpr (O > 2)
            r += (F.d[6] / 6) * (uu * du) + (F.d[7] / 2) * (uu * dv) + (F.d[8] / 2) * (uv * dv) +
                 (F.d[9] / 6) * (vv * dv);
    }
    return r;
}

} // namespace ranef
