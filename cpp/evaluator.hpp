// What stays of a fit for the questions that follow it.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>

#include "blocks.hpp"
#include "criterion.hpp"

namespace ranef {

// A response and its criterion at the point that was last looked at.
struct Evaluator {
    Evaluator(const Blocks& blocks, const double* y, bool reml, int threads)
        : values(y, y + blocks.n), response(blocks.respond(y, threads)), reml(reml),
          criterion(blocks, reml, threads) {
        criterion.use(response);
    }
    bool of(const double* y, bool reml_) const {
        return reml == reml_ && std::equal(values.begin(), values.end(), y);
    }
    Vector values;
    Response response;
    bool reml;
    Criterion criterion;
};

// The evaluator that a problem keeps from one question to the next, while it lives. Whoever
// finds it taken by another thread makes one of their own: the answers have the same bits.
class KeptEvaluator {
  public:
    std::unique_ptr<Evaluator> take(const double* y, bool reml) {
        const std::lock_guard<std::mutex> guard(mutex_);
        return kept_ && kept_->of(y, reml) ? std::move(kept_) : nullptr;
    }
    void put(std::unique_ptr<Evaluator> evaluator) {
        const std::lock_guard<std::mutex> guard(mutex_);
        kept_ = std::move(evaluator);
    }

  private:
    std::mutex mutex_;
    std::unique_ptr<Evaluator> kept_;
};

} // namespace ranef
