"""The draft model as a tree drafter: several continuations at once, for the target to choose among in one pass.

Both trees grow level by level, a level in one draft pass, so a proposal costs as many passes as the tree is deep:

- `DraftTree` chooses: the likeliest children of the likeliest nodes, and of all nodes seen the likeliest `budget`, by
  the product of the draft's probabilities (DySpec, Xiong et al. 2024, expands one node a pass; taking a level's best
  together and choosing again at the end is EAGLE-2's way, Li et al. 2024);
- `SampledTree` draws siblings without replacement (Recursive Speculative Decoding, Jeon et al. 2024, RSD-S), which the
  target accepts more often when it samples itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import numpy as np

from ..model import Model
from ..proposal import NOTHING, ROOT, Proposal, Verified
from ..topk import top_k
from .model import DraftModel


@dataclass
class _Tree:
    """Nodes in the order they came up, parents first. place: of a node that the draft has seen, its index among the
    sequence's open nodes."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=lambda: {ROOT: -1})

    def add(self, token: int, parent: int) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        return len(self.tokens) - 1

    def path(self, node: int) -> list[int]:
        """Tokens from the root down to `node`."""
        tokens: list[int] = []
        while node != ROOT:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        return tokens[::-1]


class DraftTree(DraftModel):
    """A tree of chosen tokens. See Drafter."""

    name = "tree"

    def __init__(self, model: Model, vocab_size: int, *, depth: int = 8, width: int = 4) -> None:
        """depth: draft passes a proposal at most. width: nodes of a level that are continued, and children of a node,
        at most."""
        super().__init__(model, vocab_size)
        self._depth = depth
        self._width = width
        self._tree = _Tree()

    def begin(self, prompt_ids: Sequence[int]) -> None:
        super().begin(prompt_ids)
        self._tree = _Tree()

    def propose(self, budget: int) -> Proposal:
        if budget < 1:
            return NOTHING
        tree = self._tree = _Tree()
        worths: list[float] = []
        frontier, rows = [ROOT], self._catch_up()[None]
        for level in range(min(self._depth, budget)):
            fresh: list[int] = []
            for node, row in zip(frontier, rows, strict=True):
                worth = 1.0 if node == ROOT else worths[node]
                for token, chance in self._likeliest(row, tree.path(node)):
                    fresh.append(tree.add(token, node))
                    worths.append(worth * chance)
            best = sorted(fresh, key=lambda node: -worths[node])[: self._width]
            least = sorted(worths)[-budget] if len(worths) > budget else 0.0  # below it nothing is proposed
            frontier = sorted(node for node in best if worths[node] > least)
            if level + 1 == min(self._depth, budget) or not frontier:
                break
            rows = self._extend(frontier)
        order = sorted(range(len(worths)), key=lambda node: (-worths[node], node))
        return self._proposal(sorted(order[:budget]))

    def _likeliest(self, row: np.ndarray, path: Sequence[int]) -> list[tuple[int, float]]:
        """Tokens to follow `path`, each with the draft's probability: the request's own when it samples, else that of
        temperature 1, which tells how sure the draft is."""
        processor = self._request.processor
        if processor.greedy:
            ids = top_k(row, self._width)
            peak = row[ids[0]]
            chances = np.exp(row[ids] - peak) / np.exp(row - peak).sum()
        else:
            distribution = processor.distribution(row, [*self._text, *path])
            ids = top_k(distribution, self._width)
            ids = ids[distribution[ids] > 0]
            chances = distribution[ids]
        return list(zip(ids.tolist(), chances.tolist(), strict=True))

    def _extend(self, nodes: Sequence[int]) -> np.ndarray:
        """One draft pass over `nodes`; logits f32 [nodes, vocabulary] behind them."""
        tree = self._tree
        seen = len(tree.place) - 1
        parents = [tree.place[tree.parents[node]] for node in nodes]
        rows = self._sequence.grow([tree.tokens[node] for node in nodes], parents)
        for place, node in enumerate(nodes, start=seen):
            tree.place[node] = place
        return rows[:, : self._vocab_size]

    def _proposal(self, nodes: Sequence[int], q: dict[int, np.ndarray] | None = None) -> Proposal:
        """The tree's `nodes` alone, in their order, parents first. q: by node of the tree."""
        number = {ROOT: ROOT} | {node: index for index, node in enumerate(nodes)}
        tokens = np.fromiter((self._tree.tokens[node] for node in nodes), np.int64, len(nodes))
        parents = np.fromiter((number[self._tree.parents[node]] for node in nodes), np.int32, len(nodes))
        used = {number[node]: distribution for node, distribution in (q or {}).items() if number[node] in set(parents)}
        return Proposal(tokens, parents, used)

    def observe(self, verified: Verified) -> None:
        """Keep what the draft has seen of the accepted branch, found by its tokens: another drafter may have proposed
        it."""
        tree, node, kept = self._tree, ROOT, []
        children = {(parent, token): n for n, (parent, token) in enumerate(zip(tree.parents, tree.tokens, strict=True))}
        for token in verified.emitted:
            node = children.get((node, token), ROOT)
            if node not in tree.place or node == ROOT:
                break
            kept.append(tree.place[node])
        self._sequence.keep(kept)
        self._tree = _Tree()
        self._text += verified.emitted


