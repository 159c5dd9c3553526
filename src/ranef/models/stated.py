"""An estimate at parameters that are stated instead of estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import lower_entries, lower_factor, structure_of
from ranef.covariance.between_rows import Unstructured
from ranef.design.terms import RandomTerm, ResidualTerm
from ranef.errors import ModelError, suggestion
from ranef.models.labels import coefficient_labels
from ranef.models.records import Estimate, theta_slices
from ranef.solve.structured.rows import row_covariance

__all__ = ["stated", "stated_residual"]

Floats = NDArray[np.float64]
Given = Mapping[str, Any]

RESIDUAL = "residual"
SIZES = frozenset(("sd", "factor", "loading"))
"""Kinds of entries of theta that are relative to the residual standard deviation."""


def stated(
    estimate: Estimate,
    *,
    fixed: Mapping[str, float],
    sd: Given,
    corr: Given,
    sigma: float | None,
    whole: bool,
) -> Estimate:
    """Return the estimate with other parameters; its modes are not to be read.

    Parameters
    ----------
    fixed : mapping of str to float
        Coefficients by name.
    sd : mapping
        Group, or label of a random term -> its standard deviation; of several columns a
        sequence or a mapping by name. ``"residual"`` -> those of residuals with a structure.
    corr : mapping
        The same -> one correlation of all columns, their matrix, or the parameters of a
        structure that are no standard deviation.
    sigma : float or None
        Residual standard deviation.
    whole : bool
        What is not named is zero (a coefficient, a correlation) or missing (a standard
        deviation); otherwise it stays.
    """
    names = [label.full for label in coefficient_labels(estimate)]
    odd = [name for name in fixed if name not in names]
    if odd:
        raise ModelError(
            f"fixed: the model has no coefficient {odd[0]!r}{suggestion(odd[0], names)}; it has "
            f"{', '.join(map(repr, names))}"
        )
    b = np.zeros(len(names)) if whole else estimate.coefficients.copy()
    for name, value in fixed.items():
        b[names.index(name)] = value
    if sigma is not None and estimate.sigma is None:
        raise ModelError(
            "sigma= is for linear models; of a generalised one state the coefficients of its "
            "parts in fixed=, such as {'dispersion: (Intercept)': ...}"
        )
    if sigma is None and whole and estimate.sigma is not None:
        raise ModelError("state the residual standard deviation: sigma=")
    scale = estimate.sigma if sigma is None else sigma
    sd, corr = dict(sd), dict(corr)
    own_sd, own_corr = sd.pop(RESIDUAL, None), corr.pop(RESIDUAL, None)
    places = _places(estimate, "sd", sd), _places(estimate, "corr", corr)
    theta, covariances = estimate.theta.copy(), []
    resized = (estimate.sigma or 1.0) / (scale or 1.0)
    for t, (term, own) in enumerate(zip(estimate.terms, theta_slices(estimate), strict=True)):
        if whole or t in places[0] or t in places[1]:
            now = None if whole else estimate.covariances[t]
            theta[own] = _theta(term, places[0].get(t), places[1].get(t), now, scale or 1.0)
        else:
            kinds = [p.kind in SIZES for p in structure_of(term).parameters(term.names)]
            theta[own] *= np.where(kinds, resized, 1.0)
        covariances.append((scale or 1.0) ** 2 * structure_of(term).psi(theta[own]))
    residual = estimate.specification.residual
    if residual is None and (own_sd is not None or own_corr is not None):
        raise ModelError("the residuals have no structure: state their standard deviation, sigma=")
    if residual is not None and (whole or own_sd is not None or own_corr is not None):
        count = row_covariance(residual).n_parameters
        theta[len(theta) - count :] = stated_residual(residual, own_sd, own_corr, scale or 1.0)
    return replace(
        estimate, coefficients=b, theta=theta, sigma=scale, covariances=tuple(covariances)
    )


def _places(estimate: Estimate, argument: str, given: Given) -> dict[int, Any]:
    """Values by the number of the term that each names."""
    terms, factors = estimate.terms, estimate.factors
    out = {}
    for name, value in given.items():
        found = [t for t, term in enumerate(terms) if term.label == name]
        found = found or [t for t, term in enumerate(terms) if factors[term.factor].name == name]
        # Groups in groups by either name: day:person, person:day, person/day.
        inside = sorted(str(name).replace("/", ":").split(":"))
        found = found or [
            t for t, term in enumerate(terms) if sorted(factors[term.factor].columns) == inside
        ]
        if len(found) != 1:
            labels = [term.label for term in terms]
            hint = "several random terms have" if found else "no random term has"
            raise ModelError(
                f"{argument}: {hint} the group or label {name!r}; name one of "
                f"{', '.join(map(repr, labels))}"
            )
        out[found[0]] = value
    return out


def _theta(term: RandomTerm, sd: Any, corr: Any, now: Floats | None, scale: float) -> Floats:
    """Covariance parameters of one term, relative to `scale`."""
    structure = structure_of(term)
    kinds = [p.kind for p in structure.parameters(term.names)]
    if term.structure == "rr":
        raise ModelError(f"the loadings of ({term.label}) cannot be stated: give a fit")
    if sd is None and now is None:
        raise ModelError(f"state the standard deviation of ({term.label}): sd={{...}}")
    if "factor" in kinds:
        psi = _covariance(term, sd, corr, now)
        return np.asarray(lower_factor(psi / scale**2)[lower_entries(term.size)])
    n_sds = kinds.count("sd")
    sds = _sds(term, sd, n_sds) if sd is not None else _current(now, n_sds)
    rest = np.atleast_1d(np.asarray(0.0 if corr is None else corr, dtype=np.float64)).ravel()
    if len(kinds) > n_sds and len(rest) not in (1, len(kinds) - n_sds):
        raise ModelError(
            f"corr: ({term.label}) has {len(kinds) - n_sds} parameters beside its standard "
            f"deviations, not {len(rest)}"
        )
    return np.concatenate([sds / scale, np.broadcast_to(rest, len(kinds) - n_sds)])


def _current(now: Floats | None, count: int) -> Floats:
    assert now is not None
    return np.sqrt(np.diag(now))[:count]


def _sds(term: RandomTerm, sd: Any, count: int) -> Floats:
    """Standard deviations (count,) of a term's columns."""
    if isinstance(sd, Mapping):
        odd = [name for name in sd if name not in term.names]
        missing = [name for name in term.names if name not in sd]
        if odd or missing:
            raise ModelError(
                f"sd: ({term.label}) has the columns {', '.join(map(repr, term.names))}; "
                f"{'not ' + repr(odd[0]) if odd else repr(missing[0]) + ' is not stated'}"
            )
        sd = [sd[name] for name in term.names]
    values = np.atleast_1d(np.asarray(sd, dtype=np.float64))
    if len(values) not in (1, count) or (len(values) == 1 and count > 1 and term.size > 1):
        raise ModelError(
            f"sd: ({term.label}) has {count} standard deviations "
            f"({', '.join(map(repr, term.names))}), not {len(values)}"
        )
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ModelError(f"sd: the standard deviations of ({term.label}) must be 0 or more")
    return values


