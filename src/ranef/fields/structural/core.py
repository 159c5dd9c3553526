"""What a fit of a structural equation model knows of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments, families
from ranef.design.specification import Specification
from ranef.errors import ModelError, suggestion
from ranef.families import Family
from ranef.fields.structural import resampling
from ranef.fields.structural.constraints import defined_parameters
from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.measures import Comparisons
from ranef.fields.structural.parameters import Parameter
from ranef.fields.structural.search import SINGULAR
from ranef.fields.structural.standardized import (
    standardized_errors,
    standardized_values,
)
from ranef.fields.structural.words import (
    OPERATIONS,
    StructuralDescription,
)
from ranef.fits.fit import Fit
from ranef.fits.likelihood import InformationCriteria
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.wald import wald
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.rows import Rows
from ranef.tables.origin import Origin

__all__ = ["StructuralFit", "StructuralOptimum"]

Floats = NDArray[np.float64]
NAN = float("nan")
METHODS = ("delta", "monte_carlo", "bootstrap")


@dataclass(frozen=True, eq=False)
class StructuralOptimum:
    """The end of the search.

    Attributes
    ----------
    criterion : float
        -2 log L.
    gradient : (P,) array
        Its derivatives in the free parameters.
    decrement : float
        What one further Newton step would gain.
    smallest_eigenvalue : float
        Of the observed information, scaled to a unit diagonal: above zero at a maximum.
    converged : bool
    evaluations : int
    message : str
    boundary : tuple of str
        Variances below zero, in words.
    quadrature_error : float
        What twice as many nodes would add to the log-likelihood; NaN of a model without random
        slopes of latent variables.
    """

    criterion: float
    gradient: Floats
    decrement: float
    smallest_eigenvalue: float
    converged: bool
    evaluations: int
    message: str
    boundary: tuple[str, ...]
    quadrature_error: float = float("nan")

    @property
    def singular(self) -> bool:
        """Whether the data do not determine every parameter."""
        return not self.smallest_eigenvalue > SINGULAR


NUMBERS = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")


class StructuralFit(InformationCriteria, Fit):
    """What a fit knows of its parameters.

    Attributes
    ----------
    estimate : Estimate
    frame : Origin
    """

    kind_words = "a structural equation model"

    def __init__(self, estimate: Estimate, frame: Origin) -> None:
        self.estimate = estimate
        self.frame = frame

    # --- what it is to the house

    @property
    def parts(self) -> Mapping[str, Specification]:
        return {}

    @property
    def family(self) -> Family:
        return families.family("gaussian")

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        names = self.estimate.model.table.free_names
        return tuple(CoefficientLabel(CONDITIONAL, None, name) for name in names)

    @property
    def coefficients(self) -> Floats:
        return self.estimate.theta

    @property
    def description(self) -> StructuralDescription:
        """What is said of the fit in words."""
        return StructuralDescription(self)

    def method(self, df: str | None) -> str:
        if df not in (None, "default", "normal"):
            raise ModelError(f"df={df!r}: the tests of a structural equation model are normal")
        return "normal"

    def knowledge(self, df: str | None = None) -> Knowledge:
        self.method(df)
        return Knowledge.normal(self.estimate.covariance)

    def values(self, rows: Rows, what: Estimand) -> Values:
        raise ModelError(
            "a structural equation model has no linear predictor of one response; predict() gives "
            "expectations, scores() latent variables"
        )

    def fitted(self, kind: str = "typical") -> Any:
        """Return the expected outcomes given the covariates, one column a variable."""
        arguments.choice("kind", kind, arguments.KINDS)
        return self.predict()

    @property
    def formula(self) -> str:
        """The model's text."""
        return self.estimate.model.request.model

    @property
    def response(self) -> str:
        """The indicators and outcomes, joined by commas."""
        found = self.indicators
        return ", ".join(found) if len(found) <= 8 else f"{', '.join(found[:7])} and others"

    @property
    def indicators(self) -> list[str]:
        """The observed indicators and outcomes."""
        table = self.estimate.model.table
        names = {r.rhs if r.op == "=~" else r.lhs for r in table.rows if r.op in ("=~", "~")} & set(
            self.variables
        )
        return [n for n in self.variables if n in names] or list(self.variables)

    @property
    def levels(self) -> None:
        return None

    @property
    def n_obs(self) -> int:
        """Number of rows in the model."""
        return self.estimate.model.n_obs

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of units by column, innermost first; and of the groups."""
        model = self.estimate.model
        found = dict(zip(model.values.cluster_columns, model.units, strict=True))
        if model.values.group_column is not None:
            found[model.values.group_column] = len(model.values.groups)
        return found

    @property
    def df_resid(self) -> int:
        """Rows minus free parameters."""
        return self.n_obs - self.df_model

    @property
    def loglik(self) -> float:
        """The log-likelihood, conditional on covariates that are held at their own moments."""
        return self.estimate.loglik

    @property
    def deviance(self) -> float:
        """Minus twice `loglik`."""
        return self.estimate.end.value

    @property
    def df_model(self) -> int:
        """Number of free parameters."""
        return self.estimate.df_model

    @cached_property
    def optimum(self) -> StructuralOptimum:
        """The end of the search and its certificate."""
        end = self.estimate.end
        return StructuralOptimum(
            end.value, end.gradient, end.decrement, end.smallest, end.converged, end.evaluations,
            end.message, self.estimate.heywood, self.estimate.quadrature_error,
        )  # fmt: skip

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        model = self.estimate.model
        found = list(self.estimate.heywood)
        if not self.estimate.end.converged:
            found.insert(0, "the optimum is not proved")
        error = self.estimate.quadrature_error
        if abs(error) > 1e-4:
            found.append(
                f"twice as many nodes change the log-likelihood by {error:.2g}; give a larger "
                f"quadrature= than {model.request.quadrature}"
            )
        for level in range(2, model.levels + 1):
            rows = [r for r in model.table.rows if r.level == level and r.free >= 0]
            count, units = len({r.free for r in rows}), model.units[level - 2]
            if units <= count:
                name = model.values.cluster_columns[level - 2]
                found.append(
                    f"level {level} has {count} parameters and {units} units of {name}: "
                    "its standard errors and tests cannot be relied on"
                )
        return tuple(found)

    @property
    def comparisons(self) -> Comparisons:
        """The models that the fit is compared with."""
        if "_comparisons" not in self.__dict__:
            self.__dict__["_comparisons"] = Comparisons(self.estimate)
        found: Comparisons = self.__dict__["_comparisons"]
        return found

    # --- variables

    @property
    def variables(self) -> tuple[str, ...]:
        """Observed variables of the model."""
        return tuple(self.estimate.model.values.columns)

    def role_rows(self) -> list[tuple[str, str, int]]:
        """Variable, role and lowest level of each observed variable."""
        model = self.estimate.model
        found = []
        for name, levels in model.table.roles().items():
            role = "both" if len(levels) > 1 else ("within" if levels[0] == 1 else "between")
            found.append((name, role, model.home[name]))
        return found

    @property
    def roles(self) -> Any:
        """Observed variables: ``variable, role`` (within, between, both), ``level``."""
        rows = self.role_rows()
        return self._made({
            "variable": [r[0] for r in rows],
            "role": [r[1] for r in rows],
            "level": np.array([r[2] for r in rows]),
        })  # fmt: skip

    # --- parameters

    def parameter_kinds(self) -> list[str]:
        """Heading of each free parameter: level, group, operation."""
        table, model = self.estimate.model.table, self.estimate.model
        kinds = [""] * table.size
        for row in reversed(table.rows):
            if row.free >= 0:
                level = f"Level {row.level}: " if table.levels > 1 else ""
                group = model.values.groups[row.group]
                of = f" ({model.values.group_column} {group})" if group else ""
                kinds[row.free] = (
                    f"{level}{OPERATIONS[row.op].lower() if level else OPERATIONS[row.op]}{of}"
                )
        return kinds

    def _estimates(self) -> Floats:
        """Value of each parameter of the table."""
        model = self.estimate.model
        out = np.full(len(model.table.rows), NAN)
        for k, row in enumerate(model.table.rows):
            if row.free >= 0:
                out[k] = self.estimate.theta[row.free]
            elif row.sample:
                sample = model.main.groups[row.group].sample[row.level]
                out[k] = sample[row.lhs, row.rhs]
            elif row.slope is None:
                out[k] = row.value
        return out

    def _row_columns(self, rows: Sequence[Parameter]) -> dict[str, Any]:
        """Columns that say which parameter a row is."""
        groups = self.estimate.model.values.groups
        return {
            "level": np.array([r.level for r in rows], dtype=np.int64),
            "group": [groups[r.group] or None for r in rows],
            "lhs": [r.lhs for r in rows],
            "op": [r.op for r in rows],
            "rhs": [r.rhs for r in rows],
            "label": [r.slope or r.label for r in rows],
        }

    def tidy(
        self,
        effects: str = "all",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
    ) -> Any:
        """Return all parameters as a table.

        Parameters
        ----------
        effects : {"all", "free"}
            Every parameter, fixed and defined ones too; or the free ones.
        conf_level : float
        df : {"normal"}, optional
        exponentiate : bool
            Must be False: the parameters are no logarithms.

        Returns
        -------
        table
            ``level, group, lhs, op, rhs, label, estimate, std_error, statistic, p_value,
            conf_low, conf_high``; std_error is 0 of what is fixed, level 0 of what is defined.
        """
        arguments.choice("effects", effects, ("all", "free", "fixed"))
        level = arguments.conf_level(conf_level)
        self.method(df)
        if arguments.flag("exponentiate", exponentiate):
            raise ModelError("exponentiate=True: the parameters of the model are no logarithms")
        found = self._tidy_columns(level)
        if effects != "all":
            free = [r.free >= 0 for r in self.estimate.model.table.rows]
            keep = np.flatnonzero([*free, *([False] * (len(found["lhs"]) - len(free)))])
            found = {
                k: v[keep] if isinstance(v, np.ndarray) else [v[i] for i in keep]
                for k, v in found.items()
            }
        return self._made(found)

    def _tidy_columns(self, level: float) -> dict[str, Any]:
        table = self.estimate.model.table
        own = self.hypotheses(None, level)
        rows = table.rows
        estimate = self._estimates()
        values = {name: np.full(len(rows), NAN) for name in NUMBERS}
        values["estimate"] = estimate
        for k, row in enumerate(rows):
            if row.free >= 0:
                for name in NUMBERS[1:]:
                    values[name][k] = getattr(own, name)[row.free]
            elif row.slope is None:
                values["std_error"][k] = 0.0
                values["conf_low"][k] = values["conf_high"][k] = estimate[k]
        columns = {**self._row_columns(rows), **values}
        if table.defined:
            columns = self._with_defined(columns, self._defined("delta", level, 0, None))
        return columns

    @staticmethod
    def _with_defined(columns: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        n = len(found["lhs"])
        more = {"level": np.zeros(n, dtype=np.int64), "group": [None] * n, "op": [":="] * n,
                "label": list(found["lhs"]), **found}  # fmt: skip
        return {
            name: np.concatenate([own, more[name]]) if isinstance(own, np.ndarray)
            else [*own, *more[name]]
            for name, own in columns.items()
        }  # fmt: skip

    def normal_intervals(self, method: str, parameters: Any, conf_level: float) -> Any:
        """Return normal intervals of the free parameters, or of those named.

        Those of functions of parameters have `defined`, by draws and refits too.
        """
        arguments.choice("method", method, ("wald",))
        found = self.hypotheses(None, arguments.conf_level(conf_level))
        names = list(self.estimate.model.table.free_names)
        asked = names if parameters in ("fixed", "all") else parameters
        asked = [asked] if isinstance(asked, str) else list(asked)
        for name in asked:
            if name not in names:
                raise ModelError(f"no parameter {name!r}{suggestion(str(name), names)}")
        at = [names.index(name) for name in asked]
        return self._made({
            "term": asked, "estimate": found.estimate[at], "conf_low": found.conf_low[at],
            "conf_high": found.conf_high[at],
        })  # fmt: skip

    def standardized(self, *, conf_level: float = 0.95) -> Any:
        """Return the parameters in standard deviations of their level.

        Returns
        -------
        table
            ``level, group, lhs, op, rhs, label, estimate, std_lv`` (of latent variables alone),
            ``std_all, std_nox`` (all but covariates), and of ``std_all`` the ``std_error,
            statistic, p_value, conf_low, conf_high`` by the delta method.
        """
        level = arguments.conf_level(conf_level)
        values = standardized_values(self.estimate, self.estimate.theta)
        error = standardized_errors(self.estimate)
        found = wald(values[:, 1], error, np.full(len(error), np.inf), level)
        fixed = ~(error > 0)
        columns = self._row_columns(self.estimate.model.table.rows)
        return self._made({
            **columns, "estimate": self._estimates(), "std_lv": values[:, 0],
            "std_all": values[:, 1], "std_nox": values[:, 2], "std_error": error,
            "statistic": np.where(fixed, NAN, found.statistic),
            "p_value": np.where(fixed, NAN, found.p_value),
            "conf_low": found.conf_low, "conf_high": found.conf_high,
        })  # fmt: skip

    def defined(
        self,
        method: str = "delta",
        *,
        conf_level: float = 0.95,
        n: int = 1000,
        rng: Any = 0,
    ) -> Any:
        """Return the parameters that ``:=`` defines, with intervals.

        Parameters
        ----------
        method : {"delta", "monte_carlo", "bootstrap"}
            Normal intervals; percentiles of draws from the estimates' normal distribution; or
            percentiles of refits to whole units (rows, in one level) drawn with replacement.
        conf_level : float
        n : int
            Draws.
        rng : int or numpy.random.Generator

        Returns
        -------
        table
            ``lhs, rhs, estimate, std_error, statistic, p_value, conf_low, conf_high``.
        """
        arguments.choice("method", method, METHODS)
        level = arguments.conf_level(conf_level)
        if not self.estimate.model.table.defined:
            raise ModelError("the model defines no parameter; write one as 'ind := a*b'")
        draws = arguments.count("n", n)
        return self._made(self._defined(method, level, draws, arguments.generator(rng)))

    def _defined(self, method: str, level: float, n: int, rng: Any) -> dict[str, Any]:
        table = self.estimate.model.table
        values, J = defined_parameters(table, self.estimate.theta)
        names = {"lhs": [one.left.text for one in table.defined],
                 "rhs": [str(one.right) for one in table.defined]}  # fmt: skip
        if method == "delta":
            V = np.einsum("ij,jk,ik->i", J, self.estimate.covariance, J)
            found = wald(values, np.sqrt(np.maximum(V, 0.0)), np.full(len(V), np.inf), level)
            return names | {name: getattr(found, name) for name in NUMBERS}
        if method == "monte_carlo":
            drawn = resampling.drawn_estimates(self.estimate, n, rng)
        else:
            drawn = resampling.bootstrapped(self.estimate, n, rng)
        samples = np.array([defined_parameters(table, theta)[0] for theta in drawn])
        tail = (1 - level) / 2
        low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
        share = (samples <= 0).mean(axis=0)
        return names | {
            "estimate": values, "std_error": np.nanstd(samples, axis=0, ddof=1),
            "statistic": np.full(len(values), NAN),
            "p_value": np.clip(2 * np.minimum(share, 1 - share), 1 / max(len(samples), 1), 1.0),
            "conf_low": low, "conf_high": high,
        }  # fmt: skip
