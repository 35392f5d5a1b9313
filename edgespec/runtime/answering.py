"""One answer on one engine, or on two: the governor may leave the draft behind in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..engine.genai import GenaiEngine
from ..engine.native import NativeEngine
from ..engine.step import Generation, Step
from ..pair import Pair
from .engines import Opened
from .requests import Request
from .worker import Job

_CATCHES_UP = 2.0
"""How many times over what reading the text again takes must be saved, to leave a genai draft in mid-answer."""


class Answering:
    """The state of one answer: what came, what of it was drafted, and why it ended. Runs on the worker's thread."""

    def __init__(
        self, job: Job, request: Request, prompt_ids: Sequence[int], limit: int, emit: Callable[[Any], object] | None
    ) -> None:
        """limit: tokens at most. emit: takes each step's (ids, flags)."""
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

    def run(self, opened: Opened, pair: Pair, gamma: int | None, threshold: float | None) -> bool:
        """Go on with the answer on `opened`. True when it has ended; False when the governor wants plain decoding,
        which this engine cannot do, for the rest."""
        if opened.watch is not None:
            opened.watch.begin()
        ids = self.prompt_ids + self.tokens
        left = self.limit - len(self.tokens)
        on_tokens = self._native_tokens(opened) if opened.watch is not None else self._genai_tokens(opened, left)
        before = len(self.tokens)
        engine = opened.engine
        if isinstance(engine, NativeEngine):
            generation = engine.generate(
                ids,
                left,
                gamma=gamma,
                sampling=self.request.sampling,
                on_tokens=on_tokens,
                reuse_prefix=self.request.reuse_prefix,
                constraint=self._constraint(opened, pair),
            )
        else:
            generation = engine.generate(
                ids, left, gamma=gamma, threshold=threshold, sampling=self.request.sampling, on_tokens=on_tokens
            )
        came = self.tokens[before:]
        if self.left_draft or self.job.cancelled:  # what an engine computed after it was told to end is not the answer
            generation = replace(generation, token_ids=came, steps=cut(generation.steps, len(came)))
        self._join(generation)
        ended = not self.left_draft or self.job.cancelled or len(self.tokens) >= self.limit
        self.left_draft = False
        return ended

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
            ttft_s=first.ttft_s,
            wall_s=first.wall_s + generation.wall_s,
        )

    def _take(self, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        self.tokens += tokens
        self.from_draft += flags
        if self.emit is not None:
            self.emit((tuple(tokens), tuple(flags)))

    def _native_tokens(self, opened: Opened) -> Callable[[Sequence[int]], bool]:
        watch = opened.watch
        assert watch is not None
        before = len(self.tokens)

        def on_tokens(tokens: Sequence[int]) -> bool:
            start = len(self.tokens) - before
            self._take(tokens, watch.from_draft[start : start + len(tokens)])
            return self.job.cancelled

        return on_tokens

    def _genai_tokens(self, opened: Opened, left: int) -> Callable[[Sequence[int]], bool]:
        """openvino-genai hands over a step's tokens together: the last is the target's own."""
        governor = opened.governor if opened.way.speculative else None
        if governor is not None:
            governor.begin()
        speculative = opened.way.speculative
        ends = stop_ids(opened.engine) | set(self.request.sampling.stop_token_ids) if governor is not None else set()
        clock = [time.perf_counter()]  # of the call, then of its last step; a prompt's seconds once they are known
        prompt_s: list[float] = []

        def on_tokens(tokens: Sequence[int]) -> bool:
            now = time.perf_counter()
            seconds, clock[0] = now - clock[0], now
            if not prompt_s:
                prompt_s.append(seconds)
                self._take(tokens, [False] * len(tokens))
                return self.job.cancelled
            drafted = len(tokens) - 1 if speculative else 0
            self._take(tokens, [True] * drafted + [False] * (len(tokens) - drafted))
            if governor is not None:
                governor.saw(len(tokens), seconds, speculated=True)
                if not governor.on and not self.job.cancelled and ends.isdisjoint(tokens):
                    self.left_draft = self._worth_leaving(opened, left, prompt_s[0])
            return self.job.cancelled or self.left_draft

        return on_tokens

    def _worth_leaving(self, opened: Opened, left: int, prompt_s: float) -> bool:
        """Whether the rest is long enough that plain decoding saves more than reading the text again takes; and whether
        the answer may be cut in two at all, which a stop string or a count of tokens would notice."""
        governor, sampling = opened.governor, self.request.sampling
        assert governor is not None
        gain, pace = governor.gain, governor.plain_pace
        if sampling.stop_strings or sampling.penalized or gain is None or pace is None or gain >= 1:
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


def stop_ids(engine: GenaiEngine | NativeEngine) -> set[int]:
    """Ids that end a text whatever the request says."""
    if isinstance(engine, NativeEngine):
        return set(engine.stop_ids)
    config = engine._pipeline.get_generation_config()
    return {int(config.eos_token_id), *(int(token) for token in config.stop_token_ids)}


def plain_time(generation: Generation) -> tuple[int, float] | None:
    """(tokens, seconds) after the first token of a plain answer; None when there were none."""
    count = len(generation.token_ids) - 1
    return (count, generation.wall_s - generation.ttft_s) if count > 0 else None


def cut(steps: Sequence[Step], tokens: int) -> list[Step]:
    """The steps of whose tokens only the first so many belong to the answer."""
    kept: list[Step] = []
    for step in steps:
        if tokens <= 0:
            break
        if len(step.tokens) > tokens:
            accepted = None if step.accepted is None else min(step.accepted, tokens)
            step = replace(step, tokens=step.tokens[:tokens], accepted=accepted)
        kept.append(step)
        tokens -= len(step.tokens)
    return kept
