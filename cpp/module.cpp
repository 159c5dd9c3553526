// The Python face of the core: arrays in, arrays out; no names, no policy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "dense.hpp"
#include "faces.hpp"
#include "families/binding.hpp"
#include "generalised.hpp"
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
    table.syevd = reinterpret_cast<Lapack::syevd_t>(routine(
        lapack_table, "dsyevd",
        "void (char *, char *, int *, @ *, int *, @ *, @ *, int *, int *, int *, int *)", dl));
    table.syevr = reinterpret_cast<Lapack::syevr_t>(routine(
        lapack_table, "dsyevr",
        "void (char *, char *, char *, int *, @ *, int *, @ *, @ *, int *, int *, @ *, int *, @ *, "
        "@ *, int *, int *, @ *, int *, int *, int *, int *)",
        dl));
    lapack() = table;
}

// A copy, since another thread may write to the user's.
Indices checked_codes(const Codes& codes, size_t n, int levels) {
    need(codes.size() == n, "codes differ in length");
    need(levels >= 0, "numbers of levels must not be negative");
    Indices out(codes.data(), codes.data() + n);
    for (int32_t code : out) need(code >= 0 && code < levels, "a level code is out of range");
    return out;
}

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
    nb::exception<Stopped>(m, "Stopped", PyExc_BaseException);
    nb::class_<Stop>(m, "Stop")
        .def(nb::init<>())
        .def("set", &Stop::set)
        .def("enter", &Stop::enter)
        .def("leave", &Stop::leave);
    m.attr("most_jacobi") = most_jacobi;
    m.def(
        "count_pairs",
        [](Codes f, int qf, Codes g, int qg, int64_t limit) {
            need(f.shape(0) == g.shape(0), "codes differ in length");
            need(f.shape(0) <= most_rows, "there are too many rows");
            need(qf >= 0 && qg >= 0, "numbers of levels must not be negative");
            int64_t pairs = 0;
            unlocked([&] { pairs = count_pairs(f.shape(0), f.data(), qf, g.data(), qg, limit); });
            return pairs;
        },
        "f"_a, "f_levels"_a, "g"_a, "g_levels"_a, "limit"_a);
    m.def(
        "sparse_cost",
        [](Codes leader, int q, const std::vector<Codes>& codes, const std::vector<int>& levels,
           const std::vector<int>& sizes) {
            const size_t n = leader.shape(0);
            need(n <= most_rows, "there are too many rows");
            need(codes.size() == levels.size() && codes.size() == sizes.size(),
                 "one number of levels and columns a factor");
            const Indices first = checked_codes(leader, n, q);
            std::vector<Indices> kept;
            std::vector<const int32_t*> given;
            double columns = 0;
            for (size_t f = 0; f < codes.size(); ++f) {
                check_structure(sizes[f]);
                kept.push_back(checked_codes(codes[f], n, levels[f]));
                given.push_back(kept.back().data());
                columns += static_cast<double>(levels[f]) * sizes[f];
            }
            need(columns <= std::numeric_limits<int>::max(), "there are too many columns");
            SparseCost cost;
            unlocked([&] { cost = sparse_cost(n, first.data(), q, given, levels, sizes); });
            return nb::make_tuple(cost.fill, cost.flops, cost.pairs);
        },
        "leader"_a, "leader_levels"_a, "codes"_a, "levels"_a, "sizes"_a);
    m.def(
        "trapezoid",
        [](Input<2> psi, int rank) {
            need(psi.shape(0) == psi.shape(1), "a covariance matrix must be square");
            need(psi.shape(0) >= 1 && psi.shape(0) <= most_columns_of_term,
                 "a covariance matrix must have at least one row, and not too many");
            const int r = static_cast<int>(psi.shape(0));
            need(rank >= 0 && rank <= r, "the rank of a covariance matrix of " + std::to_string(r) +
                                             " rows cannot be " + std::to_string(rank));
            need_finite(psi.data(), psi.size(), "a covariance matrix");
            Vector phi(static_cast<size_t>(r) * (r + 1) / 2);
            const Vector own(psi.data(), psi.data() + psi.size());
            unlocked([&] { trapezoid(r, rank, own, phi.data()); });
            return to_array(std::move(phi));
        },
        "psi"_a, "rank"_a);
    bind_linear(m);
    bind_families(m);
    bind_generalised(m);
    bind_dynamic(m);
    bind_contamination(m);
    bind_imaging(m);
    bind_iterative(m);
    bind_messages(m);
    bind_squares(m);
    bind_structure(m);
    bind_whitening(m);
    bind_genotypes(m);
}
