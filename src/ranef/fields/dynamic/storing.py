"""A dynamic model as a file and back: what must hold of what a file holds."""

from __future__ import annotations

import numpy as np

from ranef.errors import FileError, RanefError
from ranef.fields.dynamic import page  # noqa: F401
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.fit import DynamicModelFit
from ranef.fields.dynamic.fitting import LINKS, MOST_EFFECTS, check_process
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS, Texts
from ranef.fields.dynamic.search import SearchEnd
from ranef.storage import register

__all__: list[str] = []

PARTS = (CONDITIONAL, INPUTS, INERTIA, DISPERSION)
MOST_POINTS = 100


def check_estimate(found: DynamicEstimate) -> None:
    """Refuse an estimate that the likelihood cannot be asked of."""
    names = tuple(found.parts)
    if names != tuple(part for part in PARTS if part in names) or not (
        {CONDITIONAL, INERTIA, DISPERSION} <= set(names)
    ):
        raise FileError("the parts of the dynamic model are not those that it has")
    if found.memory not in LINKS.values():
        raise FileError(f"the dynamic model has an inertia of no known kind, {found.memory!r}")
    if len({spec.n for spec in found.parts.values()}) != 1:
        raise FileError("the parts of the dynamic model have different rows")
    if not any(spec.terms for spec in found.parts.values()):
        raise FileError("the dynamic model has no random term")
    residual = found.parts[CONDITIONAL].residual
    if residual is None or residual.group is None or len(residual.parts) != 1:
        raise FileError("the dynamic model has no process")
    where = np.asarray(residual.parts[0].where)
    if where.size != found.parts[CONDITIONAL].n or not np.isfinite(where).all():
        raise FileError("the times of the dynamic model do not fit its rows")
    try:
        check_process(found.parts, found.memory, found.given_starts)
        layout, end = found.layout, found.end
    except (RanefError, IndexError, KeyError, ValueError, StopIteration) as error:
        raise FileError(f"the dynamic model does not hold together: {error}") from error
    P = layout.size
    if layout.d > MOST_EFFECTS or not 1 <= end.points <= MOST_POINTS:
        raise FileError("the dynamic model has a quadrature that it cannot have")
    shapes = {
        "theta": (P,), "gradient": (P,), "information": (P, P), "zero": (P,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if np.shape(getattr(end, name)) != shape:
            raise FileError(f"{name} of the dynamic model has not one value a parameter")
    if not np.isfinite(end.theta).all():
        raise FileError("the dynamic model has parameters that are no numbers")


register(Texts, "dynamic texts")
register(SearchEnd, "dynamic search")
register(DynamicEstimate, "dynamic estimate", check=check_estimate)
register(DynamicModelFit)
