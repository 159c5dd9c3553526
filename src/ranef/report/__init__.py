"""The report of a fit: one HTML page that needs nothing else.

The page has its style, its pictures (SVG) and its formulae (MathML) inside, runs no script
and asks no network. Every label from the user's data is escaped. The report reads a fit
and computes nothing. May import `questions` and what lies below them.
"""

from ranef.report.page import html, write

__all__ = ["html", "write"]
