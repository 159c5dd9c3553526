# Averages over the random effects of a logit model of the ohio data.
#   Rscript tests/reference/average.R      (from the project's root)
# writes the values of tests/reference/average.json: the fit by 25 nodes, probabilities by
# age and smoking at an effect of zero and integrated over the effects (101-node
# Gauss-Hermite quadrature), and the average of the difference over the rows.
suppressMessages({
  library(lme4)
  library(jsonlite)
})
data(ohio, package = "geepack")
fit <- glmer(resp ~ age * smoke + (1 | id), ohio, binomial, nAGQ = 25,
  control = glmerControl("bobyqa", optCtrl = list(rhoend = 1e-9)))
b <- fixef(fit)
sd <- sqrt(VarCorr(fit)$id[1])
# nodes and weights for the standard normal distribution (Golub & Welsch 1969)
side <- sqrt(seq_len(100))
jacobi <- diag(0, 101)
jacobi[cbind(1:100, 2:101)] <- jacobi[cbind(2:101, 1:100)] <- side
parts <- eigen(jacobi, symmetric = TRUE)
nodes <- list(nodes = parts$values, weights = parts$vectors[1, ]^2)
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
), versions = list(
  R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
  geepack = as.character(packageVersion("geepack"))
)), "tests/reference/average.json", auto_unbox = TRUE, digits = NA, pretty = TRUE)
