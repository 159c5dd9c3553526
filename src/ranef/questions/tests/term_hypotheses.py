"""Hypotheses about the terms of the fixed effects: types I, II and III.

A model mu = X beta is also mu = D delta, with D the over-parameterised columns of all
terms, one for each combination of levels. A hypothesis is a set of functions of mu,
kept here as rows l with l'(Q'mu), X = QR; about beta it is L = l'R. Nothing depends
on the contrasts that X codes factors by.

References: Goodnight, J. H. (1980), Tests of hypotheses in fixed effects linear models,
Commun. Stat. A9; Searle, S. R. (1987), Linear models for unbalanced data; SAS/STAT
User's guide, "The four types of estimable functions".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.design.effects import Effect, Effects
from ranef.errors import ModelError

__all__ = ["TYPES", "term_hypotheses"]

Floats = NDArray[np.float64]

TYPES = ("I", "II", "III")
INDEPENDENT = 1e-7


def term_hypotheses(kind: str, X: Floats, effects: Effects) -> tuple[Floats, ...]:
    """Return the hypothesis L (q, p) of each effect, q its degrees of freedom.

    Parameters
    ----------
    kind : {"I", "II", "III"}
        - I: each term after those before it. The rows are those of the Cholesky
          (Doolittle) factor of X'X.
        - II: each term after all terms that do not contain it. A term contains
          another if both have the same covariates and it has more factors.
        - III: the functions that involve the term and those that contain it, and
          no other, and that are orthogonal to the functions of those that contain it.
          Where all cells are filled these are contrasts of unweighted means.
    X : (n, p) array
        Model matrix of full column rank.
    effects : Effects
        Of the same rows.

    Raises
    ------
    ModelError
        For type III where a factor's contrasts span less than its levels.
    """
    if effects.short and kind == "III":
        raise ModelError(
            f"the contrasts of {', '.join(effects.short)} have fewer columns than levels minus "
            "one, so its means are tied to each other and type III hypotheses are not defined; "
            "use type='I' or type='II', or full contrasts"
        )
    R = np.asarray(np.linalg.qr(X, mode="r"))
    T = np.linalg.solve(R, np.eye(len(R)))
    reference = R if effects.reference is None else T.T @ (X.T @ effects.reference)
    projected = [] if kind == "I" else [T.T @ (X.T @ effect.columns) for effect in effects.effects]
    out = []
    for t in range(len(effects.effects)):
        if kind == "I":
            rows = np.eye(len(R))[effects.assigned == t]
        elif kind == "II":
            rows = _added(t, projected, effects.effects)[1].T
        else:
            rows = _orthogonal(t, projected, effects.effects)
        out.append(_fixed_rows(rows, reference, kind, t, effects) @ R)
    return tuple(out)


def _fixed_rows(rows: Floats, reference: Floats, kind: str, t: int, effects: Effects) -> Floats:
    """Choose the rows of a hypothesis, which Satterthwaite's degrees of freedom depend on.

    They are those of treatment contrasts with the first level as reference, whatever
    the contrasts of the fit: orthonormal ones for type III, and for type II where no
    term contains this one; else orthogonal in X'X and triangular (Doolittle's).
    """
    if len(rows) < 2:
        return rows
    last = not any(effects.effects[t].within(other) for other in effects.effects)
    if kind == "III" or (kind == "II" and last):
        L = rows @ reference
        U, singular, _ = np.linalg.svd(L, full_matrices=False)
        return np.asarray((U / singular).T @ rows)
    Q, triangle = np.linalg.qr(rows @ reference[:, effects.reference_assigned == t])
    pivots = np.diag(triangle).copy()
    pivots[np.abs(pivots) < INDEPENDENT * np.abs(pivots).max(initial=0.0)] = 1.0
    return np.asarray((Q / pivots).T @ rows)


def _added(t: int, projected: list[Floats], effects: tuple[Effect, ...]) -> tuple[Floats, Floats]:
    """Bases of the span of the terms that do not contain a term, and of what it adds."""
    p = len(projected[t])
    others = [
        projected[s] for s in range(len(effects)) if s != t and not effects[t].within(effects[s])
    ]
    before = _basis(np.hstack([np.empty((p, 0)), *others]), np.empty((p, 0)))
    return before, _basis(projected[t], before)


def _orthogonal(t: int, projected: list[Floats], effects: tuple[Effect, ...]) -> Floats:
    """Type III: as type II, made orthogonal to the functions of the terms that contain it."""
    before, added = _added(t, projected, effects)
    containing = [projected[s] for s in range(len(effects)) if effects[t].within(effects[s])]
    if not containing:
        return added.T
    beyond = _complement(np.hstack([before, added]))
    # coefficients of a function on the columns of the terms that may enter it
    columns = np.hstack([projected[t], *containing])
    largest = np.abs(columns).max(initial=0.0)
    columns = columns / (largest if largest > 0 else 1.0)
    inside, outside = columns.T @ added, columns.T @ beyond
    shift = np.linalg.lstsq(outside, inside, rcond=None)[0]
    return np.asarray((added - beyond @ shift).T, dtype=np.float64)


def _basis(columns: Floats, before: Floats) -> Floats:
    """Orthonormal basis of what columns add to the span of `before` (orthonormal)."""
    from scipy.linalg import qr

    lengths = np.sqrt(np.sum(columns**2, axis=0))
    scaled = columns[:, lengths > 0] / lengths[lengths > 0]
    for _ in range(2):
        scaled = scaled - before @ (before.T @ scaled)
    if scaled.shape[1] == 0:
        return np.empty((len(columns), 0))
    Q, R, _ = qr(scaled, mode="economic", pivoting=True)
    rank = int(np.count_nonzero(np.abs(np.diag(R)) > INDEPENDENT))
    return np.asarray(Q[:, :rank], dtype=np.float64)


def _complement(basis: Floats) -> Floats:
    """Orthonormal basis of the complement of an orthonormal basis."""
    Q, _ = np.linalg.qr(basis, mode="complete")
    return np.asarray(Q[:, basis.shape[1] :], dtype=np.float64)
