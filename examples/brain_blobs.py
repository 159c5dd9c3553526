"""Thirty brains of unequal precision: the blob that is missed, and the one that is invented.

Thirty subjects bring an effect at each voxel and how well it was measured: four lay still, the
others moved. In one blob all of them have the same small effect; the restless ones drown it, so
that least squares (RE, the usual second level) misses it. In another blob the mean effect is zero,
but subjects differ much; fixed effects (FE) take a few precise subjects for everybody and find an
effect. Mixed effects (ME) weigh each by its own error and the difference between subjects.

Figure brain_blobs.png: Three maps of z beside each other, each the middle slice with two circles.
In the left circle fixed and mixed effects are high and least squares low; in the right circle only
fixed effects are high.
Usage: ``python examples/brain_blobs.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np

from ranef import imaging

matplotlib.use("Agg")
from matplotlib.figure import Figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
rng = np.random.default_rng(12)
shape, K = (24, 20, 9), 30

# --- two blobs, thirty subjects -----------------------------------------------------------------
place = np.indices(shape)
blobs = [np.sum((place - np.array(c).reshape(3, 1, 1, 1)) ** 2, axis=0) <= 9
         for c in ((7, 10, 4), (17, 10, 4))]  # fmt: skip
small, differing = (blob.ravel() for blob in blobs)
moved = np.repeat([0.04, 3.0], [4, 26])  # the variance of a subject's own error
V = moved[:, None] * rng.uniform(0.8, 1.25, (K, small.size))
own = 2.0 * rng.normal(size=K)
own -= own.mean()
own[:4] = [2.2, -0.6, 1.9, 0.9]  # the still ones happen to lie above zero
spread = np.repeat(own[:, None], small.size, axis=1)
u = np.where(differing, spread, 0.1 * rng.normal(size=V.shape))
Y = np.where(small, 0.55, 0.0) + u + rng.normal(size=V.shape) * np.sqrt(V)

# --- three models -------------------------------------------------------------------------------
X = np.ones((K, 1))
models = {
    "FE": imaging.mixed_effects(Y, V, X, method="fe", df="normal"),
    "RE": imaging.mixed_effects(Y, np.ones_like(V), X, method="fe", df="knapp-hartung"),
    "ME": imaging.mixed_effects(Y, V, X),
}
z = {name: fit.contrast([1.0]).z_score for name, fit in models.items()}
for name, values in z.items():
    print(
        f"{name}: z > 3.29 in {np.mean(values[small] > 3.29):4.0%} of the blob with an effect, in "
        f"{np.mean(values[differing] > 3.29):4.0%} of the blob where subjects differ, in "
        f"{np.mean(values[~small & ~differing] > 3.29):6.2%} elsewhere"
    )
print(f"median I2 in the blobs: {np.median(models['ME'].i2[small]):.0f}%, "
      f"{np.median(models['ME'].i2[differing]):.0f}%")  # fmt: skip


# --- the same in one call, with images -----------------------------------------------------------
def images(values):
    """Return an image of each subject."""
    return [nib.Nifti1Image(one.reshape(shape), np.eye(4)) for one in values]


group = imaging.MixedEffectsSecondLevel().fit(images(Y), variances=images(V))
print(f"\n{group.compare()}\n")
print(group.clusters(height=0.05, height_control="fdr"))

# --- a picture ----------------------------------------------------------------------------------
figure = Figure(figsize=(9, 3), layout="constrained")
for panel, (name, values) in zip(figure.subplots(1, 3), z.items(), strict=True):
    drawn = panel.imshow(
        values.reshape(shape)[:, :, 4].T, origin="lower", cmap="RdBu_r", vmin=-8, vmax=8
    )
    for blob in blobs:
        panel.contour(blob[:, :, 4].T, levels=[0.5], colors="black", linewidths=0.8)
    panel.set_title(f"{name}: z")
    panel.set_axis_off()
figure.colorbar(drawn, ax=figure.axes, shrink=0.8)
figure.savefig(folder / "brain_blobs.png", dpi=150)
