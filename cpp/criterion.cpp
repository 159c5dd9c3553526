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
constexpr double safe_lambda = 1e-3; // Lambda by which may be divided twice
constexpr int dense_block = 512;     // rows of the leader handed to BLAS at once

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
                double* row = XX + static_cast<size_t>(a) * p;
                for (int e = 0; e <= a; ++e) row[e] += v * w[e];
                Xy[a] += v * Wy[s];
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
    tail_->factorise(lambda_);
    inverted_ = false;
}

double Criterion::factorised(const double* phi) {
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
    tail_->forward(1, half_.data());
    r2_ = Qyy_ - inner(N, half_.data(), half_.data());
    logdet_ = logdet;
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

bool Criterion::ready_at(const Vector& phi) const {
    return inverted_ && b_.T > 0 && (b_.sparse || scalar_tail()) && phi == phi_;
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

// Covariance of what remains once the levels of `depth` are gone: the
// ancestors of one level, then X; (wp, wp) row-major.
void Criterion::gather_ancestors(const std::vector<Vector>& from, int depth, int level,
                                 Vector& PP) const {
    const ChainBlock& c = b_.chain[depth];
    const int wp = c.width - c.r, p = b_.p;
    int off = 0;
    for (size_t k = 0; k < c.ancestor.size(); ++k) {
        const ChainBlock& up = b_.chain[depth + 1 + k];
        const double* row = from[depth + 1 + k].data() +
                            static_cast<size_t>(c.ancestor[k][level]) * up.r * up.width;
        for (int a = 0; a < up.r; ++a)
            for (int e = 0; e < up.width; ++e)
                PP[static_cast<size_t>(off + a) * wp + off + e] =
                    PP[static_cast<size_t>(off + e) * wp + off + a] =
                        row[static_cast<size_t>(a) * up.width + e];
        off += up.r;
    }
    for (int a = 0; a < p; ++a)
        for (int e = 0; e < p; ++e)
            PP[static_cast<size_t>(off + a) * wp + off + e] = R_XX_[static_cast<size_t>(a) * p + e];
}

// From the coarsest to the finest: modes, scores and, when wanted, covariances,
// G, and (for a chain of one) the average information.
template <int R>
void Criterion::descend(int depth, int chunk, bool derivatives) {
    const ChainBlock& c = b_.chain[depth];
    const int r = R > 0 ? R : c.r, width = c.width, wp = width - r, p = b_.p, T = b_.T;
    const int N = b_.order(), K = b_.parameters;
    const size_t up_count = c.ancestor.size();
    const bool crossed = T > 0, alone = b_.chain.size() == 1;
    const bool keep = !post_[depth].empty();
    const bool covariances = derivatives || keep;
    const double* Lambda = lambda_[c.factor].data();
    const double* Psi = psi_[c.factor].data();
    const Vector& ys = depth == 0 ? y_->chain[0] : schur_y_[depth];
    Vector work(static_cast<size_t>(r) * r * 5 + static_cast<size_t>(r) * (3 * wp + 4));
    double* V = work.data();
    double* Nm = V + r * r;
    double* M = Nm + r * r;
    double* B = M + r * r;
    double* scratch = B + r * r;
    double* Kp = scratch + r * r;
    double* KR = Kp + static_cast<size_t>(r) * wp;
    double* J = KR + static_cast<size_t>(r) * wp;
    double* rhs = J + static_cast<size_t>(r) * wp;
    double* s = rhs + r;
    Vector rest(wp), PP(covariances ? static_cast<size_t>(wp) * wp : 0), sparse;
    int32_t parent = -1;
    if (covariances && up_count == 0) gather_ancestors(post_, depth, 0, PP);
    for (int e = 0; e < p; ++e) rest[wp - p + e] = beta_[e];
    // own parameters
    std::vector<int> own;
    if (derivatives && alone)
        for (int i = 0; i < K; ++i)
            if (factor_of_[i] == c.factor) own.push_back(i);
    Vector v(own.size() * r), Mv(own.size() * r);
    const bool dense = crossed && covariances && DenseTail::dense_leader(b_);
    const size_t nodes = std::max(1, dense_block / r);
    Vector full_K(dense ? static_cast<size_t>(N) * nodes * r : 0), full_RK(full_K.size());
    size_t g_at = 0;
    for (int d = 0; d < depth; ++d) g_at += static_cast<size_t>(b_.chain[d].r) * b_.chain[d].r;
    double* G = sum_G_[chunk].data() + g_at;
    double* gram = sum_gram_[chunk].data();
    double* tsum = sum_t_[chunk].data();
    const int e_rows = crossed ? N : p;
    const double ratio = this->ratio();
    for (size_t j = b_.chunk[depth][chunk]; j < b_.chunk[depth][chunk + 1]; ++j) {
        const double* A = panel(depth, static_cast<int>(j));
        const double* AP = A + r;
        const Level<R> level{r, width, A, L_[depth].data() + j * r * r, Lambda, V, Nm, M};
        level.resolve(scratch);
        if (up_count > 0 && c.ancestor[0][j] != parent) {
            parent = c.ancestor[0][j];
            int off = 0;
            for (size_t k = 0; k < up_count; ++k) {
                const ChainBlock& up = b_.chain[depth + 1 + k];
                const double* mode =
                    modes_[up.factor].data() + static_cast<size_t>(c.ancestor[k][j]) * up.r;
                for (int a = 0; a < up.r; ++a) rest[off++] = mode[a];
            }
            if (covariances) gather_ancestors(post_, depth, static_cast<int>(j), PP);
        }
        for (int a = 0; a < r; ++a)
            rhs[a] = ys[j * r + a] - inner(wp, AP + static_cast<size_t>(a) * width, rest.data());
        int m = 0;
        const int32_t* col = nullptr;
        const double* C = nullptr;
        if (crossed) {
            const int64_t start = b_.tail_ptr[j];
            m = static_cast<int>(b_.tail_ptr[j + 1] - start);
            col = b_.tail_column.data() + start;
            C = b_.tail_value.data() + start * r;
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < m; ++e)
                    rhs[a] -= C[static_cast<size_t>(a) * m + e] * x_[col[e]];
        }
        for (int a = 0; a < r; ++a) {
            s[a] = inner(r, Nm + a * r, rhs);
            scores_[c.factor][j * r + a] = s[a];
        }
        for (int a = 0; a < r; ++a) modes_[c.factor][j * r + a] = inner(r, Psi + a * r, s);
        if (!covariances) continue;
        multiply<R>(r, wp, Nm, AP, width, Kp);
        // B = M - K R K'
        for (int k = 0; k < r * r; ++k) B[k] = M[k];
        if (dense) {
            const size_t place = (j - b_.chunk[depth][chunk]) % nodes;
            if (place == 0) {
                // K for the next levels as columns over [tail, X], and R K'
                const size_t last = std::min(j + nodes, b_.chunk[depth][chunk + 1]);
                std::fill(full_K.begin(), full_K.end(), 0.0);
                for (size_t i = j; i < last; ++i) {
                    const double* Ai = panel(depth, static_cast<int>(i));
                    const Level<R> other{r,      width, Ai, L_[depth].data() + i * r * r,
                                         Lambda, V,     Nm, M};
                    other.resolve(scratch);
                    const int64_t first = b_.tail_ptr[i];
                    const int mi = static_cast<int>(b_.tail_ptr[i + 1] - first);
                    sparse.resize(static_cast<size_t>(r) * (mi + wp));
                    double* KX = sparse.data() + static_cast<size_t>(r) * mi;
                    multiply<R>(r, mi, Nm, b_.tail_value.data() + first * r, mi, sparse.data());
                    multiply<R>(r, wp, Nm, Ai + r, width, KX);
                    for (int a = 0; a < r; ++a) {
                        double* column = full_K.data() + at(0, static_cast<int>(i - j) * r + a, N);
                        for (int e = 0; e < mi; ++e)
                            column[b_.tail_column[first + e]] =
                                sparse[static_cast<size_t>(a) * mi + e];
                        std::copy_n(KX + static_cast<size_t>(a) * wp, p, column + T);
                    }
                }
                tail_->covariance_times(static_cast<int>(last - j) * r, full_K.data(),
                                        full_RK.data());
                level.resolve(scratch);
            }
            const double* k0 = full_K.data() + at(0, static_cast<int>(place) * r, N);
            const double* y0 = full_RK.data() + at(0, static_cast<int>(place) * r, N);
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f)
                    B[a * r + f] -= inner(N, k0 + at(0, a, N), y0 + at(0, f, N));
        }
        for (int a = 0; a < r && !dense; ++a) {
            double* row = KR + static_cast<size_t>(a) * wp;
            const double* ka = Kp + static_cast<size_t>(a) * wp;
            for (int e = 0; e < wp; ++e)
                row[e] = inner(wp, PP.data() + static_cast<size_t>(e) * wp, ka);
            for (int f = 0; f < r; ++f)
                B[a * r + f] -= inner(wp, row, Kp + static_cast<size_t>(f) * wp);
        }
        const double* KT = nullptr;
        if (crossed) {
            sparse.resize(static_cast<size_t>(r) * m * 2);
            multiply<R>(r, m, Nm, C, m, sparse.data());
            KT = sparse.data();
        }
        if (crossed && !dense)
            tail_->level_form(j, r, m, KT, Kp, sparse.data() + static_cast<size_t>(r) * m, B);
        if (derivatives)
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f) G[a * r + f] += B[a * r + f] - ratio * s[a] * s[f];
        if (keep) {
            // R_lP = -J R, R_ll = V + J R J' (with the tail: see mode_covariances)
            double* out = post_[depth].data() + j * r * width;
            multiply<R>(r, wp, V, AP, width, J);
            for (int a = 0; a < r; ++a) {
                double* row = out + static_cast<size_t>(a) * width;
                const double* ja = J + static_cast<size_t>(a) * wp;
                for (int e = 0; e < wp; ++e)
                    row[r + e] = -inner(wp, PP.data() + static_cast<size_t>(e) * wp, ja);
            }
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f)
                    out[static_cast<size_t>(a) * width + f] =
                        V[a * r + f] - inner(wp, out + static_cast<size_t>(a) * width + r,
                                             J + static_cast<size_t>(f) * wp);
            // Psi - Psi B Psi is the same without cancelling the tail's part
            if (crossed)
                for (int a = 0; a < r; ++a)
                    for (int f = 0; f < r; ++f) {
                        double value = Psi[a * r + f];
                        for (int k = 0; k < r; ++k)
                            for (int h = 0; h < r; ++h)
                                value -= Psi[a * r + k] * B[k * r + h] * Psi[h * r + f];
                        out[static_cast<size_t>(a) * width + f] = value;
                    }
        }
        if (own.empty()) continue;
        for (size_t i = 0; i < own.size(); ++i) {
            const double* d = dpsi_[own[i]].data();
            for (int a = 0; a < r; ++a) v[i * r + a] = inner(r, d + a * r, s);
            tsum[own[i]] += inner(r, v.data() + i * r, s);
            for (int a = 0; a < r; ++a) Mv[i * r + a] = inner(r, M + a * r, v.data() + i * r);
            double* e = sum_e_[chunk].data() + static_cast<size_t>(own[i]) * e_rows;
            for (int a = 0; a < r; ++a) {
                const double va = v[i * r + a];
                const double* ka = Kp + static_cast<size_t>(a) * wp;
                double* ex = e + (crossed ? T : 0);
                for (int k = 0; k < p; ++k) ex[k] += va * ka[k];
                if (crossed) {
                    const double* kt = KT + static_cast<size_t>(a) * m;
                    for (int k = 0; k < m; ++k) e[col[k]] += va * kt[k];
                }
            }
            for (size_t k = 0; k <= i; ++k)
                gram[static_cast<size_t>(own[i]) * K + own[k]] +=
                    inner(r, v.data() + k * r, Mv.data() + i * r);
        }
    }
}

