# Reference values for tests/test_residuals.py: nlme 3.1-162 (R 4.2.2), each fit started from nlme's
# defaults. Writes residuals.json: the data sets of Pinheiro & Bates (2000) that are not bundled,
# and log-likelihoods, coefficients, standard errors and correlation parameters.
library(nlme); library(jsonlite)
data(sleepstudy, package = "lme4")
set.seed(6); uneq <- sleepstudy[sort(sample(180, 140)), ]
orth <- as.data.frame(Orthodont); orth <- orth[order(orth$Subject, orth$age), ]
ovary <- data.frame(mare = as.integer(as.character(Ovary$Mare)), time = Ovary$Time, follicles = Ovary$follicles)
body <- data.frame(rat = as.integer(as.character(BodyWeight$Rat)), time = BodyWeight$Time,
                   weight = BodyWeight$weight, diet = as.character(BodyWeight$Diet))
# half-hours of a mare's cycle are irregular: the correlation of nlme's book counts observations
ovary$obs <- ave(ovary$time, ovary$mare, FUN = rank)
ctrl <- lmeControl(opt = "optim", msMaxIter = 500, maxIter = 200)
fits <- expression(
  ar1 = lme(Reaction ~ Days, random = ~ 1 | Subject, sleepstudy, correlation = corAR1(form = ~ Days | Subject)),
  arma = lme(Reaction ~ Days, random = ~ 1 | Subject, sleepstudy, correlation = corARMA(form = ~ Days | Subject, p = 1, q = 1)),
  car1_unequal = lme(Reaction ~ Days, random = ~ 1 | Subject, uneq, correlation = corCAR1(form = ~ Days | Subject)),
  car1_slope_unequal = lme(Reaction ~ Days, random = ~ Days | Subject, uneq, correlation = corCAR1(form = ~ Days | Subject), control = ctrl),
  exp_nugget_unequal = lme(Reaction ~ Days, random = ~ 1 | Subject, uneq, correlation = corExp(form = ~ Days | Subject, nugget = TRUE), control = ctrl),
  gls_ar1 = gls(Reaction ~ Days, sleepstudy, correlation = corAR1(form = ~ Days | Subject)),
  gls_homcs = gls(Reaction ~ Days, sleepstudy, correlation = corCompSymm(form = ~ 1 | Subject)),
  gls_us = gls(distance ~ age * Sex, orth, correlation = corSymm(form = ~ 1 | Subject), weights = varIdent(form = ~ 1 | age)),
  gls_us_ml = gls(distance ~ age * Sex, orth, correlation = corSymm(form = ~ 1 | Subject), weights = varIdent(form = ~ 1 | age), method = "ML"),
  gls_cs = gls(distance ~ age * Sex, orth, correlation = corCompSymm(form = ~ 1 | Subject), weights = varIdent(form = ~ 1 | age)),
  gls_hetar1 = gls(distance ~ age * Sex, orth, correlation = corAR1(form = ~ 1 | Subject), weights = varIdent(form = ~ 1 | age)),
  var_ident = lme(distance ~ age * Sex, random = ~ 1 | Subject, orth, weights = varIdent(form = ~ 1 | Sex)),
  ovary_ar1 = lme(follicles ~ sin(2 * pi * time) + cos(2 * pi * time), random = ~ 1 | mare, ovary, correlation = corAR1(form = ~ obs | mare)),
  ovary_arma = lme(follicles ~ sin(2 * pi * time) + cos(2 * pi * time), random = ~ 1 | mare, ovary, correlation = corARMA(form = ~ obs | mare, p = 1, q = 1)),
  ovary_ma2 = lme(follicles ~ sin(2 * pi * time) + cos(2 * pi * time), random = ~ 1 | mare, ovary, correlation = corARMA(form = ~ obs | mare, q = 2)),
  body_exp = lme(weight ~ time * diet, random = ~ time | rat, body, correlation = corExp(form = ~ time | rat), control = ctrl),
  body_gaus = lme(weight ~ time * diet, random = ~ time | rat, body, correlation = corGaus(form = ~ time | rat), control = ctrl),
  body_power = lme(weight ~ time * diet, random = ~ time | rat, body, weights = varPower(form = ~ time), control = ctrl),
  body_exponent = lme(weight ~ time * diet, random = ~ time | rat, body, weights = varExp(form = ~ time), control = ctrl),
  body_ar_power = lme(weight ~ time * diet, random = ~ 1 | rat, body, weights = varPower(form = ~ time), correlation = corCAR1(form = ~ time | rat), control = ctrl))
numbers <- function(f) {
  t <- if (inherits(f, "gls")) summary(f)$tTable else summary(f)$tTable
  cor <- f$modelStruct$corStruct; var <- f$modelStruct$varStruct
  list(loglik = as.numeric(logLik(f)), sigma = f$sigma, coef = as.list(t[, 1]), se = as.list(t[, "Std.Error"]),
       correlation = if (is.null(cor)) list() else as.list(coef(cor, unconstrained = FALSE)),
       variance = if (is.null(var)) list() else as.list(coef(var, unconstrained = FALSE)))
}
names(fits) -> named
fits <- lapply(fits, function(e) try(eval(e), silent = TRUE)); names(fits) <- named
print(named[sapply(fits, inherits, 'try-error')])
fits <- fits[!sapply(fits, inherits, 'try-error')]
out <- list(made_by = "nlme 3.1-162", data = list(uneq = uneq, orthodont = orth, ovary = ovary, body = body),
            fits = lapply(fits, numbers))
out$data$uneq$Subject <- as.character(out$data$uneq$Subject)
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, dataframe = "columns"), "residuals.json")
