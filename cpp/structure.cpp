#include "structure.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <utility>

#include "correlation.hpp"
#include "watch.hpp"

namespace ranef {
namespace {

std::size_t square(int r) {
    return static_cast<std::size_t>(r) * static_cast<std::size_t>(r);
}

void clear(int r, double* M) {
    std::fill(M, M + square(r), 0.0);
}

// Psi = L L', L (r, rank) lower trapezoidal; phi: L by columns. rank == r is
// the unstructured matrix, where L is Lambda.
class Loadings final : public Structure {
  public:
    Loadings(int size, int rank) : Structure(size), rank_(rank) {
        for (int j = 0; j < rank; ++j)
            for (int i = j; i < size; ++i) entries_.push_back({i, j});
    }

    int parameters() const override { return static_cast<int>(entries_.size()); }

    void factor(const double* phi, double* Lambda) const override {
        clear(r, Lambda);
        for (std::size_t k = 0; k < entries_.size(); ++k)
            Lambda[entries_[k].row * r + entries_[k].column] = phi[k];
    }

    // E L' + L E', E the unit matrix of entry (row, column).
    void derivative(const double* phi, int i, double* dPsi) const override {
        clear(r, dPsi);
        const auto [row, column] = entries_[i];
        const double* from_diagonal = phi + column * r - column * (column - 1) / 2;
        for (int k = column; k < r; ++k) {
            dPsi[row * r + k] += from_diagonal[k - column];
            dPsi[k * r + row] += from_diagonal[k - column];
        }
    }

    bool second(const double*, int i, int j, double* d2Psi) const override {
        if (entries_[i].column != entries_[j].column) return false;
        clear(r, d2Psi);
        d2Psi[entries_[i].row * r + entries_[j].row] += 1.0;
        d2Psi[entries_[j].row * r + entries_[i].row] += 1.0;
        return true;
    }

    void start(double* phi) const override {
        for (std::size_t k = 0; k < entries_.size(); ++k) {
            const auto [row, column] = entries_[k];
            phi[k] = row >= rank_ ? 1.0 / std::sqrt(rank_) : (row == column ? 1.0 : 0.0);
        }
    }

    bool free_scale() const override { return rank_ == r; }
    bool unstructured() const override { return rank_ == r; }

    void rescale(double s, double* phi) const override {
        for (int k = 0; k < parameters(); ++k) phi[k] *= s;
    }

  private:
    struct Entry {
        int row, column;
    };

    int rank_;
    std::vector<Entry> entries_;
};

// ---------------------------------------------------------------- diagonal

// phi: r standard deviations of either sign; Psi = diag(phi^2).
class Diagonal final : public Structure {
  public:
    using Structure::Structure;

    int parameters() const override { return r; }

    void factor(const double* phi, double* Lambda) const override {
        clear(r, Lambda);
        for (int i = 0; i < r; ++i) Lambda[i * r + i] = phi[i];
    }

    void derivative(const double* phi, int i, double* dPsi) const override {
        clear(r, dPsi);
        dPsi[i * r + i] = 2.0 * phi[i];
    }

    bool second(const double*, int i, int j, double* d2Psi) const override {
        if (i != j) return false;
        clear(r, d2Psi);
        d2Psi[i * r + i] = 2.0;
        return true;
    }

    void start(double* phi) const override { std::fill(phi, phi + r, 1.0); }
    bool free_scale() const override { return true; }

