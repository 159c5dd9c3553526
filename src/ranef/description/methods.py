"""The paragraph of a paper's methods section that says what was done."""

from __future__ import annotations

import platform

import numpy as np

from ranef._version import __version__
from ranef.description.model import ModelDescription
from ranef.description.words import listed
from ranef.display.characters import visible
from ranef.display.numbers import count
from ranef.inference.coefficients.degrees import words_of
from ranef.tables.accounting import Accounting

__all__ = ["methods"]


def methods(description: ModelDescription, conf_level: float, df: str) -> str:
    """Say what was modelled, how it was fitted and tested, and with what.

    Parameters
    ----------
    description : ModelDescription
    conf_level : float
    df : str
        Name of the method of the degrees of freedom.
    """
    sentences = [
        *description.sentences(),
        *description.parts(),
        *_references(description.reference_levels()),
        *description.random(),
        *_rows(description.mean.accounting),
        *description.held(),
        f"Inference on coefficients rests on {words_of(df)}; intervals have level "
        f"{conf_level:.0%}.",
        description.certificate(),
        f"Computations were done with ranef {__version__} (Python {platform.python_version()}, "
        f"NumPy {np.__version__}); the model's formula was {description.mean.formula}.",
    ]
    return visible(" ".join(sentence for sentence in sentences if sentence))


def _references(levels: list[tuple[str, str]]) -> list[str]:
    if not levels:
        return []
    named = [f"{level} for {key}" for key, level in levels]
    return [f"The reference level{'s were' if len(named) > 1 else ' was'} {listed(named)}."]


def _rows(rows: Accounting) -> list[str]:
    if not rows.n_dropped:
        return []
    named = [f"{name} ({k})" for name, k in rows.missing.items() if k]
    reason = f" for missing values in {listed(named)}" if named else ""
    zero = f"{' and' if named else ' for'} weights of zero" if rows.n_zero_weight else ""
    verb = "was" if rows.n_dropped == 1 else "were"
    of = count(rows.n_rows, "row")
    return [f"Of {of}, {rows.n_dropped:,} {verb} left out{reason}{zero}."]
