// The families by name.
#include "factory.hpp"

#include <stdexcept>

namespace ranef {

namespace {

struct Entry {
    const char* name;
    std::unique_ptr<Family> (*make)(Link);
    bool zero; // may be zero-inflated, or given a hurdle
};

constexpr Entry entries[] = {
    {"gaussian", gaussian, false}, {"binomial", binomial, true}, {"poisson", poisson, true},
    {"nbinom1", nbinom1, true},    {"nbinom2", nbinom2, true},
};

} // namespace

std::unique_ptr<Family> make_family(const std::string& name, const std::string& link,
                                    bool with_zero, int) {
    for (const Entry& entry : entries) {
        if (name != entry.name) continue;
        if (with_zero && !entry.zero)
            throw std::invalid_argument("the family '" + name + "' takes no zero inflation");
        auto family = entry.make(parse_link(link));
        return with_zero ? zero_inflated(std::move(family)) : std::move(family);
    }
    throw std::invalid_argument("no family '" + name + "'");
}

} // namespace ranef
