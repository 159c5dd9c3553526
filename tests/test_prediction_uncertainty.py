"""Predictions of linear models count the uncertainty of the variance parameters."""

from __future__ import annotations

import numpy as np
import pytest
import twin
from scipy import stats
from test_history import gls

import ranef
from ranef.derivatives import linear as derivatives
from ranef.inference.coefficients import parameters
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.inference.rows.prediction import predict
from ranef.models.refitting import refit
from ranef.models.rows import PartRows

SLEEP = "Reaction ~ Days + (Days | Subject)"
UNBALANCED = "yield ~ nitro + (1 | Block / Variety)"


def oats():
    data = ranef.data.load("Oats")
    return data.drop(index=data.index[[0, 1, 2, 4, 7, 12, 20, 33, 54]])


def cases():
    return {
        "slopes": (ranef.lmm(SLEEP, ranef.data.load("sleepstudy")),
                   {"Days": [0.0, 10.0, 4.0], "Subject": ["308", "309", "nobody"]}),
        "nested": (ranef.lmm(UNBALANCED, oats()),
                   {"nitro": [0.0, 0.6, 0.2, 0.2], "Block": ["I", "VI", "I", "XX"],
                    "Variety": ["Victory", "Victory", "new", "new"]}),
        "crossed": (ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)",
                              ranef.data.load("Penicillin")),
                    {"plate": ["a", "zz", "b"], "sample": ["A", "B", "new"]}),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["slopes", "nested", "crossed"])
def test_the_standard_error_and_df_by_differences(name):
    """v + d'Ad and 2 v^2 / g'Ag with every derivative by differences of the dense twin."""
    fit, new = cases()[name]
    estimate, spec = fit.estimate, fit.estimate.specification
    known = parameter_covariance(estimate)
    from ranef.fits.new_rows import read_rows

    rows = read_rows(fit, new, "own", weights=True)[0].parts["conditional"]
    theta = fit.theta

    def at(moved):
        beta = gls(fit, moved)
        value = rows.X @ beta
        for psi, (codes, z), b in zip(
            psis(fit, moved), rows.random, scores(fit, moved, beta), strict=True
        ):
            value += np.where(codes >= 0, np.einsum("nr,nr->n", z, (b @ psi)[codes]), 0.0)
        return value, twin.prediction_variance(spec, moved, rows.X, rows.random)

    value, variance = at(theta)
    np.testing.assert_allclose(value, fit.predict(new), rtol=1e-8)
    d, g = np.zeros((len(value), len(theta))), np.zeros((len(value), len(theta)))
    for k in np.flatnonzero(known.free):
        h = 1e-4 * max(abs(theta[k]), 0.1) * np.eye(len(theta))[k]
        (up, more), (down, less) = at(theta + h), at(theta - h)
        d[:, k], g[:, k] = (up - down) / (2 * h[k]), (more - less) / (2 * h[k])
    # the twin profiles sigma at each theta; at fixed sigma v scales as sigma^2
    s2 = [twin_sigma(fit, theta + s * 1e-4 * np.eye(len(theta))[k]) ** 2
          for k in range(len(theta)) for s in (1, -1)]  # fmt: skip
    slope = (np.array(s2[::2]) - np.array(s2[1::2])) / 2e-4
    g -= variance[:, None] * slope / fit.sigma**2
    d, g = d[:, known.free], g[:, known.free]
    A = known.covariance
    full = np.column_stack([g, 2 * variance / fit.sigma])
    df = np.maximum(2 * variance**2 / np.sum(full @ A * full, axis=1), 2.0)
    total = variance + np.sum(d @ A[:-1, :-1] * d, axis=1)
    found = fit.predict(new, conf_level=0.9)
    np.testing.assert_allclose(found["std_error"], np.sqrt(total), rtol=1e-5)
    half = (found["conf_high"] - found["conf_low"]) / 2 / found["std_error"]
    np.testing.assert_allclose(half, stats.t.ppf(0.95, df), rtol=1e-3)


