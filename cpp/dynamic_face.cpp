// Python's side of series with a memory of their own.
#include "arrays.hpp"
#include "dynamic.hpp"
#include "faces.hpp"

using namespace nb::literals;

namespace ranef {

namespace {

constexpr int most_effects = 12;
constexpr size_t most_cells = size_t{1} << 31;

using Cube = nb::ndarray<const double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<nb::numpy, int32_t>;

Memory read_memory(const std::string& name) {
    if (name == "fisher") return Memory::fisher;
    if (name == "plain") return Memory::plain;
    need(name == "clock", "memory must be 'fisher', 'plain' or 'clock'");
    return Memory::clock;
}

class Dynamic {
  public:
    Dynamic(const std::string& memory, bool given_starts, Codes first, Input<1> gap, Input<2> zm,
            Input<2> zi, Input<2> zp, Input<2> zs, int threads)
        : threads_(checked_threads(threads)) {
        const size_t n = gap.shape(0), N = first.shape(0);
        need(N >= 2 && n >= 1 && n <= most_rows, "there must be a person, and a row");
        for (const auto* z : {&zm, &zi, &zp, &zs}) {
            need(z->shape(0) == n, "zm, zi, zp, zs and gap must have the same number of rows");
            need(z->shape(1) <= most_effects, "there are too many effects");
            need_finite(z->data(), z->size(), "the effects' columns");
        }
        need(zp.shape(1) == zs.shape(1), "zp and zs must have the same columns");
        data_.memory = read_memory(memory);
        data_.given_starts = given_starts;
        data_.d = static_cast<int>(zp.shape(1));
        data_.qm = static_cast<int>(zm.shape(1));
        data_.qi = static_cast<int>(zi.shape(1));
        data_.first.assign(first.data(), first.data() + N);
        need(data_.first.front() == 0 && data_.first.back() == static_cast<int>(n),
             "first must lead from 0 to the number of rows");
        for (size_t i = 0; i + 1 < N; ++i)
            need(data_.first[i] < data_.first[i + 1], "each person must have a row");
        need_finite(gap.data(), n, "gap");
        data_.gap.assign(gap.data(), gap.data() + n);
        for (size_t i = 0; i + 1 < N; ++i)
            need(data_.gap[data_.first[i]] == 0, "a person's first row must begin a series");
        for (double x : data_.gap)
            need(x >= 0 && (data_.memory == Memory::clock || x == std::floor(x)),
                 "gaps must be whole numbers that are not negative, or times of a clock");
        data_.zm.assign(zm.data(), zm.data() + zm.size());
        data_.zi.assign(zi.data(), zi.data() + zi.size());
        data_.zp.assign(zp.data(), zp.data() + zp.size());
        data_.zs.assign(zs.data(), zs.data() + zs.size());
    }

