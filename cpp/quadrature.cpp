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

// S -= X Y' with X (m, r), Y (n, r), S (m, n).
void subtract_products(int m, int n, int r, const double* X, const double* Y, double* S) {
    for (int a = 0; a < m; ++a)
        for (int e = 0; e < n; ++e)
            for (int k = 0; k < r; ++k) S[a * n + e] -= X[a * r + k] * Y[e * r + k];
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

// Probabilities of a path, given data.
void Quadrature::weigh(int d, size_t path, int chunk) {
    Depth& here = depth_[d];
    const auto [from, to] = levels(d, chunk);
    for (size_t l = from; l < to; ++l) {
        here.joint[l] = here.shares[l * here.paths + path];
        if (d + 1 < depths()) here.joint[l] *= depth_[d + 1].joint[ancestor(d, l, 0)];
    }
}

// Every path of the finest factor, with the nodes of all levels of a chunk in place:
// visit(depth, path), coarser factors first, wherever a factor's nodes have changed.
template <class Visit>
void Quadrature::visit_paths(int chunk, bool weighted, Visit&& visit) {
    for (size_t path = 0; path < depth_[0].paths; ++path) {
        int top = 0; // the coarsest factor whose nodes change
        for (size_t rest = path; top + 1 < depths() && rest % depth_[top].own == 0; ++top)
            rest /= depth_[top].own;
        for (int d = top; d >= 0; --d) {
            size_t own = path;
            for (int k = 0; k < d; ++k) own /= depth_[k].own;
            place(d, own, chunk);
            if (weighted) weigh(d, own, chunk);
            visit(d, own);
        }
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
    Vector buffer(batch);
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
        for (size_t start = first; start < last; start += batch) {
            const size_t end = std::min(start + batch, last);
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
                    total += log_integral;
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

// Expectations over the nodes: f' of all predictors, and by level g = dh/du, the
// adjoint of L, and what enters the derivatives of Lambda and Psi.
void Quadrature::visit_nodes(int chunk, Sums& sums) {
    const size_t begin = predictors_.ranges()[chunk], end = predictors_.ranges()[chunk + 1];
    for (Vector& v : mean_) std::fill(v.begin() + begin, v.begin() + end, 0.0);
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const auto [from, to] = levels(d, chunk);
        auto clear = [&, from = from, to = to](Vector& v) {
            const size_t size = v.size() / here.q;
            std::fill(v.begin() + from * size, v.begin() + to * size, 0.0);
        };
        for (Vector* v : {&here.g, &here.push, &here.lift, &here.Lbar, &here.first, &here.second,
                          &here.mean, &here.square})
            clear(*v);
        for (Vector& v : here.cross_bar) clear(v);
    }
    visit_paths(chunk, true, [&](int d, size_t path) {
        if (d > 0) return;
        score_rows(chunk, sums);
        for (;; ++d) { // and the factors whose finer paths are all done
            complete(d, path, chunk, sums);
            const size_t own = depth_[d].own;
            if (d + 1 == depths() || path % own != own - 1) break;
            path /= own;
        }
    });
}

// Scores and information of the rows at the path in hand.
void Quadrature::score_rows(int chunk, Sums& sums) {
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const std::vector<int>& random = predictors_.random();
    const Vector& w = laplace_.weights();
    Depth& leaf = depth_[0];
    const Indices& level = predictors_.factor(leaf.factor).level;
    const size_t columns = leaf.first.size() / leaf.q;
    std::vector<int> all(M_);
    for (int m = 0; m < M_; ++m) all[m] = m;
    const Derivatives places{M_};
    const int count = places.count(2);
    Vector buffer(batch * count), weight(batch), share(batch);
    std::vector<double*> out(count);
    const std::vector<const double*> eta = predictors_here();
    for (size_t start = first; start < last; start += batch) {
        const size_t end = std::min(start + batch, last);
        for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
        laplace_.family().evaluate(laplace_.rows(), 2, all, eta.data(), start, end, out.data());
        for (size_t i = start; i < end; ++i) {
            weight[i - start] = w.empty() ? 1.0 : w[i];
            share[i - start] = weight[i - start] * leaf.joint[level[i]];
            if (share[i - start] != 0) continue;
            weight[i - start] = 0; // derivatives may be infinite there
            for (int d = 0; d < count; ++d) out[d][i] = 0;
        }
        for (int m = 0; m < M_; ++m) {
            const double* f1 = out[places.first(m)];
            double* mean = mean_[m].data();
            for (size_t i = start; i < end; ++i) mean[i] += share[i - start] * f1[i];
        }
        size_t column = 0;
        for (int d = 0; d < depths(); ++d) {
            const Predictors::Random& f = predictors_.factor(depth_[d].factor);
            const int r = f.r;
            const double* z = f.z.data();
            for (int a = 0; a < r; ++a, ++column) {
                const int m = random[f.owner[a]];
                const double* f1 = out[places.first(m)];
                double* score = leaf.first.data() + column;
                for (size_t i = start; i < end; ++i)
                    score[level[i] * columns] += weight[i - start] * z[i * r + a] * f1[i];
                for (int e = 0; e <= a; ++e) {
                    const int n = random[f.owner[e]];
                    const double* f2 = out[places.second(std::min(m, n), std::max(m, n))];
                    double sum = 0;
                    for (size_t i = start; i < end; ++i)
                        sum -= share[i - start] * z[i * r + a] * f2[i] * z[i * r + e];
                    sums.G[d][a * r + e] += sum;
                    if (e < a) sums.G[d][e * r + a] += sum;
                }
            }
        }
    }
}

// A factor's nodes on a path, all finer paths done: `first` holds the expected scores
// of the rows of each level.
void Quadrature::complete(int d, size_t path, int chunk, Sums& sums) {
    Depth& here = depth_[d];
    const int r = here.r;
    const double* Lambda = lambda(d);
    const size_t columns = here.first.size() / here.q, squares = here.second.size() / here.q;
    const auto [from, to] = levels(d, chunk);
    for (size_t l = from; l < to; ++l) {
        const double P = here.joint[l], share = here.shares[l * here.paths + path];
        const double* delta = here.delta.data() + l * r;
        double *first = here.first.data() + l * columns, *second = here.second.data() + l * squares;
        double* lift = here.lift.data() + l * r;
        if (P != 0) {
            double u[most_columns], g[most_columns];
            for (int a = 0; a < r; ++a) {
                u[a] = here.mode[l * r + a] + delta[a];
                g[a] = -u[a];
                for (int j = a; j < r; ++j) g[a] += Lambda[j * r + a] * first[j];
                here.g[l * r + a] += P * g[a];
                g[a] = P * g[a] + lift[a];
            }
            forward(r, here.L.data() + l * r * r, g);
            for (int a = 0; a < r; ++a) {
                here.push[l * r + a] += g[a];
                for (int e = 0; e < r; ++e) {
                    here.Lbar[(l * r + a) * r + e] -= delta[a] * g[e];
                    sums.Lambda[d][a * r + e] += P * first[a] * u[e];
                    sums.G[d][a * r + e] -= P * (second[a * r + e] + first[a] * first[e]);
                }
            }
            double* mean = here.mean.data() + l * (columns - r);
            double* square = here.square.data() + l * (squares - r * r);
            const double *f = first + r, *v = second + r * r;
            for (int e = d + 1; e < depths(); ++e) {
                const int s = depth_[e].r;
                for (int a = 0; a < s; ++a) {
                    *mean++ += share * f[a];
                    for (int c = 0; c < s; ++c) *square++ += share * (*v++ + f[a] * f[c]);
                }
                f += s;
            }
        }
        std::fill_n(first, columns, 0.0);
        std::fill_n(second, squares, 0.0);
        std::fill_n(lift, r, 0.0);
        if (path % here.own == here.own - 1 && d + 1 < depths()) pass_up(d, l);
    }
}

// All nodes of a level done, those of its ancestors in place: what the ancestors get.
void Quadrature::pass_up(int d, size_t l) {
    Depth& here = depth_[d];
    const int r = here.r;
    double* push = here.push.data() + l * r;
    for (int k = 0; k < depths() - d - 1; ++k) {
        Depth& up = depth_[d + 1 + k];
        const size_t p = ancestor(d, l, k);
        const double* X = here.cross[k].data() + l * up.r * r;
        double* bar = here.cross_bar[k].data() + l * up.r * r;
        for (int e = 0; e < up.r; ++e)
            for (int a = 0; a < r; ++a) {
                bar[e * r + a] -= up.delta[p * up.r + e] * push[a];
                up.lift[p * up.r + e] -= X[e * r + a] * push[a];
            }
    }
    std::fill_n(push, r, 0.0);
    Depth& up = depth_[d + 1];
    const size_t p = ancestor(d, l, 0);
    const size_t columns = here.mean.size() / here.q, squares = here.square.size() / here.q;
    double *mean = here.mean.data() + l * columns, *square = here.square.data() + l * squares;
    double *first = up.first.data() + p * columns, *second = up.second.data() + p * squares;
    for (size_t a = 0; a < columns; ++a) first[a] += mean[a];
    const double *m = mean, *v = square;
    for (int e = d + 1; e < depths(); ++e) {
        const int s = depth_[e].r;
        for (int a = 0; a < s; ++a)
            for (int c = 0; c < s; ++c) *second++ += *v++ - m[a] * m[c];
        m += s;
    }
    std::fill_n(mean, columns, 0.0);
    std::fill_n(square, squares, 0.0);
}

// The adjoint of H = LL' from that of L and from -log|L|, the coarsest factor first.
void Quadrature::reverse(int chunk, Sums& sums) {
    for (int d = depths() - 1; d >= 0; --d) {
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            reverse_cross(d, l, sums);
            reverse_level(d, l, sums);
        }
    }
}

// Through eliminate(): the blocks between a level and its ancestors.
void Quadrature::reverse_cross(int d, size_t l, Sums& sums) {
    Depth& here = depth_[d];
    const int r = here.r, above = depths() - d - 1, width = blocks().chain[d].width;
    const double* L = here.L.data() + l * r * r;
    const double* A = panel(d, l) + r;
    const double* Lambda = lambda(d);
    for (int k = 0; k < above; ++k) {
        const Depth& near = depth_[d + 1 + k];
        const int s = near.r;
        const size_t p = ancestor(d, l, k);
        const double* X = here.cross[k].data() + l * s * r;
        double* bar = here.cross_bar[k].data() + l * s * r;
        const double* H = near.Hbar.data() + p * s * s;
        for (int a = 0; a < s; ++a)
            for (int e = 0; e < s; ++e)
                for (int c = 0; c < r; ++c) bar[a * r + c] -= 2 * H[a * s + e] * X[e * r + c];
        for (int j = k + 1; j < above; ++j) {
            const int t = depth_[d + 1 + j].r;
            const double* Y = here.cross[j].data() + l * t * r;
            double* other = here.cross_bar[j].data() + l * t * r;
            const double* between = near.cross_bar[j - k - 1].data() + p * t * s;
            for (int a = 0; a < t; ++a)
                for (int e = 0; e < s; ++e)
                    for (int c = 0; c < r; ++c) {
                        other[a * r + c] -= between[a * s + e] * X[e * r + c];
                        bar[e * r + c] -= between[a * s + e] * Y[a * r + c];
                    }
        }
    }
    double* Lbar = here.Lbar.data() + l * r * r;
    for (int k = 0; k < above; ++k) {
        const int s = depth_[d + 1 + k].r;
        const double* X = here.cross[k].data() + l * s * r;
        const double* up = lambda(d + 1 + k);
        double* H = here.cross_bar[k].data() + l * s * r; // (s, r)
        for (int a = 0; a < s; ++a) {
            backward(r, L, H + a * r);
            for (int c = 0; c < r; ++c)
                for (int e = 0; e < r; ++e) Lbar[c * r + e] -= H[a * r + c] * X[a * r + e];
        }
        // H_al' = Lambda'A Lambda_a
        for (int c = 0; c < r; ++c)
            for (int a = 0; a < s; ++a) {
                double Au = 0, HL = 0;
                for (int e = a; e < s; ++e) Au += A[c * width + e] * up[e * s + a];
                for (int e = 0; e <= c; ++e) HL += Lambda[c * r + e] * H[a * r + e];
                for (int e = 0; e < r; ++e) sums.Lambda[d][c * r + e] += Au * H[a * r + e];
                for (int e = 0; e < s; ++e)
                    sums.Lambda[d + 1 + k][e * s + a] += A[c * width + e] * HL;
            }
        A += s;
    }
}

// Through the Cholesky factor of a level's own block (Smith 1995).
void Quadrature::reverse_level(int d, size_t l, Sums& sums) {
    Depth& here = depth_[d];
    const int r = here.r, width = blocks().chain[d].width;
    const double* Lambda = lambda(d);
    const double* L = here.L.data() + l * r * r;
    double* Lbar = here.Lbar.data() + l * r * r;
    double* H = here.Hbar.data() + l * r * r;
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
        for (int e = 0; e < a; ++e) H[a * r + e] = H[e * r + a] = (H[a * r + e] + H[e * r + a]) / 2;
    // 2 A Lambda Hbar
    const double* A = panel(d, l);
    for (int a = 0; a < r; ++a)
        for (int j = 0; j < r; ++j) {
            double v = 0;
            for (int k = j; k < r; ++k) v += A[a * width + k] * Lambda[k * r + j];
            for (int e = 0; e < r; ++e) sums.Lambda[d][a * r + e] += 2 * v * H[j * r + e];
        }
}

// v <- H^-1 v
void Quadrature::solve(int chunk) {
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const int r = here.r;
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            double* own = here.v.data() + l * r;
            forward(r, here.L.data() + l * r * r, own);
            for (size_t k = 0; k < here.cross.size(); ++k) {
                const int s = depth_[d + 1 + k].r;
                const double* X = here.cross[k].data() + l * s * r;
                double* up =
                    depth_[d + 1 + k].v.data() + static_cast<size_t>(ancestor(d, l, k)) * s;
                for (int e = 0; e < s; ++e)
                    for (int a = 0; a < r; ++a) up[e] -= X[e * r + a] * own[a];
            }
        }
    }
    for (int d = depths() - 1; d >= 0; --d) {
        Depth& here = depth_[d];
        const int r = here.r;
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l) {
            double* own = here.v.data() + l * r;
            for (size_t k = 0; k < here.cross.size(); ++k) {
                const int s = depth_[d + 1 + k].r;
                const double* X = here.cross[k].data() + l * s * r;
                const double* up =
                    depth_[d + 1 + k].v.data() + static_cast<size_t>(ancestor(d, l, k)) * s;
                for (int e = 0; e < s; ++e)
                    for (int a = 0; a < r; ++a) own[a] -= X[e * r + a] * up[e];
            }
            backward(r, here.L.data() + l * r * r, own);
        }
    }
}

