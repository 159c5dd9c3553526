"""Which factors are eliminated level by level, and which end in the tail, dense or sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import _core, covariance
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion

__all__ = [
    "PATHS",
    "Block",
    "Grouped",
    "Layout",
    "blocks_of",
    "cheapest_path",
    "choose_layout",
    "finest_first",
    "nests",
]

PATHS = ("single", "nested", "crossed", "sparse", "iterative")
NO_EFFECTS = "none"
"""The path of a model without random effects: fixed effects are all that remains."""
LEAST_SPARSE = 200
"""Columns of a tail below which a dense one is taken without a look."""
MOST_BESIDE = 2_500_000
"""Values of a dense tail up to which its factor and its inverse are both kept."""
SPARSE_FLOP, SPARSE_VALUE, DENSE_VALUE = 2.5, 40.0, 8.0
"""Costs, in operations of a large product: of an operation among supernodes, and of touching a
value of a sparse and of a dense tail. Measured."""
SQUARES_OF_FIXED, SQUARES_OF_CATEGORIES = 26, 10
"""Matrices of fixed by fixed effects that are held at once, beside those of the parts, and more
where the rows are held without their zeros: measured."""
MOST_PARTS, LEVELS_OF_A_PART, MOST_SUMMED = 64, 128, 8e6
"""Of sums over levels: as `choose_chunks` of the core has them."""
LEAST_SUMMED, LEVELS_AT_ONCE = 8, 256
"""Columns of a level from which average information is summed by products, and levels that one
product takes: as `InformationSums` of the core has them."""
SQUARES_OF_PARAMETERS = 12
"""Matrices of parameters by parameters that a search holds at once: its Hessian, its spectrum, what
steps have taught, the room of LAPACK; measured."""
CODES, PLACES = 4, 8
"""Bytes of a row's level, and of where it stands in cross-products that are refilled."""
BLAS_ROOM = 6_000_000
"""Bytes that BLAS and LAPACK take for themselves: measured."""
SPARSE_VALUES, SPARSE_ROOM = 3.0, 1.5
"""Matrices on the pattern of a sparse tail that each system holds (cross-products, factor and
inverse), and the room in which the inverse is worked out, in such matrices: measured."""
ITERATIVE_COLUMNS, ITERATIVE_STEPS = 40, 40
"""Right-hand sides of an iterative evaluation, and steps of conjugate gradients of each."""


class Grouped(Protocol):
    """What has random terms: a specification, or the design of a generalised model."""

    @property
    def terms(self) -> tuple[RandomTerm, ...]: ...
    @property
    def factors(self) -> tuple[GroupingFactor, ...]: ...
    @property
    def p(self) -> int: ...
    @property
    def systems(self) -> int:
        """Linear systems that the core holds of it at once."""
        ...

    @property
    def bytes_a_row(self) -> tuple[int, int, int]:
        """Bytes of a row: held beside those of its random terms, of each of their columns, and
        while the rows are brought to the core.
        """
        ...


@dataclass(frozen=True, eq=False)
class Block:
    """All terms of one grouping factor, or one term with a kernel.

    Attributes
    ----------
    factor : GroupingFactor
    terms : tuple of int
        Indices of the random terms.
    size : int
        Columns per level, r.
    kernel : bool
        True where levels are correlated by a known matrix.
    """

    factor: GroupingFactor
    terms: tuple[int, ...]
    size: int
    kernel: bool

    @property
    def columns(self) -> int:
        return self.factor.n_levels * self.size


