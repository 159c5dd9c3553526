# Standard errors of conditional predictions that count the variance parameters.
#   Rscript tests/reference/prediction.R      (from the project's root)
# glmmTMB's se.fit of the linear predictor is the delta method through fixed effects, random
# effects and variance parameters jointly (TMB's sdreport). Fits by ML; rows of known and of
# new levels; the sleepstudy of nlme's kind has 7 rows less, so that it is not balanced.
suppressMessages({
  library(glmmTMB)
  library(lme4)
  library(jsonlite)
})
control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15, x.tol = 0))
sleep <- sleepstudy[-c(1, 2, 3, 15, 28, 29, 121), ]
cases <- list(
  slopes = list(
    fit = glmmTMB(Reaction ~ Days + (Days | Subject), sleep, control = control),
    new = data.frame(Days = c(0, 9, 5, 12), Subject = c("308", "309", "332", "372"))
  ),
  crossed = list(
    fit = glmmTMB(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, control = control),
    new = data.frame(plate = c("a", "b", "x"), sample = c("A", "F", "C"))
  ),
  nested = list(
    fit = glmmTMB(strength ~ 1 + (1 | batch) + (1 | batch:cask), Pastes, control = control),
    new = data.frame(batch = c("A", "B", "J"), cask = c("a", "c", "b"))
  )
)
answers <- lapply(cases, function(case) {
  p <- predict(case$fit, case$new, se.fit = TRUE, allow.new.levels = TRUE)
  list(loglik = as.numeric(logLik(case$fit)), new = case$new, fit = p$fit, se = p$se.fit)
})
write_json(list(
  versions = list(
    R = as.character(getRversion()), glmmTMB = as.character(packageVersion("glmmTMB")),
    TMB = as.character(packageVersion("TMB")), lme4 = as.character(packageVersion("lme4"))
  ),
  dropped = c(1, 2, 3, 15, 28, 29, 121), cases = answers
), "tests/reference/prediction.json", auto_unbox = TRUE, digits = NA, pretty = TRUE)
