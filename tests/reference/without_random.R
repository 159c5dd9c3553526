# Models without random effects, by R's own functions and glmmTMB:
#   Rscript tests/reference/without_random.R FOLDER > tests/reference/without_random.json
# FOLDER holds sleepstudy.csv, Salamanders.csv and cbpp.csv, the tables bundled with ranef.
suppressMessages({library(MASS); library(glmmTMB)})
folder <- commandArgs(TRUE)[1]
read <- function(name) read.csv(file.path(folder, paste0(name, ".csv")))
number <- function(x) paste0("[", paste(sprintf("%.10g", x), collapse = ", "), "]")
entry <- function(name, ...) {
  values <- list(...)
  inner <- paste0('"', names(values), '": ', sapply(values, number), collapse = ", ")
  sprintf('  "%s": {%s}', name, inner)
}

sleep <- read("sleepstudy")
sleep$w <- 1 + sleep$Days / 10
ols <- lm(Reaction ~ Days, sleep)
wls <- lm(Reaction ~ Days, sleep, weights = w)
new <- data.frame(Days = c(0, 4.5, 12))
predicted <- predict(ols, new, interval = "prediction", level = 0.9)

sal <- read("Salamanders")
sal$mined <- factor(sal$mined, levels = c("yes", "no"))
pois <- glm(count ~ mined + DOY, poisson, sal)
nb <- glm.nb(count ~ mined + DOY, sal, control = glm.control(epsilon = 1e-12, maxit = 200))
zinb <- glmmTMB(count ~ mined + DOY, ziformula = ~ mined, dispformula = ~ DOY,
                family = nbinom2, data = sal)
hurdle <- glmmTMB(count ~ mined, ziformula = ~ mined, family = truncated_poisson, data = sal)

cbpp <- read("cbpp")
cbpp$period <- factor(cbpp$period)
bin <- glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp)
probit <- glm(cbind(incidence, size - incidence) ~ period, binomial("probit"), cbpp)

se <- function(fit) sqrt(diag(vcov(fit)))
cat("{\n", paste(c(
  sprintf('  "versions": "%s, MASS %s, glmmTMB %s"', R.version.string,
          packageVersion("MASS"), packageVersion("glmmTMB")),
  entry("lm", coef = coef(ols), se = se(ols), sigma = sigma(ols),
        ml = logLik(ols), reml = logLik(ols, REML = TRUE), aic = AIC(ols),
        hat = range(hatvalues(ols)), cook = max(cooks.distance(ols)),
        lwr = predicted[, "lwr"], upr = predicted[, "upr"],
        F = anova(ols)$"F value"[1]),
  entry("wls", coef = coef(wls), se = se(wls), sigma = sigma(wls),
        ml = logLik(wls), reml = logLik(wls, REML = TRUE)),
  entry("poisson", coef = coef(pois), se = se(pois), loglik = logLik(pois),
        hat = range(hatvalues(pois)), deviance = sum(residuals(pois, "deviance")^2),
        pearson = sum(residuals(pois, "pearson")^2)),
  entry("glm.nb", coef = coef(nb), theta = nb$theta, loglik = logLik(nb)),
  entry("zinb", coef = unlist(fixef(zinb)), loglik = logLik(zinb)),
  entry("hurdle", coef = c(fixef(hurdle)$cond, fixef(hurdle)$zi), loglik = logLik(hurdle)),
  entry("binomial", coef = coef(bin), se = se(bin), loglik = logLik(bin)),
  entry("probit", coef = coef(probit), se = se(probit), loglik = logLik(probit))
), collapse = ",\n"), "\n}\n", sep = "")
