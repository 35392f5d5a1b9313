"""The draft model as a chain drafter: it continues the text on its own, greedily or drawn like the target's tokens.

Its cache follows the target's word: tokens that were refused are taken back, and those it has not seen (the target's
own, and its last proposal when all were accepted) go through in one pass with the next draft step. gamma proposals
therefore take gamma passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..draws import draw
from ..model import Model
from ..proposal import NOTHING, Proposal, Verified, chain
from .making import Request


class DraftModel:
    """See Drafter. Serves one request after another."""

    name = "draft"

    def __init__(self, model: Model, vocab_size: int) -> None:
        """vocab_size: ids from it on are padding, never proposed."""
        self._vocab_size = min(vocab_size, model.vocab_size)
        self._sequence = model.sequence()
        self._text: list[int] = []

    def serve(self, request: Request) -> DraftModel:
        """Itself, for `request`."""
        self._request = request
        self._sequence.interrupted = request.cancelled
        return self

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._text = list(prompt_ids)
        if self._request.reuse_prefix:
            self._sequence.reuse(prompt_ids)
        else:
            self._sequence.reset()

    def propose(self, budget: int) -> Proposal:
        return self._draft(budget, None)[0]

    def unfold(self, budget: int, more: Callable[[Sequence[float]], bool]) -> tuple[Proposal, list[float]]:
        """See Unfolding. Of a token chosen greedily the confidence is its probability at temperature 1."""
        return self._draft(budget, more)

    def _draft(self, budget: int, more: Callable[[Sequence[float]], bool] | None) -> tuple[Proposal, list[float]]:
        if budget < 1:
            return NOTHING, []
        processor, rng, text = self._request.processor, self._request.rng, self._text
        start = len(text)
        q: dict[int, np.ndarray] = {}
        sure: list[float] = []
        row = self._catch_up()
        while True:
            last = len(text) - start == budget - 1
            confidence = 0.0
            if not processor.greedy:
                q[len(text) - start - 1] = distribution = processor.distribution(row, text)
                token = draw(distribution, rng)
                confidence = float(distribution[token])
            elif more is None or last:
                token = processor.argmax(row, text)
            else:
                token, confidence = processor.surest(row, text)
            text.append(token)
            if last:
                break
            if more is not None:
                sure.append(confidence)
                if not more(sure):
                    break
            row = self._sequence.feed((token,))[0, : self._vocab_size]
        proposed = text[start:]
        del text[start:]
        return chain(proposed, q), sure

    def _catch_up(self) -> np.ndarray:
        """Feed what the cache lacks of the text; logits f32 [vocabulary] behind its last token."""
        if len(self._sequence.tokens) >= len(self._text):  # the last proposal was never observed
            self._sequence.rollback(len(self._text) - 1)
        unseen = self._text[len(self._sequence.tokens) :]
        row: np.ndarray = self._sequence.feed(unseen)[0, : self._vocab_size]
        return row

    def observe(self, verified: Verified) -> None:
        emitted, known = verified.emitted, len(self._text)
        self._text += emitted
        cached = self._sequence.tokens
        agreed = known
        for token in emitted:
            if agreed >= len(cached) or cached[agreed] != token:
                break
            agreed += 1
        if agreed < len(cached):
            self._sequence.rollback(agreed)

    def close(self) -> None:
        self.__dict__.pop("_sequence", None)
