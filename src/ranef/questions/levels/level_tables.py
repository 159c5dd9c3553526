"""Tables of the levels of a factor: raw beside shrunken, reliability, covariances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.fits.determined import where_determined
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, require
from ranef.inference.undetermined import masked
from ranef.questions.levels import reliability as reliability_
from ranef.questions.levels.level_effects import effects_of
from ranef.questions.levels.place import Place, level_positions
from ranef.questions.levels.raw import raw_effects
from ranef.tables import make_table
from ranef.tables.origin import matrix

__all__ = ["reliability", "shrinkage", "vcov_by_level"]

Floats = NDArray[np.float64]


def _places(fit: MixedFit, group: str | None) -> Iterator[Place]:
    """The parts of the model in which a factor has random effects."""
    factor = fit.factor_number(group)
    for effects in effects_of(fit.estimate, factor):
        yield Place(fit, factor, effects.part)


def _keys(place: Place) -> dict[str, Any]:
    """Columns that name each row: coefficient by coefficient, level by level."""
    q, names = len(place.levels), place.names
    rows = q * len(names)
    return {
        **{name: [value] * rows for name, value in place.identity_columns.items()},
        "group": [place.group] * rows,
        "level": list(place.levels) * len(names),
        "term": [name for name in names for _ in range(q)],
    }


def _stacked(fit: MixedFit, tables: list[dict[str, Any]]) -> Any:
    joined: dict[str, Any] = {}
    for name in tables[0]:
        columns = [table[name] for table in tables]
        arrays = all(isinstance(column, np.ndarray) for column in columns)
        joined[name] = np.concatenate(columns) if arrays else [v for c in columns for v in c]
    return make_table(joined, fit.frame.library)


@where_determined
def shrinkage(fit: MixedFit, group: str | None = None, *, scale: str = "coefficient") -> Any:
    """Return raw estimates of each level beside shrunken ones.

    Parameters
    ----------
    group : str, optional
        Name of the grouping factor; may be left out when there is one.
    scale : {"coefficient", "effect"}
        Fixed plus random effect, or the random effect alone.

    Returns
    -------
    table
        ``group, level, term, raw, raw_std_error, estimate, std_error, centre``, led
        by ``component`` in generalised models. `raw` maximises the likelihood of the
        level's own rows, without pooling (least squares in a linear model); what
        else is in the model stays at its estimate. It is NaN where it does not
        exist: too few rows, a covariate that does not vary, or an estimate at
        infinity (no events). `centre` is what estimates are shrunken to.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> table = fit.shrinkage("Subject").query("term == 'Days'")
    >>> table[["level", "raw", "estimate", "centre"]].head(2).round(2)
       level    raw  estimate  centre
    18   308  21.76     19.67   10.47
    19   309   2.26      1.85   10.47
    """
    coefficient = arguments.choice("scale", scale, ("coefficient", "effect")) == "coefficient"
    fit = require(fit, "shrinkage()", Levelled)
    tables = []
    for place in _places(fit, group):
        raw = raw_effects(fit.inference, place.effects)
        what = place.effects.coefficients(with_fixed=coefficient)
        posterior = fit.inference.posterior(what)
        m = len(place.names)
        centre = what.X[:m] @ fit.estimate.coefficients
        tables.append(
            {
                **_keys(place),
                "raw": (raw.estimate + centre).T.ravel(),
                "raw_std_error": raw.std_error.T.ravel(),
                "estimate": posterior.mean.reshape(-1, m).T.ravel(),
                "std_error": posterior.sd.reshape(-1, m).T.ravel(),
                "centre": np.repeat(centre, len(place.levels)),
            }
        )
    return _stacked(fit, tables)


@where_determined
def reliability(fit: MixedFit, group: str | None = None, *, given: str = "parameters") -> Any:
    """Return how much of the variance of each effect is known, 1 - v / tau^2.

    Parameters
    ----------
    group : str, optional
        Name of the grouping factor; may be left out when there is one.
    given : {"parameters", "variance"}
        v is the variance of the effect given the parameters (`cond_sd` squared;
        Raudenbush & Bryk's reliability, n tau^2 / (n tau^2 + sigma^2) for a random
        intercept), or of the error of prediction (`std_error` squared).

    Returns
    -------
    table
        ``group, level, term, reliability, sd, tau``, led by ``component`` in
        generalised models; `sd` is the root of v. Where a level has several
        effects each has its own; they inform each other through their
        correlation. NaN where tau is zero.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> fit.reliability().head(2).round(3)
       group level         term  reliability      sd     tau
    0  Batch     A  (Intercept)        0.783  19.587  42.001
    1  Batch     B  (Intercept)        0.783  19.587  42.001
    """
    given = arguments.choice("given", given, ("parameters", "variance"))
    fit = require(fit, "reliability()", Levelled)
    tables = []
    for place in _places(fit, group):
        share = reliability_.reliability(fit.inference, place.effects, given)
        tables.append(
            {
                **_keys(place),
                "reliability": share.estimate.T.ravel(),
                "sd": np.sqrt(share.variance).T.ravel(),
                "tau": np.sqrt(share.prior).T.ravel(),
            }
        )
    return _stacked(fit, tables)


def vcov_by_level(fit: MixedFit, group: str | None = None, *, level: Any = None) -> Any:
    """Return the covariance matrices of the coefficients of `coef_by_level`.

    Parameters
    ----------
    group : str, optional
        Name of the grouping factor; may be left out when there is one.
    level : optional
        Only of this level, as a labelled matrix (of the mean's coefficients).

    Returns
    -------
    table
        ``group, level, term, term2, covariance``, led by ``component`` in
        generalised models; or one matrix. Fixed and random effects covary, and
        that is counted. See `ranef.posterior` for covariances between levels.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> fit.vcov_by_level("Subject", level="308").round(1)
                 (Intercept)  Days
    (Intercept)        150.2 -22.2
    Days               -22.2   5.5
    """
    fit = require(fit, "vcov_by_level()", Levelled)
    places, tables = list(_places(fit, group)), []
    other = getattr(fit, "equally_good", None)
    twins = places if other is None else list(_places(other, group))
    for place, twin in zip(places, twins, strict=True):
        names, m = place.names, len(place.names)
        rows = None
        if level is not None:
            rows = level_positions(place, [level])[0] * m + np.arange(m)
        values = _covariances(place, rows)
        if other is not None:
            values = np.asarray(masked(values, _covariances(twin, rows)))
        if level is not None:
            return matrix(values[0], names, names, fit.frame.library)
        part = {name: [value] * values.size for name, value in place.identity_columns.items()}
        tables.append(part | place.covariance_columns(place.levels, names, values))
    return _stacked(fit, tables)


def _covariances(place: Place, rows: NDArray[np.intp] | None) -> Floats:
    """Covariance matrices of the coefficients of each level, or of those at `rows` alone."""
    posterior = place.fit.inference.posterior(place.effects.coefficients(with_fixed=True))
    taken = posterior if rows is None else posterior.take(rows)
    return taken.covariances(len(place.names))
