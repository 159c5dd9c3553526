"""The sections of the report, in order.

A field of models adds its own: a `Section` whose `applies` asks for what the field's fits have.
"""

from __future__ import annotations

from typing import Any

from ranef.fits.protocol import (
    Critical,
    Generative,
    Levelled,
    Likelihood,
    Refittable,
    Synthesised,
    offers,
)
from ranef.questions.checks.section import fitness
from ranef.questions.levels.section import has_ratios, levels, ratios
from ranef.questions.synthesis.section import synthesis
from ranef.report import answers, ending, estimates, model
from ranef.report.section import Section

__all__ = ["SECTIONS", "add_section"]


def levelled(fit: Any) -> bool:
    """Tell whether the fit has random effects."""
    return offers(fit, Levelled)


def checked(fit: Any) -> bool:
    """Tell whether `ranef.check` takes the fit."""
    mixed = all(offers(fit, protocol) for protocol in (Likelihood, Generative, Refittable))
    return mixed or offers(fit, Critical)


def compared(fit: Any) -> bool:
    """Tell whether levels have counts to be set against what is expected of them."""
    return levelled(fit) and has_ratios(fit)


SECTIONS: list[Section] = [
    Section("model", "Model", model.model),
    Section("data", "Data", model.data),
    Section("fixed", "Fixed effects", estimates.fixed),
    Section(
        "studies",
        "Effects of studies",
        lambda fit, how: synthesis(fit, how.conf_level),
        lambda fit: offers(fit, Synthesised),
    ),
    Section("means", "Marginal means", answers.means, answers.has_means),
    Section("predictions", "Predictions", answers.predictions, answers.has_predictions),
    Section("variance", "Variance components", estimates.variance, levelled),
    Section("random", "Random effects", lambda fit, how: levels(fit, how.conf_level), levelled),
    Section(
        "ratios", "Standardised ratios", lambda fit, how: ratios(fit, how.conf_level), compared
    ),
    Section("check", "Does the model fit?", lambda fit, how: fitness(fit), checked),
    Section("profile", "Profile of the likelihood", answers.profile, answers.has_profile),
    Section(
        "optimum",
        "Certificate of the optimum",
        ending.optimum,
        lambda fit: offers(fit, Likelihood),
    ),
    Section("reproduce", "How to reproduce", ending.reproduce, formulas=False),
]


def add_section(section: Section, before: str) -> None:
    """Add a field's section before the one of that name; two fields may name theirs alike."""
    if section not in SECTIONS:
        SECTIONS.insert([known.name for known in SECTIONS].index(before), section)
