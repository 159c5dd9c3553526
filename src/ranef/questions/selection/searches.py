"""Searches through models: the steps taken, and what a model says that was chosen by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Label, Listing, unprinted
from ranef.display.page import Paragraph
from ranef.display.progress import counted
from ranef.errors import Interrupted, ModelError, RanefError
from ranef.fits.columns import groups_of
from ranef.fits.mixed import MixedFit
from ranef.inference.undetermined import masked
from ranef.models.records import Estimate
from ranef.questions.selection.criteria import conditional_fit, marginal_fit
from ranef.questions.selection.random_part import Block, Parts
from ranef.tables import Table, make_table

__all__ = ["Search", "Stability", "Step", "backward", "criterion_of", "maximal_path"]

Floats = NDArray[np.float64]
Fitting = Callable[[Parts], MixedFit]

NAMES = {"aic": "AIC", "aicc": "AICc", "bic": "BIC", "caic": "conditional AIC"}
WARNING = (
    "The tests and intervals of the chosen model do not know that it was chosen, and are too "
    "certain. split() fits it to rows that did not choose it; bootstrap() repeats the whole search."
)
MOST_FITS = 40


@dataclass(frozen=True)
class Step:
    """One model that was tried.

    Attributes
    ----------
    formula : str
    change : str
        What was done to the model before it.
    value : float
        The criterion.
    singular : bool
        Whether its fit lies on a boundary.
    kept : bool
        Whether the search went on from it.
    why : str
    """

    formula: str
    change: str
    value: float
    singular: bool
    kept: bool
    why: str


@dataclass(frozen=True, eq=False, repr=False)
class Search(Answer):
    """Models tried in turn, and the one chosen; `maximal` and `step` make it.

    Attributes
    ----------
    fit : fit
        The model chosen.
    log : tuple of Step
        Every model that was fitted, in turn.
    criterion : str
    title, library : str
    data : table
        By which it was chosen.
    procedure : callable
        From a table to the Search of that table, for `split` and `bootstrap`.
    refit : callable
        From a formula and a table to a fit.
    """

    fit: MixedFit
    log: tuple[Step, ...]
    criterion: str
    title: str
    library: str
    data: Any
    procedure: Callable[[Any], Search]
    refit: Callable[[str, Any], MixedFit]

    @property
    def formula(self) -> str:
        """Of the model chosen."""
        return self.fit.formula

    @property
    def n_fits(self) -> int:
        """Number of models fitted."""
        return len(self.log)

    def steps(self) -> Any:
        """Return the models that were tried, in turn.

        Returns
        -------
        table
            ``step, change, formula``, the criterion, ``singular, kept, why``.
        """
        return self.tidy()

    def tables(self) -> tuple[Listing, ...]:
        log = self.log
        columns = (
            Column("step", list(range(1, len(log) + 1)), Fixed(0), ""),
            Column("change", [s.change for s in log]),
            *unprinted(formula=[s.formula for s in log]),
            Column(self.criterion, [s.value for s in log], Fixed(2), NAMES[self.criterion]),
            Column("singular", [s.singular for s in log], Label()),
            Column("kept", [s.kept for s in log], Label()),
            *unprinted(why=[s.why for s in log]),
        )
        return (Listing("steps", columns, f"{self.n_fits} fits", 2),)

    def sentences(self) -> tuple[str, ...]:
        return (f"Chosen: {self.formula}", WARNING)

    def split(self, fraction: float = 0.5, *, by: str | None = None, rng: Any = 0) -> MixedFit:
        """Choose by some groups, and fit what was chosen to the others.

        Parameters
        ----------
        fraction : float
            Share of the groups by which the model is chosen.
        by : str, optional
            The grouping factor that is split; the one that holds all others, or that with most
            levels.
        rng : int or numpy.random.Generator

        Returns
        -------
        fit
            Of the groups that did not choose: its tests and intervals hold.
        """
        if not 0 < float(fraction) < 1:
            raise ModelError(f"fraction must lie between 0 and 1, not {fraction!r}")
        codes, _ = _groups(self.fit, by)
        count = int(codes.max()) + 1
        if count < 4:
            raise ModelError(f"splitting a sample needs four groups or more, and there are {count}")
        generator = np.random.default_rng(rng)
        chosen = generator.permutation(count)[: max(2, round(float(fraction) * count))]
        inside = np.isin(codes, chosen)
        found = self.procedure(self._rows(inside))
        return self.refit(found.formula, self._rows(~inside))

    def _rows(self, used: NDArray[np.bool_]) -> Any:
        """Some of the rows in the model as a table."""
        kept = self.fit.frame.accounting.kept
        rows = used
        if kept is not None:
            rows = np.zeros(len(kept), dtype=np.bool_)
            rows[np.flatnonzero(kept)[used]] = True
        return make_table(Table.of(self.data).mapping(rows), self.library)

    def bootstrap(
        self, n: int = 100, *, by: str | None = None, rng: Any = 0, progress: bool | None = None
    ) -> Stability:
        """Repeat the whole search on tables of groups drawn with replacement.

        Parameters
        ----------
        n : int
        by : str, optional
            The grouping factor whose levels are drawn, as in `split`.
        rng : int or numpy.random.Generator
        progress : bool, optional

        Returns
        -------
        Stability
            How often each coefficient is in the model, and its distribution, 0 where it is not.
        """
        generator = np.random.default_rng(rng)
        codes, top = _groups(self.fit, by)
        table = Table.of(self.data)
        kept = self.fit.frame.accounting.kept
        rows = np.flatnonzero(kept) if kept is not None else np.arange(len(codes))
        count = int(codes.max()) + 1
        members = [rows[codes == g] for g in range(count)]
        nested = _nested_columns(self.fit, codes)
        found: list[Search] = []
        failed = 0
        for _ in counted(range(n), "repeating the search", progress):
            drawn = generator.integers(0, count, count)
            take = np.concatenate([members[g] for g in drawn])
            copy = np.repeat(np.arange(count), [len(members[g]) for g in drawn])
            data = table.mapping(take)
            for name in nested:
                data[name] = np.array([f"{v}.{c}" for v, c in zip(data[name], copy, strict=True)])
            try:
                found.append(self.procedure(make_table(data, self.library)))
            except (RanefError, np.linalg.LinAlgError):
                failed += 1
            except KeyboardInterrupt as stop:
                if not found:
                    raise
                raise Interrupted(
                    f"interrupted after {len(found)} of {n} searches; these are the error's "
                    "partial",
                    Stability(self, tuple(found), failed, self.library),
                ) from stop
        if not found:
            raise ModelError(f"no search of {n} samples of {top} could be made")
        return Stability(self, tuple(found), failed, self.library)


def _groups(fit: MixedFit, by: str | None) -> tuple[NDArray[np.intp], str]:
    """Codes of the groups that are drawn or split, and their name."""
    if by is None:
        if not fit.factors:
            raise ModelError("the model has no groups that could be drawn; name a column: by=")
        within = [all(o.lies_within(f.codes) for o in fit.factors) for f in fit.factors]
        most = max(fit.factors, key=lambda f: f.n_levels)
        by = fit.factors[within.index(True)].name if any(within) else most.name
    return groups_of(fit, by)[0].astype(np.intp), by


def _nested_columns(fit: MixedFit, codes: NDArray[np.intp]) -> list[str]:
    """Grouping columns whose values each belong to one group: copies get names of their own."""
    out = []
    for factor in fit.factors:
        for name in factor.columns:
            own = groups_of(fit, name)[0]
            first = np.zeros(int(own.max()) + 1, dtype=np.intp)
            first[own] = codes
            if np.array_equal(first[own], codes):
                out.append(name)
    return list(dict.fromkeys(out))


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Answer):
    """A search repeated on samples of the groups; `Search.bootstrap` makes it.

    Attributes
    ----------
    search : Search
        Of the table itself.
    repeats : tuple of Search
    failed : int
    library : str
    """

    search: Search
    repeats: tuple[Search, ...]
    failed: int
    library: str
    title: ClassVar[str] = "The search repeated"

    def tables(self) -> tuple[Listing, ...]:
        every: dict[str, None] = {}
        found: list[Mapping[str, float]] = []
        for one in (self.search, *self.repeats):
            beta = dict(zip(one.fit.names, masked_coefficients(one.fit), strict=True))
            every |= dict.fromkeys(beta)
            found.append(beta)
        own, rest = found[0], found[1:]
        names = list(every)
        draws = np.array([[one.get(name, 0.0) for name in names] for one in rest])
        share = np.array([np.mean([name in one for one in rest]) for name in names])
        low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
        formulas: dict[str, int] = {}
        for one in self.repeats:
            formulas[one.formula] = formulas.get(one.formula, 0) + 1
        order = sorted(formulas, key=lambda f: -formulas[f])
        terms = (
            Column("term", names),
            Column("estimate", [own.get(name, 0.0) for name in names], Fixed(3)),
            Column("share", share, Fixed(2), "in the model"),
            Column("conf_low", low, Fixed(3), "95% low"),
            Column("conf_high", high, Fixed(3), "high"),
        )
        models = (
            Column("formula", order),
            Column("share", [formulas[f] / len(self.repeats) for f in order], Fixed(2)),
        )
        return (
            Listing("terms", terms, "Coefficients, 0 where they are not in the model"),
            Listing("models", models, "Models chosen"),
        )

    def body(self) -> Iterable[Part]:
        first, models = self.tables()
        yield first
        yield models.take(np.arange(min(5, len(models.columns[0].values))))
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        lost = f", {self.failed:,} more failed" if self.failed else ""
        return (
            f"The whole search on {len(self.repeats):,} samples of the groups{lost}: the intervals "
            "hold what choosing adds.",
        )


def masked_coefficients(fit: MixedFit) -> Floats:
    """Coefficients, NaN where the data do not determine them."""
    other = fit.equally_good
    if other is None:
        return fit.coefficients
    return np.asarray(masked(fit.coefficients, other.coefficients))


def criterion_of(estimate: Estimate, criterion: str) -> float:
    """The criterion of an estimate."""
    if criterion == "caic":
        return conditional_fit(estimate, refits=False).caic
    return float(getattr(marginal_fit(estimate), criterion))


# --- fixed effects


@contextmanager
def _kept(fit: MixedFit | None, log: Sequence[Step]) -> Iterator[None]:
    """Hand the best model so far on with an interrupt."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if fit is None:
            raise
        raise Interrupted(
            f"interrupted; models fitted until then: {len(log)}; the best, {fit.formula}, is the "
            "error's partial",
            fit,
        ) from stop


