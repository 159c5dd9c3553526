// The criterion of a linear mixed model with one variance parameter, along its whole range.
//
// With one term whose Lambda is phi M (M from a kernel where there is one) the levels are
// independent given beta. The eigenvectors of each level's M'Z_l'W Z_l M turn it into r effects
// with information d, and with x = their rows of Z'X and lambda = phi^2
//     log|H|   = sum log(1 + lambda d),
//     X'H^-1X  = X'X - sum xx'/d + sum xx'/d / (1 + lambda d),
// the same with y (Patterson & Thompson 1971, Biometrika 58, in the notation of one
// variance ratio). Effects of the same d are summed once, so that a point of the profile costs
// as many operations as there are distinct d, whatever the number of levels. Nothing cancels
// however large lambda is.
#pragma once

#include "blocks.hpp"

namespace ranef {

class Profile {
  public:
    // Whether the model has one term and one variance parameter, and its spectrum costs little.
    static bool possible(const Blocks& blocks);

    // keep: factors at all points of the grid, for whoever has many responses.
    Profile(const Blocks& blocks, bool reml, bool keep);

    // Parameters phi from which lower optima than that at `phi` can be reached, one in each
    // valley of the profile: empty where phi stands in the lowest.
    Vector lower_valleys(const Response& response, double phi) const;

  private:
    struct Point {
        double lambda = 0, logdet = 0;
        Vector L; // Cholesky factor of X'H^-1X; empty where there is none
    };
    struct Sums { // of a response, by group of effects: (Z'y)^2/d and X'Z Z'y/d
        double rest = 0;
        Vector rest_x, square, cross;
    };
    Point at(double lambda) const;
    Sums sums(const Response& response) const;
    double value(const Point& point, const Sums& y) const;
    double least_rss(const Sums& y) const;
    Vector grid() const;
    double valley(double low, double middle, double high, const Sums& y) const;
    void list_effects();
    void rotate(int level, const Vector& A, const Vector& M);
    const double* fixed(size_t row) const;
    void group();

    const Blocks& b_;
    bool reml_;
    double m_;
    bool exact_ = true; // whether groups hold effects of equal d only
    int size_ = 1;      // effects of a level
    // one entry per effect: information, rotation of its level (size, size), its group
    Vector d_, rotation_;
    std::vector<int> group_;
    Vector x_;                  // (effects, p): rows of Z'X in the eigenvectors
    Vector mean_, count_;       // by group
    Vector sum_x_;              // by group (p, p), lower triangle: sum of xx'/d
    Vector within_;             // (p, p), lower triangle: X'X - sum xx'/d
    std::vector<Point> points_; // of the grid, where they are kept
};

} // namespace ranef
