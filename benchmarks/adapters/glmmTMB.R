# glmmTMB.
fit <- function() {
  if (!is.null(problem$residual)) {
    if (is.null(problem$glmmTMB)) stop("its structures need a level for each distinct time")
    data <- table
    return(suppressMessages(eval(parse(text = problem$glmmTMB))))
  }
  if (is.null(problem$family) || problem$quadrature != 1) stop("not what it is here for")
  family <- switch(problem$family,
    binomial = binomial(), poisson = poisson(), nbinom1 = nbinom1(), nbinom2 = nbinom2(),
    stop("no such family")
  )
  suppressMessages(glmmTMB(problem$model, table,
    family = family,
    ziformula = as.formula(problem$zero), dispformula = as.formula(problem$dispersion)
  ))
}

describe <- function(last) {
  list(evaluations = unname(last$fit$evaluations[1]), converged = last$fit$convergence == 0)
}

again <- NULL
