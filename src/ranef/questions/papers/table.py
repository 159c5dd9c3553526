"""Tables for a paper: several models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import STYLES
from ranef.display.columns import JOINTS, level_labels, renamed
from ranef.display.numbers import MINUS, apa_p_value, decimals, number, p_value, rounded, signed
from ranef.display.sheet import Block, Row, Sheet, writable
from ranef.elsewhere import explained_methods
from ranef.errors import DataError, ModelError, suggestion
from ranef.fits.fit import Fit
from ranef.fits.likelihood import LikelihoodFit
from ranef.fits.protocol import Levelled, Likelihood, offers
from ranef.fits.several import family_words
from ranef.inference.coefficients.degrees import words_of
from ranef.models.family_words import EXPONENTIAL, ratio_word
from ranef.models.labels import CoefficientLabel
from ranef.tables import Table, make_table

__all__ = ["ModelTable", "table"]

COLUMNS = ("estimate", "std_error", "interval", "statistic", "df", "p_value")
STATISTICS = ("n", "groups", "r2", "icc", "loglik", "aic", "bic")
RANDOM = "Random effects (sd, corr)"
FIT = "Fit"
LAST = {RANDOM: 1, FIT: 2}
HEADS = {
    "std_error": "Std. error",
    "statistic": "t or z",
    "df": "df",
    "p_value": "p",
}


@dataclass(frozen=True)
class _Line:
    """One value of one model in the table.

    Attributes
    ----------
    section : str
        Heading that it stands under.
    label : str
    values : dict of float
        Estimate, std_error, conf_low, conf_high ... as far as there are.
    places : int or None
        Decimals of what is on the scale of the estimate.
    words : str or None
        What stands in place of numbers.
    held : bool
        Held by the user, not estimated: it has no interval.
    """

    section: str
    label: str
    values: Mapping[str, float]
    places: int | None = 3
    words: str | None = None
    held: bool = False


@dataclass(frozen=True)
class _Wishes:
    """How a table is to be written, see `table`."""

    columns: tuple[str, ...]
    carried: bool
    level: float
    df: str | None
    labels: Mapping[str, str]
    title: str | None = None
    digits: int | None = None
    style: str | None = None


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class ModelTable:
    """Several models side by side; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    fits : dict of fits
        By the names that head their columns.
    sheet : ranef.display.sheet.Sheet
        The table in finished strings.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> slopes = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    >>> found = ranef.table({"slopes": slopes}, columns=["estimate", "interval"])
    >>> print(found.to_markdown().splitlines()[6])
    | Days | 10.47 | 7.21 to 13.73 |
    >>> found.tidy()[["model", "section", "label", "estimate"]].head(2).round(1)
        model        section        label  estimate
    0  slopes  Fixed effects  (Intercept)     251.4
    1  slopes  Fixed effects         Days      10.5
    """

    fits: Mapping[str, Fit]
    sheet: Sheet
    _lines: tuple[tuple[_Line, ...], ...]
    _wishes: _Wishes

    def restyled(
        self,
        *,
        title: str | None = None,
        digits: int | None = None,
        style: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ModelTable:
        """Return the table written in another way; what is left out stays as it is.

        Parameters
        ----------
        title : str, optional
        digits : int, optional
            Decimals of estimates, errors and limits.
        style : {"apa"}, optional
            p-values as the manual of the APA writes them.
        labels : dict, optional
            Names of terms, columns, levels and the response as the paper writes them.
        """
        before = self._wishes
        wishes = replace(
            before,
            title=before.title if title is None else _title(title),
            digits=before.digits if digits is None else arguments.places("digits", digits),
            style=before.style if style is None else arguments.choice("style", style, STYLES),
            labels={**before.labels, **_labels(labels, self.fits)},
        )
        return replace(self, sheet=_sheet(self.fits, self._lines, wishes), _wishes=wishes)

    def tidy(self) -> Any:
        """Return the numbers, one row a model and line.

        Returns
        -------
        table
            ``model, section, label, estimate, std_error, conf_low, conf_high, statistic,
            df, p_value``; NaN where a line has no such number.
        """
        rows = [
            (name, line)
            for name, lines in zip(self.fits, self._lines, strict=True)
            for line in lines
            if line.words is None
        ]
        columns: dict[str, Any] = {
            "model": [name for name, _ in rows],
            "section": [line.section for _, line in rows],
            "label": [line.label for _, line in rows],
        }
        for key in ("estimate", "std_error", "conf_low", "conf_high", "statistic", "df", "p_value"):
            columns[key] = np.array([line.values.get(key, np.nan) for _, line in rows])
        return make_table(columns, next(iter(self.fits.values())).frame.library)

    def to_text(self, **how: Any) -> str:
        """Return the table as plain text; how, see `restyled`."""
        return self.restyled(**how).sheet.text()

    def to_markdown(self, **how: Any) -> str:
        """Return the table as Markdown; how, see `restyled`."""
        return self.restyled(**how).sheet.markdown()

    def to_html(self, **how: Any) -> str:
        """Return the table as an HTML page; how, see `restyled`."""
        return self.restyled(**how).sheet.html()

    def to_latex(self, **how: Any) -> str:
        r"""Return the table as LaTeX (it needs ``\usepackage{booktabs}``); how, see `restyled`."""
        return self.restyled(**how).sheet.latex()

    def to_docx(self, path: str | PathLike[str], **how: Any) -> Path:
        """Write the table as a Word document; how, see `restyled`."""
        target = arguments.path(path)
        self.restyled(**how).sheet.write_docx(target)
        return target

    def write(self, path: str | PathLike[str], **how: Any) -> Path:
        """Write the table to a file; its ending says how.

        Parameters
        ----------
        path : str or path
            ``.docx`` (Word), ``.tex`` (LaTeX), ``.html``, ``.md`` or ``.txt``.
        **how
            See `restyled`.

        Raises
        ------
        ranef.errors.FileError
            The ending is another one, or the file cannot be written.
        """
        target = arguments.path(path)
        self.restyled(**how).sheet.write(target)
        return target

    def save(self, path: str | PathLike[str], **how: Any) -> None:
        """Write the table to a file, see `write`."""
        self.write(path, **how)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.sheet.fragment()


def table(
    models: Any,
    out: str | PathLike[str] | None = None,
    *,
    columns: Sequence[str] = ("estimate", "interval", "p_value"),
    statistics: Sequence[str] = STATISTICS,
    exponentiate: bool = False,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    conf_level: float = 0.95,
    df: str | None = None,
    digits: int | None = None,
    style: str | None = None,
) -> ModelTable:
    """Put models side by side as a paper shows them.

    Parameters
    ----------
    models : fit, list of fits, or dict
        A dict's keys head the columns; else they are "Model 1", "Model 2" ...
    out : str or path, optional
        File to write, see `ModelTable.save`: ``"t.docx"``, ``"t.tex"``, ``"t.html"``.
    columns : sequence of {"estimate", "std_error", "interval", "statistic", "df", "p_value"}
        What to show of each coefficient.
    statistics : sequence of {"n", "groups", "r2", "icc", "loglik", "aic", "bic"}
        What to show of each fit, below the coefficients. ``"r2"`` and ``"icc"`` are
        those of `r2` and `icc` (adjusted, by grouping factor); a model that has none is
        left without.
    exponentiate : bool
        Show odds, rate or hazard ratios in place of coefficients where a model's link
        makes them; linear models stay as they are, and so do intercepts' names.
    labels : dict, optional
        Names of terms, columns, levels and the response as the paper writes them: ``{"Days":
        "Day of deprivation", "Sex": "Sex", "Female": "girls"}``.
    title : str, optional
    conf_level : float
    df : str, optional
        Degrees of freedom of the tests of linear models, as in ``fit.tidy``.
    digits : int, optional
        Decimals of estimates, errors and limits; by default as many as their errors allow.
    style : {"apa"}, optional
        p-values as the manual of the APA writes them.

    Returns
    -------
    ModelTable

    Raises
    ------
    ranef.errors.ModelError
        Something else than a fit was given, or an argument is not known.
    ranef.errors.FileError
        The file cannot be written.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> models = {"intercepts": ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep),
    ...           "slopes": ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)}
    >>> print(ranef.table(models, columns=["estimate", "std_error"], statistics=["n", "aic"]))
    Mixed models of Reaction
    <BLANKLINE>
                                            intercepts               slopes
                                       Estimate  Std. error   Estimate  Std. error
    <BLANKLINE>
    Fixed effects
      (Intercept)                        251.41        9.75     251.41        6.82
      Days                               10.467       0.804      10.47        1.55
    <BLANKLINE>
    Random effects (sd, corr)
      Subject: (Intercept)                37.12                  24.74
      Subject: Days                                              5.922
      Subject: (Intercept) with Days                              0.07
      Residual                            30.99                  25.59
    <BLANKLINE>
    Fit
      Rows                                     180                    180
      AIC                                    1794.47                1755.63
    <BLANKLINE>
    All models by restricted maximum likelihood (REML). Linear models: t tests with Satterthwaite's
    degrees of freedom.
    """
    fits = _named(models)
    shown = [arguments.choice("columns", name, COLUMNS) for name in _sequence("columns", columns)]
    if not shown:
        raise ModelError("columns is empty; show at least 'estimate'")
    kept = [
        arguments.choice("statistics", s, STATISTICS) for s in _sequence("statistics", statistics)
    ]
    carried = arguments.flag("exponentiate", exponentiate)
    level = arguments.conf_level(conf_level)
    target = None if out is None else writable(arguments.path(out))
    wishes = _Wishes(
        tuple(shown),
        carried,
        level,
        df,
        _labels(labels, fits),
        _title(title),
        None if digits is None else arguments.places("digits", digits),
        None if style is None else arguments.choice("style", style, STYLES),
    )
    lines = tuple(_lines(fit, kept, carried, level, df) for fit in fits.values())
    made = ModelTable(fits, _sheet(fits, lines, wishes), lines, wishes)
    if target is not None:
        made.save(target)
    return made


def _named(models: Any) -> dict[str, Fit]:
    """The fits by the names that head their columns."""
    if isinstance(models, Mapping):
        fits = {str(name): fit for name, fit in models.items()}
    else:
        if not isinstance(models, Fit | Sequence) or isinstance(models, str):
            raise ModelError(
                f"table() takes fits: one, a list, or a dict of names and fits; not "
                f"{type(models).__name__}. An answer's own table is answer.to_docx(path)"
            )
        given = [models] if isinstance(models, Fit) else list(models)
        one = len(given) == 1
        fits = {"Model" if one else f"Model {j + 1}": fit for j, fit in enumerate(given)}
    if not fits:
        raise ModelError("there is no model to show; give a fit, a list of fits, or a dict")
    for name, fit in fits.items():
        if not isinstance(fit, Fit):
            raise ModelError(f"{name!r} is no fit of ranef but {type(fit).__name__}")
    return fits


def _sequence(name: str, values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ModelError(f"{name} must be a list, not {type(values).__name__}")
    return values


def _title(title: Any) -> str | None:
    if title is not None and not isinstance(title, str):
        raise ModelError(f"title must be text, not {type(title).__name__}")
    return title


def _labels(given: Any, fits: Mapping[str, Fit]) -> dict[str, str]:
    """Names of the paper, each of something that the models have."""
    labels = arguments.mapping("labels", given, "{'age': 'Age (years)'}")
    known = {name for fit in fits.values() for name in _terms(fit)}
    known |= {fit.response for fit in fits.values()}
    known |= {name for pair in _coded(fits).values() for name in pair}
    known |= {part for name in known for part in JOINTS.split(name)}
    for name in labels:
        if name not in known:
            raise DataError(
                f"labels names a term {name!r} that no model has{suggestion(name, known)}"
            )
    return dict(labels)


def _coded(fits: Mapping[str, Fit]) -> dict[str, tuple[str, str]]:
    """Column and level of the coefficients that stand for a level of a category."""
    return {term: pair for fit in fits.values() for term, pair in fit.coded.items()}


def _readable(fits: Mapping[str, Fit]) -> dict[str, str]:
    """Terms whose names are keys, as a reader writes them."""
    found: dict[str, str] = {}
    for fit in fits.values():
        found |= getattr(fit.description, "readable", {})
    return found


def _terms(fit: Fit) -> set[str]:
    found = {label.term for label in fit.labels}
    if not offers(fit, Levelled):
        return found
    for column in ("term", "term2", "group"):
        found |= {str(t) for t in Table.of(fit.tidy("variance")).values(column) if t is not None}
    return found


def _lines(
    fit: Fit, statistics: Sequence[str], carried: bool, level: float, df: str | None
) -> tuple[_Line, ...]:
    lines = _fixed_lines(fit, carried, level, df)
    lines += _variance_lines(fit, level) if offers(fit, Levelled) else []
    return (*lines, *_statistics(fit, statistics))


def _method(fit: Fit, df: str | None) -> str:
    """The fit's own method of degrees of freedom where it has not the one asked for."""
    try:
        return fit.method(df)
    except ModelError:
        return fit.method(None)


