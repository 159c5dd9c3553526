"""What stands here, by the names that other packages give it.

People come from lme4, glmmTMB, nlme, emmeans, statsmodels, SAS and Stata and type what they know.
A name that does not exist is answered by the one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from inspect import Parameter, getattr_static, signature
from types import FunctionType
from typing import Any, TypeVar, cast

from ranef.errors import ArgumentError, suggestion

__all__ = [
    "argument_hint",
    "attribute_hint",
    "explained",
    "explained_methods",
    "function_hint",
    "module_getattr",
]

Face = TypeVar("Face")
Function = TypeVar("Function", bound=Callable[..., Any])

_FUNCTIONS = {
    "lmer": "lme4's lmer is ranef.lmm",
    "glmer": "lme4's glmer is ranef.glmm(formula, data, family=...)",
    "glmer.nb": "lme4's glmer.nb is ranef.glmm(formula, data, family='nbinom2')",
    "nlmer": "nonlinear mixed models are not part of ranef",
    "glmmtmb": "glmmTMB's models are ranef.lmm, or ranef.glmm(formula, data, family=..., "
    "zero=..., dispersion=...)",
    "lme": "nlme's lme is ranef.lmm, with the random effects in the formula: y ~ x + (x | g)",
    "gls": "nlme's gls is ranef.lmm without a random term, with residual='ar1(time | g)' and the "
    "like",
    "mmrm": "mmrm's models are ranef.lmm(formula, data, residual='us(visit | id)')",
    "mixedlm": "statsmodels' mixedlm is ranef.lmm, with the groups in the formula: y ~ x + (x | g)",
    "geeglm": "geepack's geeglm is ranef.gee",
    "ordgee": "geepack's ordgee is ranef.gee(..., family='cumulative')",
    "genmod": "PROC GENMOD's repeated models are ranef.gee",
    "clmm": "ordinal's clmm is ranef.glmm(formula, data, family='cumulative')",
    "brm": "Bayesian sampling is not part of ranef; ranef.lmm and ranef.glmm take priors=",
    "rma": "metafor's rma is ranef.meta",
    "rma_mv": "metafor's rma.mv is ranef.meta, with a formula such as yi ~ 1 + (1 | study/id)",
    "escalc": "metafor's escalc is ranef.effect_sizes",
    "metaplus": "metaplus' mixture of studies and outliers is ranef.meta(...).outliers()",
    "pairs": "emmeans' pairs is ranef.contrasts(fit, 'treatment'), or means.contrasts()",
    "contrast": "emmeans' contrast is ranef.contrasts",
    "emm": "emmeans' means are ranef.emmeans",
    "lsmeans": "least-squares means are ranef.emmeans",
    "proc_mixed": "PROC MIXED of SAS is ranef.lmm",
    "mixed": "Stata's mixed and SAS's PROC MIXED are ranef.lmm",
    "glimmix": "PROC GLIMMIX of SAS is ranef.glmm",
    "proc_glimmix": "PROC GLIMMIX of SAS is ranef.glmm",
    "meglm": "Stata's meglm is ranef.glmm",
    "melogit": "Stata's melogit is ranef.glmm with family='binomial'",
    "marginal_means": "estimated marginal means are ranef.emmeans",
    "avg_slopes": "average slopes are ranef.average(fit, 'x')",
    "avg_comparisons": "average comparisons are ranef.average(fit, 'x')",
    "avg_predictions": "average predictions are ranef.marginal(fit)",
    "margins": "average marginal effects are ranef.average(fit, 'x')",
    "ranef": "conditional modes are fit.tidy('random')",
    "fixef": "fixed effects are fit.coef, or fit.tidy() with their errors",
    "varcorr": "variance components are fit.tidy('variance')",
    "vcov": "the covariance matrix of the coefficients is fit.vcov",
    "loglik": "the log-likelihood is fit.loglik",
    "predict": "predictions are fit.predict(new)",
    "simulate": "responses of a fit are fit.simulate(n)",
    "residuals": "residuals are fit.residuals()",
    "fitted": "fitted values are fit.fitted()",
    "summary": "the summary is fit.summary(), or the fit itself, printed",
    "tidy": "tables are fit.tidy(), fit.tidy('variance') and fit.tidy('random')",
    "glance": "one row of a fit is fit.glance()",
    "drop1": "tests of each term are ranef.anova(fit)",
    "lrt": "likelihood-ratio tests are ranef.anova(smaller, larger)",
    "exactrlrt": "tests of variances are ranef.variance_test(fit)",
    "rand": "tests of the random terms are ranef.variance_test(fit)",
    "bootmer": "lme4's bootMer is ranef.bootstrap(fit)",
    "powersim": "simr's powerSim is ranef.power",
    "caic": "the conditional AIC is ranef.compare(fits, focus='individual')",
    "loo": "leave-one-out is ranef.leave_out(fit); comparisons are ranef.compare(fits, focus=...)",
    "buildmer": "the largest structure that the data support is ranef.maximal(formula, data)",
    "dharma": "simulated residuals are ranef.simulated_residuals(fit)",
    "performance": "checks are ranef.check(fit); R2 and ICC are ranef.r2(fit) and ranef.icc(fit)",
    "vif": "variance inflation factors are ranef.collinearity(fit)",
    "cooks_distance": "Cook's distances are ranef.influence(fit)",
    "demean": "within and between parts are ranef.decompose(table, columns, by)",
    "wbm": "panelr's wbm is ranef.within_between(formula, data, ...)",
    "isva": "surrogate variables are not part of ranef",
    "read_csv": "tables are read by pandas or polars; ranef takes either",
    "load_data": "bundled data are ranef.data.load('sleepstudy')",
    "cfa": "lavaan's cfa is ranef.sem",
    "lavaan": "lavaan's models are ranef.sem",
    "measeq_syntax": "semTools' measEq.syntax is ranef.invariance",
    "decontam": "contaminants are judged by ranef.metagenomics.screen",
    "iscontaminant": "contaminants are judged by ranef.metagenomics.screen(counts, sheet)",
    "isnotcontaminant": "what is genuine is judged by ranef.metagenomics.screen(counts, sheet)",
    "secondlevelmodel": "nilearn's SecondLevelModel is ranef.imaging.MixedEffectsSecondLevel",
    "non_parametric_inference": "permutations are .permutation_test(...) of a fitted "
    "second level, or ranef.imaging.sign_flips",
    "permuted_ols": "permutations of arrays are ranef.imaging.sign_flips",
    "randomise": "permutations of arrays are ranef.imaging.sign_flips",
    "gemma": "genome-wide scans are ranef.gwas.scan",
}

_ATTRIBUTES = {
    "ranef": "conditional modes are fit.tidy('random')",
    "random_effects": "conditional modes are fit.tidy('random')",
    "fixef": "fixed effects are fit.coef, or fit.tidy() with their errors",
    "fe_params": "fixed effects are fit.coef",
    "varcorr": "variance components are fit.tidy('variance')",
    "cov_re": "variance components are fit.tidy('variance')",
    "pairs": "comparisons are fit.contrasts('treatment')",
    "contrast": "comparisons are fit.contrasts('treatment')",
    "lsmeans": "least-squares means are fit.emmeans('treatment')",
    "pvalues_": "p values are fit.tidy()['p_value']",
    "p_values": "p values are fit.tidy()['p_value']",
    "ci": "confidence intervals are fit.confint()",
    "converged": "what the search proved is fit.optimum",
    "rsquared": "explained variance is fit.r2()",
    "r_squared": "explained variance is fit.r2()",
    "to_latex": "tables for a paper are ranef.table(fit).to_latex()",
    "to_html": "tables for a paper are ranef.table(fit).to_html(); the page is fit.report(path)",
    "to_docx": "tables for a paper are ranef.table(fit).to_docx('table.docx')",
    "to_markdown": "tables for a paper are ranef.table(fit).to_markdown()",
    "get_params": "coefficients are fit.coef; a scikit-learn estimator is ranef.sklearn.MixedModel",
    "score": "predictive scores are ranef.cross_validate(fit)",
    "caic": "the conditional AIC is ranef.compare(fit, focus='individual')",
    "issingular": "a fit on the boundary has fit.optimum.singular",
    "is_singular": "a fit on the boundary has fit.optimum.singular",
    "cld": "letters are not drawn; fit.contrasts('treatment') compares, and the arrows of "
    "fit.emmeans('treatment').plot() do",
    "nobs_": "rows used are fit.n_obs",
    "drop1": "tests of each term are fit.anova()",
    "loglik": "its model has no likelihood; those of ranef.lmm and ranef.glmm do",
    "optimum": "nothing is maximised here that has an optimum to prove",
    "aic": "what criteria it has are in fit.glance(); a GEE's QIC is fit.criteria()",
    "bic": "what criteria it has are in fit.glance(); a GEE's QIC is fit.criteria()",
    "qic": "a GEE's QIC is fit.criteria()",
    "sigma": "standard deviations and variances are in fit.glance() and fit.tidy('variance')",
    "theta": "standard deviations and variances are in fit.glance() and fit.tidy('variance')",
    "tau2": "heterogeneity (tau2, I2, H2, Q) is in fit.glance()",
    "i2": "heterogeneity (tau2, I2, H2, Q) is in fit.glance()",
    "qe": "heterogeneity (tau2, I2, H2, Q) is in fit.glance()",
    "simulate": "its model states no distribution to draw from; those of ranef.lmm and ranef.glmm "
    "do",
    "fit": "it is fitted already; fit.refit(y) fits another response",
}

# Each name elsewhere, and the names of arguments here of which the callee may have one.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "of": ("by",),
    "adjust_method": ("adjust",),
    "alpha": ("conf_level",),
    "b": ("n",),
    "batch_size": ("block",),
    "bed": ("genotypes",),
    "bfile": ("genotypes",),
    "bgen": ("genotypes",),
    "binary": ("family",),
    "block_size": ("block",),
    "boot": ("n",),
    "bsize": ("block",),
    "checkpoint": ("resume",),
    "chr": ("chromosomes",),
    "chrom": ("chromosomes",),
    "chromosome": ("chromosomes",),
    "ci": ("conf_level",),
    "ci_level": ("conf_level",),
    "cluster": ("groups", "cluster"),
    "coding": ("effect",),
    "condition": ("given",),
    "condition_on": ("given",),
    "conf": ("conf_level",),
    "conf_int": ("conf_level",),
    "confidence": ("conf_level",),
    "confidence_level": ("conf_level",),
    "cores": ("n_jobs",),
    "corr": ("correlation", "residual"),
    "correlation": ("residual",),
    "corstr": ("correlation",),
    "cov_struct": ("correlation",),
    "cov_type": ("covariance", "type"),
    "covar": ("covariates",),
    "covars": ("covariates",),
    "covstruct": ("residual",),
    "dask": ("client",),
    "ddf": ("df",),
    "digits": ("digits",),
    "dispformula": ("dispersion",),
    "draws": ("n",),
    "effects": ("term", "variables"),
    "family": ("family",),
    "g": ("genotypes",),
    "g0": ("relationship",),
    "geno": ("max_missing",),
    "grm": ("relationship",),
    "groups": ("groups",),
    "gxe": ("interaction",),
    "hwe": ("min_hwe",),
    "id": ("groups", "person"),
    "info": ("min_info",),
    "inverse_normal": ("transform",),
    "iter": ("n",),
    "k": ("relationship",),
    "k0": ("relationship",),
    "kinship": ("relationship",),
    "level": ("conf_level",),
    "lmer_df": ("df",),
    "mac": ("min_mac",),
    "maf": ("min_maf",),
    "max_memory": ("memory",),
    "mem": ("memory",),
    "method": ("reml",),
    "missingness": ("max_missing",),
    "model": ("formula", "fit"),
    "mult": ("adjust",),
    "n": ("n_perm",),
    "n_agq": ("quadrature",),
    "n_boot": ("n",),
    "n_cores": ("n_jobs",),
    "n_draws": ("n",),
    "n_iter": ("n",),
    "n_sim": ("n",),
    "na": ("missing",),
    "na_action": ("missing",),
    "nagq": ("quadrature",),
    "ncores": ("n_jobs",),
    "new_data": ("new",),
    "newdata": ("new",),
    "nsim": ("n",),
    "object": ("fit",),
    "p3d": ("variance",),
    "p_adjust": ("adjust",),
    "pfile": ("genotypes",),
    "pheno": ("phenotypes",),
    "phenotype": ("phenotypes",),
    "r": ("n",),
    "random_state": ("rng",),
    "re_form": ("kind",),
    "reps": ("n",),
    "rint": ("transform",),
    "seed": ("rng",),
    "sei": ("std_error",),
    "sims": ("n",),
    "std_err": ("covariance",),
    "subject": ("groups", "person", "subject"),
    "threads": ("n_jobs",),
    "trait": ("traits",),
    "transform": ("type",),
    "variance": ("variance", "std_error"),
    "vcf": ("genotypes",),
    "vcov": ("covariance",),
    "verbose": ("progress",),
    "vi": ("variance",),
    "waves": ("time",),
    "zero_inflation": ("zero",),
    "zi": ("zero",),
    "zi_formula": ("zero",),
    "ziformula": ("zero",),
}

# Advice that no argument of the callee answers: (callee or "", name) -> words.
_ADVICE = {
    ("lmm", "family"): "a linear model has none; use ranef.glmm(formula, data, family=...)",
    ("lmm", "link"): "a linear model has none; use ranef.glmm(formula, data, family=..., ...)",
    ("lmm", "zi"): "zero inflation belongs to counts: ranef.glmm(formula, data, family=..., "
    "zero='~ 1')",
    ("lmm", "method"): "reml=True or reml=False chooses the likelihood",
    ("meta", "mods"): "moderators stand in the formula: 'yi ~ ablat + year'",
    ("meta", "yi"): "the effects stand left of the formula's tilde: 'yi ~ 1'",
    (
        "meta",
        "measure",
    ): "effects are made of counts and means by ranef.effect_sizes(measure, ...)",
    ("meta", "slab"): "names of the studies are study='column'",
    ("meta", "test"): "the method of tests is df='knapp-hartung' or df='normal'",
    ("meta", "random"): "further levels stand in the formula: 'yi ~ 1 + (1 | district/school)'",
    ("diary", "id"): "did you mean 'person'?",
    ("diary", "beep"): "did you mean 'prompt'?",
    ("lmm", "df"): "the method of degrees of freedom is asked of the fit: fit.tidy(df=...)",
    ("lmm", "conf_level"): "intervals are asked of the fit: fit.tidy(conf_level=...)",
    ("glmm", "method"): "reml=True or reml=False chooses the likelihood",
    ("glmm", "residual"): "structures of residuals belong to ranef.lmm; correlated responses of "
    "another family are random effects, as ar1(0 + factor(time) | g), or ranef.gee",
    ("glmm", "link"): "the link belongs to the family: family=ranef.families.Binomial(link=...)",
    ("scan", "loco"): "relationship='loco' is the default; 'centred' is one matrix of all variants",
    ("scan", "out"): "results are written by scan.save(path, format=...)",
    ("scan", "lmm"): "the Wald, likelihood-ratio and score tests all come from one pass",
    ("scan", "test"): "the Wald, likelihood-ratio and score tests all come from one pass",
    ("", "conf_level"): "intervals are asked of the fit: fit.tidy(conf_level=...)",
    ("", "family"): "the family belongs to the fit; see ranef.glmm and ranef.gee",
    ("", "groups"): "grouping factors stand in the formula: y ~ x + (1 | g)",
    ("", "random"): "random effects stand in the formula: y ~ x + (x | g)",
    ("", "re_formula"): "random effects stand in the formula: y ~ x + (x | g); of predictions "
    "kind='typical' sets them to zero",
    ("", "vc_formula"): "random effects stand in the formula: y ~ x + (x | g)",
    ("", "subset"): "choose the rows of the table before",
    ("screen", "control"): "did you mean 'controls'? It names the sheet's column of controls",
    ("train", "control"): "did you mean 'controls'? It names the sheet's column of controls",
    ("screen", "neg"): "controls='is_control' names the sheet's column of negative controls",
    ("screen", "conc"): "masses stand in the sheet's column input_mass",
    ("screen", "threshold"): "fdr=0.05 sets the list's false discovery rate",
    ("screen", "metadata"): "the sheet of the libraries is samples=",
    ("", "control"): "there are no settings of the search to choose",
    ("", "optimizer"): "there is one search; fit.optimum says what it proved",
    ("", "maxiter"): "there is one search; fit.optimum says what it proved",
    ("", "null"): "tests against another value are contrasts(..., null=) and fit.test('x = 1')",
    ("", "zero"): "zero inflation belongs to ranef.glmm",
    ("", "reml"): "reml= belongs to ranef.lmm",
    ("", "residual"): "structures of residuals belong to ranef.lmm",
    ("", "rng"): "nothing is drawn here, so that there is no seed",
    ("", "df"): "the method of degrees of freedom is asked of the fit: fit.tidy(df=...)",
}


def _key(name: str) -> str:
    return name.lower().replace(".", "_").strip("_")


def module_getattr(module: str, known: Collection[str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a sub-package, which answers names of other packages."""

    def answer(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{module} has no attribute {name!r}")
        raise AttributeError(f"{module} has no name {name!r}{function_hint(name, known)}")

    return answer


def function_hint(name: str, known: Collection[str]) -> str:
    """Say what a function of another package is called here.

    Examples
    --------
    >>> function_hint("lmer", ["lmm"])
    "; lme4's lmer is ranef.lmm"
    >>> function_hint("emmean", ["emmeans"])
    "; did you mean 'emmeans'?"
    """
    words = _FUNCTIONS.get(_key(name))
    return suggestion(name, known) if words is None else f"; {words}"


def attribute_hint(name: str, known: Collection[str]) -> str:
    """Say what an attribute of another package's fit is called here.

    Examples
    --------
    >>> attribute_hint("fixef", [])
    '; fixed effects are fit.coef, or fit.tidy() with their errors'
    """
    words = None if _key(name) in known else _ATTRIBUTES.get(_key(name))
    return suggestion(name, known) if words is None else f"; {words}"


def argument_hint(callee: str, name: str, known: Collection[str]) -> str:
    """Say what an argument of another package is called in this function.

    Examples
    --------
    >>> argument_hint("emmeans", "ci", ["fit", "conf_level"])
    "; did you mean 'conf_level'?"
    >>> argument_hint("lmm", "groups", ["formula", "data"])
    '; grouping factors stand in the formula: y ~ x + (1 | g)'
    """
    key = _key(name)
    here = [own for own in (key, *_ARGUMENTS.get(key, ())) if own in known and own != name]
    if here:
        return f"; did you mean {here[0]!r}?"
    for own in (key, *_ARGUMENTS.get(key, ())):
        for place in (callee, ""):
            if (place, own) in _ADVICE:
                return f"; {_ADVICE[place, own]}"
    return suggestion(name, known)


class Pictures:
    """Pictures of one answer: a name that is none is answered by those that there are."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = [own for own in dir(type(self)) if not own.startswith("_")]
        raise AttributeError(
            f"there is no picture {name!r}{suggestion(name, known)} ({', '.join(known)})"
        )


def explained(function: Function, name: str | None = None) -> Function:
    """Let a function answer an argument that it does not have by what it is called here.

    Nothing is done before the call, so that it costs nothing.
    """
    callee = function.__name__ if name is None else name

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except TypeError as error:
            if isinstance(error, ArgumentError) or error.__traceback__ is None:
                raise
            if error.__traceback__.tb_next is not None and _takes(function, args, named):
                raise  # from within the function
            _refuse_unknown(callee, function, named)
            _refuse_count(callee, function, len(args), named)
            raise

    return cast(Function, call)


def _takes(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Tell whether a function, or what its wrappers wrap, can be called so."""
    try:
        signature(function).bind(*args, **named)
    except TypeError:
        return False
    return True


def _refuse_unknown(callee: str, function: Callable[..., Any], named: dict[str, Any]) -> None:
    """Raise where an argument has a name that the function does not know."""
    own = signature(function).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in own.values()):
        return
    known = [p for p in own if p not in SELF]
    for name in named:
        if name not in known:
            hint = argument_hint(callee, name, known) or f"; it takes {', '.join(known)}"
            raise ArgumentError(f"{callee}() takes no argument {name!r}{hint}") from None


