"""Relationships and components while they are made: memory, progress, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ranef import gwas
from ranef.errors import ModelError

MADE = {"grm": gwas.grm, "pca": gwas.pca, "sparse_grm": gwas.sparse_grm}


@pytest.fixture(scope="module")
def genotypes():
    return gwas.simulate(n=80, m=3000, rng=1).genotypes


@pytest.mark.parametrize("name", MADE)
def test_a_bar_where_it_is_asked_for_and_the_same_numbers(genotypes, capsys, name):
    words = "close kin" if name == "sparse_grm" else "relationship (0.0"
    shown = MADE[name](genotypes, progress=True)
    assert words in capsys.readouterr().err
    plain = MADE[name](genotypes, progress=False)
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(shown.tidy().to_numpy(), plain.tidy().to_numpy())


def test_the_scan_shows_the_relationship_too(capsys):
    study = gwas.simulate(n=80, m=300, rng=1)
    gwas.scan("trait ~ 1", study.genotypes, study.phenotypes, progress=True)
    said = capsys.readouterr().err
    assert "relationship (" in said
    assert "scanning" in said


@pytest.mark.parametrize("name", MADE)
def test_what_would_not_fit_is_refused_first(genotypes, name):
    with pytest.raises(ModelError, match=r"80 samples needs about .* memory= allows 1e-06 GB"):
        MADE[name](genotypes, memory="1K")
    with pytest.raises(ModelError, match="memory is a number of GB"):
        MADE[name](genotypes, memory="much")
    with pytest.raises(ModelError, match="progress"):
        MADE[name](genotypes, progress="yes")


# An interrupt within exec() of a text, as dataclasses and decorators do while modules are loaded,
# makes the exit code that of SIGINT even where it is caught: all is loaded before it is sent.
INTERRUPTED = """
from ranef import gwas
gwas.{name}(gwas.simulate(n=40, m=200, rng=1).genotypes, n_jobs=2)
genotypes = gwas.simulate(n=1500, m=20_000, rng=1).genotypes
print("begun", flush=True)
try:
    while True:
        gwas.{name}(genotypes, n_jobs=2)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["grm", "sparse_grm"])
def test_an_interrupt_ends_it(name):
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(name=name)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert (said, child.returncode) == ("stopped\n", 0)


def test_shares_and_correlations_show_a_bar_and_the_same_numbers(capsys):
    study = gwas.simulate(n=80, m=300, h2=0.6, rng=1)
    table = study.phenotypes.assign(other=lambda t: t["trait"] ** 2)
    given = {"traits": ["trait", "other"], "relationship": gwas.grm(study.genotypes)}
    for ask, words in (
        (gwas.heritability, "shares of variance: 100%"),
        (gwas.bivariate, "genetic correlations: 100%"),
    ):
        shown = ask("~ sex", table, **given, progress=True)
        assert words in capsys.readouterr().err
        plain = ask("~ sex", table, **given, progress=False)
        assert capsys.readouterr().err == ""
        np.testing.assert_array_equal(
            shown.tidy().select_dtypes("number"), plain.tidy().select_dtypes("number")
        )
        with pytest.raises(ModelError, match="progress"):
            ask("~ sex", table, **given, progress="yes")


@pytest.mark.parametrize("name", ["null", "gblup", "heritability", "bivariate"])
def test_a_relationship_too_large_to_decompose_is_refused_first(name, monkeypatch):
    from ranef.fields.gwas import memory

    study = gwas.simulate(n=80, m=300, rng=1)
    table, K = study.phenotypes.assign(other=1.0), gwas.grm(study.genotypes)
    more = {"traits": ["trait", "other"]} if name == "bivariate" else {}
    monkeypatch.setattr(memory, "available_memory", lambda: 200_000)
    with pytest.raises(
        ModelError, match=r"decomposing the relationship of 80 samples needs about 0\.0002 GB"
    ):
        getattr(gwas, name)("~ sex" if more else "trait ~ sex", table, relationship=K, **more)
