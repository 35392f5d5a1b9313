"""A directory appears whole or not at all: build beside the destination, rename into place, clean up after the dead.

Windows neither renames nor removes a folder while a file in it is open or mapped: by a model object that was not
collected yet, or by a virus scanner that reads what was just written. So whoever stages lets go of its models first,
and whatever is refused is tried again for a bounded time. What was finished by then is kept and told of, not deleted.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from .errors import EdgespecError
from .progress import SILENT, Progress
from .resources import DiskNeed, require_disks

PATIENCE_S = 15.0
"""How long a refused rename or removal is tried again: a scanner reads a gigabyte in a few seconds."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
PARTIAL_MARK = ".edgespec-partial-"
SCRATCH_MARK = ".edgespec-scratch-"
"""Begins the name of a folder that only a while needs, inside a directory that is being built: no part of it."""
FINISHED_MARK = ".edgespec-finished"
"""A file in a directory that was built to the end and could not be renamed: no later run deletes it."""


@contextlib.contextmanager
def staged_directory(
    out: Path, need_bytes: int = 0, progress: Progress = SILENT, also: Sequence[DiskNeed] = ()
) -> Iterator[Path]:
    """Yield an empty sibling of `out`; rename it to `out` when the block ends, delete it when the block raises.

    need_bytes: free disk the block is expected to fill beside `out`; also: what it will write elsewhere, such as into a
    download cache. Both are checked before it starts, by disk. Models read from the yielded folder have to be out of
    scope when the block ends; they are collected here.
    Leftovers of processes that were killed are deleted first. Raises EdgespecError when `out` exists, a disk is too
    small, or the rename fails: what was built to the end then stays, and the sentence says where (unless it is inside
    another directory that is being built), also when the wait for a refused rename is interrupted. An OSError inside
    the block passes through after the clean-up.
    """
    out = out.absolute()
    require_absent(out)
    require_folder(out.parent, out.name)
    remove_abandoned(out, progress)
    require_disks([DiskNeed(out.parent, need_bytes, f"'{out.name}'"), *also])
    me = psutil.Process()
    temporary = out.parent / f".{out.name}{PARTIAL_MARK}{me.pid}-{int(me.create_time())}"
    if temporary.exists():
        raise EdgespecError(
            f"'{temporary}' exists already: another call in this program builds '{out.name}', or an earlier one could "
            "not rename or remove it; wait for the one, or move the other out of the way"
        )
    temporary.mkdir()
    inner = any(_is_left(part) for part in out.parent.parts)
    finished = False
    try:
        yield temporary
        gc.collect()
        _remove_scratch(temporary, progress)
        finished = not inner
        require_absent(out)
        replace(temporary, out)
    except BaseException as error:
        if finished:
            kept = _kept(temporary, out, error)
            if isinstance(error, Exception):
                raise EdgespecError(kept) from error
            progress.say(kept)
            raise
        if not remove_folder(temporary, patience_s=0):
            let_go(error)
            if not remove_folder(temporary):
                progress.say(f"'{temporary}' is held open and stays; the next run to '{out.name}' deletes it")
        raise


def _kept(finished: Path, out: Path, error: BaseException) -> str:
    """Mark what is finished, so that no later run takes it for a leftover; the sentence for who waits for it."""
    why = str(error) if isinstance(error, Exception) else "it was stopped before its folder was renamed"
    if isinstance(error.__cause__, PermissionError):
        why = _refusal(finished, out, error.__cause__)
    try:
        (finished / FINISHED_MARK).touch()
        when = ""
    except OSError:
        when = f" before the next run to '{out.name}', which deletes it"
    return (
        f"'{out.name}' is finished, and nothing of it is lost, but {why}. It is in '{finished}': rename that folder "
        f"yourself{when}"
    )


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, sorted, but for those that a run left in a scratch folder or a half-built one."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(_is_left(part) for part in path.relative_to(folder).parts)
    ]


def _is_left(name: str) -> bool:
    return name.startswith(SCRATCH_MARK) or PARTIAL_MARK in name or name == FINISHED_MARK


