"""Answers chosen beforehand: where a twin's answer begins says what is accepted in it, proposal by proposal.

A few dozen steps at an alpha scatter by a tenth around the tau that alpha has on average, which would drown the time
that is to be measured. Twins' answers are known, so those are asked for whose tau is the expected one: what is left in
a measured speed-up is time. Whether acceptance is alpha at all is another question, asked with answers drawn blindly
(`drawn`), and answered in tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgespec.errors import EdgespecError

from .cycle import HORIZON, draft_cycle, target_cycle, zone_bounds
from .step_model import tau
from .tokenizer import synthetic_vocabulary
from .turns import counts, speculates, steps_of

ALPHAS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the zones of a planned draft."""
SEED = 0
_CANDIDATES = 150


@dataclass(frozen=True)
class Walk:
    """An answer that will come. prompt: ids. steps: target passes after the prompt's, `tokens` - 1 tokens in all. tau:
    tokens a speculative step that counts."""

    prompt: list[int]
    tokens: int
    steps: int
    tau: float


class Walks:
    """The answers of the twins of one vocabulary, whose draft was made for `alphas`."""

    def __init__(self, vocab: int, alphas: Sequence[float] = ALPHAS, seed: int = SEED) -> None:
        self._target = target_cycle(synthetic_vocabulary(vocab).live, vocab, seed)
        draft = draft_cycle(self._target, alphas, seed)
        self._right = draft.following(self._target.order) == self._target.following(self._target.order)
        self._zones = dict(zip(alphas, zone_bounds(len(self._target.order), len(alphas)), strict=True))

    def by_turns(self, alpha: float, gamma: int, pairs: int, *, context: int = 32, seed: int = 0) -> Walk:
        """Of many answers at `alpha`, decoded by so many turns of each kind (turns.py), the one whose tau at `gamma`
        over the speculative steps that count is nearest to the expected one.

        Raises EdgespecError when the twins have no zone for this alpha, or it is too short.
        """
        draw = np.random.default_rng([seed, 13, gamma])
        most = 1 + steps_of(pairs) // 2 * (gamma + 2)
        starts = draw.permutation(self._starts(alpha, most))[:_CANDIDATES].tolist()
        ends = [(start, *self._turns(start, gamma, pairs)) for start in starts]
        start, tokens, share = min(ends, key=lambda end: abs(end[2] / tau(alpha, gamma) - 1))
        return Walk(self._prompt(start, context, draw), tokens, steps_of(pairs), share)

    def drawn(self, alpha: float, tokens: int, count: int, *, context: int = 32, seed: int = 0) -> list[list[int]]:
        """Prompts of `count` answers at `alpha`, drawn blindly, that have no token in common."""
        draw = np.random.default_rng([seed, 12])
        starts = self._starts(alpha, tokens)
        room = len(starts) + tokens - 1
        if room // tokens < count:
            raise EdgespecError(
                f"there is room for {room // tokens} answers of {tokens} tokens at alpha {alpha:g}, not for {count}; "
                "ask for fewer or shorter ones, or take a larger vocabulary"
            )
        places = np.sort(draw.choice(room - count * tokens + count, count, replace=False))
        return [
            self._prompt(int(starts[0] + place + index * (tokens - 1)), context, draw)
            for index, place in enumerate(places)
        ]

    def _starts(self, alpha: float, tokens: int) -> np.ndarray:
        """Positions of a prompt's last token from which an answer stays in its zone."""
        if alpha not in self._zones:
            raise EdgespecError(
                f"these twins have no answers at alpha {alpha:g}, only at "
                f"{', '.join(f'{one:g}' for one in self._zones)}"
            )
        first, end = self._zones[alpha]
        if end - first <= tokens + HORIZON:
            raise EdgespecError(
                f"an answer of {tokens} tokens is longer than the {end - first} that an alpha has in this vocabulary; "
                "ask for a shorter one, or take a larger vocabulary"
            )
        return np.arange(first, end - tokens - HORIZON)

    def _turns(self, start: int, gamma: int, pairs: int) -> tuple[int, float]:
        """(tokens of the answer from `start` by turns, tokens a counted speculative step)."""
        done, counted, emitted = 1, 0, 0
        for step in range(steps_of(pairs)):
            accepted = 0
            while speculates(step) and accepted < gamma and self._right[start + done + accepted]:
                accepted += 1
            done += accepted + 1
            if speculates(step) and counts(step):
                counted, emitted = counted + 1, emitted + accepted + 1
        return done, emitted / counted

    def _prompt(self, start: int, context: int, draw: np.random.Generator) -> list[int]:
        """Random tokens, and the one at position `start` last."""
        before = draw.choice(self._target.order, context - 1)
        return [*before.tolist(), int(self._target.order[start])]
