"""`impute`: missing responses of a trial drawn under a stated assumption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.pooling import PooledFit, pool
from ranef.api.power_designs import like
from ranef.design.evaluate import unknown_column
from ranef.display.answer import Answer
from ranef.display.columns import Column, Level, Listing
from ranef.display.progress import counted
from ranef.errors import DataError, DataWarning, LevelError, ModelError, suggestion, warn
from ranef.fits.linear import LinearFit
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Generative, Refittable, require
from ranef.formula.labels import level_text
from ranef.formula.model import read_formula, response_of
from ranef.formula.syntax import Name
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.inference.draws.imputation import METHODS, Patient, assumed_mean, drawn_missing
from ranef.inference.draws.parameter_draws import linear_draws
from ranef.inference.draws.simulation import DrawnParameters
from ranef.models.noise import Noise
from ranef.models.records import CONDITIONAL
from ranef.models.rows import PartRows
from ranef.tables import Table
from ranef.tables.looks import counted_visits

__all__ = ["Imputations", "impute"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

TRIES = 50
WORDS = {
    "mar": "missing at random: as if they had stayed",
    "j2r": "jump to reference: with the means of the reference arm from then on",
    "cr": "copy reference: with the means of the reference arm throughout",
    "cir": "copy increments in reference: with the changes of the reference arm from then on",
}


@dataclass(frozen=True, eq=False, repr=False)
class Imputations(Answer):
    """A table with its missing responses drawn, several times; `ranef.impute` makes it.

    Going through it gives the completed tables.

    Attributes
    ----------
    fit : the fit whose model they were drawn from
    data : pandas table
        The rows, with what is missing.
    response : str
    drawn : (n, k) float64 array
        What was drawn, of each row that was missing.
    missing : (N,) bool array
    after : (N,) bool array
        Rows after withdrawal.
    arms : list
        Arm of each row.
    method : str
    library : str
    """

    fit: Any
    data: Any
    response: str
    drawn: Floats
    missing: Bools
    after: Bools
    arms: list[Any]
    method: str
    library: str

    @property
    def title(self) -> str:
        return f"{len(self)} imputations of {self.response}"

    def __len__(self) -> int:
        return len(self.drawn)

    def __iter__(self) -> Iterator[Any]:
        for values in self.drawn:
            y = self.data[self.response].to_numpy(dtype=np.float64, copy=True)
            y[self.missing] = values
            yield self.data.assign(**{self.response: y})

    def pool(self, *, df_complete: float | None = None) -> PooledFit:
        """Fit the model again to every completed table, and pool the fits."""
        again = like(self.fit)
        return pool((again(table) for table in self), df_complete=df_complete)

    def tidy(self) -> Any:
        """Return ``arm, rows, between, after``: how many are missing, and where."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        arms = list(dict.fromkeys(self.arms))
        own = np.array([arms.index(arm) for arm in self.arms])
        between, after = self.missing & ~self.after, self.missing & self.after
        columns = (
            Column("arm", arms, Level()),
            *(
                Column(name, np.bincount(own[rows], minlength=len(arms)), Level(), heading)
                for name, rows, heading in (
                    ("rows", np.ones(len(own), dtype=bool), "rows"),
                    ("between", between, "missing between visits"),
                    ("after", after, "after withdrawal"),
                )
            ),
        )
        return (Listing("missing", columns, "Responses that were drawn"),)

    def sentences(self) -> tuple[str, ...]:
        return (
            f"Responses after withdrawal are {WORDS[self.method]}.",
            "Those between visits are missing at random. Parameters are drawn for each.",
        )


