"""glmm: Rust behind one function."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer, Unsupported

MODULE = DISTRIBUTION = "glmm"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    if problem["family"] not in (None, "binomial", "poisson") or problem["zero"] != "~0":
        raise Unsupported(f"no {problem['family']} with such parts")
    return table


def fit(table: Any, problem: dict[str, Any]) -> Any:
    import glmm

    if problem["family"] is None:
        return glmm.fit(table, problem["formula"], reml=problem["reml"])
    return glmm.fit(table, problem["formula"], problem["family"], nagq=problem["quadrature"])


def read(result: Any) -> Answer:
    return Answer(float(result.loglik), int(result.n_eval), bool(result.converged))


def refit(result: Any, table: Any, problem: dict[str, Any], responses: Any) -> None:
    """Fit again without degrees of freedom, its fast way; it has no call for many responses."""
    import glmm

    response = problem["formula"].split("~")[0].strip()
    columns = {name: table[name] for name in table.columns}
    for k in range(responses.shape[1]):
        columns[response] = responses[:, k]
        glmm.fit(columns, problem["formula"], reml=problem["reml"], satterthwaite=False)
