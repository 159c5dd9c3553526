"""The numbers of structural equation models: the kernel beside dense normal densities, gradients
beside differences, the optimum beside lavaan's and beside ranef.lmm."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.fields.structural import expected
from ranef.fields.structural.estimate import unit_scores
from ranef.fields.structural.expected import information_given_missing
from ranef.fields.structural.information import expected_information
from ranef.fields.structural.messages import messages
from ranef.fields.structural.model import Model, Request, saturated
from ranef.fields.structural.posterior import _problem, _unit_order
from ranef.fields.structural.reading import read_values
from ranef.fields.structural.resampling import _one_table
from ranef.fields.structural.starts import start_values
from ranef.fields.structural.syntax import read_syntax
from ranef.tables import Table

HERE = Path(__file__).parent / "reference"
WITHIN = "level: 1\n f =~ y1 + y2 + y3\n f ~ x\n"
BETWEEN = "level: 2\n g =~ y1 + y2 + y3\n g ~ w\n y1 ~~ z\n z ~ w\n"


def table(rng, units=14, missing=0.0, top=None):
    sizes = rng.integers(1, 7, units)
    unit = np.repeat(np.arange(units), sizes)
    n = len(unit)
    upper = rng.normal(size=(units, 3))
    columns = {"unit": unit, "x": rng.normal(size=n), "w": rng.normal(size=units)[unit]}
    columns["z"] = (upper @ [0.5, 0.2, 0.1] + rng.normal(size=units))[unit]
    if top is not None:
        columns["top"] = (np.arange(units) % top)[unit]
        third = rng.normal(size=(top, 3))[columns["top"]]
        columns["t"] = rng.normal(size=top)[columns["top"]]
    else:
        third = 0.0
    y = upper[unit] + rng.normal(size=(n, 1)) + 0.5 * columns["x"][:, None] + third
    y = y + rng.normal(size=(n, 3))
    y[rng.random((n, 3)) < missing] = np.nan
    columns |= {f"y{k + 1}": y[:, k] for k in range(3)}
    columns["z"] = np.where((rng.random(units) < missing)[unit], np.nan, columns["z"])
    order = rng.permutation(n)
    return {name: column[order] for name, column in columns.items()}


def made(text, data, cluster=(), **how):
    request = Request(text, cluster, **how)
    values = read_values(read_syntax(text), Table.of(data), cluster, how.get("group"))
    return Model(request, values)


def somewhere(model, rng, size=0.05):
    theta = start_values(model.main)
    for _ in range(50):
        tried = theta + size * rng.normal(size=len(theta))
        if np.isfinite(model.main.value(tried)):
            return tried
    raise AssertionError("no point with a likelihood")


class Dense:
    """One group's values as one normal vector a unit of the top level."""

    def __init__(self, group, theta):
        flat = group.parts(theta).flat
        self.W, self.B, self.levels = group.levels_at(flat)
        self.data, self.c = group.data, group.coordinates
        self.layout = self.c.layout
        p, k, s = self.data.p, 1 + self.data.x.shape[1], self.layout.slopes
        self.L = flat[p * p + p * k : p * p + p * k + s * p].reshape(s, p)
        self.x = np.column_stack([np.ones(self.data.n), self.data.x])
        self.codes = [level.codes for level in self.data.levels]
        self.of_row = [self.codes[0]]
        for inner in self.codes[1:]:
            self.of_row.append(inner[self.of_row[-1]])

    def entries(self, level, unit, i):
        """Entries of all levels that add up to coordinate i of a unit."""
        found = [self.start[level, unit] + i]
        to = self.layout.up[level][i]
        return found if to < 0 else found + self.entries(level + 1, self.codes[level + 1][unit], to)

    def deviance(self, top):
        C, e, _, _, _ = self.normal(top)
        sign, log_det = np.linalg.slogdet(C)
        assert sign > 0
        return len(e) * np.log(2 * np.pi) + log_det + e @ np.linalg.solve(C, e)

    def normal(self, top):
        """Covariance and deviations of what is observed; moments and loadings of coordinates."""
        rows = np.flatnonzero(self.of_row[-1] == top)
        units = [
            (k, int(u)) for k in range(len(self.levels)) for u in np.unique(self.of_row[k][rows])
        ]
        sizes = [len(self.levels[k][1]) for k, _ in units]
        self.start = dict(zip(units, np.cumsum([0, *sizes]), strict=False))
        V, mu = np.zeros((sum(sizes),) * 2), np.zeros(sum(sizes))
        for (k, u), size in zip(units, sizes, strict=True):
            at = slice(self.start[k, u], self.start[k, u] + size)
            V[at, at], mu[at] = self.levels[k]
        D, values, of, fixed = [], [], [], []
        for k, u in units:
            for q, value in enumerate(self.data.levels[k].z[u]):
                if not np.isnan(value):
                    D.append(np.zeros(len(mu)))
                    D[-1][self.entries(k, u, len(self.c.unseen[k]) + q)] = 1
                    values.append(value)
                    of.append((-1, 0))
                    fixed.append(0.0)
        for r in rows:
            for j in np.flatnonzero(~np.isnan(self.data.y[r])):
                D.append(self.loadings(r, j, len(mu)))
                values.append(self.data.y[r, j])
                of.append((r, j))
                fixed.append(self.B[j] @ self.x[r])
        D = np.array(D)
        C = D @ V @ D.T
        for a, (r, j) in enumerate(of):
            for b, (r2, j2) in enumerate(of):
                C[a, b] += self.W[j, j2] if r == r2 >= 0 else 0.0
        return C, np.array(values) - D @ mu - np.array(fixed), V, mu, D

    def loadings(self, r, j, size):
        row = np.zeros(size)
        pairs = zip(self.layout.column, self.layout.response, strict=True)
        for i, (column, response) in enumerate(pairs):
            if response >= 0:
                weight = float(response == j)
            else:
                s = -1 - response
                weight = self.L[s, j] if s < len(self.L) else 0.0  # of no row
            row[self.entries(0, self.of_row[0][r], i)] += weight * self.x[r, column]
        return row


