// Down the chain once it is solved: modes, scores, covariances and the derivatives of each level.
#include <algorithm>
#include <cmath>

#include "criterion.hpp"
#include "dense.hpp"
#include "dense_tail.hpp"
#include "levels.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

// Covariance of what remains once the levels of `depth` are gone: the
// ancestors of one level, then X; (wp, wp) row-major.
void Criterion::gather_ancestors(const std::vector<Vector>& from, int depth, int level,
                                 Vector& PP) const {
    const ChainBlock& c = b_.chain[depth];
    const int wp = c.width - c.r, p = b_.p;
    int off = 0;
    for (size_t k = 0; k < c.ancestor.size(); ++k) {
        const ChainBlock& up = b_.chain[depth + 1 + k];
        const double* row = from[depth + 1 + k].data() +
                            static_cast<size_t>(c.ancestor[k][level]) * up.r * up.width;
        for (int a = 0; a < up.r; ++a)
            for (int e = 0; e < up.width; ++e)
                PP[static_cast<size_t>(off + a) * wp + off + e] =
                    PP[static_cast<size_t>(off + e) * wp + off + a] =
                        row[static_cast<size_t>(a) * up.width + e];
        off += up.r;
    }
    for (int a = 0; a < p; ++a)
        for (int e = 0; e < p; ++e)
            PP[static_cast<size_t>(off + a) * wp + off + e] = R_XX_[static_cast<size_t>(a) * p + e];
}

namespace {

// B (r, r) -= K R K', K (r, n) with many zeros, R (n, n) symmetric.
void subtract_form(int r, int n, const double* K, const double* R, double* B) {
    std::vector<int> places;
    Vector row;
    for (int a = 0; a < r; ++a) {
        const double* ka = K + static_cast<size_t>(a) * n;
        places.clear();
        for (int e = 0; e < n; ++e)
            if (ka[e] != 0) places.push_back(e);
        for (int f = 0; f < r; ++f) {
            const double* kf = K + static_cast<size_t>(f) * n;
            double sum = 0;
            for (int e = 0; e < n; ++e) {
                if (kf[e] == 0) continue;
                const double* re = R + static_cast<size_t>(e) * n;
                double s = 0;
                for (int i : places) s += re[i] * ka[i];
                sum += s * kf[e];
            }
            B[a * r + f] -= sum;
        }
    }
}

} // namespace

