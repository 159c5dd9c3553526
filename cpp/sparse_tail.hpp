// The tail by supernodes, where little of it is filled: teachers in schools, plots in
// fields, people who seldom move.
#pragma once

#include "sparse_cholesky.hpp"
#include "tail.hpp"

namespace ranef {

// Where the blocks of a model stand in the pattern; made once.
struct SparseLayout {
    SparsePattern pattern;
    Indices position; // of a column of the tail
    Indices factor;   // that the column at a position belongs to
    // Places of the leader's pairs of columns (e, i >= e), level by level.
    std::vector<int64_t> pair_ptr;
    std::vector<uint32_t> pair_place;
    // Of the blocks of each PairBlock: of their first value, and whether f stands below g.
    std::vector<std::vector<int64_t>> block_place;
    std::vector<std::vector<char>> block_turned;
};

std::shared_ptr<const SparseLayout> lay_out_sparse(const Blocks& blocks);

// What a sparse tail of these factors would hold and cost, without its cross-products.
struct SparseCost {
    int64_t fill; // values of the factor
    double flops; // of one factorisation
    double pairs; // of columns that a level of the leader meets, summed over its levels
};

SparseCost sparse_cost(size_t n, const int32_t* leader, int q,
                       const std::vector<const int32_t*>& codes, const std::vector<int>& levels,
                       const std::vector<int>& sizes);

class SparseTail final : public Tail {
  public:
    SparseTail(const Blocks& blocks, int threads);

    void assemble() override;
    void subtract_fixed(const Vector& fixed) override;
    void subtract_leader(const Whitened& leader, Vector& Qy) override;
    void apply_kernels() override {}
    bool factorise(const std::vector<Vector>& lambda) override;
    bool holds_factor() const override { return true; }
    void add_log_determinant(bool with_fixed, double& sum) const override;
    void forward(int k, double* X) const override;
    void backward(int k, double* X) const override;
    Vector fixed_factor() const override { return L_.corner; }
    double fixed_pivot(int e) const override;
    Vector fixed_modes() const override;
    void schur_times(int k, const double* X, double* Y) const override;
    double schur_fixed(int i, int e) const override;
    void invert(bool with_fixed) override;
    void gradient(const std::vector<Vector>& lambda, bool with_fixed, std::vector<Vector>& BL,
                  Vector& norms) override;
    void scale_inverse(const std::vector<Vector>& lambda) override;
    Vector gradient_exact(const std::vector<Vector>& lambda, int factor, bool with_fixed) override;
    void unapply_kernels(bool) override {}
    void reapply_kernels() override {}
    void covariance_times(int k, const double* X, double* Y) const override;
    double covariance(int i, int j) const override;
    void level_form(size_t level, int r, int m, const double* KT, const double* KX, double* out,
                    double* B) const override;
    void level_covariance(size_t level, int r, int m, const double* J, double* out) const override;

    const SparseLayout& layout() const { return s_; }
    const BorderedMatrix& factor() const { return L_; }
    const BorderedMatrix& covariance_matrix() const { return R_; }
    // The same of any matrix on the pattern: BL of gradient() with S^-1 given, the form of
    // level_form(), Y (N, k) := A X, and A := Lambda'A Lambda (whitening) or Lambda A Lambda'.
    void gradient_of(const std::vector<Vector>& lambda, const BorderedMatrix& inverse,
                     bool with_fixed, std::vector<Vector>& BL) const;
    void form_of(const BorderedMatrix& A, size_t level, int r, int m, const double* KT,
                 const double* KX, double* out, double* B) const;
    void pattern_times(const BorderedMatrix& A, int k, const double* X, double* Y) const;
    void scale_both(const std::vector<Vector>& lambda, bool whitening, BorderedMatrix& A) const;

  private:
    void scale(const std::vector<Vector>& lambda, BorderedMatrix& S);
    // Columns in the blocks' order to positions, and back.
    Vector placed(int k, const double* X) const;
    void returned(int k, const Vector& X, double* Y) const;
    void scale_columns(int k, bool transposed, Vector& X) const;

    const SparseLayout& s_;
    const SparsePattern& P_;
    BorderedMatrix Q_, L_, R_;
    std::vector<Vector> lambda_;
    bool with_fixed_ = true;
};

} // namespace ranef
