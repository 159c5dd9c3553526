#include "newton.hpp"

#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "newton_search.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

constexpr double late_face = 1e-5;        // eigenvalue of Psi that is tried on a face at the end
constexpr int patience = 60;              // evaluations before a criterion is suspected
constexpr double least_curvature = 1e-12; // beside the largest: counts of 1e10 know a slope so well
constexpr int most_halvings = 60;
constexpr double most_noise = 1e-9;  // beside the criterion, with which it can be proved
constexpr double most_other = 1e-6;  // of the criterion's other noise, with which it can be proved
constexpr double far_off = 1e-5;     // so much of it blurs the criterion
constexpr double some_noise = 1e-11; // beside the criterion: gradients may have lost their digits
constexpr double least_fall = 1e-6;  // of the criterion along a ray
constexpr double polished = 1e-11;   // decrement at which the last digits are right
constexpr double fine = 3e-6;        // step, relative to the parameters, not worth an evaluation
constexpr double fine_floor = 0.01;  // parameters below count as this
constexpr double learn_below = 0.05; // decrease below which steps teach the Hessian

} // namespace

double Search::evaluate(const Vector& phi) {
    ++out_.evaluations;
    Watch::poll();
    const double f = c_.evaluate(phi.data());
    out_.trace.push_back(f);
    if (options_.progress && !options_.progress(out_.evaluations, f, decrement_))
        out_.stopped = true;
    return f;
}

void Search::mark_free() {
    for (int i = 0; i < K_; ++i) out_.free[i] = !held(i);
    for (const TermState& t : terms_) {
        if (t.structure->unstructured()) {
            int i = t.offset;
            for (int col = 0; col < t.r; ++col)
                for (int row = col; row < t.r; ++row, ++i)
                    if (col >= t.rank) out_.free[i] = 0;
        } else if (t.diagonal) {
            for (int a = 0; a < t.r; ++a)
                if (t.zero[a]) out_.free[t.offset + a] = 0;
        } else if (t.gone) {
            for (int i = 0; i < t.parameters; ++i) out_.free[t.offset + i] = 0;
        }
    }
    index_.clear();
    for (int i = 0; i < K_; ++i)
        if (out_.free[i]) index_.push_back(i);
}

void Search::differentiate() {
    g_.resize(K_);
    H_.resize(static_cast<size_t>(K_) * K_);
    c_.differentiate(g_.data(), H_.data());
    tolerance_ = std::max({options_.tolerance, options_.rounding * std::fabs(f_), c_.noise(),
                           std::min(c_.other_noise(), most_other)});
    secant_.assign(H_.size(), 0.0);
    decompose();
    const Vector& correction = c_.correction();
    if (correction.empty() || decrement_ > learn_below) return;
    for (size_t k = 0; k < H_.size(); ++k) H_[k] += correction[k];
    decompose();
}

// Average information is not quite the Hessian, and alone converges linearly.
// A symmetric rank-one correction carries the difference that the last steps
// have shown (a structured secant method: Dennis, Gay, Welsch 1981). H_ and
// g_ are those of the new point, secant_ still that of the old one.
void Search::learn(const Vector& s, const Vector& old_gradient) {
    Vector v(K_);
    double vs = 0, vv = 0, ss = 0;
    for (int i = 0; i < K_; ++i) {
        double Bs = 0;
        for (int j = 0; j < K_; ++j)
            Bs += (H_[square_at(i, j, K_)] + secant_[square_at(i, j, K_)]) * s[j];
        v[i] = out_.free[i] ? g_[i] - old_gradient[i] - Bs : 0.0;
        vs += v[i] * s[i];
        vv += v[i] * v[i];
        ss += s[i] * s[i];
    }
    if (std::fabs(vs) > 1e-2 * std::sqrt(vv * ss))
        for (int j = 0; j < K_; ++j)
            for (int i = 0; i < K_; ++i) secant_[square_at(i, j, K_)] += v[i] * v[j] / vs;
}

// Spectrum of the Hessian on the free parameters, and the decrement that a
// Newton step with its absolute value predicts.
void Search::decompose() {
    mark_free();
    const int k = static_cast<int>(index_.size());
    Vector A(static_cast<size_t>(k) * k);
    for (int j = 0; j < k; ++j)
        for (int i = 0; i < k; ++i) {
            const size_t from = square_at(index_[i], index_[j], K_);
            A[square_at(i, j, k)] = H_[from] + secant_[from];
        }
    values_.resize(k);
    vectors_.resize(static_cast<size_t>(k) * k);
    eigen_symmetric(k, A.data(), values_.data(), vectors_.data());
    projected_.assign(k, 0.0);
    double largest = 0;
    for (double v : values_) largest = std::max(largest, std::fabs(v));
    decrement_ = 0;
    for (int e = 0; e < k; ++e) {
        for (int i = 0; i < k; ++i) projected_[e] += vectors_[square_at(i, e, k)] * g_[index_[i]];
        values_[e] = std::max({std::fabs(values_[e]), least_curvature * largest, 1e-12});
        decrement_ += projected_[e] * projected_[e] / (2 * values_[e]);
    }
}

