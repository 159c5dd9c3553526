"""Flips of signs and exchanges of subjects, with blocks of those that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import ModelError

__all__ = ["EXCHANGES", "Plan", "block_codes", "drawn"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

EXCHANGES = ("signs", "permutations", "both")
MOST_ALL = 2**20
"""Flips and exchanges up to which all are made."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to the residuals of K subjects, F times; the first time nothing.

    Attributes
    ----------
    signs : (F, K) array
    orders : (F, K) int array or None
        Subject ``orders[f, k]`` takes place k.
    exact : bool
        Whether these are all.
    """

    signs: Floats
    orders: Ints | None
    exact: bool

    def __len__(self) -> int:
        return len(self.signs)

    def part(self, first: int, last: int) -> Plan:
        """Some of them."""
        orders = None if self.orders is None else self.orders[first:last]
        return Plan(np.ascontiguousarray(self.signs[first:last]), orders, self.exact)


def block_codes(blocks: Any, K: int) -> Ints | None:
    """Codes of the blocks of K subjects."""
    if blocks is None:
        return None
    labels = np.asarray(blocks)
    if labels.shape != (K,):
        raise ModelError(f"blocks needs one label for each of the {K} subjects")
    if any(one is None or one != one for one in labels.tolist()):
        raise ModelError("the block of a subject is missing")
    return np.asarray(np.unique(labels, return_inverse=True)[1]).reshape(-1)


def drawn(
    n_perm: Any, K: int, blocks: Ints | None, within: bool, how: str, rng: np.random.Generator
) -> Plan:
    """Return signs, orders or both.

    n_perm : number, or "exact" for all. All are made where that is fewer.
    """
    if blocks is not None and not within and not blocks.any():
        raise ModelError(
            "all subjects are in one block, which has nothing to be exchanged with; within=True "
            "flips and exchanges inside of blocks"
        )
    signs = _Signs(np.arange(K) if blocks is None or within else blocks)
    orders = _Orders(K, blocks, within)
    every = 1
    if how != "permutations":
        every *= signs.count
    if how != "signs":
        every *= orders.count
    if n_perm == "exact":
        if every > MOST_ALL:
            what = f"{signs.m} signs have 2^{signs.m} flips" if how == "signs" else (
                f"there are {float(every):.2g} of them")  # fmt: skip
            raise ModelError(f"{what}; give n_perm= as a number")
        wanted = every
    else:
        wanted = min(arguments.count("n_perm", n_perm), every)
    exact = wanted == every and every <= MOST_ALL
    if exact:
        return _all(signs, orders, how, K)
    flips = np.ones((wanted, K)) if how == "permutations" else signs.random(wanted, rng)
    moved = (
        None
        if how == "signs"
        else np.array([orders.random(rng) for _ in range(wanted)], dtype=np.intp)
    )
    flips[0] = 1.0
    if moved is not None:
        moved[0] = np.arange(K)
    return Plan(np.ascontiguousarray(flips), moved, False)


def _all(signs: _Signs, orders: _Orders, how: str, K: int) -> Plan:
    flips = np.ones((1, K)) if how == "permutations" else signs.all()
    if how == "signs":
        return Plan(np.ascontiguousarray(flips), None, True)
    moved = orders.all()
    every = np.repeat(flips, len(moved), axis=0)
    return Plan(np.ascontiguousarray(every), np.tile(moved, (len(flips), 1)), True)


class _Signs:
    """Signs of subjects; those of one code flip together."""

    def __init__(self, codes: Ints) -> None:
        self.codes = codes
        self.m = int(codes.max()) + 1
        self.count = 2**self.m

    def all(self) -> Floats:
        bits = (np.arange(self.count)[:, None] >> np.arange(self.m)) & 1
        return np.asarray((1.0 - 2.0 * bits)[:, self.codes])

    def random(self, count: int, rng: np.random.Generator) -> Floats:
        return np.asarray((1.0 - 2.0 * rng.integers(0, 2, (count, self.m)))[:, self.codes])


class _Orders:
    """Orders of subjects: of all, of those within each block, or of blocks as wholes."""

    def __init__(self, K: int, blocks: Ints | None, within: bool) -> None:
        self.K = K
        codes = np.zeros(K, dtype=np.intp) if blocks is None else blocks
        self.members = [np.flatnonzero(codes == b) for b in range(int(codes.max()) + 1)]
        self.whole = blocks is not None and not within
        if self.whole:
            sizes = [len(m) for m in self.members]
            self.sets = [
                [i for i, s in enumerate(sizes) if s == size] for size in sorted(set(sizes))
            ]
        else:
            self.sets = [list(range(len(m))) for m in self.members]
        self.count = int(np.prod([float(factorial(min(len(s), 30))) for s in self.sets]))

    def placed(self, turns: list[Any]) -> Ints:
        """The order of subjects, from the order of each set."""
        out = np.arange(self.K)
        for i, turn in enumerate(turns):
            own = self.sets[i]
            if self.whole:
                for to, taken in zip(own, turn, strict=True):
                    out[self.members[to]] = self.members[own[taken]]
            else:
                out[self.members[i]] = self.members[i][np.asarray(turn, dtype=np.intp)]
        return out

    def random(self, rng: np.random.Generator) -> Ints:
        return self.placed([rng.permutation(len(s)) for s in self.sets])

    def all(self) -> Ints:
        turns = product(*(permutations(range(len(s))) for s in self.sets))
        return np.array([self.placed(list(turn)) for turn in turns], dtype=np.intp)
