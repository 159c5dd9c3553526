"""The generalised linear mixed model: specifications in, an estimate out.

`fit_glmm(parts, family, ...)` takes one `Specification` for each part that has a
formula, by name:

- ``"conditional"``: the mean; its response, weights and random terms;
- ``"zero"``: the zero-inflation (or hurdle) part; present only if asked for;
- ``"dispersion"`` and the names of shapes (``"df"``, ...): the family's own; a
  part that is not given is one constant.

All specifications have the same rows. Terms of several parts that share a
grouping factor stand in one block. The answer is a `GeneralisedEstimate`, whose
`components` say where each part's coefficients and terms stand. `refit` fits the
same model to another response.

May import `solve` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef import solve
from ranef.design.specification import GroupingFactor, RandomTerm, Specification
from ranef.errors import DataError, ModelError, suggestion
from ranef.models.estimate import Component, GeneralisedEstimate
from ranef.models.family import Family
from ranef.models.thresholds import (
    THRESHOLDS,
    first_thresholds,
    threshold_matrix,
    threshold_names,
)
from ranef.solve.predictors import GeneralisedDesign, LinearPredictor
from ranef.solve.search import Progress

__all__ = ["fit_glmm", "refit_glmm"]

Floats = NDArray[np.float64]

CONDITIONAL = "conditional"
ZERO = "zero"
INTERCEPT = "(Intercept)"


def fit_glmm(
    parts: Mapping[str, Specification],
    family: Family,
    *,
    extra: Floats | None = None,
    quadrature: int = 1,
    path: str | None = None,
    start: Floats | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> GeneralisedEstimate:
    """Fit a generalised linear mixed model by maximum likelihood.

    Parameters
    ----------
    parts : dict of Specification
        By name, ``"conditional"`` among them; see the module's docstring.
    family : Family
    extra : (n,) array or None
        What the family needs beside the response: trials of a binomial, the
        upper ends of a censored response.
    quadrature : int
        Nodes of the quadrature over the random effects; 1 is the Laplace
        approximation.
    path : str or None
        ``"single"``, ``"nested"``, ``"crossed"``; None takes the cheapest.
    start : (k,) array or None
        Theta to start from.
    n_jobs : int or None
        Threads; None means the cores this process may use.
    progress : callable or None
        Called after each evaluation with its number, the criterion and the
        decrement.

    Raises
    ------
    ModelError
        When the parts do not fit the family or each other, or the model cannot
        be fitted; the message says why.
    """
    if quadrature != 1:
        raise ModelError(f"quadrature must be 1 (the Laplace approximation), not {quadrature}")
    if extra is not None:
        extra = np.ascontiguousarray(extra, dtype=np.float64)
    plan = _plan(parts, family, extra)
    found = solve.fit_generalised(
        plan.design, plan.start, theta=start, path=path, n_jobs=n_jobs, progress=progress
    )
    own = plan.components[0]
    return GeneralisedEstimate(
        specification=parts[CONDITIONAL],
        reml=False,
        beta=found.coefficients[own.coefficients],
        theta=found.theta,
        sigma=1.0,
        covariances=found.covariances[own.terms],
        modes=found.modes[own.terms],
        loglik=-0.5 * found.optimum.criterion,
        optimum=found.optimum,
        family=family,
        parts=dict(parts),
        components=plan.components,
        coefficients=found.coefficients,
        coefficient_vcov=found.vcov,
        term_covariances=found.covariances,
        term_modes=found.modes,
        predictors=found.predictors,
        extra=extra,
        quadrature=quadrature,
        runaway=found.runaway,
        design=plan.design,
    )


def refit_glmm(
    estimate: GeneralisedEstimate, y: Floats, extra: Floats | None = None
) -> GeneralisedEstimate:
    """Fit the same model to another response.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    y : (n,) array
        The new response, one value for each row used.
    extra : (n,) array or None
        None keeps the estimate's.

    Raises
    ------
    DataError
        When `y` has another length or values that are not finite.
    """
    spec = estimate.specification
    values = np.ascontiguousarray(y, dtype=np.float64)
    if values.shape != (spec.n,):
        raise DataError(f"the new response has shape {values.shape}; the model uses {spec.n} rows")
    if not np.all(np.isfinite(values)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"the new response has {bad} values that are missing or infinite")
    parts = dict(estimate.parts) | {CONDITIONAL: replace(spec, y=values)}
    return fit_glmm(
        parts,
        estimate.family,
        extra=estimate.extra if extra is None else extra,
        quadrature=estimate.quadrature,
        path=estimate.optimum.path,
    )


@dataclass(frozen=True, eq=False)
class _Plan:
    design: GeneralisedDesign
    components: tuple[Component, ...]
    start: Floats


class _Builder:
    """Gathers predictors, coefficients and random terms, part by part."""

    def __init__(self) -> None:
        self.predictors: list[LinearPredictor] = []
        self.components: list[Component] = []
        self.terms: list[RandomTerm] = []
        self.owners: list[int] = []
        self.factors: list[GroupingFactor] = []
        self.start: list[Floats] = []
        self.count = 0

    def take(self, size: int) -> slice:
        """Reserve coefficients."""
        self.count += size
        return slice(self.count - size, self.count)

    def add(
        self,
        name: str,
        spec: Specification | None,
        n: int,
        level: float | Floats,
        response: str | None = None,
        keep_intercept: bool = True,
    ) -> None:
        """Add one predictor, which `level` is a first guess of."""
        number = len(self.predictors)
        if spec is None:
            X, offset = np.ones((n, 1)), None
            names: tuple[str, ...] = (INTERCEPT,)
        else:
            kept = [k for k, c in enumerate(spec.names) if keep_intercept or c != INTERCEPT]
            X, offset = spec.X[:, kept], spec.offset
            names = tuple(spec.names[k] for k in kept)
        own = self.take(X.shape[1])
        first = len(self.terms)
        if spec is not None:
            self._add_terms(spec, number)
        self.predictors.append(LinearPredictor(X, np.arange(own.start, own.stop), offset))
        self.components.append(
            Component(name, response, number, names, own, slice(first, len(self.terms)), spec)
        )
        target = np.broadcast_to(np.asarray(level, dtype=np.float64), (n,))
        self.start.append(_least_squares(X, target if offset is None else target - offset))

    def _add_terms(self, spec: Specification, number: int) -> None:
        for term in spec.terms:
            factor = spec.factors[term.factor]
            self.terms.append(replace(term, factor=self._factor(factor)))
            self.owners.append(number)

    def _factor(self, factor: GroupingFactor) -> int:
        for k, known in enumerate(self.factors):
            if known is factor or (
                known.columns == factor.columns
                and known.n_levels == factor.n_levels
                and np.array_equal(known.codes, factor.codes)
            ):
                return k
        self.factors.append(factor)
        return len(self.factors) - 1

    def add_thresholds(self, y: Floats, kind: str, link: str) -> None:
        """Add the upper and the lower threshold of each row: shared coefficients."""
        categories = int(y.max()) + 1
        A = threshold_matrix(categories, kind)
        own = self.take(A.shape[1])
        coefficients = np.arange(own.start, own.stop)
        category = y.astype(np.int_)
        padded = np.vstack([np.zeros((1, A.shape[1])), A, np.zeros((1, A.shape[1]))])
        number = len(self.predictors)
        for rows in (padded[category + 1], padded[category]):
            self.predictors.append(LinearPredictor(np.ascontiguousarray(rows), coefficients))
        names = threshold_names(categories, kind)
        none = slice(len(self.terms), len(self.terms))
        self.components.append(Component("threshold", None, number, names, own, none, None))
        self.start.append(_least_squares(A, first_thresholds(y, categories, link)))

    def plan(self, spec: Specification, family: Family, extra: Floats | None, zero: bool) -> _Plan:
        design = GeneralisedDesign(
            family=family.core(zero),
            y=spec.y,
            extra=extra,
            weights=spec.weights,
            predictors=tuple(self.predictors),
            terms=tuple(self.terms),
            owners=tuple(self.owners),
            factors=tuple(self.factors),
            n_coefficients=self.count,
        )
        if len(self.predictors) != design.family.predictors:
            raise ModelError(
                f"the family {family.name} has {design.family.predictors} linear predictors, "
                f"not {len(self.predictors)}"
            )
        return _Plan(design, tuple(self.components), np.concatenate(self.start))


def _least_squares(X: Floats, target: Floats) -> Floats:
    if X.shape[1] == 0:
        return np.zeros(0)
    return np.asarray(np.linalg.lstsq(X, target, rcond=None)[0], dtype=np.float64)


def _plan(parts: Mapping[str, Specification], family: Family, extra: Floats | None) -> _Plan:
    spec = _conditional(parts)
    _check_parts(parts, family)
    ordinal, nominal = family.name == "cumulative", family.name == "multinomial"
    zero = ZERO in parts
    builder = _Builder()
    levels = list(family.start(spec.y, extra))
    if nominal:
        categories = int(spec.y.max()) + 1
        for k, level in enumerate(levels[: categories - 1]):
            builder.add(CONDITIONAL, spec, spec.n, level, response=str(k + 1))
    else:
        builder.add(CONDITIONAL, spec, spec.n, levels[0], keep_intercept=not ordinal)
    if ordinal:
        builder.add_thresholds(spec.y, getattr(family, "thresholds", THRESHOLDS[0]), family.link)
    elif not nominal:
        for parameter, level in zip(family.parameters[1:], levels[1:], strict=False):
            if parameter.name != ZERO:
                builder.add(parameter.name, parts.get(parameter.name), spec.n, level)
    if zero:
        builder.add(ZERO, parts[ZERO], spec.n, _zero_start(spec.y))
    if not builder.terms:
        raise ModelError(
            "no part of the model has a random effect; a generalised linear model without them "
            "is not a mixed model"
        )
    return builder.plan(spec, family, extra, zero)


def _conditional(parts: Mapping[str, Specification]) -> Specification:
    if CONDITIONAL not in parts:
        raise ModelError("the parts of a model must hold 'conditional', the formula of the mean")
    return parts[CONDITIONAL]


def _check_parts(parts: Mapping[str, Specification], family: Family) -> None:
    names = [p.name for p in family.parameters[1:]]
    known = [CONDITIONAL, *names, ZERO]
    n = parts[CONDITIONAL].n
    for name, spec in parts.items():
        if name not in known:
            raise ModelError(
                f"the family {family.name} has no part {name!r}{suggestion(name, known)} "
                f"Its parts are {', '.join(known)}."
            )
        if spec.n != n:
            raise ModelError(f"part {name!r} has {spec.n} rows, the conditional part {n}")


def _zero_start(y: Floats) -> float:
    share = min(max(float(np.mean(y == 0)) / 2, 0.01), 0.9)
    return float(np.log(share / (1 - share)))
