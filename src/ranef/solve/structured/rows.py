"""The covariance of the rows of groups as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import (
    HETEROGENEOUS,
    ON_COORDINATES,
    ON_PLACES,
    Exchangeable,
    Jet,
    Nugget,
    RowCorrelation,
    Unstructured,
    product,
    row_correlation,
)
from ranef.covariance.structure import Parameter
from ranef.design.terms import ResidualPart, ResidualTerm
from ranef.errors import ModelError

__all__ = ["GroupJet", "RowCovariance", "row_covariance"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LEAST_GAP, MOST_GAP = 5e-3, 1e7
"""Distances of neighbours between which phi at distance 1 can be told from 0 and 1."""
NO_CORRELATION = 1e-9
"""A correlation that is none."""
OF_STEPS = frozenset({"ar1", "hetar1", "car1", "arma"})
"""Whose parameters are of distance 1, however far apart the rows stand."""
FIRST_ORDER = frozenset({"ar1", "car1", "ou"})

LEAST_PIVOT = 1e-14
"""Beside rounding."""
LEAST_BESIDE_EFFECTS, LEAST_BESIDE_OTHERS = 1e-6, 1e-10
"""The same beside random effects, where likelihoods lose digits as its inverse square, and
relative to the largest variance, as its inverse."""
CAN_BE_SINGULAR = ON_PLACES | {"hetar1"}
"""Structures that may be so."""
NO_SIZE = float(np.log(1e-4))
"""Logarithm of a standard deviation beside the largest that is none."""
OWN_EDGES = frozenset({"toep", "homtoep", "us"})
"""Whose boundary is not where one parameter ends."""

EDGE = 1e-5
"""Share of its range from an end of it at which a parameter stands for that end.

