"""Reports of classifiers in small, as each program writes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

KRAKEN = """\
10.00\t100\t100\tU\t0\tunclassified
90.00\t900\t0\tR\t1\troot
90.00\t900\t0\tR1\t131567\t  cellular organisms
80.00\t800\t10\tR2\t2\t    Bacteria
79.00\t790\t40\tG\t561\t      Escherichia
75.00\t750\t700\tS\t562\t        Escherichia coli
5.00\t50\t50\tS1\t83333\t          Escherichia coli K-12
10.00\t100\t0\tR1\t10239\t  Viruses
10.00\t100\t100\tS\t10298\t    Human alphaherpesvirus 1
"""

WITHOUT_RANKS = "\n".join(
    "\t".join([*cells[:3], "" if cells[3] != "U" else "U", *cells[4:]])
    for cells in (line.split("\t") for line in KRAKEN.splitlines())
)

WITH_MINIMIZERS = "\n".join(
    "\t".join([*cells[:3], "120", "60", *cells[3:]])
    for cells in (line.split("\t") for line in KRAKEN.splitlines())
)

BRACKEN = """\
name\ttaxonomy_id\ttaxonomy_lvl\tkraken_assigned_reads\tadded_reads\tnew_est_reads\tfraction_total_reads
Escherichia coli\t562\tS\t750\t20\t770\t0.9
Human alphaherpesvirus 1\t10298\tS\t80\t0\t80\t0.1
"""

KRAKENUNIQ = """\
# KrakenUniq v1.0.4 DATE:2024-01-01
%\treads\ttaxReads\tkmers\tdup\tcov\ttaxID\trank\ttaxName
10.0\t100\t100\t50\t1\t0.1\t0\tno rank\tunclassified
90.0\t900\t0\t500\t1\t0.1\t1\tno rank\troot
80.0\t800\t50\t400\t1\t0.1\t2\tsuperkingdom\t  Bacteria
75.0\t750\t750\t300\t1\t0.1\t562\tspecies\t    Escherichia coli
"""

METAPHLAN = """\
#mpa_vJun23_CHOCOPhlAnSGB_202307
#/usr/bin/metaphlan P1.fq -t rel_ab_w_read_stats
#1000 reads processed
#SampleID\tMetaphlan_Analysis
#clade_name\tclade_taxid\trelative_abundance\tcoverage\testimated_number_of_reads_from_the_clade
k__Bacteria\t2\t100.0\t0.1\t900
k__Bacteria|g__Escherichia\t2|561\t100.0\t0.1\t900
k__Bacteria|g__Escherichia|s__Escherichia_coli\t2|561|562\t100.0\t0.1\t900
k__Bacteria|g__Escherichia|s__Escherichia_coli|t__SGB10068\t2|561|562|\t100.0\t0.1\t900
"""

METAPHLAN_RELATIVE = """\
#mpa_vJun23_CHOCOPhlAnSGB_202307
#clade_name\tNCBI_tax_id\trelative_abundance\tadditional_species
k__Bacteria|g__Escherichia|s__Escherichia_coli\t2|561|562\t100.0\t
"""

CZID = """\
tax_id,tax_level,genus_tax_id,name,category,is_phage,nt_count,nt_rpm,nr_count,nr_rpm
561,2,561,Escherichia,bacteria,false,800,800,700,700
562,1,561,Escherichia coli,bacteria,false,750,750,600,600
10298,1,10294,Human alphaherpesvirus 1,viruses,false,100,100,,
"""

TAXPASTA_WIDE = """\
taxonomy_id\tname\trank\tP1\tP2
0\tunclassified\tno rank\t100\t50
561\tEscherichia\tgenus\t40\t0
562\tEscherichia coli\tspecies\t750\t3
"""

TAXPASTA_LONG = "taxonomy_id\tsample\tcount\n562\tP1\t750\n562\tP2\t3\n0\tP1\t100\n"

PER_READ = "C\tread1\t562\t150\t562:116\nU\tread2\t0\t150\t0:116\n"

BIOM1 = json.dumps({
    "id": None, "format": "Biological Observation Matrix 1.0.0", "type": "OTU table",
    "matrix_type": "sparse", "matrix_element_type": "int", "shape": [2, 2],
    "rows": [
        {"id": "562", "metadata": {"taxonomy": ["k__Bacteria", "s__Escherichia coli"]}},
        {"id": "10298", "metadata": None},
    ],
    "columns": [{"id": "P1", "metadata": None}, {"id": "P2", "metadata": None}],
    "data": [[0, 0, 750], [0, 1, 3], [1, 0, 100]],
})  # fmt: skip


def write(folder: Path, name: str, content: str) -> Path:
    """Write a file, compressed where its name says so."""
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")
    return path
