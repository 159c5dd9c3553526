"""The search over models with random slopes of latent variables.

The variance v of a slope is searched for as x^2 and its covariances as x k, so that a variance of
zero, where the integral over the slope ends, is no wall. At zero the optimum is proved by the
derivative in v, which must not be negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.parameters import ParameterTable
from ranef.fields.structural.problem import Problem, differences, latent_slopes
from ranef.fields.structural.search import QUASI, SINGULAR, Search, SearchEnd, minimise
from ranef.fields.structural.starts import natural_scale

__all__ = ["ROUNDS", "STAYS", "integrated_search"]

Floats = NDArray[np.float64]
Watch = Callable[[int, float, float], object]
ROUNDS, ROUGH, STEPS = 8, 7, 4
ROUGH_STAYS = 1e-2
STAYS = 1e-7
"""Change of -2 log L at which the nodes are where they are needed."""
EDGE = (
    "the search ended where a random slope's variance is near zero or its correlation with another "
    "effect near one: leave its covariances out, or let it be the same in all units"
)
NIL = 1e-5
"""Standard deviation of a slope, relative to its start, below which it is taken for zero."""


@dataclass(frozen=True)
class Chart:
    """Roots of variances in place of variances.

    Attributes
    ----------
    variances : tuple of int
        Places of the variances that are squares.
    products : tuple of (int, tuple of int)
        Places of covariances, and of the variances whose roots are factors of each.
    """

    variances: tuple[int, ...]
    products: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of(cls, table: ParameterTable) -> Chart:
        """Those of the free variances of latent variables' slopes."""
        used = np.bincount([r.free for r in table.rows if r.free >= 0], minlength=table.size)
        root: dict[tuple[int, str], int] = {}
        for g in range(table.groups):
            names = {str(r.slope) for r in latent_slopes(table, g)}
            for row in table.block(g, 2):
                own = row.op == "~~" and row.lhs == row.rhs and row.lhs in names
                if own and row.free >= 0 and used[row.free] == 1:
                    root[g, row.lhs] = row.free
        products = []
        for row in table.rows:
            if row.level == 2 and row.op == "~~" and row.lhs != row.rhs and row.free >= 0:
                factors = [root[row.group, n] for n in (row.lhs, row.rhs) if (row.group, n) in root]
                if factors and used[row.free] == 1:
                    products.append((row.free, tuple(factors)))
        return cls(tuple(root.values()), tuple(products))

    def theta(self, x: Floats) -> Floats:
        """Parameters from what is searched for."""
        out = x.copy()
        for place, factors in self.products:
            out[place] = x[place] * np.prod(x[list(factors)])
        for place in self.variances:
            out[place] = x[place] ** 2
        return out

    def x(self, theta: Floats) -> Floats:
        """The inverse, where the variances are not zero."""
        out = theta.copy()
        for place in self.variances:
            out[place] = np.sqrt(max(theta[place], 0.0))
        for place, factors in self.products:
            scale = float(np.prod(out[list(factors)]))
            out[place] = theta[place] / scale if scale > 0 else 0.0
        return out

    def pulled(self, x: Floats, g: Floats) -> Floats:
        """The gradient in x from that in theta."""
        out = g.copy()
        for place in self.variances:
            out[place] = 2 * x[place] * g[place]
        for place, factors in self.products:
            out[place] = np.prod(x[list(factors)]) * g[place]
            for own in factors:
                others = [f for f in factors if f != own]
                out[own] += x[place] * np.prod(x[others]) * g[place]
        return out


def _charted(problem: Problem, chart: Chart, watch: Watch | None) -> Search:
    def value_gradient(x: Floats) -> tuple[float, Floats]:
        f, g = problem.value_gradient(chart.theta(x))
        return f, chart.pulled(x, g)

    sizes = chart.x(np.broadcast_to(problem.scale, problem.size))

    def hessian(x: Floats) -> Floats:
        with problem.thinned(chart.theta(x)):
            return differences(value_gradient, x, sizes, rough=True)

    return Search(value_gradient, None, hessian, watch)


