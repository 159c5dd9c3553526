#include "moved_means.hpp"

#include <algorithm>
#include <stdexcept>

#include "least_squares.hpp"
#include "threads.hpp"

namespace ranef {

namespace {

constexpr int row_parts = 16;
constexpr size_t worth_threads = 20000; // values

size_t level_of(const Factor& f, size_t row) {
    return f.rank_of[f.codes[row]];
}

// out += factor times Z b of one factor, b (q, r) by internal level.
void add_effects(const Factor& f, const Vector& b, double factor, size_t first, size_t last,
                 double* out) {
    for (size_t i = first; i < last; ++i) {
        const double* own = b.data() + level_of(f, i) * f.r;
        double s = 0;
        for (int a = 0; a < f.r; ++a) s += f.z_at(i, a) * own[a];
        out[i] += factor * s;
    }
}

// D s of each level: the effects that the direction moves.
Vector pushed(const Factor& f, const Vector& D, const Vector& s) {
    Vector out(s.size());
    for (size_t l = 0; l < s.size(); l += f.r)
        for (int a = 0; a < f.r; ++a) {
            double v = 0;
            for (int e = 0; e < f.r; ++e) v += D[static_cast<size_t>(a) * f.r + e] * s[l + e];
            out[l + a] = v;
        }
    return out;
}

// Takes X beta and the effects of all factors out of the rows of `out`.
template <class Modes>
void take_out(const Blocks& b, const Vector& beta, const Modes& modes, size_t first, size_t last,
              double* out) {
    Vector scaled(b.p);
    for (int e = 0; e < b.p; ++e) scaled[e] = beta[e] * b.x_scale[e];
    for (size_t i = first; i < last; ++i) out[i] -= b.X.times(i, scaled.data());
    for (size_t f = 0; f < b.factors.size(); ++f)
        add_effects(b.factors[f], modes(static_cast<int>(f)), -1.0, first, last, out);
}

} // namespace

MovedMeans moved_means(Criterion& criterion, const double* y, const Vector& gram,
                       const std::vector<Direction>& directions, int threads) {
    const Blocks& b = criterion.blocks();
    for (const Factor& f : b.factors)
        if (f.kernel) throw std::invalid_argument("effects that a kernel relates are not asked");
    const size_t n = b.n, k = directions.size(), rows = k + 1;
    const int workers = n * rows > worth_threads ? threads : 1;
    const auto bounds = partition(n, row_parts);
    criterion.score();
    // w_i by rows, freed of X so that what is left of it keeps its digits
    Vector w(k * n, 0.0);
    for (size_t j = 0; j < k; ++j) {
        const Factor& f = b.factors[directions[j].factor];
        const Vector effects =
            pushed(f, directions[j].matrix, criterion.scores(directions[j].factor));
        for_chunks(row_parts, workers, [&](int c) {
            add_effects(f, effects, 1.0, bounds[c], bounds[c + 1], w.data() + j * n);
        });
    }
    Freed freed = free_of_fixed(n, b.X, b.x_scale, gram, k, w.data(), nullptr, threads);
    Vector rest = std::move(freed.rest);
    rest.insert(rest.end(), y, y + n);
    const size_t many = criterion.solved_at_once();
    for (size_t first = 0; first < k; first += many) {
        std::vector<Response> rhs;
        for (size_t j = first; j < std::min(k, first + many); ++j)
            rhs.push_back(b.respond(rest.data() + j * n, threads));
        const std::vector<Solution> found = criterion.solutions(std::move(rhs));
        for (size_t j = 0; j < found.size(); ++j) {
            double* own = rest.data() + (first + j) * n;
            for_chunks(row_parts, workers, [&](int c) {
                take_out(
                    b, found[j].beta, [&](int f) -> const Vector& { return found[j].modes[f]; },
                    bounds[c], bounds[c + 1], own);
                for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) own[i] *= freed.scale[first + j];
            });
        }
    }
    double* last = rest.data() + k * n;
    std::vector<Vector> parts(row_parts, Vector(rows * rows, 0.0));
    for_chunks(row_parts, workers, [&](int c) {
        take_out(
            b, criterion.beta(), [&](int f) -> const Vector& { return criterion.modes(f); },
            bounds[c], bounds[c + 1], last);
        const int count = static_cast<int>(bounds[c + 1] - bounds[c]);
        Vector weighted(count);
        for (size_t j = 0; j < rows; ++j) {
            const double* own = rest.data() + j * n + bounds[c];
            for (int i = 0; i < count; ++i) weighted[i] = own[i] * (b.w ? b.w[bounds[c] + i] : 1.0);
            for (size_t h = 0; h <= j; ++h)
                parts[c][j * rows + h] =
                    dot(count, weighted.data(), rest.data() + h * n + bounds[c]);
        }
    });
    MovedMeans out{Vector(k * k), Vector(k), 0.0};
    for (const Vector& part : parts) {
        for (size_t j = 0; j < k; ++j) {
            for (size_t h = 0; h <= j; ++h) out.products[j * k + h] += part[j * rows + h];
            out.own[j] += part[k * rows + j];
        }
        out.square += part[k * rows + k];
    }
    for (size_t j = 0; j < k; ++j)
        for (size_t h = 0; h < j; ++h) out.products[h * k + j] = out.products[j * k + h];
    return out;
}

} // namespace ranef
