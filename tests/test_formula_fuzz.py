"""Whatever is typed: a specification or an error of ranef, and nothing else."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved import again, restored, stored, with_values

from ranef.design.recipe import Recipe
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.errors import LevelError, RanefError
from ranef.storage.codec import Bundle

RNG = np.random.default_rng(2)
N = 36
DATA = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.uniform(1, 2, N).round(1),
        "t": np.tile(np.arange(6), 6),
        "g": np.repeat(list("abcdef"), 6),
        "f": pd.Categorical(np.tile(["p", "q", "r"], 12)),
        "b": np.tile([True, False, False], 12),
        "m": np.where(np.arange(N) % 7 == 0, np.nan, np.arange(N)),
        "s": RNG.choice(["u", "v"], N),
        "d": pd.date_range("2020-01-01", periods=N),
        "a b": 1.0,
    }
)
KERNELS = {"K": (np.eye(6) + 0.2, list("fedcba"))}
FUNCTIONS = {"h": np.tanh}
EASY = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


def words(text):
    return st.sampled_from(text.split())


names = st.sampled_from([*DATA.columns[:-1], "`a b`", ".", "K", "nope", "TRUE", "pi", "np.x"])
numbers = st.sampled_from(["0", "1", "2", "-1", "3.5", "1e5", "1e308", "0.1", "5L"])
functions = words(
    "I log sqrt exp poly ns bs scale center factor C relevel interaction lag within between c "
    "ifelse round as.numeric offset cbind us diag cs ar1 toep ou exp gau mat rr kernel h nope "
    "np.log ordered abs Q"
)
operators = words("+ - * / : ^ ** %in% | || < > == != & && %% %/% =")
atoms = st.one_of(names, names, numbers, st.sampled_from(["'p'", '"a"', "contr.sum", "Sum"]))


def grow(children):
    pair = st.tuples(children, operators, children).map(" ".join)
    call = st.tuples(functions, st.lists(children, max_size=3)).map(
        lambda c: f"{c[0]}({', '.join(c[1])})"
    )
    bar = st.tuples(children, st.sampled_from(["|", "||"]), children).map(
        lambda c: f"({c[0]} {c[1]} {c[2]})"
    )
    sign = st.tuples(st.sampled_from(["-", "!", "+"]), children).map("".join)
    paren = children.map(lambda c: f"({c})")
    return st.one_of(pair, pair, call, bar, sign, paren)


expressions = st.recursive(atoms, grow, max_leaves=12)
good = st.sampled_from(
    ["(1 | g)", "(x | g)", "(1 | g/f)", "(f || g)", "kernel(1 | g, K)", "ar1(t | g)"]
)
formulas = st.one_of(
    st.tuples(expressions, good).map(lambda p: f"y ~ {p[0]} + {p[1]}"),
    st.tuples(expressions, expressions).map(" ~ ".join),
    expressions,
)


def check(formula):
    """Read a formula; what comes out must hold together and repeat itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = specify(formula, DATA, kernels=KERNELS, functions=FUNCTIONS)
        except RanefError:
            return
        assert isinstance(spec, Specification)
        assert spec.X.shape == (spec.n, len(spec.names))
        assert np.isfinite(spec.X).all()
        assert np.isfinite(spec.y).all()
        recipe = again(spec.recipe, FUNCTIONS)
        try:
            repeats(spec, recipe)
        except LevelError:
            assert spec.accounting.kept is not None, "a level that only dropped rows have"


def repeats(spec, recipe):
    """Prediction for the fit's table gives the fit's matrices."""
    kept = spec.accounting.kept
    rows = slice(None) if kept is None else kept
    np.testing.assert_array_equal(recipe.fixed(DATA)[0][rows], spec.X)
    for i, term in enumerate(spec.terms):
        assert term.z.shape == (spec.n, len(term.names))
        codes, z = recipe.random(DATA, i)
        np.testing.assert_array_equal(codes[rows], spec.factors[term.factor].codes)
        np.testing.assert_array_equal(z[rows], term.z)


