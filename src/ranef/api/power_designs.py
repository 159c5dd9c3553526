"""How the studies of `power` are made: rows of counts, a table or a fit; drawn responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.fitting import glmm, lmm
from ranef.elsewhere import argument_hint
from ranef.errors import DataError, ModelError, RanefError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Generative, Refittable, require
from ranef.formula.model import read_formula, response_of
from ranef.formula.syntax import Name
from ranef.inference.draws.resampling import Clusters, cluster_factor
from ranef.models.records import CONDITIONAL, Estimate
from ranef.models.refitting import refit, refitted
from ranef.models.stated import stated
from ranef.questions.power.layout import Layout, read_layout
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = ["DrawnRows", "FixedRows", "Maker", "Parameters", "like", "makers"]

Floats = NDArray[np.float64]

ROUGH: tuple[Callable[[np.random.Generator, int], Any], ...] = (
    lambda rng, n: rng.normal(size=n),
    lambda rng, n: rng.poisson(3.0, size=n),
    lambda rng, n: rng.permutation(np.arange(n) % 2),
    lambda rng, n: rng.uniform(0.05, 0.95, size=n),
)
"""Responses that a model is read with before the first is drawn from it; families differ in
what they take."""


@dataclass(frozen=True)
class Parameters:
    """Parameters as they are stated."""

    fixed: Mapping[str, float]
    sd: Mapping[str, Any]
    corr: Mapping[str, Any]
    sigma: float | None

    def of(self, fit: MixedFit, *, whole: bool) -> MixedFit:
        """Return the fit at these parameters."""
        at = stated(
            fit.estimate, fixed=self.fixed, sd=self.sd, corr=self.corr, sigma=self.sigma,
            whole=whole,
        )  # fmt: skip
        return type(fit)(at, fit.frame)


@dataclass(frozen=True, eq=False)
class FixedRows:
    """Studies that have the same rows: responses are drawn, the model is refitted.

    Attributes
    ----------
    fit : the fit, at the parameters stated
    """

    fit: MixedFit

    @property
    def rows(self) -> int:
        return self.fit.n_obs

    def studies(self, rng: np.random.Generator, count: int) -> Iterator[Callable[[], MixedFit]]:
        """Yield what fits each of some studies."""
        drawn = self.fit.inference.simulate(count, rng, kind="new")
        estimate = self.fit.estimate
        # what a specification keeps of its cross-products is one thread's own
        own = replace(estimate, parts={name: replace(s) for name, s in estimate.parts.items()})
        for y in drawn.T:
            yield partial(self._refitted, own, y)

    def _refitted(self, estimate: Estimate, y: Floats) -> MixedFit:
        return type(self.fit)(refit(estimate, y, n_jobs=1), self.fit.frame)


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """Studies whose rows are drawn as well.

    Attributes
    ----------
    fit : the fit of a complete study, at the parameters stated
    layout : Layout
    response : str
    call : callable
        Fits the model to a table.
    """

    fit: MixedFit
    layout: Layout
    response: str
    call: Callable[[Any], MixedFit]

    @property
    def rows(self) -> int:
        return self.fit.n_obs

    def studies(self, rng: np.random.Generator, count: int) -> Iterator[Callable[[], MixedFit]]:
        """Yield what fits each of some studies."""
        for _ in range(count):
            table, seed = self.layout.table(rng), int(rng.integers(0, 2**63 - 1))
            yield partial(self._fitted, table, seed)

    def _fitted(self, table: Any, seed: int) -> MixedFit:
        drawn = self.fit.simulate(1, rng=seed, new=table)
        return self.call(table.assign(**{self.response: np.asarray(drawn["sim_1"])}))


Maker = FixedRows | DrawnRows


OWN = ("n", "rng", "sd", "corr", "sigma", "vary", "alpha", "df", "n_jobs", "conf_level")
"""Arguments of power() of a fit."""


def makers(
    model: Any,
    design: Any,
    parameters: Parameters,
    grid: Sequence[Mapping[str, Any]],
    dropout: Mapping[str, Any] | None,
    missing: float,
    options: Mapping[str, Any],
    rng: np.random.Generator,
) -> Iterator[Maker]:
    """Yield what makes the studies of each design."""
    whole = isinstance(model, str)
    if not whole:
        require(model, "power()", Generative, Refittable)
        if options:
            name = next(iter(options))
            hint = argument_hint("power", name, OWN)
            why = hint or ": the model is the fit's, and what it depends on is changed by vary="
            raise ModelError(f"power() of a fit takes no {name!r}{why}")
    counts = isinstance(design, Mapping) and (not design or _holds_counts(design))
    if (dropout or missing) and not counts:
        raise ModelError("dropout= and missing= are for a design of counts, not for a table")
    if design is None:
        if whole:
            raise ModelError("power() of a formula needs a design: a table or a dict of counts")
        yield from _of_a_fit(model, parameters, grid)
        return
    call, response = _call(model, options)
    layout = read_layout(design, dropout, missing) if counts else None
    names = list(layout.counts) if layout is not None else []
    for at in grid:
        here, sizes = _split(at, names, parameters)
        if layout is None:
            table = _columns(design)
        else:
            table = layout.with_counts(sizes).table(rng, complete=True)
        read = _read(call, table, response, rng)
        _check_varied(at, names, "a count of the design", read)
        fit = _started(read, response, here, None if whole else model, rng)
        if layout is not None and layout.drawn:
            yield DrawnRows(fit, layout.with_counts(sizes), response, call)
        else:
            yield FixedRows(fit)


def _holds_counts(design: Mapping[str, Any]) -> bool:
    """Whether a dict has counts, not columns of equal length."""
    return any(isinstance(v, int | np.integer | Mapping) for v in design.values())


def _columns(design: Any) -> Any:
    """A table as pandas."""
    import pandas as pd

    if isinstance(design, pd.DataFrame):
        return design
    table = Table.of(design)
    return pd.DataFrame({name: table.values(name) for name in table.columns})


def _split(
    at: Mapping[str, Any], names: Sequence[str], parameters: Parameters
) -> tuple[Parameters, dict[str, int]]:
    """What varies: numbers of levels, and coefficients."""
    sizes = {name: value for name, value in at.items() if name in names}
    fixed = {name: float(value) for name, value in at.items() if name not in names}
    return replace(parameters, fixed={**parameters.fixed, **fixed}), sizes


def _call(model: Any, options: Mapping[str, Any]) -> tuple[Callable[[Any], Any], str]:
    """What fits the model to a table, and the name of its response."""
    if not isinstance(model, str):
        return like(model), _response(model.formula)
    fitter = glmm if options.get("family") is not None else lmm

    def call(table: Any) -> Any:
        return fitter(model, table, **{"n_jobs": 1, "progress": False, **options})

    return call, _response(model)


def _response(formula: str) -> str:
    node = response_of(read_formula(formula)).bare
    if not isinstance(node, Name):
        raise ModelError(
            f"the response {node.printed!r} is made of columns, which a design of counts or a "
            "table does not have; name one column (of a binomial response 0 and 1)"
        )
    return node.value


def like(fit: MixedFit) -> Callable[[Any], Any]:
    """What fits the model of a fit to another table, by its own call."""
    own = fit.estimate
    options: dict[str, Any] = {"reml": own.reml, "n_jobs": 1, "progress": False}
    recipe = own.specification.recipe
    options |= {"weights": recipe.weights_column, "offset": recipe.offset_column}
    options |= {} if own.terms else {"random": "none"}
    if own.sigma is not None:
        reading = recipe.residual
        if reading is not None:
            options |= {"residual": reading.residual, "dispersion": reading.dispersion or "~1"}
        return lambda table: lmm(fit.formula, table, **options)
    formulas = {name: s.formula for name, s in fit.parts.items() if name != CONDITIONAL}
    options |= formulas | {"family": own.family, "quadrature": own.quadrature}
    return lambda table: glmm(fit.formula, table, **options)


def _check_varied(at: Mapping[str, Any], sized: Sequence[str], kind: str, fit: MixedFit) -> None:
    """Refuse to vary what is neither a number of levels nor a coefficient."""
    names = [label.full for label in fit.labels]
    for name in at:
        if name not in sized and name not in names:
            known = f" ({', '.join(map(repr, sized))})" if sized else ""
            raise ModelError(
                f"vary: {name!r} is neither {kind}{known} nor a coefficient "
                f"({', '.join(map(repr, names))}){suggestion(name, [*sized, *names])}"
            )


def _started(
    fit: MixedFit,
    response: str,
    parameters: Parameters,
    source: MixedFit | None,
    rng: np.random.Generator,
) -> MixedFit:
    """Return the fit of a table at the parameters stated, whatever its response.

    It was read with a rough response, and is fitted to one that the model drew itself.
    """
    if source is not None:
        names = [label.full for label in fit.labels]
        if names != [label.full for label in source.labels]:
            raise ModelError(
                "the design gives the model other coefficients than the fit has: "
                f"{', '.join(names)}; give it the levels that the fit has"
            )
        own = source.estimate
        known = replace(
            fit.estimate, coefficients=own.coefficients, theta=own.theta, sigma=own.sigma,
            covariances=own.covariances,
        )  # fmt: skip
        fit = type(fit)(known, fit.frame)
    at = parameters.of(fit, whole=source is None)
    try:
        y = at.inference.simulate(1, rng, kind="new")[:, 0]
        better = type(at)(refit(at.estimate, y, n_jobs=1), at.frame)
    except RanefError:
        return at
    kept = replace(
        better.estimate, coefficients=at.estimate.coefficients, theta=at.estimate.theta,
        sigma=at.estimate.sigma, covariances=at.estimate.covariances,
    )  # fmt: skip
    return type(at)(kept, at.frame)


def _read(
    call: Callable[[Any], MixedFit], table: Any, response: str, rng: np.random.Generator
) -> MixedFit:
    """Fit a table with the response that it has, or with a rough one that the family takes."""
    errors: list[RanefError] = []
    tables = [table] if response in table else []
    tables += [table.assign(**{response: rough(rng, len(table))}) for rough in ROUGH]
    for one in tables:
        try:
            return call(one)
        except (DataError, ModelError) as error:
            errors.append(error)
    most = Counter(map(str, errors)).most_common(1)[0][0]
    raise next(error for error in errors if str(error) == most)


def _of_a_fit(
    fit: MixedFit, parameters: Parameters, grid: Sequence[Mapping[str, Any]]
) -> Iterator[Maker]:
    """Studies of the rows of a fit, or of levels of its outermost factor repeated in turn."""
    groups = [factor.name for factor in fit.factors]
    for at in grid:
        _check_varied(at, groups, "a grouping factor of the fit", fit)
        sized = [name for name in at if name in groups]
        here, sizes = _split(at, sized, parameters)
        known = here.of(fit, whole=False)
        if not sizes:
            yield FixedRows(known)
            continue
        (name, size), *more = sizes.items()
        if more:
            raise ModelError(f"vary: one grouping factor at a time; {name!r} and {more[0][0]!r}")
        clusters = Clusters.of(known.estimate, cluster_factor(known.estimate, name))
        own = known.estimate
        parts, extra = clusters.take(np.arange(arguments.count(name, size)) % clusters.count)
        larger = refitted(own, parts, extra, n_jobs=1)
        kept = replace(
            larger, coefficients=own.coefficients, theta=own.theta, sigma=own.sigma,
            covariances=own.covariances,
        )  # fmt: skip
        accounting = Accounting(larger.specification.n)
        yield FixedRows(type(fit)(kept, Origin(fit.frame.library, None, accounting)))
