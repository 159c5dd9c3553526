"""Resampled data: whole levels of a grouping factor, or residuals at every level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes, square_root
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, ResidualTerm
from ranef.errors import ModelError, suggestion
from ranef.inference.rows.fitted import fitted, residuals
from ranef.models.noise import Noise, residual_covariance
from ranef.models.records import Estimate, LinearEstimate
from ranef.tables.accounting import Accounting

__all__ = ["Clusters", "ResidualBootstrap", "cluster_factor"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

DEPENDENT = 1e-10
FEWEST_LEVELS = 2


def cluster_factor(estimate: Estimate, name: str | None = None) -> int:
    """Find the factor whose levels are independent of each other: all others nest in it.

    Parameters
    ----------
    estimate : Estimate
    name : str or None
        Of the factor; None finds it.

    Raises
    ------
    ModelError
        When factors are crossed, so that no level can be drawn without parts of others;
        when levels have known covariances; when there is no factor of that name.
    """
    factors = estimate.factors
    names = [f.name for f in factors]
    if not names:
        raise ModelError(
            "the model has no grouping factor whose levels could be drawn; use "
            "method='parametric' or, in a linear model, method='residual'"
        )
    kernels = [term.label for term in estimate.terms if term.kernel is not None]
    if kernels:
        raise ModelError(
            f"the levels of ({kernels[0]}) have a known covariance, so that they cannot be drawn "
            "one by one; use method='parametric'"
        )
    several = [f.name for f in factors if f.members is not None]
    if several:
        raise ModelError(
            f"rows may belong to several levels of {several[0]}, so that these cannot be drawn one "
            "by one; use method='parametric'"
        )
    if name is not None and name not in names:
        raise ModelError(
            f"the model has no grouping factor {name!r}{suggestion(name, names)}; it has "
            f"{', '.join(map(repr, names))}"
        )
    order = [names.index(name)] if name is not None else range(len(factors))
    for k in sorted(order, key=lambda k: factors[k].n_levels):
        across = [f.name for f in factors if not _nested(f, factors[k])]
        if not across:
            if factors[k].n_levels < FEWEST_LEVELS:
                raise ModelError(f"{names[k]!r} has one level: there is nothing to draw from")
            return k
        crossed = (factors[k].name, across[0])
    other = "" if estimate.sigma is None else " or method='residual'"
    hint = "" if name is None else f"; to draw levels of {name!r} all other factors must nest in it"
    raise ModelError(
        f"the factors {crossed[0]!r} and {crossed[1]!r} are crossed: a level of one has rows of "
        f"many levels of the other, so that drawing whole levels would tear others apart{hint}. "
        f"Use method='parametric'{other}"
    )


def _nested(inner: GroupingFactor, outer: GroupingFactor) -> bool:
    """Tell whether each level of a factor occurs in one level of another only."""
    first = np.full(inner.n_levels, -1, dtype=np.intp)
    first[inner.codes] = outer.codes
    return bool(np.array_equal(first[inner.codes], outer.codes))


@dataclass(frozen=True, eq=False)
class _Inner:
    """A factor within the clusters.

    Attributes
    ----------
    local : (n,) int array
        Number of the row's level among those of its cluster.
    counts : (q,) int array
        Levels in each cluster.
    """

    local: Ints
    counts: Ints

    @classmethod
    def of(cls, factor: GroupingFactor, outer: GroupingFactor) -> _Inner:
        owner = np.full(factor.n_levels, 0, dtype=np.intp)
        owner[factor.codes] = outer.codes
        counts = np.bincount(owner, minlength=outer.n_levels)
        order = np.argsort(owner, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        place = np.empty(factor.n_levels, dtype=np.intp)
        place[order] = np.arange(factor.n_levels) - np.repeat(first, counts)
        return cls(place[factor.codes], counts)


@dataclass(frozen=True, eq=False)
class Clusters:
    """The rows of a model by the levels of one factor, to be drawn with replacement.

    Attributes
    ----------
    estimate : Estimate
    factor : GroupingFactor
        The clusters.
    rows : (n,) int array
        Rows cluster by cluster.
    first : (q + 1,) int array
        Where each cluster begins among `rows`.
    inner : dict of _Inner
        The factors of the model, by name.
    """

    estimate: Estimate
    factor: GroupingFactor
    rows: Ints
    first: Ints
    inner: Mapping[str, _Inner]

    @classmethod
    def of(cls, estimate: Estimate, factor: int) -> Clusters:
        """Sort the rows."""
        outer = estimate.factors[factor]
        sizes = np.bincount(outer.codes, minlength=outer.n_levels)
        return cls(
            estimate,
            outer,
            np.argsort(outer.codes, kind="stable"),
            np.concatenate([[0], np.cumsum(sizes)]),
            {f.name: _Inner.of(f, outer) for f in estimate.factors},
        )

    @property
    def count(self) -> int:
        return self.factor.n_levels

    def take(self, levels: Ints) -> tuple[dict[str, Specification], Floats | None]:
        """Return the model's parts with the rows of these levels, each copy a level of its own.

        Returns
        -------
        parts : dict of Specification
            By name; of a linear model ``"conditional"`` alone.
        extra : (N,) array or None
            What the family needs beside the response.

        Raises
        ------
        ModelError
            When the fixed effects of a part depend on each other in these rows.
        """
        sizes = np.diff(self.first)[levels]
        copy = np.repeat(np.arange(len(levels)), sizes)
        begin = np.repeat(self.first[levels] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
        rows = self.rows[begin + np.arange(len(copy))]
        codes = {name: self._codes(name, levels, copy, rows) for name in self.inner}
        own = self.estimate
        extra = None if own.extra is None else own.extra[rows]
        parts = {name: _taken(spec, rows, codes, copy) for name, spec in own.parts.items()}
        return parts, extra

    def _codes(
        self, name: str, levels: Ints, copy: Ints, rows: Ints
    ) -> tuple[NDArray[np.int32], int]:
        """Codes of one factor, and the number of its levels."""
        inner = self.inner[name]
        counts = inner.counts[levels]
        first = np.concatenate([[0], np.cumsum(counts)])
        codes = np.ascontiguousarray(first[copy] + inner.local[rows], dtype=np.int32)
        return codes, int(first[-1])


def _taken(
    spec: Specification,
    rows: Ints,
    codes: Mapping[str, tuple[NDArray[np.int32], int]],
    copy: Ints,
) -> Specification:
    X = np.ascontiguousarray(spec.X[rows])
    _check_rank(X, spec.names)
    factors = tuple(
        replace(f, codes=codes[f.name][0], levels=range(codes[f.name][1])) for f in spec.factors
    )
    return replace(
        spec,
        y=np.ascontiguousarray(spec.y[rows]),
        X=X,
        weights=None if spec.weights is None else np.ascontiguousarray(spec.weights[rows]),
        offset=None if spec.offset is None else np.ascontiguousarray(spec.offset[rows]),
        terms=tuple(replace(t, z=np.ascontiguousarray(t.z[rows])) for t in spec.terms),
        factors=factors,
        accounting=Accounting(len(rows)),
        residual=_taken_residual(spec, rows, copy),
    )


def _taken_residual(spec: Specification, rows: Ints, copy: Ints) -> ResidualTerm | None:
    """The residuals of rows drawn; those of a group in two copies of a cluster are apart."""
    term = spec.residual
    if term is None:
        return None
    if term.group is None:
        return term.taken(rows)
    pairs = copy.astype(np.int64) * term.group.n_levels + term.group.codes[rows]
    found, codes = np.unique(pairs, return_inverse=True)
    levels = range(len(found))
    codes32 = codes.reshape(-1).astype(np.int32)
    return term.taken(rows, replace(term.group, codes=codes32, levels=levels))


def _check_rank(X: Floats, names: Sequence[str]) -> None:
    gram = X.T @ X
    size = np.sqrt(np.diag(gram))
    missing = [name for name, s in zip(names, size.tolist(), strict=True) if s == 0.0]
    if missing:
        raise ModelError(f"the rows drawn do not vary in {missing[0]}")
    if len(gram) and np.linalg.eigvalsh(gram / np.outer(size, size))[0] < DEPENDENT:
        raise ModelError(
            "the fixed effects depend on each other in the rows drawn; use method='parametric'"
        )


@dataclass(frozen=True, eq=False)
class ResidualBootstrap:
    """Modes and residuals of a linear model, centred and reflated, to be drawn anew.

    Shrunken modes vary less than the effects. Those of all terms of a factor, U (q, r)
    of mean zero with S = U'U / q, become U A with A = S^-1/2 R^1/2, so that their second moment
    is the fitted covariance R; residuals, times sqrt(w), are scaled to sigma likewise.
    Rows of U A and residuals are drawn with replacement (Carpenter, Goldstein & Rasbash
    2003, Applied Statistics 52, 431-443; they take Cholesky factors, of which the roots
    here differ by a rotation that keeps each effect as near to itself as can be).

    Attributes
    ----------
    mean : (n,) float64 array
        Fixed part, offset included.
    effects : tuple of (codes, z (n, r), U A (q, r), kernel root or None)
        One a factor.
    errors : (n,) float64 array
        Of weight one.
    noise : Noise
        What makes residuals of the rows of these.
    """

    mean: Floats
    effects: tuple[tuple[NDArray[np.int32], Floats, Floats, Floats | None], ...]
    errors: Floats
    noise: Noise

    @classmethod
    def of(cls, estimate: LinearEstimate) -> ResidualBootstrap:
        """Centre and reflate."""
        spec = estimate.specification
        noise = residual_covariance(estimate)
        e = noise.whiten(residuals(estimate))
        e = e - e.mean()
        size = float(np.sqrt(np.mean(e**2)))
        errors = e * (estimate.sigma / size) if size > 0 else e
        mean = fitted(estimate, conditional=False)
        effects = []
        for group in _groups(estimate):
            terms = [spec.terms[t] for t in group]
            codes = spec.factors[terms[0].factor].codes
            kernel = terms[0].kernel
            root = None if kernel is None else square_root(kernel)
            U = np.hstack([estimate.modes[t] for t in group])
            if root is not None:
                U = np.asarray(np.linalg.lstsq(root, U, rcond=None)[0], dtype=np.float64)
            R = _block_diagonal([estimate.covariances[t] for t in group])
            z = np.hstack([term.z for term in terms])
            effects.append((codes, z, reflated(U, R), root))
        return cls(mean, tuple(effects), errors, noise)

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return one response (n,)."""
        y = self.mean.copy()
        for codes, z, U, root in self.effects:
            b = U[rng.integers(0, len(U), len(U))]
            b = b if root is None else root @ b
            y += np.einsum("nr,nr->n", z, b[codes])
        e = self.errors[rng.integers(0, len(self.errors), len(self.errors))]
        return y + self.noise.colour(e)


