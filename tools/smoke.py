"""Fit one small model with the installed package: does this build work at all?

Run by continuous integration on every wheel, in an environment that holds
nothing but the wheel and what it depends on.
"""

from __future__ import annotations

import subprocess
import sys

import ranef

#: lme4 2.0, lmer(Reaction ~ Days + (Days | Subject), sleepstudy), REML
LOGLIK = -871.814136


def main() -> None:
    """Fit the sleep study from Python, and ask the command line for its help."""
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    if abs(fit.loglik - LOGLIK) > 1e-6 or not fit.optimum.converged:
        raise SystemExit(f"log-likelihood {fit.loglik:.6f}, expected {LOGLIK}")
    subprocess.run([sys.executable, "-m", "ranef", "--help"], check=True, capture_output=True)
    print(f"ranef {ranef.__version__}: log-likelihood {fit.loglik:.6f}")


if __name__ == "__main__":
    main()
