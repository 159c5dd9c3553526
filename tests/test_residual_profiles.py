"""Profiles, hat values and tests of variances where the residuals have a structure.

References are brute force: the dense covariance matrix, and a search over the other parameters.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

import ranef
from ranef.inference.kinds import inference_of
from ranef.models.refitting import at_criterion
from ranef.questions.intervals.profile_numbers import normal_reach

SLEEP = ranef.data.load("sleepstudy")
ORTHODONT = ranef.data.load("Orthodont")
HALF = normal_reach(0.95) ** 2


def visits(rng: np.random.Generator, n: int = 30, m: int = 4) -> dict[str, np.ndarray]:
    kept = rng.random(n * m) > 0.12
    table = {
        "id": np.repeat(np.arange(n), m),
        "visit": np.tile(np.arange(m), n),
        "arm": np.repeat(np.where(np.arange(n) % 2, "drug", "placebo"), m),
        "x": rng.normal(size=n * m),
        "y": (rng.normal(size=(n, 1)) + rng.normal(size=(n, m)).cumsum(axis=1)).ravel(),
    }
    return {name: values[kept] for name, values in table.items()}


MODELS = {
    "ar1": ("Reaction ~ Days + (1 | Subject)", SLEEP, {"residual": "ar1(Days | Subject)"}),
    "singular": ("Reaction ~ Days + (Days | Subject)", SLEEP, {"residual": "ar1(Days | Subject)"}),
    "diagonal": ("Reaction ~ Days + (Days || Subject)", SLEEP, {"dispersion": "~ Days"}),
    "nugget": ("Reaction ~ Days", SLEEP, {"residual": "ou(Days | Subject, nugget=True)"}),
    "us": ("distance ~ age * Sex", ORTHODONT, {"residual": "us(age | Subject)"}),
    "by": ("distance ~ age", ORTHODONT, {"residual": "us(age | Subject, by=Sex)"}),
    "hetar1": ("distance ~ age * Sex", ORTHODONT, {"residual": "hetar1(age | Subject)"}),
    "homcs": ("distance ~ age * Sex", ORTHODONT, {"residual": "homcs(1 | Subject)"}),
    "random cs": (
        "distance ~ age + cs(1 + age | Subject)", ORTHODONT, {"dispersion": "~ Sex"},
    ),
    "toep": ("distance ~ age", ORTHODONT, {"residual": "homtoep(age | Subject)"}),
}  # fmt: skip


def slices(name: str, reml: bool):
    formula, data, given = MODELS[name]
    fit = ranef.lmm(formula, data, reml=reml, **given)
    at = type(fit)(at_criterion(fit.estimate, reml), fit.frame)
    for parameter in at.parameters:
        if not (reml and parameter.fixed):
            slice_ = inference_of(at.estimate).profile_slice(parameter)
            if slice_ is not None:
                yield parameter, slice_, at


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("reml", [False, True])
def test_slices_start_at_the_estimate_and_have_its_gradient(name, reml):
    rng = np.random.default_rng(4)
    for parameter, slice_, fit in slices(name, reml):
        assert slice_.reading(slice_.c) == pytest.approx(parameter.estimate, rel=1e-6, abs=1e-7)
        at = slice_.finish(slice_.x, slice_.c, slice_.evaluate(slice_.x, slice_.c))
        assert at.value == pytest.approx(-2.0 * fit.loglik, abs=1e-5)
        x = slice_.x + 0.05 * slice_.units * rng.normal(size=len(slice_.x))
        c = slice_.c + 0.1 * slice_.unit * (-1.0 if slice_.c >= 0 else 1.0)
        here = slice_.finish(x, c, slice_.evaluate(x, c))
        if not np.isfinite(here.value):
            continue
        for k in range(len(x) + 1):
            step = np.zeros(len(x) + 1)
            step[k] = 1e-5 * (slice_.unit if k == len(x) else slice_.units[k])
            up, down = (
                slice_.evaluate(x + sign * step[:-1], c + sign * step[-1]).value
                for sign in (1.0, -1.0)
            )
            difference = (up - down) / (2.0 * step[k])
            own = here.slope if k == len(x) else here.gradient[k]
            assert own == pytest.approx(difference, rel=2e-4, abs=2e-4 / step[k] * 1e-5), (
                parameter.label,
                k,
            )


def dense_ar1(sd: float, sigma: float, phi: float, beta: tuple[float, float] | None) -> float:
    """Minus twice the log-likelihood of sleepstudy by the dense covariance of a subject."""
    days = np.arange(10.0)
    V = sd**2 + sigma**2 * phi ** np.abs(days[:, None] - days)
    Y = SLEEP["Reaction"].to_numpy().reshape(18, 10)
    X = np.column_stack([np.ones(10), days])
    inverse = np.linalg.inv(V)
    if beta is None:
        b = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ Y.mean(axis=0))
    else:
        b = np.asarray(beta)
    rest = Y - X @ b
    return float(
        180 * np.log(2 * np.pi)
        + 18 * np.linalg.slogdet(V)[1]
        + np.einsum("ij,jk,ik->", rest, inverse, rest)
    )


HELD = {
    "phi": lambda c, t: dense_ar1(np.exp(t[0]), np.exp(t[1]), c, None),
    "sigma": lambda c, t: dense_ar1(np.exp(t[0]), c, np.tanh(t[1]), None),
    "slope": lambda c, t: dense_ar1(np.exp(t[0]), np.exp(t[1]), np.tanh(t[2]), (100 * t[3], c)),
}
STARTS = {
    "phi": [3.3, 3.6],
    "sigma": [3.3, 0.7],
    "slope": [3.3, 3.6, 0.7, 2.5],
}


@pytest.mark.parametrize(
    ("name", "label"), [("phi", "residual phi"), ("sigma", "residual sd"), ("slope", "Days")]
)
def test_ends_of_intervals_by_brute_force(name, label):
    """At each end the likelihood of a search over all others has fallen by 3.84 / 2."""
    formula, data, given = MODELS["ar1"]
    fit = ranef.lmm(formula, data, **given)
    row = ranef.profile(fit, label).confint().iloc[0]
    lowest = optimize.minimize(
        lambda t: dense_ar1(np.exp(t[0]), np.exp(t[1]), np.tanh(t[2]), None), [3.3, 3.6, 0.7],
        method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000},
    ).fun  # fmt: skip
    for end in (row["conf_low"], row["conf_high"]):
        found = optimize.minimize(
            lambda t, end=end: HELD[name](end, t), STARTS[name], method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 8000, "maxfev": 8000},
        )  # fmt: skip
        assert found.fun - lowest == pytest.approx(HALF, abs=2e-3)


def test_a_standard_deviation_that_may_be_zero():
    """The interval of the intercept's begins at 0: without it the criterion rises by 3.28."""
    formula, data, given = MODELS["ar1"]
    fit = ranef.lmm(formula, data, **given)
    row = ranef.profile(fit, "sd: Subject").confint().iloc[0]
    assert row["conf_low"] == 0.0
    assert 45 < row["conf_high"] < 55
    without = ranef.lmm("Reaction ~ Days", data, reml=False, **given)
    by_ml = ranef.lmm(formula, data, reml=False, **given)
    assert 2 * (by_ml.loglik - without.loglik) < HALF


