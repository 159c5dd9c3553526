"""glmm: Rust behind one function."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer, Unsupported

MODULE = DISTRIBUTION = "glmm"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    """Give it what its formulas cannot say: 0/1 responses, failures and scaled columns."""
    if problem["family"] is None:
        return table
    if problem["family"] not in ("binomial", "poisson") or problem["zero"] != "~0":
        raise Unsupported(f"no {problem['family']} with such parts")
    table, formula = table.copy(), problem["formula"]
    if "size - incidence" in formula:
        table["failures"] = table["size"] - table["incidence"]
        formula = formula.replace("size - incidence", "failures")
    if "scale(HEIGHT)" in formula:
        height = table["HEIGHT"]
        table["scaled"] = (height - height.mean()) / height.std()
        formula = formula.replace("scale(HEIGHT)", "scaled")
    response = formula.split("~")[0].strip()
    if response in table and table[response].dtype == "category":
        table[response] = table[response].cat.codes.astype(float)
    problem["formula"] = formula
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
