"""Arrays in chunks: VCF-Zarr stores, and Zarr arrays that `from_array` was handed."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.bounds import bounded_store, check_array
from ranef.fields.gwas.dosages import DosageBlock
from ranef.fields.gwas.extras import package, reason, samples_known, samples_named, variants_of
from ranef.fields.gwas.genotypes import (
    Block,
    Genotypes,
    PackedBlock,
    Samples,
    Variants,
    check_dosages,
    pack,
)
from ranef.solve.room import check_room

__all__ = ["ChunkedArray", "VcfZarr", "is_chunked"]

DOSAGES = ("call_DS", "call_dosage")
CALLS = "call_genotype"
BYTES_OF_COPY = 8


def is_chunked(given: Any) -> bool:
    """Whether an array is of Zarr's kind: read by pieces."""
    parts = ("shape", "dtype", "chunks", "get_orthogonal_selection")
    return all(hasattr(given, part) for part in parts)


class ChunkedArray(Genotypes):
    """A Zarr array of N samples by m variants, whole numbers or dosages, read in blocks."""

    def __init__(self, array: Any, samples: Samples, variants: Variants) -> None:
        self.array, self.samples, self.variants = array, samples, variants
        self.name = "a Zarr array"
        self.calls = np.dtype(array.dtype).kind in "iub"

    def read(self, start: int, stop: int) -> Block:
        return self._block(slice(start, stop), self.variants.id[start:stop])

    def take(self, rows: Any) -> Block:
        rows = np.asarray(rows, dtype=np.intp)
        return self._block(rows, self.variants.id[rows])

    def _block(self, rows: Any, ids: Any) -> Block:
        found = self.array.get_orthogonal_selection((slice(None), rows))
        values = np.ascontiguousarray(np.asarray(found).T)
        kinds = self.variants.kinds[rows]
        if self.calls:
            calls = values.astype(np.int64)
            check_dosages(np.where(calls < 0, 0, calls), self.name, ids)
            return PackedBlock(pack(np.clip(calls, -1, 2).astype(np.int8)), kinds)
        check_dosages(values, self.name, ids)
        return DosageBlock(values, kinds, self.name)


