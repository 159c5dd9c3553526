// Second derivatives by forward jets.
#pragma once

#include <cmath>

namespace ranef {

// v + a e1 + b e2 + ab e1 e2 with e1^2 = e2^2 = 0: a value, its derivatives in
// two directions, and the mixed second derivative.
struct Jet {
    double v = 0.0, a = 0.0, b = 0.0, ab = 0.0;
};

inline Jet operator+(const Jet& x, const Jet& y) {
    return {x.v + y.v, x.a + y.a, x.b + y.b, x.ab + y.ab};
}

inline Jet operator-(const Jet& x, const Jet& y) {
    return {x.v - y.v, x.a - y.a, x.b - y.b, x.ab - y.ab};
}

inline Jet operator*(const Jet& x, const Jet& y) {
    return {x.v * y.v, x.a * y.v + x.v * y.a, x.b * y.v + x.v * y.b,
            x.ab * y.v + x.a * y.b + x.b * y.a + x.v * y.ab};
}

inline Jet operator*(double c, const Jet& x) {
    return {c * x.v, c * x.a, c * x.b, c * x.ab};
}

// f(x), given f and its first two derivatives at x.v.
inline Jet chain(const Jet& x, double f, double f1, double f2) {
    return {f, f1 * x.a, f1 * x.b, f1 * x.ab + f2 * x.a * x.b};
}

inline Jet sin(const Jet& x) {
    return chain(x, std::sin(x.v), std::cos(x.v), -std::sin(x.v));
}

inline Jet cos(const Jet& x) {
    return chain(x, std::cos(x.v), -std::sin(x.v), -std::cos(x.v));
}

inline Jet exp(const Jet& x) {
    const double e = std::exp(x.v);
    return chain(x, e, e, e);
}

// x^k, k a positive integer.
inline Jet power(const Jet& x, double k) {
    const double second = k < 2.0 ? 0.0 : k * (k - 1.0) * std::pow(x.v, k - 2.0);
    return chain(x, std::pow(x.v, k), k * std::pow(x.v, k - 1.0), second);
}

inline Jet constant(double v) {
    return {v, 0.0, 0.0, 0.0};
}

} // namespace ranef