def backward(
    start: Parts, fitting: Fitting, criterion: str, keep: Sequence[str]
) -> tuple[MixedFit, tuple[Step, ...]]:
    """Take out the fixed term whose absence helps the criterion most, until none does."""
    fit = fitting(start)
    value = criterion_of(fit.estimate, criterion)
    log = [Step(start.formula, "the model given", value, fit.optimum.singular, True, "the start")]
    here = start
    while here.removable(keep):
        tried = []
        for term in here.removable(keep):
            parts = here.without(term)
            with _kept(fit, log):
                one = fitting(parts)
            tried.append((criterion_of(one.estimate, criterion), term, parts, one))
        best = min(tried, key=lambda t: (t[0], t[1]))
        for own, term, parts, one in tried:
            kept = term == best[1] and own < value
            why = "less by most" if kept else "more" if own >= value else "another helps more"
            log.append(Step(parts.formula, f"without {term}", own, one.optimum.singular, kept, why))
        if best[0] >= value:
            break
        value, _, here, fit = best
    return fit, tuple(log)


# --- random effects


class _Path:
    """The path from the maximal random part to one that the data support."""

    def __init__(self, start: Parts, fitting: Fitting, criterion: str) -> None:
        self.fitting, self.criterion = fitting, criterion
        self.log: list[Step] = []
        self.fit: MixedFit | None = None
        self.parts, self.value = start, np.inf

    def tried(self, parts: Parts) -> tuple[MixedFit | None, float, str]:
        try:
            with _kept(self.fit, self.log):
                fit = self.fitting(parts)
        except RanefError as error:
            return None, np.inf, str(error)
        return fit, criterion_of(fit.estimate, self.criterion), ""

    def go(self, parts: Parts, change: str, why: str) -> bool:
        """Take a step whatever the criterion says; False where the model cannot be fitted."""
        fit, value, error = self.tried(parts)
        singular = fit is not None and fit.optimum.singular
        self.log.append(Step(parts.formula, change, value, singular, True, error or why))
        self.parts, self.fit, self.value = parts, fit, value
        return fit is not None

    def offer(self, parts: Parts, change: str) -> bool:
        """Take a step if the criterion falls and the fit is off the boundary."""
        fit, value, error = self.tried(parts)
        singular = fit is not None and fit.optimum.singular
        worse = singular and not (self.fit is not None and self.fit.optimum.singular)
        kept = fit is not None and not worse and value < self.value
        why = error or ("less" if kept else "on a boundary" if worse else "more")
        self.log.append(Step(parts.formula, change, value, singular, kept, why))
        if kept:
            self.parts, self.fit, self.value = parts, fit, value
        return kept


