// Python's side of models of many voxels.
#include <algorithm>
#include <array>

#include "arrays.hpp"
#include "faces.hpp"
#include "mixed_effects.hpp"
#include "repeated.hpp"
#include "tfce.hpp"

using namespace nb::literals;

namespace ranef {

namespace {

using Single = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const bool, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t most_voxels = 1u << 30;

// Effects and variances of one type and shape, kept alive while they are used.
struct Taken {
    Voxels data{};
    std::vector<nb::object> keep;

    Taken(const nb::object& Y, const nb::object& V, const Input<2>& X) {
        Single ys, vs;
        Input<2> yd, vd;
        if (nb::try_cast(Y, ys, false) && nb::try_cast(V, vs, false)) {
            need(ys.shape(0) == vs.shape(0) && ys.shape(1) == vs.shape(1),
                 "effects and variances must have one shape");
            data = {ys.data(), vs.data(), true, ys.shape(0), ys.shape(1), ys.shape(1), X.data(), 0};
        } else if (nb::try_cast(Y, yd, false) && nb::try_cast(V, vd, false)) {
            need(yd.shape(0) == vd.shape(0) && yd.shape(1) == vd.shape(1),
                 "effects and variances must have one shape");
            data = {yd.data(),   vd.data(),   false,    yd.shape(0),
                    yd.shape(1), yd.shape(1), X.data(), 0};
        } else
            throw std::invalid_argument(
                "effects and variances must be matrices (subjects, voxels), both of float32 or "
                "both of float64");
        keep = {Y, V};
        need(X.shape(0) == data.K, "the design must have one row a subject");
        need(X.shape(1) >= 1 && X.shape(1) <= most_columns_of_voxels,
             "a design of voxels has 1 to 8 columns");
        need_finite(X.data(), X.size(), "the design");
        need(data.N <= most_voxels && data.K <= most_rows, "there are too many voxels");
        data.p = static_cast<int>(X.shape(1));
    }

