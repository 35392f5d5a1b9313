from __future__ import annotations

import errno
import gc
import os
import shutil
import weakref
from collections import namedtuple
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
import pytest

from edgespec import resources, staging
from edgespec.errors import EdgespecError
from edgespec.progress import Silent
from edgespec.resources import DiskNeed
from edgespec.staging import (
    PARTIAL_MARK,
    SCRATCH_MARK,
    files_below,
    remove_abandoned,
    remove_folder,
    replace,
    staged_directory,
    write_atomically,
)

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
    """Neither is what took an hour deleted for it."""
    out = tmp_path / "out"
    says = r"'out' is finished, and nothing of it is lost, but '.*out' exists already; .* It is in '.*': rename that"
    with pytest.raises(EdgespecError, match=says), staged_directory(out) as building:
        out.mkdir()
    assert sorted(tmp_path.iterdir()) == sorted([out, building]) and not any(out.iterdir())


def test_what_was_finished_outlives_a_ctrl_c_while_a_rename_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    Windows(monkeypatch, renames=10**9)
    monkeypatch.setattr(staging.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), staged_directory(tmp_path / "out", progress=Listener(said)) as building:
        (building / "file").write_text("an hour's work")
    assert (building / "file").read_text() == "an hour's work"
    assert said == [
        "'out' is finished, and nothing of it is lost, but it was stopped before its folder was renamed. It is in "
        f"'{building}': rename that folder yourself"
    ]


def test_where_it_cannot_be_marked_the_sentence_says_until_when_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Windows(monkeypatch, renames=10**9)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "not here")

    monkeypatch.setattr(Path, "touch", refuse)
    says = "rename that folder yourself before the next run to 'out', which deletes it"
    with pytest.raises(EdgespecError, match=says), staged_directory(tmp_path / "out"):
        pass


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="does not exist; create it first"), staged_directory(tmp_path / "a" / "b"):
        pytest.fail("the block must not run")


def test_a_small_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    refusal = pytest.raises(EdgespecError, match=r"0\.00 GB free and about 0\.01 GB")
    with refusal, staged_directory(tmp_path / "out", need_bytes=10**7):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_what_goes_elsewhere_on_the_same_disk_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**10, 10**9, 3 * 10**9))
    cache = tmp_path / "cache" / "not there yet"
    with staged_directory(tmp_path / "out", 2 * 10**9, also=[DiskNeed(cache, 5 * 10**8, "a download")]):
        pass
    refusal = pytest.raises(
        EdgespecError, match=r"2\.00 GB in '.*' for 'new', 2\.00 GB in '.*not there yet' for a down"
    )
    with refusal, staged_directory(tmp_path / "new", 2 * 10**9, also=[DiskNeed(cache, 2 * 10**9, "a download")]):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(autouse=True)
def light_collections() -> Iterator[None]:
    """Every try collects garbage: of what a test made, and not of all that other tests have imported before."""
    gc.freeze()
    yield
    gc.unfreeze()


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def say(self, message: str) -> None:
        self._said.append(message)


