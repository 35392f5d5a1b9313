"""Memory and disk: what a command holds at most, and a refusal with numbers before it starts what cannot end well.

Anonymous memory is what counts on a laptop. Pages of a file that is mapped (an IR's weights, a safetensors shard) count
towards RSS too, but the system drops them when it needs room; anonymous pages it can only swap.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from .errors import EdgespecError

SAMPLE_S = 0.02
"""Seconds between two looks. A buffer of a gigabyte takes longer than this to fill, so no large one is missed."""
_CGROUP = Path("/sys/fs/cgroup")


def anonymous_bytes(process: psutil.Process | None = None) -> int:
    """Anonymous memory of a process (this one unless given), in bytes.

    Linux: RssAnon. Windows: private bytes, committed though perhaps not resident, hence an upper bound. macOS: USS.
    """
    process = process or psutil.Process()
    memory = process.memory_info()
    if hasattr(memory, "shared"):  # Linux: RssFile + RssShmem
        return int(memory.rss - memory.shared)
    private = getattr(memory, "private", None)
    return int(process.memory_full_info().uss if private is None else private)


@dataclass
class PeakMemory:
    """Watches this process and those it starts, from `with` to its end, and keeps the highest sum it saw.

    with PeakMemory() as peak: ...
    peak.anonymous_bytes  # so far, also inside the block
    """

    anonymous_bytes: int = 0

    def __enter__(self) -> PeakMemory:
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._thread = threading.Thread(target=self._watch, name="edgespec-peak-memory", daemon=True)
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        total = anonymous_bytes(self._process)
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += anonymous_bytes(child)
        self.anonymous_bytes = max(self.anonymous_bytes, total)


def available_memory_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or what a container's limit leaves if that is less."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            facts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
            held = used - int(facts.get("inactive_file", 0)) - int(facts.get("active_file", 0))
            available = min(available, int(limit) - held)
    return max(0, available)


def require_memory(need_bytes: int, doing: str) -> None:
    """Refuse to start `doing` ("compressing the target to int4_sym") when about `need_bytes` of memory are not free."""
    available = available_memory_bytes()
    if available < need_bytes:
        total = psutil.virtual_memory().total
        raise EdgespecError(
            f"{doing} needs about {need_bytes / 1e9:.1f} GB of memory and {available / 1e9:.1f} of "
            f"{total / 1e9:.1f} GB are free; close other programs, or do it on a machine with more"
        )


def require_disk(folder: Path, need_bytes: int) -> None:
    """Refuse to start when `folder`'s disk has less than `need_bytes` free (with a twentieth to spare)."""
    free = shutil.disk_usage(folder).free
    if free < need_bytes * 1.05:
        raise EdgespecError(
            f"the disk holding '{folder}' has {free / 1e9:.2f} GB free and about {need_bytes * 1.05 / 1e9:.2f} GB are "
            "needed; free some space or choose another output directory"
        )
