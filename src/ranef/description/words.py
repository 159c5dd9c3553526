"""The model and its optimum in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.display.numbers import count, significant, typeset
from ranef.families import Cumulative
from ranef.formula.model import Terms
from ranef.models.family_words import (
    approximation,
    for_all,
    natural,
    predictor_of,
    ratio,
    variance_words,
    zero_words,
)
from ranef.models.family_words import criterion as likelihood
from ranef.models.labels import category
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.tables import Table

__all__ = [
    "QUANTILE_RESIDUALS",
    "coefficient_tables",
    "criterion",
    "faces",
    "generalised_arguments",
    "gradient_norm",
    "group_names",
    "listed",
    "method",
    "model",
    "place",
    "random_term",
    "reading",
    "verdict",
]

HEADINGS = {
    "conditional": "Fixed effects",
    "zero": "Zero part: log odds of an extra zero",
    "dispersion": "Dispersion",
    "threshold": "Thresholds",
}

ARGUMENTS = {"zero": "zero", "dispersion": "dispersion", "threshold": "nominal"}

QUANTILE_RESIDUALS = (
    "Quantile residuals: each response is ranked among {draws} simulated from the model, with one "
    "draw of the random effects given the data; the normal quantile of its rank is shown, with "
    "ties broken at random. "
    "They are standard normal for every family if the model holds."
)

STRUCTURES = {
    "us": "each with its own variance, all correlated",
    "diag": "each with its own variance, uncorrelated",
    "homdiag": "with one common variance, uncorrelated",
    "cs": "each with its own variance and one common correlation (compound symmetry)",
    "homcs": "with one common variance and one common correlation (compound symmetry)",
    "ar1": "with one common variance and a first-order autoregressive correlation",
    "hetar1": "each with its own variance and a first-order autoregressive correlation",
    "toep": "each with its own variance and a correlation that depends on the lag (Toeplitz)",
    "ou": "with a correlation that decays exponentially with time (Ornstein-Uhlenbeck)",
    "exp": "with a correlation that decays exponentially with distance",
    "gau": "with a correlation that decays with squared distance (Gaussian)",
    "mat": "with a Matérn correlation over distance",
    "rr": "with a covariance matrix of reduced rank",
}


def listed(items: Sequence[str]) -> str:
    """Join words as prose does.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def method(estimate: Estimate) -> str:
    """Return the criterion's name."""
    if isinstance(estimate, GeneralisedEstimate):
        return f"maximum {likelihood(estimate)} with {approximation(estimate)}"
    return "restricted maximum likelihood (REML)" if estimate.reml else "maximum likelihood (ML)"


def criterion(estimate: Estimate) -> str:
    """Return the criterion in a word."""
    if isinstance(estimate, GeneralisedEstimate):
        how = "Laplace" if estimate.quadrature == 1 else f"{estimate.quadrature} nodes"
        word = "REML" if estimate.reml else "ML"
        return f"{'penalised ' if estimate.priors else ''}{word}, {how}"
    return "REML" if estimate.reml else "ML"


def model(estimate: Estimate) -> str:
    """Say what is modelled by what, and how it was fitted."""
    spec = estimate.specification
    names = spec.names
    kind, weights = "linear", "The residual variance of a row is divided by its weight."
    if isinstance(estimate, GeneralisedEstimate):
        family, names = estimate.family, estimate.components[0].names
        kind = f"generalised linear ({family.name} family, {family.link} link)"
        weights = "The log density of a row is multiplied by its weight."
    sentences = [
        f"A {kind} mixed model of {spec.response}, fitted by {method(estimate)} to "
        f"{count(spec.n, 'row')}.",
        _fixed_part(spec.recipe.model.fixed, "(Intercept)" in names),
    ]
    if spec.offset is not None:
        sentences.append("An offset with a coefficient of one is part of the mean.")
    if spec.weights is not None:
        sentences.append(weights)
    return " ".join(sentences)


def reading(estimate: GeneralisedEstimate) -> list[str]:
    """Say which question the coefficients answer, and what the dispersion means."""
    lines = [
        "The link is the identity: coefficients hold within levels and for population means alike."
        if for_all(estimate)
        else "Coefficients are subject-specific: they compare rows of the same levels. For "
        "population-averaged coefficients see ranef.marginal(fit)."
    ]
    for part in estimate.components:
        if part.specification is not None or part.name == "threshold":
            continue
        own = predictor_of(estimate, part)
        value = natural(own.link, float(estimate.coefficients[part.coefficients][0]))
        meaning = f" {variance_words(estimate.family)}." if own.name == "dispersion" else ""
        lines.append(
            f"{own.name.capitalize()} {own.label} = {typeset(significant(value))}.{meaning}"
        )
    return lines


def place(estimate: Estimate, term: int) -> str:
    """Name the part that a random term belongs to, where that is not the mean."""
    if isinstance(estimate, GeneralisedEstimate):
        for part in estimate.components:
            if not part.terms.start <= term < part.terms.stop:
                continue
            if part.response is not None:
                return f"In the log odds of category {category(part.response, estimate.levels)} "
            if part.name != "conditional":
                return f"In the {part.name} part "
    return ""


