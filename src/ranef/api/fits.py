"""The fits that a user holds: what a fit knows, composed with the questions asked of it."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from ranef.api.questions import Questions
from ranef.elsewhere import explained_methods
from ranef.fits.generalised import GeneralisedFit
from ranef.fits.linear import LinearFit
from ranef.fits.marginal import MarginalFit
from ranef.fits.meta import MetaFit
from ranef.questions.synthesis.influence import StudyInfluence, study_influence
from ranef.storage import register, saving
from ranef.storage.saving import Functions

if TYPE_CHECKING:
    from ranef.api.meta_pictures import MetaPlots

__all__ = [
    "GeneralizedMixedModelFit",
    "LinearMixedModelFit",
    "MarginalModelFit",
    "MetaModelFit",
    "load",
]


@explained_methods
class LinearMixedModelFit(Questions, LinearFit):
    """A fitted linear mixed model; `ranef.lmm` makes one.

    Attributes
    ----------
    estimate : Estimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> round(fit.loglik, 3), fit.df_model, fit.n_groups
    (-159.827, 3, {'Batch': 6})
    """

    file_kind = "linear"


@explained_methods
class GeneralizedMixedModelFit(Questions, GeneralisedFit):
    """A fitted generalised linear mixed model; `ranef.glmm` makes one.

    Attributes
    ----------
    estimate : GeneralisedEstimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> round(fit.loglik, 4), fit.df_model, fit.n_groups
    (-92.0263, 5, {'herd': 15})
    """

    file_kind = "generalised"


@explained_methods
class MarginalModelFit(Questions, MarginalFit):
    """A fitted population-averaged model; `ranef.gee` makes one.

    Attributes
    ----------
    estimate : MarginalEstimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.
    covariance : str
        Where standard errors come from.
    df : str
        Method of the degrees of freedom of tests.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.gee("resp ~ age * smoke", ranef.data.load("ohio"), groups="id", time="age",
    ...                 family="binomial")
    >>> fit.n_groups, round(fit.scale, 4), fit.method(None)
    ({'id': 537}, 0.9994, 'normal')
    """

    file_kind = "marginal"


@explained_methods
class MetaModelFit(Questions, MetaFit):
    """A fitted meta-analysis; `ranef.meta` makes one.

    Attributes
    ----------
    estimate : MetaEstimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.
    df : str
        Method of the degrees of freedom of tests.

    Examples
    --------
    >>> import ranef
    >>> rows = {"y": [0.3, -0.1, 0.5, 0.9], "v": [0.02, 0.05, 0.04, 0.1]}
    >>> fit = ranef.meta("y ~ 1", rows, variance="v")
    >>> round(fit.tau2, 4), fit.optimum.maxima, fit.method(None)
    (0.0792, 1, 'knapp-hartung')
    """

    file_kind = "meta"

    def influence(self) -> StudyInfluence:  # type: ignore[override]
        """Leave out one study at a time, see `study_influence`."""
        return study_influence(self)

    influence.__doc__ = study_influence.__doc__

    @property
    def plot(self) -> MetaPlots:  # type: ignore[override]
        """The pictures of the fit: ``fit.plot.forest()`` and more."""
        from ranef.api.meta_pictures import MetaPlots

        return MetaPlots(self)


register(LinearMixedModelFit)
register(GeneralizedMixedModelFit)
register(MarginalModelFit)
register(MetaModelFit)


def load(
    path: str | PathLike[str], *, functions: Functions | None = None, max_gb: float | None = None
) -> LinearMixedModelFit | GeneralizedMixedModelFit | MarginalModelFit | MetaModelFit:
    """Read a fit that `fit.save` wrote.

    Parameters
    ----------
    path : str or path
    functions : dict, optional
        Functions that were handed to `lmm` or `glmm`: a file does not hold them, and
        predictions for new tables need them again.
    max_gb : float, optional
        The most memory, in GB, that the file's contents may take; by default 1 GiB or 12
        times the size of the file, or 200 times where half of the memory that is free holds
        that. A file that claims more is refused before it is unpacked.

    Returns
    -------
    LinearMixedModelFit, GeneralizedMixedModelFit, MarginalModelFit or MetaModelFit

    Raises
    ------
    ranef.errors.FileError
        The file is missing, is not a saved fit, is damaged, or comes from a
        newer ranef.

    Examples
    --------
    >>> import ranef
    >>> ranef.load("nowhere.ranef")
    Traceback (most recent call last):
    ...
    ranef.errors.FileError: cannot read nowhere.ranef: No such file or directory
    """
    fit: LinearMixedModelFit | GeneralizedMixedModelFit | MarginalModelFit | MetaModelFit
    fit = saving.load(path, functions, max_gb)
    return fit
