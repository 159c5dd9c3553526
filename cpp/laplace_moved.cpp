// Derivatives at points beside an optimum, without a search for the modes there.
//
// The gradient is g(x, u), u the modes, and its formula is smooth in both. Where u moves by its
// tangent du/dx, known by the implicit function theorem from the factor at the optimum,
//   d g(x + h e, u + h du) / dh = dg/dx + dg/du du
// is the whole second derivative: what u misses is of second order in h and the same on both
// sides, so that a central difference leaves it out. A point costs one factorisation.
//
// With b = Psi s and s = Z'f' the modes' scores, V = W^-1 + Z Psi Z' and P its counterpart with
// the coefficients that are integrated out,
//   ds = -Z'P (X dbeta + Z dPsi s),   db = dPsi s + Psi ds.
#include <algorithm>
#include <cmath>

#include "laplace_moved.hpp"
#include "levels.hpp"
#include "tail.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

// sign Psi of each factor, added to `to`.
void add_covariances(const Blocks& b, const double* phi, double sign, std::vector<Vector>& to) {
    for (size_t f = 0; f < b.factors.size(); ++f) {
        const int r = b.factors[f].r;
        for (const Term& term : b.factors[f].terms) {
            const int s = term.structure->r;
            Vector Lambda(static_cast<size_t>(s) * s, 0.0);
            term.structure->factor(phi + term.offset, Lambda.data());
            for (int a = 0; a < s; ++a)
                for (int c = 0; c < s; ++c)
                    to[f][(term.first + a) * r + term.first + c] +=
                        sign *
                        inner(std::min(a, c) + 1, Lambda.data() + a * s, Lambda.data() + c * s);
        }
    }
}

} // namespace

// Half of dPsi s between two points, as scores and as it multiplies the data.
std::vector<Vector> Laplace::moved_by_covariances(const double* high, const double* low) const {
    const Blocks& b = blocks();
    std::vector<Vector> slope, out;
    for (const Factor& f : b.factors) slope.emplace_back(static_cast<size_t>(f.r) * f.r, 0.0);
    add_covariances(b, high, 0.5, slope);
    add_covariances(b, low, -0.5, slope);
    Vector tail(static_cast<size_t>(b.order()), 0.0);
    for (size_t f = 0; f < b.factors.size(); ++f) {
        const Factor& factor = b.factors[f];
        const int r = factor.r;
        Vector own(score_[f].size(), 0.0);
        for (size_t l = 0; l < own.size(); l += r)
            for (int a = 0; a < r; ++a)
                own[l + a] = inner(r, slope[f].data() + a * r, score_[f].data() + l);
        if (factor.depth < 0) std::copy(own.begin(), own.end(), tail.begin() + factor.column);
        out.push_back(std::move(own));
    }
    kernel_times(b, tail, 1, false);
    for (int t : b.tail)
        std::copy_n(tail.begin() + b.factors[t].column, out[t].size(), out[t].begin());
    return out;
}

std::vector<Laplace::Place> Laplace::tangents(size_t many, const double* high, const double* low) {
    const size_t D = parameters();
    std::vector<Response> rhs;
    std::vector<Place> out(many);
    std::vector<Vector> q(M_, Vector(n_)), d(M_, Vector(n_));
    std::vector<const double*> given;
    for (const Vector& v : q) given.push_back(v.data());
    for (size_t k = 0; k < many; ++k) {
        const double *up = high + k * D, *down = low + k * D;
        out[k].modes = moved_by_covariances(up, down);
        Vector beta(p_, 0.0);
        for (size_t e = 0; e < outer_coefficients_.size(); ++e)
            beta[outer_coefficients_[e]] = (up[K_ + e] - down[K_ + e]) / 2;
        const auto modes = pointers(out[k].modes);
        std::vector<double*> random;
        for (Vector& v : zb_) random.push_back(v.data());
        for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
            const size_t first = predictors_.ranges()[c], last = predictors_.ranges()[c + 1];
            predictors_.random(modes, first, last, random.data());
            for (int m = 0; m < M_; ++m) {
                predictors_.fixed(m, beta.data(), first, last, d[m].data(), false);
                std::fill(q[m].begin() + first, q[m].begin() + last, 0.0);
            }
            for (size_t j = 0; j < zb_.size(); ++j) {
                double* to = d[predictors_.random()[j]].data();
                for (size_t i = first; i < last; ++i) to[i] += zb_[j][i];
            }
            for (int m = 0; m < M_; ++m)
                for (int l = 0; l < M_; ++l) {
                    const double* w = outer_W_.at(m, l);
                    for (size_t i = first; i < last; ++i) q[m][i] += w[i] * d[l][i];
                }
        });
        rhs.push_back(inner_.response);
        predictors_.respond(inner_, rhs.back(), given.data());
    }
    std::vector<Solution> found = criterion_.solutions(std::move(rhs));
    for (size_t k = 0; k < many; ++k) {
        for (size_t f = 0; f < mode_.size(); ++f) {
            for (size_t j = 0; j < mode_[f].size(); ++j) out[k].modes[f][j] -= found[k].modes[f][j];
            for (double& s : found[k].scores[f]) s = -s;
        }
        out[k].scores = std::move(found[k].scores);
        out[k].coefficients.assign(p_, 0.0);
        for (size_t e = 0; e < integrated_.size(); ++e)
            out[k].coefficients[integrated_[e]] = -found[k].beta[e];
    }
    return out;
}

