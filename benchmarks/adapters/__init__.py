"""How each package fits a problem, one file each.

A Python adapter has ``MODULE`` (what is imported), ``DISTRIBUTION`` (whose
version is reported), ``prepare(table, problem)`` (what a user of the package
would already hold: the table; raises `Unsupported` with the reason),
``fit(table, problem)`` (the whole call, returns the package's own result) and
``read(result)`` (an `Answer`). ``refit(result, table, problem, responses)``,
where the package can, fits the model to every column of an array;
``degrees(result, method)`` gives the degrees of freedom of every coefficient.
Packages of R have the same in R: ``peer.R`` reads the orders, a file a package fits.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALL",
    "IN_R",
    "Answer",
    "Unsupported",
]

ALL = ("ranef", "lme4", "nlme", "glmmTMB", "ordinal", "glmm", "mixedlm", "statsmodels", "gpboost")
IN_R = ("lme4", "nlme", "glmmTMB", "ordinal")


class Unsupported(Exception):
    """The package has no way to fit this model."""


@dataclass(frozen=True)
class Answer:
    """What a fit reports.

    Attributes
    ----------
    loglik : float
        Log-likelihood of the criterion asked for.
    evaluations : int or None
        Evaluations of the criterion; None where the package does not count.
    converged : bool or None
        What the package itself says.
    """

    loglik: float
    evaluations: int | None
    converged: bool | None
