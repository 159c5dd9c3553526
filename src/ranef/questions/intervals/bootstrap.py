"""`bootstrap`: the model fitted again and again to data drawn from it, or drawn anew."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.parameter_tables import interval_listing
from ranef.display.answer import Answer, Summary
from ranef.display.columns import Column, Listing
from ranef.display.page import MOST_ROWS, SHORT_ROWS, Paragraph
from ranef.display.progress import arriving
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    FileError,
    Interrupted,
    ModelError,
    warn,
)
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Generative, Likelihood, Redrawn, Refittable, offers, require
from ranef.inference import refits as numbers
from ranef.inference.coefficients.parameter_list import ModelParameter, chosen
from ranef.inference.draws.resampling import cluster_factor
from ranef.inference.protocol import Inference
from ranef.models.records import CONDITIONAL, Estimate
from ranef.questions.intervals.bootstrap_picture import BootstrapPlots
from ranef.storage.saving import from_bytes, to_bytes
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = ["Bootstrap", "bootstrap"]

Floats = NDArray[np.float64]
Statistic = Callable[[MixedFit], Any]

EFFECTS = ("new", "conditional")
MANY_FAILED = 0.05
STATISTIC = "statistic"


def _determined(fit: MixedFit, values: Floats) -> Floats:
    """Draws (m, k) of all parameters, NaN where the spread of a coefficient is not determined."""
    if fit.estimate.optimum.flat:
        open_ = np.flatnonzero(np.isnan(fit.hypotheses().std_error))
        values = values.copy()
        values[:, open_] = np.nan
    return values


def bootstrap(
    fit: MixedFit,
    n: int = 1000,
    *,
    statistic: Statistic | None = None,
    method: str = "parametric",
    effects: str = "new",
    cluster: str | None = None,
    rng: Any = None,
    n_jobs: int | None = None,
    client: Any = None,
    progress: bool | None = None,
) -> Bootstrap:
    """Fit the model again to data drawn from it, or drawn anew, and keep what each fit says.

    Parameters
    ----------
    fit : fit of `lmm`, `glmm`, `dynamic` or `sem`
        Refits use its criterion, weights, offsets, quadrature, priors and constraints.
    n : int
        Replicates.
    statistic : callable, optional
        Of a fit: returns a number, several, a mapping or a Series. Without it all
        parameters are kept: coefficients, standard deviations, correlations, sigma.
    method : {"parametric", "cluster", "residual"}
        - ``"parametric"``: responses from the fitted model. The model must be right.
        - ``"cluster"``: whole levels of the outermost grouping factor, or of `cluster`,
          with replacement, each copy a level of its own. Asks only that these are
          independent; wants many of them. Crossed factors are refused.
        - ``"residual"``: effects and residuals of a linear model, centred and brought back
          to the variances estimated, with replacement (Carpenter, Goldstein & Rasbash
          2003). Asks for no normal distribution.
    effects : {"new", "conditional"}
        Of a parametric bootstrap: random effects drawn anew, or kept at their modes (then
        the levels are those of the data, and their spread is no source of error).
    cluster : str, optional
        The grouping factor whose levels are drawn.
    rng : int or numpy.random.Generator, optional
        The same gives the same draws, for any `n_jobs` and client.
    n_jobs : int, optional
        Threads; None for all this process may use. A statistic is called from one.
    client : Dask client or executor, optional
        Anything with ``submit(function, ...)`` whose futures have ``result()``: chunks of
        replicates run there.
    progress : bool, optional
        Show a bar; None where a person looks and it takes more than a second.

    Returns
    -------
    Bootstrap
        With ``confint(conf_level, kind)``, ``tidy()``, ``table()`` of the draws and ``plot``.
        Refits that failed are counted, with their reasons.

    Raises
    ------
    ranef.errors.ModelError
        The method does not apply to the model; the message says why.
    ranef.errors.Interrupted
        On Ctrl-C: a KeyboardInterrupt whose `partial` is the Bootstrap of the draws so far.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> boot = ranef.bootstrap(fit, 200, rng=1)
    >>> boot.draws.shape, boot.n_failed
    ((200, 3), 0)
    >>> boot.confint(0.9)[["parameter", "conf_low", "conf_high"]].round(0)
         parameter  conf_low  conf_high
    0  coefficient    1495.0     1557.0
    1           sd       0.0       69.0
    2           sd      37.0       62.0

    A statistic of one's own, the intraclass correlation:

    >>> def icc(fit):
    ...     batch, residual = fit.tidy("variance")["estimate"] ** 2
    ...     return {"icc": batch / (batch + residual)}
    >>> ranef.bootstrap(fit, 50, statistic=icc, rng=1).tidy()["term"].tolist()
    ['icc']
    """
    n = arguments.count("n", n)
    if offers(fit, Redrawn):
        return _of_tables(fit, n, statistic, method, effects, cluster, rng, client, progress)
    require(fit, "bootstrap()", Likelihood, Generative, Refittable)
    plan = _plan(fit.inference, method, effects, cluster)
    source = arguments.generator(rng)
    if statistic is not None and not callable(statistic):
        raise ModelError(f"statistic must be a function of a fit, not {type(statistic).__name__}")
    parameters, read = _target(fit, statistic)
    work = numbers.chunks(fit.inference, plan, n, source, statistic is not None)
    if client is None:
        parts = numbers.draw(fit.inference, plan, work, n_jobs=n_jobs, statistic=read)
    else:
        parts = _submitted(client, fit, plan, work, statistic, len(parameters))

    def answer(draws: numbers.Draws) -> Bootstrap:
        values = _determined(fit, draws.values) if statistic is None else draws.values
        kept = values, draws.singular, draws.proved, draws.failures
        return Bootstrap(fit, plan, parameters, *kept, statistic)

    done: list[numbers.Draws] = []
    try:
        done.extend(arriving(parts, n, "bootstrap", progress, size=len))
    except KeyboardInterrupt:
        if not any(part.values.shape[1] for part in done):
            raise
        partial = answer(numbers.joined(done))
        raise Interrupted(
            f"bootstrap interrupted after {len(partial.draws):,} of {n:,} refits; this exception "
            "holds them as .partial (in a notebook: import sys; sys.last_value.partial)",
            partial,
        ) from None
    draws = numbers.joined(done)
    if not draws.values.shape[1]:
        raise ModelError(f"every refit failed; the first: {draws.failures[0][1]}")
    result = answer(draws)
    _warn_of_failures(result)
    return result


def _of_tables(
    fit: Any, n: int, statistic: Statistic | None, method: str, effects: str,
    cluster: str | None, rng: Any, client: Any, progress: bool | None,
) -> Bootstrap:  # fmt: skip
    """The bootstrap of a fit that draws whole tables."""
    method = arguments.choice("method", method, ("parametric", "cluster"))
    effects = arguments.choice("effects", effects, getattr(fit, "redrawn_effects", ("new",)))
    how = {} if effects == "new" else {"effects": effects}
    if how and method == "cluster":
        raise ModelError(
            "effects='conditional' is for method='parametric'; method='cluster' draws the effects"
        )
    if cluster is not None or client is not None:
        raise ModelError(
            f"bootstrap() of {fit.kind_words} draws units of the highest level, one refit after "
            "the other: leave out cluster= and client="
        )
    read = statistic or _parameters_of
    names, values = _read_statistic(read(fit))
    parameters = _of_statistic(names, values)
    if statistic is None:
        known = zip(fit.parameters, values, strict=True)
        parameters = tuple(replace(p, estimate=float(value)) for p, value in known)
    draws = np.full((n, len(values)), np.nan)
    proved, singular = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    failures: list[tuple[int, str]] = []
    sources = arguments.generator(rng).spawn(n)

    def refits() -> Iterator[int]:
        for k, source in enumerate(sources):
            try:
                again = fit.redrawn(method, source, **how)
                draws[k] = _read_statistic(read(again))[1]
                proved[k] = again.optimum.converged
                singular[k] = getattr(again.optimum, "singular", False)
            except (DataError, ModelError, np.linalg.LinAlgError) as error:
                failures.append((k, str(error)))
            yield k

    done = 0

    def answer(count: int) -> Bootstrap:
        return Bootstrap(
            fit, numbers.Plan(method, effects), parameters, draws[:count], singular[:count],
            proved[:count], tuple(f for f in failures if f[0] < count), statistic,
        )  # fmt: skip

    try:
        for k in arriving(refits(), n, "bootstrap", progress, size=lambda _: 1):
            done = k + 1
    except KeyboardInterrupt:
        if not done:
            raise
        raise Interrupted(
            f"bootstrap interrupted after {done:,} of {n:,} refits; this exception holds them as "
            ".partial",
            answer(done),
        ) from None
    if len(failures) == n:
        raise ModelError(f"every refit failed; the first: {failures[0][1]}")
    result = answer(n)
    _warn_of_failures(result)
    return result


def _parameters_of(fit: Any) -> dict[str, float]:
    """All parameters of a fit by name; of one whose coefficients are all, these."""
    every = fit.parameters
    values = {label: float(value) for label, value in fit.coef.items()}
    if len(every) == len(values):
        return values
    return {p.label: p.estimate for p in every}


def _of_statistic(names: Sequence[str], values: Floats) -> tuple[ModelParameter, ...]:
    return tuple(
        ModelParameter(name, STATISTIC, float(value), CONDITIONAL, None, None, name, None)
        for name, value in zip(names, values, strict=True)
    )


def _plan(model: Inference, method: str, effects: str, cluster: str | None) -> numbers.Plan:
    """Check what is asked for against the model."""
    method = arguments.choice("method", method, numbers.METHODS)
    effects = arguments.choice("effects", effects, EFFECTS)
    if effects == "conditional" and method != "parametric":
        raise ModelError(
            f"effects='conditional' is for method='parametric'; method={method!r} draws the effects"
        )
    if cluster is not None and method != "cluster":
        raise ModelError("cluster= names the levels that method='cluster' draws")
    if method == "residual":
        model.resampled()
    if method != "cluster":
        return numbers.Plan(method, effects)
    return numbers.Plan(method, effects, cluster_factor(model.estimate, cluster))


def _target(
    fit: MixedFit, statistic: Statistic | None
) -> tuple[tuple[ModelParameter, ...], numbers.Statistic | None]:
    """What is kept of a refit, with its value at the fit, and how it is read."""
    if statistic is None:
        return fit.parameters, None
    names, values = _read_statistic(statistic(fit))
    parameters = _of_statistic(names, values)
    return parameters, _RefitStatistic(fit, statistic, len(names))


@dataclass(frozen=True, eq=False)
class _RefitStatistic:
    """Wraps the estimate of a refit as a fit and asks the statistic of it."""

    fit: MixedFit
    statistic: Statistic
    width: int

    def __call__(self, estimate: Estimate) -> Floats:
        origin, spec = self.fit.frame, estimate.specification
        if spec.accounting is not self.fit.estimate.specification.accounting:
            origin = Origin(origin.library, None, Accounting(spec.n))
        values = _read_statistic(self.statistic(type(self.fit)(estimate, origin)))[1]
        if len(values) != self.width:
            raise DataError(
                f"the statistic has {len(values)} values for a refit, {self.width} for the fit"
            )
        return values


def _read_statistic(value: Any) -> tuple[list[str], Floats]:
    """Names and values of what a statistic returned."""
    names: list[str] | None = None
    if isinstance(value, Mapping):
        names, value = [str(name) for name in value], list(value.values())
    elif hasattr(value, "index") and not callable(value.index):
        names = [str(name) for name in value.index]
    try:
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.ndim != 1 or not len(values):
        raise DataError(
            "the statistic must return a number, a list of numbers, a mapping of names to "
            f"numbers or a Series, not {type(value).__name__}"
        )
    if names is None:
        single = len(values) == 1
        names = [STATISTIC] if single else [f"{STATISTIC}{k + 1}" for k in range(len(values))]
    return names, values


def _submitted(
    client: Any,
    fit: MixedFit,
    plan: numbers.Plan,
    work: Sequence[numbers.Chunk],
    statistic: Statistic | None,
    width: int,
) -> Iterator[numbers.Draws]:
    """Run the chunks where the client sends them; the fit goes there as its file."""
    if not hasattr(client, "submit"):
        raise ModelError(
            f"client must have submit(), as a Dask client or an executor does; "
            f"{type(client).__name__} has not"
        )
    sent = type(fit), to_bytes(fit)
    of_refits = None if statistic is None else (statistic, width)
    futures = [client.submit(remote_chunk, sent, plan, chunk, of_refits) for chunk in work]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def remote_chunk(
    sent: tuple[type[MixedFit], bytes],
    plan: numbers.Plan,
    chunk: numbers.Chunk,
    statistic: tuple[Statistic, int] | None,
) -> numbers.Draws:
    """Make one chunk of the bootstrap of a fit that came as its class and its file's bytes."""
    fit = _loaded(*sent)
    read = None if statistic is None else _RefitStatistic(fit, *statistic)
    return numbers.Worker(fit.inference, plan, 1, read)(chunk)


