"""Adaptive quadrature over nested grouping factors: integrals, gradient, fits.

No package at hand is a peer: lme4 (nAGQ > 1) and GLMMadaptive take one grouping factor,
glmmTMB the Laplace approximation alone. The truth is by brute force in NumPy.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from generalised import Model, Term, dense_criterion, numeric_gradient
from test_laplace import PLAIN, of_family

import ranef
from ranef import _core
from ranef.cli.main import main
from ranef.derivatives.generalised import joint_gradient
from ranef.errors import DataWarning, ModelError
from ranef.families import family
from ranef.solve.predictors import assemble_generalised

N = 60
ONE = np.ones((N, 1))


def nested(seed: int = 3, levels: tuple[int, ...] = (4, 12)) -> tuple[list[np.ndarray], np.ndarray]:
    """Codes of factors that nest, coarsest first, in no order of the rows; and x."""
    rng = np.random.default_rng(seed)
    shuffle = rng.permutation(N)
    codes = []
    for q in levels:
        code = np.repeat(rng.permutation(q), N // q)
        codes.append(np.ascontiguousarray(code[shuffle], dtype=np.int32))
    return codes, np.column_stack([np.ones(N), rng.normal(size=N)])


def response(eta: np.ndarray, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float)


def effects(codes: list[np.ndarray], sd: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(6)
    return sum(sd * rng.normal(size=c.max() + 1)[c] for c in codes)


def binary(**more) -> Model:
    codes, z = nested()
    y = response(0.3 + 0.4 * z[:, 1] + effects(codes))
    terms = [Term(0, ONE), Term(1, ONE)]
    return Model(_core.make_family("binomial", "logit"), y, [z], codes, terms, **more)


def slopes(inner: str = "us", outer: str = "us") -> Model:
    """Two columns at both levels."""
    plain = binary()
    z = plain.X[0]
    return replace(plain, terms=[Term(0, z, structure=outer), Term(1, z, structure=inner)])


def three_deep() -> Model:
    codes, z = nested(levels=(3, 6, 12))
    eta = 0.5 + 0.3 * z[:, 1] + effects(codes, 0.6)
    y = np.random.default_rng(7).poisson(np.exp(eta)).astype(float)
    # the factors in an order that is not theirs in the chain
    terms = [Term(0, ONE), Term(1, z), Term(2, ONE)]
    order = [1, 0, 2]
    return Model(_core.make_family("poisson", "log"), y, [z], [codes[k] for k in order], terms)


def parts() -> Model:
    """Mean, dispersion and zero part of nbinom2, with effects of both levels in each two."""
    codes, z = nested()
    kind = family("nbinom2")
    etas = np.vstack([1.2 + effects(codes, 0.5), np.full(N, 0.5), np.full(N, -1.0)])
    y = kind.simulate(np.random.default_rng(8), etas, zero=True)
    terms = [Term(0, z), Term(0, ONE, 2), Term(1, ONE), Term(1, ONE, 1)]
    return Model(kind.core(True), y, [z, ONE, ONE], codes, terms)


def categories() -> Model:
    """Multinomial: one predictor for each contrast, both with effects of both levels."""
    codes, z = nested()
    y = np.random.default_rng(9).integers(0, 3, N).astype(float)
    terms = [Term(0, ONE), Term(0, ONE, 1), Term(1, ONE), Term(1, z, 1, "diag")]
    core = family("multinomial", categories=3).core(False)
    return Model(core, y, [z, ONE], codes, terms)


CASES = {
    "intercepts": (binary(), [1, 0], [1.1, 0.8], [0.2, 0.4]),
    "weighted": (
        binary(weights=np.linspace(0.0, 2, N), offset=np.cos(np.arange(N))),
        [1, 0],
        [1.1, 0.8],
        [0.2, 0.4],
    ),
    "slopes": (slopes(), [1, 0], [0.9, 0.3, 0.5, 0.7, -0.2, 0.6], [0.2, 0.4]),
    "diagonal": (slopes("diag"), [1, 0], [0.9, 0.3, 0.5, 0.7, 0.6], [0.2, 0.4]),
    "singular": (slopes(), [1, 0], [0.9, 0.3, 0.0, 0.7, -0.2, 0.0], [0.2, 0.4]),
    "none above": (binary(), [1, 0], [0.0, 0.8], [0.2, 0.4]),
    "three deep": (three_deep(), [2, 0, 1], [0.5, 0.6, 0.2, 0.4, 0.3], [0.5, 0.3]),
    "parts": (parts(), [1, 0], [0.5, 0.1, 0.3, 0.4, 0.3, 0.5], [1.2, 0.3, 0.8, -1.0]),
    "categories": (categories(), [1, 0], [0.8, 0.5, 0.6, 0.7, 0.4], [0.2, 0.1, -0.3]),
}


def check_order(model: Model, chain: list[int]) -> None:
    sizes = [model.codes[f].max() for f in chain]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_exact(case, nodes):
    model, chain, phi, beta = CASES[case]
    check_order(model, chain)
    core = model.core(chain, nodes=nodes)
    x = np.array(phi + beta)
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x, 1e-3)
    np.testing.assert_allclose(gradient, numeric, atol=2e-8 * np.abs(numeric).max())


EVERY = [(n, zero) for n in PLAIN for zero in (False, True) if not zero or family(n).takes_zero]


@pytest.mark.parametrize(("name", "zero"), EVERY)
def test_gradient_of_every_family(name, zero):
    """Effects of both levels in the mean, of the outer one in the next predictor too."""
    model, constants = of_family(name, zero)
    n = len(model.y)
    inner = np.arange(n, dtype=np.int32) // 5
    model = replace(model, codes=[inner // 4, inner])
    core = model.core([1, 0], nodes=3)
    phi = np.array([0.3, 0.2, 0.4][: core.parameters])
    x = np.concatenate([phi, [constants[0], 0.05], constants[1:]])
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * (1 + np.abs(numeric).max()))


@pytest.mark.parametrize("case", ["intercepts", "slopes", "three deep", "categories"])
def test_derivative_in_psi(case):
    """G, which proves a face, is that of the integral: with many nodes both gradients agree."""
    model, chain, phi, beta = CASES[case]
    core = model.core(chain, nodes=9 if case in ("slopes", "categories") else 15)
    state = core.state(np.array(phi + beta), True)
    expected, offset = np.zeros(len(phi)), 0
    place = dict.fromkeys(range(len(model.codes)), 0)
    for term in model.terms_in_core_order():
        r = term.z.shape[1]
        structure = _core.Structure(term.structure, r)
        k, first = structure.parameters(), place[term.factor]
        own = slice(first, first + r)
        G = state["psi_gradient"][term.factor][own, own]
        for i in range(k):
            d = structure.derivative(np.array(phi[offset : offset + k]), i)
            expected[offset + i] = np.sum(G * d)
        offset, place[term.factor] = offset + k, first + r
    # nodes place exp(-O(nodes)) between the two
    scale = np.abs(expected).max()
    np.testing.assert_allclose(state["gradient"][: len(phi)], expected, atol=2e-4 * scale)


def test_one_node_is_laplace():
    for case in ("intercepts", "three deep"):
        model, chain, phi, beta = CASES[case]
        core = model.core(chain, nodes=1)
        x = np.array(phi + beta)
        value = core.state(x, False)["criterion"]
        assert value == pytest.approx(dense_criterion(model, core, x), rel=1e-11)


@pytest.mark.parametrize("case", ["intercepts", "three deep", "parts"])
def test_more_nodes_converge(case):
    model, chain, phi, beta = CASES[case]
    x = np.array(phi + beta)
    counts = (2, 4, 8, 16) if case == "intercepts" else (2, 4, 8)
    values = [model.core(chain, nodes=k).state(x, False)["criterion"] for k in counts]
    steps = np.abs(np.diff(values))
    assert np.all(steps[1:] < steps[:-1] / 10)


GRID = np.linspace(-9.0, 9.0, 1201)
WEIGHTS = (GRID[1] - GRID[0]) * np.exp(-(GRID**2) / 2) / np.sqrt(2 * np.pi)


def log_bernoulli(model: Model, eta: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums over rows of log densities at eta_i + b, b of any shape."""
    signs = 2 * model.y - 1
    return sum(-np.logaddexp(0, -s * (e + b)) for s, e in zip(signs, eta, strict=True))


