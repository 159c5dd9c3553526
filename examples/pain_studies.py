"""Twenty-one pain studies in units of their own: images whose effects cannot be averaged.

Image-based meta-analysis has effects and variances from many laboratories: beta in percent, in
scanner units, scaled to a mean of 100. Here 21 studies of the shape of such a collection are
simulated, their units spread over four orders of magnitude. The likelihood of the variance between
studies then has several maxima in many voxels; every fit here takes the highest. But the highest
maximum of a wrong model is still wrong: ranef warns, and effects in standard deviations of the
study (Hedges' g from t and the sample size) can be put together.

Figure pain_studies.png: Two bar charts of the number of maxima of the likelihood in each voxel:
with mixed units two in some, in standard units one in all.
Usage: ``python examples/pain_studies.py [FOLDER]``
"""

import sys
import warnings
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np

from ranef import imaging

matplotlib.use("Agg")
from matplotlib.figure import Figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
rng = np.random.default_rng(21)
shape, K = (10, 10, 10), 21

# --- 21 studies: t maps of 10 to 40 people, betas in units of their own --------------------------
people = rng.integers(10, 41, K)
active = np.zeros(shape, dtype=bool)
active[2:5, 3:7, 3:7] = True
true = np.where(active, 0.6, 0.0) + 0.25 * rng.normal(size=(K, *shape))
size = people[:, None, None, None]
t = (true + rng.normal(size=true.shape) / np.sqrt(size)) * np.sqrt(size)
unit = (10.0 ** rng.uniform(-1.2, 2.8, K))[:, None, None, None]
spread = rng.uniform(0.7, 1.4, true.shape) * unit
beta, varcope = t / np.sqrt(size) * spread, spread**2 / size
beta[:5, 0] = np.nan  # five studies do not cover the edge
print(f"median |beta| from {np.nanmedian(np.abs(beta[unit.ravel().argmin()])):.2g} to "
      f"{np.nanmedian(np.abs(beta[unit.ravel().argmax()])):.2g}")  # fmt: skip


def images(values):
    """Return an image of each study."""
    return [nib.Nifti1Image(one.astype("float32"), np.diag([4, 4, 4, 1])) for one in values]


def fitted(effects, variances):
    """Fit the model at voxels with ten studies and more."""
    model = imaging.MixedEffectsSecondLevel(min_subjects=10)
    return model.fit(images(effects), variances=images(variances))


# --- mixed units: a warning, and likelihoods with several maxima ---------------------------------
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    mixed = fitted(beta, varcope)
print(f"\nmixed units. {said[0].message if said else 'no warning'}")

# --- standard units: Hedges' g and its variance --------------------------------------------------
small = 1 - 3 / (4 * (size - 1) - 1)
g = small * t / np.sqrt(size)
g[:5, 0] = np.nan
standard = fitted(g, small**2 * (1 / size + g**2 / (2 * size)))

# --- the answer ----------------------------------------------------------------------------------
maxima = {}
for name, model in (("mixed units", mixed), ("standard units", standard)):
    maps = {k: v.get_fdata() for k, v in model.compute_contrast(output_type="all").items()}
    maxima[name] = maps["maxima"][maps["n"] > 0]
    found = maps["p_fdr"] <= 0.05
    print(
        f"{name}: several maxima in {np.mean(maxima[name] > 1):.0%} of voxels; "
        f"{np.mean(found[active]):.0%} of the active voxels found, "
        f"{np.mean(found[~active & (maps['n'] > 0)]):.1%} of the others"
    )
print(f"studies in a voxel: {int(maps['n'][0].max())} at the edge, {int(maps['n'].max())} inside\n")
print(standard.clusters(height=0.05, height_control="fdr"))
print(f"\n{standard.compare()}")

figure = Figure(figsize=(7, 2.8), layout="constrained")
for panel, (name, values) in zip(figure.subplots(1, 2, sharey=True), maxima.items(), strict=True):
    count = np.bincount(values.astype(int), minlength=6)[1:6]
    panel.bar(np.arange(1, 6), count, color="#0072b2")
    panel.set_xlabel("maxima of the likelihood")
    panel.set_title(name)
figure.axes[0].set_ylabel("voxels")
figure.savefig(folder / "pain_studies.png", dpi=150)
