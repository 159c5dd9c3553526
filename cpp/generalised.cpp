// The Python face of generalised linear mixed models: a family, predictors and
// factors as arrays; their criterion, its search, and what is known at a point.
#include "generalised.hpp"

#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "arrays.hpp"
#include "laplace.hpp"
#include "penalty.hpp"
#include "quadrature.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

constexpr double modest = 0.3; // a standard deviation to start from

class GeneralisedProblem {
  public:
    GeneralisedProblem(const nb::object& family, Input<1> y, const nb::object& extra,
                       const nb::object& weights, const nb::list& predictors, int coefficients,
                       const nb::list& factors, const std::vector<int>& chain, int threads,
                       int nodes, const std::vector<int>& integrated, bool sparse_tail) {
        const size_t n = y.shape(0);
        const Family& f = nb::cast<const Family&>(family);
        keep_.push_back(family);
        std::vector<FactorInput> inputs;
        std::vector<std::vector<int>> owners;
        for (nb::handle item : factors) {
            const nb::dict d = nb::cast<nb::dict>(item);
            inputs.push_back(read_factor(d, n, keep_));
            owners.push_back(nb::cast<std::vector<int>>(d["owners"]));
            size_t columns = 0;
            for (const TermInput& t : inputs.back().terms) columns += t.size;
            if (owners.back().size() != columns)
                throw std::invalid_argument("each column of a factor has one predictor");
            for (int m : owners.back())
                if (m < 0 || m >= f.predictors())
                    throw std::invalid_argument("a predictor's number is out of range");
        }
        std::vector<PredictorInput> rows;
        for (nb::handle item : predictors)
            rows.push_back(read_predictor(nb::cast<nb::dict>(item), n, coefficients));
        if (rows.size() != static_cast<size_t>(f.predictors()))
            throw std::invalid_argument("the family has another number of predictors");
        const double* e = optional(extra, n);
        const double* w = optional(weights, n);
        nb::gil_scoped_release release;
        const auto pattern =
            assemble(n, inputs, FixedInput{}, nullptr, chain, threads, sparse_tail);
        predictors_ = std::make_unique<Predictors>(*pattern, owners, rows, coefficients, threads);
        laplace_ = std::make_unique<Laplace>(f, *predictors_, *pattern, y.data(), e, w, integrated);
        if (nodes > 1 && !integrated.empty())
            throw std::invalid_argument("quadrature integrates no coefficients");
        if (nodes > 1) quadrature_ = std::make_unique<Quadrature>(*laplace_, nodes);
    }

    int parameters() const { return laplace_->blocks().parameters; }
    int coefficients() const { return predictors_->coefficients(); }
    int order() const { return laplace_->blocks().order(); }
    nb::dict tail() const { return describe_tail(laplace_->blocks()); }

    Array basis(int factor, int term) const {
        const Term& t = laplace_->blocks().factors.at(factor).terms.at(term);
        const size_t r = t.structure->r;
        return to_array(t.basis, {r, r});
    }

