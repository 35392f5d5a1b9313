"""Acceptance of a draft's tokens by a target, from both models' distributions over one text: no decoding needed.

Speculative decoding writes what the target alone would write, y. At a place where the draft proposed, the token is y_i
and is the draft's own with chance a_i = min(1, q(y_i) / p(y_i)): min(p, q) is the chance that a token is drafted and
accepted, p that it is written (Leviathan et al. 2023, theorem 1). Greedily, a_i is 1 where both models' likeliest token
is y_i and 0 elsewhere. A draft token is only ever judged behind a prefix of y, so one pass of the draft along y gives
every a_i, and from these follows what all steps together are expected to do, for every gamma: an average over the
draft's draws, exact, with no sampling noise of its own. Held against the native engine in tests, and greedily in every
cost table, under settings that round nothing (settings.EXACT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgespec.tuning.quality import log_chances


@dataclass(frozen=True)
class Text:
    """A prompt, and what a target answers. Token ids; the answer may end in the end of text.

    chances: for a sampled answer the target's log-probability of each of its tokens; None for a greedy one.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    chances: tuple[float, ...] | None = None

    @property
    def ids(self) -> np.ndarray:
        return np.asarray(self.prompt + self.answer, dtype=np.int64)


@dataclass(frozen=True)
class Acceptance:
    """Over all steps of all texts, expected counts. acceptance_rate: accepted / proposed; tau: tokens a step; None
    without a step."""

    gamma: int
    proposed: float
    accepted: float
    steps: float
    tokens: int

    @property
    def acceptance_rate(self) -> float | None:
        return self.accepted / self.proposed if self.proposed else None

    @property
    def tau(self) -> float | None:
        return self.tokens / self.steps if self.steps else None


def chances(text: Text, logits: np.ndarray) -> np.ndarray:
    """a_i for each token of the answer, f64 [len(text.answer)]: that it is the draft's own, were it proposed there.

    logits: the draft's behind each of the text's ids, [len(text.ids), vocabulary].
    """
    start, answer = len(text.prompt) - 1, np.asarray(text.answer)
    rows = logits[start : start + len(answer)]
    if text.chances is None:
        return np.asarray(rows.argmax(-1) == answer, dtype=np.float64)
    drafted = log_chances(rows, answer)
    return np.asarray(np.exp(np.minimum(0.0, drafted - np.asarray(text.chances))))


def accepted_by(found: Sequence[np.ndarray], gamma: int, max_new_tokens: int) -> Acceptance:
    """What speculative decoding with `gamma` proposals a step is expected to accept.

    found: `chances` of each text. max_new_tokens: the limit the answers were written under; near it fewer tokens are
    proposed, as the engines do.
    """
    proposed = accepted = steps = 0.0
    tokens = 0
    for own in found:
        length = len(own)
        begun = np.zeros(length + 1)  # expected steps that begin behind so many tokens
        begun[1] = 1.0  # the prompt's own pass gives the first
        for emitted in range(1, length):
            shown = min(gamma, max_new_tokens - emitted - 1)
            reached = begun[emitted]  # expected steps from here whose first `run` proposals were accepted
            for run in range(min(shown, length - emitted) + 1):
                accepted += reached if run else 0.0
                more = reached * own[emitted + run] if run < shown and emitted + run < length else 0.0
                begun[min(emitted + run + 1, length)] += reached - more
                reached = more
            proposed += begun[emitted] * shown
            steps += begun[emitted]
        tokens += length - 1
    return Acceptance(gamma, float(proposed), float(accepted), float(steps), tokens)