@dataclass(frozen=True)
class Layout:
    """The chosen path.

    Attributes
    ----------
    path : str
        ``"single"``, ``"nested"``, ``"crossed"`` (with a dense tail) or ``"sparse"``;
        ``"iterative"`` (conjugate gradients) where it is asked for;
        ``"none"`` where there are no random effects.
    chain : tuple of int
        Blocks eliminated level by level, finest first.
    tail : tuple of int
        Blocks in the tail.
    order : int
        Order of the matrix that remains: columns of the tail plus fixed effects.
    flops : float
        Predicted floating-point operations of one evaluation with gradient.
    bytes : int
        Predicted memory of cross-products and work space.
    fill : float
        Values of a sparse tail's factor; 0 for a dense one.
    """

    path: str
    chain: tuple[int, ...]
    tail: tuple[int, ...]
    order: int
    flops: float
    bytes: int
    fill: float = 0.0

    @property
    def way_out(self) -> str:
        """What to try where the path is too large, in words."""
        if self.chain and self.tail:
            return ". In lmm path='iterative' needs memory that is linear in the rows"
        return ""

    @property
    def sparse(self) -> bool:
        """Whether the tail is factored by supernodes."""
        return self.path == "sparse"


def blocks_of(terms: Sequence[RandomTerm], factors: Sequence[GroupingFactor]) -> tuple[Block, ...]:
    """Gather the terms that share a grouping factor."""
    shared: dict[int, list[int]] = {}
    blocks: list[tuple[int, list[int], bool]] = []
    for i, term in enumerate(terms):
        if term.kernel is not None:
            blocks.append((term.factor, [i], True))
        elif term.factor in shared:
            shared[term.factor].append(i)
        else:
            shared[term.factor] = [i]
            blocks.append((term.factor, shared[term.factor], False))
    return tuple(
        Block(factors[f], tuple(members), sum(terms[i].size for i in members), kernel)
        for f, members, kernel in blocks
    )


def choose_layout(spec: Grouped, path: str | None = None) -> tuple[tuple[Block, ...], Layout]:
    """Choose the path of least predicted cost, or check the one asked for.

    Raises
    ------
    ModelError
        When the path's name is unknown or the design does not allow it.
    """
    if path is not None and path not in (*PATHS, NO_EFFECTS):
        raise ModelError(
            f"unknown path {path!r}{suggestion(str(path), PATHS)}; "
            f"choose one of {', '.join(PATHS)}, or None for the cheapest"
        )
    blocks = blocks_of(spec.terms, spec.factors)
    if path == "iterative":
        return blocks, _iterative_layout(spec, blocks)
    candidates = _candidates(spec, blocks, path)
    if path is None:
        chosen = min(candidates, key=lambda layout: layout.flops)
        return blocks, _with_rows(spec, blocks, chosen)
    for layout in candidates:
        if layout.path == path:
            return blocks, _with_rows(spec, blocks, layout)
    raise ModelError(f"path {path!r} does not fit this design: {_why_not(path, blocks)}")


def _with_rows(spec: Grouped, blocks: tuple[Block, ...], layout: Layout) -> Layout:
    """Add what is held of the rows, the squares of the fixed effects, and the room of BLAS."""
    if not blocks:
        return layout
    n, p = len(blocks[0].factor.codes), spec.p
    row, column, before = spec.bytes_a_row
    row += column * sum(block.size for block in blocks)
    row += (CODES + (PLACES if column else 0)) * len(blocks)
    square = 8.0 * p * p
    held = max(n * row + _squares_of_fixed(spec, blocks, layout) * square, n * before)
    k = sum(covariance.structure_of(term).n_parameters for term in spec.terms)
    held += 8 * SQUARES_OF_PARAMETERS * k * k + _sums_of_information(spec, blocks, layout, k)
    if layout.order > _core.small_order:
        held += BLAS_ROOM
    return replace(layout, bytes=layout.bytes + int(held))


