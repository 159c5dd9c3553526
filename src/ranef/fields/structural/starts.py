"""Where the search begins: moments of each level, and parameters that fit them roughly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.messages import GroupData
from ranef.fields.structural.parameters import BlockNames, Parameter, ParameterTable
from ranef.fields.structural.problem import Coordinates, Problem

__all__ = ["level_moments", "natural_scale", "start_values"]

Floats = NDArray[np.float64]
Matrix = dict[tuple[str, str], float]
SHARE = 0.1
"""Of the variance, the least that a level is given at the start."""


def level_moments(data: GroupData, c: Coordinates) -> list[tuple[tuple[str, ...], Floats, Floats]]:
    """Rough means and covariances of each level: names, covariance, means."""
    y = data.y.copy()
    n, p = y.shape
    found: list[tuple[tuple[str, ...], Floats, Floats]] = []
    names = c.y
    values, codes_of = y, None
    spread = _variances(y)
    for k, level in enumerate(data.levels):
        apart = [i for i, name in enumerate(names) if name in c.unseen[k]]
        means, _ = _unit_means(values, level.codes, level.units)
        within = values.copy()
        within[:, apart] -= means[level.codes][:, apart]
        size = max(len(values) / max(level.units, 1), 1.0)
        S = _covariance(within)
        grown = np.ones(len(names))
        grown[apart] = np.sqrt(size / max(size - 1, 0.5)) if size > 1 else 1.0
        S = _clear(S * np.outer(grown, grown), 0.0)
        found.append((names, S, np.zeros(len(names))))
        kept = [i for i, name in enumerate(names) if name in c.unseen[k]]
        W = S[np.ix_(kept, kept)]
        values = np.column_stack([means[:, kept], level.z])
        names = tuple(names[i] for i in kept) + c.seen[k]
        B = _covariance(values)
        B[: len(kept), : len(kept)] -= W / size
        floor = np.concatenate([SHARE * np.diag(W), 1e-3 * np.diag(B)[len(kept) :]])
        next_S = _clear(B, floor)
        if k + 1 == len(data.levels):
            found.append((names, next_S, np.zeros(len(names))))
    if not data.levels:
        found.append((names, _clear(_covariance(values), 0.0), np.zeros(p)))
    del spread, codes_of, n
    return found


def _known_moments(data: GroupData, c: Coordinates) -> list[tuple[tuple[str, ...], Floats, Floats]]:
    """As `level_moments`, made once for all models of the same data."""
    known: dict[Coordinates, list[tuple[tuple[str, ...], Floats, Floats]]]
    known = data.__dict__.setdefault("_level_moments", {})
    if c not in known:
        known[c] = level_moments(data, c)
    return known[c]


def _variances(values: Floats) -> Floats:
    return np.asarray(np.diag(_covariance(values)))


def _unit_means(values: Floats, codes: NDArray[np.intp], units: int) -> tuple[Floats, Floats]:
    seen = ~np.isnan(values)
    sums = np.zeros((units, values.shape[1]))
    counts = np.zeros((units, values.shape[1]))
    np.add.at(sums, codes, np.where(seen, values, 0.0))
    np.add.at(counts, codes, seen)
    return sums / np.maximum(counts, 1), counts


def _covariance(values: Floats) -> Floats:
    """Covariances of pairs that are there."""
    seen = (~np.isnan(values)).astype(np.float64)
    zero = np.where(seen > 0, values, 0.0)
    counts = np.maximum(seen.T @ seen, 1)
    mean = zero.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    zero = np.where(seen > 0, zero - mean, 0.0)
    return np.asarray(zero.T @ zero / counts)


def _clear(S: Floats, floor: Floats | float) -> Floats:
    """The nearest matrix whose variances have a floor and whose correlations are definite."""
    if len(S) == 0:
        return S
    diagonal = np.maximum(np.diag(S), floor)
    diagonal = np.where(diagonal > 0, diagonal, 1e-8 * max(float(np.abs(S).max()), 1e-300))
    root = np.sqrt(diagonal)
    R = S / np.outer(root, root)
    np.fill_diagonal(R, 1.0)
    values, vectors = np.linalg.eigh(R)
    R = (vectors * np.maximum(values, 0.05)) @ vectors.T
    own = np.sqrt(np.diag(R))
    return np.asarray(R / np.outer(own, own) * np.outer(root, root))


def start_values(problem: Problem, given: Mapping[str, float] | None = None) -> Floats:
    """Return a start for every free parameter."""
    table = problem.table
    theta = np.zeros(table.size)
    done = np.zeros(table.size, dtype=bool)
    for group in problem.groups:
        moments = _known_moments(group.data, group.coordinates)
        offsets = dict(zip(group.coordinates.y, group.data.center, strict=True))
        for k, names in enumerate(group.coordinates.seen):
            offsets |= dict(zip(names, group.data.z_center[k], strict=True))
        sizes: dict[str, float] = {}
        for level in range(1, table.levels + 1):
            names, S, _ = moments[level - 1]
            block = table.block(group.g, level)
            reference = {(a, b): float(S[i, j]) for i, a in enumerate(names)
                         for j, b in enumerate(names)}  # fmt: skip
            reference |= {(a, b): v for (a, b), v in group.sample.get(level, {}).items() if b}
            values = _block_starts(block, table.names[group.g, level], reference, offsets)
            if level == 1:
                sizes = {a: v for (a, b), v in reference.items() if a == b}
                sizes |= {r.lhs: v for r, v in zip(block, values, strict=True)
                          if r.op == "~~" and r.lhs == r.rhs and r.lhs not in sizes}  # fmt: skip
            elif group.coordinates.slopes:
                values = _slopes_sized(block, values, group.coordinates.slopes, sizes)
            for row, value in zip(block, values, strict=True):
                if row.free >= 0 and (not done[row.free] or not np.isnan(row.start)):
                    theta[row.free] = value if np.isnan(row.start) else row.start
                    done[row.free] = True
    for name, value in (given or {}).items():
        theta[table.free_names.index(name)] = value
    low, high = bounds_of(table)
    return np.clip(theta, low, high)


def _slopes_sized(
    block: Sequence[Parameter], values: Sequence[float],
    slopes: Sequence[tuple[str, str, str]], sizes: Mapping[str, float],
) -> list[float]:  # fmt: skip
    """Variances of random slopes in the units of their outcomes and covariates."""
    units = {
        slope: sizes[outcome] / sizes[x]
        for slope, outcome, x in slopes
        if sizes.get(outcome, 0.0) > 0 and sizes.get(x, 0.0) > 0
    }
    return [
        value * units.get(row.lhs, 1.0) if row.op == "~~" and row.lhs == row.rhs else value
        for row, value in zip(block, values, strict=True)
    ]


def natural_scale(problem: Problem, theta: Floats) -> Floats:
    """A size of each parameter (P,) in the units of its variables, one where these are ordinary.

    Of covariances the product of standard deviations, of loadings and slopes their ratio; those
    of latent variables are what they are at the start.
    """
    out = np.ones(len(theta))
    for group in problem.groups:
        data, c = group.data, group.coordinates
        seen = dict(zip(c.y, np.sqrt(_variances(data.y)), strict=True))
        seen |= dict(zip(c.x, np.sqrt(_variances(data.x)), strict=True))
        for names, above in zip(c.seen, data.levels, strict=True):
            seen |= dict(zip(names, np.sqrt(_variances(above.z)), strict=True))
        for level in range(1, problem.table.levels + 1):
            size = dict(seen)
            block = problem.table.block(group.g, level)
            for row in block:
                if row.op == "~~" and row.lhs == row.rhs and row.lhs not in size:
                    value = theta[row.free] if row.free >= 0 else row.value
                    size[row.lhs] = float(np.sqrt(abs(value))) if value == value else 1.0
            for row in block:
                if row.free < 0:
                    continue
                a, b = size.get(row.lhs) or 1.0, size.get(row.rhs) or 1.0
                ratio = {"~~": a * b, "~1": a, "~": a / b, "=~": b / a}[row.op]
                out[row.free] = ratio
    return np.where((out > 1e-2) & (out < 1e2), 1.0, out)


def bounds_of(table: ParameterTable) -> tuple[Floats, Floats]:
    """Lower and upper bounds of the free parameters."""
    low, high = np.full(table.size, -np.inf), np.full(table.size, np.inf)
    for row in table.rows:
        if row.free >= 0:
            low[row.free] = max(low[row.free], row.lower)
            high[row.free] = min(high[row.free], row.upper)
    return low, high


def _block_starts(
    block: Sequence[Parameter], names: BlockNames, S: Matrix, offsets: Mapping[str, float]
) -> list[float]:
    loadings, variances = _factors(block, names, S)
    outcomes = {row.lhs for row in block if row.op == "~"}
    fixed_mean = {row.lhs for row in block if row.op == "~1" and row.free < 0}
    out = []
    for row in block:
        own = S.get((row.lhs, row.lhs), 1.0)
        if row.op == "=~":
            value = loadings.get((row.lhs, row.rhs), 1.0)
        elif row.op == "~1":
            value = offsets.get(row.lhs, 0.0) if row.lhs in names.observed else 0.0
        elif row.op == "~":
            value = 0.0
        elif row.lhs == row.rhs:
            value = variances.get(row.lhs, own)
            if row.lhs in outcomes:
                value *= 0.8
            if row.lhs in names.slopes:
                value = 0.05
        else:
            both = row.lhs in names.observed and row.rhs in names.observed
            explained = any(
                r.op == "=~" and r.rhs in (row.lhs, row.rhs) for r in block
            ) or outcomes & {row.lhs, row.rhs}
            value = S.get((row.lhs, row.rhs), 0.0) if both and not explained else 0.0
        out.append(float(value))
    del fixed_mean
    return out


def _factors(
    block: Sequence[Parameter], names: BlockNames, S: Matrix
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Loadings by the first principal component of each factor's indicators, and variances."""
    loadings: dict[tuple[str, str], float] = {}
    variances: dict[str, float] = {}
    held = {row.lhs: row.value for row in block if row.op == "~~" and row.lhs == row.rhs}
    explained: dict[str, float] = {}
    for factor in dict.fromkeys(row.lhs for row in block if row.op == "=~"):
        rows = [r for r in block if r.op == "=~" and r.lhs == factor]
        seen = [r for r in rows if (r.rhs, r.rhs) in S]
        if not seen:
            variances[factor] = 0.5
            continue
        R = np.array([[S[a.rhs, b.rhs] for b in seen] for a in seen])
        root = np.sqrt(np.maximum(np.diag(R), 1e-300))
        values, vectors = np.linalg.eigh(R / np.outer(root, root))
        lead = vectors[:, -1] * np.sqrt(max(values[-1], 0.1)) * 0.85
        if len(seen) == 1:
            lead = np.array([0.8])
        lead = lead * np.sign(lead[0] if lead[0] != 0 else 1.0)
        lead = np.where(np.abs(lead) < 0.1, np.where(lead < 0, -0.1, 0.1), lead) * root
        fixed = [
            (r, x) for r, x in zip(seen, lead, strict=True) if r.free < 0 and r.value not in (0.0,)
        ]
        scale = 1.0
        free_variance = np.isnan(held.get(factor, np.nan))
        if fixed and free_variance:
            scale = float(np.mean([x / r.value for r, x in fixed]))
            scale = scale if abs(scale) > 1e-8 * float(root.max()) else float(root.max())
            variances[factor] = scale**2
        else:
            variances[factor] = 1.0
            if not free_variance and held[factor] > 0:
                scale = 1 / np.sqrt(held[factor])
                scale = 1 / scale
        for r, x in zip(seen, lead, strict=True):
            loadings[factor, r.rhs] = float(x / scale)
            explained[r.rhs] = explained.get(r.rhs, 0.0) + float(x) ** 2
    for name, value in explained.items():
        own = S[name, name]
        variances[name] = max(own - value, 0.2 * own)
    return loadings, variances
