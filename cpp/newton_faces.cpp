// The boundary of the covariance matrices: when a search steps onto a face, and when it leaves it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "dense.hpp"
#include "newton_search.hpp"
#include "watch.hpp"

namespace ranef {

namespace {

constexpr double early_face = 1e-3;   // Psi's eigenvalue that invites a step onto a face
constexpr double next_to_face = 1e-6; // so near it that theta does not feel which way Psi wants
constexpr double most_rise = 1;       // of the criterion, that is no more than coming near a face
constexpr double negative_curvature = 1e-6;
constexpr int most_releases = 8;

// <G, Psi> / tr Psi of a structure at some of its parameters.
double slope(const TermState& t, const Vector& G, const Vector& phi) {
    const int r = t.r;
    Vector L(static_cast<size_t>(r) * r, 0.0);
    t.structure->factor(phi.data(), L.data());
    double along = 0, trace = 0;
    for (int a = 0; a < r; ++a)
        for (int c = 0; c < r; ++c) {
            double psi = 0;
            for (int k = 0; k <= std::min(a, c); ++k) psi += L[a * r + k] * L[c * r + k];
            along += G[a * r + c] * psi;
            if (a == c) trace += psi;
        }
    return trace > 0 ? along / trace : std::numeric_limits<double>::infinity();
}

// The slope at Psi = 0 along the steepest of a few shapes of a structure, and that shape. Without
// a variance all shapes are one matrix, so that where the search left them says nothing.
double steepest(const TermState& t, const Vector& G, Vector& shape) {
    Vector start(t.parameters);
    t.structure->start(start.data());
    const std::vector<char> sizes = t.structure->sizes();
    std::vector<Vector> candidates{start};
    for (double turn : {-1.4, -1.0, -0.5, 0.5, 1.0, 1.4}) {
        Vector all = start;
        for (int i = 0; i < t.parameters; ++i) {
            if (sizes[i]) continue;
            all[i] += turn;
            Vector one = start;
            one[i] += turn;
            candidates.push_back(one);
        }
        candidates.push_back(all);
    }
    const int several = static_cast<int>(std::count(sizes.begin(), sizes.end(), 1));
    for (int i = 0; i < t.parameters && several > 1; ++i) {
        if (!sizes[i]) continue;
        Vector alone = start;
        for (int k = 0; k < t.parameters; ++k)
            if (sizes[k] && k != i) alone[k] = 0;
        candidates.push_back(alone);
    }
    double lowest = std::numeric_limits<double>::infinity();
    for (const Vector& phi : candidates) {
        const double s = slope(t, G, phi);
        if (s >= lowest) continue;
        lowest = s;
        shape = phi;
    }
    return lowest;
}

} // namespace

Vector Search::term_block(const Vector& full, const TermState& t) const {
    const int r = c_.blocks().factors[t.factor].r;
    Vector block(static_cast<size_t>(t.r) * t.r);
    for (int a = 0; a < t.r; ++a)
        for (int e = 0; e < t.r; ++e)
            block[a * t.r + e] = full[static_cast<size_t>(t.first + a) * r + t.first + e];
    return block;
}

// A step onto faces before the search has converged, taken back where the criterion rises: a
// variance that is small beside another of its term may still be large beside the residual's.
void Search::try_faces() {
    const Vector phi = phi_;
    const double f = f_;
    std::vector<TermState> terms = terms_;
    if (!step_onto_faces(early_face, false)) return;
    f_ = evaluate(phi_);
    if (!(f_ <= f + most_rise)) {
        for (size_t i = 0; i < terms.size(); ++i) {
            const TermState &t = terms_[i], &old = terms[i];
            if (t.rank != old.rank || t.zero != old.zero || t.gone != old.gone) ++terms[i].releases;
        }
        phi_ = phi;
        terms_ = terms;
        f_ = evaluate(phi_);
    }
    differentiate();
}

// Reduce the rank of terms whose covariance matrix is nearly singular in a
// direction in which the criterion wants it to shrink.
bool Search::step_onto_faces(double threshold, bool final) {
    bool moved = false;
    for (TermState& t : terms_) {
        if (!final && t.releases > 0) continue;
        if (!t.diagonal && held(t.offset)) continue;
        const Vector G = term_block(c_.gradient_psi(t.factor), t);
        const Vector psi = term_block(c_.psi(t.factor), t);
        if (t.structure->unstructured()) {
            Vector A = psi, values(t.r), vectors(static_cast<size_t>(t.r) * t.r);
            eigen_symmetric(t.r, A.data(), values.data(), vectors.data());
            const double scale = std::max(values[t.r - 1], 1e-2);
            int rank = t.rank;
            while (rank > 0) {
                const int e = t.r - rank; // smallest eigenvalue of those kept
                if (values[e] > threshold * scale) break;
                const double* v = vectors.data() + square_at(0, e, t.r);
                double vGv = 0;
                for (int a = 0; a < t.r; ++a)
                    for (int b = 0; b < t.r; ++b) vGv += v[a] * G[a * t.r + b] * v[b];
                if (!(vGv > 0) && !(final && values[e] < next_to_face * scale)) break;
                --rank;
            }
            if (rank == t.rank) continue;
            t.rank = rank;
            trapezoid(t.r, rank, psi, phi_.data() + t.offset);
            moved = true;
        } else if (t.diagonal) {
            for (int a = 0; a < t.r; ++a)
                if (!t.zero[a] && !held(t.offset + a) && psi[a * t.r + a] < threshold &&
                    G[a * t.r + a] > 0) {
                    t.zero[a] = 1;
                    phi_[t.offset + a] = 0;
                    moved = true;
                }
        } else if (!t.gone) {
            double trace = 0, slope = 0;
            for (int a = 0; a < t.r; ++a) {
                trace += psi[a * t.r + a];
                for (int e = 0; e < t.r; ++e) slope += G[a * t.r + e] * psi[a * t.r + e];
            }
            if (trace < threshold * t.r && slope >= 0) {
                t.gone = true;
                t.structure->rescale(0.0, phi_.data() + t.offset);
                moved = true;
            }
        }
    }
    if (moved) mark_free();
    return moved;
}

// Where N'GN has a negative eigenvalue, give the covariance matrix that
// direction back. Expects derivatives at phi_.
// One function: each kind of term leaves its face by the same three steps.
bool Search::leave_faces() {
    bool left = false;
    out_.faces.clear();
    int number = -1;
    for (TermState& t : terms_) {
        ++number;
        const Vector G = term_block(c_.gradient_psi(t.factor), t);
        double size = 1e-8;
        for (int a = 0; a < t.r; ++a) size = std::max(size, std::fabs(G[a * t.r + a]));
        const double m = static_cast<double>(c_.blocks().factors[t.factor].q);
        const double limit = -negative_curvature * std::max(size, m * 1e-3);
        if (t.structure->unstructured() && t.rank < t.r) {
            const Vector psi = term_block(c_.psi(t.factor), t);
            Vector A = psi, values(t.r), vectors(static_cast<size_t>(t.r) * t.r);
            eigen_symmetric(t.r, A.data(), values.data(), vectors.data());
            const int k = t.r - t.rank;
            Vector NGN(static_cast<size_t>(k) * k), low(k), directions(NGN.size());
            for (int i = 0; i < k; ++i)
                for (int j = 0; j < k; ++j) {
                    double s = 0;
                    for (int a = 0; a < t.r; ++a)
                        for (int b = 0; b < t.r; ++b)
                            s += vectors[square_at(a, i, t.r)] * G[a * t.r + b] *
                                 vectors[square_at(b, j, t.r)];
                    NGN[square_at(i, j, k)] = s;
                }
            eigen_symmetric(k, NGN.data(), low.data(), directions.data());
            out_.faces.push_back({number, t.rank, low[0]});
            if (low[0] >= limit || t.releases >= most_releases || out_of_budget()) continue;
            Vector n(t.r, 0.0);
            for (int a = 0; a < t.r; ++a)
                for (int i = 0; i < k; ++i)
                    n[a] += vectors[square_at(a, i, t.r)] * directions[square_at(i, 0, k)];
            const double before = f_;
            const Vector old = phi_;
            for (double delta = 0.1; delta > 1e-7 && !out_of_budget(); delta /= 8) {
                Vector grown = psi;
                for (int a = 0; a < t.r; ++a)
                    for (int b = 0; b < t.r; ++b) grown[a * t.r + b] += delta * n[a] * n[b];
                phi_ = old;
                trapezoid(t.r, t.rank + 1, grown, phi_.data() + t.offset);
                f_ = evaluate(phi_);
                if (f_ < before) break;
            }
            if (f_ < before) {
                ++t.rank;
                ++t.releases;
                left = true;
            } else {
                phi_ = old;
                f_ = evaluate(phi_);
            }
        } else if (t.diagonal || t.gone) {
            double lowest = std::numeric_limits<double>::infinity();
            int which = -1, rank = t.r;
            for (int a = 0; a < t.r; ++a) {
                if (t.diagonal && !t.zero[a]) continue;
                --rank;
                if (G[a * t.r + a] < lowest) {
                    lowest = G[a * t.r + a];
                    which = a;
                }
            }
            if (which < 0) continue;
            Vector shape;
            if (!t.diagonal) lowest = steepest(t, G, shape);
            out_.faces.push_back({number, rank, lowest});
            if (lowest >= limit || t.releases >= most_releases || out_of_budget()) continue;
            const double before = f_;
            const Vector old = phi_;
            for (double delta = 0.3; delta > 1e-4 && !out_of_budget(); delta /= 3) {
                phi_ = old;
                if (t.diagonal)
                    phi_[t.offset + which] = delta;
                else {
                    std::copy(shape.begin(), shape.end(), phi_.begin() + t.offset);
                    t.structure->rescale(delta, phi_.data() + t.offset);
                }
                f_ = evaluate(phi_);
                if (f_ < before) break;
            }
            if (f_ < before) {
                t.zero[which] = 0;
                t.gone = false;
                ++t.releases;
                left = true;
            } else {
                phi_ = old;
                f_ = evaluate(phi_);
            }
        }
        if (left) break;
    }
    return left;
}

void trapezoid(int r, int rank, const Vector& psi, double* phi) {
    Vector A = psi, values(r), vectors(static_cast<size_t>(r) * r);
    eigen_symmetric(r, A.data(), values.data(), vectors.data());
    Vector F(static_cast<size_t>(r) * r, 0.0); // column-major (r, rank)
    for (int k = 0; k < rank; ++k) {
        const int e = r - 1 - k;
        const double s = std::sqrt(std::max(values[e], 0.0));
        for (int a = 0; a < r; ++a) F[square_at(a, k, r)] = s * vectors[square_at(a, e, r)];
    }
    for (int row = 0; row < rank; ++row) {
        Watch::poll();
        for (int k = row + 1; k < rank; ++k) {
            const double x = F[square_at(row, row, r)], y = F[square_at(row, k, r)];
            const double h = std::hypot(x, y);
            if (h == 0) continue;
            const double c = x / h, s = y / h;
            for (int a = row; a < r; ++a) {
                const double u = F[square_at(a, row, r)], v = F[square_at(a, k, r)];
                F[square_at(a, row, r)] = c * u + s * v;
                F[square_at(a, k, r)] = c * v - s * u;
            }
            F[square_at(row, k, r)] = 0;
        }
    }
    int i = 0;
    for (int col = 0; col < r; ++col) {
        const double sign = F[square_at(col, col, r)] < 0 ? -1.0 : 1.0;
        for (int row = col; row < r; ++row) phi[i++] = sign * F[square_at(row, col, r)];
    }
}

} // namespace ranef