Nearer to an end where R is singular, digits of the likelihood are lost as the inverse square.
"""


@dataclass(frozen=True, eq=False)
class GroupJet:
    """R of some groups, with derivatives in the parameters that it depends on.

    Attributes
    ----------
    value : (g, n, n) float64 array
    own : (k,) int array
        Which entries of theta the derivatives are in.
    first : (k, g, n, n) float64 array
    second : dict of (i, j), i <= j, to (g, n, n) float64 arrays
        Of positions in `own`.
    """

    value: Floats
    own: Ints
    first: Floats
    second: Mapping[tuple[int, int], Floats]


@dataclass(frozen=True, eq=False)
class RowCovariance:
    """R(theta) of a residual term: log standard deviations, then correlations by level of `by`.

    Attributes
    ----------
    term : ResidualTerm
    correlations : tuple of tuple of RowCorrelation
        The parts, for each level of `by`.
    least_pivot, least_variance : float
        Least variance of a row given those before it, relative to its own and to the largest of
        its group, that is not zero.
    """

    term: ResidualTerm
    correlations: tuple[tuple[RowCorrelation, ...], ...]
    least_pivot: float = LEAST_PIVOT
    least_variance: float = 0.0

    @cached_property
    def n_scales(self) -> int:
        return len(self.term.scales)

    @cached_property
    def slices(self) -> tuple[tuple[slice, ...], ...]:
        """Where the parameters of each part stand in theta, for each level of `by`."""
        place, out = self.n_scales, []
        for parts in self.correlations:
            own = []
            for part in parts:
                own.append(slice(place, place + len(part.parameters())))
                place = own[-1].stop
            out.append(tuple(own))
        return tuple(out)

    @cached_property
    def n_parameters(self) -> int:
        last = [one for parts in self.slices for one in parts]
        return last[-1].stop if last else self.n_scales

    @cached_property
    def is_first_order(self) -> bool:
        """Whether a row depends on those before through the last alone, with one variance."""
        parts = self.term.parts
        plain = len(parts) == 1 and not parts[0].nugget and not self.term.scales
        return plain and parts[0].kind in FIRST_ORDER

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the entries of theta are; of the scales, coefficients of the log sd."""
        scales = [Parameter("log sd", scale.name) for scale in self.term.scales]
        rest = [p for parts in self.correlations for part in parts for p in part.parameters()]
        return (*scales, *rest)

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Which are searched for by their logarithm."""
        each = [part.positive for parts in self.correlations for part in parts]
        return np.concatenate([np.zeros(self.n_scales, dtype=np.bool_), *each])

    @cached_property
    def limits(self) -> Floats:
        """Ends of the range of each, (k, 2)."""
        free = np.tile([-np.inf, np.inf], (self.n_scales, 1))
        each = [part.limits for parts in self.correlations for part in parts]
        out = np.vstack([free, *each])
        for (cut,), most in zip(self.slices, self._largest_groups, strict=False):
            out[cut, 0] = -1.0 / max(most - 1, 1)
        return out

    @cached_property
    def _largest_groups(self) -> list[int]:
        """Rows of the largest group where all its pairs are correlated alike, by level of `by`.

        Their one correlation is above -1 over one less than that.
        """
        group, by = self.term.group, self.term.by
        alike = [len(parts) == 1 and isinstance(parts[0], Exchangeable)
                 for parts in self.correlations]  # fmt: skip
        if group is None or not all(alike):
            return []
        if by is None:
            return [int(np.bincount(group.codes).max(initial=2))]
        return [
            int(np.bincount(group.codes[by.codes == level]).max(initial=2))
            for level in range(len(self.correlations))
        ]

    @cached_property
    def closed(self) -> NDArray[np.bool_]:
        """At which ends of its range (k, 2) each may stand."""
        free = np.zeros((self.n_scales, 2), dtype=np.bool_)
        return np.vstack([free, *(part.closed for parts in self.correlations for part in parts)])

    def are_outside(self, theta: Floats) -> bool:
        """Whether a parameter is beyond its range, or at an end that does not belong to it."""
        beyond = np.column_stack([theta < self.limits[:, 0], theta > self.limits[:, 1]])
        if np.any(beyond | ((theta[:, None] == self.limits) & ~self.closed)):
            return True
        return bool(self.factors) and not self._factors_are_definite(theta)

    @cached_property
    def factors(self) -> list[tuple[RowCorrelation, slice]]:
        """Matrices of few places in a product, of which the rows may show less than all.

        R can be definite with one of them that is not, where two places meet at a distance of
        another factor only.
        """
        if len(self.term.parts) < 2:
            return []
        return [(part, cut) for part, cut in self.parts if part.kind in ON_PLACES and part.is_whole]

    def factor_jets(self, theta: Floats) -> list[GroupJet]:
        """Each of `factors`, of all its places."""
        out = []
        for part, cut in self.factors:
            places: NDArray[Any] = np.arange(len(part.names))[None]
            found = part.at(theta[cut], places, True)
            own = np.arange(cut.start, cut.stop)
            out.append(GroupJet(found.value, own, found.first, found.second))
        return out

    def _factors_are_definite(self, theta: Floats) -> bool:
        matrices = [jet.value[0] for jet in self.factor_jets(theta)]
        if not all(np.all(np.isfinite(matrix)) for matrix in matrices):
            return False
        try:
            for matrix in matrices:
                np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return False
        return True

    def are_past_edges(self, theta: Floats) -> bool:
        """Whether a parameter is so near to where R is singular that digits are lost."""
        return any(
            (theta[k] - value) * np.sign(value - self.limits[k].mean()) > 0
            for k, value, _ in self.edges
        )

    @cached_property
    def least_gaps(self) -> tuple[float, ...]:
        """Least distance of two successive rows of a group, by part; zero where there is none."""
        gaps = [_gaps(part, self.term) for part in self.term.parts]
        return tuple(float(each.min(initial=np.inf)) if len(each) else 0.0 for each in gaps)

    @cached_property
    def edges(self) -> list[tuple[int, float, float]]:
        """Parameter, value and width of range at each end where the covariance is singular.

        The end itself does not belong to the range; EDGE of the range beside it stands for it.
        """
        found: list[tuple[int, float, float]] = []
        if any(part.kind in OWN_EDGES for part in self.term.parts):
            return found
        for k, side in np.argwhere(np.isfinite(self.limits) & ~self.closed).tolist():
            width = float(self.limits[k, 1] - self.limits[k, 0])
            if np.isfinite(width) and self.limits[k, side] != 0.0:  # at zero rows are independent
                inwards = EDGE * width * (1.0 if side == 0 else -1.0)
                found.append((k, float(self.limits[k, side]) + inwards, width))
        return found

    def on_edge(self, theta: Floats) -> NDArray[np.bool_]:
        """Which parameters (k,) stand where the covariance is all but singular."""
        out = np.zeros(self.n_parameters, dtype=np.bool_)
        for k, value, width in self.edges:
            out[k] |= abs(float(theta[k]) - value) <= 0.1 * EDGE * width
        return out

    def loose(self, theta: Floats) -> NDArray[np.bool_]:
        """Which parameters (k,) are at no end of their range, and matter."""
        out = np.ones(self.n_parameters, dtype=np.bool_)
        for part, cut, _ in self._parts_at():
            out[cut] = part.loose(theta[cut])
        out &= ~self.on_edge(theta)
        out[: self.n_scales] &= ~self._without_variance(theta)
        for cut, _ in self._without_correlation(theta):
            out[cut] = False
        return out

    def canonical(self, theta: Floats) -> Floats:
        """Parameters of the same covariance, of several the ones that are reported."""
        out = theta.copy()
        for part, cut, _ in self._parts_at():
            out[cut] = part.canonical(theta[cut])
        return out

    def ends(self, theta: Floats) -> tuple[str, ...]:
        """The ends of ranges that parameters stand at, in words."""
        label = self.term.label
        out = [f"no correlation is left in {label}" for _ in self._without_correlation(theta)]
        for part, cut, _ in self._parts_at():
            if not out and isinstance(part, Nugget) and not part.loose(theta[cut])[-1]:
                none = theta[cut][-1] == 0.0
                out.append(f"the nugget of {label} is {'zero' if none else 'all of the variance'}")
        if self.on_edge(theta).any():
            out.append(f"the covariance of {label} is singular beside the random effects")
        return tuple(dict.fromkeys(out))

    def fallen(self, theta: Floats, near: float) -> list[Floats]:
        """Theta with a correlation of about `near` at the least distance, by part that can fall."""
        out = []
        for part, cut, i in self._parts_at():
            gap = self.least_gaps[i] if part.kind in ON_COORDINATES else 0.0
            if not (gap > 0 and np.isfinite(gap)):
                continue
            one = theta.copy()
            depth = -float(np.log(near))
            one[cut.start] = np.exp(-depth / gap) if part.kind == "car1" else gap / depth
            out.append(one)
        return out

    @property
    def parts(self) -> list[tuple[RowCorrelation, slice]]:
        """Each part for each level of `by`, and where its parameters stand."""
        return [(part, cut) for part, cut, _ in self._parts_at()]

    def _parts_at(self) -> list[tuple[RowCorrelation, slice, int]]:
        """Each part for each level of `by`, its parameters, and its number."""
        return [
            (part, cut, i)
            for parts, cuts in zip(self.correlations, self.slices, strict=True)
            for i, (part, cut) in enumerate(zip(parts, cuts, strict=True))
        ]

    def _without_variance(self, theta: Floats) -> NDArray[np.bool_]:
        """Places but the first (n_scales,) whose variance has run to zero beside the others'."""
        sizes, parts = theta[: self.n_scales], self.term.parts
        one_each = len(parts) == 1 and parts[0].kind in HETEROGENEOUS and self.term.by is None
        if not (self.least_variance and one_each and len(sizes) == len(parts[0].names) - 1):
            return np.zeros(len(sizes), dtype=np.bool_)
        return np.asarray(sizes < max(0.0, float(sizes.max(initial=0.0))) + NO_SIZE)

    def _without_correlation(self, theta: Floats) -> list[tuple[slice, int]]:
        """Parts that fall with distance, and have fallen to nothing at the least one."""
        out = []
        for part, cut, i in self._parts_at():
            gap = self.least_gaps[i] if part.kind in ON_COORDINATES else 0.0
            if gap > 0:
                own = part.inner if isinstance(part, Nugget) else part
                rho = theta[cut][: len(own.parameters())]
                near = own.at(rho, np.array([[0.0, gap]])).value[0, 0, 1]
                if abs(near) < NO_CORRELATION:
                    out.append((cut, i))
        return out

    def moved(self, theta: Floats, step: Floats) -> Floats:
        """Theta a step further, logarithms of positive parameters moved, inside the limits."""
        safe = np.where(self.positive, theta, 1.0)
        out = np.where(self.positive, safe * np.exp(step / safe), theta + step)
        low, high = self.limits.T
        margin = 1e-6
        out = np.asarray(np.clip(out, low + margin, high - margin))
        for parts, cuts in zip(self.correlations, self.slices, strict=True):
            for part, cut in zip(parts, cuts, strict=True):
                if isinstance(part, Unstructured):
                    out[cut] = part.moved(theta[cut], step[cut])
        return out

    def starts(self) -> list[Floats]:
        """Thetas to begin from, all parts at the beginning of their lists, then at the next."""
        lists = [part.starts() for parts in self.correlations for part in parts]
        count = max((len(one) for one in lists), default=1)
        scales = np.zeros(self.n_scales)
        return [
            np.concatenate([scales, *(one[min(i, len(one) - 1)] for one in lists)])
            for i in range(count)
        ]

    def at(self, theta: Floats, rows: Ints, by: int, second: bool = False) -> GroupJet:
        """R of the groups of these rows (g, n), all of one level of `by`."""
        g, n = rows.shape
        parts, own = self.correlations[by], self.slices[by]
        jets = [
            part.at(theta[cut], given.where[rows], second)
            for part, cut, given in zip(parts, own, self.term.parts, strict=True)
        ]
        if jets:
            inner = product(jets)
        else:
            inner = Jet(np.broadcast_to(np.eye(n), (g, n, n)), np.empty((0, g, n, n)))
        places = [k for cut in own for k in range(cut.start, cut.stop)]
        inside = np.array(places, dtype=np.intp)
        return self._scaled(theta, rows, inner, inside, second)

    def _scaled(
        self, theta: Floats, rows: Ints, inner: Jet, inside: Ints, second: bool
    ) -> GroupJet:
        """S R S, S = exp(W gamma)."""
        W = self.term.W[rows]
        touched = np.flatnonzero(np.any(W != 0, axis=(0, 1)))
        if not len(touched):
            return GroupJet(inner.value, inside, inner.first, inner.second)
        size = np.exp(W @ theta[: self.n_scales])
        scale = size[:, :, None] * size[:, None, :]
        value, first = scale * inner.value, scale * inner.first
        sums = [W[:, :, None, k] + W[:, None, :, k] for k in touched]
        s = len(touched)
        bent: dict[tuple[int, int], Floats] = {}
        if second:
            for i in range(s):
                bent.update({(i, j): sums[i] * sums[j] * value for j in range(i, s)})
                bent.update({(i, s + k): sums[i] * d for k, d in enumerate(first)})
            bent.update({(s + i, s + j): scale * d for (i, j), d in inner.second.items()})
        slopes = np.stack([one * value for one in sums])
        own = np.concatenate([touched, inside])
        return GroupJet(value, own, np.concatenate([slopes, first]), bent)


