"""How well a model fits: the test against the unrestricted model, and indices made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ranef.errors import ConvergenceWarning, ModelError, warn
from ranef.fields.structural.estimate import Estimate, moment_parts, unit_scores
from ranef.fields.structural.model import Model, independent, partly_saturated, saturated, solved
from ranef.fields.structural.problem import Problem
from ranef.fields.structural.search import SearchEnd
from ranef.fields.structural.unrestricted import (
    Unrestricted,
    beyond,
    is_indefinite,
    moments_of,
    solved_unrestricted,
)

__all__ = ["Comparisons", "LevelFit", "deviations", "rmsea_interval"]

Floats = NDArray[np.float64]
NAN = float("nan")
BELOW = 1e-7
"""Difference of two values of -2 log L that is no more than their searches leave."""


@dataclass(frozen=True)
class LevelFit:
    """Fit of one level, the others unrestricted (Ryu & West 2009)."""

    level: int
    chisq: float
    df: int
    cfi: float
    tli: float
    rmsea: float
    srmr: float
    n: int


def rmsea_interval(chisq: float, df: int, n: float, groups: int) -> tuple[float, float]:
    """The 90% interval of the RMSEA, from the noncentral chi-squared distribution."""
    if df < 1 or not np.isfinite(chisq):
        return NAN, NAN

    from scipy import optimize

    def bound(p: float) -> float:
        """The centre at which the statistic has the probability p; NaN beyond the function."""

        def gap(centre: float) -> float:
            if centre > 0:
                return float(special.chndtr(chisq, df, centre)) - p
            return float(special.chdtr(df, chisq)) - p

        if not gap(0.0) >= 0:
            return 0.0 if gap(0.0) < 0 else NAN
        high = max(4 * chisq, 4.0)
        while gap(high) > 0 and high < 1e9:
            high *= 2
        if not gap(high) <= 0:
            return NAN
        return float(optimize.brentq(gap, 0.0, high, xtol=1e-10))

    low, high = (float(np.sqrt(bound(p) / (n * df) * groups)) for p in (0.95, 0.05))
    return low, high


class Comparisons:
    """The models that an estimate is compared with, each fitted when first asked for."""

    def __init__(self, estimate: Estimate) -> None:
        self.estimate = estimate
        self.model: Model = estimate.model

    def _blocks(self, levels: range | tuple[int, ...]) -> list[tuple[int, int]]:
        return [(g, level) for g in range(self.model.table.groups) for level in levels if level > 1]

    @cached_property
    def saturated_problem(self) -> Problem:
        if self.model.has_slopes:
            raise ModelError(
                "a model with random slopes has no unrestricted model to be compared with; "
                "anova(other) compares two models, aic and bic several"
            )
        return self.model.problem(saturated(self.model.table, self.model.home))

    def moments(self) -> tuple[Problem, Floats]:
        """The unrestricted moments: their criterion and its optimum, random slopes left out."""
        if not self.model.has_slopes:
            return self.saturated_problem, self.definite.theta
        problem = self.model.problem(saturated(self.model.table, self.model.home))
        return problem, solved_unrestricted(
            problem, self._blocks(range(2, self.model.levels + 1))
        ).theta

    @cached_property
    def definite(self) -> Unrestricted:
        """The unrestricted model at its optimum among positive semidefinite matrices."""
        blocks = self._blocks(range(2, self.model.levels + 1))
        found = solved_unrestricted(self.saturated_problem, blocks)
        e = self.estimate
        if e.end.value < found.value - BELOW and not is_indefinite(self.model.main, e.theta):
            start = moments_of(self.model.main, e.theta, self.saturated_problem)
            again = solved_unrestricted(self.saturated_problem, blocks, start)
            found = again if again.value < found.value else found
        return found

    @cached_property
    def saturated(self) -> Unrestricted:
        """The unrestricted model at its own optimum.

        Over positive semidefinite matrices between units; over all that have a likelihood if a
        matrix of the model is indefinite, so that it contains the model.
        """
        return self._containing(self.model.main, self.estimate.theta)

    def _containing(self, problem: Problem, theta: Floats) -> Unrestricted:
        """The unrestricted model over a set of matrices that has those of a model in it."""
        if self.model.levels == 1 or not is_indefinite(problem, theta):
            return self.definite
        start = moments_of(problem, theta, self.saturated_problem)
        ends = [beyond(self.saturated_problem, s) for s in (start, self.definite.theta)]
        sound = [end for end in ends if end.converged and end.value < problem.value(theta) + BELOW]
        if sound:
            return min(sound, key=lambda end: end.value)
        found = replace(self.definite, indefinite=True, converged=False)
        warn(f"{found.words()}; bounds='pos_var' or a smaller model has one", ConvergenceWarning)
        return found

    @cached_property
    def baseline_problem(self) -> Problem:
        return self.model.problem(independent(self.model.table, self.model.home))

    @cached_property
    def baseline(self) -> Unrestricted:
        """The model without covariances at its own optimum."""
        return solved_unrestricted(
            self.baseline_problem, self._blocks(range(2, self.model.levels + 1))
        )

    @property
    def chisq(self) -> float:
        return _ratio(self.estimate.end.value, self.saturated)

    @property
    def df(self) -> int:
        return self.saturated_problem.size - self.estimate.df_model

    @property
    def baseline_chisq(self) -> float:
        return _ratio(self.baseline.value, self.saturated)

    @property
    def baseline_df(self) -> int:
        return self.saturated_problem.size - self.baseline_problem.size

    # --- robust

    @property
    def is_robust(self) -> bool:
        return self.model.request.estimator in ("MLR", "MLM")

    @cached_property
    def scaling_h0(self) -> float:
        """c0 = tr(H^-1 J) / parameters, of the model."""
        e = self.estimate
        return float(np.sum(e.inverse(e.observed) * e.cross_products) / max(e.df_model, 1))

    @cached_property
    def scaling_h1(self) -> float:
        """c1 of the unrestricted model."""
        return self._scaling(self.saturated_problem, self.saturated)

    @cached_property
    def scaling_baseline(self) -> float:
        return self._scaling(self.baseline_problem, self.baseline)

    def _scaling(self, problem: Problem, found: Unrestricted) -> float:
        scores = unit_scores(self.model, problem, found.theta)
        if found.chart is None:
            H = problem.hessian(found.theta) / 2
        else:
            H = found.chart.hessian / 2
            scores = scores @ found.chart.jacobian
        J = scores.T @ scores
        return float(np.trace(np.linalg.pinv(H, hermitian=True) @ J) / problem.size)

    def _difference(self, c: float, size: int, df: int) -> float:
        """The scaling of a likelihood ratio against the unrestricted model."""
        if df <= 0:
            return NAN
        n1 = self.saturated_problem.size
        return (n1 * self.scaling_h1 - size * c) / df

    @cached_property
    def scaling(self) -> float:
        """What the chi-squared statistic is divided by."""
        if self.model.request.estimator == "MLM":
            return _satorra_bentler(self.estimate, self.df)
        return self._difference(self.scaling_h0, self.estimate.df_model, self.df)

    @cached_property
    def baseline_scaling(self) -> float:
        if self.model.request.estimator == "MLM":
            end = SearchEnd(
                self.baseline.theta, self.baseline.value, np.zeros(self.baseline_problem.size),
                None, 0.0, 1.0, True, 0, "",
            )  # fmt: skip
            own = _Shifted(self.model, self.baseline_problem, end)
            return _satorra_bentler(own, self.baseline_df)  # type: ignore[arg-type]
        return self._difference(self.scaling_baseline, self.baseline_problem.size, self.baseline_df)

    # --- indices

    def measures(self) -> dict[str, float]:
        """All measures of fit; NaN where the model has none."""
        e = self.estimate
        n = self.model.n_obs
        k = e.df_model
        common = {"loglik": e.loglik, "aic": 2 * k - 2 * e.loglik,
                  "bic": float(np.log(n)) * k - 2 * e.loglik, "n_parameters": k}  # fmt: skip
        if self.model.has_slopes:
            return dict.fromkeys(MEASURES, NAN) | common
        chisq, df = self.chisq, self.df
        base, base_df = self.baseline_chisq, self.baseline_df
        low, high = rmsea_interval(chisq, df, n, self.model.table.groups)
        out: dict[str, float] = {
            "chisq": chisq, "df": df, "p_value": _p(chisq, df),
            "chisq_scaled": NAN, "p_value_scaled": NAN, "scaling_factor": NAN,
            "scaling_h0": NAN, "scaling_h1": NAN,
            "baseline_chisq": base, "baseline_df": base_df,
            "cfi": _cfi(chisq, df, base, base_df), "tli": _tli(chisq, df, base, base_df),
            "rmsea": _rmsea(chisq, df, n, self.model.table.groups),
            "rmsea_low": low, "rmsea_high": high,
        }  # fmt: skip
        if self.is_robust:
            c, b = self.scaling, self.baseline_scaling
            scaled = chisq / c if df > 0 else chisq
            own = base / b
            out |= {
                "chisq_scaled": scaled, "p_value_scaled": _p(scaled, df), "scaling_factor": c,
                "cfi_scaled": _cfi(scaled, df, own, base_df),
                "tli_scaled": _tli(scaled, df, own, base_df),
                "rmsea_scaled": _rmsea(scaled, df, n, self.model.table.groups),
            }  # fmt: skip
            if self.model.request.estimator == "MLR":
                out |= {"scaling_h0": self.scaling_h0, "scaling_h1": self.scaling_h1}
        srmr = [self.srmr(level) for level in range(1, self.model.levels + 1)]
        out["srmr"] = float(np.sum(srmr))
        two = self.model.levels > 1
        out["srmr_within"] = srmr[0] if two else NAN
        out["srmr_between"] = srmr[1] if two else NAN
        for level in range(3, self.model.levels + 1):
            out[f"srmr_level{level}"] = srmr[level - 1]
        lost = self.saturated.indefinite and not self.saturated.converged
        h1 = NAN if lost else -self.saturated.value / 2
        return out | {"loglik": common["loglik"], "loglik_h1": h1} | common

    def srmr(self, level: int) -> float:
        """Root mean square of the differences between correlations, of one level.

        Of one level alone covariances are divided by the sample's standard deviations (Bentler).
        NaN where the model has a variance below zero, which makes no correlation.
        """
        sums, weights = 0.0, 0.0
        means = self._means_restricted if self.model.levels == 1 else False
        for g in range(self.model.table.groups):
            names, first, second, m1, m2 = self.implied_pair(g, level)
            if not names:
                continue
            sd = deviations(first)
            own = sd if self.model.levels == 1 else deviations(second)
            gap = first / np.outer(sd, sd) - second / np.outer(own, own)
            i, j = np.tril_indices(len(names))
            squares = list(gap[i, j] ** 2)
            if means:
                squares += list(((m1 - m2) / sd) ** 2)
            n = len(self.model.rows.places[g])
            sums += n * float(np.sqrt(np.mean(squares)))
            weights += n
        return sums / weights if weights else NAN

    @property
    def _means_restricted(self) -> bool:
        """Whether means count in the SRMR: where they are a matter of the model."""
        if self.model.table.groups > 1 or not self.model.complete:
            return True
        rows = [r for r in self.model.table.rows if r.op == "~1" and not r.sample]
        own = {r.free for r in rows if r.free >= 0}
        observed = sum(
            len(names.observed) - len(names.fixed) for names in self.model.table.names.values()
        )
        return len(own) < observed

    def implied_pair(
        self, g: int, level: int
    ) -> tuple[tuple[str, ...], Floats, Floats, Floats, Floats]:
        """Covariances and means of a level's variables: unrestricted, and by the model."""
        names = self.model.table.names[g, level].observed
        first = implied(self.saturated_problem, self.saturated.theta, g, level, names)
        second = implied(self.model.main, self.estimate.theta, g, level, names)
        return names, first[0], second[0], first[1], second[1]

    # --- levels

    def level_fits(self) -> list[LevelFit]:
        """Fit of each level by itself."""
        if self.model.levels == 1:
            raise ModelError("the model has one level, whose fit is that of fit_measures()")
        return [self._level_fit(level) for level in range(1, self.model.levels + 1)]

    def _level_fit(self, level: int) -> LevelFit:
        others = tuple(m for m in range(2, self.model.levels + 1) if m != level)
        every = tuple(range(2, self.model.levels + 1))
        table = partly_saturated(self.model.table, self.model.home, level)
        base = partly_saturated(self.model.table, self.model.home, level, baseline=True)
        self.saturated_problem  # noqa: B018 - refuses random slopes
        problem, baseline = self.model.problem(table), self.model.problem(base)
        theta, value = _solved_partly(problem, self._blocks(others))
        whole = self._containing(problem, theta)
        if whole.indefinite and others:
            end = solved(problem, theta, proof=False)
            theta, value = end.theta, end.value
        below = solved_unrestricted(baseline, self._blocks(every))
        chisq, chisq0 = _ratio(value, whole), _ratio(below.value, whole)
        df = self.saturated_problem.size - table.size
        df0 = self.saturated_problem.size - base.size
        n = self.model.n_obs if level == 1 else self.model.units[level - 2]
        return LevelFit(
            level, chisq, df, _cfi(chisq, df, chisq0, df0), _tli(chisq, df, chisq0, df0),
            _rmsea(chisq, df, n, self.model.table.groups), self.srmr(level), n,
        )  # fmt: skip


