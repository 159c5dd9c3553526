"""statsmodels: one grouping factor, further variance components by formula."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer, Unsupported

MODULE = "statsmodels.formula.api"
DISTRIBUTION = "statsmodels"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    model = problem["statsmodels"]
    if model is None:
        raise Unsupported("crossed factors only as dense columns of one group")
    return table.assign(all=1) if model["groups"] == "all" else table


def fit(table: Any, problem: dict[str, Any]) -> Any:
    from statsmodels.formula.api import mixedlm

    arguments = dict(problem["statsmodels"])
    return mixedlm(data=table, **arguments).fit(reml=problem["reml"])


def read(result: Any) -> Answer:
    return Answer(float(result.llf), None, bool(result.converged))
