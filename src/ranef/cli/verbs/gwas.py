"""``ranef gwas``: genome-wide association, relationship matrices, components, simulation."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from pathlib import Path
from typing import Any

from ranef.cli import options
from ranef.cli.tasks import add_tasks, run_task
from ranef.cli.values import page_file, positive, positive_number, whole
from ranef.cli.verb import Code, Verb
from ranef.errors import FileError

__all__ = ["VERB"]

EPILOG = """\
ranef gwas TASK --help has the options of a task.

Genotypes are files of PLINK 1 or 2, BGEN, VCF, BCF, VCF-Zarr or BIMBAM; all but the first and the
last need packages: pip install 'ranef[gwas]'. Tables of phenotypes and covariates are text with a
heading, a column IID and perhaps FID; names are text, with their leading zeros.

examples:
  ranef gwas scan "height ~ age + sex" --bfile cohort --pheno people.tsv --out height.tsv.gz \\
      --report height.html
  ranef gwas scan "height ~ age" --bgen cohort.bgen --sample cohort.sample --pheno people.tsv \\
      --info 0.8 --out height.tsv.gz
  ranef gwas grm --bfile cohort --format gcta --out cohort
  ranef gwas null "height ~ age + sex" --pheno people.tsv --relationship cohort
"""

FORMATS = ("gwas-ssf", "gemma", "regenie", "plink2", "parquet")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the commands of ``ranef gwas``."""
    add_tasks(parser, TASKS)


# --- options that several tasks take


SOURCES = {
    "bfile": ("PREFIX", "PLINK 1 files: .bed, .bim, .fam"),
    "pfile": ("PREFIX", "PLINK 2 files: .pgen, .pvar (or .pvar.zst), .psam"),
    "bgen": ("FILE", "BGEN; the effect is that of the second allele"),
    "vcf": ("FILE", "VCF or BCF, perhaps compressed"),
    "zarr": ("PATH", "a VCF-Zarr store"),
    "bimbam": ("FILE", "mean genotypes of BIMBAM, .geno.txt or .geno.txt.gz"),
}


