#include "tail.hpp"

#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sparse_tail.hpp"

namespace ranef {

std::unique_ptr<Tail> make_tail(const Blocks& blocks, int threads) {
    if (blocks.sparse) return std::make_unique<SparseTail>(blocks, threads);
    return std::make_unique<DenseTail>(blocks, threads);
}

void kernel_times(const Blocks& b, Vector& v, int columns, bool transposed) {
    for (int t : b.tail) {
        const Factor& f = b.factors[t];
        if (!f.kernel) continue;
        const int ld = static_cast<int>(v.size() / columns);
        Vector part(static_cast<size_t>(f.q) * columns);
        for (int a = 0; a < f.r; ++a) {
            for (int c = 0; c < columns; ++c)
                for (int l = 0; l < f.q; ++l)
                    part[at(l, c, f.q)] = v[at(f.column + l * f.r + a, c, ld)];
            triangle_times(f.q, columns, f.kernel->data(), f.q, transposed, part.data(), f.q);
            for (int c = 0; c < columns; ++c)
                for (int l = 0; l < f.q; ++l)
                    v[at(f.column + l * f.r + a, c, ld)] = part[at(l, c, f.q)];
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
