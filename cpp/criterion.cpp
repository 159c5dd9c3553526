#include "criterion.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double two_pi = 6.283185307179586476925286766559;
constexpr double nearly_singular = 1e-5;

} // namespace

Criterion::Criterion(const Blocks& blocks, bool reml, int threads, bool known_scale)
    : b_(blocks), reml_(reml), threads_(threads), known_scale_(known_scale) {
    m_ = static_cast<double>(b_.n) - (reml ? b_.p : 0);
    const int K = b_.parameters, N = b_.order();
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const Factor& factor = b_.factors[f];
        const size_t rr = static_cast<size_t>(factor.r) * factor.r;
        lambda_.emplace_back(rr, 0.0);
        psi_.emplace_back(rr, 0.0);
        G_.emplace_back(rr, 0.0);
        modes_.emplace_back(static_cast<size_t>(factor.q) * factor.r, 0.0);
        scores_.emplace_back(static_cast<size_t>(factor.q) * factor.r, 0.0);
        for (const Term& term : factor.terms)
            for (int i = 0; i < term.parameters; ++i) {
                factor_of_.push_back(static_cast<int>(f));
                dpsi_.emplace_back(rr, 0.0);
            }
    }
    phi_.assign(K, 0.0);
    for (size_t d = 0; d < b_.chain.size(); ++d) {
        const ChainBlock& c = b_.chain[d];
        const size_t q = c.q;
        schur_.emplace_back(d > 0 ? c.panel.size() : 0);
        schur_y_.emplace_back(d > 0 ? q * c.r : 0);
        L_.emplace_back(q * c.r * c.r);
        W_.emplace_back(q * c.r * (c.width - c.r));
        Wy_.emplace_back(q * c.r);
        post_.emplace_back();
        push_.emplace_back();
    }
    tail_W_.resize(b_.tail_value.size());
    tail_ = make_tail(b_, threads_);
    Qy_.resize(N);
    x_.resize(N);
    half_.resize(N);
    beta_.resize(b_.p);
    C_.resize(static_cast<size_t>(b_.p) * b_.p);
    R_XX_.resize(C_.size());
    const int chunks = b_.chunks, p = b_.p;
    size_t rr = 0;
    for (const ChainBlock& c : b_.chain) rr += static_cast<size_t>(c.r) * c.r;
    const bool crossed = b_.T > 0 && !b_.chain.empty();
    for (int c = 0; c < chunks; ++c) {
        sum_XX_.emplace_back(static_cast<size_t>(p) * p);
        sum_Xy_.emplace_back(p);
        sum_G_.emplace_back(rr);
        sum_gram_.emplace_back(static_cast<size_t>(K) * K);
        sum_t_.emplace_back(K);
        sum_e_.emplace_back(static_cast<size_t>(K) * (crossed ? N : p));
    }
    sum_yy_.resize(chunks);
    sum_logdet_.resize(chunks);
    failed_.resize(chunks);
}

void Criterion::prepare(const double* phi) {
    std::copy(phi, phi + b_.parameters, phi_.begin());
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const Factor& factor = b_.factors[f];
        const int r = factor.r;
        Vector& Lambda = lambda_[f];
        std::fill(Lambda.begin(), Lambda.end(), 0.0);
        for (const Term& term : factor.terms) {
            const int s = term.structure->r;
            Vector block(static_cast<size_t>(s) * s, 0.0);
            term.structure->factor(phi + term.offset, block.data());
            for (int a = 0; a < s; ++a)
                for (int c = 0; c <= a; ++c)
                    Lambda[(term.first + a) * r + term.first + c] = block[a * s + c];
        }
        for (int a = 0; a < r; ++a)
            for (int c = 0; c <= a; ++c) {
                double s = 0;
                for (int k = 0; k <= c; ++k) s += Lambda[a * r + k] * Lambda[c * r + k];
                psi_[f][a * r + c] = psi_[f][c * r + a] = s;
            }
    }
}