def by_level(model: Model, phi: np.ndarray, beta: np.ndarray) -> dict[int, dict[int, np.ndarray]]:
    """[school][class] (outer, inner): log densities of the rows of a class on the grid."""
    b = phi[0] * GRID[:, None] + phi[1] * GRID[None, :]
    eta = model.X[0] @ beta
    out: dict[int, dict[int, np.ndarray]] = {}
    outer, inner = model.codes
    for s in range(outer.max() + 1):
        out[s] = {}
        for c in np.unique(inner[outer == s]):
            own = inner == c
            out[s][int(c)] = log_bernoulli(replace(model, y=model.y[own]), eta[own], b)
    return out


def test_integral_by_brute_force(agree):
    """Both integrals on a fine grid, which is exact to rounding for smooth integrands."""
    model, chain, phi, beta = CASES["intercepts"]
    total = 0.0
    for classes in by_level(model, np.array(phi), np.array(beta)).values():
        log_inner = sum(np.log(np.exp(f) @ WEIGHTS) for f in classes.values())
        total += np.log(np.exp(log_inner) @ WEIGHTS)
    value = model.core(chain, nodes=40).state(np.array(phi + beta), False)["criterion"]
    agree("glmm(quadrature=40)", "deviance, binary rows, classes in schools", value, -2 * total,
          peer="integrals on a fine grid", rtol=1e-11)  # fmt: skip


