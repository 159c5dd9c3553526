#include "laplace.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "dense.hpp"
#include "laplace_parts.hpp"
#include "levels.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double log_two_pi = 1.837877066409345483560659472811;
constexpr double at_mode = 1e-10;    // decrement after which one step is enough
constexpr int most_inner = 100;      // Newton steps for one mode
constexpr int most_halvings = 30;    // of one step
constexpr int start_evaluations = 8; // of the working model
constexpr double near_mode = 1e-4;   // decrement that may be nothing but rounding
constexpr double start_decrement = 1e-2;
constexpr double least_weight = 1e-8; // of a projected information
constexpr double flat = 10;           // variance given the data beside that without them

// Standard deviations by moments, each column of Z as if it were alone:
// E (z'r)^2 / z'Wz = 1 + psi z'Wz, r the working residual of known scale.
Vector moments(const Blocks& b, const Response& y) {
    constexpr double least = 0.15, most = 5;
    Vector phi(b.parameters);
    for (size_t k = 0; k < b.factors.size(); ++k) {
        const Factor& f = b.factors[k];
        const auto place = std::find(b.tail.begin(), b.tail.end(), static_cast<int>(k));
        Vector sd(f.r);
        for (int a = 0; a < f.r; ++a) {
            double between = 0, size = 0;
            for (int l = 0; l < f.q; ++l) {
                const size_t row = static_cast<size_t>(l) * f.r + a;
                const double A = f.depth >= 0
                                     ? b.chain[f.depth].panel[row * b.chain[f.depth].width + a]
                                     : b.tail_diagonal[place - b.tail.begin()][row * f.r + a];
                const double v = f.depth >= 0 ? y.chain[f.depth][row] : y.tail[f.column + row];
                if (A > 0) between += v * v / A - 1;
                size += A;
            }
            sd[a] = std::sqrt(size > 0 ? std::max(between / size, 0.0) : 0.0);
            sd[a] = std::min(std::max(sd[a], least), most);
        }
        for (const Term& t : f.terms) {
            const int r = t.structure->r;
            double* part = phi.data() + t.offset;
            t.structure->start(part);
            if (!t.structure->free_scale()) {
                double sum = 0;
                for (int a = 0; a < r; ++a) sum += sd[t.first + a] / r;
                t.structure->rescale(sum, part);
                continue;
            }
            for (int a = 0, i = 0; a < r; ++a) {
                part[i] *= sd[t.first + a];
                i += t.structure->unstructured() ? r - a : 1;
            }
        }
    }
    return phi;
}

} // namespace

Laplace::Laplace(const Family& family, const Predictors& predictors, const Blocks& pattern,
                 const double* y, const double* extra, const double* weights,
                 const std::vector<int>& integrated)
    : family_(family), predictors_(predictors), n_(predictors.rows()), M_(predictors.count()),
      p_(predictors.coefficients()), K_(pattern.parameters), y_(predictors.gather(y)),
      extra_(predictors.gather(extra)), weights_(predictors.gather(weights)), all_(sequence(M_)),
      active_(predictors.random()), all_coefficients_(sequence(p_)), integrated_(integrated),
      inside_(p_, 0), inner_(predictors.working(pattern, integrated)),
      outer_(predictors.working(pattern, all_coefficients_)),
      criterion_(*inner_.blocks, !integrated.empty(), predictors.threads(), true),
      outer_c_(*outer_.blocks, false, predictors.threads(), true), W_(n_, M_), outer_W_(n_, M_) {
    rows_ = {n_, y_.data(), extra ? extra_.data() : nullptr};
    for (int k : integrated_) inside_[k] = 1;
    for (int k = 0; k < p_; ++k)
        if (!inside_[k]) outer_coefficients_.push_back(k);
    for (int m = 0; m < M_; ++m) {
        fixed_.emplace_back(n_);
        eta_.emplace_back(n_);
        f1_.emplace_back(n_);
        q_.emplace_back(n_);
        t_.emplace_back();
        xb_.emplace_back();
        const bool in_mode = std::any_of(integrated_.begin(), integrated_.end(),
                                         [&](int k) { return predictors_.enters(k, m); });
        if (in_mode && std::find(active_.begin(), active_.end(), m) == active_.end())
            active_.push_back(m);
    }
    std::sort(active_.begin(), active_.end());
    for (size_t k = 0; k < predictors.random().size(); ++k) zb_.emplace_back(n_);
    for (const Factor& f : pattern.factors) {
        const size_t size = static_cast<size_t>(f.q) * f.r;
        mode_.emplace_back(size, 0.0);
        score_.emplace_back(size, 0.0);
        extra_gradient_.emplace_back(static_cast<size_t>(f.r) * f.r, 0.0);
    }
    phi_.resize(K_);
    beta_.resize(p_);
    warm_beta_.resize(p_);
    criterion_.use(inner_.response);
    outer_c_.use(outer_.response);
    C_.resize(static_cast<size_t>(p_) * p_);
}

