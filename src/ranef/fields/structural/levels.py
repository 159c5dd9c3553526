"""The text of a two-level model with loadings that are equal across its levels."""

from __future__ import annotations

from collections.abc import Sequence

from ranef.errors import ModelError
from ranef.fields.structural.syntax import Block, read_syntax

__all__ = ["tied_across_levels"]


def tied_across_levels(model: str, step: str) -> str:
    """Return the model with equal loadings (metric), and no residuals between (strict)."""
    syntax = read_syntax(model)
    within, between = _blocks(syntax.blocks)
    if step == "configural":
        return model
    first, second = _factors(within), _factors(between)
    if len(first) != len(second):
        raise ModelError(
            f"level 1 has {len(first)} factors and level 2 {len(second)}: loadings can be equal "
            "across levels where both have the same"
        )
    lines: list[str] = []
    for number, (a, b) in enumerate(zip(first, second, strict=True), 1):
        own, other = first[a], second[b]
        if own != other:
            raise ModelError(
                f"{a!r} within and {b!r} between have different indicators, so their loadings "
                "cannot be equal"
            )
        names = [f"tied{number}_{k}" for k in range(len(own))]
        for level, factor in ((1, a), (2, b)):
            terms = [
                f"{'1' if k == 0 else name}*{_quoted(item)}"
                for k, (name, item) in enumerate(zip(names, own, strict=True))
            ]
            lines.append(f"level: {level}\n{_quoted(factor)} =~ {' + '.join(terms)}")
        variances = [f"var{number}w", f"var{number}b"]
        lines.append(f"level: 1\n{_quoted(a)} ~~ NA*{_quoted(a)} + {variances[0]}*{_quoted(a)}")
        lines.append(f"level: 2\n{_quoted(b)} ~~ NA*{_quoted(b)} + {variances[1]}*{_quoted(b)}")
    if step == "strict":
        items = dict.fromkeys(item for own in second.values() for item in own)
        lines += [f"level: 2\n{_quoted(item)} ~~ 0*{_quoted(item)}" for item in items]
    defined = [
        f"icc_{k} := var{k}b/(var{k}w + var{k}b)" for k in range(1, len(first) + 1)
    ] if step == "strict" else []  # fmt: skip
    return "\n".join([model, *lines, *defined])


def _blocks(blocks: Sequence[Block]) -> tuple[Block, Block]:
    named = {b.level: b for b in blocks if b.level is not None and b.group is None}
    if len(named) != 2:
        raise ModelError("invariance across levels is of a model with 'level: 1' and 'level: 2'")
    first, second = list(named.values())
    words = {"1": 1, "within": 1, "2": 2, "between": 2}
    if words.get(str(first.level).lower(), 1) > words.get(str(second.level).lower(), 2):
        first, second = second, first
    return first, second


def _factors(block: Block) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for s in block.statements:
        if s.op == "=~":
            found.setdefault(s.lhs, []).append(s.rhs)
    return found


def _quoted(name: str) -> str:
    return name if name.replace("_", "a").replace(".", "a").isalnum() else f"`{name}`"