def test_integral_of_slopes_by_brute_force():
    """An intercept and a slope without correlation above, an intercept below: a tensor grid."""
    plain = binary()
    keep = plain.codes[0] == 0  # one school, three classes
    outer, inner = (
        np.unique(c[keep], return_inverse=True)[1].astype(np.int32) for c in plain.codes
    )
    z, one = plain.X[0][keep], np.ones((keep.sum(), 1))
    model = Model(
        plain.family,
        plain.y[keep],
        [z],
        [outer, inner],
        [Term(0, z, structure="diag"), Term(1, one)],
    )
    core = model.core([1, 0], nodes=25)
    phi, beta = np.array([0.9, 0.6, 0.7]), np.array([0.1, 0.3])
    sd = phi[:2] * np.diag(core.basis(0, 0))  # the core standardises the columns
    grid = np.linspace(-8.5, 8.5, 121)
    w = (grid[1] - grid[0]) * np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    logs = np.zeros((121, 121))
    for c in range(inner.max() + 1):
        f = np.zeros((121, 121, 121))
        for i in np.flatnonzero(inner == c):
            eta = z[i] @ beta + sd[0] * grid[:, None, None] + sd[1] * z[i, 1] * grid[:, None]
            f -= np.logaddexp(0, -(2 * model.y[i] - 1) * (eta + phi[2] * grid))
        logs += np.log(np.exp(f) @ w)
    expected = -2 * np.log(w @ np.exp(logs) @ w)
    value = core.state(np.concatenate([phi, beta]), False)["criterion"]
    assert value == pytest.approx(expected, rel=1e-10)


