"""The dense NumPy twin of the linear mixed model engine: brute force, no cleverness.

Given a `Specification` it builds the n x n covariance matrix

    V(theta) = W^-1 + Z Psi(theta) Z'          (relative to sigma^2)

and takes everything from the definition: the profiled (restricted) deviance of
Bates, Maechler, Bolker & Walker (2015, J. Stat. Softw. 67(1)), its gradient and
Hessian (Lindstrom & Bates 1988; Searle, Casella & McCulloch 1992, ch. 6), the
conditional modes and their two covariance matrices (Henderson 1975), the
variance of a prediction error, and the optimum by SciPy from many starts. It
shares no code with the engine, so that an agreement of the two means something.

Notation: e = y - offset - X beta, m = n (ML) or n - p (REML),
P = V^-1 - V^-1 X C X' V^-1, C = (X' V^-1 X)^-1, r2 = e' V^-1 e = y' P y.

    deviance(theta) = log|V| [+ log|X' V^-1 X|] + m (1 + log(2 pi r2 / m))

log|V| = log|L_theta|^2 - sum log w, so the weights enter as lme4 has them:
the log-likelihood carries +1/2 sum log w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.tables.accounting import Accounting

Floats = NDArray[np.float64]


# --- hand-built specifications -------------------------------------------------------


def factor(labels: Sequence[Any], name: str = "g") -> GroupingFactor:
    """A grouping factor from one label a row; levels in sorted order."""
    levels, codes = np.unique(np.asarray(labels), return_inverse=True)
    return GroupingFactor(name, (name,), codes.astype(np.int32), list(levels))


def term(index: int, z: Floats, structure: str = "us", **more: Any) -> RandomTerm:
    """A random term on factor `index` with the model matrix `z`, (n, r) or (n,)."""
    z = np.ascontiguousarray(z if np.ndim(z) == 2 else np.asarray(z)[:, None], dtype=np.float64)
    names = tuple(f"x{j}" for j in range(z.shape[1]))
    return RandomTerm(f"term on factor {index}", index, names, z, structure, **more)


def specification(
    y: Floats,
    X: Floats,
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
    *,
    weights: Floats | None = None,
    offset: Floats | None = None,
) -> Specification:
    """A specification by hand: no formula, no recipe."""
    X = np.ascontiguousarray(X, dtype=np.float64)
    names = tuple(f"beta{j}" for j in range(X.shape[1]))
    rows = Accounting(len(y))
    return Specification(
        "by hand", "y", np.asarray(y, dtype=np.float64), X, names, (), weights, offset,
        tuple(terms), tuple(factors), rows, None,  # type: ignore[arg-type]
    )  # fmt: skip


# --- theta ---------------------------------------------------------------------------


def n_theta(term: RandomTerm) -> int:
    """Number of covariance parameters of one term."""
    r = term.size
    if term.structure == "us":
        return r * (r + 1) // 2
    if term.structure == "diag":
        return r
    from ranef.covariance import parameter_names

    return len(parameter_names(term.structure, term.names, rank=term.rank))


def lower_triangle(r: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each theta of an unstructured term, column by column."""
    columns, rows = np.triu_indices(r)
    return rows, columns


def relative_factor(term: RandomTerm, theta: Floats) -> Floats:
    """Lambda (r, r) of one term: Psi = sigma^2 Lambda Lambda'."""
    r = term.size
    if term.structure == "us":
        lam = np.zeros((r, r))
        lam[lower_triangle(r)] = theta
        return lam
    if term.structure == "diag":
        return np.diag(theta)
    raise ValueError(f"the factor of {term.structure!r} is not linear in theta")


def relative_covariance(term: RandomTerm, theta: Floats) -> Floats:
    """Psi / sigma^2 (r, r) of one term as a function of its own theta."""
    if term.structure in ("us", "diag"):
        lam = relative_factor(term, theta)
        return lam @ lam.T
    from ranef.covariance import relative_covariance as structured

    return np.asarray(structured(term.structure, theta, term))


def split(spec: Specification, theta: Floats) -> list[Floats]:
    """Theta of each term."""
    ends = np.cumsum([n_theta(t) for t in spec.terms])
    return np.split(np.asarray(theta, dtype=np.float64), ends[:-1])