def twin_sigma(fit, theta):
    from ranef.derivatives.linear import solved
    from ranef.inference.coefficients.parameters import residual_count

    estimate = fit.estimate
    assembly = solved(estimate).assembly
    y, _, scale = assembly.respond(estimate.specification.y[None])
    state = assembly.core.state(
        y[0], estimate.reml, assembly.phi(theta, estimate.optimum.ranks), False
    )
    return np.sqrt(scale[0] ** 2 * state["rss"] / residual_count(estimate))


def psis(fit, theta):
    from ranef.covariance import structure_of

    place = 0
    for term in fit.estimate.specification.terms:
        structure = structure_of(term)
        yield structure.psi(theta[place : place + structure.n_parameters])
        place += structure.n_parameters


def scores(fit, theta, beta):
    """Z'V^-1 (y - X beta) by level, from the n x n matrix."""
    spec = fit.estimate.specification
    V = np.eye(spec.n)
    for psi, term in zip(psis(fit, theta), spec.terms, strict=True):
        codes = spec.factors[term.factor].codes
        V += (codes[:, None] == codes) * (term.z @ psi @ term.z.T)
    r = np.linalg.solve(V, spec.y - spec.X @ beta)
    out = []
    for term in spec.terms:
        factor = spec.factors[term.factor]
        b = np.zeros((factor.n_levels, term.size))
        np.add.at(b, factor.codes, term.z * r[:, None])
        out.append(b)
    return out


def test_a_new_level_rests_on_as_few_degrees_of_freedom_as_there_are_levels():
    """Dyestuff, balanced: Var = 7/6 (B), B the batches' part of the mean square, by hand.

    The variance of a new batch's mean is sb2 + vcov = sb2 + MSB / 30, a combination of the
    mean squares MSB (5 df) and MSE (24 df), so Satterthwaite's formula has a closed form; A
    is the asymptotic covariance, whose factors are 2 / df as theirs.
    """
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    found = fit.predict({"Batch": ["new"]}, conf_level=0.95)
    data = ranef.data.load("Dyestuff")
    means = data.groupby("Batch", observed=True)["Yield"].mean()
    msb = 5 * means.var(ddof=1)
    mse = data.groupby("Batch", observed=True)["Yield"].var(ddof=1).mean()
    variance = (msb - mse) / 5 + msb / 30
    assert found["std_error"][0] == pytest.approx(np.sqrt(variance), rel=1e-6)
    a, b = msb * (1 / 5 + 1 / 30), -mse / 5
    df = variance**2 / (a**2 / 5 + b**2 / 24)
    half = (found["conf_high"] - found["conf_low"])[0] / 2 / found["std_error"][0]
    assert half == pytest.approx(stats.t.ppf(0.975, df), rel=1e-4)


def test_a_singular_fit_has_intervals():
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    found = fit.predict({"Batch": ["A", "new"]}, conf_level=0.95)
    assert fit.optimum.singular
    assert np.isfinite(found.to_numpy()).all()
    np.testing.assert_allclose(found["std_error"], fit.tidy()["std_error"][0], rtol=1e-6)
    # a variance of zero is known to be zero: the residual's 29 df are all there is
    half = (found["conf_high"] - found["conf_low"]) / 2 / found["std_error"]
    np.testing.assert_allclose(half, stats.t.ppf(0.975, 29), rtol=1e-5)


def test_the_derivatives_of_all_structures_are_exact():
    """d b / d theta of the core's modes, by differences."""
    sleep = ranef.data.load("sleepstudy")
    for formula in (
        SLEEP,
        "Reaction ~ Days + (Days || Subject)",
        "Reaction ~ Days + ar1(0 + factor(Days) | Subject)",
        "Reaction ~ Days + cs(0 + factor(Days > 4) | Subject)",
        "Reaction ~ Days + ou(Days | Subject)",
    ):
        fit = ranef.lmm(formula, sleep)
        by_beta, by_mode = derivatives.effect_derivatives(fit.estimate)
        free = derivatives.free(fit.estimate)
        for k in range(len(fit.theta)):
            h = 1e-5 * max(abs(fit.theta[k]), 0.1) * np.eye(len(fit.theta))[k]
            if not free[k]:
                assert not by_beta[:, k].any()
                continue
            ends = [held(fit, fit.theta + s * h) for s in (1, -1)]
            for exact, high, low in zip((by_beta, *by_mode), *ends, strict=True):
                slope = (high - low) / (2 * h[k])
                scale = max(np.abs(slope).max(), 1.0)
                np.testing.assert_allclose(exact[..., k], slope, atol=1e-5 * scale)


