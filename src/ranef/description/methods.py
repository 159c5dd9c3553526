"""The paragraph of a paper's methods section that says what was done."""

from __future__ import annotations

import platform

import numpy as np

from ranef._version import __version__
from ranef.description import words
from ranef.design.specification import Specification
from ranef.design.state import Coding
from ranef.display.numbers import count
from ranef.inference.coefficients.degrees import METHODS
from ranef.models.family_words import zero_words
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.tables.accounting import Accounting

__all__ = ["methods"]


def methods(estimate: Estimate, conf_level: float, df: str) -> str:
    """Say what was modelled, how it was fitted and tested, and with what.

    Parameters
    ----------
    estimate : Estimate
    conf_level : float
    df : str
        Name of the method of the degrees of freedom.
    levels : sequence or None
        Categories of the response.
    """
    sentences = [
        words.model(estimate),
        *_parts(estimate),
        *_references(estimate.specification),
        *_random(estimate),
        *_rows(estimate.specification.accounting),
        *_held(estimate),
        _tests(conf_level, df),
        _certificate(estimate),
        f"Computations were done with ranef {__version__} (Python {platform.python_version()}, "
        f"NumPy {np.__version__}); the model's formula was {estimate.specification.formula}.",
    ]
    return " ".join(sentences)


def _parts(estimate: Estimate) -> list[str]:
    """The formulas of what is modelled beside the mean."""
    if not isinstance(estimate, GeneralisedEstimate):
        return []
    named = {
        "zero": f"The log odds of {zero_words(estimate.family)}",
        "dispersion": "The dispersion",
        "threshold": "Each threshold",
    }
    found = []
    for name, part in estimate.parts.items():
        if name == "conditional":
            continue
        right = _without_bars(part.formula.lstrip("~ "))
        verb = "were" if name == "zero" else "was"
        how = f"{verb} the same in every row" if right in ("", "1") else f"depended on {right}"
        found.append(f"{named.get(name, f'The shape {name}')} {how}.")
    return found


def _without_bars(right: str) -> str:
    """A right side without its random terms, which have sentences of their own."""
    kept, depth, start = [], 0, 0
    for i, sign in enumerate(f"{right}+"):
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth == 0:
            kept.append(right[start:i].strip())
            start = i + 1
    return " + ".join(piece for piece in kept if "|" not in piece)


def _references(spec: Specification) -> list[str]:
    """Reference levels of the categories under treatment contrasts."""
    found = []
    for key in spec.recipe.model.fixed.keys:
        coding = spec.recipe.state.get(f"levels of {key}")
        if isinstance(coding, Coding) and coding.base >= 0 and "(Intercept)" in spec.names:
            found.append(f"{coding.levels[coding.base]} for {key}")
    if not found:
        return []
    return [f"The reference level{'s were' if len(found) > 1 else ' was'} {words.listed(found)}."]


def _random(estimate: Estimate) -> list[str]:
    factors = estimate.factors
    return [
        words.random_term(term, factors[term.factor], words.place(estimate, t))
        for t, term in enumerate(estimate.terms)
    ]


def _rows(rows: Accounting) -> list[str]:
    if not rows.n_dropped:
        return []
    named = [f"{name} ({k})" for name, k in rows.missing.items() if k]
    reason = f" for missing values in {words.listed(named)}" if named else ""
    zero = f"{' and' if named else ' for'} weights of zero" if rows.n_zero_weight else ""
    verb = "was" if rows.n_dropped == 1 else "were"
    of = count(rows.n_rows, "row")
    return [f"Of {of}, {rows.n_dropped:,} {verb} left out{reason}{zero}."]


def _held(estimate: Estimate) -> list[str]:
    """Priors, and what was held or made equal."""
    if not isinstance(estimate, GeneralisedEstimate):
        return []
    out = []
    if estimate.priors:
        given = [f"{prior!r} on {name}" for name, prior in estimate.priors.items()]
        out.append(f"The likelihood was penalised by the priors {words.listed(given)}.")
    if estimate.fixed:
        held = [f"{name} at {value:g}" for name, value in estimate.fixed.items()]
        out.append(f"Held fixed: {words.listed(held)}.")
    if estimate.equal:
        groups = [" = ".join(sorted(group)) for group in estimate.equal]
        out.append(f"Coefficients with one common value: {words.listed(groups)}.")
    return out


def _tests(conf_level: float, df: str) -> str:
    how = METHODS[df].words
    return f"Inference on coefficients rests on {how}; intervals have level {conf_level:.0%}."


def _certificate(estimate: Estimate) -> str:
    """Whether the optimum is proved, and where it lies."""
    if not estimate.optimum.converged:
        return f"The search for the optimum ended without a proof: {estimate.optimum.message}."
    if estimate.optimum.singular:
        where = words.listed([face.description for face in estimate.optimum.faces])
        return (
            "Exact derivatives proved the optimum, which lies on the boundary of the parameter "
            f"space: {where}."
        )
    return "Exact first and second derivatives proved the optimum."
