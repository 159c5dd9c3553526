"""Formula functions and `decompose`: the parts of a predictor within and between groups."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from saved import again

import ranef
from ranef.design.specify import specify
from ranef.errors import DataError, FormulaWarning, ModelError, RanefError, UnknownColumnError

PARTS = "within(x, person/day) + between(x, person/day) + between(x, person)"


@pytest.fixture
def diary():
    rng = np.random.default_rng(1)
    rows = [(p, d, t) for p in range(12) for d in range(5) for t in range(4)]
    table = pd.DataFrame(rows, columns=["person", "day", "prompt"])
    table["x"] = rng.normal(size=len(table)) + 0.3 * table.person
    table["z"] = rng.normal(size=len(table))
    table["y"] = rng.normal(size=len(table))
    table["item"] = rng.integers(0, 7, len(table))
    table.loc[rng.choice(len(table), 30, replace=False), "y"] = np.nan
    table.loc[rng.choice(len(table), 20, replace=False), "x"] = np.nan
    return table.sample(frac=1, random_state=3)


def used(diary):
    return diary[diary.x.notna() & diary.y.notna()]


def test_nested_parts_add_up_and_are_centred_on_the_rows_used(diary):
    spec = specify(f"y ~ {PARTS} + (1 | person)", diary)
    rows = used(diary)
    person = rows.groupby("person").x.transform("mean")
    day = rows.groupby(["person", "day"]).x.transform("mean")
    np.testing.assert_allclose(spec.X[:, 1], rows.x - day, atol=1e-12)
    np.testing.assert_allclose(spec.X[:, 2], day - person, atol=1e-12)
    np.testing.assert_allclose(spec.X[:, 3], person, atol=1e-12)
    every = diary.groupby("person").x.transform("mean")[rows.index]
    assert np.abs(spec.X[:, 3] - every).max() > 0.01


def test_three_nestings(diary):
    spec = specify("y ~ within(x, item/person/day) + between(x, item/person/day) + (1 | g)",
                   diary.assign(g=diary.person))  # fmt: skip
    rows = used(diary)
    cells = [rows.groupby(list(keys)).x.transform("mean") for keys in
             (["item", "person", "day"], ["item", "person"])]  # fmt: skip
    np.testing.assert_allclose(spec.X[:, 1], rows.x - cells[0], atol=1e-12)
    np.testing.assert_allclose(spec.X[:, 2], cells[0] - cells[1], atol=1e-12)


def test_crossed_parts_are_free_of_both(diary):
    spec = specify("y ~ within(x, person + item) + (1 | person)", diary)
    rows = used(diary)
    dummies = pd.get_dummies(rows[["person", "item"]].astype(str)).to_numpy(dtype=float)
    expected = rows.x - dummies @ np.linalg.lstsq(dummies, rows.x, rcond=None)[0]
    np.testing.assert_allclose(spec.X[:, 1], expected, atol=1e-10)


def test_a_crossed_factor_may_be_nested_itself(diary):
    spec = specify("y ~ within(x, person/day + item) + (1 | person)", diary)
    rows = used(diary).assign(part=spec.X[:, 1])
    for keys in (["person", "day"], ["person"], ["item"]):
        assert rows.groupby(keys).part.mean().abs().max() < 1e-10


@pytest.mark.parametrize("part", [*PARTS.split(" + "), "within(x, person + item)"])
def test_new_rows_are_centred_on_the_means_of_the_fit(diary, part):
    spec = specify(f"y ~ {part} + (1 | person)", diary)
    some = diary[spec.accounting.kept].head(7)
    X, kept = again(spec.recipe).fixed(some)
    assert kept.all()
    np.testing.assert_allclose(X, spec.X[:7], atol=1e-12)


def test_a_new_day_has_its_own_mean_and_its_person_that_of_the_fit(diary):
    recipe = again(specify(f"y ~ {PARTS} + (1 | person)", diary).recipe)
    new = pd.DataFrame({"x": [1.0, 3.0, 5.0], "person": [4, 4, 77], "day": [9, 9, 9]})
    person = used(diary).query("person == 4").x.mean()
    X, _ = recipe.fixed(new)
    np.testing.assert_allclose(
        X[:, 1:], [[-1, 2 - person, person], [1, 2 - person, person], [0, 0, 5]], atol=1e-12
    )


def test_a_new_level_of_a_crossed_factor_is_estimated_from_its_rows(diary):
    recipe = again(specify("y ~ within(x, person + item) + (1 | person)", diary).recipe)
    new = pd.DataFrame({"x": [1.0, 2.0, 3.0], "person": [0, 99, 99], "item": [1, 1, 2]})
    alone = pd.DataFrame({"x": [1.0], "person": [0], "item": [1]})
    X, _ = recipe.fixed(new)
    np.testing.assert_allclose(X[0, 1], recipe.fixed(alone)[0][0, 1], atol=1e-12)
    np.testing.assert_allclose(X[1, 1] + X[2, 1], 0.0, atol=1e-12)


def test_what_is_made_of_parts_is_centred_on_the_rows_used_too(diary):
    lag = "lag(x, person, time = prompt, day = day)"
    spec = specify(f"y ~ within({lag}, person) + (within(x, person) | person)", diary)
    rows = diary[spec.accounting.kept].assign(part=spec.X[:, 1], slope=spec.terms[0].z[:, 1])
    assert rows.groupby("person")[["part", "slope"]].mean().abs().to_numpy().max() < 1e-12


# --- lag


def lagged(diary, call):
    spec = specify(f"y ~ {call} + (1 | person)", diary, undetermined="keep")
    values = pd.Series(np.nan, index=diary.index)
    values[diary.index[spec.accounting.kept]] = spec.X[:, 1]
    return values, diary.y.notna().to_numpy()


def test_lag_goes_by_time_within_person_and_day(diary):
    found, known = lagged(diary, "lag(x, person, time = prompt, day = day)")
    ordered = diary.sort_values(["person", "day", "prompt"])
    expected = ordered.groupby(["person", "day"]).x.shift(1).reindex(diary.index)
    np.testing.assert_array_equal(found[known], expected[known])


def test_a_gap_cuts_a_series():
    table = pd.DataFrame({"t": [5, 1, 2, 9], "x": [3.0, 1.0, 2.0, 4.0]})
    parts = [table.assign(person=g, y=[1.0, g, 2, 0], x=table.x + 10 * g) for g in range(4)]
    table = pd.concat(parts, ignore_index=True)
    found, _ = lagged(table, "lag(x, person, time = t, max_gap = 3)")
    np.testing.assert_array_equal(found[:4], [2.0, np.nan, 1.0, np.nan])
    found, _ = lagged(table, "lag(x, person, time = t, max_gap = 3, n = 2)")
    np.testing.assert_array_equal(found[:4], [1.0, np.nan, np.nan, np.nan])


def test_lag_over_datetimes_counts_in_hours_across_time_zones():
    zone = dt.timezone(dt.timedelta(hours=9))
    start = dt.datetime(2025, 3, 29, 20, tzinfo=zone)
    stamps = [start + dt.timedelta(hours=h) for h in (0, 2, 14, 15)]
    parts = [pd.DataFrame({"person": p, "t": stamps, "x": [1.0, 2, 3, 4], "y": [p, 1.0, 0, 2]})
             for p in range(4)]  # fmt: skip
    table = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1)
    table["t"] = pd.to_datetime(table.t, utc=True).dt.tz_convert("Europe/Berlin")
    found, _ = lagged(table, "lag(x, person, time = t, max_gap = '3h')")
    expected = table.x.map({1.0: np.nan, 2.0: 1.0, 3.0: np.nan, 4.0: 3.0})
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(DataError, match=r"span with its unit, '90min'"):
        lagged(table, "lag(x, person, time = t, max_gap = 3)")


def test_two_rows_at_one_time_are_named(diary):
    diary = diary.reset_index(drop=True)
    twice = diary.query("person == 3 and day == 2 and prompt == 1").index[0]
    table = pd.concat([diary, diary.loc[[twice]]], ignore_index=True)
    rows = rf"\(row {twice} and row {len(table) - 1}\)"
    with pytest.raises(DataError, match=rf"person 3 has two rows at one time, prompt 1 {rows}"):
        lagged(table, "lag(x, person, time = prompt, day = day)")


@pytest.mark.parametrize(("zone", "offset"), [(None, ""), ("Europe/Berlin", r"\+02:00")])
def test_two_rows_at_one_datetime_are_named_as_the_table_has_it(zone, offset):
    stamps = pd.to_datetime(["2024-03-30 09:00", "2024-03-31 09:00", "2024-03-31 09:00"])
    table = pd.DataFrame({"person": "a", "t": stamps.tz_localize(zone), "x": [1.0, 2, 3], "y": 1.0})
    named = rf"person a has two rows at one time, t 2024-03-31 09:00:00{offset} \(row 1 and row 2\)"
    with pytest.raises(DataError, match=named):
        lagged(table, "lag(x, person, time = t)")


def test_a_row_without_a_time_has_no_place(diary):
    gone = diary.index[5]
    table = diary.assign(prompt=diary.prompt.where(diary.index != gone))
    found, known = lagged(table, "lag(z, person, time = prompt, day = day)")
    ordered = table[table.prompt.notna()].sort_values(["person", "day", "prompt"])
    expected = ordered.groupby(["person", "day"]).z.shift(1).reindex(diary.index)
    np.testing.assert_array_equal(found[known], expected[known])


def test_a_lagged_outcome_warns(diary):
    call = "lag(y, person, time = prompt, day = day)"
    for formula in (f"y ~ {call} + (1 | person)", f"y ~ within({call}, person) + (1 | person)"):
        with pytest.warns(FormulaWarning, match="Nickell 1981"):
            ranef.lmm(formula, diary)
    with pytest.warns(FormulaWarning, match="Nickell 1981"):
        ranef.glmm(f"y ~ {call} + (1 | person)", diary, family="gaussian")


# --- decompose


def test_decompose_agrees_with_the_formula(diary):
    parts = ranef.decompose(diary, "x", "person/day", used="y")
    spec = specify(f"y ~ {PARTS} + (1 | person)", diary)
    names = ["x_within", "x_between_day", "x_between_person"]
    np.testing.assert_array_equal(parts.loc[used(diary).index, names], spec.X[:, 1:])
    assert parts.columns.tolist() == [*diary.columns, *names]
    pd.testing.assert_frame_equal(parts[diary.columns], diary)
    one = ranef.decompose(diary, ["x", "z"], "person")
    np.testing.assert_allclose(one.x_between_person, diary.groupby("person").x.transform("mean"))
    assert one.columns.tolist()[-2:] == ["z_within", "z_between_person"]


@pytest.mark.parametrize("by", [["person", "item"], "person + item"])
def test_decompose_crossed(diary, by):
    parts = ranef.decompose(diary, "x", by)
    for factor in ("person", "item"):
        assert parts.groupby(factor).x_within.mean().abs().max() < 1e-12
        np.testing.assert_allclose(
            parts[f"x_between_{factor}"], diary.groupby(factor).x.transform("mean")
        )


def test_interactions_are_centred_both_ways(diary):
    parts = ranef.decompose(diary, "x:z", "person")
    product = diary.x * diary.z
    np.testing.assert_allclose(
        parts.x_x_z_within, product - product.groupby(diary.person).transform("mean"), atol=1e-12
    )
    centred = [diary[c] - diary.groupby("person")[c].transform("mean") for c in "xz"]
    product = centred[0] * centred[1]
    np.testing.assert_allclose(
        parts.x_within_x_z_within,
        product - product.groupby(diary.person).transform("mean"),
        atol=1e-12,
    )
    formula = "y ~ within(x * z, person) + within(within(x, person) * within(z, person), person)"
    names = specify(f"{formula} + (1 | person)", diary).names
    assert names[1] == "within(x * z, person)"


def test_decompose_refuses_a_column_of_one_category(diary):
    with pytest.raises(DataError, match="column 'site' has one category alone, 'a': nothing var"):
        ranef.decompose(diary.assign(site="a"), ["x", "site"], "person")


def test_decompose_categories_and_truth_values(diary):
    table = diary.assign(place=np.where(diary.item > 3, "work", "home"), alone=diary.item > 4)
    parts = ranef.decompose(table, ["place", "alone"], "person")
    shares = (table.place == "work").groupby(table.person).transform("mean")
    np.testing.assert_allclose(parts.place_work_between_person, shares)
    np.testing.assert_allclose(
        parts.alone_within, table.alone - table.alone.groupby(table.person).transform("mean")
    )


@pytest.mark.parametrize("make", [pl.from_pandas, pa.Table.from_pandas])
def test_decompose_gives_the_users_kind_of_table(diary, make):
    table = make(diary.reset_index(drop=True))
    parts = ranef.decompose(table, "z", "person")
    assert type(parts) is type(table)
    names = parts.column_names if isinstance(parts, pa.Table) else parts.columns
    assert list(names)[-2:] == ["z_within", "z_between_person"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("q", "person"), UnknownColumnError, "no column 'q'"),
        (("x", "q"), UnknownColumnError, "no column 'q'"),
        (([], "person"), ModelError, "columns names"),
        (("x", []), ModelError, "by names"),
        (([1], "person"), ModelError, "takes names of columns"),
        (("when", "person"), DataError, "holds datetime values"),
        (("x", "person +"), RanefError, "person +"),
    ],
)
def test_decompose_refuses(diary, arguments, error, message):
    table = diary.assign(when=pd.Timestamp("2025-01-01"))
    with pytest.raises(error, match=message):
        ranef.decompose(table, *arguments)


def test_decompose_replaces_no_column(diary):
    with pytest.raises(DataError, match="a column 'x_within' already"):
        ranef.decompose(diary.assign(x_within=0.0), "x", "person")


def test_an_infinite_value_has_no_mean(diary):
    """It made every part of its group NaN, or infinite, in silence."""
    diary.loc[7, "x"] = np.inf
    with pytest.raises(DataError, match=r"column 'x' is infinite in 1 row"):
        ranef.decompose(diary, "x", "person")
    with pytest.raises(DataError, match="infinite"):
        ranef.decompose(diary, "z:x", "person")
