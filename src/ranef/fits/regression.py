"""What every fit of a regression knows of its coefficients, whatever was fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.parameter_tables import interval_columns
from ranef.design.specification import Specification
from ranef.design.state import Coding
from ranef.errors import ModelError
from ranef.families import Family
from ranef.fits.contrast import Contrast, read_contrast
from ranef.fits.hypothesis import HypothesisTest, hypotheses_text
from ranef.fits.named_hypotheses import read_hypotheses
from ranef.fits.protocol import Estimand
from ranef.fits.statsmodels_names import ReaderNames
from ranef.inference.coefficients.degrees import words_of
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.parameter_list import ModelParameter, chosen
from ranef.inference.coefficients.wald import FTest, Intervals, standard_errors, wald
from ranef.inference.rows.evaluated import Values
from ranef.models.family_words import EXPONENTIAL
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.rows import Rows
from ranef.tables import make_table
from ranef.tables.origin import Origin, matrix, vector

__all__ = ["Regression"]

Floats = NDArray[np.float64]


class Regression(ReaderNames, ABC):
    """Names, counts and coefficients of a fitted regression, with their tests.

    Attributes
    ----------
    frame : Origin
        Where the rows came from.
    """

    frame: Origin
    file_kind: ClassVar[str]

    @property
    def kind_words(self) -> str:
        """The kind of model in refusals."""
        return "a regression"

    # --- what a kind of fit brings

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Specification]:
        """Specification of each formula by name, ``"conditional"`` that of the mean."""

    @property
    @abstractmethod
    def family(self) -> Family:
        """The family of the response, see `ranef.families`."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[CoefficientLabel]:
        """Component, category and name of each coefficient."""

    @property
    @abstractmethod
    def coefficients(self) -> Floats:
        """All coefficients, (P,)."""

    @abstractmethod
    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that the fit does not have."""

    @abstractmethod
    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, and how functions of them are tested."""

    @abstractmethod
    def values(self, rows: Rows, what: Estimand) -> Values:
        """What the model says of rows without missing values."""

    # --- names and counts

    @cached_property
    def formula(self) -> str:
        """The formula as typed."""
        return self.parts[CONDITIONAL].formula

    @cached_property
    def response(self) -> str:
        """Name of the response."""
        return self.parts[CONDITIONAL].response

    @property
    def coded(self) -> dict[str, tuple[str, str]]:
        """Column and level of coefficients that stand for a level of a category, by name."""
        return {
            f"{column}{level}": (column, str(level))
            for spec in self.parts.values()
            for column in spec.recipe.model.fixed.keys
            if isinstance(coding := spec.recipe.state.get(f"levels of {column}"), Coding)
            for level in coding.levels
        }

    @cached_property
    def levels(self) -> tuple[Any, ...] | None:
        """Categories of a categorical response, in the user's order and type."""
        reading = self.parts[CONDITIONAL].recipe.reading
        return None if reading is None else reading.levels

    @property
    def n_obs(self) -> int:
        """Number of rows in the model."""
        return self.parts[CONDITIONAL].n

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {}

    @property
    def df_resid(self) -> int:
        """Rows minus coefficients of the mean."""
        return self.n_obs - len(self.of_mean)

    @property
    def mean_words(self) -> str:
        """Whose means an answer about rows gives, where there are no random effects."""
        return "The model has no random effects: the average is that of its means."

    @cached_property
    def of_mean(self) -> NDArray[np.intp]:
        """Places of the coefficients of the mean among all."""
        own = [k for k, label in enumerate(self.labels) if label.component == CONDITIONAL]
        return np.array(own, dtype=np.intp)

    @cached_property
    def names(self) -> list[str]:
        """Names of the coefficients of the mean."""
        return [self.labels[k].full for k in self.of_mean]

    @property
    def coef(self) -> Any:
        """Fixed effects, labelled."""
        values = self.coefficients[self.of_mean]
        return vector(values, self.names, "estimate", self.frame.library)

    @property
    def vcov(self) -> Any:
        """Covariance matrix of the fixed effects, labelled."""
        own = np.ix_(self.of_mean, self.of_mean)
        values = self.covariances_known[own]
        return matrix(values, self.names, self.names, self.frame.library)

    @property
    def covariances_known(self) -> Floats:
        """Covariance matrix (P, P) of the coefficients; NaN where it is not determined."""
        return self.knowledge().covariance

    @property
    def dispersion(self) -> dict[str, float]:
        """Dispersion and shapes that are one number each, on their own scale."""
        return {}

    def test_words(self, df: str | None = None) -> str:
        """Say by what tests and intervals a method works: ``"normal tests"``."""
        return words_of(self.method(df))

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        return ()

    @property
    def residual_variance(self) -> float | None:
        """Variance of the residual of a linear model; None where there is none."""
        return None

    # --- coefficients

    def hypotheses(
        self, L: Floats | None = None, conf_level: float = 0.95, df: str | None = None
    ) -> Intervals:
        """Estimate, test and interval of each row of L (q, P); of each coefficient without L."""
        b, known = self.coefficients, self.knowledge(df)
        L = np.eye(len(b)) if L is None else np.atleast_2d(np.asarray(L, dtype=np.float64))
        error = known.settled(standard_errors(L, known.covariance), L)
        return wald(L @ b, error, known.degrees(L), conf_level)

    def intervals(self, conf_level: float = 0.95, df: str | None = None) -> Intervals:
        """Return tests and intervals of the coefficients of the mean as arrays."""
        found = self.hypotheses(None, arguments.conf_level(conf_level), df)
        return Intervals(**{name: values[self.of_mean] for name, values in vars(found).items()})

    def test(self, L: Any, rhs: Any = None, *, df: str | None = None) -> HypothesisTest:
        """Test linear hypotheses about the coefficients, all at once.

        Parameters
        ----------
        L : (q, P) array or sequence of str
            Linear functions of the coefficients (of all parts of a generalised model, in
            the order of ``tidy()``); or names of coefficients that are zero; or equations,
            ``"age = 1"``, ``"armb - armc = 0"``.
        rhs : (q,) array, optional
            What the functions are under the hypothesis; zero by default.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`; Kenward and Roger's scales the
            statistic too.

        Returns
        -------
        HypothesisTest
            ``statistic, df1, df2, p_value``, and the same as a table, `tidy`: F in a linear
            model, Wald's statistic over q with ``df2`` infinite in a generalised one.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> found = fit.test(["TypeT2", "TypeT3", "TypeT4"], df="kenward-roger")
        >>> round(found.statistic, 4), found.df1, round(found.df2, 6)
        (22.3556, 3, 24.0)
        >>> round(fit.test([[0, 1, -1, 0]], rhs=[1]).p_value, 3)
        0.211
        >>> round(fit.test("TypeT2 - TypeT3 = 1").p_value, 3)
        0.211
        """
        names = tuple(label.full for label in self.labels)
        left_out = [name for spec in self.parts.values() for name in spec.dropped_columns]
        rows, values = read_hypotheses(L, rhs, names, left_out)
        return HypothesisTest(
            self.joint_test(rows, values, df),
            hypotheses_text(rows, values, names),
            self.test_words(df),
            f"Joint test: {self.formula}",
            self.frame.library,
            self.coded,
        )

    def contrast(
        self,
        weights: Mapping[str, float],
        *,
        conf_level: float = 0.95,
        df: str | None = None,
    ) -> Contrast:
        """Estimate a linear combination of the coefficients, with its test and interval.

        Parameters
        ----------
        weights : mapping of str to float
            Coefficient, by its name as in ``tidy()``, -> its weight.
        conf_level : float
        df : str, optional
            Method of the degrees of freedom, as in `tidy`.

        Returns
        -------
        Contrast
            ``estimate, std_error, df, statistic, p_value, conf_low, conf_high``, and the same
            as a table, `tidy`.

        Raises
        ------
        ranef.errors.ModelError
            The model has no coefficient of that name, or the weights are no mapping.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> fit.contrast({"TypeT2": 1, "TypeT3": -1}).estimate.__round__(4)
        1.6667
        """
        terms = tuple(label.full for label in self.labels)
        left_out = [name for spec in self.parts.values() for name in spec.dropped_columns]
        L, name = read_contrast(weights, terms, left_out)
        level = arguments.conf_level(conf_level)
        found = self.hypotheses(L, level, df)
        words = self.test_words(df)
        title = f"Contrast: {self.formula}"
        return Contrast(name, found, level, words, title, self.frame.library, self.coded)

    def joint_test(self, L: Floats, rhs: Floats | None = None, df: str | None = None) -> FTest:
        """Test all rows of L (q, P) at once."""
        gap = L @ self.coefficients - (0.0 if rhs is None else rhs)
        return self.knowledge(df).joint(L, np.asarray(gap))

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table in the library the data came in."""
        arguments.choice("effects", effects, ("fixed",))
        level = arguments.conf_level(conf_level)
        return self._made(self.fixed_columns(level, df, exponentiate))

    def fixed_columns(self, level: float, df: str | None, exponentiate: bool) -> dict[str, Any]:
        """Columns of ``tidy("fixed")``."""
        found = self.hypotheses(None, level, df)
        carried = self.carried(arguments.flag("exponentiate", exponentiate))
        return tables.fixed_columns(self.labels, found, carried)

    def carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp."""
        if exponentiate and self.family.link not in (*EXPONENTIAL, "identity"):
            raise ModelError(
                f"exponentiate=True makes no ratio of coefficients under the link "
                f"{self.family.link!r}; it does under {', '.join(EXPONENTIAL)}"
            )
        return np.full(len(self.coefficients), exponentiate, dtype=np.bool_)

    @property
    def parameters(self) -> tuple[ModelParameter, ...]:
        """All parameters by name."""
        return tuple(
            ModelParameter(
                label.full, "coefficient", np.nan, label.component, label.response, None,
                label.term, None, coefficient=k,
            )
            for k, label in enumerate(self.labels)
        )  # fmt: skip

    def parameter_values(
        self, level: float, df: str | None, wanted: Sequence[int]
    ) -> tuple[Floats, Floats, Floats]:
        """Estimates and Wald's intervals of some parameters."""
        found = self.hypotheses(None, level, df)
        return tuple(v[list(wanted)] for v in (found.estimate, found.conf_low, found.conf_high))  # type: ignore[return-value]

    def wald_columns(
        self, parameters: str | Sequence[str], level: float, df: str | None
    ) -> dict[str, Any]:
        """Columns of Wald's intervals of parameters by name."""
        self.method(df)
        known = self.parameters
        wanted = chosen(known, parameters)
        form = "fixed" if parameters == "fixed" else "all"
        return interval_columns(
            [known[k] for k in wanted], *self.parameter_values(level, df, wanted), form
        )

    @property
    def interval_methods(self) -> tuple[str, ...]:
        """Methods of intervals that only this kind of fit has, or has in a way of its own."""
        return ()

    def interval_columns(
        self, method: str, parameters: str | Sequence[str], level: float
    ) -> dict[str, Any]:
        """Columns of the intervals by one of `interval_methods`."""
        raise ModelError(f"method={method!r} is not one of this fit")

    def _made(self, columns: Mapping[str, Any]) -> Any:
        """A table in the user's library."""
        return make_table(columns, self.frame.library)
