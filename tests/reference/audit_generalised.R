# Fits of R's packages to simulated tables that no other test uses (audit_generalised_data.json:
# a diary of drinking with missing cells, infections in wards with patient-days, counts with
# extra zeros, ratings of items by raters). Run in this folder:  Rscript audit_generalised.R
suppressMessages({library(lme4);library(glmmTMB);library(ordinal);library(emmeans);library(jsonlite)})
data <- lapply(fromJSON("audit_generalised_data.json"), as.data.frame)
d <- data$diary; d$trt <- factor(d$trt); w <- data$wards; cn <- data$counts; cr <- data$crossed
cn$hab<-factor(cn$hab);w$type<-factor(w$type);cr$grp<-factor(cr$grp)
out<-list()
S<-function(m){list(ll=as.numeric(logLik(m)),df=attr(logLik(m),"df"),b=unlist(fixef(m)),se=sqrt(unlist(lapply(vcov(m),diag))),sd=unlist(lapply(VarCorr(m)$cond,function(v)attr(v,"stddev"))),sig=sigma(m))}
ctl<-glmmTMBControl(optCtrl=list(iter.max=2000,eval.max=2000,rel.tol=1e-14))
F<-function(...)glmmTMB(...,control=ctl)
ms<-list(
diary=F(drink~trt+stress+day+(stress|person),d,family=binomial),
wards=F(inf~type+age+offset(log(days))+(1|ward),w,family=poisson),
nb2=F(y2~x+hab+(1|site),cn,family=nbinom2,dispformula=~x),
nb1=F(y1~x+hab+(1|site),cn,family=nbinom1,dispformula=~x),
zinb=F(zi~x+hab+(1|site),cn,family=nbinom2,ziformula=~hab),
zip=F(zip~x+hab+(1|site),cn,family=poisson,ziformula=~hab+(1|site)),
hur=F(hur~x+hab+(1|site),cn,family=truncated_poisson,ziformula=~hab),
bin=F(cbind(s,tr-s)~x+grp+(1|rater)+(1|item),cr,family=binomial),
bb=F(cbind(s,tr-s)~x+grp+(1|rater)+(1|item),cr,family=betabinomial),
beta=F(beta~x+grp+(1|rater)+(1|item),cr,family=beta_family),
gam=F(cost~x+grp+(1|rater)+(1|item),cr,family=Gamma("log")),
tw=F(tw~x+grp+(1|rater)+(1|item),cr,family=tweedie),
cl=F(yb~x+grp+(1|rater)+(1|item),cr,family=binomial("cloglog")))
out<-lapply(ms,S)
cr$ord<-factor(cr$ord,ordered=TRUE);cr$rater<-factor(cr$rater)
o<-clmm(ord~x+grp+(x|rater),cr,control=clmm.control(gradTol=1e-8))
out$ord<-list(ll=as.numeric(logLik(o)),b=coef(o),se=sqrt(diag(vcov(o)))[1:6])
em<-function(m,...)as.data.frame(summary(emmeans(m,...)))
out$em<-list(diary=em(ms$diary,"trt"),diary_r=em(ms$diary,"trt",type="response"),wards_r=em(ms$wards,"type",type="response",offset=log(100)),wards_def=em(ms$wards,"type",type="response"),nb2=as.data.frame(confint(contrast(emmeans(ms$nb2,"hab",type="response"),"pairwise"))),zi=em(ms$zinb,"hab",component="zi",type="response"),bin=as.data.frame(summary(contrast(emmeans(ms$bin,"grp",type="response"),"revpairwise"),infer=TRUE)),
zresp=tryCatch(em(ms$zinb,"hab",component="response"),error=function(e)paste(e)),joint=as.data.frame(joint_tests(ms$nb2)),tr=as.data.frame(emtrends(ms$diary,"trt","stress")))
out$prof<-tryCatch(as.data.frame(confint(ms$wards,method="profile",parm="beta_")),error=function(e)paste(e))
g<-glmer(inf~type+age+offset(log(days))+(1|ward),w,family=poisson,control=glmerControl(tolPwrss=1e-11,optimizer="bobyqa"))
out$profg<-as.data.frame(confint(g,method="profile"))
out$ver<-sapply(c("lme4","glmmTMB","ordinal","emmeans"),function(p)as.character(packageVersion(p)))
write_json(out,"audit_generalised.json",digits=NA,auto_unbox=TRUE,dataframe="columns",pretty=FALSE)
