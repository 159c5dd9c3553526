"""Covariance parameters that the data do not determine, found by rank.

The likelihood of a linear model depends on the covariance parameters through Cov(y) alone,
the restricted one through Cov(A'y), A'X = 0. Both are linear in the entries of Psi and in
sigma^2: sum_k d_k G_k. A direction d whose sum is zero changes nothing, wherever the search
stands: a variance that the fixed effects absorb, a term that another contains, effects of
every row beside the residual. Whether there is one is a matter of rank, not of counting:
G_k W for a few random W (n, m) has the rank of the G_k themselves, at the price of some
passes over the rows.

In a generalised model the same holds of the covariance of each linear predictor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.determinacy import (
    DEPENDENT,
    Sketch,
    Triangle,
    images,
    null_space,
    probes_for,
    side_by_side,
)
from ranef.design.terms import GroupingFactor
from ranef.errors import ModelError
from ranef.solve.layout import nests
from ranef.solve.optimum import FlatDirection, Optimum
from ranef.solve.parametrisation import Parametrisation, Term

__all__ = [
    "Predictor",
    "as_good",
    "looks_flat",
    "may_exchange",
    "null_directions",
    "with_flat_directions",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_CURVATURE = 1e-5
"""Second derivative of minus twice the log-likelihood in the logarithm of a parameter."""
COLLINEAR = 1e-2
"""Smallest eigenvalue of the Hessian, scaled to unit diagonal, that invites a closer look."""
LEVEL_FACE = 1e-4
NEGLIGIBLE = 1e-6
SAME = 1e-8
OFTEN = 10.0
LINEAR = frozenset(("us", "diag", "homdiag", "kernel"))


@dataclass(frozen=True, eq=False)
class Predictor:
    """What enters one linear predictor, as far as its covariance goes.

    Attributes
    ----------
    terms : tuple of int
        Its random terms.
    X : (n, p) float64 array or None
        Fixed effects that are integrated out.
    residual : tuple of (n,) float64 arrays
        Derivatives of the residual variance of each row in its own free parameters.
    """

    terms: tuple[int, ...]
    X: Floats | None
    residual: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One direction of the covariance: an entry of Psi, a parameter, or the residual.

    Attributes
    ----------
    term : int or None
        None for the residual.
    D : (r, r) float64 array or None
        Derivative of the term's Psi, in the core's basis.
    entry : int
        The parameter of the term that it moves (of an unstructured one among others).
    """

    term: int | None
    D: Floats | None
    entry: int = 0


@dataclass(frozen=True, eq=False)
class Null:
    """A direction in which the covariance that counts does not change.

    Attributes
    ----------
    psi : dict of (r, r) float64 arrays
        How Psi of each term that takes part moves, in the user's basis.
    theta : dict of float64 arrays
        How the parameters of a term move whose structure is not linear in them.
    residual : float
        How sigma^2 moves.
    absorbed : bool
        Whether the fixed effects make it so.
    """

    psi: dict[int, Floats]
    theta: dict[int, Floats]
    residual: float
    absorbed: bool
    scaled: bool = False


def looks_flat(phi: Floats, hessian: Floats, free: Sequence[bool], faces: Sequence[float]) -> bool:
    """Tell whether the Hessian at the end of a search is flat in some direction.

    Parameters
    ----------
    phi : (k,) array
    hessian : (k, k) array
    free : (k,) bools
    faces : sequence of float
        Curvatures away from the faces that the search ended on.
    """
    if any(abs(curvature) < LEVEL_FACE for curvature in faces):
        return True
    at = np.flatnonzero(free)
    if hessian.size == 0 or at.size == 0:
        return False
    H = hessian[np.ix_(at, at)]
    diagonal = np.diag(H)
    if np.any(np.abs(diagonal) * np.maximum(phi[at] ** 2, 1e-4) < NO_CURVATURE):
        return True
    if at.size == 1:
        return False
    scale = np.sqrt(np.abs(diagonal))
    return bool(np.linalg.eigvalsh(H / np.outer(scale, scale))[0] < COLLINEAR)


