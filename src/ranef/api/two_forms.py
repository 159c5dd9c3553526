"""`within_between` of a fit, or of a formula whose predictors it takes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranef.api.fitting import glmm, lmm
from ranef.design.decomposition import decompose, grouping_node
from ranef.design.functions import FUNCTIONS
from ranef.design.group_functions import Groups, grouping
from ranef.design.text_numbers import refuse_text_column
from ranef.errors import ModelError, suggestion
from ranef.formula.backticks import with_backticks
from ranef.formula.model import Model, expand_dot, model_with_dot
from ranef.formula.substitution import substituted
from ranef.formula.syntax import Call, Name, Node, Paren, Sum
from ranef.questions.checks.within_between import (
    MUNDLAK,
    WITHIN_BETWEEN,
    Form,
    WithinBetween,
    slopes_of,
)
from ranef.tables import Table

__all__ = ["within_between"]

SOME = 1e-6


def within_between(
    fit: Any,
    data: Any = None,
    *,
    by: str | None = None,
    terms: str | Sequence[str] | None = None,
    family: Any = None,
    **model: Any,
) -> WithinBetween:
    """Slopes of predictors within groups and between them, and their difference.

    A column that varies within groups and between their means answers two questions with
    one coefficient. The slope within groups says what goes with a higher value than the group's
    usual one, the slope between them what goes with a group whose mean is higher; the
    contextual effect is the between minus the within slope.

    Of a fit whose formula has the parts, ``within(x, g) + between(x, g)``, the slopes are its
    coefficients. Of a raw predictor the group means are put beside it (Mundlak's device) and
    their coefficient is tested: the Hausman test in the form of a Wald test. Linear models are
    fitted again for this, with Satterthwaite's degrees of freedom; generalised ones take a step
    in the working linear model.

    Of a formula both forms of the model are fitted: the within-between form, every predictor
    that varies in both ways taken apart, in the random slopes too; and Mundlak's, the raw
    predictor beside its means. With random intercepts alone they are one model. With random
    slopes they are two, and the answer says so; its slopes are those of the former.

    The means of groups with few rows are poor measures of the groups. The corrected slopes put
    means that are shrunk by their reliability in the place of the observed ones.

    Parameters
    ----------
    fit : a fit of ranef, or str
        A formula with raw predictors, ``"mood ~ stress + (stress | person)"``.
    data : table, optional
        The table of the formula.
    by : str, optional
        Groups of a formula, ``"person"`` or nested, ``"person/day"``; its one grouping factor
        by default.
    terms : str or sequence of str, optional
        Predictors of a formula to take apart; by default all columns of numbers that vary
        within groups and between their means.
    family, **model
        Of a formula: the arguments of `lmm`, or with a `family` of `glmm`.

    Returns
    -------
    WithinBetween

    Raises
    ------
    ranef.errors.ModelError
        The formula has several grouping factors and `by` does not say which; no predictor
        of that name; or the fit is of a kind that has no such slopes.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ cover + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="poisson")
    >>> len(ranef.within_between(fit))
    0
    >>> school = {"x": [1, 2, 3, 5, 6, 7, 2, 3, 4, 7, 8, 9.0] * 2,
    ...           "y": [5, 6.1, 6.9, 3, 4.2, 5.1, 4, 5, 6.2, 1, 2.1, 2.9] * 2,
    ...           "g": list("aaabbbcccddd") + list("eeefffggghhh")}
    >>> both = ranef.within_between("y ~ x + (1 | g)", school)
    >>> both.tidy("forms")[["form", "within", "between"]].round(3)
                 form  within  between
    0  within-between   1.012   -0.604
    1         Mundlak   1.012   -0.604
    """
    if not isinstance(fit, str):
        if model or any(value is not None for value in (data, by, terms, family)):
            raise ModelError(
                "of a fit, within_between() takes no other argument: data=, by=, terms= and "
                "family= belong to a formula"
            )
        return slopes_of(fit)
    if data is None:
        raise ModelError("within_between() of a formula needs the table too")
    return _of_formula(fit, data, by, terms, family, model)


def _of_formula(
    formula: str, data: Any, by: str | None, terms: Any, family: Any, model: dict[str, Any]
) -> WithinBetween:
    """Fit both forms of a formula's model."""
    table = Table.of(data)
    formula = with_backticks(formula, table.columns, FUNCTIONS)
    columns = [v for v in (model.get("weights"), model.get("offset")) if isinstance(v, str)]
    read = model_with_dot(formula, expand_dot(formula, table.columns, columns))
    groups = _groups(read) if by is None else grouping_node(by, table.columns)
    variables = {v.printed: v.bare for v in read.fixed.variables if isinstance(v.bare, Name)}
    chosen = _varying(variables, table, groups) if terms is None else _named(terms, variables)
    title = f"Slopes within and between groups: {formula}"
    if not chosen:
        return WithinBetween((), (), title, table.library)
    parts = {x: _parts(variables[x], groups) for x in chosen}
    inner = {x: pieces[0] for x, pieces in parts.items()}
    raw = {x: (variables[x], *pieces[1:]) for x, pieces in parts.items()}
    texts = {
        WITHIN_BETWEEN: substituted(formula, _sums(parts), inner),
        MUNDLAK: substituted(formula, _sums(raw), {}),
    }
    fits = {name: _fitted(text, table, family, model) for name, text in texts.items()}
    forms = tuple(
        Form(name, fit.formula, fit.loglik, slopes_of(fit).found) for name, fit in fits.items()
    )
    found = forms[0].slopes
    return WithinBetween(found, tuple(one.group for one in found), title, table.library, forms)


