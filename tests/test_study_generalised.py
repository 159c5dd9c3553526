"""Every family recovers the parameters that drew its data (``make study``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranef.design import specify
from ranef.families import FAMILIES, family
from ranef.models import fit_glmm

pytestmark = pytest.mark.study

SLOW = {"compois", "truncated_compois", "tweedie"}
OTHER = {"sigma": -0.5, "df": 1.5, "cut 1": -1.0}
CASES = [
    (name, zero)
    for name in FAMILIES
    if name not in ("cumulative", "multinomial", "censored", "bernoulli")
    for zero in (False, True)
    if not zero or (family(name).takes_zero and name not in ("binomial", "betabinomial"))
]


@pytest.mark.parametrize(("name", "zero"), CASES)
def test_parameters_are_recovered(name: str, zero: bool) -> None:
    """Standardised errors of all coefficients: their mean is about 0, their spread about 1."""
    rng = np.random.default_rng(50)
    kind = family(name)
    predictors = kind.predictors(zero)
    n, q = 1200, 60
    g, x = np.repeat(np.arange(q), n // q), rng.normal(size=n)
    spec = specify("y ~ x + (1 | g)", {"y": rng.normal(size=n), "x": x, "g": g})
    plain = {"terms": (), "factors": (), "X": np.ones((n, 1)), "names": ("(Intercept)",)}
    narrow = kind.link == "inverse"
    base, slope, sd = (0.7, 0.05, 0.05) if narrow else (0.8, 0.4, 0.5)
    extra = np.full(n, 6.0) if "binomial" in name else None
    true = [base, slope] + [
        -1.0 if p.name == "zero" else OTHER.get(p.label, 2.0 if name == "beta" else 0.5)
        for p in predictors[1:]
    ]
    errors = []
    for _ in range(6 if name in SLOW else 20):
        etas = np.zeros((len(predictors), n))
        etas[0] = base + slope * x + sd * rng.normal(size=q)[g]
        etas[1:] = np.array(true[2:])[:, None]
        y = kind.simulate(rng, etas, extra, zero=zero)
        parts = {"conditional": replace(spec, y=y)}
        if zero:
            parts["zero"] = replace(spec, y=y, **plain)
        fit = fit_glmm(parts, kind, extra=extra)
        assert fit.optimum.converged
        known = np.concatenate([true, [sd]])
        found = np.concatenate([fit.coefficients, fit.theta])
        deviation = np.sqrt(np.diag(fit.joint_covariance))
        errors.append((found - known)[deviation > 0] / deviation[deviation > 0])
    z = np.concatenate(errors)
    assert abs(z.mean()) < 4 / np.sqrt(len(errors))
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6
