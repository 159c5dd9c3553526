# Reference fits with parameters that are held or equal, by glmmTMB's map.
#   Rscript tests/reference/fixed.R      (from the project's root)
# reads the tables of tests/reference/glmm.json (sleepstudy is lme4's) and
# writes tests/reference/fixed.json: log-likelihood, coefficients with standard errors
# (NA where held), standard deviations, number of free parameters.
suppressMessages({
  library(glmmTMB)
  library(jsonlite)
})

tables <- lapply(fromJSON("tests/reference/glmm.json")$tables, as.data.frame)
cbpp <- tables$cbpp
cbpp$period <- factor(cbpp$period)
owls <- tables$Owls
data(sleepstudy, package = "lme4")

control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15, x.tol = 0))
models <- list(
  # period2 = period3, period4 = -1.5
  cbpp = glmmTMB(cbind(incidence, healthy) ~ period + (1 | herd), cbpp, binomial,
    control = control, map = list(beta = factor(c(1, 2, 2, NA))),
    start = list(beta = c(0, 0, 0, -1.5))),
  # sd of herd = 1
  cbpp_sd = glmmTMB(cbind(incidence, healthy) ~ period + (1 | herd), cbpp, binomial,
    control = control, map = list(theta = factor(NA)), start = list(theta = log(1))),
  # log phi = 1.5, log odds of an extra zero = -1, sd of Nest = 0.5
  owls = glmmTMB(calls ~ FoodTreatment + SexParent + offset(log_brood) + (1 | Nest), owls,
    nbinom1(), ziformula = ~1, control = control,
    map = list(betad = factor(NA), betazi = factor(NA), theta = factor(NA)),
    start = list(betad = 1.5, betazi = -1, theta = log(0.5))),
  # Days = 10, sd of its effects = 6
  sleep = glmmTMB(Reaction ~ Days + diag(Days | Subject), sleepstudy, gaussian,
    control = control, map = list(beta = factor(c(1, NA)), theta = factor(c(1, NA))),
    start = list(beta = c(250, 10), theta = c(log(25), log(6)))),
  # the same by restricted likelihood, the coefficient free
  sleep_reml = glmmTMB(Reaction ~ Days + diag(Days | Subject), sleepstudy, gaussian,
    REML = TRUE, control = control, map = list(theta = factor(c(1, NA))),
    start = list(theta = c(log(25), log(6))))
)

# standard errors of the coefficients, each in the place that the map gives it
errors <- function(m) {
  own <- m$modelInfo$map$beta
  if (is.null(own)) return(unname(sqrt(diag(vcov(m)$cond))))
  V <- m$sdr$cov.fixed
  unname(sqrt(diag(V))[rownames(V) == "beta"][as.integer(own)])
}

answers <- lapply(models, function(m) {
  list(
    loglik = as.numeric(logLik(m)), df = attr(logLik(m), "df"),
    coef = unname(fixef(m)$cond), se = errors(m),
    sd = unname(unlist(lapply(VarCorr(m)$cond, function(v) attr(v, "stddev"))))
  )
})
write_json(
  list(version = as.character(packageVersion("glmmTMB")), answers = answers),
  "tests/reference/fixed.json", digits = NA, auto_unbox = TRUE, na = "null", pretty = TRUE
)
