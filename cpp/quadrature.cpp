#include "quadrature.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double pi = 3.141592653589793238462643383280;
constexpr size_t batch = 1024;
constexpr int most_columns = 3;

// L^-1 x and L^-T x, L (r, r) row-major lower.
void forward(int r, const double* L, double* x) {
    for (int a = 0; a < r; ++a) {
        for (int k = 0; k < a; ++k) x[a] -= L[a * r + k] * x[k];
        x[a] /= L[a * r + a];
    }
}

void backward(int r, const double* L, double* x) {
    for (int a = r - 1; a >= 0; --a) {
        for (int k = a + 1; k < r; ++k) x[a] -= L[k * r + a] * x[k];
        x[a] /= L[a * r + a];
    }
}

} // namespace

// Newton's method on the orthonormal Hermite functions from asymptotic guesses.
void hermite(int count, Vector& nodes, Vector& log_weights) {
    nodes.assign(count, 0.0);
    log_weights.assign(count, 0.0);
    const int n = count;
    double x = 0;
    for (int i = 0; i < (n + 1) / 2; ++i) { // roots of H_n, largest first
        if (i == 0)
            x = std::sqrt(2.0 * n + 1) - 1.85575 * std::pow(2.0 * n + 1, -1.0 / 6);
        else if (i == 1)
            x -= 1.14 * std::pow(n, 0.426) / x;
        else if (i == 2)
            x = 1.86 * x - 0.86 * nodes[0];
        else if (i == 3)
            x = 1.91 * x - 0.91 * nodes[1];
        else
            x = 2 * x - nodes[i - 2];
        double slope = 1;
        for (int iteration = 0; iteration < 100; ++iteration) {
            double p1 = std::pow(pi, -0.25), p2 = 0;
            for (int j = 0; j < n; ++j) {
                const double p3 = p2;
                p2 = p1;
                p1 = x * std::sqrt(2.0 / (j + 1)) * p2 - std::sqrt(j / (j + 1.0)) * p3;
            }
            slope = std::sqrt(2.0 * n) * p2;
            const double step = p1 / slope;
            x -= step;
            if (std::fabs(step) < 1e-15 * (1 + std::fabs(x))) break;
        }
        if (2 * i + 1 == n) x = 0;
        nodes[i] = x;
        nodes[n - 1 - i] = -x;
        log_weights[i] = log_weights[n - 1 - i] =
            std::log(2.0) - 2 * std::log(std::fabs(slope)) - 0.5 * std::log(pi);
    }
    std::reverse(nodes.begin(), nodes.end());
    for (double& v : nodes) v *= std::sqrt(2.0);
}

Quadrature::Quadrature(Laplace& laplace, int nodes)
    : laplace_(laplace), predictors_(laplace.predictors()) {
    const Blocks& b = laplace.blocks();
    if (b.factors.size() != 1 || b.chain.size() != 1 || b.chain[0].r > most_columns)
        throw std::invalid_argument("quadrature takes one factor with up to three columns");
    for (const Term& term : b.factors[0].terms)
        if (!term.structure->free_scale())
            throw std::invalid_argument("quadrature takes unstructured or diagonal terms");
    r_ = b.chain[0].r;
    q_ = b.chain[0].q;
    M_ = predictors_.count();
    A_ = static_cast<int>(predictors_.random().size());
    Vector x, w;
    hermite(nodes, x, w);
    count_ = 1;
    for (int a = 0; a < r_; ++a) count_ *= nodes;
    xi_.resize(count_ * r_);
    log_omega_.assign(count_, 0.0);
    for (size_t k = 0; k < count_; ++k)
        for (size_t a = 0, rest = k; a < static_cast<size_t>(r_); ++a, rest /= nodes) {
            const double v = x[rest % nodes];
            xi_[k * r_ + a] = v;
            log_omega_[k] += w[rest % nodes] + v * v / 2;
        }
    const size_t q = q_, r = r_;
    L_.resize(q * r * r);
    mode_.resize(q * r);
    h_.resize(q * count_);
    g_.resize(q * r);
    Lbar_.resize(q * r * r);
    Hbar_.resize(q * r * r);
    eta_.assign(A_, Vector(predictors_.rows()));
    mean_.assign(M_, Vector(predictors_.rows()));
    sums_.resize(predictors_.chunks());
    G_.assign(r * r, 0.0);
}

