"""Files of results in the formats of other programs."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from ranef import arguments
from ranef._version import __version__
from ranef.display.files import replacing, write_atomically
from ranef.errors import DataError, ModelError

__all__ = ["FORMATS", "write_scan"]

FORMATS = ("gwas-ssf", "gemma", "regenie", "plink2", "parquet")
SSF_CHROMOSOMES = {
    "X": "23", "XY": "23", "PAR1": "23", "PAR2": "23", "Y": "24", "M": "25", "MT": "25",
}  # fmt: skip
RSID = re.compile(r"rs\d+")


def write_scan(scan: Any, target: Path, format: Any, trait: str | None) -> Path:
    """Write a scan's results."""
    format = arguments.choice("format", format, FORMATS)
    if format == "parquet":
        names = list(scan.found) if trait is None else [scan.only(trait).trait.name]
        return _parquet(scan, names, target)
    one = scan.only(trait)
    if one.kind == "joint" and format != "gemma":
        raise ModelError(
            "a joint test has effects on several traits, for which this format has no columns; "
            "save it as gemma or parquet"
        )
    if format == "gemma" and one.chief != "wald":
        raise ModelError(
            "GEMMA's table holds a Wald test of one trait by the linear mixed model, and this scan "
            "is another; save it as gwas-ssf, regenie, plink2 or parquet"
        )
    rows = np.flatnonzero(one.tested)
    held = scan.columns([one.trait.name], [rows])
    made = {"gwas-ssf": _ssf, "gemma": _gemma, "regenie": _regenie, "plink2": _plink2}[format]
    if one.kind == "joint":
        made = _gemma_joint
    content = _text(made(scan, one, rows, held), "#NA" if format == "gwas-ssf" else "NA")
    data = gzip.compress(content, mtime=0) if target.suffix == ".gz" else content
    write_atomically(target, data)
    if format == "gwas-ssf":
        beside = target.with_name(target.name + "-meta.yaml")
        write_atomically(beside, _yaml(scan, one, target.name, data))
    return target


