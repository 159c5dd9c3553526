"""Groups of subjects that differ in their variance: one tau2 each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.imaging.fsl import read_design
from ranef.fields.imaging.tails import two_sided, upper_tail
from ranef.fields.imaging.voxels import VoxelContrast, VoxelFit, mixed_effects
from ranef.formula.labels import list_text

__all__ = ["GroupedFit", "grouped_fit"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SMALL = 1e-9


@dataclass(frozen=True, eq=False)
class GroupedFit:
    """Models of groups, each with its own variance between subjects.

    Attributes
    ----------
    parts : tuple of VoxelFit
        One a group, of the columns that its subjects determine.
    codes : (K,) int array
    back : (p, p) array
        From the groups' coefficients to those of the design.
    """

    parts: tuple[VoxelFit, ...]
    codes: Ints
    back: Floats

    def _stacked(self, name: str) -> Floats:
        return np.array([getattr(part, name) for part in self.parts], dtype=np.float64)

    @property
    def beta(self) -> Floats:
        """Coefficients (p, N)."""
        return np.asarray(self.back @ np.vstack([part.beta for part in self.parts]))

    @property
    def tau2(self) -> Floats:
        """Variances between subjects (G, N), a row a group."""
        return self._stacked("tau2")

    @property
    def i2(self) -> Floats:
        return self._stacked("i2")

    @property
    def h2(self) -> Floats:
        return self._stacked("h2")

    @property
    def q(self) -> Floats:
        return self._stacked("q")

    @property
    def maxima(self) -> Floats:
        return self._stacked("maxima")

    @property
    def n(self) -> Floats:
        """Subjects with data (N,)."""
        return np.asarray(self._stacked("n").sum(axis=0))

    @property
    def df(self) -> Floats:
        """Degrees of freedom n - p (N,); tests have Satterthwaite's."""
        return np.asarray(self._stacked("df").sum(axis=0))

    def tau2_of_subjects(self) -> Floats:
        """The variance between subjects that applies to each, (K, N)."""
        return self.tau2[self.codes]

    @property
    def outliers(self) -> Floats:
        """Expected number of outliers (N,)."""
        return np.asarray(self._stacked("outliers").sum(axis=0))

    def _of_subjects(self, name: str) -> NDArray[Any] | None:
        """What the groups know of each subject (K, N), in the subjects' order."""
        first = getattr(self.parts[0], name)
        if first is None:
            return None
        out = np.empty((len(self.codes), first.shape[1]), dtype=first.dtype)
        for g, part in enumerate(self.parts):
            out[self.codes == g] = getattr(part, name)
        return out

    @property
    def outlier_probability(self) -> NDArray[Any] | None:
        """Of each subject (K, N), of fits with outliers."""
        return self._of_subjects("outlier_probability")

    @property
    def weighing_variance(self) -> NDArray[Any] | None:
        """Variances (K, N) that weigh subjects as the mixtures do, of fits with outliers."""
        return self._of_subjects("weighing_variance")

    def _pieces(self, C: Floats) -> tuple[Floats, list[Floats]]:
        """Effects (r, N), and each group's part of their covariance (N, r, r)."""
        weights = C @ self.back
        effect, parts, first = np.zeros((len(C), self.parts[0].beta.shape[1])), [], 0
        for part in self.parts:
            own = weights[:, first : first + part.p]
            effect = effect + own @ part.beta
            covariance = np.einsum("ra,abn,sb->nrs", own, part._bread, own, optimize=True)
            parts.append(covariance * part._scale[:, None, None])
            first += part.p
        return effect, parts

    def _degrees(self, variances: Floats) -> Floats:
        """Satterthwaite's degrees of freedom of a sum of variances (G, N)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(variances > 0, variances**2 / self._stacked("df"), 0.0).sum(axis=0)
            total = variances.sum(axis=0)
            return np.asarray(
                np.where(each > 0, total**2 / each, np.where(total > 0, np.inf, np.nan))
            )

    def contrast(self, weights: Any) -> VoxelContrast:
        """Estimate and test one linear function, by Satterthwaite's t (Welch's of two groups)."""
        effect, parts = self._pieces(np.asarray(weights, dtype=np.float64)[None])
        each = np.array([one[:, 0, 0] for one in parts])
        variance, df = each.sum(axis=0), self._degrees(each)
        with np.errstate(divide="ignore", invalid="ignore"):
            stat = np.where(variance > 0, effect[0] / np.sqrt(variance), np.nan)
        return VoxelContrast(effect[0], variance, stat, *two_sided(stat, df), df)

    def joint(self, rows: Any) -> VoxelContrast:
        """Test several together; the degrees of freedom are the least of the rows'."""
        C = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        effect, parts = self._pieces(C)
        covariance = np.sum(parts, axis=0)
        known = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(effect).all(axis=0)
        known &= np.linalg.det(np.where(known[:, None, None], covariance, np.eye(len(C)))) > 0
        stat = np.full(effect.shape[1], np.nan)
        solved = np.linalg.solve(covariance[known], effect.T[known][..., None])[..., 0]
        stat[known] = np.einsum("nr,nr->n", effect.T[known], solved) / len(C)
        each = np.array([np.einsum("nrr->rn", one) for one in parts])
        df = np.min([self._degrees(each[:, r]) for r in range(len(C))], axis=0)
        variance = np.einsum("nrr->rn", covariance)
        return VoxelContrast(effect, variance, stat, *upper_tail(stat, len(C), df), df)


def grouped_fit(
    Y: NDArray[Any],
    V: NDArray[Any],
    X: Floats,
    groups: Any,
    *,
    method: str,
    df: str,
    n_jobs: int | str | None,
    names: Sequence[str],
    outliers: bool = False,
) -> GroupedFit:
    """Fit each group by itself: its coefficients, and its variance between subjects.

    The design must not tie the groups: each coefficient, or a combination, belongs to one.
    """
    labels = read_design(groups) if isinstance(groups, str | os.PathLike) else np.asarray(groups)
    if labels.shape != (len(Y),):
        raise ModelError(f"variance_groups needs one label for each of the {len(Y)} subjects")
    levels, codes = np.unique(labels, return_inverse=True)
    codes = np.asarray(codes).reshape(-1)
    parts, turns = [], []
    for g, level in enumerate(levels):
        own = codes == g
        u, s, vt = np.linalg.svd(X[own], full_matrices=False)
        rank = int((s > SMALL * s[0]).sum())
        if own.sum() <= rank:
            raise ModelError(f"group {level} has {int(own.sum())} subjects for {rank} columns")
        turns.append(vt[:rank])
        reduced = u[:, :rank] * s[:rank]
        parts.append((own, reduced))
    T = np.vstack(turns)
    if len(T) != X.shape[1]:
        raise ModelError(
            f"the columns {list_text(list(names))} tie the groups together: with a variance for "
            "each group, each effect is estimated within one (interact the covariate with the "
            "group: '~ group * age')"
        )
    fits = tuple(
        mixed_effects(
            np.ascontiguousarray(Y[own]), np.ascontiguousarray(V[own]), reduced, method=method,
            df=df, outliers=outliers, n_jobs=n_jobs,
        )
        for own, reduced in parts
    )  # fmt: skip
    return GroupedFit(fits, codes, np.asarray(np.linalg.inv(T), dtype=np.float64))
