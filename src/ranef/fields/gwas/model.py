"""From a formula and matched tables to the arrays of a trait's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.call import ModelArguments
from ranef.design.specify import specification_of
from ranef.errors import DataError, FormulaError, ModelError
from ranef.formula.labels import list_text
from ranef.formula.model import read_formula
from ranef.formula.syntax import column_names
from ranef.tables import Table
from ranef.tables.concerns import concerns

__all__ = ["TRANSFORMS", "Trait", "formulas_of", "independent", "trait_columns", "trait_of"]

Floats = NDArray[np.float64]

TRANSFORMS = ("inverse-normal",)
BLOM = 0.375
FEWEST = 10
SMALLEST, LARGEST = 1e-140, 1e140
NOTHING_LEFT = 1e-10


@dataclass(frozen=True, eq=False)
class Trait:
    """One trait with its covariates.

    Attributes
    ----------
    name, formula : str
    places : (n,) int32 array
        Analysed samples, by their places in the genotypes.
    y : (n,) array
    W : (n, c) array
    names : tuple of str
        Of the columns of W.
    intercept : bool
        Whether a constant is a combination of the covariates.
    counts : tuple of (str, int)
        Samples left out, by reason.
    notes : tuple of str
    """

    name: str
    formula: str
    places: NDArray[np.int32]
    y: Floats
    W: Floats
    names: tuple[str, ...]
    intercept: bool
    counts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def formulas_of(formula: Any, traits: Any) -> dict[str, str]:
    """Return the formula of each trait, by the trait's name."""
    text = arguments.formula(formula)
    left, tilde, right = text.partition("~")
    if not tilde:
        raise FormulaError(f"the formula {text!r} has no '~'; write 'trait ~ covariates'")
    if traits is None:
        if not left.strip():
            raise FormulaError(
                f"the formula {text!r} names no trait; write it in front, or give traits=[...]"
            )
        return {left.strip(): text}
    names = [traits] if isinstance(traits, str) or not isinstance(traits, Iterable) else [*traits]
    if left.strip():
        raise FormulaError(
            "with traits= the formula has no response and begins with '~': each trait is a response"
        )
    if not names or not all(isinstance(name, str) for name in names):
        raise ModelError("traits is a list of names of columns, such as ['height', 'bmi']")
    if len(set(names)) < len(names):
        raise ModelError("traits names a trait twice; name each once")
    return {name: f"`{name}` ~{right}" for name in names}


def trait_columns(formulas: Mapping[str, str]) -> list[str]:
    """Return the columns in the responses of formulas."""
    found = []
    for formula in formulas.values():
        response = read_formula(f"{formula.partition('~')[0]} ~ 1").response
        found += [] if response is None else column_names(response)
    return found


def trait_of(
    name: str,
    formula: str,
    columns: Mapping[str, Any],
    places: NDArray[np.int32],
    transform: str | None,
    given: Sequence[tuple[str, Floats]] = (),
    family: str = "gaussian",
) -> Trait:
    """Read a trait's model against the matched columns.

    given : further covariates, each a name and its values by all samples of the genotypes, NaN
    where missing: these are taken at the mean of the analysed.
    """
    call = ModelArguments(formula, Table.of(dict(columns)))
    spec = specification_of(call, mixed=False)
    kept = spec.accounting.kept
    mine = call.table.snapshot(spec.recipe.columns)
    used = places if kept is None else places[kept]
    y, W, names = spec.y.copy(), spec.X, spec.names
    if spec.offset is not None and family == "binomial":
        raise ModelError(f"{name}: a scan of a binary trait takes no offset()")
    if spec.offset is not None:
        y = y - spec.offset
    _check_values(name, y, W, names)
    notes = [said.rstrip(".") for said in concerns(mine, trait_columns({name: formula}), kept)]
    if family == "binomial":
        y, said = cases_of(name, y)
        notes.append(said)
    if transform is not None:
        y = inverse_normal(y)
        notes.append("the trait's ranks were turned into normal scores (Blom)")
    if given:
        W = np.column_stack([W, *(_filled(name, label, values[used]) for label, values in given)])
        names = (*names, *(label for label, _ in given))
    if spec.dropped_columns:
        notes.append(f"{list_text(list(spec.dropped_columns))} depend on other covariates")
    W, names = independent(name, W, names)
    if len(y) < W.shape[1] + FEWEST:
        raise DataError(
            f"{name}: {len(y):,} samples are left for {W.shape[1]} covariates (the constant "
            f"among them); it takes {FEWEST} more than covariates"
        )
    rest = y - W @ np.linalg.lstsq(W, y, rcond=None)[0]
    if not np.sum(rest**2) > NOTHING_LEFT * np.sum((y - y.mean()) ** 2) or not np.ptp(y):
        raise DataError(
            f"{name} does not vary among {len(y):,} samples" if not np.ptp(y) else
            f"{name} is a combination of its covariates: nothing is left to explain"
        )  # fmt: skip
    if family == "gaussian" and len(np.unique(y)) == 2:
        notes.append(f"{name} has two values; effects are differences of their shares")
    counts = tuple((f"missing {c}", k) for c, k in spec.accounting.missing.items() if k)
    ones = np.ones(len(y))
    left = ones - W @ np.linalg.lstsq(W, ones, rcond=None)[0] if W.shape[1] else ones
    intercept = float(left @ left) < 1e-8 * len(y)
    return Trait(name, formula, used, y, W, names, intercept, counts, tuple(notes))