// Modes u = Lambda's and Cholesky factors of H.
void Quadrature::factorise(int chunk) {
    const Blocks& b = blocks();
    const int r = r_;
    const double* Lambda = lambda();
    for (size_t l = b.chunk[0][chunk]; l < b.chunk[0][chunk + 1]; ++l) {
        const double* A = b.chain[0].panel.data() + l * r * r;
        const double* s = laplace_.score(0).data() + l * r;
        double* L = L_.data() + l * r * r;
        for (int a = 0; a < r; ++a) {
            double u = 0;
            for (int k = a; k < r; ++k) u += Lambda[k * r + a] * s[k];
            mode_[l * r + a] = u;
            for (int e = 0; e <= a; ++e) {
                double v = a == e ? 1.0 : 0.0;
                for (int k = a; k < r; ++k)
                    for (int j = e; j < r; ++j)
                        v += Lambda[k * r + a] * A[k * r + j] * Lambda[j * r + e];
                for (int k = 0; k < e; ++k) v -= L[a * r + k] * L[e * r + k];
                L[a * r + e] = a == e ? std::sqrt(v) : v / L[e * r + e];
            }
            for (int e = a + 1; e < r; ++e) L[a * r + e] = 0;
        }
    }
}

// The random predictors at one node: eta = fixed + z'Lambda (mode + L^-T xi).
void Quadrature::place(size_t node, int chunk) {
    const Blocks& b = blocks();
    const int r = r_;
    const double* Lambda = lambda();
    const Predictors::Random& f = predictors_.factor(0);
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const size_t from = b.chunk[0][chunk], to = b.chunk[0][chunk + 1];
    Vector effect((to - from) * r);
    for (size_t l = from; l < to; ++l) {
        double u[most_columns];
        std::copy_n(xi_.data() + node * r, r, u);
        backward(r, L_.data() + l * r * r, u);
        for (int a = 0; a < r; ++a) u[a] += mode_[l * r + a];
        for (int a = 0; a < r; ++a) {
            double v = 0;
            for (int k = 0; k <= a; ++k) v += Lambda[a * r + k] * u[k];
            effect[(l - from) * r + a] = v;
        }
    }
    for (int j = 0; j < A_; ++j)
        std::copy_n(laplace_.fixed(predictors_.random()[j]).begin() + first, last - first,
                    eta_[j].begin() + first);
    for (int a = 0; a < r; ++a) {
        double* eta = eta_[f.owner[a]].data();
        for (size_t i = first; i < last; ++i)
            eta[i] += f.z[i * r + a] * effect[(f.level[i] - from) * r + a];
    }
}

// Logarithms of the terms of the sums over nodes, and of the sums.
void Quadrature::values(int chunk) {
    const Blocks& b = blocks();
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const size_t from = b.chunk[0][chunk], to = b.chunk[0][chunk + 1];
    const Indices& level = predictors_.factor(0).level;
    const int r = r_;
    const Vector& w = laplace_.weights();
    std::vector<const double*> eta = laplace_.predictors_at_mode();
    for (int j = 0; j < A_; ++j) eta[predictors_.random()[j]] = eta_[j].data();
    Vector buffer(batch);
    for (size_t k = 0; k < count_; ++k) {
        place(k, chunk);
        for (size_t l = from; l < to; ++l) {
            double u[most_columns];
            std::copy_n(xi_.data() + k * r, r, u);
            backward(r, L_.data() + l * r * r, u);
            double square = 0;
            for (int a = 0; a < r; ++a)
                square += (u[a] + mode_[l * r + a]) * (u[a] + mode_[l * r + a]);
            h_[l * count_ + k] = log_omega_[k] - square / 2;
        }
        for (size_t start = first; start < last; start += batch) {
            const size_t end = std::min(start + batch, last);
            double* out[] = {buffer.data() - start};
            laplace_.family().evaluate(laplace_.rows(), 0, {}, eta.data(), start, end, out);
            for (size_t i = start; i < end; ++i) {
                const double wi = w.empty() ? 1.0 : w[i];
                if (wi != 0) h_[level[i] * count_ + k] += wi * out[0][i];
            }
        }
    }
    double total = 0;
    for (size_t l = from; l < to; ++l) {
        double* h = h_.data() + l * count_;
        const double top = *std::max_element(h, h + count_);
        double sum = 0;
        for (size_t k = 0; k < count_; ++k) sum += h[k] = std::exp(h[k] - top);
        for (size_t k = 0; k < count_; ++k) h[k] /= sum;
        total += top + std::log(sum);
        for (int a = 0; a < r; ++a) total -= std::log(L_[(l * r + a) * r + a]);
    }
    sums_[chunk].log_integral = total;
}

