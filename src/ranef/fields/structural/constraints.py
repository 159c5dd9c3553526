"""Constraints between parameters: ``a == b``, ``a > 0``, bounds; and functions of them, ``:=``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.expressions import Number
from ranef.fields.structural.parameters import ParameterTable
from ranef.fields.structural.problem import Problem
from ranef.fields.structural.search import SINGULAR, Search, SearchEnd, minimise
from ranef.fields.structural.starts import bounds_of

__all__ = ["Constraints", "constrained", "defined_parameters", "null_space"]

Floats = NDArray[np.float64]
CLOSE = 1e-7
NEWTON = 40


def _labelled(table: ParameterTable, theta: Floats) -> dict[str, Number]:
    """Value and gradient of each label."""
    found: dict[str, Number] = {}
    for row in table.rows:
        if row.label and row.label not in found:
            slope = np.zeros(len(theta))
            value = row.value
            if row.free >= 0:
                slope[row.free] = 1.0
                value = float(theta[row.free])
            found[row.label] = (value, slope)
    return found


def defined_parameters(table: ParameterTable, theta: Floats) -> tuple[Floats, Floats]:
    """Values (d,) and gradients (d, P) of what ``:=`` defines."""
    known = _labelled(table, theta)
    values, slopes = [], []
    for one in table.defined:
        found = one.right.evaluate(known, len(theta))
        known[one.left.text] = found
        values.append(found[0])
        slopes.append(found[1])
    return np.array(values), np.array(slopes).reshape(len(values), len(theta))


@dataclass(frozen=True, eq=False)
class Constraints:
    """All constraints of a model.

    Attributes
    ----------
    table : ParameterTable
    low, high : (P,) arrays
        Bounds of parameters.
    """

    table: ParameterTable
    low: Floats
    high: Floats

    @classmethod
    def of(cls, table: ParameterTable, bounds: str | None) -> Constraints:
        low, high = bounds_of(table)
        if bounds == "pos_var":
            for row in table.rows:
                if row.free >= 0 and row.op == "~~" and row.lhs == row.rhs:
                    low[row.free] = max(low[row.free], 0.0)
        return cls(table, low, high)

    def equal(self, theta: Floats) -> tuple[Floats, Floats]:
        """Values (e,) and gradients (e, P) of what is zero."""
        return self._values(theta, ("==",))

    def positive(self, theta: Floats) -> tuple[Floats, Floats]:
        """Values and gradients of what is not negative, bounds included."""
        values, slopes = self._values(theta, ("<", ">"))
        more = [values]
        rows = [slopes]
        for bound, sign in ((self.low, 1.0), (self.high, -1.0)):
            at = np.flatnonzero(np.isfinite(bound))
            more.append(sign * (theta[at] - bound[at]))
            rows.append(sign * np.eye(len(theta))[at])
        return np.concatenate(more), np.concatenate(rows)

    def _values(self, theta: Floats, ops: Sequence[str]) -> tuple[Floats, Floats]:
        known = _labelled(self.table, theta)
        for one in self.table.defined:
            known[one.left.text] = one.right.evaluate(known, len(theta))
        values, slopes = [], []
        for one in self.table.constraints:
            if one.op not in ops:
                continue
            left = one.left.evaluate(known, len(theta))
            right = one.right.evaluate(known, len(theta))
            sign = -1.0 if one.op == "<" else 1.0
            values.append(sign * (left[0] - right[0]))
            slopes.append(sign * (left[1] - right[1]))
        return np.array(values), np.array(slopes).reshape(len(values), len(theta))

    @cached_property
    def any(self) -> bool:
        """Whether there are constraints or bounds."""
        return bool(
            self.table.constraints or np.isfinite(self.low).any() or np.isfinite(self.high).any()
        )

    @cached_property
    def count(self) -> int:
        """Number of independent equalities."""
        if self.table.size == 0:
            return 0
        _, slopes = self.equal(np.linspace(0.3, 0.7, self.table.size))
        return int(np.linalg.matrix_rank(slopes)) if len(slopes) else 0

    @cached_property
    def linear(self) -> bool:
        """Whether there are equalities alone, all of them linear."""
        if np.isfinite(self.low).any() or np.isfinite(self.high).any():
            return False
        if any(one.op != "==" for one in self.table.constraints):
            return False
        first = self.equal(np.linspace(0.3, 0.7, self.table.size))[1]
        second = self.equal(np.linspace(1.9, -0.4, self.table.size))[1]
        return bool(np.allclose(first, second, rtol=1e-12, atol=1e-12))


def null_space(J: Floats, size: int) -> Floats:
    """Orthonormal basis (P, P - rank) of directions that leave the constraints as they are."""
    if len(J) == 0:
        return np.eye(size)
    _, s, vt = np.linalg.svd(J)
    rank = int((s > 1e-10 * max(s[0], 1e-300)).sum())
    return np.asarray(vt[rank:].T)


def constrained(
    problem: Problem, constraints: Constraints, start: Floats, search: Search
) -> tuple[SearchEnd, Floats]:
    """Minimise under constraints; the end, and the gradients of the constraints that bind."""
    if constraints.linear:
        values, J = constraints.equal(start)
        shift = np.linalg.lstsq(J, -values, rcond=None)[0]
        origin = start + shift
        left, _ = constraints.equal(origin)
        if len(left) and np.abs(left).max() > 1e-8 * (1 + np.abs(origin).max()):
            raise ModelError("the constraints contradict each other; leave one out")
        return _inside(search, origin, null_space(J, problem.size)), J
    return _general(problem, constraints, start, search)


def _inside(search: Search, origin: Floats, N: Floats) -> SearchEnd:
    def value_gradient(x: Floats) -> tuple[float, Floats]:
        f, g = search.value_gradient(origin + N @ x)
        return f, N.T @ g

    own = search.metric
    metric = None if own is None else (lambda x: N.T @ own(origin + N @ x) @ N)
    reduced = Search(
        value_gradient, metric, lambda x: N.T @ search.hessian(origin + N @ x) @ N, search.watch
    )
    end = minimise(reduced, np.zeros(N.shape[1]))
    theta = origin + N @ end.theta
    _, g = search.value_gradient(theta)
    return SearchEnd(
        theta, end.value, g, search.hessian(theta), end.decrement, end.smallest, end.converged,
        end.evaluations, end.message,
    )  # fmt: skip


def _general(
    problem: Problem, constraints: Constraints, start: Floats, search: Search
) -> tuple[SearchEnd, Floats]:
    """Sequential quadratic programming, then Newton's method on the constraints that bind."""
    from scipy.optimize import minimize

    f0, _ = search.value_gradient(start)
    scale = 1.0 / max(abs(f0), 1.0)

    def objective(x: Floats) -> tuple[float, Floats]:
        f, g = search.value_gradient(x)
        if not np.isfinite(f):
            return 1e6, np.zeros(len(x))
        return f * scale, g * scale

    parts = [
        {"type": kind, "fun": lambda x, h=h: h(x)[0], "jac": lambda x, h=h: h(x)[1]}
        for kind, h in (("eq", constraints.equal), ("ineq", constraints.positive))
        if len(h(start)[0])
    ]
    found = minimize(
        objective, start, jac=True, method="SLSQP", constraints=parts,
        options={"maxiter": 1000, "ftol": 1e-15},
    )  # fmt: skip
    theta = np.asarray(found.x, dtype=np.float64)
    return _newton(constraints, theta, search)


