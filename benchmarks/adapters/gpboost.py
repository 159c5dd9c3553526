"""gpboost: arrays in, maximum likelihood, no correlated slopes.

With several grouping factors its default estimates the log-determinant by
random probes, which is another criterion (Penicillin: 0.27 off at its own
parameters). ``matrix_inversion_method="cholesky"`` evaluates the likelihood.
"""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import Answer, Unsupported

MODULE = DISTRIBUTION = "gpboost"


def prepare(table: Any, problem: dict[str, Any]) -> Any:
    if problem["reml"]:
        raise Unsupported("no REML")
    if not problem["intercepts"]:
        raise Unsupported("no correlated slopes")
    return table


def fit(table: Any, problem: dict[str, Any]) -> Any:
    """Fit from the same table: its columns are made into the arrays inside the clock."""
    import gpboost
    import numpy as np

    codes = [table.groupby(list(g), observed=True).ngroup() for g in problem["intercepts"]]
    response, right = (part.strip() for part in problem["formula"].split("~"))
    names = [part.strip() for part in right.split("(")[0].split("+")]
    numbers = [table[name].to_numpy(float) for name in names if name in table]
    X = np.column_stack([np.ones(len(table)), *numbers])
    model = gpboost.GPModel(
        group_data=np.column_stack(codes),
        likelihood="gaussian",
        matrix_inversion_method="cholesky",
    )
    model.fit(y=table[response].to_numpy(float), X=X)
    return model


def read(result: Any) -> Answer:
    evaluations = int(result._get_num_optim_iter())
    return Answer(-float(result.get_current_neg_log_likelihood()), evaluations, None)