def _parquet(scan: Any, names: list[str], target: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    columns = scan.columns(names, [slice(None)] * len(names))
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    with replacing(target) as stream:
        parquet.write_table(table, stream)
    return target


def _text(columns: dict[str, Any], missing: str) -> bytes:
    """Columns as lines of text between tabs."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    made = {}
    for name, values in columns.items():
        array: Any = pa.array(values)
        if pa.types.is_floating(array.type):
            words = pc.cast(array, pa.string())
            bad = pc.invert(pc.is_finite(array))
            array = pc.if_else(bad, missing, words)
        made[name] = array
    head = ("\t".join(made) + "\n").encode()
    stream = io.BytesIO()
    how = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    try:
        csv.write_csv(pa.table(made), stream, how)
    except pa.ArrowInvalid:  # a name holds a comma or a quote
        return head + _joined([pc.cast(array, pa.string()).to_pylist() for array in made.values()])
    return head + stream.getvalue()


def _joined(columns: list[list[str]]) -> bytes:
    """Lines of cells between tabs, as they are."""
    for column in columns:
        wrong = next((cell for cell in column if not cell.isprintable()), None)
        if wrong is not None:
            raise DataError(f"the name {wrong!r} cannot stand in a table between tabs; rename it")
    return "".join("\t".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


def _ssf(scan: Any, one: Any, rows: Any, held: dict[str, Any]) -> dict[str, Any]:
    """GWAS-SSF 1.0: beta, and minus log10 p, which does not end at 1e-308."""
    human = scan.genotypes.variants.numbered
    number = {name: _ssf_chromosome(name, human) for name in dict.fromkeys(held["chromosome"])}
    columns = {
        "chromosome": np.array([number[name] for name in held["chromosome"]], dtype=object),
        "base_pair_location": held["position"],
        "effect_allele": held["effect_allele"],
        "other_allele": held["other_allele"],
        "beta": held["estimate"],
        "standard_error": held["std_error"],
        "effect_allele_frequency": held["frequency"],
        "neg_log_10_p_value": -one.chief_log10_p[rows],
        "rsid": held["variant"],
        "n": held["n"],
    }
    catalogued = np.array([bool(RSID.fullmatch(name)) for name in held["variant"]])
    if not catalogued.all():  # the column takes nothing else; names stand in one of their own
        columns["rsid"] = np.where(catalogued, held["variant"], "#NA").astype(object)
        columns["variant"] = held["variant"]
    return columns


def _ssf_chromosome(name: str, human: bool) -> str:
    """Numbers without a prefix, 23 to 25 for X, Y and MT; another name as it is.

    human : whether 25 and 26 are PLINK's numbers of the part that X and Y share (which counts as
    X), and of MT.
    """
    bare = name.upper().removeprefix("CHR")
    bare = SSF_CHROMOSOMES.get(bare, bare)
    if not bare.isdecimal():
        return name
    number = str(int(bare))
    return (
        {"25": "23", "26": "25"}.get(number, number) if human and name[-1].isdecimal() else number
    )


def _variant_of_gemma(held: dict[str, Any]) -> dict[str, Any]:
    return {
        "chr": held["chromosome"],
        "rs": held["variant"],
        "ps": held["position"],
        "n_miss": held["n_missing"],
        "allele1": held["effect_allele"],
        "allele0": held["other_allele"],
        "af": held["frequency"],
    }


def _gemma(scan: Any, one: Any, rows: Any, held: dict[str, Any]) -> dict[str, Any]:
    return {
        **_variant_of_gemma(held),
        "beta": held["estimate"],
        "se": held["std_error"],
        "logl_H1": one.null.loglik_ml + 0.5 * one.lrt[rows],
        "l_remle": held["lambda_reml"],
        "l_mle": held["lambda_ml"],
        "p_wald": held["p_wald"],
        "p_lrt": held["p_lrt"],
        "p_score": held["p_score"],
    }


def _gemma_joint(scan: Any, one: Any, rows: Any, held: dict[str, Any]) -> dict[str, Any]:
    names = [name.removeprefix("estimate_") for name in one.extra if name.startswith("estimate_")]
    betas = {f"beta_{j + 1}": held[f"estimate_{name}"] for j, name in enumerate(names)}
    variances = {}
    for i, first in enumerate(names):
        for j in range(i, len(names)):
            label = f"Vbeta_{i + 1}_{j + 1}"
            if i == j:
                variances[label] = held[f"std_error_{first}"] ** 2
            else:
                variances[label] = held[f"covariance_{first}_{names[j]}"]
    return {
        **_variant_of_gemma(held),
        **betas,
        **variances,
        "p_wald": held["p_wald"],
        "p_lrt": held["p_lrt"],
        "p_score": held["p_score"],
    }


def _test(scan: Any, one: Any) -> str:
    """What the formats of PLINK and REGENIE call a test."""
    coded = {"additive": "ADD", "dominant": "DOM", "recessive": "REC"}[scan.effect]
    return f"{coded}-INT_SNPxVAR" if one.kind == "interaction" else coded


def _regenie(scan: Any, one: Any, rows: Any, held: dict[str, Any]) -> dict[str, Any]:
    test = _test(scan, one)
    return {
        "CHROM": held["chromosome"],
        "GENPOS": held["position"],
        "ID": held["variant"],
        "ALLELE0": held["other_allele"],
        "ALLELE1": held["effect_allele"],
        "A1FREQ": held["frequency"],
        "N": held["n"],
        "TEST": np.full(len(rows), test, dtype=object),
        "BETA": held["estimate"],
        "SE": held["std_error"],
        "CHISQ": (held["estimate"] / held["std_error"]) ** 2,
        "LOG10P": -one.chief_log10_p[rows],
        "EXTRA": np.full(len(rows), "NA", dtype=object),
    }


def _plink2(scan: Any, one: Any, rows: Any, held: dict[str, Any]) -> dict[str, Any]:
    test = _test(scan, one)
    figures = {
        "BETA": held["estimate"],
        "SE": held["std_error"],
        "T_STAT": held["estimate"] / held["std_error"],
    }
    if one.chief == "spa":
        figures = {
            "OR": np.exp(held["estimate"]),
            "LOG(OR)_SE": held["std_error"],
            "Z_STAT": held["estimate"] / held["std_error"],
        }
    return {
        "#CHROM": held["chromosome"],
        "POS": held["position"],
        "ID": held["variant"],
        "REF": held["other_allele"],
        "ALT": held["effect_allele"],
        "A1": held["effect_allele"],
        "A1_FREQ": held["frequency"],
        "TEST": np.full(len(rows), test, dtype=object),
        "OBS_CT": held["n"],
        **figures,
        "P": 10.0 ** one.chief_log10_p[rows],
        "ERRCODE": np.full(len(rows), ".", dtype=object),
    }


def _yaml(scan: Any, one: Any, name: str, data: bytes) -> str:
    """What GWAS-SSF keeps beside the table."""
    entries = {
        "file_type": "GWAS-SSF v1.0",
        "data_file_name": name,
        "data_file_md5sum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "trait_description": one.trait.name,
        "genotyping_technology": "not stated",
        "genome_assembly": "not stated",
        "coordinate_system": "1-based",
        "is_harmonised": "false",
        "is_sorted": "false",
        "effect_statistic": "beta",
        "p_value_type": "neg_log_10",
        "sample_size": len(one.trait.y),
        "analysis_software": f"ranef {__version__}",
        "adjusted_covariates": ", ".join(n for n in one.trait.names if n != "(Intercept)")
        or "none",
    }
    return "".join(f"{key}: {_scalar(value)}\n" for key, value in entries.items())


def _scalar(value: Any) -> str:
    if isinstance(value, int) or value in ("true", "false"):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
