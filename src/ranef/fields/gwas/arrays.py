"""`from_array`: genotypes of an array; `read_genotypes`: of a file of any kind."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.elsewhere import explained
from ranef.errors import DataError, FileError, ModelError, row_text, suggestion
from ranef.fields.gwas.bgenfile import BgenFile
from ranef.fields.gwas.bimbam import BIMBAM_ENDINGS, read_bimbam
from ranef.fields.gwas.chunked import ChunkedArray, VcfZarr, is_chunked
from ranef.fields.gwas.dosages import Dosages
from ranef.fields.gwas.extras import samples_given
from ranef.fields.gwas.genotypes import (
    Bytes,
    Genotypes,
    Packed,
    Samples,
    Texts,
    Variants,
    check_dosages,
    pack,
)
from ranef.fields.gwas.pgen import PgenFile
from ranef.fields.gwas.plink import SEXES, BedFile
from ranef.fields.gwas.vcf import VCF_ENDINGS, read_vcf
from ranef.formula.labels import level_text, list_text
from ranef.tables import Table

__all__ = ["from_array", "open_genotypes", "read_genotypes"]

PIECE = 4096
ZARR_ENDINGS = (".zarr", ".vcz", ".zarr.zip")


@explained
def from_array(G: Any, *, samples: Any, variants: Any = None) -> Genotypes:
    """Return the genotypes of an array, for `scan`, `grm` and the others.

    Parameters
    ----------
    G : (N, m) array
        Copies of the effect allele of N samples at m variants, from 0 to 2; NaN, or a negative
        whole number, where missing, or masked. Whole numbers are packed into two bits each; others
        are expected copies (dosages). A Zarr array is read in blocks, as they are needed. Rows and
        columns of a pandas table whose labels are text are matched to samples and variants by them.
    samples : sequence of str, or table
        Names of the samples; or a table with a column ``IID`` and perhaps ``FID`` and ``sex`` (1
        male, 2 female).
    variants : sequence of str, or table, optional
        Names of the variants; or a table with a column ``variant`` and perhaps ``chromosome``,
        ``position``, ``effect_allele``, ``other_allele``.

    Returns
    -------
    Genotypes

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import gwas
    >>> gwas.from_array(np.array([[0, 1], [2, -1], [1, 0]]), samples=["a", "b", "c"])
    <Genotypes: 3 samples, 2 variants, an array>
    """
    values = G if is_chunked(G) else _plain(G)
    if len(values.shape) != 2 or np.dtype(values.dtype).kind not in "iufb":
        raise DataError(
            "G is a matrix of numbers, a row a sample and a column a variant, not an array of "
            f"type {values.dtype} with {len(values.shape)} dimensions"
        )
    who = _samples(samples, values.shape[0])
    what = _variants(_labels(G, 1) if variants is None else variants, values.shape[1])
    if not len(who) or not len(what):
        raise DataError("G holds no genotypes; give samples x variants")
    for axis, names in ((0, list(who.iid)), (1, what.id.tolist())):
        own = _labels(G, axis)
        if own is not None and own != names:
            values = np.take(values, _order(own, names, axis), axis=axis)
    if is_chunked(G):
        return ChunkedArray(G, who, what)
    by_variant = values.T
    name = "an array"
    if values.dtype.kind not in "iub":
        check_dosages(by_variant, name, what.id)
        if not _whole(by_variant):
            return Dosages(name, who, what, np.ascontiguousarray(by_variant))
    return Packed(name, who, what, _packed(by_variant, name, what.id))


def _plain(G: Any) -> NDArray[Any]:
    """The values of an array or a table, NaN where masked."""
    if isinstance(G, np.ma.MaskedArray) and np.dtype(G.dtype).kind in "iufb":
        return np.where(np.ma.getmaskarray(G), np.nan, np.ma.getdata(G))
    return np.asarray(G)


def _labels(G: Any, axis: int) -> list[str] | None:
    """Names of the rows or columns of a pandas table; None where they are numbers."""
    axes = getattr(G, "axes", None)
    if not isinstance(axes, list) or len(axes) != 2 or axes[axis].dtype.kind in "iu":
        return None
    return [level_text(label) for label in axes[axis].tolist()]


def _order(own: list[str], names: list[str], axis: int) -> list[int]:
    """Places in G of the rows or columns of these names."""
    what, whose = (("rows", "samples"), ("columns", "variants"))[axis]
    place = {name: k for k, name in enumerate(own)}
    strange = [name for name in names if name not in place]
    if strange or len(place) < len(own) or len(set(names)) < len(names):
        raise DataError(
            f"the {what} of G are named {list_text(own[:3])} ..., and {whose} names "
            f"{list_text(names[:3])} ...: names do not agree one by one; give both the same, or "
            "the bare numbers (G.to_numpy())"
        )
    return [place[name] for name in names]


def _packed(values: NDArray[Any], name: str, ids: Texts) -> Bytes:
    """Pack whole numbers of copies, a stretch of variants at a time."""
    out = np.empty((len(values), -(-values.shape[1] // 4)), dtype=np.uint8)
    for k in range(0, len(values), PIECE):
        part = values[k : k + PIECE]
        calls = np.where(np.isnan(part), -1, part) if part.dtype.kind == "f" else part
        calls = calls.astype(np.int64)
        check_dosages(np.where(calls < 0, 0, calls), name, ids[k : k + PIECE])
        out[k : k + PIECE] = pack(np.clip(calls, -1, 2).astype(np.int8))
    return out


def _whole(values: NDArray[Any]) -> bool:
    return all(
        bool(np.all(np.isnan(part) | (part == np.rint(part))))
        for part in (values[k : k + PIECE] for k in range(0, len(values), PIECE))
    )


def _samples(given: Any, count: int) -> Samples:
    if _is_table(given):
        table = Table.of(given)
        iid = _texts(table, "IID", "samples")
        fid = _texts(table, "FID", "samples") if "FID" in table else ["0"] * len(iid)
        sex = _texts(table, "sex", "samples") if "sex" in table else ["0"] * len(iid)
        codes = np.array([SEXES.get(s.upper(), 0) for s in sex], dtype=np.int32)
    else:
        iid = _names("samples", given)
        fid, codes = ["0"] * len(iid), np.zeros(len(iid), dtype=np.int32)
    if len(iid) != count:
        raise DataError(f"G has {count:,} rows and samples names {len(iid):,}")
    _once(list(zip(fid, iid, strict=True)), "samples")
    return Samples(tuple(fid), tuple(iid), codes)


def _variants(given: Any, count: int) -> Variants:
    if given is None:
        given = [f"v{k + 1}" for k in range(count)]
    if not _is_table(given):
        given = {"variant": _names("variants", given)}
    table = Table.of(given)
    names = _texts(table, "variant", "variants")
    if len(names) != count:
        raise DataError(f"G has {count:,} columns and variants names {len(names):,}")

    def column(name: str, usual: str) -> Texts:
        found = _texts(table, name, "variants") if name in table else [usual] * count
        return np.array(found, dtype=object)

    position = np.arange(1, count + 1, dtype=np.int64)
    if "position" in table:
        own = table.numeric("position")
        if not np.isfinite(own).all():
            raise DataError(
                "column 'position' of variants has missing or infinite values; fill them in, or "
                "leave the column out"
            )
        if (own != np.rint(own)).any():
            raise DataError(
                "column 'position' of variants has values that are no whole numbers; give base "
                "pairs"
            )
        position = own.astype(np.int64)
    return Variants(
        column("chromosome", "1"), np.array(names, dtype=object), position,
        column("effect_allele", "A"), column("other_allele", "B"),
    )  # fmt: skip


def _is_table(given: Any) -> bool:
    return hasattr(given, "columns") or isinstance(given, dict)


def _texts(table: Table, name: str, whose: str) -> list[str]:
    if name not in table:
        raise DataError(f"{whose} has no column {name!r}; it has {list_text(table.columns)}")
    codes, levels = table.codes(name)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(f"column {name!r} of {whose} is missing in {row_text(row)}; fill it in")
    texts = [level_text(level) for level in levels]
    return [texts[code] for code in codes.tolist()]


def _names(what: str, given: Any) -> list[str]:
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise ModelError(f"{what} is a list of names or a table, not {type(given).__name__}")
    return [level_text(value) for value in given]


def _once(pairs: list[tuple[str, str]], what: str) -> None:
    if len(set(pairs)) < len(pairs):
        twice = [name for (_, name), count in Counter(pairs).items() if count > 1]
        raise DataError(f"{what} names {list_text(twice)} more than once")


@explained
def read_genotypes(
    path: str | PathLike[str],
    *,
    kind: str | None = None,
    samples: Any = None,
    field: str | None = None,
    annotation: str | PathLike[str] | None = None,
) -> Genotypes:
    """Return the genotypes of a file, for `scan`, `grm` and the others, which take a path as well.

    ==============  =======================================  =======================
    kind            files                                    the effect is that of
    ==============  =======================================  =======================
    ``"bed"``       PLINK 1: .bed, with .bim and .fam        the first allele (A1)
    ``"pgen"``      PLINK 2: .pgen, .pvar(.zst) and .psam    ALT
    ``"bgen"``      BGEN: .bgen, perhaps with .sample        the second allele
    ``"vcf"``       .vcf, .vcf.gz, .bcf                      ALT
    ``"zarr"``      VCF-Zarr: .zarr or .vcz, .zarr.zip       ALT
    ``"bimbam"``    .geno.txt, .bimbam, perhaps with .gz     the first allele
    ==============  =======================================  =======================

    All but PLINK 1 and BIMBAM need packages: ``pip install 'ranef[gwas]'``. VCF and BIMBAM are
    read once and kept packed; beyond half a gigabyte in a temporary file.

    Parameters
    ----------
    path : path-like
        A file, or the prefix of PLINK's.
    kind : str, optional
        Without it the ending of the file tells.
    samples : path or sequence of str, optional
        Names of the samples of a BGEN or BIMBAM file, in its order: a .sample, .fam or .psam, or
        a list. Of a VCF or a Zarr store a .fam or .psam gives families and sexes of the names.
    field : {"GT", "DS", "GP"}, optional
        What is read of a VCF or a Zarr store: calls, dosages, probabilities; the best it declares
        is dosages, then probabilities.
    annotation : path-like, optional
        Of BIMBAM: lines of variant, position and chromosome.

    Returns
    -------
    Genotypes

    Raises
    ------
    ranef.errors.FileError
        There is no such file, or a package that reads it is not installed.
    ranef.errors.DataError
        A file is damaged, truncated, of another kind, or does not fit the one beside it.

    Examples
    --------
    >>> import tempfile
    >>> from ranef import gwas
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = gwas.simulate(n=20, m=50, rng=1).save(f"{folder}/cohort")
    ...     len(gwas.read_genotypes(path).samples)
    20
    """
    given = arguments.path(path)
    name = given.name.lower()
    told = next((k for k, endings in KINDS.items() if name.endswith(endings)), None)
    if kind is None:
        kind = told or _kind_beside(given)
    elif arguments.choice("kind", kind, tuple(KINDS)) != (told or kind):
        raise ModelError(f"{str(path)!r} ends as a file of the kind {told}, not {kind}")
    for what, value, kinds in (
        ("samples", samples, ("bgen", "vcf", "zarr", "bimbam")), ("field", field, ("vcf", "zarr")),
        ("annotation", annotation, ("bimbam",)),
    ):  # fmt: skip
        if value is not None and kind not in kinds:
            raise ModelError(f"{what} does not apply to {str(path)!r}, a file of the kind {kind}")
    if kind == "pgen":
        return PgenFile(given)
    if kind == "bgen":
        return BgenFile(given, samples)
    if kind == "bimbam":
        return read_bimbam(given, samples, annotation)
    if kind == "bed":
        return BedFile(given)
    known = None if samples is None else samples_given(samples, None, given)
    return VcfZarr(given, field, known) if kind == "zarr" else read_vcf(given, field, known)


KINDS = {
    "bed": (".bed",),
    "pgen": (".pgen",),
    "bgen": (".bgen",),
    "vcf": VCF_ENDINGS,
    "zarr": ZARR_ENDINGS,
    "bimbam": BIMBAM_ENDINGS,
}


def _kind_beside(prefix: Path) -> str:
    """The kind of the file that begins with a prefix; of several the first of `KINDS`."""
    for kind, endings in KINDS.items():
        if any(prefix.with_name(prefix.name + ending).exists() for ending in endings):
            return kind
    if prefix.is_dir():
        return "zarr"
    if prefix.is_file():
        raise DataError(
            f"{str(prefix)!r} is of no known kind; genotypes end with "
            f"{list_text([e for k in KINDS.values() for e in k], 20)}"
        )
    near = [p.name for p in prefix.parent.glob("*")] if prefix.parent.is_dir() else []
    hint = suggestion(prefix.name + ".bed", near)
    raise FileError(
        f"there is no file {str(prefix) + '.bed'!r}{hint}, nor one of PLINK 2, BGEN, VCF, Zarr or "
        "BIMBAM of this name"
    )


def open_genotypes(given: Any) -> Genotypes:
    """Return the genotypes that a call was handed: a source, or a file."""
    if isinstance(given, Genotypes):
        return given
    if isinstance(given, (str, PathLike)):
        return read_genotypes(given)
    raise ModelError(
        "genotypes are the path or prefix of a file (PLINK, BGEN, VCF, BIMBAM, Zarr) or what "
        f"gwas.from_array returns, not {type(given).__name__}"
    )
