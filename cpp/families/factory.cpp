// The families by name.
#include "factory.hpp"

#include <stdexcept>

namespace ranef {

namespace {

// Sets of links, by what the mean may be.
constexpr int bit(Link link) {
    return 1 << static_cast<int>(link);
}
constexpr int line = bit(Link::identity) | bit(Link::log) | bit(Link::inverse);
constexpr int ray = line | bit(Link::sqrt);
constexpr int logit = bit(Link::logit);
constexpr int threshold = logit | bit(Link::probit) | bit(Link::cloglog) | bit(Link::cauchit);
constexpr int unit = threshold | bit(Link::identity) | bit(Link::log);

struct Entry {
    const char* name;
    std::unique_ptr<Family> (*make)(Link);
    int links;
    bool zero; // may be zero-inflated, or given a hurdle
};

constexpr Entry entries[] = {
    {"gaussian", gaussian, line, false},
    {"censored", censored, line, false},
    {"t", student, line, false},
    {"binomial", binomial, unit, true},
    {"betabinomial", betabinomial, unit, true},
    {"poisson", poisson, ray, true},
    {"nbinom1", nbinom1, ray, true},
    {"nbinom2", nbinom2, ray, true},
    {"compois", compois, ray, true},
    {"genpois", genpois, ray, true},
    {"truncated_poisson", truncated_poisson, ray, true},
    {"truncated_nbinom1", truncated_nbinom1, ray, true},
    {"truncated_nbinom2", truncated_nbinom2, ray, true},
    {"truncated_compois", truncated_compois, ray, true},
    {"truncated_genpois", truncated_genpois, ray, true},
    {"Gamma", gamma, ray, true},
    {"inverse.gaussian", inverse_gaussian, ray, true},
    {"lognormal", lognormal, ray, true},
    {"beta", beta, unit, true},
    {"ordbeta", ordbeta, logit, false},
    {"tweedie", tweedie, ray, true},
    {"cumulative", cumulative, threshold, false},
};

} // namespace

std::unique_ptr<Family> make_family(const std::string& name, const std::string& link,
                                    bool with_zero, int categories) {
    if (name == "multinomial") {
        if (categories < 2 || with_zero || link != "logit")
            throw std::invalid_argument("the multinomial family has two categories or more, the "
                                        "logit link and no zero inflation");
        return multinomial(categories);
    }
    for (const Entry& entry : entries) {
        if (name != entry.name) continue;
        const Link parsed = parse_link(link);
        if (!(entry.links & bit(parsed)))
            throw std::invalid_argument("the family '" + name + "' takes no link '" + link + "'");
        if (with_zero && !entry.zero)
            throw std::invalid_argument("the family '" + name + "' takes no zero inflation");
        auto family = entry.make(parsed);
        return with_zero ? zero_inflated(std::move(family)) : std::move(family);
    }
    throw std::invalid_argument("no family '" + name + "'");
}

} // namespace ranef
