"""`gee` fits population-averaged models by generalised estimating equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.dropping_out import planned_rows, read_dropout
from ranef.api.fits import MarginalModelFit
from ranef.design.call import ModelArguments, read_family
from ranef.design.clusters import ClusterColumns, Occasions
from ranef.design.generalised import generalised_specification_of
from ranef.display.progress import Tally
from ranef.errors import ModelError, suggestion
from ranef.families import Cumulative, Family, Multinomial
from ranef.families.variance import mean_variance, shapes_of
from ranef.formula.backticks import with_backticks
from ranef.inference.coefficients.estimating import check_df
from ranef.models.marginal import Equations, MarginalModel
from ranef.models.marginal_correlations import ESTIMATORS, read_correlation
from ranef.models.marginal_fitting import fit_marginal, warn_of
from ranef.models.records import CONDITIONAL
from ranef.solve.marginal.covariance import COVARIANCES
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["gee"]

Floats = NDArray[np.float64]
PENALTIES = ("firth",)


def gee(
    formula: str,
    data: Any,
    *,
    groups: str,
    time: str | None = None,
    family: str | Family = "gaussian",
    link: str | None = None,
    correlation: str = "exchangeable",
    estimator: str = "all",
    matrix: Any = None,
    weights: Any = None,
    sampling_weights: Any = None,
    offset: Any = None,
    dropout: str | None = None,
    scale: str | float = "n",
    covariance: str = "robust",
    df: str = "default",
    penalty: str | None = None,
    shapes: Mapping[str, float] | None = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    functions: Mapping[str, Callable[..., Any]] | None = None,
    progress: bool | None = None,
) -> MarginalModelFit:
    """Fit a population-averaged model by generalised estimating equations (GEE).

    The mean depends on the formula; rows of one cluster are correlated. Coefficients compare
    means over the population ("what happens to the country?"), and stay consistent if the
    working correlation is wrong; their standard errors come from the variation between clusters
    (Liang & Zeger 1986). `glmm` answers for one cluster ("how will this patient respond?").

    Parameters
    ----------
    formula : str
        The mean, ``"y ~ x"``, without random terms. A binomial response as in `glmm`.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays. Rows in any order.
    groups : str
        Column of the clusters, ``"id"``; ``"Lot/Wafer"`` for clusters within clusters, of which
        the outer ones are independent.
    time : str, optional
        Column of the time of a row within its cluster: numbers, dates or ordered categories.
        Gaps are gaps; two rows of a cluster at one time are refused.
    family : str or Family
        Any of `glmm`'s with a mean and a variance of one predictor, and ``"cumulative"`` and
        ``"multinomial"`` categories. Of a mean only the variance as a
        function of the mean counts. Shapes that bend this function (``phi`` of nbinom2, ``p`` of
        tweedie) are held, see `shapes`; all others are part of the scale.
    link : str, optional
        Link of the mean; the family's own by default.
    correlation : str
        The working correlation:

        - ``"independence"``, ``"exchangeable"``;
        - ``"ar1"``: alpha^distance on a grid of times; ``"car1"``: alpha^|t - s|;
        - ``"m-dependent(2)"``, ``"toeplitz"``: one for each distance, and
          ``"m-dependent(2, stationary=False)"`` one for each pair of times;
        - ``"unstructured"``: one for each pair of times;
        - ``"fixed"``: that of `matrix`;
        - ``"nested"``: one within the inner and one within the outer of two nested clusters;
        - ``"log odds ratio"``: of binary responses, one odds ratio for all pairs, by alternating
          logistic regressions (Carey, Zeger & Diggle 1993); the scale is one;
        - ``"global odds ratio"``: of ordered categories (cumulative), one odds ratio of all cuts
          and pairs (Heagerty & Zeger 1996), which ``"exchangeable"`` is of them;
        - ``"local odds ratio"``: of ordered or other categories (multinomial), odds ratios of
          neighbouring categories (Touloumis, Agresti & Kateri 2013), which ``"exchangeable"`` is
          of unordered ones.

        All but the first two, nested ones and odds ratios need `time`. An estimate that is no
        positive definite matrix is mixed with independence, with a warning.
    estimator : {"all", "adjacent", "ordgee"}
        Of ``"ar1"`` and ``"car1"``: least squares of all products of residuals on
        alpha^distance, as in geepack, or neighbours alone (ar1: the mean product of rows one
        step apart, as in gee and SAS). Of ``"global odds ratio"`` ``"ordgee"`` repeats geepack's
        function of that name, whose covariance within a response is not that of its indicators.
    matrix : (T, T) array or table, optional
        Of ``"fixed"``: correlations by distinct times in their order; a table with names is
        brought to that order by them.
    weights : str or (n,) array, optional
        Precisions: Var(y) = phi V(mu) / weight.
    sampling_weights : str or (n,) array, optional
        How many rows of the population a row stands for: it multiplies the row's residual in the
        estimating equations. Where they differ within clusters and tell of the response,
        independence is the safe working correlation.
    offset : str or (n,) array, optional
        Added to the linear predictor with coefficient 1.
    dropout : str, optional
        Formula of the log odds of being seen at a time, given that a cluster was seen at all
        times before: ``"~ lag(bdi) + treatment"``. Rows that were planned and not observed stand in
        the table with a missing response; those seen are weighted by the inverse of their
        probability (Robins, Rotnitzky & Zhao 1995), and the uncertainty of these weights is
        carried into the robust errors. Rows after a gap are not used. ``lag(bdi)`` is the value
        before in the cluster, by time.
    scale : {"n", "n-p"} or float
        Divisor of Pearson's squared residuals in the scale phi (and of products in
        correlations): rows (pairs), or these minus coefficients; or phi itself.
    covariance : {"robust", "model", "jackknife", "jackknife-full", "mancl-derouen", \
"kauermann-carroll", "fay-graubard", "morel"}
        Where standard errors come from; see `MarginalModelFit.tidy` for others afterwards.
    df : {"default", "normal", "clusters", "fay-graubard", "pan-wall", "small-sample"}
        Degrees of freedom of tests and intervals. The default is normal from 50 clusters on. For
        fewer it is what holds with the covariance: of ``"robust"`` ``"small-sample"``, Fay and
        Graubard's less by what makes up for a sandwich that is too small, so that 95% intervals
        are those of Kauermann and Carroll's covariance.
    penalty : {"firth"}, optional
        Penalise the equations as Firth (1993) does a likelihood: less bias with few rows, and
        finite estimates where the data separate a binary response.
    shapes : dict, optional
        Shapes of the variance function to hold, ``{"phi": 2.0}``. Those not given are estimated
        by maximum likelihood under independence, and held there.
    contrasts, missing, functions
        As in `lmm`.
    progress : bool, optional
        Show the steps; None (the default) shows those of a search that lasts longer than a second
        where a person looks.

    Returns
    -------
    MarginalModelFit

    Raises
    ------
    ranef.errors.FormulaError
        The formula cannot be read or names an unknown column.
    ranef.errors.DataError
        The table holds what the model cannot use: two rows of a cluster at one time.
    ranef.errors.ModelError
        The model cannot be fitted, or an argument is not valid.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The estimating equations were not solved.
    ranef.errors.DataWarning
        The correlation was no positive definite matrix, or has as many parameters as there are
        clusters.

    See Also
    --------
    glmm : the model of one cluster, with random effects.
    marginal : its coefficients, averaged over the population.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.gee("resp ~ age * smoke", ranef.data.load("ohio"), groups="id", time="age",
    ...                 family="binomial", correlation="ar1")
    >>> fit.coef.round(4).to_dict()
    {'(Intercept)': -1.9248, 'age': -0.1478, 'smoke': 0.2888, 'age:smoke': 0.0835}
    >>> fit.emmeans("smoke", at={"age": 0, "smoke": [0, 1]}).tidy()[["smoke", "estimate"]].round(3)
       smoke  estimate
    0    0.0     0.127
    1    1.0     0.163
    """
    call = ModelArguments(
        formula, data, read_family(family, link), weights=weights, offset=offset,
        contrasts=contrasts, missing=missing, functions=functions,
    )  # fmt: skip
    shown = arguments.optional_flag("progress", progress)
    equations = _equations(_of_categories(correlation, call.family), estimator, scale, penalty)
    arguments.choice("covariance", covariance, COVARIANCES)
    if df != "default":
        check_df(df)
    held = _shapes(call.family, shapes)
    if isinstance(groups, str):
        groups = with_backticks(groups, call.table.columns, ())
    columns = ClusterColumns(groups, _column("time", time), sampling_weights)
    planned = None if dropout is None else planned_rows(formula, call.table)
    whole = call if planned is None else replace(call, table=Table.of(planned.table))
    spec = generalised_specification_of(whole, columns)
    seen = None
    if planned is not None and dropout is not None:
        seen = read_dropout(dropout, planned, columns, spec.accounting.kept)
    model = MarginalModel(
        specification=spec.parts[CONDITIONAL],
        family=spec.family,
        trials=spec.extra,
        clusters=columns.factors,
        occasions=columns.occasions,
        sampling=columns.weights,
        shapes=held,
        matrix=None if matrix is None else _matrix(matrix, columns.occasions),
        equations=equations,
        dropout=seen,
    )
    with Tally("fitting", shown, unit=" steps") as watch:
        estimate = fit_marginal(model, watch)
    names = dict.fromkeys([*model.specification.recipe.columns, *columns.columns])
    frame = Origin.of(call.table, spec.accounting, names)
    fit = MarginalModelFit(estimate, frame, covariance, df)
    warn_of(estimate)
    return fit


def _of_categories(correlation: Any, family: Any) -> Any:
    """The association that ``"exchangeable"`` means of categories."""
    if correlation != "exchangeable":
        return correlation
    if isinstance(family, Cumulative):
        return "global odds ratio"
    plain = isinstance(family, Family) and not isinstance(family, Multinomial)
    return correlation if plain else "local odds ratio"


def _equations(correlation: Any, estimator: Any, scale: Any, penalty: Any) -> Equations:
    name, reach, stationary = read_correlation(correlation)
    way = arguments.choice("estimator", estimator, ESTIMATORS)
    of = ("global odds ratio",) if way == "ordgee" else ("ar1", "car1")
    if way != "all" and name not in of:
        raise ModelError(
            f"estimator={way!r} is one of {' and '.join(map(repr, of))}, not of {name!r}"
        )
    chosen = "" if penalty is None else arguments.choice("penalty", penalty, PENALTIES)
    value = None
    if isinstance(scale, Real) and not isinstance(scale, bool):
        value = arguments.number("scale", scale)
        if value <= 0:
            raise ModelError(f"scale={scale!r} is not positive")
    elif scale not in ("n", "n-p"):
        hint = suggestion(str(scale), ("n", "n-p"))
        raise ModelError(f"scale is 'n', 'n-p' or a positive number, not {scale!r}{hint}")
    if name == "log odds ratio" and scale == "n":
        value = 1.0
    return Equations(name, reach, stationary, way, value, scale == "n-p", chosen)


def _column(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ModelError(f"{name} is the name of a column, not {type(value).__name__}")


def _shapes(family: Any, given: Mapping[str, float] | None) -> dict[str, float]:
    """Check the family and the shapes that are to be held."""
    known = shapes_of(family) if isinstance(family, Family) else ()
    held = {} if given is None else arguments.mapping("shapes", given, "{'phi': 2.0}")
    for name, value in held.items():
        if name not in known:
            there = f"they are {', '.join(known)}" if known else "it has none"
            raise ModelError(
                f"the variance of {getattr(family, 'name', family)!r} has no shape {name!r}"
                f"{suggestion(str(name), known)}; {there}"
            )
        if not (isinstance(value, Real) and 0 < float(value) < np.inf):
            raise ModelError(f"shapes[{name!r}] is a positive number, not {value!r}")
    if isinstance(family, Cumulative | Multinomial) or not isinstance(family, Family):
        return {}
    mean_variance(family, {name: float(held.get(name, 1.5)) for name in known})
    return {name: float(value) for name, value in held.items()}


def _matrix(value: Any, occasions: Occasions | None) -> Floats:
    """Read a correlation matrix, a labelled one by its labels."""
    index = getattr(value, "index", None)
    try:
        R = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        R = np.empty(0)
    if R.ndim != 2 or R.shape[0] != R.shape[1] or not np.isfinite(R).all():
        raise ModelError("matrix is a square matrix of numbers: correlations by places in time")
    if index is None or callable(index):
        return R
    rows, columns = (list(map(_label, labels)) for labels in (index, value.columns))
    if rows == columns == list(range(len(R))):
        return R
    if len(set(rows)) < len(rows) or set(rows) != set(columns):
        raise ModelError("the rows and columns of matrix have not the same labels")
    if occasions is None:
        if rows != columns:
            raise ModelError(
                "the rows and columns of matrix are in different orders, and without time= "
                "they stand for the rows of a cluster in the table's order; bring them to one order"
            )
        return R
    wanted = [_label(occasions.label(v)) for v in np.unique(occasions.values)]
    if set(rows) != set(wanted):
        raise ModelError(
            f"matrix is labelled {_some(rows)}, and the places in time are {_some(wanted)}; "
            "give them the same labels, or pass matrix.to_numpy() in the order of time"
        )
    return R[np.ix_([rows.index(v) for v in wanted], [columns.index(v) for v in wanted])]


def _label(value: Any) -> Any:
    """Return a place in time as a number where it is one, else as text; a date in days."""
    import datetime

    if isinstance(value, datetime.date | np.datetime64):
        moment: Any = value
        return float(np.datetime64(moment, "us").astype(np.int64)) / 864e8
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _some(labels: list[Any]) -> str:
    texts = [f"{v:g}" if isinstance(v, float) else repr(v) for v in labels[:4]]
    return ", ".join(texts) + (" and others" if len(labels) > 4 else "")
