"""What every fit of a regression has, whatever was fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.equation import Equation
from ranef.description.methods import methods
from ranef.description.model import ModelDescription
from ranef.description.parameter_tables import interval_columns
from ranef.description.summary import summarise
from ranef.design.specification import Specification
from ranef.display.answer import Summary
from ranef.display.columns import Listing
from ranef.errors import DataError, ModelError
from ranef.families import Cumulative, Family, Multinomial
from ranef.families.links import Scale
from ranef.fits.contrast import Contrast, read_contrast
from ranef.fits.estimability import Redundancy, row_names, undetermined_words, warn_of
from ranef.fits.evaluation import evaluated
from ranef.fits.hypothesis import HypothesisTest, hypotheses_text
from ranef.fits.named_hypotheses import read_hypotheses
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Estimand, Evaluated
from ranef.fits.statsmodels_names import ReaderNames
from ranef.inference.coefficients.degrees import words_of
from ranef.inference.coefficients.functions import (
    Functions,
    Knowledge,
    carried_back,
    gaps_of_values,
)
from ranef.inference.coefficients.parameter_list import ModelParameter, chosen
from ranef.inference.coefficients.wald import FTest, Intervals, standard_errors, wald
from ranef.inference.rows.averaging import Means, row_means
from ranef.inference.rows.evaluated import Values
from ranef.models.family_words import EXPONENTIAL
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.rows import Rows
from ranef.storage import saving
from ranef.tables import Table, make_table
from ranef.tables.origin import Origin, matrix, vector

__all__ = ["COMPONENTS", "TYPES", "Averaging", "Fit"]

Floats = NDArray[np.float64]
TYPES = ("response", "link", "prob", "mean_class")
COMPONENTS = ("conditional", "zero", "dispersion", "response")


class Averaging(Protocol):
    """What gives averages of means over rows: a fit, or the inference of a refit."""

    def means(
        self,
        rows: Rows,
        weights: Floats,
        groups: NDArray[np.intp],
        *,
        kind: str,
        type: str,
        back: Scale = "identity",
    ) -> Means: ...


class Fit(ReaderNames, ABC):
    """A fitted regression.

    A fit does not change: its methods return new tables and new fits. What
    costs work is a method. A kind of fit brings what is abstract here, and what it knows
    better than this class.

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
        return Contrast(name, found, level, words, f"Contrast: {self.formula}", self.frame.library)

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

    # --- rows

    def estimand(
        self,
        *,
        component: str = "conditional",
        kind: str | None = None,
        type: str | None = None,
        df: str | None = None,
        unit: Mapping[str, Any] | None = None,
        offset: float | None = None,
    ) -> Estimand:
        """Check what is asked of rows, and fill in what it leaves open."""
        component = arguments.choice("component", component, COMPONENTS)
        if component not in ("conditional", "response"):
            raise ModelError(f"the model has no component {component!r}; it has 'conditional'")
        if unit:
            raise ModelError(
                "unit= is for fits with random effects; this one has none: leave unit= out"
            )
        arguments.unit(kind, None)
        self.method(df)
        if type is not None:
            type = arguments.choice("type", type, TYPES)
        number = arguments.offset(offset)
        return Estimand("conditional", self.type_of(type), "typical", df, {}, number)

    def type_of(self, type: str | None) -> str:
        """Type of an answer about the mean; refuse one that the family does not have."""
        categories = isinstance(self.family, Cumulative | Multinomial)
        if categories:
            found = {"response": "prob", None: "prob"}.get(type, type)
        elif type in ("prob", "mean_class"):
            raise ModelError(
                f"the family {self.family.name} has no categories: type={type!r} is for cumulative "
                "and multinomial responses"
            )
        else:
            found = type or "response"
        if found == "mean_class" and not isinstance(self.family, Cumulative):
            raise ModelError("type='mean_class' is for ordered categories")
        assert found is not None
        return found

    def evaluate(
        self, table: Table, what: Estimand, held: Mapping[str, Floats] | None = None
    ) -> Evaluated:
        """Say what the model says at the rows of a table.

        Parameters
        ----------
        table : Table
            The columns that the formulas use; a row that they cannot read (a level that
            the fit has not seen) is one that cannot be estimated.
        what : Estimand
        held : dict, optional
            Variables of the formulas that are given instead of made from the table.
        """
        return evaluated(self, table, what, held or {})

    @cached_property
    def redundancies(self) -> dict[str, Redundancy]:
        """Kept by `estimability`: how the redundant columns of each part depend on the others."""
        return {}

    def parts_of(self, type: str) -> tuple[str, ...]:
        """Parts on whose fixed effects means of a type rest."""
        return self.estimand(type=type).parts

    def rows_for(self, new: Any, kind: str, back: Scale = "identity") -> tuple[Rows, Origin]:
        """Read a table for averages of one kind."""
        arguments.choice("kind", kind, arguments.KINDS)
        return read_rows(self, Table.of(new), None)

    def means(
        self,
        rows: Rows,
        weights: Floats,
        groups: NDArray[np.intp],
        *,
        kind: str,
        type: str,
        back: Scale = "identity",
    ) -> Means:
        """Averages of means in groups of rows, with their derivatives."""
        what = self.estimand(type=type)
        found = self.values(rows, what)
        functions = row_functions_of(found, rows, what.parts)
        linear = found.linear and found.link == "identity"
        return row_means(functions.back(found.link), linear, weights, groups)

    def means_covariance(self, found: Means, df: str | None) -> tuple[Floats, Floats]:
        """Covariance (S, S) of averages, and their derivatives in the coefficients."""
        J = found.jacobian
        return J @ self.knowledge(df).covariance @ J.T, J

    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        """Link on whose scale intervals of means are made."""
        if type != "response":
            raise ModelError(f"the model has no {type!r} part; use type='response'")
        return self.family.link

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "typical",
        type: str = "response",
        conf_level: float | None = None,
        df: str | None = None,
    ) -> Any:
        """Predict rows of the table fitted, or of a new one.

        Parameters
        ----------
        new : table, optional
            Needs the columns that the formula uses, but the response. Without
            it the rows of the table fitted are predicted.
        kind : {"typical", "population"}
            The same in a model without random effects.
        type : {"response", "link"}
            Mean of the response, or linear predictor.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`.
        """
        arguments.choice("kind", kind, arguments.KINDS)
        rows, frame = self._rows(new)
        found = self._predicted(rows, type, df, conf_level)
        words = undetermined_words(self, rows, self.parts_of(type), row_names(frame))
        warn_of(words, "the prediction is NaN there")
        if conf_level is None:
            return frame.column(found.estimate, "estimate")
        names = ("estimate", "std_error", "conf_low", "conf_high")
        return frame.table({name: getattr(found, name) for name in names})

    def _rows(self, new: Any) -> tuple[Rows, Origin]:
        if new is None:
            return self.own_rows, self.frame
        return read_rows(self, Table.of(new), None)

    @property
    def own_rows(self) -> Rows:
        """The rows in the model."""
        return Rows.of(self.parts)

    def _predicted(
        self, rows: Rows, type: str, df: str | None, conf_level: float | None
    ) -> Intervals:
        what = self.estimand(type=type, df=df)
        found = self.values(rows, what)
        functions = row_functions_of(found, rows, what.parts)
        level = 0.95 if conf_level is None else arguments.conf_level(conf_level)
        return shown_intervals(functions, found, level, on_mean=what.type != "link")

    def fitted(self, kind: str = "typical") -> Any:
        """Return fitted means, one a row of the user's table; NaN where a row was dropped."""
        arguments.choice("kind", kind, arguments.KINDS)
        return self.frame.column(self._means, "fitted")

    @property
    def _means(self) -> Floats:
        return self._predicted(self.own_rows, "response", None, None).estimate

    def residuals(self, kind: str = "response") -> Any:
        """Return residuals, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"response", "pearson"}
            Response minus fitted mean; divided by the root of the variance function.
        """
        kind = arguments.choice("kind", kind, ("response", "pearson"))
        return self.frame.column(self._residuals(kind), "residual")

    def _residuals(self, kind: str) -> Floats:
        gap = self.parts[CONDITIONAL].y - self._means
        if kind == "response":
            return np.asarray(gap)
        eta = self._predicted(self.own_rows, "link", None, None).estimate
        etas = np.zeros((len(self.family.parameters), len(gap)))
        etas[0] = eta
        return np.asarray(gap / np.sqrt(self.family.variance(etas, None)))

    def row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""
        return {
            "fitted": self._means,
            "residual": self._residuals("response"),
            "pearson": self._residuals("pearson"),
        }

    def augmented(self, data: Any, own: Mapping[str, NDArray[Any]]) -> Any:
        """The user's rows, or response and grouping factors, and the columns `own`."""
        given = self.model_columns() if data is None else self._table_columns(data)
        taken = [name for name in given if name in own]
        if taken:
            raise DataError(
                f"the table has a column named {taken[0]!r}, which augment adds; rename it"
            )
        expanded = {name: self.frame.expand(values) for name, values in own.items()}
        return make_table({**given, **expanded}, self.frame.library, self.frame.index)

    def model_columns(self) -> dict[str, Any]:
        """Response and grouping factors, one value a row of the user's table."""
        return {self.response: self.frame.expand(self.labelled(self.parts[CONDITIONAL].y))}

    def _table_columns(self, data: Any) -> dict[str, Any]:
        table = Table.of(data)
        wanted = self.frame.accounting.n_rows
        if table.n_rows != wanted:
            raise DataError(
                f"the table has {table.n_rows} rows, the one fitted had {wanted}; "
                "use predict() for other rows"
            )
        return {name: table.values(name) for name in table.columns}

    def labelled(self, y: Floats) -> NDArray[Any]:
        """Values of a response, categories by their labels."""
        if self.levels is None:
            return y
        named = np.empty(len(self.levels) + 1, dtype=object)
        named[:-1] = list(self.levels)
        return named[np.where(np.isnan(y), -1, y).astype(np.intp)]

    @cached_property
    def categories(self) -> tuple[str, ...] | None:
        """Names of the categories of a response that has them, else None."""
        if not isinstance(self.family, Cumulative | Multinomial):
            return None
        return tuple(str(level) for level in self.levels or ())

    # --- the fit in words

    @property
    def description(self) -> ModelDescription:
        """What is said of the fit in words."""
        return ModelDescription(self)

    def summary(
        self, *, conf_level: float = 0.95, df: str | None = None, short: bool = False
    ) -> Summary:
        """Return the answer in words and tables.

        Beside the coefficients stand odds or rate ratios where the link makes them; zero
        part, dispersion and thresholds have their own tables.

        Parameters
        ----------
        conf_level : float
        df : str, optional
            Degrees of freedom of the tests, as in `tidy`.
        short : bool
            The tables, and one line on the optimum.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.summary(short=True)
        Linear mixed model by REML: Yield ~ 1 + (1 | Batch)
        <BLANKLINE>
        30 rows, all used.
        Groups: 6 levels of Batch.
        <BLANKLINE>
        Fixed effects (t tests with Satterthwaite's degrees of freedom)
                       estimate  std_error   df      t         p  95% low  95% high
          (Intercept)    1527.5       19.4  5.0  78.80  < 0.0001   1477.7    1577.3
        <BLANKLINE>
        Random effects (Wald intervals on the log scale)
          group     term            sd  95% low  95% high
          Batch     (Intercept)  42.00    18.95     93.09
          Residual               49.51    37.31     65.70
        <BLANKLINE>
        REML log-likelihood -159.827 on 3 parameters; AIC 325.65, BIC 329.86 (n = 30 rows).
        Optimum proved (global along the whole range); no variance at zero.
        """
        level = arguments.conf_level(conf_level)
        intervals = self.hypotheses(None, level, df)
        brief = arguments.flag("short", short)
        variances = self.variance_listings(level)
        return summarise(
            self.description, intervals, level, self.method(df), variances, short=brief
        )

    def variance_listings(self, level: float) -> tuple[Listing, ...]:
        """The tables of variances in a summary."""
        return ()

    def equation(self) -> Equation:
        """Return the model in symbols; prints as text, shows as LaTeX in notebooks.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> print(fit.equation())
        Yield[i] = b0 + u0[Batch[i]] + e[i]
        u0 ~ Normal(0, sd^2) over the levels of Batch
        e[i] ~ Normal(0, sigma^2)
        >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
        ...                  family="nbinom2", zero="~ 1")
        >>> print(fit.equation())
        count[i] ~ 0 with probability p[i], else Negative binomial 2(mu[i], phi)
        log(mu[i]) = b0 + b1*minedno[i] + u0[site[i]]
        logit(p[i]) = g0
        u0 ~ Normal(0, sd^2) over the levels of site
        """
        return self.description.equation()

    def methods(self, *, conf_level: float = 0.95, df: str | None = None) -> str:
        """Return a paragraph for the methods section of a paper: what was done, in prose.

        Parameters
        ----------
        conf_level : float
            Level of the intervals that the paper shows.
        df : str, optional
            Method of the degrees of freedom that it uses, as in `tidy`.

        Examples
        --------
        >>> import ranef, textwrap
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> print(textwrap.fill(fit.methods()[:262], 80))
        A linear mixed model of Reaction, fitted by restricted maximum likelihood (REML)
        to 180 rows. The mean depends on an intercept and Days. The intercept and the
        coefficient of Days vary between the 18 levels of Subject, each with its own
        variance, all correlated.
        """
        level = arguments.conf_level(conf_level)
        return methods(self.description, level, self.method(df))

    # --- the fit itself

    def glance(self) -> Any:
        """Return the fit in one row: ``n_obs, df_resid, family, link``."""
        values = (self.n_obs, self.df_resid, self.family.name, self.family.link)
        names = ("n_obs", "df_resid", "family", "link")
        return self._made({name: [value] for name, value in zip(names, values, strict=True)})

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fit to a file that `ranef.load` reads.

        The file is a zip of JSON and plain arrays; it holds no code. It is
        written aside and then moved, so that no half-written file stands at
        `path`.

        Examples
        --------
        >>> import ranef, tempfile, pathlib
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fit.save(pathlib.Path(folder) / "dyestuff.ranef")
        ...     again = ranef.load(pathlib.Path(folder) / "dyestuff.ranef")
        >>> again.loglik == fit.loglik
        True
        """
        saving.save(self, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fit as its file, with the functions that the call handed over."""
        functions = {k: f for spec in self.parts.values() for k, f in spec.recipe.functions.items()}
        return _unpickled, (type(self), saving.to_bytes(self, compress=False), functions)

    def _made(self, columns: Mapping[str, Any]) -> Any:
        """A table in the user's library."""
        return make_table(columns, self.frame.library)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _unpickled(cls: type, content: bytes, functions: saving.Functions) -> Any:
    """Read a pickled fit; its class came first, since its module knows how to."""
    return saving.from_bytes(content, functions)


def row_functions_of(found: Values, rows: Rows, parts: Sequence[str]) -> Functions:
    """Values of rows as functions of the parameters, with their gaps."""
    K = len(found.value) // max(rows.n, 1)
    own_gaps = found.with_gap(gaps_of_values(rows.gaps(parts), K))
    functions = Functions(found.value, found.jacobian, own_gaps)
    return functions if found.linear else replace(functions, gap=functions.own_gaps())


def shown_intervals(
    functions: Functions, found: Values, conf_level: float, *, on_mean: bool
) -> Intervals:
    """Intervals of functions of the parameters, made on the scale where they are to be made.

    NaN where the data do not determine one.
    """
    if found.scale != found.link:
        functions = functions.back(found.link).transformed(found.scale)
    J, known = functions.jacobian, found.knowledge
    error = np.sqrt(np.maximum(np.sum(J @ known.covariance * J, axis=1), 0.0))
    error = np.where(functions.estimable, known.settled(error, J), np.nan)
    value = np.where(functions.estimable, functions.value, np.nan)
    made = wald(value, error, known.degrees(J), conf_level)
    return carried_back(made, found.scale) if on_mean else made
