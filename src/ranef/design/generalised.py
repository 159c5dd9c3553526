"""From formulas of several parts and one table to the specification of a generalised model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.building import Answer, Builder, Part, response_of, zero_weights
from ranef.design.outcome import Outcome, prototype, read_outcome
from ranef.design.random import is_free
from ranef.design.rank import independent_columns
from ranef.design.response import CATEGORIES, ResponseKind, no_trials, note_response
from ranef.design.specification import Specification
from ranef.errors import FormulaError, ModelError, suggestion
from ranef.families import Family
from ranef.formula.model import Model, expand_dot, model_with_dot, taken_columns
from ranef.formula.syntax import Node, print_node
from ranef.tables import Table
from ranef.tables.accounting import Accounting

__all__ = ["GeneralisedSpecification", "specify_generalised"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
CONDITIONAL = "conditional"
ZERO = "zero"
DISPERSION = "dispersion"
THRESHOLD = "threshold"
INTERCEPT = "(Intercept)"
WORDS = {THRESHOLD: "nominal"}
ADDITIVE = frozenset(("gaussian", "censored", "lognormal"))


@dataclass(frozen=True, eq=False)
class GeneralisedSpecification:
    """A generalised mixed model as arrays.

    Attributes
    ----------
    parts : dict of Specification
        ``"conditional"``, and those that have a formula of their own among
        ``"zero"``, ``"dispersion"``, ``"threshold"`` (nominal effects) and the family's
        shapes (``"df"``); all with the same rows. An ordinal model's conditional part
        keeps its intercept column, in place of which the model has thresholds.
    extra : (n,) float64 array or None
        What the family needs beside the response: trials, upper ends, the number
        of categories.
    response : ResponseKind
    family : Family
        As given, with its number of categories.
    accounting : Accounting
    formulas : dict of str
        Of the parts, as typed.
    """

    parts: dict[str, Specification]
    extra: Floats | None
    response: ResponseKind
    family: Family
    accounting: Accounting
    formulas: dict[str, str]


def specify_generalised(
    formula: str,
    data: Any,
    *,
    family: str | Family,
    zero: str = "~0",
    dispersion: str = "~1",
    nominal: str = "~1",
    shapes: Mapping[str, str] | None = None,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> GeneralisedSpecification:
    """Read the formulas of a generalised mixed model against a table.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (x | g)"``. The left side is what the family takes: numbers;
        ``cbind(success, failure)``, 0 and 1, two categories (the second is the
        success) or proportions with their trials as `weights`; categories in their
        order; ``cbind(lower, upper)`` for intervals, a missing end being open.
    data : table
        pandas, polars or pyarrow, or a dict of arrays.
    family : str or Family
        A family or its name.
    zero : str
        Formula of zero inflation, ``"~ x + (1 | g)"``; ``"~0"`` for none.
    dispersion : str
        Formula of the dispersion; ``"~1"`` for one constant.
    nominal : str
        Fixed effects that an ordinal model has on each threshold; ``"~1"`` for none.
    shapes : mapping, optional
        Formulas of the family's shapes by name, such as ``{"df": "~ x"}``.
    weights : str or (n_rows,) array-like, optional
        They multiply the log density; of proportions they are the trials.
    offset : str or (n_rows,) array-like, optional
        Of the conditional part; others take ``offset()`` in their formula.
    contrasts, missing, kernels, functions
        As in `specify`, for all parts.

    Raises
    ------
    FormulaError, ModelError
        When a formula cannot be read, or asks for what the family does not have.
    DataError
        When the response is none of the family's; with its column, row and value.

    Examples
    --------
    >>> table = {"y": [0, 2, 4, 3, 0, 7], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")}
    >>> spec = specify_generalised("y ~ x + (1 | g)", table, family="poisson", zero="~ 1")
    >>> {name: part.names for name, part in spec.parts.items()}
    {'conditional': ('(Intercept)', 'x'), 'zero': ('(Intercept)',)}
    >>> spec.response.kind, spec.extra
    ('numbers', None)
    """
    table = Table.of(data)
    kind_of_family = prototype(family)
    texts = {CONDITIONAL: formula, ZERO: zero, DISPERSION: dispersion, THRESHOLD: nominal}
    texts |= _shapes(shapes, kind_of_family)
    parts = _parts(texts, table, kind_of_family, weights, offset)
    node = _response_of(parts, kind_of_family)
    builder = Builder(table, functions, kernels, missing)
    w = builder.given(weights, "weights")
    builder.given(offset, "offset")
    kind = note_response(node, kind_of_family.response, kind_of_family.name, builder.frame, w)
    for part in parts.values():
        builder.evaluate(part.model)
    accounting = builder.account(_either(zero_weights(w), no_trials(node, kind, builder.frame)))
    builder.take_contrasts([part.model for part in parts.values()], contrasts)
    w = builder.given(weights, "weights")
    outcome = read_outcome(node, kind, family, builder.frame, w, accounting, zero=ZERO in parts)
    made = _specifications(parts, outcome, builder, accounting)
    _refuse_both(made[CONDITIONAL], made.get(THRESHOLD))
    _refuse_single_answers(made[CONDITIONAL], outcome)
    return GeneralisedSpecification(
        made,
        outcome.extra,
        outcome.kind,
        outcome.family,
        accounting,
        {name: part.model.text for name, part in parts.items()},
    )


def _parts(
    texts: Mapping[str, str], table: Table, family: Family, weights: Any, offset: Any
) -> dict[str, Part]:
    """Read the formulas; leave out parts that are one constant or not there."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise FormulaError(
                f"the formula of the {WORDS.get(name, name)} part is a text such as '~ x', not "
                f"{type(text).__name__}"
            )
    reserved = {value for value in (weights, offset) if isinstance(value, str)}
    reserved = reserved.union(*(taken_columns(text) for text in texts.values()))
    parts: dict[str, Part] = {}
    for name, text in texts.items():
        dot = expand_dot(text, table.columns, reserved)
        model = model_with_dot(text, dot)
        if name == CONDITIONAL:
            parts[name] = Part(model, dot, weights=weights, offset=offset)
        elif _is_wanted(name, model, family):
            words = f"fixed effects of the {WORDS.get(name, name)} part"
            parts[name] = Part(model, dot, words, residual="")
    if family.name not in ADDITIVE or _is_known(parts.get(DISPERSION)):
        parts[CONDITIONAL] = replace(parts[CONDITIONAL], residual="")
    return parts


