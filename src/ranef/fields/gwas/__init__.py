"""Genome-wide association with a genomic relationship matrix: ``from ranef import gwas``.

`scan` is the whole analysis: `arrays` opens genotypes of any kind (`plink`, `pgen`, `bgenfile`,
`vcf`, `bimbam`, `chunked`), `matching` and `model` make the
arrays of traits, `relationship` the matrix, `spectrum` and `profiles` hold the numbers (arrays in,
arrays out), `engine` runs them over blocks, `results` is the answer.
"""

from ranef.elsewhere import module_getattr
from ranef.fields.gwas.arrays import from_array, read_genotypes
from ranef.fields.gwas.components import Components
from ranef.fields.gwas.correlation import Bivariate, bivariate
from ranef.fields.gwas.gene_sets import GeneSets, gene_sets
from ranef.fields.gwas.genotypes import Genotypes
from ranef.fields.gwas.kin import SparseRelationship, sparse_grm
from ranef.fields.gwas.prediction import GenomicValues, gblup
from ranef.fields.gwas.relationship import Relationship, grm, pca, read_grm
from ranef.fields.gwas.results import Scan
from ranef.fields.gwas.scanning import scan as scan
from ranef.fields.gwas.simulation import Study, simulate
from ranef.fields.gwas.twostep import two_step
from ranef.fields.gwas.variance import Heritabilities, NullModel, heritability, null

__all__ = [
    "Bivariate",
    "Components",
    "GeneSets",
    "GenomicValues",
    "Genotypes",
    "Heritabilities",
    "NullModel",
    "Relationship",
    "Scan",
    "SparseRelationship",
    "Study",
    "bivariate",
    "from_array",
    "gblup",
    "gene_sets",
    "grm",
    "heritability",
    "null",
    "pca",
    "read_genotypes",
    "read_grm",
    "scan",
    "simulate",
    "sparse_grm",
    "two_step",
]


__getattr__ = module_getattr("ranef.gwas", __all__)
