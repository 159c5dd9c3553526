// The Python face of linear models: a problem, its search and the questions one can ask of it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

#include "arrays.hpp"
#include "blocks.hpp"
#include "criterion.hpp"
#include "evaluator.hpp"
#include "faces.hpp"
#include "generalised.hpp"
#include "least_squares.hpp"
#include "moments.hpp"
#include "moved_means.hpp"
#include "newton.hpp"
#include "profile.hpp"
#include "sparse_tail.hpp"
#include "starts.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

nb::dict describe_tail(const Blocks& blocks) {
    nb::dict d;
    const double N = blocks.order();
    d["kind"] = blocks.sparse ? "sparse" : "dense";
    d["columns"] = blocks.T;
    d["fill"] =
        blocks.sparse ? static_cast<double>(blocks.sparse->pattern.size()) : N * (N + 1) / 2;
    d["flops"] = blocks.sparse ? blocks.sparse->pattern.flops : N * N * N / 3;
    return d;
}

namespace {

constexpr double most_kept = 2e8; // bytes of an evaluator that stays with its problem

using Directions = std::vector<std::pair<int, Input<2>>>;

// A model's cross-products and the questions one can ask of them.
class Problem {
  public:
    Problem(const nb::list& factors, const nb::object& rows, Input<1> scale, Input<2> gram,
            const nb::object& weights, const std::vector<int>& chain, int threads, bool sparse_tail)
        : threads_(checked_threads(threads)) {
        size_t n = 0;
        const FixedRows X = read_fixed(rows, &n);
        const size_t p = X.p;
        need(n >= 1 && n <= most_rows, "X must have from 1 to 2^31 - 1 rows");
        need(scale.shape(0) == p && gram.shape(0) == p && gram.shape(1) == p,
             "X, its scale and its cross-products do not fit together");
        FixedInput fixed{X, X.p, Vector(scale.data(), scale.data() + p),
                         Vector(gram.data(), gram.data() + p * p)};
        gram_ = fixed.gram;
        std::vector<FactorInput> inputs;
        for (nb::handle item : factors)
            inputs.push_back(read_factor(member<nb::dict>(item, "a factor"), n, keep_));
        const double* w = optional(weights, n, "weights", keep_);
        unlocked([&] {
            need_finite(X.ptr ? X.value : X.dense, X.ptr ? X.ptr[n] : n * p, "X");
            need_finite(fixed.scale.data(), p, "the scale of X");
            need_finite(gram_.data(), p * p, "the cross-products of X");
            if (w) need_weights(w, n, false);
            check_design(n, inputs, fixed.p, chain);
            blocks_ = assemble(n, inputs, fixed, w, chain, threads_, sparse_tail);
        });
    }

    // Responses (k, n) freed of their least-squares fit: (rest, beta, scale, size).
    nb::tuple respond(Input<2> Y, const nb::object& offset) const {
        const size_t k = Y.shape(0), n = blocks_->n, p = blocks_->p;
        need(Y.shape(1) == n, "y must have one value per row");
        std::vector<nb::object> kept;
        const double* shift = optional(offset, n, "an offset", kept);
        Freed out;
        unlocked([&] {
            need_finite(Y.data(), k * n, "y");
            if (shift) need_finite(shift, n, "an offset");
            out =
                free_of_fixed(n, blocks_->X, blocks_->x_scale, gram_, k, Y.data(), shift, threads_);
        });
        return nb::make_tuple(to_array(std::move(out.rest), {k, n}),
                              to_array(std::move(out.beta), {k, p}), to_array(std::move(out.scale)),
                              to_array(std::move(out.size)));
    }

    int parameters() const { return blocks_->parameters; }
    nb::dict tail() const { return describe_tail(*blocks_); }

    // Where a search starts: parameters by moments of a response that X has left.
    Array moment_start(Input<1> y) const {
        check_response(y);
        Vector out;
        unlocked(
            [&] { out = ranef::moment_start(*blocks_, blocks_->respond(y.data(), threads_)); });
        return to_array(std::move(out));
    }

