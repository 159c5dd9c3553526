"""Levels of a factor: `rank`, `posterior`, `standardized_ratios`, shrinkage, reliability."""
