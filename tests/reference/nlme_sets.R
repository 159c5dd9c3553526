# Reference values for tests/test_nlme_sets.py: nlme 3.1-162 (R 4.2.2) on its own example data, with residual
# correlations and variances that ranef shares. Each case is tried by both of nlme's optimisers; the greatest
# log-likelihood is kept. Writes nlme_sets.json: the tables that are not bundled, and each case in both languages.
suppressMessages({library(nlme); library(jsonlite)})
plain <- function(d) { d <- as.data.frame(d); for (v in names(d)) if (is.factor(d[[v]])) d[[v]] <- factor(as.character(d[[v]])); d }
sets <- list(dialyzer = plain(Dialyzer), wafer = plain(Wafer), gasoline = plain(Gasoline), rail = plain(Rail),
             pixel = plain(Pixel), loblolly = plain(Loblolly), wheat = plain(Wheat2), oxboys = plain(Oxboys),
             rats = plain(RatPupWeight), alfalfa = plain(Alfalfa), quake = plain(Earthquake), oats = plain(Oats),
             orthodont = plain(Orthodont), stool = plain(ergoStool), machines = plain(Machines), ovary = plain(Ovary),
             body = plain(BodyWeight))
sets$oats$plot <- interaction(sets$oats$Block, sets$oats$Variety, drop = TRUE, sep = ":")
sets$pixel$DogSide <- interaction(sets$pixel$Dog, sets$pixel$Side, drop = TRUE, sep = ":")
sets$wafer$ws <- interaction(sets$wafer$Wafer, sets$wafer$Site, drop = TRUE, sep = ":")
sets$machines$rep <- with(sets$machines, ave(score, Worker, FUN = seq_along))
sets$loblolly$age5 <- sets$loblolly$age / 5
sets$body$week <- sets$body$Time / 7
case <- function(set, fixed, random = "", correlation = "", weights = "", formula = fixed, residual = NULL, dispersion = NULL)
  list(set = set, fixed = fixed, random = random, correlation = correlation, weights = weights,
       formula = formula, residual = residual, dispersion = dispersion)