def first_derivatives(term: RandomTerm, theta: Floats) -> list[Floats]:
    """d Psi / d theta_k (r, r) of one term, k over its own theta."""
    k = len(theta)
    if term.structure in ("us", "diag"):
        lam = relative_factor(term, theta)
        parts = [relative_factor(term, unit) for unit in np.eye(k)]
        return [d @ lam.T + lam @ d.T for d in parts]
    return [central(lambda t: relative_covariance(term, t), theta, i) for i in range(k)]


def second_derivatives(term: RandomTerm, theta: Floats) -> list[list[Floats]]:
    """d2 Psi / d theta_k d theta_l (r, r) of one term."""
    k = len(theta)
    if term.structure in ("us", "diag"):
        parts = [relative_factor(term, unit) for unit in np.eye(k)]
        return [[a @ b.T + b @ a.T for b in parts] for a in parts]
    return [
        [
            central(lambda t, j=j: central(lambda s: relative_covariance(term, s), t, j), theta, i)
            for j in range(k)
        ]
        for i in range(k)
    ]


def central(f: Callable[[Floats], Any], x: Floats, i: int, step: float = 1e-2) -> Any:
    """Df/dx_i by central differences of eighth order."""
    h = step * max(1.0, abs(float(x[i])))
    unit = np.eye(len(x))[i] * h
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return sum(
        w * (f(x + (j + 1) * unit) - f(x - (j + 1) * unit)) for j, w in enumerate(weights)
    ) / h  # fmt: skip


def numerical_gradient(f: Callable[[Floats], Any], x: Floats, step: float = 1e-2) -> Floats:
    """Gradient (k, ...) of a function by eighth-order central differences."""
    return np.array([central(f, x, i, step) for i in range(len(x))])


def numerical_hessian(f: Callable[[Floats], float], x: Floats, step: float = 1e-2) -> Floats:
    """Hessian (k, k) of a function by nested eighth-order central differences."""
    hessian = numerical_gradient(lambda t: numerical_gradient(f, t, step), x, step)
    return (hessian + hessian.T) / 2


# --- matrices ------------------------------------------------------------------------


def indicator(spec: Specification, term: RandomTerm) -> Floats:
    """J (n, q): row i has its one in the column of its level."""
    group = spec.factors[term.factor]
    return np.eye(group.n_levels)[group.codes]


def dense_z(spec: Specification, term: RandomTerm) -> Floats:
    """Z (n, q r) of one term, level by level."""
    J = indicator(spec, term)
    return np.einsum("nq,nr->nqr", J, term.z).reshape(spec.n, -1)


def between_levels(spec: Specification, term: RandomTerm) -> Floats:
    """(q, q) covariance between levels: the identity unless a kernel is given."""
    q = spec.factors[term.factor].n_levels
    return np.eye(q) if term.kernel is None else term.kernel


def marginal_parts(spec: Specification, theta: Floats) -> list[Floats]:
    """Z_t (K_t x Psi_t) Z_t' (n, n) of each term."""
    return [
        sandwich(spec, t, relative_covariance(t, part))
        for t, part in zip(spec.terms, split(spec, theta), strict=True)
    ]


def sandwich(spec: Specification, term: RandomTerm, psi: Floats) -> Floats:
    """Z (K x psi) Z' (n, n) of one term for a given (r, r) matrix psi."""
    Z = dense_z(spec, term)
    return Z @ np.kron(between_levels(spec, term), psi) @ Z.T


def covariance(spec: Specification, theta: Floats) -> Floats:
    """V(theta) (n, n), relative to sigma^2."""
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    return np.diag(1 / w) + sum(marginal_parts(spec, theta))


def covariance_derivatives(spec: Specification, theta: Floats) -> list[Floats]:
    """dV / d theta_k (n, n) for every k."""
    return [
        sandwich(spec, t, d)
        for t, part in zip(spec.terms, split(spec, theta), strict=True)
        for d in first_derivatives(t, part)
    ]