void Laplace::restart(const Place* place) {
    if (warm_known_) last_ = this->place();
    warm_known_ = place != nullptr;
    warm_ = place ? place->modes : mode_;
    warm_beta_ = place ? place->coefficients : Vector(p_, 0.0);
    before_ = total();
    counts_ = {};
    take(nullptr);
    differentiated_ = false;
    criterion_.use(inner_.response);
    criterion_.add_gradient(nullptr);
    outer_c_.add_gradient(nullptr);
    outer_c_.hold_fixed(false);
}

LaplaceCounts Laplace::total() const {
    return {before_.evaluations + counts_.evaluations, before_.inner + counts_.inner,
            criterion_.factorisations() + outer_c_.factorisations()};
}

std::vector<const double*> Laplace::pointers(const Modes& modes) const {
    std::vector<const double*> out;
    for (const Vector& m : modes) out.push_back(m.data());
    return out;
}

// o + X beta, without the coefficients that belong to the mode.
void Laplace::set_fixed(const std::vector<char>& inside) {
    Vector held = beta_;
    for (int k = 0; k < p_; ++k)
        if (inside[k]) held[k] = 0;
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        const size_t first = predictors_.ranges()[c], last = predictors_.ranges()[c + 1];
        for (int m = 0; m < M_; ++m) {
            predictors_.fixed(m, held.data(), first, last, fixed_[m].data());
            std::copy(fixed_[m].begin() + first, fixed_[m].begin() + last, eta_[m].begin() + first);
        }
    });
}

double Laplace::sum_weighted(const double* f, size_t first, size_t last) const {
    double s = 0;
    for (size_t i = first; i < last; ++i) {
        const double w = weights_.empty() ? 1.0 : weights_[i];
        if (w != 0) s += w * f[i - first];
    }
    return s;
}

// Make the information of the rows positive semidefinite: the absolute values
// of its eigenvalues, each predictor in its own unit.
void Laplace::project(const std::vector<int>& active, size_t first, size_t last) {
    const int k = static_cast<int>(active.size());
    Vector unit(k);
    for (int a = 0; a < k; ++a) unit[a] = predictors_.unit(active[a]);
    auto mended = [](double v) {
        return std::isfinite(v) ? std::max(std::fabs(v), least_weight) : 1.0;
    };
    if (k == 1) {
        Vector& w = W_.make(active[0], active[0]);
        const double own = unit[0] * unit[0];
        for (size_t i = first; i < last; ++i) w[i] = mended(w[i] * own) / own;
        return;
    }
    Vector A(static_cast<size_t>(k) * k), values(k), vectors(A.size());
    for (size_t i = first; i < last; ++i) {
        for (int a = 0; a < k; ++a)
            for (int e = 0; e < k; ++e)
                A[at(a, e, k)] = W_.at(active[a], active[e])[i] * unit[a] * unit[e];
        eigen_symmetric(k, A.data(), values.data(), vectors.data());
        for (double& v : values) v = mended(v);
        for (int a = 0; a < k; ++a)
            for (int e = 0; e <= a; ++e) {
                double s = 0;
                for (int j = 0; j < k; ++j)
                    s += values[j] * vectors[at(a, j, k)] * vectors[at(e, j, k)];
                W_.make(active[a], active[e])[i] = s / (unit[a] * unit[e]);
            }
    }
}