def test_profiles_of_equal_models_are_equal():
    """A random intercept is homcs of the residuals; sd and rho follow from its variances."""
    one = ranef.lmm("distance ~ age * Sex + (1 | Subject)", ORTHODONT)
    two = ranef.lmm("distance ~ age * Sex", ORTHODONT, residual="homcs(1 | Subject)")
    pair = [ranef.profile(fit, "fixed").confint() for fit in (one, two)]
    for end in ("conf_low", "conf_high"):
        assert np.allclose(pair[0][end], pair[1][end], rtol=1e-4, atol=2e-4)


def test_unstructured_equals_two_means():
    """With two visits and all complete the difference of visits is a paired comparison."""
    rng = np.random.default_rng(3)
    before = rng.normal(size=12)
    after = before + rng.normal(0.8, 0.7, size=12)
    table = {
        "y": np.concatenate([before, after]),
        "visit": np.repeat(["a", "b"], 12),
        "id": np.tile(np.arange(12), 2),
    }
    fit = ranef.lmm("y ~ visit", table, residual="us(visit | id)")
    row = ranef.profile(fit, "visitb").confint().iloc[0]
    d = after - before
    reach = np.sqrt(np.expm1(HALF / 12) * d.var())
    assert row["conf_low"] == pytest.approx(d.mean() - reach, abs=2e-4)
    assert row["conf_high"] == pytest.approx(d.mean() + reach, abs=2e-4)


def test_by_the_restricted_likelihood_variances_alone():
    fit = ranef.lmm("distance ~ age * Sex", ORTHODONT, residual="us(age | Subject)")
    found = ranef.profile(fit, criterion="reml")
    assert not found.refitted
    limits = found.confint()
    assert (limits["conf_low"] < limits["estimate"]).all()
    assert (limits["estimate"] < limits["conf_high"]).all()
    with pytest.raises(ranef.errors.ModelError, match="does not depend on the fixed effects"):
        ranef.profile(fit, "age", criterion="reml")


def test_what_the_data_do_not_determine_has_no_profile():
    with pytest.warns(ranef.errors.RanefWarning):
        fit = ranef.lmm("distance ~ age + (1 | Subject)", ORTHODONT, residual="homcs(1 | Subject)")
    limits = ranef.profile(fit, ["age", "residual rho"]).confint()
    assert np.isfinite(limits["conf_low"].iloc[0])
    assert np.isnan(limits["conf_low"].iloc[1])


