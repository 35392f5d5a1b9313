"""Peak memory is seen, a file that is mapped does not count, and refusals give the numbers."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.resources import PeakMemory, anonymous_bytes, available_memory_bytes, require_disk, require_memory

Usage = namedtuple("Usage", "total used free")
MB = 1_000_000


def test_the_peak_stays_after_the_memory_is_given_back() -> None:
    before = anonymous_bytes()
    with PeakMemory() as peak:
        block = bytearray(b"\1") * (300 * MB)
        seen = anonymous_bytes()
        while peak.anonymous_bytes < seen - MB:  # the watcher looks every 20 ms
            pass
        del block
    assert 290 * MB < peak.anonymous_bytes - before < 500 * MB
    assert anonymous_bytes() < peak.anonymous_bytes - 200 * MB


def test_memory_of_processes_it_starts_counts() -> None:
    code = "import sys; block = bytearray(b'1') * 200_000_000; print('ready', flush=True); sys.stdin.read()"
    before = anonymous_bytes()
    with PeakMemory() as peak:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"ready")
        peak._look()
        child.communicate()
    assert peak.anonymous_bytes - before > 190 * MB


def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(200 * MB))
    before = anonymous_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, PeakMemory() as peak:
        assert sum(mapped[start] for start in range(0, 200 * MB, 4096)) == 0
    assert peak.anonymous_bytes - before < 50 * MB


def test_too_little_memory_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 3_000 * MB)
    require_memory(3_000 * MB, "this")
    says = r"compressing the target needs about 5\.6 GB of memory and 3\.0 of \d+\.\d GB are free; close other programs"
    with pytest.raises(EdgespecError, match=says):
        require_memory(5_600 * MB, "compressing the target")


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    machine = psutil.virtual_memory().available
    assert available_memory_bytes() == pytest.approx(machine, rel=0.2)  # no limit is told
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("70000000\n")
    (tmp_path / "memory.stat").write_text("anon 40000000\ninactive_file 20000000\nactive_file 10000000\n")
    assert available_memory_bytes() == 60 * MB  # the files' pages can be dropped
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory_bytes() == pytest.approx(machine, rel=0.2)


def test_a_small_disk_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    with pytest.raises(EdgespecError, match=r"has 0\.00 GB free and about 0\.01 GB are needed; free some space"):
        require_disk(tmp_path, 10**7)
