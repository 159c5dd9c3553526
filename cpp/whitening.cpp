#include "whitening.hpp"

#include <cmath>

#include "dense.hpp"
#include "narrow.hpp"
#include "products.hpp"
#include "sums.hpp"

namespace ranef {

namespace {

// C (n, n) := A B, row-major.
void multiply(int n, const double* A, const double* B, double* C) {
    std::fill_n(C, static_cast<size_t>(n) * n, 0.0);
    add_product('N', 'N', n, n, n, 1.0, B, n, A, n, C, n); // by columns: C' = B'A'
}

double sum_of_products(size_t count, const double* a, const double* b) {
    constexpr size_t stretch = size_t{1} << 20;
    double out = 0;
    for (size_t from = 0; from < count; from += stretch)
        out += dot(static_cast<int>(std::min(stretch, count - from)), a + from, b + from);
    return out;
}

void transpose(int n, const double* A, double* out) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j)
            out[static_cast<size_t>(j) * n + i] = A[static_cast<size_t>(i) * n + j];
}

// R^-1 in the place of its lower factor by columns, of small orders: rows of L^-1 one after the
// other, then their products.
void invert_small(int n, double* A, Vector& half) {
    half.assign(static_cast<size_t>(n) * n, 0.0);
    for (int i = 0; i < n; ++i) {
        double* own = half.data() + static_cast<size_t>(i) * n;
        for (int k = 0; k < i; ++k) {
            const double l = A[static_cast<size_t>(k) * n + i];
            const double* before = half.data() + static_cast<size_t>(k) * n;
            for (int j = 0; j <= k; ++j) own[j] -= l * before[j];
        }
        const double inv = 1 / A[static_cast<size_t>(i) * n + i];
        for (int j = 0; j < i; ++j) own[j] *= inv;
        own[i] = inv;
    }
    std::fill_n(A, static_cast<size_t>(n) * n, 0.0);
    for (int r = 0; r < n; ++r) {
        const double* own = half.data() + static_cast<size_t>(r) * n;
        for (int i = 0; i <= r; ++i) {
            double* out = A + static_cast<size_t>(i) * n;
            for (int j = 0; j <= i; ++j) out[j] += own[i] * own[j];
        }
    }
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < i; ++j)
            A[static_cast<size_t>(j) * n + i] = A[static_cast<size_t>(i) * n + j];
}

// Adds a'b, both (n, count, w), to what begins at `offset` of the cells of each group's cluster.
void add_crosses(const GroupRows& rows, const int* groups, int count, int w, const double* a,
                 const double* b, double* into, size_t cells, size_t offset) {
    double* first = into + rows.place(groups[0], cells) + offset;
    if (rows.place(groups[0], cells) == rows.place(groups[count - 1], cells)) {
        add_cross(w, rows.n * count, a, w, b, w, first, w);
        return;
    }
    for (int g = 0; g < count; ++g)
        add_cross(w, rows.n, a + g * w, count * w, b + g * w, count * w,
                  into + rows.place(groups[g], cells) + offset, w);
}

} // namespace

// Matrices (m, n, n) by which rows are multiplied; of one that stands for all groups, only what
// is not zero where that is little.
class RowFactor {
  public:
    RowFactor(const RowCovariances& given, const double* values)
        : n_(given.n), square_(given.square()), shared_(given.m == 1), values_(values) {
        if (!shared_) return;
        const size_t filled = square_ - std::count(values, values + square_, 0.0);
        if (few * filled > square_) return;
        ptr_.push_back(0);
        for (int i = 0; i < n_; ++i) {
            for (int j = 0; j < n_; ++j)
                if (const double x = values[static_cast<size_t>(i) * n_ + j]; x != 0) {
                    column_.push_back(j);
                    entry_.push_back(x);
                }
            ptr_.push_back(static_cast<int>(entry_.size()));
        }
    }

    // Y := K X, both (n, count, w).
    void times(const GroupRows& rows, const int* groups, int count, int w, const double* X,
               double* Y) const {
        const int wide = count * w;
        if (!ptr_.empty()) {
            std::fill_n(Y, static_cast<size_t>(n_) * wide, 0.0);
            for (int i = 0; i < n_; ++i) {
                double* __restrict y = Y + static_cast<size_t>(i) * wide;
                for (int e = ptr_[i]; e < ptr_[i + 1]; ++e) {
                    const double* __restrict x = X + static_cast<size_t>(column_[e]) * wide;
                    for (int c = 0; c < wide; ++c) y[c] += entry_[e] * x[c];
                }
            }
        } else if (shared_) {
            rows_times(wide, n_, values_, X, wide, Y, wide);
        } else {
            for (int b = 0; b < count; ++b)
                rows_times(w, n_, values_ + rows.which[groups[b]] * square_, X + b * w, wide,
                           Y + b * w, wide);
        }
    }

