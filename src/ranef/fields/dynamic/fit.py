"""The fit of a dynamic model: estimates with the questions asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.questions import Questions
from ranef.derivatives.profiled import Slice
from ranef.design.specification import Specification
from ranef.display.columns import Column, Fixed, Label, Listing, Sized
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError
from ranef.families import Family
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.forecasting import ahead, normal_mixture
from ranef.fields.dynamic.parameters import Parameter, effect_parameters, typical_parameters
from ranef.fields.dynamic.persons import person_processes
from ranef.fields.dynamic.profiling import slice_of
from ranef.fields.dynamic.reading import CONDITIONAL
from ranef.fields.dynamic.resampling import EFFECTS as EFFECTS_OF_DRAWS
from ranef.fields.dynamic.resampling import redrawn, refitted, responses
from ranef.fields.dynamic.targets import own_targets, targets_of
from ranef.fields.dynamic.words import DynamicDescription
from ranef.fits.fit import Fit
from ranef.fits.likelihood import InformationCriteria
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.parameter_list import ModelParameter
from ranef.inference.coefficients.wald import quantile
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CoefficientLabel
from ranef.models.rows import Rows
from ranef.solve.charts import Held
from ranef.solve.resources import available_cores
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = ["DynamicModelFit", "DynamicOptimum"]

Floats = NDArray[np.float64]
EFFECTS = ("fixed", "variance", "random")
KINDS = ("conditional", "typical", "population")
FEW_PROMPTS, FEW_PERSONS = 15, 20
SETTLED = 1e-3


@dataclass(frozen=True, eq=False)
class DynamicOptimum:
    """The end of the search.

    Attributes
    ----------
    criterion : float
        -2 log L.
    gradient : (P,) float64 array
        Its derivatives.
    decrement : float
        What one further step of Newton's would gain of the log-likelihood.
    points : int
        Of the quadrature, along each effect of inertia and standard deviation.
    quadrature_error : float
        Change of the log-likelihood by four further points.
    converged : bool
    evaluations : int
    message : str
    singular : bool
        Whether the covariance matrix of the effects has not full rank.
    """

    criterion: float
    gradient: Floats
    decrement: float
    points: int
    quadrature_error: float
    converged: bool
    evaluations: int
    message: str
    singular: bool


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class DynamicModelFit(Questions, InformationCriteria, Fit):
    """A fitted dynamic model; `ranef.dynamic` makes one.

    Attributes
    ----------
    estimate : DynamicEstimate
        What the search found, as arrays.
    frame : Origin
        Where the rows came from.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(1)
    >>> rows = {"person": np.repeat(np.arange(30), 20), "prompt": np.tile(np.arange(20), 30),
    ...         "mood": np.repeat(rng.normal(size=30), 20) + rng.normal(size=600)}
    >>> fit = ranef.dynamic("mood ~ 1 + (1 | person)", rows, residual="ar1(prompt | person)")
    >>> fit.n_obs, fit.df_model, fit.n_groups
    (600, 4, {'person': 30})
    """

    estimate: DynamicEstimate
    frame: Origin

    file_kind = "dynamic"
    kind_words = "a dynamic mixed model"
    own_likelihood = True
    redrawn_effects = EFFECTS_OF_DRAWS

    # --- what it is to the house

    @property
    def parts(self) -> Mapping[str, Specification]:
        """Specification of each formula by name, ``"conditional"`` that of the mean."""
        return self.estimate.parts

    @property
    def family(self) -> Family:
        """The family of the response."""
        return self.estimate.family

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        """Component and name of each coefficient."""
        return tuple(
            CoefficientLabel(part, None, name)
            for part, names in self.estimate.layout.names.items()
            for name in names
        )

    @property
    def coefficients(self) -> Floats:
        """All coefficients, (P,)."""
        return self.estimate.end.theta[: self.estimate.layout.n_coefficients]

    @property
    def description(self) -> DynamicDescription:
        """What is said of the fit in words."""
        return DynamicDescription(self)

    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that the fit does not have."""
        if df not in (None, "normal"):
            raise ModelError(f"df={df!r}: the tests of a dynamic model are normal, df='normal'")
        return "normal"

    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known."""
        self.method(df)
        P = self.estimate.layout.n_coefficients
        return Knowledge.normal(self.estimate.covariance[:P, :P])

    def values(self, rows: Rows, what: Estimand) -> Values:
        """What the model says of the level of rows."""
        part = rows.parts[CONDITIONAL]
        X = np.zeros((rows.n, len(self.coefficients)))
        X[:, self.estimate.layout.slices[CONDITIONAL]] = part.X
        offset = part.offset if what.offset is None else what.offset
        eta = X @ self.coefficients + (0.0 if offset is None else offset)
        return Values(eta, X, self.knowledge(what.df), "identity", "identity", True)

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of persons."""
        return {self.estimate.persons.name: self.estimate.persons.n_levels}

    @property
    def mean_words(self) -> str:
        """Whose means an answer about rows gives."""
        return "Means are those of a person whose random effects are zero; effects average to zero."

    # --- the likelihood

    @property
    def loglik(self) -> float:
        """The log-likelihood, all constants included."""
        return self.estimate.end.loglik

    @property
    def deviance(self) -> float:
        """Minus twice `loglik`."""
        return -2.0 * self.loglik

    @property
    def df_model(self) -> int:
        """Number of parameters."""
        return self.estimate.layout.size

    @cached_property
    def optimum(self) -> DynamicOptimum:
        """The end of the search and its certificate."""
        end = self.estimate.end
        singular = bool(end.zero.any())
        if not end.converged:
            message = "the search ended without a proof that it stands at the optimum"
        else:
            where = "; effects of persons are linearly dependent there" if singular else ""
            message = f"optimum proved by gradient and curvature{where}"
        return DynamicOptimum(
            self.deviance, -2 * end.gradient, end.decrement, end.points, end.quadrature_error,
            end.converged, end.evaluations, message, singular,
        )  # fmt: skip

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        end, found = self.estimate.end, []
        if not end.converged:
            found.append("the optimum is not proved")
        if not abs(end.quadrature_error) < SETTLED:
            found.append(
                f"too few points of quadrature: {end.points + 4} change the "
                f"log-likelihood by {end.quadrature_error:.2g}; give more, quadrature="
            )
        sizes = np.diff(self.estimate.problem.first)
        if self.estimate.layout.d and float(np.median(sizes)) < FEW_PROMPTS:
            found.append(
                f"half of the persons have fewer than {FEW_PROMPTS} prompts, too few "
                "to estimate their own inertia and standard deviation precisely"
            )
        if len(sizes) < FEW_PERSONS:
            found.append(
                f"with {len(sizes)} persons, variances and correlations between persons are "
                "imprecise, and normal tests are not reliable"
            )
        return tuple(found)

    # --- tables

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table in the library the data came in.

        Parameters
        ----------
        effects : {"fixed", "variance", "random"}
            - ``"fixed"``: ``component, term, estimate, std_error, df, statistic, p_value,
              conf_low, conf_high``. `component` is ``"conditional"`` (the level), ``"inputs"``,
              ``"inertia"`` (on the scale of its link) or ``"dispersion"`` (log standard
              deviation).
            - ``"variance"``: ``component, group, term, term2, parameter, estimate, conf_low,
              conf_high``; `parameter` is ``"sd"`` or ``"corr"`` of effects; rows of the component
              ``"residual"`` are the inertia, ``"phi"``, and innovation ``"sd"`` of a person whose
              effects are zero. Intervals are Wald's, carried back from the scale of the link, of
              log sd and of Fisher's z; NaN at a boundary.
            - ``"random"``: ``component, group, level, term, estimate, cond_sd, std_error,
              conf_low, conf_high``: posterior means; `cond_sd` given the parameters,
              `std_error` with their uncertainty.
        conf_level : float
        df : {"normal"}, optional
        exponentiate : bool
            Must be False: the coefficients make no ratios.

        Examples
        --------
        >>> import numpy as np, ranef
        >>> rng = np.random.default_rng(2)
        >>> rows = {"person": np.repeat(np.arange(25), 20), "prompt": np.tile(np.arange(20), 25),
        ...         "mood": np.repeat(rng.normal(size=25), 20) + rng.normal(size=500)}
        >>> fit = ranef.dynamic("mood ~ 1 + (1 | person)", rows, residual="ar1(prompt | person)")
        >>> fit.tidy("variance")[["component", "group", "parameter"]]
             component     group parameter
        0  conditional    person        sd
        1     residual  Residual       phi
        2     residual  Residual        sd
        """
        effects = arguments.choice("effects", effects, EFFECTS)
        level = arguments.conf_level(conf_level)
        self.method(df)
        if arguments.flag("exponentiate", exponentiate):
            raise ModelError("exponentiate=True makes no ratio of the coefficients of this model")
        if effects == "variance":
            return self._made(_variance_columns(self._parameters(level)))
        if effects == "random":
            return self._made(self._random_columns(level))
        return self._made(self.fixed_columns(level, df, exponentiate))

    def _parameters(self, level: float) -> list[Parameter]:
        own = self.estimate
        return [*effect_parameters(own, level), *typical_parameters(own, level)]

    def _random_columns(self, level: float) -> dict[str, Any]:
        found, own = self.estimate.effects, self.estimate
        effects, persons = own.layout.effects, own.persons
        N = persons.n_levels
        value, error = found.mean.T.ravel(), found.error.T.ravel()
        reach = float(quantile(level, np.array(np.inf))) * error
        return {
            "component": [e.part for e in effects for _ in range(N)],
            "group": [persons.name] * (N * len(effects)),
            "level": list(persons.levels) * len(effects),
            "term": [e.name for e in effects for _ in range(N)],
            "estimate": value,
            "cond_sd": found.given.T.ravel(),
            "std_error": error,
            "conf_low": value - reach,
            "conf_high": value + reach,
        }

    def dynamics(self, *, conf_level: float = 0.95) -> Any:
        """Return inertia and innovation standard deviation of every person.

        Parameters
        ----------
        conf_level : float

        Returns
        -------
        table
            ``group, level, parameter, estimate, std_error, conf_low, conf_high``: `parameter`
            is ``"phi"`` or ``"sd"``; mean and standard deviation given the data and the
            parameters, shrunken towards what other persons have.
        """
        found = person_processes(self.estimate, arguments.conf_level(conf_level))
        persons = self.estimate.persons
        names = ("estimate", "std_error", "conf_low", "conf_high")
        return self._made({
            "group": [persons.name] * (2 * persons.n_levels),
            "level": list(persons.levels) * 2,
            "parameter": [p.kind for p in found for _ in range(persons.n_levels)],
            **{n: np.concatenate([getattr(p, n) for p in found]) for n in names},
        })  # fmt: skip

    @property
    def parameters(self) -> tuple[ModelParameter, ...]:
        """All parameters by name."""
        coefficients = zip(super().parameters, self.coefficients, strict=True)
        return (*(replace(p, estimate=float(b)) for p, b in coefficients), *(
            ModelParameter(
                p.label, p.kind, p.estimate, p.component, None, p.group, p.term, p.term2,
                held=Held(p.kind, p.effects),
            )
            for p in self._parameters(0.95)
        ))  # fmt: skip

    def profile_slice(self, parameter: ModelParameter, n_jobs: int | None = None) -> Slice | None:
        """The likelihood with a parameter held; None of one that cannot be profiled."""
        return slice_of(self.estimate, parameter, available_cores(n_jobs))

    def parameter_values(
        self, level: float, df: str | None, wanted: Sequence[int]
    ) -> tuple[Floats, Floats, Floats]:
        """Estimates and Wald's intervals of some parameters."""
        found = self.hypotheses(None, level, df)
        rows = np.column_stack([found.estimate, found.conf_low, found.conf_high])
        more = [(p.estimate, p.conf_low, p.conf_high) for p in self._parameters(level)]
        estimate, low, high = np.vstack([rows, more])[list(wanted)].T
        return estimate, low, high

    def variance_listings(self, level: float) -> tuple[Listing, ...]:
        """The tables of variances in a summary."""
        found = self._parameters(level)
        sds = [p for p in found if p.kind == "sd" and p.component != "residual"]
        pairs = [p for p in found if p.kind == "corr"]
        typical = [p for p in found if p.component == "residual"]
        names = {"phi": "inertia, phi", "sd": "innovation sd"}
        out = [
            _listing("variance", sds, "Standard deviations between persons", level, "sd",
                     [p.term or "" for p in sds], [p.component for p in sds]),
            _listing("correlations", pairs, "Correlations between persons", level, "corr",
                     [f"{p.term} with {p.term2}" for p in pairs], [p.component for p in pairs]),
            _listing("process", typical, "A person whose effects are zero", level, "estimate",
                     [names[p.kind] for p in typical], None),
        ]  # fmt: skip
        return tuple(one for one in out if one is not None)

    def glance(self) -> Any:
        """Return the fit in one row: rows, persons, likelihood, quadrature."""
        values = {
            "n_obs": self.n_obs, "n_persons": self.estimate.persons.n_levels,
            "loglik": self.loglik, "aic": self.aic, "bic": self.bic, "df_model": self.df_model,
            "quadrature": self.estimate.end.points,
        }  # fmt: skip
        return self._made({name: [value] for name, value in values.items()})

    # --- rows

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "conditional",
        type: str = "response",
        history: Any = None,
        conf_level: float | None = None,
        interval: str | None = None,
        df: str | None = None,
    ) -> Any:
        """Predict rows: the next prompt given those before, or the level of a typical person.

        Parameters
        ----------
        new : table, optional
            Rows to be predicted; the rows of the fit if left out.
        kind : {"conditional", "typical", "population"}
            ``"conditional"`` predicts each row from the last outcome before it in its series,
            with all that is known of the person; a person without outcomes, and the first row of
            a series, by the distribution that series begin in. The others give the level alone:
            random effects zero, which their average is.
        type : {"response", "link"}
            The same here.
        history : table, optional
            Rows with outcomes that predictions go by, in place of those of the fit.
        conf_level : float, optional
            Add columns ``std_error``, ``conf_low`` and ``conf_high``.
        interval : {"new", "mean"}, optional
            Of a conditional prediction that of the answer to be seen (the usual one), or of its
            mean, the parameters as estimated. That of the level is of the mean.
        df : {"normal"}, optional

        Examples
        --------
        >>> import numpy as np, ranef
        >>> rng = np.random.default_rng(3)
        >>> rows = {"person": np.repeat(np.arange(25), 20), "prompt": np.tile(np.arange(20), 25),
        ...         "mood": np.repeat(rng.normal(size=25), 20) + rng.normal(size=500)}
        >>> fit = ranef.dynamic("mood ~ 1 + (1 | person)", rows, residual="ar1(prompt | person)")
        >>> soon = fit.predict({"person": [0, 0], "prompt": [20, 21]}, conf_level=0.9)
        >>> soon.columns.tolist()
        ['estimate', 'std_error', 'conf_low', 'conf_high']
        """
        kind = arguments.choice("kind", kind, KINDS)
        if interval is not None:
            arguments.choice("interval", interval, ("new", "mean"))
        arguments.choice("type", type, ("response", "link"))
        if kind != "conditional":
            if history is not None:
                raise ModelError("history= goes with kind='conditional'")
            if interval == "new":
                raise ModelError(
                    "interval='new' goes with kind='conditional': the others are of the level alone"
                )
            return super().predict(new, kind=kind, type=type, conf_level=conf_level, df=df)
        self.method(df)
        level = None if conf_level is None else arguments.conf_level(conf_level)
        if new is None and history is None:
            found = own_targets(self.estimate)
            frame = self.frame
        else:
            table = self.frame.columns if new is None else Table.of(new)
            found, frame = targets_of(self, table, None if history is None else Table.of(history))
        made = ahead(found.problem, self.estimate.end.theta, found.posterior, found.rows)
        made = made.expected() if interval == "mean" else made
        value = found.placed(made.estimate)
        if level is None:
            return frame.column(value, "estimate")
        ends = [found.placed(normal_mixture(made, p)) for p in ((1 - level) / 2, (1 + level) / 2)]
        spread = found.placed(made.spread, offset=False)
        return frame.table(
            {"estimate": value, "std_error": spread, "conf_low": ends[0], "conf_high": ends[1]}
        )

    def fitted(self, kind: str = "conditional") -> Any:
        """Return fitted values, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"conditional", "typical", "population"}
            As in `predict`.
        """
        return self.predict(kind=kind)

    @property
    def _means(self) -> Floats:
        """One step ahead."""
        found = own_targets(self.estimate)
        made = ahead(found.problem, self.estimate.end.theta, found.posterior, found.rows)
        return found.placed(made.estimate)

    def _residuals(self, kind: str) -> Floats:
        found = own_targets(self.estimate)
        made = ahead(found.problem, self.estimate.end.theta, found.posterior, found.rows)
        gap = self.parts[CONDITIONAL].y - found.placed(made.estimate)
        return gap if kind == "response" else gap / found.placed(made.spread, offset=False)

    def simulate(self, n: int = 1, *, rng: Any = None, kind: str = "new") -> Any:
        """Draw responses from the fitted model, at the rows of the fit.

        Parameters
        ----------
        n : int
            Number of responses.
        rng : int or numpy.random.Generator, optional
            The same gives the same draws.
        kind : {"new", "conditional"}
            Persons drawn anew, or with their effects at what they are estimated to be.

        Returns
        -------
        table
            Columns ``sim_1 .. sim_n``, one row a row of the table; `refit` takes a column.
        """
        count = arguments.count("n", n)
        kind = arguments.choice("kind", kind, EFFECTS_OF_DRAWS)
        random = arguments.generator(rng)
        columns = {f"sim_{k + 1}": responses(self.estimate, random, kind) for k in range(count)}
        return self.frame.table(columns)

    def refit(self, y: Any) -> DynamicModelFit:
        """Fit the same model to another response, one value a row of the table or of the fit."""
        from ranef.fits.refits import read_responses

        given = read_responses(y, self.frame).y
        if given.shape[1] != 1:
            raise ModelError("refit() of a dynamic model takes one response at a time")
        return DynamicModelFit(refitted(self.estimate, given[:, 0]), self.frame)

    def redrawn(
        self, method: str, rng: np.random.Generator, effects: str = "new"
    ) -> DynamicModelFit:
        """Fit the model to responses drawn from it, or to persons drawn with replacement."""
        found = redrawn(self.estimate, method, rng, effects)
        frame = self.frame
        if method == "cluster":
            frame = Origin(frame.library, None, Accounting(found.specification.n))
        return DynamicModelFit(found, frame)

    def anova(self, *others: Any, names: Sequence[str] | None = None) -> Any:
        """Compare the fit with others of `ranef.dynamic` by likelihood ratios.

        Parameters
        ----------
        *others : fits of `ranef.dynamic`
            Of the same rows and response; without any, the terms of all formulas are tested
            by Wald's tests.
        names : sequence of str, optional
            What the models are called, this one first.
        """
        from ranef.fields.dynamic.comparison import compared
        from ranef.questions.tests.term_tests import tabulate_terms

        if not others:
            return tabulate_terms(self, "III", None)
        return compared([self, *others], names)

    def criticised(self, alpha: float, rng: np.random.Generator) -> Any:
        """What speaks against the model, for `ranef.check`."""
        from ranef.fields.dynamic.checking import dynamic_check

        return dynamic_check(self, alpha, rng)

    def compared(self, others: Sequence[Any], names: Sequence[str] | None = None) -> Any:
        """As `anova`, of a list."""
        return self.anova(*others, names=names)


def _variance_columns(found: Sequence[Parameter]) -> dict[str, Any]:
    return {
        "component": [p.component for p in found],
        "group": [p.group for p in found],
        "term": [p.term for p in found],
        "term2": [p.term2 for p in found],
        "parameter": [p.kind for p in found],
        **{
            name: np.array([getattr(p, name) for p in found])
            for name in ("estimate", "conf_low", "conf_high")
        },
    }


def _listing(
    name: str, found: Sequence[Parameter], caption: str, level: float, head: str,
    terms: Sequence[str], parts: Sequence[str] | None,
) -> Listing | None:  # fmt: skip
    if not found:
        return None
    values = np.array([p.estimate for p in found])
    style = Fixed(2) if head == "corr" else Sized(values, 4)
    first = [] if parts is None else [Column("component", list(parts), Label(), "part")]
    columns = [
        *first,
        Column("term", list(terms), Label(), ""),
        Column("estimate", values, style, head),
        Column("conf_low", [p.conf_low for p in found], style, f"{100 * level:g}% low"),
        Column("conf_high", [p.conf_high for p in found], style, f"{100 * level:g}% high"),
    ]
    return Listing(name, tuple(columns), caption, 2)
