"""A covariance matrix in the place of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError
from ranef.fields.structural.reading import refuse_matrix
from ranef.tables import Table

MODEL = "f =~ a + b + c + d"


def rows(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    f = rng.normal(size=n)
    return pd.DataFrame({name: f + rng.normal(size=n) for name in "abcd"})


@pytest.mark.parametrize("form", ["table", "dict", "with names", "lower triangle"])
@pytest.mark.parametrize("kind", ["correlation", "covariance"])
def test_its_rows_are_not_taken_for_persons(kind, form):
    matrix = rows().corr() if kind == "correlation" else rows().cov()
    if form == "dict":
        given = {name: matrix[name].to_numpy() for name in matrix}
    elif form == "with names":
        given = matrix.reset_index(names="variable")
    else:
        given = matrix if form == "table" else matrix.where(np.tril(np.ones((4, 4))) > 0)
    with pytest.raises(DataError, match=f"the table is a {kind} matrix, 4 symmetric rows"):
        ranef.sem(MODEL, given)


def test_as_many_rows_as_columns_are_rows_all_the_same():
    """Four persons of four items, even symmetric ones, of which no covariance has the entries."""
    few = rows(4)
    symmetric = few * 0 + np.array([[1.0, 3, 2, 2], [3, 1, 2, 2], [2, 2, 1, 2], [2, 2, 2, 1]])
    for table in (few, symmetric):
        refuse_matrix(Table.of(table))
    with pytest.raises(DataError, match="covariance matrix"):
        refuse_matrix(Table.of(few.T @ few))