def held(fit, theta):
    from ranef.derivatives.linear import solved

    estimate = fit.estimate
    assembly = solved(estimate).assembly
    y, taken, scale = assembly.respond(estimate.specification.y[None])
    phi = assembly.phi(theta, estimate.optimum.ranks)
    state = assembly.core.state(y[0], estimate.reml, phi, False)
    modes = [
        scale[0] * state["modes"][t.block][:, t.first : t.first + t.size] for t in assembly.terms
    ]
    return [assembly.fixed.transform @ (taken[0] + scale[0] * state["beta"]), *modes]


# --- coverage


def coverage(levels, rows, sd, replicates, seed, slope=False):
    """Share of 95% intervals that hold the truth, given theta and in full."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(levels), rows), np.tile(np.arange(float(rows)), levels)
    formula = "y ~ x + (x | g)" if slope else "y ~ 1 + (1 | g)"
    start = ranef.lmm(formula, {"y": rng.normal(size=len(g)), "g": g, "x": x})
    z = start.estimate.specification.terms[0].z
    X = np.ones((1, 1)) if not slope else np.array([[1.0, rows - 1.0]])
    own, unseen = np.zeros(1, dtype=np.int32), np.full(1, -1, dtype=np.int32)
    hits = {}
    for _ in range(replicates):
        b, fresh = sd * rng.normal(size=(levels, X.shape[1])), sd * rng.normal(size=X.shape[1])
        y = np.einsum("nr,nr->n", z, b[g]) + rng.normal(size=len(g))
        estimate = refit(start.estimate, y)
        known = parameters.parameter_covariance(estimate)
        old, new, noise = float(X[0] @ b[0]), float(X[0] @ fresh), rng.normal()
        asked = {
            "mean of an old level": ("conditional", False, own, old),
            "new observation, old level": ("conditional", True, own, old + noise),
            "mean of a new level": ("conditional", False, unseen, new),
            "new observation, new level": ("population", True, own, new + noise),
        }
        for question, (kind, one, codes, truth) in asked.items():
            line = PartRows(X, None, [(codes, X)])
            for full in (False, True):
                p = predict(
                    estimate, line, kind, conf_level=0.95, new=one,
                    parameters=lambda known=known: known, known_theta=not full,
                )  # fmt: skip
                inside = bool(p.conf_low[0] < truth < p.conf_high[0])
                hits.setdefault((question, full), []).append(inside)
    return {key: float(np.mean(found)) for key, found in hits.items()}


def test_intervals_cover_where_those_given_theta_do_not():
    """6 groups x 5 rows, equal variances; Monte Carlo error of 300: 0.0126 at 0.95."""
    found = coverage(6, 5, 1.0, 300, seed=11)
    for question in {q for q, _ in found}:
        assert found[question, True] > 0.95 - 3 * 0.0126, question
    assert found["mean of a new level", False] < 0.90
    assert found["mean of an old level", False] < found["mean of an old level", True]


@pytest.mark.study
@pytest.mark.parametrize(
    ("levels", "rows", "sd", "slope"),
    [(6, 5, 1.0, False), (6, 5, 0.4, False), (12, 8, 0.5, False), (20, 5, 0.5, False),
     (10, 6, 0.5, True)],
)  # fmt: skip
def test_study_of_coverage(levels, rows, sd, slope, capsys):
    found = coverage(levels, rows, sd, 2000, seed=5, slope=slope)
    with capsys.disabled():
        print(f"\n{levels} levels x {rows} rows, sd {sd}{', slopes' if slope else ''}")
        for question in dict.fromkeys(q for q, _ in found):
            given, full = found[question, False], found[question, True]
            print(f"  {question:28s} given theta {given:.3f}, in full {full:.3f}")
    for question in {q for q, _ in found}:
        assert found[question, True] >= found[question, False] - 0.005
        assert found[question, True] > (0.93 if "observation" in question else 0.85)
