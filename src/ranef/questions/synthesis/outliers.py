"""`outliers`: studies far from the others, by a mixture of two kinds of true effects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import ACCENT, MARK, MUTED, finish, label, on_axes, plain
from ranef.display.columns import Column, Fixed, Label, Listing, PValue, Significant
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.questions.synthesis.asked import independent
from ranef.solve.synthesis.between import between
from ranef.solve.synthesis.outliers import (
    FLAT,
    Effects,
    Mixture,
    Profiled,
    likeliest_mixture,
    one_normal,
    profiled,
    voxelwise,
)
from ranef.solve.synthesis.studies import Studies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["OutlierModel", "outliers"]

Floats = NDArray[np.float64]

LIKELY = 0.5
MOST_COLUMNS = 4096
PART = 128
"""Samples between two looks at the progress bar."""


@dataclass(frozen=True, eq=False, repr=False)
class OutlierModel(Answer):
    """A mixture of a population and outliers beside one normal distribution.

    `ranef.outliers` makes it.

    Attributes
    ----------
    studies, terms : tuple of str
    effects, std_errors, probability, weights, weights_before : (n,) arrays
        Of each study; the probability of being an outlier, and its weights in percent by the
        mixture and by one normal distribution.
    normal, mixture : Mixture
        By maximum likelihood; the first without outliers.
    intervals : (Profiled, Profiled)
        Of the coefficients, by profile likelihood.
    p_value : float
        Of one normal distribution, by parametric bootstrap; NaN if not asked for.
    n_bootstrap : int
    conf_level : float
    title, library : str
    """

    studies: tuple[str, ...]
    terms: tuple[str, ...]
    effects: Floats
    std_errors: Floats
    probability: Floats
    weights: Floats
    weights_before: Floats
    normal: Mixture
    mixture: Mixture
    intervals: tuple[Profiled, Profiled]
    p_value: float
    n_bootstrap: int
    conf_level: float
    title: str
    library: str

    @property
    def statistic(self) -> float:
        """Twice the gain of the log-likelihood by the mixture."""
        return 2 * max(0.0, float(self.mixture.loglik[0] - self.normal.loglik[0]))

    @property
    def bic_difference(self) -> float:
        """BIC of the mixture less that of one normal distribution: negative for the mixture."""
        return 2 * float(np.log(len(self.effects))) - self.statistic

    def tables(self) -> tuple[Listing, ...]:
        rows = (
            Column("study", list(self.studies), Label(), ""),
            Column("effect", self.effects, Significant(3)),
            Column("std_error", self.std_errors, Significant(3)),
            Column("probability", self.probability, Fixed(3), "probability of an outlier"),
            Column("weight", self.weights, Fixed(1), "weight, %"),
            Column("weight_before", self.weights_before, Fixed(1), "weight before, %"),
        )
        return (
            Listing("studies", rows, "Studies"),
            Listing("coefficients", self._coefficients(), "Mean effects by both models"),
            Listing("models", self._models(), "Models by maximum likelihood"),
        )

    def _coefficients(self) -> tuple[Column, ...]:
        from scipy.special import chdtrc

        pairs = list(zip(("normal", "mixture"), (self.normal, self.mixture), self.intervals,
                         strict=True))  # fmt: skip
        percent = f"{100 * self.conf_level:g}%"
        return (
            Column("model", [name for name, _, _ in pairs for _ in self.terms], Label()),
            Column("term", [term for _ in pairs for term in self.terms], Label()),
            Column("estimate", np.concatenate([m.beta[:, 0] for _, m, _ in pairs]),
                   Significant(4)),
            Column("conf_low", np.concatenate([i.low for _, _, i in pairs]), Significant(4),
                   f"{percent} low"),
            Column("conf_high", np.concatenate([i.high for _, _, i in pairs]), Significant(4),
                   f"{percent} high"),
            Column("p_value", np.concatenate([chdtrc(1, i.at_zero) for _, _, i in pairs]),
                   PValue(), "p"),
        )  # fmt: skip

    def _models(self) -> tuple[Column, ...]:
        both = (self.normal, self.mixture)
        far = [np.nan if m.share[0] == 0 else float(np.sqrt(m.omega2[0])) for m in both]
        count = len(self.terms) + 1
        n = float(np.log(len(self.effects)))
        loglik = np.array([float(m.loglik[0]) for m in both])
        size = np.array([count, count + 2])
        return (
            Column("model", ["normal", "mixture"], Label()),
            Column("tau", np.array([float(np.sqrt(m.tau2[0])) for m in both]), Significant(4)),
            Column("tau_outliers", np.array(far), Significant(4), "tau of outliers"),
            Column("share", np.array([float(m.share[0]) for m in both]), Fixed(3),
                   "share of outliers"),
            Column("loglik", loglik, Fixed(3), "log-likelihood"),
            Column("aic", 2 * size - 2 * loglik, Fixed(2), "AIC"),
            Column("bic", n * size - 2 * loglik, Fixed(2), "BIC"),
        )  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        lines = [
            "True effects come from one normal distribution, or from a mixture with a second, "
            "wider one, that of outliers (Beath 2014; Woolrich 2008). Both by maximum likelihood; "
            "intervals and p-values by profile likelihood."
        ]
        far = np.flatnonzero(self.probability > LIKELY)
        names = ", ".join(plain(self.studies[i]) for i in far)
        lines.append(f"More likely outliers than not: {names}." if len(far) else "No study is "
                     "more likely an outlier than not.")  # fmt: skip
        test = f"The mixture raises twice the log-likelihood by {self.statistic:.2f}"
        if np.isfinite(self.p_value):
            test += f"; p = {self.p_value:.3g} by {self.n_bootstrap:,} parametric bootstraps"
        better = "the mixture" if self.bic_difference < 0 else "one normal distribution"
        lines.append(f"{test}. BIC prefers {better}.")
        return tuple(lines)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the probability of each study to be an outlier.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        """
        n = len(self.studies)
        ax = on_axes(ax, figure, 6.4, 1.3 + 0.24 * max(n, 4))
        rows = np.arange(n)
        ax.hlines(rows, 0, self.probability, color=MUTED, linewidth=0.9)
        likely = self.probability > LIKELY
        for chosen, colour in ((~likely, MARK), (likely, ACCENT)):
            ax.plot(self.probability[chosen], rows[chosen], "o", color=colour, markersize=5)
        ax.set_yticks(rows, [plain(s, 30) for s in self.studies], parse_math=False)
        ax.set_ylim(n - 0.4, -0.6)
        ax.set_xlim(-0.02, 1.02)
        finish(ax, grid="x")
        label(ax, title="Outliers", x="probability of an outlier", y="")
        return ax


