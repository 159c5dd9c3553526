// Negative binomial: predictors mean and log phi.
// nbinom2: Var(y) = mu (1 + mu / phi), size phi. nbinom1: Var(y) = mu (1 + phi),
// size mu / phi. Both are written so that their Poisson limit is exact:
//     y log mu - y log(1 + odds) - mu log(1 + odds) / odds + the sum of
//     log(1 + j / size) over j < y - log y!,   odds = mu / size.
#include "factory.hpp"
#include "links.hpp"
#include "rowwise.hpp"

namespace ranef {

namespace {

template <bool Linear>
struct NegativeBinomial : Plain {
    static constexpr int predictors = 2;
    Link link;
    template <class T>
    T log_density(double y, double, const T* eta) const {
        const T log_mu = log_mean(link, eta[0]);
        const T log_odds = Linear ? eta[1] : log_mu - eta[1];
        const T log_size = Linear ? log_mu - eta[1] : eta[1];
        T r = -exp(log_mu) * apply(log1p_over, log_odds);
        if (y > 0) {
            auto rising = [y](double l, int order) { return log_rising(l, order, y); };
            r += y * (log_mu - softplus(log_odds)) + apply(rising, log_size) - log_factorial(y);
        }
        return r;
    }
};

template <bool Linear>
std::unique_ptr<Family> make(Link link) {
    NegativeBinomial<Linear> f;
    f.link = link;
    return std::make_unique<Rowwise<NegativeBinomial<Linear>>>(f);
}

} // namespace

std::unique_ptr<Family> nbinom1(Link link) {
    return make<true>(link);
}
std::unique_ptr<Family> nbinom2(Link link) {
    return make<false>(link);
}

} // namespace ranef
