"""Rows that something else spoilt: told by load, clock and heat, never by their own time, so that repeating them
favours no arm."""

from __future__ import annotations

import time
from statistics import median

import psutil

from .sensors import Reading

MAX_OTHER_LOAD = 0.15
"""Share of the processor that other programs may take while a row is measured."""
MIN_CLOCK = 0.85
"""Share of the run's usual clock below which the processor is held back by heat or a power limit."""
RETRIES = 2
"""How often a disturbed block is measured again before it is taken as it is, with its mark."""
RETRY_SHARE = 0.25
"""Of the planned blocks, how many may be measured again: a machine that is never quiet is measured as it is."""
SETTLE_S = 10.0
CLOCKS_WANTED = 8


class Watch:
    """Judges readings one after another; the usual clock is the median of those seen so far."""

    def __init__(self) -> None:
        self._clocks: list[float] = []

    def judge(self, reading: Reading) -> str | None:
        """What disturbed the row, in words; None when nothing known did."""
        if reading.other_load is not None and reading.other_load > MAX_OTHER_LOAD:
            return f"other programs took {reading.other_load:.0%} of the processor"
        usual = median(self._clocks) if len(self._clocks) >= CLOCKS_WANTED else None
        if reading.cpu_mhz is not None:
            self._clocks.append(reading.cpu_mhz)
            if usual and reading.cpu_mhz < MIN_CLOCK * usual:
                heat = f" at {reading.temperature_c:.0f} °C" if reading.temperature_c is not None else ""
                return f"the clock fell to {reading.cpu_mhz / usual:.0%} of the usual{heat}"
        return None


def settle(limit_s: float = SETTLE_S) -> None:
    """Wait until the processor has been nearly idle for a second (this program waits too), at most `limit_s`."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if psutil.cpu_percent(interval=1.0) < MAX_OTHER_LOAD * 100:
            return
