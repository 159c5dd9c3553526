"""The formula language: what is understood, what is refused, and in which words."""

import sys

import numpy as np
import pandas as pd
import pytest

from ranef.design.specify import specify
from ranef.errors import DataError, FormulaError, ModelError, RanefError, UnknownColumnError
from ranef.formula.labels import level_text, number_text
from ranef.formula.model import read_formula
from ranef.formula.parser import parse_expression, parse_formula
from ranef.formula.syntax import print_node

RNG = np.random.default_rng(1)
N = 48
DATA = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.uniform(1, 2, N),
        "g": np.repeat(np.arange(8), 6),
        "f": np.tile(["p", "q", "r"], 16),
        "a b": RNG.normal(size=N),
        "week": np.tile(np.arange(6), 8),
        "flag": np.tile([True, False], 24),
    }
)


def fixed(formula, columns=("y", "x", "z", "g", "f")):
    terms = read_formula(formula, columns).fixed
    names = [":".join(terms.keys[i] for i in term) for term in terms.terms]
    return (["1"] if terms.intercept else []) + names


@pytest.mark.parametrize(
    ("formula", "printed"),
    [
        ("poly(x,2)", "poly(x, 2)"),
        ("I( x **2 )", "I(x^2)"),
        ("np.log(x)", "log(x)"),
        ("numpy.sqrt(x)+math.exp(x)", "sqrt(x) + exp(x)"),
        ("np.where(x>1,1,0)", "ifelse(x > 1, 1, 0)"),
        ('Q("a b")', "`a b`"),
        ("`a b`*`x`", "`a b` * x"),
        ("splines::ns(x,df=3)", "ns(x, df = 3)"),
        ("C(a,Treatment(reference='b'))", 'C(a, Treatment(reference = "b"))'),
        ("I(-x*2/3+z)", "I(-x * 2/3 + z)"),
        ("I(!x>1 & z!=2 | f=='p')", 'I(!x > 1 & z != 2 | f == "p")'),
        ("I(1e5*x-0.0001)", "I(1e+05 * x - 1e-04)"),
        ("f(x,)", "f(x)"),
        ("x%in%z", "x %in% z"),
        ("x%%2", "x%%2"),
        ("-x^2", "-x^2"),
        ("2^-1", "2^-1"),
        (".x + x.1", ".x + x.1"),
        ("'it''s'"[:4], '"it"'),
    ],
)
def test_print_is_that_of_r(formula, printed):
    node = parse_expression(formula)
    assert print_node(node) == printed
    assert parse_expression(printed) == node or print_node(parse_expression(printed)) == printed


@pytest.mark.parametrize(
    ("formula", "terms"),
    [
        ("y ~ .", ["1", "x", "z", "g", "f"]),
        ("y ~ . + (1 | g)", ["1", "x", "z", "f"]),
        ("y ~ . - x + (1 | g)", ["1", "z", "f"]),
        ("log(y) ~ (.)^2 + (x | g / f)", ["1", "x", "z", "x:z"]),
        ("y ~ . + offset(x) + (1 | g)", ["1", "z", "f"]),
        ("y ~ x + 0", ["x"]),
        ("y ~ 0 + x + 1", ["1", "x"]),
        ("y ~ -1 + x", ["x"]),
        ("y ~ x - 0", ["1", "x"]),
        ("y ~ (x + z - 1)", ["x", "z"]),
        ("y ~ a ^ 1000000000", ["1", "a"]),
        ("y ~ a*b*c - a:b:c", ["1", "a", "b", "c", "a:b", "a:c", "b:c"]),
    ],
)
def test_terms(formula, terms):
    assert fixed(formula) == terms


def test_the_dot_leaves_out_weights_and_offset():
    data = DATA.drop(columns=["a b", "flag", "week", "f"]).assign(w=1.0, shift=0.5)
    spec = specify("y ~ . + (1 | g)", data, weights="w", offset="shift")
    assert spec.names == ("(Intercept)", "x", "z")


@pytest.mark.parametrize(
    ("bar", "groups"),
    [
        ("(1 | a)", ["a"]),
        ("(1 | a:b)", ["a:b"]),
        ("(1 | a/b)", ["b:a", "a"]),
        ("(1 | a/b/c)", ["c:b:a", "b:a", "a"]),
        ("(1 | a:b/c)", ["c:a:b", "a:b"]),
        ("((1 | (a)))", ["a"]),
    ],
)
def test_nesting_is_written_out_finest_first(bar, groups):
    found = read_formula(f"y ~ {bar}").bars[0].groups
    assert [group.text for group in found] == groups


