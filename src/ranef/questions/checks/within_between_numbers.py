"""Does a predictor mean the same within groups and between them?

A raw predictor that varies within groups and between their means has one coefficient
for two questions. Beside the column its group means are added (Mundlak 1978,
Econometrica 46): the column's coefficient becomes the within slope, that of the means
the difference of the between slope from it, and the test that it is zero is Hausman's
(1978, Econometrica 46) in the form of a Wald test. Where the formula has the two parts,
``within(x, g) + between(x, g)``, their coefficients are the slopes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.group_functions import Groups, grouping
from ranef.design.rank import independent_columns
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.formula.syntax import Call
from ranef.inference.coefficients.wald import FTest, f_test
from ranef.inference.effects.linearised import is_constrained
from ranef.inference.protocol import Inference
from ranef.inference.rows.group_means import group_means, variance_between
from ranef.models.records import CONDITIONAL
from ranef.models.refitting import refitted
from ranef.questions.checks.columns import FixedTerm, terms_of_columns

__all__ = ["Corrected", "Slopes", "paired_parts", "within_between"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

SOME = 1e-6
MOST_EXACT_LEVELS = 2000
NAN = float("nan")


@dataclass(frozen=True)
class Corrected:
    """The contextual effect of groups' own values instead of their observed means.

    Attributes
    ----------
    reliability : float
        Of the observed means, see `group_means`.
    between, between_error, contextual, error : float
        Slopes and their standard errors, the uncertainty of the reliability included.
    """

    reliability: float = NAN
    between: float = NAN
    between_error: float = NAN
    contextual: float = NAN
    error: float = NAN


@dataclass(frozen=True)
class Slopes:
    """One term of the fixed effects against one grouping factor.

    Attributes
    ----------
    term : str
    factor : int
        Index of the grouping factor; -1 where the groups are none.
    icc : float
        Share of the predictor's variance that lies between groups.
    within, between, contextual, std_error : float
        Slopes, their difference and its standard error; NaN where the term has several
        columns.
    test : FTest
        That the slopes are equal.
    within_error, between_error : float
        Standard errors of the slopes.
    corrected : Corrected
    group : str
        The groups in print, where they are none of the factors.
    raw_slope : bool
        Whether a random slope of the raw predictor varies between the groups.
    """

    term: str
    factor: int
    icc: float
    within: float
    between: float
    contextual: float
    std_error: float
    test: FTest
    within_error: float = NAN
    between_error: float = NAN
    corrected: Corrected = Corrected()
    group: str = ""
    raw_slope: bool = False


def within_between(model: Inference, *, correct: bool = False) -> tuple[Slopes, ...]:
    """Test every term that varies within and between the levels of a grouping factor.

    Linear models are fitted again with the means; of generalised ones the working linear
    model is solved with them at the estimate's theta (a score step). Models with
    parameters that are held or equal by request have none of this. `correct` asks for the
    slopes corrected for the reliability of the means too.
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
            one = _compared(model, term, f, correct)
            if one is not None:
                slopes.append(one)
    return tuple(slopes)


def _compared(model: Inference, term: FixedTerm, f: int, correct: bool) -> Slopes | None:
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
    icc = float(np.mean(shares))
    if len(term.columns) > 1:
        return Slopes(term.name, f, icc, NAN, NAN, NAN, NAN, test)
    j = term.columns[0]
    corrected = _corrected(model, spec.X[:, j], codes, spec.X) if correct else Corrected()
    varying = any(t.factor == f and term.name in t.names for t in spec.terms)
    return _described(term.name, f, icc, (j, spec.p), beta, vcov, test, corrected, varying)


def _described(
    term: str,
    f: int,
    icc: float,
    places: tuple[int, int],
    beta: Floats,
    vcov: Floats,
    test: FTest,
    corrected: Corrected,
    varying: bool,
) -> Slopes:
    """From Mundlak's coefficients, those of x and of its means, at `places`."""
    j, k = places
    errors = np.sqrt([vcov[j, j], vcov[j, j] + vcov[k, k] + 2 * vcov[j, k], vcov[k, k]])
    return Slopes(
        term, f, icc, float(beta[j]), float(beta[j] + beta[k]), float(beta[k]), float(errors[2]),
        test, float(errors[0]), float(errors[1]), corrected, raw_slope=varying,
    )  # fmt: skip


def _corrected(model: Inference, x: Floats, codes: Codes, others: Floats) -> Corrected:
    """Slopes with the groups' means of x (n,) shrunk, beside `others` (n, p), among them x."""
    means = group_means(x, codes)
    if means.reliability <= 0.0:
        return Corrected(0.0)
    X = np.column_stack([others, means.shrunk])
    if len(independent_columns(X)) < X.shape[1]:
        return Corrected(means.reliability)
    try:
        beta, vcov, _ = _with_means(model, X, 1)
    except ModelError:
        return Corrected(means.reliability)
    j = int(np.argmax([np.array_equal(column, x) for column in others.T]))
    extra = (float(beta[-1]) * means.uncertainty / means.reliability) ** 2
    both = vcov[j, j] + vcov[-1, -1] + 2 * vcov[j, -1]
    return Corrected(
        means.reliability,
        float(beta[j] + beta[-1]),
        float(np.sqrt(both + extra)),
        float(beta[-1]),
        float(np.sqrt(vcov[-1, -1] + extra)),
    )