def _fixed_lines(fit: Fit, carried: bool, level: float, df: str | None) -> list[_Line]:
    intervals = fit.hypotheses(None, level, _method(fit, df))
    exponents = fit.carried(carried and _makes_ratios(fit))
    lines = []
    for block in fit.description.blocks():
        places = range(*block.coefficients.indices(len(exponents)))
        for label, k in zip(block.labels, places, strict=True):
            values = {key: float(column[k]) for key, column in vars(intervals).items()}
            held = values["std_error"] == 0.0 and np.isnan(values["p_value"])
            if exponents[k]:
                values = _exponentiated(values)
            size = abs(values["estimate"]) if held else values["std_error"]
            name = _named_label(fit.labels[k], label)
            lines.append(_Line(block.heading, name, values, decimals(size, 3), held=held))
    return lines


def _exponentiated(values: Mapping[str, float]) -> dict[str, float]:
    """A ratio with its interval; its standard error by the delta method."""
    with np.errstate(over="ignore"):
        ends = {key: float(np.exp(values[key])) for key in ("estimate", "conf_low", "conf_high")}
    return {**values, **ends, "std_error": values["std_error"] * ends["estimate"]}


def _named_label(label: CoefficientLabel, term: str) -> str:
    return term if label.response is None else f"{label.response}: {term}"


