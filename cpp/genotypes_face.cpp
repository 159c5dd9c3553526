// The Python side of packed genotypes.
#include "arrays.hpp"
#include "faces.hpp"
#include "genotypes.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Singles = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int most_groups = 16;

template <class T>
nb::ndarray<nb::numpy, T> matrix_of(std::unique_ptr<T[]> values, size_t rows, size_t columns) {
    T* data = values.release();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    const size_t shape[2] = {rows, columns};
    return nb::ndarray<nb::numpy, T>(data, 2, shape, owner);
}

PackedGenotypes packed_of(const Bytes& packed) {
    return {packed.data(), packed.shape(0), packed.shape(1)};
}

ChosenSamples chosen_of(const Bytes& packed, const Codes& samples, const Codes& groups,
                        int n_groups) {
    need(n_groups >= 1 && n_groups <= most_groups, "there must be from 1 to 16 groups");
    need(samples.size() == groups.size(), "samples and groups differ in length");
    ChosenSamples out{{samples.data(), samples.data() + samples.size()},
                      {groups.data(), groups.data() + groups.size()},
                      n_groups};
    const int64_t most = 4 * static_cast<int64_t>(packed.shape(1));
    for (int32_t s : out.places) need(s >= 0 && s < most, "a sample is not in the file");
    for (int32_t g : out.groups) need(g >= 0 && g < n_groups, "a group is out of range");
    return out;
}

nb::ndarray<nb::numpy, int32_t> count(const Bytes& packed, const Codes& samples,
                                      const Codes& groups, int n_groups) {
    const ChosenSamples chosen = chosen_of(packed, samples, groups, n_groups);
    const PackedGenotypes genotypes = packed_of(packed);
    const size_t kinds = 4 * static_cast<size_t>(n_groups);
    std::unique_ptr<int32_t[]> out(new int32_t[genotypes.variants * kinds]);
    unlocked([&] { count_genotypes(genotypes, chosen, out.get()); });
    return matrix_of(std::move(out), genotypes.variants, kinds);
}

template <class T, class Tables>
nb::ndarray<nb::numpy, T> decode(const Bytes& packed, const Codes& samples, const Codes& groups,
                                 int n_groups, const Tables& tables) {
    const ChosenSamples chosen = chosen_of(packed, samples, groups, n_groups);
    const PackedGenotypes genotypes = packed_of(packed);
    need(tables.shape(0) == genotypes.variants &&
             tables.shape(1) == 4 * static_cast<size_t>(n_groups),
         "tables must have a row a variant, and 4 values a group");
    std::unique_ptr<T[]> out(new T[genotypes.variants * chosen.size()]);
    unlocked([&] { decode_genotypes(genotypes, chosen, tables.data(), out.get()); });
    return matrix_of(std::move(out), genotypes.variants, chosen.size());
}

Array proportions(const Counts& counts) {
    need(counts.shape(1) == 3, "counts of genotypes have three columns");
    const std::vector<int32_t> kept(counts.data(), counts.data() + counts.size());
    for (int32_t c : kept) need(c >= 0, "counts must not be negative");
    Vector out(counts.shape(0));
    unlocked([&] { exact_proportions(kept.data(), out.size(), out.data()); });
    return to_array(std::move(out));
}

} // namespace

void bind_genotypes(nb::module_& m) {
    m.def("count_genotypes", &count, "packed"_a, "samples"_a, "groups"_a, "n_groups"_a);
    m.def("decode_genotypes", &decode<double, Input<2>>, "packed"_a, "samples"_a, "groups"_a,
          "n_groups"_a, "tables"_a);
    m.def("decode_genotypes_single", &decode<float, Singles>, "packed"_a, "samples"_a, "groups"_a,
          "n_groups"_a, "tables"_a);
    m.def(
        "first_padded_wrongly",
        [](const Bytes& packed, int64_t samples) {
            need(samples >= 0, "a number of samples must not be negative");
            int64_t found = -1;
            unlocked([&] {
                found = first_padded_wrongly(packed_of(packed), static_cast<size_t>(samples));
            });
            return found;
        },
        "packed"_a, "samples"_a);
    m.def("exact_proportions", &proportions, "counts"_a);
}

} // namespace ranef
