"""Funnels that lean: Egger's test, and trim and fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Degrees, Fixed, Label, Listing, PValue, Sized
from ranef.display.numbers import count, number
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import Intervals, wald
from ranef.questions.synthesis.asked import independent, spread_of
from ranef.questions.synthesis.numbers import Filled, egger_line, fill, lean
from ranef.solve.synthesis.between import between
from ranef.solve.synthesis.studies import Studies

__all__ = ["FunnelAsymmetry", "TrimAndFill", "egger", "trim_and_fill"]

Floats = NDArray[np.float64]

MODELS = ("linear", "mixed")
SIDES = ("left", "right")
ESTIMATORS = ("L0", "R0", "Q0")
FEW = 10


@dataclass(frozen=True, eq=False, repr=False)
class FunnelAsymmetry(Answer):
    """Whether small studies have other effects; `ranef.egger` makes it.

    Attributes
    ----------
    found : Intervals
        Of the slope on the standard error, and of the effect where that is zero.
    model : str
    n : int
    title, library : str
    """

    found: Intervals
    model: str
    n: int
    title: str
    library: str

    @property
    def statistic(self) -> float:
        """Of the slope."""
        return float(self.found.statistic[0])

    @property
    def df(self) -> float:
        """Its degrees of freedom; infinite for a normal test."""
        return float(self.found.df[0])

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return float(self.found.p_value[0])

    def tables(self) -> tuple[Listing, ...]:
        found, sized = self.found, Sized(self.found.std_error)
        columns = (
            Column("term", ["slope on the standard error", "effect at standard error 0"], Label()),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized),
            Column("df", found.df, Degrees(), printed=bool(np.isfinite(found.df).all())),
            Column("statistic", found.statistic, Fixed(2)),
            Column("p_value", found.p_value, PValue(), "p"),
            Column("conf_low", found.conf_low, sized, "95% low"),
            Column("conf_high", found.conf_high, sized, "95% high"),
        )
        return (Listing("asymmetry", columns, "Effects against their standard errors"),)

    def sentences(self) -> tuple[str, ...]:
        lines = [
            "Weights 1 / v, with the spread around the line estimated (Egger et al. 1997)."
            if self.model == "linear"
            else "The standard error among the moderators of the model (Sterne & Egger 2005)."
        ]
        lines.append(
            "A slope says that small studies differ: studies that were not published, their "
            "quality, or chance."
        )
        if self.n < FEW:
            lines.append(f"With {self.n} studies the test has little power.")
        return tuple(lines)


def egger(fit: Any, *, model: str = "linear") -> FunnelAsymmetry:
    """Test whether effects depend on their standard errors: asymmetry of the funnel.

    Parameters
    ----------
    fit : MetaModelFit
        Of independent studies.
    model : {"linear", "mixed"}
        Egger's weighted regression on the standard error, of all effects around one mean; or the
        standard error among the moderators of the fit, with its estimator of tau^2 and its tests.

    Returns
    -------
    FunnelAsymmetry
        With ``statistic``, ``df``, ``p_value``, ``tidy()``.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> found = ranef.meta("yi ~ 1", bcg, variance="vi").egger()
    >>> round(found.statistic, 3), found.df, round(found.p_value, 3)
    (-1.401, 11.0, 0.189)
    """
    estimate = independent(fit, "egger()")
    kind = arguments.choice("model", model, MODELS)
    studies = estimate.model.data
    taken = studies.p if kind == "mixed" else 1
    if studies.n < taken + 2:
        raise ModelError(f"egger() needs {taken + 2} studies or more; there are {studies.n}")
    if np.ptp(studies.v) < 1e-12 * studies.v.max():
        raise ModelError("all standard errors are equal: there is no funnel whose shape could lean")
    line = egger_line(studies) if kind == "linear" else lean(
        studies, estimate.model.method, *spread_of(fit)
    )  # fmt: skip
    found = wald(
        np.array([line.slope, line.limit]), np.array([line.slope_error, line.limit_error]),
        np.full(2, line.df), 0.95,
    )  # fmt: skip
    return FunnelAsymmetry(
        found, kind, studies.n, f"Asymmetry of the funnel: {fit.formula}", fit.frame.library
    )


@dataclass(frozen=True, eq=False, repr=False)
class TrimAndFill(Answer):
    """The mean effect with the studies that a symmetric funnel has more.

    Attributes
    ----------
    filled : Filled
    before, after : Intervals
        The mean effect of the studies, and with those filled in.
    tau2 : float
        With those filled in.
    studies : Studies
    estimator, title, library : str
    """

    filled: Filled
    before: Intervals
    after: Intervals
    tau2: float
    studies: Studies
    estimator: str
    title: str
    library: str

    @property
    def n_missing(self) -> int:
        """How many studies are filled in."""
        return self.filled.missing

    @property
    def side(self) -> str:
        """On which side they are missing."""
        return self.filled.side

    def tables(self) -> tuple[Listing, ...]:
        pairs = [(getattr(self.before, n), getattr(self.after, n)) for n in vars(self.before)]
        found = Intervals(*(np.concatenate(pair) for pair in pairs))
        sized = Sized(found.std_error)
        columns = (
            Column("studies", ["observed", "filled"], Label(), ""),
            Column("n", [self.studies.n, self.studies.n + self.n_missing], Fixed(0)),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized),
            Column("df", found.df, Degrees(), printed=bool(np.isfinite(found.df).all())),
            Column("p_value", found.p_value, PValue(), "p"),
            Column("conf_low", found.conf_low, sized, "95% low"),
            Column("conf_high", found.conf_high, sized, "95% high"),
        )
        return (Listing("filled", columns, "The mean effect"),)

    def sentences(self) -> tuple[str, ...]:
        error = number(self.filled.missing_error, 2)
        number_of = count(self.n_missing, "study", "studies")
        lines = [
            f"Missing on the {self.side}: {number_of} (standard error {error}, "
            f"estimator {self.estimator}).",
            "A sensitivity analysis: how much the mean could depend on unpublished studies, not a "
            "corrected estimate.",
        ]
        if not self.filled.settled:
            lines.append("The number of missing studies did not converge; it alternates.")
        return tuple(lines)


def trim_and_fill(fit: Any, *, side: str | None = None, estimator: str = "L0") -> TrimAndFill:
    """Fill in the studies that a symmetric funnel would have more (Duval & Tweedie 2000).

    Parameters
    ----------
    fit : MetaModelFit
        Of independent studies around one mean.
    side : {"left", "right"}, optional
        Where studies may be missing; by default where the slope on the standard error says.
    estimator : {"L0", "R0", "Q0"}
        Of their number.

    Returns
    -------
    TrimAndFill
        With ``n_missing``, ``side``, ``tidy()``.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> filled = ranef.meta("yi ~ 1", bcg, variance="vi").trim_and_fill()
    >>> filled.n_missing, filled.side
    (1, 'right')
    """
    estimate = independent(fit, "trim_and_fill()")
    name = arguments.choice("estimator", estimator, ESTIMATORS)
    studies = estimate.model.data
    if estimate.specification.names != ("(Intercept)",):
        raise ModelError("trim_and_fill() is of one mean effect: fit without moderators")
    if studies.n < 3:
        raise ModelError(f"trim_and_fill() needs 3 studies or more; there are {studies.n}")
    if side is None:
        line = lean(studies, estimate.model.method, scaled=False)
        side = "right" if line.slope < 0 else "left"
    found = fill(studies, estimate.model.method, arguments.choice("side", side, SIDES), name)
    y, v = np.append(studies.y, found.y), np.append(studies.v, found.v)
    more = Studies(y, v, np.ones((len(y), 1)))
    tau2 = between(more, estimate.model.method).tau2
    after = _mean(fit, more, tau2)
    return TrimAndFill(
        found, fit.hypotheses(), after, tau2, studies, name,
        f"Trim and fill: {fit.formula}", fit.frame.library,
    )  # fmt: skip


def _mean(fit: Any, studies: Studies, tau2: float) -> Intervals:
    """The mean effect of studies, by the tests of the fit."""
    at = studies.at(tau2)
    scaled, conservative = spread_of(fit)
    factor = at.q / studies.df if scaled else 1.0
    if conservative:
        factor = max(1.0, factor)
    normal = fit.method(None) == "normal"
    df = np.array([np.inf if normal else float(studies.df)])
    return wald(at.beta, np.sqrt(factor * np.diag(at.bread)), df, 0.95)
