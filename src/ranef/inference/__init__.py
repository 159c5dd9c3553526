"""Numbers that several questions share; each takes an estimate and arrays.

`coefficients` (tests, degrees of freedom, covariances), `rows` (fitted values, predictions,
new rows), `effects` (random effects and their posterior), `draws` (simulation,
refits of a bootstrap). Arrays in, arrays or a small frozen dataclass out; no
formula, no data frame. May import `derivatives`, `models` and what lies below them; SciPy
inside functions.
"""
