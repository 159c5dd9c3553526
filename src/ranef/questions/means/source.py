"""What marginal means are asked of: a fit at the rows of a reference grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.specification import Specification
from ranef.errors import LevelError, ModelError, UnknownColumnError, suggestion
from ranef.families import Cumulative, Multinomial
from ranef.fits.generalised import GeneralisedFit
from ranef.fits.linear import LinearFit
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Call, Name, strip_parens
from ranef.inference.coefficients import degrees
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.wald import FTest, f_tail, with_fixed_rows
from ranef.inference.rows.parts import LinearPart, Rows
from ranef.inference.rows.row_functions import component_link, conditional_parts, row_functions
from ranef.models import labels
from ranef.models.rows import NewRows
from ranef.questions.means.functions import Functions, Knowledge, redundancy, wald_test
from ranef.questions.means.grid import GridVariable, ReferenceGrid, reference_grid
from ranef.questions.means.one_level import unit_functions
from ranef.questions.means.transformed import transformed_means
from ranef.tables import Table

__all__ = ["Asked", "Source", "ask", "read_question", "source_of", "unseen_rows"]

Floats = NDArray[np.float64]

TYPES = ("response", "link", "prob", "mean_class")
COMPONENTS = ("conditional", "zero", "dispersion", "response")
CARRIED_BACK = ("log", "sqrt")
STATIONARY = ("ar1", "ou", "exp", "gau", "mat")

MixedFit = LinearFit | GeneralisedFit


@dataclass(frozen=True, eq=False)
class Asked:
    """The question, whatever the rows.

    Attributes
    ----------
    fit : a fit of a mixed model
    component, kind, type : str
        See `ranef.emmeans`.
    df : str or None
    unit : dict
        Grouping column -> level, for one level's own means.
    offset : float or None
    """

    fit: MixedFit
    component: str
    kind: str
    type: str
    df: str | None
    unit: Mapping[str, Any]
    offset: float | None

    @property
    def specifications(self) -> dict[str, Specification]:
        """The parts that the answer depends on, by name."""
        estimate = self.fit.estimate
        if isinstance(self.fit, LinearFit):
            return {"conditional": estimate.specification}
        return dict(self.fit.estimate.parts)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the parts whose fixed effects the answer depends on."""
        parts = tuple(self.specifications)
        return parts if self.component == "response" else (self.component,)

    @property
    def transformed(self) -> str:
        """The link of a linear model's response that is carried back; ``"identity"``."""
        if not isinstance(self.fit, LinearFit) or self.type == "link":
            return "identity"
        return response_link(self.fit.estimate.specification.response)


@dataclass(frozen=True, eq=False)
class Source:
    """A grid and what the model says at its rows.

    Attributes
    ----------
    asked : Asked
    variables : tuple of GridVariable
        Those of the grid; of categories, the response last.
    grid : ReferenceGrid
    rows : Functions
        One a combination of the variables' values, the first running fastest.
    counts : (R,) float64 array
        Rows of the data in each combination of levels.
    link : str
        Of the rows; ``"identity"`` where they are means themselves.
    scale : str
        The link on whose scale intervals are made.
    knowledge : Knowledge
    """

    asked: Asked
    variables: tuple[GridVariable, ...]
    grid: ReferenceGrid
    rows: Functions
    counts: Floats
    link: str
    scale: str
    knowledge: Knowledge

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(v.values) for v in self.variables)

    @property
    def linear(self) -> bool:
        """Tell whether the rows are linear in the coefficients, and stay so."""
        return self.asked.type == "link" or (
            isinstance(self.asked.fit, LinearFit) and self.asked.transformed == "identity"
        )

    @property
    def category(self) -> str | None:
        """Name of the response, where its categories are a variable of the grid."""
        extra = len(self.variables) > len(self.grid.variables)
        return self.variables[-1].name if extra else None


