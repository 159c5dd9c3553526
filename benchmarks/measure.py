"""Interleaved pairs: ranef, peer, ranef, peer, each in its own process.

The two sides of a pair see the same state of the machine, so that the median
of the pairs' ratios survives a noisy one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.adapters import IN_R
from benchmarks.problems import Problem
from benchmarks.process import Peer, Refused

__all__ = ["Outcome", "Settings", "compare", "intervals", "refits"]

QUESTIONS = ("bootstrap", "profile")


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    Attributes
    ----------
    pairs : int
        Pairs for a fast fit; a fit of more than five seconds gets three, of
        more than thirty one.
    limit : float
        Seconds a package may take for one answer.
    refits : int
        Responses of the refitting case.
    """

    pairs: int = 7
    limit: float = 300.0
    refits: int = 1000


@dataclass
class Outcome:
    """What one package did on one problem.

    Attributes
    ----------
    refused : str or None
        Why there is nothing else.
    first : float or None
        Seconds of the first fit in a fresh process, the table already there.
    seconds : float or None
        Median over pairs of a fit in a warm process.
    ratio : float or None
        Median over pairs of its seconds by those of the base.
    loglik, evaluations, converged
        As in `benchmarks.adapters.Answer`.
    before, peak : int or None
        Bytes of the process before the first fit and at most during it.
    about : dict
        Version, seconds to import, language.
    pairs : list of [base seconds, own seconds]
    """

    refused: str | None = None
    first: float | None = None
    seconds: float | None = None
    ratio: float | None = None
    loglik: float | None = None
    evaluations: int | None = None
    converged: bool | None = None
    before: int | None = None
    peak: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    pairs: list[list[float]] = field(default_factory=list)


def repeats(seconds: float) -> int:
    """Fits in one side of a pair: a twentieth of a second's worth, at most 20."""
    return max(1, min(20, int(0.05 / max(seconds, 1e-6))))


def n_pairs(seconds: float, settings: Settings) -> int:
    if seconds > 30:
        return 1
    return min(settings.pairs, 3) if seconds > 5 else settings.pairs


def begin(peer: Peer, problem: Problem, files: dict[str, str]) -> Outcome:
    """Read the table and fit once, in the fresh process."""
    about = peer.ask("open", problem=problem.asked(), **files)
    answer = peer.ask("fit", rounds=1, memory=True)
    [first] = answer.pop("seconds")
    return Outcome(about=about, first=first, **answer)


def timed(peer: Peer, rounds: int) -> float:
    return median(peer.ask("fit", rounds=rounds)["seconds"])


def pair_up(base: Peer, peer: Peer, outcome: Outcome, settings: Settings) -> None:
    """Fill the times of an outcome by interleaved pairs."""
    assert outcome.first is not None
    if outcome.first > 30:
        outcome.pairs = [[timed(base, 1), outcome.first]]
    else:
        rounds = [repeats(timed(side, 1)) for side in (base, peer)]
        for _ in range(n_pairs(outcome.first, settings)):
            outcome.pairs.append([timed(base, rounds[0]), timed(peer, rounds[1])])
    outcome.seconds = median(own for _, own in outcome.pairs)
    outcome.ratio = median(own / reference for reference, own in outcome.pairs)


def write_table(problem: Problem, folder: Path, csv: bool) -> dict[str, str]:
    """Write the table where each package can read it."""
    table = problem.load()
    files = {"parquet": str(folder / "table.parquet"), "csv": str(folder / "table.csv")}
    table.to_parquet(files["parquet"])
    if csv:
        table.to_csv(files["csv"], index=False)
    return files


