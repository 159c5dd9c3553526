// The search for the optimum: trust-region Newton on unbounded parameters, with
// steps onto the faces where a covariance matrix loses rank.
//
// The criterion is even in every column of Lambda, so its gradient vanishes
// where a column is zero: a bound there is a trap. The search is unbounded; when
// it nears a face it steps onto it (rank reduced), re-solves there and checks
// that G is positive semidefinite on the null space N of Psi (N'GN >= 0);
// where it is not, it leaves along the offending direction.
#pragma once

#include <functional>
#include <limits>
#include <string>

#include "objective.hpp"

namespace ranef {

struct SearchOptions {
    int max_evaluations = 200;
    double tolerance = 1e-10; // of the decrement, at least
    double rounding = 2e-13;  // of the criterion, relative
    // called after each evaluation; false stops the search
    std::function<bool(int, double, double)> progress;
    // parameters that keep their values of the start; none or one entry for each. Of a
    // structure's parameters all or none, but for diagonal ones.
    std::vector<char> held;
};

struct TermFace {
    int term; // in order of the factors' terms
    int rank;
    double curvature; // smallest eigenvalue of N'GN
};

struct Outcome {
    Vector phi, gradient, hessian, trace;
    std::vector<char> free; // parameters that are neither held nor fixed by a face
    std::vector<TermFace> faces;
    double criterion = 0, decrement = 0, tolerance = 0;
    int evaluations = 0, restarts = 0;
    // of how many searches this is the best, and how many of them ended as low; whether the
    // criterion was looked at along the whole range of its one parameter
    int starts = 1, agreeing = 1;
    bool whole_range = false;
    bool converged = false, stopped = false;
    bool blurred = false; // digits are lost, see Objective::noise
    std::string message;
};

Outcome search(Objective& objective, const Vector& start, const SearchOptions& options);

// Psi (r, r) of rank `rank` -> column-major lower trapezoidal parameters of `us`.
void trapezoid(int r, int rank, const Vector& psi, double* phi);

} // namespace ranef
