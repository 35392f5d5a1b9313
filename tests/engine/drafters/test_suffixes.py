from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgespec.engine.drafters.suffixes import SuffixIndex


def rescan(text: list[int], longest: int) -> tuple[int, int]:
    """The definition: every length, longest first; every earlier place, last first."""
    for n in range(min(longest, len(text) - 1), 0, -1):
        for end in range(len(text) - 1, n - 1, -1):
            if text[end - n : end] == text[len(text) - n :]:
                return n, end
    return 0, -1


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 6))
def test_the_index_says_what_a_rescan_says_after_every_token(text: list[int], longest: int) -> None:
    index = SuffixIndex(longest)
    for end, token in enumerate(text, start=1):
        index.append(token)
        assert index.match == rescan(text[:end], longest)


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(2, 20))
def test_a_full_index_forgets_its_older_half_and_is_right_about_the_rest(text: list[int], capacity: int) -> None:
    index = SuffixIndex(4, capacity)
    for end, token in enumerate(text, start=1):
        index.append(token)
        assert len(index) <= capacity
        assert index.text == text[index.forgotten : end]
        assert index.match == rescan(index.text, 4)


def test_memory_is_bounded_by_capacity() -> None:
    index = SuffixIndex(8, 500)
    index.extend((i * i) % 97 for i in range(20_000))
    assert index.nodes <= 500 * 8 + 1


def test_text_that_does_not_repeat_costs_little() -> None:
    index = SuffixIndex(16)
    index.extend(range(5000))
    assert index.nodes <= 2 * 5000
    assert index.match == (0, -1)
    index.clear()
    assert len(index) == 0 and index.match == (0, -1)
