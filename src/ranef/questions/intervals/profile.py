"""`profile`: how the likelihood falls as one parameter leaves its estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.parameter_tables import interval_listing, parameter_columns
from ranef.display.answer import Answer, Summary
from ranef.display.columns import Column, Listing
from ranef.display.page import MOST_ROWS, SHORT_ROWS, Paragraph
from ranef.display.progress import arriving
from ranef.errors import ConvergenceWarning, ModelError, warn
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, Profiled, offers, require
from ranef.inference.coefficients.parameter_list import ModelParameter, chosen
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.kinds import inference_of
from ranef.models.refitting import at_criterion
from ranef.questions.intervals import profile_numbers as numbers
from ranef.questions.intervals.profile_numbers import Curve, calibrated_reach, normal_reach
from ranef.questions.intervals.profile_picture import ProfilePlots

__all__ = ["Profile", "profile"]

Floats = NDArray[np.float64]

CRITERIA = ("ml", "reml")
DF = ("normal", "satterthwaite")
USUAL = 0.95
WORTH_SAYING = 1e-4


def profile(
    fit: MixedFit,
    parameters: str | Sequence[str] | None = None,
    *,
    conf_level: float = 0.99,
    criterion: str = "ml",
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Profile:
    """Profile the likelihood: hold one parameter, optimise all others, and see how it falls.

    The intervals follow the shape of the likelihood: they need no standard error, are
    not symmetric where it is not, and end at 0 (a standard deviation) or 1 (a
    correlation) where the data do not exclude these.

    Parameters
    ----------
    fit : fit of `lmm`, `glmm` or `dynamic`
    parameters : str or list of str, optional
        ``"fixed"``, ``"variance"``, ``"all"`` (the default), or names: of a coefficient,
        ``"sd: Subject: Days"``, ``"corr: Subject"``, ``"sigma"``; a name that ends earlier
        stands for all that begin with it.
    conf_level : float
        The highest level of intervals that the profile can give.
    criterion : {"ml", "reml"}
        The likelihood, also of a fit by REML (whose model is then fitted by ML first; the
        output says so), or the restricted one, of variance parameters only.
    n_jobs : int, optional
        Threads over the parameters; None for all this process may use.
    progress : bool, optional
        Show a bar; None where a person looks and it takes more than a second.

    Returns
    -------
    Profile
        With ``confint(conf_level)``, ``tidy()`` and ``plot``.

    Raises
    ------
    ranef.errors.ModelError
        A name stands for no parameter; fixed effects are asked for under REML.

    Notes
    -----
    Of the estimate psi_hat the signed root zeta(psi) = sign(psi - psi_hat) sqrt(D(psi) -
    D(psi_hat)), D minus twice the profile log-likelihood, is compared with normal
    quantiles. Points are about 0.5 apart in zeta; between them zeta is a monotone cubic
    spline with exact slopes.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> prof = ranef.profile(fit)
    >>> prof.criterion, prof.refitted
    ('ML', True)
    >>> prof.confint()[["parameter", "estimate", "conf_low", "conf_high"]].round(2)
         parameter  estimate  conf_low  conf_high
    0  coefficient   1527.50   1486.45    1568.55
    1           sd     37.26     12.20      84.06
    2           sd     49.51     38.23      67.66
    """
    level = arguments.conf_level(conf_level)
    reml = arguments.choice("criterion", criterion, CRITERIA) == "reml"
    if offers(fit, Profiled):
        return _of_own(fit, parameters, level, reml, n_jobs, progress)
    require(fit, "profile()", Likelihood)
    if reml and fit.estimate.sigma is None:
        raise ModelError(
            "criterion='reml' is for fits of lmm; profile a generalised model by criterion='ml'"
        )
    places = _places(fit.parameters, parameters, reml)
    at = type(fit)(at_criterion(fit.estimate, reml), fit.frame)
    profiled = tuple(at.parameters[k] for k in places)

    count = len(profiled) + len(numbers.companions(at.inference, profiled))

    def each(curves: Iterable[Curve | None]) -> Iterable[Curve | None]:
        return arriving(curves, count, "profiling", progress, unit=" parameters")

    curves = numbers.profile(at.inference, profiled, level, n_jobs=n_jobs, each=each)
    result = Profile(fit, at.criterion, level, profiled, curves)
    _warn_of_better(result)
    return result


def _of_own(
    fit: Any, parameters: str | Sequence[str] | None, level: float, reml: bool,
    n_jobs: int | None, progress: bool | None,
) -> Profile:  # fmt: skip
    """Profiles of a fit with a likelihood of its own, one parameter after the other."""
    if reml:
        raise ModelError(f"{fit.kind_words} is fitted by ML: profile it by criterion='ml'")
    every = fit.parameters
    profiled = tuple(every[k] for k in _places(every, parameters, False))
    reach = normal_reach(level)

    def curves() -> Iterable[Curve | None]:
        for parameter in profiled:
            own = fit.profile_slice(parameter, n_jobs)
            yield None if own is None else numbers.trace(own, reach)

    found = tuple(arriving(curves(), len(profiled), "profiling", progress, unit=" parameters"))
    result = Profile(fit, "ML", level, profiled, found)
    _warn_of_better(result)
    return result


def _places(
    every: Sequence[ModelParameter], parameters: str | Sequence[str] | None, reml: bool
) -> tuple[int, ...]:
    """Which parameters to profile; under REML the variance parameters."""
    places = chosen(every, "variance" if reml and parameters is None else parameters)
    fixed = [every[k].label for k in places if every[k].fixed]
    if reml and fixed:
        raise ModelError(
            f"the restricted likelihood does not depend on the fixed effects ({fixed[0]} among "
            "those asked for): profile them by criterion='ml', or ask for "
            "parameters='variance'"
        )
    return places


def _warn_of_better(result: Profile) -> None:
    better = [
        (curve.better, parameter.label)
        for parameter, curve in zip(result.parameters, result.curves, strict=True)
        if curve is not None and curve.better > WORTH_SAYING
    ]
    if better:
        gain, label = max(better)
        warn(
            f"along the profile of {label} the deviance falls {gain:.3g} below that of the fit: "
            "the likelihood has a better optimum elsewhere, and these intervals are not to be "
            "trusted. Fit the model again from other starting values (start=)",
            ConvergenceWarning,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Profile(Answer):
    """Profiles of the likelihood of one model; `ranef.profile` makes it.

    Attributes
    ----------
    fit : the fit
    criterion : str
        ``"ML"``, ``"REML"`` or ``"penalised ML"``: what was profiled.
    conf_level : float
        The highest level of its intervals.
    parameters : tuple of ModelParameter
        With the estimates by the criterion profiled.
    curves : tuple of Curve or None
        zeta along each; None where the parameter cannot be profiled.
    """

    fit: MixedFit
    criterion: str
    conf_level: float
    parameters: tuple[ModelParameter, ...]
    curves: tuple[Curve | None, ...]

    @property
    def title(self) -> str:
        return f"Profile of the {self._profiled} ({self.criterion}): {self.fit.formula}"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    def tables(self) -> tuple[Listing, ...]:
        return (self._points(), self.intervals(min(USUAL, self.conf_level)))

    @property
    def refitted(self) -> bool:
        """Whether the fit is by another criterion: zeta is 0 at the estimates of a refit."""
        if offers(self.fit, Profiled):
            return False
        return self.fit.estimate.reml != (self.criterion == "REML")

    @cached_property
    def _student(self) -> Intervals:
        """Degrees of freedom and standard errors of the fixed effects by REML."""
        by_reml = at_criterion(self.fit.estimate, reml=True)
        return inference_of(by_reml).intervals(df="satterthwaite")

    def confint(self, conf_level: float = 0.95, *, df: str = "normal") -> Any:
        """Return the intervals at a level, up to that of the profile.

        Parameters
        ----------
        conf_level : float
        df : {"normal", "satterthwaite"}
            What zeta of a fixed effect is compared with: normal quantiles, as everywhere
            else, or, in a linear model, what Student's t with Satterthwaite's degrees of
            freedom makes of it. The first is too short where few groups tell of a
            coefficient; the second is exact in balanced designs.

        Returns
        -------
        table
            ``component, group, term, term2, parameter, estimate, conf_low, conf_high``; the
            estimates are those by the criterion profiled. NaN where a parameter cannot be
            profiled.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
        >>> limits = ranef.profile(fit, "sd: Batch").confint()
        >>> limits[["estimate", "conf_low", "conf_high"]].round(3)
           estimate  conf_low  conf_high
        0       0.0       0.0      2.084
        """
        return self.tabled(self.intervals(conf_level, df))

    def intervals(self, conf_level: float, df: str = "normal", *, form: str = "all") -> Listing:
        """State the table of `confint`."""
        level = arguments.conf_level(conf_level)
        df = arguments.choice("df", df, DF)
        own = offers(self.fit, Profiled)
        if df != "normal" and (own or self.fit.inference.usual_df == "normal"):
            raise ModelError(
                "a generalised model has no degrees of freedom to calibrate its profile by; "
                "use df='normal'"
            )
        if level > self.conf_level + 1e-12:
            raise ModelError(
                f"the profile reaches intervals of {100 * self.conf_level:g}%; for "
                f"{100 * level:g}% profile with conf_level={level:g}"
            )
        limits = np.array(
            [
                (np.nan, np.nan) if c is None else c.interval(self._reach(p, c, level, df))
                for p, c in zip(self.parameters, self.curves, strict=True)
            ]
        ).reshape(-1, 2)
        values = {
            "estimate": np.array([p.estimate for p in self.parameters]),
            "conf_low": limits[:, 0],
            "conf_high": limits[:, 1],
        }
        caption = f"Profile intervals ({100 * level:g}%)"
        return interval_listing(self.parameters, values, level, caption, form=form)

    def _reach(self, parameter: ModelParameter, curve: Curve, level: float, df: str) -> float:
        """How far zeta goes at a level."""
        if df == "normal" or not parameter.fixed:
            return normal_reach(level)
        k, student = parameter.coefficient, self._student
        reach = calibrated_reach(
            float(student.df[k]), float(student.std_error[k]), curve.slope_at_estimate, level
        )
        needed = 2 * NormalDist().cdf(reach) - 1
        if needed > self.conf_level:
            raise ModelError(
                f"df='satterthwaite' takes the interval of {parameter.label} to where zeta is "
                f"{reach:.2f}, beyond this profile; profile with conf_level={needed + 1e-4:.4f}"
            )
        return reach

    def tidy(self) -> Any:
        """Return the points of the profiles, one row each.

        Returns
        -------
        table
            ``component, group, term, term2, parameter, value, zeta, slope``: `slope` is
            the derivative of zeta along the coordinate that was held, the inverse
            sine of a correlation, the logarithm of a range, else the parameter itself.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> points = ranef.profile(fit, "sigma").tidy()
        >>> points.columns.tolist()
        ['component', 'group', 'term', 'term2', 'parameter', 'value', 'zeta', 'slope']
        """
        return super().tidy()

    def _points(self) -> Listing:
        pairs = [(p, c) for p, c in zip(self.parameters, self.curves, strict=True) if c is not None]
        columns = parameter_columns([p for p, _ in pairs], [len(c.c) for _, c in pairs])
        for name in ("value", "zeta", "slope"):
            parts = [np.asarray(getattr(c, name)) for _, c in pairs]
            columns.append(Column(name, np.concatenate([*parts, np.empty(0)]), printed=False))
        return Listing("points", tuple(columns))

    @property
    def plot(self) -> ProfilePlots:
        """The pictures: ``plot.zeta()`` and ``plot.density()``."""
        return ProfilePlots(self)

    def summary(self, *, conf_level: float = 0.95, short: bool = False) -> Summary:
        """Return the intervals in words and a table.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> print(ranef.profile(fit).summary().page.title)
        Profile of the likelihood (ML): Yield ~ 1 + (1 | Batch)
        """
        level = min(arguments.conf_level(conf_level), self.conf_level)
        most = SHORT_ROWS if arguments.flag("short", short) else MOST_ROWS
        body = (self.intervals(level), Paragraph(self.sentences()))
        return Summary(self.page_of(body, most))

    @property
    def _profiled(self) -> str:
        if self.criterion.startswith("penalised"):
            return "penalised likelihood"
        return "restricted likelihood" if self.criterion == "REML" else "likelihood"

    def sentences(self) -> tuple[str, ...]:
        lines = [
            f"Limits are where the log {self._profiled} has fallen by half the chi-squared "
            "quantile of the level."
        ]
        if self.refitted:
            other = "ML" if self.criterion == "REML" else "REML"
            lines.append(
                f"The fit is by {other}; these profiles, and the estimates in this table, are by "
                f"{self.criterion}."
            )
        left = [p.label for p, c in zip(self.parameters, self.curves, strict=True) if c is None]
        if left:
            lines.append(
                f"Not profiled, since held, undefined at the optimum or a function of several "
                f"parameters: {', '.join(left)}."
            )
        return tuple(lines)
