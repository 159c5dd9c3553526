// Traces of second derivatives on the pattern of a sparse tail.
//
// With D~ = Lambda^-1 D Lambda^-T of a tail factor's direction and W = I - S^-1 = Lambda'Z'M Z
// Lambda, tr(M V_i M V_j) = tr(D~_i W D~_j W); of the leader's directions E_i = sum K_l'D_i K_l.
// Both are read off T_i = S^-1 A_i S^-1 on the pattern, A_i = D~_i or Lambda'E_i Lambda: the
// derivative of the selected inverse. Where Lambda cannot be divided by, the columns of
// B = Q - Q R Q and U = I - R Q of that factor are made one stretch after the other.
#include "sparse_curvature.hpp"

#include <algorithm>
#include <cmath>

#include "crossed_curvature.hpp"
#include "sparse_tail.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double safe_scale = 1e-3; // diagonal of Lambda by which may be divided twice
constexpr int stretch = 64;         // columns made at once
constexpr int most_parts = 16;

} // namespace

class SparseCurvature final : public CrossedCurvature {
  public:
    SparseCurvature(Criterion& criterion, const std::vector<Direction>& directions,
                    const std::vector<Vector>& columns, int c)
        : CrossedCurvature(criterion, directions, columns, c),
          tail_(static_cast<SparseTail&>(*criterion.tail_)), s_(tail_.layout()), P_(s_.pattern) {}

  private:
    void run_traces() override;
    void divide_directions();
    bool divided(int t) const { return !inverse_[t].empty(); }
    BorderedMatrix direction_of_tail(int i) const;
    BorderedMatrix direction_of_leader(int i) const;
    // Sum of the diagonal blocks of a factor's levels, (r, r).
    Vector diagonal_sum(int t, const BorderedMatrix& A) const;
    void tail_pairs(int i, const BorderedMatrix& T);
    void tail_gradient();
    void leader_levels(const std::vector<BorderedMatrix>& T);
    void undivided(int t, const std::vector<BorderedMatrix>& E);

    SparseTail& tail_;
    const SparseLayout& s_;
    const SparsePattern& P_;
    BorderedMatrix inverse_matrix_; // S^-1
    std::vector<Vector> inverse_;   // Lambda^-1 by factor of the tail, empty where singular
    std::vector<Vector> directions_scaled_;
};

void SparseCurvature::divide_directions() {
    inverse_.assign(b_.factors.size(), {});
    directions_scaled_.assign(k_, {});
    for (int t : b_.tail) {
        const int r = b_.factors[t].r;
        const Vector& L = c_.lambda_[t];
        double smallest = std::numeric_limits<double>::infinity(), largest = 0;
        for (int a = 0; a < r; ++a) {
            smallest = std::min(smallest, std::fabs(L[a * r + a]));
            for (int c = 0; c <= a; ++c) largest = std::max(largest, std::fabs(L[a * r + c]));
        }
        if (!(smallest > safe_scale * std::max(1.0, largest))) continue;
        Vector& X = inverse_[t];
        X.assign(static_cast<size_t>(r) * r, 0.0);
        for (int c = 0; c < r; ++c)
            for (int a = c; a < r; ++a) {
                double v = a == c ? 1.0 : 0.0;
                for (int k = c; k < a; ++k) v -= L[a * r + k] * X[k * r + c];
                X[a * r + c] = v / L[a * r + a];
            }
        for (int i : own_[t]) {
            const Vector& D = directions_[i].matrix;
            Vector half(X.size()), out(X.size());
            small_times(r, r, X.data(), false, D.data(), half.data());
            times_transposed(r, r, half.data(), X.data(), out.data());
            directions_scaled_[i] = std::move(out);
        }
    }
}

BorderedMatrix SparseCurvature::direction_of_tail(int i) const {
    BorderedMatrix A(P_, b_.p);
    const Factor& f = b_.factors[directions_[i].factor];
    const Vector& D = directions_scaled_[i];
    for (int l = 0; l < f.q; ++l) {
        const int j = s_.position[f.column + l * f.r], m = P_.rows(P_.holder[j]);
        double* to = A.panels.data() + P_.place(j, j);
        for (int a = 0; a < f.r; ++a)
            for (int e = 0; e <= a; ++e) to[at(a, e, m)] = D[a * f.r + e];
    }
    return A;
}

