"""The codec: trees of registered dataclasses, and a kind of fit of the test's own."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from saved import again, restored, stored, with_values
from scipy.sparse import csc_array, csr_array

import ranef
from ranef.design.terms import GroupingFactor
from ranef.errors import DataError, FileError
from ranef.storage import saving
from ranef.storage.codec import Bundle, decode, encode
from ranef.storage.labels import read_label, written_label
from ranef.storage.registry import RECORDS, register
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

Floats = NDArray[np.float64]


class Link(Enum):
    LOG = "log"
    LOGIT = "logit"


@dataclass(frozen=True, eq=False)
class Clustered:
    """What a generalised linear model with a cluster-robust covariance found."""

    names: tuple[str, ...]
    coefficients: Floats
    vcov: Floats
    clusters: GroupingFactor
    working: csr_array
    link: Link
    correction: Literal["CR0", "CR1"] = "CR1"
    scale: float | None = None
    df: Mapping[str, float] = field(default_factory=dict)
    place: tuple[int, str] = (0, "")
    notes: Sequence[Any] = ()


@dataclass(frozen=True, eq=False)
class ToyFit:
    """A kind of fit that `ranef` does not know."""

    estimate: Clustered
    frame: Origin
    labels: tuple[str, ...]

    file_kind = "toy"

    def __reduce__(self):
        return saving.from_bytes, (saving.to_bytes(self),)


register(
    Clustered,
    shapes={
        "names": "P",
        "coefficients": "P",
        "vcov": "P P",
        "clusters.codes": "n",
        "working": "n n",
    },
)
register(ToyFit, shapes={"labels": "P", "estimate.names": "P"})


def made(**changed):
    n, rng = 6, np.random.default_rng(2)
    codes = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    levels = ["a/b", dt.timedelta(hours=2), Decimal("1.50")]
    estimate = Clustered(
        ("(Intercept)", "x"),
        rng.normal(size=2),
        np.eye(2),
        GroupingFactor("g", ("g",), codes, levels),
        csr_array(np.diag(np.arange(float(n)))),
        Link.LOGIT,
        "CR0",
        np.float64(2.5),
        {"x": 3.5, "a b/c": 2},
        (7, "seven"),
        [None, True, "text", dt.date(2024, 3, 28)],
    )
    table = Table.of(pd.DataFrame({"x": rng.normal(size=n), "g": codes}))
    frame = Origin.of(table, Accounting(n), ["x", "g"])
    return ToyFit(replace(estimate, **changed), frame, ("one", "two"))


def assert_equal(one: Bundle, two: Bundle):
    assert json.dumps(one.values) == json.dumps(two.values)
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == two.arrays[name].dtype
        np.testing.assert_array_equal(array, two.arrays[name])


def test_a_new_kind_of_fit_saves_by_registration_alone(tmp_path):
    fit = made()
    saving.save(fit, tmp_path / "a.ranef")
    back = ranef.load(tmp_path / "a.ranef")
    assert type(back) is ToyFit
    assert_equal(encode(back), encode(fit))
    assert back.estimate.link is Link.LOGIT
    assert back.estimate.place == (7, "seven")
    assert back.estimate.notes == [None, True, "text", dt.date(2024, 3, 28)]
    assert back.estimate.clusters.levels == fit.estimate.clusters.levels
    assert isinstance(back.estimate.working, csr_array)
    np.testing.assert_array_equal(back.estimate.working.toarray(), np.diag(np.arange(6.0)))
    assert_equal(encode(pickle.loads(pickle.dumps(fit))), encode(fit))


def test_a_field_with_a_default_may_be_added_later():
    saved = stored(made().estimate)
    older = {k: v for k, v in saved.values.items() if k not in ("correction", "notes")}
    back = restored(with_values(saved, older), Clustered)
    assert back.correction == "CR1"
    assert back.notes == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": np.zeros(3)}, r"coefficients of Clustered has shape \(3,\)"),
        ({"vcov": np.zeros((2, 3))}, r"vcov of Clustered has shape \(2, 3\), not \(P P\)"),
        ({"vcov": np.zeros(4)}, "vcov of Clustered"),
        ({"names": ("x",)}, "coefficients of Clustered"),
        ({"working": csr_array((5, 6))}, "working of Clustered"),
    ],
)
def test_shapes_that_disagree_are_refused(change, words):
    with pytest.raises(FileError, match=words):
        again(made(**change))


def test_shapes_of_the_whole_reach_into_its_parts():
    with pytest.raises(FileError, match=r"estimate\.names of toy has shape"):
        again(replace(made(), labels=("one",)))


def changed(values, path, new):
    if not path:
        return new
    if isinstance(values, dict):
        return {k: changed(v, path[1:], new) if k == path[0] else v for k, v in values.items()}
    return [changed(v, path[1:], new) if k == path[0] else v for k, v in enumerate(values)]


@pytest.mark.parametrize(
    ("path", "new", "words"),
    [
        (["names"], "x", "'names' should hold a list"),
        (["names"], [1, 2], "'names.0' should hold str, not '1'"),
        (["coefficients"], 0.0, "'coefficients' should hold the name of an array"),
        (["coefficients"], ["x"], "do not fit"),
        (["coefficients"], [[0.0], [1.0, 2.0]], "do not fit"),
        (["working", "data"], ["x", "y"], "an array of numbers"),
        (["coefficients"], {"array": "none"}, "the name of an array"),
        (["coefficients"], {"array": ["x"]}, "the name of an array"),
        (["coefficients"], {"array": "codes"}, "an array of float64, not 'int32'"),
        (["clusters"], None, "'clusters' should hold a GroupingFactor"),
        (["clusters", "codes"], {"array": "coefficients"}, "an array of int32"),
        (["clusters", "levels"], [[1], 2, 3], "is no label"),
        (["clusters", "levels"], [{"eval": ["1"]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"Decimal": ["x"]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"Fraction": [1, 0]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"Fraction": ["1e999999999", 1]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"timedelta64": ["|O", 1]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"timedelta": [10**40]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"UUID": ["x"]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"bytes": ["x"]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"tuple": [3]}, 2, 3], "is no label"),
        (["clusters", "levels"], [{"tuple": [[[1]]]}, 2, 3], "is no label"),
        (["clusters", "class"], "Accounting", "should hold a GroupingFactor, not 'Accounting'"),
        (["clusters", "class"], "os.system", "should hold a GroupingFactor, not 'os.system'"),
        (["clusters", "class"], ["x"], "should hold a GroupingFactor"),
        (["working", "shape"], [6], "do not fit"),
        (["working", "shape"], [2**40, 2**40], "do not fit"),
        (["working", "shape"], "6", "do not fit"),
        (["working"], [], "do not fit"),
        (["working", "shape"], [6, -6], "do not fit"),
        (["working", "indices"], {"array": "coefficients"}, "do not fit"),
        (["link"], "PROBIT", "do not fit"),
        (["correction"], "CR9", "'correction' should hold one of"),
        (["correction"], ["CR0"], "'correction' should hold one of"),
        (["scale"], "2.5", "'scale' should hold float"),
        (["scale"], True, "'scale' should hold float"),
        (["scale"], 10**400, "a number of 64 bits"),
        (["df"], [1], "'df' should hold values by name"),
        (["df", "x"], None, "'df.x' should hold float"),
        (["place"], [7], "'place' should hold 2 values"),
        (["place"], ["seven", 7], "'place.0' should hold int"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_type_is_refused(path, new, words):
    saved = stored(made().estimate)
    with pytest.raises(FileError, match=words):
        restored(with_values(saved, changed(saved.values, path, new)), Clustered)


def test_indices_of_a_sparse_matrix_are_checked():
    saved = stored(made().estimate)
    saved.arrays[saved.values["working"]["indices"]["array"]][:] = 99
    with pytest.raises(FileError, match="do not fit"):
        restored(saved, Clustered)


def test_fields_that_a_class_does_not_have_are_refused():
    saved = stored(made().estimate)
    with pytest.raises(FileError, match="Clustered has no __class__, colour"):
        restored(with_values(saved, {**saved.values, "colour": 1, "__class__": 2}), Clustered)


@pytest.mark.parametrize("name", [None, 5, "Estimate", "Unregistered", "builtins.eval", "toy"])
def test_only_registered_classes_that_fit_are_made(name):
    saved = stored(made().estimate)
    with pytest.raises(FileError, match="should hold a Clustered"):
        restored(with_values(saved, {**saved.values, "class": name}), Clustered)


@dataclass(frozen=True)
class Unregistered:
    x: int


@dataclass(frozen=True)
class Holder:
    held: Any
    other: Accounting | Unregistered
    values: NDArray[Any] = field(default_factory=lambda: np.zeros(1))


register(Holder)


def test_what_is_not_registered_is_not_saved():
    with pytest.raises(DataError, match=r"cannot save the label Unregistered"):
        encode(Holder(Unregistered(1), Accounting(3)))
    with pytest.raises(DataError, match="cannot save other: Unregistered is not registered"):
        encode(Holder(1, Unregistered(1)))
    with pytest.raises(DataError, match="cannot save values, an array of complex128"):
        encode(Holder(1, Accounting(3), np.zeros(1, dtype=complex)))
    with pytest.raises(DataError, match="cannot save the label"):
        encode(Holder([1, 2], Accounting(3)))


def test_a_name_belongs_to_one_class():
    with pytest.raises(ValueError, match=r"'Accounting' is the name of .*\.Accounting in files"):
        register(Unregistered, "Accounting")
    assert RECORDS["Accounting"].cls is Accounting


def test_a_record_alone_is_no_fit(tmp_path):
    saving.save(made().estimate.clusters, tmp_path / "a.ranef")
    with pytest.raises(FileError, match="holds 'GroupingFactor', which this ranef does not know"):
        ranef.load(tmp_path / "a.ranef")


def test_arrays_of_one_content_are_kept_once():
    x = np.arange(5.0)
    bundle = encode(Clustered(("a",), x, x.copy(), GroupingFactor("g", (), x.astype(np.int32), ()),
                              csr_array((1, 1)), Link.LOG))  # fmt: skip
    assert bundle.values["coefficients"] == bundle.values["vcov"] == {"array": "coefficients"}
    assert bundle.values["clusters"]["codes"] == {"array": "codes"}


@pytest.mark.parametrize(
    "values",
    [
        np.arange(3, dtype=np.int8), np.arange(3, dtype=np.int64) << 40, np.array([True, False]),
        np.arange(3, dtype=np.float32), np.arange(3, dtype=">f8"), np.zeros((2, 0, 3)),
        np.array(["2024-01-01", "NaT"], dtype="M8[ns]"), np.array([1, 2], dtype="m8[s]"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
)  # fmt: skip
def test_arrays_of_any_stored_type_come_back(values, tmp_path):
    back = again(Holder(1, Accounting(3), values)).values
    np.testing.assert_array_equal(back, values)
    assert back.dtype.kind == values.dtype.kind
    assert back.shape == values.shape


LABELS = [
    None, "", "a/b", "ü\x00", True, 3, 2**70, -1.5, float("inf"), Decimal("0.10"), Fraction(1, 3),
    dt.date(2024, 2, 29), dt.time(1, 2, 3), dt.timedelta(days=-1, microseconds=5),
    dt.datetime(2024, 3, 31, 1, 30), dt.datetime(2024, 3, 31, tzinfo=dt.UTC),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2, minutes=30))),
    np.datetime64(5, "ns"), np.timedelta64(7, "ns"),
    pd.Timestamp("2024-01-01 00:00:00.000000001", tz="Europe/Berlin"), pd.Timedelta(7, "ns"),
    pd.Period("2024-03", "M"), pd.Interval(0.5, 1.5, closed="left"),
    pd.Interval(pd.Timestamp("2024-01-01"), pd.Timestamp("2025-01-01")),
    UUID(int=2**100 + 7), b"a\x00\xff", (1, "b", None), (dt.date(2024, 2, 29), Decimal("1.50")),
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS, ids=repr)
def test_labels_come_back_in_their_type(label):
    back = read_label(json.loads(json.dumps(written_label(label))))
    assert type(back) is type(label)
    assert back == label
    assert str(back) == str(label)
    assert getattr(back, "fold", 0) == getattr(label, "fold", 0)


def test_scalars_of_numpy_are_labels_of_python():
    for value, plain in ((np.int64(3), 3), (np.str_("a"), "a"), (np.bool_(True), True)):
        assert read_label(written_label(value)) == plain
        assert type(read_label(written_label(value))) is type(plain)


@pytest.mark.parametrize("zone", ["Nowhere/City", "../../etc/passwd", "Europe", "", "a\x00b"])
def test_a_zone_that_is_not_known_leaves_the_offset(zone):
    back = read_label({"datetime": ["2024-03-28T12:00:00+01:00", zone]})
    assert back == dt.datetime(2024, 3, 28, 11, tzinfo=dt.UTC)


@pytest.mark.parametrize("label", [1j, (1, 1j), object(), [1], np.array([1])])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(DataError, match="cannot save the label"):
        written_label(label)


class Decimal_(Exception):
    """Has a name that a label's class has, elsewhere."""


Decimal_.__name__ = "Decimal"


def test_a_class_is_not_known_by_its_name_alone():
    with pytest.raises(DataError, match="cannot save the label"):
        written_label(Decimal_())


def test_decoding_checks_the_class_asked_for():
    bundle = encode(Accounting(3))
    assert decode(bundle, Accounting).n_rows == 3
    with pytest.raises(FileError, match="should hold a Origin"):
        decode(bundle, Origin)


def test_csc_is_a_class_of_its_own():
    with pytest.raises(DataError, match="csc_array is not registered"):
        encode(made(working=csc_array((6, 6))))