    // Adds X'K X of each group, X (n, count, w), to its cluster's; Y is work space of the size of
    // X.
    void add_forms(const GroupRows& rows, const int* groups, int count, int w, const double* X,
                   double* Y, double* into, size_t cells, size_t offset) const {
        if (ptr_.empty()) {
            times(rows, groups, count, w, X, Y);
            add_crosses(rows, groups, count, w, X, Y, into, cells, offset);
            return;
        }
        for (int b = 0; b < count; ++b)
            add_sparse(w, count * w, X + b * w, Y, into + rows.place(groups[b], cells) + offset);
    }

  private:
    // X'K X of a group, (w, w), of which few entries of K are not zero; x_0 its first row.
    void add_sparse(int w, int wide, const double* first, double* t, double* out) const {
        for (int i = 0; i < n_; ++i) {
            if (ptr_[i] == ptr_[i + 1]) continue;
            std::fill_n(t, w, 0.0);
            for (int e = ptr_[i]; e < ptr_[i + 1]; ++e) {
                const double* x = first + static_cast<size_t>(column_[e]) * wide;
                for (int c = 0; c < w; ++c) t[c] += entry_[e] * x[c];
            }
            const double* own = first + static_cast<size_t>(i) * wide;
            for (int c = 0; c < w; ++c)
                for (int d = 0; d < w; ++d) out[c * w + d] += own[c] * t[d];
        }
    }

    static constexpr size_t few = 4;
    int n_;
    size_t square_;
    bool shared_;
    const double* values_;
    std::vector<int> ptr_, column_;
    Vector entry_;
};

namespace {

size_t rows_of_block(const GroupRows& rows) {
    return static_cast<size_t>(rows.n) * groups_at_once(rows.n);
}

} // namespace

template <class Each>
void Whitening::for_patterns(int threads, const Each& each) const {
    const auto bounds = partition(given_.m, parts());
    for_chunks(parts(), threads, [&](int c) {
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) {
            Watch::poll();
            each(static_cast<int>(i));
        }
    });
}

Whitening::Whitening(const RowCovariances& given, double least_pivot, double least_variance,
                     int threads)
    : given_(given), inverse_(given.m * given.square()), log_determinants_(given.m) {
    const int n = given.n, inner = given.m == 1 ? threads : 1;
    for_patterns(threads, [&](int i) {
        const double* R = given.R + i * given.square();
        double* own = inverse_.data() + i * given.square();
        double largest = 0, sum = 0;
        for (size_t j = 0; j < given.square(); ++j)
            if (!std::isfinite(R[j])) throw NotDefinite("a residual covariance is not finite");
        std::copy_n(R, given.square(), own);
        if (!cholesky(n, own, n, inner))
            throw NotDefinite("a residual covariance is not positive definite");
        for (int j = 0; j < n; ++j) largest = std::max(largest, R[static_cast<size_t>(j) * n + j]);
        for (int j = 0; j < n; ++j) {
            const size_t at = static_cast<size_t>(j) * n + j;
            const double left = own[at] * own[at];
            if (!(left >= least_pivot * R[at]))
                throw NotDefinite("a residual covariance is singular");
            if (!(left >= least_variance * largest))
                throw NotDefinite("a residual has no variance");
            sum += std::log(own[at]);
        }
        log_determinants_[i] = 2.0 * sum;
        if (n <= small_order) {
            Vector half;
            invert_small(n, own, half);
            return;
        }
        inverse_from_cholesky(n, own, n, inner);
        fill_upper(n, own, n);
    });
}

Vector Whitening::traces(int threads) const {
    const int m = given_.m, k = given_.k;
    Vector out(static_cast<size_t>(k) * m);
    for_patterns(threads, [&](int i) {
        for (int a = 0; a < k; ++a)
            out[static_cast<size_t>(a) * m + i] =
                sum_of_products(given_.square(), inverse_of(i), given_.slope(a, i));
    });
    return out;
}

Vector Whitening::middles(int threads) const {
    const int m = given_.m, k = given_.k, n = given_.n;
    const size_t square = given_.square();
    Vector out((1 + static_cast<size_t>(k)) * m * square);
    std::copy(inverse_.begin(), inverse_.end(), out.begin());
    for_patterns(threads, [&](int i) {
        Vector ratio(square);
        for (int a = 0; a < k; ++a) {
            multiply(n, inverse_of(i), given_.slope(a, i), ratio.data());
            multiply(n, ratio.data(), inverse_of(i),
                     out.data() + ((1 + static_cast<size_t>(a)) * m + i) * square);
        }
    });
    return out;
}

