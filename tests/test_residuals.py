"""Linear models whose residuals have a structure: values of nlme, a dense twin, other rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.covariance.between_rows import RESIDUAL_STRUCTURES, row_correlation
from ranef.design.specify import specify
from ranef.errors import DataError, FormulaError, ModelError, UnknownColumnError
from ranef.solve.structured.problem import structured_problem

REFERENCE = json.loads((Path(__file__).parent / "reference" / "residuals.json").read_text())
FITS = REFERENCE["fits"]


def table(name):
    if name == "sleep":
        sleep = ranef.data.load("sleepstudy")
        columns = {c: np.asarray(sleep[c]) for c in ("Reaction", "Days", "Subject")}
        return pd.DataFrame(columns).astype({"Subject": str})
    found = pd.DataFrame(REFERENCE["data"][name])
    if name == "orthodont":
        found["Sex"] = pd.Categorical(found["Sex"], ["Male", "Female"])
    return found


CYCLE = "follicles ~ sin(2 * pi * time) + cos(2 * pi * time) + (1 | mare)"
GROWTH = "weight ~ time * diet + (time | rat)"
SLEEP, BY_AGE = "Reaction ~ Days + (1 | Subject)", "distance ~ age * Sex"
MODELS = {
    "ar1": ("sleep", SLEEP, {"residual": "ar1(Days | Subject)"}),
    "arma": ("sleep", SLEEP, {"residual": "arma(Days | Subject, p=1, q=1)"}),
    "car1_unequal": ("uneq", SLEEP, {"residual": "car1(Days | Subject)"}),
    "car1_slope_unequal": (
        "uneq",
        "Reaction ~ Days + (Days | Subject)",
        {"residual": "car1(Days | Subject)"},
    ),
    "exp_nugget_unequal": ("uneq", SLEEP, {"residual": "exp(Days | Subject, nugget=True)"}),
    "gls_ar1": ("sleep", "Reaction ~ Days", {"residual": "ar1(Days | Subject)"}),
    "gls_homcs": ("sleep", "Reaction ~ Days", {"residual": "homcs(1 | Subject)"}),
    "gls_us": ("orthodont", BY_AGE, {"residual": "us(age | Subject)"}),
    "gls_us_ml": ("orthodont", BY_AGE, {"residual": "us(age | Subject)", "reml": False}),
    "gls_cs": ("orthodont", BY_AGE, {"residual": "cs(age | Subject)"}),
    "gls_hetar1": ("orthodont", BY_AGE, {"residual": "hetar1(factor(age) | Subject)"}),
    "var_ident": ("orthodont", f"{BY_AGE} + (1 | Subject)", {"dispersion": "~ Sex"}),
    "ovary_ar1": ("ovary", CYCLE, {"residual": "ar1(obs | mare)"}),
    "ovary_arma": ("ovary", CYCLE, {"residual": "arma(obs | mare, p=1, q=1)"}),
    "ovary_ma2": ("ovary", CYCLE, {"residual": "arma(obs | mare, q=2)"}),
    "body_exp": ("body", GROWTH, {"residual": "exp(time | rat)"}),
    "body_gaus": ("body", GROWTH, {"residual": "gau(time | rat)"}),
    "body_power": ("body", GROWTH, {"dispersion": "~ power(time)"}),
    "body_exponent": ("body", GROWTH, {"dispersion": "~ exponential(time)"}),
    "body_ar_power": (
        "body",
        "weight ~ time * diet + (1 | rat)",
        {"residual": "car1(time | rat)", "dispersion": "~ log(time)"},
    ),
}


def fitted(name):
    data, formula, given = MODELS[name]
    return ranef.lmm(formula, table(data), **given)


@pytest.mark.parametrize("name", MODELS)
def test_values_of_nlme(name):
    """nlme 3.1-162, tests/reference/residuals.R; a higher likelihood is nlme's early stop."""
    fit, known = fitted(name), FITS[name]
    assert fit.optimum.converged
    assert fit.loglik > known["loglik"] - 1e-6
    assert fit.loglik < known["loglik"] + 0.02
    if fit.loglik > known["loglik"] + 1e-4:
        return  # another optimum's estimates
    tidy = fit.tidy()
    coef = list(known["coef"].values())
    np.testing.assert_allclose(sorted(tidy["estimate"]), sorted(coef), rtol=2e-4)
    # nlme takes its standard errors of a maximum likelihood fit times sqrt(n / (n - p))
    error = tidy["std_error"] * (1.0 if fit.reml else np.sqrt(fit.n_obs / (fit.n_obs - len(coef))))
    np.testing.assert_allclose(sorted(error), sorted(known["se"].values()), rtol=2e-3)


