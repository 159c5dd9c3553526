# ordinal: clmm. With its default tolerance the log-likelihood is uncertain in the sixth
# decimal, so it is set.
fit <- function() {
  if (!identical(problem$family, "cumulative")) stop("ordinal responses only")
  clmm(problem$model, data = table, control = clmm.control(gradTol = 1e-9))
}

describe <- function(last) {
  list(evaluations = unname(last$optRes$counts[1]), converged = last$optRes$convergence == 0)
}

again <- NULL
