"""Stop strings held against text that streams: what may be the beginning of one is kept back until that is known."""

from __future__ import annotations

from collections.abc import Sequence


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
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self._hit, self._held = True, ""
            return text[: min(places)]
        keep = max(self._begun(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was kept back, once nothing more comes."""
        text, self._held = ("" if self._hit else self._held), ""
        return text

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """How much of `text`'s end is a beginning of `stop`."""
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
