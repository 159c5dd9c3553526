// Rows of the fixed effects' matrix: dense, or only what is not zero where most columns belong
// to categories.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sums.hpp"

namespace ranef {

struct FixedRows {
    int p = 0;
    const double* dense = nullptr; // (n, p) row-major, unless the rows are compressed:
    const int64_t* ptr = nullptr;  // (n + 1), else null
    const int32_t* index = nullptr;
    const double* value = nullptr;

    // out += v times row i
    void add(std::size_t i, double v, double* out) const {
        if (!ptr) {
            const double* x = dense + i * p;
            for (int e = 0; e < p; ++e) out[e] += v * x[e];
        } else
            for (int64_t k = ptr[i]; k < ptr[i + 1]; ++k) out[index[k]] += v * value[k];
    }
    // Row i times b.
    double times(std::size_t i, const double* b) const {
        if (!ptr) return dot(p, dense + i * p, b);
        double s = 0;
        for (int64_t k = ptr[i]; k < ptr[i + 1]; ++k) s += value[k] * b[index[k]];
        return s;
    }
    // The lower triangle of out (p, p), by rows, += w times row i with itself.
    void add_square(std::size_t i, double w, double* out) const {
        if (!ptr) {
            const double* x = dense + i * p;
            for (int a = 0; a < p; ++a) {
                const double v = w * x[a];
                if (v == 0) continue;
                double* row = out + static_cast<std::size_t>(a) * p;
                for (int e = 0; e <= a; ++e) row[e] += v * x[e];
            }
        } else
            for (int64_t k = ptr[i]; k < ptr[i + 1]; ++k) { // columns ascend
                double* row = out + static_cast<std::size_t>(index[k]) * p;
                const double v = w * value[k];
                for (int64_t h = ptr[i]; h <= k; ++h) row[index[h]] += v * value[h];
            }
    }
};

} // namespace ranef