def _remove_scratch(folder: Path, progress: Progress) -> None:
    """Delete what scratch folders the block could not; one that stays is told of, and no manifest names its files."""
    for path in [path for path in folder.rglob(f"{SCRATCH_MARK}*") if path.is_dir()]:
        if not remove_folder(path):
            inside = path.relative_to(folder).as_posix()
            progress.say(f"'{inside}' in the output is held open and stays; it belongs to nothing, delete it later")


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder; a PermissionError is met with another try until PATIENCE_S have passed.

    Raises EdgespecError when it is refused to the end.
    """
    refused = _patiently(lambda: source.replace(target), PATIENCE_S, PermissionError)
    if refused is not None:
        raise EdgespecError(
            f"{_refusal(source, target, refused)}; close it, or choose another output directory, and run the command "
            "again"
        ) from refused


def _refusal(source: Path, target: Path, refused: OSError) -> str:
    return (
        f"'{source}' could not be renamed to '{target.name}' for {PATIENCE_S:.0f} s ({refused.strerror}): another "
        "program has a file in it open, such as a virus scanner, or you may not write there"
    )


def remove_folder(folder: Path, patience_s: float = PATIENCE_S) -> bool:
    """Delete a folder and all in it, trying again until `patience_s` have passed; whether it is gone at the end.

    For scratch folders, whose removal must not turn a run that went well into a failure: it raises no OSError.
    """

    def remove() -> None:
        if folder.exists():
            shutil.rmtree(folder)

    _patiently(remove, patience_s, OSError)
    return not folder.exists()


def _patiently(act: Callable[[], object], patience_s: float, refusal: type[OSError]) -> OSError | None:
    """Do it, again and again while it is refused; the last refusal, or None when it was done."""
    until = time.monotonic() + patience_s
    wait_s = _FIRST_PAUSE_S
    while True:
        try:
            act()
            return None
        except refusal as error:
            if time.monotonic() >= until:
                return error
        gc.collect()  # what holds the file may be a model of ours in a cycle of references
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_PAUSE_S)


def let_go(error: BaseException | None) -> None:
    """Forget the local variables of the calls that an error ended: a model among them keeps its files mapped."""
    seen: set[int] = set()  # causes may go round in a circle
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


def require_absent(out: Path) -> None:
    """Refuse an output that exists: a stage never writes into or over a directory."""
    if out.exists() or out.is_symlink():
        raise EdgespecError(f"'{out}' exists already; choose another output directory or delete it first")


def require_folder(folder: Path, name: str) -> None:
    """Refuse an output whose parent folder does not exist: it is more often a slip than a wish."""
    if not folder.is_dir():
        raise EdgespecError(f"the folder '{folder}' for the output '{name}' does not exist; create it first")


def remove_abandoned(out: Path, progress: Progress = SILENT) -> list[Path]:
    """Delete what killed runs left beside `out`. Directories of processes still alive stay, and so does what was
    finished and could not be renamed."""
    removed = []
    mark = f".{out.name}{PARTIAL_MARK}"  # compared as it is: a name may hold characters that mean something to glob
    for leftover in [path for path in out.parent.iterdir() if path.name.startswith(mark)]:
        if (leftover / FINISHED_MARK).exists():
            progress.say(
                f"'{leftover.name}' is what an earlier run finished and could not rename to '{out.name}'; it stays: "
                "rename or delete it yourself"
            )
            continue
        pid, _, created = leftover.name.rpartition(PARTIAL_MARK)[2].partition("-")
        if pid.isdigit() and created.isdigit() and not _alive(int(pid), int(created)):
            if remove_folder(leftover, patience_s=_LONGEST_PAUSE_S):
                removed.append(leftover)
                progress.say(f"removed '{leftover.name}', left by a run that was killed")
            else:
                progress.say(f"'{leftover.name}', left by a run that was killed, cannot be removed; delete it yourself")
    return removed


def _alive(pid: int, created: int) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - created) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new content, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)  # on Windows a reader that has it open for a moment refuses it
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
