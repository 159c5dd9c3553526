"""`sign_flips`: a permutation test that estimates the variance between subjects anew each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.fields.imaging.components import cluster_maps
from ranef.fields.imaging.drawing import EXCHANGES, Plan, block_codes, drawn
from ranef.fields.imaging.graphs import Graph, enhanced, graph_of
from ranef.fields.imaging.scheduling import answers, by_dask, threads_of
from ranef.fields.imaging.voxels import DF, METHODS, Prepared, prepared

__all__ = ["Permutations", "sign_flips"]

Floats = NDArray[np.float64]

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
        The statistic observed: F of a contrast of several rows.
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
    size, logp_max_size, mass, logp_max_mass : (N,) arrays or None
        Voxels of the cluster that each voxel is in, and the sum of what its statistics exceed
        the height by; corrected by the largest of each flip.
    max_size, max_mass : (F,) arrays or None
    """

    t: Floats
    p_value: Floats
    logp_max_t: Floats
    tfce: Floats | None
    logp_max_tfce: Floats | None
    max_t: Floats
    max_tfce: Floats | None
    exact: bool
    size: Floats | None = None
    logp_max_size: Floats | None = None
    mass: Floats | None = None
    logp_max_mass: Floats | None = None
    max_size: Floats | None = None
    max_mass: Floats | None = None


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
    enhance: bool = True,
    cluster_p: float | None = None,
    blocks: Any = None,
    within: bool = False,
    exchange: str = "signs",
    rng: Any = None,
    n_jobs: int | str | None = None,
    progress: bool | None = None,
) -> Permutations:
    """Test a contrast by flipping signs, tau2 estimated again at each voxel and each flip.

    Under the hypothesis errors are symmetric around zero, whatever their variances: signs of the
    residuals of the model without the contrast may be flipped (of the effects themselves where
    the contrast is the only coefficient, when the test is exact; Freedman & Lane 1983, Winkler
    et al. 2014, NeuroImage 92). The largest statistic over voxels gives p-values corrected for
    all of them.

    Parameters
    ----------
    Y, V, X, method, df
        As in `mixed_effects`.
    contrast : (p,) or (r, p) array
        Weights of the coefficients; several rows are tested together by F.
    n_perm : int or "exact"
        Flips, the observed signs among them; all of them if that is fewer, or asked for.
    two_sided : bool
        Of t; F has one side.
    mask : (x, y, z) bool array, optional
        The N voxels in a volume, in its order: adds the enhanced map (see `tfce`).
    adjacency : sparse array or pairs, optional
        The same on a surface.
    enhance : bool
        Whether neighbours are used for the enhanced map.
    cluster_p : float, optional
        A p-value (of t at n - p, K subjects) that forms clusters of neighbours; tests their sizes
        and masses too.
    blocks : (K,) array, optional
        Subjects that belong together: their signs flip together, and blocks of one size are
        exchanged as wholes.
    within : bool
        Signs flip one by one, and subjects are exchanged within their block alone.
    exchange : {"signs", "permutations", "both"}
        Signs flip: errors are symmetric. Permutations: residuals are exchanged between subjects,
        with their variances, so that errors need not be symmetric, but their distribution is the
        same for all; it takes a covariate or groups. Both at once.
    n_jobs : int or "dask", optional
        Threads; or batches of flips go to the scheduler of Dask in use, with the same numbers.
    rng : int or Generator, optional
    progress : bool, optional
        Show a bar; where a person looks if not given.

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
    how = arguments.choice("exchange", exchange, EXCHANGES)
    data = prepared(Y, V, X)
    C = _rows(contrast, data.Q.shape[1])
    both = both and len(C) == 1
    graph = _graph(mask, adjacency, data.Y.shape[1])
    height = _height(cluster_p, graph, len(data.Y) - C.shape[1], both, df, len(C))
    threads = threads_of(n_jobs)
    codes = block_codes(blocks, len(data.Y))
    inner = arguments.flag("within", within)
    plan = drawn(n_perm, len(data.Y), codes, inner, how, arguments.generator(rng))
    estimator = "pm" if name == "eb" else name
    own: Floats = np.ascontiguousarray(np.linalg.solve(data.R.T, C.T).T)
    if plan.orders is not None and C.shape[1] == 1:
        raise ModelError(
            "exchanging subjects does not change a mean; a single column is tested by signs"
        )
    base, residuals = _reduced(data, own, estimator, threads)

    work = _Work(residuals, data.V, data.Q, base, own, estimator, scaling, threads)
    size = 1 if plan.orders is not None else BATCH
    batches = [plan.part(first, first + size) for first in range(0, len(plan), size)]
    found = answers(work, batches, n_jobs if by_dask(n_jobs) else 1)
    shown = arriving(chain.from_iterable(found), len(plan), "permutations", progress, unit=" maps")
    counted = _Counting(graph if enhance else None, graph if height is not None else None,
                        height or 0.0, both)  # fmt: skip
    return counted.of(iter(shown), len(plan), plan.exact)


@dataclass(frozen=True, eq=False)
class _Work:
    """Maps of statistics of a batch of flips."""

    residuals: NDArray[Any]
    V: NDArray[Any]
    Q: Floats
    base: NDArray[Any] | None
    contrast: Floats
    method: str
    scaling: str
    threads: int

    def __call__(self, plan: Plan) -> Floats:
        y, v = self.residuals, self.V
        if plan.orders is not None:
            y, v = (np.ascontiguousarray(one[plan.orders[0]]) for one in (y, v))
        return _core.sign_flips(
            y, v, self.Q, self.base, self.contrast, plan.signs, self.method, self.scaling,
            self.threads,
        )  # fmt: skip


def _rows(contrast: Any, p: int) -> Floats:
    """A contrast as rows (r, p) of full rank."""
    C = np.atleast_2d(np.asarray(contrast, dtype=np.float64))
    if C.ndim != 2 or C.shape[1] != p or not np.isfinite(C).all() or not C.any(axis=1).all():
        raise ModelError(f"contrast needs {p} finite weights that are not all zero")
    if np.linalg.matrix_rank(C) < len(C):
        raise ModelError("rows of the contrast depend on each other; leave one out")
    return C


def _graph(mask: Any, adjacency: Any, n: int) -> Graph | None:
    if mask is None:
        if isinstance(adjacency, Graph):
            return adjacency
        return None if adjacency is None else graph_of(adjacency, n)
    if adjacency is not None:
        raise ModelError("give mask= of a volume or adjacency= of a surface, not both")
    inside = np.ascontiguousarray(np.asarray(mask).astype(bool))
    if inside.ndim != 3 or int(inside.sum()) != n:
        raise ModelError(f"the mask must be a volume with {n} voxels inside")
    return Graph(*_core.voxel_neighbours(inside))


def _height(
    p: float | None, graph: Graph | None, df: int, both: bool, kind: str, rows: int
) -> float | None:
    if p is None:
        return None
    if graph is None:
        raise ModelError("clusters need neighbours: mask= of a volume, or adjacency=")
    level = arguments.number("the p-value that forms clusters", p)
    if not 0 < level < 0.5:
        raise ModelError(f"the p-value that forms clusters lies between 0 and 0.5, not {level:g}")
    from scipy.stats import chi2, f, norm, t

    if rows > 1:
        normal = kind == "normal"
        return float(chi2.isf(level, rows) / rows if normal else f.isf(level, rows, df))
    tail = level / 2 if both else level
    return float(norm.isf(tail) if kind == "normal" else t.isf(tail, df))


def _reduced(
    data: Prepared, own: Floats, method: str, threads: int
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Fitted values of the model without the contrast, and the residuals that are flipped."""
    r, p = own.shape
    if r == p:
        return None, data.Y
    others = np.linalg.svd(own)[2][r:].T
    rest = np.ascontiguousarray(np.linalg.qr(data.Q @ others)[0])
    beta = _core.mixed_effects(data.Y, data.V, rest, method, threads)["beta"]
    base = np.ascontiguousarray((rest @ beta).astype(data.Y.dtype))
    return base, np.ascontiguousarray(data.Y - base)


