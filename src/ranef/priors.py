"""Priors for maximum penalised likelihood.

A prior holds a parameter that a few laboratories or a few machines cannot
estimate alone. The fit maximises the likelihood times the density of the
priors (Chung, Rabe-Hesketh, Dorie, Gelman & Liu 2013, Psychometrika 78, for
standard deviations; Chung, Gelman, Rabe-Hesketh, Liu & Dorie 2015, J. Educ.
Behav. Stat. 40, for covariance matrices).
"""

from __future__ import annotations

from dataclasses import dataclass

from ranef.elsewhere import explained
from ranef.errors import ModelError

__all__ = ["LKJ", "Gamma", "HalfNormal", "HalfT", "Normal", "Prior", "StudentT"]


@dataclass(frozen=True)
class Prior:
    """What all priors have."""

    def core(self) -> tuple[str, float, float, float]:
        """Return kind, location, scale and shape as the core takes them."""
        return ("none", 0.0, 1.0, 1.0)

    def information(self, x: float) -> float:
        """Return minus the second derivative of the log density of a coefficient, at least 0."""
        return 0.0


@dataclass(frozen=True)
class Normal(Prior):
    """Normal prior of a coefficient.

    Attributes
    ----------
    mean : float
    sd : float
        Positive.

    Examples
    --------
    >>> Normal(0, 2.5)
    Normal(mean=0, sd=2.5)
    """

    mean: float = 0.0
    sd: float = 2.5

    def __post_init__(self) -> None:
        finite("Normal", "mean", self.mean)
        positive("Normal", "sd", self.sd)

    def core(self) -> tuple[str, float, float, float]:
        return ("normal", float(self.mean), float(self.sd), 1.0)

    def information(self, x: float) -> float:
        return 1.0 / self.sd**2


@dataclass(frozen=True)
class StudentT(Prior):
    """Student's t prior of a coefficient.

    Attributes
    ----------
    df : float
        1 is Cauchy's.
    mean : float
    scale : float
    """

    df: float = 3.0
    mean: float = 0.0
    scale: float = 2.5

    def __post_init__(self) -> None:
        positive("StudentT", "df", self.df)
        finite("StudentT", "mean", self.mean)
        positive("StudentT", "scale", self.scale)

    def core(self) -> tuple[str, float, float, float]:
        return ("student", float(self.mean), float(self.scale), float(self.df))

    def information(self, x: float) -> float:
        z2 = ((x - self.mean) / self.scale) ** 2 / self.df
        curvature = (self.df + 1) / (self.df * self.scale**2) * (1 - z2) / (1 + z2) ** 2
        return max(curvature, 0.0)


@dataclass(frozen=True)
class HalfNormal(Prior):
    """Normal prior of a standard deviation, on the positive half.

    Attributes
    ----------
    scale : float
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("HalfNormal", "scale", self.scale)

    def core(self) -> tuple[str, float, float, float]:
        return ("normal", 0.0, float(self.scale), 1.0)


@dataclass(frozen=True)
class HalfT(Prior):
    """Student's t prior of a standard deviation, on the positive half (Gelman 2006).

    Attributes
    ----------
    df : float
    scale : float
    """

    df: float = 3.0
    scale: float = 2.5

    def __post_init__(self) -> None:
        positive("HalfT", "df", self.df)
        positive("HalfT", "scale", self.scale)

    def core(self) -> tuple[str, float, float, float]:
        return ("student", 0.0, float(self.scale), float(self.df))


@dataclass(frozen=True)
class Gamma(Prior):
    """Gamma prior of a standard deviation; with shape 2 it keeps it from zero.

    Attributes
    ----------
    shape : float
        At least 1. Shape 2 and a small rate is Chung et al.'s (2013) default.
    rate : float
        One over the unit of the standard deviation.
    """

    shape: float = 2.0
    rate: float = 0.1

    def __post_init__(self) -> None:
        positive("Gamma", "shape", self.shape)
        positive("Gamma", "rate", self.rate)
        if self.shape < 1:
            raise ModelError(
                f"Gamma(shape={self.shape}) has an infinite density at zero, so a penalised fit "
                "would always end there; take a shape of 1 or more"
            )

    def core(self) -> tuple[str, float, float, float]:
        return ("gamma", 0.0, 1.0 / float(self.rate), float(self.shape))


@dataclass(frozen=True)
class LKJ(Prior):
    """Prior of a correlation matrix R with density proportional to ``|R|^(eta - 1)``.

    Lewandowski, Kurowicka & Joe (2009, J. Multivariate Anal. 100).

    Attributes
    ----------
    eta : float
        1 is uniform; above 1 it keeps correlations from plus and minus one.
    """

    eta: float = 2.0

    def __post_init__(self) -> None:
        finite("LKJ", "eta", self.eta)
        if self.eta < 1:
            raise ModelError(
                f"LKJ(eta={self.eta}) has an infinite density at correlations of one, so a "
                "penalised fit would always end there; take an eta of 1 or more"
            )


OF_COEFFICIENTS = (Normal, StudentT)
OF_DEVIATIONS = (HalfNormal, HalfT, Gamma)


def finite(name: str, what: str, value: float) -> None:
    """Refuse what is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{name}: {what} must be a number, not {value!r}")
    if not abs(value) < float("inf"):
        raise ModelError(f"{name}: {what} must be finite, not {value!r}")


def positive(name: str, what: str, value: float) -> None:
    """Refuse what is not a positive number."""
    finite(name, what, value)
    if not value > 0:
        raise ModelError(f"{name}: {what} must be positive, not {value!r}")


for _class in (LKJ, Gamma, HalfNormal, HalfT, Normal, StudentT):
    _class.__init__ = explained(_class.__init__, _class.__name__)  # type: ignore[method-assign]
