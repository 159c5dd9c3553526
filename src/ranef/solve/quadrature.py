"""Which models adaptive quadrature can integrate, and how many points that takes.

Grouping factors that nest in each other make the likelihood a product over the levels of
the coarsest, each an integral of products of integrals. Crossed factors do not: their
effects are one integral of as many dimensions as there are effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ranef.errors import ModelError
from ranef.solve.layout import Block, Layout, blocks_of, choose_layout, finest_first, nests

if TYPE_CHECKING:
    from ranef.solve.problem import GeneralisedDesign

__all__ = [
    "check_differentiable",
    "check_nodes",
    "comfortable_nodes",
    "integrable",
    "points_of",
    "quadrature_layout",
]

MOST_NODES = 100
MOST_COLUMNS = 3
MOST_POINTS = 1_000_000
COMFORTABLE_POINTS = 20_000
PLENTY = 25
FLOPS_OF_A_POINT = 500.0
LAPLACE = "quadrature=1 (the Laplace approximation)"


def quadrature_layout(
    design: GeneralisedDesign, nodes: int, path: str | None = None
) -> tuple[tuple[Block, ...], Layout]:
    """The blocks level by level, and the cost of the sums over nodes with them.

    Parameters
    ----------
    design : GeneralisedDesign
    nodes : int
        For each random effect.
    path : str or None
        ``"crossed"`` is refused.

    Raises
    ------
    ModelError
        When the likelihood does not factorise, or has too many points for each row.
    """
    blocks = _check(design, nodes)
    own = "single" if len(blocks) == 1 else "nested"
    if path not in (None, own):
        raise ModelError(
            f"quadrature goes level by level: path {path!r} is not for it; leave path out, or "
            f"use {LAPLACE}"
        )
    _, layout = choose_layout(design, own)
    points = points_of(blocks, nodes)
    stored, above = len(design.predictors) * (len(blocks) + 2) * design.n, 1
    for i in reversed(layout.chain):
        above *= nodes ** blocks[i].size
        stored += blocks[i].factor.n_levels * above
    flops = layout.flops + FLOPS_OF_A_POINT * points * design.n
    return blocks, replace(layout, flops=flops, bytes=layout.bytes + 8 * stored)


def points_of(blocks: Sequence[Block], nodes: int) -> int:
    """Points at which each row's density is taken: nodes to the power of the effects.

    Examples
    --------
    >>> points_of((), 7)
    1
    """
    points: int = nodes ** sum(block.size for block in blocks)
    return points


def comfortable_nodes(design: GeneralisedDesign, most: int = PLENTY) -> int:
    """Nodes, up to `most`, that make no more than 20,000 points; at least 2."""
    blocks = blocks_of(design.terms, design.factors)
    return max(2, _nodes_within(COMFORTABLE_POINTS, blocks, most))


def integrable(design: GeneralisedDesign) -> bool:
    """Whether quadrature can fit the model with some number of nodes.

    True where `fit_generalised` with as many nodes as `comfortable_nodes` says does
    not refuse.
    """
    try:
        _check(design, comfortable_nodes(design))
        check_differentiable(design)
    except ModelError:
        return False
    return True


def check_nodes(nodes: int) -> None:
    """Refuse a number of nodes below 1, or so high that weights are next to nothing."""
    if not 1 <= nodes <= MOST_NODES:
        raise ModelError(
            f"quadrature must be a number of nodes from 1 (the Laplace approximation) to "
            f"{MOST_NODES}, not {nodes}"
        )


def check_differentiable(design: GeneralisedDesign) -> None:
    """Refuse to fit structures whose parameters are not entries of the factor of Psi."""
    for term in design.terms:
        if term.structure not in ("us", "diag"):
            raise ModelError(
                f"quadrature takes terms that are unstructured or diagonal, which ({term.label}) "
                f"is not; use {LAPLACE}"
            )


def _check(design: GeneralisedDesign, nodes: int) -> tuple[Block, ...]:
    if design.integrated:
        raise ModelError(
            "quadrature cannot integrate the fixed effects out; give reml=False or quadrature=1"
        )
    blocks = blocks_of(design.terms, design.factors)
    for block in blocks:
        if block.kernel:
            raise ModelError(
                f"quadrature takes levels that are independent, and a kernel ties those of "
                f"{block.factor.name}; use {LAPLACE}"
            )
        if block.size > MOST_COLUMNS:
            raise ModelError(
                f"quadrature takes up to {MOST_COLUMNS} random effects for each level, here are "
                f"{block.size} for each of {block.factor.name}; use {LAPLACE}"
            )
    _check_nesting(blocks)
    if points_of(blocks, nodes) > MOST_POINTS:
        raise ModelError(_too_many(blocks, nodes))
    return blocks


def _check_nesting(blocks: Sequence[Block]) -> None:
    order = [blocks[i].factor for i in finest_first(blocks)]
    for fine, coarse in pairwise(order):
        if not nests(fine, coarse):
            raise ModelError(
                f"quadrature takes one grouping factor or factors that nest in each other, and "
                f"{fine.name} and {coarse.name} are crossed: the likelihood then does not "
                "factorise into integrals of few dimensions (their effects are all one "
                f"integral). {LAPLACE} takes any number of crossed factors"
            )


def _too_many(blocks: Sequence[Block], nodes: int) -> str:
    size = sum(block.size for block in blocks)
    effects = " + ".join(str(block.size) for block in blocks)
    fewer = _nodes_within(MOST_POINTS, blocks, nodes)
    instead = f"quadrature={fewer} is feasible, or use {LAPLACE}" if fewer > 1 else f"use {LAPLACE}"
    return (
        f"quadrature={nodes} takes the density of every row at {nodes}^{size} = "
        f"{points_of(blocks, nodes):,} points ({effects} random effects for a row); at most "
        f"{MOST_POINTS:,} are feasible: {instead}"
    )


def _nodes_within(points: int, blocks: Sequence[Block], most: int) -> int:
    return next((k for k in range(most, 1, -1) if points_of(blocks, k) <= points), 1)
