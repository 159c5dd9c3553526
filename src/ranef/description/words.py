"""Sentences that descriptions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm, ResidualTerm
from ranef.display.numbers import count
from ranef.formula.labels import level_text
from ranef.formula.model import Terms
from ranef.models.records import CONDITIONAL
from ranef.solve.optimum import Optimum
from ranef.solve.structured.rows import row_covariance
from ranef.tables.accounting import Accounting

__all__ = [
    "compared",
    "double_bars",
    "fixed_part",
    "listed",
    "process_beside_residual",
    "random_term",
    "residual_term",
    "rows_used",
    "verdict",
    "without_bars",
]

STRUCTURES = {
    "us": "each with its own variance, all correlated",
    "diag": "each with its own variance, uncorrelated",
    "homdiag": "with one common variance, uncorrelated",
    "cs": "each with its own variance and one common correlation (compound symmetry)",
    "homcs": "with one common variance and one common correlation (compound symmetry)",
    "ar1": "with one common variance and a first-order autoregressive correlation",
    "hetar1": "each with its own variance and a first-order autoregressive correlation",
    "homtoep": "with one common variance and a correlation that depends on the lag (Toeplitz)",
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


def fixed_part(fixed: Terms, with_intercept: bool) -> str:
    """Say on which terms the mean depends, a factor as one."""
    terms = [":".join(fixed.keys[i] for i in places) for places in fixed.terms]
    if not terms:
        return "The mean is a constant." if with_intercept else "The mean is zero."
    shown = terms if len(terms) <= 8 else [*terms[:7], f"{len(terms) - 7} more terms"]
    start = "an intercept, " if with_intercept and len(shown) > 1 else ""
    if with_intercept and len(shown) == 1:
        start = "an intercept and "
    return f"The mean depends on {start}{listed(shown)}."


def compared(references: Sequence[tuple[str, str]]) -> str:
    """Say with which levels the categories are compared."""
    levels = ", ".join(f"{key} {level}" for key, level in references)
    return f"Categories are compared with their reference levels: {levels}."


def event(spec: Specification) -> str | None:
    """Say which of two categories is the event; None where the response has none."""
    levels = None if spec.recipe.reading is None else spec.recipe.reading.levels
    if levels is None or len(levels) != 2:
        return None
    last = int(np.count_nonzero(spec.y))
    return (
        f"The probability is that of {level_text(levels[1])} ({last:,} rows) against "
        f"{level_text(levels[0])} ({spec.n - last:,} rows): of two categories the last is the "
        "event."
    )


def rows_used(rows: Accounting) -> str:
    """How many rows are in the model and why the others are not."""
    if not rows.n_dropped:
        return f"{rows.n_used:,} rows, all used."
    missing = ", ".join(f"{name} ({k:,})" for name, k in rows.missing.items() if k)
    causes = [f"missing in {missing}"] if missing else []
    causes += [f"weight zero ({rows.n_zero_weight:,})"] if rows.n_zero_weight else []
    reason = f": {', '.join(causes)}" if causes else ""
    return f"{rows.n_used:,} of {rows.n_rows:,} rows used; {rows.n_dropped:,} left out{reason}."


def random_term(term: RandomTerm, factor: GroupingFactor, before: str = "") -> str:
    """Say what varies between the levels of which factor."""
    where = f"the {count(len(factor.shown), 'level')} of {factor.name}"
    if term.member is not None:
        effect = (
            "the intercept" if term.member == "(Intercept)" else f"the coefficient of {term.member}"
        )
        return (
            f"{_capital(before + effect)} varies between {where}; a row has those of the levels "
            "that it belongs to, by their weights."
        )
    if over := _over(term):
        shape = STRUCTURES[term.structure]
        start = f"{before}effects of {term.size:,} places of {over}"
        return f"{_capital(start)} vary between {where}, {shape}."
    names = [_coefficient(term, name) for name in term.names[:6]]
    if term.size > 6:
        names = [*names[:5], f"{term.size - 5} more coefficients"]
    verb = "varies" if term.size == 1 else "vary"
    text = f"{_capital(before + listed(names))} {verb} between {where}"
    if term.tie is not None:
        return f"{text}, correlated across these parts by the label {term.tie}."
    if term.kernel is not None:
        return f"{text}, with a known covariance between the levels."
    if term.size == 1:
        return f"{text}."
    shape = STRUCTURES.get(term.structure, f"with the structure {term.structure!r}")
    if term.rank is not None:
        shape = f"{shape} {term.rank}"
    return f"{text}, {shape}."


PROCESSES = frozenset({"ou", "exp", "gau", "mat"})
"""Structures over time or space, which residuals may have as well."""


def _over(term: RandomTerm) -> str:
    """What a process runs over, ``"hours"`` of ``ou(0 + hours | person)``; else nothing."""
    if term.structure not in PROCESSES or term.positions is None:
        return ""
    left = term.label.partition("(")[2].partition("|")[0].strip()
    return left.removeprefix("0 + ").removesuffix(" - 1").removesuffix(" + 0")


def process_beside_residual(term: RandomTerm, group: str) -> str | None:
    """Tell a process among the random effects from the same one as the residual."""
    over = _over(term)
    if not over:
        return None
    return (
        f"Beside the process {term.label} each row has an independent residual; with "
        f'residual="{term.structure}({over} | {group})" the process would be the residual itself.'
    )


def _capital(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


def residual_term(term: ResidualTerm) -> str:
    """Say how the residuals of rows belong together."""
    sentences = []
    if term.parts:
        rows = row_covariance(term)
        kinds = " times ".join(part.words for part in rows.correlations[0])
        where = "all rows"
        if term.group is not None and term.group.columns:
            where = f"the {count(term.group.n_levels, 'level')} of {term.group.name}"
        apart = "" if term.by is None else f", with parameters of its own for each {term.by.name}"
        sentences.append(f"Within {where} the residuals are {kinds}, {term.label}{apart}.")
        if any(scale.parameter == "sd" for scale in term.scales) and term.dispersion is None:
            sentences.append("Each place has a residual standard deviation of its own.")
    if term.dispersion is not None:
        right = term.dispersion.lstrip("~ ")
        sentences.append(f"The logarithm of the residual standard deviation depends on {right}.")
    if term.stated:
        sentences.append(_sequence(term))
    return " ".join(sentences)


def _sequence(term: ResidualTerm) -> str:
    """Say which of a stated sequence of structures was taken, and why not those before."""
    number, many = len(term.reasons) + 1, len(term.stated)
    taken = f"Of the {many} structures stated this is number {number}"
    if not term.reasons:
        return f"{taken}: {', '.join(term.stated)}."
    before = "; ".join(f"{s}: {why}" for s, why in zip(term.stated, term.reasons, strict=False))
    return f"{taken}; passed over were {before}."


def verdict(optimum: Optimum) -> str:
    """Say in one sentence whether an optimum is proved."""
    if not optimum.converged:
        return f"The search did not prove an optimum: {optimum.message}."
    if optimum.monte_carlo is not None:
        words = optimum.monte_carlo.words(optimum.theta)
        return f"{words[0].upper()}{words[1:]}."
    proved = f"The optimum is proved ({optimum.reach})"
    if optimum.flat:
        return f"{proved}, but {'; '.join(d.description for d in optimum.flat)}."
    if not optimum.singular:
        return f"{proved}, and no variance is estimated at zero."
    return f"{proved}; it lies on a boundary of the parameter space."


def without_bars(right: str) -> str:
    """A right side without its random terms, which have sentences of their own."""
    kept, depth, start = [], 0, 0
    for i, sign in enumerate(f"{right}+"):
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth == 0:
            kept.append(right[start:i].strip())
            start = i + 1
    return " + ".join(piece for piece in kept if "|" not in piece)


def _coefficient(term: RandomTerm, name: str) -> str:
    part = term.part_of(name, CONDITIONAL)
    own = term.name_in(part, name)
    text = "the intercept" if own == "(Intercept)" else f"the coefficient of {own}"
    return text if part == CONDITIONAL else f"{text} of the {part} part"


def double_bars(spec: Specification) -> list[str]:
    """What double bars with a factor stand for, one sentence a bar and grouping factor."""
    terms: dict[tuple[int, int], list[RandomTerm]] = {}
    for random, term in zip(spec.recipe.random_recipes, spec.terms, strict=True):
        if random.part is not None:
            terms.setdefault((random.bar, random.factor), []).append(term)
    out = []
    for (number, factor), own in terms.items():
        bar, group = spec.recipe.model.bars[number], spec.factors[factor].name
        joint = " + ".join(f"({term.label})" for term in own)
        apart = " + ".join(f"{'diag' * (term.size > 1)}({term.label})" for term in own)
        out.append(
            f"({bar.text} || {group}) stands for {joint}: the levels of a factor stay "
            f"correlated. {apart} leaves these correlations out."
        )
    return out
