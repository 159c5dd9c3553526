"""Linear models whose residuals are correlated or of unequal variance.

V = Z Psi Z' + R, relative to sigma^2, R block-diagonal by the residuals' groups. Rows enter
through cross-products by cluster, U'R^-1 U with U = [Z, X, y]; whatever the likelihood, its
derivatives, tests and predictions need of R is such a product. Numbers only: no formula, no
table. May import `design.terms`, `covariance` and the rest of `solve`.
"""
