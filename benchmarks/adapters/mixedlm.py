"""mixedlm."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer

MODULE = DISTRIBUTION = "mixedlm"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    return table


def fit(table: Any, problem: dict[str, Any]) -> Any:
    import mixedlm

    return mixedlm.lmer(problem["formula"], table, REML=problem["reml"])


def read(result: Any) -> Answer:
    return Answer(float(result.logLik().value), int(result.function_evals), bool(result.converged))


def refit(result: Any, table: Any, problem: dict[str, Any], responses: Any) -> None:
    for k in range(responses.shape[1]):
        result.refit(responses[:, k])
