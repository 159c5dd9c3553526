// The Python face of generalised linear mixed models: a family, predictors and
// factors as arrays; their criterion, its search, and what is known at a point.
#include "generalised.hpp"

#include <nanobind/stl/pair.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <optional>

#include "arrays.hpp"
#include "laplace_moved.hpp"
#include "penalty.hpp"
#include "quadrature.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

constexpr double modest = 0.3; // a standard deviation to start from

// Where a problem's modes are at its start, or at the point x where a fit ended.
struct Modes {
    Laplace::Place place;
    Vector x;          // empty at a start
    size_t number = 0; // of all ends of fits
};

size_t next_number() {
    static std::atomic<size_t> last{0};
    return ++last;
}

class GeneralisedProblem {
  public:
    GeneralisedProblem(const nb::object& family, Input<1> y, const nb::object& extra,
                       const nb::object& weights, const nb::list& predictors, int coefficients,
                       const nb::list& factors, const std::vector<int>& chain, int threads,
                       int nodes, const std::vector<int>& integrated, bool sparse_tail) {
        const size_t n = y.shape(0);
        need(n >= 1 && n <= most_rows, "y must have from 1 to 2^31 - 1 values");
        const Family* given = nullptr;
        need(nb::try_cast(family, given) && given, "a family of the core is needed");
        const Family& f = *given;
        keep_.push_back(family);
        std::vector<FactorInput> inputs;
        std::vector<std::vector<int>> owners;
        for (nb::handle item : factors) {
            const nb::dict d = member<nb::dict>(item, "a factor");
            inputs.push_back(read_factor(d, n, keep_));
            owners.push_back(member<std::vector<int>>(entry(d, "owners"), "owners"));
            size_t columns = 0;
            for (const TermInput& t : inputs.back().terms) columns += t.size;
            need(owners.back().size() == columns, "each column of a factor has one predictor");
            for (int m : owners.back()) need_index(m, f.predictors(), "a predictor");
        }
        std::vector<PredictorInput> rows;
        for (nb::handle item : predictors)
            rows.push_back(read_predictor(member<nb::dict>(item, "a predictor"), n, coefficients));
        need(rows.size() == static_cast<size_t>(f.predictors()),
             "the family has another number of predictors");
        check_coefficients(rows, coefficients, integrated);
        need(nodes == 1 || integrated.empty(), "quadrature integrates no coefficients");
        const double* e = optional(extra, n, "extra", keep_);
        const double* w = optional(weights, n, "weights", keep_);
        unlocked([&] {
            check_design(n, inputs, 0, chain);
            check_quadrature(nodes, inputs, chain);
            need_numbers(y.data(), n, "y");
            if (e) need_numbers(e, n, "extra");
            if (w) need_weights(w, n, true);
            const auto pattern = assemble(n, inputs, FixedInput{}, nullptr, chain,
                                          checked_threads(threads), sparse_tail);
            predictors_ = std::make_unique<Predictors>(*pattern, owners, rows, coefficients,
                                                       checked_threads(threads));
            laplace_ =
                std::make_unique<Laplace>(f, *predictors_, *pattern, y.data(), e, w, integrated);
            if (nodes > 1) quadrature_ = std::make_unique<Quadrature>(*laplace_, nodes);
        });
        for (size_t m = 0; m < columns_.size(); ++m)
            if (predictors_->copied(static_cast<int>(m))) columns_[m].reset();
    }

    // Of a quadrature: what the log integral of each level of the coarsest factor counts.
    void weigh_levels(Input<1> weights) {
        need(quadrature_ != nullptr, "weights of levels take nodes of a quadrature");
        check(weights, static_cast<int>(quadrature_->coarsest()));
        need_weights(weights.data(), weights.shape(0), false);
        ask([&] { quadrature_->weigh_levels(weights.data()); });
    }

    int parameters() const { return laplace_->blocks().parameters; }
    int coefficients() const { return predictors_->coefficients(); }
    int order() const { return laplace_->blocks().order(); }
    nb::dict tail() const { return describe_tail(laplace_->blocks()); }

    Array basis(int factor, int term) const {
        const Term& t = checked_term(factor, term);
        const size_t r = t.structure->r;
        return to_array(t.basis, {r, r});
    }

    Array start(Input<1> beta) { return start_with_modes(beta).first; }

