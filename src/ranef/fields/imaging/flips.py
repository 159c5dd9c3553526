"""`sign_flips`: a permutation test that estimates the variance between subjects anew each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.errors import ModelError
from ranef.fields.imaging.enhancement import Graph, enhanced, graph_of
from ranef.fields.imaging.voxels import DF, METHODS, Prepared, prepared
from ranef.solve.resources import available_cores

__all__ = ["Permutations", "sign_flips"]

Floats = NDArray[np.float64]

MOST_EXACT = 20
"""Subjects up to which all flips are made."""
BATCH = 8
CLOSE = 1e-9
"""Statistics that are equal up to rounding count as reached."""
SCALINGS = {
    "knapp-hartung-conservative": "conservative",
    "knapp-hartung": "knapp-hartung",
    "t": "none",
    "normal": "none",
}


@dataclass(frozen=True, eq=False)
class Permutations:
    """Tests of a contrast at N voxels by flips of signs; `sign_flips` makes it.

    Attributes
    ----------
    t : (N,) array
        The statistic observed.
    p_value : (N,) array
        Of each voxel by itself.
    logp_max_t : (N,) array
        -log10 of the p-value that is corrected for all voxels, by the largest statistic.
    tfce, logp_max_tfce : (N,) arrays or None
        The same of the enhanced map.
    max_t : (F,) array
        The largest statistic of each flip, the first of them none.
    max_tfce : (F,) array or None
    exact : bool
        Whether all flips were made.
    """

    t: Floats
    p_value: Floats
    logp_max_t: Floats
    tfce: Floats | None
    logp_max_tfce: Floats | None
    max_t: Floats
    max_tfce: Floats | None
    exact: bool


def sign_flips(
    Y: Any,
    V: Any,
    X: Any,
    contrast: Any = (1.0,),
    *,
    n_perm: int | str = 5000,
    method: str = "reml",
    df: str = "knapp-hartung-conservative",
    two_sided: bool = True,
    mask: Any = None,
    adjacency: Any = None,
    blocks: Any = None,
    rng: Any = None,
    n_jobs: int | None = None,
) -> Permutations:
    """Test a contrast by flipping signs, tau2 estimated again at each voxel and each flip.

    Under the hypothesis errors are symmetric around zero, whatever their variances: signs of the
    residuals of the model without the contrast may be flipped (of the effects themselves where
    the contrast is the only coefficient, when the test is exact; Freedman & Lane 1983, Winkler
    et al. 2014, NeuroImage 92). The largest statistic over voxels gives p-values corrected for
    all of them.

    Parameters
    ----------
    Y, V, X, method, df, n_jobs
        As in `mixed_effects`.
    contrast : (p,) array
        Weights of the coefficients.
    n_perm : int or "exact"
        Flips, the observed signs among them; all of them if that is fewer, or asked for.
    two_sided : bool
    mask : (x, y, z) bool array, optional
        The N voxels in a volume, in its order: adds the enhanced map (see `tfce`).
    adjacency : sparse array or pairs, optional
        The same on a surface.
    blocks : (K,) array, optional
        Subjects whose signs flip together.
    rng : int or Generator, optional

    Returns
    -------
    Permutations

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import imaging
    >>> rng = np.random.default_rng(2)
    >>> V = rng.uniform(0.5, 2.0, (8, 50))
    >>> Y = rng.normal(size=V.shape) * np.sqrt(V) + np.where(np.arange(50) < 5, 3.0, 0.0)
    >>> found = imaging.sign_flips(Y, V, np.ones((8, 1)), n_perm="exact")
    >>> found.exact, len(found.max_t), (found.logp_max_t[:5] > 1.3).tolist()
    (True, 256, [True, True, True, True, True])
    """
    name = arguments.choice("method", method, METHODS)
    scaling = SCALINGS[arguments.choice("df", df, DF)]
    both = arguments.flag("two_sided", two_sided)
    data = prepared(Y, V, X)
    c = np.asarray(contrast, dtype=np.float64)
    if c.shape != (data.Q.shape[1],) or not np.isfinite(c).all() or not c.any():
        raise ModelError(f"contrast needs {data.Q.shape[1]} finite weights that are not all zero")
    graph = _graph(mask, adjacency, data.Y.shape[1])
    threads = available_cores(None if n_jobs is None else arguments.count("n_jobs", n_jobs))
    signs, exact = _signs(n_perm, _groups(blocks, len(data.Y)), arguments.generator(rng))
    estimator = "pm" if name == "eb" else name
    own: Floats = np.asarray(np.linalg.solve(data.R.T, c), dtype=np.float64)
    base, residuals = _reduced(data, own, estimator, threads)

    def maps() -> Iterator[Floats]:
        for first in range(0, len(signs), BATCH):
            yield from _core.sign_flips(
                residuals, data.V, data.Q, base, own, signs[first : first + BATCH], estimator,
                scaling, threads,
            )  # fmt: skip

    return _counted(maps(), len(signs), both, graph, exact)


def _graph(mask: Any, adjacency: Any, n: int) -> Graph | None:
    if mask is None:
        return None if adjacency is None else graph_of(adjacency, n)
    if adjacency is not None:
        raise ModelError("give mask= of a volume or adjacency= of a surface, not both")
    inside = np.ascontiguousarray(np.asarray(mask).astype(bool))
    if inside.ndim != 3 or int(inside.sum()) != n:
        raise ModelError(f"the mask must be a volume with {n} voxels inside")
    return Graph(*_core.voxel_neighbours(inside))


def _groups(blocks: Any, K: int) -> NDArray[np.intp]:
    if blocks is None:
        return np.arange(K)
    labels = np.asarray(blocks)
    if labels.shape != (K,):
        raise ModelError(f"blocks needs one label for each of the {K} subjects")
    return np.asarray(np.unique(labels, return_inverse=True)[1]).reshape(-1)


def _signs(n_perm: Any, groups: NDArray[np.intp], rng: np.random.Generator) -> tuple[Floats, bool]:
    """Signs (F, K), the observed ones first; whether they are all there are."""
    m = int(groups.max()) + 1
    if n_perm == "exact":
        if m > MOST_EXACT:
            raise ModelError(f"{m} signs have 2^{m} flips; give n_perm= as a number")
        count = 2**m
    else:
        count = arguments.count("n_perm", n_perm)
        if m <= MOST_EXACT:
            count = min(count, 2**m)
    if m <= MOST_EXACT and count == 2**m:
        bits = (np.arange(count)[:, None] >> np.arange(m)) & 1
        return np.ascontiguousarray((1.0 - 2.0 * bits)[:, groups]), True
    drawn = 1.0 - 2.0 * rng.integers(0, 2, (count, m))
    drawn[0] = 1.0
    return np.ascontiguousarray(drawn[:, groups]), False


def _reduced(
    data: Prepared, own: Floats, method: str, threads: int
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Fitted values of the model without the contrast, and the residuals that are flipped."""
    p = len(own)
    if p == 1:
        return None, data.Y
    others = np.linalg.svd(own[None])[2][1:].T
    rest = np.ascontiguousarray(np.linalg.qr(data.Q @ others)[0])
    beta = _core.mixed_effects(data.Y, data.V, rest, method, threads)["beta"]
    base = np.ascontiguousarray((rest @ beta).astype(data.Y.dtype))
    return base, np.ascontiguousarray(data.Y - base)


