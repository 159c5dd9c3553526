# Linear mixed models with structured covariance: values of glmmTMB and nlme.
#   Rscript tests/reference/structures.R
# writes tests/reference/structures.json. glmmTMB is brought to its optimum by
# Newton steps on its own gradient. `exp` and `gau` with a residual are nlme's gls
# with a nugget, `homcs` and `homdiag` its pdCompSymm and pdIdent.
suppressMessages({
  library(glmmTMB)
  library(nlme)
  library(jsonlite)
})

options(contrasts = c("contr.treatment", "contr.treatment"))

# 30 groups, six occasions of two rows each. `week` has gaps, `time` is continuous,
# (east, north) is a place for each occasion. Matrices over places go by east, then north.
simulate_set <- function() {
  set.seed(20240229)
  week <- c(0, 1, 2, 4, 5, 7)
  time <- c(0, 0.5, 1.25, 2.5, 3, 5)
  east <- c(0, 1, 1.5, 3, 0.5, 2.5)
  north <- c(0, 0.5, 2, 1, 2.5, 3)
  sd <- c(1, 1.4, 0.8, 1.2, 1.6, 1.1)
  psi <- outer(sd, sd) * exp(-0.35 * abs(outer(time, time, "-")))
  occasion <- rep(rep(1:6, each = 2), 30)
  group <- rep(1:30, each = 12)
  effects <- matrix(rnorm(180), 30) %*% chol(psi)
  dose <- round(runif(360), 3)
  y <- 10 + 2 * dose + effects[cbind(group, occasion)] + rnorm(360, sd = 0.7)
  data.frame(
    g = sprintf("g%02d", group), step = occasion, week = week[occasion], time = time[occasion],
    east = east[occasion], north = north[occasion], dose = dose, y = round(y, 4)
  )
}

simulated <- simulate_set()
prepared <- transform(
  simulated,
  fstep = factor(step), ftime = numFactor(time), place = numFactor(east, north)
)
tables <- list(
  simulated = prepared, sleepstudy = lme4::sleepstudy, Machines = as.data.frame(Machines),
  Orthodont = as.data.frame(Orthodont)
)

# One fit of glmmTMB, polished. `corr` and `sd` are those of the first term.
by_glmmtmb <- function(formula, table, reml) {
  fit <- glmmTMB(
    formula, tables[[table]], REML = reml, dispformula = ~1,
    control = glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4))
  )
  obj <- fit$obj
  par <- fit$fit$par
  for (i in 1:6) {
    H <- optimHess(par, obj$fn, obj$gr, control = list(ndeps = rep(1e-4, length(par))))
    step <- tryCatch(solve(H, as.vector(obj$gr(par))), error = function(e) 0 * par)
    if (!is.finite(obj$fn(par - step)) || obj$fn(par - step) > obj$fn(par) + 1e-9) break
    par <- par - step
  }
  value <- obj$fn(par)
  full <- obj$env$last.par
  report <- obj$report(full)
  beta <- unname(full[names(full) == "beta"])
  psi <- if (grepl("rr(", deparse1(formula), fixed = TRUE)) {
    report$fact_load[[1]] %*% t(report$fact_load[[1]])
  } else if (length(report$corr[[1]]) == 0) {
    diag(report$sd[[1]]^2)
  } else {
    sd <- rep_len(report$sd[[1]], nrow(report$corr[[1]]))
    outer(sd, sd) * report$corr[[1]]
  }
  if (grepl("place", deparse1(formula))) {
    at <- parseNumLevels(levels(prepared$place))
    psi <- psi[order(at[, 1], at[, 2]), order(at[, 1], at[, 2])]
  }
  list(
    loglik = -value, gradient = max(abs(obj$gr(par))), beta = beta, psi = psi,
    sigma = exp(unname(full[names(full) == "betad"]) / 2)
  )
}

by_gls <- function(formula, table, correlation, reml) {
  fit <- gls(
    formula, tables[[table]], correlation = correlation, method = if (reml) "REML" else "ML",
    control = glsControl(tolerance = 1e-12, msTol = 1e-14, maxIter = 1000, msMaxIter = 1000)
  )
  extra <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  list(
    loglik = as.numeric(logLik(fit)), beta = unname(coef(fit)),
    sd = fit$sigma * sqrt(1 - extra[["nugget"]]), range = extra[["range"]],
    sigma = fit$sigma * sqrt(extra[["nugget"]])
  )
}

