"""Every parameter of a fitted model under one name: what profiles and bootstraps speak of.

Names are those of `models.keys`: a coefficient's own (``"Days"``, ``"zero: Days"``),
``"sd: Subject: Days"``, ``"corr: Subject: (Intercept): Days"``, ``"sigma"``; a name that
ends earlier stands for all that begin with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import Parameter, lower_entries, structure_of
from ranef.covariance.structure import EVERY
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.formula.labels import spelled
from ranef.inference.coefficients.residual_parameters import (
    residual_parameters,
    residual_values,
)
from ranef.models.equally_good import equally_good
from ranef.models.labels import category, coefficient_labels
from ranef.models.records import CONDITIONAL, Estimate, component_of
from ranef.models.sizes import relative_theta
from ranef.solve.charts import Held

__all__ = ["ModelParameter", "chosen", "model_parameters", "parameter_values", "singular_rows"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIGMA = "sigma"
KINDS = ("fixed", "variance")
FACTORS = ("us", "kernel", "rr")
ZERO = 1e-7
UNIT = 1e-9
UNLIKE = 1e-4
"""Relative difference at which equally good estimates differ."""


@dataclass(frozen=True)
class ModelParameter:
    """One parameter.

    Attributes
    ----------
    label : str
        Its one name.
    kind : str
        ``"coefficient"``, ``"sd"``, ``"corr"``, ``"rate"``, ``"range"`` or ``"smoothness"``.
    estimate : float
        NaN for the correlation with an effect that does not vary.
    component : str
    response : str or None
        Category in a multinomial model.
    group : str or None
        Grouping factor, ``"Residual"`` for sigma; None of a coefficient.
    term, term2 : str or None
        As in the tables of a fit.
    coefficient : int
        Which coefficient, -1 if none.
    random : int or None
        Which random term.
    held : Held or None
        How a chart of that term holds it.
    residual : int or None
        Which of the residuals' parameters.
    """

    label: str
    kind: str
    estimate: float
    component: str
    response: str | None
    group: str | None
    term: str | None
    term2: str | None
    coefficient: int = -1
    random: int | None = None
    held: Held | None = None
    residual: int | None = None

    @property
    def fixed(self) -> bool:
        """Whether it is a coefficient."""
        return self.kind == "coefficient"


def model_parameters(estimate: Estimate) -> tuple[ModelParameter, ...]:
    """List the coefficients, then the parameters of each random term, then sigma."""
    coef = estimate.coefficients[None]
    sigma = _sigma_of(estimate)
    found = [
        ModelParameter(
            label.full, "coefficient", np.nan, label.component, label.response, None,
            label.term, None, coefficient=k,
        )
        for k, label in enumerate(coefficient_labels(estimate))
    ]  # fmt: skip
    for t, term in enumerate(estimate.terms):
        found += _of_term(estimate, t, term)
    residual = estimate.specification.residual
    if residual is not None:
        found += [
            ModelParameter(
                p.label, p.kind, np.nan, "residual", None, "Residual", p.term, p.term2, residual=i
            )
            for i, p in enumerate(residual_parameters(residual))
        ]
    elif sigma is not None:
        found.append(ModelParameter(SIGMA, "sd", np.nan, CONDITIONAL, None, "Residual", None, None))
    values = parameter_values(estimate, coef, estimate.theta[None], sigma)[0]
    return tuple(
        ModelParameter(**{**vars(p), "estimate": float(v)})
        for p, v in zip(found, values, strict=True)
    )


def _of_term(estimate: Estimate, t: int, term: RandomTerm) -> list[ModelParameter]:
    """Name what `structure.components` lists."""
    structure = structure_of(term)
    group = estimate.factors[term.factor].name
    out = []
    names = [c.parameter for c in structure.components(_own_theta(estimate, t), term.names)]
    for entry, parameter in enumerate(names):
        own = component_of(estimate, t, parameter.term)
        component, response = own.name, category(own.response, estimate.levels)
        place = ": ".join(p for p in (component if component != CONDITIONAL else "", response) if p)
        one, two = (term.name_in(component, n) for n in (parameter.term, parameter.term2))
        one = term.member or one
        parts = [place, parameter.kind, group, one, two]
        label = ": ".join(part for part in parts if part not in ("", EVERY))
        held = _held(parameter, term, -1 if term.structure in FACTORS else entry)
        out.append(
            ModelParameter(
                label, parameter.kind, np.nan, component, response, group, one,
                two or None, random=t, held=held,
            )
        )  # fmt: skip
    return out


def _own_theta(estimate: Estimate, t: int) -> Floats:
    """Theta of a term."""
    counts = [structure_of(term).n_parameters for term in estimate.terms]
    first = sum(counts[:t])
    return estimate.theta[first : first + counts[t]]


def _held(parameter: Parameter, term: RandomTerm, entry: int) -> Held:
    columns = tuple(
        term.names.index(name) for name in (parameter.term, parameter.term2) if name in term.names
    )
    return Held(parameter.kind, columns, entry)


def parameter_values(
    estimate: Estimate, coef: Floats, theta: Floats, sigma: Floats | None
) -> Floats:
    """Return all parameters of m fits of one model, in the order of `model_parameters`.

    Parameters
    ----------
    coef : (m, P) array
    theta : (m, k) array
    sigma : (m,) array or None
        None of generalised models.

    Returns
    -------
    (m, parameters) float64 array
        NaN for parameters that the data do not determine.
    """
    values = _values(estimate, coef, theta, sigma)
    other = equally_good(estimate)
    if other is not None:
        pair = (estimate, other)
        one, two = (_values(e, e.coefficients[None], e.theta[None], _sigma_of(e))[0] for e in pair)
        values[:, np.abs(one - two) > UNLIKE * np.maximum(np.abs(one), np.abs(two))] = np.nan
    return values


def _sigma_of(estimate: Estimate) -> Floats | None:
    return None if estimate.sigma is None else np.array([estimate.sigma])


def _values(estimate: Estimate, coef: Floats, theta: Floats, sigma: Floats | None) -> Floats:
    """All parameters of m fits, those that the data do not determine too."""
    parts = [coef]
    start = 0
    scale = 1.0 if sigma is None else sigma[:, None]
    for term in estimate.terms:
        structure = structure_of(term)
        own = theta[:, start : start + structure.n_parameters]
        start += structure.n_parameters
        if term.structure in FACTORS:
            sd, corr = _sds_and_correlations(_factors(term, own))
            parts += [scale * sd, corr]
        else:
            kinds = [p.kind for p in structure.parameters(term.names)]
            is_sd = np.array([kind == "sd" for kind in kinds])
            parts.append(np.where(is_sd, scale * own, own))
    residual = estimate.specification.residual
    if residual is not None and sigma is not None:
        parts.append(residual_values(residual, theta[:, start:], sigma))
    elif sigma is not None:
        parts.append(sigma[:, None])
    return np.hstack(parts)


def _factors(term: RandomTerm, theta: Floats) -> Floats:
    """L (m, r, d) of a term that is L L'."""
    rank = (term.rank or term.size) if term.structure == "rr" else term.size
    rows, columns = lower_entries(term.size, rank)
    L = np.zeros((len(theta), term.size, rank))
    L[:, rows, columns] = theta
    return L


