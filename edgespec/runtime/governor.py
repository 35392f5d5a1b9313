"""The governor: speculation that does not pay, by the clock, is turned off, and tried again later.

key: gain, seconds a token of plain decoding over seconds a token of speculation, both measured here: the plain ones in
steps decoded plainly for that purpose, or while speculation is off; the others over a sliding window.

A gain below 1 is believed once fresh plain steps confirm it: the machine may have slowed down since the last ones.
Nothing is predicted: a draft that stops agreeing, a neighbour that takes the second core, a clock that falls, all show
as a gain below 1. What the promise costs: one plain step in 32 to 256 while speculation pays, and while it does not one
short try in 32 tokens or more, so rarely that all of them together take at most ALLOWANCE of the time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from ..profile import Profile
from .modes import Way

WINDOW = 24
"""Steps with speculation that a gain is taken over."""
ENOUGH = 10
"""Steps of the window from which any gain below 1 turns speculation off."""
CLEAR = ((2, 0.5), (4, 0.75))
"""Fewer steps suffice for a gain below this."""
CLEAR_TRY = ((1, 0.5), (2, 0.75))
"""The same of a try, which has few."""
REFERENCE = 3
"""Plain tokens that a plain pace is first taken from."""
TRY = 5
"""Steps of a try."""
AGAIN = 1.03
"""The gain a try must show: more than 1, so that noise does not turn speculation on."""
SHORTEST, LONGEST = 32, 1024
"""Tokens from one try to the next: doubled by each that fails."""
ALLOWANCE = 0.01
"""Of the time of plain decoding, what tries that fail may cost. Where one is dear (a draft that has to read the text
first), the next comes later, beyond LONGEST if need be."""
REFRESH = (32, 256)
"""Steps from one plain step to the next while speculation pays, the longer the clearer it does."""


@dataclass
class Governor:
    """Ask `speculate` before a step, tell `saw` after it. It outlives answers: what one taught holds for the next.

    plain_s: seconds a token of plain decoding where they were measured beforehand (a tuned profile); what is measured
    here takes their place. interleaves: whether single steps can be decoded plainly at no cost but their own; else only
    whole answers are (genai). proven: speculation was measured to pay here. Whole answers that are not proven, and for
    which no plain pace is known, begin with a plain one: without it nothing could be judged.
    """

    plain_s: float | None = None
    interleaves: bool = True
    proven: bool = False
    on: bool = field(default=True, init=False)
    switches: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._plain: deque[float] = deque(maxlen=15)
        self._plain_tokens = 0
        self._window: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._trial: list[tuple[int, float]] | None = None
        self._pause = SHORTEST
        self._earliest = SHORTEST
        self._lost_s = 0.0
        self._since_off = 0
        self._since_plain = 0
        self._every = REFRESH[0]
        self._fresh = True
        self._confirming = False
        self._last_gain: float | None = None

    def begin(self) -> None:
        """A new text: its first step with speculation is not judged (a draft reads the prompt then), and where the
        last one was hopeless this one is tried a little sooner, as far as the last try has been paid for."""
        self._fresh = True
        self._pause = max(self._earliest, self._pause // 2)

    @property
    def plain_pace(self) -> float | None:
        """Seconds a token of plain decoding; None while unknown."""
        return median(self._plain) if self._measured else self.plain_s

    @property
    def _measured(self) -> bool:
        return self._plain_tokens >= REFERENCE

    @property
    def gain(self) -> float | None:
        """Over the window, or the last that was known while speculation is off; None while unknown."""
        return self._gain(self._window) if self.on else self._last_gain

    @property
    def would_speculate(self) -> bool:
        """Whether an answer that began now would, at least now and then; asking changes nothing."""
        if self.on:
            return self.interleaves or self.proven or self.plain_pace is not None
        return self.interleaves or self._trial is not None or self._since_off >= self._pause

    def speculate(self) -> bool:
        """Whether the next step (or answer) is to speculate."""
        if self.on:
            if not self.interleaves:
                return self.would_speculate
            return not self._confirming and self._measured and self._since_plain < self._every
        if self._trial is None and self._since_off >= self._pause:
            self._trial = []
            self._lost_s = 0.0
            self._fresh = True
        return self._trial is not None

    def saw(self, tokens: int, seconds: float, *, speculated: bool) -> None:
        """A step emitted so many tokens in so many seconds. speculated: as `speculate` had said before it."""
        if not speculated:
            self._plain.append(seconds / tokens)
            self._plain_tokens += tokens
            self._since_plain = 0
            if not self.on:
                self._since_off += tokens
            elif self._confirming and self._measured:
                self._confirming = False
                self._judge_window(confirmed=True)
            return
        self._since_plain += 1
        if self._trial is not None and self.plain_pace is not None:
            self._lost_s += seconds - tokens * self.plain_pace
        if self._fresh:
            self._fresh = False
            return
        if self._trial is not None:
            self._trial.append((tokens, seconds))
            self._judge_trial()
            return
        self._window.append((tokens, seconds))
        self._judge_window()

    def _gain(self, steps: deque[tuple[int, float]] | list[tuple[int, float]]) -> float | None:
        pace = self.plain_pace
        if pace is None or not steps:
            return None
        return sum(tokens for tokens, _ in steps) * pace / sum(seconds for _, seconds in steps)

    def _judge_window(self, *, confirmed: bool = False) -> None:
        gain = self._gain(self._window)
        if gain is None:
            return
        count = len(self._window)
        if (count >= ENOUGH and gain < 1) or _clear(CLEAR, count, gain):
            if self.interleaves and not confirmed and self._since_plain > 1:
                self._confirming = True
                self._plain.clear()
                self._plain_tokens = 0
            else:
                self._turn_off(gain)
        elif count >= ENOUGH:
            self._every = min(max(REFRESH[0], round(REFRESH[0] * 4 * (gain - 1))), REFRESH[1])

    def _turn_off(self, gain: float) -> None:
        self._last_gain = gain
        self.on = False
        self.switches += 1
        self._since_off = 0
        self._window.clear()

    def _judge_trial(self) -> None:
        assert self._trial is not None
        gain = self._gain(self._trial)
        count = len(self._trial)
        if gain is None:
            return
        if count < TRY and not _clear(CLEAR_TRY, count, gain):
            return
        self._last_gain = gain
        if gain > AGAIN:
            self.on = True
            self.switches += 1
            self._pause = self._earliest = SHORTEST
            self._window.extend(self._trial)
            self._every = REFRESH[0]
        else:
            pace = self.plain_pace
            assert pace is not None, "there is a gain"
            self._earliest = max(SHORTEST, round(self._lost_s / pace / ALLOWANCE))
            self._pause = max(self._earliest, min(2 * self._pause, LONGEST))
        self._trial = None
        self._since_off = 0

    def sentence(self) -> str:
        """Its state, in words."""
        gain = "not known yet" if self.gain is None else f"{self.gain:.2f}x"
        if self.on and not self.would_speculate:
            return "nothing is known of plain decoding here, so the first answer is a plain one, to measure it"
        if self.on:
            return f"speculation is on; measured gain {gain}"
        return f"speculation is off: its measured gain was {gain}; it is tried again every {self._pause} tokens"


def governor_for(way: Way, profile: Profile | None) -> Governor:
    """The governor of `way`, with what `profile`, which holds here, has measured. A profile's tokens/s hold the
    prompt's pass, so they are no pace of decoding; its tpot_ms is."""
    interleaves = way.engine == "native"
    if profile is None:
        return Governor(interleaves=interleaves)
    pace_ms = profile.plain.tpot_ms
    proven = (way.engine, way.mode) == (profile.engine, profile.mode)
    return Governor(None if pace_ms is None else pace_ms / 1e3, interleaves, proven)


def _clear(verdicts: tuple[tuple[int, float], ...], count: int, gain: float) -> bool:
    return any(count >= least and gain < below for least, below in verdicts)
