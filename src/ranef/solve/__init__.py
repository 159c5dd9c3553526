"""From a specification to its optimum: cross-products, search, certificate.

Policy lives here: which path, how many threads, what scale; the numbers are made in
`_core`. May import `design` (the specification), `covariance`, `errors` and the compiled
core.
"""
