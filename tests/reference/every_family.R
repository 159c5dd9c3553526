# Reference fits of every family that glmmTMB has, one small simulated data set each.
#   Rscript tests/reference/every_family.R      (from the project's root)
# writes tests/reference/every_family.json. glmmTMB's Laplace approximation; its optimum
# is polished by Newton steps on its own exact gradient. The order of the estimates is
# glmmTMB's: beta, betazi, betad, then log standard deviations, then shapes.
# Cumulative models by ordinal::clmm.
suppressMessages({
  library(glmmTMB)
  library(ordinal)
  library(jsonlite)
})

set.seed(42)
levels <- 12
each <- 15
n <- levels * each
x <- round(runif(n, -1, 1), 3)
g <- rep(seq_len(levels), each = each)
u <- rnorm(levels, 0, 0.5)[g]
log_mean <- 0.8 + 0.5 * x + u
share <- plogis(0.2 + 0.6 * x + u)
zeros <- rbinom(n, 1, 0.3) == 1
clip <- function(p) pmin(pmax(round(p, 4), 1e-3), 1 - 1e-3)
positive <- function(draw) {
  y <- draw()
  while (any(y == 0)) y <- ifelse(y == 0, draw(), y)
  y
}
counts <- function() rnbinom(n, mu = exp(log_mean), size = 1.5)
few <- function() rbinom(n, 12, plogis(log_mean - 2))
number <- rpois(n, exp(log_mean) / 1.5)
latent <- 0.6 * x + u + rlogis(n)

data <- data.frame(
  x = x, g = g,
  normal = round(log_mean + rnorm(n, 0, exp(-0.5 + 0.5 * x)), 4),
  heavy = round(log_mean + 0.5 * rt(n, 4), 4),
  count = counts(),
  narrow = few(),
  many = positive(counts),
  narrow_many = positive(few),
  hurdle = ifelse(zeros, 0, positive(counts)),
  duration = round(rgamma(n, 2, 2 / exp(log_mean)), 4) + 1e-3,
  long = round(rgamma(n, 20, 20 / exp(log_mean)), 4) + 1e-3,
  rain = round(ifelse(number > 0, rgamma(n, pmax(number, 1)), 0), 4),
  proportion = clip(rbeta(n, 4 * share, 4 * (1 - share))),
  successes = rbinom(n, 10, rbeta(n, 4 * share, 4 * (1 - share)))
)
data$bounded <- ifelse(runif(n) < 0.15, 0, ifelse(runif(n) < 0.15, 1, data$proportion))
data$failures <- 10 - data$successes
data$absent <- ifelse(zeros, 0, data$proportion)
data$grade <- findInterval(latent, c(-1, 0.2, 1.3))

case <- function(response, family, zero = ~0, dispersion = ~1, start = NULL)
  list(response = response, family = family, zero = zero, dispersion = dispersion, start = start)
spread <- ~x
cases <- list(
  gaussian = case("normal", gaussian()),
  gaussian_log = case("long", gaussian("log")),
  gaussian_dispersion = case("normal", gaussian(), dispersion = spread),
  t = case("heavy", t_family()),
  binomial = case("cbind(successes, failures)", binomial()),
  betabinomial = case("cbind(successes, failures)", betabinomial()),
  betabinomial_probit = case("cbind(successes, failures)", betabinomial("probit")),
  beta = case("proportion", beta_family()),
  beta_cloglog = case("proportion", beta_family("cloglog")),
  beta_zero = case("absent", beta_family(), zero = ~1),
  ordbeta = case("bounded", ordbeta(), start = list(psi = c(-1, 0.5))),
  poisson = case("count", poisson()),
  poisson_zero = case("count", poisson(), zero = ~x),
  nbinom1 = case("count", nbinom1()),
  nbinom2 = case("count", nbinom2()),
  nbinom2_dispersion = case("count", nbinom2(), dispersion = spread),
  genpois = case("count", genpois()),
  genpois_narrow = case("narrow", genpois()),
  compois = case("count", compois()),
  compois_narrow = case("narrow", compois()),
  truncated_poisson = case("many", truncated_poisson()),
  truncated_hurdle = case("hurdle", truncated_poisson(), zero = ~x),
  truncated_nbinom1 = case("many", truncated_nbinom1()),
  truncated_nbinom2 = case("many", truncated_nbinom2()),
  truncated_hurdle_nbinom2 = case("hurdle", truncated_nbinom2(), zero = ~x),
  truncated_genpois = case("many", truncated_genpois()),
  truncated_compois = case("narrow_many", truncated_compois()),
  gamma_log = case("duration", Gamma("log")),
  gamma_inverse = case("long", Gamma("inverse")),
  gamma_dispersion = case("duration", Gamma("log"), dispersion = spread),
  tweedie = case("rain", tweedie())
)

control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15, x.tol = 0))
text <- function(f) paste(deparse(f, width.cutoff = 500), collapse = "")

polish <- function(obj, par) {
  for (i in 1:4) {
    hessian <- optimHess(par, obj$fn, obj$gr, control = list(ndeps = rep(1e-4, length(par))))
    step <- solve(hessian, as.vector(obj$gr(par)))
    if (obj$fn(par - step) <= obj$fn(par) + 1e-9) par <- par - step
  }
  par
}

fit <- function(c) {
  formula <- as.formula(paste(c$response, "~ x + (1 | g)"))
  m <- suppressWarnings(glmmTMB(formula, data, c$family, ziformula = c$zero,
    dispformula = c$dispersion, start = c$start, control = control))
  par <- polish(m$obj, m$fit$par)
  list(
    response = c$response, family = c$family$family, link = c$family$link,
    zero = text(c$zero), dispersion = text(c$dispersion),
    loglik = -as.numeric(m$obj$fn(par)), names = names(par), estimates = unname(par),
    gradient = max(abs(m$obj$gr(par)))
  )
}

ordinal_fit <- function(link) {
  data$grade <- factor(data$grade)
  m <- suppressWarnings(clmm(grade ~ x + (1 | g), data,
    link = if (link == "cloglog") "loglog" else link,
    control = clmm.control(gradTol = 1e-9, grtol = 1e-10)))
  list(link = link, loglik = as.numeric(logLik(m)), thresholds = unname(m$alpha),
    beta = unname(m$beta), sd = sqrt(unname(VarCorr(m)$g[1])))
}

out <- list(
  versions = list(R = as.character(getRversion()), glmmTMB = as.character(packageVersion("glmmTMB")),
    ordinal = as.character(packageVersion("ordinal"))),
  data = data,
  cases = lapply(cases, fit),
  ordinal = lapply(c("logit", "probit", "cloglog"), ordinal_fit)
)
write(toJSON(out, digits = 12, auto_unbox = TRUE, dataframe = "columns", null = "null"),
  "tests/reference/every_family.json")