    Array start() const {
        Vector phi(blocks_->parameters);
        for (const Factor& f : blocks_->factors)
            for (const Term& t : f.terms) t.structure->start(phi.data() + t.offset);
        return to_array(phi);
    }

    Array basis(int factor, int term) const {
        const auto& terms = checked_factor(factor).terms;
        need_index(term, terms.size(), "a term");
        const size_t r = terms[term].structure->r;
        return to_array(terms[term].basis, {r, r});
    }

    // start None: by moments
    nb::dict fit(Input<1> y, bool reml, const nb::object& start, int max_evaluations,
                 const nb::object& progress) {
        check_response(y);
        need(max_evaluations >= 0, "the limit of evaluations must not be negative");
        Vector from;
        if (!start.is_none()) from = checked_phi(array<Input<1>>(start, "start"));
        SearchOptions options;
        options.max_evaluations = max_evaluations;
        Progress report_progress(progress);
        options.progress = [&](int count, double criterion, double decrement) {
            return report_progress(count, criterion, decrement);
        };
        // one contrast is as likely whatever the variances: a search would follow its rounding
        const bool constant = reml && blocks_->n == static_cast<size_t>(blocks_->p) + 1;
        if (constant) options.held.assign(blocks_->parameters, 1);
        Outcome out;
        std::unique_ptr<Evaluator> made;
        unlocked([&] {
            made = std::make_unique<Evaluator>(*blocks_, y.data(), reml, threads_);
            if (from.empty()) from = ranef::moment_start(*blocks_, made->response);
            out = search(made->criterion, from, options);
            if (constant) {
                out.free.assign(blocks_->parameters, 1);
                out.whole_range = true;
            }
            if (!out.stopped && !constant &&
                search_elsewhere({*blocks_, made->response, reml, threads_}, start.is_none(),
                                 options, out)) {
                Vector gradient(out.phi.size()), hessian(gradient.size() * gradient.size());
                made->criterion.evaluate(out.phi.data());
                made->criterion.differentiate(gradient.data(), hessian.data());
            }
        });
        const Criterion& criterion = made->criterion;
        report_progress.rethrow();
        nb::dict d = describe(out);
        if (!std::isfinite(out.criterion)) return d;
        // the search ends with derivatives taken at its optimum
        report(criterion, d);
        keep(std::move(made));
        return d;
    }

    // One search per column of Y, on own threads.
    nb::dict fit_many(Input<2> Y, bool reml, Input<1> start, int max_evaluations, int threads) {
        const size_t k = Y.shape(0), K = blocks_->parameters, p = blocks_->p;
        need(Y.shape(1) == blocks_->n, "y must have one value per row");
        need_finite(Y.data(), Y.size(), "y");
        need(max_evaluations >= 0, "the limit of evaluations must not be negative");
        const Vector from = checked_phi(start);
        Vector phi(k * K), beta(k * p), rss(k), criterion_values(k), evaluations(k), converged(k),
            ranks;
        size_t faces = 0;
        for (const Factor& f : blocks_->factors) faces += f.terms.size();
        ranks.assign(k * faces, -1.0);
        unlocked([&] {
            SearchOptions options;
            options.max_evaluations = max_evaluations;
            const size_t n = blocks_->n;
            std::unique_ptr<Profile> profile;
            if (Profile::possible(*blocks_))
                profile = std::make_unique<Profile>(*blocks_, reml, k > 1);
            const int workers = static_cast<int>(
                std::min<size_t>(checked_threads(threads), std::max<size_t>(k, 1)));
            for_chunks(workers, workers, [&](int t) {
                Criterion criterion(*blocks_, reml, 1);
                for (size_t i = t; i < k; i += workers) {
                    const Response response = blocks_->respond(Y.data() + i * n);
                    criterion.use(response);
                    Outcome out = search(criterion, from, options);
                    if (profile) search_valleys(criterion, *profile, response, options, out);
                    std::copy(out.phi.begin(), out.phi.end(), phi.begin() + i * K);
                    if (criterion.at_point(out.phi.data()) <
                        std::numeric_limits<double>::infinity()) {
                        criterion.solve();
                        std::copy(criterion.beta().begin(), criterion.beta().end(),
                                  beta.begin() + i * p);
                        rss[i] = criterion.rss();
                    } else {
                        std::fill_n(beta.begin() + i * p, p, std::nan(""));
                        rss[i] = std::nan("");
                    }
                    criterion_values[i] = out.criterion;
                    evaluations[i] = out.evaluations;
                    converged[i] = out.converged ? 1 : 0;
                    for (const TermFace& face : out.faces) ranks[i * faces + face.term] = face.rank;
                }
            });
        });
        nb::dict d;
        d["phi"] = to_array(phi, {k, K});
        d["beta"] = to_array(beta, {k, p});
        d["rss"] = to_array(rss);
        d["criterion"] = to_array(criterion_values);
        d["evaluations"] = to_array(evaluations);
        d["converged"] = to_array(converged);
        d["ranks"] = to_array(ranks, {k, faces});
        return d;
    }

