#include "moments.hpp"

#include <algorithm>
#include <cmath>

#include "dense.hpp"
#include "sums.hpp"

namespace ranef {

namespace {

constexpr double least = 0.1;           // standard deviation relative to sigma
constexpr double most = 30;             // the same
constexpr double least_residual = 1e-3; // share of the total variance
constexpr int many_columns = 8;         // of a level, whose products are little but each other's
constexpr double least_pivot = 1e-10;   // of a level that can estimate all of its effects
constexpr double least_degrees = 10;

inline size_t at(size_t i, size_t j, size_t ld) {
    return i * ld + j;
}

// Solves A x = b by Gauss elimination with row pivots; false when singular.
bool solve_square(int n, Vector A, Vector& x) {
    for (int k = 0; k < n; ++k) {
        int pivot = k;
        for (int i = k + 1; i < n; ++i)
            if (std::fabs(A[at(i, k, n)]) > std::fabs(A[at(pivot, k, n)])) pivot = i;
        if (!(std::fabs(A[at(pivot, k, n)]) > 1e-12)) return false;
        if (pivot != k) {
            for (int j = k; j < n; ++j) std::swap(A[at(k, j, n)], A[at(pivot, j, n)]);
            std::swap(x[k], x[pivot]);
        }
        for (int i = k + 1; i < n; ++i) {
            const double f = A[at(i, k, n)] / A[at(k, k, n)];
            if (f == 0) continue;
            for (int j = k; j < n; ++j) A[at(i, j, n)] -= f * A[at(k, j, n)];
            x[i] -= f * x[k];
        }
    }
    for (int k = n - 1; k >= 0; --k) {
        for (int j = k + 1; j < n; ++j) x[k] -= A[at(k, j, n)] * x[j];
        x[k] /= A[at(k, k, n)];
    }
    return true;
}

// The moment equations. Unknowns are the entries of each Psi that are free (a
// variance per column; for unstructured terms the covariances too) and sigma^2.
// The equation of entry (a, c) of factor f equates
//   sum_l w_la w_lc y_la y_lc,   y_l = Z_l'y,   w_la = |z_la|^-1,
// with its expectation, in which C = Z'(I - X(X'X)^-1X')Z stands for Z'Z.
class Moments {
  public:
    Moments(const Blocks& blocks, const Response& response) : b_(blocks), y_(response) {}

    Vector solve();

  private:
    struct Entry {
        int factor, a, c;
    };

    void list_entries();
    void levels();
    void inverse_times(const double* x, double* out) const;
    void own_levels(int f);
    void pair(int f, int g, int l, int m, const double* C, int step);
    void all_pairs();
    void project();
    void total();
    const double* block(int f, int l, int* width) const;
    const double* fixed(int f, int l, int a) const;
    double response(int f, int l, int a) const;
    double weight(int f, int l, int a) const { return w_[f][at(l, a, b_.factors[f].r)]; }

