"""The memory watcher's own process: reads from /proc what another process holds, while that one cannot look itself.

A thread of the watched process looks only when it gets the interpreter, and native code that keeps it (an extension
that does not release it for seconds) hides a whole peak. This file runs as a script, with nothing but the standard
library, so that it is up within some hundredths of a second: `python -I -S watcher.py PID`. Linux only.

It answers each byte on stdin with a line on stdout: the highest sum of RssAnon seen so far, in bytes, of that process
and those that it started, watchers left out. It ends with stdin, or with its parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

PROC = Path("/proc")
SAMPLE_S = 0.05
"""Seconds between two looks. A buffer of a gigabyte takes longer than this to fill, so no large one is missed."""
LONGEST_S = 0.25
"""But at least so often: what is looked for lasts about so long."""
WATCHER_SHARE = 0.005
"""Of one core, what watching may take: a watcher looks less often where a look is dear."""
CHILDREN_S = 1.0
"""Seconds between two looks for new child processes."""
_FORKED = 0x40
"""PF_FORKNOEXEC of the kernel's task flags (linux/sched.h): the process still runs the program of its parent."""


def pause_s(watching_s: float, elapsed_s: float) -> float:
    """How long a watcher rests that took `watching_s` of CPU in `elapsed_s`: until that is WATCHER_SHARE again, but
    LONGEST_S at most."""
    return min(LONGEST_S, max(SAMPLE_S, watching_s / WATCHER_SHARE - elapsed_s))


def anonymous_of(pid: int, proc: Path = PROC) -> int:
    """RssAnon of a process in bytes. Raises OSError, ValueError or IndexError where there is none."""
    status = (proc / str(pid) / "status").read_bytes()
    return int(status.split(b"RssAnon:", 1)[1].split(None, 1)[0]) * 1024


def child_pids(pid: int, proc: Path = PROC) -> list[int]:
    """Ids of the processes it started and of theirs, by the kernel's list. Raises OSError where the kernel keeps none,
    or a process has just ended."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for thread in (proc / str(waiting.pop()) / "task").iterdir():
            pids = [int(word) for word in (thread / "children").read_bytes().split()]
            found += pids
            waiting += pids
    return found


def borrows(pid: int, proc: Path = PROC) -> bool:
    """Whether what the process holds may be its parent's: between vfork and exec it runs in that one's memory, which
    would count twice. That takes milliseconds; one that a CHILDREN_S later still runs its parent's program was forked,
    and has memory of its own."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        flags, started_s = int(fields[6]), int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return bool(flags & _FORKED) and time.clock_gettime(time.CLOCK_BOOTTIME) - started_s < CHILDREN_S
    return False


def is_watcher(pid: int) -> bool:
    """Whether that process runs this file."""
    with contextlib.suppress(OSError):
        return os.fsencode(__file__) in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    return False


def watch(pid: int) -> None:
    """The loop; see the head of this file."""
    peak, children = 0, list[int]()
    parent = os.getppid()
    started, begun = time.monotonic(), time.process_time()
    listed = started - CHILDREN_S
    while os.getppid() == parent:
        pause = pause_s(time.process_time() - begun, time.monotonic() - started) if peak else 0.0
        asked = bool(select.select([0], [], [], pause)[0])
        question = os.read(0, 1) if asked else b""
        if asked and not question:
            return
        if time.monotonic() - listed >= CHILDREN_S:
            listed = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                children = [child for child in child_pids(pid) if not is_watcher(child) and not borrows(child)]
        total = 0
        for one in (pid, *children):
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += anonymous_of(one)
        peak = max(peak, total)
        if question:
            os.write(1, b"%d\n" % peak)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the watched process, which ends this one
    watch(int(sys.argv[1]))
