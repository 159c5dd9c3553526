# Expected ranks by merTools 0.5.2 on lme4 1.1-31 (R 4.2.2), ranks by drawing from the
# conditional distributions, and the Poisson-Gamma model by maximum likelihood.
#   Rscript tests/reference/shrinkage_rank.R
# Writes tests/reference/shrinkage_rank.json. merTools names a variance `std.error`.
suppressPackageStartupMessages({library(lme4); library(jsonlite); library(merTools)})
m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
er <- expectedRank(m, groupFctr = "Subject", term = "Days")
g <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial)
eg <- expectedRank(g)
re <- as.data.frame(ranef(m)); d <- subset(re, term == "Days"); set.seed(1)
S <- matrix(rnorm(18 * 200000, d$condval, d$condsd), 18); rk <- apply(S, 2, rank)
o <- data.frame(Subject = d$grp, blup = d$condval, condsd = d$condsd, ER_mc = rowMeans(rk),
                P_top3 = rowMeans(rk >= 16))
a <- aggregate(cbind(incidence, size) ~ herd, cbpp, sum)
a$E <- a$size * sum(a$incidence) / sum(a$size)
nll <- function(p) {
  al <- exp(p[1]); be <- exp(p[2])
  -sum(dnbinom(a$incidence, size = al, mu = a$E * al / be, log = TRUE))
}
f <- optim(c(1, 1), nll, control = list(reltol = 1e-14, maxit = 5000))
al <- exp(f$par[1]); be <- exp(f$par[2])
a$SIR <- a$incidence / a$E; a$EB <- (al + a$incidence) / (be + a$E)
a$lo <- qgamma(.025, al + a$incidence, be + a$E); a$hi <- qgamma(.975, al + a$incidence, be + a$E)
a$p_gt1 <- pgamma(1, al + a$incidence, be + a$E, lower = FALSE); a$B <- be / (be + a$E)
write_json(list(expectedRank_sleep_Days = er, expectedRank_cbpp = eg, mc_sleep_Days = o,
                poisson_gamma = list(alpha = al, beta = be, nll = f$value, tab = a)),
           "tests/reference/shrinkage_rank.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
