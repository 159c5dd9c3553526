// Rows by group: groups with one number of rows each, whose sums add up by cluster.
#pragma once

#include <algorithm>
#include <vector>

#include "blocks.hpp"
#include "threads.hpp"

namespace ranef {

struct GroupRows {
    int groups = 0, n = 0; // rows of each group
    int w = 0;             // columns
    int clusters = 0, patterns = 0;
    const double* U = nullptr; // (rows, w) row-major
    Indices rows;              // (groups, n): of U
    Indices which;             // (groups): the matrix that a group has, of `patterns`
    Indices cluster;           // (groups)
    Indices order;             // groups by cluster, as they come
    std::vector<int> first;    // (clusters + 1): where each cluster begins in it

    // Counts the clusters; whatever it reads has been checked.
    void sort() {
        first.assign(static_cast<size_t>(clusters) + 1, 0);
        for (int32_t c : cluster) ++first[c + 1];
        for (int c = 0; c < clusters; ++c) first[c + 1] += first[c];
        order.resize(groups);
        std::vector<int> next(first.begin(), first.end() - 1);
        for (int g = 0; g < groups; ++g) order[next[cluster[g]]++] = g;
    }

    const double* row(int g, int j) const {
        return U + static_cast<size_t>(rows[static_cast<size_t>(g) * n + j]) * w;
    }
    // The rows of some groups, (n, count, w): first rows, second rows, ...
    void gather(const int* some, int count, double* out) const {
        for (int j = 0; j < n; ++j)
            for (int b = 0; b < count; ++b, out += w) std::copy_n(row(some[b], j), w, out);
    }
    // Where the sums of a group's cluster begin.
    size_t place(int g, size_t cells) const { return clusters == 1 ? 0 : cluster[g] * cells; }
};

constexpr int most_parts = 64;
constexpr size_t rows_at_once = 256;            // of groups that are worked on together
constexpr size_t most_cells_of_parts = 4 << 20; // numbers of all parts of a sum

// Groups of `n` rows that are worked on together.
inline int groups_at_once(int n) {
    return std::max(1, static_cast<int>(rows_at_once / std::max(n, 1)));
}

// Calls each(groups, count) for the groups first .. last-1 by cluster.
template <class Each>
void in_blocks(const GroupRows& rows, int first, int last, const Each& each) {
    const int block = groups_at_once(rows.n);
    for (int i = first; i < last; i += block) {
        Watch::poll();
        each(rows.order.data() + i, std::min(block, last - i));
    }
}

// Sums (cells) over all groups: make() makes what adds some of them, a thread's own,
// worker(groups, count, into). The parts are those of the problem, and are added in order.
template <class Make>
Vector sums_over_groups(const GroupRows& rows, size_t cells, int threads, const Make& make) {
    const size_t fit = most_cells_of_parts / std::max<size_t>(cells, 1);
    const int parts = static_cast<int>(std::max<size_t>(
        1, std::min({static_cast<size_t>(rows.groups), static_cast<size_t>(most_parts), fit})));
    const auto bounds = partition(rows.groups, parts);
    Vector partial(cells * parts);
    for_chunks(parts, threads, [&](int c) {
        auto worker = make();
        in_blocks(rows, static_cast<int>(bounds[c]), static_cast<int>(bounds[c + 1]),
                  [&](const int* groups, int count) {
                      worker(groups, count, partial.data() + c * cells);
                  });
    });
    for (int c = 1; c < parts; ++c)
        for (size_t i = 0; i < cells; ++i) partial[i] += partial[c * cells + i];
    partial.resize(cells);
    return partial;
}

// The same for each cluster, (clusters, cells): `into` begins with the first cluster, and the
// worker finds each group's own.
template <class Make>
Vector sums_by_cluster(const GroupRows& rows, size_t cells, int threads, const Make& make) {
    if (rows.clusters == 1) return sums_over_groups(rows, cells, threads, make);
    const int parts = std::min(rows.clusters, most_parts);
    Vector out(cells * rows.clusters);
    // clusters of about as many groups a part
    std::vector<int> bounds(static_cast<size_t>(parts) + 1, rows.groups);
    for (int c = 0; c < parts; ++c) {
        const int at = static_cast<int>(static_cast<long long>(rows.groups) * c / parts);
        bounds[c] = *std::lower_bound(rows.first.begin(), rows.first.end() - 1, at);
    }
    for_chunks(parts, threads, [&](int c) {
        auto worker = make();
        in_blocks(rows, bounds[c], bounds[c + 1],
                  [&](const int* groups, int count) { worker(groups, count, out.data()); });
    });
    return out;
}

} // namespace ranef
