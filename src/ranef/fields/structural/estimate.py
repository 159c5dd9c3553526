"""Estimates of a model with their covariance, and the scores that robust errors are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.constraints import Constraints, constrained, null_space
from ranef.fields.structural.expected import information_given_missing
from ranef.fields.structural.information import expected_information, is_expected
from ranef.fields.structural.messages import messages
from ranef.fields.structural.model import Model, saturated, slope_starts, solved
from ranef.fields.structural.problem import Problem
from ranef.fields.structural.ram import INDEFINITE, smallest_correlated
from ranef.fields.structural.search import Search, SearchEnd
from ranef.fields.structural.slopes_search import ROUNDS, STAYS, integrated_search
from ranef.fields.structural.starts import start_values

__all__ = ["Estimate", "estimated", "unit_scores"]

Floats = NDArray[np.float64]
SE = ("standard", "robust.huber.white", "robust.sem", "first.order", "none")


@dataclass(frozen=True, eq=False)
class Estimate:
    """The optimum of a model.

    Attributes
    ----------
    model : Model
    end : SearchEnd
    binding : (b, P) array
        Gradients of the constraints that bind.
    quadrature_error : float
        What twice as many nodes a dimension add to the log-likelihood; NaN without an integral.
    """

    model: Model
    end: SearchEnd
    binding: Floats
    quadrature_error: float = float("nan")

    @property
    def theta(self) -> Floats:
        return self.end.theta

    @property
    def loglik(self) -> float:
        return -self.end.value / 2

    @cached_property
    def constraints(self) -> Constraints:
        return Constraints.of(self.model.table, self.model.request.bounds)

    @cached_property
    def df_model(self) -> int:
        """Number of free parameters, less the equalities between them."""
        return self.model.table.size - self.constraints.count

    # --- how well they are known

    @cached_property
    def information_kind(self) -> str:
        """``"expected"`` or ``"observed"``: what was asked for, or the estimator's own."""
        request = self.model.request
        if request.information != "default":
            if request.information == "expected" and self.model.main.integrated:
                raise ModelError(
                    "information='expected' is of models without random slopes of latent "
                    "variables; use 'observed'"
                )
            return request.information
        plain = self.model.levels == 1 and self.model.complete
        return "expected" if plain and request.estimator in ("ML", "MLM") else "observed"

    @property
    def _expected_offered(self) -> bool:
        return is_expected(self.model.main) and self.model.complete

    @cached_property
    def observed(self) -> Floats:
        """Observed information (P, P)."""
        H = self.end.hessian
        if H is None or self.constraints.any:
            H = self.model.main.hessian(self.theta)
        return H / 2

    @cached_property
    def information(self) -> Floats:
        """The information (P, P) that covariances are made of."""
        if self.information_kind == "expected":
            if not self._expected_offered:
                return information_given_missing(self.model.main, self.theta)
            return expected_information(self.model.main, self.theta)
        return self.observed

    @cached_property
    def basis(self) -> Floats:
        """Directions (P, k) in which the parameters are free."""
        return null_space(self.binding, self.model.table.size)

    def inverse(self, information: Floats) -> Floats:
        """Invert an information where the parameters are free."""
        N = self.basis
        inside = N.T @ information @ N
        root = np.sqrt(np.maximum(np.abs(np.diag(inside)), 1e-300))
        scaled = inside / np.outer(root, root)
        if not np.isfinite(scaled).all():
            return np.full((len(information), len(information)), np.nan)
        if len(root) and np.linalg.eigvalsh(scaled)[0] < 1e-10:
            return np.full((len(information), len(information)), np.nan)
        return np.asarray(N @ (np.linalg.inv(scaled) / np.outer(root, root)) @ N.T)

    @cached_property
    def se_kind(self) -> str:
        """How standard errors are made."""
        se = self.model.request.se
        if se != "default":
            return se
        return {"ML": "standard", "MLR": "robust.huber.white", "MLM": "robust.sem"}[
            self.model.request.estimator
        ]

    @cached_property
    def covariance(self) -> Floats:
        """Covariance matrix (P, P) of the estimates."""
        kind, size = self.se_kind, self.model.table.size
        if kind == "none":
            return np.full((size, size), np.nan)
        if kind == "first.order":
            return self.inverse(self.cross_products)
        bread = self.inverse(self.information)
        if kind == "standard":
            return bread
        if kind == "robust.sem":
            return bread @ moment_meat(self) @ bread
        return bread @ self.cross_products @ bread

    @cached_property
    def scores(self) -> Floats:
        """Scores (units, P) of log L at the estimates, one row a unit of the highest level."""
        return unit_scores(self.model, self.model.main, self.theta)

    @cached_property
    def cross_products(self) -> Floats:
        """Sum of the scores' products."""
        return np.asarray(self.scores.T @ self.scores)

    @cached_property
    def heywood(self) -> tuple[str, ...]:
        """Variances below zero and matrices that are no covariance matrices, in words."""
        found: list[str] = []
        for row in self.model.table.rows:
            if row.op == "~~" and row.lhs == row.rhs and row.free >= 0 and self.theta[row.free] < 0:
                where = f" at level {row.level}" if self.model.levels > 1 else ""
                group = self.model.values.groups[row.group]
                where += f" in group {group}" if group else ""
                found.append(
                    f"the variance of {row.lhs}{where} is {self.theta[row.free]:.3g}, below zero "
                    "(a Heywood case)"
                )
        return (*found, *self._improper())

    def _improper(self) -> list[str]:
        """Matrices of a level that are indefinite though no variance in them is below zero."""
        found = []
        for (g, level), names in self.model.table.names.items():
            ram = self.model.main.groups[g].rams[level - 1]
            own = ram.moments(self.theta)
            at = [ram.names.index(name) for name in names.observed]
            group = self.model.values.groups[g]
            where = f" at level {level}" if self.model.levels > 1 else ""
            where += f" in group {group}" if group else ""
            pair = _beyond_one(own.S)
            if pair is not None:
                i, j, r = pair
                found.append(
                    f"the correlation of {ram.names[i]} and {ram.names[j]}{where} is {r:.3g}, "
                    "beyond one (a Heywood case)"
                )
            elif level > 1 and smallest_correlated(own.C[np.ix_(at, at)]) < -INDEFINITE:
                found.append(
                    f"the covariance matrix{where} is indefinite, which the likelihood allows "
                    "(a Heywood case)"
                )
        return found