def test_structures_are_read():
    bars = read_formula(
        "y ~ us(x | g) + diag(f | g) + rr(0 + f | g, d = 3) + rr(f | g) + kernel(1 | id, K) "
        "+ exp(x + z | g) + (x || g) + exp(x) + mat(x | g)"
    ).bars
    assert [bar.structure for bar in bars] == [
        "us",
        "diag",
        "rr",
        "rr",
        "kernel",
        "exp",
        "us",
        "mat",
    ]
    assert [bar.rank for bar in bars] == [None, None, 3, 2, None, None, None, None]
    assert [bar.kernel for bar in bars][4] == "K"
    assert [bar.independent for bar in bars][6]


@pytest.mark.parametrize(
    ("formula", "message", "column"),
    [
        ("y ~ x + )", r"unexpected '\)'", 8),
        ("y ~ x +", "ends too early", 7),
        ("y ~ (x", r"a '\)' is missing", 6),
        ("y ~ a b", "an operator such as \\+ is missing, or backticks .* \\(`a b`\\)", 6),
        ("y ~ log(2 b)", "an operator such as \\+ is missing\n", 10),
        ("y ~ x ~ z", "a formula has one '~'", 6),
        ("y ~ 'abc", "quote ' is never closed", 4),
        ("y ~ x[1]", r"cannot contain '\['", 5),
        ("y ~ a$b", "goes in backticks", 5),
        ("y ~ 1e999", "too large", 4),
        ("y ~ x + 2", "0 or 1", 8),
        ("y ~ x > 2", r"belongs inside I\(\): I\(x > 2\)", 6),
        ("y ~ 1 | g", "put a random term in parentheses", 6),
        ("y ~ x:(1 | g)", "a random term can only be added", 9),
        ("y ~ (1 | a - b)", r"\(1 \| a\) \+ \(1 \| b\)", 11),
        ("y ~ (x | g)^2", "can only be added", 7),
        ("y ~ (x + z)^1.5", "whole number", 11),
        ("y ~ (x + z)^x", "whole number", 11),
        ("y ~ offset(x):z", "offset can only be added", 4),
        ("y ~ 'x'", "a column's name has no quotes", 4),
        ("y ~ cbind(x, z)", "left of '~'", 4),
        ("y ~ f(a = 1, b)", "follows one with a name", 13),
        ("y ~ f(a = 1, a = 2)", "given twice", 13),
        ("y ~ kernel(1 | g)", "needs the kernel's name", 4),
        ("y ~ rr(f | g, 1.5)", "whole number of dimensions", 4),
        ("y ~ ar1(x || g)", "single bar", 10),
        ("y ~ foo::bar(x)", "no package 'foo'", 4),
        ("y ~ ``", "empty name", 4),
        ("y ~ ((x | g) | g)", "a bar inside a bar", 13),
        ("y ~ Q(x)", r'Q\("my column"\)', 4),
    ],
)
def test_errors_point_at_the_place(formula, message, column):
    with pytest.raises(FormulaError, match=message) as caught:
        read_formula(formula)
    lines = str(caught.value).split("\n")
    assert lines[-1] == " " * (4 + column) + "^"
    assert lines[-2] == "    " + formula


def test_a_caret_in_a_long_formula_stays_in_sight():
    formula = "y ~ " + " + ".join(f"x{i}" for i in range(100)) + " + ) + z"
    with pytest.raises(FormulaError) as caught:
        read_formula(formula)
    shown, caret = str(caught.value).split("\n")[1:]
    assert len(shown) < 120
    assert shown[caret.index("^")] == ")"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", "the formula is empty"),
        ("   ", "the formula is empty"),
        ("y", "no '~'"),
        ("y ~", "nothing stands right of '~'"),
        ("~ x + (1 | g)", "no response: write y ~ x"),
        ("y ~ y + (1 | g)", "the response y also stands on the right side"),
        ("1 ~ x + (1 | g)", "the response names no column"),
    ],
)
def test_formulas_that_are_not_whole(formula, message):
    with pytest.raises(FormulaError, match=message):
        specify(formula, DATA)


@pytest.mark.parametrize("formula", [None, 3, b"y ~ x", ["y ~ x"], object()])
def test_a_formula_is_a_text(formula):
    with pytest.raises(FormulaError, match="the formula must be text"):
        specify(formula, DATA)


