"""Pictures of brains for the report: glass brains, distributions, weights, the design."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display import canvas as style
from ranef.display.markup import Markup, element, text
from ranef.fields.imaging.gathering import GroupData
from ranef.fields.imaging.people import SubjectReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["brain", "photograph", "weights"]

Floats = NDArray[np.float64]

MNI = np.array([[-95.0, -130.0, -80.0], [95.0, 95.0, 115.0]])
"""Corners of a box around the brain of the MNI templates, in mm."""
OUTSIDE = 0.05
MOST_NAMED = 40


def brain(data: GroupData, z: Floats, height: float, figure: Figure) -> None:
    """Draw a z map seen through: largest values along each axis, or how values are distributed."""
    if not data.places.is_volume:
        _histogram(z, height, figure)
    elif not _glass(data, z, height, figure):
        _projections(data, z, height, figure)


def brain_text(z: Floats, height: float) -> str:
    """The picture in words."""
    known = z[np.isfinite(z)]
    if not len(known):
        return "A map without values"
    return (
        f"A z map of {len(known):,} voxels from {known.min():.2f} to {known.max():.2f}; "
        f"{int((known > height).sum()):,} lie above {height:.2f} and "
        f"{int((known < -height).sum()):,} below {-height:.2f}"
    )


def _in_template(data: GroupData) -> bool:
    where = data.places.coordinates()[data.inside]
    low, high = where.min(axis=0), where.max(axis=0)
    off = ((where < MNI[0]) | (where > MNI[1])).any(axis=1).mean()
    return bool(off <= OUTSIDE and (high - low > 60).all())


def _glass(data: GroupData, z: Floats, height: float, figure: Figure) -> bool:
    """Nilearn's glass brain, where it is there and the images are in the template's space."""
    if data.places.affine is None or not _in_template(data):
        return False
    try:
        from nilearn import plotting
    except ImportError:
        return False
    image = data.image(np.nan_to_num(z, nan=0.0, posinf=_most(z), neginf=-_most(z)))
    limit = height if np.isfinite(height) and (np.abs(z[np.isfinite(z)]) > height).any() else 0.0
    figure.set_size_inches(8.0, 2.4)
    plotting.plot_glass_brain(
        image, threshold=limit or 1e-6, display_mode="lyrz", colorbar=True, plot_abs=False,
        figure=figure, vmax=max(_most(z), 1e-6), symmetric_cbar=True,
    )  # fmt: skip
    return True


def _most(z: Floats) -> float:
    known = np.abs(z[np.isfinite(z)])
    return float(known.max()) if len(known) else 1.0


def _projections(data: GroupData, z: Floats, height: float, figure: Figure) -> None:
    volume = np.zeros(data.places.n)
    volume[data.inside] = np.nan_to_num(z, nan=0.0, posinf=_most(z), neginf=-_most(z))
    cube, inside = volume.reshape(data.places.shape), data.inside.reshape(data.places.shape)
    figure.set_size_inches(8.0, 2.6)
    most = max(_most(z), 1e-6)
    for k, (axis, name) in enumerate(((0, "from the side"), (1, "from behind"), (2, "from above"))):
        panel = figure.add_subplot(1, 3, k + 1)
        largest = np.take_along_axis(cube, np.abs(cube).argmax(axis=axis, keepdims=True), axis)
        shown = np.where(inside.any(axis=axis), largest.squeeze(axis), np.nan).T
        drawn = panel.imshow(shown, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most,
                             interpolation="nearest")  # fmt: skip
        panel.set_title(f"Largest z, {name}", fontsize=9, color=style.INK)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.colorbar(drawn, ax=figure.axes, label="z", shrink=0.8)


def _histogram(z: Floats, height: float, figure: Figure) -> None:
    figure.set_size_inches(6.0, 2.8)
    panel = figure.add_subplot()
    panel.hist(z[np.isfinite(z)], bins=80, color=style.MARK)
    for sign in (-1, 1):
        if np.isfinite(height):
            panel.axvline(sign * height, color=style.ACCENT, linestyle="--", linewidth=1)
    panel.set_xlabel("z")
    panel.set_ylabel("Vertices")


def weights(report: SubjectReport, figure: Figure) -> None:
    """Draw the mean share of the weights of each subject."""
    order = np.argsort(report.weight)
    K = len(order)
    figure.set_size_inches(6.0, max(1.6, 0.18 * min(K, MOST_NAMED) + 0.8))
    panel = figure.add_subplot()
    panel.barh(np.arange(K), 100 * report.weight[order], color=style.MARK)
    panel.axvline(100 / K, color=style.ACCENT, linestyle="--", linewidth=1)
    if K <= MOST_NAMED:
        panel.set_yticks(
            np.arange(K), style.told_apart([report.labels[i] for i in order], 16), fontsize=7
        )
    else:
        panel.set_yticks([])
    panel.set_xlabel("Mean share of the weights, %")


def photograph(draw: Callable[[Figure], object], *, alt: str, caption: str) -> Markup:
    """Return a ``<figure>`` with the picture as pixels: brains have too many lines for SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(dpi=110)
    FigureCanvasAgg(figure)
    draw(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    image = Markup(
        f'<img src="data:image/png;base64,{code}" alt="{text(alt)}" style="max-width: 100%">'
    )
    return element("figure", image, element("figcaption", caption))
