"""`invariance`: the same model with more and more parameters equal, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing, PValue
from ranef.errors import ModelError
from ranef.fields.structural.comparison import compared
from ranef.fields.structural.fit import StructuralModelFit
from ranef.fields.structural.levels import tied_across_levels
from ranef.fields.structural.sem import sem

__all__ = ["Invariance", "invariance"]

STEPS = {
    "configural": (),
    "metric": ("loadings",),
    "scalar": ("loadings", "intercepts"),
    "strict": ("loadings", "intercepts", "residuals"),
}
LEVEL_STEPS = ("configural", "metric", "strict")


@dataclass(frozen=True, eq=False, repr=False)
class Invariance(Answer):
    """Measurement invariance; `ranef.invariance` makes it.

    Attributes
    ----------
    fits : dict of str to StructuralModelFit
        By step.
    columns : dict
        Of the table.
    notes : tuple of str
    library : str
    """

    fits: dict[str, StructuralModelFit]
    columns: dict[str, list[Any]]
    notes: tuple[str, ...]
    library: str
    title = "Measurement invariance"

    def tables(self) -> tuple[Listing, ...]:
        c = self.columns
        return (
            Listing("steps", (
                Column("step", c["step"], heading=""),
                Column("chisq", c["chisq"], Fixed(3)), Column("df", c["df"], Fixed(0)),
                Column("p_value", c["p_value"], PValue(), "p"),
                Column("cfi", c["cfi"], Fixed(4), "CFI"),
                Column("rmsea", c["rmsea"], Fixed(4), "RMSEA"),
                Column("srmr", c["srmr"], Fixed(4), "SRMR"),
                Column("aic", c["aic"], Fixed(2), "AIC"), Column("bic", c["bic"], Fixed(2), "BIC"),
                Column("chisq_diff", c["chisq_diff"], Fixed(3), "difference"),
                Column("df_diff", c["df_diff"], Fixed(0), "df"),
                Column("p_diff", c["p_diff"], PValue(), "p"),
                Column("cfi_diff", c["cfi_diff"], Fixed(4), "CFI change"),
                Column("rmsea_diff", c["rmsea_diff"], Fixed(4), "RMSEA change"),
            ), "Each step against the one above"),
        )  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        return self.notes


def invariance(
    model: str,
    data: Any,
    *,
    group: str | None = None,
    cluster: str | Sequence[str] | None = None,
    steps: Sequence[str] = ("configural", "metric", "scalar", "strict"),
    **sem_arguments: Any,
) -> Invariance:
    """Fit a measurement model with more and more parameters equal, and compare the steps.

    Across groups: the same form (configural), equal loadings (metric), equal intercepts with
    free means of the latent variables (scalar), equal residual variances (strict). Without
    groups, of a two-level model, across its levels: equal loadings within and between (metric),
    and no residual variance between (strict), under which the latent variables have a common
    scale and an intraclass correlation (Jak & Jorgensen 2017).

    Parameters
    ----------
    model : str
        As for `sem`. Across levels the factors under ``level: 1`` and ``level: 2`` are matched by
        their order.
    data : table
    group : str, optional
        Column of the groups.
    cluster : str or list of str, optional
        Columns of the units.
    steps : sequence of {"configural", "metric", "scalar", "strict"}
        In this order; across levels ``"scalar"`` does not apply and is left out.
    **sem_arguments
        As for `sem`; ``group_partial`` frees parameters in all steps.

    Returns
    -------
    Invariance
        ``tidy()``: ``step, n_parameters, chisq, df, p_value, cfi, rmsea, srmr, aic, bic,
        chisq_diff, df_diff, p_diff, cfi_diff, rmsea_diff``; ``fits`` by step.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(2)
    >>> f = rng.normal(size=400)
    >>> rows = {f"y{k}": f + rng.normal(size=400) for k in range(1, 5)}
    >>> rows["site"] = np.repeat(["a", "b"], 200)
    >>> found = ranef.invariance("f =~ y1 + y2 + y3 + y4", rows, group="site")
    >>> found.tidy()[["step", "df", "df_diff"]].values.tolist()
    [['configural', 4, nan], ['metric', 7, 3.0], ['scalar', 10, 3.0], ['strict', 14, 4.0]]
    """
    wanted = [arguments.choice("steps", s, tuple(STEPS)) for s in _listed(steps)]
    if not wanted:
        raise ModelError("steps is empty; the first is 'configural'")
    if "group_equal" in sem_arguments:
        raise ModelError("invariance() makes parameters equal itself; leave group_equal out")
    if group is None and cluster is None:
        raise ModelError("invariance() is across groups, group=, or across levels, cluster=")
    order = [s for s in STEPS if s in wanted]
    fits: dict[str, StructuralModelFit] = {}
    if group is not None:
        partial = sem_arguments.pop("group_partial", ())
        for step in order:
            fits[step] = sem(
                model, data, group=group, cluster=cluster, group_equal=STEPS[step],
                group_partial=partial if STEPS[step] else (), **sem_arguments,
            )  # fmt: skip
    else:
        for step in [s for s in order if s in LEVEL_STEPS]:
            text = tied_across_levels(model, step)
            fits[step] = sem(text, data, cluster=cluster, **sem_arguments)
    return _answer(fits, group is None)


def _listed(steps: Any) -> Sequence[Any]:
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ModelError(f"steps must be a list such as ['configural', 'metric'], not {steps!r}")
    return steps


def _answer(fits: dict[str, StructuralModelFit], levels: bool) -> Invariance:
    nan = float("nan")
    names = ("step", "n_parameters", "chisq", "df", "p_value", "cfi", "rmsea", "srmr", "aic",
             "bic", "chisq_diff", "df_diff", "p_diff", "cfi_diff", "rmsea_diff")  # fmt: skip
    columns: dict[str, list[Any]] = {name: [] for name in names}
    before: StructuralModelFit | None = None
    for step, fit in fits.items():
        m = fit.measures
        robust = not np.isnan(m["chisq_scaled"])
        own = {
            "step": step, "n_parameters": fit.df_model,
            "chisq": m["chisq_scaled"] if robust else m["chisq"], "df": m["df"],
            "p_value": m["p_value_scaled"] if robust else m["p_value"],
            "cfi": m["cfi_scaled"] if robust else m["cfi"],
            "rmsea": m["rmsea_scaled"] if robust else m["rmsea"], "srmr": m["srmr"],
            "aic": fit.aic, "bic": fit.bic,
        }  # fmt: skip
        if before is None:
            more = dict.fromkeys(names[10:], nan)
        else:
            test = compared([fit, before]).columns
            more = {
                "chisq_diff": test["statistic"][1], "df_diff": test["df"][1],
                "p_diff": test["p_value"][1], "cfi_diff": own["cfi"] - columns["cfi"][-1],
                "rmsea_diff": own["rmsea"] - columns["rmsea"][-1],
            }  # fmt: skip
        for name, value in (own | more).items():
            columns[name].append(value)
        before = fit
    said = "levels" if levels else "groups"
    notes = [
        f"Across {said}. A fall of CFI of more than .010 with a rise of RMSEA of more than .015 "
        "speaks against a step (Chen 2007); the test of the difference is stricter in large data."
    ]
    first = next(iter(fits.values()))
    if first.comparisons.is_robust:
        notes.append("Chi-squared, CFI and RMSEA are scaled; differences by Satorra & Bentler.")
    return Invariance(fits, columns, tuple(notes), first.frame.library)
