# Diagnostics: hat values and influence of lme4, R2, ICC and collinearity of performance.
#   Rscript tests/reference/diagnostics.R
# writes tests/reference/diagnostics.json. `trace` (effective parameters) and `r2` agree with
# values made earlier with cAIC4 1.0 and performance 0.10.2 at default settings of lmer.
suppressMessages({
  library(lme4)
  library(performance)
  library(jsonlite)
})

tight <- lmerControl(
  optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(maxfun = 1e5, rhobeg = 0.05, rhoend = 1e-12)
)

models <- list(
  sleep_slope = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = tight),
  sleep_diag = lmer(Reaction ~ Days + (Days || Subject), sleepstudy, control = tight),
  sleep_int = lmer(Reaction ~ Days + (1 | Subject), sleepstudy, control = tight),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, control = tight)
)

binomial_fit <- glmer(
  cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial,
  control = glmerControl(tolPwrss = 1e-10, optimizer = "Nelder_Mead",
                         optCtrl = list(FtolAbs = 1e-14, XtolRel = 1e-12, maxfun = 1e5))
)

left_out <- function(fit, group) {
  found <- influence(fit, group, maxfun = 1e5)
  list(
    levels = rownames(found[[sprintf("fixed.effects[-%s]", group)]]),
    beta = unname(found[[sprintf("fixed.effects[-%s]", group)]]),
    cook = unname(cooks.distance(found)),
    dfbetas = unname(as.matrix(dfbetas(found)))
  )
}

out <- list(
  versions = list(
    R = paste(R.version$major, R.version$minor, sep = "."),
    lme4 = as.character(packageVersion("lme4")),
    performance = as.character(packageVersion("performance"))
  ),
  hat = lapply(models, function(fit) unname(hatvalues(fit))),
  influence = list(
    sleep_slope = left_out(models$sleep_slope, "Subject"),
    sleep_int = left_out(models$sleep_int, "Subject"),
    cbpp = left_out(binomial_fit, "herd")
  ),
  r2 = lapply(c(models[c("sleep_slope", "sleep_int")], list(cbpp = binomial_fit)), function(fit) {
    r2 <- r2_nakagawa(fit)
    i <- icc(fit)
    list(marginal = unname(r2$R2_marginal), conditional = unname(r2$R2_conditional),
         adjusted = i$ICC_adjusted, unadjusted = i$ICC_unadjusted)
  }),
  vif = local({
    fit <- lmer(diameter ~ x1 + x2 + f + (1 | plate),
                transform(Penicillin, x1 = sin(seq_along(diameter)),
                          x2 = sin(seq_along(diameter)) + 0.5 * cos(3 * seq_along(diameter)),
                          f = factor(seq_along(diameter) %% 3)), control = tight)
    found <- check_collinearity(fit)
    list(term = found$Term, vif = found$VIF)
  })
)
write_json(out, "tests/reference/diagnostics.json", digits = 12, auto_unbox = TRUE, pretty = FALSE)
