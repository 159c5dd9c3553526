"""What a formula did to its response: read from the left side as steps that can be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.state import Scaled
from ranef.errors import ModelError
from ranef.families.transformations import (
    ELEMENTARY,
    NEGATIVE,
    POSITIVE,
    Step,
    Transformation,
    affine,
    composed,
    fraction,
    power,
)
from ranef.formula.parser import PREFIXES, parse_expression
from ranef.formula.syntax import Binary, Call, Name, Node, Number, Paren, Sum, Unary

__all__ = ["response_transformation"]

Floats = NDArray[np.float64]

CONSTANTS = {"pi": np.pi, "TRUE": 1.0, "FALSE": 0.0}
ROOTS = {"sqrt": 0.5, "square": 2.0}


def response_transformation(
    response: str, state: Mapping[str, Any], values: Callable[[str], Floats]
) -> Transformation | None:
    """Read what was done to a response; None where nothing was.

    Parameters
    ----------
    response : str
        The left side of the formula.
    state : mapping
        What its functions learned from the data (``scale(y)``).
    values : callable
        The values of a column in the rows of the model: a square is undone on the side of
        zero where they are.

    Raises
    ------
    ModelError
        Where what was done cannot be undone, and why.

    Examples
    --------
    >>> import numpy as np
    >>> found = response_transformation("100 * log10(y + 1)", {}, lambda name: np.array([1.0]))
    >>> found.inverse(np.array([200.0])).round(6).tolist()
    [99.0]
    >>> found.logged
    'y + 1'
    """
    node = parse_expression(response).bare
    if isinstance(node, Name):
        return None
    reader = _Reader(response, state, values)
    chain = reader.chain(node)
    if chain is None:
        raise reader.refusal("it uses no column")
    logged = chain.logged
    return composed(chain.steps, response, chain.variable, logged)


@dataclass(frozen=True)
class _Chain:
    """Steps from a column outward, and what the last logarithm is of."""

    variable: str
    steps: tuple[Step, ...]
    logged: str | None = None

    def then(self, *steps: Step) -> _Chain:
        """Further steps; differences stay those of logarithms if they are affine."""
        linear = all(step.slope is not None for step in steps)
        return _Chain(self.variable, (*self.steps, *steps), self.logged if linear else None)

    @property
    def line(self) -> tuple[float, float] | None:
        """Slope and shift, where the chain is a straight line in its column."""
        slope, shift = 1.0, 0.0
        for step in self.steps:
            if step.slope is None or step.shift is None:
                return None
            slope, shift = step.slope * slope, step.slope * shift + step.shift
        return slope, shift


class _Reader:
    """Reads the nodes of a response, from the column outward."""

    def __init__(
        self, response: str, state: Mapping[str, Any], values: Callable[[str], Floats]
    ) -> None:
        self.response, self.state, self.values = response, state, values

    def refusal(self, why: str) -> ModelError:
        return ModelError(
            f"type='response' cannot carry back {self.response}: {why}; leave type out for means "
            "of the response as it was fitted"
        )

    def chain(self, node: Node) -> _Chain | None:
        """Steps of a node; None where it uses no column and is a constant."""
        node = node.bare
        if isinstance(node, Number):
            return None
        if isinstance(node, Name):
            return None if node.value in CONSTANTS else _Chain(node.value, ())
        if isinstance(node, Unary) and node.operator in "+-":
            inner = self.chain(node.operand)
            sign = -1.0 if node.operator == "-" else 1.0
            return None if inner is None else inner.then(affine(sign, 0.0))
        if isinstance(node, Sum):
            return self._sum(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Call):
            return self._call(node)
        raise self.refusal(f"{node.printed} cannot be undone")

    # --- constants

    def constant(self, node: Node) -> float:
        """The value of a node without a column."""
        node = node.bare
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Name):
            return CONSTANTS[node.value]
        if isinstance(node, Unary) and node.operator in "+-":
            inner = self.constant(node.operand)
            return -inner if node.operator == "-" else inner
        if isinstance(node, Sum):
            parts = zip(node.signs, node.parts, strict=True)
            return sum(-self.constant(p) if s == "-" else self.constant(p) for s, p in parts)
        if isinstance(node, Binary) and node.operator in OPERATIONS:
            a, b = self.constant(node.left), self.constant(node.right)
            return float(OPERATIONS[node.operator](a, b))
        if isinstance(node, Call) and len(node.arguments) == 1 and not node.keywords:
            x, name = np.array(self.constant(node.arguments[0])), _bare(node.function)
            if name == "I":
                return float(x)
            if name in ROOTS:
                return float(x ** ROOTS[name])
            if name in ELEMENTARY:
                for step in ELEMENTARY[name]():
                    x = np.asarray(step.forward(x))
                return float(x)
        raise self.refusal(f"{node.printed} is no number that can be undone")

    # --- sums, products, powers

    def _sum(self, node: Sum) -> _Chain | None:
        shift, moving = 0.0, []
        for sign, part in zip(node.signs, node.parts, strict=True):
            factor = -1.0 if sign == "-" else 1.0
            inner = self.chain(part)
            if inner is None:
                shift += factor * self.constant(part)
            else:
                moving.append((factor, inner, part))
        if not moving:
            return None
        if len(moving) > 1:
            return self._joined(node, moving, shift)
        factor, inner, _ = moving[0]
        return inner.then(affine(factor, shift))

    def _joined(self, node: Sum, moving: list[tuple[float, _Chain, Node]], shift: float) -> _Chain:
        """A sum of straight lines, or the difference of two logarithms of them."""
        self._one_column([chain for _, chain, _ in moving], node)
        lines = [chain.line for _, chain, _ in moving]
        if all(line is not None for line in lines):
            slope = sum(f * line[0] for (f, *_), line in zip(moving, lines, strict=True) if line)
            total = shift + sum(
                f * line[1] for (f, *_), line in zip(moving, lines, strict=True) if line
            )
            if slope == 0:
                raise self.refusal(f"{node.printed} is a constant")
            return _Chain(moving[0][1].variable, (affine(slope, total),))
        logs = [part.bare for *_, part in moving]
        plain = [n for n in logs if isinstance(n, Call) and _bare(n.function) == "log"]
        if len(moving) == 2 and len(plain) == 2 and {f for f, *_ in moving} == {1.0, -1.0}:
            up = next(n for (f, *_), n in zip(moving, plain, strict=True) if f > 0)
            down = next(n for (f, *_), n in zip(moving, plain, strict=True) if f < 0)
            if len(up.arguments) == len(down.arguments) == 1:
                ratio = Binary("/", _apart(up.arguments[0]), _apart(down.arguments[0]))
                inner = self._binary(ratio)
                assert inner is not None
                logged = _Chain(inner.variable, (*inner.steps, *ELEMENTARY["log"]()), ratio.printed)
                return logged.then(affine(1.0, shift)) if shift else logged
        raise self.refusal(f"the column stands in several places of {node.printed}")

    def _binary(self, node: Binary) -> _Chain | None:
        left, right = self.chain(node.left), self.chain(node.right)
        if left is None and right is None:
            return None
        if node.operator not in OPERATIONS:
            raise self.refusal(f"{node.printed} cannot be undone")
        if left is not None and right is not None:
            return self._fraction(node, left, right)
        if right is None:
            assert left is not None
            by = self.constant(node.right)
            if node.operator == "^":
                return self._power(left, by, node)
            if by == 0:
                raise self.refusal(f"{node.printed} is a constant")
            return left.then(affine(by if node.operator == "*" else 1 / by, 0.0))
        by = self.constant(node.left)
        if node.operator == "^":
            if by <= 0 or by == 1:
                raise self.refusal(f"{node.printed} cannot be undone")
            return right.then(affine(float(np.log(by)), 0.0), *ELEMENTARY["exp"]())
        if by == 0:
            raise self.refusal(f"{node.printed} is a constant")
        if node.operator == "*":
            return right.then(affine(by, 0.0))
        return self._power(right, -1.0, node).then(affine(by, 0.0))

    def _fraction(self, node: Binary, top: _Chain, bottom: _Chain) -> _Chain:
        """A ratio of two straight lines in one column, such as the odds y / (1 - y)."""
        self._one_column([top, bottom], node)
        a, c = top.line, bottom.line
        if node.operator != "/" or a is None or c is None or a[0] * c[1] == a[1] * c[0]:
            raise self.refusal(f"the column stands in several places of {node.printed}")
        pole, values = -c[1] / c[0], self.values(top.variable)
        if (values < pole).all():
            domain = (-np.inf, pole)
        elif (values > pole).all():
            domain = (pole, np.inf)
        else:
            raise self.refusal(f"its values lie on both sides of {pole:g}, where it has a pole")
        return _Chain(top.variable, (fraction(a[0], a[1], c[0], c[1], domain),))

    def _power(self, chain: _Chain, p: float, node: Node) -> _Chain:
        if p == 0:
            raise self.refusal(f"{node.printed} is a constant")
        if p == 1:
            return chain
        whole = float(p).is_integer()
        if whole and p > 0 and p % 2 == 1:
            return chain.then(power(p))
        negative = whole and self._side(chain, node) is NEGATIVE
        return chain.then(power(p, negative))

    def _side(self, chain: _Chain, node: Node) -> tuple[float, float]:
        """The side of zero on which all values are that a step is given."""
        x = self.values(chain.variable)
        for step in chain.steps:
            x = step.forward(x)
        if (x >= 0).all():
            return POSITIVE
        if (x <= 0).all():
            return NEGATIVE
        raise self.refusal(
            f"there are values on both sides of zero, which {node.printed} does not tell apart"
            if isinstance(node, Call | Binary) and not _is_inverse(node)
            else "there are values on both sides of zero, between which it is not monotone"
        )

    def _one_column(self, chains: list[_Chain], node: Node) -> None:
        names = list(dict.fromkeys(chain.variable for chain in chains))
        if len(names) > 1:
            raise self.refusal(f"{node.printed} uses {len(names)} columns, {', '.join(names)}")

    # --- functions

    def _call(self, node: Call) -> _Chain | None:
        name = _bare(node.function)
        found = [self.chain(argument) for argument in node.arguments]
        found += [self.chain(value) for _, value in node.keywords]
        moving = [chain for chain in found if chain is not None]
        if not moving:
            return None
        self._one_column(moving, node)
        if len(moving) > 1 or not found or found[0] is None:
            raise self.refusal(f"the column stands in several places of {node.printed}")
        inner = found[0]
        if name in ("scale", "center"):
            return self._scaled(node, inner)
        if name == "log":
            return self._log(node, inner)
        if name == "power" and len(node.arguments) == 2:
            return self._power(inner, self.constant(node.arguments[1]), node)
        if len(found) != 1:
            raise self.refusal(f"{node.printed} cannot be undone")
        if name in ("I", "as.numeric"):
            return inner
        if name in ROOTS:
            return self._power(inner, ROOTS[name], node)
        if name == "abs":
            return inner.then(affine(-1.0 if self._side(inner, node) is NEGATIVE else 1.0, 0.0))
        if name not in ELEMENTARY:
            raise self.refusal(f"{node.function}() cannot be undone")
        chain = inner.then(*ELEMENTARY[name]())
        if not name.startswith("log"):
            return chain
        logged = node.arguments[0].printed
        odds = f"{_apart(node.arguments[0].bare).printed}/(1 - {logged})"
        names = {"log1p": f"{logged} + 1", "logit": odds}
        return _Chain(chain.variable, chain.steps, names.get(name, logged))

    def _log(self, node: Call, inner: _Chain) -> _Chain:
        """``log(y)``, ``log(y, 10)``, ``log(y, base = 2)``."""
        bases = [*node.arguments[1:], *(v for key, v in node.keywords if key == "base")]
        steps = [*ELEMENTARY["log"]()]
        if bases:
            steps.append(affine(1 / float(np.log(self.constant(bases[0]))), 0.0))
        return _Chain(inner.variable, (*inner.steps, *steps), node.arguments[0].bare.printed)

    def _scaled(self, node: Call, inner: _Chain) -> _Chain:
        learned = self.state.get(node.printed)
        if not isinstance(learned, Scaled):
            raise self.refusal(f"the model does not hold what {node.printed} learned")
        return inner.then(affine(1 / learned.scale, -learned.center / learned.scale))


OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a**b,
}


def _bare(function: str) -> str:
    return function.rpartition(".")[2] if function.startswith(PREFIXES) else function


def _apart(node: Node) -> Node:
    """A node as it stands in a ratio."""
    return Paren(node) if isinstance(node, Sum | Binary) else node


def _is_inverse(node: Node) -> bool:
    return isinstance(node, Binary) and node.operator == "/"
