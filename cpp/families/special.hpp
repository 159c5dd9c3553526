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

} // namespace ranef
