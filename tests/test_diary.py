"""The analysis of experience sampling data in one call."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.cli import main
from ranef.errors import (
    DataError,
    DataWarning,
    FormulaWarning,
    ModelError,
    UnknownColumnError,
)
from ranef.fields.diary import pictures
from ranef.fields.diary.clock import read_clock
from ranef.fields.diary.dynamics import shrunken_inertia
from ranef.fields.diary.exports import read_export
from ranef.tables import Table

COLUMNS = {"person": "id", "time": "answered", "prompt": "beep", "scheduled": "planned"}


def sampled(
    seed=7, persons=40, days=10, prompts=6, missing=0.2, within=-0.5, between=0.3, noise=0.0
):
    """A diary as it would be filled in: hours of the day, days, persons with own slopes."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(persons):
        own, slope, level = rng.normal(), within + 0.25 * rng.normal(), 0.8 * rng.normal()
        for d in range(days):
            e, last, day = rng.normal(), None, 0.4 * rng.normal()
            for k, hour in enumerate(np.sort(rng.uniform(9, 21, prompts))):
                keep = 0.0 if last is None else np.exp(-(hour - last) / 2.5)
                e, last = keep * e + np.sqrt(1 - keep**2) * rng.normal(), hour
                stress = own + rng.normal()
                mood = 6 + level + day + slope * (stress - own) + between * own + 0.8 * e
                mood += noise * rng.normal()
                when = pd.Timestamp("2025-03-24") + pd.Timedelta(days=d, hours=hour)
                rows.append((f"P{p:02d}", when.floor("s"), d + 1, k + 1, stress, mood))
    table = pd.DataFrame(rows, columns=["id", "planned", "day", "beep", "stress", "mood"])
    table["answered"] = table.planned + pd.Timedelta(minutes=4)
    gone = rng.random(len(table)) < missing
    table.loc[gone, ["stress", "mood"]] = np.nan
    table.loc[gone, "answered"] = pd.NaT
    table["support"] = rng.normal(size=len(table)) - 0.2 * table.stress
    return table


@pytest.fixture(scope="module")
def table():
    return sampled()


@pytest.fixture(scope="module")
def diary(table):
    return ranef.diary(table, "mood", "stress", **COLUMNS)


def test_effects_are_those_of_the_within_between_model(table, diary):
    found = diary.effects().set_index("effect")
    assert found.columns.tolist() == [
        "predictor", "estimate", "std_error", "df", "statistic", "p_value", "conf_low",
        "conf_high", "slope_sd",
    ]  # fmt: skip
    formula = (
        "mood ~ within(stress, id) + between(stress, id) + (1 + within(stress, id) | id) "
        "+ (1 | id:day)"
    )
    structure = "ou(answered | id/day)"
    assert diary.residual.structure == structure
    fit = ranef.lmm(formula, table, residual=structure)
    np.testing.assert_allclose(found.estimate[["within", "between"]], fit.coef[1:], rtol=1e-6)
    np.testing.assert_allclose(found.std_error[:2], fit.tidy().std_error[1:], rtol=1e-5)
    both = fit.contrast({"between(stress, id)": 1, "within(stress, id)": -1})
    assert found.estimate["contextual"] == pytest.approx(both.estimate, rel=1e-6)
    assert found.std_error["contextual"] == pytest.approx(both.std_error, rel=1e-5)
    assert found.conf_low["within"] < -0.5 < found.conf_high["within"]
    assert found.conf_low["between"] < 0.3 < found.conf_high["between"]
    assert 0.15 < found.slope_sd["within"] < 0.35


def test_shares_of_variance_by_level(table, diary):
    found = diary.icc().set_index("level")
    assert found.index.tolist() == ["person", "day", "moment"]
    assert found.icc.sum() == pytest.approx(1.0)
    fit = ranef.lmm("mood ~ 1 + (1 | id) + (1 | id:day)", table)
    sd = fit.tidy("variance").set_index("group").estimate
    np.testing.assert_allclose(found.variance, sd[["id", "id:day", "Residual"]] ** 2, rtol=1e-5)