cases <- list(
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "corAR1(form = ~ index | Subject)", "",
       residual = "ar1(index | Subject)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "", "varPower(form = ~ pressure)", dispersion = "~ power(pressure)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "corAR1(form = ~ index | Subject)", "varPower(form = ~ pressure)",
       residual = "ar1(index | Subject)", dispersion = "~ power(pressure)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "corSymm(form = ~ index | Subject)", "varIdent(form = ~ 1 | index)",
       residual = "us(index | Subject)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "~ pressure | Subject", "", "varExp(form = ~ pressure)",
       "rate ~ (pressure + I(pressure^2)) * QB + (pressure | Subject)", dispersion = "~ exponential(pressure)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "~ 1 | Subject", "corARMA(form = ~ index | Subject, p = 1, q = 1)", "",
       "rate ~ (pressure + I(pressure^2)) * QB + (1 | Subject)", residual = "arma(index | Subject, p=1, q=1)"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "corCAR1(form = ~ pressure | Subject)", "varIdent(form = ~ 1 | QB)",
       residual = "car1(pressure | Subject)", dispersion = "~ QB"),
  case("dialyzer", "rate ~ (pressure + I(pressure^2)) * QB", "", "corGaus(form = ~ pressure | Subject, nugget = TRUE)", "",
       residual = "gau(pressure | Subject, nugget=True)"),
  case("wafer", "current ~ voltage + I(voltage^2)", "~ 1 | Wafer/Site", "corAR1(form = ~ step | Wafer/Site)", "",
       "current ~ voltage + I(voltage^2) + (1 | Wafer/Site)", residual = "ar1(step | Wafer/Site)"),
  case("wafer", "current ~ voltage + I(voltage^2)", "~ voltage | Wafer/Site", "", "varExp(form = ~ voltage)",
       "current ~ voltage + I(voltage^2) + (voltage | Wafer/Site)", dispersion = "~ exponential(voltage)"),
  case("wafer", "current ~ voltage + I(voltage^2)", "~ 1 | Wafer", "", "varIdent(form = ~ 1 | Wafer)",
       "current ~ voltage + I(voltage^2) + (1 | Wafer)", dispersion = "~ Wafer"),
  case("gasoline", "yield ~ endpoint", "~ 1 | Sample", "", "varPower(form = ~ endpoint)",
       "yield ~ endpoint + (1 | Sample)", dispersion = "~ power(endpoint)"),
  case("gasoline", "yield ~ endpoint + vapor", "", "corCompSymm(form = ~ 1 | Sample)", "", residual = "homcs(1 | Sample)"),
  case("gasoline", "yield ~ endpoint + vapor", "", "corExp(20, form = ~ endpoint | Sample)", "", residual = "exp(endpoint | Sample)"),
  case("gasoline", "yield ~ endpoint + vapor", "", "corGaus(20, form = ~ endpoint | Sample)", "", residual = "gau(endpoint | Sample)"),
  case("rail", "travel ~ 1", "", "corCompSymm(form = ~ 1 | Rail)", "", residual = "homcs(1 | Rail)"),
  case("rail", "travel ~ 1", "~ 1 | Rail", "", "varIdent(form = ~ 1 | early)", "travel ~ 1 + (1 | Rail)", dispersion = "~ early"),
  case("pixel", "pixel ~ day + I(day^2)", "~ day | Dog", "", "varExp(form = ~ day)",
       "pixel ~ day + I(day^2) + (day | Dog)", dispersion = "~ exponential(day)"),
  case("pixel", "pixel ~ day + I(day^2)", "~ 1 | Dog", "corCAR1(form = ~ day | Dog/Side)", "",
       "pixel ~ day + I(day^2) + (1 | Dog)", residual = "car1(day | Dog/Side)"),
  case("pixel", "pixel ~ day + I(day^2)", "~ 1 | Dog/Side", "corExp(form = ~ day | Dog/Side)", "varIdent(form = ~ 1 | Side)",
       "pixel ~ day + I(day^2) + (1 | Dog/Side)", residual = "exp(day | Dog/Side)", dispersion = "~ Side"),
  case("pixel", "pixel ~ day + I(day^2)", "", "corAR1(form = ~ day | DogSide)", "varPower(form = ~ day1)",
       residual = "ar1(day | DogSide)", dispersion = "~ power(day1)"),
  case("loblolly", "height ~ age + I(age^2)", "~ 1 | Seed", "corAR1(form = ~ place | Seed)", "",
       "height ~ age + I(age^2) + (1 | Seed)", residual = "ar1(place | Seed)"),
  case("loblolly", "height ~ age + I(age^2)", "~ age | Seed", "corCAR1(form = ~ age | Seed)", "",
       "height ~ age + I(age^2) + (age | Seed)", residual = "car1(age | Seed)"),
  case("loblolly", "height ~ age + I(age^2)", "", "corSymm(form = ~ place | Seed)", "varIdent(form = ~ 1 | place)",
       residual = "us(place | Seed)"),
  case("loblolly", "height ~ age + I(age^2)", "", "corAR1(form = ~ place | Seed)", "varIdent(form = ~ 1 | place)",
       residual = "hetar1(place | Seed)"),
  case("loblolly", "height ~ age + I(age^2)", "", "corCompSymm(form = ~ place | Seed)", "varIdent(form = ~ 1 | place)",
       residual = "cs(place | Seed)"),
  case("loblolly", "height ~ age + I(age^2)", "", "corARMA(form = ~ place | Seed, p = 2)", "", residual = "arma(place | Seed, p=2)"),
  case("wheat", "yield ~ variety", "", "corGaus(form = ~ latitude + longitude, nugget = TRUE)", "",
       residual = "gau(latitude + longitude, nugget=True)"),
  case("wheat", "yield ~ variety", "~ 1 | Block", "corExp(form = ~ latitude + longitude | Block)", "",
       "yield ~ variety + (1 | Block)", residual = "exp(latitude + longitude | Block)"),
  case("oxboys", "height ~ age + I(age^2)", "~ age | Subject", "corAR1(form = ~ occasion | Subject)", "",
       "height ~ age + I(age^2) + (age | Subject)", residual = "ar1(occasion | Subject)"),
  case("oxboys", "height ~ age + I(age^2)", "~ age | Subject", "corARMA(form = ~ occasion | Subject, q = 2)", "",
       "height ~ age + I(age^2) + (age | Subject)", residual = "arma(occasion | Subject, p=0, q=2)"),
  case("oxboys", "height ~ age + I(age^2)", "~ age | Subject", "corExp(form = ~ age | Subject, nugget = TRUE)", "",
       "height ~ age + I(age^2) + (age | Subject)", residual = "exp(age | Subject, nugget=True)"),
  case("rats", "weight ~ Treatment * sex + Lsize", "~ 1 | Litter", "", "varIdent(form = ~ 1 | Treatment)",
       "weight ~ Treatment * sex + Lsize + (1 | Litter)", dispersion = "~ Treatment"),
  case("rats", "weight ~ Treatment * sex + Lsize", "", "corCompSymm(form = ~ 1 | Litter)", "varIdent(form = ~ 1 | sex)",
       residual = "homcs(1 | Litter)", dispersion = "~ sex"),
  case("rats", "weight ~ Treatment * sex", "~ 1 | Litter", "", "varPower(form = ~ Lsize)",
       "weight ~ Treatment * sex + (1 | Litter)", dispersion = "~ power(Lsize)"),
  case("rats", "weight ~ Treatment * sex", "~ sex | Litter", "", "varComb(varIdent(form = ~ 1 | Treatment), varExp(form = ~ Lsize))",
       "weight ~ Treatment * sex + (sex | Litter)", dispersion = "~ Treatment + Lsize"),
  case("alfalfa", "Yield ~ Date * Variety", "~ 1 | Block/Variety", "", "varIdent(form = ~ 1 | Date)",
       "Yield ~ Date * Variety + (1 | Block/Variety)", dispersion = "~ Date"),
  case("alfalfa", "Yield ~ Date * Variety", "", "corSymm(form = ~ cut | plot)", "varIdent(form = ~ 1 | Date)", residual = "us(cut | plot)"),
  case("quake", "log(accel) ~ log(distance) + Richter", "~ 1 | Quake", "", "varPower(form = ~ distance)",
       "log(accel) ~ log(distance) + Richter + (1 | Quake)", dispersion = "~ power(distance)"),
  case("quake", "log(accel) ~ log(distance) + Richter", "~ 1 | Quake", "", "varExp(form = ~ Richter)",
       "log(accel) ~ log(distance) + Richter + (1 | Quake)", dispersion = "~ exponential(Richter)"),
  case("oats", "yield ~ nitro * Variety", "~ 1 | Block", "corAR1(form = ~ dose | Block/plot)", "",
       "yield ~ nitro * Variety + (1 | Block)", residual = "ar1(dose | plot)"),
  case("oats", "yield ~ nitro * Variety", "~ 1 | Block", "corCompSymm(form = ~ 1 | Block/plot)", "",
       "yield ~ nitro * Variety + (1 | Block)", residual = "homcs(1 | plot)"),
  case("oats", "yield ~ nitro * Variety", "~ 1 | Block/Variety", "", "varIdent(form = ~ 1 | Variety)",
       "yield ~ nitro * Variety + (1 | Block/Variety)", dispersion = "~ Variety"),
  case("oats", "yield ~ nitro * Variety", "", "corSymm(form = ~ dose | plot)", "varIdent(form = ~ 1 | dose)", residual = "us(dose | plot)"),
  case("orthodont", "distance ~ age * Sex", "~ age | Subject", "", "varIdent(form = ~ 1 | Sex)",
       "distance ~ age * Sex + (age | Subject)", dispersion = "~ Sex"),
  case("orthodont", "distance ~ age * Sex", "~ 1 | Subject", "corARMA(form = ~ visit | Subject, q = 1)", "varIdent(form = ~ 1 | Sex)",
       "distance ~ age * Sex + (1 | Subject)", residual = "arma(visit | Subject, p=0, q=1)", dispersion = "~ Sex"),
  case("orthodont", "distance ~ age * Sex", "", "corExp(form = ~ age | Subject, nugget = TRUE)", "varIdent(form = ~ 1 | Sex)",
       residual = "exp(age | Subject, nugget=True)", dispersion = "~ Sex"),
  case("orthodont", "distance ~ age * Sex", "", "corARMA(form = ~ visit | Subject, p = 1, q = 1)", "", residual = "arma(visit | Subject, p=1, q=1)"),
  case("stool", "effort ~ Type", "~ 1 | Subject", "", "varIdent(form = ~ 1 | Type)", "effort ~ Type + (1 | Subject)", dispersion = "~ Type"),
  case("stool", "effort ~ Type", "", "corCompSymm(form = ~ 1 | Subject)", "varIdent(form = ~ 1 | Type)", residual = "cs(Type | Subject)"),
  case("stool", "effort ~ Type", "", "corSymm(form = ~ 1 | Subject)", "varIdent(form = ~ 1 | Type)", residual = "us(Type | Subject)"),
  case("machines", "score ~ Machine", "~ 1 | Worker/Machine", "", "varIdent(form = ~ 1 | Machine)",
       "score ~ Machine + (1 | Worker/Machine)", dispersion = "~ Machine"),
  case("machines", "score ~ Machine", "~ Machine | Worker", "", "varIdent(form = ~ 1 | Machine)",
       "score ~ Machine + (Machine | Worker)", dispersion = "~ Machine"),
  case("ovary", "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)", "", "corARMA(form = ~ obs | Mare, p = 2, q = 1)", "",
       residual = "arma(obs | Mare, p=2, q=1)"),
  case("ovary", "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)", "~ 0 + sin(2 * pi * Time) | Mare", "corAR1(form = ~ obs | Mare)", "varExp(form = ~ Time)",
       "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time) + (0 + sin(2 * pi * Time) | Mare)", residual = "ar1(obs | Mare)", dispersion = "~ Time"),
  case("ovary", "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)", "", "corCAR1(form = ~ Time | Mare)", "", residual = "car1(Time | Mare)"),
  case("ovary", "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)", "", "corExp(form = ~ Time | Mare, nugget = TRUE)", "",
       residual = "exp(Time | Mare, nugget=True)"),
  case("body", "weight ~ Time * Diet", "~ Time | Rat", "corExp(form = ~ Time | Rat, nugget = TRUE)", "varPower(form = ~ Time)",
       "weight ~ Time * Diet + (Time | Rat)", residual = "exp(Time | Rat, nugget=True)", dispersion = "~ power(Time)"),
  case("body", "weight ~ Time * Diet", "~ 1 | Rat", "corGaus(form = ~ Time | Rat)", "varIdent(form = ~ 1 | Diet)",
       "weight ~ Time * Diet + (1 | Rat)", residual = "gau(Time | Rat)", dispersion = "~ Diet"),
  case("body", "weight ~ Time * Diet", "", "corAR1(form = ~ place | Rat)", "varExp(form = ~ Time)",
       residual = "ar1(place | Rat)", dispersion = "~ exponential(Time)"))
