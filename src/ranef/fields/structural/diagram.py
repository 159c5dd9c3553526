"""The path diagram as SVG: between above within, random intercepts and slopes marked by dots."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from ranef.display.markup import Markup, element, join
from ranef.fields.structural.parameters import Parameter
from ranef.fields.structural.standardized import standardized_values

__all__ = ["diagram_text", "drawn"]

ITEM, ITEM_HEIGHT, LATENT, LATENT_HEIGHT = 84, 34, 120, 52
GAP_X, GAP_Y, MARGIN, DROP = 130, 46, 30, 62
SHORT, LEADING = 11, 11.5
"""Letters that fit into a box at full size; distance of lines of smaller ones."""
INK, MUTED, PAPER = "#1b1b1b", "#6a6a6a", "#ffffff"
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:13px;fill:#1b1b1b}"
    ".n{font-size:11px}.s{font-size:10px}.h{font-size:15px;font-weight:600}"
    ".o,.l{fill:#ffffff;stroke:#1b1b1b;stroke-width:1.3}"
    ".a{fill:none;stroke:#1b1b1b;stroke-width:1.1}.c{fill:none;stroke:#6a6a6a;stroke-width:1}"
    ".p{fill:none;stroke:#bbbbbb}"
)


@dataclass
class Node:
    """A variable with its place."""

    name: str
    latent: bool
    x: float = 0.0
    y: float = 0.0
    item: bool = False
    dot: bool = False
    column: int = 0

    @property
    def width(self) -> float:
        return LATENT if self.latent else ITEM

    @property
    def height(self) -> float:
        return LATENT_HEIGHT if self.latent else ITEM_HEIGHT


@dataclass
class Panel:
    """One level of one group."""

    title: str
    nodes: dict[str, Node]
    width: float
    height: float
    rows: Sequence[tuple[Parameter, float]]


def drawn(fit: Any, standardized: bool = False) -> str:
    """Return the diagram of a fit as an SVG document."""
    panels = _panels(fit, standardized)
    width = max(p.width for p in panels) + 2 * MARGIN
    parts: list[Markup] = []
    top = float(MARGIN)
    for panel in panels:
        parts.append(_panel(panel, MARGIN, top))
        top += panel.height + GAP_Y
    height = top - GAP_Y + MARGIN
    words = diagram_text(fit)
    head = join([element("title", fit.description.heading), element("desc", words),
                 element("style", Markup(STYLE)), Markup(MARKERS)])  # fmt: skip
    back = element("rect", width="100%", height="100%", fill=PAPER)
    body = join([head, back, *parts])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">{body}</svg>\n'
    )


MARKERS = (
    '<defs><marker id="to" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
    'markerHeight="8" orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="#1b1b1b"/>'
    '</marker><marker id="both" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="#6a6a6a"/>'
    "</marker></defs>"
)


def diagram_text(fit: Any) -> str:
    """Say in words what the diagram shows."""
    table = fit.estimate.model.table
    lines = []
    for g, level in table.names:
        said = []
        block = table.block(g, level)
        for factor in dict.fromkeys(r.lhs for r in block if r.op == "=~"):
            items = [r.rhs for r in block if r.op == "=~" and r.lhs == factor]
            said.append(f"{factor} is measured by {', '.join(items)}")
        for outcome in dict.fromkeys(r.lhs for r in block if r.op == "~"):
            own = [r.rhs for r in block if r.op == "~" and r.lhs == outcome]
            said.append(f"{outcome} is regressed on {', '.join(own)}")
        label = f"Level {level}: " if table.levels > 1 else ""
        if said:
            lines.append(label + "; ".join(said) + ".")
    return " ".join(dict.fromkeys(lines))


def _panels(fit: Any, standardized: bool) -> list[Panel]:
    table, model = fit.estimate.model.table, fit.estimate.model
    if standardized:
        values = standardized_values(fit.estimate, fit.estimate.theta)[:, 1]
    else:
        values = fit._estimates()
    found = []
    for g, group in enumerate(model.values.groups):
        for level in range(table.levels, 0, -1):
            rows = [
                (r, float(v)) for r, v in zip(table.rows, values, strict=True)
                if (r.group, r.level) == (g, level)
            ]  # fmt: skip
            title = _title(level, table.levels, model.values.cluster_columns)
            if group:
                title = f"{title}{', ' if title else ''}{model.values.group_column} {group}"
            found.append(_placed(title, table, rows, g, level))
    return found


def _title(level: int, levels: int, columns: Sequence[str]) -> str:
    if levels == 1:
        return ""
    return f"Within {columns[0]}" if level == 1 else f"Between {columns[level - 2]}"


def _placed(title: str, table: Any, rows: Sequence[tuple[Parameter, float]], g: int,
            level: int) -> Panel:  # fmt: skip
    names = table.names[g, level]
    plain = [r for r, _ in rows]
    items: dict[str, list[str]] = {}
    taken: set[str] = set()
    structural = {n for r in plain if r.op == "~" for n in (r.lhs, r.rhs)}
    for r in plain:
        if r.op == "=~" and r.rhs not in taken and r.rhs not in structural | set(names.latent):
            items.setdefault(r.lhs, []).append(r.rhs)
            taken.add(r.rhs)
    roots = [n for n in names.all if n not in taken]
    depth = _depths(roots, plain)
    higher = {n for m in range(level + 1, table.levels + 1) for n in table.names[g, m].observed}
    nodes: dict[str, Node] = {}
    x, tallest = 0.0, 0.0
    for d in range(max(depth.values(), default=0) + 1):
        column = [n for n in roots if depth[n] == d]
        width = max(
            [max(LATENT if n in names.latent else ITEM, (ITEM + 10) * len(items.get(n, [])))
             for n in column] or [0]
        )  # fmt: skip
        y = 40.0 if title else 10.0
        for n in column:
            latent = n in names.latent
            height = LATENT_HEIGHT if latent else ITEM_HEIGHT
            nodes[n] = Node(n, latent, x + width / 2, y + height / 2,
                            dot=not latent and n in higher, column=d)  # fmt: skip
            own = items.get(n, [])
            for k, item in enumerate(own):
                at = x + width / 2 + (k - (len(own) - 1) / 2) * (ITEM + 10)
                nodes[item] = Node(item, False, at, y + height + DROP + ITEM_HEIGHT / 2,
                                   item=True, dot=item in higher, column=d)  # fmt: skip
            y += height + (DROP + ITEM_HEIGHT if own else 0) + GAP_Y
        tallest = max(tallest, y)
        x += width + GAP_X
    wide = max(x - GAP_X + 40, 240.0)
    for node in nodes.values():
        node.x += 60
    return Panel(title, nodes, wide + 80, tallest + 14, rows)


def _depths(roots: Sequence[str], rows: Sequence[Parameter]) -> dict[str, int]:
    """Longest path to each variable; in circles no further than their number."""
    depth = dict.fromkeys(roots, 0)
    edges = [(r.rhs, r.lhs) if r.op == "~" else (r.lhs, r.rhs) for r in rows
             if r.op == "~" or (r.op == "=~" and r.rhs in depth)]  # fmt: skip
    for _ in range(len(roots)):
        changed = False
        for a, b in edges:
            if a in depth and b in depth and depth[b] <= depth[a] < len(roots) - 1:
                depth[b] = depth[a] + 1
                changed = True
        if not changed:
            break
    used = sorted(set(depth.values()))
    return {n: used.index(d) for n, d in depth.items()}


def _panel(panel: Panel, left: float, top: float) -> Markup:
    parts = [element("rect", x=0, y=0, width=f"{panel.width:.0f}", height=f"{panel.height:.0f}",
                     rx=8, class_="p")]  # fmt: skip
    if panel.title:
        parts.append(element("text", panel.title, x=14, y=24, class_="h"))
    for row, value in panel.rows:
        parts += _edge(row, value, panel.nodes)
    shown = _shown(panel.nodes.values())
    for node in panel.nodes.values():
        parts.append(_shape(node, shown[node.name]))
    return element("g", *parts, transform=f"translate({left:.0f} {top:.0f})")


def _shape(node: Node, lines: Sequence[str]) -> Markup:
    if node.latent:
        shape = element("ellipse", cx=f"{node.x:.1f}", cy=f"{node.y:.1f}", rx=LATENT / 2,
                        ry=LATENT_HEIGHT / 2, class_="l")  # fmt: skip
    else:
        shape = element("rect", x=f"{node.x - ITEM / 2:.1f}", y=f"{node.y - ITEM_HEIGHT / 2:.1f}",
                        width=ITEM, height=ITEM_HEIGHT, class_="o")  # fmt: skip
    if len(lines) == 1 and len(lines[0]) <= SHORT:
        names = [_line(lines[0], node.x, node.y + 4, {})]
    else:
        first = node.y + 4 - LEADING * (len(lines) - 1) / 2
        names = [
            _line(line, node.x, first + LEADING * k, {"class_": "s"})
            for k, line in enumerate(lines)
        ]
    parts = [element("title", node.name), shape, *names]
    if node.dot:
        parts.append(element("circle", cx=f"{node.x:.1f}", cy=f"{node.y + ITEM_HEIGHT / 2:.1f}",
                             r=5, fill=INK))  # fmt: skip
    return element("g", *parts)


def _line(text: str, x: float, y: float, how: Mapping[str, str]) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor="middle", **how)


def _shown(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Lines of each name; long ones that would look alike keep what tells them apart."""
    nodes = list(nodes)
    found = {n.name: _wrapped(n.name, n.latent) for n in nodes}
    counts = Counter(tuple(lines) for lines in found.values())
    for node in nodes:
        alike = [m.name for m in nodes if found[m.name] == found[node.name]]
        if counts[tuple(found[node.name])] < 2 or len(alike) < 2:
            continue
        same = _shared(alike)
        for name in alike:
            rest = name[same:] or name[-3:]
            width, rows = (16, 3) if node.latent else (14, 2)
            head = textwrap.wrap(name, width)[: rows - 1]
            found[name] = [*head, f"\N{HORIZONTAL ELLIPSIS}{rest}"[:width]]
    return found


