// What the Python faces of the core share: arrays in, arrays out.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "criterion.hpp"
#include "newton.hpp"

namespace nb = nanobind;

namespace ranef {

template <int D>
using Input = nb::ndarray<const double, nb::ndim<D>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Array = nb::ndarray<nb::numpy, double>;

inline Array to_array(Vector values, std::vector<size_t> shape) {
    auto* owned = new Vector(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<Vector*>(p); });
    return Array(owned->data(), shape.size(), shape.data(), owner);
}

inline Array to_array(Vector values) {
    const size_t n = values.size();
    return to_array(std::move(values), {n});
}

// How the tail is solved: kind, columns, values of its factor, flops of one factorisation.
nb::dict describe_tail(const Blocks& blocks);

// A factor of n rows; `keep` holds on to its arrays.
inline FactorInput read_factor(const nb::dict& d, size_t n, std::vector<nb::object>& keep) {
    const auto codes = nb::cast<Codes>(d["codes"]);
    const auto z = nb::cast<Input<2>>(d["z"]);
    if (codes.shape(0) != n || z.shape(0) != n)
        throw std::invalid_argument("codes, z and X must have the same number of rows");
    FactorInput in;
    in.codes = codes.data();
    in.z = z.data();
    in.q = nb::cast<int>(d["levels"]);
    int columns = 0;
    for (nb::handle t : nb::cast<nb::list>(d["terms"])) {
        const nb::dict td = nb::cast<nb::dict>(t);
        TermInput term;
        term.structure = nb::cast<std::string>(td["structure"]);
        term.size = nb::cast<int>(td["size"]);
        term.rank = nb::cast<int>(td["rank"]);
        const auto positions = nb::cast<Input<2>>(td["positions"]);
        term.dimensions = static_cast<int>(positions.shape(1));
        term.positions.assign(positions.data(), positions.data() + positions.size());
        if (td.contains("unit")) term.unit = nb::cast<double>(td["unit"]);
        columns += term.size;
        in.terms.push_back(std::move(term));
    }
    if (static_cast<size_t>(columns) != z.shape(1))
        throw std::invalid_argument("the terms of a factor must cover the columns of its z");
    for (size_t i = 0; i < n; ++i)
        if (in.codes[i] < 0 || in.codes[i] >= in.q)
            throw std::invalid_argument("a level code is out of range");
    if (d.contains("kernel")) {
        const auto kernel = nb::cast<Input<2>>(d["kernel"]); // lower factor, row-major
        const size_t q = in.q;
        if (kernel.shape(0) != q || kernel.shape(1) != q)
            throw std::invalid_argument("a kernel must have one row per level");
        in.kernel.assign(q * q, 0.0);
        for (size_t i = 0; i < q; ++i)
            for (size_t j = 0; j <= i; ++j) in.kernel[j * q + i] = kernel.data()[i * q + j];
    }
    keep.push_back(nb::cast(codes));
    keep.push_back(nb::cast(z));
    return in;
}

// Modes of one factor in the user's basis and level order, (q, r).
inline Array user_modes(const Factor& factor, const Vector& modes) {
    const size_t r = factor.r, q = factor.q;
    Vector b(q * r, 0.0);
    for (size_t l = 0; l < q; ++l) {
        const double* from = modes.data() + l * r;
        double* to = b.data() + static_cast<size_t>(factor.level_at[l]) * r;
        for (const Term& term : factor.terms) {
            const int s = term.structure->r;
            for (int a = 0; a < s; ++a)
                for (int e = 0; e < s; ++e)
                    to[term.first + a] += term.basis[a * s + e] * from[term.first + e];
        }
    }
    return to_array(std::move(b), {q, r});
}

// Rows of random effects as the questions of the core take them, checked.
struct EffectRows {
    std::vector<const int32_t*> levels;
    std::vector<const double*> z;
};

inline EffectRows read_effect_rows(const std::vector<Factor>& factors, size_t rows,
                                   const std::vector<Codes>& levels,
                                   const std::vector<Input<2>>& z) {
    if (levels.size() != factors.size() || z.size() != factors.size())
        throw std::invalid_argument("levels, z and X do not fit the model");
    EffectRows out;
    for (size_t f = 0; f < factors.size(); ++f) {
        if (levels[f].shape(0) != rows || z[f].shape(0) != rows ||
            z[f].shape(1) != static_cast<size_t>(factors[f].r))
            throw std::invalid_argument("levels, z and X do not fit the model");
        for (size_t i = 0; i < rows; ++i)
            if (levels[f].data()[i] >= factors[f].q)
                throw std::invalid_argument("a level code is out of range");
        out.levels.push_back(levels[f].data());
        out.z.push_back(z[f].data());
    }
    return out;
}

// (ptr, index, value, columns) of the chain's part, and the tail (rows, order).
inline nb::tuple describe(HalfSolves found, size_t rows, size_t order) {
    using Integers = nb::ndarray<nb::numpy, int64_t>;
    auto integers = [](std::vector<int64_t> values) {
        auto* owned = new std::vector<int64_t>(std::move(values));
        nb::capsule owner(owned,
                          [](void* p) noexcept { delete static_cast<std::vector<int64_t>*>(p); });
        const size_t n = owned->size();
        return Integers(owned->data(), 1, &n, owner);
    };
    return nb::make_tuple(integers(std::move(found.ptr)), integers(std::move(found.index)),
                          to_array(std::move(found.value)), found.columns,
                          to_array(std::move(found.tail), {rows, order}));
}

inline nb::dict describe(const Outcome& out) {
    nb::dict d;
    const size_t K = out.phi.size();
    d["phi"] = to_array(out.phi);
    d["gradient"] = to_array(out.gradient);
    d["hessian"] = to_array(out.hessian, {K, out.hessian.empty() ? 0 : K});
    d["trace"] = to_array(out.trace);
    nb::list free;
    for (char f : out.free) free.append(f != 0);
    d["free"] = free;
    nb::list faces;
    for (const TermFace& f : out.faces) faces.append(nb::make_tuple(f.term, f.rank, f.curvature));
    d["faces"] = faces;
    d["criterion"] = out.criterion;
    d["decrement"] = out.decrement;
    d["tolerance"] = out.tolerance;
    d["evaluations"] = out.evaluations;
    d["restarts"] = out.restarts;
    d["converged"] = out.converged;
    d["stopped"] = out.stopped;
    d["message"] = out.message;
    return d;
}

// Hands the search's progress to a Python callable, and its exceptions back.
class Progress {
  public:
    explicit Progress(nb::object call) : call_(std::move(call)) {}
    bool operator()(int count, double criterion, double decrement) {
        nb::gil_scoped_acquire acquire;
        try {
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
            if (!call_.is_none()) call_(count, criterion, decrement);
        } catch (nb::python_error& e) {
            pending_ = std::make_unique<nb::python_error>(std::move(e));
            return false;
        }
        return true;
    }
    void rethrow() {
        if (!pending_) return;
        pending_->restore();
        throw nb::python_error();
    }

  private:
    nb::object call_;
    std::unique_ptr<nb::python_error> pending_;
};

} // namespace ranef
