"""What is said of mixed models: linear, and generalised."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.description import words
from ranef.description.convergence import face_line, optimum_line, rare_line
from ranef.description.doubts import sentence, separation_concern, uncertainty_concern
from ranef.description.equation import Equation, generalised, linear
from ranef.description.model import Block, Described, ModelDescription
from ranef.design.terms import rare_columns
from ranef.display.numbers import decimals, number, significant, typeset
from ranef.families import Cumulative
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.variance import intraclass_correlations
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.undetermined import masked
from ranef.models.equally_good import equally_good
from ranef.models.family_words import (
    approximation,
    criterion,
    for_all,
    natural,
    predictor_of,
    ratio,
    variance_words,
    zero_words,
)
from ranef.models.labels import category, coefficient_labels, group_name
from ranef.models.records import CONDITIONAL, Component, Estimate, GeneralisedEstimate

__all__ = ["GeneralisedDescription", "LinearDescription", "MixedDescription"]

HEADINGS = {
    CONDITIONAL: "Fixed effects",
    "zero": "Zero part: log odds of an extra zero",
    "dispersion": "Dispersion",
    "threshold": "Thresholds",
}
ARGUMENTS = {"zero": "zero", "dispersion": "dispersion", "threshold": "nominal"}


class Mixed(Described, Protocol):
    """A fit that holds the estimate of a mixed model."""

    @property
    def estimate(self) -> Any: ...


class MixedDescription(ModelDescription):
    """A mixed model in words."""

    function = "lmm"

    def __init__(self, fit: Mixed) -> None:
        super().__init__(fit)
        self.estimate: Estimate = fit.estimate
        self.fixed = self.estimate.fixed
        self.mixed = bool(self.estimate.terms)

    def random(self) -> list[str]:
        factors = self.estimate.factors
        return [
            words.random_term(term, factors[term.factor], self._where(t))
            for t, term in enumerate(self.estimate.terms)
        ]

    def rows(self) -> list[str]:
        written_out = [words.double_bars(part) for part in self.fit.parts.values()]
        return [*super().rows(), *dict.fromkeys(line for lines in written_out for line in lines)]

    def _where(self, term: int) -> str:
        """Name the part that a random term belongs to, where that is not the mean."""
        if self.estimate.terms[term].parts:
            return ""
        part = next(c for c in self.estimate.components if term in c.terms)
        if part.response is not None:
            return f"In the log odds of category {category(part.response, self.estimate.levels)} "
        return "" if part.name == CONDITIONAL else f"In the {part.name} part "

    def groups(self) -> dict[str, NDArray[np.intp]]:
        counts = {}
        for f, factor in enumerate(self.estimate.factors):
            counts[factor.name] = np.bincount(factor.codes, minlength=factor.n_levels)
            if factor.members is not None:
                term = next(term for term in self.estimate.terms if term.factor == f)
                counts[factor.name] = np.count_nonzero(term.z[:, :-1], axis=0)
        return counts

    @property
    def grouping(self) -> str:
        """The grouping factors in words."""
        return " and ".join(dict.fromkeys(f.name for f in self.estimate.factors))

    def shares(self) -> list[str]:
        shares = intraclass_correlations(self.estimate)
        other = equally_good(self.estimate)
        if other is not None:
            shares = masked(shares, intraclass_correlations(other))
        if shares is None or not self.mixed:
            return []
        named = [
            f"{group_name(self.estimate, t)} {'not determined' if np.isnan(x) else number(x, 3)}"
            for t, x in enumerate(shares)
        ]
        latent = " on the latent scale of the link" if self.estimate.sigma is None else ""
        return [f"Share of the variance{latent} (ICC): {', '.join(named)}."]

    def facts(self) -> list[tuple[str, str]]:
        estimate = self.estimate
        *facts, family = super().facts()
        proved = "proved" if estimate.optimum.converged else "not proved"
        if estimate.optimum.monte_carlo is not None and estimate.optimum.converged:
            proved = "estimated by the iterative path"
        loglik = ("Log-likelihood", typeset(number(estimate.loglik, 3)))
        return [*facts, loglik, self.scale_fact(family), ("Optimum", proved)]

    def scale_fact(self, family: tuple[str, str]) -> tuple[str, str]:
        """The fact that says most of the response's spread."""
        return family

    def certificate(self) -> str:
        optimum = self.estimate.optimum
        if not optimum.converged:
            return f"The search for the optimum ended without a proof: {optimum.message}."
        if optimum.monte_carlo is not None:
            return f"By the iterative path {optimum.monte_carlo.words(optimum.theta)}."
        if optimum.flat:
            what = "; ".join(direction.description for direction in optimum.flat)
            return f"An optimum was verified by exact derivatives, but {what}."
        if optimum.singular or optimum.ends:
            where = words.listed([*(face.description for face in optimum.faces), *optimum.ends])
            return (
                "The optimum, verified by exact derivatives, lies on the boundary of the parameter "
                f"space: {where}."
            )
        return "The optimum was verified by exact first and second derivatives."

    def endings(self) -> list[str]:
        return [self._information(), optimum_line(self.estimate), *self.rare()]

    def rare(self) -> list[str]:
        """Which variances rest on next to no rows."""
        estimate = self.estimate
        return [
            rare_line(rare, term, group_name(estimate, t))
            for t, term in enumerate(estimate.terms)
            for rare in rare_columns(term, estimate.factors[term.factor])
        ]

    def _information(self) -> str:
        """Log-likelihood, parameters, AIC and BIC."""
        estimate, n = self.estimate, self.mean.n
        df = estimate.n_parameters
        if getattr(estimate, "sampling", None) is not None:
            return f"Log pseudo-likelihood {estimate.loglik:.3f} on {df} parameters ({n:,} rows)."
        aic, bic = estimate.deviance + 2 * df, estimate.deviance + np.log(n) * df
        return (
            f"{'REML' if estimate.reml else 'ML'} log-likelihood {estimate.loglik:.3f} on {df} "
            f"parameters; AIC {aic:.2f}, BIC {bic:.2f} (n = {n:,} rows)."
        )

    def faces(self) -> list[str]:
        """On which boundaries the optimum lies."""
        optimum = self.estimate.optimum
        return [*(face_line(face, self.estimate) for face in optimum.faces), *optimum.ends]

    @property
    def criterion_name(self) -> str:
        """What the search lowered."""
        return "REML criterion" if self.estimate.reml else "Deviance"

    theta_name = "Covariance parameters"

    def call(self) -> str:
        recipe = self.mean.recipe
        arguments = [repr(self.mean.formula), "data", *self.arguments()]
        if not self.mixed:
            arguments.append("random='none'")
        if self.mean.weights is not None:
            name = recipe.weights_column
            arguments.append("weights=weights" if name is None else f"weights={name!r}")
        if recipe.offset_given:
            arguments.append("offset=offset")
        elif recipe.offset_column is not None:
            arguments.append(f"offset={recipe.offset_column!r}")
        return f"ranef.{self.function}({', '.join(arguments)})"

    def arguments(self) -> list[str]:
        """Arguments of the call beside formula and rows, as code."""
        return []