def _counted(
    maps: Iterator[Floats], count: int, both: bool, graph: Graph | None, exact: bool
) -> Permutations:
    """Count how often each statistic is reached."""

    def sized(values: Floats) -> Floats:
        return np.abs(values) if both else values

    t = next(maps)
    boost = None if graph is None else enhanced(t, graph, both)
    observed = sized(t)
    limit = observed - CLOSE * np.abs(observed)
    reached = np.ones(len(t))
    max_t, max_boost = np.empty(count), np.empty(count)
    max_t[0] = _largest(observed)
    max_boost[0] = np.nan if boost is None else _largest(sized(boost))
    for i, flipped in enumerate(maps, start=1):
        values = sized(flipped)
        reached += values >= limit
        max_t[i] = _largest(values)
        if graph is not None:
            max_boost[i] = _largest(sized(enhanced(flipped, graph, both)))
    p = np.where(np.isfinite(t), reached / count, np.nan)
    return Permutations(
        t=t,
        p_value=p,
        logp_max_t=_log_p(observed, max_t),
        tfce=boost,
        logp_max_tfce=None if boost is None else _log_p(sized(boost), max_boost),
        max_t=max_t,
        max_tfce=None if boost is None else max_boost,
        exact=exact,
    )


def _largest(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else float("nan")


def _log_p(values: Floats, largest: Floats) -> Floats:
    """-log10 of the share of flips whose largest statistic reaches each value."""
    ordered = np.sort(largest)
    below = np.searchsorted(ordered, values - CLOSE * np.abs(values), side="left")
    with np.errstate(divide="ignore"):
        out = -np.log10((len(ordered) - below) / len(ordered))
    return np.where(np.isnan(values), np.nan, out)
