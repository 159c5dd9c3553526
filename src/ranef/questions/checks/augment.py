"""`fit.augment`: the rows with what the fit says of each, their influence on it included."""

from __future__ import annotations

from typing import Any

from ranef import arguments
from ranef.fits.protocol import Likelihood, require
from ranef.questions.checks import influence_numbers, leverage

__all__ = ["augment"]


def augment(fit: Any, data: Any = None, *, influence: bool = False) -> Any:
    """Return the rows with what the fit says of each.

    Parameters
    ----------
    data : table, optional
        The table that was fitted: its columns come first. Without it the
        response and the grouping factors do.
    influence : bool
        Add ``hat``, the leverage of the row in the conditional fit (in a generalised
        model that of the working linear model), and ``cooksd``, its Cook's distance at
        the estimate's theta; see `ranef.influence`.

    Returns
    -------
    table
        One row for each row of the user's table, ending in ``fitted,
        typical, residual, pearson``: the conditional fitted value, the one
        without random effects, the response residual and the Pearson
        residual (see `fitted` and `residuals`); for a response of categories in
        the fitted probability of each, ``fitted_<category>``. NaN in rows that
        were dropped.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    >>> fit.augment().columns.tolist()
    ['Reaction', 'Subject', 'fitted', 'typical', 'residual', 'pearson']
    >>> cbpp = ranef.data.load("cbpp")
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp,
    ...                  family="binomial")
    >>> fit.augment(cbpp).columns.tolist()[-4:]
    ['fitted', 'typical', 'residual', 'pearson']
    """
    fit = require(fit, "augment()")
    columns = dict(fit.row_columns())
    if arguments.flag("influence", influence):
        fit = require(fit, "augment(influence=True)", Likelihood)
        columns["hat"] = leverage.leverage(fit.inference).hat
        columns["cooksd"] = influence_numbers.influence_of_rows(fit.inference).cook
    return fit.augmented(data, columns)
