"""Scikit-learn's habits of estimators: parameters by name, read from the constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from ranef import arguments

__all__ = ["parameters_of", "set_parameters", "shown_parameters", "tags"]

T = TypeVar("T")


def _signature(model: Any) -> Mapping[str, inspect.Parameter]:
    every = inspect.signature(type(model).__init__).parameters
    return {name: one for name, one in every.items() if name != "self"}


def parameters_of(model: Any) -> dict[str, Any]:
    """Return the parameters of a model by name."""
    return {name: getattr(model, name) for name in _signature(model)}


def set_parameters(model: T, params: Mapping[str, Any]) -> T:
    """Set parameters by name."""
    known = tuple(_signature(model))
    for name, value in params.items():
        setattr(model, arguments.choice("parameter", name, known), value)
    return model


def shown_parameters(model: Any) -> str:
    """The call that makes such a model, without what is usual."""
    given = []
    for name, one in _signature(model).items():
        value = getattr(model, name)
        if one.default is inspect.Parameter.empty:
            given.append(repr(value))
        elif value is not one.default and not _equal(value, one.default):
            given.append(f"{name}={value!r}")
    return f"{type(model).__name__}({', '.join(given)})"


def _equal(value: Any, usual: Any) -> bool:
    return isinstance(value, str | int | float | bool) and bool(value == usual)


def tags() -> Any:
    """What scikit-learn asks of every estimator."""
    from sklearn.utils import InputTags, Tags, TargetTags

    return Tags(
        estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=None,
        classifier_tags=None, regressor_tags=None, input_tags=InputTags(),
    )  # fmt: skip
