from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from edgespec.engine.drafters.making import Request
from edgespec.engine.drafters.model import DraftModel
from edgespec.engine.drafters.tree import DraftTree, SampledTree, _Litter
from edgespec.engine.model import ModelSequence
from edgespec.engine.processors import Processor
from edgespec.engine.proposal import NOTHING, ROOT, Verified, chain
from edgespec.sampling import GREEDY, Sampling

VOCAB = 6
TABLE = np.log(np.random.default_rng(3).dirichlet(np.full(VOCAB, 0.7), VOCAB)).astype(np.float32)


class ScriptedSequence(ModelSequence):
    """A model whose next token depends on the last one alone, by TABLE. Counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[int] = []
        self.passes: list[int] = []

    @property
    def slots(self) -> int:
        return len(self._tokens) + len(self.open)

    def chunk(self) -> int:
        return 1000

    def grow(self, ids: Any, parents: Any = None, rows: int | None = None) -> np.ndarray:
        assert len(ids) > 0
        assert parents is None or all(parent < len(self.open) + i for i, parent in enumerate(parents))
        self.open += list(ids)
        self.passes.append(len(ids))
        return TABLE[list(ids)][-(rows or len(ids)) :]

    def keep(self, path: Sequence[int]) -> None:
        self._tokens += [self.open[node] for node in path]
        self.open = []

    def rollback(self, length: int) -> None:
        self.open = []
        del self._tokens[length:]

    def reset(self) -> None:
        self.rollback(0)


class ScriptedModel:
    way = "scripted"
    vocab_size = VOCAB

    def __init__(self) -> None:
        self.last = ScriptedSequence()

    def sequence(self) -> ModelSequence:
        self.last = ScriptedSequence()
        return self.last


def opened(drafter: type[DraftModel], sampling: Sampling = GREEDY, seed: int = 0, **options: int) -> Any:
    model = ScriptedModel()
    made = drafter(model, VOCAB, **options)
    made.serve(Request(Processor(sampling, VOCAB), np.random.default_rng(seed)))
    made.begin([1, 2, 3])
    return made, model.last


def probability(proposal: Any, node: int, last: int) -> float:
    """Of the branch down to `node`, by TABLE."""
    if node == ROOT:
        return 1.0
    parent = int(proposal.parents[node])
    before = last if parent == ROOT else int(proposal.tokens[parent])
    return probability(proposal, parent, last) * float(np.exp(TABLE[before, proposal.tokens[node]]))


def all_branches(last: int, depth: int) -> Iterator[float]:
    for token in range(VOCAB):
        chance = float(np.exp(TABLE[last, token]))
        yield chance
        if depth > 1:
            yield from (chance * below for below in all_branches(token, depth - 1))


@pytest.mark.parametrize("budget", [1, 2, 5, 12])
def test_a_chosen_tree_has_the_likeliest_nodes(budget: int) -> None:
    drafter, sequence = opened(DraftTree, depth=3, width=VOCAB * VOCAB)
    proposal = drafter.propose(budget)
    found = sorted((probability(proposal, node, 3) for node in range(len(proposal))), reverse=True)
    best = sorted(all_branches(3, min(3, budget)), reverse=True)[:budget]
    assert found == pytest.approx(best, rel=1e-5)
    assert not proposal.q
    assert len(sequence.passes) <= 3, "one pass a level"


def test_no_pass_is_made_that_cannot_change_the_proposal() -> None:
    drafter, sequence = opened(DraftTree)
    proposal = drafter.propose(1)
    assert len(sequence.passes) == 1 and len(proposal) == 1


def test_siblings_and_parents_stand_in_order() -> None:
    for drafter, sampling in ((DraftTree, GREEDY), (SampledTree, Sampling(1.0))):
        made, _ = opened(drafter, sampling)
        proposal = made.propose(8)
        assert all(parent < node for node, parent in enumerate(proposal.parents.tolist()))
        places = list(zip(proposal.parents.tolist(), proposal.tokens.tolist(), strict=True))
        assert len(set(places)) == len(places), "siblings differ"


def test_what_the_target_kept_stays_in_the_cache() -> None:
    for drafter, sampling in ((DraftTree, GREEDY), (SampledTree, Sampling(1.0))):
        made, sequence = opened(drafter, sampling)
        made.observe(Verified(NOTHING, (), 4, TABLE[:1]))
        text = [1, 2, 3, 4]
        for step in range(12):
            proposal = made.propose(6)
            path, node = [], ROOT
            while True:  # the branch down the last children, cut at a changing depth
                below = [i for i, parent in enumerate(proposal.parents.tolist()) if parent == node]
                if not below or len(path) == step % 4:
                    break
                node = below[-1]
                path.append(node)
            verified = Verified(proposal, tuple(path), step % VOCAB, TABLE)
            before = len(sequence.tokens)
            made.observe(verified)
            text += verified.emitted
            assert list(sequence.tokens) == text[: len(sequence.tokens)]
            assert before + max(0, len(path) - 1) <= len(sequence.tokens) <= len(text)


def test_another_drafters_proposal_is_followed() -> None:
    for drafter in (DraftModel, DraftTree):
        made, sequence = opened(drafter)
        made.observe(Verified(NOTHING, (), 4, TABLE[:1]))
        own = made.propose(3)
        first = int(own.tokens[0])
        made.observe(Verified(chain([first, 5, 5]), (0,), (int(own.tokens[1]) + 1) % VOCAB, TABLE))
        assert list(sequence.tokens) == [1, 2, 3, 4, first]
        made.observe(Verified(NOTHING, (), 2, TABLE[:1]))
        assert made.propose(2).tokens.tolist(), "steps it was not asked in are caught up with"
        assert made.propose(2).tokens.tolist(), "and a proposal that was never answered is forgotten"


def test_a_chain_takes_one_pass_a_token() -> None:
    made, sequence = opened(DraftModel)
    made.observe(Verified(NOTHING, (), 4, TABLE[:1]))
    proposal = made.propose(3)
    assert sequence.passes == [4, 1, 1]
    made.observe(Verified(proposal, (0, 1, 2), 0, TABLE))
    made.propose(3)
    assert sequence.passes[3:] == [2, 1, 1], "the last proposal and the target's token go through together"


def test_draws_hand_over_their_distributions() -> None:
    for drafter in (DraftModel, SampledTree):
        made, _ = opened(drafter, Sampling(0.8, top_k=4))
        proposal = made.propose(6)
        parents = set(proposal.parents.tolist())
        assert set(proposal.q) == parents
        processor = Processor(Sampling(0.8, top_k=4), VOCAB)
        for parent, q in proposal.q.items():
            before = 3 if parent == ROOT else int(proposal.tokens[parent])
            assert q == pytest.approx(processor.distribution(TABLE[before], []))


def test_siblings_are_drawn_without_replacement() -> None:
    """Null: the root's first two children are draws from q, the second without the first, in this order, whenever there
    are two. 2,000 seeded draws, Pearson's chi-square; a right drafter fails at a seed with probability 1e-4."""
    q = np.exp(TABLE[3].astype(np.float64))
    q /= q.sum()
    first: Counter[int] = Counter()
    second: Counter[tuple[int, int]] = Counter()
    for seed in range(2000):
        made, _ = opened(SampledTree, Sampling(1.0), seed=seed, depth=2)
        proposal = made.propose(4)
        children = [int(t) for t, p in zip(proposal.tokens, proposal.parents, strict=True) if p == ROOT]
        first[children[0]] += 1
        second[children[0], children[1]] += 1

    def fits(counts: Counter[Any], expected: dict[Any, float]) -> bool:
        total = sum(counts.values())
        large = {cell: p for cell, p in expected.items() if total * p >= 5}
        rest = 1 - sum(large.values())
        left = total - sum(counts[cell] for cell in large)
        statistic = sum((counts[cell] - total * p) ** 2 / (total * p) for cell, p in large.items())
        statistic += (left - total * rest) ** 2 / (total * rest) if total * rest > 1 else 0.0
        return statistic < float(chi2.ppf(1 - 1e-4, len(large)))

    assert fits(first, dict(enumerate(q)))
    pairs = {(a, b): q[a] * q[b] / (1 - q[a]) for a in range(VOCAB) for b in range(VOCAB) if a != b}
    assert fits(second, pairs)


def test_a_second_child_is_no_matter_of_its_own_value() -> None:
    """Null: given the first child, whether a second one arrives in time says nothing of which it is. 6,000 seeded
    races; a right drafter fails at a seed with probability 1e-4."""
    q = np.array([0.5, 0.3, 0.15, 0.05])
    counts: Counter[tuple[bool, int]] = Counter()
    for seed in range(6000):
        litter = _Litter(ROOT, q, 1.0, 0.0, np.random.default_rng(seed))
        if litter.token != 0:
            continue
        litter.next()
        counts[litter.time < 1.0, litter.token] += 1
    table = np.array([[counts[early, token] for token in (1, 2, 3)] for early in (True, False)], float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert float(((table - expected) ** 2 / expected).sum()) < float(chi2.ppf(1 - 1e-4, 2))
