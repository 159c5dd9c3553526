# lme4: lmer and glmer. glmer's default inner tolerance leaves its log-likelihood
# uncertain in the second decimal, so it is set.
families <- list(
  binomial = binomial(), poisson = poisson(), Gamma = Gamma("log"),
  nbinom2 = NULL, nbinom1 = NULL
)

fit <- function() {
  if (is.null(problem$family)) {
    # bootMer looks for it by its name in the call
    control <<- eval(parse(text = paste0("lmerControl(", problem$lme4, ")")))
    return(suppressMessages(lmer(problem$model, table, REML = problem$reml, control = control)))
  }
  family <- families[[problem$family]]
  if (is.null(family) || problem$zero != "~0") stop("glmer has no such family")
  control <- eval(parse(text = paste0("glmerControl(tolPwrss = 1e-10, ", problem$lme4, ")")))
  suppressMessages(glmer(problem$model, table, family, control = control,
    nAGQ = problem$quadrature))
}

# by quadrature glmer leaves the binomial coefficients out of its log-likelihood
describe <- function(last) {
  list(evaluations = last@optinfo$feval, converged = length(last@optinfo$conv$lme4$code) == 0,
    comparable = problem$quadrature == 1 || !grepl("cbind", problem$formula))
}

again <- function(last, response) suppressMessages(refit(last, response))

# Kenward-Roger's of every coefficient, by pbkrtest
degrees <- function(last, method) {
  if (method != "kenward-roger") stop("no such degrees of freedom")
  adjusted <- pbkrtest::vcovAdj(last)
  rows <- diag(length(fixef(last)))
  apply(rows, 1, function(l) pbkrtest::Lb_ddf(l, vcov(last), adjusted))
}

# all parameters on the scale of standard deviations and correlations, as profile() has them
bootstrap <- function(last, count) {
  set.seed(1)
  parameters <- function(f) c(fixef(f), as.data.frame(VarCorr(f))$sdcor)
  suppressMessages(suppressWarnings(bootMer(last, parameters, nsim = count)))
}

profiled <- function(last) suppressMessages(suppressWarnings(profile(last)))