def as_good(criterion: float, here: float, noise: float = 0.0) -> bool:
    """Tell whether two values of a criterion are the same but for rounding.

    Parameters
    ----------
    noise : float
        What is known of the rounding, which may be some times as large.
    """
    return abs(float(criterion) - here) <= SAME * (1.0 + abs(here)) + OFTEN * noise


def with_flat_directions(
    optimum: Optimum,
    model: Parametrisation,
    factors: Sequence[GroupingFactor],
    predictors: Sequence[Predictor],
    again: Callable[[Floats], Floats | None],
    held: Bools | None = None,
) -> Optimum:
    """Return an optimum that says in which directions the criterion cannot change.

    Parameters
    ----------
    predictors : sequence of Predictor
    again : callable
        Theta near another that is as good as the optimum's, or None.
    held : (k,) bool array or None
        Entries of theta that are held.
    """
    theta = optimum.theta
    fixed = np.zeros(len(theta), dtype=np.bool_) if held is None else held
    nulls = [
        null
        for predictor in predictors
        for null in null_directions(model, theta, factors, predictor, fixed)
    ]
    followed, there = _elsewhere(model, theta, nulls, again)
    if not followed:
        nulls = _of_dependent_columns(model, predictors, fixed)
        followed, there = _elsewhere(model, theta, nulls, again)
    if not followed:
        return _exchanged(optimum, model, fixed, again)
    flat = tuple(_described(model, nulls[i]) for i in followed)
    return replace(optimum, flat=flat, elsewhere=there)


def null_directions(
    model: Parametrisation,
    theta: Floats,
    factors: Sequence[GroupingFactor],
    predictor: Predictor,
    held: Bools,
) -> list[Null]:
    """Directions of the covariance parameters of one predictor that change nothing."""
    parts, fixed = model.split(theta), model.split(held)
    coordinates = [
        c
        for t in predictor.terms
        for c in _coordinates(model.terms[t], t, parts[t])
        if not fixed[t][c.entry]
    ]
    if not coordinates:
        return []
    n = len(model.terms[predictor.terms[0]].term.z)
    p = 0 if predictor.X is None else predictor.X.shape[1]
    count = len(coordinates) + len(predictor.residual)
    probes = probes_for(count, n - p)
    rng = np.random.default_rng(0)
    basis = None if predictor.X is None or p == 0 else _orthogonal(predictor.X)
    scale, sketch = np.zeros(count), Sketch(n, rng)
    projected, plain = Triangle(count), Triangle(count)
    short = None if basis is None else sketch(basis)
    for _ in range(probes):
        w = rng.standard_normal(n)
        kept = _derivatives(
            model.terms, factors, coordinates, predictor.residual, _without(basis, w)
        )
        apart = (_sketched(sketch, block, basis, short) for block in kept)
        projected.add(side_by_side(apart, sketch.rows, count))
        free = _derivatives(model.terms, factors, coordinates, predictor.residual, w)
        sums = (sketch(block) for block in _measured(free, scale))
        plain.add(side_by_side(sums, sketch.rows, count))
    size = np.sqrt(np.where(scale > 0, scale, 1.0))
    N, untouched = null_space(projected.R / size), plain.R / size
    change = _user_scale(model.terms, coordinates, len(predictor.residual))
    nulls = [
        _null(model, theta, coordinates, change, row, untouched, size)
        for row in _eliminated((N / size) @ change.T)
    ]
    sizes = [v for v in _scalings(model.terms, parts, coordinates, count) if _lies_in(v * size, N)]
    return [
        replace(_null(model, theta, coordinates, change, v, untouched, size), scaled=True)
        for v in sizes
    ] + nulls


