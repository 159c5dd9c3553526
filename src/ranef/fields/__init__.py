"""Fields of models: one wing each, with its numbers, answers, pictures and report.

A wing stands above `api` and fits with what lies below; no wing imports another. Those that are
packages to users (`ranef.gwas`) are found here when first asked for.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["gwas", "metagenomics"])
