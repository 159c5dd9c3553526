"""``fit.plot`` of a meta-analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ranef.api.pictures import Picture
from ranef.elsewhere import Pictures
from ranef.questions.intervals.coefficients_picture import fixed
from ranef.questions.synthesis.pictures import baujat, forest, funnel

__all__ = ["MetaPlots"]


@dataclass(frozen=True, eq=False)
class MetaPlots(Pictures):
    """The pictures of one meta-analysis; each takes ``ax=`` and returns the Axes."""

    fit: Any

    forest = Picture(forest)
    funnel = Picture(funnel)
    baujat = Picture(baujat)
    fixed = Picture(fixed)

    def influence(self, statistic: str = "cook", *, ax: Any = None) -> Any:
        """Draw what each study moves, see ``fit.influence()`` and its plot."""
        return self.fit.influence().plot(statistic, ax=ax)

    def __repr__(self) -> str:
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return f"plots of a meta-analysis: {', '.join(f'.{name}()' for name in names)}"
