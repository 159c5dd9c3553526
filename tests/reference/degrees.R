# Degrees of freedom: Kenward-Roger by pbkrtest, Satterthwaite by lmerTest, and nlme's
# inner-outer rule.
#   Rscript tests/reference/degrees.R      (from the project's root)
# writes tests/reference/degrees.json, tables that are not bundled included. Treatment
# contrasts; fits at lme4's tightest optimum (tight.R).
source("tests/reference/tight.R")
library(pbkrtest)
library(nlme)
library(lme4)

bundled <- function(name, package) {
  home <- new.env()
  data(list = name, package = package, envir = home)
  table <- as.data.frame(home[[name]])
  for (column in names(table))
    if (is.factor(table[[column]])) table[[column]] <- factor(as.character(table[[column]]))
  table
}

oats <- bundled("Oats", "nlme")
oats$dose <- factor(paste0("d", oats$nitro))
orthodont <- bundled("Orthodont", "nlme")
orthodont$age11 <- orthodont$age - 11

set.seed(4)
crossed <- expand.grid(a = 1:12, b = 1:8)[sort(sample(96, 86)), ]
crossed$x <- round(rnorm(86), 3)
crossed$w <- round(rnorm(12), 3)[crossed$a]
crossed$f <- factor(c("p", "q", "r")[1 + crossed$b %% 3])
crossed$y <- round(1 + 0.5 * crossed$x + rnorm(12)[crossed$a] + 0.7 * rnorm(8)[crossed$b] +
  rnorm(86), 3)

two <- data.frame(g = rep(1:9, c(3, 4, 8, 5, 6, 7, 9, 4, 10)))
two$h <- sample(1:5, nrow(two), TRUE)
two$x <- round(rnorm(nrow(two)), 3)
two$f <- factor(c("u", "v")[1 + two$g %% 2])
effects <- cbind(rnorm(9), 0.6 * rnorm(9))
two$y <- round(2 + two$x + effects[two$g, 1] + effects[two$g, 2] * two$x +
  0.8 * rnorm(5)[two$h] + rnorm(nrow(two)), 3)

nested <- data.frame(block = rep(1:7, c(9, 12, 7, 10, 14, 8, 11)))
nested$plot <- paste(nested$block, ave(nested$block, nested$block,
  FUN = function(b) sample(rep(1:3, length.out = length(b)))), sep = "_")
nested$w <- round(rnorm(7), 3)[nested$block]
plots <- sort(unique(nested$plot))
nested$v <- setNames(round(rnorm(length(plots)), 3), plots)[nested$plot]
nested$x <- round(rnorm(nrow(nested)), 3)
nested$y <- round(1 + nested$x + 0.5 * nested$v + 0.9 * rnorm(7)[nested$block] +
  0.7 * setNames(rnorm(length(plots)), plots)[nested$plot] + rnorm(nrow(nested)), 3)
nested$v <- unname(nested$v)
nested$y <- unname(nested$y)
nested$block <- paste0("b", nested$block)

own <- list(oats = oats, oats_unbalanced = oats[-c(1, 2, 3, 5, 8, 13, 21, 34, 55), ],
  orthodont = orthodont, crossed = crossed, two = two, nested = nested)
tables <- c(own, list(sleepstudy = bundled("sleepstudy", "lme4"),
  Penicillin = bundled("Penicillin", "lme4"), cake = bundled("cake", "lme4"),
  ergoStool = bundled("ergoStool", "nlme")))

models <- list(
  sleep_slope = list("sleepstudy", Reaction ~ Days + (Days | Subject)),
  sleep_diag = list("sleepstudy", Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)),
  penicillin = list("Penicillin", diameter ~ 1 + (1 | plate) + (1 | sample)),
  ergo = list("ergoStool", effort ~ Type + (1 | Subject)),
  oats = list("oats", yield ~ Variety * dose + (1 | Block / Variety)),
  oats_unbalanced = list("oats_unbalanced", yield ~ Variety + dose + (1 | Block / Variety)),
  orthodont_slope = list("orthodont", distance ~ age11 * Sex + (age11 | Subject)),
  crossed = list("crossed", y ~ x + w + f + (1 | a) + (1 | b)),
  two_terms = list("two", y ~ x * f + (x | g) + (1 | h)),
  two_slopes = list("two", y ~ x + f + (1 | g) + (0 + x | g)),
  nested_slope = list("nested", y ~ x + v + w + (x | block) + (1 | plot))
)

