"""From a formula and a table to a Specification: the data are read once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.design.beside import Beside
from ranef.design.building import Answer, Builder, Part, check_random
from ranef.design.call import ModelArguments
from ranef.design.residual import ResidualReader
from ranef.design.specification import Specification
from ranef.design.variables import Frame
from ranef.errors import ModelError
from ranef.formula.model import Model, expand_dot, model_with_dot, response_of
from ranef.formula.syntax import Call, Node

__all__ = ["specification_of", "specify"]


def specify(formula: str, data: Any, *, mixed: bool = True, **said: Any) -> Specification:
    """Read a formula against a table.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (x | g)"``.
    data : table
        pandas, polars or pyarrow, or a dict of arrays.
    mixed : bool
        Whether the formula has random terms: a mixed model needs one, a marginal model has none.
    **said
        The other arguments of a model: `weights`, `offset`, `contrasts`, `missing`, `random`,
        `kernels`, `functions`, as in `ranef.lmm`.

    Examples
    --------
    >>> table = {"y": [1.0, 2, 4, 3, 5, 7], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")}
    >>> spec = specify("y ~ x + (1 | g)", table)
    >>> spec.names, spec.factors[0].levels
    (('(Intercept)', 'x'), ['a', 'b'])
    """
    return specification_of(ModelArguments(formula, data, **said), mixed)


def specification_of(
    call: ModelArguments, mixed: bool | None = True, beside: Beside | None = None
) -> Specification:
    """Read the formula of a model of one number a row against its table.

    `mixed` None takes random terms or none; a model may read columns `beside` its formula.
    """
    columns = [v for v in (call.weights, call.offset) if isinstance(v, str)]
    columns += [] if beside is None else beside.columns
    dot = expand_dot(call.formula, call.table.columns, columns)
    model = model_with_dot(call.formula, dot)
    response = response_of(model)
    reader = residual_reader(call)
    alone = reader is not None and not model.bars
    if mixed is not None:
        check_random([model], mixed and call.random == "formula" and not alone)
    _check(response, model)
    frame = Frame.of(call)
    if beside is not None:
        beside.note(frame)
    weights = frame.given(call.weights, "weights")
    frame.given(call.offset, "offset")
    frame.numbers(response, response.printed)
    frame.read(model)
    if reader is not None:
        reader.read(frame)
    accounting = frame.account(None if weights is None else weights == 0, call.missing)
    if beside is not None:
        beside.take(frame)
    frame.take_contrasts([model], call.contrasts)
    y = np.array(frame.numbers(response, response.printed))
    answer = Answer(response.printed, y, frame.given(call.weights, "weights"))
    part = Part(model, dot, weights=call.weights, offset=call.offset)
    builder = Builder(frame, call.kernels, accounting, call.undetermined == "keep")
    return builder.specification(part, answer, reader)


def residual_reader(call: ModelArguments) -> ResidualReader | None:
    """What reads the structure of the residuals, where a linear model has one."""
    dispersion = None if call.dispersion.replace(" ", "") == "~1" else call.dispersion
    if call.residual is None and dispersion is None:
        return None
    return ResidualReader(call.residual, dispersion)


def _check(response: Node, model: Model) -> None:
    """Refuse what a model of one number a row cannot be."""
    for bar in model.bars:
        if bar.tie is not None:
            raise ModelError(
                f"the label {bar.tie} of ({bar.printed} | {bar.groups[0].text}) ties effects of "
                "several parts of a model, and a linear model has one part: leave the label out, "
                "or fit glmm(..., family='gaussian', dispersion='~ ...')"
            )
    inner = response.bare
    if isinstance(inner, Call) and inner.function == "cbind":
        raise ModelError(
            f"{inner.printed} counts successes and failures: a generalised (binomial) "
            "model's response. A linear model needs one number for each row"
        )