def dense(model, theta):
    """-2 log L of all that is observed, from one covariance matrix a unit of the top level."""
    groups = [Dense(group, theta) for group in model.main.groups]
    return model.main.constant + sum(
        one.deviance(top) for one in groups for top in range(one.data.levels[-1].units)
    )


THREE = (
    "level: 1\n y1 ~ x\n y1 ~~ y2\n y2 ~~ y3\n y3 ~~ y1\nlevel: 2\n y1 ~~ z\n y2 ~~ y2\n z ~ w\n"
    "level: 3\n y1 ~~ z\n y3 ~~ y3\n t ~~ y1\n"
)
SLOPES = (
    'level: 1\n f =~ y1 + y2 + y3\n f ~ rv("s")*x\nlevel: 2\n g =~ y1 + y2 + y3\n g ~~ s\n z ~~ s\n'
)
CASES = {
    "complete": (WITHIN + BETWEEN, ("unit",), 0.0, None),
    "missing": (WITHIN + BETWEEN, ("unit",), 0.25, None),
    "slopes": (SLOPES, ("unit",), 0.0, None),
    "slopes, missing": (SLOPES, ("unit",), 0.25, None),
    "three levels": (THREE, ("unit", "top"), 0.0, 4),
    "three levels, missing": (THREE, ("unit", "top"), 0.2, 4),
}


