"""The kernel's moments with their derivatives, of which expected information is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.problem import GroupProblem

__all__ = ["Moments"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """The kernel's moments and their derivatives, by parameter in the first axis.

    Attributes
    ----------
    W, L : (p, p) and (slopes, p) arrays
    S, m : lists of (d, d) and (d,) arrays, by level
    """

    W: Floats
    L: Floats
    S: list[Floats]
    m: list[Floats]
    dW: Floats
    dB: Floats
    dL: Floats
    dS: list[Floats]
    dm: list[Floats]

    @classmethod
    def of(cls, group: GroupProblem, theta: Floats) -> Moments:
        p, k, s = len(group.y), 1 + len(group.x), len(group.outcomes)
        flat, J = group.parts(theta).flat, group.jacobian(theta).T
        P, at = len(theta), p * p + p * k + s * p

        def cut(first: int, *shape: int) -> tuple[Floats, Floats]:
            last = first + int(np.prod(shape))
            return flat[first:last].reshape(shape), J[:, first:last].reshape(P, *shape)

        (W, dW), (_, dB) = cut(0, p, p), cut(p * p, p, k)
        L, dL = cut(p * p + p * k, s, p)
        S, dS, m, dm = [], [], [], []
        for places in group.places:
            d = len(places)
            one, slope = cut(at, d, d)
            S.append(one)
            dS.append((slope + slope.transpose(0, 2, 1)) / 2)
            one, slope = cut(at + d * d, d)
            m.append(one)
            dm.append(slope)
            at += d * d + d
        return cls(W, L, S, m, (dW + dW.transpose(0, 2, 1)) / 2, dB, dL, dS, dm)
