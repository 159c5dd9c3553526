"""How near estimates are to the optimum: a likelihood of its own in extended precision.

It takes the matrices of lavaan's parameter table, knows nothing of the package's kernels, and is
differentiated by differences; one Newton step tells how far the optimum is.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef

HERE = Path(__file__).parent / "reference"
REFERENCE = json.loads((HERE / "structural.json").read_text())
Long = np.longdouble
pytestmark = pytest.mark.skipif(
    np.finfo(Long).eps > 1e-18, reason="long double is no longer than double here"
)


def solved(A, b):
    """Solve A x = b for stacks of matrices; x and log |A|."""
    A, b = np.array(A, dtype=Long), np.array(b, dtype=Long)
    n, log_det = A.shape[-1], np.zeros(A.shape[:-2], Long)
    for j in range(n):
        log_det += np.log(np.abs(A[..., j, j]))
        factor = A[..., j + 1 :, j] / A[..., j, j][..., None]
        A[..., j + 1 :, :] -= factor[..., None] * A[..., j : j + 1, :]
        b[..., j + 1 :, :] -= factor[..., None] * b[..., j : j + 1, :]
    x = np.zeros_like(b)
    for j in range(n - 1, -1, -1):
        rest = (A[..., j, j + 1 :, None] * x[..., j + 1 :, :]).sum(-2)
        x[..., j, :] = (b[..., j, :] - rest) / A[..., j, j][..., None]
    return x, log_det


class Twin:
    """Log-likelihood of y = nu + Pi x + Gamma w + u + e given covariates, with missing values."""

    def __init__(self, rows, data, cluster):
        self.rows = rows
        dependent = {r["lhs"] for r in rows if r["op"] == "~"}
        dependent |= {r["rhs"] for r in rows if r["op"] == "=~"}
        self.names = {
            m: sorted({r[k] for r in rows if r["level"] == m for k in ("lhs", "rhs")} - {""})
            for m in (1, 2)
        }
        seen = {m: [n for n in self.names[m] if n in data.columns] for m in (1, 2)}
        self.y = [n for n in seen[1] if n in dependent]
        self.x = [n for n in seen[1] if n not in dependent]
        self.w = [n for n in seen[2] if n not in self.y]
        code = np.unique(data[cluster], return_inverse=True)[1]
        order = np.argsort(code, kind="stable")
        data, self.code = data.iloc[order], code[order]
        self.first = np.unique(self.code, return_index=True)[1]
        self.Y, self.X = data[self.y].to_numpy(Long), data[self.x].to_numpy(Long)
        self.W = data[self.w].to_numpy(Long)[self.first]
        self.patterns, kind = np.unique(~np.isnan(self.Y), axis=0, return_inverse=True)
        self.kind = kind.ravel()

    def level(self, m, theta, given):
        """Covariance and mean of a level's variables, and their regressions on covariates."""
        names = self.names[m]
        at, q = {n: i for i, n in enumerate(names)}, len(names)
        A, S, mean = np.zeros((q, q), Long), np.zeros((q, q), Long), np.zeros((q, 1), Long)
        for r, value in zip(self.rows, theta, strict=True):
            if r["level"] != m:
                continue
            i, j = at[r["lhs"]], at.get(r["rhs"])
            if r["op"] == "=~":
                A[j, i] = value
            elif r["op"] == "~":
                A[i, j] = value
            elif r["op"] == "~1":
                mean[i] = value
            else:
                S[i, j] = S[j, i] = value
        T = solved(np.eye(q) - A, np.eye(q))[0]
        held = [at[n] for n in given]
        S[held], S[:, held], mean[held] = 0, 0, 0
        return names, T @ S @ T.T, T @ mean, T[:, held]

    def loglik(self, theta):
        names, C, nu, slopes = self.level(1, theta, self.x)
        y = [names.index(n) for n in self.y]
        E = self.Y - nu[y].T - self.X @ slopes[y].T
        names, V, mu, upper = self.level(2, theta, self.w)
        b = [names.index(n) if n in names else -1 for n in self.y]
        E = E - (mu[b].T + self.W @ upper[b].T)[self.code]
        V, p, C = V[np.ix_(b, b)], len(y), C[np.ix_(y, y)]
        F, log_det = np.zeros((len(self.patterns), p, p), Long), np.zeros(len(self.patterns), Long)
        for o, seen in enumerate(self.patterns):
            grid = np.ix_(seen, seen)
            F[o][grid], log_det[o] = solved(C[grid], np.eye(seen.sum()))
        E, G = np.where(np.isnan(E), 0, E), F[self.kind]
        h = (G * E[:, None, :]).sum(-1)
        total = (h * E).sum() + log_det[self.kind].sum()
        total += self.patterns[self.kind].sum() * np.log(8 * np.arctan(Long(1)))
        P, h = np.add.reduceat(G, self.first), np.add.reduceat(h, self.first)
        VP = np.einsum("ab,jbc->jac", V, P)
        x, log_det = solved(np.eye(p) + VP, (h @ V.T)[..., None])
        return -(total + log_det.sum() - (h * x[..., 0]).sum()) / 2


def gradient(f, x, step):
    out = np.zeros(len(x), Long)
    for j in range(len(x)):
        e = np.zeros(len(x), Long)
        e[j] = step * max(1, abs(x[j]))
        out[j] = (f(x + e) - f(x - e)) / (2 * e[j])
    return out


@pytest.mark.parametrize("name", ["small", "equal", "two"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_estimates_are_the_optimum_of_extended_precision(name, missing):
    case, data = REFERENCE[name], pd.read_csv(HERE / "structural_data.csv")
    if missing:
        items = [n for n in data.columns if f"m_{n}" in data.columns]
        data[items] = data[[f"m_{n}" for n in items]]
        used = items[:3] if name != "two" else items
        data = data[data[used].notna().any(axis=1)]
    fit = ranef.sem(
        case["model"], data, cluster="person", missing="fiml" if missing else "listwise"
    )
    rows = fit.tidy()
    rows = rows[rows.op != ":="].assign(rhs=lambda t: t.rhs.fillna(""))
    free = (rows.std_error > 0).to_numpy()
    shared = [r.label or k for k, r in enumerate(rows.itertuples())]
    places = list(dict.fromkeys(s for s, f in zip(shared, free, strict=True) if f))
    of = np.array([places.index(s) if f else -1 for s, f in zip(shared, free, strict=True)])
    assert len(places) == fit.df_model
    twin = Twin(rows.to_dict("records"), data, "person")
    theta = np.where(np.isnan(rows.estimate), 0, rows.estimate).astype(Long)

    def loglik(x):
        full = theta.copy()
        full[of >= 0] = x[of[of >= 0]]
        return twin.loglik(full)

    x = np.array([theta[np.flatnonzero(of == k)[0]] for k in range(len(places))])
    assert abs(float(loglik(x) - Long(fit.loglik))) < 1e-9
    slope = gradient(loglik, x, Long(1e-6))
    position = [int(np.abs(fit.estimate.theta - float(value)).argmin()) for value in x]
    assert len(set(position)) == len(x)
    V = fit.estimate.covariance[np.ix_(position, position)]
    assert np.abs(V @ slope.astype(float)).max() < 2e-6