    void rescale(double s, double* phi) const override {
        for (int i = 0; i < r; ++i) phi[i] *= s;
    }
};

// ---------------------------------------------------------------- semidefinite Cholesky

// In place; false where a pivot is lost in rounding. Unit diagonal.
bool cholesky(int r, double rounding, double* L) {
    for (int k = 0; k < r; ++k) {
        Watch::poll();
        for (int i = k; i < r; ++i)
            for (int j = 0; j < k; ++j) L[i * r + k] -= L[i * r + j] * L[k * r + j];
        if (!(L[k * r + k] > rounding)) return false;
        const double root = std::sqrt(L[k * r + k]);
        for (int i = k; i < r; ++i) L[i * r + k] /= root;
        for (int i = 0; i < k; ++i) L[i * r + k] = 0.0;
    }
    return true;
}

// B (r, rank) with B B' = R, by Cholesky with complete pivoting. Returns rank.
int pivoted_cholesky(int r, double rounding, const std::vector<double>& R, double* B) {
    std::vector<double> rest(r, 1.0);
    clear(r, B);
    for (int k = 0; k < r; ++k) {
        Watch::poll();
        const int p = static_cast<int>(std::max_element(rest.begin(), rest.end()) - rest.begin());
        if (!(rest[p] > rounding)) return k;
        const double root = std::sqrt(rest[p]);
        for (int i = 0; i < r; ++i) {
            if (rest[i] < 0.0) continue; // chosen before
            double c = R[i * r + p];
            for (int j = 0; j < k; ++j) c -= B[i * r + j] * B[p * r + j];
            B[i * r + k] = i == p ? root : c / root;
            rest[i] = std::max(rest[i] - B[i * r + k] * B[i * r + k], 0.0);
        }
        rest[p] = -1.0;
    }
    return r;
}

// B times an orthogonal matrix, lower triangular: Householder reflections of
// the rows. The column that row i ends in moves to place i; those of rows that
// depend on the rows above are zero.
void lower_triangle(int r, int rank, double rounding, std::vector<double>& B, double* L) {
    clear(r, L);
    int c = 0;
    for (int i = 0; i < r && c < rank; ++i) {
        Watch::poll();
        double norm = 0.0;
        for (int j = c; j < rank; ++j) norm = std::hypot(norm, B[i * r + j]);
        if (norm <= rounding) continue;
        std::vector<double> v(&B[i * r + c], &B[i * r] + rank);
        v[0] += std::copysign(norm, v[0]);
        double half = 0.0;
        for (double x : v) half += 0.5 * x * x;
        for (int k = i; k < r; ++k) {
            double dot = 0.0;
            for (std::size_t j = 0; j < v.size(); ++j) dot += v[j] * B[k * r + c + j];
            for (std::size_t j = 0; j < v.size(); ++j) B[k * r + c + j] -= dot / half * v[j];
        }
        const double sign = B[i * r + c] < 0.0 ? -1.0 : 1.0;
        for (int k = i; k < r; ++k) L[k * r + i] = sign * B[k * r + c];
        ++c;
    }
}

// Lower triangular factor, in place, of a correlation matrix of any rank.
void semidefinite_cholesky(int r, double* L) {
    const double rounding = 8.0 * r * std::numeric_limits<double>::epsilon();
    const std::vector<double> R(L, L + square(r));
    if (cholesky(r, rounding, L)) return;
    std::vector<double> B(square(r));
    const int rank = pivoted_cholesky(r, rounding, R, B.data());
    lower_triangle(r, rank, rounding, B, L);
}

// ---------------------------------------------------------------- sds and correlations

// Psi = S R S. phi: standard deviations, then the parameters of R.
//
// One sd for all columns is |phi_0|. An sd for each is phi_i^2: were it phi_i of
// either sign, sds of opposite signs would leave the family (the signs of R
// would no longer be those of, say, compound symmetry). Either way zero is an
// interior point.
class Correlated final : public Structure {
  public:
    Correlated(int size, bool homogeneous, std::unique_ptr<Correlation> correlation)
        : Structure(size), homogeneous_(homogeneous), sds_(homogeneous ? 1 : size),
          correlation_(std::move(correlation)) {}

    int parameters() const override {
        return sds_ + (correlation_ ? correlation_->parameters() : 0);
    }

    void factor(const double* phi, double* Lambda) const override {
        const std::vector<Jet> arguments = seeded(phi, -1, -1), rho = correlations(arguments);
        for (int i = 0; i < r; ++i)
            for (int j = 0; j < r; ++j)
                Lambda[i * r + j] = i == j ? 1.0 : rho[correlation_->index[i * r + j]].v;
        semidefinite_cholesky(r, Lambda);
        for (int i = 0; i < r; ++i) {
            const double s = std::abs(sd(arguments, i).v);
            for (int j = 0; j <= i; ++j) Lambda[i * r + j] *= s;
        }
    }

