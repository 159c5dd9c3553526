// A symmetric matrix with a sparse part of order T and a dense border of p rows:
// its Cholesky factor by supernodes, solves, and its inverse on the factor's pattern.
//
// Positions 0 .. T-1 are the sparse part in elimination order, T .. T+p-1 the border. A
// supernode's columns have the same rows below them and are held as one dense panel,
// column-major, its own rows first. The factor is left-looking, so that every panel is
// made by one task that adds up its descendants in a fixed order: same bits on any number
// of threads. The inverse runs from the last supernode to the first (Takahashi, Fagan and
// Chen 1973): with L21 below L11 and Y = L21 L11^-1,
//   R21 = -R22 Y,   R11 = (L11 L11')^-1 + Y'R22 Y.
#pragma once

#include <cstdint>
#include <vector>

#include "ordering.hpp"

namespace ranef {

using Vector = std::vector<double>;
using std::size_t;

struct SparsePattern {
    // A supernode whose rows begin .. end-1 are columns of another one.
    struct Update {
        int from, begin, end;
    };
    int T = 0;
    std::vector<int> first;         // first position of each supernode, and T
    std::vector<int64_t> row_ptr;   // of `row`
    Indices row;                    // positions, own columns first, ascending
    std::vector<int64_t> value_ptr; // of the panels
    Indices holder;                 // supernode of a position
    std::vector<std::vector<Update>> updates;
    std::vector<Indices> waves; // supernodes that only need those of earlier waves
    std::vector<char> alone;    // in its wave
    double flops = 0;           // of one factorisation

    int count() const { return static_cast<int>(first.size()) - 1; }
    int width(int s) const { return first[s + 1] - first[s]; }
    int rows(int s) const { return static_cast<int>(row_ptr[s + 1] - row_ptr[s]); }
    const int32_t* rows_of(int s) const { return row.data() + row_ptr[s]; }
    // Whether a supernode has threads of its own: by_waves() visits it alone.
    bool wide_alone(int s) const { return width(s) >= 256 && alone[s]; }
    int64_t size() const { return value_ptr.back(); }
    // Where (i, j) stands, i >= j; -1 outside the pattern.
    int64_t place(int i, int j) const;

    // Of an elimination of nodes with so many columns each; `start` becomes the position of
    // each node's first column.
    SparsePattern(const Elimination& order, const Indices& weight, Indices& start);
};

struct BorderedMatrix {
    Vector panels; // lower triangle; of an inverse the diagonal blocks are full
    Vector border; // (T, p): rows T .. T+p-1 of each column
    Vector corner; // (p, p) column-major, lower

    BorderedMatrix() = default;
    BorderedMatrix(const SparsePattern& pattern, int p)
        : panels(static_cast<size_t>(pattern.size())), border(static_cast<size_t>(pattern.T) * p),
          corner(static_cast<size_t>(p) * p) {}
};

// In place; false when a pivot is not positive.
bool factorise(const SparsePattern& pattern, int p, BorderedMatrix& S, int threads);
// X (T + p, k), columns ldx apart := L^-1 X, or L^-T X. Where X is zero nothing is done.
void forward_solve(const SparsePattern& pattern, int p, const BorderedMatrix& L, int k, double* X,
                   int ldx, int threads = 1);
void backward_solve(const SparsePattern& pattern, int p, const BorderedMatrix& L, int k, double* X,
                    int ldx, int threads = 1);
// The inverse on the pattern, or (no border) that of the sparse part alone with zeros beside.
void selected_inverse(const SparsePattern& pattern, int p, const BorderedMatrix& L, bool border,
                      BorderedMatrix& R, int threads);
// A := S^-1 A S^-1 on the pattern, A symmetric on it and S^-1 from selected_inverse(): minus
// the derivative of the inverse in the direction A, by that of the factor and of the recursion.
void inverse_derivative(const SparsePattern& pattern, int p, const BorderedMatrix& L,
                        const BorderedMatrix& inverse, bool border, BorderedMatrix& A, int threads);
// Y (T + p, k) := Q X.
void symmetric_times(const SparsePattern& pattern, int p, const BorderedMatrix& Q, int k,
                     const double* X, double* Y);

} // namespace ranef
