"""What a fit knows without the questions that are asked of it.

`protocol` says what a fit is; `regression` is what every fit says of its coefficients, `fit` of
rows and in words; `mixed_parameters`, `mixed`, `linear` and `generalised` are the fits of mixed
models; `new_rows` and `new_levels` read other tables with a model's eyes. The classes that a user
holds are composed in `ranef.api.fits`. May import `description` and what lies below it.
"""