def test_integral_of_a_normal_response_is_exact(agree):
    """Any number of nodes gives the marginal normal density, three levels deep."""
    codes, X = nested(levels=(3, 6, 12))
    rng = np.random.default_rng(13)
    y = X @ [1.0, 0.5] + effects(codes) + rng.normal(size=N)
    kind = _core.make_family("gaussian", "identity")
    model = Model(kind, y, [X, ONE], codes, [Term(0, ONE), Term(1, ONE), Term(2, ONE)])
    x = np.array([0.7, 0.5, 0.3, 0.9, 0.4, -0.1])
    V = np.exp(-0.2) * np.eye(N)
    for sd, c in zip(x, codes, strict=False):
        V += sd**2 * (c[:, None] == c)
    r = y - X @ x[3:5]
    expected = N * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    found = [model.core([2, 1, 0], nodes=k).state(x, False)["criterion"] for k in (2, 3, 7)]
    agree("glmm(quadrature=...)", "deviance, normal rows, three levels, 2, 3 and 7 nodes", found,
          np.full(3, expected), peer="marginal normal density", rtol=1e-12)  # fmt: skip


@pytest.mark.parametrize("which", [0, 1])
def test_a_factor_without_variance_is_as_if_absent(which):
    """The nodes of a factor whose effects are zero add up to one: any number of them."""
    model = binary()
    phi, beta = np.array([0.0, 0.0]), np.array([0.2, 0.4])
    phi[which] = 0.9
    alone = replace(model, codes=[model.codes[which]], terms=[Term(0, ONE)])
    for nodes in (2, 5):
        both = model.core([1, 0], nodes=nodes).state(np.concatenate([phi, beta]), False)
        one = alone.core([0], nodes=nodes).state(np.concatenate([phi[[which]], beta]), False)
        assert both["criterion"] == pytest.approx(one["criterion"], rel=1e-12)


def test_threads_give_the_same_bits():
    rng = np.random.default_rng(21)
    n = 6000
    outer = np.repeat(np.arange(150), 40).astype(np.int32)
    inner = np.repeat(np.arange(750), 8).astype(np.int32)
    z = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = (rng.random(n) < 0.4).astype(float)
    kind = _core.make_family("binomial", "logit")
    one = np.ones((n, 1))
    model = Model(kind, y, [z], [outer, inner], [Term(0, z), Term(1, one)])
    x = np.array([0.8, 0.1, 0.3, 0.9, -0.2, 0.5])
    states = [model.core([1, 0], threads, nodes=3).state(x, True) for threads in (1, 2)]
    assert states[0]["criterion"] == states[1]["criterion"]
    np.testing.assert_array_equal(states[0]["gradient"], states[1]["gradient"])
    np.testing.assert_array_equal(states[0]["psi_gradient"][0], states[1]["psi_gradient"][0])


def test_posterior_by_brute_force():
    model, chain, phi, beta = CASES["intercepts"]
    core = model.core(chain, nodes=25)
    x = np.array(phi + beta)
    (outer, outer_var), (inner, inner_var) = core.posterior(x, 0), core.posterior(x, 1)
    schools = by_level(model, np.array(phi), np.array(beta))
    for s in (0, 3):
        logs = {c: np.log(np.exp(f) @ WEIGHTS) for c, f in schools[s].items()}
        w = np.exp(sum(logs.values())) * WEIGHTS
        w /= w.sum()
        mean = phi[0] * w @ GRID
        assert outer[s, 0] == pytest.approx(mean, abs=1e-9)
        variance = phi[0] ** 2 * w @ GRID**2 - mean**2
        assert outer_var[s, 0, 0] == pytest.approx(variance, abs=1e-9)
        for c, f in schools[s].items():
            given = np.exp(f) * WEIGHTS / np.exp(logs[c])[:, None]
            mean = phi[1] * w @ given @ GRID
            assert inner[c, 0] == pytest.approx(mean, abs=1e-9)
            variance = phi[1] ** 2 * w @ given @ GRID**2 - mean**2
            assert inner_var[c, 0, 0] == pytest.approx(variance, abs=1e-9)


# --- fits ----------------------------------------------------------------------------


