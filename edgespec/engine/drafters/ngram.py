"""Drafters that count: an n-gram model of this text, or of this target's own distributions, learned as it goes.

- ADED (Liu et al. 2024): a trigram matrix, adapted to the output, from which trees are drafted;
- STAND (Song et al. 2025): n-grams that hold the target's probabilities rather than counts of what was drawn, drafted
  from stochastically, siblings without replacement by the Gumbel-top-k trick.

key: context the last one to three tokens, w(x | context) how often x was seen behind it (or how much probability the
target gave it), W their sum, q what is drafted from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...sampling import GREEDY, Sampling
from ..draws import draw_distinct
from ..proposal import NOTHING, ROOT, Proposal, Verified
from ..topk import top_k
from .grow import Context, grow

_KEPT = 16
"""Successors remembered a context: the heaviest."""
_RANKS = (0.6, 0.12, 0.05, 0.03)
"""By order of drawing, how often that sibling is the one accepted: what shapes a drawn tree."""
_TRUST = 0.8
"""Chance that what follows follows q at all; the rest is spread where no n-gram knows."""

Counts = dict[int, float]


class NgramTable:
    """Contexts of `orders` tokens and what followed them. Beyond `capacity` contexts those not met for longest go."""

    def __init__(self, longest: int = 3, capacity: int = 200_000) -> None:
        self._orders = range(longest, 0, -1)
        self._capacity = capacity
        self._counts: dict[Context, Counts] = {}

    def clear(self) -> None:
        self._counts.clear()

    def learn(self, context: Context, weights: Counts) -> None:
        """Add what followed `context` (the last `longest` tokens, or fewer at a text's start)."""
        for n in self._orders:
            if n > len(context):
                continue
            counts = self._counts.pop(context[-n:], {})  # moved to the end: recently met
            for token, weight in weights.items():
                counts[token] = counts.get(token, 0.0) + weight
            if len(counts) > 2 * _KEPT:
                counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:_KEPT])
            self._counts[context[-n:]] = counts
        while len(self._counts) > self._capacity:
            del self._counts[next(iter(self._counts))]

    def successors(self, context: Context) -> Counts:
        """q on what is known, summing to 1, heaviest first; empty when not even the last token was met.

        Orders are blended as Witten and Bell (1991) do: a context of mass W with T different successors speaks for
        W / (W + T), and leaves the rest to the next shorter one.
        """
        blend: Counts = {}
        left = 1.0
        for n in self._orders:
            counts = self._counts.get(context[-n:]) if n <= len(context) else None
            if counts:
                mass = sum(counts.values())
                share = left * mass / (mass + len(counts))
                for token, weight in counts.items():
                    blend[token] = blend.get(token, 0.0) + share * weight / mass
                left -= share
        total = sum(blend.values())
        return {token: value / total for token, value in sorted(blend.items(), key=lambda item: (-item[1], item[0]))}

    def __len__(self) -> int:
        return len(self._counts)


class NgramDrafter:
    """Counts what was emitted (ADED). Greedy requests get chosen trees, grown by q; others get trees drawn from q
    without replacement, with q handed over."""

    name = "ngram"

    def __init__(
        self,
        vocab_size: int,
        *,
        sampling: Sampling = GREEDY,
        rng: np.random.Generator | None = None,
        longest: int = 3,
        width: int = 4,
        depth: int = 8,
        least: float = 0.05,
    ) -> None:
        """width: siblings at most. depth: tokens at most down a branch. least: worth (chance of being accepted) of a
        node below which it is not proposed."""
        self._vocab_size = vocab_size
        self._sampling = sampling
        self._rng = rng if rng is not None else np.random.default_rng(sampling.seed)
        self._table = NgramTable(longest)
        self._longest = longest
        self._width = width
        self._depth = depth
        self._least = least
        self._context: Context = ()

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._table.clear()
        self._context = ()
        for token in prompt_ids:
            self._learn_token(int(token))

    def propose(self, budget: int) -> Proposal:
        if budget < 1 or not self._context:
            return NOTHING
        drawn_from: dict[int, tuple[np.ndarray, np.ndarray]] = {}

        def options(node: int, context: Context) -> list[tuple[int, float]]:
            known = self._table.successors(context[-self._longest :])
            if self._sampling.greedy:
                return [(token, _TRUST * chance) for token, chance in known.items()][: self._width]
            if not known:
                return []
            ids, chances = np.fromiter(known, np.int64), np.fromiter(known.values(), np.float64)
            drawn_from[node] = ids, chances
            drawn = ids[draw_distinct(chances, self._width, self._rng)]
            return list(zip(drawn.tolist(), _RANKS, strict=False))

        tokens, parents = grow(budget, self._context, options, depth=self._depth, least=self._least)
        if not tokens:
            return NOTHING
        q: dict[int, np.ndarray] = {}
        for parent in drawn_from.keys() & set(parents):
            ids, chances = drawn_from[parent]
            q[parent] = np.zeros(self._vocab_size)
            q[parent][ids] = chances
        return Proposal(np.asarray(tokens, np.int64), np.asarray(parents, np.int32), q)

    def observe(self, verified: Verified) -> None:
        for token in verified.emitted:
            self._learn_token(token)

    def _learn_token(self, token: int) -> None:
        if self._context:
            self._table.learn(self._context, {token: 1.0})
        self._context = (*self._context, token)[-self._longest :]

    def close(self) -> None:
        self._table.clear()


class StandDrafter(NgramDrafter):
    """Learns the target's probabilities (STAND): every row on the accepted path says what could have followed too."""

    name = "stand"

    def observe(self, verified: Verified) -> None:
        for row, token in zip((ROOT, *verified.path), verified.emitted, strict=True):
            if self._context:
                self._table.learn(self._context, self._likeliest(verified.logits[row + 1]))
            self._context = (*self._context, token)[-self._longest :]

    def _likeliest(self, logits: np.ndarray) -> Counts:
        """The target's probabilities of its `_KEPT` likeliest tokens at the request's temperature, scaled to sum 1."""
        ids = top_k(logits[: self._vocab_size], min(_KEPT, self._sampling.top_k or _KEPT))
        scaled = logits[ids].astype(np.float64) / (self._sampling.temperature or 1.0)
        weights = np.exp(scaled - scaled.max())
        weights /= weights.sum()
        return {int(token): float(weight) for token, weight in zip(ids, weights, strict=True) if weight > 1e-4}
