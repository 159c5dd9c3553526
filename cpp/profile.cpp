#include "profile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "dense.hpp"
#include "sums.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double two_pi = 6.283185307179586;
constexpr double same = 1e-9;      // relative difference of two d that count as one
constexpr double nothing = 1e-14;  // d, relative to the largest, that counts as none
constexpr double least = 1e-5;     // lambda times the largest d, where the grid starts
constexpr double most = 1e12;      // lambda times the smallest d, where it ends
constexpr double ratio = 2.0;      // of neighbours on the grid, in lambda
constexpr double wide_ratio = 4.0; // the same with many columns
constexpr int many_columns = 100;
constexpr int most_kernel = 400;   // levels of a kernel whose spectrum costs little
constexpr double lower = 1e-9;     // how much lower a valley must be, relative
constexpr double blurred = 0.05;   // slack where groups hold effects of unequal d
constexpr double singular = 1e-13; // pivot of X'H^-1X, relative to its diagonal

int most_groups(int p) {
    return p <= 16 ? 256 : p <= 300 ? 32 : 8;
}

inline size_t at_lower(int i, int j, int ld) { // i >= j, column-major
    return static_cast<size_t>(j) * ld + i;
}

} // namespace

bool Profile::possible(const Blocks& b) {
    if (b.parameters != 1 || b.factors.size() != 1 || b.factors[0].terms.size() != 1) return false;
    const Factor& f = b.factors[0];
    if (f.kernel) {
        const bool affordable = lapack().syevd ? f.q <= most_kernel : f.q <= most_jacobi;
        if (f.r != 1 || f.depth >= 0 || !affordable) return false;
    }
    const Structure& s = *f.terms[0].structure;
    Vector one(static_cast<size_t>(s.r) * s.r, 0.0), two(one.size(), 0.0);
    const double phi = 1, twice = 2;
    s.factor(&phi, one.data());
    s.factor(&twice, two.data());
    for (size_t i = 0; i < one.size(); ++i)
        if (two[i] != 2 * one[i]) return false;
    return true;
}

Profile::Profile(const Blocks& blocks, bool reml, bool keep)
    : b_(blocks), reml_(reml),
      m_(static_cast<double>(blocks.n) - (reml ? static_cast<double>(blocks.p) : 0.0)) {
    list_effects();
    group();
    if (!keep) return;
    for (double lambda : grid()) points_.push_back(at(lambda));
}

// Levels that are independent of each other, each with its cross-products and Lambda / phi; with
// a kernel all levels are one.
void Profile::list_effects() {
    const Factor& f = b_.factors[0];
    const int p = b_.p, r = f.r;
    Vector M(static_cast<size_t>(r) * r, 0.0);
    const double one = 1;
    f.terms[0].structure->factor(&one, M.data());
    if (!f.kernel) {
        size_ = r;
        d_.resize(static_cast<size_t>(f.q) * r);
        x_.assign(d_.size() * p, 0.0);
        rotation_.assign(d_.size() * r, 0.0);
        Vector A(M.size());
        for (int l = 0; l < f.q; ++l) {
            int width = r;
            const double* from = b_.tail_diagonal.empty() ? nullptr : b_.tail_diagonal[0].data();
            if (f.depth >= 0) {
                width = b_.chain[0].width;
                from = b_.chain[0].panel.data() + static_cast<size_t>(l) * r * width;
            } else
                from += static_cast<size_t>(l) * r * r;
            for (int a = 0; a < r; ++a) std::copy_n(from + a * width, r, A.data() + a * r);
            rotate(l, A, M);
        }
        return;
    }
    size_ = f.q;
    d_.resize(f.q);
    x_.assign(d_.size() * p, 0.0);
    rotation_.assign(d_.size() * f.q, 0.0);
    Vector A(d_.size() * f.q, 0.0), L(A.size(), 0.0);
    for (int i = 0; i < f.q; ++i) {
        A[static_cast<size_t>(i) * f.q + i] = b_.tail_diagonal[0][i];
        for (int j = 0; j <= i; ++j)
            L[static_cast<size_t>(i) * f.q + j] = M[0] * (*f.kernel)[at_lower(i, j, f.q)];
    }
    rotate(0, A, L);
}

// Row a of Z'X, of one column of a level.
const double* Profile::fixed(size_t row) const {
    const Factor& f = b_.factors[0];
    if (f.depth < 0) return b_.tail_fixed.data() + row * b_.p;
    const ChainBlock& c = b_.chain[0];
    return c.panel.data() + row * c.width + c.width - b_.p;
}

