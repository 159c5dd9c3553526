"""Saved files whose parts do not belong to each other: what is wrong is named, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lies import Arrays, Change, Head, changed

from ranef.errors import FileError
from ranef.storage import saving


def estimate(head: Head) -> Any:
    return head["values"]["estimate"]


def value(where: str, new: Any) -> Change:
    """Put another value at a place below the estimate."""

    def change(head: Head, arrays: Arrays) -> None:
        at: Any = estimate(head)
        *path, last = where.split(".")
        for key in path:
            at = at[int(key) if key.isdigit() else key]
        at[int(last) if last.isdigit() else last] = new

    return change


def array(name: str, make: Callable[[Any], Any]) -> Change:
    """Change the numbers of an array."""

    def change(head: Head, arrays: Arrays) -> None:
        arrays[name] = make(arrays[name]).astype(arrays[name].dtype)

    return change


def added(where: str, make: Callable[[Arrays], Any]) -> Change:
    """Put an array where the file has none."""

    def change(head: Head, arrays: Arrays) -> None:
        arrays["added"] = np.asarray(make(arrays))
        value(where, {"array": "added"})(head, arrays)

    return change


def both(*changes: Change) -> Change:
    def change(head: Head, arrays: Arrays) -> None:
        for one in changes:
            one(head, arrays)

    return change


def entry(index: Any, new: Any) -> Callable[[Any], Any]:
    """Return a function that sets one entry of an array."""

    def make(a: Any) -> Any:
        a = a.copy()
        a[index] = new
        return a

    return make


def no_rows(head: Head, arrays: Arrays) -> None:
    for name, a in arrays.items():
        for axis, size in enumerate(a.shape):
            if size == 60:
                arrays[name] = np.take(a, [], axis=axis)
    own = estimate(head)["parts"]["conditional"]
    for where in (own, head["values"]["frame"]):
        where["accounting"]["n_rows"] = 0


def other_rows(head: Head, arrays: Arrays) -> None:
    """The zero part is one of fewer rows than the mean."""
    own = estimate(head)["parts"]["zero"]
    arrays["short.y"], arrays["short.X"] = arrays["y"][:30], np.ones((30, 1))
    own["y"], own["X"] = {"array": "short.y"}, {"array": "short.X"}
    own["accounting"]["n_rows"] = 30


def unlisted(head: Head, arrays: Arrays) -> None:
    """The frame's first column has categories by number, of which only one is listed."""
    columns = head["values"]["frame"]["columns"]
    name = next(iter(columns))
    arrays["coded"] = np.full(60, 5, dtype=np.int32)
    columns[name] = {
        **columns[name],
        "kind": "labels",
        "levels": ["a"],
        "values": {"array": "coded"},
    }


def twice_sigma(head: Head, arrays: Arrays) -> None:
    """All standard deviations are twice as large: theta is the same."""
    estimate(head)["sigma"] *= 2.0
    arrays["covariances"] *= 4.0


