#include "iterative.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "threads.hpp"

namespace ranef {

namespace {

constexpr int parts = 64; // of rows, whatever the number of threads

// sums[c] = sum_i a_ic b_ic, by parts in a fixed order.
void column_dots(size_t n, int k, const double* a, const double* b, int threads, Vector& sums) {
    const auto bounds = partition(n, parts);
    Vector partial(static_cast<size_t>(parts) * k, 0.0);
    for_chunks(parts, threads, [&](int part) {
        double* out = partial.data() + static_cast<size_t>(part) * k;
        for (size_t i = bounds[part]; i < bounds[part + 1]; ++i)
            for (int c = 0; c < k; ++c) out[c] += a[i * k + c] * b[i * k + c];
    });
    sums.assign(k, 0.0);
    for (int part = 0; part < parts; ++part)
        for (int c = 0; c < k; ++c) sums[c] += partial[static_cast<size_t>(part) * k + c];
}

template <class Task>
void by_rows(size_t n, int threads, Task&& task) {
    const auto bounds = partition(n, parts);
    for_chunks(parts, threads, [&](int part) {
        for (size_t i = bounds[part]; i < bounds[part + 1]; ++i) task(i);
    });
}

} // namespace

struct CrossedSystem::Point {
    Vector theta;  // (columns)
    Vector D;      // (first term's columns)
    Vector own, P; // (tail): diagonal of Lambda A Lambda + I, and of S
};

CrossedSystem::CrossedSystem(size_t n, std::vector<CrossedTerm> terms, const double* weights,
                             int threads)
    : threads_(threads), start_{0} {
    for (const CrossedTerm& t : terms) start_.push_back(start_.back() + t.q);
    diagonal_.assign(columns(), 0.0);
    for (size_t t = 0; t < terms.size(); ++t)
        for (size_t i = 0; i < n; ++i) {
            const double z = terms[t].z ? terms[t].z[i] : 1.0;
            diagonal_[start_[t] + terms[t].codes[i]] += (weights ? weights[i] : 1.0) * z * z;
        }
    ptr_.reserve(static_cast<size_t>(columns()) + 1);
    for (int t = 0; t < static_cast<int>(terms.size()); ++t)
        fill_rows(t, terms, weights, n, threads);
}

// The columns that each of one term's meets, with their cross-products.
void CrossedSystem::fill_rows(int term, const std::vector<CrossedTerm>& terms,
                              const double* weights, size_t n, int threads) {
    const CrossedTerm& own = terms[term];
    std::vector<int64_t> first(static_cast<size_t>(own.q) + 1, 0);
    for (int32_t code : own.codes) ++first[code + 1];
    for (int l = 0; l < own.q; ++l) first[l + 1] += first[l];
    Indices rows(n);
    {
        std::vector<int64_t> next(first.begin(), first.end() - 1);
        for (size_t i = 0; i < n; ++i) rows[next[own.codes[i]]++] = static_cast<int32_t>(i);
    }
    const auto bounds = partition(own.q, parts);
    struct Part {
        std::vector<int64_t> count;
        Indices index;
        Vector value;
    };
    std::vector<Part> made(parts);
    for_tasks(parts, threads, [&](int p) {
        Part& part = made[p];
        Indices place(columns(), -1), met;
        Vector sums;
        for (size_t l = bounds[p]; l < bounds[p + 1]; ++l) {
            met.clear();
            sums.clear();
            for (int64_t k = first[l]; k < first[l + 1]; ++k) {
                const size_t i = rows[k];
                const double v = (weights ? weights[i] : 1.0) * (own.z ? own.z[i] : 1.0);
                for (size_t u = 0; u < terms.size(); ++u) {
                    if (static_cast<int>(u) == term) continue;
                    const int32_t column = start_[u] + terms[u].codes[i];
                    if (place[column] < 0) {
                        place[column] = static_cast<int32_t>(met.size());
                        met.push_back(column);
                        sums.push_back(0.0);
                    }
                    sums[place[column]] += v * (terms[u].z ? terms[u].z[i] : 1.0);
                }
            }
            Indices order = met;
            std::sort(order.begin(), order.end());
            for (int32_t column : order) {
                part.index.push_back(column);
                part.value.push_back(sums[place[column]]);
            }
            for (int32_t column : met) place[column] = -1;
            part.count.push_back(static_cast<int64_t>(met.size()));
        }
    });
    for (Part& part : made) {
        for (int64_t count : part.count) ptr_.push_back(ptr_.back() + count);
        index_.insert(index_.end(), part.index.begin(), part.index.end());
        value_.insert(value_.end(), part.value.begin(), part.value.end());
        part = Part();
    }
}

size_t CrossedSystem::bytes() const {
    return index_.size() * 4 + value_.size() * 8 + diagonal_.size() * 8 + ptr_.size() * 8;
}

CrossedSystem::Point CrossedSystem::at(const Vector& theta) const {
    Point out;
    const int first = start_[1];
    out.theta.resize(columns());
    for (int t = 0; t < terms(); ++t)
        std::fill(out.theta.begin() + start_[t], out.theta.begin() + start_[t + 1], theta[t]);
    out.D.resize(first);
    for (int l = 0; l < first; ++l) out.D[l] = 1 + theta[0] * theta[0] * diagonal_[l];
    out.own.resize(tail());
    out.P.resize(tail());
    by_rows(tail(), threads_, [&](size_t i) {
        const size_t c = first + i;
        double p = out.own[i] = 1 + out.theta[c] * out.theta[c] * diagonal_[c];
        for (int64_t k = ptr_[c]; k < ptr_[c + 1] && index_[k] < first; ++k) {
            const double v = out.theta[c] * theta[0] * value_[k];
            p -= v * v / out.D[index_[k]];
        }
        out.P[i] = p;
    });
    return out;
}

void CrossedSystem::times(int k, const double* X, double* Y) const {
    by_rows(columns(), threads_, [&](size_t c) {
        double* y = Y + c * k;
        for (int e = 0; e < k; ++e) y[e] = diagonal_[c] * X[c * k + e];
        for (int64_t h = ptr_[c]; h < ptr_[c + 1]; ++h) {
            const double* x = X + static_cast<size_t>(index_[h]) * k;
            for (int e = 0; e < k; ++e) y[e] += value_[h] * x[e];
        }
    });
}

// out (first term, k) := C X of the tail's X, of which `scaled` is Lambda X.
void CrossedSystem::leader_times(const Point& point, int k, const double* scaled,
                                 double* out) const {
    const int first = start_[1];
    by_rows(first, threads_, [&](size_t l) {
        double* y = out + l * k;
        std::fill(y, y + k, 0.0);
        for (int64_t h = ptr_[l]; h < ptr_[l + 1]; ++h) {
            const double* x = scaled + static_cast<size_t>(index_[h] - first) * k;
            for (int e = 0; e < k; ++e) y[e] += value_[h] * x[e];
        }
        for (int e = 0; e < k; ++e) y[e] *= point.theta[l];
    });
}

// Y := S X, (tail, k).
void CrossedSystem::apply(const Point& point, int k, const double* X, double* Y, Vector& scaled,
                          Vector& led) const {
    const int first = start_[1];
    const auto T = static_cast<size_t>(tail());
    scaled.resize(T * k);
    led.resize(static_cast<size_t>(first) * k);
    by_rows(T, threads_, [&](size_t i) {
        for (int e = 0; e < k; ++e) scaled[i * k + e] = point.theta[first + i] * X[i * k + e];
    });
    leader_times(point, k, scaled.data(), led.data());
    by_rows(first, threads_, [&](size_t l) {
        for (int e = 0; e < k; ++e) led[l * k + e] *= -point.theta[l] / point.D[l];
    });
    by_rows(T, threads_, [&](size_t i) {
        double* y = Y + i * k;
        const size_t c = first + i;
        std::fill(y, y + k, 0.0);
        for (int64_t h = ptr_[c]; h < ptr_[c + 1]; ++h) {
            const int32_t column = index_[h];
            const double* x = column < first
                                  ? led.data() + static_cast<size_t>(column) * k
                                  : scaled.data() + static_cast<size_t>(column - first) * k;
            for (int e = 0; e < k; ++e) y[e] += value_[h] * x[e];
        }
        for (int e = 0; e < k; ++e) y[e] = point.theta[c] * y[e] + point.own[i] * X[i * k + e];
    });
}

// S~ X = B by conjugate gradients; a column that has arrived stays where it is.
Gradients CrossedSystem::descend(const Point& point, int k, const double* B, double* X,
                                 double tolerance, int most) const {
    const auto T = static_cast<size_t>(tail());
    Vector root(T);
    for (size_t i = 0; i < T; ++i) root[i] = 1 / std::sqrt(point.P[i]);
    Vector r(B, B + T * k), d = r, w(T * k), Sd(T * k), scaled, led, rho, next, dSd;
    std::fill(X, X + T * k, 0.0);
    column_dots(T, k, r.data(), r.data(), threads_, rho);
    const Vector size = rho;
    Gradients out;
    out.taken.assign(k, 0);
    out.residual.assign(k, 0.0);
    std::vector<char> done(k, 0);
    std::vector<Vector> alphas, betas;
    for (int c = 0; c < k; ++c) done[c] = !(size[c] > 0);
    while (out.steps < most && !std::all_of(done.begin(), done.end(), [](char v) { return v; })) {
        by_rows(T, threads_, [&](size_t i) {
            for (int c = 0; c < k; ++c) w[i * k + c] = root[i] * d[i * k + c];
        });
        apply(point, k, w.data(), Sd.data(), scaled, led);
        by_rows(T, threads_, [&](size_t i) {
            for (int c = 0; c < k; ++c) Sd[i * k + c] *= root[i];
        });
        column_dots(T, k, d.data(), Sd.data(), threads_, dSd);
        Vector alpha(k, 0.0), beta(k, 0.0);
        for (int c = 0; c < k; ++c)
            if (!done[c] && dSd[c] > 0) alpha[c] = rho[c] / dSd[c];
        by_rows(T, threads_, [&](size_t i) {
            for (int c = 0; c < k; ++c) {
                X[i * k + c] += alpha[c] * d[i * k + c];
                r[i * k + c] -= alpha[c] * Sd[i * k + c];
            }
        });
        column_dots(T, k, r.data(), r.data(), threads_, next);
        for (int c = 0; c < k; ++c) {
            if (done[c]) continue;
            beta[c] = next[c] / rho[c];
            rho[c] = next[c];
            ++out.taken[c];
            if (!(next[c] > tolerance * tolerance * size[c])) done[c] = 1;
        }
        by_rows(T, threads_, [&](size_t i) {
            for (int c = 0; c < k; ++c) d[i * k + c] = r[i * k + c] + beta[c] * d[i * k + c];
        });
        alphas.push_back(std::move(alpha));
        betas.push_back(std::move(beta));
        ++out.steps;
    }
    for (int c = 0; c < k; ++c) {
        out.residual[c] = size[c] > 0 ? std::sqrt(rho[c] / size[c]) : 0.0;
        for (int s = 0; s < out.steps; ++s) {
            out.alpha.push_back(alphas[s][c]);
            out.beta.push_back(betas[s][c]);
        }
    }
    return out;
}

Gradients CrossedSystem::solve(const Vector& theta, int k, double* X, double tolerance,
                               int most) const {
    const Point point = at(theta);
    const int first = start_[1];
    const auto T = static_cast<size_t>(tail());
    double* own = X;                                   // (first, k)
    double* rest = X + static_cast<size_t>(first) * k; // (T, k)
    Vector b(T * k), x(T * k), led(static_cast<size_t>(first) * k);
    for (size_t l = 0; l < static_cast<size_t>(first); ++l)
        for (int e = 0; e < k; ++e) led[l * k + e] = point.theta[l] * own[l * k + e] / point.D[l];
    by_rows(T, threads_, [&](size_t i) {
        const size_t c = first + i;
        for (int e = 0; e < k; ++e) {
            double v = rest[i * k + e];
            for (int64_t h = ptr_[c]; h < ptr_[c + 1] && index_[h] < first; ++h)
                v -= point.theta[c] * value_[h] * led[static_cast<size_t>(index_[h]) * k + e];
            b[i * k + e] = v / std::sqrt(point.P[i]);
        }
    });
    Gradients out = descend(point, k, b.data(), x.data(), tolerance, most);
    for (size_t i = 0; i < T; ++i)
        for (int e = 0; e < k; ++e) {
            rest[i * k + e] = x[i * k + e] / std::sqrt(point.P[i]);
            x[i * k + e] = point.theta[first + i] * rest[i * k + e];
        }
    leader_times(point, k, x.data(), led.data());
    for (size_t l = 0; l < static_cast<size_t>(first); ++l)
        for (int e = 0; e < k; ++e) own[l * k + e] = (own[l * k + e] - led[l * k + e]) / point.D[l];
    return out;
}

ProbeSums CrossedSystem::probes(const Vector& theta, int k, const double* Z, double tolerance,
                                int most) const {
    const Point point = at(theta);
    const int first = start_[1], F = terms();
    const auto T = static_cast<size_t>(tail());
    ProbeSums out;
    Vector x(T * k);
    out.gradients = descend(point, k, Z, x.data(), tolerance, most);
    out.traces.assign(static_cast<size_t>(k) * F, 0.0);
    double constant = 0;
    for (double d : point.D) {
        out.log_diagonal += std::log(d);
        constant += 1 / d;
    }
    for (double p : point.P) out.log_diagonal += std::log(p);
    for (int t = 1; t < F; ++t)
        for (size_t i = start_[t] - first; i < static_cast<size_t>(start_[t + 1] - first); ++i)
            for (int c = 0; c < k; ++c)
                out.traces[static_cast<size_t>(c) * F + t] +=
                    Z[i * k + c] * x[i * k + c] / point.P[i];
    // of the first term: 1/D + z'P^-1/2 C'D^-2 C P^-1/2 x~
    Vector scaled(T * k), left(static_cast<size_t>(first) * k), right(left.size());
    for (int side = 0; side < 2; ++side) {
        const double* v = side == 0 ? Z : x.data();
        for (size_t i = 0; i < T; ++i)
            for (int c = 0; c < k; ++c)
                scaled[i * k + c] = point.theta[first + i] * v[i * k + c] / std::sqrt(point.P[i]);
        leader_times(point, k, scaled.data(), (side == 0 ? left : right).data());
    }
    for (size_t l = 0; l < static_cast<size_t>(first); ++l)
        for (int c = 0; c < k; ++c) left[l * k + c] /= point.D[l] * point.D[l];
    Vector sums;
    column_dots(first, k, left.data(), right.data(), threads_, sums);
    for (int c = 0; c < k; ++c) out.traces[static_cast<size_t>(c) * F] = constant + sums[c];
    return out;
}

} // namespace ranef
