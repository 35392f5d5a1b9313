"""Acceptance of a draft's tokens by a target, from both models' greedy choices over one text: no decoding needed.

Greedy speculative decoding writes what the target alone would write, y. A proposal is compared with y token by token
and everything after the first difference is thrown away, so a draft token is only ever judged behind a prefix of y. The
draft's choices along y, from one pass, therefore tell every step: how many of the next gamma it gets right in a row. So
one answer per target and one pass per (draft, answer) give acceptance for every combination and every gamma. Held
against the native engine in tests and in every cost table, under settings that round nothing (settings.EXACT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Text:
    """A prompt, and what a target answers greedily. Token ids; the answer may end in the end of text."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> np.ndarray:
        return np.asarray(self.prompt + self.answer, dtype=np.int64)


@dataclass(frozen=True)
class Acceptance:
    """Over all steps of all texts. acceptance_rate: accepted / proposed; tau: tokens a step; None without a step."""

    gamma: int
    proposed: int
    accepted: int
    steps: int
    tokens: int

    @property
    def acceptance_rate(self) -> float | None:
        return self.accepted / self.proposed if self.proposed else None

    @property
    def tau(self) -> float | None:
        return self.tokens / self.steps if self.steps else None


def accepted_by(texts: Sequence[Text], choices: Sequence[np.ndarray], gamma: int, max_new_tokens: int) -> Acceptance:
    """What greedy speculative decoding with `gamma` proposals a step would accept.

    choices: for each text the draft's top token behind each of its ids, i64 [len(text.ids)]. max_new_tokens: the limit
    the answers were written under; near it fewer tokens are proposed, as the engines do.
    """
    proposed = accepted = steps = tokens = 0
    for text, chosen in zip(texts, choices, strict=True):
        start, length = len(text.prompt), len(text.answer)
        right = chosen[start : start + length - 1] == text.ids[start + 1 : start + length]  # behind answer tokens
        emitted = 1  # the prompt's own pass gives the first
        while emitted < length:
            shown = min(gamma, max_new_tokens - emitted - 1)
            ahead = right[emitted - 1 : emitted - 1 + shown]
            run = int(np.argmin(ahead)) if not ahead.all() else len(ahead)
            emitting = min(run + 1, length - emitted)
            proposed, accepted = proposed + shown, accepted + min(run, emitting)
            steps, tokens = steps + 1, tokens + emitting
            emitted += emitting
    return Acceptance(gamma, proposed, accepted, steps, tokens)