def _squares_of_fixed(spec: Grouped, blocks: tuple[Block, ...], layout: Layout) -> int:
    """Matrices of fixed by fixed effects that are held at once.

    Cross-products are summed by parts of the levels that are eliminated first, each in a place of
    its own.
    """
    few = SQUARES_OF_FIXED
    if getattr(spec, "compressed", None) is not None:
        few += SQUARES_OF_CATEGORIES
    if not layout.chain:
        return few
    levels = blocks[layout.chain[0]].factor.n_levels
    parts = min(MOST_PARTS, 1 + levels // LEVELS_OF_A_PART, int(MOST_SUMMED / (spec.p + 1) ** 2))
    return few + max(parts, 1)


def _sums_of_information(spec: Grouped, blocks: tuple[Block, ...], layout: Layout, k: int) -> int:
    """Bytes in which the levels of one factor with many parameters are summed, part by part.

    One more is held than there are parts: their total.
    """
    if layout.path != "single":
        return 0
    r, p, levels = blocks[0].size, spec.p, blocks[0].factor.n_levels
    if r < LEAST_SUMMED or k <= _core.most_jacobi or r**3 >= 10 * k * k:
        return 0
    each = (p + 1) ** 2 + (p + k) * k + 64
    parts = max(min(MOST_PARTS, 1 + levels // LEVELS_OF_A_PART, int(MOST_SUMMED / each)), 1)
    pairs = r * (r + 1) // 2
    at_once = LEVELS_AT_ONCE * (pairs + r * r)
    return 8 * (parts + 1) * (at_once + pairs * r * r + r * r * (p + 1))


def cheapest_path(spec: Grouped) -> str:
    """Return the name of the path of least predicted cost."""
    return choose_layout(spec)[1].path


def _why_not(path: str, blocks: tuple[Block, ...]) -> str:
    if not blocks:
        return "the model has no random effects"
    names = ", ".join(block.factor.name for block in blocks)
    if path == "single":
        return f"it needs one grouping factor without a kernel, here are: {names}"
    if path == "sparse":
        return f"it needs two grouping factors or more without a kernel, here are: {names}"
    return f"its grouping factors ({names}) do not nest in each other"


def _candidates(spec: Grouped, blocks: tuple[Block, ...], path: str | None) -> list[Layout]:
    if not blocks:
        return [Layout(NO_EFFECTS, (), (), spec.p, float(spec.p) ** 3, 16 * spec.p**2)]
    plain = [i for i, block in enumerate(blocks) if not block.kernel]
    found: list[Layout] = []
    if len(blocks) == 1 and plain:
        found.append(_chain_layout("single", spec, blocks, [0]))
        found.append(_tail_layout(spec, blocks, None))
        return found
    if len(plain) == len(blocks):
        chain = _nesting(blocks)
        if chain:
            found.append(_chain_layout("nested", spec, blocks, chain))
    leader = max(plain, key=lambda i: blocks[i].columns, default=None)
    dense = _tail_layout(spec, blocks, leader)
    found.append(dense)
    columns = dense.order - spec.p
    if len(plain) == len(blocks) and leader is not None and path in (None, "sparse"):
        cheaper = min(layout.flops for layout in found)
        if path == "sparse" or (columns >= LEAST_SPARSE and cheaper == dense.flops):
            found.append(_sparse_layout(spec, blocks, dense))
    return found


def _nesting(blocks: tuple[Block, ...]) -> list[int] | None:
    """Order the blocks finest first if each nests in the next, else None."""
    order = finest_first(blocks)
    for fine, coarse in pairwise(order):
        if not nests(blocks[fine].factor, blocks[coarse].factor):
            return None
    return order


def finest_first(blocks: Sequence[Block]) -> list[int]:
    """Order the blocks by their numbers of levels, the most first."""
    return sorted(range(len(blocks)), key=lambda i: -blocks[i].factor.n_levels)


def nests(fine: GroupingFactor, coarse: GroupingFactor) -> bool:
    """Tell whether each level of one factor lies within one level of the other."""
    if fine.n_levels < coarse.n_levels:
        return False
    parent = np.empty(fine.n_levels, dtype=np.int32)
    parent[fine.codes] = coarse.codes
    return bool(np.array_equal(parent[fine.codes], coarse.codes))


def _chain_layout(path: str, spec: Grouped, blocks: tuple[Block, ...], chain: list[int]) -> Layout:
    flops, doubles, above = 0.0, 0, spec.p + 1
    for i in reversed(chain):
        q, r = blocks[i].factor.n_levels, blocks[i].size
        width = r + above
        flops += 6.0 * q * r * width * width
        doubles += q * r * (3 * width + r)
        above = width
    return Layout(path, tuple(chain), (), spec.p, flops, 8 * spec.systems * doubles)


def _tail_layout(spec: Grouped, blocks: tuple[Block, ...], leader: int | None) -> Layout:
    tail = tuple(i for i in range(len(blocks)) if i != leader)
    order = sum(blocks[i].columns for i in tail) + spec.p
    flops, doubles = float(order) ** 3, 2 * order * order
    if leader is not None:
        q, r = blocks[leader].factor.n_levels, blocks[leader].size
        touched = _touched(blocks, leader, tail)
        flops += 6.0 * r * (touched * touched / max(q, 1) + q * (r + spec.p) ** 2)
        doubles += int(2 * r * touched) + q * r * (3 * (r + spec.p) + r)
    flops += sum(4.0 * blocks[i].columns * float(order) ** 2 for i in tail if blocks[i].kernel)
    doubles *= spec.systems
    kernels = [blocks[i].factor.n_levels for i in tail if blocks[i].kernel]
    # each kernel's factor once, and a copy of the inverse while kernels are taken out of it
    doubles += sum(q * q for q in kernels)
    doubles += order * order if kernels else _beside(order) * spec.systems
    chain = () if leader is None else (leader,)
    flops += DENSE_VALUE * order * order
    return Layout("crossed", chain, tail, order, flops, 8 * doubles)


def _beside(order: int) -> int:
    """Values of a factor that is kept beside the inverse, for questions after the fit."""
    return order * order if order * order <= MOST_BESIDE else 0


def _sparse_layout(spec: Grouped, blocks: tuple[Block, ...], dense: Layout) -> Layout:
    """The same with a tail of supernodes: what its leader costs and holds, and its fill."""
    first = blocks[dense.chain[0]].factor
    tail = [blocks[i] for i in dense.tail]
    fill, factorisation, pairs = _core.sparse_cost(
        first.codes,
        first.n_levels,
        [block.factor.codes for block in tail],
        [block.factor.n_levels for block in tail],
        [block.size for block in tail],
    )
    p = spec.p
    columns = dense.order - p
    order = float(dense.order)
    leader_flops = dense.flops - order**3
    squares = 2 * dense.order**2 + _beside(dense.order)
    leader_bytes = dense.bytes - 8 * spec.systems * squares
    border = columns * (2.0 * p * p + p * fill / max(columns, 1))
    flops = leader_flops + SPARSE_FLOP * 3 * factorisation + border + SPARSE_VALUE * fill
    values = fill + columns * p
    # the places of the leader's pairs
    held = 8 * (SPARSE_VALUES * spec.systems + SPARSE_ROOM) * values + 4 * pairs
    return Layout(
        "sparse", dense.chain, dense.tail, dense.order, flops, int(leader_bytes + held), float(fill)
    )


def _iterative_layout(spec: Grouped, blocks: tuple[Block, ...]) -> Layout:
    """Cross-products by pairs of levels that meet, at most one a row and pair of terms."""
    if spec.systems > 1:
        raise ModelError("path 'iterative' is one of linear models; a generalised one has none")
    count, n = len(spec.terms), len(spec.factors[0].codes) if spec.factors else 0
    columns = sum(spec.factors[term.factor].n_levels for term in spec.terms)
    cells = float(n) * count * max(count - 1, 1)
    flops = 2 * cells * ITERATIVE_COLUMNS * ITERATIVE_STEPS
    held = 12 * cells + 8 * columns * (4 * ITERATIVE_COLUMNS + 3 * spec.p) + 8 * n * (spec.p + 3)
    held += BLAS_ROOM
    return Layout("iterative", (), tuple(range(len(blocks))), columns, flops, int(held))


def _touched(blocks: tuple[Block, ...], leader: int, tail: tuple[int, ...]) -> float:
    """Columns of the tail that the leader's levels meet, summed over levels."""
    first = blocks[leader].factor
    return sum(float(_pairs(first, blocks[i].factor)) * blocks[i].size for i in tail)


def _pairs(f: GroupingFactor, g: GroupingFactor) -> int:
    codes: NDArray[np.int32] = f.codes
    return _core.count_pairs(codes, f.n_levels, g.codes, g.n_levels, len(codes))