def _makes_ratios(fit: Fit) -> bool:
    return fit.family.link in EXPONENTIAL


def _variance_lines(fit: Fit, level: float) -> list[_Line]:
    source = Table.of(fit.tidy("variance", conf_level=level))
    numbers = {key: source.numeric(key) for key in ("estimate", "conf_low", "conf_high")}
    out = []
    for i in range(source.n_rows):
        values = {key: float(numbers[key][i]) for key in numbers}
        corr = source.values("parameter")[i] == "corr"
        places = 2 if corr else decimals(abs(values["estimate"]), 4)
        held = not corr and _holds(fit, source, i)
        out.append(_Line(RANDOM, _variance_label(source, i), values, places, held=held))
    return out


def _holds(fit: Fit, source: Table, i: int) -> bool:
    """Tell whether the user holds a standard deviation; a key stands for all that begin with it."""
    group, term, component = (source.values(c)[i] for c in ("group", "term", "component"))
    name = f"sd: {group}: {term}"
    full = name if str(component) == "conditional" else f"{component}: {name}"
    return any(f"{full}: ".startswith(f"{key}: ") for key in fit.description.fixed)


def _variance_label(source: Table, i: int) -> str:
    group, term, other, kind, component = (
        source.values(c)[i] for c in ("group", "term", "term2", "parameter", "component")
    )
    where = (
        str(group) if str(component) in ("conditional", "residual") else f"{group} ({component})"
    )
    if "response" in source and not _absent(source.values("response")[i]):
        where = f"{group} ({source.values('response')[i]})"
    if _absent(term):
        return where if kind == "sd" else f"{where}: {kind}"
    what = str(term) if _absent(other) else f"{term} with {other}"
    return f"{where}: {what}" if kind in ("sd", "corr") else f"{where}: {what}, {kind}"


