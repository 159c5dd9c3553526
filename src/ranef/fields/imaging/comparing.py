"""Three models of a group side by side: fixed effects, least squares, mixed effects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.fields.imaging.gathering import GroupData
from ranef.fields.imaging.group_design import GroupDesign
from ranef.fields.imaging.tails import adjusted
from ranef.fields.imaging.voxels import VoxelContrast, VoxelFit, mixed_effects

__all__ = ["ThreeModels", "three_models"]

Floats = NDArray[np.float64]

MODELS = {"FE": "fixed effects", "RE": "least squares", "ME": "mixed effects"}
LEVEL = 0.001
RATE = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class ThreeModels(Answer):
    """A contrast by fixed effects (FE), least squares (RE) and mixed effects (ME).

    FE takes the subjects' variances for all there is: it speaks of these subjects alone. RE, the
    usual second level, ignores the variances. ME has both.

    Attributes
    ----------
    found : dict of str to VoxelContrast
        By ``"FE"``, ``"RE"``, ``"ME"``.
    mixed : VoxelFit
    data : GroupData
    """

    found: dict[str, VoxelContrast]
    mixed: VoxelFit
    data: GroupData
    title = "Fixed, random and mixed effects"
    library = "pandas"

    @cached_property
    def maps(self) -> dict[str, dict[str, Any]]:
        """Images by model: ``z_score, stat, effect_size, effect_variance``."""
        return {
            name: {
                "z_score": self.data.image(one.z_score),
                "stat": self.data.image(one.stat),
                "effect_size": self.data.image(one.effect),
                "effect_variance": self.data.image(one.variance),
            }
            for name, one in self.found.items()
        }

    @cached_property
    def significant(self) -> dict[str, NDArray[np.bool_]]:
        """Voxels with p < .001, two-sided and not corrected, by model."""
        return {
            name: np.nan_to_num(one.p_value, nan=1.0) < LEVEL for name, one in self.found.items()
        }

    def tidy(self) -> Any:
        """Return a row a model.

        Returns
        -------
        DataFrame
            ``model, n_voxels, mean_effect, mean_std_error, mean_abs_z, n_significant, n_fdr``:
            voxels with a test, and those below p = .001 (two-sided) and a false discovery rate of
            .05.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        rows = []
        for name, one in self.found.items():
            here = np.isfinite(one.stat)
            q = adjusted(one.p_value)
            rows.append(
                (name, int(here.sum()), _mean(one.effect), _mean(np.sqrt(one.variance)),
                 _mean(np.abs(one.z_score)), int(self.significant[name].sum()),
                 int((np.nan_to_num(q, nan=1.0) <= RATE).sum()))
            )  # fmt: skip
        model, n, effect, error, z, many, fdr = zip(*rows, strict=True)
        models = Listing(
            "models",
            (
                Column("model", list(model), Label(), heading="Model"),
                Column("n_voxels", np.array(n), Fixed(0), heading="Voxels"),
                Column("mean_effect", np.array(effect), Significant(4), heading="Mean effect"),
                Column("mean_std_error", np.array(error), Significant(4), heading="Mean SE"),
                Column("mean_abs_z", np.array(z), Significant(4), heading="Mean |z|"),
                Column("n_significant", np.array(many), Fixed(0), heading="p < .001"),
                Column("n_fdr", np.array(fdr), Fixed(0), heading="FDR < .05"),
            ),
            caption="Three models of the same images",
        )
        return (models, self._agreement())

    def _agreement(self) -> Listing:
        fe, re, me = (self.significant[name] for name in ("FE", "RE", "ME"))
        kinds = {
            "all three": fe & re & me,
            "FE alone": fe & ~re & ~me,
            "RE alone": re & ~fe & ~me,
            "ME alone": me & ~fe & ~re,
            "ME and FE, not RE": me & fe & ~re,
            "ME and RE, not FE": me & re & ~fe,
            "FE and RE, not ME": fe & re & ~me,
        }
        return Listing(
            "agreement",
            (
                Column("significant_in", list(kinds), Label(), heading="p < .001 in"),
                Column("n_voxels", np.array([int(k.sum()) for k in kinds.values()]), Fixed(0),
                       heading="Voxels"),
            ),
            caption="Where the models agree",
        )  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        fe, re, me = (self.significant[name] for name in ("FE", "RE", "ME"))
        zero = float(np.mean(self.mixed.tau2[np.isfinite(self.mixed.tau2)] == 0))
        i2 = float(np.nanmedian(self.mixed.i2))
        out = [
            f"Subjects differ beyond their own errors in {100 * (1 - zero):.0f}% of voxels; the "
            f"median I² is {i2:.0f}%.",
            f"Fixed effects call {int((fe & ~me).sum()):,} voxels significant that mixed effects "
            "do not: there the difference between subjects is taken for nothing.",
            f"Mixed effects find {int((me & ~re).sum()):,} voxels that least squares miss, where "
            f"imprecise subjects hide the effect, and leave out {int((re & ~me).sum()):,} that "
            "least squares call significant.",
        ]
        return tuple(out)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def three_models(
    data: GroupData,
    design: GroupDesign,
    c: Floats,
    method: str,
    df: str,
    n_jobs: int | str | None,
    outliers: bool = False,
) -> ThreeModels:
    """Fit the three models of a contrast; outliers are looked for by mixed effects alone."""
    equal = np.where(np.isfinite(data.Y), np.ones((), data.V.dtype), np.array(np.nan, data.V.dtype))
    own = "reml" if method == "fe" else method
    how = {"FE": (data.V, "fe", "normal"), "RE": (equal, "fe", "knapp-hartung"),
           "ME": (data.V, own, df)}  # fmt: skip
    fits = {
        name: mixed_effects(
            data.Y, V, design.X, method=estimator, df=tests, n_jobs=n_jobs,
            outliers=outliers and name == "ME",
        )
        for name, (V, estimator, tests) in how.items()
    }  # fmt: skip
    return ThreeModels({name: fit.contrast(c) for name, fit in fits.items()}, fits["ME"], data)
