# Reference values of linear mixed models on the bundled data.
#   Rscript tests/reference/lmm.R      (from the project's root)
# writes tests/reference/lmm.json. Treatment contrasts throughout.
source("tests/reference/tight.R")
library(splines)

bundled <- function(name, package) {
  home <- new.env()
  data(list = name, package = package, envir = home)
  as.data.frame(home[[name]])
}

tables <- c(
  sapply(c("sleepstudy", "Dyestuff", "Dyestuff2", "Penicillin", "Pastes", "cake"),
    bundled, package = "lme4", simplify = FALSE),
  sapply(c("Machines", "Oats", "Orthodont", "ergoStool"), bundled, package = "nlme",
    simplify = FALSE)
)

# Columns that cases add to a table; the same numbers go into the JSON file.
rows <- seq_len(nrow(tables$sleepstudy))
sleep_extra <- list(
  w = round(0.5 + (rows * 7) %% 11 / 5, 3), shift = round(5 * sin(rows), 3),
  noise = round(cos(1.7 * rows^1.5), 3)
)

case <- function(table, formula, ..., add = NULL, drop = NULL, missing = NULL,
                 weights = NULL, offset = NULL) {
  stopifnot(...length() == 0)
  list(table = table, formula = formula, add = add, drop = drop, missing = missing,
    weights = weights, offset = offset)
}

cases <- list(
  sleep_slope = case("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  sleep_int = case("sleepstudy", "Reaction ~ Days + (1 | Subject)"),
  sleep_diag = case("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
  sleep_split = case("sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"),
  sleep_slope_only = case("sleepstudy", "Reaction ~ Days + (0 + Days | Subject)"),
  sleep_log = case("sleepstudy", "log(Reaction) ~ Days + (Days | Subject)"),
  sleep_square = case("sleepstudy", "Reaction ~ Days + I(Days^2) + (Days | Subject)"),
  sleep_poly = case("sleepstudy", "Reaction ~ poly(Days, 2) + (Days | Subject)"),
  sleep_poly_random = case("sleepstudy", "Reaction ~ Days + (poly(Days, 2) | Subject)"),
  sleep_ns = case("sleepstudy", "Reaction ~ ns(Days, df = 3) + (1 | Subject)"),
  sleep_bs = case("sleepstudy", "Reaction ~ bs(Days, df = 4) + (Days | Subject)"),
  sleep_scale = case("sleepstudy", "Reaction ~ scale(Days) + (scale(Days) | Subject)"),
  sleep_factor = case("sleepstudy", "Reaction ~ factor(Days) + (1 | Subject)"),
  sleep_rank = case("sleepstudy", "Reaction ~ Days + I(2 * Days) + I(Days > 4) + (Days | Subject)"),
  sleep_noise = case("sleepstudy", "Reaction ~ Days + (noise | Subject)", add = sleep_extra["noise"]),
  sleep_three = case("sleepstudy", "Reaction ~ Days + (Days | Subject) + (0 + noise | Subject)",
    add = sleep_extra["noise"]),
  sleep_weights = case("sleepstudy", "Reaction ~ Days + (Days | Subject)",
    add = sleep_extra["w"], weights = "w"),
  sleep_offset = case("sleepstudy", "Reaction ~ Days + offset(shift) + (Days | Subject)",
    add = sleep_extra["shift"]),
  sleep_weights_offset = case("sleepstudy", "Reaction ~ Days + (1 | Subject)",
    add = sleep_extra[c("w", "shift")], weights = "w", offset = "shift"),
  sleep_missing = case("sleepstudy", "Reaction ~ Days + (Days | Subject)",
    missing = list(Reaction = c(3, 40, 41), Days = c(40, 77), Subject = 180)),
  dyestuff = case("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
  dyestuff2 = case("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
  penicillin = case("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  pastes = case("Pastes", "strength ~ 1 + (1 | batch/cask)"),
  pastes_sample = case("Pastes", "strength ~ 1 + (1 | sample) + (1 | batch)"),
  cake = case("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
  cake_slope = case("cake", "angle ~ recipe + temp + (scale(temp) | recipe:replicate)"),
  cake_crossed = case("cake", "angle ~ recipe + temp + (1 | replicate) + (1 | recipe:replicate)"),
  machines = case("Machines", "score ~ Machine + (Machine | Worker)"),
  machines_cells = case("Machines", "score ~ Machine + (0 + Machine | Worker)"),
  machines_nested = case("Machines", "score ~ Machine + (1 | Worker/Machine)"),
  oats = case("Oats", "yield ~ Variety * factor(nitro) + (1 | Block/Variety)"),
  oats_add = case("Oats", "yield ~ Variety + factor(nitro) + (1 | Block/Variety)"),
  oats_unbalanced = case("Oats", "yield ~ Variety + factor(nitro) + (1 | Block/Variety)",
    drop = c(1, 2, 3, 5, 8, 13, 21, 34, 55)),
  oats_slope = case("Oats", "yield ~ nitro + (nitro | Block) + (1 | Block:Variety)"),
  orthodont = case("Orthodont", "distance ~ I(age - 11) * Sex + (1 | Subject)"),
  orthodont_slope = case("Orthodont", "distance ~ I(age - 11) * Sex + (I(age - 11) | Subject)"),
  orthodont_raw = case("Orthodont", "distance ~ age * Sex + (age | Subject)"),
  orthodont_diag = case("Orthodont", "distance ~ age * Sex + (age || Subject)"),
  ergo = case("ergoStool", "effort ~ Type + (1 | Subject)"),
  ergo_sum = case("ergoStool", "effort ~ C(Type, contr.sum) + (1 | Subject)")
)

prepare <- function(case) {
  table <- tables[[case$table]]
  for (name in names(case$add)) table[[name]] <- case$add[[name]]
  for (name in names(case$missing)) table[[name]][case$missing[[name]]] <- NA
  if (length(case$drop)) table <- table[-case$drop, ]
  table
}

fit_case <- function(case, reml) {
  table <- prepare(case)
  arguments <- list(as.formula(case$formula), table, reml)
  for (extra in c("weights", "offset")) {
    if (!is.null(case[[extra]])) arguments[[extra]] <- table[[case[[extra]]]]
  }
  do.call(tight_fit, arguments)
}

results <- list()
for (name in names(cases)) {
  entry <- cases[[name]]
  for (field in c("add", "missing")) {
    if (length(entry[[field]])) entry[[field]] <- lapply(entry[[field]], I)
  }
  if (length(entry$drop)) entry$drop <- I(entry$drop)
  entry$fits <- list(
    reml = describe_fit(fit_case(cases[[name]], TRUE)),
    ml = describe_fit(fit_case(cases[[name]], FALSE))
  )
  cat(sprintf("%-22s reml %.6f  ml %.6f  %s\n", name, entry$fits$reml$loglik, entry$fits$ml$loglik,
    if (entry$fits$reml$singular) "singular" else ""))
  results[[name]] <- entry
}
write_reference(results, "tests/reference/lmm.json")
