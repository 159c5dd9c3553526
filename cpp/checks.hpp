// What the core takes: checked where it comes in, trusted from there on.
//
// Each check throws std::invalid_argument (in Python a ValueError) that says what is wrong.
// What is refused: numbers that are not finite, lengths and indices that do not fit, sizes
// beyond what the core counts with (rows and columns in int32), and designs that break what a
// path relies on: a chain of factors that nest in each other, finest first, without kernels.
#pragma once

#include <string>
#include <vector>

#include "blocks.hpp"

namespace ranef {

constexpr int most_columns_of_term = 10000; // their matrices hold 1e8 numbers
constexpr double most_parameters = 1e5;     // of all covariances: their Hessian holds 1e10
constexpr int most_nodes = 100;             // of a quadrature, along one effect
constexpr double most_paths = 1e7;          // of nodes of a level and its ancestors
constexpr int most_roots = 1000;            // of a Hermite polynomial
constexpr size_t most_rows = 2147483647;    // row numbers are int32
constexpr int most_threads = 1024;          // more are not started

// Throws std::invalid_argument with these words unless it holds.
void need(bool holds, const char* words);
void need(bool holds, const std::string& words);

// All of them finite; `name` says whose they are.
void need_finite(const double* values, size_t count, const std::string& name);
// None of them NaN.
void need_numbers(const double* values, size_t count, const std::string& name);
// Weights of rows: finite, above zero, or where they may be zero not below.
void need_weights(const double* values, size_t count, bool may_be_zero);
// 0 .. below - 1.
void need_index(int index, size_t below, const char* name);

// The columns of a structure; what its kind needs is checked where it is made.
void check_structure(int size);
// One factor of n rows: its codes, its terms and their z, its kernel.
void check_factor(size_t n, const FactorInput& factor);
// The factors together, with p fixed effects: that there are any, the order of the tail, and
// the chain.
void check_design(size_t n, const std::vector<FactorInput>& factors, int p,
                  const std::vector<int>& chain);
// A quadrature of these nodes on a checked design.
void check_quadrature(int nodes, const std::vector<FactorInput>& factors,
                      const std::vector<int>& chain);

// As many as are asked for, at most `most_threads`.
int checked_threads(int threads);

} // namespace ranef
