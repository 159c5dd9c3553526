"""Command line: ``python -m benchmarks [--quick] [--cases ...] [--peers ...]``.

A whole run writes docs/benchmarks.md; a part of it writes a page of the same
form beside the raw results in benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.adapters import ALL
from benchmarks.boundary import survey
from benchmarks.degrees import degrees
from benchmarks.machine import machine, versions
from benchmarks.measure import Settings, compare, intervals, refits
from benchmarks.page import page, shortfalls
from benchmarks.problems import PROBLEMS, chosen
from benchmarks.process import ROOT, absent

RESULTS = Path(__file__).parent / "results"
DOCS = ROOT / "docs" / "benchmarks.md"
SUMMARY = "Time ranef beside its peers on the same tables."
EXTRA = ("refits", "degrees", "intervals", "boundary")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=SUMMARY)
    parser.add_argument("--quick", action="store_true", help="small cases, few pairs: minutes")
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        choices=[*(problem.key for problem in PROBLEMS), *EXTRA],
        help=f"some of: {' '.join([*(problem.key for problem in PROBLEMS), *EXTRA])}",
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="PEER", choices=ALL, help=f"some of: {' '.join(ALL)}"
    )
    parser.add_argument("--base", default="ranef", choices=ALL, help="whom the others meet")
    parser.add_argument("--limit", type=float, help="seconds a package may take for one answer")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def with_tables(function: Any, *arguments: Any) -> Any:
    """Call a function with a temporary folder for its tables as the last argument."""
    with tempfile.TemporaryDirectory() as folder:
        return function(*arguments, Path(folder))


def line(name: str, outcome: dict[str, Any]) -> str:
    if outcome["refused"]:
        return f"  {name:<12} {outcome['refused'].splitlines()[0]}"
    loglik = "not compared" if outcome["loglik"] is None else f"{outcome['loglik']:.6f}"
    return (
        f"  {name:<12} {outcome['seconds']:10.4f} s  {outcome['ratio']:8.2f} x  "
        f"{loglik:>18}  {outcome['evaluations']} evaluations"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for."""
    asked = options.peers or list(ALL)
    missing = {name: why for name in dict.fromkeys([options.base, *asked]) if (why := absent(name))}
    for name, why in missing.items():
        say(f"left out: {name} ({why})")
    if options.base in missing:
        raise SystemExit(f"{options.base} is what the others are compared with: install it first")
    peers = [name for name in asked if name not in missing and name != options.base]
    names = [options.base, *peers]
    limit = options.limit or (60.0 if options.quick else 300.0)
    settings = Settings(2, limit, 100) if options.quick else Settings(limit=limit)
    wanted = options.cases
    problems = [case for case in wanted if case not in EXTRA] if wanted else None
    results: dict[str, Any] = {
        "base": options.base,
        "peers": names,
        "absent": missing,
        "machine": machine(),
        "versions": versions(),
        "packages": {},
        "date": date.today().isoformat(),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "whole": not (options.quick or options.cases or options.peers),
        "cases": {},
    }
    for problem in chosen(problems, options.quick) if problems or not wanted else []:
        say(problem.title)
        able = [name for name in peers if name in problem.peers]
        found = with_tables(compare, problem, options.base, able, settings)
        results["cases"][problem.key] = found
        keep(results)
        for name, outcome in found.items():
            say(line(name, outcome))
            if "version" in outcome["about"]:
                results["packages"][name] = described(outcome["about"])
    if not wanted or "refits" in wanted:
        say("a thousand refits")
        sleep = chosen(["sleepstudy"], False)[0]
        able = [name for name in names if name in sleep.peers]
        results["refits"] = with_tables(refits, sleep, able, settings)
        say(json.dumps(results["refits"]))
        keep(results)
    if not wanted or "degrees" in wanted:
        say("degrees of freedom")
        able = [name for name in names if name in ("ranef", "lme4")]
        results["degrees"] = with_tables(degrees, able, settings, options.quick)
        say(json.dumps(results["degrees"]))
        keep(results)
    if not wanted or "intervals" in wanted:
        say("bootstrap and profile of sleepstudy")
        sleep = chosen(["sleepstudy"], False)[0]
        able = [name for name in names if name in sleep.peers]
        results["intervals"] = with_tables(intervals, sleep, options.base, able, settings)
        say(json.dumps(results["intervals"]))
        keep(results)
    if not wanted or "boundary" in wanted:
        count = 30 if options.quick else 300
        say(f"{count} problems near the boundary")
        able = [name for name in names if name in ("ranef", "lme4", "glmm", "mixedlm")]
        results["boundary"] = with_tables(survey, able, count, limit)
        say(json.dumps(results["boundary"]))
        keep(results)
    return results


def keep(results: dict[str, Any]) -> None:
    """Write what is there so far: an interrupted run is not lost."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "so-far.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def described(about: dict[str, Any]) -> str:
    more = [about[key] for key in ("language", "blas") if key in about]
    return about["version"] + (f" ({', '.join(more)})" if more else "")


def main() -> int:
    """Measure, write the page and the raw results, name what fell short."""
    results = measure(parse())
    RESULTS.mkdir(exist_ok=True)
    stem = f"{results['date']}-{'whole' if results['whole'] else 'part'}"
    raw = RESULTS / f"{stem}.json"
    raw.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    target = DOCS if results["whole"] else raw.with_suffix(".md")
    target.write_text(page(results), encoding="utf-8")
    say(f"written: {target.relative_to(ROOT)} and {raw.relative_to(ROOT)}")
    short = shortfalls(results)
    for text in short:
        say(f"short of the target: {text}")
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
