"""The answer a person reads first: estimates, spread, rows, and how sure the optimum is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.design.specification import Specification
from ranef.design.state import Coding
from ranef.design.terms import GroupingFactor
from ranef.display.answer import Summary
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.inference.coefficients.degrees import METHODS
from ranef.inference.coefficients.variance import VarianceParameter, intraclass_correlations
from ranef.inference.coefficients.wald import Intervals
from ranef.models.labels import category, group_name
from ranef.models.records import CONDITIONAL, Estimate
from ranef.solve.optimum import Face, Optimum
from ranef.tables.accounting import Accounting

__all__ = [
    "accounting_line",
    "information_line",
    "linear_summary",
    "optimum_line",
    "reference_levels",
    "rows_used",
    "variance_shares",
    "variance_table",
]


def linear_summary(
    estimate: Estimate,
    fixed: Intervals,
    variance: Sequence[VarianceParameter],
    conf_level: float,
    df: str,
) -> Summary:
    """Summarise a linear mixed model."""
    spec = estimate.specification
    criterion = "REML" if estimate.reml else "ML"
    parts: tuple[Paragraph | TextTable, ...] = (
        Paragraph(_rows(spec)),
        _fixed_table(spec, fixed, conf_level, df),
        *_reading(spec),
        variance_table(estimate, variance, conf_level),
        *variance_shares(estimate),
        Paragraph((information_line(estimate), optimum_line(estimate))),
    )
    return Summary(Page(f"Linear mixed model by {criterion}: {spec.formula}", parts))


def _rows(spec: Specification) -> tuple[str, ...]:
    """Rows used and dropped, groups, weights, redundant columns."""
    lines = list(rows_used(spec, spec.factors))
    if spec.weights is not None:
        lines.insert(2, "Precision weights: the residual variance of a row is sigma^2 / weight.")
    return tuple(lines)


def rows_used(spec: Specification, factors: Sequence[GroupingFactor]) -> tuple[str, ...]:
    """Rows used and dropped, groups, redundant columns."""
    groups = ", ".join(f"{f.n_levels:,} levels of {f.name}" for f in factors)
    lines = [accounting_line(spec.accounting), f"Groups: {groups}."]
    if spec.dropped_columns:
        names = ", ".join(spec.dropped_columns)
        lines.append(f"Left out, because other columns determine them: {names}.")
    return tuple(lines)


def accounting_line(rows: Accounting) -> str:
    """How many rows are in the model and why the others are not."""
    if not rows.n_dropped:
        return f"{rows.n_used:,} rows, all used."
    missing = ", ".join(f"{name} ({count:,})" for name, count in rows.missing.items() if count)
    causes = [f"missing in {missing}"] if missing else []
    causes += [f"weight zero ({rows.n_zero_weight:,})"] if rows.n_zero_weight else []
    reason = f": {', '.join(causes)}" if causes else ""
    return f"{rows.n_used:,} of {rows.n_rows:,} rows used; {rows.n_dropped:,} left out{reason}."


def _fixed_table(spec: Specification, found: Intervals, conf_level: float, df: str) -> TextTable:
    percent = f"{100 * conf_level:g}%"
    header = ("", "estimate", "std_error", "df", "t", "p", f"{percent} low", f"{percent} high")
    rows = tuple(_fixed_row(name, found, j) for j, name in enumerate(spec.names))
    return TextTable(f"Fixed effects ({METHODS[df].words})", header, rows)


def _fixed_row(name: str, found: Intervals, j: int) -> tuple[str, ...]:
    places = decimals(float(found.std_error[j]))
    df = float(found.df[j])
    return (
        name,
        number(float(found.estimate[j]), places),
        number(float(found.std_error[j]), places),
        number(df, 1 if df < 1000 else 0),
        number(float(found.statistic[j]), 2),
        p_value(float(found.p_value[j])),
        number(float(found.conf_low[j]), places),
        number(float(found.conf_high[j]), places),
    )


def _reading(spec: Specification) -> tuple[Paragraph, ...]:
    """Which question a coefficient answers."""
    slopes = [name for name in spec.names if name != "(Intercept)"]
    if not slopes:
        return ()
    group = " and ".join(dict.fromkeys(f.name for f in spec.factors))
    lines = [
        f"A coefficient is the difference in expected {spec.response} per unit of its column, with "
        f"the other columns held constant. It applies to a typical {group} and, since the model is "
        "linear, also on average over all of them."
    ]
    references = reference_levels(spec)
    if references:
        lines.append(f"Categories are compared with their reference levels: {references}.")
    if any(":" in name for name in slopes):
        lines.append(
            "The coefficient of a column that is also part of an interaction holds where the other "
            "column of the interaction is 0."
        )
    return (Paragraph(tuple(lines)),)


def reference_levels(spec: Specification) -> str:
    """``"Type T1"`` for each category under treatment contrasts."""
    found = []
    if "(Intercept)" in spec.names:
        for key in spec.recipe.model.fixed.keys:
            coding = spec.recipe.state.get(f"levels of {key}")
            if isinstance(coding, Coding) and coding.base >= 0:
                found.append(f"{key} {coding.levels[coding.base]}")
    return ", ".join(found)


def variance_table(
    estimate: Estimate,
    found: Sequence[VarianceParameter],
    conf_level: float,
) -> TextTable:
    """Standard deviations of all random terms."""
    percent = f"{100 * conf_level:g}%"
    header = ("group", "term", "sd", f"{percent} low", f"{percent} high", "correlation with")
    rows = []
    last: tuple[str, int | None] | None = None
    for v in found:
        if _is_pair(v):
            continue
        group = _place(estimate, v)
        shown = group if (group, v.term) != last else ""
        last = (group, v.term)
        places = decimals(v.estimate, 4)
        values = (number(x, places) for x in (v.estimate, v.conf_low, v.conf_high))
        rows.append((shown, _parameter_name(v), *values, _partners(v, found)))
    caption = "Random effects (Wald intervals on the log scale)"
    return TextTable(caption, header, tuple(rows), 2)


def _place(estimate: Estimate, v: VarianceParameter) -> str:
    """Grouping factor of a term, and the component where that is not the mean."""
    group, response = group_name(estimate, v.term), category(v.response, estimate.levels)
    remarks = [] if v.component == CONDITIONAL else [v.component]
    remarks += [] if response is None else [response]
    return f"{group} ({', '.join(remarks)})" if remarks else group


def _is_pair(v: VarianceParameter) -> bool:
    """Tell whether it is the correlation of two columns, shown beside the second one's sd."""
    return v.kind == "corr" and v.name2 is not None and not v.name2.startswith("lag ")


