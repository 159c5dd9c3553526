#include "starts.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "criterion.hpp"

namespace ranef {

namespace {

constexpr double most_operations = 1e6; // of all further starts together
constexpr double when_in_doubt = 3;     // times as many where the first of them disagree
constexpr double least_points = 8;      // of a grid worth its while
constexpr double of_derivatives = 4;    // an evaluation with derivatives, in those without
constexpr double of_search = 6;         // evaluations with derivatives, before its end is in sight
constexpr int most_starts = 10;
constexpr int many_starts = 24;            // where the first of them disagree
constexpr size_t few_starts = 5;           // at least, of several terms or on a boundary
constexpr int most_points = 400;           // of the grid
constexpr size_t most_axes = 4;            // of a whole grid
constexpr double low = 0.12, beyond = 1.5; // standard deviations beside the residual's
constexpr double smallest_top = 4, largest_top = 1e4, huge = 1e4;
constexpr std::array<double, 3> correlations{-0.9, 0.0, 0.9};
constexpr std::array<double, 3> turns{-0.9, 0.0, 0.9};
constexpr std::array<double, 2> shapes{-1.1, 1.1};         // beside where a structure starts
constexpr double far_apart = 3;                            // sizes, beside each other
constexpr std::array<double, 4> own_sizes{0.5, 1.2, 3, 8}; // of a term by itself
constexpr int most_alone = 6;                              // columns that are left out one by one
constexpr size_t most_exchanged = 8;        // axes along which variances change places
const std::vector<double> distances{1, 16}; // of what has run away, brought nearer
constexpr int most_rounds = 3;
constexpr int on_sphere = 120;                      // directions in which three loadings may stand
constexpr double golden_turn = 2.39996322972865332; // of a spiral of equal areas
constexpr double near_by = 0.94;                    // cosine of directions that are neighbours
constexpr double alike = 0.9; // correlations of the first column, but for their signs
constexpr int most_signs = 4; // columns of which all signs are tried
constexpr std::array<double, 2> hardly{0.01, 0.1}; // sizes beside where a valley may begin at zero
constexpr double in_reach = 1;                     // of the criterion: what a search may yet gain
constexpr int directions = 36;                     // in which two loadings may stand
constexpr double half_turn = 3.14159265358979323846;
constexpr std::array<double, 5> around{0.5, 0.7, 1.0, 1.4, 2.0}; // sizes beside that of an optimum
constexpr std::array<double, 5> of_none{0.3, 0.7, 1.5, 3, 7};    // where it has no variance
constexpr double lower = 1e-8;   // of the criterion, relative: a better optimum
constexpr double settled = 1e-3; // decrement at which a criterion has nearly reached its limit
constexpr double nearly = 0.001; // decrement at which the end of a search is in sight
constexpr double as_low = 1e-6;  // the same: as good a one

// What differs between starts: a column's standard deviation, that of all columns of a
// term, or the correlation of an unstructured term's two columns.
struct Axis {
    const Term* term;
    int parameter; // of a term whose columns have parameters of their own; else -1
    bool correlation;
};

// The correlations stand after the standard deviations.
std::vector<Axis> axes(const Blocks& blocks) {
    std::vector<Axis> out, correlations;
    for (const Factor& f : blocks.factors)
        for (const Term& t : f.terms) {
            const Structure& s = *t.structure;
            if (s.unstructured()) {
                for (int a = 0, k = 0; a < s.r; k += s.r - a, ++a) out.push_back({&t, k, false});
                if (s.r == 2) correlations.push_back({&t, 1, true});
            } else if (s.free_scale()) {
                for (int a = 0; a < s.r; ++a) out.push_back({&t, a, false});
            } else
                out.push_back({&t, -1, false});
        }
    if (out.size() <= most_axes) out.insert(out.end(), correlations.begin(), correlations.end());
    return out;
}

size_t deviations(const std::vector<Axis>& along) {
    return static_cast<size_t>(
        std::count_if(along.begin(), along.end(), [](const Axis& a) { return !a.correlation; }));
}

// Standard deviations to try, relative to the residual's, up to `top`.
Vector sizes(const std::vector<Axis>& along, double top, double most) {
    const size_t dimensions = deviations(along);
    const double step = dimensions <= 2 ? 4 : 6;
    int count = 1 + static_cast<int>(std::ceil(std::log(top / low) / std::log(step)));
    if (dimensions <= most_axes) {
        const double points = most / std::pow(correlations.size(), along.size() - dimensions);
        count = std::min(count, static_cast<int>(std::pow(points + 0.5, 1.0 / dimensions)));
        count = std::max(count, 2);
    } else
        count = std::max(2, std::min(count, static_cast<int>(std::sqrt(most / dimensions))));
    Vector out;
    for (int i = 0; i < count; ++i)
        out.push_back(low * std::pow(top / low, i / std::max(count - 1.0, 1.0)));
    return out;
}

Vector placed(const Blocks& blocks, const std::vector<Axis>& along, const std::vector<int>& place,
              const Vector& size) {
    Vector phi(blocks.parameters);
    for (const Factor& f : blocks.factors)
        for (const Term& t : f.terms) t.structure->start(phi.data() + t.offset);
    for (size_t i = 0; i < along.size(); ++i) {
        double* part = phi.data() + along[i].term->offset;
        if (along[i].correlation) {
            const double c = correlations[place[i]];
            part[1] = c * part[2];
            part[2] *= std::sqrt(1 - c * c);
        } else if (along[i].parameter < 0)
            along[i].term->structure->rescale(size[place[i]], part);
        else
            part[along[i].parameter] = size[place[i]];
    }
    return phi;
}

// All places on a grid of few dimensions; of many all axes together, and each alone.
std::vector<std::vector<int>> places(const std::vector<Axis>& along, int levels) {
    std::vector<std::vector<int>> out;
    const size_t dimensions = along.size();
    if (deviations(along) <= most_axes) {
        std::vector<int> place(dimensions, 0);
        for (size_t i = 0; i < dimensions;) {
            out.push_back(place);
            for (i = 0; i < dimensions; ++i) {
                const int last =
                    along[i].correlation ? static_cast<int>(correlations.size()) : levels;
                if (++place[i] < last) break;
                place[i] = 0;
            }
        }
        return out;
    }
    for (int all = 0; all < levels; ++all) {
        out.emplace_back(dimensions, all);
        for (size_t i = 0; i < dimensions; ++i)
            for (int own = 0; own < levels; ++own) {
                if (own == all) continue;
                out.emplace_back(dimensions, all);
                out.back()[i] = own;
            }
    }
    return out;
}

// The largest standard deviation that the effects can have, relative to the residual's: of
// those that no distribution shrinks.
double largest_deviation(Criterion& criterion, const Vector& far) {
    if (!std::isfinite(criterion.evaluate(far.data()))) return largest_top;
    criterion.score();
    double largest = 0;
    for (size_t f = 0; f < criterion.blocks().factors.size(); ++f) {
        const int q = criterion.blocks().factors[f].q, r = criterion.blocks().factors[f].r;
        const Vector& modes = criterion.modes(static_cast<int>(f));
        for (int a = 0; a < r; ++a) {
            double s = 0;
            for (int l = 0; l < q; ++l) s += modes[l * r + a] * modes[l * r + a];
            largest = std::max(largest, s / q);
        }
    }
    const double sigma2 = criterion.rss() / criterion.degrees();
    return std::min(std::max(beyond * std::sqrt(largest / sigma2), smallest_top), largest_top);
}

int distance(const std::vector<int>& a, const std::vector<int>& b) {
    int apart = 0;
    for (size_t i = 0; i < a.size(); ++i) apart += std::abs(a[i] - b[i]);
    return apart;
}

// Whether a search is about to end at an optimum that is not lower than the best.
bool nothing_new(double f, double decrement, const Outcome& best) {
    return decrement < nearly && f - 2 * decrement > best.criterion - lower;
}

// Keeps the better of two optima; true where the new one is. One that is proved does not give
// way to a point where the residual is lost beside the effects unless the criterion has a limit
// there: the likelihood may be unbounded.
bool keep_better(Outcome&& other, Outcome& best) {
    if (!std::isfinite(other.criterion)) return false;
    const double size = 1 + std::fabs(best.criterion);
    const double end = other.criterion - 2 * (other.stopped ? other.decrement : 0.0);
    if (std::isfinite(best.criterion) && end >= best.criterion - lower * size) {
        if (end <= best.criterion + as_low * size) ++best.agreeing;
        return false;
    }
    if (other.stopped || (best.converged && other.blurred && other.decrement > settled))
        return false;
    other.starts = best.starts;
    best = std::move(other);
    return true;
}

// Where to search from: places whose neighbours on the grid all lie higher, the lowest first;
// then the lowest of the others, two steps and more from each other, until there are `count`.
std::vector<size_t> chosen(const std::vector<std::vector<int>>& grid, const Vector& value,
                           size_t count) {
    std::vector<size_t> order, valleys, others;
    for (size_t i = 0; i < grid.size(); ++i)
        if (std::isfinite(value[i])) order.push_back(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return value[a] < value[b]; });
    for (size_t i : order) {
        bool lowest = true;
        for (size_t j = 0; lowest && j < grid.size(); ++j)
            lowest = value[i] <= value[j] || distance(grid[i], grid[j]) != 1;
        (lowest ? valleys : others).push_back(i);
    }
    for (size_t i : others) {
        if (valleys.size() >= count) break;
        bool apart = true;
        for (size_t j : valleys) apart = apart && distance(grid[i], grid[j]) > 1;
        if (apart) valleys.push_back(i);
    }
    return valleys;
}

// An optimum with another correlation of an unstructured term of two columns.
Vector turned(const Term& term, const Vector& phi, double correlation) {
    Vector out = phi;
    double* L = out.data() + term.offset;
    const double second = std::max(std::hypot(L[1], L[2]), low);
    if (std::fabs(L[0]) < low) L[0] = low;
    L[1] = (L[0] > 0 ? correlation : -correlation) * second;
    L[2] = std::sqrt(1 - correlation * correlation) * second;
    return out;
}

// An optimum whose unstructured term of two columns has rank one.
Vector loaded(const Term& term, const Vector& phi, double size, double angle) {
    Vector out = phi;
    double* L = out.data() + term.offset;
    L[0] = size * std::cos(angle);
    L[1] = size * std::sin(angle);
    L[2] = 0;
    return out;
}

// The valleys of the criterion as the two loadings of a term of rank one are turned all the way
// round: there it may have one for each group. An optimum without its variance tells no size.
std::vector<Vector> round_about(Criterion& criterion, const Term& term, const Vector& phi) {
    const double* L = phi.data() + term.offset;
    const double own = std::sqrt(L[0] * L[0] + L[1] * L[1] + L[2] * L[2]);
    const double size = own < low ? 1.0 : own;
    std::vector<Vector> start(directions);
    Vector value(directions, std::numeric_limits<double>::infinity());
    for (int i = 0; i < directions; ++i)
        for (double times : own < low ? of_none : around) {
            Vector at = loaded(term, phi, times * size, i * half_turn / directions);
            const double f = criterion.evaluate(at.data());
            if (!(f < value[i])) continue;
            value[i] = f;
            start[i] = std::move(at);
        }
    std::vector<Vector> out;
    for (int i = 0; i < directions; ++i)
        if (!start[i].empty() && value[i] < value[(i + 1) % directions] &&
            value[i] <= value[(i + directions - 1) % directions])
            out.push_back(std::move(start[i]));
    return out;
}

// An optimum with other shapes of a structured term, of its size and of that where it starts where
// these are far apart; none where it has no shape.
std::vector<Vector> reshaped(const Term& term, const Vector& phi) {
    const std::vector<char> sizes = term.structure->sizes();
    if (std::count(sizes.begin(), sizes.end(), 0) == 0) return {};
    Vector start(term.parameters);
    term.structure->start(start.data());
    double size = low;
    for (int i = 0; i < term.parameters; ++i)
        if (sizes[i]) size = std::max(size, std::fabs(phi[term.offset + i] / start[i]));
    std::vector<double> tried{size};
    if (std::max(size, 1 / size) > far_apart) tried.push_back(1.0);
    std::vector<Vector> out;
    for (double one : tried)
        for (double turn : shapes) {
            Vector own = start, at = phi;
            term.structure->rescale(one, own.data());
            for (int i = 0; i < term.parameters; ++i)
                at[term.offset + i] = sizes[i] ? own[i] : own[i] + turn;
            out.push_back(std::move(at));
        }
    return out;
}

// An optimum without the variance of one column of a structured term: by column that has its own.
std::vector<Vector> without_one(const Term& term, const Vector& phi) {
    const std::vector<char> sizes = term.structure->sizes();
    const auto own = std::count(sizes.begin(), sizes.end(), 1);
    std::vector<Vector> out;
    if (own < 2 || own > most_alone) return out;
    for (int i = 0; i < term.parameters; ++i) {
        if (!sizes[i]) continue;
        out.push_back(phi);
        out.back()[term.offset + i] = 0;
    }
    return out;
}

// The size of what varies along an axis, in units of where its structure starts.
double extent(const Axis& axis, const Vector& phi) {
    if (axis.parameter >= 0) return std::fabs(phi[axis.term->offset + axis.parameter]);
    Vector own(axis.term->parameters);
    axis.term->structure->start(own.data());
    const std::vector<char> sizes = axis.term->structure->sizes();
    double size = 0;
    for (size_t i = 0; i < own.size(); ++i)
        if (sizes[i]) size = std::max(size, std::fabs(phi[axis.term->offset + i] / own[i]));
    return size;
}

// Where a search ran away to where digits are lost: the same ratios, nearer, so that the smallest
// size is `to`.
Vector nearer(const std::vector<Axis>& along, const Outcome& best, double to) {
    Vector out = best.phi;
    double least = std::numeric_limits<double>::infinity();
    for (const Axis& axis : along)
        if (const double size = extent(axis, out); !axis.correlation && size >= low)
            least = std::min(least, size);
    if (best.converged || !(least > to) || !std::isfinite(least)) return out;
    for (const Axis& axis : along) {
        double* part = out.data() + axis.term->offset;
        if (axis.parameter < 0)
            axis.term->structure->rescale(to / least, part);
        else if (axis.parameter == 0)
            for (int i = 0; i < axis.term->parameters; ++i) part[i] *= to / least;
    }
    return out;
}

// An optimum whose variance along one axis has gone to all that have none, if any: optima on
// different parts of the boundary are such an exchange apart. Empty where it has none itself.
Vector exchanged(const std::vector<Axis>& along, const Axis& from, const Vector& phi) {
    const double size = extent(from, phi);
    if (size < low) return {};
    Vector out = phi;
    for (const Axis& axis : along) {
        if (axis.correlation || extent(axis, phi) >= low) continue;
        double* part = out.data() + axis.term->offset;
        if (axis.parameter >= 0)
            part[axis.parameter] = size;
        else {
            axis.term->structure->start(part);
            axis.term->structure->rescale(size, part);
        }
    }
    double* part = out.data() + from.term->offset;
    if (from.parameter >= 0)
        part[from.parameter] = 0;
    else
        from.term->structure->rescale(0.0, part);
    return out;
}

// An optimum of an unstructured term of several columns with other signs of their correlations,
// which are all near one in size; and without the variance of each column in turn.
std::vector<Vector> resigned(const Term& term, const Vector& phi) {
    const int r = term.structure->r;
    Vector size(r);
    for (int b = 0, k = term.offset; b < r; ++b)
        for (int a = b; a < r; ++a, ++k) size[a] = std::hypot(size[a], phi[k]);
    const double largest = *std::max_element(size.begin(), size.end());
    std::vector<Vector> out;
    for (int without = -1; without < r; ++without)
        for (int signs = 0; signs < 1 << (r - 1); ++signs) {
            if (without > 0 && (signs >> (without - 1) & 1)) continue;
            if (without == 0 && (signs & 1)) continue;
            Vector at = phi;
            for (int b = 0, k = term.offset; b < r; ++b)
                for (int a = b; a < r; ++a, ++k) {
                    const double own = a == without ? low : std::max(size[a], low * largest);
                    const bool negative = a > 0 && (signs >> (a - 1) & 1);
                    at[k] = b == 0   ? (negative ? -alike : alike) * own
                            : a == b ? std::sqrt(1 - alike * alike) * own
                                     : 0.0;
                }
            out.push_back(std::move(at));
        }
    return out;
}

// The same of three columns: loadings of rank one all over half a sphere (a spiral of equal areas),
// each at the best of some sizes; those that lie lower than their neighbours.
std::vector<Vector> all_over(Criterion& criterion, const Term& term, const Vector& phi) {
    const double* L = phi.data() + term.offset;
    double own = 0;
    for (int k = 0; k < term.parameters; ++k) own += L[k] * L[k];
    own = own < low * low ? 1.0 : std::sqrt(own);
    std::vector<std::array<double, 3>> direction(on_sphere);
    std::vector<Vector> start(on_sphere);
    Vector value(on_sphere, std::numeric_limits<double>::infinity());
    for (int i = 0; i < on_sphere; ++i) {
        const double height = (i + 0.5) / on_sphere, turn = golden_turn * i;
        const double width = std::sqrt(1 - height * height);
        direction[i] = {height, width * std::cos(turn), width * std::sin(turn)};
        for (double times : around) {
            Vector at = phi;
            std::fill_n(at.begin() + term.offset, term.parameters, 0.0);
            for (int a = 0; a < 3; ++a) at[term.offset + a] = times * own * direction[i][a];
            const double f = criterion.evaluate(at.data());
            if (!(f < value[i])) continue;
            value[i] = f;
            start[i] = std::move(at);
        }
    }
    std::vector<Vector> out;
    for (int i = 0; i < on_sphere; ++i) {
        bool lowest = !start[i].empty();
        for (int j = 0; lowest && j < on_sphere; ++j) {
            double cosine = 0;
            for (int a = 0; a < 3; ++a) cosine += direction[i][a] * direction[j][a];
            lowest = i == j || std::fabs(cosine) < near_by || value[i] <= value[j];
        }
        if (lowest) out.push_back(std::move(start[i]));
    }
    return out;
}

// One term with hardly any variance of the others, at the best of some sizes, for each shape.
std::vector<Vector> by_itself(Criterion& criterion, const Blocks& blocks, const Term& term) {
    std::vector<Vector> out;
    auto add = [&](const Vector& own) {
        std::vector<std::pair<double, Vector>> tried;
        for (double size : own_sizes) {
            Vector phi(blocks.parameters);
            for (const Factor& f : blocks.factors)
                for (const Term& t : f.terms) {
                    t.structure->start(phi.data() + t.offset);
                    t.structure->rescale(low, phi.data() + t.offset);
                }
            std::copy(own.begin(), own.end(), phi.begin() + term.offset);
            term.structure->rescale(size, phi.data() + term.offset);
            const double f = criterion.evaluate(phi.data());
            if (std::isfinite(f)) tried.emplace_back(f, std::move(phi));
        }
        std::sort(tried.begin(), tried.end(),
                  [](const auto& a, const auto& b) { return a.first < b.first; });
        for (size_t i = 0; i < std::min<size_t>(1, tried.size()); ++i)
            out.push_back(std::move(tried[i].second));
    };
    Vector own(term.parameters);
    term.structure->start(own.data());
    add(own);
    const std::vector<char> sizes = term.structure->sizes();
    if (term.structure->unstructured() || std::count(sizes.begin(), sizes.end(), 0) == 0)
        return out;
    for (double turn : shapes) {
        Vector turned = own;
        for (int i = 0; i < term.parameters; ++i)
            if (!sizes[i]) turned[i] += turn;
        add(turned);
    }
    return out;
}

// Points of the grid that the work allows.
double points(const Blocks& blocks) {
    return std::min<double>(most_points, most_operations / operations(blocks) / 2);
}

// Searches from several starts, as many as the work allows; keeps the best optimum in `best`.
class Starts {
  public:
    Starts(const LinearProblem& problem, const SearchOptions& options, Outcome& best)
        : blocks_(problem.blocks), options_(options), further_(options), best_(best),
          evaluations_(most_operations / operations(problem.blocks)),
          criterion_(problem.blocks, problem.reml, problem.threads), along_(axes(problem.blocks)) {
        criterion_.use(problem.response);
        further_.progress = [this](int count, double f, double decrement) {
            lowest_ = count == 1 ? f : std::min(lowest_, f);
            return count < 3 || lowest_ < best_.criterion - lower ||
                   !nothing_new(f, decrement, best_);
        };
    }
    // True where one of them led to a better optimum.
    bool run();

