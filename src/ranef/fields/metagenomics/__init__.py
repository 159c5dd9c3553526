"""Metagenomic pathogen search: ``from ranef import metagenomics as mg``.

`read` brings counts, `screen` says what is in the patients and what in the reagents, `train`
keeps what was learned for the next run. `formats`, `reading`, `sheet` and `assembly` make arrays;
`tree`, `expectation`, `fitting` and `judging` hold the numbers (arrays in, arrays out);
`results` is the answer, `page` and `pictures` show it.
"""

from ranef.elsewhere import module_getattr
from ranef.fields.metagenomics.assembly import Note
from ranef.fields.metagenomics.background import Background, Drift, load, train
from ranef.fields.metagenomics.contrasts import Differences
from ranef.fields.metagenomics.parameters import Prior
from ranef.fields.metagenomics.reading import read
from ranef.fields.metagenomics.results import Screen
from ranef.fields.metagenomics.screening import screen
from ranef.fields.metagenomics.simulation import Clinic, simulate

__all__ = [
    "Background",
    "Clinic",
    "Differences",
    "Drift",
    "Note",
    "Prior",
    "Screen",
    "load",
    "read",
    "screen",
    "simulate",
    "train",
]

__getattr__ = module_getattr("ranef.metagenomics", __all__)
