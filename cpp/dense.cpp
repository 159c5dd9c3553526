#include "dense.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "dense_panels.hpp"
#include "pieces.hpp"
#include "spectrum.hpp"
#include "sums.hpp"
#include "threads.hpp"

namespace ranef {

Lapack& lapack() {
    static Lapack table;
    return table;
}

bool use_lapack(int n) {
    return n > small_order && lapack().potrf != nullptr;
}

namespace {

constexpr int squares_worth_threads = 300; // columns

inline std::size_t at(int i, int j, int ld) {
    return static_cast<std::size_t>(j) * ld + i;
}

// X (n, k) := L^-1 X, or with L' (trans = 'T').
void blas_solve(char trans, int n, int k, const double* L, int lda, double* X, int ldx) {
    char side = 'L', uplo = 'L', diag = 'N';
    double one = 1;
    in_pieces(k, static_cast<double>(n) * n, [&](int first, int columns) {
        lapack().trsm(&side, &uplo, &trans, &diag, &n, &columns, &one, const_cast<double*>(L), &lda,
                      X + at(0, first, ldx), &ldx);
    });
}

// On one thread too: the bits are to be those of many.
bool tiled(int n) {
    return n >= least_tiled && n <= most_tiled && use_lapack(n);
}

int tile_size(int n, int k) {
    return std::min(tile, n - k * tile);
}

// Which tiles are done. Tasks are taken in an order in which each depends on
// earlier ones only, so that whoever waits waits for somebody at work, or learns that it failed.
class Progress {
  public:
    explicit Progress(int count) : done_(count) {}
    void set(int k) { done_[k].store(1, std::memory_order_release); }
    bool has(int k) const { return done_[k].load(std::memory_order_acquire) != 0; }
    void wait(int k) const {
        while (!has(k)) {
            if (abandoned_.load(std::memory_order_relaxed)) throw Abandoned();
            std::this_thread::yield();
        }
    }
    // Does the work of one task. Where it fails, those who wait for its tile are let go.
    template <class Work>
    void attempt(Work&& work) {
        try {
            work();
        } catch (...) {
            abandoned_ = true;
            throw;
        }
    }

