# Ordinal models with nominal effects, without random effects: ordinal::clm.
# clmm has no nominal effects, so that the reference holds at a standard deviation of zero.
#   Rscript tests/reference/nominal.R > tests/reference/nominal.json
suppressMessages(library(ordinal))
data(wine)

one <- function(link, threshold) {
  m <- clm(rating ~ temp, nominal = ~contact, data = wine, link = link, threshold = threshold,
    control = list(gradTol = 1e-10))
  terms <- paste0('"', sub("\\.\\(Intercept\\)$", "", names(coef(m))), '"', collapse = ", ")
  sprintf('    {"link": "%s", "threshold": "%s", "loglik": %.10f,\n     "terms": [%s],\n     "coef": [%s]}',
    link, threshold, as.numeric(logLik(m)), terms, paste(sprintf("%.8f", coef(m)), collapse = ", "))
}
cases <- c()
for (threshold in c("flexible", "symmetric", "equidistant"))
  for (link in c("logit", "probit", "cloglog", "cauchit")) cases <- c(cases, one(link, threshold))
cat(sprintf('{\n  "versions": {"R": "%s", "ordinal": "%s"},\n  "clm": [\n%s\n  ]\n}\n',
  as.character(getRversion()), as.character(packageVersion("ordinal")),
  paste(cases, collapse = ",\n")))
