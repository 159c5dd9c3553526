"""Fits of completed data sets as one fit, by Rubin's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.model import ModelDescription
from ranef.design.specification import Specification
from ranef.display.numbers import number
from ranef.errors import ModelError
from ranef.families import Cumulative, Family, Multinomial
from ranef.families.links import Scale
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.pooling import Pooled, pooled
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.rows import Rows
from ranef.tables.origin import Origin

__all__ = ["PooledDescription", "PooledFits"]

Floats = NDArray[np.float64]


class PooledDescription(ModelDescription):
    """Fits of completed data sets in words."""

    def __init__(self, fit: PooledFits) -> None:
        super().__init__(fit)
        self.pooled, one = fit, fit.fits[0].description
        self.model, self.method, self.criterion = one.model, one.method, one.criterion

    @property
    def title(self) -> str:
        return f"{super().title}, pooled over {len(self.pooled.fits)} data sets"

    def sentences(self) -> list[str]:
        return [*super().sentences(), *self.endings()]

    def endings(self) -> list[str]:
        m = len(self.pooled.fits)
        missing = self.pooled.rules().missing(np.eye(len(self.pooled.coefficients)))
        return [
            f"Fits of {m} completed data sets are pooled by Rubin's rules, with degrees of freedom "
            "of Barnard and Rubin.",
            f"Of the information about a coefficient at most {number(100 * missing.max(), 0)}% is "
            "missing.",
        ]

    def groups(self) -> dict[str, NDArray[np.intp]]:
        found: dict[str, NDArray[np.intp]] = self.pooled.fits[0].description.groups()
        return found


@dataclass(frozen=True, eq=False, repr=False)
class PooledFits(Fit):
    """Fits of one model to completed data sets, as one fit; `ranef.pool` makes it.

    What is asked of coefficients or of what is linear in them (tests, marginal means,
    contrasts) has the pooled estimates, covariance and degrees of freedom.

    Attributes
    ----------
    fits : tuple of fits
    df_complete : float or None
        Degrees of freedom with complete data; None for those of the fits, on average.
    frame : Origin
        Of the first fit.
    """

    fits: tuple[Fit, ...]
    df_complete: float | None
    frame: Origin

    kind_words = "fits of completed data sets, pooled"

    @cached_property
    def parts(self) -> Mapping[str, Specification]:
        """Specification of each formula by name, those of the first data set."""
        found: Mapping[str, Specification] = self.fits[0].parts
        return found

    @property
    def family(self) -> Family:
        """The family of the response."""
        found: Family = self.fits[0].family
        return found

    @cached_property
    def labels(self) -> Sequence[CoefficientLabel]:
        """Component, category and name of each coefficient."""
        found: Sequence[CoefficientLabel] = self.fits[0].labels
        return found

    @property
    def description(self) -> PooledDescription:
        """The fit in words."""
        return PooledDescription(self)

    @cached_property
    def coefficients(self) -> Floats:
        """The pooled coefficients, (P,)."""
        return np.asarray(np.mean([fit.coefficients for fit in self.fits], axis=0))

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        found: dict[str, int] = self.fits[0].n_groups
        return found

    def doubts(self) -> tuple[str, ...]:
        """What makes the answers of one of the fits untrue."""
        return tuple(dict.fromkeys(line for fit in self.fits for line in fit.doubts()))

    def method(self, df: str | None) -> str:
        """Name the method of the degrees of freedom with complete data."""
        found: str = self.fits[0].method(df)
        return found

    def rules(self, df: str | None = None) -> Pooled:
        """What Rubin's rules make of the coefficients, in numbers."""
        known = [fit.knowledge(df) for fit in self.fits]
        held = self.df_complete

        def complete(L: Floats) -> Floats:
            if held is not None:
                return np.full(len(L), held)
            return np.asarray(np.mean([k.degrees(L) for k in known], axis=0))

        def complete_joint(L: Floats, value: Floats) -> float:
            if held is not None:
                return held
            return float(np.mean([k.joint(L, value).df2 for k in known]))

        return pooled(
            np.array([fit.coefficients for fit in self.fits]),
            np.array([k.covariance for k in known]),
            complete,
            complete_joint,
        )

    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, and how functions of them are tested."""
        return self.rules(df).knowledge

    def estimand(self, **question: Any) -> Estimand:
        """Check what is asked of rows: of the mean, on the scale of the link or at zero effects."""
        kind = question.get("kind")
        what = super().estimand(**question)
        if isinstance(self.family, Cumulative | Multinomial) or len(self._mean_parts) > 1:
            raise ModelError(
                "pooled fits tell of the coefficients of such a model, not of rows: pool what "
                "each fit says of them"
            )
        if kind == "population" and self.family.link != "identity":
            raise ModelError(
                "pooled fits have no random effects to integrate over: ask for kind='typical'"
            )
        return what

    def rows_for(self, new: Any, kind: str, back: Scale = "identity") -> tuple[Rows, Origin]:
        """Read a table for averages, of a model whose random effects cancel in them."""
        if self.family.link != "identity":
            raise ModelError(
                "an average over people integrates over the random effects, which pooled fits "
                "do not have: pool what each fit says of it"
            )
        return super().rows_for(new, kind, back)

    @property
    def _mean_parts(self) -> list[str]:
        """Parts that the mean rests on."""
        return [name for name in self.parts if name in (CONDITIONAL, "zero")]

    def values(self, rows: Rows, what: Estimand) -> Values:
        """What the pooled coefficients say of rows, random effects at zero."""
        part, own = rows.parts[CONDITIONAL], self.of_mean
        eta = part.X @ self.coefficients[own] + (0.0 if part.offset is None else part.offset)
        J = np.zeros((len(eta), len(self.coefficients)))
        J[:, own] = part.X
        link = "identity" if what.type == "link" else self.family.link
        return Values(eta, J, self.knowledge(what.df), link, link, True)

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
    ) -> Any:
        """Return the pooled coefficients as a table.

        Parameters
        ----------
        effects : {"fixed"}
        conf_level : float
        df : str, optional
            Method of the degrees of freedom with complete data, as of the fits.
        exponentiate : bool

        Returns
        -------
        table
            ``component, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``, then ``riv``, the relative increase in variance due to what is
            missing, and ``fmi``, the fraction of missing information.
        """
        arguments.choice("effects", effects, ("fixed",))
        level = arguments.conf_level(conf_level)
        columns = self.fixed_columns(level, df, exponentiate)
        rules, unit = self.rules(df), np.eye(len(self.coefficients))
        return self._made({**columns, "riv": rules.increase(unit), "fmi": rules.missing(unit)})