    // The start, and the modes there: a search that is given both begins with fewer steps.
    std::pair<Array, Modes> start_with_modes(Input<1> beta) {
        check(beta, predictors_->coefficients());
        Vector x;
        Modes there;
        ask([&] {
            x = laplace_->start(beta.data());
            keep_held(x);
            if (quadrature_) x = near_optimum(x);
            there.place = laplace_->place();
        });
        return {to_array(std::move(x)), std::move(there)};
    }

    // modes: of start_with_modes, or null
    nb::dict fit(Input<1> start, int max_evaluations, const nb::object& progress,
                 const Modes* modes) {
        check(start, laplace_->parameters());
        need(!modes || fits(modes->place), "these are the modes of another problem");
        need(max_evaluations >= 0, "the limit of evaluations must not be negative");
        SearchOptions options;
        options.max_evaluations = max_evaluations;
        Progress report_progress(progress);
        options.progress = [&](int count, double criterion, double decrement) {
            return report_progress(count, criterion, decrement);
        };
        Outcome out;
        Report here;
        Modes end;
        ask([&] {
            if (modes) laplace_->restart(&modes->place);
            options.held = held_;
            const Vector from = admissible(Vector(start.data(), start.data() + start.shape(0)));
            out = search(objective(), from, options);
            here = report();
            if (quadrature_ || out.stopped || !std::isfinite(out.criterion) ||
                !laplace_->stands_at(out.phi.data()))
                return;
            end = {laplace_->end(), out.phi, next_number()};
            standing_ = Standing{out.phi, end.number};
        });
        report_progress.rethrow();
        nb::dict d = ranef::describe(out);
        describe(std::move(here), d);
        d["end"] = end.number ? nb::cast(std::move(end)) : nb::none();
        return d;
    }

    // Adds priors from here on. terms: (factor, term, basis, sd, lkj) with sd a list of
    // priors, one a column; coefficients: (row, prior); a prior: (kind, location,
    // scale, shape).
    void penalise(const nb::list& terms, const nb::list& coefficients) {
        Penalty penalty;
        for (nb::handle item : terms) {
            const nb::tuple t = tuple(item, 5);
            TermPrior prior;
            prior.factor = member<int>(t[0], "a factor's number");
            prior.term = member<int>(t[1], "a term's number");
            const size_t r = checked_term(prior.factor, prior.term).structure->r;
            const auto basis = array<Input<2>>(t[2], "a basis");
            const nb::list sd = member<nb::list>(t[3], "the priors of a term");
            need(basis.shape(0) == r && basis.shape(1) == r && nb::len(sd) == r,
                 "the priors do not fit the term");
            need_finite(basis.data(), r * r, "a basis");
            prior.basis.assign(basis.data(), basis.data() + r * r);
            for (nb::handle one : sd) prior.sd.push_back(read_prior(one));
            prior.lkj = member<double>(t[4], "an LKJ prior");
            need(std::isfinite(prior.lkj) && prior.lkj > 0, "an LKJ prior must be above zero");
            penalty.terms.push_back(std::move(prior));
        }
        for (nb::handle item : coefficients) {
            const nb::tuple t = tuple(item, 2);
            const auto row = array<Input<1>>(t[0], "the row of a prior");
            check(row, predictors_->coefficients());
            penalty.coefficients.push_back(
                {Vector(row.data(), row.data() + row.shape(0)), read_prior(t[1])});
        }
        ask([&] {
            Objective* base = laplace_.get();
            if (quadrature_) base = quadrature_.get();
            penalised_laplace_ = std::make_unique<Penalised>(*laplace_, penalty);
            penalised_ = std::make_unique<Penalised>(*base, std::move(penalty));
        });
    }

    // Holds entries of the covariance parameters at these values in every search from
    // here on.
    void hold(const std::vector<int>& entries, Input<1> values) {
        check(values, entries.size());
        for (int entry : entries) need_index(entry, parameters(), "a held parameter");
        ask([&] {
            held_.assign(laplace_->parameters(), 0);
            kept_.assign(laplace_->parameters(), 0.0);
            for (size_t i = 0; i < entries.size(); ++i) {
                held_[entries[i]] = 1;
                kept_[entries[i]] = values.data()[i];
            }
        });
    }

