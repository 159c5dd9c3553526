#include "blocks.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <type_traits>

#include "dense.hpp"
#include "sparse_tail.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int most_chunks = 64;
constexpr double most_accumulated = 8e6;
constexpr int row_parts = 16;
constexpr size_t worth_threads = 10000; // rows
constexpr double dense_products = 0.1;  // share of Z'X that is not zero, from which BLAS pays

double weight(const Blocks& b, size_t i) {
    return b.w ? b.w[i] : 1.0;
}

// Column means of z and of its squares about them, in fixed parts.
struct Moments {
    Vector mean, square;
    std::vector<bool> constant;
};

Moments moments(size_t n, int r, const double* z, int threads) {
    const auto bounds = partition(n, row_parts);
    std::vector<Vector> sums(row_parts, Vector(2 * r, 0.0));
    std::vector<std::vector<char>> varies(row_parts, std::vector<char>(r, 0));
    for_chunks(row_parts, n * r > 50000 ? threads : 1, [&](int c) {
        double* s = sums[c].data();
        char* v = varies[c].data();
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i)
            for (int a = 0; a < r; ++a) {
                const double d = z[i * r + a] - z[a];
                s[a] += d;
                s[r + a] += d * d;
                if (d != 0) v[a] = 1;
            }
    });
    Moments m{Vector(r, 0.0), Vector(r, 0.0), std::vector<bool>(r, true)};
    for (int a = 0; a < r; ++a) {
        double s = 0, ss = 0;
        for (int c = 0; c < row_parts; ++c) {
            s += sums[c][a];
            ss += sums[c][r + a];
            if (varies[c][a]) m.constant[a] = false;
        }
        const double d = s / static_cast<double>(n);
        m.mean[a] = z[a] + d;
        m.square[a] = std::max(ss / static_cast<double>(n) - d * d, 0.0);
    }
    return m;
}

// The constant column that takes up the mean of column a: one of the same predictor, or -1.
int centre_of(const Term& term, const std::vector<int>& constant, int a) {
    for (int c : constant)
        if (term.owners.empty() || term.owners[c] == term.owners[a]) return c;
    return -1;
}

// Standardise the columns of each term as far as its structure allows.
void standardise(size_t n, Factor& f, int threads) {
    f.shift.assign(f.r, 0.0);
    f.inverse_scale.assign(f.r, 1.0);
    const Moments m = moments(n, f.r, f.z, threads);
    for (Term& term : f.terms) {
        const int r = term.structure->r, first = term.first;
        std::vector<int> constant;
        if (term.structure->unstructured() && r > 1)
            for (int a = 0; a < r; ++a)
                if (m.constant[first + a] && m.mean[first + a] != 0) constant.push_back(a);
        double total = 0;
        for (int a = 0; a < r; ++a) {
            const int c = first + a;
            const double rms2 = m.square[c] + m.mean[c] * m.mean[c];
            total += rms2;
            const bool centre = !m.constant[c] && centre_of(term, constant, a) >= 0;
            const double s2 = centre ? m.square[c] : rms2;
            if (centre) f.shift[c] = m.mean[c];
            if (s2 > 0) f.inverse_scale[c] = 1 / std::sqrt(s2);
        }
        if (!term.structure->free_scale())
            for (int a = 0; a < r; ++a)
                f.inverse_scale[first + a] = total > 0 ? 1 / std::sqrt(total) : 1.0;
        for (int a = 0; a < r && !term.units.empty(); ++a)
            f.inverse_scale[first + a] *= term.units[a];
        term.basis.assign(static_cast<size_t>(r) * r, 0.0);
        for (int a = 0; a < r; ++a) {
            term.basis[a * r + a] = f.inverse_scale[first + a];
            const int k = m.constant[first + a] ? -1 : centre_of(term, constant, a);
            if (k >= 0)
                term.basis[k * r + a] -=
                    f.shift[first + a] * f.inverse_scale[first + a] / m.mean[first + k];
        }
    }
}

