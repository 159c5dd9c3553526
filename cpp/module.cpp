// The Python face of the core: arrays in, arrays out; no names, no policy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <mutex>
#include <stdexcept>

#include "arrays.hpp"
#include "blocks.hpp"
#include "criterion.hpp"
#include "dense.hpp"
#include "families/binding.hpp"
#include "generalised.hpp"
#include "least_squares.hpp"
#include "moments.hpp"
#include "newton.hpp"
#include "sparse_tail.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

// A BLAS or LAPACK routine from SciPy's capsule, whose name is its C signature:
// `d` is the double type of the module that exports it. Anything else (64-bit
// integers, say) is refused.
void* routine(const nb::dict& table, const char* name, const std::string& pattern,
              const std::string& d) {
    PyObject* capsule = PyDict_GetItemString(table.ptr(), name);
    if (!capsule || !PyCapsule_CheckExact(capsule))
        throw std::invalid_argument(std::string("SciPy exports no routine ") + name);
    const char* signature = PyCapsule_GetName(capsule);
    std::string expected = pattern;
    for (size_t k; (k = expected.find('@')) != std::string::npos;) expected.replace(k, 1, d);
    if (!signature || expected != signature)
        throw std::invalid_argument(std::string("SciPy's ") + name + " has the signature '" +
                                    (signature ? signature : "") + "', not '" + expected + "'");
    return PyCapsule_GetPointer(capsule, signature);
}

void set_lapack(const nb::dict& blas, const nb::dict& lapack_table) {
    const std::string db = "__pyx_t_5scipy_6linalg_11cython_blas_d";
    const std::string dl = "__pyx_t_5scipy_6linalg_13cython_lapack_d";
    Lapack table;
    const std::string factor = "void (char *, int *, @ *, int *, int *)";
    const std::string triangle =
        "void (char *, char *, char *, char *, int *, int *, @ *, @ *, int *, @ *, int *)";
    const std::string symmetric =
        "void (char *, char *, int *, int *, @ *, @ *, int *, @ *, int *, @ *, @ *, int *)";
    table.potrf = reinterpret_cast<Lapack::potrf_t>(routine(lapack_table, "dpotrf", factor, dl));
    table.potri = reinterpret_cast<Lapack::potri_t>(routine(lapack_table, "dpotri", factor, dl));
    table.trsm = reinterpret_cast<Lapack::trsm_t>(routine(blas, "dtrsm", triangle, db));
    table.trmm = reinterpret_cast<Lapack::trmm_t>(routine(blas, "dtrmm", triangle, db));
    table.syrk = reinterpret_cast<Lapack::syrk_t>(
        routine(blas, "dsyrk",
                "void (char *, char *, int *, int *, @ *, @ *, int *, @ *, @ *, int *)", db));
    table.gemm = reinterpret_cast<Lapack::gemm_t>(
        routine(blas, "dgemm",
                "void (char *, char *, int *, int *, int *, @ *, @ *, int *, @ *, int *, @ *, @ *, "
                "int *)",
                db));
    table.symm = reinterpret_cast<Lapack::symm_t>(routine(blas, "dsymm", symmetric, db));
    lapack() = table;
}

} // namespace

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

void check_codes(const Codes& codes, int levels) {
    for (size_t i = 0; i < codes.size(); ++i)
        if (codes.data()[i] < 0 || codes.data()[i] >= levels)
            throw std::invalid_argument("a code is out of range");
}

// A response with the criterion that was differentiated with it.
struct Differentiated {
    Differentiated(const Blocks& blocks, const double* y, bool reml, int threads)
        : values(y, y + blocks.n), response(blocks.respond(y, threads)), reml(reml),
          criterion(blocks, reml, threads) {
        criterion.use(response);
    }
    Vector values;
    Response response;
    bool reml;
    Criterion criterion;
};