    // Everything that is known at phi; with a known scale of sigma = 1.
    nb::dict state(Input<1> y, bool reml, Input<1> phi, bool derivatives, bool known_scale) {
        check_response(y);
        const Vector at = checked_phi(phi);
        const size_t K = blocks_->parameters;
        Vector gradient(K), hessian(K * K);
        double value = 0;
        std::unique_ptr<Criterion> made;
        unlocked([&] {
            const Response response = blocks_->respond(y.data(), threads_);
            made = std::make_unique<Criterion>(*blocks_, reml, threads_, known_scale);
            made->use(response);
            value = made->factorise(at.data());
            if (!(value < std::numeric_limits<double>::infinity())) return;
            if (derivatives)
                made->differentiate(gradient.data(), hessian.data());
            else
                made->score();
        });
        const Criterion& criterion = *made;
        nb::dict d;
        d["criterion"] = value;
        report(criterion, d);
        if (derivatives) {
            d["gradient"] = to_array(std::move(gradient));
            d["hessian"] = to_array(std::move(hessian), {K, K});
        }
        return d;
    }

    Array mode_covariances(Input<1> y, bool reml, Input<1> phi, int factor, bool with_fixed) {
        const Factor& f = checked_factor(factor);
        const size_t q = f.q, r = f.r;
        Vector out;
        ask(y, reml, phi, [&](Criterion& criterion) {
            out.resize(q * r * r);
            criterion.mode_covariances(factor, with_fixed, out.data());
        });
        return to_array(std::move(out), {q, r, r});
    }

    // Of all factors: (given beta, with beta's uncertainty) each.
    nb::list all_mode_covariances(Input<1> y, bool reml, Input<1> phi) {
        std::vector<Vector> given, error;
        ask(y, reml, phi,
            [&](Criterion& criterion) { criterion.all_mode_covariances(given, error); });
        nb::list out;
        for (size_t f = 0; f < given.size(); ++f) {
            const size_t q = blocks_->factors[f].q, r = blocks_->factors[f].r;
            out.append(nb::make_tuple(to_array(std::move(given[f]), {q, r, r}),
                                      to_array(std::move(error[f]), {q, r, r})));
        }
        return out;
    }