def _add_genotypes(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("genotypes", "one of the first six is needed")
    which = group.add_mutually_exclusive_group(required=True)
    for name, (what, words) in SOURCES.items():
        which.add_argument(f"--{name}", metavar=what, help=words)
    group.add_argument(
        "--sample",
        metavar="FILE",
        help="names (or families and sexes) of the samples of a BGEN, VCF, Zarr or BIMBAM file: "
        ".sample, .fam, .psam, or one a line",
    )
    group.add_argument(
        "--field", choices=("GT", "DS", "GP"), metavar="NAME",
        help="what is read of a VCF or a Zarr store: GT, DS or GP (dosages where there are any)",
    )  # fmt: skip
    group.add_argument(
        "--anno", metavar="FILE", help="of BIMBAM: lines of variant, position, chromosome"
    )


def _genotypes(arguments: Namespace) -> Any:
    """Open the genotypes that an option names."""
    from ranef import gwas

    option = next(name for name in SOURCES if getattr(arguments, name) is not None)
    kind = {"bfile": "bed", "pfile": "pgen"}.get(option, option)
    return gwas.read_genotypes(
        getattr(arguments, option), kind=kind, samples=arguments.sample, field=arguments.field,
        annotation=arguments.anno,
    )  # fmt: skip


def _add_tables(parser: ArgumentParser, required: bool) -> None:
    tables = parser.add_argument_group("tables")
    tables.add_argument(
        "--pheno", metavar="FILE", required=required, help="phenotypes"
        + ("" if required else "; without it the .fam's own column is the trait phenotype"),
    )  # fmt: skip
    tables.add_argument("--covar", metavar="FILE", help="a second table, of covariates")
    tables.add_argument(
        "--na",
        metavar="TEXT",
        action="append",
        help="a mark of a missing value in place of NA, nan, ., nothing and -9; may be repeated",
    )
    tables.add_argument(
        "--inverse-normal", action="store_true", help="analyse normal scores of the trait's ranks"
    )


def _add_matrix_limits(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--maf", type=float, default=0.01, metavar="P", help="least minor allele frequency (0.01)"
    )
    parser.add_argument(
        "--geno", type=float, default=0.05, metavar="P", help="most missing calls (0.05)"
    )


def _add_jobs(group: ArgumentParser | _ArgumentGroup) -> None:
    group.add_argument(
        "--n-jobs", type=positive, metavar="N", help="threads (all that this process may use)"
    )


def _add_memory(group: ArgumentParser | _ArgumentGroup) -> None:
    group.add_argument("--memory", type=positive_number, metavar="GB", help="the most memory")


def _marks(arguments: Namespace) -> dict[str, Any]:
    return {} if arguments.na is None else {"na": tuple(arguments.na)}


def _transform(arguments: Namespace) -> str | None:
    return "inverse-normal" if arguments.inverse_normal else None


# --- scan


def _add_scan(parser: ArgumentParser) -> None:
    parser.add_argument(
        "formula", metavar="FORMULA", help="'trait ~ covariates'; with --trait '~ covariates'"
    )
    _add_genotypes(parser)
    _add_tables(parser, required=False)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--trait", metavar="COL", help="a trait; may be given several times", **options.SEVERAL
    )
    model.add_argument(
        "--relationship",
        metavar="WHICH",
        default="loco",
        help="loco (each chromosome against the others; beyond 20,000 samples in two steps), "
        "two-step, loco-exact, centred (GEMMA's), standardised, none, or the path of a matrix",
    )
    model.add_argument(
        "--family", choices=("gaussian", "binomial"), default="gaussian", metavar="NAME",
        help="gaussian, or binomial: a trait of 0 and 1, or 1 and 2 (gaussian)",
    )  # fmt: skip
    model.add_argument(
        "--variance",
        choices=("each", "null"),
        default="each",
        metavar="WHICH",
        help="each variant its own variance ratio (each), or all the null model's (null, P3D)",
    )
    model.add_argument(
        "--effect",
        choices=("additive", "dominant", "recessive"),
        default="additive",
        metavar="WHICH",
        help="additive, dominant or recessive (additive)",
    )
    model.add_argument(
        "--interaction", metavar="COL", help="test each variant's product with this column"
    )
    model.add_argument(
        "--robust", action="store_true",
        help="with --interaction: residual variances may differ, as between environments",
    )  # fmt: skip
    model.add_argument(
        "--joint", action="store_true", help="test all traits together (multivariate model)"
    )
    model.add_argument(
        "--given",
        metavar="VARIANT",
        help="a variant that enters as a covariate; may be given several times",
        **options.SEVERAL,
    )
    _add_filters(parser.add_argument_group("variants and samples"))
    work = parser.add_argument_group("work")
    work.add_argument(
        "--precision", choices=("mixed", "double"), default="mixed", metavar="WHICH",
        help="single precision where it suffices (mixed), or double",
    )  # fmt: skip
    _add_memory(work)
    work.add_argument("--block", type=positive, metavar="N", help="variants at a time")
    work.add_argument(
        "--resume", metavar="FOLDER", help="keep parts here, and go on from those that are there"
    )
    _add_jobs(work)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--format", choices=FORMATS, metavar="NAME",
        help="gwas-ssf, gemma, regenie, plink2 or parquet (by the ending of --out: .parquet, else "
        "gwas-ssf)",
    )  # fmt: skip
    results.add_argument(
        "--out", metavar="FILE", help="write the results; of several traits one file each"
    )
    results.add_argument(
        "--report", metavar="FILE.html", type=page_file, help="write the report, one HTML page"
    )
    options.add_table(results)
    options.add_quiet(results)


