"""An estimate as plain values and arrays, and back, with every size checked."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.design.recipe import Recipe
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import DataError, FileError
from ranef.models.records import CONDITIONAL, Estimate, LinearEstimate
from ranef.solve.optimum import Face, Optimum
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = [
    "Bundle",
    "check_theta",
    "decode",
    "effect_arrays",
    "encode",
    "frame_arrays",
    "frame_values",
    "optimum_arrays",
    "optimum_values",
    "plain_arrays",
    "read_effects",
    "read_frame",
    "read_optimum",
    "read_specification",
    "shaped",
    "specification_arrays",
    "specification_values",
    "typed",
]

LIBRARIES = ("pandas", "polars", "pyarrow", "dict")
OPTIMUM_VALUES = (
    "criterion", "decrement", "tolerance", "converged", "evaluations", "restarts", "path",
    "message",
)  # fmt: skip
OPTIMUM_ARRAYS = ("theta", "gradient", "trace", "phi")


@dataclass(frozen=True, eq=False)
class Bundle:
    """Plain JSON values and named arrays."""

    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def encode(estimate: LinearEstimate, frame: Origin) -> Bundle:
    """Take a linear estimate apart."""
    spec = estimate.specification
    arrays: dict[str, Any] = {
        **specification_arrays(spec),
        **frame_arrays(frame),
        **optimum_arrays(estimate.optimum),
        "beta": estimate.coefficients,
        "vcov": estimate.coefficient_vcov,
        "theta": estimate.theta,
        **effect_arrays(estimate.covariances, estimate.modes),
    }
    values = {
        "specification": specification_values(spec),
        "frame": frame_values(frame),
        "reml": estimate.reml,
        "sigma": float(estimate.sigma),
        "loglik": float(estimate.loglik),
        **optimum_values(estimate.optimum),
    }
    return Bundle(values, plain_arrays(arrays))


def decode(
    bundle: Bundle, functions: Mapping[str, Callable[..., Any]]
) -> tuple[LinearEstimate, Origin]:
    """Put a linear estimate together again."""
    values, arrays = bundle.values, bundle.arrays
    spec = read_specification(values["specification"], arrays, functions)
    p = spec.p
    covariances, modes = read_effects(arrays, spec.terms, spec.factors)
    estimate = LinearEstimate(
        parts={CONDITIONAL: spec},
        reml=typed(values, "reml", bool),
        coefficients=shaped(arrays, "beta", "f", (p,)),
        coefficient_vcov=shaped(arrays, "vcov", "f", (p, p)),
        theta=shaped(arrays, "theta", "f", (None,)),
        sigma=typed(values, "sigma", float),
        covariances=covariances,
        modes=modes,
        loglik=typed(values, "loglik", float),
        optimum=read_optimum(values, arrays, len(spec.terms)),
    )
    check_theta(estimate, spec.terms)
    return estimate, read_frame(values["frame"], arrays, spec.accounting)


def specification_arrays(spec: Specification, prefix: str = "") -> dict[str, Any]:
    """Arrays of a specification by name; None where it has none."""
    arrays: dict[str, Any] = {
        "y": spec.y, "X": spec.X, "weights": spec.weights, "offset": spec.offset,
    }  # fmt: skip
    for t, term in enumerate(spec.terms):
        arrays |= {
            f"term{t}.z": term.z,
            f"term{t}.positions": term.positions,
            f"term{t}.kernel": term.kernel,
        }
    for f, factor in enumerate(spec.factors):
        arrays[f"factor{f}.codes"] = factor.codes
    return {f"{prefix}{name}": values for name, values in arrays.items()}


def effect_arrays(covariances: Sequence[Any], modes: Sequence[Any]) -> dict[str, Any]:
    """Covariance matrix and modes of each random term."""
    arrays = {f"term{t}.covariance": psi for t, psi in enumerate(covariances)}
    return arrays | {f"term{t}.modes": b for t, b in enumerate(modes)}


def optimum_arrays(optimum: Optimum) -> dict[str, Any]:
    """Arrays of an optimum."""
    return {f"optimum.{name}": getattr(optimum, name) for name in OPTIMUM_ARRAYS}


def optimum_values(optimum: Optimum) -> dict[str, Any]:
    """Plain values of an optimum."""
    return {
        "optimum": {name: _plain(getattr(optimum, name)) for name in OPTIMUM_VALUES},
        "faces": [{k: _plain(v) for k, v in asdict(face).items()} for face in optimum.faces],
    }


def frame_arrays(frame: Origin) -> dict[str, Any]:
    """Which rows of the table are in the model, and the columns that the formulas use."""
    arrays = {"kept": frame.accounting.kept}
    if frame.data is not None:
        arrays |= {
            f"column{j}": _column_array(frame.data, name)
            for j, name in enumerate(_held_columns(frame.data))
        }
    return arrays


def frame_values(frame: Origin) -> dict[str, Any]:
    """Library and row labels of the table, and what its columns' arrays hold."""
    columns = None if frame.data is None else _held_columns(frame.data)
    return {"library": frame.library, "index": _encode_index(frame.index), "columns": columns}