@EASY
@given(formulas)
def test_formulas_of_the_grammar(formula):
    check(formula)


sound = words(
    "x z t f s b m poly(x,2) ns(z,2) bs(t,3) scale(x) factor(t) log(z) I(x^2) I(t>2) h(x) "
    "lag(x,g,time=t) within(x,g) between(m,g) within(x,g/s) between(x,g/s) within(z,g+f) "
    "C(f,contr.sum) C(s,Treatment('v')) relevel(f,'q') "
    "interaction(f,s) poly(m,2) I(f=='p') ifelse(b,x,z) offset(x) 0 1"
)
joined = st.lists(
    st.tuples(st.sampled_from(["+", "+", "+", ":", "*", "-"]), sound), min_size=1, max_size=5
).map(lambda parts: "1 " + " ".join(f"{sign} {part}" for sign, part in parts))
bars = words(
    "(1|g) (x|g) (x||g) (f|g) (f-1|g) (f||g) (1|g/s) (0+x:f|s) (poly(z,2)|g) ar1(t|g) ou(z|g) "
    "ar1(0+factor(t)|g) exp(t+z|g) cs(f|g) diag(f|g) rr(0+f|g,2) kernel(1|g,K) toep(0+f|g)"
)
whole = st.tuples(joined, st.lists(bars, min_size=1, max_size=3, unique=True)).map(
    lambda p: f"y ~ {p[0]} + {' + '.join(p[1])}"
)


@EASY
@given(whole)
def test_formulas_that_make_sense(formula):
    check(formula)


@EASY
@given(st.text(max_size=60))
def test_any_text(text):
    check(text)


@EASY
@given(st.text(alphabet="yxgf~+-*/:^|()`'\" .,=!<>&%0123456789eL\\\n", max_size=50))
def test_any_text_of_the_alphabet(text):
    check("y ~ " + text)


@EASY
@given(st.binary(max_size=60))
def test_any_bytes(data):
    check(data.decode("latin-1"))
    check(data.decode("utf-8", "replace"))


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["y ~ x + (1 | g)", "Coding", "levels of f", 10**400, -1, 2**31]),
    ),
    lambda c: st.one_of(
        st.lists(c, max_size=3), st.dictionaries(st.text(max_size=5), c, max_size=3)
    ),
    max_leaves=6,
)
SAVED = [
    stored(specify(formula, DATA, kernels=KERNELS).recipe)
    for formula in (
        "y ~ poly(x, 2) + ns(z, 3) + C(f, contr.sum) + scale(t) + within(m, g) + (f || g)",
        "y ~ f * x + bs(z, 4) + (x | g) + (1 | g:f)",
        "y ~ x + ar1(t | g) + (1 | s)",
    )
]


def places(value, path=()):
    """Every place in a nested value."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def spoiled(value, path, new):
    if not path:
        return new
    if isinstance(value, dict):
        return {k: spoiled(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    return [spoiled(v, path[1:], new) if k == path[0] else v for k, v in enumerate(value)]


@EASY
@given(st.data())
def test_spoiled_files_give_errors_only(data):
    saved = data.draw(st.sampled_from(SAVED))
    path = data.draw(st.sampled_from(sorted(places(saved.values), key=str)))
    broken = with_values(saved, spoiled(saved.values, path, data.draw(json_values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recipe = restored(broken, Recipe)
            X, kept = recipe.fixed(DATA)
            assert X.shape[0] == len(kept) == N
            recipe.response(DATA)
            recipe.offset(DATA)
            for i in range(len(recipe.random_recipes)):
                codes, z = recipe.random(DATA, i)
                assert codes.max() < len(recipe.groups[recipe.random_recipes[i].factor].cells)
                assert len(z) == N
        except RanefError:
            return


@EASY
@given(json_values)
def test_any_json_is_no_recipe(values):
    with pytest.raises(RanefError):
        restored(Bundle(values, {}), Recipe)
