// Derivatives of the Laplace approximation, by the implicit function theorem at the mode.
#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "laplace_parts.hpp"
#include "levels.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr int most_ridges = 12; // tried on an indefinite information

} // namespace

// f', W of all predictors, t and the cross-products with X, at the mode.
// outer: with X, of all coefficients.
void Laplace::third(bool outer) {
    const int A = static_cast<int>(active_.size()), S_size = A * (A + 1) / 2;
    const Derivatives places{M_};
    const int count = places.count(3);
    std::vector<const double*> eta, q;
    for (int m = 0; m < M_; ++m) {
        eta.push_back(eta_[m].data());
        q.push_back(q_[m].data());
        t_[m].resize(n_);
        for (int l = 0; l <= m; ++l) outer_W_.make(m, l);
    }
    if (!integrated_.empty()) criterion_.solve();
    criterion_.covariances(!integrated_.empty());
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        const size_t first = predictors_.ranges()[c], last = predictors_.ranges()[c + 1];
        Vector buffer(batch * count), S(batch * S_size);
        std::vector<double*> out(count);
        for (size_t start = first; start < last; start += batch) {
            const size_t end = std::min(start + batch, last);
            for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
            family_.evaluate(rows_, 3, all_, eta.data(), start, end, out.data());
            for (size_t i = start; i < end; ++i)
                predictors_.row_covariance(criterion_, inner_, active_, i,
                                           S.data() + (i - start) * S_size);
            for (int m = 0; m < M_; ++m) {
                const double* f1 = out[places.first(m)];
                for (size_t i = start; i < end; ++i) {
                    f1_[m][i] = weights_.empty() ? f1[i] : weights_[i] * f1[i];
                    t_[m][i] = 0;
                }
                for (int l = m; l < M_; ++l) {
                    const double* f2 = out[places.second(m, l)];
                    double* w = outer_W_.make(m, l).data();
                    for (size_t i = start; i < end; ++i)
                        w[i] = weights_.empty() ? -f2[i] : -weights_[i] * f2[i];
                }
                for (int k = 0, pair = 0; k < A; ++k)
                    for (int l = k; l < A; ++l, ++pair) {
                        int index[] = {active_[k], active_[l], m};
                        std::sort(index, index + 3);
                        const double* f3 = out[places.third(index[0], index[1], index[2])];
                        const double twice = k == l ? 1.0 : 2.0;
                        for (size_t i = start; i < end; ++i)
                            t_[m][i] += twice * (weights_.empty() ? 1.0 : weights_[i]) * f3[i] *
                                        S[(i - start) * S_size + pair];
                    }
            }
        }
        if (!outer) return;
        working_responses(all_, outer_W_, false, first, last);
        predictors_.refill(outer_, outer_W_, q.data(), c);
    });
    if (outer) predictors_.refill_shared(outer_, outer_W_, q.data());
}

void Laplace::differentiate(double* gradient, double* hessian) {
    if (given_) return differentiate_given(gradient);
    warm_ = mode_;
    warm_beta_ = beta_;
    warm_known_ = differentiated_ = true;
    third();
    std::fill(gradient, gradient + parameters(), 0.0);
    differentiate_beta(gradient + K_);
    if (integrated_.empty())
        unrestricted(gradient, hessian);
    else
        restricted(gradient, hessian);
}

// The gradient in the outer coefficients, and what the derivative with respect to
// Psi owes to the modes: v and a = Psi v, by the inner system with Z't (and X't)
// on the right.
void Laplace::differentiate_beta(double* gradient) {
    const std::vector<int>& random = predictors_.random();
    Response right = inner_.response;
    std::vector<const double*> t;
    for (const Vector& v : t_) t.push_back(v.data());
    predictors_.respond(inner_, right, t.data());
    std::vector<Response> rhs;
    rhs.push_back(std::move(right));
    Solution found = std::move(criterion_.solutions(std::move(rhs)).front());
    Modes along;
    for (size_t f = 0; f < mode_.size(); ++f) {
        const int r = blocks().factors[f].r;
        const Vector &v = found.scores[f], &s = score_[f];
        Vector& G = extra_gradient_[f];
        std::fill(G.begin(), G.end(), 0.0);
        for (size_t l = 0; l < v.size(); l += r)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    G[a * r + e] -= (v[l + a] * s[l + e] + s[l + a] * v[l + e]) / 2;
        along.push_back(std::move(found.modes[f]));
    }
    Vector along_beta(p_, 0.0);
    for (size_t e = 0; e < integrated_.size(); ++e) along_beta[integrated_[e]] = found.beta[e];
    // q_m = -2 f'_m - t_m + (W (Za + X a))_m
    const auto modes = pointers(along);
    std::vector<Vector> step(M_);
    std::vector<double*> za_to;
    for (int m : active_) step[m].assign(n_, 0.0);
    for (int m : random) za_to.push_back(step[m].data());
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        const size_t first = predictors_.ranges()[c], last = predictors_.ranges()[c + 1];
        predictors_.random(modes, first, last, za_to.data());
        Vector xa(integrated_.empty() ? 0 : n_);
        for (int m : active_) {
            if (integrated_.empty()) break;
            predictors_.fixed(m, along_beta.data(), first, last, xa.data(), false);
            for (size_t i = first; i < last; ++i) step[m][i] += xa[i];
        }
        for (int m = 0; m < M_; ++m) {
            for (size_t i = first; i < last; ++i) t_[m][i] = -2 * f1_[m][i] - t_[m][i];
            for (int l : active_) {
                const double* w = outer_W_.at(m, l);
                for (size_t i = first; i < last; ++i) t_[m][i] += w[i] * step[l][i];
            }
        }
    });
    Vector all(p_, 0.0);
    for (int m = 0; m < M_; ++m) predictors_.fixed_transposed(m, t_[m].data(), all.data());
    for (size_t e = 0; e < outer_coefficients_.size(); ++e)
        gradient[e] = all[outer_coefficients_[e]];
}

