"""Tables of given shapes, simulated from a fixed generator.

Tests and benchmarks use the same ones. Each function returns a `Shape`; the
same call gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Shape",
    "big",
    "binary",
    "boundary",
    "crossed",
    "kb07",
    "mrk17",
    "ordinal",
    "prompts",
    "visits",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shape:
    """A model and its simulated table.

    Attributes
    ----------
    name : str
    formula : str
    columns : dict
        Column name -> (n,) array; groups are integers.
    """

    name: str
    formula: str
    columns: Mapping[str, NDArray[np.generic]]

    @property
    def n(self) -> int:
        return len(next(iter(self.columns.values())))

    def frame(self) -> pd.DataFrame:
        """As a pandas table."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))


def effects(rng: np.random.Generator, levels: int, factor: Floats) -> Floats:
    """Draw (levels, r) effects with covariance factor factor'."""
    drawn: Floats = rng.standard_normal((levels, factor.shape[1])) @ factor.T
    return drawn


def added(drawn: Floats, group: Ints, z: Floats) -> Floats:
    """Row i gets z[i] . drawn[group[i]]."""
    total: Floats = np.einsum("ij,ij->i", drawn[group], z)
    return total


def correlated(sds: Floats, correlation: float) -> Floats:
    """Cholesky factor of a covariance with one common correlation."""
    r = len(sds)
    matrix = np.full((r, r), correlation) + (1.0 - correlation) * np.eye(r)
    factor: Floats = np.diag(sds) @ np.linalg.cholesky(matrix)
    return factor


def halves(label: Ints) -> Floats:
    """Code a two-level factor as -1 and +1."""
    coded: Floats = 2.0 * (label % 2) - 1.0
    return coded


