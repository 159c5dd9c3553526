// The Python face of the families: a family by name, its derivatives as an array.
#include "families/binding.hpp"

#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <stdexcept>

#include "arrays.hpp"
#include "families/factory.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

struct Question {
    Rows rows;
    int order;
    std::vector<int> active;
    std::vector<const double*> eta;
};

void check(const Family& family, const Question& q, size_t predictors) {
    const std::string count = std::to_string(family.predictors());
    need(predictors == static_cast<size_t>(family.predictors()),
         "eta has " + std::to_string(predictors) + " rows, not " + count);
    need(q.order >= 0 && q.order <= 3, "order is 0, 1, 2 or 3");
    int before = -1;
    for (int a : q.active) {
        need(a > before && a < family.predictors(),
             "active predictors are ascending, below " + count);
        before = a;
    }
}

// (derivatives, n)
Array evaluate(const Family& family, const Question& q, int threads) {
    const size_t n = q.rows.n;
    const int count = Derivatives{static_cast<int>(q.active.size())}.count(q.order);
    Vector values(count * n);
    std::vector<double*> out(count);
    for (int c = 0; c < count; ++c) out[c] = values.data() + c * n;
    unlocked([&] {
        constexpr size_t least_chunks = 16, most_rows_of_chunk = 1000;
        const int chunks = static_cast<int>(std::max(least_chunks, n / most_rows_of_chunk));
        const auto bounds = partition(n, chunks);
        for_chunks(chunks, threads, [&](int c) {
            family.evaluate(q.rows, q.order, q.active, q.eta.data(), bounds[c], bounds[c + 1],
                            out.data());
        });
    });
    return to_array(std::move(values), {static_cast<size_t>(count), n});
}

Array evaluate_arrays(const Family& family, Input<1> y, const nb::object& extra, Input<2> eta,
                      int order, const std::vector<int>& active, int threads) {
    const size_t n = y.shape(0);
    Input<1> more; // kept alive here
    if (!extra.is_none()) {
        more = array<Input<1>>(extra, "extra");
        need(more.shape(0) == n, "y and extra differ in length");
    }
    Question q{{n, y.data(), extra.is_none() ? nullptr : more.data()}, order, active, {}};
    need(eta.shape(1) == n, "y and eta differ in length");
    check(family, q, eta.shape(0));
    for (size_t m = 0; m < eta.shape(0); ++m) q.eta.push_back(eta.data() + m * n);
    return evaluate(family, q, checked_threads(threads));
}

} // namespace

void bind_families(nb::module_& m) {
    nb::class_<Family>(m, "Family")
        .def_prop_ro("predictors", &Family::predictors)
        .def("evaluate", &evaluate_arrays, "y"_a, "extra"_a.none(), "eta"_a, "order"_a, "active"_a,
             "threads"_a = 1);
    m.def("make_family", &make_family, "name"_a, "link"_a, "zero"_a = false, "categories"_a = 0);
}

} // namespace ranef