def _filled(name: str, label: str, values: Floats) -> Floats:
    missing = np.isnan(values)
    if missing.all():
        raise DataError(f"{name}: no analysed sample has a value of the variant {label!r} (given=)")
    return np.asarray(np.where(missing, values[~missing].mean(), values), dtype=np.float64)


def _check_values(name: str, y: Floats, W: Floats, names: Sequence[str]) -> None:
    for label, values in ((name, y), *zip(names, W.T, strict=True)):
        if not np.isfinite(values).all():
            raise DataError(
                f"{label!r} holds infinite values in {int((~np.isfinite(values)).sum()):,} "
                "samples; mark them as missing"
            )
        size = float(np.abs(values).max(initial=0.0))
        if size and not SMALLEST < size < LARGEST:
            raise DataError(
                f"{label!r} has values of about {size:.1g}, whose squares no number holds; "
                "give it in another unit"
            )


def independent(name: str, W: Floats, names: tuple[str, ...]) -> tuple[Floats, tuple[str, ...]]:
    """Refuse covariates that depend on each other once the variants given are among them."""
    if not W.shape[1]:
        return W, names
    scaled = W / np.maximum(np.sqrt(np.mean(W**2, axis=0)), 1e-300)
    if np.linalg.matrix_rank(scaled, tol=1e-7 * np.sqrt(len(W))) < W.shape[1]:
        raise DataError(
            f"{name}: the covariates {list_text(list(names))} depend on each other among the "
            "analysed samples; leave one out"
        )
    return np.ascontiguousarray(W), names


def cases_of(name: str, y: Floats) -> tuple[Floats, str]:
    """Return 1 for cases and 0 for controls, and who they are.

    Examples
    --------
    >>> cases_of("ill", np.array([1.0, 2.0, 2.0]))
    (array([0., 1., 1.]), '2 cases (value 2) and 1 controls (value 1)')
    """
    seen = np.unique(y)
    if len(seen) == 1:
        raise DataError(f"{name} is {seen[0]:g} of all {len(y):,} samples: no cases and controls")
    known = {(0.0, 1.0): 1.0, (1.0, 2.0): 2.0}
    case = known.get(tuple(seen.tolist()))
    if case is None:
        advice = (
            "; 0 is PLINK's missing value: add '0' to na=" if seen.tolist() == [0, 1, 2] else ""
        )
        raise DataError(
            f"a binary trait is 0 and 1, or 1 and 2 (cases), and {name} has {len(seen):,} values, "
            f"such as {list_text([f'{value:g}' for value in seen[:4]])}{advice}"
        )
    out = (y == case).astype(np.float64)
    cases = int(out.sum())
    return out, (
        f"{cases:,} cases (value {case:g}) and {len(y) - cases:,} controls "
        f"(value {seen[seen != case][0]:g})"
    )


def inverse_normal(y: Floats) -> Floats:
    """Return normal scores of ranks, Blom's, ties at their mean rank.

    Examples
    --------
    >>> inverse_normal(np.array([3.0, 1.0, 2.0])).round(3).tolist()
    [0.869, -0.869, 0.0]
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Floats = ndtri((rankdata(y) - BLOM) / (len(y) + 1.0 - 2.0 * BLOM))
    return scores
