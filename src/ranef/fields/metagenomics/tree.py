"""Exact sums over a tree of Gaussian levels on a grid: profiles of contamination.

The log contamination of a taxon has a value for the taxon, for each laboratory, instrument and
batch below it, each normal around the one above. On a grid of K nodes the joint posterior is a
product of K x K matrices (sum-product on a tree; Pearl 1988): no mode is searched for, so that a
posterior with two modes, "in the reagents" and "in the patients", is carried as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "Passed", "normal_prior", "pass_messages", "transition"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Levels:
    """Who stands below whom, from the leaves up; nodes of a level are sorted by their parents.

    Attributes
    ----------
    names : tuple of str
        Of the levels, the leaves' first.
    parents : tuple of int arrays
        Of each level, the places of its nodes' parents in the level above; the last level's are
        all 0, the taxon.
    """

    names: tuple[str, ...]
    parents: tuple[Ints, ...]

    @property
    def n_leaves(self) -> int:
        """How many leaves there are."""
        return len(self.parents[0])


@dataclass(frozen=True, eq=False)
class Passed:
    """What the tree says of each taxon.

    Attributes
    ----------
    evidence : (T,) array
        Log marginal likelihood.
    cavity : (T, C, K) array
        Of each leaf, what all but its own data say; sums to one over the nodes.
    root : (T, K) array
        Posterior of the taxon's own value.
    spread : tuple of (T,) arrays
        Of each level, the posterior sum of squared distances to the parents.
    """

    evidence: Floats
    cavity: Floats
    root: Floats
    spread: tuple[Floats, ...]


def transition(nodes: Floats, sd: float) -> Floats:
    """Return the (K, K) probabilities of a child's node given its parent's.

    Examples
    --------
    >>> transition(np.array([0.0, 1.0]), 1.0).round(3)
    array([[0.622, 0.378],
           [0.378, 0.622]])
    """
    z = (nodes[:, None] - nodes[None, :]) / max(sd, 1e-3)
    out = np.exp(-0.5 * np.minimum(z * z, 1400.0))
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def normal_prior(nodes: Floats, mean: float, sd: float) -> Floats:
    """Return a normal distribution on the nodes; what lies below them is on the lowest."""
    from scipy.special import ndtr

    edges = 0.5 * (nodes[1:] + nodes[:-1])
    below = np.concatenate([[0.0], ndtr((edges - mean) / sd), [1.0]])
    return np.maximum(np.diff(below), TINY)


def pass_messages(
    leaf: Floats, levels: Levels, kernels: Sequence[Floats], distance: Floats, prior: Floats
) -> Passed:
    """Sum over the tree.

    Parameters
    ----------
    leaf : (T, C, K) array
        Log likelihood of each leaf's data at each node.
    levels : Levels
    kernels : sequence of (K, K) arrays
        Of each level, `transition` from its parents.
    distance : (K, K) array
        Squared distances of the nodes.
    prior : (K,) array
    """
    up: list[Floats] = []
    own: list[Floats] = []
    shift = np.zeros(leaf.shape[0])
    here = leaf
    for parents, kernel in zip(levels.parents, kernels, strict=True):
        top = here.max(axis=2)
        data = np.exp(here - top[:, :, None])
        message = np.maximum(data @ kernel.T, TINY)
        own.append(data)
        up.append(message)
        starts = np.flatnonzero(np.diff(parents, prepend=-1))
        here = np.add.reduceat(np.log(message), starts, axis=1)
        shift += top.sum(axis=1)
    root = here[:, 0, :]
    top = root.max(axis=1)
    joint = np.exp(root - top[:, None]) * prior
    total = joint.sum(axis=1)
    evidence = shift + top + np.log(total)
    posterior = joint / total[:, None]

    above = posterior[:, None, :]
    spread: list[Floats] = []
    for depth in range(len(kernels) - 1, -1, -1):
        parents, kernel = levels.parents[depth], kernels[depth]
        cavity = above[:, parents, :] / up[depth]
        cavity /= np.maximum(cavity.sum(axis=2, keepdims=True), TINY)
        far = own[depth] @ (kernel * distance).T
        weight = (cavity * up[depth]).sum(axis=2)
        spread.append(((cavity * far).sum(axis=2) / np.maximum(weight, TINY)).sum(axis=1))
        down = cavity @ kernel
        if depth:
            above = down * own[depth]
            above /= np.maximum(above.sum(axis=2, keepdims=True), TINY)
    return Passed(evidence, down, posterior, tuple(reversed(spread)))