class SampledTree(DraftTree):
    """A tree of drawn tokens; a tree of chosen ones for a greedy request. See Drafter.

    Which nodes are taken is a race (stochastic beam search: Kool et al. 2019): a branch of probability w arrives after
    a time of rate w. The first child of a node arrives with it, and each further one after a time of rate w times the
    probability that its elder siblings left over. The earliest arrivals make a level. Whether a child is taken thus
    depends on its time and on its elder siblings, never on which token it is, so siblings stay draws from q without
    those before them, which is what acceptance relies on.
    """

    name = "tree-sampled"

    def __init__(self, model: Model, vocab_size: int, *, depth: int = 4) -> None:
        """depth: draft passes a proposal at most; the budget is spread evenly over the levels."""
        super().__init__(model, vocab_size)
        self._levels = depth

    def propose(self, budget: int) -> Proposal:
        request = self._request
        if budget < 1 or request.processor.greedy:
            return super().propose(budget)
        tree = self._tree = _Tree()
        depth = min(self._levels, budget)
        q: dict[int, np.ndarray] = {}
        worths, times = {ROOT: 1.0}, {ROOT: request.rng.exponential()}
        frontier, rows = [ROOT], self._catch_up()[None]
        for level in range(depth):
            litters = []
            for node, row in zip(frontier, rows, strict=True):
                q[node] = request.processor.distribution(row, [*self._text, *tree.path(node)])
                litters.append(_Litter(node, q[node], worths[node], times[node], request.rng))
            frontier = []
            heapify(litters)
            for _ in range(max(1, budget // depth)):
                if not litters:
                    break
                litter = heappop(litters)
                child = tree.add(litter.token, litter.parent)
                worths[child], times[child] = litter.worth * litter.chance, litter.time
                frontier.append(child)
                if litter.next():
                    heappush(litters, litter)
            if level + 1 < depth:
                rows = self._extend(frontier)
        return self._proposal(range(len(tree.tokens)), q)


class _Litter:
    """The children of one node as they arrive: `token` is the next one, of probability `chance`, at `time`."""

    def __init__(self, parent: int, q: np.ndarray, worth: float, time: float, rng: np.random.Generator) -> None:
        self.parent, self.worth, self.time = parent, worth, time
        self._rng = rng
        self._tokens = np.flatnonzero(q)
        self._chances = q[self._tokens]
        self._draw()

    def _draw(self) -> None:
        sums = np.cumsum(self._chances)
        self._at = min(int(np.searchsorted(sums, self._rng.random() * sums[-1], side="right")), len(sums) - 1)
        self.token, self.chance = int(self._tokens[self._at]), float(self._chances[self._at])

    def next(self) -> bool:
        """Draw the next child without those before it; False when there is none."""
        self._tokens = np.delete(self._tokens, self._at)
        self._chances = np.delete(self._chances, self._at)
        rate = self.worth * float(self._chances.sum())
        if not len(self._tokens) or rate <= 0:
            return False
        self.time += self._rng.exponential() / rate
        self._draw()
        return True

    def __lt__(self, other: _Litter) -> bool:
        return self.time < other.time
