"""`permutation_test`: tests of a meta-analysis that rest on symmetry alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, PValue, Significant
from ranef.display.progress import arriving
from ranef.errors import Interrupted, ModelError
from ranef.questions.synthesis.asked import independent, spread_of
from ranef.solve.resources import available_memory
from ranef.solve.synthesis.between import between
from ranef.solve.synthesis.studies import Studies

__all__ = ["PermutationTest", "permutation_test"]

Floats = NDArray[np.float64]

MOST = 2**21
"""Flips or permutations that are all made on request."""
BATCH = 4096
SLOW_BATCH = 256
ARRAYS = 4
"""Arrays of the size of all permutations that exist at once."""
COLUMNS = 4
CLOSE = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class PermutationTest(Answer):
    """p-values by permutation; `ranef.permutation_test` makes it.

    Attributes
    ----------
    terms : tuple of str
    estimate, statistic, p_value : (p,) arrays
    n : int
        Permutations, the observed one among them.
    exact : bool
        Whether they are all there are.
    kind : str
        ``"signs"`` or ``"rows"``.
    title, library : str
    """

    terms: tuple[str, ...]
    estimate: Floats
    statistic: Floats
    p_value: Floats
    n: int
    exact: bool
    kind: str
    title: str
    library: str

    def tables(self) -> tuple[Listing, ...]:
        columns = (
            Column("term", list(self.terms), Label(), ""),
            Column("estimate", self.estimate, Significant()),
            Column("statistic", self.statistic, Fixed(2)),
            Column("p_value", self.p_value, PValue(), "p"),
        )
        return (Listing("permutation", columns, "Tests by permutation"),)

    def sentences(self) -> tuple[str, ...]:
        all_of = "all" if self.exact else "random"
        what = "flips of signs" if self.kind == "signs" else "permutations of the moderators"
        lines = [
            f"By {self.n:,} {what} ({all_of}), the variance between studies estimated anew each "
            "time."
        ]
        if self.kind == "rows":
            lines.append(
                "The intercept has no p-value: the moderators change places, and it stays the "
                "mean effect at moderators of zero in every one of them, be it zero or not."
            )
        return tuple(lines)


def permutation_test(
    fit: Any,
    *,
    exact: bool = False,
    n: int = 10_000,
    rng: Any = None,
    progress: bool | None = None,
) -> PermutationTest:
    """Test the mean effect by flips of signs, moderators by permutations of their rows.

    Parameters
    ----------
    fit : MetaModelFit
        Of independent studies.
    exact : bool
        All flips or permutations, up to two million; they are also made where they are no more
        than `n`.
    n : int
        Otherwise so many at random, the observed one among them.
    rng : int or Generator, optional
    progress : bool, optional
        A bar, also None where somebody looks and it lasts longer than a second.

    Returns
    -------
    PermutationTest
        p-values are shares of permutations whose statistic is as far from zero as that observed.

    Notes
    -----
    Flips are exact where the distribution of each effect around a mean of zero is symmetric.
    Permutations of moderators are so where effects and variances would be as they are whatever
    the moderators (Follmann & Proschan 1999, Biometrics 55). They hold nothing about the
    intercept, which moves with the moderators' coefficients alone and has NaN: a mean effect of
    zero is tested by the model without moderators. (metafor prints the share of permutations
    whose intercept is as large, which is no test of zero.)

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> found = ranef.meta("yi ~ 1", bcg, variance="vi", df="normal").permutation_test()
    >>> found.exact, found.n, found.p_value.round(4).tolist()
    (True, 8192, [0.0015])
    """
    estimate = independent(fit, "permutation_test()")
    whole = arguments.flag("exact", exact)
    count = arguments.count("n", n)
    generator = arguments.generator(rng)
    model, names = estimate.model, estimate.specification.names
    observed = fit.hypotheses()
    if names == ("(Intercept)",):
        rows, complete = _signs(model.data.n, whole, count, generator)
        parts = _flipped(model.data, model.method, rows, spread_of(fit), progress)
        kind, count = "signs", len(rows)
    elif "(Intercept)" in names:
        orders, complete = _orders(model.data.n, whole, count, generator)
        parts = _permuted(model.data, model.method, orders, spread_of(fit), progress)
        kind, count = "rows", len(orders)
    else:
        raise ModelError(
            "permutation_test() is of a mean effect, or of moderators beside an intercept"
        )

    def tested(drawn: Floats, complete: bool) -> PermutationTest:
        reach = np.abs(observed.statistic)
        p = np.mean(np.abs(drawn) >= reach - CLOSE * reach, axis=0)
        if kind == "rows":
            p = np.where([name == "(Intercept)" for name in names], np.nan, p)
        return PermutationTest(
            tuple(names), observed.estimate, observed.statistic, p, len(drawn), complete, kind,
            f"Permutation test: {fit.formula}", fit.frame.library,
        )  # fmt: skip

    done: list[Floats] = []
    try:
        done.extend(parts)
    except KeyboardInterrupt:
        if not done or complete:  # the first flips of all are no sample of them
            raise
        kept = np.vstack(done)
        raise Interrupted(
            f"interrupted after {len(kept):,} of {count:,} permutations, which are in the "
            "exception's .partial",
            tested(kept, complete=False),
        ) from None
    return tested(np.vstack(done), complete)


def _signs(n: int, exact: bool, count: int, rng: np.random.Generator) -> tuple[Floats, bool]:
    every = 2**n
    if exact and every > MOST:
        raise ModelError(f"{n} studies have 2^{n} flips of signs; give n= instead of exact=True")
    if exact or every <= count:
        bits = (np.arange(every)[:, None] >> np.arange(n)) & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64), True
    _check_memory(count, n)
    signs = np.asarray(1.0 - 2.0 * rng.integers(0, 2, (count, n)), dtype=np.float64)
    signs[0] = 1.0
    return signs, False


def _orders(
    n: int, exact: bool, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], bool]:
    every = factorial(n) if n < 30 else MOST + 1
    if exact and every > MOST:
        raise ModelError(f"{n} studies have {n}! permutations; give n= instead of exact=True")
    if exact or every <= count:
        return np.array(list(permutations(range(n))), dtype=np.intp), True
    _check_memory(count, n)
    orders = np.tile(np.arange(n, dtype=np.intp), (count, 1))
    rng.permuted(orders, axis=1, out=orders)
    orders[0] = np.arange(n)
    return orders, False


def _check_memory(count: int, n: int) -> None:
    """Refuse, before anything is drawn, what would not fit."""
    need, free = ARRAYS * 8 * count * n, available_memory()
    if free is not None and need > free:
        raise ModelError(
            f"{count:,} permutations of {n:,} studies need about {need / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free; take a smaller n"
        )


def _flipped(
    studies: Studies, method: str, signs: Floats, spread: tuple[bool, bool], progress: bool | None
) -> Iterator[Floats]:
    """Statistics (F, 1) of the mean effect with flipped signs."""
    y, v = (studies.y * signs).T, np.broadcast_to(studies.v[:, None], signs.T.shape)
    return _statistics(y, v, studies.X, method, spread, progress)


def _permuted(
    studies: Studies,
    method: str,
    orders: NDArray[np.intp],
    spread: tuple[bool, bool],
    progress: bool | None,
) -> Iterator[Floats]:
    """Statistics (F, p) of effects and variances in other orders."""
    y, v = studies.y[orders].T, studies.v[orders].T
    return _statistics(y, v, studies.X, method, spread, progress)


def _statistics(
    y: Floats,
    v: Floats,
    X: Floats,
    method: str,
    spread: tuple[bool, bool],
    progress: bool | None,
) -> Iterator[Floats]:
    """Statistics (F, p), in batches, of F data sets (n, F) of one design."""
    in_core = X.shape[1] <= COLUMNS
    step = BATCH if in_core else SLOW_BATCH
    solve = _core_statistics if in_core else _plain_statistics
    parts = [(y[:, i : i + step], v[:, i : i + step]) for i in range(0, y.shape[1], step)]
    return arriving(
        _each(solve, parts, X, method, spread), y.shape[1], "permuting", progress,
        unit=" permutations", size=len,
    )  # fmt: skip


def _each(
    solve: Any, parts: Any, X: Floats, method: str, spread: tuple[bool, bool]
) -> Iterator[Floats]:
    for y, v in parts:
        yield solve(np.ascontiguousarray(y), np.ascontiguousarray(v), X, method, spread)


def _core_statistics(
    y: Floats, v: Floats, X: Floats, method: str, spread: tuple[bool, bool]
) -> Floats:
    Q, R = np.linalg.qr(X)
    name = "pm" if method == "eb" else method
    found = _core.mixed_effects(y, v, np.ascontiguousarray(Q), name, 1)
    inverse, p = np.linalg.inv(R), X.shape[1]
    beta = inverse @ found["beta"]
    B = np.empty((p, p, y.shape[1]))
    for place, (a, b) in enumerate(zip(*np.triu_indices(p), strict=True)):
        B[a, b] = B[b, a] = found["bread"][place]
    variance = np.einsum("ab,bcn,ac->an", inverse, B, inverse)
    return np.asarray((beta / np.sqrt(variance * _factor(found["scatter"], spread))).T)


def _plain_statistics(
    y: Floats, v: Floats, X: Floats, method: str, spread: tuple[bool, bool]
) -> Floats:
    """The same for designs of more columns, one data set at a time."""
    out = np.empty((y.shape[1], X.shape[1]))
    for i in range(len(out)):
        studies = Studies(y[:, i], v[:, i], X)
        at = studies.at(between(studies, method).tau2)
        factor = _factor(np.array([at.q / studies.df]), spread)[0]
        out[i] = at.beta / np.sqrt(factor * np.diag(at.bread))
    return out


def _factor(scatter: Floats, spread: tuple[bool, bool]) -> Floats:
    scaled, conservative = spread
    if not scaled:
        return np.ones_like(scatter)
    return np.asarray(np.maximum(1.0, scatter) if conservative else scatter)
