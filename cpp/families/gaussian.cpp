// Gaussian: predictors mean and log sigma, Var(y) = sigma^2.
#include "factory.hpp"
#include "links.hpp"
#include "rowwise.hpp"

namespace ranef {

namespace {

struct Gaussian : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T z = (y - mean(link, eta[0])) * exp(-eta[1]);
        return -0.5 * (z * z) - eta[1] - 0.5 * log_2pi;
    }
};

} // namespace

std::unique_ptr<Family> gaussian(Link link) {
    Gaussian f;
    f.link = link;
    return std::make_unique<Rowwise<Gaussian>>(f);
}

} // namespace ranef