def _of_dependent_columns(
    model: Parametrisation, predictors: Sequence[Predictor], held: Bools
) -> list[Null]:
    """Variances of combinations of a term's columns that are zero in every row.

    They can always grow, where single entries of a covariance matrix at its boundary cannot.
    """
    out = []
    parts = model.split(held)
    for t in sorted({t for predictor in predictors for t in predictor.terms}):
        term = model.terms[t]
        if term.term.structure != "us" or term.size < 2 or np.any(parts[t]):
            continue
        columns = Triangle(term.size)
        columns.add(term.term.z)
        _, values, vectors = np.linalg.svd(columns.R @ term.basis)
        values = np.append(values, np.zeros(term.size - len(values)))
        for v in vectors[values <= DEPENDENT * values[0]]:
            user = term.basis @ v
            out.append(Null({t: np.outer(user, user)}, {}, 0.0, False))
    return out


def _scalings(
    terms: Sequence[Term], parts: Sequence[Floats], coordinates: Sequence[Coordinate], count: int
) -> list[Floats]:
    """Directions that multiply the whole covariance matrix of a term that has other parameters.

    A sum of such directions as elimination leaves need not be one along which to go.
    """
    out = []
    for t in sorted({c.term for c in coordinates if c.term is not None}):
        if terms[t].term.structure in LINEAR:
            continue
        v, grows = np.zeros(count), _deviations(terms[t])
        for k, c in enumerate(coordinates):
            if c.term == t and grows[c.entry]:
                v[k] = parts[t][c.entry]
        if np.any(v):
            out.append(v / np.abs(v).max())
    return out


def _lies_in(v: Floats, N: Floats) -> bool:
    """Tell whether a vector (c,) is a sum of orthonormal rows (d, c)."""
    rest = v - N.T @ (N @ v)
    return bool(np.linalg.norm(rest) <= 1e-6 * np.linalg.norm(v))


def _user_scale(terms: Sequence[Term], coordinates: Sequence[Coordinate], more: int) -> Floats:
    """Map (c, c) from the coordinates to those of the user's basis, at the size of the columns."""
    out = np.eye(len(coordinates) + more)
    for t in {c.term for c in coordinates}:
        assert t is not None
        at = [k for k, c in enumerate(coordinates) if c.term == t]
        if terms[t].term.structure != "us" or len(at) == 1:
            continue
        sizes = _sizes(terms[t])
        rows, columns = np.triu_indices(terms[t].size)
        for k in at:
            D = coordinates[k].D
            assert D is not None
            user = terms[t].basis @ D @ terms[t].basis.T * sizes
            out[at, k] = user[rows, columns]
    return out


def _sizes(term: Term) -> Floats:
    """Products (r, r) of the mean squares' roots of a term's columns."""
    root = np.sqrt(np.mean(term.term.z**2, axis=0))
    return np.outer(root, root)


def _usual(term: Term) -> float:
    """The variance of a column's effects, times its mean square, as large as the residual's."""
    return float(np.min(np.diag(term.basis) ** 2 * np.mean(term.term.z**2, axis=0)))


def _null(
    model: Parametrisation,
    theta: Floats,
    coordinates: Sequence[Coordinate],
    change: Floats,
    row: Floats,
    raw: Floats,
    size: Floats,
) -> Null:
    """Sort a direction, in the user's coordinates, by terms."""
    weights = np.linalg.solve(change, row)
    scaled = weights * size
    absorbed = bool(np.linalg.norm(raw @ scaled) > 10 * DEPENDENT * np.linalg.norm(scaled))
    counts = np.abs(row) > NEGLIGIBLE
    psi: dict[int, Floats] = {}
    entries: dict[int, Floats] = {}
    for t in sorted({c.term for c in coordinates if c.term is not None}):
        at = [k for k, c in enumerate(coordinates) if c.term == t]
        if not counts[at].any():
            continue
        term = model.terms[t]
        if term.term.structure in LINEAR:
            inner = sum(weights[k] * coordinates[k].D for k in at)
            user = term.basis @ inner @ term.basis.T
            counted = np.abs(user * _sizes(term))
            psi[t] = np.where(counted > NEGLIGIBLE * counted.max(), user, 0.0)
        else:
            entries[t] = np.zeros(term.count)
            entries[t][[coordinates[k].entry for k in at]] = weights[at]
    residual = float(weights[len(coordinates) :].sum())
    return Null(psi, entries, residual if abs(residual) > NEGLIGIBLE else 0.0, absorbed)


