"""Importance sampling of the parameters of a generalised model, for rows and groups left out.

The posterior of the parameters psi (coefficients, entries of theta, dispersions) under a flat prior
is proportional to the likelihood, random effects integrated out. Draws come from a multivariate t
distribution q at the estimates, so that a set S without itself has

    p(y_S | y_-S) = sum_s w_s p(y_S | y_-S, psi_s) / sum_s w_s,
    w_s = L(psi_s) / q(psi_s) / p(y_S | y_-S, psi_s),

the weights smoothed (`pareto`). Given psi the rows fall into blocks
that share random effects, of which each has a density of its own. It is integrated over points p
that do not move with psi: nodes or draws about the mode at the estimates,

    p(y_B | psi) = sum_k c_k f(y_B | p_k, psi) N(p_k; 0, Psi),

so that the points serve all draws, the likelihood of all rows is the product over the blocks, and
rows of a block given its others are the ratio of two such sums (Geyer & Thompson 1992, J. R.
Stat. Soc. B 54). Where Psi is singular at the estimates the points are those of standard normal u
with b = Lambda(psi) u.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.covariance.factor import square_root
from ranef.derivatives.generalised import joint_covariance
from ranef.design.connected import connected_rows
from ranef.errors import ModelError
from ranef.inference.effects.linearised import is_constrained
from ranef.models.records import GeneralisedEstimate, columns_in, theta_slices
from ranef.questions.selection.pareto import pareto_smoothed
from ranef.questions.selection.unseen import THRESHOLD, ends_of, thresholds_of
from ranef.solve.resources import one_blas_thread

__all__ = ["Draws", "drawn"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_EFFECTS = 8
"""Random effects of a block that are integrated over together."""
NODES = {1: 31, 2: 13, 3: 7}
"""By dimension; of more dimensions so many draws."""
POINTS = 400
WIDER = 1.3
"""Of draws, against the curvature at the mode."""
T_DF = 8.0
ROUNDS = 3
FAIR = 0.4
"""Shape of the weights of the parameters at which their distribution is not moved any more."""
STEPS = 50
CELLS = 4_000_000
"""Densities at most that one draw of the parameters takes."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What each draw says of the sets.

    Attributes
    ----------
    logs : (n, G) array
        Log density of each set given the other rows.
    weights : (n,) array
        Log of the likelihood of all rows over the density that the parameters came from.
    """

    logs: Floats
    weights: Floats


def drawn(
    estimate: GeneralisedEstimate, sets: Ints, n: int, rng: np.random.Generator, name: str
) -> Draws:
    """Draw parameters and work out what each says of every set.

    Raises
    ------
    ModelError
        Where rows that share random effects share too many, or parameters are held by request.
    """
    if is_constrained(estimate):
        raise ModelError(
            "importance sampling draws all parameters, and some are held or equal by request; use "
            "the closed form or refit=True"
        )
    with one_blas_thread():
        return _Blocks(estimate, sets, name).drawn(n, rng)


@dataclass(frozen=True, eq=False)
class _Slot:
    """A place for a level of a term among the effects of every block.

    Attributes
    ----------
    term : int
    columns : slice
        Of the effects of a block.
    used : (G,) bool array
        Which blocks have a level there.
    """

    term: int
    columns: slice
    used: NDArray[np.bool_]


class _Blocks:
    """Rows sorted by blocks that share random effects, with the points of each."""

    def __init__(self, estimate: GeneralisedEstimate, sets: Ints, name: str) -> None:
        self.estimate, spec = estimate, estimate.specification
        if any(term.kernel is not None for term in estimate.terms):
            raise ModelError(
                "the levels are related by a kernel, so that all rows depend on each other, and "
                "their density has no parts to reweight; use the closed form or refit=True"
            )
        codes = [estimate.factors[t.factor].codes for t in estimate.terms]
        block = connected_rows([sets, *codes])
        self.order = np.lexsort((sets, block))
        self.rows = [np.flatnonzero(block[self.order] == b) for b in range(int(block.max()) + 1)]
        self.firsts = np.array([own[0] for own in self.rows])
        self.sizes = np.array([len(own) for own in self.rows])
        own_sets = sets[self.order]
        self.set_firsts = np.append(0, np.flatnonzero(np.diff(own_sets)) + 1)
        self.numbers = own_sets[self.set_firsts]
        self.block_of_set = np.repeat(np.arange(len(self.rows)), self.sizes)[self.set_firsts]
        self._place_effects(name)
        self.y = spec.y[self.order]
        self.extra = None if estimate.extra is None else estimate.extra[self.order]
        self.prior_weights = None if spec.weights is None else spec.weights[self.order]
        self._place_points()

    # --- random effects of the blocks

    def _place_effects(self, name: str) -> None:
        """Columns (n, d) of each predictor in the effects of the row's block."""
        estimate, G = self.estimate, len(self.rows)
        self.slots: list[_Slot] = []
        start, places = 0, []
        for t, term in enumerate(estimate.terms):
            codes = estimate.factors[term.factor].codes[self.order]
            place, counts = np.zeros(len(codes), dtype=np.intp), np.zeros(G, dtype=np.intp)
            for b, rows in enumerate(self.rows):
                levels, inverse = np.unique(codes[rows], return_inverse=True)
                place[rows], counts[b] = inverse.reshape(-1), len(levels)
            for j in range(int(counts.max())):
                self.slots.append(_Slot(t, slice(start, start + term.size), counts > j))
                start += term.size
            places.append((t, place, int(counts.max())))
        if start > MOST_EFFECTS:
            raise ModelError(
                f"each {name} shares {start:,} random effects with the rows around it, and "
                f"importance sampling integrates over at most {MOST_EFFECTS} together; leave out "
                "whole groups that share none, or use the closed form or refit=True"
            )
        self.d, n, M = start, len(self.order), len(estimate.predictors)
        self.columns = np.zeros((M, n, self.d))
        for component in estimate.components:
            for t, place, _ in places:
                if t not in component.terms:
                    continue
                z = columns_in(estimate, t, component)[self.order]
                first = next(s.columns.start for s in self.slots if s.term == t)
                at = first + place[:, None] * z.shape[1] + np.arange(z.shape[1])
                self.columns[component.predictor, np.arange(n)[:, None], at] += z

    def _covariances(self, theta: Floats) -> list[Floats] | None:
        """Psi of each term; None where theta is beyond its range."""
        out = []
        for term, place in zip(self.estimate.terms, theta_slices(self.estimate), strict=True):
            try:
                psi = structure_of(term).psi(theta[place])
            except ModelError:
                return None
            if not np.isfinite(psi).all() or np.linalg.eigvalsh(psi)[0] < -1e-12:
                return None
            out.append(psi)
        return out

    def _root(self, psis: list[Floats]) -> Floats:
        """Lambda (d, d) of the slots, of independent levels."""
        root = np.zeros((self.d, self.d))
        for slot in self.slots:
            root[slot.columns, slot.columns] = square_root(psis[slot.term][None])[0]
        return root

    # --- points

    def _place_points(self) -> None:
        """Points (G, K, d) of each block about its mode, and the logs (G, K) of their shares."""
        psis = self._covariances(self.estimate.theta)
        assert psis is not None
        self.moving = all(np.linalg.eigvalsh(p)[0] > 1e-8 * max(np.trace(p), 1e-8) for p in psis)
        root = self._root(psis)
        modes, curvatures = self._modes(root)
        if self.d == 0:
            self.points = np.zeros((len(self.rows), 1, 0))
            self.shares = np.zeros((len(self.rows), 1))
            return
        if self.d in NODES:
            z, w = np.polynomial.hermite_e.hermegauss(NODES[self.d])
            base = np.array(list(product(z, repeat=self.d)))
            weights = np.log(np.array(list(product(w / w.sum(), repeat=self.d)))).sum(axis=1)
            wide = 1.0
        else:
            half = np.random.default_rng(self.d).standard_normal((POINTS // 2, self.d))
            base, weights, wide = np.vstack([half, -half]), np.full(POINTS, -np.log(POINTS)), WIDER
        spread = wide * np.linalg.inv(np.linalg.cholesky(curvatures)).swapaxes(1, 2)
        u = modes[:, None] + base @ spread.swapaxes(1, 2)
        log_det = np.linalg.slogdet(spread)[1]
        normal = 0.5 * np.sum(base**2, axis=1) + 0.5 * self.d * np.log(2 * np.pi)
        shares = weights + normal + log_det[:, None]
        if self.moving:  # points of b = Lambda u
            shares = shares + np.linalg.slogdet(root)[1]
            u = u @ root.T
        self.points, self.shares = u, shares
        if len(self.order) * u.shape[1] > CELLS:
            raise ModelError(
                f"importance sampling would work with {len(self.order) * u.shape[1]:,} densities "
                f"at each draw, and takes {CELLS:,}; use the closed form"
            )

    def _modes(self, root: Floats) -> tuple[Floats, Floats]:
        """Modes (G, d) of u at the estimates, and the curvature (G, d, d) there."""
        u = np.zeros((len(self.rows), self.d))
        moved = self.columns @ root
        active = [k for k in range(len(moved)) if moved[k].any()]
        base = self._predictors(self.estimate.coefficients)
        assert base is not None
        best, gradient, H = self._height(u, base, moved, active)
        for _ in range(STEPS):
            step = np.linalg.solve(H, gradient[..., None])[..., 0]
            size = np.ones(len(u))
            for _ in range(20):
                new = self._height(u + size[:, None] * step, base, moved, active)
                worse = ~(new[0] >= best - 1e-10 * (1 + np.abs(best)))
                if not worse.any():
                    break
                size = np.where(worse, size / 2, size)
            else:
                size = np.where(worse, 0.0, size)
                new = self._height(u + size[:, None] * step, base, moved, active)
            u = u + size[:, None] * step
            best, gradient, H = new
            if np.abs(size[:, None] * step).max(initial=0.0) < 1e-7:
                break
        return u, H

    def _height(
        self, u: Floats, base: Floats, moved: Floats, active: list[int]
    ) -> tuple[Floats, Floats, Floats]:
        """Log f - u'u / 2 of each block, its gradient and minus its second derivatives."""
        at = np.repeat(u, self.sizes, axis=0)
        etas = base + np.einsum("mnd,nd->mn", moved, at)
        with np.errstate(all="ignore"):
            found = np.asarray(
                self.estimate.design.family.evaluate(
                    self.y, self.extra, np.ascontiguousarray(etas), 2, active
                )
            )
        if self.prior_weights is not None:
            found = found * self.prior_weights
        q = len(active)
        value = np.add.reduceat(found[0], self.firsts) - 0.5 * np.sum(u**2, axis=1)
        gradient, H = -u, np.repeat(np.eye(self.d)[None], len(u), axis=0)
        for j in range(q):
            slopes = found[1 + j][:, None] * moved[active[j]]
            gradient = gradient + np.add.reduceat(slopes, self.firsts, axis=0)
        first, second = np.triu_indices(q)
        for w, a, b in zip(found[1 + q :], first, second, strict=True):
            w = np.minimum(w, 0.0) if q == 1 else w
            one, two = moved[active[a]], moved[active[b]]
            outer = (w[:, None] * one)[:, :, None] * two[:, None, :]
            part = np.add.reduceat(outer, self.firsts, axis=0)
            H = H - (part if a == b else part + part.swapaxes(1, 2))
        values, vectors = np.linalg.eigh(H)
        H = (vectors * np.maximum(values, 1e-3)[:, None, :]) @ vectors.swapaxes(1, 2)
        return np.where(np.isnan(value), -np.inf, value), gradient, H

    # --- densities at parameters

    def _predictors(self, coefficients: Floats) -> Floats | None:
        """Predictors (M, n) without random effects; None where thresholds are out of order."""
        estimate = self.estimate
        out = estimate.predictors[:, self.order].copy()
        for component in estimate.components:
            beta, spec = coefficients[component.coefficients], component.specification
            if component.name == THRESHOLD:
                continue
            if spec is None:
                out[component.predictor] = beta[0]
                continue
            full = estimate.parts[component.name]
            X = full.X[:, [full.names.index(n) for n in component.names]][self.order]
            offset = 0.0 if full.offset is None else full.offset[self.order]
            out[component.predictor] = X @ beta + offset
        cuts = thresholds_of(replace(estimate, coefficients=coefficients), estimate, self.order)
        if cuts is not None:
            if (np.diff(cuts, axis=0) <= 0).any():
                return None
            out[1], out[2] = ends_of(cuts, self.y)
        return out

    def densities(self, coefficients: Floats, theta: Floats) -> tuple[float, Floats] | None:
        """Log likelihood of all rows, and log density (G,) of each set given the others."""
        psis, base = self._covariances(theta), self._predictors(coefficients)
        if psis is None or base is None:
            return None
        n, K = len(self.order), self.points.shape[1]
        points = self.points if self.moving else self.points @ self._root(psis).T
        at = np.repeat(points, self.sizes, axis=0)
        etas = np.repeat(base[:, :, None], K, axis=2)
        for k in range(len(etas)):
            if self.columns[k].any():
                etas[k] += np.einsum("nd,nkd->nk", self.columns[k], at)
        extra = None if self.extra is None else np.repeat(self.extra, K)
        with np.errstate(all="ignore"):
            found = self.estimate.design.family.evaluate(
                np.repeat(self.y, K),
                extra,
                np.ascontiguousarray(etas.reshape(len(etas), -1)),
                0,
                [],
            )
        f = np.asarray(found[0]).reshape(n, K)
        if self.prior_weights is not None:
            f = f * self.prior_weights[:, None]
        whole = np.add.reduceat(f, self.firsts, axis=0) + self._log_prior(psis) + self.shares
        if not np.isfinite(whole).any(axis=1).all():
            return None
        every = _log_sums(whole)
        own = np.add.reduceat(f, self.set_firsts, axis=0)
        others = _log_sums(whole[self.block_of_set] - own)
        alone = np.bincount(self.block_of_set, minlength=len(self.rows))[self.block_of_set] == 1
        # the whole of a block has no others: its density is that of the block
        others = np.where(alone, 0.0, others)
        logs = np.empty(len(self.numbers))
        logs[self.numbers] = every[self.block_of_set] - others
        return float(every.sum()), logs

    def _log_prior(self, psis: list[Floats]) -> Floats:
        """Log density (G, K) of the points' effects; standard normal where there are none."""
        G, K, d = self.points.shape
        out = np.full((G, K), -0.5 * d * np.log(2 * np.pi))
        inverse = {}
        for slot in self.slots:
            p = self.points[:, :, slot.columns]
            plain = 0.5 * np.sum(p**2, axis=2)
            if not self.moving:
                out -= plain
                continue
            if slot.term not in inverse:
                psi = psis[slot.term]
                inverse[slot.term] = np.linalg.inv(psi), float(np.linalg.slogdet(psi)[1])
            Q, log_det = inverse[slot.term]
            form = 0.5 * np.einsum("gka,ab,gkb->gk", p, Q, p) + 0.5 * log_det
            out -= np.where(slot.used[:, None], form, plain)
        return out

    # --- draws

    def drawn(self, n: int, rng: np.random.Generator) -> Draws:
        """Draw parameters from a t distribution.

        It has the estimates' mean and covariance, or where that is far from the likelihood those
        of earlier draws, by their weights (Cappe, Guillin, Marin & Robert 2004, J. Comput. Graph.
        Stat. 13).
        """
        V = joint_covariance(self.estimate)
        at = np.concatenate([self.estimate.coefficients, self.estimate.theta])
        for _ in range(ROUNDS):
            draws, moved = self._round(n // 2, at, V, rng)
            smoothed, shape = pareto_smoothed(draws.weights)
            if shape <= FAIR:
                break
            w = np.exp(smoothed - smoothed.max())
            at = np.average(moved, axis=0, weights=w)
            V = WIDER * np.cov(moved.T, aweights=w, ddof=0).reshape(len(at), len(at))
        return self._round(n, at, V, rng)[0]

    def _round(
        self, n: int, at: Floats, V: Floats, rng: np.random.Generator
    ) -> tuple[Draws, Floats]:
        """Draws about a place, and the parameters of each."""
        P = len(self.estimate.coefficients)
        values, vectors = np.linalg.eigh((V + V.T) / 2)
        kept = values > 1e-12 * max(float(values[-1]), 1e-300)
        root = vectors[:, kept] * np.sqrt(values[kept])
        k = int(root.shape[1])
        logs, weights, places = [], [], []
        for _ in range(n):
            z = rng.standard_normal(k) / np.sqrt(rng.chisquare(T_DF) / T_DF)
            moved = at + root @ z
            found = self.densities(moved[:P], moved[P:])
            if found is None:
                continue
            weights.append(found[0] + 0.5 * (T_DF + k) * np.log1p(float(z @ z) / T_DF))
            logs.append(found[1])
            places.append(moved)
        if len(weights) < n // 2:
            raise ModelError(
                f"of {n:,} draws of the parameters {n - len(weights):,} lie where the model has no "
                "likelihood: the estimates are far from normal; use refit=True"
            )
        return Draws(np.array(logs), np.array(weights)), np.array(places)


def _log_sums(values: Floats) -> Floats:
    """Logs (G,) of the sums of exponentials over the rows of (G, K)."""
    top = values.max(axis=1)
    with np.errstate(all="ignore"):
        return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))
