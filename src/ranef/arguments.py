"""Arguments checked once, at the boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fsencode
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import FileError, FormulaError, ModelError, shortened, suggestion

__all__ = [
    "choice",
    "conf_level",
    "count",
    "flag",
    "formula",
    "generator",
    "later_generator",
    "mapping",
    "number",
    "offset",
    "optional_flag",
    "path",
    "places",
    "share",
    "start",
    "unit",
]

KINDS = ("typical", "population")
MOST = 2**31


def formula(value: Any) -> str:
    """Return the formula, or say what was given in its place."""
    if not isinstance(value, str):
        raise FormulaError(
            f"the formula must be text such as 'y ~ x + (1 | g)', not {_typed(value)}; "
            "the order is formula, then data"
        )
    if not value.strip():
        raise FormulaError("the formula is empty; write one such as 'y ~ x + (1 | g)'")
    return value


def flag(name: str, value: Any) -> bool:
    """Return a yes-or-no argument."""
    if not isinstance(value, (bool, np.bool_)):
        raise ModelError(f"{name} must be True or False, not {_typed(value)}")
    return bool(value)


def optional_flag(name: str, value: Any) -> bool | None:
    """Return a yes-or-no argument that may be left to ranef."""
    return None if value is None else flag(name, value)


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """Return one of the known names."""
    if isinstance(value, str) and value in known:
        return value
    hint = _meant(name, value, known) if isinstance(value, str) else ""
    names = ", ".join(repr(k) for k in known)
    raise ModelError(f"{name}={shortened(value)} is not known{hint}; use one of {names}")


_ELSEWHERE: dict[tuple[str, str], str] = {
    ("covariance", "sandwich"): "robust",
    ("covariance", "empirical"): "robust",
    ("covariance", "naive"): "model",
    ("covariance", "nonrobust"): "model",
    ("covariance", "bias_reduced"): "mancl-derouen",
    ("effects", "ran_pars"): "variance",
    ("effects", "ran_vals"): "random",
    ("effects", "ran_coefs"): "random",
    ("missing", "omit"): "drop",
    ("missing", "na.omit"): "drop",
    ("missing", "ignore"): "drop",
    ("missing", "exclude"): "drop",
    ("missing", "na.fail"): "raise",
    ("missing", "error"): "raise",
    ("missing", "listwise"): "drop",
    ("kind", "vanraden"): "centred",
    ("kind", "centered"): "centred",
    ("kind", "standardized"): "standardised",
    ("kind", "gcta"): "standardised",
    ("kind", "plink"): "bed",
    ("kind", "plink2"): "pgen",
    ("kind", "fixed"): "typical",
    ("interval", "prediction"): "new",
    ("interval", "confidence"): "mean",
    ("compare", "or"): "odds",
    ("compare", "rr"): "ratio",
    ("compare", "rd"): "difference",
    ("measure", "odds ratio"): "OR",
    ("measure", "risk ratio"): "RR",
    ("measure", "relative risk"): "RR",
    ("measure", "risk difference"): "RD",
    ("measure", "hedges g"): "SMD",
    ("measure", "cohens d"): "SMD",
    ("measure", "mean difference"): "MD",
    ("side", "left"): "less",
    ("side", "<"): "less",
    ("side", "right"): "greater",
    ("side", ">"): "greater",
    ("side", "two.sided"): "two-sided",
    ("side", "both"): "two-sided",
    ("adjust", "bonf"): "bonferroni",
    ("adjust", "benjamini-hochberg"): "bh",
    ("family", "logistic"): "binomial",
    ("family", "normal"): "gaussian",
    ("family", "quantitative"): "gaussian",
    ("family", "case-control"): "binomial",
    ("steps", "weak"): "metric",
    ("steps", "strong"): "scalar",
    ("order", "down"): "descending",
    ("order", "desc"): "descending",
    ("order", "up"): "ascending",
    ("order", "asc"): "ascending",
    ("method", "multiple imputation"): "mar",
    ("method", "jump to reference"): "j2r",
    ("method", "copy reference"): "cr",
    ("method", "boot"): "bootstrap",
    ("method", "flame1"): "reml",
    ("method", "flame"): "reml",
}
"""Values of arguments of other packages, and what is the same here."""


def _meant(name: str, value: str, known: Sequence[str]) -> str:
    """Say which of the known names was probably meant."""
    here = _ELSEWHERE.get((name, value.strip().lower()))
    return f"; did you mean {here!r}?" if here in known else suggestion(value, known)


def conf_level(value: Any) -> float:
    """Return a confidence level between 0 and 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ModelError(f"conf_level must be a number such as 0.95, not {_typed(value)}")
    if not 0.0 < value < 1.0:
        hint = f"; for {value:g} percent write {value / 100:g}" if 1.0 < value < 100.0 else ""
        raise ModelError(f"conf_level must lie between 0 and 1, not {value:g}{hint}")
    return float(value)


