"""Turn the CSV files of make_data.R into the Parquet files bundled with ranef.

Rscript tests/reference/make_data.R FOLDER
python tests/reference/make_data.py FOLDER src/ranef/data
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

NUMBERS = {"integer": pa.int32(), "double": pa.float64()}


def column(text: pa.Array, description: dict[str, Any]) -> pa.Array:
    """Return a column as numbers, or as a dictionary with R's order of levels."""
    if description["kind"] != "factor":
        return text.cast(NUMBERS[description["kind"]])
    levels = pa.array(description["levels"], pa.string())
    codes = pa.compute.index_in(text, value_set=levels).cast(pa.int8())
    if codes.null_count:
        raise ValueError("a label in the CSV file is not among R's levels")
    return pa.DictionaryArray.from_arrays(codes, levels, ordered=description["ordered"])


def convert(csv: Path, target: Path) -> None:
    """Write one CSV file and its description as Parquet."""
    schema = json.loads(csv.with_suffix(".json").read_text(encoding="utf-8"))
    names = list(schema["columns"])
    options = pa.csv.ConvertOptions(column_types={name: pa.string() for name in names})
    text = pa.csv.read_csv(csv, convert_options=options).combine_chunks()
    columns = [column(text[name].chunk(0), schema["columns"][name]) for name in names]
    table = pa.table(columns, names=names)
    if table.num_rows != schema["rows"]:
        raise ValueError(f"{csv.name}: {table.num_rows} rows read, R wrote {schema['rows']}")
    pa.parquet.write_table(table, target / f"{csv.stem}.parquet", compression="snappy")


def main(source: str, target: str) -> None:
    """Convert every CSV file of a folder."""
    for csv in sorted(Path(source).glob("*.csv")):
        convert(csv, Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