def compare(
    problem: Problem, base: str, peers: list[str], settings: Settings, folder: Path
) -> dict[str, dict[str, Any]]:
    """Fit one problem with the base and every peer; return outcomes by name."""
    files = write_table(problem, folder, csv=bool({base, *peers} & set(IN_R)))
    outcomes: dict[str, Outcome] = {}
    with Peer(base, settings.limit) as reference:
        try:
            outcomes[base] = begin(reference, problem, files)
            own = timed(reference, 1)
            rounds, pairs = repeats(own), n_pairs(own, settings)
            times = [timed(reference, rounds) for _ in range(pairs)]
            outcomes[base].seconds, outcomes[base].ratio = median(times), 1.0
        except Refused as reason:
            return {base: asdict(Outcome(refused=str(reason)))}
        for name in peers:
            outcomes[name] = one_peer(name, reference, problem, settings, files)
    return {name: asdict(outcome) for name, outcome in outcomes.items()}


def one_peer(
    name: str, reference: Peer, problem: Problem, settings: Settings, files: dict[str, str]
) -> Outcome:
    with Peer(name, settings.limit) as peer:
        try:
            outcome = begin(peer, problem, files)
            pair_up(reference, peer, outcome, settings)
        except Refused as reason:
            return Outcome(refused=str(reason))
    return outcome


def refits(
    problem: Problem, names: list[str], settings: Settings, folder: Path
) -> dict[str, dict[str, Any]]:
    """Fit one model to many new responses; return seconds for a thousand, by name."""
    import numpy as np

    files = write_table(problem, folder, csv=bool(set(names) & set(IN_R)))
    table = problem.load()
    y = table[problem.formula.split("~")[0].strip()].to_numpy(float)
    drawn = np.random.default_rng(1).normal(0, 0.5 * y.std(), (len(y), settings.refits))
    responses = y[:, None] + drawn
    np.save(folder / "responses.npy", responses)
    np.savetxt(folder / "responses.csv", responses, delimiter=",")
    where = {"npy": str(folder / "responses.npy"), "csv": str(folder / "responses.csv")}
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        with Peer(name, settings.limit) as peer:
            try:
                begin(peer, problem, files)
                peer.ask("refit", count=min(5, settings.refits), **where)
                seconds = peer.ask("refit", count=settings.refits, **where)["seconds"]
                found[name] = {"seconds": seconds * 1000 / settings.refits}
            except Refused as reason:
                found[name] = {"refused": str(reason)}
    return found


def intervals(
    problem: Problem, base: str, names: list[str], settings: Settings, folder: Path
) -> dict[str, dict[str, dict[str, Any]]]:
    """Bootstrap and profile one fit; return seconds and ratios by question and name.

    As for fits the two sides of a pair take turns; what takes more than five seconds is
    done once.
    """
    files = write_table(problem, folder, csv=bool({base, *names} & set(IN_R)))
    found: dict[str, dict[str, dict[str, Any]]] = {question: {} for question in QUESTIONS}
    with Peer(base, settings.limit) as reference:
        begin(reference, problem, files)
        for name in (base, *(n for n in names if n != base)):
            with Peer(name, settings.limit) as peer:
                try:
                    begin(peer, problem, files)
                except Refused as reason:
                    for question in QUESTIONS:
                        found[question][name] = {"refused": str(reason)}
                    continue
                for question in QUESTIONS:
                    found[question][name] = asked(question, reference, peer, settings)
    return found


def asked(question: str, reference: Peer, peer: Peer, settings: Settings) -> dict[str, Any]:
    """Time one question in pairs."""
    order = {"count": settings.refits} if question == "bootstrap" else {}
    pairs: list[list[float]] = []
    try:
        for side in (reference, peer):
            side.ask(question, **({"count": 5} if question == "bootstrap" else {}))
        while len(pairs) < (n_pairs(pairs[0][1], settings) if pairs else 1):
            pairs.append(
                [float(side.ask(question, **order)["seconds"]) for side in (reference, peer)]
            )
    except Refused as reason:
        return {"refused": str(reason)}
    return {
        "seconds": median(own for _, own in pairs),
        "ratio": median(own / base for base, own in pairs),
        "pairs": pairs,
    }
