"""A model as a function of its free parameters: -2 log L, its gradient, its information."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.messages import GroupData, Layout, messages
from ranef.fields.structural.parameters import Parameter, ParameterTable
from ranef.fields.structural.ram import Moments, Ram

__all__ = ["Coordinates", "GroupProblem", "Problem", "coordinates", "differences", "latent_slopes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Sample = Mapping[tuple[str, str], float]
STEP = 1e-4


@dataclass(frozen=True)
class Coordinates:
    """Which variable is what to the kernel, in one group.

    Attributes
    ----------
    y, x : tuple of str
        Variables of the rows, and covariates of the rows that it is conditional on.
    unseen, seen : tuple of tuples of str
        By level from 2: coordinates that are not observed themselves, and those that are.
    slopes : tuple of (slope, outcome, covariate)
    """

    y: tuple[str, ...]
    x: tuple[str, ...]
    unseen: tuple[tuple[str, ...], ...]
    seen: tuple[tuple[str, ...], ...]
    slopes: tuple[tuple[str, str, str], ...]

    @cached_property
    def layout(self) -> Layout:
        """The same as the kernel's indices."""
        loadings = {name: i for i, (name, _, _) in enumerate(self.slopes)}
        first = self.unseen[0] if self.unseen else ()
        column, response = [], []
        for name in first:
            if name in loadings:
                column.append(1 + self.x.index(self.slopes[loadings[name]][2]))
                response.append(-1 - loadings[name])
            elif name in self.y:
                column.append(0)
                response.append(self.y.index(name))
            else:
                column.append(0)
                response.append(-1 - len(self.slopes))
        up = []
        for k in range(len(self.unseen)):
            above = self.unseen[k + 1] if k + 1 < len(self.unseen) else ()
            own = self.unseen[k] + self.seen[k]
            up.append([above.index(name) if name in above else -1 for name in own])
        return Layout(
            np.array(column, dtype=np.int32), np.array(response, dtype=np.int32),
            len(self.slopes), tuple(np.array(u, dtype=np.int32) for u in up),
        )  # fmt: skip


def coordinates(
    table: ParameterTable, g: int, home: Mapping[str, int], latent: Sequence[int] = ()
) -> Coordinates:
    """Return which variable is what in a group.

    Parameters
    ----------
    table : ParameterTable
    g : int
    home : dict
        Observed variable -> level on which it varies.
    latent : sequence of int
        Levels whose latent variables are coordinates too, for their posterior.
    """
    names = {level: table.names[g, level] for level in range(1, table.levels + 1)}
    random = [r for r in table.block(g, 1) if r.slope is not None]
    own = names[1]
    x = own.fixed if random else ()
    y = tuple(n for n in own.observed if n not in x)
    slopes = tuple((str(r.slope), r.lhs, r.rhs) for r in random if r.rhs in x)
    later = [
        dict.fromkeys(n for m in range(level, table.levels + 1) for n in names[m].observed)
        for level in range(2, table.levels + 1)
    ]
    integrated = {str(r.slope) for r in latent_slopes(table, g)}
    unseen, seen = [], []
    for level, present in zip(range(2, table.levels + 1), later, strict=True):
        rows = [n for n in y if n in present]
        others = [n for n in present if 1 < home[n] < level]
        random_here = [
            n for n, _, _ in slopes
            if level == 2 or any(n in names[m].latent for m in range(level, table.levels + 1))
        ]  # fmt: skip
        others_here = [n for n in names[level].latent if n not in {*random_here, *integrated}]
        more = others_here if level in latent else []
        unseen.append(tuple(dict.fromkeys([*rows, *others, *random_here, *more])))
        seen.append(tuple(n for n in present if home[n] == level))
    return Coordinates(y, x, tuple(unseen), tuple(seen), slopes)


def latent_slopes(table: ParameterTable, g: int) -> list[Parameter]:
    """Parameters of a group that are slopes of latent variables and vary between units.

    Latent is a part within too, of a variable that the model decomposes.
    """
    held = table.names[g, 1].fixed
    return [r for r in table.block(g, 1) if r.slope is not None and r.rhs not in held]


@dataclass(frozen=True, eq=False)
class Parts:
    """The kernel's moments at one point, and what made them."""

    flat: Floats
    moments: tuple[Moments, ...]


