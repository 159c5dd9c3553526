// What the Laplace approximation and its derivatives share.
#pragma once

#include <vector>

#include "laplace.hpp"

namespace ranef {

constexpr size_t batch = 1024; // rows handed to the family at once

inline std::vector<int> sequence(int n) {
    std::vector<int> out(n);
    for (int i = 0; i < n; ++i) out[i] = i;
    return out;
}

} // namespace ranef
