#include "quadrature.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "quadrature_parts.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double pi = 3.141592653589793238462643383280;

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
    : laplace_(laplace), predictors_(laplace.predictors()), M_(predictors_.count()),
      A_(static_cast<int>(predictors_.random().size())), smooth_(true) {
    const Blocks& b = laplace.blocks();
    const size_t n = predictors_.rows();
    if (b.chain.size() != b.factors.size())
        throw std::invalid_argument("quadrature takes factors that are nested in each other");
    Vector x, w;
    hermite(nodes, x, w);
    depth_.resize(b.chain.size());
    G_.resize(b.factors.size());
    int columns = 0, pairs = 0; // of this factor and of coarser ones
    for (int d = depths() - 1; d >= 0; --d) {
        Depth& here = depth_[d];
        here.factor = b.chain[d].factor;
        here.r = b.chain[d].r;
        here.q = b.chain[d].q;
        if (here.r > most_columns)
            throw std::invalid_argument("quadrature takes up to three columns of each factor");
        for (const Term& term : b.factors[here.factor].terms)
            smooth_ = smooth_ && term.structure->free_scale();
        const size_t q = here.q, r = here.r;
        for (size_t a = 0; a < r; ++a) here.own *= nodes;
        here.paths = here.own * (d + 1 < depths() ? depth_[d + 1].paths : 1);
        here.xi.resize(here.own * r);
        here.log_omega.assign(here.own, 0.0);
        for (size_t k = 0; k < here.own; ++k)
            for (size_t a = 0, rest = k; a < r; ++a, rest /= nodes) {
                const double v = x[rest % nodes];
                here.xi[k * r + a] = v;
                here.log_omega[k] += w[rest % nodes] + v * v / 2;
            }
        for (Vector* v : {&here.mode, &here.delta, &here.effect, &here.g, &here.push, &here.lift,
                          &here.tau, &here.v})
            v->resize(q * r);
        for (Vector* v : {&here.L, &here.Lbar, &here.Hbar}) v->resize(q * r * r);
        for (int e = d + 1; e < depths(); ++e) {
            here.cross.emplace_back(q * r * depth_[e].r);
            here.cross_bar.emplace_back(q * r * depth_[e].r);
        }
        here.shares.resize(q * here.paths);
        here.joint.resize(q);
        here.eta.assign(A_, Vector(n));
        here.mean.resize(q * columns);
        here.square.resize(q * pairs);
        columns += here.r;
        pairs += here.r * here.r;
        here.first.resize(q * columns);
        here.second.resize(q * pairs);
        G_[here.factor].assign(r * r, 0.0);
    }
    threads_ = predictors_.threads(n * depth_[0].paths);
    mean_.assign(M_, Vector(n));
    sums_.resize(predictors_.chunks());
}

// Modes u = Lambda's and the Cholesky factor of H.
void Quadrature::factorise(int chunk) {
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const int r = here.r, width = blocks().chain[d].width;
        const double* Lambda = lambda(d);
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            const double* A = panel(d, l);
            const double* s = laplace_.score(here.factor).data() + l * r;
            // rows of Lambda'A, lower triangle of H
            double LA[most_columns];
            for (int a = 0; a < r; ++a) {
                double u = 0;
                for (int k = a; k < r; ++k) u += Lambda[k * r + a] * s[k];
                here.mode[l * r + a] = u;
                auto row = [&](int first, int size) {
                    for (int j = 0; j < size; ++j) {
                        LA[j] = 0;
                        for (int k = a; k < r; ++k)
                            LA[j] += Lambda[k * r + a] * A[k * width + first + j];
                    }
                };
                row(0, r);
                for (int e = 0; e < r; ++e) {
                    double v = a == e ? 1.0 : 0.0;
                    for (int j = e; j < r && e <= a; ++j) v += LA[j] * Lambda[j * r + e];
                    here.L[(l * r + a) * r + e] = e <= a ? v : 0.0;
                }
                int first = r;
                for (int k = 0; k < depths() - d - 1; ++k) {
                    const int s_r = depth_[d + 1 + k].r;
                    const double* up = lambda(d + 1 + k);
                    row(first, s_r);
                    for (int e = 0; e < s_r; ++e) {
                        double v = 0;
                        for (int j = e; j < s_r; ++j) v += LA[j] * up[j * s_r + e];
                        here.cross[k][(l * s_r + e) * r + a] = v;
                    }
                    first += s_r;
                }
            }
        }
    }
    for (int d = 0; d < depths(); ++d) {
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) eliminate(d, l);
    }
}

