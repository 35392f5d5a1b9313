from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scripted_target import decode, proposed

from edgespec.engine.drafters.recycling import RecyclingDrafter
from edgespec.engine.proposal import NOTHING, ROOT, Verified, chain


def logits_of(*rankings: list[int], vocabulary: int = 20) -> np.ndarray:
    logits = np.zeros((len(rankings), vocabulary), np.float32)
    for row, ranking in enumerate(rankings):
        for place, token in enumerate(ranking):
            logits[row, token] = 10 - place
    return logits


def test_the_targets_ranking_becomes_the_tree() -> None:
    drafter = RecyclingDrafter(20, k=2)
    drafter.begin([3])
    drafter.observe(Verified(NOTHING, (), 5, logits_of([5, 6])))
    assert drafter.propose(4) is NOTHING  # nothing is known behind 5
    drafter.observe(Verified(NOTHING, (), 3, logits_of([3, 7])))  # 5 -> 3, 7
    proposal = drafter.propose(4)
    assert proposal.tokens.tolist()[:2] == [5, 3]  # 3 -> 5 -> 3, best first
    assert set(zip(proposal.parents.tolist(), proposal.tokens.tolist(), strict=True)) >= {(ROOT, 5), (0, 3), (ROOT, 6)}
    assert proposal.q == {} and len(proposal) == 4


def test_only_rows_on_the_path_are_taken_over() -> None:
    drafter = RecyclingDrafter(20, k=2)
    drafter.begin([1])
    drafter.observe(Verified(chain([2, 9]), (0,), 4, logits_of([2, 3], [4, 5], [11, 12])))
    assert drafter._successors[1].tolist() == [2, 3] and drafter._successors[2].tolist() == [4, 5]
    assert drafter._successors[9].tolist() == [-1, -1]


def test_the_prompts_pairs_are_first_successors() -> None:
    drafter = RecyclingDrafter(20)
    drafter.begin([1, 2, 3, 1, 4, 1])
    assert drafter.propose(1).tokens.tolist() == [4]
    assert drafter.propose(3).tokens.tolist()[0] == 4


def test_a_repeated_answer_is_drafted_from_what_was_learned_and_the_matrix_outlives_it() -> None:
    drafter = RecyclingDrafter(1000)
    answer = list(range(40, 80))
    first = decode(drafter, [1, 2], answer, 6)
    second = decode(drafter, [1, 2], answer, 6)
    assert sum(len(step.path) for step in first) == 0
    assert len(second) <= len(answer) / 4


def test_a_successor_known_twice_is_proposed_once() -> None:
    drafter = RecyclingDrafter(20, k=3)
    drafter.begin([1])
    drafter.observe(Verified(NOTHING, (), 1, logits_of([2, 3, 1])))
    drafter.begin([1, 3, 1])
    below_root = [
        t for t, p in zip(*map(list, (drafter.propose(9).tokens, drafter.propose(9).parents)), strict=True) if p == ROOT
    ]
    assert len(below_root) == len(set(below_root)) and below_root[0] == 3


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 7))
def test_any_answer_is_said(answer: list[int], budget: int) -> None:
    drafter = RecyclingDrafter(7, k=3)
    again = proposed(decode(drafter, [1, 0], answer, budget, vocabulary=7))
    assert all(len(tokens) <= budget for tokens in again)
    assert drafter._successors.dtype == np.int32 and drafter._successors.shape == (7, 3)
