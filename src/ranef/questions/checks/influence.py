"""Influence of rows and groups on a fit, and leverage of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Level, Listing, Significant, Style, Written
from ranef.display.numbers import number
from ranef.display.page import Paragraph
from ranef.display.progress import counted
from ranef.errors import ModelError
from ranef.fits.columns import groups_of, labels_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, Refittable, Synthesised, offers, require
from ranef.models.labels import group_name
from ranef.questions.checks import influence_numbers, influence_picture
from ranef.questions.checks import leverage as leverage_
from ranef.tables.origin import Origin

__all__ = ["Influence", "Leverage", "influence", "leverage"]

Floats = NDArray[np.float64]

MOST_PRINTED = 8
STATISTICS = {"cook": "Cook's D", "covratio": "cov. ratio", "displacement": "displacement"}
TABLES = {
    "summary": "",
    "dfbeta": "Changes of the coefficients",
    "dfbetas": "Changes of the coefficients in standard errors",
    "theta": "Changes of theta",
    "variance": "Relative changes of the standard deviations",
}
HOW = {
    "exact": "refits",
    "one-step": "one Newton step from the estimate",
}


@dataclass(frozen=True, eq=False, repr=False)
class Influence(Answer):
    """What the fit would be without each row or group; `influence` makes it.

    Attributes
    ----------
    found : Deletions
        The numbers as arrays, one row for each row or group left out.
    by : str
        ``"row"``, or the name of the groups.
    method : str
    labels : tuple
        The groups; the places of the rows in the user's table.
    sizes : (G,) int array
        Rows that each one has.
    terms : tuple of str
        Coefficients.
    deviations : tuple of str
        Standard deviations.
    frame : Origin
    title : str
    coded : dict
        Column and level of coefficients that stand for a level of a category.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> found = ranef.influence(fit)
    >>> found.tidy().nlargest(2, "cook")[["Subject", "cook"]].round(2)
      Subject  cook
    1     309  0.15
    8     335  0.13
    """

    found: influence_numbers.Deletions
    by: str
    method: str
    labels: tuple[Any, ...]
    sizes: NDArray[np.int_]
    terms: tuple[str, ...]
    deviations: tuple[str, ...]
    frame: Origin
    title: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def library(self) -> str:
        return self.frame.library

    @property
    def cook(self) -> Floats:
        """Cook's distance of each row or group left out."""
        return self.found.cook

    def tidy(self, what: str = "summary") -> Any:
        """Return one row for each row or group left out, NaN where it cannot be.

        Parameters
        ----------
        what : {"summary", "dfbeta", "dfbetas", "theta", "variance"}
            - ``"summary"``: Cook's distance, covariance ratio, likelihood displacement.
            - ``"dfbeta"``: estimate minus that without it, one column a coefficient;
              ``"dfbetas"`` in standard errors of the fit without it.
            - ``"theta"``: change of the covariance parameters.
            - ``"variance"``: relative change of each standard deviation.

        Returns
        -------
        table
            With ``by="row"`` one row for each row of the user's table.
        """
        return self.tabled(self.listing(arguments.choice("what", what, tuple(TABLES))))

    def tabled(self, listing: Listing) -> Any:
        if self.by == "row":
            return self.frame.table(listing.table)
        return super().tabled(listing)

    def tables(self) -> tuple[Listing, ...]:
        deletions, three = self.found, Significant(3)
        summary = [
            Column(name, getattr(deletions, name), Fixed(3), heading)
            for name, heading in STATISTICS.items()
        ]
        every = range(len(self))
        moved = Column("moved", every, Written(self._most_moved), "most moved", tabled=False)
        thetas = [f"theta_{j + 1}" for j in range(deletions.theta.shape[1])]
        return (
            self._listing("summary", [*summary, moved]),
            self._listing("dfbeta", _named(self.terms, deletions.dfbeta, three)),
            self._listing("dfbetas", _named(self.terms, deletions.dfbetas, Fixed(2))),
            self._listing("theta", _named(thetas, deletions.theta, three)),
            self._listing("variance", _named(self.deviations, deletions.sd, Fixed(3))),
        )

    def _listing(self, name: str, columns: Iterable[Column]) -> Listing:
        """Lead columns by what was left out; in a table of rows their places say it."""
        rows = self.by == "row"
        labels = self.labels if rows else labels_of(self.labels)
        led = (
            Column(self.by, labels, Level(), tabled=not rows),
            Column("rows", self.sizes, Written("{:,}".format), tabled=not rows),
        )
        return Listing(name, (*led, *columns), TABLES[name])

    def _most_moved(self, g: int) -> str:
        """The coefficient that moves most without the g-th."""
        moved = self.found.dfbetas[g]
        if not np.isfinite(moved).any():
            return ""
        j = int(np.nanargmax(np.abs(moved)))
        return f"{self.terms[j]} by {number(float(moved[j]), 2)} se"

    def sentences(self) -> tuple[str, ...]:
        one = "row" if self.by == "row" else f"level of {self.by}"
        said = f"Each {one} ({len(self):,}) was left out in turn, by {HOW[self.method]}."
        lost = int(np.count_nonzero(~self.found.refitted))
        if not lost:
            return (said,)
        return (
            said,
            f"{lost:,} cannot be left out: without them a coefficient cannot be estimated.",
        )

    def body(self) -> Iterable[Part]:
        order = np.argsort(-np.nan_to_num(self.cook, nan=-1.0), kind="stable")[:MOST_PRINTED]
        yield Paragraph(self.sentences())
        yield self.listing("summary").take(order, "The largest by Cook's distance")

    def plot(
        self, statistic: str = "cook", *, term: str | None = None, most: int = 25, ax: Any = None
    ) -> Any:
        """Draw the rows or groups that move the fit most.

        Parameters
        ----------
        statistic : {"cook", "covratio", "displacement", "dfbetas", "variance"}
            The last two in one panel a coefficient or standard deviation.
        term : str, optional
            Only this coefficient or standard deviation.
        most : int
            How many to show, the largest first.
        ax : matplotlib Axes, optional
            Where to draw when there is one panel.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> ranef.influence(fit).plot().get_title(loc="left")
        "Cook's distance, without each Batch"
        """
        most = arguments.count("most", most)
        return influence_picture.influence(self, statistic, term=term, most=most, ax=ax)


