"""A model in words, in symbols and in the standard tables.

`summary`, `equation` and `methods` describe a fitted model; `tables` and
`parameter_tables` are the columns of `tidy` and `confint`; `doubts` and `convergence` say
what makes a fit untrue. Reads estimates and the numbers of `inference`; knows no fit. May
import `inference`, `storage` and what lies below them.
"""