def maximal_path(
    start: Parts, fitting: Fitting, criterion: str
) -> tuple[MixedFit, tuple[Step, ...]]:
    """Go from the maximal random part to the largest that the data support.

    1. While a block lies on a boundary: an unstructured one loses its correlations, a diagonal
       one its terms of variance zero, and one that cannot be fitted its highest terms.
    2. While the criterion falls: the term with the least share of the variance goes, of those
       that no other contains.
    3. Diagonal blocks get their correlations back where the criterion falls and the fit stays off
       the boundary.
    """
    path = _Path(start, fitting, criterion)
    path.go(start, "the maximal model", "the start")
    while len(path.log) < MOST_FITS and _off_the_boundary(path):
        pass
    if path.fit is None:
        raise ModelError(f"no random part of {start.formula} can be fitted: {path.log[-1].why}")
    _smaller(path)
    for place, block in enumerate(path.parts.blocks):
        if block.fixed is None and not block.correlated and block.size > 1:
            wider = Block(block.group, block.intercept, block.terms)
            path.offer(path.parts.with_block(place, wider), f"correlations in {block.text}")
    assert path.fit is not None
    return path.fit, tuple(path.log)


def _off_the_boundary(path: _Path) -> bool:
    """One step away from the boundary; False where the fit is off it, or nothing can go."""
    parts = path.parts
    if path.fit is None:
        place = max(range(len(parts.blocks)), key=lambda k: (parts.blocks[k].size, -k))
        block = parts.blocks[place]
        if block.fixed is not None or block.size <= 1:
            return False
        term = block.removable()[-1]
        path.go(
            parts.with_block(place, block.without(term)),
            f"without {term} in {block.text}",
            "the larger one cannot be fitted",
        )
        return True
    faces = {face.term: face for face in path.fit.optimum.faces}
    changed, words = parts, []
    for place in sorted(faces, reverse=True):
        block = parts.blocks[place]
        if block.fixed is not None:
            continue
        if block.correlated and block.size > 1:
            changed = changed.with_block(
                place, Block(block.group, block.intercept, block.terms, False)
            )
            words.append(f"no correlations in {block.text}")
            continue
        smaller = _without_zeros(path.fit, place, block)
        if smaller is None and len(changed.blocks) == 1:
            continue
        if smaller != block:
            changed = changed.with_block(place, smaller)
            gone = (
                "all"
                if smaller is None
                else ", ".join(sorted(set(block.terms) - set(smaller.terms)) or ["1"])
            )
            words.append(f"without {gone} in {block.text}")
    if changed == parts:
        return False
    why = "; ".join(faces[place].description for place in sorted(faces))
    path.go(changed, "; ".join(reversed(words)), why)
    return True


