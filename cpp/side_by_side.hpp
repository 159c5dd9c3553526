// Voxels side by side: L numbers in the lanes of vector registers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "families/lanes.hpp"

namespace ranef {

namespace {

constexpr int L = 8; // voxels side by side

// L numbers side by side. Vectors of the compiler where it has them, so that sums stay in
// registers.
#if defined(__GNUC__)
typedef double Lanes __attribute__((vector_size(L * sizeof(double))));
typedef std::int64_t Mask __attribute__((vector_size(L * sizeof(std::int64_t))));
RANEF_INLINE Lanes pick(Mask where, Lanes a, Lanes b) {
    return where ? a : b;
}
#else
struct Lanes {
    double x[L];
    double operator[](int l) const { return x[l]; }
    double& operator[](int l) { return x[l]; }
};
struct Mask {
    std::int64_t x[L];
    std::int64_t operator[](int l) const { return x[l]; }
};
inline Lanes pick(const Mask& where, Lanes a, const Lanes& b) {
    for (int l = 0; l < L; ++l) a.x[l] = where.x[l] ? a.x[l] : b.x[l];
    return a;
}
inline Mask operator~(Mask a) {
    for (int l = 0; l < L; ++l) a.x[l] = ~a.x[l];
    return a;
}
#define RANEF_COMPARE(OP)                                                                          \
    inline Mask operator OP(const Lanes& a, const Lanes& b) {                                      \
        Mask out;                                                                                  \
        for (int l = 0; l < L; ++l) out.x[l] = a.x[l] OP b.x[l] ? -1 : 0;                          \
        return out;                                                                                \
    }
RANEF_COMPARE(<)
RANEF_COMPARE(<=)
RANEF_COMPARE(>)
RANEF_COMPARE(>=)
RANEF_COMPARE(==)
#define RANEF_LOGIC(OP)                                                                            \
    inline Mask operator OP(Mask a, const Mask& b) {                                               \
        for (int l = 0; l < L; ++l) a.x[l] = a.x[l] OP b.x[l];                                     \
        return a;                                                                                  \
    }
RANEF_LOGIC(&)
RANEF_LOGIC(|)
#define RANEF_EACH(OP)                                                                             \
    inline Lanes operator OP(Lanes a, const Lanes& b) {                                            \
        for (int l = 0; l < L; ++l) a.x[l] = a.x[l] OP b.x[l];                                     \
        return a;                                                                                  \
    }                                                                                              \
    inline Lanes operator OP(Lanes a, double b) {                                                  \
        for (int l = 0; l < L; ++l) a.x[l] = a.x[l] OP b;                                          \
        return a;                                                                                  \
    }                                                                                              \
    inline Lanes operator OP(double a, Lanes b) {                                                  \
        for (int l = 0; l < L; ++l) b.x[l] = a OP b.x[l];                                          \
        return b;                                                                                  \
    }
RANEF_EACH(+)
RANEF_EACH(-)
RANEF_EACH(*)
RANEF_EACH(/)
inline Lanes& operator+=(Lanes& a, const Lanes& b) {
    return a = a + b;
}
inline Lanes& operator-=(Lanes& a, const Lanes& b) {
    return a = a - b;
}
#endif
RANEF_INLINE Lanes smaller(Lanes a, Lanes b) {
    return pick(a < b, a, b);
}
RANEF_INLINE Lanes larger(Lanes a, Lanes b) {
    return pick(a > b, a, b);
}
RANEF_INLINE Lanes size_of(Lanes a) {
    return pick(a < Lanes{}, Lanes{} - a, a);
}
RANEF_INLINE Lanes root_of(Lanes a) {
    for (int l = 0; l < L; ++l) a[l] = std::sqrt(a[l]);
    return a;
}
RANEF_INLINE bool any(Mask where) {
    std::int64_t found = 0;
    for (int l = 0; l < L; ++l) found |= where[l];
    return found != 0;
}
RANEF_INLINE double smaller(double a, double b) {
    return a < b ? a : b;
}

template <class N>
RANEF_INLINE N loaded(const double* from) {
    N out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

// Lanes in memory, where vector registers can read them.
class Strip {
  public:
    explicit Strip(std::size_t count) : numbers_(count * L + L, 0.0), count_(count) {
        const auto at = reinterpret_cast<std::uintptr_t>(numbers_.data());
        constexpr std::uintptr_t width = L * sizeof(double);
        first_ = reinterpret_cast<Lanes*>((at + width - 1) / width * width);
    }
    Strip(const Strip&) = delete;
    Strip& operator=(const Strip&) = delete;
    Lanes& operator[](std::size_t i) { return first_[i]; }
    const Lanes& operator[](std::size_t i) const { return first_[i]; }
    Lanes* begin() { return first_; }
    Lanes* end() { return first_ + count_; }

  private:
    std::vector<double> numbers_;
    std::size_t count_;
    Lanes* first_;
};

} // namespace

} // namespace ranef
