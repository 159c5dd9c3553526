#include "ordering.hpp"

#include <algorithm>
#include <numeric>
#include <queue>

namespace ranef {

namespace {

// Once a pivot meets this share of all that remains, the rest is one dense block.
constexpr double dense_share = 0.7;
// Supernodes are merged with their parent where this share of zeros comes in.
constexpr double most_zeros = 0.15;
constexpr int64_t small = 8; // columns; below, more zeros are worth it
constexpr double most_small_zeros = 0.4;

class QuotientGraph {
  public:
    QuotientGraph(const std::vector<Indices>& cliques, const Indices& weight)
        : n_(static_cast<int>(weight.size())), node_cliques_(n_), members_(n_), weight_(weight),
          degree_(n_), live_(n_, 1), mark_(n_, -1) {
        for (int v = 0; v < n_; ++v) members_[v].push_back(v);
        for (const Indices& clique : cliques) {
            if (clique.size() < 2) continue;
            for (int32_t v : clique) node_cliques_[v].push_back(clique_count());
            add_clique(clique);
        }
        remaining_ = std::accumulate(weight_.begin(), weight_.end(), int64_t{0});
        for (int v = 0; v < n_; ++v) {
            int64_t d = 0;
            for (int e : node_cliques_[v]) d += size_[e] - weight_[v];
            degree_[v] = std::min(d, remaining_ - weight_[v]);
            queue_.emplace(degree_[v], v);
        }
    }

    Elimination run() {
        Elimination out;
        while (remaining_ > 0) {
            const int p = next();
            Indices reach = neighbours(p);
            if (static_cast<double>(reached_ + weight_[p]) >=
                dense_share * static_cast<double>(remaining_)) {
                out.own.push_back(rest());
                out.below.emplace_back();
                break;
            }
            out.own.push_back(members_[p]);
            Indices below;
            for (int32_t v : reach)
                below.insert(below.end(), members_[v].begin(), members_[v].end());
            out.below.push_back(std::move(below));
            eliminate(p, std::move(reach));
        }
        return out;
    }

  private:
    int clique_count() const { return static_cast<int>(clique_.size()); }

    void add_clique(const Indices& nodes) {
        int64_t size = 0;
        for (int32_t v : nodes) size += weight_[v];
        clique_.push_back(nodes);
        size_.push_back(size);
        outside_.push_back(0);
        stamp_.push_back(-1);
        clique_live_.push_back(1);
    }

    // The live node of least degree, the first of several.
    int next() {
        for (;;) {
            const auto [degree, v] = queue_.top();
            queue_.pop();
            if (live_[v] && degree == degree_[v]) return v;
        }
    }

    // All nodes that meet p; reached_ is their weight.
    Indices neighbours(int p) {
        Indices reach;
        reached_ = 0;
        mark_[p] = ++turn_;
        for (int e : node_cliques_[p]) {
            if (!clique_live_[e]) continue;
            for (int32_t v : clique_[e])
                if (live_[v] && mark_[v] != turn_) {
                    mark_[v] = turn_;
                    reach.push_back(v);
                    reached_ += weight_[v];
                }
        }
        std::sort(reach.begin(), reach.end());
        return reach;
    }

    Indices rest() const {
        Indices out;
        for (int v = 0; v < n_; ++v)
            if (live_[v]) out.insert(out.end(), members_[v].begin(), members_[v].end());
        return out;
    }

    void eliminate(int p, Indices reach) {
        live_[p] = 0;
        remaining_ -= weight_[p];
        for (int e : node_cliques_[p]) drop(e);
        node_cliques_[p].clear();
        if (reach.empty()) return;
        const int made = clique_count();
        add_clique(reach);
        // weight of each clique outside the new one
        for (int32_t v : reach)
            for (int e : node_cliques_[v]) {
                if (!clique_live_[e]) continue;
                if (stamp_[e] != turn_) {
                    stamp_[e] = turn_;
                    outside_[e] = size_[e];
                }
                outside_[e] -= weight_[v];
            }
        std::vector<std::pair<uint64_t, int32_t>> keys;
        for (int32_t v : reach) {
            Indices& own = node_cliques_[v];
            size_t kept = 0;
            int64_t d = 0;
            uint64_t key = 0;
            for (int e : own) {
                if (!clique_live_[e]) continue;
                if (outside_[e] == 0) {
                    drop(e); // it lies in the new one
                    continue;
                }
                d += outside_[e];
                key += static_cast<uint64_t>(e) * 0x9E3779B97F4A7C15ULL;
                own[kept++] = e;
            }
            own.resize(kept);
            own.push_back(made);
            degree_[v] = std::min(remaining_ - weight_[v], reached_ - weight_[v] + d);
            keys.emplace_back(key, v);
        }
        merge_alike(keys);
        for (int32_t v : reach)
            if (live_[v]) queue_.emplace(degree_[v], v);
    }

    void drop(int e) {
        clique_live_[e] = 0;
        clique_[e].clear();
        clique_[e].shrink_to_fit();
    }

