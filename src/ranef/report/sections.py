"""The sections of the page: each takes a fit and returns its markup."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef._version import __version__
from ranef.description import mathml, words
from ranef.display import canvas as canvas_
from ranef.display.columns import (
    Column,
    Degrees,
    Fixed,
    Label,
    Listing,
    PValue,
    Significant,
    Sized,
    Style,
    Written,
)
from ranef.display.figures import figure
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import MINUS, count, exact, number, significant, typeset
from ranef.display.reading import Fitted, fixed_table
from ranef.display.words import alt_text
from ranef.models.labels import group_name
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.checks.section import fitness
from ranef.questions.explained.section import explained
from ranef.questions.levels.section import has_ratios, levels, ratios
from ranef.report import answers, coefficients
from ranef.tables import Table
from ranef.tables.accounting import Accounting

__all__ = ["Section", "all_sections", "key_facts"]

Floats = NDArray[np.float64]

SHOWN_MATRIX = 5


@dataclass(frozen=True)
class Section:
    """A part of the page: its name in links, its heading, its content."""

    name: str
    heading: str
    content: Markup


def all_sections(
    fit: Fitted, conf_level: float, call: str | None, df: str | None = None
) -> list[Section]:
    """Return the page's sections in order."""
    estimate: Estimate = fit.estimate
    found = [
        Section("model", "Model", _model(estimate)),
        Section("data", "Data", _data(estimate)),
        Section("fixed", "Fixed effects", _fixed(fit, conf_level, df)),
    ]
    named = answers.categories(fit)
    if named:
        found.append(Section("means", "Marginal means", answers.means(fit, named, conf_level, df)))
    if answers.has_slopes(fit):
        found.append(Section("predictions", "Predictions", answers.predictions(fit, conf_level)))
    found += [
        Section("variance", "Variance components", _variance(fit, conf_level)),
        Section("random", "Random effects", levels(fit, conf_level)),
    ]
    if has_ratios(fit):
        found.append(Section("ratios", "Standardised ratios", ratios(fit, conf_level)))
    found.append(Section("check", "Does the model fit?", fitness(fit)))
    if answers.has_profile(fit):
        profile = answers.profile(fit, conf_level)
        found.append(Section("profile", "Profile of the likelihood", profile))
    return [
        *found,
        Section("optimum", "Certificate of the optimum", _optimum(estimate)),
        Section("reproduce", "How to reproduce", _reproduce(fit, conf_level, call, df)),
    ]


def key_facts(estimate: Estimate) -> Markup:
    """Return what a reader asks first."""
    spec = estimate.specification
    facts = [("Rows used", f"{spec.n:,}")]
    facts += [(f"Levels of {f.name}", f"{f.n_levels:,}") for f in estimate.factors]
    last = ("Family", f"{estimate.family.name}, {estimate.family.link}")
    if estimate.sigma is not None:
        last = ("Residual SD", typeset(significant(estimate.sigma)))
    facts += [
        ("Fitted by", words.criterion(estimate)),
        ("Log-likelihood", typeset(number(estimate.loglik, 3))),
        last,
        ("Optimum", "proved" if estimate.optimum.converged else "not proved"),
    ]
    return element("dl", *(_fact(name, value) for name, value in facts), class_="facts")


def _fact(name: str, value: str) -> Markup:
    return element("div", element("dt", name), element("dd", value))


def _model(estimate: Estimate) -> Markup:
    factors = estimate.factors
    varying = [
        element("li", words.random_term(term, factors[term.factor], words.place(estimate, t)))
        for t, term in enumerate(estimate.terms)
    ]
    parts = [element("p", words.model(estimate)), element("ul", *varying)]
    if isinstance(estimate, GeneralisedEstimate):
        parts += [
            element("pre", element("code", f"{name}: {part.formula}"))
            if name != "conditional"
            else element("pre", element("code", part.formula))
            for name, part in estimate.parts.items()
        ]
        lines = [element("li", line) for line in words.reading(estimate)]
        return join([*parts, element("ul", *lines)])
    parts.append(element("pre", element("code", estimate.specification.formula)))
    return join([*parts, element("div", mathml.equation(estimate), class_="equation")])