sets$wafer$step <- as.integer(round(sets$wafer$voltage / 0.4)) - 1L
sets$pixel$day1 <- sets$pixel$day + 1
sets$rail$early <- factor(ifelse(as.integer(as.character(sets$rail$Rail)) <= 3, "yes", "no"), c("no", "yes"))
sets$loblolly$place <- ave(sets$loblolly$age, sets$loblolly$Seed, FUN = rank)
sets$oxboys$occasion <- ave(sets$oxboys$age, sets$oxboys$Subject, FUN = rank)
sets$alfalfa$cut <- as.integer(sets$alfalfa$Date)
sets$alfalfa$plot <- interaction(sets$alfalfa$Block, sets$alfalfa$Variety, drop = TRUE, sep = ":")
sets$oats$dose <- as.integer(round(sets$oats$nitro / 0.2)) + 1L
sets$orthodont$visit <- (sets$orthodont$age - 6) / 2
sets$ovary$obs <- ave(sets$ovary$Time, sets$ovary$Mare, FUN = rank)
sets$body$place <- ave(sets$body$Time, sets$body$Rat, FUN = rank)
read <- function(s) if (s == "") NULL else eval(parse(text = s))
fit <- function(k, method, opt) {
  d <- sets[[k$set]]
  if (k$random == "")
    gls(read(k$fixed), d, correlation = read(k$correlation), weights = read(k$weights), method = method,
        control = glsControl(opt = opt, msMaxIter = 500, maxIter = 300, optimMethod = "BFGS"))
  else lme(read(k$fixed), d, read(k$random), correlation = read(k$correlation), weights = read(k$weights), method = method,
           control = lmeControl(opt = opt, msMaxIter = 500, maxIter = 300, niterEM = 40))
}
for (i in seq_along(cases)) for (method in c("ML", "REML")) {
  k <- cases[[i]]
  f <- lapply(if (k$set == "wheat") "nlminb" else c("nlminb", "optim"), function(o) try({ setTimeLimit(elapsed = 60, transient = TRUE); f <- fit(k, method, o); setTimeLimit(); f }, silent = TRUE))
  why <- sapply(f, function(x) if (inherits(x, "try-error")) sub("\n", "", x) else "")
  v <- sapply(f, function(x) if (inherits(x, "try-error")) NA else as.numeric(logLik(x)))
  cases[[i]][[method]] <- if (all(is.na(v))) NULL else max(v, na.rm = TRUE)
  best <- if (all(is.na(v))) NULL else f[[which.max(v)]]
  if (!is.null(best) && method == "REML") {
    t <- summary(best)$tTable
    cases[[i]]$coef <- setNames(as.list(t[, 1]), rownames(t)); cases[[i]]$se <- setNames(as.list(t[, "Std.Error"]), rownames(t))
  }
  cat(i, k$set, k$random, k$correlation, k$weights, method, format(v, digits = 10), if (all(is.na(v))) why[1], "\n")
}
used <- unique(sapply(cases, `[[`, "set"))
writeLines(toJSON(list(made_by = "nlme 3.1-162", data = sets[used], cases = cases), digits = 10, auto_unbox = TRUE, dataframe = "columns", null = "null"), "nlme_sets.json")