// q = f' + W (Zb [+ X beta]): working responses of the active predictors.
void Laplace::working_responses(const std::vector<int>& active, const Weights& W, bool joint,
                                size_t first, size_t last) {
    const std::vector<int>& random = predictors_.random();
    for (int m : active) {
        double* q = q_[m].data();
        std::copy(f1_[m].begin() + first, f1_[m].begin() + last, q + first);
        for (size_t j = 0; j < random.size(); ++j) {
            const double* w = W.at(m, random[j]);
            if (!w) continue;
            for (size_t i = first; i < last; ++i) q[i] += w[i] * zb_[j][i];
        }
        if (!joint) continue;
        for (int l : active) {
            const double* w = W.at(m, l);
            for (size_t i = first; i < last; ++i) q[i] += w[i] * xb_[l][i];
        }
    }
}

// One pass over the rows at the modes `mode_` (and, of coefficients `inside`,
// beta_): log density (returned), f', W and the working responses of the active
// predictors, and with them the cross-products. `ascent` receives
// f'(old) . (eta - eta(old)).
double Laplace::pass(Working& to, const std::vector<int>& active, const std::vector<char>& inside,
                     bool projected, double* ascent) {
    ++counts_.inner;
    const std::vector<int>& random = predictors_.random();
    const int k = static_cast<int>(active.size());
    const Derivatives places{k};
    const int count = places.count(2);
    const auto modes = pointers(mode_);
    const bool joint = to.blocks->p > 0;
    Vector own(p_, 0.0);
    for (int e = 0; e < p_ && joint; ++e)
        if (inside[e]) own[e] = beta_[e];
    std::vector<double*> zb;
    for (Vector& v : zb_) zb.push_back(v.data());
    std::vector<const double*> eta, q(M_, nullptr);
    for (Vector& v : eta_) eta.push_back(v.data());
    for (int m : active) {
        q[m] = q_[m].data();
        if (joint) xb_[m].resize(n_);
    }
    for (int a = 0; a < k; ++a)
        for (int e = 0; e <= a; ++e) W_.make(active[a], active[e]);
    const int chunks = predictors_.chunks();
    Vector sums(chunks), ascents(chunks);
    for_chunks(chunks, predictors_.threads(), [&](int c) {
        const size_t first = predictors_.ranges()[c], last = predictors_.ranges()[c + 1];
        predictors_.random(modes, first, last, zb.data());
        double sum = 0, up = 0;
        for (int m : active) {
            const auto place = std::find(random.begin(), random.end(), m);
            const double* z = place == random.end() ? nullptr : zb[place - random.begin()];
            const double* x = joint ? xb_[m].data() : nullptr;
            if (joint) predictors_.fixed(m, own.data(), first, last, xb_[m].data(), false);
            for (size_t i = first; i < last; ++i) {
                const double e = fixed_[m][i] + (z ? z[i] : 0.0) + (x ? x[i] : 0.0);
                up += f1_[m][i] * (e - eta_[m][i]);
                eta_[m][i] = e;
            }
        }
        Vector buffer(batch * count);
        std::vector<double*> out(count);
        for (size_t start = first; start < last; start += batch) {
            const size_t end = std::min(start + batch, last);
            for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
            family_.evaluate(rows_, k > 0 ? 2 : 0, active, eta.data(), start, end, out.data());
            sum += sum_weighted(buffer.data(), start, end);
            for (int a = 0; a < k; ++a) {
                const double* f1 = out[places.first(a)];
                double* to_f1 = f1_[active[a]].data();
                for (size_t i = start; i < end; ++i)
                    to_f1[i] = weights_.empty() ? f1[i] : weights_[i] * f1[i];
                for (int e = a; e < k; ++e) {
                    const double* f2 = out[places.second(a, e)];
                    double* w = W_.make(active[a], active[e]).data();
                    for (size_t i = start; i < end; ++i)
                        w[i] = weights_.empty() ? -f2[i] : -weights_[i] * f2[i];
                }
            }
        }
        if (projected) project(active, first, last);
        working_responses(active, W_, joint, first, last);
        predictors_.refill(to, W_, q.data(), c);
        sums[c] = sum;
        ascents[c] = up;
    });
    predictors_.refill_shared(to, W_, q.data());
    double sum = 0;
    *ascent = 0;
    for (int c = 0; c < chunks; ++c) {
        sum += sums[c];
        *ascent += ascents[c];
    }
    return sum;
}

