"""Models: a specification in, an estimate out.

`records` are the estimates. May import `solve` and what lies below it.
"""