// The effects of a level in the eigenvectors of M'A M, A its cross-products, (size, size)
// row-major.
void Profile::rotate(int level, const Vector& A, const Vector& M) {
    const int k = size_, p = b_.p;
    const size_t first = static_cast<size_t>(level) * k;
    double* d = d_.data() + first;
    double* rotation = rotation_.data() + first * k;
    if (k == 1) {
        d[0] = M[0] * M[0] * A[0];
        rotation[0] = M[0];
    } else {
        const size_t kk = static_cast<size_t>(k) * k;
        Vector AM(kk, 0.0), B(kk, 0.0), V(kk);
        for (int a = 0; a < k; ++a)
            for (int c = 0; c < k; ++c) {
                const double v = A[a * k + c];
                if (v == 0) continue;
                for (int e = 0; e < k; ++e) AM[a * k + e] += v * M[c * k + e];
            }
        for (int c = 0; c < k; ++c)
            for (int a = 0; a < k; ++a) {
                const double v = M[c * k + a];
                if (v == 0) continue;
                for (int e = 0; e < k; ++e) B[a * k + e] += v * AM[c * k + e];
            }
        eigen_symmetric(k, B.data(), d, V.data());
        for (int a = 0; a < k; ++a) // row a: effect a in the columns of Z
            for (int c = 0; c < k; ++c)
                rotation[a * k + c] = dot(k, M.data() + c * k, V.data() + a * k);
    }
    for (int a = 0; a < k; ++a) {
        double* x = x_.data() + (first + a) * p;
        for (int c = 0; c < k; ++c) {
            const double v = rotation[a * k + c];
            const double* row = fixed(first + c);
            for (int j = 0; j < p; ++j) x[j] += v * row[j];
        }
    }
}

// Effects of one d together; where there are too many different ones, those of similar d.
void Profile::group() {
    const int p = b_.p;
    const size_t pp = static_cast<size_t>(p) * p;
    std::vector<int> order(d_.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return d_[a] < d_[b]; });
    const double largest = d_.empty() ? 0.0 : d_[order.back()];
    const auto first =
        std::find_if(order.begin(), order.end(), [&](int i) { return d_[i] > nothing * largest; });
    double step = 1 + same;
    for (int pass = 0; pass < 2; ++pass) {
        group_.assign(d_.size(), -1);
        int groups = 0;
        double start = 0;
        for (auto i = first; i != order.end(); ++i) {
            if (groups == 0 || d_[*i] > start * step) {
                start = d_[*i];
                ++groups;
            }
            group_[*i] = groups - 1;
        }
        mean_.assign(groups, 0.0);
        if (groups <= most_groups(p)) break;
        exact_ = false;
        step = std::pow(largest / d_[*first], 1.0 / (most_groups(p) - 1)) * (1 + same);
    }
    count_.assign(mean_.size(), 0.0);
    sum_x_.assign(mean_.size() * pp, 0.0);
    within_.assign(pp, 0.0);
    for (int j = 0; j < p; ++j)
        for (int i = j; i < p; ++i)
            within_[at_lower(i, j, p)] = b_.fixed[static_cast<size_t>(i) * p + j];
    for (size_t e = 0; e < d_.size(); ++e) {
        const int g = group_[e];
        if (g < 0) continue;
        mean_[g] += d_[e];
        count_[g] += 1;
        const double* x = x_.data() + e * p;
        double* sum = sum_x_.data() + g * pp;
        for (int j = 0; j < p; ++j) {
            const double scaled = x[j] / d_[e];
            if (scaled == 0) continue;
            for (int i = j; i < p; ++i) sum[at_lower(i, j, p)] += scaled * x[i];
        }
    }
    for (size_t g = 0; g < mean_.size(); ++g) {
        mean_[g] /= count_[g];
        for (size_t k = 0; k < pp; ++k) within_[k] -= sum_x_[g * pp + k];
    }
}

Profile::Point Profile::at(double lambda) const {
    const int p = b_.p;
    const size_t pp = static_cast<size_t>(p) * p;
    Point out;
    out.lambda = lambda;
    out.L = within_;
    for (size_t g = 0; g < mean_.size(); ++g) {
        const double h = 1 + lambda * mean_[g];
        out.logdet += count_[g] * std::log(h);
        const double* sum = sum_x_.data() + g * pp;
        for (size_t k = 0; k < pp; ++k) out.L[k] += sum[k] / h;
    }
    if (p > 0 && !cholesky(p, out.L.data(), p)) {
        out.L.clear();
        out.logdet = infinity;
        return out;
    }
    for (int j = 0; j < p; ++j) {
        const double pivot = out.L[at_lower(j, j, p)];
        if (!(pivot * pivot > singular * b_.fixed[static_cast<size_t>(j) * p + j])) {
            out.logdet = infinity;
            out.L.clear();
            return out;
        }
        if (reml_) out.logdet += 2 * std::log(pivot);
    }
    return out;
}

