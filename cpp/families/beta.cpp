// Beta: predictors mean and log phi, Var(y) = mu (1 - mu) / (1 + phi).
// Ordered beta (Kubinec 2022): y in [0, 1]; predictors mean, log phi, cut 1 and the
// log of cut 2 - cut 1. P(y = 0) = expit(cut1 - eta), P(y = 1) = expit(eta - cut2).
#include "density.hpp"

namespace ranef {

namespace {

template <class T>
T log_beta_density(double y, const LogProbability<T>& l, const T& log_phi) {
    const T log_a = l.p + log_phi, log_b = l.q + log_phi;
    return apply(log_gamma_exp, log_phi) - apply(log_gamma_exp, log_a) -
           apply(log_gamma_exp, log_b) + (exp(log_a) - 1) * std::log(y) +
           (exp(log_b) - 1) * std::log1p(-y);
}

struct Beta : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y > 0 && y < 1)) return T(-infinity);
        return log_beta_density(y, log_probability(link, eta[0]), eta[1]);
    }
};

struct OrderedBeta : Plain {
    static constexpr int predictors = 4;
    Link link; // logit
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T above = eta[0] - eta[2];
        if (y == 0) return -softplus(above);
        const T top = above - exp(eta[3]);
        if (y == 1) return -softplus(-top);
        if (!(y > 0 && y < 1)) return T(-infinity);
        return apply(log_hit, eta[3]) - softplus(-above) - softplus(top) +
               log_beta_density(y, log_probability(link, eta[0]), eta[1]);
    }
};

const Registration beta("beta", linked<Beta>, links::unit, Zero::may);
const Registration ordbeta("ordbeta", linked<OrderedBeta>, links::logit, Zero::never);

} // namespace

} // namespace ranef
