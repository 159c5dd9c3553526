"""Log densities of the families and their derivatives by mpmath, into families.json.

Each density is a list of terms in its textbook form, summed at a precision that
covers the range; derivatives are mpmath's numerical ones at that precision. The
sum of the magnitudes of the terms' own values is the scale of a row: log densities
are to agree within 1e-12 of it. Run with mpmath:

    python tests/reference/families.py
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import mpmath as mp
from mpmath import exp, expm1, inf, log, log1p, loggamma, pi, sqrt

HERE = Path(__file__).parent
HALF = mp.mpf(1) / 2


def lgamma(x):
    return loggamma(x).real if x > 0 else inf


def expit(x):
    return 1 / (1 + exp(-x))


def normal(x):
    return mp.erfc(-x / sqrt(2)) / 2


def log_normal(x):
    return log(normal(x)) if x < 0 else log1p(-normal(-x))


# --- links ------------------------------------------------------------------------------------

INVERSE = {
    "identity": lambda e: e,
    "log": exp,
    "inverse": lambda e: 1 / e,
    "sqrt": lambda e: e * e,
    "1/mu^2": lambda e: 1 / sqrt(e),
    "logit": expit,
    "probit": normal,
    "cloglog": lambda e: -expm1(-exp(e)),
    "cauchit": lambda e: HALF + mp.atan(e) / pi,
}
COMPLEMENT = {
    "identity": lambda e: 1 - e,
    "log": lambda e: -expm1(e),
    "logit": lambda e: expit(-e),
    "probit": lambda e: normal(-e),
    "cloglog": lambda e: exp(-exp(e)),
    "cauchit": lambda e: HALF - mp.atan(e) / pi,
}


# --- densities: y, extra, mu (a function of eta[0]), eta -> terms --------------------------------


def gaussian(y, extra, link, e):
    s = exp(e[1])
    return [-log(2 * pi) / 2, -e[1], -(((y - INVERSE[link](e[0])) / s) ** 2) / 2]


def censored(y, extra, link, e):
    if y == extra:
        return gaussian(y, extra, link, e)
    mu, s = INVERSE[link](e[0]), exp(e[1])
    if y == -inf:
        return [log_normal((extra - mu) / s)]
    if extra == inf:
        return [log_normal((mu - y) / s)]
    a, b = (extra - mu) / s, (y - mu) / s
    inside = normal(-b) - normal(-a) if b > 0 else normal(a) - normal(b)
    return [log_of(inside, normal(b) + normal(-a))]


def student(y, extra, link, e):
    mu, s, v = INVERSE[link](e[0]), exp(e[1]), exp(e[2])
    return [
        lgamma((v + 1) / 2),
        -lgamma(v / 2),
        -log(v * pi) / 2,
        -e[1],
        -(v + 1) / 2 * log1p(((y - mu) / s) ** 2 / v),
    ]


def skewnormal(y, extra, link, e):
    sigma, alpha = exp(e[1]), e[2]
    delta = alpha / sqrt(1 + alpha**2)
    omega = sigma / sqrt(1 - 2 * delta**2 / pi)
    z = (y - INVERSE[link](e[0]) + omega * delta * sqrt(2 / pi)) / omega
    return [log(2 / omega), -(z**2) / 2, -log(2 * pi) / 2, log_normal(alpha * z)]


def choose(n, y):
    return [lgamma(n + 1), -lgamma(y + 1), -lgamma(n - y + 1)] if n > 1 else [mp.mpf(0)]


def binomial(y, n, link, e):
    terms = choose(n, y)
    if y > 0:
        terms.append(y * log_of(INVERSE[link](e[0]), COMPLEMENT[link](e[0])))
    if y < n:
        terms.append((n - y) * log_of(COMPLEMENT[link](e[0]), INVERSE[link](e[0])))
    return terms


def log_beta(a, b):
    return [lgamma(a), lgamma(b), -lgamma(a + b)]


def betabinomial(y, n, link, e):
    a, b = (exp(e[1]) * f[link](e[0]) for f in (INVERSE, COMPLEMENT))
    return choose(n, y) + log_beta(y + a, n - y + b) + [-t for t in log_beta(a, b)]


def poisson(y, extra, link, e):
    mu = INVERSE[link](e[0])
    return [y * log(mu) if y else mp.mpf(0), -mu, -lgamma(y + 1)]


def negative_binomial(y, size, mu):
    return [
        lgamma(y + size),
        -lgamma(size),
        -lgamma(y + 1),
        -size * log1p(mu / size),
        y * log(mu / (mu + size)) if y else mp.mpf(0),
    ]


def nbinom1(y, extra, link, e):
    mu = INVERSE[link](e[0])
    return negative_binomial(y, mu / exp(e[1]), mu)


def nbinom2(y, extra, link, e):
    return negative_binomial(y, exp(e[1]), INVERSE[link](e[0]))


def nbinom12(y, extra, link, e):
    mu = INVERSE[link](e[0])
    return negative_binomial(y, mu / (exp(e[1]) + mu / exp(e[2])), mu)


def bell(y, extra, link, e):
    theta = mp.lambertw(INVERSE[link](e[0]))
    return [y * log(theta), -expm1(theta), log(mp.bell(int(y))), -lgamma(y + 1)]


def genpois(y, extra, link, e):
    q = exp(-e[1] / 2)
    theta = INVERSE[link](e[0]) * q
    if y == 0:
        return [-theta]
    rate = theta + (1 - q) * y
    if rate <= 0:
        return [-inf]
    return [log(theta), (y - 1) * log(rate), -rate, -lgamma(y + 1)]


FACTORIALS: dict[int, object] = {}


def log_factorial(j):
    if (j, mp.mp.prec) not in FACTORIALS:
        FACTORIALS[j, mp.mp.prec] = lgamma(mp.mpf(j) + 1)
    return FACTORIALS[j, mp.mp.prec]


def conway_sums(theta, nu):
    """log Z and the mean, by summation from the mode to both sides."""
    mode = int(mp.floor(exp(theta / nu)))
    top = mode * theta - nu * log_factorial(mode)
    z = first = mp.mpf(0)
    for step in (1, -1):
        j = mode if step == 1 else mode - 1
        while j >= 0:
            w = exp(j * theta - nu * log_factorial(j) - top)
            z += w
            first += j * w
            if w < mp.mpf(10) ** (-mp.mp.dps - 5):
                break
            j += step
    return top + log(z), first / z


def compois(y, extra, link, e):
    mu, nu = INVERSE[link](e[0]), exp(-e[1])
    shifted = mu + (nu - 1) / (2 * nu)
    start = nu * log(shifted) if shifted > 0 and mu > 0.3 else log(mu)

    def gap(theta):
        return log(conway_sums(theta, nu)[1]) - log(mu)

    theta = mp.findroot(gap, (start, start + mp.mpf("0.001")))
    return [y * theta, -nu * log_factorial(int(y)), -conway_sums(theta, nu)[0]]


def truncated(base):
    def density(y, extra, link, e):
        missed = mp.fsum(base(mp.mpf(0), extra, link, e))
        return [*base(y, extra, link, e), -log(-expm1(missed))]

    return density


def gamma(y, extra, link, e):
    mu, k = INVERSE[link](e[0]), exp(-2 * e[1])
    return [k * log(k / mu), (k - 1) * log(y), -k * y / mu, -lgamma(k)]


def inverse_gaussian(y, extra, link, e):
    mu, phi = INVERSE[link](e[0]), exp(e[1])
    return [-log(2 * pi) / 2, -e[1] / 2, -3 * log(y) / 2, -((y / mu - 1) ** 2) / (2 * phi * y)]


def lognormal(y, extra, link, e):
    mu = INVERSE[link](e[0])
    s2 = log1p((exp(e[1]) / mu) ** 2)
    z = log(y) - log(mu) + s2 / 2
    return [-log(2 * pi) / 2, -log(y), -log(s2) / 2, -z * z / (2 * s2)]


def beta(y, extra, link, e):
    a, b = (exp(e[1]) * f[link](e[0]) for f in (INVERSE, COMPLEMENT))
    return [(a - 1) * log(y), (b - 1) * log1p(-y)] + [-t for t in log_beta(a, b)]


def ordbeta(y, extra, link, e):
    above, top = e[0] - e[2], e[0] - e[2] - exp(e[3])
    if y == 0:
        return [log(expit(-above))]
    if y == 1:
        return [log(expit(top))]
    return [log(expit(above)), log(expit(-top)), log(-expm1(-exp(e[3]))), *beta(y, extra, link, e)]


def tweedie(y, extra, link, e):
    mu, phi = INVERSE[link](e[0]), exp(e[1])
    p1, p2 = expit(e[2]), expit(-e[2])  # p - 1, 2 - p
    lam = mu**p2 / (phi * p2)
    if y == 0:
        return [-lam]
    a, scale = p2 / p1, phi * p1 * mu**p1
    c = log(lam) + a * log(y / scale)
    mode = max(1, int(mp.floor((y / mu) ** p2 * lam)))
    top = mode * c - log_factorial(mode) - lgamma(mode * a)
    total = mp.mpf(0)
    for step in (1, -1):
        j = mode if step == 1 else mode - 1
        while j >= 1:
            w = exp(j * c - log_factorial(j) - lgamma(j * a) - top)
            total += w
            if w < mp.mpf(10) ** (-mp.mp.dps - 5):
                break
            j += step
    sizes = [mode * c, -log_factorial(mode), -lgamma(mode * a)]
    return [-lam, -y / scale, -log(y), log(total), *sizes]


def log_of(p, q):
    return log(p) if p < HALF else log1p(-q)


def cumulative(y, categories, link, e):
    f, g = INVERSE[link], COMPLEMENT[link]
    if y == 0:
        return [log_of(f(e[1] - e[0]), g(e[1] - e[0]))]
    if y == categories - 1:
        return [log_of(g(e[2] - e[0]), f(e[2] - e[0]))]
    a, b = e[1] - e[0], e[2] - e[0]
    return [log_of(g(b) - g(a) if b > 0 else f(a) - f(b), f(b) + g(a))]


def multinomial(y, categories, link, e):
    own = e[int(y) - 1] if y > 0 else mp.mpf(0)
    return [own, -log(1 + mp.fsum(exp(v) for v in e))]


def inflated(base):
    def density(y, extra, link, e):
        zero, rest = expit(e[-1]), expit(-e[-1])
        if y > 0:
            return [log(rest), *base(y, extra, link, e[:-1])]
        below = mp.fsum(base(y, extra, link, e[:-1]))
        return [log(zero + rest * exp(below))]

    return density


def hurdle(base):
    def density(y, extra, link, e):
        return [log(expit(-e[-1])), *base(y, extra, link, e[:-1])] if y else [log(expit(e[-1]))]

    return density


DENSITIES = {
    "gaussian": gaussian,
    "censored": censored,
    "skewnormal": skewnormal,
    "t": student,
    "binomial": binomial,
    "betabinomial": betabinomial,
    "poisson": poisson,
    "nbinom1": nbinom1,
    "nbinom2": nbinom2,
    "nbinom12": nbinom12,
    "bell": bell,
    "genpois": genpois,
    "compois": compois,
    "Gamma": gamma,
    "inverse.gaussian": inverse_gaussian,
    "lognormal": lognormal,
    "beta": beta,
    "ordbeta": ordbeta,
    "tweedie": tweedie,
    "cumulative": cumulative,
    "multinomial": multinomial,
}
for name in ("poisson", "nbinom1", "nbinom2", "nbinom12", "genpois", "compois", "bell"):
    DENSITIES[f"truncated_{name}"] = truncated(DENSITIES[name])


# --- points -----------------------------------------------------------------------------------


def grid(name, link, ys, *etas, extra=None, zero=False):
    for y in ys:
        for eta in itertools.product(*etas):
            yield name, link, zero, y, extra, eta


def points():
    counts, means = (0, 1, 3, 40, 2500), (-5.0, 0.4, 4.5)
    tails = (-700.0, -30.0, 30.0)
    yield from grid("gaussian", "identity", (-1.3, 1e5), (-2.0, 1e5 + 0.25), (-5.0, 0.7))
    yield from grid("gaussian", "log", (1.7,), (-3.0, 0.6), (0.2,))
    yield from grid("gaussian", "inverse", (1.7,), (-3.0, 0.6), (0.2,))
    for lower, upper in ((-inf, 0.3), (0.3, inf), (0.3, 0.3), (0.3, 0.4), (0.3, 0.30001), (-9, 7)):
        etas = ((-40.0, 0.35, 30.0), (-1.0, 0.5))
        yield from grid("censored", "identity", (lower,), *etas, extra=upper)
    yield from grid("gaussian", "sqrt", (1.7,), (-3.0, 0.6), (0.2,))
    yield from grid("gaussian", "logit", (0.7,), (-30.0, -0.6, 4.0), (0.2,))
    etas = ((0.3, 40.0), (-2.0, 0.4), (-40.0, -1.3, 0.0, 1e-3, 2.0, 300.0))
    yield from grid("skewnormal", "identity", (0.1, 3.7), *etas)
    yield from grid("skewnormal", "log", (1.7,), (-1.0,), (0.2,), (1.5,))
    yield from grid("skewnormal", "logit", (0.7,), (0.4,), (-1.2,), (-1.5,))
    etas = ((0.3, 4e9), (-30.0, -0.4, 3.0), (-3.0, 1.2, 5.0, 30.0))
    yield from grid("t", "identity", (0.3, 2.5), *etas)
    for link, eta in (
        ("logit", (-700.0, -30.0, -1.2, 0.7, 30.0, 700.0)),
        ("probit", (-37.0, -6.0, -4.9, -0.4, 1.1, 7.0, 30.0)),
        ("cloglog", (-700.0, -30.0, -1.0, -0.1, 1.5, 4.0)),
        ("cauchit", (-1e6, -30.0, -0.5, 0.8, 700.0)),
        ("log", (-700.0, -1.0, -1e-3)),
        ("identity", (1e-9, 0.3, 0.875)),
    ):
        for n, ys in ((1, (0, 1)), (1000, (0, 17, 1000))):
            yield from grid("binomial", link, ys, eta, extra=n)
    for n, ys in ((1, (0, 1)), (7, (0, 3, 7)), (100000, (40, 99999))):
        phis = (-8.0, 1.3, 9.0, 30.0)
        yield from grid("betabinomial", "logit", ys, (-30.0, -0.4, 3.0), phis, extra=n)
    yield from grid("betabinomial", "cloglog", (3,), (-0.4,), (1.3,), extra=7)
    yield from grid("poisson", "log", (0, 1, 40, 10**9), (*tails, *means, 700.0))
    for link in ("identity", "sqrt", "inverse"):
        yield from grid("poisson", link, (0, 1, 40), (1e-5, 0.4, 37.0))
    for name in ("nbinom1", "nbinom2"):
        phis = (-30.0, -4.0, 0.3, 6.0, 25.0)
        yield from grid(name, "log", counts, (-30.0, 0.4, 4.5, 20.0), phis)
        yield from grid(name, "log", (0, 2), (-700.0, 700.0), (0.3, 100.0))
        yield from grid(name, "sqrt", (0, 2), (1.4,), (0.3,))
        yield from grid(f"truncated_{name}", "log", (1, 3, 400), (-20.0, -3.0, 0.4, 6.0), phis)
    both = ((-30.0, -2.0, 0.7, 6.0), (-4.0, 0.3, 20.0))
    yield from grid("nbinom12", "log", counts, (-30.0, 0.4, 4.5, 20.0), *both)
    yield from grid("nbinom12", "sqrt", (0, 2), (1.4,), (0.3,), (0.9,))
    yield from grid("truncated_nbinom12", "log", (1, 3, 400), (-3.0, 0.4, 6.0), (0.3,), (1.2,))
    yield from grid("bell", "log", (0, 1, 2, 7, 40, 400, 1500), (-300.0, -30.0, *means, 20.0))
    yield from grid("bell", "sqrt", (0, 3), (1.4,))
    yield from grid("truncated_bell", "log", (1, 2, 40), (-30.0, *means))
    yield from grid("inverse.gaussian", "1/mu^2", (0.7, 180.0), (0.9, 1e-6), (-1.0, 0.3))
    yield from grid("truncated_poisson", "log", (1, 2, 40), (*tails, -1.0, *means))
    yield from grid("genpois", "log", counts, means, (-0.2, 0.0, 1e-6, 1.5, 8.0))
    yield from grid("truncated_genpois", "log", (1, 3), means, (-0.2, 0.0, 1.5))
    yield from grid("compois", "log", (0, 1, 40), (-12.0, -2.0, 0.4, 3.0), (-2.0, 0.0, 0.7))
    yield from grid("truncated_compois", "log", (1, 3), (-2.0, 0.4, 3.0), (-2.0, 0.7))
    for name in ("Gamma", "inverse.gaussian", "lognormal"):
        etas = ((-30.0, -1.0, 0.4, 5.0), (-12.0, -1.0, 0.3, 4.0))
        yield from grid(name, "log", (1e-6, 0.7, 180.0), *etas)
        for link in ("identity", "inverse", "sqrt"):
            yield from grid(name, link, (0.7,), (0.9,), (-1.0,))
    yield from grid("Gamma", "log", (0.7,), (-300.0, 700.0), (-1.0,))
    etas = ((-30.0, -0.4, 3.0), (-6.0, 1.3, 12.0))
    yield from grid("beta", "logit", (1e-9, 0.3, 0.999), *etas)
    yield from grid("beta", "probit", (0.3,), (0.4,), (1.3,))
    etas = ((-3.0, 0.4, 30.0), (1.3,), (-1.0, 0.2), (-4.0, 1.0))
    yield from grid("ordbeta", "logit", (0.0, 0.3, 1.0), *etas)
    etas = ((0.4,), (-2.0, 0.5, 3.0), (-2.0, 0.1, 2.0))
    yield from grid("tweedie", "log", (0.0, 0.02, 1.3, 60.0), *etas)
    yield from grid("tweedie", "log", (0.0, 1.3), (-2.0, 5.0), (0.5,), (0.1,))
    for link in ("logit", "probit", "cloglog", "cauchit"):
        eta = (-37.0, -1.3, 0.35, 8.0) if link != "cloglog" else (-4.0, -1.3, 0.35, 30.0)
        for upper, lower in ((0.5, 0.25), (0.5, 0.4999), (3.0, -3.0), (1.0, -2.0)):
            yield from grid("cumulative", link, (0, 1, 2), eta, (upper,), (lower,), extra=3)
    yield from grid("cumulative", "logit", (0, 1, 2), (-700.0, 700.0), (0.5,), (0.25,), extra=3)
    etas = ((-700.0, -1.0, 30.0), (0.3, 29.0), (-2.0,))
    yield from grid("multinomial", "logit", (0, 1, 2, 3), *etas, extra=4)
    yield from seams()
    zeros = (-30.0, -1.0, 2.0)
    yield from grid("poisson", "log", (0, 3), (-20.0, 0.4, 4.0), zeros, zero=True)
    yield from grid("nbinom2", "log", (0, 3), (-2.0, 0.4), (0.5,), zeros, zero=True)
    yield from grid("truncated_nbinom1", "log", (0, 3), (0.4,), (0.5,), zeros, zero=True)
    yield from grid("binomial", "logit", (0, 3), (0.4,), zeros, extra=7, zero=True)
    yield from grid("Gamma", "log", (0.0, 0.7), (0.4,), (0.5,), zeros, zero=True)
    yield from grid("tweedie", "log", (0.0, 0.7), (0.4,), (0.5,), (0.2,), (-1.0,), zero=True)


def seams():
    """Both sides of the places where a special function goes from one form to another."""
    yield from grid("nbinom2", "log", (24, 25, 26), (0.4,), (2.7, 2.72, 29.9, 30.1, 600.5))
    yield from grid("nbinom2", "log", (3,), (0.4,), (2.69, 2.71, -49.9, -50.1))
    yield from grid("truncated_poisson", "log", (3, 200), (-0.70, -0.69, -11.6, -11.4, 6.61))
    yield from grid("Gamma", "log", (0.7,), (0.4,), (-1.36, -1.35))
    yield from grid("Gamma", "log", (0.7,), (0.14, 0.15), (0.3,))
    yield from grid("t", "identity", (0.3,), (-1.0,), (0.2,), (2.3, 3.4, 3.41))
    yield from grid("t", "identity", (0.3,), (0.1, 2.4), (0.2,), (0.5,))
    yield from grid("beta", "logit", (0.3,), (0.4,), (3.0, 3.3, 3.6))
    for w in (0.49, 0.51):
        yield from grid("cumulative", "probit", (1,), (0.35, 9.0, 11.0), (w,), (0.0,), extra=3)
    for w in (0.3, 0.31, 1.0, 1.01):
        yield from grid("cumulative", "cauchit", (1,), (0.01,), (w,), (0.0,), extra=3)


# --- values -----------------------------------------------------------------------------------

HURDLES = ("truncated_nbinom1", "Gamma")


def density_of(name, zero):
    base = DENSITIES[name]
    if not zero:
        return base
    return hurdle(base) if name in HURDLES else inflated(base)


def orders(k):
    """Multi-indices in the order in which the core lists its derivatives."""
    for order in range(4):
        for c in itertools.combinations_with_replacement(range(k), order):
            yield tuple(c.count(i) for i in range(k))


def digits(name, eta):
    """Decimal digits at which the textbook form still has twenty after cancellation."""
    if name in ("compois", "truncated_compois", "tweedie"):
        return 40
    return 50 + (int(max(abs(v) for v in eta)) if name == "multinomial" else 10)


def row(name, link, zero, y, extra, eta):
    density = density_of(name, zero)
    mp.mp.dps = digits(name, eta)
    e = tuple(mp.mpf(v) for v in eta)
    y, x = mp.mpf(y), None if extra is None else mp.mpf(extra)
    scale = mp.fsum(abs(t) for t in density(y, x, link, e))

    def total(*v):
        return mp.fsum(density(y, x, link, v))

    if total(*e) == -inf:
        return None
    values = [total(*e)] + [mp.diff(total, e, n) for n in itertools.islice(orders(len(e)), 1, None)]
    return {
        "name": name,
        "link": link,
        "zero": zero,
        "y": number(y),
        "extra": None if x is None else number(x),
        "eta": list(eta),
        "scale": number(scale),
        "values": [number(v) for v in values],
    }


def number(v):
    """The nearest double; infinity only beyond the doubles."""
    return float(v)


def main():
    wanted = sys.argv[1:]
    rows = []
    for point in points():
        if wanted and point[0] not in wanted:
            continue
        answer = row(*point)
        if answer is not None:
            rows.append(answer)
    provenance = {"mpmath": mp.__version__, "script": "tests/reference/families.py"}
    path = HERE / "families.json"
    if wanted and path.exists():
        kept = json.loads(path.read_text())["rows"]
        rows = [r for r in kept if r["name"] not in wanted] + rows
    lines = ",\n".join(json.dumps(r) for r in rows)
    path.write_text(
        f'{{"provenance": {json.dumps(provenance)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8"
    )
    print(len(rows), "rows")


if __name__ == "__main__":
    main()
