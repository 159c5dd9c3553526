"""Structured models against exact arithmetic, where a search would have no digits."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.solve.structured.problem import structured_problem

pd = pytest.importorskip("pandas")

PERSONS, VISITS = 16, 5


LOGS = (0.0, 0.1, -0.2, -10.0, 0.3)
"""Of the standard deviations of the visits."""


def visits():
    """Rows that are y = 1 + 2 x + e, the e of each person orthogonal to the singular direction."""
    rng = np.random.default_rng(3)
    w = np.exp(-np.array(LOGS))
    e = rng.normal(size=(PERSONS, VISITS))
    e -= np.outer(e @ w / (w @ w), w)
    x = rng.normal(size=(PERSONS, VISITS))
    person, visit = np.repeat(np.arange(PERSONS), VISITS), np.tile(np.arange(VISITS), PERSONS)
    y = (1.0 + 2.0 * x + e).ravel()
    return pd.DataFrame({"g": person, "t": visit, "x": x.ravel(), "y": y})


def exact(rows, rho):
    """-2 log L, sigma and beta profiled out, by mpmath's arithmetic of 60 digits."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(60):
        s = [mp.exp(mp.mpf(v)) for v in LOGS]
        V = mp.matrix(VISITS, VISITS)
        for i in range(VISITS):
            for j in range(VISITS):
                V[i, j] = s[i] * s[j] * (1 if i == j else mp.mpf(rho))
        W, S = V**-1, mp.zeros(3, 3)
        for _, own in rows.sort_values(["g", "t"]).groupby("g"):
            A = mp.matrix([[1, float(x), float(y)] for x, y in zip(own.x, own.y, strict=True)])
            S += A.T * W * A
        beta = S[:2, :2] ** -1 * S[:2, 2]
        r2 = S[2, 2] - (S[2, :2] * beta)[0]
        n = len(rows)
        return float(PERSONS * mp.log(mp.det(V)) + n * (1 + mp.log(2 * mp.pi * r2 / n)))


def test_a_criterion_without_digits_is_none():
    """Next to a singular covariance rounding was taken for a likelihood of any height."""
    rows = visits()
    calm = rows.assign(y=np.random.default_rng(1).normal(size=len(rows)))
    start = np.array([0.0, 0.0, 0.0, 0.0, 0.2])
    fit = ranef.lmm("y ~ x", calm, residual="cs(t | g)", reml=False, start=start)
    spec = fit.estimate.specification.with_response(rows.y.to_numpy())
    problem = structured_problem(spec)
    none = 0
    for far in (1e-2, 1e-4, 1e-7, 1e-9, 1e-11):
        at = problem.point(np.array([*LOGS[1:], -0.25 + far]), False, 0)
        none += at is None
        if at is not None:
            assert at.criterion == pytest.approx(exact(rows, -0.25 + far), abs=1e-2)
    assert 0 < none < 5