    void part(std::size_t first, std::size_t count) {
        need(first <= data.N, "voxels begin beyond the last one");
        const std::size_t skipped = first * (data.single ? sizeof(float) : sizeof(double));
        data.Y = static_cast<const char*>(data.Y) + skipped;
        data.V = static_cast<const char*>(data.V) + skipped;
        data.N = std::min(count, data.N - first);
    }
};

// Voxels from `first` on, `count` of them.
nb::dict fit_voxels(const nb::object& Y, const nb::object& V, Input<2> X, const std::string& method,
                    int threads, std::size_t first, std::size_t count) {
    Taken taken(Y, V, X);
    taken.part(first, count);
    const Heterogeneity how = heterogeneity(method);
    const int used = checked_threads(threads);
    const std::size_t N = taken.data.N, p = X.shape(1), T = p * (p + 1) / 2;
    Vector beta(p * N), bread(T * N);
    std::array<Vector, 6> columns;
    for (Vector& one : columns) one.resize(N);
    auto& [tau2, scatter, q, typical, n, maxima] = columns;
    unlocked([&] {
        mixed_effects(taken.data, how,
                      {beta.data(), bread.data(), tau2.data(), scatter.data(), q.data(),
                       typical.data(), n.data(), maxima.data()},
                      used);
    });
    nb::dict out;
    out["beta"] = to_array(std::move(beta), {p, N});
    out["bread"] = to_array(std::move(bread), {T, N});
    out["tau2"] = to_array(std::move(tau2));
    out["scatter"] = to_array(std::move(scatter));
    out["q"] = to_array(std::move(q));
    out["typical"] = to_array(std::move(typical));
    out["n"] = to_array(std::move(n));
    out["maxima"] = to_array(std::move(maxima));
    return out;
}

Array flip_voxels(const nb::object& Y, const nb::object& V, Input<2> X, const nb::object& base,
                  Input<2> contrast, Input<2> signs, const std::string& method,
                  const std::string& scaling, int threads) {
    const Taken taken(Y, V, X);
    const Heterogeneity how = heterogeneity(method);
    const int used = checked_threads(threads);
    const std::size_t N = taken.data.N, F = signs.shape(0);
    need(contrast.shape(1) == X.shape(1), "the contrast must have one entry a column");
    need(contrast.shape(0) >= 1 && contrast.shape(0) <= X.shape(1),
         "a contrast has at least one row, and not more than there are columns");
    need(signs.shape(1) == taken.data.K, "signs must have one entry a subject");
    need_finite(contrast.data(), contrast.size(), "the contrast");
    need_finite(signs.data(), signs.size(), "signs");
    need(F * N <= most_voxels, "there are too many maps at once");
    Scaling scale = Scaling::none;
    if (scaling == "knapp-hartung")
        scale = Scaling::knapp_hartung;
    else if (scaling == "conservative")
        scale = Scaling::conservative;
    else
        need(scaling == "none", "there is no such scaling");
    const void* under = nullptr;
    Single bs;
    Input<2> bd;
    if (!base.is_none()) {
        if (taken.data.single && nb::try_cast(base, bs, false))
            under = bs.shape(0) == taken.data.K && bs.shape(1) == N ? bs.data() : nullptr;
        else if (!taken.data.single && nb::try_cast(base, bd, false))
            under = bd.shape(0) == taken.data.K && bd.shape(1) == N ? bd.data() : nullptr;
        need(under != nullptr, "the base must have the type and shape of the effects");
    }
    Vector t(F * N);
    unlocked([&] {
        flipped(taken.data, under, contrast.data(), static_cast<int>(contrast.shape(0)),
                signs.data(), F, how, scale, t.data(), used);
    });
    return to_array(std::move(t), {F, N});
}

// Linear mixed models of many outcomes with one grouping factor, see repeated.hpp.
nb::dict fit_repeated(const nb::object& Y, Input<2> X, Input<2> Z, Codes level, Codes kind,
                      bool restricted, int threads) {
    Repeated data{};
    Single ys;
    Input<2> yd;
    if (nb::try_cast(Y, ys, false)) {
        data.Y = ys.data();
        data.single = true;
        data.n = ys.shape(0);
        data.N = ys.shape(1);
    } else if (nb::try_cast(Y, yd, false)) {
        data.Y = yd.data();
        data.n = yd.shape(0);
        data.N = yd.shape(1);
    } else
        throw std::invalid_argument("outcomes must be a matrix (rows, voxels) of numbers");
    const std::size_t n = data.n, N = data.N, p = X.shape(1), q = Z.shape(1);
    need(n >= 1 && n <= most_rows && N <= most_voxels, "there are too many outcomes");
    need(X.shape(0) == n && Z.shape(0) == n && level.shape(0) == n,
         "the design must have one row for each of the outcomes'");
    need(p >= 1 && p <= most_fixed_of_voxels, "there are too many fixed effects");
    need(p < n, "there are too few rows");
    need(q >= 1 && q <= most_slopes, "a level has 1 to 3 random effects");
    need_finite(X.data(), X.size(), "the fixed effects");
    need_finite(Z.data(), Z.size(), "the random effects");
    const int used = checked_threads(threads);
    const std::vector<int> levels(level.data(), level.data() + n);
    const std::vector<int> kinds(kind.data(), kind.data() + kind.shape(0));
    std::size_t classes = 0;
    for (int one : kinds) {
        need_index(one, kinds.size(), "a class");
        classes = std::max<std::size_t>(classes, one + 1);
    }
    for (int one : levels) need_index(one, kinds.size(), "a level");
    data.X = X.data();
    data.Z = Z.data();
    data.p = static_cast<int>(p);
    data.q = static_cast<int>(q);
    data.level = levels.data();
    data.kind = kinds.data();
    data.levels = kinds.size();
    data.classes = classes;
    data.restricted = restricted;
    const std::size_t P2 = p * (p + 1) / 2, T = q * (q + 1) / 2;
    Vector beta(p * N), psi(T * N), bread(P2 * N), spread((T + 1) * P2 * N);
    std::array<Vector, 5> columns;
    for (Vector& one : columns) one.resize(N);
    auto& [sigma2, loglik, rank, steps, decrement] = columns;
    unlocked([&] {
        repeated(data,
                 {beta.data(), psi.data(), sigma2.data(), loglik.data(), bread.data(),
                  spread.data(), rank.data(), steps.data(), decrement.data()},
                 used);
    });
    nb::dict out;
    out["beta"] = to_array(std::move(beta), {p, N});
    out["psi"] = to_array(std::move(psi), {T, N});
    out["bread"] = to_array(std::move(bread), {P2, N});
    out["spread"] = to_array(std::move(spread), {T + 1, P2 * N});
    out["sigma2"] = to_array(std::move(sigma2));
    out["loglik"] = to_array(std::move(loglik));
    out["rank"] = to_array(std::move(rank));
    out["steps"] = to_array(std::move(steps));
    out["decrement"] = to_array(std::move(decrement));
    return out;
}

void check_powers(double E, double H) {
    need(std::isfinite(E) && E >= 0 && E <= 10, "the power of the extent is out of range");
    need(std::isfinite(H) && H >= 0 && H <= 10, "the power of the height is out of range");
}

Array enhance(Input<1> values, Codes starts, Codes indices, double E, double H) {
    check_powers(E, H);
    const std::size_t n = values.shape(0);
    need(starts.shape(0) == n + 1, "starts must have one entry more than there are values");
    need_numbers(values.data(), n, "values");
    const std::vector<int32_t> from(starts.data(), starts.data() + n + 1);
    const std::vector<int32_t> to(indices.data(), indices.data() + indices.size());
    need(from[0] == 0 && static_cast<std::size_t>(from[n]) == to.size(),
         "starts must go from 0 to the number of indices");
    for (std::size_t i = 0; i < n; ++i) need(from[i] <= from[i + 1], "starts must not fall");
    for (int32_t one : to) need_index(one, n, "a neighbour");
    Vector out(n);
    unlocked([&] { tfce({n, from.data(), to.data()}, values.data(), E, H, out.data()); });
    return to_array(std::move(out));
}

nb::tuple neighbours(Mask mask) {
    need(mask.size() <= most_voxels, "there are too many voxels");
    std::vector<int32_t> starts, indices;
    unlocked([&] {
        faces_of_voxels(mask.data(), mask.shape(0), mask.shape(1), mask.shape(2), starts, indices);
    });
    using Whole = nb::ndarray<nb::numpy, int32_t>;
    const auto given = [](std::vector<int32_t> values) {
        auto* owned = new std::vector<int32_t>(std::move(values));
        nb::capsule owner(owned,
                          [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
        const std::size_t shape[1] = {owned->size()};
        return Whole(owned->data(), 1, shape, owner);
    };
    return nb::make_tuple(given(std::move(starts)), given(std::move(indices)));
}

} // namespace

void bind_imaging(nb::module_& m) {
    m.def("mixed_effects", &fit_voxels, "Y"_a, "V"_a, "X"_a, "method"_a, "threads"_a, "first"_a = 0,
          "count"_a = most_voxels);
    m.def("sign_flips", &flip_voxels, "Y"_a, "V"_a, "X"_a, "base"_a.none(), "contrast"_a, "signs"_a,
          "method"_a, "scaling"_a, "threads"_a);
    m.def("repeated_measures", &fit_repeated, "Y"_a, "X"_a, "Z"_a, "level"_a, "kind"_a,
          "restricted"_a, "threads"_a);
    m.def("tfce", &enhance, "values"_a, "starts"_a, "indices"_a, "E"_a, "H"_a);
    m.def("voxel_neighbours", &neighbours, "mask"_a);
}

} // namespace ranef
