# nlme: lme and gls, which have correlations of residuals. `problem$nlme` is the call.
fit <- function() {
  if (is.null(problem$nlme)) stop("not asked of this case")
  data <- table
  eval(parse(text = problem$nlme))
}

describe <- function(last) list(evaluations = NULL, converged = NULL)

again <- NULL
