"""What a refusal says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ranef.errors import RanefError


def refused(call: Callable[[Any], Any], world: Any, said: str) -> None:
    """The call is refused with a typed error that says this, whatever its line breaks."""
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())
