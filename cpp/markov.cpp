#include "markov.hpp"

#include <cmath>

#include "narrow.hpp"
#include "sums.hpp"
#include "whitening.hpp"

namespace ranef {

namespace {

// Adds a'b, both (count, n, w), to one of the two matrices of each group's cluster.
void add_crosses(const GroupRows& rows, const int* groups, int count, const double* a,
                 const double* b, double* into, size_t offset) {
    const int n = rows.n, w = rows.w;
    const size_t cells = 2 * static_cast<size_t>(w) * w;
    const size_t first = rows.place(groups[0], cells);
    if (first == rows.place(groups[count - 1], cells)) {
        add_cross(w, count * n, a, w, b, w, into + first + offset, w);
        return;
    }
    for (int g = 0; g < count; ++g) {
        const size_t at = static_cast<size_t>(g) * n * w;
        add_cross(w, n, a + at, w, b + at, w, into + rows.place(groups[g], cells) + offset, w);
    }
}

} // namespace

MarkovSteps::MarkovSteps(Vector rho, Vector first, Vector second, Indices which, int steps)
    : distinct_(rho.size()), which_(std::move(which)), steps_(steps) {
    Vector counts(rho.size());
    for (int32_t i : which_) ++counts[i];
    for (size_t i = 0; i < rho.size(); ++i) {
        const double r = rho[i], d = first[i], dd = second[i], e = (1 - r) * (1 + r);
        if (!(e > least_left)) throw NotDefinite("a residual is determined by the one before");
        Step& s = distinct_[i];
        const double root = std::sqrt(e), curved = d * d + r * dd;
        s = {r, e, root, 1 / root, r / e, d / root, 0, 0, 0, 0};
        s.own = 2 * r * d / (e * e);
        s.off = -d * (1 + r * r) / (e * e);
        s.bent_own = 2 * (curved * e + 4 * r * r * d * d) / (e * e * e);
        s.bent_off = -(dd * (1 + r * r) * e + d * d * (6 * r + 2 * r * r * r)) / (e * e * e);
        const double bent = -2 * r * dd / e;
        const double twice = -2 * (curved * e + 2 * r * r * d * d) / (e * e);
        totals_[0] += counts[i] * std::log(e);
        totals_[1] += counts[i] * (-2 * r * d / e);
        totals_[2] += counts[i] * (bent - twice);
        totals_[3] += counts[i] * bent;
    }
}

Vector MarkovSteps::products(const GroupRows& rows, int threads) const {
    const int n = rows.n, w = rows.w;
    const size_t cell = static_cast<size_t>(w) * w, high = groups_at_once(n) * n;
    Vector out = sums_by_cluster(rows, 2 * cell, threads, [&] {
        return [&, white = Vector(high * w), moved = Vector(high * w)](const int* groups, int count,
                                                                       double* into) mutable {
            for (int b = 0; b < count; ++b) {
                const int g = groups[b];
                double* v = white.data() + static_cast<size_t>(b) * n * w;
                double* t = moved.data() + static_cast<size_t>(b) * n * w;
                const double* before = rows.row(g, 0);
                std::copy_n(before, w, v);
                std::fill_n(t, w, 0.0);
                for (int j = 1; j < n; ++j) {
                    const double* u = rows.row(g, j);
                    const Step& s = step(g, j - 1);
                    v += w, t += w;
                    for (int c = 0; c < w; ++c) {
                        const double left = u[c] - s.rho * before[c];
                        v[c] = left * s.white;
                        t[c] = s.slope * (before[c] - s.share * left);
                    }
                    before = u;
                }
            }
            add_crosses(rows, groups, count, white.data(), white.data(), into, 0);
            add_crosses(rows, groups, count, moved.data(), white.data(), into, cell);
        };
    });
    for (int c = 0; c < rows.clusters; ++c) { // t v' + v t'
        double* D = out.data() + (2 * static_cast<size_t>(c) + 1) * cell;
        for (int i = 0; i < w; ++i)
            for (int j = 0; j <= i; ++j) D[i * w + j] = D[j * w + i] = D[i * w + j] + D[j * w + i];
    }
    return out;
}

// y := W^-T K_1 U of a group, K_1 the derivative of R^-1 = W'W: its square is U'K_1 R K_1 U.
void MarkovSteps::pull(int g, int n, int w, const double* U, double* y) const {
    std::fill_n(y, static_cast<size_t>(n) * w, 0.0);
    for (int j = 1; j < n; ++j) {
        const Step& s = step(g, j - 1);
        const double *before = U + static_cast<size_t>(j - 1) * w, *u = before + w;
        double *above = y + static_cast<size_t>(j - 1) * w, *own = above + w;
        for (int c = 0; c < w; ++c) {
            above[c] += s.own * before[c] + s.off * u[c];
            own[c] += s.own * u[c] + s.off * before[c];
        }
    }
    for (int j = n - 1; j > 0; --j) {
        const Step& s = step(g, j - 1);
        double *above = y + static_cast<size_t>(j - 1) * w, *own = above + w;
        for (int c = 0; c < w; ++c) {
            above[c] += s.rho * own[c];
            own[c] *= s.root;
        }
    }
}

// The second derivative of R^-1 times U.
void MarkovSteps::bend(int g, int n, int w, const double* U, double* out) const {
    std::fill_n(out, static_cast<size_t>(n) * w, 0.0);
    for (int j = 1; j < n; ++j) {
        const Step& s = step(g, j - 1);
        const double *before = U + static_cast<size_t>(j - 1) * w, *u = before + w;
        double *above = out + static_cast<size_t>(j - 1) * w, *own = above + w;
        for (int c = 0; c < w; ++c) {
            above[c] += s.bent_own * before[c] + s.bent_off * u[c];
            own[c] += s.bent_own * u[c] + s.bent_off * before[c];
        }
    }
}

Vector MarkovSteps::second_products(const GroupRows& rows, int threads) const {
    const int n = rows.n, w = rows.w;
    const size_t cell = static_cast<size_t>(w) * w, high = groups_at_once(n) * n;
    Vector out = sums_by_cluster(rows, 2 * cell, threads, [&] {
        return [&, U = Vector(high * w), y = Vector(high * w),
                bent = Vector(high * w)](const int* groups, int count, double* into) mutable {
            for (int b = 0; b < count; ++b) {
                const size_t first = static_cast<size_t>(b) * n * w;
                rows.gather(groups + b, 1, U.data() + first);
                pull(groups[b], n, w, U.data() + first, y.data() + first);
                bend(groups[b], n, w, U.data() + first, bent.data() + first);
            }
            add_crosses(rows, groups, count, y.data(), y.data(), into, 0);
            add_crosses(rows, groups, count, U.data(), bent.data(), into, cell);
        };
    });
    for (int c = 0; c < rows.clusters; ++c) {
        double* E = out.data() + 2 * static_cast<size_t>(c) * cell;
        for (size_t i = 0; i < cell; ++i) E[cell + i] = 2 * E[i] - E[cell + i];
    }
    return out;
}

double MarkovSteps::information(const GroupRows& rows, const double* vectors, int threads) const {
    const int n = rows.n, w = rows.w;
    return sums_over_groups(rows, 1, threads, [&] {
        return
            [&, v = Vector(n), y = Vector(n)](const int* groups, int count, double* into) mutable {
                for (int b = 0; b < count; ++b) {
                    const int g = groups[b];
                    const double* c = vectors + static_cast<size_t>(rows.cluster[g]) * w;
                    for (int j = 0; j < n; ++j) v[j] = dot(w, rows.row(g, j), c);
                    pull(g, n, 1, v.data(), y.data());
                    *into += dot(n, y.data(), y.data());
                }
            };
    })[0];
}

} // namespace ranef
