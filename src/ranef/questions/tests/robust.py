"""`robust`: standard errors and tests that do not rely on the model's covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.parameter_tables import estimate_columns
from ranef.display.answer import Answer
from ranef.display.columns import Column, Listing, unprinted
from ranef.errors import DataError, ModelError, UnknownColumnError, suggestion
from ranef.fits.hypothesis import HypothesisTest, hypotheses_text
from ranef.fits.mixed import MixedFit
from ranef.fits.named_hypotheses import read_hypotheses
from ranef.fits.protocol import Clustered, Levelled, offers, require
from ranef.inference.coefficients.clusters import TYPES
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.sandwich import Sandwich
from ranef.inference.coefficients.wald import Intervals, standard_errors, wald
from ranef.tables.origin import matrix

__all__ = ["RobustCovariance", "robust"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LEAST_DF = 4
DEGREES = {"residuals": "Satterthwaite's", "scores": "clusters minus one"}
READING = {
    "residuals": "The estimates are those of the fit; their standard errors hold even if its "
    "random effects or residuals are misspecified, as long as clusters are independent.",
    "scores": "The estimates are those of the fit; their standard errors come from the variation "
    "of its scores between clusters, which must be independent, and not from its distributions.",
}
"""By what a sandwich is made of: what its standard errors rest on."""


@dataclass(frozen=True, eq=False, repr=False)
class RobustCovariance(Answer):
    """Cluster-robust covariance of a fit's coefficients; `ranef.robust` makes it.

    Attributes
    ----------
    fit : MixedFit
    type : str
        ``"CR0"`` to ``"CR3"``.
    cluster : str
        What the clusters are.
    n_clusters : int
    covariance : (P, P) float64 array
        Of all coefficients.
    sandwich : Sandwich
        What the degrees of freedom come from.
    """

    fit: MixedFit
    type: str
    cluster: str
    n_clusters: int
    covariance: Floats
    sandwich: Sandwich

    @property
    def title(self) -> str:
        return f"Cluster-robust covariance {self.type}: {self.fit.formula}"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return tuple(label.full for label in self.fit.labels)

    @property
    def vcov(self) -> Any:
        """The covariance matrix, labelled."""
        return matrix(self.covariance, self.terms, self.terms, self.library)

    @property
    def knowledge(self) -> Knowledge:
        """What is known of the coefficients: degrees of freedom and joint tests of clusters."""
        beta, of = self.fit.coefficients, self.sandwich
        return Knowledge(
            self.covariance,
            of.degrees_of_freedom,
            lambda L, value: of.f_test(L, L @ beta - value),
        )

    @property
    def test_words(self) -> str:
        """On what tests and intervals rest."""
        return (
            f"t tests on a cluster-robust covariance ({self.type}, {self.n_clusters:,} clusters: "
            f"{self.cluster}), degrees of freedom: {DEGREES[self.sandwich.made_of]}"
        )

    def intervals(self, conf_level: float = 0.95) -> Intervals:
        """Return tests and intervals of the coefficients as arrays.

        t tests: with Satterthwaite's degrees of freedom in a linear model (Pustejovsky &
        Tipton 2018), with one less than there are clusters in a generalised one.
        """
        level = arguments.conf_level(conf_level)
        error = standard_errors(np.eye(len(self.covariance)), self.covariance)
        return wald(self.fit.coefficients, error, self._degrees, level)

    @cached_property
    def _degrees(self) -> Floats:
        """Degrees of freedom of each coefficient."""
        return self.sandwich.degrees_of_freedom(np.eye(len(self.covariance)))

    def tidy(self, *, conf_level: float = 0.95) -> Any:
        """Return the coefficients as a table in the library the data came in.

        Returns
        -------
        table
            ``component, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``.
        """
        return self.tabled(self._coefficients(conf_level))

    def confint(self, *, conf_level: float = 0.95) -> Any:
        """Return confidence intervals: ``term, estimate, conf_low, conf_high``."""
        names = ("estimate", "conf_low", "conf_high")
        columns = estimate_columns(self.intervals(conf_level), conf_level, names)
        return self.tabled(Listing("intervals", (Column("term", list(self.terms)), *columns)))

    def test(self, L: Any, rhs: Any = None) -> HypothesisTest:
        """Test several hypotheses at once.

        Parameters
        ----------
        L : (q, P) array or sequence of str
            Linear functions of the coefficients; or names of coefficients that are zero; or
            equations, ``"age = 1"``.
        rhs : (q,) array, optional
            What the functions are under the hypothesis; zero by default.

        Returns
        -------
        HypothesisTest
            In a linear model the approximate Hotelling test ("HTZ" of clubSandwich), whose
            second degrees of freedom the clusters give; in a generalised one Wald's
            statistic over q, on q and clusters minus one degrees of freedom.

        Examples
        --------
        >>> import ranef
        >>> stool = ranef.data.load("ergoStool")
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", stool)
        >>> found = ranef.robust(fit).test(["TypeT2", "TypeT3", "TypeT4"])
        >>> round(found.statistic, 2), found.df1, round(found.df2, 1)
        (28.03, 3, 6.0)
        """
        rows, target = read_hypotheses(L, rhs, self.terms)
        return HypothesisTest(
            self.sandwich.f_test(rows, target),
            hypotheses_text(rows, target, self.terms),
            self.test_words,
            f"Joint test: {self.fit.formula}",
            self.library,
            self.fit.coded,
        )

    def tables(self) -> tuple[Listing, ...]:
        return (self._coefficients(0.95),)

    def _coefficients(self, conf_level: float) -> Listing:
        labels, intervals = self.fit.labels, self.intervals(conf_level)
        names: dict[str, list[Any]] = {"component": [label.component for label in labels]}
        if any(label.response is not None for label in labels):
            names["response"] = [label.response for label in labels]
        names["term"] = [label.term for label in labels]
        heads = {"statistic": "t"}
        estimate, error, *tests = estimate_columns(intervals, conf_level, headings=heads)
        columns = (
            Column("coefficient", self.terms, heading="", tabled=False),
            *unprinted(**names),
            *(estimate, error),
            Column("model_error", self._model_errors, error.style, "model's", tabled=False),
            *tests,
        )
        caption = f"Coefficients (t tests, degrees of freedom: {DEGREES[self.sandwich.made_of]})"
        return Listing("coefficients", columns, caption)

    def sentences(self) -> tuple[str, ...]:
        made_of = self.sandwich.made_of
        clusters = f"{self.n_clusters:,} clusters: {self.cluster}. {READING[made_of]}"
        return (clusters, *(self._doubts() if made_of == "residuals" else ()))

    @property
    def _model_errors(self) -> Floats:
        """Standard errors that rely on the model."""
        return np.sqrt(np.diag(self.fit.knowledge().covariance))

    def _doubts(self) -> list[str]:
        """Say where the model's standard errors are far off, and where these are."""
        lines = []
        intervals, model = self.intervals(), self._model_errors
        ratio = intervals.std_error / np.where(model > 0, model, np.nan)
        if np.nanmax(ratio, initial=0.0) > 1.5:
            worst = self.terms[int(np.nanargmax(ratio))]
            lines.append(
                f"That of {worst} is {np.nanmax(ratio):.1f} times the model's: a random slope may "
                "be missing."
            )
        if np.nanmin(intervals.df, initial=np.inf) < LEAST_DF:
            lines.append(
                f"Below {LEAST_DF} degrees of freedom the approximation is poor: do not rely on "
                "p-values and intervals there (Tipton 2015)."
            )
        return lines