PARAMETERS = {
    "ar1": {"phi": 0.6531332948},
    "arma": {"phi": 0.8347070759, "theta": -0.2055279323},
    "car1_unequal": {"phi": 0.6322768934},
    "exp_nugget_unequal": {"range": 5.040821931, "nugget": 0.1348803614},
    "gls_homcs": {"rho": 0.5893102572},
    "body_exp": {"range": 3.649096231},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_by_their_names(name):
    rows = fitted(name).tidy("variance").query("component == 'residual'")
    for parameter, value in PARAMETERS[name].items():
        own = rows[rows["parameter"] == parameter]
        assert len(own) == 1
        # nlme stops where the likelihood is within 1e-6 of its maximum: flat in a range
        np.testing.assert_allclose(
            own["estimate"].iloc[0], value, rtol=1e-2 if parameter in ("range", "nugget") else 1e-4
        )
        assert own["conf_low"].iloc[0] < value < own["conf_high"].iloc[0]


def test_standard_deviations_of_places():
    """varIdent and corSymm of the same gls: sigma times the ratios; correlations by pairs."""
    known = FITS["gls_us"]
    rows = fitted("gls_us").tidy("variance")
    sds = rows.query("parameter == 'sd'")
    assert list(sds["term"]) == ["age8", "age10", "age12", "age14"]
    wanted = known["sigma"] * np.array([1.0, *known["variance"].values()])
    np.testing.assert_allclose(sds["estimate"], wanted, rtol=1e-5)
    corr = rows.query("parameter == 'corr'")
    np.testing.assert_allclose(corr["estimate"], known["correlation"], rtol=1e-4)
    assert list(corr["term2"])[:3] == ["age10", "age12", "age14"]


# ------------------------------------------------------------------ a dense twin


def people(seed=4, n=9, m=6):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "g": np.repeat([f"p{i}" for i in range(n)], m),
            "t": np.tile(np.arange(m), n),
            "x": rng.normal(size=n * m),
            "u": rng.uniform(0.5, 2.0, n * m),
            "v": rng.uniform(0.0, 2.0, n * m),
            "item": rng.integers(0, 5, n * m).astype(str),
            "w": rng.uniform(0.5, 2.0, n * m),
        }
    )
    data["arm"] = np.where(data["g"].isin([f"p{i}" for i in range(4)]), "a", "b")
    data["half"] = data["t"] // 3
    noise = rng.normal(size=(n, m)).cumsum(axis=1).ravel()
    data["y"] = 1 + data["x"] + np.repeat(rng.normal(size=n), m) + 0.5 * noise
    return data.sample(frac=0.9, random_state=seed)


def dense_criterion(spec, problem, theta, reml):
    """Minus twice the profiled log-likelihood from V itself."""
    random, own = problem.split(theta)
    term, n = spec.residual, spec.n
    codes = np.arange(n) if term.group is None else term.group.codes
    V = np.zeros((n, n))
    for level in np.unique(codes):
        rows = np.flatnonzero(codes == level)
        by = 0 if term.by is None else int(term.by.codes[rows[0]])
        V[np.ix_(rows, rows)] = problem.rows.at(own, rows[None], by).value[0]
    if spec.weights is not None:
        V /= np.sqrt(np.outer(spec.weights, spec.weights))
    for one, structure, part in zip(spec.terms, problem.structures, random, strict=True):
        level = spec.factors[one.factor].codes
        V += (level[:, None] == level) * (one.z @ structure.psi(part) @ one.z.T)
    W = np.linalg.inv(V)
    XX = spec.X.T @ W @ spec.X
    rest = spec.y - spec.X @ np.linalg.solve(XX, spec.X.T @ W @ spec.y)
    r2, m = rest @ W @ rest, n - spec.p if reml else n
    value = np.linalg.slogdet(V)[1] + m * (1 + np.log(2 * np.pi * r2 / m))
    return value + (np.linalg.slogdet(XX)[1] if reml else 0.0)


TWINS = [
    ("y ~ x + (1 | g)", {"residual": "ar1(t | g)"}),
    ("y ~ x + (x | g)", {"residual": "ou(v | g)"}),
    ("y ~ x", {"residual": "us(t | g)"}),
    ("y ~ x", {"residual": "us(half | g) * ar1(t | g)"}),
    ("y ~ x + (1 | g) + (1 | item)", {"residual": "homtoep(t | g)"}),
    ("y ~ x + (1 | g/half)", {"residual": "arma(t | g, p=1, q=1)"}),
    ("y ~ x + (1 | g)", {"residual": "cs(t | g)", "weights": "w"}),
    ("y ~ x + (1 | g)", {"residual": "hetar1(t | g)", "dispersion": "~ arm"}),
    ("y ~ x", {"residual": "toep(t | g, by=arm)"}),
    ("y ~ x", {"residual": "us(half | g, by=arm) * homcs(t | g)"}),
    ("y ~ x + (1 | g)", {"residual": "ante(t | g)"}),
    ("y ~ x", {"residual": "homante(t | g)"}),
    ("y ~ x", {"residual": "exp(u + v, nugget=True)"}),
    ("y ~ x + (1 | g)", {"residual": "gau(v | g, nugget=True)"}),
    ("y ~ x + (1 | g)", {"residual": "mat(v | g)"}),
    ("y ~ x + (1 | g)", {"residual": "car1(v | g)"}),
    ("y ~ x + (1 | g)", {"residual": "homcs(1 | g)"}),
    ("y ~ x + (1 | item)", {"dispersion": "~ power(u) + arm"}),
]


@pytest.mark.parametrize(("formula", "given"), TWINS, ids=[str(g) for _, g in TWINS])
def test_dense_twin(formula, given):
    """Value to 1e-8, gradient and Hessian by differences, of both criteria."""
    spec = specify(formula, people(), **given)
    problem = structured_problem(spec)
    rng = np.random.default_rng(1)
    random = rng.uniform(0.4, 0.9, problem.n_random)
    own = problem.rows.starts()[0]
    own = own + 0.05 * rng.normal(size=len(own)) * np.maximum(np.abs(own), 0.2)
    theta = np.concatenate([random, own])
    for reml in (True, False):
        at = problem.point(theta, reml, 2)
        assert abs(at.criterion - dense_criterion(spec, problem, theta, reml)) < 1e-8
        for i in range(len(theta)):
            step = np.zeros(len(theta))
            step[i] = 1e-5 * max(1.0, abs(theta[i]))
            up, down = (problem.point(theta + s * step, reml, 1) for s in (1, -1))
            slope = (up.criterion - down.criterion) / (2 * step[i])
            assert abs(slope - at.gradient[i]) < 1e-6 * max(1.0, abs(slope))
            bend = (up.gradient - down.gradient) / (2 * step[i])
            scale = max(1.0, np.abs(at.hessian).max())
            np.testing.assert_allclose(bend, at.hessian[i], atol=2e-6 * scale)


