"""Files of genotypes and images that claim or unpack to much are refused before they are."""

from __future__ import annotations

import base64
import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gwas_formats import of_calls, write_bgen, write_pgen, write_vcf

from ranef import gwas
from ranef.errors import DataError, FileError
from ranef.fields.imaging.reading import read_map
from ranef.solve.room import VARIABLE

MEGA = 2**20
HEADING = (
    b"##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    b'##FORMAT=<ID=GT,Number=1,Type=String,Description="-">\n'
)
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
RECORD = b"1\t1\ta\tA\tC\t.\t.\t.\tGT\t0/1\t1/1\n"


def study() -> Any:
    return of_calls(np.array([[0, 1, 2, 1], [2, 1, 0, 0], [1, 1, 0, 2]]))


def vcf(path: Path, head: bytes, line: bytes, n_bytes: int, tail: bytes = b"") -> None:
    """Write a VCF as members of gzip, one line again and again."""
    block = line * (MEGA // len(line))
    members = gzip.compress(block) * (n_bytes // len(block))
    path.write_bytes(gzip.compress(head) + members + gzip.compress(tail))


def long_record(folder: Path) -> None:
    pytest.importorskip("cyvcf2")
    tail = b"\tC\t.\t.\t.\tGT\t0/1\t1/1\n"
    vcf(folder / "a.vcf.gz", HEADING + COLUMNS + b"1\t1\ta\t", b"A", 5 * MEGA, tail)
    gwas.read_genotypes(folder / "a.vcf.gz")


def many_records(folder: Path) -> None:
    pytest.importorskip("cyvcf2")
    vcf(folder / "a.vcf.gz", HEADING + COLUMNS, RECORD, 3 * MEGA)
    gwas.read_genotypes(folder / "a.vcf.gz")


def long_heading(folder: Path) -> None:
    pytest.importorskip("cyvcf2")
    vcf(folder / "a.vcf.gz", HEADING, b"##x=aaaaaaaaaa\n", 2 * MEGA, COLUMNS + RECORD)
    gwas.read_genotypes(folder / "a.vcf.gz")


def many_samples(folder: Path) -> None:
    pytest.importorskip("cyvcf2")
    vcf(folder / "a.vcf.gz", HEADING + COLUMNS.rstrip(), b"\tab", 2 * MEGA, b"\n")
    gwas.read_genotypes(folder / "a.vcf.gz")


def bcf(folder: Path) -> None:
    pytest.importorskip("cyvcf2")
    heading = HEADING + COLUMNS + b"\0"
    start = b"BCF\x02\x02" + struct.pack("<I", len(heading)) + heading
    packed = gzip.compress(start + struct.pack("<II", 2**31, 2**31) + bytes(40_000))
    (folder / "a.bcf").write_bytes(packed)
    gwas.read_genotypes(folder / "a.bcf")


def bgen(folder: Path) -> None:
    pytest.importorskip("bgen")
    path = write_bgen(study(), folder / "a.bgen")
    content = path.read_bytes()
    plain = 10 + 4 + 4 * 4  # bytes of a block of two alleles, 16 bits, four samples
    size = struct.pack("<I", plain)
    assert content.count(size) >= 3
    path.write_bytes(content.replace(size, struct.pack("<I", 2 * 10**9)))
    gwas.read_genotypes(path).read(0, 1)


def pvar(folder: Path) -> None:
    pytest.importorskip("pgenlib")
    import pyarrow as pa

    path = write_pgen(study(), folder / "a")
    path.with_suffix(".pvar").unlink()
    text = b"#CHROM\tPOS\tID\tREF\tALT\n" + b"1\t1\tr\tG\tA\n" * 100_000
    path.with_suffix(".pvar.zst").write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    gwas.read_genotypes(path)


def store(path: Path, **claims: Any) -> Path:
    """Write a VCF-Zarr store, some of whose arrays are made as they are claimed."""
    zarr = pytest.importorskip("zarr")
    true = {
        "sample_id": np.array(["a", "b", "c"]), "contig_id": np.array(["1"]),
        "variant_contig": np.zeros(4, np.int8), "variant_position": np.arange(1, 5),
        "variant_allele": np.array([["A", "C"]] * 4), "variant_id": np.array(list("wxyz")),
        "call_genotype": np.zeros((4, 3, 2), np.int8),
    }  # fmt: skip
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    for name, values in true.items():
        if name not in claims:
            root.create_array(name, data=values)
    for name, claim in claims.items():
        root.create_array(name, **claim)
    return path


def zarr_length(folder: Path) -> None:
    claim = {"shape": (10**11,), "chunks": (10**6,), "dtype": "i1"}
    gwas.read_genotypes(store(folder / "a.zarr", variant_contig=claim))


def zarr_text(folder: Path) -> None:
    claim = {"shape": (3,), "chunks": (3,), "dtype": "<U50000000"}
    gwas.read_genotypes(store(folder / "a.zarr", sample_id=claim))


def zarr_chunk(folder: Path) -> None:
    claim = {"shape": (4, 3, 2), "chunks": (10**5, 10**5, 2), "dtype": "i1"}
    gwas.read_genotypes(store(folder / "a.zarr", call_genotype=claim))


def zarr_ploidy(folder: Path) -> None:
    claim = {"shape": (4, 3, 10**9), "chunks": (4, 3, 10**5), "dtype": "i1"}
    gwas.read_genotypes(store(folder / "a.zarr", call_genotype=claim)).read(0, 4)


def zarr_zip(folder: Path) -> None:
    pytest.importorskip("zarr")
    with zipfile.ZipFile(folder / "a.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(".zgroup", bytes(30 * MEGA))
    gwas.read_genotypes(folder / "a.zarr.zip")


def _chunk(folder: Path, codec: str, content: bytes) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    claim = {
        "shape": (4,), "chunks": (4,), "dtype": "i4", "compressors": getattr(numcodecs, codec)()
    }  # fmt: skip
    path = store(folder / "a.zarr", variant_position=claim)
    (path / "variant_position" / "0").write_bytes(content)
    gwas.read_genotypes(path)


def zarr_gzip(folder: Path) -> None:
    _chunk(folder, "GZip", gzip.compress(bytes(MEGA)) * 30)


def zarr_zlib(folder: Path) -> None:
    _chunk(folder, "Zlib", zlib.compress(bytes(30 * MEGA)))


def _header(kind: type, start: int) -> bytes:
    header = kind()
    header.set_data_dtype(np.float32)
    header.set_data_shape((2, 2, 2))
    header["magic"] = b"n+1" if len(header.binaryblock) == 348 else b"n+2\0\r\n\x1a\n"
    header["vox_offset"] = start
    return bytes(header.binaryblock)


def nifti_extensions(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    content = _header(nib.Nifti1Header, 40 * MEGA) + b"\1\0\0\0" + bytes(40 * MEGA)
    (folder / "a.nii.gz").write_bytes(gzip.compress(content))
    read_map(folder / "a.nii.gz", "the effect of 'a'")


def cifti_axis(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    path = folder / "a.dscalar.nii"
    axis = nib.cifti2.BrainModelAxis.from_surface(np.arange(10), 10, "CortexLeft")
    axes = (nib.cifti2.ScalarAxis(["m"]), axis)
    nib.save(nib.Cifti2Image(np.zeros((1, 10), np.float32), header=axes), path)
    content, count = path.read_bytes(), b'IndexCount="10"'
    at = content.index(b"</CIFTI>")
    longer = content.replace(count, b'IndexCount="9999999"')
    spare = len(longer) - len(content)
    assert longer[at + spare + 8 : at + spare + 8 + spare].strip(b"\0") == b""
    path.write_bytes(longer[: at + spare + 8] + longer[at + 2 * spare + 8 :])
    read_map(path, "the effect of 'a'")


def _gifti(folder: Path, data: str, size: int, encoding: str = "GZipBase64Binary") -> Path:
    path = folder / "a.gii"
    path.write_text(
        '<?xml version="1.0"?><GIFTI Version="1.0" NumberOfDataArrays="1"><DataArray '
        'Intent="NIFTI_INTENT_SHAPE" DataType="NIFTI_TYPE_FLOAT32" ArrayIndexingOrder='
        f'"RowMajorOrder" Dimensionality="1" Dim0="{size}" Encoding="{encoding}" '
        'ExternalFileName="other.dat" ExternalFileOffset="0" '
        f'Endian="LittleEndian"><Data>{data}</Data></DataArray></GIFTI>'
    )
    return path


def gifti_section(folder: Path) -> None:
    pytest.importorskip("nibabel")
    data = base64.b64encode(zlib.compress(bytes(40 * MEGA))).decode()
    read_map(_gifti(folder, f"<![CDATA[{data}]]>", 10), "the effect of 'a'")


def gifti_size(folder: Path) -> None:
    pytest.importorskip("nibabel")
    data = base64.b64encode(zlib.compress(bytes(40))).decode()
    read_map(_gifti(folder, data, 10**11), "the effect of 'a'")


def gifti_packed(folder: Path) -> None:
    pytest.importorskip("nibabel")
    content = _gifti(folder, " " * 40 * MEGA, 10).read_bytes()
    (folder / "a.gii.gz").write_bytes(gzip.compress(content))
    read_map(folder / "a.gii.gz", "the effect of 'a'")


BOMBS: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (
        long_record, many_records, long_heading, many_samples, bcf, bgen, pvar, zarr_length,
        zarr_text, zarr_chunk, zarr_ploidy, zarr_zip, zarr_gzip, zarr_zlib, nifti_extensions,
        cifti_axis, gifti_section, gifti_size, gifti_packed,
    )
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_has_no_room_is_not_unpacked(
    bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.02")
    with pytest.raises(FileError, match=rf"(?s)limit is 0\.02 GB.*{VARIABLE}"):
        BOMBS[bomb](tmp_path)


def test_honest_files_are_read_within_a_small_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cyvcf2", "bgen", "pgenlib", "zarr"):
        pytest.importorskip(name)
    monkeypatch.setenv(VARIABLE, "0.0005")
    few = study()
    paths = [write_vcf(few, tmp_path / f"a.{e}") for e in ("vcf", "vcf.gz")]
    paths += [write_bgen(few, tmp_path / "b.bgen"), write_pgen(few, tmp_path / "c")]
    for path in [*paths, store(tmp_path / "d.zarr")]:
        assert len(gwas.read_genotypes(path).read(0, 3).kinds) == 3


def test_an_extension_beyond_the_header_is_damage(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    lie = b"\1\0\0\0" + struct.pack("<ii", 2**30, 6) + bytes(100)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(_header(nib.Nifti2Header, 640) + lie))
    with pytest.raises(FileError, match=r"an extension of its header takes 1,073,741,824 bytes"):
        read_map(tmp_path / "a.nii.gz", "the effect of 'a'")


def test_values_in_another_file_are_not_read(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    with pytest.raises(FileError, match=r"values in another file \('other.dat'\)"):
        read_map(_gifti(tmp_path, "", 10, "ExternalFileBinary"), "the effect of 'a'")


def test_a_cut_vcf_is_said_to_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cyvcf2")
    monkeypatch.setenv(VARIABLE, "0.02")
    content = gzip.compress(HEADING + COLUMNS + np.random.default_rng(1).bytes(9000))
    (tmp_path / "a.vcf.gz").write_bytes(content[:-900])
    with pytest.raises(DataError, match=r"damaged or truncated: Compressed file ended"):
        gwas.read_genotypes(tmp_path / "a.vcf.gz")


def test_stores_and_lists_that_are_none(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    pytest.importorskip("pgenlib")
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"is no Zarr store: File is not a zip file"):
        gwas.read_genotypes(tmp_path / "a.zarr.zip")
    path = write_pgen(study(), tmp_path / "b")
    path.with_suffix(".pvar").unlink()
    path.with_suffix(".pvar.zst").write_bytes(b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff")
    with pytest.raises(DataError, match=r"b.pvar.zst' cannot be read: "):
        gwas.read_genotypes(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_a_store_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    path = store(tmp_path / "a.zarr")
    chunk = path / "variant_position" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(FileError, match="is no file, but a device or pipe"):
        gwas.read_genotypes(path)