def covariance_second_derivatives(spec: Specification, theta: Floats) -> Floats:
    """d2V / d theta_k d theta_l, (k, k, n, n); zero between terms."""
    k = len(theta)
    out = np.zeros((k, k, spec.n, spec.n))
    start = 0
    for t, part in zip(spec.terms, split(spec, theta), strict=True):
        for i, row in enumerate(second_derivatives(t, part)):
            for j, d in enumerate(row):
                out[start + i, start + j] = sandwich(spec, t, d)
        start += len(part)
    return out


# --- the criterion -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Profile:
    """Everything that follows from theta.

    Attributes
    ----------
    deviance : float
    beta : (p,) float64 array
    sigma : float
    C : (p, p) float64 array
        (X' V^-1 X)^-1; vcov = sigma^2 C.
    Vi, P : (n, n) float64 arrays
    Py : (n,) float64 array
    r2 : float
    m : int
    """

    deviance: float
    beta: Floats
    sigma: float
    C: Floats
    Vi: Floats
    P: Floats
    Py: Floats
    r2: float
    m: int

    @property
    def vcov(self) -> Floats:
        """Covariance matrix of beta given theta, (p, p)."""
        return self.sigma**2 * self.C

    @property
    def loglik(self) -> float:
        return -self.deviance / 2


def response(spec: Specification) -> Floats:
    """Y less the offset."""
    return spec.y if spec.offset is None else spec.y - spec.offset


def profile(spec: Specification, theta: Floats, reml: bool = True) -> Profile:
    """Profile beta and sigma out at theta."""
    V, X, y = covariance(spec, theta), spec.X, response(spec)
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    C = np.linalg.inv(information)
    beta = C @ X.T @ Vi @ y
    P = Vi - Vi @ X @ C @ X.T @ Vi
    Py = Vi @ (y - X @ beta)
    r2 = float((y - X @ beta) @ Py)
    m = spec.n - spec.p if reml else spec.n
    logdet = np.linalg.slogdet(V)[1] + (np.linalg.slogdet(information)[1] if reml else 0.0)
    deviance = float(logdet + m * (1 + np.log(2 * np.pi * r2 / m)))
    return Profile(deviance, beta, float(np.sqrt(r2 / m)), C, Vi, P, Py, r2, m)


def deviance(spec: Specification, theta: Floats, reml: bool = True) -> float:
    """Minus twice the profiled (restricted) log-likelihood."""
    return profile(spec, theta, reml).deviance


def unprofiled_deviance(
    spec: Specification, theta: Floats, sigma: float, reml: bool = True
) -> float:
    """The deviance of (theta, sigma), beta alone profiled out."""
    at = profile(spec, theta, reml)
    logdet = at.deviance - at.m * (1 + np.log(2 * np.pi * at.sigma**2))
    return float(logdet + at.m * np.log(2 * np.pi * sigma**2) + at.r2 / sigma**2)


def gaussian_loglik(spec: Specification, beta: Floats, theta: Floats, sigma: float) -> float:
    """Log density of y ~ N(offset + X beta, sigma^2 V): the ML criterion from its definition."""
    from scipy.stats import multivariate_normal

    mean = spec.X @ beta + (0.0 if spec.offset is None else spec.offset)
    return float(multivariate_normal.logpdf(spec.y, mean, sigma**2 * covariance(spec, theta)))


def gradient(spec: Specification, theta: Floats, reml: bool = True) -> Floats:
    """Exact gradient (k,): tr(M V_k) - (m / r2) y'P V_k P y, M = P (REML) or V^-1 (ML)."""
    at = profile(spec, theta, reml)
    M = at.P if reml else at.Vi
    return np.array(
        [
            np.sum(M * Vk) - at.m / at.r2 * (at.Py @ Vk @ at.Py)
            for Vk in covariance_derivatives(spec, theta)
        ]
    )


def r2_derivatives(spec: Specification, theta: Floats, reml: bool = True) -> Floats:
    """D log r2 / d theta_k (k,) = -y'P V_k P y / r2."""
    at = profile(spec, theta, reml)
    return np.array(
        [-(at.Py @ Vk @ at.Py) / at.r2 for Vk in covariance_derivatives(spec, theta)]
    )  # fmt: skip