def _without_zeros(fit: MixedFit, place: int, block: Block) -> Block | None:
    """A diagonal block without the terms whose variances are zero: it is the same model."""
    shares = _shares(fit, place, block)
    left: Block | None = block
    for term in block.terms:
        if left is not None and shares.get(term, 0.0) == 0.0:
            left = left.without(term)
    if left is not None and not left.terms and left.intercept and shares.get("1", 0.0) == 0.0:
        return None
    if left is not None and left.intercept and left.terms and shares.get("1", 0.0) == 0.0:
        left = Block(left.group, False, left.terms, left.correlated)
    return left


def _shares(fit: MixedFit, place: int, block: Block) -> dict[str, float]:
    """Variance that each term gives the response, on average over the rows."""
    term, psi = fit.terms[place], fit.estimate.covariances[place]
    each = np.diag(psi) * np.mean(term.z**2, axis=0)
    each = np.where(np.diag(psi) > 1e-12 * max(float(np.diag(psi).max()), 1e-300), each, 0.0)
    out: dict[str, float] = {}
    for name, value in zip(term.names, each, strict=True):
        key = "1" if name == "(Intercept)" else _term_of(name, block.terms)
        out[key] = out.get(key, 0.0) + float(value)
    return out


def _term_of(column: str, terms: Sequence[str]) -> str:
    """The term that a column belongs to: its parts begin with the term's variables."""
    parts = column.split(":")
    for term in terms:
        variables = term.split(":")
        if len(variables) == len(parts):
            free = list(variables)
            for part in parts:
                match = [v for v in free if part.startswith(v)]
                if not match:
                    break
                free.remove(max(match, key=len))
            else:
                return term
    return terms[0] if terms else "1"


def _smaller(path: _Path) -> None:
    """Take out the term with the least share of the variance, while the criterion falls."""
    while len(path.log) < MOST_FITS:
        assert path.fit is not None
        candidates = []
        for place, block in enumerate(path.parts.blocks):
            shares = _shares(path.fit, place, block) if block.fixed is None else {}
            for term in block.removable():
                if term is None and len(path.parts.blocks) == 1:
                    continue
                key = "1" if term is None else term
                candidates.append((shares.get(key, 0.0), place, key, block, term))
        if not candidates:
            return
        _, place, _, block, term = min(candidates, key=lambda c: (c[0], c[1], c[2]))
        what = block.text if term is None else f"{term} in {block.text}"
        if not path.offer(path.parts.with_block(place, block.without(term)), f"without {what}"):
            return