def _coordinates(term: Term, t: int, theta: Floats) -> list[Coordinate]:
    """Directions of one term's covariance matrix, in the core's basis."""
    r, structure = term.size, term.term.structure
    if structure == "diag":
        return [Coordinate(t, np.diag(np.eye(r)[a]), a) for a in range(r)]
    if structure == "us":
        pairs = [(a, b) for b in range(r) for a in range(b, r)]
        unit = np.eye(r)
        return [
            Coordinate(t, (np.outer(unit[a], unit[b]) + np.outer(unit[b], unit[a])) / 2)
            for a, b in pairs
        ]
    kinds = [p.kind for p in term.structure.parameters(term.term.names)]
    at = np.where([kind == "sd" for kind in kinds], np.where(theta > 0, theta, 1.0), theta)
    slopes = term.structure.derivatives(at)
    inner = term.inverse_basis
    return [
        Coordinate(t, inner @ slope @ inner.T, entry)
        for entry, slope in enumerate(slopes)
        if np.isfinite(slope).all() and np.any(slope)
    ]


def _derivatives(
    terms: Sequence[Term],
    factors: Sequence[GroupingFactor],
    coordinates: Sequence[Coordinate],
    residual: Sequence[Floats],
    w: Floats,
) -> Iterator[Floats]:
    """What each coordinate makes of w, columns (n, k) after columns: all may be large."""
    for t, some in groupby(coordinates, key=lambda c: c.term):
        assert t is not None
        own = terms[t].term
        slopes = [c.D for c in some if c.D is not None]
        # the columns are made anew for each w: held, they would stand beside the triangles' work
        yield from images(own.z @ terms[t].basis, factors[own.factor], slopes, w, own.kernel)
    for r in residual:
        yield (r * w)[:, None]


def _orthogonal(X: Floats) -> Floats:
    """Orthonormal columns (n, p) that span those of X."""
    return np.linalg.qr(X / np.linalg.norm(X, axis=0))[0]


def _without(basis: Floats | None, v: Floats) -> Floats:
    """Take the fixed effects out, twice for the last digits."""
    if basis is None:
        return v
    for _ in range(2):
        v = v - basis @ (basis.T @ v)
    return v


def _measured(blocks: Iterable[Floats], squares: Floats) -> Iterator[Floats]:
    """The same columns (n, k), their sums of squares added to those given on the way."""
    at = 0
    for block in blocks:
        squares[at : at + block.shape[1]] += np.einsum("nk,nk->k", block, block)
        at += block.shape[1]
        yield block


def _sketched(
    sketch: Sketch, columns: Floats, basis: Floats | None, short: Floats | None
) -> Floats:
    """The sketch of columns (n, k) without the fixed effects, whose own sketch is short."""
    if basis is None or short is None:
        return sketch(columns)
    return sketch(columns) - short @ (basis.T @ columns)


def _eliminated(N: Floats) -> list[Floats]:
    """The same row space, each row with as few entries as elimination gives."""
    N = N.copy()
    for i in range(len(N)):
        below = np.abs(N[i:])
        at, k = np.unravel_index(int(np.argmax(below)), below.shape)
        N[[i, i + int(at)]] = N[[i + int(at), i]]
        N[i] /= N[i, k]
        for other in range(len(N)):
            if other != i:
                N[other] -= N[other, k] * N[i]
    return [np.where(np.abs(v) > NEGLIGIBLE * np.max(np.abs(v)), v, 0.0) for v in N]


# --- terms that change places