// E of one of the leader's directions, unscaled.
BorderedMatrix SparseCurvature::direction_of_leader(int i) const {
    BorderedMatrix E(P_, b_.p);
    const int r = b_.chain[0].r, p = b_.p;
    Row row;
    Vector DK;
    for (int l = 0; l < b_.chain[0].q; ++l) {
        resolve(l, row);
        const int width = static_cast<int>(row.columns.size()), m = width - p;
        DK.resize(row.K.size());
        small_times(r, width, directions_[i].matrix.data(), false, row.K.data(), DK.data());
        const uint32_t* place = s_.pair_place.data() + s_.pair_ptr[l];
        for (int e = 0; e < width; ++e) {
            double* border =
                e < m ? E.border.data() + static_cast<size_t>(s_.position[row.columns[e]]) * p
                      : nullptr;
            for (int h = 0; h < r; ++h) {
                const double x = row.K[static_cast<size_t>(h) * width + e];
                const double* y = DK.data() + static_cast<size_t>(h) * width;
                for (int g = e; g < m; ++g) E.panels[place[g - e]] += x * y[g];
                if (e < m)
                    for (int g = 0; g < p; ++g) border[g] += x * y[m + g];
                else
                    for (int g = e; g < width; ++g) E.corner[at(g - m, e - m, p)] += x * y[g];
            }
            if (e < m) place += m - e;
        }
    }
    return E;
}

Vector SparseCurvature::diagonal_sum(int t, const BorderedMatrix& A) const {
    const Factor& f = b_.factors[t];
    Vector sum(static_cast<size_t>(f.r) * f.r, 0.0);
    for (int l = 0; l < f.q; ++l) {
        const int j = s_.position[f.column + l * f.r], m = P_.rows(P_.holder[j]);
        const double* from = A.panels.data() + P_.place(j, j);
        for (int a = 0; a < f.r; ++a)
            for (int e = 0; e < f.r; ++e)
                sum[a * f.r + e] += from[at(std::max(a, e), std::min(a, e), m)];
    }
    return sum;
}

// With all directions of the tail and T_i: tr(D~_j T_i), and of the same factor what
// W = I - S^-1 adds.
void SparseCurvature::tail_pairs(int i, const BorderedMatrix& T) {
    const int from = directions_[i].factor;
    for (int t : b_.tail) {
        if (!divided(t) || own_[t].empty()) continue;
        const int r = b_.factors[t].r;
        const Vector sum = diagonal_sum(t, T);
        Vector same;
        if (t == from) same = diagonal_sum(t, inverse_matrix_);
        for (int j : own_[t]) {
            const bool leader = b_.factors[from].depth >= 0;
            if (!leader && j > i) continue;
            double value = trace_of(r, directions_scaled_[j].data(), sum.data());
            if (t == from) {
                Vector DD(sum.size());
                small_times(r, r, directions_scaled_[i].data(), false, directions_scaled_[j].data(),
                            DD.data());
                for (int a = 0; a < r; ++a) value += b_.factors[t].q * DD[a * r + a];
                value -= 2 * trace_of(r, DD.data(), same.data());
            }
            add(i, j, value);
        }
    }
}

// Z'M Z summed over the levels of each factor.
void SparseCurvature::tail_gradient() {
    std::vector<Vector> BL;
    tail_.gradient_of(c_.lambda_, inverse_matrix_, c_.reml_, BL);
    for (int t : b_.tail) {
        const int r = b_.factors[t].r;
        out_->gradient[t].assign(static_cast<size_t>(r) * r, 0.0);
        if (divided(t))
            divide_by_factor(r, c_.lambda_[t].data(), BL[t].data(), out_->gradient[t].data());
        else
            out_->gradient[t] = tail_.gradient_exact(c_.lambda_, t, c_.reml_);
    }
}