class LinearDescription(MixedDescription):
    """A linear mixed model in words."""

    family_kind = "Linear models"
    weights = "The residual variance of a row is divided by its weight."
    theta_name = "Relative covariance parameters"

    @property
    def method(self) -> str:  # type: ignore[override]
        restricted = "restricted maximum likelihood (REML)"
        return restricted if self.estimate.reml else "maximum likelihood (ML)"

    @property
    def criterion(self) -> str:  # type: ignore[override]
        return "REML" if self.estimate.reml else "ML"

    @property
    def model(self) -> str:  # type: ignore[override]
        return "linear mixed model" if self.mixed else "linear model"

    @property
    def title(self) -> str:
        return f"{sentence(self.model)} by {self.criterion}: {self.mean.formula}"

    def kind(self) -> str:
        return self.model

    def rows(self) -> list[str]:
        lines = super().rows()
        if self.mean.weights is not None:
            weights = "Precision weights: the residual variance of a row is sigma^2 / weight."
            lines.insert(2, weights)
        if self.mean.residual is not None:
            lines.append(words.residual_term(self.mean.residual))
        return [*lines, *self._processes()]

    def random(self) -> list[str]:
        own = self.mean.residual
        residual = [] if own is None else [words.residual_term(own)]
        return [*super().random(), *residual, *self._processes()]

    def _processes(self) -> list[str]:
        """Random effects that are processes, told from residuals that are."""
        if self.mean.residual is not None and self.mean.residual.parts:
            return []
        estimate = self.estimate
        said = [
            words.process_beside_residual(term, estimate.factors[term.factor].name)
            for term in estimate.terms
        ]
        return [line for line in said if line is not None]

    def reading(self) -> list[str]:
        slopes = [name for name in self.mean.names if name != "(Intercept)"]
        if not slopes:
            return []
        whose = (
            f" It applies to a typical {self.grouping} and, since the model is linear, also on "
            "average over all of them."
        )
        return [
            f"A coefficient is the difference in expected {self.response} per unit of its column, "
            f"with the other columns held constant.{whose if self.mixed else ''}",
            *super().reading(),
        ]

    def blocks(self) -> tuple[Block, ...]:
        names = self.mean.names
        return (Block("Fixed effects", slice(0, len(names)), names),) if names else ()

    def scale_fact(self, family: tuple[str, str]) -> tuple[str, str]:
        return ("Residual SD", typeset(significant(float(self.estimate.sigma or 0.0))))

    def equation(self) -> Equation:
        return linear(self.estimate)

    def arguments(self) -> list[str]:
        own = self.mean.recipe.residual
        given = [] if own is None else [("residual", own.residual), ("dispersion", own.dispersion)]
        told = [f"{name}={value!r}" for name, value in given if value is not None]
        return [*told, *([] if self.estimate.reml else ["reml=False"])]


