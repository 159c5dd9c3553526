"""Standard errors of conditional predictions against glmmTMB's, which count all parameters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reference_cases import peer

import ranef
from ranef.fits.new_rows import read_rows
from ranef.inference.rows import prediction

REFERENCE = json.loads((Path(__file__).parent / "reference" / "prediction.json").read_text("utf-8"))
FORMULAS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "nested": ("strength ~ 1 + (1 | batch) + (1 | batch:cask)", "Pastes"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_glmmtmb(agree, name):
    """glmmTMB 1.1.5 (TMB 1.9.2), ML: the optima agree to 1e-9 in the log-likelihood."""
    known = REFERENCE["cases"][name]
    formula, data = FORMULAS[name]
    table = ranef.data.load(data)
    if name == "slopes":
        table = table.drop(index=table.index[np.array(REFERENCE["dropped"]) - 1])
    fit = ranef.lmm(formula, table, reml=False)
    assert fit.loglik == pytest.approx(known["loglik"], abs=1e-8)
    new = {column: [row[column] for row in known["new"]] for column in known["new"][0]}
    found = fit.predict(new, conf_level=0.95)
    agree("predict(conf_level=...)", f"values and standard errors, {data}, ML",
          found[["estimate", "std_error"]], np.column_stack([known["fit"], known["se"]]),
          peer=peer("glmmTMB", REFERENCE["versions"]), rtol=1e-5)  # fmt: skip
    rows = read_rows(fit, new, "own", weights=True)[0].parts["conditional"]
    given = prediction.predict(fit.estimate, rows, "conditional", conf_level=0.95, known_theta=True)
    assert (given.std_error < found["std_error"]).all()
    assert given.std_error[0] < 0.9999 * known["se"][0]