class _Shifted:
    """The baseline as an estimate, as far as its moments are asked for."""

    def __init__(self, model: Model, problem: Problem, end: SearchEnd) -> None:
        self.model = _Other(model, problem)
        self.theta = end.theta
        self.basis = np.eye(problem.size)


class _Other:
    def __init__(self, model: Model, problem: Problem) -> None:
        self.main, self.table = problem, problem.table
        del model


def _solved_partly(problem: Problem, blocks: list[tuple[int, int]]) -> tuple[Floats, float]:
    """The optimum of a model of one level, and -2 log L there."""
    end = solved_unrestricted(problem, blocks) if blocks else solved(problem, proof=False)
    return end.theta, end.value


def _ratio(value: float, unrestricted: Unrestricted) -> float:
    """The likelihood ratio against the unrestricted model; NaN where that has no maximum."""
    if unrestricted.indefinite and not unrestricted.converged:
        return NAN
    gap = float(value - unrestricted.value)
    return gap if abs(gap) > BELOW else max(gap, 0.0)


def deviations(S: Floats) -> Floats:
    """Standard deviations that make correlations: NaN where a covariance has none to stand on.

    A variable that does not vary has correlations of zero.
    """
    variance = np.diag(S).copy()
    least = 1e-14 * np.abs(variance).max(initial=0.0)
    beside = np.abs(S - np.diag(variance)).max(axis=1, initial=0.0)
    still = variance <= 0
    variance[still] = np.where(np.maximum(-variance, beside) > least, np.nan, 1e300)[still]
    return np.asarray(np.sqrt(variance))


