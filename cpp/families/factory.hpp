// The families by name.
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

std::unique_ptr<Family> gaussian(Link link);
std::unique_ptr<Family> censored(Link link);
std::unique_ptr<Family> student(Link link);
std::unique_ptr<Family> binomial(Link link);
std::unique_ptr<Family> betabinomial(Link link);
std::unique_ptr<Family> poisson(Link link);
std::unique_ptr<Family> nbinom1(Link link);
std::unique_ptr<Family> nbinom2(Link link);
std::unique_ptr<Family> compois(Link link);
std::unique_ptr<Family> genpois(Link link);
std::unique_ptr<Family> truncated_poisson(Link link);
std::unique_ptr<Family> truncated_nbinom1(Link link);
std::unique_ptr<Family> truncated_nbinom2(Link link);
std::unique_ptr<Family> truncated_compois(Link link);
std::unique_ptr<Family> truncated_genpois(Link link);
std::unique_ptr<Family> gamma(Link link);
std::unique_ptr<Family> inverse_gaussian(Link link);
std::unique_ptr<Family> lognormal(Link link);
std::unique_ptr<Family> beta(Link link);
std::unique_ptr<Family> ordbeta(Link link);
std::unique_ptr<Family> tweedie(Link link);
std::unique_ptr<Family> cumulative(Link link);
std::unique_ptr<Family> multinomial(int categories);

// `base` with one predictor more, the logit of the probability of an extra zero.
// Where the base has no mass at zero this is a hurdle.
std::unique_ptr<Family> zero_inflated(std::unique_ptr<Family> base);

} // namespace ranef
