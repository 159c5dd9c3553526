"""Time `ranef.gee` beside geepack, gee and statsmodels: ``python -m benchmarks.gee``.

Each package fits the same table (logit, exchangeable) in a process of its own, three times; its
least processor time counts. The packages of R are those that Rscript finds; ``--large`` adds
tables of 10^6 and 10^7 rows, for ranef alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = (10_000, 100_000)
LARGE = (1_000_000, 10_000_000)
PER_CLUSTER = 10
TARGETS = {"geepack": 14.0, "statsmodels": 20.0}

TABLE = """
import numpy as np, pandas as pd
def table(n):
    rng, K = np.random.default_rng(1), n // 10
    g = np.repeat(np.arange(K), 10)
    d = pd.DataFrame({"id": g, "t": np.tile(np.arange(10), K), "x": rng.normal(size=n),
                      "z": np.repeat(rng.integers(0, 2, K), 10)})
    eta = -0.5 + 0.3 * d.x + 0.4 * d.z + 0.02 * d.t + rng.normal(size=K)[g]
    d["y"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    return d
"""

RANEF = """
import ranef
def fit(d):
    f = ranef.gee("y ~ x + z + t", d, groups="id", time="t", family="binomial")
    return list(f.coef), list(f.bse)
"""

STATSMODELS = """
import statsmodels.api as sm
def fit(d):
    X = sm.add_constant(d[["x", "z", "t"]].to_numpy(float))
    f = sm.GEE(d.y.to_numpy(), X, groups=d.id.to_numpy(), family=sm.families.Binomial(),
               cov_struct=sm.cov_struct.Exchangeable()).fit()
    return list(f.params), list(f.bse)
"""

TIMED = """
import json, resource, sys, time
d = table(int(sys.argv[1]))
seconds = []
for _ in range(int(sys.argv[2])):
    begin = time.process_time(); answer = fit(d); seconds.append(time.process_time() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": min(seconds), "coef": answer[0], "se": answer[1], "mb": peak}))
"""

IN_R = """
suppressMessages(library(%s)); library(jsonlite)
a <- commandArgs(TRUE); d <- read.csv(a[1]); seconds <- c()
for (i in 1:3) {
  s <- system.time({%s})
  seconds <- c(seconds, s[["user.self"]] + s[["sys.self"]])
}
answer <- list(seconds = min(seconds), coef = unname(coef(f)), se = unname(se))
cat("\\n", toJSON(answer, digits = 10, auto_unbox = TRUE), sep = "")
"""
OF_R = {
    "geepack": "f <- geeglm(y ~ x + z + t, id = id, data = d, family = binomial, "
    'corstr = "exchangeable"); se <- sqrt(diag(vcov(f)))',
    "gee": 'sink("/dev/null"); f <- suppressMessages(gee(y ~ x + z + t, id = id, data = d, '
    'family = binomial, corstr = "exchangeable", silent = TRUE)); sink(); '
    "se <- sqrt(diag(f$robust.variance))",
}


def of_python(text: str, n: int, times: int) -> dict[str, object] | None:
    """Run a package of Python in a process of its own."""
    code = TABLE + text + TIMED
    done = subprocess.run(
        [sys.executable, "-c", code, str(n), str(times)], capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def of_r(package: str, n: int) -> dict[str, object] | None:
    """Run a package of R on the same table, if it is there."""
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "table.csv", Path(folder) / "fit.R"
        exec(TABLE, made := {})
        made["table"](n).to_csv(path, index=False)
        script.write_text(IN_R % (package, OF_R[package]))
        try:
            done = subprocess.run(
                ["Rscript", str(script), str(path)], capture_output=True, text=True
            )
        except FileNotFoundError:
            return None
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gee", description=__doc__)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    print("| rows | clusters | package | CPU s | times ranef | peak MB | coefficients differ by |")
    print("|---|---|---|---|---|---|---|")
    short = []
    for n in (*ROWS, *(LARGE if options.large else ())):
        found = {"ranef": of_python(RANEF, n, 1 if n in LARGE else 5)}
        if n not in LARGE:
            found |= {"statsmodels": of_python(STATSMODELS, n, 3)}
            found |= {package: of_r(package, n) for package in OF_R}
        own = found["ranef"]
        assert own is not None
        for name, one in found.items():
            if one is None:
                continue
            ratio = one["seconds"] / own["seconds"]
            gap = max(abs(a - b) for a, b in zip(one["coef"], own["coef"], strict=True))
            peak = f"{one['mb']:.0f}" if "mb" in one else "-"
            print(
                f"| {n:,} | {n // PER_CLUSTER:,} | {name} | {one['seconds']:.3g} | {ratio:.3g} | "
                f"{peak} | {gap:.1e} |",
                flush=True,
            )
            if n == ROWS[-1] and ratio < TARGETS.get(name, 0.0):
                short.append(f"{name}: {ratio:.1f} of {TARGETS[name]:g}")
    print("\n".join(f"short of its target: {line}" for line in short))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