@pytest.mark.parametrize("kind", RESIDUAL_STRUCTURES)
def test_derivatives_of_correlations(kind):
    names = tuple("abcd") if kind not in ("ar1", "arma", "car1", "ou", "exp", "gau", "mat") else ()
    where = np.array([[0, 1, 3], [1, 2, 3]]) if names else np.array([[0.0, 1.0, 3.0]])[:, :, None]
    given = {"order": (2, 1)} if kind == "arma" else {}
    own = row_correlation(kind, names, **given)
    rho = own.starts()[0] + 0.05
    jet = own.at(rho, where, True)
    for i in range(len(rho)):
        step = np.zeros(len(rho))
        step[i] = 1e-5
        up, down = own.at(rho + step, where), own.at(rho - step, where)
        np.testing.assert_allclose((up.value - down.value) / 2e-5, jet.first[i], atol=1e-7)
        for j in range(len(rho)):
            bent = jet.second.get((min(i, j), max(i, j)), 0.0)
            bent = bent * np.ones_like(jet.value)
            np.testing.assert_allclose((up.first[j] - down.first[j]) / 2e-5, bent, atol=1e-6)


# ------------------------------------------------------------------ the same model in other words


@pytest.fixture(scope="module")
def pair():
    """A random intercept, and the same covariance as a structure of the residuals."""
    sleep = table("sleep")
    return (
        ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep),
        ranef.lmm("Reaction ~ Days", sleep, residual="homcs(1 | Subject)"),
    )


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "residual", "normal"])
def test_tests_of_an_equal_model(pair, df):
    one, two = (fit.tidy(df=df) for fit in pair)
    for column in ("estimate", "std_error", "df"):
        np.testing.assert_allclose(one[column], two[column], rtol=1e-6)


def test_robust_errors_of_an_equal_model(pair):
    codes = pair[0].estimate.factors[0].codes
    one, two = (fit.inference.sandwich(codes) for fit in pair)
    np.testing.assert_allclose(one.vcov, two.vcov, rtol=1e-6)


def test_kenward_roger_of_unstructured_is_the_paired_t_test():
    """R's sleep: t.test(extra ~ group, paired = TRUE) has 9 df and the standard error .388959."""
    extra = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    extra += [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    data = {"extra": extra, "group": ["1"] * 10 + ["2"] * 10, "ID": [*range(10), *range(10)]}
    fit = ranef.lmm("extra ~ group", data, residual="us(group | ID)")
    row = fit.tidy(df="kenward-roger").iloc[1]
    np.testing.assert_allclose(row["std_error"], 0.388959, rtol=1e-5)
    np.testing.assert_allclose(row["df"], 9.0, rtol=1e-6)


def test_a_random_effect_is_told_from_ar1_as_the_engine_has_it():
    """With phi held near zero the structured path is the plain model's, posterior included."""
    sleep = table("sleep")
    plain = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    spec = specify("Reaction ~ Days + (Days | Subject)", sleep, residual="ar1(Days | Subject)")
    problem = structured_problem(spec)
    theta = np.append(plain.theta, 1e-12)
    at = problem.point(theta, True, 0)
    np.testing.assert_allclose(-0.5 * at.criterion, plain.loglik, rtol=1e-10)
    from ranef.solve.structured.kept import SolvedRows

    found = SolvedRows(problem, at)
    np.testing.assert_allclose(found.modes()[0], plain.estimate.modes[0], rtol=1e-5)
    given, error = found.conditional()[0]
    from ranef.derivatives.linear import conditional_covariances

    known = conditional_covariances(plain.estimate)[0]
    np.testing.assert_allclose(found.sigma**2 * given, known[0], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found.sigma**2 * error, known[1], rtol=1e-5, atol=1e-8)


def test_modes_and_their_derivatives():
    """Blups against Psi Z'V^-1 (y - X beta); derivatives against a refit at another theta."""
    from ranef.derivatives import linear
    from ranef.solve.structured.kept import solved_rows

    fit = ranef.lmm("y ~ x + (1 | g) + (1 | item)", people(), residual="ar1(t | g)")
    own = fit.estimate
    problem = structured_problem(own.specification)
    beta, modes = linear.effect_derivatives(own)
    for i in np.flatnonzero(linear.free(own)):
        step = np.zeros(len(own.theta))
        step[i] = 1e-4
        up, down = (solved_rows(problem, own.theta + s * step, True) for s in (1, -1))
        change = (problem.coefficients(up.at) - problem.coefficients(down.at)) / 2e-4
        np.testing.assert_allclose(change, beta[:, i], atol=2e-5)
        for a, b, d in zip(up.modes(), down.modes(), modes, strict=True):
            np.testing.assert_allclose((a - b) / 2e-4, d[:, :, i], atol=2e-5)


# ------------------------------------------------------------------ rows


def test_the_order_of_rows_does_not_matter():
    sleep = table("sleep")
    for residual in ("ar1(Days | Subject)", "us(Days | Subject)", "ou(Days | Subject)"):
        formula = "Reaction ~ Days"
        one = ranef.lmm(formula, sleep, residual=residual)
        two = ranef.lmm(formula, sleep.sample(frac=1.0, random_state=2), residual=residual)
        np.testing.assert_allclose(one.loglik, two.loglik, atol=1e-7)
        np.testing.assert_allclose(one.coef, two.coef, rtol=1e-6)


def test_gaps_count_by_the_values_of_time():
    """Rows left out leave a gap: AR(1) equals its continuous form there."""
    uneq = table("uneq")
    one = ranef.lmm(SLEEP, uneq, residual="ar1(Days | Subject)")
    np.testing.assert_allclose(one.loglik, FITS["car1_unequal"]["loglik"], atol=1e-6)
    gone = table("sleep")
    gone["Days"] = gone["Days"].astype(float)
    gone.loc[[4, 17, 60], "Days"] = np.nan
    fit = ranef.lmm(SLEEP, gone, residual="ar1(Days | Subject)")
    assert fit.n_obs == 177


def test_nights_are_not_crossed():
    """Lags within day in person: days are independent given the person."""
    sleep = table("sleep")
    sleep["night"] = sleep["Days"] // 5
    nested = ranef.lmm(SLEEP, sleep, residual="ar1(Days | Subject/night)")
    joined = sleep.assign(both=sleep["Subject"] + "_" + sleep["night"].astype(str))
    same = ranef.lmm(SLEEP, joined, residual="ar1(Days | both)")
    np.testing.assert_allclose(nested.loglik, same.loglik, atol=1e-7)
    assert nested.loglik < fitted("ar1").loglik - 1


def test_clock_time_counts_in_hours_across_a_change_of_the_clock():
    sleep = table("sleep")
    start = pd.Timestamp("2024-03-30 20:00", tz="Europe/Berlin")
    sleep["when"] = start + pd.to_timedelta(sleep["Days"] * 6, unit="h")
    sleep["hours"] = 6.0 * sleep["Days"]
    one = ranef.lmm(SLEEP, sleep, residual="ou(when | Subject)")
    two = ranef.lmm(SLEEP, sleep, residual="ou(hours | Subject)")
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-6)