    // The penalty alone at x; zero without priors.
    double penalty(Input<1> x) {
        check(x, laplace_->parameters());
        double value = 0;
        unlocked([&] { // leaves the problem where it stands
            const Turns::Turn turn(turns_);
            if (penalised_) value = penalised_->penalty(x.data());
        });
        return value;
    }

    // Modes are looked for from where they are at the end of a fit, if one is given.
    nb::dict state(Input<1> x, bool derivatives, const Modes* near) {
        check(x, laplace_->parameters());
        need(!near || fits(near->place), "these are the modes of another problem");
        const size_t D = laplace_->parameters();
        Vector gradient(D), hessian(D * D);
        double value = 0;
        Report here;
        ask([&] {
            if (near) laplace_->restart(&near->place);
            value = objective().evaluate(x.data());
            if (derivatives && value < std::numeric_limits<double>::infinity())
                objective().differentiate(gradient.data(), hessian.data());
            here = report();
        });
        nb::dict d;
        d["criterion"] = value;
        describe(std::move(here), d);
        if (derivatives) {
            d["gradient"] = to_array(std::move(gradient));
            d["hessian"] = to_array(std::move(hessian), {D, D});
        }
        return d;
    }

    // Given Psi, at the point x: of one factor, the covariances of its modes. `end` as for all
    // questions that take it: of a fit, whose modes are those of x where it ended there.
    Array mode_covariances(Input<1> x, int factor, bool with_fixed, const Modes* end) {
        const Factor& f = checked_factor(factor);
        const size_t q = f.q, r = f.r;
        Vector out;
        ask_at(x, end, [&] {
            out.resize(q * r * r);
            laplace_->mode_covariances(factor, with_fixed, out.data());
        });
        return to_array(std::move(out), {q, r, r});
    }

    // The same of all factors: a list of (given the coefficients, with their uncertainty).
    nb::list all_mode_covariances(Input<1> x, const Modes* end) {
        std::vector<Vector> given, error;
        ask_at(x, end, [&] { laplace_->all_mode_covariances(given, error); });
        nb::list out;
        for (size_t f = 0; f < given.size(); ++f) {
            const Factor& factor = laplace_->blocks().factors[f];
            const size_t q = factor.q, r = factor.r;
            out.append(nb::make_tuple(to_array(std::move(given[f]), {q, r, r}),
                                      to_array(std::move(error[f]), {q, r, r})));
        }
        return out;
    }

    // Psi^-1 of the modes at the point x, by factor (q, r), in the user's level order and the
    // core's basis.
    nb::list mode_scores(Input<1> x, const Modes* end) {
        std::vector<Vector> found;
        ask_at(x, end, [&] {
            for (size_t k = 0; k < laplace_->blocks().factors.size(); ++k) {
                const Factor& f = laplace_->blocks().factors[k];
                const Vector& score = laplace_->score(static_cast<int>(k));
                Vector own(score.size());
                for (int l = 0; l < f.q; ++l)
                    std::copy_n(score.begin() + static_cast<std::ptrdiff_t>(l) * f.r, f.r,
                                own.begin() + static_cast<std::ptrdiff_t>(f.level_at[l]) * f.r);
                found.push_back(std::move(own));
            }
        });
        nb::list out;
        for (size_t k = 0; k < found.size(); ++k) {
            const Factor& f = laplace_->blocks().factors[k];
            const size_t q = f.q, r = f.r;
            out.append(to_array(std::move(found[k]), {q, r}));
        }
        return out;
    }

    // Psi Z'V^-1 d of displacements d of the linear predictors, (k, M, n), at the point x: by
    // factor (k, q, r).
    nb::list modes_of(Input<1> x, Input<3> displacements, const Modes* end) {
        const size_t k = displacements.shape(0), M = predictors_->count(), n = predictors_->rows();
        need(displacements.shape(1) == M && displacements.shape(2) == n,
             "displacements have one value a row for each predictor");
        need_finite(displacements.data(), displacements.size(), "displacements");
        const auto& factors = laplace_->blocks().factors;
        std::vector<Vector> modes(factors.size());
        ask_at(x, end, [&] {
            const std::vector<Solution> found = laplace_->modes_of(k, displacements.data());
            for (const Solution& one : found)
                for (size_t f = 0; f < factors.size(); ++f) {
                    const Vector own = in_user_basis(factors[f], one.modes[f]);
                    modes[f].insert(modes[f].end(), own.begin(), own.end());
                }
        });
        nb::list out;
        for (size_t f = 0; f < factors.size(); ++f) {
            const size_t q = factors[f].q, r = factors[f].r;
            out.append(to_array(std::move(modes[f]), {k, q, r}));
        }
        return out;
    }