    // Modes by factor (k, q, r) and fixed effects (k, p) of other responses (k, n) at phi.
    nb::tuple modes_of(Input<1> y, bool reml, Input<1> phi, Input<2> Y) {
        const size_t k = Y.shape(0), n = blocks_->n, p = blocks_->p;
        need(Y.shape(1) == n, "Y must have one value per row");
        need_finite(Y.data(), Y.size(), "Y");
        std::vector<Vector> modes;
        for (const Factor& f : blocks_->factors) modes.emplace_back(k * f.q * f.r);
        Vector beta(k * p);
        ask(y, reml, phi, [&](Criterion& criterion) {
            each_solution(criterion, Y, [&](size_t i, const Solution& found) {
                std::copy(found.beta.begin(), found.beta.end(), beta.begin() + i * p);
                for (size_t f = 0; f < modes.size(); ++f) {
                    const Vector own = in_user_basis(blocks_->factors[f], found.modes[f]);
                    std::copy(own.begin(), own.end(), modes[f].begin() + i * own.size());
                }
            });
        });
        nb::list out;
        for (size_t f = 0; f < modes.size(); ++f) {
            const size_t q = blocks_->factors[f].q, r = blocks_->factors[f].r;
            out.append(to_array(std::move(modes[f]), {k, q, r}));
        }
        return nb::make_tuple(out, to_array(std::move(beta), {k, p}));
    }

    // d criterion / d Psi by factor (k, r, r) and the criteria (k) of responses (k, n) at phi: the
    // traces are the same for all of them.
    nb::tuple psi_gradients(Input<2> Y, bool reml, Input<1> phi) const {
        const size_t k = Y.shape(0), n = blocks_->n;
        need(k >= 1 && Y.shape(1) == n, "Y must have one value per row");
        need_finite(Y.data(), Y.size(), "Y");
        const Vector at = checked_phi(phi);
        std::vector<Vector> gradients;
        for (const Factor& f : blocks_->factors) gradients.emplace_back(k * f.r * f.r);
        Vector values(k);
        unlocked([&] {
            const Response first = blocks_->respond(Y.data(), threads_);
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(first);
            const double value = criterion.factorise(at.data());
            need_factor(criterion);
            const double m = criterion.degrees(), own = criterion.rss();
            const size_t K = at.size();
            Vector gradient(K), hessian(K * K);
            criterion.differentiate(gradient.data(), hessian.data());
            std::vector<Vector> traces;
            for (size_t f = 0; f < gradients.size(); ++f) {
                const int factor = static_cast<int>(f), r = blocks_->factors[f].r;
                traces.push_back(criterion.gradient_psi(factor));
                const Vector outer =
                    outer_sum(r, criterion.scores(factor), criterion.scores(factor));
                for (size_t e = 0; e < outer.size(); ++e) traces[f][e] += m / own * outer[e];
            }
            each_solution(criterion, Y, [&](size_t i, const Solution& found) {
                values[i] = found.rss > 0 ? value + m * std::log(found.rss / own)
                                          : std::numeric_limits<double>::infinity();
                for (size_t f = 0; f < gradients.size(); ++f) {
                    const Vector outer =
                        outer_sum(blocks_->factors[f].r, found.scores[f], found.scores[f]);
                    double* out = gradients[f].data() + i * outer.size();
                    for (size_t e = 0; e < outer.size(); ++e)
                        out[e] = traces[f][e] - m / found.rss * outer[e];
                }
            });
        });
        nb::list out;
        for (size_t f = 0; f < gradients.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            out.append(to_array(std::move(gradients[f]), {k, r, r}));
        }
        return nb::make_tuple(out, to_array(std::move(values)));
    }

    // Derivatives with respect to Psi, two lists by factor (rows, r, r): of quadratic_forms, and
    // of the combinations of the response's effects and coefficients.
    nb::tuple form_slopes(Input<1> y, bool reml, Input<1> phi, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        const EffectRows rows = read_effect_rows(blocks_->factors, blocks_->p, levels, z, X);
        Criterion::FormSlopes found;
        ask(y, reml, phi, [&](Criterion& criterion) {
            found = criterion.form_slopes(X.shape(0), rows.levels, rows.z, X.data());
        });
        nb::list forms, values;
        for (size_t f = 0; f < found.forms.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            forms.append(to_array(std::move(found.forms[f]), {X.shape(0), r, r}));
            values.append(to_array(std::move(found.values[f]), {X.shape(0), r, r}));
        }
        return nb::make_tuple(forms, values);
    }

