// Eigenvalues and vectors by LAPACK, which does not look for an interrupt: what takes it long is
// left to it where nobody waits for it any more.
#pragma once

#include <vector>

namespace ranef {

struct Spectrum {
    std::vector<double> values;  // ascending
    std::vector<double> vectors; // columns
};

// The largest `count` of a symmetric matrix, (n, n) with its lower triangle, which is given away.
// False where LAPACK fails.
bool spectrum(int n, int count, std::vector<double> A, Spectrum& out);

} // namespace ranef
