# ordinal: clmm.
fit <- function() {
  if (!identical(problem$family, "cumulative")) stop("ordinal responses only")
  clmm(problem$model, data = table)
}

describe <- function(last) {
  list(evaluations = unname(last$optRes$counts[1]), converged = last$optRes$convergence == 0)
}

again <- NULL