def _covariance(term: RandomTerm, sd: Any, corr: Any, now: Floats | None) -> Floats:
    """Psi of an unstructured term."""
    r = term.size
    sds = _sds(term, sd, r) if sd is not None else _current(now, r)
    R = np.eye(r)
    if corr is not None:
        R = _correlations(term, corr)
    elif now is not None:
        size = np.sqrt(np.diag(now))
        with np.errstate(invalid="ignore", divide="ignore"):
            R = np.where(np.outer(size, size) > 0, now / np.outer(size, size), np.eye(r))
    return np.asarray(np.outer(sds, sds) * R)


def _correlations(term: RandomTerm, corr: Any) -> Floats:
    values, r = np.asarray(corr, dtype=np.float64), term.size
    R = values if values.ndim == 2 else np.eye(r) + values * (1.0 - np.eye(r))
    sound: Sequence[bool] = (R.shape == (r, r), bool(np.isfinite(R).all()))
    if not all(sound) or float(np.linalg.eigvalsh(R)[0]) < -1e-10 or np.any(np.diag(R) != 1.0):
        raise ModelError(
            f"corr: that is no correlation matrix of the {r} columns of ({term.label})"
        )
    return np.asarray(R)


def stated_residual(term: ResidualTerm, sd: Any, corr: Any, sigma: float) -> Floats:
    """Parameters of residuals with a structure.

    Parameters
    ----------
    term : ResidualTerm
    sd : sequence, mapping or None
        Standard deviation of each place or level that has one beside the first, whose is
        sigma; powers and exponents of a dispersion are among them. All are sigma without it.
        Of an unstructured covariance those of all places.
    corr : float, sequence or matrix
        Parameters of the correlation in the order of ``tidy("variance")``; of an unstructured
        covariance one correlation, or their matrix.
    sigma : float
    """
    rows = row_covariance(term)
    parts = [part for level in rows.correlations for part in level]
    if len(parts) == 1 and isinstance(parts[0], Unstructured):
        return _unstructured(parts[0], sd, corr, sigma)
    names = [scale.name for scale in term.scales]
    if isinstance(sd, Mapping):
        if set(sd) != set(names):
            raise ModelError(
                f"sd: the residuals have standard deviations of {names}, not {list(sd)}"
            )
        sd = [sd[name] for name in names]
    given = np.full(len(names), sigma) if sd is None else np.atleast_1d(np.asarray(sd, dtype=float))
    if len(given) != len(names):
        raise ModelError(
            f"sd: beside sigma the residuals have {len(names)} parameters of their standard "
            f"deviations ({', '.join(map(repr, names))}), not {len(given)}"
        )
    scales = [
        float(np.log(value / sigma)) if scale.parameter == "sd" else 0.0 if sd is None else value
        for scale, value in zip(term.scales, given.tolist(), strict=True)
    ]
    count = rows.n_parameters - len(names)
    rest = np.atleast_1d(np.asarray(np.nan if corr is None else corr, dtype=float)).ravel()
    if count and (corr is None or len(rest) not in (1, count)):
        raise ModelError(
            f"state the {count} parameters of the residuals' correlation: corr={{'residual': ...}}"
        )
    return np.concatenate([scales, np.broadcast_to(rest, count) if count else np.empty(0)])


def _unstructured(part: Unstructured, sd: Any, corr: Any, sigma: float) -> Floats:
    """Entries of an unstructured covariance, relative to sigma^2."""
    r, names = len(part.names), part.names
    if isinstance(sd, Mapping):
        sd = [sd.get(name, np.nan) for name in names]
    sds = np.full(r, sigma) if sd is None else np.atleast_1d(np.asarray(sd, dtype=float))
    if sds.shape != (r,) or not np.all(sds > 0) or abs(sds[0] - sigma) > 1e-12 * sigma:
        raise ModelError(
            f"sd: give one above zero for each of {', '.join(map(repr, names))}, the first sigma"
        )
    if corr is None:
        raise ModelError("state the residuals' correlations: corr={'residual': ...}")
    values = np.asarray(corr, dtype=np.float64)
    R = values if values.ndim == 2 else np.eye(r) + values * (1.0 - np.eye(r))
    if R.shape != (r, r) or not np.allclose(R, R.T) or float(np.linalg.eigvalsh(R)[0]) <= 0:
        raise ModelError(f"corr: no correlation matrix of the {r} places of the residuals")
    ratio = np.outer(sds, sds) * R / sigma**2
    return np.array([ratio[i, j] for i, j in part.entries])
