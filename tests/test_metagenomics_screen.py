"""Screens of simulated clinics: power, false discoveries, files, and sheets that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom

from ranef import metagenomics as mg
from ranef.errors import DataError, FileError, ModelError, UnknownColumnError
from ranef.fields.metagenomics.judging import expected_range, lists


@pytest.fixture(scope="module")
def clinic():
    return mg.simulate(batches=4, patients=8, controls=2, taxa=120, organisms=1.5, rng=11)


@pytest.fixture(scope="module")
def screen(clinic):
    return mg.screen(clinic.counts, clinic.samples)


def called(screen, clinic):
    """True and all calls, and the pairs that are there."""
    pairs = screen.tidy()
    calls = set(map(tuple, pairs.loc[pairs["present"], ["sample", "taxon"]].to_numpy()))
    truth = set(map(tuple, clinic.truth[["sample", "taxon"]].to_numpy()))
    return len(calls & truth), len(calls), len(truth)


def test_what_is_there_is_found_and_little_else(screen, clinic):
    right, calls, there = called(screen, clinic)
    assert right >= 0.6 * there
    assert calls - right <= 0.05 * calls


def test_parameters_are_recovered(screen):
    psi = screen.fitted.parameters
    assert psi.size == pytest.approx(2.0, rel=0.25)
    assert psi.steps[0] == pytest.approx(0.7, rel=0.2)
    assert psi.library_sd == pytest.approx(0.25, abs=0.1)


def test_tables_have_their_columns(screen):
    assert list(screen.tidy()) == [
        "sample", "taxon", "name", "reads", "rpm", "expected_reads", "expected_low",
        "expected_high", "control_reads", "estimate", "conf_low", "conf_high", "probability",
        "lfdr", "log10_bf", "lod", "spill_reads", "spill_from", "present",
    ]  # fmt: skip
    assert list(screen.tidy("taxa")) == ["taxon", "name", "class", "p_contaminant", "log10_bf"]
    assert list(screen.tidy("profiles")) == ["batch", "taxon", "estimate", "conf_low", "conf_high"]
    assert list(screen.tidy("samples")) == [
        "sample", "exposure", "exposure_source", "contaminant_share", "calls",
    ]  # fmt: skip
    assert set(screen.tidy("controls")) >= {"sample", "calls"}
    with pytest.raises(ModelError, match="did you mean 'profiles'"):
        screen.tidy("profile")


def test_numbers_of_pairs_are_in_their_ranges(screen):
    pairs = screen.tidy()
    assert pairs["probability"].between(0, 1).all()
    assert np.allclose(pairs["probability"] + pairs["lfdr"], 1)
    assert (pairs["conf_low"] <= pairs["conf_high"]).all()
    assert (pairs["expected_low"] <= pairs["expected_high"]).all()
    listed = pairs[pairs["present"]]
    assert listed["lfdr"].mean() <= 0.05
    assert (pairs["expected_high"] >= np.floor(pairs["expected_reads"])).all()
    assert pairs["lfdr"].is_monotonic_increasing


def test_masses_are_those_that_are_there(screen, clinic):
    both = clinic.truth.merge(screen.tidy(), on=["sample", "taxon"])
    both = both[both["present"]]
    within = (both["conf_low"] <= both["mass"]) & (both["mass"] <= both["conf_high"])
    assert within.mean() >= 0.85


def test_the_unit_of_mass_does_not_matter(clinic):
    small = mg.simulate(batches=2, patients=4, controls=1, taxa=50, exposure="mass", rng=3)
    one = mg.screen(small.counts, small.samples)
    sheet = small.samples.assign(input_mass=small.samples["input_mass"] * 1e6)
    other = mg.screen(small.counts, sheet)
    a, b = one.tidy(), other.tidy()
    np.testing.assert_allclose(a["probability"], b["probability"], rtol=1e-6)
    np.testing.assert_allclose(a["estimate"] * 1e6, b["estimate"], rtol=1e-6)


def test_the_same_on_any_number_of_threads(clinic, screen):
    again = mg.screen(clinic.counts, clinic.samples, n_jobs=1)
    assert again.tidy().equals(screen.tidy())


def test_wide_tables_both_ways_are_the_long_one(clinic, screen):
    wide = clinic.counts.pivot(index="sample", columns="taxon", values="reads").fillna(0)
    order = list(dict.fromkeys(clinic.counts["taxon"]))
    wide = wide.loc[clinic.samples["sample"], order]
    for table in (wide, wide.T, wide.reset_index(), wide.T.reset_index()):
        found = mg.screen(table, clinic.samples)
        np.testing.assert_allclose(
            found.tidy()["probability"], screen.tidy()["probability"], rtol=1e-9
        )


def test_polars_comes_back(clinic):
    pl = pytest.importorskip("polars")
    some = clinic.samples["sample"].isin(clinic.samples["sample"][:10])
    few = clinic.counts[clinic.counts["sample"].isin(clinic.samples["sample"][some])]
    found = mg.screen(pl.from_pandas(few), pl.from_pandas(clinic.samples[some]))
    assert isinstance(found.tidy(), pl.DataFrame)


@pytest.mark.parametrize("controls", [0, 1])
def test_few_controls_are_answered_with_a_note(controls):
    few = mg.simulate(batches=1, patients=8, controls=controls, taxa=50, rng=2)
    found = mg.screen(few.counts, few.samples)
    codes = {note.code for note in found.notes}
    assert "one-batch" in codes
    assert ("no-controls" if controls == 0 else "one-control") in codes
    assert found.tidy()["probability"].between(0, 1).all()


def test_depth_alone_is_answered_with_a_note():
    bare = mg.simulate(batches=2, patients=6, controls=1, taxa=60, exposure="depth", rng=2)
    assert "no-mass" in {note.code for note in mg.screen(bare.counts, bare.samples).notes}


def test_empty_libraries_say_nothing(clinic):
    sheet = clinic.samples.copy()
    counts = clinic.counts[clinic.counts["sample"] != "S001"]
    sheet.loc[0, ["total_reads", "spike_reads"]] = 0
    found = mg.screen(counts, sheet)
    assert "empty-library" in {note.code for note in found.notes}
    assert "S001" not in set(found.tidy()["sample"])


def test_hopped_reads_are_told_from_presence():
    few = mg.simulate(batches=2, patients=10, controls=2, taxa=80, hop=0.0, rng=5)
    counts = few.counts.pivot(index="sample", columns="taxon", values="reads").fillna(0)
    counts["strong"] = 0.0
    counts.loc["S001", "strong"] = 2_000_000.0
    others = [name for name in few.samples["sample"][:10] if name != "S001"]
    counts.loc[others, "strong"] = 20.0
    sheet = few.samples.drop(columns="total_reads")
    pairs = mg.screen(counts, sheet).tidy()
    strong = pairs[pairs["taxon"] == "strong"].set_index("sample")
    assert strong.loc["S001", "present"]
    assert not strong.loc[others, "present"].any()
    assert (strong.loc[others, "spill_from"] == "S001").all()


def test_unused_index_pairs_tell_the_rate_of_hopping():
    few = mg.simulate(batches=2, patients=8, controls=1, taxa=60, hop=1e-3, rng=8)
    counts = few.counts.pivot(index="sample", columns="taxon", values="reads").fillna(0)
    counts = counts * 300
    sums = counts.sum()
    counts.loc["unused"] = np.round(2e-3 * sums / len(counts))
    sheet = few.samples.assign(run="one", control_type="")
    sheet.loc[sheet["is_control"], "control_type"] = "water"
    row = {"sample": "unused", "is_control": True, "control_type": "unused index", "run": "one",
           "batch": "B1"}  # fmt: skip
    sheet = pd.concat([sheet.drop(columns="total_reads"), pd.DataFrame([row])])
    found = mg.screen(counts, sheet)
    assert 5e-4 < found.fitted.parameters.hop[0] < 8e-3


def test_dna_and_rna_libraries_in_one_model():
    dna = mg.simulate(batches=2, patients=5, controls=1, taxa=40, rng=1)
    rna = mg.simulate(batches=2, patients=5, controls=1, taxa=40, rng=2)
    counts = pd.concat([dna.counts, rna.counts.assign(sample="R" + rna.counts["sample"])])
    sheet = pd.concat([
        dna.samples.assign(library="DNA"),
        rna.samples.assign(library="RNA", sample="R" + rna.samples["sample"]),
    ])  # fmt: skip
    found = mg.screen(counts, sheet)
    assert found.assembled.arrays.levels.names == ("batch", "library")
    assert set(found.tidy("profiles")["batch"]) == {"DNA / B1", "DNA / B2", "RNA / B1", "RNA / B2"}


def test_groups_have_their_own_masses(clinic):
    groups = {name: "virus" if k % 2 else "bacterium"
              for k, name in enumerate(sorted(set(clinic.counts["taxon"])))}  # fmt: skip
    found = mg.screen(clinic.counts, clinic.samples, taxa=groups)
    names = found.tidy("parameters")["parameter"]
    assert {"log mass of virus, mean", "log mass of bacterium, mean"} <= set(names)


def test_positive_controls_are_recovered(clinic):
    sheet = clinic.samples.assign(control_type="")
    sheet.loc[sheet["is_control"], "control_type"] = "extraction"
    strong = clinic.counts.groupby("sample")["reads"].max().idxmax()
    sheet.loc[sheet["sample"] == strong, ["is_control", "control_type"]] = [True, "positive"]
    found = mg.screen(clinic.counts, sheet)
    assert strong in set(found.tidy("positives")["sample"])
    assert strong not in set(found.tidy()["sample"])


def test_lists_of_patients(clinic):
    sheet = clinic.samples.assign(patient=np.where(clinic.samples["is_control"], None,
                                                   clinic.samples["sample"]))  # fmt: skip
    found = mg.screen(clinic.counts, sheet, list_by="patient")
    pairs = found.tidy()
    listed = pairs[pairs["present"]].groupby("sample")["lfdr"].mean()
    assert (listed <= 0.05).all()
    with pytest.raises(ModelError, match="needs the column 'patient'"):
        mg.screen(clinic.counts, clinic.samples, list_by="patient")


# --- sheets and counts that do not fit


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.rename(columns={"batch": "batches"}), DataError, "did you mean 'batch'"),
        (lambda s: s.rename(columns={"is_control": "iscontrol"}), DataError, "is_control"),
        (lambda s: s.rename(columns={"sample": "id"}), UnknownColumnError, "column 'sample'"),
        (lambda s: pd.concat([s, s[:1]]), DataError, "occurs twice in the sheet"),
        (lambda s: s.assign(is_control=True), DataError, "no patient to screen"),
        (lambda s: s.assign(is_control="perhaps"), DataError, "write True or False"),
        (lambda s: s.assign(patient="Q1"), DataError, "a control and also of patient"),
        (lambda s: s.assign(spike_mass=-1.0), DataError, "cannot be below 0"),
        (lambda s: s.assign(total_reads=1), DataError, "below the"),
        (lambda s: s.assign(sample="X" + s["sample"]), DataError, "no sample of the sheet"),
        (lambda s: s.assign(well="Z99"), DataError, "not a well"),
        (lambda s: s[:0], DataError, "no rows"),
    ],
)
def test_sheets_that_do_not_fit_are_refused(clinic, change, error, words):
    with pytest.raises(error, match=words):
        mg.screen(clinic.counts, change(clinic.samples))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.assign(reads=-c["reads"]), "negative"),
        (lambda c: c.assign(reads=c["reads"].astype(float) * np.nan), "missing"),
        (lambda c: c.assign(reads=np.inf), "infinite"),
        (lambda c: c.assign(reads="many"), "must be counts"),
    ],
)
def test_counts_that_are_none_are_refused(clinic, change, words):
    with pytest.raises(DataError, match=words):
        mg.screen(change(clinic.counts), clinic.samples)


def test_relative_abundances_need_totals(clinic):
    counts = clinic.counts.drop(columns="total_reads")
    counts["reads"] = counts["reads"] / counts.groupby("sample")["reads"].transform("sum")
    with pytest.raises(DataError, match="relative abundances"):
        mg.screen(counts, clinic.samples.drop(columns="total_reads"))
    found = mg.screen(counts, clinic.samples)
    assert "relative" in {note.code for note in found.notes}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"fdr": 1.5}, "between 0 and 1"),
        ({"list_by": "ward"}, "list_by='ward' is not known"),
        ({"exposure": "masses"}, "did you mean 'mass'"),
        ({"exposure": "mass"}, "needs the column 'input_mass'"),
        ({"prior": {"prevalance": 0.1}}, "did you mean 'prevalence'"),
        ({"prior": {"prevalence": 2.0}}, "below 1"),
        ({"background": 3}, "train"),
        ({"batch": "plates"}, "no column 'plates'"),
    ],
)
def test_arguments_that_are_wrong(clinic, how, words):
    with pytest.raises((ModelError, DataError, UnknownColumnError), match=words):
        mg.screen(clinic.counts, clinic.samples, **how)


# --- files


def test_json_has_all_tables_and_the_inputs(screen, tmp_path):
    path = screen.save(tmp_path / "s.json")
    held = json.loads(path.read_text())
    assert {"pairs", "taxa", "profiles", "samples", "controls", "parameters", "notes", "inputs",
            "version"} <= set(held)  # fmt: skip
    assert len(held["pairs"]["sample"]) == len(screen.tidy())
    assert len(held["inputs"][0]["sha256"]) == 64
    assert len(pd.read_csv(screen.save(tmp_path / "s.csv"))) == len(screen.tidy())
    with pytest.raises(FileError, match=r"\.json"):
        screen.save(tmp_path / "s.xlsx")


def test_the_report_has_what_a_clinician_needs(screen, tmp_path):
    page = screen.report(tmp_path / "r.html", call="a call").read_text()
    for words in ("research use only", "Ranked candidates", "LOD", "spill from", "SHA-256",
                  "Sensitivity to the prior", "Controls left out", "a call"):  # fmt: skip
        assert words.lower() in page.lower()


def test_cleaned_counts_lose_contamination_and_keep_what_is_there(screen, clinic):
    cleaned = screen.cleaned()
    assert (cleaned["cleaned"] <= cleaned["reads"]).all()
    both = cleaned.merge(screen.tidy()[["sample", "taxon", "present"]], on=["sample", "taxon"])
    assert both.loc[~both["present"], "cleaned"].sum() < 0.05 * both["reads"].sum()


def test_pictures_draw(screen, clinic):
    assert screen.plot.candidates().get_xlabel() == "Reads"
    assert screen.plot.profiles().get_title(loc="left") or screen.plot.profiles().get_title()
    screen.plot.dilution(clinic.counts["taxon"].iloc[0])
    with pytest.raises(DataError, match="no taxon"):
        screen.plot.dilution("none")


# --- a laboratory's day


def parted():
    """Three batches to learn from, and one new run of the same reagents."""
    whole = mg.simulate(batches=5, patients=6, controls=2, taxa=100, organisms=1.5, rng=21)
    new = set(whole.samples.loc[whole.samples["batch"] == "B5", "sample"])

    def part(chosen):
        rows = whole.counts["sample"].isin(new) == chosen
        kept = whole.samples["sample"].isin(new) == chosen
        return whole.counts[rows], whole.samples[kept]

    return part(False), part(True), whole.truth[whole.truth["sample"].isin(new)]


def test_a_background_is_locked_and_screens_a_new_run(tmp_path):
    old, new, truth = parted()
    background = mg.train(*old, version="2025-01")
    path = background.save(tmp_path / "lab.background")
    again = mg.load(path)
    assert again.hash == background.hash
    assert again.version == "2025-01"
    found = again.screen(*new)
    pairs = found.tidy()
    both = truth.merge(pairs, on=["sample", "taxon"], how="left")
    assert (both["present"] == True).mean() >= 0.5  # noqa: E712
    calls = pairs[pairs["present"]].merge(truth, on=["sample", "taxon"], how="left")
    assert calls["mass"].isna().sum() <= 1
    assert found.tidy().equals(mg.screen(*new, background=background).tidy())
    assert not background.drift(*new).tidy()["flag"].any()


def test_a_background_that_was_changed_is_refused(tmp_path):
    few = mg.simulate(batches=2, patients=3, controls=1, taxa=20, rng=1)
    path = mg.train(few.counts, few.samples).save(tmp_path / "b")
    import zipfile

    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    held["background.json"] = held["background.json"].replace(b'"version": "1"', b'"version": "2"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    with pytest.raises(FileError, match="changed after it was saved"):
        mg.load(path)
    with pytest.raises(FileError, match="is not a background"):
        mg.load(__file__)
    with pytest.raises(FileError, match="no file"):
        mg.load(tmp_path / "none")


def test_another_unit_of_mass_in_a_new_run_is_noticed():
    old, (counts, samples), _ = parted()
    background = mg.train(*old)
    grams = samples.assign(spike_mass=samples["spike_mass"] * 1e-6)
    with pytest.raises(ModelError, match="in the same unit"):
        background.screen(counts, grams)


def test_drift_is_seen():
    old, new, _ = parted()
    background = mg.train(*old)
    counts, samples = new
    dirty = counts.assign(reads=counts["reads"] * 8, total_reads=counts["total_reads"] * 8)
    samples = samples.assign(total_reads=samples["total_reads"] * 8)
    drift = background.drift(dirty, samples)
    assert drift.tidy()["flag"].all()
    assert drift.tidy()["estimate"].iloc[0] == pytest.approx(np.log(8), abs=0.6)
    drift.plot()


# --- groups of patients


def grouped():
    """A clinic in which one taxon is in all patients, ten times as much in every second."""
    made = mg.simulate(batches=3, patients=8, controls=2, taxa=40, endemic=1.0, rng=13)
    group = np.where(np.arange(len(made.samples)) % 2, "case", "other")
    cases = set(made.samples["sample"][group == "case"])
    counts = made.counts.copy()
    more = counts["sample"].isin(cases) & (counts["taxon"] == "taxon0001")
    counts.loc[more, "reads"] *= 10
    totals = counts.groupby("sample")["reads"].transform("sum")
    counts["total_reads"] = np.maximum(counts["total_reads"], totals)
    sheet = made.samples.drop(columns="total_reads").assign(group=group)
    return counts, sheet


def test_a_difference_between_groups_is_found():
    found = mg.screen(*grouped()).contrast("group")
    table = found.tidy().set_index("taxon")
    row = table.loc["taxon0001"]
    assert row["conf_low"] < -np.log(10) < row["conf_high"]
    assert row["q_value"] <= table["q_value"].min() + 1e-12


def test_groups_that_are_the_batches_are_refused(screen, clinic):
    sheet = clinic.samples.assign(ward=np.where(clinic.samples["batch"] < "B3", "a", "b"))
    found = mg.screen(clinic.counts, sheet)
    with pytest.raises(ModelError, match="confounded with the batches"):
        found.contrast("ward")
    with pytest.raises(UnknownColumnError, match="did you mean 'ward'"):
        found.contrast("wart")
    with pytest.raises(ModelError, match="compares two groups"):
        found.contrast("batch")


def test_batches_are_corrected_and_groups_kept():
    counts, sheet = grouped()
    more = set(sheet.loc[sheet["batch"] == "B2", "sample"])
    rows = counts["sample"].isin(more) & (counts["taxon"] == "taxon0001")
    counts.loc[rows, "reads"] *= 40
    totals = counts.groupby("sample")["reads"].transform("sum")
    counts["total_reads"] = np.maximum(counts["total_reads"], totals)
    found = mg.screen(counts, sheet)
    table = found.corrected(keep="group")
    own = table[table["taxon"] == "taxon0001"].merge(sheet[["sample", "group", "spike_reads"]])
    own["before"] = np.log(own["cleaned"] / own["spike_reads"])
    own["after"] = np.log(own["corrected"] / own["spike_reads"])
    batch = own.groupby("batch")[["before", "after"]].mean()
    assert batch["after"].std() < 0.75 * batch["before"].std()
    group = own.groupby("group")[["before", "after"]].mean()
    assert group["after"]["case"] - group["after"]["other"] == pytest.approx(
        group["before"]["case"] - group["before"]["other"], abs=0.35
    )
    assert (table["corrected"] <= table["cleaned"] * 100).all()


def test_positive_controls_tell_the_recovery(clinic):
    sheet = clinic.samples.assign(control_type="")
    sheet.loc[sheet["is_control"], "control_type"] = "extraction"
    top = clinic.truth.sort_values("mass").iloc[-1]
    sheet.loc[sheet["sample"] == top["sample"], ["is_control", "control_type"]] = [True, "positive"]
    found = mg.screen(clinic.counts, sheet)
    row = found.recovery({top["taxon"]: top["mass"]}).iloc[0]
    assert row["present"]
    assert row["conf_low"] / row["mass"] < 1 < row["conf_high"] / row["mass"]
    assert row["recovery"] == pytest.approx(row["estimate"] / top["mass"])
    with pytest.raises(DataError, match="no library has reads"):
        found.recovery({"none": 1.0})
    with pytest.raises(DataError, match="must be above 0"):
        found.recovery({top["taxon"]: 0.0})
    with pytest.raises(DataError, match="no positive controls"):
        mg.screen(clinic.counts, clinic.samples).recovery({top["taxon"]: 1.0})


def test_replicates_of_a_specimen_answer_together(clinic):
    """Weak reads in both replicates are worth more than in one of them."""
    weak = {"S001": 6, "S002": 6, "S003": 6, "S004": 0}
    rows = [{"sample": s, "taxon": "new", "name": "new", "rank": "S", "reads": n}
            for s, n in weak.items() if n]  # fmt: skip
    counts = pd.concat([clinic.counts.drop(columns="total_reads"), pd.DataFrame(rows)])
    sheet = clinic.samples.drop(columns="total_reads")
    alone = mg.screen(counts, sheet).tidy().set_index(["sample", "taxon"])["probability"]
    patient = sheet["sample"].map({"S001": "p", "S002": "p", "S003": "q", "S004": "q"})
    number = sheet["sample"].map({"S001": "1", "S002": "2", "S003": "1", "S004": "2"})
    both = sheet.assign(patient=patient, replicate=number)
    found = mg.screen(counts, both).tidy().set_index(["sample", "taxon"])["probability"]
    assert found["S001", "new"] == pytest.approx(found["S002", "new"])
    assert found["S001", "new"] > max(alone["S001", "new"], alone["S002", "new"])
    assert found["S003", "new"] < alone["S003", "new"]
    with pytest.raises(DataError, match="needs the column 'patient'"):
        mg.screen(counts, both.drop(columns="patient"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: mg.screen(c.counts, c.samples, control="x"), "did you mean 'controls'"),
        (lambda c: mg.read("x", ranks="S"), "did you mean 'rank'"),
        (lambda c: mg.train(c.counts, c.samples, batches="b"), "did you mean 'batch'"),
        (lambda c: mg.simulate(batch=3), "did you mean 'batches'"),
        (lambda c: mg.screen(c.counts, c.samples, neg="x"), "column of negative controls"),
        (lambda c: mg.screen(c.counts, c.samples).report(path="r.html", titel="x"), "takes no arg"),
    ],
)
def test_wrong_words_are_answered(clinic, call, words):
    with pytest.raises(TypeError, match=words):
        call(clinic)


def test_probabilities_are_near_those_of_full_bayes(agree):
    """NUTS by numpyro (tests/reference/metagenomics_nuts.py), which has no sporadic taxa."""
    folder = Path(__file__).parent / "reference"
    held = json.loads((folder / "metagenomics_nuts.json").read_text())
    known = np.array(held["probability"])
    few = mg.simulate(batches=3, patients=4, controls=2, taxa=15, organisms=0.8, hop=0.0, rng=17)
    own = pd.read_csv(folder / "metagenomics_nuts.csv").filter(like="taxon").to_numpy()
    np.testing.assert_array_equal(few.reads, own)
    pairs = mg.screen(few.counts, few.samples).tidy()
    row = {name: k for k, name in enumerate(few.samples["sample"])}
    column = [int(taxon.removeprefix("taxon")) - 1 for taxon in pairs["taxon"]]
    theirs = known[[row[name] for name in pairs["sample"]], column]
    ours = pairs["probability"].to_numpy()
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.97
    agree(
        "metagenomics.screen", "mean probability of presence of 61 pairs, 3 batches",
        ours.mean(), theirs.mean(), peer=f"NUTS, {held['made by']}", atol=0.02,
    )  # fmt: skip
    assert np.abs(ours - theirs).mean() <= 0.03


def test_calls_that_are_wrong_together_are_not_listed_on_a_mean_rate():
    """Twenty sure pairs pay for four of a taxon that is a contaminant with a probability of .3."""
    lfdr = np.append(np.full(20, 1e-4), np.full(4, 0.3))
    unit = np.zeros(24, dtype=int)
    alone = lists(lfdr, np.zeros(24, dtype=bool), unit, 0.06)
    assert alone.all()
    undecided = np.append(np.zeros(20, dtype=bool), np.ones(4, dtype=bool))
    assert lists(lfdr, undecided, unit, 0.06).tolist() == [True] * 20 + [False] * 4
    # of such a taxon a pair that is sure by itself stays
    lfdr[-1] = 0.01
    assert lists(lfdr, undecided, unit, 0.06)[-1]


def test_simulated_contamination_is_escaped_lands_and_bursts():
    plain = mg.simulate(taxa=300, hop=0, organisms=0, rng=5).contamination
    patchy = mg.simulate(taxa=300, hop=0, organisms=0, patchy=1, rng=5).contamination
    assert (plain > 0).all()
    assert abs((patchy > 0).mean() - 0.5) < 0.01
    sporadic = mg.simulate(taxa=2000, hop=0, organisms=0, sporadic=1, rng=5).contamination
    # .85 x .002 + .05 x (.1 + .3 + .7)
    assert abs((sporadic > 0).mean() - 0.0567) < 0.015
    burst = mg.simulate(taxa=300, hop=0, organisms=0, sporadic=1, bursts=1, rng=5).contamination
    share = (burst > 0).mean(axis=1)
    assert share.min() > 0.03
    assert share.max() < 0.65
    with pytest.raises(ModelError, match="bursts is a share, from 0 to 1, not 2"):
        mg.simulate(bursts=2)


def test_a_taxon_with_a_rate_of_its_own_is_no_burst_of_the_library():
    """What lands in three libraries of ten says nothing of the library that it lands in."""
    some = mg.simulate(batches=4, patients=8, controls=3, taxa=200, sporadic=0.3, rng=2)
    found = mg.screen(some.counts, some.samples)
    assert found.fitted.libraries.jumps.mean() < 0.01
    right, calls, there = called(found, some)
    assert right >= 0.6 * there
    assert calls - right <= 0.1 * calls


def test_one_control_with_a_burst_is_no_rate_of_all_libraries(clinic):
    wide = clinic.counts.pivot(index="sample", columns="taxon", values="reads").fillna(0)
    control = clinic.samples["sample"][clinic.samples["is_control"]].iloc[0]
    for k in range(30):
        wide[f"foreign{k}"] = 0.0
        wide.loc[control, f"foreign{k}"] = 20.0 + k
    found = mg.screen(wide, clinic.samples.drop(columns="total_reads"))
    place = found.assembled.samples.index(control)
    jumps = found.fitted.libraries.jumps
    assert found.fitted.libraries.common[place] < 0.01
    assert jumps[place] > 0.1
    assert found.fitted.parameters.jumps < 0.001
    assert np.median(jumps) < 0.001


def test_whether_libraries_escape_contamination_is_learned():
    shares = []
    for patchy in (0.0, 0.6):
        some = mg.simulate(batches=4, patients=6, controls=4, taxa=120, patchy=patchy, rng=7)
        shares.append(mg.screen(some.counts, some.samples).fitted.parameters.escapes)
    assert shares[0] < 0.1
    assert shares[1] > 0.35


def test_what_is_expected_at_most_is_not_below_what_is_expected():
    mean, size = np.array([145.0, 145.0, 0.3]), np.array([1e-3, 2.0, 1.0])
    low, high = expected_range(mean, size)
    assert (high >= np.floor(mean)).all()
    assert (low <= high).all()
    assert high[1] == nbinom.ppf(0.975, 2.0, 2.0 / 147.0)


def _spoilt(path, place, change):
    """Write a background again, one of its arrays or its head changed, with a hash that fits."""
    import io
    import json
    import zipfile

    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    if place == "head":
        head = json.loads(held["background.json"])
        change(head)
        held["background.json"] = json.dumps(head).encode()
    else:
        stream = io.BytesIO()
        old = np.lib.format.read_array(io.BytesIO(held[f"{place}.npy"]))
        np.lib.format.write_array(stream, change(old))
        held[f"{place}.npy"] = stream.getvalue()
    target = path.with_name("spoilt")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    return target


LIES = [
    ("nodes", lambda a: a[::-1], "its distributions are none"),
    ("nodes", lambda a: a * np.nan, "nodes holds what is not finite"),
    ("root", lambda a: -a, "its distributions are none"),
    ("root", lambda a: a[:-1], "sizes do not fit together: root is"),
    ("mass_mean", lambda a: np.repeat(a, 3), "sizes do not fit together: mass_mean is"),
    ("offsets", lambda a: a[:1], "sizes do not fit together: offsets is"),
    ("steps", lambda a: a.astype("<i4"), "sizes do not fit together: steps is"),
    ("classes", lambda a: a.reshape(-1), "sizes do not fit together: classes is"),
    ("head", lambda h: h["names"].pop(), "its taxa do not fit together"),
    ("head", lambda h: h.update(numbers=[]), "is damaged"),
    ("head", lambda h: h["numbers"].update(mean=float("inf")), "a number of it is not finite"),
]


def test_backgrounds_that_lie_are_refused(tmp_path):
    few = mg.simulate(batches=2, patients=3, controls=1, taxa=20, rng=1)
    path = mg.train(few.counts, few.samples).save(tmp_path / "b")
    for place, change, words in LIES:
        with pytest.raises(FileError, match=words):
            mg.load(_spoilt(path, place, change))


def test_backgrounds_that_unpack_to_much_are_refused(tmp_path, monkeypatch):
    import zipfile

    with zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("background.json", bytes(10**7))
    monkeypatch.setenv("RANEF_MAX_GB", "0.02")
    with pytest.raises(FileError, match="RANEF_MAX_GB"):
        mg.load(tmp_path / "b")
    with pytest.raises(FileError, match="no file, but a folder, device or pipe"):
        mg.load(tmp_path)
