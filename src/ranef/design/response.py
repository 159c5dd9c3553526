"""Responses of generalised models: how the left side of a formula is read.

A `ResponseKind` says what was found in the fit, so that the response of
another table is read the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.values import match_levels
from ranef.design.variables import Frame
from ranef.errors import FormulaError, LevelError, ModelError
from ranef.formula.labels import count_text, list_text
from ranef.formula.syntax import Call, Node

__all__ = [
    "CATEGORIES",
    "NUMBERS",
    "PROPORTION",
    "SUCCESSES",
    "ResponseKind",
    "fits_formula",
    "is_whole_product",
    "no_trials",
    "note_response",
    "read_pair",
    "read_response",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
NUMBERS = "numbers"
PROPORTION = "proportion"
SUCCESSES = "counts of successes"
CATEGORIES = "categories"
INTERVAL = "interval"
KINDS = (NUMBERS, PROPORTION, SUCCESSES, CATEGORIES, INTERVAL)
TAKES = {
    "numbers": (NUMBERS,),
    "successes": (NUMBERS, PROPORTION, SUCCESSES, CATEGORIES),
    "interval": (NUMBERS, INTERVAL),
    "ordered categories": (CATEGORIES,),
    "categories": (CATEGORIES,),
}
PAIRS = {"successes": "cbind(success, failure)", "interval": "cbind(lower, upper)"}
TOLERANCE = 1e-8


@dataclass(frozen=True)
class ResponseKind:
    """How a response is read.

    Attributes
    ----------
    name : str
        As in print: ``"y"``, ``"cbind(success, failure)"``.
    kind : str
        ``"numbers"``; ``"proportion"``, whose trials are the weights; ``"counts
        of successes"`` beside those of failures; ``"categories"``;
        ``"interval"`` between two ends.
    takes : str
        What the family's responses are: `ranef.families.Family.response`.
    levels : tuple or None
        The categories in the user's order and type; y holds their places. Of
        two levels of a binomial response the second is the success.
    """

    name: str
    kind: str
    takes: str = "numbers"
    levels: tuple[Any, ...] | None = None


def fits_formula(reading: ResponseKind, node: Node | None) -> bool:
    """Tell whether the response `node` can be read in this way."""
    if node is None or reading.name != node.printed:
        return False
    return (
        reading.kind in TAKES.get(reading.takes, ())
        and _is_pair(node) == (reading.kind in (SUCCESSES, INTERVAL))
        and (reading.levels is not None) == (reading.kind == CATEGORIES)
        and (reading.levels is None or len(reading.levels) >= 2)
    )


def _is_pair(node: Node) -> bool:
    inner = node.bare
    return isinstance(inner, Call) and inner.function == "cbind"


def _pair_of(node: Node, takes: str, family: str) -> tuple[Node, Node]:
    """Return the two sides of ``cbind(a, b)``, if the family takes such a response."""
    call = node.bare
    assert isinstance(call, Call)
    if takes not in PAIRS:
        raise ModelError(
            f"{node.printed} is the response of a binomial family (successes and failures) or "
            f"of the censored one (lower and upper ends); {family} needs one value in each row"
        )
    if len(call.arguments) != 2 or call.keywords:
        raise FormulaError(f"{node.printed}: cbind() takes two columns: {PAIRS[takes]}")
    return call.arguments[0], call.arguments[1]


def note_response(node: Node, takes: str, family: str, frame: Frame, weights: Floats | None) -> str:
    """Evaluate a response and note where it is missing; return its kind."""
    if _is_pair(node):
        return _note_pair(node, takes, family, frame)
    if takes in ("ordered categories", "categories") or (
        takes == "successes" and frame.holds_categories(node)
    ):
        frame.add_group(node)
        return CATEGORIES
    empty = weights == 0 if takes == "successes" and weights is not None else None
    values = frame.numbers(node, node.printed, empty)
    if takes == "successes" and weights is not None and not _zero_or_one(values, weights):
        return PROPORTION
    return NUMBERS


def _note_pair(node: Node, takes: str, family: str, frame: Frame) -> str:
    first, second = _pair_of(node, takes, family)
    if takes == "successes":
        frame.pair((first, second))
        return SUCCESSES
    lower, upper = _ends(node, frame)
    unknown = np.isneginf(lower) & np.isposinf(upper)
    if unknown.any():
        frame.missing[node.printed] = unknown
    return INTERVAL


def _ends(node: Node, frame: Frame) -> tuple[Floats, Floats]:
    call = node.bare
    assert isinstance(call, Call)
    return (
        frame.end(call.arguments[0], -np.inf),
        frame.end(call.arguments[1], np.inf),
    )


def _zero_or_one(values: Floats, weights: Floats) -> bool:
    """Tell whether all are 0 or 1 and the weights, not being whole, are no trials."""
    known = ~np.isnan(values) & ~np.isnan(weights)
    w = weights[known]
    return bool(np.isin(values[known], (0.0, 1.0)).all() and (w != np.round(w)).any())


def no_trials(node: Node, kind: str, frame: Frame) -> Mask | None:
    """Return the rows that count neither successes nor failures; None where none does."""
    if kind != SUCCESSES:
        return None
    success, failure = read_pair(node, frame)
    empty: Mask = (success == 0) & (failure == 0)
    return empty if empty.any() else None


def read_pair(node: Node, frame: Frame) -> tuple[Floats, Floats]:
    """Return successes and failures."""
    call = node.bare
    assert isinstance(call, Call)
    return frame.pair(call.arguments)


def read_response(
    node: Node, reading: ResponseKind, frame: Frame, trials: Floats | None
) -> tuple[Floats, Floats | None]:
    """Return y and what stands beside it, (n,) each.

    Parameters
    ----------
    trials : (n,) array or None
        Those of proportions.

    Returns
    -------
    y, extra
        `extra` is None, or the trials, upper ends or number of categories.
    """
    if reading.kind == SUCCESSES:
        success, failure = read_pair(node, frame)
        return success.copy(), success + failure
    if reading.kind == INTERVAL:
        lower, upper = _ends(node, frame)
        unknown = np.isneginf(lower) & np.isposinf(upper)
        return np.where(unknown, np.nan, lower), np.where(unknown, np.nan, upper)
    if reading.kind == PROPORTION:
        assert trials is not None
        values = frame.numbers(node, reading.name, trials == 0)
        product = np.where(trials == 0, 0.0, values) * trials
        whole = is_whole_product(product, trials)
        return np.where(whole, np.round(product), product), trials.copy()
    if reading.kind == CATEGORIES:
        y = _places(node, reading, frame)
    else:
        y = frame.numbers(node, reading.name).copy()
    return y, _beside(y, reading)


def is_whole_product(product: Floats, trials: Floats) -> Mask:
    """Tell which proportions times trials are whole but for rounding."""
    slack = np.maximum(TOLERANCE, 4 * np.finfo(np.float64).eps * trials)
    return np.asarray(np.abs(product - np.round(product)) <= slack)


def _beside(y: Floats, reading: ResponseKind) -> Floats | None:
    if reading.takes == "successes":
        return np.ones(len(y))
    if reading.takes == "interval":
        return y.copy()
    if reading.takes == "ordered categories":
        assert reading.levels is not None
        return np.full(len(y), float(len(reading.levels)))
    return None


def _places(node: Node, reading: ResponseKind, frame: Frame) -> Floats:
    assert reading.levels is not None
    value = frame.group(frame.add_group(node))
    codes, unseen = match_levels(value, reading.levels)
    if unseen.any():
        new = [value.levels[code] for code in np.unique(value.codes[unseen]).tolist()]
        raise LevelError(
            f"{reading.name} has a category that the fit has not seen: {list_text(new)} "
            f"(in {count_text(int(np.count_nonzero(unseen)), 'row')}); "
            f"its categories are {list_text(list(reading.levels), 10)}"
        )
    return np.where(codes < 0, np.nan, codes).astype(np.float64)
