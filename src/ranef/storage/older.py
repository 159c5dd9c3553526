"""Files of ranef 0.1 (formats 1 and 2): their layout brought to the tree of today.

Nothing is checked here: what comes out is read, and refused, like any other file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import families
from ranef.errors import FileError
from ranef.storage.codec import CLASS, Bundle, encode
from ranef.storage.registry import RECORDS

__all__ = ["modern"]

COLUMNS = {"numeric": "f8", "integer": "i8", "boolean": "b1", "duration": "m8[us]"}
CODED = {"categorical": "categorical", "text": "labels", "datetime": "labels"}


def modern(bundle: Bundle) -> Bundle:
    """Return the values and arrays of an old file as those of a new one."""
    old = _Old(bundle.arrays)
    return Bundle(old.fit(bundle.values), old.arrays, bundle.functions)


class _Old:
    """An old file: its arrays by name, and more that are made of its lists."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = dict(arrays)

    def record(self, cls: str, old: Any, prefix: str = "", /, **changed: Any) -> dict[str, Any]:
        """Return a record: its arrays by their names in the file, the rest by value."""
        parts: dict[str, Any] = {CLASS: cls}
        for name, (_, required) in RECORDS[cls].fields.items():
            if name in changed or name in old:
                parts[name] = changed[name] if name in changed else old[name]
            elif required or prefix + name in self.arrays:
                parts[name] = self.named(prefix + name)
        return parts

    def named(self, name: str) -> dict[str, str] | None:
        """Refer to an array, if it is there."""
        return {"array": name} if name in self.arrays else None

    def fit(self, old: Any) -> Any:
        kind = old.get("model", "linear")
        if kind == "linear":
            cls, parts = "LinearEstimate", {"conditional": self.part(old["specification"], "")}
            names = {"coefficients": "beta", "coefficient_vcov": "vcov"}
            own: dict[str, Any] = {name: self.named(array) for name, array in names.items()}
        else:
            cls = "GeneralisedEstimate"
            parts = {name: self.part(part, f"{name}/") for name, part in old["parts"].items()}
            own = {"family": _family(**old["family"]), "priors": _priors(old["priors"])}
        faces = [self.record("Face", face) for face in old["faces"]]
        optimum = self.record("Optimum", old["optimum"], "optimum.", faces=faces)
        terms = range(sum(name.endswith(".modes") for name in self.arrays))
        own["covariances"] = [self.named(f"term{t}.covariance") for t in terms]
        own["modes"] = [self.named(f"term{t}.modes") for t in terms]
        estimate = self.record(cls, old, parts=parts, optimum=optimum, **own)
        frame = self.origin(old["frame"], parts["conditional"]["accounting"])
        return {CLASS: kind, "estimate": estimate, "frame": frame}

    def part(self, old: Any, prefix: str) -> Any:
        """Return a specification."""
        terms = [
            self.record("RandomTerm", term, f"{prefix}term{t}.")
            for t, term in enumerate(old["terms"])
        ]
        factors = [
            self.record("GroupingFactor", factor, f"{prefix}factor{f}.")
            for f, factor in enumerate(old["factors"])
        ]
        accounting, recipe = self.record("Accounting", old), self.recipe(old["recipe"])
        lists = {"terms": terms, "factors": factors}
        return self.record(
            "Specification", old, prefix, accounting=accounting, recipe=recipe, **lists
        )

    def recipe(self, old: Any) -> Any:
        if old["version"] != 1:
            raise FileError(f"the recipe has format {str(old['version'])[:20]!r}")
        reading, states = old.get("response"), old["state"].items()
        return self.record(
            "Recipe",
            old,
            formula_columns=old["columns"],
            state={key: self.record(state["kind"], state) for key, state in states},
            groups=[
                self.record("GroupRecipe", group, cells=_cells(group)) for group in old["groups"]
            ],
            random_recipes=[self.record("RandomRecipe", term) for term in old["random"]],
            reading=reading and self.record("ResponseKind", reading),
        )

    def origin(self, old: Any, accounting: Any) -> Any:
        columns, index = old.get("columns"), old["index"] or {"labels": [], "names": []}
        names = index["names"] if "names" in index else [index["name"]]
        levels = zip(*index["labels"], strict=True) if "names" in index else [index["labels"]]
        labels = [
            {CLASS: "column", "kind": "labels", "values": list(range(len(v))), "levels": list(v)}
            for v in levels
        ]
        if columns is not None:
            listed = enumerate(columns.items())
            columns = {name: self.column(held, f"column{j}") for j, (name, held) in listed}
        parts = {"index": labels, "index_names": names, "columns": columns}
        return self.record("Origin", old, accounting=accounting, **parts)

    def column(self, old: Any, place: str) -> Any:
        kind, values = CODED.get(old["kind"], "values"), self.arrays[place]
        if kind == "values":
            exact = old["kind"] == "duration" or not np.isnan(values).any()
            values = np.round(values * 1e6) if old["kind"] == "duration" else values
            self.arrays[place] = values.astype(COLUMNS[old["kind"]] if exact else np.float64)
        return self.record("column", old, kind=kind, values=self.named(place))


def _family(name: str, link: str, thresholds: Any = None, categories: Any = None) -> Any:
    if thresholds is not None:
        return encode(families.Cumulative(link, thresholds)).values
    return encode(families.family(name, link, categories)).values


def _priors(old: Any) -> Any:
    return {name: {CLASS: f"prior {p['kind']}", **p["values"]} for name, p in old.items()}


def _cells(group: Any) -> Any:
    only, *others = group["levels"]
    return group["cells"] if others else [[i] for i in range(len(only))]