void Criterion::descend_by_size(int depth, int chunk, bool derivatives) {
    switch (b_.chain[depth].r) {
    case 1:
        return descend<1>(depth, chunk, derivatives);
    case 2:
        return descend<2>(depth, chunk, derivatives);
    case 3:
        return descend<3>(depth, chunk, derivatives);
    case 4:
        return descend<4>(depth, chunk, derivatives);
    default:
        return descend<0>(depth, chunk, derivatives);
    }
}

// Average information of a nested chain, from the finest levels up: the
// columns w_i = Z dPsi_i s are carried as right-hand sides.
void Criterion::information_up(int chunk) {
    const int K = b_.parameters, p = b_.p;
    double* gram = sum_gram_[chunk].data();
    double* tsum = sum_t_[chunk].data();
    for (int d = 0; d < static_cast<int>(b_.chain.size()); ++d) {
        const ChainBlock& c = b_.chain[d];
        std::fill(push_[d].begin() + b_.chunk[d][chunk] * c.r * K,
                  push_[d].begin() + b_.chunk[d][chunk + 1] * c.r * K, 0.0);
    }
    for (int d = 0; d < static_cast<int>(b_.chain.size()); ++d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, width = c.width, wp = width - r;
        Vector V(r * r), Nm(r * r), M(r * r), scratch(r * r);
        Vector v(static_cast<size_t>(K) * r), pushed(static_cast<size_t>(wp));
        Vector a_own(r), total(r);
        const double* Lambda = lambda_[c.factor].data();
        for (size_t j = b_.chunk[d][chunk]; j < b_.chunk[d][chunk + 1]; ++j) {
            const double* A = panel(d, static_cast<int>(j));
            const Level<0> level{r,      width,    A,         L_[d].data() + j * r * r,
                                 Lambda, V.data(), Nm.data(), M.data()};
            level.resolve(scratch.data());
            const double* s = scores_[c.factor].data() + j * r;
            const double* foreign = push_[d].data() + j * r * K;
            for (int i = 0; i < K; ++i) {
                double* vi = v.data() + static_cast<size_t>(i) * r;
                const bool own = factor_of_[i] == c.factor;
                for (int a = 0; a < r; ++a)
                    vi[a] = own ? inner(r, dpsi_[i].data() + a * r, s)
                                : foreign[static_cast<size_t>(i) * r + a];
                if (own) tsum[i] += inner(r, vi, s);
                bool zero = true;
                for (int a = 0; a < r; ++a) zero = zero && vi[a] == 0;
                if (zero) continue;
                // total = A_P-weights of this column: N'v for own, -V e for foreign
                for (int a = 0; a < r; ++a) {
                    double sum = 0;
                    for (int k = 0; k < r; ++k)
                        sum += own ? Nm[k * r + a] * vi[k] : -V[a * r + k] * vi[k];
                    total[a] = sum;
                }
                std::fill(pushed.begin(), pushed.end(), 0.0);
                for (int a = 0; a < r; ++a) {
                    const double* row = A + static_cast<size_t>(a) * width + r;
                    for (int e = 0; e < wp; ++e) pushed[e] += total[a] * row[e];
                }
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const ChainBlock& up = b_.chain[d + 1 + k];
                    double* to = push_[d + 1 + k].data() +
                                 (static_cast<size_t>(c.ancestor[k][j]) * K + i) * up.r;
                    for (int a = 0; a < up.r; ++a) to[a] += pushed[off++];
                }
                double* ex = sum_e_[chunk].data() + static_cast<size_t>(i) * p;
                for (int e = 0; e < p; ++e) ex[e] += pushed[off + e];
                // gram with the columns up to i
                for (int k = 0; k <= i; ++k) {
                    const bool own_k = factor_of_[k] == c.factor;
                    const double* vk = v.data() + static_cast<size_t>(k) * r;
                    double sum = 0;
                    if (own && own_k)
                        for (int a = 0; a < r; ++a) sum += vi[a] * inner(r, M.data() + a * r, vk);
                    else
                        // own x foreign: e'N'v; foreign x foreign: -e'V e
                        sum = own && !own_k   ? inner(r, total.data(), vk)
                              : !own && own_k ? [&] {
                                    double x = 0;
                                    for (int a = 0; a < r; ++a)
                                        for (int h = 0; h < r; ++h)
                                            x += vk[a] * Nm[a * r + h] * vi[h];
                                    return x;
                                }()
                                              : inner(r, total.data(), vk);
                    gram[static_cast<size_t>(i) * K + k] += sum;
                }
            }
        }
    }
}

