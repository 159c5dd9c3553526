"""The random part of a formula as blocks that can be made smaller, one term at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ranef.formula.model import Bar, Model, Terms, expand_dot, model_with_dot, response_of

__all__ = ["Block", "Parts", "parts_of"]


@dataclass(frozen=True)
class Block:
    """Random effects of one grouping factor with one covariance matrix.

    Attributes
    ----------
    group : str
        As in the formula.
    intercept : bool
    terms : tuple of str
        In a canonical order, ``"a:b"`` after ``"a"`` and ``"b"``.
    correlated : bool
        Unstructured (True) or diagonal.
    fixed : str or None
        The bar as written, where it has another structure: it stays as it is.
    """

    group: str
    intercept: bool
    terms: tuple[str, ...]
    correlated: bool = True
    fixed: str | None = None

    @property
    def size(self) -> int:
        """Number of terms, the intercept among them."""
        return len(self.terms) + self.intercept

    @property
    def text(self) -> str:
        """As a formula has it."""
        if self.fixed is not None:
            return self.fixed
        inside = " + ".join(["1" if self.intercept else "0", *self.terms])
        if self.correlated or self.size == 1:
            return f"({inside} | {self.group})"
        return f"diag({inside} | {self.group})"

    def removable(self) -> tuple[str | None, ...]:
        """Terms that no other term contains, None for the intercept where nothing else is left."""
        if self.fixed is not None:
            return ()
        found: list[str | None] = [t for t in self.terms if not contained(t, self.terms)]
        if not self.terms and self.intercept:
            found.append(None)
        return tuple(found)

    def without(self, term: str | None) -> Block | None:
        """The block without a term; None where nothing is left."""
        if term is None:
            return None
        left = replace(self, terms=tuple(t for t in self.terms if t != term))
        return left if left.size else None


@dataclass(frozen=True)
class Parts:
    """A formula in parts.

    Attributes
    ----------
    response : str
    intercept : bool
    fixed : tuple of str
        Terms of the fixed effects.
    offsets : tuple of str
    blocks : tuple of Block
        In a canonical order.
    """

    response: str
    intercept: bool
    fixed: tuple[str, ...]
    offsets: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def formula(self) -> str:
        """The whole formula."""
        fixed = ["1" if self.intercept else "0", *self.fixed, *self.offsets]
        return f"{self.response} ~ " + " + ".join([*fixed, *(b.text for b in self.blocks)])

    def removable(self, keep: Iterable[str] = ()) -> tuple[str, ...]:
        """Fixed terms that no other contains, but those to keep."""
        kept = set(keep)
        return tuple(t for t in self.fixed if t not in kept and not contained(t, self.fixed))

    def without(self, term: str) -> Parts:
        """The formula without a fixed term."""
        return replace(self, fixed=tuple(t for t in self.fixed if t != term))

    def with_block(self, place: int, block: Block | None) -> Parts:
        """The formula with another block in a place; None takes it out."""
        blocks = list(self.blocks)
        blocks[place : place + 1] = [] if block is None else [block]
        return replace(self, blocks=tuple(blocks))


def contained(term: str, terms: Iterable[str]) -> bool:
    """Tell whether another term is an interaction of this one's variables and more."""
    own = set(term.split(":"))
    return any(own < set(other.split(":")) for other in terms)


def parts_of(formula: str, columns: Sequence[str]) -> Parts:
    """Take a formula apart; terms and blocks in an order that does not depend on its own."""
    model: Model = model_with_dot(formula, expand_dot(formula, columns, ()))
    blocks = [block for bar in model.bars for block in _blocks(bar)]
    return Parts(
        response_of(model).printed,
        model.fixed.intercept,
        _terms(model.fixed),
        tuple(node.printed for node in model.offsets),
        tuple(sorted(blocks, key=lambda b: (b.group, b.text))),
    )


def _terms(terms: Terms) -> tuple[str, ...]:
    named = [":".join(sorted(terms.keys[i] for i in term)) for term in terms.terms]
    return tuple(sorted(named, key=lambda t: (t.count(":"), t)))


def _blocks(bar: Bar) -> list[Block]:
    groups = [grouping.text for grouping in bar.groups]
    if bar.structure not in ("us", "diag"):
        return [Block(group, False, (), fixed=_as_written(bar, group)) for group in groups]
    correlated = bar.structure == "us" and not bar.independent
    return [Block(group, bar.left.intercept, _terms(bar.left), correlated) for group in groups]


def _as_written(bar: Bar, group: str) -> str:
    more = [bar.text + " | " + group]
    if bar.rank is not None:
        more.append(f"d = {bar.rank}")
    if bar.kernel is not None:
        more.append(f"inverse = {bar.kernel}" if bar.inverse else bar.kernel)
    return f"{bar.structure}({', '.join(more)})"