    const Blocks& b_;
    const Response& y_;
    std::vector<Entry> entries_;
    std::vector<std::vector<int>> of_factor_; // entries by factor
    std::vector<int> tail_place_;
    std::vector<Vector> w_, GX_; // by factor: (q, r); (q, r, p) = Z'X (X'X)^-1
    Vector inverse_;             // (X'X)^-1
    Vector B_;                   // Z'X (X'X)^-1 X'Z of a pair of levels
    Vector M_, rhs_;
    int unknowns_ = 0;
};

void Moments::list_entries() {
    of_factor_.resize(b_.factors.size());
    for (size_t f = 0; f < b_.factors.size(); ++f)
        for (const Term& t : b_.factors[f].terms)
            for (int c = 0; c < t.structure->r; ++c)
                for (int a = c; a < t.structure->r; ++a) {
                    if (a != c && !t.structure->unstructured()) continue;
                    of_factor_[f].push_back(static_cast<int>(entries_.size()));
                    entries_.push_back({static_cast<int>(f), t.first + a, t.first + c});
                }
    unknowns_ = static_cast<int>(entries_.size()) + 1;
    M_.assign(static_cast<size_t>(unknowns_) * unknowns_, 0.0);
    rhs_.assign(unknowns_, 0.0);
}

// Z_l'Z_l of a level, its rows *width apart.
const double* Moments::block(int f, int l, int* width) const {
    const Factor& factor = b_.factors[f];
    if (factor.depth >= 0) {
        const ChainBlock& c = b_.chain[factor.depth];
        *width = c.width;
        return c.panel.data() + static_cast<size_t>(l) * c.r * c.width;
    }
    *width = factor.r;
    return b_.tail_diagonal[tail_place_[f]].data() + static_cast<size_t>(l) * factor.r * factor.r;
}

const double* Moments::fixed(int f, int l, int a) const {
    const Factor& factor = b_.factors[f];
    if (factor.depth >= 0) {
        const ChainBlock& c = b_.chain[factor.depth];
        return c.panel.data() + (static_cast<size_t>(l) * c.r + a) * c.width + c.width - b_.p;
    }
    return b_.tail_fixed.data() + (static_cast<size_t>(factor.column) + l * factor.r + a) * b_.p;
}

double Moments::response(int f, int l, int a) const {
    const Factor& factor = b_.factors[f];
    const size_t row = static_cast<size_t>(l) * factor.r + a;
    return factor.depth >= 0 ? y_.chain[factor.depth][row] : y_.tail[factor.column + row];
}

// Weights, Z'X (X'X)^-1, and the sums of squares and products.
void Moments::levels() {
    const int p = b_.p;
    inverse_.assign(static_cast<size_t>(p) * p, 0.0);
    for (int e = 0; e < p; ++e)
        for (int a = e; a < p; ++a) inverse_[at(e, a, p)] = b_.fixed[at(a, e, p)];
    if (!cholesky(p, inverse_.data(), p))
        std::fill(inverse_.begin(), inverse_.end(), 0.0);
    else
        inverse_from_cholesky(p, inverse_.data(), p);
    for (int e = 0; e < p; ++e)
        for (int a = 0; a < e; ++a) inverse_[at(e, a, p)] = inverse_[at(a, e, p)];
    for (size_t k = 0; k < b_.factors.size(); ++k) {
        const int f = static_cast<int>(k), q = b_.factors[k].q, r = b_.factors[k].r;
        w_.emplace_back(static_cast<size_t>(q) * r);
        GX_.emplace_back(static_cast<size_t>(q) * r * p);
        for (int l = 0; l < q; ++l) {
            int width;
            const double* A = block(f, l, &width);
            for (int a = 0; a < r; ++a) {
                const double square = A[at(a, a, width)];
                w_[k][at(l, a, r)] = square > 0 ? 1 / std::sqrt(square) : 0.0;
                inverse_times(fixed(f, l, a), GX_[k].data() + at(l, a, r) * p);
            }
        }
    }
}

// (X'X)^-1 x
void Moments::inverse_times(const double* x, double* out) const {
    const int p = b_.p;
    if (p <= small_order) {
        for (int e = 0; e < p; ++e) out[e] = dot(p, inverse_.data() + at(e, 0, p), x);
        return;
    }
    std::fill_n(out, p, 0.0);
    for (int i = 0; i < p; ++i) {
        const double v = x[i]; // of categories most are zero
        if (v == 0) continue;
        const double* row = inverse_.data() + at(i, 0, p);
        for (int e = 0; e < p; ++e) out[e] += v * row[e];
    }
}

// Expectations from a level's own effects and from the residual.
void Moments::own_levels(int f) {
    const Factor& factor = b_.factors[f];
    const int r = factor.r, p = b_.p, s = unknowns_ - 1;
    for (int l = 0; l < factor.q; ++l) {
        int width;
        const double* A = block(f, l, &width);
        pair(f, f, l, l, A, width);
        for (int i : of_factor_[f]) {
            const int a = entries_[i].a, c = entries_[i].c;
            const double ww = weight(f, l, a) * weight(f, l, c);
            const double* x = fixed(f, l, c);
            const double* gx = GX_[f].data() + at(l, a, r) * p;
            rhs_[i] += ww * response(f, l, a) * response(f, l, c);
            const double left = A[at(a, c, width)] - dot(p, x, gx);
            M_[at(i, s, unknowns_)] += ww * left;
            M_[at(s, i, unknowns_)] += (a == c ? 1 : 2) * left;
        }
    }
}

// Level l of f meets level m of g with cross-products C, (r_f, r_g), rows `step`
// apart: what CC' and the mixed products of C and Z'X (X'X)^-1 X'Z add to the
// equations of both.
void Moments::pair(int f, int g, int l, int m, const double* C, int step) {
    const int rf = b_.factors[f].r, rg = b_.factors[g].r, p = b_.p;
    B_.resize(static_cast<size_t>(rf) * rg);
    for (int a = 0; a < rf; ++a)
        for (int d = 0; d < rg; ++d)
            B_[at(a, d, rg)] = dot(p, fixed(g, m, d), GX_[f].data() + at(l, a, rf) * p);
    auto product = [&](int a, int d, int c, int e) {
        const double ad = C[a * step + d], ce = C[c * step + e];
        return ad * ce - ad * B_[at(c, e, rg)] - B_[at(a, d, rg)] * ce;
    };
    for (int i : of_factor_[f]) {
        const int a = entries_[i].a, c = entries_[i].c;
        const double ww = weight(f, l, a) * weight(f, l, c);
        for (int j : of_factor_[g]) {
            const int d = entries_[j].a, e = entries_[j].c;
            const double ad_ce = product(a, d, c, e);
            const double both = a == c && d == e ? ad_ce : ad_ce + product(a, e, c, d);
            M_[at(i, j, unknowns_)] += ww * (d == e ? ad_ce : both);
            if (f == g) continue;
            M_[at(j, i, unknowns_)] += weight(g, m, d) * weight(g, m, e) * (a == c ? ad_ce : both);
        }
    }
}

void Moments::all_pairs() {
    for (size_t f = 0; f < b_.factors.size(); ++f) own_levels(static_cast<int>(f));
    for (const ChainBlock& c : b_.chain)
        for (int l = 0; l < c.q; ++l) {
            int column = c.r;
            for (size_t k = 0; k < c.ancestor.size(); ++k) {
                const int up = b_.chain[b_.factors[c.factor].depth + 1 + k].factor;
                const double* C = c.panel.data() + static_cast<size_t>(l) * c.r * c.width + column;
                pair(c.factor, up, l, c.ancestor[k][l], C, c.width);
                column += b_.factors[up].r;
            }
        }
    if (!b_.chain.empty() && b_.T > 0) {
        const int leader = b_.chain[0].factor, r = b_.chain[0].r;
        for (int l = 0; l < b_.chain[0].q; ++l) {
            const int64_t start = b_.tail_ptr[l];
            const int m = static_cast<int>(b_.tail_ptr[l + 1] - start);
            for (int k = 0; k < m;) {
                int t = 0;
                while (b_.factors[b_.tail[t]].column +
                           b_.factors[b_.tail[t]].q * b_.factors[b_.tail[t]].r <=
                       b_.tail_column[start + k])
                    ++t;
                const Factor& g = b_.factors[b_.tail[t]];
                const int level = (b_.tail_column[start + k] - g.column) / g.r;
                const double* C = b_.tail_value.data() + start * r + k;
                pair(leader, b_.tail[t], l, level, C, m);
                k += g.r;
            }
        }
    }
    for (const PairBlock& pairs : b_.tail_pairs) {
        const int size = b_.factors[pairs.f].r * b_.factors[pairs.g].r, rg = b_.factors[pairs.g].r;
        for (size_t k = 0; k < pairs.level_f.size(); ++k) {
            const double* C = pairs.values.data() + k * size;
            pair(pairs.f, pairs.g, pairs.level_f[k], pairs.level_g[k], C, rg);
        }
    }
}

// What the products of Z'X (X'X)^-1 X'Z with itself add, over all pairs of
// levels at once: tr(U_ac T_de), U = sum_l w w x_c x_a'(X'X)^-1, T the same
// unweighted, in both orders of d and e.
void Moments::project() {
    const int p = b_.p;
    const size_t pp = static_cast<size_t>(p) * p;
    // sum over levels of x_c x_a'(X'X)^-1, weighted or not
    auto sum = [&](const Entry& entry, int a, int c, bool weighted) {
        Vector out(pp, 0.0);
        const int f = entry.factor, r = b_.factors[f].r;
        for (int l = 0; l < b_.factors[f].q; ++l) {
            const double ww = weighted ? weight(f, l, a) * weight(f, l, c) : 1.0;
            const double* x = fixed(f, l, c);
            const double* gx = GX_[f].data() + at(l, a, r) * p;
            for (int i = 0; i < p; ++i) {
                const double v = ww * x[i];
                if (v == 0) continue;
                for (int k = 0; k < p; ++k) out[at(i, k, p)] += v * gx[k];
            }
        }
        return out;
    };
    std::vector<Vector> U, T; // T transposed
    for (const Entry& entry : entries_) {
        U.push_back(sum(entry, entry.a, entry.c, true));
        Vector t = sum(entry, entry.a, entry.c, false), both(pp);
        for (int i = 0; i < p; ++i)
            for (int k = 0; k < p; ++k) both[at(i, k, p)] = t[at(k, i, p)];
        if (entry.a != entry.c) {
            t = sum(entry, entry.c, entry.a, false);
            for (int i = 0; i < p; ++i)
                for (int k = 0; k < p; ++k) both[at(i, k, p)] += t[at(k, i, p)];
        }
        T.push_back(std::move(both));
    }
    for (size_t i = 0; i < entries_.size(); ++i)
        for (size_t j = 0; j < entries_.size(); ++j)
            M_[at(i, j, unknowns_)] += dot(static_cast<int>(pp), U[i].data(), T[j].data());
}

void Moments::total() {
    const int s = unknowns_ - 1;
    M_[at(s, s, unknowns_)] = static_cast<double>(b_.n) - b_.p;
    rhs_[s] = y_.square;
}

Vector Moments::solve() {
    tail_place_.assign(b_.factors.size(), -1);
    for (size_t t = 0; t < b_.tail.size(); ++t) tail_place_[b_.tail[t]] = static_cast<int>(t);
    list_entries();
    levels();
    all_pairs();
    project();
    total();
    // all sums at the same size
    for (int i = 0; i < unknowns_; ++i) {
        double size = 0;
        for (int j = 0; j < unknowns_; ++j)
            size = std::max(size, std::fabs(M_[at(i, j, unknowns_)]));
        if (!(size > 0)) return {};
        for (int j = 0; j < unknowns_; ++j) M_[at(i, j, unknowns_)] /= size;
        rhs_[i] /= size;
    }
    Vector out(rhs_);
    if (!solve_square(unknowns_, M_, out)) return {};
    for (double v : out)
        if (!std::isfinite(v)) return {};
    return out;
}

// One factor with many columns in one unstructured term.
bool alone_with_many(const Blocks& b) {
    return b.factors.size() == 1 && b.chain.size() == 1 && b.factors[0].terms.size() == 1 &&
           b.factors[0].r >= many_columns && b.factors[0].terms[0].structure->unstructured();
}

// y'A^+ y and the rank of A, (r, r).
double projected(int r, const Vector& A, const double* y, int* rank) {
    Vector values(r), vectors(A.size()), given = A;
    eigen_symmetric(r, given.data(), values.data(), vectors.data());
    double sum = 0;
    for (int k = 0; k < r; ++k) {
        if (!(values[k] > least_pivot * values[r - 1])) continue;
        const double v = dot(r, vectors.data() + at(k, 0, r), y);
        sum += v * v / values[k];
        ++*rank;
    }
    return sum;
}

// The entries of Psi, by columns, and sigma^2 from what each level with rows enough estimates by
// itself (Swamy 1970): b_l = A_l^-1 Z_l'y has the covariance Psi + sigma^2 A_l^-1. Where there are
// many columns, what the moments of Z_l'y say of one is lost in the others. Empty where levels
// or degrees of freedom are too few.
Vector from_levels(const Blocks& b, const Response& response) {
    const ChainBlock& c = b.chain[0];
    const int r = c.r;
    double rest = response.square, degrees = static_cast<double>(b.n), used = 0;
    Vector products(static_cast<size_t>(r) * r, 0.0), inverses(products.size(), 0.0);
    Vector A(products.size()), effects(r);
    for (int l = 0; l < c.q; ++l) {
        const double* panel = c.panel.data() + static_cast<size_t>(l) * r * c.width;
        const double* y = response.chain[0].data() + static_cast<size_t>(l) * r;
        for (int a = 0; a < r; ++a)
            std::copy_n(panel + at(a, 0, c.width), r, A.data() + at(a, 0, r));
        Vector L = A;
        bool whole = cholesky(r, L.data(), r);
        for (int a = 0; a < r && whole; ++a) {
            const double pivot = L[at(a, a, r)];
            whole = pivot * pivot > least_pivot * A[at(a, a, r)];
        }
        if (!whole) {
            int rank = 0;
            rest -= projected(r, A, y, &rank);
            degrees -= rank;
            continue;
        }
        inverse_from_cholesky(r, L.data(), r); // its lower triangle, by columns
        for (int j = 0; j < r; ++j)
            for (int i = j + 1; i < r; ++i) L[at(i, j, r)] = L[at(j, i, r)];
        for (int a = 0; a < r; ++a) effects[a] = dot(r, L.data() + at(a, 0, r), y);
        rest -= dot(r, effects.data(), y);
        degrees -= r;
        ++used;
        for (int a = 0; a < r; ++a)
            for (int e = 0; e <= a; ++e) {
                products[at(a, e, r)] += effects[a] * effects[e];
                inverses[at(a, e, r)] += L[at(a, e, r)];
            }
    }
    const double sigma2 = rest / degrees;
    if (used < 2 || degrees < least_degrees || !(sigma2 > 0)) return {};
    Vector out;
    for (int e = 0; e < r; ++e)
        for (int a = e; a < r; ++a)
            out.push_back((products[at(a, e, r)] - sigma2 * inverses[at(a, e, r)]) / used);
    out.push_back(sigma2);
    return out;
}

// Entries of one term's Psi relative to sigma^2, made a covariance matrix that
// is neither singular nor huge.
Vector admissible(int r, Vector psi) {
    Vector values(r), vectors(static_cast<size_t>(r) * r);
    Vector A = psi;
    eigen_symmetric(r, A.data(), values.data(), vectors.data());
    std::fill(psi.begin(), psi.end(), 0.0);
    for (int k = 0; k < r; ++k) {
        const double v = std::min(std::max(values[k], least * least), most * most);
        for (int a = 0; a < r; ++a)
            for (int c = 0; c < r; ++c)
                psi[at(a, c, r)] += v * vectors[at(k, a, r)] * vectors[at(k, c, r)];
    }
    return psi;
}

} // namespace

Vector moment_start(const Blocks& b, const Response& response) {
    Vector phi(b.parameters);
    Vector found;
    if (alone_with_many(b)) found = from_levels(b, response);
    if (found.empty()) found = Moments(b, response).solve();
    const double total = response.square / static_cast<double>(b.n);
    const double residual = found.empty() ? total : std::max(found.back(), least_residual * total);
    size_t next = 0;
    for (const Factor& f : b.factors)
        for (const Term& t : f.terms) {
            const int r = t.structure->r;
            double* part = phi.data() + t.offset;
            t.structure->start(part);
            if (found.empty()) continue;
            Vector psi(static_cast<size_t>(r) * r, 0.0);
            double trace = 0;
            for (int c = 0; c < r; ++c)
                for (int a = c; a < r; ++a) {
                    if (a != c && !t.structure->unstructured()) continue;
                    psi[at(a, c, r)] = psi[at(c, a, r)] = found[next++] / residual;
                    if (a == c) trace += psi[at(a, a, r)];
                }
            if (!t.structure->free_scale()) {
                const double sd = std::sqrt(std::max(trace / r, 0.0));
                t.structure->rescale(std::min(std::max(sd, least), most), part);
                continue;
            }
            psi = admissible(r, std::move(psi));
            if (!t.structure->unstructured()) {
                for (int a = 0; a < r; ++a) part[a] = std::sqrt(psi[at(a, a, r)]);
                continue;
            }
            cholesky(r, psi.data(), r);
            for (int c = 0, i = 0; c < r; ++c)
                for (int a = c; a < r; ++a) part[i++] = psi[at(c, a, r)];
        }
    return phi;
}

} // namespace ranef
