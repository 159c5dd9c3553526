# Reference predictions of generalised linear mixed models by glmmTMB.
#   Rscript tests/reference/predict_glmm.R      (from the project's root)
# reads the tables of tests/reference/glmm.json and writes
# tests/reference/predict_glmm.json: predictions with standard errors of some rows,
# with the random effects and without, and Pearson residuals.
suppressMessages({
  library(glmmTMB)
  library(jsonlite)
})

tables <- lapply(fromJSON("tests/reference/glmm.json")$tables, as.data.frame)
cbpp <- tables$cbpp
cbpp$period <- factor(cbpp$period)
owls <- tables$Owls
salamanders <- tables$Salamanders
salamanders$mined <- factor(salamanders$mined, levels = c("yes", "no"))
salamanders$spp <- factor(salamanders$spp,
  levels = c("GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"))

control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15, x.tol = 0))
models <- list(
  cbpp = glmmTMB(cbind(incidence, healthy) ~ period + (1 | herd), cbpp, binomial,
    control = control),
  cbpp_probit = glmmTMB(cbind(incidence, healthy) ~ period + (1 | herd), cbpp,
    binomial("probit"), control = control),
  owls = glmmTMB(calls ~ FoodTreatment * SexParent + offset(log_brood) + (1 | Nest), owls,
    nbinom1(), ziformula = ~1, control = control),
  salamanders_zero_random = glmmTMB(count ~ spp * mined + (1 | site), salamanders, poisson,
    ziformula = ~ mined + (1 | site), control = control)
)
rows <- c(1, 2, 7, 20, 33, 50)

one <- function(m, data, type, re) {
  p <- suppressWarnings(
    predict(m, data[rows, ], type = type, re.form = re, se.fit = TRUE)
  )
  list(fit = unname(p$fit), se = unname(p$se.fit))
}

answers <- Map(function(m, data) {
  types <- c("link", "response", if (m$modelInfo$allForm$ziformula != ~0) c("zprob", "conditional"))
  list(
    loglik = as.numeric(logLik(m)),
    conditional = setNames(lapply(types, function(t) one(m, data, t, NULL)), types),
    typical = setNames(lapply(types, function(t) one(m, data, t, NA)), types),
    pearson = unname(residuals(m, type = "pearson")[rows])
  )
}, models, list(cbpp, cbpp, owls, salamanders))

out <- list(
  versions = list(R = as.character(getRversion()), glmmTMB = as.character(packageVersion("glmmTMB"))),
  rows = rows - 1, cases = answers
)
write_json(out, "tests/reference/predict_glmm.json", auto_unbox = TRUE, digits = NA)
