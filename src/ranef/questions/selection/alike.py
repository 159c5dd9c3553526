"""Whether fits may be compared: the same rows, the same response, the same kind of likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError
from ranef.families.links import link_on
from ranef.fits.fit import Fit
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, Refittable, offers
from ranef.fits.same_rows import in_order_of, missing_words, same_rows
from ranef.inference.nested.nesting import same_values
from ranef.models.priors import refuse_penalised
from ranef.questions.selection.rules import COUNTS

__all__ = ["check_likelihoods", "check_rows", "log_jacobian", "of_one_kind"]

Floats = NDArray[np.float64]

FOCUSES = ("population", "individual")


def of_one_kind(fits: Sequence[Fit], names: Sequence[str], focus: str) -> bool:
    """Tell whether the fits have likelihoods; refuse some that have beside some that have not."""
    have = [offers(fit, Likelihood) and offers(fit, Refittable) for fit in fits]
    if all(have):
        return True
    without = names[have.index(False)]
    if any(have):
        beside = names[have.index(True)]
        raise ModelError(
            f"{without} has no likelihood ({fits[have.index(False)].kind_words}) and {beside} "
            "has: no criterion is fair to both. Compare fits of gee by QICu and CIC, and mixed "
            "models by their likelihoods; two_answers() puts what both say side by side"
        )
    for name, fit in zip(names, fits, strict=True):
        if not hasattr(type(fit), "criteria"):
            raise ModelError(
                f"compare() knows criteria of fits of lmm, glmm and gee, and {name} "
                f"({fit.kind_words}) is none of these"
            )
    if focus == "individual":
        raise ModelError(
            f"focus='individual' is about the groups at hand, and {without} "
            f"({fits[0].kind_words}) has no effects of theirs; use focus='population'"
        )
    return False


def check_rows(fits: Sequence[Any], names: Sequence[str], *, jacobian: bool) -> list[Any]:
    """Return the fits, their rows in one order; refuse other rows, responses and weights."""
    first = fits[0]
    if isinstance(first, MixedFit):
        fits = [first, *(in_order_of(first, fit) for fit in fits[1:])]
    base = first.parts["conditional"]
    for name, fit in zip(names[1:], fits[1:], strict=True):
        which, spec = f"{names[0]} and {name}", fit.parts["conditional"]
        if spec.n != base.n or not same_rows(first, fit):
            raise DataError(
                f"{which} use different rows ({base.n:,} and {spec.n:,}"
                f"{missing_words(first)}{missing_words(fit)}), so their criteria cannot be "
                "compared; fit both to the rows that are complete for both"
            )
        if spec.response != base.response:
            if not jacobian:
                raise DataError(
                    f"{which} have different responses ({base.response}, {spec.response}), whose "
                    "densities have different units. If one is a transformation of the other, "
                    "jacobian=True compares both on the scale of the response itself"
                )
        elif not same_values(spec.y, base.y):
            raise DataError(
                f"{which} have other values of {spec.response!r}: the rows differ, or stand in "
                "another order that their labels do not tell; fit both to one table"
            )
        _check_weights(which, first, fit)
    if jacobian:
        _check_original(fits, names)
    return list(fits)


def _check_weights(which: str, first: Any, other: Any) -> None:
    a, b = first.parts["conditional"].weights, other.parts["conditional"].weights
    if not same_values(a, b):
        raise DataError(f"{which} have different weights; give both the same")
    trials = _trials(first), _trials(other)
    if all(t is not None for t in trials) and not same_values(*trials):
        raise DataError(f"{which} have different trials; fit both to the same response")


def _trials(fit: Any) -> Floats | None:
    estimate = getattr(fit, "estimate", None)
    extra: Floats | None = getattr(estimate, "extra", None)
    return extra if fit.family.response == "successes" else None


def _original(fit: Any) -> Floats:
    return np.asarray(link_on(fit.transformation).inverse(fit.parts["conditional"].y))


def _check_original(fits: Sequence[Any], names: Sequence[str]) -> None:
    """Refuse transformations of different numbers."""
    first = _original(fits[0])
    scale = float(np.max(np.abs(first), initial=1e-300))
    for name, fit in zip(names[1:], fits[1:], strict=True):
        if not np.allclose(_original(fit), first, rtol=1e-8, atol=1e-10 * scale):
            raise DataError(
                f"{names[0]} ({fits[0].response}) and {name} ({fit.response}) are not "
                "transformations of the same numbers, so no jacobian makes them comparable"
            )


def log_jacobian(fit: Any) -> float:
    """Sum over the rows of log |d f(y) / dy|: what the log density of y has more than f(y)'s."""
    z = fit.parts["conditional"].y
    return -float(np.sum(np.log(np.abs(link_on(fit.transformation).first(z)))))


def check_likelihoods(fits: Sequence[Any], names: Sequence[str]) -> None:
    """Refuse densities beside probabilities, penalised likelihoods, and other quadratures."""
    for fit in fits:
        refuse_penalised(fit.estimate, "compare()")
    kinds = [_discrete(fit) for fit in fits]
    if len(set(kinds)) > 1:
        a, b = names[kinds.index(False)], names[kinds.index(True)]
        raise ModelError(
            f"{a} gives the response a density ({fits[kinds.index(False)].family.name}) and {b} a "
            f"probability ({fits[kinds.index(True)].family.name}): the one changes with the unit "
            "of the response and the other does not, so they have different constants. "
            "cross_validate() scores both by CRPS or RMSE"
        )
    nodes = {fit.estimate.quadrature for fit in fits if fit.estimate.sigma is None}
    if len(nodes) > 1:
        listed = " and ".join(map(str, sorted(nodes)))
        raise ModelError(
            f"the fits approximate the likelihood by different quadratures ({listed} nodes); fit "
            "all by the same"
        )


def _discrete(fit: Any) -> bool:
    kind = fit.family.response
    return (kind != "numbers" and kind != "interval") or fit.family.name in COUNTS