// sum over levels of s'Psi o.
double Laplace::penalty(const Modes& score, const Modes& other) const {
    double sum = 0;
    for (size_t f = 0; f < score.size(); ++f) {
        const int r = blocks().factors[f].r;
        const double* Psi = criterion_.psi(static_cast<int>(f)).data();
        for (size_t l = 0; l < score[f].size(); l += r)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    sum += score[f][l + a] * Psi[a * r + e] * other[f][l + e];
    }
    return sum;
}

void Laplace::take_modes(Criterion& from, const std::vector<int>& coefficients) {
    for (size_t k = 0; k < mode_.size(); ++k) {
        mode_[k] = from.modes(static_cast<int>(k));
        score_[k] = from.scores(static_cast<int>(k));
    }
    for (size_t e = 0; e < coefficients.size(); ++e) beta_[coefficients[e]] = from.beta()[e];
}

// What the penalised log density can lose to the last digits of linear predictors and
// scores: next to nothing, but where counts are large.
double Laplace::rounding() const {
    double sum = 0;
    for (int m : active_)
        for (size_t i = 0; i < n_; ++i) sum += 4 * std::fabs(f1_[m][i] * eta_[m][i]);
    const std::vector<int>& random = predictors_.random();
    for (size_t j = 0; j < random.size(); ++j) {
        const double* w = W_.at(random[j], random[j]);
        for (size_t i = 0; w && i < n_; ++i) sum += std::fabs(w[i]) * zb_[j][i] * zb_[j][i];
    }
    return std::numeric_limits<double>::epsilon() * sum;
}

// Halfway back to an earlier point.
void Laplace::halve(const Modes& mode, const Modes& score, const Vector& beta) {
    for (size_t k = 0; k < mode_.size(); ++k)
        for (size_t j = 0; j < mode_[k].size(); ++j) {
            mode_[k][j] = (mode_[k][j] + mode[k][j]) / 2;
            score_[k][j] = (score_[k][j] + score[k][j]) / 2;
        }
    for (int e = 0; e < p_; ++e) beta_[e] = (beta_[e] + beta[e]) / 2;
}

// Newton's method for the modes. From given modes whose scores are not known the
// first step is taken as it is; from zero every step must increase the penalised
// log density.
bool Laplace::newton(const double* phi, bool from_zero) {
    Modes old_mode, old_score;
    Vector old_beta;
    bool known = from_zero, settled = false, stepped = false;
    double old_value = -infinity;
    int halvings = 0;
    for (int i = 0; i < most_inner; ++i) {
        double ascent;
        const double f = pass(inner_, active_, inside_, false, &ascent);
        if (!std::isfinite(f) && !stepped) return false;
        const double value = known ? f - penalty(score_, score_) / 2 : infinity;
        const double slack = 1e-12 * (1 + std::fabs(old_value));
        const bool lower = stepped && !(std::isfinite(f) && value >= old_value - slack);
        if (lower && !settled && !(std::isfinite(f) && value >= old_value - rounding())) {
            if (old_value == -infinity || ++halvings > most_halvings) return false;
            halve(old_mode, old_score, old_beta);
            continue;
        }
        double decrement = infinity;
        if (stepped && known && halvings == 0 && std::isfinite(old_value)) {
            // f'(eta+ - eta) - s'(b+ - b)
            decrement = ascent - (penalty(old_score, score_) - penalty(old_score, old_score));
        }
        halvings = 0;
        const bool last = settled || decrement < at_mode;
        // the density sees no further, the modes gain by one more step
        settled = decrement < near_mode && decrement < rounding();
        bool ok = criterion_.evaluate(phi) < infinity;
        if (last) {
            logdet_ = criterion_.log_determinant();
            density_ = f;
            return ok;
        }
        if (!ok) {
            pass(inner_, active_, inside_, true, &ascent);
            ok = criterion_.evaluate(phi) < infinity;
            if (!ok) return false;
        }
        criterion_.score();
        // from modes without scores nothing is known to compare with
        old_value = known ? value : -infinity;
        old_mode = mode_;
        old_score = score_;
        old_beta = beta_;
        take_modes(criterion_, integrated_);
        known = stepped = true;
    }
    return false;
}

