"""Pictures say what they hold, and exist where a time or a position stands in a random term."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import ranef


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    out = pd.DataFrame({"id": np.repeat(np.arange(20), 6), "time": np.tile(np.arange(6), 20)})
    out["x"], out["w"] = rng.normal(size=(2, 120))
    out["arm"] = np.where(out["id"] < 15, "usual", "new")
    out["y"] = out["x"] + rng.normal(size=20)[out["id"]] + rng.normal(size=120)
    return out.drop(index=[0, 7, 8, 33, 90])


@pytest.mark.parametrize("term", ["ar1(0 + factor(time) | id)", "ou(time | id)"])
@pytest.mark.parametrize("x", ["x", "time"])
def test_predictions_along_and_at_times(data, term, x):
    """A mean of times is no time that the fit knows."""
    fit = ranef.lmm(f"y ~ x + time + {term}", data)
    ax = fit.plot.predictions(x)
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
    assert len(lines) >= 20
    assert all(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).all() for line in lines)


def test_contrasts_have_a_picture(data):
    fit = ranef.lmm("y ~ x * arm + (1 | id)", data)
    found = ranef.contrasts(fit, "arm | x", at={"x": [-1, 1]})
    panels = found.plot()
    assert [ax.get_title(loc="left") for ax in panels] == ["x: -1", "x: 1"]
    assert panels[0].get_yticklabels()[0].get_text() == "new - usual"
    points = [line for line in panels[1].get_lines() if line.get_marker() == "o"]
    assert points[0].get_xdata()[0] == found.tidy()["estimate"][1]
    assert panels[0].get_xlim()[0] < 0 < panels[0].get_xlim()[1]


def test_the_picture_names_what_the_line_is_held_at(data):
    fit = ranef.lmm("y ~ x * arm + w + (1 | id)", data)
    ax = fit.plot.predictions("x")
    mean = f"{data['w'].mean():.4g}"
    assert ax.get_xlabel() == "x"
    assert f"Population at arm = usual, w = {mean}." in [t.get_text() for t in ax.texts]
    panels = fit.plot.predictions("x", by="arm")
    assert all("arm" not in t.get_text() for t in panels[0].texts)
    assert not ranef.lmm("y ~ x + (1 | id)", data).plot.predictions().texts


def test_a_predictor_that_is_also_a_group_is_named():
    oats = ranef.data.load("Oats")
    ax = ranef.lmm("yield ~ Variety * nitro + (1 | Block/Variety)", oats).plot.predictions("nitro")
    assert [t.get_text() for t in ax.texts] == ["Population at Variety = Golden Rain."]
