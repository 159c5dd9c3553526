"""`power`: studies simulated from stated parameters, fitted and tested."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.power_designs import Maker, Parameters, makers
from ranef.design.state import Coding
from ranef.display.progress import arriving
from ranef.errors import DataError, Interrupted, ModelError, RanefError, RanefWarning, suggestion
from ranef.fits.mixed import MixedFit
from ranef.models.records import CONDITIONAL
from ranef.questions.power.answer import Power, Study
from ranef.solve.resources import available_cores, in_threads

__all__ = ["power"]

Floats = NDArray[np.float64]
Test = Callable[[Any], Any]

A_CHUNK = 20
"""Simulations that share a seed."""


def power(
    model: Any,
    design: Any = None,
    *,
    test: Any,
    fixed: Mapping[str, float] | None = None,
    sd: Mapping[str, Any] | None = None,
    corr: Mapping[str, Any] | None = None,
    sigma: float | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    dropout: Mapping[str, Any] | None = None,
    missing: float = 0.0,
    alpha: float = 0.05,
    df: str | None = None,
    n: int = 2000,
    rng: Any = None,
    conf_level: float = 0.95,
    n_jobs: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Power:
    """Simulate studies, fit and test each, and return how often a test rejects.

    Parameters
    ----------
    model : str or fit
        A formula, whose parameters are stated below without any data; or a fit, whose
        estimates hold where nothing else is stated.
    design : dict or table
        A table has the rows of the study (of a response in it no more than the categories
        matters). A dict has counts, the outermost first, ``{"person": 40, "day": 7, "prompt":
        5}``: every combination is a row, levels are numbered from 1 or named by a list (``"dose":
        [0, 10, 20]``). What varies between units is a dict of its own, ``"arm": {"person":
        ["placebo", "drug"]}``: levels that the units take in turn, a function of ``(rng,
        size)``, or ``"normal"``, ``"uniform"``, ``"binary"``; units are counts, combinations
        ``"person/day"``, or ``"row"``. What is drawn is drawn anew in each study. With a fit
        it may be left out: the rows are those of the fit.
    test : str, sequence, dict or callable
        What is tested: a coefficient or a term by name; several together (a list); a linear
        combination (``{"a": 1, "b": -1}``); or any function of a fit that returns a p-value,
        or whether it rejects. A dict of these by name makes several tests.
    fixed : dict
        Coefficients by name; with a formula those not named are 0. In generalised models those
        of all parts, ``"dispersion: (Intercept)"``, on the scale of their links.
    sd : dict
        Group (or label of a random term) -> standard deviation, for several columns
        ``{"person": {"(Intercept)": 1.0, "day": 0.2}}``. ``"residual"`` -> those of residuals
        with a structure: of ``us(visit | id)`` one a visit, the first that of `sigma`.
    corr : dict, optional
        Group -> correlation of its columns (0 if not stated), or the other parameters of a
        structure such as ``ar1``; ``"residual"`` -> those of `residual`, in the order of
        ``tidy("variance")``.
    sigma : float
        Residual standard deviation of a linear model.
    vary : dict, optional
        Count, coefficient, or (with a fit and no design) the outermost grouping factor ->
        values; every combination is simulated. Levels of a fit's factor are repeated in turn.
    dropout : dict, optional
        ``{"visit": 0.2}``: share of the units above it that have left by its last level, evenly
        from the first on; or the shares that are still there, one a level.
    missing : float
        Share of the rows that are missing at random, as prompts not answered.
    alpha : float
        Level of the test.
    df : str, optional
        Method of the degrees of freedom of tests by name.
    n : int
        Studies of each design.
    rng : int or numpy.random.Generator, optional
        The same gives the same studies, for any `n_jobs`.
    conf_level : float
        Of the interval of the Monte Carlo error.
    n_jobs : int, optional
        Threads; None for all this process may use.
    progress : bool, optional
        Show a bar; None where a person looks and it takes more than a second.
    **options
        Of `lmm`, or with ``family=`` of `glmm`.

    Returns
    -------
    Power
        With ``tidy()`` (``power, conf_low, conf_high, n_failed``), ``smallest(0.8)`` and
        ``plot()``.

    Raises
    ------
    ranef.errors.ModelError
        A parameter or a test names nothing in the model; a standard deviation is missing.

    Notes
    -----
    A study whose fit or test failed does not reject; it is counted. Levels of a nested factor
    are numbered anew in each level above it: write ``(1 | school/pupil)``.

    Examples
    --------
    A trial in clusters: 12 of 10 persons each, half of them treated:

    >>> import ranef
    >>> found = ranef.power(
    ...     "y ~ arm + (1 | cluster)",
    ...     {"cluster": 12, "person": 10, "arm": {"cluster": ["control", "treated"]}},
    ...     fixed={"armtreated": 0.7}, sd={"cluster": 0.4}, sigma=1.0, test="arm",
    ...     vary={"cluster": [12, 24]}, n=100, rng=1)
    >>> found.tidy()[["cluster", "rows", "power"]]
       cluster  rows  power
    0       12   120   0.55
    1       24   240   0.90
    """
    count, level = arguments.count("n", n), arguments.conf_level(conf_level)
    if not 0.0 < arguments.number("alpha", alpha) < 1.0:
        raise ModelError(f"alpha must lie between 0 and 1, not {alpha!r}")
    source, jobs = arguments.generator(rng), available_cores(n_jobs)
    parameters = Parameters(
        arguments.mapping("fixed", fixed, "{'x': 0.5}"),
        arguments.mapping("sd", sd, "{'person': 1.0}"),
        arguments.mapping("corr", corr, "{'person': 0.3}"),
        None if sigma is None else arguments.number("sigma", sigma),
    )
    grid = _grid(vary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanefWarning)
        made = makers(model, design, parameters, grid, dropout, missing, options, source)
        studies: list[Study] = []
        names: tuple[str, ...] = ()
        coded: dict[str, tuple[str, str]] = {}
        for at, maker in zip(grid, made, strict=True):
            tests = _tests(test, maker.fit, df)
            names, coded = tuple(tests), maker.fit.coded
            seeds = source.integers(0, 2**63 - 1, -(-count // A_CHUNK))
            run = _Run(maker, tuple(tests.values()), alpha, count)
            what = ", ".join(f"{name} {value}" for name, value in at.items()) or "power"
            parts = in_threads(run, list(enumerate(seeds.tolist())), jobs)
            done: list[tuple[Floats, list[str]]] = []
            try:
                done.extend(arriving(parts, count, what, progress, size=lambda p: len(p[0])))
            except KeyboardInterrupt:
                if done:
                    studies.append(_study(at, maker.rows, done))
                if not studies:
                    raise
                drawn = sum(len(one.rejected) for one in studies)
                raise Interrupted(
                    f"power interrupted after {drawn:,} of {count * len(grid):,} simulated "
                    "studies; this exception holds them as .partial",
                    _answer(model, studies, names, alpha, level, coded),
                ) from None
            studies.append(_study(at, maker.rows, done))
    return _answer(model, studies, names, alpha, level, coded)


def _study(at: dict[str, Any], rows: int, done: list[tuple[Floats, list[str]]]) -> Study:
    """Put the simulations of one design together."""
    rejected = np.concatenate([values for values, _ in done])
    reasons = tuple(reason for _, found in done for reason in found)
    if np.isnan(rejected).all():
        raise ModelError(f"every simulated study failed; the first: {reasons[0]}")
    return Study(at, rows, rejected, reasons)


def _answer(
    model: Any,
    studies: list[Study],
    names: tuple[str, ...],
    alpha: float,
    level: float,
    coded: dict[str, tuple[str, str]],
) -> Power:
    title = f"Power: {model if isinstance(model, str) else model.formula}"
    return Power(tuple(studies), names, float(alpha), level, title, "pandas", coded)


def _grid(vary: Mapping[str, Sequence[Any]] | None) -> list[dict[str, Any]]:
    """Every combination of what varies."""
    given = arguments.mapping("vary", vary, "{'person': [20, 40, 80]}")
    values = {}
    for name, sequence in given.items():
        values[name] = list(np.atleast_1d(np.asarray(sequence)).tolist())
        if not values[name]:
            raise DataError(f"vary: {name!r} has no values")
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


# --- what is tested


def _tests(test: Any, fit: MixedFit, df: str | None) -> dict[str, Test]:
    """Tests by name, each a function of a fit."""
    if isinstance(test, Mapping) and not test:
        raise ModelError("test= names no hypothesis; name a coefficient, such as test='x'")
    if isinstance(test, Mapping) and not all(_is_number(v) for v in test.values()):
        return {str(name): _test(one, fit, df) for name, one in test.items()}
    name = test if isinstance(test, str) else getattr(test, "__name__", "test").strip("<>")
    if isinstance(test, Mapping):
        name = "contrast"
    elif isinstance(test, Sequence) and not isinstance(test, str):
        name = ", ".join(map(str, test))
    return {name: _test(test, fit, df)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _test(test: Any, fit: MixedFit, df: str | None) -> Test:
    if callable(test):
        function: Test = test
        return function
    names = [label.full for label in fit.labels]
    if isinstance(test, Mapping):
        L = np.zeros((1, len(names)))
        for name, weight in test.items():
            L[0, names.index(_known(name, names))] = weight
        return lambda f: f.test(L, df=df).p_value
    if isinstance(test, str):
        wanted = [test] if test in names else _of_term(test, fit, names)
    elif isinstance(test, Sequence) and test:
        wanted = [_known(str(name), names) for name in test]
    else:
        raise ModelError(
            f"test must name coefficients or a term, or be a function of a fit, not {test!r}"
        )
    fit.method(df)
    return lambda f: f.test(wanted, df=df).p_value


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ModelError(
            f"test: the model has no coefficient {name!r}{suggestion(name, names)}; it has "
            f"{', '.join(map(repr, names))}"
        )
    return name


def _of_term(term: str, fit: MixedFit, names: Sequence[str]) -> list[str]:
    """Coefficients of a term of the mean: ``"arm"`` has ``armdrug``, ``"x:arm"`` ``x:armdrug``."""
    state, keys = fit.parts[CONDITIONAL].recipe.state, term.split(":")

    def columns(key: str) -> set[str]:
        coding = state.get(f"levels of {key}")
        made = {f"{key}{level}" for level in coding.levels} if isinstance(coding, Coding) else set()
        return made | {key}

    wanted = [
        name for name in names
        if len(pieces := name.split(":")) == len(keys)
        and all(piece in columns(key) for piece, key in zip(pieces, keys, strict=True))
    ]  # fmt: skip
    if not wanted:
        _known(term, names)
    return wanted


@dataclass(frozen=True, eq=False)
class _Run:
    """Makes, fits and tests the studies of one chunk."""

    maker: Maker
    tests: tuple[Test, ...]
    alpha: float
    n: int

    def __call__(self, chunk: tuple[int, int]) -> tuple[Floats, list[str]]:
        number, seed = chunk
        count = min(A_CHUNK, self.n - number * A_CHUNK)
        out, reasons = np.full((count, len(self.tests)), np.nan), []
        studies = self.maker.studies(np.random.default_rng(seed), count)
        for row, study in zip(out, studies, strict=True):
            try:
                fit = study()
            except (RanefError, np.linalg.LinAlgError, FloatingPointError) as error:
                reasons.append(str(error))
                continue
            for t, test in enumerate(self.tests):
                row[t], why = self._rejects(test, fit)
                reasons += [why] if why else []
        return out, reasons

    def _rejects(self, test: Test, fit: Any) -> tuple[float, str]:
        """Whether a test rejects, NaN with the reason where it failed."""
        try:
            found = test(fit)
        except (RanefError, np.linalg.LinAlgError, FloatingPointError) as error:
            return np.nan, str(error)
        if isinstance(found, bool | np.bool_):
            return float(found), ""
        p = float(found)
        return (np.nan, "the test has no p-value") if np.isnan(p) else (float(p < self.alpha), "")
