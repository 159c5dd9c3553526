"""The compiled engine against brute-force dense algebra, path by path.

Every design is fitted on every path that allows it; criterion, gradient, modes,
covariances, prediction errors and derivatives must be those of `twin`, which
forms V and inverts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapes
import twin
from numpy.typing import NDArray

from ranef import _core
from ranef.derivatives import linear, second_order
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.models import refits
from ranef.models.linear import fit_lmm
from ranef.models.refitting import refit
from ranef.solve.assembly import assemble

Floats = NDArray[np.float64]


def columns(rng: np.random.Generator, n: int, r: int) -> Floats:
    return np.column_stack([np.ones(n), *(rng.normal(2.0 * k, 1.0, n) for k in range(1, r))])


def with_response(
    rng: np.random.Generator, terms: list[Any], factors: list[Any], n: int, **more: Any
) -> Specification:
    X = columns(rng, n, 3)
    y = X @ [1.0, -0.5, 0.25] + rng.normal(size=n)
    for t in terms:
        f = factors[t.factor]
        b = rng.normal(size=(f.n_levels, t.size)) * np.linspace(1.0, 0.4, t.size)
        y = y + np.einsum("ij,ij->i", t.z, b[f.codes])
    return twin.specification(y, X, terms, factors, **more)


def single(r: int) -> Callable[[], Specification]:
    def build() -> Specification:
        rng = np.random.default_rng(r)
        n = 240
        g = twin.factor(rng.integers(0, 15, n))
        return with_response(rng, [twin.term(0, columns(rng, n, r))], [g], n)

    return build


def nested(sizes: tuple[int, ...]) -> Callable[[], Specification]:
    def build() -> Specification:
        rng = np.random.default_rng(10 + sum(sizes))
        n = 300
        leaf = rng.permutation(n) % 36
        labels = [leaf, leaf % 12, leaf % 4][: len(sizes)]
        order = rng.permutation(len(sizes))
        factors = [twin.factor(labels[k], f"level{k}") for k in order]
        terms = [twin.term(i, columns(rng, n, sizes[k])) for i, k in enumerate(order)]
        return with_response(rng, terms, factors, n)

    return build


def crossed(sizes: tuple[int, ...], levels: tuple[int, ...], n: int = 300) -> Any:
    def build() -> Specification:
        rng = np.random.default_rng(20 + sum(sizes))
        factors = [twin.factor(rng.integers(0, q, n), f"f{k}") for k, q in enumerate(levels)]
        terms = [twin.term(k, columns(rng, n, r)) for k, r in enumerate(sizes)]
        return with_response(rng, terms, factors, n)

    return build


def several_terms() -> Specification:
    rng = np.random.default_rng(31)
    n = 300
    g, h = twin.factor(rng.integers(0, 14, n), "g"), twin.factor(rng.integers(0, 9, n), "h")
    x = columns(rng, n, 4)
    terms = [
        twin.term(0, x[:, :1]),
        twin.term(1, x[:, :2], "diag"),
        twin.term(0, x[:, 1:3]),
        twin.term(0, x[:, 3:], "diag"),
    ]
    weights = rng.uniform(0.3, 3.0, n)
    return with_response(rng, terms, [g, h], n, weights=weights, offset=rng.normal(size=n))


def kernels(both: bool) -> Callable[[], Specification]:
    def build() -> Specification:
        rng = np.random.default_rng(41)
        n, q = 260, 18
        ids, herd = twin.factor(np.arange(n) % q, "id"), twin.factor(rng.integers(0, 30, n), "herd")
        root = rng.normal(size=(q, 2 * q))
        K = root @ root.T / (2 * q)
        terms = [twin.term(0, columns(rng, n, 2), kernel=K)]
        if both:
            terms.append(twin.term(1, columns(rng, n, 1)))
        return with_response(rng, terms, [ids, herd][: 1 + both], n)

    return build


DESIGNS: dict[str, tuple[Callable[[], Specification], tuple[str, ...]]] = {
    **{f"single of {r}": (single(r), ("single", "crossed")) for r in (1, 2, 3, 4, 6)},
    "nested of two": (nested((1, 1)), ("nested", "crossed")),
    "nested of three with slopes": (nested((2, 1, 3)), ("nested", "crossed")),
    "nested with wide leaves": (nested((5, 2)), ("nested", "crossed")),
    "crossed scalars": (crossed((1, 1, 1), (20, 15, 6)), ("crossed",)),
    "crossed with slopes": (crossed((2, 3, 1), (20, 12, 6)), ("crossed",)),
    "crossed, slope in the tail": (crossed((1, 2), (40, 12)), ("crossed",)),
    "crossed through LAPACK, sparse": (crossed((1, 1), (300, 130), 700), ("crossed",)),
    "crossed through LAPACK, dense": (crossed((1, 3), (45, 36), 500), ("crossed",)),
    "several terms, weights, offset": (several_terms, ("crossed",)),
    "kernel alone": (kernels(False), ("crossed",)),
    "kernel and a factor": (kernels(True), ("crossed",)),
}
CASES = [(name, path) for name, (_, paths) in DESIGNS.items() for path in paths]
# small enough for the twin to differentiate V numerically, or to search by itself
SMALL = [case for case in CASES if "LAPACK" not in case[0] and "of 6" not in case[0]]
SMALL = [case for case in SMALL if "wide" not in case[0] and "slopes" not in case[0]]


def a_theta(spec: Specification, seed: int = 5) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray(twin.canonical(spec, twin.start(spec) + 0.4 * rng.normal(size=count(spec))))


def count(spec: Specification) -> int:
    return len(twin.start(spec))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "path"), CASES)
def test_criterion_and_gradient(name: str, path: str, reml: bool) -> None:
    spec = DESIGNS[name][0]()
    assembly = assemble(spec, path)
    theta = a_theta(spec)
    y, _, scale = assembly.respond(spec.y[None])
    state = assembly.core.state(y[0], reml, assembly.phi(theta, {}), True)
    deviance = state["criterion"] + assembly.criterion_shift(reml, scale)[0]
    expected = twin.deviance(spec, theta, reml)
    assert abs(deviance - expected) < 1e-11 * abs(expected) * 10
    exact = twin.gradient(spec, theta, reml)
    found = assembly.chain_rule(assembly.slopes(theta), state["psi_gradient"])
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "path"), CASES)
def test_gradient_and_hessian_by_finite_differences(name: str, path: str, reml: bool) -> None:
    """The gradient in the core's own parameters, and the average information.

    Average information is exact in expectation only; what is exact is its
    second-order part, so the check is on the gradient, and on the Hessian's
    symmetry and scale.
    """
    spec = DESIGNS[name][0]()
    assembly = assemble(spec, path)
    y = assembly.response()
    phi = assembly.phi(a_theta(spec), {})
    state = assembly.core.state(y, reml, phi, True)
    step = 1e-4
    for i in range(len(phi)):
        moved = [phi.copy() for _ in range(4)]
        for k, shift in enumerate((-2, -1, 1, 2)):
            moved[k][i] += shift * step
        f = [assembly.core.state(y, reml, m, False)["criterion"] for m in moved]
        slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)
        assert slope == pytest.approx(state["gradient"][i], rel=1e-6, abs=2e-6)
    np.testing.assert_allclose(state["hessian"], state["hessian"].T, rtol=1e-12)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "path"), SMALL)
def test_average_information_is_its_formula(name: str, path: str, reml: bool) -> None:
    """(m/r2) w'Pw - (m/r2^2)(w'Py)(w'Py) + <G, d2 Psi>, formed from dense matrices."""
    spec = DESIGNS[name][0]()
    if any(t.structure != "us" or t.size > 1 for t in spec.terms):
        theta = twin.canonical(spec, twin.start(spec))
    else:
        theta = a_theta(spec)
    assembly = assemble(spec, path)
    y, _, _ = assembly.respond(spec.y[None])
    phi = assembly.phi(theta, {})
    state = assembly.core.state(y[0], reml, phi, True)
    # dense, in phi: by the chain rule through finite differences of theta and V
    at = twin.profile(spec, theta, reml)
    m, r2 = at.m, at.r2

    def V(p: Floats) -> Floats:
        psi = assembly.core.state(y[0], reml, p, False)["psi"]
        out = np.eye(spec.n)
        for t, full in zip(spec.terms, assembly.terms, strict=True):
            out = out + twin.sandwich(spec, t, full.psi_user(psi[full.block]))
        return out

    k, h = len(phi), 1e-3
    unit = np.eye(k) * h
    dV = [(V(phi + e) - V(phi - e)) / (2 * h) for e in unit]
    w = np.column_stack([d @ at.Py for d in dV])
    t = w.T @ at.Py
    expected = m / r2 * w.T @ at.P @ w - m / r2**2 * np.outer(t, t)
    middle = (at.P if reml else at.Vi) - m / r2 * np.outer(at.Py, at.Py)
    for i in range(k):
        for j in range(k):
            cross = V(phi + unit[i] + unit[j]) - V(phi + unit[i] - unit[j])
            cross = cross - V(phi - unit[i] + unit[j]) + V(phi - unit[i] - unit[j])
            expected[i, j] += np.sum(middle * cross) / (4 * h * h)
    tolerance = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(state["hessian"], expected, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "path"), CASES)