// The end of the search that was made last, of whichever problem, for whoever asks for
// second derivatives there: one at most, so that memory does not grow with the fits.
class LastSearch {
  public:
    static LastSearch& instance() {
        // never destroyed, since problems that outlive the module ask for it
        static LastSearch& last = *new LastSearch;
        return last;
    }
    void put(const void* problem, std::unique_ptr<Differentiated> found) {
        const std::lock_guard<std::mutex> guard(mutex_);
        problem_ = problem;
        found_.swap(found);
    }
    // Empty where it is another's, or was made elsewhere.
    std::unique_ptr<Differentiated> take(const void* problem, const Input<1>& y, bool reml,
                                         const Vector& phi) {
        const std::lock_guard<std::mutex> guard(mutex_);
        if (!found_ || problem_ != problem || found_->reml != reml ||
            !found_->criterion.ready_at(phi) ||
            !std::equal(found_->values.begin(), found_->values.end(), y.data()))
            return nullptr;
        return std::move(found_);
    }
    void forget(const void* problem) {
        const std::lock_guard<std::mutex> guard(mutex_);
        if (problem_ == problem) found_.reset();
    }

  private:
    std::mutex mutex_;
    const void* problem_ = nullptr;
    std::unique_ptr<Differentiated> found_;
};

constexpr double most_kept = 5e7; // bytes, of what LastSearch holds

// A model's cross-products and the questions one can ask of them.
class Problem {
  public:
    Problem(const nb::list& factors, Input<2> X, Input<1> scale, Input<2> gram,
            const nb::object& weights, const std::vector<int>& chain, int threads, bool sparse_tail)
        : X_(X), threads_(threads) {
        const size_t n = X.shape(0), p = X.shape(1);
        if (scale.shape(0) != p || gram.shape(0) != p || gram.shape(1) != p)
            throw std::invalid_argument("X, its scale and its cross-products do not fit together");
        FixedInput fixed{X.data(), static_cast<int>(p), Vector(scale.data(), scale.data() + p),
                         Vector(gram.data(), gram.data() + p * p)};
        gram_ = fixed.gram;
        std::vector<FactorInput> inputs;
        for (nb::handle item : factors) {
            inputs.push_back(read_factor(nb::cast<nb::dict>(item), n, keep_));
        }
        const double* w = nullptr;
        if (!weights.is_none()) {
            const auto array = nb::cast<Input<1>>(weights);
            if (array.shape(0) != n) throw std::invalid_argument("one weight per row is needed");
            w = array.data();
            keep_.push_back(nb::cast(array));
        }
        nb::gil_scoped_release release;
        blocks_ = assemble(n, inputs, fixed, w, chain, threads, sparse_tail);
    }

    ~Problem() { LastSearch::instance().forget(this); }
    Problem(const Problem&) = delete;
    Problem& operator=(const Problem&) = delete;

    // Responses (k, n) freed of their least-squares fit: (rest, beta, scale, size).
    nb::tuple respond(Input<2> Y, const nb::object& offset) const {
        const size_t k = Y.shape(0), n = blocks_->n, p = blocks_->p;
        const double* shift = nullptr;
        Input<1> given;
        if (!offset.is_none()) {
            given = nb::cast<Input<1>>(offset);
            shift = given.data();
        }
        if (Y.shape(1) != n || (shift && given.shape(0) != n))
            throw std::invalid_argument("y and offset must have one value per row");
        Freed out;
        {
            nb::gil_scoped_release release;
            out = free_of_fixed(n, blocks_->p, blocks_->X, blocks_->x_scale, gram_, k, Y.data(),
                                shift, threads_);
        }
        return nb::make_tuple(to_array(std::move(out.rest), {k, n}),
                              to_array(std::move(out.beta), {k, p}), to_array(std::move(out.scale)),
                              to_array(std::move(out.size)));
    }

    int parameters() const { return blocks_->parameters; }
    nb::dict tail() const { return describe_tail(*blocks_); }

    // Where a search starts: parameters by moments of a response that X has left.
    Array moment_start(Input<1> y) const {
        check(y.shape(0), blocks_->parameters);
        return to_array(ranef::moment_start(*blocks_, blocks_->respond(y.data(), threads_)));
    }