def impute(
    fit: Any,
    data: Any,
    *,
    arm: str | None = None,
    reference: Any = None,
    method: str = "mar",
    delta: float | Mapping[Any, float] = 0.0,
    time: str | None = None,
    n: int = 20,
    rng: Any = None,
    parameters: str = "draw",
    progress: bool | None = None,
) -> Imputations:
    """Draw the missing responses of a trial, under an assumption on who withdrew.

    Parameters
    ----------
    fit : fit of `lmm`
        The model by visit of what was observed, such as ``lmm("y ~ arm * visit", data,
        residual="us(visit | id)")``; or with random effects of one grouping factor.
    data : table
        A row for each patient and visit, the response missing where it is to be drawn.
    arm : str, optional
        The column of the arms; needed but for ``"mar"`` without `delta`.
    reference : optional
        The reference arm.
    method : {"mar", "j2r", "cr", "cir"}
        Of responses after the last that is there: missing at random; jump to reference; copy
        reference; copy increments in reference. Responses that are missing before are missing
        at random.
    delta : float or dict, optional
        Added to what is drawn after withdrawal, in every arm but the reference, or by arm.
    time : str, optional
        The column of the visits; that of the residuals' structure if not given.
    n : int
        Imputations.
    rng : int or numpy.random.Generator, optional
    parameters : {"draw", "fixed"}
        Drawn for each imputation from the normal distribution of their estimates, as proper
        imputation asks; or kept at the estimates.
    progress : bool, optional
        Show a bar; None where a person looks and it takes more than a second.

    Returns
    -------
    Imputations
        Going through it gives the completed tables; ``pool()`` fits the same model to each and
        pools the fits.

    Raises
    ------
    ranef.errors.ModelError
        The model is no linear one of patients apart; the covariance differs between arms under
        a method that takes the reference's.

    Notes
    -----
    Carpenter, Roger and Kenward (2013). Rubin's variance of reference-based estimates is that of
    the information lost, and larger than their variance under repeated sampling (Cro, Carpenter
    and Kenward 2019, *J. R. Stat. Soc. A* 182).

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng, visits = np.random.default_rng(1), 3
    >>> trial = {"id": np.repeat(np.arange(60), visits), "visit": np.tile([1, 2, 3], 60)}
    >>> trial["arm"] = np.where(trial["id"] % 2, "drug", "placebo")
    >>> y = np.repeat(rng.normal(size=60), visits) + rng.normal(size=180)
    >>> y += trial["visit"] * (trial["arm"] == "drug")
    >>> trial["y"] = np.where((trial["visit"] == 3) & (trial["id"] % 3 == 0), np.nan, y)
    >>> fit = ranef.lmm("y ~ arm * factor(visit)", trial, residual="us(visit | id)")
    >>> effect = {}
    >>> for method in ("mar", "j2r"):
    ...     drawn = ranef.impute(fit, trial, arm="arm", reference="placebo", method=method, rng=1)
    ...     table = drawn.pool().contrasts("arm", by="visit").tidy()
    ...     effect[method] = abs(table["estimate"][2])
    >>> bool(effect["j2r"] < effect["mar"])
    True
    """
    require(fit, "impute()", Generative, Refittable)
    if not isinstance(fit, LinearFit):
        raise ModelError("impute() draws normal responses: it takes a fit of ranef.lmm")
    method = arguments.choice("method", method, METHODS)
    draws = arguments.choice("parameters", parameters, ("draw", "fixed")) == "draw"
    trial = Trial.of(fit, data, arm, reference, time, needed=method != "mar" or delta != 0.0)
    if method != "mar" and trial.arms_differ_in_covariance():
        raise ModelError(
            f"method={method!r} takes the covariance of the reference arm, and in this model that "
            "of the arms differs (by=, dispersion= or random effects of the arm); fit one "
            "covariance for all arms"
        )
    source, count = arguments.generator(rng), arguments.count("n", n)
    more = trial.shifts(delta, reference)
    draw: Callable[[np.random.Generator], DrawnParameters] | None = None
    if draws:
        draw = linear_draws(fit.estimate, parameter_covariance(fit.estimate))
    out = np.empty((count, int(trial.missing.sum())))
    for k in counted(range(count), "imputing", progress):
        out[k] = _drawn(trial, draw, method, source)[trial.missing] + more[trial.missing]
    return Imputations(
        fit, trial.table, trial.response, out, trial.missing, trial.after, trial.arms, method,
        fit.frame.library,
    )  # fmt: skip


def _drawn(
    trial: Trial,
    draw: Callable[[np.random.Generator], DrawnParameters] | None,
    method: str,
    rng: np.random.Generator,
) -> Floats:
    """One completed response; parameters without a covariance matrix are drawn again."""
    if draw is None:
        return trial.completed(DrawnParameters.at(trial.fit.estimate), method, rng)
    for _ in range(TRIES):
        try:
            return trial.completed(draw(rng), method, rng)
        except (ModelError, np.linalg.LinAlgError):
            continue
    raise ModelError(
        f"{TRIES} draws of the parameters had no covariance matrix: the data say too little of "
        "them; a simpler structure, or parameters='fixed', may serve"
    )


