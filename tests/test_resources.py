"""Peak memory is seen, a file that is mapped does not count, and refusals give the numbers."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgespec import resources, watcher
from edgespec.errors import EdgespecError
from edgespec.resources import (
    DiskNeed,
    PeakMemory,
    anonymous_bytes,
    available_memory_bytes,
    require_disk,
    require_disks,
    require_memory,
)
from edgespec.watcher import LONGEST_S, SAMPLE_S, WATCHER_SHARE, pause_s

Usage = namedtuple("Usage", "total used free")
MB = 1_000_000


def used_now() -> int:
    """What a PeakMemory counts at this moment: this process and those that earlier tests left running."""
    with PeakMemory() as peak:
        pass
    return peak.anonymous_bytes


def test_the_peak_stays_after_the_memory_is_given_back() -> None:
    before = used_now()
    with PeakMemory() as peak:
        block = bytearray(b"\1") * (300 * MB)
        seen = before + 285 * MB
        while peak.anonymous_bytes < seen:  # the watcher looks every SAMPLE_S
            pass
        del block
    assert 285 * MB <= peak.anonymous_bytes - before < 500 * MB
    assert used_now() < peak.anonymous_bytes - 200 * MB


@pytest.mark.skipif(sys.platform == "darwin", reason="there the peak of a moment without the interpreter is not seen")
def test_a_peak_while_native_code_keeps_the_interpreter_is_seen() -> None:
    """The C library's memset, called so that the interpreter is kept, and no switch of threads between two calls."""
    address = ctypes.cast(ctypes.memset, ctypes.c_void_p).value
    assert address is not None
    memset = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)(address)
    before = used_now()
    with PeakMemory() as peak:
        assert peak.anonymous_bytes < before + 100 * MB  # whoever watches is up
        usual = sys.getswitchinterval()
        sys.setswitchinterval(1000.0)
        try:
            block = bytearray(300 * MB)
            into = ctypes.addressof(ctypes.c_char.from_buffer(block))
            until = time.monotonic() + 3 * LONGEST_S
            while time.monotonic() < until:
                memset(into, 1, len(block))
            del block
        finally:
            sys.setswitchinterval(usual)
    assert 285 * MB <= peak.anonymous_bytes - before < 500 * MB
    assert used_now() < peak.anonymous_bytes - 200 * MB


def test_memory_of_processes_it_starts_counts() -> None:
    code = "import sys; block = bytearray(b'1') * 200_000_000; print('ready', flush=True); sys.stdin.read()"
    before = used_now()
    with PeakMemory() as peak:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"ready")
        peak._look(for_children=True)
        child.communicate()
    assert peak.anonymous_bytes - before > 190 * MB


def test_watchers_are_not_counted_and_end_with_what_they_watch() -> None:
    """A process that watches, inside its own watch, and is then killed."""
    code = (
        "import sys\n"
        "from edgespec.resources import PeakMemory, _Beside\n"
        "with PeakMemory() as outer, PeakMemory() as inner:\n"
        "    print(outer.anonymous_bytes, inner.anonymous_bytes, *_Beside.running, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    watched = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert watched.stdout is not None
    outer, inner, *pids = map(int, watched.stdout.readline().split())
    assert abs(outer - inner) < 4 * MB  # a watcher has 5 to 10
    beside = [psutil.Process(pid) for pid in pids]
    assert len(beside) == (2 if sys.platform == "linux" else 0)
    watched.kill()
    watched.communicate()
    _, alive = psutil.wait_procs(beside, timeout=20)
    assert not alive


def test_without_an_interpreter_to_start_the_thread_alone_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/app/chatter")  # a frozen app, which knows no -I
    with PeakMemory() as peak:
        assert not resources._Beside.running
        assert peak.anonymous_bytes > MB
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "Popen", refused)
    with PeakMemory() as peak:
        assert peak.anonymous_bytes > MB


def refused(*_: object, **__: object) -> None:
    raise BlockingIOError("no process is to be had")


def test_a_watcher_that_is_gone_is_done_without() -> None:
    with PeakMemory() as peak:
        for pid in resources._Beside.running:
            psutil.Process(pid).kill()
        assert peak.anonymous_bytes > MB
    assert not resources._Beside.running


