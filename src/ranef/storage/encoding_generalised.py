"""A generalised estimate as plain values and arrays, and back, with every size checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import families, priors
from ranef.design.specification import Specification
from ranef.errors import FileError
from ranef.families import Cumulative, Family, Multinomial
from ranef.models.generalised import compose
from ranef.models.records import GeneralisedEstimate
from ranef.priors import Prior
from ranef.storage.encoding import (
    Bundle,
    check_theta,
    effect_arrays,
    frame_arrays,
    frame_values,
    optimum_arrays,
    optimum_values,
    plain_arrays,
    read_effects,
    read_frame,
    read_optimum,
    read_specification,
    shaped,
    specification_arrays,
    specification_values,
    typed,
)
from ranef.tables.origin import Origin

__all__ = ["decode_generalised", "encode_generalised"]

ROWS = "conditional"


def encode_generalised(estimate: GeneralisedEstimate, frame: Origin) -> Bundle:
    """Take a generalised estimate apart."""
    arrays: dict[str, Any] = {
        **frame_arrays(frame),
        **optimum_arrays(estimate.optimum),
        "coefficients": estimate.coefficients,
        "coefficient_vcov": estimate.coefficient_vcov,
        "predictors": estimate.predictors,
        "theta": estimate.theta,
        "extra": estimate.extra,
        **effect_arrays(estimate.covariances, estimate.modes),
    }
    for name, spec in estimate.parts.items():
        arrays |= specification_arrays(spec, f"{name}/")
    values = {
        "model": "generalised",
        "family": _family_values(estimate.family),
        "parts": {name: specification_values(spec) for name, spec in estimate.parts.items()},
        "frame": frame_values(frame),
        "reml": estimate.reml,
        "quadrature": int(estimate.quadrature),
        "priors": {
            name: {"kind": type(prior).__name__, "values": _plain_fields(prior)}
            for name, prior in estimate.priors.items()
        },
        "fixed": {name: float(value) for name, value in estimate.fixed.items()},
        "equal": [list(group) for group in estimate.equal],
        "runaway": [int(k) for k in estimate.runaway],
        "loglik": float(estimate.loglik),
        **optimum_values(estimate.optimum),
    }
    return Bundle(values, plain_arrays(arrays))


def decode_generalised(
    bundle: Bundle, functions: Mapping[str, Callable[..., Any]]
) -> tuple[GeneralisedEstimate, Origin]:
    """Put a generalised estimate together again."""
    values, arrays = bundle.values, bundle.arrays
    parts = _read_parts(typed(values, "parts", dict), arrays, functions)
    spec = parts[ROWS]
    family = _read_family(typed(values, "family", dict))
    extra = shaped(arrays, "extra", "f", (spec.n,)) if "extra" in arrays else None
    known = {name: _read_prior(entry) for name, entry in typed(values, "priors", dict).items()}
    reml = typed(values, "reml", bool)
    fixed, equal = typed(values, "fixed", dict), typed(values, "equal", list)
    layout = compose(parts, family, extra, priors=known, fixed=fixed, equal=equal, reml=reml)
    design = layout.design
    P = design.n_coefficients
    covariances, modes = read_effects(arrays, design.terms, design.factors)
    coefficients = shaped(arrays, "coefficients", "f", (P,))
    loglik = typed(values, "loglik", float)
    estimate = GeneralisedEstimate(
        reml=reml,
        theta=shaped(arrays, "theta", "f", (None,)),
        covariances=covariances,
        modes=modes,
        loglik=loglik,
        optimum=read_optimum(values, arrays, len(design.terms)),
        family=family,
        parts=parts,
        composition=layout,
        coefficients=coefficients,
        coefficient_vcov=shaped(arrays, "coefficient_vcov", "f", (P, P)),
        predictors=shaped(arrays, "predictors", "f", (len(design.predictors), spec.n)),
        extra=design.extra,
        quadrature=typed(values, "quadrature", int),
        runaway=_read_runaway(values, P),
        priors=known,
        fixed=fixed,
        equal=tuple(tuple(group) for group in equal),
    )
    check_theta(estimate, design.terms)
    _check_levels(estimate)
    return estimate, read_frame(values["frame"], arrays, spec.accounting)


def _family_values(family: Family) -> dict[str, Any]:
    values: dict[str, Any] = {"name": family.name, "link": family.link}
    if isinstance(family, Cumulative):
        values["thresholds"] = family.thresholds
    if isinstance(family, Multinomial):
        values["categories"] = int(family.categories)
    return values


def _read_family(values: Mapping[str, Any]) -> Family:
    name, link = typed(values, "name", str), typed(values, "link", str)
    if name == Cumulative.name:
        return Cumulative(link, values["thresholds"])
    categories = typed(values, "categories", int) if name == Multinomial.name else None
    return families.family(name, link, categories)


def _plain_fields(prior: Prior) -> dict[str, float]:
    return {name: value for name, value in asdict(prior).items()}


def _read_prior(entry: Mapping[str, Any]) -> Prior:
    kind = typed(entry, "kind", str)
    if kind not in priors.__all__ or kind == Prior.__name__:
        raise FileError(f"no prior {kind!r}")
    fields = typed(entry, "values", dict)
    if not all(type(value) in (int, float) for value in fields.values()):
        raise FileError(f"the prior {kind!r} holds what is not a number")
    made: Prior = getattr(priors, kind)(**fields)
    return made


def _read_parts(
    values: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    functions: Mapping[str, Callable[..., Any]],
) -> dict[str, Specification]:
    parts = {
        name: read_specification(entry, arrays, functions, f"{name}/")
        for name, entry in values.items()
    }
    if ROWS not in parts or len({spec.n for spec in parts.values()}) != 1:
        raise FileError("the parts of the model have not the same rows")
    return parts


def _read_runaway(values: Mapping[str, Any], count: int) -> tuple[int, ...]:
    found = typed(values, "runaway", list)
    if not all(type(k) is int and 0 <= k < count for k in found):
        raise FileError("'runaway' names no coefficients")
    return tuple(found)


def _check_levels(estimate: GeneralisedEstimate) -> None:
    """A categorical response must have no more categories than the recipe lists."""
    spec = estimate.specification
    levels = None if spec.recipe.reading is None else spec.recipe.reading.levels
    if levels is not None and len(levels) <= int(np.max(spec.y, initial=0.0)):
        raise FileError("the response has more categories than are listed")