class GroupProblem:
    """One group's criterion.

    Attributes
    ----------
    nodes : int
        A dimension of the integral over slopes of latent variables; 0 where there is none.

    Parameters
    ----------
    table : ParameterTable
    g : int
    coordinates : Coordinates
    data : GroupData
    sample : dict
        Values of parameters held at the sample's, by level, lhs and rhs.
    kernel : ranef._core.Messages, optional
    """

    nodes = 0

    def __init__(
        self, table: ParameterTable, g: int, coordinates: Coordinates, data: GroupData,
        sample: Mapping[int, Sample], kernel: Any = None, threads: int = 1,
    ) -> None:  # fmt: skip
        self.table, self.g, self.coordinates, self.data = table, g, coordinates, data
        self.sample, self.threads = sample, threads
        self.rams = tuple(
            Ram.of(table.block(g, level), table.names[g, level], sample.get(level, {}))
            for level in range(1, table.levels + 1)
        )
        self._kernel = kernel
        first = {name: i for i, name in enumerate(self.rams[0].names)}
        self.y = np.array([first[n] for n in coordinates.y], dtype=np.intp)
        self.x = np.array([first[n] for n in coordinates.x], dtype=np.intp)
        self.outcomes = np.array([first[o] for _, o, _ in coordinates.slopes], dtype=np.intp)
        if len(self.x):
            ram = self.rams[0]
            ram.S[self.x, :] = 0.0
            ram.S[:, self.x] = 0.0
            ram.m[self.x] = 0.0
        self.places = []
        for k, ram in enumerate(self.rams[1:]):
            at = {name: i for i, name in enumerate(ram.names)}
            own = coordinates.unseen[k] + coordinates.seen[k]
            self.places.append(np.array([at.get(n, -1) for n in own], dtype=np.intp))
        self._offsets = self._centers()
        self._own = np.ix_(self.y, self.y)
        self._real = [np.flatnonzero(at >= 0) for at in self.places]
        self._grids = [
            (np.ix_(at[real], at[real]), np.ix_(real, real))
            for at, real in zip(self.places, self._real, strict=True)
        ]

    def _centers(self) -> list[Floats]:
        """What is subtracted from the means of each level, as the data were centred."""
        c = self.coordinates
        rows = self.data.center.copy()
        offsets = [rows]
        for k, own in enumerate(c.unseen):
            offset = np.zeros(len(own) + len(c.seen[k]))
            if k == 0:
                for i, name in enumerate(own):
                    if name in c.y:
                        j = c.y.index(name)
                        offset[i], rows[j] = rows[j], 0.0
            offset[len(own) :] = self.data.z_center[k]
            offsets.append(offset)
        return offsets

    @cached_property
    def kernel(self) -> Any:
        """The compiled problem."""
        if self._kernel is not None:
            return self._kernel
        return messages(self.data, self.coordinates.layout, threads=self.threads)

    # --- moments

    def parts(self, theta: Floats) -> Parts:
        """Return the kernel's moments at theta."""
        found = tuple(ram.moments(theta) for ram in self.rams)
        one = found[0]
        T = one.T[self.y]
        B = one.mu[self.y] - self._offsets[0]
        if len(self.x):
            W = T @ one.S @ T.T
            pieces = [W.ravel(), np.column_stack([B, T[:, self.x]]).ravel()]
            pieces.append(T[:, self.outcomes].T.ravel())
        else:
            pieces = [one.C[self._own].ravel(), B]
        for k, moments in enumerate(found[1:]):
            at, offset, real = self.places[k], self._offsets[k + 1], self._real[k]
            d, (among_all, among_own) = len(at), self._grids[k]
            if len(real) == d:
                pieces += [moments.C[among_all].ravel(), moments.mu[at] - offset]
                continue
            S, m = np.zeros((d, d)), -offset
            S[among_own] = moments.C[among_all]
            m[real] += moments.mu[at[real]]
            pieces += [S.ravel(), m]
        return Parts(np.concatenate(pieces), found)

    def value(self, theta: Floats) -> float:
        """Return -2 log L, NaN where there is none."""
        flat = self.parts(theta).flat
        if not np.isfinite(flat).all():
            return float("nan")
        return float(self.kernel.criterion(flat, False)[0])

    def add_gradient(self, theta: Floats, out: Floats) -> float:
        """Return -2 log L and add its gradient to `out`."""
        parts = self.parts(theta)
        if not np.isfinite(parts.flat).all():
            return float("nan")
        value, slope = self.kernel.criterion(parts.flat, True)
        self.chain(parts, slope, out)
        return float(value)

    def chain(self, parts: Parts, slope: Floats, out: Floats) -> None:
        """Add to `out` the gradient in theta of what has the gradient `slope` in the moments."""
        p, k = len(self.y), 1 + len(self.x)
        one = parts.moments[0]
        v = len(one.m)
        G, g = np.zeros((v, v)), np.zeros(v)
        G[self._own] = slope[: p * p].reshape(p, p)
        B = slope[p * p : p * p + p * k].reshape(p, k)
        g[self.y] = B[:, 0]
        at = p * p + p * k
        extra = None
        if len(self.x):
            T = one.T[self.y]
            extra = T.T @ B[:, 1:] @ one.T[:, self.x].T
            s = len(self.outcomes)
            L = slope[at : at + s * p].reshape(s, p)
            extra = extra + (T.T @ L.T) @ one.T[:, self.outcomes].T
            at += s * p
        self.rams[0].add_gradient(one, G, g, out, extra)
        for k, (places, ram) in enumerate(zip(self.places, self.rams[1:], strict=True)):
            moments = parts.moments[k + 1]
            d, v = len(places), len(ram.m)
            own = slope[at : at + d * d].reshape(d, d)
            means = slope[at + d * d : at + d * d + d]
            at += d * d + d
            G, g = np.zeros((v, v)), np.zeros(v)
            real, (among_all, among_own) = self._real[k], self._grids[k]
            G[among_all] = own[among_own]
            g[places[real]] = means[real]
            ram.add_gradient(moments, G, g, out)

    def jacobian(self, theta: Floats) -> Floats:
        """Derivatives (moments, parameters) of the kernel's moments, for scores."""
        parts = self.parts(theta)
        n = len(parts.flat)
        out = np.zeros((n, len(theta)))
        step = np.eye(n)
        # the chain rule is linear in the slope
        for i in np.flatnonzero(np.ones(n)):
            self.chain(parts, step[i], out[i])
        return out

    def scores(self, theta: Floats, kernel: Any) -> Floats:
        """Derivatives (units, P) of each unit's -2 log L, by a kernel that keeps every unit."""
        J = np.ascontiguousarray(self.jacobian(theta))
        return np.asarray(kernel.units(self.parts(theta).flat, J)[1])

    def adapt(self, theta: Floats, nodes: int | None = None) -> None:
        """Place nodes anew, where there are any."""

    def mixture(self, theta: Floats) -> Iterator[tuple[Floats | float, Parts, Floats]]:
        """Weights (of the units, or one of all), moments and slopes, of each node or of all."""
        yield 1.0, self.parts(theta), np.zeros(0)

    def thinned(self, theta: Floats) -> Any:
        """Leave as many nodes as second derivatives need; returns the nodes there were."""
        return None

    def restore(self, grid: Any) -> None:
        """Take nodes back that `thinned` returned."""

    def refined(self, theta: Floats) -> float:
        """-2 log L by twice as many nodes, where there are any."""
        return self.value(theta)

    def directions(self, theta: Floats) -> tuple[Floats, Floats, list[tuple[Floats, Floats]]]:
        """Derivatives by parameter: of W (P, p, p), the rows' means, and each level's moments."""
        parts, P = self.parts(theta), len(theta)

        def of(ram: Ram, moments: Moments, at: Ints) -> tuple[Floats, Floats]:
            real = np.flatnonzero(at >= 0)
            dC, dm = ram.derivatives(moments, at[real])
            C, m = np.zeros((P, len(at), len(at))), np.zeros((P, len(at)))
            np.add.at(C, (ram.place[:, None, None], real[:, None], real[None, :]), dC)
            np.add.at(m, (ram.place[:, None], real[None, :]), dm)
            return C, m

        W, mu = of(self.rams[0], parts.moments[0], self.y)
        levels = [
            of(ram, moments, at)
            for ram, moments, at in zip(self.rams[1:], parts.moments[1:], self.places, strict=True)
        ]
        return W, mu, levels

    def levels_at(self, flat: Floats) -> tuple[Floats, Floats, list[tuple[Floats, Floats]]]:
        """Take the kernel's moments apart: W, B, and each level's covariance and mean."""
        p, k, s = len(self.y), 1 + len(self.x), len(self.outcomes)
        W, B = flat[: p * p].reshape(p, p), flat[p * p : p * p + p * k].reshape(p, k)
        at, levels = p * p + p * k + s * p, []
        for places in self.places:
            d = len(places)
            S = flat[at : at + d * d].reshape(d, d)
            levels.append((S, flat[at + d * d : at + d * d + d]))
            at += d * d + d
        return W, B, levels