def test_two_rows_at_one_place_are_refused_by_name():
    sleep = table("sleep")
    twice = pd.concat([sleep, sleep.iloc[[3]]])
    with pytest.raises(DataError, match=r"Subject 308 has two rows at the same Days"):
        ranef.lmm(SLEEP, twice, residual="ar1(Days | Subject)")
    fit = ranef.lmm(SLEEP, twice, residual="ou(Days | Subject, nugget=True)")
    assert fit.n_obs == 181


@pytest.mark.parametrize(
    ("residual", "error", "words"),
    [
        ("ar1(Dayz | Subject)", UnknownColumnError, "did you mean 'Days'"),
        ("ar2(Days | Subject)", FormulaError, "no residual structure 'ar2'"),
        ("Days | Subject", FormulaError, "no structure"),
        ("ar1(1 | Subject)", FormulaError, "needs to know where each row stands"),
        ("ar1(Days + Reaction | Subject)", FormulaError, "takes one position"),
        ("us(Days | Subject) * ar1(Days | Days)", FormulaError, "different groups"),
        ("cs(Days | Subject) * cs(Days | Subject)", ModelError, "one part of a product"),
        ("ar1(Days | Subject, nugget=True)", FormulaError, "a nugget belongs to"),
        ("arma(Days | Subject)", FormulaError, "needs its orders"),
        ("ar1(Days | Subject, order=2)", FormulaError, "no argument 'order'"),
        ("ar1(Reaction | Subject)", ModelError, "whole numbers"),
        ("us(Reaction | Subject)", ModelError, "too many"),
        ("ar1(Days | Subject, by=Days)", ModelError, "must be the same in all rows"),
        (3, FormulaError, "residual is a text"),
    ],
)
def test_errors_say_what_and_where(residual, error, words):
    with pytest.raises(error, match=words):
        ranef.lmm(SLEEP, table("sleep"), residual=residual)


def test_other_arguments_that_do_not_go_with_it():
    sleep = table("sleep")
    with pytest.raises(ModelError, match="do not go with a structure"):
        ranef.lmm(SLEEP, sleep, residual="ar1(Days | Subject)", fixed={"sd: Subject": 3.0})
    with pytest.raises(ModelError, match="one path"):
        ranef.lmm(SLEEP, sleep, residual="ar1(Days | Subject)", path="single")
    with pytest.raises(FormulaError, match="keeps its intercept"):
        ranef.lmm(SLEEP, sleep, dispersion="~ 0 + Days")
    with pytest.raises(FormulaError, match="glmm"):
        ranef.lmm(SLEEP, sleep, dispersion="~ (1 | Subject)")


def test_negative_correlations_where_the_data_say_so():
    """Litters that compete: rho below zero, above -1 / (n - 1)."""
    rng = np.random.default_rng(5)
    share = rng.dirichlet(np.ones(4), 60) * 10
    data = {"y": share.ravel(), "g": np.repeat(np.arange(60), 4)}
    data["y"] = data["y"] + 0.3 * rng.normal(size=240)
    fit = ranef.lmm("y ~ 1", data, residual="homcs(1 | g)")
    rho = fit.tidy("variance").set_index("parameter").loc["rho", "estimate"]
    assert -1 / 3 < rho < -0.25
    plain = ranef.lmm("y ~ 1 + (1 | g)", data)
    assert fit.loglik > plain.loglik + 5


