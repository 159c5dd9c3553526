// The log probability of an interval of the standard normal distribution.
#pragma once

#include "curves.hpp"

namespace ranef {

namespace interval {

// Gauss and Legendre's rule of ten points, the positive half.
constexpr double nodes[] = {0.14887433898163122, 0.43339539412924721, 0.67940956829902444,
                            0.86506336668898454, 0.97390652851717174};
constexpr double weights[] = {0.29552422471475281, 0.26926671930999652, 0.21908636251598201,
                              0.14945134915058039, 0.066671344308688138};

// By quadrature around the middle m: no digits are lost however short it is.
template <class T>
T by_quadrature(const T& m, const T& h) {
    T sum(0);
    for (int i = 0; i < 5; ++i) {
        const T t = nodes[i] * h, mt = m * t, g = -0.5 * (t * t);
        sum += weights[i] * (exp(g - mt) + exp(g + mt));
    }
    return log(sum) + log(h) - 0.5 * (m * m) - 0.5 * log_2pi;
}

} // namespace interval

// log(Phi(b + w) - Phi(b)), w > 0.
template <class T>
T log_normal_interval(const T& b, const T& w) {
    const T a = b + w;
    if (a.value() + b.value() > 0) return log_normal_interval(-a, w);
    const T m = b + 0.5 * w;
    if (w.value() < 0.5 && -m.value() * w.value() < 5) return interval::by_quadrature(m, 0.5 * w);
    const T upper = apply(log_normal, a), ratio = upper - apply(log_normal, b);
    return upper + apply(log_hit, log(ratio));
}

} // namespace ranef
