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
from ranef.display.figures import figure
from ranef.display.markup import Column, Markup, element, join, table
from ranef.display.numbers import MINUS, align, count, decimals, exact, number, p_value, significant
from ranef.display.reading import Fitted, fixed_table, is_generalised
from ranef.display.words import alt_text
from ranef.models.labels import Levels, factors_of, group_name, terms_of
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
        Section("model", "Model", _model(estimate, getattr(fit, "levels", None))),
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
    facts = [("Rows used", number(spec.n, 0))]
    facts += [(f"Levels of {f.name}", number(f.n_levels, 0)) for f in factors_of(estimate)]
    if isinstance(estimate, GeneralisedEstimate):
        last = ("Family", f"{estimate.family.name}, {estimate.family.link}")
    else:
        last = ("Residual SD", significant(estimate.sigma))
    facts += [
        ("Fitted by", words.criterion(estimate)),
        ("Log-likelihood", number(estimate.loglik, 3)),
        last,
        ("Optimum", "proved" if estimate.optimum.converged else "not proved"),
    ]
    return element("dl", *(_fact(name, value) for name, value in facts), class_="facts")


def _fact(name: str, value: str) -> Markup:
    return element("div", element("dt", name), element("dd", value))


def _model(estimate: Estimate, levels: Levels) -> Markup:
    factors = factors_of(estimate)
    varying = [
        element(
            "li", words.random_term(term, factors[term.factor], words.place(estimate, t, levels))
        )
        for t, term in enumerate(terms_of(estimate))
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
            f"The table has {count(rows.n_rows, 'row')}; {number(rows.n_used, 0)} are in "
            f"the model and {_left_out(rows)}",
        )
    ]
    if rows.missing:
        names, missing = list(rows.missing), [number(k, 0) for k in rows.missing.values()]
        parts.append(
            table(
                "Rows with a missing value, by column",
                Column("Column", names),
                [Column("Rows missing", missing)],
            )
        )
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
    reason = f", {number(zero, 0)} of them because the weight is zero" if zero else ""
    return f"{number(rows.n_dropped, 0)} {verb} left out{reason}."


def _groups(estimate: Estimate) -> Markup:
    factors = factors_of(estimate)
    sizes = [np.bincount(f.codes, minlength=f.n_levels) for f in factors]
    return table(
        "Grouping factors and their rows per level",
        Column("Factor", [f.name for f in factors]),
        [
            Column("Levels", [number(f.n_levels, 0) for f in factors]),
            Column("Fewest rows", [number(int(s.min()), 0) for s in sizes]),
            Column("Median", align([_half(s) for s in sizes])),
            Column("Most rows", [number(int(s.max()), 0) for s in sizes]),
        ],
    )


def _half(sizes: NDArray[np.intp]) -> str:
    """Return the median of whole numbers."""
    median = float(np.median(sizes))
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
    places = [decimals(se) for se in source.numeric("std_error")[kept]]

    def written(column: str) -> list[str]:
        pairs = zip(source.numeric(column)[kept], places, strict=True)
        return align([number(value, place) for value, place in pairs])

    columns = [
        Column("Estimate", written("estimate")),
        Column("Standard error", written("std_error")),
        Column(f"{level} low", written("conf_low")),
        Column(f"{level} high", written("conf_high")),
    ]
    df = source.numeric("df")[kept]
    if np.isfinite(df).any():
        columns.append(Column("df", align([_degrees(value) for value in df])))
    statistic = source.numeric("statistic")[kept]
    columns += [
        Column("t" if np.isfinite(df).any() else "z", align([number(v, 2) for v in statistic])),
        Column("p", align([p_value(value) for value in source.numeric("p_value")[kept]])),
    ]
    if word is not None:
        columns += _ratios(source, kept, word, level)
    names = [str(source.values("term")[i]) for i in kept]
    return table(caption, Column("Coefficient", names), columns)


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
            "" if terms[i] == "(Intercept)" else significant(float(value), 3)
            for i, value in zip(kept, values, strict=True)
        ]
        found.append(Column(head, align(shown)))
    return found