def pupils(seed: int = 1, schools: int = 40, sd: tuple[float, float] = (1.0, 1.5)) -> pd.DataFrame:
    """Four classes a school, four binary answers a class: where Laplace is poor."""
    rng = np.random.default_rng(seed)
    school = np.repeat(np.arange(schools), 16)
    room = np.tile(np.repeat(np.arange(4), 4), schools)
    n = len(school)
    x = rng.normal(size=n)
    a = sd[0] * rng.normal(size=schools)
    b = sd[1] * rng.normal(size=(schools, 4))
    eta = -0.5 + 0.8 * x + a[school] + b[school, room]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "x": x, "school": school, "room": room})


def test_fit_ends_at_an_optimum():
    data = pupils()
    fits = [
        ranef.glmm("y ~ x + (1 | school/room)", data, family="binomial", quadrature=k)
        for k in (5, 9, 15)
    ]
    for fit in fits:
        assert fit.optimum.converged
        assert fit.optimum.path == "nested"
        assert fit.optimum.evaluations <= 25
        assert np.abs(fit.optimum.gradient).max() < 1e-3
    steps = [np.abs(a.theta - b.theta).max() for a, b in pairwise(fits)]
    assert steps[1] < steps[0] / 5 < 0.05
    with pytest.warns(DataWarning, match="room.*quadrature=25 integrates exactly"):
        laplace = ranef.glmm("y ~ x + (1 | school/room)", data, family="binomial")
    # Laplace is short of the variance of small levels
    assert laplace.n_groups == {"room:school": 160, "school": 40}
    assert fits[2].tidy("variance").estimate.max() > laplace.tidy("variance").estimate.max() + 0.1
    assert fits[2].loglik > laplace.loglik + 0.5


def test_spelling_and_order_of_terms_do_not_matter():
    data = pupils(2, 25)
    data["class"] = data["school"] * 10 + data["room"]
    formulas = [
        "(1 | school/room)",
        "(1 | school:room) + (1 | school)",
        "(1 | class) + (1 | school)",
    ]
    found = [
        ranef.glmm(f"y ~ x + {f}", data, family="binomial", quadrature=5).loglik for f in formulas
    ]
    np.testing.assert_allclose(found, found[0], rtol=1e-10)


def test_a_variance_of_zero_is_proved():
    """Classes that do not differ: the fit stands on the face, and is that of schools alone."""
    data = pupils(7, 30, (1.2, 0.0))
    both = ranef.glmm("y ~ x + (1 | school/room)", data, family="binomial", quadrature=7)
    assert both.optimum.singular
    assert both.optimum.converged
    alone = ranef.glmm("y ~ x + (1 | school)", data, family="binomial", quadrature=7)
    assert both.loglik == pytest.approx(alone.loglik, abs=1e-8)
    np.testing.assert_allclose(both.coef, alone.coef, atol=1e-5)


def test_everything_downstream(tmp_path):
    data = pupils(3, 25)
    fit = ranef.glmm("y ~ x + (x || school) + (1 | school:room)", data, family="binomial",
                     quadrature=5)  # fmt: skip
    assert np.all(fit.tidy().std_error > 0)
    assert "quadrature with 5 nodes" in str(fit.summary())
    means = fit.posterior_means()
    assert len(means) == 25 * 2 + 100
    # few rows: the modes are nearer to zero than the means
    inner = means[means["group"] == "school:room"]
    assert np.abs(inner["mean"]).mean() > 1.02 * np.abs(inner["mode"]).mean()
    assert np.corrcoef(inner["mean"], inner["mode"])[0, 1] > 0.99
    assert np.abs(ranef.marginal(fit).tidy().estimate[1]) < np.abs(fit.coef["x"])
    assert np.isfinite(fit.predict(kind="conditional", conf_level=0.9).std_error).all()
    assert fit.refit(fit.simulate(1, rng=1)["sim_1"]).quadrature == 5
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert again.loglik == fit.loglik
    np.testing.assert_allclose(again.posterior_means()["mean"], means["mean"], rtol=1e-10)


