"""Random small models against dense algebra: no wrong number, no raw exception.

A model is drawn from a seed and a number; ``python tests/random_models.py SEED COUNT`` runs them
again, in a process of its own as here, so that a crash of the core is seen as one.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import random_generalised
from random_generalised import faults as generalised_faults
from random_models import faults

import ranef

SCRIPT = Path(__file__).with_name("random_models.py")
GENERALISED = Path(__file__).with_name("random_generalised.py")
SEED = "RANEF_MODELS_SEED"
"""Environment variable that sets the seed of the study."""


def compare(seed: int, count: int, script: Path = SCRIPT) -> None:
    """Run models and show the seeds of those that are wrong."""
    done = subprocess.run(
        [sys.executable, str(script), str(seed), str(count)], capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1:] or [""]
    print(f"seed {seed}, {count} models, exit code {done.returncode}, last {last[0]}")
    assert done.returncode in (0, 1), f"the process ended at {last[0]}"
    assert done.returncode == 0, done.stdout


def test_some_models_of_a_known_seed() -> None:
    compare(1, 60)


FOUND = {
    (2, 2273): "homcs: the better of two optima has a negative correlation",
    (2, 1741): "ar1: without variance one correlation of many was tried",
    (7310007, 930): "three columns of rank one: the starts agreed, other signs are lower",
    (1, 86): "rr: loadings that the fixed effects reproduce",
    (1, 156): "weights of 1e8: a direction that changes nothing was lost in a threshold",
    (2, 516): "a left-out row holds a level that no other row has",
    (2, 774): "the same, left out for a missing value",
    (2, 748): "Kenward and Roger's covariance with a negative variance",
    (2, 1951): "robust covariance without digits",
    (2, 985): "second derivatives of a term that stands at zero",
    (11, 173): "a residual so small that the log-likelihood has no digits, weights of 1e8",
    (11, 390): "the same where the likelihood is unbounded",
    (11, 619): "the same where it has a limit, effects of every row",
    (11, 885): "the same of equal variances",
    (11, 280): "the same of crossed effects",
    (11, 117): "reported parameters that cancel in V",
    (32, 543): "effects of levels of one row, of which the data say much",
    (36, 792): "robust covariance without coefficients",
    (43, 895): "a term of more columns than rows",
    (35, 14): "an optimum where one of several terms is all there is",
    (32, 691): "the same with a shape",
    (1130, 674): "a variance of scores below zero by rounding",
    (1130, 1338): "one-step influence beside a covariance without digits",
    (90001, 169): "a redundant column 1e5 times smaller than those that it depends on",
    (2207, 442): "ar1: an optimum of effects ten times smaller than those found first",
    (11, 585): "effects beside coefficients of which little is known",
    (5113001, 331): "a way back from where digits are lost over points without a likelihood",
    (5113003, 392): "a valley at no variance below the one that a grid of sizes finds",
    (5113004, 760): "a flat direction where second derivatives are rounding; related predictors",
    (5113005, 816): "information with a negative eigenvalue in a test of variances",
    (5113005, 951): "dependent columns at the boundary, where no single entry can move",
    (5113007, 585): "three columns: one of several optima of rank one",
    (5113009, 81): "ar1 with a level that only left-out rows have",
    (42, 696): "one degree of freedom: the restricted likelihood is constant",
}


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.values())
def test_what_the_study_found_stays_mended(seed: tuple[int, int]) -> None:
    assert faults(list(seed)) == []


@pytest.mark.study
def test_10_000_models() -> None:
    seed = int(os.environ.get(SEED, secrets.randbelow(2**31)))
    for part in range(10):
        compare(seed + part, 1000)


GENERALISED_FOUND = {
    (3, 8): "a mean of the population beyond the largest number",
}


@pytest.mark.parametrize("seed", GENERALISED_FOUND, ids=GENERALISED_FOUND.values())
def test_what_generalised_models_found_stays_mended(seed: tuple[int, int]) -> None:
    assert generalised_faults(list(seed)) == []


@pytest.mark.study
def test_1_000_generalised_models() -> None:
    seed = int(os.environ.get(SEED, secrets.randbelow(2**31)))
    compare(seed, 1000, GENERALISED)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_a_covariance_beyond_the_largest_number_is_no_raw_warning() -> None:
    """A binary response that a predictor separates, while the judgement of Laplace refits it."""
    case = random_generalised.problem([120102, 660])
    fit = ranef.glmm(case.formula, case.table, family=case.family, **case.arguments)
    assert len(fit.tidy()) == 3
