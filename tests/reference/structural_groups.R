# Reference values of two-level models in groups: lavaan on structural_data.csv, persons of two sites.
# lavaan 0.6 takes groups of a two-level model as blocks of their own, and equalities as labels.
#   Rscript structural_groups.R    (writes structural_groups.json)
suppressMessages({library(lavaan); library(jsonlite)})
d <- read.csv("structural_data.csv"); d$site <- c("a", "b")[d$site + 1]
tight <- list(rel.tol=1e-15, abs.tol=0, x.tol=1e-12, iter.max=5000, eval.max=10000)
block <- function(g, w="", b="", means="") paste0("group: ", g, "\nlevel: 1\n fw =~ st1 + ",
  if (nzchar(w)) paste0(w, "2*"), "st2 + ", if (nzchar(w)) paste0(w, "3*"), "st3\n fw ~ x1\nlevel: 2\n fb =~ st1 + ",
  if (nzchar(b)) paste0(b, "2*"), "st2 + ", if (nzchar(b)) paste0(b, "3*"), "st3\n fb ~ w1\n", means)
scalar <- function(g) paste0(" st1 ~ i1*1\n st2 ~ i2*1\n st3 ~ i3*1\n fb ~ ", if (g == "a") "0*1\n" else "NA*1\n")
models <- list(configural=paste0(block("a"), block("b")),
  metric=paste0(block("a", "a", "b"), block("b", "a", "b")),
  scalar=paste0(block("a", "a", "b", scalar("a")), block("b", "a", "b", scalar("b"))))
cases <- list(configural=list("configural", "ML"), metric=list("metric", "ML"), scalar=list("scalar", "ML"),
  configural_mlr=list("configural", "MLR"), metric_mlr=list("metric", "MLR"))
out <- list(versions=list(R=as.character(getRversion()), lavaan=as.character(packageVersion("lavaan"))))
fits <- list()
for (id in names(cases)) {
  text <- models[[cases[[id]][[1]]]]
  fit <- suppressWarnings(sem(text, d, cluster="person", group="site", estimator=cases[[id]][[2]],
    control=tight, optim.force.converged=TRUE))
  fits[[id]] <- fit
  p <- parameterEstimates(fit); s <- standardizedSolution(fit); fm <- fitMeasures(fit)
  keep <- intersect(c("npar","chisq","df","baseline.chisq","baseline.df","cfi","tli","rmsea","srmr","srmr_within",
    "srmr_between","logl","unrestricted.logl","aic","bic"), names(fm))
  o <- list(model=text, estimator=cases[[id]][[2]], gradient=max(abs(lavInspect(fit, "gradient"))),
    fit=as.list(unclass(fm[keep])), lhs=p$lhs, op=p$op, rhs=p$rhs, level=p$level, group=p$group, est=p$est, se=p$se,
    std=s$est.std, std_se=s$se)
  if (id == "configural") {
    mi <- modindices(fit); mi <- mi[mi$op %in% c("=~", "~~") & mi$mi > 0.01, ]
    o$mi <- list(lhs=mi$lhs, op=mi$op, rhs=mi$rhs, level=mi$level, group=mi$group, mi=mi$mi, epc=mi$epc)
    o$scores2 <- tryCatch(lapply(lavPredict(fit, level=2L), head, 4), error=function(e) conditionMessage(e))
    o$scores1 <- tryCatch(lapply(lavPredict(fit), head, 4), error=function(e) conditionMessage(e))
  }
  cat(id, "gradient", o$gradient, "logl", fm["logl"], "\n")
  out[[id]] <- o
}
for (pair in list(c("configural", "metric"), c("metric", "scalar"), c("configural_mlr", "metric_mlr"))) {
  t <- suppressWarnings(lavTestLRT(fits[[pair[1]]], fits[[pair[2]]]))
  out$difference[[paste(pair, collapse=" ")]] <- list(chisq=t[["Chisq diff"]][2], df=t[["Df diff"]][2])
}
write_json(out, "structural_groups.json", digits=12, auto_unbox=TRUE, na="null", null="null")