def _sds_and_correlations(L: Floats) -> tuple[Floats, Floats]:
    """Standard deviations (m, r), and correlations by pairs, column by column."""
    size = L.shape[1]
    sd = np.sqrt(np.einsum("mrd,mrd->mr", L, L))
    pairs = [(i, j) for j in range(size) for i in range(j + 1, size)]
    corr = np.empty((len(L), len(pairs)))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = L / sd[:, :, None]
    for k, (i, j) in enumerate(pairs):
        corr[:, k] = np.clip(np.einsum("md,md->m", unit[:, i], unit[:, j]), -1.0, 1.0)
    return sd, corr


def singular_rows(estimate: Estimate, theta: Floats) -> Bools:
    """Tell which of m fits lie on a boundary: a variance of zero, a correlation of one."""
    out = np.zeros(len(theta), dtype=np.bool_)
    start = 0
    for t, term in enumerate(estimate.terms):
        structure = structure_of(term)
        own = theta[:, start : start + structure.n_parameters]
        start += structure.n_parameters
        own = relative_theta(estimate, t, own)
        if term.structure in FACTORS:
            L = _factors(term, own)
            diagonal = np.abs(np.einsum("mdd->md", L[:, : L.shape[2]]))
            size = np.maximum(np.abs(L).max(axis=(1, 2)), 1e-300)
            out |= np.any(diagonal <= ZERO * size[:, None], axis=1)
        elif term.structure == "diag":
            out |= np.any(own <= ZERO, axis=1)
        else:
            ok = np.isfinite(own).all(axis=1)
            out[ok] |= np.array([bool(structure.boundary(row)) for row in own[ok]], dtype=np.bool_)
    return out


def chosen(
    parameters: Sequence[ModelParameter], wanted: str | Sequence[str] | None
) -> tuple[int, ...]:
    """Find parameters by ``"fixed"``, ``"variance"``, ``"all"``, or by names.

    Raises
    ------
    ModelError
        When a name stands for none.
    """
    everything = tuple(range(len(parameters)))
    if wanted is None or (isinstance(wanted, str) and wanted == "all"):
        return everything
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    found: list[int] = []
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"the names of parameters are text, not {name!r}")
        own = _named(parameters, name)
        if not own:
            known = [p.label for p in parameters]
            shown = ", ".join(map(repr, known[:12])) + (", ..." if len(known) > 12 else "")
            raise ModelError(
                f"the model has no parameter {name!r}{suggestion(name, [*known, *KINDS])}; "
                f"it has {shown}; 'fixed', 'variance' and 'all' stand for many"
            )
        found += [k for k in own if k not in found]
    return tuple(found)


def _named(parameters: Sequence[ModelParameter], name: str) -> list[int]:
    if name in KINDS:
        return [k for k, p in enumerate(parameters) if p.fixed == (name == "fixed")]
    key = ": ".join(part.strip() for part in name.split(": "))
    labels = [p.label for p in parameters]
    exact = [k for k, label in enumerate(labels) if label == spelled(key, labels)]
    bare = [label.replace("`", "") for label in labels]
    key = key.replace("`", "")
    return exact or [
        k for k, p in enumerate(parameters) if not p.fixed and bare[k].startswith(f"{key}:")
    ]
