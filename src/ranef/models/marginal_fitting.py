"""A population-averaged model in, its estimate out, and what makes it doubtful."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ranef.errors import ConvergenceWarning, DataError, DataWarning, ModelError, warn
from ranef.families.variance import shapes_of
from ranef.formula.labels import list_text
from ranef.models.marginal import MarginalEstimate, MarginalModel, bounds_of
from ranef.models.marginal_categories import check_categories, has_categories
from ranef.models.marginal_correlations import ODDS_RATIOS, TIMED
from ranef.models.marginal_shapes import likeliest_shapes, starting_shapes
from ranef.solve.marginal.associations import Association
from ranef.solve.marginal.equations import Outside, Solution, Watch, solve
from ranef.solve.marginal.separation import separating

__all__ = [
    "check",
    "doubts",
    "fit_marginal",
    "warn_of",
]

MOST_ASSOCIATED = 3000
SHAPE_STEPS = 3


def fit_marginal(model: MarginalModel, watch: Watch | None = None) -> MarginalEstimate:
    """Fit a marginal model; `watch` is told of each step.

    Warns
    -----
    ConvergenceWarning
        The estimating function was not brought to zero.
    DataWarning
        The estimated correlation was no positive definite matrix, or has more parameters than
        the clusters can tell.
    """
    check(model)
    model = _with_shapes(model, watch)
    try:
        found = solve(model.problem, model.working, model.problem.start(), watch)
    except Outside:
        _refuse_separated(model, None)
        raise ModelError(
            "no coefficients were found whose means the family can have: under the link "
            f"{model.family.link!r} means of {model.family.name} leave their range, or residuals "
            "grow without end; take another link, or correlation='independence'"
        ) from None
    _refuse_separated(model, found)
    estimate = MarginalEstimate(
        model=model,
        coefficients=found.beta,
        correlations=found.working.parameters,
        scale=found.scale,
        bread=found.bread,
        gap=found.gap,
        steps=found.steps,
        converged=found.converged,
        shrunk=_share_mixed(model, found),
        smallest=found.working.smallest,
    )
    return estimate


def _share_mixed(model: MarginalModel, found: Solution) -> float:
    """The largest share of independence that was mixed into a correlation."""
    working, problem = found.working, model.problem
    if not isinstance(working, Association):
        return working.shrunk
    shares = [np.zeros(1)]
    for part in problem.clusters.slices:
        shares.append(working.at(problem.working_rows(found.beta, part)).mixed(part))
    return float(max(share.max(initial=0.0) for share in shares))


def check(model: MarginalModel) -> None:
    """Refuse what cannot be estimated."""
    K = model.clusters[0].n_levels
    name = model.equations.correlation
    if has_categories(model.family):
        check_categories(model)
    elif name in ODDS_RATIOS[1:]:
        raise ModelError(
            f"correlation={name!r} associates categories, family='cumulative' or 'multinomial'; "
            "'log odds ratio' associates binary responses"
        )
    low, high = bounds_of(model.family)
    y = model.specification.y if has_categories(model.family) else model.proportions
    for end, words in ((low, "zero"), (high, "one")):
        if np.isfinite(end) and (y == end).all():
            raise DataError(
                f"the response is {words} in every row, so that no coefficient has a finite "
                "estimate, and nothing can be learned from such rows"
            )
    if K < 2:
        raise DataError(
            f"{model.clusters[0].name} has one level: errors of population-averaged models come "
            "from the variation between clusters, and two are the least"
        )
    if name == "nested" and len(model.clusters) < 2:
        raise ModelError("correlation='nested' needs clusters within clusters: groups='Lot/Wafer'")
    if name in TIMED and model.occasions is None:
        raise ModelError(
            f"correlation={name!r} needs time=, the column that says when a row was observed: rows "
            "are matched by it, never by their order"
        )
    if name == "log odds ratio":
        _check_binary(model)
    if name in ODDS_RATIOS:
        _check_sizes(model)
    if name == "fixed" and model.matrix is None:
        raise ModelError("correlation='fixed' needs matrix=, the correlations by places in time")


def _check_sizes(model: MarginalModel) -> None:
    """Refuse clusters whose matrices of all pairs would be too large."""
    rows = model.problem.clusters.largest
    if rows > MOST_ASSOCIATED:
        raise ModelError(
            f"correlation={model.equations.correlation!r} has a matrix of all rows of a cluster, "
            f"and the largest has {rows:,} (a response of J categories counts J - 1); at most "
            f"{MOST_ASSOCIATED:,} are taken: use 'independence', whose robust errors hold as well"
        )


def _check_binary(model: MarginalModel) -> None:
    """Refuse what a log odds ratio cannot associate."""
    y = model.specification.y
    single = model.trials is None or bool((model.trials == 1).all())
    if model.family.name != "binomial" or not single or not np.isin(y, (0.0, 1.0)).all():
        raise ModelError(
            "correlation='log odds ratio' associates binary responses, one trial a row: "
            "family='binomial'"
        )


def _with_shapes(model: MarginalModel, watch: Watch | None) -> MarginalModel:
    """Fill in shapes that were not given, by maximum likelihood under independence."""
    needed = [name for name in shapes_of(model.family) if name not in model.shapes]
    if model.family.name == "betabinomial" and (model.trials is None or (model.trials == 1).all()):
        return model
    if not needed:
        return model
    spec = model.specification
    shapes = {**starting_shapes(model.family, spec.y, model.trials), **model.shapes}
    equations = replace(model.equations, correlation="independence", scale=None, adjusted=False)
    for _ in range(SHAPE_STEPS):
        trial = replace(model, shapes=shapes, equations=equations, occasions=None, sampling=None)
        try:
            beta = solve(trial.problem, trial.working, trial.problem.start(), watch).beta
        except Outside:
            break
        eta = spec.X @ beta + (0.0 if spec.offset is None else spec.offset)
        found = likeliest_shapes(model.family, spec.y, eta, model.trials, spec.weights)
        shapes = {**found, **model.shapes}
    return replace(model, shapes=shapes)


def _refuse_separated(model: MarginalModel, found: Solution | None) -> None:
    """Refuse data in which a combination of the predictors separates the responses."""
    if model.equations.penalty or (found is not None and not _is_far(model, found)):
        return
    direction = separating(model.problem)
    if direction is None:
        return
    labels = [label.full for label in model.labels]
    names = [n for n, d in zip(labels, direction, strict=True) if abs(d) > 1e-6]
    if has_categories(model.family):
        raise ModelError(
            f"the data separate the categories: along {list_text(names)} some rows are all of one, "
            "so that the coefficients have no finite estimate; penalty='firth' gives finite ones, "
            "or leave the predictor out, or put categories together"
        )
    what = "all failures or all successes" if model.problem.bounds[1] == 1 else "all zero"
    raise ModelError(
        f"the data separate the response: along {list_text(names)} some rows are {what}, so that "
        "the coefficients have no finite estimate; penalty='firth' gives finite ones, or leave the "
        "predictor out"
    )


def _is_far(model: MarginalModel, found: Solution) -> bool:
    """Tell whether any mean lies near an end of its range."""
    problem = model.problem
    if not found.converged:
        return True
    if problem.bounds == (-np.inf, np.inf):
        return False
    low, high = problem.bounds
    for part in problem.clusters.slices:
        mu = problem.means(found.beta, part)
        if (mu - low).min() < 1e-5 or (np.isfinite(high) and (high - mu).min() < 1e-5):
            return True
    return False


def warn_of(estimate: MarginalEstimate) -> None:
    """Warn of what makes an estimate doubtful."""
    for sentence, category in doubts(estimate):
        warn(sentence, category)


def doubts(estimate: MarginalEstimate) -> list[tuple[str, type]]:
    """Sentences on what makes an estimate doubtful, with the kind of warning."""
    found: list[tuple[str, type]] = []
    model = estimate.model
    if not estimate.converged:
        found.append(
            (
                f"the estimating equations were not solved in {estimate.steps} steps: the "
                f"estimating function is {estimate.gap:.2g} of its standard error from zero; try a "
                "simpler correlation",
                ConvergenceWarning,
            )
        )
    if estimate.shrunk > 0:
        name = model.equations.correlation
        wrong = (
            "the odds ratios of all pairs of a cluster are those of no distribution"
            if isinstance(estimate.solution.working, Association)
            else f"the estimated {name} correlation is no positive definite matrix (smallest "
            f"eigenvalue {estimate.smallest:.3g})"
            if estimate.smallest <= 0
            else f"with the {name} correlation as it is estimated the equations have no solution"
        )
        found.append(
            (
                f"{wrong}; it was mixed with independence, a share of {estimate.shrunk:.2f}, which "
                "leaves the coefficients consistent; a simpler correlation is better",
                DataWarning,
            )
        )
    K, count = model.clusters[0].n_levels, len(estimate.correlations)
    many = model.equations.correlation in ("unstructured", "toeplitz", "m-dependent")
    if many and count >= K:
        found.append(
            (
                f"the {model.equations.correlation} correlation has {count} parameters for {K} "
                "clusters: errors that rest on so many estimates are too small; a simpler "
                "correlation is better",
                DataWarning,
            )
        )
    return found
