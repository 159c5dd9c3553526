// What the file of a family includes: how a density becomes a family, and counts
// given that y > 0.
#pragma once

#include "factory.hpp"
#include "inner.hpp"
#include "links.hpp"
#include "rowwise.hpp"

namespace ranef {

// A family F whose only datum is `link`.
template <class F>
std::unique_ptr<Family> linked(Link link) {
    F family;
    family.link = link;
    return std::make_unique<Rowwise<F>>(family);
}

// The same with an inner loop of its own for the link `fast`.
template <class F>
std::unique_ptr<Family> linked(Link link, Link fast, void (*inner)(const Inner&)) {
    F family;
    family.link = link;
    return std::make_unique<WithInner<F>>(family, link == fast ? inner : nullptr);
}

// The family F given that y > 0; F has log_positive(y, eta) beside log_density.
template <class F>
struct Truncated : F {
    template <class T>
    T log_density(double y, double, const T* eta) const {
        return y > 0 ? F::log_positive(y, eta) : T(-infinity);
    }
};

template <class F>
std::unique_ptr<Family> truncated(Link link) {
    return linked<Truncated<F>>(link);
}

} // namespace ranef