def test_reliability_of_means(diary):
    found = diary.reliability().set_index(["variable", "level"])
    levels = diary.variances["mood"]
    n = diary.series().n
    person = levels.person / (levels.person + levels.day / 10 + levels.moment / n)
    assert found.reliability["mood", "person"] == pytest.approx(person.mean(), rel=1e-3)
    assert found.prompts["mood", "person"] == pytest.approx(n.mean())


def test_dynamics_within_days(table, diary):
    found = diary.dynamics().set_index("person")
    rows = table[table.mood.notna()].sort_values(["id", "planned"])
    filled = table.assign(at=table.answered.fillna(table.planned))
    whole = filled.sort_values(["id", "at"])
    step = whole.groupby(["id", "day"]).mood.diff()
    np.testing.assert_array_equal(found.n, rows.groupby("id").size())
    np.testing.assert_allclose(found["mean"], rows.groupby("id").mood.mean())
    np.testing.assert_allclose(found.sd, rows.groupby("id").mood.std())
    np.testing.assert_array_equal(found.pairs, step.groupby(whole.id).count())
    expected = np.sqrt((step**2).groupby(whole.id).mean())
    np.testing.assert_allclose(found.rmssd, expected)
    one = rows[rows.id == "P03"]
    centred = whole.mood[whole.id == "P03"] - one.mood.mean()
    before = centred.groupby(whole.day[whole.id == "P03"]).shift()
    both = centred.notna() & before.notna()
    slope = (centred[both] @ before[both]) / (before[both] @ before[both])
    assert found.inertia["P03"] == pytest.approx(slope)


def test_compliance(table, diary):
    person = diary.compliance().set_index("person")
    answered = table.mood.notna().groupby(table.id).sum()
    np.testing.assert_array_equal(person.answered, answered)
    np.testing.assert_allclose(person.compliance, answered / 60)
    np.testing.assert_allclose(person.latency, 4.0)
    day = diary.compliance("day")
    assert day.day.tolist() == list(range(1, 11))
    np.testing.assert_array_equal(day.answered, table.mood.notna().groupby(table.day).sum())
    assert diary.compliance("prompt").scheduled.tolist() == [400.0] * 6
    with pytest.raises(ModelError, match="use one of 'person', 'day', 'prompt'"):
        diary.compliance("week")


@pytest.mark.parametrize("scheduled", [6, {f"P{p:02d}": 60 for p in range(40)}, "number", "asked"])
def test_schedules_of_every_kind(table, scheduled):
    answered = table[table.mood.notna()].assign(number=6, asked=1)
    rows = table.assign(number=6, asked=1) if scheduled == "asked" else answered
    rows = rows.assign(answered=rows.planned)
    found = ranef.diary(
        rows, "mood", "stress", person="id", time="answered", scheduled=scheduled, residual=None
    )
    done = found.compliance()
    assert done.scheduled.between(54, 60).all()
    np.testing.assert_array_equal(done.answered, answered.groupby("id").size())


def test_without_a_schedule_compliance_is_said_to_be_unknown(table):
    answered = table[table.mood.notna()]
    found = ranef.diary(answered, "mood", "stress", person="id", time="answered", residual=None)
    assert [c.about for c in found.concerns if c.about == "compliance"] == ["compliance"]
    assert "Give scheduled=" in str(found)


def test_residuals_remember(diary):
    found = diary.autocorrelation()
    assert found.autocorrelation[0] > found.autocorrelation[2] > found.autocorrelation.iloc[-1]
    assert found.gap[0] < 1 < found.gap_high.iloc[-1] < 13


