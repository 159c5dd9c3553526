"""Fits against lme4 and lmerTest at their tightest settings.

The values come from tests/reference/lmm.R and large.R, which search with
several optimisers from several starts and finish with Newton steps, so that
lme4 stands at the optimum and both sides must agree.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import reference_cases as reference

import ranef
from ranef.errors import RankWarning

SMALL = reference.ids("lmm")
LARGE = reference.ids("large")
REGULAR = [
    (name, method)
    for name, method in SMALL
    if not reference.stored("lmm")["cases"][name]["fits"][method]["singular"]
]


def fit_case(case: reference.Case):
    deficient = pytest.warns(RankWarning) if case.expected["dropped"] else nullcontext()
    with deficient:
        return ranef.lmm(case.formula, case.table, reml=case.method == "reml", **case.arguments)


@pytest.fixture(scope="module")
def fitted():
    """Each case fitted once."""
    store = {}

    def get(name, method):
        if (name, method) not in store:
            large = name in reference.stored("large")["cases"]
            case = (reference.large if large else reference.small)(name, method)
            store[name, method] = case, fit_case(case)
        return store[name, method]

    return get


def tight(name: str) -> str:
    """A name without its spaces: R writes formulas its own way."""
    return name.replace(" ", "")


def member(group: str, level: str) -> tuple:
    """A level by the columns it is made from, whatever their order."""
    columns = tight(group).split(":")
    labels = level.split(":") if len(columns) > 1 else [level]
    return tuple(sorted(zip(columns, labels, strict=True)))


def term_key(group: str, names) -> tuple:
    return tuple(sorted(tight(group).split(":"))), tuple(map(tight, names))


def estimated_terms(fit) -> dict:
    """Covariance matrix of each term by its group and its columns."""
    spec = fit.estimate.specification
    return {
        term_key(spec.factors[term.factor].name, term.names): matrix
        for term, matrix in zip(spec.terms, fit.estimate.covariances, strict=True)
    }


def assert_close(found, expected, relative, scale=None):
    """|found - expected| <= relative * (scale, or |expected|)."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    bound = np.abs(expected) if scale is None else np.broadcast_to(scale, expected.shape)
    assert found.shape == expected.shape
    error = np.abs(found - expected)
    assert np.all(error <= relative * bound + 1e-300), (
        f"worst relative difference {np.max(error / np.maximum(bound, 1e-300)):.3g}, "
        f"allowed {relative:g}; found {found}, expected {expected}"
    )


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_log_likelihood(fitted, name, method):
    case, fit = fitted(name, method)
    assert fit.loglik >= case.expected["loglik"] - 1e-6
    assert fit.loglik <= case.expected["loglik"] + 1e-5, "lme4 was not at the optimum"
    assert fit.df_model == case.expected["df_model"]
    assert fit.estimate.optimum.converged


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_accounting(fitted, name, method):
    case, fit = fitted(name, method)
    assert fit.n_obs == case.expected["n_obs"]
    groups = {tuple(sorted(tight(k).split(":"))): v for k, v in fit.n_groups.items()}
    assert groups == {
        tuple(sorted(tight(k).split(":"))): v for k, v in case.expected["n_groups"].items()
    }
    dropped = fit.estimate.specification.dropped_columns
    assert list(map(tight, dropped)) == list(map(tight, case.expected["dropped"]))


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_fixed_effects(fitted, name, method):
    case, fit = fitted(name, method)
    expected = case.expected["fixed"]
    assert list(map(tight, fit.estimate.specification.names)) == list(map(tight, expected["names"]))
    error = np.asarray(expected["std_error"])
    assert_close(
        fit.estimate.beta, expected["estimate"], 1e-5, np.abs(expected["estimate"]) + error
    )
    assert_close(np.sqrt(np.diag(fit.estimate.coefficient_vcov)), error, 1e-5)
    assert_close(fit.estimate.coefficient_vcov, case.expected["vcov"], 1e-5, np.outer(error, error))


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_variance_components(fitted, name, method):
    case, fit = fitted(name, method)
    found = estimated_terms(fit)
    assert_close(fit.sigma, case.expected["sigma"], 1e-5)
    assert len(found) == len(case.expected["terms"])
    for term in case.expected["terms"]:
        expected = np.asarray(term["covariance"])
        sd = np.sqrt(np.diag(expected)) + 1e-4 * case.expected["sigma"]
        assert_close(
            found[term_key(term["group"], term["names"])], expected, 2e-5, np.outer(sd, sd)
        )


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_singular_fits_are_found(fitted, name, method):
    case, fit = fitted(name, method)
    assert fit.estimate.optimum.singular == case.expected["singular"]


@pytest.mark.parametrize(("name", "method"), REGULAR + LARGE)
def test_satterthwaite(fitted, name, method):
    """lmerTest's df; on a face they are its numerical noise, so regular fits only."""
    case, fit = fitted(name, method)
    expected = case.expected["fixed"]
    table = fit.tidy("fixed", df="satterthwaite")
    assert_close(table["df"], expected["df"], 1e-4)
    assert_close(table["statistic"], expected["statistic"], 1e-5, 1 + np.abs(expected["statistic"]))
    visible = np.asarray(expected["p_value"]) > 1e-12
    found, target = np.asarray(table["p_value"]), np.asarray(expected["p_value"])
    assert_close(found[visible], target[visible], 1e-3)


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_conditional_modes(fitted, name, method):
    case, fit = fitted(name, method)
    table = fit.tidy("random")
    columns = (table[c].tolist() for c in ("group", "level", "term", "estimate", "cond_sd"))
    found: dict[tuple, list] = {}
    for group, level, term, mode, sd in zip(*columns, strict=True):
        found.setdefault((member(group, str(level)), tight(term)), []).append((mode, sd))
    scale = case.expected["sigma"]
    r = case.expected["random"]
    wanted = zip(r["group"], r["level"], r["term"], r["mode"], r["cond_sd"], strict=True)
    for group, level, term, mode, sd in wanted:
        [(found_mode, found_sd)] = found[member(group, level), tight(term)]
        assert_close(found_mode, mode, 2e-5, abs(mode) + sd + 1e-3 * scale)
        assert_close(found_sd, sd, 2e-5, sd + 1e-3 * scale)


@pytest.mark.parametrize(("name", "method"), SMALL + LARGE)
def test_fitted_values(fitted, name, method):
    case, fit = fitted(name, method)
    found = np.asarray(fit.fitted())
    first = found[~np.isnan(found)][: len(case.expected["fitted"])]
    assert_close(first, case.expected["fitted"], 1e-5, np.abs(first) + case.expected["sigma"])


@pytest.mark.parametrize("name", list(reference.stored("large")["cases"]))
def test_large_tables_are_those_of_r(name):
    entry = reference.stored("large")["cases"][name]
    table = reference.rdataset(entry["table"])
    assert len(table) == entry["data"]["rows"]
    for column, expected in entry["data"]["fingerprints"].items():
        found = np.arange(1, len(table) + 1) @ table[column].to_numpy(float)
        assert found == pytest.approx(expected, rel=1e-12)
