# CPU seconds of lme4's refit of one voxel and of metafor's rma with its table, for imaging.py.
suppressPackageStartupMessages({library(lme4); library(metafor); library(jsonlite)})
files <- fromJSON(commandArgs(trailingOnly = TRUE)[1])
visits <- read.csv(files$visits)
visits$y <- visits$y0
fit <- lmer(y ~ t * g + (t | s), visits)
cpu <- function(expr) { gc(FALSE); sum(system.time(expr)[1:2]) }
out <- list()
out$refit <- cpu(for (k in 0:39) summary(refit(fit, visits[[paste0("y", k)]]))) / 40
if (requireNamespace("lmerTest", quietly = TRUE)) {
  tested <- lmerTest::lmer(y ~ t * g + (t | s), visits)
  out$refit_summary <- cpu(for (k in 0:19) {
    visits$y <- visits[[paste0("y", k)]]
    summary(lmerTest::lmer(y ~ t * g + (t | s), visits))
  }) / 20
}
bcg <- read.csv(files$bcg)
work <- function() coef(summary(rma(yi, vi, mods = ~ ablat, data = bcg, test = "knha")))
for (i in 1:5) work()
out$rma <- cpu(for (i in 1:100) work()) / 100
cat(toJSON(out, auto_unbox = TRUE, digits = 10), "\n")