size_t Laplace::tangents_at_once() const {
    constexpr double values = 4e6;
    double one = 0;
    for (const Vector& v : mode_) one += 2.0 * static_cast<double>(v.size());
    const auto most = static_cast<size_t>(std::max(1.0, values / std::max(one, 1.0)));
    return std::min(most, criterion_.solved_at_once());
}

Laplace::Place Laplace::beside(const Place& centre, const Place& tangent, double side) const {
    Place out = centre;
    for (size_t f = 0; f < out.modes.size(); ++f)
        for (size_t j = 0; j < out.modes[f].size(); ++j) {
            out.modes[f][j] += side * tangent.modes[f][j];
            out.scores[f][j] += side * tangent.scores[f][j];
        }
    for (int k : integrated_) out.coefficients[k] += side * tangent.coefficients[k];
    return out;
}

void Laplace::take(const Place* given) {
    given_ = given;
    criterion_.near_end(given != nullptr);
}

// The criterion as if the given modes were those of the point.
double Laplace::evaluate_given() {
    mode_ = given_->modes;
    score_ = given_->scores;
    for (int k : integrated_) beta_[k] = given_->coefficients[k];
    double ascent;
    density_ = pass(inner_, active_, inside_, false, &ascent);
    if (!std::isfinite(density_)) return density_;
    const double value = criterion_.evaluate(phi_.data());
    logdet_ = criterion_.log_determinant();
    return value;
}

// The gradient at the given modes; of the inner system, whose inverse serves all of it.
void Laplace::differentiate_given(double* gradient) {
    criterion_.differentiate(gradient, nullptr);
    third(false);
    differentiate_beta(gradient + K_);
    differentiated_given_ = true;
    given_G_.clear();
    for (size_t f = 0; f < mode_.size(); ++f) {
        given_G_.push_back(criterion_.gradient_psi(static_cast<int>(f)));
        for (size_t k = 0; k < given_G_[f].size(); ++k) given_G_[f][k] += extra_gradient_[f][k];
    }
    criterion_.contract(given_G_, gradient);
}

void look_beside(Laplace& laplace, Objective& objective, size_t many, const double* high,
                 const double* low, Sides& out) {
    const size_t D = laplace.parameters(), factors = laplace.blocks().factors.size();
    const Laplace::Place centre = laplace.here();
    const std::vector<Laplace::Place> tangents = laplace.tangents(many, high, low);
    Vector gradient(D), unused(D * D);
    out.psi_gradient.resize(factors);
    for (size_t i = 0; i < 2 * many; ++i) {
        const bool up = i % 2 == 0;
        const double* x = (up ? high : low) + i / 2 * D;
        const Laplace::Place given = laplace.beside(centre, tangents[i / 2], up ? 1.0 : -1.0);
        laplace.take(&given);
        out.criterion.push_back(objective.evaluate(x));
        std::fill(gradient.begin(), gradient.end(), 0.0);
        if (std::isfinite(out.criterion.back()))
            objective.differentiate(gradient.data(), unused.data());
        laplace.take(nullptr);
        out.gradient.insert(out.gradient.end(), gradient.begin(), gradient.end());
        const Vector& beta = laplace.coefficients();
        out.coefficients.insert(out.coefficients.end(), beta.begin(), beta.end());
        for (size_t f = 0; f < factors; ++f) {
            const Vector& G = objective.gradient_psi(static_cast<int>(f));
            out.psi_gradient[f].insert(out.psi_gradient[f].end(), G.begin(), G.end());
        }
    }
}

} // namespace ranef
