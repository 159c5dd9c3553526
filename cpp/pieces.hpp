// BLAS does not look for an interrupt: what takes it long is asked for in pieces.
#pragma once

#include <algorithm>

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

} // namespace ranef
