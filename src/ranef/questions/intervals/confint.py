"""`fit.confint`: Wald's, profile and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from ranef import arguments
from ranef.elsewhere import argument_hint
from ranef.errors import ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Normal, offers, require
from ranef.questions.intervals.bootstrap import bootstrap
from ranef.questions.intervals.profile import profile
from ranef.tables import make_table

__all__ = ["confint"]

METHODS = ("wald", "profile", "bootstrap")


def confint(
    fit: MixedFit,
    method: str = "wald",
    *,
    parameters: str | Sequence[str] = "fixed",
    conf_level: float = 0.95,
    df: str | None = None,
    **options: Any,
) -> Any:
    """Return confidence intervals.

    Parameters
    ----------
    method : {"wald", "profile", "bootstrap", "q-profile"}
        Estimate plus and minus a quantile times the standard error (of standard
        deviations on the scale of logarithms, of correlations on that of Fisher's
        z); where the likelihood has fallen as far as the level allows, see
        `ranef.profile`; from refits to drawn data, see `ranef.bootstrap`; of a meta-analysis
        of independent studies also where Q is not extreme (Viechtbauer 2007).
    parameters : {"fixed", "variance", "all"} or list of names
        Names as in `ranef.profile`.
    conf_level : float
    df : str, optional
        Degrees of freedom for fixed effects: of Wald's quantile as in `tidy`
        (Satterthwaite's in linear models if not given); of a profile ``"normal"``, or
        ``"satterthwaite"`` where few groups tell of a coefficient, see
        `Profile.confint`.
    **options
        Of `ranef.profile` or `ranef.bootstrap`; of the latter also ``kind``, that
        of its intervals.

    Returns
    -------
    table
        Of fixed effects alone ``term, estimate, conf_low, conf_high``; otherwise
        ``component, group, term, term2, parameter, estimate, conf_low, conf_high``,
        as in ``tidy("variance")``, with `parameter` ``"coefficient"`` for fixed effects.
        NaN where the method has no interval.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("yield ~ 1 + (1 | Batch)", {
    ...     "yield": [15.1, 15.6, 14.2, 14.0, 16.3, 16.0], "Batch": list("aabbcc")})
    >>> fit.confint(conf_level=0.9).columns.tolist()
    ['term', 'estimate', 'conf_low', 'conf_high']
    >>> fit.confint("profile", parameters="variance").round(2)[
    ...     ["group", "parameter", "conf_low", "conf_high"]]
          group parameter  conf_low  conf_high
    0     Batch        sd      0.38       2.49
    1  Residual        sd      0.13       0.74
    """
    if offers(fit, Normal):
        if df not in (None, "normal") or options:
            raise ModelError("intervals of this model are normal: leave df= and options out")
        normal: Any = fit
        return normal.normal_intervals(method, parameters, conf_level)
    require(fit, "confint()")
    own = fit.interval_methods
    arguments.choice("method", method, tuple(dict.fromkeys((*METHODS, *own))))
    level = arguments.conf_level(conf_level)
    if method in own:
        return make_table(fit.interval_columns(method, parameters, level), fit.frame.library)
    form = "fixed" if parameters == "fixed" else "all"
    if method == "wald":
        if options:
            name = next(iter(options))
            hint = (
                argument_hint("confint", name, [*signature(confint).parameters])
                or "; profiles and bootstraps do"
            )
            raise ModelError(f"method='wald' takes no {name!r}{hint}")
        columns = fit.wald_columns(parameters, level, df)
    elif method == "profile":
        # Student's t reaches further than the normal distribution
        widest = max(level, 0.95) if df in (None, "normal") else 1 - (1 - level) / 50
        curves = profile(fit, parameters, **{"conf_level": widest, **options})
        columns = curves.intervals(level, df or "normal", form=form).table
    else:
        if df is not None:
            raise ModelError("a bootstrap has no degrees of freedom: leave df= out")
        kind = options.get("kind", "percentile")
        others = {name: value for name, value in options.items() if name != "kind"}
        draws = bootstrap(fit, **others)
        columns = draws.intervals(level, kind, parameters, form=form).table
    return make_table(columns, fit.frame.library)