    // For second derivatives at x: criterion (k, 2), gradient (k, 2, D), coefficients (k, 2, p)
    // and psi_gradient, by factor (k, 2, r, r), at k pairs of points high and low (k, D) at the
    // same distance from it. Their modes are those of x moved along their tangent: see
    // laplace_moved.cpp.
    nb::dict beside(Input<1> x, Input<2> high, Input<2> low, const Modes* end) {
        check(x, laplace_->parameters());
        const size_t k = high.shape(0), D = laplace_->parameters(), p = coefficients();
        for (const Input<2>* given : {&high, &low}) {
            need(given->shape(0) == k && given->shape(1) == D,
                 "the points must be two tables with one row each for a direction");
            need_finite(given->data(), given->size(), "the points");
        }
        need(!end || fits(end->place), "these are the modes of another problem");
        const Vector at(x.data(), x.data() + D);
        Sides out;
        const auto& factors = laplace_->blocks().factors;
        unlocked([&] {
            const Turns::Turn turn(turns_);
            out.psi_gradient.resize(factors.size());
            size_t once = 1;
            for (size_t first = 0; first < k; first += once) {
                stand_at(at, end);
                once = std::min(laplace_->tangents_at_once(), k - first);
                look_beside(*laplace_, objective(), once, high.data() + first * D,
                            low.data() + first * D, out);
            }
        });
        nb::dict d;
        d["criterion"] = to_array(std::move(out.criterion), {k, 2});
        d["gradient"] = to_array(std::move(out.gradient), {k, 2, D});
        d["coefficients"] = to_array(std::move(out.coefficients), {k, 2, p});
        nb::list by_factor;
        for (size_t f = 0; f < factors.size(); ++f) {
            const size_t r = factors[f].r;
            by_factor.append(to_array(std::move(out.psi_gradient[f]), {k, 2, r, r}));
        }
        d["psi_gradient"] = by_factor;
        return d;
    }

    // Evaluations, passes over the rows and factorisations until now.
    nb::tuple work() {
        LaplaceCounts done;
        unlocked([&] {
            const Turns::Turn turn(turns_);
            done = laplace_->total();
        });
        return nb::make_tuple(done.evaluations, done.inner, done.factorisations);
    }

    // At the point x, by quadrature: of one factor, the means of its effects given the data,
    // (q, r), and the covariances of b_e, (q, r, r).
    std::pair<Array, Array> posterior(Input<1> x, int factor) {
        check(x, laplace_->parameters());
        need(quadrature_ != nullptr, "a posterior takes nodes of a quadrature");
        const Factor& f = checked_factor(factor);
        const size_t q = f.q, r = f.r;
        Vector mean, covariance, squares(q * r * r);
        ask([&] {
            if (!std::isfinite(quadrature_->evaluate(x.data())))
                throw std::domain_error("the likelihood is not finite at these parameters");
            quadrature_->posterior(factor, mean, covariance);
            for (size_t l = 0; l < q; ++l)
                std::copy_n(covariance.begin() + l * r * r, r * r,
                            squares.begin() + f.level_at[l] * r * r);
        });
        return {user_modes(f, mean), to_array(std::move(squares), {q, r, r})};
    }

    Array quadratic_forms(Input<1> x, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X, const Modes* end) {
        const EffectRows given =
            read_effect_rows(laplace_->blocks().factors, coefficients(), levels, z, X);
        Vector out(X.shape(0));
        ask_at(x, end, [&] {
            laplace_->quadratic_forms(X.shape(0), given.levels, given.z, X.data(), out.data());
        });
        return to_array(std::move(out));
    }

    // Given Psi, at the point x: combinations of effects and coefficients, each as half
    // of a solve.
    nb::tuple half_solves(Input<1> x, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X, const Modes* end) {
        const size_t rows = X.shape(0);
        const EffectRows given =
            read_effect_rows(laplace_->blocks().factors, coefficients(), levels, z, X);
        HalfSolves found;
        size_t order = 0;
        ask_at(x, end, [&] {
            found = laplace_->half_solves(rows, given.levels, given.z, X.data());
            order = rows ? found.tail.size() / rows : 0;
        });
        return ranef::describe(std::move(found), rows, order);
    }

