// The Python face of the families: a family by name, its derivatives as an array.
#include "families/binding.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "families/factory.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

template <int D>
using Input = nb::ndarray<const double, nb::ndim<D>, nb::c_contig, nb::device::cpu>;
using Array = nb::ndarray<nb::numpy, double>;

struct Question {
    Rows rows;
    int order;
    std::vector<int> active;
    std::vector<const double*> eta;
};

void check(const Family& family, const Question& q, size_t predictors) {
    if (predictors != static_cast<size_t>(family.predictors()))
        throw std::invalid_argument("eta has " + std::to_string(predictors) + " rows, not " +
                                    std::to_string(family.predictors()));
    if (q.order < 0 || q.order > 3) throw std::invalid_argument("order is 0, 1, 2 or 3");
    int before = -1;
    for (int a : q.active) {
        if (a <= before || a >= family.predictors())
            throw std::invalid_argument("active predictors are ascending, below " +
                                        std::to_string(family.predictors()));
        before = a;
    }
}

// (derivatives, n)
Array evaluate(const Family& family, const Question& q, int threads) {
    const size_t n = q.rows.n;
    const int count = Derivatives{static_cast<int>(q.active.size())}.count(q.order);
    auto* values = new std::vector<double>(count * n);
    nb::capsule owner(values,
                      [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
    std::vector<double*> out(count);
    for (int c = 0; c < count; ++c) out[c] = values->data() + c * n;
    {
        nb::gil_scoped_release release;
        constexpr int chunks = 16;
        const auto bounds = partition(n, chunks);
        for_chunks(chunks, threads, [&](int c) {
            family.evaluate(q.rows, q.order, q.active, q.eta.data(), bounds[c], bounds[c + 1],
                            out.data());
        });
    }
    const size_t shape[] = {static_cast<size_t>(count), n};
    return Array(values->data(), 2, shape, owner);
}

Array evaluate_arrays(const Family& family, Input<1> y, const nb::object& extra, Input<2> eta,
                      int order, const std::vector<int>& active, int threads) {
    Question q{{y.shape(0), y.data(), nullptr}, order, active, {}};
    if (!extra.is_none()) {
        const auto values = nb::cast<Input<1>>(extra);
        if (values.shape(0) != q.rows.n)
            throw std::invalid_argument("y and extra differ in length");
        q.rows.extra = values.data();
    }
    if (eta.shape(1) != q.rows.n) throw std::invalid_argument("y and eta differ in length");
    check(family, q, eta.shape(0));
    for (size_t m = 0; m < eta.shape(0); ++m) q.eta.push_back(eta.data() + m * q.rows.n);
    return evaluate(family, q, threads);
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
