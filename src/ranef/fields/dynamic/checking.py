"""A dynamic model criticised: what is new at each prompt, and the persons' effects.

Of every person one draw of the effects given the data is taken, and the innovations that it
leaves: these are independent and standard normal if the model holds, and so are the effects
themselves, L^-1 (v, b).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, MUTED, label, normal_order_statistics, on_figure
from ranef.display.numbers import number
from ranef.errors import ModelError
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.forecasting import ahead
from ranef.fields.dynamic.problem import Posterior
from ranef.fields.dynamic.targets import own_targets
from ranef.questions.checks.check_answer import Check
from ranef.questions.checks.findings import NOTE, Candidate, judged
from ranef.questions.checks.residual_tests import autocorrelation, trend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DynamicCheck", "Innovations", "dynamic_check", "innovations"]

Floats = NDArray[np.float64]
APART, EFFECTS_APART = 0.03, 0.15
"""Greatest distance of two distribution functions that does not matter."""
LEFT, BENT = 0.05, 0.1
"""A correlation of neighbours, or with a predictor, that does not matter."""
ENOUGH = 20
"""Persons from which the distribution of effects can be told."""


@dataclass(frozen=True, eq=False)
class Innovations:
    """What is new at each prompt, at one draw of the effects given the data.

    Attributes
    ----------
    z : (n,) float64 array
        Standardised, in the order of the problem; NaN where a first row is conditioned on.
    mean : (n,) float64 array
        Of each row given the one before.
    names : tuple of str
        Effects that vary.
    u : (N, r) float64 array
        These effects of persons, standardised and uncorrelated.
    """

    z: Floats
    mean: Floats
    names: tuple[str, ...]
    u: Floats


def innovations(estimate: DynamicEstimate, rng: np.random.Generator) -> Innovations:
    """Draw the effects once and take out what they explain."""
    problem, theta, layout = estimate.problem, estimate.end.theta, estimate.layout
    v, b = _drawn(estimate.posterior, rng)
    known = Posterior(
        np.ones((len(v), 1)), v[:, None], b[:, None], np.zeros((len(b), 1, b.shape[1], b.shape[1]))
    )
    found = ahead(problem, theta, known, own_targets(estimate).rows)
    mean = found.mean[:, 0]
    z = (problem.y - mean) / np.sqrt(found.noise[:, 0])
    if estimate.given_starts:
        z[problem.gap == 0] = np.nan
    L = layout.factor(theta)
    kept = np.flatnonzero(np.abs(np.diag(L)) > 1e-3 * np.linalg.norm(L, axis=1))
    u = np.linalg.solve(L[np.ix_(kept, kept)], np.hstack([v, b])[:, kept].T).T
    names = tuple(_name(layout.effects[k]) for k in kept.tolist())
    return Innovations(z, mean, names, np.asarray(u))


def _name(effect: Any) -> str:
    return effect.name if effect.part == "conditional" else f"{effect.part}: {effect.name}"


def _drawn(post: Posterior, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """One draw of the effects of each person."""
    N, K = post.share.shape
    upto = np.cumsum(post.share, axis=1)
    u = np.asarray(rng.random(N))
    pick = (u[:, None] * upto[:, -1:] > upto).sum(axis=1).clip(0, K - 1)
    every = np.arange(N)
    mean, C = post.mean[every, pick], post.covariance[every, pick]
    values, vectors = np.linalg.eigh(C)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    noise = np.einsum("nij,nj->ni", root, rng.standard_normal(mean.shape))
    return post.v[every, pick], mean + noise


def dynamic_check(fit: Any, alpha: float, rng: np.random.Generator) -> DynamicCheck:
    """Criticise a dynamic model."""
    found = innovations(fit.estimate, rng)
    candidates = [
        *_search(fit), *_amount(fit), _normal(found), _outliers(found),
        *(_left(fit, found, apart, rng) for apart in (1, 2)), _level(found),
        *_predictors(fit, found), *_effects(fit, found),
    ]  # fmt: skip
    return DynamicCheck(judged(candidates, alpha), fit, None, {}, alpha, True, found)


def _search(fit: Any) -> list[Candidate]:
    end = fit.optimum
    return [
        Candidate(
            "optimum", "The optimum is proved.", "The optimum is not proved.",
            "Simplify the random effects of inertia and dispersion.", end.decrement,
            matters=not end.converged,
        ),
        Candidate(
            "quadrature", "The quadrature has settled.",
            f"Four more points change the log-likelihood by {end.quadrature_error:.2g}.",
            f"Fit with more than {end.points} points, quadrature=.", end.quadrature_error,
            matters=not abs(end.quadrature_error) < 1e-3,
        ),
        Candidate(
            "singularity", "The covariance matrix of the effects has full rank.",
            "Effects of persons are zero or linearly dependent: the data ask for fewer of them.",
            "Compare with a model without one of them, fit.anova(other).", float(end.singular),
            matters=end.singular, verdict=NOTE,
        ),
    ]  # fmt: skip


def _amount(fit: Any) -> list[Candidate]:
    sizes = np.diff(fit.estimate.problem.first)
    said = {"prompts": "fewer than", "persons": "persons are few"}
    doubts = {what: "".join(d for d in fit.doubts() if text in d) for what, text in said.items()}
    values = {"prompts": float(np.median(sizes)), "persons": float(len(sizes))}
    return [
        Candidate(
            f"number of {what}", f"There are enough {what}.",
            f"{doubts[what][:1].upper()}{doubts[what][1:]}.",
            "Read intervals of variances by confint('bootstrap').", values[what],
            matters=bool(doubts[what]), verdict=NOTE,
        )
        for what in said
    ]  # fmt: skip


def _normal(found: Innovations) -> Candidate:
    from scipy.stats import kstest

    z = found.z[np.isfinite(found.z)]
    test = kstest(z, "norm", method="exact" if len(z) <= 10_000 else "asymp")
    return Candidate(
        "innovations", "What is new at each prompt is normally distributed.",
        f"What is new at each prompt is not normal: its distribution is {test.statistic:.3f} "
        "from the normal one at most.",
        "Look for answers at the ends of the scale, and at fit.plot.qq().",
        float(test.statistic), float(test.pvalue), matters=test.statistic > APART,
    )  # fmt: skip


def _outliers(found: Innovations) -> Candidate:
    from scipy.special import ndtr

    z = np.abs(found.z[np.isfinite(found.z)])
    most = float(z.max())
    p = float(-np.expm1(len(z) * np.log1p(-2 * ndtr(-most))))
    return Candidate(
        "outliers", "No prompt is further off than chance allows.",
        f"One prompt is {most:.1f} standard deviations from what was to be expected.",
        "Look at that row: fit.augment() has all residuals.", most, p, matters=True,
        after=("innovations",),
    )  # fmt: skip


def _left(fit: Any, found: Innovations, apart: int, rng: np.random.Generator) -> Candidate:
    """Rows of a series one or two apart: what the process leaves of memory."""
    from scipy.special import ndtr

    problem = fit.estimate.problem
    begins = problem.gap == 0
    seen = np.isfinite(found.z)
    place = np.arange(len(begins))
    since = place - np.maximum.accumulate(np.where(begins, place, 0))
    series = (apart * np.cumsum(begins) + since % apart)[seen]
    what = {1: "Neighbouring innovations", 2: "Innovations of every second prompt"}[apart]
    uniform = np.clip(ndtr(found.z[seen]), 1e-15, 1 - 1e-15)
    try:
        test = autocorrelation(uniform, place[seen].astype(np.float64), series, rng)
        r, p = test.statistic, test.p_value
    except ModelError:  # no series has two such rows
        r, p = 0.0, np.nan
    return Candidate(
        "memory" if apart == 1 else "memory of two prompts",
        "One-step prediction errors are uncorrelated over time.",
        f"{what} correlate {number(r, 2)}: the memory is not that of a first-order process.",
        "Consider a trend or the time of day in formula=, and measurement error.",
        r, p, matters=abs(r) > LEFT,
    )  # fmt: skip


def _trend(found: Innovations, x: Floats, what: str, name: str) -> Candidate:
    from scipy.special import ndtr

    seen = np.isfinite(found.z)
    test = trend(x[seen], ndtr(found.z[seen]), name)
    return Candidate(
        what, f"Innovations do not depend on {name}.",
        f"Location or spread of the innovations depends on {name}.",
        "Add a curve of it to formula=, or the predictor to dispersion=.",
        test.statistic, test.p_value, matters=test.statistic > BENT,
    )  # fmt: skip


def _level(found: Innovations) -> Candidate:
    return _trend(found, found.mean, "level", "the level")


def _predictors(fit: Any, found: Innovations) -> list[Candidate]:
    """Each column of the formula of the level, and the time."""
    problem, names = fit.estimate.problem, fit.estimate.layout.names["conditional"]
    residual = fit.estimate.specification.residual
    times = np.asarray(residual.parts[0].where, dtype=np.float64).reshape(-1)
    columns = {
        name: x for name, x in zip(names, problem.X["conditional"].T, strict=True)
        if name != "(Intercept)"
    }  # fmt: skip
    columns["time"] = times[fit.estimate.ordered.order]
    return [_trend(found, x, f"trend: {name}", name) for name, x in columns.items()]


def _effects(fit: Any, found: Innovations) -> list[Candidate]:
    from scipy.stats import kstest

    if len(found.u) < ENOUGH:
        return []
    out = []
    for name, u in zip(found.names, found.u.T, strict=True):
        test = kstest(u, "norm")
        out.append(Candidate(
            f"effects of persons: {name}", "Effects of persons are normally distributed.",
            f"The effects of persons ({name}) are not normally distributed.",
            "Look for groups of persons, and at fit.plot.qq('random').",
            float(test.statistic), float(test.pvalue), matters=test.statistic > EFFECTS_APART,
        ))  # fmt: skip
    return out


@dataclass(frozen=True, eq=False, repr=False)
class DynamicCheck(Check):
    """A dynamic model criticised; `check` makes it."""

    found: Innovations

    def plot(self, *, figure: Figure | None = None) -> NDArray[np.object_]:
        """Draw innovations against their means, and their normal quantiles."""
        z, mean = self._seen()
        axes: NDArray[np.object_] = on_figure(figure, 10.0, 4.4).subplots(1, 2).ravel()
        axes[0].plot(mean, z, ".", color=MUTED, alpha=0.5, markersize=3)
        axes[0].axhline(0, color=ACCENT, linewidth=1.2)
        label(axes[0], title="What is new at each prompt", x="Expected", y="Innovation")
        expected, _, _ = normal_order_statistics(len(z))
        axes[1].plot(expected, np.sort(z), ".", color=MUTED, markersize=3)
        axes[1].axline((0.0, 0.0), slope=1.0, color=ACCENT, linewidth=1.2)
        label(axes[1], title="Normal quantiles", x="Normal quantile", y="Innovation")
        return axes

    def plot_text(self) -> str:
        """Describe the pictures."""
        z, _ = self._seen()
        return (
            "Standardised innovations against what was expected of each prompt, and their normal "
            f"quantiles; they run from {number(float(z.min()), 2)} to {number(float(z.max()), 2)}."
        )

    def _seen(self) -> tuple[Floats, Floats]:
        seen = np.isfinite(self.found.z)
        return self.found.z[seen], self.found.mean[seen]

    @property
    def small_print(self) -> tuple[str, ...]:
        """How it was judged."""
        tests = sum(np.isfinite(f.p_value) for f in self.findings)
        return (
            f"{tests} tests of innovations at one draw of the persons' effects given the data, "
            f"judged together: {100 * (1 - self.alpha):g}% of correct models pass them all.",
        )