    Array quadratic_forms(Input<1> y, bool reml, Input<1> phi, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        const EffectRows given = read_effect_rows(blocks_->factors, blocks_->p, levels, z, X);
        Vector out(X.shape(0));
        ask(y, reml, phi, [&](Criterion& criterion) {
            criterion.quadratic_forms(X.shape(0), given.levels, given.z, X.data(), out.data());
        });
        return to_array(std::move(out));
    }

    // Combinations of effects and coefficients, each as half of a solve.
    nb::tuple half_solves(Input<1> y, bool reml, Input<1> phi, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        const EffectRows given = read_effect_rows(blocks_->factors, blocks_->p, levels, z, X);
        HalfSolves found;
        ask(y, reml, phi, [&](Criterion& criterion) {
            found = criterion.half_solves(X.shape(0), given.levels, given.z, X.data());
        });
        return describe(std::move(found), X.shape(0), blocks_->order());
    }

    // Z'Py of one factor in the user's level order, (q, r), in the basis of b_e.
    Array scores(Input<1> y, bool reml, Input<1> phi, int factor) {
        const Factor& f = checked_factor(factor);
        const size_t q = f.q, r = f.r;
        Vector out(q * r);
        ask(y, reml, phi, [&](Criterion& criterion) {
            criterion.score();
            for (size_t l = 0; l < q; ++l)
                std::copy_n(criterion.scores(factor).begin() + l * r, r,
                            out.begin() + static_cast<size_t>(f.level_at[l]) * r);
        });
        return to_array(std::move(out), {q, r});
    }

    nb::list fixed_scores(Input<1> y, bool reml, Input<1> phi) {
        std::vector<Vector> sums;
        ask(y, reml, phi, [&](Criterion& criterion) { sums = criterion.fixed_scores(); });
        nb::list out;
        const size_t p = blocks_->p;
        for (size_t f = 0; f < sums.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            out.append(to_array(std::move(sums[f]), {r, r, p, p}));
        }
        return out;
    }

    // What second derivatives along symmetric matrices are made of: (factor, (r, r))
    // in the basis of b_e.
    nb::dict curvature(Input<1> y, bool reml, Input<1> phi, const Directions& directions,
                       bool of_fixed) {
        const std::vector<Direction> given = read_directions(directions);
        Curvature found;
        const size_t k = given.size(), p = blocks_->p, c = of_fixed ? p : 1;
        nb::dict d;
        double rss = 0, degrees = 0;
        Vector fixed_covariance;
        ask(y, reml, phi, [&](Criterion& criterion) {
            found = criterion.curvature(given, of_fixed);
            rss = criterion.rss();
            degrees = criterion.degrees();
            fixed_covariance = criterion.fixed_covariance();
        });
        nb::list gradient;
        for (size_t f = 0; f < blocks_->factors.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            gradient.append(to_array(std::move(found.gradient[f]), {r, r}));
        }
        d["psi_gradient"] = gradient;
        d["rss"] = rss;
        d["degrees"] = degrees;
        d["fixed_covariance"] = to_array(std::move(fixed_covariance), {p, p});
        d["traces"] = to_array(std::move(found.traces), {k, k});
        d["scores"] = to_array(std::move(found.scores));
        d["fixed"] = to_array(std::move(found.fixed), {k, p, p});
        d["products"] = to_array(std::move(found.products), {k, c, k, c});
        return d;
    }

    // How fitted values move along such directions: products (k, k), those with the response's own
    // residuals (k), and the sum of squares of these.
    nb::tuple moved_means(Input<1> y, bool reml, Input<1> phi, const Directions& directions) const {
        const std::vector<Direction> given = read_directions(directions);
        for (const Factor& f : blocks_->factors)
            need(!f.kernel, "fitted values of effects that a kernel relates are not asked");
        MovedMeans found;
        const size_t k = given.size();
        ask(y, reml, phi, [&](Criterion& criterion) {
            found = ranef::moved_means(criterion, y.data(), gram_, given, threads_);
        });
        return nb::make_tuple(to_array(std::move(found.products), {k, k}),
                              to_array(std::move(found.own)), found.square);
    }

