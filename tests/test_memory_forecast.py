"""What is forecast is what is taken: the peak of a fit, measured in a process of its own."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np, pandas as pd, ranef
from ranef.solve import assembly, predictors
from ranef.solve.resources import use_lapack

def memory(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

use_lapack()
rng = np.random.default_rng(0)
q = 900
A = rng.normal(size=(q, 40))
names = [f"l{{i}}" for i in range(q)]
K = pd.DataFrame(A @ A.T / 40 + np.eye(q), index=names, columns=names)
table = pd.DataFrame({{"g": names, "h": np.arange(q) % (q // 2), "x": rng.normal(size=q)}})
table["y"], table["c"] = table.x + rng.normal(size=q), rng.poisson(1.0, q)
ranef.lmm("y ~ x + (1 | h)", table[:60].assign(h=np.arange(60) % 7), progress=False)
seen = {{}}

def begin(layout):
    open("/proc/self/clear_refs", "w").write("5")
    seen.update(before=memory("VmRSS"), bytes=layout.bytes)

assembly.check_memory = predictors.check_memory = begin
{fit}
print(seen["bytes"] / (memory("VmHWM") - seen["before"]))
"""

FITS = {
    "lmm, kernel": 'ranef.lmm("y ~ x + kernel(1 | g, K)", table, kernels={"K": K}, progress=False)',
    "glmm, kernel": """ranef.glmm("c ~ x + kernel(1 | g, K)", table, family="poisson",
                                  kernels={"K": K}, progress=False)""",
}
LARGER = """
n = 60_000
large = pd.DataFrame({{"y": rng.normal(size=n), "c": rng.integers(0, 400, n).astype(str),
                      "g": rng.integers(0, 1500, n)}})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", FITS)
def test_the_forecast_of_a_kernel_is_what_is_taken(name):
    # what does not grow with the square of the levels stands beside it
    assert 0.7 < forecast_beside_peak(FITS[name]) < 1.15


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_forecast_of_many_categories_is_what_is_taken():
    """Copies of the rows, and squares of the fixed effects."""
    fit = 'ranef.lmm("y ~ c + (1 | g)", large, progress=False)'
    assert 0.7 < forecast_beside_peak(fit, LARGER) < 1.3


def forecast_beside_peak(fit: str, tables: str = "") -> float:
    code = CODE.replace("seen = {{}}", tables + "seen = {{}}").format(fit=fit)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=600,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)
