"""What a fit of a linear mixed model has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.mixed import LinearDescription
from ranef.errors import ModelError
from ranef.families.links import Scale
from ranef.families.transformations import Transformation
from ranef.fits.fit import COMPONENTS, TYPES
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Estimand
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Name
from ranef.models.records import LinearEstimate

__all__ = ["LinearFit"]


@dataclass(frozen=True, eq=False, repr=False)
class LinearFit(MixedFit):
    """A fitted linear mixed model, without the questions asked of it."""

    estimate: LinearEstimate

    @property
    def kind_words(self) -> str:
        """The kind of model in refusals."""
        return "a linear mixed model" if self.terms else "a linear model"

    @property
    def reml(self) -> bool:
        """True if the restricted likelihood was maximised."""
        return self.estimate.reml

    @property
    def sigma(self) -> float:
        """Residual standard deviation (of a row of weight 1)."""
        return self.estimate.sigma

    @property
    def residual_variance(self) -> float | None:
        """Variance of the residual of a row of weight 1."""
        return self.sigma**2

    @property
    def description(self) -> LinearDescription:
        """What is said of the fit in words."""
        return LinearDescription(self)

    def residual_structures(self) -> Any:
        """Return the residual structures that were stated to be tried in turn, one a row.

        Returns
        -------
        table
            ``structure, outcome, chosen``: why those before the one chosen were passed over;
            those behind it were not tried. Without a sequence the structure of the fit alone.

        Examples
        --------
        >>> import ranef
        >>> children = ranef.data.load("Orthodont")
        >>> fit = ranef.lmm("distance ~ age * Sex", children,
        ...                 residual=["us(age | Subject)", "cs(age | Subject)"])
        >>> fit.residual_structures()
                   structure            outcome  chosen
        0  us(age | Subject)  optimum is proved    True
        1  cs(age | Subject)          not tried   False
        """
        own = self.estimate.specification.residual
        if own is None:
            raise ModelError(
                "the residuals of this model are independent: residual= of lmm states a structure"
            )
        stated, chosen = own.stated or (own.label,), len(own.reasons)
        proved = "optimum is proved" if self.estimate.optimum.converged else "no optimum was proved"
        outcome = [*own.reasons, proved, *["not tried"] * (len(stated) - chosen - 1)]
        return self._made(
            {
                "structure": list(stated),
                "outcome": outcome,
                "chosen": [i == chosen for i in range(len(stated))],
            }
        )

    def _carried_from(self, type: str | None) -> Scale:
        return self.transformation if type == "response" else "identity"

    def carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp: as for a response in logs."""
        if exponentiate:
            self._check_exponentiated()
        return np.full(len(self.coefficients), exponentiate, dtype=np.bool_)

    def _check_exponentiated(self) -> None:
        """Refuse exponentials of coefficients of a response that is visibly no natural log."""
        node = parse_expression(self.response).bare
        if isinstance(node, Name):
            return  # it may be in logs itself
        link = self.transformation
        natural = isinstance(link, Transformation) and link.logged is not None and link.rate == 1
        if link != "log" and not natural:
            raise ModelError(
                f"exponentiate=True makes ratios of coefficients of a natural logarithm, not of "
                f"{self.response}; contrasts(type='response') carries comparisons back"
            )

    @property
    def kind_columns(self) -> dict[str, Any]:
        """What `glance` says of this kind of model."""
        return {"df_model": self.df_model, "df_resid": self.df_resid, "sigma": self.sigma}

    def estimand(
        self,
        *,
        component: str = "conditional",
        kind: str | None = None,
        type: str | None = None,
        df: str | None = None,
        unit: Mapping[str, Any] | None = None,
        offset: float | None = None,
    ) -> Estimand:
        """Check what is asked of rows, and fill in what it leaves open."""
        component = arguments.choice("component", component, COMPONENTS)
        if component != "conditional":
            raise ModelError(f"a linear mixed model has no component {component!r}; leave it out")
        type = "link" if type is None else arguments.choice("type", type, TYPES)
        kind, unit = arguments.unit(kind, unit)
        number = arguments.offset(offset)
        self.method(df)
        if type not in ("link", "response"):
            raise ModelError(f"type={type!r} is for categories; a linear mixed model has none")
        back = "identity" if type == "link" else self.transformation
        kind = kind or "typical"
        effects = "own" if unit else "new" if kind == "population" and back != "identity" else None
        return Estimand(component, type, kind, df, unit, number, back=back, effects=effects)

    def _effects_of(self, kind: str, new_observation: bool) -> str | None:
        """The population's mean needs no random effects; a new observation of it does."""
        own = "new" if new_observation else None
        return {"conditional": "own", "population": own}.get(kind)

    def _by_level(self, found: Any, level: float) -> dict[str, Any]:
        columns = super()._by_level(found, level)
        del columns["component"]
        return columns
