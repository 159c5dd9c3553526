"""From raw files to figures and tables: titles, percentages, duplicates, images, exposures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.cli.above import title_lines
from ranef.display.canvas import label, panels
from ranef.display.html import document
from ranef.display.markup import Markup, element, wide_equation
from ranef.errors import DataError, DataWarning, FileError, ModelError
from ranef.fields.gwas.matching import read_labelled

Run = Callable[..., tuple[int, str, str]]


# --- what stands above the names


@pytest.mark.parametrize(
    ("text", "above"),
    [
        ("Study 7; listing 16;;;\nmade 12.3.\n;;;;\nid;arm;visit;y;z\n", 3),
        ("Group;;Scores;;\nid;arm;visit;y;z\n", 1),
        ("id;;visit;y;z\n", 0),
    ],
)
def test_titles_may_hold_the_mark_between_fields(text: str, above: int) -> None:
    rows = "".join(f"{k};a;w{k};{k},5;{k}\n" for k in range(5))
    assert title_lines((text + rows).encode(), None) == above


# --- two rows at one place


def test_two_visits_are_named_by_the_lines_of_the_file(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"id": np.repeat(range(12), 3), "visit": ["a", "b", "c"] * 12})
    table["y"] = rng.normal(size=36)
    table = pd.concat([table.iloc[:20], table.iloc[19:]])  # row 20 comes twice
    table.iloc[:6, 2] = np.nan
    path = tmp_path / "visits.csv"
    table.to_csv(path, index=False)
    code, _, told = run("fit", "y ~ visit", path, "--residual", "us(visit | id)")
    assert code == 2
    assert "id 6 has two rows at the same visit (line 21 and line 22)" in told
    assert "leave one of the two out" in told
    again = pd.concat([table, table.iloc[19:22]])
    with pytest.raises(DataError, match="there are 4 such pairs, leave out what came twice"):
        ranef.lmm("y ~ visit", again, residual="us(visit | id)")


# --- percentages


def test_percentages_become_numbers_where_that_is_said(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"school": np.repeat([f"s{k}" for k in range(8)], 6)})
    table["score"] = rng.normal(50, 9, 48).round(1)
    plain, signed = tmp_path / "plain.csv", tmp_path / "signed.csv"
    table.to_csv(plain, index=False)
    table["score"] = table["score"].map("{} %".format)
    table.to_csv(signed, index=False)
    code, _, told = run("fit", "score ~ 1 + (1 | school)", signed)
    assert code == 2
    assert "holds percentages, which stay text; --number score reads" in told
    wanted = run("fit", "score ~ 1 + (1 | school)", plain)[1]
    code, out, told = run("fit", "score ~ 1 + (1 | school)", signed, "--number", "score")
    assert (code, out) == (0, wanted)
    assert "percentages" not in told


def test_a_column_that_is_part_of_another_name_is_not_in_use(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    traps = [f"T{k}" for k in range(1, 13)]
    table = pd.DataFrame({"Trap": traps * 4, "Trap nights": rng.integers(3, 20, 48)})
    table["n"] = rng.poisson(table["Trap nights"])
    table.to_csv(tmp_path / "traps.csv", index=False)
    formula = "n ~ offset(log(Trap nights)) + (1 | Trap)"
    code, _, told = run("fit", formula, tmp_path / "traps.csv", "--family", "poisson")
    assert code == 0
    assert "--levels" not in told


# --- exposures


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"site": np.repeat(range(20), 8), "hours": rng.uniform(0.5, 12, 160)})
    table["log_hours"] = np.log(table["hours"])
    rate = np.exp(0.3 * rng.normal(size=20))[table["site"]]
    table["n"] = rng.poisson(rate * table["hours"])
    return table


@pytest.mark.parametrize("family", ["poisson", "nbinom2"])
@pytest.mark.parametrize(
    ("offset", "named"),
    [
        ("hours", r"the offset hours is added.*offset\(log\(hours\)\)"),
        ("array", r"the offset is added.*offset\(log\(exposure\)\)"),
        ("formula", r"the offset hours is added.*0\.\d+ to 1[12].*as their logarithm"),
    ],
)
def test_an_exposure_without_its_logarithm_is_told(
    counts: pd.DataFrame, family: str, offset: str, named: str
) -> None:
    formula, how = "n ~ 1 + (1 | site)", {}
    if offset == "formula":
        formula += " + offset(hours)"
    else:
        how["offset"] = counts["hours"].to_numpy() if offset == "array" else offset
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ranef.glmm(formula, counts, family=family, **how)
    assert any(re.search(named, str(one.message)) for one in told if one.category is DataWarning)


def test_logarithms_of_exposures_are_taken_in_silence(counts: pd.DataFrame) -> None:
    rng = np.random.default_rng(5)
    wide = counts.assign(log_pop=rng.uniform(3, 12, len(counts)))
    wide["cases"] = rng.poisson(np.exp(wide["log_pop"] - 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranef.glmm("n ~ 1 + (1 | site)", counts, family="poisson", offset="log_hours")
        ranef.glmm("cases ~ 1 + (1 | site)", wide, family="poisson", offset="log_pop")


def test_equations_of_estimating_say_it_too(counts: pd.DataFrame) -> None:
    with pytest.warns(DataWarning, match=r"offset\(log\(hours\)\)"), suppress(ModelError):
        ranef.gee("n ~ 1", counts, groups="site", family="poisson", offset="hours")


# --- samples of a genome-wide scan


def test_minus_nine_is_missing_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("Sample ID;height;sex\na;171,5;-9\nb;-9,0;1\nc;165,0;2\n")
    found = read_labelled("phenotypes", path, ("NA", "-9"))
    assert found.iid == ("a", "b", "c")
    np.testing.assert_array_equal(found.columns["height"], [171.5, np.nan, 165.0])
    np.testing.assert_array_equal(found.columns["sex"], [np.nan, 1.0, 2.0])
    assert found.marked == {"-9.0": 1, "-9": 1}
    assert found.noted == (
        "column 'Sample ID' of the phenotypes has the names of the samples (IID)",
    )


def test_two_columns_that_may_name_samples_are_not_chosen_from() -> None:
    one = pd.DataFrame({"participant_id": ["a", "b"], "y": [1.0, 2.0]})
    assert read_labelled("phenotypes", one).iid == ("a", "b")
    with pytest.raises(DataError, match="no column IID"):
        read_labelled("phenotypes", one.assign(sample=["c", "d"]))


# --- groups of images


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nib = pytest.importorskip("nibabel")
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(6)
    people = pd.DataFrame({"participant_id": [f"sub-{k}" for k in range(12)]})
    people["age"] = rng.integers(20, 60, 12).astype(object)
    people.loc[7, "age"] = "n/a"
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    for k in range(12):
        v = rng.uniform(0.5, 2.0, (4, 4, 3))
        y = 2.0 + rng.normal(size=v.shape) * np.sqrt(v)
        for kind, values in (("effect", y), ("variance", v)):
            if (kind, k) not in {("effect", 2), ("effect", 5), ("variance", 9)}:
                path = folder / f"sub-{k}_{kind}.nii.gz"
                nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return folder


def group(study: Path, *more: Any) -> tuple[Any, ...]:
    return (
        "imaging", "group", "~ age", "--table", study / "participants.tsv",
        "--effects", f"{study}/{{subject}}_effect.nii.gz",
        "--variances", f"{study}/{{subject}}_variance.nii.gz", *more,
    )  # fmt: skip


def test_all_absent_images_are_named_at_once(run: Run, study: Path) -> None:
    code, _, told = run(*group(study))
    assert code == 3
    for name in ("sub-2_effect", "sub-5_effect", "sub-9_variance"):
        assert name in told
    assert "3 of 24 images are not there" in told
    assert "--missing drop" in told
    imaging = pytest.importorskip("ranef.imaging")
    maps = pd.DataFrame({"subject_label": [f"sub-{k}" for k in (2, 5)]})
    for kind in ("effect", "variance"):
        maps[f"{kind}{'s' * (kind == 'effect')}_map_path"] = [
            str(study / f"{label}_{kind}.nii.gz") for label in maps["subject_label"]
        ]
    with pytest.raises(
        FileError, match=r"2 of 4 images are not there: the effect of subject .sub-2.*5"
    ):
        imaging.MixedEffectsSecondLevel().fit(maps)


def test_incomplete_subjects_are_left_out_and_said(run: Run, study: Path, tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    code, out, told = run(
        *group(study, "--missing", "drop", "--table", tmp_path / "c.docx", "--contrast", "age",
               "--table", tmp_path / "c.md", "--contrast", "intercept + 40*age")
    )  # fmt: skip
    assert code == 0
    assert "8 subjects, 48 voxels" in out
    assert "left out without an image: sub-2, sub-5, sub-9" in told
    assert "left out without a value of the formula: sub-7" in told
    document = docx.Document(str(tmp_path / "c.docx"))
    cells = [row.cells[0].text.strip() for row in document.tables[0].rows]
    assert "Contrast age" in cells
    assert "Contrast intercept + 40*age" in cells
    assert "no\xa0cluster" in cells  # of age
    assert any("8 subjects, 48 voxels" in p.text for p in document.paragraphs)
    assert "Contrast age" in (tmp_path / "c.md").read_text("utf-8")


def test_a_template_that_fits_nothing_is_shown(run: Run, study: Path) -> None:
    words = list(group(study, "--missing", "drop"))
    words[6] = f"{study}/{{subject}}_beta.nii.gz"
    code, _, told = run(*words)
    assert code == 2
    assert "no subject of" in told
    assert "sub-0_beta.nii.gz'" in told


def test_values_that_lack_are_named_by_subject(run: Run, study: Path, tmp_path: Path) -> None:
    table = pd.read_csv(study / "participants.tsv", sep="\t", keep_default_na=False)
    table = table[~table["participant_id"].isin(["sub-2", "sub-5", "sub-9"])]
    table.loc[0, "age"] = "n/a"
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    words = list(group(study))
    words[4] = tmp_path / "p.tsv"
    code, _, told = run(*words)
    assert code == 2
    assert "2 of 9 subjects lack a value that '~ age' takes: sub-0, sub-7; --missing drop" in told


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (["c.docx"], "and none was given"),
        (["a.tsv", "b.csv"], "and 2 were given (a.tsv, b.csv)"),
    ],
)
def test_one_table_of_participants(run: Run, tables: list[str], told: str) -> None:
    words = [word for name in tables for word in ("--table", name)]
    code, _, said = run("imaging", "group", "~ 1", *words, "--effects", "{subject}", "--variances",
                        "{subject}")  # fmt: skip
    assert code == 2
    assert told in " ".join(said.split())


# --- pictures, tables and pages


def test_labels_below_several_panels_fit_them() -> None:
    from matplotlib.figure import Figure

    axes = panels(["a", "b", "c"], None, Figure(), single=(6, 4), height=3)
    label(axes[0], title="a", x="Difference: mean of FEV1 (L) at the visit, 95% intervals", y="")
    lines = axes[0].get_xlabel().split("\n")
    assert len(lines) == 2
    assert all(len(line) <= 36 for line in lines)
    assert "95% intervals" in axes[0].get_xlabel()
    alone = panels(["a"], None, Figure(), single=(6.4, 4), height=3)[0]
    label(alone, title="a", x="Difference: mean of FEV1 (L) at the visit, 95% intervals", y="")
    assert "\n" not in alone.get_xlabel()


@pytest.fixture(scope="module")
def hospitals() -> Any:
    rng = np.random.default_rng(7)
    names = [f"Foundation Trust of the North and District General Hospital {k}" for k in range(30)]
    table = pd.DataFrame({"trust": names, "expected": rng.uniform(10, 90, 30)})
    table["deaths"] = rng.poisson(table["expected"] * np.exp(0.2 * rng.normal(size=30)))
    formula = "deaths ~ 1 + (1 | trust) + offset(log(expected))"
    return ranef.glmm(formula, table, family="poisson")


def test_long_names_leave_room_for_the_picture(hospitals: Any) -> None:
    from matplotlib.figure import Figure

    from ranef import plots

    figure = Figure(layout="constrained")
    ax = plots.league(hospitals.standardized_ratios(), figure=figure)
    figure.draw_without_rendering()
    box, legend = figure.bbox, ax.get_legend().get_window_extent()
    assert legend.x1 <= box.x1
    assert ax.get_window_extent().width > 0.4 * box.width


def test_tables_of_ranks_and_ratios_are_in_their_order(hospitals: Any) -> None:
    for answer, column in ((hospitals.rank(), "expected_rank"),
                           (hospitals.standardized_ratios(), "shrunken")):  # fmt: skip
        rows = answer.sheet().blocks[0].rows
        wanted = answer.tidy(sort=True)
        assert [row.label for row in rows] == list(wanted["level"])
        values = wanted[column].to_numpy()
        assert np.all(np.diff(values) >= 0) or np.all(np.diff(values) <= 0)
        assert list(answer.tidy()["level"]) != list(wanted["level"])


def test_regions_of_a_page_are_told_apart() -> None:
    one = element("div", "x", role="region", aria_label="Table: Clusters")
    equation = wide_equation(Markup("<math></math>"), "Equations of the model")
    page = document("t", [], [one, one, equation, one])
    names = re.findall(r'aria-label="([^"]+)"', page)
    assert names == [
        "Table: Clusters", "Table: Clusters (2)", "Equations of the model", "Table: Clusters (3)",
    ]  # fmt: skip
    assert 'tabindex="0"' in equation


def test_means_by_another_factor_and_of_a_part(run: Run, tmp_path: Path) -> None:
    formula = "count ~ spp + mined + (1 | site)"
    saved = tmp_path / "s.ranef"
    model = ["Salamanders", "--family", "poisson", "--zero", "~ mined", "--quiet", "--save", saved]
    assert run("fit", formula, *model)[0] == 0
    apart = run("means", saved, "--of", "mined", "--by", "spp")
    assert apart[0] == 0
    assert apart[1] == run("means", saved, "--of", "mined | spp")[1]
    whole = run("means", saved, "--of", "mined", "--component", "response", "--kind", "typical")
    assert whole[0] == 0
    assert "without its extra zeros" not in whole[1]
    assert "random effects zero" in whole[1]
    ratios = run("contrasts", saved, "--of", "mined", "--component", "zero")
    assert "Odds ratio" in ratios[1]
