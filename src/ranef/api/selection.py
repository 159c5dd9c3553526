"""`maximal`, `step` and `subsets`: models searched through, and what to make of the one chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ranef import arguments
from ranef.api.fitting import glmm, lmm
from ranef.design.kernels import used_kernels
from ranef.display.progress import Tally, counted
from ranef.elsewhere import explained
from ranef.errors import ModelError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.questions.selection.compare import CRITERIA, compare, criterion_of
from ranef.questions.selection.comparison import FocusedComparison
from ranef.questions.selection.random_part import Parts, contained, parts_of
from ranef.questions.selection.searches import Search, backward, maximal_path
from ranef.tables import Table

__all__ = ["maximal", "step", "subsets"]

OF_RANDOM = ("aic", "bic", "caic")
OF_FIXED = ("aic", "aicc", "bic", "caic")


def maximal(
    formula: str,
    data: Any,
    *,
    criterion: str = "aic",
    family: Any = None,
    progress: bool | None = None,
    **model: Any,
) -> Search:
    """Find the largest random-effect structure that the data support.

    The path goes backward from the random part of the formula, the maximal one of the design:

    1. While the fit lies on a boundary, an unstructured term loses its correlations, a diagonal
       one its effects of variance zero. The certificate of the optimum says which.
    2. While the criterion falls, the effect with the least share of the variance goes, of those
       that no interaction contains.
    3. Correlations come back where the criterion falls and the fit stays off the boundary.

    The answer does not depend on the order of terms in the formula.

    Parameters
    ----------
    formula : str
        With the maximal random part, ``"y ~ x * z + (x * z | person) + (x * z | item)"``. Terms
        with a structure other than ``us``, ``diag`` and ``||`` stay as they are.
    data : table
    criterion : {"aic", "bic", "caic"}
        The fixed effects stay, so that linear models are compared by REML unless
        ``reml=False``. Conditional AIC is for the groups at hand.
    progress : bool, optional
        Show how many models are fitted; None shows it when the work is long.
    family, **model
        The arguments of `lmm`, or with a `family` of `glmm`.

    Returns
    -------
    Search
        ``fit``, ``steps()``, ``split()``, ``bootstrap()``. An interrupt's ``partial`` is the
        best model until then.

    See Also
    --------
    step : the fixed effects.

    Examples
    --------
    >>> import ranef
    >>> found = ranef.maximal("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> found.formula
    'Reaction ~ 1 + Days + (1 + Days | Subject)'
    >>> found.steps()[["change", "aic", "kept"]].round(1)
                                    change     aic   kept
    0                    the maximal model  1755.6   True
    1  without Days in (1 + Days | Subject)  1794.5  False
    """
    criterion = arguments.choice("criterion", criterion, OF_RANDOM)
    shown = arguments.optional_flag("progress", progress)
    fitter = _fitter(family, model)
    start = _read(formula, data)
    if not start.blocks:
        raise ModelError("maximal() makes a random part smaller, and the formula has none")

    def procedure(table: Any, shown: bool | None = False) -> Search:
        with Tally("random parts", shown, unit=" models") as tell:
            fit, log = maximal_path(start, _telling(fitter, table, tell), criterion)
        title = f"Largest random part that the data support: {formula}"
        return Search(fit, log, criterion, title, fit.frame.library, table, procedure, fitter)

    return procedure(data, shown)


def step(
    formula: str,
    data: Any,
    *,
    keep: str | Sequence[str] = (),
    focus: str | None = None,
    criterion: str | None = None,
    family: Any = None,
    progress: bool | None = None,
    **model: Any,
) -> Search:
    """Take out fixed effects one by one, while the criterion falls.

    Parameters
    ----------
    formula : str
        The largest model. Terms that an interaction contains stay as long as it does; the random
        part stays.
    data : table
    keep : str or list of str
        Terms that stay, such as the treatment.
    focus : {"population", "individual"}
        As in `compare`; there is no default.
    criterion : str, optional
        Of the population ``"aic"``, ``"aicc"`` or ``"bic"``, of individuals ``"caic"``. Linear
        models are fitted by ML.
    progress : bool, optional
        Show how many models are fitted; None shows it when the work is long.
    family, **model
        The arguments of `lmm`, or with a `family` of `glmm`.

    Returns
    -------
    Search
        ``fit``, ``steps()``, ``split()``, ``bootstrap()``. An interrupt's ``partial`` is the
        best model until then.

    Examples
    --------
    >>> import ranef
    >>> found = ranef.step("distance ~ age * Sex + (1 | Subject)", ranef.data.load("Orthodont"),
    ...                    focus="population")
    >>> found.formula
    'distance ~ 1 + Sex + age + Sex:age + (1 | Subject)'
    """
    focus, criterion = _asked("step()", focus, criterion)
    shown = arguments.optional_flag("progress", progress)
    fitter = _fitter(family, {"reml": False, **model} if family is None else model)
    start = _read(formula, data)
    kept = _kept(keep, start)

    def procedure(table: Any, shown: bool | None = False) -> Search:
        with Tally("fixed effects", shown, unit=" models") as tell:
            fit, log = backward(start, _telling(fitter, table, tell), criterion, kept)
        title = f"Fixed effects taken out for the {focus}: {formula}"
        return Search(fit, log, criterion, title, fit.frame.library, table, procedure, fitter)

    return procedure(data, shown)


def subsets(
    formula: str,
    data: Any,
    *,
    keep: str | Sequence[str] = (),
    focus: str | None = None,
    criterion: str | None = None,
    most: int = 128,
    family: Any = None,
    progress: bool | None = None,
    **model: Any,
) -> FocusedComparison:
    """Compare all models with some of the fixed effects.

    Parameters
    ----------
    formula, data, keep, focus, criterion, family, **model
        As in `step`. A model has what its interactions contain.
    most : int
        Refuse more models than that.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    FocusedComparison
        As of `compare`, best first; `predict` averages over all models.

    Examples
    --------
    >>> import ranef
    >>> found = ranef.subsets("distance ~ age * Sex + (1 | Subject)", ranef.data.load("Orthodont"),
    ...                       focus="population")
    >>> found.tidy()[["model", "weight"]].round(3).head(2)
                     model  weight
    0  Sex + age + Sex:age   0.888
    1            Sex + age   0.108
    """
    focus, criterion = _asked("subsets()", focus, criterion)
    start = _read(formula, data)
    kept = _kept(keep, start)
    models = list(_models(start, kept, arguments.count("most", most)))
    fitter = _fitter(family, {"reml": False, **model} if family is None else model)
    shown = arguments.optional_flag("progress", progress)
    fits: list[tuple[str, MixedFit]] = []
    for k in counted(range(len(models)), "fitting", shown):
        parts = models[k]
        name = " + ".join(parts.fixed) or ("1" if parts.intercept else "0")
        fits.append((name, fitter(parts.formula, data)))
    found = compare(dict(fits), focus=focus, criterion=criterion, progress=shown)
    order = sorted(range(len(found)), key=lambda i: (float(found.values[i]), found.names[i]))
    warned = (
        *found.notes,
        "Tests and intervals of the selected model ignore its selection and are too optimistic. "
        "predict() and average() average over all models.",
    )
    return replace(found, models=tuple(found.models[i] for i in order), notes=warned, tests=())


def _asked(question: str, focus: str | None, criterion: str | None) -> tuple[str, str]:
    """Read focus and criterion."""
    if focus is None:
        raise ModelError(
            f"{question} needs to know what the model is for: focus='population' (new groups, "
            "coefficients) or focus='individual' (the groups at hand)"
        )
    focus = arguments.choice("focus", focus, tuple(CRITERIA))
    known = tuple(name for name in CRITERIA[focus] if name in OF_FIXED)
    return focus, criterion_of(focus, criterion, known)


def _read(formula: str, data: Any) -> Parts:
    return parts_of(arguments.formula(formula), Table.of(data).columns)


def _kept(keep: str | Sequence[str], start: Parts) -> tuple[str, ...]:
    """Names of fixed terms as the formula has them."""
    given = [keep] if isinstance(keep, str) else list(keep)
    out = []
    for term in given:
        name = ":".join(sorted(part.strip() for part in str(term).split(":")))
        if name not in start.fixed:
            raise ModelError(
                f"keep: the formula has no term {term!r}{suggestion(name, start.fixed)}; it has "
                f"{', '.join(start.fixed) or 'none'}"
            )
        out.append(name)
    return tuple(out)


def _models(start: Parts, keep: Sequence[str], most: int) -> Iterator[Parts]:
    """All models that have what their interactions contain, the largest first."""
    free = [term for term in start.fixed if term not in keep]
    if len(free) > 20:
        raise ModelError(f"{len(free)} terms make more than a million models; keep= some of them")
    found = []
    for size in range(len(free), -1, -1):
        for chosen in combinations(free, size):
            terms = [t for t in start.fixed if t in chosen or t in keep]
            left = [t for t in start.fixed if t not in terms]
            if any(contained(t, terms) for t in left):
                continue
            found.append(replace(start, fixed=tuple(terms)))
            if len(found) > most:
                raise ModelError(
                    f"there are more than most={most} models of {len(free)} terms; raise most, or "
                    "keep= terms that are in all of them"
                )
    yield from found


def _telling(
    fitter: Callable[[str, Any], MixedFit], table: Any, tell: Callable[[str], None]
) -> Callable[[Parts], MixedFit]:
    """Fit parts to a table, and say which."""

    def fit(parts: Parts) -> MixedFit:
        tell(parts.formula)
        return fitter(parts.formula, table)

    return fit


def _fitter(family: Any, model: dict[str, Any]) -> Callable[[str, Any], MixedFit]:
    """A fit of a formula to a table, boundaries no reason to warn."""

    def fit(formula: str, table: Any) -> MixedFit:
        given = {**model, "kernels": used_kernels(model.get("kernels"), formula)}
        if family is None:
            return explained(lmm)(formula, table, progress=False, **given)
        return explained(glmm)(formula, table, family=family, progress=False, **given)

    return fit
