"""`dynamic`: persons with inertia and residual standard deviation of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ranef import arguments
from ranef.design.call import ModelArguments
from ranef.display.progress import SearchBar
from ranef.errors import ConvergenceWarning, ModelError, warn
from ranef.fields.dynamic import storing  # noqa: F401
from ranef.fields.dynamic.fit import DynamicModelFit
from ranef.fields.dynamic.fitting import LINKS, estimated
from ranef.fields.dynamic.reading import Texts, read_parts
from ranef.tables.origin import Origin

__all__ = ["dynamic"]

STARTS = ("stationary", "given")


def dynamic(
    formula: str,
    data: Any,
    *,
    residual: str,
    inertia: str = "~ 1",
    dispersion: str = "~ 1",
    inputs: str | None = None,
    link: str | None = None,
    start: str = "stationary",
    quadrature: int | None = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    functions: Mapping[str, Callable[..., Any]] | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> DynamicModelFit:
    """Fit a mixed model whose persons have an inertia and a residual sd of their own.

    The response of person i at prompt t is a level plus a deviation that remembers,

    ``y[t] = level[t] + D[t]``, ``D[t] = phi[i] * D[t-1] + inputs[t] + e[t]``,
    ``e[t] ~ Normal(0, sigma[i]^2)``,

    where the level, phi and log sigma each have fixed effects and effects of persons, correlated
    where a label says so. The level is latent: the lagged outcome is centred at the person's
    true mean, not at that of a few prompts, so that the inertia has no Nickell bias. It is the
    two-level dynamic model of Mplus (DSEM), by maximum likelihood; without `inputs` the
    residual one (RDSEM).

    Parameters
    ----------
    formula : str
        Of the level: ``"mood ~ stress + (1 | p | person)"``.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays. Rows in any order.
    residual : str
        The process: ``"ar1(prompt | person)"`` over whole prompts, ``"ar1(prompt |
        person/day)"`` so that no deviation crosses a night, ``"ou(time | person)"`` by the clock
        (numbers, or times in hours). A prompt that was missed is a gap, over which the
        deviation fades and its variance grows.
    inertia : str
        Formula of phi on the scale of its link: ``"~ 1 + (1 | p | person)"``.
    dispersion : str
        Formula of log sigma, the standard deviation of what is new in one prompt (unit of time).
    inputs : str, optional
        Formula of what drives the process and is carried on by its inertia, as a predictor
        of a lagged-outcome model is; effects in `formula` last for their own prompt. Its
        intercept is left out. What came at prompts that were missed is not known: it counts as
        noise, whose variance (over sigma^2, less one) is a parameter.
    link : {"fisher-z", "identity", "logit"}, optional
        phi = tanh(eta), the default over prompts; phi = eta, normal between persons as in Mplus,
        with ``start="given"``; by the clock phi of one unit is 1 / (1 + exp(-eta)).
    start : {"stationary", "given"}
        Series begin in their stationary distribution, or their first rows are conditioned on.
    quadrature : int, optional
        Points along each random effect of inertia and dispersion; as many as settle the
        log-likelihood if not given.
    contrasts, missing, functions, n_jobs, progress
        As in `lmm`.

    Returns
    -------
    DynamicModelFit

    Raises
    ------
    ranef.errors.FormulaError
        A formula cannot be read or names an unknown column.
    ranef.errors.DataError
        Two rows of a series stand at one time, or no series has two rows.
    ranef.errors.ModelError
        The model cannot be fitted, or an argument is not valid.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The optimum is not proved, or the points of quadrature are too few.

    See Also
    --------
    glmm : location-scale models without memory, ``dispersion="~ 1 + (1 | p | person)"``.
    lmm : residuals with one memory for all, ``residual="ar1(prompt | person)"``.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(7)
    >>> N, T = 60, 40
    >>> phi, level = np.tanh(0.4 + 0.3 * rng.normal(size=N)), rng.normal(size=N)
    >>> D = np.zeros((N, T))
    >>> for t in range(T):
    ...     D[:, t] = (phi * D[:, t - 1] if t else 0) + rng.normal(size=N)
    >>> rows = {"person": np.repeat(np.arange(N), T), "prompt": np.tile(np.arange(T), N),
    ...         "mood": (level[:, None] + D).ravel()}
    >>> fit = ranef.dynamic("mood ~ 1 + (1 | p | person)", rows, residual="ar1(prompt | person)",
    ...                     inertia="~ 1 + (1 | p | person)", dispersion="~ 1 + (1 | p | person)")
    >>> fit.optimum.converged
    True
    >>> fit.tidy("variance")[["component", "parameter"]].iloc[:3].values.tolist()
    [['inertia', 'sd'], ['dispersion', 'sd'], ['conditional', 'sd']]
    """
    link = None if link is None else arguments.choice("link", link, tuple(LINKS))
    given = arguments.choice("start", start, STARTS) == "given"
    points = None if quadrature is None else arguments.count("quadrature", quadrature)
    for name, text in (("inertia", inertia), ("dispersion", dispersion), ("inputs", inputs)):
        if not (text is None and name == "inputs") and not (isinstance(text, str) and "~" in text):
            raise ModelError(f"{name} is a formula such as '~ 1 + (1 | p | person)', not {text!r}")
    call = ModelArguments(
        formula, data, residual=residual, dispersion=dispersion, contrasts=contrasts,
        missing=missing, functions=functions, n_jobs=n_jobs, progress=progress,
    )  # fmt: skip
    # columns with blanks are named in all formulas alike
    others = [
        ModelArguments(text, call.table).formula if text is not None else None
        for text in (inertia, inputs)
    ]
    texts = Texts(call.formula, str(call.residual), str(others[0]), call.dispersion, others[1])
    parts, accounting = read_parts(texts, call)
    with SearchBar(call.progress) as bar:
        estimate = estimated(
            parts, texts, link, given, points, call.n_jobs, bar if bar.shown else None
        )
    names = {name: None for spec in parts.values() for name in spec.recipe.columns}
    fit = DynamicModelFit(estimate, Origin.of(call.table, accounting, names))
    if not fit.optimum.converged or abs(fit.optimum.quadrature_error) > 1e-3:
        warn("; ".join(fit.doubts()) + "; see fit.optimum", ConvergenceWarning)
    return fit
