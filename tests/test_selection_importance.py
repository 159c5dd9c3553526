"""Importance sampling of the parameters of generalised models, for what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError


def groups(K=40, m=5, seed=1):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(K), m), rng.normal(size=K * m)
    eta = 0.2 + 0.6 * x + 0.9 * rng.normal(size=K)[g]
    table = pd.DataFrame({"g": g, "x": x, "n": rng.poisson(np.exp(0.5 + eta / 2))})
    table["b"] = (rng.random(K * m) < 1 / (1 + np.exp(-eta))).astype(float)
    latent = eta + rng.logistic(size=K * m)
    table["o"] = pd.Categorical(np.digitize(latent, [-1.0, 0.5, 2.0]), ordered=True)
    return table


def logs_on_a_grid(table):
    """log p(y_i | y_-i) and log p(y_g | y_-g) of `b ~ 1 + (1 | g)` under a flat prior."""
    z, w = np.polynomial.hermite_e.hermegauss(40)
    w = w / w.sum()
    beta, theta = np.linspace(-2.5, 3.0, 56), np.linspace(0.0, 5.0, 61)
    y, g = table.b.to_numpy(), table.g.to_numpy()
    K = g.max() + 1
    groups_, rows = np.zeros((56, 61, K)), np.zeros((56, 61, len(y)))
    for i, b in enumerate(beta):
        p = 1 / (1 + np.exp(-(b + theta[:, None] * z)))
        each = np.where(y[:, None, None] > 0, p, 1 - p)  # (n, theta, z)
        for k in range(K):
            own = np.flatnonzero(g == k)
            whole = np.prod(each[own], axis=0)
            groups_[i, :, k] = np.log(whole @ w)
            for r in own:
                others = np.prod(each[own[own != r]], axis=0)
                rows[i, :, r] = np.log(others @ w)
    total = groups_.sum(axis=2)

    def mean(log):
        return np.log(np.sum(np.exp(log - total.max())))

    whole = mean(total)
    by_group = [whole - mean(total - groups_[:, :, k]) for k in range(K)]
    by_row = [whole - mean(total - groups_[:, :, g[r]] + rows[:, :, r]) for r in range(len(y))]
    return np.array(by_group), np.array(by_row)


def test_events_against_integrals_over_all_parameters():
    table = groups(25, 4)
    fit = ranef.glmm("b ~ 1 + (1 | g)", table, family="binomial")
    by_group, by_row = logs_on_a_grid(table)
    found = fit.leave_out("g", method="psis", n=3000)
    np.testing.assert_allclose(found.scored.logs, by_group, atol=0.03)
    assert found.elpd == pytest.approx(by_group.sum(), abs=0.1)
    rows = fit.leave_out(method="psis", n=3000)
    np.testing.assert_allclose(rows.scored.logs, by_row, atol=0.03)
    assert rows.elpd == pytest.approx(by_row.sum(), abs=0.2)
    assert (rows.pareto_k < 0.7).all()
    assert "pareto_k" in rows.tidy()


@pytest.mark.parametrize(
    ("formula", "family"), [("n ~ x + (1 | g)", "poisson"), ("o ~ x + (1 | g)", "cumulative")]
)
def test_groups_are_near_refits(formula, family):
    fit = ranef.glmm(formula, groups(60), family=family)
    found, again = fit.leave_out("g", method="psis", n=1000), fit.leave_out("g", refit=True)
    assert found.elpd == pytest.approx(again.elpd, abs=0.6)
    assert np.corrcoef(found.scored.logs, again.scored.logs)[0, 1] > 0.99
    assert found.elpd < fit.leave_out("g").elpd  # parameters that have not seen the group


def test_sets_within_groups_and_weights():
    table = groups()
    doubled = pd.concat([table, table], ignore_index=True)
    twice = ranef.glmm("n ~ x + (1 | g)", table.assign(w=2.0), family="poisson", weights="w")
    plain = ranef.glmm("n ~ x + (1 | g)", doubled, family="poisson")
    pairs = np.arange(len(table))
    one = twice.leave_out(method="psis", n=1000)
    two = plain.leave_out(np.concatenate([pairs, pairs]), method="psis", n=1000)
    np.testing.assert_allclose(one.scored.logs, two.scored.logs, atol=0.02)


def test_where_it_does_not_hold():
    table = groups()
    flat = ranef.glmm("n ~ x + (1 | g)", table, family="nbinom2")  # counts of Poisson: phi is free
    with pytest.raises(ModelError, match="Pareto shape"):
        flat.leave_out("g", method="psis", n=500)
    table["h"] = np.arange(len(table)) % 7
    both = ranef.glmm("n ~ x + (1 | g) + (1 | h)", table, family="poisson")
    with pytest.raises(ModelError, match="random effects with the rows around it"):
        both.leave_out("g", method="psis")
