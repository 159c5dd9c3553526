# Model matrices of many formulas by R's model.matrix, for tests/test_formula_reference.py.
# Run in this folder: Rscript formula.R
library(splines)
library(jsonlite)

d <- data.frame(
  a = factor(c("1", "2", "3", "1", "2", "3", "1", "2", "3", "1", "2", "3")),
  b = factor(c("u", "v", "u", "v", "u", "v", "v", "u", "u", "v", "v", "u")),
  c = factor(c("p", "p", "q", "q", "p", "q", "p", "q", "q", "p", "q", "p")),
  x = c(1, 2, 4, 7, 8, 9.5, 12, 3, 5, 11, 6, 2.5),
  z = c(0.3, 0.1, 1.7, 2.2, 0.9, 1.1, 3.5, 0.7, 0.2, 2.8, 1.9, 0.4),
  k = c(1, 2, 2, 1, 3, 3, 2, 1, 1, 3, 2, 2)
)
new <- data.frame(
  a = factor(c("2", "3", "1", "2"), levels = c("1", "2", "3")),
  b = factor(c("v", "u", "u", "v"), levels = c("u", "v")),
  c = factor(c("p", "q", "p", "q"), levels = c("p", "q")),
  x = c(2.2, 6.5, 11.9, 1),
  z = c(0.5, 1, 2, 3),
  k = c(1, 2, 3, 2)
)

formulas <- c(
  "~ 1", "~ x", "~ x + z", "~ a", "~ a + x", "~ 0 + a", "~ a - 1", "~ 0 + x", "~ 0 + x + a",
  "~ x * a", "~ a * x", "~ x:a", "~ a:x", "~ a:x + x", "~ x * a - x", "~ x * a - a", "~ 0 + x:a",
  "~ 0 + x:a + a", "~ 0 + a:x + b", "~ a:b", "~ a:b + a", "~ a:b + b:c", "~ b + a + a:b",
  "~ a * b", "~ a * b - a", "~ a * b - b", "~ 0 + a:b", "~ 0 + a:b + c", "~ a + a:b:c", "~ a:b:c",
  "~ a * b * c - a:b", "~ a * b * c", "~ (a + b + c)^2", "~ (a + x)^3", "~ a / b", "~ a / x",
  "~ (a + b) / c", "~ a / (b + c)", "~ (a * b) / c", "~ a / (b - 1)", "~ a + b %in% a",
  "~ x %in% a", "~ (a + b) %in% c", "~ a %in% (b + c)", "~ a * b %in% c", "~ x:a + b:x",
  "~ b:x + a:x", "~ a:x:b", "~ x:z", "~ x^2", "~ x + x", "~ a:a", "~ a + 0 + b", "~ a + (b - 1)",
  "~ a * (b - 1)", "~ (a + b - 1)^2", "~ (x + z):a", "~ x:(a + z)", "~ a * b + (a * b) * x - a:b:x",
  "~ I(x^2)", "~ I(x ** 2) + x", "~ I(x > 5)", "~ I(x > 5 & z < 2) + I(x <= 3 | z < 1)",
  "~ I(-x * 2/3 + z)", "~ I(-x^2) + I((-x)^2)", "~ I(x %% 2) + I(x %/% 2)", "~ I(1e-3 * x) + I(x * 1e5)",
  "~ log(x)", "~ log(x + 1, base = 2)", "~ log2(x) + log10(x)", "~ log1p(x) + sqrt(z) + exp(z)",
  "~ sin(x) + cos(x) + tan(z) + abs(x - 5)", "~ expm1(z) + round(x) + floor(x) + ceiling(x)",
  "~ scale(x)", "~ scale(x, scale = FALSE)", "~ scale(x, center = FALSE) * a", "~ scale(log(x))",
  "~ poly(x, 2)", "~ poly(x, 1)", "~ poly(x, 3) * a", "~ poly(x, degree = 2, raw = TRUE)",
  "~ poly(log(x), 2)", "~ a:poly(x, 2)", "~ poly(x, 2):z", "~ ns(x, 3)", "~ ns(x, df = 4)", "~ ns(x, 1)",
  "~ ns(x, knots = c(3, 7))", "~ ns(x, df = 3, intercept = TRUE) - 1", "~ ns(x, 3):a", "~ ns(x, 2) * ns(z, 2)",
  "~ ns(x, knots = 5, Boundary.knots = c(2, 10))", "~ bs(x, 5)", "~ bs(x)", "~ bs(x, df = 4, degree = 2)",
  "~ bs(x, knots = c(4, 8))", "~ bs(x, df = 6, intercept = TRUE) - 1",
  "~ splines::ns(x, 3) - splines::ns(x, 3) + z",
  "~ factor(k)", "~ factor(k) * x", "~ factor(a, levels = c('3', '2', '1'))", "~ relevel(a, ref = '2')",
  "~ as.factor(k)", "~ as.numeric(x)", "~ C(a, contr.sum)", "~ C(a, contr.sum) * b", "~ C(a, contr.helmert)",
  "~ C(a, contr.poly)", "~ C(a, contr.treatment(3, base = 2))", "~ C(a, contr.SAS)", "~ C(a, sum):b",
  "~ C(a, contr.treatment, base = 3)", "~ pmin(x, 5) + pmax(x, z)", "~ ifelse(x > 5, x - 5, 0)",
  "~ interaction(b, c)", "~ I(a == '2')", "~ I(a %in% c('1', '3'))", "~ I(!(x > 3))", "~ pi:x"[0]
)

