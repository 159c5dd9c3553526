# Reference values of structural equation models: lavaan on structural_data.csv.
# The search is driven until its gradient is flat, so that estimates can be compared to 1e-5.
#   Rscript structural.R    (writes structural.json)
suppressMessages({library(lavaan); library(jsonlite)})
d <- read.csv("structural_data.csv")
items <- c("st1","st2","st3","su1","su2","su3","na1","na2","na3")
m <- d; m[items] <- d[paste0("m_", items)]
tight <- list(rel.tol=1e-15, abs.tol=0, x.tol=1e-12, iter.max=5000, eval.max=10000)
two <- '
level: 1
  stw =~ st1 + st2 + st3
  suw =~ su1 + su2 + su3
  naw =~ na1 + na2 + na3
  stw ~ aw*suw + x1
  naw ~ bw*stw + suw + x2
level: 2
  stb =~ st1 + st2 + st3
  sub =~ su1 + su2 + su3
  nab =~ na1 + na2 + na3
  stb ~ ab*sub + w1
  nab ~ bb*stb + sub
ind_w := aw*bw
ind_b := ab*bb
'
small <- '
level: 1
  fw =~ st1 + st2 + st3
  fw ~ x1
level: 2
  fb =~ st1 + st2 + st3
  fb ~ w1 + w2
'
equal <- '
level: 1
  fw =~ st1 + a*st2 + b*st3
level: 2
  fb =~ st1 + a*st2 + b*st3
  st1 ~~ 0*st1
  st2 ~~ 0*st2
  st3 ~~ 0*st3
'
cfa3 <- '
  st =~ st1 + st2 + st3
  su =~ su1 + su2 + su3
  na =~ na1 + na2 + na3
'
path <- '
  st =~ st1 + st2 + st3
  na =~ na1 + na2 + na3
  st ~ a*x1 + c1*w1
  na ~ b*st + x2
  ind := a*b
'
nonlinear <- paste0(path, '  b == a + 0.1\n  c1 == a^2\n')
bounded <- paste0(path, '  b < 0.2\n')
cases <- list(
  two = list(two, cluster="person"),
  two_mlr = list(two, cluster="person", estimator="MLR"),
  small = list(small, cluster="person"),
  small_expected = list(small, cluster="person", information="expected"),
  small_random = list(small, cluster="person", fixed.x=FALSE),
  equal = list(equal, cluster="person"),
  cfa = list(cfa3),
  cfa_std = list(cfa3, std.lv=TRUE),
  cfa_mlr = list(cfa3, estimator="MLR"),
  cfa_mlm = list(cfa3, estimator="MLM"),
  cfa_fiml = list(cfa3, data="m", missing="fiml"),
  cfa_fiml_mlr = list(cfa3, data="m", missing="fiml", estimator="MLR"),
  path = list(path),
  path_fiml = list(path, data="m", missing="fiml"),
  nonlinear = list(nonlinear),
  bounded = list(bounded),
  configural = list(cfa3, group="site", meanstructure=TRUE),
  metric = list(cfa3, group="site", group.equal="loadings"),
  scalar = list(cfa3, group="site", group.equal=c("loadings","intercepts")),
  strict = list(cfa3, group="site", group.equal=c("loadings","intercepts","residuals")),
  partial = list(cfa3, group="site", group.equal=c("loadings","intercepts"),
                 group.partial=c("st2~1", "na=~na3"))
)
out <- list(versions=list(R=as.character(getRversion()), lavaan=as.character(packageVersion("lavaan"))))
for (id in names(cases)) {
  a <- cases[[id]]
  model <- a[[1]]; a <- a[-1]
  data <- if (!is.null(a$data)) m else d; a$data <- NULL
  fit <- suppressWarnings(do.call("sem", c(list(model=model, data=data, control=tight, optim.force.converged=TRUE), a)))
  g <- max(abs(lavInspect(fit, "gradient")))
  p <- parameterEstimates(fit); s <- standardizedSolution(fit)
  fm <- fitMeasures(fit)
  keep <- intersect(c("npar","chisq","df","pvalue","chisq.scaled","chisq.scaling.factor",
    "baseline.chisq","baseline.df","cfi","tli","rmsea","rmsea.ci.lower","rmsea.ci.upper","srmr",
    "srmr_within","srmr_between","logl","unrestricted.logl"), names(fm))
  o <- list(model=model, options=a, missing_data=identical(data, m), gradient=g,
    logl=as.numeric(fm["logl"]), fit=as.list(unclass(fm[keep])),
    lhs=p$lhs, op=p$op, rhs=p$rhs, est=p$est, se=p$se,
    level=if (is.null(p$level)) rep(1L, nrow(p)) else p$level,
    group=if (is.null(p$group)) rep(1L, nrow(p)) else p$group,
    std=s$est.std, std_se=s$se)
  if (id %in% c("cfa", "path")) {
    mi <- modindices(fit); mi <- mi[mi$op != "~1", ]
    o$mi <- list(lhs=mi$lhs, op=mi$op, rhs=mi$rhs, mi=mi$mi, epc=mi$epc)
    o$scores <- head(lavPredict(fit), 5)
  }
  if (id == "two") {
    o$icc <- as.list(lavInspect(fit, "icc"))
    o$scores2 <- head(lavPredict(fit, level=2L), 5); o$scores1 <- head(lavPredict(fit), 5)
  }
  cat(id, "gradient", g, "logl", o$logl, "\n")
  out[[id]] <- o
}
sc <- lavTestLRT(do.call("sem", list(cfa3, data=d, estimator="MLR")),
  do.call("sem", list(paste0(cfa3, "st ~~ 0*na\n"), data=d, estimator="MLR")))
out$difference <- list(chisq=sc[["Chisq diff"]][2], df=sc[["Df diff"]][2])
write_json(out, "structural.json", digits=12, auto_unbox=TRUE, na="null", null="null")
