"""How the search ended, and how to make the fit again."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef._version import __version__
from ranef.description import words
from ranef.display.columns import Column, Listing
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import MINUS, exact, number, typeset
from ranef.fits.fit import Fit
from ranef.fits.mixed import MixedFit
from ranef.report.section import Options

__all__ = ["optimum", "reproduce"]


def optimum(fit: MixedFit, how: Options) -> Markup:
    """Return the certificate of the optimum."""
    found, description = fit.estimate.optimum, fit.description
    gradient = float(np.max(np.abs(found.gradient), initial=0.0))
    rows = [
        (
            f"{description.criterion_name} ({MINUS}2 log-likelihood)",
            typeset(exact(found.criterion)),
        ),
        ("Largest entry of the gradient", _tiny(gradient)),
        ("Newton decrement (what one more step would gain)", _tiny(found.decrement)),
        ("Tolerance for the decrement", _tiny(found.tolerance)),
        ("Evaluations", f"{found.evaluations:,}"),
        ("Restarts", f"{found.restarts:,}"),
        ("Path of the solver", found.path),
        (f"{description.theta_name} (theta)", _theta(found.theta)),
    ]
    status = "proved" if found.converged else "unproved"
    parts = [element("p", words.verdict(found), class_=f"verdict {status}")]
    boundaries = [element("li", line) for line in description.faces()]
    if boundaries:
        parts.append(element("ul", *boundaries))
    parts.append(_pairs("What the search found", rows))
    return join(parts)


def _tiny(value: float) -> str:
    return "0" if value == 0.0 else typeset(f"{value:.2e}")


def _theta(theta: NDArray[np.float64]) -> str:
    shown = ", ".join(typeset(number(float(value), 5)) for value in theta[:12])
    return shown if len(theta) <= 12 else f"{shown}, … ({len(theta)} in all)"


def _pairs(caption: str, rows: Sequence[tuple[str, str]]) -> Markup:
    names, values = zip(*rows, strict=True)
    return table(Listing("facts", (Column("Quantity", names), Column("Value", values)), caption))


def reproduce(fit: Fit, how: Options) -> Markup:
    """Return the call, a paragraph for a paper, and the versions."""
    import scipy

    parts = []
    call = fit.description.call()
    if call:
        parts.append(element("pre", element("code", f"import ranef\n\nfit = {call}")))
    if how.call is not None:
        parts.append(element("p", "This report was made by the command"))
        parts.append(element("pre", element("code", how.call)))
    parts += [
        element("p", "In the methods section of a paper:"),
        element("blockquote", fit.methods(conf_level=how.conf_level, df=how.df)),
    ]
    versions = [
        ("ranef", __version__),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("SciPy", scipy.__version__),
    ]
    parts.append(_pairs("Versions", versions))
    return join(parts)
