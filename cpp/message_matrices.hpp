// Small dense matrices of the message kernel, row-major.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "blocks.hpp"

namespace ranef::message {

// Lower Cholesky factor in place, row-major; false where it is not positive definite.
inline bool factor(double* A, int n) {
    for (int j = 0; j < n; ++j) {
        double d = A[j * n + j];
        for (int k = 0; k < j; ++k) d -= A[j * n + k] * A[j * n + k];
        if (!(d > 0) || !std::isfinite(d)) return false;
        const double root = std::sqrt(d);
        A[j * n + j] = root;
        for (int i = j + 1; i < n; ++i) {
            double s = A[i * n + j];
            for (int k = 0; k < j; ++k) s -= A[i * n + k] * A[j * n + k];
            A[i * n + j] = s / root;
        }
    }
    return true;
}

// Inverse and log determinant of the rows and columns of A (n, n) that are present; zero
// elsewhere. False where they are not positive definite.
inline bool inverse_of_present(const double* A, int n, const Indices& present, Vector& work,
                               double* inverse, double* log_det, int* count) {
    std::vector<int> at;
    for (int i = 0; i < n; ++i)
        if (present[i]) at.push_back(i);
    const int m = static_cast<int>(at.size());
    *count = m;
    *log_det = 0;
    std::fill(inverse, inverse + static_cast<size_t>(n) * n, 0.0);
    work.resize(2 * static_cast<size_t>(m) * m);
    double* L = work.data();
    double* X = L + static_cast<size_t>(m) * m;
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j) L[i * m + j] = A[at[i] * n + at[j]];
    if (!factor(L, m)) return false;
    for (int i = 0; i < m; ++i) *log_det += 2 * std::log(L[i * m + i]);
    for (int j = 0; j < m; ++j) { // X = L^-1, lower
        for (int i = 0; i < j; ++i) X[i * m + j] = 0;
        X[j * m + j] = 1 / L[j * m + j];
        for (int i = j + 1; i < m; ++i) {
            double s = 0;
            for (int k = j; k < i; ++k) s += L[i * m + k] * X[k * m + j];
            X[i * m + j] = -s / L[i * m + i];
        }
    }
    for (int i = 0; i < m; ++i)
        for (int j = 0; j <= i; ++j) {
            double s = 0;
            for (int k = i; k < m; ++k) s += X[k * m + i] * X[k * m + j];
            inverse[at[i] * n + at[j]] = inverse[at[j] * n + at[i]] = s;
        }
    return true;
}

// Upper factor U with U'U = P of a positive semidefinite matrix, row-major; rows of zeros where
// a pivot is.
inline void semifactor(const double* P, int n, double* U) {
    double largest = 0;
    for (int i = 0; i < n; ++i) largest = std::max(largest, P[i * n + i]);
    std::fill(U, U + static_cast<size_t>(n) * n, 0.0);
    for (int j = 0; j < n; ++j) {
        double d = P[j * n + j];
        for (int k = 0; k < j; ++k) d -= U[k * n + j] * U[k * n + j];
        if (!(d > 1e-14 * P[j * n + j]) || !(d > 1e-300) || P[j * n + j] <= 1e-18 * largest)
            continue;
        const double root = std::sqrt(d);
        for (int i = j; i < n; ++i) {
            double s = P[j * n + i];
            for (int k = 0; k < j; ++k) s -= U[k * n + j] * U[k * n + i];
            U[j * n + i] = s / root;
        }
    }
}

// C = A B, (n, m) of (n, k) and (k, m).
inline void times(const double* A, const double* B, int n, int k, int m, double* C) {
    std::fill(C, C + static_cast<size_t>(n) * m, 0.0);
    for (int i = 0; i < n; ++i)
        for (int l = 0; l < k; ++l) {
            const double x = A[i * k + l];
            if (x == 0) continue;
            for (int j = 0; j < m; ++j) C[i * m + j] += x * B[l * m + j];
        }
}

// C = A B', (n, m) of (n, k) and (m, k).
inline void times_transposed(const double* A, const double* B, int n, int k, int m, double* C) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < m; ++j) {
            double s = 0;
            for (int l = 0; l < k; ++l) s += A[i * k + l] * B[j * k + l];
            C[i * m + j] = s;
        }
}

} // namespace ranef::message