  private:
    // Where the problem has stood since the last question, and the end of which fit that is.
    struct Standing {
        Vector x;
        size_t number;
    };

    // What is known where the modes were found last.
    struct Report {
        Vector coefficients, fixed_covariance, predictors;
        std::vector<Vector> modes, psi, psi_gradient;
        int inner = 0;
    };

    // Puts a question that no other call may meet, from the state in which the problem was
    // made: no answer depends on what was asked before.
    template <class Question>
    void ask(Question&& question) {
        unlocked([&] {
            const Turns::Turn turn(turns_);
            standing_.reset();
            laplace_->restart();
            question();
        });
    }

    // Puts a question about the point x. Its modes are those of `end`, if that is the end of a
    // fit at x, else looked for from where the problem was made. Whoever asks about the same
    // point again finds the problem there.
    template <class Question>
    void ask_at(const Input<1>& x, const Modes* end, Question&& question) {
        check(x, laplace_->parameters());
        need(!end || fits(end->place), "these are the modes of another problem");
        const Vector at(x.data(), x.data() + x.shape(0));
        unlocked([&] {
            const Turns::Turn turn(turns_);
            const size_t number = stand_at(at, end);
            question();
            standing_ = Standing{at, number};
        });
    }

    // Whoever calls this has the turn, and says afterwards where the problem stands then; a call
    // that is broken off leaves no trace. Returns the number of the end, 0 without one.
    size_t stand_at(const Vector& at, const Modes* end) {
        const size_t number = end && end->x == at ? end->number : 0;
        const bool there = standing_ && standing_->x == at && standing_->number == number;
        standing_.reset();
        if (there) return number;
        laplace_->restart();
        if (number)
            laplace_->stand(end->place, at.data());
        else
            settle(at.data());
        return number;
    }

    static nb::tuple tuple(nb::handle value, size_t size) {
        const auto t = member<nb::tuple>(value, "a prior");
        need(nb::len(t) == size, "a prior has another number of parts");
        return t;
    }

    static Prior read_prior(nb::handle value) {
        const nb::tuple t = tuple(value, 4);
        const auto kind = member<std::string>(t[0], "the kind of a prior");
        Prior prior;
        prior.location = member<double>(t[1], "the location of a prior");
        prior.scale = member<double>(t[2], "the scale of a prior");
        prior.shape = member<double>(t[3], "the shape of a prior");
        prior.kind = kind == "normal"    ? Prior::Kind::normal
                     : kind == "student" ? Prior::Kind::student
                     : kind == "gamma"   ? Prior::Kind::gamma
                                         : Prior::Kind::none;
        need(prior.kind == Prior::Kind::none ||
                 (std::isfinite(prior.location) && std::isfinite(prior.scale) && prior.scale > 0 &&
                  std::isfinite(prior.shape)),
             "the numbers of a prior must be finite, and its scale above zero");
        return prior;
    }

    static void check(const Input<1>& given, size_t needed) {
        need(given.shape(0) == needed, "the parameters have the wrong length");
        need_finite(given.data(), needed, "the parameters");
    }

    bool fits(const Laplace::Place& place) const {
        const auto& factors = laplace_->blocks().factors;
        bool same = place.modes.size() == factors.size() &&
                    place.coefficients.size() == static_cast<size_t>(coefficients());
        for (size_t f = 0; same && f < factors.size(); ++f)
            same = place.modes[f].size() == static_cast<size_t>(factors[f].q) * factors[f].r;
        return same;
    }

    const Factor& checked_factor(int factor) const {
        need_index(factor, laplace_->blocks().factors.size(), "a factor");
        return laplace_->blocks().factors[factor];
    }

    const Term& checked_term(int factor, int term) const {
        const auto& terms = checked_factor(factor).terms;
        need_index(term, terms.size(), "a term");
        return terms[term];
    }

    static void check_coefficients(const std::vector<PredictorInput>& rows, int coefficients,
                                   const std::vector<int>& integrated) {
        need(coefficients >= 0, "the number of coefficients must not be negative");
        std::vector<char> used(coefficients, 0);
        for (const PredictorInput& row : rows)
            for (int k : row.coefficient) used[k] = 1;
        need(std::find(used.begin(), used.end(), 0) == used.end(),
             "each coefficient belongs to a column of some predictor");
        int before = -1;
        for (int k : integrated) {
            need_index(k, coefficients, "an integrated coefficient");
            need(k > before, "the coefficients to integrate out must be ascending");
            before = k;
        }
    }