def _newton(constraints: Constraints, theta: Floats, search: Search) -> tuple[SearchEnd, Floats]:
    evaluations, decrement, smallest = 0, np.inf, np.nan
    released: set[int] = set()
    J = np.zeros((0, len(theta)))
    H = np.eye(len(theta))
    for _ in range(NEWTON):
        e, E = constraints.equal(theta)
        c, C = constraints.positive(theta)
        tight = [k for k in range(len(c)) if c[k] < CLOSE * 10 and k not in released]
        values = np.concatenate([e, c[tight]])
        J = np.concatenate([E, C[tight]])
        f, g = search.value_gradient(theta)
        evaluations += 1
        multipliers: Floats = np.zeros(0)
        if len(J):
            multipliers = np.asarray(np.linalg.lstsq(J.T, g, rcond=None)[0], dtype=np.float64)
        negative = [
            k for k, m in zip(tight, multipliers[len(e) :], strict=True)
            if m < -1e-6 * max(1.0, float(np.abs(g).max()))
        ]  # fmt: skip
        if negative:
            released.add(negative[0])
            continue
        H = search.hessian(theta) - _bend(constraints, theta, multipliers, tight)
        evaluations += 2 * len(theta)
        N = null_space(J, len(theta))
        inside = N.T @ H @ N
        root = np.sqrt(np.maximum(np.abs(np.diag(inside)), 1e-300))
        w, v = np.linalg.eigh(inside / np.outer(root, root)) if len(root) else (np.ones(1), None)
        smallest = float(w[0])
        down = np.linalg.lstsq(J, -values, rcond=None)[0] if len(J) else np.zeros(len(theta))
        slope = N.T @ (g + H @ down)
        if v is None:
            along, decrement = np.zeros(0), 0.0
        else:
            turned = v.T @ (slope / root)
            along = -(v @ (turned / np.maximum(np.abs(w), 1e-8))) / root
            decrement = float(np.sum(turned**2 / np.maximum(np.abs(w), 1e-8))) / 2
        gap = float(np.abs(values).max()) if len(values) else 0.0
        if decrement < 1e-9 + 1e-14 * abs(f) and gap < 1e-9:
            break
        step = down + N @ along
        t = 1.0
        for _ in range(20):
            new, _ = search.value_gradient(theta + t * step)
            least = constraints.positive(theta + t * step)[0]
            others = [k for k in range(len(c)) if k not in tight]
            inside_still = not others or float(least[others].min()) > -1e-9
            if np.isfinite(new) and inside_still and new <= f + max(1e-6 * abs(f), gap * 1e6):
                break
            t /= 2
        theta = theta + t * step
    f, g = search.value_gradient(theta)
    c, _ = constraints.positive(theta)
    e, _ = constraints.equal(theta)
    holds = (not len(c) or c.min() > -1e-6) and (not len(e) or np.abs(e).max() < 1e-6)
    fine = bool(np.isfinite(f) and decrement < 1e-6 and smallest > SINGULAR and holds)
    message = "optimum proved under the constraints" if fine else (
        "the constraints cannot be met" if not holds else "the search ended before the optimum"
    )  # fmt: skip
    return (SearchEnd(theta, f, g, H, decrement, smallest, fine, evaluations, message), J)


def _bend(
    constraints: Constraints, theta: Floats, multipliers: Floats, tight: Sequence[int]
) -> Floats:
    """Second derivatives of the constraints times their multipliers."""
    n = len(theta)
    out = np.zeros((n, n))
    if not constraints.table.constraints:
        return out

    def slopes(x: Floats) -> Floats:
        J = np.concatenate([constraints.equal(x)[1], constraints.positive(x)[1][list(tight)]])
        return np.asarray(multipliers @ J)

    for j in range(n):
        step = np.zeros(n)
        step[j] = 1e-5 * max(1.0, abs(theta[j]))
        out[j] = (slopes(theta + step) - slopes(theta - step)) / (2 * step[j])
    return (out + out.T) / 2