def kb07(kind: str = "regular") -> Shape:
    """56 subjects by 32 items, three within factors as slopes on both: 20 parameters.

    ``kind="singular"`` draws both covariance matrices with rank two.
    """
    rng = np.random.default_rng([7, ["regular", "singular"].index(kind)])
    subject, item = (a.ravel() for a in np.meshgrid(np.arange(56), np.arange(32), indexing="ij"))
    cell = (subject + item) % 8
    kept = np.sort(rng.permutation(len(cell))[:1789])
    subject, item, cell = subject[kept], item[kept], cell[kept]
    spkr, prec, load = halves(cell), halves(cell // 2), halves(cell // 4)
    z = np.column_stack([np.ones(len(cell)), spkr, prec, load])
    by_subject = correlated(np.array([300.0, 130.0, 150.0, 160.0]), 0.3)
    by_item = correlated(np.array([270.0, 120.0, 150.0, 130.0]), -0.2)
    if kind == "singular":
        by_subject, by_item = by_subject[:, :2], by_item[:, :2]
    mean = 2180 - 67 * spkr - 334 * prec + 78 * load + 20 * spkr * prec
    rt = (
        mean
        + added(effects(rng, 56, by_subject), subject, z)
        + added(effects(rng, 32, by_item), item, z)
        + 400 * rng.standard_normal(len(cell))
    )
    return Shape(
        f"kb07_{kind}",
        "rt ~ spkr * prec * load + (spkr + prec + load | subj) + (spkr + prec + load | item)",
        {"rt": rt, "subj": subject, "item": item, "spkr": spkr, "prec": prec, "load": load},
    )


def mrk17() -> Shape:
    """16,409 rows, 240 items with 5 effects, 73 subjects with 6: 36 parameters.

    The shape of an experiment on masked priming: five two-level factors fully
    crossed in the fixed effects (32 columns), one of them between items.
    """
    rng = np.random.default_rng(17)
    subject, item = (a.ravel() for a in np.meshgrid(np.arange(73), np.arange(240), indexing="ij"))
    kept = np.sort(rng.permutation(len(subject))[:16409])
    subject, item = subject[kept], item[kept]
    n = len(subject)
    names = ("F", "P", "Q", "lQ", "lT")
    factors = [halves(item), *(halves(rng.integers(0, 2, n)) for _ in names[1:])]
    within = np.column_stack([np.ones(n), *factors[1:]])
    everything = np.column_stack([np.ones(n), *factors])
    by_item = correlated(np.array([0.15, 0.04, 0.03, 0.05, 0.04]), 0.2)
    by_subject = correlated(np.array([0.25, 0.05, 0.04, 0.06, 0.05, 0.05]), -0.1)
    slopes = np.array([0.05, 0.06, 0.08, 0.03, 0.04])
    response = (
        -1.6
        + everything[:, 1:] @ slopes
        + added(effects(rng, 240, by_item), item, within)
        + added(effects(rng, 73, by_subject), subject, everything)
        + 0.4 * rng.standard_normal(n)
    )
    return Shape(
        "mrk17",
        "y ~ F * P * Q * lQ * lT + (P + Q + lQ + lT | item) + (F + P + Q + lQ + lT | subj)",
        {"y": response, "subj": subject, "item": item, **dict(zip(names, factors, strict=True))},
    )


def crossed(n: int = 1_000_000, first: int = 50_000, second: int = 5_000) -> Shape:
    """Two crossed factors: every level occurs, pairs at random."""
    rng = np.random.default_rng(50)
    g, h = (np.concatenate([np.arange(q), rng.integers(0, q, n - q)]) for q in (first, second))
    g, h = rng.permutation(g), rng.permutation(h)
    x = rng.standard_normal(n)
    noise = rng.standard_normal(n)
    y = 1 + 0.3 * x + 0.6 * rng.standard_normal(first)[g] + 0.4 * rng.standard_normal(second)[h]
    return Shape("crossed", "y ~ x + (1 | g) + (1 | h)", {"y": y + noise, "x": x, "g": g, "h": h})


def movers(schools: int, move: float = 0.03, local: bool = False, size: int = 60) -> Shape:
    """`size` pupils and twelve teachers a school, three grades; a few pupils move once.

    They go to any school, or (`local`) to one of the next three.
    """
    rng = np.random.default_rng(60 + schools)
    pupils, pupil = size * schools, np.tile(np.arange(size * schools), 3)
    home = np.repeat(np.arange(schools), size)
    anywhere = rng.integers(0, schools, pupils)
    near = (home + rng.integers(-3, 4, pupils)) % schools
    later = np.where(rng.random(pupils) < move, near if local else anywhere, home)
    when, grade = rng.integers(1, 3, pupils), np.repeat(np.arange(3), pupils)
    school = np.where(grade >= np.tile(when, 3), np.tile(later, 3), np.tile(home, 3))
    teacher = 12 * school + 4 * grade + rng.integers(0, 4, 3 * pupils)
    x = rng.standard_normal(3 * pupils)
    y = 1 + 0.5 * x + rng.standard_normal(pupils)[pupil] + rng.standard_normal(3 * pupils)
    y += 0.7 * rng.standard_normal(12 * schools)[teacher]
    y += 0.5 * rng.standard_normal(schools)[school]
    passed = rng.random(3 * pupils) < 1 / (1 + np.exp(1 - y))
    columns = {
        "y": y, "passed": passed.astype(float), "x": x, "grade": grade.astype(float),
        "pupil": pupil, "teacher": teacher, "school": school,
    }  # fmt: skip
    formula = "y ~ x + grade + (1 | pupil) + (1 | teacher) + (1 | school)"
    return Shape("movers", formula, columns)


def star() -> Shape:
    """Tennessee's STAR: 10,000 pupils of 80 schools from kindergarten to grade 3.

    Of 1,387 teachers each has one class of a grade and a school; pupils come and leave between
    the grades, and 5% of them change school once.
    """
    rng = np.random.default_rng(1985)
    schools, pupils, rows = 80, 10_000, 24_578
    size = rng.gamma(8.0, size=schools)
    home = rng.choice(schools, pupils, p=size / size.sum())
    later = np.where(rng.random(pupils) < 0.05, rng.integers(0, schools, pupils), home)
    change = rng.integers(1, 4, pupils)
    length = rng.choice([1, 2, 3, 4], pupils, p=[0.31, 0.19, 0.16, 0.34])
    first = np.floor(rng.random(pupils) * (5 - length)).astype(int)
    stays = (first[:, None] <= np.arange(4)) & (np.arange(4) < (first + length)[:, None])
    pupil, grade = np.nonzero(stays)
    kept = np.sort(rng.permutation(len(pupil))[:rows])
    pupil, grade = pupil[kept], grade[kept]
    school = np.where(grade >= change[pupil], later[pupil], home[pupil])
    cells = np.bincount(4 * school + grade, minlength=4 * schools)
    classes = np.maximum(np.round(cells * 1387 / rows).astype(int), 1)
    start = np.cumsum(classes) - classes
    cell = 4 * school + grade
    teacher = start[cell] + np.floor(rng.random(len(cell)) * classes[cell]).astype(int)
    x = rng.standard_normal(len(cell))
    y = 50 * grade + 3 * x + 20 * rng.standard_normal(pupils)[pupil]
    y += 10 * rng.standard_normal(classes.sum())[teacher] + 8 * rng.standard_normal(schools)[school]
    y += 18 * rng.standard_normal(len(cell))
    columns = {"y": y, "x": x, "gr": grade.astype(float), "id": pupil, "tch": teacher}
    formula = "y ~ gr + x + (1 | id) + (1 | sch) + (1 | tch)"
    return Shape("star", formula, {**columns, "sch": school})


def ratings(scale: float = 1.0) -> Shape:
    """MovieLens 25M: users of very different activity, films of very different popularity."""
    rng = np.random.default_rng(25)
    n, users, items = (int(scale * size) for size in (25_000_095, 162_541, 59_047))
    activity, popularity = rng.lognormal(0, 1.2, users), rng.lognormal(0, 2.4, items)
    more = rng.choice(users, n - users, p=activity / activity.sum())
    user = np.concatenate([np.arange(users), more]).astype(np.int32)
    more = rng.choice(items, n - items, p=popularity / popularity.sum())
    item = np.concatenate([more, np.arange(items)]).astype(np.int32)
    rng.shuffle(item)
    x = rng.standard_normal(n)
    y = 3.5 + 0.1 * x + 0.43 * rng.standard_normal(users)[user]
    y += 0.5 * rng.standard_normal(items)[item] + 0.85 * rng.standard_normal(n)
    columns = {"y": y, "x": x, "user": user, "item": item}
    return Shape("ratings", "y ~ x + (1 | user) + (1 | item)", columns)


def near_nested(n: int = 50_000, first: int = 5000, second: int = 3000) -> Shape:
    """Two factors that nest but for three rows in a hundred."""
    rng = np.random.default_rng(53)
    g = np.concatenate([np.arange(first), rng.integers(0, first, n - first)])
    h = np.where(rng.random(n) < 0.03, rng.integers(0, second, n), g * second // first)
    x = rng.standard_normal(n)
    y = 0.3 * x + rng.standard_normal(first)[g] + 0.6 * rng.standard_normal(second)[h]
    y += rng.standard_normal(n)
    return Shape("near nested", "y ~ x + (1 | g) + (1 | h)", {"y": y, "x": x, "g": g, "h": h})


def big(n: int = 1_000_000, levels: int = 100_000) -> Shape:
    """One factor of many levels with an intercept and a slope."""
    rng = np.random.default_rng(100)
    g = rng.permutation(np.arange(n) % levels)
    x = rng.standard_normal(n)
    z = np.column_stack([np.ones(n), x])
    drawn = effects(rng, levels, correlated(np.array([0.8, 0.5]), 0.3))
    y = 1 + 0.5 * x + added(drawn, g, z) + rng.standard_normal(n)
    return Shape("big", "y ~ x + (x | g)", {"y": y, "x": x, "g": g})


def binary(n: int = 1_000_000, levels: int = 100_000) -> Shape:
    """Bernoulli rows of one factor of many levels."""
    rng = np.random.default_rng(101)
    g = rng.permutation(np.arange(n) % levels)
    x = rng.standard_normal(n)
    eta = -0.5 + 0.7 * x + rng.standard_normal(levels)[g]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(np.float64)
    return Shape("binary", "y ~ x + (1 | g)", {"y": y, "x": x, "g": g})


def ordinal(n: int = 10_000, levels: int = 500) -> Shape:
    """Five ordered categories 1 to 5 by a cumulative logit."""
    rng = np.random.default_rng(102)
    g = rng.permutation(np.arange(n) % levels)
    x = rng.standard_normal(n)
    latent = 0.8 * x + 0.9 * rng.standard_normal(levels)[g] + rng.logistic(size=n)
    y = 1 + np.searchsorted([-1.5, -0.3, 0.6, 2.0], latent)
    return Shape("ordinal", "y ~ x + (1 | g)", {"y": y, "x": x, "g": g})


BOUNDARY_SDS = tuple(product((0.0, 0.1, 0.5), repeat=4))


def boundary(i: int) -> Shape:
    """The i-th problem near the boundary: 600 rows, three crossed terms, one with a slope.

    True standard deviations of intercept and slope on g, of h and of k are
    drawn from 0, 0.1 and 0.5; the residual's is 1.
    """
    rng = np.random.default_rng([300, i])
    n = 600
    of_g, of_slope, of_h, of_k = BOUNDARY_SDS[rng.integers(len(BOUNDARY_SDS))]
    g, h, k = (rng.integers(0, q, n) for q in (30, 20, 12))
    x = rng.standard_normal(n)
    z = np.column_stack([np.ones(n), x])
    factor = correlated(np.array([of_g, of_slope]), rng.uniform(-0.9, 0.9))
    y = (
        1
        + 0.2 * x
        + added(effects(rng, 30, factor), g, z)
        + of_h * rng.standard_normal(20)[h]
        + of_k * rng.standard_normal(12)[k]
        + rng.standard_normal(n)
    )
    return Shape(
        f"boundary_{i}",
        "y ~ x + (1 + x | g) + (1 | h) + (1 | k)",
        {"y": y, "x": x, "g": g, "h": h, "k": k},
    )


def prompts(persons: int = 500, count: int = 70) -> Shape:
    """Prompts at irregular hours, slopes of persons, and errors that decay over half a day."""
    rng = np.random.default_rng(31)
    person = np.repeat(np.arange(persons), count)
    hours = np.sort(rng.uniform(0.0, 240.0, (persons, count)), axis=1)
    x = rng.standard_normal(persons * count)
    e = rng.standard_normal((persons, count))
    for j in range(1, count):
        rho = np.exp(-(hours[:, j] - hours[:, j - 1]) / 6.0)
        e[:, j] = rho * e[:, j - 1] + np.sqrt(1.0 - rho**2) * e[:, j]
    b = effects(rng, persons, np.diag([0.8, 0.3]))
    y = 1.0 + 0.5 * x + b[person, 0] + b[person, 1] * x + e.ravel()
    columns = {"y": y, "x": x, "person": person, "hours": hours.ravel()}
    return Shape("prompts", "y ~ x + (x | person)", columns)


def beeps(persons: int = 200, count: int = 30) -> Shape:
    """Prompts by their numbers, one in ten missed, slopes of persons and AR(1) errors."""
    rng = np.random.default_rng(33)
    person, prompt = np.repeat(np.arange(persons), count), np.tile(np.arange(count), persons)
    x = rng.standard_normal(persons * count)
    e = rng.standard_normal((persons, count))
    for j in range(1, count):
        e[:, j] = 0.5 * e[:, j - 1] + np.sqrt(0.75) * e[:, j]
    b = effects(rng, persons, np.diag([0.8, 0.3]))
    y = 1.0 + 0.5 * x + b[person, 0] + b[person, 1] * x + e.ravel()
    kept = rng.random(len(y)) > 0.1
    columns = {"y": y, "x": x, "person": person, "prompt": prompt}
    columns = {name: values[kept] for name, values in columns.items()}
    return Shape("beeps", "y ~ x + (x | person)", columns)


def visits(persons: int = 800, count: int = 10) -> Shape:
    """Two arms of a trial seen several times, one visit in ten missed."""
    rng = np.random.default_rng(32)
    place = np.arange(count)
    sd = 1.0 + 0.1 * place
    covariance = np.outer(sd, sd) * 0.6 ** np.abs(place[:, None] - place)
    arm, base = rng.integers(0, 2, persons), rng.standard_normal(persons)
    y = rng.standard_normal((persons, count)) @ np.linalg.cholesky(covariance).T
    y = y + 0.15 * arm[:, None] * place + 0.5 * base[:, None]
    kept = rng.random(persons * count) > 0.1
    columns = {
        "y": y.ravel(),
        "id": np.repeat(np.arange(persons), count),
        "visit": np.array([f"v{k:02d}" for k in place])[np.tile(place, persons)],
        "arm": np.array(["control", "active"])[np.repeat(arm, count)],
        "base": np.repeat(base, count),
    }
    return Shape("visits", "y ~ base + arm * visit", {k: v[kept] for k, v in columns.items()})
