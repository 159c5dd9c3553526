"""From formulas of several parts and one table to the specification of a generalised model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.beside import Beside
from ranef.design.building import Answer, Builder, Part, check_random
from ranef.design.call import ModelArguments, read_family
from ranef.design.exposure import warn_of_raw_exposure
from ranef.design.outcome import Outcome, prototype, read_outcome
from ranef.design.random import is_free
from ranef.design.rank import independent_columns
from ranef.design.response import CATEGORIES, ResponseKind, no_trials, note_response
from ranef.design.specification import Specification
from ranef.design.ties import tied
from ranef.design.variables import Frame
from ranef.errors import FormulaError, ModelError, suggestion
from ranef.families import Family
from ranef.formula.model import Model, expand_dot, model_with_dot, response_of, taken_columns
from ranef.formula.syntax import Node
from ranef.tables.accounting import Accounting

__all__ = [
    "GeneralisedSpecification",
    "generalised_specification_of",
    "specify_generalised",
]

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
    formula: str, data: Any, family: Any, **said: Any
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
    **said
        The other arguments of a model: `zero`, `dispersion`, `nominal`, `shapes` and those
        of `specify`, as in `ranef.glmm`.

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
    return generalised_specification_of(ModelArguments(formula, data, read_family(family), **said))


def generalised_specification_of(
    call: ModelArguments, beside: Beside | None = None
) -> GeneralisedSpecification:
    """Read the formulas of all parts of a generalised model against its table.

    A mixed model has random terms; one without them has clusters `beside` its formulas.
    """
    assert call.family is not None
    family = prototype(call.family)
    parts = _parts(call, family, () if beside is None else beside.columns)
    node = response_of(parts[CONDITIONAL].model)
    models = [part.model for part in parts.values()]
    if beside is None:
        check_random(models, call.random == "formula")
    else:
        _refuse_random(models)
    _check(parts, node, family)
    _refuse_labels(family, models)
    frame = Frame.of(call)
    if beside is not None:
        beside.note(frame)
    weights = frame.given(call.weights, "weights")
    frame.given(call.offset, "offset")
    kind = note_response(node, family.response, family.name, frame, weights)
    for model in models:
        frame.read(model)
    empty = None if weights is None else weights == 0
    accounting = frame.account(_either(empty, no_trials(node, kind, frame)), call.missing)
    if beside is not None:
        beside.take(frame)
    frame.take_contrasts(models, call.contrasts)
    weights = frame.given(call.weights, "weights")
    outcome = read_outcome(
        node, kind, family.response, call.family, frame, weights, accounting, zero=ZERO in parts
    )
    builder = Builder(frame, call.kernels, accounting, call.undetermined == "keep")
    specifications = tied(_specifications(parts, outcome, builder))
    _refuse_both(specifications[CONDITIONAL], specifications.get(THRESHOLD))
    _refuse_single_answers(specifications[CONDITIONAL], outcome)
    warn_of_raw_exposure(parts[CONDITIONAL], specifications[CONDITIONAL], outcome)
    return GeneralisedSpecification(
        specifications,
        outcome.extra,
        outcome.kind,
        outcome.family,
        accounting,
        {name: model.text for name, model in zip(parts, models, strict=True)},
    )


def _parts(call: ModelArguments, family: Family, beside: tuple[str, ...] = ()) -> dict[str, Part]:
    """Read the formulas; leave out parts that are one constant or not there."""
    texts = {
        CONDITIONAL: call.formula,
        ZERO: call.zero,
        DISPERSION: call.dispersion,
        THRESHOLD: call.nominal,
        **_shapes(call.shapes, family),
    }
    reserved = {value for value in (call.weights, call.offset, *beside) if isinstance(value, str)}
    reserved = reserved.union(*(taken_columns(text) for text in texts.values()))
    columns = call.table.columns
    models = {}
    for name, text in texts.items():
        dot = expand_dot(text, columns, reserved)
        models[name] = model_with_dot(text, dot), dot
    parts = {CONDITIONAL: Part(*models.pop(CONDITIONAL), weights=call.weights, offset=call.offset)}
    for name, (model, dot) in models.items():
        if _is_wanted(name, model, family):
            words = f"fixed effects of the {WORDS.get(name, name)} part"
            parts[name] = Part(model, dot, words, residual="")
    known = _is_known(parts.get(DISPERSION)) or _is_held(call.fixed, parts.get(DISPERSION))
    if family.name not in ADDITIVE or known:
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


def _is_held(fixed: Mapping[str, float] | None, dispersion: Part | None) -> bool:
    """Tell whether the dispersion is one constant that is held at a value."""
    if dispersion is not None or not isinstance(fixed, Mapping):
        return False
    names = {"".join(str(name).split()) for name in fixed}
    return bool(names & {f"{DISPERSION}:{INTERCEPT}", f"{DISPERSION}:", "sigma"})


def _is_known(dispersion: Part | None) -> bool:
    """Tell whether the dispersion is an offset alone, so that nothing of it is estimated."""
    if dispersion is None:
        return False
    model = dispersion.model
    return not (model.fixed.terms or model.fixed.intercept or model.bars)


def _refuse_random(models: Sequence[Model]) -> None:
    """Refuse random terms of a model that has clusters instead."""
    for bar in (bar for model in models for bar in model.bars):
        raise ModelError(
            f"({bar.text} | ...) is a random term, which a population-averaged model does not "
            "have: groups= names its clusters. With random effects it is a model of ranef.glmm"
        )


def _refuse_labels(family: Family, models: Sequence[Model]) -> None:
    """Refuse labels of effects where one formula stands for several parts."""
    if family.response != "categories":
        return
    for bar in (bar for model in models for bar in model.bars if bar.tie is not None):
        raise ModelError(
            f"the label {bar.tie} ties effects of parts with formulas of their own; the "
            f"categories of {family.name!r} share one formula, and their effects are independent"
        )


def _check(parts: Mapping[str, Part], response: Node, family: Family) -> None:
    """Refuse what a generalised model cannot be."""
    for name, part in parts.items():
        if response.printed in part.model.fixed.keys:
            raise FormulaError(
                f"the response {response.printed} also stands in the "
                f"{WORDS.get(name, name)} formula"
            )
    model = parts[CONDITIONAL].model
    if family.response == "ordered categories" and not model.fixed.intercept:
        raise ModelError(
            "the thresholds of an ordinal model are its intercepts: leave '0 +' or '- 1' out of "
            f"{model.text!r}"
        )


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _specifications(
    parts: Mapping[str, Part], outcome: Outcome, builder: Builder
) -> dict[str, Specification]:
    own = Answer(outcome.kind.name, outcome.y)
    of_mean = replace(own, weights=outcome.weights, kind=outcome.kind)
    return {
        name: builder.specification(part, of_mean if name == CONDITIONAL else own)
        for name, part in parts.items()
    }


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
            f"{', '.join(both)} in the formula cannot be distinguished from nominal="
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