def test_unknown_names_get_a_suggestion():
    for formula, message in [
        ("y ~ weak + (1 | g)", "no column 'weak'; did you mean 'week'"),
        ("y ~ x + (1 | G)", "no column 'G'; did you mean 'g'"),
        ("y ~ lgo(x) + (1 | g)", "no function 'lgo'; did you mean 'log'"),
        ("y ~ f(x) + (1 | g)", "'f' is a column, and an operator"),
        ("y ~ qqqq + (1 | g)", "no column 'qqqq'; the table has 'y', 'x'"),
        ("y ~ zzzz(x) + (1 | g)", "no function 'zzzz'; a function of your own"),
        ("y ~ as1(week | g)", "no covariance structure 'as1'; did you mean 'ar1'"),
        ("y ~ C(f, contr.smu) + (1 | g)", "no contrasts 'contr.smu'; did you mean 'contr.sum'"),
    ]:
        with pytest.raises(FormulaError, match=message):
            specify(formula, DATA)
    with pytest.raises(UnknownColumnError):
        specify("y ~ weak + (1 | g)", DATA)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + z", "no random term; a mixed model needs one"),
        ("cbind(week, g) ~ x + (1 | g)", "generalised"),
        ("y ~ x + (1 | g) + (1 | g)", "appears twice"),
        ("y ~ (0 | g)", "no columns"),
    ],
)
def test_models_that_are_refused(formula, message):
    with pytest.raises(ModelError, match=message):
        specify(formula, DATA)


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["10", "n/a", "7", "n/a", "x"], "'n/a' in row 1 is no number \\(nor are 2 more\\)"),
        (["10", "8", "7", "9", "?"], "'\\?' in row 4 is no number; mark such cells as missing"),
        (["10", "8", "7", "9", "6"], "was given numbers as text \\(first '10'\\); convert"),
    ],
)
def test_numbers_as_text_inside_a_function(days, message):
    table = pd.DataFrame({"y": [1.0, 2.0, 3.0, 4.0, 5.0], "g": list("aabbc"), "days": days})
    with pytest.raises(DataError, match=message):
        specify("y ~ log(days) + (1 | g)", table)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("poly(x)+poly(x,0)", "whole number from 1 to 50 as 'degree'"),
        ("poly(x, 2, 3)", "TRUE or FALSE as 'raw'"),
        ("poly(x, deg = 2)", "no argument 'deg'"),
        ("poly(x, 2, degree = 2)", "given 'degree' twice"),
        ("poly(x, z)", "constant as 'degree', not a column"),
        ("poly(2, 2)", "does not depend on a column"),
        ("poly(f, 2)", "needs numbers, but was given categories such as 'p'"),
        ("log(f)", "needs numbers, but was given categories"),
        ("log('a')", "is not a number"),
        ("sqrt(x, z)", "takes 1 argument"),
        ("ns(x, df = 0)", "as 'df'"),
        ("bs(x, df = 2)", "too small; take at least 3"),
        ("ns(x, knots = c(0, 99))", "must lie strictly between"),
        ("ns(x, knots = c('a'))", "takes numbers as 'knots'"),
        ("ns(x, Boundary.knots = 3)", "two boundary knots"),
        ("log(poly(x, 2))", "a basis of several columns cannot stand here"),
        ("I(x:z)", "no meaning inside a function"),
        ("I(f == x)", "compared with a quoted level"),
        ("I(x == 'a')", "numeric one with a number"),
        ("I(x %in% z)", "is a list"),
        ("I(2)", "does not depend on a column"),
        ("c(x, 1)", "takes constants"),
        ("TRUE", "does not depend on a column"),
        ("relevel(f, 'nope')", "is no level of f"),
        ("C(f, Treatment('nope'))", "is no level of"),
        ("C(f, contr.treatment(3, base = 9))", "base = 9 is none"),
        ("C(f, contr.sum(base = 2))", "only treatment contrasts"),
        ("factor(f, levels = c('p', 'p'))", "a level twice"),
        ("scale(x, center = 'a')", "TRUE, FALSE or a number"),
        ("lag(x)", "needs 'g'"),
        ("lag(x, g)", "needs the time"),
        ("lag(x, g, 2)", "needs the time|does not depend on a column"),
        ("lag(x, g, time = f)", "holds text, not times"),
        ("lag(x, g, time = week, max_gap = '3h')", "a positive number"),
        ("between(x, g + f)", "of crossed ones write between"),
        ("interaction()", "takes columns"),
    ],
)
def test_arguments_that_are_wrong(call, message):
    with pytest.raises(RanefError, match=message):
        specify(f"y ~ {call} + (1 | g)", DATA)


