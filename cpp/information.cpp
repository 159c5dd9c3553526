#include "information.hpp"

#include "dense.hpp"
#include "products.hpp"

namespace ranef {

namespace {

constexpr int least_columns = 8; // of a level
constexpr int levels_at_once = 256;
constexpr double of_a_product = 0.1; // the cost of an operation in BLAS, beside one in a loop

} // namespace

bool InformationSums::worthwhile(int r, size_t parameters) {
    const double rr = static_cast<double>(r) * r, k = static_cast<double>(parameters);
    return r >= least_columns && k > most_jacobi && lapack().gemm &&
           of_a_product * rr * rr / 2 < k * k / 2 * r;
}

InformationSums::InformationSums(int r, int p)
    : r_(r), p_(p), pairs_(r * (r + 1) / 2), M_(static_cast<size_t>(pairs_) * levels_at_once),
      S_(static_cast<size_t>(r) * r * levels_at_once),
      products_(static_cast<size_t>(pairs_) * r * r, 0.0),
      squares_(static_cast<size_t>(r) * r, 0.0), remains_(squares_.size() * p, 0.0) {}

void InformationSums::add_level(const double* M, const double* s, const double* K) {
    double* m = M_.data() + static_cast<size_t>(held_) * pairs_;
    double* ss = S_.data() + static_cast<size_t>(held_) * r_ * r_;
    for (int a = 0; a < r_; ++a)
        for (int c = 0; c <= a; ++c) *m++ = (M[a * r_ + c] + M[c * r_ + a]) / 2;
    for (int b = 0; b < r_; ++b)
        for (int d = 0; d < r_; ++d) {
            ss[b * r_ + d] = s[b] * s[d];
            squares_[static_cast<size_t>(b) * r_ + d] += s[b] * s[d];
        }
    double* out = remains_.data();
    for (int a = 0; a < r_; ++a)
        for (int b = 0; b < r_; ++b, out += p_)
            for (int e = 0; e < p_; ++e) out[e] += s[b] * K[static_cast<size_t>(a) * p_ + e];
    if (++held_ == levels_at_once) flush();
}

// products' (rows of it are columns to BLAS) += S M'
void InformationSums::flush() {
    const int rr = r_ * r_;
    add_product('N', 'T', rr, pairs_, held_, 1.0, S_.data(), rr, M_.data(), pairs_,
                products_.data(), rr);
    held_ = 0;
}

void InformationSums::add(const InformationSums& other) {
    for (size_t i = 0; i < products_.size(); ++i) products_[i] += other.products_[i];
    for (size_t i = 0; i < squares_.size(); ++i) squares_[i] += other.squares_[i];
    for (size_t i = 0; i < remains_.size(); ++i) remains_[i] += other.remains_[i];
}

void InformationSums::contract(const std::vector<const double*>& directions, int k, double* gram,
                               double* t, double* e) const {
    const int r = r_, rr = r * r;
    Vector U(rr);
    std::vector<std::vector<int>> nonzero(k); // of each direction: for us 2 r of r r
    for (int i = 0; i < k; ++i)
        for (int h = 0; h < rr; ++h)
            if (directions[i][h] != 0) nonzero[i].push_back(h);
    for (int i = 0; i < k; ++i) {
        const double* D = directions[i];
        std::fill(U.begin(), U.end(), 0.0);
        for (int place : nonzero[i]) {
            const int a = place / r, b = place % r;
            const double v = D[place];
            t[i] += v * squares_[place];
            const double* rest = remains_.data() + static_cast<size_t>(place) * p_;
            for (int h = 0; h < p_; ++h) e[static_cast<size_t>(i) * p_ + h] += v * rest[h];
            for (int c = 0; c < r; ++c) {
                const double* from =
                    products_.data() + static_cast<size_t>(packed(a, c)) * rr + b * r;
                double* to = U.data() + c * r;
                for (int d = 0; d < r; ++d) to[d] += v * from[d];
            }
        }
        for (int j = 0; j <= i; ++j) {
            double sum = 0;
            for (int h : nonzero[j]) sum += directions[j][h] * U[h];
            gram[static_cast<size_t>(i) * k + j] += sum;
        }
    }
}

} // namespace ranef
