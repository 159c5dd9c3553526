#include <algorithm>

#include "dense.hpp"
#include "levels.hpp"
#include "products.hpp"
#include "sparse_cholesky.hpp"
#include "supernodes.hpp"

namespace ranef {

namespace {

// R22 of one supernode: all pairs of its rows below, full, and the border's rows with them.
void gather_below(const SparsePattern& P, int p, const BorderedMatrix& R, int s, Vector& full,
                  Vector& border) {
    const int w = P.width(s), m = P.rows(s), u = m - w;
    const int32_t* list = P.rows_of(s) + w;
    full.resize(static_cast<size_t>(u) * u);
    border.resize(static_cast<size_t>(u) * p);
    Indices place;
    for (int begin = 0, end; begin < u; begin = end) {
        const int t = P.holder[list[begin]], mt = P.rows(t);
        for (end = begin; end < u && list[end] < P.first[t + 1];) ++end;
        relative_rows(P, s, w + begin, t, place);
        const double* panel = R.panels.data() + P.value_ptr[t];
        for (int j = begin; j < end; ++j) {
            const double* column = panel + at(0, place[j - begin], mt);
            for (int i = j; i < u; ++i)
                full[at(i, j, u)] = full[at(j, i, u)] = column[place[i - begin]];
        }
    }
    for (int j = 0; j < u && p > 0; ++j)
        std::copy_n(R.border.data() + static_cast<size_t>(list[j]) * p, p,
                    border.data() + static_cast<size_t>(j) * p);
}

} // namespace

void selected_inverse(const SparsePattern& P, int p, const BorderedMatrix& L, bool with_border,
                      BorderedMatrix& R, int threads) {
    std::fill(R.border.begin(), R.border.end(), 0.0);
    std::fill(R.corner.begin(), R.corner.end(), 0.0);
    if (with_border && p > 0) {
        R.corner = L.corner;
        inverse_from_cholesky(p, R.corner.data(), p, threads);
        for (int j = 0; j < p; ++j)
            for (int i = j + 1; i < p; ++i) R.corner[at(j, i, p)] = R.corner[at(i, j, p)];
    }
    const int q = p; // rows of the border as it is held
    if (!with_border) p = 0;
    by_waves(P, true, threads, [&](int s) {
        const int w = P.width(s), m = P.rows(s), u = m - w;
        double* own = R.panels.data() + P.value_ptr[s];
        const double* from = L.panels.data() + P.value_ptr[s];
        Vector full, beside, Y(static_cast<size_t>(u) * w), Yb(static_cast<size_t>(p) * w);
        gather_below(P, p, R, s, full, beside);
        for (int c = 0; c < w; ++c) {
            std::copy_n(from + at(w, c, m), u, Y.data() + at(0, c, u));
            if (p > 0)
                std::copy_n(L.border.data() + static_cast<size_t>(P.first[s] + c) * q, p,
                            Yb.data() + at(0, c, p));
        }
        solve_right(false, u, w, from, m, Y.data(), u);
        solve_right(false, p, w, from, m, Yb.data(), p);
        // R21 = -(R22 Y), the border's rows among them
        Vector below(static_cast<size_t>(u) * w, 0.0), edge(static_cast<size_t>(p) * w, 0.0);
        add_product('N', 'N', u, w, u, 1.0, full.data(), u, Y.data(), u, below.data(), u);
        if (p > 0) {
            add_product('T', 'N', u, w, p, 1.0, beside.data(), p, Yb.data(), p, below.data(), u);
            add_product('N', 'N', p, w, u, 1.0, beside.data(), p, Y.data(), u, edge.data(), p);
            add_product('N', 'N', p, w, p, 1.0, R.corner.data(), p, Yb.data(), p, edge.data(), p);
        }
        for (int c = 0; c < w; ++c) std::copy_n(from + at(0, c, m), w, own + at(0, c, m));
        inverse_from_cholesky(w, own, m, P.wide_alone(s) ? threads : 1);
        Vector top(static_cast<size_t>(w) * w, 0.0);
        add_product('T', 'N', w, w, u, 1.0, Y.data(), u, below.data(), u, top.data(), w);
        if (p > 0) add_product('T', 'N', w, w, p, 1.0, Yb.data(), p, edge.data(), p, top.data(), w);
        for (int c = 0; c < w; ++c) {
            for (int i = c; i < w; ++i) own[at(c, i, m)] = own[at(i, c, m)] += top[at(i, c, w)];
            for (int i = 0; i < u; ++i) own[at(w + i, c, m)] = -below[at(i, c, u)];
            for (int i = 0; i < p; ++i)
                R.border[static_cast<size_t>(P.first[s] + c) * q + i] = -edge[at(i, c, p)];
        }
    });
}

namespace {

// Phi of dL = L Phi, from the derivative of LL': the lower half of L^-1 dA L^-T, in place.
void half_whitened(int w, const double* L, int ldl, double* dA) {
    for (int c = 0; c < w; ++c)
        for (int i = c + 1; i < w; ++i) dA[at(c, i, w)] = dA[at(i, c, w)];
    solve_right(true, w, w, L, ldl, dA, w);
    solve_lower(w, w, L, ldl, dA, w);
    for (int c = 0; c < w; ++c) {
        dA[at(c, c, w)] /= 2;
        for (int i = 0; i < c; ++i) dA[at(i, c, w)] = 0;
    }
}

// out (m, w) := L Phi, both lower triangular.
Vector factor_derivative(int w, const double* L, int ldl, const Vector& Phi) {
    Vector out(Phi.size(), 0.0);
    for (int c = 0; c < w; ++c)
        for (int h = c; h < w; ++h) {
            const double x = Phi[at(h, c, w)];
            for (int i = h; i < w; ++i) out[at(i, c, w)] += L[at(i, h, ldl)] * x;
        }
    return out;
}

// -d(LL')^-1 = L^-T (Phi + Phi') L^-1, full.
Vector inverse_derivative_of(int w, const double* L, int ldl, const Vector& Phi) {
    Vector out(Phi.size());
    for (int c = 0; c < w; ++c)
        for (int i = 0; i < w; ++i) out[at(i, c, w)] = Phi[at(i, c, w)] + Phi[at(c, i, w)];
    solve_lower_transposed(w, w, L, ldl, out.data(), w);
    solve_right(false, w, w, L, ldl, out.data(), w);
    return out;
}

class InverseDerivative {
  public:
    InverseDerivative(const SparsePattern& P, int p, const BorderedMatrix& L,
                      const BorderedMatrix& inverse, bool border, BorderedMatrix& A)
        : P_(P), p_(border ? p : 0), stride_(p), L_(L), R_(inverse), A_(A), phi_(P.count()) {}