    nb::tuple modes(Input<1> deviation, Input<1> input, Input<1> memory, Input<1> scale, Input<2> L,
                    double omega, Input<2> start) const {
        const DynamicPoint at = point(deviation, input, memory, scale, L, omega);
        const size_t N = data_.persons(), d = data_.d;
        need(start.shape(0) == N && start.shape(1) == d, "start must have one row a person");
        need_finite(start.data(), start.size(), "start");
        Vector mode(start.data(), start.data() + N * d), factor(N * d * d);
        auto steps = std::make_unique<std::vector<int32_t>>(N);
        unlocked(
            [&] { dynamic_modes(data_, at, mode.data(), factor.data(), steps->data(), threads_); });
        nb::capsule owner(steps.get(),
                          [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
        int32_t* counts = steps.release()->data();
        return nb::make_tuple(to_array(std::move(mode), {N, d}),
                              to_array(std::move(factor), {N, d, d}),
                              Integers(counts, 1, &N, owner));
    }

    nb::dict evaluate(Input<1> deviation, Input<1> input, Input<1> memory, Input<1> scale,
                      Input<2> L, double omega, Input<2> x, Input<1> log_w, Input<2> mode,
                      Cube factor, bool slopes) const {
        const DynamicPoint at = point(deviation, input, memory, scale, L, omega);
        const DynamicNodes nodes = read_nodes(x, log_w, mode, factor);
        const size_t N = data_.persons(), n = slopes ? data_.rows() : 0, r = data_.r();
        const size_t people = slopes ? N : 0;
        need(people * r * r <= most_cells, "there are too many effects of persons");
        Vector loglik(N), in_deviation(n), in_input(n), in_memory(n), in_scale(n);
        Vector in_L(people * r * r), in_omega(people), mean(people * r), second(people * r * r);
        DynamicResult out{loglik.data()};
        if (slopes)
            out = {loglik.data(),    in_deviation.data(), in_input.data(),
                   in_memory.data(), in_scale.data(),     in_L.data(),
                   in_omega.data(),  mean.data(),         second.data()};
        unlocked([&] { dynamic_evaluate(data_, at, nodes, out, threads_); });
        nb::dict d;
        d["loglik"] = to_array(std::move(loglik));
        d["deviation"] = to_array(std::move(in_deviation));
        d["input"] = to_array(std::move(in_input));
        d["memory"] = to_array(std::move(in_memory));
        d["scale"] = to_array(std::move(in_scale));
        d["L"] = to_array(std::move(in_L), {people, r, r});
        d["omega"] = to_array(std::move(in_omega));
        d["mean"] = to_array(std::move(mean), {people, r});
        d["second"] = to_array(std::move(second), {people, r, r});
        return d;
    }

    nb::tuple shares(Input<1> deviation, Input<1> input, Input<1> memory, Input<1> scale,
                     Input<2> L, double omega, Input<2> x, Input<1> log_w, Input<2> mode,
                     Cube factor) const {
        const DynamicPoint at = point(deviation, input, memory, scale, L, omega);
        const DynamicNodes nodes = read_nodes(x, log_w, mode, factor);
        const size_t N = data_.persons(), K = nodes.count, q = data_.q();
        need(N * K * std::max<size_t>(q * q, 1) <= most_cells, "there are too many nodes");
        Vector share(N * K), mean(N * K * q), covariance(N * K * q * q);
        unlocked([&] {
            dynamic_shares(data_, at, nodes, share.data(), mean.data(), covariance.data(),
                           threads_);
        });
        return nb::make_tuple(to_array(std::move(share), {N, K}),
                              to_array(std::move(mean), {N, K, q}),
                              to_array(std::move(covariance), {N, K, q, q}));
    }

  private:
    DynamicPoint point(const Input<1>& deviation, const Input<1>& input, const Input<1>& memory,
                       const Input<1>& scale, const Input<2>& L, double omega) const {
        const size_t n = data_.rows(), r = data_.r();
        for (const auto* one : {&deviation, &input, &memory, &scale}) {
            need(one->shape(0) == n, "deviation, input, memory and scale have one value a row");
            need_finite(one->data(), n, "deviation, input, memory and scale");
        }
        need(L.shape(0) == r && L.shape(1) == r, "L must have one row an effect");
        need_finite(L.data(), r * r, "L");
        need(std::isfinite(omega) && omega > 0, "omega must be positive");
        return {deviation.data(), input.data(), memory.data(), scale.data(), L.data(), omega};
    }

    DynamicNodes read_nodes(const Input<2>& x, const Input<1>& log_w, const Input<2>& mode,
                            const Cube& factor) const {
        const size_t K = x.shape(0), d = data_.d, N = data_.persons();
        need(x.shape(1) == d && log_w.shape(0) == K && K >= 1 && K <= most_paths,
             "nodes must have one weight each, and one value an effect");
        need(mode.shape(0) == N && mode.shape(1) == d && factor.shape(0) == N &&
                 factor.shape(1) == d && factor.shape(2) == d,
             "mode and factor must be those of each person");
        need_finite(x.data(), x.size(), "nodes");
        need_finite(log_w.data(), K, "their weights");
        need_finite(mode.data(), mode.size(), "mode");
        need_finite(factor.data(), factor.size(), "factor");
        return {static_cast<int>(K), x.data(), log_w.data(), mode.data(), factor.data()};
    }

    DynamicData data_;
    int threads_;
};

} // namespace

void bind_dynamic(nb::module_& m) {
    nb::class_<Dynamic>(m, "Dynamic")
        .def(nb::init<const std::string&, bool, Codes, Input<1>, Input<2>, Input<2>, Input<2>,
                      Input<2>, int>(),
             "memory"_a, "given_starts"_a, "first"_a, "gap"_a, "zm"_a, "zi"_a, "zp"_a, "zs"_a,
             "threads"_a)
        .def("modes", &Dynamic::modes, "deviation"_a, "input"_a, "memory"_a, "scale"_a, "L"_a,
             "omega"_a, "start"_a)
        .def("evaluate", &Dynamic::evaluate, "deviation"_a, "input"_a, "memory"_a, "scale"_a, "L"_a,
             "omega"_a, "x"_a, "log_w"_a, "mode"_a, "factor"_a, "slopes"_a)
        .def("shares", &Dynamic::shares, "deviation"_a, "input"_a, "memory"_a, "scale"_a, "L"_a,
             "omega"_a, "x"_a, "log_w"_a, "mode"_a, "factor"_a);
}

} // namespace ranef