const double* Criterion::panel(int depth, int level) const {
    const ChainBlock& c = b_.chain[depth];
    const Vector& source = depth == 0 ? c.panel : schur_[depth];
    return source.data() + static_cast<size_t>(level) * c.r * c.width;
}

// Eliminate the levels of one depth in one chunk: L, W, and what they leave to
// their ancestors and to the fixed effects.
// One function, since a level is read once and what it leaves goes to all from the cache.
template <int R>
void Criterion::eliminate(int depth, int chunk) {
    const ChainBlock& c = b_.chain[depth];
    const int r = R > 0 ? R : c.r, width = c.width, wp = width - r, p = b_.p;
    const Vector& Lambda = lambda_[c.factor];
    const bool crossed = b_.T > 0;
    Vector scratch(static_cast<size_t>(r) * (width + 1));
    double* XX = sum_XX_[chunk].data();
    double* Xy = sum_Xy_[chunk].data();
    double yy = 0, logdet = 0;
    const Vector& ys = depth == 0 ? y_->chain[0] : schur_y_[depth];
    for (size_t j = b_.chunk[depth][chunk]; j < b_.chunk[depth][chunk + 1]; ++j) {
        const double* A = panel(depth, static_cast<int>(j));
        double* L = L_[depth].data() + j * r * r;
        double* W = W_[depth].data() + j * r * wp;
        double* Wy = Wy_[depth].data() + j * r;
        // scratch = A Lambda, L = I + Lambda'A Lambda
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e) {
                double s = 0;
                for (int k = e; k < r; ++k) s += A[a * width + k] * Lambda[k * r + e];
                scratch[a * r + e] = s;
            }
        for (int a = 0; a < r; ++a)
            for (int e = 0; e <= a; ++e) {
                double s = a == e ? 1.0 : 0.0;
                for (int k = a; k < r; ++k) s += Lambda[k * r + a] * scratch[k * r + e];
                L[a * r + e] = s;
            }
        double pivots = 1;
        for (int a = 0; a < r; ++a) {
            for (int e = 0; e <= a; ++e) {
                double s = L[a * r + e];
                for (int k = 0; k < e; ++k) s -= L[a * r + k] * L[e * r + k];
                if (a == e) {
                    if (!(s > 0) || !std::isfinite(s)) {
                        failed_[chunk] = 1;
                        return;
                    }
                    const double d = std::sqrt(s);
                    L[a * r + a] = d;
                    if (r <= 4)
                        pivots *= d;
                    else
                        logdet += std::log(d);
                } else
                    L[a * r + e] = s / L[e * r + e];
            }
        }
        if (r <= 4) logdet += std::log(pivots);
        // W = L^-1 Lambda' [A_P, A_y]
        for (int a = 0; a < r; ++a) {
            double* w = W + static_cast<size_t>(a) * wp;
            std::fill(w, w + wp, 0.0);
            double wy = 0;
            for (int k = a; k < r; ++k) {
                const double l = Lambda[k * r + a];
                if (l == 0) continue;
                const double* u = A + static_cast<size_t>(k) * width + r;
                for (int e = 0; e < wp; ++e) w[e] += l * u[e];
                wy += l * ys[j * r + k];
            }
            for (int k = 0; k < a; ++k) {
                const double l = L[a * r + k];
                const double* u = W + static_cast<size_t>(k) * wp;
                for (int e = 0; e < wp; ++e) w[e] -= l * u[e];
                wy -= l * Wy[k];
            }
            const double inv = 1 / L[a * r + a];
            for (int e = 0; e < wp; ++e) w[e] *= inv;
            Wy[a] = wy * inv;
            yy += Wy[a] * Wy[a];
        }
        // to the ancestors
        int off = 0;
        for (size_t k = 0; k < c.ancestor.size(); ++k) {
            const ChainBlock& up = b_.chain[depth + 1 + k];
            const int ru = up.r;
            const size_t l = c.ancestor[k][j];
            double* U = schur_[depth + 1 + k].data() + l * ru * up.width;
            double* Uy = schur_y_[depth + 1 + k].data() + l * ru;
            for (int a = 0; a < ru; ++a)
                for (int s = 0; s < r; ++s) {
                    const double* w = W + static_cast<size_t>(s) * wp + off;
                    const double v = w[a];
                    if (v == 0) continue;
                    double* row = U + static_cast<size_t>(a) * up.width;
                    for (int e = 0; e < up.width; ++e) row[e] -= v * w[e];
                    Uy[a] -= v * Wy[s];
                }
            off += ru;
        }
        // to the fixed effects
        for (int s = 0; s < r; ++s) {
            const double* w = W + static_cast<size_t>(s) * wp + off;
            for (int a = 0; a < p; ++a) {
                const double v = w[a];
                if (v == 0) continue;
                Xy[a] += v * Wy[s];
                if (b_.blas_fixed) continue;
                double* row = XX + static_cast<size_t>(a) * p;
                for (int e = 0; e <= a; ++e) row[e] += v * w[e];
            }
        }
        if (crossed) {
            const int64_t start = b_.tail_ptr[j];
            const int m = static_cast<int>(b_.tail_ptr[j + 1] - start);
            const double* C = b_.tail_value.data() + start * r;
            double* T = tail_W_.data() + start * r;
            for (int a = 0; a < r; ++a) {
                double* w = T + static_cast<size_t>(a) * m;
                std::fill(w, w + m, 0.0);
                for (int k = a; k < r; ++k) {
                    const double l = Lambda[k * r + a];
                    const double* u = C + static_cast<size_t>(k) * m;
                    for (int e = 0; e < m; ++e) w[e] += l * u[e];
                }
                for (int k = 0; k < a; ++k) {
                    const double l = L[a * r + k];
                    const double* u = T + static_cast<size_t>(k) * m;
                    for (int e = 0; e < m; ++e) w[e] -= l * u[e];
                }
                const double inv = 1 / L[a * r + a];
                for (int e = 0; e < m; ++e) w[e] *= inv;
            }
        }
    }
    sum_yy_[chunk] += yy;
    sum_logdet_[chunk] += 2 * logdet;
    if (!b_.blas_fixed) return;
    const size_t first = b_.chunk[depth][chunk], last = b_.chunk[depth][chunk + 1];
    add_gram_rows(p, static_cast<int>((last - first) * r),
                  W_[depth].data() + first * r * wp + wp - p, wp, XX);
}

