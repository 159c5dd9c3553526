"""Formula and table in, arrays out: the design of a model.

`specify` reads a formula against a table, once, and gives a `Specification`;
its `Recipe` makes the same matrices from other tables. The way there: `tokens`
and `parser` read the text, `model` works out its terms, `evaluate` and
`functions` compute variables, `matrix` codes and multiplies them, `random` and
`grouping` make the random terms, `rank` finds redundant columns. May import
`ranef.tables` and `ranef.errors`; pandas, scipy and formulaic only inside the
functions that need them.
"""

from ranef.design.recipe import Recipe
from ranef.design.specification import Accounting, GroupingFactor, RandomTerm, Specification
from ranef.design.specify import specify

__all__ = ["Accounting", "GroupingFactor", "RandomTerm", "Recipe", "Specification", "specify"]
