"""A fit in the form that the package marginaleffects takes.

That package (Python, 0.6) refuses objects that it does not know ("Unknown model type"),
but takes any instance of its own abstract class `ModelAbstract`, whose methods ask for
coefficients, their covariance matrix, and predictions at other coefficients. This
file answers these with the fit's own functions. Nothing else in ranef needs the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.recipe import GIVEN_OFFSET
from ranef.errors import ModelError
from ranef.fits.columns import own_columns
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, require
from ranef.formula.syntax import column_names
from ranef.tables import Table

__all__ = ["for_marginaleffects"]

Floats = NDArray[np.float64]

KINDS = ("population", "typical")
RESPONSE = "ranef_response"


def for_marginaleffects(fit: MixedFit, kind: str = "population") -> Any:
    """Return the fit as the package marginaleffects takes a model.

    Its `avg_comparisons`, `avg_slopes`, `predictions` and their like then run on
    the fit, with predictions of the population or of a typical level and with
    standard errors through all coefficients and variance parameters. `ranef.average`
    answers the same questions without that package, with exact derivatives, and in
    linear models with degrees of freedom.

    Parameters
    ----------
    kind : {"population", "typical"}
        As in `predict`.

    Examples
    --------
    >>> from marginaleffects import avg_comparisons  # doctest: +SKIP
    >>> avg_comparisons(fit.for_marginaleffects(), variables="drug")  # doctest: +SKIP
    """
    kind = arguments.choice("kind", kind, KINDS)
    require(fit, "for_marginaleffects()", Likelihood)
    try:
        import polars as pl
        from marginaleffects.classes.model import ModelAbstract, ModelVault
    except ImportError:
        raise ModelError(
            "this needs the package marginaleffects (0.6 or later): pip install marginaleffects"
        ) from None
    estimate = fit.estimate
    names = [label.full for label in fit.labels]
    values, covariance = fit.inference.prediction_parameters()
    names += [f"theta {k + 1}" for k in range(len(values) - len(names))]
    columns, variables = _model_data(fit, pl)
    columns[RESPONSE] = pl.Series(estimate.specification.y)

    class Wrapped(ModelAbstract):  # type: ignore[misc, unused-ignore]
        def validation(self) -> None:
            """Say nothing: the types stand in the vault.

            The package's own reading of them fails on decimal numbers under polars 2.
            """

        def get_coef(self) -> Floats:
            return values

        def get_coefnames(self) -> NDArray[Any]:
            return np.array(names)

        def get_vcov(self, vcov: Any = True) -> Floats | None:
            return None if vcov is False else covariance

        def find_predictors(self) -> list[str]:
            return variables

        def find_response(self) -> str:
            return RESPONSE

        def find_variables(self) -> list[str]:
            return [RESPONSE, *variables]

        def get_exog(self, newdata: Any) -> Any:
            return newdata

        def get_predict(self, params: Any, newdata: Any) -> Any:
            at = fit.inference.moved(np.asarray(params, dtype=np.float64))
            rows = newdata.to_polars() if hasattr(newdata, "to_polars") else newdata
            means = type(fit)(at, fit.frame).predict(rows, kind=kind).to_numpy()
            n = len(means)
            if means.ndim == 1:
                return pl.DataFrame({"rowid": np.arange(n), "estimate": means})
            return pl.DataFrame(
                {
                    "rowid": np.tile(np.arange(n), means.shape[1]),
                    "group": np.repeat(list(fit.categories or ()), n),
                    "estimate": means.T.ravel(),
                }
            )

    vault = ModelVault(
        coef=values,
        coefnames=np.array(names),
        vcov=covariance,
        # the package parses it, which the fit's own language is not made for
        formula=f"{RESPONSE} ~ {' + '.join(f'`{name}`' for name in variables) or '1'}",
        modeldata=pl.DataFrame(columns),
        variables_type={name: _type(column, pl) for name, column in columns.items()},
        package="ranef",
        variable_names=[RESPONSE, *variables],
    )
    return Wrapped(fit, vault)


def _type(column: Any, pl: Any) -> str:
    """Return the package's word for what a column holds."""
    if isinstance(column.dtype, pl.Enum):
        return "character"
    if column.dtype == pl.Boolean:
        return "boolean"
    values = np.asarray(column, dtype=np.float64)
    if np.all((values == 0) | (values == 1)):
        return "binary"
    return "integer" if column.dtype.is_integer() else "numeric"


def _model_data(fit: MixedFit, pl: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the predictors as columns of polars, categories as Enums, and their names."""
    table = Table.of(own_columns(fit))
    used = {
        name
        for spec in fit.parts.values()
        for node in spec.recipe.model.predictors
        for name in column_names(node)
    }
    variables = [name for name in table.columns if name in {*used, GIVEN_OFFSET}]
    columns = {}
    for name in variables:
        if table.kind(name) in ("categorical", "text", "mixed"):
            codes, levels = table.codes(name)
            labels = [str(level) for level in levels]
            columns[name] = pl.Series([labels[k] for k in codes]).cast(pl.Enum(labels))
        else:
            columns[name] = pl.Series(table.values(name))
    return columns, variables
