"""Variants without an effect, drawn so that small p values are many: for errors at 5e-8.

A plain simulation of p < 5e-8 needs some 10^9 variants. Here founders' alleles are drawn with the
odds p / (1 - p) times exp(s w), w what the allele's carriers sum of the trait's residuals and s one
of several tilts of either sign, and every variant counts with the ratio of its probability
under the model to that under the mixture of all tilts (Owen & Zhou 2000, JASA 95, 135-143). The
weighted shares are unbiased for the shares of a plain simulation, at all levels at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Families", "draw_variants", "kinship", "rate"]

Floats = NDArray[np.float64]
DEVIANCES = (0.0, 2.0, 3.3, 4.4, 5.4)
"""Where the tilts aim: square roots of twice the deviance at which the score is typical."""


@dataclass(frozen=True)
class Families:
    """Families of two parents and their children.

    Attributes
    ----------
    count, children : int
    """

    count: int
    children: int = 3

    @property
    def n(self) -> int:
        return self.count * (2 + self.children)


def kinship(families: Families) -> Floats:
    """Relationships by descent, (n, n)."""
    size = 2 + families.children
    one = np.full((size, size), 0.5)
    np.fill_diagonal(one, 1.0)
    one[0, 1] = one[1, 0] = 0.0
    return np.kron(np.eye(families.count), one)


def _inherited(rng: np.random.Generator, families: Families, b: int) -> NDArray[np.uint8]:
    """Which of its two alleles each parent hands each child, (b, families, children, parents)."""
    return rng.integers(0, 2, (b, families.count, families.children, 2), dtype=np.uint8)


def _carried(families: Families, residual: Floats, handed: NDArray[np.uint8]) -> Floats:
    """Sums of the residuals of those who carry each founder's allele, (b, families, parents, 2)."""
    r = residual.reshape(families.count, -1)
    second = np.einsum("fc,bfcp->bfp", r[:, 2:], handed)
    whole = r[:, 2:].sum(axis=1)[None, :, None]
    own = r[None, :, :2]
    return np.stack([own + whole - second, own + second], axis=3)


def _log_mean(w: Floats, p: float, s: float) -> Floats:
    """Log of the mean of exp(s T), (b,): T is the sum of the founders' alleles times w."""
    return np.log1p(p * np.expm1(s * w)).sum(axis=(1, 2, 3))


def tilts(families: Families, residual: Floats, p: float, rng: np.random.Generator) -> list[float]:
    """The values of s, both signs of each."""
    w = _carried(families, residual, _inherited(rng, families, 40))
    found = [0.0]
    for aim in DEVIANCES[1:]:
        for side in (1.0, -1.0):
            low, high = 0.0, 60.0
            for _ in range(40):
                s = side * 0.5 * (low + high)
                tilted = p * np.exp(s * w) / (1.0 + p * np.expm1(s * w))
                mean = (tilted * w).sum(axis=(1, 2, 3))
                deviance = float(np.mean(2.0 * (s * mean - _log_mean(w, p, s))))
                low, high = (abs(s), high) if deviance < aim**2 else (low, abs(s))
            found.append(side * low)
    return found


def draw_variants(
    families: Families, residual: Floats, p: float, b: int, rng: np.random.Generator
) -> tuple[NDArray[np.int8], Floats]:
    """Draw b variants of frequency p without an effect, and the weight of each.

    residual : (n,) array
        By whose sums the draws are tilted: about the trait less its expectation. It decides how
        well the small p values are seen, not what their share is.
    """
    s = tilts(families, residual, p, rng)
    out, weights = [], []
    for start in range(0, b, 250):
        size = min(250, b - start)
        handed = _inherited(rng, families, size)
        w = _carried(families, residual, handed)
        own = np.array(s)[rng.integers(0, len(s), size)][:, None, None, None]
        tilted = p * np.exp(own * w) / (1.0 + p * np.expm1(own * w))
        alleles = (rng.random(w.shape) < tilted).astype(np.uint8)
        T = (alleles * w).sum(axis=(1, 2, 3))
        each = np.array([one * T - _log_mean(w, p, one) for one in s])
        top = each.max(axis=0)
        weights.append(np.exp(-top) / np.exp(each - top).mean(axis=0))
        first, second = alleles[..., 0], alleles[..., 1]
        given = np.where(handed, second[:, :, None, :], first[:, :, None, :]).sum(axis=3)
        people = np.concatenate([first + second, given], axis=2)
        out.append(people.reshape(size, -1).astype(np.int8))
    return np.concatenate(out), np.concatenate(weights)


def rate(
    weights: Floats, below: NDArray[np.bool_], tested: NDArray[np.bool_]
) -> tuple[float, float]:
    """The share of the tested that lies below, and its standard error."""
    share = float(weights @ below / (weights @ tested))
    gap = weights * (below - share * tested)
    return share, float(np.sqrt(np.sum(gap**2)) / (weights @ tested))