def _shared(names: Sequence[str]) -> int:
    """Letters with which all names begin."""
    together = zip(*names, strict=False)
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, together))


def _wrapped(name: str, latent: bool) -> list[str]:
    if len(name) <= SHORT:
        return [name]
    width, rows = (16, 3) if latent else (14, 2)
    lines = textwrap.wrap(name, width, break_on_hyphens=False) or [name]
    if len(lines) > rows:
        lines = [*lines[: rows - 1], lines[rows - 1][: width - 1] + "\N{HORIZONTAL ELLIPSIS}"]
    return lines


def _edge(row: Parameter, value: float, nodes: Mapping[str, Node]) -> list[Markup]:
    if row.op == "~1" or row.lhs not in nodes or (row.rhs not in nodes):
        return []
    if row.op == "~~" and (row.lhs == row.rhs or value == 0.0 or row.sample):
        return []
    number = "" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"
    number = number.replace("-", "\N{MINUS SIGN}")
    a, b = nodes[row.lhs], nodes[row.rhs]
    if row.op == "~":
        a, b = b, a
    if row.op == "~~":
        return _arc(a, b, number, nodes)
    if b.item and row.op == "=~":
        start, end = (a.x, a.y + a.height / 2), (b.x, b.y - b.height / 2)
        t = 0.62
    else:
        start, end = _between(a, b)
        t = 0.5
    path = f"M{start[0]:.1f} {start[1]:.1f} L{end[0]:.1f} {end[1]:.1f}"
    x, y = start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])
    parts = [element("path", d=path, class_="a", marker_end="url(#to)")]
    if row.slope is not None:
        parts.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=5, fill=INK))
        number = row.slope
        y -= 8
    parts.append(_number(number, x + 3, y - 4))
    return parts