  private:
    std::vector<std::atomic<char>> done_;
    std::atomic<bool> abandoned_{false};
};

int packed(int i, int j) {
    return i * (i + 1) / 2 + j;
}

// Left-looking by tiles: L_ij = (A_ij - sum_k L_ik L_jk') L_jj^-T.
bool cholesky_tiled(int n, double* A, int lda, int threads) {
    const int tiles = (n + tile - 1) / tile;
    Progress done(packed(tiles, 0));
    std::atomic<bool> good{true};
    std::vector<std::pair<int, int>> order;
    for (int j = 0; j < tiles; ++j)
        for (int i = j; i < tiles; ++i) order.emplace_back(i, j);
    const auto factor = [&](int t) {
        const int i = order[t].first, j = order[t].second;
        for (int k = 0; k < j; ++k) {
            done.wait(packed(i, k));
            done.wait(packed(j, k));
        }
        char uplo = 'L', side = 'R', trans = 'T', plain = 'N', diag = 'N';
        int ni = tile_size(n, i), nj = tile_size(n, j), before = j * tile, info = 0;
        double one = 1, minus = -1;
        double* target = A + at(i * tile, j * tile, lda);
        if (good && before > 0) {
            if (i == j)
                lapack().syrk(&uplo, &plain, &nj, &before, &minus, A + i * tile, &lda, &one, target,
                              &lda);
            else
                lapack().gemm(&plain, &trans, &ni, &nj, &before, &minus, A + i * tile, &lda,
                              A + j * tile, &lda, &one, target, &lda);
        }
        if (i == j) {
            if (good) lapack().potrf(&uplo, &nj, target, &lda, &info);
            if (info != 0) good = false;
        } else {
            done.wait(packed(j, j));
            if (good)
                lapack().trsm(&side, &uplo, &trans, &diag, &ni, &nj, &one,
                              A + at(j * tile, j * tile, lda), &lda, target, &lda);
        }
        done.set(packed(i, j));
    };
    for_tasks(static_cast<int>(order.size()), threads,
              [&](int t) { done.attempt([&] { factor(t); }); });
    return good;
}

// U = L^-T by tiles, U_ji = -(sum_k U_jk L_ik') U_ii, then UU'. U takes the upper
// triangle of A; its diagonal tiles have a place of their own.
void inverse_tiled(int n, double* A, int lda, int threads) {
    const int tiles = (n + tile - 1) / tile, count = packed(tiles, 0);
    std::vector<double> diagonal(static_cast<std::size_t>(tiles) * tile * tile);
    Progress done(count);
    // tasks: U by diagonals, short sums first; then the products, late columns first
    std::vector<std::pair<int, int>> order;
    for (int d = 0; d < tiles; ++d)
        for (int j = 0; j + d < tiles; ++j) order.emplace_back(j + d, j);
    for (int j = tiles - 1; j >= 0; --j)
        for (int i = j; i < tiles; ++i) order.emplace_back(i, j);
    const auto invert = [&](int t) {
        char right = 'R', uplo = 'L', plain = 'N', trans = 'T', diag = 'N';
        int i = order[t].first, j = order[t].second, size = tile;
        int ni = tile_size(n, i), nj = tile_size(n, j);
        double one = 1, zero = 0, minus = -1;
        double* own = diagonal.data() + at(0, i * tile, tile);
        double* L_ij = A + at(i * tile, j * tile, lda);
        double* U_ji = A + at(j * tile, i * tile, lda);
        if (t < count && i == j) {
            for (int c = 0; c < ni; ++c) {
                std::fill_n(own + at(0, c, tile), static_cast<std::size_t>(ni), 0.0);
                own[at(c, c, tile)] = 1;
            }
            lapack().trsm(&right, &uplo, &trans, &diag, &ni, &ni, &one, L_ij, &lda, own, &size);
            done.set(packed(i, i));
            return;
        }
        if (t < count) {
            for (int k = j; k < i; ++k) done.wait(packed(k, j));
            done.wait(packed(i, i));
            int between = (i - j - 1) * tile;
            std::vector<double> sum(static_cast<std::size_t>(tile) * ni);
            lapack().gemm(&plain, &trans, &nj, &ni, &nj, &minus,
                          diagonal.data() + at(0, j * tile, tile), &size, L_ij, &lda, &zero,
                          sum.data(), &size);
            if (between > 0)
                lapack().gemm(&plain, &trans, &nj, &ni, &between, &minus,
                              A + at(j * tile, (j + 1) * tile, lda), &lda,
                              A + at(i * tile, (j + 1) * tile, lda), &lda, &one, sum.data(), &size);
            lapack().gemm(&plain, &plain, &nj, &ni, &ni, &one, sum.data(), &size, own, &size, &zero,
                          U_ji, &lda);
            done.set(packed(i, j));
            return;
        }
        for (int k = i; k < tiles; ++k) {
            done.wait(packed(k, i));
            done.wait(packed(k, j));
        }
        // the product overwrites L_ij: nobody may still read it
        for (int k = 0; k <= i; ++k) done.wait(packed(i, k));
        int after = (i + 1) * tile, rest = n - after;
        const double* first = i == j ? own : U_ji;
        int ld_first = i == j ? size : lda;
        lapack().gemm(&plain, &trans, &ni, &nj, &ni, &one, own, &size, const_cast<double*>(first),
                      &ld_first, &zero, L_ij, &lda);
        if (rest > 0)
            lapack().gemm(&plain, &trans, &ni, &nj, &rest, &one, A + at(i * tile, after, lda), &lda,
                          A + at(j * tile, after, lda), &lda, &one, L_ij, &lda);
    };
    for_tasks(2 * count, threads, [&](int t) { done.attempt([&] { invert(t); }); });
}

} // namespace

bool cholesky(int n, double* A, int lda, int threads) {
    if (tiled(n)) return cholesky_tiled(n, A, lda, threads);
    if (takes_panels(n)) return cholesky_by_panels(n, A, lda);
    if (use_lapack(n)) {
        char uplo = 'L';
        int info = 0;
        lapack().potrf(&uplo, &n, A, &lda, &info);
        return info == 0;
    }
    for (int j = 0; j < n; ++j) {
        double* cj = A + at(0, j, lda);
        if (!(cj[j] > 0)) return false;
        const double d = std::sqrt(cj[j]);
        const double inv = 1 / d;
        cj[j] = d;
        for (int i = j + 1; i < n; ++i) cj[i] *= inv;
        for (int k = j + 1; k < n; ++k) {
            double* ck = A + at(0, k, lda);
            const double f = cj[k];
            for (int i = k; i < n; ++i) ck[i] -= cj[i] * f;
        }
    }
    return true;
}

void inverse_from_cholesky(int n, double* A, int lda, int threads) {
    if (tiled(n)) {
        inverse_tiled(n, A, lda, threads);
        return;
    }
    if (takes_panels(n)) {
        inverse_by_panels(n, A, lda);
        return;
    }
    if (use_lapack(n)) {
        char uplo = 'L';
        int info = 0;
        lapack().potri(&uplo, &n, A, &lda, &info);
        return;
    }
    for (int j = 0; j < n; ++j) {
        double* cj = A + at(0, j, lda);
        cj[j] = 1 / cj[j];
        for (int i = j + 1; i < n; ++i) {
            double s = 0;
            for (int k = j; k < i; ++k) s += A[at(i, k, lda)] * cj[k];
            cj[i] = -s / A[at(i, i, lda)];
        }
    }
    for (int j = 0; j < n; ++j) {
        double* cj = A + at(0, j, lda);
        for (int i = j; i < n; ++i) {
            const double* ci = A + at(0, i, lda);
            double s = 0;
            for (int k = i; k < n; ++k) s += ci[k] * cj[k];
            cj[i] = s;
        }
    }
}

void solve_lower(int n, int k, const double* L, int lda, double* X, int ldx) {
    if (use_lapack(n) && k > 1) {
        blas_solve('N', n, k, L, lda, X, ldx);
        return;
    }
    for (int c = 0; c < k; ++c) {
        double* x = X + at(0, c, ldx);
        for (int j = 0; j < n; ++j) {
            const double* lj = L + at(0, j, lda);
            const double v = x[j] /= lj[j];
            for (int i = j + 1; i < n; ++i) x[i] -= lj[i] * v;
        }
    }
}

void solve_lower_transposed(int n, int k, const double* L, int lda, double* X, int ldx) {
    if (use_lapack(n) && k > 1) {
        blas_solve('T', n, k, L, lda, X, ldx);
        return;
    }
    for (int c = 0; c < k; ++c) {
        double* x = X + at(0, c, ldx);
        for (int j = n - 1; j >= 0; --j) {
            const double* lj = L + at(0, j, lda);
            x[j] = (x[j] - dot(n - j - 1, lj + j + 1, x + j + 1)) / lj[j];
        }
    }
}

void symmetric_times(int n, int k, const double* A, int lda, const double* X, int ldx, double* Y,
                     int ldy) {
    if (n == 0 || k == 0) return;
    if (use_lapack(n) && k > few_columns) { // BLAS would copy all of A first
        char side = 'L', uplo = 'L';
        double one = 1, zero = 0;
        in_pieces(k, 2.0 * n * n, [&](int first, int columns) {
            lapack().symm(&side, &uplo, &n, &columns, &one, const_cast<double*>(A), &lda,
                          const_cast<double*>(X) + at(0, first, ldx), &ldx, &zero,
                          Y + at(0, first, ldy), &ldy);
        });
        return;
    }
    for (int c = 0; c < k; ++c) std::fill_n(Y + at(0, c, ldy), n, 0.0);
    // A is read once for all columns
    for (int j = 0; j < n; ++j) {
        const double* aj = A + at(0, j, lda);
        for (int c = 0; c < k; ++c) {
            const double* x = X + at(0, c, ldx);
            double* y = Y + at(0, c, ldy);
            const double xj = x[j];
            for (int i = j + 1; i < n; ++i) y[i] += aj[i] * xj;
            y[j] += aj[j] * xj + dot(n - j - 1, aj + j + 1, x + j + 1);
        }
    }
}

void subtract_gram(int n, int k, const double* X, int ldx, double* A, int lda) {
    char uplo = 'L', trans = 'N';
    double minus = -1, one = 1;
    in_pieces(k, static_cast<double>(n) * n, [&](int first, int columns) {
        lapack().syrk(&uplo, &trans, &n, &columns, &minus,
                      const_cast<double*>(X) + at(0, first, ldx), &ldx, &one, A, &lda);
    });
}

void add_gram_rows(int n, int k, const double* X, int ldx, double* A) {
    char uplo = 'U', trans = 'N'; // rows of X are columns to BLAS
    double one = 1;
    if (n == 0) return;
    in_pieces(k, static_cast<double>(n) * n, [&](int first, int rows) {
        lapack().syrk(&uplo, &trans, &n, &rows, &one, const_cast<double*>(X) + at(0, first, ldx),
                      &ldx, &one, A, &n);
    });
}

void add_product(int n, int k, const double* X, const double* Y, int ldx, double* A, int lda) {
    char plain = 'N', trans = 'T';
    double one = 1;
    in_pieces(k, 2.0 * n * n, [&](int first, int columns) {
        lapack().gemm(&plain, &trans, &n, &n, &columns, &one,
                      const_cast<double*>(X) + at(0, first, ldx), &ldx,
                      const_cast<double*>(Y) + at(0, first, ldx), &ldx, &one, A, &lda);
    });
}

void triangle_times(int n, int k, const double* K, int ldk, bool transposed, double* X, int ldx) {
    if (use_lapack(n)) {
        char side = 'L', uplo = 'L', trans = transposed ? 'T' : 'N', diag = 'N';
        double one = 1;
        in_pieces(k, static_cast<double>(n) * n, [&](int first, int columns) {
            lapack().trmm(&side, &uplo, &trans, &diag, &n, &columns, &one, const_cast<double*>(K),
                          &ldk, X + at(0, first, ldx), &ldx);
        });
        return;
    }
    for (int c = 0; c < k; ++c) {
        double* x = X + at(0, c, ldx);
        if (transposed) {
            for (int j = 0; j < n; ++j) {
                double s = 0;
                for (int i = j; i < n; ++i) s += K[at(i, j, ldk)] * x[i];
                x[j] = s;
            }
        } else {
            for (int i = n - 1; i >= 0; --i) {
                double s = 0;
                for (int j = 0; j <= i; ++j) s += K[at(i, j, ldk)] * x[j];
                x[i] = s;
            }
        }
    }
}

void times_triangle(int n, int k, const double* K, int ldk, bool transposed, double* X, int ldx) {
    if (use_lapack(n)) {
        char side = 'R', uplo = 'L', trans = transposed ? 'T' : 'N', diag = 'N';
        double one = 1;
        in_pieces(k, static_cast<double>(n) * n, [&](int first, int rows) {
            lapack().trmm(&side, &uplo, &trans, &diag, &rows, &n, &one, const_cast<double*>(K),
                          &ldk, X + first, &ldx);
        });
        return;
    }
    std::vector<double> row(n);
    for (int r = 0; r < k; ++r) {
        for (int j = 0; j < n; ++j) row[j] = X[at(r, j, ldx)];
        for (int j = 0; j < n; ++j) {
            double s = 0;
            if (transposed)
                for (int i = 0; i <= j; ++i) s += row[i] * K[at(j, i, ldk)];
            else
                for (int i = j; i < n; ++i) s += row[i] * K[at(i, j, ldk)];
            X[at(r, j, ldx)] = s;
        }
    }
}

void eigen_symmetric(int n, double* A, double* values, double* vectors) {
    if (n > most_jacobi && lapack().syevd) {
        const std::size_t size = static_cast<std::size_t>(n) * n;
        Spectrum found;
        if (spectrum(n, n, taken_in_pieces(size, A), found)) {
            std::copy(found.values.begin(), found.values.end(), values);
            std::copy(found.vectors.begin(), found.vectors.end(), vectors);
            return;
        }
    }
    std::vector<double> V(static_cast<std::size_t>(n) * n, 0.0);
    for (int i = 0; i < n; ++i) V[at(i, i, n)] = 1;
    for (int sweep = 0; sweep < 60; ++sweep) {
        double off = 0, diag = 0;
        for (int j = 0; j < n; ++j) {
            diag += A[at(j, j, n)] * A[at(j, j, n)];
            for (int i = 0; i < j; ++i) off += A[at(i, j, n)] * A[at(i, j, n)];
        }
        if (off <= 1e-34 * diag || off == 0) break;
        for (int p = 0; p < n - 1; ++p)
            for (int q = p + 1; q < n; ++q) {
                const double apq = A[at(p, q, n)];
                if (apq == 0) continue;
                const double tau = (A[at(q, q, n)] - A[at(p, p, n)]) / (2 * apq);
                const double t =
                    (tau >= 0 ? 1.0 : -1.0) / (std::fabs(tau) + std::sqrt(1 + tau * tau));
                const double c = 1 / std::sqrt(1 + t * t), s = t * c;
                for (int k = 0; k < n; ++k) {
                    const double x = A[at(k, p, n)], y = A[at(k, q, n)];
                    A[at(k, p, n)] = c * x - s * y;
                    A[at(k, q, n)] = s * x + c * y;
                }
                for (int k = 0; k < n; ++k) {
                    const double x = A[at(p, k, n)], y = A[at(q, k, n)];
                    A[at(p, k, n)] = c * x - s * y;
                    A[at(q, k, n)] = s * x + c * y;
                }
                for (int k = 0; k < n; ++k) {
                    const double x = V[at(k, p, n)], y = V[at(k, q, n)];
                    V[at(k, p, n)] = c * x - s * y;
                    V[at(k, q, n)] = s * x + c * y;
                }
            }
    }
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return A[at(a, a, n)] < A[at(b, b, n)]; });
    for (int k = 0; k < n; ++k) {
        values[k] = A[at(order[k], order[k], n)];
        for (int i = 0; i < n; ++i) vectors[at(i, k, n)] = V[at(i, order[k], n)];
    }
}

void fill_upper(int n, double* A, int lda) {
    constexpr int block = 32;
    for (int j0 = 0; j0 < n; j0 += block)
        for (int i0 = j0; i0 < n; i0 += block)
            for (int j = j0; j < std::min(j0 + block, n); ++j)
                for (int i = std::max(i0, j + 1); i < std::min(i0 + block, n); ++i)
                    A[at(j, i, lda)] = A[at(i, j, lda)];
}

// sum_ij A_ij B_ji
double trace_of_product(int n, const double* A, const double* B, int lda, int threads) {
    constexpr int block = 32;
    const int blocks = (n + block - 1) / block;
    std::vector<double> sums(blocks, 0.0);
    for_chunks(blocks, n > squares_worth_threads ? threads : 1, [&](int part) {
        const int j0 = part * block;
        for (int i0 = 0; i0 < n; i0 += block) {
            double s = 0;
            for (int j = j0; j < std::min(j0 + block, n); ++j)
                for (int i = i0; i < std::min(i0 + block, n); ++i)
                    s += A[at(i, j, lda)] * B[at(j, i, lda)];
            sums[part] += s;
        }
    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

} // namespace ranef
