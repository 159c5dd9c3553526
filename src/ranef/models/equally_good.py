"""An estimate as good as another, where the criterion is flat in some direction."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from ranef.models.generalised import fit_glmm
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate
from ranef.solve.point import linear_point

__all__ = ["equally_good"]

_KNOWN: WeakKeyDictionary[Estimate, Estimate] = WeakKeyDictionary()


def equally_good(estimate: Estimate) -> Estimate | None:
    """Return another estimate of the same likelihood; None where the data determine all.

    Made once for each estimate, at `Optimum.elsewhere`.
    """
    if estimate.optimum.elsewhere is None:
        return None
    if estimate not in _KNOWN:
        other = _generalised if isinstance(estimate, GeneralisedEstimate) else _linear
        _KNOWN[estimate] = other(estimate)
    return _KNOWN[estimate]


def _linear(estimate: Estimate) -> Estimate:
    assert isinstance(estimate, LinearEstimate)
    theta = estimate.optimum.elsewhere
    assert theta is not None
    point = linear_point(
        estimate.specification, theta, reml=estimate.reml, path=estimate.optimum.path
    )
    sigma2 = point.sigma**2
    return replace(
        estimate,
        coefficients=point.beta,
        coefficient_vcov=sigma2 * point.C,
        theta=theta,
        sigma=point.sigma,
        covariances=tuple(sigma2 * psi for psi in point.covariances),
        modes=point.modes,
        optimum=replace(estimate.optimum, theta=theta, faces=(), elsewhere=None, phi=None),
    )


def _generalised(estimate: Estimate) -> Estimate:
    assert isinstance(estimate, GeneralisedEstimate)
    found = fit_glmm(
        estimate.parts,
        estimate.family,
        extra=estimate.extra,
        quadrature=estimate.quadrature,
        reml=estimate.reml,
        fixed=estimate.fixed,
        equal=estimate.equal,
        sampling=estimate.sampling,
        path=estimate.optimum.path,
        start=estimate.optimum.elsewhere,
    )
    optimum = replace(found.optimum, flat=estimate.optimum.flat, elsewhere=None)
    return replace(found, optimum=optimum)