def read_question(
    fit: Any,
    *,
    component: str = "conditional",
    kind: str | None = None,
    type: str | None = None,
    df: str | None = None,
    unit: Mapping[str, Any] | None = None,
    offset: float | None = None,
) -> Asked:
    """Check a question and fill in what it leaves open."""
    if not isinstance(fit, LinearFit | GeneralisedFit):
        raise ModelError(
            f"marginal means are asked of a fit of ranef.lmm or ranef.glmm, not of "
            f"{fit.__class__.__name__}"
        )
    linear = isinstance(fit, LinearFit)
    component = arguments.choice("component", component, COMPONENTS)
    if linear and component != "conditional":
        raise ModelError(f"a linear mixed model has no component {component!r}; leave it out")
    if type is not None:
        type = arguments.choice("type", type, TYPES)
    if kind is not None:
        kind = arguments.choice("kind", kind, ("typical", "population"))
    unit = arguments.mapping("unit", unit, "{'ward': 'A'}")
    if unit and kind is not None:
        raise ModelError("unit= asks for one level's own means, which are of no other kind")
    if offset is not None and not (isinstance(offset, Real) and np.isfinite(offset)):
        raise ModelError(f"offset must be a finite number, not {offset!r}")
    if linear and df is not None:
        degrees.check_method(df)
    fit._covariance(df)
    if isinstance(fit, LinearFit):
        type = type or "link"
        if type not in ("link", "response"):
            raise ModelError(f"type={type!r} is for categories; a linear mixed model has none")
        asked_kind = kind or "typical"
    else:
        type = _generalised_type(fit, component, type)
        asked_kind = kind or ("typical" if type == "link" else "population")
        if type == "link" and asked_kind == "population":
            raise ModelError(
                "the linear predictor is that of a typical level: kind='population' goes with "
                "type='response'"
            )
    return Asked(
        fit,
        component,
        "unit" if unit else asked_kind,
        type,
        df,
        unit,
        None if offset is None else float(offset),
    )


def _generalised_type(fit: GeneralisedFit, component: str, type: str | None) -> str:
    categories = isinstance(fit.family, Cumulative | Multinomial)
    parts = {c.name for c in fit.estimate.components} | {"response"}
    if component not in parts:
        there = ", ".join(repr(name) for name in COMPONENTS if name in parts)
        raise ModelError(f"the model has no component {component!r}; it has {there}")
    if categories and component in ("conditional", "response"):
        found = {"response": "prob", None: "prob"}.get(type, type)
    elif type in ("prob", "mean_class"):
        raise ModelError(
            f"the family {fit.family.name} has no categories: type={type!r} is for cumulative "
            "and multinomial responses"
        )
    else:
        found = type or "response"
    if found == "mean_class" and not isinstance(fit.family, Cumulative):
        raise ModelError("type='mean_class' is for ordered categories")
    assert found is not None
    if found == "link" and component == "response":
        raise ModelError("component='response' is a mean of several parts; use type='response'")
    return found


def response_link(response: str) -> str:
    """Return the link that a linear model's response was put through."""
    node = strip_parens(parse_expression(response))
    if not isinstance(node, Call):
        return "identity"
    name = node.function.removeprefix("np.")
    if name in CARRIED_BACK and len(node.arguments) == 1 and not node.keywords:
        return name
    raise ModelError(
        f"type='response' carries back log(y) and sqrt(y), not {response}; leave type out for "
        "means of the response as it was fitted"
    )


# --- the rows of a grid


def ask(
    asked: Asked,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Any = "mean",
    keep: Sequence[str] = (),
) -> ReferenceGrid:
    """Make the grid of a question."""
    data = asked.fit.frame.data
    if data is None:
        asked.fit.frame.rows_used()
    assert data is not None
    grid = reference_grid(
        [spec.recipe for spec in asked.specifications.values()],
        data,
        asked.fit.frame.accounting.kept,
        at=arguments.mapping("at", at, "{'age': [40, 60]}"),
        cov_reduce=cov_reduce,
        random=asked.kind in ("population", "unit"),
        keep=keep,
    )
    return _with_unit(asked, grid)