by_lme <- function(formula, table, random, reml) {
  fit <- lme(
    formula, tables[[table]], random = random, method = if (reml) "REML" else "ML",
    control = lmeControl(tolerance = 1e-12, msTol = 1e-14, niterEM = 200, opt = "nlminb")
  )
  list(
    loglik = as.numeric(logLik(fit)), beta = unname(fixef(fit)),
    psi = unclass(unname(getVarCov(fit)))[, ], sigma = fit$sigma
  )
}

glmmtmb_cases <- list(
  list("diag(0 + factor(step) | g)", y ~ dose + diag(0 + fstep | g), "simulated"),
  list("cs(0 + factor(step) | g)", y ~ dose + cs(0 + fstep | g), "simulated"),
  list("ar1(step | g)", y ~ dose + ar1(0 + fstep | g), "simulated"),
  list("toep(step | g)", y ~ dose + toep(0 + fstep | g), "simulated"),
  list("ou(time | g)", y ~ dose + ou(0 + ftime | g), "simulated"),
  list("exp(east + north | g)", y ~ dose + exp(0 + place | g), "simulated"),
  list("gau(east + north | g)", y ~ dose + gau(0 + place | g), "simulated"),
  list("mat(east + north | g)", y ~ dose + mat(0 + place | g), "simulated"),
  list("rr(0 + factor(step) | g, 2)", y ~ dose + rr(0 + fstep | g, 2), "simulated"),
  list("us(0 + factor(step) | g)", y ~ dose + us(0 + fstep | g), "simulated"),
  list("cs(Days | Subject)", Reaction ~ Days + cs(Days | Subject), "sleepstudy"),
  list("cs(age | Subject)", distance ~ age + cs(age | Subject), "Orthodont"),
  list("diag(age | Subject)", distance ~ age + diag(age | Subject), "Orthodont"),
  list("cs(0 + Machine | Worker)", score ~ Machine + cs(0 + Machine | Worker), "Machines"),
  list("rr(0 + Machine | Worker, 1)", score ~ Machine + rr(0 + Machine | Worker, 1), "Machines")
)
nlme_cases <- list(
  list("exp(Days | Subject)", Reaction ~ Days, "sleepstudy", "gls",
       function() corExp(form = ~ Days | Subject, nugget = TRUE)),
  list("gau(Days | Subject)", Reaction ~ Days, "sleepstudy", "gls",
       function() corGaus(form = ~ Days | Subject, nugget = TRUE)),
  list("homcs(0 + Machine | Worker)", score ~ Machine, "Machines", "lme",
       function() list(Worker = pdCompSymm(~ Machine - 1))),
  list("homdiag(0 + Machine | Worker)", score ~ Machine, "Machines", "lme",
       function() list(Worker = pdIdent(~ Machine - 1))),
  list("homcs(0 + factor(step) | g)", y ~ dose, "simulated", "lme",
       function() list(g = pdCompSymm(~ fstep - 1)))
)

results <- list()
record <- function(term, formula, table, peer, values, reml) {
  fixed <- deparse1(formula)
  fixed <- if (peer == "nlme") fixed else sub(" \\+ [a-z0-9]+\\(.*$", "", fixed)
  results[[length(results) + 1]] <<- c(
    list(formula = paste(fixed, "+", term), table = table, peer = peer, reml = reml), values
  )
  message(term, if (reml) " REML " else " ML ", values$loglik, " ", values$gradient)
}
for (reml in c(TRUE, FALSE)) {
  for (case in glmmtmb_cases)
    record(case[[1]], case[[2]], case[[3]], "glmmTMB", by_glmmtmb(case[[2]], case[[3]], reml), reml)
  for (case in nlme_cases) {
    fit <- if (case[[4]] == "gls") by_gls else by_lme
    record(case[[1]], case[[2]], case[[3]], "nlme", fit(case[[2]], case[[3]], case[[5]](), reml), reml)
  }
}

version <- function(package) as.character(packageVersion(package))
write_json(
  list(
    versions = list(R = as.character(getRversion()), glmmTMB = version("glmmTMB"),
                    TMB = version("TMB"), nlme = version("nlme")),
    data = simulated, fits = results
  ),
  "tests/reference/structures.json", auto_unbox = TRUE, digits = I(12), dataframe = "columns",
  matrix = "rowmajor"
)
