#include "contamination.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "families/lanes.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

constexpr double tiny = 1e-300;
constexpr std::size_t between_polls = 4096;

RANEF_CLONES void log_density(std::size_t n, const double* __restrict kappa, double rate,
                              double spill, double y, double phi, double* __restrict out) {
    const double inverse = 1.0 / phi;
    for (std::size_t k = 0; k < n; ++k) {
        const double mu = rate * kappa[k] + spill;
        const double u = (mu > 1e-12 ? mu : 1e-12) * inverse;
        out[k] = y * lanes::log(u) - (y + phi) * lanes::log(1 + u);
    }
}

RANEF_CLONES void exponentials(std::size_t n, double top, double* __restrict values) {
    for (std::size_t k = 0; k < n; ++k) {
        const double x = values[k] - top;
        const double e = lanes::exp(x > -700 ? x : -700);
        values[k] = x > -700 ? e : 0.0;
    }
}

RANEF_CLONES void smoothed(std::size_t n, std::size_t m, double w, const double* __restrict e,
                           double* __restrict out) {
    for (std::size_t k = 0; k < n; ++k) out[k] = (1 - 2 * w) * e[k + m] + w * (e[k] + e[k + 2 * m]);
}

RANEF_CLONES void mixed_row(std::size_t n, const double* __restrict f0, const double* __restrict fj,
                            const double* __restrict f1, double a, double b, double c,
                            double* __restrict mixed) {
    for (std::size_t k = 0; k < n; ++k) {
        const double value = a * f0[k] + b * fj[k] + c * f1[k];
        mixed[k] = value > tiny ? value : tiny;
    }
}

RANEF_CLONES void mixed_row_of_one(std::size_t n, double absent, const double* __restrict f1,
                                   double c, double* __restrict mixed) {
    for (std::size_t k = 0; k < n; ++k) {
        const double value = absent + c * f1[k];
        mixed[k] = value > tiny ? value : tiny;
    }
}

RANEF_CLONES void add_logs(std::size_t n, const double* __restrict mixed, double scale,
                           const double* __restrict zero, double* __restrict leaf) {
    for (std::size_t k = 0; k < n; ++k) leaf[k] += lanes::log(mixed[k]) + (scale - zero[k]);
}

// Sums over the nodes, in lanes of eight, so that the order of adding is that of every processor.
constexpr std::size_t wide = 8;
struct Sums {
    double weight[wide]{}, kappa[wide]{}, square[wide]{}, f0[wide]{}, fj[wide]{}, f1[wide]{},
        score[wide]{}, information[wide]{};
};

double total(const double* lane) {
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// A row of the tables, and what the pair is.
struct Row {
    const double *post, *mixed, *f0, *fj, *f1, *kappa;
    double rate, spill, y, phi, steady;
};

RANEF_INLINE void add_node(const Row& row, std::size_t k, std::size_t i, Sums& sums) {
    const double post = row.post[k], f0 = row.f0[k], x = row.kappa[k];
    const double q = post / row.mixed[k];
    const double mu = row.rate * x, sum = mu + row.spill, all = sum > 1e-12 ? sum : 1e-12;
    const double fall = post * mu * row.phi / (row.phi + mu);
    const double gain = q * row.steady * f0 * mu * row.phi / (all * (row.phi + all));
    sums.weight[i] += q;
    sums.kappa[i] += q * x;
    sums.square[i] += q * x * x;
    sums.f0[i] += q * f0;
    sums.fj[i] += q * row.fj[k];
    sums.f1[i] += q * row.f1[k];
    sums.score[i] += gain * (row.y - all) + fall;
    sums.information[i] += gain * mu - fall;
}

RANEF_CLONES void expected_row(std::size_t n, const Row& row, Sums& sums) {
    Sums own;
    std::size_t k = 0;
    for (; k + wide <= n; k += wide)
        for (std::size_t i = 0; i < wide; ++i) add_node(row, k + i, i, own);
    for (std::size_t i = 0; k < n; ++k, ++i) add_node(row, k, i, own);
    sums = own;
}

} // namespace