// Through W and through the modes: third derivatives there.
void Quadrature::visit_modes(int chunk, Sums& sums) {
    const Blocks& b = blocks();
    const int pairs = A_ * (A_ + 1) / 2;
    const size_t first = predictors_.ranges()[chunk], last = predictors_.ranges()[chunk + 1];
    const std::vector<int>& random = predictors_.random();
    const Vector& w = laplace_.weights();
    std::vector<int> all(M_);
    for (int m = 0; m < M_; ++m) all[m] = m;
    const Derivatives places{M_};
    const int count = places.count(3);
    Vector buffer(batch * count), S(pairs), cross(A_ * M_ * (last - first));
    std::vector<Columns> columns;
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const auto [from, to] = levels(d, chunk);
        std::fill(here.tau.begin() + from * here.r, here.tau.begin() + to * here.r, 0.0);
        columns.push_back({&predictors_.factor(here.factor), here.r, {}});
        adjoints(d, chunk, columns[d].adjoint);
    }
    std::vector<double*> out(count);
    const std::vector<const double*> eta = laplace_.predictors_at_mode();
    for (size_t start = first; start < last; start += batch) {
        const size_t end = std::min(start + batch, last);
        for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * batch - start;
        laplace_.family().evaluate(laplace_.rows(), 3, all, eta.data(), start, end, out.data());
        for (size_t i = start; i < end; ++i) {
            const double wi = w.empty() ? 1.0 : w[i];
            std::fill(S.begin(), S.end(), 0.0);
            for (int d = 0; d < depths(); ++d) add_adjoints(columns, d, i, b.chunk[d][chunk], S);
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
                    for (int d = 0; d < depths(); ++d) {
                        const Predictors::Random& f = *columns[d].rows;
                        for (int a = 0; a < f.r; ++a)
                            if (f.owner[a] == k)
                                depth_[d].tau[static_cast<size_t>(f.level[i]) * f.r + a] +=
                                    f.z[i * f.r + a] * wi * tau;
                    }
                }
            }
        }
    }
    // v = H^-1 (g + Lambda't), and Lambda v in its place at the nodes
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const int r = here.r;
        const double* Lambda = lambda(d);
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l)
            for (int a = 0; a < r; ++a) {
                here.v[l * r + a] = here.g[l * r + a];
                for (int k = a; k < r; ++k)
                    here.v[l * r + a] += Lambda[k * r + a] * here.tau[l * r + k];
            }
    }
    solve(chunk);
    std::vector<Vector> step(A_, Vector(last - first, 0.0));
    for (int d = 0; d < depths(); ++d) {
        Depth& here = depth_[d];
        const int r = here.r;
        const double* Lambda = lambda(d);
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l)
            for (int a = 0; a < r; ++a) {
                double Lv = 0;
                for (int k = 0; k <= a; ++k) Lv += Lambda[a * r + k] * here.v[l * r + k];
                here.effect[l * r + a] = Lv;
            }
        const Predictors::Random& f = *columns[d].rows;
        for (int a = 0; a < r; ++a) {
            double* to = step[f.owner[a]].data();
            for (size_t i = first; i < last; ++i)
                to[i - first] +=
                    f.z[i * r + a] * here.effect[static_cast<size_t>(f.level[i]) * r + a];
        }
    }
    // W Z Lambda v, by random predictor in place of `step`
    std::vector<Vector> moved(A_, Vector(last - first, 0.0));
    for (int m = 0; m < M_; ++m) {
        const auto place = std::find(random.begin(), random.end(), m);
        double* own = place == random.end() ? nullptr : moved[place - random.begin()].data();
        for (int k = 0; k < A_; ++k) {
            const double* W = cross.data() + (k * M_ + m) * (last - first);
            for (size_t i = first; i < last; ++i) {
                const double value = W[i - first] * step[k][i - first];
                mean_[m][i] -= value;
                if (own) own[i - first] += value;
            }
        }
    }
    for (int d = 0; d < depths(); ++d) {
        const Depth& here = depth_[d];
        const Predictors::Random& f = *columns[d].rows;
        const int r = here.r;
        const Vector& score = laplace_.score(here.factor);
        const auto [from, to] = levels(d, chunk);
        for (size_t l = from; l < to; ++l)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < r; ++e)
                    sums.Lambda[d][a * r + e] += here.tau[l * r + a] * here.mode[l * r + e] +
                                                 score[l * r + a] * here.v[l * r + e];
        for (int a = 0; a < r; ++a) {
            const double* value = moved[f.owner[a]].data();
            for (size_t i = first; i < last; ++i) {
                const double zq = f.z[i * r + a] * value[i - first];
                const double* u = here.mode.data() + static_cast<size_t>(f.level[i]) * r;
                for (int e = 0; e < r; ++e) sums.Lambda[d][a * r + e] -= zq * u[e];
            }
        }
    }
}

