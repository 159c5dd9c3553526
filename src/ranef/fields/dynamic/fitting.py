"""From read formulas to an estimate, and the same model with another response."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError, ModelError
from ranef.fields.dynamic.arrays import problem_of
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.layout import layout_of
from ranef.fields.dynamic.problem import Problem
from ranef.fields.dynamic.reading import CONDITIONAL, INPUTS, Texts, order_of, person_factor
from ranef.fields.dynamic.search import search
from ranef.formula.labels import list_text
from ranef.solve.optimum import Progress
from ranef.solve.resources import available_cores

__all__ = ["check_process", "estimated"]

Floats = NDArray[np.float64]
LINKS = {"fisher-z": "fisher", "identity": "plain", "logit": "clock"}
MOST_EFFECTS = 4


def estimated(
    parts: Mapping[str, Specification], texts: Texts, link: str | None, given_starts: bool,
    points: int | None, threads: int | None, progress: Progress | None,
) -> DynamicEstimate:  # fmt: skip
    """Fit the model."""
    memory = _memory(parts, link)
    check_process(parts, memory, given_starts)
    layout = layout_of(parts)
    if layout.d > MOST_EFFECTS:
        raise ModelError(
            f"{layout.d} random effects of inertia and dispersion are too many for quadrature, "
            f"which takes {MOST_EFFECTS}: give fewer of them random terms"
        )
    used = threads or available_cores()
    problem = problem_of(parts, layout, memory, given_starts, used).problem
    _check(problem, parts)
    end = search(problem, points, progress)
    return DynamicEstimate(dict(parts), texts, memory, given_starts, end)


def _memory(parts: Mapping[str, Specification], link: str | None) -> str:
    _, _, clock = order_of(parts)
    wanted = link or ("logit" if clock else "fisher-z")
    if clock and wanted != "logit":
        raise ModelError(
            f"link={link!r}: by the clock inertia lies between 0 and 1, link='logit'; over whole "
            "prompts it is ar1(prompt | person)"
        )
    if not clock and wanted == "logit":
        raise ModelError(
            "link='logit' is that of car1() and ou(), whose inertia lies between 0 and 1; "
            "ar1() takes 'fisher-z' or 'identity'"
        )
    return LINKS[wanted]


def check_process(parts: Mapping[str, Specification], memory: str, given_starts: bool) -> None:
    """Refuse combinations of time, inertia, starts and inputs that make no process."""
    _, gap, clock = order_of(parts)
    if clock != (memory == "clock"):
        raise ModelError("the inertia does not go with the times")
    if not clock and (gap != np.round(gap)).any():
        raise ModelError("ar1() needs whole numbers as times")
    if clock and INPUTS in parts:
        raise ModelError(
            "inputs= act from prompt to prompt, ar1(prompt | person); by the clock there is no "
            "number of them between two times"
        )
    if memory == "plain" and not given_starts:
        raise ModelError(
            "link='identity' lets the inertia of a person be 1 or more, for whom there is no "
            "stationary distribution: give start='given' too"
        )


def _check(problem: Problem, parts: Mapping[str, Specification]) -> None:
    """Refuse tables from which nothing of a process, or of persons, is to be learned."""
    residual, y = parts[CONDITIONAL].residual, problem.y
    assert residual is not None
    if problem.persons < 2:
        raise DataError(
            f"{person_factor(parts).name} has one level, and effects of persons need several"
        )
    if not (problem.gap > 0).any():
        raise DataError(
            f"residual={residual.label!r}: no series has two rows, so there is nothing to remember"
        )
    if np.ptp(y) == 0:
        raise DataError("the response is the same in all rows")
    if problem.zs.any():
        _refuse_constant(problem, parts)


def _refuse_constant(problem: Problem, parts: Mapping[str, Specification]) -> None:
    """Refuse persons who always answered the same: their own standard deviation is zero."""
    values = np.column_stack([problem.y, problem.X[CONDITIONAL], problem.zm])
    begins, sizes = problem.first[:-1], np.diff(problem.first)
    spread = np.maximum.reduceat(values, begins) - np.minimum.reduceat(values, begins)
    same = np.flatnonzero((sizes > 1) & (spread == 0).all(axis=1))
    if len(same):
        factor = person_factor(parts)
        named = list_text([factor.levels[i] for i in same.tolist()])
        raise DataError(
            f"{factor.name} {named} gave the same answer at all prompts, so that the best standard "
            "deviation of their own is zero, where the likelihood has no maximum: leave them out, "
            "or take the random effects out of dispersion="
        )
