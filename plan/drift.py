"""A machine's speed drifts while it is measured, by a fifth within minutes; plain runs, one a place, say how.

What was measured at a place of a round is put at the pace that the plain runs have on the whole: multiplied by that,
over the pace of plain decoding there. Where a place has no plain run of its own (passes that end a round), its pace
lies on a straight line between those of its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from .session import Passes
from .step_model import Timed

Place = tuple[int, int]
"""A round, and a place in it."""


class Drift:
    """Read off the plain runs among `runs`. Without any, nothing is changed."""

    def __init__(self, runs: Sequence[Timed]) -> None:
        self._paces: dict[int, list[tuple[int, float]]] = {}
        for run in runs:
            if not run.gamma:
                self._paces.setdefault(run.round, []).append((run.place, run.seconds / run.steps))
        paces = [pace for found in self._paces.values() for _, pace in found]
        self._usual = median(paces) if paces else None

    def factor(self, place: Place) -> float:
        """By which seconds measured at `place` are multiplied. A round without a plain run is left as it is."""
        found = sorted(self._paces.get(place[0], ()))
        if self._usual is None or not found:
            return 1.0
        places, paces = zip(*found, strict=True)
        return self._usual / float(np.interp(place[1], places, paces))

    def run(self, run: Timed) -> Timed:
        return replace(run, seconds=run.seconds * self.factor((run.round, run.place)))

    def passes(self, rows: Mapping[Place, Passes]) -> Passes:
        """The medians over all that were timed."""
        target: dict[int, list[float]] = {}
        draft: dict[int, list[float]] = {}
        for place, row in rows.items():
            factor = self.factor(place)
            for times, timed in ((target, row.target), (draft, row.draft)):
                for n, seconds in timed.items():
                    times.setdefault(n, []).append(seconds * factor)
        return Passes(
            {n: median(target[n]) for n in sorted(target)},
            {n: median(draft[n]) for n in sorted(draft)},
            median(row.wide for row in rows.values()),
        )