  private:
    std::vector<Direction> read_directions(const Directions& directions) const {
        std::vector<Direction> out;
        for (const auto& [factor, matrix] : directions) {
            const size_t r = checked_factor(factor).r;
            need(matrix.shape(0) == r && matrix.shape(1) == r,
                 "a direction does not fit its factor");
            need_finite(matrix.data(), r * r, "a direction");
            out.push_back({factor, Vector(matrix.data(), matrix.data() + r * r)});
        }
        return out;
    }

    // X (n, p), or its compressed rows.
    FixedRows read_fixed(const nb::object& rows, size_t* n) {
        nb::tuple parts;
        if (nb::try_cast(rows, parts)) return read_compressed(parts, n, keep_);
        const auto X = array<Input<2>>(rows, "X");
        *n = X.shape(0);
        keep_.push_back(nb::cast(X));
        FixedRows out;
        out.p = static_cast<int>(X.shape(1));
        out.dense = X.data();
        return out;
    }

    // Roughly, of a criterion: three matrices, dense or on a pattern, and as much as the
    // blocks.
    double criterion_bytes() const {
        const double N = blocks_->order(), n = static_cast<double>(blocks_->n);
        const double tail = blocks_->sparse
                                ? 3.0 * static_cast<double>(blocks_->sparse->pattern.size())
                                : 3 * N * N;
        return 8 * (tail + n) + static_cast<double>(blocks_->bytes());
    }

    void check_response(const Input<1>& y) const {
        need(y.shape(0) == blocks_->n, "y must have one value per row");
        need_finite(y.data(), y.size(), "y");
    }

    Vector checked_phi(const Input<1>& phi) const {
        need(phi.shape(0) == static_cast<size_t>(blocks_->parameters),
             "phi has the wrong number of parameters");
        need_finite(phi.data(), phi.size(), "phi");
        return Vector(phi.data(), phi.data() + phi.size());
    }

    const Factor& checked_factor(int factor) const {
        need_index(factor, blocks_->factors.size(), "a factor");
        return blocks_->factors[factor];
    }

    static void need_factor(const Criterion& criterion) {
        if (!criterion.sound())
            throw std::domain_error("the likelihood is not finite at these parameters");
    }

    // What each of many responses has at the criterion's point, some at a time.
    template <class Use>
    void each_solution(Criterion& criterion, const Input<2>& Y, Use&& use) const {
        const size_t k = Y.shape(0), n = blocks_->n, many = criterion.solved_at_once();
        for (size_t first = 0; first < k; first += many) {
            std::vector<Response> rhs;
            for (size_t i = first; i < std::min(k, first + many); ++i)
                rhs.push_back(blocks_->respond(Y.data() + i * n, threads_));
            const std::vector<Solution> found = criterion.solutions(std::move(rhs));
            for (size_t i = 0; i < found.size(); ++i) use(first + i, found[i]);
        }
    }

    // Puts a question to the criterion of a response, factorised at phi.
    template <class Question>
    void ask(const Input<1>& y, bool reml, const Input<1>& phi, Question&& question) const {
        check_response(y);
        const Vector at = checked_phi(phi);
        unlocked([&] {
            auto evaluator = kept_.take(y.data(), reml);
            if (!evaluator)
                evaluator = std::make_unique<Evaluator>(*blocks_, y.data(), reml, threads_);
            evaluator->criterion.at_point(at.data());
            need_factor(evaluator->criterion);
            question(evaluator->criterion);
            keep(std::move(evaluator));
        });
    }

    void keep(std::unique_ptr<Evaluator> evaluator) const {
        if (criterion_bytes() <= most_kept) kept_.put(std::move(evaluator));
    }

