"""Writers of genotype files for tests: VCF, VCF-Zarr, PLINK 2, BGEN and BIMBAM."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NAMES = [f"rs{k}" for k in range(1000)]


@dataclass
class Study:
    """Copies of ALT, (m, n), NaN where missing, and what names them."""

    dosages: np.ndarray
    chromosome: list[str]
    sex: list[int]
    names: list[str] = field(default_factory=list)
    haploid: np.ndarray | None = None

    def __post_init__(self) -> None:
        m, n = self.dosages.shape
        self.names = self.names or [f"S{k:03d}" for k in range(n)]
        self.ids = NAMES[:m]
        self.position = [1000 * (k + 1) for k in range(m)]
        if self.haploid is None:
            self.haploid = np.zeros((m, n), dtype=bool)

    @property
    def whole(self) -> bool:
        return bool(np.all(np.isnan(self.dosages) | (self.dosages == np.rint(self.dosages))))


def of_calls(calls: np.ndarray, sexes: bool = False) -> Study:
    """A study of calls, the last third on X and the last row on MT where there are sexes."""
    m, n = calls.shape
    dosages = np.where(calls < 0, np.nan, calls.astype(float))
    chromosome = [str(1 + k * 3 // m) for k in range(m)]
    sex = [1 + k % 2 for k in range(n)] if sexes else [0] * n
    haploid = np.zeros((m, n), dtype=bool)
    if sexes:
        chromosome = [{"3": "X"}.get(c, c) for c in chromosome]
        chromosome[-1] = "MT"
        haploid[[c == "X" for c in chromosome]] = np.array(sex) == 1
        haploid[-1] = True
        dosages = np.where(haploid & (dosages == 1), np.nan, dosages)
    return Study(dosages, chromosome, sex, haploid=haploid)


def of_dosages(m: int, n: int, seed: int) -> Study:
    """A study of dosages in steps of 1/128, which all formats hold exactly."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, (m, 1))
    values = np.clip(rng.binomial(2, p, (m, n)) + rng.normal(0, 0.2, (m, n)), 0, 2)
    values = np.rint(values * 128) / 128
    values[rng.random((m, n)) < 0.03] = np.nan
    return Study(values, [str(1 + k * 2 // m) for k in range(m)], [0] * n)


def write_fam(study: Study, path: Path) -> Path:
    lines = (f"0 {n} 0 0 {s} -9\n" for n, s in zip(study.names, study.sex, strict=True))
    path.write_text("".join(lines))
    return path


def write_vcf(study: Study, path: Path, gt: bool | None = None) -> Path:
    """Calls as GT, haploid where they are; else DS alone."""
    gt = study.whole if gt is None else gt
    head = "##fileformat=VCFv4.2\n" + "".join(
        f"##contig=<ID={c}>\n" for c in dict.fromkeys(study.chromosome)
    )
    kind = ("GT", "String", "1") if gt else ("DS", "Float", "A")
    head += f'##FORMAT=<ID={kind[0]},Number={kind[2]},Type={kind[1]},Description="-">\n'
    head += "\t".join(
        ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *study.names]
    )
    lines = [head]
    for k, row in enumerate(study.dosages):
        cells = [_cell(x, bool(h), gt) for x, h in zip(row, study.haploid[k], strict=True)]
        lines.append("\t".join([study.chromosome[k], str(study.position[k]), study.ids[k], "G",
                                "A", ".", ".", ".", kind[0], *cells]))  # fmt: skip
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def _cell(x: float, haploid: bool, gt: bool) -> str:
    if np.isnan(x):
        return "." if haploid or not gt else "./."
    if not gt:
        return f"{x:.7f}"
    if haploid:
        return str(int(x) // 2)
    return {0: "0/0", 1: "0|1", 2: "1/1"}[int(x)]


def write_bgen(study: Study, path: Path, bits: int = 16, phased: bool = False) -> Path:
    from bgen import BgenWriter

    with BgenWriter(str(path), len(study.names), study.names) as out:
        for k, row in enumerate(study.dosages):
            p = np.stack([np.clip(1 - row, 0, 1), 1 - np.abs(1 - row), np.clip(row - 1, 0, 1)], 1)
            ploidy = np.where(study.haploid[k], 1, 2).astype(np.uint8)
            one = study.haploid[k]
            p[one] = np.stack([1 - row[one] / 2, row[one] / 2, np.full(one.sum(), np.nan)], 1)
            p = p[:, :2] if one.all() else p
            if phased:
                a = np.clip(row, 0, 1)
                b = row - a
                p = np.stack([1 - a, a, 1 - b, b], 1)
            out.add_variant(
                "", study.ids[k], study.chromosome[k], study.position[k], ["G", "A"], p,
                ploidy=ploidy if one.any() else 2, phased=phased, bit_depth=bits,
            )  # fmt: skip
    lines = ["ID_1 ID_2 missing sex", "0 0 0 D"]
    lines += [f"0 {n} 0 {s}" for n, s in zip(study.names, study.sex, strict=True)]
    path.with_suffix(".sample").write_text("\n".join(lines) + "\n")
    return path


def write_pgen(study: Study, prefix: Path) -> Path:
    import pgenlib

    m, n = study.dosages.shape
    path = prefix.with_suffix(".pgen")
    writer = pgenlib.PgenWriter(
        str(path).encode(), n, variant_ct=m, nonref_flags=False, hardcall_phase_present=False,
        dosage_present=not study.whole,
    )  # fmt: skip
    for row in study.dosages:
        filled = np.where(np.isnan(row), -9, row)
        if study.whole:
            writer.append_biallelic(filled.astype(np.int8))
        else:
            writer.append_dosages(filled.astype(np.float32))
    writer.close()
    prefix.with_suffix(".pvar").write_text(
        "##source=test\n#CHROM\tPOS\tID\tREF\tALT\n"
        + "".join(
            f"{study.chromosome[k]}\t{study.position[k]}\t{study.ids[k]}\tG\tA\n" for k in range(m)
        )
    )
    prefix.with_suffix(".psam").write_text(
        "#IID\tSEX\n" + "".join(f"{i}\t{s}\n" for i, s in zip(study.names, study.sex, strict=True))
    )
    return path


def write_zarr(study: Study, path: Path) -> Path:
    import zarr

    m, n = study.dosages.shape
    store = zarr.open_group(str(path), mode="w")
    contigs = list(dict.fromkeys(study.chromosome))

    def put(name: str, values: np.ndarray) -> None:
        if values.dtype.kind == "U":
            values = values.astype(np.dtypes.StringDType())
        store.create_array(name, data=values)

    put("sample_id", np.array(study.names))
    put("contig_id", np.array(contigs))
    put("variant_contig", np.array([contigs.index(c) for c in study.chromosome]))
    put("variant_position", np.array(study.position))
    put("variant_id", np.array(study.ids))
    put("variant_allele", np.array([["G", "A"]] * m))
    if study.whole:
        codes = np.full((m, n, 2), -1, dtype=np.int8)
        known = ~np.isnan(study.dosages)
        codes[..., 0] = np.where(known, study.dosages >= 1 + study.haploid, -1)
        codes[..., 1] = np.where(known, study.dosages == 2, -1)
        codes[study.haploid, 1] = -2
        put("call_genotype", codes)
    else:
        put("call_DS", study.dosages.astype(np.float32))
    return path


def write_bimbam(study: Study, path: Path) -> Path:
    lines = []
    for k, row in enumerate(study.dosages):
        cells = ["NA" if np.isnan(x) else f"{x:.7f}".rstrip("0").rstrip(".") for x in row]
        lines.append(", ".join([study.ids[k], "A", "G", *cells]))
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    stem = path.with_name(path.name.partition(".")[0])
    write_fam(study, stem.with_suffix(".fam"))
    stem.with_suffix(".anno.txt").write_text(
        "".join(
            f"{i}, {p}, {c}\n"
            for i, p, c in zip(study.ids, study.position, study.chromosome, strict=True)
        )
    )
    return path