// One level out of what is left of H: its columns of L, and the rest without it.
void Quadrature::eliminate(int d, size_t l) {
    Depth& here = depth_[d];
    const int r = here.r, above = depths() - d - 1;
    double* L = here.L.data() + l * r * r;
    for (int a = 0; a < r; ++a)
        for (int e = 0; e <= a; ++e) {
            double v = L[a * r + e];
            for (int k = 0; k < e; ++k) v -= L[a * r + k] * L[e * r + k];
            L[a * r + e] = a == e ? std::sqrt(v) : v / L[e * r + e];
        }
    for (int k = 0; k < above; ++k) {
        const int s = depth_[d + 1 + k].r;
        for (int a = 0; a < s; ++a) forward(r, L, here.cross[k].data() + (l * s + a) * r);
    }
    for (int k = 0; k < above; ++k) {
        Depth& near = depth_[d + 1 + k];
        const int s = near.r, p = ancestor(d, l, k);
        const double* X = here.cross[k].data() + l * s * r;
        subtract_products(s, s, r, X, X, near.L.data() + static_cast<size_t>(p) * s * s);
        for (int j = k + 1; j < above; ++j) {
            const int t = depth_[d + 1 + j].r;
            subtract_products(t, s, r, here.cross[j].data() + l * t * r, X,
                              near.cross[j - k - 1].data() + static_cast<size_t>(p) * t * s);
        }
    }
}

// The nodes of one factor on a path: delta, effects and the predictors with them.
void Quadrature::place(int d, size_t path, int chunk) {
    Depth& here = depth_[d];
    const int r = here.r, above = depths() - d - 1;
    const double* Lambda = lambda(d);
    const double* xi = here.xi.data() + path % here.own * r;
    const auto [from, to] = levels(d, chunk);
    for (size_t l = from; l < to; ++l) {
        double* delta = here.delta.data() + l * r;
        std::copy_n(xi, r, delta);
        for (int k = 0; k < above; ++k) {
            const Depth& up = depth_[d + 1 + k];
            const double* X = here.cross[k].data() + l * up.r * r;
            const double* moved = up.delta.data() + static_cast<size_t>(ancestor(d, l, k)) * up.r;
            for (int e = 0; e < up.r; ++e)
                for (int a = 0; a < r; ++a) delta[a] -= X[e * r + a] * moved[e];
        }
        backward(r, here.L.data() + l * r * r, delta);
        for (int a = 0; a < r; ++a) {
            double v = 0;
            for (int k = 0; k <= a; ++k) v += Lambda[a * r + k] * (here.mode[l * r + k] + delta[k]);
            here.effect[l * r + a] = v;
        }
    }
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const Predictors::Random& f = predictors_.factor(here.factor);
    for (int j = 0; j < A_; ++j) {
        const Vector& below =
            above > 0 ? depth_[d + 1].eta[j] : laplace_.fixed(predictors_.random()[j]);
        std::copy(below.begin() + first, below.begin() + last, here.eta[j].begin() + first);
    }
    for (int a = 0; a < r; ++a) {
        double* eta = here.eta[f.owner[a]].data();
        const double* effect = here.effect.data();
        for (size_t i = first; i < last; ++i)
            eta[i] += f.z[i * r + a] * effect[static_cast<size_t>(f.level[i]) * r + a];
    }
}

void Quadrature::weigh_levels(const double* weights) {
    const Depth& top = depth_.back();
    level_weights_.resize(top.q);
    const Indices& at = blocks().factors[top.factor].level_at;
    for (size_t l = 0; l < level_weights_.size(); ++l) level_weights_[l] = weights[at[l]];
}

// Probabilities of a path, given data; times the weight of the coarsest level.
void Quadrature::weigh(int d, size_t path, int chunk) {
    Depth& here = depth_[d];
    const auto [from, to] = levels(d, chunk);
    for (size_t l = from; l < to; ++l) {
        here.joint[l] = here.shares[l * here.paths + path];
        if (d + 1 < depths())
            here.joint[l] *= depth_[d + 1].joint[ancestor(d, l, 0)];
        else if (!plain_)
            here.joint[l] *= level_weight(d, l);
    }
}

std::vector<const double*> Quadrature::predictors_here() const {
    std::vector<const double*> eta = laplace_.predictors_at_mode();
    for (int j = 0; j < A_; ++j) eta[predictors_.random()[j]] = depth_[0].eta[j].data();
    return eta;
}

