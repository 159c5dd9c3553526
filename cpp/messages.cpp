#include "messages.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "message_engine.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

// Chunks of the highest units, the same for every number of threads.
int chunks_of(const MessageData& data) {
    const size_t p = data.p;
    const double work =
        static_cast<double>(data.pattern.size()) * p * p +
        (data.levels.empty() ? 0.0 : static_cast<double>(data.levels[0].units)) * p * p * p;
    return work < 2e6 ? 1 : 8;
}

} // namespace

size_t moments_of(const MessageData& data) {
    const size_t p = data.p;
    size_t out = p * p + p * data.k + p * data.slopes;
    for (const UpperLevel& level : data.levels) {
        const size_t d = level.size();
        out += d * d + d;
    }
    return out;
}

double message_criterion(const MessageData& data, const MessageParameters& at, double* gradient,
                         int threads) {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    message::Engine engine(data, at);
    if (!engine.prepare()) return nothing;
    const bool derivatives = gradient != nullptr;
    message::Sums sums = engine.empty_sums();
    if (!data.levels.empty()) {
        const int chunks = chunks_of(data);
        const auto bounds = partition(data.levels.back().units, chunks);
        std::vector<message::Sums> parts(chunks);
        std::vector<char> fine(chunks, 0);
        for_chunks(chunks, threads, [&](int c) {
            parts[c] = engine.empty_sums();
            fine[c] = engine.units(static_cast<int>(bounds[c]), static_cast<int>(bounds[c + 1]),
                                   derivatives, parts[c]);
        });
        if (std::find(fine.begin(), fine.end(), 0) != fine.end()) return nothing;
        for (const message::Sums& part : parts) add(sums, part);
    }
    std::vector<int> every(data.present.size());
    for (size_t o = 0; o < every.size(); ++o) every[o] = static_cast<int>(o);
    if (derivatives) std::fill(gradient, gradient + moments_of(data), 0.0);
    const double rows = engine.rows(data.totals, every, sums, gradient);
    if (derivatives) engine.finish_levels(sums, gradient);
    return sums.value + rows;
}

void message_units(const MessageData& data, const MessageParameters& at, const double* directions,
                   int columns, double* values, double* scores, int threads) {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    message::Engine engine(data, at);
    const int units = data.levels.back().units;
    const size_t n = moments_of(data), k = data.k, p = data.p;
    if (!engine.prepare()) {
        std::fill(values, values + units, nothing);
        return;
    }
    const int chunks = std::min(units, 16);
    const auto bounds = partition(units, chunks);
    for_chunks(chunks, threads, [&](int c) {
        Vector gradient(n);
        message::Sums sums = engine.empty_sums();
        for (size_t u = bounds[c]; u < bounds[c + 1]; ++u) {
            // the pieces below the unit
            int first = static_cast<int>(u), last = first + 1;
            for (size_t l = data.levels.size(); l-- > 0;)
                first = data.levels[l].first[first], last = data.levels[l].first[last];
            std::vector<int> which(data.pattern.begin() + first, data.pattern.begin() + last);
            std::vector<int> distinct(which);
            std::sort(distinct.begin(), distinct.end());
            distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
            RowSums totals;
            totals.xx.assign(distinct.size() * k * k, 0.0);
            totals.xy.assign(distinct.size() * k * p, 0.0);
            totals.yy.assign(distinct.size() * p * p, 0.0);
            for (int piece = first; piece < last; ++piece) {
                const size_t at_pattern =
                    std::lower_bound(distinct.begin(), distinct.end(), data.pattern[piece]) -
                    distinct.begin();
                const auto plus = [&](Vector& to, const Vector& from, size_t size) {
                    for (size_t i = 0; i < size; ++i)
                        to[at_pattern * size + i] += from[static_cast<size_t>(piece) * size + i];
                };
                plus(totals.xx, data.pieces.xx, k * k);
                plus(totals.xy, data.pieces.xy, k * p);
                plus(totals.yy, data.pieces.yy, p * p);
            }
            sums.value = 0;
            for (int o : distinct) {
                std::fill_n(sums.omega.begin() + o * p * p, p * p, 0.0);
                std::fill_n(sums.gamma.begin() + o * p * k, p * k, 0.0);
                std::fill_n(sums.lambda.begin() + o * p * data.slopes, p * data.slopes, 0.0);
            }
            for (message::LevelSums& level : sums.levels) level.clear();
            const bool fine =
                engine.units(static_cast<int>(u), static_cast<int>(u) + 1, scores != nullptr, sums);
            std::fill(gradient.begin(), gradient.end(), 0.0);
            const double rows =
                engine.rows(totals, distinct, sums, scores == nullptr ? nullptr : gradient.data());
            values[u] = fine ? sums.value + rows : nothing;
            if (scores == nullptr) continue;
            engine.finish_levels(sums, gradient.data());
            double* out = scores + u * columns;
            std::fill(out, out + columns, 0.0);
            for (size_t i = 0; i < n; ++i) {
                if (gradient[i] == 0) continue;
                for (int j = 0; j < columns; ++j)
                    out[j] += gradient[i] * directions[i * columns + j];
            }
        }
    });
}

void message_posterior(const MessageData& data, const MessageParameters& at, int level,
                       double* means, double* covariances) {
    message::Engine engine(data, at);
    const UpperLevel& own = data.levels[level];
    const size_t a = own.a;
    std::vector<Vector> m(data.levels.size()), V(data.levels.size());
    message::Sums sums = engine.empty_sums();
    const bool fine =
        engine.prepare() && engine.units(0, data.levels.back().units, true, sums, &m, &V);
    if (!fine) {
        std::fill(means, means + own.units * a, std::numeric_limits<double>::quiet_NaN());
        return;
    }
    // on the way down the units below one stand in reverse order
    std::vector<int> order;
    for (int l = static_cast<int>(data.levels.size()) - 1; l >= level; --l) {
        std::vector<int> next;
        if (l + 1 == static_cast<int>(data.levels.size()))
            for (int u = 0; u < data.levels[l].units; ++u) next.push_back(u);
        else
            for (int u : order)
                for (int v = data.levels[l + 1].first[u + 1] - 1; v >= data.levels[l + 1].first[u];
                     --v)
                    next.push_back(v);
        order = std::move(next);
    }
    for (size_t i = 0; i < order.size(); ++i) {
        std::copy_n(m[level].begin() + i * a, a, means + order[i] * a);
        std::copy_n(V[level].begin() + i * a * a, a * a, covariances + order[i] * a * a);
    }
}

} // namespace ranef