// Factorise the working model with all coefficients, its block for beta made
// definite where it is not. Returns the ridge that this took.
double Laplace::working_model() {
    Blocks& b = *outer_.blocks;
    double largest = 0, ridge = 0;
    for (int e = 0; e < p_; ++e) largest = std::max(largest, std::fabs(b.fixed[at(e, e, p_)]));
    for (int i = 0; outer_c_.evaluate(phi_.data()) == infinity && i < most_ridges; ++i) {
        const double next = ridge == 0 ? 1e-6 * largest + 1e-12 : 10 * ridge;
        for (int e = 0; e < p_; ++e) b.fixed[at(e, e, p_)] += next - ridge;
        ridge = next;
    }
    return ridge;
}

void Laplace::unrestricted(double* gradient, double* hessian) {
    const int D = parameters();
    const double ridge = working_model();
    Vector H(static_cast<size_t>(K_) * K_);
    outer_c_.hold_fixed(true);
    outer_c_.add_gradient(&extra_gradient_);
    outer_c_.differentiate(gradient, H.data());
    outer_c_.hold_fixed(false);
    outer_c_.add_gradient(nullptr);
    C_ = outer_c_.fixed_covariance();
    const Vector& lacking = outer_c_.correction();
    correction_.assign(lacking.empty() ? 0 : static_cast<size_t>(D) * D, 0.0);
    for (int i = 0; i < K_ && !lacking.empty(); ++i)
        for (int k = 0; k < K_; ++k) correction_[at(i, k, D)] = lacking[at(i, k, K_)];
    const Vector& c = outer_c_.fixed_information();
    Vector Cc(static_cast<size_t>(p_) * K_);
    symmetric_times(p_, K_, C_.data(), p_, c.data(), p_, Cc.data(), p_);
    std::fill(hessian, hessian + static_cast<size_t>(D) * D, 0.0);
    for (int i = 0; i < K_; ++i) {
        for (int k = 0; k < K_; ++k) {
            double s = H[at(i, k, K_)];
            for (int e = 0; e < p_; ++e) s += 2 * c[at(e, i, p_)] * Cc[at(e, k, p_)];
            hessian[at(i, k, D)] = s;
        }
        for (int e = 0; e < p_; ++e)
            hessian[at(K_ + e, i, D)] = hessian[at(i, K_ + e, D)] = 2 * c[at(e, i, p_)];
    }
    Vector information = C_;
    cholesky(p_, information.data(), std::max(p_, 1));
    inverse_from_cholesky(p_, information.data(), std::max(p_, 1));
    for (int e = 0; e < p_; ++e)
        for (int i = e; i < p_; ++i)
            hessian[at(K_ + i, K_ + e, D)] = hessian[at(K_ + e, K_ + i, D)] =
                2 * (information[at(i, e, p_)] - (i == e ? ridge : 0.0));
}

// With coefficients integrated out the derivative with respect to Psi is that of
// the inner system; the outer coefficients' part of the Hessian comes from the
// working model with all coefficients, (C_oo)^-1 being X_o'P X_o.
void Laplace::restricted(double* gradient, double* hessian) {
    const int D = parameters(), P = D - K_;
    Vector H(static_cast<size_t>(K_) * K_);
    criterion_.evaluate(phi_.data());
    criterion_.add_gradient(&extra_gradient_);
    criterion_.differentiate(gradient, H.data());
    criterion_.add_gradient(nullptr);
    correction_.clear();
    std::fill(hessian, hessian + static_cast<size_t>(D) * D, 0.0);
    for (int i = 0; i < K_; ++i)
        for (int k = 0; k < K_; ++k) hessian[at(i, k, D)] = H[at(i, k, K_)];
    const double ridge = working_model();
    Vector unused(K_);
    outer_c_.hold_fixed(true);
    outer_c_.differentiate(unused.data(), H.data());
    outer_c_.hold_fixed(false);
    C_ = outer_c_.fixed_covariance();
    if (P == 0) return;
    const Vector& c = outer_c_.fixed_information();
    Vector Cc(static_cast<size_t>(p_) * K_), own(static_cast<size_t>(P) * P);
    symmetric_times(p_, K_, C_.data(), p_, c.data(), p_, Cc.data(), p_);
    for (int a = 0; a < P; ++a)
        for (int e = 0; e < P; ++e)
            own[at(a, e, P)] = C_[at(outer_coefficients_[a], outer_coefficients_[e], p_)];
    cholesky(P, own.data(), P);
    inverse_from_cholesky(P, own.data(), P); // X_o'P X_o
    for (int a = 0; a < P; ++a)
        for (int e = 0; e < a; ++e) own[at(e, a, P)] = own[at(a, e, P)];
    // X_o'P w_i = X_o'P X_o (C c)_o
    for (int i = 0; i < K_; ++i)
        for (int a = 0; a < P; ++a) {
            double cross = 0;
            for (int e = 0; e < P; ++e)
                cross += own[at(a, e, P)] * Cc[at(outer_coefficients_[e], i, p_)];
            hessian[at(K_ + a, i, D)] = hessian[at(i, K_ + a, D)] = 2 * cross;
            for (int k = 0; k < K_; ++k)
                hessian[at(i, k, D)] += cross * Cc[at(outer_coefficients_[a], k, p_)];
        }
    for (int a = 0; a < P; ++a)
        for (int e = 0; e < P; ++e)
            hessian[at(K_ + a, K_ + e, D)] = 2 * (own[at(a, e, P)] - (a == e ? ridge : 0.0));
}

} // namespace ranef
