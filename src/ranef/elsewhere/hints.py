"""The answer to a name that does not exist: the one that does."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter, getattr_static, signature
from types import FunctionType
from typing import Any, TypeVar, cast

from ranef.elsewhere.arguments import ADVICE, ARGUMENTS
from ranef.elsewhere.attributes import ANSWERS, ATTRIBUTES
from ranef.elsewhere.formulas import FORMULA, RANDOM
from ranef.elsewhere.functions import FUNCTIONS
from ranef.errors import ArgumentError, suggestion

__all__ = [
    "Pictures",
    "answer_hint",
    "argument_hint",
    "attribute_hint",
    "explained",
    "explained_methods",
    "formula_hint",
    "function_hint",
    "module_getattr",
    "random_hint",
]

Face = TypeVar("Face")
Function = TypeVar("Function", bound=Callable[..., Any])


def _key(name: str) -> str:
    return name.lower().replace(".", "_").strip("_")


def module_getattr(module: str, known: Collection[str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a sub-package, which answers names of other packages."""

    def answer(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{module} has no attribute {name!r}")
        raise AttributeError(f"{module} has no name {name!r}{function_hint(name, known)}")

    return answer


def function_hint(name: str, known: Collection[str]) -> str:
    """Say what a function of another package is called here.

    Examples
    --------
    >>> function_hint("lmer", ["lmm"])
    "; lme4's lmer is ranef.lmm"
    >>> function_hint("emmean", ["emmeans"])
    "; did you mean 'emmeans'?"
    """
    words = FUNCTIONS.get(_key(name))
    return _nearest(name, known, FUNCTIONS) if words is None else f"; {words}"


def attribute_hint(name: str, known: Collection[str]) -> str:
    """Say what an attribute of another package's fit is called here.

    Examples
    --------
    >>> attribute_hint("fixef", [])
    '; fixed effects are fit.coef, or fit.tidy() with their errors'
    """
    words = None if _key(name) in known else ATTRIBUTES.get(_key(name))
    return _nearest(name, known, ATTRIBUTES) if words is None else f"; {words}"


def _nearest(name: str, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Answer a slip of the pen, in a name here or in one of another package."""
    own = suggestion(name, known)
    here = {_key(one) for one in known}
    close = difflib.get_close_matches(_key(name), {*here, *elsewhere}, n=1, cutoff=0.85)
    return f"; {elsewhere[close[0]]}" if close and close[0] not in here else own


def formula_hint(name: str) -> str:
    """Say how a function of another package's formula is written here.

    Examples
    --------
    >>> formula_hint("zscore")
    "; did you mean 'scale'?"
    >>> formula_hint("nothing")
    ''
    """
    words = FORMULA.get(_key(name))
    return f"; {words}" if words else ""


def answer_hint(name: str, known: Collection[str]) -> str:
    """Say what an attribute of another package's answer is called here.

    Examples
    --------
    >>> answer_hint("pvalue", ["tidy"])
    "; p values are the column 'p_value' of .tidy()"
    >>> answer_hint("tidi", ["tidy"])
    "; did you mean 'tidy'?"
    """
    words = None if _key(name) in known else ANSWERS.get(_key(name))
    return suggestion(name, known) if words is None else f"; {words}"


def random_hint(names: Collection[str]) -> str:
    """Say how random effects that a formula writes as another package does are written here.

    Examples
    --------
    >>> random_hint(["log", "Error"])
    '; for Error(): a random intercept is (1 | g), and of strata within them (1 | g/h)'
    """
    found = next((name for name in names if _key(name) in RANDOM), None)
    return "" if found is None else f"; for {found}(): {RANDOM[_key(found)]}"


def argument_hint(callee: str, name: str, known: Collection[str]) -> str:
    """Say what an argument of another package is called in this function.

    Examples
    --------
    >>> argument_hint("emmeans", "ci", ["fit", "conf_level"])
    "; did you mean 'conf_level'?"
    >>> argument_hint("lmm", "groups", ["formula", "data"])
    '; grouping factors stand in the formula: y ~ x + (1 | g)'
    """
    key = _key(name)
    if (callee, key) in ADVICE:
        return f"; {ADVICE[callee, key]}"
    here = [own for own in (key, *ARGUMENTS.get(key, ())) if own in known and own != name]
    if here:
        return f"; did you mean {here[0]!r}?"
    for own in (key, *ARGUMENTS.get(key, ())):
        for place in (callee, ""):
            if (place, own) in ADVICE and (place or _has_formula(own, known)):
                return f"; {ADVICE[place, own]}"
    return suggestion(name, known)


def _has_formula(own: str, known: Collection[str]) -> bool:
    """Tell whether advice to write it in the formula is for a function that takes one."""
    return own not in ("groups", "random", "vc_formula") or not known or "formula" in known


class Pictures:
    """Pictures of one answer: a name that is none is answered by those that there are."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = self._names()
        words = ATTRIBUTES.get(_key(name), "")
        hint = f"; {words}" if "fit.plot." in words else suggestion(name, known)
        raise AttributeError(f"there is no picture {name!r}{hint} ({', '.join(known)})")

    def __call__(self, *args: Any, **named: Any) -> Any:
        raise ArgumentError(
            f"each picture has a name: .plot.{self._names()[0]}() and the like; there are "
            f"{', '.join(self._names())}"
        )

    def _names(self) -> list[str]:
        return [own for own in dir(type(self)) if not own.startswith("_")]


def explained(function: Function, name: str | None = None) -> Function:
    """Let a function answer an argument that it does not have by what it is called here.

    Nothing is done before the call, so that it costs nothing.
    """
    callee = function.__name__ if name is None else name
    answer = _answer

    def call(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except TypeError as error:
            answer(error, callee, function, args, named)
            raise

    # With the globals of the function, by which doctest finds its examples.
    given = getattr(function, "__globals__", call.__globals__)
    own = FunctionType(call.__code__, given, function.__name__, None, call.__closure__)
    return cast(Function, wraps(function)(own))


def _answer(
    error: TypeError,
    callee: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    """Raise in words what was wrong with a call, where the call was wrong."""
    if isinstance(error, ArgumentError) or error.__traceback__ is None:
        return
    if error.__traceback__.tb_next is not None and _takes(function, args, named):
        return  # from within the function
    _refuse_unknown(callee, function, named)
    _refuse_count(callee, function, len(args), named)


def _takes(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Tell whether a function, or what its wrappers wrap, can be called so."""
    try:
        signature(function).bind(*args, **named)
    except TypeError:
        return False
    return True


def _refuse_unknown(callee: str, function: Callable[..., Any], named: dict[str, Any]) -> None:
    """Raise where an argument has a name that the function does not know."""
    own = signature(function).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in own.values()):
        return
    known = [p for p in own if p not in SELF]
    for name in named:
        if name not in known:
            hint = argument_hint(callee, name, known) or f"; it takes {', '.join(known)}"
            raise ArgumentError(f"{callee}() takes no argument {name!r}{hint}") from None


def _refuse_count(
    callee: str, function: Callable[..., Any], places: int, named: dict[str, Any]
) -> None:
    """Raise where an argument that must be given is missing, or too many have no name."""
    own = {n: p for n, p in signature(function).parameters.items() if p.kind not in VARIOUS}
    placed = [n for n, p in own.items() if p.kind != Parameter.KEYWORD_ONLY]
    needed = [n for n, p in own.items() if p.default is Parameter.empty]
    missing = [n for n in needed if n not in named and n not in placed[:places]]
    shown = [n if n in placed else f"{n}=..." for n in needed if n not in SELF]
    if missing:
        called = [
            f"; {name} is called {here!r} here"
            for name in named
            for here in ARGUMENTS.get(_key(name), ())
            if name not in own and here in missing
        ]
        raise ArgumentError(
            f"{callee}() needs {' and '.join(missing)} as well: {callee}({', '.join(shown)}, ...)"
            f"{''.join(called)}"
        ) from None
    if places > len(placed):
        first = ", ".join(n for n in placed if n not in SELF) or "nothing"
        others = ", ".join(f"{n}=" for n in own if n not in placed)
        raise ArgumentError(
            f"{callee}() takes {first} by position, and other arguments by name: {others}"
        ) from None


VARIOUS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
SELF = ("self", "cls")


def explained_methods(cls: type[Face]) -> type[Face]:
    """Let the public methods of a class answer arguments that they do not have."""
    for name in dir(cls):
        method = getattr_static(cls, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(cls, name, explained(method))
    return cls