bool Laplace::find_mode(const double* phi) {
    if (warm_known_) {
        mode_ = warm_;
        for (int k : integrated_) beta_[k] = warm_beta_[k];
        if (newton(phi, false)) return true;
    }
    for (Vector& v : mode_) std::fill(v.begin(), v.end(), 0.0);
    for (Vector& v : score_) std::fill(v.begin(), v.end(), 0.0);
    for (int k : integrated_) beta_[k] = warm_beta_[k];
    if (newton(phi, true)) return true;
    if (warm_known_ || last_.modes.empty()) return false;
    mode_ = last_.modes;
    for (int k : integrated_) beta_[k] = last_.coefficients[k];
    return newton(phi, false);
}

void Laplace::set_parameters(const double* x) {
    std::copy(x, x + K_, phi_.begin());
    for (size_t e = 0; e < outer_coefficients_.size(); ++e)
        beta_[outer_coefficients_[e]] = x[K_ + e];
    set_fixed(inside_);
}

bool Laplace::stands_at(const double* x) const {
    bool same = differentiated_ && std::equal(phi_.begin(), phi_.end(), x);
    for (size_t e = 0; same && e < outer_coefficients_.size(); ++e)
        same = beta_[outer_coefficients_[e]] == x[K_ + e];
    return same;
}

void Laplace::stand(const Place& place, const double* x) {
    set_parameters(x);
    mode_ = place.modes;
    score_ = place.scores;
    for (int k : integrated_) beta_[k] = place.coefficients[k];
    double ascent;
    pass(inner_, active_, inside_, false, &ascent);
    if (criterion_.evaluate(phi_.data()) == infinity)
        throw std::domain_error("the likelihood is not finite at these parameters");
    third();
    working_model();
}

double Laplace::evaluate(const double* x) {
    ++counts_.evaluations;
    differentiated_ = differentiated_given_ = false;
    set_parameters(x);
    if (given_ ? !std::isfinite(evaluate_given()) : !find_mode(phi_.data())) return infinity;
    const double d = -2 * density_ + penalty(score_, score_) + logdet_ -
                     static_cast<double>(integrated_.size()) * log_two_pi;
    return std::isfinite(d) ? d : infinity;
}

Vector Laplace::log_density() const {
    Vector out(n_);
    std::vector<const double*> eta;
    for (const Vector& v : eta_) eta.push_back(v.data());
    double* to[] = {out.data()};
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        family_.evaluate(rows_, 0, {}, eta.data(), predictors_.ranges()[c],
                         predictors_.ranges()[c + 1], to);
    });
    return out;
}

Vector Laplace::predictor(int m) const {
    Vector out(n_);
    predictors_.scatter(eta_[m].data(), out.data());
    return out;
}

// Newton steps for b and the coefficients of the predictors with random effects
// and of the mean together, at given Psi.
void Laplace::joint_mode(const double* phi, int iterations) {
    std::vector<int> active = predictors_.random();
    if (active.empty() || active.front() != 0) active.insert(active.begin(), 0);
    std::vector<char> inside(p_, 0);
    for (int k = 0; k < p_; ++k)
        for (int m : active)
            if (predictors_.enters(k, m)) inside[k] = 1;
    set_fixed(inside);
    double old_value = -infinity;
    Vector old_beta = beta_;
    Modes old_mode = mode_, old_score = score_;
    for (int i = 0, halvings = 0; i < iterations && halvings < most_halvings; ++i) {
        double ascent;
        const double f = pass(outer_, active, inside, true, &ascent);
        const double value = f - penalty(score_, score_) / 2;
        if (!(value >= old_value - 1e-9 * std::fabs(old_value))) {
            if (old_value == -infinity) return;
            halve(old_mode, old_score, old_beta);
            ++halvings;
            continue;
        }
        const bool done = value - old_value < start_decrement;
        old_value = value;
        old_beta = beta_;
        old_mode = mode_;
        old_score = score_;
        // coefficients that are held have no information: let it be one
        Blocks& b = *outer_.blocks;
        for (int e = 0; e < p_; ++e)
            if (!(b.fixed[at(e, e, p_)] > 0)) {
                b.fixed[at(e, e, p_)] = 1;
                outer_.response.fixed[e] = beta_[e];
            }
        if (outer_c_.evaluate(phi) == infinity) return;
        outer_c_.score();
        if (done) return;
        take_modes(outer_c_, all_coefficients_);
    }
}

