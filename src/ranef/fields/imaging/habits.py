"""Scikit-learn's habits of estimators: parameters by name, read from the constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

from ranef import arguments
from ranef.elsewhere import explained, explained_methods

__all__ = ["Parametrised"]


def _signature(model: Any) -> Mapping[str, inspect.Parameter]:
    every = inspect.signature(type(model).__init__).parameters
    return {name: one for name, one in every.items() if name != "self"}


class Parametrised:
    """An estimator whose parameters are the arguments of its constructor.

    Wrong names of arguments are answered by what they are called here.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__init__ = explained(cls.__init__, cls.__name__)  # type: ignore[method-assign]
        explained_methods(cls)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in _signature(self)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; a fit stays that of the old ones."""
        known = tuple(_signature(self))
        for name, value in params.items():
            setattr(self, arguments.choice("parameter", name, known), value)
        return self

    def __repr__(self) -> str:
        """Return the call that makes such an estimator, without what is usual."""
        given = []
        for name, one in _signature(self).items():
            value = getattr(self, name)
            if one.default is inspect.Parameter.empty:
                given.append(repr(value))
            elif value is not one.default and not _equal(value, one.default):
                given.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=None,
            classifier_tags=None, regressor_tags=None, input_tags=InputTags(),
        )  # fmt: skip


def _equal(value: Any, usual: Any) -> bool:
    return isinstance(value, str | int | float | bool) and bool(value == usual)
