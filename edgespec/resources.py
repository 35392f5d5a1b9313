"""Memory and disk: what a command holds at most, and a refusal with numbers before it starts what cannot end well.

Anonymous memory is what counts on a laptop. Pages of a file that is mapped (an IR's weights, a safetensors shard) count
towards RSS too, but the system drops them when it needs room; anonymous pages it can only swap.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import psutil

from . import watcher
from .children import frozen
from .commit_limit import commit_now
from .errors import EdgespecError
from .watcher import CHILDREN_S, pause_s

SPARE = 1.05
"""Times the disk that is expected to be filled, what has to be free."""
_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def anonymous_bytes(process: psutil.Process | None = None) -> int:
    """Anonymous memory of a process (this one unless given), in bytes.

    Linux: RssAnon. Elsewhere private bytes, where the system counts them (Windows: committed though perhaps not
    resident, hence an upper bound), else the unique set (macOS). Raises psutil.Error when the process is gone.
    """
    process = process or psutil.Process()
    with contextlib.suppress(OSError, ValueError, IndexError):
        return watcher.anonymous_of(process.pid, _PROC)
    memory = process.memory_info()
    private = getattr(memory, "private", None)
    return int(process.memory_full_info().uss if private is None else private)


class PeakMemory:
    """Watches this process and those it starts, from `with` to its end, and keeps the highest sum it saw.

    with PeakMemory() as peak: ...
    peak.anonymous_bytes  # so far, also inside the block

    Two look: a thread, and where /proc tells a process what another holds (Linux) a small one beside it (watcher.py),
    because a thread does not get to look while native code keeps the interpreter. On Windows the system itself counts
    this process's peak, which is taken when it rose in the block. On macOS such a peak is missed.
    A child that lives for less than CHILDREN_S may be missed, and one that was forked and stays in its parent's program
    is counted after twice that. watching_s: CPU time that the thread took.
    """

    watching_s = 0.0

    def __enter__(self) -> PeakMemory:
        self._seen = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._children: list[psutil.Process] = []
        self._thread = threading.Thread(target=self._watch, name="edgespec-peak-memory", daemon=True)
        self._beside = _Beside.started(self._process.pid)
        try:
            self._before = _peak_of_system(self._process)
            self._look(for_children=True)
            self._thread.start()
        except BaseException:  # no thread is to be had, or Ctrl-C: nobody will leave a block that was not entered
            self._stop.set()
            self._end_beside()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop.set()
            self._thread.join()
            self._look(for_children=True)
            with self._lock:
                if self._beside is not None:
                    self._seen = max(self._seen, self._beside.seen())
        finally:
            self._end_beside()

    def _end_beside(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.end()

    @property
    def anonymous_bytes(self) -> int:
        """The highest sum so far."""
        with self._lock:
            if self._beside is not None:
                self._seen = max(self._seen, self._beside.seen())
            return self._seen

    def include(self, other: PeakMemory) -> None:
        """What another, inside this one's block, saw counts too: they look at different moments."""
        found = other.anonymous_bytes
        with self._lock:
            self._seen = max(self._seen, found)

    def _watch(self) -> None:
        started = listed = time.monotonic()
        while not self._stop.wait(pause_s(self.watching_s, time.monotonic() - started)):
            due = time.monotonic() - listed >= CHILDREN_S
            listed = time.monotonic() if due else listed
            self._look(for_children=due)
            self.watching_s = time.thread_time()  # of this thread, since it began

    def _look(self, for_children: bool = False) -> None:
        if for_children:
            self._children = [
                child
                for child in children_of(self._process)
                if child.pid not in _Beside.running and not watcher.borrows(child.pid, _PROC)
            ]
        total = anonymous_bytes(self._process)
        for child in self._children:
            with contextlib.suppress(psutil.Error):
                total += anonymous_bytes(child)
        peak = _peak_of_system(self._process)
        with self._lock:
            self._seen = max(self._seen, total, peak if peak > self._before else 0)


ANSWER_S = 5.0
"""That a watcher is waited for: it may have been stopped, with Ctrl-Z say, and not gone on."""


