"""Trials by visit: who was seen when.

`missing_patterns` is the table of missing responses by arm and visit; the model itself is
`ranef.lmm(residual="us(visit | id)")`, draws of what is missing are `ranef.impute`.
"""