def outliers(
    fit: Any,
    *,
    n: int | None = None,
    conf_level: float = 0.95,
    rng: Any = None,
    progress: bool | None = None,
) -> OutlierModel:
    """Look for studies that are far from the others, and estimate the mean effects with them.

    Beside one normal distribution of true effects a mixture of two is fitted: that of a
    population, and with a probability that is estimated (at most one half) that of outliers, with
    a larger variance (Beath 2014, Res. Synth. Methods 5; for images Woolrich 2008, NeuroImage 41).
    Each study has a probability of being an outlier and is weighed down by it.

    Parameters
    ----------
    fit : MetaModelFit
        Of independent studies. Both models are fitted by maximum likelihood, whatever its method.
    n : int, optional
        Parametric bootstraps for the test of one normal distribution; its statistic has no known
        distribution, since a share of zero lies on the boundary.
    conf_level : float
    rng : int or Generator, optional
        For the bootstraps.
    progress : bool, optional
        Show a progress bar of the bootstraps; None shows one when the work is long.

    Returns
    -------
    OutlierModel
        ``tidy()`` has the studies: ``study, effect, std_error, probability, weight,
        weight_before``; ``listing("coefficients")`` and ``listing("models")`` the rest.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> found = ranef.meta("yi ~ 1", bcg, variance="vi", study="author").outliers()
    >>> round(found.statistic, 4), bool((found.probability < 0.5).all())
    (0.0, True)
    """
    estimate = independent(fit, "outliers()")
    studies = estimate.model.data
    count = 0 if n is None else arguments.count("n", n)
    level = arguments.conf_level(conf_level)
    if studies.df < 3:
        raise ModelError(
            f"outliers() needs at least {studies.p + 3} studies for {studies.p} coefficients; "
            f"there are {studies.n}"
        )
    from scipy.special import chdtri

    data = Effects.of(studies.y[:, None], studies.v[:, None], studies.X)
    unit = data.unit
    data = data.over(unit)
    studies = Studies(data.y[:, 0], data.v[:, 0], studies.X)
    tau2 = between(studies, "ml").tau2
    normal = one_normal(data, studies.at(tau2).beta, tau2)
    mixture = likeliest_mixture(data, tau2)
    if mixture.loglik[0] <= normal.loglik[0] + FLAT:
        mixture = normal
    limit = float(chdtri(1, 1 - level))
    ends = profiled(data, normal, limit)
    far = ends if mixture is normal else profiled(data, mixture, limit)
    bar = arguments.optional_flag("progress", progress)
    p = np.nan
    if count:
        samples = _bootstrapped(studies, normal, mixture, count, rng)
        reached = arriving(samples, count, "bootstrap", bar, unit=" samples", size=len)
        p = (1 + sum(int(part.sum()) for part in reached)) / (count + 1)
    n_studies, size = np.array([float(studies.n)]), float(unit[0])
    return OutlierModel(
        studies=tuple(fit.studies),
        terms=tuple(estimate.specification.names),
        effects=studies.y * size,
        std_errors=np.sqrt(studies.v) * size,
        probability=mixture.probability[:, 0],
        weights=_weights(data, mixture),
        weights_before=_weights(data, normal),
        normal=normal.times(unit, n_studies),
        mixture=mixture.times(unit, n_studies),
        intervals=(ends.times(size), far.times(size)),
        p_value=p,
        n_bootstrap=count,
        conf_level=level,
        title=f"Outliers: {fit.formula}",
        library=fit.frame.library,
    )


