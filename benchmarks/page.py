"""The benchmark page of the docs, from the results."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.problems import LINEAR, NOT_LINEAR, PROBLEMS, STRUCTURED

__all__ = ["page", "shortfalls"]

SAME = 1e-6
EARLY = 1e-4
TITLES = {problem.key: problem.title for problem in PROBLEMS}
PEERS = {problem.key: problem.peers for problem in PROBLEMS}


def page(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    parts = [
        heading(results),
        times(results),
        optimum(results),
        evaluations(results),
        memory(results),
        first_use(results),
        refits(results),
        degrees(results),
        intervals(results),
        boundary(results),
        reasons(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def by_case(results: dict[str, Any], head: str, show: Any) -> str:
    """Return a table for each kind of model: a row a case, a column a package."""
    tables = []
    for kind in (LINEAR, STRUCTURED, NOT_LINEAR):
        names = [name for name in results["peers"] if name in kind]
        rows = [
            [TITLES[key], *(show(case, name) for name in names)]
            for key, case in results["cases"].items()
            if PEERS[key] == kind
        ]
        if rows:
            tables.append(table([head, *names], rows))
    return "\n\n".join(tables)


def heading(results: dict[str, Any]) -> str:
    packages = {**results["versions"], **results["packages"]}
    shared = ", ".join(f"{name} {number}" for name, number in packages.items())
    missing = "; ".join(f"{name} ({why})" for name, why in results["absent"].items())
    base = results["base"]
    lines = [
        "# Benchmarks",
        f"The same table fitted by {base} and its peers. Each package runs in its own process "
        "with its default settings (gpboost with exact instead of estimated log-determinants), "
        "and fits the model once before the clock starts. Then "
        f"{base} and the peer take turns; a ratio is the median over these pairs. The clock "
        "covers the whole call from data frame to fit object. Linear cases are by REML unless "
        "their name says ML; the others are by the Laplace approximation unless they say how "
        "many quadrature nodes. Packages of R are timed inside R. glmer runs with "
        "tolPwrss = 1e-10 and clmm with gradTol = 1e-9: with their defaults the log-likelihood is "
        "uncertain in the second and in the sixth decimal.",
        f"- Machine: {results['machine']}\n- Versions: {shared}\n- Date: {results['date']}\n"
        f"- Command: `{results['command']}`"
        + (f"\n- Not measured here: {missing}" if missing else ""),
    ]
    return "\n\n".join(lines)


def times(results: dict[str, Any]) -> str:
    base = results["base"]

    def show(case: dict[str, Any], name: str) -> str:
        own = case.get(name, {})
        if own.get("seconds") is None:
            return "-"
        if name == base:
            return seconds(own["seconds"])
        return f"{own['ratio']:.3g} x ({seconds(own['seconds'])})"

    body = by_case(results, "case", show)
    return body and (
        f"## Time\n\nSeconds of {base}; of each peer how many times longer it takes, and its "
        f"seconds.\n\n{body}"
    )


def optimum(results: dict[str, Any]) -> str:
    base = results["base"]

    def show(case: dict[str, Any], name: str) -> str:
        own, reference = case.get(name, {}).get("loglik"), case.get(base, {}).get("loglik")
        if own is None:
            return "-"
        if name == base or reference is None:
            return f"{own:.6f}"
        return difference(own - reference)

    body = by_case(results, "case", show)
    return body and (
        f"## Optimum reached\n\nLog-likelihood of {base}; of each peer its difference from it. "
        "All report the log-likelihood of the same criterion with all its constants, so a "
        f"negative difference means that the peer stopped early; **bold** where by more than "
        f"{EARLY:g}. A positive difference in bold would mean that {base} did.\n\n{body}"
    )


def difference(value: float) -> str:
    if abs(value) <= SAME:
        return "same"
    text = f"{value:+.1e}"
    return f"**{text}**" if value < -EARLY or value > SAME else text


def evaluations(results: dict[str, Any]) -> str:
    def show(case: dict[str, Any], name: str) -> str:
        count = case.get(name, {}).get("evaluations")
        return "-" if count is None else str(count)

    body = by_case(results, "case", show)
    return body and (
        "## Evaluations of the criterion\n\nAs each package counts them: ranef counts "
        "factorisations, each with its gradient; gpboost iterations; statsmodels does not "
        f"count.\n\n{body}"
    )


def memory(results: dict[str, Any]) -> str:
    def show(case: dict[str, Any], name: str) -> str:
        own = case.get(name, {})
        if own.get("peak") is None:
            return "-"
        return f"{own['peak'] / 1e6:.0f} (+{(own['peak'] - own['before']) / 1e6:.0f})"

    body = by_case(results, "case", show)
    return body and (
        "## Peak memory\n\nMegabytes of the process during its first fit, interpreter, libraries "
        "and table included; in parentheses what the fit added. Python's processes hold pandas "
        f"and pyarrow, which read the table.\n\n{body}"
    )


def first_use(results: dict[str, Any]) -> str:
    for key in ("sleepstudy", *results["cases"]):
        case = results["cases"].get(key)
        if case is not None:
            break
    else:
        return ""
    rows = [
        [name, seconds(own["about"].get("import_seconds")), seconds(own["first"])]
        for name, own in case.items()
        if own.get("first") is not None
    ]
    body = table(["package", "import", "first fit"], rows)
    return (
        "## Import and first fit\n\nIn a fresh process: import beyond numpy's own (of lme4, "
        f"`library(lme4)`), and the first fit of {TITLES[key]}, the table already read.\n\n{body}"
    )


def refits(results: dict[str, Any]) -> str:
    found = results.get("refits")
    if not found:
        return ""
    rows = [[name, seconds(own.get("seconds"))] for name, own in found.items()]
    return (
        "## A thousand refits\n\nsleepstudy's model fitted to 1,000 new responses by the fastest "
        f"way a package offers.\n\n{table(['package', 'time'], rows)}"
    )


def degrees(results: dict[str, Any]) -> str:
    found = results.get("degrees")
    if not found:
        return ""
    rows = []
    for title, case in found.items():
        own, peer = case.get("ranef", {}), case.get("lme4", {})
        ours, theirs = own.get("df kenward-roger"), peer.get("df kenward-roger")
        gap = "-"
        if ours and theirs:
            gap = f"{max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)):.0e}"
        cells = [own.get(key) for key in ("fit", "satterthwaite", "kenward-roger")]
        rows.append([title, *map(seconds, cells), seconds(peer.get("kenward-roger")), gap])
    head = ["model", "fit", "Satterthwaite", "Kenward-Roger", "pbkrtest", "difference of df"]
    return (
        "## Degrees of freedom\n\nOf every coefficient, beside ranef's own fit; the last columns "
        "are Kenward-Roger's degrees of freedom by pbkrtest and the largest relative "
        f"difference from these.\n\n{table(head, rows)}"
    )


def intervals(results: dict[str, Any]) -> str:
    found = results.get("intervals")
    if not found:
        return ""
    names = list(dict.fromkeys(name for answers in found.values() for name in answers))
    rows = [
        [
            name,
            *(_timed(answers.get(name, {}), name == results["base"]) for answers in found.values()),
        ]
        for name in names
        if any("seconds" in answers.get(name, {}) for answers in found.values())
    ]
    body = table(["package", "1,000 bootstrap replicates", "profiles of all parameters"], rows)
    return (
        "## Intervals\n\nsleepstudy's model, intercept and slope: a parametric bootstrap, drawing "
        "included, and the profiles of its six parameters (lme4's by `bootMer` and `profile`, "
        f"with their defaults; mixedlm's are of the two fixed effects alone).\n\n{body}"
    )


def _timed(own: dict[str, Any], base: bool) -> str:
    if own.get("seconds") is None:
        return "-"
    text = seconds(own["seconds"])
    return text if base else f"{own['ratio']:.3g} x ({text})"


def boundary(results: dict[str, Any]) -> str:
    found = results.get("boundary")
    if not found:
        return ""
    rows = [
        [name, str(own["missed"]), f"{own['worst']:.1e}"]
        for name, own in found.items()
        if isinstance(own, dict)
    ]
    return (
        f"## Near the boundary\n\n{found['count']} random problems: 600 rows, "
        "`y ~ x + (1 + x | g) + (1 | h) + (1 | k)`, true standard deviations drawn from 0, 0.1 "
        f"and 0.5. Missed: more than {found['miss']:g} deviance above the best of all, which "
        "include an unbounded search on dense algebra and ranef's own, both from many "
        f"starts.\n\n{table(['package', 'missed', 'worst excess deviance'], rows)}"
    )


def reasons(results: dict[str, Any]) -> str:
    lines = []
    for key, case in results["cases"].items():
        for name, own in case.items():
            if own.get("refused"):
                lines.append(f"- {TITLES[key]}, {name}: {own['refused'].splitlines()[0]}")
    for name, own in (results.get("refits") or {}).items():
        if own.get("refused"):
            lines.append(f"- a thousand refits, {name}: {own['refused'].splitlines()[0]}")
    for title, case in (results.get("degrees") or {}).items():
        for name, own in case.items():
            if own.get("refused"):
                lines.append(f"- degrees of freedom, {title}, {name}: {own['refused']}")
    return "## Why a cell is empty\n\n" + "\n".join(lines) if lines else ""


def shortfalls(results: dict[str, Any]) -> list[str]:
    """Return, in words, every target of the problems that was not reached."""
    base, found = results["base"], []
    for problem in PROBLEMS:
        case = results["cases"].get(problem.key, {})
        own = case.get(base, {})
        if not own:
            continue
        if own.get("refused"):
            found.append(f"{problem.key}: {base} refused: {own['refused']}")
            continue
        if problem.evaluations is not None and own["evaluations"] > problem.evaluations:
            found.append(
                f"{problem.key}: {own['evaluations']} evaluations, at most {problem.evaluations}"
            )
        for peer, least in problem.targets.items():
            ratio = case.get(peer, {}).get("ratio")
            if peer != base and ratio is not None and ratio < least:
                found.append(f"{problem.key}: {ratio:.3g} x {peer}, at least {least:.3g} x")
        for peer, other in case.items():
            ahead = (other.get("loglik") or -math.inf) - own["loglik"]
            if ahead > SAME:
                found.append(f"{problem.key}: log-likelihood {ahead:.1e} below {peer}'s")
    for question, least in (("bootstrap", 100), ("profile", 50)):
        ratio = (results.get("intervals") or {}).get(question, {}).get("lme4", {}).get("ratio")
        if ratio is not None and ratio < least:
            found.append(f"{question}: {ratio:.3g} x lme4, at least {least} x")
    missed = (results.get("boundary") or {}).get(base, {}).get("missed", 0)
    if missed:
        found.append(f"boundary: {missed} missed")
    return found
