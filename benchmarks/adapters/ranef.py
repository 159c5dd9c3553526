"""ranef."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer

MODULE = DISTRIBUTION = "ranef"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    return table


def fit(table: Any, problem: dict[str, Any]) -> Any:
    import ranef

    if problem["family"] is None:
        residual = problem["residual"]
        return ranef.lmm(problem["formula"], table, residual=residual, reml=problem["reml"])
    parts = ("family", "link", "zero", "dispersion", "quadrature")
    return ranef.glmm(problem["formula"], table, **{part: problem[part] for part in parts})


def read(result: Any) -> Answer:
    optimum = result.optimum
    return Answer(result.loglik, optimum.evaluations, optimum.converged)


def degrees(result: Any, method: str) -> list[float]:
    return [float(value) for value in result.tidy(df=method)["df"]]


def bootstrap(result: Any, count: int) -> None:
    import ranef

    ranef.bootstrap(result, count, rng=1)


def profile(result: Any) -> None:
    import ranef

    ranef.profile(result)


def refit(result: Any, table: Any, problem: dict[str, Any], responses: Any) -> None:
    result.refit(responses)
