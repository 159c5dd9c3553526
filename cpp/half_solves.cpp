// Half of a solve: w = L^-1 a of combinations a of (b_e, beta), LL' = Omega.
//
// The inverse of Omega is the covariance (relative to sigma^2) of the errors of
// prediction, so that a'Omega^-1 c = w_a'w_c for any two combinations, the quadratic
// form of one is the square of its length, and with e ~ N(0, I) the numbers w'e are a
// joint draw of all of them. Without the last p entries the covariance is that given
// beta.
//
// Elimination goes up the chain and ends in the dense tail: a combination of one
// level of each factor touches its own levels and their ancestors only, and the
// part of w that belongs to the chain stays sparse.
#include <algorithm>

#include "criterion.hpp"
#include "dense.hpp"
#include "levels.hpp"

namespace ranef {

namespace {

// A level of the chain that a combination touches, with its coefficients.
struct Node {
    int level;
    Vector a;
};

using Nodes = std::vector<Node>;

Vector& coefficients_of(Nodes& nodes, int level, int r) {
    for (Node& node : nodes)
        if (node.level == level) return node.a;
    nodes.push_back({level, Vector(r, 0.0)});
    return nodes.back().a;
}

// t = L^-1 Lambda'a of one level, L and Lambda row-major.
Vector whitened(int r, const double* L, const Vector& Lambda, const Vector& a) {
    Vector t(r);
    for (int i = 0; i < r; ++i) {
        double v = 0;
        for (int k = i; k < r; ++k) v += Lambda[k * r + i] * a[k];
        for (int k = 0; k < i; ++k) v -= L[i * r + k] * t[k];
        t[i] = v / L[i * r + i];
    }
    return t;
}

} // namespace

HalfSolves Criterion::half_solves(size_t rows, const std::vector<const int32_t*>& levels,
                                  const std::vector<const double*>& z, const double* X) {
    const Vector phi = phi_;
    factorise(phi.data());
    return half_solve(0, rows, levels, z, X);
}

void Criterion::quadratic_forms(size_t rows, const std::vector<const int32_t*>& levels,
                                const std::vector<const double*>& z, const double* X, double* out) {
    const Vector phi = phi_;
    factorise(phi.data());
    const int N = b_.order();
    constexpr size_t block = 64;
    for (size_t start = 0; start < rows; start += block) {
        const size_t m = std::min(block, rows - start);
        const HalfSolves w = half_solve(start, m, levels, z, X);
        for (size_t row = 0; row < m; ++row) {
            const double* chain = w.value.data() + w.ptr[row];
            const double* tail = w.tail.data() + row * N;
            out[start + row] = inner(static_cast<int>(w.ptr[row + 1] - w.ptr[row]), chain, chain) +
                               inner(N, tail, tail);
        }
    }
}

HalfSolves Criterion::half_solve(size_t first, size_t rows,
                                 const std::vector<const int32_t*>& levels,
                                 const std::vector<const double*>& z, const double* X) {
    const int N = b_.order(), T = b_.T, p = b_.p, depth = static_cast<int>(b_.chain.size());
    std::vector<int64_t> start(depth + 1, 0); // of the entries of each factor of the chain
    for (int d = 0; d < depth; ++d)
        start[d + 1] = start[d] + static_cast<int64_t>(b_.chain[d].q) * b_.chain[d].r;
    HalfSolves out;
    out.columns = start[depth];
    out.tail.assign(rows * N, 0.0);
    out.ptr.reserve(rows + 1);
    out.ptr.push_back(0);
    for (size_t row = first; row < first + rows; ++row) {
        double* x = out.tail.data() + (row - first) * N;
        std::copy(X + row * p, X + (row + 1) * p, x + T);
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            const int32_t l = levels[t][row];
            for (int a = 0; l >= 0 && a < f.r; ++a)
                x[f.column + l * f.r + a] += z[t][row * f.r + a];
        }
        std::vector<Nodes> nodes(depth);
        for (int d = 0; d < depth; ++d) {
            const ChainBlock& c = b_.chain[d];
            const int r = c.r, wp = c.width - r;
            const int32_t own = levels[c.factor][row];
            if (own >= 0) {
                Vector& a = coefficients_of(nodes[d], b_.factors[c.factor].rank_of[own], r);
                for (int k = 0; k < r; ++k) a[k] += z[c.factor][row * r + k];
            }
            for (const Node& node : nodes[d]) {
                const size_t j = node.level;
                const Vector t = whitened(r, L_[d].data() + j * r * r, lambda_[c.factor], node.a);
                for (int s = 0; s < r; ++s) {
                    out.index.push_back(start[d] + static_cast<int64_t>(j) * r + s);
                    out.value.push_back(t[s]);
                }
                const double* W = W_[d].data() + j * r * wp;
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const int ru = b_.chain[d + 1 + k].r;
                    Vector& a = coefficients_of(nodes[d + 1 + k], c.ancestor[k][j], ru);
                    for (int e = 0; e < ru; ++e)
                        for (int s = 0; s < r; ++s)
                            a[e] -= W[static_cast<size_t>(s) * wp + off + e] * t[s];
                    off += ru;
                }
                for (int e = 0; e < p; ++e)
                    for (int s = 0; s < r; ++s)
                        x[T + e] -= W[static_cast<size_t>(s) * wp + off + e] * t[s];
                if (T == 0) continue;
                const int64_t first = b_.tail_ptr[j];
                const int width = static_cast<int>(b_.tail_ptr[j + 1] - first);
                const double* w = tail_W_.data() + first * r;
                for (int s = 0; s < r; ++s)
                    for (int e = 0; e < width; ++e)
                        x[b_.tail_column[first + e]] -=
                            w[static_cast<size_t>(s) * width + e] * t[s];
            }
        }
        out.ptr.push_back(static_cast<int64_t>(out.index.size()));
    }
    const int m = static_cast<int>(rows);
    kernel_vector(out.tail, m, true);
    Vector column(N);
    for (size_t row = 0; row < rows; ++row) {
        double* x = out.tail.data() + row * N;
        scale_vector(x, column.data());
        std::copy(column.begin(), column.end(), x);
    }
    if (m > 0) solve_lower(N, m, S_.data(), N, out.tail.data(), std::max(N, 1));
    return out;
}

} // namespace ranef
