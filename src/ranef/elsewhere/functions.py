"""Functions and programs of other packages, and what stands here in their place."""

from __future__ import annotations

__all__ = ["FUNCTIONS"]

_ALIKE = (
    ("lmer", "lme4's lmer is ranef.lmm"),
    (
        "model estimate mixed_model mixedmodel lm_mixed fit_model",
        "a model is fitted by ranef.lmm(formula, data), or ranef.glmm(formula, data, family=...)",
    ),
    ("plots plot", "pictures are methods of a fit, as fit.plot.predictions('x')"),
    ("read_bed read_plink read_vcf read_bgen", "genotypes are read by gwas.read_genotypes(path)"),
    ("manhattan manhattan_plot qqman", "a Manhattan plot is scan.plot.manhattan() of gwas.scan"),
    ("glmer", "lme4's glmer is ranef.glmm(formula, data, family=...)"),
    ("glmer_nb", "lme4's glmer.nb is ranef.glmm(formula, data, family='nbinom2')"),
    ("nlmer nlmixed proc_nlmixed nlme", "nonlinear mixed models are not part of ranef"),
    (
        "glmmtmb",
        "glmmTMB's models are ranef.lmm, or ranef.glmm(formula, data, family=..., zero=..., "
        "dispersion=...)",
    ),
    ("lme", "nlme's lme is ranef.lmm, with the random effects in the formula: y ~ x + (x | g)"),
    (
        "gls",
        "nlme's gls is ranef.lmm without a random term, with residual='ar1(time | g)' and the like",
    ),
    ("mmrm", "mmrm's models are ranef.lmm(formula, data, residual='us(visit | id)')"),
    (
        "mixedlm",
        "statsmodels' mixedlm is ranef.lmm, with the groups in the formula: y ~ x + (x | g)",
    ),
    ("geeglm", "geepack's geeglm is ranef.gee"),
    ("ordgee", "geepack's ordgee is ranef.gee(..., family='cumulative')"),
    ("genmod proc_genmod", "PROC GENMOD's repeated models are ranef.gee"),
    ("clmm", "ordinal's clmm is ranef.glmm(formula, data, family='cumulative')"),
    (
        "brm stan_lmer stan_glmer rstanarm mcmcglmm bambi pymc stan mcmc "
        "binomialbayesmixedglm poissonbayesmixedglm inla blmer bglmer",
        "Bayesian sampling is not part of ranef; ranef.lmm and ranef.glmm take priors=",
    ),
    ("rma", "metafor's rma is ranef.meta"),
    ("rma_mv", "metafor's rma.mv is ranef.meta, with a formula such as yi ~ 1 + (1 | study/id)"),
    ("escalc", "metafor's escalc is ranef.effect_sizes"),
    ("metaplus", "metaplus' mixture of studies and outliers is ranef.meta(...).outliers()"),
    ("pairs", "emmeans' pairs is ranef.contrasts(fit, 'treatment'), or means.contrasts()"),
    ("contrast", "emmeans' contrast is ranef.contrasts"),
    ("emm", "emmeans' means are ranef.emmeans"),
    ("lsmeans", "least-squares means are ranef.emmeans"),
    ("proc_mixed", "PROC MIXED of SAS is ranef.lmm"),
    ("mixed", "Stata's mixed and SAS's PROC MIXED are ranef.lmm"),
    ("glimmix proc_glimmix", "PROC GLIMMIX of SAS is ranef.glmm"),
    ("meglm", "Stata's meglm is ranef.glmm"),
    ("melogit", "Stata's melogit is ranef.glmm with family='binomial'"),
    ("marginal_means", "estimated marginal means are ranef.emmeans"),
    ("avg_slopes", "average slopes are ranef.average(fit, 'x')"),
    ("avg_comparisons", "average comparisons are ranef.average(fit, 'x')"),
    ("avg_predictions", "average predictions are ranef.marginal(fit)"),
    ("margins", "average marginal effects are ranef.average(fit, 'x')"),
    ("ranef raneftables", "conditional modes are fit.tidy('random')"),
    ("fixef", "fixed effects are fit.coef, or fit.tidy() with their errors"),
    ("varcorr", "variance components are fit.tidy('variance')"),
    ("vcov", "the covariance matrix of the coefficients is fit.vcov"),
    ("loglik", "the log-likelihood is fit.loglik"),
    ("predict", "predictions are fit.predict(new)"),
    ("simulate", "responses of a fit are fit.simulate(n)"),
    ("residuals", "residuals are fit.residuals()"),
    ("fitted", "fitted values are fit.fitted()"),
    ("summary", "the summary is fit.summary(), or the fit itself, printed"),
    ("tidy", "tables are fit.tidy(), fit.tidy('variance') and fit.tidy('random')"),
    ("glance", "one row of a fit is fit.glance()"),
    ("drop1", "tests of each term are ranef.anova(fit)"),
    ("lrt", "likelihood-ratio tests are ranef.anova(smaller, larger)"),
    ("exactrlrt", "tests of variances are ranef.variance_test(fit)"),
    ("rand", "tests of the random terms are ranef.variance_test(fit)"),
    ("bootmer", "lme4's bootMer is ranef.bootstrap(fit)"),
    ("powersim", "simr's powerSim is ranef.power"),
    ("caic", "the conditional AIC is ranef.compare(fits, focus='individual')"),
    (
        "loo",
        "leave-one-out is ranef.leave_out(fit); comparisons are ranef.compare(fits, focus=...)",
    ),
    ("buildmer", "the largest structure that the data support is ranef.maximal(formula, data)"),
    ("dharma", "simulated residuals are ranef.simulated_residuals(fit)"),
    ("performance", "checks are ranef.check(fit); R2 and ICC are ranef.r2(fit) and ranef.icc(fit)"),
    ("vif check_collinearity", "variance inflation factors are ranef.collinearity(fit)"),
    ("cooks_distance", "Cook's distances are ranef.influence(fit)"),
    ("demean", "within and between parts are ranef.decompose(table, columns, by)"),
    ("wbm panelr_wbm heblb xthybrid", "panelr's wbm is ranef.within_between(formula, data, ...)"),
    ("isva", "surrogate variables are not part of ranef"),
    ("read_csv", "tables are read by pandas or polars; ranef takes either"),
    ("load_data", "bundled data are ranef.data.load('sleepstudy')"),
    ("cfa", "lavaan's cfa is ranef.sem"),
    ("lavaan", "lavaan's models are ranef.sem"),
    ("measeq_syntax", "semTools' measEq.syntax is ranef.invariance"),
    ("decontam", "contaminants are judged by ranef.metagenomics.screen"),
    ("iscontaminant", "contaminants are judged by ranef.metagenomics.screen(counts, sheet)"),
    ("isnotcontaminant", "what is genuine is judged by ranef.metagenomics.screen(counts, sheet)"),
    ("secondlevelmodel", "nilearn's SecondLevelModel is ranef.imaging.MixedEffectsSecondLevel"),
    (
        "non_parametric_inference",
        "permutations are .permutation_test(...) of a fitted second level, or "
        "ranef.imaging.sign_flips",
    ),
    ("permuted_ols randomise palm", "permutations of arrays are ranef.imaging.sign_flips"),
    ("gemma", "genome-wide scans are ranef.gwas.scan"),
    (
        "gam gamm gamm4 bam scam vgam",
        "penalised splines are not part of ranef; ranef.lmm takes ns(x, 3) and bs(x, 5) in "
        "its formula",
    ),
    ("smf sm statsmodels", "statsmodels' mixedlm is ranef.lmm, its gee ranef.gee"),
    ("pymer4 lm4", "pymer4's Lmer is ranef.lmm(formula, data), or ranef.glmm with family="),
    (
        "linearmixedmodel mixedmodel",
        "MixedModels.jl's fit(MixedModel, formula, data) is ranef.lmm(formula, data); a "
        "scikit-learn estimator is ranef.sklearn.MixedModel",
    ),
    (
        "generalizedlinearmixedmodel generalised_linear_mixed_model glmm_tmb",
        "a generalised linear mixed model is ranef.glmm(formula, data, family=...)",
    ),
    (
        "fit fit!",
        "a model is fitted by ranef.lmm(formula, data), or ranef.glmm(formula, data, family=...)",
    ),
    ("zerocorr", "uncorrelated random effects are (x || g) in the formula"),
    (
        "dummycoding helmertcoding effectscoding contr_treatment contr_sum contr_helmert",
        "coding stands in the formula: C(f, contr.sum), C(f, contr.helmert)",
    ),
    (
        "parametricbootstrap shortestcovint",
        "MixedModels.jl's parametricbootstrap is ranef.bootstrap(fit)",
    ),
    (
        "proc_glm proc glm_repeated manova unianova",
        "PROC GLM and UNIANOVA are ranef.lmm with residual=, or with (1 | subject), and "
        "fit.anova()",
    ),
    ("genlinmixed", "GENLINMIXED of SPSS is ranef.glmm"),
    (
        "varcomp proc_varcomp",
        "variance components are fit.tidy('variance') of ranef.lmm(..., residual=...) or with"
        " (1 | g)",
    ),
    (
        "xtmixed xtreg xtlmm",
        "Stata's xtmixed, and xtreg with re or mle, are ranef.lmm with (1 | g); the within "
        "estimator is ranef.within_between",
    ),
    ("xtgee", "Stata's xtgee is ranef.gee"),
    (
        "xtlogit meqrlogit gllamm",
        "Stata's xtlogit and meqrlogit are ranef.glmm with family='binomial' and quadrature=",
    ),
    ("mepoisson meqrpoisson xtpoisson", "Stata's mepoisson is ranef.glmm with family='poisson'"),
    ("menbreg xtnbreg", "Stata's menbreg is ranef.glmm with family='nbinom2'"),
    ("meologit meoprobit", "Stata's meologit is ranef.glmm with family='cumulative'"),
    (
        "meprobit",
        "Stata's meprobit is ranef.glmm with family=ranef.families.Binomial(link='probit')",
    ),
    ("metobit", "Stata's metobit is ranef.glmm with family='censored'"),
    (
        "xtset tsset",
        "grouping factors stand in the formula, (1 | g), and the time in residual='ar1(time | g)'",
    ),
    (
        "reghdfe feols fixest plm felm panelols",
        "fixed effects of many groups are parts within them: ranef.within_between(formula, "
        "data), or within(x, g) in a formula",
    ),
    (
        "lincom testparm linear_hypothesis linearhypothesis car_lht wald_test wald test",
        "hypotheses on coefficients are fit.test('x = 1')",
    ),
    (
        "anova_lm aov rm_anova anovarm mixed_anova aov_ez aov_car aov_4 ezanova",
        "an analysis of variance of repeated measures is ranef.anova(fit) of ranef.lmm with "
        "(1 | subject)",
    ),
    (
        "ttest ttest_rel t_test pairwise_tests pairwise_t_test",
        "means and their differences are ranef.emmeans(fit, 'f') and ranef.contrasts(fit, 'f')",
    ),
    ("lm ols", "a model without random effects is ranef.lmm(formula, data, random='none')"),
    (
        "glm",
        "a generalised model without random effects is ranef.glmm(formula, data, family=..., "
        "random='none')",
    ),
    ("logit logistic", "logistic models are ranef.glmm with family='binomial'"),
    ("probit", "probit models are ranef.glmm with family=ranef.families.Binomial(link='probit')"),
    ("poisson", "Poisson models are ranef.glmm with family='poisson'"),
    (
        "glm_nb negbin nbinom negativebinomial nb",
        "negative binomial models are ranef.glmm with family='nbinom2'",
    ),
    ("zeroinfl zip zinb", "zero inflation is zero='~ 1' of ranef.glmm"),
    (
        "hurdle",
        "a hurdle model of counts is ranef.glmm with family='truncated_poisson' and zero='~ 1'",
    ),
    ("beta_reg betareg", "models of proportions are ranef.glmm with family='beta'"),
    ("clm polr orderedmodel ologit", "ordinal models are ranef.glmm with family='cumulative'"),
    (
        "multinom mnlogit mblogit nnet",
        "models of nominal categories are ranef.glmm with family='multinomial'",
    ),
    (
        "plot_model sjplot ggpredict ggeffect ggemmeans alleffects effect effects "
        "plot_predictions predictions predict_response",
        "predicted curves are fit.plot.predictions('x'), their numbers fit.predict(new) and "
        "ranef.emmeans(fit, 'x')",
    ),
    (
        "slopes marginal_effects ame comparisons margeff",
        "average effects are ranef.average(fit, 'x'); trends are ranef.emtrends",
    ),
    (
        "tab_model stargazer modelsummary huxtable texreg screenreg summary_col gtsummary "
        "tbl_regression",
        "tables for a paper are ranef.table([a, b])",
    ),
    (
        "estimate_means emmip ref_grid",
        "estimated marginal means are ranef.emmeans(fit, 'f'), their picture .plot()",
    ),
    ("estimate_contrasts mvcontrast", "comparisons are ranef.contrasts(fit, 'f')"),
    ("estimate_slopes", "trends are ranef.emtrends"),
    (
        "cld multcomp_letters multcompletters",
        "letters are not drawn; ranef.contrasts(fit, 'f') compares, and the arrows of its "
        "means' plot do",
    ),
    ("glht", "comparisons are ranef.contrasts(fit, 'f', adjust=...)"),
    (
        "eff_size cohens_d",
        "standardised differences are ranef.contrasts(fit, 'f') divided by fit.sigma; effect "
        "sizes of studies are ranef.effect_sizes",
    ),
    ("pwpp pwpm regrid", "comparisons are ranef.contrasts(fit, 'f'), with adjust="),
    ("r2_nakagawa r_squaredglmm rsquared", "explained variance is ranef.r2(fit)"),
    ("variance_decomposition", "shares of the variance are ranef.r2(fit) and ranef.icc(fit)"),
    (
        "check_model model_performance plot_residuals test_dispersion testdispersion "
        "check_overdispersion check_convergence check_normality testzeroinflation "
        "simulateresiduals",
        "checks are ranef.check(fit); simulated residuals are ranef.simulated_residuals(fit)",
    ),
    ("check_singularity issingular", "a fit on the boundary has fit.optimum.singular"),
    ("compare_performance", "models are compared by ranef.compare([a, b])"),
    (
        "repca",
        "the rank of each covariance matrix is fit.optimum.ranks, and the largest structure "
        "that the data support ranef.maximal",
    ),
    (
        "allfit convergence lmercontrol glmercontrol control",
        "there is one search; fit.optimum says what it proved",
    ),
    ("dredge mumin glmulti", "all subsets of the terms are ranef.subsets(fit)"),
    ("model_avg model_average modavg", "models are weighed by ranef.compare([a, b])"),
    (
        "aic bic aicc aictab cv",
        "information criteria are fit.aic and fit.bic, and ranef.compare([a, b])",
    ),
    ("boot bootstrap_model bootstrap_parameters", "the bootstrap is ranef.bootstrap(fit)"),
    ("simr powercurve power_curve extend powertransform", "power by simulation is ranef.power"),
    (
        "mice imputer with_mice mi_estimate amelia mitools",
        "imputed tables are ranef.impute(...), their fits pooled by ranef.pool",
    ),
    (
        "growth efa",
        "lavaan's models are ranef.sem; a growth curve is ranef.lmm, or ranef.sem with its "
        "loadings fixed",
    ),
    ("fitmeasures fit_measures", "measures of fit are ranef.sem(...).fit_measures()"),
    (
        "modindices modificationindices mi",
        "modification indices are ranef.sem(...).modification_indices()",
    ),
    ("parameterestimates standardizedsolution", "estimates are ranef.sem(...).tidy()"),
    ("lavpredict factor_scores", "factor scores are ranef.sem(...).scores()"),
    ("sempaths semplot", "path diagrams are ranef.sem(...).diagram(path)"),
    ("measurementinvariance", "invariance of measurement is ranef.invariance"),
    ("mplus", "Mplus' models are ranef.sem, which reads its input"),
    (
        "rma_uni rma_mh rma_peto rma_glmm metagen metabin metacont metaprop metareg "
        "meta_analysis dersimonian_laird combine_effects",
        "a meta-analysis is ranef.meta('yi ~ 1', effects, variance='vi'), with effects from "
        "ranef.effect_sizes",
    ),
    (
        "netmeta",
        "network meta-analysis is ranef.meta with one column for each comparison and (1 | study)",
    ),
    ("forest forestplot", "forest plots are fit.plot.forest() of ranef.meta"),
    (
        "funnel funnelplot",
        "funnel plots are fit.plot.funnel() of ranef.meta, and of "
        "fit.standardized_ratios('ward') their .plot()",
    ),
    ("baujat", "Baujat's plot is fit.plot.baujat() of ranef.meta"),
    ("regtest metabias ranktest", "tests of a funnel's asymmetry are ranef.egger(fit)"),
    ("trimfill", "trim and fill is ranef.trim_and_fill(fit)"),
    ("permutest", "a permutation test of a meta-analysis is ranef.permutation_test(fit)"),
    ("leave1out", "leaving out each study is ranef.meta(...).influence()"),
    (
        "emma emmax fastlmm fast_lmm limix gaston rrblup plink plink2 regenie bolt bolt_lmm "
        "saige gcta fastgwa mlma gwa gwas_scan",
        "genome-wide scans are ranef.gwas.scan; beyond some 10,000 samples it takes two steps",
    ),
    (
        "greml hsq reml",
        "heritability of a trait from genotypes is ranef.gwas.heritability, from a pedigree "
        "or kernel fit.heritability('id')",
    ),
    ("skat skat_o burden", "sets of rare variants are ranef.gwas.gene_sets"),
    (
        "flame flameo flame1 feat",
        "FSL's FLAME is ranef.imaging.MixedEffectsSecondLevel, or ranef.imaging.mixed_effects"
        " of arrays",
    ),
    (
        "firstlevelmodel first_level",
        "first levels are made by nilearn or FSL; groups of their images are ranef.imaging",
    ),
    (
        "cluster_threshold threshold_stats_img tfce",
        "clusters are tabled by a fitted ranef.imaging.MixedEffectsSecondLevel; TFCE of "
        "arrays is ranef.imaging.tfce",
    ),
    (
        "load_model read_model read_rds readrds open_fit unpickle joblib",
        "a saved fit is read by ranef.load(path)",
    ),
    (
        "save save_model saverds to_pickle",
        "a fit is saved by fit.save(path) and read by ranef.load(path)",
    ),
    (
        "gridsearchcv kfold groupkfold train_test_split cross_val_score leaveonegroupout cv_glm",
        "cross-validation is ranef.cross_validate(fit), leaving groups out "
        "fit.leave_out('g'); with scikit-learn ranef.sklearn.MixedModel",
    ),
    ("merf gpboost gpmodel", "a scikit-learn estimator is ranef.sklearn.MixedModel"),
    (
        "deseq2 edger limma maaslin2 ancombc lefse aldex2",
        "differential abundance is a model of counts for each taxon: ranef.glmm with "
        "family='nbinom2' and offset=",
    ),
    (
        "sourcetracker microdecon scrub phyloseq kraken kraken2 bracken metaphlan",
        "reports of classifiers are read and judged by ranef.metagenomics.screen",
    ),
    ("msm tmle ipw", "weights are an argument: ranef.gee(..., weights='column')"),
    ("esm emaph beepr", "a diary's whole analysis is ranef.diary"),
    ("dsem", "Mplus' DSEM is ranef.dynamic, and ranef.diary for a whole analysis"),
    ("mixregls mixwild", "persons that differ in their variability are ranef.dynamic"),
)
FUNCTIONS: dict[str, str] = {name: words for names, words in _ALIKE for name in names.split()}
