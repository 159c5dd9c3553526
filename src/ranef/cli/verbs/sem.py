"""``ranef sem``: a structural equation model, its summary and its files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ranef.cli import models, options
from ranef.cli.verb import Code, Verb
from ranef.cli.writing import TABLES, check_files, records, write_fit, write_results
from ranef.errors import FileError, FormulaError

__all__ = ["VERB"]

EPILOG = """\
The model is text in lavaan's language, or a file with it (.lav, .txt), or an input of Mplus
(.inp), of which the model is read and the data named here:

  level: 1
    stress_w =~ s1 + s2 + s3
    stress_w ~ a*support
  level: 2
    stress_b =~ s1 + s2 + s3

Lines may be separated by ';'. A variable under both levels is decomposed by the model itself.

results:
  --out fit.json           every table
  --out fit.csv            the parameters
  --diagram path.svg       the path diagram
  --scores scores.csv      the latent variables of each row, with standard errors
  --report fit.html        one page with tables and the diagram
  --table fit.docx         the table for a paper (also .tex .html .md .txt)
  --save fit.ranef         the whole fit, for ranef.load in Python

examples:
  ranef sem "f =~ y1 + y2 + y3 ; f ~ x" survey.csv --estimator MLR
  ranef sem stress.lav diary.csv --cluster person --missing fiml --report stress.html
  ranef sem model.inp schools.csv --cluster class --cluster school --diagram paths.svg
"""

FILES = (".lav", ".txt", ".inp")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef sem``."""
    parser.add_argument("model", metavar="MODEL", help="the model, in quotes, or a file with it")
    options.add_data(parser, formula=False)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--cluster", metavar="COL", help="units of level 2; given again, those of level 3",
        **options.SEVERAL,
    )  # fmt: skip
    model.add_argument("--group", metavar="COL", help="groups with parameters of their own")
    model.add_argument(
        "--equal", metavar="WHAT", help="equal in all groups: loadings, intercepts ...",
        **options.SEVERAL,
    )  # fmt: skip
    model.add_argument(
        "--estimator", choices=("ML", "MLR", "MLM"), default="ML", metavar="NAME",
        help="ML, MLR (robust) or MLM",
    )  # fmt: skip
    model.add_argument(
        "--missing", choices=("listwise", "fiml", "raise"), default="listwise", metavar="HOW",
        help="incomplete rows: leave out (listwise), use (fiml), or refuse (raise)",
    )  # fmt: skip
    model.add_argument("--random-x", action="store_true", help="let covariates be random, not held")
    model.add_argument(
        "--std-lv", action="store_true", help="variances of latent variables at 1, no first loading"
    )
    options.add_reading(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--standardized", action="store_true", help="print standardised estimates as well"
    )
    options.add_out(results, "write all tables to a .json, the parameters to a .csv file")
    results.add_argument(
        "--diagram", metavar="FILE.svg", help="draw the path diagram", **options.SEVERAL
    )
    results.add_argument(
        "--scores", metavar="FILE.csv", help="write the rows' latent variables", **options.SEVERAL
    )
    options.add_fit_files(results)
    options.add_level(results)
    options.add_quiet(results, "print no summary, only problems")


def run(arguments: Namespace) -> Code:
    """Fit the model, print its summary, write its files."""
    import ranef

    check_files(arguments, report=(), table=TABLES, save=(), diagram=(".svg",), scores=(".csv",))
    text = _model(arguments.model)
    named = [*arguments.cluster, *([arguments.group] if arguments.group else [])]
    data = models.read(arguments, "~ " + " + ".join([*_names(text), *named]))
    fit = ranef.sem(
        text, data, cluster=arguments.cluster or None, group=arguments.group,
        estimator=arguments.estimator, missing=arguments.missing, std_lv=arguments.std_lv,
        fixed_x=not arguments.random_x, group_equal=tuple(arguments.equal),
        progress=models.progress(arguments),
    )  # fmt: skip
    level = {"conf_level": arguments.conf_level}
    if not arguments.quiet:
        print(fit.summary(**level))
        if arguments.standardized:
            print(f"\n{_standardized(fit)}")
    write_results(
        arguments, lambda: fit.tidy(**level), lambda: _results(fit, level), empty=("lhs", "op")
    )
    for name in arguments.diagram:
        fit.diagram(name, standardized=arguments.standardized)
    for name in arguments.scores:
        _write_scores(fit, name)
    write_fit(fit, arguments, level)
    return Code.OK if fit.optimum.converged else Code.NOT_CONVERGED


