# Population-averaged models of categories: values of geepack's ordgee, brought to its fixed
# point, of maximum likelihood of independent rows (MASS, nnet), and of Firth's (brglm2).
#   Rscript tests/reference/gee_categories.R
# writes tests/reference/gee_categories.json, with the data (respdis of geepack, in long form).
#
# ordgee's "independence" is not that: of a table in which every row is a cluster it gives .976700,
# where maximum likelihood, which solves the same equations, gives .906194. Its covariance of two
# indicators of one response is P(y <= k) P(y > j), j < k, for P(y <= j) P(y > k); the same in the
# covariance of products of residuals. ranef.gee has it as estimator="ordgee".
suppressMessages({
  library(geepack)
  library(brglm2)
  library(MASS)
  library(nnet)
  library(jsonlite)
})
data(respdis)
d <- reshape(respdis,
  varying = list(c("y1", "y2", "y3", "y4")), v.names = "resp", direction = "long"
)
d <- d[order(d$id, d$time), ]
d$resp <- ordered(d$resp)
d$row <- seq_len(nrow(d))
exactly <- geese.control(epsilon = 1e-13, maxit = 1000)

of <- function(formula, structure, cluster = "id") {
  d$cluster <- d[[cluster]]
  fit <- summary(ordgee(formula, id = cluster, data = d, corstr = structure, control = exactly))
  list(
    terms = rownames(fit$mean), estimate = fit$mean$estimate, error = fit$mean$san.se,
    alpha = if (structure == "independence") NULL else fit$corr$estimate,
    alpha_error = if (structure == "independence") NULL else fit$corr$san.se
  )
}

polr_fit <- polr(resp ~ trt + time, data = d, control = list(reltol = 1e-15))
multinom_fit <- multinom(resp ~ trt + time, data = d, trace = FALSE, reltol = 1e-15, maxit = 1000)
firth_fit <- brmultinom(resp ~ trt + time,
  data = transform(d, resp = factor(resp, ordered = FALSE)), type = "AS_mean",
  control = list(epsilon = 1e-12, maxit = 500)
)
write_json(list(
  data = list(id = d$id, trt = d$trt, time = d$time, resp = as.integer(d$resp)),
  exchangeable = of(resp ~ trt, "exchangeable"),
  exchangeable_time = of(resp ~ trt + time, "exchangeable"),
  independence = of(resp ~ trt, "independence"),
  rows_alone = of(resp ~ trt, "independence", "row"),
  polr = list(coef = unname(coef(polr_fit)), zeta = unname(polr_fit$zeta)),
  multinom = unname(coef(multinom_fit)),
  firth = unname(coef(firth_fit)),
  versions = list(
    brglm2 = as.character(packageVersion("brglm2")),
    geepack = as.character(packageVersion("geepack")), MASS = as.character(packageVersion("MASS")),
    nnet = as.character(packageVersion("nnet"))
  )
), "tests/reference/gee_categories.json", digits = 12, auto_unbox = TRUE, pretty = FALSE)
