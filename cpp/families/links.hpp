// Links of the mean: what a density needs of it as curves in the predictor eta,
// on the scale on which it keeps its digits.
#pragma once

#include <string>

#include "curves.hpp"

namespace ranef {

enum class Link { identity, log, logit, probit, cloglog, cauchit, inverse, sqrt, inverse_square };

// The link of that name; throws std::invalid_argument.
Link parse_link(const std::string& name);

// mu; NaN where eta is not allowed (inverse of 0).
Curve mean_curve(Link link, double eta);

// log mu of a positive mean; NaN where mu is not positive.
Curve log_mean_curve(Link link, double eta);

// log p (upper false) and log(1 - p) (upper true) of a probability; NaN where p is
// not between 0 and 1.
Curve log_probability_curve(Link link, double eta, bool upper);

template <class T>
T mean(Link link, const T& eta) {
    return link == Link::identity ? eta : compose(mean_curve(link, eta.value()), eta);
}

template <class T>
T log_mean(Link link, const T& eta) {
    return link == Link::log ? eta : compose(log_mean_curve(link, eta.value()), eta);
}

template <class T>
struct LogProbability {
    T p, q;
};

template <class T>
LogProbability<T> log_probability(Link link, const T& eta) {
    return {compose(log_probability_curve(link, eta.value(), false), eta),
            compose(log_probability_curve(link, eta.value(), true), eta)};
}

} // namespace ranef
