"""Small files that unpack to much are refused in words, with the limit and how to raise it."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ranef.cli.compression import Limit, decompressed
from ranef.cli.delimited import Dialect
from ranef.cli.workbook import read_workbook
from ranef.errors import FileError
from ranef.solve import resources
from ranef.solve.room import VARIABLE, check_room, file_bytes, room


def packed(path: Path, head: bytes, line: bytes, n_bytes: int) -> Path:
    """Write a gzip file of one line again and again, as members of one megabyte each."""
    block = line * (2**20 // len(line))
    member = gzip.compress(block)
    path.write_bytes(gzip.compress(head) + member * (n_bytes // len(block)))
    return path


def kraken(folder: Path) -> None:
    from ranef import metagenomics as mg

    line = b"1.0\t1\t1\tS\t562\tEscherichia coli\n"
    mg.read(packed(folder / "a.report.gz", line, line, 20_000_000))


def biom1(folder: Path) -> None:
    from ranef import metagenomics as mg

    mg.read(packed(folder / "a.biom.gz", b'{"data":[', b"[0,0,1],", 20_000_000))


def biom2(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from ranef import metagenomics as mg

    with h5py.File(folder / "a.biom", "w") as file:
        for part in ("observation", "sample"):
            file[f"{part}/ids"] = np.array([b"a"])
        where = file.create_group("observation/matrix")
        for name in ("data", "indices", "indptr"):
            where.create_dataset(name, (10**8,), chunks=(10**6,), dtype="f8", compression="gzip")
    assert (folder / "a.biom").stat().st_size < 100_000
    mg.read(folder / "a.biom")


def h5ad(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from ranef import metagenomics as mg

    with h5py.File(folder / "a.h5ad", "w") as file:
        for part in ("obs", "var"):
            file[f"{part}/_index"] = np.array([b"a"])
        file.create_dataset("X", (10**4, 10**4), chunks=(100, 100), dtype="f8", compression="gzip")
    mg.read(folder / "a.h5ad")


def bimbam(folder: Path) -> None:
    from ranef import gwas

    gwas.read_genotypes(packed(folder / "a.geno.gz", b"rs1, A, C", b", 1", 20_000_000))


def bim(folder: Path) -> None:
    from ranef import gwas

    (folder / "a.bed").write_bytes(b"\x6c\x1b\x01")
    (folder / "a.fam").write_bytes(b"1 1 0 0 1 1\n")
    with (folder / "a.bim").open("wb") as stream:
        stream.truncate(10**9)
    gwas.read_genotypes(folder / "a.bed")


def nifti(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    from ranef.fields.imaging.reading import read_map

    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((2000, 2000, 2000))
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    (folder / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1004)))
    read_map(folder / "a.nii.gz", "the effect of 'a'")


def mgz(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    from ranef.fields.imaging.reading import read_map

    stream = io.BytesIO()
    header = nib.freesurfer.MGHImage(np.zeros((2, 2, 2), np.float32), np.eye(4)).header
    header["dims"] = (2000, 2000, 2000, 1)
    stream.write(header.binaryblock)
    (folder / "a.mgz").write_bytes(gzip.compress(stream.getvalue() + bytes(1000)))
    read_map(folder / "a.mgz", "the effect of 'a'")


def gifti(folder: Path) -> None:
    pytest.importorskip("nibabel")
    import base64
    import zlib

    from ranef.fields.imaging.reading import read_map

    data = base64.b64encode(zlib.compress(bytes(40_000_000))).decode()
    (folder / "a.gii").write_text(
        '<?xml version="1.0"?><GIFTI Version="1.0" NumberOfDataArrays="1"><DataArray '
        'Intent="NIFTI_INTENT_SHAPE" DataType="NIFTI_TYPE_FLOAT32" ArrayIndexingOrder='
        '"RowMajorOrder" Dimensionality="1" Dim0="10000000" Encoding="GZipBase64Binary" '
        f'Endian="LittleEndian"><Data>{data}</Data></DataArray></GIFTI>'
    )
    read_map(folder / "a.gii", "the effect of 'a'")


def spss(folder: Path) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    import pandas as pd

    from ranef.fields.diary.exports import read_export

    table = pd.DataFrame({f"v{k}": np.zeros(50_000) for k in range(40)})
    pyreadstat.write_sav(table, folder / "a.sav", row_compress=True)
    read_export(folder / "a.sav")


READERS: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (kraken, biom1, biom2, h5ad, bimbam, bim, nifti, mgz, gifti, spss)
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_fields_state_the_limit_and_how_to_raise_it(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.02")
    with pytest.raises(FileError, match=rf"(?s)limit is 0\.02 GB.*{VARIABLE}"):
        READERS[reader](tmp_path)


def sheet(rows: str) -> bytes:
    """Return a workbook whose one sheet has these rows."""
    openpyxl = pytest.importorskip("openpyxl")
    plain, out = io.BytesIO(), io.BytesIO()
    openpyxl.Workbook().save(plain)
    with zipfile.ZipFile(plain) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
            text = f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
            after.writestr(name, text if name.endswith("sheet1.xml") else before.read(name))
    return out.getvalue()


def test_a_cell_far_to_the_right_in_each_row_is_bounded() -> None:
    rows = "".join(f'<row r="{k}"><c r="XFD{k}"><v>1</v></c></row>' for k in range(1, 101))
    with pytest.raises(FileError, match="max-gb"):
        read_workbook(sheet(rows), "'a.xlsx'", Dialect(), None, Limit(0.02))


def test_one_cell_far_below_takes_no_more_than_it_holds() -> None:
    head = '<c r="A1" t="inlineStr"><is><t>y</t></is></c>'
    rows = f'<row r="1">{head}</row><row r="2"><c r="A2"><v>1</v></c></row><row r="9000"/>'
    data, _, place = read_workbook(sheet(rows), "'a.xlsx'", Dialect(), None, Limit(0.02))
    assert data["y"].tolist() == [1]
    assert place is not None


def test_cells_count_and_not_only_letters() -> None:
    text = b"y,x,g\n" + b"1,2,a\n" * 100_000
    assert Limit(0.1).read(io.BytesIO(text), "'a'", text=True) == text
    with pytest.raises(FileError, match="max-gb"):
        Limit(0.01).read(io.BytesIO(text), "'a'", text=True)


def test_long_texts_that_a_dictionary_shortens_are_counted(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from ranef.cli.reading import Reading, read_table

    path = tmp_path / "a.parquet"
    words = pa.array(["a" * 10_000]).take(pa.array(np.zeros(5000, int)))
    parquet.write_table(pa.table({"y": np.zeros(5000), "g": words}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(FileError, match="max-gb"):
        read_table(str(path), Reading(gigabytes=0.02))
    assert len(read_table(str(path), Reading(gigabytes=1)).data) == 5000


def test_what_fits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.001")
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_bytes(path, 1.0, "'a'") == b"abc"
    for wrong in ("0", "-1", "much"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(FileError, match="number of GB"):
            check_room(1.0, "'a'")
    monkeypatch.delenv(VARIABLE)
    assert room()[1].startswith("half")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless device here")
def test_endless_devices_and_pipes_are_no_counts_and_no_genotypes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranef import gwas
    from ranef import metagenomics as mg

    monkeypatch.setenv(VARIABLE, "0.02")
    pipe = tmp_path / "a.geno"
    os.mkfifo(pipe)
    for path in ("/dev/zero", pipe):
        with pytest.raises(FileError, match="no file, but a folder, device or pipe"):
            mg.read(path)
    with pytest.raises(FileError, match="no file, but a folder, device or pipe"):
        gwas.read_genotypes(pipe)
    with pytest.raises(FileError, match=VARIABLE):
        file_bytes(Path("/dev/zero"), 1.0, "'zero'")


def test_a_limit_of_addresses_is_one_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**6, 10**6))
    if Path("/proc/self/statm").exists():
        assert resources.available_memory() == 0


def test_a_biom_table_that_fits_is_read(tmp_path: Path) -> None:
    from ranef import metagenomics as mg

    table = {
        "rows": [{"id": "t", "metadata": None}], "columns": [{"id": "s"}], "shape": [1, 1],
        "matrix_type": "dense", "data": [[7]],
    }  # fmt: skip
    path = tmp_path / "a.biom.gz"
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    assert mg.read(path)["reads"].tolist() == [7]


@pytest.mark.parametrize("hurt", [lambda c: c[:-9], lambda c: c[:10] + b"\xff" * 9 + c[10:]])
def test_damaged_gzip_is_said_to_be_damaged(hurt: Callable[[bytes], bytes], tmp_path: Path) -> None:
    from ranef import metagenomics as mg

    path = tmp_path / "a.report.gz"
    path.write_bytes(hurt(gzip.compress(b"1.0\t1\t1\tS\t562\tEscherichia coli\n" * 9)))
    with pytest.raises(FileError, match="is a damaged gzip file: "):
        mg.read(path)


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("verb", [["fit", "y ~ 1 + (1 | g)"], ["metagenomics", "screen"]])
def test_links_that_go_in_a_circle_end_in_a_sentence(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ranef.cli.main import main

    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    sheet = ["--samples", str(one)] if verb[0] == "metagenomics" else []
    assert main([*verb, str(one), *sheet]) in (2, 3)
    said = capsys.readouterr().err
    assert "one" in said
    assert "bug" not in said


def book(edit: Callable[[str, bytes], bytes]) -> bytes:
    """Return a workbook of y, g and three rows, its parts edited by name."""
    openpyxl = pytest.importorskip("openpyxl")
    plain, out = io.BytesIO(), io.BytesIO()
    whole = openpyxl.Workbook()
    for row in (["y", "g"], [1, "a"], [2, "b"], [3, "c"]):
        whole.active.append(row)
    whole.save(plain)
    with zipfile.ZipFile(plain) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, edit(name, before.read(name)))
    return out.getvalue()


@pytest.mark.parametrize("said", ["A1", "A1:B2", "A1:XFD1048576"])
def test_what_a_sheet_says_of_its_size_loses_no_rows(said: str) -> None:
    content = book(lambda _, part: part.replace(b'ref="A1:B4"', f'ref="{said}"'.encode()))
    assert content != book(lambda _, part: part)
    data, _, _ = read_workbook(content, "'a.xlsx'", Dialect(), None, Limit(0.02))
    assert data["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("part", "mark", "piece"),
    [("sheet1.xml", b"</sheetData>", b"<row/>"), ("styles.xml", b"<fonts", b" ")],
)
def test_parts_of_a_workbook_count_as_what_they_become(
    part: str, mark: bytes, piece: bytes
) -> None:
    content = book(
        lambda name, old: old.replace(mark, piece * 600_000 + mark) if name.endswith(part) else old
    )
    with pytest.raises(FileError, match="max-gb"):
        decompressed(content, "'a.xlsx'", Limit(0.02))
    assert decompressed(book(lambda _, old: old), "'a.xlsx'", Limit(0.02)).startswith(b"PK")


def test_the_variable_limits_tables_of_the_command_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranef.cli.reading import Reading, read_table

    monkeypatch.setenv(VARIABLE, "0.001")
    path = tmp_path / "a.csv"
    path.write_text("y,g\n" + "1,a\n" * 20_000)
    with pytest.raises(FileError, match=rf"0\.001 GB \(which .*{VARIABLE} states\).*max-gb"):
        read_table(str(path), Reading())
    assert len(read_table(str(path), Reading(gigabytes=1)).data) == 20_000


def test_lists_in_cells_are_refused_where_they_are_used(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from ranef.cli.reading import Reading, read_table
    from ranef.errors import DataError

    path = tmp_path / "a.parquet"
    records = [{"a": 1}, {"a": 2}]
    parquet.write_table(pa.table({"y": [1.0, 2.0], "few": [[1], [2]], "who": records}), path)
    found = read_table(str(path), Reading(formulas="y ~ 1"))
    assert list(found.data) == ["y"]
    assert found.notes[0] == "column 'few' holds lists or records and is left out"
    for name in ("few", "who"):
        with pytest.raises(DataError, match=f"{name}' holds lists or records, not one value a row"):
            read_table(str(path), Reading(formulas=f"y ~ {name}"))


def test_a_response_that_no_square_holds_is_said_to_reach_too_far() -> None:
    import ranef
    from ranef.errors import ModelError

    yields = ranef.data.load("Dyestuff")
    yields["Yield"] = yields["Yield"].astype(float)
    for far in (-8.9e307, 1e160):
        yields.loc[3, "Yield"] = far
        with pytest.raises(ModelError, match="Yield reaches too far to be squared: it goes to "):
            ranef.lmm("Yield ~ 1 + (1 | Batch)", yields)
    yields.loc[3, "Yield"] = 1e150
    assert ranef.lmm("Yield ~ 1 + (1 | Batch)", yields).sigma == pytest.approx(1e150 / 30**0.5)
