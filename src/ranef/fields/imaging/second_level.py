"""`MixedEffectsSecondLevel`: a group of subjects, each weighted by its own precision."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.fields.imaging.clusters import ClusterTable, cluster_table
from ranef.fields.imaging.comparing import ThreeModels, three_models
from ranef.fields.imaging.flips import sign_flips
from ranef.fields.imaging.fsl import read_design
from ranef.fields.imaging.gathering import Grid, GroupData, gathered
from ranef.fields.imaging.group_design import GroupDesign, design_of, weights_of
from ranef.fields.imaging.groups import GroupedFit, grouped_fit
from ranef.fields.imaging.habits import Parametrised
from ranef.fields.imaging.page import GroupReport, group_report, named_contrasts
from ranef.fields.imaging.people import SubjectReport, shares, subject_report
from ranef.fields.imaging.scheduling import by_dask
from ranef.fields.imaging.subjects import subjects_of
from ranef.fields.imaging.table_files import is_table_file, read_table
from ranef.fields.imaging.tails import adjusted, upper_p
from ranef.fields.imaging.voxels import DF, METHODS, VoxelContrast, VoxelFit, mixed_effects
from ranef.tables import Table

__all__ = ["OUTPUTS", "MixedEffectsSecondLevel"]

Floats = NDArray[np.float64]

OF_CONTRAST = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "p_fdr")
OF_VOXELS = ("tau2", "i2", "h2", "q", "n", "df", "maxima")
OUTPUTS = (*OF_CONTRAST, *OF_VOXELS, "outliers", "all")
TYPES = ("t", "F")
OWN_COLUMNS = ("subject_label", "map_name", "effects_map_path", "variance_map_path")


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What `fit` found for one first-level contrast."""

    data: GroupData
    design: GroupDesign
    voxels: VoxelFit | GroupedFit

    @property
    def weighing(self) -> GroupData:
        """The data with the variances that weigh subjects: of outliers the larger ones."""
        own = self.voxels.weighing_variance
        return self.data if own is None else replace(self.data, V=own)