def _parameter_name(v: VarianceParameter) -> str:
    """Column of an sd; of another parameter also its kind."""
    if v.kind == "sd":
        return v.name or ""
    return " ".join(part for part in (v.kind, v.name2 or v.name) if part)


def _partners(own: VarianceParameter, found: Sequence[VarianceParameter]) -> str:
    """Correlations of a coefficient with those before it."""
    pairs = [
        f"{v.name} {number(v.estimate, 2)}"
        for v in found
        if own.kind == "sd" and _is_pair(v) and v.term == own.term and v.name2 == own.name
        and not np.isnan(v.estimate)
    ]  # fmt: skip
    return ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")


def variance_shares(estimate: Estimate) -> tuple[Paragraph, ...]:
    """The intraclass correlations, where they are one number a term."""
    shares = intraclass_correlations(estimate)
    if shares is None:
        return ()
    named = [f"{group_name(estimate, t)} {number(share, 3)}" for t, share in enumerate(shares)]
    latent = " on the latent scale of the link" if estimate.sigma is None else ""
    return (Paragraph((f"Share of the variance{latent} (ICC): {', '.join(named)}.",)),)


def information_line(estimate: Estimate) -> str:
    """Log-likelihood, parameters, AIC and BIC."""
    criterion = "REML" if estimate.reml else "ML"
    n, df = estimate.specification.n, estimate.n_parameters
    aic, bic = estimate.deviance + 2 * df, estimate.deviance + np.log(n) * df
    return (
        f"{criterion} log-likelihood {estimate.loglik:.3f} on {df} parameters; "
        f"AIC {aic:.2f}, BIC {bic:.2f} (n = {n:,} rows)."
    )


def optimum_line(estimate: Estimate) -> str:
    """One line on the optimum: proved or not, and the faces it lies on."""
    optimum = estimate.optimum
    if not optimum.converged:
        return f"Optimum not proved: {optimum.message or _distance(optimum)}."
    if not optimum.singular:
        return f"Optimum proved; no {_which_variance(estimate)} at zero."
    faces = "; ".join(_face(face, estimate) for face in optimum.faces)
    return f"Optimum proved, on the boundary: {faces}."


def _which_variance(estimate: Estimate) -> str:
    """Say of which variances: one that is held may be zero."""
    held = estimate.fixed.items()
    zero = any(name.strip().startswith("sd") and value == 0 for name, value in held)
    return "estimated variance" if zero else "variance"


def _distance(optimum: Optimum) -> str:
    return (
        f"a further step would lower the deviance by {optimum.decrement:.2g}, "
        f"more than {optimum.tolerance:.2g}"
    )


def _face(face: Face, estimate: Estimate) -> str:
    group = group_name(estimate, face.term)
    return f"{face.description} ({group}: rank {face.rank} of {face.size})"
