#include "curvature.hpp"

#include "threads.hpp"

namespace ranef {

namespace {

// sum_ae D_ae S_ae.. of each direction, S (r, r, ...) by factor.
Vector along(const std::vector<Direction>& directions, const std::vector<Vector>& S) {
    Vector out;
    for (const Direction& direction : directions) {
        const Vector &D = direction.matrix, &all = S[direction.factor];
        const size_t size = all.size() / D.size(), first = out.size();
        out.resize(first + size, 0.0);
        for (size_t a = 0; a < D.size(); ++a)
            for (size_t n = 0; n < size; ++n) out[first + n] += D[a] * all[a * size + n];
    }
    return out;
}

// out_i = B'F_i B, each (p, p) row-major and symmetric, B column-major
Vector sandwich(int p, const Vector& F, const Vector& B) {
    const size_t pp = static_cast<size_t>(p) * p;
    Vector out(F.size()), half(pp);
    for (size_t first = 0; first < F.size(); first += pp) {
        for (int a = 0; a < p; ++a)
            for (int e = 0; e < p; ++e)
                half[at(a, e, p)] =
                    inner(p, F.data() + first + static_cast<size_t>(a) * p, B.data() + at(0, e, p));
        for (int a = 0; a < p; ++a)
            for (int e = 0; e < p; ++e)
                out[first + static_cast<size_t>(a) * p + e] =
                    inner(p, B.data() + at(0, a, p), half.data() + at(0, e, p));
    }
    return out;
}

} // namespace

Curvature Criterion::curvature(const std::vector<Direction>& directions, bool of_fixed) {
    const int depth = static_cast<int>(b_.chain.size()), p = b_.p;
    const bool crossed = b_.T > 0;
    // a dense tail of blocks is inverted again, without Lambda
    if (inverted_ && crossed && !b_.sparse && !scalar_tail()) inverted_ = false;
    if (!inverted_) {
        solve();
        restore_factor();
        top_covariance(reml_);
        for (int d = 1; d < depth; ++d)
            post_[d].assign(static_cast<size_t>(b_.chain[d].q) * b_.chain[d].r * b_.chain[d].width,
                            0.0);
        for (int d = depth - 1; d >= 0; --d) {
            const bool large = b_.chain[d].panel.size() > 20000;
            for_chunks(b_.chunks, large ? threads_ : 1,
                       [&](int c) { descend_by_size(d, c, false); });
        }
        if (crossed && (b_.sparse || scalar_tail())) invert();
    }
    Curvature out;
    out.gradient.resize(b_.factors.size());
    std::vector<Vector> columns, sums;
    if (crossed || of_fixed) columns = level_fixed_scores(C_.data());
    if (crossed) out.fixed = along(directions, sum_fixed_scores(columns));
    if (!of_fixed) columns = scores_;
    const int c = of_fixed ? p : 1;
    if (crossed)
        crossed_curvature(*this, directions, columns, c, out);
    else {
        chain_curvature(*this, directions, columns, c, out);
        out.fixed = sandwich(p, out.fixed, C_);
    }
    for (size_t f = 0; f < b_.factors.size(); ++f) {
        const size_t r = b_.factors[f].r, q = b_.factors[f].q;
        Vector outer(r * r, 0.0);
        for (size_t l = 0; l < q; ++l) {
            const double* s = scores_[f].data() + l * r;
            for (size_t a = 0; a < r; ++a)
                for (size_t e = 0; e < r; ++e) outer[a * r + e] += s[a] * s[e];
        }
        for (size_t n = 0; n < r * r; ++n) out.gradient[f][n] -= ratio() * outer[n];
        sums.push_back(std::move(outer));
    }
    out.scores = along(directions, sums);
    if (any_kernel()) inverted_ = false;
    return out;
}

} // namespace ranef
