"""Models of every structure of residuals and effects, for studies of bias and coverage.

`MODELS` gives of each a formula and the call's further arguments; `first_fit` fits it to rows whose
response was drawn so that no parameter of the fit stands at an end. The fit is the truth of a
study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import ranef
from ranef.inference.kinds import inference_of

GROUPS, PLACES = 64, 5

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "homcs": ("y ~ x", {"residual": "homcs(t | g)"}),
    "cs": ("y ~ x", {"residual": "cs(t | g)"}),
    "ar1 + (1 | g)": ("y ~ x + (1 | g)", {"residual": "ar1(t | g)"}),
    "hetar1": ("y ~ x", {"residual": "hetar1(t | g)"}),
    "toep": ("y ~ x", {"residual": "toep(t | g)"}),
    "homtoep": ("y ~ x", {"residual": "homtoep(t | g)"}),
    "us": ("y ~ x + arm", {"residual": "us(t | g)"}),
    "homante": ("y ~ x", {"residual": "homante(t | g)"}),
    "ante": ("y ~ x", {"residual": "ante(t | g)"}),
    "ou + (1 | g)": ("y ~ x + (1 | g)", {"residual": "ou(c | g)"}),
    "car1": ("y ~ x", {"residual": "car1(c | g)"}),
    "arma(1, 1)": ("y ~ x", {"residual": "arma(t | g, p=1, q=1)"}),
    "exp, nugget": ("y ~ x", {"residual": "exp(c | g, nugget=True)"}),
    "gau": ("y ~ x", {"residual": "gau(c | g)"}),
    "gau, nugget": ("y ~ x", {"residual": "gau(c | g, nugget=True)"}),
    "mat": ("y ~ x", {"residual": "mat(hours | p)"}),
    "us * ar1": ("y ~ x", {"residual": "us(item | p) * ar1(k | p)"}),
    "us, by=": ("y ~ x + arm", {"residual": "us(third | g, by=arm)"}),
    "~ arm": ("y ~ x + (1 | g)", {"dispersion": "~ arm"}),
    "~ power(size)": ("y ~ x + (1 | g)", {"dispersion": "~ power(size)"}),
    "ar1, ~ exponential(c)": (
        "y ~ x", {"residual": "ar1(t | g)", "dispersion": "~ exponential(c)"},
    ),
    "~ power(mean)": ("y ~ size", {"dispersion": "~ power(mean)"}),
    "effects: us": ("y ~ x + (1 + c | g)", {}),
    "effects: ar1": ("y ~ x + ar1(0 + place | g)", {}),
    "effects: homtoep": ("y ~ x + homtoep(0 + third3 | p)", {}),
    "effects: homcs": ("y ~ x + homcs(0 + third3 | p)", {}),
    "multiple membership": ("y ~ x + (1 | mm(one, two, weights=cbind(w1, w2)))", {}),
    "pedigree": ("y ~ x + kernel(1 | animal, A)", {}),
}  # fmt: skip


def remembered(n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """AR(1) with an SD a place, a little of which is not remembered."""
    e = rng.normal(size=(n, m))
    for j in range(1, m):
        e[:, j] = 0.6 * e[:, j - 1] + 0.8 * e[:, j]
    return e * np.linspace(1.0, 1.5, m) + 0.4 * rng.normal(size=(n, m))


def family(n: int, rng: np.random.Generator) -> ranef.Pedigree:
    """Founders, and pairs of them with several calves each."""
    founders = n // 4
    sire, dam = rng.integers(0, founders // 2, n), rng.integers(founders // 2, founders, n)
    born = np.arange(n) >= founders
    parents = [np.where(born, [f"i{k}" for k in of], "") for of in (sire, dam)]
    table = {"id": [f"i{k}" for k in range(n)], "sire": parents[0], "dam": parents[1]}
    return ranef.pedigree(table, id="id", sire="sire", dam="dam")


def rows(name: str, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A table, and the kernels of the formula."""
    n, m = GROUPS, PLACES
    g, t = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
    arm = np.where(g % 2, "a", "b")
    size = rng.uniform(1.0, 3.0, size=n * m)
    e = remembered(n, m, rng).ravel()
    data = {
        "g": g, "t": t, "x": rng.normal(size=n * m), "arm": arm, "size": size,
        "c": t + rng.uniform(0, 0.6, size=n * m), "place": t.astype(str), "third": t % 5 + 1,
        "p": np.repeat(np.arange(n * m // 10), 10),
        "k": np.tile(np.repeat(np.arange(5), 2), n // 2),
        "item": np.tile([0, 1], n * m // 2), "third3": np.tile(list("abcabcabca"), n // 2),
    }  # fmt: skip
    own = rng.normal(size=(n, 5))
    data["hours"] = np.sort(rng.uniform(0, 8, size=(n * m // 10, 10)), axis=1).ravel()
    if name == "us * ar1":
        both = remembered(n, m, rng)
        data["y"] = np.stack([both[::2], 0.6 * both[::2] + both[1::2]], axis=2).ravel()
    elif name in ("~ arm", "~ power(size)"):
        data["y"] = own[g, 0] + np.where(arm == "a", 1.0, 1.6) * size * rng.normal(size=n * m)
    elif name == "mat":
        near = np.exp(-np.abs(data["hours"][:, None] - data["hours"]) / 2.0)
        V = np.where(data["p"][:, None] == data["p"], near, 0.0)
        data["y"] = np.linalg.cholesky(V) @ rng.normal(size=n * m)
    elif name == "~ power(mean)":
        data["y"] = 1 + 2 * size + 0.3 * (1 + 2 * size) * rng.normal(size=n * m)
    elif name.startswith("effects: ho"):
        deep = own[:, :1] + 0.7 * own[:, 1:4]
        at = data["third3"].view(np.uint32) - ord("a")
        data["y"] = deep[data["p"], at] + 0.8 * rng.normal(size=n * m)
    elif name.startswith("effects: us"):
        data["y"] = own[g, 0] + 0.5 * (own[g, 0] + own[g, 1]) * data["c"] + rng.normal(size=n * m)
    elif name == "effects: ar1":
        data["y"] = 1.3 * (e - e.mean()) + rng.normal(size=n * m)
        data |= {"g": np.repeat(g, 2), "place": np.repeat(data["place"], 2)}
        data["x"], data["y"] = rng.normal(size=2 * n * m), np.repeat(data["y"], 2)
        data["y"] = data["y"] + rng.normal(size=2 * n * m)
        data = {key: data[key] for key in ("g", "place", "x", "y")}
    elif name == "multiple membership":
        one, two = rng.integers(0, 40, (2, n * m))
        w = rng.uniform(0.2, 0.8, n * m)
        data |= {"one": one, "two": two, "w1": w, "w2": 1 - w}
        school = 1.2 * rng.normal(size=40)
        data["y"] = w * school[one] + (1 - w) * school[two] + rng.normal(size=n * m)
    elif name == "pedigree":
        A = family(n * m, rng)
        data["animal"] = np.array(A.labels)
        root = np.linalg.cholesky(A.relationship(A.labels))
        data["y"] = root @ rng.normal(size=n * m) + rng.normal(size=n * m)
        return data, {"kernels": {"A": A}}
    else:
        data["y"] = e + 1.2 * own[g, 0] * ("(1 | g)" in name)
    return data, {}


def first_fit(name: str, rng: np.random.Generator) -> Any:
    """The model, fitted to rows drawn for it."""
    formula, options = MODELS[name]
    data, kernels = rows(name, rng)
    return ranef.lmm(formula, data, **options, **kernels)


@dataclass(frozen=True)
class Study:
    """What repeated draws of one model gave.

    Attributes
    ----------
    draws, failed : int
    fixed : float
        Share of the 95% intervals of the last coefficient, by Kenward and Roger (by Satterthwaite
        where the model has none), that held it.
    parameters : (k,) float64 array
        The same of each standard deviation and other parameter, of the intervals that there are.
    missing : float
        Share of intervals that there are not: of what stands at an end of its range.
    bias : (k,) float64 array
        Median estimate minus the truth.
    spread : (k,) float64 array
        Its Monte Carlo error.
    truth : (k,) float64 array
    """

    draws: int
    failed: int
    fixed: float
    parameters: np.ndarray
    missing: float
    bias: np.ndarray
    spread: np.ndarray
    truth: np.ndarray


def study(name: str, draws: int, seed: int) -> Study:
    """Draw from the model's first fit, and fit again; each model has draws of its own."""
    rng = np.random.default_rng([seed, list(MODELS).index(name)])
    fit = first_fit(name, rng)
    coefficient = fit.coef.iloc[-1]
    truth = fit.tidy("variance")["estimate"].to_numpy()
    inside, held, estimates, failed = [], [], [], 0
    for y in inference_of(fit.estimate).simulate(draws, rng, kind="new").T:
        try:
            again = fit.refit(y)
        except ranef.errors.ModelError:
            failed += 1
            continue
        row = again.tidy(df="kenward-roger").iloc[-1]
        inside.append(row["conf_low"] <= coefficient <= row["conf_high"])
        rest = again.tidy("variance")
        low, high = rest["conf_low"].to_numpy(), rest["conf_high"].to_numpy()
        held.append(np.where(np.isfinite(high), (low <= truth) & (truth <= high), np.nan))
        estimates.append(rest["estimate"].to_numpy())
    found, covered = np.array(estimates), np.array(held)
    spread = 1.25 * found.std(axis=0) / np.sqrt(len(found))
    return Study(
        draws, failed, float(np.mean(inside)), np.nanmean(covered, axis=0),
        float(np.isnan(covered).mean()), np.median(found, axis=0) - truth, spread, truth,
    )  # fmt: skip
