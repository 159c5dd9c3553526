"""A fit of another kind: it answers the questions that it has what they need for.

A generalised linear model with a covariance of its coefficients that is robust to clusters,
made of what the house offers to every fit. No question knows of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ranef
from ranef import families
from ranef.api.questions import Questions
from ranef.description.model import ModelDescription
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CoefficientLabel
from ranef.models.rows import Rows
from ranef.report import html
from ranef.storage import register
from ranef.tables import Table
from ranef.tables.origin import Origin

Floats = NDArray[np.float64]


class ClusteredDescription(ModelDescription):
    model = "generalised linear model"
    method = "maximum likelihood, with a covariance that is robust to clusters"


@dataclass(frozen=True, eq=False, repr=False)
class ClusteredFit(Questions, Fit):
    specification: Specification
    beta: Floats
    covariance: Floats
    frame: Origin

    file_kind = "clustered"
    kind_words = "a generalised linear model"
    family = families.family("poisson")

    @property
    def parts(self) -> Mapping[str, Specification]:
        return {"conditional": self.specification}

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        names = self.specification.names
        return tuple(CoefficientLabel("conditional", None, name) for name in names)

    @property
    def coefficients(self) -> Floats:
        return self.beta

    @property
    def description(self) -> ClusteredDescription:
        return ClusteredDescription(self)

    def method(self, df: str | None) -> str:
        if df not in (None, "normal"):
            raise ModelError(f"df={df!r}: the tests of this fit are normal")
        return "normal"

    def knowledge(self, df: str | None = None) -> Knowledge:
        self.method(df)
        return Knowledge.normal(self.covariance)

    def values(self, rows: Rows, what: Estimand) -> Values:
        part = rows.parts["conditional"]
        eta = part.X @ self.beta + (0.0 if part.offset is None else part.offset)
        link = "identity" if what.type == "link" else self.family.link
        return Values(eta, part.X, self.knowledge(what.df), link, link, True)


register(ClusteredFit)


def clustered(formula: str, data: Any, cluster: str) -> ClusteredFit:
    spec = specify(formula, data, mixed=False)
    X, y, beta = spec.X, spec.y, np.zeros(spec.p)
    beta[0] = np.log(y.mean())
    for _ in range(50):
        mu = np.exp(X @ beta)
        bread = np.linalg.inv(X.T @ (mu[:, None] * X))
        beta = beta + bread @ X.T @ (y - mu)
    table = Table.of(data)
    codes, levels = table.codes(cluster)
    used = codes if spec.accounting.kept is None else codes[spec.accounting.kept]
    scores = np.zeros((len(levels), spec.p))
    np.add.at(scores, used, (y - mu)[:, None] * X)
    origin = Origin.of(table, spec.accounting, [*spec.recipe.columns, cluster])
    return ClusteredFit(spec, beta, bread @ scores.T @ scores @ bread, origin)


# --- what it answers, from one class and no other line


@pytest.fixture(scope="module")
def fit() -> ClusteredFit:
    return clustered("count ~ mined * cover + spp", ranef.data.load("Salamanders"), "site")


def test_estimates_are_those_of_the_reference(fit):
    """statsmodels 0.15.0, GLM(Poisson), cov_type="cluster", use_correction=False."""
    rows = fit.tidy().set_index("term").loc[["minedno", "minedno:cover"]]
    np.testing.assert_allclose(rows["estimate"], [1.9765273850886, -0.6495430358983], rtol=1e-9)
    np.testing.assert_allclose(rows["std_error"], [0.4215967256665, 0.3890301022165], rtol=1e-8)


def test_means_and_contrasts(fit):
    species = fit.specification.recipe.state["levels of spp"].levels
    rows = {"mined": ["yes"] * 7, "cover": [0.0] * 7, "spp": list(species)}
    means = fit.emmeans("mined", at={"cover": 0.0}, type="link").tidy()
    np.testing.assert_allclose(means.estimate[0], np.mean(fit.predict(rows, type="link")))
    assert (fit.emmeans("mined").tidy().conf_low > 0).all()
    pairs = fit.emmeans("spp", type="link").contrasts("pairwise").tidy()
    assert len(pairs) == 21
    np.testing.assert_allclose(pairs.estimate[0], -fit.coef["sppPR"], rtol=1e-12)
    assert fit.contrasts("mined", "pairwise").tidy().p_value[0] < 1e-4
    assert len(ranef.joint_tests(fit).tidy()) == 4


def test_average_effect_is_the_mean_difference_of_predictions(fit):
    effect = fit.average("mined").tidy()
    rows = ranef.data.load("Salamanders")
    change = fit.predict(rows.assign(mined="no")) - fit.predict(rows.assign(mined="yes"))
    np.testing.assert_allclose(abs(effect.estimate[0]), abs(np.mean(change)), rtol=1e-10)


def test_words_table_and_report(fit):
    assert "rate ratio" in str(fit.summary())
    assert "log(mu[i]) = b0 + b1*minedno[i]" in str(fit.equation())
    assert "robust to clusters" in fit.methods()
    assert "robust to clusters" in str(ranef.table({"robust": fit}))
    mixed = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="poisson"
    )
    assert "mixed" in ranef.table({"robust": fit, "mixed": mixed}).to_markdown()
    page = html(fit)
    sections = [name for name in ("fixed", "means", "random", "optimum") if f'id="{name}"' in page]
    assert sections == ["fixed", "means"]


def test_what_it_has_not_is_refused_in_words(fit):
    for question in ("rank", "shrinkage", "icc", "posterior", "reliability"):
        with pytest.raises(ModelError, match=r"needs random effects; .*linear model.* has none"):
            getattr(ranef, question)(fit)
    for question in ("profile", "bootstrap", "check", "influence", "marginal", "robust", "r2"):
        with pytest.raises(ModelError, match=r"needs .*; this fit \(a generalised linear model\)"):
            getattr(ranef, question)(fit)


def test_it_is_saved_and_comes_back(fit, tmp_path):
    fit.save(tmp_path / "clustered.ranef")
    again = ranef.load(tmp_path / "clustered.ranef")
    assert isinstance(again, ClusteredFit)
    assert str(again) == str(fit)
    assert str(again.emmeans("spp")) == str(fit.emmeans("spp"))
    rows = ranef.data.load("Salamanders").head(3)
    np.testing.assert_array_equal(again.predict(rows), fit.predict(rows))
    pd = pytest.importorskip("pandas")
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fit)).tidy(), fit.tidy())
