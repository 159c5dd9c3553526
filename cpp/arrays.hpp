// What the Python faces of the core share: arrays in, arrays out.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "blocks.hpp"
#include "calls.hpp"
#include "checks.hpp"
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

// An argument as an array of these dimensions: converted where that can be done.
template <class Wanted>
Wanted array(nb::handle value, const char* name) {
    Wanted out;
    if (!nb::try_cast(value, out))
        throw std::invalid_argument(std::string(name) + " must be " +
                                    (std::is_same_v<Wanted, Codes>      ? "a vector of int32"
                                     : std::is_same_v<Wanted, Input<1>> ? "a vector of float64"
                                                                        : "a matrix of float64"));
    return out;
}

// The same of a vector (n), kept alive by `keep`; null for None.
inline const double* optional(nb::handle value, size_t n, const char* name,
                              std::vector<nb::object>& keep) {
    if (value.is_none()) return nullptr;
    const auto values = array<Input<1>>(value, name);
    need(values.shape(0) == n, std::string(name) + " must have one value per row");
    keep.push_back(nb::cast(values));
    return values.data();
}

// Compressed rows of a matrix as the core takes them: (ptr, index, value, columns); checked.
inline FixedRows read_compressed(const nb::tuple& parts, size_t* n, std::vector<nb::object>& keep) {
    using Pointers = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
    need(parts.size() == 4, "compressed rows are (ptr, index, value, columns)");
    Pointers ptr;
    need(nb::try_cast(parts[0], ptr) && ptr.shape(0) >= 1, "ptr must be a vector of int64");
    const auto index = array<Codes>(parts[1], "index");
    const auto value = array<Input<1>>(parts[2], "value");
    FixedRows out;
    need(nb::try_cast(parts[3], out.p) && out.p >= 0, "columns must be a number of columns");
    *n = ptr.shape(0) - 1;
    need(index.shape(0) == value.shape(0) && ptr.data()[0] == 0 &&
             ptr.data()[*n] == static_cast<int64_t>(value.shape(0)),
         "ptr, index and value of compressed rows do not fit together");
    auto kept_ptr = std::make_unique<std::vector<int64_t>>(ptr.data(), ptr.data() + *n + 1);
    auto kept_index = std::make_unique<Indices>(index.data(), index.data() + index.shape(0));
    for (size_t i = 0; i < *n; ++i) {
        const int64_t first = (*kept_ptr)[i], last = (*kept_ptr)[i + 1];
        need(first <= last, "ptr of compressed rows must not fall");
        need(last <= static_cast<int64_t>(kept_index->size()), "ptr reaches beyond the rows");
        for (int64_t k = first; k < last; ++k)
            need((*kept_index)[k] >= (k > first ? (*kept_index)[k - 1] + 1 : 0) &&
                     (*kept_index)[k] < out.p,
                 "columns of compressed rows must ascend, within the matrix");
    }
    out.ptr = kept_ptr->data();
    out.index = kept_index->data();
    out.value = value.data();
    keep.push_back(nb::cast(value));
    keep.push_back(nb::capsule(kept_ptr.release(), [](void* p) noexcept {
        delete static_cast<std::vector<int64_t>*>(p);
    }));
    keep.push_back(nb::capsule(kept_index.release(),
                               [](void* p) noexcept { delete static_cast<Indices*>(p); }));
    return out;
}

template <class T>
T scalar(const nb::dict& d, const char* name) {
    T out;
    if (!d.contains(name) || !nb::try_cast(d[name], out))
        throw std::invalid_argument(std::string("a factor or term lacks a proper '") + name + "'");
    return out;
}

inline nb::object entry(const nb::dict& d, const char* name) {
    need(d.contains(name), std::string("a factor, term or predictor lacks '") + name + "'");
    return d[name];
}

template <class T>
T member(nb::handle value, const char* name) {
    T out;
    if (!nb::try_cast(value, out))
        throw std::invalid_argument(std::string(name) + " has another type");
    return out;
}

