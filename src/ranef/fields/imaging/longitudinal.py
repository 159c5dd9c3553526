"""`lmm` and `LongitudinalModel`: repeated measures at every voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.call import ModelArguments
from ranef.design.specification import Specification
from ranef.design.specify import specification_of
from ranef.display.progress import arriving
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    ModelError,
    UnknownColumnError,
    row_text,
    warn,
)
from ranef.fields.imaging.clusters import ClusterTable, cluster_table
from ranef.fields.imaging.gathering import Grid, stacked
from ranef.fields.imaging.group_design import weights_of
from ranef.fields.imaging.habits import Parametrised
from ranef.fields.imaging.page import GroupReport, named_contrasts
from ranef.fields.imaging.repeated import (
    MOST_FIXED,
    MOST_RANDOM,
    RepeatedFits,
    repeated_measures,
    unpacked,
)
from ranef.fields.imaging.scheduling import answers, by_dask, threads_of
from ranef.fields.imaging.table_files import read_table
from ranef.fields.imaging.tails import adjusted, two_sided, upper_p, upper_tail
from ranef.fields.imaging.visits_page import visits_report
from ranef.fields.imaging.voxels import VoxelContrast
from ranef.tables import Table

__all__ = ["LongitudinalModel", "VoxelMixedFit", "lmm"]

Floats = NDArray[np.float64]

TILE = 1 << 13
HIDDEN = "outcome_of_the_images"
DF = ("satterthwaite", "normal")
OUTPUTS = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "df", "p_fdr",
           "sigma2", "loglik", "n", "converged", "all")  # fmt: skip


@dataclass(frozen=True, eq=False)
class VoxelMixedFit:
    """Linear mixed models of N outcomes with one design; `imaging.lmm` makes it.

    Attributes
    ----------
    names : tuple of str
        The p fixed effects; those of the formula, the intercept as ``"intercept"``.
    terms : tuple of str
        The q random effects.
    fits : RepeatedFits
    df_method : str
    """

    names: tuple[str, ...]
    terms: tuple[str, ...]
    fits: RepeatedFits
    df_method: str

    @property
    def beta(self) -> Floats:
        """Fixed effects (p, N)."""
        return self.fits.beta

    @property
    def sigma(self) -> Floats:
        """Residual standard deviation (N,)."""
        return np.asarray(np.sqrt(self.fits.sigma2))

    @property
    def loglik(self) -> Floats:
        """Restricted (or plain) log-likelihood (N,)."""
        return self.fits.loglik

    @property
    def n(self) -> NDArray[np.int64]:
        """Rows with data (N,)."""
        return self.fits.n

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Whether the search ended at an optimum (N,)."""
        return self.fits.converged

    @cached_property
    def covariance(self) -> Floats:
        """Covariance matrix of the random effects (q, q, N)."""
        return unpacked(self.fits.psi * self.fits.sigma2, len(self.terms))

    @cached_property
    def std_error(self) -> Floats:
        """Standard errors of the fixed effects (p, N)."""
        each = [self.contrast(one).variance for one in np.eye(len(self.names))]
        return np.asarray(np.sqrt(np.array(each)))

    @cached_property
    def df(self) -> Floats:
        """Degrees of freedom of each fixed effect (p, N)."""
        return np.array([self.contrast(one).df for one in np.eye(len(self.names))])

    def contrast(self, weights: Any) -> VoxelContrast:
        """Estimate and test one linear function of the fixed effects at every voxel.

        Parameters
        ----------
        weights : (p,) array, or an expression such as ``"age - 2*age:groupb"``
        """
        c = weights_of(weights, self.names)
        if len(c) > 1:
            raise ModelError("a contrast is one row; joint() tests several")
        packed = self._packed(c[0])
        effect, variance = c[0] @ self.fits.beta, packed @ self.fits.vcov
        df = self._degrees(packed, variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            stat = np.where(variance > 0, effect / np.sqrt(variance), np.nan)
        return VoxelContrast(effect, variance, stat, *two_sided(stat, df), df)

    def joint(self, rows: Any) -> VoxelContrast:
        """Test several together by F, its denominator by Fai and Cornelius (1996).

        Parameters
        ----------
        rows : (r, p) array, or expressions
        """
        C = weights_of(rows, self.names)
        p, r = len(self.names), len(C)
        effect = C @ self.fits.beta
        V = unpacked(self.fits.vcov, p)
        covariance = np.einsum("ra,abn,sb->nrs", C, V, C, optimize=True)
        known = np.isfinite(covariance).all(axis=(1, 2))
        stat, df = np.full(len(known), np.nan), np.full(len(known), np.nan)
        values, vectors = np.linalg.eigh(covariance[known])
        turned = np.einsum("nrk,rn->kn", vectors, effect[:, known])
        with np.errstate(divide="ignore", invalid="ignore"):
            stat[known] = (turned**2 / values.T).sum(axis=0) / r
        each = np.empty((r, int(known.sum())))
        E = unpacked(self.fits.spread[:, :, known], p)
        for k in range(r):
            rows_k = np.einsum("nr,rp->np", vectors[:, :, k], C)
            squares = np.einsum("na,fabn,nb->fn", rows_k, E, rows_k, optimize=True) ** 2
            with np.errstate(divide="ignore", invalid="ignore"):
                each[k] = 2 * values[:, k] ** 2 / squares.sum(axis=0)
        if self.df_method == "normal":
            df[known] = np.inf
        else:
            gain = np.where(each > 2, each / (each - 2), 0.0).sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                df[known] = np.where(gain > r, 2 * gain / (gain - r), 2.0)
        variance = np.einsum("nrr->rn", covariance)
        return VoxelContrast(effect, variance, stat, *upper_tail(stat, r, df), df)

    def _packed(self, c: Floats) -> Floats:
        a, b = np.triu_indices(len(c))
        return np.asarray(c[a] * c[b] * np.where(a == b, 1.0, 2.0))

    def _degrees(self, packed: Floats, variance: Floats) -> Floats:
        if self.df_method == "normal":
            return np.where(np.isfinite(variance), np.inf, np.nan)
        squares = (np.einsum("k,fkn->fn", packed, self.fits.spread) ** 2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(2 * variance**2 / squares)


def lmm(
    formula: str,
    table: Any,
    *,
    response: str | None = None,
    outcomes: Any = None,
    reml: bool = True,
    df: str = "satterthwaite",
    n_jobs: int | str | None = None,
    progress: bool | None = None,
) -> VoxelMixedFit:
    """Fit one linear mixed model to many outcomes.

    Parameters
    ----------
    formula : str
        ``"y ~ age * group + (age | subject)"``. One random term of up to three effects is fitted
        by compiled code, all outcomes side by side; other models are for `ranef.lmm`.
    table : table or path
        A row for each row of `outcomes`.
    response : str, optional
        What the outcomes are called in the formula, where it is not its left side.
    outcomes : (n, N) array, or list of str
        A column for each outcome, or names of columns of the table. A value that is missing or
        infinite leaves its row out for that outcome alone.
    reml : bool
    df : {"satterthwaite", "normal"}
    n_jobs : int or "dask", optional
        Threads, or the scheduler of Dask in use; results do not depend on it.
    progress : bool, optional
        Show a bar; where a person looks if not given.

    Returns
    -------
    VoxelMixedFit

    Examples
    --------
    >>> import numpy as np, ranef
    >>> from ranef import imaging
    >>> sleep = ranef.data.load("sleepstudy")
    >>> noise = np.random.default_rng(1).normal(size=(180, 50))
    >>> Y = sleep["Reaction"].to_numpy()[:, None] + 5 * noise
    >>> fit = imaging.lmm("Reaction ~ Days + (Days | Subject)", sleep, outcomes=Y)
    >>> fit.beta.shape, bool(abs(fit.beta[1].mean() - 10.467) < 0.3)
    ((2, 50), True)
    """
    rows = read_table(table)
    kind = arguments.choice("df", df, DF)
    Y = _outcomes(outcomes, rows)
    spec = specification_of(ModelArguments(*_hidden(formula, rows, response)))
    if len(Y) != rows.n_rows:
        raise DataError(f"outcomes have {len(Y)} rows, and the table has {rows.n_rows}")
    kept = spec.accounting.kept
    Y = Y if kept is None else np.ascontiguousarray(Y[kept])
    restricted = arguments.flag("reml", reml)
    names = tuple("intercept" if name == "(Intercept)" else name for name in spec.names)
    _check_kind(spec)
    term = spec.terms[0]
    X, codes = np.asarray(spec.X, dtype=np.float64), spec.factors[term.factor].codes
    work = partial(
        repeated_measures, X=X, Z=np.asarray(term.z), codes=codes, reml=restricted,
        n_jobs=threads_of(n_jobs),
    )  # fmt: skip
    first = range(0, Y.shape[1], TILE)
    tiles = (np.ascontiguousarray(Y[:, f : f + TILE]) for f in first)
    parts = answers(work, tiles, n_jobs if by_dask(n_jobs) else 1)
    found = _joined(list(arriving(parts, len(first), "mixed models", progress, unit=" tiles")))
    _warn_of(found)
    return VoxelMixedFit(names, _terms(spec), found, kind)


def _outcomes(outcomes: Any, rows: Table) -> NDArray[Any]:
    if outcomes is None:
        raise ModelError("outcomes= is missing: an array with a column for each outcome")
    if isinstance(outcomes, list | tuple) and outcomes and isinstance(outcomes[0], str):
        return np.column_stack([rows.numeric(name) for name in outcomes])
    Y = np.asarray(outcomes)
    if Y.ndim != 2 or Y.dtype.kind not in "fiu" or not Y.shape[1]:
        raise DataError("outcomes must be a matrix of numbers (rows, outcomes)")
    return np.ascontiguousarray(Y, dtype=np.float32 if Y.dtype == np.float32 else np.float64)


def _hidden(formula: str, rows: Table, response: str | None) -> tuple[str, Table]:
    """The formula and its table with a response that no outcome is."""
    text = arguments.formula(formula)
    left, tilde, right = text.partition("~")
    if not tilde:
        left, right = "", text
    if response is not None and left.strip() not in ("", response):
        raise ModelError(f"the formula has the response {left.strip()!r}, response= {response!r}")
    columns = {name: value for name, value in rows.mapping().items() if name != HIDDEN}
    seed = np.random.default_rng(0).normal(size=rows.n_rows)
    return f"{HIDDEN} ~{right}", Table.of({**columns, HIDDEN: seed})


def _terms(spec: Specification) -> tuple[str, ...]:
    return tuple(name for term in spec.terms for name in term.names)


def _check_kind(spec: Specification) -> None:
    """Refuse what is not fitted to many outcomes at once."""
    elsewhere = "fit these outcomes one by one with ranef.lmm, or start from refit() of one fit"
    if len(spec.terms) != 1:
        raise ModelError(
            f"the formula has {len(spec.terms)} random terms; models of many outcomes have one, "
            f"such as (time | subject): {elsewhere}"
        )
    term = spec.terms[0]
    plain = term.structure == "us" and term.kernel is None and spec.residual is None
    if not plain or spec.weights is not None or spec.offset is not None:
        raise ModelError(
            "models of many outcomes have one unstructured random term, without offset or weights: "
            + elsewhere
        )
    if term.z.shape[1] > MOST_RANDOM:
        raise ModelError(
            f"the random term has {term.z.shape[1]} effects, at most {MOST_RANDOM} are fitted to "
            f"many outcomes: {elsewhere}"
        )
    if spec.p > MOST_FIXED:
        raise ModelError(
            f"the formula has {spec.p} fixed effects, at most {MOST_FIXED} are fitted to many "
            f"outcomes: {elsewhere}"
        )


def _joined(parts: Sequence[RepeatedFits]) -> RepeatedFits:
    if len(parts) == 1:
        return parts[0]
    names = parts[0].__dataclass_fields__
    return RepeatedFits(
        **{k: np.concatenate([getattr(one, k) for one in parts], axis=-1) for k in names}
    )


def _warn_of(found: RepeatedFits) -> None:
    bad = int((np.isfinite(found.loglik) & ~found.converged).sum())
    if bad:
        warn(
            f"the search did not end at {bad} of {len(found.n)} outcomes; `converged` says which",
            ConvergenceWarning,
        )


def _column_of_images(formula: Any, rows: Table) -> str:
    response = str(formula).partition("~")[0].strip().strip("`")
    for name in (response, "map_path"):
        if name in rows:
            return name
    if not response:
        raise UnknownColumnError(
            "the formula has no response, which names the column of the images, and the table has "
            "no column 'map_path': give images=, the name of that column"
        )
    raise UnknownColumnError(
        f"which column holds the images is not known: neither {response!r}, the response of the "
        "formula, nor 'map_path' is in the table; give images=, the name of that column"
    )


class LongitudinalModel(Parametrised):
    """A linear mixed model of repeated images at every voxel.

    Each row of a table is a visit of a subject with its image.

    Parameters
    ----------
    formula : str
        ``"~ time * group + (time | subject)"``: one random term of up to three effects.
    mask_img : image, path or fitted masker, optional
        Without a mask, all voxels where at least `min_images` have data.
    target_affine, target_shape : optional
        Grid to resample images to (nilearn); images on different grids are refused otherwise.
    smoothing_fwhm : float, optional
        In mm.
    reml : bool
    df : {"satterthwaite", "normal"}
    min_images : int or float, optional
        Images with data that a voxel needs (below 1: their share); all if not given.
    n_jobs : int or "dask"
    verbose : int

    Examples
    --------
    >>> import numpy as np, pandas as pd, nibabel as nib
    >>> from ranef import imaging
    >>> rng = np.random.default_rng(1)
    >>> visits = pd.DataFrame({"subject": np.repeat(np.arange(12), 3),
    ...                        "time": np.tile([0, 1, 2], 12)})
    >>> level = rng.normal(size=(12, 3, 3, 3))[visits["subject"]]
    >>> y = level + 0.5 * visits["time"].to_numpy()[:, None, None, None]
    >>> y = y + 0.3 * rng.normal(size=y.shape)
    >>> images = [nib.Nifti1Image(one, np.eye(4)) for one in y]
    >>> model = imaging.LongitudinalModel("~ time + (1 | subject)").fit(visits, images)
    >>> effect = model.compute_contrast("time", output_type="effect_size").get_fdata()
    >>> effect.shape, bool(abs(effect.mean() - 0.5) < 0.1)
    ((3, 3, 3), True)
    """

    def __init__(
        self,
        formula: str,
        mask_img: Any = None,
        target_affine: Any = None,
        target_shape: Any = None,
        smoothing_fwhm: float | None = None,
        *,
        reml: bool = True,
        df: str = "satterthwaite",
        min_images: int | float | None = None,
        n_jobs: int | str | None = 1,
        verbose: int = 0,
    ) -> None:
        self.formula = formula
        self.mask_img = mask_img
        self.target_affine = target_affine
        self.target_shape = target_shape
        self.smoothing_fwhm = smoothing_fwhm
        self.reml = reml
        self.df = df
        self.min_images = min_images
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fit_")

    def fit(self, table: Any, images: Any = None) -> Self:
        """Read the images, and fit the model at every voxel.

        Parameters
        ----------
        table : DataFrame or path
            A row an image: the columns of the formula.
        images : str, or list of images, optional
            The column of the table with paths, or an image for each row, in its order. If not
            given, the response of the formula where that is a column, else ``map_path``.

        Returns
        -------
        LongitudinalModel
            Itself.
        """
        rows = read_table(table)
        if images is None:
            images = _column_of_images(self.formula, rows)
        if isinstance(images, str):
            given = list(rows.values(images))
        elif isinstance(images, list | tuple):
            given = list(images)
        else:
            raise ModelError("images is a column of the table, or a list of images")
        if len(given) != rows.n_rows:
            raise DataError(f"there are {len(given)} images for {rows.n_rows} rows of the table")
        grid = Grid(
            self.mask_img, self.target_affine, self.target_shape, self.smoothing_fwhm, None,
            self.verbose, self.n_jobs,
        )  # fmt: skip
        K = len(given)
        asked = float(K if self.min_images is None else self.min_images)
        least = int(np.ceil(asked * K)) if asked < 1 else int(asked)
        data = stacked(given, [f"the image of {row_text(k)}" for k in range(K)], grid, least)
        self.fit_ = lmm(
            self.formula, rows, outcomes=data.Y, reml=self.reml, df=self.df, n_jobs=self.n_jobs,
            progress=True if self.verbose else None,
        )  # fmt: skip
        self._data = data
        self.mask_img_ = data.image(np.ones(data.Y.shape[1], dtype=np.float32))
        self.n_elements_ = int(data.inside.sum())
        return self

    def _fitted(self) -> VoxelMixedFit:
        """The fit to the voxels; refuse before there is one."""
        if not hasattr(self, "fit_"):
            raise ModelError("the model is not fitted; call fit() first")
        return self.fit_

    def compute_contrast(
        self,
        contrast: Any = None,
        stat_type: str | None = None,
        output_type: str = "z_score",
    ) -> Any:
        """Return a map of a contrast of the fixed effects, or of the model.

        Parameters
        ----------
        contrast : str, list of str, or array
            An expression, ``"time - 2*time:groupb"``; several are tested together by F.
        stat_type : {"t", "F"}, optional
        output_type : str
            ``z_score, stat, p_value`` (of t one-sided), ``effect_size, effect_variance, df,
            p_fdr, sigma2, loglik, n, converged``; ``"all"`` is a dict.

        Returns
        -------
        image, or dict of images
        """
        fit, of_fit = self._fitted(), ("sigma2", "loglik", "n", "converged")
        kind = arguments.choice("output_type", output_type, OUTPUTS)
        values = {name: np.asarray(getattr(fit.fits, name), dtype=np.float64) for name in of_fit}
        if kind not in of_fit:
            C = weights_of(contrast, fit.names)
            joint = len(C) > 1 or stat_type == "F"
            if stat_type is not None:
                arguments.choice("stat_type", stat_type, ("t", "F"))
            if stat_type == "t" and joint:
                raise ModelError(f"{len(C)} rows are tested together by F; a t test takes one")
            one = fit.joint(C) if joint else fit.contrast(C[0])
            values |= {
                "z_score": one.z_score, "stat": one.stat,
                "p_value": one.p_value if joint else upper_p(one.z_score),
                "effect_size": one.effect, "effect_variance": one.variance,
                "df": np.asarray(one.df), "p_fdr": adjusted(one.p_value),
            }  # fmt: skip
        if kind == "all":
            return {name: self._data.image(one) for name, one in values.items()}
        return self._data.image(values[kind])

    def clusters(
        self,
        contrast: Any = None,
        *,
        height: float = 0.001,
        height_control: str | None = "fpr",
        min_size: int = 1,
        two_sided: bool = True,
        atlas: Any = None,
    ) -> ClusterTable:
        """Return the clusters of voxels above a height.

        Parameters
        ----------
        contrast
            As in `compute_contrast`.
        height, height_control, min_size, two_sided, atlas
            As in `MixedEffectsSecondLevel.clusters`.
        """
        fit = self._fitted()
        C = weights_of(contrast, fit.names)
        one = fit.contrast(C[0]) if len(C) == 1 else fit.joint(C)
        return cluster_table(
            self._data, one.z_score, height=height, control=height_control, least=min_size,
            two_sided=two_sided, atlas=atlas,
        )  # fmt: skip

    def generate_report(
        self,
        contrasts: Any = None,
        title: str | None = None,
        *,
        alpha: float = 0.001,
        height_control: str | None = "fpr",
        cluster_threshold: int = 0,
        two_sided: bool = True,
        atlas: Any = None,
    ) -> GroupReport:
        """Return the report, one HTML page.

        Parameters
        ----------
        contrasts : str, list of str, or dict of name to contrast, optional
            Every fixed effect if not given.
        title : str, optional
        alpha, height_control, cluster_threshold, two_sided, atlas
            Of the table of clusters, as in `clusters`.

        Returns
        -------
        GroupReport
            ``save_as_html(path)``; shows itself in notebooks.
        """
        names = self._fitted().names
        settings = dict(
            height=alpha, control=height_control, least=max(1, int(cluster_threshold)),
            two_sided=arguments.flag("two_sided", two_sided), atlas=atlas,
        )  # fmt: skip
        chosen = named_contrasts(contrasts, names)
        return visits_report(self, chosen, title, settings)
