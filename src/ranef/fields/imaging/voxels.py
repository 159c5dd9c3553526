"""`mixed_effects`: one meta-analysis a voxel, all voxels at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.display.progress import arriving
from ranef.errors import DataError, ModelError
from ranef.fields.imaging.outlying import outlying
from ranef.fields.imaging.scheduling import array_of_blocks, by_dask, threads_of
from ranef.fields.imaging.tails import two_sided, upper_tail

__all__ = ["DF", "Prepared", "VoxelContrast", "VoxelFit", "mixed_effects", "prepared"]

Floats = NDArray[np.float64]

METHODS = ("reml", "ml", "dl", "he", "hs", "sj", "pm", "eb", "fe")
DF = ("knapp-hartung-conservative", "knapp-hartung", "t", "normal")
MOST_COLUMNS = 8
DEPENDENT = 1e-10
TILE = 1 << 18
"""Voxels that are fitted at a time, so that work can be shown and stopped."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Effects, variances and design as the core takes them.

    Attributes
    ----------
    Y, V : (K, N) float32 or float64 arrays
    Q : (K, p) array
        Orthonormal columns with the same space as the design.
    R : (p, p) array
        The design is Q R.
    """

    Y: NDArray[Any]
    V: NDArray[Any]
    Q: Floats
    R: Floats


@dataclass(frozen=True, eq=False)
class VoxelContrast:
    """A linear function of the coefficients at every voxel.

    Attributes
    ----------
    effect, variance, stat, p_value, z_score : (N,) arrays
        NaN where the subjects do not determine it, or where the model reproduces all effects.
    df : (N,) array or None
        Degrees of freedom where they are the contrast's own.
    """

    effect: Floats
    variance: Floats
    stat: Floats
    p_value: Floats
    z_score: Floats
    df: Floats | None = None


@dataclass(frozen=True, eq=False)
class VoxelFit:
    """Mixed-effects models of N voxels with p coefficients each; `mixed_effects` makes it.

    Attributes
    ----------
    beta : (p, N) float64 array
        Coefficients; NaN where the subjects with data do not determine them.
    std_error : (p, N) float64 array
        By the method of `df`.
    tau2 : (N,) float64 array
        Variance between subjects.
    maxima : (N,) int array
        Local maxima of the likelihood's profile over all tau2; 0 where there is no fit.
    n : (N,) int array
        Subjects with data.
    df : (N,) float64 array
        Degrees of freedom of tests: n - p, infinite for normal ones.
    q, i2, h2 : (N,) float64 arrays
        Heterogeneity: weighted sum of squares around the model without it; percent of a typical
        effect's variance that is not sampling error; that variance over the one by sampling.
    method, df_method : str
    outlier_probability : (K, N) float32 array or None
        Of each subject, of fits with outliers.
    weighing_variance : (K, N) array or None
        Of fits with outliers, the variances that weigh subjects as the mixture does.
    """

    beta: Floats
    std_error: Floats
    tau2: Floats
    maxima: NDArray[np.int32]
    n: NDArray[np.int32]
    df: Floats
    q: Floats
    i2: Floats
    h2: Floats
    method: str
    df_method: str
    _bread: Floats
    _scale: Floats
    outlier_probability: NDArray[np.float32] | None = None
    weighing_variance: NDArray[Any] | None = None

    @property
    def outliers(self) -> Floats:
        """Expected number of outliers (N,)."""
        if self.outlier_probability is None:
            raise ModelError("outliers were not looked for: fit with outliers=True")
        return np.asarray(self.outlier_probability.sum(axis=0, dtype=np.float64))

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.beta)

    def tau2_of_subjects(self) -> Floats:
        """The variance between subjects that applies to each; one for all here."""
        return self.tau2

    def contrast(self, weights: Any) -> VoxelContrast:
        """Estimate and test one linear function of the coefficients at every voxel.

        Parameters
        ----------
        weights : (p,) array
        """
        c = np.asarray(weights, dtype=np.float64)
        if c.shape != (self.p,) or not np.isfinite(c).all() or not c.any():
            raise ModelError(
                f"a contrast has {self.p} weights, one a column of X, finite and not all zero"
            )
        effect = c @ self.beta
        variance = _quadratic(self._bread, c) * self._scale
        with np.errstate(divide="ignore", invalid="ignore"):
            stat = np.where(variance > 0, effect / np.sqrt(variance), np.nan)
        return VoxelContrast(effect, variance, stat, *two_sided(stat, self.df))

    def joint(self, rows: Any) -> VoxelContrast:
        """Test several linear functions of the coefficients together, by F, at every voxel.

        `effect` and `variance` are (r, N), the statistic, p-value and z-score (N,): z is positive
        where F is larger than its median.

        Parameters
        ----------
        rows : (r, p) array
        """
        C = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        if C.ndim != 2 or C.shape[1] != self.p or not np.isfinite(C).all():
            raise ModelError(f"rows of a contrast have {self.p} finite weights")
        if np.linalg.matrix_rank(C) < len(C):
            raise ModelError("rows of the contrast depend on each other; leave one out")
        effect = C @ self.beta
        covariance = np.einsum("ra,abn,sb->nrs", C, self._bread, C, optimize=True)
        known = np.isfinite(covariance).all(axis=(1, 2)) & (self._scale > 0)
        stat = np.full(effect.shape[1], np.nan)
        solved = np.linalg.solve(covariance[known], effect.T[known][..., None])[..., 0]
        stat[known] = np.einsum("nr,nr->n", effect.T[known], solved) / len(C) / self._scale[known]
        variance = np.einsum("nrr->rn", covariance) * self._scale
        return VoxelContrast(effect, variance, stat, *upper_tail(stat, len(C), self.df))

    @cached_property
    def residual_variance_is_zero(self) -> NDArray[np.bool_]:
        """Where the model reproduces all effects exactly, so that there is no test."""
        return np.asarray(self._scale == 0)


def mixed_effects(
    Y: Any,
    V: Any,
    X: Any,
    *,
    method: str = "reml",
    df: str = "knapp-hartung-conservative",
    outliers: bool = False,
    n_jobs: int | str | None = None,
    progress: bool | None = None,
) -> VoxelFit:
    """Fit y_k = x_k'b + u_k + e_k, u_k ~ N(0, tau2), e_k ~ N(0, v_k), at every voxel.

    Each subject is weighted by 1 / (v_k + tau2). Where an effect is not finite, or its variance is
    not positive and finite, the subject counts as missing at that voxel. The likelihoods are looked
    at over all tau2: the estimate is the highest of their maxima.

    Parameters
    ----------
    Y, V : (K, N) arrays
        Effects of K subjects at N voxels and their variances; both of float32 are read as they are.
        Of Dask arrays the blocks of voxels are fitted where they are, by the scheduler in use.
    X : (K, p) array
        The design, at most eight columns, of full rank.
    method : {"reml", "ml", "dl", "he", "hs", "sj", "pm", "eb", "fe"}
        As in `ranef.meta`.
    df : {"knapp-hartung-conservative", "knapp-hartung", "t", "normal"}
        Of standard errors and tests. Knapp and Hartung's plain factor is too liberal where subjects
        differ much in precision; the conservative variant never takes less than the model's.
    outliers : bool
        Look for outliers at each voxel: effects come from the group's distribution or, with a
        probability that is estimated, from one with a larger variance (Woolrich 2008, NeuroImage
        41). Where this mixture is preferred to one distribution by the Bayesian information
        criterion, subjects are weighed down by their probability of being an outlier, before tau2
        is estimated, and the degrees of freedom are fewer by the expected number of outliers.
    n_jobs : int or "dask", optional
        Threads; those that this process may use if not given. ``"dask"`` hands blocks of voxels to
        the scheduler of Dask in use, a Client of its own cluster say. The answer does not depend
        on it.
    progress : bool, optional
        Show a bar; where a person looks if not given.

    Returns
    -------
    VoxelFit

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import imaging
    >>> rng = np.random.default_rng(1)
    >>> V = rng.uniform(0.5, 2.0, (12, 1000))
    >>> Y = 0.5 + rng.normal(size=V.shape) * np.sqrt(V + 0.3)
    >>> fit = imaging.mixed_effects(Y, V, np.ones((12, 1)))
    >>> fit.beta.shape, int(fit.df[0]), float(fit.beta.mean().round(2))
    ((1, 1000), 11, 0.49)
    """
    name = arguments.choice("method", method, METHODS)
    kind = arguments.choice("df", df, DF)
    how = _How(name, kind, arguments.flag("outliers", outliers))
    if by_dask(n_jobs) and not (_is_dask(Y) or _is_dask(V)):
        checked = prepared(Y, V, X)
        Y, V = array_of_blocks(checked.Y), array_of_blocks(checked.V)
    if _is_dask(Y) or _is_dask(V):
        return _joined([one for one in _by_blocks(Y, V, X, how, progress)])
    data = prepared(Y, V, X)
    threads = threads_of(n_jobs)
    N = data.Y.shape[1]
    if N <= TILE:
        return _fitted(data, how, threads, 0)
    parts = (_fitted(data, how, threads, first) for first in range(0, N, TILE))
    count = -(-N // TILE)
    return _joined(list(arriving(parts, count, "mixed effects", progress, unit=" tiles")))


@dataclass(frozen=True)
class _How:
    method: str
    df: str
    outliers: bool


def _fitted(data: Prepared, how: _How, threads: int, first: int) -> VoxelFit:
    """The tile of voxels that begins with `first`."""
    name, kind = how.method, how.df
    far = None
    if how.outliers:
        tile = slice(first, first + TILE)
        Y, V = (np.ascontiguousarray(one[:, tile]) for one in (data.Y, data.V))
        far = outlying(Y, V, data.Q, threads)
        data, first = replace(data, Y=Y, V=far.V), 0
    estimator = "pm" if name == "eb" else name
    found = _core.mixed_effects(data.Y, data.V, data.Q, estimator, threads, first, TILE)
    inverse: Floats = np.asarray(np.linalg.inv(data.R), dtype=np.float64)
    beta = inverse @ found["beta"]
    p = len(beta)
    bread = _turned(found["bread"], inverse)
    n = found["n"]
    df_resid = np.where(np.isfinite(found["tau2"]), n - p, np.nan)
    if far is not None:
        df_resid = np.maximum(1.0, df_resid - far.probability.sum(axis=0, dtype=np.float64))
    scale = _scale(kind, found["scatter"])
    variances = np.einsum("aan->an", bread) * scale
    tau2, typical, q = found["tau2"], found["typical"], found["q"]
    with np.errstate(divide="ignore", invalid="ignore"):
        h2 = (tau2 + typical) / typical
        i2 = 100 * tau2 / (tau2 + typical)
        if name == "fe":
            h2, i2 = q / df_resid, 100 * np.maximum(0.0, (q - df_resid) / q)
    return VoxelFit(
        beta=beta,
        std_error=np.sqrt(variances),
        tau2=tau2,
        maxima=np.nan_to_num(found["maxima"]).astype(np.int32),
        n=n.astype(np.int32),
        df=np.where(np.isfinite(df_resid), np.inf, np.nan) if kind == "normal" else df_resid,
        q=q,
        i2=i2,
        h2=h2,
        method=name,
        df_method=kind,
        _bread=bread,
        _scale=scale,
        outlier_probability=None if far is None else far.probability,
        weighing_variance=None if far is None else far.V,
    )


def _joined(parts: Sequence[VoxelFit]) -> VoxelFit:
    """One fit of tiles of voxels."""
    if len(parts) == 1:
        return parts[0]
    names = ["beta", "std_error", "tau2", "maxima", "n", "df", "q", "i2", "h2", "_bread", "_scale"]
    if parts[0].outlier_probability is not None:
        names += ["outlier_probability", "weighing_variance"]
    values: dict[str, Any] = {
        k: np.concatenate([getattr(one, k) for one in parts], axis=-1) for k in names
    }
    return replace(parts[0], **values)


def _is_dask(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "dask" and hasattr(values, "rechunk")


def _by_blocks(Y: Any, V: Any, X: Any, how: _How, progress: bool | None) -> Iterator[VoxelFit]:
    """Fits of Dask arrays: each block of voxels is read, fitted and let go where it is."""
    import dask

    if not (_is_dask(Y) and _is_dask(V)):
        raise DataError("Y and V are both Dask arrays, or neither is")
    if Y.shape != V.shape or len(Y.shape) != 2:
        raise DataError(f"Y has shape {Y.shape} and V {V.shape}; both are subjects x voxels")
    Y = Y.rechunk({0: -1})
    V = V.rechunk(Y.chunks)
    one = dask.delayed(mixed_effects, pure=True)
    tasks = [
        one(y, v, X, method=how.method, df=how.df, outliers=how.outliers, n_jobs=1)
        for y, v in zip(Y.to_delayed().ravel(), V.to_delayed().ravel(), strict=True)
    ]
    yield from arriving(dask.compute(*tasks), len(tasks), "mixed effects", progress, unit=" tiles")


def prepared(Y: Any, V: Any, X: Any) -> Prepared:
    """Check effects, variances and a design, and put them in the core's form."""
    effects, variances = np.asarray(Y), np.asarray(V)
    for name, values in (("Y", effects), ("V", variances)):
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise DataError(f"{name} must be a matrix of numbers (subjects, voxels)")
    if effects.shape != variances.shape:
        raise DataError(f"Y has shape {effects.shape} and V {variances.shape}; they must agree")
    if variances.size and not (variances > 0).any():
        raise DataError("no value of V is positive; V has sampling variances, squared errors")
    single = effects.dtype == np.float32 and variances.dtype == np.float32
    kind = np.float32 if single else np.float64
    return Prepared(
        np.ascontiguousarray(effects, dtype=kind),
        np.ascontiguousarray(variances, dtype=kind),
        *_design(X, len(effects)),
    )


