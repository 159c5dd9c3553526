// The cross-products of a linear mixed model, in blocks.
//
// The data are read once. With Z = [Z_chain, Z_tail] the blocks are those of
// [Z X y]' W [Z X y], W the precision weights. Factors of the *chain* are nested,
// finest first; their levels are eliminated one by one. Factors of the *tail*
// and the fixed effects end in one dense matrix. A single factor is a chain of
// one without a tail; crossed factors are a chain of one (the largest) with a
// tail; a chain of several factors has no tail. Without random effects there is neither.
//
// Inside, the columns of each term are standardised (and, where a term has an
// intercept and an unstructured covariance, centred): z_e = (z - shift) / scale.
// `basis` says how to come back: b_user = basis b_e.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fixed_rows.hpp"
#include "structure.hpp"

namespace ranef {

using std::size_t;
using Vector = std::vector<double>;
using Indices = std::vector<int32_t>;

struct Term {
    int first; // its first column within the factor
    std::shared_ptr<Structure> structure;
    int parameters; // of the structure
    int offset;     // of its parameters in phi
    Vector basis;   // (r, r) row-major
    // (r) or empty, which is ones: of the linear predictor of each column, of which b_e is a
    // multiple
    Vector units;
    std::vector<int> owners; // (r) or empty: the predictor of each column, where there are several
};

struct Factor {
    int q = 0, r = 0;
    std::shared_ptr<const Indices> kept_codes; // (n): a copy, since indices are trusted
    const int32_t* codes = nullptr;            // its data
    const double* z = nullptr;                 // (n, r) row-major, as the user gave it
    Vector shift, inverse_scale;               // (r)
    std::vector<Term> terms;
    std::shared_ptr<const Vector> kernel; // (q, q) lower Cholesky factor, column-major, or null
    Indices rank_of;                      // user level -> internal level
    Indices level_at;                     // internal level -> user level
    int depth = -1;                       // position in the chain, or -1: tail
    int column = 0;                       // tail: first column of its levels
    double z_at(size_t row, int a) const { return (z[row * r + a] - shift[a]) * inverse_scale[a]; }
};

// One factor of the chain: per level a panel (r, width) row-major with columns
// [own r | ancestors, next coarser first | X].
struct ChainBlock {
    int factor = 0;
    int q = 0, r = 0, width = 0;
    Vector panel;
    std::vector<Indices> ancestor; // [k][level]: level at depth + 1 + k
};

// Cross-products between two tail factors, by level pairs.
struct PairBlock {
    int f = 0, g = 0; // column offset of f below that of g
    Indices level_f, level_g;
    Vector values; // (pairs, r_f, r_g)
};

// What depends on the response.
struct Response {
    std::vector<Vector> chain; // [depth] (q, r)
    Vector tail;               // (T)
    Vector fixed;              // (p)
    double square = 0;
};

struct SparseLayout;

struct Blocks {
    size_t n = 0;
    int p = 0, T = 0;
    FixedRows X;               // (n, p)
    Vector x_scale;            // (p) its columns are to be multiplied by
    const double* w = nullptr; // (n) or null
    double log_weights = 0;
    std::vector<Factor> factors;
    std::vector<int> tail;         // factor indices, in column order
    std::vector<ChainBlock> chain; // finest first
    // leader against tail: for level l the columns tail_column[ptr[l] .. ptr[l+1])
    // and values (r, m_l) row-major at r * ptr[l]
    std::vector<int64_t> tail_ptr;
    Indices tail_column;
    Vector tail_value;
    std::vector<Vector> tail_diagonal; // [tail factor] (q, r, r)
    std::vector<PairBlock> tail_pairs;
    std::shared_ptr<const SparseLayout> sparse; // of the tail, or null: dense
    Vector tail_fixed;                          // (T, p) row-major
    Vector fixed;                               // (p, p) row-major
    bool blas_fixed = false; // many fixed effects, whose products with a level are not mostly zero
    int parameters = 0;
    // boundaries of the chunks, [depth][chunk]
    std::vector<std::vector<size_t>> chunk;
    int chunks = 1;

    int order() const { return T + p; }
    size_t bytes() const;
    Response respond(const double* y, int threads = 1) const;
};

struct TermInput {
    std::string structure;
    int size = 0, rank = 0, dimensions = 0;
    Vector positions;
    Vector units;            // (size) or empty: of the linear predictor of each column
    std::vector<int> owners; // (size) or empty: which predictor that is, where there are several
};

struct FactorInput {
    std::shared_ptr<const Indices> codes; // (n)
    const double* z = nullptr;            // (n, columns of the terms) row-major
    int q = 0;
    std::vector<TermInput> terms;
    std::shared_ptr<const Vector> kernel; // (q, q) lower Cholesky factor, column-major, or null
};

struct FixedInput {
    FixedRows X; // (n, p)
    int p = 0;
    Vector scale; // (p) factors of its columns
    Vector gram;  // (p, p) X'X of the scaled columns, without weights
};

// chain: factor indices, finest first; the other factors form the tail.
std::unique_ptr<Blocks> assemble(size_t n, const std::vector<FactorInput>& factors,
                                 const FixedInput& fixed, const double* weights,
                                 const std::vector<int>& chain, int threads,
                                 bool sparse_tail = false);

// Distinct pairs of levels that occur together; -1 once they exceed `limit`. Throws
// std::invalid_argument where a code is out of range.
int64_t count_pairs(size_t n, const int32_t* f, int qf, const int32_t* g, int qg, int64_t limit);

} // namespace ranef
