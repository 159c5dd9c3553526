"""`pool`: fits of imputed tables as one fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ranef import arguments
from ranef.api.questions import Questions
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError
from ranef.fits.pooled import PooledFits
from ranef.fits.protocol import Estimating, require
from ranef.storage import register

__all__ = ["PooledFit", "pool"]


@explained_methods
class PooledFit(Questions, PooledFits):
    """Fits of one model to imputed tables, as one; `ranef.pool` makes it.

    It answers what rests on coefficients: `tidy`, `test`, `contrast`, `emmeans`, `contrasts`,
    `joint_tests`, `predict(kind="typical")`; means are those at random effects of zero.

    Attributes
    ----------
    fits : tuple of fits
    df_complete : float or None
    frame : Origin
        Of the first fit.

    Examples
    --------
    See `ranef.pool`.
    """

    file_kind = "pooled"


register(PooledFit)


def pool(fits: Iterable[Any] | Mapping[Any, Any], *, df_complete: float | None = None) -> PooledFit:
    """Pool fits of one model to imputed tables, by Rubin's rules.

    Parameters
    ----------
    fits : iterable or dict of fits
        Of `lmm`, `glmm`, or another function of ranef, two or more: each of the same model, to
        a table whose missing values have been filled in by a draw.
    df_complete : float, optional
        Degrees of freedom that the tests would have with complete data. Without it each
        coefficient or contrast has those of the fits, on average (Satterthwaite's, or of the
        method that `df` names; infinite in a generalised model).

    Returns
    -------
    PooledFit
        A fit like any other: ``tidy()`` (with ``riv`` and ``fmi``), ``test([...])`` (the pooled
        test D1), ``emmeans``, ``contrasts``.

    Raises
    ------
    ranef.errors.ModelError
        There are fewer than two fits, or they are not of one model or not of equally many rows.

    Notes
    -----
    Covariance W + (1 + 1/m) B (Rubin 1987); degrees of freedom of Barnard and Rubin (1999), of
    tests of several coefficients (D1: Li, Raghunathan and Rubin 1991) Reiter's (2007). Marginal
    means hold covariates at their means in the first table.

    Examples
    --------
    Responses missing at random, drawn five times given those that are there:

    >>> import numpy as np, ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> gone = np.random.default_rng(1).random(len(sleep)) < 0.2
    >>> model = "Reaction ~ Days + (1 | Subject)"
    >>> seen = ranef.lmm(model, sleep[~gone])
    >>> draws = seen.simulate(5, rng=1, new=sleep, kind="posterior", parameters="draw")
    >>> pooled = ranef.pool(
    ...     ranef.lmm(model, sleep.assign(Reaction=sleep["Reaction"].where(~gone, draws[name])))
    ...     for name in draws)
    >>> pooled.tidy()[["term", "estimate", "std_error", "df", "fmi"]].round(3)
              term  estimate  std_error      df    fmi
    0  (Intercept)   251.387     10.218  17.727  0.211
    1         Days    10.499      0.981  34.865  0.320
    """
    fits = fits.values() if isinstance(fits, Mapping) else fits
    given = list(fits) if isinstance(fits, Iterable) else [fits]
    if len(given) < 2:
        raise ModelError(f"pool() takes the fits of two or more imputed tables, not {len(given)}")
    for fit in given:
        require(fit, "pool()", Estimating)
    first = given[0]
    names = [label.full for label in first.labels]
    for k, fit in enumerate(given[1:], 1):
        other = [label.full for label in fit.labels]
        if other != names:
            odd = [name for name in (*names, *other) if (name in names) != (name in other)]
            raise ModelError(
                "pool() takes fits of one model: fit 0 and fit "
                f"{k} differ in their coefficients{f', such as {odd[0]!r}' if odd else ''}; give "
                "the tables the same levels"
            )
        if (fit.formula, fit.family.name, fit.family.link) != (
            first.formula, first.family.name, first.family.link,
        ):  # fmt: skip
            raise ModelError(f"pool() takes fits of one model: fit {k} is of {fit.formula!r}")
    counts = [int(fit.n_obs) for fit in given]
    for k, count in enumerate(counts):
        if count != counts[0]:
            raise ModelError(
                "pool() takes fits of completed tables of the same rows: fit 0 has "
                f"{counts[0]:,} and fit {k} has {count:,}; fill in, or leave out, the same rows "
                "in each table"
            )
    if df_complete is not None:
        df_complete = arguments.number("df_complete", df_complete)
        if not df_complete > 0:
            raise ModelError(f"df_complete must be above zero, not {df_complete:g}")
    return PooledFit(tuple(given), df_complete, first.frame)
