"""A directory appears whole or not at all: build beside the destination, rename into place, clean up after the dead."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .errors import EdgespecError
from .progress import SILENT, Progress
from .resources import require_disk as require_disk  # read from here elsewhere

PARTIAL_MARK = ".edgespec-partial-"


@contextmanager
def staged_directory(out: Path, need_bytes: int = 0, progress: Progress = SILENT) -> Iterator[Path]:
    """Yield an empty sibling of `out`; rename it to `out` when the block ends, delete it when the block raises.

    need_bytes: free disk the block is expected to fill, checked before it starts.
    Leftovers of processes that were killed are deleted first. Raises EdgespecError when `out` exists or the disk is
    too small; an OSError inside the block passes through after the clean-up.
    """
    out = out.absolute()
    require_absent(out)
    require_folder(out.parent, out.name)
    remove_abandoned(out, progress)
    require_disk(out.parent, need_bytes)
    me = psutil.Process()
    temporary = out.parent / f".{out.name}{PARTIAL_MARK}{me.pid}-{int(me.create_time())}"
    temporary.mkdir()
    try:
        yield temporary
        require_absent(out)
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def require_absent(out: Path) -> None:
    """Refuse an output that exists: a stage never writes into or over a directory."""
    if out.exists() or out.is_symlink():
        raise EdgespecError(f"'{out}' exists already; choose another output directory or delete it first")


def require_folder(folder: Path, name: str) -> None:
    """Refuse an output whose parent folder does not exist: it is more often a slip than a wish."""
    if not folder.is_dir():
        raise EdgespecError(f"the folder '{folder}' for the output '{name}' does not exist; create it first")


def remove_abandoned(out: Path, progress: Progress = SILENT) -> list[Path]:
    """Delete what killed runs left beside `out`; directories of processes still alive stay."""
    removed = []
    mark = f".{out.name}{PARTIAL_MARK}"  # compared as it is: a name may hold characters that mean something to glob
    for leftover in [path for path in out.parent.iterdir() if path.name.startswith(mark)]:
        pid, _, created = leftover.name.rpartition(PARTIAL_MARK)[2].partition("-")
        if pid.isdigit() and created.isdigit() and not _alive(int(pid), int(created)):
            shutil.rmtree(leftover, ignore_errors=True)
            if leftover.exists():
                progress.say(f"'{leftover.name}', left by a run that was killed, cannot be removed; delete it yourself")
            else:
                removed.append(leftover)
                progress.say(f"removed '{leftover.name}', left by a run that was killed")
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
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
