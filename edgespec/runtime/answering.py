"""One answer on one engine, or on several: the governor may leave the draft behind in the middle of it, and an engine
may break down. What was said stays; the next engine reads it as part of its prompt and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..engine.genai import GenaiEngine
from ..engine.native import NativeEngine
from ..engine.step import Generation, Step, cut
from ..errors import EngineFailed, last_line
from ..pair import Pair
from .engines import Opened
from .requests import Request
from .worker import Job

TOGETHER_S = 0.016
"""Steps that follow one another faster than a screen is drawn are handed over together: waking the reader at each would
take a core from the next step (1 % of one that lasts 4 ms on two cores). Slower steps come one by one."""

_CATCHES_UP = 2.0
"""How many times over what reading the text again takes must be saved, to leave a genai draft in mid-answer."""


class Answering:
    """The state of one answer: what came, what of it was drafted, and why it ended. Runs on the worker's thread."""

    def __init__(
        self, job: Job, request: Request, prompt_ids: Sequence[int], limit: int, emit: Callable[[Any], object] | None
    ) -> None:
        """limit: tokens at most. emit: takes lists of steps' (ids, flags)."""
        self.job = job
        self.request = request
        self.prompt_ids = list(prompt_ids)
        self.limit = limit
        self.emit = emit
        self.tokens: list[int] = []
        self.from_draft: list[bool] = []
        self.generation: Generation | None = None
        self.last: Generation | None = None
        """The part of it that the last engine gave, by that engine's own clock."""
        self.left_draft = False
        self._at_end = False
        """Whether genai's last step ended the text."""
        self._deaf: BaseException | None = None
        """What `emit` raised: who asked is gone, and no engine is to blame."""
        self._unsent: list[tuple[Sequence[int], Sequence[bool]]] = []
        self._sent_at = float("-inf")
        self._began = self._first = 0.0
        self._before = 0
        self._sizes: list[int] = []
        """Of the engine that runs: when it began and gave its first token, the tokens before it, those of its steps."""

    def run(
        self, opened: Opened, pair: Pair, gamma: int | None, threshold: float | None, *, may_leave: bool = False
    ) -> bool:
        """Go on with the answer on `opened`. True when it has ended; False when the governor wants plain decoding,
        which this engine cannot do, for the rest: with `may_leave` alone. Raises EngineFailed when the engine breaks
        down; the answer then holds what it gave, and can go on elsewhere."""
        self._began, self._before, self._sizes = time.perf_counter(), len(self.tokens), []
        try:
            generation = self._generate(opened, pair, gamma, threshold, may_leave)
        except EngineFailed:
            self._join(self._broken_off())
            raise
        except RuntimeError as error:  # OpenVINO's own, from where no engine looks for it
            if error is self._deaf:
                raise
            self._join(self._broken_off())
            raise EngineFailed(f"mode '{opened.way.name}' broke down on {opened.device}: {last_line(error)}") from error
        came = self.tokens[self._before :]
        if self.left_draft or self.job.cancelled:  # what an engine computed after it was told to end is not the answer
            generation = replace(generation, token_ids=came, steps=cut(generation.steps, len(came)))
        self._join(generation)
        ended = not self.left_draft or self.job.cancelled or len(self.tokens) >= self.limit
        self.left_draft = False
        return ended

    def _generate(
        self, opened: Opened, pair: Pair, gamma: int | None, threshold: float | None, may_leave: bool
    ) -> Generation:
        ids, answered = self.prompt_ids + self.tokens, len(self.tokens)
        left = self.limit - answered
        sampling = self.request.sampling
        if answered and sampling.seed is not None:  # not the numbers again that were drawn for the tokens before
            sampling = replace(sampling, seed=(sampling.seed + answered) % 2**63)
        engine = opened.engine
        if isinstance(engine, NativeEngine):
            assert opened.watch is not None
            opened.watch.begin()
            return engine.generate(
                ids,
                left,
                gamma=gamma,
                sampling=sampling,
                on_tokens=self._native_tokens(opened),
                reuse_prefix=self.request.reuse_prefix,
                constraint=self._constraint(opened, pair),
                cancelled=lambda: self.job.cancelled,
                answered=answered,
            )
        on_tokens = self._genai_tokens(opened, left, may_leave)
        return engine.generate(ids, left, gamma=gamma, threshold=threshold, sampling=sampling, on_tokens=on_tokens)

    @property
    def complete(self) -> bool:
        """Whether all was said, though the engine broke down behind it."""
        return self._at_end or len(self.tokens) >= self.limit

    def _broken_off(self) -> Generation:
        """What an engine gave before it broke down; what it proposed is not known."""
        now = time.perf_counter()
        came = self.tokens[self._before :]
        steps: list[Step] = []
        place = 0
        for size in self._sizes:
            steps.append(Step(tuple(came[place : place + size])))
            place += size
        return Generation(
            token_ids=came,
            steps=steps,
            finish_reason="stop" if self._at_end else "length",
            ttft_s=(self._first if came else now) - self._began,
            wall_s=now - self._began,
        )

    def _join(self, generation: Generation) -> None:
        self.last = generation
        first = self.generation
        if first is None:
            self.generation = generation
            return
        self.generation = Generation(
            token_ids=first.token_ids + generation.token_ids,
            steps=first.steps + generation.steps,
            finish_reason=generation.finish_reason,
            ttft_s=first.ttft_s if first.token_ids else first.wall_s + generation.ttft_s,
            wall_s=first.wall_s + generation.wall_s,
        )

    def _take(self, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        if not self._sizes:
            self._first = time.perf_counter()
        self._sizes.append(len(tokens))
        self.tokens += tokens
        self.from_draft += flags
        if self.emit is not None:
            self._unsent.append((tokens, flags))
            if time.perf_counter() - self._sent_at > TOGETHER_S:
                self.flush()

    def flush(self) -> None:
        """Hand over what was kept back to come together with the next step."""
        if self.emit is None or not self._unsent:
            return
        steps, self._unsent = self._unsent, []
        self._sent_at = time.perf_counter()
        try:
            self.emit(steps)
        except BaseException as error:
            self._deaf = error
            raise

    def _native_tokens(self, opened: Opened) -> Callable[[Sequence[int]], bool]:
        watch = opened.watch
        assert watch is not None
        before = len(self.tokens)

        def on_tokens(tokens: Sequence[int]) -> bool:
            start = len(self.tokens) - before
            self._take(tokens, watch.from_draft[start : start + len(tokens)])
            return self.job.cancelled

        return on_tokens

    def _genai_tokens(self, opened: Opened, left: int, may_leave: bool) -> Callable[[Sequence[int]], bool]:
        """openvino-genai hands over a step's tokens together: the last is the target's own."""
        governor = opened.governor if opened.way.speculative else None
        if governor is not None:
            governor.begin()
        speculative = opened.way.speculative
        ends = opened.engine.stop_ids | set(self.request.sampling.stop_token_ids)
        clock = [time.perf_counter()]  # of the call, then of its last step; a prompt's seconds once they are known
        prompt_s: list[float] = []

        def on_tokens(tokens: Sequence[int]) -> bool:
            now = time.perf_counter()
            self._at_end = not ends.isdisjoint(tokens)
            seconds, clock[0] = now - clock[0], now
            if not prompt_s:
                prompt_s.append(seconds)
                self._take(tokens, [False] * len(tokens))
                return self.job.cancelled
            drafted = len(tokens) - 1 if speculative else 0
            self._take(tokens, [True] * drafted + [False] * (len(tokens) - drafted))
            if governor is not None:
                governor.saw(len(tokens), seconds, speculated=True)
                if may_leave and not governor.on and not self.job.cancelled and not self._at_end:
                    self.left_draft = self._worth_leaving(opened, left, prompt_s[0])
            return self.job.cancelled or self.left_draft

        return on_tokens

    def _worth_leaving(self, opened: Opened, left: int, prompt_s: float) -> bool:
        """Whether the rest is long enough that plain decoding saves more than reading the text again takes; and whether
        the answer may be cut in two at all, which a count of its tokens would notice."""
        governor, sampling = opened.governor, self.request.sampling
        assert governor is not None
        gain, pace = governor.gain, governor.plain_pace
        if sampling.penalized or gain is None or pace is None or gain >= 1:
            return False
        rest = left - len(self.tokens)
        return rest * pace * (1 / gain - 1) > _CATCHES_UP * prompt_s

    def _constraint(self, opened: Opened, pair: Pair) -> Any:
        if self.request.grammar is None:
            return None
        from ..engine.grammar import Grammar, Vocabulary

        engine = opened.engine
        assert not isinstance(engine, GenaiEngine)
        if opened.vocabulary is None:
            opened.vocabulary = Vocabulary(pair.target, engine.vocab_size, sorted(engine.stop_ids))
        return Grammar(opened.vocabulary, self.request.grammar)


def plain_time(generation: Generation) -> tuple[int, float] | None:
    """(tokens, seconds) after the first token of a plain answer; None when there were none."""
    count = len(generation.token_ids) - 1
    return (count, generation.wall_s - generation.ttft_s) if count > 0 else None
