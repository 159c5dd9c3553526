"""Generalised mixed models for the engine's tests: the core's problem from plain
arrays, and its dense twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import _core


@dataclass(frozen=True)
class Term:
    """A random term: a factor by its codes, columns, predictor, Psi's structure."""

    factor: int
    z: np.ndarray
    predictor: int = 0
    structure: str = "us"


@dataclass(frozen=True)
class Model:
    """A generalised mixed model as plain arrays.

    X holds one matrix for each predictor, every column with a coefficient of its
    own; terms of one factor stand together.
    """

    family: _core.Family
    y: np.ndarray
    X: Sequence[np.ndarray]
    codes: Sequence[np.ndarray]
    terms: Sequence[Term]
    extra: np.ndarray | None = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    kernels: dict[int, np.ndarray] | None = None

    def core(
        self,
        chain: Sequence[int],
        threads: int = 1,
        nodes: int = 1,
        integrated: Sequence[int] = (),
    ) -> _core.GeneralisedProblem:
        predictors: list[dict[str, Any]] = []
        count = 0
        for m, X in enumerate(self.X):
            k = X.shape[1]
            predictors.append(
                {
                    "X": np.ascontiguousarray(X, dtype=float),
                    "coefficients": list(range(count, count + k)),
                    "offset": self.offset if m == 0 else None,
                }
            )
            count += k
        factors = [self._factor(f) for f in range(len(self.codes))]
        return _core.GeneralisedProblem(
            self.family,
            np.ascontiguousarray(self.y, dtype=float),
            self.extra,
            self.weights,
            predictors,
            count,
            factors,
            list(chain),
            threads,
            nodes,
            list(integrated),
        )

    def _factor(self, f: int) -> dict[str, Any]:
        terms = [t for t in self.terms if t.factor == f]
        out = {
            "codes": np.ascontiguousarray(self.codes[f], dtype=np.int32),
            "z": np.ascontiguousarray(np.hstack([t.z for t in terms]), dtype=float),
            "levels": int(self.codes[f].max()) + 1,
            "terms": [
                {
                    "structure": t.structure,
                    "size": t.z.shape[1],
                    "rank": 0,
                    "positions": np.empty((t.z.shape[1], 0)),
                }
                for t in terms
            ],
            "owners": [t.predictor for t in terms for _ in range(t.z.shape[1])],
        }
        if self.kernels and f in self.kernels:
            out["kernel"] = np.ascontiguousarray(np.linalg.cholesky(self.kernels[f]))
        return out

    def terms_in_core_order(self) -> list[Term]:
        return [t for f in range(len(self.codes)) for t in self.terms if t.factor == f]


def user_psi(model: Model, core: _core.GeneralisedProblem, phi: np.ndarray) -> list[np.ndarray]:
    """Psi of each term, in the core's order and the user's basis."""
    out, offset, place = [], 0, {}
    for t in model.terms_in_core_order():
        r = t.z.shape[1]
        structure = _core.Structure(t.structure, r)
        k = structure.parameters()
        L = structure.factor(phi[offset : offset + k])
        place[t.factor] = place.get(t.factor, -1) + 1
        basis = core.basis(t.factor, place[t.factor])
        out.append(basis @ L @ L.T @ basis.T)
        offset += k
    return out


def dense_criterion(model: Model, core: _core.GeneralisedProblem, x: np.ndarray) -> float:
    """Minus twice the Laplace log-likelihood, by dense algebra and plain Newton steps."""
    K, n = core.parameters, len(model.y)
    phi, beta = x[:K], x[K:]
    M = len(model.X)
    fixed = np.zeros((M, n))
    first = 0
    for m, X in enumerate(model.X):
        fixed[m] = X @ beta[first : first + X.shape[1]]
        first += X.shape[1]
    if model.offset is not None:
        fixed[0] += model.offset
    Z, blocks = [], []  # Z[k]: (M n, columns)
    for t, psi in zip(model.terms_in_core_order(), user_psi(model, core, phi), strict=True):
        codes = model.codes[t.factor]
        q, r = int(codes.max()) + 1, t.z.shape[1]
        z = np.zeros((M, n, q, r))
        z[t.predictor, np.arange(n), codes] = t.z
        Z.append(z.reshape(M * n, q * r))
        K_levels = (model.kernels or {}).get(t.factor, np.eye(q))
        blocks.append(np.kron(K_levels, psi))
    Z = np.hstack(Z)
    total = sum(len(B) for B in blocks)
    Psi, at = np.zeros((total, total)), 0
    for B in blocks:
        Psi[at : at + len(B), at : at + len(B)] = B
        at += len(B)
    u_of, s = np.linalg.eigh(Psi), None
    Lambda = u_of[1] * np.sqrt(np.maximum(u_of[0], 0))
    ZL = Z @ Lambda
    w = np.ones(n) if model.weights is None else model.weights
    u = np.zeros(total)

    def derivatives(u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        eta = fixed + (ZL @ u).reshape(M, n)
        d = model.family.evaluate(model.y, model.extra, eta, 2, list(range(M)), 1)
        f1 = (w * d[1 : 1 + M]).ravel()
        W = np.zeros((M, n, M, n))
        k = 1 + M
        for a in range(M):
            for b in range(a, M):
                W[a, np.arange(n), b, np.arange(n)] = -w * d[k]
                W[b, np.arange(n), a, np.arange(n)] = -w * d[k]
                k += 1
        return float(w @ d[0]), f1, W.reshape(M * n, M * n)

    f, f1, W = derivatives(u)
    for _ in range(200):
        H = np.eye(total) + ZL.T @ W @ ZL
        low, vectors = np.linalg.eigh(H)
        g = ZL.T @ f1 - u
        s = vectors @ ((vectors.T @ g) / np.maximum(np.abs(low), 1e-6))
        if g @ s < 1e-24:
            break
        step, value = 1.0, f - u @ u / 2
        while step > 1e-10:
            trial = derivatives(u + step * s)
            if trial[0] - (u + step * s) @ (u + step * s) / 2 >= value - 1e-12 * abs(value):
                break
            step /= 2
        u = u + step * s
        f, f1, W = derivatives(u)
    H = np.eye(total) + ZL.T @ W @ ZL
    return -2 * f + float(u @ u) + float(np.linalg.slogdet(H)[1])


def numeric_gradient(core: _core.GeneralisedProblem, x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """Gradient by differences of fourth order."""
    out = np.empty_like(x)
    for i in range(len(x)):
        e = np.zeros_like(x)
        e[i] = h
        a, b, c, d = (core.state(x + k * e, False)["criterion"] for k in (-2, -1, 1, 2))
        out[i] = (a - 8 * b + 8 * c - d) / (12 * h)
    return out
