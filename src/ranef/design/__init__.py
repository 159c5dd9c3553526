"""Formula and table in, arrays out: the design of a model.

`specify` reads a formula against a table, once, and gives a `Specification`;
its `Recipe` makes the same matrices from other tables. The way there: `tokens`
and `parser` read the text, `model` works out its terms, `evaluate` and
`functions` compute variables, `matrix` codes and multiplies them, `random` and
`grouping` make the random terms, `rank` finds redundant columns.
`specify_generalised` does so for all parts of a generalised model at once;
`response` and `outcome` read what its family takes; `effects` lays out the terms that
tests are about. May import `ranef.tables`,
`ranef.families` and `ranef.errors`; pandas, scipy and formulaic only inside the
functions that need them.
"""

from ranef.design.effects import Effect, Effects, effects_of
from ranef.design.generalised import GeneralisedSpecification, specify_generalised
from ranef.design.recipe import Recipe
from ranef.design.response import ResponseKind
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.tables.accounting import Accounting

__all__ = [
    "Accounting",
    "Effect",
    "Effects",
    "GeneralisedSpecification",
    "GroupingFactor",
    "RandomTerm",
    "Recipe",
    "ResponseKind",
    "Specification",
    "effects_of",
    "specify",
    "specify_generalised",
]
