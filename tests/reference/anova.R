# Tables of lmerTest for models with interactions, covariates, empty cells and weights, under
# treatment and sum contrasts. Run in tests/reference: Rscript anova.R
suppressPackageStartupMessages({library(lme4);library(lmerTest);library(jsonlite)})
set.seed(11)
n <- 240
d <- data.frame(g=factor(rep(1:24,each=10)), a=factor(sample(c("a1","a2","a3"),n,TRUE)), b=factor(sample(c("b1","b2"),n,TRUE,c(.7,.3))),
  c=factor(sample(c("c1","c2","c3","c4"),n,TRUE,c(.4,.3,.2,.1))), x=round(rnorm(n,3,2),3), z=round(runif(n),3), w=round(runif(n,.5,2),3))
d$y <- round(2+as.integer(d$a)+.5*d$x*(d$b=="b2")+rnorm(24)[d$g]+rnorm(24,0,.3)[d$g]*d$x+rnorm(n),4)
write.csv(d,"anova.csv",row.names=FALSE)
fl <- c("a*b*c+(1|g)","a*x+(1|g)","a*b*x+(x|g)","x*z+a+(1|g)","a/x+(1|g)","a+a:x+(1|g)","0+a+b+(1|g)","0+a*b+(1|g)","poly(x,2)*b+a+(1|g)","a:b+c+(1|g)","a*b+x+(1|g)","x+I(x^2)+a:x+(1|g)")
out <- list()
run <- function(f,dat,w=NULL) { r<-list()
 for(cs in c("contr.treatment","contr.sum")) { options(contrasts=c(cs,"contr.poly"))
 dat$.w <- if(is.null(w)) rep(1,nrow(dat)) else w
 m <- suppressWarnings(suppressMessages(lmerTest::lmer(as.formula(paste("y ~",f)),dat,weights=.w,control=lmerControl(optimizer="bobyqa",optCtrl=list(rhoend=1e-10)))))
 for(ty in c("I","II","III")) {x<-try(suppressMessages(as.data.frame(anova(m,type=ty))),silent=TRUE); r[[cs]][[ty]] <- if(inherits(x,"try-error")) as.character(x) else {x$term<-rownames(x);x}}}
 r}
for(f in fl) out[[f]] <- run(f,d)
out[["w|a*b+x+(1|g)"]] <- run("a*b+x+(1|g)",d,d$w)
e <- subset(d, !(a=="a2"&b=="b2"))
out[["empty|a*b+(1|g)"]] <- run("a*b+(1|g)",e)
e2 <- subset(d, !(a=="a2"&b=="b2") & !(a=="a1"&c=="c4"))
out[["empty2|a*b*c+(1|g)"]] <- run("a*b*c+(1|g)",e2)
out[["empty2|a*b*x+c+(1|g)"]] <- run("a*b*x+c+(1|g)",e2)
write_json(list(versions=list(R=as.character(getRversion()),lme4=as.character(packageVersion("lme4")),lmerTest=as.character(packageVersion("lmerTest"))),tables=out),"anova.json",digits=10,auto_unbox=TRUE,na="null",pretty=FALSE)
