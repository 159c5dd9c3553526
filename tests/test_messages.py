"""The catalogue of messages: what every error says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "messages.py"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="the tools are not installed")


@pytest.fixture(scope="module")
def catalogue():
    return runpy.run_path(str(TOOL))


def test_every_message_says_something(catalogue):
    every = list(catalogue["messages"]())
    assert len(every) > 1500
    bare = [
        f"{one.place}:{one.first}"
        for one in every
        if "{}" not in one.words and len(one.words.split()) < 3
    ]
    assert bare == []


def test_messages_are_sentences_of_one_style(catalogue):
    """No capital at the beginning (but of a name), no full stop, no exclamation mark at the end."""
    wrong = [
        f"{one.place}:{one.first}: {one.words}"
        for one in catalogue["messages"]()
        if one.words.rstrip().endswith(("!", ".")) and not one.words.rstrip().endswith("...")
    ]
    assert wrong == []


def test_too_many_unprovoked_messages_fail(catalogue, tmp_path, monkeypatch, capsys):
    every = list(catalogue["messages"]())
    places = "\n".join(f"{one.place}:{one.first}" for one in every[2:])
    (tmp_path / "1.txt").write_text(places, "utf-8")
    call = ["messages.py", "--provoked", str(tmp_path), "--at-most"]
    monkeypatch.setattr("sys.argv", [*call, "2"])
    catalogue["main"]()
    assert f"{len(every) - 2} of {len(every)}" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*call, "1"])
    with pytest.raises(SystemExit, match="2 messages are provoked by no test, 1 may be"):
        catalogue["main"]()


def test_what_no_test_provoked_is_listed(catalogue, tmp_path):
    every = list(catalogue["messages"]())
    (tmp_path / "1.txt").write_text(
        "\n".join(f"{one.place}:{one.first}" for one in every[1:]), "utf-8"
    )
    left = catalogue["unprovoked"](tmp_path)
    assert [one.place for one in left] == [every[0].place]
    page = catalogue["catalogue"]()
    assert "| FormulaError | the formula is empty; write one such as" in page
