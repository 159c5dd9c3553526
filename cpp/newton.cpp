#include "newton.hpp"

#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

constexpr double early_face = 1e-3;   // Psi's eigenvalue that invites a step onto a face
constexpr double late_face = 1e-5;    // the same once the search has converged
constexpr double next_to_face = 1e-6; // so near it that theta does not feel which way Psi wants
constexpr double most_rise = 1;       // of the criterion, that is no more than coming near a face
constexpr int patience = 60;          // evaluations before a criterion is suspected
constexpr double negative_curvature = 1e-6;
constexpr double least_curvature = 1e-12; // beside the largest: counts of 1e10 know a slope so well
constexpr int most_halvings = 60;
constexpr double most_noise = 1e-9;  // beside the criterion, with which it can be proved
constexpr double most_other = 1e-6;  // of the criterion's other noise, with which it can be proved
constexpr double far_off = 1e-5;     // so much of it blurs the criterion
constexpr double some_noise = 1e-11; // beside the criterion: gradients may have lost their digits
constexpr double least_fall = 1e-6;  // of the criterion along a ray
constexpr int most_releases = 8;
constexpr double polished = 1e-11;   // decrement at which the last digits are right
constexpr double fine = 3e-6;        // step, relative to the parameters, not worth an evaluation
constexpr double fine_floor = 0.01;  // parameters below count as this
constexpr double learn_below = 0.05; // decrease below which steps teach the Hessian

inline size_t at(int i, int j, int ld) {
    return static_cast<size_t>(j) * ld + i;
}

struct TermState {
    int factor, first, r, offset, parameters;
    const Structure* structure;
    int rank;               // us: columns kept
    std::vector<char> zero; // diag: variances held at zero
    bool gone = false;      // others: Psi held at zero
    int releases = 0;
    bool diagonal;
};

// <G, Psi> / tr Psi of a structure at some of its parameters.
double slope(const TermState& t, const Vector& G, const Vector& phi) {
    const int r = t.r;
    Vector L(static_cast<size_t>(r) * r, 0.0);
    t.structure->factor(phi.data(), L.data());
    double along = 0, trace = 0;
    for (int a = 0; a < r; ++a)
        for (int c = 0; c < r; ++c) {
            double psi = 0;
            for (int k = 0; k <= std::min(a, c); ++k) psi += L[a * r + k] * L[c * r + k];
            along += G[a * r + c] * psi;
            if (a == c) trace += psi;
        }
    return trace > 0 ? along / trace : std::numeric_limits<double>::infinity();
}

// The slope at Psi = 0 along the steepest of a few shapes of a structure, and that shape. Without
// a variance all shapes are one matrix, so that where the search left them says nothing.
double steepest(const TermState& t, const Vector& G, Vector& shape) {
    Vector start(t.parameters);
    t.structure->start(start.data());
    const std::vector<char> sizes = t.structure->sizes();
    std::vector<Vector> candidates{start};
    for (double turn : {-1.4, -1.0, -0.5, 0.5, 1.0, 1.4}) {
        Vector all = start;
        for (int i = 0; i < t.parameters; ++i) {
            if (sizes[i]) continue;
            all[i] += turn;
            Vector one = start;
            one[i] += turn;
            candidates.push_back(one);
        }
        candidates.push_back(all);
    }
    const int several = static_cast<int>(std::count(sizes.begin(), sizes.end(), 1));
    for (int i = 0; i < t.parameters && several > 1; ++i) {
        if (!sizes[i]) continue;
        Vector alone = start;
        for (int k = 0; k < t.parameters; ++k)
            if (sizes[k] && k != i) alone[k] = 0;
        candidates.push_back(alone);
    }
    double lowest = std::numeric_limits<double>::infinity();
    for (const Vector& phi : candidates) {
        const double s = slope(t, G, phi);
        if (s >= lowest) continue;
        lowest = s;
        shape = phi;
    }
    return lowest;
}

class Search {
  public:
    Search(Objective& objective, const SearchOptions& options)
        : c_(objective), options_(options), K_(objective.parameters()) {
        for (size_t f = 0; f < c_.blocks().factors.size(); ++f)
            for (const Term& term : c_.blocks().factors[f].terms) {
                const Structure* s = term.structure.get();
                TermState state{static_cast<int>(f),
                                term.first,
                                s->r,
                                term.offset,
                                term.parameters,
                                s,
                                s->r,
                                std::vector<char>(s->r, 0),
                                false,
                                0,
                                false};
                state.diagonal = s->free_scale() && !s->unstructured();
                terms_.push_back(state);
            }
        out_.free.assign(K_, 1);
    }