def _absent(value: Any) -> bool:
    return value is None or value != value


def _statistics(fit: Fit, wanted: Sequence[str]) -> list[_Line]:
    """The lines below the coefficients."""
    out: list[_Line] = []

    def add(label: str, value: float, places: int) -> None:
        out.append(_Line(FIT, label, {"estimate": float(value)}, places))

    if family_words(fit):
        out.append(_Line(FIT, "Family", {}, words=family_words(fit)))
    for name in wanted:
        if name == "n":
            add("Rows", fit.n_obs, 0)
        elif name == "groups":
            for group, count in fit.n_groups.items():
                add(f"Levels of {group}", count, 0)
        elif name in SHARES and fit.parts:
            for label, share in SHARES[name](fit):
                add(label, share, 3)
        elif name not in SHARES and offers(fit, Likelihood):
            add("Log-likelihood" if name == "loglik" else name.upper(), getattr(fit, name), 2)
    for name, value in fit.dispersion.items():
        out.append(_Line(FIT, f"Dispersion {name}", {"estimate": value}, decimals(value, 3)))
    return out


def _r2(fit: Any) -> list[tuple[str, float]]:
    try:
        shares = fit.r2()
    except ModelError:
        return []
    return [("Marginal R2", shares.marginal), ("Conditional R2", shares.conditional)]