def _refuse_count(
    callee: str, function: Callable[..., Any], places: int, named: dict[str, Any]
) -> None:
    """Raise where an argument that must be given is missing, or too many have no name."""
    own = {n: p for n, p in signature(function).parameters.items() if p.kind not in VARIOUS}
    placed = [n for n, p in own.items() if p.kind != Parameter.KEYWORD_ONLY]
    needed = [n for n, p in own.items() if p.default is Parameter.empty]
    missing = [n for n in needed if n not in named and n not in placed[:places]]
    shown = [n if n in placed else f"{n}=..." for n in needed if n not in SELF]
    if missing:
        raise ArgumentError(
            f"{callee}() needs {' and '.join(missing)} as well: {callee}({', '.join(shown)}, ...)"
        ) from None
    if places > len(placed):
        first = ", ".join(n for n in placed if n not in SELF) or "nothing"
        others = ", ".join(f"{n}=" for n in own if n not in placed)
        raise ArgumentError(
            f"{callee}() takes {first} by position, and other arguments by name: {others}"
        ) from None


VARIOUS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
SELF = ("self", "cls")


def explained_methods(cls: type[Face]) -> type[Face]:
    """Let the public methods of a class answer arguments that they do not have."""
    for name in dir(cls):
        method = getattr_static(cls, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(cls, name, explained(method))
    return cls