double Quadrature::evaluate(const double* x) {
    if (laplace_.evaluate(x) == infinity) return infinity;
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        factorise(c);
        values(c);
    });
    double d = 0;
    for (const Sums& s : sums_) d -= 2 * s.log_integral;
    return std::isfinite(d) ? d : infinity;
}

// Expectations over the nodes: f' of all predictors, and by level g = dh/du, the
// adjoint of L, and what enters the derivatives of Lambda and Psi.
void Quadrature::visit_nodes(int chunk, Sums& sums) {
    const Blocks& b = blocks();
    const int r = r_;
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const size_t from = b.chunk[0][chunk], to = b.chunk[0][chunk + 1];
    const Predictors::Random& f = predictors_.factor(0);
    const std::vector<int>& random = predictors_.random();
    const double* Lambda = lambda();
    const Vector& w = laplace_.weights();
    std::vector<int> all(M_);
    for (int m = 0; m < M_; ++m) all[m] = m;
    const Derivatives places{M_};
    const int count = places.count(2);
    Vector buffer(batch * count), score((to - from) * r), info((to - from) * r * r);
    std::vector<double*> out(count);
    std::vector<const double*> eta = laplace_.predictors_at_mode();
    for (int j = 0; j < A_; ++j) eta[random[j]] = eta_[j].data();
    for (Vector& v : mean_) std::fill(v.begin() + first, v.begin() + last, 0.0);
    std::fill(g_.begin() + from * r, g_.begin() + to * r, 0.0);
    std::fill(Lbar_.begin() + from * r * r, Lbar_.begin() + to * r * r, 0.0);
    for (size_t k = 0; k < count_; ++k) {
        place(k, chunk);
        std::fill(score.begin(), score.end(), 0.0);
        std::fill(info.begin(), info.end(), 0.0);
        for (size_t start = first; start < last; start += batch) {
            const size_t end = std::min(start + batch, last);
            for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
            laplace_.family().evaluate(laplace_.rows(), 2, all, eta.data(), start, end, out.data());
            for (size_t i = start; i < end; ++i) {
                const double wi = w.empty() ? 1.0 : w[i];
                const size_t l = f.level[i];
                const double share = wi * h_[l * count_ + k];
                if (wi == 0 || share == 0) continue;
                for (int m = 0; m < M_; ++m) mean_[m][i] += share * out[places.first(m)][i];
                const double* z = f.z.data() + i * r;
                for (int a = 0; a < r; ++a) {
                    const int m = random[f.owner[a]];
                    score[(l - from) * r + a] += wi * z[a] * out[places.first(m)][i];
                    for (int e = 0; e < r; ++e) {
                        const int n = random[f.owner[e]];
                        const double f2 = out[places.second(std::min(m, n), std::max(m, n))][i];
                        info[((l - from) * r + a) * r + e] -= wi * z[a] * f2 * z[e];
                    }
                }
            }
        }
        for (size_t l = from; l < to; ++l) {
            const double share = h_[l * count_ + k];
            if (share == 0) continue;
            const double* L = L_.data() + l * r * r;
            const double* s = score.data() + (l - from) * r;
            const double* A = info.data() + (l - from) * r * r;
            double delta[most_columns], u[most_columns], g[most_columns];
            std::copy_n(xi_.data() + k * r, r, delta);
            backward(r, L, delta);
            for (int a = 0; a < r; ++a) {
                u[a] = mode_[l * r + a] + delta[a];
                g[a] = -u[a];
                for (int j = a; j < r; ++j) g[a] += Lambda[j * r + a] * s[j];
                g_[l * r + a] += share * g[a];
            }
            forward(r, L, g);
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e) {
                    Lbar_[(l * r + a) * r + e] -= share * delta[a] * g[e];
                    sums.Lambda[a * r + e] += share * s[a] * u[e];
                    sums.G[a * r + e] += share * (A[a * r + e] - s[a] * s[e]);
                }
        }
    }
}

