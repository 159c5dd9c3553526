"""Several fits side by side: the fits, their names, and each model in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import Any

from ranef.errors import ModelError

__all__ = ["family_words", "gathered", "model_words"]


def gathered(fits: Any, others: Sequence[Any], question: str) -> tuple[list[Any], list[str]]:
    """Return the fits given one by one, as a list, or as a dict of names, and their names."""
    if isinstance(fits, Mapping):
        if others:
            raise ModelError(f"{question} takes one dict of fits, or fits one after the other")
        named = {str(name): fit for name, fit in fits.items()}
    else:
        several = isinstance(fits, (list, tuple, ValuesView, Iterator))
        given = [*fits, *others] if several else [fits, *others]
        named = {f"fit {i}": fit for i, fit in enumerate(given, 1)}
    if not named:
        raise ModelError(f"{question} takes at least one fit")
    return list(named.values()), list(named)


def family_words(fit: Any) -> str:
    """``"nbinom2 (log)"``; nothing for the normal distribution with its own link."""
    family = fit.family
    if (family.name, family.link) == ("gaussian", "identity"):
        return ""
    return f"{family.name} ({family.link})"


def model_words(fit: Any) -> str:
    """Formula, family, the other parts of the model, and the structure of its residuals."""
    said = [fit.formula, family_words(fit)]
    said += [f"{name} {part.formula}" for name, part in fit.parts.items() if name != "conditional"]
    residual = fit.parts["conditional"].residual
    if residual is not None:
        said.append(f"residuals {residual.label or residual.dispersion}")
    return ", ".join(filter(None, said))
