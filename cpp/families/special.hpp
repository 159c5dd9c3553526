// Special functions with derivatives up to `order` (0 .. 3); what is beyond the
// order is left zero. Each is written so that neither it nor its derivatives
// cancel at the ends of the range.
#pragma once

#include "third.hpp"

namespace ranef {

// log Gamma(x), x > 0.
Curve log_gamma(double x, int order);

// log y!, y >= 0.
double log_factorial(double y);

// log Gamma(exp(l)) as a function of l.
Curve log_gamma_exp(double l, int order);

// log Gamma(r + y) - log Gamma(r) - y log r as a function of l = log r, y a whole
// number: the sum of log(1 + j / r) over j < y, which vanishes as r grows.
Curve log_rising(double l, int order, double y);

// log(1 + x) / x as a function of t = log x, from 1 down to 0; and less 1.
Curve log1p_over(double t, int order);
Curve log1p_ratio(double t, int order);

// log(1 + x) / x as a function of x > -1.
Curve log1p_slope(double x, int order);

// k log k - k - log Gamma(k) as a function of l = log k.
Curve log_gamma_deficit(double l, int order);

// atan(x) / x, |x| <= 0.3.
Curve atan_slope(double x);

// log Gamma(x + 1/2) - log Gamma(x) - log(x) / 2 as a function of l = log x: it
// vanishes as x grows.
Curve half_step(double l, int order);

// log Phi(x), Phi the standard normal distribution function.
Curve log_normal(double x, int order);

// log(1 - exp(-exp(s))): the chance of a Poisson count above zero, s its log mean.
Curve log_hit(double s, int order);

// log_hit(s) - s, which vanishes as s falls.
Curve log_hit_over(double s, int order);

// log(exp(s) - 1), s > 0.
Curve log_expm1(double s, int order);

// Stirling's remainder log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2, x >= 15.
Curve stirling_remainder(double x, int order);

// (1 + u) log(1 + u) - u, which is u^2 / 2 for small u.
double relative_entropy(double u);

} // namespace ranef
