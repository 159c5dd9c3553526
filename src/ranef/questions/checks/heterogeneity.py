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
from ranef.inference.coefficients import wald
from ranef.inference.coefficients.wald import FTest, f_tail
from ranef.inference.effects.linearised import is_constrained, linearised
from ranef.models.linear import fit_lmm
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.checks.columns import Term, terms_of_columns

__all__ = ["Heterogeneity", "heterogeneity", "variance_between"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

SOME = 1e-6
MOST_EXACT_LEVELS = 2000


@dataclass(frozen=True)
class Heterogeneity:
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


def heterogeneity(estimate: Estimate) -> tuple[Heterogeneity, ...]:
    """Test every term that varies within and between the levels of a grouping factor.

    Linear models are fitted again with the means; of generalised ones the working linear
    model is solved with them at the estimate's theta (a score step). Models with
    parameters that are held or equal by request have none of this.
    """
    spec = estimate.specification
    found: list[Heterogeneity] = []
    if is_constrained(estimate):
        return ()
    for term in terms_of_columns(spec):
        if term.interaction:
            continue
        for f, factor in enumerate(spec.factors):
            if factor.n_levels < 4 or factor.n_levels >= spec.n:
                continue
            one = _compared(estimate, term, f)
            if one is not None:
                found.append(one)
    return tuple(found)


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


def _compared(estimate: Estimate, term: Term, f: int) -> Heterogeneity | None:
    spec = estimate.specification
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
        beta, vcov, test = _fitted(estimate, X, len(means))
    except ModelError:
        return None
    return _described(term, f, float(np.mean(shares)), beta, vcov, test, spec)


def _described(
    term: Term,
    f: int,
    icc: float,
    beta: Floats,
    vcov: Floats,
    test: FTest,
    spec: Specification,
) -> Heterogeneity:
    if len(term.columns) > 1:
        nothing = float("nan")
        return Heterogeneity(term.name, f, icc, nothing, nothing, nothing, nothing, test)
    within, contextual = float(beta[term.columns[0]]), float(beta[spec.p])
    error = float(np.sqrt(vcov[spec.p, spec.p]))
    return Heterogeneity(term.name, f, icc, within, within + contextual, contextual, error, test)


def _fitted(estimate: Estimate, X: Floats, added: int) -> tuple[Floats, Floats, FTest]:
    """Coefficients, covariance and the test of the columns added, those at the end."""
    names = (*estimate.specification.names, *(f"mean {i}" for i in range(added)))
    p = X.shape[1]
    L = np.eye(p)[p - added :]
    if isinstance(estimate, GeneralisedEstimate):
        model = linearised(estimate)
        point = model.point(replace(model.specification, X=X, names=names))
        return point.beta, point.C, _wald(point.beta, point.C, L)
    spec = replace(estimate.specification, X=X, names=names)
    start = None if estimate.optimum.singular else estimate.theta
    again = fit_lmm(spec, reml=estimate.reml, path=estimate.optimum.path, start=start)
    small = sum(f.n_levels for f in spec.factors) <= MOST_EXACT_LEVELS
    test = wald.f_test(again, L, df="satterthwaite" if small else "normal")
    return again.beta, again.vcov, test


def _wald(beta: Floats, vcov: Floats, L: Floats) -> FTest:
    gap = L @ beta
    q = len(L)
    statistic = float(gap @ np.linalg.solve(L @ vcov @ L.T, gap)) / q
    return f_tail(statistic, q, np.inf)
