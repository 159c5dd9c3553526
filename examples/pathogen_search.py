"""A run of spinal fluid, from Kraken's reports to the page that a clinician reads.

Twelve patients, two negative controls and a positive control on one run, each with a Kraken 2
report. One patient has a herpesvirus, one *Streptococcus pneumoniae*, and others a handful of its
reads, which hopped over. What else is there comes from the reagents.

Figure pathogen_search.png: Reads of the most probable pairs of library and taxon, each beside
the reads that contamination would bring.
Usage: ``python examples/pathogen_search.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from ranef import metagenomics as mg

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
reports = folder / "reports"
reports.mkdir(parents=True, exist_ok=True)
draw = np.random.default_rng(7)

# --- a run, as the sequencer and the classifier leave it --------------------------------------
REAGENTS = {
    "329": ("Ralstonia pickettii", 90.0), "40324": ("Stenotrophomonas maltophilia", 40.0),
    "1747": ("Cutibacterium acnes", 60.0), "562": ("Escherichia coli", 25.0),
    "287": ("Pseudomonas aeruginosa", 15.0), "80866": ("Delftia acidovorans", 12.0),
    "470": ("Acinetobacter baumannii", 6.0), "1282": ("Staphylococcus epidermidis", 9.0),
    "13690": ("Sphingobium yanoikuyae", 5.0), "36773": ("Burkholderia cepacia", 4.0),
    "285": ("Comamonas testosteroni", 3.0), "376": ("Bradyrhizobium", 2.0),
}  # fmt: skip
OTHERS = {"10298": "Human alphaherpesvirus 1", "1313": "Streptococcus pneumoniae",
          "1639": "Listeria monocytogenes"}  # fmt: skip
names = {**{k: v[0] for k, v in REAGENTS.items()}, **OTHERS}
truth = {"P03": {"10298": 300.0}, "P08": {"1313": 60_000.0}, "PC1": {"1639": 900.0}}
libraries = [f"P{k:02d}" for k in range(1, 13)] + ["NTC1", "NTC2", "PC1"]

sheet, counts = [], {}
for library in libraries:
    rate = np.exp(draw.normal(0.0, 0.5))
    own = np.exp(draw.normal(0.0, 0.25))
    mean = {k: rate * own * mass for k, (_, mass) in REAGENTS.items()}
    for taxid, mass in truth.get(library, {}).items():
        mean[taxid] = mean.get(taxid, 0.0) + rate * mass
    counts[library] = {k: int(draw.poisson(m * draw.gamma(4.0, 0.25))) for k, m in mean.items()}
    host = 0 if library.startswith("NTC") else int(draw.integers(2_000_000, 8_000_000))
    control = {"N": "negative", "PC": "positive"}.get(library[:2] if library[:2] == "PC" else
                                                       library[0], "")  # fmt: skip
    sheet.append({
        "sample": library, "is_control": bool(control), "control_type": control, "run": "run7",
        "spike_reads": int(draw.poisson(2000 * rate)), "spike_mass": 2000.0, "host": host,
    })  # fmt: skip
for library in libraries:  # a thousandth of the strong source hops to the others
    if library != "P08":
        hopped = int(draw.poisson(1e-3 * counts["P08"]["1313"] / len(libraries)))
        counts[library]["1313"] = counts[library].get("1313", 0) + hopped
for row in sheet:
    own = counts[row["sample"]]
    classified, host = sum(own.values()), row.pop("host")
    lines = [f"0.0\t{host}\t{host}\tU\t0\tunclassified",
             f"0.0\t{classified}\t0\tR\t1\troot"]  # fmt: skip
    lines += [f"0.0\t{n}\t{n}\tS\t{taxid}\t  {names[taxid]}" for taxid, n in own.items()]
    (reports / f"{row['sample']}.report").write_text("\n".join(lines) + "\n")
pd.DataFrame(sheet).to_csv(folder / "run7.csv", index=False)

# --- the screen -------------------------------------------------------------------------------
read = mg.read(reports)
print(f"{read['sample'].nunique()} libraries, {read['taxon'].nunique()} species")
screen = mg.screen(read, folder / "run7.csv")
print(screen)

pairs = screen.tidy()
called = pairs[pairs["present"]]
print("\nCalled present:")
print(called[["sample", "name", "reads", "expected_reads", "probability"]].to_string(index=False))

hopped = pairs[(pairs["taxon"] == "1313") & (pairs["sample"] != "P08")].head(1)
if len(hopped):
    row = hopped.iloc[0]
    print(
        f"\n{row['reads']} reads of S. pneumoniae in {row['sample']}: {row['spill_reads']:.1f} are "
        f"expected from {row['spill_from']}; probability of presence {row['probability']:.3f}."
    )

positive = screen.tidy("positives")
found = positive.loc[positive["present"], "name"].tolist()
print(f"In the positive control: {', '.join(found)}")

screen.report(folder / "run7.html")
ax = screen.plot.candidates(n=12)
ax.figure.savefig(folder / "pathogen_search.png", dpi=150, bbox_inches="tight")
