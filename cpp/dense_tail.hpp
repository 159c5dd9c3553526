// The tail as one dense matrix, for BLAS.
#pragma once

#include "tail.hpp"

namespace ranef {

constexpr int dense_block = 512; // rows of the leader handed to BLAS at once

class DenseTail final : public Tail {
  public:
    DenseTail(const Blocks& blocks, int threads);

    void assemble() override;
    void subtract_fixed(const Vector& fixed) override;
    void subtract_leader(const Whitened& leader, Vector& Qy) override;
    void apply_kernels() override { kernel_both(Q_, true); }
    bool factorise(const std::vector<Vector>& lambda) override;
    bool holds_factor() const override { return in_place_ || !beside_.empty(); }
    void keep_factor(bool keep) override { keep_ = keep && small(); }
    bool restore(const std::vector<Vector>& lambda) override;
    void add_log_determinant(bool with_fixed, double& sum) const override;
    void forward(int k, double* X) const override;
    void backward(int k, double* X) const override;
    Vector fixed_factor() const override;
    double fixed_pivot(int e) const override;
    Vector fixed_modes() const override;
    void schur_times(int k, const double* X, double* Y) const override;
    double schur_fixed(int i, int e) const override;
    void invert(bool with_fixed) override;
    void gradient(const std::vector<Vector>& lambda, bool with_fixed, std::vector<Vector>& BL,
                  Vector& squares) override;
    void scale_inverse(const std::vector<Vector>& lambda) override;
    Vector gradient_exact(const std::vector<Vector>& lambda, int factor, bool with_fixed) override;
    void unapply_kernels(bool keep) override {
        if (keep) kept_ = S_;
        kernel_both(S_, false);
    }
    void reapply_kernels() override {
        S_.swap(kept_);
        kept_ = Vector();
    }
    void covariance_times(int k, const double* X, double* Y) const override;
    double covariance(int i, int j) const override;
    void level_form(size_t level, int r, int m, const double* KT, const double* KX, double* out,
                    double* B) const override;
    void level_covariance(size_t level, int r, int m, const double* J, double* out) const override;

    // The matrices themselves, (N, N) column-major, lower triangle: Q, and L, S^-1 or R.
    Vector& schur() { return Q_; }
    Vector& factor() { return S_; }
    const Vector& factor() const { return S_; }
    // The upper halves of the diagonal blocks of Q and S.
    void fill_diagonal_blocks();
    // Where most levels of the leader touch most of the tail, BLAS on zero-filled panels is
    // faster than scattering.
    static bool dense_leader(const Blocks& blocks);
    // A := K'AK (transposed) or K A K', A symmetric with its lower triangle stored.
    void kernel_both(Vector& A, bool transposed) const;

  private:
    void scatter_leader(const Whitened& leader, Vector& Qy);
    void scatter_leader_dense(const Whitened& leader, Vector& Qy);
    void scale(const std::vector<Vector>& lambda);

    // Whether L is kept beside S^-1: not where kernels need the room.
    bool small() const;
    const Vector& L() const { return in_place_ ? S_ : beside_; }

    Vector Q_, S_, kept_;
    Vector beside_;         // L, where S^-1 has its place and both are kept
    bool in_place_ = false; // S_ is L
    bool keep_ = false;
};

} // namespace ranef
