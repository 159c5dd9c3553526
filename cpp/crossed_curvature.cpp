#include "crossed_curvature.hpp"

#include <algorithm>

#include "dense.hpp"

namespace ranef {

void CrossedCurvature::resolve(size_t level, Row& row) const {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, width = block.width, p = b_.p;
    const size_t rr = static_cast<size_t>(r) * r;
    for (Vector* x : {&row.V, &row.N, &row.M, &row.scratch}) x->resize(rr);
    const double* A = c_.panel(0, static_cast<int>(level));
    const Level<0> solved{r,
                          width,
                          A,
                          c_.L_[0].data() + level * rr,
                          c_.lambda_[block.factor].data(),
                          row.V.data(),
                          row.N.data(),
                          row.M.data()};
    solved.resolve(row.scratch.data());
    const int64_t start = b_.tail_ptr[level];
    const int touched = static_cast<int>(b_.tail_ptr[level + 1] - start), m = touched + p;
    row.columns.assign(b_.tail_column.begin() + start, b_.tail_column.begin() + start + touched);
    for (int e = 0; e < p; ++e) row.columns.push_back(T_ + e);
    row.K.assign(static_cast<size_t>(r) * m, 0.0);
    for (int a = 0; a < r; ++a)
        for (int h = 0; h < r; ++h) {
            const double x = row.N[a * r + h];
            double* out = row.K.data() + static_cast<size_t>(a) * m;
            const double* C = b_.tail_value.data() + start * r + static_cast<size_t>(h) * touched;
            for (int e = 0; e < touched; ++e) out[e] += x * C[e];
            const double* AX = A + static_cast<size_t>(h) * width + r;
            for (int e = 0; e < p; ++e) out[touched + e] += x * AX[e];
        }
}

// v = D s of the tail's own directions and v'Q v.
void CrossedCurvature::columns_of_tail() {
    const int c = count_, kc = k_ * c;
    v_.assign(static_cast<size_t>(N_) * kc, 0.0);
    e_.assign(v_.size(), 0.0);
    for (int t : b_.tail) {
        const Factor& f = b_.factors[t];
        Vector v(static_cast<size_t>(f.r) * c);
        for (int i : own_[t])
            for (int l = 0; l < f.q; ++l) {
                const double* s = columns_[t].data() + static_cast<size_t>(l) * f.r * c;
                small_times(f.r, c, directions_[i].matrix.data(), false, s, v.data());
                for (int a = 0; a < f.r; ++a)
                    for (int e = 0; e < c; ++e)
                        v_[at(f.column + l * f.r + a, i * c + e, N_)] = v[a * c + e];
            }
    }
    c_.tail_->schur_times(kc, v_.data(), e_.data());
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e)
            out_->products[static_cast<size_t>(a) * kc + e] =
                inner(N_, v_.data() + at(0, a, N_), e_.data() + at(0, e, N_));
}

void CrossedCurvature::columns_of_leader() {
    const int c = count_, kc = k_ * c, r = b_.chain[0].r;
    const size_t rc = static_cast<size_t>(r) * c;
    const std::vector<int>& own = leading();
    const int count = static_cast<int>(own.size());
    Vector from_leader(static_cast<size_t>(N_) * kc, 0.0), v(count * rc), Mv(count * rc);
    Row row;
    for (int l = 0; l < b_.chain[0].q; ++l) {
        resolve(l, row);
        const int m = static_cast<int>(row.columns.size());
        const double* s = columns_[b_.chain[0].factor].data() + l * rc;
        for (int n = 0; n < count; ++n) {
            small_times(r, c, directions_[own[n]].matrix.data(), false, s, v.data() + n * rc);
            small_times(r, c, row.M.data(), false, v.data() + n * rc, Mv.data() + n * rc);
            for (int a = 0; a < c; ++a) {
                double* out = from_leader.data() + at(0, own[n] * c + a, N_);
                for (int h = 0; h < r; ++h) {
                    const double x = v[n * rc + h * c + a];
                    const double* K = row.K.data() + static_cast<size_t>(h) * m;
                    for (int e = 0; e < m; ++e) out[row.columns[e]] += x * K[e];
                }
            }
            for (int o = 0; o <= n; ++o)
                for (int a = 0; a < c; ++a)
                    for (int e = 0; e < c; ++e) {
                        double sum = 0;
                        for (int h = 0; h < r; ++h)
                            sum += Mv[n * rc + h * c + a] * v[o * rc + h * c + e];
                        const size_t x = static_cast<size_t>(own[n]) * c + a,
                                     y = static_cast<size_t>(own[o]) * c + e;
                        out_->products[x * kc + y] += sum;
                        if (o != n) out_->products[y * kc + x] += sum;
                    }
        }
    }
    if (c_.any_kernel()) kernel_times(b_, from_leader, kc, true);
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e) {
            const double x = inner(N_, from_leader.data() + at(0, a, N_), v_.data() + at(0, e, N_));
            out_->products[static_cast<size_t>(a) * kc + e] += x;
            out_->products[static_cast<size_t>(e) * kc + a] += x;
        }
    for (size_t n = 0; n < e_.size(); ++n) e_[n] += from_leader[n];
}

// products -= what the tail and X take out; the tail holds R.
void CrossedCurvature::finish_products() {
    const int kc = k_ * count_, p = b_.p;
    Vector Re(e_.size()), Cu(u_.size());
    c_.tail_->covariance_times(kc, e_.data(), Re.data());
    if (!u_.empty()) symmetric_times(p, kc, c_.C_.data(), p, u_.data(), p, Cu.data(), p);
    for (int a = 0; a < kc; ++a)
        for (int e = 0; e < kc; ++e) {
            double x = inner(N_, e_.data() + at(0, a, N_), Re.data() + at(0, e, N_));
            if (!u_.empty()) x += inner(p, u_.data() + at(0, a, p), Cu.data() + at(0, e, p));
            out_->products[static_cast<size_t>(a) * kc + e] -= x;
        }
}

void CrossedCurvature::run(Curvature& out) {
    out_ = &out;
    const int kc = k_ * count_, p = b_.p;
    out.traces.assign(static_cast<size_t>(k_) * k_, 0.0);
    out.products.assign(static_cast<size_t>(kc) * kc, 0.0);
    columns_of_tail();
    if (leads()) columns_of_leader();
    if (!c_.reml_) {
        u_.assign(static_cast<size_t>(p) * kc, 0.0);
        for (int a = 0; a < kc; ++a)
            for (int e = 0; e < p; ++e)
                u_[at(e, a, p)] = e_[at(T_ + e, a, N_)] -
                                  inner(T_, c_.Y_.data() + at(0, e, T_), e_.data() + at(0, a, N_));
    }
    run_traces();
}

} // namespace ranef
