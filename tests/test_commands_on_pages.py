"""Command lines of the README and the documentation run as they stand there."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import metagenomics as mg
from ranef.cli import main
from ranef.cli.verbs import VERBS

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"
DOCS = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of a page that call ``ranef``, those that end in a backslash joined."""
    joined = "\n".join(FENCE.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("ranef ")]


def as_a_shell(word: str) -> list[str]:
    """Files that a pattern names; any other word as it is."""
    pattern = "*" in word and "(" not in word and "~" not in word
    return sorted(map(str, Path().glob(word))) if pattern else [word]


def with_files_of_the_command_line() -> None:
    ranef.data.load("sleepstudy").to_csv("sleepstudy.csv", index=False)
    shutil.copy(DATA / "ema_answers.csv", "diary.csv")
    smaller = "yield ~ nitro + (1 | Block/Variety)"
    ranef.lmm(smaller, ranef.data.load("Oats")).save("smaller.ranef")
    ranef.data.load("Oats").head(4).drop(columns="yield").to_csv("next_year.csv", index=False)


def with_prompts() -> None:
    rng = np.random.default_rng(1)
    people, prompts = 20, 25
    inertia = np.clip(0.4 + 0.15 * rng.normal(size=people), -0.5, 0.9)
    mood = rng.normal(size=(people, prompts))
    for t in range(1, prompts):
        mood[:, t] += inertia * mood[:, t - 1]
    mood += rng.normal(size=(people, 1))
    who, prompt = np.repeat(np.arange(people), prompts), np.tile(np.arange(prompts), people)
    table = pd.DataFrame({"person": who, "prompt": prompt, "mood": mood.ravel().round(3)})
    table.to_csv("diary.csv", index=False)


def with_genomes() -> None:
    words = ["--n", "90", "--m", "240", "--chromosomes", "3", "--seed", "3", "--quiet"]
    assert main(["gwas", "simulate", "--out", "cohort", *words]) == 0
    people = pd.read_csv("cohort.pheno.tsv", sep="\t")
    people.rename(columns={"trait": "height"}).to_csv("people.tsv", sep="\t", index=False)


def with_a_run() -> None:
    run = mg.simulate(batches=1, patients=4, controls=2, taxa=40, organisms=1.5, rng=6)
    run.samples.drop(columns="total_reads").to_csv("run7.csv", index=False)
    Path("run7").mkdir()
    for sample in run.samples.itertuples():
        own = run.counts[run.counts["sample"] == sample.sample]
        free = sample.total_reads - own["reads"].sum()
        lines = [f"0\t{free}\t{free}\tU\t0\tunclassified"]
        lines += [
            f"0\t{row.reads}\t{row.reads}\tS\t{int(row.taxon[5:])}\t      {row.taxon}"
            for row in own.itertuples()
        ]
        Path("run7", f"{sample.sample}.report").write_text("\n".join(lines) + "\n")


def with_nothing() -> None:
    """The tables are bundled."""


FILES: dict[str, Callable[[], None]] = {
    "command-line": with_files_of_the_command_line,
    "dynamic": with_prompts,
    "generalised": with_nothing,
    "gwas": with_genomes,
    "metagenomics": with_a_run,
}


def test_every_page_with_commands_is_run():
    assert {page.stem for page in DOCS if commands(page)} == set(FILES)
    of_readme, run = commands(ROOT / "README.md"), commands(ROOT / "docs" / "command-line.md")
    assert of_readme
    assert set(of_readme) <= set(run)


@pytest.mark.parametrize("name", FILES)
def test_commands_of_a_page_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    FILES[name]()
    for line in commands(ROOT / "docs" / f"{name}.md"):
        words = [name for word in shlex.split(line)[1:] for name in as_a_shell(word)]
        assert main(words) == 0, line + capsys.readouterr().err
        written = [
            value
            for flag, value in itertools.pairwise(words)
            if flag in ("--report", "--plot", "--table", "--out", "--save", "--persons")
        ]
        assert [value for value in written if not Path(value).stat().st_size] == []


def test_flags_named_on_the_page_of_the_command_line_exist(capsys):
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert len(named) > 20
    fields = [["gwas", "scan"], ["imaging", "group"], ["metagenomics", "screen"]]
    known: set[str] = set()
    for words in [[verb.name] for verb in VERBS] + fields:
        assert main([*words, "--help"]) == 0
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert named <= known