def test_zero_part_and_dispersion_with_nested_factors():
    rng = np.random.default_rng(31)
    data = pupils(5, 20)
    rate = np.exp(1 + 0.4 * data["x"] + rng.normal(scale=0.6, size=20)[data["school"]])
    data["n"] = np.where(rng.random(len(data)) < 0.25, 0, rng.poisson(rate))
    fit = ranef.glmm("n ~ x + (1 | school/room)", data, family="nbinom2", zero="~ (1 | school)",
                     quadrature=3)  # fmt: skip
    laplace = ranef.glmm("n ~ x + (1 | school/room)", data, family="nbinom2",
                         zero="~ (1 | school)")  # fmt: skip
    assert fit.optimum.converged
    assert fit.loglik == pytest.approx(laplace.loglik, abs=2)
    assert fit.loglik != pytest.approx(laplace.loglik, abs=1e-6)


def test_ordered_categories():
    """Thresholds serve two predictors of a row; the gradient in all estimates is zero."""
    data = pupils(10, 30)
    rng = np.random.default_rng(32)
    room = rng.normal(size=(30, 4))[data["school"], data["room"]]
    latent = 0.8 * data["x"] + room + rng.normal(size=30)[data["school"]]
    latent += rng.logistic(size=len(data))
    data["y"] = pd.Categorical(np.digitize(latent, [-1.0, 0.5, 1.5]), ordered=True)
    fit = ranef.glmm("y ~ x + (1 | school/room)", data, family="cumulative", quadrature=5)
    assert fit.optimum.converged
    assert not fit.optimum.singular
    estimate = fit.estimate
    g = joint_gradient(estimate, estimate.coefficients, estimate.theta)
    np.testing.assert_allclose(g, 0, atol=1e-4)
    x = np.concatenate([estimate.coefficients + 0.1, estimate.theta + 0.1])
    P = len(estimate.coefficients)
    g = joint_gradient(estimate, x[:P], x[P:])
    assembly = assemble_generalised(estimate.design, None, quadrature=5)

    def criterion(at):
        return assembly.core.state(assembly.point(at[P:], at[:P], {}), False)["criterion"]

    for i in range(len(x)):
        e = np.zeros(len(x))
        e[i] = 1e-4
        slope = (criterion(x + e) - criterion(x - e)) / 2e-4
        assert slope == pytest.approx(g[i], rel=1e-6, abs=1e-5)


def test_priors_and_held_parameters():
    data = pupils(6, 25)
    formula = "y ~ x + (1 | school/room)"
    sd = {"sd: school": ranef.priors.HalfT(3, 0.2)}
    free = ranef.glmm(formula, data, family="binomial", quadrature=5)
    tight = ranef.glmm(formula, data, family="binomial", quadrature=5, priors=sd)
    held = ranef.glmm(formula, data, family="binomial", quadrature=5, fixed={"sd: school": 0.5})

    def deviation(fit):
        table = fit.tidy("variance")
        return float(table.estimate[table.group == "school"].iloc[0])

    assert deviation(tight) < deviation(free)
    assert deviation(held) == pytest.approx(0.5)
    assert held.loglik < free.loglik


# --- refusals and forecasts ----------------------------------------------------------


def test_refusals_say_why():
    data = pupils(7, 12)
    data["x2"], data["x3"] = data["x"] ** 2, data["x"] ** 3

    def fit(formula: str, nodes: int = 5, **more):
        ranef.glmm(formula, data, family="binomial", quadrature=nodes, **more)

    with pytest.raises(ModelError, match=r"school.*room.*are crossed.*does not factorise"):
        fit("y ~ x + (1 | school) + (1 | room)")
    with pytest.raises(ModelError, match=r"50\^4 = 6,250,000 points.*quadrature=31 is feasible"):
        fit("y ~ x + (x | school) + (x | school:room)", 50)
    with pytest.raises(ModelError, match=r"up to 3 random effects .* 4 for each of school"):
        fit("y ~ x + (x + x2 + x3 | school) + (1 | school:room)")
    with pytest.raises(ModelError, match="unstructured or diagonal"):
        fit("y ~ x + cs(x | school) + (1 | school:room)")
    with pytest.raises(ModelError, match="path 'crossed' is not for it"):
        fit("y ~ x + (1 | school/room)", path="crossed")
    with pytest.raises(ModelError, match="cannot integrate the fixed effects out"):
        fit("y ~ x + (1 | school/room)", reml=True)