    Outcome run(const Vector& start);

  private:
    double evaluate(const Vector& phi);
    bool descend();
    bool lost();
    bool digits_lost();
    bool fall_on();
    void step_back();
    void polish();
    void differentiate();
    void differentiate_after(const Vector& s, bool near);
    void decompose();
    double step(double radius, Vector& s) const;
    void mark_free();
    void learn(const Vector& s, const Vector& old_gradient);
    void try_faces();
    bool step_onto_faces(double threshold, bool final);
    bool leave_faces();
    Vector term_block(const Vector& full, const TermState& t) const;
    bool held(int i) const { return !options_.held.empty() && options_.held[i]; }
    bool out_of_budget() const {
        return out_.stopped || out_.evaluations >= options_.max_evaluations;
    }

    Objective& c_;
    const SearchOptions& options_;
    int K_;
    std::vector<TermState> terms_;
    Outcome out_;
    Vector phi_, g_, H_;
    Vector secant_;                       // correction of the Hessian by what was seen
    std::vector<int> index_;              // free parameters
    Vector values_, vectors_, projected_; // of H on the free parameters
    double f_ = 0, decrement_ = 0, tolerance_ = 0, radius_ = 2;
    int broken_ = 0;
};

double Search::evaluate(const Vector& phi) {
    ++out_.evaluations;
    Watch::poll();
    const double f = c_.evaluate(phi.data());
    out_.trace.push_back(f);
    if (options_.progress && !options_.progress(out_.evaluations, f, decrement_))
        out_.stopped = true;
    return f;
}

Vector Search::term_block(const Vector& full, const TermState& t) const {
    const int r = c_.blocks().factors[t.factor].r;
    Vector block(static_cast<size_t>(t.r) * t.r);
    for (int a = 0; a < t.r; ++a)
        for (int e = 0; e < t.r; ++e)
            block[a * t.r + e] = full[static_cast<size_t>(t.first + a) * r + t.first + e];
    return block;
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
        for (int j = 0; j < K_; ++j) Bs += (H_[at(i, j, K_)] + secant_[at(i, j, K_)]) * s[j];
        v[i] = out_.free[i] ? g_[i] - old_gradient[i] - Bs : 0.0;
        vs += v[i] * s[i];
        vv += v[i] * v[i];
        ss += s[i] * s[i];
    }
    if (std::fabs(vs) > 1e-2 * std::sqrt(vv * ss))
        for (int j = 0; j < K_; ++j)
            for (int i = 0; i < K_; ++i) secant_[at(i, j, K_)] += v[i] * v[j] / vs;
}

