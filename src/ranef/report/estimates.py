"""The estimates: fixed effects, variances, how much they explain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.description.equation import covariance_matrix
from ranef.description.model import Block
from ranef.display.columns import (
    Column,
    Degrees,
    Fixed,
    Listing,
    PValue,
    Significant,
    Sized,
)
from ranef.display.figures import figure
from ranef.display.markup import Markup, element, join, table, wide_equation
from ranef.fits.fit import Fit
from ranef.fits.mixed import MixedFit
from ranef.inference.coefficients.wald import Intervals
from ranef.models.labels import group_name
from ranef.models.records import Estimate
from ranef.questions.explained.section import explained
from ranef.questions.intervals import coefficients_picture
from ranef.report.section import Options
from ranef.tables import Table

__all__ = ["fixed", "variance"]

Floats = NDArray[np.float64]

SHOWN_MATRIX = 5


def fixed(fit: Fit, how: Options) -> Markup:
    """Return the coefficients of each component, and the picture of those of the mean."""
    blocks = fit.description.blocks()
    if not blocks:
        return element("p", "The model has no fixed effects.")
    intervals = fit.hypotheses(None, how.conf_level, how.df)
    tables = [_coefficients(block, intervals, how.level) for block in blocks]
    picture = figure(
        lambda canvas: coefficients_picture.fixed(
            fit, conf_level=how.conf_level, df=how.df, figure=canvas
        ),
        name="fixed",
        alt=coefficients_picture.fixed_text(fit, conf_level=how.conf_level, df=how.df),
        caption=f"Fixed effects with {how.level} confidence intervals. The dashed line marks zero.",
    )
    return join([tables[0], picture, *tables[1:]])


def _coefficients(block: Block, intervals: Intervals, level: str) -> Markup:
    """Return the table of one component's coefficients, and their exponentials."""
    values = {name: column[block.coefficients] for name, column in vars(intervals).items()}
    sized = Sized(values["std_error"])
    student = bool(np.isfinite(values["df"]).any())
    ends = ("estimate", f"{level} low", f"{level} high")
    columns = [
        Column("Coefficient", block.labels),
        Column("Estimate", values["estimate"], sized),
        Column("Standard error", values["std_error"], sized),
        Column(ends[1], values["conf_low"], sized),
        Column(ends[2], values["conf_high"], sized),
        *([Column("df", values["df"], Degrees())] if student else []),
        Column("t" if student else "z", values["statistic"], Fixed(2)),
        Column("p", values["p_value"], PValue()),
    ]
    if block.ratio is not None:
        heads = (block.ratio.capitalize(), *ends[1:])
        for name, head in zip(("estimate", "conf_low", "conf_high"), heads, strict=True):
            columns.append(Column(head, block.ratios(values[name]), Significant(3)))
    caption = f"{block.title}, with {level} confidence intervals"
    return table(Listing("coefficients", tuple(columns), caption))


def variance(fit: MixedFit, how: Options) -> Markup:
    """Return standard deviations, correlations and what they explain."""
    estimate = fit.estimate
    source = Table.of(fit.tidy("variance", conf_level=how.conf_level))
    parts = [_deviations(source, estimate, how.level)]
    for index, psi in enumerate(estimate.covariances):
        if estimate.terms[index].member is not None:
            continue
        if len(psi) > 1:
            parts.append(_correlations(estimate, index))
        if 1 < len(psi) <= SHOWN_MATRIX:
            matrix = covariance_matrix(psi, index)
            parts.append(wide_equation(matrix, "Covariance matrix of the random effects"))
    return join([*parts, _further(source), explained(fit)])


def _deviations(source: Table, estimate: Estimate, level: str) -> Markup:
    """Return the table of standard deviations, with intervals where the fit has them."""
    kept = [i for i, kind in enumerate(source.values("parameter")) if kind == "sd"]
    groups, terms = _places(source), source.values("term")
    sd = source.numeric("estimate")[kept]
    low, high = (source.numeric(c)[kept] for c in ("conf_low", "conf_high"))
    columns = [
        Column("Group", [groups[i] for i in kept]),
        Column("Coefficient", [_named(terms[i]) for i in kept]),
        Column("Standard deviation", sd, Significant()),
        Column("Variance", sd**2, Significant()),
    ]
    if np.isfinite(low).any() or np.isfinite(high).any():
        columns.append(Column(f"{level} low", low, Significant()))
        columns.append(Column(f"{level} high", high, Significant()))
    of = " on the scale of the link" if estimate.sigma is None else " and of the residuals"
    caption = f"Standard deviations of the random effects{of}"
    return table(Listing("deviations", tuple(columns), caption))


def _further(source: Table) -> Markup:
    """Return the parameters that are neither deviations nor correlations: rates, ranges."""
    kinds = [str(kind) for kind in source.values("parameter")]
    kept = [i for i, kind in enumerate(kinds) if kind not in ("sd", "corr")]
    if not kept:
        return Markup("")
    groups = _places(source)
    columns = (
        Column("Group", [groups[i] for i in kept]),
        Column("Parameter", [kinds[i] for i in kept]),
        Column("Estimate", source.numeric("estimate")[kept], Significant()),
    )
    return table(Listing("further", columns, "Further parameters of the covariance structures"))


def _places(source: Table) -> list[str]:
    """Grouping factors of a table of variances, with the part where that is not the mean."""
    parts = [
        "" if str(c) in ("conditional", "residual") else str(c) for c in source.values("component")
    ]
    if "response" in source.columns:
        parts = [
            part if r is None or r != r else str(r)
            for part, r in zip(parts, source.values("response"), strict=True)
        ]
    return [
        f"{group} ({part})" if part else str(group)
        for group, part in zip(source.values("group"), parts, strict=True)
    ]


def _named(term: Any) -> str:
    return "" if term is None or term != term else str(term)


def _correlations(estimate: Estimate, index: int) -> Markup:
    """Return the lower triangle of one term's correlations."""
    psi, term = estimate.covariances[index], estimate.terms[index]
    sd = np.sqrt(np.diag(psi))
    columns = [Column("Coefficient", term.names[1:])]
    for j, name in enumerate(term.names[:-1]):
        cells = [None if i <= j else _correlation(psi, sd, i, j) for i in range(1, term.size)]
        columns.append(Column(name, cells, Fixed(3)))
    caption = f"Correlations between the effects of {group_name(estimate, index)}"
    return table(Listing("correlations", tuple(columns), caption))


def _correlation(psi: Floats, sd: Floats, i: int, j: int) -> float:
    return float(psi[i, j] / (sd[i] * sd[j])) if sd[i] * sd[j] > 0.0 else float("nan")