Vector Laplace::start(const double* from) {
    Vector x(parameters());
    const std::vector<char> none(p_, 0);
    std::copy(from, from + p_, beta_.begin());
    for (Vector& v : mode_) std::fill(v.begin(), v.end(), 0.0);
    for (Vector& v : score_) std::fill(v.begin(), v.end(), 0.0);
    set_fixed(none);
    double ascent;
    pass(inner_, active_, none, true, &ascent);
    Vector phi = moments(*inner_.blocks, inner_.response);
    criterion_.evaluate(phi.data());
    joint_mode(phi.data(), 6);
    SearchOptions options;
    options.max_evaluations = start_evaluations;
    options.tolerance = start_decrement;
    const Outcome found = search(outer_c_, phi, options);
    if (std::isfinite(found.criterion)) {
        phi = found.phi;
        outer_c_.evaluate(phi.data());
        outer_c_.score();
        take_modes(outer_c_, all_coefficients_);
        criterion_.evaluate(phi.data());
        joint_mode(phi.data(), 2);
    }
    std::copy(phi.begin(), phi.end(), x.begin());
    for (size_t e = 0; e < outer_coefficients_.size(); ++e)
        x[K_ + e] = beta_[outer_coefficients_[e]];
    warm_ = mode_;
    warm_beta_ = beta_;
    warm_known_ = true;
    return x;
}

void Laplace::mode_covariances(int factor, bool with_fixed, double* out) {
    outer_c_.at_point(phi_.data());
    outer_c_.mode_covariances(factor, with_fixed, out);
}

std::vector<Solution> Laplace::modes_of(size_t many, const double* displacements) {
    std::vector<Response> rhs;
    std::vector<Vector> d, q(M_, Vector(n_));
    std::vector<const double*> given;
    for (const Vector& v : q) given.push_back(v.data());
    for (size_t k = 0; k < many; ++k) {
        d.clear();
        for (int m = 0; m < M_; ++m)
            d.push_back(predictors_.gather(displacements + (k * M_ + m) * n_));
        for (int m = 0; m < M_; ++m) {
            std::fill(q[m].begin(), q[m].end(), 0.0);
            for (int l = 0; l < M_; ++l) {
                const double* w = outer_W_.at(m, l);
                for (size_t i = 0; i < n_; ++i) q[m][i] += w[i] * d[l][i];
            }
        }
        rhs.push_back(inner_.response);
        predictors_.respond(inner_, rhs.back(), given.data());
    }
    return criterion_.solutions(std::move(rhs));
}

// Data that say something of a level make its variance smaller. Where the log density is
// not concave two modes can meet, the variance given the data grows without bound, and the
// log determinant draws the search there.
bool Laplace::breaks_down() {
    const auto& factors = blocks().factors;
    outer_c_.at_point(phi_.data());
    for (size_t f = 0; f < factors.size(); ++f) {
        const size_t r = factors[f].r;
        const Vector& Psi = psi(static_cast<int>(f));
        if (factors[f].kernel) continue;
        Vector given(factors[f].q * r * r);
        outer_c_.mode_covariances(static_cast<int>(f), false, given.data());
        for (size_t l = 0; l < static_cast<size_t>(factors[f].q); ++l)
            for (size_t a = 0; a < r; ++a) {
                const double prior = Psi[a * r + a];
                if (prior > 1e-12 && given[(l * r + a) * r + a] > flat * prior) return true;
            }
    }
    return false;
}

} // namespace ranef
