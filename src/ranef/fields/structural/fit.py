"""The fit of a structural equation model: estimates with the questions asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.questions import Questions
from ranef.display.answer import Summary
from ranef.display.columns import Column, Fixed, Label, Listing, PValue, Sized
from ranef.display.numbers import number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError
from ranef.fields.structural import resampling
from ranef.fields.structural.comparison import StructuralComparison, compared
from ranef.fields.structural.core import StructuralFit
from ranef.fields.structural.measures import deviations, implied
from ranef.fields.structural.modification import modifications
from ranef.fields.structural.parameters import Parameter
from ranef.fields.structural.posterior import factor_scores
from ranef.fields.structural.standardized import (
    r_squared,
    reliabilities,
)
from ranef.fields.structural.words import (
    OPERATIONS,
    method_words,
)
from ranef.formula.labels import count_text

__all__ = ["StructuralModelFit"]

Floats = NDArray[np.float64]
NAN = float("nan")
METHODS = ("delta", "monte_carlo", "bootstrap")


@explained_methods
class StructuralModelFit(Questions, StructuralFit):
    """A fitted structural equation model; `ranef.sem` makes one.

    Attributes
    ----------
    estimate : Estimate
        What the search found, as arrays.
    frame : Origin
        Where the rows came from.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(1)
    >>> f = rng.normal(size=200)
    >>> rows = {name: f + rng.normal(size=200) for name in ("y1", "y2", "y3", "y4")}
    >>> fit = ranef.sem("f =~ y1 + y2 + y3 + y4", rows)
    >>> fit.n_obs, fit.df_model, fit.fit_measures().df[0].item()
    (200, 12, 2)
    """

    file_kind = "structural"

    # --- fit

    def fit_measures(self) -> Any:
        """Return the measures of fit in one row.

        The unrestricted and the baseline model have optima of their own, proved as the model's
        is. Their covariance matrices between units are positive semidefinite. Where one of the
        model's own is indefinite, the unrestricted model is that over all matrices that have a
        likelihood, so that it contains the model and chi-squared is never below zero
        (``fit.comparisons.saturated.words()`` says which it is). NaN where a model has no such
        measure (random slopes), and of scaled tests under ``estimator="ML"``.

        Warns
        -----
        ranef.errors.ConvergenceWarning
            There is no such optimum, and so no chi-squared.

        Returns
        -------
        table
            ``chisq, df, p_value, chisq_scaled, p_value_scaled, scaling_factor, scaling_h0,
            scaling_h1, baseline_chisq, baseline_df, cfi, tli, rmsea, rmsea_low, rmsea_high,
            srmr, srmr_within, srmr_between, loglik, loglik_h1, aic, bic, n_parameters``; robust
            estimators add ``cfi_scaled, tli_scaled, rmsea_scaled``.
        """
        found = self.measures
        return self._made({name: [value] for name, value in found.items()})

    @property
    def measures(self) -> dict[str, float]:
        """The measures of fit by name."""
        if "_measures" not in self.__dict__:
            self.__dict__["_measures"] = self.comparisons.measures()
        found: dict[str, float] = self.__dict__["_measures"]
        return found

    def level_fit(self) -> Any:
        """Return the fit of each level by itself, all others unrestricted.

        Returns
        -------
        table
            ``level, chisq, df, cfi, tli, rmsea, srmr, n``: n is that of the level's own units,
            on which its RMSEA rests (Ryu & West 2009).
        """
        found = self.comparisons.level_fits()
        names = ("level", "chisq", "df", "cfi", "tli", "rmsea", "srmr", "n")
        return self._made({name: np.array([getattr(f, name) for f in found]) for name in names})

    def glance(self) -> Any:
        """Return the fit in one row: rows, units, parameters and measures of fit."""
        first = {"n_obs": [self.n_obs], "df_model": [self.df_model]}
        return self._made(first | {name: [value] for name, value in self.measures.items()})

    def modification_indices(self, *, minimum: float = 0.0) -> Any:
        """Return score tests of parameters that the model holds at zero, the largest first.

        Parameters
        ----------
        minimum : float
            The smallest index shown.

        Returns
        -------
        table
            ``level, group, lhs, op, rhs, label, mi, p_value, epc, epc_std``: the index (a
            chi-squared on one degree of freedom), the expected change of the parameter, and the
            same in standard deviations.
        """
        from scipy import special

        least = arguments.number("minimum", minimum)
        found = [m for m in modifications(self.estimate) if m.index >= least]
        index = np.array([m.index for m in found])
        return self._made({
            **self._row_columns([m.row for m in found]),
            "mi": index, "p_value": special.chdtrc(1, index),
            "epc": np.array([m.change for m in found]),
            "epc_std": np.array([m.standardized for m in found]),
        })  # fmt: skip

    def residuals(self, kind: str = "correlation") -> Any:
        """Return what the model leaves of each covariance and mean.

        Parameters
        ----------
        kind : {"correlation", "raw"}
            Differences of correlations, or of covariances.

        Returns
        -------
        table
            ``level, group, lhs, op, rhs, observed, implied, residual``; `observed` is the
            unrestricted model's.
        """
        arguments.choice("kind", kind, ("correlation", "raw"))
        model = self.estimate.model
        columns: dict[str, list[Any]] = {
            n: [] for n in ("level", "group", "lhs", "op", "rhs", "observed", "implied", "residual")
        }
        for g, level in model.table.names:
            names, S, C, m1, m2 = self.comparisons.implied_pair(g, level)
            if kind == "correlation":
                S, C = _correlations(S), _correlations(C)
            cells = [(a, "~~", b, S[i, j], C[i, j]) for i, a in enumerate(names)
                     for j, b in enumerate(names) if j <= i]  # fmt: skip
            cells += [(a, "~1", "", m1[i], m2[i]) for i, a in enumerate(names)]
            for lhs, op, rhs, seen, made in cells:
                row = (level, model.values.groups[g] or None, lhs, op, rhs, seen, made, seen - made)
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
        return self._made(columns)

    def anova(self, *others: Any, names: Sequence[str] | None = None) -> StructuralComparison:  # type: ignore[override]
        """Compare the fit with others by likelihood ratios, scaled where they are robust.

        Parameters
        ----------
        *others : fits of `ranef.sem`
            Of the same rows and variables.
        names : sequence of str, optional
            What the models are called, this one first.
        """
        return self.compared(others, names)

    def compared(
        self, others: Sequence[Any], names: Sequence[str] | None = None
    ) -> StructuralComparison:
        """As `anova`, of a list."""
        if not others:
            raise ModelError(
                "anova() of one structural equation model has no terms to test; give another fit, "
                "or use test() for hypotheses about parameters"
            )
        return compared([self, *others], names)

    # --- variables explained

    def icc(self) -> Any:
        """Return intraclass correlations of the decomposed variables.

        From the unrestricted model.

        Returns
        -------
        table
            ``variable, icc, design_effect`` (1 + (mean size - 1) icc), and ``group`` where there
            are several.
        """
        model = self.estimate.model
        if model.levels == 1:
            raise ModelError("intraclass correlations need levels, 'level: 1' and 'level: 2'")
        problem, theta = self.comparisons.moments()
        columns: dict[str, list[Any]] = {
            n: [] for n in ("group", "variable", "icc", "design_effect")
        }
        for g, group in enumerate(model.values.groups):
            sizes = model.main.groups[g].data.sizes
            size = float(sizes[sizes > 0].mean())
            for name, levels in model.table.roles(g).items():
                if model.home[name] != 1 or len(levels) < 2:
                    continue
                parts = [implied(problem, theta, g, m, (name,))[0][0, 0] for m in levels]
                share = float(sum(parts[1:]) / sum(parts))
                for key, value in zip(columns, (group, name, share, 1 + (size - 1) * share),
                                      strict=True):  # fmt: skip
                    columns[key].append(value)
        if len(model.values.groups) == 1:
            columns.pop("group")
        return self._made(columns)

    def r2(self) -> Any:
        """Return the explained share of each outcome and indicator.

        Returns
        -------
        table
            ``level, group, variable, r2``.
        """
        rows = r_squared(self.estimate)
        groups = self.estimate.model.values.groups
        return self._made({
            "level": np.array([r[1] for r in rows], dtype=np.int64),
            "group": [groups[r[0]] or None for r in rows],
            "variable": [r[2] for r in rows], "r2": np.array([r[3] for r in rows]),
        })  # fmt: skip

    def reliability(self) -> Any:
        """Return the reliability of each factor's sum of indicators, by level.

        Returns
        -------
        table
            ``level, group, factor, items, alpha, omega, omega_means``: of the model's covariances,
            so that missing values are no hindrance. ``omega_means`` is that of the sum's means
            over a unit's rows (Lai 2021), at level 2.
        """
        rows = reliabilities(self.estimate)
        groups = self.estimate.model.values.groups
        return self._made({
            "level": np.array([r.level for r in rows], dtype=np.int64),
            "group": [groups[r.group] or None for r in rows],
            "factor": [r.factor for r in rows],
            "items": np.array([r.items for r in rows], dtype=np.int64),
            **{n: np.array([getattr(r, n) for r in rows]) for n in OMEGAS},
        })  # fmt: skip

    def scores(self, level: int = 1, *, se: bool = False) -> Any:
        """Return the latent variables given the data.

        Posterior means; with missing values from what is observed.

        Parameters
        ----------
        level : int
            1 for one row a row of the table, 2 for one a unit of the first cluster, and so on.
        se : bool
            Add posterior standard deviations.

        Returns
        -------
        table
            The latent variables as columns, and ``NAME_se``; above level 1 the units in the first
            column.
        """
        wanted = arguments.count("level", level)
        model = self.estimate.model
        if wanted > model.levels:
            raise ModelError(
                f"the model has {count_text(model.levels, 'level')}; it has no level {wanted}"
            )
        errors = arguments.flag("se", se)
        found = factor_scores(self.estimate, wanted)
        names = list(dict.fromkeys(n for one in found for n in one.names))
        if not names:
            raise ModelError(f"level {wanted} has no latent variable")
        total = self.frame.accounting.n_rows if wanted == 1 else sum(len(s.units) for s in found)
        columns = {n: np.full(total, NAN) for n in names}
        if errors:
            columns |= {f"{n}_se": np.full(total, NAN) for n in names}
        labels: list[Any] = []
        first = 0
        for one in found:
            at = one.units if wanted == 1 else first + np.arange(len(one.units))
            first += len(one.units)
            for k, name in enumerate(one.names):
                columns[name][at] = one.means[:, k]
                if errors:
                    columns[f"{name}_se"][at] = one.errors[:, k]
            if wanted > 1:
                labels += [model.values.labels[wanted - 2][u] for u in one.units]
        if wanted == 1:
            from ranef.tables import make_table

            return make_table(columns, self.frame.library, self.frame.index)
        return self._made({model.values.cluster_columns[wanted - 2]: labels, **columns})

    # --- in words

    def summary(
        self, *, conf_level: float = 0.95, df: str | None = None, short: bool = False
    ) -> Summary:
        """Return the model with its estimates by level, and how well it fits.

        Parameters
        ----------
        conf_level : float
        df : {"normal"}, optional
        short : bool
            Leave out what is said of the reading.
        """
        level = arguments.conf_level(conf_level)
        brief = arguments.flag("short", short)
        self.method(df)
        d = self.description
        parts: list[Paragraph | TextTable] = [Paragraph(tuple(d.rows())), *self._fit_part()]
        parts += [listing.text for listing in self.listings(level)]
        parts += [Paragraph(tuple(d.reading()))] if d.reading() and not brief else []
        parts.append(Paragraph(tuple(d.endings())))
        return Summary(Page(d.title, tuple(parts)))

    def _fit_part(self) -> list[Paragraph]:
        try:
            m = self.measures
        except (ModelError, np.linalg.LinAlgError):
            return []
        if np.isnan(m["chisq"]):
            return []
        lines = [
            f"Chi-squared {number(m['chisq'], 3)} on {m['df']} df{_test(m['p_value'])}; "
            f"CFI {number(m['cfi'], 3)}, TLI {number(m['tli'], 3)}, RMSEA {number(m['rmsea'], 3)}"
            f"{_interval(m['rmsea_low'], m['rmsea_high'])}, "
            + (
                f"SRMR {number(m['srmr'], 3)}."
                if np.isnan(m["srmr_within"])
                else f"SRMR within {number(m['srmr_within'], 3)}, "
                f"between {number(m['srmr_between'], 3) or 'not defined'}."
            )
        ]
        if not np.isnan(m["chisq_scaled"]):
            own = "" if np.isnan(m["scaling_h0"]) else (
                f" (of the model {number(m['scaling_h0'], 4)}, of the unrestricted one "
                f"{number(m['scaling_h1'], 4)})"
            )  # fmt: skip
            lines.append(
                f"Scaled chi-squared {number(m['chisq_scaled'], 3)}, "
                f"{_test(m['p_value_scaled']).removeprefix(', ') or 'no test'}; "
                f"scaling {number(m['scaling_factor'], 4)}{own}."
            )
        return [Paragraph(tuple(lines))]

    def listings(self, level: float) -> list[Listing]:
        """The tables of a summary: parameters by level and group."""
        columns = self._tidy_columns(level)
        rows = self.estimate.model.table.rows
        groups = self.estimate.model.values.groups
        found = []
        for g, lev in self.estimate.model.table.names:
            keep = [k for k, r in enumerate(rows) if (r.group, r.level) == (g, lev) and _shown(r)]
            keep.sort(key=lambda k: list(OPERATIONS).index(rows[k].op))
            of = f"Level {lev}" if self.estimate.model.levels > 1 else "Parameters"
            if groups[g]:
                of += f", {self.estimate.model.values.group_column} {groups[g]}"
            found.append(_listing(columns, keep, of, f"level{lev}-{g}"))
        extra = list(range(len(rows), len(columns["lhs"])))
        if extra:
            found.append(_listing(columns, extra, "Defined parameters", "defined"))
        return found

    def methods(self, *, conf_level: float = 0.95, df: str | None = None) -> str:
        """Return a paragraph for the methods section of a paper."""
        level = arguments.conf_level(conf_level)
        self.method(df)
        return method_words(self, level)

    def diagram(
        self, path: str | PathLike[str] | None = None, *, standardized: bool = False
    ) -> Any:
        """Draw the path diagram, the levels one below the other.

        Parameters
        ----------
        path : path-like, optional
            An SVG file to write; without it the drawing's text is returned.
        standardized : bool
            Standardised estimates beside the arrows.
        """
        from ranef.display.files import write_atomically
        from ranef.fields.structural.diagram import drawn

        text = drawn(self, arguments.flag("standardized", standardized))
        if path is None:
            return text
        return write_atomically(arguments.path(path), text)

    # --- by computing

    def simulate(self, n: int = 1, *, rng: Any = None) -> Any:
        """Draw the model's variables anew, covariates that are held as they are.

        Parameters
        ----------
        n : int
            Draws of the whole table.
        rng : int or numpy.random.Generator

        Returns
        -------
        table
            ``draw``, the columns of units and groups, and the variables; one row a row used.
        """
        draws = arguments.count("n", n)
        return self._made(resampling.simulated(self.estimate, draws, arguments.generator(rng)))

    def predict(self, new: Any = None, *, outcomes: str | Sequence[str] | None = None,
                **refused: Any) -> Any:  # fmt: skip
        """Predict observed variables of new rows from the others.

        The expectation of the outcomes given the other variables of the row, under the model's
        moments over all levels; of a row of the fit or of a new table. Variables that are missing
        in a row, or absent from the table, are not conditioned on.

        Parameters
        ----------
        new : table, optional
            Rows to predict; those of the fit by default. With groups it needs their column.
        outcomes : str or sequence of str, optional
            Columns to predict; by default every variable that is no covariate.

        Returns
        -------
        table
            One column an outcome.
        """
        if refused:
            name = next(iter(refused))
            raise ModelError(f"predict() of a structural equation model has no argument {name!r}")
        return resampling.predicted(self, new, outcomes)

    def refit(self, y: Any) -> Any:
        """Fit the model to another table."""
        return resampling.refitted(self, y)

    def redrawn(self, method: str, rng: np.random.Generator) -> StructuralModelFit:
        """Fit the model to a table drawn from it, or to whole units drawn with replacement."""
        return type(self)(*resampling.redrawn(self, method, rng))

    def __reduce__(self) -> tuple[Any, ...]:
        from ranef.storage import saving

        return _unpickled, (saving.to_bytes(self, compress=False),)


OMEGAS = ("alpha", "omega", "omega_means")


def _unpickled(content: bytes) -> Any:
    from ranef.storage import saving

    return saving.from_bytes(content)


def _shown(row: Parameter) -> bool:
    """Whether a summary has the parameter: not what defaults hold at zero or at the sample's."""
    return row.typed or row.free >= 0 or not (row.sample or row.value == 0.0)


