// The tail: the crossed factors' levels and the fixed effects, once the leader is taken out.
//
// Q is their Schur complement and S = Lambda'Q Lambda + I (X unscaled) = LL'; R is the
// covariance Lambda S^-1 Lambda' of what remains. Columns are counted as the blocks count
// them: the tail factors' levels one factor after the other (T), then X (p). Dense where Q
// is; by supernodes where little of it is filled.
#pragma once

#include <memory>

#include "blocks.hpp"

namespace ranef {

// What the leader leaves, by its levels: L^-1 Lambda' times [its columns of the tail, X, y].
struct Whitened {
    const Vector& tail; // as Blocks::tail_value
    const Vector& fixed;
    const Vector& response;
};

class Tail {
  public:
    Tail(const Blocks& blocks, int threads) : b_(blocks), threads_(threads) {}
    virtual ~Tail() = default;

    // Q of the tail's own cross-products; subtract: `fixed` (p, p) from X's, lower by rows.
    virtual void assemble() = 0;
    virtual void subtract_fixed(const Vector& fixed) = 0;
    // Q and Qy less what the leader explains.
    virtual void subtract_leader(const Whitened& leader, Vector& Qy) = 0;
    // Q := K'QK of the factors with a kernel.
    virtual void apply_kernels() = 0;
    // S from Q, and its factor; false where a pivot is not positive.
    virtual bool factorise(const std::vector<Vector>& lambda) = 0;
    // Whether L is still there: a dense S^-1 takes its place, unless it was asked to keep both.
    virtual bool holds_factor() const = 0;
    virtual void keep_factor(bool) {}
    // L again; true where S^-1 (or R) stays beside it.
    virtual bool restore(const std::vector<Vector>& lambda) {
        factorise(lambda);
        return false;
    }
    // sum += log|S|, X's part under REML only.
    virtual void add_log_determinant(bool with_fixed, double& sum) const = 0;
    // X (N, k) := L^-1 X, or L^-T X; in L's own coordinates X's are the last p.
    virtual void forward(int k, double* X) const = 0;
    virtual void backward(int k, double* X) const = 0;
    // L's block of the fixed effects, (p, p) column-major, and one of its diagonal.
    virtual Vector fixed_factor() const = 0;
    virtual double fixed_pivot(int e) const = 0;
    // S_TT^-1 S_TX, (T, p) column-major.
    virtual Vector fixed_modes() const = 0;
    // Y (N, k) := Q X.
    virtual void schur_times(int k, const double* X, double* Y) const = 0;
    // Q of X's column e with the tail's column i.
    virtual double schur_fixed(int i, int e) const = 0;

    // S^-1, or that of the tail alone with zeros beside; then its part in the derivatives:
    // BL[f] = sum over levels of (Q Lambda S^-1)_jj by tail factor, and, where they are known,
    // the squared norms of I - S^-1 by pairs of factors.
    virtual void invert(bool with_fixed) = 0;
    virtual void gradient(const std::vector<Vector>& lambda, bool with_fixed,
                          std::vector<Vector>& BL, Vector& squares) = 0;
    // S^-1 becomes R; after invert().
    virtual void scale_inverse(const std::vector<Vector>& lambda) = 0;
    // sum_j Q_jj - Q_j. R Q_.j over the levels of a factor, where Lambda cannot be taken out.
    virtual Vector gradient_exact(const std::vector<Vector>& lambda, int factor,
                                  bool with_fixed) = 0;
    // With kernels, R := K R K', and back if the old one is kept.
    virtual void unapply_kernels(bool keep) = 0;
    virtual void reapply_kernels() = 0;

    // Of R. Y (N, k) := R X.
    virtual void covariance_times(int k, const double* X, double* Y) const = 0;
    virtual double covariance(int i, int j) const = 0;
    // out (r, m) := K_T R_TT on the columns that a level of the leader touches, twice the part
    // of X added: K_X R_XT; B (r, r) -= what K = [K_T, K_X] makes of R but for X with X.
    virtual void level_form(size_t level, int r, int m, const double* KT, const double* KX,
                            double* out, double* B) const = 0;
    // out (r, m + p) := -J R on the columns that the level touches and X's; J likewise.
    virtual void level_covariance(size_t level, int r, int m, const double* J,
                                  double* out) const = 0;

  protected:
    const Blocks& b_;
    int threads_;
};

std::unique_ptr<Tail> make_tail(const Blocks& blocks, int threads);

// v (N, columns) := K v, or K'v, at the columns of factors with a kernel.
void kernel_times(const Blocks& blocks, Vector& v, int columns, bool transposed);
// G (r, r), symmetric, of BL = G Lambda, Lambda lower triangular; row-major.
void divide_by_factor(int r, const double* Lambda, const double* BL, double* G);

} // namespace ranef
