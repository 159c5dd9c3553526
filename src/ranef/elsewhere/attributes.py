"""What the fits of other packages carry, and how a fit here is asked for it."""

from __future__ import annotations

__all__ = ["ANSWERS", "ATTRIBUTES"]

_ALIKE = (
    (
        "ranef random_effects u blups blup reffects modes random solutionr ranef_var",
        "conditional modes are fit.tidy('random')",
    ),
    (
        "fixef beta b betas estimates coefs coef_fixed solution solutionf fixed fixed_effects"
        " fixed_coef est",
        "fixed effects are fit.coef, or fit.tidy() with their errors",
    ),
    ("fe_params", "fixed effects are fit.coef"),
    (
        "varcorr cov_re random_effects_cov coef_random getme_theta",
        "variance components are fit.tidy('variance')",
    ),
    ("pairs contrast diffs tukey pairwise", "comparisons are fit.contrasts('treatment')"),
    ("lsmeans", "least-squares means are fit.emmeans('treatment')"),
    ("pvalues_ p_values", "p values are fit.tidy()['p_value']"),
    ("ci", "confidence intervals are fit.confint()"),
    ("converged", "what the search proved is fit.optimum"),
    (
        "rsquared r_squared rsquared_adj marginal_r2 conditional_r2 pseudo_r2 mcfadden "
        "prsquared r2_nakagawa r2m r2c",
        "explained variance is fit.r2()",
    ),
    ("to_latex", "tables for a paper are ranef.table(fit).to_latex()"),
    ("to_html", "tables for a paper are ranef.table(fit).to_html(); the page is fit.report(path)"),
    ("to_docx", "tables for a paper are ranef.table(fit).to_docx('table.docx')"),
    ("to_markdown", "tables for a paper are ranef.table(fit).to_markdown()"),
    (
        "get_params",
        "coefficients are fit.coef; a scikit-learn estimator is ranef.sklearn.MixedModel",
    ),
    ("score", "predictive scores are ranef.cross_validate(fit)"),
    ("caic", "the conditional AIC is ranef.compare(fit, focus='individual')"),
    ("issingular is_singular", "a fit on the boundary has fit.optimum.singular"),
    (
        "cld",
        "letters are not drawn; fit.contrasts('treatment') compares, and the arrows of "
        "fit.emmeans('treatment').plot() do",
    ),
    ("nobs_ n nrow n_rows num_obs nobs_used", "rows used are fit.n_obs"),
    ("drop1 test_terms test_of_fixed_effects type3 tests3", "tests of each term are fit.anova()"),
    ("loglik", "its model has no likelihood; those of ranef.lmm and ranef.glmm do"),
    ("optimum", "nothing is maximised here that has an optimum to prove"),
    ("aic bic", "what criteria it has are in fit.glance(); a GEE's QIC is fit.criteria()"),
    ("qic", "a GEE's QIC is fit.criteria()"),
    (
        "sigma theta",
        "standard deviations and variances are in fit.glance() and fit.tidy('variance')",
    ),
    (
        "cfi tli rmsea srmr chisq chi2 fitmeasures fit_indices",
        "measures of fit are fit.fit_measures() of a structural equation model",
    ),
    (
        "inspect lavinspect coef_std standardizedsolution",
        "standardised estimates are fit.standardized() of a structural equation model",
    ),
    (
        "forest funnel baujat",
        "forest, funnel and Baujat plots are fit.plot.forest(), .funnel() and .baujat() of a "
        "meta-analysis",
    ),
    ("tau2 i2 qe q", "heterogeneity (tau2, I2, H2, Q) is in fit.glance()"),
    (
        "simulate",
        "its model states no distribution to draw from; those of ranef.lmm and ranef.glmm do",
    ),
    ("fit", "it is fitted already; fit.refit(y) fits another response"),
    (
        "se std_errors standard_errors stderr std_err sd",
        "standard errors are fit.bse, or fit.tidy()['std_error']",
    ),
    (
        "tstat t_values zvalues z_values tstatistic statistic tval zval",
        "t and z statistics are fit.tvalues, or fit.tidy()['statistic']",
    ),
    ("pval p p_value pvals pr", "p values are fit.pvalues, or fit.tidy()['p_value']"),
    (
        "var_components vcomp covparms variance_components sigma2 variances re_sd",
        "variance components are fit.tidy('variance'); the residual standard deviation is "
        "fit.sigma",
    ),
    (
        "scale residual_sd rmse mse",
        "the residual standard deviation of a linear model is fit.sigma, the dispersion of "
        "others fit.dispersion; fit.glance() has both",
    ),
    (
        "ngrps ngroups group_sizes groups n_levels",
        "the number of levels of each grouping factor is fit.n_groups",
    ),
    (
        "data model_frame frame orig_data table",
        "the rows with what the fit says of each are fit.augment()",
    ),
    (
        "model",
        "the model in symbols is fit.equation(), in words fit.methods(); its formula fit.formula",
    ),
    ("link linkfun", "the link belongs to the family: fit.family"),
    ("overdispersion", "the dispersion is fit.dispersion; a test is part of fit.check()"),
    (
        "residual_plot plot_residuals plot_diagnostics",
        "residuals are drawn by fit.plot.residuals()",
    ),
    ("qqplot qqnorm qq", "a quantile plot is fit.plot.qq()"),
    ("coefplot plot_coefs dotwhisker plot_summary", "coefficients are drawn by fit.plot.fixed()"),
    ("caterpillar dotplot plot_random plot_ranef", "random effects are drawn by fit.plot.random()"),
    (
        "plot_model plot_effects effects alleffects effect ggpredict ggeffect "
        "predict_response interact_plot plot_predictions emmip",
        "predicted curves are drawn by fit.plot.predictions('x'), adjusted means by "
        "fit.emmeans('f').plot()",
    ),
    ("check_model diagnostics diagnose", "checks of the model are fit.check()"),
    ("compare_performance compare", "models are compared by ranef.compare([a, b])"),
    (
        "slopes marginal_effects avg_slopes margins get_margeff margeff ame avg_comparisons "
        "comparisons",
        "average effects are fit.average('x'), trends fit.emtrends('x')",
    ),
    (
        "lincom t_test f_test wald_test wald_test_terms estimate linear_hypothesis glht "
        "testparm nlcom post_hoc posthoc",
        "hypotheses on coefficients are fit.test('x = 1'), comparisons of means fit.contrasts('f')",
    ),
    ("estat", "criteria and counts are fit.glance(); checks are fit.check()"),
    (
        "getme model_matrix design_matrix x z exog endog",
        "ranef.plan(formula, data) describes the design; the rows are fit.augment()",
    ),
    ("devcomp remlcrit", "the criterion is fit.deviance, minus twice the log-likelihood fitted"),
    ("isreml isglmm islmm", "fit.glance() names the likelihood; fit.reml is True for REML"),
    ("refitml", "a fit by maximum likelihood is ranef.lmm(..., reml=False)"),
    ("update", "another model is another call of ranef.lmm; fit.refit(y) takes another response"),
    ("getcall call", "the formula is fit.formula"),
    (
        "to_file save_model pickle dump to_pickle to_json write",
        "a fit is saved by fit.save(path) and read by ranef.load(path)",
    ),
    ("load", "a saved fit is read by ranef.load(path)"),
    (
        "stargazer tab_model modelsummary as_flextable to_table table_html",
        "tables for a paper are ranef.table(fit), with .to_docx, .to_latex and .to_html",
    ),
    (
        "describe get_summary summary2 print",
        "the summary is fit.summary(), or the fit itself, printed",
    ),
    ("loo", "leaving out is fit.leave_out('g'); predictive scores are ranef.compare([a, b])"),
    ("waic dic", "it is not Bayesian; models are compared by ranef.compare([a, b])"),
    (
        "posterior_predict pp_check posterior_epred",
        "simulated responses are fit.simulate(n), compared with those observed by "
        "fit.simulated_residuals()",
    ),
    (
        "lrtest lrt compare_lr_test compare_f_test",
        "likelihood-ratio tests are smaller.anova(larger)",
    ),
    ("score_test", "score tests of a GEE are fit.anova(test='score')"),
    (
        "get_prediction predict_mean predictions",
        "predictions with intervals are fit.predict(new, conf_level=0.95)",
    ),
    (
        "predict_proba",
        "probabilities are fit.predict(new) of a binomial fit; a scikit-learn estimator is "
        "ranef.sklearn.MixedModel",
    ),
    (
        "outlier_test get_influence cooks cooks_distance dfbeta dfbetas cookd",
        "influence is fit.influence()",
    ),
    ("hatvalues hat_matrix_diag", "leverages are fit.leverage()"),
    (
        "resid_pearson resid_deviance resid_response resid_student pearson",
        "residuals are fit.residuals(kind)",
    ),
    (
        "cov_fixed cov normalized_cov_params",
        "the covariance matrix of the coefficients is fit.vcov",
    ),
    ("robust_se cov_hc bse_robust sandwich_se clustered", "robust errors are fit.robust()"),
    (
        "gradient hessian convergence message niter iterations mle_retvals mle_settings opt "
        "optinfo sdreport sd_report env obj messages status n_iter",
        "what the search found and proved is fit.optimum",
    ),
    (
        "working_correlation rho alpha corr_params cov_struct dep_params",
        "the working correlation is part of fit.summary(); its numbers are fit.tidy('variance')",
    ),
    ("corr correlation", "correlations of random effects are fit.tidy('variance')"),
    ("varfunc variance_function", "the variance is the family's: fit.family"),
    ("lambda", "the covariance parameters are fit.theta"),
    ("pred", "did you mean 'predict'?"),
)
ATTRIBUTES: dict[str, str] = {name: words for names, words in _ALIKE for name in names.split()}

_ANSWERS_ALIKE = (
    ("pvalue pvalues p_value p_values pval p", "p values are the column 'p_value' of .tidy()"),
    ("params estimate estimates coef coefs beta", "estimates are a column of .tidy()"),
    ("se bse std_error stderr", "standard errors are the column 'std_error' of .tidy()"),
    ("ci conf_int confint", "intervals are the columns 'conf_low' and 'conf_high' of .tidy()"),
    (
        "tables summary_frame to_dataframe to_frame to_pandas as_data_frame as_dataframe df data "
        "frame table results",
        "the table behind it is .tidy()",
    ),
    ("to_csv to_excel to_json save write", "it is written from its table: .tidy().to_csv(path)"),
    ("to_word docx word", "for a paper there are .to_docx(path), .to_latex() and .to_html()"),
    ("latex as_latex tex", "for a paper there are .to_docx(path), .to_latex() and .to_html()"),
    ("pairs contrast pairwise diffs", "comparisons of marginal means are .contrasts()"),
    ("print show describe", "it is shown by print(...)"),
)
ANSWERS: dict[str, str] = {name: words for names, words in _ANSWERS_ALIKE for name in names.split()}
"""The answer to a name that an answer does not have."""
