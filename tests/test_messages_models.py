"""Messages of structural models, images, counts and commands that no other test provokes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import imaging
from ranef import metagenomics as mg
from ranef.cli.main import main
from ranef.errors import RanefError

ONE = "f =~ y1 + y2 + y3"
TWO = "level: 1\n w =~ y1 + y2 + y3\nlevel: 2\n b =~ y1 + y2 + y3"


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(6)
    person = np.repeat(np.arange(40), 8)
    shared = 0.7 * rng.normal(size=40)[person] + rng.normal(size=320)
    made = {f"y{k}": shared + rng.normal(size=320) for k in range(1, 5)}
    return pd.DataFrame(
        {**made, "id": person, "sex": np.where(person % 2, "f", "m"), "x": rng.normal(size=320)}
    )


STRUCTURAL = {
    "an expression that ends": (lambda d: ranef.sem(f"{ONE}\nk := (a*2", d), "bracket|does not"),
    "a strange sign": (
        lambda d: ranef.sem(f"{ONE}\nk := a ? 2", d),
        "line 2 of the model|does not",
    ),
    "a group that is not there": (
        lambda d: ranef.sem(f"group: x\n{ONE}\ngroup: m\n{ONE}", d, group="sex"),
        "group: x",
    ),
    "groups without a column": (
        lambda d: ranef.sem(f"group: f\n{ONE}", d),
        "give the column as group=",
    ),
    "a group of measurements": (lambda d: ranef.sem(ONE, d, group="x"), "is it a measurement"),
    "a line above the levels": (
        lambda d: ranef.sem(f"y1 ~ x\n{TWO}", d, cluster="id"),
        "stands above 'level: 1'",
    ),
    "a column as a latent variable": (
        lambda d: ranef.sem("x =~ y1 + y2 + y3", d),
        "cannot be latent",
    ),
    "a variable of itself": (lambda d: ranef.sem(f"{ONE}\nf ~ f", d), "both sides"),
    "slopes without units": (
        lambda d: ranef.sem('level: 1\n y1 ~ rv("s")*x\nlevel: 2\n s ~~ s', d),
        "cluster=",
    ),
    "partial equality of nothing": (
        lambda d: ranef.sem(ONE, d, group="sex", group_equal=["loadings"], group_partial=["q=~y9"]),
        "group_partial names",
    ),
    "equal to nothing": (
        lambda d: ranef.sem('f =~ y1 + y2 + equal("q=~y9")*y3', d),
        "names no parameter",
    ),
    "a column that is a number": (lambda d: ranef.sem(ONE, d, group=3), "must name a column"),
    "no row": (lambda d: ranef.sem(ONE, d.assign(y1=np.nan)), "holds no value"),
    "steps of nothing": (
        lambda d: ranef.invariance(ONE, d, group="sex", steps=()),
        "steps is empty",
    ),
    "steps as a word": (
        lambda d: ranef.invariance(ONE, d, group="sex", steps="metric"),
        "steps must be a list",
    ),
    "equality twice": (
        lambda d: ranef.invariance(ONE, d, group="sex", group_equal=["loadings"]),
        "leave group_equal out",
    ),
    "levels of one level": (lambda d: ranef.invariance(ONE, d), "level: 1|group="),
}


@pytest.mark.parametrize("what", list(STRUCTURAL))
def test_structural_models_say_what_is_wrong(items, what):
    call, said = STRUCTURAL[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call(items)


def test_answers_of_structural_models_say_what_is_wrong(items):
    fit = ranef.sem(ONE, items)
    for ask, said in (
        (
            lambda: fit.tidy(df="satterthwaite"),
            "the tests of a structural equation model are normal",
        ),
        (lambda: fit.tidy(exponentiate=True), "no logarithms"),
        (lambda: fit.icc(), "need levels"),
        (lambda: fit.scores(level=2), "has no level 2"),
        (lambda: fit.defined(), "the model defines no parameter"),
        (lambda: fit.predict(items, kind="typical"), "has no argument 'kind'"),
        (lambda: fit.anova(ranef.sem(ONE, items, estimator="MLR")), "different estimators"),
    ):
        with pytest.raises((RanefError, TypeError), match=said):
            ask()


def voxels(**how):
    rng = np.random.default_rng(8)
    given = {"Y": rng.normal(size=(9, 5)), "V": np.ones((9, 5)), "X": np.ones((9, 1)), **how}
    return imaging.mixed_effects(given.pop("Y"), given.pop("V"), given.pop("X"), **given)


def flips(**how):
    rng = np.random.default_rng(8)
    Y, V, X = rng.normal(size=(9, 5)), np.ones((9, 5)), np.ones((9, 1))
    return imaging.sign_flips(Y, V, X, **{"contrast": [1.0], "n_perm": 8, **how})


IMAGES = {
    "shapes that differ": (lambda: voxels(V=np.ones((9, 4))), "must agree"),
    "a design of words": (lambda: voxels(X=[["a"]] * 9), "must be a matrix of numbers"),
    "a contrast of zeros": (
        lambda: flips(contrast=[0.0]),
        "finite weights that are not all zero",
    ),
    "a contrast too long": (lambda: voxels().contrast([1.0, 2.0]), "weights, one a column of X"),
    "clusters without neighbours": (
        lambda: flips(cluster_p=0.01),
        "clusters need neighbours|neighbours",
    ),
    "a mask of a surface": (
        lambda: imaging.tfce(np.ones(3), adjacency=np.array([[0, 1]]), mask=np.ones(3)),
        "mask= is of volumes|takes no argument",
    ),
    "a volume on a surface": (
        lambda: imaging.tfce(np.ones((2, 2, 2)), adjacency=np.array([[0, 1]])),
        "values are a vector",
    ),
    "neighbours of words": (
        lambda: imaging.tfce(np.ones(3), adjacency="near"),
        "sparse matrix, or pairs",
    ),
    "a design of another kind": (lambda: imaging.read_design("design.txt"), "none of FSL's files"),
    "a design that is not there": (lambda: imaging.read_design("nowhere.mat"), "there is no file"),
    "a share of subjects": (
        lambda: imaging.MixedEffectsSecondLevel(min_subjects=-1).fit([]),
        "number of subjects|no image|empty|least",
    ),
}


@pytest.mark.parametrize("what", list(IMAGES))
def test_images_say_what_is_wrong(what):
    call, said = IMAGES[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call()


def test_designs_of_fsl_say_what_is_wrong(tmp_path):
    for text, said in (
        ("1 2\n3 4\n", "no line /Matrix"),
        ("/NumWaves 2\n/Matrix\n1 a\n", "which is no number"),
        ("/NumWaves 2\n/Matrix\n1 2\n3\n", "its rows have"),
    ):
        (tmp_path / "design.mat").write_text(text, "utf-8")
        with pytest.raises(RanefError, match=said):
            imaging.read_design(tmp_path / "design.mat")


def test_reports_of_classifiers_say_what_is_wrong(tmp_path):
    def file(name, text):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    kraken = " 10.00\t5\t5\tS\t562\tEscherichia coli\n"
    for ask, said in (
        (lambda: mg.read([]), "no files are given"),
        (lambda: mg.read(file("a.report", kraken), rank=3), "rank must be a letter"),
        (lambda: mg.read(file("b.report", kraken + "1\t2\n"), format="kraken2"), "6 or 8 columns"),
        (
            lambda: mg.read(file("c.tsv", "name\treads\nx\t1\n"), format="bracken"),
            "new_est_reads|column",
        ),
        (lambda: mg.read(file("d.txt", "x\t1\n"), format="metaphlan"), "clade_name|clade"),
        (lambda: mg.read(file("e.biom", "{}"), format="biom"), "BIOM"),
    ):
        with pytest.raises(RanefError, match=said):
            ask()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shape", "df"], "is not of the form 'df=~ x'"),
        (["--prior", "sd"], "is not of the form 'sd=Gamma"),
        (["--levels", "visit"], "is not of the form 'visit=Week 4,Week 12'"),
        (["--levels", "visit=a,a"], "each level once"),
        (["--fixed", "x"], "is not of the form 'x=0.5'"),
        (["--equal", "x1=x2"], "with spaces around the sign"),
        (["--quadrature", "0"], "is not a positive whole number"),
        (["--n-jobs", "-1"], "whole number"),
        (["--max-gb", "0"], "is not a number above 0"),
        (["--skip", "-2"], "is not a whole number from 0 on"),
        (["--sep", "ab"], "is not one character"),
        (["--sep", '"'], "cannot separate fields"),
        (["--thousands", "x"], "does not group digits"),
        (["--conf-level", "95"], "is not between 0 and 1"),
    ],
)
def test_options_say_what_is_wrong(words, said, capsys):
    assert main(["fit", "Reaction ~ Days + (1 | Subject)", "sleepstudy", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_files_of_the_command_line_say_what_is_wrong(tmp_path, capsys):
    def table(name, text):
        (tmp_path / name).write_bytes(text)
        return str(tmp_path / name)

    formula = "y ~ x + (1 | g)"
    for file, said in (
        (table("comments.csv", b"# a\n# b\n"), "holds only comments"),
        (table("empty.csv", b""), "is empty"),
        (
            table("sheet.ods", b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument.spreadsheet"),
            "",
        ),
        (table("broken.gz", b"\x1f\x8b\x08\x00broken"), "is a damaged gzip file"),
    ):
        assert main(["fit", formula, file]) in (2, 3)
        assert said in " ".join(capsys.readouterr().err.split())
    assert main(["means", "Reaction", "sleepstudy", "--of", "Days"]) in (2, 3)
    assert "~" in capsys.readouterr().err
