"""Work that a client does: a Dask client, or any executor with ``submit``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ranef.errors import ModelError

__all__ = ["answers_of", "check_client"]

S = TypeVar("S")
Item = TypeVar("Item")

WAITING = 16
"""Pieces that are on their way at a time."""


def check_client(client: Any) -> None:
    """Refuse what cannot be handed work."""
    if client is not None and not hasattr(client, "submit"):
        raise ModelError(
            "client must have submit(), as a Dask client or an executor does; "
            f"{type(client).__name__} has not"
        )


def answers_of(
    client: Any,
    function: Callable[..., S],
    items: Iterable[tuple[Item, Any, tuple[Any, ...]]],
) -> Iterator[tuple[Item, S]]:
    """Hand on each item with ``function(shared, *arguments)``, in order.

    items : an item, what it shares with those beside it, and its own arguments. What is shared is
    sent to a Dask cluster once.
    """
    waiting: deque[tuple[Item, Any]] = deque()
    shared, handle = None, None
    of_dask = hasattr(client, "scatter")
    more = {"pure": False} if of_dask else {}
    try:
        for item, common, own in items:
            if common is not shared:
                shared = common
                handle = client.scatter([common], hash=False)[0] if of_dask else common
            waiting.append((item, client.submit(function, handle, *own, **more)))
            if len(waiting) >= WAITING:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
