"""A stated sequence of residual structures: which one holds, and why not those before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ranef.design.specification import Specification
from ranef.errors import FormulaError, ModelError
from ranef.models.records import LinearEstimate

__all__ = ["checked", "in_short", "noted", "objection"]


def checked(residual: Sequence[str]) -> tuple[str, ...]:
    """Return a sequence of structures that a user wrote, refused where it is none."""
    if not isinstance(residual, list | tuple):
        raise FormulaError(f"residual is a text or a list of texts, not {residual!r}")
    stated = tuple(residual)
    if not stated or not all(isinstance(one, str) and one.strip() for one in stated):
        raise ModelError(
            "residual= is one structure, 'us(visit | id)', or a list of them to be tried in turn, "
            f"not {residual!r}"
        )
    if len(set(stated)) < len(stated):
        raise ModelError("residual= states a structure twice")
    return stated


def noted(spec: Specification, stated: tuple[str, ...], reasons: tuple[str, ...]) -> Specification:
    """Write into a model where its residuals' structure stands in a sequence."""
    assert spec.residual is not None
    return replace(spec, residual=replace(spec.residual, stated=stated, reasons=reasons))


def objection(estimate: LinearEstimate) -> str:
    """Say why a fit does not hold; empty where it does."""
    optimum = estimate.optimum
    if not optimum.converged:
        return "no optimum was proved"
    own = [direction for direction in optimum.flat if direction.residual]
    return own[0].description if own else ""


def in_short(error: ModelError) -> str:
    """The first clause of an error, to stand in a list."""
    said = str(error).splitlines()[0]
    for end in (" (", "; "):
        said = said.partition(end)[0]
    return said.rstrip(".")