# Two hypotheses: all coefficients but the intercept, and two mixed rows.
hypotheses <- function(p) {
  if (p == 1) return(list(matrix(1, 1, 1)))
  slopes <- diag(p)[-1, , drop = FALSE]
  if (p == 2) return(list(slopes, diag(2)))
  mixed <- rbind(seq_len(p) %% 3 - 1, c(1, rep(0.5, p - 1)))
  list(slopes, mixed)
}

described <- function(model) {
  fit <- tight_fit(model[[2]], tables[[model[[1]]]], TRUE)
  table <- coef(summary(fit, ddf = "Kenward-Roger"))
  satterthwaite <- coef(summary(fit, ddf = "Satterthwaite"))
  joint <- lapply(hypotheses(length(fixef(fit))), function(L) {
    kr <- KRmodcomp(fit, L)$stats
    s <- contestMD(fit, L)
    list(L = L, kr_f = kr$Fstat, kr_df2 = kr$ddf, kr_scale = kr$F.scaling,
      satterthwaite_f = s[["F value"]], satterthwaite_df2 = s[["DenDF"]])
  })
  list(
    table = model[[1]], formula = paste(deparse(model[[2]], 500), collapse = ""),
    loglik = as.numeric(logLik(fit)), names = I(rownames(table)),
    vcov = as.matrix(vcov(fit)), kr_vcov = as.matrix(vcovAdj(fit)), kr_df = plain(table[, "df"]),
    kr_std_error = plain(table[, "Std. Error"]), satterthwaite_df = plain(satterthwaite[, "df"]),
    joint = joint
  )
}

strata <- list(
  oats_add = list("oats", yield ~ Variety + dose, ~ 1 | Block / Variety, "(1 | Block/Variety)"),
  oats = list("oats", yield ~ Variety * dose, ~ 1 | Block / Variety, "(1 | Block/Variety)"),
  oats_unbalanced = list("oats_unbalanced", yield ~ Variety + dose, ~ 1 | Block / Variety,
    "(1 | Block/Variety)"),
  orthodont = list("orthodont", distance ~ age11 * Sex, ~ 1 | Subject, "(1 | Subject)"),
  orthodont_slope = list("orthodont", distance ~ age11 * Sex, ~ age11 | Subject,
    "(age11 | Subject)"),
  orthodont_no_intercept = list("orthodont", distance ~ 0 + Sex + age11, ~ 1 | Subject,
    "(1 | Subject)"),
  sleep = list("sleepstudy", Reaction ~ Days, ~ Days | Subject, "(Days | Subject)"),
  nested = list("nested", y ~ w * x + v, ~ 1 | block / plot, "(1 | block/plot)")
)

by_rule <- function(model) {
  fit <- lme(model[[2]], tables[[model[[1]]]], model[[3]])
  own <- anova(fit, type = "marginal")
  list(
    table = model[[1]], formula = paste(deparse(model[[2]], 500), "+", model[[4]]),
    names = I(names(fit$fixDF$X)), df = plain(fit$fixDF$X),
    terms = I(rownames(own)), term_df1 = plain(own$numDF), term_df2 = plain(own$denDF)
  )
}

text <- function(x) toJSON(x, auto_unbox = TRUE, digits = I(15), null = "null", na = "null")
entries <- function(x) paste(sprintf('  "%s": %s', names(x), vapply(x, text, "")), collapse = ",\n")
writeLines(c(
  "{",
  sprintf(' "versions": %s,', text(c(versions(),
    list(pbkrtest = as.character(packageVersion("pbkrtest")))))),
  ' "tables": {', entries(lapply(own, as.list)), " },",
  ' "tests": {', entries(lapply(models, described)), " },",
  ' "strata": {', entries(lapply(strata, by_rule)), " }",
  "}"
), "tests/reference/degrees.json")