// Lambda Hbar Lambda' of each level with itself and its ancestors, (r, width): what W
// is multiplied by.
void Quadrature::adjoints(int d, int chunk, Vector& out) const {
    const Depth& here = depth_[d];
    const int r = here.r, width = blocks().chain[d].width;
    const double* Lambda = lambda(d);
    const auto [from, to] = levels(d, chunk);
    out.resize((to - from) * r * width);
    for (size_t l = from; l < to; ++l) {
        double* C = out.data() + (l - from) * r * width;
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e) {
                double v = 0;
                for (int k = 0; k <= a; ++k)
                    for (int j = 0; j <= e; ++j)
                        v += Lambda[a * r + k] * here.Hbar[(l * r + k) * r + j] * Lambda[e * r + j];
                C[a * width + e] = v;
            }
        int first = r;
        for (size_t h = 0; h < here.cross.size(); ++h) {
            const int s = depth_[d + 1 + h].r;
            const double* up = lambda(d + 1 + h);
            const double* H = here.cross_bar[h].data() + l * s * r; // (s, r)
            for (int a = 0; a < r; ++a)
                for (int e = 0; e < s; ++e) {
                    double v = 0;
                    for (int k = 0; k <= a; ++k)
                        for (int j = 0; j <= e; ++j)
                            v += Lambda[a * r + k] * H[j * r + k] * up[e * s + j];
                    C[a * width + first + e] = v;
                }
            first += s;
        }
    }
}

