// Branch-free exp, log1p and log for loops that the compiler turns into vector code: no
// calls, no tables. Relative errors below 4e-16, 6e-16 and 6e-16.
//
// RANEF_CLONES compiles a loop also for the wider vectors of newer processors, and
// the loader picks. Products and sums are not fused, so that all give the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) &&           \
    defined(__GLIBC__) &&                                                                          \
    !defined(RANEF_SANITIZED) // the loader picks before a sanitizer is ready
#define RANEF_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define RANEF_CLONES
#endif

#if defined(__GNUC__)
#define RANEF_INLINE inline __attribute__((always_inline))
#else
#define RANEF_INLINE inline
#endif

namespace ranef {

namespace lanes {

// exp(x), -708 <= x <= 709: x = k log 2 + r, Taylor's series in r, then 2^k by its bits.
RANEF_INLINE double exp(double x) {
    constexpr double rounder = 6755399441055744.0; // 1.5 * 2^52
    constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    const double shifted = x * 1.4426950408889634074 + rounder;
    const double k = shifted - rounder, r = (x - k * ln2_high) - k * ln2_low;
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = (p * r + 1) * r + 1;
    std::uint64_t bits; // unsigned: what is shifted out is dropped
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    double power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// log((1 + s) / (1 - s)): the area tangent's series, for s within 3 - sqrt(8) of nothing.
RANEF_INLINE double twice_artanh(double s) {
    const double s2 = s * s;
    double p = 1.0 / 19;
    p = p * s2 + 1.0 / 17;
    p = p * s2 + 1.0 / 15;
    p = p * s2 + 1.0 / 13;
    p = p * s2 + 1.0 / 11;
    p = p * s2 + 1.0 / 9;
    p = p * s2 + 1.0 / 7;
    p = p * s2 + 1.0 / 5;
    p = p * s2 + 1.0 / 3;
    return 2 * s * (p * s2 + 1);
}

// log(1 + e), 0 <= e <= 1: the series around 1 or around 2.
RANEF_INLINE double log1p(double e) {
    const bool half = e > 0.41421356237309504880;
    const double s = (half ? e - 1 : e) / (half ? e + 3 : e + 2);
    return (half ? 0.69314718055994530942 : 0.0) + twice_artanh(s);
}

// log(x), x a positive normal number: x = 2^k m, the series around m = 1.
RANEF_INLINE double log(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    // the exponent of x / sqrt(1/2), so that m lies in [sqrt(1/2), sqrt(2))
    const std::uint64_t shifted = bits - 0x3fe6a09e667f3bcdULL;
    const std::uint64_t exponent =
        (((shifted >> 52) + 1023) & 0x7ff) | 0x4330000000000000ULL; // 2^52 + k + 1023
    double k;
    std::memcpy(&k, &exponent, sizeof k);
    k -= 4503599627370496.0 + 1023.0;
    const std::uint64_t mantissa = bits - (shifted & 0xfff0000000000000ULL);
    double m;
    std::memcpy(&m, &mantissa, sizeof m);
    return k * 0.69314718055994530942 + twice_artanh((m - 1) / (m + 1));
}

RANEF_INLINE double clamp(double x, double low, double high) {
    const double above = x > low ? x : low;
    return above < high ? above : high;
}

} // namespace lanes

} // namespace ranef