def _with_unit(asked: Asked, grid: ReferenceGrid) -> ReferenceGrid:
    """Add the columns of the unit, its level in every row."""
    factors = labels.factors_of(asked.fit.estimate)
    known = list(dict.fromkeys(c for f in factors for c in f.columns))
    columns = dict(grid.columns)
    for name, level in asked.unit.items():
        if name not in known:
            raise UnknownColumnError(
                f"unit names {name!r}, which groups nothing{suggestion(str(name), known)}; the "
                f"grouping columns are {', '.join(map(repr, known))}"
            )
        if name in grid.names:
            raise ModelError(
                f"unit names {name!r}, which is also a predictor; choose its level with at="
            )
        data = asked.fit.frame.data
        assert data is not None
        levels = data.codes(name)[1]
        texts = {str(v): v for v in levels}
        if str(level) not in texts:
            raise LevelError(
                f"unit: {level!r} is no level of {name}{suggestion(str(level), texts)}"
            )
        values = np.empty(grid.size, dtype=object)
        values[:] = [texts[str(level)]] * grid.size
        columns[name] = values
    return replace(grid, columns=columns)


def _table(grid: ReferenceGrid) -> Table:
    columns = grid.columns or {"(row)": np.zeros(grid.size)}
    return Table.of(columns)


def source_of(asked: Asked, grid: ReferenceGrid) -> Source:
    """Evaluate the rows of a grid."""
    gap = _gap(asked, grid)
    estimate = asked.fit.estimate
    if asked.unit:
        return _unit_source(asked, grid, gap)
    if isinstance(asked.fit, LinearFit):
        if asked.kind == "population" and asked.transformed != "identity":
            return _transformed_source(asked, grid, gap)
        read = _read(asked, "conditional", grid, False)
        value = read.X @ estimate.beta + (0.0 if read.offset is None else read.offset)
        rows = Functions(value, read.X, gap)
        link = asked.transformed
        return Source(asked, grid.variables, grid, rows, grid.counts, link, link, _linear(asked))
    return _generalised_source(asked, grid, gap)


def _transformed_source(asked: Asked, grid: ReferenceGrid, gap: Floats) -> Source:
    """Means of the response of a linear model that took its log or root."""
    fit = asked.fit
    assert isinstance(fit, LinearFit)
    read = _read(asked, "conditional", grid, True)
    random = [z for _, z in read.random or ()]
    found = transformed_means(
        fit.estimate, read.X, read.offset, random, asked.transformed, fit._parameters
    )
    rows = Functions(found.value, found.jacobian, gap)
    rows = replace(rows, gap=rows.own_gaps())
    return Source(
        asked, grid.variables, grid, rows, grid.counts, "identity", "log", _normal(found.covariance)
    )


def _generalised_source(asked: Asked, grid: ReferenceGrid, gap: Floats) -> Source:
    fit = asked.fit
    assert isinstance(fit, GeneralisedFit)
    estimate = fit.estimate
    as_link = asked.type == "link" or (
        asked.kind == "typical" and asked.type == "response" and asked.component != "response"
    )
    random = asked.kind == "population"
    parts = {name: _read(asked, name, grid, random) for name in estimate.parts}
    wanted = "link" if as_link else asked.type
    try:
        found = row_functions(estimate, Rows(parts), asked.component, asked.kind, wanted)
    except ModelError as error:
        if asked.kind != "population":
            raise
        raise ModelError(f"{error}; kind='typical' sets the random effects to zero") from None
    K = found.value.shape[1]
    rows = Functions(
        found.value.T.ravel(),
        np.concatenate([found.jacobian[:, k] for k in range(K)]),
        np.tile(gap, (K, 1)),
    )
    variables, counts = grid.variables, np.tile(grid.counts, K)
    if K > 1:
        levels = fit.levels or ()
        named = levels if len(levels) == K else levels[1:]
        name = estimate.specification.response
        if name in grid.names:
            raise ModelError(f"a predictor has the name of the response, {name!r}")
        variables = (*variables, GridVariable(name, tuple(named), True))
    if not as_link:
        rows = replace(rows, gap=rows.own_gaps())
    link = found.link if as_link and asked.type != "link" else "identity"
    scale = "identity" if asked.type == "link" else found.link
    return Source(
        asked, variables, grid, rows, counts, link, scale, _normal(joint_covariance(estimate))
    )


