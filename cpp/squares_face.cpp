// The Python side of factorisations of large symmetric matrices, each stopped by an interrupt.
#include <algorithm>

#include "arrays.hpp"
#include "dense.hpp"
#include "faces.hpp"
#include "pieces.hpp"
#include "spectrum.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

constexpr size_t largest_order = 50'000'000; // LAPACK counts its work, 26 n and more, by int

int checked_order(const Input<2>& A) {
    need(A.shape(0) == A.shape(1), "the matrix must be square");
    need(A.shape(0) <= largest_order, "the matrix is too large");
    const int n = static_cast<int>(A.shape(0));
    need(n <= small_order || use_lapack(n), "LAPACK must have been handed over");
    return n;
}

Vector copied(const Input<2>& A) {
    return taken_in_pieces(A.size(), A.data());
}

// By columns: what Python sees is the transpose. None where A is not positive definite.
nb::object cholesky_of(Input<2> A) {
    const int n = checked_order(A);
    const size_t N = n;
    Vector L;
    bool good = false;
    unlocked([&] {
        L = copied(A);
        good = cholesky(n, L.data(), n);
        for (size_t j = 1; j < N; ++j) std::fill_n(L.data() + j * N, j, 0.0);
    });
    if (!good) return nb::none();
    return nb::cast(to_array(std::move(L), {N, N}));
}

// None where A is not positive definite.
nb::object inverse_of(Input<2> A) {
    const int n = checked_order(A);
    const size_t N = n;
    Vector inverse;
    bool good = false;
    unlocked([&] {
        inverse = copied(A);
        good = cholesky(n, inverse.data(), n);
        if (!good) return;
        inverse_from_cholesky(n, inverse.data(), n);
        fill_upper(n, inverse.data(), n);
    });
    if (!good) return nb::none();
    return nb::cast(to_array(std::move(inverse), {N, N}));
}

void small_spectrum(int n, int count, Vector A, Spectrum& out) {
    const size_t first = n - count;
    out.values.resize(n);
    out.vectors.resize(A.size());
    eigen_symmetric(n, A.data(), out.values.data(), out.vectors.data());
    out.values.erase(out.values.begin(), out.values.begin() + first);
    out.vectors.erase(out.vectors.begin(), out.vectors.begin() + first * n);
}

// The largest eigenvalues, ascending, and their vectors by row.
nb::tuple spectrum_of(Input<2> A, int count) {
    const int n = checked_order(A);
    need(count >= 1 && count <= n, "there are as many eigenvalues as rows");
    Spectrum found;
    unlocked([&] {
        need_finite(A.data(), A.size(), "the matrix");
        if (n <= small_order)
            small_spectrum(n, count, copied(A), found);
        else if (!spectrum(n, count, copied(A), found))
            throw std::domain_error("the eigenvalues were not found");
    });
    const size_t rows = count, columns = n;
    return nb::make_tuple(to_array(std::move(found.values)),
                          to_array(std::move(found.vectors), {rows, columns}));
}

} // namespace

void bind_squares(nb::module_& m) {
    m.def("cholesky", &cholesky_of, "A"_a);
    m.def("inverse", &inverse_of, "A"_a);
    m.def("spectrum", &spectrum_of, "A"_a, "count"_a);
}

} // namespace ranef