def row_covariance(term: ResidualTerm) -> RowCovariance:
    """Return the covariance that a residual term stands for."""
    levels = 1 if term.by is None else term.by.n_levels
    return RowCovariance(
        term,
        tuple(
            tuple(_correlation(part, term, i, level) for i, part in enumerate(term.parts))
            for level in range(levels)
        ),
    )


def _correlation(part: ResidualPart, term: ResidualTerm, i: int, level: int) -> RowCorrelation:
    given: dict[str, object] = {}
    if part.kind == "us":
        given["whole"] = i == 0 and level > 0
    if part.kind == "arma" and part.order is not None:
        given["order"] = part.order
    if part.kind in ("toep", "homtoep"):
        given["lags"] = part.lags
    if part.kind in OF_STEPS:
        given["gap"] = _checked_gap(part, term)
    if part.kind in ON_COORDINATES - {"car1"}:
        given["unit"] = _median_distance(part, term)
    found = row_correlation(part.kind, part.names, **given)
    return Nugget(part.kind, part.names, inner=found) if part.nugget else found


def _checked_gap(part: ResidualPart, term: ResidualTerm) -> float:
    """Median distance of neighbours in time, near enough to 1 that phi keeps its digits."""
    gaps = _gaps(part, term)
    gap = float(np.median(gaps)) if len(gaps) else 1.0
    if not LEAST_GAP <= gap <= MOST_GAP:
        raise ModelError(
            f"{term.label}: the rows of a group are about {gap:.3g} apart in time, so that a "
            "correlation at distance 1 cannot be written as a number; give the time in units in "
            "which neighbours are about 1 apart, or use ou(), which has a range"
        )
    return gap


def _median_distance(part: ResidualPart, term: ResidualTerm) -> float:
    """Median distance of successive rows of a group, times the root of how many there are."""
    gaps = _gaps(part, term)
    if not len(gaps):
        return 1.0
    typical = float(np.median(gaps))
    rows = len(part.where) if term.group is None else np.bincount(term.group.codes).mean()
    return typical * max(1.0, float(np.sqrt(rows)))


def _gaps(part: ResidualPart, term: ResidualTerm) -> Floats:
    """Distances of successive rows of a group that do not stand at one place."""
    where = np.asarray(part.where, dtype=np.float64).reshape(len(part.where), -1)
    codes = np.zeros(len(where), dtype=np.intp) if term.group is None else term.group.codes
    order = np.lexsort((where[:, 0], codes))
    a, b = order[:-1], order[1:]
    near = codes[a] == codes[b]
    gaps = np.sqrt(np.sum((where[a][near] - where[b][near]) ** 2, axis=1))
    return np.asarray(gaps[gaps > 0])
