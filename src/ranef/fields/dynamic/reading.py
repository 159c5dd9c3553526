"""From the formulas of a dynamic model and its table to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.building import Answer, Builder, Part
from ranef.design.call import ModelArguments
from ranef.design.residual import ResidualReader
from ranef.design.specification import Specification
from ranef.design.ties import tied
from ranef.design.variables import Frame
from ranef.errors import FormulaError, ModelError
from ranef.formula.model import Model, expand_dot, model_with_dot, response_of, taken_columns
from ranef.formula.syntax import Call
from ranef.tables.accounting import Accounting

__all__ = ["CONDITIONAL", "DISPERSION", "INERTIA", "INPUTS", "Texts", "read_parts"]

Floats = NDArray[np.float64]
CONDITIONAL, INPUTS, INERTIA, DISPERSION = "conditional", "inputs", "inertia", "dispersion"
STEPS, CLOCKS = ("ar1",), ("car1", "ou")
INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class Texts:
    """The formulas of a dynamic model as typed.

    Attributes
    ----------
    conditional : str
    residual : str
    inertia, dispersion : str
    inputs : str or None
    """

    conditional: str
    residual: str
    inertia: str
    dispersion: str
    inputs: str | None

    @property
    def parts(self) -> dict[str, str]:
        """Of each part."""
        found = {CONDITIONAL: self.conditional}
        found |= {} if self.inputs is None else {INPUTS: self.inputs}
        return found | {INERTIA: self.inertia, DISPERSION: self.dispersion}


def read_parts(texts: Texts, call: ModelArguments) -> tuple[dict[str, Specification], Accounting]:
    """Read the formulas of all parts against the table, on the rows that lack nothing."""
    reader = ResidualReader(texts.residual, None)
    _check_structure(reader, texts.residual)
    models = _models(texts, call, reader)
    response = response_of(models[CONDITIONAL].model)
    if isinstance(response.bare, Call) and response.bare.function == "cbind":
        raise ModelError(f"{response.printed}: a dynamic model has one number a row as response")
    for name, part in models.items():
        if response.printed in part.model.fixed.keys:
            raise FormulaError(f"the response {response.printed} also stands in the {name} formula")
    frame = Frame.of(call)
    frame.numbers(response, response.printed)
    for part in models.values():
        frame.read(part.model)
    reader.read(frame)
    accounting = frame.account(None, call.missing)
    frame.take_contrasts([part.model for part in models.values()], call.contrasts)
    y = np.array(frame.numbers(response, response.printed))
    builder = Builder(frame, None, accounting, keep=True)
    answer = Answer(response.printed, y)
    specs = {
        name: builder.specification(part, answer, reader if name == CONDITIONAL else None)
        for name, part in models.items()
    }
    if INPUTS in specs:
        specs[INPUTS] = _without_intercept(specs[INPUTS])
    _check_terms(specs)
    return tied(specs), accounting


def _models(texts: Texts, call: ModelArguments, reader: ResidualReader) -> dict[str, Part]:
    reserved = set(reader.names)
    for text in texts.parts.values():
        reserved |= taken_columns(text)
    out = {}
    for name, text in texts.parts.items():
        dot = expand_dot(text, call.table.columns, reserved)
        model = model_with_dot(text, dot)
        if name != CONDITIONAL:
            _check_part(name, model)
        words = "fixed effects" if name == CONDITIONAL else f"fixed effects of the {name} part"
        out[name] = Part(model, dot, words, residual="")
    return out


def _check_part(name: str, model: Model) -> None:
    if model.response is not None:
        raise FormulaError(
            f"the formula of the {name} part has no left side: write "
            f"{name}='~{model.text.partition('~')[2]}', not {model.text!r}"
        )
    if model.offsets:
        raise FormulaError(f"{name}={model.text!r} has an offset, which only the mean can have")
    if name != INPUTS and not (model.fixed.intercept or model.fixed.terms):
        raise ModelError(f"{name}={model.text!r} leaves nothing of it; '~ 1' is one constant")


def _check_structure(reader: ResidualReader, text: str) -> None:
    """One first-order process; what a dynamic model is not is said."""
    if len(reader.parts) != 1 or reader.parts[0].kind not in (*STEPS, *CLOCKS):
        raise ModelError(
            f"residual={text!r}: a dynamic model has one first-order process, 'ar1(prompt | "
            "person)' over whole prompts or 'ou(time | person)' by the clock; other structures "
            "belong to ranef.lmm(residual=)"
        )
    part = reader.parts[0]
    if part.nugget or reader.by is not None:
        what = "nugget=" if part.nugget else "by="
        raise ModelError(
            f"residual={text!r}: a dynamic model has no {what}; the inertia of groups is "
            "inertia='~ group'"
        )
    if reader.group is None:
        raise ModelError(
            f"residual={text!r} names no person: write '{part.kind}({part.text} | person)'"
        )


def _without_intercept(spec: Specification) -> Specification:
    """Leave out the intercept, which belongs to the mean."""
    for term in spec.terms:
        if INTERCEPT in term.names:
            raise ModelError(
                f"({term.label}) in inputs= has an intercept, which cannot be distinguished from "
                f"that of the mean: write (0 + {term.label})"
            )
    own = [k for k, name in enumerate(spec.names) if name != INTERCEPT]
    if not own and not spec.terms:
        raise ModelError("inputs= names no variable: write inputs='~ stress', or leave it out")
    recipe = replace(spec.recipe, kept=tuple(spec.recipe.kept[k] for k in own))
    vars(recipe)["model"] = spec.recipe.model
    names = tuple(spec.names[k] for k in own)
    X = np.ascontiguousarray(spec.X[:, own])
    return replace(spec, X=X, names=names, recipe=recipe)


def _check_terms(specs: Mapping[str, Specification]) -> None:
    """All effects belong to the persons; their covariance is whole or diagonal."""
    residual = specs[CONDITIONAL].residual
    assert residual is not None
    assert residual.group is not None
    names = {
        spec.factors[term.factor].name: spec.factors[term.factor]
        for spec in specs.values() for term in spec.terms
    }  # fmt: skip
    if not names:
        raise ModelError(
            "no part has a random term; a model without differences between persons is "
            "ranef.lmm(residual=). Write inertia='~ 1 + (1 | p | person)'"
        )
    if len(names) > 1:
        raise ModelError(
            f"the random terms of a dynamic model belong to one grouping factor, the persons; "
            f"these belong to {' and '.join(names)}"
        )
    factor = next(iter(names.values()))
    if not residual.group.lies_within(factor.codes):
        raise ModelError(
            f"residual={residual.label!r} runs over several levels of {factor.name}: a series "
            f"belongs to one of them, '{residual.parts[0].kind}(time | {factor.name})'"
        )
    for spec in specs.values():
        for term in spec.terms:
            if term.structure not in ("us", "diag") or term.kernel is not None:
                raise ModelError(
                    f"({term.label}): random effects of a dynamic model are unstructured, "
                    "(x | person), or independent, (x || person)"
                )


def order_of(specs: Mapping[str, Specification]) -> tuple[Any, Floats, bool]:
    """Order of the rows by person, series and time; gaps to the row before; whether by clock.

    A gap of 0 begins a series.
    """
    residual = specs[CONDITIONAL].residual
    assert residual is not None
    assert residual.group is not None
    times = np.asarray(residual.parts[0].where, dtype=np.float64).reshape(-1)
    persons = person_factor(specs).codes
    order = np.lexsort((times, residual.group.codes, persons))
    series = residual.group.codes[order]
    gap = np.diff(times[order], prepend=0.0)
    begins = np.r_[True, (np.diff(series) != 0) | (np.diff(persons[order]) != 0)]
    gap[begins] = 0.0
    return order, gap, residual.parts[0].kind in CLOCKS


def person_factor(specs: Mapping[str, Specification]) -> Any:
    """The grouping factor of the random effects."""
    return next(spec.factors[t.factor] for spec in specs.values() for t in spec.terms)
