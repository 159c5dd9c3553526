"""Sphinx settings. The build needs no network; warnings are errors (`make docs`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes

import ranef
from ranef.api.questions import Questions

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "ranef"
author = "the ranef developers"
copyright = "2026, the ranef developers"
version = release = ranef.__version__

extensions = [
    "generated",
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# an argument of one call may be an attribute of several results
suppress_warnings = ["ref.python"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True

html_theme = "pydata_sphinx_theme"
html_title = "ranef"
html_static_path = ["_static"]
html_css_files = ["ranef.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
WIDE = ("benchmarks", "validation")  # pages of wide tables have no sidebars
ALONE = ("index", "getting-started", "examples", "gallery/*", "notebooks/*")
html_sidebars = {name: [] for name in (*WIDE, *ALONE)}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": {"**": ["page-toc"], **{name: [] for name in WIDE}},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False


def without_questions(app: Any, what: str, name: str, *about: Any) -> bool | None:
    """Leave out the methods that are functions of `ranef`: the page has them once."""
    return True if name in vars(Questions) and what == "class" else None


def with_empty_cells(app: Any, doctree: Any, name: str) -> None:
    """A corner without a text of a data frame's table is a cell, not a heading."""
    for node in doctree.findall(nodes.raw):
        text = node.astext()
        if "<th></th>" in text:
            node.children = [nodes.Text(text.replace("<th></th>", "<td></td>"))]


def setup(app: Any) -> None:
    app.connect("doctree-resolved", with_empty_cells)
    app.connect("autodoc-skip-member", without_questions)
