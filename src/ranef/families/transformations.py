"""Transformations of a response, as steps that are undone one by one.

A step is monotone on the numbers that it is given, so that what it did can be undone
exactly; so is a chain of steps. A mean on the scale of the last step is carried back to the
number whose transformation it is: under symmetric errors the median of the response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import Link

__all__ = ["Step", "Transformation", "affine", "exponential", "fraction", "logarithm", "power"]

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]
Ends = tuple[float, float]

EVERYWHERE: Ends = (-np.inf, np.inf)
POSITIVE: Ends = (0.0, np.inf)
NEGATIVE: Ends = (-np.inf, -0.0)


@dataclass(frozen=True, eq=False)
class Step:
    """One step z = f(x), and x of z.

    Attributes
    ----------
    forward, back : callable
        z of x and x of z.
    first, second : callable
        dx / dz and d^2 x / dz^2 at z.
    domain : pair of float
        Where f is monotone, and takes the numbers it is given.
    extends : bool
        Whether x of z has an analytic form on the whole line, beyond the values of f.
    logarithm : bool
    kinked : bool
        Whether x of z has a point that is not smooth.
    slope, shift : float or None
        Of an affine step.
    """

    forward: Function
    back: Function
    first: Function
    second: Function
    domain: Ends = EVERYWHERE
    extends: bool = True
    logarithm: bool = False
    kinked: bool = False
    slope: float | None = None
    shift: float | None = None

    def image(self, ends: Ends) -> Ends:
        """Values between the values at two ends."""
        low, high = max(ends[0], self.domain[0]), min(ends[1], self.domain[1])
        with np.errstate(all="ignore"):
            values = [float(v) for v in self.forward(np.array([low, high]))]
        return min(values), max(values)


def affine(slope: float, shift: float) -> Step:
    """Z = slope x + shift."""
    return Step(
        lambda x: slope * x + shift,
        lambda z: (z - shift) / slope,
        lambda z: np.full_like(z, 1 / slope),
        np.zeros_like,
        slope=slope,
        shift=shift,
    )


def logarithm() -> Step:
    """Z = log x."""
    return Step(np.log, np.exp, np.exp, np.exp, POSITIVE, logarithm=True)


def exponential() -> Step:
    """Z = exp x."""
    return Step(np.exp, np.log, lambda z: 1 / z, lambda z: -1 / z**2, extends=False)


def power(p: float, negative: bool = False) -> Step:
    """Z = x^p of positive numbers (or 0), of negative ones, or of an odd whole power any."""
    odd = float(p).is_integer() and p % 2 == 1
    if odd and p > 0:
        return Step(
            lambda x: np.sign(x) * np.abs(x) ** p,
            lambda z: np.sign(z) * np.abs(z) ** (1 / p),
            lambda z: np.abs(z) ** (1 / p - 1) / p,
            lambda z: np.sign(z) * np.abs(z) ** (1 / p - 2) * (1 / p - 1) / p,
            extends=p == 1,
            kinked=p != 1,
        )
    if negative:
        sign = -1.0 if odd else 1.0
        there = power(p)
        return Step(
            lambda x: sign * there.forward(-x),
            lambda z: -there.back(sign * z),
            lambda z: -sign * there.first(sign * z),
            lambda z: -there.second(sign * z),
            NEGATIVE,
            extends=False,
        )
    q = 1 / p
    whole = abs(q - round(q)) < 1e-12 and q > 0
    q = float(round(q)) if whole else q
    return Step(
        lambda x: x**p,
        lambda z: z**q,
        lambda z: q * z ** (q - 1),
        lambda z: q * (q - 1) * z ** (q - 2),
        POSITIVE,
        extends=whole,
    )


def cube_root() -> Step:
    """Z = x^(1/3), of negative numbers too."""
    return Step(np.cbrt, lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z)


def fraction(a: float, b: float, c: float, d: float, domain: Ends) -> Step:
    """Z = (a x + b) / (c x + d) on one side of its pole."""
    D = a * d - b * c

    def forward(x: Floats) -> Floats:
        with np.errstate(all="ignore"):
            z = (a * x + b) / (c * x + d)
        return np.where(np.isinf(x), a / c, z)

    def back(z: Floats) -> Floats:
        with np.errstate(all="ignore"):
            x = (d * z - b) / (a - c * z)
        return np.where(np.isinf(z), -d / c, x)

    return Step(
        forward,
        back,
        lambda z: D / (a - c * z) ** 2,
        lambda z: 2 * c * D / (a - c * z) ** 3,
        domain,
        extends=False,
    )


def sine(forward: Function, back: Function, first: Function, second: Function, d: Ends) -> Step:
    """An inverse sine, tangent or their like, as its four functions say."""
    return Step(forward, back, first, second, d, extends=False)


ELEMENTARY: dict[str, Callable[[], tuple[Step, ...]]] = {
    "log": lambda: (logarithm(),),
    "log2": lambda: (logarithm(), affine(1 / np.log(2.0), 0.0)),
    "log10": lambda: (logarithm(), affine(1 / np.log(10.0), 0.0)),
    "log1p": lambda: (
        Step(np.log1p, np.expm1, np.exp, np.exp, (-1.0, np.inf), logarithm=True, shift=1.0),
    ),
    "exp": lambda: (exponential(),),
    "expm1": lambda: (
        Step(np.expm1, np.log1p, lambda z: 1 / (1 + z), lambda z: -1 / (1 + z) ** 2, extends=False),
    ),
    "cbrt": lambda: (cube_root(),),
    "asin": lambda: (sine(np.arcsin, np.sin, np.cos, lambda z: -np.sin(z), (-1.0, 1.0)),),
    "acos": lambda: (
        sine(np.arccos, np.cos, lambda z: -np.sin(z), lambda z: -np.cos(z), (-1.0, 1.0)),
    ),
    "atan": lambda: (
        sine(
            np.arctan,
            np.tan,
            lambda z: 1 / np.cos(z) ** 2,
            lambda z: 2 * np.tan(z) / np.cos(z) ** 2,
            EVERYWHERE,
        ),
    ),
    "sinh": lambda: (
        sine(
            np.sinh,
            np.arcsinh,
            lambda z: 1 / np.sqrt(1 + z**2),
            lambda z: -z / (1 + z**2) ** 1.5,
            EVERYWHERE,
        ),
    ),
    "tanh": lambda: (
        sine(
            np.tanh,
            np.arctanh,
            lambda z: 1 / (1 - z**2),
            lambda z: 2 * z / (1 - z**2) ** 2,
            EVERYWHERE,
        ),
    ),
    "asinh": lambda: (Step(np.arcsinh, np.sinh, np.cosh, np.sinh),),
    "atanh": lambda: (
        Step(
            np.arctanh,
            np.tanh,
            lambda z: 1 / np.cosh(z) ** 2,
            lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2,
            (-1.0, 1.0),
        ),
    ),
    "logit": lambda: (fraction(1.0, 0.0, -1.0, 1.0, (0.0, 1.0)), logarithm()),
}
"""Functions by name that are monotone wherever they are defined, as steps."""


@dataclass(frozen=True, eq=False)
class Transformation(Link):
    """What a formula did to its response, as a link whose means are values of the response.

    Attributes
    ----------
    name : str
        As the formula has it: ``"log(y + 1)"``.
    variable : str
        What is transformed: ``"y"``.
    low, high : float
        Ends of the values that it takes.
    steps : tuple of Step
        From the variable outward.
    logged : str or None
        Where the last step but affine ones is a logarithm: what it is the logarithm of, so
        that differences are logarithms of ratios of that.
    """

    name: str
    variable: str
    low: float
    high: float
    steps: tuple[Step, ...]
    logged: str | None

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def __str__(self) -> str:
        return self.name

    @property
    def rate(self) -> float:
        """What a difference is, over the logarithm of the ratio of what is `logged`."""
        out = 1.0
        for step in reversed(self.steps):
            if step.logarithm:
                break
            out *= step.slope or 1.0
        return out

    @property
    def of_ratios(self) -> bool:
        """Whether a ratio of what is `logged` is one of the variable itself."""
        logs = [k for k, step in enumerate(self.steps) if step.logarithm]
        if self.logged is None or len(logs) != 1 or self.steps[logs[0]].shift:
            return False
        return all(step.shift == 0.0 for step in self.steps[: logs[0]])

    @property
    def positive(self) -> bool:
        """Whether every value carried back is positive, or 0."""
        with np.errstate(all="ignore"):
            ends = self.undone(np.array([self.low, self.high]))
        return bool(np.nanmin(ends) >= 0)

    def undone(self, eta: Floats) -> Floats:
        """Undo the steps, by their analytic form beyond the values that they take."""
        for step in reversed(self.steps):
            eta = step.back(eta)
        return eta

    @property
    def integrable(self) -> bool:
        """Whether it can be undone on the whole line, smoothly, growing no faster than exp."""
        if any(step.kinked for step in self.steps):
            return False
        ends = EVERYWHERE
        for step in reversed(self.steps):
            if not step.extends and not _within(ends, step.image(step.domain)):
                return False
            with np.errstate(all="ignore"):
                values = step.back(np.array([*ends, 0.0 if step.extends else ends[0]]))
            ends = float(np.nanmin(values)), float(np.nanmax(values))
        return sum(step.logarithm for step in self.steps) < 2

    def derivatives(self, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """Value carried back with its first two derivatives."""
        value, first, second = eta, np.ones_like(eta), np.zeros_like(eta)
        for step in reversed(self.steps):
            slope, bend = step.first(value), step.second(value)
            first, second = slope * first, bend * first**2 + slope * second
            value = step.back(value)
        return value, first, second


def _within(inner: Ends, outer: Ends) -> bool:
    return inner[0] >= outer[0] and inner[1] <= outer[1]


def composed(steps: Sequence[Step], name: str, variable: str, logged: str | None) -> Transformation:
    """Put steps after each other, from the variable outward."""
    chain = tuple(steps)
    ends = EVERYWHERE
    for step in chain:
        ends = step.image(ends)
    low, high = ends

    def function(x: Floats) -> Floats:
        for step in chain:
            x = step.forward(x)
        return x

    def derivatives(eta: Floats) -> tuple[Floats, Floats, Floats]:
        eta = np.asarray(eta, dtype=np.float64)
        slack = 1e-12 * np.maximum(1.0, np.abs(eta))
        inside = (eta >= low - slack) & (eta <= high + slack)
        eta = np.where(inside, np.clip(eta, low, high), np.nan)
        with np.errstate(all="ignore"):
            return whole.derivatives(eta)

    whole = Transformation(
        function,
        lambda eta: derivatives(eta)[0],
        lambda eta: derivatives(eta)[1],
        lambda eta: derivatives(eta)[2],
        name,
        variable,
        low,
        high,
        chain,
        logged,
    )
    return whole
