// Derivatives of the sums over nodes: expectations at the nodes, then in reverse through the
// places of the nodes, their factors and the modes.
#include <algorithm>
#include <cmath>

#include "quadrature_parts.hpp"
#include "threads.hpp"

namespace ranef {

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
    Vector buffer(rows_at_once * count), weight(rows_at_once), share(rows_at_once);
    std::vector<double*> out(count);
    const std::vector<const double*> eta = predictors_here();
    for (size_t start = first; start < last; start += rows_at_once) {
        const size_t end = std::min(start + rows_at_once, last);
        for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * rows_at_once - start;
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
    for (int a = 0; a < r; ++a) Lbar[a * r + a] -= level_weight(d, l) / L[a * r + a];
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
// One function: three passes over the same rows, each with the sums of the one before.
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
    Vector buffer(rows_at_once * count), S(pairs), cross(A_ * M_ * (last - first));
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
    for (size_t start = first; start < last; start += rows_at_once) {
        const size_t end = std::min(start + rows_at_once, last);
        for (int d = 0; d < count; ++d) out[d] = buffer.data() + d * rows_at_once - start;
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
    if (!laplace_.given()) laplace_.differentiate(gradient, hessian);
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

} // namespace ranef
