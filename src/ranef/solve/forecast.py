"""What a fit would cost before it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.layout import choose_layout
from ranef.solve.quadrature import (
    check_differentiable,
    check_nodes,
    points_of,
    quadrature_layout,
)
from ranef.solve.resources import available_memory
from ranef.solve.structured.problem import structured_problem

if TYPE_CHECKING:
    from ranef.solve.problem import GeneralisedDesign

__all__ = ["Plan", "PlannedBlock", "plan", "plan_generalised"]

COMFORTABLE_ORDER = 8000
FLOPS_PER_SECOND = 1e10
VECTORS_OF_ROWS = 14
"""Numbers of a row that a structure of the residuals needs beside twice its columns: measured."""


@dataclass(frozen=True)
class PlannedBlock:
    """One grouping factor in the plan.

    Attributes
    ----------
    name : str
    terms : tuple of str
    n_levels, size : int
        Levels, and columns per level.
    role : str
        ``"eliminated level by level"``, ``"in the dense tail"`` or ``"in the sparse tail"``.
    """

    name: str
    terms: tuple[str, ...]
    n_levels: int
    size: int
    role: str


@dataclass(frozen=True)
class Plan:
    """Cost of a fit: blocks, memory, operations and the chosen path.

    Attributes
    ----------
    formula : str
    n : int
        Rows used.
    n_dropped : int
        Rows left out.
    p : int
        Fixed effects that are free.
    n_parameters : int
        Covariance parameters, theta, that are free.
    blocks : tuple of PlannedBlock
    path : str
    order : int
        Order of the matrix that is factored in each evaluation.
    flops : float
        Of one evaluation with gradient.
    bytes : int
        Memory for cross-products and work space.
    memory : int or None
        Bytes free on this machine.
    points : int
        Points of the quadrature at which each row's density is taken; 1 without.
    fill : float
        Values of the factor of a sparse tail; 0 where it is dense.
    """

    formula: str
    n: int
    n_dropped: int
    p: int
    n_parameters: int
    blocks: tuple[PlannedBlock, ...]
    path: str
    order: int
    flops: float
    bytes: int
    memory: int | None
    points: int = 1
    fill: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the memory suffices, as far as it is known."""
        return self.memory is None or self.bytes <= self.memory

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is uncomfortable about this plan, in words."""
        found = []
        if not self.fits:
            found.append(
                f"it needs {readable_bytes(self.bytes)} and {readable_bytes(self.memory or 0)} "
                "are free: it will be refused"
            )
        dense = not self.fill and self.path != "iterative"
        if self.order > COMFORTABLE_ORDER and dense:
            found.append(
                f"a dense matrix of order {self.order:,} is factored in every evaluation; "
                f"above {COMFORTABLE_ORDER:,} this is slow"
            )
        return tuple(found)

    def __str__(self) -> str:
        lines = [
            f"Plan for {self.formula}",
            f"  rows {self.n:,}" + (f" ({self.n_dropped:,} left out)" if self.n_dropped else ""),
            f"  fixed effects {self.p:,}, covariance parameters {self.n_parameters:,}",
            f"  path: {self.path}",
        ]
        lines += [
            f"    {b.name}: {b.n_levels:,} levels x {b.size} ({', '.join(b.terms)}), {b.role}"
            for b in self.blocks
        ]
        seconds = self.flops / FLOPS_PER_SECOND
        if self.points > 1:
            lines.append(f"  quadrature: the density of every row at {self.points:,} points")
        lines += [
            f"  sparse matrix of order {self.order:,}, {self.fill:,.0f} values in its factor"
            if self.fill
            else f"  {'system' if self.path == 'iterative' else 'dense matrix'} of order "
            f"{self.order:,}",
            f"  memory about {readable_bytes(self.bytes)}",
            f"  one evaluation about {self.flops:.2g} operations ({readable_seconds(seconds)} "
            "at 10 Gflop/s)",
        ]
        lines += [f"  note: {w}" for w in self.warnings]
        seen = ("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)
        return "\n".join(seen)

    __repr__ = __str__


def readable_bytes(n: int) -> str:
    """Return bytes in a unit that suits them.

    Examples
    --------
    >>> readable_bytes(20_000_000)
    '20 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"