def robust(fit: MixedFit, cluster: Any = None, type: str | None = None) -> RobustCovariance:
    """Estimate the covariance of the coefficients from clusters, not from the model.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    cluster : str or array, optional
        A grouping factor, a column that the formulas use, or one label for each row.
        All random effects must lie within clusters. By default the outermost
        grouping factor.
    type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}, optional
        As in clubSandwich. CR2, the default of linear models, is unbiased where the
        model holds (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018); CR0 is not
        corrected for few clusters; the CR1 multiply it by a factor; CR3 is close to
        leaving out one cluster at a time. Generalised models have CR1, their default,
        and CR0.

    Returns
    -------
    RobustCovariance
        With ``vcov``, ``tidy()``, ``confint()`` and ``test(L)``.

    Raises
    ------
    ranef.errors.ModelError
        Random effects cross the clusters, so that no rows are independent of others;
        or the type is not for this kind of model.

    See Also
    --------
    anova : tests that rely on the model's covariance.

    Examples
    --------
    The slopes of the subjects differ, which a model without them misses:

    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
    >>> fit.tidy()[["term", "std_error", "df"]].round(3)
              term  std_error      df
    0  (Intercept)      9.747   22.81
    1         Days      0.804  161.00
    >>> ranef.robust(fit).tidy()[["term", "std_error", "df"]].round(3)
              term  std_error    df
    0  (Intercept)      6.825  17.0
    1         Days      1.546  17.0
    """
    require(fit, "robust()", Clustered)
    kind = None if type is None else arguments.choice("type", type, TYPES)
    name, codes = _clusters(fit, cluster)
    m = int(codes.max()) + 1
    if m < 2:
        raise ModelError(f"robust() needs two or more clusters; {name} has one")
    _check_nested(fit, codes, name, by_default=cluster is None)
    sandwich = fit.sandwich(codes, kind)
    return RobustCovariance(fit, sandwich.type, name, m, sandwich.vcov, sandwich)


