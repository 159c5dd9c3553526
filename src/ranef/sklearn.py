"""A scikit-learn estimator: mixed models in pipelines, grid searches and cross-validation.

Needs scikit-learn: ``pip install 'ranef[sklearn]'``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.fitting import glmm, lmm
from ranef.elsewhere import explained
from ranef.errors import DataError, ModelError
from ranef.formula.model import expand_dot as columns_of_dot
from ranef.formula.model import model_with_dot, response_of
from ranef.formula.syntax import Name
from ranef.tables import Table

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "ranef.sklearn needs scikit-learn 1.6 or later: pip install 'ranef[sklearn]'"
    ) from error

__all__ = ["MixedModel"]

KINDS = ("conditional", "typical", "population")
WEIGHTS = "sample_weight"


class MixedModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A linear or generalised mixed model as a scikit-learn regressor.

    The formula names columns of X; its response is `y`, or a column of X where `fit` is given no
    `y`. Of an array X the columns are called ``x0, x1, ...``.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (x | g)"``, as in `ranef.lmm`; ``"y ~ ."`` takes all columns.
    family : str or ranef.families.Family, optional
        Of a generalised model, as in `ranef.glmm`; None for a linear one.
    kind : {"conditional", "typical", "population"}
        What `predict` gives: with the effects of the rows' own levels, where the fit has seen
        them, and at zero for others; with effects of zero; averaged over all levels.
    missing : {"raise", "drop"}
        Rows with missing values when fitting. Predictions of such rows are NaN.
    random : {"formula", "none"}
        As in `ranef.lmm`: ``"none"`` fits a formula without random terms.
    options : dict, optional
        Further arguments of `ranef.lmm` or `ranef.glmm`: ``{"reml": False}``,
        ``{"zero": "~ x"}``.

    Attributes
    ----------
    fit_ : LinearMixedModelFit or GeneralizedMixedModelFit
        The fit, with everything that can be asked of it.
    response_ : str
        Name of the response.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X has names of columns.

    Notes
    -----
    Cross-validation with `sklearn.model_selection.GroupKFold` scores predictions for groups that
    the model has not seen, with `KFold` those for the groups at hand: two questions with two
    answers, see :doc:`the page on selection </selection>`.

    In a pipeline the steps before have to keep the names of columns:
    ``ColumnTransformer(..., verbose_feature_names_out=False).set_output(transform="pandas")``.
    Without names the formula names the columns ``x0, x1, ...`` in the order in which they come.

    Examples
    --------
    >>> import ranef
    >>> from ranef.sklearn import MixedModel
    >>> from sklearn.model_selection import GroupKFold, KFold, cross_val_score
    >>> sleep = ranef.data.load("sleepstudy")
    >>> model = MixedModel("Reaction ~ Days + (Days | Subject)")
    >>> X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    >>> within = cross_val_score(model, X, y, cv=KFold(10, shuffle=True, random_state=0))
    >>> new = cross_val_score(model, X, y, cv=GroupKFold(6), groups=sleep["Subject"])
    >>> bool(within.mean() > 0.6), bool(new.mean() < 0.4)
    (True, True)
    """

    def __init__(
        self,
        formula: str = "y ~ .",
        *,
        family: Any = None,
        kind: str = "conditional",
        missing: str = "raise",
        random: str = "formula",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.formula = formula
        self.family = family
        self.kind = kind
        self.missing = missing
        self.random = random
        self.options = options

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MixedModel:
        """Fit the model.

        Parameters
        ----------
        X : table or (n, m) array
            pandas or polars with the columns that the formula names.
        y : (n,) array, optional
            The response; a column of X where it is left out.
        sample_weight : (n,) array, optional
            Precision weights, see `ranef.lmm`; of a generalised model they multiply the
            log density.

        Returns
        -------
        MixedModel

        Raises
        ------
        ranef.errors.RanefError
            As `ranef.lmm` and `ranef.glmm` raise; all of data and formula are ValueErrors.
        """
        arguments.choice("kind", self.kind, KINDS)
        columns, y = self._read(X, y)
        self.response_ = self._response(columns)
        columns = self._with_response(columns, y)
        model = {"missing": self.missing, "random": self.random, **self._options()}
        if sample_weight is not None:
            if "weights" in model:
                raise ModelError("weights are given by options= and by sample_weight=: give one")
            model["weights"] = np.asarray(sample_weight)
        table = Table.of(columns)
        if self.family is None:
            self.fit_ = explained(lmm)(self.formula, table, **model)
        else:
            self.fit_ = explained(glmm)(self.formula, table, family=self.family, **model)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the mean of the response.

        Parameters
        ----------
        X : table or (n, m) array

        Returns
        -------
        (n,) float64 array
            NaN where a column that the formula uses is missing.
        """
        check_is_fitted(self)
        columns, _ = self._read(X, None, reset=False)
        predicted = self.fit_.predict(columns, kind=self.kind, type="response")
        found = np.asarray(predicted, dtype=np.float64)
        if found.ndim != 1:
            raise ModelError(
                "predict() of scikit-learn gives one number a row, and the response has "
                "categories: ask fit_.predict(X) for their probabilities"
            )
        return found

    def _options(self) -> dict[str, Any]:
        if self.options is None:
            return {}
        if isinstance(self.options, Mapping):
            return dict(self.options)
        raise ModelError(
            "options are further arguments of ranef.lmm or ranef.glmm by name, such as "
            f"{{'reml': False}}, not {self.options!r}"
        )

    def _read(self, X: Any, y: Any, reset: bool = True) -> tuple[dict[str, Any], Any]:
        """Return the columns by name, and the response where it is apart."""
        if isinstance(X, Mapping) or hasattr(X, "columns") or hasattr(X, "column_names"):
            table = Table.of(X)
            own = self._taken(table, y) if reset else self.__dict__.get("taken_response_")
            if reset:
                self.taken_response_ = own
            if isinstance(X, Mapping):  # scikit-learn knows no table of this kind
                X = pd.DataFrame({name: table.values(name) for name in table.columns})
            features = X if own not in table.columns else _without(X, own)
            validate_data(self, features, reset=reset, skip_check_array=True)
            columns = {name: table.values(name) for name in table.columns}
            if y is not None:
                y = column_or_1d(y, warn=True)
                if len(y) != table.n_rows:
                    raise DataError(f"y has {len(y)} values, and X {table.n_rows} rows")
            return columns, y
        if not reset and hasattr(self, "feature_names_in_"):
            names = ", ".join(map(repr, self.feature_names_in_))
            raise DataError(
                f"the model was fitted to a table with the columns {names}, and X is an array "
                "without names: give a table with these columns"
            )
        if isinstance(X, str) or X is None:
            Table.of(X)
        if reset and y is None:
            raise DataError(
                "an array X has no column for the response: MixedModel requires y to be passed, "
                "but the target y is None"
            )
        if reset:
            values, y = validate_data(self, X, y, reset=True, y_numeric=True, dtype="numeric")
            if len(values) < 2:
                raise DataError("one row is no sample of a group: n_samples=1")
        else:
            values = validate_data(self, X, reset=False, dtype="numeric")
        return {f"x{i}": column for i, column in enumerate(np.asarray(values).T)}, y

    def __getattr__(self, name: str) -> Any:
        hint = "; after fit() the fit is fit_, its coefficients fit_.coef"
        known = name.endswith("_") and not name.startswith("_")
        raise AttributeError(f"MixedModel has no {name!r}{hint if known else ''}")

    def _taken(self, table: Table, y: Any) -> str | None:
        """The column of X that is the response where none is given: it is no feature."""
        if y is not None:
            return None
        response = self._response(table.columns)
        return response if response in table.columns else None

    def _response(self, columns: Iterable[str]) -> str:
        """The name on the left of the formula."""
        formula = arguments.formula(self.formula)
        node = response_of(model_with_dot(formula, columns_of_dot(formula, tuple(columns), [])))
        return node.bare.value if isinstance(node.bare, Name) else node.printed

    def _with_response(self, columns: dict[str, Any], y: Any) -> dict[str, Any]:
        if y is None:
            if self.response_ not in columns:
                raise DataError(
                    f"y is missing, and X has no column {self.response_!r}: give y, or put the "
                    "response into X"
                )
            return columns
        return {**columns, self.response_: y}


def _without(X: Any, name: str | None) -> Any:
    """Return a table of any library without one of its columns."""
    if hasattr(X, "iloc"):  # pandas
        return X.drop(columns=[name])
    names = X.column_names if hasattr(X, "column_names") else X.columns
    return X.select([column for column in names if column != name])


# Names of arguments that they do not have are answered by what they are called here.
MixedModel.__init__ = explained(MixedModel.__init__, "MixedModel")  # type: ignore[method-assign]
MixedModel.fit = explained(MixedModel.fit, "fit")  # type: ignore[method-assign]