def _with_means(model: Inference, X: Floats, added: int) -> tuple[Floats, Floats, FTest]:
    """Coefficients, covariance and the test of the columns added, those at the end.

    Fitted again where refits are cheap, else a score step in the working linear model.
    """
    estimate, p = model.estimate, X.shape[1]
    names = tuple(f"column {i}" for i in range(p))
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


# --- formulas that have the parts


def paired_parts(model: Inference) -> tuple[Slopes, ...]:
    """Compare the parts of a predictor that the formula holds as terms of their own.

    Of nested groups each level's slope is compared with that of the level inside it; of
    crossed ones each factor's with what is free of all of them. Beside the raw predictor
    (Mundlak's form) the coefficient of a part is what its slope has beyond the raw one's.
    """
    spec = model.estimate.specification
    return tuple(_paired(model, pair) for pair in _pairs(spec))


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two slopes of one predictor, as functions (p,) of the coefficients of the mean.

    `inner` and `outer` are the columns of x's parts; `only` says that there are no others, and
    `raw` that the inner one is x as it stands.
    """

    x: str
    groups: Groups
    inside: Floats
    outside: Floats
    inner: int
    outer: int
    only: bool
    raw: bool


def _pairs(spec: Specification) -> Iterator[_Pair]:
    place = {name: j for j, name in enumerate(spec.names)}
    calls = [v for v in spec.recipe.model.fixed.variables if isinstance(v, Call)]
    calls = [call for call in calls if call.printed in place and len(call.arguments) == 2]
    centred = [call for call in calls if call.function == "within"]
    apart = {call.arguments[0].printed for call in centred}
    for call in centred:
        factors = grouping(call.arguments[1])
        chains = [_chain(factor, len(factors) == 1) for factor in factors]
        for chain in chains:
            only = len(chains) == len(chain) == 1
            yield from _along(call.arguments[0].printed, place[call.printed], chain, place, only)
    raw = [c for c in calls if c.function == "between" and c.arguments[0].printed in place]
    done: set[str] = set()
    for call in raw:
        x, groups = call.arguments[0].printed, Groups(call.arguments[1])
        if x in apart or call.printed in done:
            continue
        chain = _chain(groups, True)
        done |= {f"between({x}, {g.node.printed})" for g in chain}
        yield from _along(x, place[x], chain, place, len(chain) == 1, raw=True)


def _chain(groups: Groups, nested: bool) -> list[Groups]:
    chain = [groups]
    while nested and (around := chain[-1].around) is not None:
        chain.append(around)
    return chain


def _along(
    x: str, inner: int, chain: list[Groups], place: dict[str, int], only: bool, raw: bool = False
) -> Iterator[_Pair]:
    """Yield the pairs from the finest level outwards."""
    unit = np.eye(len(place))
    base = unit[inner] if raw else np.zeros(len(place))
    inside = unit[inner]
    for groups in chain:
        outer = place.get(f"between({x}, {groups.node.printed})")
        if outer is not None:
            outside = base + unit[outer]
            yield _Pair(x, groups, inside, outside, inner, outer, only, raw)
            inner, inside = outer, outside


def _paired(model: Inference, pair: _Pair) -> Slopes:
    estimate = model.estimate
    spec, knowledge = estimate.specification, model.knowledge()
    rows = np.array([pair.inside, pair.outside, pair.outside - pair.inside])
    L = np.zeros((3, len(estimate.coefficients)))
    L[:, : spec.p] = rows
    values, errors = L @ estimate.coefficients, np.sqrt(np.sum(L @ knowledge.covariance * L, 1))
    test = knowledge.joint(L[2:], values[2:])
    names = [factor.name for factor in spec.factors]
    printed = ":".join(node.printed for node in pair.groups.columns)
    f = names.index(printed) if printed in names else -1
    whole = spec.X[:, pair.inner] if pair.raw else spec.X[:, pair.inner] + spec.X[:, pair.outer]
    icc, corrected = NAN, Corrected()
    if f >= 0:
        icc = variance_between(whole, spec.factors[f].codes)[2]
    if f >= 0 and pair.only and not is_constrained(estimate):
        others = spec.X.copy()
        others[:, pair.inner] = whole
        others = np.delete(others, pair.outer, axis=1)
        corrected = _corrected(model, whole, spec.factors[f].codes, others)
    varying = f >= 0 and any(t.factor == f and pair.x in t.names for t in spec.terms)
    within, between, contextual = values.tolist()
    return Slopes(
        pair.x, f, icc, within, between, contextual, float(errors[2]), test, float(errors[0]),
        float(errors[1]), corrected, pair.groups.node.printed, pair.raw and varying,
    )  # fmt: skip
