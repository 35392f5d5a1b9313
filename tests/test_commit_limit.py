"""Windows' commit limit: read as Windows tells it, counted as Windows counts, and refused in a sentence."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec import resources
from edgespec.commit_limit import Commit, commit_now
from edgespec.errors import EdgespecError
from edgespec.resources import available_memory_bytes, require_memory

GB = 10**9


class Windows:
    """Its kernel32, as far as it tells of memory. status: by the offsets that sysinfoapi.h gives MEMORYSTATUSEX."""

    def __init__(self, free_bytes: int, limit_bytes: int, works: bool = True) -> None:
        self.kernel32 = SimpleNamespace(GlobalMemoryStatusEx=self._tell)
        self._free, self._limit, self._works = free_bytes, limit_bytes, works

    def _tell(self, status: Any) -> int:
        memory = (ctypes.c_uint64 * 8).from_address(ctypes.addressof(status._obj))
        assert memory[0] & 0xFFFFFFFF == 64, "dwLength is set before the call, and is the structure's size"
        if self._works:
            memory[1], memory[2] = 32 * GB, 20 * GB  # ullTotalPhys, ullAvailPhys
            memory[3], memory[4] = self._limit, self._free  # ullTotalPageFile, ullAvailPageFile
        return int(self._works)


def on_windows(monkeypatch: pytest.MonkeyPatch, free_bytes: int, limit_bytes: int, works: bool = True) -> None:
    monkeypatch.setattr(ctypes, "windll", Windows(free_bytes, limit_bytes, works), raising=False)


def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 32 GB, 20 of them free, in no container."""
    monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: SimpleNamespace(available=20 * GB, total=32 * GB))
    monkeypatch.setattr(resources, "_CGROUP", Path("nowhere"))


def test_what_windows_tells_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch, 9 * GB, 40 * GB)
    assert commit_now() == Commit(free_bytes=9 * GB, limit_bytes=40 * GB)
    on_windows(monkeypatch, 9 * GB, 40 * GB, works=False)
    assert commit_now() is None


def test_no_other_system_has_such_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ctypes, "windll", raising=False)
    assert commit_now() is None


def test_memory_that_cannot_be_committed_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    on_windows(monkeypatch, 9 * GB, 40 * GB)
    assert available_memory_bytes() == 9 * GB
    on_windows(monkeypatch, 30 * GB, 40 * GB)
    assert available_memory_bytes() == 20 * GB


@pytest.mark.parametrize(
    ("free", "need", "committed", "says"),
    [
        (30 * GB, 19 * GB, 0, None),
        (30 * GB, 2 * GB, 29 * GB, None),
        (
            12 * GB,
            2 * GB,
            18 * GB,
            r"exporting the target needs about 18\.0 GB that Windows sets aside in memory and page file together "
            r"\(weight files that are mapped count\), and 12\.0 of 40\.0 GB are left; close other programs, "
            r"or make the page file at least 6\.0 GB larger \(System, Advanced system settings, .*Virtual memory\)",
        ),
        (
            1 * GB,
            2 * GB,
            0,
            r"needs about 2\.0 GB that Windows sets aside in memory and page file together, and 1\.0 of 40\.0 ",
        ),
        (30 * GB, 22 * GB, 38 * GB, r"needs about 22\.0 GB of memory and 20\.0 of 32\.0 GB are free; close other"),
    ],
)
def test_what_is_committed_has_to_be_left(
    monkeypatch: pytest.MonkeyPatch, free: int, need: int, committed: int, says: str | None
) -> None:
    """Where the commit limit is 40 GB."""
    machine(monkeypatch)
    on_windows(monkeypatch, free, 40 * GB)
    if says is None:
        require_memory(need, "exporting the target", committed)
        return
    with pytest.raises(EdgespecError, match=says):
        require_memory(need, "exporting the target", committed)


def test_elsewhere_only_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 3 * GB)
    monkeypatch.setattr(resources, "commit_now", lambda: None)
    require_memory(3 * GB, "this", 100 * GB)