Vector Whitening::products(const GroupRows& rows, int threads) const {
    const int w = rows.w, k = given_.k;
    const size_t cell = static_cast<size_t>(w) * w, cells = (1 + k) * cell;
    const size_t size = rows_of_block(rows) * w;
    const RowFactor inverse(given_, inverse_.data());
    const std::vector<RowFactor> slopes = factors_of_slopes();
    return sums_by_cluster(rows, cells, threads, [&] {
        return [&, U = Vector(size), Y = Vector(size),
                moved = Vector(size)](const int* groups, int count, double* into) mutable {
            rows.gather(groups, count, U.data());
            inverse.times(rows, groups, count, w, U.data(), Y.data());
            add_crosses(rows, groups, count, w, U.data(), Y.data(), into, cells, 0);
            for (int a = 0; a < k; ++a) {
                slopes[a].add_forms(rows, groups, count, w, Y.data(), moved.data(), into, cells,
                                    (1 + a) * cell);
            }
        };
    });
}

Vector Whitening::forms(const GroupRows& rows, int s, const double* K, int threads) const {
    const int w = rows.w;
    const size_t cell = static_cast<size_t>(w) * w, size = rows_of_block(rows) * w;
    std::vector<RowFactor> each;
    for (int a = 0; a < s; ++a)
        each.emplace_back(given_, K + static_cast<size_t>(a) * given_.m * given_.square());
    return sums_by_cluster(rows, s * cell, threads, [&] {
        return [&, U = Vector(size), moved = Vector(size)](const int* groups, int count,
                                                           double* into) mutable {
            rows.gather(groups, count, U.data());
            for (int a = 0; a < s; ++a) {
                each[a].add_forms(rows, groups, count, w, U.data(), moved.data(), into, s * cell,
                                  a * cell);
            }
        };
    });
}

Vector Whitening::information(const GroupRows& rows, const double* vectors, int threads) const {
    const int n = rows.n, w = rows.w, k = given_.k;
    return sums_over_groups(rows, static_cast<size_t>(k) * k, threads, [&] {
        const size_t size = rows_of_block(rows) * k;
        return [&, v = Vector(n), y = Vector(n), moved = Vector(size),
                turned = Vector(size)](const int* groups, int count, double* into) mutable {
            for (int b = 0; b < count; ++b) {
                const int g = groups[b], i = rows.which[g];
                const double* c = vectors + static_cast<size_t>(rows.cluster[g]) * w;
                for (int j = 0; j < n; ++j) v[j] = dot(w, rows.row(g, j), c);
                rows_times(1, n, inverse_of(i), v.data(), 1, y.data(), 1);
                double* own = moved.data() + static_cast<size_t>(b) * n * k;
                for (int a = 0; a < k; ++a)
                    rows_times(1, n, given_.slope(a, i), y.data(), 1, own + a, k);
                rows_times(k, n, inverse_of(i), own, k,
                           turned.data() + static_cast<size_t>(b) * n * k, k);
            }
            add_cross(k, count * n, moved.data(), k, turned.data(), k, into, k);
        };
    });
}

std::vector<RowFactor> Whitening::factors_of_slopes() const {
    std::vector<RowFactor> out;
    for (int a = 0; a < given_.k; ++a) out.emplace_back(given_, given_.slope(a, 0));
    return out;
}

std::pair<Vector, Vector> Whitening::second_products(const GroupRows& rows, const Bends& bends,
                                                     int threads) const {
    const int w = rows.w, k = given_.k, wide = k * w;
    const size_t cell = static_cast<size_t>(w) * w, all = static_cast<size_t>(wide) * wide;
    const size_t pairs = bends.pairs.size(), high = rows_of_block(rows);
    const RowFactor inverse(given_, inverse_.data());
    const std::vector<RowFactor> slopes = factors_of_slopes();
    std::vector<RowFactor> curves;
    for (const double* one : bends.values) curves.emplace_back(given_, one);
    Vector E = sums_by_cluster(rows, all, threads, [&] {
        return [&, U = Vector(high * w), Y = Vector(high * w), own = Vector(high * w),
                moved = Vector(high * wide),
                turned = Vector(high * wide)](const int* groups, int count, double* into) mutable {
            rows.gather(groups, count, U.data());
            inverse.times(rows, groups, count, w, U.data(), Y.data());
            for (int a = 0; a < k; ++a) {
                slopes[a].times(rows, groups, count, w, Y.data(), own.data());
                for (int i = 0; i < rows.n * count; ++i)
                    std::copy_n(own.data() + static_cast<size_t>(i) * w, w,
                                moved.data() + static_cast<size_t>(i) * wide + a * w);
            }
            inverse.times(rows, groups, count, wide, moved.data(), turned.data());
            add_crosses(rows, groups, count, wide, moved.data(), turned.data(), into, all, 0);
        };
    });
    Vector F = sums_by_cluster(rows, pairs * cell, threads, [&] {
        return [&, U = Vector(high * w), Y = Vector(high * w),
                own = Vector(high * w)](const int* groups, int count, double* into) mutable {
            rows.gather(groups, count, U.data());
            inverse.times(rows, groups, count, w, U.data(), Y.data());
            for (size_t p = 0; p < pairs; ++p) {
                curves[p].add_forms(rows, groups, count, w, Y.data(), own.data(), into,
                                    pairs * cell, p * cell);
            }
        };
    });
    return {std::move(E), std::move(F)};
}

