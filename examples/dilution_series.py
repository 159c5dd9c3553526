"""A dilution series of one strain: what is the strain, what the kit.

The design of Salter et al. (2014): a pure culture of *Salmonella*, diluted tenfold five times,
sequenced at two institutes with a blank each. The counts here are simulated, since the study's
tables carry no licence. The less goes in, the larger the share of the kit's own DNA; the strain's
mass falls, that of the contaminants does not.

Figure dilution_series_contaminant.png: Share of reads of a contaminant in each library against the
mass that was put in; it rises as one over the mass, along the line that was fitted.
Figure dilution_series_strain.png: Share of reads of the strain in each library against the mass
that was put in; it stays near one until contamination outweighs it.
Usage: ``python examples/dilution_series.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from ranef import metagenomics as mg

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
draw = np.random.default_rng(3)

taxa = ["Salmonella bongori", *(f"contaminant {k:02d}" for k in range(1, 41))]
kit = np.exp(draw.normal(-7.0, 1.2, 40))  # mass of each contaminant, in units of the culture
sheet, counts = [], {}
for institute in ("ICL", "UB"):
    own = kit * np.exp(draw.normal(0.0, 0.7, 40))
    for dilution in (0, 1, 2, 3, 4, 5, None):
        name = f"{institute}-{'blank' if dilution is None else dilution}"
        put_in = 0.0 if dilution is None else 10.0**-dilution
        mass = np.concatenate([[put_in], own * np.exp(draw.normal(0.0, 0.2))])
        depth = draw.integers(20_000, 40_000) if dilution is not None else 8_000
        mean = depth * mass / mass.sum()
        counts[name] = draw.poisson(mean * draw.gamma(3.0, 1 / 3.0, len(taxa)))
        sheet.append({
            "sample": name, "is_control": dilution is None, "batch": institute,
            "input_mass": put_in if put_in else None,
        })  # fmt: skip
table = pd.DataFrame(counts, index=pd.Index(taxa, name="taxon")).reset_index()

screen = mg.screen(table, pd.DataFrame(sheet))
print(screen)
calls = screen.tidy()
calls = calls[calls["present"]]
print("\nCalled present, by taxon:")
print(calls["taxon"].value_counts().to_string())
print("\nContaminants of the first institute, in units of the culture:")
profile = screen.tidy("profiles")
own = profile[profile["batch"] == "ICL"].sort_values("estimate", ascending=False)
print(own.head(6)[["taxon", "estimate", "conf_low", "conf_high"]].to_string(index=False))

strongest = own[own["taxon"] != "Salmonella bongori"]["taxon"].iloc[0]
for taxon, name in ((strongest, "contaminant"), ("Salmonella bongori", "strain")):
    ax = screen.plot.dilution(taxon)
    ax.figure.savefig(folder / f"dilution_series_{name}.png", dpi=150, bbox_inches="tight")
