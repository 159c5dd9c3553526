"""What a fit is to those who ask it: protocols, and one refusal for what a fit has not.

A question names what it needs and asks `require`; it never asks of which class a fit is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from inspect import getattr_static
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.description.model import ModelDescription
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.families import Family
from ranef.families.links import Scale
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.inference.coefficients.sandwich import Sandwich
from ranef.inference.coefficients.wald import FTest
from ranef.models.labels import CoefficientLabel
from ranef.models.meta import MetaEstimate
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = [
    "Clustered",
    "Comparable",
    "Critical",
    "Describable",
    "Estimand",
    "Estimating",
    "Evaluated",
    "Generative",
    "Levelled",
    "Likelihood",
    "Normal",
    "Profiled",
    "Redrawn",
    "Refittable",
    "Scored",
    "Synthesised",
    "offers",
    "require",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimand:
    """What is asked of a fit, whatever the rows.

    Attributes
    ----------
    component : str
        ``"conditional"``, ``"zero"``, ``"dispersion"``, or ``"response"``: the mean of what
        is observed.
    type : str
        ``"response"``, ``"link"``, ``"prob"`` or ``"mean_class"``.
    kind : str
        ``"typical"``, ``"population"``, or ``"unit"``: with the random effects of one level.
    df : str or None
        Method of the degrees of freedom.
    unit : dict
        Grouping column -> level, for one level's own answer.
    offset : float or None
        In place of the offset of the rows.
    parts : tuple of str
        Names of the parts whose fixed effects the answer depends on.
    back : str
        The link that the response was put through and is carried back from.
    effects : str or None
        Random effects that rows need: those of ``"new"`` levels, of their ``"own"``, none.
    """

    component: str = "conditional"
    type: str = "link"
    kind: str = "typical"
    df: str | None = None
    unit: Mapping[str, Any] = field(default_factory=dict)
    offset: float | None = None
    parts: tuple[str, ...] = ("conditional",)
    back: Scale = "identity"
    effects: str | None = None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a fit says of rows.

    Attributes
    ----------
    functions : Functions
        One a row; where there are categories, those of the first one first.
    knowledge : Knowledge
        Of the parameters that the functions depend on.
    link : str
        Of the values; ``"identity"`` where they are means themselves.
    scale : str
        The link on whose scale intervals are made.
    unseen : (N,) bool array
        Rows at which a part has no value, such as those of a level that the fit has not seen.
    linear : bool
        Whether the values are linear in the coefficients.
    categories : tuple or None
        Of the response, where there is a value for each.
    """

    functions: Functions
    knowledge: Knowledge
    link: Scale
    scale: Scale
    unseen: NDArray[np.bool_]
    linear: bool
    categories: tuple[Any, ...] | None = None


class Estimating(Protocol):
    """Every fit: coefficients with their uncertainty, and answers at rows."""

    @property
    def formula(self) -> str: ...
    @property
    def frame(self) -> Origin: ...
    @property
    def parts(self) -> Mapping[str, Specification]: ...
    @property
    def labels(self) -> Sequence[CoefficientLabel]: ...
    @property
    def coefficients(self) -> Floats: ...
    @property
    def family(self) -> Family: ...
    def estimand(self, *args: Any, **question: Any) -> Estimand: ...
    def evaluate(
        self, table: Table, what: Estimand, held: Mapping[str, Floats] = ...
    ) -> Evaluated: ...
    def knowledge(self, df: str | None = None) -> Knowledge: ...
    def doubts(self) -> tuple[str, ...]: ...


class Levelled(Protocol):
    """A fit with random effects."""

    @property
    def factors(self) -> Sequence[GroupingFactor]: ...
    @property
    def terms(self) -> Sequence[RandomTerm]: ...


class Normal(Protocol):
    """A fit whose every parameter has a normal interval, and no other."""

    def normal_intervals(self, method: str, parameters: Any, conf_level: float) -> Any: ...


class Likelihood(Protocol):
    """A fit that maximised a likelihood."""

    @property
    def loglik(self) -> float: ...
    @property
    def df_model(self) -> int: ...
    @property
    def optimum(self) -> Any: ...


class Generative(Protocol):
    """A fit of a model that draws responses."""

    def simulate(self, n: int = 1, *, rng: Any = None) -> Any: ...


class Refittable(Protocol):
    """A fit whose model can be fitted again, to other responses or other rows."""

    def refit(self, y: Any) -> Any: ...


class Redrawn(Protocol):
    """A fit that draws its whole table anew and fits it: its own bootstrap."""

    @property
    def coef(self) -> Any: ...
    @property
    def parameters(self) -> Sequence[Any]: ...
    def redrawn(self, method: str, rng: np.random.Generator) -> Any: ...


class Profiled(Protocol):
    """A fit with a likelihood of its own that holds each parameter in turn."""

    @property
    def parameters(self) -> Sequence[Any]: ...
    def profile_slice(self, parameter: Any, n_jobs: int | None = None) -> Any: ...


