// What the algorithms on supernodes share.
#pragma once

#include "sparse_cholesky.hpp"
#include "threads.hpp"

namespace ranef {

constexpr double worth_wave_threads = 2e6; // flops of a factorisation

// Positions of the rows from `begin` of supernode s among the rows of t, which holds all.
inline void relative_rows(const SparsePattern& P, int s, int begin, int t, Indices& out) {
    const int32_t *from = P.rows_of(s), *to = P.rows_of(t);
    const int m = P.rows(s);
    out.resize(m - begin);
    int k = 0;
    for (int i = begin; i < m; ++i) {
        if (from[i] < P.first[t + 1])
            k = from[i] - P.first[t];
        else
            while (to[k] != from[i]) ++k;
        out[i - begin] = k;
    }
}

// Calls task(s) for all supernodes, descendants first or ancestors first.
template <class Task>
inline void by_waves(const SparsePattern& P, bool down, int threads, Task&& task) {
    const int waves = static_cast<int>(P.waves.size());
    if (P.flops < worth_wave_threads) threads = 1;
    for (int w = 0; w < waves; ++w) {
        const Indices& wave = P.waves[down ? waves - 1 - w : w];
        const int count = static_cast<int>(wave.size());
        if (threads == 1 || count < 2 * threads)
            for (int32_t s : wave) task(s);
        else
            for_tasks(count, threads, [&](int i) { task(wave[i]); });
    }
}

// Row k of the border as a matrix: (p, w) at the supernode's columns.
inline double* border_of(const SparsePattern& P, int p, BorderedMatrix& S, int s) {
    return S.border.data() + static_cast<size_t>(P.first[s]) * p;
}
inline const double* border_of(const SparsePattern& P, int p, const BorderedMatrix& S, int s) {
    return S.border.data() + static_cast<size_t>(P.first[s]) * p;
}

} // namespace ranef
