"""Inertia and residual standard deviation of each person's own: `ranef.dynamic`.

`reading` makes arrays of formulas and table, `layout` says which parameter stands where,
`problem` evaluates the likelihood by the kernel in C++, `search` finds the optimum; `parameters`
has functions of them with errors, `persons` and `forecasting` what follows for persons and their
next prompts; `fit` has the methods, `words` and `page` what is shown.
"""
