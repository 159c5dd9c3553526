"""The report of a fit: one HTML page that needs nothing else.

`html` returns the page, `write` puts it into a file in one step. The page has
its style, its pictures (SVG) and its formulae (MathML) inside, runs no script
and asks no network. Every label from the user's data is escaped. The report
reads a fit and computes nothing; it may import `plots`, `tables`, `errors`.
"""

from ranef.report.files import write_atomically
from ranef.report.page import html, write

__all__ = ["html", "write", "write_atomically"]
