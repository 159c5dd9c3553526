#include "panels.hpp"

#include <algorithm>
#include <atomic>

#include "families/lanes.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int wide = 32; // columns of a panel

// The lanes of a panel are what is to be vectorised. GCC takes the loop around them as well, with
// strided loads, unless something stands in it that it cannot move.
RANEF_INLINE void keep_order() {
#if defined(__GNUC__) && !defined(__clang__)
    __asm__ volatile("");
#endif
}

// What a panel (n, wide) row-major goes through.
struct Pass {
    int r, directions, n;
    std::size_t levels;
    const std::int64_t* ptr;
    const std::int32_t* column;
    const double *value, *D; // D (directions, r, r)
};

// t (wide) += sum_e k_e X[column_e]
RANEF_INLINE void gather(std::int64_t m, const std::int32_t* column, const double* k,
                         const double* X, double* t) {
    for (std::int64_t e = 0; e < m; ++e) {
        const double* __restrict x = X + static_cast<std::size_t>(column[e]) * wide;
        const double v = k[e];
        for (int b = 0; b < wide; ++b) t[b] += v * x[b];
        keep_order();
    }
}

// Y[column_e] += k_e t
RANEF_INLINE void scatter(std::int64_t m, const std::int32_t* column, const double* k,
                          const double* t, double* Y) {
    for (std::int64_t e = 0; e < m; ++e) {
        double* __restrict y = Y + static_cast<std::size_t>(column[e]) * wide;
        const double v = k[e];
        for (int b = 0; b < wide; ++b) y[b] += v * t[b];
        keep_order();
    }
}

// Rows of one column, one direction.
RANEF_CLONES void run_single(const Pass& p, const double* __restrict X, double* __restrict Y) {
    const double d = p.D[0];
    for (std::size_t l = 0; l < p.levels; ++l) {
        const std::int64_t start = p.ptr[l], m = p.ptr[l + 1] - start;
        double t[wide];
        for (int b = 0; b < wide; ++b) t[b] = 0;
        gather(m, p.column + start, p.value + start, X, t);
        for (int b = 0; b < wide; ++b) t[b] *= d;
        scatter(m, p.column + start, p.value + start, t, Y);
    }
}

// Any; room (r, wide) is work space.
RANEF_CLONES void run_any(const Pass& p, const double* __restrict X, double* __restrict Y,
                          double* __restrict room) {
    const int r = p.r;
    for (std::size_t l = 0; l < p.levels; ++l) {
        const std::int64_t start = p.ptr[l], m = p.ptr[l + 1] - start;
        const double* k = p.value + start * r;
        std::fill_n(room, static_cast<std::size_t>(r) * wide, 0.0);
        for (int a = 0; a < r; ++a) gather(m, p.column + start, k + a * m, X, room + a * wide);
        for (int i = 0; i < p.directions; ++i) {
            const double* D = p.D + static_cast<std::size_t>(i) * r * r;
            double* out = Y + static_cast<std::size_t>(i) * p.n * wide;
            for (int a = 0; a < r; ++a) {
                double t[wide];
                for (int b = 0; b < wide; ++b) t[b] = D[a * r] * room[b];
                for (int e = 1; e < r; ++e)
                    for (int b = 0; b < wide; ++b) t[b] += D[a * r + e] * room[e * wide + b];
                scatter(m, p.column + start, k + a * m, t, out);
            }
        }
    }
}

} // namespace

void through_rows(const SparseRows& rows, const std::vector<const double*>& D, int n, int k,
                  const double* X, const std::vector<double*>& Y, int ld, int threads) {
    const int r = rows.r, directions = static_cast<int>(D.size());
    Vector all;
    for (const double* d : D) all.insert(all.end(), d, d + static_cast<std::size_t>(r) * r);
    const Pass pass{r,
                    directions,
                    n,
                    rows.ptr.size() - 1,
                    rows.ptr.data(),
                    rows.column.data(),
                    rows.value.data(),
                    all.data()};
    const int panels = (k + wide - 1) / wide;
    const std::size_t size = static_cast<std::size_t>(n) * wide;
    std::atomic<int> next{0};
    for_chunks(std::min(panels, threads), threads, [&](int) {
        Vector in(size), out(size * directions), room(static_cast<std::size_t>(r) * wide);
        for (int panel = next++; panel < panels; panel = next++) {
            const int first = panel * wide, count = std::min(wide, k - first);
            if (count < wide) std::fill(in.begin(), in.end(), 0.0);
            std::fill(out.begin(), out.end(), 0.0);
            for (int b = 0; b < count; ++b) {
                const double* x = X + static_cast<std::size_t>(first + b) * ld;
                for (int i = 0; i < n; ++i) in[static_cast<std::size_t>(i) * wide + b] = x[i];
            }
            if (r == 1 && directions == 1)
                run_single(pass, in.data(), out.data());
            else
                run_any(pass, in.data(), out.data(), room.data());
            for (int d = 0; d < directions; ++d)
                for (int b = 0; b < count; ++b) {
                    const double* from = out.data() + d * size + b;
                    double* y = Y[d] + static_cast<std::size_t>(first + b) * ld;
                    for (int i = 0; i < n; ++i) y[i] = from[static_cast<std::size_t>(i) * wide];
                }
        }
    });
}

} // namespace ranef
