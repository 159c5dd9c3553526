"""Differential abundance: each taxon's cleaned reads by a column of the sheet, batches random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Label, Listing, PValue, Significant, Written
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError, RanefError, UnknownColumnError, suggestion
from ranef.fields.metagenomics.arrays import PATIENT

__all__ = ["Differences", "contrast"]

LEAST_LIBRARIES = 5
"""A taxon needs reads of its own in so many libraries."""
LEAST_READS = 0.5


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Differences(Answer):
    """Differences of taxa between the levels of a column: `Screen.contrast`.

    Attributes
    ----------
    column, level, reference : str
    columns : dict
        ``taxon, name, n, estimate, std_error, conf_low, conf_high, p_value, q_value``: the log
        ratio of abundances, and the false discovery rate by Benjamini and Hochberg.
    left_out : int
        Taxa with reads of their own in too few libraries, or whose model could not be fitted.
    library : str
    """

    column: str
    level: str
    reference: str
    columns: dict[str, Any]
    left_out: int
    library: str

    @property
    def title(self) -> str:
        return f"Abundance by {self.column}: {self.level} against {self.reference}"

    def tables(self) -> tuple[Listing, ...]:
        made = self.columns
        columns = (
            Column("taxon", made["taxon"], Label()),
            Column("name", made["name"], Label()),
            Column("n", made["n"], Written("{:,}".format), "libraries"),
            Column("estimate", made["estimate"], Significant(3), "log ratio"),
            Column("std_error", made["std_error"], Significant(3), "std. error"),
            Column("conf_low", made["conf_low"], Significant(3), "from"),
            Column("conf_high", made["conf_high"], Significant(3), "to"),
            Column("p_value", made["p_value"], PValue(), "p"),
            Column("q_value", made["q_value"], PValue(), "q"),
        )
        return (Listing("differences", columns, "Taxa", labels=2),)

    def sentences(self) -> tuple[str, ...]:
        return (
            "Negative binomial mixed models of the reads without contamination, a random "
            "intercept of the batch, exposure as offset; q by Benjamini and Hochberg.",
            f"{self.left_out:,} taxa are left out: too few libraries have reads of theirs, or no "
            "model could be fitted.",
        )


def _groups(screen: Any, column: str) -> tuple[NDArray[np.intp], list[str], str, str]:
    sheet = screen.assembled.sheet
    if column not in sheet.columns:
        known = list(sheet.columns)
        raise UnknownColumnError(f"the sheet has no column {column!r}{suggestion(column, known)}")
    patients = screen.assembled.arrays.role == PATIENT
    values = [str(v) for v in sheet.columns[column]]
    given = [v is not None and v == v and str(v) != "" for v in sheet.columns[column]]
    rows = np.flatnonzero(patients & np.array(given))
    levels = sorted({values[k] for k in rows})
    if len(levels) != 2:
        raise ModelError(
            f"contrast() compares two groups of patients; {column!r} has {len(levels)} among them"
        )
    return rows, [values[k] for k in rows], levels[1], levels[0]


def _refuse_confounded(screen: Any, column: str, rows: NDArray[np.intp], of: list[str]) -> None:
    cell = screen.assembled.arrays.cell[rows]
    mixed = any(len({g for g, c in zip(of, cell, strict=True) if c == k}) > 1 for k in set(cell))
    if not mixed:
        raise ModelError(
            f"the groups of {column!r} are confounded with the batches: no batch has patients of "
            "both, so that a difference cannot be distinguished from the batch's own contamination"
        )


def _cleaned(screen: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Reads without contamination of these libraries, (R, T)."""
    arrays, judged = screen.assembled.arrays, screen.judged
    own = np.zeros(arrays.shape)
    reads = screen.found.pairs.reads[judged.row]
    own[judged.sample, judged.taxon] = screen.measured.kept * reads
    return np.asarray(own[rows])


def _table(
    screen: Any, rows: NDArray[np.intp], reads: NDArray[np.float64],
    of: list[str] | None, level: str,
) -> Any:  # fmt: skip
    """The table of one taxon's model."""
    import pandas as pd

    arrays, made = screen.assembled.arrays, screen.assembled
    columns = {
        "reads": np.round(reads).astype(np.int64),
        "batch": [made.cells[c] for c in arrays.cell[rows]],
        "rate": np.log(arrays.exposure[rows]),
    }
    if of is not None:
        columns["group"] = np.where(np.array(of) == level, 1.0, 0.0)
    return pd.DataFrame(columns)