void Criterion::differentiate(double* gradient, double* hessian) {
    const int N = b_.order(), T = b_.T, p = b_.p, K = b_.parameters;
    solve();
    for (const Factor& f : b_.factors)
        for (const Term& term : f.terms) {
            const int s = term.structure->r;
            Vector block(static_cast<size_t>(s) * s);
            for (int i = 0; i < term.parameters; ++i) {
                std::fill(block.begin(), block.end(), 0.0);
                term.structure->derivative(phi_.data() + term.offset, i, block.data());
                Vector& d = dpsi_[term.offset + i];
                std::fill(d.begin(), d.end(), 0.0);
                for (int a = 0; a < s; ++a)
                    for (int e = 0; e < s; ++e)
                        d[(term.first + a) * f.r + term.first + e] = block[a * s + e];
            }
        }
    for (Vector& G : G_) std::fill(G.begin(), G.end(), 0.0);
    top_covariance(reml_);
    const double ratio = this->ratio();
    Vector gram(static_cast<size_t>(K) * K, 0.0), t(K, 0.0);
    const bool crossed = T > 0;
    Vector e(static_cast<size_t>(N) * K, 0.0);
    if (crossed) {
        // the tail's own columns, before S is overwritten
        restore_factor();
        if (!reml_) fixed_modes();
        tail_->invert(reml_);
        tail_gradient(reml_);
        inverted_ = true;
        Vector v(static_cast<size_t>(N) * K, 0.0);
        for (int i = 0; i < K; ++i) {
            const int f = factor_of_[i];
            const Factor& factor = b_.factors[f];
            if (factor.depth >= 0) continue;
            const int r = factor.r;
            for (int l = 0; l < factor.q; ++l) {
                const double* s = scores_[f].data() + static_cast<size_t>(l) * r;
                for (int a = 0; a < r; ++a) {
                    const double x = inner(r, dpsi_[i].data() + a * r, s);
                    v[at(factor.column + l * r + a, i, N)] = x;
                    t[i] += x * s[a];
                }
            }
        }
        for (int f : b_.tail) {
            const Factor& factor = b_.factors[f];
            const int r = factor.r;
            for (int l = 0; l < factor.q; ++l) {
                const double* s = scores_[f].data() + static_cast<size_t>(l) * r;
                for (int a = 0; a < r; ++a)
                    for (int c = 0; c < r; ++c) G_[f][a * r + c] -= ratio * s[a] * s[c];
            }
        }
        tail_->schur_times(K, v.data(), e.data());
        for (int i = 0; i < K; ++i)
            for (int k = 0; k <= i; ++k)
                gram[static_cast<size_t>(i) * K + k] +=
                    inner(N, v.data() + at(0, i, N), e.data() + at(0, k, N));
        // the leader's columns meet the tail's v below
        const bool kernel = any_kernel();
        if (kernel) tail_->unapply_kernels(true);
        for (int c = 0; c < b_.chunks; ++c) {
            for (Vector* sum : {&sum_G_[c], &sum_gram_[c], &sum_t_[c], &sum_e_[c]})
                std::fill(sum->begin(), sum->end(), 0.0);
        }
        if (!b_.chain.empty()) {
            const bool large = b_.tail_column.size() > 10000 && !DenseTail::dense_leader(b_);
            for_chunks(b_.chunks, large ? threads_ : 1,
                       [&](int c) { descend_by_size(0, c, true); });
        }
        Vector leader(static_cast<size_t>(N) * K, 0.0);
        for (int c = 0; c < b_.chunks; ++c)
            for (size_t k = 0; k < leader.size(); ++k) leader[k] += sum_e_[c][k];
        if (kernel) {
            tail_->reapply_kernels();
            kernel_times(b_, leader, K, true);
        }
        for (int i = 0; i < K; ++i)
            for (int k = 0; k <= i; ++k)
                gram[static_cast<size_t>(i) * K + k] +=
                    inner(N, leader.data() + at(0, i, N), v.data() + at(0, k, N)) +
                    inner(N, leader.data() + at(0, k, N), v.data() + at(0, i, N));
        for (size_t k = 0; k < leader.size(); ++k) e[k] += leader[k];
    } else {
        const bool alone = b_.chain.size() == 1;
        for (size_t d = 0; d < b_.chain.size(); ++d) {
            const ChainBlock& c = b_.chain[d];
            if (!alone) {
                post_[d].resize(d > 0 ? static_cast<size_t>(c.q) * c.r * c.width : 0);
                push_[d].resize(static_cast<size_t>(c.q) * c.r * K);
            }
        }
        const bool large = b_.chain[0].panel.size() > 20000;
        for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) {
            for (Vector* sum : {&sum_G_[c], &sum_gram_[c], &sum_t_[c], &sum_e_[c]})
                std::fill(sum->begin(), sum->end(), 0.0);
            for (int d = static_cast<int>(b_.chain.size()) - 1; d >= 0; --d) {
                descend_by_size(d, c, true);
            }
            if (!alone) information_up(c);
        });
        for (int c = 0; c < b_.chunks; ++c)
            for (size_t k = 0; k < e.size(); ++k) e[k] += sum_e_[c][k];
    }
    for (int c = 0; c < b_.chunks; ++c) {
        const double* G = sum_G_[c].data();
        for (const ChainBlock& block : b_.chain)
            for (double& g : G_[block.factor]) g += *G++;
        for (size_t k = 0; k < gram.size(); ++k) gram[k] += sum_gram_[c][k];
        for (int i = 0; i < K; ++i) t[i] += sum_t_[c][i];
    }
    // take out what remains: gram -= e'(remaining system)^-1 e
    if (crossed) {
        Vector Re(static_cast<size_t>(N) * K);
        tail_->covariance_times(K, e.data(), Re.data());
        Vector u(static_cast<size_t>(p) * K, 0.0), Cu(u.size());
        if (!reml_) {
            for (int i = 0; i < K; ++i)
                for (int k = 0; k < p; ++k)
                    u[at(k, i, p)] = e[at(T + k, i, N)] -
                                     inner(T, Y_.data() + at(0, k, T), e.data() + at(0, i, N));
            symmetric_times(p, K, C_.data(), p, u.data(), p, Cu.data(), p);
        }
        for (int i = 0; i < K; ++i)
            for (int k = 0; k <= i; ++k)
                gram[static_cast<size_t>(i) * K + k] -=
                    inner(N, e.data() + at(0, i, N), Re.data() + at(0, k, N)) +
                    inner(p, u.data() + at(0, i, p), Cu.data() + at(0, k, p));
        c_ = std::move(u);
    } else {
        Vector Ce(static_cast<size_t>(p) * K);
        symmetric_times(p, K, C_.data(), p, e.data(), p, Ce.data(), p);
        for (int i = 0; i < K; ++i)
            for (int k = 0; k <= i; ++k)
                gram[static_cast<size_t>(i) * K + k] -=
                    inner(p, e.data() + at(0, i, p), Ce.data() + at(0, k, p));
        c_ = std::move(e);
    }
    if (extra_)
        for (size_t f = 0; f < G_.size(); ++f)
            for (size_t k = 0; k < G_[f].size(); ++k) G_[f][k] += (*extra_)[f][k];
    const double t_share = known_scale_ ? 0.0 : ratio / r2_;
    for (int i = 0; i < K; ++i) {
        const Vector& G = G_[factor_of_[i]];
        gradient[i] = inner(static_cast<int>(G.size()), G.data(), dpsi_[i].data());
        for (int k = 0; k <= i; ++k)
            hessian[at(i, k, K)] = hessian[at(k, i, K)] =
                ratio * gram[static_cast<size_t>(i) * K + k] - t_share * t[i] * t[k];
    }
    second_order(ratio, gram);
    for (size_t f = 0; f < b_.factors.size(); ++f)
        for (const Term& term : b_.factors[f].terms) {
            const int s = term.structure->r, r = b_.factors[f].r;
            Vector block(static_cast<size_t>(s) * s);
            for (int i = 0; i < term.parameters; ++i)
                for (int k = 0; k <= i; ++k) {
                    std::fill(block.begin(), block.end(), 0.0);
                    if (!term.structure->second(phi_.data() + term.offset, i, k, block.data()))
                        continue;
                    double sum = 0;
                    for (int a = 0; a < s; ++a)
                        for (int e2 = 0; e2 < s; ++e2)
                            sum +=
                                block[a * s + e2] * G_[f][(term.first + a) * r + term.first + e2];
                    hessian[at(term.offset + i, term.offset + k, K)] += sum;
                    if (i != k) hessian[at(term.offset + k, term.offset + i, K)] += sum;
                }
        }
}

