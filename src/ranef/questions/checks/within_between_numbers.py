"""Does a predictor mean the same within groups and between them?

A raw predictor that varies within groups and between their means has one coefficient
for two questions. Beside the column its group means are added (Mundlak 1978,
Econometrica 46): the column's coefficient becomes the within slope, that of the means
the difference of the between slope from it, and the test that it is zero is Hausman's
(1978, Econometrica 46) in the form of a Wald test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.rank import independent_columns
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import FTest, f_test
from ranef.inference.effects.linearised import is_constrained
from ranef.inference.protocol import Inference
from ranef.models.records import CONDITIONAL
from ranef.models.refitting import refitted
from ranef.questions.checks.columns import FixedTerm, terms_of_columns

__all__ = ["Slopes", "variance_between", "within_between"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

SOME = 1e-6
MOST_EXACT_LEVELS = 2000


@dataclass(frozen=True)
class Slopes:
    """One term of the fixed effects against one grouping factor.

    Attributes
    ----------
    term : str
    factor : int
        Index of the grouping factor.
    icc : float
        Share of the predictor's variance that lies between groups.
    within, between, contextual, std_error : float
        Slopes, their difference and its standard error; NaN where the term has several
        columns.
    test : FTest
        That the slopes are equal.
    """

    term: str
    factor: int
    icc: float
    within: float
    between: float
    contextual: float
    std_error: float
    test: FTest


def within_between(model: Inference) -> tuple[Slopes, ...]:
    """Test every term that varies within and between the levels of a grouping factor.

    Linear models are fitted again with the means; of generalised ones the working linear
    model is solved with them at the estimate's theta (a score step). Models with
    parameters that are held or equal by request have none of this.
    """
    spec = model.estimate.specification
    slopes: list[Slopes] = []
    if is_constrained(model.estimate):
        return ()
    for term in terms_of_columns(spec):
        if term.interaction:
            continue
        for f, factor in enumerate(spec.factors):
            if factor.n_levels < 4 or factor.n_levels >= spec.n:
                continue
            one = _compared(model, term, f)
            if one is not None:
                slopes.append(one)
    return tuple(slopes)


def variance_between(x: Floats, codes: Codes) -> tuple[float, float, float]:
    """Sums of squares of x within and between groups, and its intraclass correlation.

    The correlation is that of the analysis of variance with n0 rows a group, from 0.
    """
    n = np.bincount(codes).astype(np.float64)
    means = np.bincount(codes, x) / n
    within = float(np.sum((x - means[codes]) ** 2))
    between = float(np.sum(n * (means - x.mean()) ** 2))
    groups, rows = len(n), len(x)
    if rows <= groups or groups < 2:
        return within, between, 1.0 if between > 0 else 0.0
    n0 = (rows - float(np.sum(n**2)) / rows) / (groups - 1)
    ms_within, ms_between = within / (rows - groups), between / (groups - 1)
    total = ms_between + (n0 - 1.0) * ms_within
    return within, between, max(0.0, (ms_between - ms_within) / total) if total > 0 else 0.0


def _compared(model: Inference, term: FixedTerm, f: int) -> Slopes | None:
    spec = model.estimate.specification
    codes = spec.factors[f].codes
    n = np.bincount(codes)
    shares, means = [], []
    for j in term.columns:
        x = spec.X[:, j]
        within, between, icc = variance_between(x, codes)
        total = within + between
        if total <= 0 or min(within, between) <= SOME * total:
            continue
        shares.append(icc)
        means.append((np.bincount(codes, x) / n)[codes])
    if not means:
        return None
    X = np.column_stack([spec.X, *means])
    if len(independent_columns(X)) < X.shape[1] or X.shape[1] >= spec.n - 1:
        return None
    try:
        beta, vcov, test = _with_means(model, X, len(means))
    except ModelError:
        return None
    return _described(term, f, float(np.mean(shares)), beta, vcov, test, spec)


def _described(
    term: FixedTerm,
    f: int,
    icc: float,
    beta: Floats,
    vcov: Floats,
    test: FTest,
    spec: Specification,
) -> Slopes:
    if len(term.columns) > 1:
        nothing = float("nan")
        return Slopes(term.name, f, icc, nothing, nothing, nothing, nothing, test)
    within, contextual = float(beta[term.columns[0]]), float(beta[spec.p])
    error = float(np.sqrt(vcov[spec.p, spec.p]))
    return Slopes(term.name, f, icc, within, within + contextual, contextual, error, test)


def _with_means(model: Inference, X: Floats, added: int) -> tuple[Floats, Floats, FTest]:
    """Coefficients, covariance and the test of the columns added, those at the end.

    Fitted again where refits are cheap, else a score step in the working linear model.
    """
    estimate, p = model.estimate, X.shape[1]
    names = (*estimate.specification.names, *(f"mean {i}" for i in range(added)))
    L = np.eye(p)[p - added :]
    if not model.refits_together:
        working = model.linearised()
        point = working.point(replace(working.specification, X=X, names=names))
        test = f_test(point.beta, point.C, L, None, lambda basis: (1.0, np.inf))
        return point.beta, point.C, test
    spec = replace(estimate.specification, X=X, names=names)
    parts = {**estimate.parts, CONDITIONAL: spec}
    start = None if estimate.optimum.singular else estimate.theta
    path = estimate.optimum.path
    again = refitted(estimate, parts, estimate.extra, path=path, start=start)
    small = sum(f.n_levels for f in spec.factors) <= MOST_EXACT_LEVELS
    test = model.of(again).f_test(L, df="satterthwaite" if small else "normal")
    return again.beta, again.coefficient_vcov, test
