// Python's side of reads on a grid of contamination.
#include "contamination.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "arrays.hpp"
#include "faces.hpp"
#include "pieces.hpp"

using namespace nb::literals;

namespace ranef {

namespace {

constexpr std::size_t most_grid = 10000;
constexpr std::size_t most_table = 1u << 30;

EvenGrid checked_grid(double first, double step, std::size_t K) {
    need(std::isfinite(first) && step > 0 && step < 100, "the grid needs a finite step above 0");
    need(K >= 1 && K <= most_grid, "the grid must have 1 to 10000 nodes");
    const double last = first + step * static_cast<double>(K);
    need(first > -300 && last < 300, "the grid must lie between -300 and 300");
    return {first, step, K};
}

CountedPairs checked_pairs(const Input<1>& reads, const Input<1>& rate, const Input<1>& spill) {
    const std::size_t P = reads.shape(0);
    need(rate.shape(0) == P && spill.shape(0) == P, "rate and spill must have one value a pair");
    for (const auto* values : {&reads, &rate, &spill})
        for (std::size_t p = 0; p < P; ++p)
            need(values->data()[p] >= 0 && values->data()[p] < 1e200,
                 "reads, rate and spill must be finite and not below 0");
    return {P, reads.data(), rate.data(), spill.data()};
}

double checked_size(double phi) {
    need(phi > 1e-9 && phi < 1e9, "the size must lie between 1e-9 and 1e9");
    return phi;
}

Mixture checked_mixture(const Input<2>& without, const Input<2>& jump, const Input<2>& with,
                        const Input<1>& pi, const Input<1>& jumps, bool may_be_one) {
    const std::size_t P = with.shape(0), K = with.shape(1);
    need(K >= 1, "the tables must have a column");
    const std::size_t absent = without.shape(1);
    need(without.shape(0) == P && jump.shape(0) == P && jump.shape(1) == absent &&
             (absent == K || (may_be_one && absent == 1)),
         "the tables must have one shape");
    need(pi.shape(0) == P && jumps.shape(0) == P, "pi and jumps must have one value a pair");
    return {P, K, absent, without.data(), jump.data(), with.data(), pi.data(), jumps.data()};
}

void check_places(const Codes& places, std::size_t P, std::size_t below, const char* name) {
    need(places.shape(0) == P, std::string(name) + " must have one value a pair");
    for (std::size_t p = 0; p < P; ++p) need_index(places.data()[p], below, name);
}

std::vector<int32_t> copied(const Codes& codes) {
    return {codes.data(), codes.data() + codes.shape(0)};
}

// Copies of the codes, checked.
struct HeldShifts {
    std::vector<int32_t> shift, reach;
    const Input<1> side;

