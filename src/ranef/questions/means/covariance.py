"""Marginal means on another covariance of the coefficients, such as a cluster-robust one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ranef.errors import ModelError
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.questions.means.grid import EvaluatedGrid

__all__ = ["CoefficientCovariance", "on_covariance"]


@runtime_checkable
class CoefficientCovariance(Protocol):
    """A covariance of a fit's coefficients with the tests that go with it."""

    @property
    def fit(self) -> Any:
        """Whose coefficients these are."""

    @property
    def knowledge(self) -> Knowledge:
        """What is known of the coefficients."""

    @property
    def test_words(self) -> str:
        """On what tests and intervals rest: ``"t tests with ..."``."""


def on_covariance(grid: EvaluatedGrid, vcov: Any) -> EvaluatedGrid:
    """Return the grid with what another covariance says of the coefficients.

    Raises
    ------
    ModelError
        When it is none, or of another fit, or the means depend on more than coefficients.
    """
    if vcov is None:
        return grid
    if not isinstance(vcov, CoefficientCovariance):
        raise ModelError(f"vcov is a covariance of ranef.robust(fit), not {type(vcov).__name__}")
    if vcov.fit is not grid.fit:
        raise ModelError("vcov is the covariance of another fit; use ranef.robust() of this one")
    if grid.estimand.unit or grid.estimand.df is not None:
        what = "unit" if grid.estimand.unit else "df"
        raise ModelError(f"vcov has degrees of freedom of its own: leave {what} out")
    P, rows = len(vcov.knowledge.covariance), grid.rows
    beyond = rows.jacobian[:, P:]
    if rows.jacobian.shape[1] < P or np.any(beyond != 0):
        raise ModelError(
            "these means depend on the variance parameters too, of which a robust covariance says "
            "nothing; kind='typical' or type='link' has means of the coefficients alone"
        )
    functions = Functions(rows.value, rows.jacobian[:, :P], rows.gap)
    return replace(grid, rows=functions, knowledge=vcov.knowledge, words=vcov.test_words)
