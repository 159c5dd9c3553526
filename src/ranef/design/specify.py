"""From a formula and a table to a Specification: the data are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ranef.design.building import Answer, Builder, Part, response_of, zero_weights
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.formula.model import Model, expand_dot, model_with_dot
from ranef.formula.syntax import Call, Node, print_node, strip_parens
from ranef.tables import Table

__all__ = ["specify"]


def specify(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Specification:
    """Read a formula against a table.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (x | g)"``.
    data : table
        pandas, polars or pyarrow, or a dict of arrays.
    weights, offset : str or (n_rows,) array-like, optional
        A column's name, or the numbers themselves.
    contrasts : mapping, optional
        Categorical variable -> name of contrasts (``"sum"``) or matrix.
    missing : {"drop", "raise"}
        What to do with rows that miss a value in a column used.
    kernels : mapping, optional
        Labelled matrices that ``kernel(1 | id, K)`` names.
    functions : mapping, optional
        Functions that the formula may call.

    Examples
    --------
    >>> table = {"y": [1.0, 2, 4, 3, 5, 7], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")}
    >>> spec = specify("y ~ x + (1 | g)", table)
    >>> spec.names, spec.factors[0].levels
    (('(Intercept)', 'x'), ['a', 'b'])
    """
    table = Table.of(data)
    dot = expand_dot(formula, table.columns, [v for v in (weights, offset) if isinstance(v, str)])
    model = model_with_dot(formula, dot)
    response = _response_of(model)
    builder = Builder(table, functions, kernels, missing)
    w = builder.given(weights, "weights")
    builder.given(offset, "offset")
    name = print_node(response)
    builder.frame.numbers(response, name)
    builder.evaluate(model)
    accounting = builder.account(zero_weights(w))
    builder.take_contrasts([model], contrasts)
    y = np.array(builder.frame.numbers(response, name))
    answer = Answer(name, y, builder.given(weights, "weights"))
    part = Part(model, dot, weights=weights, offset=offset)
    return builder.specification(part, answer, accounting)


def _response_of(model: Model) -> Node:
    """Return the response; refuse what a linear mixed model cannot be."""
    response = response_of(model)
    inner = strip_parens(response)
    if isinstance(inner, Call) and inner.function == "cbind":
        raise ModelError(
            f"{print_node(inner)} counts successes and failures: a generalised (binomial) "
            "model's response. A linear model needs one number for each row"
        )
    if not model.bars:
        raise ModelError(
            "the formula has no random term; a mixed model needs one, such as (1 | g): "
            "without it, ordinary least squares is the method"
        )
    return response
