# Effects tied across the parts of a model, by the Laplace approximation of TMB: the template
# below states the joint density, and nlminb maximises. Run it from this folder:
#   Rscript tied.R
# writes tied.json. R 4.2, TMB 1.9.
library(TMB)
template <- '
#include <TMB.hpp>
template <class Type>
Type objective_function<Type>::operator()() {
  DATA_VECTOR(y);
  DATA_INTEGER(kind);  // 0: normal with log sd; 1: Poisson with extra zeros
  DATA_MATRIX(X);      // of the mean
  DATA_MATRIX(W);      // of the other part
  DATA_MATRIX(Z);      // random columns of the mean
  DATA_MATRIX(V);      // random columns of the other part
  DATA_IVECTOR(g);
  PARAMETER_VECTOR(beta);
  PARAMETER_VECTOR(gamma);
  PARAMETER_VECTOR(theta);  // log sd, then a factor with unit diagonal, by rows
  PARAMETER_MATRIX(b);      // (levels, r)
  int r = Z.cols() + V.cols();
  matrix<Type> L(r, r);
  L.setIdentity();
  int k = r;
  for (int i = 1; i < r; i++)
    for (int j = 0; j < i; j++) L(i, j) = theta(k++);
  matrix<Type> S = L * L.transpose();
  vector<Type> sd = exp(theta.head(r));
  for (int i = 0; i < r; i++)
    for (int j = 0; j < r; j++)
      if (i != j) S(i, j) = S(i, j) / sqrt(S(i, i) * S(j, j));
  for (int i = 0; i < r; i++) S(i, i) = 1;
  matrix<Type> Psi(r, r);
  for (int i = 0; i < r; i++)
    for (int j = 0; j < r; j++) Psi(i, j) = S(i, j) * sd(i) * sd(j);
  density::MVNORM_t<Type> prior(Psi);
  Type nll = 0;
  for (int q = 0; q < b.rows(); q++) nll += prior(vector<Type>(b.row(q)));
  vector<Type> eta = X * beta, zeta = W * gamma;
  for (int i = 0; i < y.size(); i++) {
    for (int a = 0; a < Z.cols(); a++) eta(i) += Z(i, a) * b(g(i), a);
    for (int a = 0; a < V.cols(); a++) zeta(i) += V(i, a) * b(g(i), Z.cols() + a);
    if (kind == 0) nll -= dnorm(y(i), eta(i), exp(zeta(i)), true);
    else {
      Type log_p = -logspace_add(Type(0), -zeta(i));
      Type log_q = -logspace_add(Type(0), zeta(i));
      Type own = log_q + dpois(y(i), exp(eta(i)), true);
      nll -= y(i) == 0 ? logspace_add(log_p, own) : own;
    }
  }
  REPORT(Psi);
  return nll;
}
'
writeLines(template, "tied_template.cpp")
compile("tied_template.cpp")
dyn.load(dynlib("tied_template"))

fit <- function(y, kind, X, W, Z, V, g, beta, gamma, tied) {
  r <- ncol(Z) + ncol(V)
  theta <- c(rep(0, r), rep(0, r * (r - 1) / 2))
  theta[1] <- if (kind == 0) log(sd(y) / 2) else log(0.5)
  theta[-1][seq_len(r - 1)] <- log(0.3)
  map <- list()
  if (!tied) {
    keep <- seq_along(theta)
    at <- r
    for (i in 2:r) for (j in seq_len(i - 1)) {
      at <- at + 1
      if (j <= ncol(Z) && i > ncol(Z)) keep[at] <- NA
    }
    map <- list(theta = factor(keep))
  }
  obj <- MakeADFun(
    list(y = y, kind = kind, X = X, W = W, Z = Z, V = V, g = as.integer(g) - 1L),
    list(beta = beta, gamma = gamma, theta = theta, b = matrix(0, nlevels(g), r)),
    random = "b", map = map, DLL = "tied_template", silent = TRUE,
    inner.control = list(tol = 1e-12, maxit = 500)
  )
  opt <- nlminb(obj$par, obj$fn, obj$gr,
                control = list(iter.max = 5000, eval.max = 5000, rel.tol = 1e-14, x.tol = 1e-10))
  for (i in 1:3) opt <- nlminb(opt$par, obj$fn, obj$gr, control = list(rel.tol = 1e-15))
  Psi <- obj$report(obj$env$last.par.best)$Psi
  own <- summary(sdreport(obj), "fixed")
  list(loglik = -opt$objective, beta = unname(own[rownames(own) == "beta", 1]),
       gamma = unname(own[rownames(own) == "gamma", 1]),
       beta_error = unname(own[rownames(own) == "beta", 2]),
       gamma_error = unname(own[rownames(own) == "gamma", 2]),
       psi = Psi, gradient = max(abs(obj$gr(opt$par))))
}

data(sleepstudy, package = "lme4")
X <- model.matrix(~ Days, sleepstudy)
one <- X[, 1, drop = FALSE]
s <- sleepstudy
out <- list(
  sleepstudy_tied = fit(s$Reaction, 0, X, X, one, one, s$Subject, c(250, 10), c(3, 0), TRUE),
  sleepstudy_slopes = fit(s$Reaction, 0, X, one, X, one, s$Subject, c(250, 10), 3, TRUE),
  sleepstudy_apart = fit(s$Reaction, 0, X, X, one, one, s$Subject, c(250, 10), c(3, 0), FALSE)
)
data(Salamanders, package = "glmmTMB")
m <- Salamanders
X <- model.matrix(~ mined + DOY, m)
one <- X[, 1, drop = FALSE]
W <- model.matrix(~ mined, m)
out$salamanders <- fit(m$count, 1, X, W, one, one, factor(m$site), c(-1, 1, 0), c(0, 0), TRUE)
out$salamanders_apart <- fit(m$count, 1, X, W, one, one, factor(m$site), c(-1, 1, 0), c(0, 0), FALSE)
out$versions <- list(R = as.character(getRversion()), TMB = as.character(packageVersion("TMB")))
jsonlite::write_json(out, "tied.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
unlink(c("tied_template.cpp", "tied_template.o", "tied_template.so"))
