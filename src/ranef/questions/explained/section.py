"""How much is explained: R2, intraclass correlations and design effects."""

from __future__ import annotations

from typing import Any

from ranef.display.columns import Column, Fixed, Listing
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import number
from ranef.tables import Table

__all__ = ["explained"]

R2_WORDS = (
    "Marginal R² {marginal} is the share of the variance that the fixed effects explain, "
    "conditional R² {conditional} that of fixed and random effects together"
)
SCALES = {
    "residual": ".",
    "latent": "; on the scale of the link, where an observation counts by the variance of its "
    "latent variable.",
}
OTHER = "; on the scale of the link, where an observation counts by its variance at the mean."


def explained(fit: Any) -> Markup:
    """Return R2 in a sentence, and the table of intraclass correlations."""
    return or_why("R² and intraclass correlations", lambda: _explained(fit))


def _explained(fit: Any) -> Markup:
    found, icc = fit.r2(), fit.icc()
    scale = SCALES.get(found.parts.method, OTHER)
    words = R2_WORDS.format(
        marginal=number(found.marginal, 3), conditional=number(found.conditional, 3)
    )
    parts = [element("p", f"{words}{scale}")]
    source = Table.of(icc.tidy())
    if source.n_rows:
        parts.append(_correlations(source))
    return join(parts)


def _correlations(source: Table) -> Markup:
    columns = (
        Column("Group", [str(group) for group in source.values("group")]),
        Column("ICC", source.numeric("adjusted"), Fixed(3)),
        Column("ICC, fixed effects counted in", source.numeric("unadjusted"), Fixed(3)),
        Column("Rows of a level", source.numeric("size"), Fixed(1)),
        Column("Design effect", source.numeric("design_effect"), Fixed(2)),
    )
    caption = "Intraclass correlations, and by how much they widen the variance of a mean of rows"
    return table(Listing("icc", columns, caption))
