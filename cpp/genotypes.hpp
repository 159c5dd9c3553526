// Genotypes as PLINK 1 packs them: two bits each, four to a byte, the first sample lowest.
//
// A code is 0 for two copies of the first allele, 1 where the call is missing, 2 for one copy
// and 3 for none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ranef {

// One row of bytes a variant.
struct PackedGenotypes {
    const uint8_t* bytes;
    size_t variants, stride;
    const uint8_t* row(size_t v) const { return bytes + v * stride; }
};

// Which samples of a file are looked at, in this order, and which of few groups each is of.
struct ChosenSamples {
    std::vector<int32_t> places, groups;
    int n_groups;
    size_t size() const { return places.size(); }
};

// out : (variants, 4 n_groups), how many chosen samples of each group have each code.
void count_genotypes(const PackedGenotypes& packed, const ChosenSamples& chosen, int32_t* out);

// out : (variants, samples), the value that a variant's table, (4 n_groups), has for each code.
template <class T>
void decode_genotypes(const PackedGenotypes& packed, const ChosenSamples& chosen, const T* tables,
                      T* out);

// The first variant whose bits behind its last sample are not all zero; -1 if there is none.
int64_t first_padded_wrongly(const PackedGenotypes& packed, size_t samples);

// p values of the exact test of Hardy-Weinberg proportions; what is as likely as what was seen
// counts by half (mid-p; Graffelman & Moreno 2013).
// counts : (variants, 3), two copies, one, none.
void exact_proportions(const int32_t* counts, size_t variants, double* out);

} // namespace ranef
