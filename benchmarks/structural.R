# Times of lavaan on the tables and models that benchmarks/structural.py hands over, as JSON:
# seconds of the processor for a fit with standard errors and measures of fit.
#   Rscript structural.R cases.json out.json
suppressMessages({library(lavaan); library(jsonlite)})
args <- commandArgs(TRUE)
cases <- fromJSON(args[1], simplifyVector=FALSE)
out <- list()
for (case in cases) {
  d <- read.csv(case$data)
  how <- list(model=case$model, data=d, estimator=case$estimator, missing=case$missing)
  if (!is.null(case$cluster)) how$cluster <- case$cluster
  t0 <- proc.time()
  fit <- suppressWarnings(do.call("sem", how))
  measures <- fitMeasures(fit)
  t <- proc.time() - t0
  out[[case$name]] <- list(cpu=unname(t[1] + t[2]), logl=unname(as.numeric(measures["logl"])))
  write_json(out, args[2], auto_unbox=TRUE, digits=10)
}
