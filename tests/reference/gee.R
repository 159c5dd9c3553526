# Population-averaged models: values of geepack and gee, both brought to their fixed points.
#   Rscript tests/reference/gee.R
# writes tests/reference/gee.json. geepack's ar1 is least squares of all products of residuals
# on alpha^lag, gee's AR-M the mean product of rows one step apart. geepack divides by N, gee
# by N - p. The jackknives are geepack's j1s (one step) and fij (full).
suppressMessages({
  library(geepack)
  library(gee)
  library(jsonlite)
})
options(contrasts = c("contr.treatment", "contr.treatment"))

data(ohio, package = "geepack")
data(respiratory, package = "geepack")
data(Orthodont, package = "nlme")
data(sleepstudy, package = "lme4")
data(cbpp, package = "lme4")
ohio$wave <- ohio$age + 3
respiratory$id <- as.integer(interaction(respiratory$center, respiratory$id, drop = TRUE))
respiratory <- respiratory[order(respiratory$id, respiratory$visit), ]
orthodont <- as.data.frame(Orthodont)
orthodont$id <- as.integer(factor(as.character(orthodont$Subject)))
orthodont <- orthodont[order(orthodont$id, orthodont$age), ]
orthodont$wave <- (orthodont$age - 8) / 2 + 1
sleep <- as.data.frame(sleepstudy)
sleep$id <- as.integer(factor(sleep$Subject))
sleep$wave <- sleep$Days + 1
cbpp$id <- as.integer(cbpp$herd)
cbpp$wave <- as.integer(cbpp$period)

sets <- list(
  ohio = list(f = resp ~ age * smoke, d = ohio, w = "wave", family = binomial()),
  respiratory = list(
    f = outcome ~ treat + sex + baseline + age, d = respiratory, w = "visit", family = binomial()
  ),
  orthodont = list(f = distance ~ age + Sex, d = orthodont, w = "wave", family = gaussian()),
  sleepstudy = list(f = Reaction ~ Days, d = sleep, w = "wave", family = gaussian()),
  cbpp = list(
    f = cbind(incidence, size - incidence) ~ period, d = cbpp, w = "wave", family = binomial()
  )
)

by_geepack <- function(set, structure, error) {
  d <- set$d
  d$.w <- d[[set$w]]
  fit <- suppressWarnings(geeglm(
    set$f, id = id, waves = .w, data = d, family = set$family, corstr = structure,
    std.err = error, control = geese.control(epsilon = 1e-13, maxit = 500)
  ))
  list(
    coef = unname(coef(fit)), se = unname(sqrt(diag(as.matrix(fit$geese$vbeta)))),
    model_se = unname(sqrt(diag(as.matrix(fit$geese$vbeta.naiv)))),
    jackknife = if (error != "san.se") unname(sqrt(diag(as.matrix(vcov(fit))))),
    alpha = unname(fit$geese$alpha), scale = unname(fit$geese$gamma)
  )
}

by_gee <- function(set, structure) {
  sink("/dev/null")
  fit <- suppressMessages(gee(
    set$f, id = id, data = set$d, family = set$family, corstr = structure, Mv = 1,
    maxiter = 1000, tol = 1e-13
  ))
  sink()
  list(
    coef = unname(coef(fit)), se = unname(sqrt(diag(fit$robust.variance))),
    model_se = unname(sqrt(diag(fit$naive.variance))), alpha = fit$working.correlation[1, 2],
    scale = fit$scale
  )
}

out <- list()
for (name in names(sets)) {
  set <- sets[[name]]
  for (structure in c("independence", "exchangeable", "ar1", "unstructured")) {
    if (name == "cbpp") next # geepack weighs proportions otherwise in the correlation
    if (structure == "unstructured" && name == "sleepstudy") next
    found <- by_geepack(set, structure, "san.se")
    if (name %in% c("respiratory", "orthodont")) {
      found$j1s <- by_geepack(set, structure, "j1s")$jackknife
    }
    if (name == "orthodont" && structure != "unstructured") {
      found$fij <- by_geepack(set, structure, "fij")$jackknife
    }
    out[[name]][["geepack"]][[structure]] <- found[!sapply(found, is.null)]
  }
  for (structure in c(
    "independence", "exchangeable", "AR-M", "stat_M_dep", "non_stat_M_dep", "unstructured"
  )) {
    if (name == "cbpp" && !(structure %in% c("independence", "exchangeable"))) next
    if (name == "sleepstudy" && !(structure %in% c("independence", "exchangeable", "AR-M"))) next
    out[[name]][["gee"]][[structure]] <- by_gee(set, structure)
  }
}
out$versions <- list(
  R = R.version.string, geepack = as.character(packageVersion("geepack")),
  gee = as.character(packageVersion("gee"))
)
write_json(out, "tests/reference/gee.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
