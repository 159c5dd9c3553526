"""Saved fits taken apart and put together again, with whatever was changed between."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

import ranef
from ranef.storage import saving

Head = dict[str, Any]
Arrays = dict[str, Any]
Change = Callable[[Head, Arrays], None]


@functools.cache
def table(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.arange(n) % 6
    u = rng.normal(size=6)[g]
    return pd.DataFrame(
        {
            "y": 1 + u + rng.normal(size=n),
            "c": rng.poisson(np.exp(1 + 0.3 * u)),
            "x": rng.normal(size=n),
            "g": g,
            "h": (np.arange(n) // 6) % 5,
            "o": pd.Categorical(rng.choice(list("abc"), n), ordered=True),
            "m": pd.Categorical(rng.choice(list("abc"), n)),
            "f": rng.choice(["u", "v"], n),
            "t": np.arange(n) // 6,
            "v": 0.1 + (np.arange(n) % 7) / 10,
        }
    )


KINDS: dict[str, Callable[[], Any]] = {
    "linear": lambda: ranef.lmm("y ~ x + (x | g)", table()),
    "nested": lambda: ranef.lmm("y ~ f + (1 | g/h)", table()),
    "structure": lambda: ranef.lmm("y ~ x + cs(0 + f | g)", table()),
    "poisson": lambda: ranef.glmm("c ~ x + (1 | g)", table(), family="poisson"),
    "cumulative": lambda: ranef.glmm("o ~ x + (1 | g)", table(), family="cumulative"),
    "multinomial": lambda: ranef.glmm("m ~ x + (1 | g)", table(), family="multinomial"),
    "zero": lambda: ranef.glmm("c ~ x + (1 | g)", table(), family="nbinom2", zero="~ 1"),
}


def _kernel() -> dict[str, pd.DataFrame]:
    return {"K": pd.DataFrame(np.eye(6) + 0.1, index=range(6), columns=range(6))}


OTHERS: dict[str, Callable[[], Any]] = {
    "residuals": lambda: ranef.lmm("y ~ x", table(), residual="ar1(t | g)"),
    "visits": lambda: ranef.lmm("y ~ x + (1 | h)", table(), residual="homcs(t | g)"),
    "spread": lambda: ranef.lmm("y ~ x", table(), dispersion="~ x", random="none"),
    "kernel": lambda: ranef.lmm("y ~ x + kernel(1 | g, K)", table(), kernels=_kernel()),
    "quadrature": lambda: ranef.glmm("c ~ x + (1 | g)", table(), family="poisson", quadrature=5),
    "tied": lambda: ranef.glmm(
        "y ~ x + (1 | p | g)", table(), family="gaussian", dispersion="~ 1 + (1 | p | g)"
    ),
    "equations": lambda: ranef.gee("y ~ x", table(), groups="g", time="t", correlation="ar1"),
    "ordered equations": lambda: ranef.gee("o ~ x", table(), groups="g", family="cumulative"),
    "studies": lambda: ranef.meta("y ~ x", table(), variance="v"),
    "nested studies": lambda: ranef.meta("y ~ x + (1 | g/h)", table(), variance="v"),
    "paths": lambda: ranef.sem("factor =~ y + x + c", table()),
    "paths of groups": lambda: ranef.sem("y ~ x + c", table(), group="f"),
    "paths of two levels": lambda: ranef.sem(
        "level: 1\n y ~ x\n level: 2\n y ~~ y", table(), cluster="g"
    ),
    "nominal": lambda: ranef.glmm("o ~ (1 | g)", table(), family="cumulative", nominal="~ x"),
    "changing residuals": lambda: ranef.lmm(
        "y ~ x + (1 | g)", table(), dispersion="~ x", residual="ar1(t | g)"
    ),
    "pooled": lambda: ranef.pool([ranef.lmm("y ~ x + (1 | g)", table())] * 3),
}
"""Kinds of fit whose parts are not those of a mixed model without more."""


@functools.cache
def stored(kind: str) -> bytes:
    """Return the file of a fit of some kind."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saving.to_bytes({**KINDS, **OTHERS}[kind]())


def unpacked(content: bytes) -> tuple[Head, Arrays]:
    """Return the head of a file and its arrays."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(members.pop("fit.json"))
    arrays = {name[:-4]: np.load(io.BytesIO(data)).copy() for name, data in members.items()}
    return head, arrays


def packed(head: Head, arrays: Arrays) -> bytes:
    """Return a file of these arrays, listed as they are: nothing but its content is wrong."""
    head["arrays"] = {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fit.json", json.dumps(head))
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0))
            archive.writestr(f"{name}.npy", member.getvalue())
    return stream.getvalue()


def changed(kind: str, change: Change) -> bytes:
    """Return the file of a fit after a change of its content."""
    head, arrays = unpacked(stored(kind))
    change(head, arrays)
    return packed(head, arrays)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a tree of dicts and lists."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at a path."""
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    """Put a value at a path."""
    at(value, path[:-1])[path[-1]] = new