def test_the_memory_that_the_data_were_made_with(table):
    found = ranef.diary(sampled(noise=0.4), "mood", "stress", **COLUMNS)
    assert found.residual.nugget == pytest.approx(0.2, abs=0.1)
    assert found.residual.range == pytest.approx(2.5, abs=0.8)
    tried = found.tidy("residual")
    assert tried.residual.tolist()[0] == "independent"
    assert tried.chosen.tolist() == [False, False, True]
    assert (np.diff(tried.aic) < -2).all()
    assert "half of what is remembered is gone after" in " ".join(str(found).split())
    plain = ranef.diary(sampled(noise=0.4), "mood", "stress", residual=None, **COLUMNS)
    assert plain.residual.structure is None
    assert plain.fit.loglik < found.fit.loglik - 20
    with pytest.raises(ModelError, match="residual= is 'auto'"):
        ranef.diary(table, "mood", "stress", residual=True, **COLUMNS)


def test_without_memory_residuals_stay_independent():
    forgetful = sampled().assign(mood=lambda t: t.mood * 0 + np.random.default_rng(2).normal(
        size=len(t)))  # fmt: skip
    found = ranef.diary(forgetful, "mood", "stress", **COLUMNS)
    assert found.residual.structure is None
    assert "Residuals are independent (by AIC" in str(found)
    left = found.autocorrelation()
    assert (left.autocorrelation.abs() < 4 / np.sqrt(left.pairs)).all()


def test_large_tables_say_that_nothing_was_compared(table, monkeypatch):
    from ranef.fields.diary import residual

    monkeypatch.setattr(residual, "STRUCTURES", {"": 100})
    monkeypatch.setattr(residual, "MOST_ROWS", 100)
    found = ranef.diary(table, "mood", "stress", **COLUMNS)
    assert found.residual.structure is None
    words = " ".join(str(found).split())
    assert "in a table of this size nothing else was compared" in words
    assert "residual='ou(answered | id/day)' lets them remember" in words


def test_slopes_are_shrunken(table, diary):
    found = diary.slopes()
    assert found.columns.tolist() == [
        "person", "predictor", "n", "estimate", "std_error", "conf_low", "conf_high", "raw",
    ]  # fmt: skip
    assert found.estimate.std() < found.raw.std()
    own = table[(table.id == found.person[5]) & table.mood.notna()]
    assert found.raw[5] == pytest.approx(np.polyfit(own.stress, own.mood, 1)[0])
    levels = diary.fit.coef_by_level("id")
    term = levels[levels.term == "within(stress, id)"]
    np.testing.assert_allclose(found.estimate, term.estimate)


def test_the_order_of_the_rows_says_nothing(table, diary):
    shuffled = ranef.diary(table.sample(frac=1, random_state=3), "mood", "stress", **COLUMNS)
    pd.testing.assert_frame_equal(shuffled.effects(), diary.effects(), rtol=1e-5)
    pd.testing.assert_frame_equal(shuffled.dynamics(), diary.dynamics())


def test_copies_are_left_out_and_contradictions_named(table, diary):
    again = pd.concat([table, table.sample(12, random_state=1)], ignore_index=True)
    found = ranef.diary(again, "mood", "stress", **COLUMNS)
    assert "of the same person and time left out as copies" in " ".join(found.occasions.notes)
    pd.testing.assert_frame_equal(found.compliance(), diary.compliance())
    wrong = table[table.mood.notna()].head(1)
    both = pd.concat([table, wrong.assign(mood=wrong.mood + 1)], ignore_index=True)
    with pytest.raises(DataError, match="id P00 has two different answers at one time"):
        ranef.diary(both, "mood", "stress", **COLUMNS)


def test_polars(table, diary):
    found = ranef.diary(pl.from_pandas(table), "mood", "stress", **COLUMNS)
    assert isinstance(found.effects(), pl.DataFrame)
    np.testing.assert_allclose(found.effects()["estimate"], diary.effects().estimate, rtol=1e-6)


def test_by_day_takes_three_parts(table):
    found = ranef.diary(table, "mood", ["stress"], by_day=True, residual=None, **COLUMNS).effects()
    assert found.effect.tolist() == ["within", "between_day", "between", "contextual"]