def _clusters(fit: MixedFit, cluster: Any) -> tuple[str, Ints]:
    """Name and number of each row's cluster."""
    factors = fit.factors if offers(fit, Levelled) else ()
    if cluster is None and not factors:
        raise ModelError("this fit has no grouping factor: name the clusters by cluster=")
    if cluster is None:
        outer = min(factors, key=lambda f: f.n_levels)
        return outer.name, outer.codes.astype(np.intp)
    if isinstance(cluster, str):
        for factor in factors:
            if factor.name == cluster:
                return cluster, factor.codes.astype(np.intp)
        data = fit.frame.data
        if data is None or cluster not in data:
            names = [f.name for f in factors] + ([] if data is None else list(data.columns))
            raise UnknownColumnError(
                f"{cluster!r} is neither a grouping factor nor a column that the formulas use"
                f"{suggestion(cluster, names)}; pass its values, one a row"
            )
        values = data.values(cluster)
        return cluster, _codes(fit, values, cluster)
    name = str(getattr(cluster, "name", None) or "the clusters given")
    cluster = fit.frame.aligned(cluster, "cluster")
    return name, _codes(fit, np.asarray(cluster, dtype=object), name)


def _codes(fit: MixedFit, values: NDArray[Any], name: str) -> Ints:
    rows = fit.frame.accounting
    if values.ndim != 1 or len(values) not in (rows.n_rows, rows.n_used):
        raise DataError(
            f"the clusters have shape {values.shape}; give one label for each of the "
            f"{rows.n_rows:,} rows of the table"
        )
    if len(values) == rows.n_rows and rows.kept is not None:
        values = values[rows.kept]
    codes: dict[Any, int] = {}
    out = np.empty(len(values), dtype=np.intp)
    for i, value in enumerate(values.tolist()):
        if value is None or value != value:
            raise DataError(f"{name} is missing in row {i} of the model; every row has a cluster")
        out[i] = codes.setdefault(value, len(codes))
    return out


def _check_nested(fit: MixedFit, codes: Ints, name: str, *, by_default: bool) -> None:
    """Refuse clusters that share random effects."""
    for term in fit.terms if offers(fit, Levelled) else ():
        factor = fit.factors[term.factor]
        if term.kernel is not None:
            raise ModelError(
                f"the levels of {factor.name} are correlated by a kernel, so no clusters are "
                "independent of each other: a cluster-robust covariance does not apply"
            )
        if factor.members is not None:
            raise ModelError(
                f"rows may belong to several levels of {factor.name}, so no clusters are "
                "independent of each other: a cluster-robust covariance does not apply"
            )
        if not factor.lies_within(codes):
            hint = (
                "with crossed random effects there are no independent clusters"
                if by_default
                else "choose clusters that hold whole levels, such as the outermost factor"
            )
            raise ModelError(
                f"levels of {factor.name} have rows in several clusters ({name}), so clusters "
                f"share random effects and are not independent: {hint}"
            )
