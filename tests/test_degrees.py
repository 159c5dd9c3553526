"""Degrees of freedom: against pbkrtest, lmerTest and nlme, and against matrices of order n.

The reference values come from tests/reference/degrees.R.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference_cases as reference
import shapes
import twin

import ranef
from ranef import inference, solve
from ranef.errors import ModelError
from ranef.inference.kenward import kenward_roger
from ranef.models.lmm import fit_lmm

STORED = reference.stored("degrees")
TESTS = STORED["tests"]
STRATA = STORED["strata"]
PBKRTEST = f"pbkrtest {STORED['versions']['pbkrtest']}"
LMERTEST = f"lmerTest {STORED['versions']['lmerTest']}"
NLME = f"nlme {STORED['versions']['nlme']}"


def table_of(name):
    own = STORED["tables"].get(name)
    return ranef.data.load(name) if own is None else pd.DataFrame(own)


@pytest.fixture(scope="module")
def fitted():
    """Each model of the reference fitted once."""
    store = {}

    def get(name):
        if name not in store:
            case = TESTS[name]
            store[name] = ranef.lmm(case["formula"], table_of(case["table"]))
        return store[name]

    return get


@pytest.mark.parametrize("name", TESTS)
def test_x(fitted, name):
    case, fit = TESTS[name], fitted(name)
    print(fit.loglik - case["loglik"], fit.optimum.singular)
    kr = kenward_roger(fit.estimate)
    V = np.array(case["kr_vcov"])
    print(
        abs(kr.adjusted / V - 1).max(),
        abs(fit.tidy(df="kenward-roger").df / case["kr_df"] - 1).max(),
        abs(fit.tidy().df / case["satterthwaite_df"] - 1).max(),
    )
    for j in case["joint"]:
        L = np.array(j["L"], float)
        k = fit._joint_test(L, df="kenward-roger")
        s = fit._joint_test(L)
        print(
            k.statistic / j["kr_f"] - 1,
            k.df2 / j["kr_df2"] - 1,
            s.statistic / j["satterthwaite_f"] - 1,
            s.df2 / j["satterthwaite_df2"] - 1,
        )
    assert list(fit.estimate.specification.names) == case["names"]
