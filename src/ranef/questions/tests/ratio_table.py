"""Fits of one kind tested each against the one before, in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing, PValue

__all__ = ["NAN", "RatioTable", "ratio_columns"]

NAN = float("nan")
STATED = ("model", "n_parameters", "aic", "bic", "loglik")


@dataclass(frozen=True, eq=False, repr=False)
class RatioTable(Answer):
    """Fits compared by likelihood ratios.

    Attributes
    ----------
    columns : dict
        ``model, n_parameters, aic, bic, loglik, statistic, df, p_value``, and ``scaling`` where
        ratios are scaled.
    notes : tuple of str
    library : str
    """

    columns: dict[str, list[Any]]
    notes: tuple[str, ...]
    library: str

    def tables(self) -> tuple[Listing, ...]:
        """State the models and their tests."""
        c = self.columns
        scaled = (Column("scaling", c["scaling"], Fixed(4)),) if "scaling" in c else ()
        return (
            Listing("models", (
                Column("model", c["model"], heading=""),
                Column("n_parameters", c["n_parameters"], Fixed(0), "parameters"),
                Column("aic", c["aic"], Fixed(2), "AIC"),
                Column("bic", c["bic"], Fixed(2), "BIC"),
                Column("loglik", c["loglik"], Fixed(3)),
                Column("statistic", c["statistic"], Fixed(3), "chisq"),
                *scaled,
                Column("df", c["df"], Fixed(0)),
                Column("p_value", c["p_value"], PValue(), "p"),
            ), "Likelihood-ratio tests, each model against the one above"),
        )  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        """Say what the tests rest on."""
        return self.notes


def ratio_columns(
    fits: Sequence[Any],
    names: Sequence[str] | None,
    tested: Sequence[str],
    test: Callable[[Any, Any], tuple[float, ...]],
) -> dict[str, list[Any]]:
    """Columns of a `RatioTable`, by number of parameters.

    Parameters
    ----------
    fits : sequence of fits
    names : sequence of str, optional
        ``fit 1``, ``fit 2`` ... if not given.
    tested : sequence of str
        Columns of a test, such as ``statistic, df, p_value``.
    test : callable
        (smaller fit, larger fit) -> a number for each of `tested`.
    """
    labels = [f"fit {k + 1}" for k in range(len(fits))] if names is None else list(names)
    columns: dict[str, list[Any]] = {name: [] for name in (*STATED, *tested)}
    before = None
    for k in sorted(range(len(fits)), key=lambda k: fits[k].df_model):
        fit = fits[k]
        found = (NAN,) * len(tested) if before is None else test(before, fit)
        row = (labels[k], fit.df_model, fit.aic, fit.bic, fit.loglik, *found)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
        before = fit
    return columns