// R_lP and R_ll of the leader's levels in one chunk: J = V C,
// R_lT = -J R_TT on the touched columns (and those of X), R_ll = V + J R_TT J'.
void Criterion::leader_covariances(int chunk) {
    const ChainBlock& c = b_.chain[0];
    const int r = c.r, width = c.width, N = b_.order(), p = b_.p;
    Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size()), C, J;
    Indices col;
    const double* Lambda = lambda_[c.factor].data();
    const bool dense = DenseTail::dense_leader(b_);
    const size_t nodes = std::max(1, dense_block / r);
    Vector full(dense ? static_cast<size_t>(N) * nodes * r : 0), full_R(full.size());
    const size_t first = b_.chunk[0][chunk], last = b_.chunk[0][chunk + 1];
    for (size_t start = first; start < last; start += nodes) {
        const size_t end = std::min(start + nodes, last);
        std::fill(full.begin(), full.end(), 0.0);
        for (int pass = dense ? 0 : 1; pass < 2; ++pass) {
            for (size_t j = start; j < end; ++j) {
                const double* A = panel(0, static_cast<int>(j));
                const Level<0> level{r,      width,    A,         L_[0].data() + j * r * r,
                                     Lambda, V.data(), Nm.data(), M.data()};
                level.resolve(scratch.data());
                const int64_t ptr = b_.tail_ptr[j];
                const int touched = static_cast<int>(b_.tail_ptr[j + 1] - ptr), m = touched + p;
                col.assign(b_.tail_column.begin() + ptr, b_.tail_column.begin() + ptr + touched);
                for (int e = 0; e < p; ++e) col.push_back(b_.T + e);
                C.resize(static_cast<size_t>(r) * m);
                for (int a = 0; a < r; ++a) {
                    std::copy_n(b_.tail_value.data() + ptr * r + static_cast<size_t>(a) * touched,
                                touched, C.data() + static_cast<size_t>(a) * m);
                    std::copy_n(A + static_cast<size_t>(a) * width + r, p,
                                C.data() + static_cast<size_t>(a) * m + touched);
                }
                J.resize(C.size());
                multiply<0>(r, m, V.data(), C.data(), m, J.data());
                const size_t place = (j - start) * r;
                if (pass == 0) {
                    for (int a = 0; a < r; ++a)
                        for (int e = 0; e < m; ++e)
                            full[at(col[e], static_cast<int>(place) + a, N)] = J[a * m + e];
                    continue;
                }
                double* R = leader_R_.data() + (ptr + static_cast<int64_t>(j) * p) * r;
                if (dense)
                    for (int a = 0; a < r; ++a) {
                        const double* x = full_R.data() + at(0, static_cast<int>(place) + a, N);
                        for (int e = 0; e < m; ++e) R[static_cast<size_t>(a) * m + e] = -x[col[e]];
                    }
                else
                    tail_->level_covariance(j, r, touched, J.data(), R);
                double* own = chain_R_[0].data() + j * r * width;
                for (int a = 0; a < r; ++a)
                    for (int f = 0; f < r; ++f)
                        own[a * width + f] =
                            V[a * r + f] - inner(m, R + static_cast<size_t>(a) * m,
                                                 J.data() + static_cast<size_t>(f) * m);
            }
            if (pass == 0)
                tail_->covariance_times(static_cast<int>(end - start) * r, full.data(),
                                        full_R.data());
        }
    }
}