def _unit_source(asked: Asked, grid: ReferenceGrid, gap: Floats) -> Source:
    if isinstance(asked.fit, GeneralisedFit):
        if asked.type not in ("link", "response"):
            raise ModelError(
                "unit= is for a mean with one linear predictor; for categories use "
                "predict(kind='conditional')"
            )
        parts = {name: _read(asked, name, grid, True) for name in asked.fit.estimate.parts}
        part = conditional_parts(asked.fit.estimate, Rows(parts), asked.component)
        link = component_link(asked.fit.estimate, asked.component)
        link = "identity" if asked.type == "link" else link
    else:
        read = _read(asked, "conditional", grid, True)
        random = tuple((t, codes, z) for t, (codes, z) in enumerate(read.random or ()))
        columns = np.arange(read.X.shape[1])
        part, link = LinearPart(read.X, columns, read.offset, random), asked.transformed
    named = tuple((t, codes, z) for t, codes, z in part.random if (codes > -2).all())
    part = replace(part, random=named)
    rows, knowledge = _unit_knowledge(asked, part, gap)
    return Source(asked, grid.variables, grid, rows, grid.counts, link, link, knowledge)


def _unit_knowledge(asked: Asked, part: LinearPart, gap: Floats) -> tuple[Functions, Knowledge]:
    """Rows with the effects of their levels, known as well as predictions of them are."""
    fit = asked.fit
    known = fit._known_parameters() if isinstance(fit, LinearFit) else None
    found = unit_functions(fit.estimate, part, known)

    def joint(L: Floats, value: Floats) -> FTest:
        normal = wald_test(L, value, found.covariance)
        return f_tail(normal.statistic, normal.df1, found.denominator(L))

    rows = Functions(found.value, found.jacobian, gap)
    return rows, Knowledge(found.covariance, found.degrees, joint)


def _linear(asked: Asked) -> Knowledge:
    fit, df = asked.fit, asked.df
    beta = fit.estimate.beta

    def joint(L: Floats, value: Floats) -> FTest:
        found = fit._joint_test(L, L @ beta - value, df)
        if df not in (None, "satterthwaite"):
            return found
        return with_fixed_rows(found, fit.estimate, L, fit._known_parameters())

    return Knowledge(fit._covariance(df), lambda L: fit._hypotheses(L, 0.95, df).df, joint)


def _normal(covariance: Floats) -> Knowledge:
    """Parameters that are normal with this covariance."""
    return Knowledge(
        covariance,
        lambda L: np.full(len(L), np.inf),
        lambda L, value: wald_test(L, value, covariance),
    )


def _read(asked: Asked, part: str, grid: ReferenceGrid, random: bool) -> NewRows:
    """Matrices of one part at the grid's rows."""
    spec, table = asked.specifications[part], _table(grid)
    held = {key: v for key, v in grid.held.items() if key in _keys(spec)}
    X, kept = spec.recipe.fixed(table, held, unseen_is_missing=True)
    X[~kept] = 0.0  # what _gap marks
    offset = _offset(asked, spec, table, part)
    if not random:
        return NewRows(X, offset, None)
    terms = []
    for t, term in enumerate(spec.terms):
        z = spec.recipe.random_columns(_at_positions(spec, t, table), t, held)
        codes = np.full(grid.size, -1, dtype=np.int32)
        if asked.unit:
            columns = spec.factors[term.factor].columns
            inside = all(c in table for c in columns)
            codes = spec.recipe.levels_of(table, t) if inside else codes - np.int32(1)
        terms.append((codes, z))
    return NewRows(X, offset, terms)


