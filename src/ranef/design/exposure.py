"""Whether an offset holds exposures themselves, where their logarithms were meant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.design.building import Part
from ranef.design.outcome import Outcome
from ranef.design.specification import Specification
from ranef.errors import DataWarning, warn

__all__ = ["is_raw_exposure", "warn_of_raw_exposure"]

Floats = NDArray[np.float64]

REACH = 1.5
"""Narrower offsets tell an exposure hardly from its logarithm."""
BETTER = 20.0
"""Log-likelihood that the exposure gains over its exponential, in units of the dispersion."""


def warn_of_raw_exposure(part: Part, spec: Specification, outcome: Outcome) -> None:
    """Warn where the offset of a logarithmic link looks like the exposure and not its logarithm."""
    offset = spec.offset
    if offset is None or outcome.family.link != "log" or outcome.extra is not None:
        return
    if not is_raw_exposure(spec.y, offset):
        return
    given = [node.printed for node in part.model.offsets]
    if isinstance(part.offset, str):
        given.append(f"`{part.offset}`" if not part.offset.isidentifier() else part.offset)
    elif part.offset is not None:
        given.append("exposure")
    if len(given) > 1:  # their sum is no column's
        return
    name = given[0] if given else "exposure"
    what = "the offset" if name == "exposure" else f"the offset {name}"
    warn(
        f"{what} is added to the logarithm of the mean, and its values, {offset.min():.4g} to "
        f"{offset.max():.4g}, look like exposures, which are to be given as their logarithm: "
        f"offset(log({name})) in the formula",
        DataWarning,
    )


def is_raw_exposure(y: Floats, offset: Floats) -> bool:
    r"""Tell whether counts are in proportion to an offset rather than to its exponential.

    Poisson log-likelihoods of one rate, :math:`\mu_i = c\,o_i` beside :math:`c\,e^{o_i}` and
    beside a constant mean.

    Examples
    --------
    >>> import numpy as np
    >>> hours = np.linspace(1.0, 40.0, 30)
    >>> is_raw_exposure(np.round(2 * hours), hours)
    True
    >>> is_raw_exposure(np.round(2 * hours), np.log(hours))
    False
    """
    if not (len(y) and np.all(offset > 0) and np.all(y >= 0) and np.ptp(offset) > REACH):
        return False
    total = float(y.sum())
    if total <= 0:
        return False
    logs = {"raw": np.log(offset), "exponential": offset, "constant": np.zeros_like(offset)}
    gained = {
        name: float(y @ log) - total * float(np.logaddexp.reduce(log)) for name, log in logs.items()
    }
    mean = total * offset / offset.sum()
    dispersion = max(1.0, float(np.mean((y - mean) ** 2 / mean)))
    return (
        gained["raw"] - gained["exponential"] > BETTER * dispersion
        and gained["raw"] > gained["constant"]
    )
