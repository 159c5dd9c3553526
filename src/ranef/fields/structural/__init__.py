"""Structural equation models of one level and several: `ranef.sem`, `ranef.invariance`.

From text and table to a fit: `syntax` and `expressions` read the model, `parameters` completes
it, `reading` takes the columns and finds the levels, `messages` sums the rows for the kernel in
C++, `ram` makes moments of parameters, `problem` puts them together, `search` finds the optimum.
What is asked of a fit: `estimate` and `measures`, `standardized`, `posterior`, `modification`,
`resampling`; `fit` has the methods, `words`, `diagram` and `page` what is shown.
"""
