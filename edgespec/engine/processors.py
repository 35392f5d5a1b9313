"""From the logits of one row to the distribution that a token is drawn from, for target and draft alike.

The order is openvino_genai's (src/cpp/src/sampling/logit_processor.hpp), so that both engines draw alike: mask,
repetition penalty, presence penalty, frequency penalty, logit bias (ours alone, after the penalties), top-k,
temperature, min-p, top-p. Three of its rules are worth knowing:
- top-p keeps the likeliest tokens until their sum exceeds it, counted on the probabilities after top-k, and min-p
  cuts without renormalising, so the two commute;
- the repetition penalty looks at prompt and answer, the other two at the answer alone;
- presence and frequency penalties pull a logit towards zero from either side: one below zero is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..errors import EdgespecError
from ..sampling import Sampling
from .topk import top_k

_LOOKS = (64, 1024)
"""How many tokens top-p sorts before it sorts the whole vocabulary; the first few nearly always hold the nucleus."""


class Constraint(Protocol):
    """What forbids tokens by the text so far, a grammar for one."""

    def allowed(self, answer: Sequence[int]) -> np.ndarray | None:
        """bool [vocabulary] of the tokens that may follow the answer so far (prompt not included); None for all."""


class Processor:
    """Applies one request's `Sampling`. Make one a generation, and one each for target and draft only if their
    vocabularies are padded differently: ids from `vocab_size` on are padding and never drawn."""

    def __init__(
        self, sampling: Sampling, vocab_size: int, *, prompt_length: int = 0, constraint: Constraint | None = None
    ) -> None:
        """prompt_length: how many ids at the head of every `history` are the prompt's. Raises EdgespecError for a bias
        on a token that the vocabulary lacks. `reads_history` tells whether any `history` is looked at."""
        self.sampling = sampling
        self.vocab_size = vocab_size
        self._prompt_length = prompt_length
        self._constraint = constraint
        self._prompt_ids: np.ndarray | None = None
        self._bias_ids = np.fromiter(sampling.logit_bias.keys(), np.int64, len(sampling.logit_bias))
        self._biases = np.fromiter(sampling.logit_bias.values(), np.float32, len(sampling.logit_bias))
        if len(self._bias_ids) and int(self._bias_ids.max()) >= vocab_size:
            raise EdgespecError(
                f"logit_bias names token {self._bias_ids.max()}, but the vocabulary ends at {vocab_size - 1}; "
                "use ids of this model's tokenizer"
            )
        self.reads_history = sampling.penalized or constraint is not None
        self._plain = not sampling.penalized and not len(self._bias_ids) and constraint is None

    @property
    def greedy(self) -> bool:
        return self.sampling.greedy

    def argmax(self, logits: np.ndarray, history: Sequence[int]) -> int:
        """The likeliest token after mask, penalties and bias; the lowest id among equals.

        logits: f32 [>= vocab_size], not changed. history: ids before the token, the prompt's first.
        """
        return int(self._adjusted(logits, history).argmax())

    def surest(self, logits: np.ndarray, history: Sequence[int]) -> tuple[int, float]:
        """(`argmax`, its probability at temperature 1 among what mask, penalties and bias leave); a probability of 0
        where the logits are not numbers."""
        row = self._adjusted(logits, history)
        token = int(row.argmax())
        if not np.isfinite(row[token]):
            return token, 0.0
        return token, float(1 / np.exp(row - row[token]).sum())

    def distribution(self, logits: np.ndarray, history: Sequence[int]) -> np.ndarray:
        """float64 [vocab_size], sums to 1: what the next token is drawn from; one-hot when greedy.

        Arguments as in `argmax`. Exponentials are taken in the logits' own precision (f32, as openvino_genai does) and
        normalised in float64. Raises EdgespecError when no token is left or a logit is not a number.
        """
        row = self._adjusted(logits, history)
        out = np.zeros(self.vocab_size)
        if self.greedy:
            out[int(row.argmax())] = 1.0
            return out
        ids = top_k(row, self.sampling.top_k) if 0 < self.sampling.top_k < self.vocab_size else None
        weights = row if ids is None else row[ids]
        peak = weights.max()
        if not np.isfinite(peak):
            raise EdgespecError(
                "the model's logits are not numbers, or every token is forbidden; check the model's precision on this "
                "device, the grammar and the logit_bias"
            )
        weights = weights - peak
        with np.errstate(over="ignore"):  # towards -inf, which is right: a tiny temperature is nearly greedy
            weights /= weights.dtype.type(max(self.sampling.temperature, 1e-37))
        np.exp(weights, out=weights)
        probabilities: np.ndarray = weights.astype(np.float64)
        probabilities /= probabilities.sum()
        keep = self._kept(probabilities)
        if keep is not None:
            ids = keep if ids is None else ids[keep]
            probabilities = probabilities[keep]
            probabilities /= probabilities.sum()
        if ids is None:
            return probabilities
        out[ids] = probabilities
        return out

    def _kept(self, probabilities: np.ndarray) -> np.ndarray | None:
        """Indices that min-p and top-p leave; None for all."""
        top_p, min_p = self.sampling.top_p, self.sampling.min_p
        if top_p == 1:
            return np.flatnonzero(probabilities >= min_p * probabilities.max()) if min_p else None
        for look in (*_LOOKS, len(probabilities)):
            order = top_k(probabilities, look)
            sums = np.cumsum(probabilities[order])
            if sums[-1] > top_p:
                break
        order = order[: int(np.searchsorted(sums, top_p, side="right")) + 1]
        if min_p:
            order = order[probabilities[order] >= min_p * probabilities[order[0]]]
        return order

    def _adjusted(self, logits: np.ndarray, history: Sequence[int]) -> np.ndarray:
        """The row after mask, penalties and bias: a view of `logits` when there are none."""
        row = logits[: self.vocab_size]
        if self._plain:
            return row
        row = np.array(row)
        if self._constraint is not None:
            allowed = self._constraint.allowed(history[self._prompt_length :])
            if allowed is not None:
                row[~allowed[: self.vocab_size]] = -np.inf
        if self.sampling.penalized:
            self._penalize(row, history)
        if len(self._bias_ids):
            row[self._bias_ids] += self._biases.astype(row.dtype)
        return row

    def _penalize(self, row: np.ndarray, history: Sequence[int]) -> None:
        of = self.sampling
        answer, counts = np.unique(np.asarray(history[self._prompt_length :], np.int64), return_counts=True)
        if of.repetition_penalty != 1:
            if self._prompt_ids is None:
                self._prompt_ids = np.unique(np.asarray(history[: self._prompt_length], np.int64))
            fresh = answer[~np.isin(answer, self._prompt_ids, assume_unique=True)]
            for seen in (self._prompt_ids, fresh):
                values = row[seen]
                row[seen] = np.where(values >= 0, values / of.repetition_penalty, values * of.repetition_penalty)
        for penalties in (
            np.full(len(answer), of.presence_penalty) if of.presence_penalty else None,
            of.frequency_penalty * counts if of.frequency_penalty else None,
        ):
            if penalties is not None:
                values = row[answer]
                row[answer] = np.where(values >= 0, values - penalties, values + penalties)
