# Profile intervals by lme4: Rscript confint.R > confint.json (made with R 4.2.2, lme4 1.1-31).
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
ci <- function(fit, level = 0.95) {
  x <- suppressWarnings(suppressMessages(
    confint(fit, method = "profile", level = level, oldNames = FALSE)))
  lapply(setNames(rownames(x), rownames(x)), function(term) unname(x[term, ]))
}
fits <- list(
  sleep_slope = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE),
  sleep_diag = lmer(Reaction ~ Days + (Days || Subject), sleepstudy, REML = FALSE),
  sleep_int = lmer(Reaction ~ Days + (1 | Subject), sleepstudy, REML = FALSE),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, REML = FALSE),
  dyestuff = lmer(Yield ~ 1 + (1 | Batch), Dyestuff, REML = FALSE),
  dyestuff2 = lmer(Yield ~ 1 + (1 | Batch), Dyestuff2, REML = FALSE),
  pastes = lmer(strength ~ 1 + (1 | batch / cask), Pastes, REML = FALSE)
)
result <- lapply(fits, function(f) list(profile = ci(f), profile99 = ci(f, 0.99)))
g <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial)
result$cbpp_laplace <- list(profile = ci(g))
made <- paste0("lme4 ", packageVersion("lme4"), ", R ", getRversion(), "; confint.R")
cat(toJSON(list(provenance = made, fits = result), digits = 10, auto_unbox = TRUE, pretty = TRUE))