@lru_cache(maxsize=2)
def _loaded(kind: type[MixedFit], content: bytes) -> MixedFit:
    fit = from_bytes(content)
    if not isinstance(fit, kind):
        raise FileError(f"the bytes sent are not those of a {kind.__name__}")
    return fit


def _warn_of_failures(result: Bootstrap) -> None:
    if result.n_failed > MANY_FAILED * len(result):
        warn(
            f"{result.n_failed:,} of {len(result):,} refits failed, and the intervals leave them "
            f"out; most often: {result.reasons().most_common(1)[0][0]}",
            ConvergenceWarning,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Answer):
    """Draws of the parameters of a model, or of a statistic; `ranef.bootstrap` makes it.

    Attributes
    ----------
    fit : the fit
    plan : Plan
        ``method``, ``effects`` and ``cluster``.
    parameters : tuple of ModelParameter
        With their estimates; names are their ``label``.
    draws : (n, k) float64 array
        One row a replicate; NaN where the refit failed, or where a correlation does not
        exist since an effect does not vary.
    singular : (n,) bool array
        Refits on a boundary: a variance of zero, a correlation of one.
    proved : (n,) bool array
        Refits whose optimum was proved.
    failures : tuple of (int, str)
        Replicates that failed, with the reason.
    statistic : callable or None
    """

    fit: MixedFit
    plan: numbers.Plan
    parameters: tuple[ModelParameter, ...]
    draws: Floats
    singular: NDArray[np.bool_]
    proved: NDArray[np.bool_]
    failures: tuple[tuple[int, str], ...]
    statistic: Statistic | None = None

    @property
    def title(self) -> str:
        method = self.plan.method.capitalize()
        formula = " ".join(self.fit.formula.split())
        formula = formula if len(formula) <= 100 else f"{formula[:97]}..."
        return f"{method} bootstrap, {len(self):,} replicates: {formula}"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    def tables(self) -> tuple[Listing, ...]:
        return (self.intervals(spread=True), self._replicates())

    def __len__(self) -> int:
        return len(self.draws)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `draws`."""
        return tuple(p.label for p in self.parameters)

    @property
    def estimate(self) -> Floats:
        """Values at the fit, (k,)."""
        return np.array([p.estimate for p in self.parameters])

    @property
    def n_failed(self) -> int:
        """Refits that failed."""
        return len(self.failures)

    @property
    def n_singular(self) -> int:
        """Refits on a boundary."""
        return int(np.count_nonzero(self.singular))

    @property
    def n_unproved(self) -> int:
        """Refits that did not fail and whose optimum was not proved; their draws count."""
        return len(self) - self.n_failed - int(np.count_nonzero(self.proved))

    def reasons(self) -> Counter[str]:
        """Count the reasons why refits failed."""
        return Counter(reason for _, reason in self.failures)

    def replicates(self) -> Any:
        """Return the draws, one row a replicate and one column a parameter.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> ranef.bootstrap(fit, 3, rng=1).replicates().columns.tolist()
        ['(Intercept)', 'sd: Batch: (Intercept)', 'sigma']
        """
        return self.tabled(self._replicates())

    def _replicates(self) -> Listing:
        columns = zip(self.names, self.draws.T, strict=True)
        return Listing(
            "replicates", tuple(Column(name, x.copy(), printed=False) for name, x in columns)
        )

    def tidy(self, *, conf_level: float = 0.95, kind: str = "percentile") -> Any:
        """Return estimate, bias, standard error and interval of each parameter.

        Returns
        -------
        table
            ``component, group, term, term2, parameter, estimate, bias, std_error,
            conf_low, conf_high``; `bias` is the mean of the draws less the estimate.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> ranef.bootstrap(fit, 100, rng=1).tidy().shape
        (3, 10)
        """
        return self.tabled(self.intervals(conf_level, kind, spread=True))

    def confint(
        self,
        conf_level: float = 0.95,
        *,
        kind: str = "percentile",
        parameters: str | Sequence[str] | None = None,
        cluster: str | None = None,
    ) -> Any:
        """Return bootstrap intervals.

        Parameters
        ----------
        conf_level : float
        kind : {"percentile", "basic", "normal", "bca"}
            - ``"percentile"``: quantiles of the draws;
            - ``"basic"``: these reflected about the estimate;
            - ``"normal"``: estimate less bias, plus and minus a normal quantile times the
              standard deviation of the draws;
            - ``"bca"``: quantiles at levels that correct for bias and for a spread that goes
              with the value; the acceleration comes from refits without each level of
              the outermost grouping factor.
        parameters : str or list of str, optional
            ``"fixed"``, ``"variance"`` or names, as in `ranef.profile`.
        cluster : str, optional
            The factor that ``"bca"`` leaves levels out of.

        Returns
        -------
        table
            ``component, group, term, term2, parameter, estimate, conf_low, conf_high``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> boot = ranef.bootstrap(fit, 500, rng=1)
        >>> boot.confint(kind="bca", parameters="fixed")[["term", "conf_low", "conf_high"]].round(0)
                  term  conf_low  conf_high
        0  (Intercept)    1492.0     1567.0
        """
        return self.tabled(self.intervals(conf_level, kind, parameters, cluster))

    def intervals(
        self,
        conf_level: float = 0.95,
        kind: str = "percentile",
        parameters: str | Sequence[str] | None = None,
        cluster: str | None = None,
        *,
        spread: bool = False,
        form: str = "all",
    ) -> Listing:
        """State the table of `confint`; with `spread` that of `tidy`."""
        level = arguments.conf_level(conf_level)
        low, high = self._limits(level, kind, cluster)
        values = {"estimate": self.estimate, "conf_low": low, "conf_high": high}
        if spread:
            values = {"estimate": self.estimate, **self._spread(), **values}
        keep = list(chosen(self.parameters, parameters))
        return interval_listing(
            [self.parameters[k] for k in keep],
            {name: column[keep] for name, column in values.items()},
            level,
            f"{'BCa' if kind == 'bca' else kind.capitalize()} intervals",
            form=form,
            unprinted=("bias",),
        )

    def _spread(self) -> dict[str, Floats]:
        with warnings.catch_warnings():
            # a correlation that no refit has
            warnings.simplefilter("ignore", RuntimeWarning)
            bias = np.nanmean(self.draws, axis=0) - self.estimate
            return {"bias": bias, "std_error": np.nanstd(self.draws, axis=0, ddof=1)}

    def _limits(self, level: float, kind: str, cluster: str | None) -> tuple[Floats, Floats]:
        kind = arguments.choice("kind", kind, numbers.INTERVALS)
        deleted = None
        if kind == "bca":
            deleted = self._jackknife(cluster)
        elif cluster is not None:
            raise ModelError("cluster= is for kind='bca'")
        return numbers.intervals_of(self.draws, self.estimate, level, kind, deleted)

    def _jackknife(self, cluster: str | None) -> Floats:
        """Values without each level of a factor."""
        estimate = self.fit.estimate
        if offers(self.fit, Redrawn):
            raise ModelError(
                f"kind='bca' is not of {self.fit.kind_words}: take 'percentile', 'basic' or "
                "'normal'"
            )
        factor = self.plan.cluster
        if cluster is not None or factor is None:
            try:
                factor = cluster_factor(estimate, cluster)
            except ModelError as error:
                raise ModelError(
                    "kind='bca' needs fits without each level of a factor, for its acceleration: "
                    f"{str(error).partition('. Use ')[0]}. Take kind='percentile', 'basic' or "
                    "'normal'"
                ) from None
        width = len(self.parameters)
        read = None if self.statistic is None else _RefitStatistic(self.fit, self.statistic, width)
        return numbers.jackknife(self.fit.inference, factor, statistic=read)

    @property
    def plot(self) -> BootstrapPlots:
        """The picture: ``plot.draws()``."""
        return BootstrapPlots(self)

    def summary(
        self, *, conf_level: float = 0.95, kind: str = "percentile", short: bool = False
    ) -> Summary:
        """Return the intervals in words and a table.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> print(ranef.bootstrap(fit, 50, rng=1).summary().page.title)
        Parametric bootstrap, 50 replicates: Yield ~ 1 + (1 | Batch)
        """
        listing = self.intervals(conf_level, kind, spread=True)
        most = SHORT_ROWS if arguments.flag("short", short) else MOST_ROWS
        return Summary(self.page_of((listing, Paragraph(self.sentences())), most))

    def sentences(self) -> tuple[str, ...]:
        counts = f"{self.n_failed:,} refits failed, {self.n_singular:,} were singular"
        counts += f", {self.n_unproved:,} without a proved optimum." if self.n_unproved else "."
        reasons = self.reasons().most_common(3)
        return (
            self._method_line(),
            counts,
            *(f"Failed ({count:,}): {reason}" for reason, count in reasons),
        )

    def _method_line(self) -> str:
        if self.plan.cluster is not None:
            factor = self.fit.factors[self.plan.cluster]
            return (
                f"Whole levels of {factor.name} ({factor.n_levels:,}) were drawn with replacement."
            )
        if self.plan.method == "cluster":
            return "Whole units of the highest level were drawn with replacement."
        if self.plan.method == "residual":
            return (
                "Effects and residuals, centred and brought to the estimated variances, were "
                "drawn with replacement."
            )
        if offers(self.fit, Redrawn) and not hasattr(self.fit, "redrawn_effects"):
            return "Whole tables were drawn from the fitted model."
        kept = self.plan.effects == "conditional"
        how = "with random effects at their modes" if kept else "with new random effects"
        return f"Responses were drawn from the fitted model {how}."