    void derivative(const double* phi, int i, double* dPsi) const override {
        fill(seeded(phi, i, -1), i, -1, dPsi, &Jet::a);
    }

    bool second(const double* phi, int i, int j, double* d2Psi) const override {
        fill(seeded(phi, i, j), i, j, d2Psi, &Jet::ab);
        return true;
    }

    void start(double* phi) const override {
        std::fill(phi, phi + sds_, 1.0);
        if (correlation_) correlation_->start(phi + sds_);
    }

    bool free_scale() const override { return false; }

    void rescale(double s, double* phi) const override {
        const double factor = homogeneous_ ? s : std::sqrt(s);
        for (int i = 0; i < sds_; ++i) phi[i] *= factor;
    }

  private:
    std::vector<Jet> seeded(const double* phi, int i, int j) const {
        std::vector<Jet> arguments;
        for (int k = 0; k < parameters(); ++k)
            arguments.push_back({phi[k], k == i ? 1.0 : 0.0, k == j ? 1.0 : 0.0, 0.0});
        return arguments;
    }

    std::vector<Jet> correlations(const std::vector<Jet>& arguments) const {
        if (!correlation_) return {};
        std::vector<Jet> rho(correlation_->distinct);
        correlation_->values(arguments.data() + sds_, rho.data());
        return rho;
    }

    Jet sd(const std::vector<Jet>& arguments, int i) const {
        return homogeneous_ ? arguments[0] : arguments[i] * arguments[i];
    }

    // One part of the jet of Psi. An sd of one column changes its row only.
    void fill(const std::vector<Jet>& arguments, int i, int j, double* out,
              double Jet::* part) const {
        clear(r, out);
        const std::vector<Jet> rho = correlations(arguments);
        std::vector<Jet> sds;
        for (int k = 0; k < r; ++k) sds.push_back(sd(arguments, k));
        const auto entry = [&](int k, int l) {
            Jet psi = sds[k] * sds[l];
            if (k != l) psi = psi * rho[correlation_->index[k * r + l]];
            out[k * r + l] = out[l * r + k] = psi.*part;
        };
        const int only = homogeneous_ ? -1 : (i < sds_ ? i : (j >= 0 && j < sds_ ? j : -1));
        for (int k = 0; k < r; ++k) {
            if (only >= 0)
                entry(only, k);
            else
                for (int l = 0; l <= k; ++l) entry(k, l);
        }
    }

    bool homogeneous_;
    int sds_;
    std::unique_ptr<Correlation> correlation_; // none of a single column
};

bool one_of(const std::string& kind, std::initializer_list<const char*> kinds) {
    return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

} // namespace

std::vector<char> Structure::sizes() const {
    std::vector<double> once(parameters(), 0.5), twice = once;
    rescale(2.0, twice.data());
    std::vector<char> out(once.size());
    for (size_t i = 0; i < out.size(); ++i) out[i] = twice[i] != once[i];
    return out;
}

std::unique_ptr<Structure> make_structure(const std::string& kind, int r, int rank,
                                          const std::vector<double>& positions, int dimensions) {
    if (r < 1) throw std::invalid_argument("a covariance structure needs at least one column");
    if (kind == "us") return std::make_unique<Loadings>(r, r);
    if (kind == "diag") return std::make_unique<Diagonal>(r);
    if (kind == "rr") {
        if (rank < 1 || rank > r)
            throw std::invalid_argument("rr of " + std::to_string(r) + " columns has from 1 to " +
                                        std::to_string(r) + " dimensions, not " +
                                        std::to_string(rank));
        return std::make_unique<Loadings>(r, rank);
    }
    const bool homogeneous =
        one_of(kind, {"homdiag", "homcs", "ar1", "homtoep", "ou", "exp", "gau", "mat"});
    if (!homogeneous && !one_of(kind, {"cs", "hetar1", "toep"}))
        throw std::invalid_argument("unknown covariance structure '" + kind + "'");
    return std::make_unique<Correlated>(
        r, homogeneous, r == 1 ? nullptr : make_correlation(kind, r, positions, dimensions));
}

} // namespace ranef
