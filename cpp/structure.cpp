#include "structure.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace ranef {
namespace {

void clear(int r, double* M) {
    std::fill(M, M + static_cast<std::size_t>(r) * r, 0.0);
}

// phi: column-major lower triangle of Lambda.
class Unstructured final : public Structure {
  public:
    explicit Unstructured(int size) : Structure(size) {
        for (int j = 0; j < r; ++j)
            for (int i = j; i < r; ++i) entries_.push_back({i, j});
    }

    int parameters() const override { return static_cast<int>(entries_.size()); }

    void factor(const double* phi, double* Lambda) const override {
        clear(r, Lambda);
        for (std::size_t k = 0; k < entries_.size(); ++k)
            Lambda[entries_[k].row * r + entries_[k].column] = phi[k];
    }

    // E Lambda' + Lambda E', E the unit matrix of entry (row, column).
    void derivative(const double* phi, int i, double* dPsi) const override {
        clear(r, dPsi);
        const auto [row, column] = entries_[i];
        const double* lambda = phi + first(column) - column;
        for (int k = column; k < r; ++k) {
            dPsi[row * r + k] += lambda[k];
            dPsi[k * r + row] += lambda[k];
        }
    }

    bool second(const double*, int i, int j, double* d2Psi) const override {
        const auto [row, column] = entries_[i];
        const auto [other, same] = entries_[j];
        if (column != same) return false;
        clear(r, d2Psi);
        d2Psi[row * r + other] += 1.0;
        d2Psi[other * r + row] += 1.0;
        return true;
    }

    void start(double* phi) const override {
        for (std::size_t k = 0; k < entries_.size(); ++k)
            phi[k] = entries_[k].row == entries_[k].column ? 1.0 : 0.0;
    }

    bool free_scale() const override { return true; }
    bool unstructured() const override { return true; }

    void rescale(double s, double* phi) const override {
        for (int k = 0; k < parameters(); ++k) phi[k] *= s;
    }

  private:
    struct Entry {
        int row, column;
    };

    // Index in phi of the diagonal entry of a column.
    int first(int column) const { return column * r - column * (column - 1) / 2; }

    std::vector<Entry> entries_;
};

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

} // namespace

std::unique_ptr<Structure> make_structure(const std::string& kind, int r, int /*rank*/,
                                          const std::vector<double>& /*positions*/,
                                          int /*dimensions*/) {
    if (r < 1) throw std::invalid_argument("a covariance structure needs at least one column");
    if (kind == "us") return std::make_unique<Unstructured>(r);
    if (kind == "diag") return std::make_unique<Diagonal>(r);
    throw std::invalid_argument("unknown covariance structure '" + kind + "'");
}

} // namespace ranef