  private:
    void evaluate_grid(double points);
    void from(const Vector& phi);
    void from_grid(size_t count, double share, int most);
    void from_other_correlations();
    void from_other_shapes();
    void from_single_terms();
    void from_exchanges();
    void from_other_signs();
    void from_hardly_any();
    bool disagree() const { return best_.agreeing < best_.starts; }

    const Blocks& blocks_;
    const SearchOptions& options_;
    SearchOptions further_;
    Outcome& best_;
    double evaluations_; // that all of them may take
    Criterion criterion_;
    std::vector<Axis> along_;
    std::vector<std::vector<int>> grid_;
    std::vector<Vector> start_; // by place of the grid
    Vector value_;
    size_t tried_ = 0;  // places
    double lowest_ = 0; // of one search
    bool better_ = false;
};

void Starts::evaluate_grid(double points) {
    const Vector far = placed(blocks_, along_, std::vector<int>(along_.size(), 0), {huge});
    const Vector size = sizes(along_, largest_deviation(criterion_, far), points);
    grid_ = places(along_, static_cast<int>(size.size()));
    for (const auto& place : grid_) {
        start_.push_back(placed(blocks_, along_, place, size));
        value_.push_back(criterion_.evaluate(start_.back().data()));
    }
}

void Starts::from(const Vector& phi) {
    Outcome other = search(criterion_, phi, further_);
    if (!other.converged && !other.stopped && !other.blurred &&
        other.criterion < best_.criterion - lower * (1 + std::fabs(best_.criterion)))
        other = search(criterion_, Vector(other.phi), options_); // with a fresh radius
    ++best_.starts;
    better_ |= keep_better(std::move(other), best_);
}

// From the next of `count` places, as long as a share of the work allows it.
void Starts::from_grid(size_t count, double share, int most) {
    const auto affordable = static_cast<int>(
        (share * evaluations_ - static_cast<double>(grid_.size())) / (of_derivatives * of_search));
    const std::vector<size_t> to_try = chosen(grid_, value_, count);
    for (; tried_ < to_try.size() && best_.starts <= std::min(most, affordable); ++tried_)
        from(start_[to_try[tried_]]);
}

void Starts::from_other_correlations() {
    for (const Axis& axis : along_) {
        if (!axis.correlation) continue;
        const Vector end = best_.phi;
        for (double c : turns) from(turned(*axis.term, end, c));
    }
}

void Starts::from_other_shapes() {
    for (const Axis& axis : along_) {
        if (axis.parameter >= 0) continue;
        const Vector end = best_.phi;
        for (const Vector& phi : reshaped(*axis.term, end)) from(phi);
        for (const Vector& phi : without_one(*axis.term, end)) from(phi);
    }
}

void Starts::from_single_terms() {
    std::vector<const Term*> terms;
    for (const Factor& f : blocks_.factors)
        for (const Term& t : f.terms) terms.push_back(&t);
    if (terms.size() < 2 || terms.size() > most_axes) return;
    for (const Term* term : terms)
        for (const Vector& phi : by_itself(criterion_, blocks_, *term)) from(phi);
}

// From the best so far to those an exchange away, as long as one is better.
void Starts::from_exchanges() {
    Vector end;
    for (int round = 0; round < most_rounds && end != best_.phi; ++round) {
        end = best_.phi;
        if (!disagree() || along_.size() > most_exchanged) break;
        for (double to : best_.converged ? std::vector<double>{1} : distances) {
            const Vector near = nearer(along_, best_, to);
            for (const Axis& axis : along_) {
                if (axis.correlation && directions * around.size() < evaluations_)
                    for (const Vector& phi : round_about(criterion_, *axis.term, near)) from(phi);
                if (axis.correlation) continue;
                if (const Vector phi = exchanged(along_, axis, near); !phi.empty()) from(phi);
            }
        }
    }
}

void Starts::from_other_signs() {
    for (const Factor& f : blocks_.factors)
        for (const Term& t : f.terms) {
            const Structure& own = *t.structure;
            if (!own.unstructured() || own.r < 3 || own.r > most_signs) continue;
            const Vector end = best_.phi;
            for (const Vector& phi : resigned(t, end)) from(phi);
            if (own.r == 3 && on_sphere * around.size() < evaluations_)
                for (const Vector& phi : all_over(criterion_, t, end)) from(phi);
        }
}

// Valleys beside zero that a grid of sizes steps over: of all terms together, and of each beside
// the best of the others.
void Starts::from_hardly_any() {
    std::vector<const Term*> terms{nullptr};
    for (const Factor& f : blocks_.factors)
        for (const Term& t : f.terms) terms.push_back(&t);
    if (terms.size() == 2) terms.pop_back();
    const Vector end = best_.phi;
    for (const Term* only : terms)
        for (double size : hardly) {
            Vector phi = end;
            for (const Factor& f : blocks_.factors)
                for (const Term& t : f.terms) {
                    if (only && only != &t) continue;
                    t.structure->start(phi.data() + t.offset);
                    t.structure->rescale(size, phi.data() + t.offset);
                }
            const double value = criterion_.evaluate(phi.data());
            if (!(value < best_.criterion + in_reach)) continue;
            from(phi);
            break;
        }
}

bool Starts::run() {
    evaluate_grid(points(blocks_));
    const size_t least = best_.faces.empty() && along_.size() <= 3 ? 1 : few_starts;
    from_grid(least, 1, most_starts);
    if (!best_.faces.empty() || disagree()) from_other_correlations();
    from_other_shapes();
    from_single_terms();
    from_hardly_any();
    // of a term without full rank other signs may be lower though the starts agree
    const bool few = on_sphere * around.size() < evaluations_;
    if (disagree() || (few && !best_.faces.empty())) from_other_signs();
    // where the starts disagree there may be more to find
    if (disagree()) from_grid(many_starts, when_in_doubt, many_starts);
    from_exchanges();
    return better_;
}

} // namespace

