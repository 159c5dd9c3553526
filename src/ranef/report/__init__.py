"""The report of a fit: one HTML page that needs nothing else.

`html` returns the page, `write` puts it into a file in one step; `check_html` and
`write_check` do so for a check. The page has
its style, its pictures (SVG) and its formulae (MathML) inside, runs no script
and asks no network. Every label from the user's data is escaped. The report
reads a fit and computes nothing; it may import `plots`, `tables`, `errors`.
"""

from ranef.report.criticism import check_html, write_check
from ranef.report.files import write_atomically
from ranef.report.page import html, write

__all__ = ["check_html", "html", "write", "write_atomically", "write_check"]
