"""Token recycling (Luo et al. 2024): the tokens that the target ranked next to its choice, kept for the next time.

An adjacency matrix holds, by token, the k tokens that the target last ranked highest behind it. A proposal is a tree
over that matrix. Memory: vocabulary x k int32, 4.9 MB at 151,936 x 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..proposal import NOTHING, ROOT, Proposal, Verified
from ..topk import top_k_rows
from .grow import Context, grow

_UNKNOWN = -1
_PRIOR = (0.35, 0.10, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01)
"""By rank, how often that successor was the target's next token: what the running shares start from."""
_PRIOR_STEPS = 20.0
_FADING = 0.99


class RecyclingDrafter:
    """Chosen trees, greedy or not. Only rows on the accepted path are read, all at once.

    The tree's shape is not fixed, as in the paper, but grown from the running share of steps in which each rank was
    right, so a small budget goes where it is worth most. The matrix outlives a sequence: it is about the target, not
    about a text. The prompt's own pairs enter it as first successors.
    """

    name = "recycling"

    def __init__(self, vocab_size: int, *, k: int = 8, depth: int = 6) -> None:
        self._successors = np.full((vocab_size, k), _UNKNOWN, np.int32)
        self._k = k
        self._depth = depth
        prior = np.asarray([*_PRIOR, *[_PRIOR[-1]] * k][:k])
        self._right = prior * _PRIOR_STEPS
        self._asked = np.full(k, _PRIOR_STEPS)
        self._at: int | None = None

    def begin(self, prompt_ids: Sequence[int]) -> None:
        ids = np.asarray(prompt_ids, np.int64)
        if len(ids):
            first = self._successors[ids[:-1], 0]
            fresh = first != ids[1:]
            self._successors[ids[:-1][fresh], 1:] = self._successors[ids[:-1][fresh], :-1]
            self._successors[ids[:-1], 0] = ids[1:]
            self._at = int(ids[-1])
        else:
            self._at = None

    def propose(self, budget: int) -> Proposal:
        if budget < 1 or self._at is None:
            return NOTHING
        shares = np.minimum.accumulate(self._right / self._asked).tolist()

        def options(node: int, context: Context) -> list[tuple[int, float]]:
            known = dict.fromkeys(self._successors[context[-1]].tolist())  # the prompt's pairs may stand twice
            known.pop(_UNKNOWN, None)
            return list(zip(known, shares, strict=False))

        tokens, parents = grow(budget, (self._at,), options, depth=self._depth)
        return Proposal(np.asarray(tokens, np.int64), np.asarray(parents, np.int32)) if tokens else NOTHING

    def observe(self, verified: Verified) -> None:
        """Rank what came next among what was known, then take over the target's ranking of every row on the path."""
        at = self._at
        reached = (ROOT, *verified.path)
        ranked = self._ranked(verified.logits[[row + 1 for row in reached]])
        for row, token in enumerate(verified.emitted):
            if at is not None:
                known = self._successors[at]
                if known[0] != _UNKNOWN:
                    self._right *= _FADING
                    self._asked *= _FADING
                    self._asked += 1
                    self._right += known == token
                self._successors[at] = ranked[row]
            at = token
        self._at = at

    def _ranked(self, logits: np.ndarray) -> np.ndarray:
        """i32 [rows, k], where a vocabulary of fewer tokens leaves places unknown."""
        best = top_k_rows(logits[:, : len(self._successors)], self._k)
        missing = self._k - best.shape[1]
        return np.pad(best, ((0, 0), (0, missing)), constant_values=_UNKNOWN) if missing else best

    def close(self) -> None:
        self._successors = self._successors[:0]
