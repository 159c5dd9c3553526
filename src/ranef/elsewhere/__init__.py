"""What stands here, by the names that other packages give it.

People come from lme4, glmmTMB, nlme, emmeans, statsmodels, SAS and Stata and type what they know.
A name that does not exist is answered by the one that does.
"""

from ranef.elsewhere.hints import (
    Pictures,
    answer_hint,
    argument_hint,
    attribute_hint,
    explained,
    explained_methods,
    formula_hint,
    function_hint,
    module_getattr,
    random_hint,
)

__all__ = [
    "Pictures",
    "answer_hint",
    "argument_hint",
    "attribute_hint",
    "explained",
    "explained_methods",
    "formula_hint",
    "function_hint",
    "module_getattr",
    "random_hint",
]