def test_optimum_and_what_follows_from_it(name: str, path: str, reml: bool) -> None:
    spec = DESIGNS[name][0]()
    e = fit_lmm(spec, reml=reml, path=path)
    assert e.optimum.converged
    assert e.optimum.path == path
    at = twin.profile(spec, e.theta, reml)
    assert -2 * e.loglik == pytest.approx(twin.deviance(spec, e.theta, reml), rel=1e-11)
    np.testing.assert_allclose(e.beta, at.beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(e.coefficient_vcov, at.sigma**2 * at.C, rtol=1e-7, atol=1e-10)
    assert e.sigma == pytest.approx(at.sigma, rel=1e-9)
    for found, expected in zip(e.modes, twin.modes(spec, e.theta), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    both = twin.conditional_covariances(spec, e.theta, reml)
    for found_pair, expected_pair in zip(linear.conditional_covariances(e), both, strict=True):
        for found, expected in zip(found_pair, expected_pair, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    found = second_order.curvature(e)
    kept = found.free
    np.testing.assert_array_equal(kept, linear.free(e))
    dC = twin.vcov_derivatives(spec, e.theta)[kept]
    np.testing.assert_allclose(found.fixed, dC, rtol=1e-8, atol=1e-10 * np.abs(dC).max(initial=0))
    slopes = twin.r2_derivatives(spec, e.theta, reml)[kept]
    np.testing.assert_allclose(found.log_r2, slopes, rtol=1e-8, atol=1e-10)
    H = twin.hessian(spec, e.theta, reml)[np.ix_(kept, kept)]
    scale = np.sqrt(np.abs(np.diag(H)))
    np.testing.assert_allclose(
        found.hessian / np.outer(scale, scale), H / np.outer(scale, scale), atol=1e-8
    )


@pytest.mark.parametrize(("name", "path"), CASES)
def test_prediction_variance(name: str, path: str) -> None:
    spec = DESIGNS[name][0]()
    e = fit_lmm(spec, path=path)
    rng = np.random.default_rng(0)
    rows = 70
    X = rng.normal(size=(rows, spec.p))
    random: list[tuple[NDArray[np.int32], Floats] | None] = []
    for t in spec.terms:
        codes = rng.integers(-1, spec.factors[t.factor].n_levels, rows).astype(np.int32)
        random.append((codes, rng.normal(size=(rows, t.size))))
    one_level = {}
    for t, given in zip(spec.terms, random, strict=True):
        assert given is not None
        given[0][:] = one_level.setdefault(t.factor, given[0])
        if t.kernel is not None:
            given[0][given[0] < 0] = 0
    found = linear.prediction_variance(e, X, random)
    np.testing.assert_allclose(found, twin.prediction_variance(spec, e.theta, X, random), rtol=1e-7)
    random[0] = None
    found = linear.prediction_variance(e, X, random)
    np.testing.assert_allclose(found, twin.prediction_variance(spec, e.theta, X, random), rtol=1e-7)


@pytest.mark.parametrize("name", sorted({name for name, _ in SMALL}))
def test_no_start_finds_a_better_optimum(name: str) -> None:
    spec = DESIGNS[name][0]()
    e = fit_lmm(spec)
    _, best = twin.optimum(spec, True, starts=2)
    assert -2 * e.loglik <= best + 1e-6


def test_paths_agree() -> None:
    for name, (build, paths) in DESIGNS.items():
        fits = [fit_lmm(build(), path=path) for path in paths]
        for other in fits[1:]:
            assert other.loglik == pytest.approx(fits[0].loglik, abs=1e-9), name
            np.testing.assert_allclose(other.theta, fits[0].theta, rtol=2e-5, atol=1e-6)


def test_a_path_that_does_not_fit_is_refused_with_its_reason() -> None:
    spec = crossed((1, 1), (20, 15))()
    with pytest.raises(ModelError, match="do not nest"):
        fit_lmm(spec, path="nested")
    with pytest.raises(ModelError, match="one grouping factor"):
        fit_lmm(spec, path="single")
    with pytest.raises(ModelError, match="did you mean 'nested'"):
        fit_lmm(spec, path="nestd")


@pytest.mark.parametrize("name", ["single of 2", "nested of three with slopes"])
def test_same_bits_on_any_number_of_threads(name: str) -> None:
    rng = np.random.default_rng(3)
    n = 60_000
    leaf = rng.integers(0, 9000, n)
    factors = [twin.factor(leaf, "leaf"), twin.factor(leaf % 300, "top")]
    terms = [twin.term(0, columns(rng, n, 2))]
    if name.startswith("nested"):
        terms.append(twin.term(1, columns(rng, n, 1)))
    spec = with_response(rng, terms, factors[: len(terms)], n)
    one = fit_lmm(spec, n_jobs=1)
    many = fit_lmm(replace(spec), n_jobs=3)
    assert one.loglik == many.loglik
    np.testing.assert_array_equal(one.theta, many.theta)
    np.testing.assert_array_equal(one.modes[0], many.modes[0])


def test_crossed_same_bits_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(4)
    n = 40_000
    factors = [twin.factor(rng.integers(0, q, n), str(q)) for q in (4000, 60)]
    spec = with_response(rng, [twin.term(k, columns(rng, n, 1)) for k in (0, 1)], factors, n)
    one, many = fit_lmm(spec, n_jobs=1), fit_lmm(replace(spec), n_jobs=3)
    assert one.loglik == many.loglik
    np.testing.assert_array_equal(one.theta, many.theta)


def shape_spec(shape: shapes.Shape) -> Specification:
    return specify(shape.formula, shape.frame())


@pytest.mark.parametrize(
    ("shape", "most"),
    [(shapes.kb07, 8), (lambda: shapes.kb07("singular"), 20), (shapes.mrk17, 40)],
    ids=["kb07", "kb07 singular", "mrk17"],
)
def test_counts_of_factorisations(shape: Callable[[], shapes.Shape], most: int) -> None:
    e = fit_lmm(shape_spec(shape()))
    assert e.optimum.converged
    assert e.optimum.evaluations <= most
    assert len(e.optimum.trace) == e.optimum.evaluations


def test_the_search_prints_a_certificate_on_a_face() -> None:
    e = fit_lmm(shape_spec(shapes.kb07("singular")))
    assert e.optimum.singular
    assert all(face.curvature > -1e-6 for face in e.optimum.faces)
    assert all(face.rank < face.size for face in e.optimum.faces)
    for i, face in ((f.term, f) for f in e.optimum.faces):
        assert np.linalg.matrix_rank(e.covariances[i], tol=1e-9 * e.sigma**2) == face.rank
    assert e.optimum.decrement <= e.optimum.tolerance


@pytest.mark.parametrize("i", range(20))
def test_boundary_problems_reach_the_best_of_many_starts(i: int) -> None:
    spec = shape_spec(shapes.boundary(i))
    e = fit_lmm(spec)
    rng = np.random.default_rng(i)
    starts = np.abs(rng.normal(size=(6, len(e.theta)))) * rng.choice([0.1, 0.5, 2.0], (6, 1))
    best = max(fit_lmm(spec, start=s).loglik for s in starts)
    assert e.optimum.converged
    assert e.loglik >= best - 5e-5


def test_refits_are_the_fits() -> None:
    spec = crossed((2, 1), (20, 15))()
    e = fit_lmm(spec)
    rng = np.random.default_rng(9)
    Y = np.column_stack([spec.y + rng.normal(size=spec.n) for _ in range(5)])
    Y[:, 4] = rng.normal(size=spec.n)
    many = refits.refit_many(e, Y, n_jobs=2)
    for k in range(5):
        one = refit(e, np.ascontiguousarray(Y[:, k]))
        assert many.loglik[k] == pytest.approx(one.loglik, abs=1e-8)
        np.testing.assert_allclose(many.beta[k], one.beta, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(many.theta[k], one.theta, rtol=1e-4, atol=1e-5)
        assert many.sigma[k] == pytest.approx(one.sigma, rel=1e-6)
    assert many.converged.all()


def test_refits_leave_a_face_where_the_response_asks_for_it() -> None:
    rng = np.random.default_rng(12)
    n = 200
    g = twin.factor(np.arange(n) % 20)
    X = np.ones((n, 1))
    spec = twin.specification(rng.normal(size=n), X, [twin.term(0, columns(rng, n, 2))], [g])
    within = spec.y - np.bincount(g.codes, spec.y)[g.codes] / 10
    spec = replace(spec, y=within)
    e = fit_lmm(spec)
    assert e.optimum.singular
    strong = within + rng.normal(size=20)[g.codes] * 2
    many = refits.refit_many(e, strong[:, None])
    assert many.theta[0, 0] > 0.5
    assert many.loglik[0] == pytest.approx(refit(e, strong).loglik, abs=1e-8)


def test_progress_is_told_and_an_interrupt_stops_the_search() -> None:
    spec = single(2)()
    seen: list[tuple[int, float, float]] = []
    fit_lmm(spec, progress=lambda *a: seen.append(a))
    assert [s[0] for s in seen] == list(range(1, len(seen) + 1))

    def interrupt(count: int, *_: float) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_lmm(spec, progress=interrupt)
    assert fit_lmm(spec).optimum.converged


def test_memory_is_checked_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranef.solve.assembly.available_memory", lambda: 1000)
    with pytest.raises(ModelError, match=r"GB .*are free"):
        fit_lmm(crossed((1, 1), (4000, 2500), 9000)(), path="crossed")


def test_start_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ModelError, match="start must hold 3 finite numbers"):
        fit_lmm(single(2)(), start=np.ones(2))


def test_the_core_refuses_arrays_that_do_not_fit() -> None:
    core = assemble(single(2)()).core
    with pytest.raises(ValueError, match="one value per row"):
        core.state(np.zeros(3), True, core.start(), False)
    with pytest.raises(ValueError, match="wrong number"):
        core.state(np.zeros(240), True, np.zeros(7), False)
    with pytest.raises(ValueError, match="signature"):
        _core.set_lapack({}, {"dpotrf": _core_capsule_of_another_signature()})


def _core_capsule_of_another_signature() -> Any:
    from scipy.linalg import cython_lapack

    return cython_lapack.__pyx_capi__["dgesv"]
