"""What each bundled data set is, where it comes from, and how to cite it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from ranef.errors import DataError, suggestion

__all__ = ["Description", "describe", "names"]

LICENCE = (
    "Measurements published in the source cited, compiled by the R package named; "
    "please cite the source when you use them. ranef claims no rights in them."
)


@dataclass(frozen=True)
class Description:
    """A bundled data set in words.

    Attributes
    ----------
    name : str
        What `ranef.data.load` takes.
    title : str
    source : str
        The study, and the R package that distributes the table.
    citation : str
        The publication to cite.
    rows : int
    columns : dict
        Column name -> its meaning, in the table's order.
    formula : str
        A model that suits the data.
    licence : str
    """

    name: str
    title: str
    source: str
    citation: str
    rows: int
    columns: Mapping[str, str]
    formula: str
    licence: str = LICENCE

    def __str__(self) -> str:
        width = max(map(len, self.columns))
        lines = [f"{self.name}: {self.title}", f"{self.rows} rows, {len(self.columns)} columns"]
        lines += [f"  {name:<{width}}  {text}" for name, text in self.columns.items()]
        parts = {
            "Model": self.formula,
            "Source": self.source,
            "Citation": self.citation,
            "Licence": self.licence,
        }
        for head, text in parts.items():
            lines += textwrap.wrap(f"{head}: {text}", 79, subsequent_indent="  ")
        return "\n".join(lines)


DAVIES = (
    "Davies OL, Goldsmith PL (eds) (1972). Statistical Methods in Research and "
    "Production, 4th ed. Oliver and Boyd, Edinburgh. Section {}."
)
PINHEIRO_BATES = (
    "Also in Pinheiro JC, Bates DM (2000), Mixed-Effects Models in S and S-PLUS, "
    "Springer, Appendix {}."
)

CATALOGUE = (
    Description(
        name="sleepstudy",
        title="reaction times in a sleep deprivation study",
        source=(
            "Average reaction time per day of the 18 subjects restricted to 3 hours in bed; "
            "R package lme4."
        ),
        citation=(
            "Belenky G, Wesensten NJ, Thorne DR, Thomas ML, Sing HC, Redmond DP, Russo MB, "
            "Balkin TJ (2003). Patterns of performance degradation and restoration during "
            "sleep restriction and subsequent recovery: a sleep dose-response study. "
            "Journal of Sleep Research 12, 1-12."
        ),
        rows=180,
        columns={
            "Reaction": "average reaction time on the day (ms)",
            "Days": "day of the study; days 0 and 1 adaptation, day 2 baseline",
            "Subject": "subject, 18 levels",
        },
        formula="Reaction ~ Days + (Days | Subject)",
    ),
    Description(
        name="Dyestuff",
        title="yield of dyestuff by batch",
        source=(
            "Yield of Naphthalene Black 12B from 5 preparations of each of 6 batches of "
            "an intermediate product; R package lme4."
        ),
        citation=DAVIES.format("6.4"),
        rows=30,
        columns={
            "Batch": "batch of the intermediate product, 6 levels",
            "Yield": "yield of dyestuff (grams of standard colour)",
        },
        formula="Yield ~ 1 + (1 | Batch)",
    ),
    Description(
        name="Dyestuff2",
        title="generated dyestuff yields without a batch effect",
        source=(
            "Generated values in the layout of Dyestuff whose batch variance is estimated "
            "as zero; R package lme4."
        ),
        citation=(
            "Box GEP, Tiao GC (1973). Bayesian Inference in Statistical Analysis. "
            "Addison-Wesley, Reading. Section 5.1.2."
        ),
        rows=30,
        columns={
            "Batch": "batch, 6 levels",
            "Yield": "generated yield",
        },
        formula="Yield ~ 1 + (1 | Batch)",
    ),
    Description(
        name="Penicillin",
        title="variation in penicillin testing",
        source=(
            "Six samples of penicillin tested by the B. subtilis plate method on each of "
            "24 plates; R package lme4."
        ),
        citation=DAVIES.format("6.6"),
        rows=144,
        columns={
            "diameter": "diameter of the zone without growth (mm)",
            "plate": "assay plate, 24 levels",
            "sample": "penicillin sample, 6 levels",
        },
        formula="diameter ~ 1 + (1 | plate) + (1 | sample)",
    ),
    Description(
        name="Pastes",
        title="strength of a chemical paste by batch and cask",
        source=("Two assays of each of 3 casks from each of 10 delivery batches; R package lme4."),
        citation=DAVIES.format("6.5"),
        rows=60,
        columns={
            "strength": "paste strength",
            "batch": "delivery batch, 10 levels",
            "cask": "cask within the batch, 3 levels that repeat in each batch",
            "sample": "batch and cask together, 30 levels",
        },
        formula="strength ~ 1 + (1 | batch/cask)",
    ),
    Description(
        name="cake",
        title="breakage angle of chocolate cakes",
        source=(
            "Split-plot experiment: 3 recipes in 15 replicates each, 6 baking temperatures "
            "within a replicate; R package lme4."
        ),
        citation=(
            "Cook FE (1938). Chocolate cake, I. Optimum baking temperature. Master's thesis, "
            "Iowa State College. Reported in Cochran WG, Cox GM (1957), Experimental Designs, "
            "2nd ed., Wiley, New York, p. 300."
        ),
        rows=270,
        columns={
            "replicate": "replicate within the recipe, 15 levels that repeat in each recipe",
            "recipe": "recipe, A to C",
            "temperature": "baking temperature (degrees F), ordered, 6 levels",
            "angle": "angle at which the cake broke (degrees)",
            "temp": "baking temperature as a number",
        },
        formula="angle ~ recipe * temperature + (1 | recipe:replicate)",
    ),
    Description(
        name="Machines",
        title="productivity scores for machines and workers",
        source="Six workers, each three times on three machines; R package nlme.",
        citation=(
            "Milliken GA, Johnson DE (1992). Analysis of Messy Data, Volume I: Designed "
            "Experiments. Chapman and Hall, London, p. 285. " + PINHEIRO_BATES.format("A.14")
        ),
        rows=54,
        columns={
            "Worker": "worker, 6 levels ordered by largest score",
            "Machine": "brand of machine, A to C",
            "score": "productivity score",
        },
        formula="score ~ Machine + (Machine | Worker)",
    ),
    Description(
        name="Oats",
        title="split-plot experiment on varieties of oats",
        source=(
            "Three varieties on the whole plots and four amounts of nitrogen on the subplots "
            "of six blocks; R package nlme."
        ),
        citation=(
            "Yates F (1935). Complex experiments. Supplement to the Journal of the Royal "
            "Statistical Society 2, 181-247. " + PINHEIRO_BATES.format("A.15")
        ),
        rows=72,
        columns={
            "Block": "block, 6 levels ordered by largest yield",
            "Variety": "variety of oats, 3 levels",
            "nitro": "nitrogen (cwt per acre)",
            "yield": "yield (bushels per acre)",
        },
        formula="yield ~ nitro + Variety + (1 | Block/Variety)",
    ),
    Description(
        name="Orthodont",
        title="growth of an orthodontic distance",
        source=(
            "Distance from the pituitary gland to the pterygomaxillary fissure of 27 children "
            "at ages 8, 10, 12 and 14; R package nlme."
        ),
        citation=(
            "Potthoff RF, Roy SN (1964). A generalized multivariate analysis of variance model "
            "useful especially for growth curve problems. Biometrika 51, 313-326. "
            + PINHEIRO_BATES.format("A.17")
        ),
        rows=108,
        columns={
            "distance": "distance from pituitary to pterygomaxillary fissure (mm)",
            "age": "age (years)",
            "Subject": "child, 27 levels ordered by mean distance within sex",
            "Sex": "Male or Female",
        },
        formula="distance ~ age * Sex + (age | Subject)",
    ),
    Description(
        name="ergoStool",
        title="effort to arise from four types of stool",
        source="Nine subjects, each on four types of stool; R package nlme.",
        citation=(
            "Devore JL (2000). Probability and Statistics for Engineering and the Sciences, "
            "5th ed. Duxbury, Boston. " + PINHEIRO_BATES.format("A.9")
        ),
        rows=36,
        columns={
            "effort": "effort to arise from the stool (Borg scale)",
            "Type": "type of stool, T1 to T4",
            "Subject": "subject, 9 levels ordered by mean effort",
        },
        formula="effort ~ Type + (1 | Subject)",
    ),
    Description(
        name="cbpp",
        title="contagious bovine pleuropneumonia in zebu herds",
        source=(
            "New serological cases by herd and period of about three months, after the disease "
            "entered the herd; 15 commercial herds in Ethiopia; R package lme4."
        ),
        citation=(
            "Lesnoff M, Laval G, Bonnet P, Abdicho S, Workalemahu A, Kifle D, Peyraud A, Lancelot "
            "R, Thiaucourt F (2004). Within-herd spread of contagious bovine pleuropneumonia in "
            "Ethiopian highlands. Preventive Veterinary Medicine 64, 27-40."
        ),
        rows=56,
        columns={
            "herd": "herd, 15 levels",
            "incidence": "new cases in the period",
            "size": "animals at risk at the beginning of the period",
            "period": "period, 4 levels",
        },
        formula="cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ),
    Description(
        name="ohio",
        title="wheeze in children of Steubenville, Ohio",
        source=(
            "Wheezing status of 537 children at ages 7 to 10, and whether the mother smoked at "
            "the start; R package geepack."
        ),
        citation=(
            "Fitzmaurice GM, Laird NM (1993). A likelihood-based method for analysing "
            "longitudinal binary responses. Biometrika 80, 141-151."
        ),
        rows=2148,
        columns={
            "resp": "1 if the child wheezed, else 0",
            "id": "child, 537 numbers",
            "age": "age in years minus 9",
            "smoke": "1 if the mother smoked at the first year of the study, else 0",
        },
        formula="resp ~ age * smoke + (1 | id)",
    ),
    Description(
        name="respiratory",
        title="a trial of a treatment of a respiratory illness",
        source=(
            "Respiratory status of 111 patients of two centres at four visits, randomised to "
            "active treatment or placebo; R package geepack."
        ),
        citation=(
            "Koch GG, Carr GJ, Amara IA, Stokes ME, Uryniak TJ (1990). Categorical data analysis. "
            "In: Berry DA (ed), Statistical Methodology in the Pharmaceutical Sciences, Marcel "
            "Dekker, New York, 391-475."
        ),
        rows=444,
        columns={
            "center": "centre, 1 or 2",
            "id": "patient, numbered from 1 in each centre",
            "treat": "treatment: A (active) or P (placebo)",
            "sex": "sex: F or M",
            "age": "age at the start (years)",
            "baseline": "respiratory status at the start: 1 good, 0 poor",
            "visit": "visit, 1 to 4",
            "outcome": "respiratory status at the visit: 1 good, 0 poor",
        },
        formula="outcome ~ treat + baseline + age + (1 | center:id)",
    ),
    Description(
        name="Salamanders",
        title="salamanders in streams below mountaintop mining",
        source=(
            "Counts of salamanders by species and life stage at 23 sites, each sampled four "
            "times; R package glmmTMB, from the authors' data on Dryad (CC0)."
        ),
        citation=(
            "Price SJ, Muncy BL, Bonner SJ, Drayer AN, Barton CD (2016). Effects of mountaintop "
            "removal mining and valley filling on the occupancy and abundance of stream "
            "salamanders. Journal of Applied Ecology 53, 459-468."
        ),
        rows=644,
        columns={
            "site": "site, 23 levels",
            "mined": "whether the site is affected by mining",
            "cover": "cover objects in the stream (scaled)",
            "sample": "number of the sample, 1 to 4",
            "DOP": "days since precipitation (scaled)",
            "Wtemp": "water temperature (scaled)",
            "DOY": "day of the year (scaled)",
            "spp": "species, larvae and adults apart: 7 levels",
            "count": "salamanders seen",
        },
        formula="count ~ spp * mined + (1 | site)",
    ),
    Description(
        name="wine",
        title="bitterness of white wine",
        source=(
            "Ratings by 9 judges of 8 bottles, two of each combination of temperature and "
            "contact with the skins while pressing; R package ordinal."
        ),
        citation=(
            "Randall JH (1989). The analysis of sensory data by generalized linear model. "
            "Biometrical Journal 31, 781-793."
        ),
        rows=72,
        columns={
            "response": "bitterness on a scale from 0 to 100",
            "rating": "the same in 5 ordered categories, 1 the least bitter",
            "temp": "temperature while pressing, cold or warm",
            "contact": "contact of juice and skins while pressing, no or yes",
            "bottle": "bottle, 8 levels",
            "judge": "judge, 9 levels",
        },
        formula="rating ~ temp + contact + (1 | judge)",
    ),
    Description(
        name="bcg",
        title="trials of the BCG vaccine against tuberculosis",
        source="13 trials, persons vaccinated and not; R package metadat.",
        citation=(
            "Colditz GA, Brewer TF, Berkey CS, Wilson ME, Burdick E, Fineberg HV, Mosteller F "
            "(1994). Efficacy of BCG vaccine in the prevention of tuberculosis: meta-analysis of "
            "the published literature. Journal of the American Medical Association 271, 698-702."
        ),
        rows=13,
        columns={
            "trial": "number of the trial",
            "author": "authors, 11 levels",
            "year": "year of publication",
            "tpos": "cases among those vaccinated",
            "tneg": "others among those vaccinated",
            "cpos": "cases among those not vaccinated",
            "cneg": "others among those not vaccinated",
            "ablat": "absolute latitude of the place, degrees",
            "alloc": "allocation of treatment: random, alternate or systematic",
        },
        formula="yi ~ ablat",
    ),
)


def names() -> list[str]:
    """Return the names of the bundled data sets.

    Examples
    --------
    >>> names()[:3]
    ['sleepstudy', 'Dyestuff', 'Dyestuff2']
    """
    return [entry.name for entry in CATALOGUE]


def describe(name: str) -> Description:
    """Describe a bundled data set: title, source, citation, columns, licence.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    Description

    Raises
    ------
    ranef.errors.DataError
        No data set has this name.

    Examples
    --------
    >>> describe("Penicillin").rows
    144
    >>> describe("Penicillin").formula
    'diameter ~ 1 + (1 | plate) + (1 | sample)'
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    raise DataError(
        f"no bundled data set {name!r}{suggestion(str(name), names())} "
        f"(there are {', '.join(names())})"
    )
