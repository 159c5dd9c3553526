// Series with a memory of their own: the likelihood of persons whose inertia and innovation
// standard deviation vary, by quadrature over these.
//
// Of a person's rows t, by series and time, with deviations D_t = dev_t - z_t'b and inputs
// I_t = inp_t + x_t'b,
//
//     D_t = a_t D_{t-1} + I_t + e_t,  e_t ~ N(0, s_t^2),  a_t = phi_t^gap,
//     s_t^2 = sigma_t^2 (1 + omega (phi^2 + phi^4 + ... + phi^(2 gap - 2))),
//
// phi_t a function of E_t + f_t'v, log sigma_t = S_t + g_t'v, and (v, b) = L u, u standard normal.
// omega - 1 is the variance of inputs, over that of the innovations, at prompts that were not seen.
// Given v everything is Gaussian and linear in b, which is integrated out in closed form; v is
// integrated by nodes.
#pragma once

#include <vector>

#include "blocks.hpp"

namespace ranef {

enum class Memory { fisher, plain, clock };

struct DynamicData {
    Memory memory = Memory::fisher;
    bool given_starts = false; // first rows of series are conditioned on
    int d = 0, qm = 0, qi = 0; // effects v; effects b of the mean and of inputs
    std::vector<int> first;    // row where each person begins, N + 1
    Vector gap;                // to the row before in the series; 0 where it begins
    Vector zm, zi, zp, zs;     // (n, qm), (n, qi), (n, d), (n, d), row-major
    int persons() const { return static_cast<int>(first.size()) - 1; }
    size_t rows() const { return gap.size(); }
    int q() const { return qm + qi; }
    int r() const { return d + q(); }
};

struct DynamicPoint {
    const double* deviation; // n
    const double* input;     // n
    const double* memory;    // n: E
    const double* scale;     // n: S
    const double* L;         // (r, r), lower, row-major
    double omega;
};

// Nodes u = mode + scale x of each person.
struct DynamicNodes {
    int count = 0;
    const double* x;     // (count, d)
    const double* log_w; // count: log of the weight over the normal density
    const double* mode;  // (N, d)
    const double* scale; // (N, d, d), lower
};

// What comes back; null pointers of what is not asked for.
struct DynamicResult {
    double* loglik;              // N
    double* deviation = nullptr; // n: derivatives in what DynamicPoint has
    double* input = nullptr;     // n
    double* memory = nullptr;    // n
    double* scale = nullptr;     // n
    double* L = nullptr;         // (N, r, r)
    double* omega = nullptr;     // N: in log omega
    double* mean = nullptr;      // (N, r): of the effects, given the data
    double* second = nullptr;    // (N, r, r): their second moments
};

void dynamic_evaluate(const DynamicData& data, const DynamicPoint& at, const DynamicNodes& nodes,
                      const DynamicResult& out, int threads);

// Where the integrand of each person is largest, from `mode` on, and the factor of its inverse
// curvature there; `steps` counts Newton's.
void dynamic_modes(const DynamicData& data, const DynamicPoint& at, double* mode, double* scale,
                   int* steps, int threads);

// Of each node: its share in the integral, the mean (q) and covariance (q, q) of b there.
void dynamic_shares(const DynamicData& data, const DynamicPoint& at, const DynamicNodes& nodes,
                    double* share, double* mean, double* covariance, int threads);

} // namespace ranef
