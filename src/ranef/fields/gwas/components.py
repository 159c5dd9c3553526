"""Principal components of a relationship matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError
from ranef.squares import eigen

__all__ = ["Components", "components"]

Floats = NDArray[np.float64]


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Components(Answer):
    """Principal components of samples; `gwas.pca` and `Relationship.pca` make it.

    Attributes
    ----------
    scores : (N, k) array
        Orthonormal eigenvectors of the centred relationship; of each the largest value in size
        is positive.
    eigenvalues : (k,) array
    share : (k,) array
        Of the sum of all eigenvalues.
    fid, iid : tuple of str
    library : str
    """

    scores: Floats
    eigenvalues: Floats
    share: Floats
    fid: tuple[str, ...]
    iid: tuple[str, ...]
    library: str

    @property
    def title(self) -> str:
        return f"{self.scores.shape[1]} principal components of {len(self.iid):,} samples"

    def tidy(self, table: str = "scores") -> Any:
        """Return the scores, ``FID, IID, PC1, ...``; or ``eigenvalues``: ``component,
        eigenvalue, share``.
        """
        return self.tabled(self.listing(table))

    def tables(self) -> tuple[Listing, ...]:
        names = [f"PC{k + 1}" for k in range(self.scores.shape[1])]
        scores = tuple(Column(name, self.scores[:, k], Fixed(4)) for k, name in enumerate(names))
        ids = (Column("FID", list(self.fid)), Column("IID", list(self.iid)))
        values = (
            Column("component", names),
            Column("eigenvalue", self.eigenvalues, Fixed(4)),
            Column("share", self.share, Fixed(4)),
        )
        return (
            Listing("scores", (*ids, *scores), "Scores", labels=2),
            Listing("eigenvalues", values, "Eigenvalues"),
        )

    def body(self) -> Any:
        yield self.listing("eigenvalues")


def components(
    K: Floats, fid: tuple[str, ...], iid: tuple[str, ...], n: int, library: str
) -> Components:
    """Return the leading eigenvectors of a matrix centred over its samples."""
    N = len(K)
    if n > N - 1:
        raise ModelError(f"{N:,} samples have at most {N - 1:,} components, not {n:,}")
    centred = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
    values, vectors = eigen(centred, n)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(n)]
    scores = np.ascontiguousarray(vectors * np.sign(largest))
    return Components(scores, values.copy(), values / np.trace(centred), fid, iid, library)
