#include "tail.hpp"

#include <algorithm>

#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sparse_tail.hpp"

namespace ranef {

namespace {

constexpr int most_columns = 256; // that are brought together for one product with a kernel

} // namespace

std::unique_ptr<Tail> make_tail(const Blocks& blocks, int threads) {
    if (blocks.sparse) return std::make_unique<SparseTail>(blocks, threads);
    return std::make_unique<DenseTail>(blocks, threads);
}

void kernel_times(const Blocks& b, Vector& v, int columns, bool transposed) {
    const int ld = static_cast<int>(v.size() / std::max(columns, 1));
    Vector part;
    for (int t : b.tail) {
        const Factor& f = b.factors[t];
        if (!f.kernel) continue;
        part.resize(static_cast<size_t>(f.q) * std::min(columns, most_columns));
        for (int first = 0; first < columns; first += most_columns) {
            const int count = std::min(most_columns, columns - first);
            for (int a = 0; a < f.r; ++a) {
                double* own = v.data() + at(f.column + a, first, ld);
                for (int c = 0; c < count; ++c)
                    for (int l = 0; l < f.q; ++l) part[at(l, c, f.q)] = own[at(l * f.r, c, ld)];
                triangle_times(f.q, count, f.kernel->data(), f.q, transposed, part.data(), f.q);
                for (int c = 0; c < count; ++c)
                    for (int l = 0; l < f.q; ++l) own[at(l * f.r, c, ld)] = part[at(l, c, f.q)];
            }
        }
    }
}

void divide_by_factor(int r, const double* Lambda, const double* BL, double* G) {
    for (int a = 0; a < r; ++a)
        for (int c = r - 1; c >= 0; --c) {
            double v = BL[a * r + c];
            for (int k = c + 1; k < r; ++k) v -= G[a * r + k] * Lambda[k * r + c];
            G[a * r + c] = v / Lambda[c * r + c];
        }
    for (int a = 0; a < r; ++a)
        for (int c = 0; c < a; ++c) G[a * r + c] = G[c * r + a] = (G[a * r + c] + G[c * r + a]) / 2;
}

} // namespace ranef
