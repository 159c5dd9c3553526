"""What a fit of a generalised linear mixed model has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.mixed import GeneralisedDescription
from ranef.errors import ModelError
from ranef.families.links import Scale
from ranef.fits.fit import COMPONENTS, TYPES
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Estimand
from ranef.inference.effects.generalised_effects import posterior_means
from ranef.inference.rows.prediction import Prediction
from ranef.models.family_words import EXPONENTIAL, link_of, natural, predictor_of
from ranef.models.labels import CONDITIONAL
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

__all__ = ["GeneralisedFit"]

SYMMETRIC = ("gaussian", "t")
NO_MEAN = (
    "means of the response over the population are carried back from {} in fits of lmm alone; "
    "kind='typical' carries back medians, and type left out gives means as it was fitted"
)
CATEGORICAL = ("prob", "mean_class")


@dataclass(frozen=True, eq=False, repr=False)
class GeneralisedFit(MixedFit):
    """A fitted generalised linear mixed model, without the questions asked of it."""

    estimate: GeneralisedEstimate

    @property
    def kind_words(self) -> str:
        """The kind of model in refusals."""
        return f"a generalised linear {'mixed ' if self.terms else ''}model"

    @property
    def quadrature(self) -> int:
        """Nodes of the quadrature; 1 is the Laplace approximation."""
        return self.estimate.quadrature

    @property
    def dispersion(self) -> dict[str, float]:
        """Dispersion and shapes that are one number each, on their own scale.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
        ...                  family="nbinom2")
        >>> {name: round(value, 3) for name, value in fit.dispersion.items()}
        {'phi': 0.639}
        """
        found = {}
        for part in self.estimate.components:
            if part.specification is None and part.name != "threshold":
                own = predictor_of(self.estimate, part)
                value = self.estimate.coefficients[part.coefficients]
                found[own.label] = natural(own.link, float(value[0]))
        return found

    @property
    def df_resid(self) -> int:
        """Rows minus free coefficients of the mean."""
        return self.n_obs - self.estimate.design.constraints.n_free_of(self.of_mean.tolist())

    def carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp: those that become ratios."""
        carried = np.zeros(len(self.coefficients), dtype=np.bool_)
        if not exponentiate:
            return carried
        super().carried(exponentiate)
        for part in self.estimate.components:
            ratio = link_of(self.estimate, part) in EXPONENTIAL or part.name == CONDITIONAL
            carried[part.coefficients] = part.name != "threshold" and ratio
        return carried

    @property
    def description(self) -> GeneralisedDescription:
        """What is said of the fit in words."""
        return GeneralisedDescription(self)

    @property
    def kind_columns(self) -> dict[str, Any]:
        """What `glance` says of this kind of model."""
        return {
            "family": self.family.name,
            "link": self.family.link,
            "quadrature": self.quadrature,
            "df_model": self.df_model,
            "df_resid": self.df_resid,
        }

    def posterior_means(self) -> Any:
        """Return posterior means of the random effects beside their modes.

        By adaptive quadrature around the modes, given the estimated parameters;
        for one grouping factor, or factors nested in each other, and up to three
        effects a level. Where a level has few rows the two differ, as the posterior
        is skewed.

        Returns
        -------
        table
            ``component, group, level, term, mode, mean, sd``; a multinomial
            model adds `response`.

        Raises
        ------
        ranef.errors.ModelError
            The model has crossed grouping factors, a kernel, or more effects.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.posterior_means()[["level", "mode", "mean", "sd"]].round(2).head(2)
          level  mode  mean    sd
        0     1  0.59  0.57  0.35
        1     2 -0.30 -0.33  0.37
        """
        means = posterior_means(self.estimate)
        columns = tables.random_columns(self.estimate, self.level_effects, 0.95)
        kept = ("component", "response", "group", "level", "term")
        table = {name: columns[name] for name in kept if name in columns}
        table["mode"] = columns["estimate"]
        table["mean"] = np.concatenate([found.mean.T.ravel() for found in means])
        table["sd"] = np.concatenate([found.sd.T.ravel() for found in means])
        return self._made(table)

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
        type = None if type is None else arguments.choice("type", type, TYPES)
        back = self._carried_from(type) if component in ("conditional", "response") else "identity"
        kind, unit = arguments.unit(kind, unit)
        number = arguments.offset(offset)
        self.method(df)
        there = {c.name for c in self.estimate.components} | {"response"}
        if component not in there:
            known = ", ".join(repr(name) for name in COMPONENTS if name in there)
            raise ModelError(f"the model has no component {component!r}; it has {known}")
        of_mean = component in ("conditional", "response")
        type = self.type_of(type) if of_mean or type in CATEGORICAL else type or "response"
        if type == "link" and component == "response":
            raise ModelError("component='response' is a mean of several parts; use type='response'")
        typical = type == "link" or back != "identity"
        kind = kind or ("typical" if typical else "population")
        if back != "identity" and kind == "population":
            raise ModelError(NO_MEAN.format(self.response))
        if type == "link" and kind == "population":
            raise ModelError(
                "the linear predictor is that of a typical level: kind='population' goes with "
                "type='response'"
            )
        if unit and type not in ("link", "response"):
            raise ModelError(
                "unit= is for a mean with one linear predictor; for categories use "
                "predict(kind='conditional')"
            )
        effects = {"unit": "own", "population": "new"}.get(kind)
        parts = self.inference.parts_of(component, type)
        return Estimand(component, type, kind, df, unit, number, parts, back, effects)

    def _carried_from(self, type: str | None) -> Scale:
        """Of normal and t responses, whose errors are symmetric; others are not transformed."""
        if (
            type != "response"
            or self.family.name not in SYMMETRIC
            or self.family.link != "identity"
        ):
            return "identity"
        return self.transformation

    def _on_response(self, found: Prediction, rows: Rows, kind: str, *args: Any) -> Prediction:
        if kind == "population":
            raise ModelError(NO_MEAN.format(self.response))
        return super()._on_response(found, rows, kind, *args)