def _add_filters(group: _ArgumentGroup) -> None:
    group.add_argument("--maf", type=float, default=0.01, metavar="P", help="0.01 by default")
    group.add_argument("--mac", type=float, metavar="N", help="least minor allele count")
    group.add_argument("--geno", type=float, default=0.05, metavar="P", help="most missing (0.05)")
    group.add_argument(
        "--hwe", type=float, metavar="P", help="least mid-p of Hardy-Weinberg proportions"
    )
    group.add_argument("--info", type=float, metavar="P", help="least information of dosages")
    lists = {"keep": "samples to keep", "remove": "samples to leave out",
             "extract": "variants to test", "exclude": "variants to leave out"}  # fmt: skip
    for name, what in lists.items():
        group.add_argument(f"--{name}", metavar="FILE", help=f"{what}, one a line")
    group.add_argument(
        "--chr",
        metavar="NAME",
        help='a chromosome, "1,3" or "1-22"; may be given several times',
        **options.SEVERAL,
    )


def _scan(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out", "report")
    which = arguments.relationship
    found = gwas.scan(
        arguments.formula,
        _genotypes(arguments),
        arguments.pheno,
        covariates=arguments.covar,
        traits=arguments.trait or None,
        relationship=None if which == "none" else which,
        family=arguments.family,
        variance=arguments.variance,
        effect=arguments.effect,
        interaction=arguments.interaction,
        robust=arguments.robust,
        given=arguments.given or None,
        joint=arguments.joint,
        transform=_transform(arguments),
        min_maf=arguments.maf,
        min_mac=arguments.mac,
        max_missing=arguments.geno,
        min_hwe=arguments.hwe,
        min_info=arguments.info,
        keep=arguments.keep,
        remove=arguments.remove,
        extract=arguments.extract,
        exclude=arguments.exclude,
        chromosomes=arguments.chr or None,
        precision=arguments.precision,
        n_jobs=arguments.n_jobs,
        memory=arguments.memory,
        block=arguments.block,
        resume=arguments.resume,
        **_marks(arguments),
    )
    if arguments.out is not None:
        _write(found, Path(arguments.out), arguments.format)
    if arguments.report is not None:
        found.report(arguments.report, call=arguments.call)
    for name in arguments.table:
        found.write(name, table="top")
    if not arguments.quiet:
        print(found)
    return Code.OK


def _write(found: Any, target: Path, format: str | None) -> None:
    """Write one file a trait; Parquet holds all in one."""
    whole = format == "parquet" or (format is None and target.suffix == ".parquet")
    if whole or len(found.found) == 1:
        found.save(target, format=format)
        return
    first, dot, endings = target.name.partition(".")
    for name in found.found:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        found.save(target.with_name(f"{first}-{plain}{dot}{endings}"), format=format, trait=name)


def _check_targets(arguments: Namespace, *names: str) -> None:
    """Refuse a folder that is not there before the work, not after it."""
    for name in names:
        given = getattr(arguments, name)
        if given is not None and not Path(given).absolute().parent.is_dir():
            raise FileError(
                f"cannot write {given!r}: there is no folder {str(Path(given).parent)!r}"
            )


# --- the other tasks


def _add_grm(parser: ArgumentParser) -> None:
    _add_genotypes(parser)
    parser.add_argument(
        "--kind", choices=("centred", "standardised"), default="centred", metavar="WHICH",
        help="centred or standardised (centred)",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, metavar="A", help="in place of --kind: weights (2p(1-p))^A; GCTA -1"
    )
    _add_matrix_limits(parser)
    parser.add_argument(
        "--without", metavar="CHR", help="leave the variants of this chromosome out"
    )
    parser.add_argument(
        "--format", choices=("gcta", "gemma", "plink2"), default="gcta", metavar="NAME",
        help="gcta, gemma or plink2 (gcta)",
    )  # fmt: skip
    parser.add_argument(
        "--sparse",
        type=float,
        metavar="CUT",
        help="close kin alone, of at least CUT (0.05, say) of the diagonal: GCTA's .grm.sp",
    )
    parser.add_argument("--out", metavar="PREFIX", required=True, help="of the files")
    _add_jobs(parser)
    _add_memory(parser)
    options.add_quiet(parser.add_argument_group("results"))


def _grm(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out")
    if arguments.sparse is not None:
        return _sparse(arguments)
    K = gwas.grm(
        _genotypes(arguments), kind=arguments.kind, alpha=arguments.alpha, min_maf=arguments.maf,
        max_missing=arguments.geno, n_jobs=arguments.n_jobs, memory=arguments.memory,
    )  # fmt: skip
    if arguments.without is not None:
        K = K.without(arguments.without)
    path = K.save(arguments.out, format=arguments.format)
    if not arguments.quiet:
        print(K)
        print(f"\nWritten to {path}.")
    return Code.OK


def _sparse(arguments: Namespace) -> Code:
    from ranef import gwas
    from ranef.errors import ModelError

    if arguments.without is not None or arguments.alpha is not None or arguments.format != "gcta":
        raise ModelError(
            "--sparse is of the standardised matrix of all chromosomes, in GCTA's form"
        )
    kin = gwas.sparse_grm(
        _genotypes(arguments), cut=arguments.sparse, min_maf=arguments.maf,
        max_missing=arguments.geno, n_jobs=arguments.n_jobs, memory=arguments.memory,
    )  # fmt: skip
    path = kin.save(arguments.out)
    if not arguments.quiet:
        print(kin)
        print(f"\nWritten to {path}.")
    return Code.OK


def _add_pca(parser: ArgumentParser) -> None:
    _add_genotypes(parser)
    parser.add_argument("--n", type=positive, default=10, metavar="N", help="components (10)")
    _add_matrix_limits(parser)
    parser.add_argument("--out", metavar="FILE", help="write the scores: FID, IID, PC1 ...")
    _add_jobs(parser)
    _add_memory(parser)
    options.add_quiet(parser.add_argument_group("results"))


def _pca(arguments: Namespace) -> Code:
    from ranef import gwas
    from ranef.display.files import write_atomically

    _check_targets(arguments, "out")
    found = gwas.pca(
        _genotypes(arguments), n=arguments.n, min_maf=arguments.maf, max_missing=arguments.geno,
        n_jobs=arguments.n_jobs, memory=arguments.memory,
    )  # fmt: skip
    if arguments.out is not None:
        table = found.tidy().to_csv(sep="\t", index=False, lineterminator="\n")
        write_atomically(arguments.out, table)
    if not arguments.quiet:
        print(found)
    return Code.OK


def _add_null(parser: ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help="'trait ~ covariates'")
    parser.add_argument(
        "--relationship",
        metavar="PATH",
        required=True,
        help="a matrix: GCTA's prefix, .rel.bin ...",
    )
    _add_tables(parser, required=True)
    options.add_quiet(parser.add_argument_group("results"))


def _null(arguments: Namespace) -> Code:
    from ranef import gwas

    found = gwas.null(
        arguments.formula, arguments.pheno, relationship=gwas.read_grm(arguments.relationship),
        covariates=arguments.covar, transform=_transform(arguments), **_marks(arguments),
    )  # fmt: skip
    if not arguments.quiet:
        print(found)
    return Code.OK


def _add_sets(parser: ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help="'trait ~ covariates'")
    _add_genotypes(parser)
    _add_tables(parser, required=False)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--sets", metavar="FILE", required=True,
        help="text with a heading: set and variant, or set, chromosome, start and end",
    )  # fmt: skip
    model.add_argument("--relationship", metavar="WHICH", default="loco", help="as of scan (loco)")
    model.add_argument(
        "--family", choices=("gaussian", "binomial"), default="gaussian", metavar="NAME",
        help="gaussian or binomial (gaussian)",
    )  # fmt: skip
    model.add_argument(
        "--weights", type=float, nargs=2, default=(1.0, 25.0), metavar=("A", "B"),
        help="of the beta density of the minor allele frequency (1 25)",
    )  # fmt: skip
    model.add_argument("--max-maf", type=float, default=0.01, metavar="P", help="0.01 by default")
    model.add_argument("--mac", type=float, default=1.0, metavar="N", help="fewest copies (1)")
    model.add_argument("--geno", type=float, default=0.05, metavar="P", help="most missing (0.05)")
    for name, what in (("keep", "to keep"), ("remove", "to leave out")):
        model.add_argument(f"--{name}", metavar="FILE", help=f"samples {what}, one a line")
    _add_jobs(model)
    _add_out(parser)


def _add_out(parser: ArgumentParser) -> None:
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="FILE", help="write the table, text between tabs")
    options.add_quiet(results)