// The adjoint of H = LL' (Smith 1995), from that of L and from -log|L|.
void Quadrature::reverse(int chunk, Sums& sums) {
    const Blocks& b = blocks();
    const int r = r_;
    const double* Lambda = lambda();
    for (size_t l = b.chunk[0][chunk]; l < b.chunk[0][chunk + 1]; ++l) {
        const double* L = L_.data() + l * r * r;
        double* Lbar = Lbar_.data() + l * r * r;
        double* H = Hbar_.data() + l * r * r;
        for (int a = 0; a < r; ++a) Lbar[a * r + a] -= 1 / L[a * r + a];
        // P = the lower triangle of L'Lbar, its diagonal halved; H = L^-T P L^-1
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e) {
                double v = 0;
                for (int k = a; k < r && e <= a; ++k) v += L[k * r + a] * Lbar[k * r + e];
                H[a * r + e] = a == e ? v / 2 : v;
            }
        double column[most_columns];
        for (int e = 0; e < r; ++e) { // by columns from the left
            for (int a = 0; a < r; ++a) column[a] = H[a * r + e];
            backward(r, L, column);
            for (int a = 0; a < r; ++a) H[a * r + e] = column[a];
        }
        for (int a = 0; a < r; ++a) backward(r, L, H + a * r); // rows: x L^-1 = (L^-T x')'
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < a; ++e)
                H[a * r + e] = H[e * r + a] = (H[a * r + e] + H[e * r + a]) / 2;
        // 2 A Lambda Hbar
        const double* A = b.chain[0].panel.data() + l * r * r;
        for (int a = 0; a < r; ++a)
            for (int j = 0; j < r; ++j) {
                double v = 0;
                for (int k = j; k < r; ++k) v += A[a * r + k] * Lambda[k * r + j];
                for (int e = 0; e < r; ++e) sums.Lambda[a * r + e] += 2 * v * H[j * r + e];
            }
    }
}

