// Units whose likelihood is an integral over effects that are no coordinates, by its nodes.
#include <limits>
#include <map>
#include <memory>

#include "message_engine.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

using message::Engine;
using message::Sums;
using message::Unit;

constexpr int node_chunks = 4;
constexpr double negligible = 1e-18; // posterior weight of a node that adds no derivatives

// Derivatives of one node, and the rows of its units, each with its posterior weight.
struct NodeSums {
    bool used = false;
    Sums sums;
    RowSums totals;
};

class Nodes {
  public:
    Nodes(const MessageData& data, const std::vector<Engine>& engines, const double* prior,
          const NodePlan& plan)
        : data_(data), engines_(engines), prior_(prior), plan_(plan), cached_(engines.size()),
          design_(engines.size(), -1), sums_(engines.size()) {}

    // The units at the places [first, last) of the plan's order; their sum, NaN where there is
    // none.
    double units(size_t first, size_t last, bool derivatives, double* weight, double* values) {
        double total = 0;
        for (size_t i = first; i < last; ++i) {
            const int u = plan_.order[i];
            const double value = unit(u);
            if (values != nullptr) values[u] = value;
            total += value;
            const int from = plan_.first[u];
            if (weight != nullptr) std::copy(share_.begin(), share_.end(), weight + from);
            if (!derivatives || !std::isfinite(value)) continue;
            for (size_t m = 0; m < share_.size(); ++m)
                if (share_[m] > negligible) down(u, plan_.node[from + m], share_[m]);
        }
        return total;
    }

    std::vector<NodeSums>& sums() { return sums_; }

  private:
    // -2 log of a unit's integral; the posterior weights of its nodes are left in share_.
    double unit(int u) {
        const int from = plan_.first[u], count = plan_.first[u + 1] - from;
        share_.assign(count, 0.0);
        double largest = -std::numeric_limits<double>::infinity();
        for (int m = 0; m < count; ++m) {
            const int k = plan_.node[from + m];
            const bool alike = design_[k] == plan_.alike[u];
            design_[k] = -1;
            double value = std::numeric_limits<double>::quiet_NaN();
            if (engines_[k].one_up(u, alike, cached_[k])) {
                design_[k] = plan_.alike[u];
                value = cached_[k].c;
                const UpperLevel& level = data_.levels[0];
                for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece)
                    value += engines_[k].piece(piece);
            }
            share_[m] = prior_[k] + plan_.volume[from + m] - 0.5 * value;
            if (!std::isfinite(share_[m])) return std::numeric_limits<double>::quiet_NaN();
            largest = std::max(largest, share_[m]);
        }
        double sum = 0;
        for (double& x : share_) sum += x = std::exp(x - largest);
        for (double& x : share_) x /= sum;
        return -2 * (largest + std::log(sum));
    }

    void down(int u, int k, double share) {
        NodeSums& to = sums_[k];
        const size_t p = data_.p, x = data_.k, patterns = data_.present.size();
        if (!to.used) {
            to.used = true;
            to.sums = engines_[k].empty_sums();
            to.totals.xx.assign(patterns * x * x, 0.0);
            to.totals.xy.assign(patterns * x * p, 0.0);
            to.totals.yy.assign(patterns * p * p, 0.0);
        }
        engines_[k].one_down(u, cached_[k], share, to.sums);
        const auto plus = [&](Vector& sum, const Vector& from, int piece, size_t size) {
            double* own = sum.data() + data_.pattern[piece] * size;
            const double* add = from.data() + static_cast<size_t>(piece) * size;
            for (size_t i = 0; i < size; ++i) own[i] += share * add[i];
        };
        const UpperLevel& level = data_.levels[0];
        for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
            plus(to.totals.xx, data_.pieces.xx, piece, x * x);
            plus(to.totals.xy, data_.pieces.xy, piece, x * p);
            plus(to.totals.yy, data_.pieces.yy, piece, p * p);
        }
    }

    const MessageData& data_;
    const std::vector<Engine>& engines_;
    const double* prior_;
    const NodePlan& plan_;
    std::vector<Unit> cached_;
    std::vector<int> design_;
    std::vector<NodeSums> sums_;
    Vector share_;
};

void plus(Vector& to, const Vector& from) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

// What a unit's message depends on besides its values: products of x and patterns.
Vector design_of(const MessageData& data, int u) {
    const UpperLevel& level = data.levels[0];
    const size_t kk = static_cast<size_t>(data.k) * data.k;
    Vector out{static_cast<double>(level.pattern[u])};
    for (int piece = level.first[u]; piece < level.first[u + 1]; ++piece) {
        out.push_back(data.pattern[piece]);
        const double* xx = data.pieces.xx.data() + piece * kk;
        out.insert(out.end(), xx, xx + kk);
    }
    return out;
}

} // namespace

void designs_of(const MessageData& data, NodePlan& plan) {
    const int units = data.levels[0].units;
    std::map<Vector, int> known;
    plan.alike.resize(units);
    plan.order.resize(units);
    for (int u = 0; u < units; ++u) {
        plan.alike[u] =
            known.emplace(design_of(data, u), static_cast<int>(known.size())).first->second;
        plan.order[u] = u;
    }
    std::stable_sort(plan.order.begin(), plan.order.end(),
                     [&](int u, int v) { return plan.alike[u] < plan.alike[v]; });
}

double message_nodes(const MessageData& data, const std::vector<MessageParameters>& at,
                     const double* prior, const NodePlan& plan, double* gradient, double* weight,
                     double* values, int threads) {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    const size_t n = moments_of(data), nodes = at.size();
    std::vector<Engine> engines;
    for (const MessageParameters& one : at) engines.emplace_back(data, one);
    std::vector<char> fine(nodes, 0);
    for_tasks(static_cast<int>(nodes), threads, [&](int k) { fine[k] = engines[k].prepare(); });
    if (std::find(fine.begin(), fine.end(), 0) != fine.end()) return nothing;
    const auto bounds = partition(data.levels[0].units, node_chunks);
    std::vector<std::unique_ptr<Nodes>> parts(node_chunks);
    Vector totals(node_chunks, 0.0);
    for_chunks(node_chunks, threads, [&](int c) {
        parts[c] = std::make_unique<Nodes>(data, engines, prior, plan);
        totals[c] = parts[c]->units(bounds[c], bounds[c + 1], gradient != nullptr, weight, values);
    });
    double total = 0;
    for (double x : totals) total += x;
    if (gradient == nullptr || !std::isfinite(total)) return total;
    std::fill(gradient, gradient + nodes * n, 0.0);
    std::vector<int> every(data.present.size());
    for (size_t o = 0; o < every.size(); ++o) every[o] = static_cast<int>(o);
    for_tasks(static_cast<int>(nodes), threads, [&](int k) {
        NodeSums* sum = nullptr;
        for (const auto& part : parts) {
            NodeSums& own = part->sums()[k];
            if (!own.used) continue;
            if (sum == nullptr) {
                sum = &own;
                continue;
            }
            message::add(sum->sums, own.sums);
            plus(sum->totals.xx, own.totals.xx);
            plus(sum->totals.xy, own.totals.xy);
            plus(sum->totals.yy, own.totals.yy);
        }
        if (sum == nullptr) return;
        engines[k].rows(sum->totals, every, sum->sums, gradient + static_cast<size_t>(k) * n);
        engines[k].finish_levels(sum->sums, gradient + static_cast<size_t>(k) * n);
    });
    return total;
}

} // namespace ranef