def test_many_predictors_do_not_correlate_their_slopes(table):
    more = table.assign(a=np.exp(table.stress / 2), b=table.stress**2, c=np.sin(table.stress))
    found = ranef.diary(
        more, "mood", ["stress", "a", "b", "c"], slopes=True, residual=None, **COLUMNS
    )
    assert "||" in found.fit.formula
    assert (
        "(1 | id)"
        in ranef.diary(table, "mood", "stress", slopes=False, residual=None, **COLUMNS).fit.formula
    )


# --- what an expert would warn of


def test_few_prompts_and_unreliable_means():
    few = sampled(persons=40, days=1, prompts=6)
    with pytest.warns(DataWarning, match="fewer than 10 prompts"):
        found = ranef.diary(few, "mood", "stress", residual=None, **COLUMNS)
    assert "few prompts" in {c.about for c in found.concerns}


def test_a_raw_predictor_that_mixes_two_effects(table):
    both = table.assign(other=table.stress + np.random.default_rng(1).normal(size=len(table)))
    with pytest.warns(DataWarning, match="its one coefficient mixes two effects"):
        found = ranef.diary(both, "mood", "other", covariates="stress", residual=None, **COLUMNS)
    assert "raw predictor" in {c.about for c in found.concerns}
    ages = table.assign(age=table.id.str[1:].astype(float))
    found = ranef.diary(ages, "mood", "stress", covariates=["age"], residual=None, **COLUMNS)
    assert "raw predictor" not in {c.about for c in found.concerns}


def test_nights_crossed(table):
    hours = (table.planned - table.planned.min()).dt.total_seconds() / 3600
    rows = table.assign(hours=hours)
    with pytest.warns(DataWarning, match="as across nights"):
        crossed = ranef.diary(rows, "mood", "stress", person="id", time="hours", residual=None)
    cut = ranef.diary(rows, "mood", "stress", person="id", time="hours", max_gap=8, residual=None)
    assert "nights" not in {c.about for c in cut.concerns}
    assert cut.dynamics().pairs.sum() < crossed.dynamics().pairs.sum()


def test_a_lagged_outcome_warns(table):
    with pytest.warns(FormulaWarning, match="Nickell 1981"):
        found = ranef.diary(
            table, "mood", "stress", lagged=True, max_gap="5h", residual=None, **COLUMNS
        )
    assert "Nickell" in {c.about for c in found.concerns}
    assert "lag(mood, id, time = answered, day = day, max_gap = 5.0)" in found.fit.formula
    assert found.fit.coef.iloc[-1] > 0


# --- clocks


def test_days_are_those_of_the_wall(table):
    late = table.assign(
        answered=table.answered.dt.tz_localize("Europe/Berlin").dt.tz_convert("UTC"),
        planned=table.planned.dt.tz_localize("Europe/Berlin").dt.tz_convert("UTC"),
    )
    found = ranef.diary(late, "mood", "stress", time_zone="Europe/Berlin", **COLUMNS)
    assert found.occasions.day is not None
    assert len(found.occasions.day.levels) == 10
    # the clocks went forward on 30 March: hours between prompts are those of the world
    np.testing.assert_allclose(found.effects().estimate,
                               ranef.diary(table, "mood", "stress", **COLUMNS).effects().estimate,
                               rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "zone", "world", "wall"),
    [
        (["2025-03-30T03:30:00+02:00"], None, 1.5, 3.5),
        (["2025-03-30T01:30:00Z"], "Europe/Berlin", 1.5, 3.5),
        (["2025-03-30T03:30:00"], "Europe/Berlin", 1.5, 3.5),
        (["2025-03-30 03:30"], None, 3.5, 3.5),
    ],
)
def test_times_as_text(texts, zone, world, wall):
    clock = read_clock(Table.of({"t": texts}), "t", zone)
    start = np.datetime64("2025-03-30").astype("datetime64[h]").astype(float)
    assert clock.time[0] - start == world
    assert clock.wall[0] - start == wall


