#include "correlation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "matern.hpp"

namespace ranef {
namespace {

constexpr double fair_correlation = 0.3;

std::size_t square(int r) {
    return static_cast<std::size_t>(r) * static_cast<std::size_t>(r);
}

// A correlation for each distinct distance between columns.
class ByDistance : public Correlation {
  public:
    // distance: (r, r). Distances that differ by rounding only are one.
    ByDistance(int r, const std::vector<double>& distance) {
        std::vector<int> pairs;
        for (int i = 0; i < r; ++i)
            for (int j = 0; j < i; ++j) pairs.push_back(i * r + j);
        std::sort(pairs.begin(), pairs.end(),
                  [&](int p, int q) { return distance[p] < distance[q]; });
        const std::size_t half = pairs.size() / 2;
        median_ = pairs.size() % 2 ? distance[pairs[half]]
                                   : 0.5 * (distance[pairs[half - 1]] + distance[pairs[half]]);
        index.assign(square(r), -1);
        for (int p : pairs) {
            if (distances_.empty() || distance[p] > distances_.back() * (1.0 + 1e-15))
                distances_.push_back(distance[p]);
            const int i = p / r, j = p % r;
            index[i * r + j] = index[j * r + i] = static_cast<int>(distances_.size()) - 1;
        }
        distinct = static_cast<int>(distances_.size());
    }

  protected:
    // Distance number k in units of the median, in which phi is of order one.
    double relative(int k) const { return distances_[k] / median_; }

    std::vector<double> distances_; // increasing
    double median_;
};

class Uncorrelated final : public Correlation {
  public:
    explicit Uncorrelated(int r) {
        distinct = 1;
        index.assign(square(r), 0);
    }
    int parameters() const override { return 0; }
    void values(const Jet*, Jet* rho) const override { rho[0] = constant(0.0); }
    void start(double*) const override {}
};

// One correlation for every pair, from -1 / (r - 1) to 1.
class Exchangeable final : public Correlation {
  public:
    explicit Exchangeable(int r)
        : middle_(0.5 * (1.0 - 1.0 / (r - 1))), half_(0.5 * (1.0 + 1.0 / (r - 1))) {
        distinct = 1;
        index.assign(square(r), 0);
    }
    int parameters() const override { return 1; }
    void values(const Jet* phi, Jet* rho) const override {
        rho[0] = constant(middle_) + half_ * sin(phi[0]);
    }
    void start(double* phi) const override {
        phi[0] = std::asin((fair_correlation - middle_) / half_);
    }