def _held_columns(data: Table) -> dict[str, Any]:
    """What the array of each column holds: numbers, or codes of levels."""
    held: dict[str, Any] = {}
    for name in data.columns:
        kind = data.kind(name)
        if kind in ("numeric", "boolean", "duration"):
            whole = kind == "numeric" and data.values(name).dtype.kind in "iu"
            held[name] = {"kind": "integer" if whole else kind}
        elif kind in ("categorical", "text", "datetime"):
            held[name] = {"kind": kind, "levels": [_label(x) for x in data.codes(name)[1]]}
    return held


def _column_array(data: Table, name: str) -> NDArray[Any]:
    kind = data.kind(name)
    if kind == "duration":
        return data.seconds(name)
    return data.numeric(name) if kind in ("numeric", "boolean") else data.codes(name)[0]


def _read_columns(
    held: Any, arrays: Mapping[str, NDArray[Any]], library: str, index: Any, rows: int
) -> Table | None:
    """The columns that the formulas use; None where the file has none."""
    if held is None:
        return None
    if not isinstance(held, dict):
        raise FileError("the columns of the table are not listed by name")
    native = {
        name: _read_column(entry, f"column{j}", arrays, rows)
        for j, (name, entry) in enumerate(held.items())
    }
    return Table(native, {name: name for name in native}, rows, library, index)


def _read_column(
    entry: Mapping[str, Any], place: str, arrays: Mapping[str, NDArray[Any]], rows: int
) -> Any:
    kind = typed(entry, "kind", str)
    if kind in ("numeric", "integer", "boolean", "duration"):
        numbers = shaped(arrays, place, "f", (rows,))
        if kind == "duration":
            return np.round(numbers * 1e6).astype("timedelta64[us]")
        if kind == "numeric" or np.isnan(numbers).any():
            return numbers
        return numbers.astype(np.bool_ if kind == "boolean" else np.int64)
    codes = shaped(arrays, place, "i", (rows,))
    levels = [_read_label(x) for x in typed(entry, "levels", list)]
    if kind not in ("categorical", "text", "datetime"):
        raise FileError(f"no column of kind {kind!r}")
    if len(codes) and (codes.min() < -1 or codes.max() >= len(levels)):
        raise FileError("a column has a value that is not listed")
    if kind == "categorical":
        import pandas as pd

        return pd.Categorical.from_codes(codes, categories=levels)
    labels = np.empty(len(levels) + 1, dtype=object)
    labels[: len(levels)] = levels
    return labels[codes]