void Criterion::covariances(bool with_fixed) {
    const int depth = static_cast<int>(b_.chain.size());
    chain_R_.resize(depth);
    for (int d = 0; d < depth; ++d)
        chain_R_[d].resize(static_cast<size_t>(b_.chain[d].q) * b_.chain[d].r * b_.chain[d].width);
    if (b_.T > 0) {
        invert_tail(with_fixed);
        if (any_kernel()) tail_->unapply_kernels(false);
        if (b_.chain.empty()) return;
        leader_R_.resize(b_.tail_value.size() +
                         static_cast<size_t>(b_.chain[0].q) * b_.chain[0].r * b_.p);
        const bool large = b_.tail_column.size() > 10000 && !DenseTail::dense_leader(b_);
        for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) { leader_covariances(c); });
        return;
    }
    top_covariance(with_fixed);
    const bool large = b_.chain[0].panel.size() > 20000;
    for_chunks(b_.chunks, large ? threads_ : 1, [&](int chunk) {
        for (int d = depth - 1; d >= 0; --d) {
            const ChainBlock& c = b_.chain[d];
            const int r = c.r, width = c.width, wp = width - r;
            const double* Lambda = lambda_[c.factor].data();
            Vector V(static_cast<size_t>(r) * r), Nm(V.size()), M(V.size()), scratch(V.size());
            Vector J(static_cast<size_t>(r) * wp), PP(static_cast<size_t>(wp) * wp, 0.0);
            if (d + 1 == depth) gather_ancestors(chain_R_, d, 0, PP);
            for (size_t j = b_.chunk[d][chunk]; j < b_.chunk[d][chunk + 1]; ++j) {
                const double* A = panel(d, static_cast<int>(j));
                const Level<0> level{r,      width,    A,         L_[d].data() + j * r * r,
                                     Lambda, V.data(), Nm.data(), M.data()};
                level.resolve(scratch.data());
                double* out = chain_R_[d].data() + j * r * width;
                if (d + 1 < depth) gather_ancestors(chain_R_, d, static_cast<int>(j), PP);
                multiply<0>(r, wp, V.data(), A + r, width, J.data());
                for (int a = 0; a < r; ++a) {
                    double* row = out + static_cast<size_t>(a) * width;
                    const double* ja = J.data() + static_cast<size_t>(a) * wp;
                    for (int e = 0; e < wp; ++e)
                        row[r + e] = -inner(wp, PP.data() + static_cast<size_t>(e) * wp, ja);
                    for (int f = 0; f < r; ++f)
                        row[f] = V[a * r + f] -
                                 inner(wp, row + r, J.data() + static_cast<size_t>(f) * wp);
                }
            }
        }
    });
}