def implied(
    problem: Problem, theta: Floats, g: int, level: int, names: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Covariance and mean of some variables of a level by a model."""
    ram = problem.groups[g].rams[level - 1]
    moments = ram.moments(theta)
    at = np.array([ram.names.index(n) for n in names], dtype=np.intp)
    return moments.C[np.ix_(at, at)], moments.mu[at]


def _satorra_bentler(estimate: Estimate, df: int) -> float:
    """tr(U G) / df (Satorra & Bentler 1994)."""
    if df <= 0:
        return NAN
    total = 0.0
    size = estimate.model.table.size
    inside = np.zeros((size, size))
    meat = np.zeros((size, size))
    for group in estimate.model.main.groups:
        weight, D, moments = moment_parts(estimate, group)
        n = len(moments)
        G = moments.T @ moments / n
        total += float(np.sum(weight * G))
        inside += n * D.T @ weight @ D
        meat += n * D.T @ weight @ G @ weight @ D
    N = estimate.basis
    own = np.linalg.pinv(N.T @ inside @ N, hermitian=True)
    return float((total - np.trace(own @ (N.T @ meat @ N))) / df)


def _p(chisq: float, df: int) -> float:
    return float(special.chdtrc(df, max(chisq, 0.0))) if df > 0 else NAN


def _cfi(chisq: float, df: int, base: float, base_df: int) -> float:
    own, other = max(chisq - df, 0.0), max(base - base_df, chisq - df, 0.0)
    return 1.0 if other == 0 else 1 - own / other


def _tli(chisq: float, df: int, base: float, base_df: int) -> float:
    if df <= 0 or base_df <= 0:
        return 1.0
    ratio = base / base_df
    return (ratio - chisq / df) / (ratio - 1) if ratio != 1 else NAN


def _rmsea(chisq: float, df: int, n: float, groups: int) -> float:
    return float(np.sqrt(max(chisq - df, 0.0) / (n * df) * groups)) if df > 0 else 0.0


MEASURES = (
    "chisq", "df", "p_value", "chisq_scaled", "p_value_scaled", "scaling_factor", "scaling_h0",
    "scaling_h1", "baseline_chisq", "baseline_df", "cfi", "tli", "rmsea", "rmsea_low",
    "rmsea_high", "srmr", "srmr_within", "srmr_between", "loglik", "loglik_h1", "aic", "bic",
)  # fmt: skip