// Order the levels of a nested chain so that the descendants of every level
// are contiguous.
void order_chain(Blocks& b, const std::vector<int>& chain) {
    const int m = static_cast<int>(chain.size());
    for (int d = m - 1; d >= 0; --d) {
        Factor& f = b.factors[chain[d]];
        f.depth = d;
        f.level_at.resize(f.q);
        std::iota(f.level_at.begin(), f.level_at.end(), 0);
        if (d + 1 < m) {
            const Factor& up = b.factors[chain[d + 1]];
            Indices parent(f.q, -1);
            for (size_t i = 0; i < b.n; ++i) parent[f.codes[i]] = up.rank_of[up.codes[i]];
            std::stable_sort(f.level_at.begin(), f.level_at.end(),
                             [&](int x, int y) { return parent[x] < parent[y]; });
        }
        f.rank_of.resize(f.q);
        for (int j = 0; j < f.q; ++j) f.rank_of[f.level_at[j]] = j;
    }
}

void identity_order(Factor& f) {
    f.level_at.resize(f.q);
    std::iota(f.level_at.begin(), f.level_at.end(), 0);
    f.rank_of = f.level_at;
}

// Each thread scans all rows and keeps those whose level lies in its part, so
// that every sum runs in row order.
template <class Visit>
void visit_by_level(size_t n, const Factor& f, int threads, Visit&& visit) {
    if (threads <= 1 || n < 20000) {
        for (size_t i = 0; i < n; ++i) visit(i, f.rank_of[f.codes[i]]);
        return;
    }
    const auto bounds = partition(f.q, threads);
    for_chunks(threads, threads, [&](int c) {
        auto mine = visit; // with work space of its own
        const auto low = static_cast<int32_t>(bounds[c]),
                   high = static_cast<int32_t>(bounds[c + 1]);
        for (size_t i = 0; i < n; ++i) {
            const int32_t l = f.rank_of[f.codes[i]];
            if (l >= low && l < high) mine(i, l);
        }
    });
}

// z of a row in the inner basis.
template <int R>
void inner_columns(const Factor& f, size_t i, double* out) {
    const int r = R > 0 ? R : f.r;
    const double* z = f.z + i * r;
    for (int a = 0; a < r; ++a) out[a] = (z[a] - f.shift[a]) * f.inverse_scale[a];
}

template <int R>
void fill_panel(Blocks& b, int depth, int threads) {
    ChainBlock& c = b.chain[depth];
    const Factor& f = b.factors[c.factor];
    const int r = R > 0 ? R : c.r, p = b.p, width = c.width;
    c.panel.assign(static_cast<size_t>(c.q) * r * width, 0.0);
    std::vector<const Factor*> above;
    for (size_t k = depth + 1; k < b.chain.size(); ++k)
        above.push_back(&b.factors[b.chain[k].factor]);
    visit_by_level(b.n, f, threads, [&, own = Vector(r)](size_t i, int32_t l) mutable {
        const double wi = weight(b, i);
        double* panel = c.panel.data() + static_cast<size_t>(l) * r * width;
        inner_columns<R>(f, i, own.data());
        for (int a = 0; a < r; ++a) {
            const double v = wi * own[a];
            if (R == 0 && v == 0) continue; // columns by the hundred are mostly zeros
            double* row = panel + a * width;
            for (int e = 0; e < r; ++e) row[e] += v * own[e];
            int col = r;
            for (const Factor* g : above)
                for (int e = 0; e < g->r; ++e) row[col++] += v * g->z_at(i, e);
            b.X.add(i, v, row + col);
        }
    });
    for (size_t row = 0; row < static_cast<size_t>(c.q) * r; ++row)
        for (int e = 0; e < p; ++e) c.panel[row * width + width - p + e] *= b.x_scale[e];
}

// Calls fill(r) with r as a constant; 0 stands for more than four.
template <class Fill>
void by_columns(int r, Fill&& fill) {
    switch (r) {
    case 1:
        return fill(std::integral_constant<int, 1>());
    case 2:
        return fill(std::integral_constant<int, 2>());
    case 3:
        return fill(std::integral_constant<int, 3>());
    case 4:
        return fill(std::integral_constant<int, 4>());
    default:
        return fill(std::integral_constant<int, 0>());
    }
}

