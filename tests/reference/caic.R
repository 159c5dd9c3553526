# Degrees of freedom of conditional AIC by refits: the derivative of the fitted values in the
# response by central differences (linear models), and counts less by one (Poisson).
# lme4 1.1-31 at its tightest settings. cAIC4 1.0 gives other values for linear models
# (sleepstudy slope 31.30198), since its analytic form is not this derivative; its Poisson value
# of epil, 49.71817, is that of glmer's default settings, which stop before the optimum.
suppressPackageStartupMessages({library(lme4); library(nlme); library(jsonlite); library(MASS)})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 2e-3, rhoend = 2e-10, maxfun = 1e6),
                     calc.derivs = FALSE, check.conv.singular = "ignore")
derivative <- function(formula, data, REML) {
  fit <- lmer(formula, data, REML = REML, control = tight)
  response <- as.character(formula[[2]])
  y <- data[[response]]; h <- 0.05 * sigma(fit); total <- 0
  for (i in seq_along(y)) {
    ends <- sapply(c(1, -1), function(s) {
      other <- data; other[[response]][i] <- y[i] + s * h
      again <- lmer(formula, other, REML = REML, control = tight,
                    start = list(theta = getME(fit, "theta")))
      fitted(again)[i]
    })
    total <- total + (ends[1] - ends[2]) / (2 * h)
  }
  list(df = total + 1, loglik = sum(dnorm(y, fitted(fit), sigma(fit), log = TRUE)))
}
data(sleepstudy, package = "lme4"); data(Dyestuff, package = "lme4")
growth <- as.data.frame(Orthodont); growth$Subject <- factor(growth$Subject, ordered = FALSE)
cases <- list(
  sleepstudy_slope = list(Reaction ~ Days + (Days | Subject), sleepstudy),
  sleepstudy_diagonal = list(Reaction ~ Days + (Days || Subject), sleepstudy),
  sleepstudy_intercept = list(Reaction ~ Days + (1 | Subject), sleepstudy),
  Dyestuff = list(Yield ~ 1 + (1 | Batch), Dyestuff),
  Orthodont_intercept = list(distance ~ age * Sex + (1 | Subject), growth),
  Orthodont_slope = list(distance ~ age * Sex + (age | Subject), growth))
out <- lapply(cases, function(case) list(REML = derivative(case[[1]], case[[2]], TRUE),
                                          ML = derivative(case[[1]], case[[2]], FALSE)))
epil$ly <- log(epil$base / 4)
control <- glmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 2e-3, rhoend = 2e-8, maxfun = 1e5),
                        tolPwrss = 1e-12, calc.derivs = FALSE)
whole <- glmer(y ~ ly + trt + period + (1 | subject), epil, family = poisson, control = control)
start <- list(theta = getME(whole, "theta"), fixef = fixef(whole))
df <- 0
for (i in which(epil$y > 0)) {
  other <- epil; other$y[i] <- other$y[i] - 1
  again <- glmer(y ~ ly + trt + period + (1 | subject), other, family = poisson, control = control,
                 start = start)
  df <- df + epil$y[i] * (log(fitted(whole)[i]) - log(fitted(again)[i]))
}
out$epil <- list(df = unname(df), loglik = sum(dpois(epil$y, fitted(whole), log = TRUE)))
out$data <- list(epil = epil[, c("y", "trt", "subject", "period", "ly")])
writeLines(toJSON(out, digits = 10, auto_unbox = TRUE, dataframe = "columns"), "caic.json")
