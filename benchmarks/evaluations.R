# What one evaluation of glmer's criterion takes, where its whole search takes too long to wait for:
# seconds of one core at six points near the optimum that ranef found.
#
#     Rscript benchmarks/evaluations.R table.csv '0.65 0.52 0.40' '-0.7 0.35 0.0'
#
# The table is that of `movers` in tests/shapes.py; then the standard deviations of pupils, teachers
# and schools, and the coefficients.
suppressMessages(library(lme4))
given <- commandArgs(TRUE)
numbers <- function(text) as.numeric(strsplit(text, " +")[[1]])
table <- read.csv(given[1])
parts <- glFormula(passed ~ x + grade + (1 | pupil) + (1 | teacher) + (1 | school), table,
                   family = binomial)
sds <- setNames(numbers(given[2]), c("pupil", "teacher", "school"))[names(parts$reTrms$cnms)]
criterion <- updateGlmerDevfun(do.call(mkGlmerDevfun, parts), parts$reTrms)
seconds <- function() sum(proc.time()[1:2])
set.seed(1)
invisible(criterion(c(sds, numbers(given[3]))))
begun <- seconds()
for (i in 1:6) criterion(c(sds, numbers(given[3])) * exp(rnorm(6, 0, 0.02)))
cat((seconds() - begun) / 6, "seconds an evaluation\n")