def plain_arrays(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Those that are there, in the types that a file holds."""
    return {name: _array(a) for name, a in arrays.items() if a is not None}


def specification_values(spec: Specification) -> dict[str, Any]:
    """Plain values of a specification."""
    return {
        "formula": spec.formula,
        "response": spec.response,
        "names": list(spec.names),
        "dropped_columns": list(spec.dropped_columns),
        "terms": [
            {
                "label": t.label, "factor": int(t.factor), "names": list(t.names),
                "structure": t.structure, "rank": t.rank,
            }
            for t in spec.terms
        ],
        "factors": [
            {"name": f.name, "columns": list(f.columns), "levels": [_label(x) for x in f.levels]}
            for f in spec.factors
        ],
        "n_rows": int(spec.accounting.n_rows),
        "missing": {name: int(count) for name, count in spec.accounting.missing.items()},
        "n_zero_weight": int(spec.accounting.n_zero_weight),
        "recipe": spec.recipe.to_json(),
    }  # fmt: skip


def read_specification(
    values: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    functions: Mapping[str, Callable[..., Any]],
    prefix: str = "",
) -> Specification:
    """Put a specification together; its arrays' names begin with `prefix`, the rows' do not."""
    kept = {"kept": arrays["kept"]} if "kept" in arrays else {}
    arrays = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)} | kept
    y = shaped(arrays, "y", "f", (None,))
    n, names = len(y), _strings(values, "names")
    factors = tuple(
        _read_factor(entry, shaped(arrays, f"factor{f}.codes", "i", (n,)))
        for f, entry in enumerate(typed(values, "factors", list))
    )
    terms = tuple(
        _read_term(entry, t, n, factors, arrays)
        for t, entry in enumerate(typed(values, "terms", list))
    )
    return Specification(
        formula=typed(values, "formula", str),
        response=typed(values, "response", str),
        y=y,
        X=shaped(arrays, "X", "f", (n, len(names))),
        names=names,
        dropped_columns=_strings(values, "dropped_columns"),
        weights=shaped(arrays, "weights", "f", (n,)) if "weights" in arrays else None,
        offset=shaped(arrays, "offset", "f", (n,)) if "offset" in arrays else None,
        terms=terms,
        factors=factors,
        accounting=_read_accounting(values, n, arrays),
        recipe=Recipe.from_json(typed(values, "recipe", dict), functions),
    )


def _read_factor(entry: Mapping[str, Any], codes: NDArray[np.int32]) -> GroupingFactor:
    levels = [_read_label(x) for x in typed(entry, "levels", list)]
    if len(codes) and (codes.min() < 0 or codes.max() >= len(levels)):
        raise FileError("a row belongs to a level that is not listed")
    return GroupingFactor(typed(entry, "name", str), _strings(entry, "columns"), codes, levels)


def _read_term(
    entry: Mapping[str, Any],
    t: int,
    n: int,
    factors: Sequence[GroupingFactor],
    arrays: Mapping[str, NDArray[Any]],
) -> RandomTerm:
    names, factor = _strings(entry, "names"), typed(entry, "factor", int)
    if not 0 <= factor < len(factors):
        raise FileError("a random term names no grouping factor")
    q, r = factors[factor].n_levels, len(names)
    positions, kernel = f"term{t}.positions", f"term{t}.kernel"
    return RandomTerm(
        label=typed(entry, "label", str),
        factor=factor,
        names=names,
        z=shaped(arrays, f"term{t}.z", "f", (n, r)),
        structure=typed(entry, "structure", str),
        rank=None if entry["rank"] is None else typed(entry, "rank", int),
        positions=shaped(arrays, positions, "f", (r, None)) if positions in arrays else None,
        kernel=shaped(arrays, kernel, "f", (q, q)) if kernel in arrays else None,
    )


def _read_accounting(
    values: Mapping[str, Any], n: int, arrays: Mapping[str, NDArray[Any]]
) -> Accounting:
    n_rows = typed(values, "n_rows", int)
    kept = shaped(arrays, "kept", "b", (n_rows,)) if "kept" in arrays else None
    missing = {str(k): int(v) for k, v in typed(values, "missing", dict).items()}
    rows = Accounting(n_rows, kept, missing, typed(values, "n_zero_weight", int))
    if rows.n_used != n:
        raise FileError("the rows kept are not as many as the rows in the model")
    return rows


def read_effects(
    arrays: Mapping[str, NDArray[Any]],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
    """Covariance matrix (r, r) and modes (q, r) of each random term."""
    sizes = [(factors[t.factor].n_levels, t.size) for t in terms]
    covariances = tuple(
        shaped(arrays, f"term{t}.covariance", "f", (r, r)) for t, (_, r) in enumerate(sizes)
    )
    modes = tuple(shaped(arrays, f"term{t}.modes", "f", (q, r)) for t, (q, r) in enumerate(sizes))
    return covariances, modes


def check_theta(estimate: Estimate, terms: Sequence[RandomTerm]) -> None:
    """Theta must have the length that the terms ask for."""
    wanted = sum(structure_of(t).n_parameters for t in terms)
    if len(estimate.theta) != wanted or len(estimate.optimum.theta) != wanted:
        raise FileError(f"theta has {len(estimate.theta)} entries, the terms ask for {wanted}")


def _face(entry: Mapping[str, Any], n_terms: int) -> Face:
    face = Face(
        term=typed(entry, "term", int),
        rank=typed(entry, "rank", int),
        size=typed(entry, "size", int),
        description=typed(entry, "description", str),
        curvature=typed(entry, "curvature", float),
    )
    if not 0 <= face.term < n_terms:
        raise FileError("a face names no random term")
    return face


def read_optimum(
    values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_terms: int
) -> Optimum:
    """Put an optimum together again."""
    plain = typed(values, "optimum", dict)
    return Optimum(
        criterion=typed(plain, "criterion", float),
        theta=shaped(arrays, "optimum.theta", "f", (None,)),
        gradient=shaped(arrays, "optimum.gradient", "f", (None,)),
        decrement=typed(plain, "decrement", float),
        tolerance=typed(plain, "tolerance", float),
        converged=typed(plain, "converged", bool),
        faces=tuple(_face(entry, n_terms) for entry in typed(values, "faces", list)),
        evaluations=typed(plain, "evaluations", int),
        restarts=typed(plain, "restarts", int),
        path=typed(plain, "path", str),
        trace=shaped(arrays, "optimum.trace", "f", (None,)),
        message=typed(plain, "message", str),
        phi=shaped(arrays, "optimum.phi", "f", (None,)) if "optimum.phi" in arrays else None,
    )


def _encode_index(index: Any) -> dict[str, Any] | None:
    """A pandas index as labels; None for the default one."""
    if index is None:
        return None
    import pandas as pd

    if isinstance(index, pd.RangeIndex) and index.equals(pd.RangeIndex(len(index))):
        return None
    if isinstance(index, pd.MultiIndex):
        labels: list[Any] = [[_label(x) for x in row] for row in index]
        return {"labels": labels, "names": [_name(name) for name in index.names]}
    return {"labels": [_label(x) for x in index], "name": _name(index.name)}


def _name(name: Any) -> str | None:
    return None if name is None else str(name)


def read_frame(
    values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], accounting: Accounting
) -> Origin:
    """Put a frame together again."""
    library = typed(values, "library", str)
    if library not in LIBRARIES:
        raise FileError(f"no data-frame library {library!r}")
    rows = accounting.n_rows
    index = _read_index(values["index"], rows)
    data = _read_columns(values.get("columns"), arrays, library, index, rows)
    return Origin(library, index, accounting, data)


def _read_index(entry: Mapping[str, Any] | None, n_rows: int) -> Any:
    if entry is None:
        return None
    import pandas as pd

    labels = typed(entry, "labels", list)
    if len(labels) != n_rows:
        raise FileError("the row labels are not as many as the rows")
    if "names" in entry:
        rows = [tuple(_read_label(x) for x in row) for row in labels]
        return pd.MultiIndex.from_tuples(rows, names=entry["names"])
    return pd.Index([_read_label(x) for x in labels], name=entry["name"])


def _label(value: Any) -> Any:
    """A level or row label as JSON: plain values as they are, times as tagged text."""
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind in "biufSU" else _numpy_time(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, datetime.datetime) and hasattr(value, "asm8"):
        zone = None if value.tzinfo is None else str(value.tzinfo)
        return {"timestamp": value.isoformat(), "zone": zone}
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, dict):
        return value
    raise DataError(
        f"cannot save the label {value!r} of type {type(value).__name__}; "
        "use text, numbers, booleans or dates for levels and row labels"
    )


def _numpy_time(value: Any) -> Any:
    if value.dtype.kind == "M":
        return {"numpy": str(value), "unit": np.datetime_data(value.dtype)[0]}
    return value.item()


def _read_label(value: Any) -> Any:
    """Read a label back in its type."""
    if not isinstance(value, dict):
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        raise FileError("a label is neither a plain value nor a time")
    if "timestamp" in value:
        import pandas as pd

        moment = pd.Timestamp(typed(value, "timestamp", str))
        return moment if value["zone"] is None else moment.tz_convert(value["zone"])
    if "datetime" in value:
        return datetime.datetime.fromisoformat(value["datetime"])
    if "date" in value:
        return datetime.date.fromisoformat(value["date"])
    return np.datetime64(typed(value, "numpy", str), typed(value, "unit", str))


def _array(values: Any) -> NDArray[Any]:
    """An array in one of the three types that a file holds."""
    array = np.asarray(values)
    kind = {"f": "<f8", "i": "<i4", "b": "|b1"}[array.dtype.kind]
    return np.ascontiguousarray(array, dtype=kind)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def typed(values: Mapping[str, Any], name: str, kind: type) -> Any:
    """An entry of the stated type, or a complaint."""
    value = values[name]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise FileError(f"{name!r} should be {kind.__name__}, not {type(value).__name__}")
    return value


def _strings(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = typed(values, name, list)
    if not all(isinstance(x, str) for x in found):
        raise FileError(f"{name!r} should hold text")
    return tuple(found)


def shaped(
    arrays: Mapping[str, NDArray[Any]], name: str, kind: str, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """An array of the stated kind and shape (None: any size), or a complaint."""
    if name not in arrays:
        raise FileError(f"array {name!r} is missing")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted is None or have == wanted for have, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype.kind != kind or not fits:
        raise FileError(f"array {name!r} has type and shape {array.dtype.str}, {array.shape}")
    return array