def hessian(spec: Specification, theta: Floats, reml: bool = True) -> Floats:
    """Exact Hessian (k, k) of the profiled deviance.

    With V_kl the second derivative of V and M = P (REML) or V^-1 (ML):

        tr(M V_kl) - tr(M V_k M V_l)
        + m [ (2 y'P V_k P V_l P y - y'P V_kl P y) / r2 - r2_k r2_l / r2^2 ]
    """
    at = profile(spec, theta, reml)
    M = at.P if reml else at.Vi
    first = covariance_derivatives(spec, theta)
    second = covariance_second_derivatives(spec, theta)
    k = len(theta)
    out = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            a, b = first[i] @ at.Py, first[j] @ at.Py
            trace = np.sum(M * second[i, j]) - np.sum((M @ first[i]) * (M @ first[j]).T)
            r2_ij = 2 * a @ at.P @ b - at.Py @ second[i, j] @ at.Py
            r2_i, r2_j = -at.Py @ a, -at.Py @ b
            out[i, j] = trace + at.m * (r2_ij / at.r2 - r2_i * r2_j / at.r2**2)
    return out


def vcov_derivatives(spec: Specification, theta: Floats) -> Floats:
    """DC / d theta_k (k, p, p) = C X' V^-1 V_k V^-1 X C."""
    at = profile(spec, theta)
    A = at.Vi @ spec.X @ at.C
    return np.array([A.T @ Vk @ A for Vk in covariance_derivatives(spec, theta)])


# --- random effects and predictions --------------------------------------------------


def stacked_z(spec: Specification) -> Floats:
    """Z (n, sum q r) of all terms side by side."""
    return np.hstack([dense_z(spec, t) for t in spec.terms])


def stacked_psi(spec: Specification, theta: Floats) -> Floats:
    """Block-diagonal covariance of all random effects, relative to sigma^2."""
    from scipy.linalg import block_diag

    return np.asarray(
        block_diag(
            *[
                np.kron(between_levels(spec, t), relative_covariance(t, part))
                for t, part in zip(spec.terms, split(spec, theta), strict=True)
            ]
        )
    )


def by_term(spec: Specification, stacked: Floats) -> list[Floats]:
    """Cut a vector over all random effects into one (q, r) array a term."""
    shapes = [(spec.factors[t.factor].n_levels, t.size) for t in spec.terms]
    ends = np.cumsum([q * r for q, r in shapes])
    return [b.reshape(s) for b, s in zip(np.split(stacked, ends[:-1]), shapes, strict=True)]


def modes(spec: Specification, theta: Floats) -> list[Floats]:
    """Conditional modes Psi Z' V^-1 (y - X beta), one (q, r) array a term."""
    at = profile(spec, theta)
    return by_term(spec, stacked_psi(spec, theta) @ stacked_z(spec).T @ at.Py)


def conditional_covariances(
    spec: Specification, theta: Floats, reml: bool = True
) -> list[tuple[Floats, Floats]]:
    """For each term the (q, r, r) blocks of both covariance matrices of b.

    Given the parameters: sigma^2 (Psi - Psi Z' V^-1 Z Psi).
    Prediction error var(b_hat - b): sigma^2 (Psi - Psi Z' P Z Psi).
    """
    at = profile(spec, theta, reml)
    Z, psi = stacked_z(spec), stacked_psi(spec, theta)
    given = at.sigma**2 * (psi - psi @ Z.T @ at.Vi @ Z @ psi)
    error = at.sigma**2 * (psi - psi @ Z.T @ at.P @ Z @ psi)
    out, start = [], 0
    for t in spec.terms:
        q, r = spec.factors[t.factor].n_levels, t.size
        blocks = [slice(start + j * r, start + (j + 1) * r) for j in range(q)]
        out.append(
            (np.array([given[b, b] for b in blocks]), np.array([error[b, b] for b in blocks]))
        )
        start += q * r
    return out


