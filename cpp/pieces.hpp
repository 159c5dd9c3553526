// BLAS does not look for an interrupt: what takes it long is asked for in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "watch.hpp"

namespace ranef {

constexpr double operations_at_once = 2e9; // of one call of BLAS: a fraction of a second
constexpr int least_piece = 16;            // columns: fewer are not worth a call

// Columns (rows, blocks) that go to one call, if each takes that many operations.
inline int piece_of(int count, double operations_each) {
    const double most = operations_at_once / std::max(operations_each, 1.0);
    return most >= count ? count : std::min(count, std::max(static_cast<int>(most), least_piece));
}

// Calls piece(first, size) for stretches of 0 .. count-1.
template <class Piece>
void in_pieces(int count, double operations_each, Piece&& piece) {
    const int size = piece_of(count, operations_each);
    for (int from = 0; from < count; from += size) {
        if (from > 0) Watch::poll();
        piece(from, std::min(size, count - from));
    }
}

// Values that the system hands out as they are touched, which takes it long where they are many:
// zeros, or those of another place.
inline std::vector<double> taken_in_pieces(std::size_t count, const double* from = nullptr) {
    constexpr std::size_t piece = std::size_t{1} << 22;
    std::vector<double> out;
    out.reserve(count);
    while (out.size() < count) {
        const std::size_t size = std::min(piece, count - out.size());
        if (from)
            out.insert(out.end(), from + out.size(), from + out.size() + size);
        else
            out.resize(out.size() + size);
        Watch::poll();
    }
    return out;
}

} // namespace ranef
