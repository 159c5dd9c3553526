// Models of voxels compiled for newer processors; all give the same bits.
#pragma once

#include "mixed_effects.hpp"

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) &&           \
    !defined(RANEF_SANITIZED)
#define RANEF_LEVELS
#endif

#if defined(RANEF_LEVELS)

namespace ranef {

constexpr int most_columns_of_levels = 4;

inline bool has_v3() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
}
inline bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

#define RANEF_OF_A_LEVEL(NAME)                                                                     \
    namespace NAME {                                                                               \
    void mixed_effects(const Voxels& data, Heterogeneity method, const VoxelFits& out,             \
                       int threads);                                                               \
    void flipped(const Voxels& data, const void* base, const double* contrast, int r,              \
                 const double* signs, std::size_t F, Heterogeneity method, Scaling scaling,        \
                 double* t, int threads);                                                          \
    }
RANEF_OF_A_LEVEL(v3)
RANEF_OF_A_LEVEL(v4)
#undef RANEF_OF_A_LEVEL

} // namespace ranef

#endif