std::pair<Vector, Vector> Whitening::contracted(int s, const double* S, const double* counts,
                                                const Bends& bends, int threads) const {
    const int m = given_.m, n = given_.n, k = given_.k;
    const size_t square = given_.square(), pairs = bends.pairs.size();
    const size_t each = static_cast<size_t>(k) * k, cells = (1 + s) * (each + pairs);
    const auto bounds = partition(m, parts());
    Vector sums(cells * parts());
    for_chunks(parts(), threads, [&](int c) {
        double* out = sums.data() + c * cells;
        double* bent = out + (1 + s) * each;
        Vector ratio(k * square), left(square), half(square), G(square);
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) {
            const double* K = inverse_of(static_cast<int>(i));
            for (int a = 0; a < k; ++a) {
                Watch::poll();
                multiply(n, K, given_.slope(a, static_cast<int>(i)), ratio.data() + a * square);
            }
            for (int t = 0; t <= s; ++t) {
                const double times = t == 0 ? counts[i] : 1.0;
                if (t > 0) {
                    multiply(n, K, S + (static_cast<size_t>(t - 1) * m + i) * square, half.data());
                    multiply(n, half.data(), K, G.data());
                }
                const double* own = t == 0 ? K : G.data();
                // (R_k G)_xy (R^-1 R_l)_xy summed: tr(R_k R^-1 R_l G)
                for (int a = 0; a < k; ++a) {
                    Watch::poll();
                    if (t == 0)
                        transpose(n, ratio.data() + a * square, left.data());
                    else
                        multiply(n, given_.slope(a, static_cast<int>(i)), own, left.data());
                    for (int b = 0; b < k; ++b)
                        out[t * each + a * k + b] +=
                            times * sum_of_products(square, left.data(), ratio.data() + b * square);
                }
                for (size_t p = 0; p < pairs; ++p)
                    bent[t * pairs + p] +=
                        times * sum_of_products(square, own, bends.values[p] + i * square);
            }
        }
    });
    for (int c = 1; c < parts(); ++c)
        for (size_t i = 0; i < cells; ++i) sums[i] += sums[c * cells + i];
    return {Vector(sums.begin(), sums.begin() + (1 + s) * each),
            Vector(sums.begin() + (1 + s) * each, sums.begin() + cells)};
}

Vector Whitening::weighted(const double* weights, const Bends& bends, int threads) const {
    const int m = given_.m, n = given_.n, k = given_.k;
    const size_t square = given_.square();
    Vector out(2 * m * square);
    for_patterns(threads, [&](int i) {
        const double* K = inverse_of(i);
        Vector mixed(square), half(square), inner(square), bent(square);
        for (int a = 0; a < k; ++a) {
            Watch::poll();
            std::fill(mixed.begin(), mixed.end(), 0.0);
            for (int b = 0; b < k; ++b) {
                const double* own = given_.slope(b, i);
                const double weight = weights[static_cast<size_t>(a) * k + b];
                for (size_t j = 0; j < square; ++j) mixed[j] += weight * own[j];
            }
            multiply(n, K, mixed.data(), half.data());
            multiply(n, given_.slope(a, i), half.data(), mixed.data());
            for (size_t j = 0; j < square; ++j) inner[j] += mixed[j];
        }
        for (size_t p = 0; p < bends.pairs.size(); ++p) {
            const auto [a, b] = bends.pairs[p];
            const double weight = (a == b ? 1.0 : 2.0) * weights[static_cast<size_t>(a) * k + b];
            const double* own = bends.values[p] + i * square;
            for (size_t j = 0; j < square; ++j) bent[j] += weight * own[j];
        }
        multiply(n, K, inner.data(), half.data());
        multiply(n, half.data(), K, out.data() + i * square);
        multiply(n, K, bent.data(), half.data());
        multiply(n, half.data(), K, out.data() + (static_cast<size_t>(m) + i) * square);
    });
    return out;
}

} // namespace ranef