// Logarithms of the terms of the sums over nodes, as far as they are a level's own.
void Quadrature::values(int chunk) {
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    Depth& leaf = depth_[0];
    const Indices& level = predictors_.factor(leaf.factor).level;
    const Vector& w = laplace_.weights();
    const std::vector<const double*> eta = predictors_here();
    Vector buffer(rows_at_once);
    visit_paths(chunk, false, [&](int d, size_t path) {
        Depth& here = depth_[d];
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            double square = 0;
            for (int a = 0; a < here.r; ++a) {
                const double u = here.mode[l * here.r + a] + here.delta[l * here.r + a];
                square += u * u;
            }
            here.shares[l * here.paths + path] = here.log_omega[path % here.own] - square / 2;
        }
        if (d > 0) return;
        for (size_t start = first; start < last; start += rows_at_once) {
            const size_t end = std::min(start + rows_at_once, last);
            double* out[] = {buffer.data() - start};
            laplace_.family().evaluate(laplace_.rows(), 0, {}, eta.data(), start, end, out);
            for (size_t i = start; i < end; ++i) {
                const double wi = w.empty() ? 1.0 : w[i];
                if (wi != 0) leaf.shares[level[i] * leaf.paths + path] += wi * out[0][i];
            }
        }
    });
}

// From the terms of the sums to their shares, the finest factor first; the sum of the
// logarithms of the integrals of the coarsest.
double Quadrature::sum_nodes(int chunk) {
    double total = 0;
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const int r = here.r;
        const size_t contexts = here.paths / here.own;
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            double root = 0;
            for (int a = 0; a < r; ++a) root += std::log(here.L[(l * r + a) * r + a]);
            for (size_t context = 0; context < contexts; ++context) {
                double* h = here.shares.data() + l * here.paths + context * here.own;
                const double top = *std::max_element(h, h + here.own);
                if (!(top > -infinity)) { // nothing there, whatever the node
                    std::fill(h, h + here.own, 0.0);
                    if (d + 1 == depths()) return -infinity;
                    Depth& up = depth_[d + 1];
                    up.shares[ancestor(d, l, 0) * up.paths + context] = -infinity;
                    continue;
                }
                double sum = 0;
                for (size_t k = 0; k < here.own; ++k) sum += h[k] = std::exp(h[k] - top);
                for (size_t k = 0; k < here.own; ++k) h[k] /= sum;
                const double log_integral = top + std::log(sum) - root;
                if (d + 1 == depths()) {
                    total += level_weight(d, l) * log_integral;
                    continue;
                }
                Depth& up = depth_[d + 1];
                up.shares[ancestor(d, l, 0) * up.paths + context] += log_integral;
            }
        }
    }
    return total;
}

double Quadrature::evaluate(const double* x) {
    if (laplace_.evaluate(x) == infinity) return infinity;
    for_chunks(predictors_.chunks(), threads_, [&](int c) {
        factorise(c);
        values(c);
        sums_[c].log_integral = sum_nodes(c);
    });
    double d = 0;
    for (const Sums& s : sums_) d -= 2 * s.log_integral;
    return std::isfinite(d) ? d : infinity;
}

void Quadrature::posterior(int factor, Vector& mean, Vector& covariance) {
    const int D = blocks().factors[factor].depth, r = depth_[D].r;
    const size_t q = depth_[D].q;
    mean.assign(q * r, 0.0);
    covariance.assign(q * r * r, 0.0);
    plain_ = true;
    for_chunks(predictors_.chunks(), threads_, [&](int chunk) {
        visit_paths(chunk, true, [&](int d, size_t) {
            if (d != D) return;
            const Depth& here = depth_[D];
            const auto [from, to] = levels(D, chunk);
            for (size_t l = from; l < to; ++l)
                for (int a = 0; a < r; ++a) {
                    mean[l * r + a] += here.joint[l] * here.effect[l * r + a];
                    for (int e = 0; e < r; ++e)
                        covariance[(l * r + a) * r + e] +=
                            here.joint[l] * here.effect[l * r + a] * here.effect[l * r + e];
                }
        });
    });
    plain_ = false;
    for (size_t l = 0; l < q; ++l)
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                covariance[(l * r + a) * r + e] -= mean[l * r + a] * mean[l * r + e];
}

} // namespace ranef
