"""What every fit of a regression has, whatever was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.equation import Equation
from ranef.description.methods import methods
from ranef.description.model import ModelDescription
from ranef.description.summary import summarise
from ranef.display.answer import Summary
from ranef.display.columns import Listing
from ranef.errors import DataError, ModelError
from ranef.families import Cumulative, Multinomial
from ranef.families.links import Scale
from ranef.fits.estimability import Redundancy, row_names, undetermined_words, warn_of
from ranef.fits.evaluation import evaluated
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Estimand, Evaluated
from ranef.fits.regression import Regression
from ranef.inference.coefficients.functions import (
    Functions,
    carried_back,
    gaps_of_values,
)
from ranef.inference.coefficients.wald import Intervals, wald
from ranef.inference.rows.averaging import Means, row_means
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CONDITIONAL
from ranef.models.rows import Rows
from ranef.storage import saving
from ranef.tables import Table, make_table
from ranef.tables.origin import Origin

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


class Fit(Regression):
    """A fitted regression.

    A fit does not change: its methods return new tables and new fits. What
    costs work is a method. A kind of fit brings what is abstract in `Regression`, and what it
    knows better than these classes.

    Attributes
    ----------
    frame : Origin
        Where the rows came from.
    """

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