def may_exchange(model: Parametrisation, factors: Sequence[GroupingFactor]) -> bool:
    """Tell whether a term's effects may be those of another.

    Where those of a structured term are all alike, or the levels of two factors are the same
    under other names.
    """
    return any(True for _ in _pairs(model)) or any(
        one.n_levels == other.n_levels and nests(one, other)
        for one, other in combinations(factors, 2)
    )


def _pairs(model: Parametrisation) -> Iterator[tuple[int, int]]:
    """Structured terms, each with a term of one column and the same levels."""
    for s, term in enumerate(model.terms):
        if term.term.structure in LINEAR or not np.any(~_deviations(term)):
            continue
        for o, other in enumerate(model.terms):
            same = other.term.factor == term.term.factor
            if same and other.size == 1 and other.term.structure == "us":
                yield s, o


def _exchanged(
    optimum: Optimum,
    model: Parametrisation,
    fixed: Bools,
    again: Callable[[Floats], Floats | None],
) -> Optimum:
    """Say that two terms cannot be distinguished where one can take the variance of the other.

    Effects of a structured term that are alike, all correlations one, are those of a term of
    one column; no direction leads there from a term without variance or with other correlations.
    """
    held = model.split(fixed)
    for s, o in _pairs(model):
        parts = list(model.split(optimum.theta))
        grows = _deviations(model.terms[s])
        sizes, rest = np.abs(parts[s][grows]), parts[s][~grows]
        alike = np.allclose(sizes, sizes[0], rtol=1e-6) and np.allclose(rest, 1.0, atol=1e-8)
        if np.any(held[s]) or np.any(held[o]) or not (alike or np.all(sizes == 0)):
            continue
        whole = float(np.hypot(sizes[0], parts[o][0]))
        if not whole > 0:
            continue
        to_other = alike and sizes[0] > 0
        parts[s] = np.where(grows, 0.0 if to_other else whole, 1.0)
        parts[o] = np.array([whole if to_other else 0.0])
        there = _tried(again, np.concatenate(parts))
        if there is not None and not np.allclose(there, optimum.theta, rtol=1e-3, atol=1e-6):
            null = Null({}, {s: parts[s], o: parts[o]}, 0.0, False)
            return replace(optimum, flat=(_described(model, null),), elsewhere=there)
    return optimum


# --- another point on the same level


def _elsewhere(
    model: Parametrisation,
    theta: Floats,
    nulls: Sequence[Null],
    again: Callable[[Floats], Floats | None],
) -> tuple[list[int], Floats]:
    """Return which directions can be followed, and a theta that lies along them.

    Parameters
    ----------
    again : callable
        Theta near another that is as good as the present one, or None.
    """
    followed: list[int] = []
    here = theta
    for _ in range(2):  # one direction may open the way for another
        for i, null in enumerate(nulls):
            if i in followed:
                continue
            for sign in (1.0, -1.0):
                moved = _moved(model, here, null, sign)
                there = None if moved is None else _tried(again, moved)
                if there is not None and not np.allclose(there, here, rtol=1e-3, atol=1e-6):
                    followed.append(i)
                    here = there
                    break
    return sorted(followed), here


def _tried(again: Callable[[Floats], Floats | None], theta: Floats) -> Floats | None:
    """Theta near another as good; None, too, where the structures do not reach it."""
    try:
        return again(theta)
    except ModelError:
        return None


def _moved(model: Parametrisation, theta: Floats, null: Null, sign: float) -> Floats | None:
    """Theta some way along a direction; None where a covariance matrix forbids it."""
    parts = model.split(theta)
    psis = {t: model.terms[t].structure.psi(parts[t]) for t in null.psi}
    sizes = {t: _sizes(model.terms[t]) for t in null.psi}
    own = max((float(np.max(np.abs(psis[t] * sizes[t]))) for t in psis), default=0.0)
    unit = max(float(np.max(np.abs(null.psi[t] * sizes[t]))) for t in psis) if psis else 1.0
    usual = max((_usual(model.terms[t]) for t in psis), default=1.0)
    for share in (2.0, 0.5, 0.1, 0.02):
        step = sign * share * max(own, usual if share > 1 else 0.01 * usual) / unit
        out = _stepped(model, parts, psis, null, step)
        if out is not None:
            return out
    return None


