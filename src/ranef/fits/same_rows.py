"""Whether several fits are of the same rows, and their restricted likelihoods of the same data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.fits.fit import Fit
from ranef.fits.mixed import MixedFit
from ranef.inference.nested.nesting import same_values
from ranef.models.records import Estimate
from ranef.models.refitting import reordered

__all__ = ["in_order_of", "missing_words", "refitted_words", "same_fixed_effects", "same_rows"]


def in_order_of(first: MixedFit, fit: MixedFit) -> MixedFit:
    """Return a fit with its rows in the order of another's, where their labels tell it.

    The likelihood is the same; what is compared row by row then fits.
    """
    wanted, own = first.frame.labels_used, fit.frame.labels_used
    if wanted is None or own is None or len(wanted) != len(own) or wanted.equals(own):
        return fit
    if not (wanted.is_unique and own.is_unique and wanted.isin(own).all()):
        return fit
    estimate = reordered(fit.estimate, own.get_indexer(wanted))
    return type(fit)(estimate, first.frame)


def same_rows(first: Fit, other: Fit) -> bool:
    """Tell whether two fits may have the same rows; of unlike tables the responses tell."""
    rows = [fit.frame.accounting for fit in (first, other)]
    if rows[0].n_rows != rows[1].n_rows:
        return True
    a, b = (np.ones(r.n_rows, dtype=np.bool_) if r.kept is None else r.kept for r in rows)
    return bool(np.array_equal(a, b))


def missing_words(fit: Fit) -> str:
    """Which columns lost a fit rows."""
    gone = [name for name, count in fit.frame.accounting.missing.items() if count]
    return f"; {fit.formula!r} leaves out rows without {', '.join(gone)}" if gone else ""


def same_fixed_effects(estimates: Sequence[Estimate]) -> bool:
    """Tell whether restricted likelihoods are of the same data: one response, one X."""
    base = estimates[0].specification
    return all(
        e.specification.response == base.response and same_values(e.specification.X, base.X)
        for e in estimates[1:]
    )


def refitted_words(names: Sequence[str], estimates: Sequence[Estimate]) -> str:
    """Say which fits by REML are fitted again by ML, and why."""
    again = [name for name, e in zip(names, estimates, strict=True) if e.reml]
    if len(again) < len(estimates):
        why = "the others are by ML"
    elif same_fixed_effects(estimates):
        why = "their fixed effects are the same, so that refit=False compares them by REML"
    else:
        others = len({e.specification.response for e in estimates}) > 1
        what = "responses" if others else "fixed effects"
        why = f"REML likelihoods of different {what} cannot be compared"
    return f"Refitted by ML for the comparison: {', '.join(again)} ({why})."