@dataclass(frozen=True, eq=False)
class Trial:
    """The rows of a trial as the model takes them.

    Attributes
    ----------
    fit : LinearFit
    table : pandas table
    response : str
    y : (N,) float64 array
        NaN where it is missing.
    own, other : PartRows
        Under each row's own arm, and under the reference.
    patients : tuple of Patient
        Those with something missing.
    arms : list
        Of each row.
    """

    fit: LinearFit
    table: Any
    response: str
    y: Floats
    own: PartRows
    other: PartRows
    patients: tuple[Patient, ...]
    arms: list[Any]

    @classmethod
    def of(
        cls, fit: LinearFit, data: Any, arm: str | None, reference: Any, time: str | None,
        needed: bool,
    ) -> Trial:  # fmt: skip
        """Read a table."""
        import pandas as pd

        table = Table.of(data)
        node = response_of(read_formula(fit.formula)).bare
        if not isinstance(node, Name):
            raise ModelError(
                f"impute() draws the values of a column, and {node.printed!r} is made of one: "
                "add it to the table as a column"
            )
        columns = {name: table.column(name).values() for name in table.columns}
        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(columns)
        own = _rows(fit, frame)
        other, arms = own, ["all"] * len(frame)
        if arm is not None:
            _check_column(table, "arm", arm)
            arms = list(columns[arm])
        if needed and (arm is None or reference is None):
            raise ModelError("name the column of the arms and the reference: arm=, reference=")
        if arm is not None and reference is not None:
            levels = {level_text(level): level for level in dict.fromkeys(arms)}
            if level_text(reference) not in levels:
                raise LevelError(
                    f"reference: {arm!r} has no level {reference!r}"
                    f"{suggestion(str(reference), list(levels))}; it has {_some(levels)}"
                )
            if needed:
                other = _rows(fit, _under(frame, arm, levels[level_text(reference)]))
        y = table.numeric(node.value)
        order = _times(fit, table, time)
        codes, _ = table.codes(_patient(fit))
        patients = []
        for rows in _by_patient(codes, order):
            found = Patient.of(rows, ~np.isfinite(y[rows]))
            if found.missing.any():
                patients.append(found)
        return cls(fit, frame, node.value, y, own, other, tuple(patients), arms)

    @property
    def missing(self) -> Bools:
        return np.asarray(~np.isfinite(self.y))

    @property
    def after(self) -> Bools:
        """Rows (N,) after withdrawal."""
        out = np.zeros(len(self.y), dtype=np.bool_)
        for patient in self.patients:
            out[patient.rows] = patient.after
        return out

    def shifts(self, delta: float | Mapping[Any, float], reference: Any) -> Floats:
        """What is added to each row after withdrawal, (N,)."""
        known = dict.fromkeys(self.arms)
        if isinstance(delta, Mapping):
            odd = [arm for arm in delta if arm not in known]
            if odd:
                raise LevelError(f"delta: there is no arm {odd[0]!r}; there are {list(known)}")
            by = {arm: _shift(f"delta[{arm!r}]", delta.get(arm, 0.0)) for arm in known}
        else:
            size = _shift("delta", delta)
            by = {arm: size * (level_text(arm) != level_text(reference)) for arm in known}
        return np.array([by[arm] for arm in self.arms]) * self.after

    def completed(self, now: DrawnParameters, method: str, rng: np.random.Generator) -> Floats:
        """Responses (N,) with what is missing drawn at some parameters."""
        means = [
            part.X @ now.beta + (0.0 if part.offset is None else part.offset)
            for part in (self.own, self.other)
        ]
        out = self.y.copy()
        for patient, V in zip(self.patients, self._covariances(self.own, now), strict=True):
            rows = patient.rows
            mean = assumed_mean(means[0][rows], means[1][rows], patient, method)
            drawn = drawn_missing(self.y[rows], mean, V, patient.missing, rng)
            out[rows[patient.missing]] = drawn
        return out

    def arms_differ_in_covariance(self) -> bool:
        """Whether a patient's responses have another covariance under the reference."""
        now = DrawnParameters.at(self.fit.estimate)
        own, reference = self._covariances(self.own, now), self._covariances(self.other, now)
        return not all(np.allclose(V, W, rtol=1e-9) for V, W in zip(own, reference, strict=True))

    def _covariances(self, part: PartRows, now: DrawnParameters) -> list[Floats]:
        """Covariance (m, m) of each patient's responses."""
        noise = Noise.of(self.fit.estimate, part.residual, part.weights, len(self.y))
        if now.residual is not None:
            noise = Noise(part.residual, part.weights, len(self.y), now.residual)
        out: list[Floats] = []
        for patient, R in zip(self.patients, self._residual_covariances(noise), strict=True):
            V = now.sigma**2 * R
            for (_, z), psi in zip(part.random or (), now.covariances, strict=True):
                V = V + z[patient.rows] @ psi @ z[patient.rows].T
            out.append(V)
        return out

    def _residual_covariances(self, noise: Noise) -> list[Floats]:
        """Covariance (m, m) of each patient's residuals; those of as many rows in one go."""
        out: list[Floats] = [np.empty((0, 0))] * len(self.patients)
        sizes = np.array([len(patient.rows) for patient in self.patients])
        for size in np.unique(sizes):
            own = np.flatnonzero(sizes == size)
            found = noise.covariance(np.array([self.patients[i].rows for i in own]))
            for i, R in zip(own, found, strict=True):
                out[i] = R
        return out


