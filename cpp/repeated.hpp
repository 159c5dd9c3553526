// Linear mixed models of many outcomes with one grouping factor and one design:
// y = X b + Z u + e, u of each level ~ N(0, sigma^2 Psi), at each of N voxels.
//
// Levels with the same rows of X and Z are one class: a voxel's likelihood needs only sums over the
// levels of each class, so that an evaluation costs as much as there are classes.
#pragma once

#include <cstddef>

namespace ranef {

constexpr int most_slopes = 3;           // columns of Z
constexpr int most_fixed_of_voxels = 16; // columns of X

// Outcomes (n, N) as float or double; X (n, p) with orthonormal columns, Z (n, q); the level of
// each row, the class of each level.
struct Repeated {
    const void* Y;
    bool single;
    std::size_t n, N;
    const double* X;
    const double* Z;
    int p, q;
    const int* level;
    const int* kind;
    std::size_t levels, classes;
    bool restricted;
};

// Columns of length N; NaN where an outcome does not vary about its fixed effects.
struct RepeatedFits {
    double* beta;   // (p, N)
    double* psi;    // (q (q + 1) / 2, N), the upper triangle by rows
    double* sigma2; // (N)
    double* loglik; // (N)
    double* bread;  // (p (p + 1) / 2, N), sigma^2 (X'V^-1 X)^-1
    double* spread; // (q (q + 1) / 2 + 1, p (p + 1) / 2, N): twice the squares of c'E_k c, summed,
                    // are what Satterthwaite divides by
    double* rank;   // (N), of Psi
    double* steps;  // (N)
    double* decrement; // (N): what the criterion would still fall by
};

void repeated(const Repeated& data, const RepeatedFits& out, int threads);

} // namespace ranef
