// Sums of products that the compiler may vectorise: eight partial sums, always
// added in the same order.
#pragma once

namespace ranef {

inline double dot(int n, const double* a, const double* b) {
    double s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; ++k) s[k] += a[i + k] * b[i + k];
    double rest = 0;
    for (; i < n; ++i) rest += a[i] * b[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])) + rest;
}

} // namespace ranef