// Minimiser of the model within the radius (secular equation by bisection on the
// shift); returns the decrease that it predicts.
double Search::step(double radius, Vector& s) const {
    const int k = static_cast<int>(index_.size());
    auto length = [&](double shift) {
        double n = 0;
        for (int e = 0; e < k; ++e) {
            const double x = projected_[e] / (values_[e] + shift);
            n += x * x;
        }
        return std::sqrt(n);
    };
    double shift = 0;
    if (length(0) > radius) {
        double low = 0, high = 1e-3;
        while (length(high) > radius) high *= 4;
        for (int i = 0; i < 60; ++i) {
            const double mid = (low + high) / 2;
            (length(mid) > radius ? low : high) = mid;
        }
        shift = high;
    }
    s.assign(K_, 0.0);
    double predicted = 0;
    for (int e = 0; e < k; ++e) {
        const double x = -projected_[e] / (values_[e] + shift);
        predicted -= projected_[e] * x + values_[e] * x * x / 2;
        for (int i = 0; i < k; ++i) s[index_[i]] += x * vectors_[square_at(i, e, k)];
    }
    return predicted;
}

// Derivatives at the end of a step s; a step near the optimum teaches the
// Hessian.
void Search::differentiate_after(const Vector& s, bool near) {
    const Vector old_gradient = g_, correction = secant_;
    c_.near_end(near);
    differentiate();
    c_.near_end(false);
    if (!near) return;
    secant_ = correction;
    learn(s, old_gradient);
    decompose();
}

// The criterion cannot see the last digits of the parameters, the gradient can:
// plain Newton steps as long as they shrink the decrement and change something.
void Search::polish() {
    for (int i = 0; i < 2 && decrement_ > polished && !out_of_budget(); ++i) {
        Vector s;
        step(radius_, s);
        double largest = 0;
        for (int k = 0; k < K_; ++k)
            largest = std::max(largest, std::fabs(s[k]) / std::max(std::fabs(phi_[k]), fine_floor));
        if (largest < fine) return;
        const Vector phi = phi_;
        const double f = f_, decrement = decrement_;
        for (int k = 0; k < K_; ++k) phi_[k] += s[k];
        f_ = evaluate(phi_);
        if (std::isfinite(f_)) {
            differentiate_after(s, true);
            if (decrement_ < decrement) continue;
        }
        phi_ = phi;
        f_ = evaluate(phi_);
        differentiate();
        f_ = f;
        return;
    }
}

// Told at each new point of a long search: whether the criterion has broken down at this
// one and the last.
bool Search::lost() {
    if (out_.evaluations < patience) return false;
    broken_ = c_.breaks_down() ? broken_ + 1 : 0;
    return broken_ > 1;
}

bool Search::digits_lost() {
    return c_.noise() > most_noise * std::max(1.0, std::fabs(f_)) || c_.other_noise() > far_off;
}

// Where little is left for the residual, gradients lose their digits before the criterion does.
// It says itself whether it falls on as all variances grow; true where it did.
bool Search::fall_on() {
    if (!(c_.noise() > some_noise * std::max(1.0, std::fabs(f_)))) return false;
    bool moved = false;
    while (!out_of_budget() && !digits_lost()) {
        Vector trial = phi_;
        for (const TermState& t : terms_) t.structure->rescale(2, trial.data() + t.offset);
        for (int k = 0; k < K_; ++k)
            if (held(k)) trial[k] = phi_[k];
        const double f = evaluate(trial);
        if (!(f < f_ - least_fall)) break;
        phi_ = trial;
        f_ = f;
        moved = true;
    }
    evaluate(phi_);
    differentiate();
    return moved;
}