def test_a_column_of_zones():
    table = {"t": ["2025-01-01T12:00"] * 2 + [None], "z": ["Asia/Tokyo", "America/New_York", None]}
    clock = read_clock(Table.of(table), "t", "z")
    assert clock.time[1] - clock.time[0] == 14.0
    assert np.isnan(clock.time[2])


def test_times_that_are_none():
    with pytest.raises(DataError, match=r"'soon' in row 1 is no time as 2025-03-29T14:05"):
        read_clock(Table.of({"t": ["2025-03-30T03:30", "soon"]}), "t", None)
    with pytest.raises(ModelError, match="neither a column nor a time zone"):
        read_clock(Table.of({"t": ["2025-03-30T03:30"]}), "t", "Berlin")
    with pytest.raises(ModelError, match="is for datetimes"):
        read_clock(Table.of({"t": [1.0]}), "t", "Europe/Berlin")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"person": "ID"}, UnknownColumnError, "did you mean 'id'"),
        ({"scheduled": 0}, ModelError, "no number of prompts a day"),
        ({"scheduled": {"P00": 3}}, ModelError, "has no number for id P01"),
        ({"scheduled": [1]}, ModelError, "scheduled= is a column"),
        ({"max_gap": 3}, DataError, "a span with its unit"),
    ],
)
def test_what_is_refused(table, change, error, message):
    with pytest.raises(error, match=message):
        ranef.diary(table, "mood", "stress", **{**COLUMNS, **change})
    with pytest.raises(ModelError, match="predictors names the columns"):
        ranef.diary(table, "mood", [], **COLUMNS)


# --- pictures, report, command


@pytest.mark.parametrize("name", ["effects", "slopes", "autocorrelation", "compliance", "series"])
def test_pictures_draw_and_have_words(diary, name):
    axes = np.atleast_1d(getattr(diary.plot, name)())
    assert all(ax.has_data() for ax in axes)
    words = getattr(pictures, f"{name}_text")(diary)
    assert len(words) > 40
    assert "nan" not in words


def test_the_report_is_one_page(diary, tmp_path):
    page = diary.report(tmp_path / "diary.html").read_text("utf-8")
    for heading in ("What was read", "Cautions", "Within and between",
                    "Where it varies", "What a residual remembers", "Instability and inertia",
                    "Compliance", "Certificate of the optimum"):  # fmt: skip
        assert f">{heading}</h2>" in page
    assert page.count("<svg") >= 5
    assert "<script" not in page


def test_the_command(table, tmp_path):
    table.to_csv(tmp_path / "d.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-m", "ranef", "diary", "d.csv", "--outcome", "mood", "--predictor",
         "stress", "--person", "id", "--time", "answered", "--scheduled", "planned", "--out",
         "d.json", "--out", "d.csv.csv", "--max-gap", "6h"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Effects on mood within persons and between them" in done.stdout
    found = json.loads((tmp_path / "d.json").read_text("utf-8"))
    assert {"effects", "icc", "reliability", "dynamics", "compliance", "slopes"} <= set(found)
    effects = pd.read_csv(tmp_path / "d.csv.csv")
    assert effects.effect.tolist() == ["within", "between", "contextual"]


# --- files of the apps


def test_m_path(tmp_path):
    # columns as mpathr's documentation and example file have them
    text = (
        "connectionId;legacyCode;alias;questionListName;timeStampScheduled;timeStampSent;"
        "timeStampStart;timeStampStop;timeZoneOffset;mood_sliderNegPos;where_open\n"
        '228325;;lara;main;1722426000;1722426241;1722426248;1722426616;7200;71;"""at home"""\n'
        "228325;;lara;main;1722436000;1722436241;0;0;7200;;\n"
    )
    (tmp_path / "m.csv").write_text(text, "utf-8")
    found = read_export(tmp_path / "m.csv")
    assert found.kind == "m-Path"
    assert found.table.start.tolist()[0] == "2024-07-31T11:44:08+02:00"
    assert found.table.start.isna().tolist() == [False, True]
    assert found.table.where_open[0] == "at home"
    clock = read_clock(Table.of(found.table), "start", None)
    assert clock.wall[0] - clock.time[0] == 2.0


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("Form_start_date,Form_start_time", "2016-02-03,2016-02-03 14:05:10"),
        ("Form_start_date", "2016-02-03 14:05:10"),
    ],
)
def test_movisens(tmp_path, columns, values):
    text = (
        f"Participant,Device,Trigger,Form,{columns},Missing,mood\n1,p,Random Time,A,{values},,4\n"
    )
    (tmp_path / "x.csv").write_text(text, "utf-8")
    found = read_export(tmp_path / "x.csv")
    assert found.kind == "movisensXS"
    assert found.table.start.tolist() == ["2016-02-03T14:05:10"]