@dataclass(frozen=True, eq=False)
class _Counting:
    """How often the statistics of flips reach the observed ones."""

    enhancing: Graph | None
    clustering: Graph | None
    height: float
    both: bool

    def sized(self, values: Floats) -> Floats:
        return np.abs(values) if self.both else values

    def extras(self, t: Floats) -> dict[str, Floats]:
        """Maps beside t by their names."""
        out = {}
        if self.enhancing is not None:
            out["tfce"] = enhanced(t, self.enhancing, self.both)
        if self.clustering is not None:
            out["size"], out["mass"] = cluster_maps(t, self.clustering, self.height, self.both)
        return out

    def of(self, maps: Iterator[Floats], count: int, exact: bool) -> Permutations:
        """Count, the observed map first."""
        t = next(maps)
        first = self.extras(t)
        observed = self.sized(t)
        limit = observed - CLOSE * np.abs(observed)
        reached = np.ones(len(t))
        largest = {name: np.empty(count) for name in ("t", *first)}
        for i, now in enumerate(chain([t], maps)):
            values = self.sized(now)
            if i:
                reached += values >= limit
            largest["t"][i] = _largest(values)
            for name, one in (first if i == 0 else self.extras(now)).items():
                largest[name][i] = _largest(self.sized(one))
        p = np.where(np.isfinite(t), reached / count, np.nan)
        more: dict[str, Any] = {}
        for name, one in first.items():
            more[name] = one
            more[f"logp_max_{name}"] = _log_p(self.sized(one), largest[name])
            more[f"max_{name}"] = largest[name]
        for name in ("tfce", "logp_max_tfce", "max_tfce"):
            more.setdefault(name, None)
        return Permutations(
            t=t, p_value=p, logp_max_t=_log_p(observed, largest["t"]), max_t=largest["t"],
            exact=exact, **more,
        )  # fmt: skip


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