void fill_ancestors(Blocks& b, int depth) {
    ChainBlock& c = b.chain[depth];
    const Factor& f = b.factors[c.factor];
    for (size_t k = depth + 1; k < b.chain.size(); ++k) {
        const Factor& up = b.factors[b.chain[k].factor];
        Indices parent(c.q, 0);
        for (size_t i = 0; i < b.n; ++i) parent[f.rank_of[f.codes[i]]] = up.rank_of[up.codes[i]];
        c.ancestor.push_back(std::move(parent));
    }
}

void fill_fixed(Blocks& b, const Vector& gram, int threads) {
    const int p = b.p;
    if (!b.w) {
        b.fixed = gram;
        return;
    }
    b.fixed.assign(static_cast<size_t>(p) * p, 0.0);
    const auto bounds = partition(b.n, row_parts);
    std::vector<Vector> parts(row_parts, Vector(static_cast<size_t>(p) * p, 0.0));
    for_chunks(row_parts, b.n * p * p > 100000 ? threads : 1, [&](int c) {
        double* out = parts[c].data();
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) b.X.add_square(i, weight(b, i), out);
    });
    for (const Vector& part : parts)
        for (size_t k = 0; k < part.size(); ++k) b.fixed[k] += part[k];
    for (int a = 0; a < p; ++a)
        for (int e = 0; e <= a; ++e)
            b.fixed[e * p + a] = b.fixed[a * p + e] *= b.x_scale[a] * b.x_scale[e];
}

// Rows of the table in the order of a factor's levels.
struct RowOrder {
    std::vector<int64_t> ptr;
    Indices rows;
};

RowOrder rows_by_level(size_t n, const Factor& f) {
    RowOrder o{std::vector<int64_t>(f.q + 1, 0), Indices(n)};
    for (size_t i = 0; i < n; ++i) ++o.ptr[f.rank_of[f.codes[i]] + 1];
    for (int l = 0; l < f.q; ++l) o.ptr[l + 1] += o.ptr[l];
    std::vector<int64_t> next(o.ptr.begin(), o.ptr.end() - 1);
    for (size_t i = 0; i < n; ++i) o.rows[next[f.rank_of[f.codes[i]]]++] = static_cast<int32_t>(i);
    return o;
}

// First tail columns of the levels that occur in the rows, sorted.
void touched_columns(const std::vector<const Factor*>& tail, const int32_t* rows, int64_t count,
                     Indices& out, Indices& stamp, int32_t mark) {
    out.clear();
    for (const Factor* g : tail)
        for (int64_t k = 0; k < count; ++k) {
            const int32_t col = g->column + g->r * g->rank_of[g->codes[rows[k]]];
            if (stamp[col] != mark) {
                stamp[col] = mark;
                out.push_back(col);
            }
        }
    std::sort(out.begin(), out.end());
}

void fill_leader_tail(Blocks& b, int threads) {
    const Factor& f = b.factors[b.chain[0].factor];
    const int q = f.q, r = f.r;
    std::vector<const Factor*> tail;
    for (int t : b.tail) tail.push_back(&b.factors[t]);
    Indices width_of(b.T, 0);
    for (const Factor* g : tail)
        for (int l = 0; l < g->q; ++l) width_of[g->column + g->r * l] = g->r;
    const RowOrder order = rows_by_level(b.n, f);
    b.tail_ptr.assign(q + 1, 0);
    const auto bounds = partition(q, threads);
    for_chunks(threads, threads, [&](int c) {
        Indices cols, stamp(b.T, -1);
        for (size_t l = bounds[c]; l < bounds[c + 1]; ++l) {
            touched_columns(tail, order.rows.data() + order.ptr[l], order.ptr[l + 1] - order.ptr[l],
                            cols, stamp, static_cast<int32_t>(l));
            int64_t m = 0;
            for (int32_t col : cols) m += width_of[col];
            b.tail_ptr[l + 1] = m;
        }
    });
    for (int l = 0; l < q; ++l) b.tail_ptr[l + 1] += b.tail_ptr[l];
    b.tail_column.resize(b.tail_ptr[q]);
    b.tail_value.assign(static_cast<size_t>(b.tail_ptr[q]) * r, 0.0);
    for_chunks(threads, threads, [&](int c) {
        Indices cols, stamp(b.T, -1), place(b.T, 0);
        for (size_t l = bounds[c]; l < bounds[c + 1]; ++l) {
            const int32_t* rows = order.rows.data() + order.ptr[l];
            const int64_t count = order.ptr[l + 1] - order.ptr[l];
            touched_columns(tail, rows, count, cols, stamp, static_cast<int32_t>(l));
            const int64_t start = b.tail_ptr[l], m = b.tail_ptr[l + 1] - start;
            int32_t k = 0;
            for (int32_t col : cols) {
                place[col] = k;
                for (int e = 0; e < width_of[col]; ++e) b.tail_column[start + k++] = col + e;
            }
            double* value = b.tail_value.data() + start * r;
            for (int64_t i = 0; i < count; ++i) {
                const size_t row = rows[i];
                const double wi = weight(b, row);
                for (const Factor* g : tail) {
                    const int32_t at = place[g->column + g->r * g->rank_of[g->codes[row]]];
                    for (int a = 0; a < r; ++a) {
                        const double v = wi * f.z_at(row, a);
                        for (int e = 0; e < g->r; ++e) value[a * m + at + e] += v * g->z_at(row, e);
                    }
                }
            }
        }
    });
}

