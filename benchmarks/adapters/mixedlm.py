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


def bootstrap(result: Any, count: int) -> None:
    import mixedlm

    mixedlm.bootMer(result, nsim=count, seed=1)


def profile(result: Any) -> None:
    """Profile the fixed effects, the only ones it has profiles of."""
    result.profile()