class GeneralisedDescription(MixedDescription):
    """A generalised linear mixed model in words."""

    estimate: GeneralisedEstimate
    function = "glmm"
    weights = "The log density of a row is multiplied by its weight."

    @property
    def model(self) -> str:  # type: ignore[override]
        return f"generalised linear {'mixed ' if self.mixed else ''}model"

    @property
    def method(self) -> str:  # type: ignore[override]
        return self._maximised("with")

    def _maximised(self, by: str) -> str:
        """What was maximised, and how it was approximated."""
        how = approximation(self.estimate)
        return f"maximum {criterion(self.estimate)}{f' {by} {how}' if how else ''}"

    @property
    def criterion(self) -> str:  # type: ignore[override]
        nodes = self.estimate.quadrature
        how = ", Laplace" if nodes == 1 else f", {nodes} nodes"
        word = "REML" if self.estimate.reml else "ML"
        approximate = how if approximation(self.estimate) else ""
        return f"{'penalised ' if self.estimate.priors else ''}{word}{approximate}"

    def kind(self) -> str:
        return f"generalised linear ({self.family_words}) {'mixed ' if self.mixed else ''}model"

    def parts(self) -> list[str]:
        named = {
            "zero": f"The log odds of {zero_words(self.fit.family)}",
            "dispersion": "The dispersion",
            "threshold": "Each threshold",
        }
        lines = []
        for name, formula in self.formulas.items():
            if name == CONDITIONAL:
                continue
            right = words.without_bars(formula.lstrip("~ "))
            verb = "were" if name == "zero" else "was"
            same = right in ("", "1")
            how = f"{verb} the same in every row" if same else f"depended on {right}"
            lines.append(f"{named.get(name, f'The shape {name}')} {how}.")
        return lines

    # --- what stands above and between the tables

    def rows(self) -> list[str]:
        estimate, family = self.estimate, self.fit.family
        lines = super().rows()
        if family.name in ("binomial", "betabinomial") and estimate.extra is not None:
            total = float(estimate.extra.sum())
            if total != self.mean.n:
                lines.insert(1, f"{self.mean.y.sum():,.0f} successes in {total:,.0f} trials.")
        if estimate.priors:
            held = ", ".join(f"{name} {prior!r}" for name, prior in estimate.priors.items())
            lines.append(f"Priors: {held}. The log-likelihood below does not include them.")
        if estimate.fixed:
            held = ", ".join(f"{name} = {value:g}" for name, value in estimate.fixed.items())
            lines.append(f"Held, not estimated: {held}.")
        if estimate.equal:
            tied = "; ".join(" = ".join(group) for group in estimate.equal)
            lines.append(f"Equal by request: {tied}.")
        if estimate.sampling is not None:
            lines.append(
                "Sampling weights: a pseudo-likelihood; standard errors are those of the sandwich "
                f"of the levels of {estimate.factors[0].name}."
            )
        elif self.mean.weights is not None:
            lines.append("Weights multiply the log density of each row.")
        return [self._family(), *lines]

    def _family(self) -> str:
        """Family, link and approximation in one sentence."""
        family = self.fit.family
        thresholds = f", {family.thresholds} thresholds" if isinstance(family, Cumulative) else ""
        return f"Family {family.name}, link {family.link}{thresholds}; {self._maximised('by')}."

    def reading(self) -> list[str]:
        lines = [self._whose()] if self.mixed else []
        if isinstance(self.fit.family, Cumulative):
            levels = self.estimate.levels
            order = "" if levels is None else f" ({' < '.join(str(x) for x in levels)})"
            lines.append(
                "P(y <= j) = F(threshold_j - x'b): a positive coefficient makes higher categories "
                f"more likely{order}."
            )
            if "threshold" in self.formulas:
                lines.append(
                    f"Nominal effects {self.formulas['threshold']}: a separate coefficient "
                    "for each threshold; a positive one makes the categories above it less likely."
                )
        return [*lines, *super().reading()]

    def _whose(self) -> str:
        """Which question the coefficients answer, and who answers the other one."""
        if for_all(self.estimate):
            return (
                f"Coefficients hold for a typical level of {self.grouping} and for population "
                "means alike (the link is the identity)."
            )
        return (
            f"Coefficients are subject-specific: they hold for a typical level of {self.grouping}. "
            "For population-averaged coefficients see ranef.marginal(fit)."
        )

    def held(self) -> list[str]:
        estimate, lines = self.estimate, []
        if estimate.priors:
            priors = [f"{prior!r} on {name}" for name, prior in estimate.priors.items()]
            lines.append(f"The likelihood was penalised by the priors {words.listed(priors)}.")
        if estimate.fixed:
            values = [f"{name} at {value:g}" for name, value in estimate.fixed.items()]
            lines.append(f"Held fixed: {words.listed(values)}.")
        if estimate.equal:
            groups = [" = ".join(sorted(group)) for group in estimate.equal]
            lines.append(f"Coefficients with one common value: {words.listed(groups)}.")
        return lines

    # --- tables

    def blocks(self) -> tuple[Block, ...]:
        labels = coefficient_labels(self.estimate)
        parts = [part for part in self.estimate.components if not is_constant(part)]
        return tuple(
            self._block(part, tuple(label.term for label in labels[part.coefficients]))
            for part in parts
            if labels[part.coefficients]
        )

    def _block(self, part: Component, labels: tuple[str, ...]) -> Block:
        heading = HEADINGS.get(part.name, f"Shape ({part.name})")
        heading = heading.replace("an extra zero", zero_words(self.fit.family))
        response, scale = category(part.response, self.estimate.levels), ""
        if part.name not in (CONDITIONAL, "zero", "threshold"):
            predictor = predictor_of(self.estimate, part)
            shape = predictor.label
            scale = shape if predictor.link == "identity" else f"{predictor.link} {shape}"
            scale = f"{scale}; {variance_words(self.fit.family)}"
        tested = part.name != "threshold"
        word = ratio(self.estimate, part)
        return Block(heading, part.coefficients, labels, word, tested, scale, response)

    def constants(self, intervals: Intervals | None = None, conf_level: float = 0.95) -> list[str]:
        lines = []
        for part in self.estimate.components:
            if not is_constant(part):
                continue
            predictor = predictor_of(self.estimate, part)
            at = part.coefficients.start
            value = natural(predictor.link, float(self.estimate.coefficients[at]))
            places = decimals(abs(value), 4)
            text = f"{predictor.label} = {number(value, places)}"
            if intervals is not None:
                low, high = (
                    number(natural(predictor.link, float(end[at])), places)
                    for end in (intervals.conf_low, intervals.conf_high)
                )
                text = f"{text} ({100 * conf_level:g}% interval {low} to {high})"
            of_dispersion = predictor.name == "dispersion"
            meaning = f". {variance_words(self.fit.family)}" if of_dispersion else ""
            lines.append(f"{'Dispersion' if of_dispersion else 'Shape'} {text}{meaning}.")
        return lines

    def endings(self) -> list[str]:
        concerns = (
            separation_concern(self.estimate),
            uncertainty_concern(joint_covariance(self.estimate)),
        )
        return [*super().endings(), *(sentence(c) for c in concerns if c is not None)]

    @property
    def criterion_name(self) -> str:
        return "Penalised deviance" if self.estimate.priors else super().criterion_name

    def equation(self) -> Equation:
        return generalised(self.estimate)

    def arguments(self) -> list[str]:
        estimate, family = self.estimate, self.fit.family
        if isinstance(family, Cumulative) and family.thresholds != "flexible":
            named = f"ranef.families.Cumulative({family.link!r}, {family.thresholds!r})"
            written = [f"family={named}"]
        else:
            written = [f"family={family.name!r}", f"link={family.link!r}"]
        shapes = {}
        for name, formula in self.formulas.items():
            if name in ARGUMENTS:
                written.append(f"{ARGUMENTS[name]}={formula!r}")
            elif name != CONDITIONAL:
                shapes[name] = formula
        written += [f"shapes={shapes!r}"] if shapes else []
        written += ["reml=True"] if estimate.reml else []
        written += [f"quadrature={estimate.quadrature}"] if estimate.quadrature != 1 else []
        if estimate.priors:
            priors = ", ".join(f"{k!r}: ranef.priors.{v!r}" for k, v in estimate.priors.items())
            written.append(f"priors={{{priors}}}")
        written += [f"fixed={dict(estimate.fixed)!r}"] if estimate.fixed else []
        written += [f"equal={list(estimate.equal)!r}"] if estimate.equal else []
        if estimate.sampling is not None:
            written.append("sampling_weights=sampling_weights")
        return written


def is_constant(part: Component) -> bool:
    """Tell whether a component is one number: a dispersion or shape without a formula."""
    return part.specification is None and part.name != "threshold"
