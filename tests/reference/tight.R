# The best optimum that lme4's own criterion allows: several optimisers from
# several starts at tight tolerances, then Newton steps on the free parameters
# with Richardson derivatives. Sourced by lmm.R and large.R.
suppressPackageStartupMessages({
  library(lme4)
  library(lmerTest)
  library(jsonlite)
})
options(contrasts = c("contr.treatment", "contr.treatment"), warn = 1)

quiet <- function(x) suppressWarnings(suppressMessages(x))
lax <- function(optimizer = "bobyqa") {
  lmerControl(
    optimizer = optimizer, calc.derivs = FALSE, check.conv.singular = "ignore",
    check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore", check.scaleX = "ignore"
  )
}

# What rounding may add to a criterion of this size.
rounding <- function(value) 1e-11 * abs(value) + 1e-10

# Newton steps on the parameters that are not at their bound, kept only while
# they do not raise the criterion beyond its rounding. The steps of Richardson's
# differences are wide, since rounding is what limits them here.
polish <- function(criterion, theta, lower, steps = 3) {
  free <- theta > lower + 1e-4
  theta[!free] <- lower[!free]
  if (!any(free)) return(theta)
  along <- function(x) criterion(replace(theta, free, x))
  wide <- list(d = 0.01, eps = 0.01, zero.tol = 1e-3)
  for (step in seq_len(steps)) {
    gradient <- numDeriv::grad(along, theta[free], method.args = wide)
    hessian <- numDeriv::hessian(along, theta[free], method.args = wide)
    if (min(eigen(hessian, TRUE, TRUE)$values) <= 1e-8 * max(abs(hessian))) break
    proposal <- theta[free] - solve(hessian, gradient)
    value <- along(theta[free])
    if (any(proposal < lower[free]) || along(proposal) > value + rounding(value)) break
    theta[free] <- proposal
  }
  theta
}

tightest <- function(criterion, start, lower) {
  starts <- list(start, 0.1 * start + 0.01, 3 * start + 0.1)
  found <- list(start)
  for (from in starts) {
    found <- c(found, list(
      minqa::bobyqa(from, criterion, lower,
        control = list(rhobeg = 0.05, rhoend = 1e-11, maxfun = 20000))$par,
      nlminb(from, criterion, lower = lower,
        control = list(rel.tol = 1e-15, x.tol = 1e-14, eval.max = 5000, iter.max = 2000))$par,
      optim(from, criterion, method = "L-BFGS-B", lower = lower,
        control = list(factr = 10, maxit = 2000))$par
    ))
  }
  values <- vapply(found, criterion, 0)
  best <- found[[which.min(values)]]
  best <- minqa::bobyqa(best, criterion, lower,
    control = list(rhobeg = 1e-3, rhoend = 1e-12, maxfun = 20000))$par
  polished <- polish(criterion, best, lower)
  value <- criterion(best)
  if (criterion(polished) <= value + rounding(value)) polished else best
}

# A fit at the tightest optimum; `...` may hold weights and offset.
tight_fit <- function(formula, table, reml, ...) {
  criterion <- quiet(lme4::lmer(formula, table, REML = reml, devFunOnly = TRUE, control = lax(), ...))
  home <- environment(criterion)
  theta <- tightest(criterion, home$pp$theta, home$lower)
  fit <- quiet(lmerTest::lmer(formula, table, REML = reml, start = theta, control = lax(NULL), ...))
  stopifnot(max(abs(getME(fit, "theta") - theta)) < 1e-12)
  fit
}

plain <- function(x) I(unname(as.vector(x)))

# Each random term: its group, coefficient names and covariance matrix.
terms_of <- function(fit) {
  lapply(VarCorr(fit), function(v) {
    list(names = I(rownames(v)), covariance = matrix(v, nrow(v)))
  }) -> blocks
  unname(Map(function(group, block) c(list(group = group), block),
    sub("\\.[0-9]+$", "", names(blocks)), blocks))
}

coefficients_of <- function(fit) {
  table <- coef(summary(fit, ddf = "Satterthwaite"))
  list(
    names = I(rownames(table)), estimate = plain(table[, "Estimate"]),
    std_error = plain(table[, "Std. Error"]), df = plain(table[, "df"]),
    statistic = plain(table[, "t value"]), p_value = plain(table[, "Pr(>|t|)"])
  )
}

modes_of <- function(fit, levels = 5) {
  modes <- as.data.frame(ranef(fit, condVar = TRUE))
  keep <- unlist(lapply(
    split(seq_len(nrow(modes)), modes[c("grpvar", "term")], drop = TRUE), head, levels
  ))
  modes <- modes[sort(keep), ]
  list(
    group = I(as.character(modes$grpvar)), term = I(as.character(modes$term)),
    level = I(as.character(modes$grp)), mode = plain(modes$condval), cond_sd = plain(modes$condsd)
  )
}

describe_fit <- function(fit) {
  list(
    n_obs = nobs(fit), n_groups = as.list(ngrps(fit)), loglik = as.numeric(logLik(fit)),
    df_model = attr(logLik(fit), "df"), theta = plain(getME(fit, "theta")),
    sigma = sigma(fit), singular = isSingular(fit, tol = 1e-5),
    terms = terms_of(fit), fixed = coefficients_of(fit), vcov = as.matrix(vcov(fit)),
    dropped = I(as.character(names(attr(getME(fit, "X"), "col.dropped")))),
    fitted = plain(head(fitted(fit), 5)), random = modes_of(fit)
  )
}

versions <- function() {
  packages <- c("lme4", "lmerTest", "nlme", "Matrix", "minqa", "numDeriv")
  c(list(R = R.version.string), lapply(setNames(packages, packages), function(p) {
    as.character(packageVersion(p))
  }))
}

# One line for each case.
write_reference <- function(cases, path) {
  text <- function(x) toJSON(x, auto_unbox = TRUE, digits = I(15), null = "null", na = "null")
  lines <- sprintf('  "%s": %s', names(cases), vapply(cases, text, ""))
  writeLines(c(
    "{", sprintf(' "versions": %s,', text(versions())), ' "cases": {',
    paste(lines, collapse = ",\n"), " }", "}"
  ), path)
}