def _design(X: Any, K: int) -> tuple[Floats, Floats]:
    try:
        design = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("X must be a matrix of numbers (subjects, columns)") from None
    if design.ndim != 2 or len(design) != K:
        raise DataError(
            f"X has shape {design.shape}; it needs one row for each of the {K} subjects"
        )
    p = design.shape[1]
    if not 1 <= p <= MOST_COLUMNS:
        raise ModelError(f"X has {p} columns; a design of voxels has 1 to {MOST_COLUMNS}")
    if not np.isfinite(design).all():
        raise DataError("X holds values that are missing or infinite; leave such subjects out")
    if p >= K:
        raise ModelError(f"{K} subjects are too few for {p} columns: more subjects are needed")
    Q, R = np.linalg.qr(design)
    size = np.linalg.norm(design, axis=0)
    flat = np.abs(np.diag(R)) <= DEPENDENT * np.where(size > 0, size, 1.0)
    if flat.any():
        raise ModelError(
            f"column {int(np.flatnonzero(flat)[0])} of X is determined by those before it; "
            "leave it out"
        )
    if (design[:, 0] == design[0, 0]).all():
        Q[:, 0] = design[0, 0] / R[0, 0]  # one number exactly: the core then has less to sum
    return np.ascontiguousarray(Q), R


def _turned(packed: Floats, inverse: Floats) -> Floats:
    """R^-1 B R^-T of packed upper triangles (p (p + 1) / 2, N), as (p, p, N)."""
    p = len(inverse)
    rows, columns = np.triu_indices(p)
    each = np.einsum("at,bt->abt", inverse[:, rows], inverse[:, columns])
    both = np.where(rows == columns, each, each + each.transpose(1, 0, 2))
    return np.asarray((both.reshape(p * p, -1) @ packed).reshape(p, p, -1))


def _quadratic(bread: Floats, c: Floats) -> Floats:
    return np.asarray(np.einsum("a,abn,b->n", c, bread, c, optimize=True))


def _scale(df: str, scatter: Floats) -> Floats:
    """What the covariances of the model are multiplied by."""
    if df == "knapp-hartung":
        return scatter
    if df == "knapp-hartung-conservative":
        return np.asarray(np.maximum(1.0, scatter))
    return np.where(np.isfinite(scatter), 1.0, np.nan)