void Criterion::eliminate_chunk(int chunk) {
    std::fill(sum_XX_[chunk].begin(), sum_XX_[chunk].end(), 0.0);
    std::fill(sum_Xy_[chunk].begin(), sum_Xy_[chunk].end(), 0.0);
    sum_yy_[chunk] = sum_logdet_[chunk] = 0;
    failed_[chunk] = 0;
    for (size_t d = 1; d < b_.chain.size(); ++d) {
        const ChainBlock& c = b_.chain[d];
        const size_t first = b_.chunk[d][chunk], last = b_.chunk[d][chunk + 1];
        const size_t row = static_cast<size_t>(c.r) * c.width;
        std::copy(c.panel.begin() + first * row, c.panel.begin() + last * row,
                  schur_[d].begin() + first * row);
        std::copy(y_->chain[d].begin() + first * c.r, y_->chain[d].begin() + last * c.r,
                  schur_y_[d].begin() + first * c.r);
    }
    for (int d = 0; d < static_cast<int>(b_.chain.size()) && !failed_[chunk]; ++d) {
        switch (b_.chain[d].r) {
        case 1:
            eliminate<1>(d, chunk);
            break;
        case 2:
            eliminate<2>(d, chunk);
            break;
        case 3:
            eliminate<3>(d, chunk);
            break;
        case 4:
            eliminate<4>(d, chunk);
            break;
        default:
            eliminate<0>(d, chunk);
        }
    }
}

