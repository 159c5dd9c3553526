"""Hostile input at random: saved files, tables and formulas; run in a process of its own.

``python tests/hostile.py saved 7 100`` tries 100 files from seed 7. What ends in anything
but an answer or a `RanefError` is printed with the seed that makes it again.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lies
import numpy as np

import ranef
from ranef.cli.main import main
from ranef.errors import RanefError
from ranef.storage import saving

Generator = np.random.Generator

NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 7, 60, 10**6, 2**31, -(2**31), 2**63 - 1, 0.0, -1.0, 0.5, 1e-300, 1e300,
    float("nan"), float("inf"),
]  # fmt: skip
WORDS: list[Any] = [
    "", "x", "g", "us", "cs", "ar1", "rr", "single", "nested", "y ~ x + (1 | g)", "log", "\x00",
    "\ud800", "\ufffe", "a" * 5000, None, True, [], {}, {"class": "Face"}, {"array": "y"},
]  # fmt: skip


# --- saved files ---------------------------------------------------------------------


def spoil_value(head: Any, arrays: Any, rng: Generator) -> None:
    """Put another value anywhere: mostly one of the same type."""
    paths = [path for path in lies.places(head["values"]) if path]
    path = paths[rng.integers(len(paths))]
    old = lies.at(head["values"], path)
    number = isinstance(old, int | float) and not isinstance(old, bool)
    choices = NUMBERS if number and rng.random() < 0.8 else [*NUMBERS, *WORDS]
    lies.put(head["values"], path, choices[rng.integers(len(choices))])


def spoil_array(head: Any, arrays: Any, rng: Generator) -> None:
    """Change numbers of an array: some, all, their order or their sign."""
    name = list(arrays)[rng.integers(len(arrays))]
    a = arrays[name]
    if not a.size or a.dtype.kind not in "fi":
        return
    how = rng.integers(6)
    flat = a.ravel()
    with np.errstate(all="ignore"):
        if how == 0:
            flat[rng.integers(a.size)] = NUMBERS[rng.integers(15)] if a.dtype.kind == "f" else 1
        elif how == 1:
            flat[:] = flat[rng.integers(a.size)]
        elif how == 2:
            rng.shuffle(flat)
        elif how == 3:
            flat[:] = -flat
        elif how == 4:
            flat[:] = flat * (10.0 ** rng.integers(-12, 13) if a.dtype.kind == "f" else 2)
        else:
            flat[:] = 0
    arrays[name] = flat.reshape(a.shape)


def resize(head: Any, arrays: Any, rng: Generator) -> None:
    """Change one size everywhere: every array and every list that has it, and every count."""
    sizes = sorted({size for a in arrays.values() for size in a.shape if size > 0})
    old = sizes[rng.integers(len(sizes))]
    new = int(max(0, old + rng.integers(-3, 4))) if rng.random() < 0.7 else int(rng.integers(0, 4))
    pick = np.arange(new) % old
    for name, a in arrays.items():
        for axis, size in enumerate(a.shape):
            if size == old and rng.random() < 0.9:
                arrays[name] = a = np.take(a, pick, axis=axis)
    for path in list(lies.places(head["values"])):
        value = lies.at(head["values"], path) if _is_there(head["values"], path) else None
        if isinstance(value, list) and len(value) == old and rng.random() < 0.8:
            value[:] = [value[i] for i in pick]
        elif value == old and type(value) is int and rng.random() < 0.8:
            lies.put(head["values"], path, new)


def exchange(head: Any, arrays: Any, rng: Generator) -> None:
    """Let two arrays change places."""
    one, two = (list(arrays)[rng.integers(len(arrays))] for _ in range(2))
    arrays[one], arrays[two] = arrays[two], arrays[one]


def _is_there(value: Any, path: tuple[Any, ...]) -> bool:
    try:
        lies.at(value, path)
    except (KeyError, IndexError, TypeError):
        return False
    return True


SPOILERS = (spoil_value, spoil_value, spoil_array, spoil_array, resize, exchange)

METHODS: dict[str, Callable[[Any], Any]] = {
    "summary": lambda fit: str(fit.summary()),
    "repr": repr,
    "fixed": lambda fit: fit.tidy("fixed"),
    "variance": lambda fit: fit.tidy("variance"),
    "random": lambda fit: fit.tidy("random"),
    "glance": lambda fit: fit.glance(),
    "augment": lambda fit: fit.augment(),
    "predict": lambda fit: fit.predict(lies.table(), conf_level=0.9),
    "population": lambda fit: fit.predict(lies.table(), kind="population"),
    "simulate": lambda fit: fit.simulate(2, rng=0),
    "refit": lambda fit: fit.refit(fit.simulate(1, rng=0)),
    "emmeans": lambda fit: fit.emmeans("x"),
    "anova": lambda fit: fit.anova(),
    "robust": lambda fit: fit.robust(),
    "rank": lambda fit: str(fit.rank("g")),
    "r2": lambda fit: fit.r2(),
    "check": lambda fit: str(fit.check(n=99)),
    "equation": lambda fit: str(fit.equation()),
    "methods": lambda fit: fit.methods(),
    "save": saving.to_bytes,
}


def saved(rng: Generator) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what to do with one spoilt file of a mixed model."""
    return _spoilt_fit(list(lies.KINDS), rng)