    // Laplace or the quadrature, with the penalty if there is one.
    Objective& objective() const {
        if (penalised_) return *penalised_;
        if (quadrature_) return *quadrature_;
        return *laplace_;
    }

    // Priors may forbid a variance of zero, where a start may stand.
    Vector admissible(Vector x) const {
        keep_held(x);
        if (!penalised_ || std::isfinite(penalised_->penalty(x.data()))) return x;
        for (const Factor& f : laplace_->blocks().factors)
            for (const Term& t : f.terms) {
                t.structure->start(x.data() + t.offset);
                t.structure->rescale(modest, x.data() + t.offset);
            }
        keep_held(x);
        return x;
    }

    void keep_held(Vector& x) const {
        for (size_t i = 0; i < held_.size(); ++i)
            if (held_[i]) x[i] = kept_[i];
    }

    Objective& approximation() const {
        if (penalised_laplace_) return *penalised_laplace_;
        return *laplace_;
    }

    // Roughly the optimum of the Laplace approximation, to start a quadrature from.
    Vector near_optimum(const Vector& x) {
        SearchOptions options;
        options.max_evaluations = 20;
        options.held = held_;
        options.tolerance = 1e-3;
        const Outcome found = search(approximation(), x, options);
        return std::isfinite(found.criterion) ? found.phi : x;
    }

    // Everything at x.
    void settle(const double* x) {
        const size_t D = laplace_->parameters();
        Vector gradient(D), hessian(D * D);
        if (laplace_->evaluate(x) < std::numeric_limits<double>::infinity())
            laplace_->differentiate(gradient.data(), hessian.data());
        else
            throw std::domain_error("the likelihood is not finite at these parameters");
    }

    PredictorInput read_predictor(const nb::dict& d, size_t n, int coefficients) {
        PredictorInput in;
        const auto X = array<Input<2>>(entry(d, "X"), "X");
        need(X.shape(0) == n, "X must have one row for each of y");
        need_finite(X.data(), X.size(), "X");
        in.X = X.data();
        in.columns = static_cast<int>(X.shape(1));
        in.coefficient = member<std::vector<int>>(entry(d, "coefficients"), "coefficients");
        need(in.coefficient.size() == X.shape(1), "each column of X has one coefficient");
        for (int k : in.coefficient) need_index(k, std::max(coefficients, 0), "a coefficient");
        in.offset = optional(entry(d, "offset"), n, "an offset", keep_);
        if (in.offset) need_finite(in.offset, n, "an offset");
        if (d.contains("unit")) in.unit = member<double>(entry(d, "unit"), "unit");
        need(in.unit > 0 && std::isfinite(in.unit), "the unit of a predictor must be above 0");
        columns_.push_back(nb::cast(X));
        return in;
    }

    Report report() const {
        Report here;
        here.coefficients = laplace_->coefficients();
        here.fixed_covariance = laplace_->fixed_covariance();
        for (size_t f = 0; f < laplace_->blocks().factors.size(); ++f) {
            const int k = static_cast<int>(f);
            here.modes.push_back(laplace_->modes(k));
            here.psi.push_back(laplace_->psi(k));
            here.psi_gradient.push_back(objective().gradient_psi(k));
        }
        for (int m = 0; m < predictors_->count(); ++m) {
            const Vector one = laplace_->predictor(m);
            here.predictors.insert(here.predictors.end(), one.begin(), one.end());
        }
        here.inner = laplace_->counts().inner;
        return here;
    }

    void describe(Report here, nb::dict& d) const {
        const size_t p = predictors_->coefficients(), n = predictors_->rows();
        const size_t M = predictors_->count();
        d["coefficients"] = to_array(std::move(here.coefficients));
        d["fixed_covariance"] = to_array(std::move(here.fixed_covariance), {p, p});
        nb::list modes, psi, psi_gradient;
        for (size_t f = 0; f < here.modes.size(); ++f) {
            const Factor& factor = laplace_->blocks().factors[f];
            const size_t r = factor.r;
            modes.append(user_modes(factor, here.modes[f]));
            psi.append(to_array(std::move(here.psi[f]), {r, r}));
            psi_gradient.append(to_array(std::move(here.psi_gradient[f]), {r, r}));
        }
        d["modes"] = modes;
        d["psi"] = psi;
        d["psi_gradient"] = psi_gradient;
        d["predictors"] = to_array(std::move(here.predictors), {M, n});
        d["inner"] = here.inner;
    }