def _data(estimate: Estimate) -> Markup:
    spec = estimate.specification
    rows = spec.accounting
    parts = [
        element(
            "p",
            f"The table has {count(rows.n_rows, 'row')}; {rows.n_used:,} are in "
            f"the model and {_left_out(rows)}",
        )
    ]
    if rows.missing:
        columns = (
            Column("Column", list(rows.missing)),
            Column("Rows missing", list(rows.missing.values()), Fixed(0)),
        )
        parts.append(table(Listing("missing", columns, "Rows with a missing value, by column")))
    parts.append(_groups(estimate))
    if spec.dropped_columns:
        parts.append(
            element(
                "p",
                "Redundant columns of the fixed effects, left out because others determine them: ",
                join([element("code", name) for name in spec.dropped_columns], ", "),
                ".",
            )
        )
    return join(parts)


def _left_out(rows: Accounting) -> str:
    if rows.n_dropped == 0:
        return "none is left out."
    verb = "is" if rows.n_dropped == 1 else "are"
    zero = rows.n_zero_weight
    reason = f", {zero:,} of them because the weight is zero" if zero else ""
    return f"{rows.n_dropped:,} {verb} left out{reason}."


def _groups(estimate: Estimate) -> Markup:
    factors = estimate.factors
    sizes = [np.bincount(f.codes, minlength=f.n_levels) for f in factors]
    columns = (
        Column("Factor", [f.name for f in factors]),
        Column("Levels", [f.n_levels for f in factors], Fixed(0)),
        Column("Fewest rows", [s.min() for s in sizes], Fixed(0)),
        Column("Median", [float(np.median(s)) for s in sizes], Written(_half)),
        Column("Most rows", [s.max() for s in sizes], Fixed(0)),
    )
    return table(Listing("groups", columns, "Grouping factors and their rows per level"))


def _half(median: float) -> str:
    """Write the median of whole numbers."""
    return number(median, 0 if median.is_integer() else 1)


def _fixed(fit: Fitted, conf_level: float, df: str | None) -> Markup:
    source = Table.of(fixed_table(fit, conf_level, df))
    if not source.n_rows:
        return element("p", "The model has no fixed effects.")
    level = canvas_.percent(conf_level)
    estimate: Estimate = fit.estimate
    tables = [
        _coefficients(source, rows, caption, word, level)
        for caption, word, rows in words.coefficient_tables(estimate, source, level)
    ]
    picture = figure(
        lambda canvas: coefficients.fixed(fit, conf_level=conf_level, df=df, figure=canvas),
        name="fixed",
        alt=alt_text(fit, "fixed", conf_level=conf_level, df=df),
        caption=f"Fixed effects with {level} confidence intervals. The dashed line marks zero.",
    )
    return join([tables[0], picture, *tables[1:]])


def _coefficients(
    source: Table, rows: Sequence[int], caption: str, word: str | None, level: str
) -> Markup:
    """Return the table of one component's coefficients; `word` names their exponentials."""
    kept = list(rows)
    sized = Sized(source.numeric("std_error")[kept])

    def column(name: str, heading: str, style: Style) -> Column:
        return Column(name, source.numeric(name)[kept], style, heading)

    student = bool(np.isfinite(source.numeric("df")[kept]).any())
    columns = [
        Column("term", [str(source.values("term")[i]) for i in kept], Label(), "Coefficient"),
        column("estimate", "Estimate", sized),
        column("std_error", "Standard error", sized),
        column("conf_low", f"{level} low", sized),
        column("conf_high", f"{level} high", sized),
        *([column("df", "df", Degrees())] if student else []),
        column("statistic", "t" if student else "z", Fixed(2)),
        column("p_value", "p", PValue()),
        *([] if word is None else _ratios(source, kept, word, level)),
    ]
    return table(Listing("coefficients", tuple(columns), caption))