inline TermInput read_term(const nb::dict& d) {
    TermInput term;
    term.structure = scalar<std::string>(d, "structure");
    term.size = scalar<int>(d, "size");
    term.rank = scalar<int>(d, "rank");
    const auto positions = array<Input<2>>(entry(d, "positions"), "positions");
    term.dimensions = static_cast<int>(positions.shape(1));
    term.positions.assign(positions.data(), positions.data() + positions.size());
    if (d.contains("unit")) {
        check_structure(term.size);
        term.units.assign(term.size, scalar<double>(d, "unit"));
    }
    if (d.contains("units"))
        term.units = member<Vector>(d["units"], "the units of a term's columns");
    if (d.contains("owners"))
        term.owners = member<std::vector<int>>(d["owners"], "the predictors of a term's columns");
    return term;
}

// A lower factor (q, q), row-major, by columns.
inline std::shared_ptr<const Vector> read_kernel(nb::handle value, size_t q) {
    const auto given = array<Input<2>>(value, "a kernel");
    need(given.shape(0) == q && given.shape(1) == q, "a kernel must have one row per level");
    auto out = std::make_shared<Vector>(q * q, 0.0);
    for (size_t i = 0; i < q; ++i)
        for (size_t j = 0; j <= i; ++j) (*out)[j * q + i] = given.data()[i * q + j];
    return out;
}

// A factor of n rows, checked; `keep` holds on to its z.
inline FactorInput read_factor(const nb::dict& d, size_t n, std::vector<nb::object>& keep) {
    const auto codes = array<Codes>(entry(d, "codes"), "codes");
    const auto z = array<Input<2>>(entry(d, "z"), "z");
    need(codes.shape(0) == n && z.shape(0) == n,
         "codes, z and X must have the same number of rows");
    FactorInput in;
    in.codes = std::make_shared<const Indices>(codes.data(), codes.data() + n);
    in.z = z.data();
    in.q = scalar<int>(d, "levels");
    int64_t columns = 0;
    for (nb::handle t : member<nb::list>(entry(d, "terms"), "the terms of a factor")) {
        in.terms.push_back(read_term(member<nb::dict>(t, "a term")));
        columns += in.terms.back().size;
    }
    need(columns == static_cast<int64_t>(z.shape(1)),
         "the terms of a factor must cover the columns of its z");
    if (d.contains("kernel") && in.q >= 1) in.kernel = read_kernel(d["kernel"], in.q);
    check_factor(n, in);
    keep.push_back(nb::cast(z));
    return in;
}

// Modes of one factor in the user's basis and level order, (q, r).
inline Vector in_user_basis(const Factor& factor, const Vector& modes) {
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
    return b;
}

inline Array user_modes(const Factor& factor, const Vector& modes) {
    return to_array(in_user_basis(factor, modes),
                    {static_cast<size_t>(factor.q), static_cast<size_t>(factor.r)});
}

// Rows of random effects as the questions of the core take them, checked. Level -1 leaves a
// factor out.
struct EffectRows {
    std::vector<Indices> kept;
    std::vector<const int32_t*> levels;
    std::vector<const double*> z;
};

inline EffectRows read_effect_rows(const std::vector<Factor>& factors, int p,
                                   const std::vector<Codes>& levels, const std::vector<Input<2>>& z,
                                   const Input<2>& X) {
    const size_t rows = X.shape(0);
    bool fits = X.shape(1) == static_cast<size_t>(p) && levels.size() == factors.size() &&
                z.size() == factors.size();
    for (size_t f = 0; fits && f < factors.size(); ++f)
        fits = levels[f].shape(0) == rows && z[f].shape(0) == rows &&
               z[f].shape(1) == static_cast<size_t>(factors[f].r);
    need(fits, "levels, z and X do not fit the model");
    EffectRows out;
    for (size_t f = 0; f < factors.size(); ++f) {
        out.kept.emplace_back(levels[f].data(), levels[f].data() + rows);
        for (int32_t level : out.kept.back())
            need(level >= -1 && level < factors[f].q, "a level code is out of range");
        out.levels.push_back(out.kept.back().data());
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
    d["starts"] = out.starts;
    d["agreeing"] = out.agreeing;
    d["whole_range"] = out.whole_range;
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
            pending_.hold(std::move(e));
            return false;
        }
        return true;
    }
    void rethrow() { pending_.rethrow(); }

  private:
    nb::object call_;
    Pending pending_;
};

} // namespace ranef
