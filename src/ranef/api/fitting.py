"""`lmm` fits a linear mixed model; `plan` says what that would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ranef.api import checks
from ranef.api.frame import Frame
from ranef.api.linear import LinearMixedModelFit
from ranef.api.mixed import warn_unless_proved
from ranef.api.progress import SearchBar
from ranef.tables import Table

if TYPE_CHECKING:
    from ranef.solve.forecast import Plan

__all__ = ["lmm", "plan"]

PATHS = ("single", "nested", "crossed")
MISSING = ("drop", "raise")


def lmm(
    formula: str,
    data: Any,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    path: str | None = None,
    start: Any = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> LinearMixedModelFit:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        As in lme4: ``"y ~ x + (x | g)"``. It is data, never run as code.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays.
    reml : bool
        Maximise the restricted likelihood (True) or the likelihood.
    weights : str or (n,) array, optional
        Precision weights, Var(e_i) = sigma^2 / w_i: a column or one value a
        row. They are not counts of equal rows, and rescaling all of them
        rescales sigma^2 and changes nothing else.
    offset : str or (n,) array, optional
        Added to the linear predictor with coefficient 1.
    contrasts : dict, optional
        Column -> coding of its categories, such as ``{"period": "contr.sum"}``;
        treatment coding otherwise, of ordered categories too.
    missing : {"drop", "raise"}
        What to do with rows that lack a value: leave them out and report them
        by column, or refuse.
    kernels : dict, optional
        Name -> labelled matrix for ``kernel(1 | id, K)``.
    functions : dict, optional
        Name -> function of an array that the formula may use.
    path : {"single", "nested", "crossed"}, optional
        Force a way of solving; by default the one of least predicted cost.
    start : array, optional
        Relative covariance parameters to start from, see `Optimum.theta`.
    n_jobs : int, optional
        Threads; None for all that this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    LinearMixedModelFit

    Raises
    ------
    ranef.errors.FormulaError
        The formula cannot be read or names an unknown column.
    ranef.errors.DataError
        The table holds what the model cannot use.
    ranef.errors.ModelError
        The model cannot be fitted, or an argument is not valid.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The search ended without a proof that it stands at the optimum.

    See Also
    --------
    plan : the cost of a fit before it runs.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    >>> round(fit.loglik, 3)
    -871.814
    """
    from ranef.models.lmm import fit_lmm

    restricted = checks.flag("reml", reml)
    chosen = None if path is None else checks.choice("path", path, PATHS)
    theta = checks.start(start)
    jobs = None if n_jobs is None else checks.count("n_jobs", n_jobs)
    bar = checks.optional_flag("progress", progress)
    table, spec = _specify(formula, data, weights, offset, contrasts, missing, kernels, functions)
    with SearchBar(bar) as watch:
        estimate = fit_lmm(
            spec,
            reml=restricted,
            path=chosen,
            start=theta,
            n_jobs=jobs,
            progress=watch if watch.shown else None,
        )
    warn_unless_proved(estimate)
    return LinearMixedModelFit(estimate, Frame.of(table, spec.accounting))


def plan(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    path: str | None = None,
) -> Plan:
    """Say what a fit would cost before it runs: blocks, memory, flops, chosen path.

    Takes the arguments of `lmm` that shape the model.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> ranef.plan("Reaction ~ Days + (Days | Subject)", sleep).path
    'single'
    """
    from ranef.solve import forecast

    chosen = None if path is None else checks.choice("path", path, PATHS)
    _, spec = _specify(formula, data, weights, offset, contrasts, missing, kernels, functions)
    return forecast.plan(spec, path=chosen)


def _specify(
    formula: str,
    data: Any,
    weights: Any,
    offset: Any,
    contrasts: Mapping[str, Any] | None,
    missing: str,
    kernels: Mapping[str, Any] | None,
    functions: Mapping[str, Callable[..., Any]] | None,
) -> tuple[Table, Any]:
    """Read the table once and turn it into a specification."""
    from ranef.design import specify

    text = checks.formula(formula)
    checks.choice("missing", missing, MISSING)
    table = Table.of(data)
    spec = specify(
        text,
        table,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        missing=missing,
        kernels=kernels,
        functions=functions,
    )
    return table, spec