def contrast(screen: Any, column: str) -> Differences:
    """Compare the abundance of each taxon between two groups of patients."""
    from ranef.api.fitting import glmm

    rows, of, level, reference = _groups(screen, column)
    _refuse_confounded(screen, column, rows, of)
    arrays = screen.assembled.arrays
    use = arrays.exposure[rows] > 0
    rows, of = rows[use], [group for group, used in zip(of, use, strict=True) if used]
    own = np.round(_cleaned(screen, rows))
    several = len(set(arrays.cell[rows])) > 1
    found: list[tuple[int, int, float, float]] = []
    candidates = np.flatnonzero((own > LEAST_READS).sum(axis=0) > 0)
    for t in candidates:
        n = int((own[:, t] > LEAST_READS).sum())
        if n < LEAST_LIBRARIES:
            continue
        table = _table(screen, rows, own[:, t], of, level)
        formula = "reads ~ group + offset(rate)" + (" + (1 | batch)" if several else "")
        try:
            row = glmm(formula, table, family="nbinom2").tidy().set_index("term").loc["group"]
        except RanefError:
            continue
        if np.isfinite(row["std_error"]):
            found.append((int(t), n, float(row["estimate"]), float(row["std_error"])))
    return _answer(screen, column, level, reference, found, len(candidates))


def corrected(screen: Any, keep: str | None) -> dict[str, Any]:
    """Return the columns of `Screen.corrected`."""
    from ranef.api.fitting import glmm

    arrays, made = screen.assembled.arrays, screen.assembled
    of, level = None, ""
    rows = np.flatnonzero((arrays.role == PATIENT) & (arrays.exposure > 0))
    if keep is not None:
        chosen, groups, level, _ = _groups(screen, keep)
        _refuse_confounded(screen, keep, chosen, groups)
        use = arrays.exposure[chosen] > 0
        rows, of = chosen[use], [g for g, used in zip(groups, use, strict=True) if used]
    own = _cleaned(screen, rows)
    effect = np.zeros((arrays.levels.n_leaves, own.shape[1]))
    if len(set(arrays.cell[rows])) > 1:
        for t in np.flatnonzero((own > LEAST_READS).sum(axis=0) >= LEAST_LIBRARIES).tolist():
            formula = (
                "reads ~ " + ("1" if of is None else "group") + " + offset(rate) + (1 | batch)"
            )
            table = _table(screen, rows, own[:, t], of, level)
            try:
                found = glmm(formula, table, family="nbinom2").tidy("random")
            except RanefError:
                continue
            shift = dict(zip(found["level"], found["estimate"], strict=True))
            effect[:, t] = [shift.get(cell, 0.0) for cell in made.cells]
    at, taxon = np.nonzero(own)
    cell = arrays.cell[rows][at]
    moved = effect[cell, taxon]
    return {
        "sample": np.array(made.samples, dtype=object)[rows[at]],
        "taxon": np.array(made.taxa, dtype=object)[taxon],
        "name": np.array(made.names, dtype=object)[taxon],
        "batch": np.array(made.cells, dtype=object)[cell],
        "cleaned": own[at, taxon],
        "batch_effect": moved,
        "corrected": own[at, taxon] * np.exp(-moved),
    }


def _answer(
    screen: Any, column: str, level: str, reference: str,
    found: list[tuple[int, int, float, float]], n_candidates: int,
) -> Differences:  # fmt: skip
    from scipy.special import ndtr

    made = screen.assembled
    estimate = np.array([row[2] for row in found])
    error = np.array([row[3] for row in found])
    p = 2.0 * ndtr(-np.abs(estimate / error))
    order = np.argsort(p, kind="stable")
    taxa = [found[k][0] for k in order]
    columns = {
        "taxon": [made.taxa[t] for t in taxa],
        "name": [made.names[t] for t in taxa],
        "n": np.array([found[k][1] for k in order], dtype=np.int64),
        "estimate": estimate[order],
        "std_error": error[order],
        "conf_low": (estimate - 1.959964 * error)[order],
        "conf_high": (estimate + 1.959964 * error)[order],
        "p_value": p[order],
        "q_value": _adjusted(p[order]),
    }
    left = n_candidates - len(found)
    return Differences(column, level, reference, columns, left, screen.library)


def _adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """False discovery rates of sorted p values (Benjamini & Hochberg 1995)."""
    n = len(p)
    q = p * n / np.arange(1, n + 1)
    return np.minimum(np.minimum.accumulate(q[::-1])[::-1], 1.0)