def _beyond_one(S: Floats) -> tuple[int, int, float] | None:
    """The largest correlation beyond one between variables of positive variances."""
    variance = np.diag(S)
    root = np.sqrt(np.where(variance > 0, variance, np.inf))
    R = np.tril(S / np.outer(root, root), -1)
    if not len(R):
        return None
    i, j = np.unravel_index(int(np.abs(R).argmax()), R.shape)
    return (int(i), int(j), float(R[i, j])) if abs(R[i, j]) > 1 + INDEFINITE else None


def unit_scores(model: Model, problem: Problem, theta: Floats) -> Floats:
    """Scores of log L: of each unit of the highest level, of each row where there is none."""
    found = []
    for group in problem.groups:
        c = group.coordinates
        units = None
        if not c.unseen and model.values.clusters:
            own = model.values.clusters[-1][model.rows.places[group.g]]
            _, units = np.unique(own, return_inverse=True)
            units = units.ravel()
        kernel = messages(group.data, c.layout, each=True, units=units, threads=model.threads)
        found.append(-group.scores(theta, kernel) / 2)
    return np.concatenate(found)


def moment_meat(estimate: Estimate) -> Floats:
    """D' V G V D of Satorra & Bentler (1994): moments' own covariance in the middle."""
    out = np.zeros((estimate.model.table.size,) * 2)
    for group in estimate.model.main.groups:
        weight, D, moments = moment_parts(estimate, group)
        inside = moments @ weight @ D
        out += inside.T @ inside
    return out


def moment_parts(estimate: Estimate, group: object) -> tuple[Floats, Floats, Floats]:
    """Weight of the moments (m, m), their derivatives (m, P), each row's deviation (n, m)."""
    from ranef.fields.structural.problem import GroupProblem

    assert isinstance(group, GroupProblem)
    dW, dmu, _ = group.directions(estimate.theta)
    W, _, _ = group.levels_at(group.parts(estimate.theta).flat)
    p = len(W)
    i, j = np.tril_indices(p)
    D = np.column_stack([dmu, dW[:, i, j]]).T
    inverse = np.linalg.inv(W)
    twice = np.where(i == j, 1.0, 2.0)
    V = (
        inverse[np.ix_(i, i)] * inverse[np.ix_(j, j)]
        + inverse[np.ix_(i, j)] * inverse[np.ix_(j, i)]
    )
    V = V * np.outer(twice, twice) / 4
    weight = np.zeros((len(D), len(D)))
    weight[:p, :p], weight[p:, p:] = inverse, V
    y = group.data.y - group.data.y.mean(axis=0)
    products = y[:, i] * y[:, j]
    return weight, D, np.column_stack([y, products - products.mean(axis=0)])


def estimated(
    model: Model, start: Mapping[str, float] | Floats | None = None,
    watch: Callable[[int, float, float], object] | None = None,
) -> Estimate:  # fmt: skip
    """Fit a model."""
    problem = model.main
    constraints = Constraints.of(model.table, model.request.bounds)
    if isinstance(start, np.ndarray):
        first = start
    else:
        first = (slope_starts if problem.integrated else _plain_starts)(model, start)
    if start is not None and not np.isfinite(problem.value(first)):
        raise ModelError("the likelihood has no value at the start given; leave start out")
    if not problem.integrated:
        return Estimate(model, *_searched(problem, constraints, first, watch))
    if constraints.any:
        problem.adapt(first)
        for _ in range(ROUNDS):
            end, binding = _searched(problem, constraints, first, watch)
            first = end.theta
            problem.adapt(first)
            if not abs(problem.value(first) - end.value) > STAYS:
                break
    else:
        end, binding = integrated_search(problem, first, watch)
    return Estimate(model, end, binding, (problem.refined(end.theta) - end.value) / -2)


def _plain_starts(model: Model, given: Mapping[str, float] | None) -> Floats:
    return start_values(model.main, given)


Watch = Callable[[int, float, float], object]


def _searched(
    problem: Problem, constraints: Constraints, first: Floats, watch: Watch | None
) -> tuple[SearchEnd, Floats]:
    """The end of a search from a start, and the gradients of the constraints that bind."""
    if not constraints.any:
        return solved(problem, first, watch=watch), np.zeros((0, problem.size))
    metric = (lambda x: 2 * expected_information(problem, x)) if is_expected(problem) else None
    search = Search(problem.value_gradient, metric, problem.hessian, watch)
    return constrained(problem, constraints, first, search)


def saturated_problem(model: Model) -> Problem:
    """The unrestricted model on the same data."""
    return model.problem(saturated(model.table, model.home))
