"""Power, false discoveries and calibration in simulated clinics (make study)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom

from ranef import metagenomics as mg

pytestmark = pytest.mark.study

SEEDS = range(201, 206)
CONTROLS = (0, 1, 2, 4)


def power_and_fdp(calls, present):
    right = int((calls & present).sum())
    return right / max(int(present.sum()), 1), 1.0 - right / max(int(calls.sum()), 1)


def of_clinic(clinic, pairs):
    """Pairs as a matrix of libraries and taxa."""
    row = {name: k for k, name in enumerate(clinic.samples["sample"])}
    rows = [row[name] for name in pairs["sample"]]
    return rows, [int(taxon.removeprefix("taxon")) - 1 for taxon in pairs["taxon"]]


def called(screen, clinic):
    calls = np.zeros(clinic.present.shape, dtype=bool)
    pairs = screen.tidy()
    calls[of_clinic(clinic, pairs[pairs["present"]])] = True
    return calls


# --- the usual rules


def parts(clinic):
    sheet = clinic.samples
    control, batch = sheet["is_control"].to_numpy(bool), sheet["batch"].to_numpy()
    rpm = 1e6 * clinic.reads / sheet["total_reads"].to_numpy()[:, None]
    return control, batch, rpm


def rpm_ratio(clinic):
    """Reads per million at least ten times those of the batch's controls, floor 1, three reads."""
    control, batch, rpm = parts(clinic)
    calls = np.zeros(clinic.present.shape, dtype=bool)
    for k in np.flatnonzero(~control):
        own = rpm[control & (batch == batch[k])]
        mean = own.mean(axis=0) if len(own) else 0.0
        calls[k] = (rpm[k] / np.maximum(mean, 1.0) >= 10) & (clinic.reads[k] >= 3)
    return calls


def z_scores(clinic, values, limit, least):
    """CZ ID's z: 100 where controls have none of it; nothing without two controls."""
    control = parts(clinic)[0]
    if control.sum() < 2:
        return np.zeros(clinic.present.shape, dtype=bool)
    mean, sd = values[control].mean(axis=0), values[control].std(axis=0, ddof=1)
    z = np.where(sd > 0, (values - mean) / np.where(sd > 0, sd, 1.0), 0.0)
    z = np.where(mean == 0, 100.0, z)
    return (z > limit) & least & ~control[:, None]


def z_of_rpm(clinic):
    rpm = parts(clinic)[2]
    return z_scores(clinic, rpm, 1.0, rpm > 1)


def z_of_mass(clinic):
    rate = clinic.samples["spike_reads"].to_numpy()[:, None]
    return z_scores(clinic, clinic.reads / np.maximum(rate, 1), 3.0, clinic.reads >= 5)


def nb_test(clinic):
    """Negative binomial p of each pair on the batch's controls and a mean one; BH at 5%."""
    control, batch, _ = parts(clinic)
    calls = np.zeros(clinic.present.shape, dtype=bool)
    if not control.any():
        return calls
    rate = clinic.samples["spike_reads"].to_numpy() / 1000.0
    common = clinic.reads[control].sum(axis=0) / rate[control].sum()
    mu = np.zeros(clinic.reads.shape)
    for b in set(batch):
        own = control & (batch == b)
        density = (clinic.reads[own].sum(axis=0) / rate[own].mean() + common) / (own.sum() + 1)
        mu[batch == b] = rate[batch == b][:, None] * density
    squares = ((clinic.reads[control] - mu[control]) ** 2 - mu[control]).sum()
    size = max((mu[control] ** 2).sum() / max(squares, 1e-9), 0.05)
    p = np.where(
        mu > 0, nbinom.sf(clinic.reads - 1, size, size / (size + np.maximum(mu, 1e-12))), 0
    )
    seen = (clinic.reads > 0) & ~control[:, None]
    ordered = np.sort(p[seen])
    within = np.flatnonzero(ordered <= 0.05 * np.arange(1, len(ordered) + 1) / len(ordered))
    limit = ordered[within[-1]] if len(within) else -1.0
    return seen & (p <= limit)


RULES = {
    "RPM-ratio": rpm_ratio, "z of RPM": z_of_rpm, "z of mass": z_of_mass, "NB test": nb_test,
}  # fmt: skip


def test_power_at_the_stated_rate_beside_the_usual_rules():
    found = []
    for controls in CONTROLS:
        for seed in SEEDS:
            clinic = mg.simulate(controls=controls, rng=seed)
            ours = called(mg.screen(clinic.counts, clinic.samples), clinic)
            answers = {"ranef": ours, **{name: rule(clinic) for name, rule in RULES.items()}}
            for name, calls in answers.items():
                power, fdp = power_and_fdp(calls, clinic.present)
                found.append((controls, name, seed, power, fdp))
    table = pd.DataFrame(found, columns=["controls", "rule", "seed", "power", "fdp"])
    print(table.groupby(["rule", "controls"])[["power", "fdp"]].mean().round(3).to_string())
    power, fdp = table[table["rule"] == "ranef"][["power", "fdp"]].mean()
    print("ranef", power, fdp)
    assert power >= 0.75
    assert fdp <= 0.06
    of_ratio = table[(table["rule"] == "RPM-ratio") & (table["controls"] > 0)]
    assert of_ratio["power"].mean() < power
    others = table[
        table["rule"].isin(["z of RPM", "z of mass", "NB test"]) & (table["controls"] > 0)
    ]
    assert others["fdp"].mean() > 0.3


