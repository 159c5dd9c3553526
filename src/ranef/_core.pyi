"""Types of the compiled core: arrays in, arrays out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Codes = NDArray[np.int32]
_Bytes = NDArray[np.uint8]
_Singles = NDArray[np.float32]

small_order: int
most_jacobi: int

def set_lapack(blas: Mapping[str, Any], lapack: Mapping[str, Any]) -> None: ...
def has_lapack() -> bool: ...
def cholesky(A: _Floats) -> _Floats | None: ...
def inverse(A: _Floats) -> _Floats | None: ...
def spectrum(A: _Floats, count: int) -> tuple[_Floats, _Floats]: ...
def count_pairs(f: _Codes, f_levels: int, g: _Codes, g_levels: int, limit: int) -> int: ...
def sparse_cost(
    leader: _Codes,
    leader_levels: int,
    codes: Sequence[_Codes],
    levels: Sequence[int],
    sizes: Sequence[int],
) -> tuple[int, float, float]: ...
def count_genotypes(
    packed: _Bytes, samples: _Codes, groups: _Codes, n_groups: int
) -> NDArray[np.int32]: ...
def decode_genotypes(
    packed: _Bytes, samples: _Codes, groups: _Codes, n_groups: int, tables: _Floats
) -> _Floats: ...
def decode_genotypes_single(
    packed: _Bytes, samples: _Codes, groups: _Codes, n_groups: int, tables: _Singles
) -> _Singles: ...
def first_padded_wrongly(packed: _Bytes, samples: int) -> int: ...
def exact_proportions(counts: _Codes) -> _Floats: ...
def hermite(count: int) -> tuple[_Floats, _Floats]: ...
def trapezoid(psi: _Floats, rank: int) -> _Floats: ...
def make_family(name: str, link: str, zero: bool = False, categories: int = 0) -> Family: ...
def mixed_effects(
    Y: NDArray[Any],
    V: NDArray[Any],
    X: _Floats,
    method: str,
    threads: int,
    first: int = ...,
    count: int = ...,
) -> dict[str, _Floats]: ...
def repeated_measures(
    Y: NDArray[Any],
    X: _Floats,
    Z: _Floats,
    level: _Codes,
    kind: _Codes,
    restricted: bool,
    threads: int,
) -> dict[str, _Floats]: ...
def sign_flips(
    Y: NDArray[Any],
    V: NDArray[Any],
    X: _Floats,
    base: NDArray[Any] | None,
    contrast: _Floats,
    signs: _Floats,
    method: str,
    scaling: str,
    threads: int,
) -> _Floats: ...
def counts_on_grid(
    reads: _Floats,
    rate: _Floats,
    spill: _Floats,
    shift: NDArray[np.int32],
    reach: NDArray[np.int32],
    side: _Floats,
    first: float,
    step: float,
    nodes: int,
    size: float,
) -> tuple[_Floats, _Floats, _Floats]: ...
def shift_rows(
    values: _Floats, shift: NDArray[np.int32], reach: NDArray[np.int32], side: _Floats
) -> _Floats: ...
def mix_counts(
    without: _Floats,
    jump: _Floats,
    present: _Floats,
    pi: _Floats,
    jumps: _Floats,
    scale: _Floats,
    zero: _Floats,
    zero_row: NDArray[np.int32],
    place: NDArray[np.int32],
    leaves: int,
) -> tuple[_Floats, _Floats]: ...
def expect_counts(
    without: _Floats,
    jump: _Floats,
    present: _Floats,
    pi: _Floats,
    jumps: _Floats,
    reads: _Floats,
    rate: _Floats,
    spill: _Floats,
    first: float,
    step: float,
    size: float,
    mixed: _Floats,
    post: _Floats,
    place: NDArray[np.int32],
) -> _Floats: ...
def tfce(
    values: _Floats, starts: NDArray[np.int32], indices: NDArray[np.int32], E: float, H: float
) -> _Floats: ...
def voxel_neighbours(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]: ...

class Stopped(BaseException): ...

class Stop:
    def set(self) -> None: ...
    def enter(self) -> None: ...
    def leave(self) -> None: ...

class Family:
    @property
    def predictors(self) -> int: ...
    def evaluate(
        self,
        y: _Floats,
        extra: _Floats | None,
        eta: _Floats,
        order: int,
        active: Sequence[int],
        threads: int = 1,
    ) -> _Floats: ...

class CrossedSystem:
    def __init__(
        self,
        codes: Sequence[_Codes],
        levels: Sequence[int],
        z: Sequence[_Floats | None],
        weights: _Floats | None,
        threads: int,
    ) -> None: ...
    @property
    def columns(self) -> int: ...
    @property
    def bytes(self) -> float: ...
    def times(self, X: _Floats) -> _Floats: ...
    def solve(
        self, theta: _Floats, B: _Floats, tolerance: float, most: int
    ) -> tuple[_Floats, int, float]: ...
    def probes(
        self, theta: _Floats, Z: _Floats, tolerance: float, most: int
    ) -> tuple[float, _Floats, _Floats, _Floats, list[int]]: ...

class Problem:
    def __init__(
        self,
        factors: list[dict[str, Any]],
        X: _Floats | tuple[NDArray[np.int64], NDArray[np.int32], _Floats, int],
        scale: _Floats,
        gram: _Floats,
        weights: _Floats | None,
        chain: Sequence[int],
        threads: int,
        sparse_tail: bool = False,
    ) -> None: ...
    @property
    def parameters(self) -> int: ...
    @property
    def tail(self) -> dict[str, Any]: ...
    def respond(
        self, Y: _Floats, offset: _Floats | None
    ) -> tuple[_Floats, _Floats, _Floats, _Floats]: ...
    def start(self) -> _Floats: ...
    def moment_start(self, y: _Floats) -> _Floats: ...
    def basis(self, factor: int, term: int) -> _Floats: ...
    def fit(
        self,
        y: _Floats,
        reml: bool,
        start: _Floats | None,
        max_evaluations: int,
        progress: Callable[[int, float, float], object] | None,
    ) -> dict[str, Any]: ...
    def fit_many(
        self, Y: _Floats, reml: bool, start: _Floats, max_evaluations: int, threads: int
    ) -> dict[str, Any]: ...
    def state(
        self, y: _Floats, reml: bool, phi: _Floats, derivatives: bool, known_scale: bool = False
    ) -> dict[str, Any]: ...
    def all_mode_covariances(
        self, y: _Floats, reml: bool, phi: _Floats
    ) -> list[tuple[_Floats, _Floats]]: ...
    def modes_of(
        self, y: _Floats, reml: bool, phi: _Floats, Y: _Floats
    ) -> tuple[list[_Floats], _Floats]: ...
    def psi_gradients(
        self, Y: _Floats, reml: bool, phi: _Floats
    ) -> tuple[list[_Floats], _Floats]: ...
    def form_slopes(
        self,
        y: _Floats,
        reml: bool,
        phi: _Floats,
        levels: Sequence[_Codes],
        z: Sequence[_Floats],
        X: _Floats,
    ) -> tuple[list[_Floats], list[_Floats]]: ...
    def mode_covariances(
        self, y: _Floats, reml: bool, phi: _Floats, factor: int, with_fixed: bool
    ) -> _Floats: ...
    def quadratic_forms(
        self,
        y: _Floats,
        reml: bool,
        phi: _Floats,
        levels: Sequence[_Codes],
        z: Sequence[_Floats],
        X: _Floats,
    ) -> _Floats: ...
    def half_solves(
        self,
        y: _Floats,
        reml: bool,
        phi: _Floats,
        levels: Sequence[_Codes],
        z: Sequence[_Floats],
        X: _Floats,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], _Floats, int, _Floats]: ...
    def scores(self, y: _Floats, reml: bool, phi: _Floats, factor: int) -> _Floats: ...
    def fixed_scores(self, y: _Floats, reml: bool, phi: _Floats) -> list[_Floats]: ...
    def curvature(
        self,
        y: _Floats,
        reml: bool,
        phi: _Floats,
        directions: Sequence[tuple[int, _Floats]],
        of_fixed: bool,
    ) -> dict[str, Any]: ...
    def moved_means(
        self,
        y: _Floats,
        reml: bool,
        phi: _Floats,
        directions: Sequence[tuple[int, _Floats]],
    ) -> tuple[_Floats, _Floats, float]: ...

class Structure:
    def __init__(
        self, kind: str, size: int, rank: int = 0, positions: _Floats | None = None
    ) -> None: ...
    def parameters(self) -> int: ...
    def factor(self, phi: _Floats) -> _Floats: ...
    def derivative(self, phi: _Floats, i: int) -> _Floats: ...
    def second(self, phi: _Floats, i: int, j: int) -> _Floats: ...
    def start(self) -> _Floats: ...
    def rescale(self, s: float, phi: _Floats) -> _Floats: ...

class Modes: ...

class GeneralisedProblem:
    def __init__(
        self,
        family: Family,
        y: _Floats,
        extra: _Floats | None,
        weights: _Floats | None,
        predictors: list[dict[str, Any]],
        coefficients: int,
        factors: list[dict[str, Any]],
        chain: Sequence[int],
        threads: int,
        nodes: int = 1,
        integrated: Sequence[int] = (),
        sparse_tail: bool = False,
    ) -> None: ...
    @property
    def tail(self) -> dict[str, Any]: ...
    @property
    def parameters(self) -> int: ...
    @property
    def coefficients(self) -> int: ...
    @property
    def order(self) -> int: ...
    def weigh_levels(self, weights: _Floats) -> None: ...
    def basis(self, factor: int, term: int) -> _Floats: ...
    def start(self, beta: _Floats) -> _Floats: ...
    def start_with_modes(self, beta: _Floats) -> tuple[_Floats, Modes]: ...
    def fit(
        self,
        start: _Floats,
        max_evaluations: int,
        progress: Callable[[int, float, float], object] | None,
        modes: Modes | None = None,
    ) -> dict[str, Any]: ...
    def penalise(
        self,
        terms: list[tuple[int, int, _Floats, list[tuple[str, float, float, float]], float]],
        coefficients: list[tuple[_Floats, tuple[str, float, float, float]]],
    ) -> None: ...
    def hold(self, entries: list[int], values: _Floats) -> None: ...
    def penalty(self, x: _Floats) -> float: ...
    def state(self, x: _Floats, derivatives: bool, near: Modes | None = None) -> dict[str, Any]: ...
    def mode_covariances(
        self, x: _Floats, factor: int, with_fixed: bool, end: Modes | None = None
    ) -> _Floats: ...
    def all_mode_covariances(
        self, x: _Floats, end: Modes | None = None
    ) -> list[tuple[_Floats, _Floats]]: ...
    def mode_scores(self, x: _Floats, end: Modes | None = None) -> list[_Floats]: ...
    def modes_of(
        self, x: _Floats, displacements: _Floats, end: Modes | None = None
    ) -> list[_Floats]: ...
    def beside(
        self, x: _Floats, high: _Floats, low: _Floats, end: Modes | None = None
    ) -> dict[str, Any]: ...
    @property
    def work(self) -> tuple[int, int, int]: ...
    def posterior(self, x: _Floats, factor: int) -> tuple[_Floats, _Floats]: ...
    def quadratic_forms(
        self,
        x: _Floats,
        levels: Sequence[_Codes],
        z: Sequence[_Floats],
        X: _Floats,
        end: Modes | None = None,
    ) -> _Floats: ...
    def half_solves(
        self,
        x: _Floats,
        levels: Sequence[_Codes],
        z: Sequence[_Floats],
        X: _Floats,
        end: Modes | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], _Floats, int, _Floats]: ...

class NotDefinite(np.linalg.LinAlgError): ...

class GroupRows:
    def __init__(
        self,
        U: _Floats,
        rows: _Codes,
        which: _Codes,
        patterns: int,
        cluster: _Codes,
        clusters: int,
    ) -> None: ...

class WhitenedGroups:
    def __init__(
        self,
        R: _Floats,
        first: _Floats,
        least_pivot: float,
        least_variance: float,
        threads: int,
    ) -> None: ...
    def inverse(self) -> _Floats: ...
    def log_determinants(self) -> _Floats: ...
    def traces(self) -> _Floats: ...
    def middles(self) -> _Floats: ...
    def products(self, groups: GroupRows) -> _Floats: ...
    def second_products(
        self, groups: GroupRows, pairs: Sequence[tuple[int, int]], second: Sequence[_Floats]
    ) -> tuple[_Floats, _Floats]: ...
    def information(self, groups: GroupRows, vectors: _Floats) -> _Floats: ...
    def forms(self, groups: GroupRows, K: _Floats) -> _Floats: ...
    def contracted(
        self,
        S: _Floats,
        counts: _Floats,
        pairs: Sequence[tuple[int, int]],
        second: Sequence[_Floats],
    ) -> tuple[_Floats, _Floats]: ...
    def weighted(
        self,
        weights: _Floats,
        pairs: Sequence[tuple[int, int]],
        second: Sequence[_Floats],
    ) -> _Floats: ...

class Markov:
    def __init__(
        self, rho: _Floats, first: _Floats, second: _Floats, which: _Codes, threads: int
    ) -> None: ...
    def totals(self) -> tuple[float, float, float, float]: ...
    def products(self, groups: GroupRows) -> _Floats: ...
    def second_products(self, groups: GroupRows) -> _Floats: ...
    def information(self, groups: GroupRows, vectors: _Floats) -> float: ...

class Dynamic:
    def __init__(
        self,
        memory: str,
        given_starts: bool,
        first: _Codes,
        gap: _Floats,
        zm: _Floats,
        zi: _Floats,
        zp: _Floats,
        zs: _Floats,
        threads: int,
    ) -> None: ...
    def modes(
        self,
        deviation: _Floats,
        input: _Floats,
        memory: _Floats,
        scale: _Floats,
        L: _Floats,
        omega: float,
        start: _Floats,
    ) -> tuple[_Floats, _Floats, NDArray[np.int32]]: ...
    def evaluate(
        self,
        deviation: _Floats,
        input: _Floats,
        memory: _Floats,
        scale: _Floats,
        L: _Floats,
        omega: float,
        x: _Floats,
        log_w: _Floats,
        mode: _Floats,
        factor: _Floats,
        slopes: bool,
    ) -> dict[str, Any]: ...
    def shares(
        self,
        deviation: _Floats,
        input: _Floats,
        memory: _Floats,
        scale: _Floats,
        L: _Floats,
        omega: float,
        x: _Floats,
        log_w: _Floats,
        mode: _Floats,
        factor: _Floats,
    ) -> tuple[_Floats, _Floats, _Floats]: ...

class Messages:
    def __init__(
        self,
        present: NDArray[np.int32],
        total_xx: _Floats,
        total_xy: _Floats,
        total_yy: _Floats,
        pattern: _Codes,
        piece_xx: _Floats,
        piece_xy: _Floats,
        piece_yy: _Floats | None,
        column: _Codes,
        response: _Codes,
        slopes: int,
        levels: list[dict[str, Any]],
        share: _Floats | None,
        unit: _Floats | None,
        threads: int,
    ) -> None: ...
    @property
    def moments(self) -> int: ...
    def criterion(self, at: _Floats, gradient: bool) -> tuple[float, _Floats]: ...
    def units(self, at: _Floats, directions: _Floats | None) -> tuple[_Floats, _Floats]: ...
    def nodes(
        self,
        at: _Floats,
        prior: _Floats,
        first: _Codes,
        node: _Codes,
        volume: _Floats,
        gradient: bool,
    ) -> dict[str, Any]: ...
    def posterior(self, at: _Floats, level: int) -> tuple[_Floats, _Floats]: ...
