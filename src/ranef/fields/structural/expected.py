"""Expected information where values are missing, slopes vary or there are more than two levels.

The values observed of a unit of the highest level are normal with mean m and covariance C given
which are observed, so that the information is the sum over these units of
1/2 tr(C^-1 dC C^-1 dC) + dm' C^-1 dm. The matrices are dense, one a design of units.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.expected_moments import Moments
from ranef.fields.structural.expected_units import add_units, is_plain
from ranef.fields.structural.problem import GroupProblem, Problem, latent_slopes

__all__ = ["information_given_missing"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MOST_VALUES = 3000
"""Values of one unit of the highest level that make one dense matrix."""


def information_given_missing(problem: Problem, theta: Floats) -> Floats:
    """Return the information (P, P) about the parameters given which values are missing."""
    out = np.zeros((len(theta), len(theta)))
    for group in problem.groups:
        if latent_slopes(problem.table, group.g):
            raise ModelError(
                "information='expected' is of models without random slopes of latent variables; "
                "use 'observed'"
            )
        at = Moments.of(group, theta)
        if group.data.n and is_plain(group):
            add_units(group, at, out)
            continue
        units = _of_units(group, at) if group.data.levels else _of_rows(group, at)
        for count, C, dC, dm in units:
            root = np.linalg.inv(np.linalg.cholesky(C))
            X = (root @ dC @ root.T).reshape(len(theta), -1)
            m = dm @ root.T
            out += count * (X @ X.T / 2 + m @ m.T)
    return out


Unit = tuple[int, Floats, Floats, Floats]
"""How many are alike; covariance, its derivatives, those of the mean."""


def _of_rows(group: GroupProblem, at: Moments) -> Iterator[Unit]:
    patterns = group.data.patterns
    for o, count in enumerate(np.bincount(patterns.codes, minlength=len(patterns.present))):
        seen = np.flatnonzero(patterns.present[o])
        if len(seen):
            grid = np.ix_(seen, seen)
            dC = at.dW[:, grid[0], grid[1]]
            yield int(count), at.W[grid], dC, at.dB[:, seen, 0]


def _of_units(group: GroupProblem, at: Moments) -> Iterator[Unit]:
    levels = group.data.levels
    of_row = [levels[0].codes]
    for level in levels[1:]:
        of_row.append(level.codes[of_row[-1]])
    order = np.argsort(of_row[-1], kind="stable")
    bounds = np.searchsorted(of_row[-1][order], np.arange(levels[-1].units + 1))
    counted: dict[bytes, list[Ints]] = {}
    for top in range(levels[-1].units):
        rows = order[bounds[top] : bounds[top + 1]]
        rows = rows[np.argsort(group.data.patterns.codes[rows], kind="stable")]
        key = _design(group, rows, top, of_row) if len(levels) == 1 else str(top).encode()
        counted.setdefault(key, []).append(rows)
    for alike in counted.values():
        yield _dense(group, at, alike[0], [codes[alike[0]] for codes in of_row], len(alike))


def _design(group: GroupProblem, rows: Ints, top: int, of_row: list[Ints]) -> bytes:
    """What the covariance of a unit of level 2 depends on besides the parameters."""
    data = group.data
    seen = ~np.isnan(data.levels[0].z[top])
    return b"|".join(
        [data.patterns.codes[rows].tobytes(), seen.tobytes(), data.x[rows].tobytes()]
        if len(rows) else [b"", seen.tobytes(), str(top).encode()]
    )  # fmt: skip


def _dense(group: GroupProblem, at: Moments, rows: Ints, of_row: list[Ints], count: int) -> Unit:
    data, layout, P = group.data, group.coordinates.layout, len(at.dW)
    units = [(k, int(u)) for k, codes in enumerate(of_row) for u in np.unique(codes)]
    sizes = [len(at.S[k]) for k, _ in units]
    starts = dict(zip(units, np.cumsum([0, *sizes[:-1]]), strict=True))
    total = sum(sizes)
    entries: dict[tuple[int, int], Floats] = {}
    for k, u in reversed(units):
        own = np.zeros((len(at.S[k]), total))
        own[np.arange(len(own)), starts[k, u] + np.arange(len(own))] = 1.0
        for i, to in enumerate(layout.up[k]):
            if to >= 0:
                own[i] += entries[k + 1, int(data.levels[k + 1].codes[u])][to]
        entries[k, u] = own
    V, mu = np.zeros((total, total)), np.zeros(total)
    dV, dmu = np.zeros((P, total, total)), np.zeros((P, total))
    for (k, u), size in zip(units, sizes, strict=True):
        it = slice(starts[k, u], starts[k, u] + size)
        V[it, it], mu[it], dV[:, it, it], dmu[:, it] = at.S[k], at.m[k], at.dS[k], at.dm[k]
    row, response = np.nonzero(~np.isnan(data.y[rows]))
    size = len(row) + sum(int((~np.isnan(data.levels[k].z[u])).sum()) for k, u in units)
    if size > MOST_VALUES:
        raise ModelError(
            f"information='expected' makes a matrix of the {size:,} values of one unit; it takes "
            f"{MOST_VALUES:,} at most. Use 'observed'"
        )
    x = np.column_stack([np.ones(len(rows)), data.x[rows]])
    into = np.array([entries[0, int(u)][: len(layout.column)] for u in of_row[0][row]])
    Q, dQ = _loadings(layout.column, layout.response, at, x[row], response)
    D = np.einsum("na,nat->nt", Q, into) if len(row) else np.zeros((0, total))
    observed = [
        entries[k, u][len(group.coordinates.unseen[k]) :][~np.isnan(data.levels[k].z[u])]
        for k, u in units
    ]
    D = np.concatenate([D, *observed])
    C = D @ V @ D.T
    dC = D @ dV @ D.T
    dm = dmu @ D.T
    n = len(row)
    if len(at.L) and n:
        dD = np.einsum("Pna,nat->Pnt", dQ, into)
        bent = dD @ (V @ D.T)
        dC[:, :n] += bent
        dC[:, :, :n] += bent.transpose(0, 2, 1)
        dm[:, :n] += dD @ mu
    same = row[:, None] == row[None, :]
    C[:n, :n] += same * at.W[np.ix_(response, response)]
    dC[:, :n, :n] += same * at.dW[:, response[:, None], response[None, :]]
    dm[:, :n] += np.einsum("Pnk,nk->Pn", at.dB[:, response], x[row])
    return count, C, dC, dm


def _loadings(
    column: NDArray[np.int32], kind: NDArray[np.int32], at: Moments, x: Floats, response: Ints
) -> tuple[Floats, Floats]:
    """What each coordinate of level 2 adds to each value (n, a), and derivatives (P, n, a)."""
    Q = np.zeros((len(x), len(column)))
    dQ = np.zeros((len(at.dW), len(x), len(column)))
    for a, (k, r) in enumerate(zip(column, kind, strict=True)):
        if r >= 0:
            Q[:, a] = x[:, k] * (response == r)
        elif -1 - r < len(at.L):
            Q[:, a] = x[:, k] * at.L[-1 - r, response]
            dQ[:, :, a] = x[:, k] * at.dL[:, -1 - r][:, response]
    return Q, dQ
