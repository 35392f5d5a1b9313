"""A world for `verify` in which every distribution is known: the target's next token depends on the last one alone.

target, draft: float32 [V, V], logits of the next token by the last. Token END ends an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgespec.bench.prompts import Prompt
from edgespec.bench.verify.voices import Voice
from edgespec.bench.verify.world import World
from edgespec.engine.processors import Processor
from edgespec.errors import EdgespecError
from edgespec.sampling import Sampling

END = 0
V = 12


def table(seed: int, spread: float = 1.5, vocabulary: int = V) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (vocabulary, vocabulary)).astype(np.float32)


class TableTarget:
    """A `Target` whose logits are rows of `logits`, off by `rounding` times normal noise where they are rounded."""

    def __init__(self, logits: np.ndarray, rounding: float = 0.0) -> None:
        self.logits, self.rounding = logits, rounding
        self.vocab_size = logits.shape[1]

    def along(self, context: Sequence[int], answer: Sequence[int], *, one_by_one: bool = False) -> np.ndarray:
        rows = self.logits[[context[-1], *answer[:-1]]]
        noise = np.random.default_rng(0).normal(0, 1, rows.shape) * self.rounding if one_by_one else 0.0
        return (rows + noise).astype(np.float32)

    def behind(self, context: Sequence[int], prefixes: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        noise = np.random.default_rng(1).normal(0, 1, self.logits.shape) * self.rounding
        for prefix in prefixes:
            yield (self.logits + noise)[(*context, *prefix)[-1]].astype(np.float32)

    def close(self) -> None:
        pass


class TableSpeaker:
    """Answers from `logits`, drawn with `sampling_as` (the request's own unless given). share: of its sampled answers,
    how many come from `draft` from the second token on, as an engine would do that keeps what the draft proposed.
    flips: by prompt length, the place at which its greedy answer takes the second likeliest token."""

    def __init__(
        self,
        logits: np.ndarray,
        draft: np.ndarray | None = None,
        share: float = 0.0,
        flips: Mapping[int, int] | None = None,
        change: Callable[[Sampling], Sampling] = lambda sampling: sampling,
        proposed: int | None = 30,
    ) -> None:
        self.logits, self.draft, self.share, self.change = logits, draft, share, change
        self.flips = dict(flips or {})
        self.proposed = proposed
        self.accepted = None if proposed is None else proposed // 2
        self.closed = 0

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        answer: list[int] = []
        while len(answer) < max_new_tokens and answer[-1:] != [END]:
            row = self.logits[(answer or prompt_ids)[-1]]
            second = self.flips.get(len(prompt_ids)) == len(answer)
            answer.append(int(np.argsort(-row)[int(second)]))
        return answer

    def sample(
        self, context: Sequence[int], tokens: int, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[Sequence[int]]:
        rng = np.random.default_rng(seeds[0])
        of = [_distributions(self.logits, self.change(sampling))]
        of.append(_distributions(self.draft if self.draft is not None else self.logits, self.change(sampling)))
        for _ in seeds:
            follows = rng.random() < self.share
            answer: list[int] = []
            while len(answer) < tokens and answer[-1:] != [END]:
                p = of[follows and len(answer) > 0][(answer or context)[-1]]
                answer.append(int(np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right")))
            yield answer

    def close(self) -> None:
        self.closed += 1


def _distributions(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    processor = Processor(replace(sampling, seed=None), logits.shape[1])
    return np.stack([processor.distribution(row, ()) for row in logits])


def scripted(
    arms: Mapping[str, TableSpeaker],
    *,
    target: np.ndarray,
    draft: np.ndarray | None = None,
    rounding: float = 0.0,
    control: Mapping[int, int] | None = None,
    fails: Sequence[str] = (),
) -> World:
    """The arms and a right `plain`; `control` flips like an arm's. fails: arms that cannot be loaded."""

    def opener(name: str, speaker: TableSpeaker) -> Callable[[], Any]:
        def open_it() -> TableSpeaker:
            if name in fails:
                raise EdgespecError(f"{name} cannot be loaded")
            return speaker

        return open_it

    speakers = {"plain": TableSpeaker(target), **arms}
    in_batch = TableSpeaker(target, flips=control)
    return World(
        voices={
            name: Voice(
                name, opener(name, speaker), opener(name, speaker), control="" if name == "plain" else "control"
            )
            for name, speaker in speakers.items()
        },
        open_target=lambda: TableTarget(target),
        open_rounded=lambda: TableTarget(target, rounding),
        open_draft=None if draft is None else lambda: TableTarget(draft),
        encode=_encode,
        stop_ids=frozenset({END}),
        control=lambda prompts, count: [in_batch.greedy(ids, count) for ids in prompts],
    )


def _encode(prompt: Prompt) -> list[int]:
    """As many tokens as the prompt's number, so that `flips` can name it; none of them END."""
    number = int(prompt.id.rpartition("-")[2])
    return [1 + (number + place) % (V - 1) for place in range(number + 2)]
