"""The functions that a formula knows.

`ELEMENTWISE` act on each number alone. `FUNCTIONS` take the call and the
scope: they read their own arguments, and those that learn from the data
(means, knots, levels) leave what they learned in the scope's state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design import bases
from ranef.design.arguments import Arguments, as_numbers, read_categories, same_as
from ranef.design.contrasts import Contrast, read_contrast_node
from ranef.design.group_functions import between, within
from ranef.design.lags import lag
from ranef.design.scope import Scope
from ranef.design.state import Polynomial, Scaled, Spline
from ranef.design.values import Categories, Numbers, Value, match_levels
from ranef.errors import FormulaError, LevelError, RanefError
from ranef.formula.labels import level_text
from ranef.formula.syntax import Call, Name

__all__ = ["ELEMENTWISE", "FUNCTIONS", "call_user"]

Floats = NDArray[np.float64]
DAY = 86400.0

ELEMENTWISE: dict[str, tuple[Callable[..., Any], int]] = {
    "exp": (np.exp, 1),
    "log2": (np.log2, 1),
    "log10": (np.log10, 1),
    "log1p": (np.log1p, 1),
    "expm1": (np.expm1, 1),
    "sqrt": (np.sqrt, 1),
    "cbrt": (np.cbrt, 1),
    "abs": (np.abs, 1),
    "sign": (np.sign, 1),
    "floor": (np.floor, 1),
    "ceiling": (np.ceil, 1),
    "trunc": (np.trunc, 1),
    "sin": (np.sin, 1),
    "cos": (np.cos, 1),
    "tan": (np.tan, 1),
    "asin": (np.arcsin, 1),
    "acos": (np.arccos, 1),
    "atan": (np.arctan, 1),
    "sinh": (np.sinh, 1),
    "cosh": (np.cosh, 1),
    "tanh": (np.tanh, 1),
    "asinh": (np.arcsinh, 1),
    "atanh": (np.arctanh, 1),
    "logit": (lambda p: np.log(p) - np.log1p(-p), 1),
    "square": (np.square, 1),
    "power": (np.power, 2),
    "pmin": (np.minimum, 2),
    "pmax": (np.maximum, 2),
}


def call_user(node: Call, scope: Scope) -> Value:
    """Call a function that the user handed over, with arrays."""
    arguments = [_handed(scope.evaluate(argument)) for argument in node.arguments]
    keywords = {key: _handed(scope.evaluate(value)) for key, value in node.keywords}
    try:
        found = np.asarray(scope.functions[node.function](*arguments, **keywords))
    except RanefError:
        raise
    except Exception as error:
        raise FormulaError(f"{node.printed}: the function failed: {error}") from error
    if found.shape[:1] != (scope.n_rows,) or found.ndim > 2:
        raise FormulaError(
            f"{node.printed} returned shape {found.shape}; "
            f"it must return one value for each of {scope.n_rows} rows"
        )
    if found.dtype.kind in "biuf":
        suffixes = _counted(found.shape[1]) if found.ndim == 2 else ("",)
        return Numbers(found.astype(np.float64), suffixes, logical=found.dtype.kind == "b")
    from ranef.tables import Table

    return Categories(*Table.of({node.function: found}).codes(node.function))


def _handed(value: Value) -> Any:
    if isinstance(value, Numbers):
        return value.values.copy()
    if isinstance(value, Categories):
        levels = np.array([*value.levels, None], dtype=object)
        return levels[value.codes]
    return value


def _counted(count: int) -> tuple[str, ...]:
    return ("",) if count == 1 else tuple(str(i + 1) for i in range(count))


def _identity(node: Call, scope: Scope) -> Value:
    return scope.evaluate(Arguments(node, ("x",)).node_of("x"))


def _combine(node: Call, scope: Scope) -> Value:
    """``c(1, 2, 3)``: a list of constants."""
    if node.keywords:
        raise FormulaError(f"{node.printed}: c() takes no names")
    out: list[Any] = []
    for argument in node.arguments:
        value = scope.evaluate(argument)
        if isinstance(value, (Numbers, Categories)):
            raise FormulaError(f"{node.printed}: c() takes constants, not columns")
        out.extend(value if isinstance(value, tuple) else (value,))
    return tuple(out)


def _log(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "base"))
    values = as_numbers(scope.evaluate(given.node_of("x")), node)
    base = given.constant("base", scope)
    found = np.log(values)
    if base is not None:
        found = found / np.log(as_numbers(base, node))
    return Numbers(found) if np.ndim(found) else float(found)


def _round(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "digits"))
    return Numbers(np.round(given.rows("x", scope), given.whole("digits", scope, 0, -300, 300)))


def _choose(node: Call, scope: Scope) -> Value:
    """``ifelse(test, yes, no)``."""
    given = Arguments(node, ("test", "yes", "no"))
    test = given.rows("test", scope)
    yes = as_numbers(scope.evaluate(given.node_of("yes")), node)
    no = as_numbers(scope.evaluate(given.node_of("no")), node)
    return Numbers(np.where(np.isnan(test), np.nan, np.where(test != 0, yes, no)))


def _scale(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "center", "scale") if node.function == "scale" else ("x",))
    x = given.rows("x", scope)
    key = node.printed
    if scope.fitting:
        center = given.constant("center", scope, True)
        size = given.constant("scale", scope, node.function == "scale")
        if not (isinstance(center, (bool, float)) and isinstance(size, (bool, float))):
            raise given.error("takes TRUE, FALSE or a number as 'center' and 'scale'")
        scope.state[key] = bases.learn_scale(x, key, center, size)
    state = scope.remembered(key, Scaled)
    return Numbers((x - state.center) / state.scale)


def _poly(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "degree", "raw"))
    x = given.rows("x", scope)
    degree = given.whole("degree", scope, 1, 1, 50)
    key = node.printed
    if given.flag("raw", scope, False):
        return _basis(bases.raw_polynomial(x, degree))
    if scope.fitting:
        scope.state[key], basis = bases.learn_polynomial(x, degree, key)
        return _basis(basis)
    return _basis(bases.polynomial(x, scope.remembered(key, Polynomial)))


def _spline(node: Call, scope: Scope) -> Value:
    natural = node.function == "ns"
    names: tuple[str, ...] = ("x", "df", "knots", "intercept", "Boundary.knots")
    if not natural:
        names = ("x", "df", "knots", "degree", "intercept", "Boundary.knots")
    given = Arguments(node, names)
    x = given.rows("x", scope)
    key = node.printed
    if scope.fitting:
        scope.state[key] = _learn_spline(given, x, key, natural, scope)
    state = scope.remembered(key, Spline)
    return _basis(bases.natural_spline(x, state) if natural else bases.b_spline(x, state))


def _learn_spline(given: Arguments, x: Floats, key: str, natural: bool, scope: Scope) -> Spline:
    boundary = given.numbers("Boundary.knots", scope)
    if boundary is not None and len(boundary) != 2:
        raise given.error("takes two boundary knots: c(0, 10)")
    return bases.learn_spline(
        x,
        key,
        df=given.whole("df", scope, None, 1, 500),
        knots=given.numbers("knots", scope),
        boundary=boundary,
        degree=3 if natural else given.whole("degree", scope, 3, 1, 20),
        intercept=given.flag("intercept", scope, False),
        natural=natural,
    )


def _basis(values: Floats) -> Numbers:
    return Numbers(values, _counted(values.shape[1]))


def _factor(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "levels"))
    value = read_categories(given.node_of("x"), given.node, scope)
    levels = given.constant("levels", scope)
    if levels is None:
        return value
    wanted = levels if isinstance(levels, tuple) else (levels,)
    found = [next((v for v in value.levels if same_as(v, w)), w) for w in wanted]
    if len({level_text(level) for level in found}) < len(found):
        raise given.error("is given a level twice")
    return Categories(match_levels(value, found)[0], found)


def _contrasted(node: Call, scope: Scope) -> Value:
    """``C(g, contr.sum)``."""
    given = Arguments(node, ("object", "contr", "base", "levels"))
    value = read_categories(given.node_of("object"), given.node, scope)
    contrast = value.contrast
    if "contr" in given.found:
        contrast = read_contrast_node(given.found["contr"])
    base = given.whole("base", scope, None, 1, 10**6)
    if base is not None:
        contrast = Contrast("treatment", base=base)
    return Categories(value.codes, value.levels, value.complete, contrast)


def _relevel(node: Call, scope: Scope) -> Value:
    given = Arguments(node, ("x", "ref"))
    value = read_categories(given.node_of("x"), given.node, scope)
    wanted = given.constant("ref", scope)
    place = next((i for i, level in enumerate(value.levels) if same_as(level, wanted)), None)
    if place is None:
        if scope.fitting:
            raise LevelError(f"{node.printed}: {wanted!r} is no level of {_printed(given)}")
        return value
    order = [place, *(i for i in range(len(value.levels)) if i != place)]
    levels = [value.levels[i] for i in order]
    return Categories(match_levels(value, levels)[0], levels, value.complete, value.contrast)


def _dummy(node: Call, scope: Scope) -> Value:
    """``dummy(f, "b")``: one where f is b, else zero; a column for each of several levels."""
    given = Arguments(node, ("f", "levels"))
    value = read_categories(given.node_of("f"), given.node, scope)
    if "levels" not in given.found:
        raise given.error("needs the level to mark: dummy(f, 'b'), or c('b', 'c') for several")
    wanted = given.constant("levels", scope)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    places = []
    for level in wanted:
        place = next((i for i, v in enumerate(value.levels) if same_as(v, level)), None)
        if place is None and scope.fitting:
            raise LevelError(
                f"{node.printed}: {level!r} is no level of {given.node_of('f').printed}"
            )
        places.append(-2 if place is None else place)
    marks = (value.codes[:, None] == np.array(places)).astype(np.float64)
    marks[value.codes < 0] = np.nan
    return Numbers(marks, ("",) if len(wanted) == 1 else tuple(map(level_text, wanted)))


def _printed(given: Arguments) -> str:
    return given.node_of("x").printed


def _interaction(node: Call, scope: Scope) -> Value:
    """``interaction(a, b)``: a category for each pair that occurs, `a` running fastest."""
    from ranef.design.grouping import cross

    if node.keywords or not node.arguments:
        raise FormulaError(f"{node.printed}: interaction() takes columns")
    parts = [read_categories(argument, node, scope) for argument in node.arguments]
    crossed = cross(parts[::-1])
    return Categories(crossed.codes, crossed.labels(".", backwards=True), complete=True)


def _as_numeric(node: Call, scope: Scope) -> Value:
    """Numbers; of times the seconds, of dates the days since 1970, as in the fit."""
    given = Arguments(node, ("x",))
    inner = given.node_of("x")
    if isinstance(inner, Name) and inner.value in scope.table:
        if scope.table.kind(inner.value) in ("datetime", "duration"):
            if scope.fitting and scope.table.holds_dates(inner.value):
                scope.state[node.printed] = Scaled(0.0, DAY)
            unit = scope.state.get(node.printed, Scaled(0.0, 1.0))
            assert isinstance(unit, Scaled)
            return Numbers(scope.table.seconds(inner.value) / unit.scale)
        return Numbers(scope.table.numeric(inner.value))
    return Numbers(given.rows("x", scope))


FUNCTIONS: dict[str, Callable[[Call, Any], Value]] = {
    "I": _identity,
    "c": _combine,
    "log": _log,
    "round": _round,
    "ifelse": _choose,
    "scale": _scale,
    "center": _scale,
    "poly": _poly,
    "bs": _spline,
    "ns": _spline,
    "factor": _factor,
    "as.factor": _factor,
    "ordered": _factor,
    "C": _contrasted,
    "relevel": _relevel,
    "dummy": _dummy,
    "interaction": _interaction,
    "as.numeric": _as_numeric,
    "lag": lag,
    "between": between,
    "within": within,
}