// Back along the way to a residual of nothing, to where the criterion and all that goes with it
// keep their digits. A criterion that has a limit there is as near to it as can be told.
void Search::step_back() {
    const Vector phi = phi_;
    for (int i = 0; i < most_halvings; ++i) {
        const Vector last = phi_;
        for (const TermState& t : terms_) t.structure->rescale(0.5, phi_.data() + t.offset);
        for (int k = 0; k < K_; ++k)
            if (held(k)) phi_[k] = phi[k];
        f_ = evaluate(phi_);
        if (phi_ == last) break;
        if (!std::isfinite(f_)) continue;
        if (!digits_lost()) {
            differentiate();
            return;
        }
    }
    phi_ = phi;
    f_ = evaluate(phi_);
    differentiate();
}

// Newton until the decrement falls below the tolerance; false when it could not.
// Expects f_, g_, H_ at phi_.
bool Search::descend() {
    int stuck = 0;
    while (true) {
        if (decrement_ <= tolerance_ || index_.empty()) return true;
        if (out_of_budget()) return false;
        Vector s, trial(K_);
        const double predicted = step(radius_, s);
        double norm = 0;
        for (int i = 0; i < K_; ++i) {
            trial[i] = phi_[i] + s[i];
            norm += s[i] * s[i];
        }
        norm = std::sqrt(norm);
        const double f = evaluate(trial);
        const double noise = std::max({1e-14 * std::fabs(f_) * 8, c_.noise(), c_.other_noise()});
        const double actual = f_ - f;
        const double ratio = std::isfinite(f) ? (predicted < noise ? (actual > -noise ? 1.0 : -1.0)
                                                                   : actual / predicted)
                                              : -1.0;
        if (ratio > 1e-4) {
            phi_ = trial;
            f_ = f;
            if (ratio > 0.75 && norm > 0.8 * radius_)
                radius_ = std::max(radius_, (ratio > 0.9 ? 4 : 2) * norm);
            else if (ratio < 0.25)
                radius_ = norm / 2;
            differentiate_after(s, predicted < learn_below && ratio > 0.5);
            stuck = 0;
            if (decrement_ > tolerance_ && lost()) return false;
            if (decrement_ > tolerance_) try_faces();
        } else {
            radius_ = norm / 4;
            if (++stuck > 12 || radius_ < 1e-12) {
                // nothing below here: rounding, or a kink
                c_.evaluate(phi_.data());
                return decrement_ <= 100 * tolerance_;
            }
        }
    }
}

Outcome Search::run(const Vector& start) {
    phi_ = start;
    mark_free();
    f_ = evaluate(phi_);
    for (int i = 0; i < 20 && !std::isfinite(f_) && !out_of_budget(); ++i) {
        for (const TermState& t : terms_) t.structure->rescale(0.25, phi_.data() + t.offset);
        for (int k = 0; k < K_; ++k)
            if (held(k)) phi_[k] = start[k];
        f_ = evaluate(phi_);
    }
    bool ok = std::isfinite(f_);
    if (ok) {
        differentiate();
        while (true) {
            ok = descend();
            if (!ok) break;
            // a converged search near a face is tried on it
            const Vector phi = phi_, g = g_, H = H_;
            const double f = f_;
            const auto terms = terms_;
            if (step_onto_faces(late_face, true)) {
                f_ = evaluate(phi_);
                differentiate();
                ok = descend();
                if (!(f_ <= f + std::max(1e-9, 10 * tolerance_))) {
                    phi_ = phi;
                    f_ = evaluate(phi_);
                    terms_ = terms;
                    differentiate();
                }
                if (!ok) break;
            }
            if (!leave_faces()) break;
            ++out_.restarts;
            radius_ = 0.5;
            differentiate();
        }
    }
    if (ok) polish();
    const bool on_the_way = ok && fall_on(), lost = digits_lost(), blurred = on_the_way || lost;
    if (lost) step_back();
    out_.phi = phi_;
    out_.gradient = g_;
    out_.hessian = H_;
    out_.criterion = f_;
    out_.decrement = decrement_;
    out_.tolerance = tolerance_;
    mark_free();
    out_.blurred = blurred;
    out_.converged = ok && !out_.stopped && !blurred;
    if (out_.stopped)
        out_.message = "stopped on request";
    else if (!std::isfinite(f_))
        out_.message = "the criterion is not finite at any start tried";
    else if (blurred)
        out_.message =
            "the residual is too small beside the random effects, so that digits are lost";
    else if (!ok && out_.evaluations >= options_.max_evaluations)
        out_.message = "the limit of evaluations was reached";
    else if (!ok && broken_ > 1)
        out_.message = "the criterion breaks down";
    else if (!ok)
        out_.message = "no further decrease could be found";
    else
        out_.message = "optimum proved";
    return out_;
}

Outcome search(Objective& objective, const Vector& start, const SearchOptions& options) {
    return Search(objective, options).run(start);
}

} // namespace ranef