# --- hat values


def dense(fit) -> tuple[np.ndarray, np.ndarray]:
    """V and R relative to sigma^2."""
    spec, own = fit.estimate.specification, fit.estimate
    V = np.zeros((spec.n, spec.n))
    for term, psi in zip(spec.terms, own.covariances, strict=True):
        codes = spec.factors[term.factor].codes
        V += (term.z @ psi @ term.z.T) * (codes[:, None] == codes)
    from ranef.solve.structured.problem import structured_problem

    problem = structured_problem(spec)
    R = np.zeros_like(V)
    theta = problem.split(own.theta)[1]
    codes = spec.residual.group.codes if spec.residual.group is not None else np.arange(spec.n)
    for level in np.unique(codes):
        rows = np.flatnonzero(codes == level)
        by = 0 if spec.residual.by is None else int(spec.residual.by.codes[rows[0]])
        R[np.ix_(rows, rows)] = problem.rows.at(theta, rows[None], by).value[0]
    if spec.weights is not None:
        R = R / np.sqrt(np.outer(spec.weights, spec.weights))
    return V / own.sigma**2 + R, R


@pytest.mark.parametrize("name", ["ar1", "singular", "diagonal", "nugget", "us", "weights"])
def test_hat_values_are_those_of_the_dense_matrix(name):
    if name == "weights":
        weighted = SLEEP.assign(w=np.linspace(0.5, 2.0, len(SLEEP)))
        fit = ranef.lmm(
            "Reaction ~ Days + (1 | Subject)", weighted, weights="w", residual="ar1(Days | Subject)"
        )
    else:
        formula, data, given = MODELS[name]
        fit = ranef.lmm(formula, data, **given)
    V, R = dense(fit)
    X = fit.estimate.specification.X
    VX = np.linalg.solve(V, X)
    C = np.linalg.inv(X.T @ VX)
    P = np.linalg.inv(V) - VX @ C @ VX.T
    found = ranef.leverage(fit).tidy()
    assert np.allclose(found["hat"], np.diag(np.eye(len(V)) - R @ P), atol=1e-8)
    assert np.allclose(found["hat_fixed"], np.diag(X @ C @ VX.T), atol=1e-8)


def test_a_row_left_out_moves_the_coefficients_as_a_refit_at_the_same_theta():
    formula, data, given = MODELS["ar1"]
    fit = ranef.lmm(formula, data, **given)
    V, _ = dense(fit)
    X, y = fit.estimate.specification.X, fit.estimate.specification.y
    cook = fit.augment(influence=True)["cooksd"].to_numpy()
    C = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    for i in (0, 17, 93):
        kept = np.delete(np.arange(len(y)), i)
        own = np.linalg.inv(V[np.ix_(kept, kept)])
        beta = np.linalg.solve(X[kept].T @ own @ X[kept], X[kept].T @ own @ y[kept])
        d = fit.estimate.beta - beta
        expected = d @ np.linalg.inv(C) @ d / fit.sigma**2 / 2
        assert cook[i] == pytest.approx(expected, rel=1e-6)


# --- tests of variances


def test_two_variances_at_once_beside_a_structure():
    """The mixture has the weights that its information says; the bootstrap agrees."""
    _, data, given = MODELS["ar1"]
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", data, **given)
    found = ranef.variance_test(fit, whole=True).tidy().iloc[0]
    assert found["method"] == "mixture"
    assert "chi2(0)" in found["distribution"]
    assert found["p_value"] < found["p_naive"]
    with pytest.raises(ranef.errors.ModelError, match="exact"):
        ranef.variance_test(fit, whole=True, method="exact")


def test_scores_at_the_smaller_model_are_the_slopes_of_the_criterion():
    """`null_scores` against differences of the criterion of the larger model."""
    from ranef.derivatives import structured
    from ranef.solve.structured.problem import structured_problem

    small = ranef.lmm("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)").estimate
    large = ranef.lmm(
        "Reaction ~ Days + (Days || Subject)", SLEEP, residual="ar1(Days | Subject)"
    ).estimate
    rng = np.random.default_rng(1)
    Y = small.specification.y[:, None] + rng.normal(size=(180, 3))
    terms, others = structured.null_scores(small, large, Y)
    for k in range(3):
        problem = structured_problem(large.specification, Y[:, k])
        zero = [np.zeros((1, 1)) for _ in large.terms]
        at = problem.along(zero, small.theta, True)
        assert [t[k, 0, 0] for t in terms] == pytest.approx(list(at.scores[:2] / at.r2), rel=1e-6)
        assert others[0][k] == pytest.approx(at.scores[2] / at.r2, rel=1e-6)
