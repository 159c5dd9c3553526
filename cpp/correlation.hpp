// Correlation matrices of few parameters, any value of which is valid.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jet.hpp"

namespace ranef {

// A correlation matrix with few distinct entries: off the diagonal, entry (i, j)
// is value number `index[i * r + j]` of the `distinct` ones.
class Correlation {
  public:
    virtual ~Correlation() = default;

    virtual int parameters() const = 0;
    // The distinct correlations and their derivatives.
    virtual void values(const Jet* phi, Jet* rho) const = 0;
    virtual void start(double* phi) const = 0;

    int distinct = 0;
    std::vector<int> index;
};

// kind: homdiag, cs, homcs, ar1, hetar1, toep, homtoep, ou, exp, gau or mat; r > 1.
// positions: (r, dimensions), or empty where the order of the columns says all.
std::unique_ptr<Correlation> make_correlation(const std::string& kind, int r,
                                              const std::vector<double>& positions, int dimensions);

} // namespace ranef
