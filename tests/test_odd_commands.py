"""The command line under odd circumstances: closed streams, little room, odd files and words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ranef
from ranef.cli.main import _Heard, main
from ranef.errors import FileError

FORMULA = "Yield ~ 1 + (1 | Batch)"
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")


@posix
def test_files_are_written_though_nobody_reads_the_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    files = [tmp_path / name for name in ("a.md", "a.csv", "a.ranef")]
    options = [f"--{o}={f}" for o, f in zip(("table", "out", "save"), files, strict=True)]
    command = [sys.executable, "-u", "-m", "ranef", "anova", "Reaction ~ Days + (1 | Subject)",
               "sleepstudy", *options]  # fmt: skip
    with os.fdopen(writing, "wb") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (141, b"")
    assert all(file.stat().st_size for file in files)


class Full:
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("name", "stream", "arguments", "words"),
    [
        ("stdout", Full(), [FORMULA, "Dyestuff"], "'standard output': no space left on device"),
        ("stdin", None, [FORMULA, "-"], "standard input is closed: give the name of a file"),
    ],
)
def test_streams_that_are_closed_or_full(
    name: str, stream: Any, arguments: list[str], words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, name, stream)
    assert main(["fit", *arguments]) == 3
    monkeypatch.undo()
    assert words in capsys.readouterr().err


def test_a_closed_output_hinders_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["fit", FORMULA, "Dyestuff", "--out", str(tmp_path / "a.csv")]) == 0
    assert (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ImportError("x.so: failed to map segment from shared object"), 2, "not enough memory to"),
        (ImportError("no module named x"), 2, "a package that is needed cannot be loaded: no mod"),
        (OSError(12, "Cannot allocate memory"), 3, "not enough memory: "),
        (PermissionError(13, "Permission denied", "a.csv"), 3, "'a.csv': permission denied"),
    ],
)
def test_what_the_system_refuses_is_no_bug(
    error: Exception, code: int, words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refused(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("ranef.cli.models.read", refused)
    assert main(["fit", FORMULA, "Dyestuff"]) == code
    said = capsys.readouterr().err
    assert words in said
    assert "bug" not in said


@pytest.mark.parametrize("wide", ["abc", "-5", "1", "0", "", "²"])
def test_any_width_of_a_terminal(
    wide: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", wide)
    assert main(["fit", "--help"]) == 0
    assert "--conf-level" in capsys.readouterr().out


def test_more_lines_to_skip_than_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("y,g\n1,a\n")
    skip = f"--skip={10**20}"
    assert main(["fit", "y ~ 1 + (1 | g)", str(tmp_path / "a.csv"), skip]) == 3
    assert "has no line 100,000,000,000,000,000,001" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "(" * 5000, "a" * 300])
def test_names_that_no_saved_fit_has(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["anova", name], ["anova", name, "b.ranef"], ["means", name, "--of", "x"]):
        assert main(words) in (2, 3)
        said = capsys.readouterr().err
        assert "bug" not in said
        assert len(said) < 800


@posix
def test_what_is_no_file_is_no_saved_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(FileError, match="it is no file, but a folder, device or pipe"):
            ranef.load(place)
        assert main(["anova", str(place), str(place)]) == 3
        assert "it is no file, but a folder, device or pipe" in capsys.readouterr().err


def test_a_pipe_that_is_left_is_told_once() -> None:
    class Left(Full):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    heard = _Heard(Left())  # type: ignore[arg-type]
    assert heard.write("abc") == 3
    assert heard.left
    heard.flush()