@pytest.mark.parametrize("name", CASES)
def test_criterion_is_that_of_dense_matrices(name):
    text, cluster, missing, top = CASES[name]
    rng = np.random.default_rng(len(name))
    model = made(text, table(rng, missing=missing, top=top), cluster, missing="fiml")
    for _ in range(3):
        theta = somewhere(model, rng)
        np.testing.assert_allclose(model.main.value(theta), dense(model, theta), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_differences(name):
    text, cluster, missing, top = CASES[name]
    rng = np.random.default_rng(7 + len(name))
    model = made(text, table(rng, missing=missing, top=top), cluster, missing="fiml")
    theta = somewhere(model, rng)
    value, gradient = model.main.value_gradient(theta)
    assert value == model.main.value(theta)
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-5
        numeric = (model.main.value(theta + step) - model.main.value(theta - step)) / 2e-5
        np.testing.assert_allclose(gradient[j], numeric, rtol=2e-6, atol=2e-5)
    scores = unit_scores(model, model.main, theta)
    np.testing.assert_allclose(-2 * scores.sum(axis=0), gradient, rtol=1e-8, atol=1e-8)
    assert len(scores) == (4 if top else 14)


@pytest.mark.parametrize("name", ["complete", "missing"])
def test_scores_are_the_posterior_of_dense_matrices(name):
    text, cluster, missing, top = CASES[name]
    data = table(np.random.default_rng(5), units=30, missing=missing, top=top)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.sem(text, data, cluster=list(cluster), missing="fiml")
    problem, latent = _problem(fit.estimate, 0, 2), fit.estimate.model.table.names[0, 2].latent
    dense_ = Dense(problem, fit.estimate.theta)
    own = problem.coordinates.unseen[0]
    units = _unit_order(fit.estimate, 0, 2)
    found = fit.scores(2, se=True).set_index("unit")
    labels = fit.estimate.model.values.labels[0]
    for upper in range(problem.data.levels[-1].units):
        C, e, V, mu, D = dense_.normal(upper)
        mean = mu + V @ D.T @ np.linalg.solve(C, e)
        cov = V - V @ D.T @ np.linalg.solve(C, D @ V)
        for (level, unit), at in dense_.start.items():
            for latent_name in latent if level == 0 else ():
                k = at + own.index(latent_name)
                row = found.loc[labels[units[unit]]]
                np.testing.assert_allclose(row[latent_name], mean[k], atol=1e-8)
                np.testing.assert_allclose(
                    row[f"{latent_name}_se"], np.sqrt(max(cov[k, k], 0)), atol=1e-8
                )


def test_units_of_one_size_are_condensed_without_loss():
    rng = np.random.default_rng(3)
    model = made(WITHIN + BETWEEN, table(rng, units=300), ("unit",))
    theta = somewhere(model, rng)
    group = model.main.groups[0]
    every = messages(group.data, group.coordinates.layout, each=True)
    flat = group.parts(theta).flat
    few, many = group.kernel.criterion(flat, True), every.criterion(flat, True)
    np.testing.assert_allclose(few[0], many[0], rtol=1e-12)
    np.testing.assert_allclose(few[1], many[1], rtol=1e-9, atol=1e-8)


def test_rows_of_one_level_are_normal():
    rng = np.random.default_rng(4)
    data = table(rng, units=40, missing=0.2)
    text = "f =~ y1 + y2 + y3\nf ~ x"
    model = made(text, data, missing="fiml")
    theta = somewhere(model, rng)
    W, B, _ = model.main.groups[0].levels_at(model.main.groups[0].parts(theta).flat)
    y, total = model.main.groups[0].data.y, model.main.constant
    for row in y:
        seen = ~np.isnan(row)
        e = row[seen] - B[seen, 0]
        S = W[np.ix_(seen, seen)]
        total += seen.sum() * np.log(2 * np.pi) + np.linalg.slogdet(S)[1]
        total += e @ np.linalg.solve(S, e)
    np.testing.assert_allclose(model.main.value(theta), total, rtol=1e-12)


def test_expected_information_is_the_mean_of_scores_products():
    """Of data drawn from the model itself, over many draws; and exactly in balanced moments."""
    rng = np.random.default_rng(11)
    text = "level: 1\n y1 ~~ y2\nlevel: 2\n y1 ~~ y2\n z ~~ y1\n"
    data = table(rng, units=60)
    fit = ranef.sem(text, data, cluster="unit")
    found = np.zeros((fit.df_model,) * 2)
    draws = 50
    for k in range(draws):
        again = fit.simulate(rng=k)
        model = made(text, again, ("unit",))
        scores = unit_scores(model, model.main, fit.estimate.theta)
        found += scores.T @ scores / draws
    expected = expected_information(fit.estimate.model.main, fit.estimate.theta)
    root = np.sqrt(np.diag(expected))
    # 50 x 60 independent units: entries of a correlation are known to about .03
    assert np.abs((found - expected) / np.outer(root, root)).max() < 0.15


# --- beside lavaan

REFERENCE = json.loads((HERE / "structural.json").read_text())
LAVAAN = f"lavaan {REFERENCE['versions']['lavaan']}"
ITEMS = [f"{name}{k}" for name in ("st", "su", "na") for k in (1, 2, 3)]
FITTED = [k for k, v in REFERENCE.items() if isinstance(v, dict) and "est" in v]


def rows(missing=False):
    data = pd.read_csv(HERE / "structural_data.csv")
    if missing:
        data[ITEMS] = data[[f"m_{name}" for name in ITEMS]]
    return data


def asked(case):
    given = dict(case["options"]) if case["options"] else {}
    names = {"fixed.x": "fixed_x", "std.lv": "std_lv", "group.equal": "group_equal",
             "group.partial": "group_partial"}  # fmt: skip
    given.pop("meanstructure", None)
    return {names.get(k, k): v for k, v in given.items()}


@pytest.fixture(scope="module")
def fits():
    known = {}

    def fit(name):
        if name not in known:
            case = REFERENCE[name]
            known[name] = ranef.sem(case["model"], rows(case["missing_data"]), **asked(case))
        return known[name]

    return fit


def matched(fit, case):
    """Places of lavaan's parameters in ours."""
    tidy = fit.tidy()
    ours = {}
    groups = list(fit.estimate.model.values.groups)
    for i, row in tidy.iterrows():
        g = 1 if row.group is None else groups.index(row.group) + 1
        key = (row.level, g) if row.op != ":=" else (0, 0)
        ours[(row.lhs, row.op, row.rhs if row.op != ":=" else "", *key)] = i
        if row.op == "~~":
            ours[(row.rhs, row.op, row.lhs, *key)] = i
    pairs = []
    for k, (lhs, op, rhs) in enumerate(zip(case["lhs"], case["op"], case["rhs"], strict=True)):
        key = (0, 0) if op == ":=" else (case["level"][k], case["group"][k])
        place = ours.get((lhs, op, rhs if op != ":=" else "", *key))
        if op in ("==", "<", ">") or place is None:
            continue
        pairs.append((place, k))
    return tidy, pairs


@pytest.mark.parametrize("name", FITTED)
def test_estimates_are_lavaans(name, fits, agree):
    case, fit = REFERENCE[name], fits(name)
    gap = fit.loglik - case["logl"]
    assert gap > -1e-6
    agree("ranef.sem", f"log-likelihood, {name}", fit.loglik, case["logl"], peer=LAVAAN, atol=1e-4)
    tidy, pairs = matched(fit, case)
    ours = [i for i, _ in pairs]
    theirs = [k for _, k in pairs]
    assert len(pairs) > 0.9 * sum(op not in ("==", "<", ">") for op in case["op"])
    est = np.array(case["est"])[theirs]
    # lavaan's search stops where its gradient is about 1e-6, of two levels further from the end
    far = 2e-4 if "level" in case["model"] else 2e-5
    agree("ranef.sem", f"estimates, {name}", tidy.estimate.iloc[ours], est, peer=LAVAAN,
          rtol=far, atol=far)  # fmt: skip
    se = np.array([np.nan if v is None else v for v in case["se"]])[theirs]
    fine = np.isfinite(se)
    agree("ranef.sem", f"standard errors, {name}", tidy.std_error.iloc[ours].to_numpy()[fine],
          se[fine], peer=LAVAAN, rtol=1e-3 if far > 1e-4 else 2e-4, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("name", FITTED)
def test_measures_are_lavaans(name, fits, agree):
    case, fit = REFERENCE[name], fits(name)
    m, known = fit.measures, case["fit"]
    two = "level" in case["model"]
    # lavaan's unrestricted two-level model stops short: chi-squared to three digits there
    far = 5e-3 if two else 1e-5
    assert m["df"] == known["df"]
    assert m["baseline_df"] == known["baseline.df"]
    agree("fit_measures", f"chi-squared, {name}", m["chisq"], known["chisq"], peer=LAVAAN,
          atol=far, rtol=1e-6)  # fmt: skip
    agree("fit_measures", f"baseline, {name}", m["baseline_chisq"], known["baseline.chisq"],
          peer=LAVAAN, atol=far, rtol=1e-6)  # fmt: skip
    for ours, theirs in (("cfi", "cfi"), ("tli", "tli"), ("rmsea", "rmsea"),
                         ("rmsea_low", "rmsea.ci.lower"), ("rmsea_high", "rmsea.ci.upper"),
                         ("srmr", "srmr")):  # fmt: skip
        np.testing.assert_allclose(m[ours], known[theirs], atol=2e-4 if two else 1e-5)
    if "chisq.scaled" in known and not two:
        agree("fit_measures", f"scaled chi-squared, {name}", m["chisq_scaled"],
              known["chisq.scaled"], peer=LAVAAN, rtol=1e-4)  # fmt: skip


def test_standardized_are_lavaans(fits):
    for name in ("two", "cfa", "cfa_std", "path", "configural"):
        case, fit = REFERENCE[name], fits(name)
        tidy, pairs = matched(fit, case)
        found = fit.standardized()
        std = np.array([np.nan if v is None else v for v in case["std"]])
        error = np.array([np.nan if v is None else v for v in case["std_se"]])
        for i, k in pairs:
            if tidy.op[i] == ":=":
                continue
            np.testing.assert_allclose(found.std_all[i], std[k], atol=2e-4)
            np.testing.assert_allclose(found.std_error[i], error[k], atol=2e-4)


def test_scores_indices_and_icc_are_lavaans(fits):
    case, fit = REFERENCE["two"], fits("two")
    icc = fit.icc().set_index("variable").icc
    for name, value in case["icc"].items():
        if name not in ITEMS:
            continue  # covariates, which are of one level
        np.testing.assert_allclose(icc[name], value, atol=2e-4)
    case, fit = REFERENCE["cfa"], fits("cfa")
    np.testing.assert_allclose(fit.scores().iloc[:5], case["scores"], atol=2e-5)
    ours = fit.modification_indices()
    known = {(a, o, b): (mi, epc) for a, o, b, mi, epc in zip(*case["mi"].values(), strict=True)}
    assert len(ours) == len(known)
    for row in ours.itertuples():
        mi, epc = known.get((row.lhs, row.op, row.rhs)) or known[row.rhs, row.op, row.lhs]
        np.testing.assert_allclose([row.mi, row.epc], [mi, epc], rtol=2e-4, atol=1e-5)


def test_difference_is_scaled_as_lavaans(fits):
    small = ranef.sem(REFERENCE["cfa"]["model"] + "st ~~ 0*na\n", rows(), estimator="MLR")
    found = fits("cfa_mlr").anova(small).tidy()
    known = REFERENCE["difference"]
    np.testing.assert_allclose(found.statistic[1], known["chisq"], rtol=1e-4)
    assert found["df"][1] == known["df"]


def test_invariance_in_one_call_is_the_fits_one_by_one(fits):
    found = ranef.invariance(REFERENCE["cfa"]["model"], rows(), group="site").tidy()
    for row in found.itertuples():
        np.testing.assert_allclose(row.chisq, REFERENCE[row.step]["fit"]["chisq"], rtol=1e-6)
        assert row.df == REFERENCE[row.step]["fit"]["df"]


# --- beside ranef itself


def test_random_slope_is_that_of_lmm(agree):
    data = rows()
    fit = ranef.sem(
        'level: 1\n na1 ~ rv("s")*x2\nlevel: 2\n na1 ~ w1\n s ~ w2\n na1 ~~ s\n',
        data, cluster="person",
    )  # fmt: skip
    mixed = ranef.lmm("na1 ~ w1 + x2 + x2:w2 + (x2 | person)", data, reml=False)
    agree("ranef.sem", "log-likelihood with a random slope", fit.loglik, mixed.loglik,
          peer="ranef.lmm", atol=1e-6)  # fmt: skip
    tidy = fit.tidy()
    at = tidy[tidy.level == 2].set_index(["lhs", "op", "rhs"]).estimate
    ours = [at["na1", "~1", ""], at["na1", "~", "w1"], at["s", "~1", ""], at["s", "~", "w2"]]
    np.testing.assert_allclose(ours, mixed.coef.iloc[[0, 1, 2, 3]], rtol=1e-5)


def test_unrestricted_model_on_the_boundary_has_no_way_up():
    """Few clusters with no variance between: the matrix between is singular at its optimum."""
    rng = np.random.default_rng(5)
    unit = np.repeat(np.arange(25), 4)
    data = {"unit": unit} | {f"y{k}": rng.normal(size=100) for k in range(1, 5)}
    text = "level: 1\n f =~ y1 + y2 + y3 + y4\nlevel: 2\n" + "".join(
        f" y{k} ~~ y{k}\n" for k in range(1, 5)
    )
    model = made(text, data, ("unit",))
    from ranef.fields.structural.unrestricted import solved_unrestricted

    problem = model.problem(saturated(model.table, model.home))
    found = solved_unrestricted(problem, [(0, 2)])
    assert found.faces
    assert found.converged
    assert found.slope > -1e-6
    rng = np.random.default_rng(6)
    cells = [
        (k, r) for k, r in ((row.free, row) for row in problem.table.rows)
        if r.level == 2 and r.op == "~~"
    ]  # fmt: skip
    for _ in range(30):  # no positive semidefinite step leads to more
        v = 0.02 * rng.normal(size=4)
        moved = found.theta.copy()
        for place, row in cells:
            i, j = int(row.lhs[1]) - 1, int(row.rhs[1]) - 1
            moved[place] += v[i] * v[j]
        assert problem.value(moved) > found.value - 1e-9


@pytest.mark.parametrize("name", ["missing", "slopes", "three levels, missing"])
def test_expected_information_given_what_is_missing(name):
    """The mean of scores' products over tables drawn with the same gaps, covariates drawn too."""
    text, clusters, missing, top = CASES[name]
    data = table(np.random.default_rng(5), 60, missing, 12 if top else None)
    model = made(text, data, clusters, missing="fiml" if missing else "listwise",
                 fixed_x="slopes" in name)  # fmt: skip
    theta = start_values(model.main)
    found = information_given_missing(model.main, theta)
    mean = np.zeros_like(found)
    rng, draws = np.random.default_rng(9), 240 if top else 120
    for _ in range(draws):
        drawn = _one_table(SimpleNamespace(model=model, theta=theta), rng)
        columns = {
            n: np.where(np.isnan(c), np.nan, drawn[n]) for n, c in model.values.columns.items()
        }
        again = Model(model.request, replace(model.values, columns=columns))
        scores = unit_scores(again, again.main, theta)
        mean += scores.T @ scores / draws
    root = np.sqrt(np.diag(found))
    assert np.abs((mean - found) / np.outer(root, root)).max() < 0.2
    assert abs(np.trace(np.linalg.solve(found, mean)) / len(found) - 1) < 0.05


@pytest.mark.parametrize("fixed_x", [True, False])
@pytest.mark.parametrize("text", [
    WITHIN + BETWEEN,
    "level: 1\n y1 ~ x\n y2 ~~ y1\n y3 ~~ y3\nlevel: 2\n y1 ~ z\n z ~ w\n y2 ~~ z\n",
    "level: 1\n f =~ y1 + y2 + y3\nlevel: 2\n g =~ y1 + y2 + y3\n g ~ w\n",
])  # fmt: skip
def test_expected_information_by_units_is_that_of_dense_matrices(text, fixed_x, monkeypatch):
    rng = np.random.default_rng(len(text))
    model = made(text, table(rng, 20, 0.25), ("unit",), missing="fiml", fixed_x=fixed_x)
    theta = somewhere(model, rng)
    found = information_given_missing(model.main, theta)
    monkeypatch.setattr(expected, "is_plain", lambda group: False)
    dense = information_given_missing(model.main, theta)
    np.testing.assert_allclose(found, dense, rtol=1e-9, atol=1e-9)


def test_expected_information_of_complete_data_is_that_of_dense_matrices():
    rng = np.random.default_rng(3)
    model = made(WITHIN + BETWEEN, table(rng, 40), ("unit",))
    theta = somewhere(model, rng)
    np.testing.assert_allclose(
        information_given_missing(model.main, theta), expected_information(model.main, theta),
        rtol=1e-10, atol=1e-10,
    )  # fmt: skip


# --- modification indices


def freed(fit, text, data, row, **how):
    """What two log L gain where a parameter is freed."""
    one, two = text.split("level: 2")
    line = f"  {row.lhs} {row.op} {row.rhs}\n"
    text = one + line * (row.level == 1) + "level: 2" + two + line * (row.level == 2)
    return 2 * (ranef.sem(text, data, **how).loglik - fit.loglik)


def test_indices_given_what_is_missing_are_what_two_log_likelihood_gains():
    """As if nothing were missing (as in lavaan 0.6 and 0.7) they would be a third too small."""
    rng = np.random.default_rng(21)
    unit = np.repeat(np.arange(150), 8)
    f, g, e = rng.normal(size=1200), rng.normal(size=150)[unit], rng.normal(size=1200)
    data = {"unit": unit}
    for k in range(5):
        y = (1, 0.9, 0.8, 1, 0.7)[k] * f + g + 0.4 * rng.normal(size=150)[unit]
        y = y + 0.7 * rng.normal(size=1200) + 0.35 * e * (k in (1, 3))
        data[f"y{k + 1}"] = np.where(rng.random(1200) < 0.25, np.nan, y)
    items = "y1 + y2 + y3 + y4 + y5"
    text = f"level: 1\n f =~ {items}\nlevel: 2\n g =~ {items}\n"
    how = {"cluster": "unit", "missing": "fiml"}
    fit = ranef.sem(text, data, **how)
    found = fit.modification_indices()
    found = found[(found.level == 1) & (found.mi > 1)]
    assert len(found) > 2
    for row in found.itertuples():
        assert abs(row.mi / freed(fit, text, data, row, **how) - 1) < 0.12


def test_a_variance_held_at_zero_has_an_index():
    """Between-residuals of zero are the first thing to free; lavaan 0.6: 290.89 in its demo."""
    rng = np.random.default_rng(22)
    unit = np.repeat(np.arange(100), 8)
    f, g = rng.normal(size=800), rng.normal(size=100)[unit]
    data = {"unit": unit} | {
        f"y{k}": f + g + 0.15 * rng.normal(size=100)[unit] + 0.7 * rng.normal(size=800)
        for k in range(1, 5)
    }
    items = "y1 + y2 + y3 + y4"
    text = f"level: 1\n f =~ {items}\nlevel: 2\n g =~ {items}\n"
    held = "".join(f" y{k} ~~ 0*y{k}\n" for k in range(1, 5))
    fit = ranef.sem(text + held, data, cluster="unit")
    found = fit.modification_indices()
    found = found[(found.level == 2) & (found.lhs == found.rhs)]
    assert sorted(found.lhs) == ["y1", "y2", "y3", "y4"]
    assert np.isnan(found.epc_std).all()
    for row in found.itertuples():
        rest = held.replace(f" {row.lhs} ~~ 0*{row.lhs}\n", "")
        more = 2 * (ranef.sem(text + rest, data, cluster="unit").loglik - fit.loglik)
        assert abs(row.mi - more) < 0.35 * more + 0.2


def test_a_growth_models_held_intercepts_have_indices():
    rng = np.random.default_rng(23)
    start, slope = rng.normal(5, 1, 300), rng.normal(1, 0.5, 300)
    data = {f"y{t}": start + slope * t + 0.5 * rng.normal(size=300) for t in range(4)}
    data["y2"] = data["y2"] + 0.3
    text = (
        "i =~ 1*y0 + 1*y1 + 1*y2 + 1*y3\ns =~ 0*y0 + 1*y1 + 2*y2 + 3*y3\ni + s ~ 1\n"
        "y0 + y1 + y2 + y3 ~ 0*1\n"
    )
    fit = ranef.sem(text, data)
    found = fit.modification_indices()
    row = found[(found.op == "~1") & (found.lhs == "y2")].iloc[0]
    free = ranef.sem(text.replace("y0 + y1 + y2 + y3 ~ 0*1", "y0 + y1 + y3 ~ 0*1\ny2 ~ 1"), data)
    assert abs(row.mi / (2 * (free.loglik - fit.loglik)) - 1) < 0.25
    assert abs(row.epc - 0.3) < 0.1
    np.testing.assert_allclose(row.epc_std, row.epc / fit.simulate(1, rng=1).y2.std(), rtol=0.2)