@pytest.mark.parametrize("lacking", ["a thread", "patience"])
def test_a_block_that_is_not_entered_leaves_no_watcher(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """Where no thread can be started, or Ctrl-C comes right then."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread") if lacking == "a thread" else KeyboardInterrupt

    started: list[resources._Beside | None] = []
    start = resources._Beside.started
    monkeypatch.setattr(resources._Beside, "started", lambda pid: started.append(start(pid)) or started[-1])
    monkeypatch.setattr(*((threading.Thread, "start") if lacking == "a thread" else (PeakMemory, "_look")), fail)
    with pytest.raises((RuntimeError, KeyboardInterrupt)), PeakMemory():
        pytest.fail("the block must not run")
    (beside,) = started
    assert not resources._Beside.running
    assert beside is None or beside._process.returncode is not None
    assert (beside is not None) == (sys.platform == "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else runs in the memory of its parent")
def test_a_child_between_vfork_and_exec_is_not_counted_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """glibc's posix_spawn opens a file for the child before that execs, and waits as long as a pipe has no writer."""
    code = (
        "import os, sys\n"
        "block = bytearray(b'1') * 200_000_000\n"
        "print('ready', flush=True)\n"
        "opening = (os.POSIX_SPAWN_OPEN, 9, sys.argv[1], os.O_RDONLY, 0)\n"
        "os.posix_spawn(sys.executable, [sys.executable, '-c', 'input()'], os.environ, file_actions=[opening])\n"
        "print('spawned', flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(watcher, "CHILDREN_S", 1e6)  # however long this machine takes
    monkeypatch.setattr(resources._Beside, "started", lambda _: None)
    before = used_now()
    with PeakMemory() as peak:
        parent = subprocess.Popen(
            [sys.executable, "-c", code, str(pipe)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"ready")
        while not (children := watcher.child_pids(parent.pid)):
            assert parent.poll() is None
        (child,) = children
        assert watcher.anonymous_of(child) > 190 * MB, "it seems to hold what its parent holds"
        assert watcher.borrows(child)
        peak._look(for_children=True)
        assert 190 * MB < peak.anonymous_bytes - before < 300 * MB
        with pipe.open("wb"):
            assert parent.stdout.readline().startswith(b"spawned")
        assert not watcher.borrows(child), "now it runs a program of its own"
        assert watcher.anonymous_of(child) < 100 * MB
        parent.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_a_child_that_stays_in_its_parents_program_counts_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(flags: int, age_s: float) -> None:
        started = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK"))
        fields = ["S", "1", "2", "3", "0", "-1", str(flags), *["0"] * 12, str(started), "9", "9"]
        (tmp_path / "77" / "stat").write_text(f"77 (a (worker) x) {' '.join(fields)}\n")

    monkeypatch.setattr(watcher, "CHILDREN_S", 1000.0)
    assert not watcher.borrows(77, tmp_path)  # it is gone
    (tmp_path / "77").mkdir()
    stat(0x40400040, age_s=3.0)
    assert watcher.borrows(77, tmp_path)
    stat(0x40400040, age_s=2000.0)
    assert not watcher.borrows(77, tmp_path)
    stat(0x40400000, age_s=3.0)
    assert not watcher.borrows(77, tmp_path)


def test_on_windows_the_systems_own_peak_counts_when_it_rose(monkeypatch: pytest.MonkeyPatch) -> None:
    highest = [700 * MB]
    monkeypatch.setattr(resources, "_peak_of_system", lambda _: highest[0])
    with PeakMemory() as peak:
        assert peak.anonymous_bytes < 400_000 * MB
        highest[0] = 900_000 * MB
    assert peak.anonymous_bytes == 900_000 * MB
    with PeakMemory() as peak:  # what it was before is not this block's
        pass
    assert peak.anonymous_bytes < 400_000 * MB


def test_the_watcher_reads_this_process_often_and_the_machine_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    listings: list[int] = []
    children_of = resources.children_of
    monkeypatch.setattr(resources, "children_of", lambda process: listings.append(1) or children_of(process))
    monkeypatch.setattr(resources, "CHILDREN_S", 1e6)  # however late this machine lets the thread run
    with PeakMemory() as peak:
        peak._seen = 0
        while peak._seen == 0:  # the thread looked
            pass
        assert len(listings) == 1  # at the beginning only
    assert len(listings) == 2


def test_a_watcher_whose_looks_are_dear_looks_less_often() -> None:
    assert pause_s(watching_s=0.0, elapsed_s=3.0) == SAMPLE_S
    assert pause_s(watching_s=0.1, elapsed_s=19.9) == pytest.approx(0.1 / WATCHER_SHARE - 19.9)
    assert pause_s(watching_s=9.0, elapsed_s=10.0) == LONGEST_S
    elapsed_s = watching_s = 0.0
    for _ in range(500):  # looks of 1 ms each
        elapsed_s += pause_s(watching_s, elapsed_s) + 0.001
        watching_s += 0.001
    assert watching_s / elapsed_s < 0.006


def test_children_are_found_with_and_without_the_kernels_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = "import os; print(os.getpid(), flush=True); input()"
    code = (
        f"import os, subprocess, sys; print(os.getpid(), flush=True); subprocess.run([sys.executable, '-c', {inner!r}])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        me = psutil.Process()
        assert child.stdout is not None
        started = {int(child.stdout.readline()) for _ in range(2)}  # on Windows each may have a launcher above it
        expected = {found.pid for found in me.children(recursive=True)}
        assert started <= expected
        assert {found.pid for found in resources.children_of(me)} == expected
        monkeypatch.setattr(resources, "_PROC", tmp_path)
        assert {found.pid for found in resources.children_of(me)} == expected
    finally:
        child.communicate(b"\n")


def test_where_the_system_counts_no_anonymous_memory_private_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PROC", tmp_path)  # no /proc, as on macOS and Windows
    windows = SimpleNamespace(pid=1, memory_info=lambda: SimpleNamespace(rss=10, private=123 * MB))
    assert anonymous_bytes(windows) == 123 * MB  # type: ignore[arg-type]
    macos = SimpleNamespace(
        pid=1,
        memory_info=lambda: SimpleNamespace(rss=10),
        memory_full_info=lambda: SimpleNamespace(rss=10, uss=45 * MB),
    )
    assert anonymous_bytes(macos) == 45 * MB  # type: ignore[arg-type]
    assert anonymous_bytes() > MB  # whatever this system tells


def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(200 * MB))
    before = used_now()
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
    monkeypatch.setattr(resources, "commit_now", lambda: None)
    monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000 * MB))
    assert available_memory_bytes() == 8_000 * MB  # no limit is told
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("70000000\n")
    (tmp_path / "memory.stat").write_text("anon 40000000\ninactive_file 20000000\nactive_file 10000000\n")
    assert available_memory_bytes() == 60 * MB  # the files' pages can be dropped
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory_bytes() == 8_000 * MB


def test_a_small_disk_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    with pytest.raises(EdgespecError, match=r"has 0\.00 GB free and about 0\.01 GB are needed; free some space"):
        require_disk(tmp_path, 10**7)


def test_folders_on_one_disk_add_up_and_disks_are_counted_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"a": 5 * 10**9, "b": 2 * 10**9}
    monkeypatch.setattr(resources, "_existing", lambda folder: _Place("a" if folder.name.startswith("a") else "b"))
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda place: Usage(10**10, 0, free[place.disk]))
    first, second = DiskNeed(Path("a1"), 3 * 10**9, "the pair"), DiskNeed(Path("b1"), 10**9, "what is fetched")
    require_disks([first, second])
    require_disks([first, DiskNeed(Path("a2"), 0, "nothing")])
    says = (
        r"the disk holding 'a1' has 5\.00 GB free and about 5\.25 GB are needed \(3\.00 GB in 'a1' for the pair, "
        r"2\.00 GB in 'a2' for the draft, and a twentieth to spare\); free some space"
    )
    with pytest.raises(EdgespecError, match=says):
        require_disks([first, second, DiskNeed(Path("a2"), 2 * 10**9, "the draft")])
    with pytest.raises(EdgespecError, match=r"the disk holding 'b1' has 2\.00 GB free and about 4\.20 GB"):
        require_disks([first, DiskNeed(Path("b1"), 4 * 10**9, "what is fetched")])


class _Place:
    """A folder on a disk of that letter."""

    def __init__(self, disk: str) -> None:
        self.disk = disk

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_dev=ord(self.disk))


def test_a_folder_that_is_not_there_yet_counts_where_it_will_be(tmp_path: Path) -> None:
    require_disk(tmp_path / "not" / "yet", 1000)
    with pytest.raises(EdgespecError, match=r"not[/\\]yet'"):
        require_disk(tmp_path / "not" / "yet", 10**17)
