"""The files that `rank` and `compare` leave behind."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from ranef.cli.writing import as_csv, check_kinds, check_places, records, versions
from ranef.errors import ModelError

__all__ = ["check_answers", "write_comparison", "write_ranking"]

PICTURES = (".png", ".svg", ".pdf")


def check_answers(options: Namespace) -> None:
    """Refuse, before any work, files that could not be written after it."""
    plot = getattr(options, "plot", None)
    check_kinds(options.out)
    if plot is not None and Path(plot).suffix.lower() not in PICTURES:
        raise ModelError(
            f"--plot {plot}: the name decides the format and must end in one of "
            f"{', '.join(PICTURES)}"
        )
    check_places([*options.out, plot], options.data)


def write_ranking(ranking: Any, options: Namespace) -> None:
    """Write ranks and picture, each whole or not at all."""
    from ranef.display import files

    table = ranking.tidy(sort=True)
    about = {
        "formula": options.formula,
        "by": ranking.place.group,
        "statistic": ranking.statistic,
        "scale": ranking.scale,
        "order": ranking.order,
        "top": ranking.top,
        "threshold": ranking.threshold,
        "conf_level": ranking.conf_level,
        "adjusted_for": list(ranking.adjusted_for),
    }
    _write(options, table, "levels", {"ranking": about})
    if options.plot is not None:
        files.write_atomically(options.plot, _picture(ranking, options.plot))


def write_comparison(comparison: Any, options: Namespace) -> None:
    """Write the comparison, each file whole or not at all."""
    about = {"criterion": comparison.criterion, "notes": list(comparison.notes)}
    _write(options, comparison.tidy(), "models", about)


def _write(options: Namespace, table: Any, name: str, about: dict[str, Any]) -> None:
    from ranef.display import files

    for path in options.out:
        if path.lower().endswith(".csv"):
            files.write_atomically(path, as_csv(table))
            continue
        found = {"versions": versions(), "call": options.call, **about, name: records(table)}
        text = json.dumps(found, allow_nan=False, ensure_ascii=False, indent=1)
        files.write_atomically(path, f"{text}\n")


def _picture(ranking: Any, path: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ranef.questions.levels import rank_pictures

    canvas, stream = Figure(layout="constrained"), io.BytesIO()
    FigureCanvasAgg(canvas)
    rank_pictures.ranks(ranking, figure=canvas)
    canvas.savefig(stream, format=Path(path).suffix[1:].lower(), dpi=150)
    return stream.getvalue()