FLAT = {"class": "FlatDirection", "terms": [7], "residual": False, "description": "x"}
PART = "parts.conditional."
MODEL = "model.specification."
LIES: dict[str, tuple[str, str, Change]] = {
    "no rows": ("spread", "the model has no rows", no_rows),
    "a weight of zero": (
        "linear", "a weight is not positive",
        added(PART + "weights", lambda a: np.zeros(60)),
    ),
    "a column of zeros": (
        "linear", "a column of the fixed effects is zero",
        array("X", entry((slice(None), 1), 0.0)),
    ),
    "a column twice": (
        "linear", "the columns of the fixed effects depend on each other",
        array("X", entry((slice(None), 1), 1.0)),
    ),
    "a kernel of other levels": (
        "kernel", "the kernel of (kernel(1 | g, K)) is not one of the factor's levels",
        array("kernel", lambda a: a[:5, :5]),
    ),
    "a kernel that is not symmetric": (
        "kernel", "the kernel of (kernel(1 | g, K)) is not symmetric",
        array("kernel", entry((0, 1), 0.9)),
    ),
    "groups of fewer rows": (
        "residuals", "the groups of the residuals have other rows than the model",
        array("codes", lambda a: a[:30]),
    ),
    "a lag beyond the places": (
        "visits", "a lag of the residuals lies beyond their places",
        value(PART + "residual.parts.0.lags", [99]),
    ),
    "places without names": (
        "residuals", "the places of a residual structure are not listed",
        value(PART + "residual.parts.0.kind", "us"),
    ),
    "theta of more entries": (
        "poisson", "theta has 2 entries, the terms ask for 1",
        both(
            array("theta", lambda a: np.r_[a, 1.0]), array("gradient", lambda a: np.r_[a, 1.0])
        ),
    ),
    "a flat direction of no term": (
        "poisson", "a flat direction names no random term", value("optimum.flat", [FLAT]),
    ),
    "a residual standard deviation of zero": (
        "linear", "the residual standard deviation is not a positive number",
        both(value("sigma", 0.0), array("covariances", lambda a: a * 0)),
    ),
    "a residual standard deviation below zero": (
        "linear", "the residual standard deviation is not a positive number",
        value("sigma", -1.0),
    ),
    "coefficients of other rows": (
        "linear", "the coefficients are not those of the rows",
        array("coefficients", lambda a: a + np.array([0.0, 0.1])),
    ),
    "a response in another order": (
        "nested", "are not those of the rows", array("y", lambda a: a[::-1]),
    ),
    "levels of other rows": (
        "linear", "are not those of the rows", array("codes", lambda a: np.roll(a, 1)),
    ),
    "modes of another variance": (
        "kernel", "the modes of (kernel(1 | g, K)) are not those of the rows",
        both(
            array("theta", lambda a: a * 2.0), array("covariances", lambda a: a * 4.0)
        ),
    ),
    "modes of counts of another variance": (
        "poisson", "the modes of (1 | g) are not those of the rows",
        both(
            array("theta", lambda a: a * 2.0), array("covariances", lambda a: a * 4.0)
        ),
    ),
    "counts of other rows": (
        "zero", "the modes of (1 | g) are not those of the rows", array("y", lambda a: a + 5),
    ),
    "a residual standard deviation of other rows": (
        "linear", "the residual standard deviation is not that of the rows",
        twice_sigma,
    ),
    "a likelihood of another optimum": (
        "linear", "the log-likelihood is not that of the optimum", value("loglik", -50.0),
    ),
    "a likelihood of other rows": (
        "visits", "the log-likelihood is not that of the rows",
        both(value("loglik", -50.0), value("optimum.criterion", 100.0)),
    ),
    "residuals of other parameters": (
        "residuals", "the log-likelihood is not that of the rows",
        array("theta", lambda a: a - 0.5),
    ),
    "a covariance matrix of other rows": (
        "linear", "the covariance matrix of the coefficients is not that of the rows",
        array("coefficient_vcov", lambda a: 2.0 * a),
    ),
    "a covariance matrix with two halves": (
        "linear", "the covariance matrix of the coefficients is not symmetric",
        array("coefficient_vcov", entry((0, 1), 0.5)),
    ),
    "numbers beside the rows are missing": (
        "poisson", "'extra' has missing values",
        added("extra", lambda a: np.full(60, np.nan)),
    ),
    "an optimum elsewhere": (
        "poisson", "the optimum lies at another theta than the estimate",
        added("optimum.theta", lambda a: a["theta"] + 1.0),
    ),
    "sampling weights of other levels": (
        "poisson", "the sampling weights are not those of the levels",
        added("sampling", lambda a: np.ones(2)),
    ),
    "sampling weights below zero": (
        "poisson", "a sampling weight is not positive",
        added("sampling", lambda a: -np.ones(6)),
    ),
    "predictors are missing": (
        "poisson", "the linear predictors have missing values",
        array("predictors", entry((0, 0), np.nan)),
    ),
    "predictors of other coefficients": (
        "poisson", "the linear predictor of conditional is not that of its coefficients",
        array("predictors", lambda a: a + 1.0),
    ),
    "parts of other rows": ("zero", "the parts of the model have different rows", other_rows),
    "numbers beside fewer rows": (
        "cumulative", "'extra' is not one number a row", array("extra", lambda a: a[:30]),
    ),
    "rows of other categories": (
        "cumulative", "the rows have different numbers of categories",
        array("extra", entry(0, 2)),
    ),
    "a time between the categories": (
        "equations", "a time is none of those listed",
        both(value("model.occasions.levels", ["a", "b"]), array("values", lambda a: a + 0.5)),
    ),
    "equations without clusters": (
        "equations", "the model has no clusters", value("model.clusters", []),
    ),
    "equations of weights below zero": (
        "equations", "a weight is not positive",
        added("model.sampling", lambda a: -np.ones(60)),
    ),
    "equations of a shape below zero": (
        "equations", "a shape is not positive", value("model.shapes", {"phi": -1.0}),
    ),
    "equations of a scale below zero": (
        "equations", "the scale is not positive", value("scale", -1.0),
    ),
    "equations of an impossible correlation": (
        "equations", "the working correlation is none",
        array("correlations", lambda a: np.empty(0)),
    ),
    "equations of impossible means": (
        "equations", "the coefficients have no means that the family can have",
        array("coefficients", lambda a: a * 0 + 1e308),
    ),
    "studies by no method": (
        "studies", "there is no method 'magic'", value("model.method", "magic"),
    ),
    "studies without variance": (
        "studies", "a sampling variance is not positive",
        array("variances", entry(0, 0.0)),
    ),
    "studies of another covariance": (
        "nested studies", "the covariance is not that of the sampling variances",
        added("model.covariance", lambda a: 2.0 * np.diag(a["variances"])),
    ),
    "studies of a singular covariance": (
        "nested studies", "the covariance is not positive definite",
        added(
            "model.covariance",
            lambda a: np.outer(np.sqrt(a["variances"]), np.sqrt(a["variances"])),
        ),
    ),
    "studies without a likelihood": (
        "studies", "the likelihood has no maximum", array("logliks", lambda a: a + np.inf),
    ),
    "studies of a variance below zero": (
        "studies", "the variance between studies is none",
        array("covariances", lambda a: a * 0 - 1.0),
    ),
    "studies with parameters of levels": (
        "studies", "parameters of several levels without these levels",
        array("phi", lambda a: np.ones(2)),
    ),
    "levels of other parameters": (
        "nested studies", "the parameters are not those of the levels",
        array("phi", lambda a: np.ones(3)),
    ),
    "levels of other covariances": (
        "nested studies", "the covariances are not those of the parameters",
        array("covariances", lambda a: a + 1.0),
    ),
    "a column of unlisted values": (
        "poisson", "a column has a value that is not listed", unlisted,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lie", LIES)
def test_a_saved_file_says_what_does_not_belong_together(lie: str) -> None:
    kind, words, change = LIES[lie]
    with pytest.raises(FileError) as caught:
        saving.from_bytes(changed(kind, change))
    said = str(caught.value)
    assert words in said
    assert "save the fit again" in said


PATHS = {
    "parameters of another model": (
        "the parameters do not fit the model", array("theta", lambda a: a[:-1]),
    ),
    "parameters without end": (
        "the parameters are not finite", array("theta", lambda a: a * np.nan),
    ),
    "fewer columns": ("the columns do not fit the rows", array("columns", lambda a: a[:, :30])),
    "groups that are not listed": (
        "the groups do not fit the rows", array("group", lambda a: a + 5),
    ),
    "other columns": (
        "the likelihood is not that of the parameters",
        array("columns", lambda a: a * 2.0),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lie", PATHS)
def test_a_structural_model_says_what_does_not_belong_together(lie: str) -> None:
    words, change = PATHS[lie]
    with pytest.raises(FileError) as caught:
        saving.from_bytes(changed("paths", change))
    assert words in str(caught.value)