def coefficient_tables(
    estimate: Estimate, source: Table, level: str
) -> list[tuple[str, str | None, list[int]]]:
    """Return caption, name of the exponentials and rows of each component's table."""
    if not isinstance(estimate, GeneralisedEstimate):
        caption = f"Fixed effects with {level} confidence intervals"
        return [(caption, None, list(range(source.n_rows)))]
    found = []
    for part in estimate.components:
        rows = list(range(part.coefficients.start, part.coefficients.stop))
        if not rows or (part.specification is None and part.name != "threshold"):
            continue
        heading = HEADINGS.get(part.name, f"Shape ({part.name})")
        heading = heading.replace("an extra zero", zero_words(estimate.family))
        if part.response is not None:
            heading = f"{heading}: {source.values('response')[rows[0]]} against the first category"
        caption = f"{heading}, with {level} confidence intervals"
        found.append((caption, ratio(estimate, part), rows))
    return found


def group_names(source: Table) -> list[str]:
    """Grouping factors of a table of variances, with the part where that is not the mean."""
    parts = ["" if str(c) == "conditional" else str(c) for c in source.values("component")]
    if "response" in source.columns:
        parts = [
            part if r is None or r != r else str(r)
            for part, r in zip(parts, source.values("response"), strict=True)
        ]
    return [
        f"{group} ({part})" if part else str(group)
        for group, part in zip(source.values("group"), parts, strict=True)
    ]


def generalised_arguments(estimate: GeneralisedEstimate) -> list[str]:
    """Return the arguments of `glmm` beside the formula, as code."""
    family = estimate.family
    if isinstance(family, Cumulative) and family.thresholds != "flexible":
        named = f"ranef.families.Cumulative({family.link!r}, {family.thresholds!r})"
        written = [f"family={named}"]
    else:
        written = [f"family={family.name!r}", f"link={family.link!r}"]
    shapes = {}
    for name, part in estimate.parts.items():
        if name in ARGUMENTS:
            written.append(f"{ARGUMENTS[name]}={part.formula!r}")
        elif name != "conditional":
            shapes[name] = part.formula
    written += [f"shapes={shapes!r}"] if shapes else []
    if estimate.reml:
        written.append("reml=True")
    if estimate.quadrature != 1:
        written.append(f"quadrature={estimate.quadrature}")
    if estimate.priors:
        priors = ", ".join(f"{k!r}: ranef.priors.{v!r}" for k, v in estimate.priors.items())
        written.append(f"priors={{{priors}}}")
    if estimate.fixed:
        written.append(f"fixed={dict(estimate.fixed)!r}")
    if estimate.equal:
        written.append(f"equal={list(estimate.equal)!r}")
    return written


def random_term(term: RandomTerm, factor: GroupingFactor, before: str = "") -> str:
    """Say what varies between the levels of which factor."""
    where = f"the {count(factor.n_levels, 'level')} of {factor.name}"
    names = [_coefficient(name) for name in term.names[:6]]
    if term.size > 6:
        names = [*names[:5], f"{term.size - 5} more coefficients"]
    verb = "varies" if term.size == 1 else "vary"
    text = f"{before}{'between' if before else 'Between'} {where} {verb} {listed(names)}"
    if term.kernel is not None:
        return f"{text}, with a known covariance between the levels."
    if term.size == 1:
        return f"{text}."
    shape = STRUCTURES.get(term.structure, f"with the structure {term.structure!r}")
    if term.rank is not None:
        shape = f"{shape} {term.rank}"
    return f"{text}, {shape}."


def verdict(estimate: Estimate) -> str:
    """Say in one sentence whether the optimum is proved."""
    found = estimate.optimum
    if not found.converged:
        return f"The search did not prove an optimum: {found.message}."
    if not found.singular:
        return "The optimum is proved, and no variance is estimated at zero."
    return "The optimum is proved; it lies on a boundary of the parameter space."


def faces(estimate: Estimate) -> list[str]:
    """Say on which boundaries the optimum lies."""
    terms = estimate.terms
    return [
        f"{terms[face.term].label}: {face.description} (the covariance matrix has rank "
        f"{face.rank} of {face.size}; smallest curvature away from it {face.curvature:.3g})."
        for face in estimate.optimum.faces
    ]


def gradient_norm(estimate: Estimate) -> float:
    """Return the largest entry of the gradient, in absolute value."""
    return float(np.max(np.abs(estimate.optimum.gradient), initial=0.0))


def _fixed_part(fixed: Terms, with_intercept: bool) -> str:
    """Say on which terms the mean depends, a factor as one."""
    terms = [":".join(fixed.keys[i] for i in own) for own in fixed.terms]
    if not terms:
        return "The mean is a constant." if with_intercept else "The mean is zero."
    shown = terms if len(terms) <= 8 else [*terms[:7], f"{len(terms) - 7} more terms"]
    start = "an intercept, " if with_intercept and len(shown) > 1 else ""
    if with_intercept and len(shown) == 1:
        start = "an intercept and "
    return f"The mean depends on {start}{listed(shown)}."


def _coefficient(name: str) -> str:
    return "the intercept" if name == "(Intercept)" else f"the coefficient of {name}"