    // Nodes that are in the same cliques are eliminated together.
    void merge_alike(std::vector<std::pair<uint64_t, int32_t>>& keys) {
        std::sort(keys.begin(), keys.end());
        for (size_t i = 0; i < keys.size(); ++i) {
            const int32_t v = keys[i].second;
            if (!live_[v]) continue;
            for (size_t k = i + 1; k < keys.size() && keys[k].first == keys[i].first; ++k) {
                const int32_t u = keys[k].second;
                if (!live_[u] || !alike(v, u)) continue;
                live_[u] = 0;
                weight_[v] += weight_[u];
                degree_[v] -= weight_[u];
                members_[v].insert(members_[v].end(), members_[u].begin(), members_[u].end());
                members_[u].clear();
                node_cliques_[u].clear();
            }
        }
    }

    bool alike(int32_t v, int32_t u) {
        Indices &a = node_cliques_[v], &b = node_cliques_[u];
        auto gone = [&](int e) { return !clique_live_[e]; };
        a.erase(std::remove_if(a.begin(), a.end(), gone), a.end());
        b.erase(std::remove_if(b.begin(), b.end(), gone), b.end());
        std::sort(a.begin(), a.end());
        std::sort(b.begin(), b.end());
        return a == b;
    }

    int n_;
    std::vector<Indices> clique_, node_cliques_, members_;
    std::vector<int64_t> size_, outside_;
    std::vector<int> stamp_;
    std::vector<char> clique_live_;
    Indices weight_;
    std::vector<int64_t> degree_;
    std::vector<char> live_;
    std::vector<int> mark_;
    int turn_ = 0;
    int64_t remaining_ = 0, reached_ = 0;
    using Entry = std::pair<int64_t, int>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
};

// The supernode that holds the first node below each, or -1.
Indices parents_of(const Elimination& tree, int nodes) {
    Indices holder(nodes);
    const int count = static_cast<int>(tree.own.size());
    for (int s = 0; s < count; ++s)
        for (int32_t v : tree.own[s]) holder[v] = s;
    Indices parent(count, -1);
    for (int s = 0; s < count; ++s)
        for (int32_t v : tree.below[s])
            if (parent[s] < 0 || holder[v] < parent[s]) parent[s] = holder[v];
    return parent;
}

// Children before parents, a subtree at a stretch.
Indices postorder(const Indices& parent) {
    const int count = static_cast<int>(parent.size());
    std::vector<Indices> children(count);
    Indices roots, out;
    for (int s = 0; s < count; ++s)
        if (parent[s] >= 0)
            children[parent[s]].push_back(s);
        else
            roots.push_back(s);
    std::vector<std::pair<int, size_t>> stack;
    for (int root : roots) {
        stack.emplace_back(root, 0);
        while (!stack.empty()) {
            const int s = stack.back().first;
            if (stack.back().second < children[s].size())
                stack.emplace_back(children[s][stack.back().second++], 0);
            else {
                out.push_back(s);
                stack.pop_back();
            }
        }
    }
    return out;
}

int64_t total(const Indices& nodes, const Indices& weight) {
    int64_t sum = 0;
    for (int32_t v : nodes) sum += weight[v];
    return sum;
}

// Whether a child is worth its zeros in one block with its parent.
bool worth_merging(int64_t child, int64_t child_below, int64_t own, int64_t below) {
    const int64_t merged = child + own;
    const double size = static_cast<double>(merged) * static_cast<double>(merged + 2 * below) / 2;
    const double zeros =
        static_cast<double>(child) * static_cast<double>(own + below - child_below);
    return zeros <= (merged <= small ? most_small_zeros : most_zeros) * size;
}

} // namespace

Elimination minimum_degree(const std::vector<Indices>& cliques, const Indices& weight) {
    std::vector<Indices> distinct;
    for (const Indices& clique : cliques) {
        distinct.push_back(clique);
        std::sort(distinct.back().begin(), distinct.back().end());
    }
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    Elimination tree = QuotientGraph(distinct, weight).run();
    const Indices parent = parents_of(tree, static_cast<int>(weight.size()));
    Elimination out;
    Indices last; // the supernode of `tree` that each of `out` ends with
    for (int s : postorder(parent)) {
        out.own.push_back(std::move(tree.own[s]));
        out.below.push_back(std::move(tree.below[s]));
        last.push_back(s);
        while (out.own.size() > 1) {
            const size_t top = out.own.size() - 1;
            if (parent[last[top - 1]] != s ||
                !worth_merging(total(out.own[top - 1], weight), total(out.below[top - 1], weight),
                               total(out.own[top], weight), total(out.below[top], weight)))
                break;
            out.own[top - 1].insert(out.own[top - 1].end(), out.own[top].begin(),
                                    out.own[top].end());
            out.below[top - 1] = std::move(out.below[top]);
            last[top - 1] = s;
            out.own.pop_back();
            out.below.pop_back();
            last.pop_back();
        }
    }
    return out;
}

} // namespace ranef
