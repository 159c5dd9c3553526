// The families by name. Each registers itself in its own file.
#pragma once

#include <memory>
#include <string>

#include "family.hpp"
#include "links.hpp"

namespace ranef {

// The family `name` (R's and glmmTMB's names) with that link of the mean; with the
// zero-inflation predictor last if zero_inflated. `categories` is read by the
// multinomial only. Throws std::invalid_argument.
std::unique_ptr<Family> make_family(const std::string& name, const std::string& link,
                                    bool zero_inflated, int categories = 0);

// Sets of links, by what the mean may be.
namespace links {
constexpr int of(Link link) {
    return 1 << static_cast<int>(link);
}
constexpr int logit = of(Link::logit);
constexpr int positive = of(Link::identity) | of(Link::log) | of(Link::inverse) | of(Link::sqrt);
constexpr int line = positive | logit;
constexpr int ray = positive | of(Link::inverse_square);
constexpr int threshold = logit | of(Link::probit) | of(Link::cloglog) | of(Link::cauchit);
constexpr int unit = threshold | of(Link::identity) | of(Link::log);
} // namespace links

// May the family be zero-inflated, or given a hurdle?
enum class Zero { never, may };

// An object of this type beside a family makes it known by its name.
struct Registration {
    using Maker = std::unique_ptr<Family> (*)(Link);
    Registration(const char* name, Maker make, int links, Zero zero);
};

std::unique_ptr<Family> multinomial(int categories);

// `base` with one predictor more, the logit of the probability of an extra zero.
// Where the base has no mass at zero this is a hurdle.
std::unique_ptr<Family> zero_inflated(std::unique_ptr<Family> base);

} // namespace ranef
