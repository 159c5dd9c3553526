#include "least_squares.hpp"

#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int row_parts = 16;
constexpr size_t worth_threads = 20000; // rows

// One pass: out = (in - offset - X b) * factor, with its sum of squares and X'out.
struct Pass {
    double square = 0;
    Vector products;
};

Pass subtract(size_t n, const FixedRows& X, const Vector* b, double factor, const double* in,
              const double* offset, double* out, int threads) {
    const int p = X.p;
    const auto bounds = partition(n, row_parts);
    std::vector<Pass> parts(row_parts);
    for_chunks(row_parts, n > worth_threads ? threads : 1, [&](int c) {
        Pass& part = parts[c];
        part.products.assign(p, 0.0);
        double* sums = part.products.data();
        double square = 0;
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) {
            double r = in[i];
            if (offset) r -= offset[i];
            if (b) r -= X.times(i, b->data());
            r *= factor;
            out[i] = r;
            square += r * r;
            X.add(i, r, sums);
        }
        part.square = square;
    });
    Pass all{0, Vector(p, 0.0)};
    for (const Pass& part : parts) {
        all.square += part.square;
        for (int e = 0; e < p; ++e) all.products[e] += part.products[e];
    }
    return all;
}

} // namespace

Freed free_of_fixed(size_t n, const FixedRows& X, const Vector& x_scale, const Vector& gram,
                    size_t k, const double* Y, const double* offset, int threads) {
    const int p = X.p;
    Freed out{Vector(k * n), Vector(k * p, 0.0), Vector(k), Vector(k)};
    Vector factor(gram);
    if (!cholesky(p, factor.data(), p)) std::fill(factor.begin(), factor.end(), std::nan(""));
    const double rows = static_cast<double>(n);
    auto one = [&](size_t j, int workers) {
        double* rest = out.rest.data() + j * n;
        double* beta = out.beta.data() + j * p;
        Pass pass = subtract(n, X, nullptr, 1.0, Y + j * n, offset, rest, workers);
        out.size[j] = std::sqrt(pass.square / rows);
        double left = pass.square;
        for (int round = 0; round < 2; ++round) {
            Vector step(p), scaled(p);
            for (int e = 0; e < p; ++e) step[e] = pass.products[e] * x_scale[e];
            solve_lower(p, 1, factor.data(), p, step.data(), std::max(p, 1));
            left = pass.square - dot(p, step.data(), step.data());
            solve_lower_transposed(p, 1, factor.data(), p, step.data(), std::max(p, 1));
            for (int e = 0; e < p; ++e) {
                beta[e] += step[e];
                scaled[e] = step[e] * x_scale[e];
            }
            const double scale = std::sqrt(std::max(left, 0.0) / rows);
            const bool last = round == 1;
            pass = subtract(n, X, &scaled, last && scale > 0 ? 1 / scale : 1.0, rest, nullptr, rest,
                            workers);
            if (last) out.scale[j] = scale;
        }
    };
    if (k == 1)
        one(0, threads);
    else
        for_tasks(static_cast<int>(k), k * n > worth_threads ? threads : 1,
                  [&](int j) { one(j, 1); });
    return out;
}

} // namespace ranef
