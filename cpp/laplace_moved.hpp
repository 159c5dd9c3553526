// What is known at points beside an optimum, for second derivatives: see laplace_moved.cpp.
#pragma once

#include "laplace.hpp"

namespace ranef {

// At one point after the other, row-major.
struct Sides {
    Vector criterion, gradient, coefficients;
    std::vector<Vector> psi_gradient; // by factor
};

// Adds what is known at `many` pairs of points high and low (many, parameters) around the one at
// which `laplace` stands; `objective` is that, or stands on it. It stands elsewhere afterwards.
void look_beside(Laplace& laplace, Objective& objective, size_t many, const double* high,
                 const double* low, Sides& out);

} // namespace ranef
