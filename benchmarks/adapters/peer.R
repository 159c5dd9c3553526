# A package of R, asked by JSON lines on standard input and answering on standard
# output. Times are taken inside R; reading the table is outside the clock.
# Rscript peer.R PACKAGE: the file PACKAGE.R beside it defines fit(), describe(last)
# and again (refitting one response, or NULL); degrees (of freedom by a method), if it can.
options(warn = -1, digits = 15)
package <- commandArgs(trailingOnly = TRUE)[1]
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1]))
started <- Sys.time()
suppressPackageStartupMessages(library(package, character.only = TRUE))
import_seconds <- as.numeric(Sys.time() - started, units = "secs")

status <- function(key) {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) character())
  found <- grep(paste0("^", key), lines, value = TRUE)
  if (length(found)) as.numeric(gsub("[^0-9]", "", found)) * 1024 else NULL
}

reset_peak <- function() {
  gc()
  tryCatch(cat("5", file = "/proc/self/clear_refs"), error = function(e) NULL)
}

answer <- function(...) {
  cat(jsonlite::toJSON(list(...), auto_unbox = TRUE, digits = I(15), null = "null"), "\n", sep = "")
  flush(stdout())
}

clock <- function(expression) {
  from <- Sys.time()
  force(expression)
  as.numeric(Sys.time() - from, units = "secs")
}

problem <- NULL
table <- NULL
last <- NULL
degrees <- NULL

source(file.path(here, paste0(package, ".R")))

operations <- list(
  open = function(order) {
    problem <<- order$problem
    problem$model <<- as.formula(problem$formula)
    table <<- read.csv(order$csv, stringsAsFactors = TRUE)
    for (name in problem$groups) table[[name]] <<- factor(table[[name]])
    answer(version = as.character(packageVersion(package)), import_seconds = import_seconds,
      language = R.version.string, blas = basename(sessionInfo()$BLAS))
  },
  fit = function(order) {
    if (isTRUE(order$memory)) reset_peak()
    before <- status("VmRSS")
    seconds <- vapply(seq_len(order$rounds), function(i) clock(last <<- fit()), 0)
    found <- describe(last)
    loglik <- if (isFALSE(found$comparable)) NULL else as.numeric(logLik(last))
    answer(seconds = I(seconds), loglik = loglik,
      evaluations = found$evaluations, converged = found$converged,
      before = before, peak = status("VmHWM"))
  },
  refit = function(order) {
    if (is.null(again)) stop("no refit")
    responses <- as.matrix(read.csv(order$csv, header = FALSE))[, seq_len(order$count), drop = FALSE]
    seconds <- clock(for (k in seq_len(ncol(responses))) again(last, responses[, k]))
    answer(seconds = seconds)
  },
  degrees = function(order) {
    if (is.null(degrees)) stop("no degrees of freedom")
    seconds <- clock(df <- degrees(last, order$method))
    answer(seconds = seconds, df = I(unname(df)))
  },
  bootstrap = function(order) {
    if (!exists("bootstrap", mode = "function")) stop("no bootstrap")
    answer(seconds = clock(bootstrap(last, order$count)))
  },
  profile = function(order) {
    if (!exists("profiled", mode = "function")) stop("no profile")
    answer(seconds = clock(profiled(last)))
  }
)

input <- file("stdin", "r")
while (length(line <- readLines(input, 1))) {
  order <- jsonlite::fromJSON(line, simplifyVector = TRUE)
  tryCatch(operations[[order$operation]](order), error = function(e) {
    answer(refused = conditionMessage(e))
  })
}
