"""Sampling weights of a `glmm`, as a call gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.call import ModelArguments
from ranef.design.evaluate import unknown_column
from ranef.design.generalised import GeneralisedSpecification
from ranef.errors import DataError, ModelError, row_text, suggestion
from ranef.formula.labels import count_text, level_text
from ranef.models.records import CONDITIONAL
from ranef.models.sampling import SCALINGS, of_levels, scaled_within

__all__ = ["Sampling", "read_sampling"]

Floats = NDArray[np.float64]
ROW = "row"


@dataclass(frozen=True, eq=False)
class Sampling:
    """Weights by the level that they are of.

    Attributes
    ----------
    columns : dict of (N,) arrays
        Of all rows of the table: ``"row"``, and the name of the grouping factor.
    scaling : str
    """

    columns: dict[str, Floats]
    scaling: str

    def applied(self, spec: GeneralisedSpecification) -> tuple[GeneralisedSpecification, Floats]:
        """The specification with weights of rows, and the weights of the levels."""
        mean = spec.parts[CONDITIONAL]
        factors = {f.name: f for part in spec.parts.values() for f in part.factors}
        if len(factors) != 1:
            raise ModelError(
                f"sampling_weights are of rows and of one grouping factor, and the model has "
                f"{len(factors)}: {', '.join(factors) or 'no random effects'}"
            )
        (factor,) = factors.values()
        unknown = [name for name in self.columns if name not in (ROW, factor.name)]
        if unknown:
            known = (ROW, factor.name)
            raise ModelError(
                f"sampling_weights has weights of {unknown[0]!r}{suggestion(unknown[0], known)}; "
                f"the levels are {ROW!r} and {factor.name!r}"
            )
        kept = spec.accounting.kept
        used = {k: v if kept is None else v[kept] for k, v in self.columns.items()}
        levels = np.ones(factor.n_levels)
        if factor.name in used:
            levels, wrong = of_levels(used[factor.name], factor.codes)
            if len(wrong):
                level = level_text(factor.levels[factor.codes[wrong[0]]])
                raise DataError(
                    f"the rows of {factor.name} {level} have different weights of {factor.name}; "
                    "a level has one"
                )
        if ROW not in used:
            return spec, levels
        rows = scaled_within(used[ROW], factor.codes, self.scaling)
        own = rows if mean.weights is None else mean.weights * rows
        return replace(spec, parts={**spec.parts, CONDITIONAL: replace(mean, weights=own)}), levels


def read_sampling(given: Any, scaling: Any, call: ModelArguments) -> Sampling | None:
    """Check the arguments, and read the columns."""
    way = arguments.choice("sampling_scale", scaling, SCALINGS)
    if given is None:
        if way != "none":
            raise ModelError(f"sampling_scale={way!r} scales sampling_weights, which are not given")
        return None
    if not isinstance(given, Mapping) or not given:
        raise ModelError(
            "sampling_weights says of which level weights are, {'school': 'w_school', 'row': "
            "'w_pupil'}: those of rows given that their level was sampled"
        )
    others = [
        name
        for name, there in (
            ("reml=True", call.reml), ("priors", call.priors), ("fixed", call.fixed),
            ("equal", call.equal),
        )
        if there
    ]  # fmt: skip
    if others:
        raise ModelError(f"sampling_weights go with no {' and no '.join(others)}")
    if call.quadrature < 2:
        raise ModelError(
            "sampling_weights multiply integrals of levels, which quadrature makes: give "
            "quadrature, such as quadrature=11"
        )
    columns = {str(level): _column(values, str(level), call) for level, values in given.items()}
    return Sampling(columns, way)


def _column(values: Any, level: str, call: ModelArguments) -> Floats:
    table = call.table
    if isinstance(values, str):
        if values not in table:
            raise unknown_column(values, table, "sampling_weights")
        if table.kind(values) not in ("numeric", "boolean"):
            raise DataError(f"sampling_weights: {values!r} holds no numbers")
        found = np.array(table.numeric(values), dtype=np.float64)
    else:
        try:
            found = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ModelError(
                f"sampling_weights[{level!r}] is a column or one number a row; name a column, or "
                "give as many numbers as rows"
            ) from None
    if found.shape != (table.n_rows,):
        raise DataError(
            f"sampling_weights[{level!r}] has shape {found.shape}, the table {table.n_rows} rows"
        )
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        raise DataError(
            f"sampling_weights must be positive numbers; {count_text(len(wrong), 'row')} have "
            f"others ({row_text(wrong[0])}: {found[wrong[0]]:g}): leave such rows out"
        )
    return found