def share(name: str, value: Any) -> float:
    """Return a number between 0 and 1."""
    chosen = number(name, value)
    if not 0.0 < chosen < 1.0:
        raise ModelError(f"{name} must lie between 0 and 1, such as 0.05, not {value:g}")
    return chosen


def count(name: str, value: Any) -> int:
    """Return a whole number of at least one."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ModelError(f"{name} must be a whole number, not {_typed(value)}")
    if value < 1:
        raise ModelError(f"{name} must be at least 1, not {value}")
    if value >= MOST:
        raise ModelError(f"{name} must be below {MOST:,}, not {value:,}")
    return int(value)


def number(name: str, value: Any) -> float:
    """Return a number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ModelError(f"{name} must be a number, not {value!r}")
    return float(value)


def mapping(name: str, value: Any, example: str) -> dict[str, Any]:
    """Return a mapping from names, empty for None."""
    if value is not None and not isinstance(value, Mapping):
        raise ModelError(f"{name} must be a dict such as {example}, not {_typed(value)}")
    return dict(value or {})


def start(value: Any) -> NDArray[np.float64] | None:
    """Return starting values of theta; their number is checked against the model."""
    if value is None:
        return None
    try:
        theta = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelError(f"start must hold numbers, not {_typed(value)}") from None
    if theta.ndim != 1 or not np.isfinite(theta).all():
        raise ModelError("start must be one list of finite numbers, one a covariance parameter")
    return theta


def generator(value: Any) -> np.random.Generator:
    """Return a generator of random numbers from a seed, a generator or nothing."""
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError):
        raise ModelError(
            f"rng must be a whole number or a numpy.random.Generator, not {_typed(value)}"
        ) from None


def later_generator(value: Any) -> Callable[[], np.random.Generator]:
    """Check a seed now, and make its generator when something is drawn.

    Examples
    --------
    >>> draws = later_generator(1)
    >>> draws() is draws()
    True
    """
    made = [] if type(value) is int and value >= 0 else [generator(value)]

    def draws() -> np.random.Generator:
        if not made:
            made.append(generator(value))
        return made[0]

    return draws


def path(value: Any) -> Path:
    """Return the path of a file."""
    if isinstance(value, (str, PathLike)) and str(value):
        try:
            possible = b"\0" not in fsencode(value)
        except (TypeError, UnicodeError):
            possible = False
        if not possible:
            raise FileError(f"{shortened(str(value))} cannot be the name of a file")
        return Path(value)
    raise FileError(f"the path of a file must be text or a path, not {_typed(value)}")


def _typed(value: Any) -> str:
    """A value with its type, shortened."""
    text = repr(value)
    text = text if len(text) <= 40 else text[:37] + "..."
    return f"{type(value).__name__} ({text})" if "\n" not in text else type(value).__name__


def places(name: str, value: Any) -> int:
    """Return a number of decimals in print."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ModelError(f"{name} must be a whole number of decimals, not {_typed(value)}")
    if not 0 <= value <= 12:
        raise ModelError(f"{name} must be from 0 to 12 decimals, not {value}")
    return int(value)


def unit(
    kind: str | None, levels: Mapping[str, Any] | None
) -> tuple[str | None, Mapping[str, Any]]:
    """Check which kind of rows is meant: ``"unit"`` where one level is named."""
    if kind is not None:
        kind = choice("kind", kind, KINDS)
    levels = mapping("unit", levels, "{'ward': 'A'}")
    if levels and kind is not None:
        raise ModelError(
            "unit= asks for one level's own means, which are of no other kind: leave kind= out"
        )
    return ("unit" if levels else kind), levels


def offset(value: Any) -> float | None:
    """Check an offset that stands in place of the rows' own."""
    if value is not None and not (isinstance(value, int | float) and np.isfinite(value)):
        raise ModelError(f"offset must be a finite number, not {value!r}")
    return None if value is None else float(value)