  private:
    double middle_, half_;
};

// rho^lag, rho = sin(phi).
class Autoregressive final : public ByDistance {
  public:
    using ByDistance::ByDistance;
    int parameters() const override { return 1; }
    void values(const Jet* phi, Jet* rho) const override {
        const Jet one_step = sin(phi[0]);
        for (int k = 0; k < distinct; ++k) rho[k] = power(one_step, distances_[k]);
    }
    void start(double* phi) const override {
        phi[0] = std::asin(std::pow(fair_correlation, 1.0 / distances_[0]));
    }
};

// A correlation for each lag 1 .. r - 1, through the partial autocorrelations
// sin(phi_k). Rotations only, so that R is semidefinite to rounding: the lattice
// of Gray & Markel (1975) run without input. b_k is the correlation of x_0 with
// the normalised error of predicting x_(t-k) from the k values after it; f is that
// of the forward errors; f_0 = b_0 is the autocorrelation.
class Toeplitz final : public ByDistance {
  public:
    using ByDistance::ByDistance;
    int parameters() const override { return distinct; }
    void values(const Jet* phi, Jet* rho) const override {
        std::vector<Jet> sines, cosines, b(distinct + 1);
        for (int k = 0; k < distinct; ++k) {
            sines.push_back(sin(phi[k]));
            cosines.push_back(cos(phi[k]));
        }
        b[0] = constant(1.0);
        for (int t = 0; t < distinct; ++t) {
            Jet f;
            for (int k = t; k >= 0; --k) {
                const Jet behind = b[k];
                b[k + 1] = cosines[k] * behind - sines[k] * f;
                f = cosines[k] * f + sines[k] * behind;
            }
            rho[t] = b[0] = f;
        }
    }
    void start(double* phi) const override {
        std::fill(phi, phi + distinct, 0.0);
        phi[0] = std::asin(fair_correlation);
    }
};

// exp(-distance / range), 1 / range = phi^2 / median: `ou`, where it is the
// rate, and `exp`.
class Exponential final : public ByDistance {
  public:
    using ByDistance::ByDistance;
    int parameters() const override { return 1; }
    void values(const Jet* phi, Jet* rho) const override {
        const Jet inverse_range = phi[0] * phi[0];
        for (int k = 0; k < distinct; ++k) rho[k] = exp(-relative(k) * inverse_range);
    }
    void start(double* phi) const override { phi[0] = 1.0; }
};

// exp(-(distance / range)^2), 1 / range = |phi| / median.
class Gaussian final : public ByDistance {
  public:
    using ByDistance::ByDistance;
    int parameters() const override { return 1; }
    void values(const Jet* phi, Jet* rho) const override {
        const Jet squared = phi[0] * phi[0];
        for (int k = 0; k < distinct; ++k) rho[k] = exp(-relative(k) * relative(k) * squared);
    }
    void start(double* phi) const override { phi[0] = 1.0; }
};

// Matern with 1 / range = exp(phi_0) / median and smoothness exp(phi_1).
class Matern final : public ByDistance {
  public:
    using ByDistance::ByDistance;
    int parameters() const override { return 2; }
    void values(const Jet* phi, Jet* rho) const override {
        const Jet smoothness = exp(phi[1]);
        for (int k = 0; k < distinct; ++k)
            rho[k] = matern(constant(std::log(relative(k))) + phi[0], smoothness);
    }
    void start(double* phi) const override {
        phi[0] = 0.0;
        phi[1] = std::log(0.5);
    }
};

// Euclidean distances between the columns' positions, (r, r).
std::vector<double> distances(const std::string& kind, int r, const std::vector<double>& positions,
                              int dimensions) {
    if (dimensions < 1 || positions.size() != static_cast<std::size_t>(r) * dimensions)
        throw std::invalid_argument(kind + " needs a position for each of the " +
                                    std::to_string(r) + " columns");
    for (double x : positions)
        if (!std::isfinite(x)) throw std::invalid_argument(kind + ": a position is not finite");
    std::vector<double> out(square(r), 0.0);
    for (int i = 0; i < r; ++i)
        for (int j = 0; j < i; ++j) {
            double d = 0.0;
            for (int k = 0; k < dimensions; ++k)
                d = std::hypot(d, positions[i * dimensions + k] - positions[j * dimensions + k]);
            if (d == 0.0)
                throw std::invalid_argument(kind + ": columns " + std::to_string(j + 1) + " and " +
                                            std::to_string(i + 1) +
                                            " have the same position; give each position once");
            out[i * r + j] = out[j * r + i] = d;
        }
    return out;
}

void require_time(const std::string& kind, int dimensions) {
    if (dimensions != 1)
        throw std::invalid_argument(kind + " needs positions in one dimension, not " +
                                    std::to_string(dimensions) + "; use exp, gau or mat");
}

// Lags between the columns, their order where no positions are given.
std::vector<double> lags(const std::string& kind, int r, std::vector<double> positions,
                         int dimensions) {
    if (positions.empty()) {
        positions.resize(r);
        std::iota(positions.begin(), positions.end(), 0.0);
        dimensions = 1;
    }
    require_time(kind, dimensions);
    for (double x : positions)
        if (std::isfinite(x) && x != std::floor(x))
            throw std::invalid_argument(kind + " needs whole numbers as positions; for times in "
                                               "between use ou");
    return distances(kind, r, positions, dimensions);
}

} // namespace

std::unique_ptr<Correlation> make_correlation(const std::string& kind, int r,
                                              const std::vector<double>& positions,
                                              int dimensions) {
    if (kind == "homdiag") return std::make_unique<Uncorrelated>(r);
    if (kind == "cs" || kind == "homcs") return std::make_unique<Exchangeable>(r);
    if (kind == "ar1" || kind == "hetar1")
        return std::make_unique<Autoregressive>(r, lags(kind, r, positions, dimensions));
    if (kind == "toep" || kind == "homtoep")
        return std::make_unique<Toeplitz>(r, lags(kind, r, {}, 1));
    if (kind == "ou") require_time(kind, dimensions);
    const std::vector<double> distance = distances(kind, r, positions, dimensions);
    if (kind == "ou" || kind == "exp") return std::make_unique<Exponential>(r, distance);
    if (kind == "gau") return std::make_unique<Gaussian>(r, distance);
    return std::make_unique<Matern>(r, distance);
}

} // namespace ranef
