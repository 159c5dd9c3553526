"""How an answer looks: text, HTML, Word, LaTeX; the canvas of pictures; progress bars.

Nothing here knows a model. May import `tables`, `errors` and `arguments`; matplotlib only
inside functions, and never its global state.
"""