def _between(a: Node, b: Node) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a line between two shapes leaves the first and meets the second."""
    dx, dy = b.x - a.x, b.y - a.y

    def rim(n: Node, ux: float, uy: float) -> tuple[float, float]:
        if n.latent:
            length = np.hypot(ux / (n.width / 2), uy / (n.height / 2))
        else:
            length = max(abs(ux) / (n.width / 2), abs(uy) / (n.height / 2))
        scale = 1 / length if length > 0 else 0.0
        return n.x + ux * scale, n.y + uy * scale

    return rim(a, dx, dy), rim(b, -dx, -dy)


def _arc(a: Node, b: Node, number: str, nodes: Mapping[str, Node]) -> list[Markup]:
    """A covariance: a bow on the left of a column, below items, else above."""
    if a.item and b.item and abs(a.y - b.y) < 1:
        low = max(a.y, b.y) + ITEM_HEIGHT / 2
        depth = 12 + 0.12 * abs(a.x - b.x)
        middle = ((a.x + b.x) / 2, low + depth)
        start, end = (a.x, a.y + ITEM_HEIGHT / 2), (b.x, b.y + ITEM_HEIGHT / 2)
    elif a.column == b.column:
        low, high = sorted((a.y, b.y))
        beside = [n.x - n.width / 2 for n in nodes.values()
                  if n.column == a.column and low <= n.y <= high]  # fmt: skip
        far = (a.x + b.x - a.width / 2 - b.width / 2) / 2
        middle = (2 * min(beside) - far - 30, (a.y + b.y) / 2)
        start, end = (a.x - a.width / 2, a.y), (b.x - b.width / 2, b.y)
    else:
        start, end = _between(a, b)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 30)
    path = (
        f"M{start[0]:.1f} {start[1]:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    )
    x = 0.25 * start[0] + 0.5 * middle[0] + 0.25 * end[0]
    y = 0.25 * start[1] + 0.5 * middle[1] + 0.25 * end[1]
    line = element("path", d=path, class_="c", marker_start="url(#both)", marker_end="url(#both)")
    return [line, _number(number, x, y)]


def _number(text: str, x: float, y: float) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_="n", text_anchor="middle",
                   paint_order="stroke", stroke=PAPER, stroke_width=3)  # fmt: skip
