"""What the machine did while a row was measured: memory, energy, clock, heat, and what other programs took of it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_POWERCAP = Path("/sys/class/powercap")  # Linux's energy counters of a processor package, mostly readable by root only
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Reading:
    """What a row stands beside; what the machine does not tell is None.

    other_load: share (0..1) of all cores that other processes, or other guests of a virtual machine's host, took.
    """

    rss_bytes: int | None
    energy_j: float | None
    cpu_mhz: float | None
    temperature_c: float | None
    other_load: float | None


class Sensors:
    """`start` before a generation, `stop` after it; reading is outside the timing.

    pid: the process that answers, where that is not this one; its work and this one's are not other programs'. One that
    is gone, or goes while it answers, leaves what would be read of it unknown: its end is another's to tell.
    """

    def __init__(self) -> None:
        self._cores = psutil.cpu_count() or 1
        self._counters = _energy_counters()
        self._ours: list[psutil.Process | None] = []
        self._at_start: tuple[float, float, float | None, list[int] | None] = (0.0, 0.0, 0.0, None)

    def start(self, pid: int | None = None) -> None:
        self._ours = [psutil.Process(), *([_process(pid)] if pid is not None else [])]
        self._at_start = (time.perf_counter(), _busy_s(), self._own_s(), _read_counters(self._counters))

    def stop(self) -> Reading:
        clock, busy, own, energy = self._at_start
        capacity = (time.perf_counter() - clock) * self._cores
        own_now = self._own_s()
        others = None if own is None or own_now is None else (_busy_s() - busy) - (own_now - own)
        return Reading(
            rss_bytes=_rss_bytes(self._ours[-1]),
            energy_j=_joules(self._counters, energy, _read_counters(self._counters)),
            cpu_mhz=_cpu_mhz(),
            temperature_c=_temperature_c(),
            # the operating system counts in ticks of about 10 ms: below a tenth of a second the share says nothing
            other_load=None
            if others is None or capacity <= 0.1 * self._cores
            else min(1.0, max(0.0, others / capacity)),
        )

    def _own_s(self) -> float | None:
        total = 0.0
        for process in self._ours:
            try:
                if process is None:
                    return None
                times = process.cpu_times()
            except psutil.Error:
                return None
            total += times.user + times.system
        return total


def peak_rss_bytes() -> int | None:
    """The most memory this process has held at once; None where the system does not tell."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024) or None


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _rss_bytes(process: psutil.Process | None) -> int | None:
    try:
        return None if process is None else int(process.memory_info().rss)
    except psutil.Error:
        return None


def _temperature_c() -> float | None:
    """The hottest sensor of the processor, where the system tells (Linux)."""
    try:
        chips: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    except (OSError, RuntimeError):
        return None
    values = [
        float(sensor.current)
        for name in ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")
        for sensor in chips.get(name, [])
        if sensor.current
    ]
    return max(values, default=None)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in _BUSY))


def _cpu_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except Exception:  # not told here: the error differs by platform
        return None
    return float(frequency.current) if frequency and frequency.current else None


def _energy_counters() -> list[tuple[Path, int]]:
    """Each package's microjoule counter with the value at which it wraps; empty where there is none or it is closed."""
    counters = []
    try:
        for zone in sorted(_POWERCAP.glob("intel-rapl:*")):
            if zone.name.count(":") != 1 or not (zone / "name").read_text().startswith("package"):
                continue
            counter = zone / "energy_uj"
            if os.access(counter, os.R_OK):
                counters.append((counter, int((zone / "max_energy_range_uj").read_text())))
    except (OSError, ValueError):
        return []
    return counters


def _read_counters(counters: list[tuple[Path, int]]) -> list[int] | None:
    try:
        return [int(path.read_text()) for path, _ in counters] or None
    except (OSError, ValueError):
        return None


def _joules(counters: list[tuple[Path, int]], before: list[int] | None, after: list[int] | None) -> float | None:
    if before is None or after is None:
        return None
    return sum((b - a) % (wrap + 1) for (_, wrap), a, b in zip(counters, before, after, strict=True)) / 1e6