class MixedEffectsSecondLevel(Parametrised):
    """A mixed-effects model of a group, in the manner of nilearn's SecondLevelModel.

    At every voxel y_k = x_k'b + u_k + e_k: subject k's effect, its deviation from the group, and
    the error of the subject's own measurement, whose variance v_k the subject's second image
    gives. The variance between subjects tau2 is estimated per voxel; subject k weighs
    1 / (v_k + tau2). `compare` puts fixed effects (tau2 = 0) and ordinary least squares (v_k
    ignored) beside it.

    Parameters
    ----------
    mask_img : image, path or fitted masker, optional
        Without a mask, all voxels where at least `min_subjects` have data. A subject has no data
        where its effect is not finite or its variance not positive.
    target_affine, target_shape : optional
        Grid to resample images to (nilearn); images on different grids are refused otherwise.
    smoothing_fwhm : float, optional
        In mm; effects are averaged over voxels with data, variances as an upper bound.
    memory : path or joblib.Memory, optional
        Where maps that were read are kept.
    memory_level : int
    verbose : int
    n_jobs : int or "dask"
        Threads, or the scheduler of Dask in use for files, voxels and permutations; results do
        not depend on it.
    minimize_memory : bool
        Of nilearn's signature, without effect: the subjects' maps stay in memory, in single
        precision, since contrasts and permutations need them.
    formula : str, optional
        The design by columns of `table`, ``"~ age + group"``.
    method : {"reml", "ml", "dl", "he", "hs", "sj", "pm", "eb", "fe"}
    df : {"knapp-hartung-conservative", "knapp-hartung", "t", "normal"}
        As in `mixed_effects`.
    min_subjects : int or float, optional
        Subjects with data that a voxel needs (below 1: their share); those that the model needs
        if not given.
    outliers : bool
        Look for subjects far from the group at each voxel, and weigh them down, as in
        `mixed_effects`; `outlier_maps` has their probabilities.

    Examples
    --------
    >>> import numpy as np, nibabel as nib
    >>> from ranef import imaging
    >>> rng = np.random.default_rng(1)
    >>> volume = lambda values: nib.Nifti1Image(values.astype("float32"), np.eye(4))
    >>> v = rng.uniform(0.5, 2.0, (12, 5, 5, 5))
    >>> y = 1 + rng.normal(size=v.shape) * np.sqrt(v + 0.3)
    >>> model = imaging.MixedEffectsSecondLevel()
    >>> model = model.fit([volume(one) for one in y], variances=[volume(one) for one in v])
    >>> z = model.compute_contrast("intercept", output_type="z_score")
    >>> z.shape, bool(z.get_fdata().mean() > 1)
    ((5, 5, 5), True)
    """

    def __init__(
        self,
        mask_img: Any = None,
        target_affine: Any = None,
        target_shape: Any = None,
        smoothing_fwhm: float | None = None,
        memory: Any = None,
        memory_level: int = 1,
        verbose: int = 0,
        n_jobs: int | str | None = 1,
        minimize_memory: bool = True,
        *,
        formula: str | None = None,
        method: str = "reml",
        df: str = "knapp-hartung-conservative",
        min_subjects: int | float | None = None,
        outliers: bool = False,
    ) -> None:
        self.mask_img = mask_img
        self.target_affine = target_affine
        self.target_shape = target_shape
        self.smoothing_fwhm = smoothing_fwhm
        self.memory = memory
        self.memory_level = memory_level
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.minimize_memory = minimize_memory
        self.formula = formula
        self.method = method
        self.df = df
        self.min_subjects = min_subjects
        self.outliers = outliers

    # --- scikit-learn's habits

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "design_matrix_")

    # --- fitting

    def fit(
        self,
        second_level_input: Any,
        confounds: Any = None,
        design_matrix: Any = None,
        variances: Any = None,
        table: Any = None,
        subject: Any = None,
        *,
        first_level_contrast: Any = None,
        variance_groups: Any = None,
    ) -> Self:
        """Read the images of the subjects, and fit the model at every voxel.

        Parameters
        ----------
        second_level_input : DataFrame, list of images, of FirstLevelModels or of .feat folders
            A DataFrame has ``subject_label, effects_map_path, variance_map_path``; a list of images
            comes with `variances`. A folder of BIDS derivatives (``stat-effect``,
            ``stat-variance``) and an image of four dimensions are read too.
        confounds : DataFrame, optional
            As nilearn's: ``subject_label`` and columns of numbers that enter beside the intercept.
        design_matrix : DataFrame, array, or path of FSL's design.mat, optional
            In place of a formula: rows by ``subject_label`` or by index; else in the images' order.
        variances : list of images, optional
        table : DataFrame or path, optional
            What the formula needs, as BIDS' participants.tsv. Rows are found by label.
        subject : str, or list of labels, optional
            The column of labels in `table`; or the labels of a list of images, in their order.
        first_level_contrast : optional
            Of FirstLevelModels a contrast, of .feat folders a cope's number or name, of BIDS
            derivatives a contrast's name.
        variance_groups : array or path of FSL's design.grp, optional
            Subjects of one label share a variance between subjects.

        Returns
        -------
        MixedEffectsSecondLevel
            Itself.
        """
        self._check()
        column = subject if isinstance(subject, str) else None
        labels = None if subject is None or isinstance(subject, str) else list(subject)
        self._given = (second_level_input, variances, labels)
        self._wanted = (confounds, design_matrix, table, column, variance_groups)
        self._kept: dict[str, _Fitted] = {}
        self._first_level = first_level_contrast
        self._of_models = (
            isinstance(second_level_input, list | tuple)
            and len(second_level_input) > 0
            and all(hasattr(one, "compute_contrast") for one in second_level_input)
        )
        if not (self._of_models and first_level_contrast is None):
            self._publish(self._fitted(first_level_contrast))
        else:
            names = [getattr(one, "subject_label", None) for one in second_level_input]
            known = [str(name) for name in names]
            self._design(known, True)
            self.design_matrix_: Any = None
        return self

    def _check(self) -> None:
        arguments.choice("method", self.method, METHODS)
        arguments.choice("df", self.df, DF)
        arguments.flag("outliers", self.outliers)
        by_dask(self.n_jobs)
        if self.min_subjects is not None and not arguments.number(
            "min_subjects", self.min_subjects
        ) > 0:  # fmt: skip
            raise ModelError("min_subjects is a number of subjects, or their share below 1")
        if self.smoothing_fwhm is not None and not arguments.number(
            "smoothing_fwhm", self.smoothing_fwhm
        ) > 0:  # fmt: skip
            raise ModelError("smoothing_fwhm is positive, in mm")
        if self.target_shape is not None and self.target_affine is None:
            raise ModelError("target_shape needs target_affine")
        for name in ("verbose", "memory_level"):
            if not isinstance(getattr(self, name), int | np.integer):
                raise ModelError(f"{name} is a whole number, not {getattr(self, name)!r}")
        if not (self.memory is None or hasattr(self.memory, "cache")):
            arguments.path(self.memory)

    def _design(self, labels: Sequence[str], named: bool) -> GroupDesign:
        confounds, matrix, table, column, _ = self._wanted
        given = self._given[0]
        if table is None and confounds is None and matrix is None and self.formula is not None:
            table = _own_columns(given)
        return design_of(
            labels, named, formula=self.formula, table=table, subject=column,
            confounds=confounds, design_matrix=matrix,
        )  # fmt: skip

    def _fitted(self, contrast: Any) -> _Fitted:
        key = repr(contrast)
        if key in self._kept:
            return self._kept[key]
        given, variances, labels = self._given
        people = subjects_of(given, variances, labels, contrast)
        design = self._design([s.label for s in people], all(s.named for s in people))
        data = gathered(people, self._grid(), self._least(len(people), design))
        voxels = self._voxels(data, design)
        found = _Fitted(data, design, voxels)
        self._kept = {key: found}
        return found

    def _voxels(self, data: GroupData, design: GroupDesign) -> VoxelFit | GroupedFit:
        groups = self._wanted[4]
        if groups is not None:
            return grouped_fit(
                data.Y, data.V, design.X, groups, method=self.method, df=self.df,
                n_jobs=self.n_jobs, names=design.names, outliers=self.outliers,
            )  # fmt: skip
        return mixed_effects(
            data.Y, data.V, design.X, method=self.method, df=self.df, n_jobs=self.n_jobs,
            outliers=self.outliers,
            progress=True if self.verbose else None,
        )  # fmt: skip

    def _grid(self) -> Grid:
        return Grid(
            self.mask_img, self.target_affine, self.target_shape, self.smoothing_fwhm, self.memory,
            self.verbose, self.n_jobs,
        )  # fmt: skip

    def _least(self, K: int, design: GroupDesign) -> int:
        needed = len(design.names) + 1
        if self.min_subjects is None:
            return needed
        asked = float(self.min_subjects)
        return max(needed, int(np.ceil(asked * K - 1e-9)) if asked < 1 else int(asked))

    def _publish(self, found: _Fitted) -> None:
        import pandas as pd

        self.design_matrix_ = pd.DataFrame(
            found.design.X, columns=list(found.design.names), index=list(found.data.labels)
        )
        self.subject_labels_ = list(found.data.labels)
        self.notes_ = [*found.design.notes, *found.data.notes]
        self.n_elements_ = int(found.data.inside.sum())
        self.mask_img_ = found.data.places.image(found.data.inside.astype(np.float32))

    def _now(self, contrast: Any = None) -> _Fitted:
        if not hasattr(self, "_given"):
            raise ModelError("the model is not fitted; call fit() first")
        found = self._fitted(self._first_level if contrast is None else contrast)
        if getattr(self, "design_matrix_", None) is None:
            self._publish(found)
        return found

    # --- maps

    def compute_contrast(
        self,
        second_level_contrast: Any = None,
        first_level_contrast: Any = None,
        second_level_stat_type: str | None = None,
        output_type: str = "z_score",
    ) -> Any:
        """Return a map of a contrast, or of the model.

        Parameters
        ----------
        second_level_contrast : str, list of str, or array, optional
            An expression of columns of the design, ``"intercept - 2*age"``; several are tested
            together by F. May be left out where the design has one column.
        first_level_contrast : optional
            As in `fit`.
        second_level_stat_type : {"t", "F"}, optional
        output_type : str
            Of the contrast ``z_score, stat, p_value`` (of t one-sided, as nilearn's),
            ``effect_size, effect_variance, p_fdr`` (two-sided, adjusted by Benjamini and
            Hochberg); of the model ``tau2, i2, h2, q, n, df, maxima``, and of fits with outliers
            ``outliers``, their expected number; ``"all"`` is a dict.

        Returns
        -------
        image, or dict of images
            Zero outside of the mask; NaN where a voxel's subjects do not determine the model.
        """
        kind = arguments.choice("output_type", output_type, OUTPUTS)
        found = self._now(first_level_contrast)
        without = ("all",) if self.outliers else ("all", "outliers")
        wanted = [name for name in OUTPUTS if name not in without] if kind == "all" else [kind]
        if kind in (*OF_VOXELS, "outliers"):
            values = {kind: np.asarray(getattr(found.voxels, kind), dtype=np.float64)}
        else:
            values = self._values(found, second_level_contrast, second_level_stat_type)
        images = {name: found.data.image(np.asarray(values[name])) for name in wanted}
        return images if kind == "all" else images[kind]

    def _values(self, found: _Fitted, contrast: Any, stat_type: str | None) -> dict[str, Floats]:
        C = weights_of(contrast, found.design.names)
        kind = "F" if len(C) > 1 else "t"
        if stat_type is not None:
            asked = arguments.choice("second_level_stat_type", stat_type, TYPES)
            if asked == "t" and len(C) > 1:
                raise ModelError(f"{len(C)} rows are tested together by F; a t test takes one")
            kind = asked
        one = found.voxels.contrast(C[0]) if kind == "t" else found.voxels.joint(C)
        return contrast_maps(one, kind, found.voxels)

    # --- questions

    def compare(
        self, second_level_contrast: Any = None, first_level_contrast: Any = None
    ) -> ThreeModels:
        """Put fixed effects, ordinary least squares and mixed effects side by side.

        Returns
        -------
        ThreeModels
            Tables and words; its `maps` hold the images.
        """
        found = self._now(first_level_contrast)
        c = self._one(found, second_level_contrast)
        return three_models(
            found.data, found.design, c, self.method, self.df, self.n_jobs, self.outliers
        )

    def weights(self, first_level_contrast: Any = None) -> Any:
        """Return how much each subject counts.

        Returns
        -------
        DataFrame
            ``subject_label, mean_weight``: the subject's share of 1 / (v + tau2), the mean over
            voxels, zero where it has no data.
        """
        import pandas as pd

        found = self._now(first_level_contrast)
        mean = shares(found.weighing, found.voxels)
        return pd.DataFrame({"subject_label": list(found.data.labels), "mean_weight": mean})

    def weight_maps(self, first_level_contrast: Any = None) -> dict[str, Any]:
        """Return a map of each subject's share of the weights, by label."""
        found = self._now(first_level_contrast)
        w = np.nan_to_num(1.0 / (found.weighing.V + found.voxels.tau2_of_subjects()))
        w[~np.isfinite(found.data.Y)] = 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            share = w / w.sum(axis=0)
        return {k: found.data.image(s) for k, s in zip(found.data.labels, share, strict=True)}

    def outlier_maps(self, first_level_contrast: Any = None) -> dict[str, Any]:
        """Return a map of each subject's probability of being an outlier, by label.

        Zero where one normal distribution describes the group as well.
        """
        found = self._now(first_level_contrast)
        probability = found.voxels.outlier_probability
        if probability is None:
            raise ModelError("outliers were not looked for: fit with outliers=True")
        pairs = zip(found.data.labels, probability, strict=True)
        return {label: found.data.image(one) for label, one in pairs}

    def subjects(self, first_level_contrast: Any = None) -> SubjectReport:
        """Return each subject's precision, weight and distance from the group, a row each."""
        found = self._now(first_level_contrast)
        return subject_report(found.data, found.design, found.voxels)

    def clusters(
        self,
        second_level_contrast: Any = None,
        first_level_contrast: Any = None,
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
        second_level_contrast, first_level_contrast
            As in `compute_contrast`.
        height : float
            Significance level; a z-score where `height_control` is None.
        height_control : {"fpr", "fdr", "bonferroni", None}
        min_size : int
            Voxels that a cluster needs.
        two_sided : bool
        atlas : tuple of (image, list of names), or object with ``maps`` and ``labels``, optional
            What voxels of a value are called; nilearn's atlases have this form.
        """
        found = self._now(first_level_contrast)
        values = self._values(found, second_level_contrast, None)
        return cluster_table(
            found.data, values["z_score"], height=height, control=height_control, least=min_size,
            two_sided=two_sided, atlas=atlas,
        )  # fmt: skip

    def permutation_test(
        self,
        second_level_contrast: Any = None,
        first_level_contrast: Any = None,
        *,
        n_perm: int | str = 10000,
        tfce: bool = False,
        threshold: float | None = None,
        blocks: Any = None,
        within: bool = False,
        exchange: str = "signs",
        two_sided_test: bool = False,
        adjacency: Any = None,
        rng: Any = None,
    ) -> dict[str, Any]:
        """Test a contrast by flips of signs, tau2 estimated again at each voxel and each flip.

        Parameters
        ----------
        second_level_contrast, first_level_contrast
            As in `compute_contrast`; several are tested together by F.
        n_perm : int or "exact"
            Flips, the observed one among them; ``"exact"`` makes all.
        tfce : bool
            Test the enhanced map too.
        threshold : float, optional
            A p-value that forms clusters: tests their sizes and masses too.
        blocks : array, dict by label, or path of FSL's design.grp, optional
            Subjects that belong together. Their signs flip together, and they are exchanged as
            wholes; with `within` each flips for itself, and they are exchanged among themselves.
        within : bool
        exchange : {"signs", "permutations", "both"}
            Signs flip (errors are symmetric), subjects are exchanged with their variances (errors
            are exchangeable), or both.
        two_sided_test : bool
        adjacency : sparse array or pairs, optional
            Neighbours of the vertices of a surface whose image does not name them.
        rng : int or Generator, optional

        Returns
        -------
        dict of images
            ``t, p, logp_max_t`` (of F ``f, p, logp_max_f``); with `tfce` ``tfce, logp_max_tfce``;
            with `threshold` ``size, logp_max_size, mass, logp_max_mass``. ``logp`` is -log10 of
            the p-value corrected for all voxels.
        """
        found = self._now(first_level_contrast)
        C = weights_of(second_level_contrast, found.design.names)
        if self._wanted[4] is not None:
            raise ModelError("permutations estimate one variance; fit without variance_groups=")
        if self.outliers:
            raise ModelError(
                "permutations do not look for outliers; fit without outliers= (flips of signs are "
                "valid with them: only symmetry is needed)"
            )
        spatial = arguments.flag("tfce", tfce) or threshold is not None
        graph = found.data.places.graph(found.data.inside, adjacency) if spatial else None
        tested = sign_flips(
            found.data.Y, found.data.V, found.design.X, C, n_perm=n_perm, method=self.method,
            df=self.df, two_sided=arguments.flag("two_sided_test", two_sided_test),
            adjacency=graph, enhance=tfce, cluster_p=threshold,
            blocks=_blocks(blocks, found.data.labels), within=within, exchange=exchange, rng=rng,
            n_jobs=self.n_jobs, progress=True if self.verbose else None,
        )  # fmt: skip
        self.n_permutations_ = len(tested.max_t)
        self.exact_ = tested.exact
        name = "t" if len(C) == 1 else "f"
        maps = {name: tested.t, "p": tested.p_value, f"logp_max_{name}": tested.logp_max_t}
        for name in ("tfce", "size", "mass"):
            if getattr(tested, name) is not None:
                maps[name] = getattr(tested, name)
                maps[f"logp_max_{name}"] = getattr(tested, f"logp_max_{name}")
        return {name: found.data.image(values) for name, values in maps.items()}

    def _one(self, found: _Fitted, contrast: Any) -> Floats:
        C = weights_of(contrast, found.design.names)
        if len(C) > 1:
            raise ModelError(
                f"this takes one contrast, not {len(C)} together; ask for one after the other"
            )
        return np.asarray(C[0], dtype=np.float64)

    def generate_report(
        self,
        contrasts: Any = None,
        first_level_contrast: Any = None,
        title: str | None = None,
        *,
        alpha: float = 0.001,
        height_control: str | None = "fpr",
        cluster_threshold: int = 0,
        two_sided: bool = True,
        atlas: Any = None,
        call: str | None = None,
    ) -> GroupReport:
        """Return the report, one HTML page.

        Parameters
        ----------
        contrasts : str, list of str, or dict of name to contrast, optional
            Every column of the design if not given.
        first_level_contrast : optional
        title : str, optional
        alpha, height_control, cluster_threshold, two_sided, atlas
            Of the table of clusters, as in `clusters`.
        call : str, optional
            The command that made it, shown under "How to reproduce".

        Returns
        -------
        GroupReport
            ``save_as_html(path)``; shows itself in notebooks.
        """
        found = self._now(first_level_contrast)
        chosen = named_contrasts(contrasts, found.design.names)
        settings = dict(
            height=alpha, control=height_control, least=max(1, int(cluster_threshold)),
            two_sided=arguments.flag("two_sided", two_sided), atlas=atlas,
        )  # fmt: skip
        return group_report(self, found, chosen, title, settings, call)


def contrast_maps(
    one: VoxelContrast, kind: str, voxels: VoxelFit | GroupedFit
) -> dict[str, Floats]:
    """The maps of a contrast by nilearn's names."""
    out = {
        "z_score": one.z_score,
        "stat": one.stat,
        "p_value": upper_p(one.z_score) if kind == "t" else one.p_value,
        "effect_size": one.effect,
        "effect_variance": one.variance,
        "p_fdr": adjusted(one.p_value),
    }
    degrees = getattr(one, "df", None)
    known = voxels.outlier_probability is not None
    for name in (*OF_VOXELS, "outliers") if known else OF_VOXELS:
        out[name] = np.asarray(getattr(voxels, name), dtype=np.float64)
    if degrees is not None:
        out["df"] = degrees
    return out


def _own_columns(given: Any) -> Any:
    """What an input's own table has beside its paths."""
    if is_table_file(given):
        given = read_table(given)
    if not (hasattr(given, "columns") or isinstance(given, Mapping)):
        return None
    table = Table.of(given)
    if not set(table.columns) - set(OWN_COLUMNS):
        return None
    return {name: table.values(name) for name in table.columns if name not in OWN_COLUMNS[1:]}


def _blocks(blocks: Any, labels: Sequence[str]) -> Any:
    if blocks is None:
        return None
    if isinstance(blocks, str | os.PathLike):
        return read_design(blocks)
    if isinstance(blocks, Mapping):
        missing = [label for label in labels if label not in blocks]
        if missing:
            raise DataError(f"blocks has no entry for subject {missing[0]!r}")
        return [blocks[label] for label in labels]
    return blocks
