# Profile intervals by lme4: Rscript confint.R > confint.json (made with R 4.2.2, lme4 1.1-31).
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
models <- list(
  sleep_slope = c("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
  sleep_diag = c("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
  sleep_int = c("Reaction ~ Days + (1 | Subject)", "sleepstudy"),
  penicillin = c("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
  dyestuff = c("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
  dyestuff2 = c("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
  pastes = c("strength ~ 1 + (1 | batch / cask)", "Pastes"),
  cbpp_laplace = c("cbind(incidence, size - incidence) ~ period + (1 | herd)", "cbpp")
)
ci <- function(fit, level = 0.95) {
  x <- suppressWarnings(suppressMessages(
    confint(fit, method = "profile", level = level, oldNames = FALSE)))
  lapply(setNames(rownames(x), rownames(x)), function(term) unname(x[term, ]))
}
limits <- function(model) {
  data <- get(model[2])
  fit <- if (model[2] == "cbpp") glmer(as.formula(model[1]), data, binomial) else
    lmer(as.formula(model[1]), data, REML = FALSE)
  found <- list(formula = model[1], table = model[2], profile = ci(fit))
  if (model[2] != "cbpp") found$profile99 <- ci(fit, 0.99)
  found
}
made <- paste0("lme4 ", packageVersion("lme4"), ", R ", getRversion(), "; confint.R")
result <- list(provenance = made, fits = lapply(models, limits))
cat(toJSON(result, digits = 10, auto_unbox = TRUE, pretty = TRUE))