// Spectrum of the Hessian on the free parameters, and the decrement that a
// Newton step with its absolute value predicts.
void Search::decompose() {
    mark_free();
    const int k = static_cast<int>(index_.size());
    Vector A(static_cast<size_t>(k) * k);
    for (int j = 0; j < k; ++j)
        for (int i = 0; i < k; ++i) {
            const size_t from = at(index_[i], index_[j], K_);
            A[at(i, j, k)] = H_[from] + secant_[from];
        }
    values_.resize(k);
    vectors_.resize(static_cast<size_t>(k) * k);
    eigen_symmetric(k, A.data(), values_.data(), vectors_.data());
    projected_.assign(k, 0.0);
    double largest = 0;
    for (double v : values_) largest = std::max(largest, std::fabs(v));
    decrement_ = 0;
    for (int e = 0; e < k; ++e) {
        for (int i = 0; i < k; ++i) projected_[e] += vectors_[at(i, e, k)] * g_[index_[i]];
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
        for (int i = 0; i < k; ++i) s[index_[i]] += x * vectors_[at(i, e, k)];
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
        if (!std::isfinite(f_) || phi_ == last) break;
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

// A step onto faces before the search has converged, taken back where the criterion rises: a
// variance that is small beside another of its term may still be large beside the residual's.
void Search::try_faces() {
    const Vector phi = phi_;
    const double f = f_;
    std::vector<TermState> terms = terms_;
    if (!step_onto_faces(early_face, false)) return;
    f_ = evaluate(phi_);
    if (!(f_ <= f + most_rise)) {
        for (size_t i = 0; i < terms.size(); ++i) {
            const TermState &t = terms_[i], &old = terms[i];
            if (t.rank != old.rank || t.zero != old.zero || t.gone != old.gone) ++terms[i].releases;
        }
        phi_ = phi;
        terms_ = terms;
        f_ = evaluate(phi_);
    }
    differentiate();
}

// Reduce the rank of terms whose covariance matrix is nearly singular in a
// direction in which the criterion wants it to shrink.
bool Search::step_onto_faces(double threshold, bool final) {
    bool moved = false;
    for (TermState& t : terms_) {
        if (!final && t.releases > 0) continue;
        if (!t.diagonal && held(t.offset)) continue;
        const Vector G = term_block(c_.gradient_psi(t.factor), t);
        const Vector psi = term_block(c_.psi(t.factor), t);
        if (t.structure->unstructured()) {
            Vector A = psi, values(t.r), vectors(static_cast<size_t>(t.r) * t.r);
            eigen_symmetric(t.r, A.data(), values.data(), vectors.data());
            const double scale = std::max(values[t.r - 1], 1e-2);
            int rank = t.rank;
            while (rank > 0) {
                const int e = t.r - rank; // smallest eigenvalue of those kept
                if (values[e] > threshold * scale) break;
                const double* v = vectors.data() + at(0, e, t.r);
                double vGv = 0;
                for (int a = 0; a < t.r; ++a)
                    for (int b = 0; b < t.r; ++b) vGv += v[a] * G[a * t.r + b] * v[b];
                if (!(vGv > 0) && !(final && values[e] < next_to_face * scale)) break;
                --rank;
            }
            if (rank == t.rank) continue;
            t.rank = rank;
            trapezoid(t.r, rank, psi, phi_.data() + t.offset);
            moved = true;
        } else if (t.diagonal) {
            for (int a = 0; a < t.r; ++a)
                if (!t.zero[a] && !held(t.offset + a) && psi[a * t.r + a] < threshold &&
                    G[a * t.r + a] > 0) {
                    t.zero[a] = 1;
                    phi_[t.offset + a] = 0;
                    moved = true;
                }
        } else if (!t.gone) {
            double trace = 0, slope = 0;
            for (int a = 0; a < t.r; ++a) {
                trace += psi[a * t.r + a];
                for (int e = 0; e < t.r; ++e) slope += G[a * t.r + e] * psi[a * t.r + e];
            }
            if (trace < threshold * t.r && slope >= 0) {
                t.gone = true;
                t.structure->rescale(0.0, phi_.data() + t.offset);
                moved = true;
            }
        }
    }
    if (moved) mark_free();
    return moved;
}

// Where N'GN has a negative eigenvalue, give the covariance matrix that
// direction back. Expects derivatives at phi_.
// One function: each kind of term leaves its face by the same three steps.
bool Search::leave_faces() {
    bool left = false;
    out_.faces.clear();
    int number = -1;
    for (TermState& t : terms_) {
        ++number;
        const Vector G = term_block(c_.gradient_psi(t.factor), t);
        double size = 1e-8;
        for (int a = 0; a < t.r; ++a) size = std::max(size, std::fabs(G[a * t.r + a]));
        const double m = static_cast<double>(c_.blocks().factors[t.factor].q);
        const double limit = -negative_curvature * std::max(size, m * 1e-3);
        if (t.structure->unstructured() && t.rank < t.r) {
            const Vector psi = term_block(c_.psi(t.factor), t);
            Vector A = psi, values(t.r), vectors(static_cast<size_t>(t.r) * t.r);
            eigen_symmetric(t.r, A.data(), values.data(), vectors.data());
            const int k = t.r - t.rank;
            Vector NGN(static_cast<size_t>(k) * k), low(k), directions(NGN.size());
            for (int i = 0; i < k; ++i)
                for (int j = 0; j < k; ++j) {
                    double s = 0;
                    for (int a = 0; a < t.r; ++a)
                        for (int b = 0; b < t.r; ++b)
                            s += vectors[at(a, i, t.r)] * G[a * t.r + b] * vectors[at(b, j, t.r)];
                    NGN[at(i, j, k)] = s;
                }
            eigen_symmetric(k, NGN.data(), low.data(), directions.data());
            out_.faces.push_back({number, t.rank, low[0]});
            if (low[0] >= limit || t.releases >= most_releases || out_of_budget()) continue;
            Vector n(t.r, 0.0);
            for (int a = 0; a < t.r; ++a)
                for (int i = 0; i < k; ++i)
                    n[a] += vectors[at(a, i, t.r)] * directions[at(i, 0, k)];
            const double before = f_;
            const Vector old = phi_;
            for (double delta = 0.1; delta > 1e-7 && !out_of_budget(); delta /= 8) {
                Vector grown = psi;
                for (int a = 0; a < t.r; ++a)
                    for (int b = 0; b < t.r; ++b) grown[a * t.r + b] += delta * n[a] * n[b];
                phi_ = old;
                trapezoid(t.r, t.rank + 1, grown, phi_.data() + t.offset);
                f_ = evaluate(phi_);
                if (f_ < before) break;
            }
            if (f_ < before) {
                ++t.rank;
                ++t.releases;
                left = true;
            } else {
                phi_ = old;
                f_ = evaluate(phi_);
            }
        } else if (t.diagonal || t.gone) {
            double lowest = std::numeric_limits<double>::infinity();
            int which = -1, rank = t.r;
            for (int a = 0; a < t.r; ++a) {
                if (t.diagonal && !t.zero[a]) continue;
                --rank;
                if (G[a * t.r + a] < lowest) {
                    lowest = G[a * t.r + a];
                    which = a;
                }
            }
            if (which < 0) continue;
            Vector shape;
            if (!t.diagonal) lowest = steepest(t, G, shape);
            out_.faces.push_back({number, rank, lowest});
            if (lowest >= limit || t.releases >= most_releases || out_of_budget()) continue;
            const double before = f_;
            const Vector old = phi_;
            for (double delta = 0.3; delta > 1e-4 && !out_of_budget(); delta /= 3) {
                phi_ = old;
                if (t.diagonal)
                    phi_[t.offset + which] = delta;
                else {
                    std::copy(shape.begin(), shape.end(), phi_.begin() + t.offset);
                    t.structure->rescale(delta, phi_.data() + t.offset);
                }
                f_ = evaluate(phi_);
                if (f_ < before) break;
            }
            if (f_ < before) {
                t.zero[which] = 0;
                t.gone = false;
                ++t.releases;
                left = true;
            } else {
                phi_ = old;
                f_ = evaluate(phi_);
            }
        }
        if (left) break;
    }
    return left;
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

} // namespace

void trapezoid(int r, int rank, const Vector& psi, double* phi) {
    Vector A = psi, values(r), vectors(static_cast<size_t>(r) * r);
    eigen_symmetric(r, A.data(), values.data(), vectors.data());
    Vector F(static_cast<size_t>(r) * r, 0.0); // column-major (r, rank)
    for (int k = 0; k < rank; ++k) {
        const int e = r - 1 - k;
        const double s = std::sqrt(std::max(values[e], 0.0));
        for (int a = 0; a < r; ++a) F[at(a, k, r)] = s * vectors[at(a, e, r)];
    }
    for (int row = 0; row < rank; ++row)
        for (int k = row + 1; k < rank; ++k) {
            const double x = F[at(row, row, r)], y = F[at(row, k, r)];
            const double h = std::hypot(x, y);
            if (h == 0) continue;
            const double c = x / h, s = y / h;
            for (int a = row; a < r; ++a) {
                const double u = F[at(a, row, r)], v = F[at(a, k, r)];
                F[at(a, row, r)] = c * u + s * v;
                F[at(a, k, r)] = c * v - s * u;
            }
            F[at(row, k, r)] = 0;
        }
    int i = 0;
    for (int col = 0; col < r; ++col) {
        const double sign = F[at(col, col, r)] < 0 ? -1.0 : 1.0;
        for (int row = col; row < r; ++row) phi[i++] = sign * F[at(row, col, r)];
    }
}

Outcome search(Objective& objective, const Vector& start, const SearchOptions& options) {
    return Search(objective, options).run(start);
}

} // namespace ranef
