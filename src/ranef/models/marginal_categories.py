"""Population-averaged models of categories: rows of their equations, and their association."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.design.clusters import Occasions
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.families import Cumulative, Family, Multinomial
from ranef.families.links import LINKS
from ranef.families.variance import BINOMIAL
from ranef.models.labels import CONDITIONAL, CoefficientLabel, threshold_label
from ranef.solve.marginal.associations import GlobalOddsRatio, LocalOddsRatios, Within
from ranef.solve.marginal.categories import CategoryProblem, indicators, nominal_rows, ordinal_rows
from ranef.solve.marginal.clusters import Clusters
from ranef.solve.marginal.local_odds import pooled_tables, scored, uniform
from ranef.solve.marginal.working import Working

__all__ = [
    "ASSOCIATIONS",
    "category_labels",
    "category_problem",
    "category_working",
    "check_categories",
    "has_categories",
    "mean_columns",
    "threshold_basis",
]

Floats = NDArray[np.float64]

INDEPENDENCE, GLOBAL, LOCAL = "independence", "global odds ratio", "local odds ratio"
ORDGEE = "ordgee"
ASSOCIATIONS = {"cumulative": (INDEPENDENCE, GLOBAL, LOCAL), "multinomial": (INDEPENDENCE, LOCAL)}


class Equations(Protocol):
    """How the model is to be fitted."""

    @property
    def correlation(self) -> str: ...
    @property
    def estimator(self) -> str: ...
    @property
    def scale(self) -> float | None: ...
    @property
    def adjusted(self) -> bool: ...
    @property
    def penalty(self) -> str: ...


class MarginalModel(Protocol):
    """A marginal model."""

    @property
    def specification(self) -> Specification: ...
    @property
    def family(self) -> Family: ...
    @property
    def trials(self) -> Floats | None: ...
    @property
    def occasions(self) -> Occasions | None: ...
    @property
    def equations(self) -> Equations: ...
    @property
    def dropout(self) -> Any: ...
    @property
    def row_weights(self) -> Floats | None: ...
    @property
    def laid_out(self) -> Clusters: ...
    def sorted(self, values: Any) -> Any: ...


def has_categories(family: Family) -> bool:
    """Tell whether a response is one of several categories."""
    return isinstance(family, Cumulative | Multinomial)


def n_categories(model: MarginalModel) -> int:
    """Number of categories."""
    if isinstance(model.family, Multinomial):
        return model.family.categories
    assert model.trials is not None
    return int(model.trials[0])


def threshold_basis(model: MarginalModel) -> Floats:
    """The (J - 1, k) matrix from the parameters of the thresholds to these."""
    assert isinstance(model.family, Cumulative)
    return model.family.threshold_basis(n_categories(model))


def mean_columns(model: MarginalModel) -> NDArray[np.intp]:
    """Columns of the mean: thresholds stand for the intercept of ordered categories."""
    names, ordered = model.specification.names, isinstance(model.family, Cumulative)
    kept = [k for k, name in enumerate(names) if not (ordered and name == "(Intercept)")]
    return np.array(kept, dtype=np.intp)


def category_labels(model: MarginalModel) -> tuple[CoefficientLabel, ...]:
    """Labels of the coefficients: effects and thresholds, or effects of each category."""
    names = [model.specification.names[k] for k in mean_columns(model)]
    reading = model.specification.recipe.reading
    levels = None if reading is None else reading.levels
    count = n_categories(model)
    if isinstance(model.family, Cumulative):
        cuts = [threshold_label(n, levels) for n in model.family.threshold_names(count)]
        return (
            *(CoefficientLabel(CONDITIONAL, None, name) for name in names),
            *(CoefficientLabel("threshold", None, cut) for cut in cuts),
        )
    words = [str(k) if levels is None else str(levels[k]) for k in range(1, count)]
    return tuple(CoefficientLabel(CONDITIONAL, word, name) for word in words for name in names)


def check_categories(model: MarginalModel) -> None:
    """Refuse what a model of categories cannot be."""
    name, family = model.equations.correlation, model.family
    known = ASSOCIATIONS[family.name]
    if name not in known:
        raise ModelError(
            f"correlation={name!r} is one of numbers; {family.response} are associated by odds "
            f"ratios: there are {', '.join(map(repr, known))} (and 'exchangeable' for "
            f"{known[1]!r})"
        )
    equations = model.equations
    if equations.adjusted or equations.scale not in (None, 1.0):
        raise ModelError(
            f"the covariance of {family.response} follows from their probabilities, so that gee "
            "has no scale= of them"
        )


def category_problem(model: MarginalModel) -> CategoryProblem:
    """The model as arrays, the indicators of a response one after the other."""
    spec, cuts = model.specification, n_categories(model) - 1
    ordered = isinstance(model.family, Cumulative)
    X, offset = model.sorted(spec.X)[:, mean_columns(model)], model.sorted(spec.offset)
    link = LINKS[model.family.link]
    if offset is not None:
        offset = np.repeat(-offset if ordered else offset, cuts)
    sampling, precisions = model.sorted(model.row_weights), model.sorted(spec.weights)
    return CategoryProblem(
        y=indicators(model.sorted(spec.y), cuts),
        X=ordinal_rows(X, threshold_basis(model)) if ordered else nominal_rows(X, cuts),
        offset=offset,
        weights=None if precisions is None else np.repeat(precisions, cuts),
        sampling=None if sampling is None else np.repeat(sampling, cuts),
        clusters=_stacked(model.laid_out, cuts),
        link=link.function,
        inverse=link.inverse,
        first=link.first,
        second=link.second,
        both=lambda eta: (link.inverse(eta), link.first(eta)),
        moments=BINOMIAL,
        bounds=(0.0, 1.0),
        scale=1.0,
        penalised=bool(model.equations.penalty),
        independent=Within(np.zeros(0), cuts=cuts),
        cuts=cuts,
        ordered=ordered,
    )


def _stacked(clusters: Clusters, cuts: int) -> Clusters:
    """The clusters of the indicators, of which the places are their numbers."""
    starts = clusters.starts * cuts
    place = np.arange(int(starts[-1])) - np.repeat(starts[:-1], np.diff(starts))
    return Clusters(starts, place.astype(np.float64), (0.0, 1.0))


def category_working(model: MarginalModel, parameters: Floats) -> Working:
    """The association with its parameters; local odds ratios are estimated where there are none."""
    name, cuts = model.equations.correlation, n_categories(model) - 1
    if name == INDEPENDENCE:
        return Within(parameters, cuts=cuts)
    if name == GLOBAL:
        held = parameters if len(parameters) else np.zeros(1)
        as_ordgee = model.equations.estimator == ORDGEE
        return GlobalOddsRatio(held, cuts=cuts, as_ordgee=as_ordgee)
    found = LocalOddsRatios(parameters, cuts=cuts)
    return found if len(parameters) else replace(found, parameters=_local(model, cuts + 1))


def _local(model: MarginalModel, count: int) -> Floats:
    clusters = model.laid_out
    if clusters.largest < 2:
        return np.zeros(count * (count - 1) // 2)
    roots = None
    for weights in (model.row_weights, model.specification.weights):
        if weights is not None:
            own = np.sqrt(model.sorted(weights))
            roots = own if roots is None else roots * own
    y = model.sorted(model.specification.y).astype(np.intp)
    timed = model.occasions is not None and len(clusters.places) ** 2 < 2 * clusters.count
    tables = pooled_tables(y, count, clusters, roots, timed)
    return uniform(tables) if isinstance(model.family, Cumulative) else scored(tables)
