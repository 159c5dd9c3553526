"""From the text of a formula to its terms: tokens, parser, tree, model.

A formula is data and is never run. Nothing here sees a table. May import `errors`.
"""