// S += z_a z_c C_ac of row i, by pairs of random predictors; (k, j) and (j, k) fall
// together.
void Quadrature::add_adjoints(const std::vector<Columns>& columns, int d, size_t i, size_t from,
                              Vector& S) const {
    const Columns& own = columns[d];
    const Predictors::Random& f = *own.rows;
    const int width = blocks().chain[d].width;
    const double* C = own.adjoint.data() + (f.level[i] - from) * own.r * width;
    int column = 0;
    for (int e = d; e < depths(); ++e) {
        const Predictors::Random& g = *columns[e].rows;
        for (int a = 0; a < f.r; ++a)
            for (int c = 0; c < g.r; ++c) {
                const int k = std::min(f.owner[a], g.owner[c]);
                const int j = std::max(f.owner[a], g.owner[c]);
                S[k * A_ - k * (k - 1) / 2 + j - k] +=
                    f.z[i * f.r + a] * g.z[i * g.r + c] * C[a * width + column + c];
            }
        column += g.r;
    }
}

void Quadrature::differentiate(double* gradient, double* hessian) {
    if (!smooth_)
        throw std::invalid_argument("quadrature differentiates unstructured or diagonal terms");
    laplace_.differentiate(gradient, hessian);
    for_chunks(predictors_.chunks(), threads_, [&](int c) {
        Sums& sums = sums_[c];
        sums.Lambda.resize(depth_.size());
        sums.G.resize(depth_.size());
        for (int d = 0; d < depths(); ++d) {
            sums.Lambda[d].assign(static_cast<size_t>(depth_[d].r) * depth_[d].r, 0.0);
            sums.G[d].assign(sums.Lambda[d].size(), 0.0);
        }
        visit_nodes(c, sums);
        reverse(c, sums);
        visit_modes(c, sums);
    });
    std::fill(gradient, gradient + parameters(), 0.0);
    for (int d = 0; d < depths(); ++d) {
        const int r = depth_[d].r;
        Vector Lambda(static_cast<size_t>(r) * r, 0.0);
        Vector& G = G_[depth_[d].factor];
        std::fill(G.begin(), G.end(), 0.0);
        for (const Sums& s : sums_)
            for (size_t k = 0; k < Lambda.size(); ++k) {
                Lambda[k] += s.Lambda[d][k];
                G[k] += s.G[d][k];
            }
        for (const Term& term : blocks().factors[depth_[d].factor].terms) {
            const int s = term.structure->r;
            double* to = gradient + term.offset;
            for (int col = 0; col < s; ++col)
                for (int row = col; row < (term.structure->unstructured() ? s : col + 1); ++row)
                    *to++ = -2 * Lambda[(term.first + row) * r + term.first + col];
        }
    }
    for (int m = 0; m < M_; ++m) {
        for (double& v : mean_[m]) v *= -2;
        predictors_.fixed_transposed(m, mean_[m].data(), gradient + blocks().parameters);
    }
}

void Quadrature::posterior(int factor, Vector& mean, Vector& covariance) {
    const int D = blocks().factors[factor].depth, r = depth_[D].r;
    const size_t q = depth_[D].q;
    mean.assign(q * r, 0.0);
    covariance.assign(q * r * r, 0.0);
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
    for (size_t l = 0; l < q; ++l)
        for (int a = 0; a < r; ++a)
            for (int e = 0; e < r; ++e)
                covariance[(l * r + a) * r + e] -= mean[l * r + a] * mean[l * r + e];
}

} // namespace ranef