class Windows:
    """Renames and removals that fail so many times, as on Windows while a file in the folder is open.

    Nobody waits: time passes only in the pauses between tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, renames: int = 0, removals: int = 0) -> None:
        self.renames, self.removals, self.clock = renames, removals, 0.0
        rename, remove = Path.replace, shutil.rmtree
        monkeypatch.setattr(Path, "replace", lambda path, to: self._refuse("renames") or rename(path, to))
        monkeypatch.setattr(staging.shutil, "rmtree", lambda folder: self._refuse("removals") or remove(folder))
        monkeypatch.setattr(staging.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(staging.time, "sleep", self._pass)

    def _refuse(self, what: str) -> None:
        left = getattr(self, what)
        setattr(self, what, left - 1)
        if left > 0:
            raise PermissionError(errno.EACCES, "The process cannot access the file")

    def _pass(self, seconds: float) -> None:
        assert seconds > 0
        self.clock += seconds


def test_a_rename_that_is_refused_for_a_moment_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(monkeypatch, renames=6)
    with staged_directory(tmp_path / "out") as building:
        (building / "file").write_text("content")
    assert windows.renames == -1  # the seventh went well
    assert 0 < windows.clock < staging.PATIENCE_S
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_finished_outlives_a_rename_that_is_refused_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    windows = Windows(monkeypatch, renames=10**9)
    says = (
        r"'out' is finished, and nothing of it is lost, but '.*' could not be renamed to 'out' for 15 s \(The process "
        r"cannot access the file\): another program has a file in it open, [^;]*\. It is in '.*': rename that folder"
    )
    with pytest.raises(EdgespecError, match=says) as refused, staged_directory(tmp_path / "out") as building:
        (building / "file").write_text("an hour's work")
    assert staging.PATIENCE_S <= windows.clock <= staging.PATIENCE_S + 1
    assert list(tmp_path.iterdir()) == [building] and f"'{building}'" in str(refused.value)
    assert [path.name for path in files_below(building)] == ["file"]  # the mark is no part of it
    windows.renames = 0
    dead = building.rename(tmp_path / f".out{PARTIAL_MARK}999999999-1")  # its process has ended since
    with staged_directory(tmp_path / "out", progress=Listener(said)):
        pass
    assert (dead / "file").read_text() == "an hour's work"
    assert said == [
        f"'{dead.name}' is what an earlier run finished and could not rename to 'out'; it stays: rename or delete it "
        "yourself"
    ]


def test_a_process_that_kept_what_it_finished_does_not_build_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(monkeypatch, renames=10**9)
    with pytest.raises(EdgespecError, match="is finished"), staged_directory(tmp_path / "out") as building:
        (building / "file").write_text("an hour's work")
    windows.renames = 0
    says = "exists already: another call in this program builds 'out', or an earlier one could not rename or remove it"
    with pytest.raises(EdgespecError, match=says), staged_directory(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert (building / "file").read_text() == "an hour's work"


def test_a_part_of_a_larger_work_is_not_said_to_be_kept_when_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Windows(monkeypatch, renames=10**9)
    says = r"could not be renamed to 'part' for 15 s \(The process cannot access the file\): another program has a file"
    refusal = pytest.raises(EdgespecError, match=says)
    with refusal, staged_directory(tmp_path / "out") as building, staged_directory(building / "part"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_held_to_the_end_makes_no_failure_of_what_went_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    windows = Windows(monkeypatch, removals=10**9)
    with staged_directory(tmp_path / "out", progress=Listener(said)) as building:
        (building / f"{SCRATCH_MARK}logits").mkdir()
        (building / "file").write_text("content")
    assert (tmp_path / "out" / "file").read_text() == "content"
    assert said == [
        f"'{SCRATCH_MARK}logits' in the output is held open and stays; it belongs to nothing, delete it later"
    ]
    assert staging.PATIENCE_S <= windows.clock <= staging.PATIENCE_S + 1


def test_another_failure_of_a_rename_is_no_matter_of_patience(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "nothing", tmp_path / "out")


def test_a_scratch_folder_is_removed_with_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "inner").mkdir(parents=True)
    windows = Windows(monkeypatch, removals=3)
    assert remove_folder(scratch)
    assert not scratch.exists()
    assert remove_folder(scratch)  # gone before
    scratch.mkdir()
    windows.removals = 10**9
    assert not remove_folder(scratch)


def test_models_of_a_run_that_failed_are_let_go_before_its_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed run's frames hold its models, and these its files, as long as the error is on its way up."""

    class Model:
        pass

    models = weakref.WeakSet[Model]()

    def convert(_: Path) -> None:
        model = Model()
        models.add(model)
        raise ValueError("it failed")

    remove = shutil.rmtree
    windows = Windows(monkeypatch)
    monkeypatch.setattr(staging.shutil, "rmtree", lambda folder: _remove_unless(models, remove, folder))
    with pytest.raises(ValueError, match="it failed"), staged_directory(tmp_path / "out") as building:
        convert(building)
    assert list(tmp_path.iterdir()) == []
    assert windows.clock == 0  # no waiting was needed


def _remove_unless(held: Collection[object], remove: Callable[[Path], object], folder: Path) -> None:
    if held:
        raise PermissionError(errno.EACCES, "The process cannot access the file")
    remove(folder)


def test_a_folder_that_stays_open_is_named_and_the_failure_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    Windows(monkeypatch, removals=10**9)
    with pytest.raises(ValueError, match="it failed"), staged_directory(tmp_path / "out", progress=Listener(said)):
        raise ValueError("it failed")
    (left,) = tmp_path.iterdir()
    assert said == [f"'{left}' is held open and stays; the next run to 'out' deletes it"]


def test_files_of_scratch_and_half_built_folders_are_no_part_of_what_is_below(tmp_path: Path) -> None:
    names = ["b", "a", "sub/c", f"sub/{SCRATCH_MARK}logits/0.npy", f"{SCRATCH_MARK}weights/deep/0.bin"]
    for name in [*names, f".small{PARTIAL_MARK}1-2/target/x"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == ["a", "b", "sub/c"]


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
    said: list[str] = []
    leftover = tmp_path / ".out.edgespec-partial-999999999-1"
    leftover.mkdir()
    monkeypatch.setattr("edgespec.staging.shutil.rmtree", lambda *_, **__: None)  # as where a file in it is open
    assert remove_abandoned(tmp_path / "out", Listener(said)) == []
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


def test_an_error_that_is_its_own_cause_in_the_end_is_let_go_of() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    staging.let_go(first)
