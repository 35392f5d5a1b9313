from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.progress import Silent
from edgespec.staging import remove_abandoned, staged_directory, write_atomically

Usage = namedtuple("Usage", "total used free")


def test_the_directory_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_directory(out) as building:
        (building / "file").write_text("content")
        assert not out.exists()
    assert (out / "file").read_text() == "content"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("failure", [ValueError("broken"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_nothing_is_left_when_the_block_raises(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)), staged_directory(tmp_path / "out") as building:
        (building / "file").write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    with pytest.raises(EdgespecError, match="exists already"), staged_directory(out):
        pytest.fail("the block must not run")
    assert (out / "mine").read_text() == "precious"


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(EdgespecError, match="exists already"), staged_directory(out):
        out.mkdir()
    assert list(tmp_path.iterdir()) == [out]


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="does not exist; create it first"), staged_directory(tmp_path / "a" / "b"):
        pytest.fail("the block must not run")


def test_a_small_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    refusal = pytest.raises(EdgespecError, match=r"0\.00 GB free and about 0\.01 GB")
    with refusal, staged_directory(tmp_path / "out", need_bytes=10**7):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    me = psutil.Process()
    dead = tmp_path / ".out.edgespec-partial-999999999-1"
    reused = tmp_path / f".out.edgespec-partial-{me.pid}-12345"  # this pid, but started at another time
    alive = tmp_path / f".out.edgespec-partial-{me.pid}-{int(me.create_time())}"
    other = tmp_path / ".another.edgespec-partial-999999999-1"
    for folder in (dead, reused, alive, other):
        folder.mkdir()
    assert set(remove_abandoned(tmp_path / "out")) == {dead, reused}
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, other.name}


def test_leftovers_of_a_name_that_means_something_to_glob_go_too(tmp_path: Path) -> None:
    mine = tmp_path / ".pair[int4]*.edgespec-partial-999999999-1"
    other = tmp_path / ".pairi.edgespec-partial-999999999-1"  # what the pattern would find
    for folder in (mine, other):
        folder.mkdir()
    assert remove_abandoned(tmp_path / "pair[int4]*") == [mine]
    assert list(tmp_path.iterdir()) == [other]


def test_a_leftover_that_stays_is_not_called_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    said: list[str] = []
    leftover = tmp_path / ".out.edgespec-partial-999999999-1"
    leftover.mkdir()
    monkeypatch.setattr("edgespec.staging.shutil.rmtree", lambda *_, **__: None)  # as where a file in it is open
    assert remove_abandoned(tmp_path / "out", Listener()) == []
    assert said == [f"'{leftover.name}', left by a run that was killed, cannot be removed; delete it yourself"]


def test_an_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