bool Criterion::any_kernel() const {
    for (int t : b_.tail)
        if (b_.factors[t].kernel) return true;
    return false;
}

void Criterion::scale_vector(const double* in, double* out) const {
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        const Vector& L = lambda_[t];
        for (int i = f.column; i < f.column + f.q * f.r; i += f.r)
            for (int a = 0; a < f.r; ++a) {
                double v = 0;
                for (int k = a; k < f.r; ++k) v += L[k * f.r + a] * in[i + k];
                out[i + a] = v;
            }
    }
    for (int e = b_.T; e < b_.order(); ++e) out[e] = in[e];
}

double Criterion::at_point(const double* phi) {
    if (known_ && std::equal(phi_.begin(), phi_.end(), phi)) return value_;
    return factorise(phi);
}

double Criterion::factorise(const double* phi) {
    inverted_ = solved_ = false;
    value_ = factorised(phi);
    known_ = true;
    return value_;
}

// After the tail has given its factor's place to the covariance; Q is still there.
void Criterion::restore_factor() {
    if (tail_->holds_factor()) return;
    ++factorisations_;
    if (!tail_->restore(lambda_)) inverted_ = false;
}

double Criterion::factorised(const double* phi) {
    sound_ = false;
    ++factorisations_;
    const int N = b_.order(), T = b_.T;
    prepare(phi);
    const bool large = !b_.chain.empty() && b_.chain[0].panel.size() > 40000;
    for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) { eliminate_chunk(c); });
    for (int c = 0; c < b_.chunks; ++c)
        if (failed_[c]) return infinity;
    tail_->assemble();
    std::copy(y_->tail.begin(), y_->tail.end(), Qy_.begin());
    std::copy(y_->fixed.begin(), y_->fixed.end(), Qy_.begin() + T);
    Qyy_ = y_->square;
    double logdet = 0;
    for (int c = 0; c < b_.chunks; ++c) {
        logdet += sum_logdet_[c];
        Qyy_ -= sum_yy_[c];
        tail_->subtract_fixed(sum_XX_[c]);
        for (int e = 0; e < b_.p; ++e) Qy_[T + e] -= sum_Xy_[c][e];
    }
    if (T > 0 && !b_.chain.empty()) tail_->subtract_leader({tail_W_, W_[0], Wy_[0]}, Qy_);
    if (any_kernel()) {
        tail_->apply_kernels();
        kernel_times(b_, Qy_, 1, true);
    }
    scale_vector(Qy_.data(), half_.data());
    if (!tail_->factorise(lambda_)) return infinity;
    tail_->add_log_determinant(reml_, logdet);
    cancelled_ = 0;
    for (int e = 0; e < b_.p; ++e) {
        const double pivot = tail_->fixed_pivot(e);
        cancelled_ += b_.fixed[at(e, e, b_.p)] / (pivot * pivot);
    }
    tail_->forward(1, half_.data());
    r2_ = Qyy_ - inner(N, half_.data(), half_.data());
    logdet_ = logdet;
    sound_ = std::isfinite(logdet);
    if (known_scale_) return std::isfinite(logdet + r2_) ? logdet + r2_ : infinity;
    if (!(r2_ > 0) || !std::isfinite(logdet)) return infinity;
    return logdet - b_.log_weights + m_ * (1 + std::log(two_pi * r2_ / m_));
}