// Where all factors of the tail have one column, tr(P V_i P V_j) is known for
// them, V_i = Z dPsi_i Z': Lambda Z'PZ Lambda = I - S^-1. Average information
// stands for it in the Hessian; this is the difference.
void Criterion::second_order(double ratio, const Vector& gram) {
    const int K = b_.parameters;
    const size_t F = b_.factors.size();
    correction_.assign(tail_squares_.empty() ? 0 : static_cast<size_t>(K) * K, 0.0);
    auto known = [&](int i) {
        const int f = factor_of_[i];
        return b_.factors[f].depth < 0 && std::fabs(lambda_[f][0]) > safe_lambda;
    };
    for (int i = 0; i < K && !correction_.empty(); ++i)
        for (int k = 0; k <= i; ++k) {
            if (!known(i) || !known(k)) continue;
            const int f = factor_of_[i], g = factor_of_[k];
            const double trace =
                tail_squares_[f * F + g] * dpsi_[i][0] * dpsi_[k][0] / (psi_[f][0] * psi_[g][0]);
            correction_[at(i, k, K)] = correction_[at(k, i, K)] =
                ratio * gram[static_cast<size_t>(i) * K + k] - trace;
        }
}

void Criterion::mode_covariances(int factor, bool with_fixed, double* out) {
    solve();
    top_covariance(with_fixed);
    if (b_.T > 0 && !(inverted_ && with_fixed == reml_)) {
        invert_tail(with_fixed);
        inverted_ = false;
    }
    const Factor& f = b_.factors[factor];
    const int r = f.r;
    if (any_kernel()) {
        tail_->unapply_kernels(false);
        inverted_ = false;
    }
    if (f.depth < 0) {
        for (int l = 0; l < f.q; ++l)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    out[(static_cast<size_t>(f.level_at[l]) * r + a) * r + e] =
                        tail_->covariance(f.column + l * r + a, f.column + l * r + e);
        return;
    }
    for (int d = static_cast<int>(b_.chain.size()) - 1; d >= f.depth; --d) {
        const ChainBlock& c = b_.chain[d];
        post_[d].assign(static_cast<size_t>(c.q) * c.r * c.width, 0.0);
        for_chunks(b_.chunks, c.panel.size() > 20000 ? threads_ : 1,
                   [&](int k) { descend<0>(d, k, false); });
    }
    const ChainBlock& c = b_.chain[f.depth];
    for (int l = 0; l < f.q; ++l)
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                out[(static_cast<size_t>(f.level_at[l]) * r + a) * r + e] =
                    post_[f.depth][(static_cast<size_t>(l) * r + a) * c.width + e];
    for (Vector& post : post_) post.clear();
}

