"""Fields of models: one wing each, with its numbers, answers, pictures and report.

A wing stands above `api` and fits with what lies below; no wing imports another.
"""
