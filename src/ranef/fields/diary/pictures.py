"""The pictures of a diary: effects, slopes, memory, compliance, the series themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.display.canvas import (
    ACCENT,
    BAND,
    GRID,
    INK,
    MARK,
    MUTED,
    finish,
    interval_rows,
    label,
    on_axes,
    one_or_all,
    panels,
    percent,
    plain,
    told_apart,
)
from ranef.elsewhere import Pictures
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DiaryPlots",
    "autocorrelation",
    "autocorrelation_text",
    "compliance",
    "compliance_text",
    "effects",
    "effects_text",
    "series",
    "series_text",
    "slopes",
    "slopes_text",
]

SHOWN_PERSONS = 6
MOST_ROWS = 60
MOST_ARROWS = 80


@dataclass(frozen=True, eq=False)
class DiaryPlots(Pictures):
    """The pictures of one diary; each method returns the Axes it drew on."""

    diary: Any

    def effects(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the effects within and between with their intervals."""
        return effects(self.diary, ax=ax, figure=figure)

    def slopes(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Any:
        """Draw each person's slope, that of the own rows and the shrunken one."""
        return slopes(self.diary, ax=ax, figure=figure)

    def autocorrelation(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the residuals' autocorrelation by the time between prompts."""
        return autocorrelation(self.diary, ax=ax, figure=figure)

    def compliance(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw who answered on which day."""
        return compliance(self.diary, ax=ax, figure=figure)

    def series(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Any:
        """Draw the outcome of some persons over time, broken at nights and gaps."""
        return series(self.diary, ax=ax, figure=figure)


def effects(diary: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw the effects of the predictors with their intervals."""
    found = diary.listing("effects").table
    names = [f"{x}, {kind}" for x, kind in zip(found["predictor"], found["effect"], strict=True)]
    panel = on_axes(ax, figure, 6.4, 1.1 + 0.3 * len(names))
    values = (found["estimate"], found["conf_low"], found["conf_high"])
    interval_rows(panel, names, values, 0.0)
    label(
        panel,
        title=f"Effects on {plain(diary.roles.outcome)}",
        x=f"Slope, {percent(diary.conf_level)} interval",
        y="",
    )
    return panel


def effects_text(diary: Any) -> str:
    """Describe the picture."""
    found = diary.listing("effects").table
    rows = zip(*(found[k] for k in ("predictor", "effect", "estimate")), strict=True)
    told = "; ".join(f"{x} {kind} {estimate:.3g}" for x, kind, estimate in rows)
    return f"Slopes of {diary.roles.outcome} with intervals: {told}."


def slopes(diary: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Any:
    """Draw an arrow a person from the slope of the own rows to the shrunken one."""
    found = diary.own_slopes()
    names = list(dict.fromkeys(found.predictors))
    if not names:
        raise ModelError("the model has no slopes that vary between persons")
    titles = [f"Slopes of {plain(name)}" for name in names]
    axes = panels(titles, ax, figure, single=(6.4, 4.2), height=4.2)
    for panel, name in zip(axes, names, strict=True):
        rows = np.array([k for k, x in enumerate(found.predictors) if x == name])
        rows = rows[np.argsort(found.estimate[rows], kind="stable")]
        if len(rows) > MOST_ARROWS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_ARROWS).round().astype(np.intp)]
        _arrows(panel, found, rows, diary.roles.outcome, name)
    return one_or_all(axes)


def _arrows(panel: Axes, found: Any, rows: Any, outcome: str, name: str) -> None:
    at = np.arange(len(rows))
    raw, shrunken = found.raw[rows], found.estimate[rows]
    panel.vlines(at, raw, shrunken, color=GRID, linewidth=1.2)
    panel.plot(at, raw, "o", color=MUTED, markersize=3.2, label="own rows alone", alpha=0.8)
    panel.plot(at, shrunken, "o", color=MARK, markersize=3.8, label="shrunken")
    panel.axhline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.set_xticks([])
    low, high = float(shrunken.min()), float(shrunken.max())
    known = raw[np.isfinite(raw)]
    if len(known):
        low = min(low, float(np.quantile(known, 0.02)))
        high = max(high, float(np.quantile(known, 0.98)))
    room = 0.06 * (high - low) or 1.0
    panel.set_ylim(low - room, high + room)
    label(panel, title=f"Slopes of {plain(name)}", x=f"{len(rows)} persons, sorted",
          y=f"Change of {plain(outcome)}")  # fmt: skip
    finish(panel, grid="y")
    panel.legend(fontsize=8, labelcolor=INK, framealpha=0.9, edgecolor="none")


def slopes_text(diary: Any) -> str:
    """Describe the picture."""
    found = diary.own_slopes()
    told = []
    for name in dict.fromkeys(found.predictors):
        rows = [k for k, x in enumerate(found.predictors) if x == name]
        own, raw = found.estimate[rows], found.raw[rows]
        told.append(
            f"{name}: shrunken slopes of {len(rows):,} persons from {own.min():.3g} to "
            f"{own.max():.3g}, those of the own rows alone from {np.nanmin(raw):.3g} to "
            f"{np.nanmax(raw):.3g}"
        )
    return f"Slopes of each person, sorted. {'; '.join(told)}."


def autocorrelation(diary: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw the residuals' autocorrelation by the time between prompts."""
    found = diary.memory()
    panel = on_axes(ax, figure, 6.4, 3.6)
    unit = "Hours" if diary.occasions.clock.is_clock else plain(diary.roles.time)
    reach = 1.96 / np.sqrt(found.pairs)
    panel.fill_between(found.gap, -reach, reach, color=BAND, linewidth=0)
    panel.axhline(0.0, color=MUTED, linewidth=0.9)
    panel.plot(found.gap, found.correlation, "o-", color=MARK, linewidth=1.6, markersize=5)
    panel.set_xlim(left=0.0)
    label(panel, title="What a residual remembers", x=f"{unit} between two prompts",
          y="Autocorrelation")  # fmt: skip
    finish(panel, grid="y")
    return panel


def autocorrelation_text(diary: Any) -> str:
    """Describe the picture."""
    found = diary.memory()
    if not len(found.gap):
        return "No two prompts of one series: no autocorrelation."
    return (
        f"Autocorrelation of residuals by the time between two prompts, from "
        f"{found.correlation[0]:.2f} at {found.gap[0]:.3g} to {found.correlation[-1]:.2f} at "
        f"{found.gap[-1]:.3g}; a band where independent residuals would lie."
    )


def compliance(diary: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw a row a person and a column a day, darker where more prompts were answered."""
    occasions = diary.occasions
    if occasions.study_day is None:
        raise ModelError("the picture of compliance needs days; give day=")
    share = _shares(diary)
    panel = on_axes(ax, figure, 6.4, float(np.clip(1.2 + 0.09 * len(share), 2.6, 7.0)))
    drawn = panel.imshow(
        share, aspect="auto", interpolation="nearest", cmap=_ramp(), vmin=0.0, vmax=1.0,
        extent=(0.5, share.shape[1] + 0.5, len(share) + 0.5, 0.5),
    )  # fmt: skip
    panel.set_facecolor("#ffffff")
    label(panel, title="Prompts answered", x="Day of the study",
          y=f"{len(share):,} persons, the most answering first")  # fmt: skip
    finish(panel, grid="y")
    panel.grid(visible=False)
    bar = panel.figure.colorbar(drawn, ax=panel, pad=0.02, fraction=0.05)
    bar.set_label("share answered", fontsize=8.5, color=MUTED)
    bar.ax.tick_params(labelsize=8, colors=MUTED, labelcolor=INK)
    return panel


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("answered", ["#f6e3d6", BAND, MARK])


def _shares(diary: Any) -> Any:
    """Share answered, a row a person and a column a day; NaN where nothing was scheduled."""
    occasions = diary.occasions
    answered = ~np.isnan(occasions.columns[diary.roles.outcome])
    rows = np.flatnonzero((occasions.study_day > 0) & (occasions.person.codes >= 0))
    shape = (occasions.n_persons, int(occasions.study_day[rows].max()))
    place = (occasions.person.codes[rows], occasions.study_day[rows] - 1)
    done, planned = np.zeros(shape), np.zeros(shape)
    np.add.at(done, place, answered[rows])
    np.add.at(planned, place, occasions.schedule.rows[rows] | answered[rows])
    if occasions.schedule.by_day is not None:
        last = np.where(planned > 0, np.arange(1, shape[1] + 1), 0).max(axis=1)
        inside = np.arange(1, shape[1] + 1) <= last[:, None]
        planned = np.where(inside, float(occasions.schedule.by_day), 0.0)
    with np.errstate(invalid="ignore"):
        share = np.where(planned > 0, done / planned, np.nan)
    return share[np.argsort(-done.sum(axis=1), kind="stable")]


def compliance_text(diary: Any) -> str:
    """Describe the picture."""
    by_day = diary.compliance_by("day")
    return (
        f"Map of prompts answered, a row for each of {diary.occasions.n_persons:,} persons and a "
        f"column for each day: {100 * by_day.share[0]:.0f}% on the first day, "
        f"{100 * by_day.share[-1]:.0f}% on the last."
    )


def series(diary: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Any:
    """Draw some persons' outcome over time, the line broken at nights and gaps."""
    occasions, outcome = diary.occasions, diary.roles.outcome
    chosen = _chosen(diary)
    titles = told_apart([occasions.person.levels[k] for k in chosen])
    axes = panels(titles, ax, figure, single=(6.4, 3.0), height=2.1)
    values, time = occasions.columns[outcome], occasions.clock.time
    hours = occasions.clock.is_clock
    low, high = np.nanmin(values), np.nanmax(values)
    for panel, k, title in zip(axes, chosen, titles, strict=True):
        rows = np.flatnonzero((occasions.person.codes == k) & ~np.isnan(values) & ~np.isnan(time))
        rows = rows[np.argsort(time[rows], kind="stable")]
        at = (time[rows] - time[rows][0]) / (24.0 if hours else 1.0)
        for i, row in enumerate(rows):
            before = occasions.before[row]
            if i and before == rows[i - 1]:
                panel.plot(at[i - 1 : i + 1], values[rows[i - 1 : i + 1]], color=MARK,
                           linewidth=1.1)  # fmt: skip
        panel.plot(at, values[rows], "o", color=MARK, markersize=2.6)
        panel.axhline(float(values[rows].mean()), color=ACCENT, linewidth=1.0)
        panel.set_ylim(low, high)
        label(panel, title=title, x="Days" if hours else plain(diary.roles.time),
              y=plain(outcome))  # fmt: skip
        finish(panel, grid="y")
    return one_or_all(axes)


def _chosen(diary: Any) -> list[int]:
    """Persons from the most to the least variable, among those with enough prompts."""
    found = diary.series()
    enough = np.flatnonzero((found.n >= np.median(found.n)) & np.isfinite(found.rmssd))
    order = enough[np.argsort(-found.rmssd[enough], kind="stable")]
    if not len(order):
        order = np.argsort(-found.n, kind="stable")
    places = np.linspace(0, len(order) - 1, min(SHOWN_PERSONS, len(order))).round()
    return [int(order[int(k)]) for k in dict.fromkeys(places.tolist())]


def series_text(diary: Any) -> str:
    """Describe the picture."""
    who = told_apart([diary.occasions.person.levels[k] for k in _chosen(diary)])
    return (
        f"{diary.roles.outcome} over time of {len(who)} persons ({', '.join(who)}), from the most "
        "to the least variable; lines join successive prompts and break at nights and gaps."
    )
