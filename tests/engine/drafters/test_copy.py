"""Scripted texts whose proposals are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_target import decode, proposed

from edgespec.engine.drafters.copy import CopyDrafter, GuidedDrafter, lookup_drafter
from edgespec.engine.proposal import NOTHING, Drafter


def test_lookup_takes_the_longest_match_at_its_last_place() -> None:
    drafter = lookup_drafter()
    drafter.begin([1, 2, 3, 50, 7, 3, 60, 2, 3, 70, 9, 3])
    assert drafter.propose(2).tokens.tolist() == [70, 9]  # behind the last 3 alone, as 9 3 is new
    drafter.begin([1, 2, 3, 50, 7, 2, 3, 60, 9, 2, 3])
    assert drafter.propose(3).tokens.tolist() == [60, 9, 2]  # behind 2 3, the last of the two
    drafter.begin([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3])
    assert drafter.propose(2).tokens.tolist() == [50, 9]  # behind 1 2 3, which is longer


def test_a_repeating_end_is_continued_periodically() -> None:
    drafter = lookup_drafter()
    drafter.begin([5, 1, 2, 1, 2])
    assert drafter.propose(5).tokens.tolist() == [1, 2, 1, 2, 1]


def test_nothing_is_proposed_without_a_match_or_a_budget() -> None:
    drafter = CopyDrafter(shortest=2)
    for prompt in ([], [1], [1, 2, 3, 1]):
        drafter.begin(prompt)
        assert drafter.propose(4) is NOTHING
    drafter.begin([1, 2, 3, 1, 2])
    assert drafter.propose(0) is NOTHING
    assert drafter.propose(1).tokens.tolist() == [3]


def test_a_copy_goes_on_from_its_place_and_falls_in_step_behind_a_changed_token() -> None:
    source = list(range(100, 130))
    answer = [*source[:10], 999, *source[11:], 7]
    prompt = [*source, 1, *source[:4]]
    steps = decode(CopyDrafter(shortest=4), prompt, answer[4:], 8)
    # 104 came with the prompt's pass; 105..112 are proposed, 999 replaces 110; the next token is the target's alone,
    # since 999 is new; 111 is known again at once, and copying goes on behind it
    assert proposed(steps)[:3] == [source[5:13], [], source[12:20]]
    assert steps[0].emitted[-1] == 999 and steps[1].emitted == (111,)
    assert [len(step.path) for step in steps[2:4]] == [8, 8]


def test_without_a_window_a_refused_copy_waits_for_a_whole_match() -> None:
    source = list(range(100, 130))
    answer = [*source[4:10], 999, *source[11:], 7]
    steps = decode(CopyDrafter(shortest=4, window=0), [*source, 1, *source[:4]], answer, 8)
    assert [bool(tokens) for tokens in proposed(steps)[:6]] == [True, False, False, False, False, True]


def test_guided_starts_at_the_guides_first_token_and_realigns_after_edits() -> None:
    guide = list(range(200, 240))
    replaced = [*guide[:5], 1, *guide[6:15]]
    dropped = [*replaced, *guide[18:24]]  # 215, 216, 217 are left out
    answer = [*dropped, 2, 3, *guide[24:], 9]  # 2 3 are put in
    steps = decode(GuidedDrafter(guide), [7, 8], answer, 6)
    assert sum(len(step.path) for step in steps) >= 25
    assert proposed(steps)[0] == guide[1:7]
    assert steps[-1].emitted[-1] == 9


def test_guided_walks_along_the_prompt_when_no_guide_is_given() -> None:
    prompt = [9, 8, *range(300, 320)]
    steps = decode(GuidedDrafter(), prompt, [300, 301, 302, 303, 304, 305, 306], 4)
    assert proposed(steps) == [[301, 302, 303, 304], [306, 307, 308, 309]]


def test_guided_beyond_the_guides_end_proposes_nothing() -> None:
    drafter = GuidedDrafter([4, 5])
    steps = decode(drafter, [1], [4, 5, 6, 7, 8], 3)
    assert proposed(steps) == [[5], [], []]


@pytest.mark.parametrize("make", [CopyDrafter, lookup_drafter, GuidedDrafter])
@given(
    prompt=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    answer=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    budget=st.integers(1, 5),
)
def test_any_answer_is_said_whatever_is_copied(
    make: type[Drafter], prompt: list[int], answer: list[int], budget: int
) -> None:
    drafter = make()
    decode(drafter, prompt, answer, budget, vocabulary=5)
    first = proposed(decode(drafter, prompt, answer, budget, vocabulary=5))
    assert first == proposed(decode(make(), prompt, answer, budget, vocabulary=5))  # begin forgets the last text
    drafter.close()


def test_a_small_index_copies_on_while_it_forgets() -> None:
    drafter = CopyDrafter(shortest=2, longest=4)
    drafter._index._capacity = 12  # far below the text's length
    text = [1, 2, 3, 4, 5] * 20
    steps = decode(drafter, text[:7], text[7:], 3)
    assert sum(len(step.path) for step in steps) > 50