    Array start() const {
        Vector phi(blocks_->parameters);
        for (const Factor& f : blocks_->factors)
            for (const Term& t : f.terms) t.structure->start(phi.data() + t.offset);
        return to_array(phi);
    }

    Array basis(int factor, int term) const {
        const Term& t = blocks_->factors.at(factor).terms.at(term);
        const size_t r = t.structure->r;
        return to_array(t.basis, {r, r});
    }

    // start None: by moments
    nb::dict fit(Input<1> y, bool reml, const nb::object& start, int max_evaluations,
                 const nb::object& progress) {
        check(y.shape(0), blocks_->parameters);
        Vector from;
        if (!start.is_none()) {
            const auto given = nb::cast<Input<1>>(start);
            check(y.shape(0), given.shape(0));
            from.assign(given.data(), given.data() + given.size());
        }
        SearchOptions options;
        options.max_evaluations = max_evaluations;
        Progress report_progress(progress);
        options.progress = [&](int count, double criterion, double decrement) {
            return report_progress(count, criterion, decrement);
        };
        Outcome out;
        auto made = std::make_unique<Differentiated>(*blocks_, y.data(), reml, threads_);
        Criterion& criterion = made->criterion;
        {
            nb::gil_scoped_release release;
            if (from.empty()) from = ranef::moment_start(*blocks_, made->response);
            out = search(criterion, from, options);
        }
        report_progress.rethrow();
        nb::dict d = describe(out);
        // the search ends with derivatives taken at its optimum
        if (!out.gradient.empty()) report(criterion, d);
        if (criterion.ready_at(out.phi) && criterion_bytes() <= most_kept)
            LastSearch::instance().put(this, std::move(made));
        return d;
    }

