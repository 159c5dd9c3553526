"""Every question of `ranef` that is asked of one fit, as a method of the fit as well."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import ranef
from ranef.elsewhere import attribute_hint

if TYPE_CHECKING:
    from ranef.api.pictures import FitPlots
    from ranef.questions.averages.answer import AverageEffect
    from ranef.questions.averages.marginal import PopulationAverage
    from ranef.questions.checks.check import Check
    from ranef.questions.checks.collinearity import Collinearity
    from ranef.questions.checks.influence import Influence, Leverage
    from ranef.questions.checks.simulated_residuals import SimulatedResiduals
    from ranef.questions.checks.within_between import WithinBetween
    from ranef.questions.explained.heritability import Heritability
    from ranef.questions.explained.r2_icc import ICC, R2
    from ranef.questions.intervals.bootstrap import Bootstrap
    from ranef.questions.intervals.profile import Profile
    from ranef.questions.levels.posterior import LevelPosterior
    from ranef.questions.levels.ranking import Ranking
    from ranef.questions.levels.standardized_ratios import StandardizedRatios
    from ranef.questions.means.answers import MarginalMeans
    from ranef.questions.means.comparisons import Contrasts
    from ranef.questions.means.joint_tests import JointTests
    from ranef.questions.papers.table import ModelTable
    from ranef.questions.selection.cross_validate import CrossValidation
    from ranef.questions.selection.leave_out import LeaveOut
    from ranef.questions.synthesis.asymmetry import FunnelAsymmetry, TrimAndFill
    from ranef.questions.synthesis.outliers import OutlierModel
    from ranef.questions.synthesis.permutations import PermutationTest
    from ranef.questions.tests.likelihood_ratios import ModelComparison
    from ranef.questions.tests.robust import RobustCovariance
    from ranef.questions.tests.term_tests import TermTests
    from ranef.questions.tests.variance_test import VarianceTest

__all__ = ["Question", "Questions"]

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """The function of `ranef` with the attribute's name, its first argument the fit.

    Its arguments, docstring and refusals are those of the function, which stays the one
    place where they are written.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, fit: Any, owner: type | None = None) -> Callable[..., Answer]:
        function: Callable[..., Answer] = getattr(ranef, self.name)
        return function if fit is None else MethodType(function, fit)


class Questions:
    """The questions asked of a fit: ``fit.emmeans("dose")`` is ``ranef.emmeans(fit, "dose")``."""

    anova: Question[TermTests | ModelComparison] = Question()
    augment: Question[Any] = Question()
    average: Question[AverageEffect] = Question()
    bootstrap: Question[Bootstrap] = Question()
    check: Question[Check] = Question()
    collinearity: Question[Collinearity] = Question()
    confint: Question[Any] = Question()
    contrasts: Question[Contrasts] = Question()
    cross_validate: Question[CrossValidation] = Question()
    egger: Question[FunnelAsymmetry] = Question()
    emmeans: Question[MarginalMeans] = Question()
    emtrends: Question[MarginalMeans] = Question()
    for_marginaleffects: Question[Any] = Question()
    heritability: Question[Heritability] = Question()
    icc: Question[ICC] = Question()
    impute: Question[Any] = Question()
    influence: Question[Influence] = Question()
    joint_tests: Question[JointTests] = Question()
    leave_out: Question[LeaveOut] = Question()
    leverage: Question[Leverage] = Question()
    marginal: Question[PopulationAverage] = Question()
    outliers: Question[OutlierModel] = Question()
    permutation_test: Question[PermutationTest] = Question()
    posterior: Question[LevelPosterior] = Question()
    profile: Question[Profile] = Question()
    r2: Question[R2] = Question()
    rank: Question[Ranking] = Question()
    reliability: Question[Any] = Question()
    robust: Question[RobustCovariance] = Question()
    shrinkage: Question[Any] = Question()
    simulated_residuals: Question[SimulatedResiduals] = Question()
    standardized_ratios: Question[StandardizedRatios] = Question()
    table: Question[ModelTable] = Question()
    trim_and_fill: Question[TrimAndFill] = Question()
    variance_test: Question[VarianceTest] = Question()
    vcov_by_level: Question[Any] = Question()
    within_between: Question[WithinBetween] = Question()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if hasattr(type(self), name):  # a property of the fit failed: its own error
            return object.__getattribute__(self, name)
        known = [own for own in dir(type(self)) if not own.startswith("_")]
        raise AttributeError(f"a fit has no {name!r}{attribute_hint(name, known)}")

    def report(
        self,
        path: str | PathLike[str],
        *,
        title: str | None = None,
        conf_level: float = 0.95,
        df: str | None = None,
    ) -> Path:
        """Write the report of the fit: one HTML page that needs nothing else.

        Parameters
        ----------
        path : path-like
            An existing file is replaced, whole or not at all.
        title : str, optional
            The heading; the model in words by default.
        conf_level : float
        df : str, optional
            Degrees of freedom of the tests, as in `tidy`.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        ranef.errors.FileError
            The file cannot be written.

        Examples
        --------
        >>> import tempfile, pathlib, ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = fit.report(pathlib.Path(folder) / "dyestuff.html")
        ...     "Dyestuff" in page.read_text() or "Yield" in page.read_text()
        True
        """
        from ranef.report import page

        fit: Any = self
        return page.write(fit, path, title=title, conf_level=conf_level, df=df)

    def heterogeneity(self, *args: Any, **kwargs: Any) -> WithinBetween:
        """Old name of `within_between`; it warns."""
        answer: WithinBetween = ranef.heterogeneity(self, *args, **kwargs)  # type: ignore[attr-defined]
        return answer

    @property
    def plot(self) -> FitPlots:
        """The pictures of the fit: ``fit.plot.residuals()`` and more."""
        from ranef.api.pictures import FitPlots

        return FitPlots(self)
