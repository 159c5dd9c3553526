"""A generalised mixed model as the solver takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.solve.constraints import Constraints
from ranef.solve.penalty import Penalty

__all__ = ["GeneralisedDesign", "LinearPredictor"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """The fixed part of one linear predictor.

    Attributes
    ----------
    X : (n, c) float64 array
    coefficients : (c,) int array
        Entry of the coefficient vector that each column multiplies.
    offset : (n,) float64 array or None
    unit : float
        The predictor's own unit, of which the core takes coefficients and random
        effects as multiples: the spread of the response under an identity link.
    together : bool
        Whether its columns are scaled with those of the other predictor that has the
        same coefficients.
    """

    X: Floats
    coefficients: Ints
    offset: Floats | None = None
    unit: float = 1.0
    together: bool = False


@dataclass(frozen=True, eq=False)
class GeneralisedDesign:
    """A generalised linear mixed model as arrays.

    Attributes
    ----------
    family : _core.Family
        The compiled log density.
    y : (n,) float64 array
    extra : (n,) float64 array or None
        What the family needs beside the response: trials, upper ends.
    weights : (n,) float64 array or None
        They multiply the log density.
    predictors : tuple of LinearPredictor
        One for each of the family's.
    terms : tuple of RandomTerm
        Of all predictors, those of the first predictor first.
    owners : tuple of tuple of int
        Predictor of each column of each term: one for all, but where the term ties the effects
        of several predictors.
    factors : tuple of GroupingFactor
    n_coefficients : int
        Length P of the coefficient vector.
    integrated : tuple of int
        Coefficients to integrate out (restricted likelihood): all of some
        predictors or none.
    penalty : Penalty or None
        Priors of its parameters.
    constraints : Constraints
        Parameters that are held or equal.
    level_weights : (q,) array or None
        Of the levels of the only grouping factor: they multiply their log integrals, which
        quadrature makes. The sum is then no likelihood.
    scale_predictor : int or None
        The predictor that is the logarithm of the residual standard deviation, where the
        response is Gaussian on the scale of its mean.
    cuts : tuple of int
        The predictors of the cuts beyond which a response is 0 or 1: the first one, and the
        logarithm of the distance between the two.
    """

    family: _core.Family
    y: Floats
    extra: Floats | None
    weights: Floats | None
    predictors: tuple[LinearPredictor, ...]
    terms: tuple[RandomTerm, ...]
    owners: tuple[tuple[int, ...], ...]
    factors: tuple[GroupingFactor, ...]
    n_coefficients: int
    integrated: tuple[int, ...] = ()
    penalty: Penalty | None = None
    constraints: Constraints = field(default_factory=Constraints)
    scale_predictor: int | None = None
    cuts: tuple[int, ...] = ()
    level_weights: Floats | None = None

    @cached_property
    def n(self) -> int:
        return len(self.y)

    @cached_property
    def p(self) -> int:
        return self.n_coefficients

    def columns(self, term: int, predictor: int) -> Floats:
        """Columns (n, r) of a term as they enter a predictor: zero where another owns them."""
        own = np.array([m == predictor for m in self.owners[term]])
        z = self.terms[term].z
        return z if own.all() else np.where(own, z, 0.0)

    @cached_property
    def random(self) -> tuple[int, ...]:
        """The predictors with random effects, in order."""
        return tuple(sorted({m for own in self.owners for m in own}))

    def terms_in(self, predictor: int) -> tuple[int, ...]:
        """The terms that enter a predictor."""
        return tuple(t for t, own in enumerate(self.owners) if predictor in own)

    @property
    def systems(self) -> int:
        """Linear systems that the core holds at once: of the modes, and of all coefficients too."""
        return 2

    @property
    def bytes_a_row(self) -> tuple[int, int, int]:
        """Bytes of a row in core and search: of predictors, their derivatives and weights.

        Columns of X are copied twice while they are brought to the core, once later.
        """
        M, A = len(self.predictors), len(self.random)
        columns = sum(max(own.X.shape[1] - 1, 0) for own in self.predictors)
        given = sum(values is not None for values in (self.extra, self.weights))
        pairs = A * (A + 1) // 2 + M * (M + 1) // 2 + A
        work = 48 + 64 * M + 8 * pairs + 16 * given + 8 * columns
        return work, 8, 72 + 16 * (columns + M)