def _shapes(given: Mapping[str, str] | None, family: Family) -> dict[str, str]:
    """Return the formulas of the shapes; refuse names that are none."""
    known = [p.label for p in family.parameters if p.name == "shape"]
    there = f"it has {', '.join(known)}" if known else "it has none"
    for name in given or {}:
        if name not in known:
            raise ModelError(
                f"the family {family.name!r} has no shape {name!r}"
                f"{suggestion(str(name), known)}; {there}"
            )
    return dict(given or {})


def _is_wanted(name: str, model: Model, family: Family) -> bool:
    """Tell whether a part is more than its default; refuse what it cannot be."""
    if model.response is not None:
        raise FormulaError(
            f"the formula of the {WORDS.get(name, name)} part has no left side: write "
            f"{WORDS.get(name, name)}="
            f"'~{model.text.partition('~')[2]}', not {model.text!r}"
        )
    more = bool(model.fixed.terms or model.bars or model.offsets)
    if name == ZERO:
        if more or model.fixed.intercept:
            family.predictors(zero=True)
            return True
        return False
    if name == THRESHOLD:
        return _is_nominal(model, family)
    if name == DISPERSION and all(p.name != name for p in family.parameters):
        if more:
            raise ModelError(f"the family {family.name!r} has no {name}; leave {name} out")
        return False
    if not more and not model.fixed.intercept:
        raise ModelError(
            f"{name}={model.text!r} leaves nothing of the {name}; '~ 1' is one constant, "
            "'~ 0 + offset(x)' a known one (on the scale of its link)"
        )
    return more


