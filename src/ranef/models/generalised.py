"""The generalised linear mixed model: specifications in, an estimate out.

`fit_glmm(parts, family, ...)` takes one `Specification` for each part that has a
formula, by name:

- ``"conditional"``: the mean; its response, weights and random terms;
- ``"zero"``: the zero-inflation (or hurdle) part; present only if asked for;
- ``"dispersion"`` and shapes by their labels (``"df"``): the family's own
  (`part_names`); a part that is not given is one constant. `Multinomial` has one
  ``"conditional"`` component for each category but the first;
- ``"threshold"`` of `Cumulative`: the intercept and the nominal effects, columns that
  have a coefficient on each threshold; without it the thresholds are constants.

All specifications have the same rows. Terms of several parts that share a
grouping factor stand in one block. The answer is a `GeneralisedEstimate`, whose
`components` say where each part's coefficients and terms stand. `refit` fits the
same model to another response.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.families import Cumulative, Family, Multinomial
from ranef.models.held import constraints_of
from ranef.models.priors import penalty_of
from ranef.models.records import CONDITIONAL, Component, Composition, GeneralisedEstimate
from ranef.priors import Prior
from ranef.solve import laplace
from ranef.solve.constraints import Constraints, FreeCoefficients
from ranef.solve.optimum import Progress
from ranef.solve.problem import GeneralisedDesign, LinearPredictor
from ranef.solve.quadrature import check_nodes

__all__ = ["compose", "fit_glmm", "part_names", "threshold_columns"]

Floats = NDArray[np.float64]

ZERO = "zero"
POWERS = {"inverse": -1.0, "sqrt": 0.5, "1/mu^2": -2.0}
"""Links that are a power of the mean."""
THRESHOLD = "threshold"
INTERCEPT = "(Intercept)"


def fit_glmm(
    parts: Mapping[str, Specification],
    family: Family,
    *,
    extra: Floats | None = None,
    quadrature: int = 1,
    reml: bool = False,
    priors: Mapping[str, Prior] | None = None,
    fixed: Mapping[str, float] | None = None,
    equal: Sequence[Collection[str]] | None = None,
    sampling: Floats | None = None,
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
        upper ends of a censored response, the number of ordered categories.
    quadrature : int
        Nodes of adaptive Gauss-Hermite quadrature for each random effect, of one
        grouping factor or of factors nested in each other, with up to three each; 1 is
        the Laplace approximation.
    reml : bool
        Integrate the coefficients of the conditional part out as well, with a
        flat prior (restricted likelihood), by the Laplace approximation.
    priors : dict of Prior or None
        Maximise the likelihood times these densities; keys as in
        `ranef.models.parameter_names`.
    fixed : dict of float or None
        Values at which parameters are held; the same keys.
    equal : sequence of groups of str or None
        Coefficients of one part that have one common value.
    sampling : (q,) array or None
        Weights of the levels of the only grouping factor, see `models.sampling`.
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
    check_nodes(quadrature)
    if extra is not None:
        extra = np.ascontiguousarray(extra, dtype=np.float64)
    wishes = _Wishes(priors, fixed, equal, sampling)
    composition = _compose(parts, family, extra, wishes, reml)
    found = laplace.fit_generalised(
        composition.design,
        composition.start,
        flat=lambda: _compose(parts, family, extra, wishes, reml, flat=True).start,
        theta=start,
        quadrature=quadrature,
        path=path,
        n_jobs=n_jobs,
        progress=progress,
    )
    return GeneralisedEstimate(
        reml=reml,
        theta=found.theta,
        covariances=found.covariances,
        modes=found.modes,
        loglik=-0.5 * (found.optimum.criterion - found.penalty),
        optimum=found.optimum,
        family=family,
        parts=dict(parts),
        composition=composition,
        coefficients=found.coefficients,
        coefficient_vcov=found.vcov,
        predictors=found.predictors,
        extra=composition.design.extra,
        quadrature=quadrature,
        runaway=found.runaway,
        priors=dict(priors or {}),
        fixed=dict(fixed or {}),
        equal=tuple(tuple(group) for group in equal or ()),
        sampling=sampling,
    )


def compose(
    parts: Mapping[str, Specification],
    family: Family,
    extra: Floats | None = None,
    *,
    priors: Mapping[str, Prior] | None = None,
    fixed: Mapping[str, float] | None = None,
    equal: Sequence[Collection[str]] | None = None,
    sampling: Floats | None = None,
    reml: bool = False,
) -> Composition:
    """Bring the parts of a model to one design without fitting it.

    Returns
    -------
    Composition

    Raises
    ------
    ModelError
        When the parts do not fit the family or each other.
    """
    return _compose(parts, family, extra, _Wishes(priors, fixed, equal, sampling), reml)


@dataclass(frozen=True, eq=False)
class _Wishes:
    """What the user says of the parameters."""

    priors: Mapping[str, Prior] | None
    fixed: Mapping[str, float] | None
    equal: Sequence[Collection[str]] | None
    sampling: Floats | None = None


@dataclass(frozen=True, eq=False)
class _Guess:
    """A first guess (n,) of a linear predictor without its offset."""

    component: Component
    X: Floats
    target: Floats

    def coefficients(self, constraints: Constraints, free: FreeCoefficients) -> Floats:
        """Its coefficients by least squares, as far as they are free."""
        if free.everything:
            return _least_squares(self.X, self.target)
        own = self.component.coefficients
        M, c = free.M[own], free.c[own]
        M = M[:, M.any(axis=0)]
        return np.asarray(M @ _least_squares(self.X @ M, self.target - self.X @ c) + c)


@dataclass(frozen=True, eq=False)
class _Thresholds:
    """First guesses of the thresholds' coefficients.

    The first `n_ordered` are thresholds themselves, which stand in order.
    """

    component: Component
    values: Floats
    n_ordered: int

    def coefficients(self, constraints: Constraints, free: FreeCoefficients) -> Floats:
        """Move them to where the held ones stand, the others between and beside these."""
        first = self.component.coefficients.start
        held = [(k - first, v) for k, v in constraints.coefficients if 0 <= k - first < len(self)]
        out = self.values.copy()
        cuts = out[: self.n_ordered]
        cut_at = [(k, value) for k, value in held if k < self.n_ordered]
        if cut_at:
            at, wanted = (np.array(column) for column in zip(*cut_at, strict=True))
            known = cuts[at]
            inside = np.interp(cuts, known, wanted)
            cuts[:] = inside + cuts - np.clip(cuts, known[0], known[-1])
        for k, value in held:
            out[k] = value
        return out

    def __len__(self) -> int:
        return len(self.values)


class _Builder:
    """Gathers predictors, coefficients and random terms, part by part."""

    def __init__(self) -> None:
        self.predictors: list[LinearPredictor] = []
        self.components: list[Component] = []
        self.terms: list[RandomTerm] = []
        self.owners: list[tuple[int, ...]] = []
        self.factors: list[GroupingFactor] = []
        self.start: list[_Guess | _Thresholds] = []
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
        unit: float = 1.0,
    ) -> None:
        """Add one predictor, which `level` is a first guess of."""
        number = len(self.predictors)
        if spec is None:
            X, offset = np.ones((n, 1)), None
            names: tuple[str, ...] = (INTERCEPT,)
        else:
            kept = [k for k, c in enumerate(spec.names) if keep_intercept or c != INTERCEPT]
            every = len(kept) == len(spec.names)
            X = spec.X if every else np.ascontiguousarray(spec.X[:, kept])
            offset = spec.offset
            names = tuple(spec.names[k] for k in kept)
        own = self.take(X.shape[1])
        terms = () if spec is None else self._add_terms(spec, name, number)
        self.predictors.append(LinearPredictor(X, np.arange(own.start, own.stop), offset, unit))
        self.components.append(Component(name, response, number, names, own, terms, spec))
        target = np.broadcast_to(np.asarray(level, dtype=np.float64), (n,))
        rest = target if offset is None else target - offset
        self.start.append(_Guess(self.components[-1], X, rest))

    def _add_terms(self, spec: Specification, name: str, number: int) -> tuple[int, ...]:
        """Add the terms of a part, and return which they are; one that is tied is there once."""
        places = []
        for term in spec.terms:
            known = self._tied(term)
            if known is None:
                factor = self._factor(spec.factors[term.factor])
                self.terms.append(replace(term, factor=factor))
                self.owners.append((number,) * term.size)
                places.append(len(self.terms) - 1)
                continue
            together = self.terms[known].z + term.z
            self.terms[known] = replace(self.terms[known], z=together)
            own = term.columns_of(name)
            self.owners[known] = tuple(
                number if j in own else m for j, m in enumerate(self.owners[known])
            )
            places.append(known)
        return tuple(places)

    def _tied(self, term: RandomTerm) -> int | None:
        """The term of an earlier part with the same label."""
        if term.tie is None:
            return None
        return next((t for t, one in enumerate(self.terms) if one.tie == term.tie), None)

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

    def add_thresholds(
        self,
        y: Floats,
        family: Cumulative,
        categories: int,
        start: Floats,
        nominal: Specification | None,
    ) -> None:
        """Add the upper and the lower threshold of each row: shared coefficients.

        Each column of `nominal` has a coefficient on every parameter of the thresholds.
        """
        A = family.threshold_basis(categories)
        n_columns = 1 if nominal is None else nominal.X.shape[1]
        own = self.take(A.shape[1] * n_columns)
        coefficients = np.arange(own.start, own.stop)
        category = y.astype(np.int_)
        none = np.zeros((1, A.shape[1]))
        padded = np.vstack([none, A, none])
        number = len(self.predictors)
        for rows in (padded[category + 1], padded[category]):
            if nominal is not None:
                rows = threshold_columns(nominal.X, rows)
            self.predictors.append(
                LinearPredictor(
                    np.ascontiguousarray(rows), coefficients, together=nominal is not None
                )
            )
        names = family.threshold_names(categories)
        cuts = len(names) if family.thresholds == "flexible" else 0
        if nominal is not None:
            names += tuple(f"{cut}: {column}" for column in nominal.names[1:] for cut in names)
            start = np.append(start, np.zeros(len(names) - len(start)))
        self.components.append(Component(THRESHOLD, None, number, names, own, (), nominal))
        self.start.append(_Thresholds(self.components[-1], start, cuts))

    def plan(
        self,
        spec: Specification,
        family: Family,
        extra: Floats | None,
        zero: bool,
        wishes: _Wishes,
        reml: bool,
    ) -> Composition:
        known = (self.components, self.terms, self.factors)
        constraints = constraints_of(wishes.fixed, wishes.equal, *known)
        inside = [c.coefficients for c in self.components if reml and c.name == CONDITIONAL]
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
            integrated=tuple(k for own in inside for k in range(own.start, own.stop)),
            penalty=penalty_of(wishes.priors, *known, constraints),
            constraints=constraints,
            level_weights=wishes.sampling,
            scale_predictor=1 if (family.name, family.link) == ("gaussian", "identity") else None,
            cuts=(2, 3) if family.name == "ordbeta" else (),
        )
        assert len(self.predictors) == design.family.predictors, family.name
        free = constraints.free(self.count)
        start = [guess.coefficients(constraints, free) for guess in self.start]
        return Composition(design, tuple(self.components), np.concatenate(start))


def _least_squares(X: Floats, target: Floats) -> Floats:
    if X.shape[1] == 0:
        return np.zeros(0)
    size = np.abs(X).max(axis=0)
    # columns of unlike sizes would look dependent; of like sizes they stay as they are
    unlike = (size > 0) & (size.max() > 1e8 * size[size > 0].min(initial=np.inf))
    if not unlike.any():
        return np.asarray(np.linalg.lstsq(X, target, rcond=None)[0], dtype=np.float64)
    size = np.where(unlike, size, 1.0)
    return np.asarray(np.linalg.lstsq(X / size, target, rcond=None)[0] / size, dtype=np.float64)


def _compose(
    parts: Mapping[str, Specification],
    family: Family,
    extra: Floats | None,
    wishes: _Wishes,
    reml: bool,
    flat: bool = False,
) -> Composition:
    """Bring the parts together; `flat` starts from one mean in all rows."""
    spec = _conditional(parts)
    zero = ZERO in parts
    names = _check_parts(parts, family)
    ordinal = isinstance(family, Cumulative)
    if ordinal and extra is None:
        extra = np.full(spec.n, spec.y.max() + 1)
    family.check(spec.y, extra, zero=zero)
    start = family.start(spec.y, extra, zero=zero)
    first = start.constants[0] if start.eta is None or flat else start.eta
    if flat and family.name.endswith("genpois"):
        # with less variance than a Poisson response has, counts end somewhere
        start.constants[1] = max(start.constants[1], 0.0)
    builder = _Builder()
    if isinstance(family, Multinomial):
        for k, level in enumerate(start.constants):
            builder.add(CONDITIONAL, spec, spec.n, float(level), response=str(k + 1))
    else:
        unit = predictor_unit(family.link, spec.y)
        builder.add(CONDITIONAL, spec, spec.n, first, keep_intercept=not ordinal, unit=unit)
    if isinstance(family, Cumulative):
        assert extra is not None
        assert start.thresholds is not None
        nominal = _nominal(parts.get(THRESHOLD))
        builder.add_thresholds(spec.y, family, int(extra[0]), start.thresholds, nominal)
    else:
        for name, level in zip(names, start.constants[-len(names) :], strict=False):
            builder.add(name, parts.get(name), spec.n, float(level))
    return builder.plan(spec, family, extra, zero, wishes, reml)


def _nominal(spec: Specification | None) -> Specification | None:
    """The part of the nominal effects: columns beside the intercept, and nothing else."""
    if spec is None:
        return None
    if spec.terms or spec.offset is not None or spec.names[:1] != (INTERCEPT,):
        raise ModelError(
            "nominal effects are fixed effects beside the intercept: no random terms, no offset"
        )
    return spec


def threshold_columns(W: Floats, rows: Floats) -> Floats:
    """Columns of thresholds with nominal effects.

    Parameters
    ----------
    W : (n, m) array
        The nominal part's model matrix, its intercept first.
    rows : (n, k) or (k,) array
        What the threshold is of its k parameters.

    Returns
    -------
    (n, m k) array
        Those of the first column of `W` first.

    Examples
    --------
    >>> threshold_columns(np.array([[1.0, 0.5]]), np.array([0.0, 1.0]))
    array([[0. , 1. , 0. , 0.5]])
    """
    rows = np.broadcast_to(rows, (len(W), rows.shape[-1]))
    return (W[:, :, None] * rows[:, None, :]).reshape(len(W), -1)


def predictor_unit(link: str, y: Floats) -> float:
    """The size of the mean's predictor where the link keeps the response's unit; else 1.

    Examples
    --------
    >>> predictor_unit("identity", np.array([1e6, 3e6])), predictor_unit("log", np.ones(2))
    (1000000.0, 1.0)
    """
    finite = y[np.isfinite(y)]
    if link == "identity":
        size = float(np.std(finite)) if finite.size else 0.0
    elif link in POWERS:
        mean = abs(float(np.mean(finite))) if finite.size else 0.0
        size = mean ** POWERS[link] if mean > 0 else 0.0
    else:
        return 1.0
    return float(size) if 0 < size < np.inf else 1.0


def _conditional(parts: Mapping[str, Specification]) -> Specification:
    if CONDITIONAL not in parts:
        raise ModelError("the parts of a model must hold 'conditional', the formula of the mean")
    return parts[CONDITIONAL]


def part_names(family: Family, zero: bool) -> tuple[str, ...]:
    """Names of the parts of a family beside the mean: those that may have a formula.

    Shapes go by their labels.
    """
    if isinstance(family, Cumulative):
        return (THRESHOLD,)
    if isinstance(family, Multinomial):
        return ()
    others = family.predictors(zero)[1:]
    return tuple(p.label if p.name == "shape" else p.name for p in others)


def _check_parts(parts: Mapping[str, Specification], family: Family) -> tuple[str, ...]:
    names = part_names(family, ZERO in parts)
    known = [CONDITIONAL, *names]
    n = parts[CONDITIONAL].n
    for name, spec in parts.items():
        if name not in known:
            raise ModelError(
                f"the family {family.name} has no part {name!r}{suggestion(name, known)}; "
                f"its parts are {', '.join(known)}"
            )
        if spec.n != n:
            raise ModelError(f"part {name!r} has {spec.n} rows, the conditional part {n}")
    return names
