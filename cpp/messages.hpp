// Likelihood of nested normal levels by messages (P, h, c) from each unit to the one above.
//
// Row i of a unit at level 2 has y_i = B x_i + sum_c v_c l_c x_{i, k(c)} + e_i, e_i ~ N(0, W), of
// which a pattern is observed. The coordinates v of a unit at level l are N(m + t, S) with t what
// the levels above add; of them the last q are observed themselves (values that vary between
// units alone, or are missing), the first a are not. A unit's likelihood as a function of t is
// exp(-1/2 (c - 2 h't + t'Pt)). S may be singular, and indefinite where the likelihood allows it.
//
// Derivatives are expectations given the data (Fisher's identity), made on the way down.
#pragma once

#include <cstdint>
#include <vector>

#include "blocks.hpp"

namespace ranef {

// One level above the rows.
struct UpperLevel {
    int units = 0;
    int a = 0, q = 0;             // coordinates not observed, and observed
    std::vector<int> first;       // (units + 1): its pieces or units of the level below
    Vector z;                     // (units, q), zero where missing
    std::vector<int> pattern;     // (units): which z are observed
    std::vector<Indices> present; // by pattern (q): 1 where observed
    std::vector<int> up;          // (a + q): coordinate of the level above, or -1

    int size() const { return a + q; }
};

// Cross-products of the rows of a unit and pattern: x'x (k, k), x'y (k, p), y'y (p, p).
struct RowSums {
    Vector xx, xy, yy;
};

struct MessageData {
    int p = 0, k = 1;             // responses, columns of x
    std::vector<Indices> present; // by pattern (p)
    RowSums totals;               // by pattern
    std::vector<int> pattern;     // of each piece
    RowSums pieces;               // yy empty where it was not given
    std::vector<int> column;      // of each coordinate of level 2: its column of x
    std::vector<int> response;    // and its response, or -1 - s where its loadings are row s
    int slopes = 0;
    std::vector<UpperLevel> levels;
    Vector share, unit; // of the highest units: how many each stands for, and its multiple of means
};

struct MessageParameters {
    const double* W; // (p, p)
    const double* B; // (p, k)
    const double* L; // (slopes, p)
    std::vector<const double*> S, m;
};

// In the order of MessageParameters, one after the other.
size_t moments_of(const MessageData& data);

// -2 log L; NaN where a covariance matrix of what is observed is not positive definite. The
// gradient (moments) is not made where it is null. Matrices count as free in every entry.
double message_criterion(const MessageData& data, const MessageParameters& at, double* gradient,
                         int threads);

// The same of each unit of the highest level: values (units), gradients (units, moments) times
// `directions` (moments, columns), either null. Needs y'y of the pieces.
void message_units(const MessageData& data, const MessageParameters& at, const double* directions,
                   int columns, double* values, double* scores, int threads);

// Units of one level given each of a set of nodes, the values of effects that are no coordinates.
struct NodePlan {
    std::vector<int> first; // (units + 1): pairs of each unit
    std::vector<int> node;  // (pairs)
    Vector volume;          // (pairs): log of what its node stands for in the integral
    std::vector<int> order; // (units): units alike one after the other
    std::vector<int> alike; // (units): the same for units of the same design
};

// Fills order and alike.
void designs_of(const MessageData& data, NodePlan& plan);

// -2 log of the integral over the nodes, sum over k of exp(prior_k + volume_jk) L_j(k), of all
// units of a single level above the rows. Gradients (nodes, moments), posterior weights (pairs)
// and values (units) are not made where they are null. Needs y'y of the pieces.
double message_nodes(const MessageData& data, const std::vector<MessageParameters>& at,
                     const double* prior, const NodePlan& plan, double* gradient, double* weight,
                     double* values, int threads);

// Means (units, size) and covariances (units, size, size) of the coordinates of a level that are
// not observed, given all data.
void message_posterior(const MessageData& data, const MessageParameters& at, int level,
                       double* means, double* covariances);

} // namespace ranef
