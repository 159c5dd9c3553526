// Negative binomial: predictors mean and log phi.
// nbinom2: Var(y) = mu (1 + mu / phi), size phi. nbinom1: Var(y) = mu (1 + phi),
// size mu / phi. nbinom12: Var(y) = mu (1 + phi + mu / psi), a third predictor log psi,
// size mu / (phi + mu / psi). All are written so that their Poisson limit is exact:
//     y log mu - y log(1 + odds) - size log(1 + odds) + the sum of
//     log(1 + j / size) over j < y - log y!,   odds = mu / size,
// large counts as in large_counts.hpp.
// Truncated: given that y > 0.
#include "density.hpp"
#include "large_counts.hpp"

namespace ranef {

namespace {

enum class Variance { linear, quadratic, both };

template <Variance V>
struct NegativeBinomial : Plain {
    static constexpr int predictors = V == Variance::both ? 3 : 2;
    Link link;

    template <class T>
    struct Terms {
        T log_mu, log_odds, log_size, miss; // miss: minus the log probability of zero
    };
    template <class T>
    Terms<T> terms(const T* eta) const {
        Terms<T> t;
        t.log_mu = log_mean(link, eta[0]);
        if constexpr (V == Variance::linear) {
            t.log_odds = eta[1];
            t.log_size = t.log_mu - eta[1];
        } else if constexpr (V == Variance::quadratic) {
            t.log_odds = t.log_mu - eta[1];
            t.log_size = eta[1];
        } else {
            const T linear = eta[1], quadratic = t.log_mu - eta[2];
            t.log_odds = linear.value() > quadratic.value()
                             ? linear + softplus(quadratic - linear)
                             : quadratic + softplus(linear - quadratic);
            t.log_size = t.log_mu - t.log_odds;
        }
        t.miss = t.log_odds.value() > 0 ? exp(t.log_size) * softplus(t.log_odds)
                                        : exp(t.log_mu) * apply(log1p_over, t.log_odds);
        return t;
    }
    template <class T>
    T log_density(double y, double, const T* eta) const {
        if (!(y >= 0)) return T(-infinity);
        return density(y, terms(eta));
    }
    template <class T>
    T log_positive(double y, const T* eta) const {
        const auto t = terms(eta);
        if (y > large_count) return density(y, t) - apply(log_hit, log(t.miss));
        if (t.log_odds.value() > 0)
            return density(y, t) - apply(log_hit, t.log_size + log(softplus(t.log_odds)));
        // log(miss) is log(mu) and little more: one log(mu) is taken off by itself
        const T more = log(apply(log1p_over, t.log_odds));
        return density(y, t, y - 1) - more - apply(log_hit_over, t.log_mu + more);
    }

  private:
    template <class T>
    static T density(double y, const Terms<T>& t, double times_log_mu) {
        if (!(y > 0)) return -t.miss;
        if (y > large_count) return negative_binomial_large(y, t.log_mu, t.log_size);
        auto rising = [y](double l, int order) { return log_rising(l, order, y); };
        return times_log_mu * t.log_mu - y * softplus(t.log_odds) + apply(rising, t.log_size) -
               t.miss - log_factorial(y);
    }
    template <class T>
    static T density(double y, const Terms<T>& t) {
        return density(y, t, y);
    }
};

constexpr Variance linear = Variance::linear, quadratic = Variance::quadratic,
                   both = Variance::both;
const Registration nbinom1("nbinom1", linked<NegativeBinomial<linear>>, links::ray, Zero::may);
const Registration nbinom2("nbinom2", linked<NegativeBinomial<quadratic>>, links::ray, Zero::may);
const Registration nbinom12("nbinom12", linked<NegativeBinomial<both>>, links::ray, Zero::may);
const Registration truncated_nbinom1("truncated_nbinom1", truncated<NegativeBinomial<linear>>,
                                     links::ray, Zero::may);
const Registration truncated_nbinom2("truncated_nbinom2", truncated<NegativeBinomial<quadratic>>,
                                     links::ray, Zero::may);
const Registration truncated_nbinom12("truncated_nbinom12", truncated<NegativeBinomial<both>>,
                                      links::ray, Zero::may);

} // namespace

} // namespace ranef
