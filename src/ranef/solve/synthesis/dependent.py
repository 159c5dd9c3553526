"""Effects whose sampling errors are correlated, or whose true effects vary on several levels.

y ~ N(X b, M), M = V + sum_t S_t o (z_t Psi_t z_t'), with V known, S_t the matrix that says which
rows share a level of term t (or how its levels are correlated), and o the product by entries. The
restricted likelihood is maximised in the parameters of all Psi (Konstantopoulos 2011, Res. Synth.
Methods 2; Berkey et al. 1998, Stat. Med. 17). M is dense: n is the number of effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.structure import Structure

__all__ = ["Dependent", "Level", "Solved", "maximise", "profile_sd"]

Floats = NDArray[np.float64]

STARTS = (1.0, 0.3, 3.0, 0.03)
STEP = 1e-3
SAME = 1e-6
"""Log-likelihoods that are as high as each other."""
TINY = 1e-5
"""Standard deviation, relative to the typical sampling error, that may be none."""
NEWTON = 20


@dataclass(frozen=True, eq=False)
class Level:
    """What varies between the levels of one factor.

    Attributes
    ----------
    structure : Structure
    z : (n, r) array
    shared : (n, n) array
        1 where two rows share a level, or the known correlation of their levels.
    """

    structure: Structure
    z: Floats
    shared: Floats

    def start(self, sd: float) -> Floats:
        """Parameters phi of effects whose rows have a standard deviation of about `sd`."""
        s = self.structure
        size = np.sqrt(np.mean(self.z**2, axis=0))
        each = sd / np.where(size > 0, size, 1.0)
        theta = np.asarray(s.from_phi(np.full(s.n_parameters, 0.3)), dtype=np.float64)
        if s.kind in ("us", "kernel"):
            theta = np.diag(each)[np.triu_indices(s.size)]
        elif s.kind == "diag":
            theta = each
        else:
            sds = np.array([p.kind == "sd" for p in s.parameters()])
            theta[sds] = each if sds.sum() == s.size else each.mean()
        return np.asarray(s.to_phi(theta), dtype=np.float64)

    def units(self, sd: float) -> Floats:
        """Sizes (k,) of the entries of phi of such effects; 1 where they have none."""
        start = np.abs(self.start(sd))
        s = self.structure
        if s.kind in ("us", "kernel"):
            return np.asarray(start[start > 0][np.triu_indices(s.size)[1]])
        sized = s.kind == "diag" or np.array([p.kind == "sd" for p in s.parameters()])
        return np.where(sized, start, 1.0)

    def spread(self, psi: Floats) -> Floats:
        """What a covariance (r, r) adds to that of the rows."""
        return np.asarray(self.shared * (self.z @ psi @ self.z.T))


@dataclass(frozen=True, eq=False)
class Solved:
    """The model at one value of its parameters.

    Attributes
    ----------
    loglik : float
    beta : (p,) array
    bread : (p, p) array
    inverse : (n, n) array
        Of M.
    residuals : (n,) array
    gradient : (k,) array
        Of the log-likelihood in phi.
    """

    loglik: float
    beta: Floats
    bread: Floats
    inverse: Floats
    residuals: Floats
    gradient: Floats


@dataclass(frozen=True, eq=False)
class Dependent:
    """Effects with a known covariance of their sampling errors.

    Attributes
    ----------
    y : (n,) array
    V : (n, n) array
    X : (n, p) array
    levels : sequence of Level
    restricted : bool
    """

    y: Floats
    V: Floats
    X: Floats
    levels: Sequence[Level]
    restricted: bool

    @cached_property
    def cuts(self) -> list[slice]:
        """Where the parameters of each level stand."""
        ends = np.cumsum([level.structure.n_parameters for level in self.levels])
        return [
            slice(int(end) - level.structure.n_parameters, int(end))
            for end, level in zip(ends, self.levels, strict=True)
        ]

    @property
    def k(self) -> int:
        return self.cuts[-1].stop if self.cuts else 0

    @cached_property
    def units(self) -> Floats:
        """What counts as one of each entry of phi, (k,): of sizes a typical one, 1 of others."""
        return np.concatenate([np.empty(0), *(level.units(self.beyond) for level in self.levels)])

    @cached_property
    def beyond(self) -> float:
        """Standard deviation of a level, were the effects spread by all levels alike."""
        spread = float(np.std(self.y)) + self.typical
        return float(spread / np.sqrt(max(len(self.levels), 1)))

    @cached_property
    def typical(self) -> float:
        """Root mean square of the sampling errors."""
        return float(np.sqrt(np.mean(np.diag(self.V))))

    def psis(self, phi: Floats) -> list[Floats]:
        """Psi of each level."""
        return [
            np.asarray(level.structure.psi(level.structure.from_phi(phi[cut])))
            for level, cut in zip(self.levels, self.cuts, strict=True)
        ]

    def covariance(self, phi: Floats) -> Floats:
        """M (n, n)."""
        M = self.V.copy()
        for level, psi in zip(self.levels, self.psis(phi), strict=True):
            M += level.spread(psi)
        return M

    def derivatives(self, phi: Floats) -> list[Floats]:
        """Derivatives (n, n) of M in each entry of phi.

        Psi is a smooth function of few numbers: differences of fourth order.
        """
        out = []
        for level, cut in zip(self.levels, self.cuts, strict=True):
            own, units = phi[cut], self.units[cut]

            def psi(step: Floats, level: Level = level, own: Floats = own) -> Any:
                return level.structure.psi(level.structure.from_phi(own + step))

            for j in range(len(own)):
                e = np.zeros(len(own))
                e[j] = STEP * max(units[j], abs(own[j]))
                near, far = psi(e) - psi(-e), psi(2 * e) - psi(-2 * e)
                out.append(level.spread((8 * near - far) / (12 * e[j])))
        return out

    def at(self, phi: Floats, slopes: bool = True) -> Solved | None:
        """The model at phi; None where M is not positive definite."""
        n, p = self.X.shape
        try:
            L = np.linalg.cholesky(self.covariance(phi))
        except np.linalg.LinAlgError:
            return None
        inverse_root = np.linalg.solve(L, np.eye(n))
        inverse: Floats = np.asarray(inverse_root.T @ inverse_root, dtype=np.float64)
        WX = inverse @ self.X
        information = self.X.T @ WX
        bread = np.asarray(np.linalg.inv(information), dtype=np.float64)
        beta = bread @ (WX.T @ self.y)
        r = self.y - self.X @ beta
        Py = inverse @ r
        value = -np.log(np.diag(L)).sum() - 0.5 * (float(r @ Py) + n * np.log(2 * np.pi))
        if self.restricted:
            value += 0.5 * (p * np.log(2 * np.pi) - np.linalg.slogdet(information)[1])
        gradient = np.zeros(self.k)
        if slopes:
            P = inverse - WX @ bread @ WX.T if self.restricted else inverse
            for j, dM in enumerate(self.derivatives(phi)):
                gradient[j] = 0.5 * (Py @ dM @ Py - np.sum(P * dM))
        return Solved(float(value), beta, bread, inverse, r, gradient)

    def information(self, phi: Floats) -> tuple[Floats, list[Floats]]:
        """Expected information (k, k) of phi, and derivatives (p, p) of the bread in each entry."""
        at = self.at(phi, slopes=False)
        assert at is not None
        WX = at.inverse @ self.X
        P = at.inverse - WX @ at.bread @ WX.T if self.restricted else at.inverse
        dMs = self.derivatives(phi)
        PM = [P @ dM for dM in dMs]
        info = np.array([[0.5 * np.sum(a * b.T) for b in PM] for a in PM]).reshape(self.k, self.k)
        return info, [at.bread @ (WX.T @ dM @ WX) @ at.bread for dM in dMs]


def maximise(problem: Dependent) -> tuple[Floats, Floats]:
    """Phi (k,) of the highest likelihood, and the log-likelihoods of distinct maxima."""
    if problem.k == 0:
        at = problem.at(np.zeros(0))
        assert at is not None
        return np.zeros(0), np.array([at.loglik])
    found = [ended for start in _starts(problem) if (ended := _climbed(problem, start)) is not None]
    found.sort(key=lambda pair: -pair[1])
    distinct: list[float] = []
    for _, value in found:
        if all(abs(value - other) > SAME * max(1.0, abs(value)) for other in distinct):
            distinct.append(value)
    phi, value = found[0]
    return _ended(problem, phi, value), np.array(distinct)


def _starts(problem: Dependent) -> list[Floats]:
    return [
        np.concatenate([level.start(size * problem.beyond) for level in problem.levels])
        for size in STARTS
    ]


def _climbed(problem: Dependent, start: Floats) -> tuple[Floats, float] | None:
    from scipy.optimize import minimize

    units = problem.units

    def falling(counted: Floats) -> tuple[float, Floats]:
        at = problem.at(counted * units)
        if at is None or not np.isfinite(at.loglik):
            return 1e300, np.zeros(problem.k)
        return -at.loglik, -at.gradient * units

    ended = minimize(falling, start / units, jac=True, method="BFGS", options={"gtol": 1e-7})
    phi = _newton(problem, np.asarray(ended.x) * units)
    at = problem.at(phi, slopes=False)
    return None if at is None else (phi, at.loglik)


def _newton(problem: Dependent, phi: Floats) -> Floats:
    """Last steps, by differences of the gradient."""
    units = problem.units
    for _ in range(NEWTON):
        at = problem.at(phi)
        if at is None:
            return phi
        H = np.empty((problem.k, problem.k))
        for j in range(problem.k):
            e = np.zeros(problem.k)
            e[j] = 1e-4 * max(0.1 * units[j], abs(phi[j]))
            up, down = problem.at(phi + e), problem.at(phi - e)
            if up is None or down is None:
                return phi
            H[j] = (up.gradient - down.gradient) * units / (2 * e[j] / units[j])
        values, vectors = np.linalg.eigh(-0.5 * (H + H.T))
        curved = values > 1e-10 * max(float(values[-1]), 1e-300)
        along = vectors[:, curved].T @ (at.gradient * units)
        step = (vectors[:, curved] / values[curved]) @ along * units
        new = problem.at(phi + step, slopes=False)
        if new is None or new.loglik < at.loglik - 1e-12 * abs(at.loglik):
            return phi
        phi = phi + step
        if np.max(np.abs(step / units)) < 1e-11 * max(1.0, float(np.max(np.abs(phi / units)))):
            break
    return phi


def _ended(problem: Dependent, phi: Floats, value: float) -> Floats:
    """Phi with variances of zero where these are as good."""
    typical = problem.typical
    for level, cut in zip(problem.levels, problem.cuts, strict=True):
        if level.structure.size == 1 and cut.stop - cut.start == 1:
            psi = float(np.asarray(level.structure.psi(level.structure.from_phi(phi[cut])))[0, 0])
            none = phi.copy()
            none[cut] = level.structure.to_phi(np.zeros(1))
            at = problem.at(none, slopes=False)
            small = np.sqrt(psi * np.mean(level.z**2)) < TINY * typical
            if at is not None and (at.loglik >= value - 1e-10 or small):
                phi = none
    return phi


def profile_sd(
    problem: Dependent, phi: Floats, index: int, conf_level: float
) -> tuple[float, float]:
    """Interval of the standard deviation of a level of one column, by the profile.

    The others are estimated again at each value. The lower end is zero where the likelihood
    does not fall far enough.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri

    top = problem.at(phi, slopes=False)
    assert top is not None
    fall = 0.5 * float(chdtri(1, 1 - conf_level))
    level = problem.levels[index]
    others = tuple(other for i, other in enumerate(problem.levels) if i != index)
    here = float(np.sqrt(problem.psis(phi)[index][0, 0]))

    def above(sd: float) -> float:
        V = problem.V + level.spread(np.array([[sd * sd]]))
        _, values = maximise(replace(problem, V=V, levels=others))
        return float(np.max(values)) - top.loglik + fall

    low = 0.0 if here == 0 or above(0.0) >= 0 else float(brentq(above, 0.0, here, xtol=1e-9 * here))
    far = max(2 * here, problem.typical)
    while above(far) > 0:
        far *= 2
    return low, float(brentq(above, here, far, xtol=1e-9 * far))