def readable_seconds(s: float) -> str:
    """Return a duration in a unit that suits it.

    Examples
    --------
    >>> readable_seconds(0.0021)
    '2.1 ms'
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if s >= size:
            return f"{s / size:.2g} {unit}"
    return "under 1 us"


def plan(spec: Specification, path: str | None = None) -> Plan:
    """Forecast the cost of fitting a specification.

    Raises
    ------
    ModelError
        When the design does not fit the path asked for.
    """
    if spec.residual is not None:
        return _structured_plan(spec, path)
    return _plan(spec, spec.formula, spec.accounting.n_dropped, path)


def _structured_plan(spec: Specification, path: str | None) -> Plan:
    """The same where the residuals have a structure: clusters, each by itself."""
    if path is not None:
        raise ModelError("a model with a structure of its residuals has one path; leave path out")
    problem = structured_problem(spec)
    k, flops, size, order = problem.n_parameters, 0.0, 0, 0
    for chunk in problem.chunks:
        width = chunk.U.shape[1]
        order = max(order, width)
        flops += (2.0 + k) * chunk.clusters * float(width) ** 3
        size += 8 * len(chunk.U) * (2 * width + VECTORS_OF_ROWS)
        size += 8 * (1 + k) * (2 + k) // 2 * chunk.clusters * width * width
        for batch in chunk.batches:
            g, n = batch.rows.shape
            if batch.in_order:  # step by step, without a matrix of the group's rows
                flops += g * (1.0 + k) * 4.0 * n * width * width
                continue
            own = 1 if batch.shared else g
            flops += own * (2.0 + k) * float(n) ** 3 + g * (1.0 + k) * 2.0 * n * n * width
            size += 8 * own * (2 + 2 * k) * n * n
    blocks = tuple(
        PlannedBlock(
            factor.name,
            tuple(f"({term.label})" for term in spec.terms if term.factor == f),
            factor.n_levels,
            sum(term.size for term in spec.terms if term.factor == f),
            "within its cluster",
        )
        for f, factor in enumerate(spec.factors)
    )
    return Plan(
        formula=spec.formula,
        n=spec.n,
        n_dropped=spec.accounting.n_dropped,
        p=spec.p,
        n_parameters=k,
        blocks=blocks,
        path="clusters",
        order=order,
        flops=flops,
        bytes=size,
        memory=available_memory(),
    )


def plan_generalised(
    design: GeneralisedDesign,
    formula: str,
    n_dropped: int = 0,
    path: str | None = None,
    quadrature: int = 1,
) -> Plan:
    """Forecast the cost of fitting a generalised design.

    One evaluation is one step of the inner search, with quadrature the sum over all
    points; a fit takes some dozens.

    Raises
    ------
    ModelError
        When the design does not fit the path asked for, or the quadrature.
    """
    check_nodes(quadrature)
    if quadrature == 1:
        return _free(_plan(design, formula, n_dropped, path), design)
    check_differentiable(design)
    blocks, layout = quadrature_layout(design, quadrature, path)
    plain = _free(_plan(design, formula, n_dropped, layout.path), design)
    return replace(
        plain, flops=layout.flops, bytes=layout.bytes, points=points_of(blocks, quadrature)
    )


def _free(plan: Plan, design: GeneralisedDesign) -> Plan:
    """Count the parameters as far as they are free."""
    constraints = design.constraints
    return replace(
        plan,
        p=constraints.free(plan.p).count,
        n_parameters=plan.n_parameters - len(constraints.entries),
    )


def _plan(
    spec: Specification | GeneralisedDesign, formula: str, n_dropped: int, path: str | None
) -> Plan:
    from ranef import covariance

    blocks, layout = choose_layout(spec, path)
    count = sum(
        covariance.structure(t.structure, t.size, rank=t.rank, positions=t.positions).n_parameters
        for t in spec.terms
    )
    tail = {"sparse": "in the sparse tail", "iterative": "by conjugate gradients"}.get(
        layout.path, "in the dense tail"
    )
    planned = tuple(
        PlannedBlock(
            block.factor.name,
            tuple(spec.terms[i].label for i in block.terms),
            block.factor.n_levels,
            block.size,
            "eliminated level by level" if i in layout.chain else tail,
        )
        for i, block in enumerate(blocks)
    )
    return Plan(
        formula=formula,
        n=spec.n,
        n_dropped=n_dropped,
        p=spec.p,
        n_parameters=count,
        blocks=planned,
        path=layout.path,
        order=layout.order,
        flops=layout.flops,
        bytes=layout.bytes,
        memory=available_memory(),
        fill=layout.fill,
    )
