#include "checks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace ranef {

namespace {

constexpr std::uint64_t exponent = 0x7ff0000000000000;
constexpr std::uint64_t mantissa = 0x000fffffffffffff;

std::uint64_t bits(double v) {
    std::uint64_t b;
    std::memcpy(&b, &v, sizeof b);
    return b;
}

int columns(const FactorInput& f) {
    int r = 0;
    for (const TermInput& t : f.terms) r += t.size;
    return r;
}

// In doubles, since what is asked for may be beyond any integer.
double parameters(const TermInput& t) {
    const double r = t.size, k = t.rank;
    if (t.structure == "us") return r * (r + 1) / 2;
    if (t.structure == "rr") return r * k - k * (k - 1) / 2;
    return 2 * r + 2;
}

bool nests(size_t n, const FactorInput& fine, const FactorInput& coarse) {
    Indices parent(fine.q, -1);
    for (size_t i = 0; i < n; ++i) {
        int32_t& p = parent[(*fine.codes)[i]];
        if (p < 0) p = (*coarse.codes)[i];
        if (p != (*coarse.codes)[i]) return false;
    }
    return true;
}

void check_chain(size_t n, const std::vector<FactorInput>& factors, const std::vector<int>& chain) {
    std::vector<char> used(factors.size(), 0);
    for (int f : chain) {
        need_index(f, factors.size(), "a chain's factor");
        need(!used[f], "a factor is twice in the chain");
        used[f] = 1;
        need(!factors[f].kernel, "a factor with a kernel cannot be in the chain");
    }
    need(chain.size() < 2 || chain.size() == factors.size(),
         "a chain of several factors leaves no others");
    for (size_t d = 0; d + 1 < chain.size(); ++d)
        need(nests(n, factors[chain[d]], factors[chain[d + 1]]),
             "the factors of a chain must nest in each other, finest first: factor " +
                 std::to_string(chain[d]) + " does not nest in factor " +
                 std::to_string(chain[d + 1]));
}

} // namespace

void need(bool holds, const char* words) {
    if (!holds) throw std::invalid_argument(words);
}

void need(bool holds, const std::string& words) {
    if (!holds) throw std::invalid_argument(words);
}

void need_finite(const double* values, size_t count, const std::string& name) {
    std::uint64_t bad = 0; // no branch, so that the compiler makes vectors of it
    for (size_t i = 0; i < count; ++i) bad |= (bits(values[i]) & exponent) == exponent;
    need(!bad, name + " must be finite");
}

void need_numbers(const double* values, size_t count, const std::string& name) {
    std::uint64_t bad = 0;
    for (size_t i = 0; i < count; ++i)
        bad |= ((bits(values[i]) & exponent) == exponent) & ((bits(values[i]) & mantissa) != 0);
    need(!bad, name + " must not be NaN");
}

void need_weights(const double* values, size_t count, bool may_be_zero) {
    need_finite(values, count, "weights");
    const double least = may_be_zero ? 0.0 : std::numeric_limits<double>::denorm_min();
    bool good = true;
    for (size_t i = 0; i < count; ++i) good = good & (values[i] >= least);
    need(good, may_be_zero ? "weights must not be negative" : "weights must be above zero");
}

void need_index(int index, size_t below, const char* name) {
    if (index < 0 || static_cast<size_t>(index) >= below)
        throw std::invalid_argument(std::string(name) + "'s number is out of range: it is " +
                                    std::to_string(index) + " where there are " +
                                    std::to_string(below) + ", counted from 0");
}

void check_structure(int size) {
    need(size >= 1, "a covariance structure needs at least one column");
    need(size <= most_columns_of_term, "a covariance structure has up to " +
                                           std::to_string(most_columns_of_term) + " columns, not " +
                                           std::to_string(size));
}

void check_factor(size_t n, const FactorInput& f) {
    need(f.q >= 1, "a factor must have at least one level");
    need(f.q < std::numeric_limits<int>::max(), "a factor has too many levels");
    need(!f.terms.empty(), "a factor must have at least one term");
    for (const TermInput& t : f.terms) {
        check_structure(t.size);
        const size_t size = t.size;
        need(t.units.empty() || t.units.size() == size, "each column of a term has one unit");
        need(t.owners.empty() || t.owners.size() == size,
             "each column of a term has one predictor");
        for (double unit : t.units)
            need(std::isfinite(unit) && unit > 0, "the unit of a column must be above zero");
    }
    need(columns(f) <= most_columns_of_term, "the terms of a factor have too many columns");
    const Indices& codes = *f.codes;
    const auto [least, most] = std::minmax_element(codes.begin(), codes.end());
    need(*least >= 0 && *most < f.q, "a level code is out of range");
    need_finite(f.z, n * columns(f), "z");
    if (f.kernel) need_finite(f.kernel->data(), f.kernel->size(), "a kernel");
}

void check_design(size_t n, const std::vector<FactorInput>& factors, int p,
                  const std::vector<int>& chain) {
    check_chain(n, factors, chain);
    double unknowns = 0, order = p;
    for (size_t f = 0; f < factors.size(); ++f) {
        for (const TermInput& t : factors[f].terms) unknowns += parameters(t);
        const bool tail = std::find(chain.begin(), chain.end(), static_cast<int>(f)) == chain.end();
        if (tail) order += static_cast<double>(factors[f].q) * columns(factors[f]);
    }
    need(unknowns <= most_parameters, "there are too many covariance parameters");
    need(order <= std::numeric_limits<int>::max(),
         "the random effects outside the chain are too many for a dense matrix");
}

void check_quadrature(int nodes, const std::vector<FactorInput>& factors,
                      const std::vector<int>& chain) {
    need(nodes >= 1 && nodes <= most_nodes,
         "a quadrature has from 1 to " + std::to_string(most_nodes) + " nodes");
    if (nodes == 1) return;
    need(chain.size() == factors.size(), "quadrature takes factors that are nested in each other");
    double paths = 1;
    for (const FactorInput& f : factors) {
        need(columns(f) <= 3, "quadrature takes up to three columns of each factor");
        paths *= std::pow(nodes, columns(f));
    }
    need(paths <= most_paths, "so many nodes cannot be visited: take fewer");
}

int checked_threads(int threads) {
    need(threads >= 1, "one thread or more");
    return std::min(threads, most_threads);
}

} // namespace ranef
