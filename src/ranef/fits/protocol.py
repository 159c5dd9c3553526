"""What every fit has, whatever was fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ranef.description.equation import Equation
    from ranef.display.answer import Summary

__all__ = ["Fit"]


class Fit(ABC):
    """A fitted model.

    A fit does not change: its methods return new tables and new fits. What
    costs work is a method.

    Attributes
    ----------
    estimate
        What the solver found, as arrays.
    """

    estimate: Any
    file_kind: ClassVar[str]

    @property
    @abstractmethod
    def formula(self) -> str:
        """The formula as typed."""

    @property
    @abstractmethod
    def n_obs(self) -> int:
        """Number of rows in the model."""

    @property
    @abstractmethod
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""

    @property
    @abstractmethod
    def coef(self) -> Any:
        """Fixed effects, labelled."""

    @property
    @abstractmethod
    def vcov(self) -> Any:
        """Covariance matrix of the fixed effects, labelled."""

    @abstractmethod
    def summary(self, *, conf_level: float = 0.95, df: str = "satterthwaite") -> Summary:
        """Return the answer in words and tables."""

    @abstractmethod
    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str = "satterthwaite",
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table."""

    @abstractmethod
    def glance(self) -> Any:
        """Return the fit in one row."""

    @abstractmethod
    def predict(self, new: Any = None, *, kind: str = "conditional", type: str = "response") -> Any:
        """Return predictions."""

    @abstractmethod
    def fitted(self, kind: str = "conditional") -> Any:
        """Return fitted values, one a row of the user's table."""

    @abstractmethod
    def residuals(self, kind: str = "response") -> Any:
        """Return residuals, one a row of the user's table."""

    @abstractmethod
    def simulate(self, n: int = 1, *, rng: Any = None, kind: str = "new") -> Any:
        """Return responses drawn from the fitted model."""

    @abstractmethod
    def refit(self, y: Any) -> Any:
        """Fit the same model to another response, or to many."""

    @abstractmethod
    def equation(self) -> Equation:
        """Return the model in symbols."""

    @abstractmethod
    def save(self, path: str | PathLike[str]) -> None:
        """Write the fit to a file that `ranef.load` reads."""

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
