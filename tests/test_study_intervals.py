"""Coverage of intervals by computing, run by ``make study``: one table, printed.

The designs are those of `test_study`: six groups of three to seven rows with a slope within
and one between groups, and 12 x 8 cells of one row, a tenth of them missing. Every
data set is drawn anew, 2,000 for profiles and 200 for bootstraps of 400 replicates.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from interval_coverage import crossed_cells, unbalanced_groups
from numpy.typing import NDArray

import ranef
from ranef.errors import RanefWarning

pytestmark = pytest.mark.study

Floats = NDArray[np.float64]
TERMS = ("(Intercept)", "x", "w")
TRUTH = np.array([1.0, 0.5, 0.3])
LEAST = 0.935
DESIGNS = {
    "6 groups unbalanced": (unbalanced_groups, "y ~ x + w + (1 | g)"),
    "12 x 8 crossed": (crossed_cells, "y ~ x + w + (1 | a) + (1 | b)"),
}
Answers = Iterator[tuple[str, pd.DataFrame]]


def by_profile(fit: Any) -> Answers:
    prof = ranef.profile(fit, "fixed", conf_level=0.9999, n_jobs=1)
    for df in ("normal", "satterthwaite"):
        yield f"profile, {df}", prof.confint(df=df)
    yield "wald, satterthwaite", fit.confint()


def by_bootstrap(fit: Any) -> Answers:
    methods = ["parametric", "residual"]
    methods += ["cluster"] if len(fit.n_groups) == 1 else []
    for method in methods:
        boot = ranef.bootstrap(fit, 400, method=method, rng=1)
        kinds = ["percentile", "basic", "normal"] + (["bca"] if len(fit.n_groups) == 1 else [])
        for kind in kinds:
            yield f"{method}, {kind}", boot.confint(kind=kind, parameters="fixed")


def coverage(design: str, draws: int, ask: Callable[[Any], Answers]) -> dict[str, Floats]:
    """Share of 95% intervals that hold the truth, by way and coefficient."""
    draw, formula = DESIGNS[design]
    rng = np.random.default_rng(7)
    covered: dict[str, Floats] = defaultdict(lambda: np.zeros(3))
    for _ in range(draws):
        fit = ranef.lmm(formula, draw(rng))
        with warnings.catch_warnings():
            # levels drawn with replacement may leave a slope between groups undetermined
            warnings.simplefilter("ignore", RanefWarning)
            for way, table in ask(fit):
                low, high = table["conf_low"].to_numpy(), table["conf_high"].to_numpy()
                covered[way] += (low <= TRUTH) & (high >= TRUTH)
    return {way: count / draws for way, count in covered.items()}


def show(design: str, draws: int, found: dict[str, Floats]) -> None:
    print(f"\n| {design}, {draws:,} draws | {' | '.join(TERMS)} |\n| --- | ---: | ---: | ---: |")
    for way, share in found.items():
        print(f"| {way} | {' | '.join(f'{100 * s:.1f}' for s in share)} |")


@pytest.mark.parametrize("design", DESIGNS)
def test_coverage_of_profile_intervals(design: str) -> None:
    """Calibrated profiles cover in 93.5% and more; with normal quantiles the slope within does.

    With normal quantiles the likelihood ratio takes the variances as known: of what
    varies between six groups it covers in about 90% (exactly P(|t| < 2.117) = 91.2% of a
    mean of six balanced groups, since 6 log(1 + t^2 / 5) < 1.96^2 there).
    """
    found = coverage(design, 2000, by_profile)
    show(design, 2000, found)
    assert np.all(found["profile, satterthwaite"] >= LEAST)
    assert found["profile, normal"][1] >= LEAST - 0.01
    assert np.all(found["profile, normal"] >= 0.84)


@pytest.mark.parametrize("design", DESIGNS)
def test_coverage_of_bootstrap_intervals(design: str) -> None:
    """No way falls apart; four standard errors of a proportion are six points here."""
    found = coverage(design, 200, by_bootstrap)
    show(design, 200, found)
    assert found["parametric, percentile"][1] >= 0.95 - 0.062
    least = {"parametric": 0.82, "residual": 0.80, "cluster": 0.6}
    for way, share in found.items():
        assert np.all(share >= least[way.split(",")[0]]), way
