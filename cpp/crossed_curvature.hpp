// Second derivatives with a tail: crossed factors, kernels. What a dense and a sparse tail
// have in common; the traces are their own.
#pragma once

#include "curvature.hpp"

namespace ranef {

class CrossedCurvature {
  public:
    CrossedCurvature(Criterion& criterion, const std::vector<Direction>& directions,
                     const std::vector<Vector>& columns, int c)
        : c_(criterion), b_(criterion.b_), directions_(directions), columns_(columns), count_(c),
          k_(static_cast<int>(directions.size())), N_(b_.order()), T_(b_.T),
          n_(criterion.reml_ ? N_ : T_), own_(by_factor(b_.factors.size(), directions)) {}
    virtual ~CrossedCurvature() = default;

    void run(Curvature& out);

  protected:
    // Traces and gradient; calls finish_products() while the tail holds R.
    virtual void run_traces() = 0;

    // K of one level of the leader, (r, touched + p), and its columns.
    struct Row {
        Vector V, N, M, scratch, K;
        Indices columns;
    };

    bool leads() const { return !b_.chain.empty(); }
    const std::vector<int>& leading() const { return own_[b_.chain[0].factor]; }
    void resolve(size_t level, Row& row) const;
    void add(int i, int j, double value) {
        out_->traces[static_cast<size_t>(i) * k_ + j] += value;
        if (i != j) out_->traces[static_cast<size_t>(j) * k_ + i] += value;
    }
    void finish_products();

    Criterion& c_;
    const Blocks& b_;
    const std::vector<Direction>& directions_;
    const std::vector<Vector>& columns_;
    int count_, k_, N_, T_, n_;
    std::vector<std::vector<int>> own_;
    Vector v_, e_, u_; // (N, k c), (p, k c): w as the tail and X meet it
    Curvature* out_ = nullptr;

  private:
    void columns_of_tail();
    void columns_of_leader();
};

} // namespace ranef
