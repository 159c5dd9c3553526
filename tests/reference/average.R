# Averages over the random effects of a logit model of the ohio data.
#   Rscript tests/reference/average.R      (from the project's root)
# writes the values of tests/reference/average.json: the fit by 25 nodes, probabilities by
# age and smoking at an effect of zero and integrated over the effects (101-node
# Gauss-Hermite quadrature), and the average of the difference over the rows.
suppressMessages({
  library(lme4)
  library(jsonlite)
  library(statmod)
})
data(ohio, package = "geepack")
fit <- glmer(resp ~ age * smoke + (1 | id), ohio, binomial, nAGQ = 25,
  control = glmerControl(optCtrl = list(rhoend = 1e-9)))
b <- fixef(fit)
sd <- sqrt(VarCorr(fit)$id[1])
nodes <- gauss.quad.prob(101, "normal")
eta <- function(age, smoke) b[[1]] + b[[2]] * age + b[[3]] * smoke + b[[4]] * age * smoke
marginal <- function(age, smoke) sum(nodes$weights * plogis(eta(age, smoke) + sd * nodes$nodes))
grid <- expand.grid(age = -2:1, smoke = 0:1)
grid$p_marginal <- mapply(marginal, grid$age, grid$smoke)
grid$p_b0 <- plogis(eta(grid$age, grid$smoke))
effect <- mean(sapply(ohio$age, function(a) marginal(a, 1) - marginal(a, 0)))
write_json(list(ohio = list(
  subject = as.list(b), sd = sd,
  mean_marginal_mu = mean(mapply(marginal, ohio$age, ohio$smoke)),
  grid = grid, AME_smoke = effect
)), "tests/reference/average.json", auto_unbox = TRUE, digits = NA, pretty = TRUE)
