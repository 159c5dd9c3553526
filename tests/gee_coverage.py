"""Coverage of the intervals of population-averaged models with few clusters, by simulation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

import ranef
from ranef.errors import DataWarning, RanefError

__all__ = ["KINDS", "coverage"]

KINDS = {
    "naive": ("model", "normal"),
    "robust, normal": ("robust", "normal"),
    "robust, clusters": ("robust", "clusters"),
    "robust, pan-wall": ("robust", "pan-wall"),
    "robust, fay-graubard": ("robust", "fay-graubard"),
    "robust, default": ("robust", None),
    "kauermann-carroll, clusters": ("kauermann-carroll", "clusters"),
    "kauermann-carroll, fay-graubard": ("kauermann-carroll", "fay-graubard"),
    "fay-graubard, fay-graubard": ("fay-graubard", "fay-graubard"),
    "mancl-derouen, normal": ("mancl-derouen", "normal"),
    "mancl-derouen, clusters": ("mancl-derouen", "clusters"),
    "mancl-derouen, default": ("mancl-derouen", None),
    "morel, default": ("morel", None),
    "jackknife, default": ("jackknife", None),
}
BETA = {"(Intercept)": 0.0, "arm": 0.4, "x": 0.5}
"""Of the marginal logit."""


def draws(n_clusters: int, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """Tables of binary responses whose marginal model is logistic with `BETA`.

    Clusters of 3 to 12 rows, correlated by thresholds on a normal variable with an intraclass
    correlation of 0.2: whatever the correlation, the mean of a row is exactly its own.
    """
    from scipy.special import expit, ndtri

    while True:
        sizes = rng.integers(3, 13, n_clusters)
        g = np.repeat(np.arange(n_clusters), sizes)
        arm = np.repeat((np.arange(n_clusters) % 2).astype(float), sizes)
        x = rng.normal(size=len(g)) + np.repeat(rng.normal(size=n_clusters), sizes)
        mu = expit(BETA["(Intercept)"] + BETA["arm"] * arm + BETA["x"] * x)
        latent = np.sqrt(0.2) * np.repeat(rng.normal(size=n_clusters), sizes)
        latent = latent + np.sqrt(0.8) * rng.normal(size=len(g))
        yield pd.DataFrame({"g": g, "arm": arm, "x": x, "y": (latent < ndtri(mu)).astype(float)})


def of_statsmodels(table: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Intervals of statsmodels, as they come and with `bias_reduced`."""
    try:
        import statsmodels.api as sm
    except ImportError:
        return {}
    X = sm.add_constant(table[["arm", "x"]].to_numpy())
    found = {}
    for kind in ("robust", "bias_reduced"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = sm.GEE(
                table["y"], X, groups=table["g"], family=sm.families.Binomial(),
                cov_struct=sm.cov_struct.Exchangeable(),
            ).fit(cov_type=kind)  # fmt: skip
        low, high = np.asarray(fit.conf_int()).T
        found[f"statsmodels, {kind}"] = (low, high)
    return found


def coverage(n_clusters: int, n: int, seed: int) -> pd.DataFrame:
    """Share of 95% intervals that hold the truth, by kind and coefficient.

    A table on which the model cannot be fitted (separation) is left out; one whose correlation is
    mixed with independence is not. The last two kinds are those of statsmodels, where it is there.
    """
    rng = np.random.default_rng(seed)
    held = {kind: np.zeros(len(BETA)) for kind in KINDS}
    width = {kind: np.zeros(len(BETA)) for kind in KINDS}
    truth = np.array(list(BETA.values()))
    count = 0
    for table in draws(n_clusters, rng):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                fit = ranef.gee("y ~ arm + x", table, groups="g", family="binomial")
        except RanefError:
            continue
        for kind, (low, high) in of_statsmodels(table).items():
            held.setdefault(kind, np.zeros(len(BETA)))
            width.setdefault(kind, np.zeros(len(BETA)))
            held[kind] += (low < truth) & (truth < high)
            width[kind] += np.nan_to_num(high - low)  # none where statsmodels has no errors
        for kind, (covariance, df) in KINDS.items():
            found = fit.with_covariance(covariance).hypotheses(df=df)
            held[kind] += (found.conf_low < truth) & (truth < found.conf_high)
            width[kind] += found.conf_high - found.conf_low
        count += 1
        if count == n:
            break
    rows = {kind: np.concatenate([held[kind], width[kind]]) / n for kind in held}
    names = [*BETA, *(f"width {name}" for name in BETA)]
    return pd.DataFrame(rows, index=names).T
