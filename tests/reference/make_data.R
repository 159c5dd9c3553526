# The bundled data sets as CSV, with the levels of their factors as JSON.
#   Rscript tests/reference/make_data.R FOLDER
# tests/reference/make_data.py turns the folder into Parquet files. Also writes
# tests/reference/data.json: a fingerprint of each column, sum(i * value[i]), a
# factor's value being its code.
library(jsonlite)
folder <- commandArgs(trailingOnly = TRUE)[1]
dir.create(folder, showWarnings = FALSE, recursive = TRUE)

sets <- list(
  lme4 = c("sleepstudy", "Dyestuff", "Dyestuff2", "Penicillin", "Pastes", "cake", "cbpp"),
  nlme = c("Machines", "Oats", "Orthodont", "ergoStool"),
  geepack = c("ohio", "respiratory"),
  glmmTMB = "Salamanders",
  ordinal = "wine",
  metadat = "dat.bcg" # as bcg, its texts as factors in the order of the rows
)

describe_column <- function(x) {
  if (is.factor(x)) {
    list(kind = "factor", ordered = is.ordered(x), levels = I(levels(x)))
  } else {
    list(kind = if (is.integer(x)) "integer" else "double")
  }
}

fingerprint <- function(x) sum(seq_along(x) * as.numeric(x))

prints <- list()
for (package in names(sets)) for (name in sets[[package]]) {
  home <- new.env()
  data(list = name, package = package, envir = home)
  table <- as.data.frame(home[[name]])
  name <- sub("^dat\\.", "", name)
  texts <- vapply(table, is.character, logical(1))
  table[texts] <- lapply(table[texts], function(x) factor(x, levels = unique(x)))
  attributes(table)[setdiff(names(attributes(table)), c("names", "row.names", "class"))] <- NULL
  write.csv(table, file.path(folder, paste0(name, ".csv")), row.names = FALSE, fileEncoding = "UTF-8")
  schema <- list(
    package = paste(package, packageVersion(package)),
    rows = nrow(table), columns = lapply(table, describe_column)
  )
  write_json(schema, file.path(folder, paste0(name, ".json")), auto_unbox = TRUE, pretty = TRUE)
  prints[[name]] <- c(schema, list(fingerprints = lapply(table, fingerprint)))
}
write_json(prints, "tests/reference/data.json", auto_unbox = TRUE, pretty = TRUE, digits = I(15))