    void run(int threads) {
        by_waves(P_, false, threads, [&](int t) { factor(t); });
        if (p_ > 0) corner();
        by_waves(P_, true, threads, [&](int s) { invert(s); });
        if (p_ > 0) return;
        std::fill(A_.border.begin(), A_.border.end(), 0.0);
        std::fill(A_.corner.begin(), A_.corner.end(), 0.0);
    }

  private:
    // A's panel becomes the factor's derivative.
    void factor(int t) {
        const int w = P_.width(t), m = P_.rows(t), p = p_;
        double* panel = A_.panels.data() + P_.value_ptr[t];
        Indices place;
        Vector product;
        for (const SparsePattern::Update& u : P_.updates[t]) {
            const int ws = P_.width(u.from), ms = P_.rows(u.from), k = u.end - u.begin;
            const int rest = ms - u.begin;
            const double* L = L_.panels.data() + P_.value_ptr[u.from] + u.begin;
            const double* dL = A_.panels.data() + P_.value_ptr[u.from] + u.begin;
            relative_rows(P_, u.from, u.begin, t, place);
            product.assign(static_cast<size_t>(rest) * k, 0.0);
            add_product('N', 'T', rest, k, ws, 1.0, dL, ms, L, ms, product.data(), rest);
            add_product('N', 'T', rest, k, ws, 1.0, L, ms, dL, ms, product.data(), rest);
            for (int c = 0; c < k; ++c)
                for (int i = c; i < rest; ++i)
                    panel[at(place[i], place[c], m)] -= product[at(i, c, rest)];
            if (p == 0) continue;
            product.assign(static_cast<size_t>(p) * k, 0.0);
            add_product('N', 'T', p, k, ws, 1.0, border_of(P_, stride_, A_, u.from), p, L, ms,
                        product.data(), p);
            add_product('N', 'T', p, k, ws, 1.0, border_of(P_, stride_, L_, u.from), p, dL, ms,
                        product.data(), p);
            for (int c = 0; c < k; ++c)
                for (int i = 0; i < p; ++i)
                    border_of(P_, stride_, A_, t)[at(i, place[c], p)] -= product[at(i, c, p)];
        }
        const double* L = L_.panels.data() + P_.value_ptr[t];
        Vector& Phi = phi_[t];
        Phi.resize(static_cast<size_t>(w) * w);
        for (int c = 0; c < w; ++c) std::copy_n(panel + at(0, c, m), w, Phi.data() + at(0, c, w));
        half_whitened(w, L, m, Phi.data());
        const Vector dL = factor_derivative(w, L, m, Phi);
        for (int c = 0; c < w; ++c)
            for (int i = 0; i < w; ++i) panel[at(i, c, m)] = i < c ? 0.0 : dL[at(i, c, w)];
        add_product('N', 'T', m - w, w, w, -1.0, L + w, m, dL.data(), w, panel + w, m);
        solve_right(true, m - w, w, L, m, panel + w, m);
        if (p == 0) return;
        add_product('N', 'T', p, w, w, -1.0, border_of(P_, stride_, L_, t), p, dL.data(), w,
                    border_of(P_, stride_, A_, t), p);
        solve_right(true, p, w, L, m, border_of(P_, stride_, A_, t), p);
    }

