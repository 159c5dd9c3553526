# Meta-analysis: values of metafor and clubSandwich, with the data of metadat that they are of.
#   Rscript tests/reference/meta.R
# writes tests/reference/meta.json. metafor's searches are run with a threshold of 1e-12: by default
# they stop at about 1e-5 (EB and PM, which have one solution, then differ by 2.5e-5).
suppressMessages({
  library(metafor)
  library(metadat)
  library(clubSandwich)
  library(jsonlite)
})
tight <- list(optimizer = "nlminb", rel.tol = 1e-9)
control <- list(threshold = 1e-12, maxiter = 10000, tol = 1e-13)

bcg <- escalc(measure = "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
bcg <- as.data.frame(bcg)
raudenbush <- as.data.frame(dat.raudenbush1985)
bangert <- as.data.frame(dat.bangertdrowns2004)
schools <- as.data.frame(dat.konstantopoulos2011)
berkey <- as.data.frame(dat.berkey1998)
plain <- function(d, columns) lapply(d[columns], function(x) if (is.factor(x)) as.character(x) else as.vector(x))
data <- list(
  bcg = plain(bcg, c("trial", "author", "year", "tpos", "tneg", "cpos", "cneg", "ablat", "alloc", "yi", "vi")),
  raudenbush = plain(raudenbush, c("study", "weeks", "setting", "yi", "vi")),
  bangert = plain(bangert, c("id", "grade", "length", "yi", "vi")),
  schools = plain(schools, c("district", "school", "study", "yi", "vi")),
  berkey = plain(berkey, c("trial", "outcome", "yi", "vi", "v1i", "v2i"))
)
of <- function(fit) list(
  tau2 = fit$tau2, coef = c(fit$beta), se = fit$se, stat = fit$zval, p = fit$pval, low = fit$ci.lb,
  high = fit$ci.ub, q = fit$QE, q_p = fit$QEp, i2 = fit$I2, h2 = fit$H2, r2 = fit$R2, qm = fit$QM,
  qm_p = fit$QMp, ddf = fit$ddf, se_tau2 = fit$se.tau2
)

sets <- list(bcg = bcg, raudenbush = raudenbush, bangert = bangert)
models <- list(
  bcg = list("~ 1", "~ ablat", "~ ablat + year", "~ alloc", "~ alloc + ablat"),
  raudenbush = list("~ 1", "~ weeks"), bangert = list("~ 1", "~ length")
)
methods <- c("FE", "DL", "HE", "HS", "SJ", "EB", "PM", "ML", "REML")
fits <- list()
for (name in names(sets)) for (f in models[[name]]) for (method in methods) {
  for (test in c("z", "knha", "adhoc")) {
    d <- sets[[name]]
    fit <- suppressWarnings(try(rma(yi, vi, mods = as.formula(f), data = d, method = method, test = test,
      control = control), silent = TRUE))
    if (inherits(fit, "try-error")) {
      fit <- rma(yi, vi, mods = as.formula(f), data = d, method = method, test = test,
        control = list(threshold = 1e-10, maxiter = 10000, stepadj = 0.5))
    }
    one <- of(fit)
    one$set <- name; one$formula <- f; one$method <- method; one$test <- test
    if (method %in% c("ML", "REML")) {
      one$loglik <- c(logLik(fit))
      one$log_xx <- c(determinant(crossprod(model.matrix(fit)))$modulus)
    }
    if (method != "FE") {
      ci <- try(confint(fit, control = list(tol = 1e-13, tau2.max = 100)), silent = TRUE)
      if (!inherits(ci, "try-error")) one$qp <- c(ci$random["tau^2", 2:3])
    }
    pi <- predict(fit)
    one$pred <- list(low = pi$pi.lb[1], high = pi$pi.ub[1])
    fits[[length(fits) + 1]] <- one
  }
}

# by rma.mv, which profiles the likelihood
profiles <- list()
for (name in c("bcg", "bangert")) for (method in c("ML", "REML")) {
  d <- sets[[name]]; d$row <- seq_len(nrow(d))
  fit <- rma.mv(yi, vi, random = ~ 1 | row, data = d, method = method, control = tight)
  ci <- confint(fit, control = list(tol = 1e-9))
  profiles[[length(profiles) + 1]] <- list(set = name, method = method, tau2 = fit$sigma2, ci = c(ci$random[1, 2:3]))
}

influences <- list()
for (f in c("~ 1", "~ ablat")) for (test in c("z", "knha")) {
  fit <- rma(yi, vi, mods = as.formula(f), data = bcg, test = test, control = control)
  i <- influence(fit)$inf
  influences[[length(influences) + 1]] <- list(
    formula = f, test = test, rstudent = i$rstudent, cook = i$cook.d, hat = i$hat, tau2 = i$tau2.del,
    dffits = i$dffits, covr = i$cov.r
  )
}

eggers <- list()
for (name in c("bcg", "bangert")) {
  d <- sets[[name]]
  fit <- rma(yi, vi, data = d, control = control)
  a <- regtest(fit, model = "rma"); b <- regtest(fit, model = "lm")
  k <- regtest(rma(yi, vi, data = d, test = "knha", control = control), model = "rma")
  eggers[[name]] <- list(
    mixed = list(stat = a$zval, p = a$pval, limit = a$est, low = a$ci.lb, high = a$ci.ub),
    mixed_t = list(stat = k$zval, p = k$pval, df = k$ddf, limit = k$est),
    linear = list(stat = b$zval, p = b$pval, df = b$ddf, limit = b$est)
  )
}
fills <- list()
for (name in c("bcg", "bangert")) for (e in c("L0", "R0", "Q0")) for (side in c("left", "right")) {
  fit <- rma(yi, vi, data = sets[[name]], control = control)
  tf <- try(trimfill(fit, estimator = e, side = side), silent = TRUE)
  if (!inherits(tf, "try-error")) {
    fills[[length(fills) + 1]] <- list(set = name, estimator = e, side = side, k0 = tf$k0, se = tf$se.k0,
      coef = c(tf$beta), tau2 = tf$tau2, sidegiven = trimfill(fit)$side)
  }
}
set.seed(1)
one <- rma(yi, vi, data = bcg)
permutation <- list(
  exact = list(p = permutest(one, exact = TRUE, progbar = FALSE)$pval, stat = one$zval),
  knha = list(p = permutest(update(one, test = "knha"), exact = TRUE, progbar = FALSE)$pval)
)
small <- bcg[1:7, ]
permutation$small <- list(p = permutest(rma(yi, vi, mods = ~ ablat, data = small), exact = TRUE,
  progbar = FALSE)$pval, qmp = permutest(rma(yi, vi, mods = ~ ablat, data = small), exact = TRUE, progbar = FALSE)$QMp)

tests <- list()
fit <- rma(yi, vi, mods = ~ alloc + ablat, data = bcg, test = "knha", control = control)
a <- anova(fit, btt = 2:3); tests$alloc <- list(f = a$QM, p = a$QMp)
fit <- rma(yi, vi, mods = ~ alloc + ablat, data = bcg, control = control)
a <- anova(fit, btt = 2:3); tests$alloc_z <- list(f = a$QM, p = a$QMp)

b <- blup(rma(yi, vi, data = bcg, control = control))
blups <- list(pred = b$pred, se = b$se, low = b$pi.lb, high = b$pi.ub)

robusts <- list()
fit <- rma(yi, vi, data = schools, control = control)
for (type in c("CR0", "CR1", "CR1p", "CR1S", "CR2")) {
  t <- coef_test(fit, vcov = type, cluster = schools$district)
  robusts[[type]] <- list(se = t$SE, df = t$df_Satt, p = t$p_Satt)
}
mods <- rma(yi, vi, mods = ~ year, data = transform(as.data.frame(dat.konstantopoulos2011), year = year - 1990), control = control)
t <- coef_test(mods, vcov = "CR2", cluster = schools$district)
robusts$mods <- list(se = t$SE, df = t$df_Satt)
data$schools$year <- dat.konstantopoulos2011$year - 1990

multi <- list()
m <- rma.mv(yi, vi, random = ~ 1 | district / school, data = schools, control = tight)
multi$schools <- list(sigma2 = m$sigma2, coef = c(m$beta), se = m$se, loglik = c(logLik(m)), q = m$QE)
ci <- confint(m, control = list(tol = 1e-10))
multi$schools$ci <- list(c(ci[[1]]$random[1, 2:3]), c(ci[[2]]$random[1, 2:3]))
pr <- predict(m); multi$schools$pi <- c(pr$pi.lb, pr$pi.ub)
pr <- predict(rma.mv(yi, vi, random = ~ 1 | district / school, data = schools, control = tight, test = "t")); multi$schools$pi_t <- c(pr$pi.lb, pr$pi.ub)
m <- rma.mv(yi, vi, random = ~ 1 | district / school, data = schools, method = "ML", control = tight)
multi$schools_ml <- list(sigma2 = m$sigma2, coef = c(m$beta), se = m$se, loglik = c(logLik(m)))
V <- bldiag(lapply(split(berkey[, c("v1i", "v2i")], berkey$trial), as.matrix))
multi$berkey_v <- V
m <- rma.mv(yi, V, mods = ~ outcome - 1, random = ~ outcome | trial, struct = "UN", data = berkey, control = tight)
multi$berkey <- list(tau2 = m$tau2, rho = m$rho, coef = c(m$beta), se = m$se, loglik = c(logLik(m)), q = m$QE)
m <- rma.mv(yi, V, mods = ~ outcome - 1, random = ~ outcome | trial, struct = "UN", data = berkey, method = "ML", control = tight)
multi$berkey_ml <- list(tau2 = m$tau2, rho = m$rho, coef = c(m$beta), se = m$se, loglik = c(logLik(m)))
r <- coef_test(rma.mv(yi, vi, random = ~ 1 | district / school, data = schools, control = tight), vcov = "CR2", cluster = schools$district)
multi$schools$cr2 <- list(se = r$SE, df = r$df_Satt)

# effect sizes; the last tables hold zeros
two <- list(ai = c(4, 6, 3, 62, 0, 10), bi = c(119, 300, 228, 13536, 25, 0), ci = c(11, 29, 11, 248, 3, 4), di = c(128, 274, 209, 12619, 20, 8))
sizes <- list(two = two)
esc <- list()
for (m in c("RR", "OR", "RD", "AS", "PETO")) esc[[m]] <- do.call(escalc, c(list(measure = m), two))
means <- list(m1i = c(103, 20.5, 5), sd1i = c(5.5, 3, 2.2), n1i = c(50, 12, 7), m2i = c(100, 18, 6), sd2i = c(4.5, 4.1, 1.9), n2i = c(50, 15, 9))
sizes$means <- means
for (m in c("MD", "SMD", "SMDH", "ROM", "CVR", "VR")) esc[[m]] <- do.call(escalc, c(list(measure = m), means))
cors <- list(ri = c(0.5, -0.2, 0.9), ni = c(40, 12, 25)); sizes$cors <- cors
for (m in c("COR", "ZCOR")) esc[[m]] <- do.call(escalc, c(list(measure = m), cors))
props <- list(xi = c(5, 0, 12), ni = c(20, 9, 12)); sizes$props <- props
for (m in c("PR", "PLO", "PAS", "PFT")) esc[[m]] <- do.call(escalc, c(list(measure = m), props))
rates <- list(x1i = c(10, 0, 7), x2i = c(14, 3, 2), t1i = c(100.5, 40, 33), t2i = c(120, 60, 20)); sizes$rates <- rates
esc$IRR <- do.call(escalc, c(list(measure = "IRR"), rates))
paired <- list(m1i = c(103, 20.5, 5), m2i = c(100, 18, 6), sd1i = c(5.5, 3, 2.2), sd2i = c(4.5, 4.1, 1.9), ni = c(50, 12, 7), ri = c(0.5, 0.7, 0.2)); sizes$paired <- paired
esc$MC <- do.call(escalc, c(list(measure = "MC"), paired))
esc$SMCR <- do.call(escalc, c(list(measure = "SMCR"), paired))
sizes$values <- lapply(esc, function(e) list(yi = c(e$yi), vi = c(e$vi)))

versions <- list(metafor = as.character(packageVersion("metafor")), clubSandwich = as.character(packageVersion("clubSandwich")), R = R.version.string)
write_json(list(versions = versions, data = data, fits = fits, profiles = profiles, influences = influences,
  eggers = eggers, fills = fills, permutation = permutation, tests = tests, blups = blups, robusts = robusts,
  multi = multi, sizes = sizes), "meta.json", digits = NA, auto_unbox = FALSE, na = "null", pretty = FALSE)