def _model(given: str) -> str:
    """The model's text: as given, or of a file."""
    path = Path(given) if "\n" not in given and len(given) < 1000 else None
    if path is None or "~" in given:
        return given
    if path.suffix.lower() not in FILES:
        if path.is_file():
            raise FileError(
                f"{path}: a file with a model ends in {', '.join(FILES)}; rename it, or give the "
                "model as text in quotes"
            )
        return given
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise FileError(f"cannot read {path}: {reason}") from error
    if path.suffix.lower() == ".inp":
        from ranef.fields.structural.mplus import read_mplus

        return read_mplus(text)
    return text


def _names(text: str) -> list[str]:
    from ranef.fields.structural.syntax import read_syntax

    try:
        blocks = read_syntax(text).blocks
    except FormulaError:
        raise
    names = dict.fromkeys(n for b in blocks for s in b.statements for n in (s.lhs, s.rhs) if n)
    return [f"`{name}`" if not name.isidentifier() else name for name in names]


def _standardized(fit: Any) -> str:
    from ranef.display.columns import Column, Fixed, Label, Listing

    rows = [r for r in records(fit.standardized()) if r["op"] in ("=~", "~")]
    terms = [f"{r['lhs']} {r['op']} {r['rhs']}" for r in rows]
    columns = (
        Column("level", [r["level"] for r in rows], Fixed(0)),
        Column("term", terms, Label(), "parameter"),
        *(Column(n, [r[n] if r[n] is not None else float("nan") for r in rows], Fixed(3))
          for n in ("std_lv", "std_all", "std_nox", "std_error")),
    )  # fmt: skip
    return Listing("standardized", columns, "Standardised", 2).text.text()


def _write_scores(fit: Any, path: str) -> None:
    import csv
    import io

    from ranef.display import files

    rows = records(fit.scores(se=True))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["row", *(rows[0] if rows else [])], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"row": k + 1, **row} for k, row in enumerate(rows))
    files.write_atomically(path, stream.getvalue())


def _results(fit: Any, level: dict[str, float]) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    rows = fit.frame.accounting
    document = {
        "model": {"text": fit.formula, "estimator": fit.description.criterion, **level},
        "accounting": {
            "n_rows": rows.n_rows, "n_used": rows.n_used, "n_dropped": rows.n_dropped,
            "missing": {name: int(count) for name, count in rows.missing.items()},
            "groups": fit.n_groups,
        },
        "fit": records(fit.glance())[0],
        "parameters": records(fit.tidy(**level)),
        "standardized": records(fit.standardized(**level)),
        "r2": records(fit.r2()),
        "roles": records(fit.roles),
        "optimum": {"converged": fit.optimum.converged, "message": fit.optimum.message,
                    "evaluations": fit.optimum.evaluations},
        "doubts": list(fit.doubts()),
    }  # fmt: skip
    if fit.estimate.model.levels > 1:
        document["icc"] = records(fit.icc())
        if not fit.estimate.model.has_slopes:
            document["level_fit"] = records(fit.level_fit())
    return document


VERB = Verb(
    name="sem",
    help="fit a structural equation model, of one level or several",
    description="Fit a structural equation model and print its summary.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=("ranef sem stress.lav diary.csv --cluster person --diagram paths.svg",),
)