// The leader's own levels: tr(D M D M) - 2 tr(D M D K R K') + tr(D_j K T_i K'), and M - K R K'.
void SparseCurvature::leader_levels(const std::vector<BorderedMatrix>& T) {
    const ChainBlock& block = b_.chain[0];
    const int r = block.r, p = b_.p;
    const size_t rr = static_cast<size_t>(r) * r, own = leading().size();
    const auto bounds = partition(block.q, most_parts);
    std::vector<Vector> traces(most_parts, Vector(own * own, 0.0)),
        middle(most_parts, Vector(rr, 0.0));
    const bool shared = b_.tail_column.size() > 10000;
    for_chunks(most_parts, shared ? c_.threads_ : 1, [&](int part) {
        Row row;
        Vector KT, KX, scratch, form(rr), MD(rr * own), XD(rr * own);
        for (size_t l = bounds[part]; l < bounds[part + 1]; ++l) {
            resolve(l, row);
            const int width = static_cast<int>(row.columns.size()), m = width - p;
            KT.resize(static_cast<size_t>(r) * m);
            KX.resize(static_cast<size_t>(r) * p);
            scratch.resize(KT.size());
            for (int a = 0; a < r; ++a) {
                const double* from = row.K.data() + static_cast<size_t>(a) * width;
                std::copy_n(from, m, KT.data() + static_cast<size_t>(a) * m);
                std::copy_n(from + m, p, KX.data() + static_cast<size_t>(a) * p);
            }
            auto quadratic = [&](const BorderedMatrix& A) {
                std::fill(form.begin(), form.end(), 0.0);
                tail_.form_of(A, l, r, m, KT.data(), KX.data(), scratch.data(), form.data());
                for (int a = 0; a < r; ++a)
                    for (int f = 0; f < r; ++f)
                        for (int g = 0; g < p; ++g)
                            for (int h = 0; h < p; ++h)
                                form[a * r + f] -= KX[a * p + g] * KX[f * p + h] *
                                                   A.corner[at(std::max(g, h), std::min(g, h), p)];
                for (double& x : form) x = -x;
            };
            quadratic(tail_.covariance_matrix());
            for (size_t n = 0; n < rr; ++n) middle[part][n] += row.M[n] - form[n];
            for (size_t i = 0; i < own; ++i) {
                const double* D = directions_[leading()[i]].matrix.data();
                multiply<0>(r, r, row.M.data(), D, r, MD.data() + i * rr);
                multiply<0>(r, r, form.data(), D, r, XD.data() + i * rr);
                for (size_t j = 0; j <= i; ++j)
                    traces[part][i * own + j] +=
                        trace_of(r, MD.data() + i * rr, MD.data() + j * rr) -
                        2 * trace_of(r, MD.data() + i * rr, XD.data() + j * rr);
            }
            for (size_t i = 0; i < own; ++i) {
                quadratic(T[i]);
                for (size_t j = 0; j <= i; ++j)
                    traces[part][i * own + j] +=
                        trace_of(r, directions_[leading()[j]].matrix.data(), form.data());
            }
        }
    });
    Vector& G = out_->gradient[block.factor];
    G.assign(rr, 0.0);
    for (int part = 0; part < most_parts; ++part) {
        for (size_t n = 0; n < rr; ++n) G[n] += middle[part][n];
        for (size_t i = 0; i < own; ++i)
            for (size_t j = 0; j <= i; ++j)
                add(leading()[i], leading()[j], traces[part][i * own + j]);
    }
}