def _degrees(value: float) -> str:
    return number(value, 1 if value < 1000 else 0)


def _variance(fit: Fitted, conf_level: float) -> Markup:
    estimate: Estimate = fit.estimate
    parts = [_deviations(fit, conf_level)]
    if isinstance(estimate, GeneralisedEstimate):
        covariances = estimate.term_covariances
    else:
        covariances = estimate.covariances
    for index, psi in enumerate(covariances):
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
        Column("Coefficient", [_named(terms[i]) for i in kept], numeric=False),
        Column("Standard deviation", _digits(sd)),
        Column("Variance", _digits(sd**2)),
    ]
    if np.isfinite(low).any() or np.isfinite(high).any():
        level = canvas_.percent(conf_level)
        columns += [Column(f"{level} low", _digits(low)), Column(f"{level} high", _digits(high))]
    caption = "Standard deviations of the random effects"
    caption += " on the scale of the link" if is_generalised(fit) else " and of the residuals"
    return table(caption, Column("Group", [str(groups[i]) for i in kept]), columns)


def _further(fit: Fitted, conf_level: float) -> Markup:
    """Return the parameters that are neither deviations nor correlations: rates, ranges."""
    source = Table.of(fit.tidy("variance", conf_level=conf_level))
    kinds = [str(kind) for kind in source.values("parameter")]
    kept = [i for i, kind in enumerate(kinds) if kind not in ("sd", "corr")]
    if not kept:
        return Markup("")
    groups = words.group_names(source)
    columns = [
        Column("Parameter", [kinds[i] for i in kept], numeric=False),
        Column("Estimate", _digits(source.numeric("estimate")[kept])),
    ]
    names = Column("Group", [str(groups[i]) for i in kept])
    return table("Further parameters of the covariance structures", names, columns)


def _digits(values: Floats) -> list[str]:
    return align([significant(value) for value in values])


def _named(term: Any) -> str:
    missing = term is None or term != term
    return "" if missing else str(term)


def _correlations(estimate: Estimate, index: int) -> Markup:
    """Return the lower triangle of one term's correlations."""
    psi, term = mathml.covariance_of(estimate, index), terms_of(estimate)[index]
    sd = np.sqrt(np.diag(psi))
    columns = []
    for j, name in enumerate(term.names[:-1]):
        cells = ["" if i <= j else _correlation(psi, sd, i, j) for i in range(1, term.size)]
        columns.append(Column(name, cells))
    caption = f"Correlations between the effects of {group_name(estimate, index)}"
    return table(caption, Column("Coefficient", term.names[1:]), columns)


def _correlation(psi: Floats, sd: Floats, i: int, j: int) -> str:
    if sd[i] == 0.0 or sd[j] == 0.0:
        return number(float("nan"), 3)
    return number(float(psi[i, j] / (sd[i] * sd[j])), 3)


def _optimum(estimate: Estimate) -> Markup:
    found = estimate.optimum
    name = "REML criterion" if estimate.reml else "Deviance"
    if isinstance(estimate, GeneralisedEstimate) and estimate.priors:
        name = "Penalised deviance"
    rows = [
        (f"{name} ({MINUS}2 log-likelihood)", exact(found.criterion)),
        ("Largest entry of the gradient", _tiny(words.gradient_norm(estimate))),
        ("Newton decrement (what one more step would gain)", _tiny(found.decrement)),
        ("Tolerance for the decrement", _tiny(found.tolerance)),
        ("Evaluations", number(found.evaluations, 0)),
        ("Restarts", number(found.restarts, 0)),
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
    return "0" if value == 0.0 else number(float(f"{value:.2e}"), 99)


def _theta(theta: Floats) -> str:
    shown = ", ".join(number(float(value), 5) for value in theta[:12])
    return shown if len(theta) <= 12 else f"{shown}, … ({len(theta)} in all)"


def _pairs(caption: str, rows: Sequence[tuple[str, str]]) -> Markup:
    names, values = [row[0] for row in rows], [row[1] for row in rows]
    return table(caption, Column("Quantity", names), [Column("Value", values, numeric=False)])


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
