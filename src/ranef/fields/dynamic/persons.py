"""Level, inertia and innovation standard deviation of each person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.parameters import phi_of, size_of
from ranef.fields.dynamic.reading import DISPERSION, INERTIA
from ranef.inference.coefficients.wald import quantile

__all__ = ["PersonProcess", "person_processes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PersonProcess:
    """One parameter of every person.

    Attributes
    ----------
    kind : str
        ``"phi"`` or ``"sd"``.
    estimate, std_error, conf_low, conf_high : (N,) float64 arrays
        Mean and standard deviation given the data; the interval is normal on the scale of the
        predictor.
    """

    kind: str
    estimate: Floats
    std_error: Floats
    conf_low: Floats
    conf_high: Floats


def person_processes(estimate: DynamicEstimate, level: float) -> tuple[PersonProcess, ...]:
    """Inertia and innovation sd, at a person's mean of what they depend on."""
    problem, theta, post = estimate.problem, estimate.end.theta, estimate.posterior
    _, _, memory, scale = problem.rows_at(theta)
    reach = float(quantile(level, np.array(np.inf)))
    out = []
    for kind, fixed, Z in ((INERTIA, memory, problem.zp), (DISPERSION, scale, problem.zs)):
        sizes = np.diff(problem.first)
        center = np.add.reduceat(fixed, problem.first[:-1]) / sizes
        z = np.add.reduceat(Z, problem.first[:-1], axis=0) / sizes[:, None]
        eta = center[:, None] + np.einsum("nd,nkd->nk", z, post.v)

        def natural(values: Floats, kind: str = kind) -> Floats:
            return phi_of(estimate.memory, values) if kind == INERTIA else size_of(values)

        mean, spread = _moments(post.share, eta)
        value, error = _moments(post.share, natural(eta))
        out.append(PersonProcess(
            "phi" if kind == INERTIA else "sd", value, error, natural(mean - reach * spread),
            natural(mean + reach * spread),
        ))  # fmt: skip
    return tuple(out)


def _moments(share: Floats, values: Floats) -> tuple[Floats, Floats]:
    mean = (share * values).sum(axis=1)
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)