    // The border's own block: its factor's derivative is not needed, that of its inverse is.
    void corner() {
        const int p = p_, T = P_.T;
        Vector Phi(A_.corner);
        add_product('N', 'T', p, p, T, -1.0, A_.border.data(), p, L_.border.data(), p, Phi.data(),
                    p);
        add_product('N', 'T', p, p, T, -1.0, L_.border.data(), p, A_.border.data(), p, Phi.data(),
                    p);
        half_whitened(p, L_.corner.data(), p, Phi.data());
        A_.corner = inverse_derivative_of(p, L_.corner.data(), p, Phi);
    }

    // The factor's derivative becomes that of the inverse, with its sign turned.
    void invert(int s) {
        const int w = P_.width(s), m = P_.rows(s), u = m - w, p = p_;
        const double* L = L_.panels.data() + P_.value_ptr[s];
        double* panel = A_.panels.data() + P_.value_ptr[s];
        Vector Y(static_cast<size_t>(u) * w), dY(Y.size()), Yb(static_cast<size_t>(p) * w),
            dYb(Yb.size()), dL(static_cast<size_t>(w) * w);
        for (int c = 0; c < w; ++c) {
            std::copy_n(L + at(w, c, m), u, Y.data() + at(0, c, u));
            std::copy_n(panel + at(w, c, m), u, dY.data() + at(0, c, u));
            std::copy_n(panel + at(0, c, m), w, dL.data() + at(0, c, w));
            if (p == 0) continue;
            std::copy_n(border_of(P_, stride_, L_, s) + at(0, c, p), p, Yb.data() + at(0, c, p));
            std::copy_n(border_of(P_, stride_, A_, s) + at(0, c, p), p, dYb.data() + at(0, c, p));
        }
        solve_right(false, u, w, L, m, Y.data(), u);
        solve_right(false, p, w, L, m, Yb.data(), p);
        add_product('N', 'N', u, w, w, -1.0, Y.data(), u, dL.data(), w, dY.data(), u);
        add_product('N', 'N', p, w, w, -1.0, Yb.data(), p, dL.data(), w, dYb.data(), p);
        solve_right(false, u, w, L, m, dY.data(), u);
        solve_right(false, p, w, L, m, dYb.data(), p);
        // with R21 = -R22 Y and E = -dR: E21 = -E22 Y + R22 dY
        Vector full, edge, below(Y.size(), 0.0), beside(Yb.size(), 0.0);
        auto add = [&](const BorderedMatrix& from, double sign, const Vector& y, const Vector& yb) {
            gather_below(P_, p, from, s, full, edge);
            add_product('N', 'N', u, w, u, sign, full.data(), u, y.data(), u, below.data(), u);
            if (p == 0) return;
            add_product('T', 'N', u, w, p, sign, edge.data(), p, yb.data(), p, below.data(), u);
            add_product('N', 'N', p, w, u, sign, edge.data(), p, y.data(), u, beside.data(), p);
            add_product('N', 'N', p, w, p, sign, from.corner.data(), p, yb.data(), p, beside.data(),
                        p);
        };
        add(A_, -1.0, Y, Yb);
        add(R_, 1.0, dY, dYb);
        // R11 = (L11 L11')^-1 - Y'R21: E11 = -d(L11 L11')^-1 + dY'R21 - Y'E21
        Vector own = inverse_derivative_of(w, L, m, phi_[s]);
        const double* R = R_.panels.data() + P_.value_ptr[s];
        add_product('T', 'N', w, w, u, 1.0, dY.data(), u, R + w, m, own.data(), w);
        add_product('T', 'N', w, w, u, -1.0, Y.data(), u, below.data(), u, own.data(), w);
        if (p > 0) {
            add_product('T', 'N', w, w, p, 1.0, dYb.data(), p, border_of(P_, stride_, R_, s), p,
                        own.data(), w);
            add_product('T', 'N', w, w, p, -1.0, Yb.data(), p, beside.data(), p, own.data(), w);
        }
        for (int c = 0; c < w; ++c) {
            for (int i = 0; i < w; ++i)
                panel[at(i, c, m)] = (own[at(i, c, w)] + own[at(c, i, w)]) / 2;
            for (int i = 0; i < u; ++i) panel[at(w + i, c, m)] = below[at(i, c, u)];
            for (int i = 0; i < p; ++i)
                border_of(P_, stride_, A_, s)[at(i, c, p)] = beside[at(i, c, p)];
        }
        phi_[s] = Vector();
    }

    const SparsePattern& P_;
    int p_, stride_;
    const BorderedMatrix &L_, &R_;
    BorderedMatrix& A_;
    std::vector<Vector> phi_;
};

} // namespace

void inverse_derivative(const SparsePattern& pattern, int p, const BorderedMatrix& L,
                        const BorderedMatrix& inverse, bool border, BorderedMatrix& A,
                        int threads) {
    InverseDerivative(pattern, p, L, inverse, border, A).run(threads);
}

} // namespace ranef