def _at_positions(spec: Specification, t: int, table: Table) -> Table:
    """The table with a term's coordinates moved to the nearest that the fit has.

    The variance of these structures is the same at every position.
    """
    recipe, term = spec.recipe.random_recipes[t], spec.terms[t]
    names = [
        n.value for n in spec.recipe.model.bars[recipe.bar].left.variables if isinstance(n, Name)
    ]
    if recipe.positions is None or term.structure not in STATIONARY:
        return table
    if len(names) != recipe.positions.shape[1] or not all(name in table for name in names):
        return table
    here = np.column_stack([table.numeric(name) for name in names])
    far = ((here[:, None, :] - recipe.positions[None]) ** 2).sum(axis=2)
    nearest = recipe.positions[far.argmin(axis=1)]
    columns = {name: table.values(name) for name in table.columns}
    return Table.of({**columns, **dict(zip(names, nearest.T, strict=True))})


def _keys(spec: Specification) -> set[str]:
    model = spec.recipe.model
    return {*model.fixed.keys, *(key for bar in model.bars for key in bar.left.keys)}


def _offset(asked: Asked, spec: Specification, table: Table, part: str) -> Floats | None:
    if spec.offset is None:
        return None
    if asked.offset is not None and part in asked.own:
        return np.full(table.n_rows, asked.offset)
    if spec.recipe.offset_given:
        return np.full(table.n_rows, float(spec.offset.mean()))
    return spec.recipe.offset(table)


def _unseen(spec: Specification, grid: ReferenceGrid) -> Floats:
    """A column for each row at which the formula has no value, such as an unseen level."""
    held = {key: v for key, v in grid.held.items() if key in _keys(spec)}
    kept = spec.recipe.fixed(_table(grid), held, unseen_is_missing=True)[1]
    missing = np.flatnonzero(~kept)
    out = np.zeros((grid.size, len(missing)))
    out[missing, np.arange(len(missing))] = 1.0
    return out


def unseen_rows(asked: Asked, grid: ReferenceGrid) -> Floats:
    """A column for each row of the grid at which a part has no value, (G, m)."""
    found = [asked.specifications.get(name) for name in asked.own]
    return np.hstack([_none(grid), *(_unseen(spec, grid) for spec in found if spec is not None)])


def _none(grid: ReferenceGrid) -> Floats:
    return np.zeros((grid.size, 0))


def _gap(asked: Asked, grid: ReferenceGrid) -> Floats:
    """What the redundant columns say at each row beyond what the others say, (G, d)."""
    blocks = [_none(grid)]
    for name in asked.own:
        spec = asked.specifications.get(name)
        if spec is None:
            continue
        blocks.append(_unseen(spec, grid))
        if not spec.dropped_columns:
            continue
        recipe, data = spec.recipe, asked.fit.frame.data
        assert data is not None
        held = {key: v for key, v in grid.held.items() if key in _keys(spec)}
        full = recipe.fixed(_table(grid), held, redundant=True, unseen_is_missing=True)[0]
        full = np.nan_to_num(full)
        rows = recipe.fixed(data, redundant=True)[0]
        kept = asked.fit.frame.accounting.kept
        rows = rows if kept is None else rows[kept]
        kept_columns = np.array(recipe.kept, dtype=np.intp)
        left_out = np.setdiff1d(np.arange(full.shape[1]), kept_columns)
        A = redundancy(rows[:, kept_columns], rows[:, left_out])
        size = np.abs(rows[:, left_out]).max(axis=0)
        gap = full[:, left_out] - full[:, kept_columns] @ A
        blocks.append(gap / np.where(size > 0, size, 1.0))
    return np.hstack(blocks)
