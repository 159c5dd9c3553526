"""How much is explained: R2, intraclass correlations and design effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranef.display.columns import Column, Fixed, Listing
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import number

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
    r2, groups = fit.r2(), fit.icc().groups
    scale = SCALES.get(r2.parts.method, OTHER)
    words = R2_WORDS.format(marginal=number(r2.marginal, 3), conditional=number(r2.conditional, 3))
    parts = [element("p", f"{words}{scale}")]
    return join([*parts, _correlations(groups)] if groups else parts)


def _correlations(groups: Sequence[Any]) -> Markup:
    columns = (
        Column("Group", [g.group for g in groups]),
        Column("ICC", [g.adjusted for g in groups], Fixed(3)),
        Column("ICC, fixed effects counted in", [g.unadjusted for g in groups], Fixed(3)),
        Column("Rows of a level", [g.size for g in groups], Fixed(1)),
        Column("Design effect", [g.design_effect for g in groups], Fixed(2)),
    )
    caption = "Intraclass correlations, and by how much they widen the variance of a mean of rows"
    return table(Listing("icc", columns, caption))
