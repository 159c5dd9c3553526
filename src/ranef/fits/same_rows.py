"""Whether several fits are of the same rows."""

from __future__ import annotations

import numpy as np

from ranef.fits.fit import Fit
from ranef.fits.mixed import MixedFit
from ranef.models.refitting import reordered

__all__ = ["in_order_of", "missing_words", "same_rows"]


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