def _groups(estimate: Estimate) -> list[list[int]]:
    """Terms by factor; one with a kernel stands alone."""
    found: dict[tuple[int, int], list[int]] = {}
    for t, term in enumerate(estimate.specification.terms):
        found.setdefault((term.factor, -1 if term.kernel is None else t), []).append(t)
    return list(found.values())


def reflated(U: Floats, R: Floats) -> Floats:
    """Effects (q, r), centred, times what brings their second moment to R.

    Directions in which the effects do not vary stay without variance.

    Examples
    --------
    >>> U = np.array([[1.0], [3.0], [-1.0]])
    >>> V = reflated(U, np.array([[4.0]]))
    >>> float(V.mean()), round(float((V**2).mean()), 12)
    (0.0, 4.0)
    """
    U = np.asarray(U - U.mean(axis=0), dtype=np.float64)
    size = column_sizes(R)
    U = U / size
    R = R / np.outer(size, size)
    values, vectors = np.linalg.eigh(U.T @ U / len(U))
    kept = values > 1e-12 * max(float(values[-1]), 1e-300)
    inverse_root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    roots, axes = np.linalg.eigh(R)
    root = (axes * np.sqrt(np.maximum(roots, 0.0))) @ axes.T
    return np.asarray(U @ inverse_root @ root * size)


def _block_diagonal(blocks: Sequence[Floats]) -> Floats:
    size = sum(len(block) for block in blocks)
    out = np.zeros((size, size))
    first = 0
    for block in blocks:
        out[first : first + len(block), first : first + len(block)] = block
        first += len(block)
    return out