    HeldShifts(const Codes& shifts, const Codes& reaches, const Input<1>& sides, std::size_t P)
        : shift(copied(shifts)), reach(copied(reaches)), side(sides) {
        need(shift.size() == P && reach.size() == P && side.shape(0) == P,
             "shift, reach and side must have one value a pair");
        for (const int32_t one : shift)
            need(one >= -most_shift && one <= most_shift, "a shift must be -1000 to 1000 nodes");
        for (const int32_t one : reach)
            need(one >= 0 && one <= most_shift, "a reach must be 0 to 1000 nodes");
        for (std::size_t p = 0; p < P; ++p)
            need(side.data()[p] >= 0 && side.data()[p] <= 0.5,
                 "the weight of a side must lie between 0 and 1/2");
    }
    Shifts view() const { return {shift.data(), reach.data(), side.data()}; }
};

nb::tuple on_grid(Input<1> reads, Input<1> rate, Input<1> spill, Codes shift, Codes reach,
                  Input<1> side, double first, double step, std::size_t nodes, double size) {
    const CountedPairs pairs = checked_pairs(reads, rate, spill);
    const EvenGrid grid = checked_grid(first, step, nodes);
    const double phi = checked_size(size);
    const HeldShifts held(shift, reach, side, pairs.P);
    int32_t furthest = 0;
    for (std::size_t p = 0; p < pairs.P; ++p)
        furthest = std::max(furthest, std::abs(held.shift[p]) + held.reach[p]);
    need(furthest * step < 300, "shifts must stay below 300");
    need(pairs.P <= most_table / nodes, "the table is too large");
    Vector plain, shifted, top(pairs.P);
    unlocked([&] {
        plain = taken_in_pieces(pairs.P * nodes);
        shifted = taken_in_pieces(pairs.P * nodes);
        counts_on_grid(pairs, held.view(), grid, phi, plain.data(), shifted.data(), top.data());
    });
    return nb::make_tuple(to_array(std::move(plain), {pairs.P, nodes}),
                          to_array(std::move(shifted), {pairs.P, nodes}), to_array(std::move(top)));
}

Array shifted_rows(Input<2> values, Codes shift, Codes reach, Input<1> side) {
    const std::size_t P = values.shape(0), K = values.shape(1);
    need(K >= 1 && K <= most_grid, "the grid must have 1 to 10000 nodes");
    const HeldShifts held(shift, reach, side, P);
    Vector out;
    unlocked([&] {
        out = taken_in_pieces(P * K);
        shift_rows(P, K, held.view(), values.data(), out.data());
    });
    return to_array(std::move(out), {P, K});
}

nb::tuple mix(Input<2> without, Input<2> jump, Input<2> with, Input<1> pi, Input<1> jumps,
              Input<1> scale, Input<2> zero, Codes zero_row, Codes place, std::size_t leaves) {
    const Mixture mixture = checked_mixture(without, jump, with, pi, jumps, true);
    const std::size_t P = mixture.P, K = mixture.K;
    need(scale.shape(0) == P, "scale must have one value a pair");
    need(zero.shape(1) == K, "zero must have a column a node");
    need(leaves >= 1 && leaves <= most_table / K, "there are too many leaves");
    check_places(zero_row, P, zero.shape(0), "a row of zero");
    check_places(place, P, leaves, "a leaf");
    const auto rows = copied(zero_row), places = copied(place);
    Vector mixed, leaf;
    unlocked([&] {
        mixed = taken_in_pieces(P * K);
        leaf = taken_in_pieces(leaves * K);
        mix_counts(mixture, scale.data(), zero.data(), rows.data(), places.data(), mixed.data(),
                   leaf.data());
    });
    return nb::make_tuple(to_array(std::move(mixed), {P, K}),
                          to_array(std::move(leaf), {leaves, K}));
}

Array expect(Input<2> without, Input<2> jump, Input<2> with, Input<1> pi, Input<1> jumps,
             Input<1> reads, Input<1> rate, Input<1> spill, double first, double step, double size,
             Input<2> mixed, Input<2> post, Codes place) {
    const Mixture mixture = checked_mixture(without, jump, with, pi, jumps, false);
    const CountedPairs pairs = checked_pairs(reads, rate, spill);
    const EvenGrid grid = checked_grid(first, step, mixture.K);
    const double phi = checked_size(size);
    need(pairs.P == mixture.P, "reads must have one value a row of the tables");
    need(mixed.shape(0) == mixture.P && mixed.shape(1) == mixture.K,
         "mixed must have the shape of the tables");
    need(post.shape(1) == mixture.K, "post must have a column a node");
    check_places(place, mixture.P, post.shape(0), "a leaf");
    const auto places = copied(place);
    Vector out(7 * mixture.P);
    unlocked([&] {
        expect_counts(mixture, pairs, grid, phi, mixed.data(), post.data(), places.data(),
                      out.data());
    });
    return to_array(std::move(out), {7, mixture.P});
}

} // namespace

void bind_contamination(nb::module_& m) {
    m.def("shift_rows", &shifted_rows, "values"_a, "shift"_a, "reach"_a, "side"_a);
    m.def("counts_on_grid", &on_grid, "reads"_a, "rate"_a, "spill"_a, "shift"_a, "reach"_a,
          "side"_a, "first"_a, "step"_a, "nodes"_a, "size"_a);
    m.def("mix_counts", &mix, "without"_a, "jump"_a, "present"_a, "pi"_a, "jumps"_a, "scale"_a,
          "zero"_a, "zero_row"_a, "place"_a, "leaves"_a);
    m.def("expect_counts", &expect, "without"_a, "jump"_a, "present"_a, "pi"_a, "jumps"_a,
          "reads"_a, "rate"_a, "spill"_a, "first"_a, "step"_a, "size"_a, "mixed"_a, "post"_a,
          "place"_a);
}

} // namespace ranef
