"""From PLINK files to a report: CD8 cells of heterogeneous-stock mice.

1,940 mice, descended from eight inbred strains over fifty generations, were typed at 12,226
variants; 1,410 have their share of CD8+ cells measured (Valdar et al. 2006). They are all
relatives. The scan has the relationship of all variants as its covariance, as GEMMA's, and gives
the same numbers.

Figure gwas_mice_manhattan.png: Manhattan plot of the mice's CD8 cells: one tall peak on chromosome
17, in the region of the major histocompatibility complex.
Figure gwas_mice_qq.png: QQ plot of the same scan: p values below the diagonal at first, since each
variant competes with itself in the relationship, and far above it at the end.
Usage: ``python examples/gwas_mice.py [FOLDER]``
"""

import lzma
import sys
import tempfile
from pathlib import Path

import matplotlib

from ranef import gwas

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
packed = Path(__file__).parent.parent / "tests" / "reference" / "gwas"

with tempfile.TemporaryDirectory() as place:
    for suffix in ("bed", "bim", "fam"):
        content = lzma.decompress((packed / f"mouse.{suffix}.xz").read_bytes())
        (Path(place) / f"mice.{suffix}").write_bytes(content)

    # the trait is the .fam's own column, which scan calls phenotype
    scan = gwas.scan("phenotype ~ 1", Path(place) / "mice", relationship="centred")
    print(scan, "\n")

    print("Leading variants of regions (r2 of at least 0.2 within 5 Mb under one):")
    shown = ["chromosome", "position", "variant", "neg_log10_p_wald", "n_clumped"]
    print(scan.clump(p1=1e-5, r2=0.2, kb=5000)[shown].round(2).to_string(index=False), "\n")

    scan.plot.manhattan().figure.savefig(folder / "gwas_mice_manhattan.png", dpi=150)
    scan.plot.qq().figure.savefig(folder / "gwas_mice_qq.png", dpi=150)
    scan.report(Path(place) / "cd8.html")
    scan.save(Path(place) / "cd8.tsv.gz")
    print(f"files: {sorted(path.name for path in Path(place).glob('cd8*'))}")

pve = scan.glance().iloc[0]
print(f"The relationship explains {pve['pve']:.1%} of the variance (standard error "
      f"{pve['pve_se']:.1%}).")  # fmt: skip
