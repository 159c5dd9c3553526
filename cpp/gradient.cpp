// First derivatives of the criterion and its average information.
#include <algorithm>
#include <cmath>

#include "criterion.hpp"
#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double safe_lambda = 1e-3; // Lambda by which may be divided twice

} // namespace

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

// dPsi by parameter.
void Criterion::structure_derivatives() {
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
}

// The tail's part of the sums, and what the leader's levels add to them.
void Criterion::differentiate_crossed(Vector& gram, Vector& t, Vector& e) {
    const int N = b_.order(), K = b_.parameters;
    const double ratio = this->ratio();
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
    if (informed_) tail_->schur_times(K, v.data(), e.data());
    for (int i = 0; i < K && informed_; ++i)
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
        for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) { descend_by_size(0, c, true); });
    }
    if (!informed_) {
        if (kernel) tail_->reapply_kernels();
        return;
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
}

// The sums of a nested chain, by chunks.
void Criterion::differentiate_chain(Vector& e) {
    if (b_.chain.empty()) return; // there are no random effects
    const int K = b_.parameters;
    const bool alone = b_.chain.size() == 1;
    for (size_t d = 0; d < b_.chain.size(); ++d) {
        const ChainBlock& c = b_.chain[d];
        if (!alone) {
            post_[d].resize(d > 0 ? static_cast<size_t>(c.q) * c.r * c.width : 0);
            push_[d].resize(static_cast<size_t>(c.q) * c.r * K);
        }
    }
    const bool large = b_.chain[0].panel.size() > 20000;
    if (alone && informed_ && InformationSums::worthwhile(b_.chain[0].r, K))
        sum_information_.assign(b_.chunks, InformationSums(b_.chain[0].r, b_.p));
    for_chunks(b_.chunks, large ? threads_ : 1, [&](int c) {
        for (Vector* sum : {&sum_G_[c], &sum_gram_[c], &sum_t_[c], &sum_e_[c]})
            std::fill(sum->begin(), sum->end(), 0.0);
        for (int d = static_cast<int>(b_.chain.size()) - 1; d >= 0; --d) {
            descend_by_size(d, c, true);
        }
        if (!alone && informed_) information_up(c);
        if (!sum_information_.empty()) sum_information_[c].finish();
    });
    if (!sum_information_.empty()) contract_information(e);
    for (int c = 0; c < b_.chunks; ++c)
        for (size_t k = 0; k < e.size(); ++k) e[k] += sum_e_[c][k];
}

// The first chunk's sums become those of all levels.
void Criterion::contract_information(Vector& e) {
    for (int c = 1; c < b_.chunks; ++c) sum_information_[0].add(sum_information_[c]);
    std::vector<const double*> directions;
    for (const Vector& d : dpsi_) directions.push_back(d.data());
    sum_information_[0].contract(directions, b_.parameters, sum_gram_[0].data(), sum_t_[0].data(),
                                 e.data());
    sum_information_.clear();
}

// gram -= e'(remaining system)^-1 e
void Criterion::take_out_remaining(Vector& gram, Vector& e) {
    const int N = b_.order(), T = b_.T, p = b_.p, K = b_.parameters;
    const bool crossed = T > 0;
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
}

// Adds what the curvature of the structures themselves contributes: <G, d2Psi>.
void Criterion::add_structure_curvature(double* hessian) const {
    const int K = b_.parameters;
    for (size_t f = 0; f < b_.factors.size(); ++f)
        for (const Term& term : b_.factors[f].terms) {
            const int s = term.structure->r, r = b_.factors[f].r;
            Vector block(static_cast<size_t>(s) * s, 0.0);
            for (int i = 0; i < term.parameters; ++i)
                for (int k = 0; k <= i; ++k) {
                    // most pairs of many parameters have none, and leave the block as it is
                    if (!term.structure->second(phi_.data() + term.offset, i, k, block.data()))
                        continue;
                    double sum = 0;
                    for (int a = 0; a < s; ++a)
                        for (int e2 = 0; e2 < s; ++e2)
                            sum +=
                                block[a * s + e2] * G_[f][(term.first + a) * r + term.first + e2];
                    std::fill(block.begin(), block.end(), 0.0);
                    hessian[at(term.offset + i, term.offset + k, K)] += sum;
                    if (i != k) hessian[at(term.offset + k, term.offset + i, K)] += sum;
                }
        }
}

void Criterion::contract(const std::vector<Vector>& by_psi, double* gradient) const {
    for (int i = 0; i < b_.parameters; ++i) {
        const Vector& G = by_psi[factor_of_[i]];
        gradient[i] = inner(static_cast<int>(G.size()), G.data(), dpsi_[i].data());
    }
}

void Criterion::differentiate(double* gradient, double* hessian) {
    const int N = b_.order(), K = b_.parameters;
    informed_ = hessian != nullptr;
    solve();
    structure_derivatives();
    for (Vector& G : G_) std::fill(G.begin(), G.end(), 0.0);
    top_covariance(reml_);
    const double ratio = this->ratio();
    Vector gram(static_cast<size_t>(K) * K, 0.0), t(K, 0.0);
    Vector e(static_cast<size_t>(N) * K, 0.0);
    if (b_.T > 0)
        differentiate_crossed(gram, t, e);
    else
        differentiate_chain(e);
    for (int c = 0; c < b_.chunks; ++c) {
        const double* G = sum_G_[c].data();
        for (const ChainBlock& block : b_.chain)
            for (double& g : G_[block.factor]) g += *G++;
        for (size_t k = 0; k < gram.size(); ++k) gram[k] += sum_gram_[c][k];
        for (int i = 0; i < K; ++i) t[i] += sum_t_[c][i];
    }
    if (extra_)
        for (size_t f = 0; f < G_.size(); ++f)
            for (size_t k = 0; k < G_[f].size(); ++k) G_[f][k] += (*extra_)[f][k];
    contract(G_, gradient);
    if (!informed_) return;
    take_out_remaining(gram, e);
    const double t_share = known_scale_ ? 0.0 : ratio / r2_;
    for (int i = 0; i < K; ++i)
        for (int k = 0; k <= i; ++k)
            hessian[at(i, k, K)] = hessian[at(k, i, K)] =
                ratio * gram[static_cast<size_t>(i) * K + k] - t_share * t[i] * t[k];
    second_order(ratio, gram);
    add_structure_curvature(hessian);
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

} // namespace ranef
