# Reference values of the audit of linear models.
# R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, emmeans 1.8.4-1, clubSandwich 0.5.8,
# performance 0.10.2, nlme 3.1-162.
# Rscript audit_linear.R (in this folder) writes audit_linear.json.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans)
  library(clubSandwich); library(performance); library(jsonlite); library(splines)})
tight <- lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE,
  optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, xtol_rel = 1e-12, ftol_rel = 1e-15, maxeval = 1e5),
  check.conv.singular = "ignore")
diary <- read.csv("diary.csv", stringsAsFactors = TRUE)
diary$arm <- factor(diary$arm, levels = c("usual", "app", "coach"))
diary$weekend <- diary$weekend == "True"
diary$dose <- factor(diary$dose, levels = c("low", "mid", "high"))
diary$odose <- factor(diary$dose, ordered = TRUE)
ratings <- read.csv("ratings.csv", stringsAsFactors = TRUE); ratings$rater <- factor(ratings$rater)
ratings$cond <- factor(ratings$cond)
pupils <- read.csv("pupils.csv"); pupils$klass <- pupils$class
cells <- read.csv("cells.csv", stringsAsFactors = TRUE)

fits <- list(
  slope = lmer(mood ~ stress * arm + day + (stress | person), diary, control = tight),
  intercept = lmer(mood ~ stress * arm + sex + (1 | person), diary, control = tight),
  poly = lmer(mood ~ poly(day, 2) * sex + weekend + odose + (1 | person), diary, control = tight),
  weighted = lmer(mood ~ stress + arm * weekend + offset(baseline) + (1 | person), diary,
                  weights = w, control = tight),
  diagonal = lmer(mood ~ stress + arm + (stress || person), diary, control = tight),
  sum = lmer(mood ~ stress * arm + sex * dose + (1 | person), diary, control = tight,
             contrasts = list(arm = "contr.sum", sex = "contr.sum", dose = "contr.helmert")),
  crossed = lmer(score ~ cond * x + (1 | rater) + (1 | item), ratings, control = tight),
  crossed_slope = lmer(score ~ cond + x + (cond | item) + (1 | rater), ratings, control = tight),
  nested = lmer(math ~ ses + ns(hours, 3) + I(size / 100) + (1 | school / klass), pupils, control = tight),
  empty = suppressMessages(lmer(y ~ a * b + x + (1 | block), cells, control = tight)),
  cell_x = lmer(y ~ a * x + b + (1 | block), cells, control = tight))

tab <- function(x) { x <- as.data.frame(x); lapply(x, function(v) if (is.factor(v)) as.character(v) else v) }
coefs <- function(m, ddf) { s <- coef(summary(m, ddf = ddf))
  list(term = rownames(s), estimate = s[, 1], se = s[, 2], df = s[, 3], p = s[, 5]) }
tests <- function(m, type, ddf) { a <- as.data.frame(anova(m, type = type, ddf = ddf))
  list(term = rownames(a), df1 = a$NumDF, df2 = a$DenDF, F = a$`F value`, sum_sq = a$`Sum Sq`) }
emm <- function(...) { s <- as.data.frame(summary(...)); tab(s) }

out <- list()
for (n in names(fits)) {
  m <- fits[[n]]; message(n)
  o <- list(loglik = as.numeric(logLik(m)), sigma = sigma(m), theta = getME(m, "theta"),
            S = coefs(m, "Satterthwaite"))
  kr <- n != "weighted"  # pbkrtest ignores weights
  if (kr) o$KR <- coefs(m, "Kenward-Roger")
  for (t in c("I", "II", "III")) {
    o[[paste0("S_", t)]] <- tests(m, t, "Satterthwaite")
    if (kr) o[[paste0("KR_", t)]] <- tests(m, t, "Kenward-Roger") }
  o$r2 <- tryCatch(unlist(r2_nakagawa(m)), error = function(e) NULL)
  o$icc <- tryCatch(unlist(icc(m)), error = function(e) NULL)
  rv <- ranova(m); o$ranova <- list(term = rownames(rv), LRT = rv$LRT, df = rv$Df, p = rv$`Pr(>Chisq)`)
  if (!grepl("crossed", n)) {
    cl <- if (n == "nested") pupils$school else NULL
    for (type in c("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")) {
      v <- tryCatch(if (is.null(cl)) vcovCR(m, type = type) else vcovCR(m, cluster = cl, type = type),
                    error = function(e) { message(e$message); NULL })
      if (is.null(v)) next
      ct <- coef_test(m, vcov = v, test = "Satterthwaite")
      p <- length(fixef(m))
      w <- tryCatch(Wald_test(m, constraints = constrain_zero(2:min(p, 3)), vcov = v, test = "HTZ"),
                    error = function(e) NULL)
      if (is.null(w)) next
      o[[type]] <- list(se = ct$SE, df = ct$df, F = w$Fstat, df1 = w$df_num, df2 = w$df_denom)
    } }
  o$cooks <- as.numeric(cooks.distance(m)); o$hat <- as.numeric(hatvalues(m))
  re <- as.data.frame(ranef(m)); o$ranef <- list(grp = as.character(re$grpvar), level = as.character(re$grp),
    term = as.character(re$term), estimate = re$condval, cond_sd = re$condsd)
  out[[n]] <- o
}
prof <- function(m) { p <- suppressWarnings(confint(m, method = "profile", oldNames = FALSE, quiet = TRUE))
  list(name = rownames(p), low = p[, 1], high = p[, 2]) }
