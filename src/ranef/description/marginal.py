"""A population-averaged model in words."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.description.equation import Equation, marginal, marginal_categories
from ranef.description.model import Block, Described, ModelDescription
from ranef.display.numbers import number, significant
from ranef.families import Cumulative
from ranef.models.family_words import ratio_word
from ranef.models.marginal import MarginalEstimate
from ranef.models.marginal_categories import has_categories
from ranef.models.marginal_fitting import doubts

__all__ = ["MarginalDescription"]

FEW = 30
"""Clusters below which the summary names a correction of the sandwich."""

STRUCTURES = {
    "independence": "independence",
    "exchangeable": "exchangeable",
    "ar1": "first-order autoregressive",
    "car1": "continuous first-order autoregressive",
    "toeplitz": "Toeplitz",
    "unstructured": "unstructured",
    "fixed": "given",
    "nested": "nested exchangeable",
    "global odds ratio": "that of one global odds ratio of all cuts",
    "local odds ratio": "that of local odds ratios, the same for all pairs of rows",
    "log odds ratio": "that of one log odds ratio (alternating logistic regressions)",
}
COVARIANCES = {
    "robust": "a covariance that is robust to the working correlation (sandwich)",
    "model": "the covariance of the model, which is true where the working correlation is",
    "jackknife": "the one-step jackknife over clusters",
    "jackknife-full": "the jackknife over clusters",
    "mancl-derouen": "Mancl and DeRouen's corrected sandwich",
    "kauermann-carroll": "Kauermann and Carroll's corrected sandwich",
    "fay-graubard": "Fay and Graubard's corrected sandwich",
    "morel": "Morel, Bokossa and Neerchal's corrected sandwich",
}


class Marginal(Described, Protocol):
    """What a fit must have to be described as a population-averaged model."""

    @property
    def estimate(self) -> MarginalEstimate: ...
    @property
    def covariance(self) -> str: ...
    def method(self, df: str | None) -> str: ...


class MarginalDescription(ModelDescription):
    """A fit of `ranef.gee` in words."""

    model = "population-averaged model"
    criterion = "GEE"
    family_kind = "Population-averaged models"

    def __init__(self, fit: Marginal) -> None:
        super().__init__(fit)
        self.fit: Marginal = fit
        self.estimate = fit.estimate
        self.covariance = fit.covariance

    @property
    def weights(self) -> str:  # type: ignore[override]
        """What weights are."""
        if has_categories(self.fit.family):
            return (
                "Weights are precisions: the covariance of two responses is divided by the root "
                "of the product of their weights."
            )
        return "Weights are precisions: the variance of a row is divided by its weight."

    def rows(self) -> list[str]:
        return [*super().rows(), *self._weighting()]

    def _weighting(self) -> list[str]:
        found = [] if self.mean.weights is None else [self.weights]
        if self.estimate.model.sampling is not None:
            found.append(
                "Sampling weights say how many rows of the population a row represents: they "
                "multiply its residual in the equations."
            )
        return found

    @property
    def structure(self) -> str:
        """The working correlation in words."""
        equations = self.estimate.model.equations
        if equations.correlation == "m-dependent":
            kind = "" if equations.stationary else "non-stationary "
            return f"{kind}{equations.reach}-dependent"
        return STRUCTURES[equations.correlation]

    @property
    def method(self) -> str:  # type: ignore[override]
        penalty = self.estimate.model.equations.penalty
        return f"{'penalised (Firth) ' if penalty else ''}generalised estimating equations"

    def sentences(self) -> list[str]:
        sampled = [] if self.estimate.model.sampling is None else self._weighting()[-1:]
        return [*super().sentences(), *sampled]

    def random(self) -> list[str]:
        names = " within ".join(f.name for f in reversed(self.estimate.model.clusters))
        occasions = self.estimate.model.occasions
        time = "" if occasions is None else f", ordered by {occasions.name}"
        return [
            f"Rows of one {names} are correlated{time}; the working correlation is "
            f"{self.structure}."
        ]

    def _dropout(self) -> list[str]:
        found = self.estimate.model.dropout
        if found is None:
            return []
        seen = found.weights[found.weights > 0]
        return [
            f"{found.unseen:,} of the rows were planned and not seen (or came after one that was "
            "not); those seen are weighted by the inverse of their probability ("
            f"{number(float(seen.min()), 2)} to "
            f"{number(float(seen.max()), 2)}), by the model {found.formula}, whose uncertainty is "
            "in the standard errors."
        ]

    def parts(self) -> list[str]:
        model = self.estimate.model
        if has_categories(model.family):
            return self._dropout()
        held = model.moments.words
        over = " / weight" if self.mean.weights is not None else ""
        lines = [f"Var({self.response}) = {held}{over}."]
        for name, value in model.shapes.items():
            lines.append(f"The shape {name} is held at {significant(value, 4)}.")
        return [*lines, *self._dropout()]

    def reading(self) -> list[str]:
        lines = [
            "Coefficients compare means over the population, not rows of one "
            f"{self.estimate.model.clusters[0].name}."
        ]
        if isinstance(self.fit.family, Cumulative):
            levels = self.mean.recipe.reading and self.mean.recipe.reading.levels
            order = f" ({' < '.join(str(x) for x in levels)})" if levels else ""
            lines.append(
                "P(y <= j) = F(threshold_j - x'b): a positive coefficient makes higher categories "
                f"more likely{order}."
            )
        return [*lines, *super().reading()]

    def blocks(self) -> tuple[Block, ...]:
        labels = self.fit.labels
        groups: dict[tuple[str, str | None], list[int]] = {}
        for k, one in enumerate(labels):
            groups.setdefault((one.component, one.response), []).append(k)
        if len(groups) == 1:
            return super().blocks()
        found = []
        for (component, response), own in groups.items():
            names = tuple(labels[k].term for k in own)
            effects = component != "threshold"
            found.append(
                Block(
                    "Fixed effects" if effects else "Thresholds", slice(own[0], own[-1] + 1), names,
                    ratio_word(self.fit.family) if effects else None, effects, "", response,
                )
            )  # fmt: skip
        return tuple(found)

    def groups(self) -> dict[str, NDArray[np.intp]]:
        return {
            f.name: np.bincount(f.codes, minlength=f.n_levels) for f in self.estimate.model.clusters
        }

    def constants(self, intervals: Any = None, conf_level: float = 0.95) -> list[str]:
        scale = f"Scale (phi): {number(self.estimate.scale, 4)}"
        if has_categories(self.estimate.model.family):
            return [self._correlation(), *self.parts()]
        return [f"{self._correlation()} {scale}{self._held()}.", *self.parts()]

    def _held(self) -> str:
        return "" if self.estimate.model.equations.scale is None else ", held"

    def _correlation(self) -> str:
        values = self.estimate.correlations
        if self.estimate.model.equations.correlation == "local odds ratio":
            values = np.unique(np.round(values, 12)) if len(values) else values
        name = f"Working correlation: {self.structure}"
        if has_categories(self.fit.family) and len(values):
            name = f"{name}, in logs"
        if len(values) == 0:
            return f"{name}."
        shown = ", ".join(number(float(v), 3) for v in values[:6])
        more = f" and {len(values) - 6} more" if len(values) > 6 else ""
        return f"{name}, {shown}{more}."

    def endings(self) -> list[str]:
        lines = [f"Standard errors: {COVARIANCES[self.covariance]}.", self.certificate()]
        count = self.estimate.model.clusters[0].n_levels
        if self.fit.method(None) == "small-sample":
            lines.insert(
                1,
                f"With {count} clusters the sandwich variance is biased downwards; the reduced "
                "degrees of freedom keep the level of tests and intervals. "
                "covariance='kauermann-carroll' corrects the standard errors too.",
            )
        elif count < FEW and self.covariance == "robust":
            lines.insert(
                1,
                f"With {count} clusters the sandwich variance is biased downwards; "
                "covariance='kauermann-carroll' corrects it.",
            )
        return [*lines, *(f"Note: {text}." for text, _ in doubts(self.estimate))]

    def certificate(self) -> str:
        found = self.estimate
        if not found.converged:
            return f"The estimating equations were not solved in {found.steps} steps."
        return (
            f"The estimating equations converged in {found.steps} steps (estimating function at "
            f"the solution: {found.gap:.1e} standard errors)."
        )

    def facts(self) -> list[tuple[str, str]]:
        return [*super().facts(), ("Working correlation", self.structure)]

    def equation(self) -> Equation:
        if has_categories(self.fit.family):
            return marginal_categories(self.mean, self.fit.family, self.fit.labels)
        return marginal(
            self.response, self.mean, self.mean.names, self.fit.family,
            self.estimate.model.clusters[0].name,
        )  # fmt: skip

    def held(self) -> list[str]:
        return [f"Standard errors are from {COVARIANCES[self.covariance]}."]

    def call(self) -> str:
        model, recipe = self.estimate.model, self.mean.recipe
        equations = model.equations
        outer = model.clusters[0].name
        groups = outer if len(model.clusters) == 1 else _nested(outer, model.clusters[1].name)
        arguments = [repr(self.mean.formula), "data", f"groups={groups!r}"]
        if model.occasions is not None:
            arguments.append(f"time={model.occasions.name!r}")
        arguments.append(f"family={model.family.name!r}, link={model.family.link!r}")
        arguments.append(f"correlation={self.correlation_argument!r}")
        if has_categories(model.family):
            arguments[-2] = f"family={self._family_call()}"
        if equations.estimator != "all":
            arguments.append(f"estimator={equations.estimator!r}")
        if model.matrix is not None:
            arguments.append("matrix=matrix")
        if equations.scale is not None and equations.correlation != "log odds ratio":
            arguments.append(f"scale={equations.scale!r}")
        elif equations.adjusted:
            arguments.append("scale='n-p'")
        if equations.penalty:
            arguments.append(f"penalty={equations.penalty!r}")
        if model.shapes:
            arguments.append(f"shapes={model.shapes!r}")
        if self.covariance != "robust":
            arguments.append(f"covariance={self.covariance!r}")
        if self.mean.weights is not None:
            name = recipe.weights_column
            arguments.append("weights=weights" if name is None else f"weights={name!r}")
        if model.sampling is not None:
            arguments.append("sampling_weights=sampling_weights")
        if model.dropout is not None:
            arguments.append(f"dropout={'~' + model.dropout.formula.partition('~')[2]!r}")
        if recipe.offset_given:
            arguments.append("offset=offset")
        elif recipe.offset_column is not None:
            arguments.append(f"offset={recipe.offset_column!r}")
        return f"ranef.gee({', '.join(arguments)})"

    def _family_call(self) -> str:
        family = self.fit.family
        if not isinstance(family, Cumulative):
            return "'multinomial'"
        if family.thresholds == "flexible" and family.link == "logit":
            return "'cumulative'"
        return f"ranef.families.Cumulative({family.link!r}, {family.thresholds!r})"

    @property
    def correlation_argument(self) -> str:
        """The working correlation as the call names it."""
        equations = self.estimate.model.equations
        if equations.correlation != "m-dependent":
            return equations.correlation
        rest = "" if equations.stationary else ", stationary=False"
        return f"m-dependent({equations.reach}{rest})"


def _nested(outer: str, inner: str) -> str:
    """``"Lot/Wafer"`` of the factors Lot and Wafer:Lot."""
    return f"{outer}/{inner.partition(':')[0]}"