void counts_on_grid(const CountedPairs& pairs, const Shifts& shifts, EvenGrid grid, double phi,
                    double* plain, double* shifted, double* top) {
    const int K = static_cast<int>(grid.K);
    int low = 0, high = K;
    for (std::size_t p = 0; p < pairs.P; ++p) {
        low = std::min(low, shifts.shift[p] - shifts.reach[p]);
        high = std::max(high, K + shifts.shift[p] + shifts.reach[p]);
    }
    const auto width = static_cast<std::size_t>(high - low);
    std::vector<double> kappa(width), row(width);
    for (std::size_t k = 0; k < width; ++k)
        kappa[k] = std::exp(grid.first + grid.step * (low + static_cast<double>(k)));
    for (std::size_t p = 0; p < pairs.P; ++p) {
        if (p % between_polls == 0) Watch::poll();
        const int m = shifts.reach[p];
        const int from = std::min(0, shifts.shift[p] - m),
                  to = K + std::max(0, shifts.shift[p] + m);
        const auto n = static_cast<std::size_t>(to - from);
        log_density(n, kappa.data() + (from - low), pairs.rate[p], pairs.spill[p], pairs.reads[p],
                    phi, row.data());
        top[p] = *std::max_element(row.data(), row.data() + n);
        exponentials(n, top[p], row.data());
        std::copy_n(row.data() - from, grid.K, plain + p * grid.K);
        const double* own = row.data() + (shifts.shift[p] - m - from);
        smoothed(grid.K, static_cast<std::size_t>(m), m ? shifts.side[p] : 0.0, own,
                 shifted + p * grid.K);
    }
}

void shift_rows(std::size_t P, std::size_t K, const Shifts& shifts, const double* values,
                double* out) {
    std::vector<double> row;
    for (std::size_t p = 0; p < P; ++p) {
        if (p % between_polls == 0) Watch::poll();
        const int m = shifts.reach[p], first = shifts.shift[p] - m;
        const double* from = values + p * K;
        row.resize(K + 2 * static_cast<std::size_t>(m));
        for (std::size_t k = 0; k < row.size(); ++k) {
            const int at = first + static_cast<int>(k);
            row[k] = from[std::clamp(at, 0, static_cast<int>(K) - 1)];
        }
        smoothed(K, static_cast<std::size_t>(m), m ? shifts.side[p] : 0.0, row.data(), out + p * K);
    }
}

void mix_counts(const Mixture& mixture, const double* scale, const double* zero,
                const int32_t* zero_row, const int32_t* place, double* mixed, double* leaf) {
    const std::size_t K = mixture.K;
    for (std::size_t p = 0; p < mixture.P; ++p) {
        if (p % between_polls == 0) Watch::poll();
        const double pi = mixture.pi[p], jumps = mixture.jumps[p];
        double* row = mixed + p * K;
        const double* f1 = mixture.with + p * K;
        if (mixture.absent_columns == K)
            mixed_row(K, mixture.without + p * K, mixture.jump + p * K, f1, (1 - pi) * (1 - jumps),
                      (1 - pi) * jumps, pi, row);
        else
            mixed_row_of_one(
                K, (1 - pi) * ((1 - jumps) * mixture.without[p] + jumps * mixture.jump[p]), f1, pi,
                row);
        add_logs(K, row, scale[p], zero + static_cast<std::size_t>(zero_row[p]) * K,
                 leaf + static_cast<std::size_t>(place[p]) * K);
    }
}

void expect_counts(const Mixture& mixture, const CountedPairs& pairs, EvenGrid grid, double phi,
                   const double* mixed, const double* post, const int32_t* place, double* out) {
    const std::size_t K = grid.K, P = pairs.P;
    std::vector<double> kappa(K);
    for (std::size_t k = 0; k < K; ++k)
        kappa[k] = std::exp(grid.first + grid.step * static_cast<double>(k));
    for (std::size_t p = 0; p < P; ++p) {
        if (p % between_polls == 0) Watch::poll();
        Sums sums;
        expected_row(K,
                     {post + static_cast<std::size_t>(place[p]) * K, mixed + p * K,
                      mixture.without + p * K, mixture.jump + p * K, mixture.with + p * K,
                      kappa.data(), pairs.rate[p], pairs.spill[p], pairs.reads[p], phi,
                      (1 - mixture.pi[p]) * (1 - mixture.jumps[p])},
                     sums);
        const double weight = std::max(total(sums.weight), tiny);
        out[p] = total(sums.kappa) / weight;
        out[P + p] = total(sums.square) / weight;
        out[2 * P + p] = total(sums.f0) / weight;
        out[3 * P + p] = total(sums.fj) / weight;
        out[4 * P + p] = total(sums.f1) / weight;
        out[5 * P + p] = total(sums.score);
        out[6 * P + p] = total(sums.information);
    }
}

} // namespace ranef
