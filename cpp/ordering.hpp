// In which order to eliminate the levels of a sparse tail, and what fills in.
//
// Whatever is eliminated before the tail leaves cliques: all levels that one level
// of the leader meets. The graph is held as these cliques only (a quotient graph),
// and the order is one of approximate minimum degree (Amestoy, Davis and Duff 1996).
#pragma once

#include <cstdint>
#include <vector>

namespace ranef {

using Indices = std::vector<int32_t>;

// Nodes in elimination order, by supernodes: groups of consecutive nodes that have the
// same nodes below them.
struct Elimination {
    std::vector<Indices> own;   // nodes of each supernode
    std::vector<Indices> below; // nodes that remain and meet one of them
};

// cliques: nodes of each; weight: columns of each node.
Elimination minimum_degree(const std::vector<Indices>& cliques, const Indices& weight);

} // namespace ranef
