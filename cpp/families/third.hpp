// Forward jets to third order: a value with its partial derivatives in K variables.
//
// They stand in one array in the order of Derivatives (family.hpp), so that a jet
// is a column of a family's answer. What is not asked for is not computed: K is the
// number of active predictors, O the highest order (0, 2 or 3).
#pragma once

namespace ranef {

// A function of one variable with its derivatives.
struct Curve {
    double f = 0, f1 = 0, f2 = 0, f3 = 0;
};

namespace third {

constexpr int pair(int a, int b, int k) {
    return a * k - a * (a - 1) / 2 + b - a;
}

constexpr int seconds(int k) {
    return k * (k + 1) / 2;
}

constexpr int size(int k, int order) {
    return 1 + (order > 0 ? k : 0) + (order > 1 ? seconds(k) : 0) +
           (order > 2 ? k * (k + 1) * (k + 2) / 6 : 0);
}

} // namespace third

template <int K, int O>
struct Jet {
    static constexpr int order = O;
    static constexpr int size = third::size(K, O);
    double d[size];

    Jet() = default;
    Jet(double value) {
        d[0] = value;
        for (int i = 1; i < size; ++i) d[i] = 0;
    }
    static Jet variable(double value, int a) {
        Jet r(value);
        if (O > 0) r.d[1 + a] = 1;
        return r;
    }
    double value() const { return d[0]; }
    static constexpr int second(int a, int b) {
        return 1 + K + (a <= b ? third::pair(a, b, K) : third::pair(b, a, K));
    }
    bool constant() const {
        for (int i = 1; i < size; ++i)
            if (d[i] != 0) return false;
        return true;
    }
    Jet& operator+=(const Jet& u) {
        for (int i = 0; i < size; ++i) d[i] += u.d[i];
        return *this;
    }
    Jet& operator-=(const Jet& u) {
        for (int i = 0; i < size; ++i) d[i] -= u.d[i];
        return *this;
    }
    Jet& operator*=(double s) {
        for (int i = 0; i < size; ++i) d[i] *= s;
        return *this;
    }
    friend Jet operator+(Jet u, const Jet& v) { return u += v; }
    friend Jet operator-(Jet u, const Jet& v) { return u -= v; }
    friend Jet operator*(Jet u, double s) { return u *= s; }
    friend Jet operator*(double s, Jet u) { return u *= s; }
    friend Jet operator-(Jet u) { return u *= -1; }
    friend Jet operator+(Jet u, double s) {
        u.d[0] += s;
        return u;
    }
    friend Jet operator+(double s, Jet u) { return u + s; }
    friend Jet operator-(Jet u, double s) { return u + -s; }
    friend Jet operator-(double s, Jet u) { return -u + s; }

    friend Jet operator*(const Jet& u, const Jet& v) {
        Jet r;
        r.d[0] = u.d[0] * v.d[0];
        if constexpr (O > 0)
            for (int a = 0; a < K; ++a) r.d[1 + a] = u.d[0] * v.d[1 + a] + u.d[1 + a] * v.d[0];
        if constexpr (O > 1) {
            int i = 1 + K;
            for (int a = 0; a < K; ++a)
                for (int b = a; b < K; ++b, ++i)
                    r.d[i] = u.d[0] * v.d[i] + u.d[1 + a] * v.d[1 + b] + u.d[1 + b] * v.d[1 + a] +
                             u.d[i] * v.d[0];
        }
        if constexpr (O > 2) {
            int i = 1 + K + third::seconds(K);
            for (int a = 0; a < K; ++a)
                for (int b = a; b < K; ++b)
                    for (int c = b; c < K; ++c, ++i) {
                        const int ab = second(a, b), ac = second(a, c), bc = second(b, c);
                        r.d[i] = u.d[0] * v.d[i] + u.d[1 + a] * v.d[bc] + u.d[1 + b] * v.d[ac] +
                                 u.d[1 + c] * v.d[ab] + u.d[ab] * v.d[1 + c] +
                                 u.d[ac] * v.d[1 + b] + u.d[bc] * v.d[1 + a] + u.d[i] * v.d[0];
                    }
        }
        return r;
    }
};

// f(u) by the chain rule (Faa di Bruno), f known by its curve at the value of u.
template <int K, int O>
Jet<K, O> compose(const Curve& c, const Jet<K, O>& u) {
    using J = Jet<K, O>;
    if (u.constant()) return J(c.f);
    J r;
    r.d[0] = c.f;
    if constexpr (O > 0)
        for (int a = 0; a < K; ++a) r.d[1 + a] = c.f1 * u.d[1 + a];
    if constexpr (O > 1) {
        int i = 1 + K;
        for (int a = 0; a < K; ++a)
            for (int b = a; b < K; ++b, ++i)
                r.d[i] = c.f1 * u.d[i] + c.f2 * u.d[1 + a] * u.d[1 + b];
    }
    if constexpr (O > 2) {
        int i = 1 + K + third::seconds(K);
        for (int a = 0; a < K; ++a)
            for (int b = a; b < K; ++b)
                for (int e = b; e < K; ++e, ++i)
                    r.d[i] = c.f1 * u.d[i] +
                             c.f2 * (u.d[J::second(a, b)] * u.d[1 + e] +
                                     u.d[J::second(a, e)] * u.d[1 + b] +
                                     u.d[J::second(b, e)] * u.d[1 + a]) +
                             c.f3 * u.d[1 + a] * u.d[1 + b] * u.d[1 + e];
    }
    return r;
}

} // namespace ranef