class Critical(Protocol):
    """A fit of a model of its own that says what speaks against it."""

    def criticised(self, alpha: float, rng: np.random.Generator) -> Any: ...


class Clustered(Protocol):
    """A fit with scores by cluster."""

    def sandwich(self, codes: NDArray[np.intp], type: str | None = None) -> Sandwich: ...


class Scored(Protocol):
    """A fit whose hypotheses have score tests."""

    def score_test(self, L: Floats) -> FTest: ...


class Synthesised(Protocol):
    """A fit of effects with known sampling variances."""

    @property
    def studies(self) -> Sequence[str]: ...
    @property
    def synthesis(self) -> MetaEstimate: ...


class Comparable(Protocol):
    """A fit that compares itself with others of its kind."""

    def compared(self, others: Sequence[Any]) -> Any: ...


class Describable(Protocol):
    """A fit that describes itself in words."""

    @property
    def description(self) -> ModelDescription: ...


NEEDS: dict[type, str] = {
    Estimating: "a fit of a regression",
    Levelled: "random effects",
    Likelihood: "a likelihood",
    Generative: "a model that draws responses",
    Refittable: "a model that can be fitted again",
    Redrawn: "whole tables drawn anew",
    Profiled: "a likelihood of its own to profile",
    Critical: "a criticism of its own",
    Clustered: "scores by cluster",
    Scored: "score tests",
    Synthesised: "effects with known sampling variances",
    Describable: "a description in words",
    Comparable: "a comparison of its own",
    Normal: "normal intervals of its own",
}

MEMBERS = {
    protocol: tuple(name for name in vars(protocol) if not name.startswith("_"))
    for protocol in NEEDS
}
NOTHING = object()
OF_MIXED = (Likelihood, Generative, Refittable)
"""What a fit answers by the inference of mixed models; one with ``own_likelihood`` does not."""


def offers(fit: Any, protocol: type) -> bool:
    """Tell whether a fit has the members of a protocol, none of which costs work.

    A fit of a kind that may have random effects is not `Levelled` where it has none.
    """
    kind: Any = type(fit)
    if not _always_has(kind, protocol):
        members = MEMBERS[protocol]
        if any(getattr_static(fit, name, NOTHING) is NOTHING for name in members):
            return False
    if protocol in OF_MIXED and _has_own_likelihood(fit):
        return False
    return protocol is not Levelled or len(fit.factors) > 0


@cache
def _always_has(kind: Any, protocol: type) -> bool:
    """Tell whether whatever is of a class has the members of a protocol."""
    own = {one.name for one in fields(kind)} if is_dataclass(kind) else set()
    return all(
        name in own or getattr_static(kind, name, NOTHING) is not NOTHING
        for name in MEMBERS[protocol]
    )


def require(fit: Any, question: str, *needed: type) -> Any:
    """Return the fit if it has what a question needs; say in words what it has not.

    Examples
    --------
    >>> require(3.0, "rank()", Estimating)
    Traceback (most recent call last):
    ...
    ranef.errors.ModelError: rank() takes a fit of ranef.lmm or ranef.glmm, ...
    """
    if not offers(fit, Estimating):
        raise ModelError(
            f"{question} takes a fit of ranef.lmm or ranef.glmm, or of another function of ranef, "
            f"not {type(fit).__name__}"
        )
    if not fit.parts:
        raise ModelError(f"{question} needs a formula for one response; {_named(fit)} has none")
    weighted = getattr(getattr(fit, "estimate", None), "sampling", None) is not None
    for protocol in needed:
        if weighted and protocol in (Likelihood, Generative):
            raise ModelError(
                f"{question} needs a likelihood, and sampling_weights make a pseudo-likelihood; "
                "Wald's tests and intervals hold: tidy(), anova(fit), test()"
            )
        if protocol in OF_MIXED and _has_own_likelihood(fit):
            raise ModelError(
                f"{question} needs the likelihood of ranef.lmm and ranef.glmm; {_named(fit)} has "
                "one of its own: fit.anova(other) compares by it, fit.simulate() and fit.refit() "
                "draw and fit again"
            )
        if protocol is Levelled and _has_own_likelihood(fit):
            raise ModelError(
                f"{question} needs the random effects of ranef.lmm and ranef.glmm; those of "
                f"{_named(fit)} are in fit.tidy('random'), their spread in fit.tidy('variance')"
            )
        if not offers(fit, protocol):
            raise ModelError(f"{question} needs {NEEDS[protocol]}; {_named(fit)} has none")
    return fit


def _has_own_likelihood(fit: Any) -> bool:
    kind: Any = type(fit)
    return _of_own_likelihood(kind)


@cache
def _of_own_likelihood(kind: Any) -> bool:
    """Tell whether a class says that its likelihood is none of mixed models."""
    return getattr_static(kind, "own_likelihood", False) is True


def _named(fit: Any) -> str:
    kind = getattr(fit, "kind_words", type(fit).__name__)
    return f"this fit ({kind})"
