"""`sem`: structural equation models of one and several levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import SearchBar
from ranef.elsewhere import argument_hint
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    FormulaWarning,
    ModelError,
    suggestion,
    warn,
)
from ranef.fields.structural import page, storing  # noqa: F401
from ranef.fields.structural.estimate import SE, estimated
from ranef.fields.structural.fit import StructuralModelFit
from ranef.fields.structural.model import Model, Request
from ranef.fields.structural.mplus import is_mplus, read_mplus
from ranef.fields.structural.parameters import CLASSES
from ranef.fields.structural.reading import MISSING, read_values, refuse_matrix
from ranef.fields.structural.syntax import Syntax, read_syntax
from ranef.formula.labels import count_text
from ranef.solve.resources import available_cores
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["sem"]

ESTIMATORS = ("ML", "MLR", "MLM")
INFORMATION = ("default", "expected", "observed")
BOUNDS = ("pos_var",)
MOST_NODES = 501
FARTHEST = 1e9
"""Ratio of standard deviations of indicators above which their matrix has no digits left."""
LARGEST = 1e60
"""Standard deviation whose powers are no numbers any more, as those of its inverse are."""
ABSENT = {
    "ordered": "indicators are numbers here, categorical ones are not offered",
    "weights": "sampling weights are not offered",
    "sampling_weights": "sampling weights are not offered",
    "sampling.weights": "sampling weights are not offered",
    "meanstructure": "the means are always part of the model",
}
RENAMED = {
    "fixed.x": "fixed_x", "std.lv": "std_lv", "group.equal": "group_equal",
    "group.partial": "group_partial",
}  # fmt: skip


def sem(
    model: str,
    data: Any,
    *,
    cluster: str | Sequence[str] | None = None,
    group: str | None = None,
    estimator: str = "ML",
    missing: str = "listwise",
    se: str = "default",
    information: str = "default",
    fixed_x: bool = True,
    std_lv: bool = False,
    group_equal: str | Sequence[str] = (),
    group_partial: str | Sequence[str] = (),
    quadrature: int = 15,
    bounds: str | None = None,
    start: Mapping[str, float] | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
    **unknown: Any,
) -> StructuralModelFit:
    """Fit a structural equation model, of one level or several, by full maximum likelihood.

    The model is written in lavaan's language. Under ``level: 1`` and ``level: 2`` (and further)
    stand the parts within and between units; a variable under both is decomposed into the two by
    the model itself, so that few rows a unit do not bias the part between.

    Parameters
    ----------
    model : str
        In lavaan's language, or the input of Mplus with its ``MODEL:``. ``=~`` is measured by,
        ``~`` is regressed on, ``~~`` covaries with, ``~ 1`` intercepts;
        ``a*x`` labels, ``0*x`` fixes, ``NA*x`` frees, ``start(0.5)*x`` starts, ``rv("s")*x``
        makes a slope random; ``:= == < >`` define and constrain.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays. Rows in any order.
    cluster : str or list of str, optional
        Column of the units, or of the units of each level from the innermost:
        ``["class", "school"]``. Where the model has no levels, ``"ML"`` becomes ``"MLR"`` with
        errors that allow for what rows of a unit share (``se="standard"`` leaves it).
    group : str, optional
        Column of groups with parameters of their own.
    estimator : {"ML", "MLR", "MLM"}
        Maximum likelihood; with errors from the units' scores and a scaled test (Yuan & Bentler,
        as Mplus); with those of Satorra and Bentler (complete data of one level).
    missing : {"listwise", "fiml", "raise"}
        Leave incomplete rows out, use what they have (full information maximum likelihood, at
        every level), or refuse them.
    se : {"default", "standard", "robust.huber.white", "robust.sem", "first.order", "none"}
        Where standard errors come from; the default is the estimator's.
    information : {"default", "expected", "observed"}
        The default is expected of complete data in one level, else observed. Expected is given
        which values are missing; there is none for slopes of latent variables.
    fixed_x : bool
        Hold covariates of one level at their own moments, so that the likelihood is conditional
        on them. Covariates that are decomposed are random in any case.
    std_lv : bool
        Fix variances of latent variables at one instead of their first loadings.
    group_equal : sequence of str
        Equal in all groups: ``"loadings", "intercepts", "means", "residuals",
        "residual_covariances", "lv_variances", "lv_covariances", "regressions"``.
    group_partial : sequence of str
        Exceptions, such as ``"f=~y3"`` or ``"y2~1"``.
    quadrature : int
        Nodes for each random slope of a latent variable, ``rv("s")*f``, adapted to each unit;
        used by models with such slopes alone. The error they leave is in
        ``fit.optimum.quadrature_error``.
    bounds : {"pos_var"}, optional
        Keep variances from below zero. By default they are free, and one below zero is reported.
    start : dict, optional
        Starting values by name, as in ``fit.coef``.
    n_jobs : int, optional
        Threads; None for all that this process may use.
    progress : bool, optional
        Show how the search goes on; None (the default) where it lasts longer than a second and a
        person looks.

    Returns
    -------
    StructuralModelFit

    Raises
    ------
    ranef.errors.FormulaError
        The model cannot be read.
    ranef.errors.DataError
        A variable stands at the wrong level, does not vary, or no row is left.
    ranef.errors.ModelError
        An argument is not valid, or the model cannot be fitted.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The optimum is not proved.
    ranef.errors.FormulaWarning
        A label is also the name of a column, as if a product were meant.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(3)
    >>> person = np.repeat(np.arange(80), 10)
    >>> stress = rng.normal(size=80)[person] + rng.normal(size=800)
    >>> rows = {"person": person}
    >>> rows |= {f"s{k}": stress + rng.normal(size=800) for k in (1, 2, 3)}
    >>> fit = ranef.sem('''
    ...     level: 1
    ...       within =~ s1 + s2 + s3
    ...     level: 2
    ...       between =~ s1 + s2 + s3
    ... ''', rows, cluster="person")
    >>> fit.optimum.message, fit.n_groups, fit.fit_measures().df[0].item()
    ('optimum proved', {'person': 80}, 0)
    """
    for name in unknown:
        known = [p.name for p in signature(sem).parameters.values() if p.kind is p.KEYWORD_ONLY]
        if name in ABSENT:
            raise ModelError(f"sem() has no argument {name!r}: {ABSENT[name]}")
        renamed = name in RENAMED
        hint = f"; did you mean {RENAMED[name]}?" if renamed else argument_hint("sem", name, known)
        raise ModelError(f"sem() has no argument {name!r}{hint}")
    request = read_request(
        model, cluster, group, estimator, missing, se, information, fixed_x, std_lv, group_equal,
        group_partial, bounds, quadrature,
    )  # fmt: skip
    table = Table.of(data)
    refuse_matrix(table)
    syntax = read_syntax(request.model)
    values = read_values(syntax, table, request.cluster, request.group)
    _warn_of_products(syntax, table)
    leveled = any(b.level is not None for b in syntax.blocks)
    if leveled and not request.cluster:
        raise ModelError("the model has levels; give the column of the units as cluster=")
    if request.cluster and not leveled and (request.estimator, request.se) == ("ML", "default"):
        request = replace(request, estimator="MLR")  # rows of a unit are not independent
    threads = available_cores(None if n_jobs is None else arguments.count("n_jobs", n_jobs))
    made = Model(request, values, threads)
    _check(made)
    with SearchBar(arguments.optional_flag("progress", progress)) as watch:
        estimate = estimated(made, _start(start, made), watch if watch.shown else None)
    if not np.isfinite(estimate.end.value):
        raise ModelError(
            "the likelihood has no value at any start that was tried: look for variables that are "
            "sums of others, and for variances near zero"
        )
    estimate.information_kind  # noqa: B018 - refuses what is not offered
    if not estimate.end.converged:
        warn(f"{estimate.end.message}; see fit.optimum and fit.doubts()", ConvergenceWarning)
    columns = [*values.columns, *request.cluster, *([request.group] if request.group else [])]
    return StructuralModelFit(estimate, Origin.of(table, made.rows.accounting, columns))


def _warn_of_products(syntax: Syntax, table: Table) -> None:
    """Say that ``y ~ x*z`` labels the slope of z, where x is a column."""
    columns = set(table.columns)
    texts = " ".join(c.text for c in (*syntax.constraints, *syntax.defined))
    found = [
        (s, label) for b in syntax.blocks for s in b.statements for label in s.modifiers.labels
    ]
    counts = Counter(label for _, label in found)
    for statement, label in found:
        known = label in columns and counts[label] == 1 and label not in texts
        if known and statement.op == "~" and statement.rhs in columns:
            warn(
                f"line {statement.line} of the model: {label}*{statement.rhs} is the effect of "
                f"{statement.rhs} with the label {label!r}, which is a column too; the product of "
                "two variables is a column of its own",
                FormulaWarning,
            )


def read_request(
    model: Any, cluster: Any, group: Any, estimator: Any, missing: Any, se: Any, information: Any,
    fixed_x: Any, std_lv: Any, group_equal: Any, group_partial: Any, bounds: Any,
    quadrature: Any = 15,
) -> Request:  # fmt: skip
    """Check the arguments of a fit."""
    if isinstance(model, PathLike):
        raise ModelError(
            f"the model is text, and {str(model)!r} is the path of a file: read it first, as in "
            f"open({str(model)!r}).read()"
        )
    if not isinstance(model, str):
        from ranef.errors import FormulaError

        raise FormulaError(
            "the model must be text such as 'f =~ y1 + y2 + y3', not "
            f"{type(model).__name__}; the order is model, then data"
        )
    if is_mplus(model):
        model = read_mplus(model)
    equal = tuple(name.replace(".", "_") for name in _names("group_equal", group_equal))
    for name in equal:
        arguments.choice("group_equal", name, CLASSES)
    partial = _names("group_partial", group_partial)
    if (equal or partial) and group is None:
        raise ModelError("group_equal and group_partial need groups: give the column as group=")
    return Request(
        model, _names("cluster", cluster), group,
        arguments.choice("estimator", estimator, ESTIMATORS),
        arguments.choice("missing", "fiml" if missing in ("ml", "direct") else missing, MISSING),
        arguments.choice("se", se, ("default", *SE)),
        arguments.choice("information", information, INFORMATION),
        arguments.flag("fixed_x", fixed_x), arguments.flag("std_lv", std_lv), equal, partial,
        bounds=None if bounds is None else arguments.choice("bounds", bounds, BOUNDS),
        quadrature=_nodes(quadrature),
    )  # fmt: skip


def _nodes(quadrature: Any) -> int:
    nodes = arguments.count("quadrature", quadrature)
    if not 3 <= nodes <= MOST_NODES:
        raise ModelError(f"quadrature={nodes}: between 3 and {MOST_NODES} nodes a random slope")
    return nodes


def _names(argument: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise ModelError(f"{argument} must be a name or a list of names, not {value!r}")
    if len(set(value)) != len(value):
        raise ModelError(f"{argument} names {value!r}, one of them twice")
    return tuple(value)


def _start(start: Any, model: Model) -> dict[str, float] | None:
    given = arguments.mapping("start", start, "{'f=~y2': 0.8}")
    names = model.table.free_names
    for name, value in given.items():
        if name not in names:
            raise ModelError(f"start: no free parameter {name!r}{suggestion(str(name), names)}")
        arguments.number(f"start[{name!r}]", value)
    return {str(k): float(v) for k, v in given.items()} or None


def _check(model: Model) -> None:
    """Refuse what the estimator is not for, and data that cannot answer."""
    request = model.request
    if model.table.size == 0:
        raise ModelError("every parameter of the model is fixed; there is nothing to estimate")
    moments = request.estimator == "MLM" or request.se == "robust.sem"
    if moments and (model.levels > 1 or not model.complete):
        raise ModelError("estimator='MLM' is for complete data of one level; 'MLR' is for all")
    for group in model.main.groups:
        for k, level in enumerate(group.data.levels):
            if level.units < 2:
                name = request.cluster[k]
                raise DataError(
                    f"{name!r} has {count_text(level.units, 'unit')}; levels need at least two"
                )
        values, names = group.data.y, group.coordinates.y
        spread = np.nanmax(values, axis=0) - np.nanmin(values, axis=0) if len(values) else []
        for name, width in zip(names, spread, strict=True):
            if not width > 0:
                raise DataError(f"column {name!r} has one value in all rows; leave it out")
        held = set(model.table.names[group.g, 1].fixed)
        own = [k for k, name in enumerate(names) if name not in held]
        _check_scales([names[k] for k in own], values[:, own])
        if group.data.levels and (group.data.sizes <= 1).all():
            raise DataError(
                f"every unit of {request.cluster[0]!r} has one row, so nothing varies within them"
            )


def _check_scales(names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Refuse variables whose units are too far apart for one matrix."""
    if len(values) < 2 or not len(names):
        return
    spread = np.nanstd(values, axis=0)
    large, small = int(spread.argmax()), int(spread.argmin())
    for k in (large, small):
        if not 1 / LARGEST < spread[k] < LARGEST:
            raise DataError(
                f"the standard deviation of {names[k]!r} is {spread[k]:.1g}, whose powers are no "
                "numbers any more; give it in other units"
            )
    if spread[large] > FARTHEST * spread[small]:
        raise DataError(
            f"the standard deviations of {names[large]!r} ({spread[large]:.1g}) and "
            f"{names[small]!r} ({spread[small]:.1g}) are more than {FARTHEST:.0e} times apart, "
            "which one covariance matrix cannot hold; give them in other units"
        )