    std::vector<nb::object> keep_;
    std::vector<nb::object> columns_; // X by predictor, of those whose rows are not copied
    std::vector<char> held_;          // parameters that a search leaves alone; empty: none
    Vector kept_;                     // their values
    Turns turns_;
    std::optional<Standing> standing_;
    std::unique_ptr<Predictors> predictors_;
    std::unique_ptr<Laplace> laplace_;
    std::unique_ptr<Quadrature> quadrature_;
    std::unique_ptr<Penalised> penalised_laplace_, penalised_;
};

} // namespace

void bind_generalised(nb::module_& m) {
    m.def(
        "hermite",
        [](int count) {
            need(count >= 1 && count <= most_roots,
                 "from 1 to " + std::to_string(most_roots) + " nodes");
            Vector nodes, log_weights;
            hermite(count, nodes, log_weights);
            return std::make_pair(to_array(std::move(nodes)), to_array(std::move(log_weights)));
        },
        "count"_a);
    nb::class_<Modes>(m, "Modes");
    nb::class_<GeneralisedProblem>(m, "GeneralisedProblem")
        .def(nb::init<const nb::object&, Input<1>, const nb::object&, const nb::object&,
                      const nb::list&, int, const nb::list&, const std::vector<int>&, int, int,
                      const std::vector<int>&, bool>(),
             "family"_a, "y"_a, "extra"_a.none(), "weights"_a.none(), "predictors"_a,
             "coefficients"_a, "factors"_a, "chain"_a, "threads"_a, "nodes"_a = 1,
             "integrated"_a = std::vector<int>(), "sparse_tail"_a = false)
        .def_prop_ro("parameters", &GeneralisedProblem::parameters)
        .def_prop_ro("coefficients", &GeneralisedProblem::coefficients)
        .def_prop_ro("order", &GeneralisedProblem::order)
        .def_prop_ro("tail", &GeneralisedProblem::tail)
        .def("basis", &GeneralisedProblem::basis, "factor"_a, "term"_a)
        .def("start", &GeneralisedProblem::start, "beta"_a)
        .def("start_with_modes", &GeneralisedProblem::start_with_modes, "beta"_a)
        .def("fit", &GeneralisedProblem::fit, "start"_a, "max_evaluations"_a, "progress"_a.none(),
             "modes"_a.none() = nb::none())
        .def("penalise", &GeneralisedProblem::penalise, "terms"_a, "coefficients"_a)
        .def("hold", &GeneralisedProblem::hold, "entries"_a, "values"_a)
        .def("penalty", &GeneralisedProblem::penalty, "x"_a)
        .def("state", &GeneralisedProblem::state, "x"_a, "derivatives"_a,
             "near"_a.none() = nb::none())
        .def("mode_covariances", &GeneralisedProblem::mode_covariances, "x"_a, "factor"_a,
             "with_fixed"_a, "end"_a.none() = nb::none())
        .def("all_mode_covariances", &GeneralisedProblem::all_mode_covariances, "x"_a,
             "end"_a.none() = nb::none())
        .def("mode_scores", &GeneralisedProblem::mode_scores, "x"_a, "end"_a.none() = nb::none())
        .def("modes_of", &GeneralisedProblem::modes_of, "x"_a, "displacements"_a,
             "end"_a.none() = nb::none())
        .def("beside", &GeneralisedProblem::beside, "x"_a, "high"_a, "low"_a,
             "end"_a.none() = nb::none())
        .def_prop_ro("work", &GeneralisedProblem::work)
        .def("posterior", &GeneralisedProblem::posterior, "x"_a, "factor"_a)
        .def("weigh_levels", &GeneralisedProblem::weigh_levels, "weights"_a)
        .def("quadratic_forms", &GeneralisedProblem::quadratic_forms, "x"_a, "levels"_a, "z"_a,
             "X"_a, "end"_a.none() = nb::none())
        .def("half_solves", &GeneralisedProblem::half_solves, "x"_a, "levels"_a, "z"_a, "X"_a,
             "end"_a.none() = nb::none());
}

} // namespace ranef
