"""What a call of `lmm`, `glmm` or `plan` says, read and checked once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.functions import FUNCTIONS
from ranef.errors import FormulaError, ModelError
from ranef.families import Family, Multinomial, family
from ranef.formula.backticks import with_backticks
from ranef.priors import Prior
from ranef.tables import Table

__all__ = ["ModelArguments", "read_family"]

PATHS = ("single", "nested", "crossed", "sparse", "iterative")
MISSING = ("drop", "raise")
UNDETERMINED = ("raise", "keep")
RANDOM = ("formula", "none")


@dataclass(frozen=True, eq=False)
class ModelArguments:
    """The arguments of a model, as `ranef.lmm` and `ranef.glmm` explain them.

    With `priors`, `fixed` or `equal` a linear model is one of the Gaussian family, whose
    dispersion holds the weights.

    Attributes
    ----------
    formula : str
    table : Table
        Handed over as any table.
    family : str, Family or None
        As `read_family` gives it; None of a linear model.

    Examples
    --------
    >>> ModelArguments("y ~ x + (1 | g)", {"y": [1.0], "x": [2.0], "g": ["a"]}, reml=1)
    Traceback (most recent call last):
    ranef.errors.ModelError: reml must be True or False, not int (1)
    """

    formula: str
    table: Table
    family: str | Family | None = None
    dispersion: str = "~1"
    zero: str = "~0"
    nominal: str = "~1"
    shapes: Mapping[str, str] | None = None
    residual: str | None = None
    quadrature: int = 1
    reml: bool = True
    priors: Mapping[str, Prior] | None = None
    fixed: Mapping[str, float] | None = None
    equal: Sequence[Collection[str]] | None = None
    weights: Any = None
    offset: Any = None
    contrasts: Mapping[str, Any] | None = None
    missing: str = "drop"
    undetermined: str = "raise"
    random: str = "formula"
    kernels: Mapping[str, Any] | None = None
    functions: Mapping[str, Callable[..., Any]] | None = None
    path: str | None = None
    rng: Any = None
    start: NDArray[np.float64] | None = None
    n_jobs: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.family is None and (self.priors or self.fixed or self.equal):
            self._as_generalised()
        self._set(
            quadrature=arguments.count("quadrature", self.quadrature),
            reml=arguments.flag("reml", self.reml),
            path=None if self.path is None else arguments.choice("path", self.path, PATHS),
            start=arguments.start(self.start),
            n_jobs=None if self.n_jobs is None else arguments.count("n_jobs", self.n_jobs),
            progress=arguments.optional_flag("progress", self.progress),
            formula=arguments.formula(self.formula),
            missing=arguments.choice("missing", self.missing, MISSING),
            undetermined=arguments.choice("undetermined", self.undetermined, UNDETERMINED),
            random=_random(self.random),
            table=Table.of(self.table),
        )
        self._recognise_columns()
        if self.family is None:
            _check_part("dispersion", self.dispersion)
        else:
            for name in ("zero", "dispersion", "nominal"):
                _check_part(name, getattr(self, name))
            for name, formula in (self.shapes or {}).items():
                _check_part(f"shapes[{name!r}]", formula)

    def _recognise_columns(self) -> None:
        """Put backticks around columns with blanks or signs in their names."""
        known = {*FUNCTIONS, *(self.functions or {})}
        for name in ("formula", "zero", "dispersion", "nominal", "residual"):
            text = getattr(self, name)
            if isinstance(text, str):
                self._set(**{name: with_backticks(text, self.table.columns, known)})

    def _as_generalised(self) -> None:
        """Make a linear model with constraints or priors one of the Gaussian family."""
        if self.residual is not None:
            raise ModelError(
                "priors, fixed and equal do not go with a structure of the residuals (residual=)"
            )
        plain = self.dispersion.replace(" ", "") == "~1"
        if not plain and self.weights is not None:
            raise ModelError(
                "with priors, fixed or equal, give weights or a dispersion formula, not both; "
                "offset(-log(w) / 2) in the dispersion stands for weights w"
            )
        dispersion = _precision(self.weights) if plain else self.dispersion
        self._set(family="gaussian", dispersion=dispersion, weights=None)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def read_family(value: Any, link: str | None = None) -> str | Family:
    """Return the family; the multinomial one by its name, since it needs the categories first."""
    if value == Multinomial.name and link in (None, "logit"):
        return Multinomial.name
    return family(value, link)


def _check_part(name: str, value: Any) -> None:
    if not isinstance(value, str) or "~" not in value:
        raise FormulaError(
            f"{name} takes a formula that begins with '~', such as '~ x', not {value!r}"
        )


def _precision(weights: Any) -> str:
    """Dispersion formula of precision weights: log sigma_i = log sigma - log(w_i) / 2."""
    if weights is None:
        return "~1"
    if not isinstance(weights, str):
        raise ModelError(
            "with priors, fixed or equal, weights must be the name of a column; put the numbers "
            "into the table"
        )
    return f"~ 1 + offset(-log(`{weights}`) / 2)"


def _random(given: Any) -> str:
    """Return what is asked of random terms; those of nlme stand in the formula here."""
    if isinstance(given, str) and ("|" in given or "~" in given):
        inner = given.strip().lstrip("~").strip()
        raise ModelError(
            f"random={given!r}: random effects stand in the formula, as in y ~ x + "
            f"({inner if '|' in inner else '1 | g'}); random='none' fits a model without them"
        )
    return arguments.choice("random", given, RANDOM)
