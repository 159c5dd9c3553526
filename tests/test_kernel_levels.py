"""Effects of levels that a kernel has and the data have not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError

M, WITH = 30, 18


def relatives(seed: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of rows of some individuals, and the kernel of all of them."""
    rng = np.random.default_rng(seed)
    names = [f"i{k:02d}" for k in range(M)]
    F = rng.normal(size=(M, 40)) / np.sqrt(40)
    K = F @ F.T + 0.2 * np.eye(M)
    u = np.linalg.cholesky(K) @ rng.normal(size=M)
    own = np.repeat(rng.permutation(M)[:WITH], 6)
    x = rng.normal(size=len(own))
    table = pd.DataFrame(
        {
            "y": 1 + 0.5 * x + u[own] + 0.7 * rng.normal(size=len(own)), "x": x,
            "id": [names[k] for k in own], "count": rng.poisson(np.exp(0.5 + 0.5 * u[own])),
        }
    )  # fmt: skip
    return table, pd.DataFrame(K, names, names)


def dense(fit, table: pd.DataFrame, K: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Means, conditional and prediction error sds of all individuals, by the dense model."""
    sd, sigma = fit.tidy("variance")["estimate"]
    Z = np.array([[float(i == k) for k in K.index] for i in table["id"]])
    X = np.column_stack([np.ones(len(table)), table["x"]])
    G = sd**2 * K.to_numpy()
    inverse = np.linalg.inv(Z @ G @ Z.T + sigma**2 * np.eye(len(table)))
    P = inverse - inverse @ X @ np.linalg.inv(X.T @ inverse @ X) @ X.T @ inverse
    mean = G @ Z.T @ P @ table["y"].to_numpy()
    given = np.sqrt(np.diag(G - G @ Z.T @ inverse @ Z @ G))
    error = np.sqrt(np.diag(G - G @ Z.T @ P @ Z @ G))
    return tuple(pd.Series(values, K.index) for values in (mean, given, error))


@pytest.mark.parametrize("by", ["kernel", "inverse"])
def test_they_are_those_of_the_dense_model(by, agree):
    table, K = relatives()
    given = K if by == "kernel" else pd.DataFrame(np.linalg.inv(K), K.index, K.columns)
    term = "kernel(1 | id, K)" if by == "kernel" else "kernel(1 | id, inverse = K)"
    fit = ranef.lmm(f"y ~ x + {term}", table, kernels={"K": given})
    found = fit.tidy("random", kernels={"K": given})
    assert len(found) == M
    assert len(fit.tidy("random")) == WITH
    assert set(found["level"][WITH:]) == set(K.index) - set(table["id"])
    own = found.set_index("level")
    mean, conditional, error = dense(fit, table, K)
    agree(
        f"tidy('random', kernels=), {by}", "effects of individuals without data",
        own["estimate"], mean[own.index], peer="dense algebra", atol=1e-7,
    )  # fmt: skip
    np.testing.assert_allclose(own["cond_sd"], conditional[own.index], rtol=1e-6)
    np.testing.assert_allclose(own["std_error"], error[own.index], rtol=1e-6)


def test_a_pedigree():
    """A calf without a record has the mean of its parents; a founder apart has nothing."""
    family = {
        "id": ["calf", "a", "b", "c", "d", "other"],
        "sire": ["a", None, None, "a", "a", None],
        "dam": ["b", None, None, "b", "b", None],
    }
    A = ranef.pedigree(family, id="id", sire="sire", dam="dam")
    rng = np.random.default_rng(1)
    rows = {"id": list("abcd") * 5, "y": list(rng.normal(size=20) + np.tile([0, 2, 1, 3], 5))}
    fit = ranef.lmm("y ~ 1 + kernel(1 | id, A)", rows, kernels={"A": A})
    own = fit.tidy("random", kernels={"A": A}).set_index("level")
    parents = own["estimate"][["a", "b"]].mean()
    np.testing.assert_allclose(own["estimate"]["calf"], parents, atol=1e-10)
    tau = fit.tidy("variance")["estimate"][0]
    np.testing.assert_allclose(
        own.loc["other", ["estimate", "cond_sd"]].astype(float), [0.0, tau], atol=1e-10
    )


def test_counts():
    table, K = relatives()
    fit = ranef.glmm("count ~ x + kernel(1 | id, K)", table, kernels={"K": K}, family="poisson")
    own = fit.tidy("random", kernels={"K": K}).set_index("level")
    seen = [i for i in own.index if i in set(table["id"])]
    rest = [i for i in own.index if i not in set(table["id"])]
    cross = K.loc[rest, seen].to_numpy()
    A = cross @ np.linalg.inv(K.loc[seen, seen].to_numpy())
    np.testing.assert_allclose(
        own["estimate"][rest], A @ own["estimate"][seen].to_numpy(), atol=1e-10
    )
    tau2 = fit.tidy("variance")["estimate"][0] ** 2
    apart = tau2 * (np.diag(K.loc[rest, rest]) - np.sum(A * cross, axis=1))
    assert (own["cond_sd"][rest] ** 2 > apart).all()
    assert (own["cond_sd"][rest] ** 2 < tau2 * np.diag(K.loc[rest, rest])).all()
    assert (own["std_error"][rest] > own["cond_sd"][rest]).all()


def test_a_singular_kernel():
    """Twins have one effect, whichever has the data."""
    table, K = relatives()
    whole = K.copy()
    first = table["id"].iloc[0]
    whole.loc["twin"] = whole.loc[first]
    whole["twin"] = [*K[first], K.loc[first, first]]
    fit = ranef.lmm("y ~ x + kernel(1 | id, K)", table, kernels={"K": whole})
    own = fit.tidy("random", kernels={"K": whole}).set_index("level")
    numbers = ["estimate", "cond_sd", "std_error"]
    twin, same = (own.loc[level, numbers].astype(float) for level in ("twin", first))
    np.testing.assert_allclose(twin, same, rtol=1e-6)


def test_after_loading(tmp_path):
    table, K = relatives()
    fit = ranef.lmm("y ~ x + kernel(1 | id, K)", table, kernels={"K": K})
    fit.save(tmp_path / "fit")
    again = ranef.load(tmp_path / "fit").tidy("random", kernels={"K": K})
    pd.testing.assert_frame_equal(again, fit.tidy("random", kernels={"K": K}))


def test_what_is_refused():
    table, K = relatives()
    fit = ranef.lmm("y ~ x + kernel(1 | id, K)", table, kernels={"K": K})
    with pytest.raises(ModelError, match="no random term of the model has the kernel 'L'"):
        fit.tidy("random", kernels={"L": K})
    with pytest.raises(ModelError, match="kernels is a mapping"):
        fit.tidy("random", kernels=K.to_numpy())
    with pytest.raises(ModelError, match="effects='random' only"):
        fit.tidy(kernels={"K": K})
    with pytest.raises(DataError, match="is not that of the fit"):
        fit.tidy("random", kernels={"K": 2 * K})
    gone = table["id"].iloc[0]
    with pytest.raises(LevelError, match="has no row for"):
        fit.tidy("random", kernels={"K": K.drop(index=gone, columns=gone)})
    plain = ranef.lmm("y ~ x + (1 | id)", table)
    with pytest.raises(ModelError, match="no random term"):
        plain.tidy("random", kernels={"K": K})
    with pytest.raises(UnknownColumnError):
        ranef.lmm("y ~ x + kernel(1 | id, K)", table)