class Problem:
    """The criterion of all groups.

    Attributes
    ----------
    table : ParameterTable
    groups : tuple of GroupProblem
    constant : float
        Added to -2 log L: minus that of covariates that the likelihood is conditional on.
    evaluations : int
    scale : array or float
        Sizes of the parameters, where they are far from one.
    """

    def __init__(
        self, table: ParameterTable, groups: Sequence[GroupProblem], constant: float = 0.0
    ) -> None:
        self.table, self.groups, self.constant = table, tuple(groups), constant
        self.evaluations = 0
        self.scale: Floats | float = 1.0

    @property
    def size(self) -> int:
        return self.table.size

    @property
    def integrated(self) -> bool:
        """Whether it is an integral over nodes."""
        return any(group.nodes > 0 for group in self.groups)

    def adapt(self, theta: Floats, nodes: int | None = None) -> None:
        """Place nodes anew at theta, as many a dimension as were asked for by default."""
        for group in self.groups:
            group.adapt(theta, nodes)

    def refined(self, theta: Floats) -> float:
        """-2 log L by twice as many nodes a dimension."""
        return self.constant + sum(group.refined(theta) for group in self.groups)

    def value(self, theta: Floats) -> float:
        """Return -2 log L, NaN where there is none."""
        self.evaluations += 1
        return self.constant + sum(group.value(theta) for group in self.groups)

    def value_gradient(self, theta: Floats) -> tuple[float, Floats]:
        """Return -2 log L and its gradient."""
        self.evaluations += 1
        out = np.zeros(len(theta))
        value = self.constant + sum(group.add_gradient(theta, out) for group in self.groups)
        return value, out

    def hessian(self, theta: Floats) -> Floats:
        """Second derivatives of -2 log L, by central differences of its gradient."""
        with self.thinned(theta):
            return differences(self.value_gradient, theta, self.scale)

    @contextmanager
    def thinned(self, theta: Floats) -> Iterator[None]:
        """As many nodes, where there are any, as second derivatives at theta need."""
        grids = [group.thinned(theta) for group in self.groups]
        try:
            yield
        finally:
            for group, grid in zip(self.groups, grids, strict=True):
                group.restore(grid)


def differences(
    value_gradient: Callable[[Floats], tuple[float, Floats]], theta: Floats,
    scale: Floats | float = 1.0, *, rough: bool = False,
) -> Floats:  # fmt: skip
    """Second derivatives (P, P) by central differences of a gradient, NaN where there is none.

    Steps are relative to the larger of a parameter and its `scale`; `rough` ones go ahead alone,
    for half as many gradients.
    """
    n = len(theta)
    sizes = np.broadcast_to(scale, n)
    out = np.zeros((n, n))
    here = value_gradient(theta) if rough else (np.nan, theta)
    for j in range(n):
        step = STEP * max(sizes[j], abs(theta[j]))
        for _ in range(12):
            ahead, behind = theta.copy(), theta.copy()
            ahead[j] += step
            behind[j] -= step
            up, gu = value_gradient(ahead)
            if rough:
                behind = theta
            down, gd = here if rough else value_gradient(behind)
            if np.isfinite(up) and np.isfinite(down):
                out[j] = (gu - gd) / (ahead[j] - behind[j])
                break
            step /= 8
        else:
            out[j] = np.nan
    return (out + out.T) / 2