def _named(names: Sequence[str], values: Floats, style: Style) -> Iterable[Column]:
    """State a column of values (G, m) for each name."""
    return (Column(name, column, style) for name, column in zip(names, values.T, strict=True))


def influence(
    fit: Any,
    *,
    by: Any = None,
    method: str | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Influence:
    """Say what the fit would be without each group, or each row.

    Parameters
    ----------
    fit : a fit of ranef
        Linear or generalised. Multinomial ones are refused: they have a coefficient for
        each category. Of a meta-analysis the answer is that of ``fit.influence()``.
    by : str or column, optional
        ``"row"``; a grouping factor; a column that the formulas use; or one value a row.
        By default the grouping factor, which must be named where there are several.
    method : {"exact", "one-step"}, optional
        Fit again without each one, from the estimate's theta; or one step: without a
        group the other rows are solved one exact Newton step of theta from the estimate
        (in a generalised model, in the working linear model at theta), without a row in
        closed form at theta, which is then NaN in the tables. By default groups are
        exact and rows one step.
    n_jobs : int, optional
        Threads; None for all this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    Influence

    Notes
    -----
    Cook's distance is dfbeta' vcov^-1 dfbeta / p with vcov of the whole fit; DFBETAS
    divide by the standard errors of the fit without the group; the covariance ratio is
    the determinant without over that with it, below 1 where the group costs precision;
    the displacement is twice the fall of the log-likelihood of all rows, theta and sigma
    included.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.influence(fit).tidy("dfbeta").head(2).round(2)
      Subject  rows  (Intercept)  Days
    0     308    10        -0.42  0.66
    1     309    10        -2.73 -0.48
    >>> rows = ranef.influence(fit, by="row")
    >>> int(rows.cook.argmax())
    59
    """
    if offers(fit, Synthesised):  # it leaves out studies, by an answer of its own
        if by is not None or method is not None:
            raise ModelError(
                "influence() of this fit leaves out one study at a time: no by, method"
            )
        answer: Influence = fit.influence()
        return answer
    fit = require(fit, "influence()", Likelihood, Refittable)
    _refuse_multinomial(fit)
    jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
    bar = arguments.optional_flag("progress", progress)
    if by is None and not fit.factors:
        by = "row"
    single = isinstance(by, str) and by == "row" and "row" not in fit.n_groups
    if method is None:
        method = "one-step" if single else "exact"
    method = arguments.choice("method", method, ("exact", "one-step"))
    if single:
        labels, name = _places(fit), "row"
        codes = np.arange(fit.n_obs)
    else:
        codes, labels, name = groups_of(fit, _only_factor(fit) if by is None else by)
    if single and method == "one-step":
        deletions = influence_numbers.influence_of_rows(fit.inference)
    else:

        def track(work: Sequence[int]) -> Iterable[int]:
            return counted(work, f"without each {name}", bar)

        deletions = influence_numbers.influence_of_sets(
            fit.inference, codes, method, n_jobs=jobs, track=track
        )
    return Influence(
        found=deletions,
        by=name,
        method=method,
        labels=tuple(labels),
        sizes=np.bincount(codes[codes >= 0], minlength=len(labels)),
        terms=fit.estimate.components[0].names,
        deviations=_deviations(fit),
        frame=fit.frame,
        title=f"Influence: {fit.formula}",
        coded=fit.coded,
    )


def _refuse_multinomial(fit: MixedFit) -> None:
    if fit.family.name == "multinomial":
        raise ModelError(
            "influence is about the coefficients of one linear predictor, and a multinomial "
            "model has one for each category; fit the comparison of two categories as a "
            "binomial model to ask it there"
        )


def _only_factor(fit: MixedFit) -> str:
    names = [f.name for f in fit.factors]
    if len(names) > 1:
        raise ModelError(
            f"say whose influence: by= one of {', '.join(map(repr, names))}, or by='row'"
        )
    return names[0]


def _places(fit: MixedFit) -> list[Any]:
    """Places of the rows in the user's table, or their labels where it has some."""
    rows = fit.frame.accounting
    kept = np.arange(rows.n_rows) if rows.kept is None else np.flatnonzero(rows.kept)
    index = fit.frame.index
    return kept.tolist() if index is None else [index[i] for i in kept]


def _deviations(fit: MixedFit) -> tuple[str, ...]:
    """Names of the standard deviations: ``"Subject: Days"``, ``"Residual"``."""
    estimate = fit.estimate
    names = [
        f"{group_name(estimate, t)}: {name}"
        for t, term in enumerate(estimate.terms)
        for name in term.names
    ]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name} ({seen[name]})"
    return tuple(names) if estimate.sigma is None else (*names, "Residual")