Profile::Sums Profile::sums(const Response& response) const {
    const int p = b_.p, k = size_;
    const Vector& Zy = b_.factors[0].depth < 0 ? response.tail : response.chain[0];
    Sums out;
    out.rest = response.square;
    out.rest_x = response.fixed;
    out.square.assign(mean_.size(), 0.0);
    out.cross.assign(mean_.size() * p, 0.0);
    for (size_t e = 0; e < d_.size(); ++e) {
        const int g = group_[e];
        if (g < 0) continue;
        const double own = dot(k, rotation_.data() + e * k, Zy.data() + e / k * k);
        const double scaled = own / d_[e];
        out.square[g] += scaled * own;
        const double* x = x_.data() + e * p;
        for (int j = 0; j < p; ++j) out.cross[g * p + j] += scaled * x[j];
    }
    for (size_t g = 0; g < mean_.size(); ++g) {
        out.rest -= out.square[g];
        for (int j = 0; j < p; ++j) out.rest_x[j] -= out.cross[g * p + j];
    }
    return out;
}

// Up to the logarithm of the weights, which is the same everywhere.
double Profile::value(const Point& point, const Sums& y) const {
    if (!std::isfinite(point.logdet)) return infinity;
    const int p = b_.p;
    double rss = y.rest;
    Vector v = y.rest_x;
    for (size_t g = 0; g < mean_.size(); ++g) {
        const double h = 1 + point.lambda * mean_[g];
        rss += y.square[g] / h;
        for (int j = 0; j < p; ++j) v[j] += y.cross[g * p + j] / h;
    }
    if (p > 0) solve_lower(p, 1, point.L.data(), p, v.data(), p);
    rss -= dot(p, v.data(), v.data());
    if (!(rss > 0)) return infinity;
    return point.logdet + m_ * (1 + std::log(two_pi * rss / m_));
}

// Sum of squares that no lambda goes below: of what varies within levels; zero where X
// leaves nothing to compare.
double Profile::least_rss(const Sums& y) const {
    const int p = b_.p;
    Vector L = within_, v = y.rest_x;
    if (p > 0 && !cholesky(p, L.data(), p)) return 0;
    for (int j = 0; j < p; ++j) {
        const double pivot = L[at_lower(j, j, p)];
        if (!(pivot * pivot > 1e-8 * b_.fixed[static_cast<size_t>(j) * p + j])) return 0;
    }
    if (p > 0) solve_lower(p, 1, L.data(), p, v.data(), p);
    return std::max(y.rest - dot(p, v.data(), v.data()), 0.0);
}

Vector Profile::grid() const {
    Vector out{0.0};
    if (mean_.empty()) return out;
    const auto ends = std::minmax_element(mean_.begin(), mean_.end());
    const double step = b_.p > many_columns ? wide_ratio : ratio;
    for (double lambda = least / *ends.second; lambda * *ends.first < most; lambda *= step)
        out.push_back(lambda);
    return out;
}

// Where a valley between three points of the grid is lowest, by golden sections of log lambda.
double Profile::valley(double low, double middle, double high, const Sums& y) const {
    const double golden = 0.6180339887498949;
    double a = std::log(low), b = std::log(high), best = std::log(middle);
    double u = b - golden * (b - a), v = a + golden * (b - a);
    double fu = value(at(std::exp(u)), y), fv = value(at(std::exp(v)), y);
    double least_value = value(at(middle), y);
    for (int i = 0; i < 24; ++i) {
        if (fu < least_value) least_value = fu, best = u;
        if (fv < least_value) least_value = fv, best = v;
        if (fu < fv) {
            b = v, v = u, fv = fu;
            u = b - golden * (b - a);
            fu = value(at(std::exp(u)), y);
        } else {
            a = u, u = v, fu = fv;
            v = a + golden * (b - a);
            fv = value(at(std::exp(v)), y);
        }
    }
    return std::exp(best);
}

Vector Profile::lower_valleys(const Response& response, double phi) const {
    const Sums y = sums(response);
    const double here = phi * phi, reached = value(at(here), y);
    const double slack = exact_ ? -lower * (1 + std::fabs(reached)) : blurred;
    const double floor = least_rss(y);
    const Vector lambda = grid();
    Vector f, out;
    // past the point where even the least sum of squares cannot make up for the determinant,
    // which only grows, nothing lies lower
    for (size_t i = 0; i < lambda.size(); ++i) {
        const Point fresh = points_.empty() ? at(lambda[i]) : Point();
        const Point& point = points_.empty() ? fresh : points_[i];
        f.push_back(value(point, y));
        if (lambda[i] > here && floor > 0 &&
            point.logdet + m_ * (1 + std::log(two_pi * floor / m_)) > reached + std::fabs(slack))
            break;
    }
    for (size_t i = 0; i < f.size(); ++i) {
        const bool falls = i == 0 || f[i] < f[i - 1], rises = i + 1 < f.size() && f[i] <= f[i + 1];
        if (!falls || !rises) continue;
        const double low = i == 0 ? 0 : lambda[i - 1], high = lambda[i + 1];
        if (here >= low && here <= high) continue; // the valley it stands in
        const double best = i <= 1 ? lambda[1] : valley(low, lambda[i], high, y);
        const double lowest = i == 0 ? f[0] : std::min(f[i], value(at(best), y));
        if (lowest < reached + slack) out.push_back(std::sqrt(best));
    }
    return out;
}

} // namespace ranef