def integrated_search(
    problem: Problem, first: Floats, watch: Watch | None
) -> tuple[SearchEnd, Floats]:
    """Search and place the nodes anew in turns; the end, and gradients of what binds it.

    The first turns have few nodes, and no proof.
    """
    chart = Chart.of(problem.table)
    problem.scale = natural_scale(problem, first)
    scale = np.sqrt(np.maximum(first[list(chart.variances)], 1e-300))
    search = _charted(problem, chart, watch)
    rough = ROUGH, 10 * ROUNDS, STEPS, ROUGH_STAYS
    first, curvature = _turns(problem, chart, search, first, scale, rough)
    for _ in range(ROUNDS):
        fine = None, ROUNDS, QUASI, STAYS
        first, _ = _turns(problem, chart, search, first, scale, fine, curvature)
        end, binding = _proved(problem, chart, first, scale, watch)
        first = end.theta
        problem.adapt(first)
        if not end.converged or not abs(problem.value(first) - end.value) > STAYS:
            break
        curvature = None
    return (end if end.converged else replace(end, message=EDGE)), binding


def _turns(
    problem: Problem, chart: Chart, search: Search, first: Floats, scale: Floats,
    how: tuple[int | None, int, int, float], curvature: Floats | None = None,
) -> tuple[Floats, Floats | None]:  # fmt: skip
    """Place the nodes and search without a proof in turns, until placing them changes nothing.

    `how` is the number of nodes, of turns, of steps a turn, and the change that is nothing.
    """
    nodes, turns, steps, stays = how
    before = np.inf
    for _ in range(turns):
        problem.adapt(first, nodes)
        end = minimise(search, chart.x(first), proof=False, curvature=curvature, steps=steps)
        first, curvature = _settled(chart, chart.theta(end.theta), scale), end.hessian
        gain = abs(end.value - before)
        if not np.isfinite(end.value) or gain < (stays if end.converged else ROUGH_STAYS):
            break
        before = end.value
    return first, curvature


def _settled(chart: Chart, theta: Floats, scale: Floats) -> Floats:
    """Parameters with variances of nearly zero made zero, and their covariances."""
    out = theta.copy()
    for place, unit in zip(chart.variances, scale, strict=True):
        if theta[place] < (NIL * unit) ** 2:
            out[place] = 0.0
            for other, factors in chart.products:
                if place in factors:
                    out[other] = 0.0
    return out


def _proved(
    problem: Problem, chart: Chart, theta: Floats, scale: Floats, watch: Watch | None
) -> tuple[SearchEnd, Floats]:
    """The end of the search at theta with its proof, the nodes held where they are."""
    nil = [k for k in chart.variances if theta[k] == 0.0]
    if not nil:
        own = Search(problem.value_gradient, None, problem.hessian, watch)
        done = minimise(own, theta, curvature=np.eye(len(theta)), steps=0)
        return done, np.zeros((0, len(theta)))
    return _at_zero(problem, chart, theta, nil, scale, watch)


def _at_zero(
    problem: Problem, chart: Chart, theta: Floats, nil: list[int], scale: Floats,
    watch: Watch | None,
) -> tuple[SearchEnd, Floats]:  # fmt: skip
    """The optimum where slopes have no variance, and whether one would gain."""
    held = set(nil) | {k for k, factors in chart.products if set(factors) & set(nil)}
    free = np.array([k for k in range(len(theta)) if k not in held], dtype=np.intp)

    def whole(x: Floats) -> Floats:
        out = theta.copy()
        out[free] = x
        return out

    def value_gradient(x: Floats) -> tuple[float, Floats]:
        f, g = problem.value_gradient(whole(x))
        return f, g[free]

    def hessian(x: Floats) -> Floats:
        return problem.hessian(whole(x))[np.ix_(free, free)]

    inner = minimise(Search(value_gradient, None, hessian, watch), theta[free])
    found = whole(inner.theta)
    beside = found.copy()
    for k, unit in zip(chart.variances, scale, strict=True):
        if k in nil:
            beside[k] = (1e-2 * unit) ** 2
    value, g = problem.value_gradient(beside)
    gains = value < inner.value - 1e-9 * abs(inner.value) or any(
        g[k] * beside[k] < -1e-6 for k in nil
    )
    _, slope = problem.value_gradient(found)
    H = problem.hessian(found)
    fine = inner.converged and inner.smallest > SINGULAR and not gains
    end = replace(
        inner, theta=found, gradient=slope, hessian=H, converged=fine,
        message="optimum proved, variances of slopes at zero" if fine else (
            "the search ended at a slope without variance that would gain by one"
            if gains else inner.message
        ),
    )  # fmt: skip
    return end, np.eye(len(theta))[sorted(held)]