def _correlations(S: Floats) -> Floats:
    root = deviations(S)
    return np.asarray(S / np.outer(root, root))


def _listing(columns: Mapping[str, Any], keep: Sequence[int], caption: str, name: str) -> Listing:
    def of(key: str) -> list[Any]:
        return [columns[key][k] for k in keep]

    def blank(key: str) -> list[Any]:
        errors = of("std_error")
        return [v if e > 0 else None for v, e in zip(of(key), errors, strict=True)]

    terms = [
        f"{a} {op} {b}".replace(" ~1 ", " ~ 1") for a, op, b in
        zip(of("lhs"), of("op"), of("rhs"), strict=True)
    ]  # fmt: skip
    sized = Sized(np.array([e if e > 0 else max(abs(x), 1e-3) if x == x else 1.0 for e, x in
                            zip(of("std_error"), of("estimate"), strict=True)]))  # fmt: skip
    labels = [a if op != ":=" else "" for a, op in zip(of("label"), of("op"), strict=True)]
    listed = [Column("term", terms, Label(), "")]
    if any(labels):
        listed.append(Column("label", labels, Label(), "label"))
    listed += [
        Column("estimate", of("estimate"), sized),
        Column("std_error", blank("std_error"), sized),
        Column("statistic", blank("statistic"), Fixed(2), "z"),
        Column("p_value", blank("p_value"), PValue(), "p"),
        Column("conf_low", blank("conf_low"), sized, "low"),
        Column("conf_high", blank("conf_high"), sized, "high"),
    ]
    return Listing(name, tuple(listed), caption, 2 if any(labels) else 1)


def _test(p: float) -> str:
    """``, p = 0.01`` or ``, p < 0.0001``; nothing where there is no test."""
    said = p_value(p)
    return f", p {said if said.startswith('<') else f'= {said}'}" if said else ""


def _interval(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    return f" (90% interval {number(low, 3)} to {number(high, 3)})"