def prediction_variance(
    spec: Specification,
    theta: Floats,
    X: Floats,
    random: Sequence[tuple[NDArray[np.int32], Floats] | None],
    reml: bool = True,
) -> Floats:
    """Variance (N,) of the prediction error of x'beta + z'b.

    `random` has (codes (N,), z (N, r)) per term, or None to leave its b out of
    the target. A code of -1 is a new level: it adds z' Psi z.

        sigma^2 [ x'Cx + z'(Psi - Psi Z'P Z Psi) z - 2 x' C X' V^-1 Z Psi z ]
    """
    at = profile(spec, theta, reml)
    Z, psi = stacked_z(spec), stacked_psi(spec, theta)
    rows, new = np.zeros((len(X), Z.shape[1])), np.zeros(len(X))
    start = 0
    for t, part, given in zip(spec.terms, split(spec, theta), random, strict=True):
        q, r = spec.factors[t.factor].n_levels, t.size
        if given is not None:
            codes, z = given
            own = relative_covariance(t, part)
            for i, code in enumerate(codes):
                if code < 0:
                    new[i] += z[i] @ own @ z[i]
                else:
                    rows[i, start + code * r : start + (code + 1) * r] = z[i]
        start += q * r
    error = psi - psi @ Z.T @ at.P @ Z @ psi
    cross = at.C @ spec.X.T @ at.Vi @ Z @ psi
    fixed = np.einsum("ni,ij,nj->n", X, at.C, X)
    random_part = np.einsum("ni,ij,nj->n", rows, error, rows)
    both = np.einsum("ni,ij,nj->n", X, cross, rows)
    return np.asarray(at.sigma**2 * (fixed + random_part - 2 * both + new))


# --- the optimum ---------------------------------------------------------------------


def start(spec: Specification) -> Floats:
    """Theta of Lambda = I (unstructured and diagonal terms; ones elsewhere)."""
    parts = []
    for t in spec.terms:
        if t.structure == "us":
            rows, columns = lower_triangle(t.size)
            parts.append((rows == columns).astype(np.float64))
        else:
            parts.append(np.ones(n_theta(t)))
    return np.concatenate(parts)


def canonical(spec: Specification, theta: Floats) -> Floats:
    """The same model with non-negative diagonals (columns of Lambda change sign)."""
    parts = []
    for t, part in zip(spec.terms, split(spec, theta), strict=True):
        if t.structure == "us":
            lam = relative_factor(t, part)
            lam = lam * np.where(np.diag(lam) < 0, -1.0, 1.0)
            part = lam[lower_triangle(t.size)]
        elif t.structure == "diag":
            part = np.abs(part)
        parts.append(part)
    return np.concatenate(parts)


def optimum(
    spec: Specification, reml: bool = True, starts: int = 8, seed: int = 0
) -> tuple[Floats, float]:
    """The best theta and deviance that SciPy finds from many unbounded starts.

    Each start runs BFGS and then polishes by damped Newton steps with the exact
    Hessian. Theta is not bounded (a bound at zero traps the search), so a
    zero variance or a correlation of one is reached from the inside.
    """
    rng = np.random.default_rng(seed)
    first = start(spec)
    points = [first] + [first * rng.lognormal(0, 1.5, len(first)) + rng.normal(0, 0.3, len(first))
                        for _ in range(starts - 1)]  # fmt: skip
    found = [climb_down(spec, point, reml) for point in points]
    theta, best = min(found, key=lambda pair: pair[1])
    return canonical(spec, theta), best


def climb_down(spec: Specification, theta: Floats, reml: bool) -> tuple[Floats, float]:
    """BFGS from one start, then Newton steps as long as they help."""
    result = minimize(
        lambda t: deviance(spec, t, reml),
        theta,
        jac=lambda t: gradient(spec, t, reml),
        method="BFGS",
        options={"gtol": 1e-8},
    )
    theta, value = result.x, float(result.fun)
    for _ in range(20):
        values, vectors = np.linalg.eigh(hessian(spec, theta, reml))
        floor = 1e-8 * max(1.0, float(np.abs(values).max()))
        step = vectors @ ((vectors.T @ gradient(spec, theta, reml)) / np.maximum(values, floor))
        moved = deviance(spec, theta - step, reml)
        if not moved < value:
            break
        theta, value = theta - step, moved
    return theta, value
