# Reference values of generalised linear mixed models by the Laplace approximation.
#   Rscript tests/reference/glmm.R      (from the project's root)
# writes tests/reference/glmm.json. glmmTMB with tight tolerances: log-likelihood
# with all constants, estimates in the order of its parameters, their standard
# errors. cbpp by quadrature: lme4.
suppressMessages({
  library(glmmTMB)
  library(lme4)
  library(jsonlite)
})

data("Contraception", package = "mlmRev")
data("Salamanders", "Owls", package = "glmmTMB")
Owls$calls <- Owls$SiblingNegotiation
Owls$log_brood <- log(Owls$BroodSize)
grouseticks$height <- as.numeric(scale(grouseticks$HEIGHT))
Contraception$used <- as.numeric(Contraception$use == "Y")
VerbAgg$yes <- as.numeric(VerbAgg$r2 == "Y")
cbpp$healthy <- cbpp$size - cbpp$incidence

tables <- list(
  cbpp = cbpp[c("herd", "incidence", "healthy", "size", "period")],
  grouseticks = grouseticks[c("INDEX", "TICKS", "BROOD", "LOCATION", "YEAR", "height")],
  Salamanders = Salamanders[c("site", "mined", "spp", "count", "DOY")],
  Owls = Owls[c("Nest", "FoodTreatment", "SexParent", "calls", "log_brood")],
  Contraception = Contraception[c("district", "used", "livch", "age", "urban")]
)

case <- function(table, formula, family, zero = ~0, dispersion = ~1, reml = FALSE)
  list(table = table, formula = formula, family = family, zero = zero, dispersion = dispersion,
    reml = reml)

ticks <- TICKS ~ YEAR + height + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)
herds <- cbind(incidence, healthy) ~ period + (1 | herd)
site <- count ~ spp * mined + (1 | site)
cases <- list(
  cbpp = case("cbpp", herds, binomial()),
  cbpp_probit = case("cbpp", herds, binomial("probit")),
  cbpp_cloglog = case("cbpp", herds, binomial("cloglog")),
  grouseticks = case("grouseticks", ticks, poisson()),
  contraception = case("Contraception",
    used ~ age + I(age^2) + urban + livch + (urban | district), binomial()),
  verbagg = case("VerbAgg",
    yes ~ Anger + Gender + btype + situ + (1 | id) + (1 | item), binomial()),
  salamanders_spread = case("Salamanders", site, nbinom2(), dispersion = ~DOY + mined),
  salamanders_zero = case("Salamanders", count ~ spp + mined + (1 | site), nbinom2(),
    zero = ~mined),
  salamanders_zero_random = case("Salamanders", site, poisson(), zero = ~mined + (1 | site)),
  salamanders_full = case("Salamanders", site, nbinom2(), zero = ~spp + mined),
  owls = case("Owls",
    calls ~ FoodTreatment * SexParent + offset(log_brood) + (1 | Nest), nbinom1(), zero = ~1),
  cbpp_reml = case("cbpp", herds, binomial(), reml = TRUE),
  salamanders_reml = case("Salamanders", count ~ spp + mined + (1 | site), nbinom2(),
    zero = ~mined, reml = TRUE)
)

control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-15, x.tol = 0))
text <- function(f) paste(deparse(f, width.cutoff = 500), collapse = "")
fit <- function(c) {
  data <- if (c$table == "VerbAgg") VerbAgg else tables[[c$table]]
  m <- suppressWarnings(glmmTMB(c$formula, data, c$family, ziformula = c$zero,
    dispformula = c$dispersion, REML = c$reml, control = control))
  list(
    table = c$table, formula = text(c$formula), family = c$family$family,
    link = c$family$link, reml = c$reml, zero = text(c$zero), dispersion = text(c$dispersion),
    loglik = as.numeric(logLik(m)), conditional = unname(fixef(m)$cond),
    zero_estimates = unname(fixef(m)$zi), dispersion_estimates = unname(fixef(m)$disp),
    log_sd = unname(m$fit$par[names(m$fit$par) %in% c("theta", "thetazi")]),
    std_errors = unname(sqrt(diag(vcov(m)$cond)))
  )
}

nodes <- function(k) {
  m <- glmer(herds, cbpp, binomial, nAGQ = k,
    control = glmerControl("nloptwrap", tolPwrss = 1e-12, optCtrl = list(xtol_abs = 1e-10, ftol_abs = 1e-12)))
  list(nodes = k, sd = unname(getME(m, "theta")), beta = unname(fixef(m)))
}

# clmm's names of cloglog and loglog are those of clm exchanged: its "loglog" is
# the cloglog of clm and of the literature.
suppressMessages(library(ordinal))
data("wine", package = "ordinal")
tables$wine <- wine[c("rating", "temp", "contact", "judge")]
tables$wine$rating <- as.integer(wine$rating) - 1L
ordinal_fit <- function(link, threshold) {
  m <- suppressWarnings(clmm(rating ~ temp + contact + (1 | judge), wine, threshold = threshold,
    link = if (link == "cloglog") "loglog" else link, control = clmm.control(gradTol = 1e-10)))
  list(link = link, threshold = threshold, loglik = as.numeric(logLik(m)),
    thresholds = unname(m$alpha), beta = unname(m$beta), sd = sqrt(unname(VarCorr(m)$judge[1])))
}
ordinal_cases <- do.call(c, lapply(c("logit", "probit", "cloglog"), function(link)
  lapply(c("flexible", "symmetric", "equidistant"), function(t) ordinal_fit(link, t))))

out <- list(
  versions = list(R = as.character(getRversion()), glmmTMB = as.character(packageVersion("glmmTMB")),
    lme4 = as.character(packageVersion("lme4")), ordinal = as.character(packageVersion("ordinal"))),
  tables = tables,
  cases = lapply(cases, fit),
  ordinal = ordinal_cases,
  quadrature = lapply(c(1, 5, 25), nodes)
)
write(toJSON(out, digits = 10, auto_unbox = TRUE, dataframe = "columns", null = "null"),
  "tests/reference/glmm.json")