def _ratios(source: Table, kept: list[int], word: str, level: str) -> list[Column]:
    """Return the exponentials of the coefficients and their intervals; none of intercepts."""
    terms = source.values("term")
    heads = {
        "estimate": word.capitalize(),
        "conf_low": f"{level} low",
        "conf_high": f"{level} high",
    }
    found = []
    for name, head in heads.items():
        with np.errstate(over="ignore"):
            values = np.exp(source.numeric(name)[kept])
        shown = [
            None if terms[i] == "(Intercept)" else value
            for i, value in zip(kept, values, strict=True)
        ]
        found.append(Column(name, shown, Significant(3), head))
    return found


def _variance(fit: Fitted, conf_level: float) -> Markup:
    estimate: Estimate = fit.estimate
    parts = [_deviations(fit, conf_level)]
    for index, psi in enumerate(estimate.covariances):
        if len(psi) > 1:
            parts.append(_correlations(estimate, index))
        if 1 < len(psi) <= SHOWN_MATRIX:
            matrix = mathml.covariance_matrix(estimate, index)
            parts.append(element("div", matrix, class_="equation"))
    return join([*parts, _further(fit, conf_level), explained(fit)])


def _deviations(fit: Fitted, conf_level: float) -> Markup:
    """Return the table of standard deviations, with intervals where the fit has them."""
    source = Table.of(fit.tidy("variance", conf_level=conf_level))
    kept = [i for i, kind in enumerate(source.values("parameter")) if kind == "sd"]
    groups, terms = words.group_names(source), source.values("term")
    sd = source.numeric("estimate")[kept]
    low, high = (source.numeric(c)[kept] for c in ("conf_low", "conf_high"))
    columns = [
        Column("Group", [groups[i] for i in kept]),
        Column("Coefficient", [_named(terms[i]) for i in kept]),
        Column("Standard deviation", sd, Significant()),
        Column("Variance", sd**2, Significant()),
    ]
    if np.isfinite(low).any() or np.isfinite(high).any():
        level = canvas_.percent(conf_level)
        columns.append(Column(f"{level} low", low, Significant()))
        columns.append(Column(f"{level} high", high, Significant()))
    caption = "Standard deviations of the random effects"
    caption += (
        " on the scale of the link" if fit.estimate.sigma is None else " and of the residuals"
    )
    return table(Listing("deviations", tuple(columns), caption))


def _further(fit: Fitted, conf_level: float) -> Markup:
    """Return the parameters that are neither deviations nor correlations: rates, ranges."""
    source = Table.of(fit.tidy("variance", conf_level=conf_level))
    kinds = [str(kind) for kind in source.values("parameter")]
    kept = [i for i, kind in enumerate(kinds) if kind not in ("sd", "corr")]
    if not kept:
        return Markup("")
    groups = words.group_names(source)
    columns = (
        Column("Group", [groups[i] for i in kept]),
        Column("Parameter", [kinds[i] for i in kept]),
        Column("Estimate", source.numeric("estimate")[kept], Significant()),
    )
    return table(Listing("further", columns, "Further parameters of the covariance structures"))


def _named(term: Any) -> str:
    missing = term is None or term != term
    return "" if missing else str(term)


def _correlations(estimate: Estimate, index: int) -> Markup:
    """Return the lower triangle of one term's correlations."""
    psi, term = mathml.covariance_of(estimate, index), estimate.terms[index]
    sd = np.sqrt(np.diag(psi))
    columns = [Column("Coefficient", term.names[1:])]
    for j, name in enumerate(term.names[:-1]):
        cells = [None if i <= j else _correlation(psi, sd, i, j) for i in range(1, term.size)]
        columns.append(Column(name, cells, Fixed(3)))
    caption = f"Correlations between the effects of {group_name(estimate, index)}"
    return table(Listing("correlations", tuple(columns), caption))