@dataclass(frozen=True, eq=False, repr=False)
class Leverage(Answer):
    """Hat values of a fit's rows; `leverage` makes them.

    Attributes
    ----------
    found : HatValues
        As arrays.
    frame : Origin
    """

    found: leverage_.HatValues
    frame: Origin

    title: ClassVar[str] = "Leverage"

    @property
    def library(self) -> str:
        return self.frame.library

    @property
    def effective(self) -> float:
        """Effective number of parameters of the conditional fit: the sum of the hat values."""
        return self.found.effective

    def tidy(self) -> Any:
        """Return ``hat, hat_fixed, hat_random``, one row a row of the user's table."""
        return self.frame.table(self.listing().table)

    def tables(self) -> tuple[Listing, ...]:
        values = {"hat": self.found.hat, "hat_fixed": self.found.fixed}
        values["hat_random"] = self.found.random
        columns = (Column(name, hat, printed=False) for name, hat in values.items())
        return (Listing("hat", tuple(columns)),)

    def sentences(self) -> tuple[str, ...]:
        most = float(self.found.hat.max(initial=0.0))
        return (
            f"{self.effective:.2f} effective parameters, of which {self.found.fixed.sum():.2f} "
            f"fixed; largest hat value {most:.3f}; tidy() has those of all rows.",
        )


def leverage(fit: Any) -> Leverage:
    """Return the hat values of the conditional fit, by fixed and random effects.

    In a linear model they are the diagonal of the matrix that turns responses into
    conditional fitted values, given theta, and their sum is the effective number of
    parameters of the conditional AIC (Vaida and Blanchard 2005). In a generalised model
    they are those of the working linear model.

    Parameters
    ----------
    fit : a fit of ranef

    Returns
    -------
    Leverage

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.leverage(fit)
    Leverage
    <BLANKLINE>
    29.02 effective parameters, of which 2.00 fixed; largest hat value ...; tidy() has ...
    """
    fit = require(fit, "leverage()", Likelihood)
    return Leverage(leverage_.leverage(fit.inference), fit.frame)
