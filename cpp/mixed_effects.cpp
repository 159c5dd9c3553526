#define RANEF_LEVEL plain
#define RANEF_MOST_COLUMNS 8
#include "voxel_tiles.hpp"

#include "voxel_levels.hpp"

namespace ranef {

Heterogeneity heterogeneity(const std::string& name) {
    static const char* const names[] = {"fe", "dl", "he", "hs", "sj", "pm", "ml", "reml"};
    for (int i = 0; i < 8; ++i)
        if (name == names[i]) return static_cast<Heterogeneity>(i);
    throw std::invalid_argument("there is no such estimator of the variance between subjects");
}

void mixed_effects(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads) {
#if defined(RANEF_LEVELS)
    if (data.p <= most_columns_of_levels) {
        if (has_v4()) return v4::mixed_effects(data, method, out, threads);
        if (has_v3()) return v3::mixed_effects(data, method, out, threads);
    }
#endif
    plain::mixed_effects(data, method, out, threads);
}

void flipped(const Voxels& data, const void* base, const double* contrast, int r,
             const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
             int threads) {
#if defined(RANEF_LEVELS)
    if (data.p <= most_columns_of_levels) {
        if (has_v4())
            return v4::flipped(data, base, contrast, r, signs, F, method, scaling, t, threads);
        if (has_v3())
            return v3::flipped(data, base, contrast, r, signs, F, method, scaling, t, threads);
    }
#endif
    plain::flipped(data, base, contrast, r, signs, F, method, scaling, t, threads);
}

} // namespace ranef
