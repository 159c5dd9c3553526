# Log-likelihoods of glmmTMB, ordinal and nnet at their own estimates, into
# families_peers.json: a family's density summed at the same predictors must give
# the same number. Needs glmmTMB, ordinal, nnet, jsonlite.
#
#     Rscript tests/reference/families.R

suppressMessages({library(glmmTMB); library(ordinal); library(nnet); library(jsonlite)})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
set.seed(20)
n <- 60
x <- round(rnorm(n), 3)
mu <- exp(0.8 + 0.3 * x)
count <- rnbinom(n, mu = mu, size = 2)
inflated <- ifelse(runif(n) < 0.3, 0, count)
positive <- pmax(count, 1)
trials <- sample(3:9, n, replace = TRUE)
wins <- rbinom(n, trials, rbeta(n, 2, 3))
rate <- round(pmin(pmax(rbeta(n, 2 * plogis(x), 2 * plogis(-x)), 0.01), 0.99), 4)
ends <- ifelse(runif(n) < 0.2, 0, ifelse(runif(n) < 0.2, 1, rate))
size <- round(rgamma(n, 3, 3 / mu), 4)
lumps <- ifelse(runif(n) < 0.3, 0, size)
line <- round(0.5 + x + rt(n, 4), 4)
grade <- cut(x + rlogis(n), c(-Inf, -1, 0.5, 1.5, Inf), labels = FALSE)
d <- data.frame(x, count, inflated, positive, trials, wins, rate, ends, size, lumps, line, grade)

out <- list()
keep <- function(name, link, y, etas, loglik, extra = NULL, zero = FALSE)
  out[[length(out) + 1]] <<- list(name = unbox(name), link = unbox(link), zero = unbox(zero), y = y,
    extra = extra, eta = etas, loglik = unbox(as.numeric(loglik)))
rows <- function(v) rep(v, n)

tmb <- function(name, link, formula, family, y, scale = log, shapes = NULL, zi = ~0, extra = NULL) {
  fit <- glmmTMB(formula, data = d, family = family, ziformula = zi)
  etas <- list(predict(fit, type = "link"))
  if (!is.null(scale)) etas <- c(etas, list(rows(scale(sigma(fit)))))
  if (!is.null(shapes)) for (s in shapes(fit)) etas <- c(etas, list(rows(s)))
  if (zi != ~0) etas <- c(etas, list(rows(fixef(fit)$zi[[1]])))
  keep(name, link, y, etas, logLik(fit), extra, zi != ~0)
}

tmb("gaussian", "identity", line ~ x, gaussian(), line)
tmb("t", "identity", line ~ x, t_family(), line, shapes = function(f) log(family_params(f)))
tmb("poisson", "log", count ~ x, poisson(), count, scale = NULL)
tmb("poisson", "log", inflated ~ x, poisson(), inflated, scale = NULL, zi = ~1)
tmb("nbinom1", "log", count ~ x, nbinom1(), count)
tmb("nbinom2", "log", count ~ x, nbinom2(), count)
tmb("nbinom2", "log", inflated ~ x, nbinom2(), inflated, zi = ~1)
tmb("compois", "log", count ~ x, compois(), count)
tmb("genpois", "log", count ~ x, genpois(), count)
tmb("truncated_poisson", "log", positive ~ x, truncated_poisson(), positive, scale = NULL)
tmb("truncated_poisson", "log", count ~ x, truncated_poisson(), count, scale = NULL, zi = ~1)
tmb("truncated_nbinom1", "log", positive ~ x, truncated_nbinom1(), positive)
tmb("truncated_nbinom2", "log", positive ~ x, truncated_nbinom2(), positive)
tmb("truncated_compois", "log", positive ~ x, truncated_compois(), positive)
tmb("truncated_genpois", "log", positive ~ x, truncated_genpois(), positive)
for (link in c("logit", "probit", "cloglog"))
  tmb("binomial", link, cbind(wins, trials - wins) ~ x, binomial(link), wins, scale = NULL,
      extra = trials)
tmb("betabinomial", "logit", cbind(wins, trials - wins) ~ x, betabinomial(), wins, extra = trials)
tmb("Gamma", "log", size ~ x, Gamma("log"), size)
tmb("Gamma", "log", lumps ~ x, ziGamma("log"), lumps, zi = ~1)
tmb("tweedie", "log", lumps ~ x, tweedie(), lumps,
    shapes = function(f) qlogis(family_params(f) - 1))
tmb("beta", "logit", rate ~ x, beta_family(), rate)
fit <- glmmTMB(ends ~ x, data = d, family = ordbeta(), start = list(psi = c(-1, 1)))
psi <- fit$fit$par[names(fit$fit$par) == "psi"]
keep("ordbeta", "logit", ends, list(predict(fit, type = "link"), rows(log(sigma(fit))),
  rows(psi[[1]]), rows(log(psi[[2]] - psi[[1]]))), logLik(fit))

# (by cauchit clm's logLik is 4e-4 below the sum of log(pcauchy - pcauchy) at its estimates)
for (link in c("logit", "probit", "cloglog")) {
  fit <- clm(factor(grade) ~ x, data = d, link = link)
  alpha <- fit$alpha
  keep("cumulative", link, grade - 1, list(fit$beta * x, c(alpha, 0)[grade], c(0, alpha)[grade]),
       logLik(fit), extra = rows(4))
}
fit <- multinom(grade ~ x, data = d, trace = FALSE, reltol = 1e-14, maxit = 500)
b <- coef(fit)
keep("multinomial", "logit", grade - 1, lapply(1:3, function(j) b[j, 1] + b[j, 2] * x), logLik(fit))

provenance <- list(R = R.version.string, glmmTMB = as.character(packageVersion("glmmTMB")),
  ordinal = as.character(packageVersion("ordinal")), nnet = as.character(packageVersion("nnet")),
  script = "tests/reference/families.R")
file <- commandArgs(trailingOnly = FALSE)
here <- dirname(sub("^--file=", "", grep("^--file=", file, value = TRUE)))
write(toJSON(list(provenance = lapply(provenance, unbox), fits = out), digits = NA),
      file.path(here, "families_peers.json"))