def test_plan_counts_the_points():
    data = pupils(8, 12)
    plan = ranef.plan("y ~ x + (x | school) + (1 | school:room)", data, family="binomial",
                      quadrature=7)  # fmt: skip
    assert plan.points == 7**3
    assert plan.path == "nested"
    assert "the density of every row at 343 points" in str(plan)
    laplace = ranef.plan("y ~ x + (x | school) + (1 | school:room)", data, family="binomial")
    assert laplace.points == 1
    assert plan.flops > laplace.flops
    assert plan.bytes > laplace.bytes
    with pytest.raises(ModelError, match="are crossed"):
        ranef.plan("y ~ (1 | school) + (1 | room)", data, family="binomial", quadrature=7)
    with pytest.raises(ModelError, match=r"from 1 .* to 100, not 101"):
        ranef.plan("y ~ (1 | school)", data, family="binomial", quadrature=101)
    with pytest.raises(ModelError, match="quadrature=7 belongs to a generalised model"):
        ranef.plan("y ~ (1 | school)", data, quadrature=7)


def test_command_line(capsys):
    model = ["count ~ mined + (1 | site/sample)", "Salamanders", "--family", "poisson"]
    assert main(["plan", *model, "--quadrature", "5"]) == 0
    assert "the density of every row at 25 points" in capsys.readouterr().out
    assert main(["fit", *model, "--quadrature", "3"]) == 0
    assert "quadrature with 3 nodes" in capsys.readouterr().out
    assert main(["plan", "count ~ (1 | site)", "Salamanders", "--quadrature", "3"]) == 2
    assert "--quadrature belongs to a generalised model" in capsys.readouterr().err


def test_the_warning_offers_as_many_nodes_as_are_quick():
    """Four effects a row: 25 nodes would be 390,625 points."""
    data = pupils(9, 40, (1.5, 2.0))
    with pytest.warns(DataWarning, match="quadrature=11 integrates exactly"):
        ranef.glmm("y ~ x + (x | school) + (x || school:room)", data, family="binomial")
    data["item"] = np.tile(np.arange(16), 40)
    with pytest.warns(DataWarning, match="Interpret them with care"):
        ranef.glmm("y ~ x + (1 | school:room) + (1 | item)", data, family="binomial")


# --- simulation ----------------------------------------------------------------------


@pytest.mark.study
@pytest.mark.filterwarnings("ignore::ranef.errors.DataWarning")
def test_recovery_and_coverage():
    """Small classes of binary rows: unbiased where Laplace is not; intervals cover."""
    truth = {"x": 0.8, "school": 1.0, "room": 1.5}
    draws, inside, found, short = 200, 0, [], []
    for seed in range(draws):
        data = pupils(1000 + seed, 60)
        fit = ranef.glmm("y ~ x + (1 | school/room)", data, family="binomial", quadrature=7)
        assert fit.optimum.converged
        variance = fit.tidy("variance")
        sd = dict(zip(variance.group, variance.estimate, strict=True))
        found.append([fit.coef["x"], sd["school"], sd["room:school"]])
        row = fit.tidy().set_index("term").loc["x"]
        inside += row.conf_low < truth["x"] < row.conf_high
        laplace = ranef.glmm("y ~ x + (1 | school/room)", data, family="binomial")
        table = laplace.tidy("variance")
        short.append(float(table.estimate[table.group == "room:school"].iloc[0]))
    values = np.array(found)
    error = values.std(axis=0) / np.sqrt(draws)
    # ML of sds of 60 schools is itself biased by some hundredths
    np.testing.assert_array_less(
        np.abs(values.mean(axis=0) - list(truth.values())), 4 * error + 0.02
    )
    assert np.mean(short) < truth["room"] - 0.1
    assert inside / draws > 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)