// A factor whose Lambda cannot be divided by, with every direction, from the columns of B
// and U of its levels.
void SparseCurvature::undivided(int t, const std::vector<BorderedMatrix>& E) {
    const Factor& f = b_.factors[t];
    const int r = f.r, levels = std::max(1, stretch / r);
    Vector X, QX, RQ, QRQ;
    for (int start = 0; start < f.q; start += levels) {
        const int count = std::min(levels, f.q - start), k = count * r;
        const size_t size = static_cast<size_t>(N_) * k;
        X.assign(size, 0.0);
        for (int c = 0; c < k; ++c) X[at(f.column + start * r + c, c, N_)] = 1;
        QX.resize(size);
        RQ.resize(size);
        QRQ.resize(size);
        tail_.schur_times(k, X.data(), QX.data());
        tail_.covariance_times(k, QX.data(), RQ.data());
        tail_.schur_times(k, RQ.data(), QRQ.data());
        for (size_t n = 0; n < size; ++n) {
            QX[n] -= QRQ[n]; // B
            X[n] -= RQ[n];   // U
        }
        for (int u : b_.tail) {
            if (own_[u].empty() || (u > t && !divided(u))) continue; // once a pair
            const Factor& g = b_.factors[u];
            Vector block(static_cast<size_t>(g.r) * r), DB(block.size()),
                BDB(static_cast<size_t>(r) * r);
            for (int l = 0; l < count; ++l)
                for (int m = 0; m < g.q; ++m) {
                    for (int a = 0; a < g.r; ++a)
                        for (int e = 0; e < r; ++e)
                            block[a * r + e] = QX[at(g.column + m * g.r + a, l * r + e, N_)];
                    for (int j : own_[u]) {
                        small_times(g.r, r, directions_[j].matrix.data(), false, block.data(),
                                    DB.data());
                        // B'D_j B of the pair, (r, r)
                        for (int a = 0; a < r; ++a)
                            for (int e = 0; e < r; ++e) {
                                double v = 0;
                                for (int h = 0; h < g.r; ++h) v += block[h * r + a] * DB[h * r + e];
                                BDB[a * r + e] = v;
                            }
                        for (int i : own_[t])
                            if (u != t || j <= i)
                                add(i, j, trace_of(r, directions_[i].matrix.data(), BDB.data()));
                    }
                }
        }
        for (size_t n = 0; n < E.size(); ++n) {
            tail_.pattern_times(E[n], k, X.data(), RQ.data());
            for (int l = 0; l < count; ++l) {
                Vector UEU(static_cast<size_t>(r) * r);
                for (int a = 0; a < r; ++a)
                    for (int e = 0; e < r; ++e)
                        UEU[a * r + e] = inner(N_, X.data() + at(0, l * r + a, N_),
                                               RQ.data() + at(0, l * r + e, N_));
                for (int i : own_[t])
                    add(leading()[n], i, trace_of(r, directions_[i].matrix.data(), UEU.data()));
            }
        }
    }
}

void SparseCurvature::run_traces() {
    finish_products();
    divide_directions();
    const int p = b_.p, threads = c_.threads_;
    inverse_matrix_ = BorderedMatrix(P_, p);
    selected_inverse(P_, p, tail_.factor(), c_.reml_, inverse_matrix_, threads);
    tail_gradient();
    bool undividable = false;
    for (int t : b_.tail) undividable = undividable || (!divided(t) && !own_[t].empty());
    for (int t : b_.tail)
        for (int i : own_[t]) {
            if (!divided(t)) continue;
            BorderedMatrix T = direction_of_tail(i);
            inverse_derivative(P_, p, tail_.factor(), inverse_matrix_, c_.reml_, T, threads);
            tail_pairs(i, T);
        }
    std::vector<BorderedMatrix> E, kept;
    for (int i : leading()) {
        E.push_back(direction_of_leader(i));
        if (undividable) kept.push_back(E.back());
        tail_.scale_both(c_.lambda_, true, E.back());
        inverse_derivative(P_, p, tail_.factor(), inverse_matrix_, c_.reml_, E.back(), threads);
        tail_pairs(i, E.back());
        tail_.scale_both(c_.lambda_, false, E.back());
    }
    leader_levels(E);
    for (int t : b_.tail)
        if (!divided(t) && !own_[t].empty()) undivided(t, kept);
}

void sparse_curvature(Criterion& criterion, const std::vector<Direction>& directions,
                      const std::vector<Vector>& columns, int c, Curvature& out) {
    SparseCurvature(criterion, directions, columns, c).run(out);
}

} // namespace ranef