    // What a criterion holds after differentiate() (or score(), but for G).
    void report(const Criterion& criterion, nb::dict& d) const {
        const size_t p = blocks_->p;
        d["rss"] = criterion.rss();
        d["degrees"] = criterion.degrees();
        d["beta"] = to_array(criterion.beta());
        d["fixed_covariance"] = to_array(criterion.fixed_covariance(), {p, p});
        nb::list modes, psi, psi_gradient;
        for (size_t f = 0; f < blocks_->factors.size(); ++f) {
            const Factor& factor = blocks_->factors[f];
            const int k = static_cast<int>(f);
            const size_t r = factor.r;
            modes.append(user_modes(factor, criterion.modes(k)));
            psi.append(to_array(criterion.psi(k), {r, r}));
            psi_gradient.append(to_array(criterion.gradient_psi(k), {r, r}));
        }
        d["modes"] = modes;
        d["psi"] = psi;
        d["psi_gradient"] = psi_gradient;
    }

    Vector gram_;
    std::vector<nb::object> keep_;
    std::unique_ptr<Blocks> blocks_;
    mutable KeptEvaluator kept_;
    int threads_;
};

} // namespace

void bind_linear(nb::module_& m) {
    nb::class_<Problem>(m, "Problem")
        .def(nb::init<const nb::list&, const nb::object&, Input<1>, Input<2>, const nb::object&,
                      const std::vector<int>&, int, bool>(),
             "factors"_a, "X"_a, "scale"_a, "gram"_a, "weights"_a.none(), "chain"_a, "threads"_a,
             "sparse_tail"_a = false)
        .def_prop_ro("parameters", &Problem::parameters)
        .def_prop_ro("tail", &Problem::tail)
        .def("respond", &Problem::respond, "Y"_a, "offset"_a.none())
        .def("start", &Problem::start)
        .def("moment_start", &Problem::moment_start, "y"_a)
        .def("basis", &Problem::basis, "factor"_a, "term"_a)
        .def("fit", &Problem::fit, "y"_a, "reml"_a, "start"_a.none(), "max_evaluations"_a,
             "progress"_a.none())
        .def("fit_many", &Problem::fit_many, "Y"_a, "reml"_a, "start"_a, "max_evaluations"_a,
             "threads"_a)
        .def("state", &Problem::state, "y"_a, "reml"_a, "phi"_a, "derivatives"_a,
             "known_scale"_a = false)
        .def("mode_covariances", &Problem::mode_covariances, "y"_a, "reml"_a, "phi"_a, "factor"_a,
             "with_fixed"_a)
        .def("all_mode_covariances", &Problem::all_mode_covariances, "y"_a, "reml"_a, "phi"_a)
        .def("modes_of", &Problem::modes_of, "y"_a, "reml"_a, "phi"_a, "Y"_a)
        .def("psi_gradients", &Problem::psi_gradients, "Y"_a, "reml"_a, "phi"_a)
        .def("form_slopes", &Problem::form_slopes, "y"_a, "reml"_a, "phi"_a, "levels"_a, "z"_a,
             "X"_a)
        .def("quadratic_forms", &Problem::quadratic_forms, "y"_a, "reml"_a, "phi"_a, "levels"_a,
             "z"_a, "X"_a)
        .def("half_solves", &Problem::half_solves, "y"_a, "reml"_a, "phi"_a, "levels"_a, "z"_a,
             "X"_a)
        .def("scores", &Problem::scores, "y"_a, "reml"_a, "phi"_a, "factor"_a)
        .def("fixed_scores", &Problem::fixed_scores, "y"_a, "reml"_a, "phi"_a)
        .def("curvature", &Problem::curvature, "y"_a, "reml"_a, "phi"_a, "directions"_a,
             "of_fixed"_a)
        .def("moved_means", &Problem::moved_means, "y"_a, "reml"_a, "phi"_a, "directions"_a);
}

} // namespace ranef
