"""Hidden relatedness: a scan of families before and after the mixed model.

Families of two parents and their children from two populations share genes and surroundings.
A scan by least squares takes every variant that marks a family for one that acts: its p values
are too small all along the genome. With the relationship in the model they are calibrated, and
what is left at the end of the plot are the variants that act.

Figure gwas_families_before.png: QQ plot of a scan by least squares: the points leave the band of no
association from the start.
Figure gwas_families_after.png: QQ plot of the mixed model: the points follow the diagonal, but for
the last few, which are associations.
Figure gwas_families_miami.png: Two Manhattan plots face to face: the mixed model above, with few
peaks, and least squares below, raised everywhere.
Usage: ``python examples/gwas_families.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib

from ranef import gwas

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- 800 people in 160 families, two populations, five variants that act -----------------------
study = gwas.simulate(
    n=800, m=6000, family_size=5, populations=2, h2=0.35, family=0.1, structure=0.15, causal=5,
    causal_h2=0.2, rng=11,
)  # fmt: skip
print(study.phenotypes.head(3), "\n")

# --- before ------------------------------------------------------------------------------------
before = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, relationship=None)
ax = before.plot.qq()
ax.figure.savefig(folder / "gwas_families_before.png", dpi=150)

# --- after: each chromosome against the relationship by the others ------------------------------
after = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes)
print(after, "\n")
after.plot.qq().figure.savefig(folder / "gwas_families_after.png", dpi=150)
after.plot.miami(other=before).figure.savefig(folder / "gwas_families_miami.png", dpi=150)

# --- the same as cases and controls: the upper tenth is ill ---------------------------------------
table = study.phenotypes.assign(ill=lambda t: (t["trait"] > t["trait"].quantile(0.9)).astype(int))
ill = gwas.scan("ill ~ sex + age", study.genotypes, table, family="binomial")
print(ill.top(3)[["variant", "estimate", "ac_cases", "ac_controls", "neg_log10_p_spa"]], "\n")

# --- genomic values of people without a phenotype, by their relatives -----------------------------
K = gwas.grm(study.genotypes)
known = study.phenotypes.iloc[:700]
print(gwas.gblup("trait ~ sex + age", known, relationship=K).glance(), "\n")

# --- the answer --------------------------------------------------------------------------------
truth = set(study.causal["variant"])
for name, scan in (("least squares", before), ("mixed model", after)):
    glance, table = scan.glance(), scan.tidy()
    found = table[table["neg_log10_p_wald"] > 7.3]
    far = [v for v in found["variant"] if v not in truth]
    print(
        f"{name}: lambda_GC {glance['lambda_gc'][0]:.2f}; {len(found)} variants beyond 5e-8, of "
        f"which {len(found) - len(far)} act themselves (others are linked with one, or false)."
    )