def others(rng: Generator) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the same of another kind of fit."""
    return _spoilt_fit(list(lies.OTHERS), rng)


def _spoilt_fit(kinds: list[str], rng: Generator) -> Iterator[tuple[str, Callable[[], Any]]]:
    kind = kinds[rng.integers(len(kinds))]
    head, arrays = lies.unpacked(lies.stored(kind))
    for _ in range(rng.integers(1, 4)):
        with contextlib.suppress(LookupError, TypeError):
            SPOILERS[rng.integers(len(SPOILERS))](head, arrays, rng)
    fits: list[Any] = []
    yield f"load {kind}", lambda: fits.append(saving.from_bytes(lies.packed(head, arrays)))
    known = [name for name in METHODS if fits and _answers(fits[0], name)]
    for name in rng.permutation(known)[:8]:
        yield f"{name} {kind}", lambda name=name: METHODS[name](fits[0])


def _answers(fit: Any, name: str) -> bool:
    """Tell whether a fit has the methods that are asked."""
    own = {"fixed": "tidy", "variance": "tidy", "random": "tidy", "population": "predict"}
    words = own.get(name, name)
    needed = ["simulate", "refit"] if name == "refit" else [words]
    return name in ("repr", "save") or all(hasattr(fit, one) for one in needed)


# --- tables --------------------------------------------------------------------------

PIECES = [
    b",", b";", b"\t", b'"', b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"#", b"sep=;\n", b"1,5",
    b"1.059", b"NA", b"k.A.", b"inf", b"1e999", b"-", b"\xe2\x80\xaf", b"\xef\xbf\xbe", b"\x1b[31m",
    b"9007199254740993", b"0" * 400, b"<script>", b"=cmd|", b"2024-01-03", b"007", b"\xed\xa0\x80",
]  # fmt: skip
OPTIONS: list[list[str]] = [
    ["--decimal=,"], ["--thousands=."], ["--skip", "1"], ["--na=1"], ["--factor", "x"],
    ["--number", "g"], ["--sep", ";"], ["--encoding", "utf-16"], ["--encoding", "latin-1"],
    ["--family", "poisson"], ["--weights", "x"], ["--max-gb", "0.001"],
]  # fmt: skip


def packings() -> list[Callable[[bytes], bytes]]:
    import bz2
    import gzip
    import lzma
    import zipfile

    def zipped(content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d.csv", content)
        return stream.getvalue()

    def binary(method: str) -> Callable[[bytes], bytes]:
        def write(_: bytes) -> bytes:
            stream = io.BytesIO()
            getattr(lies.table()[["y", "x", "g"]], method)(stream)
            return stream.getvalue()

        return write

    return [
        lambda c: c, lambda c: c, gzip.compress, bz2.compress, lzma.compress, zipped,
        binary("to_parquet"), binary("to_feather"),
    ]  # fmt: skip


def tables(rng: Generator) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the command on one spoilt table; it must end with a sentence."""
    content = lies.table()[["y", "x", "g"]].to_csv(index=False).encode()
    content = _spoilt(content, rng) if rng.random() < 0.6 else content
    packing = packings()[rng.integers(8)]
    content = packing(content)
    if rng.random() < 0.6:
        content = _spoilt(content, rng)
    options = [
        word for k in rng.integers(0, len(OPTIONS), rng.integers(0, 3)) for word in OPTIONS[k]
    ]

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "d"
            path.write_bytes(content)
            with contextlib.redirect_stderr(io.StringIO()) as said:
                code = main(["fit", "y ~ x + (1 | g)", str(path), "--quiet", *options])
            if code == 70:
                raise AssertionError(said.getvalue())

    yield f"fit {options}", run