def _correlation(psi: Floats, sd: Floats, i: int, j: int) -> float:
    return float(psi[i, j] / (sd[i] * sd[j])) if sd[i] * sd[j] > 0.0 else float("nan")


def _optimum(estimate: Estimate) -> Markup:
    found = estimate.optimum
    name = "REML criterion" if estimate.reml else "Deviance"
    if isinstance(estimate, GeneralisedEstimate) and estimate.priors:
        name = "Penalised deviance"
    rows = [
        (f"{name} ({MINUS}2 log-likelihood)", typeset(exact(found.criterion))),
        ("Largest entry of the gradient", _tiny(words.gradient_norm(estimate))),
        ("Newton decrement (what one more step would gain)", _tiny(found.decrement)),
        ("Tolerance for the decrement", _tiny(found.tolerance)),
        ("Evaluations", f"{found.evaluations:,}"),
        ("Restarts", f"{found.restarts:,}"),
        ("Path of the solver", found.path),
        (f"{_theta_name(estimate)} (theta)", _theta(found.theta)),
    ]
    status = "proved" if found.converged else "unproved"
    parts = [element("p", words.verdict(estimate), class_=f"verdict {status}")]
    boundaries = [element("li", line) for line in words.faces(estimate)]
    if boundaries:
        parts.append(element("ul", *boundaries))
    parts.append(_pairs("What the search found", rows))
    return join(parts)


def _theta_name(estimate: Estimate) -> str:
    generalised = isinstance(estimate, GeneralisedEstimate)
    return "Covariance parameters" if generalised else "Relative covariance parameters"


def _tiny(value: float) -> str:
    return "0" if value == 0.0 else typeset(f"{value:.2e}")


def _theta(theta: Floats) -> str:
    shown = ", ".join(typeset(number(float(value), 5)) for value in theta[:12])
    return shown if len(theta) <= 12 else f"{shown}, … ({len(theta)} in all)"


def _pairs(caption: str, rows: Sequence[tuple[str, str]]) -> Markup:
    names, values = zip(*rows, strict=True)
    return table(Listing("facts", (Column("Quantity", names), Column("Value", values)), caption))


def _arguments(estimate: Estimate) -> list[str]:
    """Return the arguments of the call that makes this fit, given the table `data`."""
    spec = estimate.specification
    recipe = spec.recipe
    written = [repr(spec.formula), "data"]
    if isinstance(estimate, GeneralisedEstimate):
        written += words.generalised_arguments(estimate)
    elif not estimate.reml:
        written.append("reml=False")
    if spec.weights is not None:
        name = recipe.weights_column
        written.append("weights=weights" if name is None else f"weights={name!r}")
    if recipe.offset_given:
        written.append("offset=offset")
    elif recipe.offset_column is not None:
        written.append(f"offset={recipe.offset_column!r}")
    return written


def _reproduce(fit: Any, conf_level: float, call: str | None, df: str | None) -> Markup:
    import scipy

    estimate: Estimate = fit.estimate
    function = "glmm" if isinstance(estimate, GeneralisedEstimate) else "lmm"
    code = f"import ranef\n\nfit = ranef.{function}({', '.join(_arguments(estimate))})"
    parts = [element("pre", element("code", code))]
    if call is not None:
        parts.append(element("p", "This report was made by the command"))
        parts.append(element("pre", element("code", call)))
    parts += [
        element("p", "In the methods section of a paper:"),
        element("blockquote", fit.methods(conf_level=conf_level, df=df)),
    ]
    versions = [
        ("ranef", __version__),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("SciPy", scipy.__version__),
    ]
    parts.append(_pairs("Versions", versions))
    return join(parts)