// From the coarsest to the finest: modes, scores and, when wanted, covariances,
// G, and (for a chain of one) the average information.
// One function, since all of it is made of what one level resolves to, level by level.
template <int R>
void Criterion::descend(int depth, int chunk, bool derivatives) {
    const ChainBlock& c = b_.chain[depth];
    const int r = R > 0 ? R : c.r, width = c.width, wp = width - r, p = b_.p, T = b_.T;
    const int N = b_.order(), K = b_.parameters;
    const size_t up_count = c.ancestor.size();
    const bool crossed = T > 0, alone = b_.chain.size() == 1;
    const bool keep = !post_[depth].empty();
    const bool covariances = derivatives || keep;
    const double* Lambda = lambda_[c.factor].data();
    const double* Psi = psi_[c.factor].data();
    const Vector& ys = depth == 0 ? y_->chain[0] : schur_y_[depth];
    Vector work(static_cast<size_t>(r) * r * 5 + static_cast<size_t>(r) * (3 * wp + 4));
    double* V = work.data();
    double* Nm = V + r * r;
    double* M = Nm + r * r;
    double* B = M + r * r;
    double* scratch = B + r * r;
    double* Kp = scratch + r * r;
    double* KR = Kp + static_cast<size_t>(r) * wp;
    double* J = KR + static_cast<size_t>(r) * wp;
    double* rhs = J + static_cast<size_t>(r) * wp;
    double* s = rhs + r;
    Vector rest(wp), PP(covariances ? static_cast<size_t>(wp) * wp : 0), sparse;
    int32_t parent = -1;
    if (covariances && up_count == 0) gather_ancestors(post_, depth, 0, PP);
    for (int e = 0; e < p; ++e) rest[wp - p + e] = beta_[e];
    // own parameters
    std::vector<int> own;
    InformationSums* information =
        derivatives && !sum_information_.empty() ? &sum_information_[chunk] : nullptr;
    if (derivatives && alone && informed_ && !information)
        for (int i = 0; i < K; ++i)
            if (factor_of_[i] == c.factor) own.push_back(i);
    Vector v(own.size() * r), Mv(own.size() * r);
    const bool dense = crossed && covariances && DenseTail::dense_leader(b_);
    const size_t nodes = std::max(1, dense_block / r);
    Vector full_K(dense ? static_cast<size_t>(N) * nodes * r : 0), full_RK(full_K.size());
    // K of many levels and its product with R, where there are many fixed effects
    const bool batched = b_.blas_fixed && covariances && !dense && up_count == 0;
    const bool scattered = !batched && p > small_order;
    Vector K_rows(batched ? nodes * r * wp : 0), RK_rows(K_rows.size());
    size_t g_at = 0;
    for (int d = 0; d < depth; ++d) g_at += static_cast<size_t>(b_.chain[d].r) * b_.chain[d].r;
    double* G = sum_G_[chunk].data() + g_at;
    double* gram = sum_gram_[chunk].data();
    double* tsum = sum_t_[chunk].data();
    const int e_rows = crossed ? N : p;
    const double ratio = this->ratio();
    for (size_t j = b_.chunk[depth][chunk]; j < b_.chunk[depth][chunk + 1]; ++j) {
        const double* A = panel(depth, static_cast<int>(j));
        const double* AP = A + r;
        const Level<R> level{r, width, A, L_[depth].data() + j * r * r, Lambda, V, Nm, M};
        level.resolve(scratch);
        if (up_count > 0 && c.ancestor[0][j] != parent) {
            parent = c.ancestor[0][j];
            int off = 0;
            for (size_t k = 0; k < up_count; ++k) {
                const ChainBlock& up = b_.chain[depth + 1 + k];
                const double* mode =
                    modes_[up.factor].data() + static_cast<size_t>(c.ancestor[k][j]) * up.r;
                for (int a = 0; a < up.r; ++a) rest[off++] = mode[a];
            }
            if (covariances) gather_ancestors(post_, depth, static_cast<int>(j), PP);
        }
        for (int a = 0; a < r; ++a)
            rhs[a] = ys[j * r + a] - inner(wp, AP + static_cast<size_t>(a) * width, rest.data());
        int m = 0;
        const int32_t* col = nullptr;
        const double* C = nullptr;
        if (crossed) {
            const int64_t start = b_.tail_ptr[j];
            m = static_cast<int>(b_.tail_ptr[j + 1] - start);
            col = b_.tail_column.data() + start;
            C = b_.tail_value.data() + start * r;
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < m; ++e)
                    rhs[a] -= C[static_cast<size_t>(a) * m + e] * x_[col[e]];
        }
        for (int a = 0; a < r; ++a) {
            s[a] = inner(r, Nm + a * r, rhs);
            scores_[c.factor][j * r + a] = s[a];
        }
        // V is Psi N, without what cancels in N where the data say much of the effects
        for (int a = 0; a < r; ++a) modes_[c.factor][j * r + a] = inner(r, V + a * r, rhs);
        if (!covariances) continue;
        multiply<R>(r, wp, Nm, AP, width, Kp);
        // B = M - K R K'
        for (int k = 0; k < r * r; ++k) B[k] = M[k];
        if (dense) {
            const size_t place = (j - b_.chunk[depth][chunk]) % nodes;
            if (place == 0) {
                // K for the next levels as columns over [tail, X], and R K'
                const size_t last = std::min(j + nodes, b_.chunk[depth][chunk + 1]);
                std::fill(full_K.begin(), full_K.end(), 0.0);
                for (size_t i = j; i < last; ++i) {
                    const double* Ai = panel(depth, static_cast<int>(i));
                    const Level<R> other{r,      width, Ai, L_[depth].data() + i * r * r,
                                         Lambda, V,     Nm, M};
                    other.resolve(scratch);
                    const int64_t first = b_.tail_ptr[i];
                    const int mi = static_cast<int>(b_.tail_ptr[i + 1] - first);
                    sparse.resize(static_cast<size_t>(r) * (mi + wp));
                    double* KX = sparse.data() + static_cast<size_t>(r) * mi;
                    multiply<R>(r, mi, Nm, b_.tail_value.data() + first * r, mi, sparse.data());
                    multiply<R>(r, wp, Nm, Ai + r, width, KX);
                    for (int a = 0; a < r; ++a) {
                        double* column = full_K.data() + at(0, static_cast<int>(i - j) * r + a, N);
                        for (int e = 0; e < mi; ++e)
                            column[b_.tail_column[first + e]] =
                                sparse[static_cast<size_t>(a) * mi + e];
                        std::copy_n(KX + static_cast<size_t>(a) * wp, p, column + T);
                    }
                }
                tail_->covariance_times(static_cast<int>(last - j) * r, full_K.data(),
                                        full_RK.data());
                level.resolve(scratch);
            }
            const double* k0 = full_K.data() + at(0, static_cast<int>(place) * r, N);
            const double* y0 = full_RK.data() + at(0, static_cast<int>(place) * r, N);
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f)
                    B[a * r + f] -= inner(N, k0 + at(0, a, N), y0 + at(0, f, N));
        }
        if (batched) {
            const size_t place = (j - b_.chunk[depth][chunk]) % nodes;
            if (place == 0) {
                const size_t last = std::min(j + nodes, b_.chunk[depth][chunk + 1]);
                for (size_t i = j; i < last; ++i) {
                    const double* Ai = panel(depth, static_cast<int>(i));
                    const Level<R> other{r,      width, Ai, L_[depth].data() + i * r * r,
                                         Lambda, V,     Nm, M};
                    other.resolve(scratch);
                    multiply<R>(r, wp, Nm, Ai + r, width, K_rows.data() + (i - j) * r * wp);
                }
                symmetric_times(wp, static_cast<int>(last - j) * r, PP.data(), wp, K_rows.data(),
                                wp, RK_rows.data(), wp);
                level.resolve(scratch);
            }
            const double* rk = RK_rows.data() + place * r * wp;
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f)
                    B[a * r + f] -= inner(wp, rk + static_cast<size_t>(a) * wp,
                                          Kp + static_cast<size_t>(f) * wp);
        } else if (scattered && !dense)
            subtract_form(r, wp, Kp, PP.data(), B);
        for (int a = 0; a < r && !dense && !batched && !scattered; ++a) {
            double* row = KR + static_cast<size_t>(a) * wp;
            const double* ka = Kp + static_cast<size_t>(a) * wp;
            for (int e = 0; e < wp; ++e)
                row[e] = inner(wp, PP.data() + static_cast<size_t>(e) * wp, ka);
            for (int f = 0; f < r; ++f)
                B[a * r + f] -= inner(wp, row, Kp + static_cast<size_t>(f) * wp);
        }
        const double* KT = nullptr;
        if (crossed) {
            sparse.resize(static_cast<size_t>(r) * m * 2);
            multiply<R>(r, m, Nm, C, m, sparse.data());
            KT = sparse.data();
        }
        if (crossed && !dense)
            tail_->level_form(j, r, m, KT, Kp, sparse.data() + static_cast<size_t>(r) * m, B);
        if (derivatives)
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f) G[a * r + f] += B[a * r + f] - ratio * s[a] * s[f];
        if (keep) {
            // R_lP = -J R, R_ll = V + J R J' (with the tail: see mode_covariances)
            double* out = post_[depth].data() + j * r * width;
            multiply<R>(r, wp, V, AP, width, J);
            for (int a = 0; a < r; ++a) {
                double* row = out + static_cast<size_t>(a) * width;
                const double* ja = J + static_cast<size_t>(a) * wp;
                for (int e = 0; e < wp; ++e)
                    row[r + e] = -inner(wp, PP.data() + static_cast<size_t>(e) * wp, ja);
            }
            for (int a = 0; a < r; ++a)
                for (int f = 0; f < r; ++f)
                    out[static_cast<size_t>(a) * width + f] =
                        V[a * r + f] - inner(wp, out + static_cast<size_t>(a) * width + r,
                                             J + static_cast<size_t>(f) * wp);
            // Psi - Psi B Psi is the same without cancelling the tail's part
            if (crossed)
                for (int a = 0; a < r; ++a)
                    for (int f = 0; f < r; ++f) {
                        double value = Psi[a * r + f];
                        for (int k = 0; k < r; ++k)
                            for (int h = 0; h < r; ++h)
                                value -= Psi[a * r + k] * B[k * r + h] * Psi[h * r + f];
                        out[static_cast<size_t>(a) * width + f] = value;
                    }
        }
        if (information) information->add_level(M, s, Kp);
        if (own.empty()) continue;
        for (size_t i = 0; i < own.size(); ++i) {
            const double* d = dpsi_[own[i]].data();
            for (int a = 0; a < r; ++a) v[i * r + a] = inner(r, d + a * r, s);
            tsum[own[i]] += inner(r, v.data() + i * r, s);
            for (int a = 0; a < r; ++a) Mv[i * r + a] = inner(r, M + a * r, v.data() + i * r);
            double* e = sum_e_[chunk].data() + static_cast<size_t>(own[i]) * e_rows;
            for (int a = 0; a < r; ++a) {
                const double va = v[i * r + a];
                const double* ka = Kp + static_cast<size_t>(a) * wp;
                double* ex = e + (crossed ? T : 0);
                for (int k = 0; k < p; ++k) ex[k] += va * ka[k];
                if (crossed) {
                    const double* kt = KT + static_cast<size_t>(a) * m;
                    for (int k = 0; k < m; ++k) e[col[k]] += va * kt[k];
                }
            }
            for (size_t k = 0; k <= i; ++k)
                gram[static_cast<size_t>(own[i]) * K + own[k]] +=
                    inner(r, v.data() + k * r, Mv.data() + i * r);
        }
    }
}

void Criterion::descend_by_size(int depth, int chunk, bool derivatives) {
    switch (b_.chain[depth].r) {
    case 1:
        return descend<1>(depth, chunk, derivatives);
    case 2:
        return descend<2>(depth, chunk, derivatives);
    case 3:
        return descend<3>(depth, chunk, derivatives);
    case 4:
        return descend<4>(depth, chunk, derivatives);
    default:
        return descend<0>(depth, chunk, derivatives);
    }
}

template void Criterion::descend<0>(int, int, bool);

} // namespace ranef