class _Beside:
    """A process of watcher.py that watches this one. Not for concurrent calls."""

    running: ClassVar[set[int]] = set()

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.running.add(process.pid)

    @classmethod
    def started(cls, pid: int) -> _Beside | None:
        """None where there is no /proc to read, no interpreter to run it, or no process to be had."""
        try:
            watcher.anonymous_of(pid, _PROC)
            if frozen():
                return None
            command = [sys.executable, "-I", "-S", watcher.__file__, str(pid)]
            return cls(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
                )
            )
        except (OSError, ValueError, IndexError):
            return None

    def seen(self) -> int:
        """The peak it saw; it looks once more for that. 0 when it is gone, or says nothing for ANSWER_S."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(b"?")
            answer = b""
            while not answer.endswith(b"\n"):
                ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
                if not ready or not (part := self._process.stdout.read(64)):
                    return 0
                answer += part
            return int(answer)
        return 0

    def end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        self._process.kill()
        self._process.wait()
        self.running.discard(self._process.pid)


def _peak_of_system(process: psutil.Process) -> int:
    """The most private bytes a process ever had, where the system counts that (Windows), else 0."""
    return int(getattr(process.memory_info(), "peak_pagefile", 0)) if os.name == "nt" else 0


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Its child processes and theirs. Linux keeps a list by thread; elsewhere every process of the machine is read."""
    found: list[psutil.Process] = []
    try:
        for pid in watcher.child_pids(process.pid, _PROC):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
    except OSError:  # no such list in this kernel, or a process that has just ended
        return process.children(recursive=True)
    return found


def available_memory_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or what a container's limit or Windows' commit limit
    leaves if that is less."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            facts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
            held = used - int(facts.get("inactive_file", 0)) - int(facts.get("active_file", 0))
            available = min(available, int(limit) - held)
    if (commit := commit_now()) is not None:
        available = min(available, commit.free_bytes)
    return max(0, available)


def require_memory(need_bytes: int, doing: str, committed_bytes: int = 0) -> None:
    """Refuse to start `doing` ("compressing the target to int4_sym") when about `need_bytes` of memory are not free.

    committed_bytes: what Windows counts of it, where that is more: with files that are mapped copy-on-write.
    """
    available, commit = available_memory_bytes(), commit_now()
    if available < need_bytes and (commit is None or available < commit.free_bytes):
        total = psutil.virtual_memory().total
        raise EdgespecError(
            f"{doing} needs about {need_bytes / 1e9:.1f} GB of memory and {available / 1e9:.1f} of "
            f"{total / 1e9:.1f} GB are free; close other programs, or do it on a machine with more"
        )
    mapped = " (weight files that are mapped count)" if committed_bytes > need_bytes else ""
    committed_bytes = max(need_bytes, committed_bytes)
    if commit is not None and commit.free_bytes < committed_bytes:
        raise EdgespecError(
            f"{doing} needs about {committed_bytes / 1e9:.1f} GB that Windows sets aside in memory and page file "
            f"together{mapped}, and {commit.free_bytes / 1e9:.1f} of "
            f"{commit.limit_bytes / 1e9:.1f} GB are left; close other programs, or make the page file at least "
            f"{(committed_bytes - commit.free_bytes) / 1e9:.1f} GB larger (System, Advanced system settings, "
            "Performance, Advanced, Virtual memory) and restart Windows"
        )


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that are going to be written into `folder`, which need not exist yet. purpose: what they are, for the
    sentence ("the pair")."""

    folder: Path
    bytes: int
    purpose: str


def require_disk(folder: Path, need_bytes: int) -> None:
    """Refuse to start when `folder`'s disk has less than `need_bytes` free (with a twentieth to spare)."""
    require_disks([DiskNeed(folder, need_bytes, "")])


def require_disks(needs: Iterable[DiskNeed]) -> None:
    """Refuse to start unless every disk has room for all that is to be written to it: folders on one disk add up.

    The sentence names the disk that is too small by its first folder, what is free, and each part of what is needed.
    """
    by_disk: dict[int, list[DiskNeed]] = {}
    for need in needs:
        if need.bytes > 0:
            by_disk.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    by_storage: dict[tuple[int, int], list[DiskNeed]] = {}
    for parts in by_disk.values():  # btrfs subvolumes, APFS volumes, bind mounts: several numbers, one storage
        usage = shutil.disk_usage(_existing(parts[0].folder))
        by_storage.setdefault((usage.total, usage.free), []).extend(parts)
    for (_, free), parts in by_storage.items():
        total = SPARE * sum(part.bytes for part in parts)
        if free < total:
            told = ", ".join(f"{part.bytes / 1e9:.2f} GB in '{part.folder}' for {part.purpose}" for part in parts)
            detail = f" ({told}, and a twentieth to spare)" if len(parts) > 1 else ""
            raise EdgespecError(
                f"the disk holding '{parts[0].folder}' has {free / 1e9:.2f} GB free and about {total / 1e9:.2f} GB are "
                f"needed{detail}; free some space or choose another output directory"
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