std::vector<Vector> Criterion::fixed_scores() {
    solve();
    restore_factor();
    inverted_ = false;
    return sum_fixed_scores(level_fixed_scores(nullptr));
}

std::vector<Vector> Criterion::sum_fixed_scores(const std::vector<Vector>& scores) const {
    const int p = b_.p;
    std::vector<Vector> out;
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const size_t r = b_.factors[f].r, q = b_.factors[f].q;
        Vector sum(r * r * p * p, 0.0);
        for (size_t l = 0; l < q; ++l) {
            const double* y = scores[f].data() + l * r * p;
            for (size_t a = 0; a < r; ++a)
                for (size_t e = 0; e < r; ++e)
                    for (int i = 0; i < p; ++i)
                        for (int k = 0; k < p; ++k)
                            sum[((a * r + e) * p + i) * p + k] += y[a * p + i] * y[e * p + k];
        }
        out.push_back(std::move(sum));
    }
    return out;
}

std::vector<Vector> Criterion::level_fixed_scores(const double* B) {
    if (!inverted_) fixed_modes();
    const int N = b_.order(), T = b_.T, p = b_.p, depth = static_cast<int>(b_.chain.size());
    const size_t pp = static_cast<size_t>(p) * p;
    Vector unit(B ? 0 : pp, 0.0);
    for (int e = 0; e < p && !B; ++e) unit[at(e, e, p)] = 1;
    const double* by = B ? B : unit.data();
    std::vector<Vector> out;
    for (const Factor& f : b_.factors) out.emplace_back(static_cast<size_t>(f.q) * f.r * p);
    // modes of the columns of XB, as they multiply the data: R_TX = -Y C
    Vector raw(static_cast<size_t>(T) * p, 0.0), QX(raw.size(), 0.0), given(raw.size());
    const bool covariance = inverted_ && reml_;
    for (int i = 0; i < T; ++i)
        for (int e = 0; e < p; ++e) {
            given[at(i, e, T)] = tail_->schur_fixed(i, e);
            if (covariance) raw[at(i, e, T)] = -tail_->covariance(T + e, i);
        }
    for (int e = 0; e < p; ++e)
        for (int h = 0; h < p; ++h) {
            const double x = by[at(h, e, p)];
            for (int i = 0; i < T; ++i) QX[at(i, e, T)] += given[at(i, h, T)] * x;
            if (covariance) continue;
            for (int i = 0; i < T; ++i) raw[at(i, e, T)] += Y_[at(i, h, T)] * x;
        }
    if (T > 0) {
        Vector v(static_cast<size_t>(N) * p, 0.0), Qv(v.size());
        for (int e = 0; e < p; ++e)
            for (int i = 0; i < T; ++i) v[at(i, e, N)] = raw[at(i, e, T)];
        tail_->schur_times(p, v.data(), Qv.data());
        for (int t : b_.tail) {
            const Factor& f = b_.factors[t];
            for (int k = 0; k < f.q * f.r; ++k) {
                const int i = f.column + k;
                for (int e = 0; e < p; ++e)
                    out[t][static_cast<size_t>(k) * p + e] = QX[at(i, e, T)] - Qv[at(i, e, N)];
            }
        }
        kernel_times(b_, raw, p, false);
    }
    std::vector<Vector> modes(depth); // [depth] (q, r, p)
    for (int d = depth - 1; d >= 0; --d) {
        const ChainBlock& c = b_.chain[d];
        const int r = c.r, width = c.width, wp = width - r;
        modes[d].assign(static_cast<size_t>(c.q) * r * p, 0.0);
        Vector V(r * r), Nm(r * r), M(r * r), scratch(r * r);
        Vector rhs(static_cast<size_t>(r) * p);
        const double* Lambda = lambda_[c.factor].data();
        const double* Psi = psi_[c.factor].data();
        for (int j = 0; j < c.q; ++j) {
            const double* A = panel(d, j);
            const Level<0> level{
                r,      width,    A,         L_[d].data() + static_cast<size_t>(j) * r * r,
                Lambda, V.data(), Nm.data(), M.data()};
            level.resolve(scratch.data());
            for (int a = 0; a < r; ++a) {
                const double* row = A + static_cast<size_t>(a) * width + r;
                for (int e = 0; e < p; ++e)
                    rhs[a * p + e] = inner(p, row + wp - p, by + at(0, e, p));
                int off = 0;
                for (size_t k = 0; k < c.ancestor.size(); ++k) {
                    const int ru = b_.chain[d + 1 + k].r;
                    const double* mode =
                        modes[d + 1 + k].data() + static_cast<size_t>(c.ancestor[k][j]) * ru * p;
                    for (int u = 0; u < ru; ++u, ++off)
                        for (int e = 0; e < p; ++e) rhs[a * p + e] -= row[off] * mode[u * p + e];
                }
                if (T > 0) {
                    const int64_t first = b_.tail_ptr[j];
                    const int m = static_cast<int>(b_.tail_ptr[j + 1] - first);
                    const double* C = b_.tail_value.data() + first * r + static_cast<size_t>(a) * m;
                    for (int i = 0; i < m; ++i)
                        for (int e = 0; e < p; ++e)
                            rhs[a * p + e] -= C[i] * raw[at(b_.tail_column[first + i], e, T)];
                }
            }
            double* y = out[c.factor].data() + static_cast<size_t>(j) * r * p;
            multiply<0>(r, p, Nm.data(), rhs.data(), p, y);
            multiply<0>(r, p, Psi, y, p, modes[d].data() + static_cast<size_t>(j) * r * p);
        }
    }
    return out;
}

} // namespace ranef