def _shift(name: str, value: Any) -> float:
    """What is added to a response: a finite number."""
    size = arguments.number(name, value)
    if not np.isfinite(size):
        raise ModelError(f"{name} must be finite, not {value!r}")
    return size


def _rows(fit: LinearFit, frame: Any) -> PartRows:
    rows, _ = read_rows(fit, frame, "new", weights=True, noise="together")
    part = rows.parts[CONDITIONAL]
    if len(part.X) != len(frame):
        raise DataError(
            f"{len(frame) - len(part.X)} of {len(frame)} rows lack a column of the model other "
            "than the response; fill those in, or leave the rows out"
        )
    return part


def _under(frame: Any, arm: str, level: Any) -> Any:
    """The table with everybody in one arm."""
    import pandas as pd

    column = frame[arm]
    if isinstance(column.dtype, pd.CategoricalDtype):
        values: Any = pd.Categorical([level] * len(frame), dtype=column.dtype)
    else:
        values = np.full(len(frame), level, dtype=column.to_numpy().dtype)
    return frame.assign(**{arm: values})


def _check_column(table: Table, argument: str, name: str) -> None:
    if name not in table.columns:
        raise unknown_column(name, table, argument)


def _patient(fit: LinearFit) -> str:
    """The column of the patients."""
    spec = fit.estimate.specification
    groups = [f.columns for f in spec.factors]
    if spec.residual is not None and spec.residual.group is not None:
        groups.append(spec.residual.group.columns)
    if any(term.kernel is not None for term in spec.terms):
        raise ModelError("impute() takes patients who are independent; a kernel relates them")
    if len(set(groups)) != 1 or len(groups[0]) != 1:
        raise ModelError(
            "impute() takes a model whose responses are correlated within one column, the "
            f"patients; this one has {sorted({':'.join(g) for g in groups}) or 'none'}"
        )
    return groups[0][0]


def _times(fit: LinearFit, table: Table, time: str | None) -> Floats:
    """By what the rows of a patient are put in order, (N,)."""
    if time is None:
        recipe = fit.estimate.specification.recipe.residual
        text = None if recipe is None else recipe.residual
        inside = text.partition("(")[2].partition("|")[0].strip() if text else ""
        if inside not in table.columns:
            raise ModelError("name the column of the visits: time=")
        time = inside
    _check_column(table, "time", time)
    if table.kind(time) == "numeric":
        return table.numeric(time)
    codes, levels = table.codes(time)
    ordered = counted_visits(map(str, levels)) if table.kind(time) == "text" else None
    if ordered is not None:
        warn(
            f"the visits of {time} are in alphabetical order, and who withdrew depends on it; "
            f"make it a category with the order {', '.join(ordered)}, or name a time: time=",
            DataWarning,
        )
    return codes.astype(np.float64)


def _by_patient(codes: NDArray[np.int32], order: Floats) -> Iterator[Ints]:
    """Rows of each patient by time."""
    sorted_rows = np.lexsort((order, codes))
    ends = np.flatnonzero(np.diff(codes[sorted_rows])) + 1
    yield from np.split(sorted_rows, ends)


def _some(levels: Iterable[str]) -> str:
    """List levels, the first where they are many."""
    names = list(levels)
    more = f" and {len(names) - 6:,} more" if len(names) > 6 else ""
    return f"{', '.join(names[:6])}{more}"
