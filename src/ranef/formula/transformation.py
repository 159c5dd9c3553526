"""What a formula did to its response, and which of it can be carried back."""

from __future__ import annotations

from ranef.errors import ModelError
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Call

__all__ = ["response_link"]

CARRIED_BACK = ("log", "sqrt")


def response_link(response: str) -> str:
    """Return the link that a linear model's response was put through."""
    node = parse_expression(response).bare
    if not isinstance(node, Call):
        return "identity"
    name = node.function.removeprefix("np.")
    if name in CARRIED_BACK and len(node.arguments) == 1 and not node.keywords:
        return name
    raise ModelError(
        f"type='response' carries back log(y) and sqrt(y), not {response}; leave type out for "
        "means of the response as it was fitted"
    )