def _fitted(formula: str, table: Table, family: Any, model: dict[str, Any]) -> Any:
    if family is None:
        return lmm(formula, table, **model)
    return glmm(formula, table, family=family, **model)


def _groups(model: Model) -> Node:
    """The one grouping factor of a formula."""
    nodes = {g.name: g.nodes for bar in model.bars for g in bar.groups}
    if len(nodes) == 1:
        [columns] = nodes.values()
        return grouping_node(":".join(node.printed for node in columns))
    if not nodes:
        raise ModelError("the formula has no grouping factor; say with by= what the groups are")
    outer = min(nodes.values(), key=len)[0].printed
    others = [n.printed for columns in nodes.values() for n in columns if n.printed != outer]
    mark, how = ("/", "nested") if max(map(len, nodes.values())) > 1 else (" + ", "crossed")
    together = f"{outer}{mark}{others[0]}"
    raise ModelError(
        f"the formula has the grouping factors {', '.join(nodes)}: say with by= in which of them "
        f"the predictors are to be centred, by={outer!r} or {how}, by={together!r}"
    )


def _named(terms: str | Sequence[str], variables: Mapping[str, Node]) -> list[str]:
    names = [terms] if isinstance(terms, str) else list(terms)
    for name in names:
        if name not in variables:
            raise ModelError(
                f"the formula has no predictor {name!r}{suggestion(str(name), variables)}"
            )
    return names


def _varying(variables: Mapping[str, Node], table: Table, groups: Node) -> list[str]:
    """Columns of numbers that vary within groups and between their means."""
    for node in variables.values():
        refuse_text_column(node.named[0], table)
    numbers = [x for x, node in variables.items() if _is_number(node, table)]
    if not numbers:
        return []
    columns = {name: table.values(name) for name in groups.named if name in table}
    chosen = []
    for x in numbers:
        values = table.numeric(variables[x].named[0])
        found = decompose({**columns, "x": values}, "x", groups.printed)
        inside = Table.of(found).numeric("x_within")
        spread = [float(np.nanvar(part)) for part in (inside, values - inside)]
        if min(spread) > SOME * sum(spread):
            chosen.append(x)
    return chosen


def _is_number(node: Node, table: Table) -> bool:
    [name] = node.named
    return name in table and table.kind(name) == "numeric"


def _parts(x: Node, groups: Node) -> tuple[Node, ...]:
    """The parts of a predictor: within, and between each level from the finest outwards."""
    parts: list[Node] = [Call("within", (x, groups))]
    for factor in grouping(groups):
        level: Groups | None = factor
        while level is not None:
            parts.append(Call("between", (x, level.node)))
            level = level.around
    return tuple(parts)


def _sums(parts: Mapping[str, Sequence[Node]]) -> dict[str, Node]:
    return {x: Paren(Sum(("+",) * len(p), tuple(p))) for x, p in parts.items()}
