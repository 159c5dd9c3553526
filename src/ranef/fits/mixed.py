"""What every mixed model's fit has, linear or generalised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.parameter_tables import interval_columns
from ranef.errors import DataError, ModelError, suggestion
from ranef.fits.likelihood import LikelihoodFit
from ranef.fits.named_hypotheses import read_hypotheses
from ranef.fits.statsmodels_names import ReaderNames
from ranef.inference.coefficients import degrees, parameter_list, wald
from ranef.inference.coefficients.covariance import Coefficients, conditional_coefficients
from ranef.inference.coefficients.degrees import Parameters
from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import FTest, Intervals
from ranef.inference.effects.effects import LevelEffects, level_effects
from ranef.models import labels as naming
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.tables import Table, make_table
from ranef.tables.frame import Frame, matrix, vector

__all__ = ["MixedModelFit"]

EFFECTS = ("fixed", "variance", "random")


class MixedModelFit(ReaderNames, LikelihoodFit):
    """A fitted mixed model, linear or generalised.

    Attributes
    ----------
    estimate : Estimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.
    """

    estimate: Estimate
    frame: Frame

    @property
    def formula(self) -> str:
        return self.estimate.specification.formula

    @property
    def n_obs(self) -> int:
        return self.estimate.specification.n

    @property
    def n_groups(self) -> dict[str, int]:
        return {f.name: f.n_levels for f in naming.factors_of(self.estimate)}

    @property
    def coef(self) -> Any:
        own = self._conditional
        return vector(own.estimate, own.names, "estimate", self.frame.library)

    @property
    def vcov(self) -> Any:
        own = self._conditional
        return matrix(own.vcov, own.names, own.names, self.frame.library)

    @property
    def _levels(self) -> Sequence[Any] | None:
        """Categories of a categorical response."""
        return None

    @cached_property
    def _conditional(self) -> Coefficients:
        return conditional_coefficients(self.estimate, self._levels)

    @abstractmethod
    def _coefficient_intervals(self, conf_level: float, df: str) -> Intervals:
        """Tests and intervals of all coefficients."""

    @abstractmethod
    def _carried(self, exponentiate: bool) -> bool | NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp."""

    @abstractmethod
    def _variance_parameters(self, conf_level: float) -> Sequence[VarianceParameter]: ...

    @property
    def _usual_df(self) -> str:
        """Method of degrees of freedom where none is named."""
        return "normal" if isinstance(self.estimate, GeneralisedEstimate) else "satterthwaite"

    def _known_parameters(self) -> Parameters | None:
        """What gives the covariance of the variance parameters, computed once a fit."""
        return None

    def _hypotheses(
        self, L: NDArray[np.float64], conf_level: float = 0.95, df: str | None = None
    ) -> Intervals:
        """Estimate, test and interval of each row of L (q, p), see `inference.intervals`."""
        return wald.intervals(
            self.estimate, L, conf_level=conf_level, df=df, parameters=self._known_parameters()
        )

    def test(self, L: Any, rhs: Any = None, *, df: str | None = None) -> FTest:
        """Test linear hypotheses about the coefficients, all at once.

        Parameters
        ----------
        L : (q, P) array or sequence of str
            Linear functions of the coefficients (of all parts of a generalised model, in
            the order of ``tidy()``); or names of coefficients that are zero.
        rhs : (q,) array, optional
            What the functions are under the hypothesis; zero by default.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`; Kenward and Roger's scales the
            statistic too.

        Returns
        -------
        FTest
            ``statistic, df1, df2, p_value``: F in a linear model, Wald's statistic over
            q with ``df2`` infinite in a generalised one.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> found = fit.test(["TypeT2", "TypeT3", "TypeT4"], df="kenward-roger")
        >>> round(found.statistic, 4), found.df1, round(found.df2, 6)
        (22.3556, 3, 24.0)
        >>> round(fit.test([[0, 1, -1, 0]], rhs=[1]).p_value, 3)
        0.211
        """
        labels = naming.coefficient_labels(self.estimate, self._levels)
        rows, values = read_hypotheses(L, rhs, tuple(label.full for label in labels))
        return self._joint_test(rows, values, df)

    def _joint_test(
        self,
        L: NDArray[np.float64],
        rhs: NDArray[np.float64] | None = None,
        df: str | None = None,
    ) -> FTest:
        """Test all rows of L (q, p) at once, see `inference.f_test`."""
        return wald.f_test(self.estimate, L, rhs, df=df, parameters=self._known_parameters())

    def _covariance(self, df: str | None = None) -> NDArray[np.float64]:
        """Covariance of all coefficients under a method, see `inference.coefficient_covariance`."""
        return wald.coefficient_covariance(self.estimate, df)

    @cached_property
    def _level_effects(self) -> tuple[LevelEffects, ...]:
        return level_effects(self.estimate)

    def _tidy(self, effects: str, conf_level: float, df: str, exponentiate: bool) -> Any:
        effects = arguments.choice("effects", effects, EFFECTS)
        level = arguments.conf_level(conf_level)
        degrees.check_method(df)
        if arguments.flag("exponentiate", exponentiate) and effects != "fixed":
            raise ModelError("exponentiate=True applies to effects='fixed' only")
        return make_table(self._tidied(effects, level, df, exponentiate), self.frame.library)

    def _tidied(self, effects: str, level: float, df: str, exponentiate: bool) -> dict[str, Any]:
        estimate, levels = self.estimate, self._levels
        if effects == "variance":
            return tables.variance_columns(estimate, self._variance_parameters(level), levels)
        if effects == "random":
            return tables.random_columns(estimate, self._level_effects, level, levels)
        named = naming.coefficient_labels(estimate, levels)
        found = self._coefficient_intervals(level, df)
        return tables.fixed_columns(named, found, self._carried(exponentiate))

    def _wald_columns(
        self, parameters: str | Sequence[str], level: float, df: str, form: str
    ) -> dict[str, Any]:
        """Wald's intervals of coefficients and variance parameters."""
        known = parameter_list.model_parameters(self.estimate, self._levels)
        wanted = parameter_list.chosen(known, parameters)
        found = self._coefficient_intervals(level, df)
        values = np.column_stack([found.estimate, found.conf_low, found.conf_high])
        if any(not known[k].fixed for k in wanted):
            own = self._variance_parameters(level)
            values = np.vstack([values, [(v.estimate, v.conf_low, v.conf_high) for v in own]])
        estimate, low, high = values[list(wanted)].T
        return interval_columns([known[k] for k in wanted], estimate, low, high, form)

    def coef_by_level(self, group: str | None = None, *, conf_level: float = 0.95) -> Any:
        """Return fixed plus random effect of every level of a grouping factor.

        Parameters
        ----------
        group : str, optional
            Name of the grouping factor; may be left out when there is one.
        conf_level : float

        Returns
        -------
        table
            ``group, level, term, estimate, std_error, conf_low, conf_high``, led by
            ``component`` in generalised models. The standard error counts the
            covariance of fixed and random effect.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> fit.coef_by_level("Subject").loc[:1, ["level", "term", "estimate"]].round(2)
          level         term  estimate
        0   308  (Intercept)    253.66
        1   309  (Intercept)    211.01
        """
        level = arguments.conf_level(conf_level)
        found = self._coefficients_by_level(self._factor(group))
        columns = tables.coefficient_columns(self.estimate, found, level, self._levels)
        return make_table(columns, self.frame.library)

    @abstractmethod
    def _coefficients_by_level(self, factor: int) -> Sequence[LevelEffects]: ...

    def _factor(self, group: str | None) -> int:
        """Index of a grouping factor."""
        names = [f.name for f in naming.factors_of(self.estimate)]
        if group is None:
            if len(names) > 1:
                raise ModelError(f"say which group: one of {', '.join(map(repr, names))}")
            return 0
        if group not in names:
            known = ", ".join(map(repr, names))
            raise ModelError(
                f"the model has no grouping factor {group!r}{suggestion(str(group), names)}; "
                f"it has {known}"
            )
        return names.index(group)

    def _glanced(self, own: Mapping[str, Any]) -> Any:
        """One row: what every fit has, with what this kind has in its place."""
        columns = {
            "n_obs": self.n_obs,
            **own,
            "loglik": self.loglik,
            "deviance": self.deviance,
            "aic": self.aic,
            "bic": self.bic,
            "criterion": self._criterion,
            "converged": self.optimum.converged,
            "singular": self.optimum.singular,
        }
        return make_table({name: [value] for name, value in columns.items()}, self.frame.library)

    @property
    def _criterion(self) -> str:
        """What was maximised."""
        return "REML" if self.estimate.reml else "ML"

    @abstractmethod
    def _row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""

    def _augmented(self, data: Any, own: Mapping[str, NDArray[Any]]) -> Any:
        """The user's rows, or response and grouping factors, and the columns `own`."""
        given = self._model_columns() if data is None else self._table_columns(data)
        taken = [name for name in given if name in own]
        if taken:
            raise DataError(
                f"the table has a column named {taken[0]!r}, which augment adds; rename it"
            )
        expanded = {name: self.frame.expand(values) for name, values in own.items()}
        return make_table({**given, **expanded}, self.frame.library, self.frame.index)

    def _response_column(self) -> NDArray[Any]:
        """The response of the rows in the model."""
        return self.estimate.specification.y

    def _model_columns(self) -> dict[str, Any]:
        """Response and grouping factors, one value a row of the user's table."""
        name = self.estimate.specification.response
        columns: dict[str, Any] = {name: self.frame.expand(self._response_column())}
        for factor in naming.factors_of(self.estimate):
            named = np.empty(factor.n_levels, dtype=object)
            named[:] = list(factor.levels)
            columns[factor.name] = self.frame.expand(named[factor.codes])
        return columns

    def _table_columns(self, data: Any) -> dict[str, Any]:
        table = Table.of(data)
        wanted = self.frame.accounting.n_rows
        if table.n_rows != wanted:
            raise DataError(
                f"the table has {table.n_rows} rows, the one fitted had {wanted}; "
                "use predict() for other rows"
            )
        return {name: table.values(name) for name in table.columns}

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
        to 180 rows. The mean depends on an intercept and Days. Between the 18 levels of
        Subject vary the intercept and the coefficient of Days, each with its own
        variance, all correlated.
        """
        from ranef.description.methods import methods

        level = arguments.conf_level(conf_level)
        known = wald.method_of(self.estimate, df)
        return methods(self.estimate, level, known, getattr(self, "levels", None))

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
        from ranef.storage.saving import save

        save(self, path)
