"""Whether one fitted model is a special case of another, and which parameters it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.inference.effects.linearised import is_constrained
from ranef.inference.nested.mixtures import Cone
from ranef.inference.rows.parts import component_parts
from ranef.models.records import Estimate, theta_slices
from ranef.models.rows import Rows

__all__ = ["Added", "Nesting", "is_overdispersed", "nesting", "same_values"]

Floats = NDArray[np.float64]

PLAIN = ("us", "diag")
OVERDISPERSED = {
    "poisson": ("nbinom1", "nbinom2"),
    "truncated_poisson": ("truncated_nbinom1", "truncated_nbinom2"),
    "binomial": ("betabinomial",),
}
"""Families that become another where their overdispersion, a variance, is zero."""
DISPERSED = {
    "poisson": ("genpois", "compois"),
    "truncated_poisson": ("truncated_genpois", "truncated_compois"),
}
"""Families that are another at a dispersion of one, inside its range."""
DISPERSION = ("dispersion", None)
UNKNOWN = "so the ratio has no known distribution; method='bootstrap' has one"


@dataclass(frozen=True, eq=False)
class Added:
    """What the larger model's random term has beside what the smaller one has.

    Attributes
    ----------
    term : int
        Of the larger model.
    new : tuple of int
        Columns whose variances are zero in the smaller model.
    sources : tuple of (int, tuple of int, tuple of int)
        Terms of the smaller model, their columns, and where these stand in this term.
    """

    term: int
    new: tuple[int, ...]
    sources: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class Nesting:
    """How two models differ.

    Attributes
    ----------
    cone : Cone or None
        The parameters that the smaller model lacks; None where it is not known to be a
        special case of the larger one, or where the ratio has no known distribution.
    fixed : int
        How many of them are fixed effects.
    added : tuple of Added
        By term of the larger model, of models whose terms are all unstructured or diagonal.
    reason : str
        Why there is no cone.
    edge : bool
        True where they are nested, but the smaller one lies at an edge of the larger one
        for which no distribution is known.
    """

    cone: Cone | None
    fixed: int = 0
    added: tuple[Added, ...] = ()
    reason: str = ""
    edge: bool = False


Key = tuple[str, str | None]
"""A component: its name, and its category in a multinomial model."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """A random term with its place, and the component of each of its columns."""

    place: int
    term: RandomTerm
    factor: GroupingFactor
    keys: tuple[Key, ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """One component: columns of its predictors below each other, places of its random terms."""

    X: Floats
    spec: Specification | None
    terms: tuple[int, ...]


def nesting(small: Estimate, large: Estimate) -> Nesting:
    """Compare two models of the same rows and response."""
    dispersed = _dispersed(small, large)
    if _family_of(small) != _family_of(large) and not dispersed:
        names = " and ".join(map(_family_of, (small, large)))
        return Nesting(None, reason=f"their families differ ({names}): compare them by AIC or BIC")
    mine, theirs = _parts(small), _parts(large)
    dispersion = theirs.pop(DISPERSION) if dispersed else None
    lost = [key for key in mine if key not in theirs]
    if lost:
        return Nesting(None, reason=f"the larger model has no {lost[0][0]} part")
    if len(mine) < len(theirs):
        extra = next(key[0] for key in theirs if key not in mine)
        return Nesting(
            None,
            reason=f"without its {extra} part the larger model lies on the boundary of its "
            "parameter space, where the distribution of the ratio is not known; method='bootstrap' "
            "simulates it",
            edge=True,
        )
    fixed = 0
    blocks: list[int] = []
    if dispersion is not None:
        columns, inside = dispersion.X.shape[1], dispersed == "inside"
        if dispersion.terms or not (inside or columns == 1):
            return Nesting(
                None,
                reason="the larger model's dispersion varies, which means nothing where there is "
                f"none, {UNKNOWN}",
                edge=True,
            )
        fixed += columns if inside else 0
        blocks += [] if inside else [1]
    for key, part in mine.items():
        other = theirs[key]
        gap = _fixed_gap(part, other)
        if gap is None:
            return Nesting(None, reason="their fixed effects are not nested")
        fixed += gap
    random = _random_gap(_placed(small, mine), _placed(large, theirs))
    if isinstance(random, Nesting):
        return random
    free = random.free
    blocks += [len(a.new) for a in random.added if a.new] + list(random.whole)
    if is_constrained(small) or is_constrained(large):
        fixed = large.n_parameters - small.n_parameters - free
        fixed -= sum(s * (s + 1) // 2 for s in blocks)
    plain = random.plain and not dispersed
    return Nesting(Cone(fixed + free, tuple(blocks)), fixed, random.added if plain else ())


def same_values(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    """Tell whether two optional arrays are the same."""
    if a is None or b is None:
        return a is None and b is None
    return a is b or (a.shape == b.shape and bool(np.array_equal(a, b)))


def _family_of(estimate: Estimate) -> str:
    return f"{estimate.family.name}, link {estimate.family.link}"


def _dispersed(small: Estimate, large: Estimate) -> str | None:
    """Say where in the larger family's dispersion the smaller one is: ``"edge"``, ``"inside"``.

    None where it is not that family without a dispersion.
    """
    a, b = small.family, large.family
    if a.link != b.link:
        return None
    if b.name in OVERDISPERSED.get(a.name, ()):
        return "edge"
    return "inside" if b.name in DISPERSED.get(a.name, ()) else None


def is_overdispersed(small: Estimate, large: Estimate) -> bool:
    """Tell whether the larger family is the smaller one with overdispersion."""
    return _dispersed(small, large) == "edge"


def _parts(estimate: Estimate) -> dict[Key, _Part]:
    parts: dict[Key, _Part] = {}
    absent = _held_at_zero(estimate)
    rows = Rows.of(estimate.parts, estimate.extra)
    for component in estimate.components:
        key = (component.name, component.response)
        terms = tuple(i for i in component.terms if i not in absent)
        columns = [part.X for part in component_parts(estimate, component, rows)]
        X = columns[0] if len(columns) == 1 else np.vstack(columns)
        parts[key] = _Part(X, component.specification, terms)
    return parts


def _placed(estimate: Estimate, parts: Mapping[Key, _Part]) -> list[_Placed]:
    """The random terms of these components; one that is tied across them is there once."""
    owners: dict[int, Key] = {}
    for key, part in parts.items():
        for i in part.terms:
            owners.setdefault(i, key)
    found = []
    for i, key in owners.items():
        term = estimate.terms[i]
        keys = tuple((name, None) for name in term.parts) or (key,) * term.size
        found.append(_Placed(i, term, estimate.factors[term.factor], keys))
    return found


def _held_at_zero(estimate: Estimate) -> set[int]:
    """Terms whose standard deviations are all held at zero: the model is without them."""
    held = () if estimate.design is None else estimate.design.constraints.deviations
    zeros = {k for k, value in held if value == 0}
    return {
        t
        for t, (term, places) in enumerate(zip(estimate.terms, theta_slices(estimate), strict=True))
        if len(zeros & set(range(places.start, places.stop))) == term.size
    }


def _fixed_gap(small: _Part, large: _Part) -> int | None:
    """How many columns the larger one has more; None if it does not span the smaller one."""
    offsets = [None if p.spec is None else p.spec.offset for p in (small, large)]
    if not same_values(*offsets):
        return None
    if same_values(small.X, large.X):
        return 0
    if small.X.shape[1] > large.X.shape[1]:
        return None
    scale = np.sqrt(np.sum(small.X**2, axis=0))
    Q = np.linalg.qr(large.X)[0]
    rest = small.X / scale - Q @ (Q.T @ (small.X / scale))
    if np.sqrt(np.sum(rest**2, axis=0)).max(initial=0.0) > 1e-7:
        return None
    return int(large.X.shape[1] - small.X.shape[1])


@dataclass(frozen=True, eq=False)
class _RandomGap:
    free: int
    added: tuple[Added, ...]
    whole: tuple[int, ...]
    plain: bool


@dataclass(frozen=True, eq=False)
class _Block:
    """Columns of a term with a covariance matrix of their own."""

    term: int
    columns: tuple[int, ...]
    z: Floats
    factor: GroupingFactor
    keys: tuple[Key, ...]


def _random_gap(small: Sequence[_Placed], large: Sequence[_Placed]) -> _RandomGap | Nesting:
    """Match the covariance matrices of two models; else say why that fails."""
    of_large, structured = _split(large)
    of_small, own_structured = _split(small)
    free, whole = 0, []
    for one in structured:
        term = one.term
        match = [other for other in own_structured if _same_columns(other, one)]
        if match:
            own_structured.remove(match[0])
            if match[0].term.structure != term.structure:
                labels = f"({match[0].term.label}) and ({term.label})"
                return Nesting(None, reason=f"{labels} have different structures")
        elif term.structure == "homdiag" or (term.structure == "us" and term.size == 1):
            whole.append(1)
        elif term.structure == "us":
            whole.append(term.size)
        else:
            return Nesting(
                None,
                reason=f"without the variance of ({term.label}) its other parameters mean "
                f"nothing, {UNKNOWN}",
                edge=True,
            )
    if own_structured:
        return Nesting(None, reason=f"the larger model lacks ({own_structured[0].term.label})")
    added = []
    for block in of_large:
        sources = [(b, at) for b in of_small if (at := _places(b, block)) is not None]
        for b, _ in sources:
            of_small.remove(b)
        matched = {j for _, at in sources for j in at}
        new = tuple(j for j in range(len(block.columns)) if j not in matched)
        s, r = len(new), len(block.columns)
        inner = sum(len(at) * (len(at) + 1) // 2 for _, at in sources)
        free += r * (r + 1) // 2 - inner - s * (s + 1) // 2
        named = tuple((b.term, b.columns, tuple(block.columns[j] for j in at)) for b, at in sources)
        added.append(Added(block.term, tuple(block.columns[j] for j in new), named))
    if of_small:
        lost = next(one.term for one in small if one.place == of_small[0].term)
        return Nesting(None, reason=f"the larger model does not contain ({lost.label})")
    return _RandomGap(free, tuple(added), tuple(whole), not structured)


def _split(terms: Sequence[_Placed]) -> tuple[list[_Block], list[_Placed]]:
    """Blocks of unstructured and diagonal terms, and the terms that have more structure."""
    blocks, others = [], []
    for one in terms:
        term, i, factor, keys = one.term, one.place, one.factor, one.keys
        if term.structure not in PLAIN or term.kernel is not None:
            others.append(one)
        elif term.structure == "diag":
            blocks += [
                _Block(i, (j,), term.z[:, [j]], factor, (keys[j],)) for j in range(term.size)
            ]
        else:
            blocks.append(_Block(i, tuple(range(term.size)), term.z, factor, keys))
    return blocks, others


def _places(block: _Block, other: _Block) -> tuple[int, ...] | None:
    """Which columns of another block are this one's; None if some are not there."""
    if not _same_groups(block.factor, other.factor):
        return None
    at = []
    for column, key in zip(block.z.T, block.keys, strict=True):
        same = [
            j for j, z in enumerate(other.z.T) if key == other.keys[j] and np.array_equal(column, z)
        ]
        if not same:
            return None
        at.append(same[0])
    return tuple(at)


def _same_groups(a: GroupingFactor, b: GroupingFactor) -> bool:
    if a is b or (a.n_levels == b.n_levels and np.array_equal(a.codes, b.codes)):
        return True
    if a.n_levels != b.n_levels:
        return False
    pairs = a.codes.astype(np.int64) * b.n_levels + b.codes
    return len(np.unique(pairs)) == a.n_levels


def _same_columns(a: _Placed, b: _Placed) -> bool:
    same = same_values(a.term.z, b.term.z) and same_values(a.term.kernel, b.term.kernel)
    return a.keys == b.keys and _same_groups(a.factor, b.factor) and same