def _is_nominal(model: Model, family: Family) -> bool:
    """Tell whether an ordinal model has nominal effects; refuse what these cannot be."""
    if not (model.fixed.terms or model.bars or model.offsets) and model.fixed.intercept:
        return False
    if family.response != "ordered categories":
        raise ModelError(
            f"the family {family.name!r} has no thresholds, so nominal={model.text!r} means "
            "nothing; it belongs to family='cumulative'"
        )
    if model.bars or model.offsets:
        what = "a random term" if model.bars else "an offset"
        raise ModelError(
            f"nominal={model.text!r} has {what}; nominal effects are fixed, and {what} stands in "
            "the formula of the response"
        )
    if not model.fixed.intercept:
        raise ModelError(
            f"the thresholds are the intercepts of nominal={model.text!r}: leave '0 +' or '- 1' out"
        )
    return True


def _is_known(dispersion: Part | None) -> bool:
    """Tell whether the dispersion is an offset alone, so that nothing of it is estimated."""
    if dispersion is None:
        return False
    model = dispersion.model
    return not (model.fixed.terms or model.fixed.intercept or model.bars)


def _response_of(parts: Mapping[str, Part], family: Family) -> Node:
    """Return the response; refuse what a generalised mixed model cannot be."""
    model = parts[CONDITIONAL].model
    response = response_of(model)
    if not any(part.model.bars for part in parts.values()):
        raise ModelError(
            "no part of the model has a random term; a mixed model needs one, such as (1 | g): "
            "without it, a generalised linear model is the method"
        )
    for name, part in parts.items():
        if print_node(response) in part.model.fixed.keys:
            raise FormulaError(
                f"the response {print_node(response)} also stands in the "
                f"{WORDS.get(name, name)} formula"
            )
    if family.response == "ordered categories" and not model.fixed.intercept:
        raise ModelError(
            "the thresholds of an ordinal model are its intercepts: leave '0 +' or '- 1' out of "
            f"{model.text!r}"
        )
    return response


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _specifications(
    parts: Mapping[str, Part], outcome: Outcome, builder: Builder, accounting: Accounting
) -> dict[str, Specification]:
    made = {}
    for name, part in parts.items():
        answer = Answer(outcome.kind.name, outcome.y)
        if name == CONDITIONAL:
            answer = replace(answer, weights=outcome.weights, kind=outcome.kind)
        made[name] = builder.specification(part, answer, accounting)
    return made


def _refuse_both(mean: Specification, nominal: Specification | None) -> None:
    """Refuse columns of the mean that the thresholds have as well."""
    if nominal is None:
        return
    own = [k for k, name in enumerate(mean.names) if name != INTERCEPT]
    W = nominal.X
    kept = set(independent_columns(np.hstack([W, mean.X[:, own]])).tolist())
    both = [mean.names[k] for j, k in enumerate(own, W.shape[1]) if j not in kept]
    if both:
        raise ModelError(
            f"{', '.join(both)} in the formula cannot be told from nominal="
            f"{nominal.formula!r}: an effect on every threshold holds the common one; leave it "
            "out of the formula"
        )


def _refuse_single_answers(spec: Specification, outcome: Outcome) -> None:
    """Refuse an effect of each row where a row is one choice among categories."""
    trials = outcome.extra if outcome.kind.takes == "successes" else None
    if outcome.kind.takes == "successes":
        single = (
            outcome.family.name == "binomial" and trials is not None and bool((trials == 1).all())
        )
    else:
        single = outcome.kind.kind == CATEGORIES
    for term in spec.terms:
        factor = spec.factors[term.factor]
        if single and factor.n_levels >= spec.n and is_free(term):
            raise ModelError(
                f"the grouping factor {factor.name!r} has a level for each of the {spec.n} rows, "
                f"and each row is a single choice, so the variance of ({term.label}) cannot be "
                "told from the scale of the fixed effects; group by a coarser factor"
            )
