#include "genotypes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "watch.hpp"

namespace ranef {
namespace {

constexpr size_t often = 64;         // variants between two looks at the watch
constexpr double last_digit = 1e-17; // beside a sum, half of its last digit or less

// The four codes of each byte, as four bytes.
const std::array<std::array<uint8_t, 4>, 256>& codes_of_bytes() {
    static const auto table = [] {
        std::array<std::array<uint8_t, 4>, 256> made{};
        for (int byte = 0; byte < 256; ++byte)
            for (int k = 0; k < 4; ++k) made[byte][k] = (byte >> (2 * k)) & 3;
        return made;
    }();
    return table;
}

void unpack(const uint8_t* row, size_t stride, uint8_t* codes) {
    const auto& table = codes_of_bytes();
    for (size_t b = 0; b < stride; ++b) std::memcpy(codes + 4 * b, table[row[b]].data(), 4);
}

bool in_order(const std::vector<int32_t>& places) {
    for (size_t j = 0; j < places.size(); ++j)
        if (places[j] != static_cast<int32_t>(j)) return false;
    return true;
}

// Hands each variant's codes of the chosen samples, with 4 times their group added, to `use`.
template <class Use>
void for_variants(const PackedGenotypes& packed, const ChosenSamples& chosen, Use&& use) {
    const size_t n = chosen.size();
    std::vector<uint8_t> whole(4 * packed.stride), picked(n), offsets(n);
    for (size_t j = 0; j < n; ++j) offsets[j] = static_cast<uint8_t>(4 * chosen.groups[j]);
    const bool straight = in_order(chosen.places), grouped = chosen.n_groups > 1;
    for (size_t v = 0; v < packed.variants; ++v) {
        if (v % often == 0) Watch::poll();
        unpack(packed.row(v), packed.stride, whole.data());
        const uint8_t* codes = whole.data();
        if (!straight || grouped) {
            for (size_t j = 0; j < n; ++j) picked[j] = whole[chosen.places[j]] + offsets[j];
            codes = picked.data();
        }
        use(v, codes);
    }
}

int32_t count_of(const uint8_t* codes, size_t n, uint8_t code) {
    int32_t count = 0;
    for (size_t j = 0; j < n; ++j) count += codes[j] == code;
    return count;
}

// Probabilities of heterozygotes relative to their most likely number, given the alleles, summed:
// all of them, and those less likely than what was seen, with half of those that are as likely.
double mid_p(int64_t hom1, int64_t het, int64_t hom2) {
    const int64_t rare = 2 * std::min(hom1, hom2) + het, n = hom1 + het + hom2;
    const double share = static_cast<double>(rare) / static_cast<double>(2 * n);
    int64_t mode = static_cast<int64_t>(static_cast<double>(rare) * (1.0 - share));
    mode += (mode ^ rare) & 1;
    mode = std::min(mode, rare);
    // One to the other side, two heterozygotes at a time, as long as `take` wants more; `seen`
    // first.
    int64_t taken = 0;
    const auto each = [&](auto&& take) {
        const auto more = [&](int64_t h, double p) {
            if ((++taken & 65535) == 0) Watch::poll();
            return take(h, p);
        };
        double p = 1.0;
        int64_t two = (rare - mode) / 2, none = n - mode - two;
        more(mode, p);
        for (int64_t h = mode; h >= 2; h -= 2) {
            p *= static_cast<double>(h) * static_cast<double>(h - 1) /
                 (4.0 * static_cast<double>(two + 1) * static_cast<double>(none + 1));
            ++two, ++none;
            if (!more(h - 2, p)) break;
        }
        p = 1.0;
        two = (rare - mode) / 2, none = n - mode - two;
        for (int64_t h = mode; h + 2 <= rare; h += 2) {
            p *= 4.0 * static_cast<double>(two) * static_cast<double>(none) /
                 (static_cast<double>(h + 2) * static_cast<double>(h + 1));
            --two, --none;
            if (!more(h + 2, p)) break;
        }
    };
    double seen = 0.0, total = 0.0, tail = 0.0;
    // They fall to both sides: none changes a sum once one of them is below its last digit.
    each([&](int64_t h, double p) {
        total += p;
        if (h == het) seen = p;
        const bool passed = h < mode ? het >= h : het <= h;
        return !passed || p > last_digit * total;
    });
    each([&](int64_t h, double p) {
        if (p < seen * (1.0 - 1e-9))
            tail += p;
        else if (p <= seen * (1.0 + 1e-9)) // what was seen, and what is as likely
            tail += 0.5 * p;
        return p > last_digit * tail;
    });
    return tail / total;
}

} // namespace

void count_genotypes(const PackedGenotypes& packed, const ChosenSamples& chosen, int32_t* out) {
    const size_t n = chosen.size();
    const int kinds = 4 * chosen.n_groups;
    for_variants(packed, chosen, [&](size_t v, const uint8_t* codes) {
        for (int k = 0; k < kinds; ++k)
            out[v * kinds + k] = count_of(codes, n, static_cast<uint8_t>(k));
    });
}

template <class T>
void decode_genotypes(const PackedGenotypes& packed, const ChosenSamples& chosen, const T* tables,
                      T* out) {
    const size_t n = chosen.size();
    const size_t kinds = 4 * static_cast<size_t>(chosen.n_groups);
    for_variants(packed, chosen, [&](size_t v, const uint8_t* codes) {
        const T* table = tables + v * kinds;
        T* row = out + v * n;
        for (size_t j = 0; j < n; ++j) row[j] = table[codes[j]];
    });
}

template void decode_genotypes<float>(const PackedGenotypes&, const ChosenSamples&, const float*,
                                      float*);
template void decode_genotypes<double>(const PackedGenotypes&, const ChosenSamples&, const double*,
                                       double*);

int64_t first_padded_wrongly(const PackedGenotypes& packed, size_t samples) {
    const size_t used = samples % 4;
    if (used == 0 || packed.stride == 0) return -1;
    for (size_t v = 0; v < packed.variants; ++v)
        if (packed.row(v)[packed.stride - 1] >> (2 * used)) return static_cast<int64_t>(v);
    return -1;
}

void exact_proportions(const int32_t* counts, size_t variants, double* out) {
    for (size_t v = 0; v < variants; ++v) {
        if (v % often == 0) Watch::poll();
        const int32_t* c = counts + 3 * v;
        out[v] = c[0] + c[1] + c[2] > 0 ? mid_p(c[0], c[1], c[2]) : std::nan("");
    }
}

} // namespace ranef
