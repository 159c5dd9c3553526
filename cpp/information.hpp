// Average information of one factor with many parameters, by sums over its levels.
//
// With M = Z_l'PZ_l less what remains and s the scores of a level, the columns w_i = Z D_i s,
// D_i = dPsi_i symmetric, have
//     sum_l w_i'w_k = sum_abcd D_i[a,b] D_k[c,d] sum_l M_l[a,c] s_l[b] s_l[d],
// so that one product of matrices over the levels serves all pairs of parameters.
#pragma once

#include <vector>

#include "blocks.hpp"

namespace ranef {

class InformationSums {
  public:
    // Whether that costs less than every pair of parameters at every level, and BLAS is there.
    static bool worthwhile(int r, size_t parameters);

    // Of levels with r columns, beside p columns of what remains.
    InformationSums(int r, int p);

    // A level: M (r, r), s (r), K (r, p).
    void add_level(const double* M, const double* s, const double* K);
    void finish() { flush(); }
    void add(const InformationSums& other);
    // gram (k, k) lower by rows, t (k) and e (k, p) += what the sums make of the directions.
    void contract(const std::vector<const double*>& directions, int k, double* gram, double* t,
                  double* e) const;

  private:
    void flush();
    int packed(int a, int c) const { return a >= c ? a * (a + 1) / 2 + c : c * (c + 1) / 2 + a; }

    int r_, p_, pairs_, held_ = 0;
    Vector M_, S_;    // of the levels at hand: (pairs, levels), (r r, levels) column-major
    Vector products_; // (pairs, r r) by rows: sum of M_l[a,c] s_l[b] s_l[d]
    Vector squares_;  // (r, r): sum of ss'
    Vector remains_;  // (r, r, p): sum of s_l[b] K_l[a, .]
};

} // namespace ranef