LIFEDATA = """Participant ID,Device ID,Notification Time,Session Name,Notification No,Responded,\
Completed Session,Session Instance,Session Instance Response Lapse,mood,where
7,d,2020-01-28 09:05:00,Check in,1,1,1,1,00:01:30,4,home
7,d,2020-01-28 13:00:10,Check in,2,0,User didn't respond to this notification,1,,\
User didn't respond to this notification,User didn't respond to this notification
7,d,2020-01-28 17:30:00,Check in,3,1,1,1,00:10:00,2,at work
"""


def test_lifedata(tmp_path):
    (tmp_path / "x.csv").write_text(LIFEDATA, "utf-8")
    found = read_export(tmp_path / "x.csv")
    assert found.kind == "LifeData"
    table = found.table
    assert table["mood"].dtype == float
    assert table["mood"].isna().tolist() == [False, True, False]
    assert table["where"].tolist()[::2] == ["home", "at work"]
    assert table["where"].tolist()[1] is None
    assert table["scheduled"].tolist() == [
        "2020-01-28T09:05:00", "2020-01-28T13:00:10", "2020-01-28T17:30:00",
    ]  # fmt: skip
    assert table["start"].tolist()[::2] == ["2020-01-28T09:06:30", "2020-01-28T17:40:00"]
    assert table["start"].tolist()[1] is None


def test_the_command_knows_what_an_app_writes_for_no_answer(tmp_path, capsys):
    """No note on text where LifeData says that nobody responded."""
    rng = np.random.default_rng(3)
    silent = "User didn't respond to this notification"
    rows = ["Participant ID,Notification Time,Session Name,Responded,mood,stress"]
    for person, day, beep in itertools.product(range(8), range(4), range(4)):
        x = rng.normal()
        said = f"1,{x + person / 4 + rng.normal():.2f},{x:.2f}" if beep else ",".join([silent] * 3)
        rows.append(f"{person},2020-01-0{day + 1} {9 + 3 * beep:02d}:05:00,Check in,{said}")
    path = tmp_path / "life.csv"
    path.write_text("\n".join(rows), "utf-8")
    names = ["--outcome", "mood", "--predictor", "stress", "--person", "Participant ID"]
    code = main(["diary", str(path), *names, "--time", "scheduled", "--scheduled", "scheduled"])
    shown = capsys.readouterr()
    assert code == 0
    assert "is read as text" not in shown.err
    assert "Compliance 75% of 128 prompts" in shown.out


def test_inertia_is_shrunken_by_what_its_pairs_are_worth(diary):
    found = diary.dynamics()
    own, shrunken = found["inertia"], found["inertia_shrunken"]
    known = own.notna()
    assert (shrunken.notna() == known).all()
    assert shrunken[known].std() < own[known].std()
    rng = np.random.default_rng(3)
    truth = np.clip(rng.normal(0.3, 0.15, 400), -0.9, 0.9)
    pairs = rng.integers(5, 80, 400)
    raw = truth + rng.normal(size=400) * np.sqrt((1 - 0.3**2) / pairs)
    better = shrunken_inertia(raw, pairs)
    assert np.mean((better - truth) ** 2) < 0.6 * np.mean((raw - truth) ** 2)
    few, many = pairs < 15, pairs > 60
    moved = np.abs(better - raw)
    assert moved[few].mean() > 3 * moved[many].mean()


