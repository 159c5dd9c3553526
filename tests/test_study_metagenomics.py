"""Power and false discoveries of simulated clinics, beside the usual rules (make study)."""

from __future__ import annotations

import numpy as np
import pytest

from ranef import metagenomics as mg

pytestmark = pytest.mark.study

SEEDS = range(101, 106)
CONTROLS = (0, 1, 2, 4)


def power_and_fdp(calls, present):
    right = int((calls & present).sum())
    return right / max(int(present.sum()), 1), 1.0 - right / max(int(calls.sum()), 1)


def called(screen, clinic):
    calls = np.zeros(clinic.present.shape, dtype=bool)
    row = {name: k for k, name in enumerate(clinic.samples["sample"])}
    pairs = screen.tidy()
    for sample, taxon in pairs.loc[pairs["present"], ["sample", "taxon"]].to_numpy():
        calls[row[sample], int(taxon.removeprefix("taxon")) - 1] = True
    return calls


def rpm_ratio(clinic):
    """Reads per million at least ten times those of the batch's controls, floor 1, three reads."""
    control = clinic.samples["is_control"].to_numpy()
    batch = clinic.samples["batch"].to_numpy()
    rpm = 1e6 * clinic.reads / clinic.samples["total_reads"].to_numpy()[:, None]
    calls = np.zeros(clinic.present.shape, dtype=bool)
    for k in np.flatnonzero(~control):
        own = rpm[control & (batch == batch[k])]
        calls[k] = (rpm[k] / np.maximum(own.mean(axis=0), 1.0) >= 10) & (clinic.reads[k] >= 3)
    return calls


def z_score(clinic):
    """CZ ID's z above 1 on reads per million of all controls."""
    control = clinic.samples["is_control"].to_numpy()
    rpm = 1e6 * clinic.reads / clinic.samples["total_reads"].to_numpy()[:, None]
    mean, sd = rpm[control].mean(axis=0), rpm[control].std(axis=0, ddof=1)
    z = np.where(sd > 0, (rpm - mean) / np.where(sd > 0, sd, 1.0), np.where(mean > 0, 0.0, 100.0))
    return (z > 1) & (rpm > 1) & (clinic.reads > 0) & ~control[:, None]


def test_power_at_the_stated_rate():
    ours = {}
    for controls in CONTROLS:
        each = []
        for seed in SEEDS:
            clinic = mg.simulate(controls=controls, rng=seed)
            screen = mg.screen(clinic.counts, clinic.samples)
            each.append(power_and_fdp(called(screen, clinic), clinic.present))
        ours[controls] = np.mean(each, axis=0)
        print(controls, ours[controls].round(3))
    power, fdp = np.mean(list(ours.values()), axis=0)
    assert power >= 0.75
    assert fdp <= 0.06


def test_the_usual_rules_find_less_or_state_too_little():
    for seed in SEEDS:
        clinic = mg.simulate(controls=2, rng=seed)
        screen = mg.screen(clinic.counts, clinic.samples)
        power, _ = power_and_fdp(called(screen, clinic), clinic.present)
        of_ratio, _ = power_and_fdp(rpm_ratio(clinic), clinic.present)
        _, of_z = power_and_fdp(z_score(clinic), clinic.present)
        print(seed, power, of_ratio, of_z)
        assert of_ratio < power
        assert of_z > 0.3


@pytest.mark.parametrize(
    "how", [{"heavy_tails": True}, {"hop": 1e-3}, {"mass_error": 0.7}, {"endemic": 0.9}]
)
def test_probabilities_hold_where_the_model_does_not(how):
    stated, wrong = 0.0, 0
    for seed in SEEDS:
        clinic = mg.simulate(controls=2, rng=seed, **how)
        pairs = mg.screen(clinic.counts, clinic.samples).tidy()
        calls = pairs[pairs["present"]]
        there = set(map(tuple, clinic.truth[["sample", "taxon"]].to_numpy()))
        wrong += sum(tuple(p) not in there for p in calls[["sample", "taxon"]].to_numpy())
        stated += len(calls)
    print(how, wrong / stated)
    assert wrong / stated <= 0.10
