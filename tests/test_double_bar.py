"""Double bars with a factor: what they stand for, whatever the reference level.

lme4 writes `(f || g)` out as `(1 | g) + (0 + f | g)` (its help page of `lmer`; issues #229 and
#453), and so do the docs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef

# the written-out model has a variance too many, which the fit says, as of the long form
pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.RankWarning")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(7)
    g, f = np.repeat(np.arange(20), 15), np.tile(np.arange(3), 100)
    U = rng.normal(size=(20, 3)) + rng.normal(size=(20, 1))
    x = rng.normal(size=300)
    return pd.DataFrame(
        {
            "g": g, "h": g // 4, "f": np.array(list("abc"))[f], "x": x,
            "y": U[g, f] + 0.3 * rng.normal(size=20)[g] * x + rng.normal(size=300),
        }
    ).assign(count=lambda d: rng.poisson(np.exp(d["y"] / 3)))  # fmt: skip


SAME = {
    "(f || g)": "(1 | g) + (0 + f | g)",
    "(0 + f || g)": "(0 + f | g)",
    "(x + f || g)": "(1 | g) + (0 + x | g) + (0 + f | g)",
    "(f:x || g)": "(1 | g) + (0 + f:x | g)",
    "(f || h/g)": "(1 | g:h) + (0 + f | g:h) + (1 | h) + (0 + f | h)",
}


@pytest.mark.parametrize("double", SAME)
def test_written_out(table, double, agree):
    one = ranef.lmm(f"y ~ f + {double}", table, reml=False)
    other = ranef.lmm(f"y ~ f + {SAME[double]}", table, reml=False)
    agree("ranef.lmm", f"log-likelihood of {double}, simulated", one.loglik, other.loglik,
          peer=f"its terms, {SAME[double]}", atol=1e-7)  # fmt: skip
    assert [t.label for t in one.terms] == [t.label for t in other.terms]
    assert f"stands for {SAME[double].split(' + (1 | h)')[0]}" in str(one).replace("\n", " ")


@pytest.mark.parametrize("fit", [
    lambda formula, data: ranef.lmm("y ~ " + formula, data, reml=False),
    lambda formula, data: ranef.glmm("count ~ " + formula, data, family="poisson"),
])  # fmt: skip
@pytest.mark.parametrize("bar", ["(f || g)", "(x + f || g)", "diag(0 + f | g)"])
def test_the_reference_level_does_not_matter(table, fit, bar):
    one = fit(f"f + {bar}", table)
    relevelled = bar.replace("f", "relevel(f, 'c')")
    other = fit(f"f + {relevelled}", table)
    assert one.loglik == pytest.approx(other.loglik, rel=0, abs=1e-5)


def test_numbers_are_separated_as_ever(table):
    one = ranef.lmm("y ~ x + (x || g)", table)
    assert [t.label for t in one.terms] == ["1 | g", "0 + x | g"]
    assert "stands for" not in str(one)


def test_new_rows_and_files(table, tmp_path):
    one = ranef.lmm("y ~ f + (x + f || g)", table)
    other = ranef.lmm("y ~ f + (1 | g) + (0 + x | g) + (0 + f | g)", table)
    new = table.iloc[[3, 40, 200]].assign(f=["c", "a", "b"])
    np.testing.assert_allclose(one.predict(new), other.predict(new), atol=1e-4)
    one.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    np.testing.assert_array_equal(again.predict(new), one.predict(new))
    assert str(again) == str(one)