// Through W and through the modes: third derivatives there.
void Quadrature::visit_modes(int chunk, Sums& sums) {
    const Blocks& b = blocks();
    const int r = r_, pairs = A_ * (A_ + 1) / 2;
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const size_t from = b.chunk[0][chunk], to = b.chunk[0][chunk + 1];
    const Predictors::Random& f = predictors_.factor(0);
    const std::vector<int>& random = predictors_.random();
    const double* Lambda = lambda();
    const Vector& w = laplace_.weights();
    std::vector<int> all(M_);
    for (int m = 0; m < M_; ++m) all[m] = m;
    const Derivatives places{M_};
    const int count = places.count(3);
    Vector buffer(batch * count), S(pairs), tau_score((to - from) * r, 0.0);
    Vector covariance((to - from) * r * r), along((to - from) * r), cross(A_ * M_ * (last - first));
    // Lambda Hbar Lambda'
    for (size_t l = from; l < to; ++l)
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e) {
                double v = 0;
                for (int k = 0; k <= a; ++k)
                    for (int j = 0; j <= e; ++j)
                        v += Lambda[a * r + k] * Hbar_[(l * r + k) * r + j] * Lambda[e * r + j];
                covariance[((l - from) * r + a) * r + e] = v;
            }
    std::vector<double*> out(count);
    const std::vector<const double*> eta = laplace_.predictors_at_mode();
    for (size_t start = first; start < last; start += batch) {
        const size_t end = std::min(start + batch, last);
        for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
        laplace_.family().evaluate(laplace_.rows(), 3, all, eta.data(), start, end, out.data());
        for (size_t i = start; i < end; ++i) {
            const double wi = w.empty() ? 1.0 : w[i];
            const double* z = f.z.data() + i * r;
            const double* C = covariance.data() + (f.level[i] - from) * r * r;
            std::fill(S.begin(), S.end(), 0.0);
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e) {
                    const int k = std::min(f.owner[a], f.owner[e]);
                    const int j = std::max(f.owner[a], f.owner[e]);
                    // (k, j) and (j, k) fall together: twice off the diagonal
                    S[k * A_ - k * (k - 1) / 2 + j - k] += z[a] * z[e] * C[a * r + e];
                }
            for (int m = 0; m < M_; ++m) {
                double tau = 0;
                for (int k = 0, pair = 0; k < A_; ++k)
                    for (int j = k; j < A_; ++j, ++pair) {
                        int index[] = {random[k], random[j], m};
                        std::sort(index, index + 3);
                        tau -= S[pair] * out[places.third(index[0], index[1], index[2])][i];
                    }
                if (wi == 0) tau = 0;
                mean_[m][i] += wi * tau;
                for (int k = 0; k < A_; ++k) {
                    const int low = std::min(m, random[k]), high = std::max(m, random[k]);
                    cross[(k * M_ + m) * (last - first) + i - first] =
                        wi == 0 ? 0.0 : -wi * out[places.second(low, high)][i];
                    if (random[k] != m) continue;
                    for (int a = 0; a < r; ++a)
                        if (f.owner[a] == k)
                            tau_score[(f.level[i] - from) * r + a] += z[a] * wi * tau;
                }
            }
        }
    }
    for (size_t l = from; l < to; ++l) {
        const double* L = L_.data() + l * r * r;
        const double* A = b.chain[0].panel.data() + l * r * r;
        const double* s = laplace_.score(0).data() + l * r;
        const double* ts = tau_score.data() + (l - from) * r;
        const double* u = mode_.data() + l * r;
        double v[most_columns], Lv[most_columns];
        for (int a = 0; a < r; ++a) {
            v[a] = g_[l * r + a];
            for (int k = a; k < r; ++k) v[a] += Lambda[k * r + a] * ts[k];
        }
        forward(r, L, v);
        backward(r, L, v);
        for (int a = 0; a < r; ++a) {
            Lv[a] = 0;
            for (int k = 0; k <= a; ++k) Lv[a] += Lambda[a * r + k] * v[k];
            along[(l - from) * r + a] = Lv[a];
        }
        for (int a = 0; a < r; ++a) {
            double ALv = 0;
            for (int k = 0; k < r; ++k) ALv += A[a * r + k] * Lv[k];
            for (int e = 0; e < r; ++e)
                sums.Lambda[a * r + e] += ts[a] * u[e] + s[a] * v[e] - ALv * u[e];
        }
    }
    for (int a = 0; a < r; ++a)
        for (int m = 0; m < M_; ++m)
            for (size_t i = first; i < last; ++i)
                mean_[m][i] -= cross[(f.owner[a] * M_ + m) * (last - first) + i - first] *
                               f.z[i * r + a] * along[(f.level[i] - from) * r + a];
}

void Quadrature::differentiate(double* gradient, double* hessian) {
    laplace_.differentiate(gradient, hessian);
    const size_t rr = static_cast<size_t>(r_) * r_;
    for_chunks(predictors_.chunks(), predictors_.threads(), [&](int c) {
        Sums& sums = sums_[c];
        sums.Lambda.assign(rr, 0.0);
        sums.G.assign(rr, 0.0);
        visit_nodes(c, sums);
        reverse(c, sums);
        visit_modes(c, sums);
    });
    Vector Lambda(rr, 0.0);
    std::fill(G_.begin(), G_.end(), 0.0);
    for (const Sums& s : sums_)
        for (size_t k = 0; k < rr; ++k) {
            Lambda[k] += s.Lambda[k];
            G_[k] += s.G[k];
        }
    const int K = blocks().parameters;
    std::fill(gradient, gradient + parameters(), 0.0);
    for (const Term& term : blocks().factors[0].terms) {
        const int s = term.structure->r;
        double* to = gradient + term.offset;
        for (int col = 0; col < s; ++col)
            for (int row = col; row < (term.structure->unstructured() ? s : col + 1); ++row)
                *to++ = -2 * Lambda[(term.first + row) * r_ + term.first + col];
    }
    for (int m = 0; m < M_; ++m) {
        for (double& v : mean_[m]) v *= -2;
        predictors_.fixed_transposed(m, mean_[m].data(), gradient + K);
    }
}

} // namespace ranef
