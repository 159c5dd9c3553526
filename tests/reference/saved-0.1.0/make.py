"""Save one fit of each kind and shape with the installed ranef, and what it answers.

Run by ranef 0.1.0 only (`.venv/bin/python make.py`): the files are what a later version
must still read.
"""

import datetime as dt
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import ranef
from ranef.priors import LKJ, Gamma, HalfT, Normal

HERE = Path(__file__).parent
N, G = 48, 8
MOMENTS = [dt.datetime(2024, 3, 28, 12) + dt.timedelta(days=i) for i in range(G)]


def half(x):
    return x / 2


def table():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(G), N // G)
    x = np.tile(np.arange(N // G), G).astype(float)
    eta = 0.3 + 0.2 * x + np.repeat(rng.normal(0, 0.8, G), N // G)
    y = eta + rng.normal(0, 0.5, N)
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "t": np.tile(np.arange(1, N // G + 1), G),
            "f": np.tile(["low", "mid", "high"], N // 3),
            "h": np.tile(list("abcdef"), G),
            "g": [f"unit/{i}" if i else "" for i in g],
            "w": rng.uniform(0.5, 2, N),
            "o": np.round(rng.normal(size=N), 2),
            "k": rng.poisson(np.exp(eta / 2)).astype(float),
            "size": np.full(N, 8),
            "hit": rng.binomial(8, 1 / (1 + np.exp(-eta / 2))),
            "grade": np.array(["bad", "fair", "good"])[np.digitize(y, [0.2, 1.1])],
            "share": rng.uniform(0.05, 0.95, N).round(3),
            "zero": rng.binomial(1, 0.7, N) * rng.poisson(np.exp(eta / 2)),
        }
    )


def kernel(levels):
    distance = np.abs(np.subtract.outer(np.arange(len(levels)), np.arange(len(levels))))
    return pd.DataFrame(0.6**distance, index=levels, columns=levels)


D = table()
D["h"] = D.h.where(D.index != 7)
LEVELS = {
    "integers": np.repeat(np.arange(G) * 1000 - 3, N // G),
    "booleans": np.repeat([True, False], N // 2),
    "dates": [moment.date() for moment in MOMENTS for _ in range(N // G)],
    "timestamps": pd.Series(np.repeat(MOMENTS, N // G)),
    "zoned": pd.Series(np.repeat(MOMENTS, N // G)).dt.tz_localize("Europe/Berlin"),
    "categories": pd.Categorical(D.g, categories=[*dict.fromkeys(D.g)][::-1]),
    "moments": pd.Categorical(np.repeat(pd.to_datetime(MOMENTS), N // G)),
}
GRADES = pd.Categorical(D.grade, ["bad", "fair", "good"], ordered=True)


def lmm(formula, data=D, **options):
    return lambda: ranef.lmm(formula, data, **options)


def glmm(formula, family, data=D, **options):
    return lambda: ranef.glmm(formula, data, family=family, **options)


COUNTS = "k ~ x + (1 | g)"
CASES = {
    "lmm": lmm("y ~ x + (x | g)"),
    "lmm-weights-offset-ml": lmm("y ~ x + (1 | g)", weights="w", offset="o", reml=False),
    "lmm-kernel": lmm("y ~ x + kernel(1 | g, K)", kernels={"K": kernel(sorted(set(D.g)))}),
    "lmm-ar1": lmm("y ~ x + ar1(0 + t | g)"),
    "lmm-gau": lmm("y ~ 1 + gau(0 + x + t | g)"),
    "lmm-rr-cs": lmm("y ~ 1 + rr(0 + f | g, 1) + cs(0 + f | h)"),
    "lmm-crossed-missing": lmm("y ~ x + (1 | g) + (1 | h)"),
    "lmm-nested": lmm("y ~ x + (1 | g/f)"),
    "lmm-bases": lmm(
        "log(y + 4) ~ poly(x, 2) + ns(t, 2) + bs(o, 4) + scale(w) + C(f, contr.sum) + (1 | g)"
    ),
    "lmm-within": lmm("y ~ within(o, g) + between(o, g) + offset(w) + (1 | g)"),
    "lmm-dot-matrix": lmm(
        "y ~ . + (1 | g)",
        D[["y", "x", "f", "g"]],
        contrasts={"f": pd.DataFrame({"a": [1.0, 0, -1], "b": [1.0, -2, 1]})},
    ),
    "lmm-functions": lmm("y ~ half(x) + (1 | g)", functions={"half": half}),
    "lmm-singular": lmm("y ~ x + (x | f)"),
    "lmm-priors": lmm("y ~ x + (1 | g)", priors={"sd: g": HalfT(3, 1.5)}, fixed={"x": 0.25}),
    **{f"levels-{name}": lmm("y ~ x + (1 | u)", D.assign(u=u)) for name, u in LEVELS.items()},
    "table-indexed": lmm(
        "y ~ x + (1 | g)",
        D.set_index(pd.date_range("2024-01-01", periods=N, tz="Europe/Berlin", name="at")),
    ),
    "table-two-indices": lmm(
        "y ~ x + (1 | g)",
        D.set_index(pd.MultiIndex.from_product([range(G), list("abcdef")], names=["i", None])),
    ),
    "table-polars": lmm("y ~ f + (1 | g)", pl.from_pandas(D)),
    "table-arrow": lmm("y ~ f + (1 | g)", pa.Table.from_pandas(D)),
    "table-dict": lmm("y ~ f + (1 | g)", {name: D[name].to_numpy() for name in ("y", "f", "g")}),
    "glmm-trials": glmm("cbind(hit, size - hit) ~ x + (1 | g)", "binomial"),
    "glmm-proportions": glmm("hit/size ~ x + (1 | g)", "binomial", weights="size", link="probit"),
    "glmm-two-levels": glmm(
        "u ~ x + (1 | g)", "binomial", D.assign(u=np.where(D.k > 1, "yes", "no"))
    ),
    "glmm-zero-dispersion": glmm("zero ~ x + (1 | g)", "nbinom2", zero="~ 1", dispersion="~ x"),
    "glmm-zero-part": glmm("zero ~ x + (1 | g)", "poisson", zero="~ o"),
    "glmm-hurdle": glmm("zero ~ x + (1 | g)", "truncated_poisson", zero="~ x + (1 | g)"),
    "glmm-ordinal": glmm("grade ~ x + (1 | g)", "cumulative", D.assign(grade=GRADES), quadrature=7),
    "glmm-nominal": glmm(
        "grade ~ o + (1 | g)",
        ranef.families.Cumulative("logit", "flexible"),
        D.assign(grade=GRADES),
        nominal="~ x",
        priors={"fixed": Normal(0, 2)},
    ),
    "glmm-equidistant": glmm(
        "grade ~ x + (1 | g)",
        ranef.families.Cumulative("probit", "equidistant"),
        D.assign(grade=GRADES),
    ),
    "glmm-multinomial": glmm("u ~ o + (1 | g)", "multinomial", D.assign(u=D.f)),
    "glmm-priors-fixed-equal": glmm(
        "k ~ x + o + w + y + (x | g)",
        "poisson",
        priors={"x": Normal(0, 1), "sd: g": Gamma(2, 0.1), "corr: g": LKJ(2)},
        fixed={"y": 0},
        equal=[("o", "w")],
    ),
    "glmm-quadrature-polars": glmm(COUNTS, "poisson", pl.from_pandas(D), quadrature=9),
    "glmm-gaussian-reml": glmm("y ~ x + (1 | g)", "gaussian", reml=True),
    "glmm-censored": glmm(
        "cbind(y, up) ~ x + (1 | g)", "censored", D.assign(up=np.where(D.k > 1, np.inf, D.y))
    ),
    "glmm-t-shapes": glmm("y ~ x + (1 | g)", "t", fixed={"df: (Intercept)": 1.5}),
    "glmm-beta-weights": glmm("share ~ x + (1 | g)", "beta", weights="w", offset="o"),
}
NEW = {"x": [1.0, 2.0], "t": [2, 3], "o": [0.1, -0.2], "w": [1.0, 1.5], "f": ["mid", "low"],
       "h": ["b", "c"], "g": ["unit/3", ""], "size": [8, 8], "y": [0.1, 0.2]}  # fmt: skip


def answer(name, fit):
    """What the file must still say, as plain values."""
    random = fit.tidy("random")
    column = {name: list(random[name]) for name in ("level", "estimate")}
    new = dict(NEW)
    if name.startswith("levels"):
        new["u"] = column["level"][:2]
    kind = "conditional"
    predicted = fit.predict(pd.DataFrame(new), kind=kind)
    return {
        "class": type(fit).__name__,
        "library": fit.frame.library,
        "n_obs": fit.n_obs,
        "loglik": fit.loglik,
        "coefficients": getattr(fit.estimate, "coefficients", fit.estimate.beta).tolist(),
        "theta": fit.estimate.theta.tolist(),
        "levels": [str(level) for level in column["level"]],
        "effects": [float(value) for value in column["estimate"]],
        "predicted": np.asarray(predicted, dtype=float).tolist(),
    }


def main():
    assert ranef.__version__ == "0.1.0"
    answers = {}
    for name, fitted in CASES.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fit = fitted()
        print(name, *{str(w.message)[:100] for w in told}, sep="\n    ")
        fit.save(HERE / f"{name}.ranef")
        functions = {"half": half} if "functions" in name else None
        again = ranef.load(HERE / f"{name}.ranef", functions=functions)
        answers[name] = answer(name, again)
    lines = [f"{json.dumps(name)}: {json.dumps(said)}" for name, said in answers.items()]
    text = f'"new": {json.dumps(NEW)},\n"answers": {{\n' + ",\n".join(lines) + "}"
    (HERE / "answers.json").write_text(f"{{{text}}}\n")


if __name__ == "__main__":
    main()
