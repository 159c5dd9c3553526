"""A dynamic model in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.description import words
from ranef.description.equation import Equation, process
from ranef.description.model import Block, ModelDescription
from ranef.display.numbers import count, number
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS

__all__ = ["HEADINGS", "DynamicDescription"]

HEADINGS = {
    CONDITIONAL: "Fixed effects", INPUTS: "Inputs, carried on by inertia",
    INERTIA: "Inertia", DISPERSION: "Innovation standard deviation",
}  # fmt: skip
LINKS = {"fisher": "atanh", "plain": "", "clock": "logit"}
SCALES = {"fisher": "Fisher's z of phi", "plain": "phi", "clock": "logit of phi"}


class DynamicDescription(ModelDescription):
    """A fit of `ranef.dynamic` in words."""

    model = "dynamic mixed model"
    method = "maximum likelihood"
    criterion = "ML"
    family_kind = "Dynamic models"

    fit: Any

    def kind(self) -> str:
        """The kind of model."""
        return self.model

    @property
    def estimate(self) -> Any:
        """What the solver found."""
        return self.fit.estimate

    def sentences(self) -> list[str]:
        """What is modelled by what, and how it was fitted."""
        e = self.estimate
        person = e.persons.name
        lines = [
            f"A {self.model} of {self.response}, fitted by {self.method} to "
            f"{count(self.mean.n, 'row')}.",
            words.fixed_part(self.mean.recipe.model.fixed, "(Intercept)" in self.mean.names),
            f"Deviations from the (latent) level of a {person} follow a first-order process, "
            f"{e.texts.residual}, whose inertia and innovation standard deviation depend on "
            f"{e.texts.inertia} and {e.texts.dispersion}.",
        ]
        if e.texts.inputs is not None:
            lines.append(
                f"Inputs, {e.texts.inputs}, enter the equation of the process, so that their "
                "effects persist with its inertia."
            )
        lines.append(self._effects())
        return lines

    def _effects(self) -> str:
        e, d = self.estimate, self.estimate.layout.d
        how = (
            "Effects of inertia and of the standard deviation are integrated by adaptive "
            f"Gauss-Hermite quadrature with {e.end.points} points each, all others exactly."
            if d
            else "Random effects are integrated exactly."
        )
        starts = (
            "The first row of a series is conditioned on."
            if e.given_starts
            else "Series begin in their stationary distribution."
        )
        return f"{how} {starts}"

    def reading(self) -> list[str]:
        """Which question a coefficient answers."""
        unit = "unit of time" if self.estimate.memory == "clock" else "prompt"
        return [
            *super().reading(),
            f"Inertia (phi) is the proportion of a deviation that persists after one {unit}; the "
            f"innovation is the random change added over one {unit}.",
        ]

    def groups(self) -> dict[str, NDArray[np.intp]]:
        """How many rows each person has."""
        factor = self.estimate.persons
        return {factor.name: np.bincount(factor.codes, minlength=factor.n_levels)}

    def random(self) -> list[str]:
        """What varies between persons."""
        names = [
            e.name if e.part == CONDITIONAL else f"{e.part}: {e.name}"
            for e in self.estimate.layout.effects
        ]
        return [f"Random effects of {self.estimate.persons.name}: {', '.join(names)}."]

    def blocks(self) -> tuple[Block, ...]:
        """The coefficients by part."""
        e = self.estimate
        scales = {
            CONDITIONAL: "", INPUTS: "", INERTIA: SCALES[e.memory], DISPERSION: "log sd",
        }  # fmt: skip
        return tuple(
            Block(HEADINGS[part], where, e.layout.names[part], scale=scales[part])
            for part, where in e.layout.slices.items()
            if e.layout.names[part]
        )

    def equation(self) -> Equation:
        """The model in symbols; the gap is the time since the row before."""
        e = self.estimate
        links = {INERTIA: LINKS[e.memory], DISPERSION: "log"}
        return process(e.parts, links, e.persons.name, "gap")

    def facts(self) -> list[tuple[str, str]]:
        """What a reader asks first."""
        factor = self.estimate.persons
        return [
            ("Rows used", f"{self.mean.n:,}"),
            (f"Levels of {factor.name}", f"{factor.n_levels:,}"),
            ("Fitted by", self.criterion),
            ("Process", self.estimate.texts.residual),
        ]

    def certificate(self) -> str:
        """Whether the optimum is proved."""
        if not self.estimate.end.converged:
            return "The optimum is not proved."
        return "The optimum was proved by the gradient and the observed information there."

    def endings(self) -> list[str]:
        """Log-likelihood, optimum and doubts."""
        fit = self.fit
        lines = [
            f"Log-likelihood {number(fit.loglik, 3)}, {fit.df_model} parameters, "
            f"AIC {number(fit.aic, 2)}, BIC {number(fit.bic, 2)} (n = {fit.n_obs:,} rows).",
            fit.optimum.message[:1].upper() + fit.optimum.message[1:] + ".",
        ]
        return [*lines, *(f"{doubt[:1].upper()}{doubt[1:]}." for doubt in fit.doubts())]

    def call(self) -> str:
        """The call that makes the fit."""
        e = self.estimate
        given = [repr(e.texts.conditional), "data", f"residual={e.texts.residual!r}"]
        given += [f"{part}={text!r}" for part, text in e.texts.parts.items() if part != CONDITIONAL]
        given += ["link='identity'"] if e.memory == "plain" else []
        given += ["start='given'"] if e.given_starts else []
        return f"ranef.dynamic({', '.join(given)})"