    Array start(Input<1> beta) {
        check(beta.shape(0), predictors_->coefficients());
        Vector x;
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            x = laplace_->start(beta.data());
            keep_held(x);
            if (quadrature_) x = near_optimum(x);
        }
        return to_array(std::move(x));
    }

    nb::dict fit(Input<1> start, int max_evaluations, const nb::object& progress) {
        check(start.shape(0), laplace_->parameters());
        SearchOptions options;
        options.max_evaluations = max_evaluations;
        options.held = held_;
        Progress report_progress(progress);
        options.progress = [&](int count, double criterion, double decrement) {
            return report_progress(count, criterion, decrement);
        };
        Outcome out;
        const Vector from = admissible(Vector(start.data(), start.data() + start.shape(0)));
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            out = search(objective(), from, options);
        }
        report_progress.rethrow();
        nb::dict d = describe(out);
        report(d);
        return d;
    }

    // Adds priors from here on. terms: (factor, term, basis, sd, lkj) with sd a list of
    // priors, one a column; coefficients: (row, prior); a prior: (kind, location,
    // scale, shape).
    void penalise(const nb::list& terms, const nb::list& coefficients) {
        Penalty penalty;
        for (nb::handle item : terms) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            TermPrior prior;
            prior.factor = nb::cast<int>(t[0]);
            prior.term = nb::cast<int>(t[1]);
            const Structure& own =
                *laplace_->blocks().factors.at(prior.factor).terms.at(prior.term).structure;
            const auto basis = nb::cast<Input<2>>(t[2]);
            const size_t r = own.r;
            const nb::list sd = nb::cast<nb::list>(t[3]);
            if (basis.shape(0) != r || basis.shape(1) != r || nb::len(sd) != r)
                throw std::invalid_argument("the priors do not fit the term");
            prior.basis.assign(basis.data(), basis.data() + r * r);
            for (nb::handle one : sd) prior.sd.push_back(read_prior(nb::cast<nb::tuple>(one)));
            prior.lkj = nb::cast<double>(t[4]);
            penalty.terms.push_back(std::move(prior));
        }
        for (nb::handle item : coefficients) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            const auto row = nb::cast<Input<1>>(t[0]);
            check(row.shape(0), predictors_->coefficients());
            penalty.coefficients.push_back({Vector(row.data(), row.data() + row.shape(0)),
                                            read_prior(nb::cast<nb::tuple>(t[1]))});
        }
        Objective* base = laplace_.get();
        if (quadrature_) base = quadrature_.get();
        penalised_laplace_ = std::make_unique<Penalised>(*laplace_, penalty);
        penalised_ = std::make_unique<Penalised>(*base, std::move(penalty));
    }

    // Holds entries of the covariance parameters at these values in every search from
    // here on.
    void hold(const std::vector<int>& entries, Input<1> values) {
        check(values.shape(0), static_cast<int>(entries.size()));
        held_.assign(laplace_->parameters(), 0);
        kept_.assign(laplace_->parameters(), 0.0);
        for (size_t i = 0; i < entries.size(); ++i) {
            if (entries[i] < 0 || entries[i] >= parameters())
                throw std::invalid_argument("no such covariance parameter to hold");
            held_[entries[i]] = 1;
            kept_[entries[i]] = values.data()[i];
        }
    }

    // The penalty alone at x; zero without priors.
    double penalty(Input<1> x) const {
        check(x.shape(0), laplace_->parameters());
        return penalised_ ? penalised_->penalty(x.data()) : 0.0;
    }

    nb::dict state(Input<1> x, bool derivatives) {
        check(x.shape(0), laplace_->parameters());
        const size_t D = laplace_->parameters();
        Vector gradient(D), hessian(D * D);
        double value;
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            value = objective().evaluate(x.data());
            if (derivatives && value < std::numeric_limits<double>::infinity())
                objective().differentiate(gradient.data(), hessian.data());
        }
        nb::dict d;
        d["criterion"] = value;
        report(d);
        if (derivatives) {
            d["gradient"] = to_array(std::move(gradient));
            d["hessian"] = to_array(std::move(hessian), {D, D});
        }
        return d;
    }

    // Given Psi, at the point x: of one factor, the covariances of its modes.
    Array mode_covariances(Input<1> x, int factor, bool with_fixed) {
        check(x.shape(0), laplace_->parameters());
        const Factor& f = laplace_->blocks().factors.at(factor);
        const size_t q = f.q, r = f.r;
        Vector out(q * r * r);
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            settle(x.data());
            laplace_->mode_covariances(factor, with_fixed, out.data());
        }
        return to_array(std::move(out), {q, r, r});
    }

    // At the point x, by quadrature: of one factor, the means of its effects given the data,
    // (q, r), and the covariances of b_e, (q, r, r).
    std::pair<Array, Array> posterior(Input<1> x, int factor) {
        check(x.shape(0), laplace_->parameters());
        if (!quadrature_) throw std::invalid_argument("a posterior takes nodes of a quadrature");
        const Factor& f = laplace_->blocks().factors.at(factor);
        const size_t q = f.q, r = f.r;
        Vector mean, covariance, squares(q * r * r);
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!std::isfinite(quadrature_->evaluate(x.data())))
                throw std::domain_error("the likelihood is not finite at these parameters");
            quadrature_->posterior(factor, mean, covariance);
            for (size_t l = 0; l < q; ++l)
                std::copy_n(covariance.begin() + l * r * r, r * r,
                            squares.begin() + f.level_at[l] * r * r);
        }
        return {user_modes(f, mean), to_array(std::move(squares), {q, r, r})};
    }

    Array quadratic_forms(Input<1> x, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        check(x.shape(0), laplace_->parameters());
        const size_t rows = X.shape(0);
        if (X.shape(1) != static_cast<size_t>(coefficients()))
            throw std::invalid_argument("levels, z and X do not fit the model");
        const EffectRows given = read_effect_rows(laplace_->blocks().factors, rows, levels, z);
        Vector out(rows);
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            settle(x.data());
            laplace_->quadratic_forms(rows, given.levels, given.z, X.data(), out.data());
        }
        return to_array(std::move(out));
    }

    // Given Psi, at the point x: combinations of effects and coefficients, each as half
    // of a solve.
    nb::tuple half_solves(Input<1> x, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        check(x.shape(0), laplace_->parameters());
        const size_t rows = X.shape(0);
        if (X.shape(1) != static_cast<size_t>(coefficients()))
            throw std::invalid_argument("levels, z and X do not fit the model");
        const EffectRows given = read_effect_rows(laplace_->blocks().factors, rows, levels, z);
        HalfSolves found;
        size_t order = 0;
        {
            nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            settle(x.data());
            found = laplace_->half_solves(rows, given.levels, given.z, X.data());
            order = rows ? found.tail.size() / rows : 0;
        }
        return describe(std::move(found), rows, order);
    }

  private:
    static Prior read_prior(const nb::tuple& t) {
        const std::string kind = nb::cast<std::string>(t[0]);
        Prior prior;
        prior.location = nb::cast<double>(t[1]);
        prior.scale = nb::cast<double>(t[2]);
        prior.shape = nb::cast<double>(t[3]);
        prior.kind = kind == "normal"    ? Prior::Kind::normal
                     : kind == "student" ? Prior::Kind::student
                     : kind == "gamma"   ? Prior::Kind::gamma
                                         : Prior::Kind::none;
        return prior;
    }

    static void check(size_t given, int needed) {
        if (given != static_cast<size_t>(needed))
            throw std::invalid_argument("the parameters have the wrong length");
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

    const double* optional(const nb::object& values, size_t n) {
        if (values.is_none()) return nullptr;
        const auto array = nb::cast<Input<1>>(values);
        if (array.shape(0) != n) throw std::invalid_argument("one value per row is needed");
        keep_.push_back(nb::cast(array));
        return array.data();
    }

    PredictorInput read_predictor(const nb::dict& d, size_t n, int coefficients) {
        PredictorInput in;
        const auto X = nb::cast<Input<2>>(d["X"]);
        if (X.shape(0) != n) throw std::invalid_argument("X must have one row for each of y");
        in.X = X.data();
        in.columns = static_cast<int>(X.shape(1));
        in.coefficient = nb::cast<std::vector<int>>(d["coefficients"]);
        if (in.coefficient.size() != X.shape(1))
            throw std::invalid_argument("each column of X has one coefficient");
        for (int k : in.coefficient)
            if (k < 0 || k >= coefficients)
                throw std::invalid_argument("a coefficient's number is out of range");
        in.offset = optional(d["offset"], n);
        keep_.push_back(nb::cast(X));
        return in;
    }

    void report(nb::dict& d) const {
        const size_t p = predictors_->coefficients(), n = predictors_->rows();
        d["coefficients"] = to_array(laplace_->coefficients());
        d["fixed_covariance"] = to_array(laplace_->fixed_covariance(), {p, p});
        nb::list modes, psi, psi_gradient;
        for (size_t f = 0; f < laplace_->blocks().factors.size(); ++f) {
            const Factor& factor = laplace_->blocks().factors[f];
            const int k = static_cast<int>(f);
            const size_t r = factor.r;
            modes.append(user_modes(factor, laplace_->modes(k)));
            psi.append(to_array(laplace_->psi(k), {r, r}));
            psi_gradient.append(to_array(objective().gradient_psi(k), {r, r}));
        }
        d["modes"] = modes;
        d["psi"] = psi;
        d["psi_gradient"] = psi_gradient;
        const size_t M = predictors_->count();
        Vector eta;
        for (size_t m = 0; m < M; ++m) {
            const Vector one = laplace_->predictor(static_cast<int>(m));
            eta.insert(eta.end(), one.begin(), one.end());
        }
        d["predictors"] = to_array(std::move(eta), {M, n});
        d["inner"] = laplace_->counts().inner;
    }

    std::vector<nb::object> keep_;
    std::vector<char> held_; // parameters that a search leaves alone; empty: none
    Vector kept_;            // their values
    std::mutex mutex_;
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
            if (count < 1) throw std::invalid_argument("one node or more");
            Vector nodes, log_weights;
            hermite(count, nodes, log_weights);
            return std::make_pair(to_array(std::move(nodes)), to_array(std::move(log_weights)));
        },
        "count"_a);
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
        .def("fit", &GeneralisedProblem::fit, "start"_a, "max_evaluations"_a, "progress"_a.none())
        .def("penalise", &GeneralisedProblem::penalise, "terms"_a, "coefficients"_a)
        .def("hold", &GeneralisedProblem::hold, "entries"_a, "values"_a)
        .def("penalty", &GeneralisedProblem::penalty, "x"_a)
        .def("state", &GeneralisedProblem::state, "x"_a, "derivatives"_a)
        .def("mode_covariances", &GeneralisedProblem::mode_covariances, "x"_a, "factor"_a,
             "with_fixed"_a)
        .def("posterior", &GeneralisedProblem::posterior, "x"_a, "factor"_a)
        .def("quadratic_forms", &GeneralisedProblem::quadratic_forms, "x"_a, "levels"_a, "z"_a,
             "X"_a)
        .def("half_solves", &GeneralisedProblem::half_solves, "x"_a, "levels"_a, "z"_a, "X"_a);
}

} // namespace ranef