// beta, tail modes and scores; C = (X'H^-1X)^-1.
void Criterion::solve() {
    if (solved_) return;
    solved_ = true;
    restore_factor();
    const int N = b_.order(), T = b_.T, p = b_.p;
    Vector x = half_;
    if (held_) std::fill(x.begin() + T, x.end(), 0.0);
    tail_->backward(1, x.data());
    std::copy(x.begin() + T, x.end(), beta_.begin());
    Vector L = tail_->fixed_factor();
    inverse_from_cholesky(p, L.data(), p);
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) C_[at(a, e, p)] = C_[at(e, a, p)] = L[at(a, e, p)];
    if (T > 0) {
        Vector v(N), Qv(N);
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            const Vector& Lf = lambda_[t];
            for (int i = f.column; i < f.column + f.q * f.r; i += f.r)
                for (int a = 0; a < f.r; ++a) {
                    double s = 0;
                    for (int k = 0; k <= a; ++k) s += Lf[a * f.r + k] * x[i + k];
                    v[i + a] = s;
                }
        }
        std::copy(beta_.begin(), beta_.end(), v.begin() + T);
        tail_->schur_times(1, v.data(), Qv.data());
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            const size_t size = static_cast<size_t>(f.q) * f.r;
            for (size_t i = 0; i < size; ++i) {
                scores_[t][i] = Qy_[f.column + i] - Qv[f.column + i];
            }
        }
        // from here on the modes as they multiply the data
        x_.swap(v);
        kernel_times(b_, x_, 1, false);
        for (int t : b_.tail) {
            const auto first = x_.begin() + b_.factors[t].column;
            std::copy(first, first + static_cast<std::ptrdiff_t>(modes_[t].size()),
                      modes_[t].begin());
        }
    } else
        x_ = x;
}

// Y = S_TT^-1 S_TX, scaled back: the tail's modes of X's columns. Before S is inverted.
void Criterion::fixed_modes() {
    const int T = b_.T, p = b_.p;
    restore_factor();
    Y_ = tail_->fixed_modes();
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        const Vector& Lf = lambda_[t];
        for (int e = 0; e < p; ++e)
            for (int i = f.column; i < f.column + f.q * f.r; i += f.r)
                for (int a = f.r - 1; a >= 0; --a) {
                    double s = 0;
                    for (int k = 0; k <= a; ++k) s += Lf[a * f.r + k] * Y_[at(i + k, e, T)];
                    Y_[at(i + a, e, T)] = s;
                }
    }
}

void Criterion::score() {
    solve();
    for (int d = static_cast<int>(b_.chain.size()) - 1; d >= 0; --d) {
        const bool large = b_.chain[d].panel.size() > 20000;
        for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) { descend<0>(d, c, false); });
    }
}

void Criterion::top_covariance(bool with_fixed) {
    if (with_fixed)
        R_XX_ = C_;
    else
        std::fill(R_XX_.begin(), R_XX_.end(), 0.0);
}

// R, the covariance of the tail (and, with it, of X), from S.
void Criterion::invert_tail(bool with_fixed) {
    restore_factor();
    tail_->invert(with_fixed);
    tail_->scale_inverse(lambda_);
}

// After factorise() and solve(): all that second derivatives need of the tail.
void Criterion::invert() {
    if (!reml_) fixed_modes();
    invert_tail(reml_);
    inverted_ = true;
}

bool Criterion::scalar_tail() const {
    return std::all_of(b_.tail.begin(), b_.tail.end(), [&](int t) { return b_.factors[t].r == 1; });
}

// G of the tail factors: sum over levels of (B Lambda)_jj with
// B Lambda = [Q Lambda, Q_X] S^-1, then without Lambda; S^-1 becomes R.
void Criterion::tail_gradient(bool with_fixed) {
    std::vector<Vector> BL;
    tail_->gradient(lambda_, with_fixed, BL, tail_squares_);
    tail_->scale_inverse(lambda_);
    for (int t : b_.tail) {
        const int r = b_.factors[t].r;
        const Vector& L = lambda_[t];
        double smallest = infinity, largest = 1;
        for (int a = 0; a < r; ++a) {
            smallest = std::min(smallest, std::fabs(L[a * r + a]));
            for (int c = 0; c <= a; ++c) largest = std::max(largest, std::fabs(L[a * r + c]));
        }
        if (smallest > nearly_singular * largest)
            divide_by_factor(r, L.data(), BL[t].data(), G_[t].data());
        else
            G_[t] = tail_->gradient_exact(lambda_, t, with_fixed);
    }
}

} // namespace ranef
