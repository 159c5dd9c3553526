"""`meta`: effects with known sampling variances, analysed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ranef import arguments
from ranef.api.fits import MetaModelFit
from ranef.design.call import ModelArguments
from ranef.design.sampling import SamplingErrors
from ranef.design.specify import specification_of
from ranef.errors import ModelError
from ranef.models.meta import METHODS, MetaModel, fit_meta, warn_of
from ranef.tables.origin import Origin

__all__ = ["meta"]


def meta(
    formula: str,
    data: Any,
    *,
    variance: Any = None,
    std_error: Any = None,
    covariance: Any = None,
    method: str = "reml",
    df: str = "default",
    study: str | None = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> MetaModelFit:
    """Fit a meta-analysis or meta-regression: effects whose sampling errors are known.

    y_i = x_i'b + u_i + e_i, u_i ~ N(0, tau^2) the difference between true effects, e_i ~ N(0, v_i)
    the sampling error. Each effect is weighted by 1 / (v_i + tau^2).

    Parameters
    ----------
    formula : str
        ``"yi ~ 1"``, ``"yi ~ dose + region"``. Random terms name levels on which true effects
        vary: ``"yi ~ 1 + (1 | study/effect)"`` for several effects of a study,
        ``"yi ~ 0 + outcome + (0 + outcome | study)"`` for several outcomes. Without any, every
        row is a study of its own.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays; `ranef.effect_sizes` makes one.
    variance, std_error : str or (n,) array
        Sampling variances of the effects, or their standard errors: one of them, or
    covariance : (n, n) array or table
        The covariance matrix of sampling errors that are correlated, rows as in the table.
    method : {"reml", "ml", "dl", "he", "hs", "sj", "eb", "pm", "fe"}
        Estimator of tau^2: restricted or plain maximum likelihood, DerSimonian and Laird's,
        Hedges', Hunter and Schmidt's, Sidik and Jonkman's, empirical Bayes (which is Paule and
        Mandel's), Paule and Mandel's; ``"fe"`` holds it at zero. The likelihoods are looked at
        over all tau^2: the estimate is the highest of their maxima, which ``fit.optimum.maxima``
        counts. With random terms or a covariance `method` is reml, ml or fe.
    df : {"default", "knapp-hartung", "knapp-hartung-conservative", "t", "normal", "satterthwaite"}
        Tests and intervals of the mean effects: Knapp and Hartung's by default, normal for
        ``method="fe"``, Satterthwaite's for dependent effects. The conservative variant never
        takes a variance smaller than that of the model.
    study : str, optional
        Column of the names of studies, for tables and pictures.
    offset : str or (n,) array, optional
        Added to the mean with coefficient 1.
    contrasts, missing, kernels, functions
        As in `lmm`.

    Returns
    -------
    MetaModelFit

    Raises
    ------
    ranef.errors.DataError
        A sampling variance is zero, negative or infinite; a covariance is none.
    ranef.errors.ModelError
        The sampling errors are given twice or not at all, or the model cannot be fitted.

    Warns
    -----
    ranef.errors.DataWarning
        The sampling variances span more than five orders of magnitude: units may be mixed.

    See Also
    --------
    effect_sizes : effects and their sampling variances from counts, means and correlations.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> fit = ranef.meta("yi ~ 1", bcg, variance="vi")
    >>> fit.glance()[["tau2", "q", "i2", "h2"]].round(3)
        tau2        q      i2      h2
    0  0.313  152.233  92.221  12.856
    >>> fit = ranef.meta("yi ~ ablat", bcg, variance="vi")
    >>> found = fit.test(["ablat"])
    >>> round(found.statistic, 3), found.df1, found.df2, round(found.p_value, 4)
    (12.591, 1, 11.0, 0.0046)
    """
    errors = SamplingErrors(variance, std_error, covariance, _column(study))
    call = ModelArguments(
        formula, data, offset=offset, contrasts=contrasts, missing=missing, kernels=kernels,
        functions=functions, undetermined="keep",
    )  # fmt: skip
    name = _estimator(method)
    spec = specification_of(call, None, errors)
    model = MetaModel(
        specification=spec, variances=errors.variances, covariance=errors.matrix, method=name,
        studies=errors.names,
    )  # fmt: skip
    columns = dict.fromkeys([*spec.recipe.columns, *errors.columns])
    fit = MetaModelFit(fit_meta(model), Origin.of(call.table, spec.accounting, columns), df)
    fit.method(None)
    warn_of(fit.estimate)
    return fit


def _column(study: Any) -> str | None:
    if study is None or isinstance(study, str):
        return study
    raise ModelError(f"study is the name of a column, not {type(study).__name__}")


SPELLED = {
    "dersimonianandlaird": "dl", "dersimonianlaird": "dl", "dersimonian": "dl", "moments": "dl",
    "hedges": "he", "hedgesolkin": "he", "hedgesandolkin": "he", "ca": "he",
    "hunterschmidt": "hs", "hunterandschmidt": "hs", "sidikjonkman": "sj",
    "sidikandjonkman": "sj", "empiricalbayes": "eb", "paulemandel": "pm", "pauleandmandel": "pm",
    "maximumlikelihood": "ml", "restrictedmaximumlikelihood": "reml", "random": "reml",
    "randomeffects": "reml", "fixed": "fe", "fixedeffect": "fe", "fixedeffects": "fe",
    "common": "fe", "commoneffect": "fe", "equaleffects": "fe", "ee": "fe", "ce": "fe",
}  # fmt: skip
"""How estimators are spelled elsewhere, in letters alone."""


def _estimator(method: Any) -> str:
    """Return the name of an estimator, or say what a full name is called here."""
    letters = "".join(filter(str.isalpha, method)).lower() if isinstance(method, str) else ""
    if letters in SPELLED and method not in METHODS:
        raise ModelError(f"method={method!r} is called {SPELLED[letters]!r} here")
    return arguments.choice("method", method, METHODS)
