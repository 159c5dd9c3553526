"""Diagnostics: does the model hold, and on which rows and groups does it rest?

- `simulated`: scaled residuals from draws of the model, and `residual_tests` of them;
- `influence`, `leverage`: what the fit would be without a row or a group, and what each
  row adds to its own fitted value;
- `partition`: the parts of the variance, from which R2 and ICC come;
- `columns`, `heterogeneity`, `distribution`: collinearity; slopes that differ within and
  between groups; normality and constant variance.

Functions of an `Estimate` and arrays that give arrays or small frozen dataclasses. The
room stands above `inference`, since it compares data with what that floor draws,
predicts and tests. May import `inference` and what lies below it; SciPy inside functions.
"""

from ranef.diagnostics.columns import Collinearity, Term, collinearity, terms_of_columns
from ranef.diagnostics.distribution import Shape, shape, spread_against, spread_by_group
from ranef.diagnostics.heterogeneity import Heterogeneity, heterogeneity, variance_between
from ranef.diagnostics.influence import Influence, influence_of_rows, influence_of_sets
from ranef.diagnostics.leverage import Leverage, leverage
from ranef.diagnostics.linearised import Linearised, is_constrained, linearised
from ranef.diagnostics.partition import (
    METHODS,
    Partition,
    design_effect,
    partition,
    term_variances,
)
from ranef.diagnostics.residual_tests import (
    ResidualTest,
    autocorrelation,
    dispersion,
    normal_scores,
    outliers,
    spatial,
    trend,
    uniformity,
    zeros,
)
from ranef.diagnostics.simulated import EFFECTS, Posterior, Simulated, grouped, posterior, simulated

__all__ = [
    "EFFECTS",
    "METHODS",
    "Collinearity",
    "Heterogeneity",
    "Influence",
    "Leverage",
    "Linearised",
    "Partition",
    "Posterior",
    "ResidualTest",
    "Shape",
    "Simulated",
    "Term",
    "autocorrelation",
    "collinearity",
    "design_effect",
    "dispersion",
    "grouped",
    "heterogeneity",
    "influence_of_rows",
    "influence_of_sets",
    "is_constrained",
    "leverage",
    "linearised",
    "normal_scores",
    "outliers",
    "partition",
    "posterior",
    "shape",
    "simulated",
    "spatial",
    "spread_against",
    "spread_by_group",
    "term_variances",
    "terms_of_columns",
    "trend",
    "uniformity",
    "variance_between",
    "zeros",
]