def test_spss_with_labels(table, tmp_path):
    pyreadstat = pytest.importorskip("pyreadstat")
    rows = table[table.mood.notna()].assign(place=lambda t: (t.beep > 3).astype(float))
    pyreadstat.write_sav(
        rows[["id", "answered", "stress", "mood", "place"]], tmp_path / "d.sav",
        column_labels={"mood": "How do you feel?"},
        variable_value_labels={"place": {0.0: "home", 1.0: "work"}},
    )  # fmt: skip
    export = read_export(tmp_path / "d.sav")
    assert export.kind == "spss"
    assert export.labels["mood"] == "How do you feel?"
    assert export.value_labels["place"] == {0.0: "home", 1.0: "work"}
    found = ranef.diary(
        tmp_path / "d.sav", "mood", "stress", person="id", time="answered", residual=None
    )
    direct = ranef.diary(rows, "mood", "stress", person="id", time="answered", residual=None)
    np.testing.assert_allclose(found.effects().estimate, direct.effects().estimate, rtol=1e-6)


def test_devices_folders_and_pipes_are_no_diary(tmp_path):
    for path in ("/dev/zero", tmp_path):
        if Path(path).exists():
            with pytest.raises(ranef.errors.FileError, match="it is no file"):
                read_export(path)


def test_predictors_that_do_not_vary_within_are_refused_by_name():
    rng = np.random.default_rng(5)
    person, age = np.repeat(np.arange(12), 10), rng.normal(40.1, 9.3, size=12)
    rows = {
        "person": person, "time": np.tile(np.arange(10.0), 12), "age": age[person],
        "one": np.ones(120), "mood": rng.normal(size=120), "stress": rng.normal(size=120),
    }  # fmt: skip
    call = {"person": "person", "time": "time"}
    with pytest.raises(DataError, match=r"'age' is the same at all prompts.*covariates='age'"):
        ranef.diary(rows, "mood", ["stress", "age"], **call)
    with pytest.raises(DataError, match="'one' is 1 in all answered rows"):
        ranef.diary(rows, "mood", "one", **call)
    with pytest.raises(ModelError, match="time is the name of a column, not None"):
        ranef.diary(rows, "mood", "stress", person="person", time=None)
    parts = ranef.decompose(rows, ["age"], "person")
    assert np.all(np.asarray(parts["age_within"]) == 0.0)


def test_unanswered_prompts_and_copies_are_no_repeats(table):
    """Prompts without an answer are alike in every column, and copies are left out already."""
    whole = pd.concat([table, table[table.mood.notna()].iloc[[0, 5, 9]]], ignore_index=True)
    found = ranef.diary(whole, "mood", "stress", person="id", time="answered")
    assert "left out as copies" in " ".join(found.sentences())
    assert not any("in the table twice" in concern.text for concern in found.concerns)


def test_one_person_is_refused_by_name(table):
    with pytest.raises(ModelError, match="compares persons, and id is one alone"):
        ranef.diary(table[table["id"] == "P03"], "mood", "stress", **COLUMNS)


@pytest.mark.parametrize(("unit", "size"), [("seconds", 10**3), ("milliseconds", 1)])
def test_numbers_that_count_from_1970_are_pointed_out(table, unit, size):
    answered = table[table.mood.notna()]
    counted = answered.answered.astype("datetime64[ms]").astype("int64") / size
    counted = answered.assign(answered=counted)
    with pytest.warns(DataWarning) as told:
        ranef.diary(counted, "mood", "stress", person="id", time="answered", day="day")
    assert any(f"looks like {unit} since 1970" in str(one.message) for one in told)