PairBlock pair_block(const Blocks& b, int fi, int gi) {
    const Factor &f = b.factors[fi], &g = b.factors[gi];
    PairBlock out;
    out.f = fi;
    out.g = gi;
    const RowOrder order = rows_by_level(b.n, f);
    Indices stamp(g.q, -1), place(g.q, 0), cols;
    const int size = f.r * g.r;
    for (int l = 0; l < f.q; ++l) {
        cols.clear();
        for (int64_t k = order.ptr[l]; k < order.ptr[l + 1]; ++k) {
            const int32_t c = g.rank_of[g.codes[order.rows[k]]];
            if (stamp[c] != l) {
                stamp[c] = l;
                cols.push_back(c);
            }
        }
        std::sort(cols.begin(), cols.end());
        const size_t start = out.level_f.size();
        for (size_t k = 0; k < cols.size(); ++k) {
            place[cols[k]] = static_cast<int32_t>(start + k);
            out.level_f.push_back(l);
            out.level_g.push_back(cols[k]);
        }
        out.values.resize(out.level_f.size() * size, 0.0);
        for (int64_t k = order.ptr[l]; k < order.ptr[l + 1]; ++k) {
            const size_t row = order.rows[k];
            const double wi = weight(b, row);
            double* value =
                out.values.data() + static_cast<size_t>(place[g.rank_of[g.codes[row]]]) * size;
            for (int a = 0; a < f.r; ++a)
                for (int e = 0; e < g.r; ++e)
                    value[a * g.r + e] += wi * f.z_at(row, a) * g.z_at(row, e);
        }
    }
    return out;
}

void fill_tail(Blocks& b, int threads) {
    const int p = b.p;
    b.tail_fixed.assign(static_cast<size_t>(b.T) * p, 0.0);
    for (int t : b.tail) {
        const Factor& f = b.factors[t];
        const int r = f.r;
        b.tail_diagonal.emplace_back(static_cast<size_t>(f.q) * r * r, 0.0);
        Vector& diagonal = b.tail_diagonal.back();
        visit_by_level(b.n, f, threads, [&](size_t i, int32_t l) {
            const double wi = weight(b, i);
            for (int a = 0; a < r; ++a) {
                const double v = wi * f.z_at(i, a);
                double* d = diagonal.data() + (static_cast<size_t>(l) * r + a) * r;
                for (int e = 0; e < r; ++e) d[e] += v * f.z_at(i, e);
                double* row = b.tail_fixed.data() +
                              (static_cast<size_t>(f.column) + static_cast<size_t>(l) * r + a) * p;
                b.X.add(i, v, row);
            }
        });
    }
    for (int row = 0; row < b.T; ++row)
        for (int e = 0; e < p; ++e) b.tail_fixed[static_cast<size_t>(row) * p + e] *= b.x_scale[e];
    for (size_t s = 0; s < b.tail.size(); ++s)
        for (size_t t = s + 1; t < b.tail.size(); ++t)
            b.tail_pairs.push_back(pair_block(b, b.tail[s], b.tail[t]));
}

