// Covariance structures of one random term: parameters phi -> Lambda with
// Psi = Lambda Lambda', and the derivatives of Psi. Matrices are (r, r),
// row-major. Everything is relative to sigma^2.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace ranef {

class Structure {
  public:
    explicit Structure(int size) : r(size) {}
    virtual ~Structure() = default;

    const int r;

    virtual int parameters() const = 0;
    // Lambda lower triangular.
    virtual void factor(const double* phi, double* Lambda) const = 0;
    // d Psi / d phi_i.
    virtual void derivative(const double* phi, int i, double* dPsi) const = 0;
    // d^2 Psi / d phi_i d phi_j; false (and untouched) where it is zero.
    virtual bool second(const double* phi, int i, int j, double* d2Psi) const = 0;
    // A fair start: Psi near the identity.
    virtual void start(double* phi) const = 0;
    // True where each column may be scaled on its own (and, for us, shifted)
    // without leaving the structure.
    virtual bool free_scale() const = 0;
    virtual bool unstructured() const { return false; }
    // phi of the structure whose Psi is s^2 times that of phi, in place.
    virtual void rescale(double s, double* phi) const = 0;
    // Which parameters have the unit of an effect; the others say the shape of Psi.
    std::vector<char> sizes() const;
};

// kind: a name of the formula language. positions: (r, d) coordinates of the
// columns for ar1, ou, exp, gau, mat; rank: dimensions of rr.
std::unique_ptr<Structure> make_structure(const std::string& kind, int r, int rank,
                                          const std::vector<double>& positions, int dimensions);

} // namespace ranef