def _weights(data: Effects, at: Mixture) -> Floats:
    """Percent of all weights."""
    r = at.probability
    w = ((1 - r) / (data.v + at.tau2) + r / (data.v + at.omega2))[:, 0]
    return np.asarray(100 * w / w.sum())


def _bootstrapped(
    studies: Studies, normal: Mixture, mixture: Mixture, count: int, rng: Any
) -> Iterator[NDArray[np.bool_]]:
    """Yield by parts which samples from one normal distribution gain what the data gain."""
    generator, v, X = arguments.generator(rng), studies.v, studies.X
    observed = float(mixture.loglik[0] - normal.loglik[0])
    made = 0
    while made < count:
        size = min(MOST_COLUMNS, count - made)
        spread = np.sqrt(v[:, None] + normal.tau2)
        Y = X @ normal.beta + spread * generator.normal(size=(len(v), size))
        for part in np.split(Y, range(PART, size, PART), axis=1):
            samples = [Studies(y, v, X) for y in part.T]
            tau2 = np.array([between(one, "ml").tau2 for one in samples])
            beta = np.array([one.at(t).beta for one, t in zip(samples, tau2, strict=True)]).T
            data = Effects.of(part, np.repeat(v[:, None], part.shape[1], axis=1), X)
            _, gain = voxelwise(data, beta, tau2)
            yield np.maximum(0.0, gain) >= observed - 1e-9
        made += size
