# Reference marginal means by emmeans.
#   Rscript tests/reference/marginal_means.R      (from the project's root)
# reads the tables of tests/reference/marginal_means_data.json and writes
# tests/reference/marginal_means.json: weights, covariates, transformations, offsets,
# contrasts, slopes, joint tests, missing cells, generalised and ordinal models.
suppressMessages({
  library(lme4)
  library(lmerTest)
  library(emmeans)
  library(glmmTMB)
  library(ordinal)
  library(jsonlite)
})
emm_options(lmerTest.limit = 5000, pbkrtest.limit = 5000, lmer.df = "satterthwaite")
tables <- lapply(fromJSON("tests/reference/marginal_means_data.json"), as.data.frame)
strict <- lmerControl(optCtrl = list(maxfun = 1e6, xtol_abs = 1e-12, ftol_abs = 1e-12))
table_of <- function(x) as.data.frame(x)
out <- list()

# --- a messy trial: unbalanced, a missing cell, a covariate
trial <- tables$trial
for (name in c("treatment", "sex", "site", "clinic")) trial[[name]] <- factor(trial[[name]])
additive <- lme4::lmer(y ~ treatment + sex + site + log(dose) + poly(age, 2) + (1 | clinic), trial,
  control = strict)
crossed <- lme4::lmer(y ~ treatment * sex + age * treatment + I(age^2) + (1 | clinic), trial,
  control = strict)
holed <- suppressMessages(lme4::lmer(y ~ treatment * site + age + (1 | clinic), trial,
  control = strict))
for (w in c("equal", "proportional", "outer", "cells", "flat"))
  out$weights[[w]] <- table_of(emmeans(additive, "treatment", weights = w))
out$weights$by <- table_of(emmeans(additive, ~ treatment | sex, weights = "proportional"))
out$weights$given <- table_of(emmeans(additive, "treatment", weights = 1:6))
out$at <- table_of(emmeans(additive, ~ treatment + age,
  at = list(age = c(40, 60), dose = 2, treatment = c("C", "A"))))
out$range <- table_of(emmeans(additive, "age", cov.reduce = range))
out$overall <- table_of(emmeans(additive, ~ 1))
out$two_valued <- table_of(emmeans(
  lme4::lmer(y ~ treatment + visit + (1 | clinic), trial, control = strict), "visit"))
out$interaction$means <- table_of(emmeans(crossed, ~ treatment * sex))
out$interaction$simple <- table_of(pairs(emmeans(crossed, ~ treatment * sex), simple = "sex"))
out$interaction$contrast <- table_of(contrast(emmeans(crossed, ~ treatment * sex),
  interaction = c("consec", "pairwise")))
out$interaction$joint <- table_of(joint_tests(crossed))
out$interaction$joint_by <- table_of(joint_tests(crossed, by = "sex"))
out$interaction$joint_at <- table_of(joint_tests(crossed, at = list(age = 30)))
out$holed$means <- table_of(emmeans(holed, ~ treatment * site))
out$holed$treatment <- table_of(emmeans(holed, "treatment"))
out$holed$cells <- table_of(emmeans(holed, "treatment", weights = "cells"))
out$holed$pairs <- table_of(pairs(emmeans(holed, ~ treatment | site), adjust = "sidak"))
out$holed$joint <- table_of(joint_tests(holed))
for (m in c("eff", "del.eff", "consec", "mean_chg", "poly", "trt.vs.ctrl", "trt.vs.ctrlk"))
  out$methods[[m]] <- table_of(contrast(emmeans(additive, "treatment"), m, adjust = "none"))
out$methods$ref2 <- table_of(contrast(emmeans(additive, "treatment"), "trt.vs.ctrl", ref = 2,
  adjust = "none"))
out$methods$own <- table_of(contrast(emmeans(additive, "treatment"),
  list(ab = c(1, -1, 0), abc = c(.5, .5, -1))))
for (a in c("tukey", "sidak", "scheffe", "hochberg", "hommel", "BY"))
  out$adjust[[a]] <- table_of(summary(pairs(emmeans(additive, ~ treatment * sex)), adjust = a,
    infer = TRUE))
out$adjust$dunnettx <- table_of(summary(contrast(emmeans(additive, ~ treatment * sex),
  "trt.vs.ctrl"), infer = TRUE))
set.seed(1)
out$adjust$mvt <- table_of(summary(contrast(emmeans(additive, ~ treatment * sex), "trt.vs.ctrl"),
  adjust = "mvt", infer = TRUE))
out$adjust$means <- table_of(summary(emmeans(additive, "treatment"), adjust = "sidak"))

# --- slopes
out$trends$age <- table_of(emtrends(crossed, ~ treatment, var = "age"))
out$trends$age_at <- table_of(emtrends(crossed, ~ treatment | age, var = "age",
  at = list(age = c(35, 55))))
out$trends$pairs <- table_of(pairs(emtrends(crossed, ~ treatment, var = "age")))
out$trends$log <- table_of(emtrends(additive, ~ 1, var = "dose"))
out$trends$degrees <- table_of(emtrends(crossed, ~ degree | treatment, var = "age",
  max.degree = 2))

# --- a response in logs
logged <- lme4::lmer(log(y) ~ treatment + age + (1 | clinic), trial, control = strict)
out$logged$means <- table_of(emmeans(logged, "treatment", type = "response"))
out$logged$ratios <- table_of(pairs(emmeans(logged, "treatment"), type = "response",
  infer = TRUE))

# --- generalised
tight <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15,
  x.tol = 0))
cbpp <- tables$cbpp
cbpp$period <- factor(cbpp$period)
logit <- glmmTMB(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial,
  control = tight)
out$cbpp$link <- table_of(emmeans(logit, "period"))
out$cbpp$response <- table_of(emmeans(logit, "period", type = "response"))
out$cbpp$odds <- table_of(summary(pairs(emmeans(logit, "period")), type = "response",
  infer = TRUE))
out$cbpp$regrid <- table_of(pairs(regrid(emmeans(logit, "period"))))
out$cbpp$joint <- table_of(joint_tests(logit))
owls <- tables$Owls
counts <- glmmTMB(calls ~ food * sex + offset(log(brood)) + (1 | nest), owls, nbinom2,
  ziformula = ~ food, control = tight)
out$owls$means <- table_of(emmeans(counts, "food", type = "response"))
out$owls$offset <- table_of(emmeans(counts, "food", type = "response", offset = 0))
out$owls$ratios <- table_of(summary(pairs(emmeans(counts, ~ food | sex)), type = "response",
  infer = TRUE))
out$owls$zero <- table_of(emmeans(counts, "food", component = "zi", type = "response"))
wine <- tables$wine
wine$rating <- factor(wine$rating, ordered = TRUE)
ordinal <- clmm(rating ~ temp + contact + (1 | judge), wine, Hess = TRUE, nAGQ = 1,
  control = clmm.control(gradTol = 1e-8))
out$wine$latent <- table_of(emmeans(ordinal, "temp"))
out$wine$prob <- table_of(emmeans(ordinal, ~ rating | temp, mode = "prob"))
out$wine$mean_class <- table_of(emmeans(ordinal, "temp", mode = "mean.class"))

out$versions <- sapply(c("emmeans", "lme4", "lmerTest", "glmmTMB", "ordinal"),
  function(p) as.character(packageVersion(p)))
write_json(out, "tests/reference/marginal_means.json", digits = 12, auto_unbox = TRUE,
  pretty = FALSE, na = "null")
