// Many outcomes with known sampling variances: y_k ~ N(x_k'b, v_k + tau^2) at each of N voxels.
//
// Voxels stand side by side in the lanes of vector registers; a tile goes through one pass over
// the subjects for each value of tau^2. A subject without data at a voxel has weight zero there.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ranef {

constexpr int most_columns_of_voxels = 8;

enum class Heterogeneity { fe, dl, he, hs, sj, pm, ml, reml };

// Throws std::invalid_argument for a name that is none.
Heterogeneity heterogeneity(const std::string& name);

// Effects and variances of N voxels by K subjects as float or double, a design (K, p).
struct Voxels {
    const void* Y;
    const void* V;
    bool single;
    std::size_t K, N, stride; // from one subject to the next
    const double* X;
    int p;
};

// Columns of length N; NaN where a voxel's subjects do not determine the coefficients.
struct VoxelFits {
    double* beta;    // (p, N)
    double* bread;   // (p (p + 1) / 2, N), the upper triangle of (X'WX)^-1 by rows
    double* tau2;    // (N)
    double* scatter; // (N): weighted sum of squares of the residuals over n - p
    double* q;       // (N): the same sum at tau^2 = 0
    double* typical; // (N): (n - p) / tr P at tau^2 = 0
    double* n;       // (N): subjects with data
    double* maxima;  // (N): local maxima of the likelihood's profile
};

void mixed_effects(const Voxels& data, Heterogeneity method, const VoxelFits& out, int threads);

// How the standard error of a statistic is scaled.
enum class Scaling { none, knapp_hartung, conservative };

// Statistics (F, N) of contrast (r, p) times b for base + sign * Y, for each row of signs (F, K):
// t of one row, F of several; base like Y or null. tau^2 is estimated anew for each.
void flipped(const Voxels& data, const void* base, const double* contrast, int r,
             const double* signs, std::size_t F, Heterogeneity method, Scaling scaling, double* t,
             int threads);

} // namespace ranef
