"""Writing keeps what stood there: its kind, its target, its permissions, or refuses.

A device is made anew in a folder of the test's own, never the machine's.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ranef
import ranef.report
from ranef.cli.main import main
from ranef.errors import FileError

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes of POSIX")


@pytest.fixture(scope="module")
def fit() -> Any:
    return ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))


def command(option: str) -> Callable[[Any, Path], Any]:
    def write(_: Any, path: Path) -> None:
        code = main(["fit", "Yield ~ 1 + (1 | Batch)", "Dyestuff", "--quiet", option, str(path)])
        if code:
            raise FileError(str(code))

    return write


SLEEP = ["Reaction ~ Days + (1 | Subject)", "sleepstudy"]
MODELS = {
    "means": [*SLEEP, "--of", "Days"],
    "anova": SLEEP,
    "predict": SLEEP,
    "compare": ["Reaction ~ 1 + (1 | Subject)", *SLEEP],
    "gee": ["resp ~ age", "ohio", "--groups", "id", "--family", "binomial"],
    "meta": ["ablat ~ 1", "bcg", "--variance", "cpos"],
    "rank": ["Yield ~ 1 + (1 | Batch)", "Dyestuff", "--draws", "100"],
}


def verb(name: str, option: str, path: Path) -> None:
    if code := main([name, *MODELS[name], "--quiet", option, str(path)]):
        raise FileError(str(code))


WRITERS: dict[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "fit.save": ("a.ranef", lambda fit, path: fit.save(path)),
    "report": ("a.html", ranef.report.write),
    "check": ("a.html", lambda fit, path: fit.check(influence=False, n=99).save(path)),
    "table .md": ("a.md", ranef.table),
    "table .tex": ("a.tex", ranef.table),
    "table .docx": ("a.docx", ranef.table),
    "answer.to_docx": ("a.docx", lambda fit, path: fit.anova().to_docx(path)),
    "meta --forest": ("a.svg", lambda _, path: verb("meta", "--forest", path)),
    "rank --plot": ("a.png", lambda _, path: verb("rank", "--plot", path)),
    "means --plot": ("a.png", lambda _, path: verb("means", "--plot", path)),
    "means --table": ("a.docx", lambda _, path: verb("means", "--table", path)),
    "anova --out": ("a.json", lambda _, path: verb("anova", "--out", path)),
    "predict --out": ("a.csv", lambda _, path: verb("predict", "--out", path)),
    "compare --out": ("a.csv", lambda _, path: verb("compare", "--out", path)),
    "gee --save": ("a.ranef", lambda _, path: verb("gee", "--save", path)),
    "--out csv": ("a.csv", command("--out")),
    "--out json": ("a.json", command("--out")),
    "--save": ("a.ranef", command("--save")),
    "--table": ("a.md", command("--table")),
}


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_links_and_permissions_stay(fit: Any, writer: str, tmp_path: Path) -> None:
    name, write = WRITERS[writer]
    target, link = tmp_path / f"target-{name}", tmp_path / name
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target.name)
    write(fit, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes() not in (b"before", b"")
    assert len(list(tmp_path.iterdir())) == 2
    dangling, made = tmp_path / f"d-{name}", tmp_path / f"made-{name}"
    dangling.symlink_to(made.name)
    write(fit, dangling)
    assert dangling.is_symlink()
    assert made.stat().st_size > 0


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_permissions_of_a_file_stay(fit: Any, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ranef"
    path.write_text("")
    path.chmod(mode)
    fit.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_a_pipe_is_written_to_and_stays_one(fit: Any, writer: str, tmp_path: Path) -> None:
    name, write = WRITERS[writer]
    path, read = tmp_path / name, list[bytes]()
    os.mkfifo(path)
    with pytest.raises(FileError):  # nobody reads it
        write(fit, path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(handle, True)

    def reader() -> None:
        with os.fdopen(handle, "rb") as stream:
            while part := stream.read(1 << 16):
                read.append(part)

    thread = threading.Thread(target=reader)
    ordinary = tmp_path / f"b{path.suffix}"
    write(fit, ordinary)
    pipe_writer = threading.Thread(target=write, args=(fit, path))
    # the end of file of a pipe without a writer comes at once, so the writer goes first
    keep = os.open(path, os.O_WRONLY)
    pipe_writer.start()
    thread.start()
    pipe_writer.join()
    os.close(keep)
    thread.join()
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert b"".join(read)[:2] == ordinary.read_bytes()[:2]


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_a_device_stays_one(fit: Any, writer: str, tmp_path: Path) -> None:
    name, write = WRITERS[writer]
    path = tmp_path / name
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.open("wb").close()
    except (PermissionError, OSError):
        pytest.skip("only root makes devices, and not everywhere")
    write(fit, path)
    assert stat.S_ISCHR(path.lstat().st_mode)


@posix
def test_what_is_neither_file_nor_device_nor_pipe_is_refused(fit: Any, tmp_path: Path) -> None:
    import socket

    path = tmp_path / "a.ranef"
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.bind(str(path))
        except OSError:
            pytest.skip("the path is too long for a socket")
        with pytest.raises(FileError, match="no file, device or pipe"):
            fit.save(path)
        assert stat.S_ISSOCK(path.lstat().st_mode)


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_may_not_be_written_stays(fit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ranef"
    path.write_text("before")
    path.chmod(0o444)
    with pytest.raises(FileError, match="permission denied"):
        fit.save(path)
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "a" * 300])
@pytest.mark.parametrize("writer", ["fit.save", "report", "table .docx"])
def test_names_that_no_file_can_have(fit: Any, writer: str, name: str, tmp_path: Path) -> None:
    ending, write = WRITERS[writer]
    with pytest.raises(FileError):
        write(fit, f"{tmp_path}/{name}{Path(ending).suffix}")  # type: ignore[arg-type]
    with pytest.raises(FileError):
        ranef.load(f"{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_word_document(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.docx"
    ranef.table(fit, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space left"):
        ranef.table(fit, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.docx"]