def test_what_the_data_do_not_determine_is_said():
    """An intercept beside compound symmetry: the sum of two variances is known, not each."""
    with pytest.warns(ranef.errors.RankWarning, match="do not tell"):
        fit = ranef.lmm(SLEEP, table("sleep"), residual="homcs(1 | Subject)")
    assert np.isnan(fit.tidy("variance")["estimate"]).all()
    plain = ranef.lmm(SLEEP, table("sleep"))
    np.testing.assert_allclose(fit.loglik, plain.loglik, atol=1e-6)
    np.testing.assert_allclose(fit.tidy()["std_error"], plain.tidy()["std_error"], rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_intercept_beside_unstructured_residuals_inside_persons(seed):
    """Where a search stops short, the slope that it leaves bends the flat direction."""
    rng = np.random.default_rng(seed)
    person, day, prompt = (i.ravel() for i in np.indices((20, 3, 4)))
    e = rng.normal(size=(60, 4)).cumsum(axis=1).ravel() * 0.5
    y = rng.normal(size=20)[person] + 0.5 * rng.normal(size=60)[3 * person + day] + e
    rows = pd.DataFrame({"y": y, "person": person, "day": day, "prompt": prompt})
    with pytest.warns(ranef.errors.RankWarning, match=r"do not tell \(1 \| day:person\), us"):
        fit = ranef.lmm("y ~ 1 + (1 | person/day)", rows.sample(frac=0.9, random_state=seed),
                        residual="us(prompt | person/day)")  # fmt: skip
    estimates = fit.tidy("variance").set_index("group")["estimate"]
    assert fit.optimum.flat[0].terms == (0,)
    assert np.isnan(estimates["day:person"])
    assert np.isfinite(estimates["person"])


# ------------------------------------------------------------------ what a fit answers


@pytest.fixture(scope="module")
def ar1():
    return fitted("ar1")


def test_simulated_responses_have_the_covariance(ar1):
    draws = np.asarray(ar1.simulate(4000, rng=1))
    rest = draws - np.asarray(ar1.predict(kind="typical"))[:, None]
    per = rest.reshape(18, 10, 4000)
    got = np.einsum("gid,gjd->ij", per, per) / (18 * 4000)
    lag = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    own = ar1.estimate
    wanted = own.covariances[0][0, 0] + own.sigma**2 * own.theta[-1] ** lag
    np.testing.assert_allclose(got, wanted, rtol=0.05)


def test_bootstrap_and_profile_free_questions(ar1):
    found = ranef.bootstrap(ar1, n=12, rng=3)
    rows = found.tidy()
    assert {"phi"} <= set(rows["parameter"].dropna()) if "parameter" in rows else True
    assert ar1.refit(2 * table("sleep")["Reaction"]).sigma == pytest.approx(2 * ar1.sigma, rel=1e-5)


def test_predictions_of_new_observations(ar1):
    """Their variance is that of the row: of a heteroscedastic model its own."""
    fit = ranef.lmm(SLEEP, table("sleep"), dispersion="~ Days")
    new = {"Days": [0.0, 9.0], "Subject": ["308", "new"]}
    mean = fit.predict(new, kind="typical", conf_level=0.95)
    own = fit.predict(new, kind="typical", conf_level=0.95, interval="new")
    added = np.asarray(own["std_error"]) ** 2 - np.asarray(mean["std_error"]) ** 2
    wanted = (fit.sigma * np.exp(fit.theta[-1] * np.array([0.0, 9.0]))) ** 2
    np.testing.assert_allclose(added, wanted, rtol=0.05)


@pytest.mark.parametrize(("reml", "loglik", "slope", "sigma"), [
    (True, -935.580959855, 0.09003956203, 29.86127017),
    (False, -938.716365659, 0.09044488179, 29.64075935),
])  # fmt: skip
def test_rows_whose_variance_has_no_parameter(reml, loglik, slope, sigma, agree):
    """nlme 3.1-162, gls(Reaction ~ Days, weights = varExp(form = ~ Days)); at day 0 sigma alone."""
    fit = ranef.lmm(
        "Reaction ~ Days", table("sleep"), dispersion="~ Days", random="none", reml=reml
    )
    agree("ranef.lmm", "residual variance exp(2 delta Days) without random effects",
          [fit.loglik, fit.theta[-1], fit.sigma], [loglik, slope, sigma], peer="nlme 3.1-162",
          rtol=1e-5)  # fmt: skip


def series(rho: float, seed: int = 3) -> dict[str, np.ndarray]:
    """Forty series of six rows near whole times, correlated by rho from one to the next."""
    rng = np.random.default_rng(seed)
    n, m = 40, 6
    e = rng.normal(size=(n, m))
    for j in range(1, m):
        e[:, j] = rho * e[:, j - 1] + e[:, j]
    t = np.tile(np.arange(m) * 1.0, n) + rng.uniform(0, 0.3, n * m)
    g = np.repeat(np.arange(n), m)
    return {"y": e.ravel(), "g": g, "t": t, "x": rng.normal(size=n * m)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("structure", [
    "car1(t | g)", "ou(t | g)", "exp(t | g)", "gau(t | g)", "mat(t | g)",
    "ou(t | g, nugget=True)", "gau(t | g, nugget=True)", "car1(t | g, nugget=True)",
])  # fmt: skip
def test_correlations_that_cannot_be_negative_end_at_none(structure, tmp_path):
    """The optimum is that of independent residuals, and nothing is claimed of what is left."""
    data = series(-0.5)
    fit = ranef.lmm("y ~ x", data, residual=structure)
    assert fit.optimum.converged
    assert len(fit.optimum.ends) == 1
    assert fit.optimum.ends[0] in str(fit.summary()).replace("\n", " ")
    assert fit.loglik == pytest.approx(ranef.lmm("y ~ x", data, random="none").loglik, abs=1e-6)
    rows = fit.tidy("variance")
    assert rows["conf_low"].isna()[1:].all()
    assert rows["conf_high"].isna()[1:].all()
    assert np.isfinite(fit.tidy(df="kenward-roger")["std_error"]).all()
    assert np.isfinite(fit.confint("profile")[["conf_low", "conf_high"]]).all(axis=None)
    fit.save(tmp_path / "a.ranef")
    assert ranef.load(tmp_path / "a.ranef").optimum.ends == fit.optimum.ends


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reml", [True, False])
def test_a_nugget_of_zero_is_proved(reml):
    found = 0
    for seed in range(8):
        data = series(0.7, seed)
        plain = ranef.lmm("y ~ x", data, residual="ou(t | g)", reml=reml)
        fit = ranef.lmm("y ~ x", data, residual="ou(t | g, nugget=True)", reml=reml)
        assert fit.optimum.converged
        if not fit.optimum.ends:
            assert fit.loglik > plain.loglik
            continue
        found += 1
        assert fit.optimum.ends == ("the nugget of ou(t | g, nugget = True) is zero",)
        assert fit.theta[-1] == 0.0
        assert fit.loglik == pytest.approx(plain.loglik, abs=1e-7)
        assert fit.theta[0] == pytest.approx(plain.theta[0], rel=1e-4)
        assert fit.optimum.gradient[-1] >= 0
        low, high = fit.tidy("variance")[["conf_low", "conf_high"]].iloc[-1]
        assert np.isnan([low, high]).all()
    assert found >= 2


FOUND = {
    102: "a nugget of zero",
    132: "a nugget of zero beside slopes of rank one",
    134: "a range beside slopes of rank one, whose nugget of zero is a lower optimum",
    655: "no correlation is left beside an intercept",
    661: "a better optimum elsewhere",
    700: "no correlation is left, nearly flat on the way",
}


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.values())
def test_what_the_study_of_searches_found_stays_mended(seed):
    from test_study_residuals import random_problem

    formula, structure, data, _ = random_problem(seed)
    fit = ranef.lmm(formula, data, residual=structure, reml=bool(seed % 2))
    assert fit.optimum.converged
    assert bool(fit.optimum.ends) == (seed not in (134, 661))
    best = {134: -368.3259052, 661: -20.1577385}  # searches from random thetas
    assert fit.loglik > best.get(seed, -np.inf) - 1e-3


def test_an_unbounded_likelihood_is_still_refused():
    data = series(0.3)
    data["y"] = data["y"].reshape(40, 6)[:, :1].repeat(6, axis=1).ravel()
    for structure in ("ou(t | g, nugget=True)", "gau(t | g, nugget=True)", "exp(t | g)"):
        with pytest.raises(ranef.errors.ModelError, match="unbounded"):
            ranef.lmm("y ~ 1", data, residual=structure)


def test_saved_and_loaded(ar1, tmp_path):
    for name in ("ar1", "gls_us", "exp_nugget_unequal", "body_ar_power"):
        fit = fitted(name)
        path = tmp_path / f"{name}.ranef"
        fit.save(path)
        again = ranef.load(path)
        assert again.loglik == fit.loglik
        pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
        pd.testing.assert_frame_equal(again.tidy("variance"), fit.tidy("variance"))


def test_a_saved_file_that_lies_is_refused(ar1):
    from dataclasses import replace

    from ranef.errors import FileError
    from ranef.storage.checks import check_residual

    term = fitted("gls_us").estimate.specification.residual
    check_residual(term)
    part = term.parts[0]
    for wrong in (
        replace(term, parts=(replace(part, where=part.where + 9),)),
        replace(term, parts=(replace(part, kind="ar9"),)),
        replace(term, group=None),
        replace(term, W=np.zeros((len(term.W), 2))),
    ):
        with pytest.raises(FileError):
            check_residual(wrong)


def test_words(ar1):
    text = str(ar1)
    assert "first-order autoregressive, ar1(Days | Subject)" in text
    assert "residual='ar1(Days | Subject)'" in ar1.description.call()
    assert "sigma^2 R" in ar1.equation().text
    assert "autoregressive" in str(ar1.methods())


def test_anova_compares_structures(ar1):
    """The likelihood ratio of nlme: AR(1) against independence, 2 (868.0955 - 893.2325)."""
    plain = ranef.lmm(SLEEP, table("sleep"))
    np.testing.assert_allclose(2 * (ar1.loglik - plain.loglik), 50.2740, atol=1e-3)


def test_whitened_residuals_are_independent(ar1):
    from ranef.models.noise import Noise

    spec, own = ar1.estimate.specification, ar1.estimate
    noise = Noise.of(own, spec.residual, spec.weights, spec.n)
    e = noise.draw(np.random.default_rng(0))
    np.testing.assert_allclose(noise.colour(noise.whiten(e)), e, rtol=1e-9)
    rows = np.flatnonzero(spec.residual.group.codes == 0)
    R = noise.covariance(rows[None])[0]
    L = np.linalg.cholesky(R[np.ix_(np.argsort(rows), np.argsort(rows))])
    np.testing.assert_allclose(noise.whiten(e)[rows], np.linalg.solve(L, e[rows]), rtol=1e-9)
    np.testing.assert_allclose(
        noise.precision().toarray()[np.ix_(rows, rows)], np.linalg.inv(R), rtol=1e-8, atol=1e-10
    )


def test_new_rows_are_drawn_with_the_correlation_of_their_groups():
    """Rows of a new group, AR(1): correlations of draws by lag; typical rows need no time."""
    fit = fitted("gls_ar1")
    new = {"Days": [0.0, 1.0, 3.0], "Subject": ["new", "new", "new"]}
    draws = np.asarray(fit.simulate(6000, rng=2, new=new))
    got = np.corrcoef(draws)
    phi = fit.theta[-1]
    np.testing.assert_allclose(got[0, 1:], [phi, phi**3], atol=0.04)
    assert len(fit.predict({"Days": [1.0]}, kind="typical")) == 1
    own = ranef.lmm("Reaction ~ 1", table("sleep"), residual="cs(Days | Subject)")
    assert len(own.predict({"Subject": ["308"]}, kind="typical")) == 1
    with pytest.raises(ranef.errors.LevelError, match="a place that the fit has not seen: 12"):
        own.predict({"Days": [12.0]}, kind="typical", conf_level=0.9, interval="new")


def test_questions_of_a_fit_without_random_effects():
    fit = fitted("gls_us")
    assert fit.simulate(2, rng=1, kind="posterior").shape == (108, 2)
    average = ranef.average(fit, "age", kind="conditional").tidy()
    np.testing.assert_allclose(
        average["estimate"].iloc[0], ranef.average(fit, "age").tidy()["estimate"].iloc[0]
    )
    with pytest.raises(ModelError, match="needs random effects"):
        ranef.rank(fit)


@pytest.mark.parametrize("reml", [True, False])
def test_sums_by_places_are_those_of_the_groups(reml):
    """A trial by visit worked on as one padded table, and group by group."""
    from dataclasses import replace

    rng = np.random.default_rng(8)
    n, m = 40, 5
    kept = rng.random(n * m) > 0.3
    rows = {
        "id": np.repeat(np.arange(n), m)[kept],
        "visit": np.tile(np.arange(m), n)[kept],
        "x": rng.normal(size=n * m)[kept],
        "y": (rng.normal(size=(n, 1)) + rng.normal(size=(n, m))).ravel()[kept],
    }
    weights = np.exp(rng.normal(size=kept.sum()))
    for weighted in (None, weights):
        spec = specify("y ~ x", rows, residual="us(visit | id)", weights=weighted)
        problem = structured_problem(spec)
        by_group = replace(problem)
        by_group.__dict__["places"] = None
        assert problem.places is not None
        A = np.cov(rng.normal(size=(m, 30)))
        entries = problem.rows.correlations[0][0].entries
        theta = np.array([A[i, j] / A[0, 0] for i, j in entries])
        for level in (0, 1, 2):
            one, two = (p.point(theta, reml, level) for p in (problem, by_group))
            assert one.criterion == pytest.approx(two.criterion, abs=1e-9)
            np.testing.assert_allclose(one.beta, two.beta, atol=1e-11)
            np.testing.assert_allclose(one.gradient, two.gradient, atol=1e-8)
            np.testing.assert_allclose(one.hessian, two.hessian, rtol=1e-8, atol=1e-8)
        W = rng.normal(size=(len(theta),) * 2)
        W = W + W.T
        for a, b in zip(problem.weighted(one, W), by_group.weighted(two, W), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
        one, two = (p.along([], theta, reml) for p in (problem, by_group))
        np.testing.assert_allclose(one.traces, two.traces, rtol=1e-9)
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-9)
        assert problem.point(-theta, reml) is None


def test_toeplitz_has_the_lags_that_occur():
    """Ages 8 to 14 by twos have three lags; another one is refused by name."""
    orthodont = table("orthodont")
    fit = ranef.lmm("distance ~ age", orthodont, residual="homtoep(age | Subject)")
    steps = {
        **{k: list(orthodont[k]) for k in orthodont},
        "t": [(a - 8) // 2 for a in orthodont["age"]],
    }
    other = ranef.lmm("distance ~ age", steps, residual="homtoep(t | Subject)")
    assert fit.loglik == pytest.approx(other.loglik, abs=1e-7)
    assert fit.tidy("variance")["term2"].tolist()[1:] == ["lag 2", "lag 4", "lag 6"]
    new = {"age": [8.0, 9.0], "Subject": ["new", "new"]}
    with pytest.raises(ModelError, match="for each lag of the fit, 2, 4, 6"):
        fit.simulate(2, rng=1, new=new)


def test_step_by_step_equals_the_matrix():
    """A first-order process taken step by step, and by its groups' matrices."""
    from dataclasses import replace

    spec = specify("y ~ x + (x | g)", people(n=12, m=9), residual="ou(v | g)")
    problem = structured_problem(spec)
    assert all(batch.in_order for chunk in problem.chunks for batch in chunk.batches)
    dense = replace(
        problem,
        chunks=tuple(
            replace(c, batches=tuple(replace(b, in_order=False) for b in c.batches))
            for c in problem.chunks
        ),
    )
    theta = np.array([0.8, 0.1, 0.5, 0.4])
    one, two = problem.point(theta, True, 2), dense.point(theta, True, 2)
    np.testing.assert_allclose(one.criterion, two.criterion, rtol=1e-12)
    np.testing.assert_allclose(one.gradient, two.gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.hessian, two.hessian, rtol=1e-8, atol=1e-8)
    quick, slow = problem.point(theta, True, 1), dense.point(theta, True, 1)
    np.testing.assert_allclose(quick.hessian, slow.hessian, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("power", [-12, -6, 6, 12])
def test_units_do_not_matter(power):
    """Powers of ten of response, predictor, weights, time and dispersion's variable."""
    sleep, unit = table("sleep"), 10.0**power
    formula = "Reaction ~ Days + (Days | Subject)"
    base = ranef.lmm(formula, sleep, residual="ou(Days | Subject)")
    n, m = base.n_obs, base.n_obs - 2
    larger = sleep.assign(Reaction=unit * sleep["Reaction"])
    times = ranef.lmm(formula, larger, residual="ou(Days | Subject)")
    np.testing.assert_allclose(times.loglik, base.loglik - m * np.log(unit), rtol=1e-9, atol=1e-4)
    scaled = sleep.assign(hours=unit * sleep["Days"])
    clock = ranef.lmm(formula, scaled, residual="ou(hours | Subject)")
    np.testing.assert_allclose(clock.loglik, base.loglik, atol=1e-5)
    slope = ranef.lmm("Reaction ~ hours + (hours | Subject)", scaled, residual="ou(Days | Subject)")
    np.testing.assert_allclose(slope.loglik, base.loglik - np.log(unit), atol=1e-4)
    weighed = ranef.lmm(formula, sleep.assign(w=unit), residual="ou(Days | Subject)", weights="w")
    np.testing.assert_allclose(weighed.loglik, base.loglik, atol=1e-4)
    np.testing.assert_allclose(weighed.sigma, base.sigma * np.sqrt(unit), rtol=1e-5)
    assert n == 180
    spread = ranef.lmm(SLEEP, scaled, dispersion="~ hours")
    plain = ranef.lmm(SLEEP, sleep, dispersion="~ Days")
    np.testing.assert_allclose(spread.loglik, plain.loglik, atol=1e-6)


def test_an_unbounded_likelihood_is_refused():
    sleep = table("sleep")
    sleep["y"] = pd.factorize(sleep["Subject"])[0].astype(float)
    with pytest.raises(ModelError, match="unbounded"):
        ranef.lmm("y ~ 1", sleep, residual="homcs(1 | Subject)")


@pytest.mark.parametrize("name", ["gls_ar1", "ar1"])
def test_the_next_row_given_the_last(name):
    """By the whole covariance matrix; of an AR(1) alone by phi times the last residual."""
    fit, sleep = fitted(name), table("sleep")
    own = fit.estimate
    last = sleep[sleep["Subject"] == "308"].tail(2)
    new = {"Days": [10.0, 12.0], "Subject": ["308", "308"]}
    found = fit.predict(new, history=last, conf_level=0.95, interval="new")
    rows = np.flatnonzero(sleep["Subject"] == "308")
    days = np.append(np.asarray(sleep["Days"], dtype=float)[rows], [10.0, 12.0])
    V = own.sigma**2 * own.theta[-1] ** np.abs(days[:, None] - days)
    V = V + (own.covariances[0][0, 0] if name == "ar1" else 0.0)
    e = np.asarray(sleep["Reaction"])[rows] - own.beta[0] - own.beta[1] * days[:10]
    weights = np.linalg.solve(V[:10, :10], V[:10, 10:]).T
    mean = own.beta[0] + own.beta[1] * days[10:] + weights @ e
    np.testing.assert_allclose(found["estimate"], mean, rtol=1e-8)
    X = np.column_stack([np.ones(12), days])
    d = X[10:] - weights @ X[:10]
    variance = np.diag(V)[10:] - np.sum(weights * V[10:, :10], axis=1)
    variance = variance + np.sum(d @ own.coefficient_vcov * d, axis=1)
    np.testing.assert_allclose(found["std_error"], np.sqrt(variance), rtol=1e-8)
    if name == "gls_ar1":
        step = own.theta[-1] ** np.array([1.0, 3.0]) * e[-1]
        np.testing.assert_allclose(mean - own.beta[0] - own.beta[1] * days[10:], step, rtol=1e-8)


def test_the_next_row_of_a_new_group():
    """A person that the fit has not seen, with two prompts of its own."""
    fit = fitted("ar1")
    own, phi = fit.estimate, fit.theta[-1]
    seen = {"Days": [0.0, 1.0], "Subject": ["new", "new"], "Reaction": [300.0, 280.0]}
    found = fit.predict({"Days": [2.0], "Subject": ["new"]}, history=seen)
    days = np.array([0.0, 1.0, 2.0])
    V = own.sigma**2 * phi ** np.abs(days[:, None] - days) + own.covariances[0][0, 0]
    e = np.array([300.0, 280.0]) - own.beta[0] - own.beta[1] * days[:2]
    mean = own.beta @ [1.0, 2.0] + np.linalg.solve(V[:2, :2], V[:2, 2]) @ e
    np.testing.assert_allclose(float(np.asarray(found)[0]), mean, rtol=1e-8)


def test_power_of_the_fitted_mean():
    """nlme 3.1-162: gls(weight ~ time * diet, BodyWeight, weights = varPower())."""
    body = table("body")
    fit = ranef.lmm("weight ~ time * diet", body, dispersion="~ power(mean)")
    np.testing.assert_allclose(fit.loglik, -805.60905985, atol=1e-6)
    np.testing.assert_allclose(fit.theta, [2.11751985548], rtol=1e-5)
    wanted = [2.4867138929, 0.0673619429, 12.6680391940, 15.4580720659, 0.3506688766, 0.4165658724]
    np.testing.assert_allclose(fit.tidy()["std_error"], wanted, rtol=1e-5)
    row = fit.tidy("variance").set_index("parameter").loc["power"]
    np.testing.assert_allclose(row["estimate"], 2.11751985548, rtol=1e-5)
    new = {"time": [1.0, 1.0], "diet": ["1", "3"]}
    found = fit.predict(new, kind="typical", conf_level=0.95, interval="new")
    ratio = found["std_error"].iloc[1] / found["std_error"].iloc[0]
    mean = np.asarray(found["estimate"])
    np.testing.assert_allclose(ratio, (mean[1] / mean[0]) ** fit.theta[0], rtol=0.05)
    assert (found["conf_high"] - found["estimate"] < 2.1 * found["std_error"]).all()
    zero = body.assign(x=body["time"] - body["time"].min())
    with pytest.raises(ModelError, match=r"power\(mean\)"):
        ranef.lmm("weight ~ 0 + x", zero, dispersion="~ power(mean)")


def test_fewer_complete_groups_than_the_structure_needs_is_unbounded():
    """Three complete groups of three: week 6 is an exact line in weeks 2 and 4."""
    data = {
        "id": [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3],
        "visit": ["a", "b", "c", "a", "b", "a", "b", "c", "a", "b", "c"],
        "change": [-7.0, -7, -4, -6, -13, 3, -1, -9, 5, 2, -8],
    }
    with pytest.raises(ModelError, match="unbounded"):
        ranef.lmm("change ~ visit", data, residual="us(visit | id)")
