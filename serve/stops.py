"""Stop strings held against text that streams: what may be the beginning of one is kept back until that is known."""

from __future__ import annotations

from collections.abc import Sequence

from edgespec.engine.stopping import before_stop


class StopText:
    """Give it text as it comes, it gives back what can be shown."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._hit = False

    def hit(self) -> bool:
        """Whether a stop string has come: what was given out ends before it, and nothing more is."""
        return self._hit

    def add(self, text: str) -> str:
        if self._hit or not self._stops:
            return "" if self._hit else text
        text = self._held + text
        certain, self._hit = before_stop(text, self._stops)
        self._held = "" if self._hit else text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """What was kept back, once nothing more comes."""
        text, self._held = ("" if self._hit else self._held), ""
        return text