for (n in c("intercept", "weighted", "crossed", "diagonal", "slope", "nested")) {
  message("profile ", n); out[[n]]$profile <- tryCatch(prof(as(fits[[n]], "lmerMod")), error = function(e) NULL) }

# influence: exact deletion of groups
inf <- function(m, g) { i <- influence(m, groups = g); list(level = rownames(i[["fixed.effects[-case]"]]) %||% NULL,
   fixed = unname(i[[grep("^fixed.effects\\[", names(i))]]), cook = as.numeric(cooks.distance(i))) }
`%||%` <- function(a, b) if (is.null(a)) b else a
for (q in list(c("intercept", "person"), c("crossed", "item"), c("slope", "person"))) {
  message("influence ", q[1])
  out[[q[1]]]$influence <- tryCatch(inf(as(fits[[q[1]]], "lmerMod"), q[2]), error = function(e) message(e$message)) }

# anova between fits
small <- update(fits$slope, . ~ stress + arm + day + (1 | person))
a <- suppressMessages(anova(small, fits$slope)); out$compare <- list(loglik = a$logLik, aic = a$AIC, chisq = a$Chisq, df = a$Df, p = a$`Pr(>Chisq)`)

# marginal means
kr <- function(m) emmeans(m, "arm", lmer.df = "kenward-roger")
S <- function(m, specs, ...) emmeans(m, specs, lmer.df = "satterthwaite", ...)
e <- list()
m <- fits$slope
e$slope_arm <- emm(S(m, "arm"))
e$slope_arm_kr <- emm(kr(m))
e$slope_at <- emm(S(m, "arm", by = "stress", at = list(stress = c(-1, 0, 2), day = 3)))
for (adj in c("tukey", "sidak", "bonferroni", "holm", "hochberg", "hommel", "fdr", "BY", "scheffe", "none")) {
  p <- pairs(S(m, "arm"), adjust = adj); e[[paste0("pairs_", adj)]] <- c(emm(p), list(ci = tab(as.data.frame(confint(p))))) }
set.seed(1); e$pairs_mvt <- emm(pairs(S(m, "arm"), adjust = "mvt"))
e$dunnett <- emm(contrast(S(m, "arm"), "trt.vs.ctrl"))
set.seed(1); e$dunnett_mvt <- emm(contrast(S(m, "arm"), "trt.vs.ctrl", adjust = "mvt"))
e$eff <- emm(contrast(S(m, "arm"), "eff")); e$deleff <- emm(contrast(S(m, "arm"), "del.eff"))
e$trends <- emm(emtrends(m, "arm", var = "stress", lmer.df = "satterthwaite"))
e$trend_pairs <- emm(pairs(emtrends(m, "arm", var = "stress", lmer.df = "satterthwaite")))
e$joint <- tab(as.data.frame(joint_tests(m, lmer.df = "satterthwaite")))
m <- fits$poly
for (w in c("equal", "proportional", "outer", "cells", "flat")) e[[paste0("poly_sex_", w)]] <- emm(S(m, "sex", weights = w))
e$poly_dose <- emm(S(m, "odose", weights = "proportional"))
e$poly_consec <- emm(contrast(S(m, "odose"), "consec", adjust = "none"))
e$poly_poly <- emm(contrast(S(m, "odose"), "poly"))
e$poly_trend <- emm(emtrends(m, "sex", var = "day", at = list(day = c(2, 9)), by = "day", lmer.df = "satterthwaite"))
e$poly_joint <- tab(as.data.frame(joint_tests(m, lmer.df = "satterthwaite")))
m <- fits$weighted
e$weighted_arm <- emm(S(m, ~ arm | weekend)); e$weighted_pairs <- emm(pairs(S(m, ~ arm | weekend)))
e$weighted_cells <- emm(S(m, ~ arm, weights = "cells"))
e$weighted_interaction <- emm(contrast(S(m, ~ arm * weekend), interaction = c("pairwise", "consec")))
e$weighted_offset <- emm(S(m, ~ arm, offset = 1.5))
m <- fits$sum
e$sum_dose_arm <- emm(S(m, ~ dose | sex)); e$sum_joint <- tab(as.data.frame(joint_tests(m, lmer.df = "satterthwaite")))
e$sum_sex_simple <- emm(pairs(S(m, ~ sex * dose), simple = "sex"))
m <- fits$empty
e$empty_ab <- emm(S(m, ~ a * b)); e$empty_a <- emm(S(m, ~ a)); e$empty_b_by_a <- emm(pairs(S(m, ~ b | a)))
e$empty_joint <- tab(as.data.frame(joint_tests(m, lmer.df = "satterthwaite")))
m <- fits$cell_x
e$cell_x_trend <- emm(emtrends(m, pairwise ~ a, var = "x", lmer.df = "satterthwaite")$contrasts)
e$cell_x_a <- emm(S(m, pairwise ~ a | x, at = list(x = c(-1, 1)))$contrasts)
m <- fits$crossed
e$crossed <- emm(S(m, ~ cond)); e$crossed_kr <- emm(emmeans(m, ~ cond, lmer.df = "kenward-roger"))
m <- fits$nested
e$nested_trend <- emm(emtrends(m, ~ hours, var = "hours", at = list(hours = c(1, 4, 10)), lmer.df = "satterthwaite"))
e$nested_mean <- emm(S(m, ~ ses, at = list(ses = c(-1, 1), hours = 3)))
out$emmeans <- e
write(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"), "audit_linear.json")
