"""A meta-analysis in words."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.description import words
from ranef.description.equation import Equation, synthesis
from ranef.description.model import Block, Described, ModelDescription
from ranef.display.numbers import number, p_value, significant
from ranef.models.meta import MetaEstimate

__all__ = ["MetaDescription"]

ESTIMATORS = {
    "fe": "no variance between studies (fixed effects)",
    "dl": "DerSimonian and Laird's estimator",
    "he": "Hedges' estimator",
    "hs": "Hunter and Schmidt's estimator",
    "sj": "Sidik and Jonkman's estimator",
    "eb": "empirical Bayes (the estimator of Paule and Mandel)",
    "pm": "Paule and Mandel's estimator",
    "ml": "maximum likelihood",
    "reml": "restricted maximum likelihood (REML)",
}
LOW = 5
"""Studies below which a variance between them is hardly known."""


class Synthesis(Described, Protocol):
    """What a fit must have to be described as a meta-analysis."""

    @property
    def estimate(self) -> MetaEstimate: ...


class MetaDescription(ModelDescription):
    """A fit of `ranef.meta` in words."""

    family_kind = "Meta-analyses"

    def __init__(self, fit: Synthesis) -> None:
        super().__init__(fit)
        self.estimate = fit.estimate

    @property
    def model(self) -> str:  # type: ignore[override]
        fixed = self.estimate.model.method == "fe"
        moderated = self.mean.names != ("(Intercept)",)
        kind = "meta-regression" if moderated else "meta-analysis"
        if self.estimate.model.is_dependent and not fixed:
            return f"multilevel {kind}"
        return f"{'fixed-effects' if fixed else 'random-effects'} {kind}"

    @property
    def method(self) -> str:  # type: ignore[override]
        return ESTIMATORS[self.estimate.model.method]

    @property
    def criterion(self) -> str:  # type: ignore[override]
        return self.estimate.model.method.upper()

    @property
    def family_words(self) -> str:
        """What is known of the effects."""
        known = "covariance" if self.estimate.model.covariance is not None else "variances"
        return f"known sampling {known}"

    def rows(self) -> list[str]:
        lines = super().rows()
        kinds = [f"{len(sizes):,} levels of {name}" for name, sizes in self.groups().items()]
        return [line for line in lines if not (kinds and line.startswith("Groups"))] + (
            [f"Levels: {', '.join(kinds)}."] if kinds else []
        )

    def random(self) -> list[str]:
        spec = self.mean
        if self.estimate.model.method == "fe":
            return []
        if not spec.terms:
            return ["True effects differ between studies, with one variance."]
        return [words.random_term(term, spec.factors[term.factor], "") for term in spec.terms]

    def groups(self) -> dict[str, NDArray[np.intp]]:
        return {f.name: np.bincount(f.codes, minlength=f.n_levels) for f in self.mean.factors}

    def blocks(self) -> tuple[Block, ...]:
        labels = tuple(label.full for label in self.fit.labels)
        alone = labels == ("(Intercept)",)
        heading = "Fixed effects: the mean effect" if alone else "Fixed effects"
        return (Block(heading, slice(0, len(labels)), labels),)

    def constants(self, intervals: Any = None, conf_level: float = 0.95) -> list[str]:
        found, estimate = self.estimate.heterogeneity, self.estimate
        lines = []
        if estimate.model.method != "fe":
            tau2 = estimate.tau2
            of = "Heterogeneity"
            lines.append(
                f"{of}: tau^2 {significant(tau2, 4)}, tau {significant(float(np.sqrt(tau2)), 4)} "
                f"(by {self.method}); I^2 {number(found.i2, 1)}%, H^2 {number(found.h2, 2)}."
            )
        lines.append(
            f"Q {number(found.q, 2)} on {found.df} degrees of freedom, p {p_value(found.q_p)}."
        )
        if np.isfinite(found.r2):
            lines.append(f"The moderators explain {number(found.r2, 1)}% of the heterogeneity.")
        return lines

    def endings(self) -> list[str]:
        return [self.certificate(), *(f"Note: {text}" for text in self.doubts())]

    def doubts(self) -> list[str]:
        """What a reader should know before believing the numbers."""
        lines, estimate = [], self.estimate
        if estimate.optimum.maxima > 1:
            lines.append(
                f"The likelihood has {estimate.optimum.maxima} local maxima; the estimate is at "
                "the highest. Look at influence() and at the units of the effects."
            )
        n = self.mean.n - self.mean.p
        if n < LOW and estimate.model.method != "fe":
            lines.append(
                f"{n} degrees of freedom say little about the variance between studies: see "
                "confint('q-profile', parameters='variance')."
            )
        return lines

    def certificate(self) -> str:
        optimum = self.estimate.optimum
        if self.estimate.model.method not in ("ml", "reml"):
            return ""
        if not optimum.converged:
            return "The search for the variances ended without a proof of the optimum."
        where = "; a variance is zero" if optimum.at_zero else ""
        whole = "" if self.estimate.model.is_dependent else " over all values of tau^2"
        return f"Optimum proved{whole}{where}."

    def facts(self) -> list[tuple[str, str]]:
        return [
            ("Effects", f"{self.mean.n:,}"),
            *[(f"Levels of {name}", f"{len(r):,}") for name, r in self.groups().items()],
            ("Fitted by", self.criterion),
            ("tau^2", significant(self.estimate.tau2, 4)),
            ("I^2", f"{number(self.estimate.heterogeneity.i2, 1)}%"),
        ]

    def equation(self) -> Equation:
        return synthesis(
            self.response, self.mean, self.mean.names, self.estimate.model.method != "fe"
        )

    def call(self) -> str:
        model, recipe = self.estimate.model, self.mean.recipe
        arguments = [repr(self.mean.formula), "data"]
        arguments += ["covariance=V"] if model.covariance is not None else ["variance=v"]
        arguments.append(f"method={model.method!r}")
        if recipe.offset_column is not None:
            arguments.append(f"offset={recipe.offset_column!r}")
        return f"ranef.meta({', '.join(arguments)})"
