// Binomial: y successes of `extra` trials (1 where there is no extra). One
// predictor, the probability's.
#include "factory.hpp"
#include "links.hpp"
#include "rowwise.hpp"

namespace ranef {

namespace {

struct Binomial {
    static constexpr int predictors = 1;
    Link link;
    static double no_extra(double) { return 1; }
    template <class T>
    T log_density(double y, double n, const T* eta) const {
        const auto l = log_probability(link, eta[0]);
        T r(n > 1 ? log_factorial(n) - log_factorial(y) - log_factorial(n - y) : 0.0);
        if (y > 0) r += y * l.p;
        if (y < n) r += (n - y) * l.q;
        return r;
    }
};

} // namespace

std::unique_ptr<Family> binomial(Link link) {
    return std::make_unique<Rowwise<Binomial>>(Binomial{link});
}

} // namespace ranef
