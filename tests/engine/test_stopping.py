from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.engine.stopping import Ending

WORDS = ["", "a", "b", "ab", "abc", "c", " ", "\n", "ba", "cab"]


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in ids)


def run(
    tokens: Sequence[int], strings: Sequence[str], size: int = 1, stop: int | None = None
) -> tuple[list[int], bool]:
    """What is released of `tokens`, given `size` at a time."""
    ending = Ending(frozenset() if stop is None else frozenset({stop}), strings, decode)
    released: list[int] = []
    for start in range(0, len(tokens), size):
        released += ending.take(tokens[start : start + size])
        if ending.reached:
            return released, True
    return released + ending.rest(), False


def test_a_stop_token_ends_and_belongs() -> None:
    assert run([1, 2, 5, 3, 4], [], 3, stop=3) == ([1, 2, 5, 3], True)
    assert run([1, 2, 3, 4], ["zz"], 2, stop=3) == ([1, 2, 3], True)
    assert run([1, 2], [], stop=3) == ([1, 2], False)


def test_a_stop_string_and_the_tokens_that_hold_it_go() -> None:
    assert run([5, 2, 5, 1], ["bc"]) == ([5], True)
    assert run([5, 3, 5, 1], ["bc"]) == ([5], True), "ab holds the b"
    assert run([5, 2, 1], ["bc"]) == ([5, 2, 1], False)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    ending = Ending(frozenset(), ["abc"], decode)
    assert ending.take([5, 1]) == [5]
    assert ending.take([2]) == []
    assert ending.take([1]) == [1, 2], "the last a may be a beginning again"
    assert ending.rest() == [1]


@given(
    st.lists(st.integers(0, len(WORDS) - 1), max_size=20),
    st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_however_tokens_arrive_the_answer_is_the_text_before_the_first_stop(
    tokens: list[int], strings: list[str], size: int
) -> None:
    released, reached = run(tokens, strings, size)
    assert released == tokens[: len(released)]
    assert reached == any(string in decode(tokens) for string in strings)
    if not reached:
        assert released == tokens
        return
    # at the first token whose text completes a stop string, the answer is what lies whole before the earliest of them
    count = next(n for n in range(1, len(tokens) + 1) if any(string in decode(tokens[:n]) for string in strings))
    text = decode(tokens[:count])
    start = min(text.index(string) for string in strings if string in text)
    assert len(decode(released)) <= start
    assert len(released) == count or len(decode([*released, tokens[len(released)]])) > start


def test_half_a_character_is_held_back() -> None:
    def halves(ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    first, second = "é".encode()
    ending = Ending(frozenset(), ["x"], halves)
    assert ending.take([97, first]) == [97]
    assert ending.take([second]) == [first, second]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_nothing_follows_the_end(size: int) -> None:
    assert run([1, 2, 5, 6, 6, 6], ["bc"], size)[0] == [1]