def _answered(arguments: Namespace, found: Any) -> Code:
    """Write the table of an answer, and print it."""
    from ranef.display.files import write_atomically

    if arguments.out is not None:
        table = found.tidy().to_csv(sep="\t", index=False, na_rep="NA", lineterminator="\n")
        write_atomically(arguments.out, table)
    if not arguments.quiet:
        print(found)
    return Code.OK


def _sets(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out")
    which = arguments.relationship
    found = gwas.gene_sets(
        arguments.formula, _genotypes(arguments), arguments.pheno, sets=arguments.sets,
        covariates=arguments.covar, relationship=None if which == "none" else which,
        family=arguments.family, weights=tuple(arguments.weights), max_maf=arguments.max_maf,
        min_mac=arguments.mac, max_missing=arguments.geno, keep=arguments.keep,
        remove=arguments.remove, transform=_transform(arguments), n_jobs=arguments.n_jobs,
        **_marks(arguments),
    )  # fmt: skip
    return _answered(arguments, found)


def _add_bivariate(parser: ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help="'~ covariates'")
    parser.add_argument(
        "--trait", metavar="COL", help="a trait; given twice or more", **options.SEVERAL
    )
    _add_matrix(parser)
    _add_tables(parser, required=True)
    _add_out(parser)


def _add_matrix(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--relationship", metavar="PATH", required=True,
        help="a matrix: GCTA's prefix, .rel.bin ...",
    )  # fmt: skip


def _bivariate(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out")
    found = gwas.bivariate(
        arguments.formula, arguments.pheno, traits=arguments.trait or [],
        relationship=gwas.read_grm(arguments.relationship), covariates=arguments.covar,
        transform=_transform(arguments), **_marks(arguments),
    )  # fmt: skip
    return _answered(arguments, found)


def _add_gblup(parser: ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help="'trait ~ covariates'")
    _add_matrix(parser)
    _add_tables(parser, required=True)
    _add_out(parser)


def _gblup(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out")
    found = gwas.gblup(
        arguments.formula, arguments.pheno, relationship=gwas.read_grm(arguments.relationship),
        covariates=arguments.covar, transform=_transform(arguments), **_marks(arguments),
    )  # fmt: skip
    return _answered(arguments, found)


def _add_simulate(parser: ArgumentParser) -> None:
    parser.add_argument("--n", type=positive, required=True, metavar="N", help="samples")
    parser.add_argument("--m", type=positive, required=True, metavar="M", help="variants")
    parser.add_argument("--family-size", type=positive, default=5, metavar="N", help="5 by default")
    parser.add_argument("--populations", type=positive, default=1, metavar="N", help="1 by default")
    for name, usual in (("h2", 0.5), ("family", 0.0), ("structure", 0.0), ("causal-h2", 0.1)):
        parser.add_argument(
            f"--{name}", type=float, default=usual, metavar="P", help=f"share of variance ({usual})"
        )
    parser.add_argument(
        "--causal", type=whole, default=10, metavar="N", help="variants with effects"
    )
    parser.add_argument("--chromosomes", type=positive, default=22, metavar="N", help="22")
    parser.add_argument("--out", metavar="PREFIX", required=True, help=".bed .bim .fam .pheno.tsv")
    options.add_seed(parser.add_argument_group("random numbers"))
    options.add_quiet(parser.add_argument_group("results"))


def _simulate(arguments: Namespace) -> Code:
    from ranef import gwas

    _check_targets(arguments, "out")
    study = gwas.simulate(
        n=arguments.n, m=arguments.m, family_size=arguments.family_size,
        populations=arguments.populations, h2=arguments.h2, family=arguments.family,
        structure=arguments.structure, causal=arguments.causal, causal_h2=arguments.causal_h2,
        chromosomes=arguments.chromosomes, rng=arguments.seed, out=arguments.out,
    )  # fmt: skip
    if not arguments.quiet:
        where = study.genotypes.name
        print(f"{arguments.n:,} samples at {arguments.m:,} variants, written to {where}.")
        print(study.causal.to_string(index=False))
    return Code.OK


TASKS: dict[str, tuple[str, Any, Any]] = {
    "scan": ("test every variant for association with a trait", _add_scan, _scan),
    "grm": ("make a genomic relationship matrix", _add_grm, _grm),
    "pca": ("principal components of the samples", _add_pca, _pca),
    "null": ("fit the mixed model without a variant", _add_null, _null),
    "sets": ("test sets of variants: burden, SKAT, SKAT-O, ACAT-V", _add_sets, _sets),
    "bivariate": ("genetic correlations of traits", _add_bivariate, _bivariate),
    "gblup": ("predict genomic values of samples", _add_gblup, _gblup),
    "simulate": ("simulate families, structure and a trait", _add_simulate, _simulate),
}

IN_FORMULA = 'traits and covariates are columns, named in the formula: "height ~ age + sex"'
MATRIX = "--relationship takes the matrix (its file or prefix; ranef gwas grm makes one)"
TESTS = "scan gives Wald, likelihood ratio and score tests in one pass"
ELSEWHERE = {
    **dict.fromkeys(("pheno-name", "phenocol", "phenocollist", "mpheno", "covar-name", "covarcol",
                     "covarcollist", "n", "qcovarcollist"), IN_FORMULA),
    **dict.fromkeys(("kinship", "k", "grm", "grm-gz", "grm-bin", "grm-sparse", "rel", "d", "u"),
                    MATRIX),
    **dict.fromkeys(("glm", "linear", "assoc", "lmm", "mlma", "fastgwa-mlm", "lm"), TESTS),
    **dict.fromkeys(("logistic", "bt", "fastgwa-mlm-binary", "binary"),
                    "--family binomial is that of cases and controls"),
    **dict.fromkeys(("firth", "spa", "approx"),
                    "with --family binomial saddlepoint tails and Firth's estimates are the rule"),
    **dict.fromkeys(("phenofile", "p"), "--pheno names the file of phenotypes"),
    **dict.fromkeys(("covarfile", "qcovar", "c"), "--covar names a second table, of covariates"),
    **dict.fromkeys(("threads", "thread-num", "nthreads", "t"), "--n-jobs sets the threads"),
    **dict.fromkeys(("bed", "b"), "--bfile takes the prefix of .bed, .bim and .fam"),
    **dict.fromkeys(("snps", "snp"), "--extract takes a file with names of variants"),
    **dict.fromkeys(("mlma-loco", "loco"), "scan does so if no --relationship is named"),
    "qt": "traits are quantitative without --family",
    "step": "--relationship two-step takes both steps in one run",
    "bsize": "--block is the number of variants that are read at a time",
    "gk": "ranef gwas grm --kind centred (-gk 1) or standardised (-gk 2) makes the matrix",
    "make-grm": "ranef gwas grm --format gcta makes the matrix",
    "make-rel": "ranef gwas grm --format plink2 makes the matrix",
    "miss": "--geno is the most that a variant may have missing",
    "mind": "samples are left out by --keep or --remove",
    "bfile-list": "one file of genotypes is read; merge them first",
    "set-list": "ranef gwas sets takes sets of variants",
    "gxe": "--interaction names the column of the environment",
    "condition": "--given names variants that enter as covariates",
    "condition-list": "--given names variants that enter as covariates",
}  # fmt: skip
"""Options of PLINK, GEMMA, GCTA, REGENIE and SAIGE."""

VERB = Verb(
    name="gwas",
    help="genome-wide association with a relationship matrix: scan, sets, grm ...",
    description="Genome-wide association by the exact linear mixed model.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run_task,
    elsewhere=ELSEWHERE,
    first_steps=(
        'ranef gwas scan "height ~ age" --bfile cohort --pheno people.tsv --out h.tsv.gz',
    ),
)