def _stepped(
    model: Parametrisation,
    parts: Sequence[Floats],
    psis: dict[int, Floats],
    null: Null,
    step: float,
) -> Floats | None:
    sigma2 = 1.0 + step * null.residual
    if sigma2 < 1e-3:
        return None
    out = list(parts)
    for t, psi in psis.items():
        term = model.terms[t]
        moved = psi + step * null.psi[t]
        inner = term.inverse_basis @ moved @ term.inverse_basis.T
        values = np.linalg.eigvalsh(inner)
        if values[0] < -1e-10 * max(values[-1], 1e-10):
            return None
        out[t] = _theta_of(term, moved)
    for t, direction in null.theta.items():
        if null.scaled:
            out[t] = parts[t] * np.where(_deviations(model.terms[t]), 1 + 0.2 * np.sign(step), 1)
            continue
        shift = 0.2 * np.sign(step) * np.maximum(np.abs(parts[t]), 0.1)
        out[t] = parts[t] + shift * direction / np.max(np.abs(direction))
    root = np.sqrt(sigma2)
    for t, term in enumerate(model.terms):
        out[t] = out[t] * np.where(_deviations(term), 1.0 / root, 1.0)
    return np.concatenate(out)


def _deviations(term: Term) -> Bools:
    """Which parameters of a term are on the scale of sigma, (k,)."""
    if term.term.structure in ("us", "diag"):
        return np.ones(term.count, dtype=np.bool_)
    kinds = [p.kind for p in term.structure.parameters(term.term.names)]
    return np.array([kind in ("sd", "loading") for kind in kinds])


def _theta_of(term: Term, psi: Floats) -> Floats:
    """Reported parameters of a term whose relative covariance matrix this is."""
    if term.term.structure == "us":
        return _core.trapezoid(np.ascontiguousarray(psi), term.size)
    roots = np.sqrt(np.maximum(np.diag(psi), 0.0))
    return np.asarray(roots if term.term.structure == "diag" else roots[:1], dtype=np.float64)


# --- words


def _described(model: Parametrisation, null: Null) -> FlatDirection:
    terms = tuple(sorted({*null.psi, *null.theta}))
    residual = null.residual != 0.0
    if not terms:
        nothing = "the data do not determine the residual variance: the fixed effects reproduce it"
        return FlatDirection((), residual, nothing)
    labels = [_label(model.terms[t]) for t in terms]
    what = " and ".join(_parameters(model.terms[t], null.psi.get(t)) for t in terms)
    if len(terms) == 1 and not residual:
        reason = "the fixed effects reproduce it" if null.absorbed else "its columns overlap"
        return FlatDirection(terms, residual, f"the data do not determine {what}: {reason}")
    others = [*labels, "the residual"] if residual else labels
    together = f"{', '.join(others[:-1])} and {others[-1]}"
    beside = " beside the fixed effects" if null.absorbed else ""
    return FlatDirection(
        terms,
        residual,
        f"the data do not determine {what}: {together} cannot be distinguished{beside}",
    )


def _label(term: Term) -> str:
    """A term as a formula has it."""
    label = term.term.label
    return label if label.startswith(f"{term.term.structure}(") else f"({label})"


def _parameters(term: Term, D: Floats | None) -> str:
    """Which parameters of a term a direction moves."""
    label = _label(term)
    if D is None or term.size == 1 or term.term.structure not in ("us", "diag"):
        return f"the variance of {label}"
    variances = np.flatnonzero(np.diag(D))
    touched = variances if variances.size else np.flatnonzero(np.any(D != 0, axis=0))
    names = [term.term.names[a] for a in touched]
    kind = "covariance" if not variances.size else "variance" if len(names) == 1 else "variances"
    joined = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"the {kind} of {joined} in {label}"