class VcfZarr(Genotypes):
    """A VCF-Zarr store (bio2zarr's, sgkit's), read in blocks from the disk.

    The effect is that of ALT; dosages (``call_DS`` or ``call_dosage``) where the store has them,
    else calls.

    Parameters
    ----------
    path : path
        A folder, or a .zip of one.
    field : {"GT", "DS"}, optional
    samples : Samples, optional
        Families and sexes of the store's samples.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        field: str | None = None,
        samples: Samples | None = None,
    ) -> None:
        self.path = arguments.path(path)
        if not self.path.exists():
            raise FileError(f"there is no file {str(self.path)!r}")
        zarr = package("zarr", self.path, "a Zarr store")
        try:
            store = zarr.open_group(bounded_store(zarr, self.path), mode="r")
        except FileError:
            raise
        except Exception as error:  # of many kinds
            raise DataError(f"{str(self.path)!r} is no Zarr store: {reason(error)}") from None
        which, self._array = self._genotypes(store, field)
        check_array(self._array, f"{which} of {str(self.path)!r}", whole=False)
        each = np.dtype(self._array.dtype).itemsize + BYTES_OF_COPY
        self._bytes_of_row = float(np.prod(self._array.shape[1:], dtype=float)) * each
        self.calls = which == CALLS
        self.name = f"{self.path} ({which})"
        own = samples_named(_texts(self._column(store, "sample_id")), self.path)
        self.samples = samples_known(own, samples, self.path)
        self.variants = self._variants(store)
        shape = (len(self.variants), len(self.samples))
        if self._array.shape[:2] != shape:
            raise DataError(
                f"{self.name!r} is {self._array.shape[:2]}, and the store names {shape[0]:,} "
                f"variants and {shape[1]:,} samples"
            )

    def _genotypes(self, store: Any, field: Any) -> tuple[str, Any]:
        if field not in (None, "GT", "DS"):
            raise ModelError(f"field is one of 'GT' and 'DS' of a Zarr store, not {field!r}")
        dosages = [name for name in DOSAGES if name in store and field != "GT"]
        names = [*dosages, *([CALLS] if CALLS in store and field != "DS" else [])]
        if not names:
            raise DataError(
                f"{str(self.path)!r} has no {CALLS if field != 'DS' else DOSAGES[0]}: it is no "
                "VCF-Zarr store of genotypes; hand a plain array to gwas.from_array"
            )
        return names[0], store[names[0]]

    def _column(self, store: Any, name: str) -> Any:
        if name not in store:
            raise DataError(f"{str(self.path)!r} has no array {name}: it is no VCF-Zarr store")
        try:
            check_array(store[name], f"{name} of {str(self.path)!r}")
            return np.asarray(store[name][:])
        except FileError:
            raise
        except Exception as error:  # what zarr makes of damaged bytes has no common base
            raise DataError(f"{str(self.path)!r}: {name} is damaged: {reason(error)}") from None

    def _variants(self, store: Any) -> Variants:
        contigs = _texts(self._column(store, "contig_id"))
        codes = self._column(store, "variant_contig")
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(contigs):
            raise DataError(f"{str(self.path)!r}: variant_contig and contig_id disagree")
        alleles = self._column(store, "variant_allele")
        named = [[a for a in _texts(row) if a] for row in alleles]
        ids = (
            _texts(self._column(store, "variant_id"))
            if "variant_id" in store
            else ["."] * len(codes)
        )
        return variants_of(
            [contigs[k] for k in codes.tolist()], self._column(store, "variant_position"), ids,
            [",".join(row[1:]) or "." for row in named], [row[0] if row else "." for row in named],
            [len(row) > 2 for row in named],
        )  # fmt: skip

    def read(self, start: int, stop: int) -> Block:
        return self._block(slice(start, stop))

    def take(self, rows: Any) -> Block:
        return self._block(np.asarray(rows, dtype=np.intp))

    def _block(self, rows: Any) -> Block:
        check_room(float(len(self.variants.id[rows])) * self._bytes_of_row, repr(self.name))
        try:
            everything = (slice(None),) * (self._array.ndim - 1)
            found = np.asarray(self._array.get_orthogonal_selection((rows, *everything)))
        except FileError:
            raise
        except Exception as error:  # what zarr makes of damaged bytes has no common base
            raise DataError(f"{self.name!r} is damaged: {reason(error)}") from None
        kinds, ids = self.variants.kinds[rows], self.variants.id[rows]
        several = None if self.variants.several is None else self.variants.several[rows]
        if self.calls:
            calls = _copies(found, self.name, ids)
            if several is not None:
                calls[several] = -1
            return PackedBlock(pack(calls), kinds)
        values = found.reshape(len(found), found.shape[1], -1)[:, :, 0].astype(np.float32)
        if several is not None:
            values[several] = np.nan
        check_dosages(values, self.name, ids)
        return DosageBlock(values, kinds, self.name)


def _texts(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]


def _copies(codes: NDArray[Any], name: str, ids: Any) -> NDArray[np.int8]:
    """Copies of ALT of codes, (b, N, ploidy): -1 missing, -2 no allele; a haploid's count twice."""
    codes = codes if codes.ndim == 3 else codes[:, :, None]
    there = codes != -2
    ploidy = there.sum(axis=2)
    if (ploidy > 2).any():
        bad = ids[int(np.flatnonzero((ploidy > 2).any(axis=1))[0])]
        raise DataError(
            f"{name!r}: variant {bad!r} has samples with {int(ploidy.max())} alleles; one and two "
            "are read"
        )
    copies = (there & (codes > 0)).sum(axis=2) * np.where(ploidy == 1, 2, 1)
    missing = (codes == -1).any(axis=2) | (ploidy == 0)
    out: NDArray[np.int8] = np.where(missing, -1, copies).astype(np.int8)
    return out