double operations(const Blocks& blocks) {
    double out = 500;
    for (const ChainBlock& c : blocks.chain)
        out += static_cast<double>(c.q) * c.r * c.width * (c.width + 2.0) / 2 + 10.0 * c.q;
    const double N = blocks.order();
    out += N * N * N / 3;
    if (!blocks.tail_ptr.empty()) {
        const double meetings = static_cast<double>(blocks.tail_ptr.back());
        out += meetings * meetings / std::max(1.0, static_cast<double>(blocks.tail_ptr.size()) - 1);
    }
    return out;
}

bool search_valleys(Objective& objective, const Profile& profile, const Response& response,
                    const SearchOptions& options, Outcome& best) {
    bool better = false;
    if (best.phi.empty() || !std::isfinite(best.criterion)) return false;
    best.whole_range = true;
    for (double phi : profile.lower_valleys(response, best.phi[0])) {
        Outcome other = search(objective, Vector{phi}, options);
        ++best.starts;
        if (keep_better(std::move(other), best)) better = best.whole_range = true;
    }
    return better;
}

bool search_elsewhere(const LinearProblem& problem, bool several, const SearchOptions& options,
                      Outcome& best) {
    SearchOptions quiet = options;
    quiet.progress = nullptr;
    if (Profile::possible(problem.blocks)) {
        const Profile profile(problem.blocks, problem.reml, false);
        Criterion criterion(problem.blocks, problem.reml, problem.threads);
        criterion.use(problem.response);
        return search_valleys(criterion, profile, problem.response, options, best);
    }
    // a criterion of its own takes as much memory as the search's
    return several && problem.blocks.parameters > 0 && points(problem.blocks) >= least_points &&
           Starts(problem, quiet, best).run();
}

} // namespace ranef
