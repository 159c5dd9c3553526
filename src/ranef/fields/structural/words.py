"""A structural equation model in words."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from ranef._version import __version__
from ranef.description import words
from ranef.description.equation import Equation
from ranef.description.model import Block, ModelDescription
from ranef.display.numbers import count, number
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import Intervals

__all__ = ["OPERATIONS", "StructuralDescription", "method_words"]

OPERATIONS = {
    "=~": "Latent variables", "~": "Regressions", "~~": "Variances and covariances",
    "~1": "Intercepts", ":=": "Defined parameters",
}  # fmt: skip
ESTIMATORS = {
    "ML": "maximum likelihood",
    "MLR": "maximum likelihood with robust standard errors and a scaled test (MLR)",
    "MLM": "maximum likelihood with robust standard errors and the test of Satorra and Bentler",
}
ERRORS = {
    "standard": "the inverse of the {} information",
    "robust.huber.white": "the units' scores (a sandwich with the {} information)",
    "robust.sem": "the sample moments' own covariance (Satorra & Bentler 1994)",
    "first.order": "the cross-products of the units' scores",
    "none": "nothing",
}


class StructuralDescription(ModelDescription):
    """A fit of `ranef.sem` in words."""

    family_kind = "Structural equation models"

    fit: Any

    def __init__(self, fit: Any) -> None:
        self.fit = fit
        self.estimate = fit.estimate

    @property
    def model(self) -> str:  # type: ignore[override]
        levels = self.estimate.model.levels
        kind = {1: "structural equation model", 2: "two-level structural equation model"}
        return kind.get(levels, f"structural equation model of {levels} levels")

    @property
    def method(self) -> str:  # type: ignore[override]
        request = self.estimate.model.request
        missing = "" if self.estimate.model.complete else ", incomplete rows included (FIML)"
        return ESTIMATORS[request.estimator] + missing

    @property
    def criterion(self) -> str:  # type: ignore[override]
        return str(self.estimate.model.request.estimator)

    @property
    def response(self) -> str:
        return str(self.fit.response)

    @property
    def title(self) -> str:
        """Heading of the summary."""
        return f"{self.kind()[:1].upper()}{self.kind()[1:]} by {self.criterion}"

    @property
    def heading(self) -> str:
        """Heading of a page."""
        names = self.fit.response
        return f"{self.kind()[:1].upper()}{self.kind()[1:]} of {names}"

    def kind(self) -> str:
        """The kind of model."""
        return self.model

    @property
    def formulas(self) -> dict[str, str]:
        """The model's text."""
        return {"conditional": self.fit.formula}

    def sentences(self) -> list[str]:
        """What is modelled, and how it was fitted."""
        request = self.estimate.model.request
        lines = [
            f"A {self.model} of {self.response}, fitted by {self.method} to "
            f"{count(self.fit.n_obs, 'row')}."
        ]
        for level, names in self._latent().items():
            where = f" at level {level}" if self.estimate.model.levels > 1 else ""
            lines.append(f"Latent{where}: {', '.join(names)}.")
        if request.group_equal:
            equal = ", ".join(name.replace("_", " ") for name in request.group_equal)
            lines.append(f"Equal in all groups: {equal}.")
        return lines

    def event(self) -> list[str]:
        """No variable of the model is one of two categories by name."""
        return []

    def _latent(self) -> dict[int, list[str]]:
        found: dict[int, dict[str, None]] = {}
        for (_, level), names in self.estimate.model.table.names.items():
            found.setdefault(level, {}).update(dict.fromkeys(names.latent))
        return {level: list(names) for level, names in found.items() if names}

    def reading(self) -> list[str]:
        """Which question a coefficient answers."""
        if self.estimate.model.levels == 1:
            return []
        return [
            "Variables under several levels are decomposed: a coefficient within compares rows of "
            "one unit, one between compares the units' own (latent) means."
        ]

    def equation(self) -> Equation:
        """Refused: a system of equations is shown as its text or its diagram."""
        raise ModelError(
            "a structural equation model is shown by its text (formula) and by diagram(path)"
        )

    def rows(self) -> list[str]:
        """Rows used and dropped, units, roles of the variables."""
        lines = [words.rows_used(self.fit.frame.accounting)]
        groups = [f"{n:,} levels of {name}" for name, n in self.fit.n_groups.items()]
        lines += [f"Groups: {', '.join(groups)}."] if groups else []
        return [*lines, *self.roles(), *self.concerns()]

    def roles(self) -> list[str]:
        """Which variables stand at which level."""
        if self.estimate.model.levels == 1:
            return []
        kinds: dict[str, list[str]] = {}
        for name, role, _ in self.fit.role_rows():
            kinds.setdefault(role, []).append(name)
        said = {
            "within": "Within only (no variance between units)",
            "between": "Between only",
            "both": "Decomposed within and between",
        }
        return [f"{said[k]}: {', '.join(kinds[k])}." for k in said if k in kinds]

    def concerns(self) -> tuple[str, ...]:
        """What is to be known of the columns."""
        return tuple(self.fit.frame.concerns(self.fit.indicators))

    def blocks(self) -> tuple[Block, ...]:
        """The parameters by level, group and operation."""
        found: list[Block] = []
        names = self.estimate.model.table.free_names
        kinds = self.fit.parameter_kinds()
        start = 0
        for k in range(1, len(names) + 1):
            if k == len(names) or kinds[k] != kinds[start]:
                found.append(Block(kinds[start], slice(start, k), tuple(names[start:k])))
                start = k
        return tuple(found)

    @property
    def readable(self) -> dict[str, str]:
        """Each free parameter as the model writes it; its level and group stand above it."""
        found: dict[str, str] = {}
        for row in self.estimate.model.table.rows:
            if row.free >= 0 and row.name not in found:
                between = " ~ 1" if row.op == "~1" else f" {row.op} {row.rhs}"
                label = f" ({row.label})" if row.label else ""
                found[row.name] = f"{row.lhs}{between}{label}"
        return found

    def constants(self, intervals: Intervals | None = None, conf_level: float = 0.95) -> list[str]:
        return []

    def facts(self) -> list[tuple[str, str]]:
        """What a reader asks first."""
        levels = [(f"Levels of {name}", f"{n:,}") for name, n in self.fit.n_groups.items()]
        return [
            ("Rows used", f"{self.fit.n_obs:,}"),
            *levels,
            ("Parameters", f"{self.fit.df_model:,}"),
            ("Fitted by", self.criterion),
        ]

    def certificate(self) -> str:
        """Whether the optimum is proved."""
        end = self.estimate.end
        if not end.converged:
            return "The optimum is not proved."
        return "The optimum was proved by the gradient and the observed information there."

    def endings(self) -> list[str]:
        """Log-likelihood, optimum and doubts."""
        fit, end = self.fit, self.estimate.end
        lines = [
            f"Log-likelihood {number(fit.loglik, 3)}, {fit.df_model} parameters, "
            f"AIC {number(fit.aic, 2)}, BIC {number(fit.bic, 2)} (n = {fit.n_obs:,} rows)."
        ]
        lines.append(f"{end.message[:1].upper()}{end.message[1:]}.")
        lines += self.integrals()
        lines += [f"{doubt[:1].upper()}{doubt[1:]}." for doubt in fit.doubts()]
        return lines

    def integrals(self) -> list[str]:
        """How random slopes of latent variables were integrated over."""
        error = self.estimate.quadrature_error
        if not self.estimate.model.main.integrated or np.isnan(error):
            return []
        return [
            "Random slopes of latent variables were integrated over by "
            f"{self.estimate.model.request.quadrature} adaptive nodes each; twice as many change "
            f"the log-likelihood by {error:.1g}."
        ]

    def call(self) -> str:
        """The call that makes the fit."""
        request = self.estimate.model.request
        given = [repr(request.model), "data"]
        if request.cluster:
            one = len(request.cluster) == 1
            given.append(f"cluster={request.cluster[0] if one else list(request.cluster)!r}"
                         if not one else f"cluster={request.cluster[0]!r}")  # fmt: skip
        plain = type(request)(request.model)
        for name in ("group", "estimator", "missing", "se", "information", "fixed_x", "std_lv",
                     "group_equal", "group_partial", "bounds", "quadrature"):  # fmt: skip
            value = getattr(request, name)
            if value != getattr(plain, name):
                given.append(f"{name}={value!r}")
        return f"ranef.sem({', '.join(given)})"


def method_words(fit: Any, conf_level: float) -> str:
    """Say what was modelled, how it was fitted and tested, and with what."""
    d, estimate = fit.description, fit.estimate
    errors = ERRORS[estimate.se_kind].format(estimate.information_kind)
    sentences = [
        *d.sentences(),
        *d.roles(),
        *d.integrals(),
        words.rows_used(fit.frame.accounting),
        f"Standard errors are from {errors}; tests are normal and intervals have level "
        f"{conf_level:.0%}.",
        d.certificate(),
        f"Computations were done with ranef {__version__} (Python {platform.python_version()}, "
        f"NumPy {np.__version__}).",
    ]
    return " ".join(sentences)