// Whether Z'X of the finest factor is worth BLAS: of categories most of it is zero.
bool many_dense_fixed(const Blocks& b) {
    if (!use_lapack(b.p)) return false;
    if (b.chain.empty()) return true;
    const ChainBlock& c = b.chain[0];
    size_t nonzero = 0;
    for (size_t row = 0; row < static_cast<size_t>(c.q) * c.r; ++row) {
        const double* x = c.panel.data() + (row + 1) * c.width - b.p;
        nonzero += static_cast<size_t>(b.p - std::count(x, x + b.p, 0.0));
    }
    return static_cast<double>(nonzero) > dense_products * c.q * c.r * b.p;
}

void choose_chunks(Blocks& b) {
    const int depth = static_cast<int>(b.chain.size());
    b.chunk.assign(depth, {});
    if (depth == 0) {
        b.chunks = 0;
        return;
    }
    const int finest = b.chain[0].q, top = b.chain[depth - 1].q;
    const double each = static_cast<double>(b.p + 1) * (b.p + 1) +
                        static_cast<double>(b.order() + b.parameters) * b.parameters + 64;
    int chunks = std::min({most_chunks, 1 + finest / 128, top});
    chunks = std::max(1, std::min(chunks, static_cast<int>(most_accumulated / each)));
    b.chunks = chunks;
    // cut the top level where its subtrees hold nearly equal numbers of leaves
    std::vector<size_t> leaves(top + 1, 0);
    if (depth == 1)
        std::iota(leaves.begin(), leaves.end(), size_t{0});
    else {
        for (int32_t a : b.chain[0].ancestor[depth - 2]) ++leaves[a + 1];
        for (int l = 0; l < top; ++l) leaves[l + 1] += leaves[l];
    }
    std::vector<size_t> cut(chunks + 1, 0);
    for (int c = 1; c <= chunks; ++c) {
        const size_t goal = static_cast<size_t>(finest) * c / chunks;
        cut[c] = std::lower_bound(leaves.begin(), leaves.end(), goal) - leaves.begin();
    }
    cut[chunks] = top;
    for (int d = 0; d < depth; ++d) {
        b.chunk[d] = cut;
        if (d == depth - 1) continue;
        const Indices& up = b.chain[d].ancestor[depth - 2 - d];
        for (int c = 0; c <= chunks; ++c)
            b.chunk[d][c] =
                std::lower_bound(up.begin(), up.end(), static_cast<int32_t>(cut[c])) - up.begin();
    }
}

} // namespace

std::unique_ptr<Blocks> assemble(size_t n, const std::vector<FactorInput>& inputs,
                                 const FixedInput& fixed, const double* weights,
                                 const std::vector<int>& chain, int threads, bool sparse_tail) {
    if (n < worth_threads) threads = 1;
    auto out = std::make_unique<Blocks>();
    Blocks& b = *out;
    const int p = fixed.p;
    b.n = n;
    b.p = p;
    b.X = fixed.X;
    b.x_scale = fixed.scale;
    b.w = weights;
    if (weights)
        for (size_t i = 0; i < n; ++i) b.log_weights += std::log(weights[i]);
    for (const FactorInput& in : inputs) {
        Factor f;
        f.kept_codes = in.codes;
        f.codes = f.kept_codes->data();
        f.z = in.z;
        f.q = in.q;
        f.kernel = in.kernel;
        for (const TermInput& t : in.terms) {
            Term term;
            term.first = f.r;
            term.units = t.units;
            term.owners = t.owners;
            term.structure = make_structure(t.structure, t.size, t.rank, t.positions, t.dimensions);
            term.parameters = term.structure->parameters();
            term.offset = b.parameters;
            b.parameters += term.parameters;
            f.r += t.size;
            f.terms.push_back(std::move(term));
        }
        standardise(n, f, threads);
        b.factors.push_back(std::move(f));
    }
    order_chain(b, chain);
    for (size_t k = 0; k < b.factors.size(); ++k)
        if (std::find(chain.begin(), chain.end(), static_cast<int>(k)) == chain.end()) {
            Factor& f = b.factors[k];
            identity_order(f);
            f.column = b.T;
            b.T += f.q * f.r;
            b.tail.push_back(static_cast<int>(k));
        }
    int above = p;
    b.chain.resize(chain.size());
    for (int d = static_cast<int>(chain.size()) - 1; d >= 0; --d) {
        ChainBlock& c = b.chain[d];
        c.factor = chain[d];
        c.q = b.factors[chain[d]].q;
        c.r = b.factors[chain[d]].r;
        c.width = above += c.r;
    }
    for (int d = 0; d < static_cast<int>(chain.size()); ++d) {
        by_columns(b.chain[d].r, [&](auto r) { fill_panel<r()>(b, d, threads); });
        fill_ancestors(b, d);
    }
    fill_fixed(b, fixed.gram, threads);
    b.blas_fixed = many_dense_fixed(b);
    if (b.T > 0) {
        if (!chain.empty()) fill_leader_tail(b, threads);
        fill_tail(b, threads);
        if (sparse_tail) b.sparse = lay_out_sparse(b);
    }
    choose_chunks(b);
    return out;
}

