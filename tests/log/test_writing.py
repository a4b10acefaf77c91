"""Files and folders that appear complete or not at all."""

import os
import re
import resource
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from atrank_lib.log.writing import explain, write_text, writing_file, writing_folder

OLD, NEW = "old content\n", "new content\n"


@pytest.fixture(params=[False, True], ids=["new", "there"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "numbers.txt"
    if request.param:
        file.write_text(OLD)
    return file


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 1,000 bytes, which fails as a full disk does: in the middle of a write.

    Not a fixture: pytest says that a test passed before fixtures end, and its output may be a file that is larger.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_file_is_there_at_the_end_and_not_before(target: Path) -> None:
    before = content(target.parent)
    with writing_file(target) as beside:
        beside.write_text(NEW)
        assert beside.parent == target.parent
        assert {name: text for name, text in content(target.parent).items() if name != beside.name} == before
    assert content(target.parent) == {target.name: NEW}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was(target: Path, error: BaseException) -> None:
    def write() -> None:
        with writing_file(target) as beside:
            beside.write_text(NEW)
            raise error

    before = content(target.parent)
    with pytest.raises(type(error)):
        write()
    assert content(target.parent) == before


def test_a_disk_that_fills_up_is_one_line(target: Path) -> None:
    before, what = content(target.parent), r"^\S*numbers.txt: the file is larger than .*; raise the limit, or .*$"
    with pytest.raises(OSError, match=what) as raised, small_files():
        write_text(target, "x" * 2000)
    assert explain(raised.value) == str(raised.value)
    assert content(target.parent) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_there_at_the_end_and_not_before(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "deep" / "log"
    if there:
        folder.mkdir(parents=True)
        (folder / "old.txt").write_text(OLD)
        with pytest.raises(FileExistsError, match="log exists; choose another"), writing_folder(folder):
            pytest.fail("the block must not run")
    with writing_folder(folder, overwrite=there) as beside:
        (beside / "new.txt").write_text(NEW)
        assert content(folder) == ({"old.txt": OLD} if there else {})
    assert content(tmp_path) == {"deep/log/new.txt": NEW}


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_on_a_disk_that_fills_up(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine.txt").write_text(OLD)

    def write() -> None:
        with writing_folder(tmp_path / "run", overwrite=there) as beside:
            (beside / "whole.txt").write_text(NEW)
            write_text(beside / "part.txt", "x" * 2000)

    message = (
        f"{tmp_path}/run/part.txt: the file is larger than is allowed here; raise the limit, or choose another place"
    )
    with pytest.raises(OSError, match=f"^{re.escape(message)}$"), small_files():
        write()
    assert content(tmp_path) == ({"run/mine.txt": OLD} if there else {})
    assert len(list(tmp_path.iterdir())) == there


def test_a_folder_that_another_process_made_meanwhile_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with writing_folder(tmp_path / "run") as beside:
            (beside / "mine.txt").write_text(NEW)
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs.txt").write_text(OLD)

    with pytest.raises(OSError, match="run: it exists already; choose another place"):
        write()
    assert content(tmp_path) == {"run/theirs.txt": OLD}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path, umask: int, mode: int) -> None:
    def closed(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.touch(0o600)

    before = os.umask(umask)
    try:
        with writing_file(tmp_path / "alone") as beside:
            closed(beside)
        with writing_folder(tmp_path / "run") as folder:
            (folder / "deep").mkdir()
            closed(folder / "deep" / "one")
            (folder / "two").touch(0o444)
    finally:
        os.umask(before)
    files = [tmp_path / "alone", tmp_path / "run" / "deep" / "one", tmp_path / "run" / "two"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [mode] * 3


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "numbers.txt")
    write_text(tmp_path / "link.txt", NEW)
    assert (tmp_path / "link.txt").is_symlink()
    assert content(tmp_path / "real") == {"numbers.txt": NEW}


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", NEW)
        assert reader.communicate(timeout=60) == (NEW, None)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("folder", IsADirectoryError, "folder: it is a folder; name a file"),
        ("nowhere/file", FileNotFoundError, "nowhere/file: there is no folder .*nowhere; make it"),
        ("file/under", FileNotFoundError, "file/under: there is no folder .*file; make it"),
        ("x" * 300, OSError, "x: the name is too long; choose a shorter one"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, kind: type[OSError], message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind, match=message) as raised, writing_file(tmp_path / name):
        pytest.fail("the block must not run")
    assert "\n" not in str(raised.value)


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"No such file or directory: .*nowhere") as raised,
        writing_file(tmp_path / "numbers.txt") as beside,
    ):
        beside.write_text((tmp_path / "nowhere").read_text())
    assert explain(raised.value) == f"{tmp_path / 'nowhere'}: there is no such file or folder; correct the name"
    assert content(tmp_path) == {}


def test_two_writers_of_one_target_never_mix(tmp_path: Path) -> None:
    file = tmp_path / "numbers.txt"

    def write(letter: str) -> None:
        for _ in range(40):
            with writing_file(file) as beside, beside.open("w") as stream:
                for _ in range(50):
                    stream.write(letter * 100)
                    stream.flush()

    seen = set()
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, letter) for letter in "ab"]
        while not all(writer.done() for writer in writers):
            if file.exists():
                seen.add(file.read_text())
    assert [writer.result() for writer in writers] == [None, None]
    assert seen <= {"a" * 5000, "b" * 5000}
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]
