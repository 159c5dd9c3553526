"""BIOM and AnnData files that contradict themselves give no numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ranef import metagenomics as mg
from ranef.errors import DataError, FileError

h5py = pytest.importorskip("h5py")

TEXT = h5py.string_dtype()
GOOD = {
    "data": np.array([5.0, 3.0, 2.0, 7.0]), "indices": np.array([0, 1, 1, 2]),
    "indptr": np.array([0, 2, 4]), "taxa": ["t1", "t2"], "samples": ["a", "b", "c"],
    "shape": (2, 3),
}  # fmt: skip
PLACES = "indptr, indices, data.* do not fit together"
OUTSIDE = "outside its 3 samples and 2 taxa"


def biom2(path, lineages=None, **other):
    parts = {**GOOD, **other}
    with h5py.File(path, "w") as file:
        file.attrs["shape"] = parts["shape"]
        file["observation/ids"] = np.array(parts["taxa"], dtype=TEXT)
        file["sample/ids"] = np.array(parts["samples"], dtype=TEXT)
        for name in ("data", "indices", "indptr"):
            file[f"observation/matrix/{name}"] = parts[name]
        if lineages is not None:
            file["observation/metadata/taxonomy"] = np.array(lineages, dtype=TEXT)
    return path


def anndata(path, X, samples=("a", "b"), taxa=("t1", "t2", "t3")):
    with h5py.File(path, "w") as file:
        file["obs/_index"] = np.array(samples, dtype=TEXT)
        file["var/_index"] = np.array(taxa, dtype=TEXT)
        if isinstance(X, dict):
            group = file.create_group("X")
            group.attrs["encoding-type"] = X["type"]
            for name in ("data", "indices", "indptr"):
                group[name] = X[name]
        else:
            file["X"] = X
    return path


def cells(table):
    rows = zip(table["sample"], table["taxon"], table["reads"], strict=True)
    return {(s, t): n for s, t, n in rows}


TRUE = {("a", "t1"): 5, ("b", "t1"): 3, ("b", "t2"): 2, ("c", "t2"): 7}


def test_lineages_name_the_taxa_of_biom_two(tmp_path):
    lineages = [["k__Bacteria", "g__Listeria", "s__"], ["k__Bacteria", "g__", "s__"]]
    table = mg.read(biom2(tmp_path / "t.biom", lineages))
    assert cells(table) == TRUE
    assert dict(zip(table["taxon"], table["name"], strict=True)) == {
        "t1": "g__Listeria",
        "t2": "k__Bacteria",
    }


@pytest.mark.parametrize(
    ("other", "kind", "words"),
    [
        ({"indptr": np.array([0, 2, 9])}, FileError, PLACES),
        ({"indptr": np.array([0, 4, 2])}, FileError, PLACES),
        ({"indptr": np.array([0, 4])}, FileError, PLACES),
        ({"indptr": np.array([1, 2, 4])}, FileError, PLACES),
        ({"indptr": np.array([0.0, 2.0, 4.0])}, FileError, "whole numbers"),
        ({"indices": np.array([0, 1, 1, 7])}, FileError, OUTSIDE),
        ({"indices": np.array([0, -1, 1, 2])}, FileError, OUTSIDE),
        ({"indices": np.array([0, 0, 1, 2])}, DataError, "'a' has the taxon 't1' twice"),
        ({"shape": (100, 100)}, FileError, "stated as 100 x 100, its names are 2 x 3"),
        ({"samples": ["a", "a", "c"]}, DataError, "sample 'a' occurs twice in t.biom"),
        ({"taxa": ["t", "t"]}, DataError, "taxon 't' occurs twice"),
        ({"samples": ["a", " ", "c"]}, DataError, "a sample of t.biom has an empty name"),
        ({"data": np.array([5, np.nan, 2, 7])}, DataError, "nan of the taxon 't1' in .*'b'"),
        ({"data": np.array([5, np.inf, 2, 7])}, DataError, "inf of the taxon 't1'"),
        ({"data": np.array([5, -3, 2, 7])}, DataError, "-3 of the taxon 't1'"),
        ({"data": np.array([b"5", b"3", b"2", b"7"])}, DataError, "no counts of reads"),
    ],
)
def test_biom_two_that_contradicts_itself(tmp_path, other, kind, words):
    with pytest.raises(kind, match=words):
        mg.read(biom2(tmp_path / "t.biom", **other))


def test_a_biom_file_that_states_more_than_fits_in_memory(tmp_path):
    path = biom2(tmp_path / "t.biom")
    with h5py.File(path, "a") as file:
        del file["observation/matrix/data"]
        file.create_dataset("observation/matrix/data", shape=(10**12,), dtype="f8", chunks=(1000,))
    with pytest.raises(FileError, match="states 1,000,000,000,000 entries"):
        mg.read(path)


def test_another_file_of_hdf_five(tmp_path):
    with h5py.File(tmp_path / "t.biom", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(FileError, match=r"t\.biom is not a BIOM table"):
        mg.read(tmp_path / "t.biom")
    whole = biom2(tmp_path / "whole.biom").read_bytes()
    (tmp_path / "t.biom").write_bytes(whole[:900])
    with pytest.raises(FileError, match="truncated file"):
        mg.read(tmp_path / "t.biom")


BIOM1 = {
    "format": "Biological Observation Matrix 1.0.0", "type": "OTU table", "matrix_type": "sparse",
    "rows": [{"id": "t1", "metadata": None}, {"id": "t2", "metadata": None}],
    "columns": [{"id": "a"}, {"id": "b"}], "shape": [2, 2], "data": [[0, 0, 5], [1, 1, 3]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": [[0, 9, 5]]}, "outside its 2 samples"),
        ({"data": [[0, -1, 5]]}, "outside its 2 samples"),
        ({"data": [[0, 0.5, 5]]}, "whole numbers"),
        ({"data": [[0, 0]]}, "an entry is row, column and count"),
        ({"data": [[0, 0, "five"]]}, "no counts of reads"),
        ({"data": [[0, 0, 5], [0, 0, 3]]}, "'a' has the taxon 't1' twice"),
        ({"data": {"a": 1}}, "no list 'data'"),
        ({"rows": None}, "no list 'rows'"),
        ({"rows": [{}, {}]}, "'id'"),
        ({"shape": [5, 5]}, "stated as 5 x 5, its names are 2 x 2"),
        ({"matrix_type": "odd"}, "matrix_type is 'odd', not sparse or dense"),
        ({"matrix_type": "dense", "data": [[5, 0]]}, "data are not 2 x 2"),
    ],
)
def test_biom_one_that_contradicts_itself(tmp_path, other, words):
    path = tmp_path / "t.biom"
    path.write_text(json.dumps({**BIOM1, **other}))
    with pytest.raises((DataError, FileError), match=words):
        mg.read(path)


def test_dense_biom_one(tmp_path):
    path = tmp_path / "t.biom"
    path.write_text(json.dumps({**BIOM1, "matrix_type": "dense", "data": [[5, 0], [0, 3]]}))
    assert cells(mg.read(path)) == {("a", "t1"): 5, ("b", "t2"): 3}


COUNTS = np.array([[1, 0, 3], [0, 2, 0]])
BY_ROW = {
    "type": "csr_matrix", "data": np.array([1, 3, 2]), "indices": np.array([0, 2, 1]),
    "indptr": np.array([0, 2, 3]),
}  # fmt: skip
BY_COLUMN = {
    "type": "csc_matrix", "data": np.array([1, 2, 3]), "indices": np.array([0, 1, 0]),
    "indptr": np.array([0, 1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("X", [COUNTS, BY_ROW, BY_COLUMN])
def test_anndata_dense_and_sparse(tmp_path, X):
    table = mg.read(anndata(tmp_path / "t.h5ad", X))
    assert cells(table) == {("a", "t1"): 1, ("a", "t3"): 3, ("b", "t2"): 2}


@pytest.mark.parametrize(
    ("X", "words"),
    [
        ({**BY_ROW, "indices": np.array([0, 9, 1])}, "outside its 2 samples and 3 taxa"),
        ({**BY_ROW, "indptr": np.array([0, 2, 30])}, PLACES),
        (COUNTS.T, "stated as 3 x 2, its names are 2 x 3"),
        (-COUNTS, "-1 of the taxon 't1' in the sample 'a'"),
        (np.where(COUNTS == 3, np.nan, COUNTS), "nan of the taxon 't3'"),
    ],
)
def test_anndata_that_contradicts_itself(tmp_path, X, words):
    with pytest.raises((DataError, FileError), match=words):
        mg.read(anndata(tmp_path / "t.h5ad", X))


def test_anndata_of_a_sample_twice(tmp_path):
    with pytest.raises(DataError, match="sample 'a' occurs twice"):
        mg.read(anndata(tmp_path / "t.h5ad", COUNTS, samples=("a", "a")))