    // One search per column of Y, on own threads.
    nb::dict fit_many(Input<2> Y, bool reml, Input<1> start, int max_evaluations, int threads) {
        const size_t k = Y.shape(0), K = blocks_->parameters, p = blocks_->p;
        check(Y.shape(1), start.shape(0));
        Vector phi(k * K), beta(k * p), rss(k), criterion_values(k), evaluations(k), converged(k),
            ranks;
        const Vector from(start.data(), start.data() + start.size());
        size_t faces = 0;
        for (const Factor& f : blocks_->factors) faces += f.terms.size();
        ranks.assign(k * faces, -1.0);
        {
            nb::gil_scoped_release release;
            SearchOptions options;
            options.max_evaluations = max_evaluations;
            const size_t n = blocks_->n;
            const int workers = std::max(1, std::min<int>(threads, static_cast<int>(k)));
            for_chunks(workers, workers, [&](int t) {
                Criterion criterion(*blocks_, reml, 1);
                for (size_t i = t; i < k; i += workers) {
                    const Response response = blocks_->respond(Y.data() + i * n);
                    criterion.use(response);
                    const Outcome out = search(criterion, from, options);
                    std::copy(out.phi.begin(), out.phi.end(), phi.begin() + i * K);
                    if (criterion.factorise(out.phi.data()) <
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
        }
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
        check(y.shape(0), phi.shape(0));
        const size_t K = blocks_->parameters;
        Vector gradient(K), hessian(K * K);
        double value = 0;
        const Response response = blocks_->respond(y.data(), threads_);
        Criterion criterion(*blocks_, reml, threads_, known_scale);
        criterion.use(response);
        {
            nb::gil_scoped_release release;
            value = criterion.factorise(phi.data());
            if (value < std::numeric_limits<double>::infinity()) {
                if (derivatives)
                    criterion.differentiate(gradient.data(), hessian.data());
                else
                    criterion.score();
            }
        }
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
        check(y.shape(0), phi.shape(0));
        const Factor& f = blocks_->factors.at(factor);
        const size_t q = f.q, r = f.r;
        Vector out(q * r * r);
        const Response response = blocks_->respond(y.data(), threads_);
        {
            nb::gil_scoped_release release;
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(response);
            criterion.factorise(phi.data());
            criterion.mode_covariances(factor, with_fixed, out.data());
        }
        return to_array(std::move(out), {q, r, r});
    }

    Array quadratic_forms(Input<1> y, bool reml, Input<1> phi, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        check(y.shape(0), phi.shape(0));
        const size_t rows = X.shape(0);
        if (X.shape(1) != static_cast<size_t>(blocks_->p))
            throw std::invalid_argument("levels, z and X do not fit the model");
        const EffectRows given = read_effect_rows(blocks_->factors, rows, levels, z);
        Vector out(rows);
        const Response response = blocks_->respond(y.data(), threads_);
        {
            nb::gil_scoped_release release;
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(response);
            criterion.factorise(phi.data());
            criterion.quadratic_forms(rows, given.levels, given.z, X.data(), out.data());
        }
        return to_array(std::move(out));
    }

    // Combinations of effects and coefficients, each as half of a solve.
    nb::tuple half_solves(Input<1> y, bool reml, Input<1> phi, const std::vector<Codes>& levels,
                          const std::vector<Input<2>>& z, Input<2> X) {
        check(y.shape(0), phi.shape(0));
        const size_t rows = X.shape(0);
        if (X.shape(1) != static_cast<size_t>(blocks_->p))
            throw std::invalid_argument("levels, z and X do not fit the model");
        const EffectRows given = read_effect_rows(blocks_->factors, rows, levels, z);
        const Response response = blocks_->respond(y.data(), threads_);
        HalfSolves found;
        {
            nb::gil_scoped_release release;
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(response);
            criterion.factorise(phi.data());
            found = criterion.half_solves(rows, given.levels, given.z, X.data());
        }
        return describe(std::move(found), rows, blocks_->order());
    }

    // Z'Py of one factor in the user's level order, (q, r), in the basis of b_e.
    Array scores(Input<1> y, bool reml, Input<1> phi, int factor) {
        check(y.shape(0), phi.shape(0));
        const Factor& f = blocks_->factors.at(factor);
        const size_t q = f.q, r = f.r;
        Vector out(q * r);
        const Response response = blocks_->respond(y.data(), threads_);
        {
            nb::gil_scoped_release release;
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(response);
            criterion.factorise(phi.data());
            criterion.score();
            for (size_t l = 0; l < q; ++l)
                std::copy_n(criterion.scores(factor).begin() + l * r, r,
                            out.begin() + static_cast<size_t>(f.level_at[l]) * r);
        }
        return to_array(std::move(out), {q, r});
    }

    nb::list fixed_scores(Input<1> y, bool reml, Input<1> phi) {
        check(y.shape(0), phi.shape(0));
        std::vector<Vector> sums;
        const Response response = blocks_->respond(y.data(), threads_);
        {
            nb::gil_scoped_release release;
            Criterion criterion(*blocks_, reml, threads_);
            criterion.use(response);
            criterion.factorise(phi.data());
            sums = criterion.fixed_scores();
        }
        nb::list out;
        const size_t p = blocks_->p;
        for (size_t f = 0; f < sums.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            out.append(to_array(std::move(sums[f]), {r, r, p, p}));
        }
        return out;
    }

    // What second derivatives along symmetric matrices are made of: (factor, (r, r))
    // in the basis of b_e. Where a search has just ended there, its last factorisation
    // is used, and freed.
    nb::dict curvature(Input<1> y, bool reml, Input<1> phi,
                       const std::vector<std::pair<int, Input<2>>>& directions, bool of_fixed) {
        check(y.shape(0), phi.shape(0));
        std::vector<Direction> given;
        for (const auto& [factor, matrix] : directions) {
            const size_t r = blocks_->factors.at(factor).r;
            if (matrix.shape(0) != r || matrix.shape(1) != r)
                throw std::invalid_argument("a direction does not fit its factor");
            given.push_back({factor, Vector(matrix.data(), matrix.data() + r * r)});
        }
        Curvature found;
        auto made =
            LastSearch::instance().take(this, y, reml, Vector(phi.data(), phi.data() + phi.size()));
        const bool known = made != nullptr;
        if (!known) made = std::make_unique<Differentiated>(*blocks_, y.data(), reml, threads_);
        Criterion& criterion = made->criterion;
        {
            nb::gil_scoped_release release;
            if (!known) criterion.factorise(phi.data());
            found = criterion.curvature(given, of_fixed);
        }
        const size_t k = given.size(), p = blocks_->p, c = of_fixed ? p : 1;
        nb::dict d;
        nb::list gradient;
        for (size_t f = 0; f < blocks_->factors.size(); ++f) {
            const size_t r = blocks_->factors[f].r;
            gradient.append(to_array(std::move(found.gradient[f]), {r, r}));
        }
        d["psi_gradient"] = gradient;
        d["rss"] = criterion.rss();
        d["degrees"] = criterion.degrees();
        d["fixed_covariance"] = to_array(criterion.fixed_covariance(), {p, p});
        d["traces"] = to_array(std::move(found.traces), {k, k});
        d["scores"] = to_array(std::move(found.scores));
        d["fixed"] = to_array(std::move(found.fixed), {k, p, p});
        d["products"] = to_array(std::move(found.products), {k, c, k, c});
        return d;
    }

  private:
    // Roughly, of a criterion: two dense matrices, and as much as the blocks.
    double criterion_bytes() const {
        const double N = blocks_->order(), n = static_cast<double>(blocks_->n);
        return 8 * (2 * N * N + n) + static_cast<double>(blocks_->bytes());
    }

    void check(size_t rows, size_t parameters) const {
        if (rows != blocks_->n) throw std::invalid_argument("y must have one value per row");
        if (parameters != static_cast<size_t>(blocks_->parameters))
            throw std::invalid_argument("phi has the wrong number of parameters");
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

    Input<2> X_;
    Vector gram_;
    std::vector<nb::object> keep_;
    std::unique_ptr<Blocks> blocks_;
    int threads_;
};

// A covariance structure on its own, for tests and conversions.
class StructureFace {
  public:
    StructureFace(const std::string& kind, int r, int rank, const nb::object& positions) {
        Vector values;
        int dimensions = 0;
        if (!positions.is_none()) {
            const auto array = nb::cast<Input<2>>(positions);
            dimensions = static_cast<int>(array.shape(1));
            values.assign(array.data(), array.data() + array.size());
        }
        structure_ = make_structure(kind, r, rank, values, dimensions);
    }
    int parameters() const { return structure_->parameters(); }
    Array factor(Input<1> phi) const {
        return square([&](double* out) { structure_->factor(checked(phi), out); });
    }
    Array derivative(Input<1> phi, int i) const {
        index(i);
        return square([&](double* out) { structure_->derivative(checked(phi), i, out); });
    }
    Array second(Input<1> phi, int i, int j) const {
        index(i);
        index(j);
        return square([&](double* out) {
            if (!structure_->second(checked(phi), i, j, out)) {
                const size_t r = structure_->r;
                std::fill(out, out + r * r, 0.0);
            }
        });
    }
    Array start() const {
        Vector phi(structure_->parameters());
        structure_->start(phi.data());
        return to_array(phi);
    }
    Array rescale(double s, Input<1> phi) const {
        const double* from = checked(phi);
        Vector out(from, from + structure_->parameters());
        structure_->rescale(s, out.data());
        return to_array(out);
    }

  private:
    template <class Fill>
    Array square(Fill&& fill) const {
        const size_t r = structure_->r;
        Vector out(r * r, 0.0);
        fill(out.data());
        return to_array(std::move(out), {r, r});
    }
    const double* checked(const Input<1>& phi) const {
        if (phi.shape(0) != static_cast<size_t>(structure_->parameters()))
            throw std::invalid_argument("phi has the wrong number of parameters");
        return phi.data();
    }
    void index(int i) const {
        if (i < 0 || i >= structure_->parameters())
            throw std::invalid_argument("no such parameter");
    }
    std::unique_ptr<Structure> structure_;
};

} // namespace

} // namespace ranef

NB_MODULE(_core, m) {
    using namespace ranef;
    // a fit that is alive when Python ends is no leak worth a message
    nb::set_leak_warnings(false);
    m.doc() = "Compiled kernels: cross-products in blocks, criterion, search.";
    m.def("set_lapack", &set_lapack, "blas"_a, "lapack"_a);
    m.def("has_lapack", [] { return lapack().potrf != nullptr; });
    m.attr("small_order") = small_order;
    m.def(
        "count_pairs",
        [](Codes f, int qf, Codes g, int qg, int64_t limit) {
            if (f.shape(0) != g.shape(0)) throw std::invalid_argument("codes differ in length");
            nb::gil_scoped_release release;
            return count_pairs(f.shape(0), f.data(), qf, g.data(), qg, limit);
        },
        "f"_a, "f_levels"_a, "g"_a, "g_levels"_a, "limit"_a);
    m.def(
        "sparse_cost",
        [](Codes leader, int q, const std::vector<Codes>& codes, const std::vector<int>& levels,
           const std::vector<int>& sizes) {
            const size_t n = leader.shape(0);
            if (codes.size() != levels.size() || codes.size() != sizes.size())
                throw std::invalid_argument("one number of levels and columns a factor");
            check_codes(leader, q);
            std::vector<const int32_t*> given;
            for (size_t f = 0; f < codes.size(); ++f) {
                if (codes[f].shape(0) != n) throw std::invalid_argument("codes differ in length");
                if (sizes[f] < 1) throw std::invalid_argument("a factor has at least one column");
                check_codes(codes[f], levels[f]);
                given.push_back(codes[f].data());
            }
            SparseCost cost;
            {
                nb::gil_scoped_release release;
                cost = sparse_cost(n, leader.data(), q, given, levels, sizes);
            }
            return nb::make_tuple(cost.fill, cost.flops, cost.pairs);
        },
        "leader"_a, "leader_levels"_a, "codes"_a, "levels"_a, "sizes"_a);
    m.def(
        "trapezoid",
        [](Input<2> psi, int rank) {
            const int r = static_cast<int>(psi.shape(0));
            Vector phi(static_cast<size_t>(r) * (r + 1) / 2);
            trapezoid(r, rank, Vector(psi.data(), psi.data() + psi.size()), phi.data());
            return to_array(phi);
        },
        "psi"_a, "rank"_a);
    nb::class_<Problem>(m, "Problem")
        .def(nb::init<const nb::list&, Input<2>, Input<1>, Input<2>, const nb::object&,
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
        .def("quadratic_forms", &Problem::quadratic_forms, "y"_a, "reml"_a, "phi"_a, "levels"_a,
             "z"_a, "X"_a)
        .def("half_solves", &Problem::half_solves, "y"_a, "reml"_a, "phi"_a, "levels"_a, "z"_a,
             "X"_a)
        .def("scores", &Problem::scores, "y"_a, "reml"_a, "phi"_a, "factor"_a)
        .def("fixed_scores", &Problem::fixed_scores, "y"_a, "reml"_a, "phi"_a)
        .def("curvature", &Problem::curvature, "y"_a, "reml"_a, "phi"_a, "directions"_a,
             "of_fixed"_a);
    nb::class_<StructureFace>(m, "Structure")
        .def(nb::init<const std::string&, int, int, const nb::object&>(), "kind"_a, "size"_a,
             "rank"_a = 0, "positions"_a.none() = nb::none())
        .def("parameters", &StructureFace::parameters)
        .def("factor", &StructureFace::factor, "phi"_a)
        .def("derivative", &StructureFace::derivative, "phi"_a, "i"_a)
        .def("second", &StructureFace::second, "phi"_a, "i"_a, "j"_a)
        .def("start", &StructureFace::start)
        .def("rescale", &StructureFace::rescale, "s"_a, "phi"_a);
    bind_families(m);
    bind_generalised(m);
}
