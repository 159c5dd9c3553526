// Reads of pairs (library, taxon) on an even grid of log contamination.
//
// A pair has y reads, negative binomial of size phi around mu = r kappa exp(d) + chi: rate r,
// contamination kappa of the grid, deviation d of the library with variance v, spill chi.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ranef {

// Nodes first, first + step, ..., K of them, of log kappa.
struct EvenGrid {
    double first, step;
    std::size_t K;
};

// P pairs, each array of length P.
struct CountedPairs {
    std::size_t P;
    const double* reads;
    const double* rate;
    const double* spill;
};

// Where the grid of a library's own contamination lies on the common one: `shift` nodes further,
// and summed over `reach` nodes on both sides with weight `side` each. By pairs.
struct Shifts {
    const int32_t* shift;
    const int32_t* reach;
    const double* side;
};

constexpr int most_shift = 1000;

// plain, shifted (P, K): exp(y log(mu / phi) - (y + phi) log(1 + mu / phi) - top) at the nodes, and
// at the library's own; top (P).
void counts_on_grid(const CountedPairs& pairs, const Shifts& shifts, EvenGrid grid, double phi,
                    double* plain, double* shifted, double* top);

// Each row of `values` (P, K) at the library's own nodes; the ends stand for what lies beyond.
void shift_rows(std::size_t P, std::size_t K, const Shifts& shifts, const double* values,
                double* out);

// What a pair's reads are a mixture of: absent (without, or with a contamination of its own, which
// has probability `jumps`), and present with probability pi (P). Tables (P, K); those of the
// absent may have one column.
struct Mixture {
    std::size_t P, K, absent_columns;
    const double* without;
    const double* jump;
    const double* with;
    const double* pi;
    const double* jumps;
};

// mixed (P, K), not below 1e-300; leaf (L, K) += log(mixed) + scale - zero[zero_row] by `place`.
void mix_counts(const Mixture& mixture, const double* scale, const double* zero,
                const int32_t* zero_row, const int32_t* place, double* mixed, double* leaf);

// Means over the nodes by post (L, K)[place] / mixed, the posterior without the pair itself: of
// kappa, kappa^2, the three tables; then score and information of the library's deviation by post.
// out (7, P).
void expect_counts(const Mixture& mixture, const CountedPairs& pairs, EvenGrid grid, double phi,
                   const double* mixed, const double* post, const int32_t* place, double* out);

} // namespace ranef