def test_blanks_passed_off_as_patients_are_not_called():
    """A third of each batch's blanks."""
    calls, of_ratio = [], []
    for seed in SEEDS:
        clinic = mg.simulate(batches=6, patients=6, controls=6, taxa=300, rng=seed)
        sheet = clinic.samples.copy()
        place = sheet[sheet["is_control"]].groupby("batch").cumcount()
        held = place.index[place < 2]
        sheet.loc[held, "is_control"] = False
        pairs = mg.screen(clinic.counts, sheet).tidy()
        own = pairs[pairs["present"] & pairs["sample"].isin(sheet.loc[held, "sample"])]
        number = own.groupby("sample").size().reindex(sheet.loc[held, "sample"], fill_value=0)
        calls += number.tolist()
        passed = mg.Clinic(
            clinic.counts, sheet, clinic.truth, clinic.reads, clinic.present, clinic.contamination
        )
        of_ratio += rpm_ratio(passed)[held].sum(axis=1).tolist()
    print("false calls of a blank", np.mean(calls), max(calls), "RPM-ratio", np.mean(of_ratio))
    assert np.mean(calls) <= 0.1
    assert np.mean(np.array(calls) <= 1) >= 0.99


def test_calls_hardly_change_when_a_batch_leaves():
    changes = []
    for seed in list(SEEDS)[:3]:
        clinic = mg.simulate(controls=2, rng=seed)
        whole = mg.screen(clinic.counts, clinic.samples).tidy()
        for left in ("B2", "B5", "B7"):
            sheet = clinic.samples[clinic.samples["batch"] != left]
            counts = clinic.counts[clinic.counts["sample"].isin(sheet["sample"])]
            part = mg.screen(counts, sheet).tidy()
            before, after = (
                set(map(tuple, t.loc[t["present"], ["sample", "taxon"]].to_numpy()))
                for t in (whole[whole["sample"].isin(sheet["sample"])], part)
            )
            changes.append(len(before ^ after) / len(before))
    print("calls that change", np.mean(changes), max(changes))
    assert max(changes) <= 0.06


# --- calibration

BINS = [-0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0]
WORLDS = {
    "the model's own": {},
    "escapes, bursts and sporadic taxa": {"patchy": 0.2, "sporadic": 0.2, "bursts": 0.02},
    "heavy tails": {"heavy_tails": True},
    "ten times the hopping": {"hop": 1e-3},
    "masses wrong by two": {"mass_error": 0.7},
    "a taxon in 90% of patients": {"endemic": 0.9},
}


DRAWN = ("the model's own", "escapes, bursts and sporadic taxa")
"""Worlds that the model describes."""


def reliability(pairs):
    """Of each tenth from .01 to .99: pairs, mean probability, share that is there, errors apart."""
    some = pairs[pairs["probability"].between(0.01, 0.99)]
    p, tenth = some["probability"], np.floor(10 * some["probability"]) / 10
    made = some.assign(variance=p * (1 - p)).groupby(tenth).agg(
        pairs=("truth", "size"), stated=("probability", "mean"), frequency=("truth", "mean"),
        variance=("variance", "sum"),
    )  # fmt: skip
    apart = (made["frequency"] - made["stated"]) * made["pairs"]
    return made.assign(z=apart / np.sqrt(made.pop("variance")))


def drawn(seed, **how):
    """A clinic whose parameters are drawn too."""
    rng = np.random.default_rng(seed)
    world = {
        "batches": int(rng.integers(3, 8)), "patients": int(rng.integers(6, 12)),
        "controls": int(rng.integers(1, 4)), "organisms": float(rng.uniform(0.5, 1.5)),
        "batch_sd": float(rng.uniform(0.4, 1.0)), "library_sd": float(rng.uniform(0.1, 0.4)),
        "size": float(np.exp(rng.normal(np.log(2.0), 0.4))), **how,
    }  # fmt: skip
    return mg.simulate(taxa=200, rng=rng, **world)


@pytest.mark.parametrize("world", list(WORLDS))
def test_probabilities_are_frequencies(world):
    found, masses, blanks, right, total = [], [], [], 0, 0
    for seed in range(301, 313):
        clinic = drawn(seed, **WORLDS[world])
        screen = mg.screen(clinic.counts, clinic.samples)
        pairs = screen.tidy()
        pairs["truth"] = clinic.present[of_clinic(clinic, pairs)]
        found.append(pairs)
        both = pairs[pairs["present"]].merge(clinic.truth, on=["sample", "taxon"])
        masses += both["mass"].between(both["conf_low"], both["conf_high"]).tolist()
        blanks.append(screen.control_rate)
        right += int(pairs["truth"][pairs["present"]].sum())
        total += int(clinic.present.sum())
    pairs = pd.concat(found)
    absent = pairs[~pairs["truth"]]
    inside = absent["reads"].between(absent["expected_low"], absent["expected_high"])
    cut = pd.cut(pairs["probability"], BINS)
    table = pairs.groupby(cut, observed=True).agg(
        pairs=("truth", "size"), stated=("probability", "mean"), frequency=("truth", "mean")
    )
    calls = pairs[pairs["present"]]
    fdp = 1.0 - calls["truth"].mean()
    print(world, "\n", table.round(4).to_string())
    print("power", right / total, "FDP", fdp, "stated", calls["lfdr"].mean())
    print("masses in 95%", np.mean(masses), "reads in 95%", inside.mean())
    print("calls a blank", np.mean(blanks))
    high, low = table.iloc[-1], table.iloc[0]
    print(reliability(pairs).round(3).to_string())
    if world in DRAWN:
        assert (reliability(pairs)["z"].abs() <= 3).all()
    assert fdp <= 0.10
    assert high["frequency"] >= 0.95
    assert low["frequency"] <= 0.01
    if world == "the model's own":
        assert np.mean(masses) >= 0.88
        assert inside.mean() >= 0.9
