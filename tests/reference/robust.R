# Cluster-robust covariances of clubSandwich for unbalanced models (it takes no weights).
# Run in tests/reference after anova.R: Rscript robust.R
suppressPackageStartupMessages({library(lme4);library(clubSandwich);library(jsonlite)})
d <- read.csv("anova.csv", stringsAsFactors=TRUE); d$g <- factor(d$g)
d <- d[-seq(3, 240, by=7), ]
control <- lmerControl(optimizer="bobyqa", optCtrl=list(rhoend=1e-10))
run <- function(m, zero) { r <- list()
 for (t in c("CR0","CR1","CR1p","CR1S","CR2","CR3")) { V <- vcovCR(m, type=t)
  ct <- as.data.frame(coef_test(m, V, test="Satterthwaite"))
  w <- as.data.frame(Wald_test(m, constrain_zero(zero), vcov=V, test="HTZ"))
  r[[t]] <- list(vcov=unname(as.matrix(V)), SE=ct$SE, df=ct$df, F=w$Fstat, df2=w$df_denom, p=w$p_val) }
 r }
out <- list(versions=list(R=as.character(getRversion()), lme4=as.character(packageVersion("lme4")), clubSandwich=as.character(packageVersion("clubSandwich"))),
 plain=run(lmer(y ~ a*b + x + (x|g), d, control=control), 5:6),
 nested=run(lmer(y ~ a + x + (1|h/g), transform(d, h=factor((as.integer(as.character(g))+2) %/% 3)), control=control), 2:3))
write_json(out, "robust.json", digits=12, auto_unbox=TRUE)