def test_numbers_that_are_none():
    with pytest.raises(DataError, match=r"log\(x\) is not a number in \d+ rows \(first in row"):
        specify("y ~ log(x) + (1 | g)", DATA)
    with pytest.raises(DataError, match=r"I\(1/week\) is infinite in 8 rows"):
        specify("y ~ I(1/week) + (1 | g)", DATA)
    with pytest.raises(DataError, match=r"cannot scale a constant: every value is 3"):
        specify("y ~ scale(k) + (1 | g)", DATA.assign(k=3.0))


HOSTILE = [
    "__import__('os').system('echo gone')",
    "__import__('os')",
    "x.__class__.__mro__",
    "x.__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 1)()",
    "lambda x: x",
    "eval('1')",
    "exec('import os')",
    "open('/etc/passwd')",
    "compile('1', '', 'eval')",
    "getattr(x, 'shape')",
    "globals()",
    "f'{x}'",
    "f\"{__import__('os')}\"",
    "[x for x in ()]",
    "{x}",
    "x if x else z",
    "x; z",
    "x\nimport os",
    "np.load('a.npy')",
    "np.lib.npyio.load('x')",
    "numpy.ndarray.tofile(x, 'f')",
    "os.system('ls')",
    "system('ls')",
    "`__import__('os')`",
    "Q(\"__import__('os')\")",
    "I(__builtins__)",
    "I(x)(z)",
    "print(x)",
    "pd.read_pickle('x')",
    "x := 2",
    "@x",
    "x\\y",
    "\x00",
    "x\u202e",
    "\uff58",
    "\U0001d431",
    "x" * 90_000,
    "9" * 5_000,
    "I(x" + "^9" * 40 + ")",
    "I(" + "9^" * 50 + "9 * x)",
    "I(x / 0)",
    "poly(x, 1e9)",
    "bs(x, df = 1e9)",
    "round(x, 1e300)",
    "C(f, Treatment(__import__))",
    "C(f, contr.__class__)",
    "C(f, \"__import__('os')\")",
    "(" * 5_000,
    "(" * 5_000 + "x" + ")" * 5_000,
    "I(" * 3_000 + "x" + ")" * 3_000,
    "-" * 10_000 + "x",
    "!" * 10_000 + "x",
    ":".join(["x"] * 10_000),
    "^".join(["x"] * 10_000),
    "I(" + "*".join(["x"] * 10_000) + ")",
    "*".join(f"v{i}" for i in range(40)),
    "(" + "+".join(f"v{i}" for i in range(40)) + ")^40",
    "(1 | __import__('os'))",
    "kernel(1 | g, __import__('os'))",
    "within(x, __class__)",
    "'" * 3,
    "`" * 3,
    "%in%",
    "~~~",
]


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:30]) for text in HOSTILE])
def test_hostile_formulas_are_refused_and_run_nothing(text, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    for formula in (f"y ~ {text} + (1 | g)", f"{text} ~ x + (1 | g)"):
        with pytest.raises(RanefError):
            specify(formula, DATA)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""
    assert not {
        name for name in set(sys.modules) - before if name in ("os", "pickle", "antigravity")
    }


def test_long_sums_are_no_deep_trees():
    data = {"y": np.arange(500.0), "g": np.arange(500) % 7}
    names = [f"x{i}" for i in range(400)]
    data.update({name: RNG.normal(size=500) for name in names})
    spec = specify("y ~ " + " + ".join(names) + " + (1 | g)", data)
    assert spec.p == 401
    total = specify("y ~ I(" + " + ".join(names) + ") + (1 | g)", data)
    np.testing.assert_allclose(total.X[:, 1], sum(data[name] for name in names))


def test_columns_may_have_any_name():
    names = [
        "a b",
        "x-1",
        "1st",
        "é",
        "名前",
        "__class__",
        "I",
        "log",
        "np.log",
        "a`"[:1],
        "pi",
        "TRUE",
    ]
    data = {name: RNG.normal(size=40) for name in dict.fromkeys(names)}
    data.update(y=RNG.normal(size=40), g=np.arange(40) % 5)
    formula = "y ~ " + " + ".join(f"`{name}`" for name in names) + " + (1 | g)"
    spec = specify(formula, data)
    for j, name in enumerate(dict.fromkeys(names)):
        np.testing.assert_array_equal(spec.X[:, j + 1], data[name])
    assert spec.names[1:4] == ("`a b`", "`x-1`", "`1st`")
    assert spec.recipe.columns == ("y", *dict.fromkeys(names), "g")


def test_python_and_r_say_the_same():
    pairs = [
        ("np.log(z)", "log(z)"),
        ("I(x**2)", "I(x^2)"),
        ("Q('a b')", "`a b`"),
        ("standardize(x)", "scale(x)"),
        ("poly(x, 2, raw=True)", "poly(x, 2, raw = TRUE)"),
        ("np.maximum(x, 0)", "pmax(x, 0)"),
    ]
    for python, r in pairs:
        one, two = (specify(f"y ~ {text} + (1 | g)", DATA) for text in (python, r))
        np.testing.assert_array_equal(one.X, two.X)
        if "raw" not in r:
            assert one.names == two.names
    one = specify("y ~ C(f, Treatment(reference='q')) + (1 | g)", DATA)
    two = specify("y ~ relevel(f, ref = 'q') + (1 | g)", DATA)
    np.testing.assert_array_equal(one.X, two.X)


def test_functions_handed_over():
    functions = {
        "bend": lambda x, at=0.0: np.minimum(x, at),
        "pair": lambda x: np.column_stack([x, x**2]),
        "shout": lambda f: np.array([v.upper() for v in f], dtype=object),
        "log": lambda x: x + 100,
    }
    spec = specify(
        "y ~ bend(x, at = 0.5) + pair(z) + shout(f) + log(week) + (1 | g)",
        DATA,
        functions=functions,
    )
    assert spec.names == (
        "(Intercept)",
        "bend(x, at = 0.5)",
        "pair(z)1",
        "pair(z)2",
        "shout(f)Q",
        "shout(f)R",
        "log(week)",
    )
    np.testing.assert_array_equal(spec.X[:, 1], np.minimum(DATA.x, 0.5))
    np.testing.assert_array_equal(spec.X[:, 6], DATA.week + 100)
    with pytest.raises(FormulaError, match=r"returned shape \(2,\).*48 rows"):
        specify("y ~ h(x) + (1 | g)", DATA, functions={"h": lambda x: x[:2]})
    with pytest.raises(FormulaError, match="failed: division by zero"):
        specify("y ~ h(x) + (1 | g)", DATA, functions={"h": lambda x: 1 / 0})
    with pytest.raises(FormulaError, match="is not a function"):
        specify("y ~ h(x) + (1 | g)", DATA, functions={"h": 3})


def test_a_function_handed_over_cannot_change_the_data():
    before = DATA.x.copy()

    def spoil(x):
        x[:] = 0
        return x + np.arange(len(x))

    specify("y ~ spoil(x) + (1 | g)", DATA, functions={"spoil": spoil})
    pd.testing.assert_series_equal(DATA.x, before)


def test_numbers_and_levels_in_print():
    shown = [number_text(v) for v in (1.0, 0.1, 100000.0, 123456.0, 1e-5, 1 / 3, -2.5, 1e300, 1e15)]
    assert shown == [
        "1",
        "0.1",
        "1e+05",
        "123456",
        "1e-05",
        "0.333333333333333",
        "-2.5",
        "1e+300",
        "1e+15",
    ]
    levels = ["a", 3, 3.0, True, np.float64(0.5), np.int32(2), np.bool_(False)]
    assert [level_text(v) for v in levels] == ["a", "3", "3", "TRUE", "0.5", "2", "FALSE"]


def test_trees_are_data():
    response, predictors = parse_formula("log(y) ~ x")
    assert hash(response) == hash(parse_formula("log( y ) ~ x")[0])
    assert predictors == parse_expression(" x")


def test_a_group_has_the_name_of_its_column():
    """Without the backticks that a formula needs around it."""
    table = DATA.rename(columns={"g": "my group"})
    assert [f.name for f in specify("y ~ x + (1 | `my group`)", table).factors] == ["my group"]
    nested = specify("y ~ x + (1 | f / `my group`)", table)
    assert [f.name for f in nested.factors] == ["my group:f", "f"]