namespace {

template <int R>
void fill_response(const Blocks& b, const Factor& f, const double* y, int threads, double* out) {
    const int r = R > 0 ? R : f.r;
    visit_by_level(b.n, f, threads, [&, own = Vector(r)](size_t i, int32_t l) mutable {
        const double wy = weight(b, i) * y[i];
        inner_columns<R>(f, i, own.data());
        double* row = out + static_cast<size_t>(l) * r;
        for (int a = 0; a < r; ++a) row[a] += wy * own[a];
    });
}

} // namespace

Response Blocks::respond(const double* y, int threads) const {
    Response out;
    auto fill = [&](const Factor& f, double* to) {
        by_columns(f.r, [&](auto r) { fill_response<r()>(*this, f, y, threads, to); });
    };
    for (const ChainBlock& c : chain) {
        out.chain.emplace_back(static_cast<size_t>(c.q) * c.r, 0.0);
        fill(factors[c.factor], out.chain.back().data());
    }
    out.tail.assign(T, 0.0);
    for (int t : tail) fill(factors[t], out.tail.data() + factors[t].column);
    const auto bounds = partition(n, row_parts);
    std::vector<Vector> parts(row_parts, Vector(p + 1, 0.0));
    for_chunks(row_parts, n > worth_threads ? threads : 1, [&](int c) {
        double* sums = parts[c].data();
        double square = 0;
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) {
            const double wy = weight(*this, i) * y[i];
            X.add(i, wy, sums);
            square += wy * y[i];
        }
        sums[p] = square;
    });
    out.fixed.assign(p, 0.0);
    for (const Vector& part : parts) {
        for (int e = 0; e < p; ++e) out.fixed[e] += part[e] * x_scale[e];
        out.square += part[p];
    }
    return out;
}

size_t Blocks::bytes() const {
    size_t total = tail_value.size() * 8 + tail_column.size() * 4 + tail_fixed.size() * 8;
    for (const ChainBlock& c : chain) total += c.panel.size() * 8;
    for (const PairBlock& pair : tail_pairs)
        total += pair.values.size() * 8 + pair.level_f.size() * 8;
    for (const Vector& d : tail_diagonal) total += d.size() * 8;
    return total;
}

int64_t count_pairs(size_t n, const int32_t* f, int qf, const int32_t* g, int qg, int64_t limit) {
    const auto checked = [](int32_t code, int q) {
        if (code < 0 || code >= q) throw std::invalid_argument("a level code is out of range");
        return code;
    };
    Indices codes(f, f + n), sorted(n); // read once each: another thread may write to them
    std::vector<int64_t> ptr(static_cast<size_t>(qf) + 1, 0);
    for (int32_t code : codes) ++ptr[checked(code, qf) + 1];
    for (int l = 0; l < qf; ++l) ptr[l + 1] += ptr[l];
    std::vector<int64_t> next(ptr.begin(), ptr.end() - 1);
    for (size_t i = 0; i < n; ++i) sorted[next[codes[i]]++] = checked(g[i], qg);
    Indices stamp(qg, -1);
    int64_t pairs = 0;
    for (int l = 0; l < qf; ++l)
        for (int64_t k = ptr[l]; k < ptr[l + 1]; ++k)
            if (stamp[sorted[k]] != l) {
                stamp[sorted[k]] = l;
                if (++pairs > limit) return -1;
            }
    return pairs;
}

} // namespace ranef