def _spoilt(content: bytes, rng: Generator) -> bytes:
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, how = int(rng.integers(len(data) + 1)), rng.integers(4)
        if how == 0:
            data[at:at] = PIECES[rng.integers(len(PIECES))]
        elif how == 1:
            del data[at : at + int(rng.integers(1, 40))]
        elif how == 2 and at < len(data):
            data[at] = int(rng.integers(256))
        else:
            del data[int(len(data) * (0.3 + 0.7 * rng.random())) :]
    return bytes(data)


# --- formulas ------------------------------------------------------------------------

ATOMS = ["x", "y", "g", "h", "f", "o", "1", "0", "2", "-1", "zz", ".", "'a'", "pi", "TRUE", "`x`"]
WRAPPERS = [
    "log({})", "I({}^2)", "poly({}, 2)", "ns({}, 3)", "scale({})", "factor({})", "C({}, sum)",
    "offset({})", "({})", "-{}", "lag({}, g, x)", "within({}, g)",
    "within({}, g/h)", "within({}, g + f)", "I({} > 0)", "ifelse({} > 0, 1, 2)",
    "interaction({}, f)", "relevel({}, 'u')", "as.numeric({})", "exp({})", "__import__({})",
]  # fmt: skip
JOINERS = [" + ", " + ", " * ", ":", " - ", " / ", " %in% ", "^", " | ", " || ", " ~ ", "", ","]
BARS = ["(1 | g)", "(x | g)", "(x || g)", "(1 | g/h)", "(0 + f | g)", "cs(0 + f | g)", "(1|{})",
        "ar1(0 + x | g)", "rr(0 + f | g, 1)", "({} | g)", "(1 | g:h)"]  # fmt: skip


def expression(rng: Generator, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return ATOMS[rng.integers(len(ATOMS))]
    if rng.random() < 0.4:
        return WRAPPERS[rng.integers(len(WRAPPERS))].format(expression(rng, depth - 1))
    joiner = JOINERS[rng.integers(len(JOINERS))] if rng.random() < 0.5 else " + "
    return expression(rng, depth - 1) + joiner + expression(rng, depth - 1)


def formulas(rng: Generator) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a fit of one formula of the language, or nearly of it."""
    response = "y" if rng.random() < 0.8 else expression(rng, 1)
    bar = BARS[rng.integers(len(BARS))].format(ATOMS[rng.integers(len(ATOMS))])
    text = f"{response} ~ {expression(rng, 3)} + {bar}"
    if rng.random() < 0.1:
        at = int(rng.integers(len(text)))
        text = text[:at] + chr(int(rng.integers(1, 0x300))) + text[at:]
    if rng.random() < 0.7:
        yield text, lambda: ranef.lmm(text, lies.table(), progress=False)
    else:
        yield text, lambda: ranef.glmm(text, lies.table(), family="gaussian", progress=False)


ATTACKS = {"saved": saved, "others": others, "tables": tables, "formulas": formulas}


def attack(name: str, seed: int, count: int) -> list[dict[str, Any]]:
    """Return what ended in another way than an answer or a `RanefError`."""
    raw = []
    for k in range(count):
        for what, act in ATTACKS[name](np.random.default_rng([seed, k])):
            print(json.dumps({"at": [name, seed, k], "what": what}), file=sys.stderr, flush=True)
            try:
                act()
            except RanefError:
                pass
            except Exception:
                where = {"attack": name, "seed": seed, "number": k, "what": what}
                raw.append({**where, "error": traceback.format_exc()})
    return raw


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    found = attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(found, indent=1))
    sys.exit(1 if found else 0)