def _icc(fit: Any) -> list[tuple[str, float]]:
    try:
        correlations = fit.icc()
    except ModelError:
        return []
    return [(f"ICC {group.group}", group.adjusted) for group in correlations.groups]


SHARES = {"r2": _r2, "icc": _icc}


def _sheet(
    fits: Mapping[str, Fit],
    lines: Sequence[Sequence[_Line]],
    wishes: _Wishes,
) -> Sheet:
    named = {**level_labels(_coded(fits), wishes.labels), **wishes.labels}
    labels = {key: renamed(words, named) for key, words in _readable(fits).items()} | named
    heads = tuple(
        tuple(_head(name, fit, wishes.carried, wishes.level) for name in wishes.columns)
        for fit in fits.values()
    )
    sections = _merged([[line.section for line in own] for own in lines])
    sections.sort(key=lambda section: LAST.get(section, 0))
    blocks = []
    for section in sections:
        keys = _merged([[x.label for x in own if x.section == section] for own in lines])
        rows = tuple(
            Row(
                _renamed(key, labels),
                tuple(_cells(own, section, key, wishes) for own in lines),
            )
            for key in keys
        )
        blocks.append(Block(section, rows))
    response = dict.fromkeys(renamed(f.response, labels) for f in fits.values())
    noun = "Mixed model" if all(offers(f, Levelled) for f in fits.values()) else "Model"
    heading = f"{noun}{'s' if len(fits) > 1 else ''} of {', '.join(response)}"
    notes = _notes(fits, wishes.carried, wishes.df)
    return Sheet(wishes.title or heading, tuple(fits), heads, tuple(blocks), notes)


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All keys: what is new stands before the next one known, else at the end."""
    merged: list[str] = []
    for own in orders:
        for at, key in enumerate(own):
            if key not in merged:
                after = next((k for k in own[at:] if k in merged), None)
                merged.insert(len(merged) if after is None else merged.index(after), key)
    return merged


def _renamed(label: str, labels: Mapping[str, str]) -> str:
    """The label with terms and groups as the paper writes them."""
    if label in labels:
        return labels[label]
    for of in ("Levels of ", "ICC "):
        if label.startswith(of):
            return of + renamed(label.removeprefix(of), labels)
    head, between, tail = label.partition(": ")
    first, joined, second = tail.partition(" with ")
    return "".join(renamed(word, labels) for word in (head, between, first, joined, second))


def _head(name: str, fit: Fit, carried: bool, level: float) -> str:
    if name == "interval":
        return f"{100 * level:g}% CI"
    if name != "estimate":
        return HEADS[name]
    word = ratio_word(fit.family) if carried else None
    return "Estimate" if word is None else word.capitalize()


def _cells(lines: Sequence[_Line], section: str, label: str, wishes: _Wishes) -> tuple[str, ...]:
    """Cells of one model in one row; one cell for the whole width in the block of the fit."""
    for line in lines:
        if line.section == section and line.label == label:
            if line.words is not None:
                return (line.words,)
            if section == FIT:
                return (_figure(line.values["estimate"], line.places),)
            return tuple(_cell(line, name, wishes) for name in wishes.columns)
    return ()


def _cell(line: _Line, name: str, wishes: _Wishes) -> str:
    values = line.values

    def scaled(value: float) -> str:
        if wishes.digits is None:
            return _figure(value, line.places)
        return signed(rounded(value, wishes.digits))

    if name == "interval":
        low, high = (values.get(k, np.nan) for k in ("conf_low", "conf_high"))
        if line.held:
            return "held"
        if np.isnan(low) or np.isnan(high):
            return ""
        return f"{scaled(low)} to {scaled(high)}"
    value = np.nan if line.held and name == "std_error" else values.get(name, np.nan)
    if name == "p_value":
        return apa_p_value(value) if wishes.style == "apa" else p_value(value)
    if name == "statistic":
        return _figure(value, 2)
    if name == "df":
        return _figure(value, 1) if np.isfinite(value) else ""
    return scaled(value)


def _figure(value: float, places: int | None) -> str:
    return number(value, places).replace("-", MINUS)


def _notes(fits: Mapping[str, Fit], carried: bool, df: str | None) -> tuple[str, ...]:
    """What a reader must know to read the table, and what may not be compared."""
    events = (line for fit in fits.values() for line in fit.description.event())
    notes = [_fitted(fits, df), *dict.fromkeys(events)]
    if carried and any(_makes_ratios(fit) for fit in fits.values()):
        notes.append(
            "Ratios are exponentials of coefficients; their standard errors are by the delta "
            "method, their intervals are exponentials of the coefficients' intervals. They are "
            "subject-specific: they compare rows of the same levels."
        )
    notes += _warnings(fits)
    return tuple(notes)


def _fitted(fits: Mapping[str, Fit], df: str | None) -> str:
    ways: dict[str, list[str]] = {}
    for name, fit in fits.items():
        ways.setdefault(fit.description.method, []).append(name)
    if len(ways) == 1:
        way = next(iter(ways))
        text = f"{'All models' if len(fits) > 1 else 'Fitted'} by {way}."
    else:
        text = " ".join(f"{', '.join(names)}: {way}." for way, names in ways.items())
    tests: dict[str, str] = {}
    for fit in fits.values():
        tests.setdefault(fit.description.family_kind, words_of(_method(fit, df)))
    return " ".join(
        [text, *(f"{kind}: {words}." for kind, words in sorted(tests.items(), reverse=True))]
    )


def _warnings(fits: Mapping[str, Fit]) -> list[str]:
    """What may not be compared between these models."""
    notes = []
    if len({fit.response for fit in fits.values()}) > 1:
        notes.append(
            "The models have different responses: log-likelihood, AIC and BIC do not compare."
        )
    elif len({fit.n_obs for fit in fits.values()}) > 1:
        notes.append("The models use different rows: log-likelihood, AIC and BIC do not compare.")
    maximised = {name: fit for name, fit in fits.items() if isinstance(fit, LikelihoodFit)}
    restricted = {fit.estimate.reml for fit in maximised.values()}
    if len(restricted) > 1:
        notes.append(
            "Some models are fitted by REML and some by ML: their log-likelihoods, AIC and BIC "
            "do not compare."
        )
    elif True in restricted and len({tuple(fit.names) for fit in maximised.values()}) > 1:
        notes.append(
            "The models are fitted by REML and differ in their fixed effects: log-likelihood, AIC "
            "and BIC do not compare between them (refit with reml=False)."
        )
    singular = [name for name, fit in maximised.items() if fit.optimum.singular]
    if singular:
        notes.append(f"On the boundary of the parameter space (singular): {', '.join(singular)}.")
    unproved = [name for name, fit in maximised.items() if not fit.optimum.converged]
    if unproved:
        notes.append(f"Optimum not proved: {', '.join(unproved)}.")
    return notes