case <- function(s, contrasts = NULL) {
  f <- as.formula(s)
  mf <- model.frame(f, d)
  m <- model.matrix(f, mf, contrasts.arg = contrasts)
  tt <- terms(mf)
  mn <- suppressWarnings(model.frame(tt, new, xlev = .getXlevels(tt, mf)))
  n <- model.matrix(tt, mn, contrasts.arg = attr(m, "contrasts"))
  q <- qr(m, tol = 1e-7)
  list(
    formula = s, contrasts = contrasts, names = as.list(colnames(m)),
    kept = I(sort(q$pivot[seq_len(q$rank)]) - 1L), matrix = unname(m), new = unname(n)
  )
}

named <- list(
  list("~ a * b", list(a = "contr.sum", b = "contr.sum")),
  list("~ a * x", list(a = "contr.helmert")),
  list("~ a + b:c", list(a = "contr.poly", b = "contr.sum"))
)
cases <- c(lapply(formulas, case), lapply(named, function(p) case(p[[1]], p[[2]])))
# Random terms: columns, levels and codes of lme4's lFormula, in the order of findbars.
library(lme4)
bars <- c(
  "(1 | a)", "(x | a)", "(x || a)", "(0 + x | a)", "(x - 1 | a)", "(1 | a:b)", "(1 | a / b)",
  "(b | a)", "(0 + b | a)", "(b * x | a)", "(0 + b:x | a)", "(1 | a) + (0 + x | b)",
  "(x | a / b)", "(poly(x, 2) | a)", "(I(x^2) + log(z) | c)", "(factor(k) | a)", "(1 | k)",
  "(scale(x) || c)", "(1 | a / b / c)"
)
d$y <- seq_len(nrow(d))
off <- do.call(lmerControl, c(list(calc.derivs = FALSE), sapply(
  c("check.nobs.vs.nlev", "check.nobs.vs.nRE", "check.nobs.vs.rankZ", "check.nlev.gtr.1"),
  function(x) "ignore", simplify = FALSE
)))
random <- function(s) {
  lf <- lFormula(as.formula(paste("y ~ 1 +", s)), d, control = off)
  terms <- lapply(findbars(as.formula(paste("y ~ 1 +", s))), function(bar) {
    t <- mkReTrms(list(bar), lf$fr, reorder.terms = FALSE)
    f <- t$flist[[1]]
    Zt <- as.matrix(t$Zt)
    r <- length(t$cnms[[1]])
    codes <- as.integer(f) - 1L
    z <- t(sapply(seq_along(codes), function(i) Zt[codes[i] * r + seq_len(r), i]))
    list(
      names = I(t$cnms[[1]]), factor = names(t$flist)[1], levels = I(levels(f)), codes = codes,
      z = matrix(z, ncol = r)
    )
  })
  list(bars = s, terms = terms)
}

d2 <- d
d2$y <- NULL
out <- list(random = lapply(bars, random), lme4 = as.character(packageVersion("lme4")), R = R.version.string, data = as.list(d2), new = as.list(new), cases = cases)
write_json(out, "formula.json", digits = 15, auto_unbox = TRUE, matrix = "rowmajor")
