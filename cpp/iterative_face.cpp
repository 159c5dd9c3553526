// The Python side of the iterative path.
#include "arrays.hpp"
#include "faces.hpp"
#include "iterative.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

constexpr int most_right_sides = 10000;
constexpr int most_steps = 100000;

class CrossedFace {
  public:
    // codes, levels and z (None for ones) of terms with one column a level, the largest first
    CrossedFace(const std::vector<Codes>& codes, const std::vector<int>& levels, const nb::list& z,
                const nb::object& weights, int threads) {
        need(codes.size() >= 2 && codes.size() == levels.size() && codes.size() == z.size(),
             "two terms or more, with one number of levels and one z each");
        const size_t n = codes[0].shape(0);
        need(n >= 1 && n <= most_rows, "there must be from 1 to 2^31 - 1 rows");
        std::vector<nb::object> keep;
        std::vector<CrossedTerm> terms;
        double columns = 0;
        for (size_t t = 0; t < codes.size(); ++t) {
            need(codes[t].shape(0) == n, "codes differ in length");
            need(levels[t] >= 1, "a term must have a level");
            columns += levels[t];
            CrossedTerm term;
            term.codes.assign(codes[t].data(), codes[t].data() + n);
            for (int32_t code : term.codes)
                need(code >= 0 && code < levels[t], "a level code is out of range");
            term.q = levels[t];
            term.z = optional(z[t], n, "z", keep);
            if (term.z) need_finite(term.z, n, "z");
            terms.push_back(std::move(term));
        }
        need(columns <= 2e9, "there are too many levels");
        const double* w = optional(weights, n, "weights", keep);
        if (w) need_weights(w, n, false);
        unlocked([&] {
            system_ =
                std::make_unique<CrossedSystem>(n, std::move(terms), w, checked_threads(threads));
        });
    }

    int columns() const { return system_->columns(); }
    double bytes() const { return static_cast<double>(system_->bytes()); }

    Array times(Input<2> X) const {
        Vector out(X.size());
        check_rows(X, system_->columns());
        unlocked([&] { system_->times(static_cast<int>(X.shape(1)), X.data(), out.data()); });
        return to_array(std::move(out), {X.shape(0), X.shape(1)});
    }

    // Omega^-1 B: (solution, steps, largest relative residual)
    nb::tuple solve(Input<1> theta, Input<2> B, double tolerance, int most) const {
        check_rows(B, system_->columns());
        const Vector at = checked(theta, tolerance, most);
        Vector X(B.data(), B.data() + B.size());
        Gradients found;
        unlocked([&] {
            found = system_->solve(at, static_cast<int>(B.shape(1)), X.data(), tolerance, most);
        });
        double largest = 0;
        for (double r : found.residual) largest = std::max(largest, r);
        return nb::make_tuple(to_array(std::move(X), {B.shape(0), B.shape(1)}), found.steps,
                              largest);
    }

    // (log|D| + log|P|, traces (k, terms), alpha (k, steps), beta (k, steps), steps taken)
    nb::tuple probes(Input<1> theta, Input<2> Z, double tolerance, int most) const {
        check_rows(Z, system_->tail());
        const Vector at = checked(theta, tolerance, most);
        const size_t k = Z.shape(1), F = system_->terms();
        ProbeSums found;
        unlocked(
            [&] { found = system_->probes(at, static_cast<int>(k), Z.data(), tolerance, most); });
        const size_t steps = found.gradients.steps;
        return nb::make_tuple(found.log_diagonal, to_array(std::move(found.traces), {k, F}),
                              to_array(std::move(found.gradients.alpha), {k, steps}),
                              to_array(std::move(found.gradients.beta), {k, steps}),
                              found.gradients.taken);
    }

  private:
    static void check_rows(const Input<2>& X, int rows) {
        need(X.shape(0) == static_cast<size_t>(rows), "one row a column of the system");
        need(X.shape(1) <= most_right_sides, "there are too many right-hand sides");
        need_finite(X.data(), X.size(), "right-hand sides");
    }
    Vector checked(const Input<1>& theta, double tolerance, int most) const {
        need(theta.shape(0) == static_cast<size_t>(system_->terms()), "one theta a term");
        need_finite(theta.data(), theta.size(), "theta");
        need(tolerance > 0 && tolerance < 1, "the tolerance must lie between 0 and 1");
        need(most >= 1 && most <= most_steps, "the number of steps is out of range");
        return Vector(theta.data(), theta.data() + theta.size());
    }

    std::unique_ptr<CrossedSystem> system_;
};

} // namespace

void bind_iterative(nb::module_& m) {
    nb::class_<CrossedFace>(m, "CrossedSystem")
        .def(nb::init<const std::vector<Codes>&, const std::vector<int>&, const nb::list&,
                      const nb::object&, int>(),
             "codes"_a, "levels"_a, "z"_a, "weights"_a.none(), "threads"_a)
        .def_prop_ro("columns", &CrossedFace::columns)
        .def_prop_ro("bytes", &CrossedFace::bytes)
        .def("times", &CrossedFace::times, "X"_a)
        .def("solve", &CrossedFace::solve, "theta"_a, "B"_a, "tolerance"_a, "most"_a)
        .def("probes", &CrossedFace::probes, "theta"_a, "Z"_a, "tolerance"_a, "most"_a);
}

} // namespace ranef
