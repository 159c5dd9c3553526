"""The newcomer's notebook: it runs, it is short, and its text says what its cells print."""

import json
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="the docs are not part of an installation"
)


def test_from_a_csv_to_an_answer_and_a_figure(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    shutil.copy(FOLDER / "wheeze.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    cells = json.loads((FOLDER / "first-answer.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for source in sources for line in source.splitlines() if line.strip()]
    assert len(lines) == 13, "the notebook says how many"
    pyplot.close("all")
    names: dict[str, object] = {}
    for source in sources:
        exec(source, names)
    figure = pyplot.gcf()
    assert figure.axes[0].get_xlabel() == "age"
    assert (tmp_path / "wheeze.docx").stat().st_size > 10_000
    ranef, fit = names["ranef"], names["fit"]
    answer = ranef.average(fit, "smoke", levels=[0, 1]).tidy().iloc[0]
    assert round(100 * answer.estimate) == 3
    assert (round(100 * answer.conf_low), round(100 * answer.conf_high)) == (-1, 8)
    sd = fit.tidy("variance").estimate[0]
    assert 5 < sd / fit.coef["smoke"] < 6
    assert ranef.check(fit).headline == "No evidence against the model was found."
    pyplot.close("all")
