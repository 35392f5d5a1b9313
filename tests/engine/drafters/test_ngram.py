from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from scripted_target import decode, proposed

from edgespec.engine.drafters.ngram import NgramDrafter, NgramTable, StandDrafter
from edgespec.engine.proposal import NOTHING, ROOT, Verified
from edgespec.sampling import GREEDY, Sampling


def test_orders_are_blended_by_witten_and_bell() -> None:
    table = NgramTable(longest=2)
    table.learn((1, 2), {3: 1.0})
    table.learn((9, 2), {4: 3.0})
    # (1 2): W 1, T 1, so 1/2 speaks for 3; (2): W 4, T 2, so 4/6 of the other half, 1/4 to 3 and 3/4 to 4
    third = 0.5 + 0.5 * (4 / 6) * 0.25
    fourth = 0.5 * (4 / 6) * 0.75
    known = table.successors((1, 2))
    assert known == pytest.approx({3: third / (third + fourth), 4: fourth / (third + fourth)})
    assert list(known) == [3, 4]
    assert table.successors((5, 5)) == {}
    assert table.successors((7, 2)) == pytest.approx({4: 0.75, 3: 0.25})


def test_the_table_forgets_what_was_not_met_for_longest() -> None:
    table = NgramTable(longest=1, capacity=3)
    for context in (1, 2, 3):
        table.learn((context,), {0: 1.0})
    table.learn((1,), {5: 1.0})
    table.learn((4,), {0: 1.0})
    assert len(table) == 3 and table.successors((2,)) == {} and set(table.successors((1,))) == {0, 5}


def test_a_context_keeps_its_heaviest_successors_only() -> None:
    table = NgramTable(longest=1)
    table.learn((1,), {7: 5.0})
    for token in range(100, 400):
        table.learn((1,), {token: 1.0})
    assert len(table.successors((1,))) <= 32 and next(iter(table.successors((1,)))) == 7


def test_a_greedy_request_gets_the_likeliest_branches() -> None:
    drafter = NgramDrafter(10)
    drafter.begin([1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2])
    proposal = drafter.propose(4)
    assert proposal.q == {} and proposal.tokens[0] == 3 and proposal.parents[0] == ROOT
    assert 4 in [t for t, p in zip(proposal.tokens, proposal.parents, strict=True) if p == ROOT]
    assert drafter.propose(0) is NOTHING
    drafter.begin([])
    assert drafter.propose(4) is NOTHING


def test_drawn_proposals_hand_over_the_distribution_they_were_drawn_from() -> None:
    """Null: first tokens below the root are drawn from the q that comes with them. Error rate 1e-4."""
    drafter = NgramDrafter(6, sampling=Sampling(1.0), rng=np.random.default_rng(5))
    drafter.begin([1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2])
    counts = np.zeros(6)
    for _ in range(2000):
        proposal = drafter.propose(5)
        assert not proposal.replaced
        assert set(proposal.q) == set(proposal.parents.tolist())
        for parent, q in proposal.q.items():
            assert q.sum() == pytest.approx(1.0)
            below = proposal.tokens[proposal.parents == parent]
            assert len(set(below.tolist())) == len(below) and (q[below] > 0).all()
        counts[proposal.tokens[0]] += 1
    q = proposal.q[ROOT]
    assert counts[q == 0].sum() == 0
    assert chisquare(counts[q > 0], 2000 * q[q > 0]).pvalue > 1e-4


def test_how_many_siblings_are_drawn_does_not_depend_on_what_they_are() -> None:
    """What exact acceptance needs: in every proposal of one state the root has the same number of children."""
    drafter = NgramDrafter(9, sampling=Sampling(1.0), rng=np.random.default_rng(5))
    drafter.begin([1, 2, 1, 3, 1, 4, 1, 2, 1, 2, 1, 5, 1])
    assert len({int((drafter.propose(6).parents == ROOT).sum()) for _ in range(200)}) == 1


def test_stand_learns_what_the_target_could_have_said() -> None:
    drafter = StandDrafter(8, sampling=Sampling(0.5))
    drafter.begin([1])
    logits = np.full((1, 8), -20.0, np.float32)
    logits[0, [3, 4]] = [1.0, 0.5]
    drafter.observe(Verified(NOTHING, (), 4, logits))
    drafter.observe(Verified(NOTHING, (), 1, logits))
    share = 1 / (1 + math.exp(-0.5 / 0.5))
    assert drafter._table.successors((1,)) == pytest.approx({3: share, 4: 1 - share}, abs=1e-3)
    greedy = StandDrafter(8)
    greedy.begin([1])
    greedy.observe(Verified(NOTHING, (), 4, logits))
    greedy.observe(Verified(NOTHING, (), 1, logits))
    assert greedy.propose(1).tokens.tolist() == [3]  # though 4 is what followed


@pytest.mark.parametrize("make", [NgramDrafter, StandDrafter])
def test_a_repeated_passage_is_drafted(make: type[NgramDrafter]) -> None:
    passage = list(range(20, 50))
    steps = decode(make(1000), [1, 2], passage * 3, 5)
    assert len(steps) < 60
    assert sum(len(step.path) for step in steps[-8:]) >= 30


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.integers(1, 6),
    st.sampled_from([NgramDrafter, StandDrafter]),
    st.sampled_from([GREEDY, Sampling(1.0, seed=1)]),
)
def test_any_answer_is_said(answer: list[int], budget: int, make: type[NgramDrafter], how: Sampling) -> None:
    drafter = make(6, sampling=how)
    assert all(len(tokens) <= budget for tokens in proposed(decode(drafter, [1, 0], answer, budget, vocabulary=6)))
