"""The commands, one file each, in the order of ``ranef --help``.

A field's own command is a file here and a line in `VERBS`. What commands share stands
beside this folder; a file here imports no other and, at its top, nothing heavy.
"""

from __future__ import annotations

from ranef.cli.verbs import (
    anova,
    compare,
    contrasts,
    diary,
    dynamic,
    fit,
    gee,
    gwas,
    imaging,
    means,
    meta,
    metagenomics,
    plan,
    predict,
    rank,
    ratios,
    sem,
)

__all__ = ["VERBS"]

VERBS = (
    fit.VERB, gee.VERB, meta.VERB, sem.VERB, means.VERB, contrasts.VERB, anova.VERB, predict.VERB,
    rank.VERB, ratios.VERB, compare.VERB, diary.VERB, dynamic.VERB, gwas.VERB, imaging.VERB,
    metagenomics.VERB, plan.VERB,
)  # fmt: skip
